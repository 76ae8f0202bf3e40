//! What can be measured from outside, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use journal::{Counts, Stats};
use parking_lot::Mutex;

use crate::feed::Outlets;
use crate::rate_limit::RefusalCounts;

/// What the gateway counts itself. The feed and the hub keep counts of their own.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Websockets that are open.
    pub sockets: AtomicI64,
    /// Websockets that were opened.
    pub sockets_opened: AtomicU64,
    /// Those among them that agreed on compression.
    pub sockets_compressed: AtomicU64,
    /// Websockets ended because nothing could be written to them.
    pub sockets_stalled: AtomicU64,
    /// Websockets ended because pings stayed unanswered.
    pub sockets_silent: AtomicU64,
    /// Messages that came in on websockets.
    pub messages_received: AtomicU64,
    /// Frames that went out on websockets.
    pub frames_sent: AtomicU64,
    /// WS API requests answered.
    pub ws_api_requests: AtomicU64,
    /// Connections closed at once, as their address had too many.
    pub connections_refused: AtomicU64,
    /// HTTP requests answered.
    pub http_requests: AtomicU64,
    /// Errors answered, by code.
    errors: Mutex<BTreeMap<i64, u64>>,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// A client was answered with this error code.
    pub fn count_error(&self, code: i64) {
        *self.errors.lock().entry(code).or_default() += 1;
    }

    /// The whole text. `lanes` is how many commands wait in each lane.
    pub fn render(
        &self,
        outlets: &Outlets,
        node: &Stats,
        lanes: &[usize],
        refused: &RefusalCounts,
        unlogged: u64,
    ) -> String {
        let mut page = Page(String::with_capacity(4_096));
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (views, hub, feed) = (&outlets.views, &outlets.hub, &outlets.counts);

        page.gauge("rialto_sequence", "Last command that readers see.", views.sequence().0);
        page.gauge(
            "rialto_conserved",
            "1 while all balances add up to deposits less withdrawals.",
            u8::from(views.is_conserved()),
        );
        page.gauge("rialto_open_orders", "Orders on the books.", views.open_order_count());
        page.gauge(
            "rialto_commands_in_flight",
            "Commands between the door and their answer.",
            outlets.in_flight.count(),
        );
        page.head("rialto_lane_commands", "gauge", "Commands in each lane.");
        for (lane, depth) in lanes.iter().enumerate() {
            page.sample("rialto_lane_commands", &format!("{{lane=\"{lane}\"}}"), depth);
        }

        page.counter("rialto_feed_entries_total", "Journal entries published.", load(&feed.entries));
        page.counter("rialto_feed_events_total", "Events published.", load(&feed.events));
        page.counter("rialto_trades_total", "Trades since the start.", load(&feed.trades));
        page.counter("rialto_answers_total", "Commands answered.", load(&feed.answers));
        page.counter("rialto_rejections_total", "Commands that the engine refused.", load(&feed.rejections));
        page.counter("rialto_feed_busy_nanoseconds_total", "Time spent publishing.", load(&feed.busy_ns));
        page.gauge("rialto_feed_lag_microseconds", "From stamp to publication of the last entry.", load(&feed.lag_us));

        page.gauge("rialto_sockets", "Open websockets.", self.sockets.load(Ordering::Relaxed));
        page.counter("rialto_sockets_opened_total", "Websockets opened.", load(&self.sockets_opened));
        page.gauge("rialto_stream_subscriptions", "Subscriptions to streams.", hub.subscriptions());
        page.counter("rialto_stream_messages_total", "Messages taken by subscribers.", load(&hub.counts.taken));
        page.counter("rialto_stream_messages_encoded_total", "Messages encoded.", load(&hub.counts.encoded));
        page.counter(
            "rialto_stream_messages_conflated_total",
            "Messages not sent to slow readers, as later ones replace or contain them.",
            load(&hub.counts.conflated),
        );
        page.head("rialto_slow_disconnects_total", "counter", "Sockets closed on the reader's account, by reason.");
        let by_reason = [
            ("behind", &hub.counts.slow),
            ("hole", &hub.counts.holes),
            ("stalled", &self.sockets_stalled),
            ("silent", &self.sockets_silent),
        ];
        for (reason, count) in by_reason {
            page.sample("rialto_slow_disconnects_total", &format!("{{reason=\"{reason}\"}}"), load(count));
        }
        page.counter(
            "rialto_sockets_compressed_total",
            "Websockets opened that take compressed messages.",
            load(&self.sockets_compressed),
        );
        page.counter("rialto_socket_messages_received_total", "Messages received.", load(&self.messages_received));
        page.counter("rialto_socket_frames_sent_total", "Frames sent.", load(&self.frames_sent));
        page.counter("rialto_ws_api_requests_total", "WS API requests answered.", load(&self.ws_api_requests));
        page.counter("rialto_http_requests_total", "HTTP requests answered.", load(&self.http_requests));
        page.head("rialto_errors_total", "counter", "Errors answered, by code.");
        for (code, count) in self.errors.lock().iter() {
            page.sample("rialto_errors_total", &format!("{{code=\"{code}\"}}"), count);
        }

        page.head("rialto_limited_total", "counter", "Requests refused, by the limit that refused them.");
        let by_link = [
            ("gateway", &refused.gateway),
            ("address", &refused.address),
            ("ban", &refused.banned),
            ("account", &refused.account),
            ("call", &refused.call),
        ];
        for (link, count) in by_link {
            page.sample("rialto_limited_total", &format!("{{limit=\"{link}\"}}"), load(count));
        }
        page.counter(
            "rialto_connections_refused_total",
            "Connections of addresses that have too many.",
            load(&self.connections_refused),
        );
        page.counter(
            "rialto_access_log_dropped_total",
            "Requests that found no room in the log of requests.",
            unlogged,
        );
        page.counter("rialto_bans_total", "Addresses banned.", load(&refused.bans));

        page.gauge("rialto_log_index", "Index of the last raft log entry.", node.last_log_index);
        page.gauge("rialto_applied_sequence", "Last command applied.", node.applied_sequence);
        page.counter("rialto_log_syncs_total", "Log writes that were synced.", node.log_syncs);
        page.counter("rialto_log_sync_nanoseconds_total", "Time spent in them.", node.log_sync_ns);
        page.counter("rialto_log_entries_total", "Entries written to the log.", node.log_entries);
        page.counter("rialto_log_bytes_total", "Bytes written to the log.", node.log_bytes);
        page.gauge("rialto_queued_commands", "Commands waiting in the sequencer's queue.", node.queued_commands);
        page.counter("rialto_snapshots_total", "Snapshots written.", node.snapshots);
        page.counter("rialto_log_damaged_total", "Damage found in the log kept to look back on.", node.log_damaged);
        page.gauge("rialto_disk_free_bytes", "Room on the disk of the data directory.", node.free_bytes);
        page.gauge(
            "rialto_disk_low",
            "1 while there is so little that only cancels are taken.",
            u8::from(node.is_space_low),
        );
        page.gauge(
            "rialto_history_lag_commands",
            "Commands applied that history does not hold yet.",
            node.applied_sequence.saturating_sub(node.history_watermark),
        );
        page.gauge("rialto_history_watermark", "Last sequence that history holds.", node.history_watermark);

        let (name, stages) = ("rialto_stage_duration_seconds", &outlets.stages);
        page.head(name, "histogram", "How long commands took, by the stage of their road; total is all of it.");
        for (stage, histogram) in stages.road() {
            page.durations(name, &format!("stage=\"{stage}\""), &histogram.read());
        }
        let name = "rialto_log_sync_duration_seconds";
        page.head(name, "histogram", "How long synced writes of the log took.");
        page.durations(name, "", &stages.journal.log_sync.read());
        let name = "rialto_entry_commands";
        page.head(name, "histogram", "Commands in each journal entry applied.");
        let bounds = ENTRY_BOUNDS.map(|commands| (commands, commands.to_string()));
        let read = stages.journal.entry_commands.read();
        page.histogram(name, "", &read, &bounds, read.sum());
        page.0
    }
}

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

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.sample(name, "", value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "counter", help);
        self.sample(name, "", value);
    }

    /// A histogram of nanoseconds, told in seconds.
    fn durations(&mut self, name: &str, labels: &str, read: &Counts) {
        let bounds = DURATION_BOUNDS.map(|(nanoseconds, seconds)| (nanoseconds, seconds.to_owned()));
        self.histogram(name, labels, read, &bounds, seconds(read.sum()));
    }

    /// The samples of a histogram; `bounds` are its buckets' upper bounds and how they are written.
    fn histogram(&mut self, name: &str, labels: &str, read: &Counts, bounds: &[(u64, String)], sum: impl Display) {
        let comma = if labels.is_empty() { "" } else { "," };
        let values: Vec<u64> = bounds.iter().map(|(value, _)| *value).collect();
        for ((_, bound), count) in bounds.iter().zip(read.at_most(&values)) {
            self.sample(&format!("{name}_bucket"), &format!("{{{labels}{comma}le=\"{bound}\"}}"), count);
        }
        let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let count = read.count();
        self.sample(&format!("{name}_bucket"), &format!("{{{labels}{comma}le=\"+Inf\"}}"), count);
        self.sample(&format!("{name}_sum"), &braced, sum);
        self.sample(&format!("{name}_count"), &braced, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_follows_its_type() {
        let metrics = Metrics::new();
        metrics.count_error(-1121);
        let text = metrics.render(&Outlets::default(), &Stats::default(), &[3, 0], &RefusalCounts::default(), 0);
        assert!(
            text.contains("\nrialto_errors_total{code=\"-1121\"} 1\n")
                && text.contains("rialto_lane_commands{lane=\"0\"} 3\n")
        );
        assert!(text.contains("\nrialto_conserved 1\n"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let of_histogram = ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| name.strip_suffix(suffix));
            let is_histogram = of_histogram.is_some_and(|name| text.contains(&format!("# TYPE {name} histogram\n")));
            assert!(is_histogram || text.contains(&format!("# TYPE {name} ")), "{line}");
        }
    }

    #[test]
    fn a_histogram_counts_up_to_each_bound_and_adds_up() {
        let outlets = Outlets::default();
        for micros in [1, 90, 100, 101, 20_000_000] {
            outlets.stages.total.record(micros * 1_000);
        }
        outlets.stages.journal.entry_commands.record(7);
        let text = Metrics::new().render(&outlets, &Stats::default(), &[], &RefusalCounts::default(), 0);
        let value = |sample: &str| {
            let line = text.lines().find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')));
            line.and_then(|line| line.rsplit_once(' ')).unwrap_or_else(|| panic!("no {sample}")).1.to_owned()
        };
        let of_total =
            |le: &str| value(&format!("rialto_stage_duration_seconds_bucket{{stage=\"total\",le=\"{le}\"}}"));
        assert_eq!(
            ["0.000001", "0.00005", "0.0001", "0.00025", "10", "+Inf"].map(of_total),
            ["1", "1", "3", "4", "4", "5"]
        );
        assert_eq!(value("rialto_stage_duration_seconds_sum{stage=\"total\"}"), "20.000292000");
        assert_eq!(value("rialto_stage_duration_seconds_count{stage=\"total\"}"), "5");
        assert_eq!(value("rialto_entry_commands_bucket{le=\"5\"}"), "0");
        assert_eq!(value("rialto_entry_commands_bucket{le=\"10\"}"), "1");
        assert_eq!(value("rialto_entry_commands_count"), "1");
        for (nanoseconds, text) in DURATION_BOUNDS {
            let told: f64 = text.parse().unwrap();
            assert_eq!((told * 1e9).round() as u64, nanoseconds);
        }
    }
}
