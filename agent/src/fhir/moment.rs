//! Dates and times as FHIR writes them: to the year, month, day, or second with its time zone.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Deserializer, de};

/// A `date`, `dateTime` or `instant`.
///
/// Two compare by when they begin, a date without time zone as in UTC.
#[derive(Clone, PartialEq, Eq)]
pub struct Moment {
    text: String,
    day: Day,
    /// Milliseconds since 1970-01-01 UTC.
    begins: i64,
}

/// A day of the Gregorian calendar, years 1 to 9999. The first of a month or year that is known no closer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day {
    year: u16,
    month: u8,
    day: u8,
}

/// Not a date or time as FHIR writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a date or time: YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with its time zone")]
pub struct BadMoment;

impl Moment {
    /// Reads a `date`, `dateTime` or `instant`.
    ///
    /// # Errors
    /// Anything else, and days that no calendar has.
    pub fn parse(text: &str) -> Result<Self, BadMoment> {
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let (day, is_whole) = date_of(date)?;
        let milliseconds = match time {
            None => 0,
            Some(time) if is_whole => time_of(time)?,
            Some(_) => return Err(BadMoment),
        };
        Ok(Self {
            text: text.to_owned(),
            day,
            begins: day.number() * 86_400_000 + milliseconds,
        })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The day, in its own time zone.
    pub fn day(&self) -> Day {
        self.day
    }
}

impl Day {
    /// A day.
    ///
    /// # Errors
    /// One that no calendar has.
    pub fn new(year: u16, month: u8, day: u8) -> Result<Self, BadMoment> {
        let leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let longest = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => 0,
        };
        if (1..=9999).contains(&year) && (1..=longest).contains(&day) {
            Ok(Self { year, month, day })
        } else {
            Err(BadMoment)
        }
    }

    /// The day of a time, in UTC.
    ///
    /// # Errors
    /// A year before 1970 or past 9999.
    pub fn of(time: std::time::SystemTime) -> Result<Self, BadMoment> {
        let since = time
            .duration_since(std::time::UNIX_EPOCH)
            .map_err(|_| BadMoment)?;
        if since.as_secs() > 253_402_300_799 {
            return Err(BadMoment);
        }
        Ok(Moment::parse(&humantime::format_rfc3339_seconds(time).to_string())?.day())
    }

    /// Days since 1970-01-01.
    pub fn number(self) -> i64 {
        // The year begins in March, so that the leap day is its last: 153 days in each five months.
        let (year, month) = (i64::from(self.year), i64::from(self.month));
        let (year, month) = if month > 2 {
            (year, month - 3)
        } else {
            (year - 1, month + 9)
        };
        let leaps = year / 4 - year / 100 + year / 400;
        365 * year + leaps + (153 * month + 2) / 5 + i64::from(self.day) - 719_469
    }

    /// Years from this day to another, in whole months; negative where the other comes first.
    pub fn years_until(self, other: Self) -> f64 {
        let months = |day: Self| i64::from(day.year) * 12 + i64::from(day.month);
        let mut between = months(other) - months(self);
        if other.day < self.day {
            between -= 1;
        }
        between as f64 / 12.0
    }
}

/// A number of exactly so many digits.
fn number(text: &str, digits: usize) -> Result<u16, BadMoment> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = plain.then(|| text.parse().ok()).flatten();
    number.ok_or(BadMoment)
}

/// A date, and whether it names the day.
fn date_of(text: &str) -> Result<(Day, bool), BadMoment> {
    let mut parts = text.split('-');
    let year = number(parts.next().unwrap_or_default(), 4)?;
    let mut part = || parts.next().map(|part| number(part, 2)).transpose();
    let (month, day) = (part()?, part()?);
    if parts.next().is_some() {
        return Err(BadMoment);
    }
    // Two digits fit a byte.
    let small = |part: Option<u16>| part.map_or(1, |part| part as u8);
    Ok((Day::new(year, small(month), small(day))?, day.is_some()))
}

/// Milliseconds since midnight UTC of the day of the date.
fn time_of(text: &str) -> Result<i64, BadMoment> {
    let (clock, offset) = if let Some(clock) = text.strip_suffix('Z') {
        (clock, 0)
    } else {
        let at = text.rfind(['+', '-']).ok_or(BadMoment)?;
        let (clock, zone) = text.split_at(at);
        let (hours, minutes) = zone[1..].split_once(':').ok_or(BadMoment)?;
        let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
        if hours > 14 || minutes > 59 {
            return Err(BadMoment);
        }
        let minutes = i64::from(hours) * 60 + i64::from(minutes);
        (
            clock,
            if zone.starts_with('-') {
                -minutes
            } else {
                minutes
            },
        )
    };
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (clock, None),
    };
    let thousandths = match fraction {
        None => 0,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let first = digits.bytes().chain(*b"00").take(3);
            first.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'))
        }
        Some(_) => return Err(BadMoment),
    };
    let mut parts = clock.split(':').map(|part| number(part, 2));
    let (Some(hour), Some(minute), Some(second), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(BadMoment);
    };
    let (hour, minute, second) = (hour?, minute?, second?);
    // A leap second is the 60th.
    if hour > 23 || minute > 59 || second > 60 {
        return Err(BadMoment);
    }
    let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    Ok((seconds - offset * 60) * 1000 + thousandths)
}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.begins, &self.text).cmp(&(other.begins, &other.text))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// Written by hand: when something happened is patient data.
impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Moment")
    }
}

/// Written by hand: a day of birth is patient data.
impl fmt::Debug for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Day")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn begins(text: &str) -> i64 {
        Moment::parse(text).expect(text).begins
    }

    #[test]
    fn moments_are_reckoned_from_1970() {
        // Seconds by `date -u -d … +%s`.
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-03-01T00:00:00Z", 951_868_800),
            ("2026-11-29T14:09:07+08:00", 1_795_932_547),
            ("1900-01-01", -2_208_988_800),
            ("2024-02-29T23:59:59-05:30", 1_709_270_999),
            ("2015", 1_420_070_400),
            ("2015-02", 1_422_748_800),
        ] {
            assert_eq!(begins(text), seconds * 1000, "{text}");
        }
        assert_eq!(begins("1970-01-01T00:00:00.0251Z"), 25);
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for bad in [
            "",
            "15",
            "2015-2-3",
            "2015-02-29",
            "2015-13",
            "0000",
            "2015-02-03T",
            "2015-02T10:00:00Z",
            "2015-02-03T10:00:00",
            "2015-02-03T10:00Z",
            "2015-02-03T24:00:00Z",
            "2015-02-03T10:00:00.Z",
            "2015-02-03T10:00:00+8:00",
            "2015-02-03T10:00:00+15:00",
            "2015-02-03-04",
            "+015",
            "2015-02-03T10:00:00é",
            "2015-02-03 10:00:00Z",
        ] {
            assert_eq!(Moment::parse(bad), Err(BadMoment), "{bad}");
        }
    }

    #[test]
    fn ages_grow_on_the_day() {
        let day = |year, month, day| Day::new(year, month, day).expect("a day");
        let born = day(1950, 6, 15);
        assert_eq!(born.years_until(day(2020, 6, 15)), 70.0);
        assert!(born.years_until(day(2020, 6, 14)) < 70.0);
        assert!(born.years_until(day(1950, 6, 14)) < 0.0);
    }

    proptest! {
        #[test]
        fn days_count_up_one_by_one(year in 1_u16..9999, month in 1_u8..13, day in 1_u8..32) {
            if let (Ok(today), Ok(tomorrow)) = (Day::new(year, month, day), Day::new(year, month, day + 1)) {
                prop_assert_eq!(tomorrow.number(), today.number() + 1);
            }
            let first = |year| Day::new(year, 1, 1).expect("a day").number();
            let last = Day::new(year, 12, 31).expect("a day").number();
            prop_assert_eq!(first(year + 1), last + 1);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,30}") {
            let _ = Moment::parse(&text);
        }
    }
}
