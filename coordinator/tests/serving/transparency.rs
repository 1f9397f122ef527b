//! Heads of ledgers through the wire: logged, proved, kept across a restart, read by auditors.

use consilium_proto::{
    Digest, ErrorCode, LedgerHead, Receipt, Role, Signed, SiteId, TreeHead,
    rpc::explain,
    tree::hashes,
    wire::{self, audit_client::AuditClient},
};
use tonic::{Status, transport::Channel};

use crate::harness::{Federation, Node};

async fn audit(federation: &Federation, node: &Node) -> AuditClient<Channel> {
    AuditClient::new(federation.connect(node).await.expect("it serves"))
}

fn head(site: &Node, sequence: u64) -> Signed {
    let head = LedgerHead {
        site: SiteId(site.id),
        ledger: [site.id.0 as u8; 32],
        sequence,
        entry_hash: Digest::plain(&sequence.to_be_bytes()),
    };
    head.sign(&site.signer)
}

async fn submit(
    federation: &Federation,
    site: &Node,
    sequence: u64,
    earlier: Option<&Signed>,
) -> Result<Receipt, Status> {
    let key = federation.coordinator_key().await;
    let known = earlier.map(|signed| TreeHead::open(signed, &key).expect("kept"));
    let submission = wire::HeadSubmission {
        head: Some(head(site, sequence).into()),
        known_size: known.map_or(0, |head| head.size),
    };
    let reply = audit(federation, site)
        .await
        .submit_head(submission)
        .await?;
    let receipt = Receipt::try_from(reply.into_inner()).expect("well formed");
    Ok(Receipt {
        earlier: earlier.cloned(),
        ..receipt
    })
}

#[tokio::test]
async fn heads_are_logged_for_good_and_auditors_can_check_all_of_it() {
    let (mut federation, _, sites) = Federation::with_members(2).await;
    let key = federation.coordinator_key().await;
    let mut kept: [Option<Signed>; 2] = [None, None];
    for sequence in [2, 3, 7] {
        for (site, kept) in sites.iter().zip(&mut kept) {
            let taken = submit(&federation, site, sequence, kept.as_ref()).await;
            let receipt = taken.expect("it goes on");
            let verified = receipt.verify(&key).expect("sound");
            assert_eq!(verified.head.sequence, sequence);
            *kept = Some(receipt.tree_head);
        }
        federation.stop().await;
        federation.serve().await;
    }
    let auditor = federation.enrol("auditor", Role::Auditor).await;
    let mut client = audit(&federation, &auditor).await;
    let signed = client.tree_head(wire::Empty {}).await.expect("an auditor");
    let signed = Signed::try_from(signed.into_inner()).expect("signed");
    let now = TreeHead::open(&signed, &key).expect("the coordinator's");
    assert_eq!(now.size, 6);
    let earlier = TreeHead::open(kept[0].as_ref().expect("kept"), &key).expect("kept");
    let sizes = wire::ConsistencyRequest {
        from_size: earlier.size,
        to_size: now.size,
    };
    let proof = client.consistency(sizes).await.expect("both were there");
    let proof = hashes(Some(proof.into_inner())).expect("hashes");
    now.verify_consistency(&earlier, &proof).expect("it grew");

    let mut leaves = client
        .leaves(wire::LeavesRequest { from_leaf: 1 })
        .await
        .expect("an auditor")
        .into_inner();
    let mut numbers = vec![];
    while let Some(leaf) = leaves.message().await.expect("a stream") {
        let signed: Signed = leaf.head.expect("a head").try_into().expect("signed");
        let request = wire::InclusionRequest {
            leaf: leaf.number,
            size: now.size,
        };
        let proof = client
            .clone()
            .inclusion(request)
            .await
            .expect("it is there");
        let proof = hashes(Some(proof.into_inner())).expect("hashes");
        now.verify_inclusion(&signed.to_bytes(), leaf.number, &proof)
            .expect("in the log");
        numbers.push(leaf.number);
    }
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_ledger_that_does_not_go_on_is_refused_with_a_reason() {
    let (federation, _, sites) = Federation::with_members(2).await;
    submit(&federation, &sites[0], 5, None)
        .await
        .expect("the first");
    submit(&federation, &sites[0], 5, None)
        .await
        .expect("a repeat");
    let refused = submit(&federation, &sites[0], 4, None).await;
    let (code, reason) = explain(&refused.expect_err("an older copy"));
    assert_eq!(code, ErrorCode::Precondition);
    assert!(reason.contains("newest entry is 4"), "{reason}");
    let mut client = audit(&federation, &sites[0]).await;
    let known = client
        .newest_head(wire::KnownTree { known_size: 0 })
        .await
        .expect("a site")
        .into_inner();
    let known = Signed::try_from(known.head.expect("it handed one in")).expect("signed");
    assert_eq!(known, head(&sites[0], 5));
    let theirs = wire::HeadSubmission {
        head: Some(head(&sites[1], 9).into()),
        known_size: 0,
    };
    let refused = client
        .submit_head(theirs)
        .await
        .expect_err("another's head");
    assert_eq!(explain(&refused).0, ErrorCode::Invalid);
}
