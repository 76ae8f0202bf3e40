//! Where rows of history are read: in the database of this node and the rows that are newer than its tables (recent_rows.rs), or,
//! where there is no database, at other nodes (remote_history.rs).

use std::sync::Arc;

use rocksdb::{DB, Direction, IteratorMode, Snapshot};

use crate::database::family;
use crate::format::HISTORY;
use crate::history::HistoryError;
use crate::recent_rows::{RawRow, RawRows, RecentRows, above};
use crate::row_buffer::SortedRows;

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

/// This node's history.
#[derive(Clone)]
pub(crate) struct OwnRows {
    pub database: Arc<DB>,
    pub recent: Arc<RecentRows>,
}

impl RowSource for OwnRows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, HistoryError> {
        // What leaves the one is in the other by then.
        match self.recent.get(key) {
            Some(value) => Ok(Some(value)),
            None => self.database.get_cf(family(&self.database, HISTORY), key).map_err(failed),
        }
    }

    fn scan(&self, prefix: Vec<u8>, from: Vec<u8>, direction: Direction, _hint: usize) -> RawRows<'_> {
        let history = family(&self.database, HISTORY);
        let look = || self.database.iterator_cf(history, IteratorMode::From(&from, direction));
        let (runs, table) = self.recent.beside(look);
        above(&runs, within(table, prefix.clone()), &prefix, &from, direction)
    }
}

/// This node's history as it was at one moment: what is written meanwhile does not show.
pub(crate) struct AtOneMoment<'a> {
    database: &'a DB,
    runs: Vec<Arc<SortedRows>>,
    snapshot: Snapshot<'a>,
}

impl<'a> AtOneMoment<'a> {
    /// This one.
    pub(crate) fn of(database: &'a DB, recent: &RecentRows) -> AtOneMoment<'a> {
        let (runs, snapshot) = recent.beside(|| database.snapshot());
        AtOneMoment { database, runs, snapshot }
    }
}

impl RowSource for AtOneMoment<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, HistoryError> {
        match self.runs.iter().rev().find_map(|run| run.get(key)) {
            Some(value) => Ok(Some(value.to_vec())),
            None => self.snapshot.get_cf(family(self.database, HISTORY), key).map_err(failed),
        }
    }

    fn scan(&self, prefix: Vec<u8>, from: Vec<u8>, direction: Direction, _hint: usize) -> RawRows<'_> {
        let history = family(self.database, HISTORY);
        let table = self.snapshot.iterator_cf(history, IteratorMode::From(&from, direction));
        above(&self.runs, within(table, prefix.clone()), &prefix, &from, direction)
    }
}
