//! Dates and times of DICOM (PS3.5 6.2: DA, DT, TM) moved by whole days.
//!
//! The time of day stays to the second, so that intervals within a study stay true. Fractions and offsets
//! from UTC go: the first find an object in the archive, the second a place on earth.

use super::key::Shift;

/// A date (`YYYYMMDD`, or the `YYYY.MM.DD` of ACR-NEMA) so many days later; nothing when there is no such
/// day.
pub(super) fn moved_date(date: &str, shift: Shift) -> Option<String> {
    let mut digits = date.trim_matches([' ', '\0']).to_owned();
    if digits.len() == 10 && digits.bytes().filter(|&byte| byte == b'.').count() == 2 {
        digits.retain(|c| c != '.');
    }
    if digits.len() != 8 {
        return None;
    }
    let year = number(digits.get(..4)?)?;
    let (month, day) = (number(digits.get(4..6)?)?, number(digits.get(6..)?)?);
    let since = days(year, month, day);
    if year < 1800 || civil(since) != (year, month, day) {
        return None;
    }
    let (year, month, day) = civil(since + shift.days());
    Some(format!("{year:04}{month:02}{day:02}"))
}

/// A date with a time, moved like a date. One that names no day cannot move.
pub(super) fn moved_date_time(text: &str, shift: Shift) -> Option<String> {
    let text = text.trim_matches([' ', '\0']);
    let (text, offset) = text.split_at(text.find(['+', '-']).unwrap_or(text.len()));
    let digits = offset.get(1..).unwrap_or_default();
    if !digits.is_empty() && (digits.len() != 4 || number(digits).is_none()) {
        return None;
    }
    let date = moved_date(text.get(..8)?, shift)?;
    match text.get(8..)? {
        "" => Some(date),
        time => Some(date + &time_of_day(time)?),
    }
}

/// A time of day (`HH`, `HHMM`, `HHMMSS`, also with colons) without fractions; nothing when it is none.
pub(super) fn time_of_day(time: &str) -> Option<String> {
    let time = time.trim_matches([' ', '\0']);
    let (whole, fraction) = time.split_once('.').unwrap_or((time, ""));
    let digits = whole.replace(':', "");
    let sound = matches!(digits.len(), 2 | 4 | 6)
        && fraction.len() <= 6
        && (digits.bytes().chain(fraction.bytes())).all(|byte| byte.is_ascii_digit());
    let parts = [(0, 23), (2, 59), (4, 60)]; // a leap second is one
    let possible = parts.iter().all(|&(at, most)| {
        let part = digits.get(at..at + 2);
        part.is_none_or(|part| number(part).is_some_and(|part| part <= most))
    });
    (sound && possible).then_some(digits)
}

fn number(digits: &str) -> Option<i64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// Days since 1 March of the year 0 in the proleptic Gregorian calendar, counted as in Howard Hinnant's
/// "chrono-compatible low-level date algorithms".
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year
}

fn civil(days: i64) -> (i64, i64, i64) {
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::key::ProjectKey, *};

    fn shift() -> Shift {
        ProjectKey::from_bytes([3; 32]).shift("a patient")
    }

    #[test]
    fn every_day_of_four_centuries_moves_and_keeps_its_distance() {
        let first = days(1800, 1, 1);
        for day in first..first + 146_097 {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), day);
            let moved = moved_date(&format!("{year:04}{month:02}{date:02}"), shift());
            let (year, month, date) = civil(day + shift().days());
            assert_eq!(moved, Some(format!("{year:04}{month:02}{date:02}")));
        }
    }

    #[test]
    fn what_is_no_day_or_time_does_not_pass() {
        for date in [
            "", "2023", "20230229", "20231301", "2023-1-1", "SMITH^JO", "1997.3.1", "é202301",
        ] {
            assert_eq!(moved_date(date, shift()), None, "{date}");
        }
        for time in [
            "",
            "1",
            "2460",
            "12:3",
            "120061",
            "12.SMITH",
            "é1",
            "123456.1234567",
        ] {
            assert_eq!(time_of_day(time), None, "{time}");
        }
        for text in [
            "",
            "2023",
            "202301",
            "20230230",
            "20230101SMITH",
            "2023010\u{e9}12",
        ] {
            assert_eq!(moved_date_time(text, shift()), None, "{text}");
        }
    }

    #[test]
    fn times_lose_fractions_and_offsets_alone() {
        assert_eq!(time_of_day("123456.789 ").as_deref(), Some("123456"));
        assert_eq!(time_of_day("12:34:56").as_deref(), Some("123456"));
        let moved = moved_date_time("20230401123456.789012+0200", shift());
        let date = moved_date("20230401", shift()).expect("a day");
        assert_eq!(moved, Some(format!("{date}123456")));
        assert_eq!(moved_date("2023.04.01", shift()), Some(date));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_comes_out_as_digits(text in ".{0,30}") {
            let all = [moved_date(&text, shift()), moved_date_time(&text, shift()), time_of_day(&text)];
            for moved in all.into_iter().flatten() {
                prop_assert!(moved.bytes().all(|byte| byte.is_ascii_digit()));
            }
        }
    }
}
