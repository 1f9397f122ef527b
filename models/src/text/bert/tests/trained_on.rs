//! Tests of public encoders that a plan trains on.

use consilium_proto::{ParameterVector, Plan};

use super::*;
use crate::{
    network::{Network, Target},
    start::start,
    text::{Entity, Note, Reading, Span},
};

/// The small encoder with as many positions as a plan's window has at least.
fn wide() -> String {
    CONFIG.replace(
        "\"max_position_embeddings\": 6",
        "\"max_position_embeddings\": 9",
    )
}

const PIECES: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nfever\nno\ncough\n##s\nand\n";

/// A folder as a site has it.
fn encoder(config_text: &str, pieces: &str) -> tempfile::TempDir {
    let folder = folder(config_text, &sines(config(config_text)));
    fs::write(folder.path().join("vocab.txt"), pieces).expect("room");
    folder
}

fn digest(folder: &Path) -> String {
    let digest = BertWeights::read(folder).expect("sound").digest();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A plan that trains an encoder on.
fn plan(task: &str, sha256: &str, sizes: &str) -> Plan {
    let text = format!(
        "name = \"x\"\ntask = \"{task}\"\ndata_set = \"d\"\nclasses = [\"a\", \"b\"]\nrounds = 1\n\
         cohort = {{ size = 3 }}\ntraining = {{ steps = 1, batch_size = 8, learning_rate = 1.0 }}\n\
         privacy = {{ mode = \"none\" }}\n\
         text = {{ form = \"encoder\", sha256 = \"{sha256}\", {sizes} }}\n"
    );
    Plan::from_toml(&text).expect("a sound plan")
}

const SIZES: &str = "width = 8, window = 8 }\n\
                     network = { name = \"bert\", layers = 2, heads = 2, hidden = 12, vocabulary = 10";

/// What a classifier says of some ids: the encoder computed plainly, the mean, the network's last layer.
fn expected(
    weights: &BertWeights,
    network: &Network,
    start: &ParameterVector,
    ids: &[u32],
) -> Vec<f32> {
    let mean = BertEncoder::new(weights.clone())
        .encode_mean(ids)
        .expect("known pieces");
    let tensor = |name: &str| {
        let mut ranges = network.layout().ranges();
        let (_, range) = ranges
            .find(|(tensor, _)| tensor.name == name)
            .expect("a tensor");
        &start.as_slice()[range]
    };
    let rows = tensor("head.weight")
        .chunks(mean.len())
        .zip(tensor("head.bias"));
    let scores =
        rows.map(|(row, bias)| row.iter().zip(&mean).map(|(a, b)| a * b).sum::<f32>() + bias);
    let powers: Vec<f32> = scores.map(f32::exp).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

#[test]
fn training_starts_from_what_the_encoder_computes() {
    let folder = encoder(&wide(), PIECES);
    let weights = BertWeights::read(folder.path()).expect("sound");
    let plan = plan("note-classification", &digest(folder.path()), SIZES);
    let network = Network::from_plan(&plan).expect("a network");
    let first = start(&plan, &network, Some(folder.path())).expect("a start");
    let reading = Reading::from_plan(&plan, Some(folder.path())).expect("a reading");
    let inputs = reading.inputs("No fever").expect("windows");
    assert_eq!(inputs, [[2.0, 6.0, 5.0, 3.0, 0.0, 0.0, 0.0, 0.0]]);
    let ready = network.weights(first.as_slice()).expect("its weights");
    let found = network.predict(&ready, &inputs[0]).expect("an answer");
    assert_near(
        &found,
        &expected(&weights, &network, &first, &[2, 6, 5, 3]),
        1e-5,
    );
    // A text that is longer than a window comes in several, which overlap.
    let inputs = reading
        .inputs("fever and coughs and no fever and cough")
        .expect("windows");
    assert_eq!(inputs.len(), 2);
    assert!(
        inputs
            .iter()
            .all(|input| input[0] == 2.0 && input.contains(&3.0))
    );
}

#[test]
fn everybody_starts_from_the_same_weights_and_the_seed_fixes_the_rest() {
    let folder = encoder(&wide(), PIECES);
    let plan = plan("note-classification", &digest(folder.path()), SIZES);
    let network = Network::from_plan(&plan).expect("a network");
    let digest_of = |plan: &Plan| {
        let first = start(plan, &network, Some(folder.path())).expect("a start");
        first.digest(network.layout())
    };
    assert_eq!(digest_of(&plan), digest_of(&plan));
    assert_ne!(
        digest_of(&plan),
        network.initial(plan.seed).digest(network.layout())
    );
    let other = Plan {
        seed: plan.seed + 1,
        ..plan.clone()
    };
    assert_ne!(digest_of(&plan), digest_of(&other));
}

/// The frame of a window is outside of all entities, and what is found lies where it is written.
#[test]
fn entities_come_back_from_the_windows_of_an_encoder() {
    let folder = encoder(&wide(), PIECES);
    let plan = plan("entity-tagging", &digest(folder.path()), SIZES);
    let reading = Reading::from_plan(&plan, Some(folder.path())).expect("a reading");
    let text = "fever and no coughs and no cough and fever and no cough";
    let places = text.match_indices("cough").map(|(start, found)| {
        let is_plural = text[start..].starts_with("coughs");
        Span::new(start, start + found.len() + usize::from(is_plural))
    });
    let entity = |span| Entity {
        kind: "b".into(),
        span,
        code: None,
    };
    let entities: Vec<Entity> = places.map(entity).collect();
    let spans: Vec<Span> = entities.iter().map(|entity| entity.span).collect();
    let note = Note {
        text: text.into(),
        entities,
        ..Note::default()
    };
    let examples = reading.examples(&note).expect("examples");
    let windows = reading.windows(text).expect("windows");
    // Answers that are sure of the tags.
    let mut outputs = Vec::new();
    for example in &examples {
        let Target::Tags(tags) = &example.target else {
            panic!("a tagger's example")
        };
        let words = example.input.iter().filter(|&&piece| piece != 0.0).count();
        assert_eq!((tags.len(), tags[0], tags[words - 1]), (words, 0, 0));
        for at in 0..8 {
            let tag = tags.get(at).map(|&tag| usize::from(tag));
            outputs.extend((0..5).map(|other| if tag == Some(other) { 1.0 } else { 0.0 }));
        }
    }
    let found = reading.mentions(&windows, &outputs);
    assert_eq!(
        found.iter().map(|mention| mention.span).collect::<Vec<_>>(),
        spans
    );
    assert!(found.iter().all(|mention| mention.class == 1));
}

#[test]
fn another_encoder_than_the_plans_is_refused_by_what_differs() {
    let folder = encoder(&wide(), PIECES);
    let sha256 = digest(folder.path());
    let refused = |plan: &Plan, folder: Option<&Path>| {
        let network = Network::from_plan(plan).expect("a network");
        start(plan, &network, folder)
            .expect_err("another encoder")
            .to_string()
    };
    let plan_of = |sha256: &str, sizes: &str| plan("note-classification", sha256, sizes);
    let sound = plan_of(&sha256, SIZES);
    assert!(refused(&sound, None).contains("--text-encoder"));
    assert!(refused(&plan_of(&"0".repeat(64), SIZES), Some(folder.path())).contains(&sha256));
    for (from, to, field) in [
        ("layers = 2", "layers = 1", "num_hidden_layers"),
        ("heads = 2", "heads = 4", "num_attention_heads"),
        ("hidden = 12", "hidden = 13", "intermediate_size"),
        ("vocabulary = 10", "vocabulary = 11", "vocab_size"),
        ("width = 8", "width = 16", "hidden_size"),
        ("window = 8", "window = 10", "max_position_embeddings"),
    ] {
        let plan = plan_of(&sha256, &SIZES.replace(from, to));
        let message = refused(&plan, Some(folder.path()));
        assert!(message.contains(field), "{message}");
    }
    for (config, pieces, what) in [
        (
            wide().replace("1e-12", "1e-5"),
            PIECES.to_owned(),
            "layer_norm_eps",
        ),
        (wide(), PIECES.replace("and\n", ""), "9 pieces"),
        (
            wide(),
            PIECES.replace("[PAD]\n[UNK]", "[UNK]\n[PAD]"),
            "[PAD]",
        ),
    ] {
        let folder = encoder(&config, &pieces);
        let plan = plan_of(&digest(folder.path()), SIZES);
        let message = refused(&plan, Some(folder.path()));
        assert!(message.contains(what), "{message}");
    }
}

/// all-MiniLM-L6-v2, where it is at hand.
#[test]
fn training_starts_from_what_a_real_encoder_computes() {
    let Some(folder) = std::env::var_os("CONSILIUM_MINILM").map(PathBuf::from) else {
        let note = "skipped: CONSILIUM_MINILM names no folder with a public encoder";
        writeln!(std::io::stderr(), "{note}").expect("stderr takes a line");
        return;
    };
    let weights = BertWeights::read(&folder).expect("sound");
    let sizes = "width = 384, window = 32 }\n\
                 network = { name = \"bert\", layers = 6, heads = 12, hidden = 1536, vocabulary = 30522";
    let plan = plan("note-classification", &digest(&folder), sizes);
    let network = Network::from_plan(&plan).expect("a network");
    let first = start(&plan, &network, Some(&folder)).expect("a start");
    let ready = network.weights(first.as_slice()).expect("its weights");
    let reading = Reading::from_plan(&plan, Some(&folder)).expect("a reading");
    for (text, ids, _) in SENTENCES {
        let inputs = reading.inputs(text).expect("windows");
        let found = network.predict(&ready, &inputs[0]).expect("an answer");
        assert_near(&found, &expected(&weights, &network, &first, ids), 1e-5);
    }
}
