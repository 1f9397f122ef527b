//! Values behind the names of tests: `CRP 120 mg/L`, `BP 150/90`, `体温 38.5℃`.
//!
//! Units are those that the knowledge files convert. A value without one counts only where a single of them
//! makes it possible in a living patient; what is unclear is listed with its reason and enters no fact.

use serde::Serialize;

use super::{
    lexicon::{Cue, Hit, What},
    page::{Bound, Figure, Page},
};
use crate::{
    decision::knowledge::{ConceptId, Knowledge, Level, Measure},
    text::{Certainty, Span, Status},
};

/// A value of a test as a note has it.
#[derive(Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Of which test.
    pub test: ConceptId,
    /// From the test's name to the unit.
    pub span: Span,
    /// The value with its unit.
    pub value_span: Span,
    /// The number as it is written; of a range the smaller one.
    pub number: f64,
    /// The larger number of a range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_to: Option<f64>,
    /// On which side of the number the value lies; none where it is the number itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
    /// The unit as it is written, or the only one that makes the value possible.
    pub unit: String,
    /// Whether the note leaves the unit out.
    pub unit_is_assumed: bool,
    /// The value in the test's own unit; none of bounds and ranges, which enter no fact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The test's own unit.
    pub own_unit: String,
    /// Where the value lies by the reference range of this patient; none where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Whose and when it was.
    pub status: Status,
}

/// Something that looks like a value and is not taken for one.
#[derive(Clone, PartialEq, Serialize)]
pub struct Unread {
    /// Of which test, drug or kind.
    pub concept: Option<ConceptId>,
    /// Where it stands.
    pub span: Span,
    /// Why.
    pub why: Why,
}

/// Why something is not taken for what it looks like.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Why {
    /// No living patient has it.
    Impossible {
        /// The smallest possible value.
        low: f64,
        /// The largest possible value.
        high: f64,
        /// The unit of both.
        unit: String,
    },
    /// The knowledge files do not convert its unit.
    UnknownUnit,
    /// It has no unit, and could have several.
    NoUnit {
        /// Which.
        units: Vec<String>,
    },
    /// It is an allergy to something that the knowledge files do not name.
    UnknownAllergy,
}

impl Why {
    /// In words.
    pub fn words(&self) -> String {
        match self {
            Self::Impossible { low, high, unit } => {
                format!("not possible: {low} to {high} {unit} is")
                    .trim_end()
                    .to_owned()
            }
            Self::UnknownUnit => "the unit is not known".into(),
            Self::NoUnit { units } => format!("no unit: could be {}", units.join(" or ")),
            Self::UnknownAllergy => {
                "an allergy to something that the knowledge files do not name".into()
            }
        }
    }
}

/// Words between the name of a test and its value.
const BETWEEN: [&str; 62] = [
    ":",
    "=",
    "(",
    ")",
    "[",
    "]",
    "is",
    "was",
    "of",
    "at",
    "level",
    "levels",
    "count",
    "value",
    "result",
    "measured",
    "elevated",
    "raised",
    "high",
    "low",
    "increased",
    "decreased",
    "reduced",
    "normal",
    "stable",
    "up",
    "down",
    "today",
    "now",
    "currently",
    "still",
    "only",
    "a",
    "the",
    "with",
    "max",
    "maximum",
    "peak",
    "reading",
    "为",
    "是",
    "达",
    "高",
    "至",
    "升",
    "降",
    "到",
    "值",
    "水",
    "平",
    "计",
    "数",
    "浓",
    "度",
    "示",
    "测",
    "得",
    "最",
    "偏",
    "明",
    "显",
    "增",
];

/// Most words between them.
const MOST_BETWEEN: usize = 8;

/// What makes a number behind a test a time or a count.
const COUNTS: [&str; 34] = [
    "day", "days", "hour", "hours", "hr", "hrs", "h", "week", "weeks", "month", "months", "year",
    "years", "yr", "yrs", "minutes", "times", "time", "st", "nd", "rd", "th", "am", "pm", "x",
    "天", "日", "年", "月", "周", "小", "岁", "次", "个",
];

/// Words that are units, of whatever.
const UNITS: [&str; 35] = [
    "%", "°", "mg", "g", "kg", "mcg", "ug", "µg", "μg", "ng", "pg", "mmol", "umol", "µmol", "μmol",
    "nmol", "pmol", "meq", "iu", "u", "mu", "miu", "ml", "l", "dl", "mm", "cm", "bpm", "kpa",
    "mmhg", "k", "c", "f", "sec", "s",
];

/// Words that the longest unit is made of.
const UNIT_WORDS: usize = 10;

/// Reads all values of a note. `statuses` follow the hits.
pub(super) fn read(
    page: &Page<'_>,
    hits: &[Hit],
    statuses: &[Status],
    knowledge: &Knowledge,
) -> (Vec<Measured>, Vec<Unread>) {
    let mut reader = Reader {
        page,
        knowledge,
        measured: Vec::new(),
        unread: Vec::new(),
    };
    for (at, (hit, status)) in hits.iter().zip(statuses).enumerate() {
        let stop = hits
            .get(at + 1)
            .map_or(page.text.len(), |next| next.span.start);
        // A value is what it is, whatever is denied beside it.
        let status = Status {
            certainty: Certainty::Affirmed,
            ..*status
        };
        let named = |id: &str| id.parse().ok();
        match &hit.what {
            What::Concept(test) => reader.one(test, hit.span, stop, status, false),
            What::Cue(Cue::Pressure) => reader.pressure(hit.span, stop, status),
            What::Cue(cue) => {
                let test = match cue {
                    Cue::Temperature => named("test.temperature"),
                    Cue::Pulse => named("test.heart-rate"),
                    Cue::Breaths => named("test.respiratory-rate"),
                    _ => None,
                };
                if let Some(test) = test {
                    reader.one(&test, hit.span, stop, status, true);
                }
            }
        }
    }
    (reader.measured, reader.unread)
}

struct Reader<'p, 'a> {
    page: &'p Page<'a>,
    knowledge: &'p Knowledge,
    measured: Vec<Measured>,
    unread: Vec<Unread>,
}

/// A unit behind a number.
enum Unit {
    /// One that converts, up to this word.
    Known {
        text: String,
        next: usize,
    },
    /// Something else that is a unit.
    Unknown {
        next: usize,
    },
    Missing,
    /// The number is a time or counts something.
    Other,
}

impl<'p> Reader<'p, '_> {
    fn measure(&self, test: &ConceptId) -> Option<&'p Measure> {
        self.knowledge.concept(test)?.measure.as_ref()
    }

    /// The first word behind a name that may be its value.
    fn value_at(&self, name: Span, stop: usize) -> Option<usize> {
        let first = self.page.from(name.end);
        let end = self
            .page
            .words
            .get(first)
            .map_or(name.end, |word| self.page.sentence_end(word.start));
        for at in first..=first + MOST_BETWEEN {
            let word = self.page.words.get(at)?;
            if word.start >= end.min(stop) {
                return None;
            }
            if self.page.figure(at).is_some() || self.page.number(at).is_some() {
                return Some(at);
            }
            let text = self.page.word(at);
            if !BETWEEN.iter().any(|it| it.eq_ignore_ascii_case(text)) {
                return None;
            }
        }
        None
    }

    fn one(&mut self, test: &ConceptId, name: Span, stop: usize, status: Status, needs_unit: bool) {
        let Some(measure) = self.measure(test) else {
            return;
        };
        let figure = self
            .value_at(name, stop)
            .and_then(|at| self.page.figure(at));
        let Some(figure) = figure else {
            return;
        };
        let unit = self.unit(measure, figure.next);
        if !needs_unit || matches!(unit, Unit::Known { .. }) {
            self.take(test, measure, name, figure, unit, status);
        }
    }

    /// Two numbers with a stroke between them.
    fn pressure(&mut self, name: Span, stop: usize, status: Status) {
        let tests = ["test.systolic-pressure", "test.diastolic-pressure"];
        let [Some(systolic), Some(diastolic)] = tests.map(|id| id.parse::<ConceptId>().ok()) else {
            return;
        };
        let (Some(of_systolic), Some(of_diastolic)) =
            (self.measure(&systolic), self.measure(&diastolic))
        else {
            return;
        };
        let Some(at) = self.value_at(name, stop) else {
            return;
        };
        let page = self.page;
        let (Some(upper), "/", Some(lower)) =
            (page.number(at), page.word(at + 1), page.number(at + 2))
        else {
            return;
        };
        // 12/3/2020 is a date.
        if page.word(at + 3) == "/" && page.number(at + 4).is_some() {
            return;
        }
        let span = |from: usize, to: usize| {
            let (from, to) = (page.words.get(from), page.words.get(to));
            from.zip(to).map(|(from, to)| Span::new(from.start, to.end))
        };
        let Some(both) = span(at, at + 2) else {
            return;
        };
        let figure = |number| Figure {
            span: both,
            low: number,
            high: number,
            bound: None,
            next: at + 3,
        };
        let unit = self.unit(of_systolic, at + 3);
        self.take(&systolic, of_systolic, name, figure(upper), unit, status);
        let unit = self.unit(of_diastolic, at + 3);
        self.take(&diastolic, of_diastolic, name, figure(lower), unit, status);
    }

    /// What stands behind a number.
    fn unit(&self, measure: &Measure, at: usize) -> Unit {
        let page = self.page;
        let Some(first) = page.words.get(at) else {
            return Unit::Missing;
        };
        let behind = at.checked_sub(1).and_then(|last| page.words.get(last));
        let gap = behind.map_or("", |number| page.between(number.end, first.start));
        if gap.contains('\n') {
            return Unit::Missing;
        }
        let known = (at..at + UNIT_WORDS).rev().find_map(|last| {
            let end = page.words.get(last)?.end;
            let text = page.between(first.start, end);
            let is_known = !text.contains('\n') && measure.convert(0.0, text).is_some();
            (is_known && !text.trim().is_empty()).then(|| Unit::Known {
                text: text.to_owned(),
                next: last + 1,
            })
        });
        let is = |words: &[&str]| {
            words
                .iter()
                .any(|it| it.eq_ignore_ascii_case(page.word(at)))
        };
        match known {
            Some(known) => known,
            None if is(&COUNTS) => Unit::Other,
            // A single letter is a unit only right behind its number.
            None if is(&UNITS)
                && (gap.is_empty() || page.word(at).len() > 1 || page.word(at + 1) == "/") =>
            {
                Unit::Unknown { next: at + 1 }
            }
            None => Unit::Missing,
        }
    }

    fn take(
        &mut self,
        test: &ConceptId,
        measure: &Measure,
        name: Span,
        figure: Figure,
        unit: Unit,
        status: Status,
    ) {
        let end_of = |next: usize| {
            let last = next
                .checked_sub(1)
                .and_then(|last| self.page.words.get(last));
            last.map_or(figure.span.end, |last| last.end)
        };
        let possible = |value: f64| (measure.possible.low..=measure.possible.high).contains(&value);
        let readings = |number: f64, unit: &str| {
            measure
                .convert(number, unit)
                .filter(|&value| possible(value))
        };
        let impossible = Why::Impossible {
            low: measure.possible.low,
            high: measure.possible.high,
            unit: measure.unit.clone(),
        };
        let (text, is_assumed, end) = match unit {
            Unit::Other => return,
            Unit::Known { text, next } => (text, false, end_of(next)),
            Unit::Unknown { next } => {
                return self.refuse(test, Span::new(name.start, end_of(next)), Why::UnknownUnit);
            }
            Unit::Missing => {
                let end = figure.span.end;
                let others = measure.convert.iter().map(|it| it.unit.as_str());
                let mut fitting: Vec<(&str, f64)> = Vec::new();
                for unit in std::iter::once(measure.unit.as_str()).chain(others) {
                    if let Some(value) = readings(figure.low, unit)
                        && !fitting
                            .iter()
                            .any(|(_, known)| (known - value).abs() <= 1e-3 * value.abs())
                    {
                        fitting.push((unit, value));
                    }
                }
                let span = Span::new(name.start, end);
                match fitting.as_slice() {
                    [] => return self.refuse(test, span, impossible),
                    [(unit, _)] => ((*unit).to_owned(), true, end),
                    several => {
                        let units = several.iter().map(|(unit, _)| (*unit).to_owned()).collect();
                        return self.refuse(test, span, Why::NoUnit { units });
                    }
                }
            }
        };
        let span = Span::new(name.start, end);
        if readings(figure.low, &text).is_none() || readings(figure.high, &text).is_none() {
            return self.refuse(test, span, impossible);
        }
        self.measured.push(Measured {
            test: test.clone(),
            span,
            value_span: Span::new(figure.span.start, end),
            number: figure.low,
            up_to: (figure.bound == Some(Bound::Between)).then_some(figure.high),
            bound: figure.bound,
            value: readings(figure.low, &text).filter(|_| figure.bound.is_none()),
            unit: text,
            unit_is_assumed: is_assumed,
            own_unit: measure.unit.clone(),
            level: None,
            status,
        });
    }

    fn refuse(&mut self, test: &ConceptId, span: Span, why: Why) {
        self.unread.push(Unread {
            concept: Some(test.clone()),
            span,
            why,
        });
    }
}
