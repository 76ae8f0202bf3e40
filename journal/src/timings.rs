//! How long commands take on the journal's part of their road, and the moments at which each entry passed from one stage to the
//! next. They are measured where a thing is handed on anyway: two readings of the clock an entry, none a command.
//!
//! Nothing is decided by them, so the engine's thread may have them.

use std::time::Instant;

use crate::histogram::Histogram;

/// What is measured, in nanoseconds but where it says otherwise.
#[derive(Debug, Default)]
pub struct Timings {
    /// Of each command that somebody on this node waits for: from the queue until its entry was laid.
    pub sequence: Histogram,
    /// Of the same: from there until the engine had it, so that a majority has it on disk.
    pub replicate: Histogram,
    /// Of every command applied, wherever it came from: how long its entry took the engine.
    pub engine: Histogram,
    /// Of each synced write of the log.
    pub log_sync: Histogram,
    /// Of each entry applied: how many commands it held.
    pub entry_commands: Histogram,
}

/// When an entry passed from stage to stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Road {
    /// Laid by the sequencer of this node and sent to the leader; none for another node's entry.
    pub laid: Option<Instant>,
    /// Taken up by the engine: a majority had it.
    pub reached: Instant,
    /// Decided.
    pub decided: Instant,
    /// Its callers told; until then, the moment before.
    pub told: Instant,
}
