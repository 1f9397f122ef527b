//! What a check found, for the steward. It holds true counts and places and stays at the site.
//!
//! Nothing in it is content: no text of a note, no cell, no pixel. Labels, names of columns and file
//! names are there, as in the report of a registration.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

/// Cases that a report names of each kind; the others are counted.
pub const NAMED: usize = 20;
/// Places that a case names; the others are counted.
const PLACES: usize = 10;
/// Characters that a case says besides.
const DETAIL: usize = 160;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Records looked at, the unreadable ones too.
    pub records: usize,
    /// Patients they belong to, as far as the source says whose they are.
    pub patients: usize,
    /// Records of each label.
    pub classes: BTreeMap<String, usize>,
    /// What is wrong or suspect, one for each kind that was found, in the order of [`Kind`].
    pub findings: Vec<Finding>,
}

/// All cases of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What is the case.
    pub kind: Kind,
    /// What to do about it.
    pub action: Action,
    /// How often.
    pub count: usize,
    /// The first cases, at most [`NAMED`], in the order of the source unless the kind says otherwise.
    pub first: Vec<Case>,
}

/// One record, or several that share a finding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Case {
    /// Where: the first of the records it is about; none where it is about the whole set.
    pub places: Vec<String>,
    /// Records it is about besides.
    pub more: usize,
    /// How much; what it measures stands at the [`Kind`].
    pub measure: f64,
    /// What else is to be said: a size, a column, the labels that contradict each other.
    pub detail: String,
}

/// What a steward does with the records of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Correct the source or exclude the records: training on them is wrong whatever they show.
    Exclude,
    /// Look at them: a rule of thumb suspects them.
    Look,
}

/// What may be the case, the gravest first. In brackets, what the measure of a case says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It cannot be read \[1\].
    Unreadable,
    /// A picture of one grey, or a note without letters and digits \[range of grey values, or bytes\].
    Empty,
    /// The same or nearly the same content stands in several parts, such as train and test \[records\].
    CopiesAcrossParts,
    /// The same or nearly the same content has several labels \[records\].
    CopiesWithOtherLabels,
    /// One patient has records in several parts \[records\].
    PatientInParts,
    /// Content that is there several times \[records\].
    Copies,
    /// Content that is there several times with small changes [bits of 64 in which the hashes of two
    /// pictures differ, the largest found; least estimated similarity of two notes].
    NearCopies,
    /// No label \[1\].
    Unlabelled,
    /// All labels are the same \[records\].
    OneClass,
    /// A class is much rarer than the most frequent one \[its records for each of the frequent one\].
    RareClass,
    /// A patient's records have several labels \[labels\].
    PatientWithSeveralLabels,
    /// A patient has far more records than others \[records\].
    ManyRecordsOfOnePatient,
    /// A model that never saw the record is confident of another label, most confident first
    /// \[probability of the label that stands there\].
    LabelSuspect,
    /// Another size than the plan or most pictures \[pixels\].
    OtherSize,
    /// Other channels or another bit depth than the plan or most pictures \[bits for each pixel\].
    OtherDepth,
    /// Many pixels have the largest value there is \[their share\].
    Saturated,
    /// Most of the picture is a black border \[its share of the area\].
    BlackBorder,
    /// Grey values hardly differ \[between the 1st and the 99th of 100, of 1\].
    LowContrast,
    /// Far blurrier than the others \[deviations below the median sharpness of the set\].
    Blurred,
    /// Dark where the others are bright and the other way round \[correlation with their mean\].
    Inverted,
    /// Something like letters is burnt into the picture \[signs in lines\].
    BurnedInText,
    /// A note with few words \[words\].
    TooShort,
    /// A note with very many words \[words\].
    TooLong,
    /// A text that was read in another encoding than it was written in \[places in the text\].
    WrongEncoding,
    /// A note that says nothing but who and when \[words besides\].
    OnlyIdentifiers,
    /// A column with missing cells, the emptiest first \[their share\].
    MissingCells,
    /// A column whose cells are all the same \[1\].
    ConstantColumn,
    /// A column with cells that are neither numbers nor missing \[their share\].
    NotNumeric,
    /// Numbers outside the outermost edges of the plan's bins, by more than these are apart \[share\].
    OutOfRange,
    /// A row with another number of cells than the header \[cells\].
    OtherLength,
}

impl Kind {
    /// What a report calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Empty => "empty",
            Self::CopiesAcrossParts => "copies across parts",
            Self::CopiesWithOtherLabels => "copies with other labels",
            Self::PatientInParts => "patients in several parts",
            Self::Copies => "same content",
            Self::NearCopies => "nearly the same content",
            Self::Unlabelled => "without label",
            Self::OneClass => "only one class",
            Self::RareClass => "rare classes",
            Self::PatientWithSeveralLabels => "patients with several labels",
            Self::ManyRecordsOfOnePatient => "patients with very many records",
            Self::LabelSuspect => "suspect labels",
            Self::OtherSize => "other size",
            Self::OtherDepth => "other channels or bit depth",
            Self::Saturated => "saturated",
            Self::BlackBorder => "mostly black border",
            Self::LowContrast => "low contrast",
            Self::Blurred => "blurred",
            Self::Inverted => "perhaps inverted",
            Self::BurnedInText => "perhaps with burned-in text",
            Self::TooShort => "too short",
            Self::TooLong => "too long",
            Self::WrongEncoding => "perhaps in a wrong encoding",
            Self::OnlyIdentifiers => "nothing but identifiers",
            Self::MissingCells => "columns with missing cells",
            Self::ConstantColumn => "columns that never change",
            Self::NotNumeric => "columns with other than numbers",
            Self::OutOfRange => "columns with numbers out of range",
            Self::OtherLength => "rows of another length than the header",
        }
    }

    /// What the measure of a case is called.
    pub fn measure(self) -> &'static str {
        match self {
            Self::Unreadable | Self::Unlabelled | Self::ConstantColumn => "",
            Self::Empty => "range",
            Self::CopiesAcrossParts
            | Self::CopiesWithOtherLabels
            | Self::PatientInParts
            | Self::Copies
            | Self::OneClass
            | Self::ManyRecordsOfOnePatient => "records",
            Self::NearCopies => "farthest",
            Self::RareClass => "for each of the most frequent",
            Self::PatientWithSeveralLabels => "labels",
            Self::LabelSuspect => "probability of its label",
            Self::OtherSize => "pixels",
            Self::OtherDepth => "bits for each pixel",
            Self::Saturated
            | Self::BlackBorder
            | Self::MissingCells
            | Self::NotNumeric
            | Self::OutOfRange => "share",
            Self::LowContrast => "range",
            Self::Blurred => "deviations below the median",
            Self::Inverted => "correlation with the mean",
            Self::BurnedInText => "signs",
            Self::TooShort | Self::TooLong => "words",
            Self::WrongEncoding => "places",
            Self::OnlyIdentifiers => "words besides",
            Self::OtherLength => "cells",
        }
    }

    /// What to do about it.
    pub fn action(self) -> Action {
        match self {
            Self::Unreadable
            | Self::Empty
            | Self::CopiesAcrossParts
            | Self::CopiesWithOtherLabels
            | Self::PatientInParts
            | Self::Unlabelled
            | Self::OneClass
            | Self::OtherLength => Action::Exclude,
            _ => Action::Look,
        }
    }
}

/// Cases as they are found, of each kind only as many as a report names.
#[derive(Debug, Default)]
pub(super) struct Findings(BTreeMap<Kind, (usize, Vec<Case>)>);

impl Findings {
    /// Adds a case about some records.
    pub(super) fn add<'a>(
        &mut self,
        kind: Kind,
        places: impl IntoIterator<Item = &'a str>,
        measure: f64,
        detail: impl AsRef<str>,
    ) {
        let (count, first) = self.0.entry(kind).or_default();
        *count += 1;
        if first.len() == NAMED {
            return;
        }
        let mut places = places.into_iter();
        first.push(Case {
            places: places.by_ref().take(PLACES).map(str::to_owned).collect(),
            more: places.count(),
            measure,
            detail: detail.as_ref().chars().take(DETAIL).collect(),
        });
    }

    pub(super) fn into_list(self) -> Vec<Finding> {
        let finding = |(kind, (count, first)): (Kind, (usize, Vec<Case>))| Finding {
            kind,
            action: kind.action(),
            count,
            first,
        };
        self.0.into_iter().map(finding).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} records of {} patients", self.records, self.patients)?;
        for (class, count) in &self.classes {
            writeln!(f, "  label {class}: {count}")?;
        }
        if self.findings.is_empty() {
            return writeln!(f, "nothing found");
        }
        self.findings
            .iter()
            .try_for_each(|finding| write!(f, "{finding}"))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match self.action {
            Action::Exclude => "correct or exclude",
            Action::Look => "look at",
        };
        writeln!(f, "{}: {} ({action})", self.kind.title(), self.count)?;
        for case in &self.first {
            writeln!(f, "  {}", case.line(self.kind))?;
        }
        match self.count - self.first.len().min(self.count) {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}

impl Case {
    fn line(&self, kind: Kind) -> String {
        let mut line = self.places.join(" = ");
        if self.more > 0 {
            line += &format!(" and {} more", self.more);
        }
        let mut facts = Vec::new();
        if !self.detail.is_empty() {
            facts.push(self.detail.clone());
        }
        if !kind.measure().is_empty() {
            facts.push(format!("{} {}", kind.measure(), short(self.measure)));
        }
        match (line.is_empty(), facts.is_empty()) {
            (_, true) => line,
            (true, false) => facts.join(", "),
            (false, false) => format!("{line} ({})", facts.join(", ")),
        }
    }
}

/// A number with as many digits as a person wants.
fn short(value: f64) -> String {
    match value.fract() == 0.0 {
        true => format!("{value}"),
        false => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(cases: usize) -> Report {
        let mut findings = Findings::default();
        let places: Vec<String> = (0..12).map(|at| format!("{at}.png")).collect();
        for _ in 0..cases {
            let places = places.iter().map(String::as_str);
            findings.add(Kind::NearCopies, places, 3.0, "several patients");
        }
        findings.add(Kind::Unreadable, ["x.png"], 1.0, "the file is empty");
        findings.add(Kind::OneClass, [], 9.0, "");
        Report {
            records: 40,
            patients: 3,
            classes: BTreeMap::from([("ill".into(), 9)]),
            findings: findings.into_list(),
        }
    }

    #[test]
    fn the_gravest_comes_first_and_long_lists_are_cut_and_counted() {
        let text = report(25).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "40 records of 3 patients");
        assert_eq!(lines[1], "  label ill: 9");
        assert_eq!(lines[2], "unreadable: 1 (correct or exclude)");
        assert_eq!(lines[3], "  x.png (the file is empty)");
        assert_eq!(lines[4], "nearly the same content: 25 (look at)");
        assert!(
            lines[5].ends_with("9.png and 2 more (several patients, farthest 3)"),
            "{text}"
        );
        assert_eq!(lines[5 + NAMED], "  and 5 more");
        assert_eq!(lines.last(), Some(&"  records 9"));
    }

    #[test]
    fn a_report_is_the_same_each_time_and_serialises() {
        assert_eq!(report(2), report(2));
        let json = serde_json::to_string(&report(2)).expect("a report");
        assert!(
            json.contains(r#""kind":"near-copies","action":"look","count":2"#),
            "{json}"
        );
    }

    #[test]
    fn details_are_bounded() {
        let mut findings = Findings::default();
        findings.add(Kind::Unreadable, ["a"], 1.0, "é".repeat(5000));
        assert_eq!(
            findings.into_list()[0].first[0].detail.chars().count(),
            DETAIL
        );
    }
}
