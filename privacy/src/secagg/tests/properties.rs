//! What must hold for every cohort, threshold, length and pattern of drop-outs.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::simulator::{
    Federation, Network, Setting, fixed_coins, fixed_secrets, id, update_of, weight_of,
};
use crate::secagg::{
    Attempt, Limits, SiteId,
    coordinator::Failure,
    encoding::{Word, Words, encode},
    generator::{self, Mask, Role, Sign},
    keys::{Edge, End},
    message::{Opened, Secret, ToCoordinator},
    site::sign_of,
};

/// The step after which a site is silent: 0 says nothing at all, 5 answers to the end.
fn silent_from(message: &ToCoordinator) -> u8 {
    match message {
        ToCoordinator::Keys(_) => 1,
        ToCoordinator::Shares(_) => 2,
        ToCoordinator::Trailer(_) => 3,
        ToCoordinator::Confirm(_) => 4,
        ToCoordinator::Unmask(_) => 5,
        ToCoordinator::Complaint(_) => 0,
    }
}

fn lenient(sites: u16, threshold: usize, main: usize, word: Word) -> Setting {
    Setting {
        sites,
        threshold,
        main,
        word,
        limits: Limits {
            min_cohort: 3,
            colluding: 0,
            honest: 2,
        },
        ..Setting::five()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_sum_is_exact_if_and_only_if_as_many_as_the_threshold_answer(
        (steps, above) in (3_usize..9).prop_flat_map(|sites| {
            (prop::collection::vec(prop_oneof![4 => Just(5_u8), 1 => 0..5_u8], sites), 0..sites)
        }),
        main in prop_oneof![Just(0_usize), Just(1), 2..60_usize, Just(4095), Just(4097), Just(9000)],
        wide: bool,
    ) {
        let sites = steps.len();
        let word = if wide { Word::U64 } else { Word::U32 };
        let least = lenient(5, 0, 0, word).limits.least_threshold(sites);
        let threshold = (least + above % 3).min(sites);
        let setting = lenient(sites as u16, threshold, main, word);
        let mut federation = Federation::open(&setting);
        let steps = &steps;
        federation.run(&mut Network::up(|from, message| {
            (silent_from(&message) <= steps[usize::from(from.0) - 1]).then_some(message)
        }));
        prop_assert!(federation.stops.is_empty(), "{:?}", federation.stops);
        prop_assert_eq!(federation.bare_sites(&[]), []);

        let reach = |step: u8| steps.iter().filter(|last| **last >= step).count();
        let dealers_needed = threshold.max(3);
        let opens = reach(2) >= dealers_needed && reach(5) >= threshold;
        prop_assert_eq!(federation.opening.is_some(), opens);
        if !opens {
            let too_few = matches!(federation.failure, Some(Failure::TooFew { .. }));
            prop_assert!(too_few, "{:?}", federation.failure);
            return Ok(());
        }
        // Over exactly those who uploaded, and exact to the last bit.
        let opening = federation.opening.as_ref().expect("open");
        let survivors: Vec<_> = opening.survivors().iter().map(|it| it.site).collect();
        let uploaded: Vec<_> = (1..=sites as u16).map(id)
            .filter(|site| steps[usize::from(site.0) - 1] >= 3)
            .collect();
        prop_assert_eq!(&survivors, &uploaded);
        let sum = federation.sum();
        prop_assert!(sum == federation.sum_in_the_clear());
        // And what is read from it is the weighted mean.
        let reader = federation.reader(&sum).expect("plausible");
        let weight: u32 = uploaded.iter().map(|site| weight_of(*site)).sum();
        prop_assert_eq!(reader.weight(), u64::from(weight));
        prop_assert!((reader.tail()[0] - 2.5 * uploaded.len() as f64).abs() < 1e-3);
        let mut part = Words::zeros(word, main);
        prop_assert!(part.add(&sum.bytes(0..main)));
        let mean = reader.mean(0, &part).expect("plausible");
        for (index, found) in mean.iter().enumerate() {
            let expected: f64 = uploaded.iter()
                .map(|site| f64::from(weight_of(*site)) * f64::from(update_of(*site, main)[index]))
                .sum::<f64>() / f64::from(weight);
            prop_assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn a_part_of_the_masks_is_the_same_wherever_it_begins(
        length in 1_usize..20_000, from in 0_usize..20_000, wide: bool,
    ) {
        let word = if wide { Word::U64 } else { Word::U32 };
        let context = Setting::five().context();
        let mask = |sign| Mask::new(&context, &Secret::new([6; 32]), Role::Pair, sign);
        let mut whole = Words::zeros(word, length);
        generator::apply(&[mask(Sign::Plus)], 0, &mut whole);
        let from = from % length;
        let mut part = Words::zeros(word, length - from);
        prop_assert!(part.add(&whole.bytes(from..length)));
        generator::apply(&[mask(Sign::Minus)], from, &mut part);
        prop_assert!(part == Words::zeros(word, length - from));
    }
}

#[test]
fn a_masked_vector_looks_uniform() {
    let setting = Setting {
        main: 200_000,
        ..Setting::five()
    };
    let mut federation = Federation::open(&setting);
    federation.run_honestly();
    let upload = &federation.uploads[&id(2)];
    let bytes = upload.bytes(0..upload.len());
    let mut counts = [0_u64; 256];
    bytes
        .iter()
        .for_each(|byte| counts[usize::from(*byte)] += 1);
    let expected = bytes.len() as f64 / 256.0;
    let statistic: f64 = (counts.iter())
        .map(|count| (*count as f64 - expected).powi(2) / expected)
        .sum();
    // Chi-square with 255 degrees: mean 255, deviation 22.6; above 400 once in about 10^8 runs.
    assert!((130.0..400.0).contains(&statistic), "{statistic}");
    let clear = &federation.clear[&id(2)];
    let clear = clear.bytes(0..clear.len());
    let same = (clear.chunks_exact(4))
        .zip(bytes.chunks_exact(4))
        .filter(|(clear, masked)| clear == masked);
    assert!(same.count() < 5, "200 000 words of 32 bits: 5e-5 expected");
}

#[test]
fn two_attempts_with_the_same_update_share_no_word() {
    let setting = Setting::five();
    let again = Setting {
        attempt: Attempt {
            attempt: 2,
            ..setting.attempt
        },
        ..setting.clone()
    };
    let run = |setting: &Setting| {
        let mut federation = Federation::open(setting);
        federation.run_honestly();
        let upload = federation.uploads[&id(3)].clone();
        upload.bytes(0..upload.len())
    };
    let (first, second) = (run(&setting), run(&again));
    let words =
        |bytes: &[u8]| -> BTreeSet<[u8; 4]> { bytes.as_chunks().0.iter().copied().collect() };
    let shared = words(&first).intersection(&words(&second)).count();
    assert_eq!(shared, 0, "42 words of 32 bits: 4e-7 expected");
}

/// The seed that two sites share, from the private keys that known answers use.
fn edge_seed(setting: &Setting, site: SiteId, peer: SiteId) -> Secret {
    let end = |site: SiteId, peer: SiteId| {
        let position = peer.0 - 1 - u16::from(peer > site);
        let secret = fixed_secrets(site, setting.sites).swap_remove(position.into());
        let key = secret.public().expect("a key");
        (secret, End { site, key })
    };
    let ((secret, own), (_, peer)) = (end(site, peer), end(peer, site));
    let edge = Edge::agree(&setting.context(), secret, own, peer);
    edge.unwrap_or_else(|_| panic!("keys of full order")).mask
}

#[test]
fn an_upload_is_bare_only_to_who_knows_its_masks_with_every_honest_site() {
    // Site 5 works with the coordinator, which has opened the self mask of site 1.
    let setting = Setting::five();
    let context = setting.context();
    let mut federation = Federation::open_fixed(&setting);
    federation.run_honestly();
    let site = id(1);
    let mut coins = fixed_coins(site, 1);
    let mut own = Secret::default();
    for part in own.chunks_mut(8) {
        part.copy_from_slice(&coins.word().to_le_bytes());
    }
    let mut upload = federation.uploads[&site].clone();
    let own = Mask::new(&context, &own, Role::Own, Sign::Minus);
    generator::apply(&[own], 0, &mut upload);
    for peer in [5, 4, 3, 2].map(id) {
        assert!(
            upload != federation.clear[&site],
            "site {peer}'s mask is still there"
        );
        let seed = edge_seed(&setting, site, peer);
        let mask = Mask::new(&context, &seed, Role::Pair, sign_of(site, peer).opposite());
        generator::apply(&[mask], 0, &mut upload);
    }
    assert!(upload == federation.clear[&site]);
}

#[test]
fn secrets_do_not_print() {
    let setting = Setting::five();
    let terms = setting.terms();
    let vector = encode(&terms, &update_of(id(1), 40), 3, &[1.25]).expect("within the terms");
    assert_eq!(format!("{vector:?}"), "Encoded(42 words, [redacted])");
    let mut federation = Federation::open(&setting);
    federation.run_honestly();
    let site = &federation.sites[&SiteId(1)];
    assert_eq!(format!("{site:?}"), "Site(1, awaiting the outcome)");
    let shown = format!("{:?} {:?}", federation.coordinator, federation.opening);
    assert_eq!(
        shown,
        "Coordinator(summing) Some(Opening(5 uploads, 5 masks, [redacted]))"
    );
    for (_, message) in &federation.said {
        assert!(format!("{message:?}").len() < 60);
    }
    let opened = Opened::Escrow(Secret::new([0xAB; 32]));
    assert_eq!(format!("{opened:?}"), "Escrow([redacted])");
}
