//! Past rounds repeated: by the code that ran them, and by sound code.

use consilium_models::training::{
    Job, Protection,
    audit::{PastRound, Repeated, Replay, Seen, replay_round},
    train_round,
};
use consilium_privacy::{
    accountant::ClippingNorm,
    ledger::GrantError,
    seal::SealingKey,
    step::{Origin, PrivateUpdate, StepError},
};
use consilium_proto::ParameterVector;

use super::*;

/// One round of a study, and the threads that it runs on.
struct Past {
    plan: Plan,
    examples: Square,
    weights: ParameterVector,
    threads: usize,
    steps: u32,
}

impl Past {
    fn new() -> Self {
        Self::of(plan())
    }

    fn of(plan: Plan) -> Self {
        let network = Network::from_plan(&plan).expect("a network");
        Self {
            plan,
            examples: square(),
            weights: network.initial(3),
            threads: 1,
            steps: STEPS,
        }
    }

    /// Trains it as in a hospital, and gives the digest of the update that it sends.
    fn train(&self, protection: Protection) -> [u8; 32] {
        self.update(protection).digest()
    }

    fn update(&self, protection: Protection) -> PrivateUpdate {
        let network = Network::from_plan(&self.plan).expect("a network");
        let job = Job {
            plan: &self.plan,
            network: &network,
            weights: &self.weights,
            round: 2,
            protection,
            threads: NonZeroUsize::new(2).expect("two"),
        };
        let trained = train_round(job, &self.examples, &StopFlag::default(), |_| {});
        trained.expect("a round").update
    }

    fn replay(&self, mechanism: impl Repeated, all: &mut Seen) -> Replay {
        self.try_replay(mechanism, all).expect("a replay")
    }

    fn try_replay(&self, mechanism: impl Repeated, all: &mut Seen) -> Result<Replay, TrainError> {
        let (mut plan, claim) = (self.plan.clone(), claim());
        plan.training.steps = self.steps;
        let network = Network::from_plan(&plan).expect("a network");
        let subject = Subject {
            plan: &plan,
            network: &network,
            examples: &self.examples,
            threads: NonZeroUsize::new(self.threads).expect("some"),
            stop: &StopFlag::default(),
        };
        let past = PastRound {
            round: 2,
            weights: &self.weights,
            sampling_rate: claim.sampling_rate(),
            noise_multiplier: claim.noise_multiplier(),
            clipping_norm: claim.clipping_norm(),
        };
        replay_round(subject, &past, mechanism, all, |_| {})
    }

    fn digest(&self, mechanism: impl Repeated) -> [u8; 32] {
        self.replay(mechanism, &mut nothing_seen()).digest
    }
}

fn nothing_seen() -> Seen {
    Seen::new(claim().sampling_rate())
}

fn paid(grant: Grant, secret: MasterSecret) -> Protection {
    Protection::Private {
        grant,
        secret,
        clipping_norm: claim().clipping_norm(),
    }
}

fn product(entry: &Entry, secret: &MasterSecret) -> Product {
    replayed(entry, secret, &plan()).expect("its own secret")
}

fn replayed(entry: &Entry, secret: &MasterSecret, plan: &Plan) -> Result<Product, TrainError> {
    let network = Network::from_plan(plan).expect("a network");
    Product::replay(entry, secret, plan, &network, claim().clipping_norm())
}

/// The key is new in every run. False alarms: 1 in 80 000 by noise and batches.
#[test]
fn a_replay_ends_in_the_rounds_own_digest_and_sees_the_noise_that_was_charged() {
    let (claim, past) = (claim(), Past::new());
    let secret = MasterSecret::random().expect("randomness");
    let (grant, entry) = grant(&claim, 2, &secret);
    let key = SealingKey::from_bytes([8; 32]);
    let kept = secret.seal(&key).expect("room");
    let digest = past.train(paid(grant, secret));
    let secret = MasterSecret::open(&key, &kept).expect("its own seal");

    let mut all = nothing_seen();
    let replay = past.replay(product(&entry, &secret), &mut all);
    assert_eq!(replay.digest, digest);
    assert_eq!(replay.seen.irregularities(), []);
    let (low, high) = replay.seen.residuals.deviation_bounds().expect("noise");
    // Five standard errors wide on either side, and five more for chance.
    assert!(low > 0.95 && low < 1.0 && high > 1.0 && high < 1.05);
    assert_eq!((replay.unreadable, replay.patients), (0, PATIENTS));
    assert_eq!(replay.drawn.len(), STEPS as usize);
    assert_eq!(all.residuals.steps(), STEPS);
}

/// False alarms: 1 in 80 000 by noise and batches.
#[test]
fn a_replay_of_an_adaptive_norm_starts_and_ends_where_the_round_did() {
    let mut plan = plan();
    plan.privacy.clipping = Clipping::Adaptive {
        quantile: 0.5,
        rate: 0.2,
        count_noise: 0.1,
    };
    let past = Past::of(plan.clone());
    let secret = MasterSecret::random().expect("randomness");
    let (grant, entry) = grant(&claim(), 2, &secret);
    let key = SealingKey::from_bytes([8; 32]);
    let kept = secret.seal(&key).expect("room");
    let start = ClippingNorm::try_from(0.3).expect("within range");
    let protection = Protection::Private {
        grant,
        secret,
        clipping_norm: start,
    };
    let update = past.update(protection);
    let Origin::Noised {
        next_clipping_norm, ..
    } = update.origin()
    else {
        panic!("not private");
    };
    assert_ne!(next_clipping_norm, start);
    let network = Network::from_plan(&plan).expect("a network");
    let replay = |start| {
        let secret = MasterSecret::open(&key, &kept).expect("its own seal");
        let product = Product::replay(&entry, &secret, &plan, &network, start);
        past.replay(product.expect("its own secret"), &mut nothing_seen())
    };
    let again = replay(start);
    assert_eq!(again.digest, update.digest());
    assert_eq!(again.next_clipping_norm, next_clipping_norm);
    assert_eq!(again.seen.irregularities(), []);
    let elsewhere = replay(0.31.try_into().expect("within range"));
    assert_ne!(elsewhere.digest, update.digest());
    assert_ne!(elsewhere.next_clipping_norm, next_clipping_norm);
}

/// False alarms: 1 in 80 000 for each plan.
#[test]
fn a_replay_clips_and_averages_views_as_the_plan_says() {
    let automatic = Clipping::Automatic { gamma: 0.1 };
    for (clipping, views) in [(Clipping::PerLayer, 1), (automatic, 1), (Clipping::Flat, 3)] {
        let mut plan = plan();
        (plan.privacy.clipping, plan.training.views) = (clipping, views);
        let past = Past::of(plan.clone());
        let secret = MasterSecret::random().expect("randomness");
        let (grant, entry) = grant(&claim(), 2, &secret);
        let key = SealingKey::from_bytes([8; 32]);
        let kept = secret.seal(&key).expect("room");
        let digest = past.train(paid(grant, secret));
        let secret = MasterSecret::open(&key, &kept).expect("its own seal");
        let product = replayed(&entry, &secret, &plan).expect("its own secret");
        let replay = past.replay(product, &mut nothing_seen());
        assert_eq!(replay.digest, digest, "{clipping:?}, {views} views");
        assert_eq!(
            replay.seen.irregularities(),
            [],
            "{clipping:?}, {views} views"
        );
    }
}

#[test]
fn other_weights_other_data_and_another_secret_do_not_pass_for_the_round() {
    let (claim, past) = (claim(), Past::new());
    let secret = MasterSecret::random().expect("randomness");
    let (_, entry) = grant(&claim, 2, &secret);
    let digest = past.digest(product(&entry, &secret));

    let mut other = Past::new();
    other.weights = Network::from_plan(&plan()).expect("a network").initial(4);
    assert_ne!(other.digest(product(&entry, &secret)), digest);
    let mut other = Past::new();
    other
        .examples
        .0
        .iter_mut()
        .for_each(|(point, _)| point[0] += 1e-3);
    assert_ne!(other.digest(product(&entry, &secret)), digest);
    let mut other = Past::new();
    other.threads = 3;
    assert_eq!(
        other.digest(product(&entry, &secret)),
        digest,
        "threads change nothing"
    );

    let stranger = MasterSecret::random().expect("randomness");
    let refused = replayed(&entry, &stranger, &plan());
    assert!(matches!(
        refused.err(),
        Some(TrainError::Grant(GrantError::OtherSecret { .. }))
    ));
    let (_, entry) = grant(&claim, 2, &stranger);
    assert_ne!(past.digest(product(&entry, &stranger)), digest);
}

/// What finds a broken program: replayed by itself, or by a sound one.
struct Caught {
    /// Figures of its own replay.
    seen: Vec<Irregularity>,
    /// Deviation of its noise over that charged.
    deviation: f64,
    /// A sound program ends in another digest.
    by_sound_code: bool,
}

fn caught(flaw: Flaw) -> Caught {
    let (claim, past) = (claim(), Past::new());
    let double = |flaw, round| Double::new(flaw, round, &claim, BATCH, STEPS);
    let mut all = nothing_seen();
    let ledger = past.digest(double(flaw, 2));
    let own = past.replay(double(flaw, 2), &mut all);
    assert_eq!(own.digest, ledger, "{flaw:?} agrees with itself");
    past.replay(double(flaw, 1), &mut all);
    Caught {
        deviation: own.seen.residuals.deviation().expect("some noise").0,
        seen: all.irregularities(),
        by_sound_code: past.digest(double(Flaw::None, 2)) != ledger,
    }
}

#[test]
fn a_program_that_lies_to_its_own_ledger_is_found_by_what_its_steps_release() {
    let (none, half) = (caught(Flaw::NoNoise), caught(Flaw::HalfNoise));
    assert!(none.deviation < 1e-6, "{}", none.deviation);
    assert!((half.deviation - 0.5).abs() < 0.01, "{}", half.deviation);
    let split = caught(Flaw::NoisePerMicrobatch);
    assert!(split.deviation < 0.8, "{}", split.deviation);
    for found in [none, half, split] {
        assert!(matches!(found.seen[0], Irregularity::Deviation { .. }));
        assert!(found.by_sound_code);
    }
}

#[test]
fn batches_that_are_no_poisson_samples_are_found_by_their_sizes_and_overlaps() {
    let fixed = caught(Flaw::FixedBatches);
    let spread =
        |found: &Irregularity| matches!(found, Irregularity::Spread { ratio, .. } if *ratio < 0.1);
    assert!(fixed.seen.iter().any(spread), "{:?}", fixed.seen);
    let same = caught(Flaw::SameBatch);
    let overlap =
        |found: &Irregularity| matches!(found, Irregularity::Overlap { ratio, .. } if *ratio > 2.0);
    assert!(same.seen.iter().any(overlap), "{:?}", same.seen);
    assert!(fixed.by_sound_code && same.by_sound_code);
}

#[test]
fn noise_that_serves_twice_is_found_within_a_round_and_between_two() {
    let reused = caught(Flaw::NoiseReused);
    let repeated = |found: &Irregularity| matches!(found, Irregularity::Repeated { correlation, .. } if *correlation > 0.99);
    assert!(reused.seen.iter().any(repeated), "{:?}", reused.seen);
    assert!(reused.by_sound_code);

    // Each round by itself is sound; the second has the noise of the first.
    let (claim, past) = (claim(), Past::new());
    let mut all = nothing_seen();
    for _ in 0..2 {
        let double = Double::new(Flaw::None, 2, &claim, BATCH, STEPS);
        let round = past.replay(double, &mut all);
        assert_eq!(round.seen.irregularities(), []);
    }
    assert!(all.irregularities().iter().any(repeated));
}

#[test]
fn missing_clipping_is_found_by_what_is_left_of_the_gradients() {
    let open = caught(Flaw::NoClipping);
    assert!(open.deviation > 1.05, "{}", open.deviation);
    assert!(matches!(open.seen[0], Irregularity::Deviation { .. }));
    assert!(open.by_sound_code);
}

#[test]
fn a_double_without_flaw_is_accused_of_nothing() {
    let sound = caught(Flaw::None);
    assert_eq!(sound.seen, []);
    assert!(!sound.by_sound_code);
}

#[test]
fn a_step_that_nobody_paid_for_is_not_repeated_either() {
    let mut past = Past::new();
    past.steps += 1;
    let secret = MasterSecret::random().expect("randomness");
    let (_, entry) = grant(&claim(), 2, &secret);
    let refused = past.try_replay(product(&entry, &secret), &mut nothing_seen());
    let expected = StepError::NotPaid { paid: STEPS };
    assert!(matches!(refused, Err(TrainError::Step(error)) if error == expected));
}
