use super::*;
use crate::{
    network::Network,
    text::{Argument, Entity, Relation, Span},
};

fn plan(task: &str, classes: &str, rest: &str) -> Plan {
    let text = format!(
        "name = \"x\"\ntask = \"{task}\"\ndata_set = \"d\"\nclasses = {classes}\nrounds = 1\n\
         cohort = {{ size = 3 }}\ntraining = {{ steps = 1, batch_size = 1, learning_rate = 0.1 }}\n\
         privacy = {{ mode = \"none\" }}\n{rest}"
    );
    Plan::from_toml(&text).expect("a sound plan")
}

const WORDS: &str = "text = { form = \"words\", window = 8, buckets = 256 }\n";
const PIECES: &str = "text = { form = \"pieces\", window = 8 }\n";
const BAG: &str =
    "text = { form = \"bag\", buckets = 64 }\nnetwork = { name = \"dense\", hidden = [] }\n";
const NETWORK: &str =
    "network = { name = \"text\", features = 8, heads = 2, hidden = 8, blocks = 1 }\n";

fn entity(text: &str, mention: &str, kind: &str, code: &str) -> Entity {
    let start = text.find(mention).expect("it is there");
    Entity {
        kind: kind.into(),
        span: Span::new(start, start + mention.len()),
        code: Some(code.into()),
    }
}

fn note() -> Note {
    let text = "Aspirin and bleeding. The bleeding of patients on aspirin stopped; no headache was seen at all.";
    let second = text.rfind("aspirin").expect("it is there");
    let mut entities = vec![
        entity(text, "Aspirin", "Chemical", "D1"),
        entity(text, "bleeding", "Disease", "D2"),
        Entity {
            span: Span::new(second, second + 7),
            ..entity(text, "aspirin", "Chemical", "D1")
        },
        entity(text, "headache", "Disease", "D3"),
    ];
    entities.sort_by_key(|entity| entity.span.start);
    Note {
        id: "1".into(),
        text: text.into(),
        entities,
        relations: vec![Relation {
            kind: "CID".into(),
            from: Argument::Concept("D1".into()),
            to: Argument::Concept("D2".into()),
        }],
        ..Note::default()
    }
}

/// Answers that say exactly what people marked.
fn perfect(reading: &Reading, note: &Note) -> (Windows, Vec<f32>) {
    let windows = reading.windows(&note.text).expect("words in order");
    let tags = 2 * reading.classes().len() + 1;
    let examples = reading.examples(note).expect("tags");
    let mut outputs = Vec::new();
    for example in &examples {
        let Target::Tags(own) = &example.target else {
            panic!("the task tags");
        };
        let mut rows = vec![0.0; 8 * tags];
        for (at, &tag) in own.iter().enumerate() {
            rows[at * tags + usize::from(tag)] = 1.0;
        }
        outputs.extend(rows);
    }
    (windows, outputs)
}

#[test]
fn what_is_marked_comes_back_from_tags_to_the_byte() {
    for form in [WORDS, PIECES] {
        let plan = plan(
            "entity-tagging",
            "[\"Chemical\", \"Disease\"]",
            &format!("{form}{NETWORK}"),
        );
        let reading = Reading::from_plan(&plan, None).expect("a reading");
        let note = note();
        let (windows, outputs) = perfect(&reading, &note);
        let found: Vec<_> = reading
            .mentions(&windows, &outputs)
            .into_iter()
            .map(|mention| (mention.span, reading.classes()[mention.class].clone()))
            .collect();
        let marked: Vec<_> = note
            .entities
            .iter()
            .map(|entity| (entity.span, entity.kind.clone()))
            .collect();
        assert_eq!(found, marked, "{form}");
    }
}

#[test]
fn inputs_are_as_long_as_the_network_takes_them() {
    let forms = [
        ("note-classification", format!("{WORDS}{NETWORK}")),
        ("note-classification", format!("{PIECES}{NETWORK}")),
        ("note-classification", BAG.to_owned()),
        (
            "relation-extraction",
            format!("{WORDS}{NETWORK}pair = {{ from = \"Chemical\", to = \"Disease\" }}\n"),
        ),
        (
            "relation-extraction",
            format!("{BAG}pair = {{ from = \"Chemical\", to = \"Disease\" }}\n"),
        ),
    ];
    for (task, rest) in forms {
        let plan = plan(task, "[\"none\", \"CID\"]", &rest);
        let network = Network::from_plan(&plan).expect("a network");
        let reading = Reading::from_plan(&plan, None).expect("a reading");
        let note = Note {
            label: Some("CID".into()),
            ..note()
        };
        let examples = reading.examples(&note).expect("examples");
        assert!(!examples.is_empty(), "{task} {rest}");
        for example in examples {
            assert_eq!(example.input.len(), network.inputs(), "{task} {rest}");
        }
    }
}

#[test]
fn every_pair_of_concepts_is_one_example_with_its_relation() {
    let rest = format!("{BAG}pair = {{ from = \"Chemical\", to = \"Disease\" }}\n");
    let plan = plan("relation-extraction", "[\"none\", \"CID\"]", &rest);
    let reading = Reading::from_plan(&plan, None).expect("a reading");
    let examples = reading.examples(&note()).expect("pairs");
    let classes: Vec<_> = examples.into_iter().map(|example| example.target).collect();
    assert!(classes == [Target::Class(1), Target::Class(0)]);
}

#[test]
fn pairs_within_a_sentence_are_pairs_of_mentions() {
    let rest =
        format!("{BAG}pair = {{ from = \"Chemical\", to = \"Disease\", within = \"sentence\" }}\n");
    let plan = plan("relation-extraction", "[\"none\", \"CID\"]", &rest);
    let reading = Reading::from_plan(&plan, None).expect("a reading");
    let note = note();
    let pairs: Vec<_> = reading
        .candidates(&note)
        .iter()
        .map(|pair| (pair.from.mentions.clone(), pair.to.mentions.clone()))
        .collect();
    assert_eq!(pairs, [(vec![0], vec![1]), (vec![2], vec![3])]);
}

#[test]
fn markers_stand_before_the_two_entities() {
    let rest = format!("{WORDS}{NETWORK}pair = {{ from = \"Chemical\", to = \"Disease\" }}\n");
    let plan = plan("relation-extraction", "[\"none\", \"CID\"]", &rest);
    let reading = Reading::from_plan(&plan, None).expect("a reading");
    let note = note();
    let pairs = reading.candidates(&note);
    let input = reading.pair_inputs(&note, &pairs).next().expect("a pair");
    let slots = input.len() / 8;
    let firsts: Vec<usize> = input.chunks(slots).map(|row| row[0] as usize).collect();
    // "[1] Aspirin and [2] bleeding . The"
    assert_eq!((firsts[0], firsts[3]), (1, 2), "{firsts:?}");
    assert_eq!(
        firsts
            .iter()
            .filter(|&&first| first == 1 || first == 2)
            .count(),
        2
    );
}

#[test]
fn a_note_without_words_has_nothing_to_learn_from() {
    let plan = plan(
        "entity-tagging",
        "[\"Disease\"]",
        &format!("{WORDS}{NETWORK}"),
    );
    let reading = Reading::from_plan(&plan, None).expect("a reading");
    for text in ["", " \n\t", "\u{200b}"] {
        let note = Note {
            text: text.into(),
            ..Note::default()
        };
        assert!(reading.examples(&note).expect("none").is_empty());
    }
}

#[test]
fn unknown_and_missing_labels_are_said() {
    let plan = plan("note-classification", "[\"a\", \"b\"]", BAG);
    let reading = Reading::from_plan(&plan, None).expect("a reading");
    let missing = reading.examples(&note()).expect_err("no label");
    assert!(matches!(missing, ReadingError::NoLabel));
    let labelled = Note {
        label: Some("c".into()),
        ..note()
    };
    let unknown = reading.examples(&labelled).expect_err("no class");
    assert!(unknown.to_string().contains("(a, b)"), "{unknown}");
}
