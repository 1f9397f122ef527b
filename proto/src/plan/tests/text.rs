//! Plans about notes, and plans of counts.

use crate::Plan;

/// A plan with this task, these classes and these further lines.
fn plan(task: &str, classes: &str, rest: &str) -> Result<Plan, String> {
    let text = format!(
        "name = \"x\"\ntask = \"{task}\"\ndata_set = \"d\"\nclasses = {classes}\nrounds = 1\n\
         cohort = {{ size = 3 }}\ntraining = {{ steps = 1, batch_size = 8, learning_rate = 1.0 }}\n\
         privacy = {{ clipping_norm = 1.0, epsilon = 4.0, delta = 1e-5 }}\n{rest}"
    );
    Plan::from_toml(&text).map_err(|error| error.to_string())
}

const TWO: &str = "[\"a\", \"b\"]";
const BAG: &str = "text = { form = \"bag\" }\nnetwork = { name = \"dense\", hidden = [] }\n";
const WORDS: &str = "text = { form = \"words\" }\nnetwork = { name = \"text\" }\n";
const CHAIN: &str = "text = { form = \"words\" }\nnetwork = { name = \"chain\" }\n";
/// A public encoder's sizes, for a window of its pieces.
fn bert(text: &str, network: &str) -> String {
    format!(
        "text = {{ form = \"encoder\", sha256 = \"{}\", {text} }}\n\
         network = {{ name = \"bert\", {network} }}\n",
        "0".repeat(64)
    )
}

const MINILM: &str = "layers = 6, heads = 12, hidden = 1536, vocabulary = 30522";
const PAIR: &str = "pair = { from = \"Drug\", to = \"Disease\" }\n";
const TREE: &str = "network = { name = \"tree\", depth = 1 }\nstrategy = { name = \"sum\" }\n\
                    [[table.columns]]\nname = \"age\"\nedges = [40.0, 60.0]\n";

#[track_caller]
fn refused(task: &str, classes: &str, rest: &str, field: &str) {
    let message = plan(task, classes, rest).expect_err("an unsound plan");
    assert!(message.contains(&format!("`{field}`")), "{message}");
}

#[test]
fn every_task_about_notes_has_a_plan() {
    for (task, classes, rest) in [
        ("note-classification", TWO, BAG.to_owned()),
        ("note-classification", TWO, WORDS.to_owned()),
        ("diagnosis", TWO, WORDS.to_owned()),
        ("diagnosis", TWO, TREE.to_owned()),
        ("tabular-classification", TWO, TREE.to_owned()),
        ("entity-tagging", "[\"Disease\"]", CHAIN.to_owned()),
        ("entity-tagging", "[\"Disease\"]", WORDS.to_owned()),
        ("note-classification", TWO, bert("width = 384", MINILM)),
        ("entity-tagging", TWO, bert("width = 384", MINILM)),
        ("relation-extraction", TWO, format!("{BAG}{PAIR}")),
        ("relation-extraction", TWO, format!("{WORDS}{PAIR}")),
    ] {
        let sound = plan(task, classes, &rest).unwrap_or_else(|error| panic!("{task}: {error}"));
        let again = Plan::from_canonical(&sound.to_canonical()).expect("its own bytes");
        assert_eq!(sound, again);
        assert_eq!(sound.task.name(), task);
    }
}

#[test]
fn a_tagger_has_tags_for_each_kind_and_for_none() {
    let plan = plan("entity-tagging", "[\"Drug\", \"Disease\"]", CHAIN).expect("a sound plan");
    assert_eq!(plan.outputs(), 5);
}

#[test]
fn tables_that_do_not_belong_together_are_refused() {
    refused(
        "note-classification",
        TWO,
        "network = { name = \"dense\", hidden = [] }\n",
        "text",
    );
    refused("note-classification", TWO, &format!("{BAG}{PAIR}"), "pair");
    refused("relation-extraction", TWO, BAG, "pair");
    refused("entity-tagging", TWO, BAG, "network.name");
    refused("note-classification", TWO, CHAIN, "network.name");
    let crossed = "text = { form = \"bag\" }\nnetwork = { name = \"text\" }\n";
    refused("note-classification", TWO, crossed, "network.name");
    let crossed =
        format!("text = {{ form = \"bag\" }}\nnetwork = {{ name = \"bert\", {MINILM} }}\n");
    refused("note-classification", TWO, &crossed, "network.name");
    let encoder = format!(
        "text = {{ form = \"encoder\", width = 384, sha256 = \"{}\" }}\n\
         network = {{ name = \"dense\", hidden = [] }}\n{PAIR}",
        "0".repeat(64)
    );
    refused("relation-extraction", TWO, &encoder, "text.form");
    refused(
        "diagnosis",
        TWO,
        &format!("{BAG}[[table.columns]]\nname = \"age\"\n"),
        "table",
    );
}

#[test]
fn sizes_of_texts_are_bounded() {
    let bag = |inside: &str| {
        format!(
            "text = {{ form = \"bag\", {inside} }}\nnetwork = {{ name = \"dense\", hidden = [] }}\n"
        )
    };
    for (inside, field) in [
        ("buckets = 8", "text.buckets"),
        ("neighbours = 4", "text.neighbours"),
        ("letters = 99", "text.letters"),
        ("first_sentence = 0", "text.first_sentence"),
    ] {
        refused("note-classification", TWO, &bag(inside), field);
    }
    let words = "text = { form = \"words\", window = 4096 }\nnetwork = { name = \"text\" }\n";
    refused("note-classification", TWO, words, "text.window");
    let heads =
        "text = { form = \"words\" }\nnetwork = { name = \"text\", features = 30, heads = 4 }\n";
    refused("note-classification", TWO, heads, "network.features");
    let table = "text = { form = \"words\", buckets = 1048576 }\nnetwork = { name = \"text\", features = 1024 }\n";
    refused("note-classification", TWO, table, "network.features");
    for (width, from, to, field) in [
        ("width = 384", "layers = 6", "layers = 99", "network.layers"),
        ("width = 384", "heads = 12", "heads = 7", "network.heads"),
        (
            "width = 384",
            "hidden = 1536",
            "hidden = 0",
            "network.hidden",
        ),
        ("width = 3072", "30522", "999999", "network.vocabulary"),
    ] {
        let network = bert(width, &MINILM.replace(from, to));
        refused("note-classification", TWO, &network, field);
    }
    let threshold = "pair = { from = \"a\", to = \"b\", threshold = 1.0 }\n";
    refused(
        "relation-extraction",
        TWO,
        &format!("{BAG}{threshold}"),
        "pair.threshold",
    );
}

#[test]
fn counts_are_summed_in_one_round_a_level() {
    let changed = |from: &str, to: &str| {
        assert!(TREE.contains(from), "{from}");
        TREE.replace(from, to)
    };
    refused(
        "diagnosis",
        TWO,
        &changed("depth = 1", "depth = 2"),
        "rounds",
    );
    refused(
        "diagnosis",
        TWO,
        &changed("depth = 1", "depth = 9"),
        "network.depth",
    );
    let averaged = changed("strategy = { name = \"sum\" }\n", "");
    refused("diagnosis", TWO, &averaged, "strategy.name");
    refused(
        "diagnosis",
        TWO,
        &changed("edges = [40.0, 60.0]", ""),
        "table.columns",
    );
    refused(
        "diagnosis",
        TWO,
        &changed("[40.0, 60.0]", "[60.0, 40.0]"),
        "table.columns",
    );
    let layered = changed(
        "name = \"tree\", depth = 1",
        "name = \"dense\", hidden = []",
    );
    refused("diagnosis", TWO, &layered, "strategy.name");
}

#[test]
fn noise_that_all_sites_share_is_for_one_level_of_counts() {
    let shared = |levels: u32| {
        let tree = TREE.replace("depth = 1", &format!("depth = {levels}"));
        let text = format!(
            "name = \"x\"\ntask = \"diagnosis\"\ndata_set = \"d\"\nclasses = {TWO}\nrounds = {levels}\n\
             cohort = {{ size = 3, max_attempts = 2 }}\n\
             training = {{ steps = 1, batch_size = 8, learning_rate = 1.0 }}\n\
             privacy = {{ mode = \"distributed\", clipping_norm = 1.0, noise_multiplier = 2.0, \
             delta = 1e-5 }}\n{tree}"
        );
        Plan::from_toml(&text).map_err(|error| error.to_string())
    };
    shared(1).expect("noise lies where is counted");
    let refusal = shared(2).expect_err("noise lies on the level that comes next as well");
    assert!(refusal.contains("`privacy.mode`"), "{refusal}");
}
