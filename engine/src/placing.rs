//! A new order's way to its place in the book: the checks (checks.rs), the hold, the walk (matching.rs), the rest.
//!
//! A stop that triggers and a pending order that is placed come to the book here too. Every check is made before anything
//! changes; after the hold it must succeed.

use crate::book::{Ladder, Slot};
use crate::checks::budget_of;
use crate::command::PlaceOrder;
use crate::event::{Event, ExpiryReason, Rejection, emit};
use crate::market::{Effect, Floor, Market};
use crate::matching::{Stopped, Taker};
use crate::order::{Order, OrderStatus, TimeInForce};
use crate::order_list::OrderEnd;
use crate::trader::Opening;
use crate::units::{Amount, OrderId};

impl Market {
    /// A new order that stands alone.
    pub fn place(&mut self, place: &PlaceOrder, floor: &mut Floor, events: &mut Vec<Event>) -> Result<(), Rejection> {
        match self.place_plain(place, floor, events) {
            Some(decided) => decided,
            None => self.place_any(place, floor, events),
        }
    }

    /// The same on the general road.
    fn place_any(&mut self, place: &PlaceOrder, floor: &mut Floor, events: &mut Vec<Event>) -> Result<(), Rejection> {
        let trader = self.admit_trader(place.uid, floor)?;
        self.check_name(trader, place)?;
        let mut opening = Opening::default();
        opening.add(place);
        let terms = self.check(place, trader, 1, floor)?;
        self.check_counts(trader, opening, floor)?;
        let mut taker = terms.taker(place, trader, false, floor.now);
        let hold = self.check_now(&mut taker, budget_of(place), floor)?;
        self.hold(&taker, hold, floor)?;
        self.start(&mut taker, hold, floor, events);
        Ok(())
    }

    /// Lock what the order holds.
    pub fn hold(&self, taker: &Taker, amount: Amount, floor: &mut Floor) -> Result<(), Rejection> {
        let from = self.book.traders.at(taker.trader).pays_from(taker.order.side);
        floor.accounts.hold(from, amount)
    }

    /// The line after which it must succeed: a new order that stands alone is in.
    pub(crate) fn start(&mut self, taker: &mut Taker, hold: Amount, floor: &mut Floor, events: &mut Vec<Event>) {
        self.accept(taker, floor, events);
        if taker.order.order_type.is_stop() {
            let slot = self.book.admit(&taker.order, taker.trader);
            self.wait(slot, hold);
        } else {
            self.work(taker, floor, events);
        }
        self.finish_tasks(floor, events);
    }

    /// The order gets its number.
    pub fn accept(&mut self, taker: &mut Taker, floor: &mut Floor, events: &mut Vec<Event>) {
        self.counters.order += 1;
        taker.order.order_id = OrderId(self.counters.order);
        if floor.limits.counts_orders() {
            floor.accounts.count_orders(taker.order.uid, &floor.limits, floor.now, 1);
        }
        emit(events, || Event::OrderAccepted(taker.order.clone()));
    }

    /// A limit or market order comes to the book: it walks, and what is left of it rests or expires.
    pub fn work(&mut self, taker: &mut Taker, floor: &mut Floor, events: &mut Vec<Event>) {
        let walked = self.walks.len();
        if taker.ends == Some(ExpiryReason::UnfilledFok) {
            self.expire(taker, ExpiryReason::UnfilledFok, floor, events);
            return self.aftermath(walked, floor, events);
        }
        let stopped = self.walk(taker, floor, events);
        let order = &taker.order;
        let reason = match (stopped, order.order_type.is_market(), order.time_in_force) {
            (Stopped::Prevented, ..) if taker.ends.is_none() => Some(ExpiryReason::SelfTradePrevention),
            _ if taker.ends.is_some() => taker.ends,
            (Stopped::Done, ..) => None,
            (Stopped::OutOfRange, ..) => Some(ExpiryReason::PriceRangeExceeded),
            (_, true, _) => Some(ExpiryReason::InsufficientLiquidity),
            (_, false, TimeInForce::Ioc) => Some(ExpiryReason::UnfilledIocQuantity),
            // A fill or kill that does not fill whole was seen beforehand.
            (_, false, TimeInForce::Gtc | TimeInForce::Fok) => None,
        };
        match reason {
            Some(reason) => self.expire(taker, reason, floor, events),
            None if taker.order.open_quantity().is_zero() => {
                if let Some(slot) = taker.slot {
                    self.book.close(slot);
                }
                self.end_in_list(&taker.order, OrderEnd::Filled);
            }
            None => self.rest(taker, events),
        }
        self.aftermath(walked, floor, events);
    }

    /// What is left of an order goes to the end of the queue at its price.
    fn rest(&mut self, taker: &Taker, events: &mut Vec<Event>) {
        let order = &taker.order;
        let slot = match taker.slot {
            Some(slot) => {
                self.book.update(slot, order);
                slot
            }
            None => self.book.admit(order, taker.trader),
        };
        let shown = self.book.queue_at(slot, Ladder::of(order.side), order.price);
        self.report_level_at(order.side, order.price, shown, events);
    }

    /// What is left of an order that came to the book expires; what it holds for that is free.
    fn expire(&mut self, taker: &mut Taker, reason: ExpiryReason, floor: &mut Floor, events: &mut Vec<Event>) {
        self.release_taker(taker, taker.order.open_quantity(), floor);
        if let Some(slot) = taker.slot {
            self.book.close(slot);
        }
        let prevented = reason == ExpiryReason::SelfTradePrevention;
        taker.order.status = if prevented { OrderStatus::ExpiredInMatch } else { OrderStatus::Expired };
        taker.order.updated_at = floor.now;
        self.end_in_list(&taker.order, OrderEnd::Expired);
        emit(events, || Event::OrderExpired { order: taker.order.clone(), reason });
    }

    fn end_in_list(&mut self, order: &Order, end: OrderEnd) {
        if let Some(list) = order.order_list_id() {
            self.effects.push(Effect { list, order_id: order.order_id, end });
        }
    }

    /// A stop whose price came, or a pending order whose turn it is, comes to the book. What it held until now is given
    /// back first; when it does not pass, it expires.
    pub fn come_to_book(&mut self, slot: Slot, floor: &mut Floor, events: &mut Vec<Event>) {
        let (trader, held) = (self.book.trader_of(slot), self.held(slot));
        let mut taker = Taker { order: self.book.order(slot), trader, slot: Some(slot), ends: None };
        taker.order.status = OrderStatus::New;
        let from = self.book.traders.at(trader).pays_from(taker.order.side);
        floor.accounts.release(from, held);
        let walked = self.walks.len();
        let ready = self.check_arrival(&mut taker, floor).and_then(|hold| self.hold(&taker, hold, floor));
        if let Err(rejection) = ready {
            self.reject_arrival(slot, rejection, floor, events);
            return self.aftermath(walked, floor, events);
        }
        taker.order.updated_at = floor.now;
        taker.order.special_mut().working_at = Some(floor.now);
        emit(events, || Event::OrderTriggered(taker.order.clone()));
        self.work(&mut taker, floor, events);
    }

    /// An order that holds nothing any more does not come to the book after all.
    pub fn reject_arrival(&mut self, slot: Slot, rejection: Rejection, floor: &Floor, events: &mut Vec<Event>) {
        let mut order = self.book.order(slot);
        self.book.close(slot);
        order.status = OrderStatus::Expired;
        order.updated_at = floor.now;
        self.end_in_list(&order, OrderEnd::Expired);
        events.push(Event::OrderExpired { order, reason: ExpiryReason::Rejected(rejection) });
    }
}
