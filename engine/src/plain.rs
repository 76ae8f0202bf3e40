//! The short road of the orders that nearly all are: a limit order with nothing special about it, that comes to rest without a
//! walk, and leaves without a trade.
//!
//! An order that does not pass here is checked anew by checks.rs, which knows all rules and the order of their rejections. So
//! this file refuses nobody but who lacks the funds, which is asked last: what passes here passes there.

use crate::book::{Ladder, NewOrder, Slot};
use crate::checks::Terms;
use crate::command::{OrderQuantity, OrderReference, PlaceOrder, ReplaceOrder};
use crate::event::{Event, Rejection, emit};
use crate::market::{Floor, Market};
use crate::order::{ClientOrderId, Order, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce};
use crate::symbol::SymbolStatus;
use crate::trader::TraderIndex;
use crate::units::{Amount, Notional, OrderId, Price, Quantity};

/// A plain limit order that passed the checks.
struct Passed {
    trader: TraderIndex,
    /// Of its trader and name.
    name_hash: u32,
    self_trade_prevention: SelfTradePrevention,
    price: Price,
    quantity: Quantity,
    notional: Notional,
}

impl Market {
    /// Place an order that is plain and passes; `None`, and nothing has changed, where the general road must say.
    #[inline]
    pub fn place_plain(
        &mut self,
        place: &PlaceOrder,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) -> Option<Result<(), Rejection>> {
        let passed = self.pass(place, floor)?;
        let from = self.book.traders.at(passed.trader).pays_from(place.side);
        let hold = match place.side {
            Side::Buy => self.symbol.scale.quote_amount(passed.notional),
            Side::Sell => self.symbol.scale.base_amount(passed.quantity),
        };
        if let Err(rejection) = floor.accounts.hold(from, hold) {
            return Some(Err(rejection));
        }
        let is_limit = place.order_type == OrderType::Limit;
        if is_limit && (place.time_in_force == TimeInForce::Ioc || self.crosses(place.side, passed.price)) {
            let Passed { trader, self_trade_prevention, price, quantity, .. } = passed;
            let terms = Terms { self_trade_prevention, price, quantity, special: None };
            self.start(&mut terms.taker(place, trader, false, floor.now), hold, floor, events);
        } else {
            self.rest_plain(place, &passed, floor, events);
        }
        Some(Ok(()))
    }

    /// The checks, in the order of checks.rs as far as one of them changes something that is kept: the average price forgets
    /// as time goes on.
    #[inline]
    fn pass(&mut self, place: &PlaceOrder, floor: &Floor) -> Option<Passed> {
        let is_limit = match place.order_type {
            OrderType::Limit => place.time_in_force != TimeInForce::Fok,
            OrderType::LimitMaker => true,
            _ => false,
        };
        let OrderQuantity::Base(quantity) = place.quantity else { return None };
        if !is_limit || place.special.is_some() || !self.is_plain() {
            return None;
        }
        let (price, quantity) = (self.gate.price(place.price)?, self.gate.quantity(quantity)?);
        let notional = Notional::of(price, quantity)?;
        let trader = self.book.traders.find(place.uid)?;
        let settings = self.book.traders.at(trader).settings;
        let required = settings.require_self_trade_prevention;
        let self_trade_prevention = self.gate.self_trade_prevention(place.self_trade_prevention, required)?;
        let name_hash = self.book.free_name(trader, place.client_order_id)?;
        if !settings.can_trade || !self.gate.is_worth_enough(notional) {
            return None;
        }
        self.check_order_count(place.uid, 1, floor).ok()?;
        self.check_percent_price(place.side, price, floor).ok()?;
        if self.crosses(place.side, price) {
            // A post-only order is refused; a seller may get a better price than its own, and that must fit.
            if place.order_type == OrderType::LimitMaker {
                return None;
            }
            self.check_sell_worth(place.side, price, quantity).ok()?;
        }
        if !self.book.has_room(Ladder::of(place.side), price, quantity) {
            return None;
        }
        let open = self.book.traders.at(trader).open_orders() + 1;
        let within = |open: u32, limit: u32| limit == 0 || open <= limit;
        if !within(open, self.symbol.config.max_num_orders)
            || !within(open + floor.elsewhere.orders, floor.limits.max_num_orders)
        {
            return None;
        }
        if place.side == Side::Buy {
            self.check_position(trader, quantity, floor).ok()?;
        }
        Some(Passed { trader, name_hash, self_trade_prevention, price, quantity, notional })
    }

    /// Give a resting order of which there is nothing special to know another price that reaches nothing; `None`, and nothing
    /// has changed, where the general road must say.
    #[inline]
    pub fn move_plain(
        &mut self,
        replace: &ReplaceOrder,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) -> Option<Result<(), Rejection>> {
        let OrderReference { order_id: Some(order_id), client_order_id: None } = replace.order else { return None };
        let (Some(price), None) = (replace.price, replace.quantity) else { return None };
        let slot = self.book.by_number(order_id)?;
        let (side, old_price) = self.book.plain_at(slot)?;
        let (open, trader) = (self.book.open(slot), self.book.traders.at(self.book.trader_of(slot)));
        let (uid, from, can_trade) = (trader.uid, trader.pays_from(side), trader.settings.can_trade);
        if uid != replace.uid || !can_trade || !self.is_plain() {
            return None;
        }
        let price = self.gate.price(price)?;
        self.check_percent_price(side, price, floor).ok()?;
        let notional = Notional::of(price, open).filter(|&notional| self.gate.is_worth_enough(notional))?;
        if self.crosses(side, price) || !self.book.has_room(Ladder::of(side), price, open) {
            return None;
        }
        if side == Side::Buy {
            let held = Notional::of(old_price, open)?;
            match notional.0.checked_sub(held.0) {
                Some(more) => {
                    if let Err(rejection) = floor.accounts.hold(from, self.symbol.scale.quote_amount(Notional(more))) {
                        return Some(Err(rejection));
                    }
                }
                None => floor.accounts.release(from, self.symbol.scale.quote_amount(held.minus(notional))),
            }
        }
        let symbol = self.symbol.id;
        emit(events, || Event::OrderReplaced { symbol, order_id, uid, price, quantity: open });
        let left = self.book.unqueue(slot);
        self.report_level_at(side, old_price, left, events);
        let shown = self.book.queue_at(slot, Ladder::of(side), price);
        self.report_level_at(side, price, shown, events);
        Some(Ok(()))
    }

    /// Take a resting order off the book of which there is nothing special to know ([`Book::plain_at`](crate::book::Book)).
    pub fn cancel_plain(
        &mut self,
        slot: Slot,
        side: Side,
        price: Price,
        cancel_client_order_id: ClientOrderId,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) {
        let from = self.book.traders.at(self.book.trader_of(slot)).pays_from(side);
        floor.accounts.release(from, self.need(side, price, self.book.open(slot)));
        emit(events, || Event::OrderCanceled {
            order: self.book.plain_order(slot, price, OrderStatus::Canceled, floor.now),
            cancel_client_order_id,
        });
        let shown = self.book.close(slot);
        self.report_level_at(side, price, shown, events);
    }

    /// Whether orders trade with each other here, now, and pay of what they receive.
    #[inline]
    fn is_plain(&self) -> bool {
        let by_lot = self.symbol.config.commission.by_lot.is_some();
        self.symbol.status == SymbolStatus::Trading && self.desk.is_none() && !by_lot
    }

    /// It is in, and goes to the end of the queue at its price.
    #[inline]
    fn rest_plain(&mut self, place: &PlaceOrder, passed: &Passed, floor: &mut Floor, events: &mut Vec<Event>) {
        self.counters.order += 1;
        let order_id = OrderId(self.counters.order);
        if floor.limits.counts_orders() {
            floor.accounts.count_orders(place.uid, &floor.limits, floor.now, 1);
        }
        let Passed { trader, name_hash, self_trade_prevention, price, quantity, .. } = *passed;
        // A post-only order ignores what it says of its time in force; no other is here.
        let time_in_force = TimeInForce::Gtc;
        emit(events, || {
            Event::OrderAccepted(Order {
                order_id,
                symbol: place.symbol,
                uid: place.uid,
                client_order_id: place.client_order_id,
                side: place.side,
                order_type: place.order_type,
                time_in_force,
                self_trade_prevention,
                price,
                quantity,
                quote_order_quantity: Amount::ZERO,
                executed: Quantity::ZERO,
                cumulative_quote: Amount::ZERO,
                status: OrderStatus::New,
                created_at: floor.now,
                updated_at: floor.now,
                special: None,
            })
        });
        let new = NewOrder {
            order_id,
            trader,
            name: place.client_order_id,
            name_hash,
            side: place.side,
            order_type: place.order_type,
            time_in_force,
            self_trade_prevention,
            open: quantity,
            created_at: floor.now,
        };
        let shown = self.book.rest(&new, price);
        self.report_level_at(place.side, price, shown, events);
    }
}
