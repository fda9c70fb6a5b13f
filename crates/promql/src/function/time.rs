//! Parts of dates, in UTC.

use crate::error::QueryError;
use crate::evaluate::Evaluator;
use crate::grid::Grid;
use crate::plan::Node;
use crate::rows::Row;
use surus_core::series::Labels;

/// What is taken of a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Minute,
    Hour,
    DayOfWeek,
    DayOfMonth,
    DayOfYear,
    DaysInMonth,
    Month,
    Year,
}

impl Part {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day_of_week" => Self::DayOfWeek,
            "day_of_month" => Self::DayOfMonth,
            "day_of_year" => Self::DayOfYear,
            "days_in_month" => Self::DaysInMonth,
            "month" => Self::Month,
            "year" => Self::Year,
            _ => return None,
        })
    }

    /// Of a time in seconds since 1970.
    fn of(self, seconds: f64) -> f64 {
        // The same bounds in which a calendar makes sense; also takes NaN to 1970.
        let seconds = (seconds as i64).clamp(-9_000_000_000_000, 9_000_000_000_000);
        let day = seconds.div_euclid(86_400);
        let second = seconds.rem_euclid(86_400);
        let date = Date::of_day(day);
        let part = match self {
            Self::Minute => second / 60 % 60,
            Self::Hour => second / 3600,
            // 1970 began on a Thursday; Sunday is 0.
            Self::DayOfWeek => (day + 4).rem_euclid(7),
            Self::DayOfMonth => date.day,
            Self::DayOfYear => day - Date::day_of(date.year, 1, 1) + 1,
            Self::DaysInMonth => days_in_month(date.year, date.month),
            Self::Month => date.month,
            Self::Year => date.year,
        };
        part as f64
    }
}

/// A day of the proleptic Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Date {
    year: i64,
    month: i64,
    day: i64,
}

impl Date {
    /// The date of a day counted from 1970-01-01; years are counted from March, so that the leap day comes last.
    fn of_day(day: i64) -> Self {
        let shifted = day + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self { year, month, day: of_year - (153 * from_march + 2) / 5 + 1 }
    }

    fn day_of(year: i64, month: i64, day: i64) -> i64 {
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let from_march = if month > 2 { month - 3 } else { month + 9 };
        let of_year = (153 * from_march + 2) / 5 + day - 1;
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    Date::day_of(next_year, next_month, 1) - Date::day_of(year, month, 1)
}

/// A time in RFC 3339, to the second.
pub(crate) fn utc_text(at_ms: i64) -> String {
    let seconds = at_ms.div_euclid(1000);
    let date = Date::of_day(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{:02}Z", date.year, date.month, date.day, second % 60)
}

impl Evaluator<'_> {
    pub(super) fn date(&mut self, part: Part, argument: Option<&Node>, grid: Grid) -> Result<Vec<Row>, QueryError> {
        match argument {
            None => {
                let values = grid.seconds().into_iter().map(|seconds| part.of(seconds.floor()));
                Ok(vec![Row::new(Labels::empty(), values.collect())])
            }
            Some(argument) => {
                let mut rows = self.rows(argument, grid)?;
                rows.iter_mut().for_each(|row| row.map(|value| part.of(value)));
                Ok(rows)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        // 2024-02-29 12:34:56 was a Thursday.
        let at = 1_709_210_096.0;
        let parts = [Part::Year, Part::Month, Part::DayOfMonth, Part::Hour, Part::Minute];
        assert_eq!(parts.map(|part| part.of(at)), [2024.0, 2.0, 29.0, 12.0, 34.0]);
        assert_eq!([Part::DayOfWeek, Part::DaysInMonth, Part::DayOfYear].map(|part| part.of(at)), [4.0, 29.0, 60.0]);
        assert_eq!(utc_text(1_709_210_096_789), "2024-02-29T12:34:56Z");
        assert_eq!(utc_text(-1), "1969-12-31T23:59:59Z");
        assert_eq!(Part::DayOfWeek.of(-1.0), 3.0);
    }

    #[test]
    fn days_and_dates_agree() {
        for day in (-800_000..800_000).step_by(97) {
            let date = Date::of_day(day);
            assert_eq!(Date::day_of(date.year, date.month, date.day), day);
        }
    }
}
