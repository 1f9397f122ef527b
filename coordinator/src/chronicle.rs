//! Turns what a study tells into what its watchers and the auditors read.

use consilium_privacy::secagg::message::Complaint;
use consilium_proto::{
    Digest, MemberId, RoundId, SiteId, Statement, StudyId,
    wire::{self, study_event::Event},
};
use serde_json::{Value, json};

use crate::{
    audit_log::Entry,
    roster::Members,
    store::{Change, Store, StudyRecord, Update},
    study::Note,
};

/// What one site stated about its update.
pub fn contribution<S: Store>(update: &Update, members: &Members<S>) -> wire::Contribution {
    // It was opened with the site's key when it was accepted; only its body is read here.
    let body = prost::Message::decode(update.statement.unverified_body());
    let body: wire::StatementBody = body.unwrap_or_default();
    wire::Contribution {
        site: update.site.0.0.into(),
        name: members.name_of(update.site.0),
        weight: body.weight,
        charge: body.charge,
    }
}

/// Adds the event and the audit entry of a note to the change that it belongs to. `record` is the
/// study as it is after the change.
pub fn record<S: Store>(
    change: &mut Change,
    note: &Note,
    record: &StudyRecord,
    actor: Option<MemberId>,
    members: &Members<S>,
) {
    let study = record.study.id();
    let (event, action, detail) = match note {
        Note::Changed => {
            let summary = record.summary();
            let detail = json!({ "study": study, "reason": summary.reason });
            let action = match summary.state() {
                wire::StudyState::AwaitingConsent => "study awaits consent",
                wire::StudyState::Stopped => "study stopped",
                wire::StudyState::Finished => "study finished",
                _ => "study running",
            };
            (Some(Event::Changed(summary)), action, detail)
        }
        Note::Decided(site) => {
            let verdict = record.study.verdicts().get(site);
            let approved = verdict.is_some_and(|verdict| verdict.approved);
            let reason = verdict.map_or_else(String::new, |verdict| verdict.reason.clone());
            let detail = json!({
                "study": study,
                "site": site,
                "plan_digest": record.plan_digest(),
                "approved": approved,
                "reason": reason,
            });
            let decision = wire::Decision {
                study: study.as_bytes().to_vec(),
                plan_digest: record.plan_digest().as_bytes().to_vec(),
                approved,
                reason,
                site: site.0.0.into(),
                name: members.name_of(site.0),
            };
            (Some(Event::Decided(decision)), "study decided", detail)
        }
        Note::RoundOpened(id) => {
            let round = record.study.round();
            let cohort = round.map_or(&[][..], |round| round.cohort());
            let deadline = round.map_or(0, |round| round.deadline().0);
            let mut detail = about(*id);
            detail["cohort"] = json!(cohort);
            detail["deadline"] = json!(deadline);
            let event = wire::RoundOpened {
                round: Some((*id).into()),
                cohort: cohort.iter().map(|site| site.0.0.into()).collect(),
                deadline,
            };
            (Some(Event::RoundOpened(event)), "round opened", detail)
        }
        Note::UpdateReceived(id, site) => {
            let update = change.update.as_ref();
            let contribution = update.map(|update| contribution(update, members));
            let mut detail = about(*id);
            detail["site"] = json!(site);
            detail["update"] = json!(update.map(|update| update.digest));
            detail["statement"] = json!(update.map(statement_digest));
            let event = wire::UpdateReceived {
                round: Some((*id).into()),
                contribution,
            };
            (
                Some(Event::UpdateReceived(event)),
                "update accepted",
                detail,
            )
        }
        Note::Declined(id, site, reason) => {
            let mut detail = about(*id);
            detail["site"] = json!(site);
            detail["reason"] = json!(reason);
            (None, "round declined", detail)
        }
        Note::Published(id, model) => {
            let mut detail = about(*id);
            detail["model"] = json!(model);
            let version = change
                .version
                .clone()
                .map(|(_, version)| Event::Published(version));
            (version, "version published", detail)
        }
        Note::RoundFailed(id, failure) => {
            let mut detail = about(*id);
            detail["reason"] = json!(failure.to_string());
            let event = wire::RoundFailed {
                round: Some((*id).into()),
                reason: failure.to_string(),
            };
            (Some(Event::RoundFailed(event)), "round failed", detail)
        }
    };
    change.events.extend(event.map(|event| (study, event)));
    change.entries.push(Entry {
        actor,
        action,
        detail,
    });
}

/// The entry of an update that was refused for what it holds.
pub fn update_refused(statement: &Statement, site: MemberId, reason: &str) -> Entry {
    let mut detail = about(statement.round);
    detail["update"] = json!(statement.update_digest);
    detail["reason"] = json!(reason);
    Entry::by(site, "update refused", detail)
}

/// The entry of a message of secure aggregation that was refused.
pub fn message_refused(round: RoundId, site: SiteId, reason: &str) -> Entry {
    let mut detail = about(round);
    detail["reason"] = json!(reason);
    Entry::by(site.0, "message refused", detail)
}

/// The entry of a site that has stopped, with digests of the messages that made it stop; the messages
/// stand in the attempt's journal.
pub fn complained(round: RoundId, complaint: &Complaint) -> Entry {
    let evidence = complaint
        .evidence
        .iter()
        .map(|message| Digest::plain(message));
    let mut detail = about(round);
    detail["violation"] = json!(complaint.violation);
    detail["dealer"] = json!(complaint.dealer.map(|dealer| dealer.0));
    detail["evidence"] = json!(evidence.collect::<Vec<_>>());
    Entry::by(SiteId::from(complaint.from).0, "site complained", detail)
}

/// The entry of a share that is not the one that was dealt: the holder's signed answer is wrong.
pub fn share_refused(round: RoundId, holder: SiteId, dealer: SiteId) -> Entry {
    let mut detail = about(round);
    detail["dealer"] = json!(dealer);
    Entry::by(holder.0, "share refused", detail)
}

/// The entry of a study that was handed in.
pub fn submitted(record: &StudyRecord, study: StudyId) -> Entry {
    let detail = json!({
        "study": study,
        "name": record.plan.name,
        "plan_digest": record.plan_digest(),
        "layout_digest": record.layout.digest(),
    });
    Entry::by(record.submitted_by, "study submitted", detail)
}

fn about(id: RoundId) -> Value {
    json!({ "study": id.study, "round": id.round, "attempt": id.attempt })
}

fn statement_digest(update: &Update) -> consilium_proto::Digest {
    consilium_proto::Digest::plain(update.statement.unverified_body())
}
