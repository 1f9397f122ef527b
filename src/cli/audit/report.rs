//! `consilium audit report`: what an export says was planned, spent and left.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::verify::Evidence;
use crate::{
    audit_report::{Report, to_html},
    output,
};

/// The file is checked first, as by `verify`; findings stand at the head of the report, and end the
/// command with exit code 6.
#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    evidence: Evidence,
    /// Write a page with tables and pictures here; it needs nothing else
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Options {
    pub(super) fn run(self) -> Result<()> {
        let (verdict, root) = self.evidence.judge()?;
        let report = Report::of(verdict, root);
        if let Some(path) = &self.html {
            output::file(path, to_html(&report).as_bytes())?;
            output::note(format_args!("wrote {}", path.display()));
        }
        match self.json {
            true => output::json(&report)?,
            false => output::line(table(&report))?,
        }
        for finding in &report.findings {
            output::note(format_args!("{} {finding}", output::red("finding:")));
        }
        self.evidence.refuse_unsound(report.findings.len())
    }
}

fn table(report: &Report) -> String {
    let header = [
        "site",
        "study",
        "rounds",
        "δ",
        "planned ε",
        "spent ε (rdp)",
        "spent ε (pld)",
        "left ε",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for site in &report.sites {
        for study in &site.studies {
            let number =
                |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
            let cap = study.cap.map(|cap| cap.epsilon.value());
            rows.push(vec![
                site.name.clone(),
                study.name.clone().unwrap_or(study.study.to_string()),
                format!(
                    "{}/{}",
                    study.rounds.len(),
                    study.planned_rounds.unwrap_or(0)
                ),
                study
                    .delta
                    .map_or("-".to_owned(), |delta| format!("{:e}", delta.value())),
                number(cap),
                number(study.spent.and_then(|spent| spent.rdp)),
                number(study.spent.and_then(|spent| spent.pld)),
                number(study.left_epsilon),
            ]);
        }
    }
    output::table(&rows)
}
