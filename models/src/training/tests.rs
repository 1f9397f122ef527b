mod counts;
mod devices;

use std::{
    collections::HashSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use consilium_privacy::{
    accountant::Charge,
    ledger::{Budget, ChargeRequest, Ledger, LedgerKey, MemoryJournal, Purpose, Repeat},
    seal::SealingKey,
    step::{ClippedSum, Clipping, Origin},
};

use super::{
    batch::Context,
    examples::Pick,
    private::{Gradient, each_gradient},
    *,
};
use crate::{network::Target, random::Random};

const PRIVATE: &str = "clipping_norm = 1.5\nnoise_multiplier = 2.0\ndelta = 1e-5";
const NONE: &str = "mode = \"none\"";

/// A plan for a table of two columns.
fn table_plan(hidden: &str, training: &str, privacy: &str) -> Plan {
    plan(
        "tabular-classification",
        "[[table.columns]]\nname = \"a\"\n[[table.columns]]\nname = \"b\"",
        &format!("name = \"dense\"\nhidden = {hidden}"),
        training,
        privacy,
    )
}

/// A plan for small images that uses every augmentation.
fn image_plan() -> Plan {
    let input = "[image]\nwidth = 8\nheight = 8\naugment = [{step = \"flip\", axis = \"vertical\"}, \
        {step = \"rotate\", max_degrees = 20.0}, {step = \"shift\", max_pixels = 1}, \
        {step = \"contrast\", max_factor = 1.5}, {step = \"noise\", deviation = 0.1}]";
    let network = "name = \"resnet-gn\"\nwidth = 4\ndepth = 1";
    let training = "steps = 1\nbatch_size = 4\nlearning_rate = 0.1";
    plan("image-classification", input, network, training, PRIVATE)
}

fn plan(task: &str, input: &str, network: &str, training: &str, privacy: &str) -> Plan {
    let text = format!(
        "name = \"test\"\ntask = \"{task}\"\ndata_set = \"d\"\nrounds = 1\nclasses = [\"no\", \"yes\"]\n\
         [cohort]\nsize = 3\n{input}\n[network]\n{network}\n[training]\n{training}\n\
         [privacy]\n{privacy}\n"
    );
    Plan::from_toml(&text).expect("a sound plan")
}

fn paid(q: f64, sigma: f64, steps: u32) -> Protection {
    let secret = MasterSecret::random().expect("randomness");
    paid_with(secret, q, sigma, steps)
}

/// The same secret as often as one likes, as a site that restarts has it.
fn secrets() -> impl Iterator<Item = MasterSecret> {
    let key = || SealingKey::from_bytes([3; 32]);
    let secret = MasterSecret::random().expect("randomness");
    let sealed = secret.seal(&key()).expect("room");
    std::iter::repeat_with(move || MasterSecret::open(&key(), &sealed).expect("its own seal"))
}

/// The same secret gives the same grant, hence the same batches and noise.
fn paid_with(secret: MasterSecret, q: f64, sigma: f64, steps: u32) -> Protection {
    let sound = "within range";
    let (epsilon, delta) = (1e6.try_into().expect(sound), 1e-5.try_into().expect(sound));
    let budget = Budget { epsilon, delta };
    let journal = MemoryJournal::default();
    let mut ledger = Ledger::open(
        journal,
        LedgerKey::from_seed([1; 32]).into(),
        [("d".to_owned(), budget)],
    )
    .expect("an empty ledger");
    let (q, sigma) = (q.try_into().expect(sound), sigma.try_into().expect(sound));
    let request = ChargeRequest {
        data_set: "d".to_owned(),
        study: [7; 16],
        round: 1,
        attempt: 1,
        purpose: Purpose::Training,
        charge: Charge::SampledGaussian { q, sigma, steps },
        study_cap: None,
        repeat: Repeat::Refuse,
        key: Some(secret.commitment()),
    };
    let grant = ledger
        .reserve(request, std::time::SystemTime::UNIX_EPOCH)
        .expect("a large budget");
    Protection::Private {
        grant,
        secret,
        clipping_norm: 1.5.try_into().expect(sound),
    }
}

/// The same, from another clipping norm on.
fn clipped_to(c: f64, protection: Protection) -> Protection {
    let Protection::Private { grant, secret, .. } = protection else {
        panic!("without privacy");
    };
    Protection::Private {
        grant,
        secret,
        clipping_norm: c.try_into().expect("within range"),
    }
}

/// Patients in memory; counts what is loaded.
#[derive(Default)]
struct Memory {
    patients: Vec<Vec<(Vec<f32>, Target)>>,
    broken: Option<usize>,
    excluded: Option<usize>,
    loads: AtomicUsize,
}

impl Examples for Memory {
    fn patients(&self) -> usize {
        self.patients.len()
    }

    fn records_of(&self, patient: usize) -> usize {
        if self.excluded == Some(patient) {
            0
        } else {
            self.patients[patient].len()
        }
    }

    fn load(&self, patient: usize, record: usize) -> Result<(Vec<f32>, Target), LoadError> {
        assert_ne!(
            self.excluded,
            Some(patient),
            "an excluded patient was loaded"
        );
        self.loads.fetch_add(1, Ordering::Relaxed);
        if self.broken == Some(patient) {
            return Err("the disk is gone".into());
        }
        Ok(self.patients[patient][record].clone())
    }
}

impl Memory {
    /// Points of a square, of two classes by the sign of a sum.
    fn table(patients: usize) -> Self {
        let mut random = Random::new(&[5]);
        let mut point = || {
            let (a, b) = (random.symmetric(1.0), random.symmetric(1.0));
            vec![(vec![a, b], Target::Class(usize::from(a + b > 0.0)))]
        };
        Self {
            patients: (0..patients).map(|_| point()).collect(),
            ..Self::default()
        }
    }

    fn images(patients: usize) -> Self {
        let mut random = Random::new(&[6]);
        let mut image = |patient: usize| {
            let pixels = (0..64).map(|_| random.symmetric(2.0)).collect();
            vec![(pixels, Target::Class(patient % 2))]
        };
        Self {
            patients: (0..patients).map(&mut image).collect(),
            ..Self::default()
        }
    }
}

struct Setting {
    plan: Plan,
    network: Network,
    weights: ParameterVector,
}

impl Setting {
    fn new(plan: Plan) -> Self {
        let network = Network::from_plan(&plan).expect("a network");
        let weights = network.initial(plan.seed);
        Self {
            plan,
            network,
            weights,
        }
    }

    fn train(&self, protection: Protection, examples: &Memory) -> Result<Outcome, TrainError> {
        self.train_until(protection, examples, &StopFlag::default(), |_| {})
    }

    fn train_until(
        &self,
        protection: Protection,
        examples: &Memory,
        stop: &StopFlag,
        progress: impl FnMut(Progress),
    ) -> Result<Outcome, TrainError> {
        self.train_on(2, protection, examples, stop, progress)
    }

    fn train_on(
        &self,
        threads: usize,
        protection: Protection,
        examples: &Memory,
        stop: &StopFlag,
        progress: impl FnMut(Progress),
    ) -> Result<Outcome, TrainError> {
        let Self {
            plan,
            network,
            weights,
        } = self;
        let threads = NonZeroUsize::new(threads).expect("one or more");
        let job = Job {
            plan,
            network,
            weights,
            round: 1,
            protection,
            threads,
        };
        train_round(job, examples, stop, progress)
    }

    fn accuracy(&self, update: &PrivateUpdate, examples: &Memory) -> f64 {
        let moved = self
            .weights
            .as_slice()
            .iter()
            .zip(update.values())
            .map(|(w, d)| w + d);
        let moved: Vec<f32> = moved.collect();
        let weights = self.network.weights(&moved).expect("as long as the layout");
        let records: Vec<_> = examples.patients.iter().flatten().collect();
        let inputs: Vec<f32> = records
            .iter()
            .flat_map(|(input, _)| input.clone())
            .collect();
        let answers = self
            .network
            .predict(&weights, &inputs)
            .expect("whole examples");
        let right = records
            .iter()
            .zip(answers.chunks(2))
            .filter(|((_, target), answer)| {
                *target == Target::Class(usize::from(answer[1] > answer[0]))
            });
        right.count() as f64 / records.len() as f64
    }

    /// The gradients of some records, as bits, in no order.
    fn gradients(&self, examples: &Memory, patients: &[usize], threads: usize) -> Vec<Vec<u32>> {
        let add = |found: &mut Vec<Vec<u32>>, gradient: Gradient| {
            let mut values = vec![0.0; self.weights.len()];
            gradient.write(&mut values);
            found.push(values.into_iter().map(f32::to_bits).collect());
        };
        let found = self.each_gradient(examples, patients, threads, Vec::new, add);
        found.concat()
    }

    /// What each thread makes of the gradients of some records.
    fn each_gradient<T: Send>(
        &self,
        examples: &Memory,
        patients: &[usize],
        threads: usize,
        start: impl Fn() -> T + Sync,
        take: impl Fn(&mut T, Gradient) + Sync,
    ) -> Vec<T> {
        let preprocess = self.plan.image.as_ref().map(Preprocess::from_plan);
        let context = Context {
            network: &self.network,
            examples,
            preprocess: preprocess.as_ref(),
            seed: [self.plan.seed, 1, 1],
            threads: NonZeroUsize::new(threads).expect("one or more"),
            stop: &StopFlag::default(),
            mishaps: &Mishaps::default(),
            views: 1,
            clipping: &Clipping::Flat,
        };
        let picks: Vec<_> = patients
            .iter()
            .map(|&patient| Pick { patient, record: 0 })
            .collect();
        let (start, take) = (
            || Ok(start()),
            |hand: &mut T, gradient: Gradient| {
                take(hand, gradient);
                Ok(())
            },
        );
        each_gradient(&context, self.weights.as_slice(), &picks, start, take).expect("a sound step")
    }
}

fn none(rate: f64) -> Protection {
    Protection::None {
        rate: rate.try_into().expect("a rate"),
    }
}

#[test]
fn training_learns_with_noise_and_without() {
    let examples = Memory::table(300);
    let training = "steps = 60\nbatch_size = 150\nlearning_rate = 1.0";
    let private = Setting::new(table_plan("[]", training, PRIVATE));
    let outcome = private.train(paid(0.5, 2.0, 60), &examples);
    let outcome = outcome.expect("an update");
    assert!(matches!(
        outcome.update.origin(),
        Origin::Noised { taken: 60, .. }
    ));
    let accuracy = private.accuracy(&outcome.update, &examples);
    assert!(accuracy > 0.9, "{accuracy}");

    let plain = Setting::new(table_plan("[8]", training, NONE));
    let outcome = plain.train(none(0.5), &examples).expect("an update");
    assert!(!outcome.update.is_private());
    let accuracy = plain.accuracy(&outcome.update, &examples);
    assert!(accuracy > 0.95, "{accuracy}");
}

/// False alarms: five standard errors of a variance, once in a million runs.
#[test]
fn without_patients_every_step_still_adds_its_noise() {
    let training = "steps = 5\nbatch_size = 10\nlearning_rate = 0.5";
    let setting = Setting::new(table_plan("[200]", training, PRIVATE));
    let outcome = setting.train(paid(0.1, 2.0, 5), &Memory::default());
    let outcome = outcome.expect("an update");
    let values = outcome.update.values();
    let squares = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let (variance, count) = (squares / values.len() as f64, values.len() as f64);
    // Steps times (learning rate · σ · C / B)².
    let expected = 5.0 * (0.5 * 2.0 * 1.5 / 10.0_f64).powi(2);
    let error = (2.0 / count).sqrt();
    assert!(
        (variance / expected - 1.0).abs() < 5.0 * error,
        "{variance} {expected}"
    );
}

/// What the patient-level guarantee rests on. Augmentation draws on each input alone, and padded
/// microbatches give each record the same bits wherever it stands.
#[test]
fn no_gradient_depends_on_the_others_in_a_batch() {
    let setting = Setting::new(image_plan());
    let examples = Memory::images(40);
    let all: Vec<usize> = (0..40).collect();
    let found: HashSet<_> = setting.gradients(&examples, &all, 2).into_iter().collect();
    assert_eq!(found.len(), 40);
    for some in [&[7][..], &[39, 0, 21], &all[5..27]] {
        for threads in [1, 3] {
            let gradients = setting.gradients(&examples, some, threads);
            assert_eq!(gradients.len(), some.len());
            assert!(gradients.iter().all(|gradient| found.contains(gradient)));
        }
    }
}

#[test]
fn an_integer_sum_is_the_same_on_any_number_of_threads() {
    let setting = Setting::new(image_plan());
    let examples = Memory::images(80);
    let all: Vec<usize> = (0..80).collect();
    let mut secrets = secrets();
    let mut noisy = |threads| {
        let secret = secrets.next().expect("endless");
        let Protection::Private { grant, secret, .. } = paid_with(secret, 0.5, 2.0, 1) else {
            panic!("paid");
        };
        let norm = 0.5.try_into().expect("within range");
        let private = Private::new(grant, &secret, NonZeroU32::MIN, norm);
        let mut private = private.expect("a training grant");
        let length = setting.weights.len();
        let empty = || private.sum(length).expect("a sound sum");
        let add = |sum: &mut ClippedSum, gradient: Gradient| gradient.add_to(sum).expect("fits");
        let sums = setting.each_gradient(&examples, &all, threads, empty, add);
        assert_eq!(sums.len(), threads, "each thread has a sum of its own");
        let released = private.release(length, sums).expect("paid");
        released.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let one = noisy(1);
    assert!([2, 5].into_iter().all(|threads| noisy(threads) == one));
}

#[test]
fn a_drawn_patient_gives_one_record_and_an_excluded_one_none() {
    let mut examples = Memory::table(6);
    examples
        .patients
        .iter_mut()
        .for_each(|records| records.resize(5, records[0].clone()));
    examples.excluded = Some(2);
    let training = "steps = 4\nbatch_size = 6\nlearning_rate = 0.1";
    let private = Setting::new(table_plan("[]", training, PRIVATE));
    private
        .train(paid(1.0, 2.0, 4), &examples)
        .expect("an update");
    assert_eq!(examples.loads.swap(0, Ordering::Relaxed), 4 * 5);
    let plain = Setting::new(table_plan("[]", training, NONE));
    plain.train(none(1.0), &examples).expect("an update");
    assert_eq!(examples.loads.load(Ordering::Relaxed), 4 * 5);
}

#[test]
fn records_that_cannot_be_used_count_as_zeros_and_are_reported_inside() {
    let mut examples = Memory::table(8);
    examples.broken = Some(1);
    examples.patients[4][0].0 = vec![f32::NAN, 0.0];
    examples.patients[5][0].0 = vec![0.0];
    examples.patients[6][0].1 = Target::Class(2);
    let training = "steps = 3\nbatch_size = 8\nlearning_rate = 0.1";
    let private = Setting::new(table_plan("[]", training, PRIVATE));
    let outcome = private.train(paid(1.0, 2.0, 3), &examples);
    let local = outcome.expect("an update").local;
    assert_eq!((local.not_finite, local.unreadable), (3, 3 * 3));
    assert!(
        local
            .first_reason
            .is_some_and(|reason| reason.to_string().contains("disk"))
    );
}

#[test]
fn a_plain_step_is_the_sum_of_gradients_over_the_batch_size() {
    let examples = Memory::table(30);
    let training = "steps = 1\nbatch_size = 7\nlearning_rate = 0.5";
    let setting = Setting::new(table_plan("[4]", training, NONE));
    let outcome = setting.train(none(1.0), &examples).expect("an update");
    let weights = setting
        .network
        .weights(setting.weights.as_slice())
        .expect("its own weights");
    let mut batch = setting.network.batch();
    for (input, target) in examples.patients.iter().flatten() {
        batch.push(input, target.clone()).expect("a sound example");
    }
    let mut sum = vec![0.0; setting.weights.len()];
    let added = setting.network.add_gradient(&weights, &batch, &mut sum);
    added.expect("a gradient");
    for (moved, gradient) in outcome.update.values().iter().zip(sum) {
        assert!(
            (moved + 0.5 * gradient / 7.0).abs() < 1e-5,
            "{moved} {gradient}"
        );
    }
}

#[test]
fn a_job_whose_parts_do_not_belong_together_is_refused() {
    let training = "steps = 3\nbatch_size = 8\nlearning_rate = 0.1";
    let examples = Memory::table(3);
    let private = Setting::new(table_plan("[]", training, PRIVATE));
    let plain = Setting::new(table_plan("[]", training, NONE));
    let refused = private.train(none(0.5), &examples);
    assert!(
        matches!(refused, Err(TrainError::OtherMode { .. })),
        "{refused:?}"
    );
    let refused = plain.train(paid(0.5, 2.0, 3), &examples);
    assert!(
        matches!(refused, Err(TrainError::OtherMode { .. })),
        "{refused:?}"
    );
    let refused = private.train(paid(0.5, 2.0, 2), &examples);
    assert!(matches!(
        refused,
        Err(TrainError::TooFewSteps {
            planned: 3,
            paid: 2
        })
    ));
    let other = Setting {
        weights: plain.network.initial(1),
        ..Setting::new(image_plan())
    };
    let refused = other.train(paid(0.5, 2.0, 1), &Memory::images(3));
    assert!(
        matches!(refused, Err(TrainError::Network(_))),
        "{refused:?}"
    );
    assert_eq!(examples.loads.load(Ordering::Relaxed), 0);
}

#[test]
fn a_raised_flag_ends_training_before_the_next_step() {
    let training = "steps = 50\nbatch_size = 8\nlearning_rate = 0.1";
    let setting = Setting::new(table_plan("[]", training, PRIVATE));
    let stop = StopFlag::default();
    let mut steps = Vec::new();
    let protection = paid(0.5, 2.0, 50);
    let outcome = setting.train_until(protection, &Memory::table(20), &stop, |progress| {
        steps.push((progress.step, progress.steps));
        if progress.step == 2 {
            stop.stop();
        }
    });
    assert!(matches!(outcome, Err(TrainError::Stopped)), "{outcome:?}");
    assert_eq!(steps, [(1, 50), (2, 50)]);
}

#[test]
fn weights_that_diverge_are_an_error_and_no_update() {
    let mut examples = Memory::table(2);
    for (class, records) in examples.patients.iter_mut().enumerate() {
        // On both sides, so that gradients from weights of zero do not cancel.
        let far = [1e37, -1e37][class];
        records[0] = (vec![far; 2], Target::Class(class));
    }
    let training = "steps = 1\nbatch_size = 1\nlearning_rate = 100.0";
    let setting = Setting::new(table_plan("[]", training, NONE));
    let outcome = setting.train(none(1.0), &examples);
    assert!(
        matches!(outcome, Err(TrainError::Step(StepError::NotFinite { .. }))),
        "{outcome:?}"
    );
}

/// What an auditor who repeats a round relies on.
#[test]
fn an_update_has_the_same_bits_on_any_number_of_threads() {
    for privacy in [
        PRIVATE.to_owned(),
        format!("{PRIVATE}\nclipping = {{ name = \"per-layer\" }}"),
        format!("{PRIVATE}\nclipping = {{ name = \"adaptive\" }}"),
    ] {
        let training = "steps = 3\nbatch_size = 40\nlearning_rate = 0.1";
        let setting = Setting::new(table_plan("[7, 5]", training, &privacy));
        let examples = Memory::table(90);
        let mut secrets = secrets();
        let mut digest = |threads| {
            let protection = paid_with(secrets.next().expect("endless"), 0.5, 2.0, 3);
            let outcome =
                setting.train_on(threads, protection, &examples, &StopFlag::default(), |_| {});
            let update = outcome.expect("an update").update;
            (update.digest(), update.origin())
        };
        let one = digest(1);
        assert_eq!([digest(2), digest(5)], [one; 2]);
    }
}

/// With next to no noise a step is the clipped sum, however it is clipped: computed here from single
/// gradients in `f64`.
#[test]
fn a_private_step_is_the_clipped_sum_of_single_gradients() {
    let norm = 0.3;
    for (clipping, gamma) in [("flat", 0.0), ("automatic", 0.05), ("per-layer", 0.0)] {
        let privacy = format!(
            "clipping_norm = {norm}\nnoise_multiplier = 0.002\ndelta = 1e-5\n\
             clipping = {{ name = \"{clipping}\"{} }}",
            if gamma > 0.0 {
                format!(", gamma = {gamma}")
            } else {
                String::new()
            }
        );
        let training = "steps = 1\nbatch_size = 1\nlearning_rate = 1.0";
        let setting = Setting::new(table_plan("[6]", training, &privacy));
        let examples = Memory::table(70);
        let outcome = setting
            .train(clipped_to(norm, paid(1.0, 0.002, 1)), &examples)
            .expect("an update");

        // The layers are a weight and a bias each: 12 + 6 and 12 + 2 coordinates.
        let layers: &[usize] = match clipping {
            "per-layer" => &[18, 14],
            _ => &[32],
        };
        let share = norm * (1.0 - 1.0 / 1024.0) / (layers.len() as f64).sqrt();
        let mut expected = vec![0.0; 32];
        let patients: Vec<usize> = (0..70).collect();
        for gradient in setting.gradients(&examples, &patients, 1) {
            let gradient: Vec<f64> = gradient
                .into_iter()
                .map(|x| f32::from_bits(x).into())
                .collect();
            let mut start = 0;
            for length in layers {
                let layer = start..start + length;
                start += length;
                let length = gradient[layer.clone()]
                    .iter()
                    .map(|x| x * x)
                    .sum::<f64>()
                    .sqrt();
                let factor = match gamma > 0.0 {
                    true => share / (length + gamma),
                    false => (share / length).min(1.0),
                };
                for at in layer.clone() {
                    expected[at] += factor * gradient[at];
                }
            }
        }
        let total = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
        // Noise of deviation 0.002 · norm on each of 32 coordinates, six deviations.
        let allowed = 1e-4 * total + 6.0 * 0.002 * norm * 32_f64.sqrt();
        let values = outcome.update.values().iter().zip(expected);
        let error = values
            .map(|(&x, y)| (f64::from(x) + y).powi(2))
            .sum::<f64>()
            .sqrt();
        assert!(
            error < allowed && total > 50.0 * allowed,
            "{clipping}: {error} of {total}"
        );
    }
}

/// The share of gradients that are kept is what the plan asks for, and the next round goes on from where
/// this one ended. The noise of the counts leaves a deviation of 5 %, seen over 120 runs: five of them.
#[test]
fn an_adaptive_norm_moves_towards_the_gradients_from_where_it_starts() {
    let privacy = format!("{PRIVATE}\nclipping = {{ name = \"adaptive\", rate = 0.5 }}");
    let training = "steps = 40\nbatch_size = 150\nlearning_rate = 0.001";
    let setting = Setting::new(table_plan("[6]", training, &privacy));
    let examples = Memory::table(300);
    let round = |start: f64| {
        let protection = clipped_to(start, paid(0.5, 2.0, 40));
        let update = setting
            .train(protection, &examples)
            .expect("an update")
            .update;
        let Origin::Noised {
            clipping_norm,
            next_clipping_norm,
            charge,
            ..
        } = update.origin()
        else {
            panic!("not private");
        };
        assert_eq!(clipping_norm.value(), start);
        assert_eq!(charge.releases(), 40, "the bits are in the same charge");
        next_clipping_norm.value()
    };
    let patients: Vec<usize> = (0..300).collect();
    let mut lengths: Vec<f64> = setting
        .gradients(&examples, &patients, 1)
        .into_iter()
        .map(|bits| {
            let squares = bits
                .into_iter()
                .map(|x| f64::from(f32::from_bits(x)).powi(2));
            squares.sum::<f64>().sqrt()
        })
        .collect();
    lengths.sort_by(f64::total_cmp);
    // σ = 2 and σ_b = 150 / 20 leave the gradients √(1 - (2 / 15)²) of C.
    let median = lengths[150] / (1.0_f64 - (2.0 / 15.0_f64).powi(2)).sqrt();
    for start in [0.01, 50.0] {
        let end = round(round(start));
        assert!((end / median - 1.0).abs() < 0.25, "{end} for {median}");
    }
}

#[test]
fn views_of_a_record_are_averaged_before_clipping() {
    let examples = Memory::images(24);
    let mut secrets = secrets();
    let mut update = |views: u32, augment: bool| {
        let mut plan = image_plan();
        plan.training.views = views;
        if !augment {
            plan.image.as_mut().expect("images").augment.clear();
        }
        let protection = paid_with(secrets.next().expect("endless"), 0.5, 2.0, 1);
        let outcome = Setting::new(plan).train(protection, &examples);
        outcome.expect("an update").update.into_values()
    };
    let apart = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max)
    };
    let (one, four) = (update(1, false), update(4, false));
    assert!(apart(&one, &four) < 1e-5, "equal views change nothing");
    assert!(
        apart(&update(1, true), &update(4, true)) > 1e-4,
        "others do"
    );
    // Each patient is loaded once, not once for each view.
    let loads = examples.loads.load(Ordering::Relaxed);
    assert!(loads <= 4 * 24, "{loads}");
}
