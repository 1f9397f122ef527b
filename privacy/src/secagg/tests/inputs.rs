//! What is encoded, what is refused, and that sums cannot wrap.

use proptest::prelude::*;

use super::simulator::{Setting, id};
use crate::{
    keystream::{Keystream, MasterSecret},
    secagg::{
        Limits, Member, Proposal, Terms, TermsError,
        encoding::{
            EncodeError, Encoding, Implausible, SumReader, Word, Words, bring_within, encode,
            encode_lattice, encode_with,
        },
    },
};

fn terms() -> Terms {
    Terms::new(
        Proposal {
            main: 3,
            tail: vec![10.0],
            ..Setting::five().proposal()
        },
        Limits::USUAL,
    )
    .expect("sound")
}

fn coins(seed: u8) -> Keystream {
    Keystream::new(MasterSecret::fixed([seed; 32]).into_pages())
}

fn units(words: &Words) -> Vec<i64> {
    match words {
        Words::U32(words) => words.iter().map(|word| i64::from(*word as i32)).collect(),
        Words::U64(words) => words.iter().map(|word| *word as i64).collect(),
    }
}

#[test]
fn values_that_are_not_finite_are_refused_by_position() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (what, position) = ("update", 1);
        let error = encode(&terms(), &[0.0, bad, 0.0], 1, &[0.0]).expect_err("not finite");
        assert_eq!(error, EncodeError::NotFinite { what, position });
    }
    let (what, position) = ("tail", 0);
    let error = encode(&terms(), &[0.0; 3], 1, &[f64::NAN]).expect_err("not finite");
    assert_eq!(error, EncodeError::NotFinite { what, position });
}

#[test]
fn minus_zero_and_subnormal_values_are_zeros_of_the_grid_or_next_to_it() {
    let vector = encode(
        &terms(),
        &[-0.0, f32::MIN_POSITIVE / 8.0, -1e-45],
        1,
        &[0.0],
    )
    .expect("finite");
    assert!(
        units(vector.words())[..3]
            .iter()
            .all(|unit| unit.abs() <= 1)
    );
}

#[test]
fn a_norm_just_above_the_bound_is_refused_and_one_at_the_bound_is_not() {
    let bound = 2.0;
    assert!(encode(&terms(), &[2.0, 0.0, 0.0], 1, &[0.0]).is_ok());
    for above in [[2.000_001, 0.0, 0.0], [1.5, 1.5, 0.0]] {
        let error = encode(&terms(), &above, 1, &[0.0]).expect_err("too long");
        assert_eq!(error, EncodeError::AboveBound { bound });
    }
}

#[test]
fn weights_outside_their_range_are_refused() {
    let most = 64;
    for found in [0, 65, u32::MAX] {
        let error = encode(&terms(), &[0.0; 3], found, &[0.0]).expect_err("no such weight");
        assert_eq!(error, EncodeError::Weight { found, most });
    }
}

#[test]
fn figures_above_their_magnitude_and_vectors_of_another_length_are_refused() {
    let (what, position) = ("tail", 0);
    let error = encode(&terms(), &[0.0; 3], 1, &[10.001]).expect_err("too large");
    assert_eq!(error, EncodeError::AboveLimit { what, position });
    let (what, expected, found) = ("update", 3, 2);
    let error = encode(&terms(), &[0.0; 2], 1, &[0.0]).expect_err("too short");
    assert_eq!(
        error,
        EncodeError::Length {
            what,
            expected,
            found
        }
    );
}

#[test]
fn an_update_that_is_too_long_can_be_scaled_to_the_bound() {
    let mut long = [30.0, -40.0, 0.0];
    assert!(bring_within(&mut long, 2.0));
    assert!((long[0] - 1.2).abs() < 1e-5 && (long[1] + 1.6).abs() < 1e-5);
    assert!(encode(&terms(), &long, 1, &[0.0]).is_ok());
    let mut short = [0.1, 0.2, 0.3];
    assert!(!bring_within(&mut short, 2.0) && short == [0.1, 0.2, 0.3]);
}

#[test]
fn rounding_has_no_bias() {
    // 0.3 of a grid unit and its mirror image, with a grid so coarse that nothing else counts.
    let setting = Setting::five();
    let length = 200_000;
    let coarse = Terms::new(
        Proposal {
            encoding: Encoding::Weighted {
                bound: 2.0,
                weight_max: 1,
                grid: 2,
            },
            main: length,
            tail: vec![],
            ..setting.proposal()
        },
        Limits::USUAL,
    )
    .expect("sound");
    for value in [0.003_f32, -0.003] {
        let vector = encode_with(&coarse, &vec![value; length], 1, &[], &mut coins(5))
            .expect("short enough");
        let ones = units(vector.words())[..length].iter().sum::<i64>() as f64;
        // Mean 600, deviation 24.5: five deviations, coins fixed.
        let expected = f64::from(value) * length as f64;
        assert!((ones - expected).abs() < 125.0, "{ones}");
    }
}

#[test]
fn the_largest_inputs_of_a_whole_cohort_do_not_wrap() {
    for word in [Word::U32, Word::U64] {
        let setting = Setting {
            word,
            ..Setting::five()
        };
        let terms = Terms::new(
            Proposal {
                main: 2,
                tail: vec![3.0],
                ..setting.proposal()
            },
            Limits::USUAL,
        )
        .expect("sound");
        for sign in [1.0, -1.0] {
            let mut sum = Words::zeros(word, 4);
            for _ in 0..5 {
                let vector = encode(&terms, &[2.0 * sign, 0.0], 64, &[3.0 * f64::from(sign)])
                    .expect("at the bound");
                assert!(sum.add(&vector.words().bytes(0..4)));
            }
            let mut tail = Words::zeros(word, 2);
            assert!(tail.add(&sum.bytes(2..4)));
            let mut main = Words::zeros(word, 2);
            assert!(main.add(&sum.bytes(0..2)));
            let reader = SumReader::new(&terms, 5, &tail).expect("plausible");
            assert_eq!(reader.weight(), 320);
            assert!((reader.tail()[0] - 15.0 * f64::from(sign)).abs() < 1e-3);
            let mean = reader.mean(0, &main).expect("plausible");
            assert!((mean[0] - 2.0 * sign).abs() < 1e-6 && mean[1] == 0.0);
        }
    }
}

#[test]
fn a_sum_that_no_honest_sites_can_give_is_not_plausible() {
    let terms = terms();
    let tail = |weight: u32, figure: u32| Words::U32(vec![weight, figure]);
    let position = 3;
    for weight in [0, 4, 5 * 64 + 1, u32::MAX] {
        let error = SumReader::new(&terms, 5, &tail(weight, 0)).expect_err("no such weight");
        assert_eq!(error, Implausible { position });
    }
    let position = 4;
    let error = SumReader::new(&terms, 1, &tail(1, i32::MAX as u32)).expect_err("too large");
    assert_eq!(error, Implausible { position });
    let reader = SumReader::new(&terms, 5, &tail(5, 0)).expect("plausible");
    let position = 1;
    let error = reader
        .mean(0, &Words::U32(vec![0, i32::MAX as u32]))
        .expect_err("too large");
    assert_eq!(error, Implausible { position });
    assert!(
        reader.mean(3, &Words::U32(vec![0])).is_err(),
        "beyond the update"
    );
}

#[test]
fn a_grid_that_could_wrap_is_refused_whoever_chose_it() {
    let finest = Encoding::finest_grid(Word::U32, 5, 64).expect("room");
    let with = |grid, word| {
        let encoding = Encoding::Weighted {
            bound: 2.0,
            weight_max: 64,
            grid,
        };
        Terms::new(
            Proposal {
                encoding,
                word,
                ..Setting::five().proposal()
            },
            Limits::USUAL,
        )
        .map(|_| ())
    };
    assert_eq!(with(finest, Word::U32), Ok(()));
    assert_eq!(with(finest + 2, Word::U32), Err(TermsError::Wraps));
    assert_eq!(with(finest + 2, Word::U64), Ok(()));
    for (bound, weight_max) in [(f64::NAN, 64), (0.0, 64), (1.0, 0), (1.0, u32::MAX)] {
        let encoding = Encoding::Weighted {
            bound,
            weight_max,
            grid: 1,
        };
        assert!(!encoding.fits(Word::U64, 5));
    }
}

#[test]
fn integers_of_a_lattice_travel_as_they_are_within_their_limit() {
    let limit = 1 << 60;
    let encoding = Encoding::Lattice { limit };
    let proposal = Proposal {
        encoding,
        word: Word::U64,
        main: 2,
        tail: vec![],
        ..Setting::five().proposal()
    };
    let terms = Terms::new(proposal.clone(), Limits::USUAL).expect("five times 2^60 fits");
    let vector = encode_lattice(&terms, &[-(1 << 60), 5], &[]).expect("within the limit");
    assert_eq!(units(vector.words()), [-(1 << 60), 5]);
    let (what, position) = ("update", 1);
    let error = encode_lattice(&terms, &[0, (1 << 60) + 1], &[]).expect_err("above");
    assert_eq!(error, EncodeError::AboveLimit { what, position });
    let error = encode(&terms, &[0.0; 2], 1, &[]).expect_err("not real numbers");
    assert_eq!(error, EncodeError::OtherEncoding);
    let limit = 1 << 62;
    let encoding = Encoding::Lattice { limit };
    let wraps = Terms::new(
        Proposal {
            encoding,
            ..proposal
        },
        Limits::USUAL,
    );
    assert_eq!(wraps.map(|_| ()), Err(TermsError::Wraps));
}

fn with_sites(sites: u16, threshold: usize, limits: Limits) -> Result<(), TermsError> {
    let setting = Setting {
        sites,
        ..Setting::five()
    };
    let encoding = Encoding::Weighted {
        bound: 1.0,
        weight_max: 1,
        grid: 1,
    };
    Terms::new(
        Proposal {
            threshold,
            encoding,
            ..setting.proposal()
        },
        limits,
    )
    .map(|_| ())
}

#[test]
fn thresholds_follow_the_rule_for_every_size() {
    let least = |sites, colluding, honest| {
        let min_cohort = 3;
        Limits {
            min_cohort,
            colluding,
            honest,
        }
        .least_threshold(sites)
    };
    // SECAGG §6.2: these collusions and no more are covered at these thresholds.
    for (sites, threshold, colluding) in [(5, 4, 1), (10, 8, 5), (20, 17, 13), (100, 85, 69)] {
        assert!(least(sites, colluding, 3) <= threshold);
        assert!(least(sites, colluding + 1, 3) > threshold);
    }
    assert_eq!(least(5, 2, 2), 4);
    assert_eq!(least(3, 0, 3), 3);
    let (found, least) = (3, 4);
    let refused = Err(TermsError::Threshold { found, least });
    assert_eq!(with_sites(5, 3, Limits::USUAL), refused);
    assert!(with_sites(5, 6, Limits::USUAL).is_err(), "above the cohort");
}

#[test]
fn cohorts_too_small_too_large_unsorted_or_with_shared_keys_are_refused() {
    let limits = Limits {
        min_cohort: 3,
        colluding: 0,
        honest: 3,
    };
    let (found, least) = (4, 5);
    let small = Err(TermsError::SmallCohort { found, least });
    assert_eq!(with_sites(4, 4, Limits::USUAL), small);
    let (found, least) = (2, 3);
    assert_eq!(
        with_sites(2, 2, limits),
        Err(TermsError::SmallCohort { found, least })
    );
    assert_eq!(with_sites(3, 3, limits), Ok(()));
    assert_eq!(with_sites(255, 200, limits), Ok(()));
    let found = 256;
    assert_eq!(
        with_sites(256, 200, limits),
        Err(TermsError::LargeCohort { found })
    );
    let too_lax = Limits {
        min_cohort: 2,
        ..limits
    };
    assert_eq!(with_sites(5, 5, too_lax), Err(TermsError::Limits));
    let change = |change: fn(&mut Vec<Member>)| {
        let mut proposal = Setting::five().proposal();
        change(&mut proposal.members);
        Terms::new(proposal, Limits::USUAL).map(|_| ())
    };
    assert_eq!(change(|it| it.swap(0, 1)), Err(TermsError::Unsorted(id(1))));
    assert_eq!(change(|it| it[1] = it[0]), Err(TermsError::Unsorted(id(1))));
    let shared = change(|it| it[3].key = it[1].key);
    assert_eq!(shared, Err(TermsError::SharedKey(id(2), id(4))));
}

proptest! {
    #[test]
    fn a_decoded_update_is_within_one_grid_unit_of_the_true_one(
        update in prop::collection::vec(-1.0_f32..1.0, 3), weight in 1_u32..=64,
    ) {
        let terms = terms();
        let vector = encode(&terms, &update, weight, &[0.0]).expect("within the terms");
        let mut main = Words::zeros(Word::U32, 3);
        prop_assert!(main.add(&vector.words().bytes(0..3)));
        let mut tail = Words::zeros(Word::U32, 2);
        prop_assert!(tail.add(&vector.words().bytes(3..5)));
        let reader = SumReader::new(&terms, 1, &tail).expect("plausible");
        let unit = 2.0 / Encoding::finest_grid(Word::U32, 5, 64).expect("room") as f32;
        for (found, value) in reader.mean(0, &main).expect("plausible").iter().zip(&update) {
            prop_assert!((found - value).abs() <= unit * 1.01);
        }
    }
}
