//! A part of the day.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, de};

const MINUTES_A_DAY: u64 = 24 * 60;

/// Part of the day in UTC, from the first minute to before the last; it may pass midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// First minute, `"18:00"`.
    from: Minute,
    /// First minute after, `"06:00"`. The same as `from` means the whole day.
    to: Minute,
}

impl Hours {
    /// Whether a moment lies within.
    pub fn contains(&self, moment: SystemTime) -> bool {
        let seconds = moment
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let now = seconds / 60 % MINUTES_A_DAY;
        let (from, to) = (self.from.0, self.to.0);
        match from < to {
            true => (from..to).contains(&now),
            false => now >= from || now < to,
        }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} UTC", self.from, self.to)
    }
}

/// Minutes after midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Minute(u64);

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl<'de> Deserialize<'de> for Minute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts = text.split_once(':').and_then(|(hour, minute)| {
            let (hour, minute) = (hour.parse::<u64>().ok()?, minute.parse::<u64>().ok()?);
            (hour < 24 && minute < 60).then_some(Self(hour * 60 + minute))
        });
        parts.ok_or_else(|| de::Error::custom(format!("{text:?} is no time of day: write HH:MM")))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(hour: u64, minute: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(86_400 * 365 + (hour * 60 + minute) * 60)
    }

    fn hours(text: &str) -> Result<Hours, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn nights_pass_midnight() {
        let night = hours("from = \"18:00\"\nto = \"06:30\"").expect("sound");
        assert!(night.contains(at(18, 0)) && night.contains(at(0, 0)) && night.contains(at(6, 29)));
        assert!(!night.contains(at(6, 30)) && !night.contains(at(17, 59)));
        let day = hours("from = \"08:00\"\nto = \"09:00\"").expect("sound");
        assert!(day.contains(at(8, 59)) && !day.contains(at(9, 0)));
        assert_eq!(night.to_string(), "18:00 to 06:30 UTC");
    }

    #[test]
    fn what_is_no_time_of_day_is_refused() {
        for bad in ["24:00", "6", "06:60", "x:y"] {
            let message = hours(&format!("from = \"{bad}\"\nto = \"01:00\"")).expect_err(bad);
            assert!(message.to_string().contains("HH:MM"), "{message}");
        }
    }
}
