//! Scores of a version on public data, which is the researcher's own: nothing here is charged.

use std::path::Path;

use anyhow::{Context as _, Result};
use consilium_agent::data::{self, LabelledSet, Part, Source};
use consilium_models::{
    evaluation::{Evaluation, RegressionEvaluation, exact_macro_auc},
    network::{Network, Target},
};
use consilium_proto::{ErrorCode, ParameterVector, Plan, plan::Task};
use serde::Serialize;

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
    /// F1 of the positive class of two, else the mean over classes.
    pub f1: Option<f64>,
    /// Mean cross-entropy in nats, or mean squared error.
    pub loss: Option<f64>,
    /// Expected calibration error of the predicted class.
    pub calibration_error: Option<f64>,
}

impl Figures {
    /// Names of the figures, in the order of [`Self::values`].
    pub const NAMES: [&'static str; 6] = [
        "accuracy",
        "balanced_accuracy",
        "auc",
        "f1",
        "loss",
        "calibration_error",
    ];

    /// The figures in a fixed order.
    pub fn values(&self) -> [Option<f64>; 6] {
        let Self {
            accuracy,
            balanced_accuracy,
            auc,
            f1,
            loss,
            calibration_error,
        } = *self;
        [
            accuracy,
            balanced_accuracy,
            auc,
            f1,
            loss,
            calibration_error,
        ]
    }
}

/// Public records, prepared for the network of one plan.
pub struct Scorer {
    network: Network,
    /// 0 for a regression target.
    classes: usize,
    /// Prepared records, one after the other.
    inputs: Vec<f32>,
    targets: Vec<Target>,
}

impl Scorer {
    /// Reads the data at a path as the plan's task needs it: images by class or an npz, or a CSV
    /// whose column `target` is the label.
    ///
    /// # Errors
    /// Data that is missing, unreadable or of other classes than the plan's.
    pub fn open(plan: &Plan, path: &Path, part: Part, target: Option<&str>) -> Result<Self> {
        let source = source(plan, path, part, target)?;
        let set = data::read(&source, &plan.classes, None)?;
        Self::new(plan, &set).with_context(|| format!("reading {}", path.display()))
    }

    /// Prepares records that were read.
    ///
    /// # Errors
    /// A record that cannot be read, or does not fit the plan.
    pub fn new(plan: &Plan, set: &LabelledSet) -> Result<Self> {
        let network = Network::from_plan(plan)?;
        let mut inputs = Vec::new();
        let mut targets = Vec::with_capacity(set.len());
        for example in set.examples(plan)? {
            let (input, target) = example?;
            inputs.extend(input);
            targets.push(target);
        }
        Ok(Self {
            network,
            classes: plan.classes.len(),
            inputs,
            targets,
        })
    }

    /// Number of records.
    pub fn records(&self) -> usize {
        self.targets.len()
    }

    /// Scores these weights.
    ///
    /// # Errors
    /// Weights of another network, or predictions that are no numbers.
    pub fn score(&self, weights: &ParameterVector) -> Result<Figures> {
        let weights = self.network.weights(weights.as_slice())?;
        let predictions = self.network.predict(&weights, &self.inputs)?;
        match self.classes {
            0 => Ok(self.regression(&predictions)),
            classes => self.classification(&predictions, classes),
        }
    }

    fn classification(&self, predictions: &[f32], classes: usize) -> Result<Figures> {
        let mut evaluation = Evaluation::new(classes);
        let mut labels = Vec::with_capacity(self.targets.len());
        for (probabilities, target) in predictions.chunks(classes).zip(&self.targets) {
            let Target::Class(label) = *target else {
                return refuse(
                    ErrorCode::Invalid,
                    "the data holds numbers where the plan has classes",
                );
            };
            evaluation.add(probabilities, label)?;
            labels.push(label);
        }
        let scores = evaluation.scores();
        Ok(Figures {
            accuracy: Some(scores.accuracy),
            balanced_accuracy: Some(scores.balanced_accuracy),
            auc: exact_macro_auc(predictions, &labels, classes),
            f1: Some(scores.f1),
            loss: Some(scores.loss),
            calibration_error: Some(scores.calibration_error),
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
    if plan.task != Task::TabularClassification {
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
        let scorer = Scorer::open(&plan, folder.path(), Part::Val, None).expect("a scorer");
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
        assert!(Scorer::open(&plan, &missing, Part::Val, None).is_err());
        let class = folder.path().join("val/grey");
        std::fs::create_dir_all(&class).expect("a folder");
        image::GrayImage::new(28, 28)
            .save(class.join("1.png"))
            .expect("a file");
        assert!(Scorer::open(&plan, folder.path(), Part::Val, None).is_err());
    }
}
