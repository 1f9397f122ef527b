//! Texts that must say something, and numbers that stand alone.

use super::{
    super::file::{Entries, Placed},
    Entry, Report,
};

/// Most bytes of one text.
const TEXT_LIMIT: usize = 4000;

/// Checks headers, sources, priors, points, and that no text is empty or endless.
pub(super) fn check(entries: &Entries, report: &mut Report<'_>) {
    for it in &entries.sources {
        let source = &it.entry;
        text(report, it, "title", &source.title);
        text(report, it, "organisation", &source.organisation);
        let is_dated = source.year.map_or(source.version.is_some(), |year| {
            (1900..=2100).contains(&year)
        });
        if !is_dated
            || source
                .version
                .as_ref()
                .is_some_and(|version| version.trim().is_empty())
        {
            let what = "neither a year from 1900 on nor a version says which edition is meant";
            report.add(
                it,
                what,
                "give the year of publication, the version or both",
            );
        }
        let is_link = ["https://", "http://"].iter().any(|begin| {
            source
                .url
                .strip_prefix(begin)
                .is_some_and(|rest| !rest.is_empty())
        });
        if !is_link || source.url.len() > 500 || source.url.contains(char::is_whitespace) {
            report.add(
                it,
                "the url is no address",
                "give one that begins with https://",
            );
        }
    }
    for it in &entries.conditions {
        text(report, it, "description", &it.entry.description);
        text(report, it, "setting", &it.entry.setting);
        let among = it.entry.among.iter().map(|presentation| presentation.prior);
        for prior in among.chain([it.entry.prior]) {
            if !(prior > 0.0 && prior < 1.0) {
                let what = format!("the prior {prior} is no probability");
                report.add(it, what, "give a number above 0 and below 1");
            }
        }
        for presentation in &it.entry.among {
            text(report, it, "setting", &presentation.setting);
        }
    }
    for it in &entries.rules {
        text(report, it, "says", &it.entry.says);
    }
    for it in &entries.scores {
        text(report, it, "says", &it.entry.says);
        if it.entry.items.is_empty() {
            report.add(
                it,
                "the score has no items",
                "add items = [{ name, points, when }]",
            );
        }
        for item in &it.entry.items {
            text(report, it, "name of an item", &item.name);
            if !item.points.is_finite() || item.points.abs() > 1000.0 || item.points == 0.0 {
                report.add(
                    it,
                    "an item gives no points",
                    "give points other than 0, up to 1000",
                );
            }
        }
    }
    for it in &entries.treatments {
        text(report, it, "name", &it.entry.name);
        for step in &it.entry.steps {
            let texts = [&step.route, &step.duration, &step.grade, &step.note];
            let texts = texts.into_iter().flatten().chain(&step.monitoring);
            for said in texts.chain(step.doses.iter().map(|dose| &dose.frequency)) {
                text(report, it, "text of a step", said);
            }
        }
    }
    for it in &entries.interactions {
        text(report, it, "mechanism", &it.entry.mechanism);
        text(report, it, "advice", &it.entry.advice);
    }
    for it in &entries.contraindications {
        text(report, it, "reason", &it.entry.reason);
    }
}

fn text<T: Entry>(report: &mut Report<'_>, of: &Placed<T>, name: &str, text: &str) {
    if text.trim().is_empty() {
        report.add(
            of,
            format!("{name} says nothing"),
            "write what a reader should know",
        );
    } else if text.len() > TEXT_LIMIT {
        let what = format!("{name} is longer than {TEXT_LIMIT} bytes");
        report.add(of, what, "say it shorter");
    }
}
