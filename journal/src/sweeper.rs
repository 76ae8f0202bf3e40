//! Takes out of history what is older than the operator keeps: closed orders, trades, prevented matches and ended lists, each
//! with the rows that point to it, in one batch. What is open stays however old it is.
//!
//! It works on history's own thread between two batches, a few rows at a time, so it never races with a row that is being
//! written and never holds history up for long.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::Time;
use engine::event::{OrderList, OrderListStatus, PreventedMatch};
use rocksdb::{DB, Direction, IteratorMode, WriteBatch, WriteOptions};

use crate::database::family;
use crate::format::{
    HISTORY, LIST_ROWS, ORDER_ROWS, PREVENTED_ROWS, TRADE_ROWS, amendment_rows, client_id_key, decode, decode_timed,
    list_name_key, list_number, list_time_key, number_at, prevented_rows, user_order_key, user_prevented_key,
    user_trade_key,
};
use crate::open_orders::KnownOrder;
use crate::record::MarketTrade;

/// How many rows one step looks at.
const STEP_ROWS: usize = 500;
/// The pause between two steps.
const STEP_INTERVAL: Duration = Duration::from_millis(50);
/// The pause between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// The kinds of rows that are looked at, in the order of their keys; the others go with them.
const KINDS: [u8; 4] = [LIST_ROWS, ORDER_ROWS, PREVENTED_ROWS, TRADE_ROWS];

/// Where it is.
pub(crate) struct Sweeper {
    /// How long what is closed stays.
    kept: Duration,
    /// The next key to look at.
    next: Vec<u8>,
    due_at: Instant,
}

impl Sweeper {
    /// One that takes out what is older than so many days; none for 0.
    pub(crate) fn new(days: u32) -> Option<Sweeper> {
        let kept = Duration::from_secs(u64::from(days) * 24 * 60 * 60);
        (days > 0).then(|| Sweeper { kept, next: vec![KINDS[0]], due_at: Instant::now() })
    }

    /// When the next step is due.
    pub(crate) fn due_at(&self) -> Instant {
        self.due_at
    }

    /// Looks at the next few rows.
    pub(crate) fn step(&mut self, database: &DB) -> Result<(), rocksdb::Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let cutoff = Time(now.saturating_sub(self.kept).as_micros() as u64);
        let done = self.sweep_some(database, cutoff)?;
        self.due_at = Instant::now() + if done { SWEEP_INTERVAL } else { STEP_INTERVAL };
        Ok(())
    }

    /// True when the last row was seen.
    fn sweep_some(&mut self, database: &DB, cutoff: Time) -> Result<bool, rocksdb::Error> {
        let history = family(database, HISTORY);
        let mut gone = WriteBatch::default();
        let mut rows = database.iterator_cf(history, IteratorMode::From(&self.next, Direction::Forward));
        let mut seen = 0;
        let next = loop {
            let Some((key, value)) = rows.next().transpose()? else { break None };
            let kind = key.first().copied().unwrap_or_default();
            if !KINDS.contains(&kind) {
                // On to the next kind of rows.
                let Some(next) = KINDS.into_iter().find(|wanted| *wanted > kind) else { break None };
                rows.set_mode(IteratorMode::From(&[next], Direction::Forward));
                continue;
            }
            if seen == STEP_ROWS {
                break Some(key.into_vec());
            }
            seen += 1;
            let mut delete = |key: &[u8]| gone.delete_cf(history, key);
            match kind {
                ORDER_ROWS => sweep_order(database, cutoff, &key, &value, &mut delete)?,
                TRADE_ROWS => sweep_trade(cutoff, &key, &value, &mut delete),
                PREVENTED_ROWS => sweep_prevented(cutoff, &key, &value, &mut delete),
                _ => sweep_list(database, cutoff, &key, &value, &mut delete)?,
            }
        };
        if !gone.is_empty() {
            let mut options = WriteOptions::default();
            options.disable_wal(true);
            database.write_opt(gone, &options)?;
        }
        let done = next.is_none();
        self.next = next.unwrap_or_else(|| vec![KINDS[0]]);
        Ok(done)
    }
}

// What cannot be read is left: `rialto journal verify` names it.

fn sweep_order(
    database: &DB,
    cutoff: Time,
    key: &[u8],
    value: &[u8],
    delete: &mut impl FnMut(&[u8]),
) -> Result<(), rocksdb::Error> {
    let Some(KnownOrder { order, .. }) = decode(value) else { return Ok(()) };
    if order.status.is_open() || order.updated_at >= cutoff {
        return Ok(());
    }
    delete(key);
    delete(&user_order_key(order.uid, order.symbol, order.order_id));
    let name = client_id_key(order.uid, order.symbol, &order.client_order_id);
    delete_if_it_points_to(database, &name, order.order_id.0, delete)?;
    for prefix in
        [amendment_rows(order.symbol, order.order_id), prevented_rows(order.uid, order.symbol, order.order_id)]
    {
        for row in database.iterator_cf(family(database, HISTORY), IteratorMode::From(&prefix, Direction::Forward)) {
            let (key, _) = row?;
            if !key.starts_with(&prefix) {
                break;
            }
            delete(&key);
        }
    }
    Ok(())
}

fn sweep_trade(cutoff: Time, key: &[u8], value: &[u8], delete: &mut impl FnMut(&[u8])) {
    let Some(MarketTrade { time, trade, .. }) = crate::format::decode_trade(value) else { return };
    if time < cutoff {
        delete(key);
        delete(&user_trade_key(trade.taker.uid, trade.symbol, trade.trade_id, false));
        delete(&user_trade_key(trade.maker.uid, trade.symbol, trade.trade_id, true));
    }
}

fn sweep_prevented(cutoff: Time, key: &[u8], value: &[u8], delete: &mut impl FnMut(&[u8])) {
    let Some((time, prevented)) = decode_timed::<PreventedMatch>(value) else { return };
    if time < cutoff {
        let PreventedMatch { symbol, prevented_match_id: id, .. } = prevented;
        delete(key);
        delete(&user_prevented_key(prevented.taker_uid, symbol, prevented.taker_order_id, id));
        delete(&user_prevented_key(prevented.maker_uid, symbol, prevented.maker_order_id, id));
    }
}

fn sweep_list(
    database: &DB,
    cutoff: Time,
    key: &[u8],
    value: &[u8],
    delete: &mut impl FnMut(&[u8]),
) -> Result<(), rocksdb::Error> {
    let Some((time, list)) = decode_timed::<OrderList>(value) else { return Ok(()) };
    if list.status != OrderListStatus::AllDone || time >= cutoff {
        return Ok(());
    }
    let number = list_number(list.symbol, list.order_list_id);
    delete(key);
    delete(&list_time_key(list.uid, list.created_at, number));
    delete_if_it_points_to(database, &list_name_key(list.uid, &list.list_client_order_id), number, delete)
}

/// A name may have been given again since.
fn delete_if_it_points_to(
    database: &DB,
    key: &[u8],
    number: u64,
    delete: &mut impl FnMut(&[u8]),
) -> Result<(), rocksdb::Error> {
    let found = database.get_cf(family(database, HISTORY), key)?;
    if found.is_some_and(|value| number_at(&value, 0) == Some(number)) {
        delete(key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::command::{AddAsset, CancelOrder, OrderQuantity, OrderReference, PlaceOrder, Transfer};
    use engine::order::{ClientOrderId, OrderType, Side, TimeInForce};
    use engine::symbol::SymbolConfig;
    use engine::{Amount, AssetId, Command, Engine, OrderId, Sequence, SymbolId, TradeId, Uid};

    use super::*;
    use crate::database::open_database;
    use crate::failure::Failure;
    use crate::history::{HistoryWriter, Page};
    use crate::record::Applied;

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
        let (writer, thread) = HistoryWriter::start(database.clone(), 0, &Failure::new()).unwrap();
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

        let mut sweeper = Sweeper::new(1).unwrap();
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
