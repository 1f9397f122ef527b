//! What a trained model says of a patient, with the path by which it came to say so.
//!
//! A decision tree gives one step per node on the patient's path; an encoder's head gives none. Models are
//! heard beside rules and likelihoods in [`differential`](super::differential), never instead of them.

use std::fmt;

use consilium_proto::plan::Column;
use serde::{Deserialize, Serialize};

use crate::decision::{
    facts::Answer,
    tree::{Tree, Turn},
};

/// Which model speaks, so that its training can be looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelIdentity {
    /// What it is called.
    pub name: String,
    /// The study and round it comes from.
    pub version: String,
    /// SHA-256 of its weights, lower-case hexadecimal.
    pub sha256: String,
}

/// A probability: 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64")]
pub struct Probability(f64);

/// Why a number is no probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a probability lies from 0 to 1")]
pub struct NoProbability;

/// One class's share in what a model says of one patient. Patient data: its `Debug` names the model only.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opinion {
    /// Who says it.
    pub model: ModelIdentity,
    /// The condition's id in the knowledge files, or the class's name where there is none.
    pub condition: String,
    /// How probable the model holds it.
    pub probability: Probability,
    /// From the root of a tree down to its leaf; empty where a model has no path to show.
    pub path: Vec<Step>,
}

/// One question on the path of a tree. Patient data: its `Debug` says nothing.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What was asked, as a person reads it.
    pub question: String,
    /// The place of the fact that answered it in the list of facts; none where nothing was known.
    pub fact: Option<usize>,
    /// The answer that the path took. Unknown where the tree went on without one.
    pub outcome: Answer,
    /// What the value was compared with, in the unit that the question names.
    pub threshold: Option<f64>,
}

impl Opinion {
    /// What a tree says of a patient whose columns lie in these bins: one opinion a class, in the order of
    /// `classes`, all by the same path. `facts` has the place of the fact behind each column; a column without
    /// one was not known, and the tree went the way of the plan's constant for missing values.
    pub fn of_tree(
        model: &ModelIdentity,
        tree: &Tree,
        classes: &[String],
        columns: &[Column],
        bins: &[usize],
        facts: &[Option<usize>],
    ) -> Vec<Self> {
        let (turns, _) = tree.path(bins);
        let steps = turns
            .iter()
            .filter_map(|turn| Step::of(*turn, columns, facts));
        let path: Vec<Step> = steps.collect();
        let probabilities = tree.probabilities(bins);
        let opinion = |(class, probability): (&String, f64)| Self {
            model: model.clone(),
            condition: class.clone(),
            probability: Probability(probability.clamp(0.0, 1.0)),
            path: path.clone(),
        };
        classes.iter().zip(probabilities).map(opinion).collect()
    }
}

impl Step {
    /// None where the turn is about a column or an edge that is not there.
    fn of(turn: Turn, columns: &[Column], facts: &[Option<usize>]) -> Option<Self> {
        let column = columns.get(turn.split.column)?;
        let threshold = *column.edges.get(turn.split.bin)?;
        let fact = facts.get(turn.split.column).copied().flatten();
        Some(Self {
            question: format!("{}: {threshold} or above?", column.name),
            fact,
            outcome: match (fact, turn.is_above) {
                (None, _) => Answer::Unknown,
                (Some(_), true) => Answer::Yes,
                (Some(_), false) => Answer::No,
            },
            threshold: Some(f64::from(threshold)),
        })
    }
}

impl Probability {
    /// The number.
    pub fn number(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Probability {
    type Error = NoProbability;

    fn try_from(number: f64) -> Result<Self, NoProbability> {
        if (0.0..=1.0).contains(&number) {
            Ok(Self(number))
        } else {
            Err(NoProbability)
        }
    }
}

impl fmt::Debug for Opinion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opinion({})", self.model.name)
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Step")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::tree::Shape;

    #[test]
    fn what_is_no_probability_is_refused() {
        for number in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Probability::try_from(number), Err(NoProbability));
        }
        assert!(serde_json::from_str::<Probability>("1.5").is_err());
        assert_eq!(
            Probability::try_from(0.25).map(Probability::number),
            Ok(0.25)
        );
    }

    #[test]
    fn debug_output_tells_nothing_of_the_patient() {
        let opinion = Opinion {
            model: ModelIdentity {
                name: "tree".into(),
                version: "1".into(),
                sha256: "00".into(),
            },
            condition: "condition.secret".into(),
            probability: Probability(0.5),
            path: vec![Step {
                question: "secret?".into(),
                fact: Some(0),
                outcome: Answer::Yes,
                threshold: None,
            }],
        };
        let shown = format!("{opinion:?} {:?}", opinion.path);
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_tree_says_by_which_edges_it_came_to_its_classes() {
        let column = |name: &str, edges: &[f32]| Column {
            name: name.into(),
            mean: 50.0,
            deviation: 10.0,
            missing: 0.0,
            edges: edges.to_vec(),
        };
        let columns = [column("fever", &[0.5]), column("age", &[18.0, 65.0])];
        let shape = Shape {
            columns: 2,
            bins: 3,
            classes: 2,
        };
        // All with and without fever are alike; 30 above 65 are ill, 30 in either bin below are not.
        let histogram = vec![
            30.0, 15.0, 30.0, 15.0, 0.0, 0.0, 30.0, 0.0, 30.0, 0.0, 0.0, 30.0,
        ];
        let tree = Tree::grow(shape, &[histogram]);
        let model = ModelIdentity {
            name: "tree".into(),
            version: "1".into(),
            sha256: "00".into(),
        };
        let classes = ["well", "ill"].map(str::to_owned);
        let opinions = |facts| Opinion::of_tree(&model, &tree, &classes, &columns, &[1, 2], facts);
        let [well, ill] = &opinions(&[None, Some(7)])[..] else {
            panic!("two classes");
        };
        assert_eq!(
            (well.condition.as_str(), ill.condition.as_str()),
            ("well", "ill")
        );
        assert!((ill.probability.number() - 31.0 / 32.0).abs() < 1e-12);
        assert!((well.probability.number() - 1.0 / 32.0).abs() < 1e-12);
        let step = Step {
            question: "age: 65 or above?".into(),
            fact: Some(7),
            outcome: Answer::Yes,
            threshold: Some(65.0),
        };
        assert!(ill.path == [step.clone()] && well.path == [step.clone()]);
        let unknown = Step {
            fact: None,
            outcome: Answer::Unknown,
            ..step
        };
        assert!(opinions(&[None, None])[1].path == [unknown]);
    }
}
