//! A private round on burn's tensors, beside the same one on the CPU.

use consilium_privacy::seal::SealingKey;

use super::*;
use crate::network::Device;

impl Setting {
    fn on(self, device: Device) -> Self {
        let network = self.network.on(device).expect("burn's own CPU");
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
        let setting = Setting::new(plan).on(device);
        let outcome = setting.train(paid_with(secret, 0.5, 2.0, 3), &examples);
        let outcome = outcome.expect("an update");
        assert_eq!(outcome.local.not_finite, 0);
        outcome.update.values().to_vec()
    };
    let here = train(Device::Cpu, again());
    let there = train(Device::Tensors, again());
    let apart = |others: &[f32]| {
        let pairs = here.iter().zip(others);
        let apart: f64 = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let length: f64 = here.iter().map(|a| f64::from(*a).powi(2)).sum();
        (apart / length).sqrt()
    };
    assert!(apart(&there) < 1e-4, "{}", apart(&there));
    // Noise of another secret is far away.
    let other = train(Device::Tensors, MasterSecret::random().expect("randomness"));
    assert!(apart(&other) > 0.1, "{}", apart(&other));
}

#[test]
fn training_without_privacy_learns_on_burns_tensors() {
    let examples = Memory::table(200);
    let training = "steps = 40\nbatch_size = 100\nlearning_rate = 1.0";
    let setting = Setting::new(table_plan("[8]", training, NONE)).on(Device::Tensors);
    let outcome = setting.train(none(0.5), &examples).expect("an update");
    let accuracy = setting.accuracy(&outcome.update, &examples);
    assert!(accuracy > 0.95, "{accuracy}");
}
