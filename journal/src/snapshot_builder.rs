//! Builds snapshots without the engine that decides: a second one takes the last snapshot, is told what the log holds since, and
//! is written out. Orders never wait for a snapshot, whatever is on the books, and each snapshot proves that the one before
//! it can be read and that the log leads from it to here.
//!
//! The price is that every command is applied twice, the second time on a thread that gives way to all others. Where the disk
//! cannot give the last snapshot or the log behind it any more, the engine that decides is copied after all, and the damage
//! is reported: what is in memory is then the only whole state there is.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use engine::{Engine, Sequence, Snapshot};
use openraft::EntryPayload;
use openraft::alias::SnapshotOf;
use openraft::storage::RaftSnapshotBuilder;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::compensation::Compensations;
use crate::engine_thread::Job;
use crate::history_writer::HistoryWriter;
use crate::log_store::{LogStore, hand_over};
use crate::origins::Origins;
use crate::queue::Sender;
use crate::record::{Proposal, TypeConfig};
use crate::runtime;
use crate::snapshot_file::{SnapshotDirectory, SnapshotError, SnapshotMeta};

/// How often a snapshot that waits for room looks again.
const ROOM_INTERVAL: Duration = Duration::from_millis(200);
/// How long a snapshot rests that could not be begun: it applies the log anew.
const TRY_INTERVAL: Duration = Duration::from_secs(10);

/// What building and keeping snapshots takes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SnapshotKeeping {
    pub snapshots: SnapshotDirectory,
    pub log: LogStore,
    pub log_bytes_kept: u64,
    /// A snapshot leaves so many bytes free on the disk, or waits.
    pub kept_free: u64,
    pub compensations: Arc<Compensations>,
    pub history: HistoryWriter,
    pub progress: Arc<SnapshotProgress>,
}

/// What became of snapshots since the start.
pub(crate) struct SnapshotProgress {
    /// How many were written.
    pub written: AtomicU64,
    /// The last command in the newest one.
    pub sequence: AtomicU64,
    /// The log is needed only behind this index.
    pub log_needed_after: watch::Sender<Option<u64>>,
    /// Whether the node is being stopped, so that nothing waits any more.
    pub stopping: AtomicBool,
}

impl SnapshotProgress {
    /// None written yet by a node that started from a snapshot at `sequence`.
    pub(crate) fn from(sequence: Sequence) -> SnapshotProgress {
        SnapshotProgress {
            written: AtomicU64::new(0),
            sequence: AtomicU64::new(sequence.0),
            log_needed_after: watch::Sender::new(None),
            stopping: AtomicBool::new(false),
        }
    }
}

/// Builds one snapshot.
pub(crate) struct SnapshotBuilder {
    /// What it will be: the state after this entry.
    meta: SnapshotMeta,
    keeping: SnapshotKeeping,
    /// To the engine that decides.
    jobs: Sender<Job>,
}

impl SnapshotBuilder {
    pub(crate) fn new(meta: SnapshotMeta, keeping: SnapshotKeeping, jobs: Sender<Job>) -> SnapshotBuilder {
        SnapshotBuilder { meta, keeping, jobs }
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = File;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, File>, io::Error> {
        loop {
            let work = build(self.meta.clone(), self.keeping.clone(), self.jobs.clone());
            match runtime::giving_way("snapshot", work).await {
                // The system has no thread to give.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => rest(error, &self.keeping).await?,
                built => {
                    let (meta, snapshot) = built??;
                    return Ok(SnapshotOf::<TypeConfig, File> { meta, snapshot });
                }
            }
        }
    }
}

async fn build(meta: SnapshotMeta, keeping: SnapshotKeeping, jobs: Sender<Job>) -> io::Result<(SnapshotMeta, File)> {
    let SnapshotKeeping { snapshots, log, log_bytes_kept, history, progress, .. } = &keeping;
    let sequence = loop {
        let (state, meta, origins) = match follow(&meta, &keeping).await {
            Ok((engine, origins)) => (Snapshot::from(engine), meta.clone(), origins),
            Err(error) => {
                tracing::error!("a snapshot is taken of the engine itself, for the disk does not lead to it: {error}");
                copy(&jobs).await?
            }
        };
        let sequence = state.sequence();
        // The log before a snapshot may go. What history did not keep yet could then never be written again.
        history.wait_for(sequence).await;
        history.flush()?;
        match snapshots.write(&meta, &origins, &state, keeping.kept_free) {
            Ok(()) => break sequence,
            Err(SnapshotError::NoRoom(needed)) => {
                // The state is not kept in memory meanwhile.
                drop(state);
                wait_for_room(needed, &keeping).await?;
            }
            Err(SnapshotError::NotMade(error)) => {
                drop(state);
                rest(error, &keeping).await?;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let newest = snapshots.newest()?.ok_or_else(|| io::Error::other("the snapshot just written is gone"))?;
    let purge_upto = snapshots.prune(|index| log.bytes_after(index), *log_bytes_kept)?;
    progress.written.fetch_add(1, Ordering::Relaxed);
    progress.sequence.store(sequence.0, Ordering::Relaxed);
    progress.log_needed_after.send_replace(purge_upto);
    Ok(newest)
}

/// A snapshot can wait, the log goes on without: a disk that is nearly full must not stop the node.
async fn wait_for_room(needed: u64, keeping: &SnapshotKeeping) -> io::Result<()> {
    tracing::error!("a snapshot waits until {needed} bytes are free on the disk");
    while keeping.snapshots.free_bytes()? < needed {
        wait_a_little(keeping).await?;
    }
    Ok(())
}

/// So can one that could not be begun. Nothing of it was written, so that trying again repeats no write that failed.
async fn rest(error: io::Error, keeping: &SnapshotKeeping) -> io::Result<()> {
    tracing::warn!("a snapshot is not written now, and tried again in {TRY_INTERVAL:?}: {error}");
    let begun = Instant::now();
    while begun.elapsed() < TRY_INTERVAL {
        wait_a_little(keeping).await?;
    }
    Ok(())
}

async fn wait_a_little(keeping: &SnapshotKeeping) -> io::Result<()> {
    if keeping.progress.stopping.load(Ordering::Relaxed) {
        return Err(io::Error::other("the node stops while a snapshot waits to be written"));
    }
    tokio::time::sleep(ROOM_INTERVAL).await;
    Ok(())
}

/// The engine that decides, as it is, and where in the log that is.
async fn copy(jobs: &Sender<Job>) -> io::Result<(Snapshot, SnapshotMeta, Origins)> {
    let (reply, copy) = oneshot::channel();
    let ended = || io::Error::other("the engine thread has ended");
    hand_over(jobs, Job::Copy(reply)).await.map_err(|_| ended())?;
    copy.await.map_err(|_| ended())
}

/// An engine that has applied everything up to the last entry of `meta`, and whose entries those were.
async fn follow(meta: &SnapshotMeta, keeping: &SnapshotKeeping) -> io::Result<(Engine, Origins)> {
    let base = keeping.snapshots.load_newest(keeping.log.purged_index(), Sequence(u64::MAX));
    let base = base.map_err(|error| io::Error::other(error.to_string()))?;
    let (mut engine, mut origins, mut next) = match base {
        Some(found) => {
            let next = found.meta.last_log_id.map_or(0, |log_id| log_id.index + 1);
            (Engine::from_snapshot(found.state), found.origins, next)
        }
        None => (Engine::new(), Origins::default(), 0),
    };
    let end = meta.last_log_id.map_or(0, |log_id| log_id.index + 1);
    let mut events = Vec::new();
    while next < end {
        let entries = keeping.log.read_some(next..end).await?;
        if entries.first().is_none_or(|entry| entry.log_id.index != next) {
            return Err(io::Error::other(format!(
                "entry {next} is not in the log, and the snapshot before it is gone"
            )));
        }
        for entry in entries {
            next = entry.log_id.index + 1;
            if let EntryPayload::Normal(Proposal::Commands { origin, entry }) = entry.payload
                && origins.admits(&origin)
            {
                let time = entry.time_after(engine.time());
                for (at, command) in entry.commands.iter().enumerate() {
                    engine.foresee(&entry.commands[at..]);
                    keeping.compensations.apply(&mut engine, time, command, &mut events);
                }
                events.clear();
            }
        }
    }
    Ok((engine, origins))
}
