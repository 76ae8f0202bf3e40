//! The sixteen intervals, in time zones of whole minutes.

use engine::Time;
use journal::Grain;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
/// 1970-01-05 was a Monday.
const FIRST_MONDAY: i64 = 4 * DAY;

/// The length of a candle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interval {
    /// `1s`
    Second1,
    /// `1m`
    Minute1,
    /// `3m`
    Minute3,
    /// `5m`
    Minute5,
    /// `15m`
    Minute15,
    /// `30m`
    Minute30,
    /// `1h`
    Hour1,
    /// `2h`
    Hour2,
    /// `4h`
    Hour4,
    /// `6h`
    Hour6,
    /// `8h`
    Hour8,
    /// `12h`
    Hour12,
    /// `1d`
    Day1,
    /// `3d`, counted from 1970-01-01
    Day3,
    /// `1w`, from Monday
    Week1,
    /// `1M`, a calendar month
    Month1,
}

impl Interval {
    /// All of them, shortest first.
    pub const ALL: [Interval; 16] = [
        Interval::Second1,
        Interval::Minute1,
        Interval::Minute3,
        Interval::Minute5,
        Interval::Minute15,
        Interval::Minute30,
        Interval::Hour1,
        Interval::Hour2,
        Interval::Hour4,
        Interval::Hour6,
        Interval::Hour8,
        Interval::Hour12,
        Interval::Day1,
        Interval::Day3,
        Interval::Week1,
        Interval::Month1,
    ];

    /// The interval of that name; names are case-sensitive.
    pub fn parse(name: &str) -> Option<Interval> {
        Self::ALL.into_iter().find(|interval| interval.name() == name)
    }

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 16] =
            ["1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"];
        NAMES[self as usize]
    }

    /// Microseconds, or `None` for months.
    fn length(self) -> Option<i64> {
        Some(match self {
            Interval::Second1 => SECOND,
            Interval::Minute1 => MINUTE,
            Interval::Minute3 => 3 * MINUTE,
            Interval::Minute5 => 5 * MINUTE,
            Interval::Minute15 => 15 * MINUTE,
            Interval::Minute30 => 30 * MINUTE,
            Interval::Hour1 => HOUR,
            Interval::Hour2 => 2 * HOUR,
            Interval::Hour4 => 4 * HOUR,
            Interval::Hour6 => 6 * HOUR,
            Interval::Hour8 => 8 * HOUR,
            Interval::Hour12 => 12 * HOUR,
            Interval::Day1 => DAY,
            Interval::Day3 => 3 * DAY,
            Interval::Week1 => WEEK,
            Interval::Month1 => return None,
        })
    }

    /// When the interval that holds `time` began, in a time zone `offset` ahead of UTC.
    pub fn open_time(self, time: Time, offset: Offset) -> Time {
        to_time(self.floor(to_local(time, offset)) - offset.0)
    }

    /// When the interval after the one that holds `time` begins.
    pub fn next_open_time(self, time: Time, offset: Offset) -> Time {
        to_time(self.step(self.floor(to_local(time, offset)), 1) - offset.0)
    }

    /// The longest candles that are kept of which whole ones make up each of this interval's, in every place of the grid, and
    /// the shortest that are needed where it does not.
    pub(super) fn grain(self, offset: Offset) -> Grain {
        let whole = |length: i64| self.length().is_none_or(|own| own % length == 0) && offset.0 % length == 0;
        match self {
            Interval::Second1 => Grain::Second,
            _ if whole(DAY) => Grain::Day,
            _ if whole(HOUR) => Grain::Hour,
            _ => Grain::Minute,
        }
    }

    /// When the interval `count` before the one that holds `time` began.
    pub(super) fn earlier_open_time(self, time: Time, offset: Offset, count: usize) -> Time {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        to_time(self.step(self.floor(to_local(time, offset)), count.saturating_neg()).saturating_sub(offset.0))
    }

    /// The beginning of the interval that holds the local time `local`.
    fn floor(self, local: i64) -> i64 {
        match self.length() {
            Some(WEEK) => (local - FIRST_MONDAY).div_euclid(WEEK) * WEEK + FIRST_MONDAY,
            Some(length) => local.div_euclid(length) * length,
            None => month_start(month_of(local.div_euclid(DAY))),
        }
    }

    /// The beginning of the interval `count` after (before, when negative) the one that begins at the local time `open`.
    fn step(self, open: i64, count: i64) -> i64 {
        match self.length() {
            Some(length) => open.saturating_add(length.saturating_mul(count)),
            None => month_start(month_of(open.div_euclid(DAY)).saturating_add(count.clamp(-1_000_000, 1_000_000))),
        }
    }
}

/// How far a time zone is ahead of UTC, in whole minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(i64);

impl Offset {
    /// No offset.
    pub const UTC: Offset = Offset(0);

    /// From minutes.
    pub fn from_minutes(minutes: i16) -> Offset {
        Offset(i64::from(minutes) * MINUTE)
    }

    /// The `timeZone` parameter: hours and, if wanted, minutes (`0`, `8`, `-1:00`, `+05:45`), from -12:00 to +14:00.
    pub fn parse(text: &str) -> Option<Offset> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "00"));
        let number = |text: &str, length: std::ops::RangeInclusive<usize>| {
            let plain = length.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| text.parse::<i16>().ok()).flatten()
        };
        let (hours, minutes) = (number(hours, 1..=2)?, number(minutes, 2..=2)?);
        let total = hours * 60 + minutes;
        let total = if negative { -total } else { total };
        (minutes < 60 && (-12 * 60..=14 * 60).contains(&total)).then(|| Offset::from_minutes(total))
    }
}

fn to_local(time: Time, offset: Offset) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX).saturating_add(offset.0)
}

fn to_time(micros: i64) -> Time {
    Time(u64::try_from(micros).unwrap_or(0))
}

/// The number of the month (year × 12 + month from 0) in which the day `day` after 1970-01-01 lies. Years begin in March
/// inside, so that the leap day is a year's last.
fn month_of(day: i64) -> i64 {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let day_of_era = day.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    (year_of_era + era * 400) * 12 + months_since_march + 2
}

/// When a month begins, in microseconds since 1970-01-01.
fn month_start(month: i64) -> i64 {
    let months_since_march = (month - 2).rem_euclid(12);
    let year = (month - 2).div_euclid(12);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * months_since_march + 2) / 5;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era - 719_468) * DAY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_begin_on_monday_and_months_on_the_first() {
        let time = Time(1_709_210_096_789_000); // 2024-02-29 12:34:56.789, a Thursday
        let open = |interval: Interval| interval.open_time(time, Offset::UTC).millis();
        let end = |interval: Interval| interval.next_open_time(time, Offset::UTC).millis();
        assert_eq!((open(Interval::Week1), end(Interval::Week1)), (1_708_905_600_000, 1_709_510_400_000));
        assert_eq!((open(Interval::Month1), end(Interval::Month1)), (1_706_745_600_000, 1_709_251_200_000));
        assert_eq!(open(Interval::Day1), 1_709_164_800_000);
        assert_eq!(open(Interval::Day3) % (3 * 86_400_000), 0);
        for month in -100..1_000 {
            let start = month_start(1970 * 12 + month);
            assert_eq!(month_of(start / DAY), 1970 * 12 + month);
            assert_eq!(month_of((start - 1).div_euclid(DAY)), 1970 * 12 + month - 1);
        }
    }

    #[test]
    fn time_zones_are_hours_and_minutes_within_the_range_of_the_earth() {
        assert_eq!(Offset::parse("-12:00"), Some(Offset::from_minutes(-720)));
        assert_eq!(Offset::parse("+14"), Some(Offset::from_minutes(840)));
        for wrong in ["", "15", "-12:01", "1:60", "1:5", "a", "+-1", "1:00:00", "+"] {
            assert_eq!(Offset::parse(wrong), None, "{wrong}");
        }
    }
}
