//! Makes a federation in a temporary folder, runs its nodes, and plays the people in it.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use consilium::{
    governance::Governance,
    researcher::{Researcher, Study},
};
use consilium_agent::{
    Membership,
    data::{PublicSize, Registration, Source, register},
    membership::Enrolment,
    policy::Policy,
    store::Store,
};
use consilium_coordinator::{Folder, Settings};
use consilium_privacy::seal::SealingKey;
use consilium_proto::{
    ChunkPlan, Digest, Layout, ParameterVector, Plan, Role, StudyId,
    chunk::DEFAULT_CHUNK_BYTES,
    convert::{Submission, Transfer},
    rpc::Coordinator,
    wire::{
        self, StudyState, studies_client::StudiesClient, study_event::Event, submit_message::Part,
    },
};

/// Longest time that a study of these tests may be silent.
const PATIENCE: Duration = Duration::from_secs(240);
const DAYS: u32 = 1;

/// A policy that lets every plan of these tests pass.
const POLICY: &str = r#"
tasks = [
    "image-classification", "image-regression", "tabular-classification", "note-classification", "entity-tagging",
    "relation-extraction", "diagnosis",
]
study_epsilon = 100.0
study_delta = 9e-3
min_cohort = 2
auto_approve = true
allow_no_privacy = true
allow_without_secure_aggregation = true
"#;

const AGENT: &str = r#"
poll = "2s"
look_for_studies = "1s"
retry_first = "100ms"
retry_longest = "500ms"
"#;

/// What a site registers.
pub(crate) struct SiteRecords {
    /// Name of the data set.
    pub(crate) name: String,
    /// Where the records lie.
    pub(crate) source: Source,
    /// Declared number of patients.
    pub(crate) public_size: u64,
    /// Local labels to classes.
    pub(crate) label_map: Option<PathBuf>,
}

/// A node's folder with its key file beside it.
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) key_file: PathBuf,
}

impl Place {
    fn new(root: &Path, name: &str) -> Self {
        let place = Self {
            folder: root.join(name),
            key_file: root.join(format!("{name}.key")),
        };
        SealingKey::create_key_file(&place.key_file).expect("a new key file");
        place
    }

    pub(crate) fn key(&self) -> SealingKey {
        SealingKey::from_key_file(&self.key_file).expect("its own key file")
    }

    fn start(&self, command: [&str; 2]) -> Node {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.with_extension("log"))
            .expect("a log file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_consilium"))
            .args(command)
            .arg("--stop-with-stdin")
            .arg("--dir")
            .arg(&self.folder)
            .arg("--key-file")
            .arg(&self.key_file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let stdin = child.stdin.take();
        Node {
            child,
            _stdin: stdin,
        }
    }
}

/// A running process; killed without warning when dropped.
pub(crate) struct Node {
    child: Child,
    // Closed when the test ends in whatever way, which ends the node.
    _stdin: Option<ChildStdin>,
}

impl Node {
    /// Ends the process as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("a running process");
        self.child.wait().expect("an ended process");
    }

    fn first_line(&mut self) -> String {
        let stdout = self.child.stdout.as_mut().expect("a pipe");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        assert!(!line.is_empty(), "the node ended before it served");
        line.trim().to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A federation with a researcher.
pub(crate) struct Federation {
    coordinator_place: Place,
    coordinator: Option<Node>,
    pub(crate) sites: Vec<Place>,
    agents: Vec<Option<Node>>,
    researcher: Place,
    folder: tempfile::TempDir,
}

impl Federation {
    /// Founds a federation of as many sites as there are lists, registers what each has, and
    /// starts all nodes.
    pub(crate) async fn found(records: Vec<Vec<SiteRecords>>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        let governance_place = Place::new(root, "governance");
        let key = governance_place.key();
        let mut governance =
            Governance::init(&governance_place.folder, &key, now()).expect("a new governance");
        let trust_root = governance.trust_root();

        let coordinator_place = Place::new(root, "coordinator");
        let tls_key = found_coordinator(&coordinator_place, &mut governance).await;
        let mut coordinator = coordinator_place.start(["coordinator", "serve"]);
        let address = coordinator.first_line();
        // The same port after a restart, so that agents find it again.
        let settings = Settings {
            listen: address.parse().expect("an address"),
            straggler_grace: Duration::ZERO,
            ..Settings::default()
        };
        let file = Folder::settings_file(&coordinator_place.folder);
        settings.save(&file).expect("written settings");
        let at = Coordinator::new(&address, tls_key).expect("an address");

        let researcher = Place::new(root, "researcher");
        enrol(&researcher, Role::Researcher, &at, trust_root);
        let sites: Vec<Place> = (1..=records.len())
            .map(|n| Place::new(root, &format!("site-{n}")))
            .collect();
        for site in &sites {
            enrol(site, Role::Site, &at, trust_root);
        }
        for place in sites.iter().chain([&researcher]) {
            let membership = Membership::open(&place.folder, &place.key()).expect("its folder");
            membership.apply().await.expect("handed in");
        }
        let pending = Folder::pending(&coordinator_place.folder)
            .await
            .expect("applications");
        assert_eq!(pending.len(), sites.len() + 1);
        for (signed, _) in pending {
            governance
                .admit(&signed, DAYS, now())
                .expect("a new member");
        }
        let import = Folder::import_roster(&coordinator_place.folder, governance.history());
        import.await.expect("a new roster");
        for place in sites.iter().chain([&researcher]) {
            collect(place).await;
        }
        for (site, records) in sites.iter().zip(records) {
            register_all(site, records).await;
        }
        let agents = sites
            .iter()
            .map(|site| Some(site.start(["agent", "run"])))
            .collect();
        let coordinator = Some(coordinator);
        Self {
            coordinator_place,
            coordinator,
            sites,
            agents,
            researcher,
            folder,
        }
    }

    /// The researcher, on a new connection.
    pub(crate) async fn researcher(&self) -> Researcher {
        let Place { folder, .. } = &self.researcher;
        Researcher::connect(folder, &self.researcher.key())
            .await
            .expect("a connection")
    }

    /// The researcher's folder and key.
    pub(crate) fn researcher_place(&self) -> &Place {
        &self.researcher
    }

    /// Kills the coordinator and starts it again on the same folder and port.
    pub(crate) fn crash_coordinator(&mut self) {
        self.coordinator
            .take()
            .expect("a running coordinator")
            .kill();
        let mut coordinator = self.coordinator_place.start(["coordinator", "serve"]);
        coordinator.first_line();
        self.coordinator = Some(coordinator);
    }

    /// Kills the coordinator for good.
    pub(crate) fn stop_coordinator(&mut self) {
        self.coordinator
            .take()
            .expect("a running coordinator")
            .kill();
    }

    /// Kills an agent and starts it again on the same folder.
    pub(crate) fn crash_agent(&mut self, site: usize) {
        self.stop_agent(site);
        self.agents[site] = Some(self.sites[site].start(["agent", "run"]));
    }

    /// Kills an agent for good.
    pub(crate) fn stop_agent(&mut self, site: usize) {
        self.agents[site].take().expect("a running agent").kill();
    }

    /// Submits a plan and follows it to its end; `watch` sees each published version.
    pub(crate) async fn run(&mut self, plan: &Plan) -> Study {
        let study = self.submit(plan).await;
        self.finish(study).await
    }

    /// Hands a plan in.
    pub(crate) async fn submit(&self, plan: &Plan) -> StudyId {
        self.submit_from(plan, None).await
    }

    /// Hands a plan in whose version 0 comes from a public encoder.
    pub(crate) async fn submit_from(&self, plan: &Plan, encoder: Option<&Path>) -> StudyId {
        self.researcher()
            .await
            .submit(plan, encoder)
            .await
            .expect("a sound plan")
    }

    /// Hands a plan in with a layout and weights that need not be its own.
    pub(crate) async fn submit_with(
        &self,
        plan: &Plan,
        layout: &Layout,
        weights: &ParameterVector,
    ) -> StudyId {
        let Place { folder, .. } = &self.researcher;
        let membership = Membership::open(folder, &self.researcher.key()).expect("its folder");
        let channel = membership.connect().await.expect("a connection");
        let bytes = weights.to_bytes();
        let submission = Submission {
            study: StudyId::random().expect("randomness"),
            plan: plan.clone(),
            canonical_plan: plan.to_canonical(),
            layout: layout.clone(),
            weights: Transfer {
                chunks: ChunkPlan::new(bytes.len() as u64, DEFAULT_CHUNK_BYTES).expect("sound"),
                digest: weights.digest(layout),
            },
        };
        let data = bytes.into();
        let parts = [
            Part::Submission((&submission).into()),
            Part::Chunk(wire::Chunk { index: 0, data }),
        ];
        let messages = parts.map(|part| wire::SubmitMessage { part: Some(part) });
        let submitted = StudiesClient::new(channel)
            .submit(futures::stream::iter(messages))
            .await;
        submitted.expect("taken");
        submission.study
    }

    /// Waits until the study's only attempt at a round has failed.
    pub(crate) async fn fails(&self, study: StudyId) {
        let is_failure = |event: &Event| match event {
            Event::Published(version) => panic!("version {} was published", version.number),
            Event::RoundFailed(_) => true,
            _ => false,
        };
        self.wait_for(study, is_failure).await;
    }

    /// What a site's agent has said.
    pub(crate) fn log(&self, site: usize) -> PathBuf {
        self.sites[site].folder.with_extension("log")
    }

    /// The folder that everything of all nodes lies in.
    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// The coordinator's database.
    pub(crate) fn database(&self) -> PathBuf {
        self.coordinator_place.folder.join("coordinator.sqlite")
    }

    /// Waits until a version with at least this number is published.
    pub(crate) async fn published(&self, study: StudyId, number: u32) {
        let is_there = |event: &Event| match event {
            Event::Published(version) => version.number >= number,
            _ => false,
        };
        self.wait_for(study, is_there).await;
    }

    /// Waits until the study has finished and returns it.
    pub(crate) async fn finish(&self, study: StudyId) -> Study {
        let is_end = |event: &Event| match event {
            Event::Changed(summary) => {
                assert_ne!(summary.state(), StudyState::Stopped, "{}", summary.reason);
                summary.state() == StudyState::Finished
            }
            _ => false,
        };
        self.wait_for(study, is_end).await;
        self.researcher().await.show(study).await.expect("a study")
    }

    async fn wait_for(&self, study: StudyId, is_it: impl Fn(&Event) -> bool) {
        let mut researcher = self.researcher().await;
        let mut events = researcher.watch(study, 0).await.expect("events");
        let looking = async {
            while let Some(event) = events.message().await.expect("the next event") {
                let event = event.event.expect("a known event");
                if let Event::Decided(decision) = &event {
                    assert!(
                        decision.approved,
                        "{} refused: {}",
                        decision.name, decision.reason
                    );
                }
                if is_it(&event) {
                    return;
                }
            }
            panic!("the events ended first");
        };
        tokio::time::timeout(PATIENCE, looking)
            .await
            .expect("it happens in time");
    }

    /// A site's store; its agent must not be running.
    pub(crate) async fn store(&self, site: usize) -> Store {
        assert!(self.agents[site].is_none(), "the agent holds its store");
        open_store(&self.sites[site]).await
    }
}

async fn open_store(place: &Place) -> Store {
    Store::open(&place.folder, Arc::new(place.key()))
        .await
        .expect("its store")
}

async fn found_coordinator(place: &Place, governance: &mut Governance) -> Digest {
    let name = "coordinator".parse().expect("a name");
    let root = governance.trust_root();
    let application = Folder::init(&place.folder, &place.key(), &name, root).expect("new folder");
    governance
        .admit(&application, DAYS, now())
        .expect("a new member");
    let import = Folder::import_roster(&place.folder, governance.history());
    import.await.expect("a new roster");
    let settings = Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        straggler_grace: Duration::ZERO,
        ..Settings::default()
    };
    settings
        .save(&Folder::settings_file(&place.folder))
        .expect("written settings");
    Folder::open(&place.folder, place.key())
        .expect("its folder")
        .tls_key_digest()
}

fn enrol(place: &Place, role: Role, coordinator: &Coordinator, trust_root: Digest) {
    let name = place
        .folder
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    let name = name.parse().expect("a name");
    Membership::create(
        &place.folder,
        &place.key(),
        &name,
        role,
        coordinator,
        trust_root,
    )
    .expect("a new member");
}

async fn collect(place: &Place) {
    let membership = Membership::open(&place.folder, &place.key()).expect("its folder");
    for _ in 0..100 {
        if let Enrolment::Admitted(_) = membership.collect().await.expect("an answer") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the coordinator does not see the new roster");
}

async fn register_all(place: &Place, records: Vec<SiteRecords>) {
    let mut policy = format!("{POLICY}\n[data_sets]\n");
    for set in &records {
        policy += &format!("{:?} = {{ epsilon = 100.0, delta = 9e-3 }}\n", set.name);
    }
    let policy_file = place.folder.join("policy.toml");
    std::fs::write(&policy_file, policy).expect("a written file");
    std::fs::write(place.folder.join("agent.toml"), AGENT).expect("a written file");
    let policy = Policy::load(&policy_file).expect("a sound policy");
    let store = open_store(place).await;
    for set in records {
        let registration = Registration {
            name: set.name,
            source: set.source,
            label_map: set.label_map,
            public_size: PublicSize::Declared(set.public_size),
            skip_unreadable: false,
            pixels_seen: false,
            replace: false,
        };
        register(&store, &policy, registration, SystemTime::now())
            .await
            .expect("registered");
    }
    store.close().await;
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970")
        .as_secs()
}
