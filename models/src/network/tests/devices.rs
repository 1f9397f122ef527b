//! burn's tensors and the CPU's kernels compute the same, up to rounding.
//!
//! Seeds are fixed: a value within rounding of a corner of a ReLU would have another gradient.

use proptest::test_runner::RngSeed;

use super::*;

/// Every network; the oracle does not know the last.
fn all_cases() -> Vec<Case> {
    let mut cases = cases();
    let scatter = plan("name = \"scatter-cnn\"", Some([1, 13, 12]), 0, 2);
    cases.push(case("scatter-cnn", &scatter, |_, _| unreachable!()));
    cases
}

fn on_tensors(case: Case) -> Case {
    let network = case.network.on(Device::Tensors).expect("burn's own CPU");
    Case { network, ..case }
}

struct Answers {
    predictions: Vec<f32>,
    losses: Vec<f32>,
    gradients: Vec<Vec<f32>>,
    sum: Vec<f32>,
}

impl Answers {
    /// Of examples with these seeds.
    fn of(case: &Case, seeds: &[usize]) -> Self {
        let network = &case.network;
        let weights = network.weights(&case.weights()).expect("right length");
        let batch = case.batch(seeds);
        let mut tape = Tape::recording(&weights, batch.len());
        let output = network.forward(&batch.inputs, &mut tape);
        let (losses, _) = network.losses(&output, &batch).expect("losses");
        let mut sum = vec![0.0; network.layout().parameters()];
        let added = network.add_gradient(&weights, &batch, &mut sum);
        added.expect("a gradient");
        Self {
            predictions: network.predict(&weights, &batch.inputs).expect("examples"),
            losses,
            gradients: case.gradients(&batch),
            sum,
        }
    }
}

/// How far two vectors are from each other, over the length of the first.
fn distance(here: &[f32], there: &[f32]) -> f64 {
    assert_eq!(here.len(), there.len());
    let square = |x: f64| x * x;
    let pairs = here.iter().zip(there);
    let apart: f64 = pairs
        .map(|(a, b)| square(f64::from(*a) - f64::from(*b)))
        .sum();
    let length: f64 = here.iter().map(|a| square(f64::from(*a))).sum();
    (apart / (length + 1e-12)).sqrt()
}

/// Compares both roads for examples with these seeds.
fn agrees_on_tensors(case: Case, seeds: &[usize]) {
    let here = Answers::of(&case, seeds);
    let case = on_tensors(case);
    let there = Answers::of(&case, seeds);
    let near = |what: &str, here: &[f32], there: &[f32]| {
        let distance = distance(here, there);
        assert!(distance < 1e-4, "{case:?}, {what}: {distance}");
    };
    near("predictions", &here.predictions, &there.predictions);
    near("losses", &here.losses, &there.losses);
    near("sum", &here.sum, &there.sum);
    for (here, there) in here.gradients.iter().zip(&there.gradients) {
        near("gradient", here, there);
    }
}

#[test]
fn every_network_computes_on_burns_tensors_what_it_does_on_the_cpu() {
    for case in all_cases() {
        agrees_on_tensors(case, &[1, 2, 3]);
    }
}

#[test]
fn examples_of_several_microbatches_are_those_of_one_by_one() {
    let seeds: Vec<_> = (0..DEVICE_MICROBATCH + 1).collect();
    for case in all_cases()
        .into_iter()
        .filter(|case| case.network.inputs() < 10)
    {
        agrees_on_tensors(case, &seeds);
    }
}

/// Microbatches of one shape, in which no row is rounded in another way than the next.
#[test]
fn on_burns_tensors_too_a_gradient_depends_on_no_other_example_bit_for_bit() {
    for case in all_cases().into_iter().map(on_tensors) {
        let bits = |seeds: &[usize], at: usize| -> Vec<u32> {
            let gradients = case.gradients(&case.batch(seeds));
            gradients[at].iter().map(|x| x.to_bits()).collect()
        };
        let alone = bits(&[9], 0);
        assert_eq!(alone, bits(&[1, 2, 9], 2), "{}", case.name);
        assert_eq!(alone, bits(&[3, 9, 4, 5, 6, 7, 8, 2], 1), "{}", case.name);
        let many: Vec<_> = (0..DEVICE_MICROBATCH).rev().collect();
        let at = many.len() - 10;
        assert_eq!(alone, bits(&many, at), "{}", case.name);
        assert_ne!(alone, bits(&[1, 2, 9], 0), "{}", case.name);
        case.network.check().expect("a sound device");
    }
}

#[test]
fn on_burns_tensors_too_an_example_that_is_not_a_number_spoils_no_other() {
    // Every number is a token.
    let cases = all_cases().into_iter().filter(|case| case.name != "text");
    for case in cases.map(on_tensors) {
        let mut batch = case.batch(&[1]);
        let broken = vec![f32::NAN; case.network.inputs()];
        batch.push(&broken, case.target(2)).expect("right length");
        let sound = case.input(3);
        batch.push(&sound, case.target(3)).expect("right length");
        let gradients = case.gradients(&batch);
        let finite = gradients
            .iter()
            .map(|gradient| gradient.iter().all(|value| value.is_finite()));
        let finite: Vec<_> = finite.collect();
        assert_eq!(finite, [true, false, true], "{}", case.name);
    }
}

#[test]
fn on_burns_tensors_too_recomputed_gradients_have_the_bits_of_kept_ones() {
    for case in all_cases().into_iter().map(on_tensors) {
        let bits = |case: &Case| {
            let gradients = case.gradients(&case.batch(&[1, 2, 3])).concat();
            gradients.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let kept = bits(&case);
        let network = case.network.recomputing(true);
        assert_eq!(bits(&Case { network, ..case }), kept);
    }
}

fn fixed(cases: u32) -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(8),
        ..ProptestConfig::with_cases(cases)
    }
}

proptest! {
    #![proptest_config(fixed(24))]

    #[test]
    fn convolutions_of_any_kind_agree_on_burns_tensors(case in any_convolution()) {
        agrees_on_tensors(case, &[1, 2, 3]);
    }

    #[test]
    fn text_encoders_of_any_size_agree_on_burns_tensors(case in any_text()) {
        agrees_on_tensors(case, &[1, 2, 3]);
    }

    #[test]
    fn residual_networks_of_any_size_agree_on_burns_tensors(case in any_resnet()) {
        agrees_on_tensors(case, &[1, 2, 3]);
    }
}
