//! What the measurements share: how a figure is printed and kept, and what a disk's bare sync costs.
//!
//! Figures are ratios to a bare cost taken in the same run on the same machine wherever there is one; times alone say
//! more about the machine.

// Rustdoc is not told where it lies.
#[cfg(all(flowgen, not(doc)))]
extern crate flowgen;

pub mod flow;
pub mod machine;
#[cfg(all(flowgen, not(doc)))]
pub mod reference;

use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

/// One figure.
pub struct Figure<'a> {
    /// The program that took it.
    pub bench: &'a str,
    /// Under which circumstances.
    pub case: &'a str,
    /// Of what, such as `commands/s` or `p99 µs`.
    pub unit: &'a str,
    /// The figure.
    pub value: u64,
    /// Over how many.
    pub n: u64,
    /// The bare cost it is held against, in the same unit.
    pub baseline: Option<u64>,
}

impl Figure<'_> {
    /// Append it as a JSON line to `bench.jsonl` in the target folder.
    pub fn keep(&self) {
        let ratio =
            self.baseline.filter(|baseline| *baseline > 0).map(|baseline| thousandths(self.value * 1_000 / baseline));
        let line = json!({
            "bench": self.bench, "case": self.case, "unit": self.unit, "value": self.value, "n": self.n,
            "baseline": self.baseline, "ratio": ratio,
        });
        let folder = tests::exchange::build_folder();
        let path = folder.parent().unwrap_or(&folder).join("bench.jsonl");
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| writeln!(file, "{line}"));
        written.unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    }
}

fn thousandths(value: u64) -> serde_json::Number {
    let text = format!("{}.{:03}", value / 1_000, value % 1_000);
    text.parse().expect("a decimal is a JSON number")
}

/// Latencies, sorted.
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// From times in any order.
    pub fn new(times: impl IntoIterator<Item = Duration>) -> Latencies {
        let mut times: Vec<u64> =
            times.into_iter().map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).collect();
        times.sort_unstable();
        Latencies(times)
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// How many in a second, where all of them took so long.
    pub fn per_second(&self, elapsed: Duration) -> u64 {
        per_second(self.count(), elapsed)
    }

    /// The time in nanoseconds that so many of a thousand do not exceed.
    pub fn nanos(&self, per_mille: usize) -> u64 {
        let rank = (self.0.len() * per_mille).div_ceil(1_000);
        rank.checked_sub(1).map_or(0, |index| self.0[index])
    }

    /// The time in microseconds that so many of a thousand do not exceed.
    pub fn micros(&self, per_mille: usize) -> u64 {
        self.nanos(per_mille) / 1_000
    }
}

/// How many in a second, where `count` took so long.
pub fn per_second(count: u64, elapsed: Duration) -> u64 {
    let nanos = elapsed.as_nanos().max(1);
    u64::try_from(u128::from(count) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// The one in the middle, of an odd number.
pub fn median(mut figures: Vec<u64>) -> u64 {
    figures.sort_unstable();
    figures[figures.len() / 2]
}

/// What the disk under `folder` takes to write 4 KiB and sync it, `count` times one after the other: appended, where the
/// file system has its own records to sync for the growth, and in place, which is the least that durability can cost.
pub fn bare_sync(folder: &Path, count: usize) -> (Latencies, Latencies) {
    let block = [7u8; 4_096];
    let mut file = tempfile::tempfile_in(folder).expect("a writable folder");
    let write = |file: &mut File| {
        let started = Instant::now();
        file.write_all(&block).expect("room on the disk");
        file.sync_data().expect("a disk that syncs");
        started.elapsed()
    };
    let appended = Latencies::new((0..count).map(|_| write(&mut file)));
    file.rewind().expect("a file has a start");
    let in_place = Latencies::new((0..count).map(|_| write(&mut file)));
    (appended, in_place)
}

/// Spare the reader long numbers: `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!([7, 999, 1_000, 1_234_567].map(grouped), ["7", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn percentiles_are_ranks() {
        let latencies = Latencies::new((1..=1_000).map(Duration::from_micros));
        assert_eq!([500, 990, 999, 1_000].map(|per_mille| latencies.micros(per_mille)), [500, 990, 999, 1_000]);
    }
}
