//! Brings the log and the vote to the disk. Jobs that wait are written as one batch and synced once, and only then is it said
//! that they are done: while the disk works, the next batch gathers. What a failed write left on the disk is unknown, so it
//! is never tried again.
//!
//! [`Writer`] decides all that; [`DatabaseWriter`] does it with RocksDB, on a thread of its own. On a node without
//! others, who appends an entry so small that nothing is gained by preparing the next one meanwhile writes it itself: two threads
//! less are woken.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::TryRecvError;
use openraft::storage::IOFlushed;
use parking_lot::Mutex;
use rocksdb::{DB, WriteBatch};
use tokio::sync::oneshot;

use crate::database::{family, synced};
use crate::durable_mark::Mark;
use crate::failure::Failure;
use crate::format::{LOG, Link, LogIdBytes, META, PURGED_KEY, VOTE_KEY, log_key, seal};
use crate::log_memory::Log;
use crate::log_purge;
use crate::log_room::LogRoom;
use crate::queue::{Receiver, Sender};
use crate::record::{LogId, TypeConfig};
use crate::timings::Timings;

/// A batch is closed at this size; what waits then goes into the next one.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Who appends writes no more than this, a few commands.
const BYTES_WRITTEN_AT_ONCE_MAX: usize = 250;
/// How far the durable mark may lag behind.
pub(crate) const MARK_INTERVAL: Duration = Duration::from_millis(100);

/// What the writer is asked to bring to the disk.
pub(crate) enum Job {
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

/// One change of what stands on the disk.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// The frame of a log entry.
    Frame(u64, Vec<u8>),
    /// A sealed record beside the log.
    Record(&'static [u8], Vec<u8>),
    /// No entry from this index on.
    Truncate(u64),
}

/// What the writer has done.
#[derive(Default)]
pub(crate) struct LogCounters {
    pub last_index: AtomicU64,
    pub entries: AtomicU64,
    pub bytes: AtomicU64,
    pub syncs: AtomicU64,
    pub sync_ns: AtomicU64,
    /// Each sync of them, among what else is measured.
    pub timings: Arc<Timings>,
    /// Whether damage was found in what is only kept to look back on.
    pub damaged: AtomicU64,
}

/// Jobs that are written together.
#[derive(Default)]
pub(crate) struct Group {
    /// To be on the disk, all of them and in this order, before anybody is told.
    pub changes: Vec<Change>,
    bytes: usize,
    flushed: Vec<IOFlushed<TypeConfig>>,
    votes: Vec<oneshot::Sender<io::Result<()>>>,
    entries: u64,
    /// One more than the last index, if the group changes it.
    end: Option<u64>,
    /// The highest index purged.
    pub purged: Option<u64>,
    /// The lowest index truncated.
    truncated: Option<u64>,
    /// Whether it is the last one.
    pub stop: bool,
}

/// What is written together, what must be done before it, who is told after it.
pub(crate) struct Writer {
    log: Arc<Mutex<Log>>,
    mark: Box<dyn Mark>,
    /// Entries before this index are synced.
    durable: u64,
    truncations: u64,
    failure: Failure,
    counters: Arc<LogCounters>,
}

impl Writer {
    /// Over a log of which everything before `durable` is synced.
    pub(crate) fn new(
        log: Arc<Mutex<Log>>,
        durable: u64,
        mark: Box<dyn Mark>,
        failure: Failure,
        counters: Arc<LogCounters>,
    ) -> Writer {
        Writer { log, mark, durable, truncations: 0, failure, counters }
    }

    /// `first` and what waits behind it, as much as goes into one batch.
    pub(crate) fn gather(&mut self, first: Job, queue: &Receiver<Job>) -> Group {
        let mut group = Group::default();
        let mut next = Some(first);
        while let Some(job) = next {
            self.add(&mut group, job);
            let full = group.bytes >= BATCH_BYTES_MAX || group.stop;
            next = if full { None } else { queue.try_recv().ok() };
        }
        group
    }

    fn add(&mut self, group: &mut Group, job: Job) {
        let change = match job {
            Job::Append { frames, flushed } => {
                group.entries += frames.len() as u64;
                group.end = frames.last().map(|(index, _)| index + 1).or(group.end);
                group.bytes += frames.iter().map(|(_, frame)| frame.len()).sum::<usize>();
                group.changes.extend(frames.into_iter().map(|(index, frame)| Change::Frame(index, frame)));
                group.flushed.push(flushed);
                return;
            }
            Job::Vote { bytes, done } => {
                group.votes.push(done);
                Change::Record(VOTE_KEY, bytes)
            }
            Job::Truncate { from } => {
                group.end = Some(from);
                group.truncated = Some(group.truncated.map_or(from, |lowest| lowest.min(from)));
                self.truncations += 1;
                Change::Truncate(from)
            }
            Job::Purge { upto, link } => {
                group.purged = Some(upto.index);
                let end = group.end.unwrap_or(self.durable);
                group.end = Some(end.max(upto.index + 1));
                Change::Record(PURGED_KEY, seal(&(LogIdBytes::from(&upto), link)))
            }
            Job::Stop => {
                group.stop = true;
                return;
            }
        };
        group.changes.push(change);
    }

    /// Must go well before the group is written; after the first failure nothing is written any more.
    pub(crate) fn before(&mut self, group: &Group) -> Result<(), String> {
        if let Some(reason) = self.failure.reason() {
            return Err(reason);
        }
        if let Some(from) = group.truncated.filter(|from| *from < self.mark.entries()) {
            // The mark must never be above the truth, so it goes down first.
            self.durable = from;
            self.save_mark();
        }
        Ok(())
    }

    /// The group is written and synced, or never will be: everybody is told.
    pub(crate) fn after(&mut self, group: Group, result: Result<(), String>) {
        if let Err(reason) = &result {
            self.failure.report(reason.as_str());
        } else {
            self.counters.entries.fetch_add(group.entries, Ordering::Relaxed);
            self.counters.bytes.fetch_add(group.bytes as u64, Ordering::Relaxed);
            if let Some(end) = group.end {
                self.durable = end;
                self.counters.last_index.store(end.saturating_sub(1), Ordering::Relaxed);
                self.log.lock().written(end, self.truncations);
            }
        }
        let answer = || result.as_ref().map(|_| ()).map_err(|reason| io::Error::other(reason.clone()));
        group.flushed.into_iter().for_each(|flushed| flushed.io_completed(answer()));
        group.votes.into_iter().for_each(|done| drop(done.send(answer())));
    }

    /// Whether the mark is behind what is durable.
    pub(crate) fn mark_lags(&self) -> bool {
        self.mark.entries() != self.durable
    }

    pub(crate) fn save_mark(&mut self) {
        if !self.mark_lags() || self.failure.reason().is_some() {
            return;
        }
        if let Err(error) = self.mark.set(self.durable) {
            self.failure.report(format!("the mark of what is durable cannot be written: {error}"));
        }
    }
}

/// Writes to RocksDB. Shared by its thread and who appends: a job is taken from the queue by who has this, so one who has it and
/// finds nothing queued is next.
#[derive(Clone)]
pub(crate) struct DatabaseWriter(Arc<Mutex<Writing>>);

struct Writing {
    database: Arc<DB>,
    writer: Writer,
    mark_at: Instant,
    room: LogRoom,
}

impl DatabaseWriter {
    pub(crate) fn new(database: Arc<DB>, writer: Writer) -> DatabaseWriter {
        let room = LogRoom::new(database.path().to_owned());
        DatabaseWriter(Arc::new(Mutex::new(Writing { database, writer, mark_at: Instant::now(), room })))
    }

    /// Writes what is queued until it is told to stop, or nobody is left to tell it. For a thread of its own.
    pub(crate) fn run(self, queue: &Receiver<Job>) {
        loop {
            let mut writing = self.0.lock();
            match queue.try_recv() {
                Ok(job) => {
                    let group = writing.writer.gather(job, queue);
                    let stop = group.stop;
                    writing.write(group);
                    writing.save_mark_in_time();
                    if stop {
                        break;
                    }
                }
                Err(TryRecvError::Empty) => {
                    writing.save_mark_in_time();
                    let due = writing.writer.mark_lags().then(|| writing.mark_at + MARK_INTERVAL);
                    drop(writing);
                    queue.wait(due);
                }
                Err(TryRecvError::Disconnected) => break,
            }
        }
        self.0.lock().writer.save_mark();
    }

    /// Writes a small entry at once if nothing is being written or queued; else gives it back.
    pub(crate) fn write_at_once(&self, job: Job, queue: &Sender<Job>) -> Result<(), Job> {
        let Job::Append { frames, .. } = &job else { return Err(job) };
        if frames.iter().map(|(_, frame)| frame.len()).sum::<usize>() > BYTES_WRITTEN_AT_ONCE_MAX {
            return Err(job);
        }
        let Some(mut writing) = self.0.try_lock().filter(|_| queue.len() == 0) else { return Err(job) };
        let lagged = writing.writer.mark_lags();
        let mut group = Group::default();
        writing.writer.add(&mut group, job);
        writing.write(group);
        drop(writing);
        if !lagged {
            // The thread has the mark to look after from now on.
            queue.wake();
        }
        Ok(())
    }
}

impl Writing {
    fn write(&mut self, mut group: Group) {
        let changes = std::mem::take(&mut group.changes);
        let result = self.writer.before(&group).and_then(|()| self.commit(changes));
        if result.is_ok()
            && let Some(purged) = group.purged
        {
            log_purge::drop_files(&self.database, purged);
        }
        self.writer.after(group, result);
    }

    /// One batch, one sync.
    fn commit(&mut self, changes: Vec<Change>) -> Result<(), String> {
        if changes.is_empty() {
            return Ok(());
        }
        let (log, meta) = (family(&self.database, LOG), family(&self.database, META));
        let mut batch = WriteBatch::default();
        for change in changes {
            match change {
                Change::Frame(index, frame) => batch.put_cf(log, log_key(index), frame),
                Change::Record(key, bytes) => batch.put_cf(meta, key, bytes),
                Change::Truncate(from) => batch.delete_range_cf(log, log_key(from), log_key(u64::MAX)),
            }
        }
        self.room.make_for(batch.size_in_bytes());
        let started = Instant::now();
        let written = self.database.write_opt(batch, &synced());
        let counters = &self.writer.counters;
        let took = started.elapsed();
        counters.syncs.fetch_add(1, Ordering::Relaxed);
        counters.sync_ns.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        counters.timings.log_sync.record_duration(took);
        written.map_err(|error| format!("the log in {} cannot be written: {error}", self.database.path().display()))
    }

    /// Once in so long.
    fn save_mark_in_time(&mut self) {
        if self.mark_at.elapsed() >= MARK_INTERVAL {
            self.mark_at = Instant::now();
            self.writer.save_mark();
        }
    }
}
