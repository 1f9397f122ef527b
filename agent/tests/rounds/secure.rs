//! Rounds of which the coordinator learns only the sum, through the whole stack.

use consilium_privacy::secagg::site::Record;
use consilium_proto::Role;

use crate::federation::{Federation, PRIVATE, Study, secure_plan, start, three_sites, until};

#[tokio::test(flavor = "multi_thread")]
async fn three_hospitals_train_and_the_coordinator_learns_only_sums() {
    let mut federation = Federation::new().await;
    let researcher = federation.member("researcher", Role::Researcher).await;
    let sites = three_sites(&mut federation).await;
    let study = Study::submit(&researcher, &secure_plan(3, 4, PRIVATE)).await;
    let mut running = Vec::new();
    for site in &sites {
        running.push(start(site).await);
    }
    let detail = study.finished().await;
    assert_eq!(detail.versions.len(), 4);
    for version in &detail.versions[1..] {
        let sums = version.sums.as_ref().expect("of a secure study");
        assert_eq!(sums.weight, 3, "three hospitals of weight 1");
        assert_eq!(version.contributions.len(), 3);
        for contribution in &version.contributions {
            assert_eq!(contribution.weight, 0, "no weight in the clear");
            assert!(contribution.charge.is_some());
        }
    }
    for agent in running {
        let records = until("the last outcome is heard", async || {
            let records = agent.store.attempts(study.id).await.expect("a chain");
            (records.len() == 15).then_some(records)
        })
        .await;
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
