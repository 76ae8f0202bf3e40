//! Files of the purged log leave the database, on a thread of their own that gives way: to remove a file can keep the disk busy for tens
//! of milliseconds, and a purge can be of dozens of them, which the syncs of the log must not wait for.

use std::sync::{Arc, Weak};
use std::thread::Builder;
use std::time::Duration;

use rocksdb::DB;

use crate::database::family;
use crate::format::{LOG, log_key};
use crate::runtime;

/// Between two files.
const REST: Duration = Duration::from_millis(100);

/// Drops the files that hold no entry behind `purged`. What shares a file with later ones stays until that file goes:
/// the log starts behind the mark in meta, whatever stands before it. No tombstones, so nothing is ever compacted.
pub(crate) fn drop_files(database: &Arc<DB>, purged: u64) {
    let database = Arc::downgrade(database);
    let run = move || {
        runtime::give_way(runtime::NICENESS_MAX);
        drop_one_by_one(&database, purged);
    };
    if let Err(error) = Builder::new().name("log-purge".into()).spawn(run) {
        tracing::warn!("files of the purged log stay until the next purge: {error}");
    }
}

/// The database is let go between two files, so that a stopping node does not wait for them.
fn drop_one_by_one(database: &Weak<DB>, purged: u64) {
    let purged = log_key(purged);
    let mut done: Option<Vec<u8>> = None;
    while let Some(database) = database.upgrade() {
        let log = family(&database, LOG);
        let files = database.live_files().unwrap_or_default().into_iter().filter(|file| file.column_family_name == LOG);
        let ends = files.filter_map(|file| file.end_key);
        let left = ends.filter(|end| end[..] <= purged[..] && done.as_ref().is_none_or(|done| end > done));
        let Some(end) = left.min() else { break };
        if let Err(error) = database.delete_file_in_range_cf(log, &log_key(0)[..], &end) {
            tracing::warn!("files of the purged log in {} stay: {error}", database.path().display());
            break;
        }
        done = Some(end);
        drop(database);
        std::thread::sleep(REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opening::open_database;

    #[test]
    fn files_of_nothing_but_purged_entries_go_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let database = open_database(folder.path()).unwrap();
        let log = family(&database, LOG);
        for file in 0..5 {
            (0..10).for_each(|at| database.put_cf(log, log_key(10 * file + at), b"entry").unwrap());
            database.flush_cf(log).unwrap();
        }
        // Only files that have left the first level can be dropped.
        database.compact_range_cf(log, None::<&[u8]>, None::<&[u8]>);
        let first_left = || {
            let files = database.live_files().unwrap().into_iter().filter(|file| file.column_family_name == LOG);
            files.filter_map(|file| file.start_key).min().unwrap()
        };
        let weak = Arc::downgrade(&database);
        drop_one_by_one(&weak, 8);
        assert_eq!(first_left(), log_key(0));
        drop_one_by_one(&weak, 25);
        assert_eq!(first_left(), log_key(20));
        drop_one_by_one(&weak, 39);
        assert_eq!(first_left(), log_key(40));
        assert!((40..50).all(|index| database.get_cf(log, log_key(index)).unwrap().is_some()));
    }
}
