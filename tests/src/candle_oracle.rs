//! The slow, obvious way from a list of trades to candles, tickers and averages.

use engine::{Amount, Price, Time};
use gateway::klines::{Interval, Offset};
use journal::{Candle, MarketTrade};

/// What of a trade matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traded {
    /// Its id.
    pub id: u64,
    /// Of which aggregate trade it is a part.
    pub aggregate_id: u64,
    /// When.
    pub time: Time,
    /// At which price.
    pub price: Price,
    /// How much, in smallest base units.
    pub base: u64,
    /// For how much.
    pub quote: u64,
    /// Whether the taker bought.
    pub taker_buys: bool,
}

impl Traded {
    /// Of a trade of a symbol whose lot is so many smallest base units.
    pub fn of(trade: &MarketTrade, lot: u64) -> Traded {
        let MarketTrade { time, trade, .. } = trade;
        Traded {
            id: trade.trade_id.0,
            aggregate_id: trade.aggregate_id,
            time: *time,
            price: trade.price,
            base: trade.quantity.0 * lot,
            quote: u64::try_from(trade.quote_amount.0).expect("a small amount"),
            taker_buys: trade.taker_side == engine::order::Side::Buy,
        }
    }
}

/// All that happened in these trades as one candle; flat at `close` when there are none.
pub fn candle(trades: &[Traded], open_time: Time, end_time: Time, close: Price) -> Candle {
    let (Some(first), Some(last)) = (trades.first(), trades.last()) else {
        return Candle::flat(open_time, end_time, close);
    };
    let sum = |of: fn(&Traded) -> u64| Amount(trades.iter().map(|trade| u128::from(of(trade))).sum());
    let bought = |trade: &Traded, amount: u64| if trade.taker_buys { amount } else { 0 };
    let bought = |of: fn(&Traded) -> u64| Amount(trades.iter().map(|trade| u128::from(bought(trade, of(trade)))).sum());
    Candle {
        open_time,
        end_time,
        open: first.price,
        high: trades.iter().map(|trade| trade.price).max().expect("there is one"),
        low: trades.iter().map(|trade| trade.price).min().expect("there is one"),
        close: last.price,
        volume: sum(|trade| trade.base),
        quote_volume: sum(|trade| trade.quote),
        taker_buy_volume: bought(|trade| trade.base),
        taker_buy_quote_volume: bought(|trade| trade.quote),
        trade_count: trades.len() as u64,
        first_trade_id: first.id,
        last_trade_id: last.id,
    }
}

/// Every candle of an interval in a time zone, from the first trade's to the one that holds `until`.
pub fn candles(
    trades: &[Traded],
    interval: Interval,
    offset: Offset,
    until: Time,
) -> impl Iterator<Item = Candle> + '_ {
    candles_from(trades, interval, offset, trades[0].time, until)
}

/// The same from the candle on that holds `start`, which is not before the first trade's.
pub fn candles_from(
    trades: &[Traded],
    interval: Interval,
    offset: Offset,
    start: Time,
    until: Time,
) -> impl Iterator<Item = Candle> + '_ {
    let mut open_time = interval.open_time(start, offset);
    let (before, mut rest) = trades.split_at(trades.partition_point(|trade| trade.time < open_time));
    let mut close = before.last().map_or(trades[0].price, |trade| trade.price);
    std::iter::from_fn(move || {
        if open_time > until {
            return None;
        }
        let end_time = interval.next_open_time(open_time, offset);
        let inside = rest.iter().take_while(|trade| trade.time < end_time).count();
        let (now, later) = rest.split_at(inside);
        let found = candle(now, open_time, end_time, close);
        (rest, close, open_time) = (later, found.close, end_time);
        Some(found)
    })
}

/// The trades from a time on.
pub fn since(trades: &[Traded], start: Time) -> (&[Traded], &[Traded]) {
    trades.split_at(trades.partition_point(|trade| trade.time < start))
}

/// `quote` per whole base of eight decimals, rounded half up.
pub fn average(trades: &[Traded]) -> Option<Amount> {
    let base: u128 = trades.iter().map(|trade| u128::from(trade.base)).sum();
    let quote: u128 = trades.iter().map(|trade| u128::from(trade.quote)).sum();
    (base > 0).then(|| Amount((quote * 100_000_000 + base / 2) / base))
}
