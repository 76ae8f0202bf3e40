//! Stops: orders that wait for a price. Those with a fixed price wait on a ladder of the book; those that trail the price
//! are tracked here.
//!
//! Only trades move them, and only once the walk that made the trades is over: then all whose price came are set down, the
//! oldest first, and worked off one by one. A walk runs one way, so its first and last price say all.

use std::collections::BTreeMap;

use crate::book::{Ladder, Slot};
use crate::event::Event;
use crate::filter::rises;
use crate::market::{Floor, Market, Task};
use crate::order::Side;
use crate::units::{Amount, OrderId, Price, Time};

/// A stop that follows the price.
#[derive(Clone, Copy, Debug)]
struct Tracker {
    slot: Slot,
    side: Side,
    /// In basis points.
    delta: u32,
    /// The lowest (buy) or highest (sell) price seen; none before the first trade.
    extreme: Option<Price>,
}

/// The stops that follow the price, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Trackers {
    all: BTreeMap<OrderId, Tracker>,
    /// Strictly between these two prices nothing happens to any of them; `None` where that must be found anew.
    quiet: Option<(u64, u64)>,
}

const WHOLE: u128 = 10_000;

impl Tracker {
    /// The price is here: the extreme moves with it, or the order triggers.
    fn see(&mut self, price: Price) -> bool {
        let extreme = match (self.side, self.extreme) {
            (_, None) => price,
            (Side::Buy, Some(lowest)) => lowest.min(price),
            (Side::Sell, Some(highest)) => highest.max(price),
        };
        self.extreme = Some(extreme);
        let (price, extreme, delta) = (u128::from(price.0) * WHOLE, u128::from(extreme.0), u128::from(self.delta));
        match self.side {
            Side::Buy => price >= extreme * (WHOLE + delta),
            Side::Sell => price <= extreme * (WHOLE - delta),
        }
    }

    /// The prices strictly between which nothing happens to it.
    fn quiet(&self) -> (u64, u64) {
        let Some(extreme) = self.extreme else { return (u64::MAX, 0) };
        let (of, delta) = (u128::from(extreme.0), u128::from(self.delta));
        let at = |price: u128| u64::try_from(price).unwrap_or(u64::MAX);
        match self.side {
            Side::Buy => (extreme.0.saturating_sub(1), at((of * (WHOLE + delta)).div_ceil(WHOLE))),
            Side::Sell => (at(of * (WHOLE - delta) / WHOLE), extreme.0.saturating_add(1)),
        }
    }
}

impl Trackers {
    fn start(&mut self, order_id: OrderId, tracker: Tracker) {
        self.all.insert(order_id, tracker);
        self.quiet = None;
    }

    /// An order is tracked no more.
    pub fn forget(&mut self, order_id: OrderId) {
        self.all.remove(&order_id);
    }

    fn is_quiet(&mut self, price: Price) -> bool {
        let (low, high) = *self.quiet.get_or_insert_with(|| {
            let narrow = |(low, high): (u64, u64), tracker: &Tracker| {
                let (below, above) = tracker.quiet();
                (low.max(below), high.min(above))
            };
            self.all.values().fold((0, u64::MAX), narrow)
        });
        low < price.0 && price.0 < high
    }
}

impl Market {
    /// A stop begins to wait; `hold` is what it has locked.
    pub fn wait(&mut self, slot: Slot, hold: Amount) {
        let (side, order_type) = (self.book.side(slot), self.book.order_type(slot));
        if side == Side::Buy && order_type.is_market() {
            self.book.note_mut(slot).held = hold;
        }
        let special = self.book.special(slot).expect("a stop has a stop price or a trailing delta");
        let (stop_price, delta, trailing) = (special.stop_price, special.trailing_delta, special.trailing);
        match (stop_price, trailing) {
            (Some(stop_price), None) => {
                let ladder = if rises(order_type, side) { Ladder::Rising } else { Ladder::Falling };
                self.book.queue_at(slot, ladder, stop_price);
            }
            _ => {
                let delta = delta.expect("a stop without a stop price trails");
                let extreme = trailing.map(|(extreme, _)| extreme);
                self.trackers.start(self.book.number(slot), Tracker { slot, side, delta, extreme });
            }
        }
    }

    /// A walk traded from `first` to `last`: set down the stops whose price came.
    #[inline]
    pub fn collect_triggered(&mut self, first: Price, last: Price, now: Time) {
        let none_wait = [Ladder::Rising, Ladder::Falling].iter().all(|&ladder| self.book.best(ladder).is_none());
        if !none_wait || !self.trackers.all.is_empty() {
            self.collect_all_triggered(first, last, now);
        }
    }

    fn collect_all_triggered(&mut self, first: Price, last: Price, now: Time) {
        let mut triggered = Vec::new();
        for price in [first, last] {
            if !self.trackers.all.is_empty() && !self.trackers.is_quiet(price) {
                self.track(price, now, &mut triggered);
            }
            self.collect_waiting(price, now, &mut triggered);
        }
        triggered.sort_unstable();
        self.tasks.extend(triggered.into_iter().map(Task::Trigger));
    }

    /// The stops with a fixed price that is reached: they are triggered, or begin to track.
    fn collect_waiting(&mut self, price: Price, now: Time, triggered: &mut Vec<OrderId>) {
        for ladder in [Ladder::Rising, Ladder::Falling] {
            while let Some(level) = self.book.best(ladder) {
                let reached = if ladder == Ladder::Rising { level.price <= price } else { level.price >= price };
                if !reached {
                    break;
                }
                let slot = self.book.first_at(level);
                self.book.unqueue(slot);
                let (order_id, side) = (self.book.number(slot), self.book.side(slot));
                let special = self.book.special_mut(slot);
                match special.trailing_delta {
                    None => triggered.push(order_id),
                    Some(delta) => {
                        special.trailing = Some((price, now));
                        self.trackers.start(order_id, Tracker { slot, side, delta, extreme: Some(price) });
                    }
                }
            }
        }
    }

    /// All that follow the price see it.
    fn track(&mut self, price: Price, now: Time, triggered: &mut Vec<OrderId>) {
        self.trackers.quiet = None;
        let book = &mut self.book;
        self.trackers.all.retain(|&order_id, tracker| {
            let before = tracker.extreme;
            let triggers = tracker.see(price);
            if let Some(extreme) = tracker.extreme.filter(|_| tracker.extreme != before) {
                let special = book.special_mut(tracker.slot);
                let since = special.trailing.map_or(now, |(_, since)| since);
                special.trailing = Some((extreme, since));
            }
            if triggers {
                triggered.push(order_id);
            }
            !triggers
        });
    }

    /// What a walk set off: first what it did to lists, then the stops that its prices triggered.
    pub fn aftermath(&mut self, walked: usize, floor: &mut Floor, events: &mut Vec<Event>) {
        if !self.effects.is_empty() {
            self.apply_effects(floor, events);
        }
        if let Some(&(first, last)) = self.walks.get(walked) {
            self.collect_triggered(first, last, floor.now);
        }
    }

    /// Work off what the command set off, until nothing is left.
    #[inline]
    pub fn finish_tasks(&mut self, floor: &mut Floor, events: &mut Vec<Event>) {
        if !self.tasks.is_empty() {
            self.finish_all_tasks(floor, events);
        }
    }

    fn finish_all_tasks(&mut self, floor: &mut Floor, events: &mut Vec<Event>) {
        while let Some(task) = self.tasks.pop_front() {
            match task {
                Task::Trigger(order_id) => {
                    // It may have ended meanwhile, with the other order of its pair.
                    let Some(slot) = self.book.by_number(order_id) else { continue };
                    if let Some(list) = self.book.special(slot).and_then(|special| special.order_list_id) {
                        self.choose_leg(list, order_id, floor, events);
                    }
                    self.come_to_book(slot, floor, events);
                }
                Task::PlacePending(list) => self.place_pending(list, floor, events),
            }
        }
    }
}
