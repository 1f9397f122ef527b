//! Dates moved by some days and written as they were: the parts that [`super::dates`] names are written
//! anew, the rest stays.

use std::ops::Range;

use regex::Captures;

use super::{
    calendar::Day,
    dates::{self, Order},
    folding::Folded,
};

const ENGLISH: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const SPANISH: [&str; 12] = [
    "enero",
    "febrero",
    "marzo",
    "abril",
    "mayo",
    "junio",
    "julio",
    "agosto",
    "septiembre",
    "octubre",
    "noviembre",
    "diciembre",
];
const SHORT: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const CHINESE: [char; 10] = ['〇', '一', '二', '三', '四', '五', '六', '七', '八', '九'];

/// A date so many days later, written as it was; nothing when it does not exist or is a span.
///
/// A month without a day moves as its 15th, a day without a year as in a leap year.
pub(super) fn moved(date: &str, days: i64, order: Order) -> Option<String> {
    let folded = Folded::new(date);
    let date = folded.text();
    dates::forms_of(date).find_map(|captures| Parts::of(&captures, order)?.moved(date, days))
}

/// The parts of one written date: where each is, and what the date says.
struct Parts {
    year: Option<Range<usize>>,
    month: Range<usize>,
    day: Option<Range<usize>>,
    ordinal: Option<Range<usize>>,
    says: Day,
}

impl Parts {
    fn of(captures: &Captures, order: Order) -> Option<Self> {
        let range = |name| captures.name(name).map(|part| part.range());
        let text = |range: &Range<usize>| captures.get_match().as_str().get(range.clone());
        let (month, day) = match (range("a"), range("b")) {
            (Some(a), Some(b)) => {
                let first = text(&a)?.parse::<u8>().ok()?;
                let second = text(&b)?.parse::<u8>().ok()?;
                let day_first = first > 12 || (order == Order::DayFirst && second <= 12);
                if day_first {
                    (b, Some(a))
                } else {
                    (a, Some(b))
                }
            }
            _ => (range("mon").or_else(|| range("m"))?, range("d")),
        };
        let year = range("y").or_else(|| range("yy"));
        let says = Day::new(
            match &year {
                Some(year) => full_year(text(year)?)?,
                None => 2020,
            },
            month_number(text(&month)?)?,
            match &day {
                Some(day) => small_number(text(day)?)?,
                None => 15,
            },
        )?;
        // A span of days ("March 4-6") has digits that no group holds.
        let held = |at: usize| {
            [&year, &Some(month.clone()), &day]
                .into_iter()
                .flatten()
                .any(|part| part.contains(&at))
        };
        let whole = captures.get_match().as_str();
        let loose = whole
            .char_indices()
            .any(|(at, c)| c.is_ascii_digit() && !held(at));
        (!loose).then_some(Self {
            year,
            month,
            day,
            ordinal: range("o"),
            says,
        })
    }

    fn moved(&self, date: &str, days: i64) -> Option<String> {
        let new = self.says.plus(days);
        // Beside a name or 月, 20 says nothing of how 3 would be written; in 10/20/2021 it does.
        let month = date.get(self.month.clone())?;
        let numbers = month.starts_with(|c: char| c.is_ascii_digit()) && !date.contains('月');
        let parts = [Some(&self.month), self.day.as_ref()].into_iter().flatten();
        let zero = |part: &Range<usize>| {
            date.get(part.clone())
                .is_some_and(|part| part.starts_with('0'))
        };
        let unpadded = match numbers {
            true => parts.clone().any(|part| part.len() == 1),
            false => !parts.clone().any(zero),
        };
        let number = |value: u8, old: &str| match old.starts_with(|c: char| c.is_ascii_digit()) {
            true if unpadded => value.to_string(),
            true => format!("{value:02}"),
            false => han_number(value),
        };
        let mut written: Vec<(Range<usize>, String)> = Vec::new();
        if let Some(year) = &self.year {
            let old = date.get(year.clone())?;
            written.push((year.clone(), write_year(new.year, old)));
        }
        let old = date.get(self.month.clone())?;
        let month = month_name(new.month, old).unwrap_or_else(|| number(new.month, old));
        written.push((self.month.clone(), month));
        if let Some(day) = &self.day {
            written.push((day.clone(), number(new.day, date.get(day.clone())?)));
        }
        if let Some(ordinal) = &self.ordinal {
            let upper = date.get(ordinal.clone())?.starts_with(char::is_uppercase);
            let ending = ending(new.day);
            let ending = if upper {
                ending.to_uppercase()
            } else {
                ending.to_owned()
            };
            written.push((ordinal.clone(), ending));
        }
        written.sort_by_key(|(range, _)| range.start);
        let mut text = String::with_capacity(date.len() + 8);
        let mut done = 0;
        for (range, part) in written {
            text.push_str(date.get(done..range.start)?);
            text.push_str(&part);
            done = range.end;
        }
        text.push_str(date.get(done..)?);
        Some(text)
    }
}

/// Two digits are of 1941 to 2040.
fn full_year(written: &str) -> Option<i32> {
    let digits: Vec<i32> = written
        .chars()
        .filter(|&c| c != '\'')
        .map(digit)
        .collect::<Option<_>>()?;
    let value = digits.iter().fold(0, |value, digit| value * 10 + digit);
    match digits.len() {
        2 if value <= 40 => Some(2000 + value),
        2 => Some(1900 + value),
        4 => Some(value),
        _ => None,
    }
}

fn write_year(year: i32, old: &str) -> String {
    if let Some(rest) = old.strip_prefix('\'') {
        return format!("'{}", write_year(year, rest));
    }
    match old.len() {
        2 => format!("{:02}", year % 100),
        _ if old.starts_with(|c: char| c.is_ascii_digit()) => year.to_string(),
        _ => year
            .to_string()
            .bytes()
            .filter_map(|digit| CHINESE.get(usize::from(digit - b'0')))
            .collect(),
    }
}

fn digit(c: char) -> Option<i32> {
    let chinese = if matches!(c, '零' | '○') { '〇' } else { c };
    c.to_digit(10)
        .map(|digit| digit as i32)
        .or_else(|| Some(CHINESE.iter().position(|&digit| digit == chinese)? as i32))
}

/// A number up to 99 in digits or Chinese numerals.
pub(super) fn small_number(written: &str) -> Option<u8> {
    if let Ok(value) = written.parse() {
        return Some(value);
    }
    let value = match written.split_once('十') {
        Some((tens, ones)) => {
            let tens = if tens.is_empty() { 1 } else { one_digit(tens)? };
            let ones = if ones.is_empty() { 0 } else { one_digit(ones)? };
            tens * 10 + ones
        }
        None => one_digit(written)?,
    };
    u8::try_from(value).ok()
}

fn one_digit(written: &str) -> Option<i32> {
    let mut chars = written.chars();
    let value = digit(chars.next()?)?;
    chars.next().is_none().then_some(value)
}

fn han_number(value: u8) -> String {
    let digit = |value: u8| CHINESE[usize::from(value % 10)];
    let mut text = String::new();
    if value >= 20 {
        text.push(digit(value / 10));
    }
    if value >= 10 {
        text.push('十');
    }
    if !value.is_multiple_of(10) {
        text.push(digit(value));
    }
    text
}

fn month_number(written: &str) -> Option<u8> {
    let lower = written.to_lowercase();
    let at = [ENGLISH, SPANISH, SHORT]
        .iter()
        .find_map(|names| names.iter().position(|&name| name == lower))
        .or_else(|| (lower == "sept").then_some(8));
    at.map(|at| at as u8 + 1).or_else(|| small_number(written))
}

/// The name of a month in the language, length and case of the old one; none where that was a number.
fn month_name(month: u8, old: &str) -> Option<String> {
    let lower = old.to_lowercase();
    let names = [ENGLISH, SPANISH, SHORT]
        .into_iter()
        .find(|names| names.contains(&lower.as_str()))
        .or_else(|| (lower == "sept").then_some(SHORT))?;
    let name = names.get(usize::from(month).checked_sub(1)?)?;
    let mut chars = name.chars();
    Some(match old.chars().nth(1) {
        Some(second) if second.is_uppercase() => name.to_uppercase(),
        _ if old.starts_with(char::is_uppercase) => {
            let first = chars.next().map(|c| c.to_ascii_uppercase());
            first.into_iter().chain(chars).collect()
        }
        _ => (*name).to_owned(),
    })
}

fn ending(day: u8) -> &'static str {
    match (day / 10, day % 10) {
        (1, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_date_is_written_as_it_was() {
        for (old, new) in [
            ("2021-03-04", "2021-03-18"),
            ("3/25/2021", "4/8/2021"),
            ("03/25/21", "04/08/21"),
            ("25.3.2021", "8.4.2021"),
            ("December 20th, 2021", "January 3rd, 2022"),
            ("Sept. 7, '21", "Sep. 21, '21"),
            ("04-MAR-21", "18-MAR-21"),
            ("20 de diciembre de 2021", "3 de enero de 2022"),
            ("MARCH 2021", "MARCH 2021"),
            ("20210304", "20210318"),
            ("2021年12月20日", "2022年1月3日"),
            ("二〇二一年十二月二十日", "二〇二二年一月三日"),
            ("２０２１年３月４日", "2021年3月18日"),
        ] {
            assert_eq!(
                moved(old, 14, Order::MonthFirst).as_deref(),
                Some(new),
                "{old}"
            );
        }
        assert_eq!(
            moved("3/4/2021", 14, Order::DayFirst).as_deref(),
            Some("17/4/2021")
        );
    }

    #[test]
    fn impossible_dates_and_spans_do_not_move() {
        for date in [
            "2021-02-30",
            "31/31/2021",
            "March 4-6, 2021",
            "二〇二一年十三月",
            "tomorrow",
        ] {
            assert_eq!(moved(date, 7, Order::MonthFirst), None, "{date}");
        }
    }
}
