//! Whole studies without network: the real driver, uploads and blobs, on stores that die.

use consilium_proto::{ChunkPlan, ParameterVector, Plan, RoundSpec, Statement, plan::Strategy};
use object_store::memory::InMemory;

mod secure;

use super::*;
use crate::{
    audit_log,
    blobs::BlobName,
    fixture::{Federation, Hand, NOW, layout, plan, record, site, study_id},
    publication::ModelCard,
    roster::import,
    round::DeclineReason,
    store::{
        MemoryStore, SqliteStore,
        tests::{Death, Mortal},
    },
    study::{Phase, Verdict},
    uploads::{Begun, UploadError, Uploads},
};

const PARAMETERS: usize = 600;
const CHUNK: u32 = 1024;
const SITES: u16 = 3;
const ROUNDS: u32 = 2;

/// What outlives a crash: disks, keys, the sites.
struct World {
    federation: Federation,
    objects: Arc<InMemory>,
    coordinator: Arc<Signer>,
    hand: Hand,
}

/// What a crash takes away.
struct Process<S> {
    driver: Arc<Driver<S>>,
    uploads: Uploads<S>,
    blobs: Blobs,
    store: Arc<S>,
}

impl World {
    fn new() -> Self {
        Self {
            federation: Federation::of_sites(SITES),
            objects: Arc::new(InMemory::new()),
            coordinator: Arc::new(crate::fixture::signer()),
            hand: Hand::new(),
        }
    }

    async fn start<S: Store>(&self, store: Arc<S>) -> Result<Process<S>, UploadError> {
        let key = Arc::new(consilium_privacy::seal::SealingKey::from_bytes([3; 32]));
        let blobs = Blobs::new(self.objects.clone(), key);
        let clock = self.hand.clock();
        let root = self.federation.trust_root();
        let members = Arc::new(Members::new(store.clone(), root, clock.clone()));
        members.refresh().await.map_err(DriveError::from)?;
        let driver = Arc::new(Driver::new(
            store.clone(),
            blobs.clone(),
            members,
            self.coordinator.clone(),
            clock.clone(),
            Duration::from_secs(2),
        ));
        let uploads = Uploads::new(driver.clone(), store.clone(), blobs.clone(), clock, 4);
        Ok(Process {
            driver,
            uploads,
            blobs,
            store,
        })
    }

    async fn prepare(&self, store: &impl Store) {
        let root = self.federation.trust_root();
        import(store, &root, &self.federation.epochs, NOW)
            .await
            .expect("our own epochs");
    }
}

fn update_of(id: u16, round: u32) -> ParameterVector {
    let value = |i: usize| (i % 17) as f32 * 0.01 + f32::from(id) - 0.3 * round as f32;
    ParameterVector::new((0..PARAMETERS).map(value).collect()).expect("finite")
}

/// The last version, computed in one go.
fn expected() -> ParameterVector {
    let mut model = vec![0.0_f32; PARAMETERS];
    for round in 1..=ROUNDS {
        let updates: Vec<_> = (1..=SITES).map(|id| update_of(id, round)).collect();
        for (i, x) in model.iter_mut().enumerate() {
            let sum: f64 = (1..=SITES)
                .zip(&updates)
                .map(|(weight, update)| f64::from(weight) * f64::from(update.as_slice()[i]))
                .sum();
            *x = (f64::from(*x) + sum / 6.0) as f32;
        }
    }
    ParameterVector::new(model).expect("finite")
}

impl<S: Store> Process<S> {
    async fn submit(&self) -> Result<(), UploadError> {
        self.submit_as(plan(u32::from(SITES), ROUNDS)).await
    }

    async fn submit_as(&self, plan: Plan) -> Result<(), UploadError> {
        let start = ParameterVector::zeros(&layout(PARAMETERS));
        let chunks = start.to_bytes();
        for (index, chunk) in (0..).zip(chunks.chunks(CHUNK as usize)) {
            self.blobs
                .write(&BlobName::version(study_id(7), 0), index, chunk)
                .await?;
        }
        let record = StudyRecord {
            layout: layout(PARAMETERS),
            chunk_bytes: CHUNK,
            ..record(plan)
        };
        let version = wire::Version {
            sums: None,
            number: 0,
            model_digest: start.digest(&record.layout).as_bytes().to_vec(),
            published_at: NOW.0,
            contributions: vec![],
        };
        self.driver.submit(record, version).await?;
        Ok(())
    }

    async fn approve(&self) -> Result<(), UploadError> {
        for id in 1..=SITES {
            let input = Input::Decided {
                site: site(id),
                verdict: Verdict {
                    approved: true,
                    reason: String::new(),
                },
                active: self.driver.members.active_sites(),
            };
            match self
                .driver
                .apply(study_id(7), None, input, Change::default())
                .await
            {
                // An agent that asks again after the study has ended is told so.
                Ok(_) | Err(DriveError::Refused(study::Refusal::Finished)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn perform_all(&self) -> Result<(), DriveError> {
        loop {
            let effects = self.store.effects().await?;
            if effects.is_empty() {
                return Ok(());
            }
            for (id, study, effect) in effects {
                self.driver.perform(id, study, effect).await?;
            }
        }
    }

    /// What an agent does with the work it gets.
    async fn answer(&self, world: &World, id: u16) -> Result<bool, UploadError> {
        let Some(signed) = self.driver.work_for(site(id)).await? else {
            return Ok(false);
        };
        let spec = RoundSpec::open(&signed, &world.coordinator.public_key())?;
        let update = update_of(id, spec.round.round);
        let statement = statement(&signed, &spec, &update, u32::from(id));
        let signed = statement.sign(&world.federation.keys[usize::from(id) - 1]);
        match self
            .uploads
            .begin(&world.federation.member(id), signed)
            .await?
        {
            Begun::Accepted(_) => {}
            Begun::Open(mut upload) => {
                let bytes = update.to_bytes();
                for (index, chunk) in (0..).zip(bytes.chunks(CHUNK as usize)) {
                    upload.take(index, chunk).await?;
                }
                self.uploads.finish(*upload).await?;
            }
        }
        Ok(true)
    }

    /// Everything that people and agents do, from the start; what was done before changes nothing.
    async fn play(&self, world: &World) -> Result<(), UploadError> {
        self.submit().await?;
        self.approve().await?;
        loop {
            self.perform_all().await?;
            let mut answered = 0;
            for id in 1..=SITES {
                answered += u32::from(self.answer(world, id).await?);
            }
            if answered == 0 && self.store.effects().await?.is_empty() {
                return Ok(());
            }
        }
    }

    async fn study(&self) -> StudyRecord {
        self.store
            .study(study_id(7))
            .await
            .expect("a store")
            .expect("the study")
    }
}

fn statement(
    signed: &Signed,
    spec: &RoundSpec,
    update: &ParameterVector,
    weight: u32,
) -> Statement {
    let layout = layout(PARAMETERS);
    Statement {
        context: RoundSpec::context(signed),
        round: spec.round,
        layout_digest: layout.digest(),
        update_digest: update.digest(&layout),
        transfer: ChunkPlan::new(4 * PARAMETERS as u64, CHUNK).expect("a sound plan"),
        weight: Some(weight),
        charge: None,
    }
}

/// What must be true of a finished study, whatever happened on the way.
async fn assert_finished(world: &World, store: &impl Store, context: &str) {
    let study = store
        .study(study_id(7))
        .await
        .expect("a store")
        .expect("the study");
    assert_eq!(*study.study.phase(), Phase::Finished, "{context}");
    let versions = store.versions(study_id(7)).await.expect("a store");
    let last = versions.last().expect("versions");
    let expected = expected().digest(&layout(PARAMETERS));
    assert_eq!(last.model_digest, expected.as_bytes(), "{context}");
    for version in &versions[1..] {
        let sites: Vec<_> = version.contributions.iter().map(|c| c.site).collect();
        assert_eq!(
            sites,
            [1, 2, 3],
            "{context}: each site counts once in every version"
        );
    }
    let release = store
        .release(study_id(7))
        .await
        .expect("a store")
        .expect("a release");
    let card = ModelCard::open(&release.card, &world.coordinator.public_key());
    assert_eq!(
        card.expect("our own card").model_digest,
        expected,
        "{context}"
    );
    let log = store.log(1, 1000).await.expect("a store");
    let count = |action| log.iter().filter(|entry| entry.action == action).count();
    let expected = [
        ("study submitted", 1),
        ("study decided", 3),
        ("round opened", 2),
        ("update accepted", 6),
        ("version published", 2),
        ("study finished", 1),
        ("model released", 1),
    ];
    for (action, times) in expected {
        assert_eq!(count(action), times, "{context}: {action}");
    }
    let events = store.events(study_id(7), 0, 1000).await.expect("a store");
    assert!(
        events
            .iter()
            .zip(0..)
            .all(|(event, number)| event.number == number),
        "{context}"
    );
    audit_log::verify(None, log).expect("an unbroken chain");
}

#[tokio::test]
async fn a_study_runs_from_submission_to_release() {
    let world = World::new();
    let store = Arc::new(MemoryStore::new());
    world.prepare(&*store).await;
    let process = world.start(store.clone()).await.expect("a sound store");
    process.play(&world).await.expect("no crash");
    assert_finished(&world, &*store, "undisturbed").await;
    for round in 1..=ROUNDS {
        let id = RoundId {
            study: study_id(7),
            round,
            attempt: 1,
        };
        let name = BlobName::update(id, site(1));
        assert_eq!(
            process.blobs.count(&name).await.expect("memory"),
            0,
            "spool is tidied"
        );
    }
}

#[tokio::test]
async fn where_updates_are_added_up_a_site_that_weighs_more_than_another_is_refused() {
    let (world, store) = (World::new(), Arc::new(MemoryStore::new()));
    world.prepare(&*store).await;
    let process = world.start(store).await.expect("a sound store");
    let plan = Plan {
        strategy: Strategy::Sum,
        ..plan(u32::from(SITES), ROUNDS)
    };
    process.submit_as(plan).await.expect("a new study");
    process.approve().await.expect("they agree");
    process.perform_all().await.expect("a round opens");
    assert!(process.answer(&world, 1).await.expect("it weighs 1"));
    let refused = process.answer(&world, 2).await.expect_err("it weighs 2");
    let refused = refused.to_string();
    assert!(refused.contains("weight must be up to 1"), "{refused}");
}

/// Dies once, before or after each commit there is, and goes on with a new process.
#[tokio::test]
async fn a_crash_before_or_after_any_commit_loses_no_update_and_counts_none_twice() {
    let commits = {
        let (world, store) = (World::new(), Arc::new(MemoryStore::new()));
        world.prepare(&*store).await;
        let mortal = Arc::new(Mortal::new(store, None));
        world
            .start(mortal.clone())
            .await
            .expect("alive")
            .play(&world)
            .await
            .expect("alive");
        mortal.commits()
    };
    assert_eq!(
        commits, 17,
        "1 submission, 3 answers, 6 for each round, 1 release"
    );
    for death in (0..commits).flat_map(|at| [Death::Before(at), Death::After(at)]) {
        let (world, store) = (World::new(), Arc::new(MemoryStore::new()));
        world.prepare(&*store).await;
        let mortal = Arc::new(Mortal::new(store.clone(), Some(death)));
        let died = match world.start(mortal).await {
            Ok(process) => Box::pin(process.play(&world)).await,
            Err(error) => Err(error),
        };
        assert!(died.is_err(), "{death:?} did not happen");
        let survivor = world.start(store.clone()).await.expect("a sound store");
        survivor.play(&world).await.expect("no second crash");
        assert_finished(&world, &*store, &format!("{death:?}")).await;
    }
}

#[tokio::test]
async fn crashes_lose_nothing_on_disk_either() {
    for at in (0..17).step_by(4) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("db");
        let world = World::new();
        let store = Arc::new(SqliteStore::open(&path).await.expect("a new database"));
        world.prepare(&*store).await;
        let mortal = Arc::new(Mortal::new(store.clone(), Some(Death::After(at))));
        let died = match world.start(mortal).await {
            Ok(process) => Box::pin(process.play(&world)).await,
            Err(error) => Err(error),
        };
        assert!(died.is_err(), "commit {at} did not happen");
        store.close().await;
        let store = Arc::new(SqliteStore::open(&path).await.expect("our own database"));
        let survivor = world.start(store.clone()).await.expect("a sound store");
        let played = Box::pin(survivor.play(&world)).await;
        played.expect("no second crash");
        assert_finished(&world, &*store, &format!("after commit {at}")).await;
    }
}

/// A study that runs, with round 1 open.
async fn opened() -> (World, Process<MemoryStore>) {
    let (world, store) = (World::new(), Arc::new(MemoryStore::new()));
    world.prepare(&*store).await;
    let process = world.start(store).await.expect("a sound store");
    process.submit().await.expect("a sound study");
    process.approve().await.expect("approvals");
    process.perform_all().await.expect("a drawn cohort");
    (world, process)
}

#[tokio::test]
async fn attempts_that_miss_their_deadline_end_in_a_stop_that_can_be_resumed() {
    let (world, process) = opened().await;
    for attempt in 1..=2 {
        assert_eq!(process.study().await.study.next().attempt, attempt);
        assert!(process.answer(&world, 1).await.expect("in time"));
        world.hand.advance(61);
        process.driver.tick().await.expect("a sound store");
        process.perform_all().await.expect("a sound store");
    }
    let record = process.study().await;
    let reason = record.study.reason();
    assert!(reason.contains("1 of 3 needed updates came"), "{reason}");
    assert!(
        !process.answer(&world, 1).await.expect("no work"),
        "a stopped study has no work"
    );
    let active = process.driver.members.active_sites();
    let resumed = process.driver.apply(
        study_id(7),
        None,
        Input::Resume { active },
        Change::default(),
    );
    resumed.await.expect("it has stopped");
    process.play(&world).await.expect("a sound store");
    assert_eq!(*process.study().await.study.phase(), Phase::Finished);
}

#[tokio::test]
async fn an_update_for_a_closed_round_is_refused_and_its_spool_deleted() {
    let (world, process) = opened().await;
    let signed = process
        .driver
        .work_for(site(1))
        .await
        .expect("a store")
        .expect("work");
    let spec = RoundSpec::open(&signed, &world.coordinator.public_key()).expect("signed");
    let update = update_of(1, 1);
    let statement = statement(&signed, &spec, &update, 1).sign(&world.federation.keys[0]);
    let member = world.federation.member(1);
    let begun = process
        .uploads
        .begin(&member, statement.clone())
        .await
        .expect("in time");
    let Begun::Open(mut upload) = begun else {
        panic!("nothing was sent yet")
    };
    for (index, chunk) in (0..).zip(update.to_bytes().chunks(CHUNK as usize)) {
        upload.take(index, chunk).await.expect("a sound chunk");
    }
    let reason = DeclineReason::Failed;
    let declined = round::Input::Declined {
        site: site(2),
        reason,
    };
    let input = Input::Round(spec.round, declined);
    process
        .driver
        .apply(study_id(7), None, input, Change::default())
        .await
        .expect("taken");
    let late = process
        .uploads
        .finish(*upload)
        .await
        .expect_err("the round has failed");
    assert!(late.to_string().contains("is closed"), "{late}");
    let name = BlobName::update(spec.round, site(1));
    assert_eq!(process.blobs.count(&name).await.expect("memory"), 0);
    let Err(again) = process.uploads.begin(&member, statement).await else {
        panic!("a closed round took an update");
    };
    assert!(again.to_string().contains("is closed"), "{again}");
}

#[tokio::test]
async fn a_site_that_was_revoked_is_not_drawn_again() {
    let (mut world, process) = opened().await;
    world.federation.revoke(2);
    world.prepare(&*process.store).await;
    world.hand.advance(61);
    process.driver.tick().await.expect("a sound store");
    process.perform_all().await.expect("a sound store");
    let record = process.study().await;
    assert_eq!(*record.study.phase(), Phase::AwaitingConsent);
    assert_eq!(record.study.round(), None);
}

#[tokio::test]
async fn a_study_id_is_taken_by_its_first_plan() {
    let (_, process) = opened().await;
    process.submit().await.expect("the same study again");
    let other = StudyRecord {
        layout: layout(PARAMETERS),
        ..record(plan(2, 1))
    };
    let start = process
        .store
        .versions(study_id(7))
        .await
        .expect("a store")
        .remove(0);
    let refused = process.driver.submit(other, start).await;
    assert!(matches!(refused, Err(DriveError::Taken(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn the_running_driver_performs_effects_and_lets_time_act() {
    let (world, process) = opened().await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(process.driver.clone().run(stop.clone()));
    let mut moves = process.driver.moves();
    for id in 1..=SITES {
        assert!(process.answer(&world, id).await.expect("in time"));
    }
    while process.study().await.study.version() == 0 {
        moves.changed().await.expect("the driver lives");
    }
    while process.study().await.study.round().is_none() {
        moves.changed().await.expect("the driver lives");
    }
    world.hand.advance(61);
    while process.study().await.study.next().attempt == 1 {
        moves.changed().await.expect("the driver lives");
    }
    stop.cancel();
    running.await.expect("no panic");
}
