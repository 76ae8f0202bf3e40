//! Opens the database of a data directory: looks before RocksDB touches anything, and brings what an older release wrote to
//! the present format.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rocksdb::{ColumnFamilyDescriptor, DB, ErrorKind, IteratorMode};
use rustix::fs::FlockOperation;

use crate::database::{database_options, families, family, family_options, read_meta, write_meta};
use crate::durable_mark::{DurableMark, Mark};
use crate::failure::StartError;
use crate::format::{DATA_FORMAT, FORMAT_KEY, LOG, META, VOTE_KEY, VoteBytes};
use crate::history_upgrade;
use crate::log_chain::log_start;
use crate::{database_manifest, write_ahead_log};

/// The number of the column family of the log: RocksDB counts them from the default one, in the order of [`families`].
const LOG_FAMILY: u64 = 1;

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
    let database = Arc::new(open_alone(data)?);
    open.push((path, Arc::downgrade(&database)));
    Ok(database)
}

/// The same for who opens no other beside it, and may want to change it as a whole.
pub(crate) fn open_alone(data: &Path) -> Result<DB, StartError> {
    let path = data.join("db");
    look_before(data, &path)?;
    DB::open_cf_descriptors(&database_options(), &path, families()).map_err(|error| open_error(data, &path, error))
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
    let synced = database_manifest::check(path)?;
    let found = write_ahead_log::look(path, LOG_FAMILY, &synced)?;
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
    // Not history, which is missing where a program that wrote it again was cut off; it is made when the database is opened.
    let needed = [LOG, META].map(|name| ColumnFamilyDescriptor::new(name, family_options(name)));
    let opened = DB::open_cf_descriptors_read_only(&options, path, needed, false);
    let database = opened.map_err(|error| open_error(path, path, error))?;
    let purged = log_start(&database)?.next();
    let last = database.iterator_cf(family(&database, LOG), IteratorMode::End).next();
    let last = last.transpose().map_err(|error| StartError::damaged(path.display().to_string(), error))?;
    let end = last.and_then(|(key, _)| Some(u64::from_be_bytes(key.as_ref().try_into().ok()?) + 1));
    Ok(end.unwrap_or(0).max(purged))
}

/// What a directory of an older format needs to become one of the next: the format it is of, and the step. A step may be
/// cut off by a crash, so doing it again must be harmless.
type Upgrade = (u32, fn(&Path, &DB) -> Result<(), StartError>);

/// All steps, oldest first.
const UPGRADES: [Upgrade; 3] = [
    // Format 3 adds entries of a new kind (compensations) and the record of the format itself, and has snapshots of its own.
    (2, set_snapshots_aside),
    // Format 4 adds commands of a new kind and what a snapshot remembers of them; what format 3 wrote, it writes the same.
    (3, |_, _| Ok(())),
    // Format 5 has an order of history where its owner's orders stand.
    (4, |_, database| history_upgrade::move_orders(database)),
];

/// Brings what an older release wrote to [`DATA_FORMAT`]; refuses what a newer one wrote.
pub(crate) fn upgrade(data: &Path, database: &DB) -> Result<(), StartError> {
    let written_by = match read_meta::<u32>(database, FORMAT_KEY)? {
        Some(format) => format,
        // Format 2 did not say so; whoever voted has written something.
        None if read_meta::<VoteBytes>(database, VOTE_KEY)?.is_some() => 2,
        None => DATA_FORMAT,
    };
    let oldest = UPGRADES[0].0;
    if !(oldest..=DATA_FORMAT).contains(&written_by) {
        return Err(StartError::Format { path: database.path().to_owned(), found: written_by, oldest });
    }
    for (format, step) in UPGRADES.iter().filter(|(format, _)| *format >= written_by) {
        tracing::info!("upgrading {} from format {format}", database.path().display());
        step(data, database)?;
    }
    write_meta(database, FORMAT_KEY, &DATA_FORMAT)
}

/// The snapshots of format 2 cannot be read any more. While the log goes back to its beginning they are not needed.
fn set_snapshots_aside(data: &Path, database: &DB) -> Result<(), StartError> {
    let folder = data.join("snapshots");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StartError::disk(&folder, error)),
    };
    let snapshots: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "snapshot"))
        .collect();
    if !snapshots.is_empty() && log_start(database)?.log_id.is_some() {
        return Err(StartError::Failed(format!(
            "the log in {} starts behind a snapshot of data format 2, which this program cannot read. Nothing was changed; \
             start the release that wrote it",
            database.path().display()
        )));
    }
    for path in snapshots {
        std::fs::rename(&path, path.with_extension("format2")).map_err(|error| StartError::disk(&path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use openraft::alias::LeaderIdOf;

    use super::*;
    use crate::format::{Link, LogIdBytes, PURGED_KEY};
    use crate::record::{LogId, TypeConfig, Vote};

    #[test]
    fn a_directory_of_the_format_before_is_upgraded_and_one_of_the_format_after_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let database = open_database(folder.path()).unwrap();
        write_meta(&database, VOTE_KEY, &VoteBytes::from(&Vote::new(1, 1))).unwrap();
        std::fs::create_dir(folder.path().join("snapshots")).unwrap();
        std::fs::write(folder.path().join("snapshots/7.snapshot"), "of format 2").unwrap();
        upgrade(folder.path(), &database).unwrap();
        assert!(folder.path().join("snapshots/7.format2").exists());
        assert_eq!(read_meta::<u32>(&database, FORMAT_KEY).unwrap(), Some(DATA_FORMAT));
        upgrade(folder.path(), &database).unwrap();

        write_meta(&database, FORMAT_KEY, &(DATA_FORMAT + 1)).unwrap();
        let error = upgrade(folder.path(), &database).unwrap_err().to_string();
        assert!(error.contains("format 6"), "{error}");
        write_meta(&database, FORMAT_KEY, &1u32).unwrap();
        let error = upgrade(folder.path(), &database).unwrap_err().to_string();
        assert!(error.contains("format 1"), "{error}");
    }

    #[test]
    fn a_log_that_starts_behind_an_old_snapshot_is_not_upgraded() {
        let folder = tempfile::tempdir().unwrap();
        let database = open_database(folder.path()).unwrap();
        write_meta(&database, VOTE_KEY, &VoteBytes::from(&Vote::new(1, 1))).unwrap();
        let purged = LogId { leader_id: LeaderIdOf::<TypeConfig> { term: 1, node_id: 1 }, index: 7 };
        write_meta(&database, PURGED_KEY, &(LogIdBytes::from(&purged), Link::START)).unwrap();
        let snapshot = folder.path().join("snapshots/7.snapshot");
        std::fs::create_dir(folder.path().join("snapshots")).unwrap();
        std::fs::write(&snapshot, "of format 2").unwrap();
        let error = upgrade(folder.path(), &database).unwrap_err().to_string();
        assert!(error.contains("behind a snapshot of data format 2") && snapshot.exists(), "{error}");
    }
}
