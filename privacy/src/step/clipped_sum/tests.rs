use proptest::prelude::*;

use super::*;
use crate::step::Adaptive;

const UNIT: f64 = LATTICE_DEVIATION as f64 * (1.0 - MARGIN);

fn sum(length: usize, c: f64, sigma: f64) -> Result<ClippedSum, OutOfRange> {
    let sound = "within range";
    ClippedSum::new(
        length,
        c.try_into().expect(sound),
        sigma.try_into().expect(sound),
    )
}

fn norm(values: &[i64]) -> f64 {
    let squares: u128 = values
        .iter()
        .map(|v| u128::from(v.unsigned_abs()).pow(2))
        .sum();
    (squares as f64).sqrt()
}

fn lattice(sum: ClippedSum) -> Vec<i64> {
    sum.into_lattice().to_vec()
}

fn each(start: usize, values: &[f32]) -> Part<'_> {
    let values = Values::Each(values);
    Part { start, values }
}

fn outer<'a>(start: usize, left: &'a [f32], right: &'a [f32]) -> Part<'a> {
    let values = Values::Outer { left, right };
    Part { start, values }
}

#[test]
fn a_long_gradient_is_scaled_and_a_short_one_is_kept() {
    let mut long = sum(2, 1.0, 1.0).expect("sound");
    long.add(&[30.0, 40.0]).expect("fits");
    let scaled = [0.6, 0.8].map(|x: f64| (x * UNIT).round() as i64);
    assert_eq!(lattice(long), scaled);

    let mut short = sum(2, 1.0, 2.0).expect("sound");
    short.add(&[0.25, -0.5]).expect("fits");
    let kept = [LATTICE_DEVIATION / 8, -LATTICE_DEVIATION / 4];
    assert_eq!(lattice(short), kept);
}

#[test]
fn a_gradient_that_is_not_finite_counts_as_zeros() {
    let mut sum = sum(2, 1.0, 1.0).expect("sound");
    for bad in [
        [f32::NAN, 1.0],
        [f32::INFINITY, 1.0],
        [1.0, f32::NEG_INFINITY],
    ] {
        sum.add(&bad).expect("fits");
        sum.add_parts(&[outer(0, &bad, &[0.0])]).expect("fits");
    }
    assert_eq!(
        (sum.values.as_slice(), sum.not_finite()),
        ([0, 0].as_slice(), 6)
    );
    sum.add(&[f32::MAX, f32::MAX]).expect("fits");
    sum.add_parts(&[outer(0, &[f32::MAX; 2], &[f32::MAX])])
        .expect("fits");
    assert_eq!(sum.not_finite(), 6);
    assert!(norm(&lattice(sum)) <= 2.0 * LATTICE_DEVIATION as f64);
}

#[test]
fn what_cannot_be_proved_is_refused() {
    assert!(sum(1 << 20, 1.0, 100.0).is_ok());
    let error = sum(1 << 28, 1.0, 100.0).expect_err("too coarse");
    assert!(error.to_string().contains("lattice"), "{error}");
    assert!(sum(1, 1.0, 1e-4).is_err() && sum(0, 1.0, 1.0).is_err());
    let mut two = sum(2, 1.0, 1.0).expect("sound");
    let error = two.add(&[1.0]).expect_err("too short");
    assert_eq!(
        error,
        AddError::WrongLength {
            expected: 2,
            found: 1
        }
    );
    two.records = MAX_RECORDS;
    assert_eq!(two.add(&[1.0, 1.0]), Err(AddError::TooMany));
}

#[test]
fn parts_out_of_place_are_refused_and_add_nothing() {
    let layers = Clipping::PerLayer { ends: vec![2, 4] };
    let mut sum = sum(4, 1.0, 1.0)
        .expect("sound")
        .clipped(layers)
        .expect("its layers");
    let one = [1.0];
    for (parts, start) in [
        (vec![each(3, &[1.0, 1.0])], 3),
        (vec![each(1, &[1.0, 1.0])], 1),
        (vec![each(0, &[1.0, 1.0]), each(1, &one)], 1),
        (vec![each(2, &one), each(0, &one)], 0),
        (vec![outer(2, &one, &[1.0, 2.0, 3.0])], 2),
        (vec![each(usize::MAX, &one)], usize::MAX),
    ] {
        assert_eq!(sum.add_parts(&parts), Err(AddError::Misplaced { start }));
    }
    assert!(sum.is_empty() && sum.values == [0; 4]);
}

#[test]
fn products_too_wide_for_rounded_factors_are_written_out() {
    let wide: Vec<f32> = (0..1 << 20).map(|at| (at % 7) as f32 - 3.0).collect();
    let mut product = sum(2 << 20, 1.0, 1.0).expect("sound");
    product
        .add_parts(&[outer(0, &[0.5, -0.25], &wide)])
        .expect("fits");
    assert!(product.products.is_empty());
    let halves = wide.iter().map(|x| x * 0.5);
    let written: Vec<f32> = halves.chain(wide.iter().map(|x| x * -0.25)).collect();
    let mut whole = sum(2 << 20, 1.0, 1.0).expect("sound");
    whole.add(&written).expect("fits");
    let product = lattice(product);
    assert_eq!(product, lattice(whole));
    assert!(norm(&product) <= LATTICE_DEVIATION as f64);
}

#[test]
fn sums_for_other_terms_are_not_merged_and_records_are_counted_together() {
    let new = |length, c, sigma| sum(length, c, sigma).expect("sound");
    let layers = Clipping::PerLayer { ends: vec![1, 2] };
    let per_layer = new(2, 1.0, 1.0).clipped(layers).expect("its layers");
    for other in [
        new(3, 1.0, 1.0),
        new(2, 2.0, 1.0),
        new(2, 1.0, 1.5),
        per_layer,
    ] {
        let refused = new(2, 1.0, 1.0).merge(other).expect_err("other terms");
        assert_eq!(refused, AddError::OtherTerms);
    }
    let filled = |records, not_finite| {
        let mut sum = new(2, 1.0, 1.0);
        (sum.records, sum.not_finite) = (records, not_finite);
        sum
    };
    let refused = filled(MAX_RECORDS - 1, 0).merge(filled(2, 0));
    assert_eq!(refused.expect_err("too many"), AddError::TooMany);
    let both = filled(MAX_RECORDS - 2, 3)
        .merge(filled(2, 1))
        .expect("few enough");
    assert_eq!((both.records, both.not_finite()), (MAX_RECORDS, 4));
}

#[test]
fn debug_shows_no_value() {
    let mut sum = sum(1, 1.0, 1.0).expect("sound");
    sum.add(&[0.5]).expect("fits");
    assert_eq!(format!("{sum:?}"), "ClippedSum(1 coordinates, [redacted])");
    assert_eq!(format!("{:?}", each(3, &[0.5])), "Part(3..4, [redacted])");
}

fn any_clipping() -> impl Strategy<Value = Clipping> {
    prop_oneof![
        Just(Clipping::Flat),
        (1e-6..10.0).prop_map(|gamma| Clipping::Automatic { gamma }),
        Just(Clipping::PerLayer {
            ends: vec![5, 40, 41, 60]
        }),
        (300.0..1e6).prop_map(|count_noise| {
            Clipping::Adaptive(Adaptive::new(0.5, 0.2, count_noise).expect("within range"))
        }),
    ]
}

/// A record of 60 coordinates: 5 written out, an outer product of 5 × 7, one left out, 19.
fn parts<'a>(values: &'a [f32]) -> [Part<'a>; 3] {
    [
        each(0, &values[..5]),
        outer(5, &values[5..10], &values[10..17]),
        each(41, &values[17..36]),
    ]
}

/// Adaptive clipping in which a bit is this share of C'.
fn adaptive(share: f64, sigma: f64) -> Clipping {
    Clipping::Adaptive(Adaptive::new(0.5, 0.2, sigma / (2.0 * share)).expect("within range"))
}

#[test]
fn a_bit_says_whether_the_gradient_was_added_as_it_is() {
    let [gradient, bit] = adaptive(0.6, 1.0).shares(1.0.try_into().expect("within range"));
    assert!((gradient - 0.8).abs() < 1e-12 && (bit - 0.6).abs() < 1e-12);
    let longest = gradient * (1.0 - MARGIN);
    let add = |values: &[f32]| {
        let sum = sum(2, 1.0, 1.0).expect("sound").clipped(adaptive(0.6, 1.0));
        let mut sum = sum.expect("enough noise on the count");
        assert_eq!((sum.len(), sum.values.len()), (2, 3));
        sum.add(values).expect("fits");
        sum
    };
    let (yes, no) = ((bit * UNIT).round() as i64, (-bit * UNIT).round() as i64);
    let just_below = (longest * (1.0 - 1e-6)) as f32;
    for (values, bit) in [
        ([0.0, 0.0], yes),
        ([0.0, just_below], yes),
        ([0.0, 0.8], no),
        ([30.0, 40.0], no),
    ] {
        let sum = add(&values);
        assert_eq!(sum.bit().map(|bit| bit.round() as i64), Some(yes));
        let lattice = lattice(sum);
        assert_eq!(lattice[2], bit, "{values:?}");
        let expected = f64::from(values[0].hypot(values[1])).min(longest);
        assert!((norm(&lattice[..2]) / LATTICE_DEVIATION as f64 - expected).abs() < 1e-6);
    }
    // Neither kept nor scaled: no bit at all.
    assert_eq!(lattice(add(&[f32::NAN, 0.0])), [0, 0, 0]);
}

#[test]
fn too_little_noise_on_the_count_is_refused() {
    let new = || sum(2, 1.0, 1.0).expect("sound");
    assert!(new().clipped(adaptive(0.999, 1.0)).is_ok());
    let error = new()
        .clipped(adaptive(1.0, 1.0))
        .expect_err("no room for the gradient");
    assert!(
        error.to_string().contains("privacy.clipping.count_noise"),
        "{error}"
    );
}

proptest! {
    /// The same claim where a record has a bit, which is one more coordinate of the same vector: the
    /// two together move the sum by at most C.
    #[test]
    fn a_gradient_and_its_bit_together_move_the_sum_by_at_most_the_clipping_norm(
        gradient in prop::collection::vec(prop_oneof![prop::num::f32::ANY, -1e3_f32..1e3, -1e-3_f32..1e-3], 36),
        others in prop::collection::vec(prop::collection::vec(-1e3_f32..1e3, 36), 0..3),
        share in prop_oneof![1e-3..1.0, 0.9999..1.0],
        is_written_out in any::<bool>(),
        c in 1e-6..1e6,
        sigma in 0.001..300.0,
    ) {
        let total = |with: bool| {
            let sum = sum(60, c, sigma).expect("sound").clipped(adaptive(share, sigma));
            let mut sum = sum.expect("enough noise on the count");
            others.iter().for_each(|other| sum.add_parts(&parts(other)).expect("fits"));
            if with && is_written_out {
                sum.add(&gradient.iter().cycle().take(60).copied().collect::<Vec<_>>()).expect("fits");
            } else if with {
                sum.add_parts(&parts(&gradient)).expect("fits");
            }
            lattice(sum)
        };
        let moved: Vec<i64> = total(true).iter().zip(total(false)).map(|(a, b)| a - b).collect();
        prop_assert_eq!(moved.len(), 61);
        prop_assert!(norm(&moved) <= LATTICE_DEVIATION as f64 / sigma);
        // The bit is there whatever the gradient, unless it is not finite.
        let bit = share * UNIT / sigma;
        let is_finite = gradient.iter().all(|value| value.is_finite());
        prop_assert_eq!((moved[60].abs() as f64 - bit).abs() <= 2.0, is_finite || bit <= 2.0);
    }

    /// The sensitivity claim itself: one record moves the sum, as the noise gets it, by at most C in
    /// the L2 norm, that is 2²⁹/σ lattice units, whatever its gradient, the sum before it and
    /// how it is clipped.
    #[test]
    fn one_record_moves_the_sum_by_at_most_the_clipping_norm(
        gradient in prop::collection::vec(prop_oneof![prop::num::f32::ANY, -1e3_f32..1e3], 36),
        others in prop::collection::vec(prop::collection::vec(-1e3_f32..1e3, 36), 0..3),
        clipping in any_clipping(),
        is_written_out in any::<bool>(),
        c in 1e-6..1e6,
        sigma in 0.001..300.0,
    ) {
        let total = |with: bool| {
            let sum = sum(60, c, sigma).expect("sound").clipped(clipping.clone());
            let mut sum = sum.expect("its layers");
            others.iter().for_each(|other| sum.add_parts(&parts(other)).expect("fits"));
            if with && is_written_out {
                sum.add(&gradient.iter().cycle().take(60).copied().collect::<Vec<_>>()).expect("fits");
            } else if with {
                sum.add_parts(&parts(&gradient)).expect("fits");
            }
            lattice(sum)
        };
        let moved: Vec<i64> = total(true).iter().zip(total(false)).map(|(a, b)| a - b).collect();
        prop_assert!(norm(&moved) <= LATTICE_DEVIATION as f64 / sigma);
    }

    #[test]
    fn products_add_up_to_what_they_are_written_out(
        records in prop::collection::vec(prop::collection::vec(-1e3_f32..1e3, 36), 1..80),
        clipping in any_clipping(),
    ) {
        let new = || sum(60, 1.0, 1.0).expect("sound").clipped(clipping.clone()).expect("its layers");
        let (mut products, mut written) = (new(), new());
        for record in &records {
            products.add_parts(&parts(record)).expect("fits");
            let product = record[5..10].iter().flat_map(|l| record[10..17].iter().map(move |r| l * r));
            let mut whole = record[..5].to_vec();
            whole.extend(product);
            whole.push(0.0);
            whole.extend(&record[17..36]);
            written.add(&whole).expect("fits");
        }
        let largest = 1e-5 * UNIT * (records.len() as f64).sqrt();
        for (product, written) in lattice(products).iter().zip(lattice(written)) {
            prop_assert!(((product - written) as f64).abs() < largest);
        }
    }

    #[test]
    fn records_divided_among_sums_add_up_to_the_same_bits(
        records in prop::collection::vec(prop::collection::vec(-10.0_f32..10.0, 36), 0..150),
        shares in 1_usize..5,
        clipping in any_clipping(),
    ) {
        let new = || sum(60, 1.0, 1.3).expect("sound").clipped(clipping.clone()).expect("its layers");
        let mut whole = new();
        let mut divided: Vec<_> = (0..shares).map(|_| new()).collect();
        for (at, record) in records.iter().enumerate() {
            whole.add_parts(&parts(record)).expect("fits");
            divided[at * at % shares].add_parts(&parts(record)).expect("fits");
        }
        let merged = divided.into_iter().try_fold(new(), ClippedSum::merge).expect("few enough");
        prop_assert_eq!(merged.records, whole.records);
        prop_assert_eq!(lattice(merged), lattice(whole));
    }

    #[test]
    fn the_order_of_records_changes_no_bit(
        mut records in prop::collection::vec(prop::collection::vec(-10.0_f32..10.0, 36), 2..150),
    ) {
        let total = |records: &[Vec<f32>]| {
            let mut sum = sum(60, 1.0, 1.3).expect("sound");
            records.iter().for_each(|record| sum.add_parts(&parts(record)).expect("fits"));
            lattice(sum)
        };
        let forwards = total(&records);
        records.reverse();
        prop_assert_eq!(forwards, total(&records));
    }
}
