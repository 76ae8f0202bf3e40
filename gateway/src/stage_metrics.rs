//! What `/metrics` says of how long commands take, and of their traces.

use std::fmt::{Display, Write};
use std::sync::atomic::Ordering;

use journal::Counts;

use crate::stages::Stages;
use crate::traces::TraceCounts;

/// Upper bounds of the buckets of durations, in nanoseconds and as Prometheus has them in seconds.
const DURATION_BOUNDS: [(u64, &str); 22] = [
    (1_000, "0.000001"),
    (2_500, "0.0000025"),
    (5_000, "0.000005"),
    (10_000, "0.00001"),
    (25_000, "0.000025"),
    (50_000, "0.00005"),
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
];
/// The same of how many commands an entry holds.
const ENTRY_BOUNDS: [u64; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000];

/// Nanoseconds as seconds, all nine digits.
fn seconds(nanoseconds: u64) -> String {
    format!("{}.{:09}", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000)
}

/// The page's part about the stages.
pub fn render(stages: &Stages, traces: &TraceCounts) -> String {
    let mut page = String::with_capacity(16 << 10);
    let name = "rialto_stage_duration_seconds";
    head(&mut page, name, "How long commands took, by the stage of their road; total is all of it.");
    for (stage, histogram) in stages.road() {
        durations(&mut page, name, &format!("stage=\"{stage}\""), &histogram.read());
    }
    let name = "rialto_log_sync_duration_seconds";
    head(&mut page, name, "How long synced writes of the log took.");
    durations(&mut page, name, "", &stages.journal.log_sync.read());
    let name = "rialto_entry_commands";
    head(&mut page, name, "Commands in each journal entry applied.");
    let read = stages.journal.entry_commands.read();
    samples(&mut page, name, "", &read, &ENTRY_BOUNDS.map(|commands| (commands, commands)), read.sum());
    let name = "rialto_traces_total";
    let _ = writeln!(page, "# HELP {name} Traces of requests, by what became of them.\n# TYPE {name} counter");
    let by_outcome = [("exported", &traces.exported), ("failed", &traces.failed), ("dropped", &traces.dropped)];
    for (outcome, count) in by_outcome {
        let _ = writeln!(page, "{name}{{outcome=\"{outcome}\"}} {}", count.load(Ordering::Relaxed));
    }
    page
}

fn head(page: &mut String, name: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} histogram");
}

/// A histogram of nanoseconds, told in seconds.
fn durations(page: &mut String, name: &str, labels: &str, read: &Counts) {
    samples(page, name, labels, read, &DURATION_BOUNDS, seconds(read.sum()));
}

/// The samples of a histogram; `bounds` are its buckets' upper bounds and how they are written.
fn samples(
    page: &mut String,
    name: &str,
    labels: &str,
    read: &Counts,
    bounds: &[(u64, impl Display)],
    sum: impl Display,
) {
    let comma = if labels.is_empty() { "" } else { "," };
    let values: Vec<u64> = bounds.iter().map(|(value, _)| *value).collect();
    for ((_, bound), count) in bounds.iter().zip(read.at_most(&values)) {
        let _ = writeln!(page, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
    }
    let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    let count = read.count();
    let _ = writeln!(page, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
    let _ = writeln!(page, "{name}_sum{braced} {sum}\n{name}_count{braced} {count}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_each_bound_and_adds_up() {
        let stages = Stages::default();
        for micros in [1, 90, 100, 101, 20_000_000] {
            stages.total.record(micros * 1_000);
        }
        stages.journal.entry_commands.record(7);
        let text = render(&stages, &TraceCounts::default());
        let value = |sample: &str| {
            let line = text.lines().find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')));
            line.and_then(|line| line.rsplit_once(' ')).unwrap_or_else(|| panic!("no {sample}")).1.to_owned()
        };
        let of_total =
            |le: &str| value(&format!("rialto_stage_duration_seconds_bucket{{stage=\"total\",le=\"{le}\"}}"));
        let bounds = ["0.000001", "0.00005", "0.0001", "0.00025", "10", "+Inf"];
        assert_eq!(bounds.map(of_total), ["1", "1", "3", "4", "4", "5"]);
        assert_eq!(value("rialto_stage_duration_seconds_sum{stage=\"total\"}"), "20.000292000");
        assert_eq!(value("rialto_stage_duration_seconds_count{stage=\"total\"}"), "5");
        assert_eq!(value("rialto_entry_commands_bucket{le=\"5\"}"), "0");
        assert_eq!(value("rialto_entry_commands_bucket{le=\"10\"}"), "1");
        assert_eq!(value("rialto_entry_commands_count"), "1");
    }

    #[test]
    fn bounds_in_seconds_are_those_in_nanoseconds() {
        for (nanoseconds, text) in DURATION_BOUNDS {
            let told: f64 = text.parse().unwrap();
            assert_eq!((told * 1e9).round() as u64, nanoseconds);
        }
    }

    #[test]
    fn every_sample_belongs_to_a_histogram() {
        let text = render(&Stages::default(), &TraceCounts::default());
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("rialto_traces_total{")) {
            let name = line.split(['{', ' ']).next().unwrap();
            let name = ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| name.strip_suffix(suffix));
            let name = name.unwrap_or_else(|| panic!("{line}"));
            assert!(text.contains(&format!("# TYPE {name} histogram\n")), "{line}");
        }
    }
}
