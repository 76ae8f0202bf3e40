//! Where rows of history are read: in the database of this node, or, where there is none, at other nodes (remote_history.rs).

use rocksdb::{DB, Direction, IteratorMode, Snapshot};

use crate::database::family;
use crate::format::HISTORY;
use crate::history::HistoryError;

/// A key and its value as the database gives them.
pub(crate) type RawRow = (Box<[u8]>, Box<[u8]>);
/// Rows one after the other.
pub(crate) type RawRows<'a> = Box<dyn Iterator<Item = Result<RawRow, HistoryError>> + 'a>;

/// Rows of history by key.
pub(crate) trait RowSource {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, HistoryError>;

    /// The rows whose keys begin with `prefix`, from `from` on in that direction. About `hint` of them are wanted.
    fn scan(&self, prefix: Vec<u8>, from: Vec<u8>, direction: Direction, hint: usize) -> RawRows<'_>;

    /// The values of these keys are going to be asked for one by one.
    fn expect(&self, _keys: Vec<Vec<u8>>) -> Result<(), HistoryError> {
        Ok(())
    }
}

fn failed(error: rocksdb::Error) -> HistoryError {
    HistoryError::Database(error.into_string())
}

fn within<'a>(found: impl Iterator<Item = Result<RawRow, rocksdb::Error>> + 'a, prefix: Vec<u8>) -> RawRows<'a> {
    let found = found.map(|row| row.map_err(failed));
    Box::new(found.take_while(move |row| row.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix))))
}

impl RowSource for DB {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, HistoryError> {
        self.get_cf(family(self, HISTORY), key).map_err(failed)
    }

    fn scan(&self, prefix: Vec<u8>, from: Vec<u8>, direction: Direction, _hint: usize) -> RawRows<'_> {
        within(self.iterator_cf(family(self, HISTORY), IteratorMode::From(&from, direction)), prefix)
    }
}

/// A database as it was at one moment: what is written meanwhile does not show.
pub(crate) struct AtOneMoment<'a> {
    database: &'a DB,
    snapshot: Snapshot<'a>,
}

impl<'a> AtOneMoment<'a> {
    /// This one.
    pub(crate) fn of(database: &'a DB) -> AtOneMoment<'a> {
        AtOneMoment { database, snapshot: database.snapshot() }
    }
}

impl RowSource for AtOneMoment<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, HistoryError> {
        self.snapshot.get_cf(family(self.database, HISTORY), key).map_err(failed)
    }

    fn scan(&self, prefix: Vec<u8>, from: Vec<u8>, direction: Direction, _hint: usize) -> RawRows<'_> {
        within(self.snapshot.iterator_cf(family(self.database, HISTORY), IteratorMode::From(&from, direction)), prefix)
    }
}
