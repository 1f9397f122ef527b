//! The demo's federation: founded, enrolled and running, with the demo as every person in it.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use consilium_agent::{
    data::{PublicSize, Registration, register},
    membership::{Enrolment, Membership},
    policy::Policy,
    store::Store,
};
use consilium_coordinator::{Folder as CoordinatorFolder, Settings as CoordinatorSettings};
use consilium_privacy::seal::SealingKey;
use consilium_proto::{Digest, Role, rpc::Coordinator};
use futures::future::select_all;
use tokio_util::sync::CancellationToken;

use super::{
    material::{HospitalFolder, Material},
    plans::{self, DATA_SET, Settings},
    process::Node,
};
use crate::{
    audit::export, failure::Interrupted, governance::Governance, output, researcher::Researcher,
};

/// Length of the demo's memberships, in days.
const DAYS: u32 = 30;
/// How often an applicant asks whether it is admitted, and how often at most.
const ASK_EVERY: Duration = Duration::from_millis(200);
const ASK_AT_MOST: u32 = 150;

/// How the demo's agents run: they look and ask often, because a person waits.
const AGENT_SETTINGS: &str =
    "poll = \"5s\"\nlook_for_studies = \"1s\"\nretry_first = \"200ms\"\nretry_longest = \"2s\"\n";

/// A running federation.
pub(super) struct Federation {
    trust_root: Digest,
    researcher: Researcher,
    researcher_folder: PathBuf,
    hospitals: Vec<Place>,
    nodes: Vec<Node>,
}

/// Where everything of one node lies; its key file lies beside its folder.
struct Place {
    folder: PathBuf,
    key_file: PathBuf,
}

impl Place {
    fn new(folder: PathBuf) -> Self {
        let key_file = folder.with_extension("key");
        Self { folder, key_file }
    }

    /// Makes the key file, and the folder above it.
    fn make_key(&self) -> Result<SealingKey> {
        if let Some(parent) = self.folder.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("making {}", parent.display()))?;
        }
        Ok(SealingKey::create_key_file(&self.key_file)?)
    }

    fn key(&self) -> Result<SealingKey> {
        Ok(SealingKey::from_key_file(&self.key_file)?)
    }

    /// Starts a node that serves this folder.
    fn start(&self, name: &str, logs: &Path, command: [&str; 2]) -> Result<Node> {
        let mut arguments: Vec<&OsStr> = command.iter().map(OsStr::new).collect();
        arguments.extend([OsStr::new("--stop-with-stdin"), OsStr::new("--dir")]);
        arguments.push(self.folder.as_os_str());
        arguments.extend([OsStr::new("--key-file"), self.key_file.as_os_str()]);
        Node::start(name, logs, &arguments)
    }
}

impl Federation {
    /// Founds the federation, enrols everybody, registers the data, and starts every node.
    ///
    /// # Errors
    /// Any step that fails; what was started is ended again.
    pub(super) async fn start(
        dir: &Path,
        material: &Material,
        settings: &Settings,
        stop: &CancellationToken,
    ) -> Result<Self> {
        let starting = Self::found(dir, material, settings);
        match stop.run_until_cancelled(Box::pin(starting)).await {
            Some(federation) => federation,
            None => Err(Interrupted.into()),
        }
    }

    async fn found(dir: &Path, material: &Material, settings: &Settings) -> Result<Self> {
        let logs = dir.join("logs");
        std::fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
        let governance_place = Place::new(dir.join("governance"));
        let key = governance_place.make_key()?;
        let mut governance = Governance::init(&governance_place.folder, &key, crate::cli::now())?;

        let (coordinator, place) = make_coordinator(dir, &mut governance).await?;
        let mut server = place.start("coordinator", &logs, ["coordinator", "serve"])?;
        let address = server.first_line().await?;
        output::note(format_args!("the coordinator serves at {address}"));
        let coordinator = Coordinator::new(&address, coordinator)?;

        let researcher_place = Place::new(dir.join("researcher"));
        let mut applicants = vec![(&researcher_place, "researcher".to_owned(), Role::Researcher)];
        let hospital_places: Vec<_> = material
            .hospitals
            .iter()
            .map(|hospital| Place::new(dir.join(&hospital.name).join("node")))
            .collect();
        for (place, hospital) in hospital_places.iter().zip(&material.hospitals) {
            applicants.push((place, hospital.name.clone(), Role::Site));
        }
        let mut members = Vec::new();
        for (place, name, role) in applicants {
            let (key, root) = (place.make_key()?, governance.trust_root());
            let name = name.parse()?;
            let made = Membership::create(&place.folder, &key, &name, role, &coordinator, root)?;
            // The fingerprint that the applicant would read out over the telephone.
            let fingerprint = made.0.apply().await?;
            members.push((made.0, fingerprint));
        }
        admit(&mut governance, &place.folder, &members).await?;
        for (membership, _) in &members {
            collect(membership).await?;
        }
        drop(members);

        let mut nodes = vec![server];
        for (place, hospital) in hospital_places.iter().zip(&material.hospitals) {
            prepare(place, hospital, material, settings).await?;
            nodes.push(place.start(&hospital.name, &logs, ["agent", "run"])?);
        }
        let researcher =
            Researcher::connect(&researcher_place.folder, &researcher_place.key()?).await?;
        Ok(Self {
            trust_root: governance.trust_root(),
            researcher,
            researcher_folder: researcher_place.folder,
            hospitals: hospital_places,
            nodes,
        })
    }

    /// Fingerprint of the demo's governance key.
    pub(super) fn trust_root(&self) -> Digest {
        self.trust_root
    }

    /// Plays the stewards: puts every hospital's ledger into one file for an auditor.
    pub(super) async fn export(&self, path: &Path) -> Result<()> {
        let mut parts = Vec::new();
        for place in &self.hospitals {
            let key = Arc::new(place.key()?);
            parts.push(export::read(&place.folder, key, crate::cli::now()).await?);
        }
        let bytes = export::join(parts)?.to_bytes();
        std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
    }

    /// The demo as the researcher.
    pub(super) fn researcher(&mut self) -> &mut Researcher {
        &mut self.researcher
    }

    /// Folder of the researcher's keys.
    pub(super) fn researcher_folder(&self) -> &Path {
        &self.researcher_folder
    }

    /// Resolves when a node has ended by itself, which none should.
    pub(super) async fn node_ended(&mut self) -> anyhow::Error {
        let ends = self.nodes.iter_mut().map(|node| Box::pin(node.ended()));
        select_all(ends).await.0
    }

    /// Stops the agents, then the coordinator.
    pub(super) async fn stop(mut self) {
        let coordinator = self.nodes.remove(0);
        futures::future::join_all(self.nodes.into_iter().map(Node::stop)).await;
        coordinator.stop().await;
    }
}

/// Makes the coordinator and has governance admit it. Returns the key that members pin.
async fn make_coordinator(dir: &Path, governance: &mut Governance) -> Result<(Digest, Place)> {
    let place = Place::new(dir.join("coordinator"));
    let (key, root) = (place.make_key()?, governance.trust_root());
    let name = "coordinator".parse()?;
    let application = CoordinatorFolder::init(&place.folder, &key, &name, root)?;
    let settings = CoordinatorSettings {
        // Port 0: the system chooses a free one, and the node prints it.
        listen: ([127, 0, 0, 1], 0).into(),
        // The demo waits for every site in every round.
        straggler_grace: Duration::ZERO,
        ..CoordinatorSettings::default()
    };
    settings.save(&CoordinatorFolder::settings_file(&place.folder))?;
    let tls_key = CoordinatorFolder::open(&place.folder, key)?.tls_key_digest();
    governance.admit(&application, DAYS, crate::cli::now())?;
    CoordinatorFolder::import_roster(&place.folder, governance.history()).await?;
    Ok((tls_key, place))
}

/// Plays governance: admits exactly those whose fingerprint was read out.
async fn admit(
    governance: &mut Governance,
    coordinator: &Path,
    expected: &[(Membership, Digest)],
) -> Result<()> {
    for (signed, application) in CoordinatorFolder::pending(coordinator).await? {
        let found = consilium_proto::roster::Application::fingerprint(&signed);
        if !expected
            .iter()
            .any(|(_, fingerprint)| *fingerprint == found)
        {
            bail!(
                "{} shows another fingerprint than it read out",
                application.name
            );
        }
        governance.admit(&signed, DAYS, crate::cli::now())?;
    }
    CoordinatorFolder::import_roster(coordinator, governance.history()).await?;
    Ok(())
}

/// Collects a certificate; the serving coordinator sees a new roster within a second.
async fn collect(membership: &Membership) -> Result<()> {
    for _ in 0..ASK_AT_MOST {
        if let Enrolment::Admitted(_) = membership.collect().await? {
            return Ok(());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    bail!(
        "{} was admitted, but the coordinator does not know it",
        membership.name()
    )
}

/// Plays the steward: writes the policy and registers the data.
async fn prepare(
    place: &Place,
    hospital: &HospitalFolder,
    material: &Material,
    settings: &Settings,
) -> Result<()> {
    let policy_file = place.folder.join("policy.toml");
    let policy = plans::policy(settings, material.hospitals.len());
    std::fs::write(&policy_file, policy)
        .with_context(|| format!("writing {}", policy_file.display()))?;
    let agent_file = place.folder.join("agent.toml");
    let agent_settings = format!("{AGENT_SETTINGS}device = \"{}\"\n", settings.device);
    std::fs::write(&agent_file, agent_settings)
        .with_context(|| format!("writing {}", agent_file.display()))?;
    let registration = Registration {
        name: DATA_SET.to_owned(),
        source: hospital.source(),
        label_map: None,
        public_size: PublicSize::Declared(hospital.patients as u64),
        skip_unreadable: false,
        pixels_seen: false,
        replace: false,
    };
    let store = Store::open(&place.folder, Arc::new(place.key()?)).await?;
    let policy = Policy::load(&policy_file)?;
    let report = register(&store, &policy, registration, SystemTime::now()).await;
    store.close().await;
    let report = report.with_context(|| format!("registering the data of {}", hospital.name))?;
    let path = place.folder.with_file_name("registration.txt");
    std::fs::write(&path, report.to_string()).with_context(|| format!("writing {}", path.display()))
}
