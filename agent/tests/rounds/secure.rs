//! Rounds of which the coordinator learns only the sum, through the whole stack.

use std::time::Duration;

use consilium_privacy::{ledger::Purpose, seal::read_sealed, secagg::site::Record};
use consilium_proto::{
    Plan, Role, StudyId,
    plan::{Mode, Privacy, Report},
};

use crate::federation::{
    Federation, PRIVATE, Running, Study, key, logs, secure_plan, sites, start, three_sites, until,
    write_policy,
};

async fn start_all(sites: &[std::path::PathBuf]) -> Vec<Running> {
    let mut running = Vec::new();
    for site in sites {
        running.push(start(site).await);
    }
    running
}

/// A site's journal once it has heard of the outcomes of so many attempts.
async fn concluded(agent: &Running, study: StudyId, attempts: usize) -> Vec<Record> {
    until("the last outcome is heard", async || {
        let records = agent.store.attempts(study).await.expect("a chain");
        let ended = |record: &&Record| {
            matches!(
                record,
                Record::Ended {
                    concluded: true,
                    ..
                }
            )
        };
        (records.iter().filter(ended).count() == attempts).then_some(records)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hospitals_train_and_the_coordinator_learns_only_sums() {
    let mut federation = Federation::new().await;
    let researcher = federation.member("researcher", Role::Researcher).await;
    let sites = three_sites(&mut federation).await;
    let study = Study::submit(&researcher, &secure_plan(3, 4, PRIVATE)).await;
    let running = start_all(&sites).await;
    let detail = study.finished().await;
    assert_eq!(detail.versions.len(), 4);
    for version in &detail.versions[1..] {
        let sums = version.sums.as_ref().expect("of a secure study");
        assert_eq!(sums.weight, 3, "three hospitals of weight 1");
        assert!(sums.figures.is_empty(), "the plan asks for none");
        assert_eq!(version.contributions.len(), 3);
        for contribution in &version.contributions {
            assert_eq!(contribution.weight, 0, "no weight in the clear");
            assert!(contribution.charge.is_some());
        }
    }
    for agent in running {
        let records = concluded(&agent, study.id, 3).await;
        for attempt in records.chunks(5) {
            assert!(matches!(
                attempt,
                [
                    Record::Opened { .. },
                    Record::Uploaded {
                        sequence: Some(_),
                        ..
                    },
                    Record::Confirmed { .. },
                    Record::Answered { .. },
                    Record::Ended {
                        concluded: true,
                        ..
                    },
                ]
            ));
        }
        assert_eq!(agent.store.complaints().await.expect("readable"), []);
        agent.end().await;
    }
}

/// Each figure costs ε = 2: Laplace noise of scale 1/2 a site. Three of them are off by 12 together
/// once in 10⁹ runs.
#[tokio::test(flavor = "multi_thread")]
async fn what_sites_report_is_charged_noised_and_learned_as_a_sum_alone() {
    let mut federation = Federation::new().await;
    let researcher = federation.member("researcher", Role::Researcher).await;
    let sites = three_sites(&mut federation).await;
    let report = Report {
        epsilon: 2.0,
        loss_cap: 4.0,
        every: 2,
    };
    let plan = Plan {
        report: Some(report),
        privacy: Privacy {
            epsilon: Some(8.0),
            ..secure_plan(2, 4, PRIVATE).privacy
        },
        ..secure_plan(2, 4, PRIVATE)
    };
    plan.check().expect("a sound plan");
    assert_eq!(
        plan.report_epsilon(),
        6.0,
        "three figures in one round of two"
    );
    let study = Study::submit(&researcher, &plan).await;
    let running = start_all(&sites).await;
    let detail = study.finished().await;
    let figures = |version: usize| {
        let sums = detail.versions[version].sums.clone();
        sums.expect("of a secure study").figures
    };
    let reported = figures(1);
    let names: Vec<_> = reported.iter().map(|figure| figure.name.as_str()).collect();
    assert_eq!(names, ["accuracy", "loss", "clipped"]);
    for figure in &reported {
        assert!((figure.count - 120.0).abs() < 12.0, "{figure:?}");
        assert!(figure.sum > -12.0 && figure.sum < 4.0 * 132.0, "{figure:?}");
    }
    assert!(figures(2).is_empty(), "every second round reports");
    for agent in running {
        concluded(&agent, study.id, 2).await;
        let entries = agent.store.ledger_entries().await.expect("it verifies");
        let charges = entries.iter().filter_map(|entry| entry.fact.charged());
        let releases: Vec<_> = charges
            .filter(|charged| charged.study == *study.id.as_bytes())
            .filter(|charged| charged.purpose != Purpose::Training)
            .map(|charged| (charged.round, charged.purpose.to_string()))
            .collect();
        let expected =
            ["accuracy", "loss", "clipped"].map(|name| (1, format!("release of {name}")));
        assert_eq!(releases, expected);
        let delta = 1e-5.try_into().expect("sound");
        let spent = agent.store.study_epsilon(*study.id.as_bytes(), delta).await;
        let spent = spent.expect("it verifies");
        assert!(
            spent > 6.0 && spent <= 8.0,
            "reports are part of the whole: {spent}"
        );
        agent.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_dies_after_it_dealt_is_left_out_and_the_others_sum_is_opened() {
    let mut federation = Federation::with_grace(Duration::from_secs(3)).await;
    let researcher = federation.member("researcher", Role::Researcher).await;
    let sites = sites(&mut federation, &["A", "B", "C", "D", "E"]).await;
    let mut plan = secure_plan(1, 3000, PRIVATE);
    plan.cohort.size = 5;
    plan.cohort.quorum = Some(4);
    let study = Study::submit(&researcher, &plan).await;
    let mut running = start_all(&sites).await;
    let dying = running.pop().expect("five");
    // It trains, so the others have its shares, or will in a moment.
    until("the fifth site trains", async || {
        let round = dying.store.round(study.id, 1).await.expect("readable");
        round.filter(|round| round.trainings == 1)
    })
    .await;
    until("all have dealt", async || {
        let log = federation.journal(study.id).await;
        (log.iter().filter(|line| line.first() == Some(&1)).count() == 5).then_some(())
    })
    .await;
    dying.task.abort();
    dying.task.await.expect_err("it is gone");
    let detail = study.finished().await;
    let version = &detail.versions[1];
    assert_eq!(version.contributions.len(), 4, "four survive");
    assert_eq!(version.sums.as_ref().expect("secure").weight, 4);
    let lines = federation.journal(study.id).await;
    let lists = lines.iter().filter(|line| line.first() == Some(&8)).count();
    assert_eq!(lists, 1, "one list of survivors");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_whose_policy_fears_more_collusion_declines_and_nothing_is_sent() {
    let mut federation = Federation::new().await;
    let researcher = federation.member("researcher", Role::Researcher).await;
    let sites = three_sites(&mut federation).await;
    write_policy(&sites[2], "auto_approve = true\ncolluding = 1");
    let study = Study::submit(&researcher, &secure_plan(1, 4, PRIVATE)).await;
    let running = start_all(&sites).await;
    let decision = until("the third site has refused", async || {
        let decisions = study.detail().await.decisions;
        decisions.into_iter().find(|decision| !decision.approved)
    })
    .await;
    assert!(
        decision.reason.contains("`colluding` is 1"),
        "{}",
        decision.reason
    );
    for agent in running {
        assert_eq!(agent.store.attempts(study.id).await.expect("a chain"), []);
        agent.end().await;
    }
}

/// Noise of σ = 50 drowns the gradients: over four rounds 136 coordinates move by the noise of the
/// whole step, σC over 3 · B = 24 patients, and no less. 5 standard errors.
#[tokio::test(flavor = "multi_thread")]
async fn a_distributed_study_shares_its_noise_and_charges_each_site_for_the_whole() {
    let mut federation = Federation::new().await;
    let researcher = federation.member("researcher", Role::Researcher).await;
    let sites = three_sites(&mut federation).await;
    for site in &sites {
        write_policy(site, "auto_approve = true\nallow_distributed = true");
    }
    let mut plan = secure_plan(4, 1, PRIVATE);
    plan.privacy = Privacy {
        mode: Mode::Distributed,
        epsilon: None,
        noise_multiplier: Some(50.0),
        ..plan.privacy
    };
    plan.cohort.max_attempts = 2;
    plan.training.learning_rate = 1.0;
    plan.check().expect("a sound plan");
    let study = Study::submit(&researcher, &plan).await;
    let running = start_all(&sites).await;
    let detail = study.finished().await;
    let mut moved = Vec::new();
    for pair in detail.versions.windows(2) {
        let sums = pair[1].sums.as_ref().expect("secure");
        assert_eq!(sums.weight, 3, "no weights: three sites");
        for contribution in &pair[1].contributions {
            let charge = contribution.charge.as_ref().expect("a private study");
            assert_eq!((charge.noise_multiplier, charge.steps), (50.0, 1));
        }
        let [before, after] = [&pair[0], &pair[1]].map(|version| study.weights(version));
        let (before, after) = tokio::join!(before, after);
        moved.extend(
            after
                .iter()
                .zip(&before)
                .map(|(after, before)| f64::from(after - before)),
        );
    }
    let count = moved.len() as f64;
    assert_eq!(count, 136.0);
    let variance = moved.iter().map(|step| step * step).sum::<f64>() / count;
    let expected = (50.0_f64 / 24.0).powi(2);
    let error = expected * (2.0 / count).sqrt();
    assert!(
        (variance - expected).abs() < 5.0 * error,
        "{variance} for {expected}"
    );
    for agent in running {
        concluded(&agent, study.id, 4).await;
        let spooled = agent.store.spooled(study.id, 1).expect("readable");
        assert!(spooled.is_none(), "a share is stored nowhere");
        agent.end().await;
    }
}

/// As text, as hexadecimal digits and as the list of numbers that `Debug` would print.
fn forms(secret: &[u8]) -> [String; 2] {
    let digits = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let numbers: Vec<_> = secret.iter().map(ToString::to_string).collect();
    [digits, numbers.join(", ")]
}

/// All logs of this program at every level, those of its dependencies included: no key, no weight, no
/// patient, no byte of a masked vector or of its shares.
#[tokio::test(flavor = "multi_thread")]
async fn no_log_line_holds_a_secret() {
    let mut federation = Federation::new().await;
    let researcher = federation.member("researcher", Role::Researcher).await;
    let sites = three_sites(&mut federation).await;
    let study = Study::submit(&researcher, &secure_plan(2, 4, PRIVATE)).await;
    let running = start_all(&sites).await;
    let detail = study.finished().await;
    let mut secrets = vec![vec![9; 32]];
    for (agent, site) in running.iter().zip(&sites) {
        concluded(agent, study.id, 2).await;
        for name in ["identity.key", "tls.key"] {
            let opened = read_sealed(&site.join(name), &key(), name);
            secrets.push(opened.expect("the member's key").to_vec());
        }
        let update = agent
            .store
            .spooled(study.id, 2)
            .expect("readable")
            .expect("kept");
        let values = update.values()[..4]
            .iter()
            .flat_map(|value| value.to_le_bytes());
        secrets.push(values.collect());
    }
    let weights = study.weights(&detail.versions[2]).await;
    secrets.push(
        weights[..4]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    );
    // Kinds 1 and 4: dealt shares, and shares that were opened.
    let lines = federation.journal(study.id).await;
    let opened = lines.iter().filter(|line| [1, 4].contains(&line[0]));
    secrets.extend(opened.map(|line| line[line.len() - 32..].to_vec()));
    assert!(
        logs::hold("sum published") && logs::hold("version published"),
        "it is the log"
    );
    for secret in &secrets {
        assert!(secret.len() >= 16);
        for form in forms(&secret[secret.len() - 16..]) {
            assert!(!logs::hold(&form), "a secret is in the log");
        }
    }
    for value in update_texts(&weights) {
        assert!(!logs::hold(&value), "a weight is in the log");
    }
    assert!(!logs::hold("p17,17"), "a record is in the log");
}

fn update_texts(weights: &[f32]) -> impl Iterator<Item = String> {
    weights
        .iter()
        .filter(|weight| weight.abs() > 1e-3)
        .map(ToString::to_string)
}
