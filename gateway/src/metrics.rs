//! What can be measured from outside, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use journal::Stats;
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
        page.0
    }
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
            assert!(text.contains(&format!("# TYPE {name} ")), "{line}");
        }
    }
}
