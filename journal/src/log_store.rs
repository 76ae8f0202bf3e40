//! The raft log and vote in RocksDB: keys, batches, fsync.
//!
//! One thread of its own writes. It takes all that is queued, writes it as one batch, syncs once, and only then says so:
//! while the disk works, the next batch gathers. What a failed write left on the disk is unknown, so it is never tried
//! again. Every entry is chained to the one before it; the chain is checked (log_chain.rs) before any of it is replayed.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use futures_util::{Stream, stream};
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use parking_lot::Mutex;
use rocksdb::{DB, Direction, IteratorMode, Range, WriteBatch};
use tokio::sync::oneshot;

use crate::compensation::Compensations;
use crate::database::{family, read_meta, synced};
use crate::durable_mark::DurableMark;
use crate::failure::{Failure, StartError};
use crate::format::{
    LOG, Link, LogIdBytes, META, PURGED_KEY, VOTE_KEY, VoteBytes, check_log_entry, decode_log_entry, encode_log_entry,
    log_key, seal,
};
use crate::log_chain::{Point, entry_place, log_start, point_behind, scrub_piece, walk};
use crate::record::{LogId, RaftEntry, TypeConfig, Vote};

/// Jobs that may wait for the writer. When it is full, raft waits, then the sequencer, then the door is shut.
const JOBS_MAX: usize = 256;
/// A batch is closed at this size; what waits then goes into the next one.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Entries kept in memory for replication and apply: written ones beyond this are read from the database.
const TAIL_BYTES_MAX: usize = 32 << 20;
/// How much one read of the database fetches.
const READ_BYTES_MAX: usize = 4 << 20;
/// How long a scrub rests between two pieces: it must not take the disk or a core from orders.
const SCRUB_REST: Duration = Duration::from_millis(20);
/// How far the durable mark may lag behind.
const MARK_INTERVAL: Duration = Duration::from_millis(100);

/// What the writer has done.
#[derive(Default)]
pub(crate) struct LogCounters {
    pub last_index: AtomicU64,
    pub entries: AtomicU64,
    pub bytes: AtomicU64,
    pub syncs: AtomicU64,
    pub sync_ns: AtomicU64,
    /// Whether damage was found in what is only kept to look back on.
    pub damaged: AtomicU64,
}

/// The raft log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogStore {
    database: Arc<DB>,
    log: Arc<Mutex<Log>>,
    jobs: Sender<Job>,
    counters: Arc<LogCounters>,
}

/// What is known of the log without the disk, and its newest entries.
struct Log {
    vote: Option<Vote>,
    purged: Option<LogId>,
    purged_link: Link,
    /// The first index that the log may hold.
    first: u64,
    last: Option<LogId>,
    last_link: Link,
    /// The newest entries; at least all that are not written yet. They end at `last`.
    tail: VecDeque<TailEntry>,
    tail_bytes: usize,
    /// Entries before this index are written.
    written_end: u64,
    /// Counts truncations, so that the writer never calls an entry written that was truncated meanwhile.
    truncations: u64,
}

struct TailEntry {
    entry: RaftEntry,
    link: Link,
    bytes: usize,
}

enum Job {
    Append {
        frames: Vec<(u64, Vec<u8>)>,
        flushed: IOFlushed<TypeConfig>,
    },
    Vote {
        bytes: Vec<u8>,
        done: oneshot::Sender<io::Result<()>>,
    },
    /// Entries from this index on are gone.
    Truncate {
        from: u64,
    },
    Purge {
        upto: LogId,
        link: Link,
    },
    Stop,
}

impl LogStore {
    /// Checks the log behind `snapshot`, the index of the last entry in the snapshot that the node starts from, notes the
    /// rulings in it, and starts its writer. What stands before that is read without haste afterwards.
    pub(crate) fn open(
        database: Arc<DB>,
        data: &Path,
        snapshot: Option<u64>,
        failure: &Failure,
    ) -> Result<(LogStore, Compensations, JoinHandle<()>), StartError> {
        let start = log_start(&database)?;
        let behind = snapshot.map(|index| point_behind(&database, &start, index)).transpose()?.flatten();
        let from = behind.unwrap_or(start);
        let mut compensations = Compensations::default();
        let reached = walk(&database, from, |head, frame| {
            compensations.note(head, frame);
            true
        })?;
        let log = Log::new(&database, start, reached)?;
        let end = log.end();
        let mark = match DurableMark::open(data)? {
            Some(mark) => mark,
            None if log.last.is_none() => DurableMark::create(data)?,
            None => return Err(StartError::damaged(data.join("durable").display().to_string(), "it is missing")),
        };
        if end < mark.entries() {
            let what = format!("the log ends before it, yet the entries before {} were durable", mark.entries());
            return Err(StartError::damaged(entry_place(&database, end), what));
        }
        let counters = Arc::new(LogCounters::default());
        counters.last_index.store(end.saturating_sub(1), Ordering::Relaxed);
        let log = Arc::new(Mutex::new(log));
        let (jobs, queue) = crossbeam_channel::bounded(JOBS_MAX);
        let writer = Writer {
            database: database.clone(),
            log: log.clone(),
            queue,
            mark,
            mark_at: Instant::now(),
            durable: end,
            truncations: 0,
            failure: failure.clone(),
            counters: counters.clone(),
        };
        let thread = failure.spawn("log-writer", move || writer.run());
        let store = LogStore { database, log, jobs, counters };
        store.scrub(start, from.next());
        Ok((store, compensations, thread))
    }

    /// Reads the log from `start` to the entry before `end` on a thread of its own. Damage there does not touch what the node
    /// does, only what can be looked back on, so it is reported and counted.
    fn scrub(&self, start: Point, end: u64) {
        let (database, counters) = (Arc::downgrade(&self.database), self.counters.clone());
        let run = move || {
            // The database is let go between two pieces, so that a stopping node does not wait for this.
            let (mut at, mut whole) = (start, 0);
            while at.next() < end {
                let Some(database) = database.upgrade() else { return };
                match scrub_piece(&database, at, end) {
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
                drop(database);
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
        let (from, to) = (log_key(index.saturating_add(1)), log_key(u64::MAX));
        let sizes = self.database.get_approximate_sizes_cf(family(&self.database, LOG), &[Range::new(&from, &to)]);
        sizes.iter().sum()
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

    /// Entries of `range` from its start on, as many as there are in memory or as one read of the database gives.
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
                return Ok(log.tail.range(wanted).map(|held| held.entry.clone()).collect());
            }
            start..end.min(tail_start)
        };
        let database = self.database.clone();
        let read = move || read_entries(&database, from_disk);
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
    }
}

/// Sends without ever blocking a thread of the runtime; waits while the queue is full.
pub(crate) async fn hand_over<T: Send + 'static>(queue: &Sender<T>, item: T) -> Result<(), Closed> {
    match queue.try_send(item) {
        Ok(()) => Ok(()),
        Err(TrySendError::Disconnected(_)) => Err(Closed),
        Err(TrySendError::Full(item)) => {
            let queue = queue.clone();
            let sent = tokio::task::spawn_blocking(move || queue.send(item)).await;
            sent.map_err(|_| Closed)?.map_err(|_| Closed)
        }
    }
}

/// The one who should have received has ended.
#[derive(Debug)]
pub(crate) struct Closed;

/// The entries of `range`, which are all in the database; fewer when they are large.
fn read_entries(database: &DB, range: std::ops::Range<u64>) -> io::Result<Vec<RaftEntry>> {
    let mut entries = Vec::new();
    let mut bytes_read = 0;
    let start = log_key(range.start);
    let rows = database.iterator_cf(family(database, LOG), IteratorMode::From(&start, Direction::Forward));
    for (item, index) in rows.zip(range.clone()) {
        let damaged =
            |what: &str| io::Error::other(StartError::damaged(entry_place(database, index), what).to_string());
        let (found_key, bytes) = item.map_err(|error| damaged(error.as_ref()))?;
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

impl Log {
    /// A log from `start` to `end`, all of it written.
    fn new(database: &DB, start: Point, end: Point) -> Result<Log, StartError> {
        let vote = read_meta::<VoteBytes>(database, VOTE_KEY)?.map(Vote::from);
        Ok(Log {
            vote,
            purged: start.log_id,
            purged_link: start.link,
            first: start.next(),
            last: end.log_id,
            last_link: end.link,
            tail: VecDeque::new(),
            tail_bytes: 0,
            written_end: end.next(),
            truncations: 0,
        })
    }

    /// One more than the last index.
    fn end(&self) -> u64 {
        self.last.map_or(0, |log_id| log_id.index + 1)
    }

    fn append(&mut self, entry: RaftEntry) -> (u64, Vec<u8>) {
        let index = entry.log_id.index;
        if self.last.is_none() {
            self.first = index;
        } else {
            assert_eq!(index, self.end(), "raft left a hole in the log");
        }
        let (frame, link) = encode_log_entry(&entry, self.last_link);
        self.last = Some(entry.log_id);
        self.last_link = link;
        self.tail_bytes += frame.len();
        self.tail.push_back(TailEntry { entry, link, bytes: frame.len() });
        (index, frame)
    }

    fn truncate(&mut self, last: Option<LogId>, last_link: Link) {
        let end = last.map_or(self.first, |log_id| log_id.index + 1);
        while self.tail.back().is_some_and(|held| held.entry.log_id.index >= end) {
            self.tail_bytes -= self.tail.pop_back().map_or(0, |held| held.bytes);
        }
        self.last = last;
        self.last_link = last_link;
        self.written_end = self.written_end.min(end);
        self.truncations += 1;
    }

    fn purge(&mut self, upto: LogId, link: Link) {
        while self.tail.front().is_some_and(|held| held.entry.log_id.index <= upto.index) {
            self.tail_bytes -= self.tail.pop_front().map_or(0, |held| held.bytes);
        }
        self.purged = Some(upto);
        self.purged_link = link;
        self.first = upto.index + 1;
        if self.last.is_none_or(|last| last.index <= upto.index) {
            // The log starts anew behind a snapshot.
            self.last = Some(upto);
            self.last_link = Link::START;
        }
    }

    fn link_in_tail(&self, index: u64) -> Option<Link> {
        let first = self.tail.front()?.entry.log_id.index;
        let position = index.checked_sub(first)?;
        self.tail.get(position as usize).map(|held| held.link)
    }

    /// The writer has synced the entries before `end`; those beyond the bound may leave memory now.
    fn written(&mut self, end: u64, truncations: u64) {
        if truncations == self.truncations {
            self.written_end = self.written_end.max(end);
        }
        while self.tail_bytes > TAIL_BYTES_MAX
            && self.tail.front().is_some_and(|held| held.entry.log_id.index < self.written_end)
        {
            self.tail_bytes -= self.tail.pop_front().map_or(0, |held| held.bytes);
        }
    }
}

impl LogStore {
    /// The link of the entry `index`, which is in the log.
    fn link_of(&self, log: &Log, index: u64) -> io::Result<Link> {
        if let Some(link) = log.link_in_tail(index) {
            return Ok(link);
        }
        let bytes = self.database.get_cf(family(&self.database, LOG), log_key(index)).map_err(io::Error::other)?;
        let damaged =
            |what: &str| io::Error::other(format!("{} is damaged: {what}", entry_place(&self.database, index)));
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
        self.submit(Job::Append { frames, flushed: callback }).await
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

/// The thread that writes.
struct Writer {
    database: Arc<DB>,
    log: Arc<Mutex<Log>>,
    queue: Receiver<Job>,
    mark: DurableMark,
    mark_at: Instant,
    /// Entries before this index are synced.
    durable: u64,
    truncations: u64,
    failure: Failure,
    counters: Arc<LogCounters>,
}

/// Jobs that are written together.
#[derive(Default)]
struct Group {
    batch: WriteBatch,
    flushed: Vec<IOFlushed<TypeConfig>>,
    votes: Vec<oneshot::Sender<io::Result<()>>>,
    entries: u64,
    /// One more than the last index, if the group changes it.
    end: Option<u64>,
    /// The highest index purged.
    purged: Option<u64>,
    /// The lowest index truncated.
    truncated: Option<u64>,
    stop: bool,
}

impl Writer {
    fn run(mut self) {
        loop {
            let group = match self.next_job() {
                Ok(job) => self.gather(job),
                Err(RecvTimeoutError::Timeout) => {
                    self.save_mark();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let stop = group.stop;
            self.write(group);
            if stop {
                break;
            }
        }
        self.save_mark();
    }

    /// The next job; while the mark lags, only for so long.
    fn next_job(&self) -> Result<Job, RecvTimeoutError> {
        if self.mark.entries() == self.durable {
            return self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected);
        }
        self.queue.recv_deadline(self.mark_at + MARK_INTERVAL)
    }

    fn gather(&mut self, first: Job) -> Group {
        let mut group = Group::default();
        let mut next = Some(first);
        while let Some(job) = next {
            self.add(&mut group, job);
            let full = group.batch.size_in_bytes() >= BATCH_BYTES_MAX || group.stop;
            next = if full { None } else { self.queue.try_recv().ok() };
        }
        group
    }

    fn add(&mut self, group: &mut Group, job: Job) {
        let (log, meta) = (family(&self.database, LOG), family(&self.database, META));
        match job {
            Job::Append { frames, flushed } => {
                group.entries += frames.len() as u64;
                for (index, frame) in frames {
                    group.batch.put_cf(log, log_key(index), frame);
                    group.end = Some(index + 1);
                }
                group.flushed.push(flushed);
            }
            Job::Vote { bytes, done } => {
                group.batch.put_cf(meta, VOTE_KEY, bytes);
                group.votes.push(done);
            }
            Job::Truncate { from } => {
                group.batch.delete_range_cf(log, log_key(from), log_key(u64::MAX));
                group.end = Some(from);
                group.truncated = Some(group.truncated.map_or(from, |lowest| lowest.min(from)));
                self.truncations += 1;
            }
            Job::Purge { upto, link } => {
                group.batch.put_cf(meta, PURGED_KEY, seal(&(LogIdBytes::from(&upto), link)));
                group.purged = Some(upto.index);
                let end = group.end.unwrap_or(self.durable);
                group.end = Some(end.max(upto.index + 1));
            }
            Job::Stop => group.stop = true,
        }
    }

    fn write(&mut self, group: Group) {
        let bytes = group.batch.size_in_bytes() as u64;
        let result = self.commit(group.batch, group.truncated);
        if result.is_ok() {
            self.counters.entries.fetch_add(group.entries, Ordering::Relaxed);
            self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
            if let Some(purged) = group.purged {
                self.drop_files(purged);
            }
            if let Some(end) = group.end {
                self.durable = end;
                self.counters.last_index.store(end.saturating_sub(1), Ordering::Relaxed);
                self.log.lock().written(end, self.truncations);
            }
        }
        let answer = || result.as_ref().map(|_| ()).map_err(|reason| io::Error::other(reason.clone()));
        group.flushed.into_iter().for_each(|flushed| flushed.io_completed(answer()));
        group.votes.into_iter().for_each(|done| drop(done.send(answer())));
        if self.mark_at.elapsed() >= MARK_INTERVAL {
            self.save_mark();
        }
    }

    /// Drops the files that hold nothing but purged entries. What shares a file with later ones stays until that file goes:
    /// the log starts behind the mark in meta, whatever stands before it. No tombstones, so nothing is ever compacted.
    fn drop_files(&self, purged: u64) {
        let log = family(&self.database, LOG);
        if let Err(error) = self.database.delete_file_in_range_cf(log, log_key(0), log_key(purged)) {
            tracing::warn!("files of the purged log in {} stay: {error}", self.database.path().display());
        }
    }

    /// Writes and syncs one batch; after the first failure nothing is written any more.
    fn commit(&mut self, batch: WriteBatch, truncated: Option<u64>) -> Result<(), String> {
        if let Some(reason) = self.failure.reason() {
            return Err(reason);
        }
        if batch.is_empty() {
            return Ok(());
        }
        if let Some(from) = truncated.filter(|from| *from < self.mark.entries()) {
            // The mark must never be above the truth, so it goes down first.
            self.durable = from;
            self.save_mark();
        }
        let started = Instant::now();
        let written = self.database.write_opt(batch, &synced());
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.counters.sync_ns.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        written.map_err(|error| {
            let reason = format!("the log in {} cannot be written: {error}", self.database.path().display());
            self.failure.report(reason.as_str());
            reason
        })
    }

    fn save_mark(&mut self) {
        self.mark_at = Instant::now();
        if self.mark.entries() == self.durable || self.failure.reason().is_some() {
            return;
        }
        if let Err(error) = self.mark.set(self.durable) {
            self.failure.report(format!("the mark of what is durable cannot be written: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;
    use openraft::alias::LeaderIdOf;
    use openraft::type_config::TypeConfigExt;
    use tempfile::TempDir;

    use super::*;
    use crate::opening::open_database;

    fn log_id(index: u64) -> LogId {
        LogId { leader_id: LeaderIdOf::<TypeConfig> { term: 1, node_id: 1 }, index }
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

    fn start(data: &Path) -> Result<(LogStore, JoinHandle<()>), StartError> {
        let (store, _, thread) = LogStore::open(open_database(data)?, data, None, &Failure::new())?;
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
