//! Who a note is about: age, sex, weight, pregnancy.

use serde::Serialize;

use super::{
    lexicon::{Cue, Hit, What},
    page::Page,
};
use crate::{
    decision::facts::{Demographics, Kilograms, Sex, Years},
    text::{Experiencer, SectionKind, Span, Status, Time},
};

/// Where a note says something of the patient themselves.
#[derive(Clone, Copy, PartialEq, Serialize)]
pub struct Detail {
    /// What it says there.
    pub what: Particular,
    /// Where it stands.
    pub span: Span,
}

/// Something of the patient themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Particular {
    /// The age.
    Age,
    /// The sex.
    Sex,
    /// The weight.
    Weight,
    /// Whether they are pregnant.
    Pregnancy,
}

const YEARS: [&str; 10] = [
    "year", "years", "yr", "yrs", "yo", "y", "yom", "yof", "岁", "周岁",
];
const MONTHS: [&str; 5] = ["month", "months", "mo", "月龄", "个月大"];
const WEEKS: [&str; 3] = ["week", "weeks", "wk"];
const DAYS: [&str; 2] = ["day", "days"];
const FEMALE: [&str; 8] = ["woman", "female", "lady", "girl", "f", "yof", "女", "women"];
const MALE: [&str; 8] = ["man", "male", "gentleman", "boy", "m", "yom", "男", "men"];
pub(super) const RELATIVES: [&str; 30] = [
    "mother",
    "father",
    "sister",
    "brother",
    "aunt",
    "uncle",
    "grandmother",
    "grandfather",
    "son",
    "daughter",
    "wife",
    "husband",
    "cousin",
    "child",
    "baby",
    "twin",
    "partner",
    "spouse",
    "mom",
    "dad",
    "父",
    "母",
    "兄",
    "弟",
    "姐",
    "妹",
    "儿",
    "妻",
    "夫",
    "爷",
];
/// What precedes an age that was long ago, or that is none.
const AT: [&str; 12] = [
    "at", "since", "from", "until", "before", "after", "for", "past", "last", "over", "ago", "when",
];

/// Words between an age and a sex.
const NEAR: usize = 6;

/// What the note says. The first place counts.
pub(super) fn read(
    page: &Page<'_>,
    hits: &[Hit],
    statuses: &[Status],
) -> (Demographics, Vec<Detail>) {
    let mut person = Demographics::default();
    let mut details = Vec::new();
    let mut detail = |what, span| details.push(Detail { what, span });
    let age = age(page);
    if let Some((age, words)) = &age {
        person.age = Some(*age);
        detail(Particular::Age, span_of(page, words.clone()));
    }
    let sex = age
        .and_then(|(_, words)| sex_near(page, words))
        .or_else(|| sex_said(page));
    if let Some((sex, at)) = sex {
        person.sex = Some(sex);
        detail(Particular::Sex, span_of(page, at..at + 1));
    }
    for (hit, status) in hits.iter().zip(statuses) {
        if status.experiencer != Experiencer::Patient {
            continue;
        }
        match hit.what {
            What::Cue(Cue::Weight) if person.weight_kg.is_none() => {
                if let Some((weight, end)) = weight(page, hit.span) {
                    person.weight_kg = Some(weight);
                    detail(Particular::Weight, Span::new(hit.span.start, end));
                }
            }
            What::Cue(Cue::Pregnancy)
                if person.pregnant.is_none() && status.time == Time::Current =>
            {
                let answer = match (status.is_present(), status.is_absent()) {
                    (true, _) => Some(true),
                    (_, true) => Some(false),
                    _ => None,
                };
                if let Some(answer) = answer {
                    person.pregnant = Some(answer);
                    detail(Particular::Pregnancy, hit.span);
                }
            }
            _ => {}
        }
    }
    (person, details)
}

fn span_of(page: &Page<'_>, words: std::ops::Range<usize>) -> Span {
    let first = page.words.get(words.start);
    let last = words
        .end
        .checked_sub(1)
        .and_then(|last| page.words.get(last));
    first.zip(last).map_or(Span::new(0, 0), |(first, last)| {
        Span::new(first.start, last.end)
    })
}

fn is_one_of(page: &Page<'_>, at: usize, words: &[&str]) -> bool {
    words
        .iter()
        .any(|it| it.eq_ignore_ascii_case(page.word(at)))
}

/// The first age of the patient, and its words.
fn age(page: &Page<'_>) -> Option<(Years, std::ops::Range<usize>)> {
    (0..page.words.len()).find_map(|at| age_at(page, at))
}

fn age_at(page: &Page<'_>, at: usize) -> Option<(Years, std::ops::Range<usize>)> {
    let number = page.number(at).filter(|_| page.word(at).len() <= 5)?;
    let start = page.words.get(at)?.start;
    let before = |back: usize| at.checked_sub(back);
    let mut next = at + 1;
    if page.word(next) == "-" {
        next += 1;
    }
    // `aged 72`, `age: 72`, `年龄72`
    let labelled = before(1).is_some_and(|at| is_one_of(page, at, &["aged", "age"]))
        || before(2).is_some_and(|two| {
            matches!(page.word(at - 1), ":" | "龄") && is_one_of(page, two, &["age", "年"])
        })
        || before(3).is_some_and(|three| {
            page.word(at - 1) == ":" && page.word(at - 2) == "龄" && page.word(three) == "年"
        });
    let (unit, mut end) = if let Some(end) = page.starts_with(next, &YEARS) {
        (1.0, end)
    } else if let Some(end) = page.starts_with(next, &MONTHS) {
        (12.0, end)
    } else if let Some(end) = page.starts_with(next, &WEEKS) {
        (365.25 / 7.0, end)
    } else if let Some(end) = page.starts_with(next, &DAYS) {
        (365.25, end)
    } else if labelled
        || is_one_of(page, next, &["f", "m"])
            && page.words.get(next)?.start == page.words.get(at)?.end
    {
        (1.0, at + 1)
    } else {
        return None;
    };
    let is_chinese = page.word(end - 1).starts_with(['岁', '龄', '大']);
    let is_short = is_one_of(page, end - 1, &["yo", "yom", "yof", "f", "m"])
        || page.word(end - 1).parse::<f64>().is_ok();
    let is_of_years = labelled && unit == 1.0;
    if !(is_chinese || is_short || is_of_years) {
        // `72-year-old`, `72 y/o`, `72 years old`, `72 years of age`
        let joint = if matches!(page.word(end), "-" | "/") {
            end + 1
        } else {
            end
        };
        let behind = page.starts_with(joint, &["old", "o"]);
        let behind = behind.or_else(|| {
            let of = page.starts_with(end, &["of"])?;
            page.starts_with(of, &["age"])
        });
        let comma = unit == 1.0
            && page.word(end) == ","
            && is_one_of(page, end + 1, &["male", "female", "man", "woman"]);
        end = match behind {
            Some(behind) => behind,
            None if comma => end,
            None => return None,
        };
    }
    let long_ago = before(1).is_some_and(|at| is_one_of(page, at, &AT))
        || labelled && before(2).is_some_and(|at| is_one_of(page, at, &["at", "the"]));
    let relative = (at.saturating_sub(3)..(end + 3).min(page.words.len()))
        .any(|at| is_one_of(page, at, &RELATIVES));
    if long_ago || relative || page.section(start) == SectionKind::FamilyHistory {
        return None;
    }
    Some((Years::try_from(number / unit).ok()?, at..end))
}

/// A sex beside an age, and its word.
fn sex_near(page: &Page<'_>, age: std::ops::Range<usize>) -> Option<(Sex, usize)> {
    let sentence = Span::new(
        page.sentence_start(page.words.get(age.start)?.start),
        page.sentence_end(page.words.get(age.start)?.start),
    );
    let behind = age.start..age.end + NEAR;
    let before = (age.start.saturating_sub(NEAR)..age.start).rev();
    let inside = |at: &usize| {
        page.words
            .get(*at)
            .is_some_and(|&word| sentence.holds(word))
    };
    behind
        .chain(before)
        .filter(inside)
        .find_map(|at| sex_at(page, at))
}

fn sex_at(page: &Page<'_>, at: usize) -> Option<(Sex, usize)> {
    let is_letter = page.word(at).len() == 1;
    let is_capital = page.word(at).starts_with(|c: char| c.is_ascii_uppercase());
    if is_letter && !is_capital {
        return None;
    }
    // 男性、女儿: a word of its own or of a relative.
    if matches!(page.word(at), "女" | "男") && matches!(page.word(at + 1), "儿" | "友" | "朋")
    {
        return None;
    }
    if is_one_of(page, at, &FEMALE) {
        Some((Sex::Female, at))
    } else if is_one_of(page, at, &MALE) {
        Some((Sex::Male, at))
    } else {
        None
    }
}

/// `Sex: F`, `性别：女`, `this gentleman`, `Mrs. …`.
fn sex_said(page: &Page<'_>) -> Option<(Sex, usize)> {
    (0..page.words.len()).find_map(|at| {
        if is_one_of(page, at, &["mr"]) {
            return Some((Sex::Male, at));
        }
        if is_one_of(page, at, &["mrs", "ms"]) && page.word(at).starts_with('M') {
            return Some((Sex::Female, at));
        }
        if is_one_of(page, at, &["sex", "gender"]) && page.word(at + 1) == ":" {
            return sex_at(page, at + 2);
        }
        if page.starts_with(at, &["性别"]).is_some() {
            return (at + 2..at + 4).find_map(|at| sex_at(page, at));
        }
        if page.starts_with(at, &["患者"]).is_some() {
            return (at + 2..at + 4).find_map(|at| sex_at(page, at));
        }
        is_one_of(page, at, &["this", "pleasant"]).then(|| sex_at(page, at + 1))?
    })
}

/// A weight behind its name, and where it ends.
fn weight(page: &Page<'_>, name: Span) -> Option<(Kilograms, usize)> {
    // Weight that was lost or gained is no weight.
    let first = page.from(name.start);
    let changed = (first.saturating_sub(2)..first)
        .any(|at| is_one_of(page, at, &["lost", "gained", "losing", "lose"]));
    if changed {
        return None;
    }
    let mut at = page.from(name.end);
    for _ in 0..3 {
        if is_one_of(
            page,
            at,
            &[":", "=", "is", "was", "of", "about", "约", "为"],
        ) {
            at += 1;
        }
    }
    let figure = page.figure(at).filter(|figure| figure.bound.is_none())?;
    let units: [(&[&str], f64); 3] = [
        (&["kg", "kgs", "kilograms", "公斤", "千克"], 1.0),
        (&["lb", "lbs", "pounds"], 0.453_592_37),
        (&["斤"], 0.5),
    ];
    let (next, factor) = units
        .into_iter()
        .find_map(|(words, factor)| Some((page.starts_with(figure.next, words)?, factor)))?;
    let end = page.words.get(next.checked_sub(1)?)?.end;
    Some((Kilograms::try_from(figure.low * factor).ok()?, end))
}
