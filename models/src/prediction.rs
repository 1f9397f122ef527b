//! What a trained image model says of one picture: how sure it is, whether it knows such pictures, and why.
//!
//! | module | what lives there |
//! |---|---|
//! | [`temperature`] | probabilities that mean what they say |
//! | [`conformal`] | sets of classes that hold the true one as often as asked |
//! | [`familiarity`] | whether a picture is like known ones |
//! | [`explanation`] | where in the picture a class comes from, and whether that is so |
//! | [`overlay`] | a heat map over its picture |
//!
//! What is fitted is fitted on a hospital's own records and stays there: nothing of it is charged, and what is
//! shown outside the hospital is not covered by ε where it uses it.

pub mod conformal;
pub mod explanation;
pub mod familiarity;
pub mod overlay;
pub mod temperature;

use consilium_proto::{OutOfRange, Plan, plan::Task};
use serde::{Deserialize, Serialize};

use self::{conformal::Conformal, familiarity::Familiarity, temperature::Temperature};
use crate::{
    imaging::{Picture, Preprocess},
    network::{Network, NetworkError, Weights},
    released::{ModelIdentity, Released},
};

/// Fewest records that a calibration is made of.
pub const FEWEST: usize = 40;

/// A share of records: above 0, below 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Share(f64);

impl TryFrom<f64> for Share {
    type Error = OutOfRange;
    fn try_from(value: f64) -> Result<Self, OutOfRange> {
        match value > 0.0 && value < 1.0 {
            true => Ok(Self(value)),
            false => Err(OutOfRange::new("share", "above 0 and below 1", value)),
        }
    }
}

impl From<Share> for f64 {
    fn from(share: Share) -> f64 {
        share.0
    }
}

impl Share {
    /// As a number.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// A trained image model, ready to look at pictures. Computes on the CPU.
pub struct ImageModel {
    identity: ModelIdentity,
    classes: Vec<String>,
    preprocess: Preprocess,
    network: Network,
    weights: Weights,
}

/// Why an image model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PredictionError {
    /// A plan for something else.
    #[error("the plan's task is `{0}`: only `image-classification` looks at pictures for classes")]
    OtherTask(&'static str),
    /// Weights that do not fit the plan, or a network that fails.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The model's answer is no number: its weights have diverged.
    #[error("the model's answer is no number: its weights have diverged")]
    NoNumber,
    /// Too few records to calibrate on.
    #[error("a calibration takes {FEWEST} records or more, found {0}")]
    TooFew(usize),
}

/// What a hospital knows of a model from records of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// What logits are divided by.
    pub temperature: Temperature,
    /// Which classes belong to a set.
    pub conformal: Conformal,
    /// What known pictures are like.
    pub familiarity: Familiarity,
}

/// A calibration with the model that it is of, as a hospital keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationFile {
    /// SHA-256 of the model's file of weights, lower-case hexadecimal.
    pub model_sha256: String,
    /// Records that it was learnt from.
    pub records: usize,
    /// What was learnt.
    pub calibration: Calibration,
}

/// How often things may happen that a calibration allows for.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// That the true class is not in the set. Usually 0.1.
    pub error: Share,
    /// That a known picture counts as unlike. Usually 0.01.
    pub alarm: Share,
}

/// A class with its probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassProbability {
    /// As the plan names it.
    pub class: String,
    /// 0 to 1.
    pub probability: f32,
}

/// What a model says of a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImagePrediction {
    /// All classes of the plan, the likeliest first.
    pub classes: Vec<ClassProbability>,
    /// Whether the probabilities were calibrated on records of this hospital.
    pub is_calibrated: bool,
    /// Classes that belong to the set at the chosen error rate; none without a calibration.
    pub set: Option<Vec<String>>,
    /// Whether the picture is unlike those the model was checked on; none without a calibration.
    pub is_unlike_known: Option<bool>,
}

impl ImagePrediction {
    /// The likeliest class.
    pub fn likeliest(&self) -> Option<&ClassProbability> {
        self.classes.first()
    }
}

impl ImageModel {
    /// Makes a released model ready.
    ///
    /// # Errors
    /// A plan for something else than classes of pictures, weights that do not fit it.
    pub fn new(released: &Released) -> Result<Self, PredictionError> {
        let plan: &Plan = released.plan();
        let image = plan.image.as_ref();
        let (Task::ImageClassification, Some(image)) = (plan.task, image) else {
            return Err(PredictionError::OtherTask(plan.task.name()));
        };
        let network = Network::from_plan(plan)?;
        Ok(Self {
            identity: released.identity().clone(),
            classes: plan.classes.clone(),
            preprocess: Preprocess::from_plan(image),
            weights: network.weights(released.weights().as_slice())?,
            network,
        })
    }

    /// Which model it is.
    pub fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    /// The classes, as the plan lists them.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// What the network takes of a picture.
    pub fn input(&self, picture: &Picture) -> Vec<f32> {
        self.preprocess.prepare(picture)
    }

    /// Probabilities of pictures as they come out of the network: `[pictures][classes]`. `inputs` are theirs.
    ///
    /// # Errors
    /// A network that fails, weights that have diverged.
    pub fn probabilities(&self, inputs: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, PredictionError> {
        let outputs = self.network.predict(&self.weights, &inputs.concat())?;
        if outputs.iter().any(|p| !p.is_finite()) {
            return Err(PredictionError::NoNumber);
        }
        let rows = outputs.chunks(self.classes.len().max(1));
        Ok(rows.map(<[f32]>::to_vec).collect())
    }

    /// What the model says of a picture. `input` is [its](Self::input).
    ///
    /// # Errors
    /// A network that fails, weights that have diverged.
    pub fn predict(
        &self,
        input: &[f32],
        calibration: Option<&Calibration>,
    ) -> Result<ImagePrediction, PredictionError> {
        let probabilities = self.probabilities(&[input.to_vec()])?.concat();
        self.judge(input, &probabilities, calibration)
    }

    /// What probabilities that came out of the network say, with what this hospital knows of the model.
    ///
    /// # Errors
    /// A network that fails.
    pub fn judge(
        &self,
        input: &[f32],
        probabilities: &[f32],
        calibration: Option<&Calibration>,
    ) -> Result<ImagePrediction, PredictionError> {
        let temperature = calibration.map_or(Temperature::ONE, |known| known.temperature);
        let probabilities = temperature.apply(probabilities);
        let name = |class: usize| self.classes.get(class).cloned().unwrap_or_default();
        let (set, is_unlike_known) = match calibration {
            Some(known) => {
                let set = known.conformal.set(&probabilities);
                let features = self.features(input)?;
                let is_unlike = known.familiarity.is_unlike(&features);
                (Some(set.into_iter().map(name).collect()), Some(is_unlike))
            }
            None => (None, None),
        };
        let mut classes: Vec<ClassProbability> = (0..self.classes.len())
            .zip(probabilities)
            .map(|(class, probability)| ClassProbability {
                class: name(class),
                probability,
            })
            .collect();
        classes.sort_by(|one, other| other.probability.total_cmp(&one.probability));
        Ok(ImagePrediction {
            classes,
            is_calibrated: calibration.is_some(),
            set,
            is_unlike_known,
        })
    }

    /// Learns from a hospital's own records how far to trust the model. The first half of them sets the
    /// temperature and what is usual, the other the thresholds, so that what they promise holds: the caller
    /// sees to it that their order means nothing, and that the model was not trained on them.
    ///
    /// # Errors
    /// Too few records, a label that is no class, a network that fails.
    pub fn calibrate(
        &self,
        records: &[(Vec<f32>, usize)],
        rates: Rates,
    ) -> Result<Calibration, PredictionError> {
        if records.len() < FEWEST {
            return Err(PredictionError::TooFew(records.len()));
        }
        if records
            .iter()
            .any(|&(_, label)| label >= self.classes.len())
        {
            let expected = format!("a class below {}", self.classes.len());
            return Err(NetworkError::Target { expected }.into());
        }
        let mut rows = Vec::with_capacity(records.len());
        for records in records.chunks(AT_ONCE) {
            let inputs: Vec<Vec<f32>> = records.iter().map(|(input, _)| input.clone()).collect();
            rows.extend(self.probabilities(&inputs)?);
        }
        let labels: Vec<usize> = records.iter().map(|&(_, label)| label).collect();
        let features = records.iter().map(|(input, _)| self.features(input));
        let features = features.collect::<Result<Vec<_>, _>>()?;
        let half = records.len() / 2;
        let temperature = Temperature::fit(&rows[..half], &labels[..half]);
        let scaled: Vec<Vec<f32>> = rows[half..]
            .iter()
            .map(|row| temperature.apply(row))
            .collect();
        Ok(Calibration {
            temperature,
            conformal: Conformal::fit(&scaled, &labels[half..], rates.error),
            familiarity: Familiarity::fit(&features[..half], &features[half..], rates.alarm),
        })
    }

    /// Numbers that say what a picture is like.
    fn features(&self, input: &[f32]) -> Result<Vec<f32>, PredictionError> {
        let count = input.len().max(1) as f32;
        let mean = input.iter().sum::<f32>() / count;
        let spread = input
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f32>()
            / count;
        let steps = input.windows(2).map(|pair| (pair[1] - pair[0]).abs());
        let sharpness = steps.sum::<f32>() / count;
        let mut features = vec![mean, spread.sqrt(), sharpness];
        features.extend(self.network.map_means(&self.weights, input)?);
        Ok(features)
    }
}

/// Pictures that are given to a network at once while a calibration is made.
const AT_ONCE: usize = 64;

#[cfg(test)]
mod tests;
