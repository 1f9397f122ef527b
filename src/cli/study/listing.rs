//! Studies as tables and as JSON.

use anyhow::Result;
use consilium_proto::wire::{self, StudyState};
use serde_json::{Value, json};

use super::{Form, plan};
use crate::{output, researcher::Study};

pub(super) fn list(studies: &[wire::StudySummary], form: Form) -> Result<()> {
    if form.json {
        return output::json(&studies.iter().map(summary).collect::<Vec<_>>());
    }
    let header = [
        "study",
        "name",
        "state",
        "rounds",
        "sites",
        "submitted (UTC)",
        "why",
    ];
    let rows = studies.iter().map(|study| {
        vec![
            hex::encode(&study.study),
            study.name.clone(),
            state(study).to_owned(),
            format!("{}/{}", study.rounds_done, study.rounds),
            format!("{} yes, {} no", study.approvals, study.refusals),
            output::time(study.submitted_at),
            study.reason.clone(),
        ]
    });
    let header = header.map(str::to_owned).to_vec();
    output::line(output::table(
        &std::iter::once(header).chain(rows).collect::<Vec<_>>(),
    ))
}

pub(super) fn show(study: &Study, form: Form) -> Result<()> {
    if form.json {
        return output::json(&detail(study)?);
    }
    let summary = study.summary();
    let mut rows = vec![
        ("study", study.id.to_string()),
        ("name", summary.name.clone()),
        ("state", state(summary).to_owned()),
        (
            "rounds",
            format!("{}/{}", summary.rounds_done, summary.rounds),
        ),
        ("plan", study.plan.digest().to_string()),
        ("parameters", study.layout.parameters().to_string()),
        ("privacy", plan::privacy(&study.plan)),
    ];
    if !summary.reason.is_empty() {
        rows.push(("why", summary.reason.clone()));
    }
    let cells = |(name, value): (&str, String)| vec![name.to_owned(), value];
    output::line(output::table(
        &rows.into_iter().map(cells).collect::<Vec<_>>(),
    ))?;
    if !study.detail.decisions.is_empty() {
        let header = ["\nsite", "decision", "why"].map(str::to_owned).to_vec();
        let rows = study.detail.decisions.iter().map(|decision| {
            let word = if decision.approved {
                "approved"
            } else {
                "refused"
            };
            vec![
                decision.name.clone(),
                word.to_owned(),
                decision.reason.clone(),
            ]
        });
        output::line(output::table(
            &std::iter::once(header).chain(rows).collect::<Vec<_>>(),
        ))?;
    }
    let header = ["\nversion", "published (UTC)", "sites", "ε so far"]
        .map(str::to_owned)
        .to_vec();
    let rows = study.detail.versions.iter().map(|version| {
        let epsilon = version.contributions.iter().map(|site| {
            let charge = site.charge.as_ref();
            let spent = charge.map_or("none".into(), |charge| format!("{:.3}", charge.epsilon));
            format!("{} {spent}", site.name)
        });
        vec![
            version.number.to_string(),
            output::time(version.published_at),
            version.contributions.len().to_string(),
            epsilon.collect::<Vec<_>>().join(", "),
        ]
    });
    output::line(output::table(
        &std::iter::once(header).chain(rows).collect::<Vec<_>>(),
    ))?;
    let left_out = study.left_out();
    if !left_out.is_empty() {
        output::note(format_args!(
            "versions {} to {} are not listed: `study fetch` writes all of them to metrics.csv",
            left_out.start,
            left_out.end - 1
        ));
    }
    plan::warn(&study.plan);
    Ok(())
}

/// The state in a word.
pub(super) fn state(summary: &wire::StudySummary) -> &'static str {
    match summary.state() {
        StudyState::AwaitingConsent => "awaiting-consent",
        StudyState::Running => "running",
        StudyState::Stopped => "stopped",
        StudyState::Finished => "finished",
        StudyState::Unspecified => "unknown",
    }
}

pub(super) fn summary(summary: &wire::StudySummary) -> Value {
    json!({
        "study": hex::encode(&summary.study),
        "name": summary.name,
        "state": state(summary),
        "rounds_done": summary.rounds_done,
        "rounds": summary.rounds,
        "plan": hex::encode(&summary.plan_digest),
        "reason": summary.reason,
        "approvals": summary.approvals,
        "refusals": summary.refusals,
        "submitted_at": summary.submitted_at,
    })
}

fn detail(study: &Study) -> Result<Value> {
    Ok(json!({
        "summary": summary(study.summary()),
        "plan": serde_json::from_slice::<Value>(&study.detail.plan)?,
        "layout": study.layout.digest(),
        "parameters": study.layout.parameters(),
        "decisions": study.detail.decisions.iter().map(decision).collect::<Vec<_>>(),
        "versions": study.detail.versions.iter().map(version).collect::<Vec<_>>(),
        "versions_left_out": study.left_out().len(),
    }))
}

pub(super) fn decision(decision: &wire::Decision) -> Value {
    json!({
        "site": decision.site,
        "name": decision.name,
        "approved": decision.approved,
        "reason": decision.reason,
    })
}

pub(super) fn version(version: &wire::Version) -> Value {
    json!({
        "number": version.number,
        "model": hex::encode(&version.model_digest),
        "published_at": version.published_at,
        "contributions": version.contributions.iter().map(contribution).collect::<Vec<_>>(),
        "sums": version.sums.as_ref().map(sums),
    })
}

fn sums(sums: &wire::Sums) -> Value {
    let figure = |figure: &wire::Figure| json!({ "name": figure.name, "sum": figure.sum, "count": figure.count });
    json!({
        "weight": sums.weight,
        "figures": sums.figures.iter().map(figure).collect::<Vec<_>>(),
    })
}

/// What the sites report together about the version that a round started from; empty for nothing.
pub(super) fn reported(version: &wire::Version) -> String {
    let figures = version.sums.iter().flat_map(|sums| &sums.figures);
    let means = figures
        .filter(|figure| figure.count > 0.0)
        .map(|figure| format!("{} {:.3}", figure.name, figure.sum / figure.count));
    let means: Vec<_> = means.collect();
    match means.is_empty() {
        true => String::new(),
        false => format!(
            "; before it, on the sites' own patients: {}",
            means.join(", ")
        ),
    }
}

pub(super) fn contribution(contribution: &wire::Contribution) -> Value {
    let charge = contribution.charge.as_ref().map(|charge| {
        json!({
            "sequence": charge.sequence,
            "sampling_rate": charge.sampling_rate,
            "noise_multiplier": charge.noise_multiplier,
            "clipping_norm": charge.clipping_norm,
            "steps": charge.steps,
            "epsilon": charge.epsilon,
            "delta": charge.delta,
        })
    });
    json!({
        "site": contribution.site,
        "name": contribution.name,
        "weight": contribution.weight,
        "charge": charge,
    })
}
