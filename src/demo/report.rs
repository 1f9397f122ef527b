//! What the demo found: a table for people, one object for scripts.

use std::path::PathBuf;

use anyhow::Result;
use consilium_proto::Digest;
use serde::Serialize;

use super::{federation::Federation, headline, material::Material, plans::Settings};
use crate::{output, scoring::Figures};

/// Everything that the demo found; all scores are of the test part.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) seconds: f64,
    pub(super) secure_aggregation: bool,
    pub(super) dir: PathBuf,
    pub(super) alone: Vec<Alone>,
    pub(super) together: Together,
    pub(super) together_private: TogetherPrivate,
    pub(super) audit_export: PathBuf,
    pub(super) trust_root: Digest,
}

/// A hospital by itself, without privacy.
#[derive(Debug, Serialize)]
pub(super) struct Alone {
    site: String,
    accuracy: f64,
    auc: f64,
}

/// All hospitals, without privacy.
#[derive(Debug, Serialize)]
pub(super) struct Together {
    accuracy: f64,
    auc: f64,
}

/// All hospitals, with privacy: ε is the largest of the sites', by their ledgers.
#[derive(Debug, Serialize)]
pub(super) struct TogetherPrivate {
    accuracy: f64,
    auc: f64,
    epsilon: f64,
    delta: f64,
}

impl Alone {
    pub(super) fn new(site: &str, figures: &Figures) -> Self {
        let (accuracy, auc) = headline(figures);
        Self {
            site: site.to_owned(),
            accuracy,
            auc,
        }
    }
}

impl Together {
    pub(super) fn new(figures: &Figures) -> Self {
        let (accuracy, auc) = headline(figures);
        Self { accuracy, auc }
    }
}

impl TogetherPrivate {
    pub(super) fn new(figures: &Figures, epsilon: f64, delta: f64) -> Self {
        let (accuracy, auc) = headline(figures);
        Self {
            accuracy,
            auc,
            epsilon,
            delta,
        }
    }
}

/// Says what comes, and in red what is not protected.
pub(super) fn announce(material: &Material, settings: &Settings) {
    for hospital in &material.hospitals {
        output::note(format_args!(
            "{}: {} patients",
            hospital.name, hospital.patients
        ));
    }
    if !material
        .hospitals
        .iter()
        .all(|hospital| hospital.has_patients)
    {
        output::note("the images name no patient: each counts as its own");
    }
    output::note(format_args!(
        "{} rounds of {}; with privacy ε ≤ {} at δ = {:e} for each patient of a hospital",
        settings.rounds,
        settings.networks(material),
        settings.epsilon,
        settings.delta
    ));
    if !settings.secure_aggregation {
        output::note(output::red(
            "no secure aggregation: the coordinator sees each hospital's update by itself",
        ));
    } else if material.hospitals.len() < 5 {
        output::note(
            "the coordinator learns only the sum of all hospitals' updates; with fewer than five \
             hospitals none of them may drop out of a round, or work with the coordinator",
        );
    } else {
        output::note(
            "the coordinator learns only the sum of all hospitals' updates, even if one hospital \
             works with it",
        );
    }
    output::note(output::red(
        "the runs \"alone\" and \"together, without privacy\" protect no patient: they are here to \
         compare",
    ));
}

impl Report {
    /// Prints the table and where to look next, then the object if asked for.
    pub(super) fn print(
        &self,
        material: &Material,
        federation: &Federation,
        as_json: bool,
    ) -> Result<()> {
        let text = self.table(material);
        let next = self.next(federation);
        if as_json {
            output::note(text);
            output::note(next);
            return output::json(self);
        }
        output::line(text)?;
        output::note(next);
        Ok(())
    }

    fn table(&self, material: &Material) -> String {
        let header = ["model", "accuracy", "AUC", "ε"]
            .map(str::to_owned)
            .to_vec();
        let row = |name: String, accuracy: f64, auc: f64, epsilon: String| {
            vec![name, format!("{accuracy:.3}"), format!("{auc:.3}"), epsilon]
        };
        let mut rows = vec![header];
        rows.extend(self.alone.iter().map(|alone| {
            let name = format!("{} alone, without privacy", alone.site);
            row(name, alone.accuracy, alone.auc, "none".to_owned())
        }));
        let Together { accuracy, auc } = self.together;
        rows.push(row(
            "together, without privacy".to_owned(),
            accuracy,
            auc,
            "none".to_owned(),
        ));
        let TogetherPrivate {
            accuracy,
            auc,
            epsilon,
            delta,
        } = self.together_private;
        let spent = format!("{epsilon:.2} at δ = {delta:e}");
        rows.push(row(
            "together, with privacy".to_owned(),
            accuracy,
            auc,
            spent,
        ));
        let kind = if material.is_generated {
            "generated, not real patients"
        } else {
            "real images"
        };
        format!(
            "\n{}\n\nscores of the public test part ({kind}); {:.1} s in all",
            output::table(&rows),
            self.seconds
        )
    }

    fn next(&self, federation: &Federation) -> String {
        let (dir, researcher) = (self.dir.display(), federation.researcher_folder());
        let researcher = researcher.display();
        let (export, root) = (self.audit_export.display(), self.trust_root);
        format!(
            "\nan auditor checks what the hospitals spent, from one file and the trust root alone\n\
             \x20 consilium audit verify {export} --trust {root}\n\
             \x20 consilium audit report {export} --trust {root} --html report.html\n\
             \nwhere to look next\n\
             \x20 plans        {dir}/plans\n\
             \x20 logs         {dir}/logs\n\
             \x20 policies     {dir}/hospital-1/node/policy.toml\n\
             \x20 studies      consilium study list --dir {researcher} --key-file {researcher}.key\n\
             \x20              (while the federation runs: consilium demo --keep)\n\
             research use only"
        )
    }
}

/// A score in three digits.
pub(super) fn number(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_exactly_the_promised_fields() {
        let report = Report {
            seconds: 1.5,
            secure_aggregation: false,
            dir: "demo".into(),
            alone: vec![Alone {
                site: "hospital-1".into(),
                accuracy: 0.5,
                auc: 0.5,
            }],
            together: Together {
                accuracy: 0.6,
                auc: 0.7,
            },
            together_private: TogetherPrivate {
                accuracy: 0.6,
                auc: 0.7,
                epsilon: 8.0,
                delta: 1e-5,
            },
            audit_export: "demo/audit.jsonl".into(),
            trust_root: Digest::plain(b"root"),
        };
        let text = serde_json::to_string(&report).expect("an object");
        let root = Digest::plain(b"root");
        assert_eq!(
            text,
            format!(
                "{{\"seconds\":1.5,\"secure_aggregation\":false,\"dir\":\"demo\",\
                 \"alone\":[{{\"site\":\"hospital-1\",\"accuracy\":0.5,\"auc\":0.5}}],\
                 \"together\":{{\"accuracy\":0.6,\"auc\":0.7}},\
                 \"together_private\":{{\"accuracy\":0.6,\"auc\":0.7,\"epsilon\":8.0,\"delta\":0.00001}},\
                 \"audit_export\":\"demo/audit.jsonl\",\"trust_root\":\"{root}\"}}"
            )
        );
    }
}
