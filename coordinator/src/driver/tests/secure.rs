//! Whole studies with secure aggregation, without network: real machines on both sides, a
//! coordinator that dies.

use consilium_privacy::secagg::{
    Limits,
    encoding::encode,
    message::{Outcome, ToCoordinator},
    site::{Effect as Asked, History, Input as ToMachine, MaskedVector, Site},
};
use consilium_proto::vector::ModelHasher;

use super::*;
use crate::driver::{Next, SecureError};

/// Turns after which a study should long be finished.
const TURNS: usize = 200;

fn secure_plan() -> Plan {
    Plan {
        secure_aggregation: true,
        update_bound: Some(100.0),
        ..plan(u32::from(SITES), ROUNDS)
    }
}

/// A site that outlives the coordinator's crashes.
struct Hospital {
    id: u16,
    machine: Option<(RoundId, Site)>,
    /// Messages that the coordinator may not have heard.
    unsent: Vec<ToCoordinator>,
    upload: Option<(MaskedVector, Vec<u8>, Signed)>,
    outcomes: Vec<Outcome>,
    /// What it should not state.
    stated_weight: Option<u32>,
}

impl Hospital {
    fn new(id: u16) -> Self {
        Self {
            id,
            machine: None,
            unsent: Vec::new(),
            upload: None,
            outcomes: Vec::new(),
            stated_weight: None,
        }
    }

    fn take(&mut self, effects: Vec<Asked>, spec: Option<&Signed>) {
        let mut masked = None;
        for effect in effects {
            match effect {
                Asked::Persist(_) => {}
                Asked::Upload(vector) => masked = Some(vector),
                Asked::Send(ToCoordinator::Trailer(trailer)) => {
                    let vector = masked.take().expect("before its trailer");
                    let spec = spec.expect("a specification").clone();
                    self.upload = Some((vector, trailer, spec));
                }
                Asked::Send(message) => self.unsent.push(message),
                Asked::Concluded(outcome) => self.outcomes.push(outcome),
            }
        }
    }

    /// One turn: whether anything was done.
    async fn step<S: Store>(
        &mut self,
        world: &World,
        process: &Process<S>,
    ) -> Result<bool, UploadError> {
        let me = site(self.id);
        let now = world.hand.clock().now().to_system_time();
        if let (Some(message), Some((round, _))) = (self.unsent.first(), &self.machine) {
            process.driver.hear(*round, me, message.clone()).await?;
            self.unsent.remove(0);
            return Ok(true);
        }
        if self.upload.is_some() {
            self.send_upload(world, process).await?;
            self.upload = None;
            return Ok(true);
        }
        let Some((round, machine)) = &mut self.machine else {
            return self.join(world, process).await;
        };
        let (round, id) = (*round, self.id);
        if machine.is_ready() {
            let update = update_of(id, round.round);
            let vector = encode(machine.terms(), update.as_slice(), u32::from(id), &[]);
            let vector = vector.expect("within its bound");
            let input = ToMachine::Update {
                vector,
                sequence: None,
            };
            let effects = machine.handle(input, now).expect("it is ready");
            let spec = process.store.spec(round).await?;
            self.take(effects, spec.as_ref());
            return Ok(true);
        }
        match process.driver.next_message(round, me).await? {
            Next::Wait => Ok(false),
            Next::Message(message) => {
                let effects = machine.handle(ToMachine::Message(message), now);
                let effects = effects.expect("an honest coordinator");
                self.take(effects, None);
                if self.outcomes.len() == round.round as usize {
                    self.machine = None;
                }
                Ok(true)
            }
        }
    }

    async fn join<S: Store>(
        &mut self,
        world: &World,
        process: &Process<S>,
    ) -> Result<bool, UploadError> {
        let Some(signed) = process.driver.work_for(site(self.id)).await? else {
            return Ok(false);
        };
        let spec = RoundSpec::open(&signed, &world.coordinator.public_key())?;
        let roster = world.federation.roster();
        let key_of = |site: SiteId| roster.member(site.0).map(|member| member.identity_key);
        let limits = Limits {
            min_cohort: 3,
            colluding: 0,
            honest: 3,
        };
        let end = spec
            .secure_aggregation
            .as_ref()
            .expect("a secure study")
            .end;
        let deadline = crate::clock::Timestamp(end).to_system_time();
        let terms = spec.terms(
            &signed,
            &secure_plan(),
            PARAMETERS,
            key_of,
            limits,
            deadline,
        );
        let signer = world.federation.keys[usize::from(self.id) - 1].clone();
        let now = world.hand.clock().now().to_system_time();
        let opened = Site::open(
            terms.expect("sound"),
            site(self.id).into(),
            Box::new(signer),
            &History::default(),
            now,
        );
        let (machine, effects) = opened.expect("in the cohort");
        self.machine = Some((spec.round, machine));
        self.take(effects, None);
        Ok(true)
    }

    async fn send_upload<S: Store>(
        &self,
        world: &World,
        process: &Process<S>,
    ) -> Result<(), UploadError> {
        let Some((vector, trailer, signed)) = &self.upload else {
            return Ok(());
        };
        let spec = RoundSpec::open(signed, &world.coordinator.public_key())?;
        let bytes = vector.bytes(0..vector.len());
        let layout = layout(PARAMETERS);
        let mut hasher = ModelHasher::new(&layout);
        hasher.update(&bytes);
        let statement = Statement {
            context: RoundSpec::context(signed),
            round: spec.round,
            layout_digest: layout.digest(),
            update_digest: hasher.finish(),
            transfer: ChunkPlan::new(bytes.len() as u64, CHUNK).expect("a sound plan"),
            weight: self.stated_weight,
            charge: None,
        };
        let signed = statement.sign(&world.federation.keys[usize::from(self.id) - 1]);
        let member = world.federation.member(self.id);
        match process.uploads.begin(&member, signed).await? {
            Begun::Accepted(_) => Ok(()),
            Begun::Open(mut upload) => {
                for (index, chunk) in (0..).zip(bytes.chunks(CHUNK as usize)) {
                    upload.take(index, chunk).await?;
                }
                upload.close(trailer.clone());
                process.uploads.finish(*upload).await.map(drop)
            }
        }
    }
}

impl<S: Store> Process<S> {
    /// Everything that people and hospitals do until nothing more happens.
    async fn play_secure(
        &self,
        world: &World,
        hospitals: &mut [Hospital],
    ) -> Result<(), UploadError> {
        self.submit_as(secure_plan()).await?;
        self.approve().await?;
        for _ in 0..TURNS {
            self.perform_all().await?;
            self.driver.tick().await?;
            let mut done = 0;
            for hospital in hospitals.iter_mut() {
                done += u32::from(hospital.step(world, self).await?);
            }
            if done == 0 && self.store.effects().await?.is_empty() {
                return Ok(());
            }
        }
        panic!("the study does not end");
    }
}

fn hospitals() -> Vec<Hospital> {
    (1..=SITES).map(Hospital::new).collect()
}

async fn assert_summed<S: Store>(process: &Process<S>, hospitals: &[Hospital], context: &str) {
    assert_eq!(
        *process.study().await.study.phase(),
        Phase::Finished,
        "{context}"
    );
    let versions = process.store.versions(study_id(7)).await.expect("a store");
    assert_eq!(versions.len(), 1 + ROUNDS as usize, "{context}");
    for version in &versions[1..] {
        assert_eq!(version.contributions.len(), 3, "{context}");
        assert!(
            version.contributions.iter().all(|one| one.weight == 0),
            "{context}"
        );
        assert_eq!(
            version.sums.as_ref().expect("secure").weight,
            6,
            "{context}"
        );
        let id = RoundId {
            study: study_id(7),
            round: version.number,
            attempt: 1,
        };
        let lines = process.store.journal(id).await.expect("a store");
        let kinds = |kind: u8| lines.iter().filter(|line| line[0] == kind).count();
        assert_eq!(kinds(8), 1, "{context}: one list of survivors");
        assert_eq!(kinds(9), 1, "{context}: one outcome");
    }
    for hospital in hospitals {
        let heard: Vec<_> = hospital
            .outcomes
            .iter()
            .map(|outcome| outcome.model.to_vec())
            .collect();
        let published: Vec<_> = versions[1..]
            .iter()
            .map(|version| version.model_digest.clone())
            .collect();
        assert_eq!(
            heard, published,
            "{context}: each site heard of each version"
        );
    }
    let last = BlobName::version(study_id(7), ROUNDS);
    let mut model = Vec::new();
    for index in 0..process.blobs.count(&last).await.expect("memory") {
        let chunk = process.blobs.read(&last, index).await.expect("written");
        model.extend(consilium_proto::vector::words(&chunk).expect("whole words"));
    }
    let expected = expected();
    for (found, expected) in model.iter().zip(expected.as_slice()) {
        assert!(
            (found - expected).abs() < 1e-4,
            "{context}: {found} for {expected}"
        );
    }
    let log = process.store.log(1, 1000).await.expect("a store");
    audit_log::verify(None, log).expect("an unbroken chain");
    assert_eq!(model.len(), PARAMETERS, "{context}");
}

#[tokio::test]
async fn a_study_of_which_only_sums_are_learned_gives_the_weighted_mean() {
    let (world, store) = (World::new(), Arc::new(MemoryStore::new()));
    world.prepare(&*store).await;
    let process = world.start(store).await.expect("a sound store");
    let mut hospitals = hospitals();
    process
        .play_secure(&world, &mut hospitals)
        .await
        .expect("no crash");
    assert_summed(&process, &hospitals, "undisturbed").await;
}

/// Sites go on with what they hold in memory; the coordinator takes its attempts up from their
/// journals.
#[tokio::test]
async fn a_coordinator_that_dies_at_any_commit_goes_on_with_the_same_attempt() {
    let commits = {
        let (world, store) = (World::new(), Arc::new(MemoryStore::new()));
        world.prepare(&*store).await;
        let mortal = Arc::new(Mortal::new(store, None));
        let process = world.start(mortal.clone()).await.expect("alive");
        Box::pin(process.play_secure(&world, &mut hospitals()))
            .await
            .expect("alive");
        mortal.commits()
    };
    assert!(
        commits > 30,
        "each message of each site is a commit: {commits}"
    );
    for number in 0..commits {
        for death in [Death::Before(number), Death::After(number)] {
            let (world, store) = (World::new(), Arc::new(MemoryStore::new()));
            world.prepare(&*store).await;
            let mut hospitals = hospitals();
            let mortal = Arc::new(Mortal::new(store.clone(), Some(death)));
            if let Ok(process) = world.start(mortal).await {
                Box::pin(process.play_secure(&world, &mut hospitals))
                    .await
                    .expect_err("it dies");
            }
            let process = world.start(store).await.expect("a sound store");
            let context = format!("{death:?}");
            process
                .play_secure(&world, &mut hospitals)
                .await
                .unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_summed(&process, &hospitals, &context).await;
        }
    }
}

#[tokio::test]
async fn an_attempt_that_was_stopped_gives_sites_nothing_more() {
    let (world, store) = (World::new(), Arc::new(MemoryStore::new()));
    world.prepare(&*store).await;
    let process = world.start(store).await.expect("a sound store");
    process.submit_as(secure_plan()).await.expect("sound");
    process.approve().await.expect("all");
    process.perform_all().await.expect("drawn");
    let mut hospitals = hospitals();
    for hospital in &mut hospitals {
        hospital.step(&world, &process).await.expect("it joins");
        hospital
            .step(&world, &process)
            .await
            .expect("it sends its keys");
    }
    let stop = Input::Stop {
        by: "a test".into(),
    };
    let stopped = process
        .driver
        .apply(study_id(7), None, stop, Change::default());
    stopped.await.expect("it runs");
    process.perform_all().await.expect("discarded");
    let round = hospitals[0].machine.as_ref().expect("it takes part").0;
    let refused = process.driver.next_message(round, site(1)).await;
    assert!(matches!(refused, Err(DriveError::Secure(SecureError::Closed(it))) if it == round));
}

#[tokio::test]
async fn a_weight_in_the_clear_beside_a_masked_update_is_refused() {
    let (world, store) = (World::new(), Arc::new(MemoryStore::new()));
    world.prepare(&*store).await;
    let process = world.start(store).await.expect("a sound store");
    let mut hospitals = hospitals();
    hospitals[0].stated_weight = Some(1);
    let refused = process.play_secure(&world, &mut hospitals).await;
    let refused = refused.expect_err("it states its weight").to_string();
    assert!(
        refused.contains("weight must be among what is summed"),
        "{refused}"
    );
}
