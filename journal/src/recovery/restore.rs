//! A data directory made anew: from a backup or from an export.
//!
//! It is made beside its name and gets it last, when everything in it was read back, replayed and found to come to the state
//! of every snapshot: what is cut off leaves nothing that a node could start on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::snapshot::StateHash;
use engine::{Sequence, Time};
use rocksdb::{DB, WriteBatch, WriteOptions};
use serde::Serialize;

use super::backup::Manifest;
use super::directory::Directory;
use super::fault::{BACK_UP_ANEW, Damage, RecoveryError, sync_directory};
use super::log::Row;
use super::progress::Progress;
use super::repair;
use super::snapshots;
use super::stream::{StreamReader, hash_of, with_suffix};
use crate::database::{database_options, families, family, synced};
use crate::durable_mark::{DurableMark, Mark};
use crate::format::{
    BOOT_KEY, DATA_FORMAT, FORMAT_KEY, LOG, Link, LogIdBytes, META, PURGED_KEY, VOTE_KEY, VoteBytes, log_key, seal,
};
use crate::identity;
use crate::record::{LogId, Vote};

/// Entries are written in batches of so many bytes.
const BATCH_BYTES: usize = 4 << 20;
/// What to do about a damaged export.
const EXPORT_ANEW: &str = "export the log again, or restore a backup";

/// What was restored.
#[derive(Clone, Debug)]
pub struct RestoreReport {
    /// The directory.
    pub data: PathBuf,
    /// The first entry of its log and one more than the last.
    pub entries: (u64, u64),
    /// The snapshots in it.
    pub snapshots: u64,
    /// What was wrong with those that are not, because the entries hold all that they held.
    pub passed_over: Vec<String>,
    /// The last command, its time, and the state's hash.
    pub end: (Sequence, Time, StateHash),
    /// The first command of which history tells; it tells of all when this is 1.
    pub history_from: Sequence,
}

/// Makes `data`, which must not exist or be empty, of the backup in `backup`.
pub fn restore(backup: &Path, data: &Path, progress: &mut dyn Progress) -> Result<RestoreReport, RecoveryError> {
    let manifest = Manifest::read(backup)?.ok_or_else(|| {
        RecoveryError::Refused(format!(
            "{} is no backup: there is no {}",
            backup.display(),
            backup.join("manifest").display()
        ))
    })?;
    let mut making = Making::begin(data, manifest.before)?;
    let end = manifest.end();
    progress.begin("restoring entries", end.saturating_sub(making.next));
    let mut previous_file = None;
    for segment in &manifest.segments {
        let path = segment.path(backup);
        let damaged = |what: &str| Damage::new(path.display().to_string(), what, BACK_UP_ANEW);
        if hash_of(&path)? != segment.hash {
            return Err(damaged("its hash is not the manifest's").into());
        }
        let reader = StreamReader::open(&path, BACK_UP_ANEW)?;
        let header = reader.header();
        let before = header.before.map_or(Link::START, |(_, link)| link);
        if header.first != making.next || before != making.link || header.previous_file != previous_file {
            return Err(damaged("it does not go on from the segment before it").into());
        }
        making.take(reader, progress)?;
        if making.next != segment.end {
            return Err(damaged("it holds other entries than the manifest says").into());
        }
        previous_file = Some(segment.hash);
    }
    for kept in &manifest.snapshots {
        let path = kept.path(backup);
        let is_base = manifest.before.is_some_and(|(last, _)| LogId::from(last).index == kept.index);
        match whole_snapshot(&path, BACK_UP_ANEW) {
            Ok(bytes) => making.keep_snapshot(kept.index, &bytes)?,
            Err(error) if is_base => return Err(error),
            // The entries hold all that it holds.
            Err(error) => making.passed_over.push(error.to_string()),
        }
    }
    making.finish(manifest.vote, manifest.boot, progress)
}

/// Makes `data`, which must not exist or be empty, of an export.
pub fn import(file: &Path, data: &Path, progress: &mut dyn Progress) -> Result<RestoreReport, RecoveryError> {
    let mut reader = StreamReader::open(file, EXPORT_ANEW)?;
    let header = reader.header().clone();
    let mut making = Making::begin(data, header.before)?;
    if making.next != header.first {
        return Err(Damage::new(file.display().to_string(), "its header contradicts itself", EXPORT_ANEW).into());
    }
    if let Some(bytes) = reader.snapshot()? {
        let (snapshot, _) = crate::format::open_snapshot_header(&bytes)
            .map_err(|error| Damage::new(file.display().to_string(), error, EXPORT_ANEW))?;
        let index = snapshot.last_log_id.map_or(0, |log_id| LogId::from(log_id).index);
        check_snapshot(&bytes, file, EXPORT_ANEW)?;
        making.keep_snapshot(index, &bytes)?;
    }
    progress.begin("importing entries", 0);
    making.take(reader, progress)?;
    making.finish(header.vote, header.boot, progress)
}

/// What a snapshot's file holds, if that is whole.
fn whole_snapshot(path: &Path, remedy: &'static str) -> Result<Vec<u8>, RecoveryError> {
    let bytes = std::fs::read(path).map_err(|error| RecoveryError::disk(path, error))?;
    check_snapshot(&bytes, path, remedy)?;
    Ok(bytes)
}

fn check_snapshot(bytes: &[u8], from: &Path, remedy: &'static str) -> Result<(), Damage> {
    let checked = snapshots::check_bytes(bytes);
    checked.map(|_| ()).map_err(|error| Damage::new(from.display().to_string(), error, remedy))
}

/// A directory that is being made; removed again unless it is finished.
struct Making {
    data: PathBuf,
    working: PathBuf,
    database: Option<Arc<DB>>,
    before: Option<(LogIdBytes, Link)>,
    next: u64,
    link: Link,
    last: Option<LogId>,
    /// The latest start of a node that took one of the entries.
    boot: u64,
    snapshots: u64,
    passed_over: Vec<String>,
    finished: bool,
}

impl Making {
    fn begin(data: &Path, before: Option<(LogIdBytes, Link)>) -> Result<Making, RecoveryError> {
        let is_free = match std::fs::read_dir(data) {
            Ok(mut files) => files.next().is_none(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) => return Err(RecoveryError::disk(data, error)),
        };
        if !is_free {
            return Err(RecoveryError::Refused(format!("{} is there already and is not empty", data.display())));
        }
        let working = with_suffix(data, "restoring");
        if working.exists() {
            std::fs::remove_dir_all(&working).map_err(|error| RecoveryError::disk(&working, error))?;
        }
        std::fs::create_dir_all(working.join("snapshots")).map_err(|error| RecoveryError::disk(&working, error))?;
        let database = DB::open_cf_descriptors(&database_options(), working.join("db"), families());
        let database = database.map_err(|error| RecoveryError::disk(&working, error))?;
        let last = before.map(|(last, _)| LogId::from(last));
        Ok(Making {
            data: data.to_owned(),
            working,
            database: Some(Arc::new(database)),
            next: last.map_or(0, |last| last.index + 1),
            link: before.map_or(Link::START, |(_, link)| link),
            last,
            before,
            boot: 0,
            snapshots: 0,
            passed_over: Vec::new(),
            finished: false,
        })
    }

    fn database(&self) -> &DB {
        self.database.as_ref().expect("it is open until it is finished")
    }

    fn failed(&self, error: impl std::fmt::Display) -> RecoveryError {
        RecoveryError::disk(&self.working, error)
    }

    /// Takes the entries, which the reader checks.
    fn take(
        &mut self,
        rows: impl Iterator<Item = Result<Row, Damage>>,
        progress: &mut dyn Progress,
    ) -> Result<(), RecoveryError> {
        let first = self.before.map_or(0, |(last, _)| LogId::from(last).index + 1);
        // Everything is synced once, at the end.
        let options = WriteOptions::default();
        let mut batch = WriteBatch::default();
        for row in rows {
            let row = row?;
            batch.put_cf(family(self.database(), LOG), log_key(row.index), &row.bytes);
            self.boot = self.boot.max(row.boot());
            (self.next, self.link, self.last) = (row.index + 1, row.head.link, Some(row.head.log_id));
            if batch.size_in_bytes() >= BATCH_BYTES {
                let full = std::mem::take(&mut batch);
                self.database().write_opt(full, &options).map_err(|error| self.failed(error))?;
                progress.reach(self.next - first);
            }
        }
        self.database().write_opt(batch, &options).map_err(|error| self.failed(error))
    }

    fn keep_snapshot(&mut self, index: u64, bytes: &[u8]) -> Result<(), RecoveryError> {
        let path = self.working.join("snapshots").join(format!("{index:020}.snapshot"));
        let written = std::fs::write(&path, bytes).and_then(|()| std::fs::File::open(&path)?.sync_all());
        written.map_err(|error| RecoveryError::disk(&path, error))?;
        self.snapshots += 1;
        Ok(())
    }

    fn put_meta(&self, key: &[u8], value: &impl Serialize) -> Result<(), RecoveryError> {
        let written = self.database().put_cf_opt(family(self.database(), META), key, seal(value), &synced());
        written.map_err(|error| self.failed(error))
    }

    /// Writes what belongs beside the log, then reads, replays and files everything; the directory gets its name last.
    fn finish(
        mut self,
        vote: Option<VoteBytes>,
        boot: u64,
        progress: &mut dyn Progress,
    ) -> Result<RestoreReport, RecoveryError> {
        if let Some((last, link)) = self.before {
            self.put_meta(PURGED_KEY, &(last, link))?;
        }
        // Whoever leads next must do so in a later term than any entry is of, and no start may repeat the number of one
        // whose entries are in the log.
        if let Some(vote) = self.vote(vote) {
            self.put_meta(VOTE_KEY, &VoteBytes::from(&vote))?;
        }
        self.put_meta(BOOT_KEY, &self.boot.max(boot))?;
        self.put_meta(FORMAT_KEY, &DATA_FORMAT)?;
        for name in [LOG, META] {
            let flushed = self.database().flush_cf(family(self.database(), name));
            flushed.map_err(|error| self.failed(error))?;
        }
        let mut mark = DurableMark::create(&self.working)?;
        mark.set(self.next).map_err(|error| self.failed(error))?;
        drop(mark);
        identity::adopt(&self.working)?;
        let first = self.before.map_or(0, |(last, _)| LogId::from(last).index + 1);
        let database = self.database.take().expect("it is open until it is finished");
        let mut directory = Directory::of(&self.working, database, self.next);
        let rebuilt = repair::rebuild(&mut directory, progress)?;
        drop(directory);
        sync_directory(&self.working.join("snapshots"))?;
        sync_directory(&self.working)?;
        let parent = self.data.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::rename(&self.working, &self.data).map_err(|error| RecoveryError::disk(&self.data, error))?;
        self.finished = true;
        sync_directory(parent)?;
        Ok(RestoreReport {
            data: self.data.clone(),
            entries: (first, self.next),
            snapshots: self.snapshots,
            passed_over: std::mem::take(&mut self.passed_over),
            end: rebuilt.end,
            history_from: rebuilt.from,
        })
    }

    /// The later one of the vote that came along and of what the last entry proves.
    fn vote(&self, vote: Option<VoteBytes>) -> Option<Vote> {
        let kept = vote.map(Vote::from);
        let proven = self.last.map(|last| Vote { leader_id: last.leader_id, committed: true });
        match (kept, proven) {
            (Some(kept), Some(proven)) if kept.leader_id.term < proven.leader_id.term => Some(proven),
            (Some(kept), _) => Some(kept),
            (None, proven) => proven,
        }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.finished {
            self.database = None;
            // What is left of it is of no use, and is removed before the next attempt if not now.
            let _ = std::fs::remove_dir_all(&self.working);
        }
    }
}
