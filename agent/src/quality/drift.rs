//! New data against a summary of older data, figure by figure.
//!
//! A [`Summary`] is one histogram for each figure of the records, with edges that stay. Two summaries
//! with the same edges are compared in two ways:
//!
//! - population stability index, Σ (q - p) ln(q / p) over the cells, the one for what is missing among
//!   them. From 0.1 a shift is worth a look, from 0.25 it is large (Lewis 1994 and Siddiqi 2006, for
//!   credit scores: a convention, no theorem). Where few records make it large by chance, that is
//!   known: it is then near (1/n + 1/m) χ² of cells - 1 degrees of freedom (Yurdakul and Naranjo 2020).
//! - two-sample Kolmogorov-Smirnov distance at the edges: never above that of the figures themselves,
//!   so its p-value errs towards no drift. The p-value is Stephens' (1970).
//!
//! Both take records for independent; several of one patient are not, and make drift look surer than
//! it is. A summary holds true counts and stays at the site, as does what a comparison finds; what may
//! leave is in [`release_feature`].

mod figures;
mod release;

use std::{collections::BTreeMap, fmt};

use consilium_privacy::OutOfRange;
use serde::{Deserialize, Serialize};

pub use self::{
    figures::{note_figures, picture_figures, public_edges},
    release::{NoisyFeature, release_feature},
};

/// Index from which a shift is worth a look.
const WATCH: f64 = 0.1;
/// Index from which a shift is large.
const LARGE: f64 = 0.25;
/// Kolmogorov-Smirnov distance below which a shift is small, however sure it is.
const SMALL_DISTANCE: f64 = 0.1;
/// Probability of calling drift in any of the figures where there is none.
const FALSE_ALARMS: f64 = 0.001;
/// Standard normal quantile of 1 - 0.001.
const SURE: f64 = 3.0902;
/// New records below which nothing is said.
const FEW: u64 = 20;
/// Most edges of a histogram.
const MOST_EDGES: usize = 1000;

/// How many records have which figures.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Summary {
    features: BTreeMap<String, Histogram>,
}

/// How often a figure fell between which edges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Histogram {
    edges: Vec<f64>,
    /// Below the first edge, from each edge to below the next, from the last one on.
    counts: Vec<u64>,
    missing: u64,
}

/// A histogram as it was stored: not yet known to be one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    edges: Vec<f64>,
    counts: Vec<u64>,
    missing: u64,
}

impl TryFrom<Stored> for Histogram {
    type Error = OutOfRange;
    fn try_from(stored: Stored) -> Result<Self, OutOfRange> {
        let empty = Self::new(stored.edges)?;
        let total = stored
            .counts
            .iter()
            .try_fold(stored.missing, |sum, &count| sum.checked_add(count));
        if stored.counts.len() != empty.counts.len() || total.is_none() {
            let found = format!("{} counts", stored.counts.len());
            return Err(OutOfRange::new(
                "a histogram",
                "one count for each cell",
                found,
            ));
        }
        Ok(Self {
            counts: stored.counts,
            missing: stored.missing,
            ..empty
        })
    }
}

impl Histogram {
    /// An empty histogram.
    ///
    /// # Errors
    /// No edge, more than 1000, one that is not finite or not above the one before.
    pub fn new(edges: Vec<f64>) -> Result<Self, OutOfRange> {
        let is_sound = (1..=MOST_EDGES).contains(&edges.len())
            && edges.iter().all(|edge| edge.is_finite())
            && edges.is_sorted_by(|one, next| one < next);
        if !is_sound {
            let found = format!("{} edges", edges.len());
            let allowed = "1 to 1000 finite numbers, each above the one before";
            return Err(OutOfRange::new("a histogram's edges", allowed, found));
        }
        Ok(Self {
            counts: vec![0; edges.len() + 1],
            edges,
            missing: 0,
        })
    }

    /// A histogram of these figures whose edges are their deciles to six digits, as far as these differ;
    /// none where no figure is a number. Such edges are read off the data: they must not leave the site.
    pub fn by_deciles(figures: &[f64]) -> Option<Self> {
        let mut numbers: Vec<f64> = figures.iter().copied().filter(|x| x.is_finite()).collect();
        numbers.sort_unstable_by(f64::total_cmp);
        let mut edges: Vec<f64> = (1..10)
            .filter_map(|decile| numbers.get(numbers.len() * decile / 10))
            .filter_map(|edge| to_six_digits(*edge))
            .collect();
        edges.dedup();
        let mut histogram = Self::new(edges).ok()?;
        figures.iter().for_each(|&figure| histogram.add(figure));
        Some(histogram)
    }

    /// Counts a figure; what is no number is missing.
    pub fn add(&mut self, figure: f64) {
        let cell = self.edges.partition_point(|&edge| edge <= figure);
        match self.counts.get_mut(cell) {
            Some(count) if !figure.is_nan() => *count = count.saturating_add(1),
            _ => self.missing = self.missing.saturating_add(1),
        }
    }

    /// The edges.
    pub fn edges(&self) -> &[f64] {
        &self.edges
    }

    fn numbers(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn total(&self) -> u64 {
        self.numbers().saturating_add(self.missing)
    }

    /// Population stability index. Each share gains that of half a record of the smaller set, so that
    /// no cell makes it infinite and a cell that is empty in both adds nothing.
    fn stability_index(&self, new: &Self) -> f64 {
        let (old_all, new_all) = (self.total().max(1) as f64, new.total().max(1) as f64);
        let half = 0.5 / old_all.min(new_all);
        let own = self.counts.iter().chain([&self.missing]);
        let others = new.counts.iter().chain([&new.missing]);
        let terms = own.zip(others).map(|(&old_count, &new_count)| {
            let p = old_count as f64 / old_all + half;
            let q = new_count as f64 / new_all + half;
            (q - p) * (q / p).ln()
        });
        terms.sum::<f64>() / (1.0 + half * (self.counts.len() + 1) as f64)
    }

    /// Largest difference of the two distributions at an edge.
    fn distance(&self, new: &Self) -> f64 {
        let (old_all, new_all) = (self.numbers() as f64, new.numbers() as f64);
        if old_all == 0.0 || new_all == 0.0 {
            return 0.0;
        }
        let (mut old_below, mut new_below, mut distance) = (0.0, 0.0, 0.0_f64);
        for (&old, &new) in self.counts.iter().zip(&new.counts) {
            old_below += old as f64 / old_all;
            new_below += new as f64 / new_all;
            distance = distance.max((old_below - new_below).abs());
        }
        distance.min(1.0)
    }
}

/// So that edges are the same after they were stored as text and read back.
fn to_six_digits(edge: f64) -> Option<f64> {
    format!("{edge:.5e}")
        .parse()
        .ok()
        .filter(|edge: &f64| edge.is_finite())
}

/// What a comparison says of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Too few records to say anything.
    TooFew,
    /// Nothing beyond chance, or nothing that matters.
    Steady,
    /// A shift worth a look.
    Watch,
    /// A large shift.
    Drifted,
}

/// How a figure of new records differs from that of older ones.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drift {
    /// The figure.
    pub feature: String,
    /// What is to be thought of it.
    pub level: Level,
    /// Population stability index.
    pub stability_index: f64,
    /// Kolmogorov-Smirnov distance at the edges, 0 to 1.
    pub distance: f64,
    /// Probability of such a distance without drift, or a larger one.
    pub p_value: f64,
    /// Older records.
    pub reference_records: u64,
    /// New records.
    pub new_records: u64,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::TooFew => "too few records to say",
            Level::Steady => "steady",
            Level::Watch => "look at it",
            Level::Drifted => "drifted",
        };
        write!(
            f,
            "{}: {level} (stability index {:.3}, Kolmogorov-Smirnov {:.3}, p {:.2e}; {} records against {})",
            self.feature,
            self.stability_index,
            self.distance,
            self.p_value,
            self.new_records,
            self.reference_records
        )
    }
}

impl Summary {
    /// A summary without records; a name that is there already gets the new histogram.
    pub fn with(mut self, feature: &str, histogram: Histogram) -> Self {
        self.features.insert(feature.to_owned(), histogram);
        self
    }

    /// Counts the figures of one record; those that the summary does not have are passed over, those
    /// that the record does not have are missing.
    pub fn add(&mut self, figures: &[(&str, f64)]) {
        for (feature, histogram) in &mut self.features {
            let figure = figures.iter().find(|(name, _)| name == feature);
            histogram.add(figure.map_or(f64::NAN, |&(_, figure)| figure));
        }
    }

    /// The same edges without records, to summarise new ones.
    pub fn emptied(&self) -> Self {
        let empty = |histogram: &Histogram| Histogram {
            edges: histogram.edges.clone(),
            counts: vec![0; histogram.counts.len()],
            missing: 0,
        };
        let features = self.features.iter();
        Self {
            features: features
                .map(|(name, histogram)| (name.clone(), empty(histogram)))
                .collect(),
        }
    }

    /// Each figure by its name.
    pub fn features(&self) -> impl Iterator<Item = (&str, &Histogram)> {
        self.features
            .iter()
            .map(|(name, histogram)| (name.as_str(), histogram))
    }

    /// Compares each figure that both have with the same edges, the most drifted first.
    pub fn compare(&self, new: &Self) -> Vec<Drift> {
        let both = self.features.iter().filter_map(|(name, old)| {
            let new = new.features.get(name)?;
            (old.edges == new.edges).then_some((name, old, new))
        });
        let both: Vec<_> = both.collect();
        let compared = both
            .iter()
            .map(|(name, old, new)| drift(name, old, new, both.len()));
        let mut drifts: Vec<Drift> = compared.collect();
        drifts.sort_by(|one, other| {
            let worst = other.level.cmp(&one.level);
            worst.then(other.stability_index.total_cmp(&one.stability_index))
        });
        drifts
    }
}

fn drift(feature: &str, old: &Histogram, new: &Histogram, features: usize) -> Drift {
    let stability_index = old.stability_index(new);
    let distance = old.distance(new);
    let p_value = p_value(distance, old.numbers(), new.numbers());
    let (reference_records, new_records) = (old.total(), new.total());
    let by_chance = largest_by_chance(old.counts.len(), reference_records, new_records);
    let is_sure = stability_index > by_chance;
    let is_apart = p_value < FALSE_ALARMS / features as f64 && distance >= SMALL_DISTANCE;
    let level = match () {
        () if reference_records < FEW || new_records < FEW => Level::TooFew,
        () if is_sure && stability_index >= LARGE => Level::Drifted,
        () if is_sure && stability_index >= WATCH || is_apart => Level::Watch,
        () => Level::Steady,
    };
    Drift {
        feature: feature.to_owned(),
        level,
        stability_index,
        distance,
        p_value,
        reference_records,
        new_records,
    }
}

/// Stability index that chance exceeds once in a thousand comparisons: (1/n + 1/m) χ², whose quantile is
/// Wilson and Hilferty's (1931). With the cell for what is missing there are as many degrees of
/// freedom as cells without it.
fn largest_by_chance(degrees: usize, old: u64, new: u64) -> f64 {
    let degrees = degrees as f64;
    let spread = 2.0 / (9.0 * degrees);
    let quantile = degrees * (1.0 - spread + SURE * spread.sqrt()).powi(3);
    quantile * (1.0 / old.max(1) as f64 + 1.0 / new.max(1) as f64)
}

/// Probability that two samples of one distribution are so far apart, or farther.
fn p_value(distance: f64, old: u64, new: u64) -> f64 {
    let (old, new) = (old as f64, new as f64);
    if old == 0.0 || new == 0.0 {
        return 1.0;
    }
    let root = (old * new / (old + new)).sqrt();
    let lambda = (root + 0.12 + 0.11 / root) * distance;
    if lambda < 0.2 {
        // The series converges slowly there, to 1 within 1e-10.
        return 1.0;
    }
    let term = |k: i32| {
        let sign = if k % 2 == 0 { -1.0 } else { 1.0 };
        sign * (-2.0 * f64::from(k * k) * lambda * lambda).exp()
    };
    (2.0 * (1..=100).map(term).sum::<f64>()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use consilium_models::random::Random;
    use proptest::prelude::*;

    use super::*;

    fn normal(count: usize, mean: f64, seed: u64) -> Vec<f64> {
        let mut random = Random::new(&[seed]);
        (0..count)
            .map(|_| mean + f64::from(random.normal()))
            .collect()
    }

    fn compare(old: &[f64], new: &[f64]) -> Drift {
        let histogram = Histogram::by_deciles(old).expect("numbers");
        let reference = Summary::default().with("x", histogram);
        let mut latest = reference.emptied();
        new.iter().for_each(|&figure| latest.add(&[("x", figure)]));
        reference.compare(&latest).remove(0)
    }

    #[test]
    fn the_index_is_the_published_sum() {
        let of = |counts: &[u64]| Histogram {
            edges: vec![0.0],
            counts: counts.to_vec(),
            missing: 0,
        };
        // Large counts, so that half a record in each cell does not show: 0.1 ln(0.6 / 0.5) - 0.1 ln(0.4 / 0.5).
        let found = of(&[5_000_000, 5_000_000]).stability_index(&of(&[6_000_000, 4_000_000]));
        assert!((found - 0.040_546_5).abs() < 1e-5, "{found}");
    }

    /// Critical values of the two-sided Kolmogorov distribution: 1.358 at 5 %, 1.628 at 1 % (Smirnov 1948).
    #[test]
    fn p_values_are_the_published_ones_for_large_samples() {
        for (lambda, expected) in [(1.358, 0.05), (1.628, 0.01), (1.949, 0.001)] {
            let records = 2_000_000_000;
            let found = p_value(lambda / 1e9_f64.sqrt(), records, records);
            assert!(
                (found - expected).abs() < 0.02 * expected,
                "{lambda}: {found}"
            );
        }
        assert_eq!(p_value(0.0, 10, 10), 1.0);
        assert_eq!(p_value(1.0, 0, 10), 1.0);
    }

    /// Published quantiles of χ² at 0.999: 10.828 for 1 degree of freedom, 27.877 for 9.
    #[test]
    fn chance_is_bounded_by_the_quantile_of_chi_square() {
        assert!((largest_by_chance(9, 2, 2) / 27.877 - 1.0).abs() < 0.01);
        assert!((largest_by_chance(1, 2, 2) / 10.828 - 1.0).abs() < 0.04);
    }

    #[test]
    fn a_shift_is_called_and_chance_is_not() {
        let old = normal(2000, 0.0, 1);
        for seed in 2..40 {
            let same = compare(&old, &normal(300, 0.0, seed));
            assert_eq!(same.level, Level::Steady, "{same}");
        }
        assert_eq!(compare(&old, &normal(300, 1.0, 50)).level, Level::Drifted);
        assert_eq!(compare(&old, &normal(1000, 0.4, 51)).level, Level::Watch);
        assert_eq!(compare(&old, &normal(19, 3.0, 52)).level, Level::TooFew);
        // A third of the figures went missing; the others stayed.
        let mut gone = normal(300, 0.0, 53);
        gone[..100].fill(f64::NAN);
        let gone = compare(&old, &gone);
        assert_eq!(gone.level, Level::Drifted, "{gone}");
    }

    #[test]
    fn the_most_drifted_figure_comes_first_and_others_edges_are_not_compared() {
        let of = |figures: &[f64]| Histogram::by_deciles(figures).expect("numbers");
        let old = normal(500, 0.0, 1);
        let reference = Summary::default()
            .with("a", of(&old))
            .with("b", of(&old))
            .with("c", of(&old));
        let mut new = reference.emptied().with("c", of(&normal(500, 0.0, 3)));
        for (steady, moved) in normal(400, 0.0, 4).into_iter().zip(normal(400, 2.0, 5)) {
            new.add(&[("a", steady), ("b", moved), ("unknown", 1.0)]);
        }
        let found = reference.compare(&new);
        let names: Vec<&str> = found.iter().map(|drift| drift.feature.as_str()).collect();
        assert_eq!(names, ["b", "a"]);
        let line = found[0].to_string();
        assert!(
            line.starts_with("b: drifted") && line.contains("400 records against 500"),
            "{line}"
        );
    }

    #[test]
    fn a_summary_survives_storage_and_a_damaged_one_is_refused() {
        let summary = Summary::default().with(
            "x",
            Histogram::by_deciles(&normal(50, 0.0, 1)).expect("numbers"),
        );
        let stored = serde_json::to_string(&summary).expect("a summary");
        assert_eq!(
            serde_json::from_str::<Summary>(&stored).expect("sound"),
            summary
        );
        for damaged in [
            r#"{"features": {"x": {"edges": [2.0, 1.0], "counts": [0, 0, 0], "missing": 0}}}"#,
            r#"{"features": {"x": {"edges": [1.0], "counts": [0], "missing": 0}}}"#,
            r#"{"features": {"x": {"edges": [], "counts": [0], "missing": 0}}}"#,
            r#"{"features": {"x": {"edges": [1.0], "counts": [18446744073709551615, 1], "missing": 0}}}"#,
        ] {
            assert!(
                serde_json::from_str::<Summary>(damaged).is_err(),
                "{damaged}"
            );
        }
        assert!(Histogram::by_deciles(&[f64::NAN]).is_none());
    }

    proptest! {
        #[test]
        fn no_figures_make_it_panic_or_say_what_is_no_number(
            old in proptest::collection::vec(proptest::num::f64::ANY, 1..60),
            new in proptest::collection::vec(proptest::num::f64::ANY, 0..60),
        ) {
            if let Some(histogram) = Histogram::by_deciles(&old) {
                let reference = Summary::default().with("x", histogram);
                let mut latest = reference.emptied();
                new.iter().for_each(|&figure| latest.add(&[("x", figure)]));
                for drift in reference.compare(&latest) {
                    prop_assert!(drift.stability_index.is_finite() && drift.stability_index >= 0.0);
                    prop_assert!((0.0..=1.0).contains(&drift.distance));
                    prop_assert!((0.0..=1.0).contains(&drift.p_value));
                }
            }
        }
    }
}
