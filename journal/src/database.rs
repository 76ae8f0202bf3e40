//! The RocksDB database of a node: its settings, each chosen on purpose, and the few records of meta.

use rocksdb::{ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Options, WriteOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::StartError;
use crate::format::{BOOT_KEY, HISTORY, LOG, META, seal};
use crate::log_disk::read_record;
use crate::open_files;

/// RocksDB's write-ahead log is kept below this: what a start has to read again before the log itself is looked at.
const WRITE_AHEAD_LOG_BYTES_MAX: u64 = 256 << 20;

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
    options.set_max_open_files(open_files::tables_max().unwrap_or(-1));
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

/// The column family `name` of a database that was opened with [`families`].
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
    read_record(database, key)
}

/// Writes a record of meta, durably.
pub(crate) fn write_meta(database: &DB, key: &[u8], value: &impl Serialize) -> Result<(), StartError> {
    let written = database.put_cf_opt(family(database, META), key, seal(value), &synced());
    written.map_err(|error| StartError::disk(database.path(), error))
}

/// Makes `boot` the number of this start, durably.
pub(crate) fn raise_boot(database: &DB, boot: u64) -> Result<(), StartError> {
    write_meta(database, BOOT_KEY, &boot)
}

/// Counts this start, durably; no two starts of a node have the same number.
pub(crate) fn count_boot(database: &DB) -> Result<u64, StartError> {
    let boot = read_meta::<u64>(database, BOOT_KEY)?.unwrap_or(0) + 1;
    write_meta(database, BOOT_KEY, &boot).map(|()| boot)
}
