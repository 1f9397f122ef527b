use super::*;
use crate::{Digest, LayoutDigest, MemberId, ModelDigest, RoundId, StudyId};

const PLAN: &str = r#"
    name = "heart"
    task = "tabular-classification"
    data_set = "heart"
    classes = ["healthy", "ill"]
    rounds = 2
    cohort = { size = 3 }
    table = { columns = [{ name = "age" }] }
    network = { name = "dense", hidden = [] }
    training = { steps = 4, batch_size = 8, learning_rate = 0.1 }
    privacy = { clipping_norm = 1.0, noise_multiplier = 2.0, delta = 1e-6 }
"#;

/// A change, and the field that it is about.
type Named<T> = (&'static str, fn(&mut T));

const LIMITS: Limits = Limits {
    min_cohort: 3,
    colluding: 0,
    honest: 3,
};

/// Changes the numbers of a weighted form.
fn weighted(secure: &mut SecureAggregation, change: fn(&mut f64, &mut u32, &mut u64)) {
    let Form::Weighted {
        update_bound,
        weight_max,
        grid,
    } = &mut secure.form
    else {
        panic!("weighted");
    };
    change(update_bound, weight_max, grid);
}

fn plan() -> Plan {
    Plan::from_toml(PLAN).expect("a sound plan")
}

fn signer() -> Signer {
    Signer::from_pkcs8(&Signer::generate().expect("randomness")).expect("a fresh key")
}

fn site(id: u16) -> SiteId {
    SiteId(MemberId(id))
}

fn spec() -> RoundSpec {
    let digest = Digest::plain(b"x");
    RoundSpec {
        round: RoundId {
            study: StudyId::random().expect("randomness"),
            round: 1,
            attempt: 1,
        },
        roster_epoch: 3,
        roster_digest: digest,
        plan_digest: plan().digest(),
        layout_digest: LayoutDigest(digest),
        model_digest: ModelDigest(digest),
        cohort: [1, 2, 5].map(site).to_vec(),
        quorum: 3,
        issued_at: 1,
        deadline: 2,
        chunk_bytes: 1 << 20,
        secure_aggregation: SecureAggregation::of(&plan(), 1, 4, 3, 9).expect("a grid"),
    }
}

fn terms(spec: &RoundSpec, plan: &Plan, revoked: Option<SiteId>) -> Result<Terms, NoTerms> {
    let keys = [1, 2, 5].map(|id| (site(id), signer().public_key()));
    let key_of = |wanted| {
        let known = keys.iter().find(|(site, _)| *site == wanted);
        known
            .filter(|(site, _)| revoked != Some(*site))
            .map(|(_, key)| *key)
    };
    let signed = spec.sign(&signer());
    spec.terms(&signed, plan, 4, key_of, LIMITS, SystemTime::UNIX_EPOCH)
}

#[test]
fn a_round_of_the_plan_gives_terms_with_all_its_numbers() {
    let terms = terms(&spec(), &plan(), None).expect("sound");
    assert_eq!((terms.members().len(), terms.threshold()), (3, 3));
    assert_eq!((terms.main(), terms.length()), (4, 5));
    assert_eq!(terms.word(), Word::U32);
    let Encoding::Weighted {
        bound,
        weight_max,
        grid,
    } = *terms.encoding()
    else {
        panic!("weighted");
    };
    // 2 · 0.1 · (4 + 2 · √(4 · 4) / 8)
    assert!((bound - 1.0).abs() < 1e-12, "{bound}");
    assert_eq!((weight_max, grid), (64, ((1 << 31) - 1) / 192 - 1));
}

#[test]
fn numbers_that_do_not_follow_from_the_plan_are_refused_by_name() {
    let changes: [Named<SecureAggregation>; 6] = [
        ("update bound", |it| {
            weighted(it, |bound, _, _| *bound *= 1.0 + 1e-6)
        }),
        ("largest weight", |it| weighted(it, |_, most, _| *most = 65)),
        ("grid", |it| weighted(it, |_, _, grid| *grid -= 1)),
        ("form", |it| {
            it.form = Form::Shares {
                lattice_step: 1.0,
                shares: 3,
            }
        }),
        ("word", |it| it.word_bits = 64),
        ("figures", |it| it.figures.push(1.0)),
    ];
    for (name, change) in changes {
        let mut spec = spec();
        change(spec.secure_aggregation.as_mut().expect("secure"));
        let refused = terms(&spec, &plan(), None).expect_err("another number");
        assert!(
            matches!(&refused, NoTerms::Unlike { what, .. } if *what == name),
            "{refused}"
        );
    }
}

#[test]
fn a_coordinator_cannot_switch_secure_aggregation_off() {
    let without = RoundSpec {
        secure_aggregation: None,
        ..spec()
    };
    assert!(matches!(
        terms(&without, &plan(), None),
        Err(NoTerms::Differ)
    ));
    let open = Plan {
        secure_aggregation: false,
        ..plan()
    };
    assert!(matches!(terms(&spec(), &open, None), Err(NoTerms::Differ)));
}

#[test]
fn a_revoked_site_in_the_cohort_and_a_low_threshold_are_refused() {
    assert!(matches!(
        terms(&spec(), &plan(), Some(site(2))),
        Err(NoTerms::NotActive(it)) if it == site(2)
    ));
    let low = RoundSpec {
        quorum: 2,
        ..spec()
    };
    assert!(matches!(
        terms(&low, &plan(), None),
        Err(NoTerms::Terms(TermsError::Threshold { found: 2, least: 3 }))
    ));
}

#[test]
fn the_numbers_survive_the_wire_and_unsound_ones_do_not() {
    let coordinator = signer();
    let signed = spec().sign(&coordinator);
    let opened = RoundSpec::open(&signed, &coordinator.public_key()).expect("its signature");
    assert_eq!(opened.secure_aggregation, spec().secure_aggregation);
    let changes: [fn(&mut SecureAggregation); 6] = [
        |it| weighted(it, |bound, _, _| *bound = f64::NAN),
        |it| weighted(it, |bound, _, _| *bound = 0.0),
        |it| it.figures = vec![f64::INFINITY],
        |it| weighted(it, |_, _, grid| *grid = 0),
        |it| it.word_bits = 16,
        |it| it.end = 1,
    ];
    for change in changes {
        let mut spec = spec();
        change(spec.secure_aggregation.as_mut().expect("secure"));
        let signed = spec.sign(&coordinator);
        assert!(RoundSpec::open(&signed, &coordinator.public_key()).is_err());
    }
}

fn distributed() -> Plan {
    let text = PLAN
        .replace("steps = 4", "steps = 1")
        .replace(
            "cohort = { size = 3 }",
            "cohort = { size = 5, quorum = 4, max_attempts = 2 }",
        )
        .replace("privacy = {", "privacy = { mode = \"distributed\",");
    Plan::from_toml(&text).expect("a sound plan")
}

#[test]
fn a_distributed_round_fixes_lattice_and_shares_of_those_guaranteed_to_be_honest() {
    let plan = distributed();
    let secure = SecureAggregation::of(&plan, 1, 4, 5, 9);
    let secure = secure.expect("a word").expect("secure");
    let Form::Shares {
        lattice_step,
        shares,
    } = secure.form
    else {
        panic!("shares");
    };
    // Of four that answer one may work with the coordinator.
    assert_eq!((shares, secure.word_bits), (3, 64));
    let expected = 2.0 / 3_f64.sqrt() / f64::from(1 << 29);
    assert!(
        (lattice_step / expected - 1.0).abs() < 1e-12,
        "{lattice_step}"
    );
}

#[test]
fn distributed_plans_that_cannot_be_are_refused_with_the_field() {
    let sound = distributed();
    let cases: [Named<Plan>; 5] = [
        ("secure_aggregation", |plan| plan.secure_aggregation = false),
        ("training.steps", |plan| plan.training.steps = 2),
        ("training.optimizer", |plan| {
            plan.training.optimizer = crate::plan::Optimizer::Adam
        }),
        ("cohort.max_attempts", |plan| plan.cohort.max_attempts = 3),
        ("privacy.noise_multiplier", |plan| {
            plan.privacy.noise_multiplier = None;
            plan.privacy.epsilon = Some(1.0);
        }),
    ];
    for (field, change) in cases {
        let mut plan = sound.clone();
        change(&mut plan);
        let refused = plan.check().expect_err(field).to_string();
        assert!(refused.contains(field), "{refused}");
    }
}

/// Bodies that a coordinator, or a site, signed whatever they hold: changed, cut and lengthened for a
/// bounded time (`FUZZ_SECONDS`, 1 unless told otherwise).
#[test]
fn mutated_bodies_of_signed_messages_cause_no_panic() {
    use crate::{ChunkPlan, Statement, signed::Purpose};

    let signer = signer();
    let key = signer.public_key();
    let statement = Statement {
        context: Digest::plain(b"x"),
        round: spec().round,
        layout_digest: LayoutDigest(Digest::plain(b"x")),
        update_digest: ModelDigest(Digest::plain(b"x")),
        transfer: ChunkPlan::new(100, 1024).expect("sound"),
        weight: None,
        charge: None,
    };
    let bodies = [
        (Purpose::RoundSpec, spec().sign(&signer)),
        (Purpose::Statement, statement.sign(&signer)),
    ];
    let seconds = std::env::var("FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let end =
        std::time::Instant::now() + std::time::Duration::from_secs_f64(seconds.unwrap_or(1.0));
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound.max(1) as u64) as usize
    };
    let (mut read, mut tried) = (0, 0);
    while std::time::Instant::now() < end || tried < 100 {
        let (purpose, signed) = &bodies[below(2)];
        let mut body = signed.unverified_body().to_vec();
        for _ in 0..below(4) {
            let at = below(body.len());
            match below(4) {
                0 if !body.is_empty() => body[at] ^= 1 << below(8),
                1 => body.truncate(at),
                2 => body.insert(at, below(256) as u8),
                _ => body.extend_from_within(at..),
            }
        }
        let signed = signer.sign(*purpose, body);
        tried += 1;
        if let Ok(spec) = RoundSpec::open(&signed, &key) {
            // What it says is compared with the plan, never computed with.
            let _ = spec.terms(
                &signed,
                &plan(),
                4,
                |_| Some(key),
                LIMITS,
                SystemTime::UNIX_EPOCH,
            );
            read += 1;
        }
        read += u32::from(Statement::open(&signed, &key).is_ok());
    }
    assert!(read > 0 && read < tried, "some were left as they are");
}
