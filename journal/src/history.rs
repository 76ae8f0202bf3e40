//! Orders, trades, candles, prevented matches, amendments and order lists of the past: what is asked of them, and how far they go.

use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Duration;

use engine::event::{OrderList, PreventedMatch, Trade};
use engine::order::ClientOrderId;
use engine::units::PreventedMatchId;
use engine::{OrderId, Quantity, Sequence, SymbolId, Time, TradeId, Uid};
use rocksdb::{DB, Direction};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::failure::HISTORY_REMEDY;
use crate::format::{
    HISTORY, amendment_rows, client_id_key, decode_order, decode_timed, decode_trade, list_key, list_name_key,
    list_rows, list_time_rows, number_at, order_key, order_rows, prevented_key, prevented_rows, trade_key, trade_rows,
    user_trade_rows,
};
use crate::history_source::{OwnRows, RowSource};
use crate::open_orders::KnownOrder;
use crate::recent_rows::{RawRows, RecentRows};
use crate::record::MarketTrade;
use crate::remote_history::RemoteHistory;

/// How often it is looked whether history goes on from a state.
const SETTLING_INTERVAL: Duration = Duration::from_millis(1);
/// How long a reader waits for history to catch up.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// A trade as one of its two sides sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountTrade {
    /// When.
    pub time: Time,
    /// The trade.
    pub trade: Trade,
    /// Whether this account was the maker in it.
    pub is_maker: bool,
}

/// A match that self-trade prevention did not let happen, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FiledPrevention {
    /// When.
    pub time: Time,
    /// What was prevented.
    pub prevented: PreventedMatch,
}

/// An order's quantity was lowered by its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amendment {
    /// When.
    pub time: Time,
    /// Its number among the symbol's executions.
    pub execution_id: u64,
    /// The order.
    pub order_id: OrderId,
    /// Whose.
    pub uid: Uid,
    /// The order's name before.
    pub previous_client_order_id: ClientOrderId,
    /// Its name after.
    pub client_order_id: ClientOrderId,
    /// Its quantity before.
    pub previous_quantity: Quantity,
    /// Its quantity after.
    pub quantity: Quantity,
}

/// An order list, and when it last changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FiledList {
    /// When.
    pub time: Time,
    /// The list.
    pub list: OrderList,
}

/// Which part of a list is meant. What is returned always ascends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The last ones, up to and including a time.
    Latest {
        /// None means up to now.
        until: Option<Time>,
    },
    /// The first ones from this id on.
    FromId(u64),
    /// The first ones from a time on.
    FromTime {
        /// Included.
        start: Time,
        /// Included.
        end: Option<Time>,
    },
}

/// History did not reach the sequence in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("history holds everything up to sequence {watermark}, {wanted} was asked for")]
pub struct HistoryLag {
    /// What it reached.
    pub watermark: Sequence,
    /// What was asked for.
    pub wanted: Sequence,
}

/// Why history could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
    /// The database says no.
    #[error("history cannot be read: {0}. {HISTORY_REMEDY}")]
    Database(String),
    /// A record that is not one.
    #[error("history is damaged at {0}. {HISTORY_REMEDY}")]
    Damaged(String),
    /// No node gave it.
    #[error("no node gave history: {0}")]
    Unreachable(String),
}

/// Reads of history. Cheap to clone; the reads block, on the disk or on another node.
#[derive(Clone)]
pub struct History {
    source: Source,
}

#[derive(Clone)]
enum Source {
    Here(Local),
    There(RemoteHistory),
}

/// History in this node's database.
#[derive(Clone)]
struct Local {
    /// Weak, so that a reader that outlives the node does not keep its directory locked.
    database: Weak<DB>,
    recent: Arc<RecentRows>,
    watermark: watch::Receiver<Sequence>,
    settled: watch::Receiver<Option<Sequence>>,
}

/// What is read from for one question.
pub(crate) enum Opened {
    Here(OwnRows),
    There(crate::remote_history::RemoteRows),
}

impl std::ops::Deref for Opened {
    type Target = dyn RowSource;

    fn deref(&self) -> &Self::Target {
        match self {
            Opened::Here(own) => own,
            Opened::There(remote) => remote,
        }
    }
}

impl History {
    /// That of other nodes.
    pub(crate) fn remote(remote: RemoteHistory) -> History {
        History { source: Source::There(remote) }
    }

    /// That of this node, as far as it has got.
    pub(crate) fn here(
        database: Weak<DB>,
        recent: Arc<RecentRows>,
        watermark: watch::Receiver<Sequence>,
        settled: watch::Receiver<Option<Sequence>>,
    ) -> History {
        History { source: Source::Here(Local { database, recent, watermark, settled }) }
    }

    /// Whether other nodes have it, so that a read can fail now and not a moment later.
    pub fn is_remote(&self) -> bool {
        matches!(self.source, Source::There(_))
    }

    /// The last sequence it holds. Other nodes hold whatever is asked for, or say that they do not yet.
    pub fn watermark(&self) -> Sequence {
        match &self.source {
            Source::Here(local) => *local.watermark.borrow(),
            Source::There(_) => Sequence(u64::MAX),
        }
    }

    /// Whether its rows go on from a state.
    pub(crate) fn is_settled(&self) -> bool {
        match &self.source {
            Source::Here(local) => local.settled.borrow().is_some(),
            Source::There(_) => true,
        }
    }

    /// Blocks until history goes on from the state of that sequence; false when it has ended before.
    pub fn wait_until_settled(&self, state: Sequence) -> bool {
        let Source::Here(local) = &self.source else { return true };
        loop {
            if local.settled.borrow().is_some_and(|settled| settled >= state) {
                return true;
            }
            if local.settled.has_changed().is_err() {
                return false;
            }
            std::thread::sleep(SETTLING_INTERVAL);
        }
    }

    /// Waits until it holds `sequence`, for two seconds at most.
    pub async fn wait_for(&self, sequence: Sequence) -> Result<(), HistoryLag> {
        let Source::Here(local) = &self.source else { return Ok(()) };
        let mut watermark = local.watermark.clone();
        let reached = tokio::time::timeout(WAIT_MAX, watermark.wait_for(|held| *held >= sequence)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(HistoryLag { watermark: self.watermark(), wanted: sequence }),
        }
    }

    /// The latest state of a user's order, open or closed.
    pub fn order(&self, uid: Uid, symbol: SymbolId, order_id: OrderId) -> Result<Option<KnownOrder>, HistoryError> {
        read_order(&*self.open(uid.0)?, uid, symbol, order_id)
    }

    /// The most recent order of that name.
    pub fn order_by_client_id(
        &self,
        symbol: SymbolId,
        uid: Uid,
        client_order_id: &ClientOrderId,
    ) -> Result<Option<KnownOrder>, HistoryError> {
        let opened = self.open(uid.0)?;
        let database = &*opened;
        let key = client_id_key(uid, symbol, client_order_id);
        let Some(found) = get(database, &key)? else { return Ok(None) };
        let order_id = number_at(&found, 0).ok_or_else(|| damaged(&key))?;
        read_order(database, uid, symbol, OrderId(order_id))
    }

    /// A user's orders in a symbol; a page's time is the time of creation, its id the order id.
    pub fn orders(
        &self,
        uid: Uid,
        symbol: SymbolId,
        page: Page,
        limit: usize,
    ) -> Result<Vec<KnownOrder>, HistoryError> {
        let opened = self.open(uid.0)?;
        let database = &*opened;
        let rows = Rows { database, prefix: order_rows(uid, symbol) };
        let found = rows.page(page, 0..u64::MAX, limit, |_| true)?;
        found.into_iter().map(|row| decode_order(&row.key, &row.value).ok_or_else(|| damaged(&row.key))).collect()
    }

    /// A user's trades in a symbol, of one order alone if asked. A trade with oneself comes twice, as taker and as maker.
    pub fn account_trades(
        &self,
        uid: Uid,
        symbol: SymbolId,
        order: Option<OrderId>,
        page: Page,
        limit: usize,
    ) -> Result<Vec<AccountTrade>, HistoryError> {
        let opened = self.open(uid.0)?;
        let database = &*opened;
        let rows = Rows { database, prefix: user_trade_rows(uid, symbol) };
        let mut within = 0..u64::MAX;
        if let Some(order_id) = order {
            let Some(KnownOrder { order, .. }) = read_order(database, uid, symbol, order_id)? else {
                return Ok(Vec::new());
            };
            within = rows.first_id_at(order.created_at)?..rows.first_id_after(order.updated_at)?;
        }
        let wanted = |row: &Row| order.is_none_or(|order_id| number_at(&row.value, 8) == Some(order_id.0));
        let found = rows.page(page, within, limit, wanted)?;
        database.expect(found.iter().map(|row| trade_key(symbol, TradeId(row.id)).to_vec()).collect())?;
        let trade = |row: Row| {
            let found = pointed_to(database, &row, read_trade(database, symbol, TradeId(row.id)))?;
            let is_maker = row.key.last() == Some(&1);
            Some(found.map(|found| AccountTrade { time: found.time, trade: found.trade, is_maker }))
        };
        found.into_iter().filter_map(trade).collect()
    }

    /// A symbol's trades; a page's id is the trade id.
    pub fn trades(&self, symbol: SymbolId, page: Page, limit: usize) -> Result<Vec<MarketTrade>, HistoryError> {
        let opened = self.open(u64::from(symbol.0))?;
        let database = &*opened;
        let rows = Rows { database, prefix: trade_rows(symbol) };
        let found = rows.page(page, 0..u64::MAX, limit, |_| true)?;
        found.into_iter().map(|row| decode_trade(&row.value).ok_or_else(|| damaged(&row.key))).collect()
    }

    /// A prevented match.
    pub fn prevented_match(
        &self,
        symbol: SymbolId,
        id: PreventedMatchId,
    ) -> Result<Option<FiledPrevention>, HistoryError> {
        read_prevented(&*self.open(u64::from(symbol.0))?, symbol, id)
    }

    /// The prevented matches of one order of a user; a page's id is the prevented match's.
    pub fn prevented_matches(
        &self,
        uid: Uid,
        symbol: SymbolId,
        order_id: OrderId,
        page: Page,
        limit: usize,
    ) -> Result<Vec<FiledPrevention>, HistoryError> {
        let opened = self.open(uid.0)?;
        let database = &*opened;
        let rows = Rows { database, prefix: prevented_rows(uid, symbol, order_id) };
        let found = rows.page(page, 0..u64::MAX, limit, |_| true)?;
        database.expect(found.iter().map(|row| prevented_key(symbol, PreventedMatchId(row.id))).collect())?;
        let prevented =
            |row: Row| pointed_to(database, &row, read_prevented(database, symbol, PreventedMatchId(row.id)));
        found.into_iter().filter_map(prevented).collect()
    }

    /// The amendments of one order; a page's id is the execution's.
    pub fn amendments(
        &self,
        symbol: SymbolId,
        order_id: OrderId,
        page: Page,
        limit: usize,
    ) -> Result<Vec<Amendment>, HistoryError> {
        let opened = self.open(u64::from(symbol.0))?;
        let database = &*opened;
        let rows = Rows { database, prefix: amendment_rows(symbol, order_id) };
        let amendment = |row: Row| decode_timed(&row.value).map(|(_, found)| found).ok_or_else(|| damaged(&row.key));
        rows.page(page, 0..u64::MAX, limit, |_| true)?.into_iter().map(amendment).collect()
    }

    /// A user's list of that public number.
    pub fn order_list(&self, uid: Uid, number: u64) -> Result<Option<FiledList>, HistoryError> {
        read_list(&*self.open(uid.0)?, uid, number)
    }

    /// A user's most recent list of that name.
    pub fn order_list_by_name(&self, uid: Uid, name: &ClientOrderId) -> Result<Option<FiledList>, HistoryError> {
        let opened = self.open(uid.0)?;
        let database = &*opened;
        let key = list_name_key(uid, name);
        let Some(found) = get(database, &key)? else { return Ok(None) };
        let number = number_at(&found, 0).ok_or_else(|| damaged(&key))?;
        read_list(database, uid, number)
    }

    /// A user's lists; a page's time is the time of creation, its id the public number.
    pub fn order_lists(&self, uid: Uid, page: Page, limit: usize) -> Result<Vec<FiledList>, HistoryError> {
        let opened = self.open(uid.0)?;
        let database = &*opened;
        let by_number = matches!(page, Page::FromId(_));
        let prefix = if by_number { list_rows(uid) } else { list_time_rows(uid) };
        let found = Rows { database, prefix }.page(page, 0..u64::MAX, limit, |_| true)?;
        // The number is the last part of both keys.
        let number_of = |row: &Row| number_at(&row.key, row.key.len() - 8);
        database.expect(found.iter().filter_map(number_of).map(|number| list_key(uid, number)).collect())?;
        let list = |row: Row| {
            let Some(number) = number_of(&row) else { return Some(Err(damaged(&row.key))) };
            pointed_to(database, &row, read_list(database, uid, number))
        };
        found.into_iter().filter_map(list).collect()
    }

    /// To read for one question; who asks for the same thing is best served by the same node where there are several.
    pub(crate) fn open(&self, affinity: u64) -> Result<Opened, HistoryError> {
        match &self.source {
            Source::Here(Local { database, recent, .. }) => {
                let database = database.upgrade().ok_or(HistoryError::Stopped)?;
                Ok(Opened::Here(OwnRows { database, recent: recent.clone() }))
            }
            Source::There(remote) => Ok(Opened::There(remote.rows(affinity))),
        }
    }
}

pub(crate) fn damaged(key: &[u8]) -> HistoryError {
    HistoryError::Damaged(format!("key {key:02x?} of column family `{HISTORY}`"))
}

/// What a row points to. Where that is gone and the row is too, the sweeper came between the two looks: it is as if the page
/// had been asked for a moment later.
fn pointed_to<T>(
    database: &dyn RowSource,
    row: &Row,
    found: Result<Option<T>, HistoryError>,
) -> Option<Result<T, HistoryError>> {
    match found.transpose() {
        Some(found) => Some(found),
        None => match get(database, &row.key) {
            Ok(None) => None,
            Ok(Some(_)) => Some(Err(damaged(&row.key))),
            Err(error) => Some(Err(error)),
        },
    }
}

fn get(database: &dyn RowSource, key: &[u8]) -> Result<Option<Vec<u8>>, HistoryError> {
    database.get(key)
}

pub(crate) fn read_order(
    database: &dyn RowSource,
    uid: Uid,
    symbol: SymbolId,
    order_id: OrderId,
) -> Result<Option<KnownOrder>, HistoryError> {
    let key = order_key(uid, symbol, order_id);
    get(database, &key)?.map(|bytes| decode_order(&key, &bytes).ok_or_else(|| damaged(&key))).transpose()
}

fn read_trade(
    database: &dyn RowSource,
    symbol: SymbolId,
    trade_id: TradeId,
) -> Result<Option<MarketTrade>, HistoryError> {
    let key = trade_key(symbol, trade_id);
    get(database, &key)?.map(|bytes| decode_trade(&bytes).ok_or_else(|| damaged(&key))).transpose()
}

fn read_prevented(
    database: &dyn RowSource,
    symbol: SymbolId,
    id: PreventedMatchId,
) -> Result<Option<FiledPrevention>, HistoryError> {
    let key = prevented_key(symbol, id);
    let Some(bytes) = get(database, &key)? else { return Ok(None) };
    let (time, prevented) = decode_timed(&bytes).ok_or_else(|| damaged(&key))?;
    Ok(Some(FiledPrevention { time, prevented }))
}

fn read_list(database: &dyn RowSource, uid: Uid, number: u64) -> Result<Option<FiledList>, HistoryError> {
    let key = list_key(uid, number);
    let Some(bytes) = get(database, &key)? else { return Ok(None) };
    let (time, list) = decode_timed(&bytes).ok_or_else(|| damaged(&key))?;
    Ok(Some(FiledList { time, list }))
}

/// The rows whose key is a prefix and then an id, and whose value starts with a time. Times ascend with ids.
struct Rows<'a> {
    database: &'a dyn RowSource,
    prefix: Vec<u8>,
}

struct Row {
    id: u64,
    time: Time,
    key: Box<[u8]>,
    value: Box<[u8]>,
}

impl Rows<'_> {
    /// The rows of one page, ascending, with an id of `within`.
    fn page(
        &self,
        page: Page,
        within: Range<u64>,
        limit: usize,
        wanted: impl Fn(&Row) -> bool,
    ) -> Result<Vec<Row>, HistoryError> {
        let Range { mut start, mut end } = within;
        let mut latest = false;
        match page {
            Page::FromId(id) => start = start.max(id),
            Page::FromTime { start: from, end: until } => {
                start = start.max(self.first_id_at(from)?);
                end = end.min(until.map_or(Ok(u64::MAX), |until| self.first_id_after(until))?);
            }
            Page::Latest { until } => {
                latest = true;
                end = end.min(until.map_or(Ok(u64::MAX), |until| self.first_id_after(until))?);
            }
        }
        if start >= end {
            return Ok(Vec::new());
        }
        let is_wanted = |row: &Result<Row, HistoryError>| row.as_ref().map_or(true, &wanted);
        let inside = |row: &Result<Row, HistoryError>| row.as_ref().map_or(true, |row| (start..end).contains(&row.id));
        if !latest {
            return self.ascending(start, limit).take_while(inside).filter(is_wanted).take(limit).collect();
        }
        let mut found: Vec<Row> = self
            .descending(end - 1, limit)
            .take_while(inside)
            .filter(is_wanted)
            .take(limit)
            .collect::<Result<_, _>>()?;
        found.reverse();
        Ok(found)
    }

    fn ascending(&self, from: u64, hint: usize) -> impl Iterator<Item = Result<Row, HistoryError>> {
        self.rows(self.key(from), Direction::Forward, hint)
    }

    fn descending(&self, from: u64, hint: usize) -> impl Iterator<Item = Result<Row, HistoryError>> {
        // Above every key of that id.
        self.rows([self.key(from).as_slice(), &[u8::MAX]].concat(), Direction::Reverse, hint)
    }

    fn rows(
        &self,
        from: Vec<u8>,
        direction: Direction,
        hint: usize,
    ) -> impl Iterator<Item = Result<Row, HistoryError>> {
        let inside: RawRows<'_> = self.database.scan(self.prefix.clone(), from, direction, hint);
        inside.map(|row| {
            let (key, value) = row?;
            let (id, time) = (number_at(&key, self.prefix.len()), number_at(&value, 0));
            let (Some(id), Some(time)) = (id, time) else { return Err(damaged(&key)) };
            Ok(Row { id, time: Time(time), key, value })
        })
    }

    fn key(&self, id: u64) -> Vec<u8> {
        [self.prefix.as_slice(), &id.to_be_bytes()].concat()
    }

    /// An id below which every row is older than `time`, and from which on none is: a binary search.
    fn first_id_at(&self, time: Time) -> Result<u64, HistoryError> {
        let (Some(first), Some(last)) = (self.ascending(0, 1).next(), self.descending(u64::MAX, 1).next()) else {
            return Ok(0);
        };
        let (mut low, mut high) = (first?.id, last?.id.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            match self.ascending(middle, 1).next().transpose()? {
                Some(row) if row.time < time => low = row.id + 1,
                Some(_) | None => high = middle,
            }
        }
        Ok(low)
    }

    fn first_id_after(&self, time: Time) -> Result<u64, HistoryError> {
        time.0.checked_add(1).map_or(Ok(u64::MAX), |next| self.first_id_at(Time(next)))
    }
}
