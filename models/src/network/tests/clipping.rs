//! Norms and clipped sums of whole batches, beside the oracle's gradients one by one.

use std::{num::NonZeroU32, time::UNIX_EPOCH};

use consilium_privacy::{
    accountant::Charge,
    keystream::MasterSecret,
    ledger::{Budget, ChargeRequest, Grant, Ledger, LedgerKey, MemoryJournal, Purpose, Repeat},
    seal::SealingKey,
    step::NoisySteps,
};

use super::*;

const SOUND: &str = "within range";

/// Next to no noise.
const SIGMA: f64 = 0.001;

/// The same secret always gets the same grant, and so the same noise.
fn grant(secret: &MasterSecret) -> Grant {
    let budget = Budget {
        epsilon: 1e9.try_into().expect(SOUND),
        delta: 1e-5.try_into().expect(SOUND),
    };
    let (journal, key) = (MemoryJournal::default(), LedgerKey::from_seed([1; 32]));
    let ledger = Ledger::open(journal, key.into(), [("d".to_owned(), budget)]);
    let request = ChargeRequest {
        data_set: "d".to_owned(),
        study: [7; 16],
        round: 1,
        attempt: 1,
        purpose: Purpose::Training,
        charge: Charge::SampledGaussian {
            q: 1.0.try_into().expect(SOUND),
            sigma: SIGMA.try_into().expect(SOUND),
            steps: 1,
        },
        study_cap: None,
        repeat: Repeat::Refuse,
        key: Some(secret.commitment()),
    };
    let granted = ledger
        .expect("an empty ledger")
        .reserve(request, UNIX_EPOCH);
    granted.expect("a large budget")
}

/// The clipped sum of a batch's gradients: what a step releases, minus what the same step releases
/// of nobody.
fn clipped_sum(case: &Case, batch: &Batch, c: f64) -> Vec<f64> {
    let key = SealingKey::from_bytes([3; 32]);
    let secret = MasterSecret::random().expect("randomness");
    let sealed = secret.seal(&key).expect("room");
    let weights = case.network.weights(&case.weights()).expect("its own");
    let apart = case
        .network
        .per_example(&weights, batch)
        .expect("gradients");
    let release = |records: usize| {
        let secret = MasterSecret::open(&key, &sealed).expect("its own seal");
        let norm = c.try_into().expect(SOUND);
        let noisy = NoisySteps::new(grant(&secret), &secret, NonZeroU32::MIN, norm);
        let mut noisy = noisy.expect("a training grant");
        let mut sum = noisy.empty_sum(apart.parameters()).expect("sound");
        (0..records).for_each(|record| sum.add_parts(&apart.parts(record)).expect("fits"));
        noisy.step(sum).expect("paid")
    };
    let (with, without) = (release(batch.len()), release(0));
    let both = with.iter().zip(&without);
    both.map(|(a, b)| f64::from(*a) - f64::from(*b)).collect()
}

/// The derivative of an example's loss along a direction of length 1, by the oracle.
fn along(case: &Case, weights: &[f64], direction: &[f64], seed: usize) -> f64 {
    let loss = |step: f64| {
        let moved = weights.iter().zip(direction).map(|(w, d)| w + step * d);
        case.oracle_loss(&moved.collect::<Vec<f64>>(), seed)
    };
    (loss(1e-6) - loss(-1e-6)) / 2e-6
}

fn length(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// A sum is known by its length along itself and by some coordinates.
#[test]
fn norms_and_clipped_sums_agree_with_the_oracle_for_every_network() {
    for case in cases() {
        let weights: Vec<f64> = case.weights().into_iter().map(f64::from).collect();
        let seeds = [1, 2, 3, 4, 5];
        let batch = case.batch(&seeds);
        let gradients: Vec<Vec<f64>> = case
            .gradients(&batch)
            .into_iter()
            .map(|gradient| gradient.into_iter().map(f64::from).collect())
            .collect();
        let mut norms = Vec::new();
        for (gradient, seed) in gradients.iter().zip(seeds) {
            let norm = length(gradient);
            let direction: Vec<f64> = gradient.iter().map(|x| x / norm).collect();
            let expected = along(&case, &weights, &direction, seed);
            let error = (norm / expected - 1.0).abs();
            assert!(error < 1e-4, "{} {seed}: {norm} for {expected}", case.name);
            norms.push(expected);
        }
        // Some are longer than the clipping norm, some are not.
        let mut sorted = norms.clone();
        sorted.sort_by(f64::total_cmp);
        let c = (sorted[1] + sorted[2]) / 2.0;
        let clip_to = c * (1.0 - 1.0 / 1024.0);
        let factors = norms.iter().map(|norm| (clip_to / norm).min(1.0));
        let factors: Vec<f64> = factors.collect();

        let sum = clipped_sum(&case, &batch, c);
        let total = length(&sum);
        let expected = |direction: &[f64]| {
            let terms = factors.iter().zip(seeds);
            let terms =
                terms.map(|(factor, seed)| factor * along(&case, &weights, direction, seed));
            terms.sum::<f64>()
        };
        let direction: Vec<f64> = sum.iter().map(|x| x / total).collect();
        let error = (total / expected(&direction) - 1.0).abs();
        assert!(error < 1e-4, "{}: {error}", case.name);
        let mut random = Random::new(&[5]);
        for _ in 0..20 {
            let at = random.bits() as usize % sum.len();
            let mut direction = vec![0.0; sum.len()];
            direction[at] = 1.0;
            let error = (sum[at] - expected(&direction)).abs() / total;
            assert!(error < 1e-4, "{} at {at}: {error}", case.name);
        }
    }
}
