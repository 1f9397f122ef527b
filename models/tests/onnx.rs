//! Exported models, computed by another program.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use consilium_models::{
    network::Network,
    random::Random,
    released::{ModelIdentity, Released},
};
use consilium_proto::Plan;
use safetensors::{Dtype, tensor::TensorView};
use tempfile::TempDir;

/// Examples of a case.
const EXAMPLES: usize = 5;

/// What is judged: a plan's task and its further lines, and what enters the network.
struct Case {
    name: &'static str,
    task: &'static str,
    rest: String,
    enters: Enters,
}

enum Enters {
    /// Any numbers.
    Numbers,
    /// Windows of words of different lengths, as numbers below this one.
    Words(usize),
}

fn image(name: &'static str, shape: [usize; 3], network: &str) -> Case {
    let [channels, height, width] = shape;
    let rest = format!(
        "image = {{ channels = {channels}, height = {height}, width = {width}, mean = 0.25 }}\n\
         network = {{ {network} }}\n"
    );
    Case {
        name,
        task: "image-classification",
        rest,
        enters: Enters::Numbers,
    }
}

fn note(name: &'static str, task: &'static str, rest: &str, tokens: usize) -> Case {
    Case {
        name,
        task,
        rest: rest.to_owned(),
        enters: Enters::Words(tokens),
    }
}

/// Every network by name that can be written, and every part of one.
fn cases() -> Vec<Case> {
    let columns = "[[table.columns]]\nname = \"a\"\n[[table.columns]]\nname = \"b\"\n";
    let table = |name, task, network: &str| Case {
        name,
        task,
        rest: format!("network = {{ name = \"dense\", {network} }}\n{columns}"),
        enters: Enters::Numbers,
    };
    let words = "text = { form = \"words\", window = 9, buckets = 256 }\n";
    let text =
        |rest: &str| format!("{words}network = {{ name = \"text\", features = 8, {rest} }}\n");
    let bert = format!(
        "text = {{ form = \"encoder\", sha256 = \"{}\", width = 8, window = 8 }}\n\
         network = {{ name = \"bert\", layers = 2, heads = 2, hidden = 12, vocabulary = 10 }}\n",
        "0".repeat(64)
    );
    let pair = format!(
        "{}pair = {{ from = \"Drug\", to = \"Disease\" }}\n",
        text("reach = 1, blocks = 1")
    );
    vec![
        image("cnn-small", [1, 28, 28], "name = \"cnn-small\""),
        image("cnn", [3, 11, 14], "name = \"cnn\""),
        image("scatter-cnn", [3, 9, 14], "name = \"scatter-cnn\""),
        image(
            "resnet-gn",
            [1, 17, 18],
            "name = \"resnet-gn\", width = 8, depth = 3",
        ),
        image(
            "resnet-gn-large",
            [3, 49, 52],
            "name = \"resnet-gn\", width = 32, depth = 2",
        ),
        table("dense", "tabular-classification", "hidden = [5, 4]"),
        table("dense-only", "tabular-classification", "hidden = []"),
        note(
            "text",
            "note-classification",
            &text("reach = 2, blocks = 2"),
            256,
        ),
        note(
            "text-alone",
            "note-classification",
            &text("reach = 0, blocks = 0"),
            256,
        ),
        note("pairs", "relation-extraction", &pair, 6),
        note("bert", "note-classification", &bert, 10),
    ]
}

impl Case {
    fn plan(&self) -> Plan {
        let (task, rest) = (self.task, &self.rest);
        let text = format!(
            "name = \"x\"\ntask = \"{task}\"\ndata_set = \"d\"\nclasses = [\"a\", \"b\", \"c\"]\nrounds = 1\n\
             cohort = {{ size = 3 }}\ntraining = {{ steps = 1, batch_size = 8, learning_rate = 1.0 }}\n\
             privacy = {{ mode = \"none\" }}\n{rest}"
        );
        Plan::from_toml(&text).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// The model with weights that are nowhere zero or one.
    fn released(&self) -> Released {
        let plan = self.plan();
        let network = Network::from_plan(&plan).expect("a network");
        let mut random = Random::new(&[3]);
        let mut values = network.initial(1).into_vec();
        values
            .iter_mut()
            .for_each(|value| *value += random.symmetric(0.2));
        Released::from_file(plan, &file(&network, &values)).expect("its file")
    }

    fn inputs(&self, network: &Network) -> Vec<f32> {
        let (mut random, numbers) = (Random::new(&[4]), network.inputs());
        let mut inputs = Vec::new();
        for example in 0..EXAMPLES {
            // The last one fills its window, and the first one has nothing.
            let filled = numbers * example / (EXAMPLES - 1);
            inputs.extend((0..numbers).map(|at| match self.enters {
                Enters::Numbers => random.symmetric(2.0),
                Enters::Words(tokens) if at < filled => (random.bits() % tokens as u64) as f32,
                Enters::Words(_) => 0.0,
            }));
        }
        inputs
    }

    /// Writes the file, and beside it what the engine makes of some examples.
    fn write(&self, folder: &Path) -> PathBuf {
        let released = self.released();
        let network = Network::from_plan(released.plan()).expect("a network");
        let weights = network.weights(released.weights().as_slice());
        let inputs = self.inputs(&network);
        let expected = network.predict(&weights.expect("its own"), &inputs);
        let shape = match &released.plan().image {
            Some(image) => vec![image.channels, image.height, image.width],
            None => vec![network.inputs()],
        };
        let onnx = format!("{}.onnx", self.name);
        let bytes = released.to_onnx().expect("a file");
        fs::write(folder.join(&onnx), bytes).expect("a file");
        let case = serde_json::json!({
            "file": onnx,
            "shape": shape,
            "inputs": inputs,
            "expected": expected.expect("probabilities"),
        });
        let path = folder.join(format!("{}.json", self.name));
        fs::write(&path, case.to_string()).expect("a file");
        path
    }
}

/// The file that a study releases.
fn file(network: &Network, weights: &[f32]) -> Vec<u8> {
    let views: Vec<_> = network
        .layout()
        .ranges()
        .map(|(tensor, range)| {
            let bytes: Vec<u8> = weights[range]
                .iter()
                .flat_map(|w| w.to_le_bytes())
                .collect();
            (tensor.name.clone(), tensor.shape.clone(), bytes)
        })
        .collect();
    let views = views.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a tensor");
        (name, view)
    });
    safetensors::serialize(views, None).expect("a file")
}

/// What the checker and onnxruntime say, and whether they are content; none where they are not installed.
fn judged(cases: &[PathBuf]) -> Option<(String, bool)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/onnx");
    let python = folder.join(".venv/bin/python");
    if !python.exists() {
        // Past the test runner's capture: that must be seen.
        let said = writeln!(
            std::io::stderr(),
            "skipped: onnxruntime is not installed in tests/onnx"
        );
        said.expect("stderr takes a line");
        return None;
    }
    let run = Command::new(python)
        .arg(folder.join("check.py"))
        .args(cases)
        .output();
    let run = run.expect("a program that starts");
    let said = [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Some((said.concat(), run.status.success()))
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn onnxruntime_computes_what_the_engine_does_for_every_network_that_can_be_written() {
    let folder = folder();
    let paths: Vec<PathBuf> = cases()
        .iter()
        .map(|case| case.write(folder.path()))
        .collect();
    if let Some((said, is_sound)) = judged(&paths) {
        assert!(is_sound, "{said}");
    }
}

#[test]
fn one_wrong_weight_is_noticed() {
    let folder = folder();
    let case = image("cnn-small", [1, 28, 28], "name = \"cnn-small\"");
    let path = case.write(folder.path());
    let released = case.released();
    let network = Network::from_plan(released.plan()).expect("a network");
    let mut values = released.weights().as_slice().to_vec();
    values[0] += 0.05;
    let other = Released::from_file(case.plan(), &file(&network, &values)).expect("its file");
    let bytes = other.to_onnx().expect("a file");
    fs::write(folder.path().join("cnn-small.onnx"), bytes).expect("a file");
    if let Some((said, is_sound)) = judged(&[path]) {
        assert!(!is_sound && said.contains("apart"), "{said}");
    }
}

#[test]
fn what_cannot_be_written_is_refused_by_name() {
    let tags = note(
        "chain",
        "entity-tagging",
        "text = { form = \"words\", window = 9, buckets = 256 }\nnetwork = { name = \"chain\" }\n",
        256,
    );
    let counts = Case {
        name: "tree",
        task: "tabular-classification",
        rest: "network = { name = \"tree\", depth = 1 }\nstrategy = { name = \"sum\" }\n\
               [[table.columns]]\nname = \"age\"\nedges = [40.0, 60.0]\n"
            .to_owned(),
        enters: Enters::Numbers,
    };
    for case in [tags, counts] {
        let error = case.released().to_onnx().expect_err("no operators");
        assert!(error.to_string().contains(case.name), "{error}");
    }
}

#[test]
fn the_file_says_what_it_was_made_from_and_what_it_is_for() {
    let case = image("cnn-small", [1, 28, 28], "name = \"cnn-small\"");
    let released = case.released();
    let bytes = released.to_onnx().expect("a file");
    let says = |text: &str| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    let ModelIdentity {
        version, sha256, ..
    } = released.identity();
    let notes = [
        version,
        sha256,
        "[1, 28, 28]",
        "[\"a\",\"b\",\"c\"]",
        "0.25",
        "For research use only",
    ];
    assert!(notes.into_iter().all(says));
}
