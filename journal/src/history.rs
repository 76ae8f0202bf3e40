//! Orders and trades of the past in RocksDB, written from Applied by a thread of its own.
//!
//! Every batch carries the watermark, the last sequence that is in it; what is at or below it is skipped, so applying a
//! log twice writes nothing twice. The batches are not in RocksDB's own log: after a crash they are written again from
//! the raft log, which is why a snapshot, behind which that log may go, waits until history is flushed.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use engine::event::{Event, Fill, Trade};
use engine::order::ClientOrderId;
use engine::{Order, OrderId, Sequence, Snapshot, SymbolId, Time, TradeId, Uid};
use rocksdb::{DB, Direction, IteratorMode, WriteBatch, WriteOptions};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::failure::{Failure, StartError};
use crate::log_store::{HISTORY, family};
use crate::record::{Applied, open, seal};

/// Entries that may wait to be written; when it is full, the engine waits.
const QUEUE_MAX: usize = 256;
/// A batch is closed when so many commands are in it: the log's writer must not wait long for it.
const BATCH_COMMANDS_MAX: usize = 1_024;
/// How long a reader waits for history to catch up.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// A trade as the market sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarketTrade {
    /// When.
    pub time: Time,
    /// The command that made it.
    pub sequence: Sequence,
    /// The trade.
    pub trade: Trade,
}

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
    #[error("history cannot be read: {0}")]
    Database(String),
    /// A record that is not one.
    #[error("history is damaged at {0}")]
    Damaged(String),
}

// Keys and values, side by side. Numbers in keys are big-endian, so the order of keys is the order of ids. Values that
// start with a time start with its eight big-endian bytes.

/// What a stored value of postcard's encoding starts with.
const VALUE_VERSION: u8 = 1;

/// -> a sealed `Sequence`: the last one that history holds.
const WATERMARK_KEY: &[u8] = b"w";

/// symbol, order id -> `Order`, its latest state.
fn order_key(symbol: SymbolId, order_id: OrderId) -> Vec<u8> {
    [b"o".as_slice(), &symbol.0.to_be_bytes(), &order_id.0.to_be_bytes()].concat()
}

/// user, symbol, client order id -> the id of the most recent order of that name.
fn client_id_key(uid: Uid, symbol: SymbolId, client_order_id: &ClientOrderId) -> Vec<u8> {
    [user_rows(b'c', uid, symbol).as_slice(), client_order_id.as_str().as_bytes()].concat()
}

/// user, symbol, order id -> time of creation.
fn user_order_key(uid: Uid, symbol: SymbolId, order_id: OrderId) -> Vec<u8> {
    [user_rows(b'u', uid, symbol).as_slice(), &order_id.0.to_be_bytes()].concat()
}

/// user, symbol, trade id, whether as maker -> time, the user's order id.
fn user_trade_key(uid: Uid, symbol: SymbolId, trade_id: TradeId, is_maker: bool) -> Vec<u8> {
    [user_rows(b'a', uid, symbol).as_slice(), &trade_id.0.to_be_bytes(), &[is_maker.into()]].concat()
}

/// symbol, trade id -> time, `(Sequence, Trade)`.
fn trade_key(symbol: SymbolId, trade_id: TradeId) -> Vec<u8> {
    [trade_rows(symbol).as_slice(), &trade_id.0.to_be_bytes()].concat()
}

fn user_rows(kind: u8, uid: Uid, symbol: SymbolId) -> Vec<u8> {
    [[kind].as_slice(), &uid.0.to_be_bytes(), &symbol.0.to_be_bytes()].concat()
}

fn trade_rows(symbol: SymbolId) -> Vec<u8> {
    [b"t".as_slice(), &symbol.0.to_be_bytes()].concat()
}

fn encode(head: &[u8], value: &impl Serialize) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes.push(VALUE_VERSION);
    postcard::to_extend(value, bytes).expect("plain data can always be encoded")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (version, value) = bytes.split_first()?;
    if *version == VALUE_VERSION { postcard::from_bytes(value).ok() } else { None }
}

fn encode_time_and_order(time: Time, order_id: OrderId) -> Vec<u8> {
    [time.0.to_be_bytes(), order_id.0.to_be_bytes()].concat()
}

fn encode_trade(trade: &MarketTrade) -> Vec<u8> {
    encode(&trade.time.0.to_be_bytes(), &(trade.sequence, trade.trade))
}

fn decode_trade(bytes: &[u8]) -> Option<MarketTrade> {
    let (time, rest) = bytes.split_first_chunk()?;
    let (sequence, trade) = decode(rest)?;
    Some(MarketTrade { time: Time(u64::from_be_bytes(*time)), sequence, trade })
}

fn number_at(bytes: &[u8], position: usize) -> Option<u64> {
    let (number, _) = bytes.get(position..)?.split_first_chunk()?;
    Some(u64::from_be_bytes(*number))
}

/// Reads of history. Cheap to clone; the reads block on the disk.
#[derive(Clone)]
pub struct History {
    /// Weak, so that a reader that outlives the node does not keep its directory locked.
    database: Weak<DB>,
    watermark: watch::Receiver<Sequence>,
}

impl History {
    /// The last sequence it holds.
    pub fn watermark(&self) -> Sequence {
        *self.watermark.borrow()
    }

    /// Waits until it holds `sequence`, for two seconds at most.
    pub async fn wait_for(&self, sequence: Sequence) -> Result<(), HistoryLag> {
        let mut watermark = self.watermark.clone();
        let reached = tokio::time::timeout(WAIT_MAX, watermark.wait_for(|held| *held >= sequence)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(HistoryLag { watermark: self.watermark(), wanted: sequence }),
        }
    }

    /// An order's latest state, open or closed.
    pub fn order(&self, symbol: SymbolId, order_id: OrderId) -> Result<Option<Order>, HistoryError> {
        read_order(&*self.database()?, symbol, order_id)
    }

    /// The most recent order of that name.
    pub fn order_by_client_id(
        &self,
        symbol: SymbolId,
        uid: Uid,
        client_order_id: &ClientOrderId,
    ) -> Result<Option<Order>, HistoryError> {
        let database = self.database()?;
        let key = client_id_key(uid, symbol, client_order_id);
        let Some(found) = get(&database, &key)? else { return Ok(None) };
        let order_id = number_at(&found, 0).ok_or_else(|| damaged(&key))?;
        read_order(&database, symbol, OrderId(order_id))
    }

    /// A user's orders in a symbol; a page's time is the time of creation, its id the order id.
    pub fn orders(&self, uid: Uid, symbol: SymbolId, page: Page, limit: usize) -> Result<Vec<Order>, HistoryError> {
        let database = self.database()?;
        let rows = Rows { database: &database, prefix: user_rows(b'u', uid, symbol) };
        let found = rows.page(page, 0..u64::MAX, limit, |_| true)?;
        let order = |row: Row| read_order(&database, symbol, OrderId(row.id))?.ok_or_else(|| damaged(&row.key));
        found.into_iter().map(order).collect()
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
        let database = self.database()?;
        let rows = Rows { database: &database, prefix: user_rows(b'a', uid, symbol) };
        let mut within = 0..u64::MAX;
        if let Some(order_id) = order {
            let Some(order) = read_order(&database, symbol, order_id)? else { return Ok(Vec::new()) };
            within = rows.first_id_at(order.created_at)?..rows.first_id_after(order.updated_at)?;
        }
        let wanted = |row: &Row| order.is_none_or(|order_id| number_at(&row.value, 8) == Some(order_id.0));
        let found = rows.page(page, within, limit, wanted)?;
        let trade = |row: Row| {
            let found = read_trade(&database, symbol, TradeId(row.id))?.ok_or_else(|| damaged(&row.key))?;
            let is_maker = row.key.last() == Some(&1);
            Ok(AccountTrade { time: found.time, trade: found.trade, is_maker })
        };
        found.into_iter().map(trade).collect()
    }

    /// A symbol's trades; a page's id is the trade id.
    pub fn trades(&self, symbol: SymbolId, page: Page, limit: usize) -> Result<Vec<MarketTrade>, HistoryError> {
        let database = self.database()?;
        let rows = Rows { database: &database, prefix: trade_rows(symbol) };
        let found = rows.page(page, 0..u64::MAX, limit, |_| true)?;
        found.into_iter().map(|row| decode_trade(&row.value).ok_or_else(|| damaged(&row.key))).collect()
    }

    /// Shows `visit` every trade of a symbol from `first` on, in order.
    pub fn scan_trades(
        &self,
        symbol: SymbolId,
        first: TradeId,
        mut visit: impl FnMut(&MarketTrade),
    ) -> Result<(), HistoryError> {
        let database = self.database()?;
        let rows = Rows { database: &database, prefix: trade_rows(symbol) };
        for row in rows.ascending(first.0) {
            let row = row?;
            visit(&decode_trade(&row.value).ok_or_else(|| damaged(&row.key))?);
        }
        Ok(())
    }

    fn database(&self) -> Result<Arc<DB>, HistoryError> {
        self.database.upgrade().ok_or(HistoryError::Stopped)
    }
}

fn damaged(key: &[u8]) -> HistoryError {
    HistoryError::Damaged(format!("key {key:02x?} of column family `{HISTORY}`"))
}

fn get(database: &DB, key: &[u8]) -> Result<Option<Vec<u8>>, HistoryError> {
    database.get_cf(family(database, HISTORY), key).map_err(|error| HistoryError::Database(error.into_string()))
}

fn read_order(database: &DB, symbol: SymbolId, order_id: OrderId) -> Result<Option<Order>, HistoryError> {
    let key = order_key(symbol, order_id);
    get(database, &key)?.map(|bytes| decode(&bytes).ok_or_else(|| damaged(&key))).transpose()
}

fn read_trade(database: &DB, symbol: SymbolId, trade_id: TradeId) -> Result<Option<MarketTrade>, HistoryError> {
    let key = trade_key(symbol, trade_id);
    get(database, &key)?.map(|bytes| decode_trade(&bytes).ok_or_else(|| damaged(&key))).transpose()
}

/// The rows whose key is a prefix and then an id, and whose value starts with a time. Times ascend with ids.
struct Rows<'a> {
    database: &'a DB,
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
            return self.ascending(start).take_while(inside).filter(is_wanted).take(limit).collect();
        }
        let mut found: Vec<Row> =
            self.descending(end - 1).take_while(inside).filter(is_wanted).take(limit).collect::<Result<_, _>>()?;
        found.reverse();
        Ok(found)
    }

    fn ascending(&self, from: u64) -> impl Iterator<Item = Result<Row, HistoryError>> {
        self.rows(self.key(from), Direction::Forward)
    }

    fn descending(&self, from: u64) -> impl Iterator<Item = Result<Row, HistoryError>> {
        // Above every key of that id.
        self.rows([self.key(from).as_slice(), &[u8::MAX]].concat(), Direction::Reverse)
    }

    fn rows(&self, from: Vec<u8>, direction: Direction) -> impl Iterator<Item = Result<Row, HistoryError>> {
        let mode = IteratorMode::From(&from, direction);
        let found = self.database.iterator_cf(family(self.database, HISTORY), mode);
        let rows = found.map(|item| item.map_err(|error| HistoryError::Database(error.into_string())));
        let inside = rows.take_while(|row| row.as_ref().map_or(true, |(key, _)| key.starts_with(&self.prefix)));
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
        let (Some(first), Some(last)) = (self.ascending(0).next(), self.descending(u64::MAX).next()) else {
            return Ok(0);
        };
        let (mut low, mut high) = (first?.id, last?.id.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            match self.ascending(middle).next().transpose()? {
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
    database: Weak<DB>,
    watermark: watch::Receiver<Sequence>,
}

enum Message {
    Restored(Arc<Snapshot>),
    Applied(Arc<Applied>),
    Stop,
}

impl HistoryWriter {
    /// Opens what there is and starts the thread.
    pub(crate) fn start(database: Arc<DB>, failure: &Failure) -> Result<(HistoryWriter, JoinHandle<()>), StartError> {
        let found = database.get_cf(family(&database, HISTORY), WATERMARK_KEY);
        let place = || format!("the watermark in column family `{HISTORY}` in {}", database.path().display());
        let bytes = found.map_err(|error| StartError::damaged(place(), error))?;
        let watermark = bytes.map_or(Ok(Sequence(0)), |bytes| open(&bytes));
        let watermark = watermark.map_err(|error| StartError::damaged(place(), error))?;
        let (messages, queue) = crossbeam_channel::bounded(QUEUE_MAX);
        let announced = watch::Sender::new(watermark);
        let writer = HistoryWriter { messages, database: Arc::downgrade(&database), watermark: announced.subscribe() };
        let thread = Thread { database, queue, open: HashMap::new(), watermark, announced, failure: failure.clone() };
        Ok((writer, failure.spawn("history", move || thread.run())))
    }

    /// The reading side.
    pub(crate) fn reader(&self) -> History {
        History { database: self.database.clone(), watermark: self.watermark.clone() }
    }

    /// Starts from this state; false when the thread has ended.
    pub(crate) fn restored(&self, state: Arc<Snapshot>) -> bool {
        self.messages.send(Message::Restored(state)).is_ok()
    }

    /// Files what happened next; false when the thread has ended.
    pub(crate) fn applied(&self, applied: Arc<Applied>) -> bool {
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
    open: HashMap<(SymbolId, OrderId), Order>,
    watermark: Sequence,
    announced: watch::Sender<Sequence>,
    failure: Failure,
}

/// What is written together.
struct Batch {
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// The orders that changed, each written once with its last state.
    orders: HashMap<(SymbolId, OrderId), Order>,
    commands: usize,
    watermark: Sequence,
}

impl Thread {
    fn run(mut self) {
        while let Ok(message) = self.queue.recv() {
            let mut batch = Batch::after(self.watermark);
            let mut next = Some(message);
            let mut stop = false;
            while let Some(message) = next {
                match message {
                    Message::Restored(state) => self.restore(&state, &mut batch),
                    Message::Applied(applied) => self.file(&applied, &mut batch),
                    Message::Stop => stop = true,
                }
                let full = batch.commands >= BATCH_COMMANDS_MAX || stop;
                next = if full { None } else { self.queue.try_recv().ok() };
            }
            if !self.write(batch) || stop {
                break;
            }
        }
    }

    fn write(&mut self, mut batch: Batch) -> bool {
        if batch.watermark == self.watermark {
            return true;
        }
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
            self.failure.report(format!("history in {} cannot be written: {error}", self.database.path().display()));
            return false;
        }
        self.watermark = batch.watermark;
        self.announced.send_replace(self.watermark);
        true
    }

    fn restore(&mut self, state: &Snapshot, batch: &mut Batch) {
        let books = state.symbols.iter().flat_map(|symbol| symbol.bids.iter().chain(&symbol.asks));
        self.open = books.map(|order| ((order.symbol, order.order_id), *order)).collect();
        if state.sequence <= batch.watermark {
            return;
        }
        // The state came from a peer; what closed in between is in the peer's history only.
        tracing::warn!("history has a hole from sequence {} to {}", batch.watermark, state.sequence);
        for order in self.open.values() {
            batch.add_order(order);
        }
        batch.watermark = state.sequence;
    }

    fn file(&mut self, applied: &Applied, batch: &mut Batch) {
        for index in 0..applied.len() {
            let sequence = applied.sequence(index);
            let is_new = sequence > batch.watermark;
            for event in applied.events_of(index) {
                let order = self.follow(event, applied.time);
                if is_new {
                    batch.add(event, order, applied.time, sequence);
                }
            }
            batch.watermark = batch.watermark.max(sequence);
        }
        batch.commands += applied.len();
    }

    /// Keeps the open orders up to date; the states of the orders that the event changed.
    fn follow(&mut self, event: &Event, time: Time) -> [Option<Order>; 2] {
        match event {
            Event::OrderAccepted(order) | Event::OrderAmended { order, .. } => {
                self.open.insert((order.symbol, order.order_id), *order);
                [Some(*order), None]
            }
            Event::Trade(trade) => [&trade.taker, &trade.maker].map(|fill| Some(self.fill(trade.symbol, fill, time))),
            Event::OrderCanceled { order, .. } | Event::OrderExpired { order, .. } => {
                self.open.remove(&(order.symbol, order.order_id));
                [Some(*order), None]
            }
            _ => [None, None],
        }
    }

    fn fill(&mut self, symbol: SymbolId, fill: &Fill, time: Time) -> Order {
        let key = (symbol, fill.order_id);
        let order = self.open.get_mut(&key).expect("an order that trades is open");
        order.executed = fill.executed;
        order.cumulative_quote = fill.cumulative_quote;
        order.status = fill.status;
        order.updated_at = time;
        if !order.quote_order_quantity.is_zero() {
            order.quantity = fill.executed;
        }
        let order = *order;
        if !order.status.is_open() {
            self.open.remove(&key);
        }
        order
    }
}

impl Batch {
    fn after(watermark: Sequence) -> Batch {
        Batch { rows: Vec::new(), orders: HashMap::new(), commands: 0, watermark }
    }

    fn add(&mut self, event: &Event, orders: [Option<Order>; 2], time: Time, sequence: Sequence) {
        match event {
            Event::OrderAccepted(order) => self.add_order(order),
            Event::OrderAmended { order, .. } => self.add_name(order),
            Event::Trade(trade) => self.add_trade(&MarketTrade { time, sequence, trade: *trade }),
            _ => {}
        }
        for order in orders.into_iter().flatten() {
            self.orders.insert((order.symbol, order.order_id), order);
        }
    }

    fn add_order(&mut self, order: &Order) {
        let key = user_order_key(order.uid, order.symbol, order.order_id);
        self.rows.push((key, order.created_at.0.to_be_bytes().to_vec()));
        self.add_name(order);
        self.orders.insert((order.symbol, order.order_id), *order);
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
}

#[cfg(test)]
mod tests {
    use engine::order::{OrderStatus, OrderType, Side, TimeInForce};
    use engine::{Amount, AssetId, Price, Quantity};

    use super::*;

    /// Numbers without a pattern, the same in every run.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.0 >> (self.0 >> 58)
        }

        fn order(&mut self) -> Order {
            Order {
                order_id: OrderId(self.next()),
                symbol: SymbolId(self.next() as u32),
                uid: Uid(self.next()),
                client_order_id: ClientOrderId::new(&format!("name-{}", self.next())).unwrap(),
                side: [Side::Buy, Side::Sell][self.next() as usize % 2],
                order_type: [OrderType::Limit, OrderType::Market, OrderType::LimitMaker][self.next() as usize % 3],
                time_in_force: TimeInForce::Ioc,
                price: Price(self.next()),
                quantity: Quantity(self.next()),
                quote_order_quantity: Amount(u128::from(self.next()) * u128::from(self.next())),
                executed: Quantity(self.next()),
                cumulative_quote: Amount(u128::from(self.next()) * u128::from(self.next())),
                status: OrderStatus::Expired,
                created_at: Time(self.next()),
                updated_at: Time(self.next()),
            }
        }

        fn fill(&mut self) -> Fill {
            Fill {
                order_id: OrderId(self.next()),
                uid: Uid(self.next()),
                fee: Amount(u128::from(self.next())),
                fee_asset: AssetId(self.next() as u32),
                executed: Quantity(self.next()),
                cumulative_quote: Amount(u128::from(self.next())),
                status: OrderStatus::PartiallyFilled,
            }
        }

        fn trade(&mut self) -> MarketTrade {
            let trade = Trade {
                symbol: SymbolId(self.next() as u32),
                trade_id: TradeId(self.next()),
                aggregate_id: self.next(),
                price: Price(self.next()),
                quantity: Quantity(self.next()),
                quote_amount: Amount(u128::from(self.next())),
                taker: self.fill(),
                maker: self.fill(),
                taker_side: Side::Sell,
            };
            MarketTrade { time: Time(self.next()), sequence: Sequence(self.next()), trade }
        }
    }

    #[test]
    fn values_come_back_as_they_were() {
        let mut numbers = Numbers(1);
        for _ in 0..1_000 {
            let (order, trade) = (numbers.order(), numbers.trade());
            assert_eq!(decode::<Order>(&encode(&[], &order)), Some(order));
            assert_eq!(decode_trade(&encode_trade(&trade)), Some(trade));
            let row = encode_time_and_order(order.created_at, order.order_id);
            assert_eq!((number_at(&row, 0), number_at(&row, 8)), (Some(order.created_at.0), Some(order.order_id.0)));
        }
    }

    #[test]
    fn the_order_of_keys_is_the_order_of_ids() {
        let mut numbers = Numbers(2);
        for _ in 0..1_000 {
            let (uid, symbol, a, b) = (Uid(numbers.next()), SymbolId(7), numbers.next(), numbers.next());
            let expected = a.cmp(&b);
            assert_eq!(order_key(symbol, OrderId(a)).cmp(&order_key(symbol, OrderId(b))), expected);
            let of = |id| user_order_key(uid, symbol, OrderId(id));
            assert_eq!(of(a).cmp(&of(b)), expected);
            assert_eq!(number_at(&of(a), user_rows(b'u', uid, symbol).len()), Some(a));
            assert_eq!(trade_key(symbol, TradeId(a)).cmp(&trade_key(symbol, TradeId(b))), expected);
            assert!(user_trade_key(uid, symbol, TradeId(a), false) < user_trade_key(uid, symbol, TradeId(a), true));
        }
    }

    #[test]
    fn damaged_values_are_not_read_as_something_else() {
        assert_eq!(decode::<Order>(&[]), None);
        assert_eq!(decode::<Order>(&[9, 1, 1]), None);
        assert_eq!(decode_trade(&[0; 7]), None);
    }
}
