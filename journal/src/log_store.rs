//! The raft log and vote as raft sees them. What is not in memory is read from the disk; log_writer.rs brings to the disk what
//! raft appends. Every entry is chained to the one before it; the chain is checked (log_chain.rs) before any of it is replayed.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::TrySendError;
use futures_util::{Stream, stream};
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use parking_lot::Mutex;
use rocksdb::DB;
use tokio::sync::oneshot;

use crate::compensation::Compensations;
use crate::durable_mark::{DurableMark, Mark};
use crate::failure::{Failure, StartError};
use crate::format::{Link, VoteBytes, check_log_entry, decode_log_entry, log_key, seal};
use crate::log_chain::{entry_place, scrub_piece};
use crate::log_disk::LogDisk;
use crate::log_memory::{Log, TailEntry, Unchecked};
pub(crate) use crate::log_writer::LogCounters;
use crate::log_writer::{DatabaseWriter, Job, Writer};
use crate::queue::{self, Sender};
use crate::record::{LogId, RaftEntry, TypeConfig, Vote};
use crate::runtime;
use crate::stats::QueueDepth;

/// Jobs that may wait for the writer. When it is full, raft waits, then the sequencer, then the door is shut.
const JOBS_MAX: usize = 256;
/// How much one read of the database fetches.
const READ_BYTES_MAX: usize = 4 << 20;
/// How long a scrub rests between two pieces: it must not take the disk or a core from orders.
const SCRUB_REST: Duration = Duration::from_millis(20);

/// The raft log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogStore {
    disk: Arc<dyn LogDisk>,
    log: Arc<Mutex<Log>>,
    jobs: Sender<Job>,
    counters: Arc<LogCounters>,
    /// With this, who appends writes what is small; none where that would keep it from other work.
    writer: Option<DatabaseWriter>,
}

impl LogStore {
    /// Checks the log of `node` behind `snapshot`, the last entry in the snapshot that it starts from, notes the rulings in it,
    /// and starts its writer. What stands before that is read without haste afterwards.
    pub(crate) fn open(
        database: Arc<DB>,
        data: &Path,
        snapshot: Option<LogId>,
        node: u64,
        failure: &Failure,
    ) -> Result<(LogStore, Compensations, JoinHandle<()>), StartError> {
        let (log, compensations, checked) = Log::open(&*database, snapshot, node)?;
        let mark = match DurableMark::open(data)? {
            Some(mark) => mark,
            None if log.last.is_none() => DurableMark::create(data)?,
            None => return Err(StartError::damaged(data.join("durable").display().to_string(), "it is missing")),
        };
        log.reaches(&*database, mark.entries())?;
        let (jobs, queue) = queue::bounded(JOBS_MAX);
        let (mut store, writer) = LogStore::over(database.clone(), log, jobs, Box::new(mark), failure);
        let writer = DatabaseWriter::new(database, writer);
        store.writer = Some(writer.clone());
        let thread = failure.spawn("log-writer", move || writer.run(&queue));
        store.scrub(checked);
        Ok((store, compensations, thread))
    }

    /// Over a log that was opened; what it is told to write goes through `jobs` to whoever has the writer.
    pub(crate) fn over(
        disk: Arc<dyn LogDisk>,
        log: Log,
        jobs: Sender<Job>,
        mark: Box<dyn Mark>,
        failure: &Failure,
    ) -> (LogStore, Writer) {
        let end = log.end();
        let counters = Arc::new(LogCounters::default());
        counters.last_index.store(end.saturating_sub(1), Ordering::Relaxed);
        if let Some(upto) = log.purged.filter(|_| log.is_superseded) {
            tracing::warn!(
                "the log in {} has another entry than the snapshot at {}: it starts anew behind the snapshot",
                disk.place(),
                upto.index
            );
            // First in the queue, so that what is appended stands behind it.
            for job in [Job::Truncate { from: end }, Job::Purge { upto, link: log.purged_link }] {
                jobs.try_send(job).expect("nothing else is in the queue yet");
            }
            runtime::handed_over();
        }
        let log = Arc::new(Mutex::new(log));
        let writer = Writer::new(log.clone(), end, mark, failure.clone(), counters.clone());
        (LogStore { disk, log, jobs, counters, writer: None }, writer)
    }

    /// Who appends has other work, so that the writer alone writes.
    pub(crate) fn writes_aside(&mut self) {
        self.writer = None;
    }

    /// Reads the log that was not checked at the start, on a thread of its own. Damage there does not touch what the node does,
    /// only what can be looked back on, so it is reported and counted.
    fn scrub(&self, Unchecked { start, end }: Unchecked) {
        let (disk, counters) = (Arc::downgrade(&self.disk), self.counters.clone());
        let run = move || {
            // The disk is let go between two pieces, so that a stopping node does not wait for this.
            let (mut at, mut whole) = (start, 0);
            while at.next() < end {
                let Some(disk) = disk.upgrade() else { return };
                match scrub_piece(&*disk, at, end) {
                    Ok(reached) if reached == at => break,
                    Ok(reached) => {
                        whole += reached.next() - at.next();
                        at = reached;
                    }
                    Err(error) => {
                        counters.damaged.fetch_add(1, Ordering::Relaxed);
                        tracing::error!("the node runs on, but the log before its snapshot is not whole: {error}");
                        return;
                    }
                }
                drop(disk);
                std::thread::sleep(SCRUB_REST);
            }
            if whole > 0 {
                tracing::info!("{whole} log entries before the snapshot were read again and are whole");
            }
        };
        // Without a thread to give, the system has other worries.
        let _ = std::thread::Builder::new().name("log-scrub".into()).spawn(run);
    }

    /// The index of the last entry that is no longer in the log.
    pub(crate) fn purged_index(&self) -> Option<u64> {
        self.log.lock().purged.map(|log_id| log_id.index)
    }

    /// About how many bytes of log follow the entry `index`; what is only in memory yet is not counted.
    pub(crate) fn bytes_after(&self, index: u64) -> u64 {
        self.disk.bytes_after(index)
    }

    /// How many jobs wait for the writer.
    pub(crate) fn queue(&self) -> QueueDepth {
        QueueDepth { depth: self.jobs.len() as u64, bound: JOBS_MAX as u64 }
    }

    pub(crate) fn counters(&self) -> Arc<LogCounters> {
        self.counters.clone()
    }

    /// Tells the writer to finish what is queued and end.
    pub(crate) fn stop(&self) {
        // The writer is gone already when this fails.
        let _ = self.jobs.send(Job::Stop);
    }

    async fn submit(&self, job: Job) -> io::Result<()> {
        hand_over(&self.jobs, job).await.map_err(|_| io::Error::other("the log writer has ended"))
    }

    /// Entries of `range` from its start on, as many as one read of the database gives, and of those in memory as many bytes.
    pub(crate) async fn read_some(&self, range: std::ops::Range<u64>) -> io::Result<Vec<RaftEntry>> {
        let from_disk = {
            let log = self.log.lock();
            let start = range.start.max(log.first);
            let end = range.end.min(log.end());
            let tail_start = log.end() - log.tail.len() as u64;
            if start >= end {
                return Ok(Vec::new());
            }
            if start >= tail_start {
                let wanted = (start - tail_start) as usize..(end - tail_start) as usize;
                let mut bytes = 0;
                let fits = |held: &&TailEntry| {
                    let fits = bytes <= READ_BYTES_MAX;
                    bytes += held.bytes;
                    fits
                };
                return Ok(log.tail.range(wanted).take_while(fits).map(|held| held.entry.clone()).collect());
            }
            start..end.min(tail_start)
        };
        let disk = self.disk.clone();
        runtime::blocking(move || read_entries(&*disk, from_disk)).await?
    }
}

/// Sends without ever blocking a thread of the runtime; waits while the queue is full.
pub(crate) async fn hand_over<T: Send + 'static>(queue: &Sender<T>, item: T) -> Result<(), Closed> {
    match queue.try_send(item) {
        Ok(()) => {
            runtime::handed_over();
            Ok(())
        }
        Err(TrySendError::Disconnected(_)) => Err(Closed),
        Err(TrySendError::Full(item)) => runtime::send(queue.clone(), item).await.map_err(|_| Closed),
    }
}

/// The one who should have received has ended.
#[derive(Debug)]
pub(crate) struct Closed;

/// The entries of `range`, which are all on the disk; fewer when they are large.
fn read_entries(disk: &dyn LogDisk, range: std::ops::Range<u64>) -> io::Result<Vec<RaftEntry>> {
    let mut entries = Vec::new();
    let mut bytes_read = 0;
    for (row, index) in disk.frames(range.start).zip(range.clone()) {
        let damaged = |what: &str| io::Error::other(StartError::damaged(entry_place(disk, index), what).to_string());
        let (found_key, bytes) = row.map_err(|error| damaged(&error))?;
        if *found_key != log_key(index) {
            return Err(damaged("it is missing"));
        }
        entries.push(decode_log_entry(&bytes).map_err(|error| damaged(&error.to_string()))?);
        bytes_read += bytes.len();
        if bytes_read > READ_BYTES_MAX {
            break;
        }
    }
    Ok(entries)
}

fn bounds(range: &impl RangeBounds<u64>) -> std::ops::Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl LogStore {
    /// The link of the entry `index`, which is in the log.
    fn link_of(&self, log: &Log, index: u64) -> io::Result<Link> {
        if let Some(link) = log.link_in_tail(index) {
            return Ok(link);
        }
        let bytes = self.disk.frame(index).map_err(io::Error::other)?;
        let damaged = |what: &str| io::Error::other(format!("{} is damaged: {what}", entry_place(&*self.disk, index)));
        let bytes = bytes.ok_or_else(|| damaged("it is missing"))?;
        check_log_entry(&bytes).map(|head| head.link).map_err(|error| damaged(&error.to_string()))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        let mut range = bounds(&range);
        let mut entries = self.read_some(range.clone()).await?;
        while let Some(last) = entries.last() {
            range.start = last.log_id.index + 1;
            let more = self.read_some(range.clone()).await?;
            if more.is_empty() {
                break;
            }
            entries.extend(more);
        }
        Ok(entries)
    }

    /// Piece by piece: after a restart the range is the whole log behind the snapshot, more than memory should hold.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<RaftEntry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let start = (self.clone(), bounds(&range), Vec::new().into_iter());
        Box::pin(stream::try_unfold(start, |(store, mut range, mut read)| async move {
            if read.len() == 0 {
                read = store.read_some(range.clone()).await?.into_iter();
            }
            let Some(entry) = read.next() else { return Ok(None) };
            range.start = entry.log_id.index + 1;
            Ok(Some((entry, (store, range, read))))
        }))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<RaftEntry>, io::Error> {
        self.read_some(start..end).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.log.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let log = self.log.lock();
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: log.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, saved) = oneshot::channel();
        self.submit(Job::Vote { bytes: seal(&VoteBytes::from(vote)), done }).await?;
        saved.await.map_err(|_| io::Error::other("the log writer has ended"))??;
        self.log.lock().vote = Some(*vote);
        Ok(())
    }

    // `save_committed` is left out: a node serves only after its log is committed again, so it needs no such memory.

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let frames: Vec<_> = {
            let mut log = self.log.lock();
            entries.into_iter().map(|entry| log.append(entry)).collect()
        };
        let job = Job::Append { frames, flushed: callback };
        let written = match &self.writer {
            Some(writer) => writer.write_at_once(job, &self.jobs),
            None => Err(job),
        };
        match written {
            Ok(()) => Ok(()),
            Err(job) => self.submit(job).await,
        }
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        {
            let mut log = self.log.lock();
            let last = last_log_id.max(log.purged);
            if last >= log.last {
                return Ok(());
            }
            let link = match last {
                Some(last) if log.purged != Some(last) => self.link_of(&log, last.index)?,
                _ => log.purged_link,
            };
            log.truncate(last, link);
        }
        self.submit(Job::Truncate { from: last_log_id.map_or(0, |log_id| log_id.index + 1) }).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let link = {
            let mut log = self.log.lock();
            let inside = log.last.is_some_and(|last| upto.index <= last.index) && upto.index >= log.first;
            let link = if inside { self.link_of(&log, upto.index)? } else { Link::START };
            log.purge(upto, link);
            link
        };
        self.submit(Job::Purge { upto, link }).await
    }
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;
    use openraft::alias::LeaderIdOf;
    use openraft::type_config::TypeConfigExt;
    use tempfile::TempDir;

    use super::*;
    use crate::database::family;
    use crate::format::LOG;
    use crate::opening::open_database;

    /// The node whose log it is; node 1 leads.
    const NODE: u64 = 7;

    fn log_id(index: u64) -> LogId {
        log_id_of(1, index)
    }

    fn log_id_of(term: u64, index: u64) -> LogId {
        LogId { leader_id: LeaderIdOf::<TypeConfig> { term, node_id: 1 }, index }
    }

    /// A folder whose log holds `count` entries, written and closed.
    async fn written(count: u64) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, thread) = start(folder.path()).unwrap();
        for index in 0..count {
            let (done, flushed) = TypeConfig::oneshot();
            let entry = RaftEntry { log_id: log_id(index), payload: EntryPayload::Blank };
            store.append([entry], IOFlushed::signal(done)).await.unwrap();
            flushed.await.unwrap().unwrap();
        }
        drop(store);
        thread.join().unwrap();
        folder
    }

    #[tokio::test]
    async fn what_is_written_at_once_and_what_is_written_aside_keep_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let (mut at_once, thread) = start(folder.path()).unwrap();
        let mut aside = at_once.clone();
        aside.writes_aside();
        let mut all = Vec::new();
        for index in 0..2_000 {
            let (done, flushed) = TypeConfig::oneshot();
            let entry = RaftEntry { log_id: log_id(index), payload: EntryPayload::Blank };
            // Behind one that waits in the queue, nobody writes at once.
            let store = if index % 3 == 0 { &mut aside } else { &mut at_once };
            store.append([entry], IOFlushed::signal(done)).await.unwrap();
            if index % 7 == 0 {
                flushed.await.unwrap().unwrap();
            } else {
                all.push(flushed);
            }
        }
        for flushed in all {
            flushed.await.unwrap().unwrap();
        }
        drop((at_once, aside));
        thread.join().unwrap();
        let (mut store, thread) = start(folder.path()).unwrap();
        assert_eq!(store.try_get_log_entries(..).await.unwrap().len(), 2_000);
        drop(store);
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn the_mark_follows_what_is_written_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, thread) = start(folder.path()).unwrap();
        for index in 0..3 {
            let (done, flushed) = TypeConfig::oneshot();
            let entry = RaftEntry { log_id: log_id(index), payload: EntryPayload::Blank };
            store.append([entry], IOFlushed::signal(done)).await.unwrap();
            flushed.await.unwrap().unwrap();
        }
        let mark = || DurableMark::open(folder.path()).unwrap().unwrap().entries();
        let followed = async {
            while mark() < 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), followed).await.expect("it follows");
        drop(store);
        thread.join().unwrap();
    }

    fn start(data: &Path) -> Result<(LogStore, JoinHandle<()>), StartError> {
        start_behind(data, None)
    }

    fn start_behind(data: &Path, snapshot: Option<LogId>) -> Result<(LogStore, JoinHandle<()>), StartError> {
        let (store, _, thread) = LogStore::open(open_database(data)?, data, snapshot, NODE, &Failure::new())?;
        Ok((store, thread))
    }

    fn error_after(folder: &TempDir, damage: impl FnOnce(&DB)) -> String {
        damage(&open_database(folder.path()).unwrap());
        start(folder.path()).err().unwrap().to_string()
    }

    fn value(database: &DB, index: u64) -> Vec<u8> {
        database.get_cf(family(database, LOG), log_key(index)).unwrap().unwrap()
    }

    fn put(database: &DB, index: u64, value: Vec<u8>) {
        database.put_cf(family(database, LOG), log_key(index), value).unwrap();
    }

    #[tokio::test]
    async fn a_flipped_bit_in_an_entry_is_named() {
        let folder = written(9).await;
        let error = error_after(&folder, |database| {
            let mut bytes = value(database, 4);
            bytes[20] ^= 1;
            put(database, 4, bytes);
        });
        assert!(error.contains("entry 4 of column family `log`"), "{error}");
        assert!(error.contains("its checksum is wrong"), "{error}");
        assert!(error.contains("Restore the data directory from a backup"), "{error}");
    }

    #[tokio::test]
    async fn a_hole_is_named() {
        let folder = written(9).await;
        let error = error_after(&folder, |database| database.delete_cf(family(database, LOG), log_key(4)).unwrap());
        assert!(error.contains("entry 4 of column family `log`"), "{error}");
        assert!(error.contains("it is missing"), "{error}");
    }

    #[tokio::test]
    async fn reordered_entries_are_named() {
        let folder = written(9).await;
        let error = error_after(&folder, |database| {
            let (fourth, fifth) = (value(database, 4), value(database, 5));
            put(database, 4, fifth);
            put(database, 5, fourth);
        });
        assert!(error.contains("entry 4 of column family `log`"), "{error}");
        assert!(error.contains("it does not follow the entry before it"), "{error}");
    }

    #[tokio::test]
    async fn a_log_that_ends_below_the_durable_mark_is_named() {
        let folder = written(9).await;
        let error = error_after(&folder, |database| database.delete_cf(family(database, LOG), log_key(8)).unwrap());
        assert!(error.contains("entry 8 of column family `log`"), "{error}");
        assert!(error.contains("the entries before 9 were durable"), "{error}");
    }

    #[tokio::test]
    async fn a_missing_durable_mark_is_named() {
        let folder = written(9).await;
        std::fs::remove_file(folder.path().join("durable")).unwrap();
        let error = start(folder.path()).err().unwrap().to_string();
        assert!(error.contains("durable is damaged: it is missing"), "{error}");
    }

    #[tokio::test]
    async fn a_truncated_log_goes_on_with_a_whole_chain_and_a_lower_mark() {
        let folder = written(9).await;
        let (mut store, thread) = start(folder.path()).unwrap();
        store.truncate_after(Some(log_id(5))).await.unwrap();
        drop(store);
        thread.join().unwrap();
        let (mut store, thread) = start(folder.path()).unwrap();
        assert_eq!(store.get_log_state().await.unwrap().last_log_id, Some(log_id(5)));
        assert_eq!(store.try_get_log_entries(..).await.unwrap().len(), 6);
        drop(store);
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn a_log_that_the_snapshot_contradicts_starts_anew_behind_it() {
        let folder = written(9).await;
        let snapshot = log_id_of(2, 5);
        // The second time the disk has let go of it.
        for _ in 0..2 {
            let (mut store, thread) = start_behind(folder.path(), Some(snapshot)).unwrap();
            let state = store.get_log_state().await.unwrap();
            assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(snapshot), Some(snapshot)));
            assert_eq!(store.try_get_log_entries(..).await.unwrap().len(), 0);
            drop(store);
            thread.join().unwrap();
        }
        let (mut store, thread) = start_behind(folder.path(), Some(snapshot)).unwrap();
        let (done, flushed) = TypeConfig::oneshot();
        let entry = RaftEntry { log_id: log_id_of(2, 6), payload: EntryPayload::Blank };
        store.append([entry], IOFlushed::signal(done)).await.unwrap();
        flushed.await.unwrap().unwrap();
        drop(store);
        thread.join().unwrap();
        let (mut store, thread) = start_behind(folder.path(), Some(snapshot)).unwrap();
        assert_eq!(store.get_log_state().await.unwrap().last_log_id, Some(log_id_of(2, 6)));
        drop(store);
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn a_log_of_a_later_leader_than_that_of_the_snapshot_is_damage() {
        let folder = written(9).await;
        let error = start_behind(folder.path(), Some(log_id_of(0, 5))).err().unwrap().to_string();
        assert!(error.contains("entry 5 of column family `log`"), "{error}");
        assert!(error.contains("no later leader can have sent that"), "{error}");
    }

    #[tokio::test]
    async fn a_log_that_a_snapshot_of_the_node_s_own_contradicts_is_damage() {
        let folder = written(9).await;
        let own = LogId { leader_id: LeaderIdOf::<TypeConfig> { term: 2, node_id: NODE }, index: 5 };
        let error = start_behind(folder.path(), Some(own)).err().unwrap().to_string();
        assert!(error.contains("entry 5 of column family `log`"), "{error}");
        assert!(error.contains("no later leader can have sent that"), "{error}");
    }

    #[tokio::test]
    async fn a_purged_log_starts_where_its_chain_goes_on() {
        let folder = written(9).await;
        let (mut store, thread) = start(folder.path()).unwrap();
        store.purge(log_id(3)).await.unwrap();
        drop(store);
        thread.join().unwrap();
        let (mut store, thread) = start(folder.path()).unwrap();
        assert_eq!(store.log.lock().purged, Some(log_id(3)));
        let indexes: Vec<_> = store.try_get_log_entries(0..7).await.unwrap();
        assert_eq!(indexes.iter().map(|entry| entry.log_id.index).collect::<Vec<_>>(), [4, 5, 6]);
        drop(store);
        thread.join().unwrap();
        let error = error_after(&folder, |database| database.delete_cf(family(database, LOG), log_key(4)).unwrap());
        assert!(error.contains("entry 4 of column family `log`"), "{error}");
    }

    #[tokio::test]
    async fn entries_that_are_not_in_memory_are_read_from_the_database() {
        let folder = written(9).await;
        let (mut store, thread) = start(folder.path()).unwrap();
        assert_eq!(store.log.lock().tail.len(), 0);
        let entries = store.try_get_log_entries(2..5).await.unwrap();
        assert_eq!(entries.iter().map(|entry| entry.log_id.index).collect::<Vec<_>>(), [2, 3, 4]);
        drop(store);
        thread.join().unwrap();
    }
}
