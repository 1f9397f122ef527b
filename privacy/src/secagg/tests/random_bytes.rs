//! Decoders and machines meet bytes that nobody meant.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::simulator::{Federation, Setting, id, start};
use crate::{
    keystream::{Keystream, MasterSecret},
    secagg::{
        coordinator,
        message::{
            Complaint, Confirm, Confirmations, Outcome, PairKey, PairKeys, PeerShares, Shares,
            Survivors, ToCoordinator, ToSite, Trailer, Unmask,
        },
        signature::Body,
        site,
    },
};

/// If bytes are a message, they are the only bytes of that message.
fn reads_canonically<B: Body>(bytes: &[u8]) -> bool {
    B::from_bytes(bytes).is_ok_and(|body| {
        assert_eq!(body.to_bytes(), bytes);
        true
    })
}

/// Every decoder of what arrives from outside.
fn read_as_anything(bytes: &[u8]) -> [bool; 13] {
    [
        reads_canonically::<PairKey>(bytes),
        reads_canonically::<Shares>(bytes),
        reads_canonically::<PeerShares>(bytes),
        reads_canonically::<Trailer>(bytes),
        reads_canonically::<Survivors>(bytes),
        reads_canonically::<Confirm>(bytes),
        reads_canonically::<Unmask>(bytes),
        reads_canonically::<Outcome>(bytes),
        reads_canonically::<Complaint>(bytes),
        PairKeys::from_bytes(bytes).is_ok_and(|list| list.to_bytes() == bytes),
        Confirmations::from_bytes(bytes).is_ok_and(|list| list.to_bytes() == bytes),
        site::Record::from_bytes(bytes).is_ok_and(|record| record.to_bytes() == bytes),
        coordinator::Record::from_bytes(bytes).is_ok_and(|record| record.to_bytes() == bytes),
    ]
}

fn to_site(kind: usize, bytes: Vec<u8>) -> ToSite {
    [
        ToSite::PeerKeys,
        ToSite::PeerShares,
        ToSite::Survivors,
        ToSite::Confirmations,
        ToSite::Outcome,
    ][kind % 5](bytes)
}

fn to_coordinator(kind: usize, bytes: Vec<u8>) -> ToCoordinator {
    [
        ToCoordinator::Keys,
        ToCoordinator::Shares,
        ToCoordinator::Trailer,
        ToCoordinator::Confirm,
        ToCoordinator::Unmask,
        ToCoordinator::Complaint,
    ][kind % 6](bytes)
}

/// All bytes that a whole round sends, for changing.
fn real_messages() -> Vec<Vec<u8>> {
    let mut federation = Federation::open(&Setting::five());
    federation.run_honestly();
    let down = federation
        .heard
        .iter()
        .map(|(_, message)| message.bytes().to_vec());
    let up = federation
        .said
        .iter()
        .map(|(_, message)| message.bytes().to_vec());
    let disk = federation.journal.iter().map(coordinator::Record::to_bytes);
    down.chain(up).chain(disk).collect()
}

proptest! {
    #[test]
    fn random_bytes_are_no_message_and_no_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 0_usize..30,
    ) {
        read_as_anything(&bytes);
        let setting = Setting::five();
        let mut federation = Federation::open(&setting);
        federation.tell_coordinator(id(1), to_coordinator(kind, bytes.clone()));
        prop_assert_eq!(federation.refusals.len(), 1);
        federation.tell_site(id(1), to_site(kind, bytes));
        prop_assert!(federation.stops.contains_key(&id(1)), "it trusts nothing after that");
    }

    #[test]
    fn counts_that_lie_allocate_nothing(
        count in any::<u16>(), rest in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let bytes = [count.to_be_bytes().as_slice(), &rest].concat();
        prop_assert!(PairKeys::from_bytes(&bytes).is_err() || bytes == [0, 0]);
        let list = [[1; 32].as_slice(), &bytes].concat();
        reads_canonically::<Survivors>(&list);
    }
}

#[test]
fn real_messages_that_are_cut_lengthened_or_changed_are_read_without_panic() {
    let mut read = [false; 13];
    for message in real_messages() {
        let body = message.get(64..).unwrap_or_default();
        for bytes in [message.as_slice(), body] {
            for (all, one) in read.iter_mut().zip(read_as_anything(bytes)) {
                *all |= one;
            }
            let longer = [bytes, &[0]].concat();
            assert!(
                !read_as_anything(&longer)[..9].contains(&true),
                "nothing may be left over"
            );
            for length in (0..bytes.len()).step_by(1 + bytes.len() / 97) {
                read_as_anything(&bytes[..length]);
            }
            for at in (0..bytes.len()).step_by(1 + bytes.len() / 97) {
                let mut changed = bytes.to_vec();
                changed[at] ^= 0x80;
                read_as_anything(&changed);
            }
        }
    }
    // Each kind occurs in a round, but for complaints, outcomes, single keys and sites' records.
    let kinds = [1, 2, 3, 4, 5, 6, 9, 10, 12];
    assert!(kinds.iter().all(|kind| read[*kind]), "{read:?}");
}

/// Mutates real messages for a bounded time (`FUZZ_SECONDS`, 2 unless told otherwise) and shows them to every
/// decoder and to machines on both sides, each in a phase that waits for that kind.
#[test]
fn mutated_messages_cause_no_panic_on_either_side() {
    let seconds = std::env::var("FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs_f64(seconds.unwrap_or(2.0));
    let messages = real_messages();
    let mut coins = Keystream::new(MasterSecret::random().expect("randomness").into_pages());
    let mut below = |bound: usize| (coins.word() % bound.max(1) as u64) as usize;
    let mut tried = 0_u32;
    while Instant::now() < end {
        let mut federation = Federation::open(&Setting::five());
        // Somewhere on the way to the sum.
        let heard = below(28);
        federation.run_until(|federation| federation.heard.len() >= heard);
        for _ in 0..20 {
            let mut bytes = messages[below(messages.len())].clone();
            for _ in 0..1 + below(4) {
                mutate(&mut bytes, &messages, &mut below);
            }
            read_as_anything(&bytes);
            let site = id(1 + below(5) as u16);
            federation.tell_coordinator(site, to_coordinator(below(6), bytes.clone()));
            if below(4) == 0 {
                federation.tell_site(site, to_site(below(5), bytes));
            }
            tried += 1;
        }
    }
    assert!(tried >= 20, "it was given no time");
}

/// Changes, cuts, repeats, or joins with another message.
fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], below: &mut impl FnMut(usize) -> usize) {
    let at = below(bytes.len());
    match below(6) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << below(8),
        1 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][below(5)],
        2 => bytes.truncate(at),
        3 => bytes.insert(at, below(256) as u8),
        4 => {
            let part = bytes[at..(at + below(40)).min(bytes.len())].to_vec();
            let place = below(bytes.len());
            bytes.splice(place..place, part);
        }
        _ => {
            let other = &others[below(others.len())];
            bytes.truncate(at);
            bytes.extend_from_slice(&other[below(other.len())..]);
        }
    }
}

#[test]
fn a_complaint_reads_back_and_holds_no_control_characters() {
    let complaint = Complaint {
        from: id(3),
        violation: "the shares of site 4 do not open".to_owned(),
        dealer: Some(id(4)),
        evidence: vec![vec![1, 2, 3], vec![]],
    };
    let bytes = Body::to_bytes(&complaint);
    assert_eq!(Complaint::from_bytes(&bytes), Ok(complaint.clone()));
    let bell = Complaint {
        violation: "\u{1b}[31m".to_owned(),
        ..complaint
    };
    assert!(Complaint::from_bytes(&Body::to_bytes(&bell)).is_err());
}

#[test]
fn a_machine_that_stopped_takes_nothing_more() {
    let mut federation = Federation::open(&Setting::five());
    federation.tell_site(id(1), to_site(0, vec![1]));
    let site = federation.sites.get_mut(&id(1)).expect("a member");
    for kind in 0..5 {
        let input = site::Input::Message(to_site(kind, vec![]));
        assert!(matches!(
            site.handle(input, start()),
            Err(site::Refusal::Over)
        ));
    }
}
