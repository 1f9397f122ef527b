//! A report as one HTML page: no scripts, nothing from elsewhere, every text escaped.

use std::fmt::{Display, Write as _};

use consilium_privacy::accountant::Charge;

use super::{DataSetReport, Figures, Report, RoundReport, SiteReport, StudyReport};
use crate::{
    chart::{BLUE, Chart, RED, Series},
    output,
};

const STYLE: &str = "body{font:15px/1.45 sans-serif;max-width:70em;margin:2em auto;padding:0 1em;\
color:#222}table{border-collapse:collapse;margin:.6em 0}th,td{border:1px solid #ccc;\
padding:.25em .6em;text-align:left}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
.bad{background:#fdecea;border:1px solid #c0392b;padding:.6em 1em}.good{background:#eaf6ec;\
border:1px solid #2e7d32;padding:.6em 1em}code{word-break:break-all}svg{max-width:640px;\
display:block}section{border-top:2px solid #222;margin-top:2em}@media print{body{max-width:none}}";

/// The page.
pub fn to_html(report: &Report) -> String {
    let mut page = Page(String::new());
    page.push(format_args!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>Privacy spent</title><style>{STYLE}</style></head><body>\n\
         <h1>Privacy spent</h1>\n<p>Trust root <code>{}</code>. Research use only.</p>",
        report.trust_root
    ));
    page.verdict(report);
    page.push(format_args!(
        "<p>Every figure compares two data sets that differ by one <b>{}</b>, added or removed \
         ({}). Who must be trusted:</p>",
        report.unit, report.adjacency
    ));
    page.list(&report.trusted);
    for site in &report.sites {
        page.site(site);
    }
    page.push("<section><h2>What this check cannot show</h2>");
    page.list(&report.cannot_show);
    page.push("</section></body></html>");
    page.0
}

struct Page(String);

impl Page {
    /// Writes what is HTML already.
    fn push(&mut self, html: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{html}");
    }

    fn list<T: Display>(&mut self, items: &[T]) {
        self.push("<ul>");
        for item in items {
            self.push(format_args!("<li>{}</li>", escape(item)));
        }
        self.push("</ul>");
    }

    fn verdict(&mut self, report: &Report) {
        if report.sound {
            return self.push(
                "<p class=\"good\">The file verifies: roster, keys, chains, signatures, receipts, budgets, \
                 plans and every study's ε.</p>",
            );
        }
        self.push("<div class=\"bad\"><p><b>The file does not verify.</b></p>");
        self.list(&report.findings);
        self.push("</div>");
    }

    fn site(&mut self, site: &SiteReport) {
        let revoked = if site.revoked {
            ", put out by governance"
        } else {
            ""
        };
        self.push(format_args!(
            "<section><h2>{} (member {}{revoked})</h2>\n<p>{} ledger entries, exported {} UTC by \
             its own clock; newest entry <code>{}</code>; ledger key <code>{}</code>; receipts of \
             the coordinator: {}.</p>",
            escape(&site.name),
            site.id,
            site.entries,
            output::time(site.exported_at.saturating_mul(1000)),
            site.head,
            site.ledger_key,
            match site.receipts {
                0 => "none".to_owned(),
                held => held.to_string(),
            },
        ));
        self.data_sets(&site.data_sets);
        for study in &site.studies {
            self.study(study);
        }
        self.push("</section>");
    }

    fn data_sets(&mut self, data_sets: &[DataSetReport]) {
        self.push(
            "<h3>Data sets, over all studies</h3>\n<table><tr><th>data set</th>\
             <th class=\"n\">public size</th><th class=\"n\">budget ε</th><th class=\"n\">δ</th>\
             <th class=\"n\">spent ε (rdp)</th><th>left</th></tr>",
        );
        for DataSetReport {
            public_size,
            account,
        } in data_sets
        {
            let left = account.left.map_or("-".to_owned(), |left| {
                mechanism(&left.like.with_releases(left.releases))
            });
            self.row(&[
                Cell::Text(account.name.clone()),
                Cell::optional(*public_size),
                Cell::optional(account.budget.map(|budget| budget.epsilon)),
                Cell::optional(account.budget.map(|budget| budget.delta)),
                Cell::Number(format!("{:.4}", account.spent)),
                Cell::Text(left),
            ]);
        }
        self.push("</table>\n<p>The budget is the guarantee: it holds also where a charge was chosen after \
                   seeing earlier releases.</p>");
        let releases = data_sets.iter().flat_map(|set| &set.account.releases);
        let releases: Vec<_> = releases
            .map(|release| {
                format!(
                    "{} of {}: {} (entry {})",
                    release.what,
                    release.data_set,
                    mechanism(&release.charge),
                    release.entry
                )
            })
            .collect();
        if releases.is_empty() {
            self.push("<p>Nothing was released beside training.</p>");
        } else {
            self.push("<p>Released beside training:</p>");
            self.list(&releases);
        }
    }

    fn study(&mut self, study: &StudyReport) {
        let name = study.name.as_deref().unwrap_or("a study without plan");
        self.push(format_args!(
            "<h3>Study {}</h3>\n<p><code>{}</code>; plan {}; δ = {}</p>\n\
             <table><tr><th></th><th class=\"n\">ε (rdp)</th><th class=\"n\">ε (pld)</th></tr>",
            escape(name),
            study.study,
            study
                .plan
                .map_or("not in the file".to_owned(), |plan| format!(
                    "<code>{plan}</code>"
                )),
            study
                .delta
                .map_or("not stated".to_owned(), |delta| delta.to_string()),
        ));
        let rounds = study
            .planned_rounds
            .map_or("the plan".to_owned(), |rounds| format!("{rounds} rounds"));
        let rows = [
            (format!("planned ({rounds})"), study.planned),
            (
                format!("spent ({} charges)", study.rounds.len()),
                study.spent,
            ),
        ];
        for (what, figures) in rows {
            let Figures { rdp, pld } = figures.unwrap_or(Figures {
                rdp: None,
                pld: None,
            });
            self.row(&[Cell::Text(what), Cell::epsilon(rdp), Cell::epsilon(pld)]);
        }
        let cap = study.cap.map(|cap| cap.epsilon.value());
        self.row(&[
            Cell::Text("left".to_owned()),
            Cell::epsilon(study.left_epsilon),
            Cell::Number(String::new()),
        ]);
        self.row(&[
            Cell::Text("cap".to_owned()),
            Cell::epsilon(cap),
            Cell::epsilon(cap),
        ]);
        self.push("</table>");
        if let Some(picture) = picture(study) {
            self.push(picture);
        }
        self.push(
            "<table><tr><th class=\"n\">round</th><th class=\"n\">attempt</th><th class=\"n\">entry\
             </th><th>data set</th><th>mechanism</th><th class=\"n\">C</th>\
             <th class=\"n\">C after it</th><th class=\"n\">B</th>\
             <th class=\"n\">steps taken</th><th class=\"n\">ε so far (rdp)</th>\
             <th class=\"n\">ε so far (pld)</th></tr>",
        );
        for round in &study.rounds {
            self.round(round);
        }
        self.push("</table>");
        if study.rounds.iter().any(|round| round.epsilon.pld.is_none()) {
            self.push("<p>Of a long study, pld figures are computed for some rounds and the last one.</p>");
        }
    }

    fn round(&mut self, round: &RoundReport) {
        self.row(&[
            Cell::Number(round.round.to_string()),
            Cell::Number(round.attempt.to_string()),
            Cell::Number(round.entry.to_string()),
            Cell::Text(round.data_set.clone()),
            Cell::Text(mechanism(&round.charge)),
            Cell::optional(round.clipping_norm),
            Cell::optional(round.next_clipping_norm),
            Cell::optional(round.batch_size),
            Cell::optional(round.taken),
            Cell::epsilon(round.epsilon.rdp),
            Cell::epsilon(round.epsilon.pld),
        ]);
    }

    fn row(&mut self, cells: &[Cell]) {
        let mut row = String::from("<tr>");
        for cell in cells {
            row += &match cell {
                Cell::Text(text) => format!("<td>{}</td>", escape(text)),
                Cell::Number(text) => format!("<td class=\"n\">{}</td>", escape(text)),
            };
        }
        self.push(row + "</tr>");
    }
}

enum Cell {
    Text(String),
    Number(String),
}

impl Cell {
    fn optional(value: Option<impl Display>) -> Self {
        Self::Number(value.map_or("-".to_owned(), |value| value.to_string()))
    }

    fn epsilon(value: Option<f64>) -> Self {
        Self::optional(value.map(|value| format!("{value:.4}")))
    }
}

/// What was charged, in words.
pub(crate) fn mechanism(charge: &Charge) -> String {
    match charge {
        Charge::SampledGaussian { q, sigma, steps } => {
            format!(
                "{steps} Gaussian steps, q = {:.6}, σ = {:.4}",
                q.value(),
                sigma.value()
            )
        }
        Charge::TruncatedGaussian {
            q,
            sigma,
            largest_batch,
            units,
            steps,
        } => {
            format!(
                "{steps} Gaussian steps, q = {:.6}, σ = {:.4}, batches of {units} units cut at \
                 {largest_batch}",
                q.value(),
                sigma.value()
            )
        }
        Charge::Laplace { epsilon, releases } => format!("{releases} x Laplace, ε = {epsilon}"),
        Charge::Pure { epsilon, releases } => format!("{releases} x pure, ε = {epsilon}"),
    }
}

/// ε over the charges of a study, by both accountants.
fn picture(study: &StudyReport) -> Option<String> {
    let points = |of: fn(&Figures) -> Option<f64>| {
        let known = (1..).zip(&study.rounds);
        let known =
            known.filter_map(|(charge, round)| Some((f64::from(charge), of(&round.epsilon)?)));
        known.collect::<Vec<_>>()
    };
    let (rdp, pld) = (points(|figures| figures.rdp), points(|figures| figures.pld));
    if rdp.is_empty() {
        return None;
    }
    let from_nothing = |points: Vec<_>| [vec![(0.0, 0.0)], points].concat();
    let chart = Chart {
        title: "ε over the rounds that were charged".to_owned(),
        below: "round",
        top: None,
        series: vec![
            Series {
                name: "rdp".to_owned(),
                colour: BLUE,
                points: from_nothing(rdp),
            },
            Series {
                name: "pld".to_owned(),
                colour: RED,
                points: from_nothing(pld),
            },
        ],
    };
    Some(chart.to_svg())
}

fn escape(text: impl Display) -> String {
    let text = text.to_string();
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
