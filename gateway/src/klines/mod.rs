//! Candles from trades, on sequence time, in all sixteen intervals and every time zone.
//!
//! Kept are seconds, minutes, hours and days that had trades; the others are put together from them when they are read, and
//! the empty ones between them are made: flat at the close before them, with nothing in them. A series begins with its
//! symbol's first trade, or with what was imported for the time before. What is read is what anyone would build from the list
//! of trades, whatever was read before.
//!
//! The newest are in memory, which is bounded: 18 MB a symbol at the very most. All are in history (`journal`), from where
//! older ones are read. One thread writes; a reader holds a symbol's lock while it copies what it asked for.

mod compose;
mod interval;
mod memory;

use std::sync::Arc;

use arc_swap::ArcSwap;
use engine::symbol::Symbol;
use engine::{Price, SymbolId, Time};
pub use journal::Candle;
use journal::{CandleReader, HistoryError, MarketTrade};
use parking_lot::RwLock;

pub use self::compose::Query;
pub use self::interval::{Interval, Offset};
use self::memory::SymbolCandles;

/// The candles of every symbol.
#[derive(Default)]
pub struct Klines {
    symbols: ArcSwap<Vec<Arc<RwLock<SymbolCandles>>>>,
}

/// What traded since some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Flat at the last price when nothing did.
    pub sum: Candle,
    /// The last price before the window; the first one in it, when nothing traded before.
    pub previous_close: Price,
}

impl Klines {
    /// Nothing yet.
    pub fn new() -> Klines {
        Klines::default()
    }

    /// Forgets everything; these are the symbols now.
    pub fn reset<'a>(&self, symbols: impl Iterator<Item = &'a Symbol>) {
        self.symbols.store(Arc::new(symbols.map(new_symbol).collect()));
    }

    /// A symbol is listed.
    pub fn add_symbol(&self, symbol: &Symbol) {
        let mut symbols = Vec::clone(&self.symbols.load());
        symbols.push(new_symbol(symbol));
        self.symbols.store(Arc::new(symbols));
    }

    /// A symbol's candles are those of history.
    pub fn recall(&self, symbol: SymbolId, history: &CandleReader<'_>) -> Result<(), HistoryError> {
        match self.symbols.load().get(symbol.0 as usize) {
            Some(candles) => candles.write().recall(history),
            None => Ok(()),
        }
    }

    /// These trades of one symbol came next.
    pub fn add_trades<'a>(&self, symbol: SymbolId, trades: impl IntoIterator<Item = &'a MarketTrade>) {
        if let Some(candles) = self.symbols.load().get(symbol.0 as usize) {
            let mut candles = candles.write();
            trades.into_iter().for_each(|trade| candles.add(trade));
        }
    }

    /// A symbol's candles that begin from `start` to `end`, both included; at most `limit` of them: the first ones when there is
    /// a start, else the last ones. `None` where they are older than what is in memory: [`read`] has them.
    pub fn candles(&self, symbol: SymbolId, query: &Query) -> Option<Vec<Candle>> {
        let symbols = self.symbols.load();
        let Some(candles) = symbols.get(symbol.0 as usize) else { return Some(Vec::new()) };
        compose::candles(&*candles.read(), query).ok()
    }

    /// The candle that holds `time`, which may be empty; `None` before the first trade.
    pub fn candle_at(&self, symbol: SymbolId, interval: Interval, offset: Offset, time: Time) -> Option<Candle> {
        self.candles(symbol, &Query { interval, offset, start: None, end: time, limit: 1 })?.pop()
    }

    /// All trades since the whole second `start` as one candle, and the price before it. `None` before the first trade.
    /// Memory reaches back far enough for a day of seconds and a week of minutes.
    pub fn since(&self, symbol: SymbolId, start: Time, now: Time) -> Option<Window> {
        let symbols = self.symbols.load();
        let (sum, before) = compose::since(&*symbols.get(symbol.0 as usize)?.read(), start, now).ok()??;
        Some(Window { sum, previous_close: before.unwrap_or(sum.open) })
    }
}

/// The same as [`Klines::candles`], from all that history has.
pub fn read(history: &CandleReader<'_>, query: &Query) -> Result<Vec<Candle>, HistoryError> {
    compose::candles(history, query)
}

fn new_symbol(symbol: &Symbol) -> Arc<RwLock<SymbolCandles>> {
    Arc::new(RwLock::new(SymbolCandles::new(symbol)))
}

#[cfg(test)]
mod tests {
    use engine::order::Side;
    use engine::{Amount, Quantity};

    use super::*;
    use crate::testing::{random_trades, symbol};

    const SECOND: i64 = 1_000_000;
    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;

    /// The slow, obvious builder: for every interval look at every trade.
    fn naive(trades: &[MarketTrade], lot: Amount, interval: Interval, offset: Offset, until: Time) -> Vec<Candle> {
        let mut candles = Vec::new();
        let mut open_time = interval.open_time(trades[0].time, offset);
        let mut close = trades[0].trade.price;
        while open_time <= until {
            let end_time = interval.next_open_time(open_time, offset);
            let inside: Vec<_> = trades.iter().filter(|t| open_time <= t.time && t.time < end_time).collect();
            let base = |t: &&&MarketTrade| u128::from(t.trade.quantity.0) * lot.0;
            let quote = |t: &&&MarketTrade| t.trade.quote_amount.0;
            let buys = || inside.iter().filter(|t| t.trade.taker_side == Side::Buy);
            let candle = match (inside.first(), inside.last()) {
                (Some(first), Some(last)) => Candle {
                    open_time,
                    end_time,
                    open: first.trade.price,
                    high: inside.iter().map(|t| t.trade.price).max().unwrap(),
                    low: inside.iter().map(|t| t.trade.price).min().unwrap(),
                    close: last.trade.price,
                    volume: Amount(inside.iter().map(|t| base(&t)).sum()),
                    quote_volume: Amount(inside.iter().map(|t| quote(&t)).sum()),
                    taker_buy_volume: Amount(buys().map(|t| base(&t)).sum()),
                    taker_buy_quote_volume: Amount(buys().map(|t| quote(&t)).sum()),
                    trade_count: inside.len() as u64,
                    first_trade_id: first.trade.trade_id.0,
                    last_trade_id: last.trade.trade_id.0,
                },
                _ => Candle::flat(open_time, end_time, close),
            };
            close = candle.close;
            candles.push(candle);
            open_time = end_time;
        }
        candles
    }

    fn ask(
        klines: &Klines,
        interval: Interval,
        start: Option<Time>,
        limit: usize,
        offset: Offset,
        end: Time,
    ) -> Vec<Candle> {
        klines.candles(SymbolId(0), &Query { interval, offset, start, end, limit }).expect("memory reaches so far")
    }

    #[test]
    fn candles_equal_those_built_from_the_list_of_trades() {
        for seed in 0..4 {
            let symbol = symbol();
            // Gaps from microseconds to hours, so that every interval sees full, empty and shared candles.
            let trades = random_trades(seed, 400, 3 * HOUR as u64);
            let klines = Klines::new();
            klines.reset([&symbol].into_iter());
            klines.add_trades(symbol.id, &trades);
            let now = Time(trades.last().unwrap().time.0 + HOUR as u64);
            for interval in Interval::ALL {
                if interval == Interval::Second1 {
                    continue; // a month of seconds is too many for the obvious builder; see the next test
                }
                for offset in ["0", "8", "-12:00", "+14:00", "-3:30", "+05:45", "+00:07"] {
                    let offset = Offset::parse(offset).unwrap();
                    let expected = naive(&trades, symbol.scale.step_size(), interval, offset, now);
                    let all = ask(&klines, interval, Some(Time(0)), usize::MAX, offset, now);
                    assert_eq!(all, expected, "seed {seed} {interval:?} {offset:?}");
                    let last = ask(&klines, interval, None, 3, offset, now);
                    assert_eq!(last, expected[expected.len().saturating_sub(3)..], "seed {seed} {interval:?}");
                }
            }
        }
    }

    #[test]
    fn seconds_equal_those_built_from_the_list_of_trades() {
        let symbol = symbol();
        let trades = random_trades(7, 300, 4 * SECOND as u64);
        let klines = Klines::new();
        klines.reset([&symbol].into_iter());
        klines.add_trades(symbol.id, &trades);
        let now = trades.last().unwrap().time;
        let expected = naive(&trades, symbol.scale.step_size(), Interval::Second1, Offset::UTC, now);
        let all = ask(&klines, Interval::Second1, Some(Time(0)), usize::MAX, Offset::UTC, now);
        assert_eq!(all, expected);
    }

    #[test]
    fn where_memory_is_short_it_says_so_and_else_answers_as_if_it_were_not() {
        let symbol = symbol();
        for seed in 0..20 {
            let trades = random_trades(seed, 400, HOUR as u64);
            let mut long = SymbolCandles::new(&symbol);
            let mut short = SymbolCandles::keeping(&symbol, [50, 40, 30, 3]);
            trades.iter().for_each(|trade| [&mut long, &mut short].into_iter().for_each(|candles| candles.add(trade)));
            let (mut answered, mut older) = (0, 0);
            for interval in Interval::ALL {
                for offset in ["0", "8", "-3:30", "+00:07"].map(|zone| Offset::parse(zone).unwrap()) {
                    for back in 0..60 {
                        let end = Time(trades[399].time.0 - back * 977 * SECOND as u64);
                        for (start, limit) in [(None, 5), (None, 50), (Some(end), 3)] {
                            let end = if start.is_some() { trades[399].time } else { end };
                            let query = Query { interval, offset, start, end, limit };
                            let whole = compose::candles(&long, &query).unwrap();
                            match compose::candles(&short, &query) {
                                Ok(found) => {
                                    assert_eq!(found, whole, "seed {seed} {query:?}");
                                    answered += 1;
                                }
                                Err(memory::Older) => older += 1,
                            }
                        }
                    }
                }
            }
            assert!(answered > 1_000 && older > 1_000, "seed {seed}: {answered} {older}");
        }
    }

    #[test]
    fn a_window_holds_exactly_the_trades_since_its_start() {
        for seed in 0..4 {
            let symbol = symbol();
            let trades = random_trades(seed, 600, 10 * MINUTE as u64);
            let klines = Klines::new();
            klines.reset([&symbol].into_iter());
            klines.add_trades(symbol.id, &trades);
            let now = Time(trades.last().unwrap().time.0 + 1);
            for back in [0, MINUTE, 17 * MINUTE + 3 * SECOND, HOUR, 5 * HOUR + 59 * SECOND, DAY] {
                let start = Interval::Second1.open_time(Time(now.0 - back as u64), Offset::UTC);
                let inside: Vec<_> = trades.iter().filter(|t| t.time >= start).collect();
                let window = klines.since(symbol.id, start, now).unwrap();
                let quantity: u64 = inside.iter().map(|t| t.trade.quantity.0).sum();
                assert_eq!(window.sum.volume, symbol.scale.base_amount(Quantity(quantity)), "seed {seed}");
                assert_eq!(window.sum.trade_count, inside.len() as u64, "seed {seed}");
                assert_eq!(window.sum.high, inside.iter().map(|t| t.trade.price).max().unwrap_or(window.sum.close));
                let before = trades.iter().rfind(|t| t.time < start).map(|t| t.trade.price);
                assert_eq!(window.previous_close, before.unwrap_or(window.sum.open), "seed {seed}");
            }
        }
    }

    #[test]
    fn the_first_page_from_zero_is_the_first_candle() {
        let symbol = symbol();
        let trades = random_trades(1, 50, HOUR as u64);
        let klines = Klines::new();
        klines.reset([&symbol].into_iter());
        klines.add_trades(symbol.id, &trades);
        let now = Time(trades.last().unwrap().time.0 + DAY as u64);
        let page = ask(&klines, Interval::Minute1, Some(Time(0)), 1, Offset::UTC, now);
        assert_eq!(page[0].first_id(), 1);
        assert!(ask(&klines, Interval::Minute1, Some(Time(now.0 + 1)), 1, Offset::UTC, now).is_empty());
        let last = klines.candle_at(symbol.id, Interval::Minute1, Offset::UTC, now).unwrap();
        assert_eq!((last.trade_count, last.first_id(), last.close), (0, -1, trades.last().unwrap().trade.price));
    }
}
