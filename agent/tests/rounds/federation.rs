//! A federation in one process: governance, coordinator, members, agents; real TLS over loopback.

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use consilium_agent::{
    Agent, Membership,
    data::{self, PublicSize, Registration, Source},
    membership::Enrolment,
    policy::Policy,
    settings::Settings,
    store::Store,
};
use consilium_coordinator::{
    Folder, Server,
    store::{SqliteStore, Store as _},
};
use consilium_models::network::Network;
use consilium_privacy::seal::SealingKey;
use consilium_proto::{
    ChunkPlan, MemberId, Plan, Role, Roster, RoundId, Signed, Signer, StudyId,
    chunk::DEFAULT_CHUNK_BYTES,
    convert::{Submission, Transfer},
    roster::Application,
    rpc::Coordinator,
    wire::{self, StudyState, studies_client::StudiesClient, submit_message::Part},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Everything that this program logs, at every level.
pub(crate) mod logs {
    use std::{
        io,
        sync::{Mutex, Once, PoisonError},
    };

    static BEGIN: Once = Once::new();
    static KEPT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

    /// Everything of ours; of others what is not about single frames and packets.
    const LEVELS: &str =
        "debug,consilium_agent=trace,consilium_coordinator=trace,consilium_models=trace";

    struct Keeper;

    impl io::Write for Keeper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Begins to keep.
    pub(crate) fn keep() {
        BEGIN.call_once(|| {
            let subscriber = tracing_subscriber::fmt()
                .with_env_filter(LEVELS)
                .with_ansi(false)
                .with_writer(|| Keeper)
                .finish();
            // Another test of this program cannot have set one.
            let _ = tracing::subscriber::set_global_default(subscriber);
        });
    }

    /// Whether this was logged so far.
    pub(crate) fn hold(what: &str) -> bool {
        let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        memmem(&kept, what.as_bytes())
    }

    fn memmem(text: &[u8], what: &[u8]) -> bool {
        text.windows(what.len()).any(|window| window == what)
    }
}

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

const YEAR: u64 = 365 * 86_400;

pub(crate) fn key() -> SealingKey {
    SealingKey::from_bytes([9; 32])
}

fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

/// Asks until the answer is there.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer,
        Err(_) => panic!("waited too long until {what}"),
    }
}

/// A coordinator that serves, and the governance of its federation.
pub(crate) struct Federation {
    root: tempfile::TempDir,
    pub(crate) governance: Signer,
    roster: Roster,
    pub(crate) coordinator: Coordinator,
    stop: CancellationToken,
}

impl Drop for Federation {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Federation {
    pub(crate) async fn new() -> Self {
        Self::with_grace(Duration::ZERO).await
    }

    /// A federation whose coordinator gives stragglers so much time.
    pub(crate) async fn with_grace(grace: Duration) -> Self {
        logs::keep();
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("coordinator");
        let pkcs8 = Signer::generate().expect("randomness");
        let governance = Signer::from_pkcs8(&pkcs8).expect("a fresh key");
        let trust_root = governance.public_key().fingerprint();
        let name = "coordinator".parse().expect("a name");
        let application = Folder::init(&path, &key(), &name, trust_root).expect("a new folder");
        let file = Folder::settings_file(&path);
        let mut settings = consilium_coordinator::Settings::load(&file).expect("its defaults");
        settings.listen.set_port(0);
        settings.straggler_grace = grace;
        settings.save(&file).expect("room");

        let first = Roster::found(&governance, now());
        let roster = Roster::open_first(&first, &trust_root).expect("its own");
        Folder::import_roster(&path, &[first]).await.expect("room");
        let folder = Folder::open(&path, key()).expect("just made");
        let key_digest = folder.tls_key_digest();
        let server = Server::bind(folder).await.expect("a free port");
        let address = server.local_addr().to_string();
        let coordinator = Coordinator::new(&address, key_digest).expect("an address");
        let stop = CancellationToken::new();
        tokio::spawn(server.run(stop.clone()));
        let mut federation = Self {
            root,
            governance,
            roster,
            coordinator,
            stop,
        };
        federation.admit(&application).await;
        federation
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The journal of a study's first attempt.
    pub(crate) async fn journal(&self, study: StudyId) -> Vec<Vec<u8>> {
        let file = self.path("coordinator").join("coordinator.sqlite");
        let store = SqliteStore::open(&file).await.expect("the database");
        let (round, attempt) = (1, 1);
        let id = RoundId {
            study,
            round,
            attempt,
        };
        let lines = store.journal(id).await.expect("readable");
        store.close().await;
        lines
    }

    async fn publish(&mut self, next: Signed) {
        self.roster = self.roster.open_next(&next).expect("the next epoch");
        let path = self.path("coordinator");
        Folder::import_roster(&path, &[next]).await.expect("room");
    }

    pub(crate) async fn admit(&mut self, application: &Signed) {
        let application = Application::open(application).expect("signed");
        let until = now() + YEAR;
        let next = self
            .roster
            .admit(application, &self.governance, now() - 1, until);
        self.publish(next.expect("a new member")).await;
    }

    pub(crate) async fn revoke(&mut self, member: MemberId) {
        let next = self.roster.revoke(member, &self.governance, now());
        self.publish(next.expect("a known member")).await;
    }

    /// Enrols a member, all the way.
    pub(crate) async fn member(&mut self, name: &str, role: Role) -> Membership {
        let (folder, key) = (self.path(name), key());
        let name = name.parse().expect("a name");
        let root = self.governance.public_key().fingerprint();
        let made = Membership::create(&folder, &key, &name, role, &self.coordinator, root);
        let (membership, fingerprint) = made.expect("a new folder");
        assert_eq!(membership.apply().await.expect("taken"), fingerprint);
        assert_eq!(
            membership.apply().await.expect("safe to repeat"),
            fingerprint
        );
        assert_eq!(
            membership.collect().await.expect("an answer"),
            Enrolment::Pending
        );
        let pending = Folder::pending(&self.path("coordinator"))
            .await
            .expect("readable");
        let (signed, _) = pending
            .into_iter()
            .find(|(signed, _)| Application::fingerprint(signed) == fingerprint)
            .expect("handed in");
        self.admit(&signed).await;
        until("the member is admitted", async || {
            match membership.collect().await {
                Ok(Enrolment::Admitted(_)) => Some(()),
                _ => None,
            }
        })
        .await;
        membership
    }

    /// A site with a registered table and a policy that decides alone.
    async fn site(&mut self, name: &str) -> PathBuf {
        self.member(name, Role::Site).await;
        let folder = self.path(name);
        write_policy(&folder, "auto_approve = true");
        let rows: String = (0..40)
            .map(|at| format!("p{at},{at},{}\n", at / 20))
            .collect();
        let file = folder.join("rows.csv");
        std::fs::write(&file, format!("who,age,state\n{rows}")).expect("room");
        let map = folder.join("map.csv");
        std::fs::write(&map, "local,class\n0,healthy\n1,ill\n").expect("room");
        let registration = Registration {
            name: "rows".into(),
            source: Source::Table {
                file,
                target: "state".into(),
                patient: Some("who".into()),
            },
            label_map: Some(map),
            public_size: PublicSize::Declared(40),
            skip_unreadable: false,
            pixels_seen: false,
            replace: false,
        };
        let store = Store::open(&folder, Arc::new(key()))
            .await
            .expect("a store");
        let now = std::time::SystemTime::now();
        data::register(&store, &Policy::default(), registration, now)
            .await
            .expect("sound data");
        store.close().await;
        folder
    }
}

pub(crate) fn write_policy(folder: &std::path::Path, more: &str) {
    let text = format!(
        "tasks = [\"tabular-classification\"]\nmin_cohort = 3\nstudy_epsilon = 8.0\n\
         allow_without_secure_aggregation = true\n{more}\n\
         [data_sets.rows]\nepsilon = 20.0\ndelta = 1e-4\n"
    );
    std::fs::write(folder.join("policy.toml"), text).expect("room");
}

pub(crate) fn settings() -> Settings {
    Settings {
        poll: Duration::from_secs(5),
        look_for_studies: Duration::from_millis(100),
        retry_first: Duration::from_millis(50),
        retry_longest: Duration::from_millis(500),
        ..Settings::default()
    }
}

pub(crate) fn plan(rounds: u32, steps: u32, privacy: &str) -> Plan {
    let text = format!(
        r#"
        name = "rows"
        task = "tabular-classification"
        data_set = "rows"
        classes = ["healthy", "ill"]
        seed = 3
        rounds = {rounds}
        secure_aggregation = false
        cohort = {{ size = 3, deadline = "40s", max_attempts = 9 }}
        table = {{ columns = [{{ name = "age", mean = 20.0, deviation = 10.0 }}] }}
        network = {{ name = "dense", hidden = [8] }}
        training = {{ steps = {steps}, batch_size = 8, learning_rate = 0.1 }}
        privacy = {{ {privacy} }}
        "#
    );
    Plan::from_toml(&text).expect("a sound plan")
}

/// As [`plan`], of whose updates the coordinator learns only the sum.
pub(crate) fn secure_plan(rounds: u32, steps: u32, privacy: &str) -> Plan {
    Plan {
        secure_aggregation: true,
        ..plan(rounds, steps, privacy)
    }
}

pub(crate) const PRIVATE: &str = "clipping_norm = 1.0, epsilon = 4.0, delta = 1e-5";

/// A running agent.
pub(crate) struct Running {
    stop: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), consilium_agent::participation::AgentError>>,
    pub(crate) store: Store,
}

pub(crate) async fn start(folder: &std::path::Path) -> Running {
    let agent = until("the folder is free", async || {
        Agent::open(folder, Arc::new(key()), settings()).await.ok()
    })
    .await;
    let (stop, store) = (CancellationToken::new(), agent.store().clone());
    let task = tokio::spawn(agent.run(stop.clone()));
    Running { stop, task, store }
}

impl Running {
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("a quiet end");
    }
}

/// The researcher's side of a study.
pub(crate) struct Study {
    pub(crate) id: StudyId,
    pub(crate) client: StudiesClient<tonic::transport::Channel>,
}

impl Study {
    pub(crate) async fn submit(researcher: &Membership, plan: &Plan) -> Self {
        let channel = researcher.connect().await.expect("a connection");
        let mut client = StudiesClient::new(channel);
        let network = Network::from_plan(plan).expect("a network");
        let weights = network.initial(plan.seed);
        let bytes = weights.to_bytes();
        let chunks = ChunkPlan::new(bytes.len() as u64, DEFAULT_CHUNK_BYTES).expect("sound");
        let submission = Submission {
            study: StudyId::random().expect("randomness"),
            plan: plan.clone(),
            canonical_plan: plan.to_canonical(),
            layout: network.layout().clone(),
            weights: Transfer {
                chunks,
                digest: weights.digest(network.layout()),
            },
        };
        let parts = [
            Part::Submission((&submission).into()),
            Part::Chunk(wire::Chunk {
                index: 0,
                data: Bytes::from(bytes),
            }),
        ];
        let messages = parts.map(|part| wire::SubmitMessage { part: Some(part) });
        client
            .submit(futures::stream::iter(messages))
            .await
            .expect("accepted");
        Self {
            id: submission.study,
            client,
        }
    }

    pub(crate) async fn detail(&self) -> wire::StudyDetail {
        let request = wire::StudyRef::from(self.id);
        self.client
            .clone()
            .show(request)
            .await
            .expect("shown")
            .into_inner()
    }

    /// The weights of a version.
    pub(crate) async fn weights(&self, version: &wire::Version) -> Vec<f32> {
        let request = wire::DownloadRequest {
            study: self.id.as_bytes().to_vec(),
            model_digest: version.model_digest.clone(),
            from_chunk: 0,
        };
        let answer = self.client.clone().download(request).await;
        let mut stream = answer.expect("stored").into_inner();
        let mut weights = Vec::new();
        while let Some(message) = stream.message().await.expect("whole") {
            if let Some(wire::download_message::Part::Chunk(chunk)) = message.part {
                weights.extend(consilium_proto::vector::words(&chunk.data).expect("whole words"));
            }
        }
        weights
    }

    pub(crate) async fn finished(&self) -> wire::StudyDetail {
        until("the study is finished", async || {
            let detail = self.detail().await;
            let state = detail.summary.as_ref().expect("a summary").state();
            (state == StudyState::Finished).then_some(detail)
        })
        .await
    }
}

pub(crate) async fn three_sites(federation: &mut Federation) -> Vec<PathBuf> {
    sites(federation, &["A", "B", "C"]).await
}

pub(crate) async fn sites(federation: &mut Federation, names: &[&str]) -> Vec<PathBuf> {
    let mut sites = Vec::new();
    for name in names {
        sites.push(federation.site(name).await);
    }
    sites
}
