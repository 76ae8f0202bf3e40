//! The RocksDB database of a node: its settings, each chosen on purpose, its opening, and the few records of meta.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, ErrorKind, IteratorMode, Options,
    WriteOptions,
};
use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::durable_mark::DurableMark;
use crate::failure::StartError;
use crate::format::{BOOT_KEY, DATA_FORMAT, FORMAT_KEY, HISTORY, LOG, META, VOTE_KEY, open, seal};
use crate::log_chain::log_start;
use crate::write_ahead_log;

/// RocksDB's write-ahead log is kept below this: what a start has to read again before the log itself is looked at.
const WRITE_AHEAD_LOG_BYTES_MAX: u64 = 256 << 20;

/// The number of the column family of the log: RocksDB counts them from the default one, in the order of [`families`].
const LOG_FAMILY: u32 = 1;

/// Opens the database in `data`, or makes it; it locks the directory against other processes. An open that RocksDB refuses
/// half way may have changed the files already, so what can be looked at before is looked at before.
pub(crate) fn open_database(data: &Path) -> Result<Arc<DB>, StartError> {
    // The databases that this process has open. Asking for the lock of one of these would give it up.
    static OPEN: Mutex<Vec<(PathBuf, Weak<DB>)>> = Mutex::new(Vec::new());
    let path = data.join("db");
    let mut open = OPEN.lock();
    open.retain(|(_, database)| database.strong_count() > 0);
    if open.iter().any(|(other, _)| *other == path) {
        return Err(StartError::Locked(data.to_owned()));
    }
    look_before(data, &path)?;
    let opened = DB::open_cf_descriptors(&database_options(), &path, families());
    let database = Arc::new(opened.map_err(|error| open_error(data, &path, error))?);
    open.push((path, Arc::downgrade(&database)));
    Ok(database)
}

fn open_error(data: &Path, path: &Path, error: rocksdb::Error) -> StartError {
    match error.kind() {
        ErrorKind::IOError if error.as_ref().contains("lock") => StartError::Locked(data.to_owned()),
        // A file that another file says is there.
        ErrorKind::IOError if error.as_ref().contains("No such file") => {
            StartError::damaged(path.display().to_string(), error)
        }
        ErrorKind::Corruption | ErrorKind::NotFound | ErrorKind::InvalidArgument => {
            StartError::damaged(path.display().to_string(), error)
        }
        _ => StartError::disk(path, error),
    }
}

/// Refuses what is damaged, changing nothing; then cuts off a torn tail.
fn look_before(data: &Path, path: &Path) -> Result<(), StartError> {
    let mark = DurableMark::open(data)?.map_or(0, |mark| mark.entries());
    let current = path.join("CURRENT");
    if !current.exists() {
        // RocksDB would make a new database, and throw away what it finds of the old one.
        let holds = |folder: &Path| std::fs::read_dir(folder).is_ok_and(|entries| entries.count() > 0);
        let manifest = |folder: &Path| {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("MANIFEST"))
        };
        if mark > 0 || (holds(path) && manifest(path)) {
            return Err(StartError::damaged(current.display().to_string(), "it is missing"));
        }
        return Ok(());
    }
    let lock = path.join("LOCK");
    if let Ok(file) = File::open(&lock) {
        match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                return Err(StartError::Locked(data.to_owned()));
            }
            // Given up as the file is closed; RocksDB asks for it itself.
            Ok(()) => {}
            Err(error) => return Err(StartError::disk(&lock, error)),
        }
    }
    let found = write_ahead_log::look(path, LOG_FAMILY)?;
    let mut end = found.last_index.map_or(0, |last| last.saturating_add(1));
    if end < mark {
        // The end may be in a table already.
        end = end_of_log(path)?;
    }
    if end < mark {
        let what = format!("the log ends before it, yet the entries before {mark} were durable");
        return Err(StartError::damaged(format!("entry {end} of column family `{LOG}` in {}", path.display()), what));
    }
    found.mend()
}

/// One more than the last index in a log of which nothing is in the write-ahead log any more.
fn end_of_log(path: &Path) -> Result<u64, StartError> {
    let mut options = database_options();
    options.create_if_missing(false);
    options.create_missing_column_families(false);
    let opened = DB::open_cf_descriptors_read_only(&options, path, families(), false);
    let database = opened.map_err(|error| open_error(path, path, error))?;
    let purged = log_start(&database)?.next();
    let last = database.iterator_cf(family(&database, LOG), IteratorMode::End).next();
    let last = last.transpose().map_err(|error| StartError::damaged(path.display().to_string(), error))?;
    let end = last.and_then(|(key, _)| Some(u64::from_be_bytes(key.as_ref().try_into().ok()?) + 1));
    Ok(end.unwrap_or(0).max(purged))
}

/// The column families, each with its options.
pub(crate) fn families() -> [ColumnFamilyDescriptor; 3] {
    [LOG, META, HISTORY].map(|name| ColumnFamilyDescriptor::new(name, family_options(name)))
}

/// What holds for all of the database.
pub(crate) fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    // A torn tail is dropped, anything wrong before it refuses to open; the default would silently drop all that
    // follows. In this mode RocksDB cannot recycle its files (it could not tell an old record from a torn one).
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_recycle_log_file_num(0);
    // A file of the write-ahead log that is missing, or shorter than when it was last synced, refuses to open.
    options.set_track_and_verify_wals_in_manifest(true);
    // History's batches, which are not logged, go to memory while the log's batch is being synced.
    options.set_enable_pipelined_write(true);
    options.set_max_background_jobs(2);
    // What is flushed and compacted goes to the disk as it is written; one sync of a whole file would have the syncs of the
    // write-ahead log wait behind it.
    options.set_bytes_per_sync(512 << 10);
    options.set_max_total_wal_size(WRITE_AHEAD_LOG_BYTES_MAX);
    options.set_keep_log_file_num(4);
    options
}

pub(crate) fn family_options(name: &str) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(64 << 20);
    options.set_max_write_buffer_number(4);
    if name == HISTORY {
        options.set_compression_type(DBCompressionType::Lz4);
    } else {
        options.set_compression_type(DBCompressionType::None);
        // The log is written in the order of its keys and dropped by whole files, so a file, once flushed, is only ever
        // moved from level to level, never written again: no age may force that.
        options.set_periodic_compaction_seconds(0);
        options.set_ttl(0);
    }
    options
}

/// The column family `name`, which [`open_database`] made.
pub(crate) fn family<'a>(database: &'a DB, name: &str) -> &'a ColumnFamily {
    database.cf_handle(name).expect("opened with it")
}

/// Writes so that it is on the disk when the call returns.
pub(crate) fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

/// A record of meta.
pub(crate) fn read_meta<T: DeserializeOwned>(database: &DB, key: &[u8]) -> Result<Option<T>, StartError> {
    let name =
        || format!("key `{}` of column family `{META}` in {}", String::from_utf8_lossy(key), database.path().display());
    let found = database.get_cf(family(database, META), key).map_err(|error| StartError::damaged(name(), error))?;
    found.map(|bytes| open(&bytes)).transpose().map_err(|error| StartError::damaged(name(), error))
}

fn write_meta(database: &DB, key: &[u8], value: &impl Serialize) -> Result<(), StartError> {
    let written = database.put_cf_opt(family(database, META), key, seal(value), &synced());
    written.map_err(|error| StartError::disk(database.path(), error))
}

/// Counts this start, durably; no two starts of a node have the same number.
pub(crate) fn count_boot(database: &DB) -> Result<u64, StartError> {
    let boot = read_meta::<u64>(database, BOOT_KEY)?.unwrap_or(0) + 1;
    write_meta(database, BOOT_KEY, &boot).map(|()| boot)
}

/// What a directory of an older format needs to become one of the next: the format it is of, and the step. A step may be
/// cut off by a crash, so doing it again must be harmless.
type Upgrade = (u32, fn(&DB) -> Result<(), StartError>);

/// All steps, oldest first.
const UPGRADES: [Upgrade; 1] = [
    // Format 3 adds entries of a new kind (compensations) and the record of the format itself; nothing is rewritten.
    (2, |_| Ok(())),
];

/// Brings what an older release wrote to [`DATA_FORMAT`]; refuses what a newer one wrote.
pub(crate) fn upgrade(database: &DB) -> Result<(), StartError> {
    let written_by = match read_meta::<u32>(database, FORMAT_KEY)? {
        Some(format) => format,
        // Format 2 did not say so; whoever voted has written something.
        None if read_meta::<crate::format::VoteBytes>(database, VOTE_KEY)?.is_some() => 2,
        None => DATA_FORMAT,
    };
    let oldest = UPGRADES[0].0;
    if !(oldest..=DATA_FORMAT).contains(&written_by) {
        return Err(StartError::Format { path: database.path().to_owned(), found: written_by, oldest });
    }
    for (format, step) in UPGRADES.iter().filter(|(format, _)| *format >= written_by) {
        tracing::info!("upgrading {} from format {format}", database.path().display());
        step(database)?;
    }
    write_meta(database, FORMAT_KEY, &DATA_FORMAT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::VoteBytes;
    use crate::record::Vote;

    #[test]
    fn a_directory_of_the_format_before_is_upgraded_and_one_of_the_format_after_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let database = open_database(folder.path()).unwrap();
        write_meta(&database, VOTE_KEY, &VoteBytes::from(&Vote::new(1, 1))).unwrap();
        upgrade(&database).unwrap();
        assert_eq!(read_meta::<u32>(&database, FORMAT_KEY).unwrap(), Some(DATA_FORMAT));
        upgrade(&database).unwrap();

        write_meta(&database, FORMAT_KEY, &(DATA_FORMAT + 1)).unwrap();
        let error = upgrade(&database).unwrap_err().to_string();
        assert!(error.contains("format 4"), "{error}");
        write_meta(&database, FORMAT_KEY, &1u32).unwrap();
        let error = upgrade(&database).unwrap_err().to_string();
        assert!(error.contains("format 1"), "{error}");
    }
}
