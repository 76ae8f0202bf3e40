//! The disk under the log. A write takes its time and is there after it; a crash meanwhile leaves the whole of it or nothing, as
//! RocksDB's log does whose torn tail is cut off. A write may also fail, and then nobody knows which of the two it is.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::dice::Dice;
use super::faults::Bug;
use super::life::Life;
use crate::durable_mark::Mark;
use crate::format::{LOG, VOTE_KEY, check_log_entry, log_key};
use crate::log_chain::log_start;
use crate::log_disk::{LogDisk, Row};
use crate::log_writer::{Change, Job, MARK_INTERVAL, Writer};
use crate::queue::Receiver;
use crate::record::LogId;

/// What stands there survives its node.
pub(crate) struct Disk {
    pub node: u64,
    state: Mutex<State>,
}

struct State {
    bug: Bug,
    dice: Dice,
    frames: BTreeMap<u64, Vec<u8>>,
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    mark: u64,
    /// The write under way.
    unsynced: Vec<Change>,
    /// How long a write takes at most, in microseconds.
    slowest_us: u64,
    fails_next: bool,
    syncs: u64,
}

/// What a crash did to the write under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Torn {
    /// There was none.
    Nothing,
    /// It is there.
    Kept,
    /// A part of it got there, which counts for nothing.
    Cut,
}

impl Disk {
    pub(crate) fn new(node: u64, dice: Dice, bug: Bug) -> Arc<Disk> {
        let state = State {
            bug,
            dice,
            frames: BTreeMap::new(),
            records: BTreeMap::new(),
            mark: 0,
            unsynced: Vec::new(),
            slowest_us: QUICK_US,
            fails_next: false,
            syncs: 0,
        };
        Arc::new(Disk { node, state: Mutex::new(state) })
    }

    /// Writes that take up to so long, until told otherwise.
    pub(crate) fn set_slowest(&self, slowest: Option<Duration>) {
        self.state.lock().slowest_us = slowest.map_or(QUICK_US, |slowest| slowest.as_micros() as u64);
    }

    /// The next write fails.
    pub(crate) fn fail_next(&self) {
        self.state.lock().fails_next = true;
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// The power is gone.
    pub(crate) fn crash(&self) -> Torn {
        let mut state = self.state.lock();
        state.fails_next = false;
        if state.bug == Bug::ForgottenVote {
            state.records.remove(VOTE_KEY);
        }
        state.settle()
    }

    /// Nothing is wrong with it.
    pub(crate) fn mend(&self) {
        let mut state = self.state.lock();
        state.fails_next = false;
        state.slowest_us = QUICK_US;
    }

    /// Whether the entry is there, or gone into a snapshot.
    pub(crate) fn holds(&self, log_id: &LogId) -> bool {
        match self.frame(log_id.index) {
            Ok(Some(frame)) => check_log_entry(&frame).is_ok_and(|head| head.log_id == *log_id),
            _ => log_start(self).is_ok_and(|start| start.log_id.is_some_and(|purged| purged.index >= log_id.index)),
        }
    }

    pub(crate) fn mark(self: &Arc<Disk>) -> Box<dyn Mark> {
        Box::new(DiskMark { disk: self.clone(), entries: self.state.lock().mark })
    }

    /// Writes and syncs.
    async fn write(&self, changes: Vec<Change>) -> Result<(), String> {
        if changes.is_empty() {
            return Ok(());
        }
        let takes = {
            let mut state = self.state.lock();
            state.unsynced = changes;
            let slowest = state.slowest_us;
            Duration::from_micros(state.dice.within(50..slowest))
        };
        sleep(takes).await;
        let mut state = self.state.lock();
        if std::mem::take(&mut state.fails_next) {
            state.settle();
            return Err("the simulated disk failed".to_owned());
        }
        state.syncs += 1;
        let changes = std::mem::take(&mut state.unsynced);
        state.apply(changes);
        Ok(())
    }
}

/// How long a write takes at most where nothing is wrong: once in a while more than a tick of the clock.
const QUICK_US: u64 = 3_000;

impl State {
    fn settle(&mut self) -> Torn {
        let changes = std::mem::take(&mut self.unsynced);
        if changes.is_empty() {
            return Torn::Nothing;
        }
        if self.dice.once_in(2) {
            self.apply(changes);
            return Torn::Kept;
        }
        Torn::Cut
    }

    fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Frame(index, frame) => drop(self.frames.insert(index, frame)),
                Change::Record(key, bytes) => drop(self.records.insert(key.to_vec(), bytes)),
                Change::Truncate(from) => drop(self.frames.split_off(&from)),
            }
        }
    }
}

impl LogDisk for Disk {
    fn frames(&self, start: u64) -> Box<dyn Iterator<Item = Result<Row, String>> + '_> {
        let state = self.state.lock();
        let rows: Vec<_> = state.frames.range(start..).map(|(index, frame)| Ok(row(*index, frame))).collect();
        Box::new(rows.into_iter())
    }

    fn frame(&self, index: u64) -> Result<Option<Vec<u8>>, String> {
        Ok(self.state.lock().frames.get(&index).cloned())
    }

    fn record(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(self.state.lock().records.get(key).cloned())
    }

    fn bytes_after(&self, index: u64) -> u64 {
        self.state.lock().frames.range(index + 1..).map(|(_, frame)| frame.len() as u64).sum()
    }

    fn place(&self) -> String {
        format!("the simulated disk of node {} ({LOG})", self.node)
    }
}

fn row(index: u64, frame: &[u8]) -> Row {
    (log_key(index).into(), frame.into())
}

struct DiskMark {
    disk: Arc<Disk>,
    entries: u64,
}

impl Mark for DiskMark {
    fn entries(&self) -> u64 {
        self.entries
    }

    fn set(&mut self, entries: u64) -> io::Result<()> {
        self.entries = entries;
        self.disk.state.lock().mark = entries;
        Ok(())
    }
}

/// What the thread log-writer does with RocksDB, with this disk.
pub(crate) async fn write_to(disk: Arc<Disk>, mut writer: Writer, queue: Receiver<Job>, life: Arc<Life>) {
    let reader = life.reader();
    let mut mark_at = Instant::now();
    loop {
        let Ok(job) = queue.try_recv() else {
            let lag = async {
                match writer.mark_lags() {
                    true => tokio::time::sleep_until(mark_at + MARK_INTERVAL).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = reader.notified() => {}
                () = lag => {
                    mark_at = Instant::now();
                    writer.save_mark();
                }
            }
            continue;
        };
        let mut group = writer.gather(job, &queue);
        let (stop, purged) = (group.stop, group.purged);
        let changes = std::mem::take(&mut group.changes);
        let result = match writer.before(&group) {
            Ok(()) if life.bug == Bug::AckBeforeSync => {
                writer.after(group, Ok(()));
                let _ = disk.write(changes).await;
                continue;
            }
            Ok(()) => disk.write(changes).await,
            Err(reason) => Err(reason),
        };
        if let (Ok(()), Some(purged)) = (&result, purged) {
            let mut state = disk.state.lock();
            state.frames = state.frames.split_off(&(purged + 1));
        }
        writer.after(group, result);
        if mark_at.elapsed() >= MARK_INTERVAL {
            mark_at = Instant::now();
            writer.save_mark();
        }
        if stop {
            break;
        }
    }
}
