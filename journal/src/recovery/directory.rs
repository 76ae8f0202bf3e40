//! A data directory, opened to be read beside a running node, or to be changed where there is none.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rocksdb::{DB, ErrorKind};
use rustix::fs::FlockOperation;

use super::fault::{Damage, REBUILD, RESTORE, RecoveryError, open_if_there};
use crate::database::{database_options, families, family, read_meta};
use crate::durable_mark;
use crate::failure::StartError;
use crate::format::{BOOT_KEY, DATA_FORMAT, FORMAT_KEY, HISTORY, VOTE_KEY, VoteBytes};
use crate::log_chain::{Point, entry_place, log_start};
use crate::opening::{open_alone, upgrade};
use crate::record::Vote;
use crate::{database_manifest, open_files, write_ahead_log};

/// For how long a directory that a node changes under our eyes is opened again, and how soon.
const ATTEMPTS_MAX: Duration = Duration::from_secs(30);
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(5);

/// An opened data directory.
pub struct Directory {
    data: PathBuf,
    database: Option<Arc<DB>>,
    /// The entries before it were durable when the directory was opened.
    mark: Result<u64, Damage>,
    is_running: bool,
    scratch: Option<PathBuf>,
}

impl Directory {
    /// To be read, also while a node runs on it: then what is seen is what was there when it was opened, or a little more.
    pub fn read(data: &Path) -> Result<Directory, RecoveryError> {
        check_there(data)?;
        let is_running = is_owned(data)?;
        // The mark first: the log can then only be longer.
        let mut mark = read_mark(data);
        let (database, scratch) = if is_running {
            let begun = Instant::now();
            loop {
                if let Some((database, scratch)) = open_beside(data)? {
                    break (database, Some(scratch));
                }
                if begun.elapsed() > ATTEMPTS_MAX {
                    let files = data.join("db").display().to_string();
                    let reason =
                        format!("the node changes the files in {files} faster than they can be opened; try again");
                    return Err(RecoveryError::Refused(reason));
                }
                std::thread::sleep(ATTEMPT_INTERVAL);
                mark = read_mark(data);
            }
        } else {
            (open_to_read(data)?, None)
        };
        let directory =
            Directory { data: data.to_owned(), database: Some(Arc::new(database)), mark, is_running, scratch };
        directory.check_format()?;
        Ok(directory)
    }

    /// To be changed; refused while a node runs on it.
    pub fn write(data: &Path) -> Result<Directory, RecoveryError> {
        check_there(data)?;
        if is_owned(data)? {
            return Err(RecoveryError::InUse(data.to_owned()));
        }
        let mark = read_mark(data);
        let database = open_alone(data)?;
        upgrade(data, &database)?;
        Ok(Directory {
            data: data.to_owned(),
            database: Some(Arc::new(database)),
            mark,
            is_running: false,
            scratch: None,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.data
    }

    /// Whether a node ran on it when it was opened.
    pub fn is_running(&self) -> bool {
        self.is_running
    }

    pub(crate) fn database(&self) -> &DB {
        self.database.as_ref().expect("it is open until it is dropped")
    }

    /// The database, for who writes to it on a thread of its own.
    pub(crate) fn shared_database(&self) -> Arc<DB> {
        self.database.clone().expect("it is open until it is dropped")
    }

    /// The database, to change its column families; nobody else may have it.
    pub(crate) fn database_mut(&mut self) -> Option<&mut DB> {
        self.database.as_mut().and_then(Arc::get_mut)
    }

    /// One that is open already: of a directory that is being made.
    pub(crate) fn of(data: &Path, database: Arc<DB>, mark: u64) -> Directory {
        Directory { data: data.to_owned(), database: Some(database), mark: Ok(mark), is_running: false, scratch: None }
    }

    /// The entries before this one were durable.
    pub(crate) fn mark(&self) -> Result<u64, Damage> {
        self.mark.clone()
    }

    /// Where the log begins: behind what was purged.
    pub(crate) fn log_start(&self) -> Result<Point, RecoveryError> {
        Ok(log_start(self.database())?)
    }

    pub(crate) fn vote(&self) -> Result<Option<Vote>, RecoveryError> {
        Ok(read_meta::<VoteBytes>(self.database(), VOTE_KEY)?.map(Vote::from))
    }

    pub(crate) fn boot(&self) -> Result<u64, RecoveryError> {
        Ok(read_meta::<u64>(self.database(), BOOT_KEY)?.unwrap_or(0))
    }

    /// The format that the directory says it is of; format 2 did not say so.
    pub(crate) fn format(&self) -> Result<u32, RecoveryError> {
        Ok(read_meta::<u32>(self.database(), FORMAT_KEY)?.unwrap_or(2))
    }

    fn check_format(&self) -> Result<(), RecoveryError> {
        // A record that is damaged is for `verify` to name.
        let Ok(found) = self.format() else { return Ok(()) };
        if found <= DATA_FORMAT {
            return Ok(());
        }
        Err(RecoveryError::Refused(format!(
            "{} is of data format {found}; this program reads up to {DATA_FORMAT}",
            self.data.display()
        )))
    }

    /// How an entry of the log is named.
    pub(crate) fn entry_place(&self, index: u64) -> String {
        entry_place(self.database(), index)
    }

    /// The column family of that name.
    pub(crate) fn family(&self, name: &str) -> &rocksdb::ColumnFamily {
        family(self.database(), name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.database = None;
        if let Some(scratch) = &self.scratch {
            // What is left there is a log of RocksDB's, of use to nobody.
            let _ = std::fs::remove_dir_all(scratch);
        }
    }
}

pub(crate) fn check_there(data: &Path) -> Result<(), RecoveryError> {
    if !data.join("db").is_dir() {
        return Err(RecoveryError::NoDirectory(data.to_owned()));
    }
    // Without it RocksDB would see an empty directory and could make a new database over the old files.
    let current = data.join("db").join("CURRENT");
    if open_if_there(&current)?.is_none() {
        return Err(Damage::new(current.display().to_string(), "it is missing", RESTORE).into());
    }
    Ok(())
}

/// Whether a process has RocksDB's lock. Asked before anything is opened here: closing any handle on the lock file would
/// give up a lock of our own.
pub(crate) fn is_owned(data: &Path) -> Result<bool, RecoveryError> {
    let path = data.join("db").join("LOCK");
    let Some(file) = open_if_there(&path)? else { return Ok(false) };
    match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            let _ = rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingUnlock);
            Ok(false)
        }
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => Ok(true),
        Err(error) => Err(RecoveryError::disk(&path, error)),
    }
}

fn read_mark(data: &Path) -> Result<u64, Damage> {
    let place = || data.join("durable").display().to_string();
    match durable_mark::read(data) {
        Ok(Some(entries)) => Ok(entries),
        Ok(None) => Err(Damage::new(place(), "it is missing", MARK)),
        Err(StartError::Damaged { what, .. }) => Err(Damage::new(place(), what, MARK)),
        Err(error) => Err(Damage::new(place(), error, MARK)),
    }
}

/// What to do about a lost or damaged mark.
const MARK: &str = "restore the data directory from a backup: without the mark nobody can tell a torn tail from a log \
     that lost entries";

fn opening(data: &Path, error: rocksdb::Error) -> RecoveryError {
    let path = data.join("db");
    let text = error.as_ref();
    if error.kind() == ErrorKind::IOError && text.contains("lock") {
        return RecoveryError::InUse(data.to_owned());
    }
    let missing = text.contains("No such file") || text.contains("does not exist") || text.contains("missing");
    if missing || matches!(error.kind(), ErrorKind::Corruption | ErrorKind::InvalidArgument | ErrorKind::NotFound) {
        return Damage::new(path.display().to_string(), text, RESTORE).into();
    }
    RecoveryError::disk(&path, text)
}

/// Of a stopped node: nothing is written, not even what recovery would.
fn open_to_read(data: &Path) -> Result<DB, RecoveryError> {
    let path = data.join("db");
    database_manifest::check(&path)?;
    write_ahead_log::check_readable(&path)?;
    let mut options = database_options();
    options.create_if_missing(false);
    options.create_missing_column_families(false);
    let there = DB::list_cf(&options, &path).map_err(|error| opening(data, error))?;
    if !there.iter().any(|name| name == HISTORY) {
        let place = format!("column family `{HISTORY}` in {}", path.display());
        return Err(Damage::new(place, "history was dropped and not written again", REBUILD).into());
    }
    DB::open_cf_descriptors_read_only(&options, path, families(), false).map_err(|error| opening(data, error))
}

/// Beside a running node: RocksDB's secondary mode reads the files of the owner, but for the write-ahead log, of which it gets a
/// copy, and keeps its own notes elsewhere. None where files came or went meanwhile: what was seen does not belong together.
fn open_beside(data: &Path) -> Result<Option<(DB, PathBuf)>, RecoveryError> {
    static OPENED: AtomicU64 = AtomicU64::new(0);
    let number = OPENED.fetch_add(1, Ordering::Relaxed);
    let scratch = std::env::temp_dir().join(format!("rialto-journal-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(|error| RecoveryError::disk(&scratch, error))?;
    let path = data.join("db");
    // What cannot be read is for RocksDB to name.
    let extent = || database_manifest::extent(&path).ok();
    let before = extent();
    let opened = open_with_copy(data, &scratch);
    let moved = extent() != before;
    if moved || opened.is_err() {
        let _ = std::fs::remove_dir_all(&scratch);
    }
    if moved { Ok(None) } else { opened.map(|database| Some((database, scratch))) }
}

fn open_with_copy(data: &Path, scratch: &Path) -> Result<DB, RecoveryError> {
    let path = data.join("db");
    write_ahead_log::copy(&path, scratch)?;
    let mut options = database_options();
    options.create_if_missing(false);
    options.create_missing_column_families(false);
    // The manifest knows the files as the owner has them.
    options.set_track_and_verify_wals_in_manifest(false);
    options.set_wal_dir(scratch);
    // All files are held open, so that those the owner removes stay readable.
    open_files::raise();
    options.set_max_open_files(-1);
    DB::open_cf_descriptors_as_secondary(&options, path, scratch.to_owned(), families())
        .map_err(|error| opening(data, error))
}
