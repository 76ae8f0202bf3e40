//! Why a node does not start, and why it cannot go on.
//!
//! What the disk did to a failed write is unknown, so nothing is ever tried again: the first failure stops the node.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use engine::Sequence;
use tokio::sync::watch;

use crate::format::DATA_FORMAT;

/// What to do about a damaged file; there is nothing to repair from on a single node.
const REMEDY: &str = "Nothing was replayed or changed. Restore the data directory from a backup, \
or start this node on an empty directory as a member of a healthy cluster";

/// What to do about damaged history: it follows from the log.
pub(crate) const HISTORY_REMEDY: &str = "What is traded is not touched by this. Stop the node and write history again from the log: \
rialto journal rebuild-history";

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has the directory.
    #[error("another process owns the data directory {}; stop it first", .0.display())]
    Locked(PathBuf),
    /// The directory was copied here.
    #[error(
        "{path} is a copy of a data directory. If it is older than the original, starting it would lose what was acknowledged \
         since. If that is meant (a restore, a move to another disk): rialto journal adopt --data {path}",
        path = .0.display()
    )]
    Copied(PathBuf),
    /// What is on disk is not what was written.
    #[error("{place} is damaged: {what}. {REMEDY}")]
    Damaged {
        /// The file, or the column family and the key.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// History lacks what it had, and the log does not reach back far enough to write it again from a snapshot that is kept.
    #[error(
        "history ends at sequence {filed}, before the oldest snapshot that the log continues, {}: it has lost what it had. {}",
        path.display(), HISTORY_REMEDY
    )]
    HistoryLost {
        /// The snapshot.
        path: PathBuf,
        /// The last sequence that history holds.
        filed: Sequence,
    },
    /// Another release wrote it.
    #[error(
        "{} is of data format {found}; this program reads {oldest} to {}. Start the release that wrote it, or one between",
        path.display(), DATA_FORMAT
    )]
    Format {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The oldest format that can be upgraded.
        oldest: u32,
    },
    /// What this node did differs from what the others of its cluster did.
    #[error("{reason} (the mark is {})", mark.display())]
    Fenced {
        /// The file that says so.
        mark: PathBuf,
        /// What it says.
        reason: String,
    },
    /// The disk refused.
    #[error("{}: {error}", path.display())]
    Disk {
        /// What was opened, read or written.
        path: PathBuf,
        /// What the system said.
        error: String,
    },
    /// Something broke on the way.
    #[error("{0}")]
    Failed(String),
}

impl StartError {
    pub(crate) fn disk(path: &Path, error: impl std::fmt::Display) -> StartError {
        StartError::Disk { path: path.to_owned(), error: error.to_string() }
    }

    pub(crate) fn damaged(place: impl Into<String>, what: impl std::fmt::Display) -> StartError {
        StartError::Damaged { place: place.into(), what: what.to_string() }
    }
}

/// The first thing that made this node unable to go on. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Failure {
    reason: Arc<watch::Sender<Option<String>>>,
}

impl Failure {
    pub(crate) fn new() -> Failure {
        Failure { reason: Arc::new(watch::Sender::new(None)) }
    }

    /// Records why the node cannot go on; only the first reason counts, the others follow from it.
    pub(crate) fn report(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.reason.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                tracing::error!("this node cannot go on: {reason}");
                *first = Some(reason);
            }
            is_first
        });
    }

    /// The reason, if there is one.
    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.borrow().clone()
    }

    /// Waits for a reason.
    pub(crate) async fn wait(&self) -> String {
        let mut reason = self.reason.subscribe();
        let found = reason.wait_for(Option::is_some).await.expect("the sender lives in self");
        found.clone().expect("waited for it")
    }

    /// Reports a panic of whoever holds it.
    pub(crate) fn watch<D: Fn() -> String>(&self, describe: D) -> Watched<D> {
        Watched { failure: self.clone(), describe }
    }

    /// A thread of that name whose panic is a failure of the node.
    pub(crate) fn spawn(&self, name: &'static str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
        self.spawn_described(name, move || format!("the thread {name} panicked"), body)
    }

    /// The same, where more can be said about a panic.
    pub(crate) fn spawn_described(
        &self,
        name: &'static str,
        describe: impl Fn() -> String + Send + 'static,
        body: impl FnOnce() + Send + 'static,
    ) -> JoinHandle<()> {
        let watched = self.watch(describe);
        let run = move || {
            let _watched = watched;
            body();
        };
        std::thread::Builder::new().name(name.into()).spawn(run).expect("the system has threads to give")
    }
}

/// Reports a panic of whoever holds it.
pub(crate) struct Watched<D: Fn() -> String> {
    failure: Failure,
    describe: D,
}

impl<D: Fn() -> String> Drop for Watched<D> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failure.report((self.describe)());
        }
    }
}
