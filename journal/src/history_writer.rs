//! The thread that files what happened: events in, rows out.
//!
//! Every batch carries the watermark, the last sequence that is in it; what is at or below it is skipped, so applying a
//! log twice writes nothing twice. The newest batches are in memory alone (recent_rows.rs): after a crash they are written again
//! from the raft log, which is why a snapshot, behind which that log may go, waits until history is flushed.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::io;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use engine::event::Event;
use engine::{Order, Sequence, Snapshot, SymbolId};
use rocksdb::DB;
use tokio::sync::watch;

use crate::backlog::{Backlog, EVENTS_MAX};
use crate::candle_filing::CandleFiling;
use crate::database::family;
use crate::failure::{Failure, StartError};
use crate::format::{HISTORY, WATERMARK_KEY, amendment_key, encode_timed, open};
use crate::history::{Amendment, History, HistoryError, read_order};
use crate::history_batch::Batch;
use crate::history_source::OwnRows;
use crate::history_tables::HistoryTables;
use crate::open_orders::{KnownOrder, NumberHasher, OpenOrders, symbol_of};
use crate::queue::{self, Receiver, Sender};
use crate::record::{Applied, MarketTrade, execution_id};
use crate::row_buffer::SortedRows;
use crate::runtime;
use crate::stats::QueueDepth;
use crate::sweeper::{HistoryDays, Sweeper};

/// The thread's priority, once it has the open orders: an order never waits for a core on which history is written. Not the
/// lowest, for it must keep up in the long run.
const NICENESS: i32 = 10;
/// A batch is closed when so many commands are in it: who waits for the first of them must not wait long for the others.
const BATCH_COMMANDS_MAX: usize = 1_024;
/// After a smaller batch the next one gathers for so long: to wake this thread for each entry would cost the orders more than to
/// file it. Who reads what is newest may wait for so long.
const GATHER: Duration = Duration::from_millis(1);

/// The way into history. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HistoryWriter {
    messages: Sender<Message>,
    backlog: Backlog,
    database: Weak<DB>,
    tables: HistoryTables,
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
        let (messages, queue) = queue::unbounded();
        let backlog = Backlog::default();
        let (announced, settled) = (watch::Sender::new(watermark), watch::Sender::new(None));
        let (tables, writing) = HistoryTables::start(database.clone(), failure);
        let writer = HistoryWriter {
            messages,
            backlog: backlog.clone(),
            database: Arc::downgrade(&database),
            tables: tables.clone(),
            watermark: announced.subscribe(),
            settled: settled.subscribe(),
        };
        let thread = Thread {
            database,
            tables,
            queue,
            open: HashMap::default(),
            candles: CandleFiling::default(),
            watermark,
            announced,
            settled,
            sweeper: Sweeper::new(days),
            failure: failure.clone(),
        };
        let run = move || {
            let _writing = writing;
            let _reader = backlog.reader();
            thread.run(&backlog);
        };
        Ok((writer, failure.spawn("history", run)))
    }

    /// One that files nothing, and says that it has: history follows from the log, and is not what is being tested.
    #[cfg(test)]
    pub(crate) fn filing_nothing(database: &Arc<DB>, failure: &Failure) -> HistoryWriter {
        let (messages, queue) = queue::unbounded();
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
        let (tables, database) = (HistoryTables::without_thread(database), Arc::downgrade(database));
        HistoryWriter { messages, backlog, database, tables, watermark, settled }
    }

    /// How many events wait to be written.
    pub(crate) fn queue(&self) -> QueueDepth {
        QueueDepth { depth: self.backlog.events() as u64, bound: EVENTS_MAX as u64 }
    }

    /// Whether there is room for much more than an entry.
    pub(crate) fn keeps_up(&self) -> bool {
        self.backlog.events() < EVENTS_MAX / 2
    }

    /// The reading side.
    pub(crate) fn reader(&self) -> History {
        let (database, recent) = (self.database.clone(), self.tables.recent.clone());
        History::here(database, recent, self.watermark.clone(), self.settled.clone())
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

    /// Makes what is filed durable.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.write_recent()?;
        let database = self.database.upgrade().ok_or_else(|| io::Error::other("the database is closed"))?;
        database.flush_cf(family(&database, HISTORY)).map_err(io::Error::other)
    }

    /// Has what is filed stand in the database itself.
    pub(crate) fn write_recent(&self) -> io::Result<()> {
        self.tables.write()
    }

    /// Tells the thread to write what is queued and end.
    pub(crate) fn stop(&self) {
        // The thread is gone already when this fails.
        let _ = self.messages.send(Message::Stop);
    }
}

/// The thread that files.
struct Thread {
    database: Arc<DB>,
    tables: HistoryTables,
    queue: Receiver<Message>,
    /// The open orders, because a trade tells only what changed. As many as there are in the books.
    open: HashMap<SymbolId, OpenOrders, BuildHasherDefault<NumberHasher>>,
    candles: CandleFiling,
    watermark: Sequence,
    announced: watch::Sender<Sequence>,
    /// The last state that it was given, once its rows go on from it.
    settled: watch::Sender<Option<Sequence>>,
    sweeper: Option<Sweeper>,
    failure: Failure,
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
                        if !self.write(batch) || !self.write_table() {
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
            let gathers = batch.commands < BATCH_COMMANDS_MAX;
            if !self.write(batch) {
                break;
            }
            if settled.is_some() {
                self.settled.send_replace(settled);
                // Not before: meanwhile nothing leaves the backlog, and orders would soon wait for it.
                runtime::give_way(NICENESS);
            }
            if stop {
                self.write_table();
                break;
            }
            if gathers {
                std::thread::sleep(GATHER);
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

    fn fail(&self, error: &dyn std::fmt::Display) {
        self.failure.report(format!("history in {} cannot be written: {error}", self.database.path().display()));
    }

    fn write(&mut self, mut batch: Batch) -> bool {
        if batch.watermark > self.watermark {
            self.candles.take_changed(&mut batch.rows);
            batch.open.sort_unstable();
            batch.open.dedup();
            for (symbol, order_id) in std::mem::take(&mut batch.open) {
                // Those that ended since are there already, as they ended.
                if let Some(known) = self.open.get(&symbol).and_then(|open| open.get(order_id)) {
                    batch.put_order(known);
                }
            }
            batch.add_watermark();
            if !self.keep(batch.rows.sorted()) {
                return false;
            }
            self.watermark = batch.watermark;
            self.announced.send_replace(self.watermark);
        }
        true
    }

    /// Adds rows to the recent ones; false when a table that is needed first cannot be written.
    fn keep(&mut self, rows: SortedRows) -> bool {
        if self.tables.recent.add(rows) {
            self.tables.is_due();
        }
        !self.tables.recent.is_full() || self.write_table()
    }

    fn write_table(&self) -> bool {
        self.tables.write().map_err(|error| self.fail(&error)).is_ok()
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
        let own = OwnRows { database: self.database.clone(), recent: self.tables.recent.clone() };
        let recall = |order: Order| {
            let filed = || read_order(&own, order.uid, order.symbol, order.order_id).ok().flatten();
            let prevented_match =
                if order.prevented().is_zero() { None } else { filed().and_then(|filed| filed.prevented_match) };
            KnownOrder { prevented_match, ..order.into() }
        };
        OpenOrders::restore(orders.map(recall))
    }

    fn file(&mut self, applied: &Applied, batch: &mut Batch) {
        for index in 0..applied.len() {
            let sequence = applied.sequence(index);
            let is_new = sequence > batch.watermark;
            for (place, event) in applied.events_of(index).iter().enumerate() {
                if matches!(event, Event::LevelChanged { .. }) {
                    // The most frequent by far, and no part of history.
                    continue;
                }
                let amendment = self.amendment(event, execution_id(sequence, place));
                if let Event::SymbolAdded(symbol) = event {
                    self.candles.add_symbol(symbol);
                }
                if is_new {
                    batch.add(event, applied.time, sequence);
                    if let Event::Trade(trade) = event {
                        self.candles.add(&MarketTrade { time: applied.time, sequence, trade: *trade }, &mut batch.rows);
                    }
                    if let Some((symbol, amendment)) = amendment {
                        let key = amendment_key(symbol, amendment.order_id, amendment.execution_id);
                        batch.rows.put(&key, |value| encode_timed(value, amendment.time, &amendment));
                    }
                }
                if let Some(symbol) = symbol_of(event) {
                    let open = self.open.entry(symbol).or_default();
                    let changed = |known: &KnownOrder| {
                        if is_new {
                            batch.change(known)
                        }
                    };
                    open.follow(event, applied.time, changed);
                }
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

#[cfg(test)]
mod tests {
    use engine::command::{AddAsset, CancelOrder, OrderQuantity, OrderReference, PlaceOrder, Transfer};
    use engine::order::{ClientOrderId, OrderType, Side, TimeInForce};
    use engine::symbol::SymbolConfig;
    use engine::{Amount, AssetId, Command, Engine, OrderId, Sequence, SymbolId, Time, TradeId, Uid};

    use super::*;
    use crate::history::Page;
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
        writer.flush().unwrap();

        let mut sweeper = Sweeper::new(HistoryDays { closed: 1, ..HistoryDays::default() }).unwrap();
        assert!(sweeper.sweep_some(&database, Time(100)).unwrap());

        let history = writer.reader();
        let names = |page| {
            let orders = history.orders(UID, SYMBOL, page, 100).unwrap();
            orders.iter().map(|known| known.order.client_order_id.as_str().to_string()).collect::<Vec<_>>()
        };
        // "stays-open" is order 1; 2 and 3 are closed and old; 4 and 5 are new.
        assert_eq!(names(Page::FromId(0)), ["stays-open", "reused", "new-taker"]);
        assert_eq!(history.order(UID, SYMBOL, OrderId(2)).unwrap(), None);
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
