//! The circuit breaker: halts a symbol whose price runs too far within a window of sequence time.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::symbol::CircuitBreaker;
use crate::units::{Multiplier, Price, Time};

/// What a breaker knows: the prices that could still be the lowest or highest of the window, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    lowest: VecDeque<(Time, Price)>,
    highest: VecDeque<(Time, Price)>,
    /// When a halt that it made ends by itself.
    pub resumes_at: Option<Time>,
}

impl Breaker {
    /// A price was traded. Whether that is too far from another one of the window.
    pub fn trips(&mut self, rule: CircuitBreaker, now: Time, price: Price) -> bool {
        let window = u64::from(rule.window_seconds) * 1_000_000;
        for prices in [&mut self.lowest, &mut self.highest] {
            while prices.front().is_some_and(|&(time, _)| time.0 + window <= now.0) {
                prices.pop_front();
            }
        }
        push(&mut self.lowest, now, price, |kept| kept >= price);
        push(&mut self.highest, now, price, |kept| kept <= price);
        let lowest = self.lowest.front().map_or(price, |&(_, lowest)| lowest);
        let highest = self.highest.front().map_or(price, |&(_, highest)| highest);
        // Multiplied out: a division for each trade would cost more than all the rest here.
        let times = |price: Price, multiplier: u64| u128::from(price.0) * u128::from(multiplier);
        let one = Multiplier::ONE.0;
        let is_above = times(price, one) >= times(lowest, one.saturating_add(rule.trip.0)) || price.0 == u64::MAX;
        let is_below = times(price, one) <= times(highest, one.saturating_sub(rule.trip.0));
        (is_above && price > lowest) || (is_below && price < highest)
    }

    /// Whether it can have seen this by `now`.
    pub fn is_sound(&self, now: Time) -> bool {
        let follow = |prices: &VecDeque<(Time, Price)>, follows: fn(Price, Price) -> bool| {
            let told = prices.iter().zip(prices.iter().skip(1));
            told.into_iter().all(|(a, b)| a.0 <= b.0 && follows(a.1, b.1))
                && prices.iter().all(|&(time, price)| time <= now && price > Price(0))
        };
        follow(&self.lowest, |a, b| a < b)
            && follow(&self.highest, |a, b| a > b)
            && self.resumes_at.is_none_or(|at| at.0 < 1 << 61)
    }

    /// What was traded counts no more.
    pub fn forget(&mut self) {
        self.lowest.clear();
        self.highest.clear();
    }
}

/// A price goes to the end; those that it makes pointless go.
fn push(prices: &mut VecDeque<(Time, Price)>, now: Time, price: Price, pointless: impl Fn(Price) -> bool) {
    if let Some(last) = prices.back_mut().filter(|last| last.1 == price) {
        last.0 = now;
        return;
    }
    while prices.back().is_some_and(|&(_, kept)| pointless(kept)) {
        prices.pop_back();
    }
    prices.push_back((now, price));
}
