//! How soon a naive-bayes model finds a patient's class by asking: from what is known at the start, then one
//! question at a time, the one that tells most ([`ask`]).

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result};
use consilium_agent::data::{self, LabelledSet, Part, Source};
use consilium_models::{
    decision::diagnosis::{
        layout::Reply,
        question::{Belief, ask},
    },
    network::{Network, Target},
    text::Example,
};
use consilium_proto::{ErrorCode, ParameterVector, Plan, plan};

use super::{Means, source};
use crate::failure::refuse;

/// What is asked, and what is known before.
#[derive(Debug, Clone, Copy)]
pub struct Questions<'a> {
    /// Most questions.
    pub most: usize,
    /// Columns that are known of everyone.
    pub known: &'a [String],
    /// Column that names, row by row, one more column that is known: what the patient came with.
    pub complaint: Option<&'a str>,
}

/// Patients to be asked.
pub struct Interview {
    network: Network,
    most: usize,
    patients: Vec<Patient>,
}

struct Patient {
    class: usize,
    /// Of each column.
    bins: Vec<usize>,
    /// Places of columns.
    known: BTreeSet<usize>,
}

impl Interview {
    /// Reads patients from a table.
    ///
    /// # Errors
    /// A plan of another network, a column that is not there, a table that is no source of its classes.
    pub fn open(plan: &Plan, path: &Path, means: Means, questions: Questions) -> Result<Self> {
        let (plan::Network::NaiveBayes { .. }, Some(table)) = (&plan.network, &plan.table) else {
            let message = "questions are asked of the network `naive-bayes` alone";
            return refuse(ErrorCode::Precondition, message);
        };
        let names: Vec<String> = table
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        let mut known = BTreeSet::new();
        for column in questions.known {
            let Some(place) = names.iter().position(|name| name == column) else {
                let message = format!("the plan has no column {column:?} that could be known");
                return refuse(ErrorCode::Invalid, message);
            };
            known.insert(place);
        }
        let rows = source(plan, path, Part::Test, means.target)?;
        let rows = examples(plan, &data::read(&rows, &plan.classes, None)?)?;
        let complaints = match questions.complaint {
            Some(column) => {
                // A column of names of columns is read as labels are.
                let named = Source::Table {
                    file: path.to_owned(),
                    target: column.to_owned(),
                    patient: None,
                };
                let as_classes = Plan {
                    classes: names.clone(),
                    ..plan.clone()
                };
                let named = data::read(&named, &names, None)?;
                let named = examples(&as_classes, &named)?.into_iter();
                named.map(|(_, place)| Some(place)).collect()
            }
            None => vec![None; rows.len()],
        };
        let network = Network::from_plan(plan)?;
        let patient = |((input, class), complaint): ((Vec<f32>, usize), Option<usize>)| {
            let mut known = known.clone();
            known.extend(complaint);
            let bins = network.bins(&input).context("no network of counts")?;
            Ok(Patient { class, bins, known })
        };
        Ok(Self {
            patients: rows
                .into_iter()
                .zip(complaints)
                .map(patient)
                .collect::<Result<_>>()?,
            network,
            most: questions.most,
        })
    }

    /// Accuracy of the most probable class after 0, 1, … questions. A patient of whom no further question would
    /// tell anything keeps the last answer.
    ///
    /// # Errors
    /// Weights of another network, or that know no class.
    pub fn accuracies(&self, weights: &ParameterVector) -> Result<Vec<f64>> {
        let weights = self.network.weights(weights.as_slice())?;
        let table = self.network.evidence_table(&weights, &[])?;
        let table = table.context("no network whose answers have probabilities")?;
        let mut right = vec![0_usize; self.most + 1];
        for Patient { class, bins, known } in &self.patients {
            let questions = table.layout().questions().iter().zip(bins);
            let replies: Vec<Reply> = questions
                .map(|(question, &bin)| Reply::of_bin(&question.answers, bin))
                .collect();
            let mut belief = Belief::new(&table);
            for &place in known {
                belief.learn(place, &replies[place])?;
            }
            let mut top = belief.top().0;
            right[0] += usize::from(top == *class);
            let turns = ask(&mut belief, self.most, |place, _| {
                replies.get(place).cloned()
            })?;
            for (at, right) in right.iter_mut().skip(1).enumerate() {
                top = turns.get(at).map_or(top, |turn| turn.top);
                *right += usize::from(top == *class);
            }
        }
        let patients = self.patients.len().max(1) as f64;
        Ok(right
            .into_iter()
            .map(|right| right as f64 / patients)
            .collect())
    }
}

/// What enters the network, and the place of the label, of each row.
fn examples(plan: &Plan, set: &LabelledSet) -> Result<Vec<(Vec<f32>, usize)>> {
    let mut rows = Vec::with_capacity(set.len());
    for examples in set.examples(plan, None)? {
        for Example { input, target } in examples? {
            if let Target::Class(class) = target {
                rows.push((input, class));
            }
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::{Records, Simulation};
    use consilium_models::training::StopFlag;

    /// Fever tells flu from the rest, and a rash measles from a cold; a cough tells little.
    const TABLE: &str = "illness,cough,fever,rash,came with\n\
                         flu,1,1,0,cough\nflu,0,1,0,fever\n\
                         cold,1,0,0,cough\ncold,1,0,0,cough\n\
                         measles,1,0,1,cough\nmeasles,0,0,1,rash\n";

    fn plan() -> Plan {
        let text = r#"
            name = "x"
            task = "diagnosis"
            data_set = "x"
            classes = ["flu", "cold", "measles"]
            rounds = 1
            secure_aggregation = false
            cohort = { size = 1 }
            table.columns = [
                { name = "cough", edges = [0.5] },
                { name = "fever", edges = [0.5] },
                { name = "rash", edges = [0.5] },
            ]
            network = { name = "naive-bayes", most = 3 }
            training = { steps = 1, batch_size = 64, learning_rate = 1.0 }
            strategy = { name = "sum" }
            privacy = { mode = "none" }
        "#;
        Plan::from_toml(text).expect("a sound plan")
    }

    fn accuracies(known: &[String], complaint: Option<&str>) -> Result<Vec<f64>> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("table.csv");
        std::fs::write(&file, TABLE)?;
        let plan = plan();
        let means = Means {
            target: Some("illness"),
            encoder: None,
        };
        let rows = source(&plan, &file, Part::Test, means.target)?;
        let rows = data::read(&rows, &plan.classes, None)?;
        let mut study = Simulation::new(&plan, vec![Records::new(&plan, &rows, None)?], None)?;
        study.next(&StopFlag::default())?;
        let questions = Questions {
            most: 3,
            known,
            complaint,
        };
        Interview::open(&plan, &file, means, questions)?.accuracies(study.weights())
    }

    #[test]
    fn two_questions_tell_three_illnesses_apart_and_a_third_changes_nothing() {
        let shares = accuracies(&[], None).expect("scores");
        assert_eq!(shares.len(), 4);
        assert_eq!((shares[0], shares[2], shares[3]), (2.0 / 6.0, 1.0, 1.0));
    }

    #[test]
    fn what_is_known_and_what_patients_came_with_comes_before_the_first_question() {
        let known = ["fever".to_owned(), "rash".to_owned()];
        assert_eq!(accuracies(&known, None).expect("scores"), [1.0; 4]);
        // A fever and a rash find their illness, and a cough is taken for a cold.
        let shares = accuracies(&[], Some("came with")).expect("scores");
        assert_eq!((shares[0], shares[3]), (4.0 / 6.0, 1.0));
    }

    #[test]
    fn columns_that_are_not_there_are_refused() {
        let message = |known: &[String], complaint| {
            let error = accuracies(known, complaint).expect_err("no such column");
            format!("{error:#}")
        };
        assert!(message(&["age".to_owned()], None).contains("\"age\""));
        assert!(message(&[], Some("age")).contains("\"age\""));
    }
}
