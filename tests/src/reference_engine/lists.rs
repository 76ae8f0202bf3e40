//! What walks, cancels and prices set off: order lists and stops.

use engine::Rejection;
use engine::command::OrderQuantity;
use engine::event::{Event, ExpiryReason, OrderList, OrderListStatus};
use engine::order::{ClientOrderId, Order, OrderStatus, Side};
use engine::units::{Amount, OrderId, OrderListId, Price, Quantity};

use super::ReferenceEngine;
use super::book::{List, Open, Place, Size, in_range, is_rising};
use super::checks::{Occasion, Terms, check_price, fits, is_within, require};

/// What a walk did to an order that may be of a list.
#[derive(Clone, Copy, Debug)]
pub enum Effect {
    /// It traded, and some of it is left.
    Traded(u64),
    Filled(u64),
    /// It expired.
    Ended(u64),
}

/// What is to come to the book, in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Task {
    /// A stop whose price came.
    Stop(usize, u64),
    /// The pending orders of a list whose working order is filled.
    Pending(usize, u64),
}

impl ReferenceEngine {
    /// Work off what the command has set off, each thing whole.
    pub(super) fn run_tasks(&mut self) {
        while let Some(task) = self.tasks.pop_front() {
            match task {
                Task::Stop(at, order_id) => self.trigger(at, order_id),
                Task::Pending(at, list_id) => self.place_pending(at, list_id),
            }
        }
    }

    /// After a walk: first what it did to lists, then the stops its prices met.
    pub(super) fn after_walk(&mut self, at: usize, prices: Option<(Price, Price)>, effects: Vec<Effect>) {
        for effect in effects {
            self.settle_effect(at, effect);
        }
        if let Some((first, last)) = prices {
            self.walks.push((at, first, last));
            self.queue_stops(at, first, last);
        }
    }

    fn settle_effect(&mut self, at: usize, effect: Effect) {
        let (Effect::Traded(order_id) | Effect::Filled(order_id) | Effect::Ended(order_id)) = effect;
        let mut lists = self.markets[at].lists.values();
        let Some(list) = lists.find(|list| list.orders.iter().any(|(id, _)| *id == order_id)).cloned() else { return };
        if list.working() == Some(order_id) {
            match effect {
                Effect::Traded(_) => {}
                Effect::Filled(_) => self.tasks.push_back(Task::Pending(at, list.list_id)),
                Effect::Ended(_) => self.expire_open(at, &list, ExpiryReason::OtoPhaseOne),
            }
        } else if let Some(other) = list.other_leg(order_id).filter(|other| self.markets[at].is_open(*other)) {
            self.expire(at, other, ExpiryReason::OcoTrigger);
        }
        self.finish_list(at, Some(OrderListId(list.list_id)));
    }

    fn expire_open(&mut self, at: usize, list: &List, reason: ExpiryReason) {
        for (order_id, _) in &list.orders {
            if self.markets[at].orders.contains_key(order_id) {
                self.expire(at, *order_id, reason);
            }
        }
    }

    /// An open order that is not walking ends by a rule.
    pub(super) fn expire(&mut self, at: usize, order_id: u64, reason: ExpiryReason) {
        let (order, was_in_book) = self.take_off(at, order_id, OrderStatus::Expired);
        self.events.push(Event::OrderExpired { order: order.clone(), reason });
        if was_in_book {
            self.report_level(at, order.side, order.price);
        }
        self.finish_list(at, order.order_list_id());
    }

    /// An order ends by its owner's will, and with it the list it is of.
    pub(super) fn cancel(&mut self, at: usize, order_id: u64, name: ClientOrderId) {
        let order = &self.markets[at].orders[&order_id].order;
        let own = vec![(order_id, order.client_order_id)];
        let list = order.order_list_id().map(|list_id| self.markets[at].lists[&list_id.0].orders.clone());
        for (id, own_name) in list.unwrap_or(own) {
            if self.markets[at].orders.contains_key(&id) {
                self.cancel_one(at, id, if id == order_id { name } else { own_name });
            }
        }
    }

    pub(super) fn cancel_one(&mut self, at: usize, order_id: u64, cancel_client_order_id: ClientOrderId) {
        let (order, was_in_book) = self.take_off(at, order_id, OrderStatus::Canceled);
        self.events.push(Event::OrderCanceled { order: order.clone(), cancel_client_order_id });
        if was_in_book {
            self.report_level(at, order.side, order.price);
        }
        self.finish_list(at, order.order_list_id());
    }

    fn take_off(&mut self, at: usize, order_id: u64, status: OrderStatus) -> (Order, bool) {
        let mut open = self.markets[at].orders.remove(&order_id).expect("it is open");
        self.release_hold_of(at, &open);
        open.order.status = status;
        open.order.updated_at = self.now;
        let was_in_book = open.in_book();
        (open.order, was_in_book)
    }

    /// What the pair of this order holds together, while both legs are open.
    pub(super) fn pair_held(&mut self, at: usize, order: &Order) -> Option<&mut u128> {
        let list = self.markets[at].lists.get_mut(&order.order_list_id()?.0)?;
        list.other_leg(order.order_id.0)?;
        list.pair_held.as_mut()
    }

    /// An order is closed: what it holds is free. Of a pair, the leg that stays holds what it needs by itself.
    pub(super) fn release_hold_of(&mut self, at: usize, open: &Open) {
        let order = &open.order;
        let asset = self.pays_in(at, order.side);
        let Some(held) = self.pair_held(at, order).copied() else {
            self.unlock(order.uid, asset, open.held);
            return;
        };
        let list_id = order.order_list_id().expect("it has a pair").0;
        let other_id = self.markets[at].lists[&list_id].other_leg(order.order_id.0).expect("it has a pair");
        let mut kept = 0;
        if let Some(other) = self.markets[at].orders.get(&other_id).cloned() {
            kept = self.need(at, &other).min(held);
            self.markets[at].orders.get_mut(&other_id).expect("it is open").held = kept;
        }
        self.markets[at].lists.get_mut(&list_id).expect("it is open").pair_held = None;
        self.unlock(order.uid, asset, held - kept);
    }

    /// What a working order received stays locked if its list sells it.
    pub(super) fn keep_proceeds(&mut self, at: usize, order_id: u64, list: Option<OrderListId>, received: u128) {
        let base = self.markets[at].symbol.config.base;
        let Some(list) = list.and_then(|list| self.markets[at].lists.get_mut(&list.0)) else { return };
        if list.working() != Some(order_id) {
            return;
        }
        let (uid, list_id) = (list.uid, list.list_id);
        // An account that trades with itself may have paid the other side's commission out of it.
        let kept = received.min(self.balance(uid, base).0);
        let list = self.markets[at].lists.get_mut(&list_id).expect("it is open");
        if let Some(proceeds) = &mut list.proceeds {
            *proceeds += kept;
            self.lock(uid, base, kept);
        }
    }

    /// The list is done once none of its orders is open.
    pub(super) fn finish_list(&mut self, at: usize, list: Option<OrderListId>) {
        let market = &mut self.markets[at];
        let Some(list) = list.and_then(|list| market.lists.get(&list.0)) else { return };
        if list.orders.iter().any(|(order_id, _)| market.is_open(*order_id)) {
            return;
        }
        let list_id = list.list_id;
        let list = market.lists.remove(&list_id).expect("it was found");
        let asset = market.symbol.config.base;
        self.unlock(list.uid, asset, list.proceeds.unwrap_or(0));
        self.say_list(at, &list, OrderListStatus::AllDone);
    }

    pub(super) fn say_list(&mut self, at: usize, list: &List, status: OrderListStatus) {
        self.events.push(Event::OrderListChanged(Box::new(OrderList {
            order_list_id: OrderListId(list.list_id),
            symbol: self.markets[at].symbol.id,
            uid: list.uid,
            list_client_order_id: list.name,
            kind: list.kind,
            status,
            orders: list.orders.iter().map(|(id, name)| (OrderId(*id), *name)).collect(),
            created_at: list.created_at,
        })));
    }

    // Stops.

    /// Queue the stops that the prices of a walk met, the oldest first.
    fn queue_stops(&mut self, at: usize, first: Price, last: Price) {
        let now = self.now;
        for (order_id, open) in &mut self.markets[at].orders {
            if !matches!(open.place, Place::Waiting { queued: false }) {
                continue;
            }
            let rising = is_rising(open.order.order_type, open.order.side);
            let buys = open.order.side == Side::Buy;
            let special = open.order.special_mut();
            let condition = |price: Price| match special.stop_price {
                Some(stop) if rising => price >= stop,
                Some(stop) => price <= stop,
                None => true,
            };
            let mut met = false;
            match special.trailing_delta {
                None => met = condition(first) || condition(last),
                Some(delta) => {
                    for price in [first, last] {
                        special.trailing = match special.trailing {
                            Some((extreme, since)) if buys => Some((extreme.min(price), since)),
                            Some((extreme, since)) => Some((extreme.max(price), since)),
                            None => condition(price).then_some((price, now)),
                        };
                        let Some((extreme, _)) = special.trailing else { continue };
                        let (price, extreme) = (u128::from(price.0) * 10_000, u128::from(extreme.0));
                        met |= match buys {
                            true => price >= extreme * (10_000 + u128::from(delta)),
                            false => price <= extreme * 10_000u128.saturating_sub(delta.into()),
                        };
                        if met {
                            break;
                        }
                    }
                }
            }
            if met {
                open.place = Place::Waiting { queued: true };
                self.tasks.push_back(Task::Stop(at, *order_id));
            }
        }
    }

    /// A stop comes to the book.
    fn trigger(&mut self, at: usize, order_id: u64) {
        let Some(order) = self.markets[at].orders.get(&order_id).map(|open| open.order.clone()) else { return };
        let list = order.order_list_id().and_then(|list| self.markets[at].lists.get(&list.0));
        let other = list.and_then(|list| list.other_leg(order_id));
        if let Some(other) = other.filter(|other| self.markets[at].is_open(*other)) {
            self.expire(at, other, ExpiryReason::OcoTrigger);
        }
        let (price, need) = match self.check_trigger(at, order_id) {
            Ok(ready) => ready,
            Err(rejection) => return self.expire(at, order_id, ExpiryReason::Rejected(rejection)),
        };
        let mut open = self.markets[at].orders.remove(&order_id).expect("it is open");
        let asset = self.pays_in(at, order.side);
        self.unlock(order.uid, asset, open.held);
        self.lock(order.uid, asset, need);
        open.held = need;
        open.order.price = price;
        open.order.special_mut().working_at = Some(self.now);
        open.order.updated_at = self.now;
        self.events.push(Event::OrderTriggered(open.order.clone()));
        let size = Size::Lots(open.open_lots());
        self.take(at, open, size);
    }

    /// The price a stop works at, and what it needs to hold for that.
    fn check_trigger(&self, at: usize, order_id: u64) -> Result<(Price, u128), Rejection> {
        let market = &self.markets[at];
        let open = &market.orders[&order_id];
        let (order, lots) = (&open.order, open.open_lots());
        let config = &market.symbol.config;
        let is_market = order.order_type.is_market();
        let mut price = order.price;
        let peg = order.special.as_ref().and_then(|special| special.peg);
        let is_pegged = peg.is_some();
        if let Some(peg) = peg {
            price = market.peg_price(order.side, peg).ok_or(Rejection::NoPegPrice)?;
            check_price(market, market.symbol.scale.price_amount(price))?;
            let reference = market.reference_price(self.now);
            require(in_range(config.percent_price, order.side, price, reference), Rejection::PercentPrice)?;
        }
        if !is_market {
            fits(u128::from(price.0) * u128::from(lots))?;
            fits(market.open_at(order.side, price) + u128::from(lots))?;
        }
        if is_pegged {
            let worth = market.quote(u128::from(price.0) * u128::from(lots));
            require(is_within(worth, config.min_notional.0, config.max_notional.0), Rejection::Notional)?;
        }
        if let Some(best) = market.best(Side::Buy).filter(|_| order.side == Side::Sell) {
            fits(u128::from(best.0) * u128::from(lots))?;
        }
        require(!is_market || market.has_house_price(order.side), Rejection::NoReferencePrice)?;
        let need = match order.side {
            Side::Sell => market.base(lots),
            Side::Buy if is_market => {
                let plan = self.plan_for(at, open, Size::Lots(lots));
                market.cost_of(&plan, Side::Buy)?
            }
            Side::Buy => self.hold_for(market, Side::Buy, price, lots)?,
        };
        let (free, _) = self.balance(order.uid, self.pays_in(at, order.side));
        require(need <= free + open.held, Rejection::InsufficientBalance)?;
        Ok((price, need))
    }

    // Pending orders.

    /// The pending orders of a list, whose working order is filled, come to the book.
    fn place_pending(&mut self, at: usize, list_id: u64) {
        let Some(list) = self.markets[at].lists.get(&list_id).cloned() else { return };
        let pending: Vec<u64> = list.orders[1..].iter().map(|(order_id, _)| *order_id).collect();
        let config = self.markets[at].symbol.config.clone();
        if let Some(proceeds) = list.proceeds {
            self.markets[at].lists.get_mut(&list_id).expect("it is open").proceeds = None;
            self.unlock(list.uid, config.base, proceeds);
            for order_id in &pending {
                let open = self.markets[at].orders.get_mut(order_id).expect("it is pending");
                let market_max = if open.order.order_type.is_market() { config.market_max_quantity.0 } else { 0 };
                let limits = [config.max_quantity.0, market_max].into_iter().filter(|limit| *limit > 0);
                let lots = limits.fold(proceeds, u128::min) / config.step_size.0;
                let lots = u64::try_from(lots).unwrap_or(u64::MAX);
                open.order.quantity = Quantity(lots);
                let Place::Pending(place) = &mut open.place else { unreachable!("it is pending") };
                place.quantity = OrderQuantity::Base(Amount(u128::from(lots) * config.step_size.0));
            }
        }
        let terms = match self.check_pending(at, &pending) {
            Ok(terms) => terms,
            Err(rejection) => {
                for order_id in pending {
                    self.expire(at, order_id, ExpiryReason::Rejected(rejection));
                }
                return;
            }
        };
        let hold = terms.iter().map(|terms| terms.hold).max().expect("a list has pending orders");
        let side = self.markets[at].orders[&pending[0]].order.side;
        let asset = self.pays_in(at, side);
        self.lock(list.uid, asset, hold);
        if pending.len() == 2 {
            self.markets[at].lists.get_mut(&list_id).expect("it is open").pair_held = Some(hold);
        }
        for (order_id, terms) in pending.iter().zip(&terms) {
            let mut open = self.markets[at].orders.remove(order_id).expect("it is pending");
            open.held = if pending.len() == 2 { 0 } else { hold };
            open.hold_price = terms.hold_price;
            open.order.status = OrderStatus::New;
            open.order.price = terms.price;
            open.order.updated_at = self.now;
            if !open.order.order_type.is_stop() {
                open.order.special_mut().working_at = Some(self.now);
            }
            open.place = Place::Waiting { queued: false };
            self.events.push(Event::OrderTriggered(open.order.clone()));
            self.markets[at].orders.insert(*order_id, open);
        }
        for (order_id, terms) in pending.iter().zip(&terms) {
            let Some(open) = self.markets[at].orders.get(order_id) else { continue };
            if open.order.order_type.is_stop() {
                continue;
            }
            let open = self.markets[at].orders.remove(order_id).expect("it is there");
            if pending.len() == 2 {
                self.rest(at, open);
            } else {
                self.take(at, open, terms.size);
            }
        }
    }

    fn check_pending(&self, at: usize, pending: &[u64]) -> Result<Vec<Terms>, Rejection> {
        let market = &self.markets[at];
        let mut all = Vec::new();
        let mut places = Vec::new();
        for order_id in pending {
            let Place::Pending(place) = &market.orders[order_id].place else { unreachable!("it is pending") };
            self.check_trader(place.uid, place.symbol)?;
            let mut terms = self.check_terms(place, Occasion::Placed, 0)?;
            self.check_now(place, Occasion::Placed, &mut terms)?;
            all.push(terms);
            places.push(&**place);
        }
        let needed = all.iter().map(|terms| terms.hold).max().expect("a list has pending orders");
        let (free, _) = self.balance(places[0].uid, self.pays_in(at, places[0].side));
        require(needed <= free, Rejection::InsufficientBalance)?;
        Ok(all)
    }
}
