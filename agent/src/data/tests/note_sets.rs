//! Registered notes as training sees them: in every form, without names, each patient once.

use std::{
    fs,
    path::{Path, PathBuf},
};

use consilium_models::{
    network::Target,
    text::{Example, Note, Reading},
};
use consilium_privacy::deidentify::{Deidentifier, Dictionaries};

use super::*;

fn note_plan(task: &str, classes: &str, rest: &str) -> Plan {
    let text = format!(
        "name = \"notes\"\ntask = \"{task}\"\ndata_set = \"notes\"\nclasses = {classes}\nrounds = 1\n\
         cohort = {{ size = 3 }}\ntraining = {{ steps = 1, batch_size = 4, learning_rate = 0.1 }}\n\
         privacy = {{ clipping_norm = 1.0, epsilon = 2.0, delta = 1e-5 }}\n{rest}"
    );
    Plan::from_toml(&text).expect("a sound plan")
}

const WINDOWS: &str = "text = { form = \"words\", window = 8, buckets = 256 }\n\
                       network = { name = \"text\", features = 8, heads = 2, hidden = 8 }\n";
const BAG: &str = "text = { form = \"bag\", buckets = 4096 }\n\
                   network = { name = \"dense\", hidden = [] }\n";

fn tagging() -> Plan {
    note_plan("entity-tagging", "[\"Drug\"]", WINDOWS)
}

fn classification() -> Plan {
    note_plan("note-classification", "[\"well\", \"ill\"]", BAG)
}

/// A site whose store does not lie where its notes do.
struct Site {
    folder: tempfile::TempDir,
    store: Store,
}

impl Site {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("site");
        fs::create_dir(&inner).expect("room");
        let key = Arc::new(SealingKey::from_bytes([3; 32]));
        let store = Store::open(&inner, key).await.expect("a store");
        Self { folder, store }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("room");
        fs::write(&path, text).expect("room");
        path
    }

    async fn register(&self, path: &Path, is_deidentified: bool) -> Report {
        self.register_mapped(path, is_deidentified, None).await
    }

    async fn register_mapped(
        &self,
        path: &Path,
        is_deidentified: bool,
        label_map: Option<PathBuf>,
    ) -> Report {
        let registration = Registration {
            name: "notes".into(),
            source: Source::Notes {
                path: path.to_owned(),
                annotations: None,
                fields: Fields::default(),
                is_deidentified,
            },
            label_map,
            public_size: PublicSize::Declared(4),
            skip_unreadable: false,
            pixels_seen: false,
            replace: true,
        };
        let registered = register(&self.store, &Policy::default(), registration, NOW).await;
        registered.expect("sound notes")
    }

    async fn prepare(&self, plan: &Plan) -> Result<Arc<TrainingSet>, String> {
        let study = StudyId::random().expect("randomness");
        let prepared = Preparation::default()
            .prepare(&self.store, study, plan, &Settings::default())
            .await;
        prepared.map_err(|error| error.to_string())
    }

    /// Everything that may be drawn, patient after patient.
    async fn examples(&self, plan: &Plan) -> Vec<Vec<Example>> {
        let set = self.prepare(plan).await.expect("it fits");
        let mut all = Vec::new();
        for (patient, count) in present(&set).await.into_iter().enumerate() {
            let load = |record| {
                let (input, target) = set.load(patient, record).expect("readable");
                Example { input, target }
            };
            all.push((0..count).map(load).collect());
        }
        all
    }
}

#[tokio::test]
async fn notes_of_every_form_become_examples_that_the_network_takes() {
    let network = Network::from_plan(&tagging()).expect("a network");
    for (name, text) in [
        (
            "a.jsonl",
            "{\"text\": \"Aspirin relieved the fever.\", \"entities\": [{\"start\": 0, \"end\": 7, \
             \"kind\": \"Drug\"}]}\n",
        ),
        (
            "a.conll",
            "Aspirin\tB-Drug\nrelieved\tO\nthe\tO\nfever\tO\n.\tO\n",
        ),
        (
            "a.pubtator",
            "1|t|Aspirin relieved the fever.\n1|a|It went.\n1\t0\t7\tAspirin\tDrug\tD1\n",
        ),
        ("folder/a.txt", "Aspirin relieved the fever."),
    ] {
        let site = Site::new().await;
        let mut path = site.write(name, text);
        if name.ends_with("txt") {
            site.write("folder/a.ann", "T1\tDrug 0 7\tAspirin\n");
            path = site.folder.path().join("folder");
        }
        site.register(&path, false).await;
        let patients = site.examples(&tagging()).await;
        let [examples] = &patients[..] else {
            panic!("{name}: one note is one patient");
        };
        let [Example { input, target }] = &examples[..] else {
            panic!("{name}: a short note is one window");
        };
        let Target::Tags(tags) = target else {
            panic!("{name}: words have tags");
        };
        assert!(tags[0] == 1 && tags[1..].iter().all(|&tag| tag == 0));
        assert!(tags.len() >= 5, "{name}");
        let pushed = network.batch().push(input, target.clone());
        pushed.expect("as the network takes it");
    }
}

const NAMED: &str = "Mr. Zebulon Quartermain (MRN: 8842-ZQ7) has a fever since March 4, 2021.";

#[tokio::test]
async fn names_are_taken_out_before_a_note_becomes_an_example_unless_it_was_declared_free_of_them()
{
    let site = Site::new().await;
    let file = site.write(
        "a.jsonl",
        &format!(
            "{{\"id\": \"quartermain-1\", \"patient\": \"ZQ7\", \"text\": \"{NAMED}\", \
             \"label\": \"ill\"}}\n"
        ),
    );
    let plan = classification();
    let reading = Reading::from_plan(&plan, None).expect("a reading");
    let read_as = |text: &str| {
        let note = Note {
            text: text.into(),
            label: Some("ill".into()),
            ..Note::default()
        };
        reading.examples(&note).expect("a label").remove(0).input
    };
    let key = site.store.pseudonyms();
    let patient = key.pseudonym("ZQ7").to_string();
    let deidentifier = Deidentifier::new(&Dictionaries::default()).expect("sound");
    let clean = deidentifier.replace(NAMED, &key, &patient).into_text();
    for name in ["Zebulon", "Quartermain", "8842", "March 4, 2021"] {
        assert!(!clean.contains(name), "{name}");
    }

    site.register(&file, false).await;
    let examples = site.examples(&plan).await;
    assert!(examples[0][0].input == read_as(&clean));
    assert!(examples[0][0].input != read_as(NAMED));
    site.register(&file, true).await;
    assert!(site.examples(&plan).await[0][0].input == read_as(NAMED));

    // Nothing of the note, its name or its patient lies open in what the site keeps.
    for entry in fs::read_dir(site.store.folder()).expect("a folder") {
        let path = entry.expect("an entry").path();
        let content = fs::read(&path).expect("readable").to_ascii_lowercase();
        let content = String::from_utf8_lossy(&content);
        for canary in ["quartermain", "zebulon", "zq7", "fever"] {
            assert!(
                !content.contains(canary),
                "{} holds {canary}",
                path.display()
            );
        }
    }
}

#[tokio::test]
async fn the_sites_own_lists_count_when_names_are_taken_out() {
    let site = Site::new().await;
    let text = "Drink of zwiebelkraut tea. Fever.";
    let line = format!("{{\"text\": \"{text}\", \"label\": \"ill\"}}\n");
    let file = site.write("a.jsonl", &line);
    site.register(&file, false).await;
    let plain = site.examples(&classification()).await[0][0].input.clone();
    let names = site.write("names.txt", "zwiebelkraut\n\n");
    let settings = Settings {
        identifiers: crate::settings::IdentifierLists {
            names: Some(names),
            ..Default::default()
        },
        ..Settings::default()
    };
    let study = StudyId::random().expect("randomness");
    let prepare = Preparation::default();
    let set = prepare
        .prepare(&site.store, study, &classification(), &settings)
        .await
        .expect("it fits");
    present(&set).await;
    assert!(set.load(0, 0).expect("readable").0 != plain);
}

const TWO: &str = "{\"id\": \"smith-1\", \"patient\": \"p1\", \"text\": \"No fever.\", \"label\": \"1\"}\n\
                   {\"id\": \"smith-2\", \"patient\": \"p1\", \"text\": \"A fever.\", \"label\": \"2\"}\n\
                   {\"id\": \"jones-1\", \"patient\": \"p2\", \"text\": \"A cough.\", \"label\": \"2\"}\n";

/// A site with the three notes, their labels mapped.
async fn mapped() -> (Site, PathBuf) {
    let site = Site::new().await;
    let file = site.write("a.jsonl", TWO);
    let map = site.write("map.csv", "local,class\n1,well\n2,ill\n");
    let report = site.register_mapped(&file, false, Some(map)).await;
    assert_eq!((report.records, report.patients), (3, 2));
    assert!(report.names_patients, "by the field that usually does");
    assert_eq!(report.classes["ill"], 2);
    (site, file)
}

#[tokio::test]
async fn labels_go_through_the_map_and_a_patient_who_opts_out_takes_all_notes_along() {
    let (site, _) = mapped().await;
    let set = site.prepare(&classification()).await.expect("it fits");
    let mut before = present(&set).await;
    before.sort_unstable();
    assert_eq!(before, [1, 2]);
    let examples = site.examples(&classification()).await.concat();
    let ill = |example: &&Example| example.target == Target::Class(1);
    assert_eq!(examples.iter().filter(ill).count(), 2);

    let list = site.write("out.txt", "p1\n");
    let exclusion = exclude(&site.store, "notes", &list, NOW).await;
    assert_eq!(exclusion.expect("a sound list").excluded, 1);
    let mut after = present(&set).await;
    after.sort_unstable();
    assert_eq!(after, [0, 1], "the very same set, one batch later");
}

#[tokio::test]
async fn a_changed_note_is_refused_by_its_line_alone() {
    for (old, new) in [
        ("No fever.", "No fevers."),
        ("A cough.", "A couch."),
        (
            "\"A fever.\"",
            "\"A fever.\", \"entities\": [{\"start\": 2, \"end\": 7, \"kind\": \"S\"}]",
        ),
    ] {
        let (site, file) = mapped().await;
        fs::write(&file, TWO.replace(old, new)).expect("room");
        let message = site.prepare(&classification()).await.err();
        let message = message.expect("another note than was registered");
        assert!(message.contains("has changed"), "{message}");
        assert!(message.contains("a.jsonl, line "), "{message}");
        assert!(
            !message.contains("smith") && !message.contains("jones"),
            "a name: {message}"
        );
    }
    let (site, file) = mapped().await;
    let fewer = TWO.lines().take(2).collect::<Vec<_>>().join("\n");
    fs::write(&file, fewer).expect("room");
    let message = site.prepare(&classification()).await.err();
    assert!(message.is_some_and(|message| message.contains("line 3 has changed")));
}

#[tokio::test]
async fn a_label_that_the_plan_does_not_list_is_named_with_its_place() {
    let (site, _) = mapped().await;
    let plan = note_plan("note-classification", "[\"well\", \"dead\"]", BAG);
    let message = site.prepare(&plan).await.err().expect("no such class");
    for part in ["a.jsonl, line 2", "\"ill\"", "well, dead"] {
        assert!(message.contains(part), "{message}");
    }
    let unlabelled = Site::new().await;
    let file = unlabelled.write("a.jsonl", "{\"text\": \"A cough.\"}\n");
    unlabelled.register(&file, false).await;
    let message = unlabelled.prepare(&classification()).await.err();
    let message = message.expect("a class is needed");
    assert!(
        message.contains("line 1: the note has no label"),
        "{message}"
    );
    let examples = unlabelled.examples(&tagging()).await;
    assert_eq!(examples.concat().len(), 1, "tags need no label");
}

#[tokio::test]
async fn a_long_note_is_many_windows_of_one_patient_and_one_without_pairs_is_nobody() {
    let site = Site::new().await;
    let long = "Fever and cough. ".repeat(40);
    let note = |id: u32, text: &str, entities: &str| {
        format!("{{\"id\": {id}, \"text\": \"{text}\", \"entities\": [{entities}]}}\n")
    };
    let drug = "{\"start\": 0, \"end\": 7, \"kind\": \"Drug\", \"code\": \"D1\"}";
    let effect = "{\"start\": 17, \"end\": 22, \"kind\": \"Effect\", \"code\": \"D2\"}";
    let pair = note(2, "Aspirin relieved fever.", &format!("{drug}, {effect}"));
    let lone = note(3, "Aspirin was given.", drug);
    let file = site.write("a.jsonl", &[note(1, &long, ""), pair, lone].concat());
    site.register(&file, false).await;
    let mut counts: Vec<_> = site
        .examples(&tagging())
        .await
        .iter()
        .map(Vec::len)
        .collect();
    counts.sort_unstable();
    // 160 words, a window of 8 every 4.
    assert_eq!(counts, [1, 1, 39]);

    let rest = format!("{BAG}pair = {{ from = \"Drug\", to = \"Effect\" }}\n");
    let plan = note_plan("relation-extraction", "[\"none\", \"helps\"]", &rest);
    let mut counts: Vec<_> = site.examples(&plan).await.iter().map(Vec::len).collect();
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 1]);
}

#[tokio::test]
async fn notes_are_no_table_and_a_table_is_no_note() {
    let (site, _) = mapped().await;
    let mut table = plan();
    table.data_set = "notes".into();
    let message = site.prepare(&table).await.err().expect("notes");
    assert!(
        message.contains("notes") && message.contains("a table"),
        "{message}"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let store = registered(folder.path()).await;
    let mut notes = classification();
    notes.data_set = "heart".into();
    let study = StudyId::random().expect("randomness");
    let refused = Preparation::default()
        .prepare(&store, study, &notes, &Settings::default())
        .await;
    assert!(refused.is_err());
}
