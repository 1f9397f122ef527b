//! Lower bounds of audits against the reference tables (scipy and mpmath), where they lie beside
//! the repository; where they do not, that part is skipped and says so.

use std::{collections::HashMap, io::Write as _, path::PathBuf};

use consilium_privacy::{
    accountant::Delta,
    empirical::{Confidence, Errors, Guesses, Observations, gaussian_epsilon},
};

type Row = HashMap<String, String>;

/// The tolerance of the tables' own page: their figures have eight digits.
const TOLERANCE: f64 = 1e-6;

fn table(name: &str) -> Vec<Row> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/truth");
    if !folder.is_dir() {
        say(&format!(
            "skipped: no reference tables beside the repository for {name}"
        ));
        return Vec::new();
    }
    let mut reader = csv::Reader::from_path(folder.join(name)).expect("a table");
    let rows: Vec<Row> = reader
        .deserialize()
        .map(|row| row.expect("a row"))
        .collect();
    assert!(!rows.is_empty(), "{name} is empty");
    rows
}

/// Written past the test runner's capture.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("stderr takes a line");
}

fn number(row: &Row, column: &str) -> f64 {
    let text = row
        .get(column)
        .unwrap_or_else(|| panic!("no {column} in {row:?}"));
    text.parse()
        .unwrap_or_else(|_| panic!("{column} is no number in {row:?}"))
}

fn count(row: &Row, column: &str) -> u32 {
    number(row, column) as u32
}

/// Keeps the worst relative error of a table.
#[derive(Default)]
struct Worst(f64);

impl Worst {
    fn compare(&mut self, found: f64, row: &Row, column: &str) {
        let expected = number(row, column);
        let error = (found / expected - 1.0).abs();
        assert!(error <= TOLERANCE, "{column}: {found} for {row:?}");
        self.0 = self.0.max(error);
    }

    fn report(&self, rows: usize, name: &str) {
        if rows > 0 {
            say(&format!(
                "{name}: {rows} rows, worst relative error {:.1e}",
                self.0
            ));
        }
    }
}

#[test]
fn one_run_bounds_agree() {
    let rows = table("audit_one_run.csv");
    let mut worst = Worst::default();
    for row in &rows {
        let [m, r, v] = ["canaries_m", "guesses_r", "correct_v"].map(|name| count(row, name));
        let guesses = Guesses::new(m, r, v).expect("sound");
        let delta = Delta::try_from(number(row, "delta")).ok(); // none for 0
        let confidence = Confidence::try_from(1.0 - number(row, "significance_p"));
        worst.compare(guesses.p_value(1.0, delta), row, "p_value_at_eps_1");
        let low = guesses.epsilon_low(delta, confidence.expect("within range"));
        worst.compare(low, row, "eps_lower_bound");
    }
    worst.report(rows.len(), "audit_one_run");
}

#[test]
fn bounds_from_many_observations_agree() {
    let rows = table("audit_clopper_pearson.csv");
    let mut worst = Worst::default();
    for row in &rows {
        let trials = u64::from(count(row, "trials_each_side"));
        let errors = |name| Errors::new(u64::from(count(row, name)), trials).expect("sound");
        let seen = Observations {
            false_positives: errors("false_positives"),
            false_negatives: errors("false_negatives"),
        };
        let delta = Delta::try_from(number(row, "delta")).expect("within range");
        let [positives, negatives] = seen.rates_at_most(Confidence::USUAL);
        worst.compare(positives, row, "fpr_upper_97.5");
        worst.compare(negatives, row, "fnr_upper_97.5");
        worst.compare(
            seen.epsilon_low(delta, Confidence::USUAL),
            row,
            "eps_lower_95",
        );
        let mu = seen.mu_low(Confidence::USUAL);
        worst.compare(mu, row, "mu_gdp_lower_95");
        worst.compare(gaussian_epsilon(mu, delta), row, "eps_lower_from_gdp");
    }
    worst.report(rows.len(), "audit_clopper_pearson");
}
