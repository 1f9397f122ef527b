use consilium_privacy::seal::SealingKey;
use consilium_proto::Digest;

use super::*;
use crate::fixture::{Hand, NOW};

fn made(path: &std::path::Path) -> Folder {
    let key = || SealingKey::from_bytes([5; 32]);
    let name = "coordinator".parse().expect("a sound name");
    Folder::init(path, &key(), &name, Digest::plain(b"root")).expect("an empty folder");
    let mut folder = Folder::open(path, key()).expect("just made");
    folder.settings.listen.set_port(0);
    folder
}

#[tokio::test]
async fn our_own_certificate_is_renewed_before_it_ends_and_keeps_its_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = made(folder.path());
    let hand = Hand::new();
    let clock = hand.clock();
    let own = OwnCertificate {
        identity: folder.tls.clone(),
        authority: folder.authority.clone(),
        lifetime: Duration::from_secs(90 * 86_400),
    };
    own.renew(&clock).expect("a certificate");
    let (key, first) = (
        own.identity.key_digest(),
        own.identity.expires_at().expect("in it"),
    );
    assert_eq!(first, NOW.seconds() + 90 * 86_400);
    hand.advance(59 * 86_400);
    assert!(!own.is_due(&clock).expect("a certificate"));
    hand.advance(86_400);
    assert!(own.is_due(&clock).expect("a certificate"));
    own.renew(&clock).expect("a certificate");
    assert!(!own.is_due(&clock).expect("a certificate"));
    assert_eq!(own.identity.key_digest(), key);
}

#[tokio::test]
async fn a_coordinator_does_not_serve_where_the_governance_key_lies() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = made(folder.path());
    std::fs::write(folder.path().join("governance.key.sealed"), b"x").expect("a file");
    let Err(error) = Server::bind(made).await else {
        panic!("it serves")
    };
    assert!(error.to_string().contains("governance key"), "{error}");
}

#[tokio::test]
async fn a_taken_port_and_a_folder_in_use_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::bind(made(folder.path()))
        .await
        .expect("a free port");
    let again = Folder::open(folder.path(), SealingKey::from_bytes([5; 32])).expect("a folder");
    let Err(in_use) = Server::bind(again).await else {
        panic!("two serve one folder")
    };
    assert!(
        in_use
            .to_string()
            .contains("another coordinator is serving"),
        "{in_use}"
    );
    let other = tempfile::tempdir().expect("a folder");
    let mut made = made(other.path());
    made.settings.listen = server.local_addr();
    let Err(taken) = Server::bind(made).await else {
        panic!("two serve one port")
    };
    assert!(taken.to_string().contains("port is taken"), "{taken}");
}
