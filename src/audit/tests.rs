//! Whole exports of a made-up federation, and what is found when somebody changed them.

mod fixture;
mod history;

use consilium_privacy::{audit::Hex, ledger::Head};

use self::fixture::{Federation, Log, STUDY, found, part, signer};
use super::*;
use crate::audit_report::{Report, to_html};

#[test]
fn a_sound_export_is_believed_from_its_own_root_only() {
    let federation = Federation::of(&["St. Mary", "北京"]);
    let bytes = federation.export(2).to_bytes();
    let verdict = Verdict::of(&bytes, &federation.root);
    assert_eq!(found(&verdict), "");
    assert!(verdict.sites.len() == 2 && verdict.sites.iter().all(|site| site.is_sound));
    assert_eq!(verdict.sites[1].receipts, [3, 5]);
    assert!(!verdict.limits().join("\n").contains("no receipt"));

    let other = Verdict::of(&bytes, &Digest::plain(b"another"));
    assert!(found(&other).contains("roster epoch 0: roster is signed by governance"));
    assert!(other.sites.is_empty());
    for not_an_export in [&b""[..], b"\n", b"{}\n", &[0xFF; 9]] {
        assert!(
            !Verdict::of(not_an_export, &federation.root)
                .findings
                .is_empty()
        );
    }
}

#[test]
fn strangers_and_sites_that_are_there_twice_are_found() {
    let federation = Federation::of(&["St. Mary"]);
    let mut export = federation.export(1);
    export
        .sites
        .push(part(&signer(), 1, &mut Log::new(&federation)));
    export.sites.push(export.sites[0].clone());
    let verdict = Verdict::of(&export.to_bytes(), &federation.root);
    let text = found(&verdict);
    assert!(
        text.contains("site 2 of the file, the site's statement: no site of the roster"),
        "{text}"
    );
    assert!(
        text.contains("site 3 of the file, the site's statement: this site is in the file twice"),
        "{text}"
    );

    export.sites = vec![];
    let verdict = Verdict::of(&export.to_bytes(), &federation.root);
    assert!(found(&verdict).contains("it holds no site"));
    assert_eq!(verdict.absent, ["St. Mary"]);
}

#[test]
fn an_older_export_shows_a_ledger_that_was_rolled_back_forked_or_begun_anew() {
    let federation = Federation::of(&["St. Mary"]);
    let of = |export: &Export| Verdict::of(&export.to_bytes(), &federation.root);
    let (short, long) = (federation.export(1), federation.export(2));
    let mut verdict = of(&long);
    verdict.compare(&of(&short));
    assert_eq!(found(&verdict), "");
    let mut verdict = of(&short);
    verdict.compare(&of(&long));
    let text = found(&verdict);
    assert!(
        text.contains("goes on to entry 5, this one ends at entry 3: the ledger was rolled back"),
        "{text}"
    );

    let mut gone = of(&Export {
        sites: vec![],
        ..long.clone()
    });
    gone.compare(&of(&long));
    assert!(found(&gone).contains("St. Mary, the ledger: this site is in the older export"));

    let mut broken = long.clone();
    broken.sites[0].entries.truncate(2);
    let mut verdict = of(&long);
    verdict.compare(&of(&broken));
    assert!(found(&verdict).contains("the older export does not verify itself"));
}

#[test]
fn every_byte_that_is_changed_is_reported_where_it_stands() {
    let federation = Federation::of(&["A"]);
    let sound = federation.export(1).to_bytes();
    assert_eq!(found(&Verdict::of(&sound, &federation.root)), "");
    let (mut line, mut entries, mut epochs) = (1, 0, 0);
    let mut bytes = sound.clone();
    for text in sound.split_inclusive(|&byte| byte == b'\n') {
        let starts = |key: &str| text.starts_with(format!("{{\"{key}\"").as_bytes());
        let place = if starts("entry") {
            entries += 1;
            format!("entry {entries}")
        } else if starts("roster") {
            epochs += 1;
            format!("roster epoch {}", epochs - 1)
        } else if starts("site") {
            "the site's statement".to_owned()
        } else if starts("plan") {
            format!("plan of study {}", Hex(STUDY))
        } else if starts("receipt") {
            "receipt".to_owned()
        } else {
            format!("line {line} ")
        };
        let start = text.as_ptr() as usize - sound.as_ptr() as usize;
        for at in start..start + text.len() {
            let bit = 1 << (at % 8);
            bytes[at] ^= bit;
            let text = found(&Verdict::of(&bytes, &federation.root));
            let is_named = text.contains(&place) || text.contains(&format!("line {line} "));
            assert!(is_named, "byte {at} of {place}, line {line}: {text}");
            bytes[at] ^= bit;
        }
        line += 1;
    }
    for cut in (0..sound.len()).step_by(97) {
        assert!(
            !Verdict::of(&sound[..cut], &federation.root)
                .findings
                .is_empty()
        );
    }
}

#[test]
fn a_page_shows_figures_and_findings_and_nothing_in_it_runs() {
    let federation = Federation::of(&["<script>alert(1)<"]);
    let mut export = federation.export(2);
    let of = |export: &Export| {
        Report::of(
            Verdict::of(&export.to_bytes(), &federation.root),
            federation.root,
        )
    };
    let report = of(&export);
    let study = &report.sites[0].studies[0];
    let (planned, spent) = (study.planned.expect("a plan"), study.spent.expect("a cap"));
    assert!(
        planned.rdp > spent.rdp && spent.rdp >= spent.pld,
        "{planned:?} {spent:?}"
    );
    assert_eq!(study.rounds[1].epsilon, spent);
    assert!((study.left_epsilon.expect("a cap") + spent.rdp.expect("finite") - 20.0).abs() < 1e-9);
    let page = to_html(&report);
    assert!(
        page.contains("The file verifies") && page.contains("<svg"),
        "{page}"
    );
    assert!(
        page.contains("&lt;script&gt;") && !page.contains("<script"),
        "{page}"
    );
    assert!(!page.contains("href") && !page.contains("src="), "{page}");

    export.sites[0].entries.pop();
    let page = to_html(&of(&export));
    assert!(
        page.contains("The file does not verify") && page.contains("ends at entry 5"),
        "{page}"
    );
}

#[test]
fn heads_are_those_of_the_ledger() {
    let federation = Federation::of(&["A"]);
    let empty = part(&federation.sites[0], 0, &mut Log::new(&federation));
    let export = Export {
        roster: federation.roster.clone(),
        sites: vec![empty],
    };
    let verdict = Verdict::of(&export.to_bytes(), &federation.root);
    assert_eq!(verdict.sites[0].statement.head(), Head::START);
}
