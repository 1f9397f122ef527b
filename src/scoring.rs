//! Scores of a version on public data, which is the researcher's own: nothing here is charged.

mod interview;

use std::path::Path;

use anyhow::{Context as _, Result};
use consilium_agent::data::{self, Fields, LabelledSet, Part, Source};
use consilium_models::{
    evaluation::{Evaluation, RegressionEvaluation, exact_macro_auc},
    network::{Network, Target, Weights},
    text::{Example, Note, Reading, scores::Matches},
};
use consilium_proto::{
    ErrorCode, ParameterVector, Plan,
    plan::{Pair, Task},
};
use serde::Serialize;

pub use self::interview::{Interview, Questions};
use crate::failure::refuse;

/// How good a version is. What the task has no such figure for is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Share of correct predictions.
    pub accuracy: Option<f64>,
    /// Mean of the classes' shares of correct predictions.
    pub balanced_accuracy: Option<f64>,
    /// Area under the ROC curve, exact for two classes.
    pub auc: Option<f64>,
    /// Share of predictions whose true class is among the three likeliest; of more than three classes.
    pub top_3_accuracy: Option<f64>,
    /// F1 of the positive class of two, else the mean over classes; of entities the strict one, of exact spans
    /// and kinds, and of relations that of all pairs.
    pub f1: Option<f64>,
    /// Share of the entities or relations found that are right.
    pub precision: Option<f64>,
    /// Share of the entities or relations marked that are found.
    pub recall: Option<f64>,
    /// Mean cross-entropy in nats, or mean squared error.
    pub loss: Option<f64>,
    /// Expected calibration error of the predicted class.
    pub calibration_error: Option<f64>,
}

impl Figures {
    /// Names of the figures, in the order of [`Self::values`].
    pub const NAMES: [&'static str; 9] = [
        "accuracy",
        "balanced_accuracy",
        "auc",
        "top_3_accuracy",
        "f1",
        "precision",
        "recall",
        "loss",
        "calibration_error",
    ];

    /// The figures in a fixed order.
    pub fn values(&self) -> [Option<f64>; 9] {
        let Self {
            accuracy,
            balanced_accuracy,
            auc,
            top_3_accuracy,
            f1,
            precision,
            recall,
            loss,
            calibration_error,
        } = *self;
        [
            accuracy,
            balanced_accuracy,
            auc,
            top_3_accuracy,
            f1,
            precision,
            recall,
            loss,
            calibration_error,
        ]
    }
}

/// Public records, prepared for the network of one plan.
pub struct Scorer {
    network: Network,
    subject: Subject,
    records: usize,
}

/// What is scored.
enum Subject {
    Examples(Examples),
    Entities(Entities),
    Relations(Examples, Pair),
}

/// Examples of records, one after the other.
struct Examples {
    /// 0 for a regression target.
    classes: usize,
    inputs: Vec<f32>,
    targets: Vec<Target>,
    /// How many each record has: its answer is their mean.
    counts: Vec<usize>,
}

/// Notes with what people marked.
struct Entities {
    reading: Reading,
    notes: Vec<Note>,
}

/// What scoring needs besides plan and data.
#[derive(Debug, Default, Clone, Copy)]
pub struct Means<'a> {
    /// Column of a table that is the label.
    pub target: Option<&'a str>,
    /// Folder of the public encoder that some plans ask for.
    pub encoder: Option<&'a Path>,
}

impl Scorer {
    /// Reads the data at a path as the plan's task needs it: images by class or an npz, a CSV
    /// whose column `target` is the label, or notes.
    ///
    /// # Errors
    /// Data that is missing, unreadable or of other classes than the plan's.
    pub fn open(plan: &Plan, path: &Path, part: Part, means: Means) -> Result<Self> {
        let source = source(plan, path, part, means.target)?;
        let set = data::read(&source, &plan.classes, None)?;
        Self::new(plan, &set, means.encoder).with_context(|| format!("reading {}", path.display()))
    }

    /// Prepares records that were read.
    ///
    /// # Errors
    /// A record that cannot be read, or does not fit the plan.
    pub fn new(plan: &Plan, set: &LabelledSet, encoder: Option<&Path>) -> Result<Self> {
        let examples = || Examples::new(plan, set, encoder);
        let subject = match (plan.task, &plan.pair) {
            (Task::EntityTagging, _) => Subject::Entities(Entities {
                reading: Reading::from_plan(plan, encoder)?,
                notes: set.notes().cloned().collect(),
            }),
            (Task::RelationExtraction, Some(pair)) => Subject::Relations(examples()?, pair.clone()),
            _ => Subject::Examples(examples()?),
        };
        Ok(Self {
            network: Network::from_plan(plan)?,
            subject,
            records: set.len(),
        })
    }

    /// Number of records.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Scores these weights.
    ///
    /// # Errors
    /// Weights of another network, or predictions that are no numbers.
    pub fn score(&self, weights: &ParameterVector) -> Result<Figures> {
        let weights = self.network.weights(weights.as_slice())?;
        match &self.subject {
            Subject::Entities(entities) => entities.score(&self.network, &weights),
            Subject::Relations(examples, pair) => {
                let predictions = self.network.predict(&weights, &examples.inputs)?;
                Ok(examples.relations(&predictions, pair.threshold))
            }
            Subject::Examples(examples) => {
                let predictions = self.network.predict(&weights, &examples.inputs)?;
                match examples.classes {
                    0 => Ok(examples.regression(&predictions)),
                    classes => examples.classification(&predictions, classes),
                }
            }
        }
    }
}

impl Entities {
    fn score(&self, network: &Network, weights: &Weights) -> Result<Figures> {
        let mut matches = Matches::default();
        let classes = self.reading.classes();
        for note in &self.notes {
            let Some(windows) = self.reading.windows(&note.text) else {
                continue;
            };
            let inputs: Vec<f32> = windows.inputs().flatten().collect();
            let outputs = network.predict(weights, &inputs)?;
            let found = self.reading.mentions(&windows, &outputs);
            let found = found
                .iter()
                .map(|mention| (mention.span, classes[mention.class].as_str()));
            let marked = note.entities.iter();
            let marked = marked
                .filter(|entity| classes.contains(&entity.kind))
                .map(|entity| (entity.span, entity.kind.as_str()));
            matches.merge(Matches::of(&found.collect(), &marked.collect()));
        }
        Ok(Figures::of(matches))
    }
}

impl Figures {
    /// Of things that were looked for.
    fn of(matches: Matches) -> Self {
        Self {
            f1: Some(matches.f1()),
            precision: Some(matches.precision()),
            recall: Some(matches.recall()),
            ..Self::default()
        }
    }
}

impl Examples {
    fn new(plan: &Plan, set: &LabelledSet, encoder: Option<&Path>) -> Result<Self> {
        let mut all = Self {
            classes: plan.classes.len(),
            inputs: Vec::new(),
            targets: Vec::new(),
            counts: Vec::with_capacity(set.len()),
        };
        for examples in set.examples(plan, encoder)? {
            let examples = examples?;
            all.counts.push(examples.len());
            for Example { input, target } in examples {
                all.inputs.extend(input);
                all.targets.push(target);
            }
        }
        Ok(all)
    }

    /// Of the pairs of all notes together. The first class says that there is no relation; of the others the
    /// likeliest one is found where its probability reaches the threshold.
    fn relations(&self, predictions: &[f32], threshold: f32) -> Figures {
        let mut matches = Matches::default();
        let rows = predictions.chunks(self.classes.max(1));
        for (row, target) in rows.zip(&self.targets) {
            let others = row.iter().enumerate().skip(1);
            let likeliest = others.max_by(|left, right| left.1.total_cmp(right.1));
            let found = likeliest
                .filter(|(_, probability)| **probability >= threshold)
                .map_or(0, |(class, _)| class);
            let Target::Class(marked) = *target else {
                continue;
            };
            if found == marked {
                matches.count(found > 0, marked > 0);
            } else {
                matches.count(found > 0, false);
                matches.count(false, marked > 0);
            }
        }
        Figures::of(matches)
    }

    fn classification(&self, predictions: &[f32], classes: usize) -> Result<Figures> {
        let mut evaluation = Evaluation::new(classes);
        let (mut labels, mut answers) = (Vec::new(), Vec::new());
        let mut rows = predictions.chunks(classes).zip(&self.targets);
        for &count in self.counts.iter().filter(|&&count| count > 0) {
            let mut mean = vec![0.0; classes];
            let mut label = None;
            for (row, target) in rows.by_ref().take(count) {
                let Target::Class(class) = *target else {
                    return refuse(
                        ErrorCode::Invalid,
                        "the data holds numbers where the plan has classes",
                    );
                };
                label = Some(class);
                let pairs = mean.iter_mut().zip(row);
                pairs.for_each(|(mean, value)| *mean += value / count as f32);
            }
            let Some(label) = label else { continue };
            // Means of probabilities may exceed 1 by rounding alone.
            mean.iter_mut().for_each(|value| *value = value.min(1.0));
            evaluation.add(&mean, label)?;
            labels.push(label);
            answers.extend(mean);
        }
        let scores = evaluation.scores();
        Ok(Figures {
            accuracy: Some(scores.accuracy),
            balanced_accuracy: Some(scores.balanced_accuracy),
            auc: exact_macro_auc(&answers, &labels, classes),
            top_3_accuracy: (classes > 3).then_some(scores.top_3_accuracy),
            f1: Some(scores.f1),
            loss: Some(scores.loss),
            calibration_error: Some(scores.calibration_error),
            ..Figures::default()
        })
    }

    fn regression(&self, predictions: &[f32]) -> Figures {
        let mut evaluation = RegressionEvaluation::default();
        for (estimate, target) in predictions.iter().zip(&self.targets) {
            if let Target::Value(value) = *target {
                evaluation.add(*estimate, value);
            }
        }
        let scores = evaluation.scores();
        Figures {
            loss: Some(scores.mean_squared_error),
            ..Figures::default()
        }
    }
}

/// What the plan's task reads at a path.
///
/// # Errors
/// Nothing is there, or a table comes without the name of its column of labels.
pub(crate) fn source(plan: &Plan, path: &Path, part: Part, target: Option<&str>) -> Result<Source> {
    if !path.exists() {
        return refuse(
            ErrorCode::Missing,
            format!("{} does not exist", path.display()),
        );
    }
    if plan.text.is_some() {
        return Ok(Source::Notes {
            path: path.to_owned(),
            annotations: None,
            fields: Fields::default(),
            is_deidentified: true,
        });
    }
    if plan.table.is_none() {
        // Published sets keep their pictures beside an archive of the same.
        let inner = path.join("png");
        return Ok(Source::detect(
            if inner.is_dir() { &inner } else { path },
            part,
        ));
    }
    match target {
        Some(target) => Ok(Source::Table {
            file: path.to_owned(),
            target: target.to_owned(),
            patient: None,
        }),
        None => refuse(
            ErrorCode::Invalid,
            "a table needs --target COLUMN: the column of labels",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"
        name = "x"
        task = "image-classification"
        data_set = "x"
        classes = ["dark", "light"]
        rounds = 1
        cohort = { size = 3 }
        image = { width = 28, height = 28 }
        network = { name = "cnn-small" }
        training = { steps = 1, batch_size = 1, learning_rate = 0.1 }
        privacy = { mode = "none" }
    "#;

    #[test]
    fn every_record_of_the_part_is_scored() {
        let plan = Plan::from_toml(PLAN).expect("a sound plan");
        let folder = tempfile::tempdir().expect("a folder");
        for (class, grey, images) in [("dark", 20, 3), ("light", 200, 2)] {
            let class = folder.path().join("val").join(class);
            std::fs::create_dir_all(&class).expect("a folder");
            for index in 0..images {
                let picture = image::GrayImage::from_pixel(28, 28, image::Luma([grey]));
                picture
                    .save(class.join(format!("{index}.png")))
                    .expect("a file");
            }
        }
        let scorer =
            Scorer::open(&plan, folder.path(), Part::Val, Means::default()).expect("a scorer");
        assert_eq!(scorer.records(), 5);
        let network = Network::from_plan(&plan).expect("a network");
        let figures = scorer.score(&network.initial(1)).expect("scores");
        // All pictures of a class are alike, so the two classes are in order or in reverse.
        let auc = figures.auc.expect("two classes");
        assert!([0.0, 0.5, 1.0].contains(&auc), "{auc}");
        let accuracy = figures.accuracy.expect("classes");
        assert!([0.0, 0.4, 0.6, 1.0].contains(&accuracy), "{accuracy}");
    }

    #[test]
    fn missing_data_and_foreign_classes_are_refused() {
        let plan = Plan::from_toml(PLAN).expect("a sound plan");
        let folder = tempfile::tempdir().expect("a folder");
        let missing = folder.path().join("none");
        assert!(Scorer::open(&plan, &missing, Part::Val, Means::default()).is_err());
        let class = folder.path().join("val/grey");
        std::fs::create_dir_all(&class).expect("a folder");
        image::GrayImage::new(28, 28)
            .save(class.join("1.png"))
            .expect("a file");
        assert!(Scorer::open(&plan, folder.path(), Part::Val, Means::default()).is_err());
    }
}
