//! What a node counts, read once: `/metrics` and the operators' overview are two ways of writing the same samples, so they
//! never disagree.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use engine::Time;
use journal::{ClusterStatus, QueueDepth, Stats};

use crate::app::App;
use crate::clock;
use crate::rejects::Rejected;
use crate::stages::StageSummary;
use crate::views::{Catalog, MarketFigures};

/// Everything that is counted or can be measured, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// When.
    pub time: Time,
    /// Since the process began.
    pub uptime_seconds: u64,
    /// Whether orders are taken.
    pub is_ready: bool,
    /// The last command that readers see.
    pub sequence: u64,
    /// Whether all balances add up to deposits less withdrawals.
    pub is_conserved: bool,
    /// Commands between the door and their answer.
    pub in_flight: u64,
    /// What the node counts.
    pub node: Stats,
    /// The cluster as the node sees it; none once the node is stopped.
    pub cluster: Option<ClusterStatus>,
    /// What is listed.
    pub catalog: Arc<Catalog>,
    /// How each symbol stands, by its number.
    pub symbols: Vec<MarketFigures>,
    /// Commands under way in each lane, of so many that may be.
    pub lanes: Vec<QueueDepth>,
    /// How long the threads of each name have been on a processor, in nanoseconds.
    pub threads: Vec<(String, u64)>,
    /// What the feed counts.
    pub feed: FeedSamples,
    /// How long commands took, stage by stage, in the newest minute.
    pub stages: Vec<StageSummary>,
    /// What is counted of websockets.
    pub sockets: SocketSamples,
    /// HTTP requests answered.
    pub http_requests: u64,
    /// Errors answered, by code.
    pub rejects: Vec<Rejected>,
    /// Requests refused, by the limit that refused them.
    pub limited: Vec<(&'static str, u64)>,
    /// Connections closed at once, as their address had too many.
    pub connections_refused: u64,
    /// Requests that found no room in the log of requests.
    pub unlogged: u64,
    /// Addresses banned.
    pub bans: u64,
    /// Pages of metrics that were sent and taken, and those that were not.
    pub pushes: [u64; 2],
}

/// What the feed counts.
#[derive(Clone, Debug, Default)]
pub struct FeedSamples {
    /// Entries taken.
    pub entries: u64,
    /// Events in them.
    pub events: u64,
    /// Trades that were new.
    pub trades: u64,
    /// Callers answered.
    pub answers: u64,
    /// Commands refused by the engine.
    pub rejections: u64,
    /// Nanoseconds spent on entries.
    pub busy_ns: u64,
    /// Microseconds between the time stamped on the last entry and its publication.
    pub lag_us: u64,
    /// Microseconds by which the log's time is ahead of this machine's clock.
    pub ahead_us: u64,
}

/// What is counted of websockets.
#[derive(Clone, Debug, Default)]
pub struct SocketSamples {
    /// Those that are open.
    pub open: usize,
    /// Those that were opened.
    pub opened: u64,
    /// Those among them that agreed on compression.
    pub compressed: u64,
    /// Subscriptions to each kind of stream.
    pub by_stream: BTreeMap<&'static str, usize>,
    /// Messages of streams that were taken.
    pub messages: u64,
    /// Messages encoded for them.
    pub encoded: u64,
    /// Messages not sent to slow readers, as later ones replace or contain them.
    pub conflated: u64,
    /// Sockets closed on the reader's account, by reason.
    pub slow_disconnects: Vec<(&'static str, u64)>,
    /// Messages that came in.
    pub received: u64,
    /// Frames that went out.
    pub frames_sent: u64,
    /// WS API requests answered.
    pub ws_api_requests: u64,
}

impl SocketSamples {
    /// Subscriptions to all streams.
    pub fn subscriptions(&self) -> usize {
        self.by_stream.values().sum()
    }
}

/// A queue on an order's road.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Which one.
    pub name: String,
    /// How full it is.
    pub depth: QueueDepth,
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Samples {
    /// As it is now.
    pub fn take(app: &App) -> Samples {
        let (outlets, metrics, refused) = (&app.outlets, &app.metrics, &app.limits.counts);
        let (views, hub, feed) = (&outlets.views, &outlets.hub, &outlets.counts);
        let commands_max = app.config.lanes.commands_max as u64;
        let lane = |depth: usize| QueueDepth { depth: depth as u64, bound: commands_max };
        // What the feed took is read before what it was sent, so that the difference is never below zero.
        let feed = FeedSamples {
            entries: load(&feed.entries),
            events: load(&feed.events),
            trades: load(&feed.trades),
            answers: load(&feed.answers),
            rejections: load(&feed.rejections),
            busy_ns: load(&feed.busy_ns),
            lag_us: load(&feed.lag_us),
            ahead_us: views.time().0.saturating_sub(clock::now().0),
        };
        let is_ready = app.is_ready();
        let node = app.node.read();
        let (node, cluster) = match &*node {
            Some(node) => (node.stats(), node.cluster()),
            None => (Stats::default(), None),
        };
        Samples {
            time: clock::now(),
            uptime_seconds: app.started.elapsed().as_secs(),
            is_ready,
            sequence: views.sequence().0,
            is_conserved: views.is_conserved(),
            in_flight: outlets.in_flight.count(),
            node,
            cluster,
            catalog: views.symbols(),
            symbols: views.figures(),
            lanes: app.lanes.depths().into_iter().map(lane).collect(),
            threads: metrics.threads.read(),
            feed,
            stages: outlets.stages.summaries(),
            sockets: SocketSamples {
                open: app.sockets.len(),
                opened: load(&metrics.sockets_opened),
                compressed: load(&metrics.sockets_compressed),
                by_stream: hub.subscriptions(),
                messages: load(&hub.counts.taken),
                encoded: load(&hub.counts.encoded),
                conflated: load(&hub.counts.conflated),
                slow_disconnects: vec![
                    ("behind", load(&hub.counts.slow)),
                    ("hole", load(&hub.counts.holes)),
                    ("stalled", load(&metrics.sockets_stalled)),
                    ("silent", load(&metrics.sockets_silent)),
                ],
                received: load(&metrics.messages_received),
                frames_sent: load(&metrics.frames_sent),
                ws_api_requests: load(&metrics.ws_api_requests),
            },
            http_requests: load(&metrics.http_requests),
            rejects: metrics.rejects.by_code(Instant::now()),
            limited: vec![
                ("gateway", load(&refused.gateway)),
                ("address", load(&refused.address)),
                ("ban", load(&refused.banned)),
                ("account", load(&refused.account)),
                ("call", load(&refused.call)),
            ],
            connections_refused: load(&metrics.connections_refused),
            unlogged: app.access_log.dropped(),
            bans: load(&refused.bans),
            pushes: [load(&metrics.pushes), load(&metrics.push_failures)],
        }
    }

    /// Commands that were applied and that history does not hold yet.
    pub fn history_lag(&self) -> u64 {
        self.node.applied_sequence.saturating_sub(self.node.history_watermark)
    }

    /// Orders on all books.
    pub fn open_orders(&self) -> usize {
        self.symbols.iter().map(|symbol| symbol.open_orders).sum()
    }

    /// How full the queues on an order's road are, in its order.
    pub fn queues(&self) -> Vec<Queue> {
        let lanes = self.lanes.iter().enumerate().map(|(lane, depth)| (format!("lane {lane}"), *depth));
        let of_node = &self.node.queues;
        // The one that the feed has in hand is not waiting for it.
        let waiting = self.node.entries_published.saturating_sub(self.feed.entries).saturating_sub(1);
        let feed = QueueDepth { depth: waiting.min(of_node.feed_bound), bound: of_node.feed_bound };
        let behind_lanes = [
            ("sequencer", of_node.sequencer),
            ("log writer", of_node.log_writer),
            ("engine", of_node.engine),
            ("history", of_node.history),
            ("feed", feed),
        ];
        let behind_lanes = behind_lanes.into_iter().map(|(name, depth)| (name.to_owned(), depth));
        lanes.chain(behind_lanes).map(|(name, depth)| Queue { name, depth }).collect()
    }

    /// The cluster, where there are other nodes.
    pub fn others(&self) -> Option<&ClusterStatus> {
        self.cluster.as_ref().filter(|status| status.members.len() > 1)
    }
}

/// How many log entries a member has not applied that another has.
pub fn lag_entries(status: &ClusterStatus, applied_index: u64) -> u64 {
    let log_end = status.members.iter().map(|member| member.log_index).max().unwrap_or(0);
    log_end.saturating_sub(applied_index)
}
