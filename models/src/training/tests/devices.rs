//! A private round on burn's tensors, beside the same one on the CPU.

use consilium_privacy::seal::SealingKey;

use super::*;
use crate::network::Device;

impl Setting {
    fn on(self, devices: &[Device]) -> Self {
        let network = self.network.on(devices).expect("burn's own CPU");
        Self { network, ..self }
    }
}

/// Batches and noise come from the secret alone, and gradients are the same but for rounding.
#[test]
fn a_private_round_on_burns_tensors_gives_the_update_of_the_cpu() {
    let key = SealingKey::from_bytes([3; 32]);
    let secret = MasterSecret::random().expect("randomness");
    let sealed = secret.seal(&key).expect("sealed");
    let again = || MasterSecret::open(&key, &sealed).expect("our own seal");
    let examples = Memory::images(60);
    let train = |device, secret| {
        let mut plan = image_plan();
        plan.training.steps = 3;
        plan.training.batch_size = 30;
        let setting = Setting::new(plan).on(&[device]);
        let outcome = setting.train(paid_with(secret, 0.5, 2.0, 3), &examples);
        let outcome = outcome.expect("an update");
        assert_eq!(outcome.local.not_finite, 0);
        outcome.update.values().to_vec()
    };
    let here = train(Device::Cpu, again());
    let there = train(Device::Tensors, again());
    assert!(apart(&here, &there) < 1e-4, "{}", apart(&here, &there));
    // Noise of another secret is far away.
    let other = train(Device::Tensors, MasterSecret::random().expect("randomness"));
    assert!(apart(&here, &other) > 0.1, "{}", apart(&here, &other));
}

/// How far an update is from another, over its length.
fn apart(here: &[f32], there: &[f32]) -> f64 {
    let pairs = here.iter().zip(there);
    let apart: f64 = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let length: f64 = here.iter().map(|a| f64::from(*a).powi(2)).sum();
    (apart / length).sqrt()
}

#[test]
fn training_without_privacy_learns_on_burns_tensors() {
    let examples = Memory::table(200);
    let training = "steps = 40\nbatch_size = 100\nlearning_rate = 1.0";
    let setting = Setting::new(table_plan("[8]", training, NONE)).on(&[Device::Tensors]);
    let outcome = setting.train(none(0.5), &examples).expect("an update");
    let accuracy = setting.accuracy(&outcome.update, &examples);
    assert!(accuracy > 0.95, "{accuracy}");
}

/// A plan whose batches fill several microbatches, the secret of its round, and patients.
fn large_batches() -> (Plan, impl Iterator<Item = MasterSecret>, Memory) {
    let mut plan = image_plan();
    plan.training.steps = 3;
    plan.training.batch_size = 120;
    (plan, secrets(), Memory::images(240))
}

#[test]
fn two_devices_train_together_and_give_the_update_of_one() {
    let (plan, mut secrets, examples) = large_batches();
    let mut train = |devices: &[Device]| {
        let setting = Setting::new(plan.clone()).on(devices);
        let secret = secrets.next().expect("no end");
        let outcome = setting.train(paid_with(secret, 0.5, 2.0, 3), &examples);
        let values = outcome.expect("an update").update.values().to_vec();
        (values, setting.network.devices())
    };
    let (alone, _) = train(&[Device::Tensors]);
    let (together, used) = train(&[Device::Tensors, Device::Tensors]);
    // Both round alike and sums are integers, so that not a bit differs.
    assert_eq!(alone, together);
    let used: Vec<_> = used.iter().map(|used| used.microbatches).collect();
    // Some came of the check; each of three steps has three microbatches or more.
    assert!(
        used.iter().all(|&microbatches| microbatches > 4),
        "{used:?}"
    );
}

#[test]
fn a_device_that_runs_out_of_memory_goes_on_with_the_same_records_in_halves() {
    let (plan, mut secrets, examples) = large_batches();
    let setting = Setting::new(plan).on(&[Device::Tensors]);
    let mut train = |setting: &Setting| {
        let secret = secrets.next().expect("no end");
        let outcome = setting.train(paid_with(secret, 0.5, 2.0, 3), &examples);
        outcome.expect("an update").update.values().to_vec()
    };
    let right = train(&setting);
    assert_eq!(setting.network.devices()[0].largest, 32);
    let (network, _) = setting.network.failing_above(7);
    let setting = Setting { network, ..setting };
    // Other sizes may round otherwise.
    let found = train(&setting);
    assert!(apart(&right, &found) < 1e-4, "{}", apart(&right, &found));
    let used = setting.network.devices()[0];
    assert!(used.is_reduced && used.largest == 4, "{used:?}");
}

/// What is left of an update without patients: noise drawn on another thread on the one side, in
/// between on the other.
#[test]
fn noise_drawn_while_a_device_computes_is_the_noise_of_the_cpu_bit_for_bit() {
    let (plan, mut secrets, _) = large_batches();
    let nobody = Memory::default();
    let mut train = |setting: Setting| {
        let secret = secrets.next().expect("no end");
        let outcome = setting.train(paid_with(secret, 0.5, 2.0, 3), &nobody);
        outcome.expect("an update").update.values().to_vec()
    };
    let here = train(Setting::new(plan.clone()));
    let there = train(Setting::new(plan).on(&[Device::Tensors]));
    assert_eq!(here, there);
    assert!(here.iter().any(|value| *value != 0.0));
}
