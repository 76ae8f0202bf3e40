//! What a running node counts, for metrics.

/// Counters of a running node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Index of the last raft log entry that is durable.
    pub last_log_index: u64,
    /// Sequence of the last command applied.
    pub applied_sequence: u64,
    /// Log batches written and synced.
    pub log_syncs: u64,
    /// Nanoseconds spent in that.
    pub log_sync_ns: u64,
    /// Entries written to the log.
    pub log_entries: u64,
    /// Bytes free on the disk.
    pub free_bytes: u64,
    /// Whether that is so little that only cancels are taken.
    pub is_space_low: bool,
    /// Commands waiting in the sequencer's queue.
    pub queued_commands: u64,
    /// Bytes written for them.
    pub log_bytes: u64,
    /// How often damage was found in the log that is only kept to look back on.
    pub log_damaged: u64,
    /// Snapshots written since the start.
    pub snapshots: u64,
    /// The last sequence that history holds.
    pub history_watermark: u64,
    /// Entries sent to the feed; what it has taken of them it counts itself.
    pub entries_published: u64,
    /// What waits where.
    pub queues: Queues,
}

/// How full the queues are on an order's road through this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Commands before the sequencer.
    pub sequencer: QueueDepth,
    /// Jobs before the writer of the log.
    pub log_writer: QueueDepth,
    /// Entries before the engine.
    pub engine: QueueDepth,
    /// Events before history.
    pub history: QueueDepth,
    /// How many entries may wait for the feed.
    pub feed_bound: u64,
}

/// How full one queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// What waits.
    pub depth: u64,
    /// What may wait.
    pub bound: u64,
}
