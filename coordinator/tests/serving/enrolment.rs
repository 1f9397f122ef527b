//! How members join, renew and leave.

use consilium_coordinator::Folder;
use consilium_proto::{
    Digest, Role, Roster, Signed,
    roster::Application,
    wire::{self, admission::State, enrolment_client::EnrolmentClient},
};
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::harness::Federation;

#[tokio::test]
async fn an_applicant_waits_is_admitted_and_collects_a_certificate() {
    let mut federation = Federation::start().await;
    let node = federation.stranger("A");
    let unknown = federation
        .collect(&node)
        .await
        .expect_err("it has not applied");
    assert_eq!(unknown.code(), Code::NotFound, "{unknown:?}");
    let signed = node.application(Role::Site).sign(&node.signer);
    let mut enrolment = EnrolmentClient::new(federation.connect(&node).await.expect("it serves"));
    for _ in 0..2 {
        let application = wire::Application {
            signed: Some(signed.clone().into()),
        };
        let receipt = enrolment
            .apply(application)
            .await
            .expect("a sound application");
        let fingerprint = Digest::try_from(receipt.get_ref().fingerprint.as_slice());
        assert_eq!(fingerprint, Ok(Application::fingerprint(&signed)));
    }
    let waiting = federation.collect(&node).await.expect("it has applied");
    assert!(matches!(waiting, State::Pending(_)), "{waiting:?}");
    let pending = Folder::pending(&federation.path()).await.expect("a folder");
    assert_eq!(pending.len(), 1, "an application is kept once");
    federation.admit(pending[0].1.clone()).await;
    assert!(
        Folder::pending(&federation.path())
            .await
            .expect("a folder")
            .is_empty()
    );
    let admitted = federation.collect(&node).await.expect("it was admitted");
    assert!(matches!(admitted, State::Certificate(_)), "{admitted:?}");
}

#[tokio::test]
async fn an_application_for_another_key_is_refused() {
    let federation = Federation::start().await;
    let (node, other) = (federation.stranger("A"), federation.stranger("B"));
    let mut enrolment = EnrolmentClient::new(federation.connect(&node).await.expect("it serves"));
    let signed = other.application(Role::Site).sign(&other.signer);
    let application = wire::Application {
        signed: Some(signed.into()),
    };
    let refused = enrolment
        .apply(application)
        .await
        .expect_err("another's key");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("another TLS key"), "{refused:?}");
    let forged = node.application(Role::Site).sign(&other.signer);
    let application = wire::Application {
        signed: Some(forged.into()),
    };
    let refused = enrolment
        .apply(application)
        .await
        .expect_err("another's signature");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
}

#[tokio::test]
async fn a_member_renews_and_one_whose_certificate_ran_out_comes_back_with_its_key() {
    let mut federation = Federation::start().await;
    let mut node = federation.enrol("A", Role::Site).await;
    let first = node.tls.expires_at().expect("a certificate");
    federation.ahead.set(10 * 86_400);
    federation.collect(&node).await.expect("a member renews");
    assert!(node.tls.expires_at().expect("a certificate") >= first + 10 * 86_400 - 1);
    federation.ahead.set(200 * 86_400);
    assert!(
        federation
            .studies(&node)
            .await
            .list(wire::Empty {})
            .await
            .is_err(),
        "it has run out"
    );
    node.vouch_for_itself();
    let denied = federation.studies(&node).await.list(wire::Empty {}).await;
    assert_eq!(
        denied.expect_err("an applicant").code(),
        Code::PermissionDenied
    );
    let state = federation
        .collect(&node)
        .await
        .expect("a member by its key");
    assert!(matches!(state, State::Certificate(_)), "{state:?}");
    federation
        .studies(&node)
        .await
        .list(wire::Empty {})
        .await
        .expect("a member again");
}

#[tokio::test]
async fn a_revoked_key_is_told_so_when_it_collects() {
    let mut federation = Federation::start().await;
    let mut node = federation.stranger("A");
    node.id = federation.admit(node.application(Role::Site)).await;
    federation.revoke(node.id).await;
    let state = federation
        .collect(&node)
        .await
        .expect("an applicant may ask");
    assert!(matches!(state, State::Revoked(_)), "{state:?}");
}

#[tokio::test]
async fn certificate_requests_for_other_keys_are_refused() {
    let mut federation = Federation::start().await;
    let node = federation.enrol("A", Role::Site).await;
    let other = federation.stranger("B");
    let mut enrolment = EnrolmentClient::new(federation.connect(&node).await.expect("a member"));
    for request in [
        other.tls.certificate_request().expect("a request"),
        vec![0; 9000],
        vec![],
    ] {
        let request = wire::CollectRequest {
            certificate_request: request,
        };
        let refused = enrolment.collect(request).await.expect_err("not its key");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
}

#[tokio::test]
async fn members_read_the_whole_roster_and_believe_it_by_the_trust_root() {
    let mut federation = Federation::start().await;
    let node = federation.enrol("A", Role::Auditor).await;
    let mut enrolment = EnrolmentClient::new(federation.connect(&node).await.expect("a member"));
    let epochs = enrolment
        .roster(wire::RosterRequest { from_epoch: 0 })
        .await
        .expect("a roster");
    let epochs: Vec<Signed> = epochs
        .into_inner()
        .map(|epoch| epoch.expect("a stream").try_into().expect("a signature"))
        .collect()
        .await;
    let roster = Roster::open_history(&epochs, &federation.trust_root()).expect("by governance");
    assert_eq!(roster.epoch(), 2);
    let stored = Folder::roster_history(&federation.path())
        .await
        .expect("a folder");
    assert_eq!(stored, epochs);
}
