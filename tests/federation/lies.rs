//! Studies whose weights are not the plan's: no site trains them, and each site's log says why.

use std::fs;

use consilium_models::network::Network;
use consilium_proto::{ParameterVector, Plan};

use crate::{harness::Federation, records};

const SITES: usize = 2;

fn plan(hidden: u32) -> Plan {
    let text = format!(
        r#"
        name = "lies"
        task = "tabular-classification"
        data_set = "rows"
        classes = ["a", "b"]
        seed = 3
        rounds = 1
        secure_aggregation = false
        cohort = {{ size = {SITES}, deadline = "3s", max_attempts = 1 }}
        table = {{ columns = [{{ name = "age" }}] }}
        network = {{ name = "dense", hidden = [{hidden}] }}
        training = {{ steps = 1, batch_size = 6, learning_rate = 0.1 }}
        privacy = {{ clipping_norm = 1.0, epsilon = 8.0, delta = 5e-3 }}
        "#
    );
    Plan::from_toml(&text).expect("a sound plan")
}

/// Coordinators know no networks, so they take whatever layout and weights a plan comes with.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_plans_network_or_start_is_trained_nowhere_and_costs_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (plan, other) = (plan(4), plan(5));
    let site = |site: usize| vec![records::of(&plan, &folder.path().join(site.to_string()))];
    let mut federation = Federation::found((0..SITES).map(site).collect()).await;

    let other = Network::from_plan(&other).expect("a network");
    let start = other.initial(plan.seed);
    let study = federation.submit_with(&plan, other.layout(), &start).await;
    federation.fails(study).await;
    for site in 0..SITES {
        let log = fs::read_to_string(federation.log(site)).expect("a log");
        let (named, expected) = (
            other.layout().digest().to_string(),
            "the plan's network has",
        );
        assert!(log.contains(&named) && log.contains(expected), "{log}");
        assert!(log.contains("submitted anew"), "{log}");
    }

    let network = Network::from_plan(&plan).expect("a network");
    let zeros = ParameterVector::zeros(network.layout());
    let study = federation
        .submit_with(&plan, network.layout(), &zeros)
        .await;
    federation.fails(study).await;
    for site in 0..SITES {
        let log = fs::read_to_string(federation.log(site)).expect("a log");
        let named = format!("starts from model {}", zeros.digest(network.layout()));
        assert!(
            log.contains(&named) && log.contains("is not trained here"),
            "{log}"
        );
        federation.stop_agent(site);
        let store = federation.store(site).await;
        let entries = store.ledger_entries().await.expect("a sound ledger");
        assert!(entries.is_empty(), "nothing was charged");
        store.close().await;
    }
}
