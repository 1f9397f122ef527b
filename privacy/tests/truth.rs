//! The accountants against independent implementations.
//!
//! A few published values stand in this file. The full tables (dp-accounting 0.6.0, opacus 1.6.0,
//! prv-accountant 0.2.0, mpmath) are read where they lie beside the repository; where they do not,
//! that part is skipped and says so. Tolerances are those of the tables' own page. Each test prints
//! its rows and worst error (`cargo test -p consilium-privacy --test truth -- --nocapture`).

use std::{collections::HashMap, io::Write as _, num::NonZeroU32, path::PathBuf};

use consilium_privacy::accountant::{
    Accountant, Charge, Delta, Epsilon, Pld, Rdp, Rho, epsilon_at, gaussian_epsilon,
    one_step_delta, zcdp_delta, zcdp_epsilon, zcdp_epsilon_simple,
};

type Row = HashMap<String, String>;

/// Rows of a table, or `None` (and a line that says so) where the tables are not.
fn table(name: &str) -> Option<Vec<Row>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/truth");
    if !folder.is_dir() {
        // Written past the test runner's capture: a skipped comparison must be seen.
        let note = format!("skipped: no reference tables beside the repository for {name}");
        writeln!(std::io::stderr(), "{note}").expect("stderr takes a line");
        return None;
    }
    let mut reader = csv::Reader::from_path(folder.join(name)).expect("a table");
    let rows: Vec<Row> = reader
        .deserialize()
        .map(|row| row.expect("a row"))
        .collect();
    assert!(!rows.is_empty(), "{name} is empty");
    Some(rows)
}

/// Counts what was compared and keeps the largest error, to be shown.
#[derive(Default)]
struct Worst {
    rows: usize,
    error: f64,
}

impl Worst {
    fn note(&mut self, error: f64) {
        self.rows += 1;
        self.error = self.error.max(error);
    }

    fn show(&self, what: &str) {
        if self.rows > 0 {
            say(&format!(
                "{what}: {} rows, worst {:.1e}",
                self.rows, self.error
            ));
        }
    }
}

fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("stdout takes a line");
}

fn number(row: &Row, column: &str) -> f64 {
    given(row, column).unwrap_or_else(|| panic!("no {column} in {row:?}"))
}

fn given(row: &Row, column: &str) -> Option<f64> {
    let text = row
        .get(column)
        .unwrap_or_else(|| panic!("no column {column}"));
    (!text.is_empty()).then(|| text.parse().expect("a number"))
}

fn sampled(q: f64, sigma: f64, steps: f64) -> Charge {
    let sound = "within range";
    Charge::SampledGaussian {
        q: q.try_into().expect(sound),
        sigma: sigma.try_into().expect(sound),
        steps: steps as u32,
    }
}

fn laplace(scale: f64, releases: u32) -> Charge {
    Charge::Laplace {
        epsilon: (1.0 / scale).try_into().expect("within range"),
        releases,
    }
}

fn delta(value: f64) -> Delta {
    value.try_into().expect("within range")
}

/// The orders that dp-accounting uses by default.
fn dp_accounting_orders() -> Vec<f64> {
    let tenths = (11..=109).map(|i| f64::from(i) / 10.0);
    let whole = (11..=63).map(f64::from);
    tenths
        .chain(whole)
        .chain([128.0, 256.0, 512.0, 1024.0])
        .collect()
}

/// ε at those orders, for comparison to all digits.
fn epsilon_at_their_orders(
    curves: &mut HashMap<String, Vec<f64>>,
    history: &[Charge],
    delta: Delta,
) -> f64 {
    let orders = dp_accounting_orders();
    let mut total = vec![0.0; orders.len()];
    for charge in history {
        let one = charge.with_releases(1);
        let curve = curves
            .entry(format!("{one:?}"))
            .or_insert_with(|| orders.iter().map(|&alpha| one.rdp(alpha)).collect());
        for (total, rho) in total.iter_mut().zip(curve) {
            *total += *rho * f64::from(charge.releases());
        }
    }
    let all = orders
        .iter()
        .zip(&total)
        .map(|(&alpha, &rho)| epsilon_at(rho, alpha, delta));
    all.fold(f64::INFINITY, f64::min)
}

/// Compares, relative to what is expected or to a thousandth.
fn close(found: f64, expected: f64, tolerance: f64, worst: &mut Worst, what: &dyn std::fmt::Debug) {
    let error = (found - expected).abs() / expected.abs().max(1e-3);
    worst.note(error);
    assert!(error <= tolerance, "{found} for {expected}: {what:?}");
}

#[test]
fn published_values_are_met() {
    let mut worst = Worst::default();
    let mut close = |found, expected, tolerance, what: &str| {
        close(found, expected, tolerance, &mut worst, &what)
    };
    // Order 2 in closed form, ln(1 + q²(e^(1/σ²) - 1)); the others from the tables.
    let rdp = |q: f64, sigma: f64, alpha| sampled(q, sigma, 1.0).rdp(alpha);
    close(
        rdp(0.01, 1.0, 2.0),
        (1e-4 * 1_f64.exp_m1()).ln_1p(),
        1e-9,
        "order 2",
    );
    close(rdp(1.0, 0.5, 1.1), 2.2, 1e-9, "no sampling");
    let mut rdp = Rdp::new();
    let mut epsilon = |q, sigma, steps, at| rdp.epsilon(&[sampled(q, sigma, steps)], at);
    close(
        epsilon(1.0, 0.5, 1.0, delta(1e-5)),
        10.7250474741,
        1e-3,
        "one release",
    );
    close(
        epsilon(1.0, 0.5, 10.0, delta(1e-6)),
        51.7237246501,
        1e-3,
        "ten releases",
    );
    close(
        epsilon(0.01, 1.0, 1037.0, delta(1e-5)),
        2.13266457364,
        1e-3,
        "training",
    );
    let mut pld = Pld::new();
    let mut epsilon = |q, sigma, steps, at| pld.epsilon(&[sampled(q, sigma, steps)], at);
    close(
        epsilon(1.0, 0.5, 1.0, delta(1e-5)),
        9.99725614643,
        1e-9,
        "one release",
    );
    close(
        epsilon(0.01, 1.0, 1037.0, delta(1e-5)),
        1.86066577032,
        1e-4,
        "training",
    );
}

#[test]
fn renyi_divergences_agree_to_nine_digits() {
    let mut worst = Worst::default();
    for row in table("rdp_values.csv").into_iter().flatten() {
        let charge = sampled(number(&row, "q"), number(&row, "sigma"), 1.0);
        let (found, expected) = (charge.rdp(number(&row, "alpha")), number(&row, "rdp_exact"));
        let error = (found / expected - 1.0).abs();
        worst.note(error);
        assert!(error <= 1e-9, "{found} for {row:?}");
    }
    worst.show("rdp_values.csv, relative");
}

#[test]
fn renyi_epsilons_of_training_agree_and_are_never_unsound() {
    let (mut accountant, mut curves) = (Rdp::new(), HashMap::new());
    let (mut exact, mut own) = (Worst::default(), Worst::default());
    for row in table("sgm_grid.csv").into_iter().flatten() {
        let charge = sampled(number(&row, "q"), number(&row, "sigma"), number(&row, "T"));
        let delta = delta(number(&row, "delta"));
        let found = accountant.epsilon(&[charge], delta);

        let theirs = epsilon_at_their_orders(&mut curves, &[charge], delta);
        let expected = number(&row, "eps_rdp_exact_at_dpa_orders");
        close(theirs, expected, 1e-6, &mut exact, &row);

        let best = number(&row, "eps_rdp_exact_best_order");
        own.note((found / best - 1.0).abs());
        assert!(found >= 0.998 * best, "{found} for {row:?}");
        if best > 0.05 && best < 50.0 {
            assert!(found <= 1.02 * best + 1e-4, "{found} for {row:?}");
        }
        assert_sound(found, &row);
    }
    exact.show("sgm_grid.csv, RDP at dp-accounting's orders, relative");
    own.show("sgm_grid.csv, RDP at our orders, relative to the best order");
}

#[test]
fn composed_losses_of_training_agree_and_are_never_unsound() {
    let mut accountant = Pld::new();
    let (mut above, mut below, mut sound) = (Worst::default(), Worst::default(), 0);
    for row in table("sgm_grid.csv").into_iter().flatten() {
        let charge = sampled(number(&row, "q"), number(&row, "sigma"), number(&row, "T"));
        let found = accountant.epsilon(&[charge], delta(number(&row, "delta")));
        assert!(found.is_finite(), "{found} for {row:?}");
        assert_sound(found, &row);
        sound += 1;
        if let Some(pld) = given(&row, "eps_pld_1e4") {
            assert_near_pld(found, pld, &row, (&mut above, &mut below));
        } else {
            // Rényi accounting is an upper bound of its own.
            let renyi = number(&row, "eps_rdp_exact_best_order");
            assert!(found <= renyi, "{found} for {row:?}");
        }
    }
    above.show("sgm_grid.csv, PLD above eps_pld_1e4 up to 20");
    below.show("sgm_grid.csv, PLD below eps_pld_1e4 up to 20");
    say(&format!("sgm_grid.csv, PLD: {sound} rows, none unsound"));
}

/// Never below what is certainly spent.
fn assert_sound(found: f64, row: &Row) {
    for lower in ["eps_prv_lower", "eps_gaussian_exact"] {
        if let Some(lower) = row.contains_key(lower).then(|| given(row, lower)).flatten() {
            assert!(found >= lower - 1e-9, "unsound: {found} for {row:?}");
        }
    }
    if let Some(lower) = given(row, "eps_prv_lower") {
        assert!(found >= lower, "unsound: {found} for {row:?}");
    }
}

fn assert_near_pld(found: f64, pld: f64, row: &Row, (above, below): (&mut Worst, &mut Worst)) {
    if pld <= 20.0 {
        above.note(found - pld);
        below.note(pld - found);
        let allowed = -1e-3..=1e-4 + 1e-3 * pld;
        assert!(allowed.contains(&(found - pld)), "{found} for {row:?}");
    }
}

#[test]
fn epsilons_of_mixed_histories_agree_and_are_never_unsound() {
    let (mut rdp, mut pld, mut curves) = (Rdp::new(), Pld::new(), HashMap::new());
    let mut exact = Worst::default();
    let (mut above, mut below) = (Worst::default(), Worst::default());
    for row in table("compositions.csv").into_iter().flatten() {
        let history: Vec<Charge> = row["events"].split(';').map(event).collect();
        let delta = delta(number(&row, "delta"));
        let expected = number(&row, "eps_rdp_exact_at_dpa_orders");
        let theirs = epsilon_at_their_orders(&mut curves, &history, delta);
        close(theirs, expected, 1e-6, &mut exact, &row);

        let found = rdp.epsilon(&history, delta);
        assert!(found <= 1.02 * expected + 1e-4, "{found} for {row:?}");
        assert_sound(found, &row);

        let tighter = pld.epsilon(&history, delta);
        assert!(tighter <= found, "{tighter} is above {found} for {row:?}");
        assert_sound(tighter, &row);
        assert_near_pld(
            tighter,
            number(&row, "eps_pld_1e4"),
            &row,
            (&mut above, &mut below),
        );
    }
    exact.show("compositions.csv, RDP at dp-accounting's orders, relative");
    above.show("compositions.csv, PLD above eps_pld_1e4");
    below.show("compositions.csv, PLD below eps_pld_1e4");
}

/// Reads `sgm(sigma,q)xT`, `lap(scale)xk`, `gau(sigma)xk`.
fn event(text: &str) -> Charge {
    let (kind, rest) = text.split_once('(').expect("kind(parameters)xcount");
    let (parameters, count) = rest.split_once(")x").expect("kind(parameters)xcount");
    let numbers: Vec<f64> = parameters
        .split(',')
        .map(|n| n.parse().expect("a number"))
        .collect();
    let count: u32 = count.parse().expect("a count");
    match (kind, numbers.as_slice()) {
        ("sgm", &[sigma, q]) => sampled(q, sigma, f64::from(count)),
        ("gau", &[sigma]) => sampled(1.0, sigma, f64::from(count)),
        ("lap", &[scale]) => laplace(scale, count),
        _ => panic!("unknown event {text}"),
    }
}

#[test]
fn one_step_profiles_agree_to_eight_digits() {
    let mut worst = Worst::default();
    for row in table("sgm_one_step_delta.csv").into_iter().flatten() {
        let (q, sigma) = (number(&row, "q"), number(&row, "sigma"));
        let sound = "within range";
        let found = one_step_delta(
            q.try_into().expect(sound),
            sigma.try_into().expect(sound),
            number(&row, "eps"),
        );
        for (found, column) in [
            (found.remove, "delta_remove"),
            (found.add, "delta_add"),
            (found.remove.max(found.add), "delta_max"),
        ] {
            let expected = number(&row, column);
            if expected >= 1e-12 {
                let error = (found / expected - 1.0).abs();
                worst.note(error);
                assert!(error <= 1e-8, "{found} for {column} of {row:?}");
            } else {
                assert!(
                    (found - expected).abs() <= 1e-12,
                    "{found} for {column} of {row:?}"
                );
            }
        }
    }
    worst.show("sgm_one_step_delta.csv, relative, three columns");
}

#[test]
fn the_gaussian_mechanism_costs_its_exact_epsilon() {
    let (mut rdp, mut pld, mut worst) = (Rdp::new(), Pld::new(), Worst::default());
    for row in table("gaussian_exact.csv").into_iter().flatten() {
        let mu = number(&row, "mu_sensitivity_over_sigma");
        let (exact, delta) = (number(&row, "eps_exact"), delta(number(&row, "delta")));
        let history = [sampled(1.0, 1.0 / mu, 1.0)];
        for found in [gaussian_epsilon(mu, delta), pld.epsilon(&history, delta)] {
            worst.note((found / exact - 1.0).abs());
            assert!((found / exact - 1.0).abs() <= 1e-9, "{found} for {row:?}");
            assert!(found >= exact - 1e-9, "unsound: {found} for {row:?}");
        }
        let found = rdp.epsilon(&history, delta);
        assert!(found >= exact - 1e-9, "unsound: {found} for {row:?}");
        assert!(found <= 1.6 * exact + 1e-3, "loose: {found} for {row:?}");
    }
    worst.show("gaussian_exact.csv, relative, function and PLD");
}

#[test]
fn concentrated_privacy_converts_as_published() {
    let (mut simple, mut optimal, mut back) = Default::default();
    for row in table("zcdp_to_approx.csv").into_iter().flatten() {
        let rho = Rho::try_from(number(&row, "rho")).expect("within range");
        let delta = delta(number(&row, "delta"));
        let expected = number(&row, "eps_simple_bound");
        let found = zcdp_epsilon_simple(rho, delta);
        // The tolerance is 1e-12, and the table has twelve digits.
        note_relative(&mut simple, found, expected, 6e-12, &row);
        let expected = number(&row, "eps_cks20_optimal_alpha_mpmath");
        let found = zcdp_epsilon(rho, delta);
        note_relative(&mut optimal, found, expected, 1e-6, &row);
        // The table has twelve digits.
        assert!(
            found >= expected * (1.0 - 1e-12),
            "unsound: {found} for {row:?}"
        );
        assert!(
            found >= number(&row, "eps_exact_if_gaussian") - 1e-9,
            "unsound: {row:?}"
        );
    }
    for row in table("zcdp_profile.csv").into_iter().flatten() {
        let rho = Rho::try_from(number(&row, "rho")).expect("within range");
        let found = zcdp_delta(rho, number(&row, "eps"));
        let expected = number(&row, "delta_opendp_0.16.0");
        // Below, OpenDP runs out of digits.
        if expected > 1e-300 {
            note_relative(&mut back, found, expected, 1e-6, &row);
        }
        assert!(
            found >= number(&row, "delta_exact_if_gaussian"),
            "unsound: {row:?}"
        );
    }
    simple.show("zcdp_to_approx.csv, simple bound, relative");
    optimal.show("zcdp_to_approx.csv, optimal conversion, relative");
    back.show("zcdp_profile.csv, relative to OpenDP");
}

fn note_relative(worst: &mut Worst, found: f64, expected: f64, tolerance: f64, row: &Row) {
    let error = (found / expected - 1.0).abs();
    worst.note(error);
    assert!(error <= tolerance, "{found} for {expected}: {row:?}");
}

#[test]
fn hospitals_as_units_cost_what_the_table_says() {
    let (mut rdp, mut pld) = (Rdp::new(), Pld::new());
    let (mut above, mut below) = (Worst::default(), Worst::default());
    for row in table("client_level_fedavg.csv").into_iter().flatten() {
        let (q, z) = (number(&row, "q"), number(&row, "noise_multiplier_z"));
        let history = [sampled(q, z, number(&row, "rounds"))];
        let delta = delta(number(&row, "delta"));
        let expected = number(&row, "eps_rdp_exact_at_dpa_orders_poisson_add_remove");
        let found = rdp.epsilon(&history, delta);
        assert!(found <= expected * (1.0 + 1e-6), "{found} for {row:?}");
        let expected = number(&row, "eps_pld_1e4_poisson_add_remove");
        assert!(found >= expected - 1e-3, "unsound: {found} for {row:?}");
        let tighter = pld.epsilon(&history, delta);
        above.note(tighter / expected - 1.0);
        below.note(1.0 - tighter / expected);
        assert!(
            (-1e-3..=1e-3 * expected + 1e-4).contains(&(tighter - expected)),
            "{row:?}"
        );
    }
    above.show("client_level_fedavg.csv, PLD above, relative");
    below.show("client_level_fedavg.csv, PLD below, relative");
}

#[test]
fn batches_cut_at_a_largest_size_cost_what_the_table_says() {
    let (mut rdp, mut pld) = (Rdp::new(), Pld::new());
    let (mut above, mut below) = (Worst::default(), Worst::default());
    for row in table("truncated_poisson.csv").into_iter().flatten() {
        let size = |column| NonZeroU32::new(number(&row, column) as u32).expect("not 0");
        let sound = "within range";
        let charge = Charge::TruncatedGaussian {
            q: number(&row, "q").try_into().expect(sound),
            sigma: number(&row, "sigma").try_into().expect(sound),
            largest_batch: size("max_batch"),
            units: size("dataset_size"),
            steps: number(&row, "T") as u32,
        };
        let delta = delta(number(&row, "delta"));
        let found = pld.epsilon(&[charge], delta);
        let expected = number(&row, "eps_pld_truncated_poisson");
        assert_near_pld(found, expected, &row, (&mut above, &mut below));
        // Rare releases of another kind weigh on high orders: curves are looser here than usual.
        let by_curves = rdp.epsilon(&[charge], delta);
        say(&format!("{expected} by losses, {by_curves} by curves"));
        assert!(
            (found..2.0 * found).contains(&by_curves),
            "{by_curves} for {row:?}"
        );
    }
    above.show("truncated_poisson.csv, PLD above");
    below.show("truncated_poisson.csv, PLD below");
}

#[test]
fn batches_that_are_never_cut_cost_what_the_table_says() {
    let (mut pld, mut worst) = (Pld::new(), Worst::default());
    for row in table("truncated_poisson.csv").into_iter().flatten() {
        let charge = sampled(number(&row, "q"), number(&row, "sigma"), number(&row, "T"));
        let found = pld.epsilon(&[charge], delta(number(&row, "delta")));
        let expected = number(&row, "eps_pld_plain_poisson");
        close(found, expected, 1e-4, &mut worst, &row);
        assert!(found < number(&row, "eps_pld_truncated_poisson"), "{row:?}");
    }
    worst.show("truncated_poisson.csv, plain column, relative");
}

#[test]
fn calibrated_noise_agrees_and_never_overspends() {
    let (mut rdp, mut pld) = (Rdp::new(), Pld::new());
    let (mut worst_rdp, mut worst_pld) = (Worst::default(), Worst::default());
    for row in table("calibration.csv").into_iter().flatten() {
        let (target, steps) = (number(&row, "target_eps"), number(&row, "T"));
        let (q, delta) = (number(&row, "q"), delta(number(&row, "delta")));
        let epsilon = Epsilon::try_from(target).expect("within range");
        let rate = q.try_into().expect("within range");
        let check = |accountant: &mut dyn Accountant, column, allowed: [f64; 2]| {
            let sigma = accountant
                .calibrate(epsilon, delta, rate, steps as u32)
                .expect("reachable")
                .value();
            let ratio = sigma / number(&row, column);
            assert!(
                (allowed[0]..=allowed[1]).contains(&ratio),
                "{sigma} ({ratio}) for {row:?}"
            );
            let spent = accountant.epsilon(&[sampled(q, sigma, steps)], delta);
            assert!(spent <= target, "{spent} for {row:?}");
            (ratio - 1.0).abs()
        };
        let allowed = [1.0 - 1e-6, 1.005];
        worst_rdp.note(check(&mut rdp, "sigma_rdp_exact_at_dpa_orders", allowed));
        let allowed = [1.0 - 1e-4, 1.002];
        worst_pld.note(check(&mut pld, "sigma_pld_1e4_or_exact_gaussian", allowed));
    }
    worst_rdp.show("calibration.csv, RDP, relative");
    worst_pld.show("calibration.csv, PLD, relative");
}

#[test]
fn ten_thousand_steps_are_composed_within_half_a_second() {
    let mut pld = Pld::new();
    for (q, sigma) in [(0.01, 1.0), (0.001, 0.5), (0.1, 4.0), (0.5, 0.7)] {
        let start = std::time::Instant::now();
        let epsilon = pld.epsilon(&[sampled(q, sigma, 10_000.0)], delta(1e-6));
        let took = start.elapsed();
        let line = format!("10000 steps, q = {q}, sigma = {sigma}: epsilon {epsilon:.4}, {took:?}");
        say(&line);
        // Four times the limit: other tests run at the same time.
        assert!(took.as_secs_f64() < 2.0, "{line}");
    }
}
