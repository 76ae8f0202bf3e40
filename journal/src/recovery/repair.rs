//! What changes a directory that no node owns: history written again, a snapshot more.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use engine::snapshot::StateHash;
use engine::{Sequence, Time};
use rocksdb::{DB, IteratorMode, WriteBatch, WriteOptions};

use super::directory::Directory;
use super::fault::{Damage, RESTORE, RecoveryError};
use super::history_rows;
use super::kept_rows;
use super::progress::Progress;
use super::replay::{At, Base, Before, Played, Replay};
use super::snapshots;
use crate::database::family;
use crate::failure::Failure;
use crate::format::{HISTORY, WATERMARK_KEY};
use crate::history_writer::HistoryWriter;
use crate::record::Applied;
use crate::snapshot_file::SnapshotDirectory;
use crate::sweeper::HistoryDays;

/// Rows are removed in batches of so many bytes.
const BATCH_BYTES: usize = 1 << 20;

/// What history holds after it was written again.
#[derive(Clone, Debug)]
pub struct RebuildReport {
    /// Where the replay began.
    pub base: Base,
    /// The first command that was filed again; of what came before, rows that were whole were left as they were.
    pub from: Sequence,
    /// Rows of before that were left.
    pub rows_left: u64,
    /// The last command, its time, and the state's hash.
    pub end: (Sequence, Time, StateHash),
}

/// Writes history again from the oldest base and the log.
pub fn rebuild_history(data: &Path, progress: &mut dyn Progress) -> Result<RebuildReport, RecoveryError> {
    let mut directory = Directory::write(data)?;
    rebuild(&mut directory, progress)
}

pub(crate) fn rebuild(directory: &mut Directory, progress: &mut dyn Progress) -> Result<RebuildReport, RecoveryError> {
    // What cannot be written again must not be dropped: the log is read to its end first.
    let start = directory.log_start()?;
    let last = directory.last_index()?;
    progress.begin("reading the log", last.map_or(0, |last| (last + 1).saturating_sub(start.next())));
    for row in directory.rows(start.next(), Some(start.link)) {
        progress.reach(row?.index - start.next());
    }
    let base = Replay::before(directory, Before::Everything, &mut Vec::new())?.base().clone();
    let rows_left = match base.file {
        None => kept_rows::drop_others(directory)?,
        Some(_) => drop_later(directory, base.time, progress)?,
    };
    let mut replay = Replay::before(directory, Before::Everything, &mut Vec::new())?;
    let filing = Filing::begin(directory.shared_database(), Sequence(0))?;
    filing.restored(&replay)?;
    let mut hashes = Hashes::behind(directory, base.sequence)?;
    while let Some((path, sequence, hash)) = hashes.next() {
        replay.run(At::Sequence(sequence), progress, |played| filing.file(played))?;
        check_hash(&path, sequence, hash, replay.state_hash())?;
    }
    replay.run(At::End, progress, |played| filing.file(played))?;
    let end = (replay.sequence(), replay.time(), replay.state_hash());
    filing.finish(end.0)?;
    Ok(RebuildReport { from: Sequence(base.sequence.0 + 1), base, rows_left, end })
}

/// The snapshots that a replay passes, oldest first.
struct Hashes(std::vec::IntoIter<(PathBuf, Sequence, [u8; 32])>);

impl Hashes {
    fn behind(directory: &Directory, base: Sequence) -> Result<Hashes, RecoveryError> {
        let files = snapshots::list(directory.path())?.into_iter().rev();
        let heads = files.filter_map(|file| file.header(true).ok().map(|header| (file.path, header)));
        let heads = heads.filter(|(_, header)| header.sequence > base);
        let heads: Vec<_> = heads.map(|(path, header)| (path, header.sequence, header.state_hash)).collect();
        Ok(Hashes(heads.into_iter()))
    }

    fn next(&mut self) -> Option<(PathBuf, Sequence, [u8; 32])> {
        self.0.next()
    }
}

fn check_hash(path: &Path, sequence: Sequence, wanted: [u8; 32], found: StateHash) -> Result<(), RecoveryError> {
    if found.0 == wanted {
        return Ok(());
    }
    let what = format!("a replay of the log comes to another state at its sequence: {found}");
    Err(Damage::new(path.display().to_string(), what, RESTORE).at(sequence).into())
}

/// Rows that the log can write again go, and those that are none; what is older than the log stays.
fn drop_later(directory: &Directory, base: Time, progress: &mut dyn Progress) -> Result<u64, RecoveryError> {
    let database = directory.database();
    let history = family(database, HISTORY);
    let failed = |error: rocksdb::Error| RecoveryError::disk(&directory.path().join("db"), error);
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    let (mut batch, mut left, mut seen) = (WriteBatch::default(), 0, 0);
    progress.begin("removing rows", 0);
    for row in database.iterator_cf(history, IteratorMode::Start) {
        let (key, value) = row.map_err(failed)?;
        seen += 1;
        progress.reach(seen);
        let stays = *key != *WATERMARK_KEY && history_rows::read(&key, &value).is_some_and(|time| time <= base);
        if stays {
            left += 1;
            continue;
        }
        batch.delete_cf(history, &key);
        if batch.size_in_bytes() >= BATCH_BYTES {
            database.write_opt(std::mem::take(&mut batch), &options).map_err(failed)?;
        }
    }
    database.write_opt(batch, &options).map_err(failed)?;
    Ok(left)
}

/// History's own thread, fed by a replay.
struct Filing {
    writer: HistoryWriter,
    thread: JoinHandle<()>,
    failure: Failure,
    path: PathBuf,
}

impl Filing {
    fn begin(database: Arc<DB>, expected: Sequence) -> Result<Filing, RecoveryError> {
        let failure = Failure::new();
        let path = database.path().to_owned();
        let (writer, thread) = HistoryWriter::start(database, HistoryDays::default(), &failure)?;
        let found = writer.reader().watermark();
        if found < expected {
            return Err(RecoveryError::Refused(format!("history ends at {found}, and should at {expected}")));
        }
        Ok(Filing { writer, thread, failure, path })
    }

    fn restored(&self, replay: &Replay<'_>) -> Result<(), RecoveryError> {
        if self.writer.restored(Arc::new(replay.snapshot())) { Ok(()) } else { Err(self.failed()) }
    }

    fn file(&self, played: &mut Played<'_>) -> Result<ControlFlow<()>, RecoveryError> {
        let empty = Applied {
            first_sequence: played.applied.first_sequence,
            time: played.applied.time,
            events: Vec::new(),
            ends: Vec::new(),
        };
        let applied = Arc::new(std::mem::replace(played.applied, empty));
        if self.writer.applied(applied) { Ok(ControlFlow::Continue(())) } else { Err(self.failed()) }
    }

    fn failed(&self) -> RecoveryError {
        RecoveryError::disk(&self.path, self.failure.reason().unwrap_or_else(|| "history's thread ended".to_owned()))
    }

    /// Waits until all is written and on the disk.
    fn finish(self, reached: Sequence) -> Result<(), RecoveryError> {
        self.writer.stop();
        let ended = self.thread.join();
        let failed = |error: String| RecoveryError::disk(&self.path, error);
        if ended.is_err() || self.failure.reason().is_some() {
            return Err(failed(self.failure.reason().unwrap_or_else(|| "history's thread ended".to_owned())));
        }
        self.writer.flush().map_err(|error| failed(error.to_string()))?;
        let held = self.writer.reader().watermark();
        if held < reached {
            return Err(failed(format!("history ends at sequence {held}, not at {reached}")));
        }
        Ok(())
    }
}

/// A snapshot that was written.
#[derive(Clone, Debug)]
pub struct SnapshotReport {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The last command in it, that command's time, and the state's hash.
    pub state: (Sequence, Time, StateHash),
    /// Whether it was there already, as it is.
    pub was_there: bool,
}

/// Writes a snapshot of a moment, and, as no node could write it again afterwards, history up to it.
pub fn write_snapshot(
    data: &Path,
    at: At,
    progress: &mut dyn Progress,
    passed: &mut Vec<Damage>,
) -> Result<SnapshotReport, RecoveryError> {
    let directory = Directory::write(data)?;
    let watermark = history_rows::watermark(&directory)?;
    let mut replay = Replay::towards(&directory, at, passed)?;
    if replay.sequence() > watermark {
        replay = Replay::towards(&directory, At::Sequence(watermark), passed)?;
    }
    let filing = Filing::begin(directory.shared_database(), replay.sequence())?;
    filing.restored(&replay)?;
    replay.run(at, progress, |played| filing.file(played))?;
    filing.finish(replay.sequence().min(watermark))?;
    let state = (replay.sequence(), replay.time(), replay.state_hash());
    let Some((meta, origins)) = replay.meta() else {
        let what = "a log entry goes on behind that command, and a snapshot can only be of whole entries";
        return Err(RecoveryError::Refused(format!("sequence {}: {what}; {}", state.0, whole_entries(&replay))));
    };
    let Some(log_id) = meta.last_log_id else {
        return Err(RecoveryError::Refused("there is nothing yet to take a snapshot of".to_owned()));
    };
    let index = log_id.index;
    let path = data.join("snapshots").join(format!("{index:020}.snapshot"));
    let was_there = path.exists();
    let folder = SnapshotDirectory::open(data)?;
    let written = folder.write(meta, origins, &replay.snapshot(), 0);
    written.map_err(|error| RecoveryError::disk(&path, error))?;
    let bytes = path.metadata().map_err(|error| RecoveryError::disk(&path, error))?.len();
    Ok(SnapshotReport { path, bytes, state, was_there })
}

/// Which moments around this one are between two entries.
fn whole_entries(replay: &Replay<'_>) -> String {
    let (before, after) = replay.bounds();
    format!("the nearest are sequence {before} and sequence {after}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{LOG, META};
    use crate::node::{Node, NodeConfig};
    use crate::opening::open_alone;

    /// As a program leaves it that is cut off while it drops history, with a log of which nothing is to be read again.
    fn drop_history(data: &Path) {
        let mut database = open_alone(data).unwrap();
        [LOG, META].into_iter().for_each(|name| database.flush_cf(family(&database, name)).unwrap());
        database.drop_cf(HISTORY).unwrap();
    }

    async fn run_once(data: &Path) {
        let (node, published) = Node::start(NodeConfig::new(data)).await.unwrap();
        let reading = std::thread::spawn(move || while published.recv().is_ok() {});
        node.recovered().await.unwrap();
        node.stop().await;
        reading.join().unwrap();
    }

    #[tokio::test]
    async fn a_directory_without_history_is_mended_by_a_rebuild_and_by_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        run_once(data).await;
        drop_history(data);
        let damage = Directory::read(data).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(damage.contains("rialto journal rebuild-history"), "{damage}");
        rebuild_history(data, &mut ()).unwrap();
        Directory::read(data).unwrap();
        run_once(data).await;
        drop_history(data);
        run_once(data).await;
        Directory::read(data).unwrap();
    }
}
