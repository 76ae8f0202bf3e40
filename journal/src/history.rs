//! Orders, trades, candles, prevented matches, amendments and order lists of the past in RocksDB, written from Applied by a thread of
//! its own.
//!
//! Every batch carries the watermark, the last sequence that is in it; what is at or below it is skipped, so applying a
//! log twice writes nothing twice. The batches are not in RocksDB's own log: after a crash they are written again from
//! the raft log, which is why a snapshot, behind which that log may go, waits until history is flushed.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use engine::event::{Event, OrderList, PreventedMatch, Trade};
use engine::order::ClientOrderId;
use engine::units::PreventedMatchId;
use engine::{Order, OrderId, Quantity, Sequence, Snapshot, SymbolId, Time, TradeId, Uid};
use rocksdb::{DB, Direction, WriteBatch, WriteOptions};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::backlog::{Backlog, EVENTS_MAX};
use crate::candle_filing::CandleFiling;
use crate::database::family;
use crate::failure::{Failure, HISTORY_REMEDY, StartError};
use crate::format::{
    HISTORY, WATERMARK_KEY, amendment_key, amendment_rows, client_id_key, decode, decode_timed, decode_trade, encode,
    encode_time_and_order, encode_timed, encode_trade, list_key, list_name_key, list_number, list_rows, list_time_key,
    list_time_rows, number_at, open, order_key, prevented_key, prevented_rows, seal, trade_key, trade_rows,
    user_order_key, user_order_rows, user_prevented_key, user_trade_key, user_trade_rows,
};
use crate::history_source::{RawRows, RowSource};
use crate::open_orders::{KnownOrder, OpenOrders, symbol_of};
use crate::record::{Applied, MarketTrade, execution_id};
use crate::remote_history::RemoteHistory;
use crate::runtime;
use crate::stats::QueueDepth;
use crate::sweeper::{HistoryDays, Sweeper};

/// The thread's priority: an order never waits for a core on which history is written. Not the lowest, for it must keep up in
/// the long run.
const NICENESS: i32 = 10;
/// A batch is closed when so many commands are in it: the log's writer must not wait long for it.
const BATCH_COMMANDS_MAX: usize = 1_024;
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
    watermark: watch::Receiver<Sequence>,
    settled: watch::Receiver<Option<Sequence>>,
}

/// What is read from for one question.
pub(crate) enum Opened {
    Here(Arc<DB>),
    There(crate::remote_history::RemoteRows),
}

impl std::ops::Deref for Opened {
    type Target = dyn RowSource;

    fn deref(&self) -> &Self::Target {
        match self {
            Opened::Here(database) => &**database,
            Opened::There(remote) => remote,
        }
    }
}

impl History {
    /// That of other nodes.
    pub(crate) fn remote(remote: RemoteHistory) -> History {
        History { source: Source::There(remote) }
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

    /// An order's latest state, open or closed.
    pub fn order(&self, symbol: SymbolId, order_id: OrderId) -> Result<Option<KnownOrder>, HistoryError> {
        read_order(&*self.open(u64::from(symbol.0))?, symbol, order_id)
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
        read_order(database, symbol, OrderId(order_id))
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
        let rows = Rows { database, prefix: user_order_rows(uid, symbol) };
        let found = rows.page(page, 0..u64::MAX, limit, |_| true)?;
        database.expect(found.iter().map(|row| order_key(symbol, OrderId(row.id))).collect())?;
        let order = |row: Row| pointed_to(database, &row, read_order(database, symbol, OrderId(row.id)));
        found.into_iter().filter_map(order).collect()
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
            let Some(KnownOrder { order, .. }) = read_order(database, symbol, order_id)? else {
                return Ok(Vec::new());
            };
            within = rows.first_id_at(order.created_at)?..rows.first_id_after(order.updated_at)?;
        }
        let wanted = |row: &Row| order.is_none_or(|order_id| number_at(&row.value, 8) == Some(order_id.0));
        let found = rows.page(page, within, limit, wanted)?;
        database.expect(found.iter().map(|row| trade_key(symbol, TradeId(row.id))).collect())?;
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
            Source::Here(local) => local.database.upgrade().map(Opened::Here).ok_or(HistoryError::Stopped),
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

fn read_order(
    database: &dyn RowSource,
    symbol: SymbolId,
    order_id: OrderId,
) -> Result<Option<KnownOrder>, HistoryError> {
    let key = order_key(symbol, order_id);
    get(database, &key)?.map(|bytes| decode(&bytes).ok_or_else(|| damaged(&key))).transpose()
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

/// The way into history. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HistoryWriter {
    messages: Sender<Message>,
    backlog: Backlog,
    database: Weak<DB>,
    watermark: watch::Receiver<Sequence>,
    settled: watch::Receiver<Option<Sequence>>,
}

enum Message {
    Restored(Arc<Snapshot>),
    Applied(Arc<Applied>),
    Stop,
}

/// The last sequence that history holds.
pub(crate) fn watermark(database: &DB) -> Result<Sequence, StartError> {
    let found = database.get_cf(family(database, HISTORY), WATERMARK_KEY);
    let place = || format!("the watermark in column family `{HISTORY}` in {}", database.path().display());
    let bytes = found.map_err(|error| StartError::damaged(place(), error))?;
    bytes.map_or(Ok(Sequence(0)), |bytes| open(&bytes)).map_err(|error| StartError::damaged(place(), error))
}

impl HistoryWriter {
    /// Opens what there is and starts the thread, which keeps what is old for so many days.
    pub(crate) fn start(
        database: Arc<DB>,
        days: HistoryDays,
        failure: &Failure,
    ) -> Result<(HistoryWriter, JoinHandle<()>), StartError> {
        let watermark = watermark(&database)?;
        // Bounded by the backlog.
        let (messages, queue) = crossbeam_channel::unbounded();
        let backlog = Backlog::default();
        let (announced, settled) = (watch::Sender::new(watermark), watch::Sender::new(None));
        let writer = HistoryWriter {
            messages,
            backlog: backlog.clone(),
            database: Arc::downgrade(&database),
            watermark: announced.subscribe(),
            settled: settled.subscribe(),
        };
        let thread = Thread {
            database,
            queue,
            open: HashMap::new(),
            candles: CandleFiling::default(),
            watermark,
            announced,
            settled,
            sweeper: Sweeper::new(days),
            failure: failure.clone(),
        };
        let run = move || {
            let _reader = backlog.reader();
            runtime::give_way(NICENESS);
            thread.run(&backlog);
        };
        Ok((writer, failure.spawn("history", run)))
    }

    /// One that files nothing, and says that it has: history follows from the log, and is not what is being tested.
    #[cfg(test)]
    pub(crate) fn filing_nothing(database: &Arc<DB>, failure: &Failure) -> HistoryWriter {
        let (messages, queue) = crossbeam_channel::unbounded();
        let backlog = Backlog::default();
        let taken = backlog.clone();
        runtime::thread(failure, "history", String::new, queue, move |message| {
            if let Message::Applied(applied) = message {
                taken.taken(applied.events.len());
            }
            true
        });
        let (_, watermark) = watch::channel(Sequence(u64::MAX));
        let (_, settled) = watch::channel(Some(Sequence(u64::MAX)));
        HistoryWriter { messages, backlog, database: Arc::downgrade(database), watermark, settled }
    }

    /// How many events wait to be written.
    pub(crate) fn queue(&self) -> QueueDepth {
        QueueDepth { depth: self.backlog.events() as u64, bound: EVENTS_MAX as u64 }
    }

    /// The reading side.
    pub(crate) fn reader(&self) -> History {
        let (watermark, settled) = (self.watermark.clone(), self.settled.clone());
        History { source: Source::Here(Local { database: self.database.clone(), watermark, settled }) }
    }

    /// Starts from this state; false when the thread has ended.
    pub(crate) fn restored(&self, state: Arc<Snapshot>) -> bool {
        self.messages.send(Message::Restored(state)).is_ok()
    }

    /// Files what happened next; waits only while there is no room for it. False when the thread has ended.
    pub(crate) fn applied(&self, applied: Arc<Applied>) -> bool {
        self.backlog.add(applied.events.len());
        self.messages.send(Message::Applied(applied)).is_ok()
    }

    /// Waits, as long as it takes, until `sequence` is written.
    pub(crate) async fn wait_for(&self, sequence: Sequence) {
        // An error means that the thread has ended, which is a failure of its own.
        let _ = self.watermark.clone().wait_for(|held| *held >= sequence).await;
    }

    /// Makes what is written durable.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let database = self.database.upgrade().ok_or_else(|| io::Error::other("the database is closed"))?;
        database.flush_cf(family(&database, HISTORY)).map_err(io::Error::other)
    }

    /// Tells the thread to write what is queued and end.
    pub(crate) fn stop(&self) {
        // The thread is gone already when this fails.
        let _ = self.messages.send(Message::Stop);
    }
}

/// The thread that writes.
struct Thread {
    database: Arc<DB>,
    queue: Receiver<Message>,
    /// The open orders, because a trade tells only what changed. As many as there are in the books.
    open: HashMap<SymbolId, OpenOrders>,
    candles: CandleFiling,
    watermark: Sequence,
    announced: watch::Sender<Sequence>,
    /// The last state that it was given, once its rows go on from it.
    settled: watch::Sender<Option<Sequence>>,
    sweeper: Option<Sweeper>,
    failure: Failure,
}

/// What is written together.
struct Batch {
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// The orders that changed, each written once with its last state.
    orders: HashMap<(SymbolId, OrderId), KnownOrder>,
    commands: usize,
    watermark: Sequence,
}

impl Thread {
    fn run(mut self, backlog: &Backlog) {
        while let Some(message) = self.next_message() {
            let mut batch = Batch::after(self.watermark);
            let mut next = Some(message);
            let (mut stop, mut settled) = (false, None);
            while let Some(message) = next {
                match message {
                    Message::Restored(state) => {
                        // Its rows are to be seen from here.
                        if !self.write(std::mem::replace(&mut batch, Batch::after(self.watermark))) {
                            return;
                        }
                        batch = Batch::after(self.watermark);
                        self.restore(&state, &mut batch);
                        settled = Some(state.sequence());
                        if let Err(error) = self.settle_candles(&state) {
                            self.failure.report(format!("history in {}: {error}", self.database.path().display()));
                            return;
                        }
                    }
                    Message::Applied(applied) => {
                        backlog.taken(applied.events.len());
                        self.file(&applied, &mut batch);
                    }
                    Message::Stop => stop = true,
                }
                let full = batch.commands >= BATCH_COMMANDS_MAX || stop;
                next = if full { None } else { self.queue.try_recv().ok() };
            }
            if !self.write(batch) {
                break;
            }
            if settled.is_some() {
                self.settled.send_replace(settled);
            }
            if stop {
                break;
            }
        }
    }

    /// The next message; while there is none, and now and then while there are, old rows are swept out. None at the end.
    fn next_message(&mut self) -> Option<Message> {
        loop {
            let Some(sweeper) = &mut self.sweeper else { return self.queue.recv().ok() };
            if sweeper.due_at() > Instant::now() {
                match self.queue.recv_deadline(sweeper.due_at()) {
                    Ok(message) => return Some(message),
                    Err(RecvTimeoutError::Disconnected) => return None,
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
            if let Err(error) = sweeper.step(&self.database) {
                self.fail(&error);
                return None;
            }
        }
    }

    fn fail(&self, error: &rocksdb::Error) {
        self.failure.report(format!("history in {} cannot be written: {error}", self.database.path().display()));
    }

    fn write(&mut self, mut batch: Batch) -> bool {
        if batch.watermark == self.watermark {
            return true;
        }
        self.candles.take_changed(&mut batch.rows);
        for ((symbol, order_id), order) in &batch.orders {
            batch.rows.push((order_key(*symbol, *order_id), encode(&[], order)));
        }
        batch.rows.push((WATERMARK_KEY.to_vec(), seal(&batch.watermark)));
        // In the order of their keys each row finds its place beside the one before it. The sort is stable: of two rows
        // with one key the later one counts.
        batch.rows.sort_by(|a, b| a.0.cmp(&b.0));
        let history = family(&self.database, HISTORY);
        let mut rows = WriteBatch::default();
        batch.rows.iter().for_each(|(key, value)| rows.put_cf(history, key, value));
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        options.set_memtable_insert_hint_per_batch(true);
        if let Err(error) = self.database.write_opt(rows, &options) {
            self.fail(&error);
            return false;
        }
        self.watermark = batch.watermark;
        self.announced.send_replace(self.watermark);
        true
    }

    fn restore(&mut self, state: &Snapshot, batch: &mut Batch) {
        self.open = state.symbols().map(|symbol| (symbol.symbol().id, self.recall(symbol.orders()))).collect();
        if state.sequence() <= batch.watermark {
            return;
        }
        // The state came from the leader, and what closed in between came with it (snapshot_transfer.rs).
        self.open.values().flat_map(OpenOrders::iter).for_each(|known| batch.add_order(known));
        for list in state.symbols().flat_map(|symbol| symbol.lists()) {
            batch.add_list(&list.list, list.list.created_at);
        }
        batch.watermark = state.sequence();
    }

    /// Candles go on from this state, or from the watermark where that is further.
    fn settle_candles(&mut self, state: &Snapshot) -> Result<(), HistoryError> {
        self.candles = CandleFiling::open(&self.database, state, self.watermark)?;
        Ok(())
    }

    /// The open orders of a state, which does not say what history knows beside them.
    fn recall(&self, orders: impl Iterator<Item = Order>) -> OpenOrders {
        let recall = |order: Order| {
            let filed = || read_order(&*self.database, order.symbol, order.order_id).ok().flatten();
            let prevented_match =
                if order.prevented().is_zero() { None } else { filed().and_then(|filed| filed.prevented_match) };
            KnownOrder { prevented_match, ..order.into() }
        };
        OpenOrders::restore(orders.map(recall))
    }

    fn file(&mut self, applied: &Applied, batch: &mut Batch) {
        let mut changed = Vec::new();
        for index in 0..applied.len() {
            let sequence = applied.sequence(index);
            let is_new = sequence > batch.watermark;
            for (place, event) in applied.events_of(index).iter().enumerate() {
                let amendment = self.amendment(event, execution_id(sequence, place));
                if let Event::SymbolAdded(symbol) = event {
                    self.candles.add_symbol(symbol);
                }
                if let Some(symbol) = symbol_of(event) {
                    self.open.entry(symbol).or_default().follow(event, applied.time, &mut changed);
                }
                if is_new {
                    batch.add(event, applied.time, sequence);
                    if let Event::Trade(trade) = event {
                        self.candles.add(&MarketTrade { time: applied.time, sequence, trade: *trade }, &mut batch.rows);
                    }
                    batch.add_amendment(amendment);
                    batch.orders.extend(changed.drain(..).map(|known| (key_of(&known), known)));
                }
                changed.clear();
            }
            batch.watermark = batch.watermark.max(sequence);
        }
        batch.commands += applied.len();
    }

    /// What an amend did, which the order's count of amends tells from any other way to lose quantity.
    fn amendment(&self, event: &Event, execution_id: u64) -> Option<(SymbolId, Amendment)> {
        let Event::OrderAmended { order, previous_client_order_id, previous_quantity } = event else { return None };
        let amends = |order: &Order| order.special.as_ref().map_or(0, |terms| terms.amends);
        let before = self.open.get(&order.symbol)?.get(order.order_id)?;
        let amendment = Amendment {
            time: order.updated_at,
            execution_id,
            order_id: order.order_id,
            uid: order.uid,
            previous_client_order_id: *previous_client_order_id,
            client_order_id: order.client_order_id,
            previous_quantity: *previous_quantity,
            quantity: order.quantity,
        };
        (amends(order) > amends(&before.order)).then_some((order.symbol, amendment))
    }
}

fn key_of(known: &KnownOrder) -> (SymbolId, OrderId) {
    (known.order.symbol, known.order.order_id)
}

impl Batch {
    fn after(watermark: Sequence) -> Batch {
        Batch { rows: Vec::new(), orders: HashMap::new(), commands: 0, watermark }
    }

    /// The rows that stay; what became of the orders is added beside.
    fn add(&mut self, event: &Event, time: Time, sequence: Sequence) {
        match event {
            Event::OrderAccepted(order) => self.add_names(order),
            Event::OrderAmended { order, .. } => self.add_name(order),
            Event::Trade(trade) => self.add_trade(&MarketTrade { time, sequence, trade: *trade }),
            Event::TradePrevented(prevented) => self.add_prevented(prevented, time),
            Event::OrderListChanged(list) => self.add_list(list, time),
            _ => {}
        }
    }

    fn add_order(&mut self, known: &KnownOrder) {
        self.add_names(&known.order);
        self.orders.insert(key_of(known), known.clone());
    }

    fn add_names(&mut self, order: &Order) {
        let key = user_order_key(order.uid, order.symbol, order.order_id);
        self.rows.push((key, order.created_at.0.to_be_bytes().to_vec()));
        self.add_name(order);
    }

    fn add_name(&mut self, order: &Order) {
        let key = client_id_key(order.uid, order.symbol, &order.client_order_id);
        self.rows.push((key, order.order_id.0.to_be_bytes().to_vec()));
    }

    fn add_trade(&mut self, trade: &MarketTrade) {
        let Trade { symbol, trade_id, taker, maker, .. } = trade.trade;
        self.rows.push((trade_key(symbol, trade_id), encode_trade(trade)));
        for (fill, is_maker) in [(taker, false), (maker, true)] {
            let key = user_trade_key(fill.uid, symbol, trade_id, is_maker);
            self.rows.push((key, encode_time_and_order(trade.time, fill.order_id)));
        }
    }

    fn add_prevented(&mut self, prevented: &PreventedMatch, time: Time) {
        let PreventedMatch { symbol, prevented_match_id: id, .. } = *prevented;
        self.rows.push((prevented_key(symbol, id), encode_timed(time, prevented)));
        let sides = [(prevented.taker_uid, prevented.taker_order_id), (prevented.maker_uid, prevented.maker_order_id)];
        for (uid, order_id) in sides {
            self.rows.push((user_prevented_key(uid, symbol, order_id, id), time.0.to_be_bytes().to_vec()));
        }
    }

    fn add_amendment(&mut self, amendment: Option<(SymbolId, Amendment)>) {
        if let Some((symbol, amendment)) = amendment {
            let key = amendment_key(symbol, amendment.order_id, amendment.execution_id);
            self.rows.push((key, encode_timed(amendment.time, &amendment)));
        }
    }

    fn add_list(&mut self, list: &OrderList, time: Time) {
        let number = list_number(list.symbol, list.order_list_id);
        let created_at = list.created_at.0.to_be_bytes().to_vec();
        self.rows.push((list_key(list.uid, number), encode_timed(time, list)));
        self.rows.push((list_time_key(list.uid, list.created_at, number), created_at));
        self.rows.push((list_name_key(list.uid, &list.list_client_order_id), number.to_be_bytes().to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use engine::command::{AddAsset, CancelOrder, OrderQuantity, OrderReference, PlaceOrder, Transfer};
    use engine::order::{ClientOrderId, OrderType, Side, TimeInForce};
    use engine::symbol::SymbolConfig;
    use engine::{Amount, AssetId, Command, Engine, OrderId, Sequence, SymbolId, TradeId, Uid};

    use super::*;
    use crate::opening::open_database;

    const SYMBOL: SymbolId = SymbolId(0);
    const UID: Uid = Uid(1);

    fn name(text: &str) -> ClientOrderId {
        ClientOrderId::new(text).unwrap()
    }

    fn place(side: Side, quantity: u128, client_order_id: &str) -> Command {
        Command::PlaceOrder(PlaceOrder {
            uid: UID,
            symbol: SYMBOL,
            client_order_id: name(client_order_id),
            side,
            order_type: OrderType::Limit,
            time_in_force: TimeInForce::Gtc,
            price: Amount(100),
            quantity: OrderQuantity::Base(Amount(quantity)),
            self_trade_prevention: None,
            special: None,
        })
    }

    fn cancel(client_order_id: &str) -> Command {
        let order = OrderReference { order_id: None, client_order_id: Some(name(client_order_id)) };
        let cancel_client_order_id = name("c");
        Command::CancelOrder(CancelOrder { uid: UID, symbol: SYMBOL, order, cancel_client_order_id, restriction: None })
    }

    #[tokio::test]
    async fn what_is_closed_and_old_goes_with_its_rows_and_what_is_open_or_new_stays() {
        let folder = tempfile::tempdir().unwrap();
        let database = open_database(folder.path()).unwrap();
        let (writer, thread) = HistoryWriter::start(database.clone(), HistoryDays::default(), &Failure::new()).unwrap();
        let asset = |name: &str| Command::AddAsset(AddAsset { name: name.into(), scale: 2 });
        let deposit = |asset: u32| {
            let external_id = asset.to_string();
            Command::Deposit(Transfer { uid: UID, asset: AssetId(asset), amount: Amount(1 << 40), external_id })
        };
        let symbol = SymbolConfig::plain("ABCXYZ", AssetId(0), AssetId(1), Amount(100), Amount(1));
        let commands = [
            (1, asset("ABC")),
            (1, asset("XYZ")),
            (1, Command::AddSymbol(Box::new(symbol))),
            (1, Command::OpenAccount { uid: UID }),
            (1, deposit(0)),
            (1, deposit(1)),
            (10, place(Side::Buy, 5, "stays-open")),
            (20, place(Side::Buy, 5, "reused")),
            (20, cancel("reused")),
            (30, place(Side::Sell, 2, "old-taker")),
            (200, place(Side::Buy, 5, "reused")),
            (200, cancel("reused")),
            (210, place(Side::Sell, 1, "new-taker")),
        ];
        let mut engine = Engine::new();
        for (time, command) in &commands {
            let mut events = Vec::new();
            engine.apply(Time(*time), command, &mut events);
            let ends = vec![events.len() as u32];
            let first_sequence = engine.sequence();
            assert!(writer.applied(Arc::new(Applied { first_sequence, time: Time(*time), events, ends })));
        }
        writer.wait_for(Sequence(commands.len() as u64)).await;

        let mut sweeper = Sweeper::new(HistoryDays { closed: 1, ..HistoryDays::default() }).unwrap();
        assert!(sweeper.sweep_some(&database, Time(100)).unwrap());

        let history = writer.reader();
        let names = |page| {
            let orders = history.orders(UID, SYMBOL, page, 100).unwrap();
            orders.iter().map(|known| known.order.client_order_id.as_str().to_string()).collect::<Vec<_>>()
        };
        // "stays-open" is order 1; 2 and 3 are closed and old; 4 and 5 are new.
        assert_eq!(names(Page::FromId(0)), ["stays-open", "reused", "new-taker"]);
        assert_eq!(history.order(SYMBOL, OrderId(2)).unwrap(), None);
        let reused = history.order_by_client_id(SYMBOL, UID, &name("reused")).unwrap().unwrap();
        assert_eq!(reused.order.order_id, OrderId(4));
        assert_eq!(history.order_by_client_id(SYMBOL, UID, &name("old-taker")).unwrap(), None);
        let trades = history.trades(SYMBOL, Page::FromId(0), 100).unwrap();
        assert_eq!(trades.iter().map(|trade| trade.trade.trade_id).collect::<Vec<_>>(), [TradeId(2)]);
        assert_eq!(history.account_trades(UID, SYMBOL, None, Page::FromId(0), 100).unwrap().len(), 2);

        writer.stop();
        thread.join().unwrap();
    }
}
