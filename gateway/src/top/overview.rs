//! What the node tells its operators, as it is read: whatever is not there is nothing or zero, so that a newer or older node can
//! be looked at too.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Where it is read.
pub const PATH: &str = "/admin/v1/overview";

/// How everything stood at one time.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)] // The names are those of the JSON, and say it.
pub struct Overview {
    pub time: u64,
    pub version: String,
    pub node: u64,
    pub role: String,
    pub uptime_seconds: u64,
    pub ready: bool,
    pub sequence: u64,
    pub applied_sequence: u64,
    pub conserved: bool,
    pub reconciliation: Reconciliation,
    pub halted_all: bool,
    /// Where clients are served.
    pub public_url: Option<String>,
    pub cluster: Option<Cluster>,
    pub stages: Vec<Stage>,
    pub queues: Vec<Queue>,
    pub threads: Vec<Thread>,
    pub journal: Journal,
    pub symbols: Vec<Symbol>,
    pub sockets: Sockets,
    pub rejects: Vec<Reject>,
    pub audit: Vec<Note>,
}

macro_rules! parts {
    ($($(#[$about:meta])* $name:ident { $($field:ident: $kind:ty),* $(,)? })*) => { $(
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        #[allow(missing_docs)]
        pub struct $name { $(pub $field: $kind),* }
    )* };
}

parts! {
    /// Whether the books can be trusted.
    Reconciliation { state: String, detail: String }
    /// Who leads whom.
    Cluster { leader: Option<u64>, term: u64, members: Vec<Member> }
    /// One node of the cluster.
    Member { node: u64, address: String, role: String, lag_entries: Option<u64>, reachable: bool, is_this: bool }
    /// How long a stage of an order's road took in the newest minute.
    Stage {
        name: String,
        count: u64,
        p50_us: u64,
        p99_us: u64,
        p999_us: u64,
    }
    /// How full a queue is.
    Queue { name: String, depth: u64, bound: u64 }
    /// How long a thread was busy since the start.
    Thread { name: String, busy_ns: u64 }
    /// What is kept.
    Journal {
        log_index: u64,
        log_bytes: u64,
        log_syncs: u64,
        log_sync_ns: u64,
        snapshots: u64,
        history_watermark: u64,
        history_lag: u64,
        disk_free_bytes: u64,
        disk_low: bool,
    }
    /// A symbol; its counts are those since the start.
    Symbol {
        symbol: String,
        status: String,
        orders: u64,
        trades: u64,
        resting_orders: u64,
        bid: Option<String>,
        ask: Option<String>,
        spread: Option<String>,
        last_trade_age_ms: Option<u64>,
    }
    /// Websockets, together and the slowest of them.
    Sockets {
        open: u64,
        subscriptions: u64,
        messages: u64,
        conflated: u64,
        slow_disconnects: BTreeMap<String, u64>,
        by_stream: Vec<StreamKind>,
        slowest: Vec<Socket>,
    }
    /// How many listen to a kind of stream.
    StreamKind { stream: String, subscriptions: u64 }
    /// One websocket.
    Socket {
        id: u64,
        address: String,
        streams: u64,
        behind: u64,
        lag_ms: u64,
        conflated: u64,
        sent: u64,
        open_seconds: u64,
    }
    /// How often a code was answered in the last five minutes.
    Reject { code: i64, count: u64 }
    /// What an operator did.
    Note {
        sequence: Option<u64>,
        time: u64,
        operator: String,
        origin: String,
        action: String,
        reason: String,
        ok: bool,
    }
}

/// What grew between two overviews of one run of a node, and how long that took.
#[derive(Clone, Copy, Debug)]
pub struct Growth<'a> {
    now: &'a Overview,
    before: &'a Overview,
    elapsed_ms: u64,
}

impl<'a> Growth<'a> {
    /// Nothing where the node was started in between, which counts from zero again, or where no time went by.
    pub fn between(before: &'a Overview, now: &'a Overview) -> Option<Growth<'a>> {
        let is_one_run = now.node == before.node && now.uptime_seconds >= before.uptime_seconds;
        let elapsed_ms = now.time.checked_sub(before.time).filter(|elapsed| *elapsed > 0 && is_one_run)?;
        Some(Growth { now, before, elapsed_ms })
    }

    /// By how much a counter grew.
    pub fn of(&self, read: impl Fn(&Overview) -> Option<u64>) -> Option<u64> {
        read(self.now)?.checked_sub(read(self.before)?)
    }

    /// In tenths a second.
    pub fn tenths_per_second(&self, read: impl Fn(&Overview) -> Option<u64>) -> Option<u64> {
        let tenths = u128::from(self.of(read)?) * 10_000 / u128::from(self.elapsed_ms);
        u64::try_from(tenths).ok()
    }

    /// Of a counter of nanoseconds, which part of the time that is, in thousandths.
    pub fn busy_thousandths(&self, read: impl Fn(&Overview) -> Option<u64>) -> Option<u64> {
        u64::try_from(u128::from(self.of(read)?) / 1_000 / u128::from(self.elapsed_ms)).ok()
    }
}
