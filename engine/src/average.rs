//! The price that stands in where there is none: the volume weighted average over the last minutes, on sequence time.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::units::{Notional, Price, Quantity, Time};

/// A second, in the microseconds of [`Time`].
const SECOND: u64 = 1_000_000;

/// What traded in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Which second since 1970.
    pub second: u64,
    /// What it was worth.
    pub notional: u128,
    /// How much it was.
    pub quantity: u128,
}

/// The average price over a window of whole seconds. At most an hour of buckets.
///
/// Trades come many to a second, and the price is asked by every order: so what has not changed since it was last told is not
/// counted again.
#[derive(Clone, Debug, Default)]
pub struct AveragePrice {
    /// All buckets but the newest.
    older: VecDeque<Bucket>,
    /// The sum over these.
    older_notional: u128,
    older_quantity: u128,
    /// The newest bucket; no quantity where there is none.
    newest: Bucket,
    /// From when on a trade falls into another second than the newest bucket's.
    newest_until: Time,
    /// Until then no bucket leaves a window of so many minutes.
    complete_until: Time,
    minutes: u32,
    /// What the buckets come to, where that was asked since they changed.
    average: Option<Option<Price>>,
}

impl AveragePrice {
    /// From the buckets of a snapshot, if there can be such ones at `now`.
    pub fn restore(buckets: &[Bucket], now: Time) -> Option<AveragePrice> {
        let most = |bucket: &Bucket| bucket.quantity.checked_mul(u64::MAX.into());
        let sound = |bucket: &Bucket| {
            bucket.second <= now.0 / SECOND
                && bucket.quantity > 0
                && most(bucket).is_none_or(|most| bucket.notional <= most)
        };
        if !buckets.iter().all(sound) || !buckets.is_sorted_by(|a, b| a.second < b.second) {
            return None;
        }
        let sum = |of: fn(&Bucket) -> u128| buckets.iter().try_fold(0u128, |sum, bucket| sum.checked_add(of(bucket)));
        let (notional, quantity) = (sum(|bucket| bucket.notional)?, sum(|bucket| bucket.quantity)?);
        let (newest, older) = match buckets {
            [older @ .., newest] => (*newest, older),
            [] => (Bucket::default(), buckets),
        };
        Some(AveragePrice {
            older: older.iter().copied().collect(),
            older_notional: notional - newest.notional,
            older_quantity: quantity - newest.quantity,
            newest,
            newest_until: if newest.quantity > 0 { begin(newest.second + 1) } else { Time(0) },
            ..AveragePrice::default()
        })
    }

    /// The buckets, oldest first.
    pub fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.older.iter().chain((self.newest.quantity > 0).then_some(&self.newest))
    }

    /// A trade.
    #[inline]
    pub fn trade(&mut self, now: Time, minutes: u32, notional: Notional, quantity: Quantity) {
        self.trades(now, minutes, notional.0.into(), quantity);
    }

    /// Trades that came to so much together. Sums of 2^64 trades of 2^64 tick-lots fit.
    #[inline]
    pub fn trades(&mut self, now: Time, minutes: u32, notional: u128, quantity: Quantity) {
        self.forget(now, minutes);
        if now >= self.newest_until {
            self.begin_bucket(now);
        }
        self.newest.notional += notional;
        self.newest.quantity += u128::from(quantity.0);
        self.average = None;
    }

    /// The average over the window that ends now, rounded down; none without a trade.
    #[inline]
    pub fn price(&mut self, now: Time, minutes: u32) -> Option<Price> {
        self.forget(now, minutes);
        match self.average {
            Some(average) => average,
            None => self.divide(),
        }
    }

    fn divide(&mut self) -> Option<Price> {
        let notional = self.older_notional + self.newest.notional;
        let average = notional.checked_div(self.older_quantity + self.newest.quantity);
        let price = average.map(|average| Price(u64::try_from(average).expect("an average of prices is a price")));
        self.average = Some(price);
        price
    }

    /// What the window leaves behind goes.
    #[inline]
    fn forget(&mut self, now: Time, minutes: u32) {
        if now >= self.complete_until || minutes != self.minutes {
            self.forget_buckets(now, minutes);
        }
    }

    #[cold]
    fn forget_buckets(&mut self, now: Time, minutes: u32) {
        let (second, window) = (now.0 / SECOND, u64::from(minutes) * 60);
        let leaves = |bucket: &Bucket| bucket.second + window <= second;
        self.average = None;
        while let Some(bucket) = self.older.front().filter(|bucket| leaves(bucket)) {
            self.older_notional -= bucket.notional;
            self.older_quantity -= bucket.quantity;
            self.older.pop_front();
        }
        if self.newest.quantity > 0 && leaves(&self.newest) {
            (self.newest, self.newest_until) = (Bucket::default(), Time(0));
        }
        let oldest = self.buckets().next();
        // Where there is none, the next trade begins one that must be looked at.
        self.complete_until = oldest.map_or(Time(0), |oldest| begin(oldest.second + window));
        self.minutes = minutes;
    }

    #[cold]
    fn begin_bucket(&mut self, now: Time) {
        let second = now.0 / SECOND;
        if self.newest.quantity > 0 {
            if self.newest.second == second {
                return;
            }
            self.older_notional += self.newest.notional;
            self.older_quantity += self.newest.quantity;
            self.older.push_back(self.newest);
        }
        self.newest = Bucket { second, ..Bucket::default() };
        self.newest_until = begin(second + 1);
    }
}

/// When a second begins; the end of time where that is later.
fn begin(second: u64) -> Time {
    Time(second.saturating_mul(SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same, obviously: all trades, and the average over those in the window.
    fn obvious(trades: &[(u64, u64, u64)], now: u64, minutes: u32) -> Option<Price> {
        let inside = |&&(time, ..): &&(u64, u64, u64)| time / SECOND + u64::from(minutes) * 60 > now / SECOND;
        let trades = trades.iter().filter(inside);
        let (notional, quantity) = trades.fold((0, 0), |(n, q), &(_, price, lots)| (n + price * lots, q + lots));
        notional.checked_div(quantity).map(Price)
    }

    #[test]
    fn the_average_is_that_of_the_trades_in_the_window() {
        let (mut average, mut trades, mut now, mut state) = (AveragePrice::default(), Vec::new(), 0, 1u64);
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..20_000 {
            now += if random(50) == 0 { random(200) * SECOND } else { random(SECOND / 2) };
            if random(2) == 0 {
                let (price, lots) = (100 + random(50), 1 + random(10));
                average.trade(Time(now), 2, Notional(price * lots), Quantity(lots));
                trades.push((now, price, lots));
            } else {
                assert_eq!(average.price(Time(now), 2), obvious(&trades, now, 2));
            }
            if random(100) == 0 {
                let buckets: Vec<Bucket> = average.buckets().copied().collect();
                average = AveragePrice::restore(&buckets, Time(now)).unwrap();
            }
        }
    }

    #[test]
    fn a_shorter_window_forgets_at_once() {
        let mut average = AveragePrice::default();
        average.trade(Time(0), 5, Notional(100), Quantity(1));
        average.trade(Time(100 * SECOND), 5, Notional(200), Quantity(1));
        assert_eq!(average.price(Time(100 * SECOND), 5), Some(Price(150)));
        assert_eq!(average.price(Time(100 * SECOND), 1), Some(Price(200)));
        assert_eq!(average.price(Time(100 * SECOND), 5), Some(Price(200)));
        assert_eq!(average.price(Time(400 * SECOND), 5), None);
        assert_eq!(average.price(Time(u64::MAX), 5), None);
    }
}
