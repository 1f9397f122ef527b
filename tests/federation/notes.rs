//! Clinical notes and counts: three hospitals learn from notes that name people, and no name leaves the notes;
//! a tree grown over the federation is the tree of all rows together.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use consilium::scoring::Scorer;
use consilium_agent::data::{Fields, LabelMap, Source, read};
use consilium_models::network::Network;
use consilium_proto::Plan;

use crate::harness::{Federation, SiteRecords};

const NOTES: &str = r#"
    name = "heart or lung"
    task = "note-classification"
    data_set = "notes"
    classes = ["heart", "lung"]
    rounds = 3
    cohort = { size = 3 }
    text = { form = "bag", buckets = 64 }
    network = { name = "dense", hidden = [] }
    training = { steps = 6, batch_size = 16, learning_rate = 1.0 }
    privacy = { clipping_norm = 1.0, epsilon = 30.0, delta = 1e-3 }
"#;

/// Who the notes are about, in small letters; the last ones are identifiers and rare words of theirs.
const CANARIES: [&str; 8] = [
    "quartermain",
    "zebulon",
    "xanthippe",
    "vogelsang",
    "8842-zq",
    "555-0188",
    "note-by-",
    "hammered dulcimer",
];

/// JSON lines of 24 notes, of two kinds that words tell apart.
pub(crate) fn notes(folder: &Path, site: usize) -> PathBuf {
    let mut lines = String::new();
    for at in 0..24 {
        let (code, finding) = match at % 2 {
            0 => ("I", "palpitations and a murmur"),
            _ => ("J", "wheezing and a cough"),
        };
        let number = 24 * site + at;
        writeln!(
            lines,
            "{{\"id\": \"note-by-Vogelsang-{number}\", \"patient\": \"8842-ZQ{number}\", \
             \"label\": \"{code}\", \"text\": \"Mr. Zebulon Quartermain (MRN: 8842-ZQ{number}, phone \
             312-555-0188), who plays the hammered dulcimer, had {finding}. Seen by Dr. Xanthippe \
             Vogelsang on March {}, 2021.\"}}",
            at + 1
        )
        .expect("a string takes a line");
    }
    let file = folder.join(format!("notes-{site}.jsonl"));
    fs::write(&file, lines).expect("a written file");
    file
}

pub(crate) fn note_source(path: PathBuf) -> Source {
    Source::Notes {
        path,
        annotations: None,
        fields: Fields::default(),
        is_deidentified: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hospitals_learn_from_notes_and_no_name_leaves_them() {
    let plan = Plan::from_toml(NOTES).expect("a sound plan");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let label_map = folder.path().join("labels.csv");
    fs::write(&label_map, "local,class\nI,heart\nJ,lung\n").expect("a written file");
    let records = [0, 1, 2].map(|site| {
        vec![SiteRecords {
            name: "notes".into(),
            source: note_source(notes(folder.path(), site)),
            public_size: 24,
            label_map: Some(label_map.clone()),
        }]
    });
    let mut federation = Federation::found(records.into()).await;
    let study = federation.run(&plan).await;
    let (_, digest) = study.version(None).expect("a version");
    let mut researcher = federation.researcher().await;
    let weights = researcher.download(&study, digest).await;
    let weights = weights.expect("its weights");

    let map = LabelMap::read(&label_map).expect("a sound map");
    let source = note_source(folder.path().join("notes-0.jsonl"));
    let set = read(&source, &plan.classes, Some(&map)).expect("notes");
    let scorer = Scorer::new(&plan, &set, None).expect("prepared notes");
    let accuracy = scorer.score(&weights).expect("scores").accuracy;
    assert!(accuracy.is_some_and(|accuracy| accuracy > 0.8));

    // Every byte that any node wrote: databases, spools, logs, what went to the coordinator.
    let files = files(federation.root());
    let holds = |text: &str| files.iter().any(|(_, content)| content.contains(text));
    assert!(holds("heart or lung"), "the search finds what is there");
    for canary in CANARIES {
        for (file, content) in &files {
            let file = file.display();
            assert!(!content.contains(canary), "{file} holds {canary:?}");
        }
    }
}

/// All files below a folder, in small letters.
fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if let Ok(mut bytes) = fs::read(&path) {
            // Nodes are running: a file may go at any time.
            bytes.make_ascii_lowercase();
            files.push((path, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    files
}

const TREE: &str = r#"
    name = "tree"
    task = "tabular-classification"
    data_set = "rows"
    classes = ["healthy", "ill"]
    rounds = 2
    cohort = { size = 3 }
    network = { name = "tree", depth = 2 }
    strategy = { name = "sum" }
    training = { steps = 1, batch_size = 500, learning_rate = 1.0 }
    privacy = { mode = "none" }

    [[table.columns]]
    name = "age"
    mean = 50.0
    deviation = 10.0
    edges = [40.0, 60.0]

    [[table.columns]]
    name = "pressure"
    mean = 130.0
    deviation = 20.0
    edges = [120.0, 140.0, 160.0]
"#;

/// Hospitals of which one would weigh seven times as much as another in a mean.
const SIZES: [u64; 3] = [20, 60, 420];

fn rows(folder: &Path, site: usize) -> Source {
    let mut rows = String::from("age,pressure,state\n");
    for at in 0..SIZES[site] {
        let (age, pressure) = (30 + at * 7 % 45, 110 + at * 11 % 60);
        let is_ill = age > 55 || (site == 2 && pressure > 150);
        let state = if is_ill { "ill" } else { "healthy" };
        writeln!(rows, "{age},{pressure},{state}").expect("a string takes a line");
    }
    let file = folder.join(format!("rows-{site}.csv"));
    fs::write(&file, rows).expect("a written file");
    Source::Table {
        file,
        target: "state".into(),
        patient: None,
    }
}

/// The weights that counting all rows in one place gives.
fn pooled(plan: &Plan, sources: &[Source]) -> Vec<f32> {
    let network = Network::from_plan(plan).expect("a network");
    let mut batch = network.batch();
    for source in sources {
        let set = read(source, &plan.classes, None).expect("rows");
        for examples in set.examples(plan, None).expect("a table") {
            for example in examples.expect("a row") {
                batch.push(&example.input, example.target).expect("its own");
            }
        }
    }
    let mut weights = network.initial(plan.seed).into_vec();
    for _ in 0..plan.rounds {
        let mut gradient = vec![0.0; weights.len()];
        let ready = network.weights(&weights).expect("its own");
        let added = network.add_gradient(&ready, &batch, &mut gradient);
        added.expect("counts");
        for (weight, gradient) in weights.iter_mut().zip(gradient) {
            *weight -= gradient / plan.training.batch_size as f32;
        }
    }
    weights
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_summed_counts_is_the_tree_of_all_rows_together() {
    let secure = Plan::from_toml(TREE).expect("a sound plan");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sources = [0, 1, 2].map(|site| rows(folder.path(), site));
    let expected = pooled(&secure, &sources);
    let per_level = |range: std::ops::Range<usize>| expected[range].iter().sum::<f32>() * 500.0;
    // Each row stands in a bin of each of two columns; a level has 2 columns of 4 bins of 2 classes a node.
    assert!((per_level(0..16) - 1000.0).abs() < 0.1);
    assert!((per_level(16..48) - 1000.0).abs() < 0.1);

    let records = [0, 1, 2].map(|site| {
        vec![SiteRecords {
            name: "rows".into(),
            source: sources[site].clone(),
            public_size: SIZES[site],
            label_map: None,
        }]
    });
    let mut federation = Federation::found(records.into()).await;
    let open = Plan {
        secure_aggregation: false,
        ..secure.clone()
    };
    for plan in [secure, open] {
        let study = federation.run(&plan).await;
        let (_, digest) = study.version(None).expect("a version");
        let mut researcher = federation.researcher().await;
        let weights = researcher.download(&study, digest).await;
        let weights = weights.expect("its weights");
        for (found, expected) in weights.as_slice().iter().zip(&expected) {
            let (found, expected) = (found * 500.0, expected * 500.0);
            assert!((found - expected).abs() < 0.01, "{found} {expected}");
        }
    }
}
