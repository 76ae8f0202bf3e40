//! The price that stands in where there is none: the volume weighted average over the last minutes, on sequence time.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::units::{Notional, Price, Quantity, Time};

/// What traded in one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Which second since 1970.
    pub second: u64,
    /// What it was worth.
    pub notional: u128,
    /// How much it was.
    pub quantity: u128,
}

/// The average price over a window of whole seconds. At most an hour of buckets.
#[derive(Clone, Debug, Default)]
pub struct AveragePrice {
    buckets: VecDeque<Bucket>,
    /// The sum over the buckets.
    notional: u128,
    quantity: u128,
}

impl AveragePrice {
    /// From the buckets of a snapshot, if there can be such ones at `now`.
    pub fn restore(buckets: &[Bucket], now: Time) -> Option<AveragePrice> {
        let most = |bucket: &Bucket| bucket.quantity.checked_mul(u64::MAX.into());
        let sound = |bucket: &Bucket| {
            bucket.second <= now.0 / 1_000_000
                && bucket.quantity > 0
                && most(bucket).is_none_or(|most| bucket.notional <= most)
        };
        if !buckets.iter().all(sound) || !buckets.is_sorted_by(|a, b| a.second < b.second) {
            return None;
        }
        let sum = |of: fn(&Bucket) -> u128| buckets.iter().try_fold(0u128, |sum, bucket| sum.checked_add(of(bucket)));
        Some(AveragePrice {
            buckets: buckets.iter().copied().collect(),
            notional: sum(|bucket| bucket.notional)?,
            quantity: sum(|bucket| bucket.quantity)?,
        })
    }

    /// The buckets, oldest first.
    pub fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.buckets.iter()
    }

    /// A trade. Sums of 2^64 trades of 2^64 tick-lots fit.
    pub fn trade(&mut self, now: Time, minutes: u32, notional: Notional, quantity: Quantity) {
        self.forget(now, minutes);
        let second = now.0 / 1_000_000;
        if self.buckets.back().is_none_or(|bucket| bucket.second != second) {
            self.buckets.push_back(Bucket { second, notional: 0, quantity: 0 });
        }
        let bucket = self.buckets.back_mut().expect("there is one for this second");
        for (sum, more) in [(&mut bucket.notional, notional.0), (&mut self.notional, notional.0)] {
            *sum += u128::from(more);
        }
        for (sum, more) in [(&mut bucket.quantity, quantity.0), (&mut self.quantity, quantity.0)] {
            *sum += u128::from(more);
        }
    }

    /// The average over the window that ends now, rounded down; none without a trade.
    pub fn price(&mut self, now: Time, minutes: u32) -> Option<Price> {
        self.forget(now, minutes);
        let average = self.notional.checked_div(self.quantity)?;
        Some(Price(u64::try_from(average).expect("an average of prices is a price")))
    }

    fn forget(&mut self, now: Time, minutes: u32) {
        let (second, window) = (now.0 / 1_000_000, u64::from(minutes) * 60);
        while let Some(bucket) = self.buckets.front() {
            if bucket.second + window > second {
                return;
            }
            self.notional -= bucket.notional;
            self.quantity -= bucket.quantity;
            self.buckets.pop_front();
        }
    }
}
