//! Every call, by every kind of caller, through the real handshake.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use consilium_coordinator::{
    access::{Rule, TABLE, rule_of},
    certificates::{Authority, Usage},
    clock::Timestamp,
};
use consilium_proto::{
    Digest, Role,
    rpc::{ConnectError, DESCRIPTORS, explain},
    wire,
};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint, Uri},
};
use tonic_prost::ProstCodec;

use crate::harness::Federation;

/// Every call that the descriptors know, and those of health and reflection.
fn calls() -> BTreeSet<String> {
    let mut calls = BTreeSet::new();
    for set in [DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET] {
        let set = prost_types::FileDescriptorSet::decode(set).expect("our own descriptors");
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = [file.package(), ".", service.name(), "/", method.name()].concat();
                    calls.insert(format!("/{path}"));
                }
            }
        }
    }
    calls.insert("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".into());
    calls
}

/// Makes a call with an empty message and returns its status, or none if it gave an answer.
async fn call(channel: Channel, path: &str) -> Option<Status> {
    let mut grpc = Grpc::new(channel);
    if let Err(error) = grpc.ready().await {
        return Some(Status::unavailable(format!("{:?}", error)));
    }
    let path = PathAndQuery::try_from(path).expect("a path");
    let codec = ProstCodec::<wire::Empty, wire::Empty>::default();
    let request = Request::new(wire::Empty {});
    let answered = async {
        let mut reply = grpc
            .server_streaming(request, path, codec)
            .await?
            .into_inner();
        reply.message().await
    };
    // A call that waits for more (health, watch) was let through.
    match tokio::time::timeout(Duration::from_secs(20), answered).await {
        Ok(Ok(_)) | Err(_) => None,
        Ok(Err(status)) => Some(status),
    }
}

fn is_denied(status: Option<&Status>) -> bool {
    status.is_some_and(|status| status.code() == Code::PermissionDenied)
}

#[test]
fn the_table_and_the_descriptors_name_the_same_calls() {
    let table: BTreeSet<_> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(table.len(), TABLE.len(), "a call stands in the table twice");
    assert_eq!(table, calls());
    assert_eq!(rule_of("/consilium.v1.Studies/Delete"), None);
}

#[test]
fn nobody_may_do_more_than_was_settled() {
    let allowed = |role: Option<Role>| {
        let admitted = TABLE.iter().filter(|(_, rule)| rule.admits(role));
        let ours = admitted.filter_map(|(path, _)| path.strip_prefix("/consilium.v1."));
        ours.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(allowed(None), "Enrolment/Apply Enrolment/Collect");
    let enrolment = "Enrolment/Apply Enrolment/Collect Enrolment/Roster";
    assert_eq!(
        allowed(Some(Role::Site)),
        format!(
            "{enrolment} Studies/List Studies/Show Studies/Watch Studies/Decide Studies/Download \
             Studies/Release Rounds/NextWork Rounds/UploadStatus Rounds/Upload Rounds/Decline \
             Rounds/SendMessage Rounds/NextMessage Audit/SubmitHead Audit/NewestHead Audit/TreeHead Audit/Inclusion Audit/Consistency"
        )
    );
    assert_eq!(
        allowed(Some(Role::Researcher)),
        format!(
            "{enrolment} Studies/Submit Studies/List Studies/Show Studies/Watch Studies/Stop \
             Studies/Resume Studies/Download Studies/Release"
        )
    );
    assert_eq!(
        allowed(Some(Role::Auditor)),
        format!(
            "{enrolment} Studies/List Studies/Show Studies/Watch Studies/Release Audit/Log \
             Audit/TreeHead Audit/Inclusion Audit/Consistency Audit/Leaves"
        )
    );
    assert_eq!(
        allowed(Some(Role::Operator)),
        format!(
            "{enrolment} Studies/List Studies/Show Studies/Watch Studies/Stop Audit/Log \
             Audit/TreeHead Audit/Inclusion Audit/Consistency Audit/Leaves"
        )
    );
    assert_eq!(
        allowed(Some(Role::Coordinator)),
        "Enrolment/Apply Enrolment/Collect"
    );
}

#[tokio::test]
async fn every_call_obeys_the_table_for_every_role_and_for_applicants() {
    let mut federation = Federation::start().await;
    let applicant = federation.stranger("applicant");
    let mut callers = vec![(None, applicant)];
    for role in Role::CALLERS {
        callers.push((
            Some(role),
            federation.enrol(&format!("a {role}"), role).await,
        ));
    }
    for (role, node) in &callers {
        let channel = federation.connect(node).await.expect("it serves");
        for path in calls() {
            let status = call(channel.clone(), &path).await;
            let rule: Rule = rule_of(&path).expect("a call of the table");
            let is_admitted = rule.admits(*role);
            assert_eq!(
                is_denied(status.as_ref()),
                !is_admitted,
                "{path} as {role:?}: {status:?}"
            );
        }
        let unknown = call(channel, "/consilium.v1.Studies/Delete").await;
        assert!(is_denied(unknown.as_ref()), "{unknown:?}");
    }
}

/// The reason why a connection, or the first call on it, fails.
async fn refusal(connected: Result<Channel, ConnectError>, path: &str) -> String {
    match connected {
        Err(error) => error.to_string(),
        // With TLS 1.3 a client may learn that its certificate was refused at its first read only.
        Ok(channel) => match call(channel, path).await {
            Some(status) => format!("{status:?} {}", explain(&status).1),
            None => panic!("{path} was answered"),
        },
    }
}

/// Every call must be refused in the handshake, with the alert that names the reason. A peer that
/// writes before it has read the alert may see the closed socket instead; never all of them do.
fn assert_refused(found: &[String], alert: &str) {
    let is_alert = |reason: &&String| reason.contains(alert);
    let is_closed = |reason: &&String| {
        let closed = [
            "Connection reset",
            "ConnectionReset",
            "Broken pipe",
            "BrokenPipe",
        ];
        closed.iter().any(|closed| reason.contains(closed))
    };
    for reason in found {
        assert!(is_alert(&reason) || is_closed(&reason), "{alert}: {reason}");
    }
    assert!(
        found.iter().any(|reason| is_alert(&reason)),
        "{alert} was never seen"
    );
}

#[tokio::test]
async fn nobody_calls_anything_without_a_certificate() {
    let federation = Federation::start().await;
    let mut found = vec![];
    for path in calls() {
        found.push(refusal(anonymous(&federation).await, &path).await);
    }
    assert_refused(&found, "CertificateRequired");
}

#[tokio::test]
async fn nobody_calls_anything_with_a_certificate_of_another_authority() {
    let mut federation = Federation::start().await;
    let node = federation.enrol("site", Role::Site).await;
    let now = Timestamp::from(std::time::SystemTime::now());
    // One with the name of ours, and one with another.
    for name in ["coordinator authority", "somebody"] {
        let (key, certificate) = Authority::generate(name, now).expect("a key");
        let other = Authority::open(&key, certificate).expect("its own key");
        let request = node.tls.certificate_request().expect("a request");
        let day = Duration::from_secs(86_400);
        let chain = other.issue(
            &request,
            &node.tls.key_digest(),
            "site",
            Usage::Member,
            now,
            day,
        );
        node.tls
            .renew(chain.expect("a certificate"))
            .expect("for its own key");
        let mut found = vec![];
        for path in calls() {
            found.push(refusal(federation.connect(&node).await, &path).await);
        }
        assert_refused(&found, "UnknownCA");
    }
}

#[tokio::test]
async fn nobody_calls_anything_once_revoked() {
    let mut federation = Federation::start().await;
    let node = federation.enrol("site", Role::Site).await;
    let channel = federation.connect(&node).await.expect("a member");
    assert!(call(channel, "/consilium.v1.Studies/List").await.is_none());
    federation.revoke(node.id).await;
    let mut found = vec![];
    for path in calls() {
        found.push(refusal(federation.connect(&node).await, &path).await);
    }
    assert_refused(&found, "CertificateRevoked");
}

#[tokio::test]
async fn nobody_calls_anything_with_an_expired_certificate() {
    let mut federation = Federation::start().await;
    let node = federation.enrol("site", Role::Site).await;
    federation.ahead.set(91 * 86_400);
    let mut found = vec![];
    for path in calls() {
        found.push(refusal(federation.connect(&node).await, &path).await);
    }
    assert_refused(&found, "CertificateExpired");
}

#[tokio::test]
async fn a_clock_that_is_off_by_a_day_is_named_before_anything_is_said() {
    const DAY: i64 = 86_400;
    let mut federation = Federation::start().await;
    let node = federation.enrol("site", Role::Site).await;
    for (ahead, expected) in [
        (DAY, "the coordinator's certificate is not valid yet"),
        // The coordinator's own certificate lives 90 days.
        (-91 * DAY, "the coordinator's certificate has expired"),
    ] {
        federation.stop().await;
        federation.ahead.set(ahead);
        federation.serve().await;
        let refused = federation.connect(&node).await.expect_err("another time");
        let message = refused.to_string();
        assert!(message.contains(expected), "{message}");
        assert!(
            message.contains("is this machine's clock right?"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_revocation_ends_open_connections_and_holds_at_the_next_attempt() {
    let (mut federation, _, sites) = Federation::with_members(2).await;
    let [revoked, stays] = &sites[..] else {
        panic!("two sites")
    };
    let mut open = federation.rounds(revoked).await;
    let mut other = federation.rounds(stays).await;
    let waiting =
        tokio::spawn(async move { open.next_work(wire::WorkRequest { wait_seconds: 60 }).await });
    // The call is under way once the coordinator has answered a later one.
    other
        .next_work(wire::WorkRequest { wait_seconds: 0 })
        .await
        .expect("a site");
    federation.revoke(revoked.id).await;
    let mut found = vec![];
    for _ in 0..10 {
        let connected = federation.connect(revoked).await;
        found.push(refusal(connected, "/consilium.v1.Studies/List").await);
    }
    assert_refused(&found, "CertificateRevoked");
    let ended = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    assert!(
        ended
            .expect("within two looks at the roster")
            .expect("no panic")
            .is_err()
    );
    other
        .next_work(wire::WorkRequest { wait_seconds: 0 })
        .await
        .expect("others go on");
}

/// A connection that shows no certificate.
async fn anonymous(federation: &Federation) -> Result<Channel, ConnectError> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let address = federation.address.address().to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (config, address) = (config.clone(), address.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("coordinator").expect("a name");
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("https://coordinator");
    let connected = endpoint.connect_with_connector(connector).await;
    connected.map_err(|error| ConnectError::Unreachable {
        address: "coordinator".into(),
        reason: format!("{error:?}"),
    })
}

/// Believes any server: these tests are about the client's side.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.3 only")
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn older_tls_is_refused() {
    // rustls is built without TLS 1.2 here, so its greeting is sent as bytes: a ClientHello that
    // offers TLS 1.2 only.
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let federation = Federation::start().await;
    let mut hello = vec![0x03, 0x03];
    hello.extend([7; 32]);
    // No session, one cipher suite, no compression, extensions: signature algorithms, groups.
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0, 16]);
    hello.extend([0, 13, 0, 4, 0, 2, 4, 3]);
    hello.extend([0, 10, 0, 4, 0, 2, 0, 23]);
    let mut message = vec![1, 0, 0, hello.len() as u8];
    message.extend(&hello);
    let mut record = vec![0x16, 0x03, 0x01, 0, message.len() as u8];
    record.extend(&message);
    let mut stream = TcpStream::connect(federation.address.address())
        .await
        .expect("it serves");
    stream.write_all(&record).await.expect("sent");
    let mut reply = vec![];
    stream.read_to_end(&mut reply).await.expect("an end");
    // Alert record (21), fatal (2), protocol version (70).
    assert_eq!((reply[0], &reply[5..7]), (21, &[2, 70][..]), "{reply:?}");
}

#[tokio::test]
async fn a_key_that_is_not_pinned_is_not_talked_to() {
    let federation = Federation::start().await;
    let node = federation.stranger("applicant");
    let other = consilium_proto::rpc::Coordinator::new(
        federation.address.address(),
        Digest::plain(b"another key"),
    );
    let refused = other.expect("an address").connect(node.tls.clone()).await;
    let error = refused.expect_err("another key").to_string();
    assert!(
        error.contains("another TLS key than the pinned one"),
        "{error}"
    );
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_ended() {
    use tokio::io::AsyncReadExt as _;
    let federation = Federation::start_with(|settings| {
        settings.handshake_timeout = Duration::from_millis(100);
        settings.max_handshakes = 1;
    })
    .await;
    let mut silent = TcpStream::connect(federation.address.address())
        .await
        .expect("it serves");
    let node = federation.stranger("applicant");
    federation
        .connect(&node)
        .await
        .expect("the silent one does not hold the door for ever");
    let mut nothing = vec![];
    let end = silent.read_to_end(&mut nothing).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{nothing:?}");
}
