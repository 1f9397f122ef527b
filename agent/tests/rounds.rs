//! Agents against a coordinator, in one process over loopback: enrolment, consent, rounds, and
//! what happens when an agent dies or must not take part.

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use consilium_agent::{
    Agent, Membership,
    consent::{self, ConsentError},
    data::{self, PublicSize, Registration, Source},
    membership::{Enrolment, MembershipError},
    policy::Policy,
    settings::Settings,
    store::Store,
};
use consilium_coordinator::{Folder, Server};
use consilium_models::network::Network;
use consilium_privacy::{ledger::Purpose, seal::SealingKey};
use consilium_proto::{
    ChunkPlan, Digest, MemberId, Plan, Role, Roster, Signed, Signer, StudyId,
    chunk::DEFAULT_CHUNK_BYTES,
    convert::{Submission, Transfer},
    roster::Application,
    rpc::Coordinator,
    wire::{
        self, StudyState, rounds_client::RoundsClient, studies_client::StudiesClient,
        submit_message::Part,
    },
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

const YEAR: u64 = 365 * 86_400;

fn key() -> SealingKey {
    SealingKey::from_bytes([9; 32])
}

fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

/// Asks until the answer is there.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
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
struct Federation {
    root: tempfile::TempDir,
    governance: Signer,
    roster: Roster,
    coordinator: Coordinator,
    stop: CancellationToken,
}

impl Drop for Federation {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Federation {
    async fn new() -> Self {
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
        settings.straggler_grace = Duration::ZERO;
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

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    async fn publish(&mut self, next: Signed) {
        self.roster = self.roster.open_next(&next).expect("the next epoch");
        let path = self.path("coordinator");
        Folder::import_roster(&path, &[next]).await.expect("room");
    }

    async fn admit(&mut self, application: &Signed) {
        let application = Application::open(application).expect("signed");
        let until = now() + YEAR;
        let next = self
            .roster
            .admit(application, &self.governance, now() - 1, until);
        self.publish(next.expect("a new member")).await;
    }

    async fn revoke(&mut self, member: MemberId) {
        let next = self.roster.revoke(member, &self.governance, now());
        self.publish(next.expect("a known member")).await;
    }

    /// Enrols a member, all the way.
    async fn member(&mut self, name: &str, role: Role) -> Membership {
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

fn write_policy(folder: &std::path::Path, more: &str) {
    let text = format!(
        "tasks = [\"tabular-classification\"]\nmin_cohort = 3\nstudy_epsilon = 8.0\n\
         allow_without_secure_aggregation = true\n{more}\n\
         [data_sets.rows]\nepsilon = 20.0\ndelta = 1e-4\n"
    );
    std::fs::write(folder.join("policy.toml"), text).expect("room");
}

fn settings() -> Settings {
    Settings {
        poll: Duration::from_secs(5),
        look_for_studies: Duration::from_millis(100),
        retry_first: Duration::from_millis(50),
        retry_longest: Duration::from_millis(500),
        ..Settings::default()
    }
}

fn plan(rounds: u32, steps: u32, privacy: &str) -> Plan {
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

const PRIVATE: &str = "clipping_norm = 1.0, epsilon = 4.0, delta = 1e-5";

/// A running agent.
struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), consilium_agent::participation::AgentError>>,
    store: Store,
}

async fn start(folder: &std::path::Path) -> Running {
    let agent = until("the folder is free", async || {
        Agent::open(folder, Arc::new(key()), settings()).await.ok()
    })
    .await;
    let (stop, store) = (CancellationToken::new(), agent.store().clone());
    let task = tokio::spawn(agent.run(stop.clone()));
    Running { stop, task, store }
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("a quiet end");
    }
}

/// The researcher's side of a study.
struct Study {
    id: StudyId,
    client: StudiesClient<tonic::transport::Channel>,
}

impl Study {
    async fn submit(researcher: &Membership, plan: &Plan) -> Self {
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

    async fn detail(&self) -> wire::StudyDetail {
        let request = wire::StudyRef::from(self.id);
        self.client
            .clone()
            .show(request)
            .await
            .expect("shown")
            .into_inner()
    }

    async fn finished(&self) -> wire::StudyDetail {
        until("the study is finished", async || {
            let detail = self.detail().await;
            let state = detail.summary.as_ref().expect("a summary").state();
            (state == StudyState::Finished).then_some(detail)
        })
        .await
    }
}

async fn three_sites(federation: &mut Federation) -> Vec<PathBuf> {
    let mut sites = Vec::new();
    for name in ["A", "B", "C"] {
        sites.push(federation.site(name).await);
    }
    sites
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hospitals_train_together_within_their_budgets() {
    let mut federation = Federation::new().await;
    let researcher = federation.member("researcher", Role::Researcher).await;
    let sites = three_sites(&mut federation).await;
    let study = Study::submit(&researcher, &plan(3, 4, PRIVATE)).await;
    let mut running = Vec::new();
    for site in &sites {
        running.push(start(site).await);
    }
    let detail = study.finished().await;
    assert_eq!(detail.versions.len(), 4);
    for version in &detail.versions[1..] {
        assert_eq!(version.contributions.len(), 3);
        for contribution in &version.contributions {
            let charge = contribution.charge.as_ref().expect("a private study");
            assert_eq!((contribution.weight, charge.steps), (1, 4));
            assert_eq!(
                (charge.sampling_rate, charge.sequence),
                (0.2, u64::from(version.number))
            );
            assert!(
                charge.epsilon > 0.0 && charge.epsilon <= 4.0,
                "{}",
                charge.epsilon
            );
        }
    }
    for agent in running {
        let entries = agent.store.ledger_entries().await.expect("it verifies");
        let rounds: Vec<_> = entries.iter().map(|entry| entry.round).collect();
        assert_eq!(rounds, [1, 2, 3], "each round was charged once");
        assert!(
            entries
                .iter()
                .all(|entry| entry.purpose == Purpose::Training)
        );
        for round in 1..=3 {
            let round = agent.store.round(study.id, round).await.expect("readable");
            assert!(round.is_some_and(|round| round.accepted && round.trainings == 1));
        }
        agent.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_in_training_pays_once_and_the_study_goes_on() {
    let mut federation = Federation::new().await;
    let researcher = federation.member("researcher", Role::Researcher).await;
    let sites = three_sites(&mut federation).await;
    let study = Study::submit(&researcher, &plan(2, 300, PRIVATE)).await;
    let (_a, _b) = (start(&sites[0]).await, start(&sites[1]).await);
    let dying = start(&sites[2]).await;
    until("the third site has charged", async || {
        let entries = dying.store.ledger_entries().await.expect("it verifies");
        (!entries.is_empty()).then_some(())
    })
    .await;
    // As good as a kill: the task goes without a farewell.
    dying.task.abort();
    dying.task.await.expect_err("it is gone");
    let again = start(&sites[2]).await;
    let detail = study.finished().await;
    assert_eq!(detail.versions.len(), 3);
    assert!(
        detail.versions[1..]
            .iter()
            .all(|version| version.contributions.len() == 3)
    );
    let entries = again.store.ledger_entries().await.expect("it verifies");
    assert_eq!(
        entries.iter().map(|entry| entry.round).collect::<Vec<_>>(),
        [1, 2]
    );
    let round = again
        .store
        .round(study.id, 1)
        .await
        .expect("readable")
        .expect("known");
    assert_eq!(round.trainings, 2, "trained again under the same charge");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_attempt_sends_the_same_update_again_at_no_charge() {
    let mut federation = Federation::new().await;
    let researcher = federation.member("researcher", Role::Researcher).await;
    let sites = three_sites(&mut federation).await;
    let mut plan = plan(1, 4, PRIVATE);
    plan.cohort.deadline = Duration::from_secs(2);
    let study = Study::submit(&researcher, &plan).await;
    let (first, second) = (start(&sites[0]).await, start(&sites[1]).await);
    // The third site agrees by command, and no agent runs there while the first attempt lasts.
    let third = Membership::open(&sites[2], &key()).expect("a member");
    let channel = third.connect().await.expect("a connection");
    let store = Store::open(&sites[2], Arc::new(key()))
        .await
        .expect("a store");
    let (policy, now) = (sites[2].join("policy.toml"), std::time::SystemTime::now());
    let policy = Policy::load(&policy).expect("a sound policy");
    assert_eq!(
        consent::look(channel.clone(), &store, now)
            .await
            .expect("an answer"),
        1
    );
    let seen = consent::list(&store, &policy)
        .await
        .expect("readable")
        .remove(0);
    assert_eq!((seen.study.id, seen.objections.len()), (study.id, 0));
    let digest = seen.study.plan_digest;
    consent::approve(&store, &policy, study.id, digest, now)
        .await
        .expect("within the policy");
    assert_eq!(
        consent::send(channel.clone(), &store).await.expect("heard"),
        1
    );
    assert_eq!(
        consent::send(channel, &store)
            .await
            .expect("nothing to say"),
        0
    );
    store.close().await;
    until("the first attempt has failed", async || {
        let request = wire::WatchRequest {
            study: study.id.as_bytes().to_vec(),
            from_event: 0,
        };
        let mut events = study
            .client
            .clone()
            .watch(request)
            .await
            .expect("shown")
            .into_inner();
        loop {
            let next = tokio::time::timeout(Duration::from_millis(100), events.message()).await;
            match next.ok()?.ok()??.event {
                Some(wire::study_event::Event::RoundFailed(_)) => return Some(()),
                _ => continue,
            }
        }
    })
    .await;
    let _third = start(&sites[2]).await;
    let detail = study.finished().await;
    assert_eq!(detail.versions[1].contributions.len(), 3);
    for site in [first, second] {
        assert_eq!(
            site.store
                .ledger_entries()
                .await
                .expect("it verifies")
                .len(),
            1
        );
        let round = site
            .store
            .round(study.id, 1)
            .await
            .expect("readable")
            .expect("known");
        assert_eq!((round.trainings, round.accepted), (1, true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_trained_before_a_person_approves_the_very_plan() {
    let mut federation = Federation::new().await;
    let researcher = federation.member("researcher", Role::Researcher).await;
    let sites = three_sites(&mut federation).await;
    write_policy(&sites[2], "");
    let study = Study::submit(&researcher, &plan(1, 2, PRIVATE)).await;
    let mut running = Vec::new();
    for site in &sites {
        running.push(start(site).await);
    }
    let store = &running[2].store;
    let known = until("the study is seen", async || {
        store.study(study.id).await.expect("readable")
    })
    .await;
    until("the others have approved", async || {
        (study.detail().await.decisions.len() == 2).then_some(())
    })
    .await;
    assert_eq!(known.decision, None);
    let state = study.detail().await.summary.expect("a summary").state();
    assert_eq!(state, StudyState::AwaitingConsent);

    let policy = Policy::load(&sites[2].join("policy.toml")).expect("a sound policy");
    let (plan, now) = (known.plan_digest, std::time::SystemTime::now());
    let other = consilium_proto::PlanDigest(Digest::plain(b"other"));
    let refused = consent::approve(store, &policy, study.id, other, now).await;
    assert!(matches!(refused, Err(ConsentError::OtherPlan { .. })));
    let closed = consent::approve(store, &Policy::default(), study.id, plan, now).await;
    let message = closed.expect_err("the policy is closed").to_string();
    assert!(
        message.contains("`tasks`") && message.contains("`min_cohort`"),
        "{message}"
    );
    consent::approve(store, &policy, study.id, plan, now)
        .await
        .expect("within the policy");
    study.finished().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_decides_alone_refuses_what_it_does_not_allow() {
    let mut federation = Federation::new().await;
    let researcher = federation.member("researcher", Role::Researcher).await;
    let sites = three_sites(&mut federation).await;
    let _agent = start(&sites[0]).await;
    let too_much = plan(1, 2, "clipping_norm = 1.0, epsilon = 9.0, delta = 1e-5");
    let study = Study::submit(&researcher, &too_much).await;
    let decision = until("the site has decided", async || {
        study.detail().await.decisions.into_iter().next()
    })
    .await;
    assert!(!decision.approved);
    assert!(
        decision.reason.contains("`study_epsilon` is 8"),
        "{}",
        decision.reason
    );
    let naked = Study::submit(&researcher, &plan(1, 2, "mode = \"none\"")).await;
    let decision = until("the site has decided", async || {
        naked.detail().await.decisions.into_iter().next()
    })
    .await;
    assert!(
        decision.reason.contains("`allow_no_privacy`"),
        "{}",
        decision.reason
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_privacy_is_trained_only_where_it_is_allowed_by_name() {
    let mut federation = Federation::new().await;
    let researcher = federation.member("researcher", Role::Researcher).await;
    let sites = three_sites(&mut federation).await;
    let mut running = Vec::new();
    for site in &sites {
        write_policy(site, "auto_approve = true\nallow_no_privacy = true");
        running.push(start(site).await);
    }
    let study = Study::submit(&researcher, &plan(2, 3, "mode = \"none\"")).await;
    let detail = study.finished().await;
    assert!(
        detail.versions[1]
            .contributions
            .iter()
            .all(|site| site.charge.is_none())
    );
    for agent in running {
        assert!(
            agent
                .store
                .ledger_entries()
                .await
                .expect("it verifies")
                .is_empty()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_member_connects_no_more() {
    let mut federation = Federation::new().await;
    let researcher = federation.member("researcher", Role::Researcher).await;
    let member = researcher.member().expect("in the roster").id;
    let channel = researcher.connect().await.expect("a connection");
    let mut client = RoundsClient::new(channel.clone());
    let denied = client
        .next_work(wire::WorkRequest { wait_seconds: 0 })
        .await;
    assert_eq!(
        denied.expect_err("not a site").code(),
        tonic::Code::PermissionDenied
    );
    federation.revoke(member).await;
    until("the connection is refused", async || {
        match researcher.connect().await {
            Ok(channel) => StudiesClient::new(channel)
                .list(wire::Empty {})
                .await
                .is_err()
                .then_some(()),
            Err(_) => Some(()),
        }
    })
    .await;
    assert_eq!(
        researcher.collect().await.expect("an answer"),
        Enrolment::Revoked
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_coordinator_and_another_governance_are_not_believed() {
    let mut federation = Federation::new().await;
    let address = federation.coordinator.address().to_owned();
    let other_key = Coordinator::new(&address, Digest::plain(b"other")).expect("an address");
    let root = federation.governance.public_key().fingerprint();
    let (name, role) = ("X".parse().expect("a name"), Role::Site);
    let create = |folder: PathBuf, coordinator: &Coordinator, root: Digest| {
        let made = Membership::create(&folder, &key(), &name, role, coordinator, root);
        made.expect("a new folder").0
    };
    let stranger = create(federation.path("x"), &other_key, root);
    let refused = stranger.apply().await.expect_err("another key answers");
    assert!(refused.to_string().contains("another TLS key"), "{refused}");

    let misled = create(
        federation.path("y"),
        &federation.coordinator,
        Digest::plain(b"liar"),
    );
    misled.apply().await.expect("anybody may apply");
    let pending = Folder::pending(&federation.path("coordinator"))
        .await
        .expect("readable");
    federation.admit(&pending[0].0).await;
    let refused = until("governance has admitted", async || {
        match misled.collect().await {
            Ok(_) => None,
            Err(error) => Some(error),
        }
    })
    .await;
    assert!(matches!(refused, MembershipError::Roster(_)), "{refused}");
    assert!(
        misled.roster().is_none(),
        "nothing is kept of what is not believed"
    );
}
