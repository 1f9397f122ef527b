//! Agents against a coordinator, in one process over loopback: enrolment, consent, rounds, and
//! what happens when an agent dies or must not take part.

mod federation;
mod hostile;
mod interceptor;
mod secure;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use consilium_agent::{
    Membership,
    consent::{self, ConsentError},
    data,
    membership::{Enrolment, MembershipError},
    policy::Policy,
    store::Store,
};
use consilium_coordinator::Folder;
use consilium_privacy::{
    ledger::{Entry, Purpose},
    seal::read_sealed,
};
use consilium_proto::{
    Digest, ErrorCode, LedgerHead, Receipt, Role, Signer, TreeHead,
    rpc::Coordinator,
    wire::{self, StudyState, rounds_client::RoundsClient, studies_client::StudiesClient},
};

use crate::federation::{
    Federation, PRIVATE, Study, key, plan, start, three_sites, until, write_policy,
};

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
                // The budget comes first, then charge and update of each round.
                (0.2, u64::from(2 * version.number))
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
        assert_eq!(trained(&entries), [1, 2, 3], "each round was charged once");
        assert_recorded(&agent.store, &entries).await;
        for round in 1..=3 {
            let round = agent.store.round(study.id, round).await.expect("readable");
            assert!(round.is_some_and(|round| round.accepted && round.trainings == 1));
        }
        agent.end().await;
    }
}

/// Rounds whose training was charged, in order.
fn trained(entries: &[Entry]) -> Vec<u32> {
    let charges = entries.iter().filter_map(|entry| entry.fact.charged());
    let training = charges.filter(|charged| charged.purpose == Purpose::Training);
    training.map(|charged| charged.round).collect()
}

/// Each charge has its secret at the site, and stands before the one update that it paid for.
async fn assert_recorded(store: &Store, entries: &[Entry]) {
    for entry in entries {
        let Some(charged) = entry.fact.charged() else {
            continue;
        };
        let key = charged.key.expect("training commits to a secret");
        assert!(store.secret(&key).expect("readable").is_some());
        let made = entries
            .iter()
            .filter_map(|entry| Some((entry, entry.fact.made()?)));
        let made: Vec<_> = made
            .filter(|(_, made)| made.charge == entry.sequence)
            .collect();
        assert!(
            matches!(made[..], [(later, made)]
                if later.sequence > entry.sequence && made.taken == charged.charge.releases()),
            "entry {}",
            entry.sequence
        );
    }
    let newest = entries.last().expect("not empty");
    assert!(newest.is_signed_by(&store.ledger_public_key()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_in_training_pays_once_and_the_study_goes_on() {
    let mut federation = Federation::new().await;
    let researcher = federation.member("researcher", Role::Researcher).await;
    let sites = three_sites(&mut federation).await;
    let study = Study::submit(&researcher, &plan(2, 1000, PRIVATE)).await;
    let (_a, _b) = (start(&sites[0]).await, start(&sites[1]).await);
    let dying = start(&sites[2]).await;
    until("the third site has charged", async || {
        let entries = dying.store.ledger_entries().await.expect("it verifies");
        (!trained(&entries).is_empty()).then_some(())
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
    assert_eq!(trained(&entries), [1, 2]);
    assert_recorded(&again.store, &entries).await;
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
            trained(&site.store.ledger_entries().await.expect("it verifies")),
            [1]
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
        misled.collect().await.err()
    })
    .await;
    assert!(matches!(refused, MembershipError::Roster(_)), "{refused}");
    assert!(
        misled.roster().is_none(),
        "nothing is kept of what is not believed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_update_that_left_has_a_receipt_and_an_older_copy_of_the_ledger_ends_the_agent() {
    let mut federation = Federation::new().await;
    let researcher = federation.member("researcher", Role::Researcher).await;
    let sites = three_sites(&mut federation).await;
    let train = async |seed: u64| {
        let mut plan = plan(1, 4, PRIVATE);
        plan.seed = seed;
        let study = Study::submit(&researcher, &plan).await;
        let mut running = Vec::new();
        for site in &sites {
            running.push(start(site).await);
        }
        study.finished().await;
        let mut receipts = Vec::new();
        for agent in running {
            let newest = agent.store.ledger_head().await.expect("it verifies");
            let kept = agent.store.receipts().await.expect("readable");
            assert_eq!(kept.last().expect("a receipt").0, newest.sequence);
            receipts.push(kept);
            agent.end().await;
        }
        receipts
    };
    let first = train(1).await;
    let copy = federation.path("copy");
    std::fs::create_dir(&copy).expect("room");
    for file in std::fs::read_dir(&sites[2]).expect("a folder") {
        let file = file.expect("an entry");
        if file.file_type().expect("a kind").is_file() {
            std::fs::copy(file.path(), copy.join(file.file_name())).expect("room");
        }
    }
    let second = train(2).await;

    let third = Membership::open(&sites[2], &key()).expect("a member");
    let coordinator = third.coordinator_identity_key().expect("in the roster");
    assert_eq!((first[2].len(), second[2].len()), (1, 2));
    for (sequence, receipt) in &second[2] {
        let receipt = Receipt::from_bytes(&receipt.to_bytes()).expect("its own bytes");
        let verified = receipt.verify(&coordinator).expect("sound");
        assert_eq!(verified.head.sequence, *sequence);
        assert_eq!(Some(verified.head.site), third.site_id());
        assert_eq!(verified.site_key, third.identity().public_key());
    }
    let earlier = second[2][1].1.earlier.as_ref();
    assert_eq!(earlier, Some(&second[2][0].1.tree_head));
    a_count_that_no_update_followed_is_logged_at_the_next_connection(&sites[2]).await;

    for file in std::fs::read_dir(&copy).expect("a folder") {
        let file = file.expect("an entry");
        std::fs::copy(file.path(), sites[2].join(file.file_name())).expect("room");
    }
    for side in ["agent.db-wal", "agent.db-shm"] {
        if !copy.join(side).exists() {
            let _ = std::fs::remove_file(sites[2].join(side));
        }
    }
    let restored = start(&sites[2]).await;
    let ended = tokio::time::timeout(Duration::from_secs(30), restored.task).await;
    let ended = ended.expect("it ends by itself").expect("no panic");
    let error = ended.expect_err("an older copy");
    assert_eq!(error.code(), ErrorCode::Precondition);
    let text = error.to_string();
    assert!(
        text.contains("older copy of the folder was put back"),
        "{text}"
    );
}

async fn a_count_that_no_update_followed_is_logged_at_the_next_connection(site: &Path) {
    let store = Store::open(site, Arc::new(key())).await.expect("a store");
    let policy = Policy::load(&site.join("policy.toml")).expect("a policy");
    let name = store.data_sets().await.expect("readable")[0].name.clone();
    let classes = ["a".to_owned(), "b".to_owned()];
    data::release_labels(&store, &policy, &name, &classes, 0.01, SystemTime::now())
        .await
        .expect("within budget");
    store.close().await;
    let agent = start(site).await;
    until("the count is logged", async || {
        let newest = agent.store.ledger_head().await.expect("it verifies");
        let kept = agent.store.newest_receipt().await.expect("readable");
        (kept?.0 == newest.sequence).then_some(())
    })
    .await;
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_took_its_word_back_gets_no_update() {
    let mut federation = Federation::new().await;
    let researcher = federation.member("researcher", Role::Researcher).await;
    let sites = three_sites(&mut federation).await;
    // The coordinator's key has signed a log that this site saw and nobody else.
    let coordinator = federation.path("coordinator").join("identity.key.sealed");
    let pkcs8 = read_sealed(&coordinator, &key(), "coordinator identity key");
    let coordinator = Signer::from_pkcs8(&pkcs8.expect("our own key")).expect("a key");
    let member = Membership::open(&sites[2], &key()).expect("a member");
    let head = LedgerHead {
        site: member.site_id().expect("a site"),
        ledger: [1; 32],
        sequence: 1,
        entry_hash: Digest::plain(b"an entry"),
    };
    let head = head.sign(member.identity());
    let root = Digest::plain(&[&[0], &head.to_bytes()[..]].concat());
    let tree_head = TreeHead {
        size: 1,
        root,
        at: 0,
    }
    .sign(&coordinator);
    let receipt = Receipt {
        head,
        leaf: 0,
        tree_head: tree_head.clone(),
        inclusion: vec![],
        earlier: None,
        consistency: vec![],
    };
    receipt.verify(&coordinator.public_key()).expect("sound");
    let store = Store::open(&sites[2], Arc::new(key())).await;
    let store = store.expect("a store");
    store.keep_receipt(1, &receipt).await.expect("room");
    store.close().await;

    let study = Study::submit(&researcher, &plan(1, 4, PRIVATE)).await;
    let mut running = Vec::new();
    for site in &sites {
        running.push(start(site).await);
    }
    let misled = &running[2].store;
    let evidence = until("the site has evidence", async || {
        let evidence = misled.evidence().await.expect("readable");
        (!evidence.is_empty()).then_some(evidence)
    })
    .await;
    assert_eq!(evidence[0].kept, tree_head.to_bytes());
    assert!(
        evidence[0].reason.contains("leaves were taken back"),
        "{evidence:?}"
    );
    assert!(!evidence[0].shown.is_empty());
    assert_eq!(misled.ledger_head().await.expect("it verifies").sequence, 0);
    assert_eq!(misled.round(study.id, 1).await.expect("readable"), None);
}
