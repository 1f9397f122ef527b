//! A coordinator that lies, with all of the true one's keys, through the whole stack: what sites
//! find, what they keep as proof, what they never send.

mod keys;
mod lists;
mod replays;
mod specifications;
mod warnings;

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use consilium_agent::{Membership, store::Store};
use consilium_privacy::secagg::{
    PublicKey,
    message::{Complaint, Survivors, ToCoordinator, ToSite},
    site::{Record, Violation},
};
use consilium_proto::{Role, RoundId, Signer, SiteId};

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
        self.middle.lie(lies);
        let study = Study::submit(&self.researcher, &plan).await;
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

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
