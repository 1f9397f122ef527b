//! Mechanisms that break the guarantee on purpose, and the audit that finds each of them out.
//!
//! Every double follows the product's mechanism but for one flaw, and the study claims ε ≤ 1. Keys
//! of the doubles are fixed, so what they show does not change from run to run. The product draws
//! its key from the system: the test of it states its false-alarm rate.

mod doubles;
mod replays;

use std::num::{NonZeroU32, NonZeroUsize};

use consilium_models::{
    network::{Network, Target},
    random::Random,
    training::{
        Examples, LoadError, StopFlag, TrainError,
        audit::{Breach, Canaries, Claim, Findings, Mechanism, Product, Subject, audit},
    },
};
use consilium_privacy::{
    accountant::{Charge, calibrate},
    empirical::{Confidence, Irregularity},
    keystream::MasterSecret,
    ledger::{
        Budget, ChargeRequest, Entry, Grant, Ledger, LedgerKey, MemoryJournal, Purpose, Repeat,
    },
};
use consilium_proto::{Plan, plan::Clipping};

use doubles::{Double, Flaw};

const ROUNDS: u32 = 2;
const STEPS: u32 = 15;
const PATIENTS: usize = 300;
const BATCH: NonZeroU32 = NonZeroU32::new(75).unwrap();

/// Points of a square, of two classes by the sign of a sum.
struct Square(Vec<(Vec<f32>, Target)>);

impl Examples for Square {
    fn patients(&self) -> usize {
        self.0.len()
    }

    fn records_of(&self, _patient: usize) -> usize {
        1
    }

    fn load(&self, patient: usize, _record: usize) -> Result<(Vec<f32>, Target), LoadError> {
        Ok(self.0[patient].clone())
    }
}

fn square() -> Square {
    let mut random = Random::new(&[5]);
    let mut point = |_| {
        let (a, b) = (random.symmetric(1.0), random.symmetric(1.0));
        (vec![a, b], Target::Class(usize::from(a + b > 0.0)))
    };
    Square((0..PATIENTS).map(&mut point).collect())
}

fn plan() -> Plan {
    let text = format!(
        "name = \"test\"\ntask = \"tabular-classification\"\ndata_set = \"d\"\nrounds = {ROUNDS}\n\
         classes = [\"no\", \"yes\"]\n[cohort]\nsize = 3\n\
         [[table.columns]]\nname = \"a\"\n[[table.columns]]\nname = \"b\"\n\
         [network]\nname = \"dense\"\nhidden = [300]\n\
         [training]\nsteps = {STEPS}\nbatch_size = {BATCH}\nlearning_rate = 0.5\n\
         [privacy]\nclipping_norm = 1.0\nepsilon = 1.0\ndelta = 1e-5\n"
    );
    Plan::from_toml(&text).expect("a sound plan")
}

/// ε ≤ 1 at δ = 1e-5, over all steps.
fn claim() -> Claim {
    let sound = "within range";
    let (epsilon, delta) = (1.0.try_into().expect(sound), 1e-5.try_into().expect(sound));
    let q = (f64::from(BATCH.get()) / PATIENTS as f64)
        .try_into()
        .expect(sound);
    let sigma = calibrate(epsilon, delta, q, ROUNDS * STEPS).expect("reachable");
    let claim = Claim::new(
        (q, sigma, ROUNDS * STEPS),
        1.0.try_into().expect(sound),
        delta,
    );
    assert!(claim.epsilon() <= 1.0);
    claim
}

fn findings<M: Mechanism>(claim: &Claim, mechanism: impl FnMut(u32) -> M) -> Findings {
    audited(&plan(), mechanism, claim).expect("an audit")
}

fn audited<M: Mechanism>(
    plan: &Plan,
    mut mechanism: impl FnMut(u32) -> M,
    claim: &Claim,
) -> Result<Findings, TrainError> {
    let examples = square();
    let network = Network::from_plan(plan).expect("a network");
    let subject = Subject {
        plan,
        network: &network,
        examples: &examples,
        threads: NonZeroUsize::new(2).expect("two"),
        stop: &StopFlag::default(),
    };
    let parameters = network.layout().parameters();
    let canaries = Canaries::new(1000, 300, parameters, 2).expect("enough weights");
    let made = |round| Ok(mechanism(round));
    audit(subject, claim, &canaries, made, |_| {})
}

#[test]
fn canaries_are_no_measure_of_other_clipping() {
    let (mut plan, claim) = (plan(), claim());
    plan.privacy.clipping = Clipping::PerLayer;
    let double = |round| Double::new(Flaw::None, round, &claim, BATCH, STEPS);
    let refused = audited(&plan, double, &claim).expect_err("made for flat clipping");
    assert!(matches!(refused, TrainError::OtherClipping), "{refused}");
}

fn breaches_of(flaw: Flaw) -> Vec<Breach> {
    let claim = claim();
    let findings = findings(&claim, |round| {
        Double::new(flaw, round, &claim, BATCH, STEPS)
    });
    findings.breaches(&claim, Confidence::USUAL)
}

/// The grant of a round, and the ledger's entry of its charge.
fn grant(claim: &Claim, round: u32, secret: &MasterSecret) -> (Grant, Entry) {
    let sound = "within range";
    let (epsilon, delta) = (1e6.try_into().expect(sound), claim.delta());
    let budget = Budget { epsilon, delta };
    let journal = MemoryJournal::default();
    let key = LedgerKey::from_seed([1; 32]).into();
    let mut ledger =
        Ledger::open(journal, key, [("d".to_owned(), budget)]).expect("an empty ledger");
    let request = ChargeRequest {
        data_set: "d".to_owned(),
        study: [7; 16],
        round,
        attempt: 1,
        purpose: Purpose::Training,
        charge: Charge::SampledGaussian {
            q: claim.sampling_rate(),
            sigma: claim.noise_multiplier(),
            steps: STEPS,
        },
        study_cap: None,
        repeat: Repeat::Refuse,
        key: Some(secret.commitment()),
    };
    let now = std::time::SystemTime::UNIX_EPOCH;
    let grant = ledger.reserve(request, now).expect("a large budget");
    let entry = ledger.entries().last().expect("just charged").clone();
    (grant, entry)
}

/// Deviation of the noise over that charged, where it was found to differ.
fn deviation(breaches: &[Breach]) -> Option<f64> {
    breaches.iter().find_map(|breach| match breach {
        Breach::Irregular(Irregularity::Deviation { ratio, .. }) => Some(*ratio),
        _ => None,
    })
}

fn has(breaches: &[Breach], what: impl Fn(&Breach) -> bool) -> bool {
    breaches.iter().any(what)
}

/// The key is new in every run. False alarms: 2 in a million by the bounds, about 1 in 80 000 by
/// noise and batches.
#[test]
fn the_product_passes() {
    let claim = claim();
    let product = |round| {
        let secret = MasterSecret::random().expect("randomness");
        let (grant, _) = grant(&claim, round, &secret);
        let (plan, norm) = (plan(), claim.clipping_norm());
        let network = Network::from_plan(&plan).expect("a network");
        Product::new(grant, &secret, &plan, &network, norm).expect("a training grant")
    };
    let findings = findings(&claim, product);
    let confidence = Confidence::try_from(0.999_999).expect("within range");
    assert_eq!(findings.breaches(&claim, confidence), []);
    // The audit is not blind: it sees the canaries, about five standard errors from none at all.
    let seen = findings.observations.expect("canaries in and out");
    assert!(seen.false_negatives.trials() > 2000, "{seen:?}");
    let half = Confidence::try_from(0.6).expect("within range");
    let high = findings.noise_high(half).expect("some trace").value();
    assert!(high < 6.0 * claim.noise_multiplier().value(), "{high}");
}

#[test]
fn a_double_without_flaw_passes() {
    assert_eq!(breaches_of(Flaw::None), []);
}

#[test]
fn missing_noise_is_found_by_the_guesses_of_one_run() {
    let breaches = breaches_of(Flaw::NoNoise);
    let proved = |breach: &Breach| matches!(breach, Breach::Guesses { low, .. } if *low > 4.0);
    assert!(has(&breaches, proved), "{breaches:?}");
    assert!(has(&breaches, |breach| matches!(
        breach,
        Breach::Observations { .. }
    )));
    assert!(
        deviation(&breaches).is_some_and(|ratio| ratio < 1e-6),
        "{breaches:?}"
    );
}

#[test]
fn missing_clipping_is_found_by_the_guesses_of_one_run() {
    let breaches = breaches_of(Flaw::NoClipping);
    let proved = |breach: &Breach| matches!(breach, Breach::Guesses { low, .. } if *low > 1.0);
    assert!(has(&breaches, proved), "{breaches:?}");
    assert!(has(&breaches, |breach| matches!(
        breach,
        Breach::Observations { .. }
    )));
}

#[test]
fn half_the_noise_is_found_by_canaries_in_single_steps() {
    let breaches = breaches_of(Flaw::HalfNoise);
    let proved = |breach: &Breach| matches!(breach, Breach::Observations { .. });
    assert!(has(&breaches, proved), "{breaches:?}");
    let ratio = deviation(&breaches).expect("too little noise");
    assert!((ratio - 0.5).abs() < 0.01, "{ratio}");
}

#[test]
fn noise_divided_among_microbatches_is_found_by_canaries_in_single_steps() {
    let breaches = breaches_of(Flaw::NoisePerMicrobatch);
    let proved = |breach: &Breach| matches!(breach, Breach::Observations { .. });
    assert!(has(&breaches, proved), "{breaches:?}");
    assert!(
        deviation(&breaches).is_some_and(|ratio| ratio < 0.6),
        "{breaches:?}"
    );
}

#[test]
fn batches_of_fixed_size_are_found_by_their_spread() {
    let breaches = breaches_of(Flaw::FixedBatches);
    let spread = |breach: &Breach| matches!(breach, Breach::Irregular(Irregularity::Spread { ratio, .. }) if *ratio < 0.1);
    assert!(has(&breaches, spread), "{breaches:?}");
}

#[test]
fn the_same_batch_in_every_step_is_found_by_its_overlap() {
    let breaches = breaches_of(Flaw::SameBatch);
    let overlap = |breach: &Breach| matches!(breach, Breach::Irregular(Irregularity::Overlap { ratio, .. }) if *ratio > 2.0);
    assert!(has(&breaches, overlap), "{breaches:?}");
}

#[test]
fn noise_that_comes_again_in_another_step_is_found_by_its_correlation() {
    let breaches = breaches_of(Flaw::NoiseReused);
    let repeated = |breach: &Breach| {
        matches!(breach, Breach::Irregular(Irregularity::Repeated { correlation, .. })
            if *correlation > 0.99)
    };
    assert!(has(&breaches, repeated), "{breaches:?}");
}

#[test]
fn a_step_that_was_not_charged_is_counted() {
    let breaches = breaches_of(Flaw::StepNotCharged);
    let expected = Breach::NotCharged {
        released: u64::from(ROUNDS * STEPS),
        paid: u64::from(ROUNDS * (STEPS - 1)),
    };
    assert_eq!(breaches, [expected]);
}
