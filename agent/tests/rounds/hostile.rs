//! A coordinator that lies, with all of the true one's keys, through the whole stack: what sites
//! find, what they keep as proof, what they never send.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
};

use consilium_agent::{Membership, store::Store};
use consilium_privacy::secagg::{
    Kind, PublicKey, Unbelieved,
    message::{
        Complaint, Confirmations, Outcome, PairKey, PairKeys, Survivors, ToCoordinator, ToSite,
    },
    site::{Record, Violation},
};
use consilium_proto::{
    Digest, ModelDigest, Plan, Role, RoundId, RoundSpec, SecureAggregation, Signer, SiteId,
    wire::DeclineReason,
};

use crate::{
    federation::{Federation, PRIVATE, Running, Study, key, secure_plan, sites, start, until},
    interceptor::{Ear, Interceptor, Lies},
};

/// Sites of a federation, each of which talks to a coordinator that lies.
struct Stage {
    _federation: Federation,
    researcher: Membership,
    folders: Vec<PathBuf>,
    /// Ascending.
    ids: Vec<SiteId>,
    keys: Vec<PublicKey>,
    middle: Interceptor,
}

impl Stage {
    async fn of(names: &[&str]) -> Self {
        let mut federation = Federation::new().await;
        let researcher = federation.member("researcher", Role::Researcher).await;
        let folders = sites(&mut federation, names).await;
        let middle = Interceptor::between(&federation, &folders).await;
        let members = folders.iter().map(|folder| {
            let membership = Membership::open(folder, &key()).expect("a member");
            let key = membership.identity().public_key();
            let id = membership.site_id().expect("a site");
            (id, PublicKey(*key.as_bytes()))
        });
        let (ids, keys): (Vec<_>, _) = members.unzip();
        assert!(ids.is_sorted());
        Self {
            _federation: federation,
            researcher,
            folders,
            ids,
            keys,
            middle,
        }
    }

    async fn of_three() -> Self {
        Self::of(&["A", "B", "C"]).await
    }

    /// Five sites, of which one may be missing.
    async fn of_five() -> Self {
        Self::of(&["A", "B", "C", "D", "E"]).await
    }

    /// Runs a study of two rounds with a coordinator that tells these lies.
    async fn run(self, lies: Lies) -> Scene {
        let mut plan = secure_plan(2, 2, PRIVATE);
        if self.ids.len() == 5 {
            (plan.cohort.size, plan.cohort.quorum) = (5, Some(4));
        }
        self.run_plan(&plan, lies).await
    }

    async fn run_plan(self, plan: &Plan, lies: Lies) -> Scene {
        self.middle.lie(lies);
        let study = Study::submit(&self.researcher, plan).await;
        let mut agents = Vec::new();
        for folder in &self.folders {
            agents.push(start(folder).await);
        }
        Scene {
            stage: self,
            study,
            agents,
        }
    }
}

/// A study under way.
struct Scene {
    stage: Stage,
    study: Study,
    agents: Vec<Running>,
}

impl Scene {
    fn store(&self, site: usize) -> &Store {
        &self.agents[site].store
    }

    /// What a site wrote down of one attempt.
    async fn records(&self, site: usize, round: RoundId) -> Vec<Record> {
        let context = self.stage.middle.context(self.stage.ids[site], round);
        let mut records = self
            .store(site)
            .attempts(self.study.id)
            .await
            .expect("a chain");
        records.retain(|record| *record.context() == context);
        records
    }

    /// The site has found the violation, says so with what it was sent as proof, and, if only the
    /// coordinator can be to blame, has ended its part in the study. Returns the attempt and the
    /// proof.
    async fn complaint(&self, site: usize, violation: &Violation) -> (RoundId, Vec<Vec<u8>>) {
        let Stage {
            ids, keys, middle, ..
        } = &self.stage;
        let sentence = violation.to_string();
        let kept = until("the site complains", async || {
            let complaints = self.store(site).complaints().await.expect("readable");
            let last = complaints.into_iter().next_back()?;
            (last.violation == sentence).then_some(last)
        })
        .await;
        let records = self.records(site, kept.round).await;
        assert!(matches!(records.first(), Some(Record::Opened { .. })));
        assert!(records.last().is_some_and(is_broken_off), "{records:?}");

        let context = middle.context(ids[site], kept.round);
        let complaint = Complaint::verified(&kept.message, &context, &keys[site]);
        let complaint = complaint.expect("signed by the site");
        assert_eq!(complaint.from, ids[site].into());
        assert_eq!(complaint.violation, sentence);
        until("the coordinator is told", async || {
            let said = ToCoordinator::Complaint(kept.message.clone());
            let said = (ids[site], kept.round, said);
            middle.said().messages.contains(&said).then_some(())
        })
        .await;
        let heard = (middle.said().told.iter())
            .filter(|(to, round, _)| (*to, *round) == (ids[site], kept.round))
            .map(|(.., message)| message.bytes().to_vec())
            .next_back();
        assert_eq!(complaint.evidence.last(), heard.as_ref());
        if violation.is_grave() {
            self.assert_refuses(site, &sentence).await;
        }
        (kept.round, complaint.evidence)
    }

    /// As [`complaint`](Self::complaint), and no share has left the site, and nothing was published.
    async fn assert_stopped(&self, site: usize, violation: Violation) -> Vec<Vec<u8>> {
        let (round, proof) = self.complaint(site, &violation).await;
        let records = self.records(site, round).await;
        assert!(!records.iter().any(is_answered), "{records:?}");
        let from_site = self.stage.ids[site];
        let answered = (self.stage.middle.said().messages.iter()).any(|(from, of, message)| {
            let is_answer = matches!(message, ToCoordinator::Unmask(_));
            (*from, *of) == (from_site, round) && is_answer
        });
        assert!(!answered, "no share has left the site");
        self.assert_unpublished(round).await;
        proof
    }

    /// The site's part in the study is over, and coordinator and researcher are told why.
    async fn assert_refuses(&self, site: usize, why: &str) {
        let study = self.store(site).study(self.study.id).await;
        let decision = study.expect("readable").and_then(|study| study.decision);
        let decision = decision.expect("decided");
        assert!(!decision.approved && decision.reason.contains(why));
        until("the coordinator has the refusal", async || {
            let decisions = self.study.detail().await.decisions;
            let site = u32::from(self.stage.ids[site].0.0);
            let refused = decisions.iter().any(|decision| {
                decision.site == site && !decision.approved && decision.reason.contains(why)
            });
            refused.then_some(())
        })
        .await;
    }

    /// No version came of this round.
    async fn assert_unpublished(&self, round: RoundId) {
        let versions = self.study.detail().await.versions;
        let newest = versions.iter().map(|version| version.number).max();
        assert_eq!(newest, Some(round.round - 1));
    }

    /// Trainings that this site has paid for.
    async fn charges(&self, site: usize) -> usize {
        let entries = self.store(site).ledger_entries().await.expect("verifies");
        let charged = entries.iter().filter_map(|entry| entry.fact.charged());
        charged.count()
    }

    /// Nothing was charged at this site, and it has sent no key, share or update.
    async fn assert_untouched(&self, site: usize) {
        assert_eq!(self.charges(site).await, 0);
        assert!(self.stage.middle.said().is_silent(self.stage.ids[site]));
        let records = self.store(site).attempts(self.study.id).await;
        assert_eq!(records.expect("a chain"), []);
    }
}

fn is_answered(record: &Record) -> bool {
    matches!(record, Record::Answered { .. })
}

fn is_uploaded(record: &Record) -> bool {
    matches!(record, Record::Uploaded { .. })
}

fn is_broken_off(record: &Record) -> bool {
    let Record::Ended { concluded, .. } = record else {
        return false;
    };
    !concluded
}

/// The list with a change, signed as the coordinator signs.
fn forge(list: &[u8], ear: Ear, signer: &Signer, change: impl FnOnce(&mut Survivors)) -> ToSite {
    let coordinator = PublicKey(*signer.public_key().as_bytes());
    let list = Survivors::verified(list, &ear.context, &coordinator);
    let mut list = list.expect("the true coordinator's");
    change(&mut list);
    ToSite::Survivors(list.signed(&ear.context, signer))
}

/// Tells one site a lie where the true coordinator has something to say, others the truth.
fn to_victim(victim: SiteId, mut lie: impl FnMut(Ear, ToSite) -> ToSite + Send + 'static) -> Lies {
    Lies::down(move |ear, message| match message {
        Some(message) if ear.site == victim => Some(lie(ear, message)),
        other => other,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn sites_train_through_a_coordinator_in_the_middle_that_tells_no_lies() {
    let scene = Stage::of_three().await.run(Lies::none()).await;
    let detail = scene.study.finished().await;
    assert_eq!(detail.versions.len(), 3);
    for (agent, id) in scene.agents.iter().zip(&scene.stage.ids) {
        assert_eq!(agent.store.complaints().await.expect("readable"), []);
        let said = scene.stage.middle.said();
        let of_site = said.messages.iter().filter(|(from, ..)| from == id);
        let said: Vec<_> = of_site.map(|(_, _, message)| message.name()).collect();
        let each_round = ["keys", "shares", "a confirmation", "an answer"];
        assert_eq!(
            said,
            each_round.repeat(2),
            "all of it went through the middle"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_halves_that_are_told_of_different_survivors_open_nothing() {
    let stage = Stage::of_five().await;
    let (signer, ids) = (stage.middle.signer(), stage.ids.clone());
    // The first three are told of all five, the other two that the first dropped out: both lists
    // are long enough.
    let (dead, smaller) = (ids[0], ids[3]);
    let confirmed = Arc::new(Mutex::new(BTreeMap::new()));
    let known = confirmed.clone();
    let scene = stage
        .run(Lies {
            up: Box::new(move |ear, message| match message {
                ToCoordinator::Confirm(bytes) => {
                    locked(&confirmed).insert(ear.site, bytes);
                    None
                }
                other => Some(other),
            }),
            down: Box::new(move |ear, message| {
                let Some(ToSite::Survivors(list)) = message else {
                    return message;
                };
                let known = locked(&known);
                let is_smaller = ear.site >= smaller;
                match (known.contains_key(&ear.site), is_smaller) {
                    (false, false) => Some(ToSite::Survivors(list)),
                    (false, true) => Some(forge(&list, ear, &signer, |list| {
                        list.survivors
                            .retain(|survivor| survivor.site != dead.into());
                    })),
                    (true, _) if known.len() < 5 => None,
                    // The larger half is shown all that were signed, the smaller those that agree.
                    (true, _) => {
                        let shown = known
                            .iter()
                            .filter(|(site, _)| !is_smaller || **site >= smaller);
                        let shown = shown.map(|(_, confirm)| confirm.clone()).collect();
                        Some(ToSite::Confirmations(Confirmations(shown).to_bytes()))
                    }
                }
            }),
            ..Lies::none()
        })
        .await;
    for site in 0..3 {
        let other = Violation::OtherSurvivors(smaller.into());
        scene.assert_stopped(site, other).await;
    }
    for site in 3..5 {
        let (found, needed) = (2, 4);
        let few = Violation::TooFewConfirmations { found, needed };
        scene.assert_stopped(site, few).await;
    }
}

/// Shows one site a second list of survivors where the true coordinator says `instead_of`.
fn second_list(stage: &Stage, instead_of: &'static str) -> Lies {
    let (signer, other) = (stage.middle.signer(), stage.ids[1]);
    let mut first = None;
    to_victim(stage.ids[0], move |ear, message| match (message, &first) {
        (ToSite::Survivors(list), _) => {
            first = Some(list.clone());
            ToSite::Survivors(list)
        }
        (message, Some(list)) if message.name() == instead_of => {
            forge(list, ear, &signer, |list| {
                for survivor in &mut list.survivors {
                    if survivor.site == other.into() {
                        survivor.upload[0] ^= 1;
                    }
                }
            })
        }
        (message, _) => message,
    })
}

/// Two lists for one attempt, both signed by the coordinator.
fn assert_proves_cheating(scene: &Scene, round: RoundId, proof: &[Vec<u8>]) {
    let [first, second] = proof else {
        panic!("two lists are the proof");
    };
    assert_ne!(first, second);
    let Stage { middle, ids, .. } = &scene.stage;
    let context = middle.context(ids[0], round);
    for list in [first, second] {
        Survivors::verified(list, &context, &middle.public_key())
            .expect("signed by the coordinator, for this attempt");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_list_of_survivors_stops_a_site_that_keeps_both_as_proof() {
    let stage = Stage::of_three().await;
    let lies = second_list(&stage, "confirmations");
    let scene = stage.run(lies).await;
    let proof = scene.assert_stopped(0, Violation::SecondSurvivors).await;
    let complaints = scene.store(0).complaints().await.expect("readable");
    assert_proves_cheating(&scene, complaints[0].round, &proof);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_list_of_survivors_after_the_answer_is_found_as_well() {
    let stage = Stage::of_three().await;
    let lies = second_list(&stage, "an outcome");
    let scene = stage.run(lies).await;
    let (round, proof) = scene.complaint(0, &Violation::SecondSurvivors).await;
    assert_proves_cheating(&scene, round, &proof);
    let records = scene.records(0, round).await;
    let answers = records.iter().filter(|record| is_answered(record));
    assert_eq!(answers.count(), 1, "for the first list alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_uploaded_and_is_left_out_of_the_survivors_stops() {
    let stage = Stage::of_five().await;
    let (signer, victim) = (stage.middle.signer(), stage.ids[2]);
    let mut told = BTreeSet::new();
    let scene = stage
        .run(Lies {
            // The true coordinator would refuse them: its own list is another.
            up: Box::new(|_, message| match message {
                ToCoordinator::Confirm(_) => None,
                other => Some(other),
            }),
            down: Box::new(move |ear, message| match message {
                Some(ToSite::Survivors(list)) => told.insert(ear.site).then(|| {
                    forge(&list, ear, &signer, |list| {
                        list.survivors
                            .retain(|survivor| survivor.site != victim.into());
                    })
                }),
                other => other,
            }),
            ..Lies::none()
        })
        .await;
    scene.assert_stopped(2, Violation::LeftOut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_coordinators_own_in_place_of_a_peers_is_not_believed() {
    let stage = Stage::of_three().await;
    let (signer, victim, peer) = (stage.middle.signer(), stage.ids[0], stage.ids[1]);
    let lies = to_victim(victim, move |ear, message| match message {
        ToSite::PeerKeys(bytes) => {
            let mut keys = PairKeys::from_bytes(&bytes).expect("the true coordinator's");
            let (from, to, key) = (peer.into(), victim.into(), [7; 32]);
            keys.0[0] = PairKey { from, to, key }.signed(&ear.context, &*signer);
            ToSite::PeerKeys(keys.to_bytes())
        }
        message => message,
    });
    let scene = stage.run(lies).await;
    let unbelieved = Unbelieved::Signature(Kind::PairKey);
    scene.assert_stopped(0, unbelieved.into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sites_own_key_sent_back_as_a_peers_is_found() {
    let stage = Stage::of_three().await;
    let victim = stage.ids[0];
    let own = Arc::new(Mutex::new(Vec::new()));
    let kept = own.clone();
    let lies = Lies {
        up: Box::new(move |ear, message| {
            if let (true, ToCoordinator::Keys(bytes)) = (ear.site == victim, &message) {
                *locked(&kept) = PairKeys::from_bytes(bytes).expect("a site's own").0;
            }
            Some(message)
        }),
        ..to_victim(victim, move |_, message| match message {
            ToSite::PeerKeys(bytes) => {
                let mut keys = PairKeys::from_bytes(&bytes).expect("the true coordinator's");
                keys.0[0] = locked(&own)[0].clone();
                ToSite::PeerKeys(keys.to_bytes())
            }
            message => message,
        })
    };
    let scene = stage.run(lies).await;
    let reflected = Violation::Reflected(victim.into());
    scene.assert_stopped(0, reflected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_earlier_attempt_are_not_believed_in_the_next() {
    let stage = Stage::of_three().await;
    let mut first = None;
    let lies = to_victim(stage.ids[0], move |ear, message| match (message, &first) {
        // No keys at all: the attempt fails, and nobody is to blame.
        (ToSite::PeerKeys(bytes), None) => {
            first = Some((ear.round, bytes));
            ToSite::PeerKeys(PairKeys(vec![]).to_bytes())
        }
        (ToSite::PeerKeys(_), Some((round, bytes))) if *round != ear.round => {
            ToSite::PeerKeys(bytes.clone())
        }
        (message, _) => message,
    });
    let scene = stage.run(lies).await;
    let unbelieved = Unbelieved::Signature(Kind::PairKey);
    scene.assert_stopped(0, unbelieved.into()).await;
    let complaints = scene.store(0).complaints().await.expect("readable");
    let of_round: Vec<_> = (complaints.iter())
        .map(|kept| (kept.round.round, kept.round.attempt))
        .collect();
    assert_eq!(of_round, [(1, 1), (1, 2)]);
    let (found, needed) = (1, 3);
    let few = Violation::TooFewKeys { found, needed };
    assert_eq!(complaints[0].violation, few.to_string());
}

/// Tells one site in the second round what it was told in the first.
async fn is_not_believed_in_the_next_round(what: &'static str, kind: Kind) {
    let stage = Stage::of_three().await;
    let mut first = None;
    let lies = to_victim(stage.ids[0], move |ear, message| {
        if message.name() != what {
            return message;
        }
        let (round, earlier) = first.get_or_insert((ear.round.round, message.clone()));
        match *round == ear.round.round {
            true => message,
            false => earlier.clone(),
        }
    });
    let scene = stage.run(lies).await;
    let unbelieved = Unbelieved::Signature(kind);
    scene.assert_stopped(0, unbelieved.into()).await;
    let complaints = scene.store(0).complaints().await.expect("readable");
    assert_eq!(complaints[0].round.round, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_earlier_round_are_not_believed_in_the_next() {
    is_not_believed_in_the_next_round("peers' keys", Kind::PairKey).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_of_an_earlier_round_are_not_believed_in_the_next() {
    is_not_believed_in_the_next_round("peers' shares", Kind::PeerShares).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_survivors_of_an_earlier_round_is_not_believed_in_the_next() {
    is_not_believed_in_the_next_round("a list of survivors", Kind::Survivors).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn confirmations_of_an_earlier_round_are_not_believed_in_the_next() {
    is_not_believed_in_the_next_round("confirmations", Kind::Confirm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_was_shown_before_is_declined_when_it_is_shown_again() {
    listen();
    let stage = Stage::of_three().await;
    let (victim, mut first) = (stage.ids[0], None);
    let scene = stage
        .run(Lies::spec(move |site, spec| match site == victim {
            true => first.get_or_insert(spec).clone(),
            false => spec,
        }))
        .await;
    let again = until("the site declines", async || {
        scene.stage.middle.said().declined.first().copied()
    })
    .await;
    let (site, round, reason) = again;
    assert_eq!((site, reason), (victim, DeclineReason::Failed));
    assert_eq!((round.round, round.attempt), (1, 1));
    assert_eq!(scene.charges(0).await, 1, "the first round alone");
    until_warned("attempt 1 at round 1 does not come after those taken part in before").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_shown_another_model_neither_trains_nor_pays() {
    listen();
    let stage = Stage::of_three().await;
    let victim = stage.ids[0];
    let lies = Lies {
        // The true coordinator would refuse its keys, and so end its part too early.
        up: Box::new(move |ear, message| (ear.site != victim).then_some(message)),
        ..Lies::spec(move |site, spec| match site == victim {
            true => RoundSpec {
                model_digest: ModelDigest(Digest::plain(b"a model made for one site")),
                ..spec
            },
            false => spec,
        })
    };
    let scene = stage.run(lies).await;
    let study = scene.study.id;
    until_warned(&format!("round {study}/1.1 starts from model")).await;
    assert_eq!(scene.charges(0).await, 0);
    assert!(!scene.stage.middle.said().uploads.contains(&victim));
    let round = RoundId {
        study,
        round: 1,
        attempt: 1,
    };
    assert!(matches!(
        scene.records(0, round).await[..],
        [Record::Opened { .. }]
    ));
    scene.assert_unpublished(round).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_was_told_of_another_version_does_not_train_the_next_round() {
    listen();
    let stage = Stage::of_three().await;
    let (signer, key) = (stage.middle.signer(), stage.middle.public_key());
    let lies = to_victim(stage.ids[0], move |ear, message| match message {
        ToSite::Outcome(bytes) => {
            let outcome = Outcome::verified(&bytes, &ear.context, &key);
            let mut outcome = outcome.expect("the true coordinator's");
            outcome.model[0] ^= 1;
            ToSite::Outcome(outcome.signed(&ear.context, &*signer))
        }
        message => message,
    });
    let scene = stage.run(lies).await;
    let study = scene.study.id;
    until_warned(&format!("round {study}/2.1 starts from model")).await;
    let round = RoundId {
        study,
        round: 2,
        attempt: 1,
    };
    assert_eq!(scene.charges(0).await, 1, "the first round alone");
    assert!(!scene.records(0, round).await.iter().any(is_uploaded));
    scene.assert_unpublished(round).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_over_other_uploads_than_were_confirmed_is_an_alarm() {
    let stage = Stage::of_three().await;
    let (signer, key) = (stage.middle.signer(), stage.middle.public_key());
    let lies = to_victim(stage.ids[0], move |ear, message| match message {
        ToSite::Outcome(bytes) => {
            let outcome = Outcome::verified(&bytes, &ear.context, &key);
            let mut outcome = outcome.expect("the true coordinator's");
            outcome.survivors[0] ^= 1;
            ToSite::Outcome(outcome.signed(&ear.context, &*signer))
        }
        message => message,
    });
    let scene = stage.run(lies).await;
    let (round, _) = scene.complaint(0, &Violation::OtherOutcome).await;
    assert_eq!(round.round, 1);
    assert_eq!(scene.charges(0).await, 1, "the next round is not joined");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_sites_that_were_shown_another_specification_are_not_believed() {
    let stage = Stage::of_three().await;
    let victim = stage.ids[0];
    let made = Arc::new(Mutex::new(BTreeMap::new()));
    let known = made.clone();
    let scene = stage
        .run(Lies {
            spec: Box::new(move |site, spec| match site == victim {
                true => RoundSpec {
                    deadline: spec.deadline - 1,
                    ..spec
                },
                false => spec,
            }),
            up: Box::new(move |ear, message| {
                if ear.site == victim {
                    return None;
                }
                if let ToCoordinator::Keys(keys) = &message {
                    let keys = PairKeys::from_bytes(keys).expect("a site's own");
                    // The victim is the first of its peers.
                    locked(&made).insert(ear.site, keys.0[0].clone());
                }
                Some(message)
            }),
            down: Box::new(move |ear, message| {
                let known = locked(&known);
                match ear.site == victim && known.len() == 2 {
                    true => {
                        let keys = known.values().cloned().collect();
                        Some(ToSite::PeerKeys(PairKeys(keys).to_bytes()))
                    }
                    false => message,
                }
            }),
        })
        .await;
    let unbelieved = Unbelieved::Signature(Kind::PairKey);
    scene.assert_stopped(0, unbelieved.into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_do_not_follow_from_the_plan_are_neither_trained_nor_paid_for() {
    listen();
    let stage = Stage::of_three().await;
    let victim = stage.ids[0];
    let mut wrong = WRONG.iter().cycle();
    let lies = Lies::spec(move |site, mut spec| {
        if site == victim {
            let secure = spec.secure_aggregation.take().expect("of a secure plan");
            spec.secure_aggregation = wrong.next().and_then(|(_, change)| change(secure));
        }
        spec
    });
    let scene = stage.run(lies).await;
    let round = RoundId {
        study: scene.study.id,
        round: 1,
        attempt: 1,
    };
    for (what, _) in WRONG {
        until_warned(&format!(
            "round {round} is not as its plan says: it is not trained here: {what}"
        ))
        .await;
    }
    scene.assert_untouched(0).await;
    scene.assert_unpublished(round).await;
}

/// What the site finds, and what the coordinator has made of the true numbers.
type Change = fn(SecureAggregation) -> Option<SecureAggregation>;
const WRONG: [(&str, Change); 6] = [
    ("plan and round differ in whether", |_| None),
    ("update bound must be", |mut numbers| {
        numbers.update_bound *= 1000.0;
        Some(numbers)
    }),
    ("largest weight must be", |mut numbers| {
        numbers.weight_max = 1;
        Some(numbers)
    }),
    ("grid must be", |mut numbers| {
        numbers.grid *= 2;
        Some(numbers)
    }),
    ("word must be", |mut numbers| {
        numbers.word_bits = 64;
        Some(numbers)
    }),
    ("figures must be", |mut numbers| {
        numbers.figures.push(1.0);
        Some(numbers)
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_threshold_below_the_rule_and_a_cohort_of_two_are_declined() {
    listen();
    let stage = Stage::of_three().await;
    let victim = stage.ids[0];
    let scene = stage
        .run(Lies::spec(move |site, mut spec| {
            if site == victim {
                spec.quorum = 2;
                if spec.round.attempt > 1 {
                    spec.cohort.pop();
                }
            }
            spec
        }))
        .await;
    let study = scene.study.id;
    for (attempt, why) in [
        (1, "a threshold of 2 is not between 3 and the cohort's size"),
        (2, "`min_cohort` is 3, the round has 2 sites"),
    ] {
        let round = RoundId {
            study,
            round: 1,
            attempt,
        };
        let declined = (victim, round, DeclineReason::Policy);
        until("the site declines", async || {
            let said = scene.stage.middle.said();
            said.declined.contains(&declined).then_some(())
        })
        .await;
        until_warned(why).await;
        scene.assert_unpublished(round).await;
    }
    scene.assert_untouched(0).await;
}

/// Confirmations as the coordinator changes them for one site.
async fn with_confirmations(
    change: impl Fn(&mut Vec<Vec<u8>>) + Send + 'static,
    violation: impl FnOnce(&[SiteId]) -> Violation,
) {
    let stage = Stage::of_three().await;
    let lies = to_victim(stage.ids[0], move |_, message| match message {
        ToSite::Confirmations(bytes) => {
            let mut confirmations = Confirmations::from_bytes(&bytes).expect("a list");
            change(&mut confirmations.0);
            ToSite::Confirmations(confirmations.to_bytes())
        }
        message => message,
    });
    let violation = violation(&stage.ids);
    let scene = stage.run(lies).await;
    scene.assert_stopped(0, violation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_confirmation_less_than_the_threshold_opens_nothing() {
    let (found, needed) = (2, 3);
    with_confirmations(
        |confirmations| confirmations.truncate(2),
        |_| Violation::TooFewConfirmations { found, needed },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_confirms_twice_counts_for_nothing() {
    with_confirmations(
        |confirmations| confirmations[2] = confirmations[1].clone(),
        |ids| Violation::Unsorted(ids[1].into()),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_has_confirmed_nothing_opens_nothing() {
    let stage = Stage::of_three().await;
    let victim = stage.ids[0];
    let confirmed = Arc::new(Mutex::new(BTreeMap::new()));
    let known = confirmed.clone();
    let scene = stage
        .run(Lies {
            up: Box::new(move |ear, message| {
                if let ToCoordinator::Confirm(bytes) = &message {
                    locked(&confirmed).insert(ear.site, bytes.clone());
                }
                Some(message)
            }),
            down: Box::new(move |ear, message| match message {
                Some(ToSite::Survivors(_)) if ear.site == victim => {
                    let known = locked(&known);
                    let all = Confirmations(known.values().cloned().collect());
                    (all.0.len() == 2).then(|| ToSite::Confirmations(all.to_bytes()))
                }
                message => message,
            }),
            ..Lies::none()
        })
        .await;
    let early = Violation::UnmaskBeforeConfirm;
    scene.assert_stopped(0, early).await;
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all agents of this program have warned of since somebody listens.
static WARNINGS: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Warnings;

impl io::Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        locked(&WARNINGS).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Distrust ends a connection and is told to nobody but the site's own log.
fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(|| Warnings)
            .init();
    });
}

async fn until_warned(what: &str) {
    until(what, async || {
        let warnings = locked(&WARNINGS);
        let text = String::from_utf8_lossy(&warnings);
        text.contains(what).then_some(())
    })
    .await;
}
