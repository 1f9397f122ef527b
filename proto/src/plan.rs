//! What a researcher asks for: one study's plan, from TOML to checked types.
//!
//! A plan is read from TOML (or from its canonical JSON, which is what travels and is digested),
//! every field with unit, range and default. [`Plan::check`] refuses an unsound one with the field
//! and the reason, so whoever holds a [`Plan`] from [`Plan::from_toml`] or [`Plan::from_canonical`]
//! need not check again.

mod imaging;
mod network;
mod privacy;
mod report;
mod text;
mod training;
mod update_bound;

use std::time::Duration;

use consilium_privacy::secagg::{Limits, MAX_SITES};
use serde::{Deserialize, Serialize};

pub use self::{
    imaging::{Augmentation, Denoise, Flip, ImageInput},
    network::Network,
    privacy::{Clipping, DELTA_LIMIT, Guarantee, Mode, NoiseTarget, Privacy, Unit},
    report::{Figure, Report},
    text::{Pair, TextInput, Within},
    training::{Adaptive, Loss, Optimizer, Schedule, Strategy, Training},
};
use crate::{Digest, PlanDigest};

/// Why a plan is refused.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It is not a plan at all, or holds a field that plans do not have.
    #[error("the plan cannot be read: {0}")]
    Unreadable(String),
    /// A field holds what it must not.
    #[error("plan field `{field}`: {reason}")]
    Unsound {
        /// The field, with its table: `privacy.epsilon`.
        field: &'static str,
        /// What is wrong and what is allowed.
        reason: String,
    },
}

pub(crate) fn unsound<T>(field: &'static str, reason: impl ToString) -> Result<T, PlanError> {
    Err(PlanError::Unsound {
        field,
        reason: reason.to_string(),
    })
}

/// One federated training campaign, as its researcher asked for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What people call the study: 1 to 100 characters.
    pub name: String,
    /// What is learnt.
    pub task: Task,
    /// Name under which every site registered the data set to use.
    pub data_set: String,
    /// Classes in the order of the network's outputs: 2 to 1000, named uniquely. The last one is
    /// the positive class of two. Of a tagging task the kinds of entities, 1 or more; of relations the
    /// first one says that there is none. Empty for a regression target.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Fixes the initial weights and augmentation; never noise, never sampling.
    #[serde(default)]
    pub seed: u64,
    /// Number of rounds: 1 to 100 000.
    pub rounds: u32,
    /// Whether the coordinator learns only the sum of the updates. On unless switched off by name.
    #[serde(default = "on")]
    pub secure_aggregation: bool,
    /// Largest L2 norm of a site's update (U): above 0, at most 10⁹. A longer one is scaled down before
    /// it is masked. Default: computed from the plan, so generous that it is hardly ever reached
    /// ([`Self::update_bound`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_bound: Option<f64>,
    /// Width of the words that masked updates are made of: 32 or 64 bits. Default: 32; 64 doubles the upload
    /// and is for hundreds of sites with very different weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word_bits: Option<u32>,
    /// Which sites, how many of them, and how long to wait.
    pub cohort: Cohort,
    /// What enters the network when the task is about images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageInput>,
    /// What enters the network when the task is about rows of a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableInput>,
    /// What enters the network when the task is about notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextInput>,
    /// Between which entities relations are looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<Pair>,
    /// The network, by name, with its sizes.
    pub network: Network,
    /// What one site does in one round.
    pub training: Training,
    /// How the combined update moves the global model.
    #[serde(default)]
    pub strategy: Strategy,
    /// What protects the patients.
    pub privacy: Privacy,
    /// What sites tell about the model on their own patients. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

/// What a study learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// One class for each image.
    ImageClassification,
    /// One number for each image, mean squared error.
    ImageRegression,
    /// One class for each row of a table.
    TabularClassification,
    /// One class for each note.
    NoteClassification,
    /// Where entities stand in a note, and of which kind.
    EntityTagging,
    /// One class for each pair of entities of a note.
    RelationExtraction,
    /// One diagnosis for each patient, from facts in a table or from a note.
    Diagnosis,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ImageClassification,
        Self::ImageRegression,
        Self::TabularClassification,
        Self::NoteClassification,
        Self::EntityTagging,
        Self::RelationExtraction,
        Self::Diagnosis,
    ];

    /// Its name in a plan.
    pub fn name(self) -> &'static str {
        match self {
            Self::ImageClassification => "image-classification",
            Self::ImageRegression => "image-regression",
            Self::TabularClassification => "tabular-classification",
            Self::NoteClassification => "note-classification",
            Self::EntityTagging => "entity-tagging",
            Self::RelationExtraction => "relation-extraction",
            Self::Diagnosis => "diagnosis",
        }
    }
}

/// k of n: which sites take part in a round and how long they have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cohort {
    /// Sites drawn for each round (n): 1 to 10 000, at most as many as the roster has.
    pub size: u32,
    /// Updates that a round needs (k): 1 to `size`. Default: `size`.
    #[serde(default)]
    pub quorum: Option<u32>,
    /// Time from the draw to the last accepted update: 1 s to 30 d. Default: 1 h.
    #[serde(default = "one_hour", with = "humantime_serde")]
    pub deadline: Duration,
    /// Attempts at a round before the study stops and waits for its researcher: 1 to 100.
    #[serde(default = "five")]
    pub max_attempts: u32,
}

impl Cohort {
    /// Updates that a round needs.
    pub fn quorum(&self) -> u32 {
        self.quorum.unwrap_or(self.size)
    }
}

/// Columns of a table and the constants that bring them to a common scale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableInput {
    /// Columns in the order of the network's inputs: 1 to 10 000.
    pub columns: Vec<Column>,
}

/// One numeric column. A missing value becomes the `missing` constant, never a statistic of data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Name in the table's header.
    pub name: String,
    /// Subtracted first. Default: 0.
    #[serde(default)]
    pub mean: f32,
    /// Divided by second; above 0. Default: 1.
    #[serde(default = "one")]
    pub deviation: f32,
    /// What a missing value becomes, after scaling. Default: 0.
    #[serde(default)]
    pub missing: f32,
    /// What separates the bins of a network of counts, in the column's own unit: ascending, up to 255. A value
    /// on an edge lies above it; a missing one lies where its constant does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<f32>,
}

fn on() -> bool {
    true
}

fn one() -> f32 {
    1.0
}

fn five() -> u32 {
    5
}

fn one_hour() -> Duration {
    Duration::from_secs(3600)
}

impl Plan {
    /// Reads and checks a plan file.
    ///
    /// # Errors
    /// Unreadable TOML, an unknown or missing field, a value out of range.
    pub fn from_toml(text: &str) -> Result<Self, PlanError> {
        let plan: Self =
            toml::from_str(text).map_err(|error| PlanError::Unreadable(error.to_string()))?;
        plan.check()?;
        Ok(plan)
    }

    /// Reads and checks the bytes that [`Self::to_canonical`] writes.
    ///
    /// # Errors
    /// As [`Self::from_toml`].
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, PlanError> {
        let plan: Self = serde_json::from_slice(bytes)
            .map_err(|error| PlanError::Unreadable(error.to_string()))?;
        plan.check()?;
        Ok(plan)
    }

    /// The bytes that travel and are digested: JSON, fields in the order of this type, defaults
    /// written out.
    pub fn to_canonical(&self) -> Vec<u8> {
        // A plan holds strings, numbers and lists of them: JSON can write all of it.
        serde_json::to_vec(self).expect("a plan is representable in JSON")
    }

    /// Identity of the plan whose canonical bytes these are.
    pub fn digest_of(canonical: &[u8]) -> PlanDigest {
        PlanDigest(Digest::of("consilium/plan/1", &[canonical]))
    }

    /// Identity of this plan.
    pub fn digest(&self) -> PlanDigest {
        Self::digest_of(&self.to_canonical())
    }

    /// Width of the words that masked updates are made of, in bits.
    pub fn word_bits(&self) -> u32 {
        self.word_bits.unwrap_or(32)
    }

    /// Numbers that the network gives for each input, or for each word of one: one a class, one a tag, or
    /// one value.
    pub fn outputs(&self) -> usize {
        match self.task {
            // Outside of every entity; first and further words of each kind.
            Task::EntityTagging => 2 * self.classes.len() + 1,
            _ => self.classes.len().max(1),
        }
    }

    /// Refuses what cannot be sound, with the field and the reason.
    ///
    /// # Errors
    /// The first unsound field.
    pub fn check(&self) -> Result<(), PlanError> {
        if !(1..=100).contains(&self.name.chars().count()) || self.name.contains(char::is_control) {
            return unsound(
                "name",
                "must have 1 to 100 characters, none of them control characters",
            );
        }
        if !(1..=100).contains(&self.data_set.len()) {
            return unsound("data_set", "must have 1 to 100 bytes");
        }
        if !(1..=100_000).contains(&self.rounds) {
            return unsound(
                "rounds",
                format!("must be 1 to 100000, found {}", self.rounds),
            );
        }
        self.check_classes()?;
        self.check_cohort()?;
        self.check_secure_aggregation()?;
        self.check_input()?;
        self.check_text()?;
        self.training.check(self.task)?;
        self.strategy.check()?;
        self.check_network()?;
        self.privacy.check(self.training.batch_size)?;
        self.check_distributed()?;
        self.check_report()
    }

    fn check_classes(&self) -> Result<(), PlanError> {
        let classes = &self.classes;
        if self.task == Task::ImageRegression {
            return match classes.is_empty() {
                true => Ok(()),
                false => unsound("classes", "a regression target has none: leave it out"),
            };
        }
        let least = match self.task {
            Task::EntityTagging => 1,
            _ => 2,
        };
        if !(least..=1000).contains(&classes.len()) {
            let found = classes.len();
            return unsound(
                "classes",
                format!("must name {least} to 1000, found {found}"),
            );
        }
        let distinct: std::collections::HashSet<_> = classes.iter().collect();
        if distinct.len() != classes.len() || classes.iter().any(|name| name.trim().is_empty()) {
            return unsound("classes", "must be distinct and not empty");
        }
        Ok(())
    }

    fn check_cohort(&self) -> Result<(), PlanError> {
        let Cohort {
            size,
            deadline,
            max_attempts,
            ..
        } = self.cohort;
        let quorum = self.cohort.quorum();
        if !(1..=10_000).contains(&size) {
            return unsound("cohort.size", format!("must be 1 to 10000, found {size}"));
        }
        if !(1..=size).contains(&quorum) {
            let reason = format!("must be 1 to cohort.size ({size}), found {quorum}");
            return unsound("cohort.quorum", reason);
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(30 * 86_400)).contains(&deadline) {
            return unsound("cohort.deadline", "must be 1s to 30days");
        }
        if !(1..=100).contains(&max_attempts) {
            return unsound(
                "cohort.max_attempts",
                format!("must be 1 to 100, found {max_attempts}"),
            );
        }
        Ok(())
    }

    /// The least that any site could insist on; policies ask for more.
    fn check_secure_aggregation(&self) -> Result<(), PlanError> {
        if !self
            .update_bound
            .is_none_or(|bound| bound > 0.0 && bound <= 1e9)
        {
            return unsound("update_bound", "must be above 0 and at most 1e9");
        }
        if !matches!(self.word_bits(), 32 | 64) {
            return unsound(
                "word_bits",
                format!("must be 32 or 64, found {}", self.word_bits()),
            );
        }
        if !self.secure_aggregation {
            return Ok(());
        }
        let (size, quorum) = (self.cohort.size, self.cohort.quorum());
        if !(3..=MAX_SITES as u32).contains(&size) {
            let reason = format!(
                "must be 3 to {MAX_SITES} with secure aggregation, found {size}: of fewer sites each would \
                 know the others' sum; secure_aggregation = false shows each update to the coordinator"
            );
            return unsound("cohort.size", reason);
        }
        let least = Limits::LEAST.least_threshold(size as usize);
        if (quorum as usize) < least {
            let reason = format!(
                "must be {least} or more of {size} with secure aggregation, found {quorum}: with fewer, a \
                 coordinator that lies could open two sums"
            );
            return unsound("cohort.quorum", reason);
        }
        Ok(())
    }

    /// A sum of clipped gradients is what sites can add noise to together; anything beyond it is not.
    fn check_distributed(&self) -> Result<(), PlanError> {
        if self.privacy.mode != Mode::Distributed {
            return Ok(());
        }
        let says = |field, reason: &str| {
            unsound(
                field,
                format!("{reason} with privacy.mode = \"distributed\""),
            )
        };
        let Training {
            steps,
            optimizer,
            average_decay,
            ..
        } = self.training;
        if !self.secure_aggregation {
            return says("secure_aggregation", "must be on");
        }
        if self.privacy.noise_multiplier.is_none() {
            return says(
                "privacy.noise_multiplier",
                "is needed, the same for all sites,",
            );
        }
        if matches!(self.privacy.clipping, Clipping::Adaptive { .. }) {
            return says("privacy.clipping", "must not be adaptive");
        }
        if steps != 1 {
            return says("training.steps", "must be 1");
        }
        if optimizer != Optimizer::Sgd || average_decay != 0.0 {
            return says("training.optimizer", "must be plain SGD");
        }
        if self.cohort.max_attempts > 2 {
            return says("cohort.max_attempts", "must be 1 or 2");
        }
        if matches!(self.network, Network::Tree { depth } if depth > 1) {
            // A share of noise is on every level, and only the sum could be freed of it.
            return says("network.depth", "must be 1");
        }
        if self.noise_shares() < 2 {
            return says("cohort.quorum", "must leave two honest sites or more");
        }
        Ok(())
    }

    /// h: shares of the noise that are guaranteed to be in every sum of a distributed step. Of the quorum one
    /// site may work with the coordinator, from five sites on.
    pub fn noise_shares(&self) -> u32 {
        let colluding = u32::from(self.cohort.size >= 5);
        self.cohort.quorum().saturating_sub(colluding)
    }

    fn check_input(&self) -> Result<(), PlanError> {
        let (image, table, text) = (&self.image, &self.table, &self.text);
        match (self.task, image, table, text) {
            (Task::TabularClassification | Task::Diagnosis, None, Some(table), None) => {
                table.check()
            }
            (Task::TabularClassification, ..) => {
                unsound("table", "a tabular task needs [table] and nothing else")
            }
            (
                Task::NoteClassification
                | Task::EntityTagging
                | Task::RelationExtraction
                | Task::Diagnosis,
                None,
                None,
                Some(_),
            ) => Ok(()),
            (Task::Diagnosis, ..) => {
                unsound("table", "a diagnosis needs [table] or [text], one of them")
            }
            (Task::NoteClassification | Task::EntityTagging | Task::RelationExtraction, ..) => {
                unsound("text", "a task about notes needs [text] and nothing else")
            }
            (Task::ImageClassification | Task::ImageRegression, Some(image), None, None) => {
                image.check()
            }
            (Task::ImageClassification | Task::ImageRegression, ..) => {
                unsound("image", "an image task needs [image] and nothing else")
            }
        }
    }
}

impl TableInput {
    fn check(&self) -> Result<(), PlanError> {
        if !(1..=10_000).contains(&self.columns.len()) {
            return unsound("table.columns", "must list 1 to 10000 columns");
        }
        let mut seen = std::collections::HashSet::new();
        for column in &self.columns {
            let numbers = [column.mean, column.deviation, column.missing];
            if !seen.insert(&column.name) {
                return unsound(
                    "table.columns",
                    format!("{:?} is listed twice", column.name),
                );
            }
            if numbers.iter().any(|number| !number.is_finite()) || column.deviation <= 0.0 {
                let reason = format!("{:?} needs finite numbers and deviation > 0", column.name);
                return unsound("table.columns", reason);
            }
            let is_rising = column.edges.is_sorted_by(|left, right| left < right);
            let is_finite = column.edges.iter().all(|edge| edge.is_finite());
            if !is_rising || !is_finite || column.edges.len() > 255 {
                let reason = format!("{:?}: edges must be up to 255, rising", column.name);
                return unsound("table.columns", reason);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
