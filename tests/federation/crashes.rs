//! Nodes die at bad moments; nothing is lost, nothing counts twice.

use consilium_proto::Plan;

use crate::{harness::Federation, records};

const SITES: usize = 3;
const ROUNDS: u32 = 6;

fn plan(secure_aggregation: bool) -> Plan {
    let text = format!(
        r#"
        name = "crashes"
        task = "image-classification"
        data_set = "scans"
        classes = ["a", "b"]
        rounds = {ROUNDS}
        secure_aggregation = {secure_aggregation}
        cohort = {{ size = {SITES}, deadline = "2m" }}
        image = {{ width = 28, height = 28 }}
        network = {{ name = "cnn-small" }}
        training = {{ steps = 2, batch_size = 6, learning_rate = 0.1 }}
        privacy = {{ clipping_norm = 1.0, epsilon = 8.0, delta = 5e-3 }}
        "#
    );
    Plan::from_toml(&text).expect("a sound plan")
}

/// Whatever dies, a round is published once, each site is in it once, and each site's ledger was
/// charged once for it (docs/decisions/0005).
#[tokio::test(flavor = "multi_thread")]
async fn a_study_survives_the_death_of_coordinator_and_agents() {
    survives(plan(false)).await;
}

/// A site that restarts has dropped out of its attempt: the next one takes its stored update.
#[tokio::test(flavor = "multi_thread")]
async fn a_study_with_secure_aggregation_survives_the_death_of_coordinator_and_agents() {
    survives(plan(true)).await;
}

async fn survives(plan: Plan) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let site = |site: usize| vec![records::of(&plan, &folder.path().join(site.to_string()))];
    let mut federation = Federation::found((0..SITES).map(site).collect()).await;
    let id = federation.submit(&plan).await;
    federation.published(id, 1).await;
    federation.crash_agent(0);
    federation.published(id, 2).await;
    federation.crash_coordinator();
    federation.published(id, 3).await;
    federation.crash_coordinator();
    federation.crash_agent(1);
    federation.crash_agent(2);
    let study = federation.finish(id).await;

    let versions = &study.detail.versions;
    let numbers: Vec<_> = versions.iter().map(|version| version.number).collect();
    assert_eq!(numbers, (0..=ROUNDS).collect::<Vec<_>>());
    for version in &versions[1..] {
        let mut sites: Vec<_> = version.contributions.iter().map(|one| one.site).collect();
        sites.dedup();
        assert_eq!(sites.len(), SITES, "version {}", version.number);
    }
    let last = versions.last().expect("a version");
    for contribution in &last.contributions {
        let charge = contribution.charge.expect("a private study");
        assert!(
            charge.epsilon <= 8.0,
            "a crash cost the site more: {charge:?}"
        );
    }
    for site in 0..SITES {
        federation.stop_agent(site);
        let store = federation.store(site).await;
        let entries = store.ledger_entries().await.expect("a sound ledger");
        let charges: Vec<_> = entries
            .iter()
            .filter_map(|entry| entry.fact.charged())
            .collect();
        let updates = entries.iter().filter_map(|entry| entry.fact.made()).count();
        for round in 1..=ROUNDS {
            let paid = charges
                .iter()
                .filter(|charged| charged.round == round)
                .count();
            assert_eq!(paid, 1, "site {site}, round {round}");
        }
        let rounds = ROUNDS as usize;
        assert_eq!((charges.len(), updates), (rounds, rounds), "site {site}");
        store.close().await;
    }
}
