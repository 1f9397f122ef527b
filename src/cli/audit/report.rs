//! `consilium audit report`: what an export says was planned, spent and left.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use consilium_proto::Digest;

use super::verify::{read, refuse_unsound, trust_root};
use crate::{
    audit::Verdict,
    audit_report::{Report, to_html},
    output,
};

/// The file is checked first, as by `verify`; findings stand at the head of the report, and end the
/// command with exit code 6.
#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// What `audit export` wrote
    file: PathBuf,
    /// Fingerprint of the governance key, obtained from elsewhere than the file
    #[arg(long, value_name = "ROOT")]
    trust: Option<Digest>,
    /// Write a page with tables and pictures here; it needs nothing else
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Options {
    pub(super) fn run(self) -> Result<()> {
        let root = trust_root(self.trust)?;
        let report = Report::of(Verdict::of(&read(&self.file)?, &root, None), root);
        if let Some(path) = &self.html {
            fs::write(path, to_html(&report))
                .with_context(|| format!("writing {}", path.display()))?;
            output::note(format_args!("wrote {}", path.display()));
        }
        match self.json {
            true => output::json(&report)?,
            false => output::line(table(&report))?,
        }
        for finding in &report.findings {
            output::note(format_args!("{} {finding}", output::red("finding:")));
        }
        refuse_unsound(&self.file, report.findings.len())
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
