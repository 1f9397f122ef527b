//! What receipts and the coordinator's log show of a past that somebody changed.

use std::time::Instant;

use consilium_privacy::audit::Hex;
use consilium_proto::Receipt;

use super::{
    fixture::{EXPORTED, Federation, Log, found, part, sign, signer},
    *,
};
use crate::audit::log::TransparencyLog;

/// After the sites exported; in milliseconds.
const LATER: u64 = 1000 * (EXPORTED + 1);

fn statement(site: &SiteExport) -> SiteStatement {
    let signed = Signed::from_bytes(&site.statement).expect("signed");
    let body = signed.verify(Purpose::LedgerKey, signed.signer());
    SiteStatement::from_bytes(body.expect("its own")).expect("a statement")
}

/// Lets a site sign other receipts.
fn with_receipts(
    federation: &Federation,
    mut export: Export,
    receipts: &[(u64, Receipt)],
) -> Export {
    let site = &mut export.sites[0];
    site.receipts = receipts
        .iter()
        .map(|(sequence, receipt)| consilium_privacy::audit::Receipt {
            sequence: *sequence,
            bytes: Hex(receipt.to_bytes()),
        })
        .collect();
    let mut statement = statement(site);
    statement.receipts = Hex(SiteStatement::digest_of(&site.receipts));
    site.statement = sign(&federation.sites[0], &statement);
    export
}

fn receipts(site: &SiteExport) -> Vec<(u64, Receipt)> {
    let read = |kept: &consilium_privacy::audit::Receipt| {
        let receipt = Receipt::from_bytes(&kept.bytes.0).expect("a receipt");
        (kept.sequence, receipt)
    };
    site.receipts.iter().map(read).collect()
}

fn witnessed(federation: &Federation, export: &Export, log: &[u8]) -> Verdict {
    let mut verdict = federation.verdict(export);
    verdict.witness(log);
    verdict
}

#[test]
fn a_sound_log_agrees_and_says_what_it_still_leaves_open() {
    let federation = Federation::of(&["St. Mary", "北京"]);
    let (export, log) = federation.after(2);
    for at in [0, LATER] {
        let verdict = witnessed(&federation, &export, &log.file(at));
        assert_eq!(found(&verdict), "");
        let limits = verdict.limits().join("\n");
        assert!(
            limits.contains("another log than the one given")
                && !limits.contains("--coordinator-log")
        );
    }
    assert!(
        federation
            .verdict(&export)
            .limits()
            .join("\n")
            .contains("--coordinator-log")
    );
}

#[test]
fn a_receipt_stands_for_one_entry_of_one_ledger_and_follows_the_one_before() {
    let federation = Federation::of(&["St. Mary", "St. John"]);
    let (sound, _) = federation.after(2);
    let [first, second] = &receipts(&sound.sites[0])[..] else {
        panic!("two rounds")
    };
    let other = &receipts(&sound.sites[1])[0];
    let forged = |change: fn(&mut Receipt)| {
        let mut receipt = first.1.clone();
        change(&mut receipt);
        vec![(first.0, receipt)]
    };
    let cases = [
        (
            vec![(first.0, other.1.clone())],
            "the head of another ledger",
        ),
        (vec![(5, first.1.clone())], "it is for entry 3"),
        (
            vec![second.clone()],
            "does not go on from the receipt before it",
        ),
        (
            forged(|receipt| receipt.leaf = 1),
            "is not shown to be in the log",
        ),
        (
            forged(|receipt| {
                receipt.tree_head = TreeHead {
                    size: 1,
                    root: Digest::plain(b""),
                    at: 0,
                }
                .sign(&signer())
            }),
            "no coordinator of the roster signed",
        ),
    ];
    for (receipts, reason) in cases {
        let text =
            found(&federation.verdict(&with_receipts(&federation, sound.clone(), &receipts)));
        assert!(
            text.contains("receipt for entry") && text.contains(reason),
            "{reason}: {text}"
        );
    }
}

#[test]
fn a_ledger_that_was_rewritten_after_its_receipt_is_found() {
    let federation = Federation::of(&["St. Mary"]);
    let (sound, _) = federation.after(2);
    let mut log = Log::new(&federation);
    // The same site begins its ledger anew with fewer rounds, and keeps the old receipts.
    let rewritten = Export {
        sites: vec![part(&federation.sites[0], 1, &mut log)],
        ..sound.clone()
    };
    let kept = receipts(&sound.sites[0]);
    let text = found(&federation.verdict(&with_receipts(&federation, rewritten, &kept)));
    assert!(
        text.contains("receipt for entry 5") && text.contains("no such entry"),
        "{text}"
    );
}

#[test]
fn an_older_copy_with_its_receipts_is_found_by_a_log_from_before_the_export() {
    let federation = Federation::of(&["St. Mary"]);
    let (older, (_, log)) = (federation.export(1), federation.after(2));
    assert_eq!(found(&federation.verdict(&older)), "");
    let text = found(&witnessed(&federation, &older, &log.file(0)));
    assert!(
        text.contains(
            "St. Mary, leaf 1 of the coordinator's log: entry 5 was logged and is not in the file"
        ),
        "{text}"
    );
    // A log from after the export may hold what was charged since: said, and no finding.
    let verdict = witnessed(&federation, &older, &log.file(LATER));
    assert_eq!(found(&verdict), "");
    let limits = verdict.limits().join("\n");
    assert!(
        limits.contains("goes on to entry 5, the file to entry 3"),
        "{limits}"
    );
}

#[test]
fn a_coordinator_that_tells_two_histories_is_found() {
    let federation = Federation::of(&["St. Mary", "St. John"]);
    // Each site is told that its own heads are all there is.
    let parts = federation
        .sites
        .iter()
        .map(|site| part(site, 1, &mut Log::new(&federation)));
    let split = Export {
        roster: federation.roster.clone(),
        sites: parts.collect(),
    };
    let text = found(&federation.verdict(&split));
    assert!(
        text.contains("St. John, receipt for entry 3: the coordinator tells two histories"),
        "{text}"
    );

    // In two files it shows only when they are compared.
    let [one, other] = [0, 1].map(|at| Export {
        sites: vec![split.sites[at].clone()],
        ..split.clone()
    });
    let mut verdict = federation.verdict(&one);
    assert_eq!(found(&verdict), "");
    verdict.compare(&federation.verdict(&other));
    assert!(
        found(&verdict).contains("two histories"),
        "{}",
        found(&verdict)
    );

    // Or beside the log: another one, or one that was longer before.
    let (sound, log) = federation.after(1);
    let mut told = Log::new(&federation);
    told.receipt(log.leaves[1].clone(), None);
    told.receipt(log.leaves[0].clone(), None);
    let text = found(&witnessed(&federation, &sound, &told.file(0)));
    assert!(
        text.contains("receipt for entry 3: the coordinator tells two histories"),
        "{text}"
    );
    let mut short = Log::new(&federation);
    short.receipt(log.leaves[0].clone(), None);
    let text = found(&witnessed(&federation, &sound, &short.file(0)));
    assert!(text.contains("its log was longer before"), "{text}");
}

/// How long a check takes is printed with `--nocapture`; `ROUNDS=50000` makes the history longer.
#[test]
fn a_long_history_is_checked_quickly() {
    let rounds = std::env::var("ROUNDS").map_or(200, |rounds| rounds.parse().expect("a number"));
    let federation = Federation::of(&["St. Mary"]);
    let (export, log) = federation.after(rounds);
    let (bytes, log) = (export.to_bytes(), log.file(0));
    let started = Instant::now();
    let mut verdict = Verdict::of(&bytes, &federation.root);
    verdict.witness(&log);
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(found(&verdict), "");
    let entries = verdict.sites[0].entries.len();
    println!("{entries} entries and {rounds} receipts are checked in {seconds:.2} s");
    // A hundred times what it takes.
    assert!(seconds < 2.0 + 0.02 * f64::from(rounds), "{seconds}");
}

#[test]
fn every_byte_of_a_log_that_is_changed_is_reported() {
    let federation = Federation::of(&["A"]);
    let (export, log) = federation.after(2);
    let sound = log.file(0);
    let file = TransparencyLog::from_bytes(&sound).expect("its own");
    assert!(file.begins_with(&file) && file.to_bytes() == sound);
    let verdict = |log: &[u8]| found(&witnessed(&federation, &export, log));
    assert_eq!(verdict(&sound), "");
    let mut bytes = sound.clone();
    for at in 0..sound.len() {
        bytes[at] ^= 1 << (at % 8);
        assert!(
            verdict(&bytes).contains("the coordinator's log"),
            "byte {at}"
        );
        bytes[at] = sound[at];
    }
    for cut in (0..sound.len()).step_by(53) {
        assert!(
            verdict(&sound[..cut]).contains("the coordinator's log"),
            "{cut}"
        );
    }
}
