//! Takes out of history what is older than the operator keeps: closed orders, trades, prevented matches and ended lists, each
//! with the rows that point to it, in one batch; and short candles, by whole days. What is open stays however old it is, and so
//! do the last candles of every symbol, which tell the price.
//!
//! It works on history's own thread between two batches, a few rows at a time, so it never races with a row that is being
//! written and never holds history up for long.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::Time;
use engine::event::{OrderList, OrderListStatus, PreventedMatch};
use rocksdb::{DB, Direction, IteratorMode, WriteBatch, WriteOptions};

use crate::candle::Grain;
use crate::database::family;
use crate::format::{
    CANDLE_ROWS, HISTORY, IMPORTED_ROWS, LIST_ROWS, ORDER_ROWS, PREVENTED_ROWS, TRADE_ROWS, amendment_rows,
    candle_of_key, candle_rows, client_id_key, decode_order, decode_timed, list_name_key, list_number, list_time_key,
    number_at, prevented_rows, user_prevented_key, user_trade_key,
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
const KINDS: [u8; 4] = [LIST_ROWS, PREVENTED_ROWS, TRADE_ROWS, ORDER_ROWS];

/// How many days what is kept; 0 is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryDays {
    /// Closed orders, trades and lists.
    pub closed: u32,
    /// Candles of a second.
    pub second_candles: u32,
    /// Candles of a minute. Those of hours and days, which are few, stay for ever.
    pub minute_candles: u32,
}

/// The kinds of candles, in the order of their keys.
const CANDLE_KINDS: [u8; 2] = [IMPORTED_ROWS, CANDLE_ROWS];

/// Where it is.
pub(crate) struct Sweeper {
    days: HistoryDays,
    /// The next key to look at.
    next: Vec<u8>,
    /// The next candle to look at.
    next_candle: Vec<u8>,
    due_at: Instant,
}

impl Sweeper {
    /// One that takes out what is older than so many days; none where all is kept.
    pub(crate) fn new(days: HistoryDays) -> Option<Sweeper> {
        let (next, next_candle) = (vec![KINDS[0]], vec![CANDLE_KINDS[0]]);
        (days != HistoryDays::default()).then(|| Sweeper { days, next, next_candle, due_at: Instant::now() })
    }

    /// When the next step is due.
    pub(crate) fn due_at(&self) -> Instant {
        self.due_at
    }

    /// Looks at the next few rows.
    pub(crate) fn step(&mut self, database: &DB) -> Result<(), rocksdb::Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let cutoff = |days: u32| {
            let kept = Duration::from_secs(u64::from(days) * 24 * 60 * 60);
            (days > 0).then(|| Time(now.saturating_sub(kept).as_micros() as u64))
        };
        let mut done = true;
        if let Some(cutoff) = cutoff(self.days.closed) {
            done &= self.sweep_some(database, cutoff)?;
        }
        let candles = [cutoff(self.days.second_candles), cutoff(self.days.minute_candles)];
        if candles != [None; 2] {
            done &= self.sweep_candles(database, candles)?;
        }
        self.due_at = Instant::now() + if done { SWEEP_INTERVAL } else { STEP_INTERVAL };
        Ok(())
    }

    /// Looks at the next few rows for what is older than `cutoff`; true when the last row was seen.
    pub(crate) fn sweep_some(&mut self, database: &DB, cutoff: Time) -> Result<bool, rocksdb::Error> {
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

impl Sweeper {
    /// Looks at the next few candles for seconds and minutes of days that ended before these times; true when the last was seen.
    pub(crate) fn sweep_candles(
        &mut self,
        database: &DB,
        [seconds, minutes]: [Option<Time>; 2],
    ) -> Result<bool, rocksdb::Error> {
        let history = family(database, HISTORY);
        let mut gone = WriteBatch::default();
        let mut rows = database.iterator_cf(history, IteratorMode::From(&self.next_candle, Direction::Forward));
        // A candle that goes unless it turns out to be the last of its length.
        let mut old = None::<Box<[u8]>>;
        let mut seen = 0;
        let next = loop {
            let Some((key, _)) = rows.next().transpose()? else { break None };
            let kind = key.first().copied().unwrap_or_default();
            if !CANDLE_KINDS.contains(&kind) {
                let Some(next) = CANDLE_KINDS.into_iter().find(|wanted| *wanted > kind) else { break None };
                rows.set_mode(IteratorMode::From(&[next], Direction::Forward));
                continue;
            }
            if seen == STEP_ROWS {
                // The one before it is looked at again: it may be the last.
                break Some(old.unwrap_or(key).into_vec());
            }
            seen += 1;
            let Some((symbol, grain, open_time)) = candle_of_key(&key) else { continue };
            if let Some(before) = old.take().filter(|before| before[..before.len() - 8] == key[..key.len() - 8]) {
                gone.delete_cf(history, before);
            }
            let cutoff = match grain {
                Grain::Second => seconds,
                Grain::Minute => minutes,
                Grain::Hour | Grain::Day => None,
            };
            if cutoff.is_some_and(|cutoff| open_time < Grain::Day.floor(cutoff)) {
                old = Some(key);
            } else {
                // All that follow of this length are newer.
                let mut next = candle_rows(kind, symbol, grain);
                next.extend([u8::MAX; 9]);
                rows.set_mode(IteratorMode::From(&next, Direction::Forward));
            }
        };
        if !gone.is_empty() {
            let mut options = WriteOptions::default();
            options.disable_wal(true);
            database.write_opt(gone, &options)?;
        }
        let done = next.is_none();
        self.next_candle = next.unwrap_or_else(|| vec![CANDLE_KINDS[0]]);
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
    let Some(KnownOrder { order, .. }) = decode_order(key, value) else { return Ok(()) };
    if order.status.is_open() || order.updated_at >= cutoff {
        return Ok(());
    }
    delete(key);
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
