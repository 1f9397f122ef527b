//! Studies with more versions than one answer of the coordinator holds.

use consilium_coordinator::store::{Change, SqliteStore, Store as _};
use consilium_proto::{
    Plan,
    wire::{self, study_event::Event},
};

use crate::{harness::Federation, records};

const PLAN: &str = r#"
    name = "long"
    task = "tabular-classification"
    data_set = "rows"
    classes = ["a", "b"]
    rounds = 1000
    secure_aggregation = false
    cohort = { size = 1 }
    table = { columns = [{ name = "age" }] }
    network = { name = "dense", hidden = [] }
    training = { steps = 1, batch_size = 6, learning_rate = 0.1 }
    privacy = { clipping_norm = 1.0, epsilon = 8.0, delta = 5e-3 }
"#;

/// A version of so many sites that few of them fit a message: 10,000 real rounds would take hours.
fn version(number: u32) -> wire::Version {
    let contribution = |site| wire::Contribution {
        site,
        name: format!("a hospital with a long name, number {site}"),
        weight: 1,
        charge: None,
    };
    wire::Version {
        sums: None,
        number,
        model_digest: vec![number as u8; 32],
        published_at: 1_800_000_000_000,
        contributions: (0..6000).map(contribution).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_study_too_long_for_one_answer_is_shown_and_completed() {
    const LAST: u32 = 12;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = Plan::from_toml(PLAN).expect("a sound plan");
    let federation = Federation::found(vec![vec![records::of(&plan, folder.path())]]).await;
    // The site's policy wants two sites, so nothing is trained.
    let id = federation.submit(&plan).await;
    let store = SqliteStore::open(&federation.database())
        .await
        .expect("its store");
    for number in 1..=LAST {
        let change = Change {
            version: Some((id, version(number))),
            events: vec![(id, Event::Published(version(number)))],
            ..Change::default()
        };
        store.commit(change).await.expect("room");
    }
    store.close().await;

    let mut researcher = federation.researcher().await;
    let mut study = researcher.show(id).await.expect("within one message");
    let left_out = study.left_out();
    assert_eq!(left_out.start, 1);
    assert!((2..LAST).contains(&left_out.end), "{left_out:?}");
    assert_eq!(study.version(None).expect("the newest").0, LAST);
    assert!(study.version(Some(1)).is_err());
    researcher.complete(&mut study).await.expect("all of them");
    let numbers = study.detail.versions.iter().map(|version| version.number);
    assert_eq!(numbers.collect::<Vec<_>>(), (0..=LAST).collect::<Vec<_>>());
    assert!(study.left_out().is_empty());
    study.version(Some(1)).expect("now it is there");
}
