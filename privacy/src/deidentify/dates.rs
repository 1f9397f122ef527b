//! Dates and high ages: where they are.
//!
//! A form is a pattern whose named groups hold the parts of a date: `y`, `m` and `d` are numbers, `mon`
//! is the name of a month, `o` the ending of an ordinal, and `a` and `b` are month and day in either
//! order. [`super::shifting`] moves a date by them.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::{Found, Kind, shifting::small_number};

struct Form {
    within: Regex,
    alone: Regex,
}

impl Form {
    /// A date that stands between `before` and `after`.
    fn new(before: &str, date: &str, after: &str) -> Self {
        let date = date
            .replace(
                "MONTH",
                "january|february|march|april|may|june|july|august|september|october|november|december\
                 |enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre\
                 |diciembre|jan|feb|mar|apr|jun|jul|aug|sept|sep|oct|nov|dec",
            )
            .replace("YEAR", "(?:1[89]|2[01])[0-9]{2}");
        // The patterns are constants, and a test compiles them all.
        let compile = |pattern: &str| Regex::new(pattern).expect("a valid pattern");
        Self {
            within: compile(&format!("(?i){before}(?P<date>{date}){after}")),
            alone: compile(&format!("(?i)^(?:{date})$")),
        }
    }
}

const EDGE: &str = r"(?-u:\b)";

static FORMS: LazyLock<Vec<Form>> = LazyLock::new(|| {
    let blank = r"(?-u:\s)";
    let number = "[0-9]{1,2}";
    let han = "[0-9]{1,2}|[一二三四五六七八九十]{1,3}";
    vec![
        // 2021-03-04, 2021/3/4
        Form::new(
            EDGE,
            &format!("(?P<y>YEAR)[-/.](?P<m>{number})[-/.](?P<d>{number})"),
            r"(?:(?-u:\b)|T[0-9])",
        ),
        // 3/4/2021, 04-03-21, 4.3.2021
        Form::new(
            EDGE,
            &format!("(?P<a>{number})[-/](?P<b>{number})[-/](?P<y>YEAR|'?[0-9]{{2}})"),
            EDGE,
        ),
        Form::new(
            EDGE,
            &format!(r"(?P<a>{number})\.(?P<b>{number})\.(?P<y>YEAR)"),
            EDGE,
        ),
        // March 4th, 2021; Mar 4; March 4-6, 2021
        Form::new(
            EDGE,
            &format!(
                r"(?P<mon>MONTH)\.?{blank}{{0,3}}(?P<d>{number})(?P<o>st|nd|rd|th)?(?:{blank}?(?:-|to|and|&|through){blank}?[0-9]{{1,2}}(?:st|nd|rd|th)?)?(?:{blank}{{0,3}},?{blank}{{0,3}}(?P<y>YEAR|'[0-9]{{2}}))?"
            ),
            EDGE,
        ),
        // 4 March 2021, 4th of March, 4 de marzo de 2021, 04-MAR-21
        Form::new(
            EDGE,
            &format!(
                r"(?P<d>{number})(?P<o>st|nd|rd|th)?(?:{blank}{{0,3}}(?:of|de|-|/|\.)?{blank}{{0,3}})(?P<mon>MONTH)\.?(?:{blank}{{0,3}}(?:,|of|de|del|-|/)?{blank}{{0,3}}(?P<y>YEAR|'[0-9]{{2}})|[-/](?P<yy>[0-9]{{2}}))?"
            ),
            EDGE,
        ),
        // March 2021, marzo de 2021, Mar-2021
        Form::new(
            EDGE,
            &format!(
                r"(?P<mon>MONTH)\.?{blank}{{0,3}}(?:,|of|de|del|-|/)?{blank}{{0,3}}(?P<y>YEAR|'[0-9]{{2}})"
            ),
            EDGE,
        ),
        // since March
        Form::new(
            r"(?-u:\b)(?:in|since|last|this|next|early|late|mid|until|during)[- ](?-i:",
            "(?P<mon>January|February|March|April|May|June|July|August|September|October|November\
             |December)",
            r")(?-u:\b)",
        ),
        // 3/2021; on 3/4
        Form::new(EDGE, "(?P<m>0?[1-9]|1[0-2])/(?P<y>YEAR)", EDGE),
        Form::new(
            r"(?-u:\b)(?:on|since|dated|until) ",
            "(?P<a>0?[1-9]|[12][0-9]|3[01])/(?P<b>0?[1-9]|[12][0-9]|3[01])",
            r"(?:[^0-9/A-Za-z]|$)",
        ),
        // DOB 20210304
        Form::new(
            r"(?:dob|date|birth|born|日期|时间|生日)[^0-9\n]{0,12}",
            "(?P<y>YEAR)(?P<m>0[1-9]|1[0-2])(?P<d>[0-2][0-9]|3[01])",
            EDGE,
        ),
        // Fecha: 26708/2017: after a label, even what is no date.
        Form::new(
            r"(?:dob|date|birth|born|fecha|ingreso|nacimiento|日期|生日)[^0-9\n]{0,16}",
            "[0-9]{1,6}[-/.][0-9]{1,6}(?:[-/.][0-9]{1,4})?",
            EDGE,
        ),
        // 2021年3月4日, 二〇二一年三月, 3月4日, 3月份
        Form::new(
            "",
            &format!(
                "(?P<y>YEAR|[〇零○一二三四五六七八九]{{4}}) ?年 ?(?P<m>{han}) ?月(?: ?份)?(?: ?(?P<d>{han}) ?[日号])?"
            ),
            "",
        ),
        Form::new("", &format!("(?P<m>{han}) ?月 ?(?P<d>{han}) ?[日号]"), ""),
        Form::new("", &format!("(?P<m>{han})月"), "(?:份|初|底|[上中下]旬)"),
    ]
});

static AGES: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let above = "9[0-9]|1[0-4][0-9]";
    [
        format!(r"(?i)(?-u:\b)({above})\+?[- ]?(?:years?|yrs?|y/?o|y\.o\.|yoa|año|an+s|周?岁)"),
        format!(r"(?i)(?:(?-u:\b)aged?|(?-u:\b)edad|年龄)(?: of|[:= ]){{0,3}}({above})(?-u:\b)"),
        r"(?i)(?-u:\b)(ninety(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?|(?:one|a) hundred(?: and [a-z]{3,9}| [a-z]{3,9})?)[- ](?:years?|yrs?)[- ]old".to_owned(),
        "(九十[一二三四五六七八九]?|一百[零一二三四五六七八九十]{0,3})周?岁".to_owned(),
    ]
    // Constants again.
    .map(|pattern| Regex::new(&pattern).expect("a valid pattern"))
    .into()
});

/// The parts of a date that is the whole text, in every form that fits.
pub(super) fn forms_of(date: &str) -> impl Iterator<Item = Captures<'_>> {
    FORMS.iter().filter_map(|form| form.alone.captures(date))
}

/// Adds the dates and the ages above 89.
pub(super) fn find(text: &str, found: &mut Vec<Found>) {
    for form in FORMS.iter() {
        for captures in form.within.captures_iter(text) {
            if let Some(date) = captures.name("date").filter(|_| is_meant(text, &captures)) {
                found.push(Found {
                    kind: Kind::Date,
                    range: date.range(),
                });
            }
        }
    }
    for age in AGES.iter() {
        found.extend(age.captures_iter(text).filter_map(|captures| {
            Some(Found {
                kind: Kind::Age,
                range: captures.get(1)?.range(),
            })
        }));
    }
}

/// Whether this is a date and not, say, "may 20 mg" or a fraction.
fn is_meant(text: &str, captures: &Captures) -> bool {
    let part = |name| captures.name(name).map(|part| part.as_str());
    let number = |name| part(name).and_then(|digits| digits.parse::<u8>().ok());
    if let (Some(a), Some(b)) = (number("a"), number("b")) {
        return a.min(b) >= 1 && a.max(b) <= 39 && a.min(b) <= 12;
    }
    let has_year = part("y").is_some() || part("yy").is_some();
    if let Some(month) = captures.name("mon").filter(|_| !has_year) {
        let lower = month.as_str().starts_with(|c: char| c.is_lowercase());
        let word = matches!(
            month.as_str(),
            "may" | "march" | "mar" | "sep" | "dec" | "jan"
        );
        let end = captures.name("date").map_or(0, |date| date.end());
        let after = text.get(end..).unwrap_or_default().trim_start();
        let amount = ["mg", "ml", "mcg", "%", "units", "times"]
            .iter()
            .any(|unit| after.starts_with(unit));
        let bare = lower && word && part("o").is_none();
        return !(amount || bare);
    }
    if let Some(month) = captures.name("m").filter(|_| !has_year) {
        let left = text
            .get(..month.start())
            .and_then(|before| before.chars().next_back());
        let whole = !left.is_some_and(|c| c.is_ascii_digit());
        return whole
            && small_number(month.as_str()).is_some_and(|month| (1..=12).contains(&month));
    }
    true
}

/// Which number comes first in dates such as 3/4/2021.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    MonthFirst,
    DayFirst,
}

/// The order that a note's unambiguous dates show; month first where they show none, or both.
pub(super) fn order<'t>(dates: impl Iterator<Item = &'t str>) -> Order {
    let mut order = None;
    for date in dates {
        let mut numbers = date.split(['/', '-', '.']).map(str::parse::<u16>);
        let (Some(Ok(first)), Some(Ok(second)), Some(_)) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            continue;
        };
        match (first, second) {
            (1..=12, 13..=31) => return Order::MonthFirst,
            (13..=31, 1..=12) => order = Some(Order::DayFirst),
            _ => {}
        }
    }
    order.unwrap_or(Order::MonthFirst)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dates(text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        find(text, &mut found);
        super::super::disjoint(found)
            .into_iter()
            .filter(|found| found.kind == Kind::Date)
            .map(|found| &text[found.range])
            .collect()
    }

    #[test]
    fn a_date_is_found_however_it_is_written() {
        for date in [
            "2021-03-04",
            "2021/3/4",
            "3/4/2021",
            "03-04-21",
            "4.3.2021",
            "March 4th, 2021",
            "Mar. 4, 2021",
            "Mar 4, '21",
            "4 March 2021",
            "4th of March",
            "4 de marzo de 2021",
            "04-MAR-21",
            "04MAR2021",
            "March 2021",
            "Febrero de 1998",
            "3/2021",
            "March 4-6, 2021",
            "2021年3月4日",
            "二〇二一年三月四日",
            "2021年3月",
            "3月4日",
            "十二月三十一号",
        ] {
            assert_eq!(dates(&format!("Seen {date}, well.")), [date]);
        }
        assert_eq!(
            dates("on 3/4 and since March, DOB: 19580304"),
            ["3/4", "March", "19580304"]
        );
    }

    #[test]
    fn years_alone_fractions_and_amounts_are_no_dates() {
        for text in [
            "in 2021, aged 34",
            "pain 5/10, strength 4/5",
            "BP 120/80",
            "she may 20 mg",
            "3个月",
            "2021年",
            "孕期第789月份",
            "May improve",
            "section 1.2.3",
            "may be seen",
            "ratio 1/3/8/9x",
        ] {
            assert_eq!(dates(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn the_order_of_day_and_month_is_that_of_the_note() {
        assert_eq!(
            order(["3/4/2021", "25/3/2021"].into_iter()),
            Order::DayFirst
        );
        assert_eq!(
            order(["3/4/2021", "3/25/2021"].into_iter()),
            Order::MonthFirst
        );
        assert_eq!(
            order(["3/4/2021", "2021-03-25"].into_iter()),
            Order::MonthFirst
        );
    }

    #[test]
    fn only_ages_above_89_are_found() {
        let ages = |text: &'static str| {
            let mut found = Vec::new();
            find(text, &mut found);
            found
                .into_iter()
                .map(|found| &text[found.range])
                .collect::<Vec<_>>()
        };
        assert_eq!(
            ages("A 92-year-old, wife aged 91, aunt age: 101, father 95 yo"),
            ["92", "95", "91", "101"]
        );
        assert_eq!(
            ages("ninety-two-year-old; 患者93岁；九十二岁"),
            ["93", "ninety-two", "九十二"]
        );
        assert_eq!(ages("An 89-year-old, age 45, 90 mg, 80岁, HR 95"), [""; 0]);
    }
}
