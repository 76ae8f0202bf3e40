//! What a node gives to observers: the state, the committed entries behind it, and rows of history. It costs the engine nothing:
//! the state is the newest snapshot's file, and entries come from where raft's own replication reads them.

use std::sync::Arc;
use std::time::Duration;

use engine::Sequence;
use openraft::async_runtime::WatchReceiver;
use rocksdb::Direction;
use tokio::sync::Semaphore;

use crate::compensation::Compensations;
use crate::history::History;
use crate::log_store::LogStore;
use crate::member::Member;
use crate::message::{Observe, Observed, Reply, Rows, pack_entries};
use crate::runtime;
use crate::snapshot_file::SnapshotDirectory;

/// Bytes of a snapshot's file, and about how many of rows, that are given at once.
const PIECE_BYTES: usize = 1 << 20;
/// Rows that are given at once.
const ROWS_MAX: usize = 4_096;
/// Keys whose values may be asked for at once.
const KEYS_MAX: usize = 1_024;
/// How long an observer may have a node wait for entries.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Reads of history that are under way at once; more wait.
const READS_AT_ONCE: usize = 32;

/// What is read for observers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Observation {
    log: LogStore,
    snapshots: SnapshotDirectory,
    history: History,
    compensations: Arc<Compensations>,
    reads: Arc<Semaphore>,
}

impl Observation {
    pub(crate) fn new(
        log: LogStore,
        snapshots: SnapshotDirectory,
        history: History,
        compensations: Arc<Compensations>,
    ) -> Observation {
        Observation { log, snapshots, history, compensations, reads: Arc::new(Semaphore::new(READS_AT_ONCE)) }
    }

    /// Answers an observer.
    pub(crate) async fn answer(self, member: Member, asked: Observe<'_>) -> Result<Reply, String> {
        let told = match asked {
            Observe::State { of, offset } => self.state(of, offset).await,
            Observe::Entries { from, wait_ms } => self.entries(&member, from, Duration::from_millis(wait_ms)).await,
            Observe::Rows { at_least, wanted } => self.rows(Sequence(at_least), wanted).await,
        };
        told.map(Reply::Observed)
    }

    async fn state(self, of: Option<u64>, offset: u64) -> Result<Observed, String> {
        let rulings = self.compensations.sequences();
        let piece = blocking(move || self.snapshots.piece(of, offset, PIECE_BYTES)).await?;
        match piece.map_err(|error| error.to_string())? {
            Some((of, length, piece)) => Ok(Observed::State { of, length, rulings, piece }),
            None if of.is_none() => Ok(Observed::NoState { rulings }),
            None => Err("that snapshot is gone".to_owned()),
        }
    }

    async fn entries(&self, member: &Member, from: u64, wait: Duration) -> Result<Observed, String> {
        let raft = &member.leads.raft;
        // Waiting in vain is no error.
        let _ = raft.wait(Some(wait.min(WAIT_MAX))).applied_index_at_least(Some(from), "an observer").await;
        let metrics = raft.metrics().borrow_watched().clone();
        let end = metrics.last_applied.map_or(0, |last| last.index + 1);
        let mut packed = Vec::new();
        if from < end {
            let entries = self.log.read_some(from..end).await.map_err(|error| error.to_string())?;
            if entries.first().is_none_or(|first| first.log_id.index != from) {
                return Ok(Observed::Purged);
            }
            packed = pack_entries(&entries);
        }
        Ok(Observed::Entries { packed, term: metrics.current_term, leader: metrics.current_leader })
    }

    async fn rows(self, at_least: Sequence, wanted: Rows<'_>) -> Result<Observed, String> {
        self.history.wait_for(at_least).await.map_err(|lag| lag.to_string())?;
        if !self.history.is_settled() {
            return Err("history is not settled yet".to_owned());
        }
        let wanted = owned(wanted);
        let _place = self.reads.clone().acquire_owned().await.map_err(|error| error.to_string())?;
        blocking(move || read(&self.history, wanted)).await?
    }
}

fn owned(wanted: Rows<'_>) -> Rows<'static> {
    match wanted {
        Rows::Get(keys) => Rows::Get(keys.into_iter().map(|key| key.into_owned().into()).collect()),
        Rows::Scan { prefix, from, is_reverse, most } => {
            Rows::Scan { prefix: prefix.into_owned().into(), from: from.into_owned().into(), is_reverse, most }
        }
    }
}

fn read(history: &History, wanted: Rows<'_>) -> Result<Observed, String> {
    let source = history.open(0).map_err(|error| error.to_string())?;
    match wanted {
        Rows::Get(keys) if keys.len() > KEYS_MAX => Err(format!("{KEYS_MAX} keys are the most")),
        Rows::Get(keys) => {
            let values: Result<_, _> = keys.iter().map(|key| source.get(key)).collect();
            values.map(Observed::Values).map_err(|error| error.to_string())
        }
        Rows::Scan { prefix, from, is_reverse, most } => {
            let most = (most as usize).clamp(1, ROWS_MAX);
            let direction = if is_reverse { Direction::Reverse } else { Direction::Forward };
            let (mut rows, mut bytes) = (Vec::new(), 0);
            for row in source.scan(prefix.into_owned(), from.into_owned(), direction, most) {
                if rows.len() >= most || bytes >= PIECE_BYTES {
                    return Ok(Observed::Rows { rows, is_more: true });
                }
                let (key, value) = row.map_err(|error| error.to_string())?;
                bytes += key.len() + value.len();
                rows.push((key.into_vec(), value.into_vec()));
            }
            Ok(Observed::Rows { rows, is_more: false })
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    runtime::blocking(work).await.map_err(|error| error.to_string())
}
