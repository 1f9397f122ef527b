//! A public encoder that three hospitals train on from its weights, and what its model says of a note.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use consilium_models::{network::Network, start::start};
use consilium_proto::{ParameterVector, Plan};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    harness::{Federation, Place, SiteRecords},
    notes::{note_source, notes},
};

const PIECES: &str =
    "[PAD] [UNK] [CLS] [SEP] [MASK] palpitations murmur wheezing cough and a had the";
const CONFIG: &str = r#"{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "max_position_embeddings": 64, "type_vocab_size": 2, "vocab_size": 13,
    "layer_norm_eps": 1e-12, "hidden_act": "gelu"}"#;

/// A folder as public encoders come in, and the digest of its weights.
fn encoder(root: &Path) -> (PathBuf, String) {
    let folder = root.join("encoder");
    fs::create_dir(&folder).expect("a folder");
    let shapes = [
        ("embeddings.word_embeddings.weight", vec![13, 8]),
        ("embeddings.position_embeddings.weight", vec![64, 8]),
        ("embeddings.token_type_embeddings.weight", vec![2, 8]),
        ("encoder.layer.0.intermediate.dense.weight", vec![16, 8]),
        ("encoder.layer.0.intermediate.dense.bias", vec![16]),
        ("encoder.layer.0.output.dense.weight", vec![8, 16]),
        ("encoder.layer.0.output.dense.bias", vec![8]),
    ];
    let mut shapes: Vec<(String, Vec<usize>)> =
        shapes.map(|(name, shape)| (name.to_owned(), shape)).into();
    for part in ["self.query", "self.key", "self.value", "output.dense"] {
        let name = format!("encoder.layer.0.attention.{part}");
        shapes.push((format!("{name}.weight"), vec![8, 8]));
        shapes.push((format!("{name}.bias"), vec![8]));
    }
    for norm in [
        "embeddings.LayerNorm",
        "encoder.layer.0.attention.output.LayerNorm",
        "encoder.layer.0.output.LayerNorm",
    ] {
        shapes.push((format!("{norm}.weight"), vec![8]));
        shapes.push((format!("{norm}.bias"), vec![8]));
    }
    let tensors = shapes
        .into_iter()
        .enumerate()
        .map(|(number, (name, shape))| {
            let value = |at: usize| {
                let sine = (1.7 * (at * at) as f32 + number as f32).sin();
                let value = match name.ends_with("LayerNorm.weight") {
                    true => 1.0 + 0.1 * sine,
                    false => 0.5 * sine,
                };
                value.to_le_bytes()
            };
            let bytes: Vec<u8> = (0..shape.iter().product()).flat_map(value).collect();
            (name, (shape, bytes))
        });
    let tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = tensors.collect();
    let views = tensors.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a tensor");
        (name, view)
    });
    let file = safetensors::serialize(views, None).expect("a file");
    fs::write(folder.join("model.safetensors"), &file).expect("a written file");
    fs::write(folder.join("config.json"), CONFIG).expect("a written file");
    fs::write(folder.join("vocab.txt"), PIECES.replace(' ', "\n")).expect("a written file");
    let digest = Sha256::digest(&file);
    (
        folder,
        digest.iter().map(|byte| format!("{byte:02x}")).collect(),
    )
}

/// `cohort` is what its table says besides its size.
fn plan(sha256: &str, cohort: &str) -> String {
    format!(
        r#"
        name = "heart or lung, from a public encoder"
        task = "note-classification"
        data_set = "notes"
        classes = ["heart", "lung"]
        rounds = 3
        cohort = {{ size = 3{cohort} }}
        text = {{ form = "encoder", sha256 = "{sha256}", width = 8, window = 64 }}
        network = {{ name = "bert", layers = 1, heads = 2, hidden = 16, vocabulary = 13 }}
        training = {{ steps = 40, batch_size = 24, learning_rate = 0.02, optimizer = {{ name = "adam" }} }}
        privacy = {{ mode = "none" }}
        "#
    )
}

/// Names an encoder in a site's settings, or none, and starts its agent again.
fn give(federation: &mut Federation, site: usize, encoder: Option<&Path>) {
    let file = federation.sites[site].folder.join("agent.toml");
    let settings = fs::read_to_string(&file).expect("its settings");
    let others = settings
        .lines()
        .filter(|line| !line.starts_with("text_encoder"));
    let named = encoder.map(|folder| format!("text_encoder = {:?}", folder.display().to_string()));
    let lines: Vec<String> = named.into_iter().chain(others.map(str::to_owned)).collect();
    fs::write(&file, lines.join("\n")).expect("written settings");
    federation.crash_agent(site);
}

/// Runs the program as a member would and gives what it prints.
fn run(place: &Place, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_consilium"))
        .args(arguments)
        .arg("--key-file")
        .arg(&place.key_file)
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hospitals_train_a_public_encoder_on_and_its_model_reads_notes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    let (encoder, sha256) = encoder(root);
    let (plan_file, label_map) = (root.join("plan.toml"), root.join("labels.csv"));
    fs::write(&plan_file, plan(&sha256, "")).expect("a written file");
    fs::write(&label_map, "local,class\nI,heart\nJ,lung\n").expect("a written file");
    let [plan, short] = ["", ", deadline = \"3s\", max_attempts = 1"]
        .map(|cohort| Plan::from_toml(&plan(&sha256, cohort)).expect("a sound plan"));
    let records = [0, 1, 2].map(|site| {
        vec![SiteRecords {
            name: "notes".into(),
            source: note_source(notes(root, site)),
            public_size: 24,
            label_map: Some(label_map.clone()),
        }]
    });
    let mut federation = Federation::found(records.into()).await;
    for site in 0..3 {
        give(&mut federation, site, Some(&encoder));
    }
    let id = federation.submit_from(&plan, Some(&encoder)).await;
    let study = federation.finish(id).await;

    // Training moved the encoder itself, from where it was.
    let network = Network::from_plan(&plan).expect("a network");
    let first = start(&plan, &network, Some(&encoder)).expect("a start");
    let mut researcher = federation.researcher().await;
    let (_, digest) = study.version(Some(0)).expect("version 0");
    assert_eq!(digest, first.digest(network.layout()));
    let (_, digest) = study.version(None).expect("the last version");
    let last = researcher
        .download(&study, digest)
        .await
        .expect("its weights");
    let table = 0..13 * 8;
    let moved = |weights: &ParameterVector| weights.as_slice()[table.clone()].to_vec();
    assert_ne!(moved(&first), moved(&last));

    // What the study released, as files, reads a note.
    let out = root.join("out");
    let member = federation.researcher_place();
    let (study, home) = (id.to_string(), text(&member.folder));
    run(
        member,
        &["study", "fetch", &study, "--dir", home, "--out", text(&out)],
    );
    let (weights, note) = (out.join("model.safetensors"), root.join("note.txt"));
    for (sentence, class) in [
        ("The patient had palpitations and a murmur.", "heart"),
        ("The patient had wheezing and a cough.", "lung"),
    ] {
        fs::write(&note, sentence).expect("a written file");
        let arguments = [
            "note",
            "analyse",
            text(&note),
            "--json",
            "--text-encoder",
            text(&encoder),
        ];
        let model = ["--model", text(&plan_file), text(&weights)];
        let output = Command::new(env!("CARGO_BIN_EXE_consilium"))
            .args(arguments)
            .args(model)
            .output()
            .expect("the program starts");
        let analysis: Value = serde_json::from_slice(&output.stdout).expect("one object");
        let classes = analysis["classes"].as_array().expect("what models say");
        let chance = |said: &&Value| said["probability"].as_f64().map(f64::to_bits);
        let said = classes.iter().max_by_key(chance).expect("a class");
        assert_eq!(said["class"], class, "{said}");
        assert_eq!(said["model"]["name"], plan.name.as_str());
    }

    // A start that is not the encoder's, and a site that has none: no version comes of either.
    let other = network.initial(plan.seed);
    let lie = federation
        .submit_with(&short, network.layout(), &other)
        .await;
    federation.fails(lie).await;
    give(&mut federation, 2, None);
    let lacking = federation.submit_from(&short, Some(&encoder)).await;
    federation.fails(lacking).await;
    let log = fs::read_to_string(federation.log(2)).expect("its log");
    assert!(log.contains("text_encoder"), "{log}");
}

/// The stand-ins of a site are those of its key: the same for it in every run, others elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_note_is_freed_of_its_patient_with_the_key_of_a_site() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let records = [0, 1].map(|site| {
        vec![SiteRecords {
            name: "notes".into(),
            source: note_source(notes(folder.path(), site)),
            public_size: 24,
            label_map: None,
        }]
    });
    let federation = Federation::found(records.into()).await;
    let note = folder.path().join("note.txt");
    let written =
        "Mr. Zebulon Quartermain (MRN: 8842-ZQ0), seen on March 3, 2021. Mr. Quartermain coughs.";
    fs::write(&note, written).expect("a written file");
    let freed = |site: usize, patient: &str| {
        let place = &federation.sites[site];
        let agent = ["--agent", text(&place.folder), "--patient", patient];
        run(
            place,
            &[&["note", "deidentify", text(&note)][..], &agent].concat(),
        )
    };
    let first = freed(0, "8842-ZQ0");
    for name in ["Zebulon", "Quartermain", "8842", "March 3"] {
        assert!(!first.contains(name), "{first}");
    }
    assert!(first.contains("coughs"));
    assert_eq!(freed(0, "8842-ZQ0"), first);
    assert_ne!(freed(1, "8842-ZQ0"), first);
    assert_ne!(
        freed(0, "8842-ZQ1"),
        first,
        "dates of another patient move otherwise"
    );
}
