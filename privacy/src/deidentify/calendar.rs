//! Days of the proleptic Gregorian calendar, counted as in Howard Hinnant's "chrono-compatible
//! low-level date algorithms".

/// A day that exists, of the years 1800 to 2199.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Day {
    pub(super) year: i32,
    pub(super) month: u8,
    pub(super) day: u8,
}

impl Day {
    /// None when there is no such day.
    pub(super) fn new(year: i32, month: u8, day: u8) -> Option<Self> {
        let exists = (1800..=2199).contains(&year)
            && (1..=12).contains(&month)
            && (1..=length(year, month)).contains(&day);
        exists.then_some(Self { year, month, day })
    }

    /// The day so many days later, which may lie a few years outside the range of [`Day::new`].
    pub(super) fn plus(self, days: i64) -> Self {
        from_number(self.number() + days)
    }

    /// Days since 1 March of the year 0.
    fn number(self) -> i64 {
        let month = i64::from(self.month);
        let year = i64::from(self.year) - i64::from(month <= 2);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(self.day) - 1;
        365 * year + year / 4 - year / 100 + year / 400 + day_of_year
    }
}

fn from_number(number: i64) -> Day {
    let era = number.div_euclid(146_097);
    let of_era = number.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    Day {
        year: year as i32, // within a few years of a `Day`
        month: month as u8,
        day: day as u8,
    }
}

fn length(year: i32, month: u8) -> u8 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_days_that_exist_are_days() {
        assert!(Day::new(2024, 2, 29).is_some() && Day::new(2000, 2, 29).is_some());
        for (year, month, day) in [(2023, 2, 29), (1900, 2, 29), (2023, 4, 31), (2023, 13, 1)] {
            assert_eq!(Day::new(year, month, day), None);
        }
    }

    #[test]
    fn numbers_of_days_run_on_over_four_centuries_and_lead_back() {
        let mut day = Day::new(1800, 1, 1).expect("a day");
        let first = day.number();
        for later in 0..146_097 {
            assert_eq!(day.number(), first + later);
            let next = day.plus(1);
            let same_month = (next.month, next.day) == (day.month, day.day + 1);
            assert!(same_month || (next.day == 1 && day.day == length(day.year, day.month)));
            day = next;
        }
        assert_eq!((day.year, day.month, day.day), (2200, 1, 1));
    }
}
