//! Candles from trades, on sequence time, in all sixteen intervals.
//!
//! Only intervals with trades are kept; the empty ones between them are made when they are read: flat at the close
//! before them, with nothing in them. A series begins with its symbol's first trade. What is read is what anyone would
//! build from the list of trades, whatever was read before.
//!
//! Memory is bounded: a symbol keeps its last 86,400 one-second candles that had trades (a day at the least) and its last
//! 50,000 of every other interval (34 days of minutes at the least); the oldest go first. That is 110 MB at the very most.
//! One thread writes; a reader holds a symbol's lock while it copies what it asked for.

use std::collections::VecDeque;
use std::sync::Arc;

use arc_swap::ArcSwap;
use engine::order::Side;
use engine::symbol::Symbol;
use engine::{Amount, Price, SymbolId, Time};
use journal::MarketTrade;
use parking_lot::RwLock;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
/// 1970-01-05 was a Monday.
const FIRST_MONDAY: i64 = 4 * DAY;

/// How many one-second candles a symbol keeps.
const SECONDS_MAX: usize = 86_400;
/// How many candles of every other interval a symbol keeps.
const CANDLES_MAX: usize = 50_000;

/// The length of a candle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interval {
    /// `1s`
    Second1,
    /// `1m`
    Minute1,
    /// `3m`
    Minute3,
    /// `5m`
    Minute5,
    /// `15m`
    Minute15,
    /// `30m`
    Minute30,
    /// `1h`
    Hour1,
    /// `2h`
    Hour2,
    /// `4h`
    Hour4,
    /// `6h`
    Hour6,
    /// `8h`
    Hour8,
    /// `12h`
    Hour12,
    /// `1d`
    Day1,
    /// `3d`, counted from 1970-01-01
    Day3,
    /// `1w`, from Monday
    Week1,
    /// `1M`, a calendar month
    Month1,
}

impl Interval {
    /// All of them, shortest first.
    pub const ALL: [Interval; 16] = [
        Interval::Second1,
        Interval::Minute1,
        Interval::Minute3,
        Interval::Minute5,
        Interval::Minute15,
        Interval::Minute30,
        Interval::Hour1,
        Interval::Hour2,
        Interval::Hour4,
        Interval::Hour6,
        Interval::Hour8,
        Interval::Hour12,
        Interval::Day1,
        Interval::Day3,
        Interval::Week1,
        Interval::Month1,
    ];

    /// The interval of that name; names are case-sensitive.
    pub fn parse(name: &str) -> Option<Interval> {
        Self::ALL.into_iter().find(|interval| interval.name() == name)
    }

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 16] =
            ["1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"];
        NAMES[self as usize]
    }

    /// Microseconds, or `None` for months.
    fn length(self) -> Option<i64> {
        Some(match self {
            Interval::Second1 => SECOND,
            Interval::Minute1 => MINUTE,
            Interval::Minute3 => 3 * MINUTE,
            Interval::Minute5 => 5 * MINUTE,
            Interval::Minute15 => 15 * MINUTE,
            Interval::Minute30 => 30 * MINUTE,
            Interval::Hour1 => HOUR,
            Interval::Hour2 => 2 * HOUR,
            Interval::Hour4 => 4 * HOUR,
            Interval::Hour6 => 6 * HOUR,
            Interval::Hour8 => 8 * HOUR,
            Interval::Hour12 => 12 * HOUR,
            Interval::Day1 => DAY,
            Interval::Day3 => 3 * DAY,
            Interval::Week1 => WEEK,
            Interval::Month1 => return None,
        })
    }

    /// When the interval that holds `time` began, in a time zone `offset` ahead of UTC.
    pub fn open_time(self, time: Time, offset: Offset) -> Time {
        to_time(self.floor(to_local(time, offset)) - offset.0)
    }

    /// When the interval after the one that holds `time` begins.
    pub fn next_open_time(self, time: Time, offset: Offset) -> Time {
        to_time(self.step(self.floor(to_local(time, offset)), 1) - offset.0)
    }

    /// When the interval `count` before the one that holds `time` began.
    fn earlier_open_time(self, time: Time, offset: Offset, count: usize) -> Time {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        to_time(self.step(self.floor(to_local(time, offset)), count.saturating_neg()).saturating_sub(offset.0))
    }

    /// The beginning of the interval that holds the local time `local`.
    fn floor(self, local: i64) -> i64 {
        match self.length() {
            Some(WEEK) => (local - FIRST_MONDAY).div_euclid(WEEK) * WEEK + FIRST_MONDAY,
            Some(length) => local.div_euclid(length) * length,
            None => month_start(month_of(local.div_euclid(DAY))),
        }
    }

    /// The beginning of the interval `count` after (before, when negative) the one that begins at the local time `open`.
    fn step(self, open: i64, count: i64) -> i64 {
        match self.length() {
            Some(length) => open.saturating_add(length.saturating_mul(count)),
            None => month_start(month_of(open.div_euclid(DAY)).saturating_add(count.clamp(-1_000_000, 1_000_000))),
        }
    }
}

/// How far a time zone is ahead of UTC, in whole minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(i64);

impl Offset {
    /// No offset.
    pub const UTC: Offset = Offset(0);

    /// From minutes.
    pub fn from_minutes(minutes: i16) -> Offset {
        Offset(i64::from(minutes) * MINUTE)
    }

    /// The `timeZone` parameter: hours and, if wanted, minutes (`0`, `8`, `-1:00`, `+05:45`), from -12:00 to +14:00.
    pub fn parse(text: &str) -> Option<Offset> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "00"));
        let number = |text: &str, length: std::ops::RangeInclusive<usize>| {
            let plain = length.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| text.parse::<i16>().ok()).flatten()
        };
        let (hours, minutes) = (number(hours, 1..=2)?, number(minutes, 2..=2)?);
        let total = hours * 60 + minutes;
        let total = if negative { -total } else { total };
        (minutes < 60 && (-12 * 60..=14 * 60).contains(&total)).then(|| Offset::from_minutes(total))
    }
}

fn to_local(time: Time, offset: Offset) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX).saturating_add(offset.0)
}

fn to_time(micros: i64) -> Time {
    Time(u64::try_from(micros).unwrap_or(0))
}

/// The number of the month (year × 12 + month from 0) in which the day `day` after 1970-01-01 lies. Years begin in March
/// inside, so that the leap day is a year's last.
fn month_of(day: i64) -> i64 {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let day_of_era = day.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    (year_of_era + era * 400) * 12 + months_since_march + 2
}

/// When a month begins, in microseconds since 1970-01-01.
fn month_start(month: i64) -> i64 {
    let months_since_march = (month - 2).rem_euclid(12);
    let year = (month - 2).div_euclid(12);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * months_since_march + 2) / 5;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era - 719_468) * DAY
}

/// What traded between two times, or nothing at all at a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candle {
    /// The first microsecond of it.
    pub open_time: Time,
    /// The first microsecond after it; the API prints the millisecond before.
    pub end_time: Time,
    /// The first price.
    pub open: Price,
    /// The highest price.
    pub high: Price,
    /// The lowest price.
    pub low: Price,
    /// The last price.
    pub close: Price,
    /// How much base traded.
    pub volume: Amount,
    /// For how much quote.
    pub quote_volume: Amount,
    /// How much base takers bought.
    pub taker_buy_volume: Amount,
    /// For how much quote.
    pub taker_buy_quote_volume: Amount,
    /// How many trades; zero when empty.
    pub trade_count: u64,
    /// The first trade's id; meaningless when empty, see [`Candle::first_id`].
    first_trade_id: u64,
    /// The last trade's id; meaningless when empty, see [`Candle::last_id`].
    last_trade_id: u64,
}

impl Candle {
    /// Nothing traded: flat at `price`.
    pub fn flat(open_time: Time, end_time: Time, price: Price) -> Candle {
        Candle {
            open_time,
            end_time,
            open: price,
            high: price,
            low: price,
            close: price,
            volume: Amount::ZERO,
            quote_volume: Amount::ZERO,
            taker_buy_volume: Amount::ZERO,
            taker_buy_quote_volume: Amount::ZERO,
            trade_count: 0,
            first_trade_id: 0,
            last_trade_id: 0,
        }
    }

    /// The first trade's id, or -1 when nothing traded.
    pub fn first_id(&self) -> i64 {
        if self.trade_count == 0 { -1 } else { i64::try_from(self.first_trade_id).unwrap_or(i64::MAX) }
    }

    /// The last trade's id, or -1 when nothing traded.
    pub fn last_id(&self) -> i64 {
        if self.trade_count == 0 { -1 } else { i64::try_from(self.last_trade_id).unwrap_or(i64::MAX) }
    }

    /// The last millisecond of it, as the API prints `closeTime`.
    pub fn close_millis(&self) -> u64 {
        self.end_time.millis().saturating_sub(1)
    }

    /// One trade as a candle of its own, `lot` being what one lot is in smallest base units.
    fn of_trade(open_time: Time, end_time: Time, trade: &MarketTrade, lot: Amount) -> Candle {
        // The engine settled this very product, so it fits.
        let base = Amount(u128::from(trade.trade.quantity.0).saturating_mul(lot.0));
        let bought = trade.trade.taker_side == Side::Buy;
        Candle {
            volume: base,
            quote_volume: trade.trade.quote_amount,
            taker_buy_volume: if bought { base } else { Amount::ZERO },
            taker_buy_quote_volume: if bought { trade.trade.quote_amount } else { Amount::ZERO },
            trade_count: 1,
            first_trade_id: trade.trade.trade_id.0,
            last_trade_id: trade.trade.trade_id.0,
            ..Candle::flat(open_time, end_time, trade.trade.price)
        }
    }

    /// What followed is part of it too. The times stay.
    fn extend(&mut self, later: &Candle) {
        if later.trade_count == 0 {
            return;
        }
        if self.trade_count == 0 {
            *self = Candle { open_time: self.open_time, end_time: self.end_time, ..*later };
            return;
        }
        let sum = |a: Amount, b: Amount| Amount(a.0.saturating_add(b.0));
        self.high = self.high.max(later.high);
        self.low = self.low.min(later.low);
        self.close = later.close;
        self.volume = sum(self.volume, later.volume);
        self.quote_volume = sum(self.quote_volume, later.quote_volume);
        self.taker_buy_volume = sum(self.taker_buy_volume, later.taker_buy_volume);
        self.taker_buy_quote_volume = sum(self.taker_buy_quote_volume, later.taker_buy_quote_volume);
        self.trade_count += later.trade_count;
        self.last_trade_id = later.last_trade_id;
    }
}

/// The candles of every symbol.
#[derive(Default)]
pub struct Klines {
    symbols: ArcSwap<Vec<Arc<RwLock<SymbolCandles>>>>,
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

    /// These trades of one symbol came next.
    pub fn add_trades<'a>(&self, symbol: SymbolId, trades: impl IntoIterator<Item = &'a MarketTrade>) {
        if let Some(candles) = self.symbols.load().get(symbol.0 as usize) {
            let mut candles = candles.write();
            trades.into_iter().for_each(|trade| candles.add(trade));
        }
    }

    /// A symbol's candles that begin from `start` to `end`, both included, none later than `now`; at most `limit` of them:
    /// the first ones when there is a start, else the last ones.
    #[allow(clippy::too_many_arguments, reason = "the parameters of the public endpoint, and the clock")]
    pub fn candles(
        &self,
        symbol: SymbolId,
        interval: Interval,
        start: Option<Time>,
        end: Option<Time>,
        limit: usize,
        offset: Offset,
        now: Time,
    ) -> Vec<Candle> {
        let symbols = self.symbols.load();
        let Some(candles) = symbols.get(symbol.0 as usize) else { return Vec::new() };
        candles.read().select(interval, start, end.map_or(now, |end| end.min(now)), limit, offset)
    }

    /// The candle that holds `time`, which may be empty; `None` before the first trade.
    pub fn candle_at(&self, symbol: SymbolId, interval: Interval, offset: Offset, time: Time) -> Option<Candle> {
        self.candles(symbol, interval, None, Some(time), 1, offset, time).pop()
    }

    /// All trades since the whole second `start` as one candle, and the price before it. `None` before the first trade.
    pub fn since(&self, symbol: SymbolId, start: Time, now: Time) -> Option<Window> {
        let symbols = self.symbols.load();
        symbols.get(symbol.0 as usize)?.read().since(start, now)
    }
}

/// What traded since some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Flat at the last price when nothing did.
    pub sum: Candle,
    /// The last price before the window; the first one in it, when nothing traded before.
    pub previous_close: Price,
}

/// One symbol's candles: for each interval those with trades, in order of time.
struct SymbolCandles {
    lot: Amount,
    series: [VecDeque<Candle>; Interval::ALL.len()],
}

fn new_symbol(symbol: &Symbol) -> Arc<RwLock<SymbolCandles>> {
    Arc::new(RwLock::new(SymbolCandles { lot: symbol.scale.step_size(), series: Default::default() }))
}

impl SymbolCandles {
    fn add(&mut self, trade: &MarketTrade) {
        for interval in Interval::ALL {
            let series = &mut self.series[interval as usize];
            match series.back_mut() {
                Some(last) if trade.time < last.end_time => {
                    last.extend(&Candle::of_trade(last.open_time, last.end_time, trade, self.lot));
                }
                _ => {
                    let open_time = interval.open_time(trade.time, Offset::UTC);
                    let end_time = interval.next_open_time(trade.time, Offset::UTC);
                    series.push_back(Candle::of_trade(open_time, end_time, trade, self.lot));
                    let most = if interval == Interval::Second1 { SECONDS_MAX } else { CANDLES_MAX };
                    if series.len() > most {
                        series.pop_front();
                    }
                }
            }
        }
    }

    fn select(&self, interval: Interval, start: Option<Time>, end: Time, limit: usize, offset: Offset) -> Vec<Candle> {
        match regroup_from(interval, offset) {
            None => fill(&self.series[interval as usize], interval, start, end, limit, offset),
            Some(base) => {
                let series = regroup(&self.series[base as usize], interval, offset);
                fill(&series, interval, start, end, limit, offset)
            }
        }
    }

    /// Seconds up to the next whole minute, minutes up to the next whole hour, then hours: at most 120 candles and one for
    /// each hour since.
    fn since(&self, start: Time, now: Time) -> Option<Window> {
        let last = self.series[Interval::Minute1 as usize].back()?.close;
        let ceiling = |interval: Interval, time: Time| {
            let open = interval.open_time(time, Offset::UTC);
            if open == time { time } else { interval.next_open_time(time, Offset::UTC) }
        };
        let minute = ceiling(Interval::Minute1, start);
        let hour = ceiling(Interval::Hour1, minute);
        let parts = [
            (Interval::Second1, start, minute),
            (Interval::Minute1, minute, hour),
            (Interval::Hour1, hour, Time(u64::MAX)),
        ];
        let mut sum = Candle::flat(start, now, last);
        for (interval, from, to) in parts {
            let series = &self.series[interval as usize];
            let first = series.partition_point(|candle| candle.open_time < from);
            series.range(first..).take_while(|candle| candle.open_time < to).for_each(|candle| sum.extend(candle));
        }
        // The finest series that still reaches back tells the price before the window.
        let before =
            [Interval::Second1, Interval::Minute1, Interval::Hour1, Interval::Day1].into_iter().find_map(|interval| {
                let series = &self.series[interval as usize];
                let index = series.partition_point(|candle| candle.end_time <= start);
                index.checked_sub(1).map(|index| series[index].close)
            });
        Some(Window { sum, previous_close: before.unwrap_or(sum.open) })
    }
}

/// The interval out of which candles of another time zone are put together; `None` when they are the same as in UTC.
fn regroup_from(interval: Interval, offset: Offset) -> Option<Interval> {
    let same = match interval.length() {
        Some(length) => offset.0 % length == 0,
        None => offset.0 == 0,
    };
    if same {
        return None;
    }
    let bases = [Interval::Hour1, Interval::Minute30, Interval::Minute15, Interval::Minute5, Interval::Minute1];
    bases.into_iter().find(|base| {
        let length = base.length().expect("these have one length");
        offset.0 % length == 0 && interval.length().unwrap_or(DAY) % length == 0
    })
}

/// Longer candles out of shorter ones that each lie within one of them.
fn regroup(series: &VecDeque<Candle>, interval: Interval, offset: Offset) -> VecDeque<Candle> {
    let mut regrouped = VecDeque::<Candle>::new();
    for candle in series {
        match regrouped.back_mut() {
            Some(last) if candle.open_time < last.end_time => last.extend(candle),
            _ => regrouped.push_back(Candle {
                open_time: interval.open_time(candle.open_time, offset),
                end_time: interval.next_open_time(candle.open_time, offset),
                ..*candle
            }),
        }
    }
    regrouped
}

/// The candles that are asked for, with the empty ones between them and after the last.
fn fill(
    series: &VecDeque<Candle>,
    interval: Interval,
    start: Option<Time>,
    end: Time,
    limit: usize,
    offset: Offset,
) -> Vec<Candle> {
    let Some(first) = series.front() else { return Vec::new() };
    let from = match start {
        // The first that does not begin before the start.
        Some(start) => match interval.open_time(start, offset) {
            open if open >= start => open,
            _ => interval.next_open_time(start, offset),
        },
        None => interval.earlier_open_time(end, offset, limit.saturating_sub(1)),
    };
    let mut open_time = from.max(first.open_time);
    let mut next = series.partition_point(|candle| candle.open_time < open_time);
    let mut filled = Vec::new();
    while open_time <= end && filled.len() < limit {
        let candle = match series.get(next) {
            Some(candle) if candle.open_time == open_time => {
                next += 1;
                *candle
            }
            _ => Candle::flat(open_time, interval.next_open_time(open_time, offset), series[next - 1].close),
        };
        open_time = candle.end_time;
        filled.push(candle);
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random_trades, symbol};
    use engine::Quantity;

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
                for offset in ["0", "8", "-3:30", "+05:45"] {
                    let offset = Offset::parse(offset).unwrap();
                    let expected = naive(&trades, symbol.scale.step_size(), interval, offset, now);
                    let all = klines.candles(symbol.id, interval, Some(Time(0)), None, usize::MAX, offset, now);
                    assert_eq!(all, expected, "seed {seed} {interval:?} {offset:?}");
                    let last = klines.candles(symbol.id, interval, None, None, 3, offset, now);
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
        let all = klines.candles(symbol.id, Interval::Second1, Some(Time(0)), None, usize::MAX, Offset::UTC, now);
        assert_eq!(all, expected);
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
    fn weeks_begin_on_monday_and_months_on_the_first() {
        let time = Time(1_709_210_096_789_000); // 2024-02-29 12:34:56.789, a Thursday
        let open = |interval: Interval| interval.open_time(time, Offset::UTC).millis();
        let end = |interval: Interval| interval.next_open_time(time, Offset::UTC).millis();
        assert_eq!((open(Interval::Week1), end(Interval::Week1)), (1_708_905_600_000, 1_709_510_400_000));
        assert_eq!((open(Interval::Month1), end(Interval::Month1)), (1_706_745_600_000, 1_709_251_200_000));
        assert_eq!(open(Interval::Day1), 1_709_164_800_000);
        assert_eq!(open(Interval::Day3) % (3 * 86_400_000), 0);
        for month in -100..1_000 {
            let start = month_start(1970 * 12 + month);
            assert_eq!(month_of(start / DAY), 1970 * 12 + month);
            assert_eq!(month_of((start - 1).div_euclid(DAY)), 1970 * 12 + month - 1);
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
        let page = klines.candles(symbol.id, Interval::Minute1, Some(Time(0)), None, 1, Offset::UTC, now);
        assert_eq!(page[0].first_id(), 1);
        assert!(
            klines.candles(symbol.id, Interval::Minute1, Some(Time(now.0 + 1)), None, 1, Offset::UTC, now).is_empty()
        );
        let last = klines.candle_at(symbol.id, Interval::Minute1, Offset::UTC, now).unwrap();
        assert_eq!((last.trade_count, last.first_id(), last.close), (0, -1, trades.last().unwrap().trade.price));
    }

    #[test]
    fn time_zones_are_hours_and_minutes_within_the_range_of_the_earth() {
        assert_eq!(Offset::parse("-12:00"), Some(Offset::from_minutes(-720)));
        assert_eq!(Offset::parse("+14"), Some(Offset::from_minutes(840)));
        for wrong in ["", "15", "-12:01", "1:60", "1:5", "a", "+-1", "1:00:00", "+"] {
            assert_eq!(Offset::parse(wrong), None, "{wrong}");
        }
    }
}
