//! Updates, sound and unsound.

use consilium_proto::{
    Digest, LayoutDigest, ParameterVector, RoundSpec, Signed, Statement,
    round_spec::ChargeStatement,
    vector::ModelHasher,
    wire::{self, audit_client::AuditClient, upload_message::Part},
};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

use crate::harness::{
    CHUNK, Federation, Node, chunks_of, layout, next_spec, opened, plan, signer, transfer, vector,
};

/// An upload before it is sent.
pub(crate) struct Upload {
    statement: Statement,
    chunks: Vec<wire::Chunk>,
}

pub(crate) fn upload_of(spec: &Signed, _: &Node, update: &ParameterVector) -> Upload {
    Upload {
        statement: Statement {
            context: RoundSpec::context(spec),
            round: opened(spec).round,
            layout_digest: layout().digest(),
            update_digest: update.digest(&layout()),
            transfer: transfer(update, CHUNK).chunks,
            weight: Some(1),
            charge: None,
        },
        chunks: chunks_of(&update.to_bytes(), CHUNK),
    }
}

impl Upload {
    pub(crate) fn cut_to(mut self, count: usize) -> Self {
        self.chunks.truncate(count);
        self
    }

    pub(crate) fn from(mut self, first: usize) -> Self {
        self.chunks.drain(..first);
        self
    }

    fn stating(mut self, change: impl FnOnce(&mut Statement)) -> Self {
        change(&mut self.statement);
        self
    }

    fn sending(mut self, change: impl FnOnce(&mut Vec<wire::Chunk>)) -> Self {
        change(&mut self.chunks);
        self
    }

    pub(crate) async fn send(self, federation: &Federation, site: &Node) -> Result<(), Status> {
        let signed = self.statement.sign(&site.signer);
        self.send_signed(federation, site, signed).await
    }

    async fn send_signed(
        self,
        federation: &Federation,
        site: &Node,
        signed: Signed,
    ) -> Result<(), Status> {
        let digest = self.statement.update_digest;
        let parts = [Part::Statement(signed.into())]
            .into_iter()
            .chain(self.chunks.into_iter().map(Part::Chunk));
        let messages: Vec<_> = parts
            .map(|part| wire::UploadMessage { part: Some(part) })
            .collect();
        let stream = futures::stream::iter(messages);
        let receipt = federation
            .rounds(site)
            .await
            .upload(stream)
            .await?
            .into_inner();
        assert_eq!(receipt.update_digest, digest.as_bytes());
        Ok(())
    }
}

/// Waits for work and answers it.
pub(crate) async fn answer(
    federation: &Federation,
    site: &Node,
    update: &ParameterVector,
) -> Result<(), Status> {
    let spec = next_spec(&mut federation.rounds(site).await).await;
    upload_of(&spec, site, update).send(federation, site).await
}

async fn refused(federation: &Federation, site: &Node, upload: Upload, expected: &str) -> Status {
    let status = upload.send(federation, site).await.expect_err(expected);
    assert!(
        status.message().contains(expected),
        "{expected}: {}",
        status.message()
    );
    status
}

#[tokio::test]
async fn chunks_out_of_order_missing_too_large_or_cut_short_get_one_message_each() {
    let (federation, researcher, sites) = Federation::with_members(2).await;
    let (_, spec) = federation
        .running(&researcher, &sites, &plan(2, 2, 1))
        .await;
    let site = &sites[0];
    let sound = || upload_of(&spec, site, &vector(1));
    let cases = [
        (
            sound().from(1),
            "chunk 1 arrived, but chunk 0 is missing: continue from there",
        ),
        (
            sound().sending(|chunks| chunks.swap(2, 3)),
            "chunk 3 arrived, but chunk 2 is missing: continue from there",
        ),
        (
            sound().sending(|chunks| chunks[2].data = vec![0; 1025].into()),
            "chunk 2 must have 1024 bytes, found 1025",
        ),
        (
            sound().sending(|chunks| chunks[2].data = vec![].into()),
            "chunk 2 must have 1024 bytes, found 0",
        ),
        (
            sound().cut_to(3),
            "the stream ended early: 3 of 4 chunks arrived",
        ),
        (
            sound().sending(|chunks| {
                chunks.push(wire::Chunk {
                    index: 4,
                    data: vec![0; 4].into(),
                });
            }),
            "chunk 4 arrived, but there are only 4",
        ),
    ];
    for (upload, expected) in cases {
        let status = refused(&federation, site, upload, expected).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{expected}");
        assert!(
            status.message().contains(&format!("site {}", site.id)),
            "{status:?}"
        );
    }
    // Chunks that came before may come again.
    let twice = sound().sending(|chunks| chunks.insert(1, chunks[0].clone()));
    twice
        .send(&federation, site)
        .await
        .expect("a chunk twice changes nothing");
}

#[tokio::test]
async fn statements_that_do_not_fit_the_round_are_refused_and_written_down() {
    let (federation, researcher, sites) = Federation::with_members(2).await;
    let (_, spec) = federation
        .running(&researcher, &sites, &plan(2, 2, 1))
        .await;
    let site = &sites[0];
    let sound = || upload_of(&spec, site, &vector(1));
    let other = Digest::plain(b"other");
    let charge = ChargeStatement {
        sequence: 1,
        sampling_rate: 0.1,
        noise_multiplier: 1.0,
        clipping_norm: 1.0,
        steps: 1,
        epsilon: 1.0,
        delta: 1e-5,
    };
    let short = consilium_proto::ChunkPlan::new(400, CHUNK).expect("a sound plan");
    let finer = consilium_proto::ChunkPlan::new(4000, 2048).expect("a sound plan");
    let cases = [
        (sound().stating(|s| s.context = other), "round must be"),
        (
            sound().stating(|s| s.layout_digest = LayoutDigest(other)),
            "layout must be",
        ),
        (
            sound().stating(|s| s.transfer = short),
            "length in bytes must be 4000, found 400",
        ),
        (
            sound().stating(|s| s.transfer = finer),
            "chunk size must be 1024, found 2048",
        ),
        (
            sound().stating(|s| s.charge = Some(charge)),
            "must be without charge, found charged",
        ),
        (
            sound().stating(|s| s.weight = Some(65)),
            "weight must be 1 to 64",
        ),
        (
            sound().stating(|s| s.weight = None),
            "weight must be stated",
        ),
    ];
    let count = cases.len() - 1;
    for (upload, expected) in cases {
        let status = refused(&federation, site, upload, expected).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{expected}");
    }
    let upload = sound();
    let forged = upload.statement.sign(&signer());
    let status = upload
        .send_signed(&federation, site, forged)
        .await
        .expect_err("a stranger's");
    assert!(
        status.message().contains("not by the expected key"),
        "{status:?}"
    );
    let upload = sound();
    let of_another = upload.statement.sign(&sites[1].signer);
    assert!(
        upload
            .send_signed(&federation, site, of_another)
            .await
            .is_err()
    );
    assert_eq!(refusals(federation).await, count);
}

/// Refused updates in the audit log.
async fn refusals(mut federation: Federation) -> usize {
    let auditor = federation
        .enrol("auditor", consilium_proto::Role::Auditor)
        .await;
    let mut audit = AuditClient::new(federation.connect(&auditor).await.expect("a member"));
    let log = audit
        .log(wire::LogRequest { from_sequence: 1 })
        .await
        .expect("a log")
        .into_inner();
    let log: Vec<_> = log.map(|entry| entry.expect("a stream")).collect().await;
    log.iter()
        .filter(|entry| entry.action == "update refused")
        .count()
}

#[tokio::test]
async fn not_a_number_and_infinities_are_refused_naming_site_and_position() {
    let (federation, researcher, sites) = Federation::with_members(2).await;
    let (_, spec) = federation
        .running(&researcher, &sites, &plan(2, 2, 1))
        .await;
    let site = &sites[0];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut bytes = vector(1).to_bytes();
        bytes[4 * 700..][..4].copy_from_slice(&bad.to_le_bytes());
        let mut hasher = ModelHasher::new(&layout());
        hasher.update(&bytes);
        let digest = hasher.finish();
        let upload = upload_of(&spec, site, &vector(1))
            .stating(|s| s.update_digest = digest)
            .sending(|chunks| *chunks = chunks_of(&bytes, CHUNK));
        let expected = "holds NaN or infinity at position 700";
        let status = refused(&federation, site, upload, expected).await;
        assert!(
            status.message().contains(&format!("site {}", site.id)),
            "{status:?}"
        );
    }
    let key = wire::UploadKey {
        round: Some(opened(&spec).round.into()),
    };
    let progress = federation
        .rounds(site)
        .await
        .upload_status(key)
        .await
        .expect("open");
    assert_eq!(
        progress.get_ref().next_chunk,
        0,
        "what was spooled is deleted"
    );
    assert_eq!(refusals(federation).await, 3);
}

#[tokio::test]
async fn bytes_that_are_not_those_stated_are_refused_and_may_be_sent_anew() {
    let (federation, researcher, sites) = Federation::with_members(2).await;
    let (_, spec) = federation
        .running(&researcher, &sites, &plan(2, 2, 1))
        .await;
    let site = &sites[0];
    let other = chunks_of(&vector(9).to_bytes(), CHUNK);
    let wrong = upload_of(&spec, site, &vector(1)).sending(|chunks| *chunks = other);
    refused(&federation, site, wrong, "stated was").await;
    upload_of(&spec, site, &vector(1))
        .send(&federation, site)
        .await
        .expect("the right bytes");
}

#[tokio::test]
async fn another_update_takes_the_place_of_one_that_is_on_its_way() {
    let (federation, researcher, sites) = Federation::with_members(2).await;
    let (_, spec) = federation
        .running(&researcher, &sites, &plan(2, 2, 1))
        .await;
    let site = &sites[0];
    let first = upload_of(&spec, site, &vector(1)).cut_to(3);
    refused(&federation, site, first, "3 of 4 chunks").await;
    upload_of(&spec, site, &vector(2))
        .send(&federation, site)
        .await
        .expect("it begins anew");
}

#[tokio::test]
async fn the_same_update_twice_is_success_another_one_is_refused_and_a_closed_round_takes_none() {
    let (federation, researcher, sites) = Federation::with_members(3).await;
    let plan = plan(2, 2, 1);
    let (_, spec) = federation.running(&researcher, &sites[..2], &plan).await;
    let [first, second, stranger] = &sites[..] else {
        panic!("three sites")
    };
    for _ in 0..2 {
        upload_of(&spec, first, &vector(1))
            .send(&federation, first)
            .await
            .expect("the same");
    }
    let other = upload_of(&spec, first, &vector(2));
    let status = refused(&federation, first, other, "the first one counts").await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    let uninvited = upload_of(&spec, stranger, &vector(1));
    refused(&federation, stranger, uninvited, "is not in the cohort").await;
    upload_of(&spec, second, &vector(3))
        .send(&federation, second)
        .await
        .expect("the last");
    federation
        .released(&researcher, opened(&spec).round.study)
        .await;
    upload_of(&spec, first, &vector(1))
        .send(&federation, first)
        .await
        .expect("still the same");
    let late = upload_of(&spec, stranger, &vector(1));
    let status = refused(&federation, stranger, late, "is closed: ask for work again").await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(refusals(federation).await, 1);
}

#[tokio::test]
async fn messages_out_of_place_are_refused() {
    let (federation, researcher, sites) = Federation::with_members(1).await;
    let (_, spec) = federation
        .running(&researcher, &sites, &plan(1, 1, 1))
        .await;
    let upload = upload_of(&spec, &sites[0], &vector(1));
    let statement = Part::Statement(upload.statement.sign(&sites[0].signer).into());
    let chunk = Part::Chunk(upload.chunks[0].clone());
    let mut rounds = federation.rounds(&sites[0]).await;
    for (parts, expected) in [
        (vec![], "an upload begins with its statement"),
        (vec![chunk], "an upload begins with its statement"),
        (
            vec![statement.clone(), statement],
            "an upload holds chunks only",
        ),
    ] {
        let messages: Vec<_> = parts
            .into_iter()
            .map(|part| wire::UploadMessage { part: Some(part) })
            .collect();
        let status = rounds
            .upload(futures::stream::iter(messages))
            .await
            .expect_err(expected);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(expected), "{status:?}");
    }
    let empty = wire::UploadMessage { part: None };
    let status = rounds
        .upload(futures::stream::iter([empty]))
        .await
        .expect_err("nothing");
    assert_eq!(status.code(), Code::InvalidArgument);
    let huge = wire::Chunk {
        index: 0,
        data: vec![0; 3 << 20].into(),
    };
    let message = wire::UploadMessage {
        part: Some(Part::Chunk(huge)),
    };
    let status = rounds
        .upload(futures::stream::iter([message]))
        .await
        .expect_err("3 MiB");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
}

#[tokio::test]
async fn a_site_that_reconnects_takes_over_from_its_own_dead_connection() {
    let (federation, researcher, sites) = Federation::with_members(2).await;
    let (_, spec) = federation
        .running(&researcher, &sites, &plan(2, 2, 1))
        .await;
    let site = &sites[0];
    let hanging = upload_of(&spec, site, &vector(1));
    let (send, receive) = tokio::sync::mpsc::channel(4);
    let parts = [
        Part::Statement(hanging.statement.sign(&site.signer).into()),
        Part::Chunk(hanging.chunks[0].clone()),
    ];
    for part in parts {
        let message = wire::UploadMessage { part: Some(part) };
        send.send(message).await.expect("room for two");
    }
    let mut rounds = federation.rounds(site).await;
    let stream = tokio_stream::wrappers::ReceiverStream::new(receive);
    let dead = tokio::spawn(async move { rounds.upload(stream).await });
    let key = wire::UploadKey {
        round: Some(opened(&spec).round.into()),
    };
    let mut rounds = federation.rounds(site).await;
    // Not before its first chunk has arrived, or the newer one would come first.
    while rounds
        .upload_status(key.clone())
        .await
        .expect("open")
        .get_ref()
        .next_chunk
        == 0
    {}
    upload_of(&spec, site, &vector(1))
        .from(1)
        .send(&federation, site)
        .await
        .expect("it goes on");
    let status = dead.await.expect("no panic").expect_err("superseded");
    assert!(
        status.message().contains("a newer connection"),
        "{status:?}"
    );
    drop(send);
}

#[tokio::test]
async fn an_upload_that_stalls_is_ended_and_can_be_continued() {
    let federation = Federation::start_with(|settings| {
        settings.upload_patience = std::time::Duration::from_secs(1);
    });
    let (federation, researcher, sites) = federation.await.and_members(1).await;
    let (study, spec) = federation
        .running(&researcher, &sites, &plan(1, 1, 1))
        .await;
    let site = &sites[0];
    let upload = upload_of(&spec, site, &vector(1));
    let parts = [
        Part::Statement(upload.statement.sign(&site.signer).into()),
        Part::Chunk(upload.chunks[0].clone()),
    ];
    let messages = parts.map(|part| wire::UploadMessage { part: Some(part) });
    let stream =
        futures::StreamExt::chain(futures::stream::iter(messages), futures::stream::pending());
    let stalled = federation
        .rounds(site)
        .await
        .upload(stream)
        .await
        .expect_err("it stalls");
    assert_eq!(stalled.code(), Code::Unavailable);
    assert!(
        stalled.message().contains("connect again and continue"),
        "{stalled:?}"
    );
    upload
        .from(1)
        .send(&federation, site)
        .await
        .expect("the rest");
    federation.released(&researcher, study).await;
}
