//! Candles from trades, on sequence time, in the four lengths that are kept. Each longer interval, in every time zone, can be
//! put together from these, so nothing else is.

use engine::order::Side;
use engine::{Amount, Price, Time};

use crate::record::MarketTrade;

/// The lengths of candles that are kept, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grain {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Grain {
    /// All of them, shortest first.
    pub const ALL: [Grain; 4] = [Grain::Second, Grain::Minute, Grain::Hour, Grain::Day];

    /// Microseconds.
    pub fn micros(self) -> u64 {
        const MICROS: [u64; 4] = [1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000];
        MICROS[self as usize]
    }

    /// When the candle that holds `time` began.
    pub fn floor(self, time: Time) -> Time {
        Time(time.0 - time.0 % self.micros())
    }

    /// `time` itself where a candle begins then, else when the next one begins.
    pub fn ceil(self, time: Time) -> Time {
        Time(time.0.checked_next_multiple_of(self.micros()).unwrap_or(u64::MAX))
    }

    /// The first moment after a candle that began at `open`.
    pub fn end(self, open: Time) -> Time {
        Time(open.0.saturating_add(self.micros()))
    }

    /// The next shorter one.
    pub(crate) fn finer(self) -> Option<Grain> {
        (self as usize).checked_sub(1).map(|at| Grain::ALL[at])
    }
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
    /// The first trade's id, zero where there is none or it is not known; see [`Candle::first_id`].
    pub first_trade_id: u64,
    /// The last trade's id, zero likewise; see [`Candle::last_id`].
    pub last_trade_id: u64,
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

    /// One trade as a candle of its own, `lot` being what one lot is in smallest base units.
    pub fn of_trade(grain: Grain, trade: &MarketTrade, lot: Amount) -> Candle {
        let open_time = grain.floor(trade.time);
        let MarketTrade { trade, .. } = trade;
        // The engine settled this very product, so it fits.
        let base = Amount(u128::from(trade.quantity.0).saturating_mul(lot.0));
        let bought = trade.taker_side == Side::Buy;
        Candle {
            volume: base,
            quote_volume: trade.quote_amount,
            taker_buy_volume: if bought { base } else { Amount::ZERO },
            taker_buy_quote_volume: if bought { trade.quote_amount } else { Amount::ZERO },
            trade_count: 1,
            first_trade_id: trade.trade_id.0,
            last_trade_id: trade.trade_id.0,
            ..Candle::flat(open_time, grain.end(open_time), trade.price)
        }
    }

    /// The first trade's id, or -1 where none is known.
    pub fn first_id(&self) -> i64 {
        public_id(self.first_trade_id)
    }

    /// The last trade's id, or -1 where none is known.
    pub fn last_id(&self) -> i64 {
        public_id(self.last_trade_id)
    }

    /// The last millisecond of it, as the API prints `closeTime`.
    pub fn close_millis(&self) -> u64 {
        self.end_time.millis().saturating_sub(1)
    }

    /// Whether it says nothing but that the price stayed what it was.
    pub fn is_empty(&self) -> bool {
        self.trade_count == 0 && self.volume.is_zero() && self.high == self.low
    }

    /// What followed is part of it too. The times stay.
    pub fn extend(&mut self, later: &Candle) {
        if later.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = Candle { open_time: self.open_time, end_time: self.end_time, ..*later };
            return;
        }
        // Of trades these cannot be too many; of imported candles anything can be said.
        let sum = |a: Amount, b: Amount| Amount(a.0.saturating_add(b.0));
        self.high = self.high.max(later.high);
        self.low = self.low.min(later.low);
        self.close = later.close;
        self.volume = sum(self.volume, later.volume);
        self.quote_volume = sum(self.quote_volume, later.quote_volume);
        self.taker_buy_volume = sum(self.taker_buy_volume, later.taker_buy_volume);
        self.taker_buy_quote_volume = sum(self.taker_buy_quote_volume, later.taker_buy_quote_volume);
        self.trade_count = self.trade_count.saturating_add(later.trade_count);
        if self.first_trade_id == 0 {
            self.first_trade_id = later.first_trade_id;
        }
        if later.last_trade_id != 0 {
            self.last_trade_id = later.last_trade_id;
        }
    }
}

fn public_id(id: u64) -> i64 {
    if id == 0 { -1 } else { i64::try_from(id).unwrap_or(i64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_cut_into_candles_without_a_gap_up_to_the_end_of_time() {
        for grain in Grain::ALL {
            for time in [0, 1, 59_999_999, 1_709_210_096_789_000, u64::MAX - 1, u64::MAX] {
                let open = grain.floor(Time(time));
                assert!(open.0 <= time && (time < grain.end(open).0 || time == u64::MAX), "{grain:?} {time}");
                assert!(grain.ceil(Time(time)).0 >= time);
            }
            assert_eq!(grain.ceil(Time(grain.micros())), Time(grain.micros()));
            assert_eq!(grain.ceil(Time(grain.micros() + 1)), Time(2 * grain.micros()));
        }
    }

    #[test]
    fn what_is_put_together_from_parts_is_what_the_whole_is() {
        let candle = |price: u64, ids: (u64, u64)| Candle {
            high: Price(price + 5),
            close: Price(price + 1),
            volume: Amount(10),
            trade_count: 2,
            first_trade_id: ids.0,
            last_trade_id: ids.1,
            ..Candle::flat(Time(0), Time(1), Price(price))
        };
        let mut whole = Candle::flat(Time(0), Time(60), Price(7));
        whole.extend(&candle(100, (0, 0)));
        assert_eq!((whole.open, whole.first_id(), whole.last_id()), (Price(100), -1, -1));
        whole.extend(&candle(90, (5, 6)));
        whole.extend(&Candle::flat(Time(2), Time(3), Price(1)));
        assert_eq!((whole.open, whole.high, whole.low, whole.close), (Price(100), Price(105), Price(90), Price(91)));
        assert_eq!((whole.first_id(), whole.last_id(), whole.trade_count, whole.volume), (5, 6, 4, Amount(20)));
        assert_eq!((whole.open_time, whole.end_time), (Time(0), Time(60)));
    }
}
