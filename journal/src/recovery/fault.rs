//! What can be wrong: with what is on disk, and with what was asked.

use std::io;
use std::path::{Path, PathBuf};

use engine::{Command, Sequence, Time};

use crate::failure::StartError;

/// What is not as it was written: where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, or the column family and the key.
    pub place: String,
    /// The command from which on it matters, where that is known.
    pub sequence: Option<Sequence>,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub remedy: &'static str,
}

/// What to do about a damaged log, which nothing on the same disk can mend.
pub(crate) const RESTORE: &str = "restore the data directory from a backup (rialto journal restore)";
/// What to do about a damaged snapshot while the log reaches further back.
pub(crate) const DROP_SNAPSHOT: &str = "move the file away: the node starts from the snapshot before it, or from the log's beginning; then write a new one (rialto journal snapshot)";
/// What to do about damaged history.
pub(crate) const REBUILD: &str = "stop the node and write history again from the log (rialto journal rebuild-history)";
/// What to do about a damaged backup.
pub(crate) const BACK_UP_ANEW: &str = "keep the directory for later study and begin a new backup in an empty one";

impl Damage {
    pub(crate) fn new(place: impl Into<String>, what: impl std::fmt::Display, remedy: &'static str) -> Damage {
        Damage { place: place.into(), sequence: None, what: what.to_string(), remedy }
    }

    pub(crate) fn at(self, sequence: Sequence) -> Damage {
        Damage { sequence: Some(sequence), ..self }
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is damaged: {}", self.place, self.what)?;
        if let Some(sequence) = self.sequence {
            write!(f, " (from sequence {sequence} on)")?;
        }
        write!(f, ". What to do: {}", self.remedy)
    }
}

/// A command that makes the engine panic.
#[derive(Clone, Debug)]
pub struct Poison {
    /// Which one.
    pub sequence: Sequence,
    /// When.
    pub time: Time,
    /// What it asks.
    pub command: Command,
    /// What the engine said.
    pub message: String,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// There is no data there.
    #[error("{} is not a data directory: there is no {}", .0.display(), .0.join("db").display())]
    NoDirectory(PathBuf),
    /// A node runs on it.
    #[error("a running node owns the data directory {}; stop it first", .0.display())]
    InUse(PathBuf),
    /// What is on disk is not what was written.
    #[error("{0}")]
    Damaged(Damage),
    /// What was asked for is not there.
    #[error("{0}")]
    NotThere(String),
    /// It would do harm.
    #[error("{0}")]
    Refused(String),
    /// The engine cannot get past a command.
    #[error(
        "command {} makes the engine panic: {}. What to do: rialto journal compensate --sequence {}",
        .0.sequence, .0.message, .0.sequence
    )]
    Poisoned(Box<Poison>),
    /// Who watched the replay ended it.
    #[error("stopped")]
    Stopped,
    /// The system refused.
    #[error("{}: {error}", path.display())]
    Disk {
        /// What was opened, read or written.
        path: PathBuf,
        /// What the system said.
        error: String,
    },
}

impl RecoveryError {
    pub(crate) fn disk(path: &Path, error: impl std::fmt::Display) -> RecoveryError {
        RecoveryError::Disk { path: path.to_owned(), error: error.to_string() }
    }
}

impl From<Damage> for RecoveryError {
    fn from(damage: Damage) -> RecoveryError {
        RecoveryError::Damaged(damage)
    }
}

impl From<StartError> for RecoveryError {
    fn from(error: StartError) -> RecoveryError {
        match error {
            StartError::Locked(data) => RecoveryError::InUse(data),
            StartError::Damaged { place, what } => Damage::new(place, what, RESTORE).into(),
            StartError::Disk { path, error } => RecoveryError::Disk { path, error },
            other => RecoveryError::Refused(other.to_string()),
        }
    }
}

/// Makes what was written in a directory, and the file itself, outlive a power cut.
pub(crate) fn sync_directory(path: &Path) -> Result<(), RecoveryError> {
    let synced = std::fs::File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| RecoveryError::disk(path, error))
}

/// A file that must be there; `None` when it is not.
pub(crate) fn open_if_there(path: &Path) -> Result<Option<std::fs::File>, RecoveryError> {
    match std::fs::File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RecoveryError::disk(path, error)),
    }
}
