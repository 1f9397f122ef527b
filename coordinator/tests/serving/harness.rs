//! A federation on loopback: one serving coordinator, governance at hand, members with real keys.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use consilium_coordinator::{Folder, Server, Settings, clock::Clock};
use consilium_privacy::seal::SealingKey;
use consilium_proto::{
    ChunkPlan, Digest, Layout, MemberId, ParameterVector, Plan, Role, Roster, RoundSpec, Signed,
    Signer, StudyId, TensorSpec,
    convert::Transfer,
    roster::Application,
    rpc::{ConnectError, Coordinator, TlsIdentity},
    wire::{
        self, admission::State, enrolment_client::EnrolmentClient, rounds_client::RoundsClient,
        studies_client::StudiesClient, submit_message,
    },
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

pub(crate) const CHUNK: u32 = 1024;
/// 1000 parameters: four chunks, the last one short.
pub(crate) const PARAMETERS: usize = 1000;

/// Somebody with keys.
pub(crate) struct Node {
    pub(crate) id: MemberId,
    pub(crate) name: String,
    pub(crate) signer: Signer,
    pub(crate) tls: Arc<TlsIdentity>,
    tls_key: Vec<u8>,
}

/// How far the coordinator's clock is ahead, in seconds.
#[derive(Clone, Default)]
pub(crate) struct Ahead(Arc<AtomicI64>);

impl Ahead {
    pub(crate) fn set(&self, seconds: i64) {
        self.0.store(seconds, Ordering::SeqCst);
    }

    fn clock(&self) -> Clock {
        let ahead = self.0.clone();
        Clock::new(move || {
            let seconds = ahead.load(Ordering::SeqCst);
            let shift = Duration::from_secs(seconds.unsigned_abs());
            match seconds < 0 {
                true => SystemTime::now() - shift,
                false => SystemTime::now() + shift,
            }
        })
    }
}

pub(crate) struct Federation {
    folder: tempfile::TempDir,
    pub(crate) governance: Signer,
    pub(crate) epochs: Vec<Signed>,
    pub(crate) address: Coordinator,
    pub(crate) ahead: Ahead,
    stop: CancellationToken,
    serving: Option<JoinHandle<()>>,
}

fn key() -> SealingKey {
    SealingKey::from_bytes([7; 32])
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

pub(crate) fn signer() -> Signer {
    Signer::from_pkcs8(&Signer::generate().expect("randomness")).expect("a fresh key")
}

impl Federation {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(choose: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("coordinator");
        let governance = signer();
        let root = governance.public_key().fingerprint();
        let name = "coordinator".parse().expect("a sound name");
        let application = Folder::init(&path, &key(), &name, root).expect("an empty folder");
        let mut settings = Settings {
            listen: ([127, 0, 0, 1], 0).into(),
            chunk_bytes: CHUNK,
            straggler_grace: Duration::ZERO,
            shutdown_grace: Duration::from_secs(2),
            ..Settings::default()
        };
        choose(&mut settings);
        settings
            .save(&Folder::settings_file(&path))
            .expect("sound settings");
        let epochs = vec![Roster::found(&governance, now())];
        let mut federation = Self {
            folder,
            governance,
            epochs,
            address: Coordinator::new("127.0.0.1:1", root).expect("an address"),
            ahead: Ahead::default(),
            stop: CancellationToken::new(),
            serving: None,
        };
        federation
            .admit(Application::open(&application).expect("our own"))
            .await;
        federation.serve().await;
        federation
    }

    /// Starts the coordinator, again if need be.
    pub(crate) async fn serve(&mut self) {
        let folder = Folder::open(&self.path(), key()).expect("our own folder");
        let pinned = folder.tls_key_digest();
        let server = Server::bind_with(folder, self.ahead.clock())
            .await
            .expect("a free port");
        let address = server.local_addr().to_string();
        self.address = Coordinator::new(&address, pinned).expect("an address");
        self.stop = CancellationToken::new();
        let stop = self.stop.clone();
        let serving = async move { server.run(stop).await.expect("it serves to the end") };
        self.serving = Some(tokio::spawn(serving));
    }

    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(serving) = self.serving.take() {
            serving.await.expect("no panic");
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::join(self.folder.path(), "coordinator")
    }

    pub(crate) fn trust_root(&self) -> Digest {
        self.governance.public_key().fingerprint()
    }

    pub(crate) fn roster(&self) -> Roster {
        Roster::open_history(&self.epochs, &self.trust_root()).expect("our own epochs")
    }

    /// Makes the next epoch at governance's place and imports it, as another process does.
    pub(crate) async fn admit(&mut self, application: Application) -> MemberId {
        let year = now() + 365 * 86_400;
        let next = self
            .roster()
            .admit(application, &self.governance, now() - 86_400, year);
        self.import(next.expect("a new member")).await;
        self.roster().members().last().expect("the new one").id
    }

    pub(crate) async fn revoke(&mut self, id: MemberId) {
        let next = self.roster().revoke(id, &self.governance, now());
        self.import(next.expect("a known member")).await;
    }

    async fn import(&mut self, epoch: Signed) {
        self.epochs.push(epoch);
        Folder::import_roster(&self.path(), &self.epochs)
            .await
            .expect("our own epochs");
    }

    /// Somebody with fresh keys whom nobody knows.
    pub(crate) fn stranger(&self, name: &str) -> Node {
        let tls_key = TlsIdentity::generate().expect("randomness");
        Node {
            id: MemberId(0),
            name: name.to_owned(),
            signer: signer(),
            tls: TlsIdentity::new(&tls_key, None).expect("a fresh key"),
            tls_key,
        }
    }

    /// A member that has applied, was admitted and has collected its certificate.
    pub(crate) async fn enrol(&mut self, name: &str, role: Role) -> Node {
        let mut node = self.stranger(name);
        let signed = node.application(role).sign(&node.signer);
        let mut enrolment = EnrolmentClient::new(self.connect(&node).await.expect("it serves"));
        let application = wire::Application {
            signed: Some(signed.into()),
        };
        enrolment
            .apply(application)
            .await
            .expect("a sound application");
        let pending = Folder::pending(&self.path()).await.expect("a folder");
        let theirs = pending
            .into_iter()
            .find(|(_, application)| application.name.as_str() == name);
        node.id = self.admit(theirs.expect("it waits").1).await;
        self.collect(&node).await.expect("it was admitted");
        node
    }

    /// Fetches a certificate, over a connection as an applicant.
    pub(crate) async fn collect(&self, node: &Node) -> Result<State, Status> {
        let channel = self.connect(node).await.expect("it serves");
        let certificate_request = node.tls.certificate_request().expect("a request");
        let reply = EnrolmentClient::new(channel)
            .collect(wire::CollectRequest {
                certificate_request,
            })
            .await?;
        let state = reply.into_inner().state.expect("a state");
        if let State::Certificate(certificate) = &state {
            let chain = certificate.chain.iter().cloned().map(Into::into).collect();
            node.tls.renew(chain).expect("for its own key");
        }
        Ok(state)
    }

    pub(crate) async fn connect(&self, node: &Node) -> Result<Channel, ConnectError> {
        self.address.connect(node.tls.clone()).await
    }

    pub(crate) async fn studies(&self, node: &Node) -> StudiesClient<Channel> {
        StudiesClient::new(self.connect(node).await.expect("it serves"))
    }

    pub(crate) async fn rounds(&self, node: &Node) -> RoundsClient<Channel> {
        RoundsClient::new(self.connect(node).await.expect("it serves"))
    }

    /// A researcher and sites 1 to `count`.
    pub(crate) async fn with_members(count: usize) -> (Self, Node, Vec<Node>) {
        Self::start().await.and_members(count).await
    }

    /// The same with a researcher and sites 1 to `count`.
    pub(crate) async fn and_members(self, count: usize) -> (Self, Node, Vec<Node>) {
        let mut federation = self;
        let researcher = federation.enrol("researcher", Role::Researcher).await;
        let mut sites = vec![];
        for number in 1..=count {
            sites.push(
                federation
                    .enrol(&format!("site {number}"), Role::Site)
                    .await,
            );
        }
        (federation, researcher, sites)
    }

    /// A study that runs: its id, and the signed specification of its first attempt.
    pub(crate) async fn running(
        &self,
        researcher: &Node,
        sites: &[Node],
        plan: &Plan,
    ) -> (StudyId, Signed) {
        let study = StudyId::random().expect("randomness");
        let submitted = submit(&mut self.studies(researcher).await, study, plan, &start()).await;
        submitted.expect("a sound study");
        for site in sites {
            decide(&mut self.studies(site).await, study, plan)
                .await
                .expect("a sound decision");
        }
        let spec = next_spec(&mut self.rounds(&sites[0]).await).await;
        (study, spec)
    }

    /// Waits until a study is finished, and returns what it released.
    pub(crate) async fn released(&self, researcher: &Node, study: StudyId) -> wire::ModelRelease {
        let mut studies = self.studies(researcher).await;
        let request = wire::WatchRequest {
            study: study.as_bytes().to_vec(),
            from_event: 0,
        };
        let mut events = studies.watch(request).await.expect("a study").into_inner();
        while events.message().await.expect("a stream").is_some() {}
        let reference = wire::StudyRef {
            study: study.as_bytes().to_vec(),
        };
        studies
            .release(reference)
            .await
            .expect("a finished study")
            .into_inner()
    }

    pub(crate) async fn coordinator_key(&self) -> consilium_proto::PublicKey {
        self.roster()
            .coordinators(now())
            .next()
            .expect("it was admitted")
            .identity_key
    }
}

impl Drop for Federation {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Node {
    /// Goes on with a certificate that its own key signed, as one whose certificate has run out.
    pub(crate) fn vouch_for_itself(&mut self) {
        self.tls = TlsIdentity::new(&self.tls_key, None).expect("its own key");
    }

    pub(crate) fn application(&self, role: Role) -> Application {
        Application {
            name: self.name.parse().expect("a sound name"),
            role,
            identity_key: self.signer.public_key(),
            tls_key_digest: self.tls.key_digest(),
        }
    }
}

pub(crate) fn plan(sites: u32, quorum: u32, rounds: u32) -> Plan {
    let text = format!(
        r#"
        name = "loopback"
        task = "tabular-classification"
        data_set = "rows"
        classes = ["no", "yes"]
        rounds = {rounds}
        secure_aggregation = false
        cohort = {{ size = {sites}, quorum = {quorum}, deadline = "1min", max_attempts = 1 }}
        table = {{ columns = [{{ name = "a" }}] }}
        network = {{ name = "dense", hidden = [] }}
        training = {{ steps = 1, batch_size = 8, learning_rate = 0.1 }}
        strategy = {{ name = "fed-avg-m" }}
        privacy = {{ mode = "none" }}
        "#
    );
    Plan::from_toml(&text).expect("a sound plan")
}

pub(crate) fn layout() -> Layout {
    let tensor = TensorSpec {
        name: "weight".into(),
        shape: vec![PARAMETERS],
    };
    Layout::new(vec![tensor]).expect("a sound layout")
}

pub(crate) fn start() -> ParameterVector {
    ParameterVector::zeros(&layout())
}

pub(crate) fn vector(seed: u16) -> ParameterVector {
    let value = |i: usize| ((i * 7 + usize::from(seed) * 13) % 101) as f32 / 50.0 - 1.0;
    ParameterVector::new((0..PARAMETERS).map(value).collect()).expect("finite")
}

pub(crate) fn transfer(vector: &ParameterVector, chunk_bytes: u32) -> Transfer {
    let bytes = 4 * vector.len() as u64;
    let chunks = ChunkPlan::new(bytes, chunk_bytes).expect("a sound plan");
    Transfer {
        chunks,
        digest: vector.digest(&layout()),
    }
}

pub(crate) fn chunks_of(bytes: &[u8], chunk_bytes: u32) -> Vec<wire::Chunk> {
    (0..)
        .zip(bytes.chunks(chunk_bytes as usize))
        .map(|(index, data)| wire::Chunk {
            index,
            data: data.to_vec().into(),
        })
        .collect()
}

pub(crate) fn submission(study: StudyId, plan: &Plan, transfer: Transfer) -> wire::Submission {
    wire::Submission {
        study: study.as_bytes().to_vec(),
        plan: plan.to_canonical(),
        layout: Some((&layout()).into()),
        weights: Some(transfer.into()),
    }
}

pub(crate) async fn submit_raw(
    studies: &mut StudiesClient<Channel>,
    submission: wire::Submission,
    chunks: Vec<wire::Chunk>,
) -> Result<wire::StudySummary, Status> {
    let first = submit_message::Part::Submission(submission);
    let parts = [first]
        .into_iter()
        .chain(chunks.into_iter().map(submit_message::Part::Chunk));
    let messages: Vec<_> = parts
        .map(|part| wire::SubmitMessage { part: Some(part) })
        .collect();
    let reply = studies.submit(futures::stream::iter(messages)).await?;
    Ok(reply.into_inner())
}

pub(crate) async fn submit(
    studies: &mut StudiesClient<Channel>,
    study: StudyId,
    plan: &Plan,
    weights: &ParameterVector,
) -> Result<wire::StudySummary, Status> {
    let transfer = transfer(weights, CHUNK);
    let chunks = chunks_of(&weights.to_bytes(), CHUNK);
    submit_raw(studies, submission(study, plan, transfer), chunks).await
}

pub(crate) async fn decide(
    studies: &mut StudiesClient<Channel>,
    study: StudyId,
    plan: &Plan,
) -> Result<wire::StudySummary, Status> {
    let decision = wire::Decision {
        study: study.as_bytes().to_vec(),
        plan_digest: plan.digest().as_bytes().to_vec(),
        approved: true,
        ..wire::Decision::default()
    };
    Ok(studies.decide(decision).await?.into_inner())
}

/// Waits until there is work.
pub(crate) async fn next_spec(rounds: &mut RoundsClient<Channel>) -> Signed {
    let work = rounds
        .next_work(wire::WorkRequest { wait_seconds: 60 })
        .await;
    let spec = work.expect("a site may ask").into_inner().round_spec;
    spec.expect("work within a minute")
        .try_into()
        .expect("a signature")
}

/// Opens a specification without looking at who signed it.
pub(crate) fn opened(signed: &Signed) -> RoundSpec {
    RoundSpec::open(signed, signed.signer()).expect("its own signature")
}
