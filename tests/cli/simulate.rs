//! Plans tried out in one process.

use std::path::Path;

use crate::{
    federation::write_images,
    program::{fail, succeed, text},
};

/// Two hospitals tell dark squares from light ones.
fn plan(name: &str, privacy: &str) -> String {
    format!(
        "name = \"{name}\"\ntask = \"image-classification\"\ndata_set = \"squares\"\n\
         classes = [\"dark\", \"light\"]\nrounds = 3\nsecure_aggregation = false\n\
         cohort = {{ size = 2 }}\nimage = {{ width = 28, height = 28 }}\nnetwork = {{ name = \"cnn-small\" }}\n\
         training = {{ steps = 4, batch_size = 10, learning_rate = 0.1 }}\n[privacy]\n{privacy}\n"
    )
}

const PRIVATE: &str = "clipping_norm = 1.0\nepsilon = 8.0\ndelta = 1e-3";

fn write_plan(folder: &Path, name: &str, privacy: &str) -> String {
    let path = folder.join(format!("{name}.toml"));
    std::fs::write(&path, plan(name, privacy)).expect("a file");
    text(&path).to_owned()
}

#[test]
fn plans_are_simulated_scored_and_drawn() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("squares");
    for part in ["train", "val", "test"] {
        write_images(&data.join(part));
    }
    let plain = write_plan(folder.path(), "plain", "mode = \"none\"");
    let private = write_plan(folder.path(), "private", PRIVATE);
    let picture = folder.path().join("curves.svg");
    let printed = succeed(&[
        "study",
        "simulate",
        &plain,
        &private,
        "--data",
        text(&data),
        "--json",
        "--picture",
        text(&picture),
    ]);
    let runs: Vec<serde_json::Value> = printed
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    assert_eq!(runs.len(), 2);
    let [plain, private] = [&runs[0], &runs[1]];
    assert!(plain["epsilon"].is_null(), "{plain}");
    assert_eq!(plain["scores"]["auc"], 1.0, "{plain}");
    assert_eq!(
        (&plain["part"], &plain["rounds"]),
        (&"val".into(), &3.into())
    );
    // What three rounds of charges come to, by the ledger.
    let epsilon = private["epsilon"].as_f64().expect("charged");
    assert!(epsilon > 7.0 && epsilon <= 8.0, "{private}");
    let drawn = std::fs::read_to_string(&picture).expect("a picture");
    assert!(
        drawn.contains("plain") && drawn.contains("private") && drawn.contains("AUC"),
        "{drawn}"
    );
}

#[test]
fn what_cannot_be_simulated_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("squares");
    write_images(&data.join("train"));
    let plan = write_plan(folder.path(), "plain", "mode = \"none\"");
    let simulate = |more: &[&str], code| fail(&[&["study", "simulate"], more].concat(), code);
    let message = simulate(&[&plan, "--data", text(&data)], 5);
    assert!(message.contains("val"), "{message}");
    let message = simulate(&[&plan, "--data", text(&data), "--picture", "x.gif"], 2);
    assert!(message.contains(".svg or .png"), "{message}");
    let table = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/heart-disease.toml");
    let message = simulate(&[table, "--data", text(&data)], 6);
    assert!(message.contains("--site"), "{message}");
}
