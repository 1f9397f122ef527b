//! Whole exports of a made-up federation, and what is found when somebody changed them.

use std::{sync::Arc, time::UNIX_EPOCH};

use consilium_privacy::{
    accountant::Charge,
    audit::{Hex, Receipt, StudyStated},
    ledger::{
        Budget, ChargeRequest, Generator, Head, Ledger, LedgerKey, Made, MemoryJournal,
        Purpose as Released, Repeat,
    },
};
use consilium_proto::{Signer, roster::Application};

use super::*;
use crate::audit_report::{Report, to_html};

const STUDY: [u8; 16] = [5; 16];
const SOUND: &str = "within range";

struct Federation {
    root: Digest,
    roster: Vec<Vec<u8>>,
    sites: Vec<Signer>,
}

fn signer() -> Signer {
    Signer::from_pkcs8(&Signer::generate().expect("randomness")).expect("a fresh key")
}

/// A federation with these sites.
fn federation(names: &[&str]) -> Federation {
    let governance = signer();
    let root = governance.public_key().fingerprint();
    let first = Roster::found(&governance, 1);
    let mut roster = Roster::open_first(&first, &root).expect("its own");
    let (mut epochs, mut sites) = (vec![first.to_bytes()], Vec::new());
    for name in names {
        let site = signer();
        let application = Application {
            name: name.parse().expect("a name"),
            role: Role::Site,
            identity_key: site.public_key(),
            tls_key_digest: Digest::plain(name.as_bytes()),
        };
        let next = roster.admit(application, &governance, 1, 100).expect("new");
        roster = roster.open_next(&next).expect("its own");
        epochs.push(next.to_bytes());
        sites.push(site);
    }
    Federation {
        root,
        roster: epochs,
        sites,
    }
}

fn plan() -> Plan {
    let text =
        include_str!("../../examples/pneumonia.toml").replace("epsilon = 8.0", "epsilon = 20.0");
    Plan::from_toml(&text).expect("a sound example")
}

/// One site's part: some rounds with every patient in every batch, which is quick to account.
fn part(identity: &Signer, rounds: u32) -> SiteExport {
    let budget = |epsilon: f64| Budget {
        epsilon: epsilon.try_into().expect(SOUND),
        delta: 1e-5.try_into().expect(SOUND),
    };
    let key = Arc::new(LedgerKey::from_seed([1; 32]));
    let budgets = [("chest".to_owned(), budget(30.0))];
    let mut ledger = Ledger::open(MemoryJournal::default(), key.clone(), budgets).expect("empty");
    for round in 1..=rounds {
        let request = ChargeRequest {
            data_set: "chest".into(),
            study: STUDY,
            round,
            attempt: 1,
            purpose: Released::Training,
            charge: Charge::SampledGaussian {
                q: 1.0.try_into().expect(SOUND),
                sigma: 8.0.try_into().expect(SOUND),
                steps: 10,
            },
            study_cap: Some(budget(20.0)),
            repeat: Repeat::Refuse,
            key: Some([round as u8; 32].into()),
        };
        let grant = ledger.reserve(request, UNIX_EPOCH).expect("within budget");
        let made = Made {
            charge: grant.sequence(),
            generator: Generator::Aes256Gcm,
            taken: 10,
            clipping_norm: 1.0.try_into().expect(SOUND),
            batch_size: 128,
            start: [1; 32],
            update: [2; 32],
        };
        ledger.record(made, UNIX_EPOCH).expect("paid for");
    }
    let (head, canonical) = (ledger.head(), plan().to_canonical());
    let receipts = vec![Receipt {
        sequence: 1,
        bytes: Hex(b"receipt".to_vec()),
    }];
    let statement = SiteStatement {
        ledger_key: Hex(*key.public_key().as_bytes()),
        entries: head.sequence,
        head: Hex(head.hash),
        at: 7,
        data_sets: vec![],
        studies: vec![StudyStated {
            study: Hex(STUDY),
            plan: Hex(*Plan::digest_of(&canonical).as_bytes()),
            public_size: Some(100),
        }],
        receipts: Hex(SiteStatement::digest_of(&receipts)),
    };
    SiteExport {
        statement: identity
            .sign(Purpose::LedgerKey, statement.to_bytes())
            .to_bytes(),
        plans: vec![PlanText {
            study: Hex(STUDY),
            canonical: String::from_utf8(canonical).expect("text"),
        }],
        entries: ledger.entries().iter().map(Entry::to_bytes).collect(),
        receipts,
    }
}

fn export(federation: &Federation, rounds: u32) -> Export {
    let parts = federation.sites.iter().map(|site| part(site, rounds));
    Export {
        roster: federation.roster.clone(),
        sites: parts.collect(),
    }
}

fn found(verdict: &Verdict) -> String {
    let texts: Vec<_> = verdict.findings.iter().map(ToString::to_string).collect();
    texts.join("\n")
}

#[test]
fn a_sound_export_is_believed_from_its_own_root_only() {
    let federation = federation(&["St. Mary", "北京"]);
    let bytes = export(&federation, 2).to_bytes();
    let verdict = Verdict::of(&bytes, &federation.root, None);
    assert_eq!(found(&verdict), "");
    assert!(verdict.sites.len() == 2 && verdict.sites.iter().all(|site| site.is_sound));
    assert!(
        limits(&verdict, false)
            .iter()
            .any(|text| text.contains("2 receipts"))
    );

    let other = Verdict::of(&bytes, &Digest::plain(b"another"), None);
    assert!(found(&other).contains("roster epoch 0: roster is signed by governance"));
    assert!(other.sites.is_empty());
    for not_an_export in [&b""[..], b"\n", b"{}\n", &[0xFF; 9]] {
        assert!(
            !Verdict::of(not_an_export, &federation.root, None)
                .findings
                .is_empty()
        );
    }
}

#[test]
fn strangers_and_sites_that_are_there_twice_are_found() {
    let federation = federation(&["St. Mary"]);
    let mut export = export(&federation, 1);
    export.sites.push(part(&signer(), 1));
    export.sites.push(export.sites[0].clone());
    let verdict = Verdict::of(&export.to_bytes(), &federation.root, None);
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
    let verdict = Verdict::of(&export.to_bytes(), &federation.root, None);
    assert!(found(&verdict).contains("it holds no site"));
    assert_eq!(verdict.absent, ["St. Mary"]);
}

#[test]
fn an_older_export_shows_a_ledger_that_was_rolled_back_forked_or_begun_anew() {
    let federation = federation(&["St. Mary"]);
    let of = |export: &Export| Verdict::of(&export.to_bytes(), &federation.root, None);
    let (short, long) = (export(&federation, 1), export(&federation, 2));
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
    let federation = federation(&["A"]);
    let sound = export(&federation, 1).to_bytes();
    assert_eq!(found(&Verdict::of(&sound, &federation.root, None)), "");
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
            let text = found(&Verdict::of(&bytes, &federation.root, None));
            let is_named = text.contains(&place) || text.contains(&format!("line {line} "));
            assert!(is_named, "byte {at} of {place}, line {line}: {text}");
            bytes[at] ^= bit;
        }
        line += 1;
    }
    for cut in (0..sound.len()).step_by(97) {
        assert!(
            !Verdict::of(&sound[..cut], &federation.root, None)
                .findings
                .is_empty()
        );
    }
}

#[test]
fn a_page_shows_figures_and_findings_and_nothing_in_it_runs() {
    let federation = federation(&["<script>alert(1)<"]);
    let mut export = export(&federation, 2);
    let of = |export: &Export| {
        Report::of(
            Verdict::of(&export.to_bytes(), &federation.root, None),
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
    let federation = federation(&["A"]);
    let empty = part(&federation.sites[0], 0);
    let export = Export {
        roster: federation.roster.clone(),
        sites: vec![empty],
    };
    let verdict = Verdict::of(&export.to_bytes(), &federation.root, None);
    assert_eq!(verdict.sites[0].statement.head(), Head::START);
}
