//! What a table of likelihoods says of one patient.

use std::collections::BTreeSet;

use super::{
    super::{
        evidence_table::{EvidenceTable, TableError},
        layout::{Answers, Layout, Question},
    },
    LikelihoodTable, Listed,
};

/// The name under which what is in no table is listed.
pub const NONE_OF_THESE: &str = "none of these";

/// What a table says of one patient. Patient data: it has no `Debug`.
#[derive(Clone)]
pub struct Weighed<'t> {
    pub(super) table: &'t LikelihoodTable,
    /// Log weights of the conditions.
    pub(super) log: Vec<f64>,
    pub(super) arguments: Vec<Argument<'t>>,
    /// Conditions and their groups of which a figure was heard.
    pub(super) spoken: BTreeSet<(u32, u32)>,
    pub(super) unknown: Vec<String>,
}

/// One finding's say on one condition.
#[derive(Clone, Copy, PartialEq)]
pub struct Argument<'t> {
    /// The place of the condition.
    pub condition: usize,
    /// What was looked for.
    pub finding: &'t str,
    /// Whether it is there.
    pub is_present: bool,
    /// By what the odds are multiplied: above 1 for, below 1 against.
    pub ratio: f64,
    /// Whether it counts; not so where another finding of its group says more.
    pub is_counted: bool,
    /// Where the figure comes from.
    pub source: &'t str,
}

impl<'t> Weighed<'t> {
    /// P(condition | findings), by condition of the table. What is missing to 1 is [`Weighed::none_of_these`].
    pub fn probabilities(&self) -> Vec<f64> {
        let (most, sum) = self.scale();
        self.log
            .iter()
            .map(|log| (log - most).exp() / sum)
            .collect()
    }

    /// The probability that none of the table's conditions is it.
    pub fn none_of_these(&self) -> f64 {
        let (most, sum) = self.scale();
        (self.table.none.ln() - most).exp() / sum
    }

    /// Log weights by condition, and of "none of these": probabilities up to one factor.
    pub fn log_weights(&self) -> (&[f64], f64) {
        (&self.log, self.table.none.ln())
    }

    /// A table of evidence over these conditions and "none of these", which comes last, to choose the next
    /// question from.
    ///
    /// `probabilities` are those of now, by condition of this table; what the chosen ones leave over belongs to
    /// "none of these". `costs` names the questions: every finding that may be asked, and what it costs. The
    /// probability of a finding under a condition is its ratio × its background frequency; where its group has
    /// spoken already, it is the background frequency, as the finding would say little new.
    ///
    /// # Errors
    /// Conditions or findings that are there twice, costs that are none, probabilities that are none.
    pub fn evidence(
        &self,
        conditions: &[usize],
        probabilities: &[f64],
        costs: &[(String, f64)],
    ) -> Result<EvidenceTable, TableError> {
        let table = self.table;
        let asked: Vec<(usize, &(String, f64))> = costs
            .iter()
            .filter_map(|cost| Some((*table.places.get(&cost.0)?, cost)))
            .collect();
        let chosen: Vec<(usize, &Listed)> = conditions
            .iter()
            .filter_map(|&place| Some((place, table.conditions.get(place)?)))
            .collect();
        let questions = asked.iter().map(|(_, (id, cost))| Question {
            id: id.clone(),
            text: id.clone(),
            answers: Answers::YesNo,
            after: None,
            cost: *cost,
        });
        let mut names: Vec<String> = chosen.iter().map(|(_, listed)| listed.id.clone()).collect();
        names.push(NONE_OF_THESE.to_owned());
        let layout = Layout::new(names, questions.collect())?;

        let mut prior: Vec<f64> = chosen
            .iter()
            .map(|(place, _)| probabilities.get(*place).copied().unwrap_or(0.0))
            .collect();
        prior.push((1.0 - prior.iter().sum::<f64>()).max(0.0));
        let mut likelihood = Vec::with_capacity(prior.len() * asked.len());
        for (condition, _) in &chosen {
            likelihood.extend(
                asked
                    .iter()
                    .map(|(finding, _)| self.frequency(*finding, *condition)),
            );
        }
        likelihood.extend(
            asked
                .iter()
                .map(|(finding, _)| table.findings[*finding].background),
        );
        EvidenceTable::new(layout, &prior, &likelihood)
    }

    /// Every figure that was looked at, by condition.
    pub fn arguments(&self) -> &[Argument<'t>] {
        &self.arguments
    }

    /// The findings that the table does not know.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// The places of the most probable conditions, the first of equals first.
    pub fn ranking(&self) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.log.len()).collect();
        places.sort_by(|&a, &b| self.log[b].total_cmp(&self.log[a]));
        places
    }

    /// How often a finding is there under a condition, as far as the ratios say.
    fn frequency(&self, finding: usize, condition: usize) -> f64 {
        let background = self.table.findings[finding].background;
        let row = self.table.row(finding);
        let figure = row
            .binary_search_by_key(&condition, |figure| figure.condition as usize)
            .ok()
            .map(|at| row[at])
            .filter(|figure| !self.spoken.contains(&(figure.condition, figure.group)));
        let frequency = match figure {
            Some(figure) if figure.present != 1.0 => figure.present * background,
            Some(figure) => 1.0 - figure.absent * (1.0 - background),
            None => background,
        };
        frequency.clamp(0.0, 1.0)
    }

    fn scale(&self) -> (f64, f64) {
        let none = self.table.none.ln();
        let most = self.log.iter().copied().fold(none, f64::max);
        let sum = self.log.iter().map(|log| (log - most).exp()).sum::<f64>();
        (most, sum + (none - most).exp())
    }
}
