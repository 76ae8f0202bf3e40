//! Order lists: orders that depend on each other, and what becomes of the others when one works, fills or ends.
//!
//! A pair (OCO) holds what the dearer of its two orders needs: each order by itself what it needs, and beside it an excess up
//! to the dearer one, freed when the other is gone. A pending order holds nothing before it is placed; where it is to sell
//! the proceeds of the working order (OPO), the list keeps these locked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::book::Slot;
use crate::checks::check_shape;
use crate::command::{CancelOrderList, OrderListKind, OrderQuantity, PlaceOrder, PlaceOrderList};
use crate::event::{Event, ExpiryReason, OrderList, OrderListStatus, Rejection, emit};
use crate::market::{Floor, Market, Task};
use crate::matching::Taker;
use crate::order::{ClientOrderId, Order, OrderStatus, OrderType, Side};
use crate::trader::{Opening, TraderIndex};
use crate::units::{Amount, OrderId, OrderListId, Price, Quantity};

/// What happened to an order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderEnd {
    /// It traded, and is not filled by that.
    Traded,
    /// It is filled.
    Filled,
    /// A rule ended it.
    Expired,
}

/// A list under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// As it is reported.
    pub list: OrderList,
    /// Its working order, until it is filled.
    pub working: Option<OrderId>,
    /// Its pair while both are open and neither is pending, with what each holds beside its own need.
    pub pair: Option<[(OrderId, Amount); 2]>,
    /// What the working order brought and the pending ones are to sell, in smallest base units.
    pub proceeds: Option<Amount>,
}

impl List {
    /// Whether the order is one of a pair, pending or not: such orders must stay of one quantity.
    pub fn pairs(&self, order_id: OrderId) -> bool {
        let pending_pair = self.list.kind == OrderListKind::OneTriggersOneCancelsOther && self.working.is_some();
        self.pair.is_some() || (pending_pair && self.working != Some(order_id))
    }
}

/// The lists of a market that are under way.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    open: BTreeMap<OrderListId, List>,
    by_name: BTreeMap<(TraderIndex, ClientOrderId), OrderListId>,
}

impl Lists {
    /// All, by number.
    pub fn iter(&self) -> impl Iterator<Item = &List> {
        self.open.values()
    }

    /// A list that is under way.
    pub fn get(&self, id: OrderListId) -> Option<&List> {
        self.open.get(&id)
    }

    /// Keep a list; false when its trader has one of that name.
    pub fn insert(&mut self, trader: TraderIndex, list: List) -> bool {
        let id = list.list.order_list_id;
        let of_that_name = self.by_name.insert((trader, list.list.list_client_order_id), id);
        self.open.insert(id, list).is_none() && of_that_name.is_none()
    }

    fn remove(&mut self, trader: TraderIndex, id: OrderListId) -> Option<List> {
        let list = self.open.remove(&id)?;
        self.by_name.remove(&(trader, list.list.list_client_order_id));
        Some(list)
    }
}

impl Market {
    /// New orders that depend on each other.
    pub fn place_list(
        &mut self,
        place: &PlaceOrderList,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) -> Result<(), Rejection> {
        let trader = self.admit_trader(place.uid, floor)?;
        self.check_list_names(trader, place)?;
        check_list_shape(place)?;
        let together = u32::try_from(place.orders.len()).expect("a list has two or three orders");
        let (mut opening, mut takers) = (Opening::default(), Vec::with_capacity(place.orders.len()));
        let working_orders = if place.kind == OrderListKind::OneCancelsOther { 2 } else { 1 };
        for (at, order) in place.orders.iter().enumerate() {
            opening.add(order);
            let pending = at >= working_orders;
            check_shape(order, pending)?;
            self.check_order_count(place.uid, together, floor)?;
            let terms = self.terms(order, trader, pending, floor)?;
            takers.push(terms.taker(order, trader, pending, floor.now));
        }
        self.check_counts(trader, opening, floor)?;
        self.check_list_counts(trader, floor)?;
        let pair = &place.orders[place.orders.len() - 2..];
        if place.kind != OrderListKind::OneTriggersOther {
            let last_price = self.last_price.filter(|_| place.kind == OrderListKind::OneCancelsOther);
            check_pair_prices(&takers[takers.len() - 2..], pair, last_price)?;
        }
        let mut holds = Vec::with_capacity(working_orders);
        for taker in takers.iter_mut().take(working_orders) {
            holds.push(self.check_now(taker, None, floor)?);
        }
        let hold = holds.iter().copied().max().expect("there is a working order");
        self.hold(&takers[0], hold, floor)?;

        self.start_list(place, trader, takers, &holds, floor, events);
        Ok(())
    }

    fn check_list_names(&self, trader: TraderIndex, place: &PlaceOrderList) -> Result<(), Rejection> {
        if self.lists.by_name.contains_key(&(trader, place.list_client_order_id)) {
            return Err(Rejection::DuplicateOrderList);
        }
        for (at, order) in place.orders.iter().enumerate() {
            self.check_name(trader, order)?;
            if place.orders[..at].iter().any(|other| other.client_order_id == order.client_order_id) {
                return Err(Rejection::DuplicateOrder);
            }
        }
        Ok(())
    }

    fn check_list_counts(&self, trader: TraderIndex, floor: &Floor) -> Result<(), Rejection> {
        let lists = self.book.traders.rare(trader).order_lists + 1;
        let over = |count: u32, limit: u32| limit > 0 && count > limit;
        if over(lists, self.symbol.config.max_num_order_lists) {
            return Err(Rejection::MaxNumOrderLists);
        }
        if over(lists + floor.elsewhere_lists, floor.limits.max_num_order_lists) {
            return Err(Rejection::ExchangeMaxNumOrderLists);
        }
        Ok(())
    }

    fn start_list(
        &mut self,
        place: &PlaceOrderList,
        trader: TraderIndex,
        takers: Vec<Taker>,
        holds: &[Amount],
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) {
        self.counters.order_list += 1;
        let id = OrderListId(self.counters.order_list);
        let numbers = (self.counters.order + 1..).map(OrderId);
        let list = OrderList {
            order_list_id: id,
            symbol: self.symbol.id,
            uid: place.uid,
            list_client_order_id: place.list_client_order_id,
            kind: place.kind,
            status: OrderListStatus::ExecutionStarted,
            orders: numbers.zip(place.orders.iter().map(|order| order.client_order_id)).collect(),
            created_at: floor.now,
        };
        events.push(Event::OrderListChanged(Box::new(list.clone())));
        let pair = match holds {
            [one, other] => Some(pair_of([list.orders[0].0, list.orders[1].0], [*one, *other])),
            _ => None,
        };
        let sells_proceeds = place.orders.last().is_some_and(|order| order.quantity == OrderQuantity::Proceeds);
        let working = pair.is_none().then_some(list.orders[0].0);
        let proceeds = sells_proceeds.then_some(Amount::ZERO);
        self.lists.insert(trader, List { list, working, pair, proceeds });
        self.book.traders.rare_mut(trader).order_lists += 1;

        let mut at_once = Vec::new();
        for (at, mut taker) in takers.into_iter().enumerate() {
            taker.order.special_mut().order_list_id = Some(id);
            self.accept(&mut taker, floor, events);
            // All take their places before any walks: a trader's orders stand in the order of their numbers.
            let slot = self.book.admit(&taker.order, trader);
            taker.slot = Some(slot);
            match holds.get(at) {
                None => self.book.note_mut(slot).pending = true,
                Some(&hold) if taker.order.order_type.is_stop() => self.wait(slot, hold),
                Some(_) => at_once.push(taker),
            }
        }
        for mut taker in at_once {
            self.work(&mut taker, floor, events);
        }
        self.finish_tasks(floor, events);
    }

    /// What the walk did to orders of lists, one after the other.
    pub fn apply_effects(&mut self, floor: &mut Floor, events: &mut Vec<Event>) {
        let mut at = 0;
        while let Some(&effect) = self.effects.get(at) {
            at += 1;
            let Some(list) = self.lists.open.get_mut(&effect.list) else { continue };
            if list.working == Some(effect.order_id) {
                match effect.end {
                    OrderEnd::Traded => {}
                    OrderEnd::Filled => {
                        list.working = None;
                        self.tasks.push_back(Task::PlacePending(effect.list));
                    }
                    OrderEnd::Expired => self.expire_pending(effect.list, floor, events),
                }
            } else if list.pair.is_some() {
                self.choose_leg(effect.list, effect.order_id, floor, events);
            }
            self.finish_list(effect.list, floor, events);
        }
        self.effects.clear();
    }

    /// One order of a pair works, fills or has ended: the other expires, and what was held for it alone is free.
    pub fn choose_leg(&mut self, id: OrderListId, order_id: OrderId, floor: &mut Floor, events: &mut Vec<Event>) {
        let list = self.lists.open.get_mut(&id).expect("an open order's list is under way");
        let Some(pair) = list.pair.take() else { return };
        let (chosen, other) = if pair[0].0 == order_id { (pair[0], pair[1]) } else { (pair[1], pair[0]) };
        let slot = self.book.by_number(other.0).expect("both orders of a pair are open");
        let from = self.book.traders.at(self.book.trader_of(slot)).pays_from(self.book.side(slot));
        floor.accounts.release(from, chosen.1);
        self.expire_member(slot, ExpiryReason::OcoTrigger, floor, events);
    }

    /// An order of a list ends by a rule; what it holds is not its own to free.
    fn expire_member(&mut self, slot: Slot, reason: ExpiryReason, floor: &Floor, events: &mut Vec<Event>) {
        let (mut order, rested) = self.take_off(slot);
        order.status = OrderStatus::Expired;
        order.updated_at = floor.now;
        let (side, price) = (order.side, order.price);
        events.push(Event::OrderExpired { order, reason });
        if let Some(shown) = rested {
            self.report_level_at(side, price, shown, events);
        }
    }

    /// The working order ended unfilled, so the pending ones are never placed.
    fn expire_pending(&mut self, id: OrderListId, floor: &mut Floor, events: &mut Vec<Event>) {
        let list = self.lists.open.get_mut(&id).expect("the list is under way");
        list.working = None;
        let orders = list.list.orders.clone();
        for (order_id, _) in orders.into_iter().skip(1) {
            if let Some(slot) = self.book.by_number(order_id) {
                self.expire_member(slot, ExpiryReason::OtoPhaseOne, floor, events);
            }
        }
    }

    /// Say that a list is done when none of its orders is open.
    fn finish_list(&mut self, id: OrderListId, floor: &mut Floor, events: &mut Vec<Event>) {
        let Some(list) = self.lists.open.get(&id) else { return };
        if list.list.orders.iter().any(|&(order_id, _)| self.book.by_number(order_id).is_some()) {
            return;
        }
        let trader = self.book.traders.find(list.list.uid).expect("a list has a trader");
        let mut list = self.lists.remove(trader, id).expect("the list is under way");
        self.book.traders.rare_mut(trader).order_lists -= 1;
        let base = self.book.traders.at(trader).base;
        floor.accounts.release(base, list.proceeds.unwrap_or_default());
        list.list.status = OrderListStatus::AllDone;
        events.push(Event::OrderListChanged(Box::new(list.list)));
    }

    /// What the working order of an OPO brought is kept for the pending ones.
    pub fn keep_proceeds(
        &mut self,
        id: OrderListId,
        order_id: OrderId,
        trader: TraderIndex,
        received: Amount,
        floor: &mut Floor,
    ) {
        let Some(list) = self.lists.open.get_mut(&id).filter(|list| list.working == Some(order_id)) else { return };
        if let Some(proceeds) = &mut list.proceeds {
            let base = self.book.traders.at(trader).base;
            // A trade with itself may have paid another commission out of it by now.
            let kept = received.min(floor.accounts.at(base).free);
            *proceeds = proceeds.plus(kept);
            floor.accounts.hold(base, kept).expect("so much is free");
        }
    }

    /// The working order is filled: the pending ones are placed, or expire where they no longer pass.
    pub fn place_pending(&mut self, id: OrderListId, floor: &mut Floor, events: &mut Vec<Event>) {
        let Some(list) = self.lists.open.get_mut(&id) else { return };
        let proceeds = list.proceeds.take();
        let orders = list.list.orders.clone();
        let slots: Vec<Slot> =
            orders.iter().skip(1).filter_map(|&(order_id, _)| self.book.by_number(order_id)).collect();
        let Some(&first) = slots.first() else { return };
        let trader = self.book.trader_of(first);
        if let Some(proceeds) = proceeds {
            floor.accounts.release(self.book.traders.at(trader).base, proceeds);
            for &slot in &slots {
                let quantity = self.sellable(self.book.order_type(slot), proceeds);
                self.book.set_quantity(slot, quantity);
            }
        }
        let checked = self.check_pending(&slots, trader, floor);
        let (takers, holds) = match checked {
            Ok(ready) => ready,
            Err(rejection) => {
                for slot in slots {
                    self.reject_arrival(slot, rejection, floor, events);
                }
                return self.apply_effects(floor, events);
            }
        };
        if let [one, other] = holds[..] {
            let pair = pair_of([takers[0].order.order_id, takers[1].order.order_id], [one, other]);
            self.lists.open.get_mut(&id).expect("the list is under way").pair = Some(pair);
        }
        self.release_pending(takers, &holds, floor, events);
    }

    /// How much of the proceeds an order of that kind can sell.
    fn sellable(&self, order_type: OrderType, proceeds: Amount) -> Quantity {
        let lots = self.symbol.scale.whole_lots(proceeds);
        let max = self.symbol.config.max_quantity;
        match (order_type.is_market(), max.is_zero()) {
            (true, _) => lots.min(self.symbol.most_market_quantity()),
            (false, false) => lots.min(self.symbol.scale.whole_lots(max)),
            (false, true) => lots,
        }
    }

    /// The checks of a new order for each pending one, and what they hold together.
    fn check_pending(
        &mut self,
        slots: &[Slot],
        trader: TraderIndex,
        floor: &mut Floor,
    ) -> Result<(Vec<Taker>, Vec<Amount>), Rejection> {
        if !self.book.traders.at(trader).settings.can_trade {
            return Err(Rejection::AccountDisabled);
        }
        let (mut takers, mut holds) = (Vec::new(), Vec::new());
        for &slot in slots {
            let mut order = self.book.order(slot);
            order.status = OrderStatus::New;
            let mut taker = Taker { order, trader, slot: Some(slot), ends: None };
            holds.push(self.check_placement(&mut taker, floor)?);
            takers.push(taker);
        }
        let hold = holds.iter().copied().max().expect("there is a pending order");
        self.hold(&takers[0], hold, floor)?;
        Ok((takers, holds))
    }

    /// The pending orders that passed come to the book; stops begin to wait.
    fn release_pending(&mut self, takers: Vec<Taker>, holds: &[Amount], floor: &mut Floor, events: &mut Vec<Event>) {
        let mut at_once = Vec::new();
        for (mut taker, &hold) in takers.into_iter().zip(holds) {
            let is_stop = taker.order.order_type.is_stop();
            taker.order.updated_at = floor.now;
            if !is_stop {
                taker.order.special_mut().working_at = Some(floor.now);
            }
            let slot = taker.slot.expect("a pending order is open");
            self.book.update(slot, &taker.order);
            events.push(Event::OrderTriggered(taker.order.clone()));
            if is_stop { self.wait(slot, hold) } else { at_once.push(taker) }
        }
        for mut taker in at_once {
            self.work(&mut taker, floor, events);
        }
    }

    /// Cancel all that is open of a list, in its order. The order that was asked for carries the name of the cancel.
    pub fn cancel_list(
        &mut self,
        id: OrderListId,
        name: impl Fn(OrderId) -> Option<ClientOrderId>,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) {
        let list = self.lists.open.get_mut(&id).expect("the list is under way");
        list.working = None;
        let (orders, pair) = (list.list.orders.clone(), list.pair.take());
        for (order_id, _) in orders {
            let Some(slot) = self.book.by_number(order_id) else { continue };
            let from = self.book.traders.at(self.book.trader_of(slot)).pays_from(self.book.side(slot));
            let held = match pair {
                // The pair holds what one needs and its excess; the other holds nothing besides.
                Some([first, _]) if first.0 == order_id => self.held(slot).plus(first.1),
                Some([_, second]) if second.0 == order_id => Amount::ZERO,
                _ => self.held(slot),
            };
            floor.accounts.release(from, held);
            self.cancel_slot(slot, name(order_id), floor, events);
        }
        self.finish_list(id, floor, events);
    }

    /// A client cancels a list.
    pub fn cancel_list_command(
        &mut self,
        cancel: &CancelOrderList,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) -> Result<(), Rejection> {
        let trader = self.book.traders.find(cancel.uid).ok_or(Rejection::UnknownOrderList)?;
        let named = |name| self.lists.by_name.get(&(trader, name)).copied();
        let id = match (cancel.order_list_id, cancel.list_client_order_id) {
            (Some(id), _) => Some(id),
            (None, name) => name.and_then(named),
        };
        let list = id.and_then(|id| self.lists.open.get(&id)).ok_or(Rejection::UnknownOrderList)?;
        if list.list.uid != cancel.uid {
            return Err(Rejection::UnknownOrderList);
        }
        let agrees = cancel.list_client_order_id.is_none_or(|name| name == list.list.list_client_order_id);
        if !agrees {
            return Err(Rejection::UnknownOrderList);
        }
        let id = list.list.order_list_id;
        self.cancel_list(id, |_| cancel.cancel_client_order_id, floor, events);
        Ok(())
    }

    /// An order of a list has another name.
    pub fn rename_in_list(&mut self, id: OrderListId, slot: Slot, events: &mut Vec<Event>) {
        let (order_id, name) = (self.book.number(slot), self.book.name(slot));
        let list = self.lists.open.get_mut(&id).expect("an open order's list is under way");
        let renamed = list.list.orders.iter_mut().find(|(of, _)| *of == order_id);
        renamed.expect("the order is in its list").1 = name;
        events.push(Event::OrderListChanged(Box::new(OrderList {
            status: OrderListStatus::Updated,
            ..list.list.clone()
        })));
    }

    /// Take an open order out of the book, from wherever it is; as it was, and what its level shows now where it rested.
    pub fn take_off(&mut self, slot: Slot) -> (Order, Option<Quantity>) {
        let order = self.book.order(slot);
        let rested = self.book.is_resting(slot);
        if order.order_type.is_stop() {
            self.trackers.forget(order.order_id);
        }
        let shown = self.book.close(slot);
        (order, rested.then_some(shown))
    }

    /// Take an order off by its owner's will; what it held is free already.
    pub fn cancel_slot(&mut self, slot: Slot, name: Option<ClientOrderId>, floor: &Floor, events: &mut Vec<Event>) {
        let (mut order, rested) = self.take_off(slot);
        order.status = OrderStatus::Canceled;
        order.updated_at = floor.now;
        let (side, price) = (order.side, order.price);
        let cancel_client_order_id = name.unwrap_or(order.client_order_id);
        emit(events, || Event::OrderCanceled { order, cancel_client_order_id });
        if let Some(shown) = rested {
            self.report_level_at(side, price, shown, events);
        }
    }

    /// What lists hold besides what each of their orders needs; of a pair, its second order's need counts for nothing.
    pub fn list_holds(&self) -> impl Iterator<Item = (TraderIndex, Side, Amount, Option<OrderId>)> {
        self.lists.open.values().flat_map(|list| {
            let trader = self.book.traders.find(list.list.uid).expect("a list has a trader");
            let proceeds = list.proceeds.map(|proceeds| (trader, Side::Sell, proceeds, None));
            let pair = list.pair.map(|[first, second]| {
                let slot = self.book.by_number(first.0).expect("both orders of a pair are open");
                (trader, self.book.side(slot), first.1, Some(second.0))
            });
            proceeds.into_iter().chain(pair)
        })
    }
}

/// Two orders and what each holds beside its own need, so that both come to the dearer one.
fn pair_of(orders: [OrderId; 2], needs: [Amount; 2]) -> [(OrderId, Amount); 2] {
    let most = needs[0].max(needs[1]);
    [(orders[0], most.minus(needs[0])), (orders[1], most.minus(needs[1]))]
}

/// That the orders of a list fit together: kinds, sides and quantities.
fn check_list_shape(place: &PlaceOrderList) -> Result<(), Rejection> {
    let same_market = |order: &PlaceOrder| (order.uid, order.symbol) == (place.uid, place.symbol);
    let orders = &place.orders;
    let fits = orders.iter().all(same_market)
        && match (place.kind, &orders[..]) {
            (OrderListKind::OneCancelsOther, [above, below]) => is_pair(above, below),
            (OrderListKind::OneTriggersOther, [working, pending]) => {
                works_first(working) && is_pending(working, pending)
            }
            (OrderListKind::OneTriggersOneCancelsOther, [working, above, below]) => {
                works_first(working) && is_pair(above, below) && is_pending(working, above)
            }
            _ => false,
        };
    fits.then_some(()).ok_or(Rejection::InvalidOrderList)
}

fn works_first(working: &PlaceOrder) -> bool {
    matches!(working.order_type, OrderType::Limit | OrderType::LimitMaker)
}

fn is_pending(working: &PlaceOrder, pending: &PlaceOrder) -> bool {
    match pending.quantity {
        OrderQuantity::Base(_) => true,
        OrderQuantity::Quote(_) => false,
        OrderQuantity::Proceeds => working.side == Side::Buy && pending.side == Side::Sell,
    }
}

fn is_pair(above: &PlaceOrder, below: &PlaceOrder) -> bool {
    let takes = |order: &PlaceOrder| {
        matches!(order.order_type, OrderType::LimitMaker | OrderType::TakeProfit | OrderType::TakeProfitLimit)
    };
    let stops = |order: &PlaceOrder| matches!(order.order_type, OrderType::StopLoss | OrderType::StopLossLimit);
    let kinds = match above.side {
        Side::Sell => takes(above) && stops(below),
        Side::Buy => stops(above) && takes(below),
    };
    kinds && above.side == below.side && above.quantity == below.quantity
}

/// The order above must lie above the market and the one below under it. Orders that trail without a stop price, or peg
/// without a price, are not compared.
fn check_pair_prices(takers: &[Taker], places: &[PlaceOrder], last_price: Option<Price>) -> Result<(), Rejection> {
    let price = |taker: &Taker, place: &PlaceOrder| {
        let stop_price = taker.order.special.as_ref().and_then(|special| special.stop_price);
        let limit = (place.order_type == OrderType::LimitMaker && taker.order.price.0 > 0).then_some(taker.order.price);
        stop_price.or(limit)
    };
    let (above, below) = (price(&takers[0], &places[0]), price(&takers[1], &places[1]));
    let ordered = |high: Option<Price>, low: Option<Price>| high.zip(low).is_none_or(|(high, low)| high > low);
    let fits = ordered(above, below) && ordered(above, last_price) && ordered(last_price, below);
    fits.then_some(()).ok_or(Rejection::OcoPrices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_holds_what_the_dearer_order_needs() {
        let pair = pair_of([OrderId(1), OrderId(2)], [Amount(30), Amount(50)]);
        assert_eq!(pair, [(OrderId(1), Amount(20)), (OrderId(2), Amount(0))]);
    }
}
