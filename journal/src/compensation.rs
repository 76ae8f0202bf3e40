//! A poisoned command: one that stops the engine, on every node and after every start. An operator can rule that it is passed
//! over; the ruling is an entry of the log like any other, so it is kept, copied and shown with all else.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use engine::{Command, Engine, Event, Sequence, Time};
use openraft::EntryPayload;
use rocksdb::DB;

use crate::database::{family, synced};
use crate::failure::StartError;
use crate::format::{LOG, LogEntryHead, decode_log_entry, encode_log_entry, log_key};
use crate::log_chain::{Point, entry_place, log_start, walk};
use crate::opening::{open_database, upgrade};
use crate::record::{Compensation, LogId, Proposal, RaftEntry};
use crate::snapshot_file::SnapshotDirectory;

/// The longest name and reason that are kept, in bytes.
const TEXT_MAX: usize = 1_000;

/// The commands that are passed over, as far as the log was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compensations {
    sequences: BTreeSet<Sequence>,
}

impl Compensations {
    /// Takes note of an entry of the log, which was checked, if it is a ruling.
    pub(crate) fn note(&mut self, head: &LogEntryHead, frame: &[u8]) {
        if head.is_compensation
            && let Ok(RaftEntry { payload: EntryPayload::Normal(Proposal::Compensation(ruling)), .. }) =
                decode_log_entry(frame)
        {
            self.sequences.insert(ruling.sequence);
        }
    }

    /// Those that another node heeds.
    pub(crate) fn of(sequences: &[u64]) -> Compensations {
        Compensations { sequences: sequences.iter().map(|sequence| Sequence(*sequence)).collect() }
    }

    /// All of them.
    pub(crate) fn sequences(&self) -> Vec<u64> {
        self.sequences.iter().map(|sequence| sequence.0).collect()
    }

    /// Whether that command is passed over.
    pub(crate) fn contains(&self, sequence: Sequence) -> bool {
        !self.sequences.is_empty() && self.sequences.contains(&sequence)
    }

    /// Applies the engine's next command, or passes it over.
    pub(crate) fn apply(&self, engine: &mut Engine, time: Time, command: &Command, events: &mut Vec<Event>) {
        if self.contains(Sequence(engine.sequence().0 + 1)) {
            engine.skip(time, events);
        } else {
            engine.apply(time, command, events);
        }
    }
}

/// Why there was no ruling.
#[derive(Debug, thiserror::Error)]
pub enum CompensationError {
    /// The directory cannot be read, or is in use.
    #[error("{0}")]
    Start(#[from] StartError),
    /// There is no such command in the log.
    #[error("command {sequence} is not in the log, which holds commands {first} to {last}")]
    NotInLog {
        /// Which one was asked for.
        sequence: Sequence,
        /// The first in the log.
        first: Sequence,
        /// The last in the log.
        last: Sequence,
    },
    /// Nobody can be asked about it later.
    #[error("an operator's name and a reason are needed, of 1 to {TEXT_MAX} bytes each")]
    Text,
}

/// Lays `ruling` into the log of a node that does not run, synced. Only a command behind the newest snapshot can be ruled on:
/// what stands in a snapshot was decided without harm.
pub fn compensate(data: &Path, ruling: Compensation) -> Result<(), CompensationError> {
    for text in [&ruling.operator, &ruling.reason] {
        if text.trim().is_empty() || text.len() > TEXT_MAX {
            return Err(CompensationError::Text);
        }
    }
    let database = open_database(data)?;
    upgrade(data, &database)?;
    let (snapshot, decided) = SnapshotDirectory::open(data)?.newest_position()?.unwrap_or_default();
    let (mut commands, mut damaged) = (0, None);
    let end = walk(&*database, log_start(&*database)?, |head, frame| {
        if head.log_id.index <= snapshot {
            return true;
        }
        match decode_log_entry(frame) {
            Ok(RaftEntry { payload: EntryPayload::Normal(Proposal::Commands { entry, .. }), .. }) => {
                commands += entry.commands.len() as u64;
            }
            Ok(_) => {}
            Err(error) => damaged = Some(StartError::damaged(entry_place(&*database, head.log_id.index), error)),
        }
        damaged.is_none()
    })?;
    if let Some(error) = damaged {
        return Err(error.into());
    }
    let (first, last) = (Sequence(decided.0 + 1), Sequence(decided.0 + commands));
    if !(first..=last).contains(&ruling.sequence) {
        return Err(CompensationError::NotInLog { sequence: ruling.sequence, first, last });
    }
    append(&database, &end, ruling).map_err(|error| StartError::disk(database.path(), error).into())
}

/// The ruling becomes the log's next entry, of the term of the last one: as its leader would have laid it in.
fn append(database: &DB, end: &Point, ruling: Compensation) -> Result<(), rocksdb::Error> {
    let last = end.log_id.expect("a log with commands has a last entry");
    let log_id = LogId { leader_id: last.leader_id, index: end.next() };
    let payload = EntryPayload::Normal(Proposal::Compensation(Arc::new(ruling)));
    let (frame, _) = encode_log_entry(&RaftEntry { log_id, payload }, end.link);
    database.put_cf_opt(family(database, LOG), log_key(log_id.index), frame, &synced())
}
