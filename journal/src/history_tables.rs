//! The thread that writes history's tables. It alone does: those who file and those who build snapshots give way to orders, and
//! RocksDB lets nobody write, the log neither, while it takes a table over.

use std::io;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use rocksdb::DB;

use crate::failure::Failure;
use crate::recent_rows::RecentRows;

/// Requests that may wait; more wait to be asked.
const QUEUE_MAX: usize = 64;

/// The recent rows, and the way to have them written. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HistoryTables {
    pub recent: Arc<RecentRows>,
    database: Weak<DB>,
    requests: Sender<Request>,
}

enum Request {
    /// If a table is due.
    IfDue,
    /// Whatever there is; the result goes there.
    All(Sender<io::Result<()>>),
    Stop,
}

/// The thread; it ends when this is dropped.
pub(crate) struct Running {
    requests: Sender<Request>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already when this fails, and has said so itself if that was a panic.
        let _ = self.requests.send(Request::Stop);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl HistoryTables {
    /// Starts the thread, over no rows.
    pub(crate) fn start(database: Arc<DB>, failure: &Failure) -> (HistoryTables, Running) {
        let (tables, queue) = HistoryTables::new(&database);
        let (recent, failing) = (tables.recent.clone(), failure.clone());
        let thread = failure.spawn("history-table", move || run(&queue, &database, &recent, &failing));
        let running = Running { requests: tables.requests.clone(), thread: Some(thread) };
        (tables, running)
    }

    /// Without a thread: whoever asks for a table writes it.
    #[cfg(test)]
    pub(crate) fn without_thread(database: &Arc<DB>) -> HistoryTables {
        HistoryTables::new(database).0
    }

    fn new(database: &Arc<DB>) -> (HistoryTables, Receiver<Request>) {
        let (requests, queue) = crossbeam_channel::bounded(QUEUE_MAX);
        (HistoryTables { recent: Arc::default(), database: Arc::downgrade(database), requests }, queue)
    }

    /// A table is due: it is written soon.
    pub(crate) fn is_due(&self) {
        // Who has so much to do comes to it anyway.
        let _ = self.requests.try_send(Request::IfDue);
    }

    /// Writes all that is recent to a table; it is on the disk when this returns.
    pub(crate) fn write(&self) -> io::Result<()> {
        if self.recent.is_empty() {
            return Ok(());
        }
        let (told, result) = crossbeam_channel::bounded(1);
        if self.requests.send(Request::All(told)).is_ok()
            && let Ok(written) = result.recv()
        {
            return written;
        }
        // The thread has ended.
        let database = self.database.upgrade().ok_or_else(|| io::Error::other("the database is closed"))?;
        self.recent.write_table(&database)
    }
}

fn run(queue: &Receiver<Request>, database: &DB, recent: &RecentRows, failure: &Failure) {
    for request in queue {
        match request {
            Request::IfDue if !recent.is_due() => {}
            Request::IfDue => {
                if let Err(error) = recent.write_table(database) {
                    failure.report(format!("history in {} cannot be written: {error}", database.path().display()));
                    return;
                }
            }
            Request::All(told) => {
                let _ = told.send(recent.write_table(database));
            }
            Request::Stop => return,
        }
    }
}
