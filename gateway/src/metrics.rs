//! What can be measured from outside, in the text format of Prometheus.

use std::fmt::{Display, Write};
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use engine::symbol::SymbolStatus;

use crate::cluster_metrics;
use crate::rejects::Rejects;
use crate::samples::Samples;
use crate::thread_times::ThreadTimes;

/// What the gateway counts itself. The feed and the hub keep counts of their own.
#[derive(Debug, Default)]
pub struct Metrics {
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
    /// Pages of metrics that were sent and taken.
    pub pushes: AtomicU64,
    /// Those that were not.
    pub push_failures: AtomicU64,
    /// Errors answered, by code.
    pub rejects: Rejects,
    /// How long each thread has worked.
    pub threads: ThreadTimes,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// A client was answered with this error code.
    pub fn count_error(&self, code: i64) {
        self.rejects.count(code, Instant::now());
    }
}

/// The samples as Prometheus reads them.
pub fn render(samples: &Samples) -> String {
    let catalog = &samples.catalog;
    let mut page = Page(String::with_capacity(8_192));
    let (node, feed, sockets) = (&samples.node, &samples.feed, &samples.sockets);

    page.gauge("rialto_sequence", "Last command that readers see.", samples.sequence);
    page.gauge(
        "rialto_conserved",
        "1 while all balances add up to deposits less withdrawals.",
        u8::from(samples.is_conserved),
    );
    page.gauge("rialto_ready", "1 while orders are taken.", u8::from(samples.is_ready));
    page.gauge("rialto_uptime_seconds", "Since the process began.", samples.uptime_seconds);
    page.gauge("rialto_open_orders", "Orders on the books.", samples.open_orders());
    page.gauge("rialto_commands_in_flight", "Commands between the door and their answer.", samples.in_flight);
    let lanes = samples.lanes.iter().enumerate().map(|(lane, queue)| (lane.to_string(), queue.depth));
    page.family("rialto_lane_commands", "gauge", "Commands in each lane.", "lane", lanes);
    let queues = samples.queues();
    let depths = queues.iter().map(|queue| (&queue.name, queue.depth.depth));
    page.family("rialto_queue_depth", "gauge", "What waits in each queue on an order's road.", "queue", depths);
    let bounds = queues.iter().map(|queue| (&queue.name, queue.depth.bound));
    page.family("rialto_queue_bound", "gauge", "What may wait in it; then the door refuses.", "queue", bounds);
    let threads = samples.threads.iter().map(|(name, busy_ns)| (name, seconds(*busy_ns)));
    page.family(
        "rialto_thread_cpu_seconds_total",
        "counter",
        "Time that the threads of a name were on a processor.",
        "thread",
        threads,
    );

    page.counter("rialto_feed_entries_total", "Journal entries published.", feed.entries);
    page.counter("rialto_feed_events_total", "Events published.", feed.events);
    page.counter("rialto_trades_total", "Trades since the start.", feed.trades);
    page.counter("rialto_answers_total", "Commands answered.", feed.answers);
    page.counter("rialto_rejections_total", "Commands that the engine refused.", feed.rejections);
    page.counter("rialto_feed_busy_nanoseconds_total", "Time spent publishing.", feed.busy_ns);
    page.gauge("rialto_feed_lag_microseconds", "From stamp to publication of the last entry.", feed.lag_us);
    let ahead = "By how much the log's time is ahead of this machine's clock.";
    page.gauge("rialto_time_ahead_microseconds", ahead, feed.ahead_us);

    let named =
        || samples.symbols.iter().filter_map(|it| Some((&catalog.symbols.get(it.symbol.0 as usize)?.config.name, it)));
    page.family(
        "rialto_symbol_orders_total",
        "counter",
        "Orders accepted in each symbol since the start.",
        "symbol",
        named().map(|(name, it)| (name, it.orders)),
    );
    page.family(
        "rialto_symbol_trades_total",
        "counter",
        "Trades in each symbol since the start.",
        "symbol",
        named().map(|(name, it)| (name, it.trades)),
    );
    page.family(
        "rialto_symbol_open_orders",
        "gauge",
        "Orders on the book of each symbol.",
        "symbol",
        named().map(|(name, it)| (name, it.open_orders)),
    );
    let trading = catalog.symbols.iter().map(|it| (&it.config.name, u8::from(it.status == SymbolStatus::Trading)));
    page.family("rialto_symbol_trading", "gauge", "1 while a symbol trades.", "symbol", trading);

    page.gauge("rialto_sockets", "Open websockets.", sockets.open);
    page.counter("rialto_sockets_opened_total", "Websockets opened.", sockets.opened);
    page.gauge("rialto_stream_subscriptions", "Subscriptions to streams.", sockets.subscriptions());
    page.family(
        "rialto_stream_kind_subscriptions",
        "gauge",
        "Subscriptions to each kind of stream.",
        "stream",
        &sockets.by_stream,
    );
    page.counter("rialto_stream_messages_total", "Messages taken by subscribers.", sockets.messages);
    page.counter("rialto_stream_messages_encoded_total", "Messages encoded.", sockets.encoded);
    page.counter(
        "rialto_stream_messages_conflated_total",
        "Messages not sent to slow readers, as later ones replace or contain them.",
        sockets.conflated,
    );
    page.family(
        "rialto_slow_disconnects_total",
        "counter",
        "Sockets closed on the reader's account, by reason.",
        "reason",
        sockets.slow_disconnects.iter().copied(),
    );
    page.counter(
        "rialto_sockets_compressed_total",
        "Websockets opened that take compressed messages.",
        sockets.compressed,
    );
    page.counter("rialto_socket_messages_received_total", "Messages received.", sockets.received);
    page.counter("rialto_socket_frames_sent_total", "Frames sent.", sockets.frames_sent);
    page.counter("rialto_ws_api_requests_total", "WS API requests answered.", sockets.ws_api_requests);
    page.counter("rialto_http_requests_total", "HTTP requests answered.", samples.http_requests);
    let errors = samples.rejects.iter().map(|rejected| (rejected.code, rejected.total));
    page.family("rialto_errors_total", "counter", "Errors answered, by code.", "code", errors);

    page.family(
        "rialto_limited_total",
        "counter",
        "Requests refused, by the limit that refused them.",
        "limit",
        samples.limited.iter().copied(),
    );
    page.counter(
        "rialto_connections_refused_total",
        "Connections of addresses that have too many.",
        samples.connections_refused,
    );
    page.counter(
        "rialto_access_log_dropped_total",
        "Requests that found no room in the log of requests.",
        samples.unlogged,
    );
    page.counter("rialto_bans_total", "Addresses banned.", samples.bans);

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
        samples.history_lag(),
    );
    page.gauge("rialto_history_watermark", "Last sequence that history holds.", node.history_watermark);
    let [pushed, failed] = samples.pushes;
    page.counter("rialto_metrics_pushes_total", "Pages like this one that were sent and taken.", pushed);
    page.counter("rialto_metrics_push_failures_total", "Those that were sent and not taken.", failed);
    page.0.push_str(&samples.others().map(cluster_metrics::render).unwrap_or_default());
    page.0
}

/// Nanoseconds as the seconds that Prometheus counts in.
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

    /// A sample for each value of a label.
    fn family<L: Display, V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) {
        self.head(name, kind, help);
        for (value, sample) in samples {
            self.sample(name, &format!("{{{label}=\"{value}\"}}"), sample);
        }
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
    use journal::QueueDepth;

    #[test]
    fn every_sample_follows_its_type() {
        let metrics = Metrics::new();
        metrics.count_error(-1121);
        let lane = |depth| QueueDepth { depth, bound: 9 };
        let samples = Samples {
            is_conserved: true,
            rejects: metrics.rejects.by_code(Instant::now()),
            lanes: vec![lane(3), lane(0)],
            threads: vec![("feed".to_owned(), 1_000_000_007)],
            ..Samples::default()
        };
        let text = render(&samples);
        assert!(text.contains("rialto_thread_cpu_seconds_total{thread=\"feed\"} 1.000000007\n"));
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
