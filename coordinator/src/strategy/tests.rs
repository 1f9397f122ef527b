//! Known answers for two steps of one coordinate: the simple ones by hand, the adaptive ones by an
//! independent program (Python) from the formulas of Reddi et al. 2021, to 12 digits.

use consilium_proto::plan::{Adaptive, Strategy as Plan};

use super::of;

const SETTINGS: Adaptive = Adaptive {
    learning_rate: 0.1,
    beta1: 0.9,
    beta2: 0.99,
    tau: 0.01,
};

const ADAGRAD: [f64; 2] = [1.009_801_999_800, 1.013_316_280_952];
const ADAM: [f64; 2] = [1.081_993_574_202, 1.112_045_737_028];
const YOGI: [f64; 2] = [1.081_980_390_272, 1.111_925_403_685];

/// The model after each of two rounds with the means 0.5 and −0.25, from 1.
fn two_rounds(plan: &Plan) -> [f64; 2] {
    let strategy = of(plan);
    let mut state: Vec<_> = strategy
        .initial_state()
        .into_iter()
        .map(|start| vec![start])
        .collect();
    let mut model = [1.0];
    [0.5, -0.25].map(|mean| {
        strategy.apply(3, &[mean], &mut model, &mut state);
        model[0]
    })
}

fn assert_near(found: [f64; 2], expected: [f64; 2]) {
    for (found, expected) in found.into_iter().zip(expected) {
        assert!(
            (found - expected).abs() < 1e-12,
            "found {found}, expected {expected}"
        );
    }
}

#[test]
fn fed_avg_adds_the_mean() {
    assert_near(
        two_rounds(&Plan::FedAvg { learning_rate: 1.0 }),
        [1.5, 1.25],
    );
    assert_near(
        two_rounds(&Plan::FedAvg { learning_rate: 0.5 }),
        [1.25, 1.125],
    );
}

#[test]
fn sum_adds_what_all_sites_sent() {
    assert_near(two_rounds(&Plan::Sum), [2.5, 1.75]);
}

#[test]
fn fed_prox_does_on_the_coordinator_what_fed_avg_does() {
    let prox = Plan::FedProx {
        learning_rate: 0.5,
        proximal: 3.0,
    };
    assert_eq!(
        two_rounds(&prox),
        two_rounds(&Plan::FedAvg { learning_rate: 0.5 })
    );
}

#[test]
fn fed_avg_m_adds_a_decaying_sum() {
    // m: 0.5, then 0.9 · 0.5 − 0.25 = 0.2
    let plan = Plan::FedAvgM {
        learning_rate: 1.0,
        momentum: 0.9,
    };
    assert_near(two_rounds(&plan), [1.5, 1.7]);
}

#[test]
fn fed_adagrad_sums_squares() {
    assert_near(two_rounds(&Plan::FedAdagrad(SETTINGS)), ADAGRAD);
}

#[test]
fn fed_adam_averages_squares() {
    assert_near(two_rounds(&Plan::FedAdam(SETTINGS)), ADAM);
}

#[test]
fn fed_yogi_moves_the_second_moment_by_sign() {
    assert_near(two_rounds(&Plan::FedYogi(SETTINGS)), YOGI);
    let strategy = of(&Plan::FedYogi(SETTINGS));
    let mut state = vec![vec![0.0], vec![0.04]];
    strategy.apply(3, &[0.1], &mut [0.0], &mut state);
    // v > Δ²: 0.04 − 0.01 · 0.01
    assert!((state[1][0] - 0.0399).abs() < 1e-15, "{state:?}");
}

#[test]
fn coordinates_do_not_mix() {
    for plan in [
        Plan::FedAvgM {
            learning_rate: 1.0,
            momentum: 0.5,
        },
        Plan::FedAdam(SETTINGS),
    ] {
        let strategy = of(&plan);
        let start = strategy.initial_state();
        let whole = |means: &[f64]| {
            let mut state: Vec<_> = start.iter().map(|&s| vec![s; means.len()]).collect();
            let mut model = vec![0.0; means.len()];
            strategy.apply(3, means, &mut model, &mut state);
            model
        };
        let apart = [whole(&[0.3]), whole(&[-0.2])].concat();
        assert_eq!(whole(&[0.3, -0.2]), apart);
    }
}
