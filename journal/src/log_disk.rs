//! What the log stands on, as it is read: a database in service, a simulated disk in the simulation.

use rocksdb::{DB, Direction, IteratorMode, Range};
use serde::de::DeserializeOwned;

use crate::database::family;
use crate::failure::StartError;
use crate::format::{LOG, META, log_key, open};

/// A key and a value, as they stand there.
pub(crate) type Row = (Box<[u8]>, Box<[u8]>);

/// Frames of the log by index, and the few records beside them. Errors are in the words of whoever keeps the bytes.
pub(crate) trait LogDisk: Send + Sync {
    /// The rows of the log from the entry `start` on, in order.
    fn frames(&self, start: u64) -> Box<dyn Iterator<Item = Result<Row, String>> + '_>;

    /// The frame of the entry `index`.
    fn frame(&self, index: u64) -> Result<Option<Vec<u8>>, String>;

    /// The sealed record beside the log that `key` names.
    fn record(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String>;

    /// About how many bytes of log follow the entry `index`.
    fn bytes_after(&self, index: u64) -> u64;

    /// Where it is, for who reads an error.
    fn place(&self) -> String;
}

impl LogDisk for DB {
    fn frames(&self, start: u64) -> Box<dyn Iterator<Item = Result<Row, String>> + '_> {
        let rows = self.iterator_cf(family(self, LOG), IteratorMode::From(&log_key(start), Direction::Forward));
        Box::new(rows.map(|row| row.map_err(String::from)))
    }

    fn frame(&self, index: u64) -> Result<Option<Vec<u8>>, String> {
        self.get_cf(family(self, LOG), log_key(index)).map_err(String::from)
    }

    fn record(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.get_cf(family(self, META), key).map_err(String::from)
    }

    fn bytes_after(&self, index: u64) -> u64 {
        let (from, to) = (log_key(index.saturating_add(1)), log_key(u64::MAX));
        self.get_approximate_sizes_cf(family(self, LOG), &[Range::new(&from, &to)]).iter().sum()
    }

    fn place(&self) -> String {
        self.path().display().to_string()
    }
}

/// A record beside the log.
pub(crate) fn read_record<T: DeserializeOwned>(
    disk: &(impl LogDisk + ?Sized),
    key: &[u8],
) -> Result<Option<T>, StartError> {
    let name = || format!("key `{}` of column family `{META}` in {}", String::from_utf8_lossy(key), disk.place());
    let found = disk.record(key).map_err(|error| StartError::damaged(name(), error))?;
    found.map(|bytes| open(&bytes)).transpose().map_err(|error| StartError::damaged(name(), error))
}
