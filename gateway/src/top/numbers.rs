//! How numbers and times are written. None of them is money: prices come as text and are shown as they come.

/// What is shown where nothing is known.
pub const NOTHING: &str = "-";

/// In groups of three digits.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The same, if it is known.
pub fn count_or(value: Option<u64>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), count)
}

/// From tenths; whole numbers from a hundred on.
pub fn rate(tenths: Option<u64>) -> String {
    match tenths {
        None => NOTHING.to_owned(),
        Some(tenths) if tenths >= 1_000 => count(tenths / 10),
        Some(tenths) => format!("{}.{}", tenths / 10, tenths % 10),
    }
}

/// From thousandths to percent.
pub fn percent(thousandths: Option<u64>) -> String {
    thousandths.map_or_else(|| NOTHING.to_owned(), |part| format!("{}.{} %", part / 10, part % 10))
}

/// From microseconds, in the unit that reads best.
pub fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10),
        10_000..100_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        100_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{}.{:02} s", us / 1_000_000, us % 1_000_000 / 10_000),
    }
}

/// From bytes, in the unit that reads best.
pub fn bytes(value: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| value >> shift > 0) {
        None => format!("{value} B"),
        Some((unit, shift)) => {
            let tenths = (u128::from(value) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
    }
}

/// How long, from seconds to days.
pub fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{minutes} min"),
        7_200..172_800 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// How many decimals these prices or sizes need: what all of them have in zeros at their ends says nothing.
pub fn decimals_of<'a>(texts: impl IntoIterator<Item = &'a str>) -> usize {
    let needed = |text: &str| text.split_once('.').map_or(0, |(_, part)| part.trim_end_matches('0').len());
    texts.into_iter().map(needed).max().unwrap_or(0)
}

/// So many of its decimals.
pub fn with_decimals(text: &str, decimals: usize) -> &str {
    let Some((whole, part)) = text.split_once('.') else { return text };
    let end = if decimals == 0 { whole.len() } else { whole.len() + 1 + decimals.min(part.len()) };
    text.get(..end).unwrap_or(text)
}

/// Hours, minutes and seconds in UTC, from milliseconds since 1970.
pub fn clock(ms: u64) -> String {
    let seconds = ms / 1_000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_side_by_side_have_as_many_decimals_as_one_of_them_needs() {
        for (texts, decimals) in [
            (["61688.04000000", "61688.10000000"], 2),
            (["0.00001000", "7.00000000"], 5),
            (["100.0000", "7.00"], 0),
            (["100", "7.50"], 1),
            (["", "."], 0),
        ] {
            assert_eq!(decimals_of(texts), decimals, "{texts:?}");
        }
        assert_eq!(
            ["61688.10000000", "7", "100.0", "1.5"].map(|text| with_decimals(text, 2)),
            ["61688.10", "7", "100.0", "1.5"]
        );
        assert_eq!(with_decimals("100.0000", 0), "100");
    }

    #[test]
    fn numbers_read_well_in_every_size() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([7, 1_500, 12_345, 140_600].map(micros), ["7 µs", "1.50 ms", "12.3 ms", "140 ms"]);
        assert_eq!(micros(2_500_000), "2.50 s");
        assert_eq!([1_023, 1_024, 7_310_024_705].map(bytes), ["1023 B", "1.0 KiB", "6.8 GiB"]);
        assert_eq!([119, 120, 7_260, 266_400].map(duration), ["119 s", "2 min", "2 h 1 min", "3 d 2 h"]);
        assert_eq!([None, Some(0), Some(999), Some(15_079)].map(rate), ["-", "0.0", "99.9", "1,507"]);
        assert_eq!((percent(Some(925)), clock(1_772_366_399_000)), ("92.5 %".to_owned(), "11:59:59".to_owned()));
    }
}
