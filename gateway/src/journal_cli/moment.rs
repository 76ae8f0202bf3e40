//! Moments as text: a sequence, a time, or the end; and times as RFC 3339 has them, in UTC.

use engine::{Sequence, Time};
use journal::recovery::At;

const MICROS: u64 = 1_000_000;
const DAY: u64 = 24 * 60 * 60 * MICROS;

/// A moment as an operator writes it.
pub fn parse(text: &str) -> Result<At, String> {
    if text == "end" {
        return Ok(At::End);
    }
    if let Ok(sequence) = text.parse() {
        return Ok(At::Sequence(Sequence(sequence)));
    }
    parse_time(text).map(At::Time).ok_or_else(|| {
        "a sequence such as 12345, a time such as 2026-03-01T09:30:00Z or 2026-03-01T10:30:00.25+01:00, or \"end\""
            .to_owned()
    })
}

/// A time as RFC 3339 writes it; without a zone it is in UTC, without seconds or a time of day at their begin.
fn parse_time(text: &str) -> Option<Time> {
    let (date, clock) = text.split_once(['T', 't', ' ']).unwrap_or((text, ""));
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (number(date.next()?, 4)?, number(date.next()?, 2)?, number(date.next()?, 2)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) || year < 1970 {
        return None;
    }
    let mut micros = days_since_1970(year, month, day).checked_mul(DAY)?;
    let (clock, offset) = split_zone(clock)?;
    if !clock.is_empty() {
        micros = micros.checked_add(parse_clock(clock)?)?;
    }
    let shifted =
        if offset < 0 { micros.checked_add(offset.unsigned_abs()) } else { micros.checked_sub(offset as u64) };
    shifted.map(Time)
}

/// The time of day, and how far its zone is ahead of UTC, in microseconds.
fn split_zone(clock: &str) -> Option<(&str, i64)> {
    if let Some(clock) = clock.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let Some(at) = clock.find(['+', '-']) else { return Some((clock, 0)) };
    let (clock, zone) = clock.split_at(at);
    let (hours, minutes) = zone[1..].split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let ahead = i64::try_from((hours * 60 + minutes) * 60 * MICROS).ok()?;
    Some((clock, if zone.starts_with('-') { -ahead } else { ahead }))
}

fn parse_clock(clock: &str) -> Option<u64> {
    let (whole, part) = clock.split_once('.').unwrap_or((clock, ""));
    let mut whole = whole.split(':');
    let (hours, minutes) = (number(whole.next()?, 2)?, number(whole.next()?, 2)?);
    let seconds = whole.next().map_or(Some(0), |seconds| number(seconds, 2))?;
    if whole.next().is_some() || hours > 23 || minutes > 59 || seconds > 59 || part.len() > 6 {
        return None;
    }
    let part = if part.is_empty() { 0 } else { number(&format!("{part:0<6}"), 6)? };
    Some(((hours * 60 + minutes) * 60 + seconds) * MICROS + part)
}

fn number(text: &str, digits: usize) -> Option<u64> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the years before this one, from 1970.
fn days_before_year(year: u64) -> u64 {
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1_970) * 365 + leaps(year - 1) - leaps(1_969)
}

fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    days_before_year(year) + (1..month).map(|month| days_of(year, month)).sum::<u64>() + day - 1
}

/// A time in UTC, to the microsecond.
pub fn text(time: Time) -> String {
    let (days, rest) = (time.0 / DAY, time.0 % DAY);
    // A year has at most 366 days, so this is never after the year.
    let mut year = 1_970 + days / 366;
    while days_before_year(year + 1) <= days {
        year += 1;
    }
    let mut day = days - days_before_year(year);
    let mut month = 1;
    while day >= days_of(year, month) {
        day -= days_of(year, month);
        month += 1;
    }
    let (seconds, micros) = (rest / MICROS, rest % MICROS);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{:02}T{hours:02}:{minutes:02}:{seconds:02}.{micros:06}Z", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_and_writes_as_it_is_known_elsewhere() {
        for (micros, written) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_430_438_400_123_456, "2015-05-01T00:00:00.123456Z"),
            (1_709_251_199_999_999, "2024-02-29T23:59:59.999999Z"),
            (4_102_444_800_000_000, "2100-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(text(Time(micros)), written);
            assert_eq!(parse(written), Ok(At::Time(Time(micros))));
        }
    }

    #[test]
    fn a_moment_is_a_sequence_a_time_in_any_zone_or_the_end() {
        assert_eq!(parse("17"), Ok(At::Sequence(Sequence(17))));
        assert_eq!(parse("end"), Ok(At::End));
        let nine = parse("2026-03-01T09:30:00Z");
        for same in ["2026-03-01T09:30", "2026-03-01 10:30:00.0+01:00", "2026-03-01T04:00:00-05:30"] {
            assert_eq!(parse(same), nine, "{same}");
        }
        assert_eq!(parse("1970-01-02"), Ok(At::Time(Time(DAY))));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for wrong in
            ["", "-1", "soon", "2026-02-29", "2026-13-01T00:00Z", "2026-03-01T24:00Z", "2026-03-01T09:30:00+1", "1e3"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_comes_back() {
        for day in 0..(400 * 366) {
            let time = Time(day * DAY + 1);
            assert_eq!(parse(&text(time)), Ok(At::Time(time)));
        }
    }
}
