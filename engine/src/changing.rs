//! What a trader does to an order that is open: cancel, amend, reduce, replace.

use crate::book::{Ladder, Slot};
use crate::checks::check_shape;
use crate::command::{AmendOrder, CancelOrder, CancelReplace, CancelRestriction, OrderReference, ReplaceOrder};
use crate::event::{Event, Rejection, emit};
use crate::market::{Floor, Market};
use crate::matching::Taker;
use crate::order::{ClientOrderId, Order, OrderStatus, OrderType, Side};
use crate::symbol::SymbolStatus;
use crate::units::{Amount, Notional, Price, Quantity, Uid};

impl Market {
    /// The open order of a user that a reference means.
    pub fn find(&self, uid: Uid, reference: &OrderReference) -> Result<Slot, Rejection> {
        let Some(order_id) = reference.order_id else {
            let name = reference.client_order_id.ok_or(Rejection::UnknownOrder)?;
            let trader = self.book.traders.find(uid).ok_or(Rejection::UnknownOrder)?;
            return self.book.by_name(trader, name).ok_or(Rejection::UnknownOrder);
        };
        let slot = self.book.by_number(order_id).ok_or(Rejection::UnknownOrder)?;
        if self.book.uid_of(slot) != uid {
            return Err(Rejection::UnknownOrder);
        }
        if reference.client_order_id.is_some_and(|given| given != self.book.name(slot)) {
            return Err(Rejection::ClientOrderIdMismatch);
        }
        Ok(slot)
    }

    /// Cancel one order.
    pub fn cancel(
        &mut self,
        cancel: &CancelOrder,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) -> Result<(), Rejection> {
        let slot = self.check_cancel(cancel)?;
        match self.book.plain_at(slot) {
            Some((side, price)) => self.cancel_plain(slot, side, price, cancel.cancel_client_order_id, floor, events),
            None => self.cancel_open(slot, Some(cancel.cancel_client_order_id), floor, events),
        }
        Ok(())
    }

    fn check_cancel(&self, cancel: &CancelOrder) -> Result<Slot, Rejection> {
        let slot = self.find(cancel.uid, &cancel.order)?;
        if let Some(restriction) = cancel.restriction {
            let status = self.book.order(slot).status;
            let allowed = match restriction {
                CancelRestriction::OnlyNew => status == OrderStatus::New,
                CancelRestriction::OnlyPartiallyFilled => status == OrderStatus::PartiallyFilled,
            };
            if !allowed {
                return Err(Rejection::CancelRestricted);
            }
        }
        Ok(slot)
    }

    /// Cancel all of a user's orders, oldest first, each with the list it belongs to; how many commands that would have been.
    pub fn cancel_all(&mut self, uid: Uid, floor: &mut Floor, events: &mut Vec<Event>) -> usize {
        let Some(trader) = self.book.traders.find(uid) else { return 0 };
        let mut canceled = 0;
        while let Some(slot) = self.book.first_of(trader) {
            self.cancel_open(slot, None, floor, events);
            canceled += 1;
        }
        canceled
    }

    /// Take an open order off the book, with the list it belongs to; a cancel without a name carries the order's.
    fn cancel_open(&mut self, slot: Slot, name: Option<ClientOrderId>, floor: &mut Floor, events: &mut Vec<Event>) {
        let order_id = self.book.number(slot);
        if let Some(list) = self.book.special(slot).and_then(|special| special.order_list_id) {
            return self.cancel_list(list, |of| name.filter(|_| of == order_id), floor, events);
        }
        let from = self.book.traders.at(self.book.trader_of(slot)).pays_from(self.book.side(slot));
        let held = self.held(slot);
        floor.accounts.release(from, held);
        self.cancel_slot(slot, name, floor, events);
    }

    /// Cancel one order and place another. The outcome of both is told by an event of its own, before theirs.
    pub fn cancel_replace(
        &mut self,
        command: &CancelReplace,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) -> Result<(), Rejection> {
        let CancelReplace { cancel, place, .. } = command;
        if (cancel.uid, cancel.symbol) != (place.uid, place.symbol) {
            return Err(Rejection::InvalidCombination);
        }
        let trader = self.admit_trader(place.uid, floor)?;
        check_shape(place, false)?;
        let limited = self.check_order_count(place.uid, 1, floor).err();
        if limited.is_some() && !command.cancel_when_limited {
            return Err(Rejection::TooManyOrders);
        }
        self.terms(place, trader, false, floor)?;

        let decided_at = events.len();
        let decided = |cancel, place| Event::CancelReplaceDecided { cancel, place };
        events.push(decided(None, None));
        let canceled = self.cancel(cancel, floor, events).err();
        let attempted = canceled.is_none() || command.allow_failure;
        let placed = match (attempted, limited) {
            (false, _) => {
                if floor.limits.counts_orders() {
                    floor.accounts.count_orders(place.uid, &floor.limits, floor.now, 1);
                }
                None
            }
            (true, Some(rejection)) => Some(Err(rejection)),
            (true, None) => Some(self.place(place, floor, events)),
        };
        events[decided_at] = decided(canceled, placed);
        Ok(())
    }

    /// Lower an order's whole quantity in its place.
    pub fn amend(&mut self, amend: &AmendOrder, floor: &mut Floor, events: &mut Vec<Event>) -> Result<(), Rejection> {
        if self.symbol.status != SymbolStatus::Trading {
            return Err(Rejection::MarketClosed);
        }
        let slot = self.find(amend.uid, &amend.order)?;
        let trader = self.book.trader_of(slot);
        let named = self.book.by_name(trader, amend.new_client_order_id);
        if named.is_some_and(|other| other != slot) {
            return Err(Rejection::DuplicateOrder);
        }
        let before = self.book.order(slot);
        let special = before.special.as_deref();
        let list = before.order_list_id();
        let in_pair = list.and_then(|list| self.lists.get(list)).is_some_and(|list| list.pairs(before.order_id));
        if in_pair || before.quantity.is_zero() {
            return Err(Rejection::NoChange);
        }
        let quantity = self.symbol.check_quantity(amend.new_quantity)?;
        let gone = before.executed.checked_add(before.prevented()).expect("parts of the order");
        if quantity >= before.quantity || quantity <= gone {
            return Err(Rejection::AmendQuantity);
        }
        let amends = special.map_or(0, |special| special.amends) + 1;
        if self.symbol.config.max_num_order_amends > 0 && amends > self.symbol.config.max_num_order_amends {
            return Err(Rejection::MaxNumOrderAmends);
        }
        if before.price.0 > 0 {
            let notional = Notional::of(before.price, quantity).ok_or(Rejection::Overflow)?;
            self.symbol.check_notional(notional)?;
        }

        self.book.special_mut(slot).amends = amends;
        if amend.new_client_order_id != before.client_order_id {
            self.book.rename(slot, amend.new_client_order_id);
        }
        self.lower(slot, before.quantity.minus(quantity), before.client_order_id, floor, events);
        if let Some(list) = list.filter(|_| amend.new_client_order_id != before.client_order_id) {
            self.rename_in_list(list, slot, events);
        }
        Ok(())
    }

    /// Lower an order's open quantity by so much, in its place.
    pub fn reduce(
        &mut self,
        uid: Uid,
        reference: &OrderReference,
        by: Amount,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) -> Result<(), Rejection> {
        if self.symbol.status != SymbolStatus::Trading {
            return Err(Rejection::MarketClosed);
        }
        let slot = self.find(uid, reference)?;
        if !self.book.is_resting(slot) {
            return Err(Rejection::UnknownOrder);
        }
        if self.book.special(slot).is_some_and(|special| special.order_list_id.is_some()) {
            return Err(Rejection::NoChange);
        }
        if by.is_zero() {
            return Err(Rejection::ZeroQuantity);
        }
        let by = self.symbol.scale.lots(by).ok_or(Rejection::LotSize)?;
        if by >= self.book.open(slot) {
            self.cancel_open(slot, None, floor, events);
        } else {
            self.lower(slot, by, self.book.name(slot), floor, events);
        }
        Ok(())
    }

    /// What an order asks is lowered by so much, with something left; what it held for that is free.
    fn lower(
        &mut self,
        slot: Slot,
        by: Quantity,
        previous_client_order_id: ClientOrderId,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) {
        let before = self.book.order(slot);
        let held = self.held(slot);
        self.book.lower(slot, by, floor.now);
        if before.side == Side::Buy && before.order_type.is_market() && !held.is_zero() {
            // What a market stop holds is in proportion to what it asks.
            let left = self.book.open(slot);
            let price = held.0 / u128::from(before.open_quantity().0);
            self.book.note_mut(slot).held = Amount(price * u128::from(left.0));
        }
        let from = self.book.traders.at(self.book.trader_of(slot)).pays_from(before.side);
        floor.accounts.release(from, held.minus(self.held(slot)));
        let order = self.book.order(slot);
        let (side, price) = (order.side, order.price);
        events.push(Event::OrderAmended { order, previous_client_order_id, previous_quantity: before.quantity });
        if self.book.is_resting(slot) {
            self.report_level(side, price, events);
        }
    }

    /// Give a resting order a new price and open quantity; it goes to the end of the queue and may trade at once.
    pub fn replace(
        &mut self,
        replace: &ReplaceOrder,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) -> Result<(), Rejection> {
        match self.move_plain(replace, floor, events) {
            Some(decided) => decided,
            None => self.replace_any(replace, floor, events),
        }
    }

    /// The same on the general road.
    fn replace_any(
        &mut self,
        replace: &ReplaceOrder,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) -> Result<(), Rejection> {
        let slot = self.find(replace.uid, &replace.order)?;
        let trader = self.book.trader_of(slot);
        self.check_trading(trader)?;
        let Some((side, old_price)) = self.book.resting_at(slot) else { return Err(Rejection::NoChange) };
        let special = self.book.special(slot);
        if special.is_some_and(|special| special.order_list_id.is_some() || special.iceberg_quantity.is_some()) {
            return Err(Rejection::NoChange);
        }
        let old_open = self.book.open(slot);
        let price = replace.price.map_or(Ok(old_price), |price| self.check_price(price))?;
        if replace.price.is_some() {
            self.check_percent_price(side, price, floor)?;
        }
        let open = replace.quantity.map_or(Ok(old_open), |quantity| self.check_quantity(quantity))?;
        let notional = Notional::of(price, open).ok_or(Rejection::Overflow)?;
        self.check_notional(notional)?;
        self.check_worth(side, price, notional, open)?;
        let quantity = self.book.quantity(slot).minus(old_open).checked_add(open).ok_or(Rejection::Overflow)?;
        self.check_cumulative(slot, side, price, open)?;
        let crosses = self.crosses(side, price);
        if crosses && self.book.order_type(slot) == OrderType::LimitMaker {
            return Err(Rejection::WouldMatchImmediately);
        }
        if (price, open) != (old_price, old_open) {
            let (held, needed) = (self.need(side, old_price, old_open), self.need(side, price, open));
            let from = self.book.traders.at(trader).pays_from(side);
            match needed.checked_sub(held) {
                Some(more) => floor.accounts.hold(from, more)?,
                None => floor.accounts.release(from, held.minus(needed)),
            }
        }

        let (symbol, order_id, uid) = (self.symbol.id, self.book.number(slot), replace.uid);
        emit(events, || Event::OrderReplaced { symbol, order_id, uid, price, quantity });
        let left = self.book.unqueue(slot);
        self.report_level_at(side, old_price, left, events);
        if crosses {
            let order = Order { price, quantity, ..self.book.order(slot) };
            let mut taker = Taker { order, trader, slot: Some(slot), ends: None };
            self.work(&mut taker, floor, events);
            self.finish_tasks(floor, events);
        } else {
            self.book.reprice(slot, open, quantity);
            let shown = self.book.queue_at(slot, Ladder::of(side), price);
            self.report_level_at(side, price, shown, events);
        }
        Ok(())
    }

    /// That what the order has traded and what it may still trade is worth no more than fits.
    fn check_cumulative(&self, slot: Slot, side: Side, price: Price, open: Quantity) -> Result<(), Rejection> {
        let Some(note) = self.book.note(slot) else { return Ok(()) };
        let best = if side == Side::Sell { self.opposite_best(side) } else { None };
        let most = Notional::of(best.map_or(price, |best| best.max(price)), open);
        let fits = most.and_then(|most| most.checked_add(note.cumulative)).is_some();
        fits.then_some(()).ok_or(Rejection::Overflow)
    }

    /// That an order of this price and quantity can be settled, held and queued, whatever becomes of it.
    fn check_worth(&self, side: Side, price: Price, notional: Notional, open: Quantity) -> Result<(), Rejection> {
        self.check_sell_worth(side, price, open)?;
        self.check_fee_fits(side, notional, open)?;
        if !self.book.has_room(Ladder::of(side), price, open) {
            return Err(Rejection::Overflow);
        }
        Ok(())
    }
}
