//! `consilium agent budget`: what was planned, what is spent, what is left, for the steward.

use std::collections::BTreeMap;

use anyhow::Result;
use consilium_agent::store::Store;
use consilium_privacy::{
    accountant::{Accountant as _, Delta, Rdp},
    audit::{DataSetAccount, StudyAccount},
    ledger::Budget,
};
use consilium_proto::{Plan, StudyId};
use serde::Serialize;

use super::Folder;
use crate::{audit_report::mechanism, output};

/// Everything that the steward's ledger says.
#[derive(Debug, Serialize)]
struct Budgets {
    data_sets: Vec<DataSetAccount>,
    studies: Vec<Study>,
}

/// One study at this site; ε by Rényi curves, as the ledger reckons.
#[derive(Debug, Serialize)]
struct Study {
    study: StudyId,
    name: String,
    data_set: String,
    rounds_charged: usize,
    rounds_planned: u32,
    delta: Option<Delta>,
    /// What the study may spend here.
    planned: Option<f64>,
    spent: Option<f64>,
    left: Option<f64>,
}

pub(super) async fn run(folder: &Folder, as_json: bool) -> Result<()> {
    let (store, policy) = (folder.store().await?, folder.policy()?);
    let found = read(&store, &policy.data_sets).await;
    store.close().await;
    let budgets = found?;
    if as_json {
        return output::json(&budgets);
    }
    output::line(budgets.data_sets_table())?;
    if budgets.studies.is_empty() {
        return output::line("\nno study was charged");
    }
    output::line(format_args!("\n{}", budgets.studies_table()))
}

async fn read(store: &Store, policy: &BTreeMap<String, Budget>) -> Result<Budgets> {
    let entries = store.ledger_entries().await?;
    let mut rdp = Rdp::new();
    let mut studies = Vec::new();
    for account in StudyAccount::of(&entries) {
        let id = StudyId::try_from(account.study.0.as_slice())?;
        let plan = store.study(id).await?.map(|known| known.plan);
        studies.push(Study::of(id, &account, plan.as_ref(), &mut rdp));
    }
    Ok(Budgets {
        data_sets: DataSetAccount::of(&entries, policy),
        studies,
    })
}

impl Study {
    fn of(study: StudyId, account: &StudyAccount, plan: Option<&Plan>, rdp: &mut Rdp) -> Self {
        let planned = account.cap.map(|cap| cap.epsilon.value());
        let delta = account.cap.map(|cap| cap.delta);
        let spent = delta.map(|delta| rdp.epsilon(&account.history(u64::MAX), delta));
        Self {
            study,
            name: plan.map_or("unknown".to_owned(), |plan| plan.name.clone()),
            data_set: plan.map_or("unknown".to_owned(), |plan| plan.data_set.clone()),
            rounds_charged: account.rounds.len(),
            rounds_planned: plan.map_or(0, |plan| plan.rounds),
            delta,
            planned,
            spent,
            left: planned
                .zip(spent)
                .map(|(planned, spent)| (planned - spent).max(0.0)),
        }
    }
}

impl Budgets {
    fn data_sets_table(&self) -> String {
        let header = ["data set", "planned ε", "δ", "spent ε", "left"];
        let rows = self.data_sets.iter().map(|account| {
            let planned = account.budget.map(|budget| budget.epsilon.value());
            let delta = account.budget.map(|budget| budget.delta.value());
            let left = match (account.left, planned) {
                (Some(left), _) => mechanism(&left.like.with_releases(left.releases)),
                (None, Some(_)) => "all of it".to_owned(),
                (None, None) => "nothing: the policy has no budget".to_owned(),
            };
            vec![
                account.name.clone(),
                number(planned),
                delta.map_or("-".to_owned(), |delta| format!("{delta:e}")),
                number(Some(account.spent)),
                left,
            ]
        });
        table(&header, rows)
    }

    fn studies_table(&self) -> String {
        let header = [
            "study",
            "name",
            "data set",
            "rounds",
            "planned ε",
            "δ",
            "spent ε",
            "left ε",
        ];
        let rows = self.studies.iter().map(|study| {
            vec![
                study.study.to_string(),
                study.name.clone(),
                study.data_set.clone(),
                format!("{}/{}", study.rounds_charged, study.rounds_planned),
                number(study.planned),
                study
                    .delta
                    .map_or("-".to_owned(), |delta| format!("{:e}", delta.value())),
                number(study.spent),
                number(study.left),
            ]
        });
        table(&header, rows)
    }
}

fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let header = header.iter().map(|name| (*name).to_owned()).collect();
    output::table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

fn number(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.4}"))
}
