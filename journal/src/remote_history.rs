//! History of other nodes, row by row: what a gateway reads, which keeps nothing. Every read says which sequence it has to hold.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rocksdb::Direction;
use tokio::runtime::Handle;

use crate::history::HistoryError;
use crate::history_source::RowSource;
use crate::message::{Observe, Observed, Reply, Request, Rows};
use crate::nodes::Nodes;
use crate::recent_rows::{RawRow, RawRows};

/// Keys whose values are asked for at once.
const KEYS_AT_ONCE: usize = 512;
/// Rows that are asked for at once.
const ROWS_MAX: usize = 4_096;
/// By how much each further piece is larger than the one before it.
const GROWTH: usize = 8;

/// The way to history of other nodes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RemoteHistory {
    nodes: Arc<Nodes>,
    /// What has been applied here: history must hold as much.
    applied: Arc<AtomicU64>,
    runtime: Handle,
}

impl RemoteHistory {
    /// Over the runtime that it is made in. Reads block, so no task of a runtime may call them.
    pub(crate) fn new(nodes: Arc<Nodes>, applied: Arc<AtomicU64>) -> RemoteHistory {
        RemoteHistory { nodes, applied, runtime: Handle::current() }
    }

    /// For one question; those of one affinity go to one node where that is how reads are spread.
    pub(crate) fn rows(&self, affinity: u64) -> RemoteRows {
        RemoteRows { history: self.clone(), affinity, expected: Mutex::default() }
    }
}

/// Rows for one question.
pub(crate) struct RemoteRows {
    history: RemoteHistory,
    affinity: u64,
    /// Values that were fetched ahead.
    expected: Mutex<BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
}

impl RemoteRows {
    fn ask(&self, wanted: Rows<'_>) -> Result<Observed, HistoryError> {
        let at_least = self.history.applied.load(Ordering::Acquire);
        let request = Request::Observe(Observe::Rows { at_least, wanted });
        match self.history.runtime.block_on(self.history.nodes.read(self.affinity, &request)) {
            Ok(Reply::Observed(told)) => Ok(told),
            Ok(_) => Err(unexpected()),
            Err(reason) => Err(HistoryError::Unreachable(reason)),
        }
    }

    fn values(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, HistoryError> {
        match self.ask(Rows::Get(keys.iter().map(|key| (*key).into()).collect()))? {
            Observed::Values(values) if values.len() == keys.len() => Ok(values),
            _ => Err(unexpected()),
        }
    }
}

fn unexpected() -> HistoryError {
    HistoryError::Unreachable("the reply is to another question".to_owned())
}

impl RowSource for RemoteRows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, HistoryError> {
        if let Some(value) = self.expected.lock().remove(key) {
            return Ok(value);
        }
        self.values(&[key]).map(|mut values| values.pop().flatten())
    }

    fn scan(&self, prefix: Vec<u8>, from: Vec<u8>, direction: Direction, hint: usize) -> RawRows<'_> {
        // One more than is wanted, so that its absence is known as well.
        let most = hint.saturating_add(1).clamp(2, ROWS_MAX);
        Box::new(Scan { rows: self, prefix, from, direction, most, read: VecDeque::new(), is_more: true })
    }

    fn expect(&self, keys: Vec<Vec<u8>>) -> Result<(), HistoryError> {
        for keys in keys.chunks(KEYS_AT_ONCE) {
            let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            let values = self.values(&asked)?;
            self.expected.lock().extend(keys.iter().cloned().zip(values));
        }
        Ok(())
    }
}

/// Rows one after the other, read piece by piece, each piece larger than the one before it.
struct Scan<'r> {
    rows: &'r RemoteRows,
    prefix: Vec<u8>,
    /// Where the next piece begins.
    from: Vec<u8>,
    direction: Direction,
    most: usize,
    read: VecDeque<RawRow>,
    is_more: bool,
}

impl Scan<'_> {
    fn read_on(&mut self) -> Result<(), HistoryError> {
        let is_reverse = matches!(self.direction, Direction::Reverse);
        let wanted = Rows::Scan {
            prefix: self.prefix.as_slice().into(),
            from: self.from.as_slice().into(),
            is_reverse,
            most: u32::try_from(self.most).unwrap_or(u32::MAX),
        };
        let Observed::Rows { rows, is_more } = self.rows.ask(wanted)? else { return Err(unexpected()) };
        self.most = (self.most * GROWTH).min(ROWS_MAX);
        self.is_more = is_more && !rows.is_empty();
        if let Some((last, _)) = rows.last() {
            match next_key(last, &self.prefix, is_reverse) {
                Some(next) => self.from = next,
                None => self.is_more = false,
            }
        }
        self.read = rows.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Ok(())
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<RawRow, HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.read.is_empty()
            && self.is_more
            && let Err(error) = self.read_on()
        {
            self.is_more = false;
            return Some(Err(error));
        }
        self.read.pop_front().map(Ok)
    }
}

/// Where to go on behind a key; None where there is nothing of that prefix.
fn next_key(last: &[u8], prefix: &[u8], is_reverse: bool) -> Option<Vec<u8>> {
    let mut next = last.to_vec();
    if !is_reverse {
        next.push(0);
        return Some(next);
    }
    // The greatest key that is smaller, of those at most some bytes longer; without its last zero a key is just that.
    let byte = next.pop()?;
    if byte > 0 {
        next.push(byte - 1);
        next.extend_from_slice(&[u8::MAX; 32]);
    }
    next.starts_with(prefix).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_goes_on_where_a_piece_ended_in_both_directions() {
        // Keys of one kind have one length, some of them a few bytes more.
        let keys: Vec<Vec<u8>> = (0..600u16).map(|at| [&[7][..], &at.to_be_bytes()].concat()).collect();
        for pair in keys.windows(2) {
            let after = next_key(&pair[0], &[7], false).unwrap();
            assert!(pair[0] < after && after <= pair[1]);
            let before = next_key(&pair[1], &[7], true).unwrap();
            assert!(pair[0] <= before && before < pair[1], "{pair:?} {before:?}");
        }
        assert_eq!(next_key(&[7], &[7], true), None);
        assert!(next_key(&[7, 0], &[7], true).is_some_and(|before| before == [7]));
    }
}
