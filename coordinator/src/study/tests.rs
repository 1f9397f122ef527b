use consilium_proto::Digest;

use super::*;
use crate::{
    fixture::{NOW, plan, site, sites, spec, study_id},
    round::{DeclineReason, Receipt},
};

fn rules(rounds: u32) -> Rules {
    Rules::of(&plan(2, rounds), Duration::from_secs(2))
}

fn active() -> BTreeSet<SiteId> {
    sites([1, 2, 3]).into_iter().collect()
}

fn decide(study: &mut Study, id: u16, approved: bool) -> Vec<Effect> {
    let verdict = Verdict {
        approved,
        reason: String::new(),
    };
    let input = Input::Decided {
        site: site(id),
        verdict,
        active: active(),
    };
    study.handle(input, NOW).expect("a site may answer")
}

fn drawn(study: &mut Study) -> RoundId {
    let next = study.next();
    let spec = consilium_proto::RoundSpec {
        round: next,
        ..spec(sites([1, 2]), 2)
    };
    let opened = study.handle(Input::Drawn(Round::open(&spec, Duration::ZERO)), NOW);
    assert_eq!(opened, Ok(vec![Effect::Tell(Note::RoundOpened(next))]));
    next
}

fn running(rounds: u32) -> (Study, RoundId) {
    let mut study = Study::new(study_id(7), rules(rounds));
    decide(&mut study, 1, true);
    decide(&mut study, 2, true);
    let round = drawn(&mut study);
    (study, round)
}

fn answer(study: &mut Study, round: RoundId, id: u16) -> Result<Vec<Effect>, Refusal> {
    let receipt = Receipt {
        update: ModelDigest(Digest::plain(&[id as u8])),
        weight: Some(1),
    };
    let input = round::Input::UpdateStored {
        site: site(id),
        receipt,
    };
    study.handle(Input::Round(round, input), NOW)
}

fn publish(study: &mut Study, round: RoundId) -> Vec<Effect> {
    answer(study, round, 1).expect("in time");
    let closed = answer(study, round, 2).expect("in time");
    assert!(closed.contains(&Effect::Aggregate(round)));
    let model = ModelDigest(Digest::plain(b"next"));
    let input = Input::Round(round, round::Input::Aggregated { model });
    study.handle(input, NOW).expect("it was aggregating")
}

fn miss_quorum(study: &mut Study, round: RoundId) -> Vec<Effect> {
    let input = round::Input::Declined {
        site: site(1),
        reason: DeclineReason::Policy,
    };
    study
        .handle(Input::Round(round, input), NOW)
        .expect("a site may decline")
}

#[test]
fn a_study_starts_when_enough_active_sites_approve() {
    let mut study = Study::new(study_id(7), rules(1));
    assert_eq!(
        decide(&mut study, 1, true),
        [Effect::Tell(Note::Decided(site(1)))]
    );
    assert_eq!(
        decide(&mut study, 2, false),
        [Effect::Tell(Note::Decided(site(2)))]
    );
    decide(&mut study, 4, true);
    assert_eq!(
        *study.phase(),
        Phase::AwaitingConsent,
        "site 4 is not active"
    );
    assert!(decide(&mut study, 3, true).contains(&Effect::Draw(study.next())));
    assert_eq!(study.state(), wire::StudyState::Running);
}

#[test]
fn the_same_answer_again_changes_nothing() {
    let mut study = Study::new(study_id(7), rules(1));
    decide(&mut study, 1, true);
    let before = study.clone();
    assert_eq!(decide(&mut study, 1, true), []);
    assert_eq!(study, before);
}

#[test]
fn a_new_roster_can_start_a_study_that_waits() {
    let mut study = Study::new(study_id(7), rules(1));
    decide(&mut study, 1, true);
    decide(&mut study, 4, true);
    let active = sites([1, 4]).into_iter().collect();
    let effects = study
        .handle(Input::RosterChanged { active }, NOW)
        .expect("always taken");
    assert!(effects.contains(&Effect::Draw(study.next())));
}

#[test]
fn rounds_follow_each_other_until_the_last_is_released() {
    let (mut study, round) = running(2);
    let effects = publish(&mut study, round);
    assert!(effects.contains(&Effect::Discard(round)));
    assert_eq!(
        (study.next().round, study.next().attempt, study.version()),
        (2, 1, 1)
    );
    assert!(effects.contains(&Effect::Draw(study.next())));
    let round = drawn(&mut study);
    let effects = publish(&mut study, round);
    assert!(effects.contains(&Effect::Release));
    assert_eq!(*study.phase(), Phase::Finished);
    let stopped = study.handle(Input::Stop { by: "x".into() }, NOW);
    assert_eq!(stopped, Err(Refusal::Finished));
}

#[test]
fn a_round_that_fails_too_often_stops_the_study_which_then_can_be_resumed() {
    let (mut study, first) = running(1);
    assert!(miss_quorum(&mut study, first).contains(&Effect::Draw(first.next_attempt())));
    let second = drawn(&mut study);
    let effects = miss_quorum(&mut study, second);
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Draw(_)))
    );
    assert!(
        study.reason().contains("round 1 failed 2 times"),
        "{}",
        study.reason()
    );
    assert!(
        study.reason().contains("site 1: against its policy"),
        "{}",
        study.reason()
    );
    let effects = study
        .handle(Input::Resume { active: active() }, NOW)
        .expect("it has stopped");
    assert!(effects.contains(&Effect::Draw(second.next_attempt())));
    let third = drawn(&mut study);
    assert_eq!(third.attempt, 3, "an attempt's number is never used again");
    publish(&mut study, third);
    assert_eq!(*study.phase(), Phase::Finished);
}

#[test]
fn stopping_abandons_the_open_attempt_and_what_comes_late_is_refused() {
    let (mut study, round) = running(1);
    answer(&mut study, round, 1).expect("in time");
    let effects = study.handle(
        Input::Stop {
            by: "researcher R".into(),
        },
        NOW,
    );
    assert!(effects.expect("it runs").contains(&Effect::Discard(round)));
    assert_eq!(study.reason(), "stopped by researcher R");
    let before = study.clone();
    assert_eq!(answer(&mut study, round, 2), Err(Refusal::NotOpen(round)));
    let again = study.handle(Input::Stop { by: "x".into() }, NOW);
    assert_eq!(again, Err(Refusal::AlreadyStopped));
    assert_eq!(study, before);
}

#[test]
fn a_study_waits_for_consent_when_too_few_are_left_to_draw_from() {
    let mut study = Study::new(study_id(7), rules(1));
    decide(&mut study, 1, true);
    decide(&mut study, 2, true);
    study.handle(Input::NotDrawn, NOW).expect("it was drawing");
    assert_eq!(*study.phase(), Phase::AwaitingConsent);
    assert!(decide(&mut study, 3, true).contains(&Effect::Draw(study.next())));
}

#[test]
fn only_a_first_answer_is_told() {
    let (mut study, round) = running(1);
    let told = Effect::Tell(Note::UpdateReceived(round, site(1)));
    assert_eq!(answer(&mut study, round, 1), Ok(vec![told]));
    assert_eq!(answer(&mut study, round, 1), Ok(vec![]));
}

#[test]
fn a_study_reads_back_from_what_is_stored() {
    let (mut study, round) = running(2);
    answer(&mut study, round, 1).expect("in time");
    let json = serde_json::to_string(&study).expect("a study can be written");
    assert_eq!(
        study,
        serde_json::from_str::<Study>(&json).expect("its own text")
    );
}
