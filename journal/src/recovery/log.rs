//! The entries of the log as they lie there, each checked against its frame, its place and the one before it.

use std::sync::Arc;

use engine::{Sequence, Time};
use openraft::EntryPayload;
use rocksdb::{DBRawIterator, IteratorMode, ReadOptions};

use super::directory::Directory;
use super::fault::{Damage, RESTORE, RecoveryError};
use super::progress::Progress;
use super::snapshots;
use crate::compensation::Compensations;
use crate::format::{LOG, Link, LogEntryHead, check_log_entry, decode_log_entry, log_key, seems_compensation};
use crate::record::{Compensation, Entry, LogId, Origin, Payload, Proposal};

/// What the database reads ahead: the log is read from its begin to its end.
const READ_AHEAD_BYTES: usize = 4 << 20;
/// The progress is told every so many entries.
const TELL_EVERY: u64 = 1 << 12;

/// An entry of the log, whole.
pub(crate) struct Row {
    pub index: u64,
    pub bytes: Box<[u8]>,
    pub head: LogEntryHead,
    pub payload: Payload,
}

impl Row {
    /// The entry `index` from its frame, where the one before it has the link `previous`, if that is known.
    pub(crate) fn of(index: u64, bytes: Box<[u8]>, previous: Option<Link>) -> Result<Row, String> {
        let head = check_log_entry(&bytes).map_err(|error| error.to_string())?;
        if previous.is_some_and(|previous| previous != head.previous) {
            return Err("it does not follow the entry before it".to_owned());
        }
        if head.log_id.index != index {
            return Err(format!("it holds entry {}", head.log_id.index));
        }
        let payload = decode_log_entry(&bytes).map_err(|error| error.to_string())?.payload;
        Ok(Row { index, bytes, head, payload })
    }

    /// Its commands, if it carries any.
    pub(crate) fn entry(&self) -> Option<&Arc<Entry>> {
        match &self.payload {
            EntryPayload::Normal(Proposal::Commands { entry, .. }) => Some(entry),
            _ => None,
        }
    }

    /// The start of the node that took its commands; zero where nobody did.
    pub(crate) fn boot(&self) -> u64 {
        match &self.payload {
            EntryPayload::Normal(Proposal::Commands { origin, .. }) => origin.boot,
            _ => 0,
        }
    }

    /// How many commands it carries.
    pub(crate) fn commands(&self) -> u64 {
        self.entry().map_or(0, |entry| entry.commands.len() as u64)
    }
}

/// The entries from one on. It ends after the first that is damaged.
pub(crate) struct Rows<'d> {
    directory: &'d Directory,
    rows: DBRawIterator<'d>,
    next: u64,
    /// The link of the entry before, where it is known.
    link: Option<Link>,
    ended: bool,
}

impl Directory {
    /// The entries from `first` on, of which the one before has this link.
    pub(crate) fn rows(&self, first: u64, link: Option<Link>) -> Rows<'_> {
        let mut options = ReadOptions::default();
        options.set_readahead_size(READ_AHEAD_BYTES);
        options.fill_cache(false);
        options.set_verify_checksums(true);
        let mut rows = self.database().raw_iterator_cf_opt(self.family(LOG), options);
        rows.seek(log_key(first));
        Rows { directory: self, rows, next: first, link, ended: false }
    }

    /// The index of the last entry of the log; `None` when there is none. Damage before it does not matter here.
    pub(crate) fn last_index(&self) -> Result<Option<u64>, RecoveryError> {
        let mut rows = self.database().iterator_cf(self.family(LOG), IteratorMode::End);
        let Some(row) = rows.next() else { return Ok(None) };
        let place = || format!("the end of column family `log` in {}", self.path().join("db").display());
        let (key, _) = row.map_err(|error| Damage::new(place(), error, RESTORE))?;
        let index = <[u8; 8]>::try_from(&*key).map(u64::from_be_bytes);
        Ok(Some(index.map_err(|_| Damage::new(place(), "its key is no index", RESTORE))?))
    }

    /// The rulings in the log from an entry on. What is damaged there, whoever applies it finds.
    pub(crate) fn compensations(&self, first: u64) -> Compensations {
        let mut found = Compensations::default();
        let mut options = ReadOptions::default();
        options.set_readahead_size(READ_AHEAD_BYTES);
        options.fill_cache(false);
        let mut rows = self.database().raw_iterator_cf_opt(self.family(LOG), options);
        rows.seek(log_key(first));
        while let Some(bytes) = rows.value() {
            if seems_compensation(bytes)
                && let Ok(head) = check_log_entry(bytes)
            {
                found.note(&head, bytes);
            }
            rows.next();
        }
        found
    }

    /// One entry of the log.
    pub(crate) fn row(&self, index: u64) -> Result<Row, Damage> {
        match self.rows(index, None).next() {
            Some(row) => row,
            None => Err(Damage::new(self.entry_place(index), "it is missing", RESTORE)),
        }
    }

    /// How many commands stand in the log before the entry `index`, purged ones included: counted from the nearest place
    /// where that is known.
    pub(crate) fn sequence_before(&self, index: u64, progress: &mut dyn Progress) -> Result<Sequence, RecoveryError> {
        let start = self.log_start()?;
        let mut known: Vec<(u64, Sequence)> = Vec::new();
        if start.log_id.is_none() {
            known.push((0, Sequence(0)));
        }
        for file in snapshots::list(self.path())? {
            if let Ok(header) = file.header(true)
                && file.index + 1 >= start.next()
            {
                known.push((file.index + 1, header.sequence));
            }
        }
        let nearest = known.into_iter().min_by_key(|(at, _)| at.abs_diff(index));
        let (at, sequence) = nearest.ok_or_else(|| {
            let place = self.path().join("snapshots").display().to_string();
            Damage::new(place, "there is no whole snapshot in it, and the log does not begin at its begin", RESTORE)
        })?;
        let (first, end) = (at.min(index), at.max(index));
        if first == end {
            // What stands there, damaged or not, does not matter.
            return Ok(sequence);
        }
        progress.begin("counting commands", end - first);
        let mut counted = 0;
        for row in self.rows(first, None) {
            let row = row?;
            if row.index >= end {
                break;
            }
            counted += row.commands();
            if row.index.is_multiple_of(TELL_EVERY) {
                progress.reach(row.index - first);
            }
        }
        let sum = if index >= at { sequence.0.checked_add(counted) } else { sequence.0.checked_sub(counted) };
        let sum = sum.ok_or_else(|| {
            Damage::new(self.entry_place(index), "the commands after it are more than snapshots say", RESTORE)
        })?;
        Ok(Sequence(sum))
    }

    /// Shows `visit` the index, the origin and the commands of every entry from the index `first` on, whether it counts or
    /// is void, and whether it is committed or not; an error, too, where that is gone.
    pub fn entries(&self, first: u64, mut visit: impl FnMut(u64, &Origin, &Entry)) -> Result<(), RecoveryError> {
        for row in self.rows(first, None) {
            let row = row?;
            if let EntryPayload::Normal(Proposal::Commands { origin, entry }) = &row.payload {
                visit(row.index, origin, entry);
            }
        }
        Ok(())
    }

    /// Shows `visit` the entries of a range of indexes as they lie there.
    pub fn raw_entries(
        &self,
        range: std::ops::RangeInclusive<u64>,
        progress: &mut dyn Progress,
        mut visit: impl FnMut(&RawEntry) -> Result<(), RecoveryError>,
    ) -> Result<(), RecoveryError> {
        let first = (*range.start()).max(self.log_start()?.next());
        let mut before = self.sequence_before(first, progress)?;
        let last = self.last_index()?.unwrap_or(0).min(*range.end());
        progress.begin("reading entries", (last + 1).saturating_sub(first));
        for row in self.rows(first, None) {
            let row = row.map_err(|damage| damage.at(Sequence(before.0 + 1)))?;
            if row.index > *range.end() {
                break;
            }
            visit(&RawEntry::of(&row, before))?;
            before.0 += row.commands();
            progress.reach(row.index - first + 1);
        }
        Ok(())
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, Damage>;

    fn next(&mut self) -> Option<Result<Row, Damage>> {
        if self.ended {
            return None;
        }
        let index = self.next;
        let damaged = |what: String| Some(Err(Damage::new(self.directory.entry_place(index), what, RESTORE)));
        let Some((key, bytes)) = self.rows.item() else {
            self.ended = true;
            return match self.rows.status() {
                Ok(()) => None,
                Err(error) => damaged(error.into_string()),
            };
        };
        self.ended = true;
        if key != log_key(index) {
            return damaged("it is missing, and later entries are there".to_owned());
        }
        let row = match Row::of(index, bytes.into(), self.link) {
            Ok(row) => row,
            Err(what) => return damaged(what),
        };
        self.ended = false;
        self.next = index + 1;
        self.link = Some(row.head.link);
        self.rows.next();
        Some(Ok(row))
    }
}

/// An entry of the log as it lies there.
#[derive(Clone, Debug)]
pub struct RawEntry {
    /// Its place in the log.
    pub index: u64,
    /// The term of the leader that wrote it.
    pub term: u64,
    /// That leader.
    pub node: u64,
    /// How many bytes its frame has.
    pub bytes: u64,
    /// The SHA-256 of the frame before it, as it says.
    pub previous: [u8; 32],
    /// The SHA-256 of its own frame.
    pub link: [u8; 32],
    /// What it carries.
    pub kind: EntryKind,
}

/// What an entry of the log carries.
#[derive(Clone, Debug)]
pub enum EntryKind {
    /// Nothing: a leader began its term.
    Blank,
    /// Who belongs to the cluster, in words.
    Membership(String),
    /// A ruling that a command is passed over.
    Compensation(Compensation),
    /// Commands.
    Commands {
        /// The sequence of the first.
        first_sequence: Sequence,
        /// How many.
        count: u64,
        /// Their time.
        time: Time,
        /// The node that took them, its start, and its number for the entry.
        origin: (u64, u64, u64),
    },
}

impl RawEntry {
    fn of(row: &Row, before: Sequence) -> RawEntry {
        let LogId { leader_id, index } = row.head.log_id;
        let kind = match &row.payload {
            EntryPayload::Normal(Proposal::Commands { origin, entry }) => EntryKind::Commands {
                first_sequence: Sequence(before.0 + 1),
                count: row.commands(),
                time: entry.time,
                origin: (origin.node, origin.boot, origin.ticket),
            },
            EntryPayload::Normal(Proposal::Compensation(ruling)) => EntryKind::Compensation((**ruling).clone()),
            EntryPayload::Membership(membership) => EntryKind::Membership(membership.to_string()),
            _ => EntryKind::Blank,
        };
        RawEntry {
            index,
            term: leader_id.term,
            node: leader_id.node_id,
            bytes: row.bytes.len() as u64,
            previous: row.head.previous.0,
            link: row.head.link.0,
            kind,
        }
    }
}
