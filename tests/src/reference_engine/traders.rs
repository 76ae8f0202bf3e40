//! What traders ask.

use engine::Rejection;
use engine::command::{
    AmendOrder, CancelOrder, CancelOrderList, CancelReplace, CancelRestriction, OrderListKind, OrderQuantity,
    OrderReference, PlaceOrder, PlaceOrderList, ReplaceOrder,
};
use engine::event::{Event, OrderListStatus};
use engine::order::{ClientOrderId, Order, OrderStatus, OrderType, Side, Special, TimeInForce};
use engine::symbol::SymbolStatus;
use engine::units::{Amount, OrderId, OrderListId, Quantity, SymbolId, Uid};

use super::ReferenceEngine;
use super::book::{List, Open, Place, Size, in_range};
use super::checks::{ListCounts, Occasion, Terms, check_lots, fits, is_within, require, special_of};

impl ReferenceEngine {
    pub(super) fn place_order(&mut self, place: &PlaceOrder) -> Result<(), Rejection> {
        require(place.quantity != OrderQuantity::Proceeds, Rejection::InvalidCombination)?;
        let terms = self.check_new(place)?;
        self.accept_and_work(place, terms);
        Ok(())
    }

    /// All checks of an order by itself.
    fn check_new(&self, place: &PlaceOrder) -> Result<Terms, Rejection> {
        self.check_trader(place.uid, place.symbol)?;
        require(!self.is_name_taken(place), Rejection::DuplicateOrder)?;
        let mut terms = self.check_terms(place, Occasion::Now, 1)?;
        self.check_numbers(place.uid, place.symbol, ListCounts::of([place].into_iter()))?;
        self.check_now(place, Occasion::Now, &mut terms)?;
        let (free, _) = self.balance(place.uid, self.pays_in(place.symbol.0 as usize, place.side));
        require(terms.hold <= free, Rejection::InsufficientBalance)?;
        Ok(terms)
    }

    fn accept_and_work(&mut self, place: &PlaceOrder, terms: Terms) {
        let at = place.symbol.0 as usize;
        let asset = self.pays_in(at, place.side);
        self.lock(place.uid, asset, terms.hold);
        let mut open = self.accept(at, place, &terms, None, OrderStatus::New);
        open.held = terms.hold;
        self.work(at, open, terms.size);
    }

    /// An accepted order waits for its price, or comes to the book.
    fn work(&mut self, at: usize, open: Open, size: Size) {
        if open.order.order_type.is_stop() {
            self.markets[at].orders.insert(open.order.order_id.0, open);
        } else {
            self.take(at, open, size);
        }
    }

    fn accept(
        &mut self,
        at: usize,
        place: &PlaceOrder,
        terms: &Terms,
        order_list_id: Option<OrderListId>,
        status: OrderStatus,
    ) -> Open {
        let asked = special_of(place);
        let special = Special {
            stop_price: terms.stop_price,
            trailing_delta: asked.trailing_delta,
            trailing: None,
            working_at: None,
            iceberg_quantity: terms.iceberg.map(Quantity),
            prevented: Quantity::ZERO,
            peg: asked.peg,
            strategy_id: asked.strategy_id,
            strategy_type: asked.strategy_type,
            order_list_id,
            amends: 0,
        };
        let timed =
            matches!(place.order_type, OrderType::Limit | OrderType::StopLossLimit | OrderType::TakeProfitLimit);
        let market = &mut self.markets[at];
        market.last_order_id += 1;
        let order = Order {
            order_id: OrderId(market.last_order_id),
            symbol: place.symbol,
            uid: place.uid,
            client_order_id: place.client_order_id,
            side: place.side,
            order_type: place.order_type,
            time_in_force: if timed { place.time_in_force } else { TimeInForce::Gtc },
            self_trade_prevention: terms.mode,
            price: terms.price,
            quantity: Quantity(terms.lots),
            quote_order_quantity: Amount(terms.quote_order_quantity),
            executed: Quantity::ZERO,
            cumulative_quote: Amount::ZERO,
            status,
            created_at: self.now,
            updated_at: self.now,
            special: (special != Special::default()).then(|| Box::new(special)),
        };
        self.events.push(Event::OrderAccepted(order.clone()));
        self.count_new_order(place.uid);
        let place = match status {
            OrderStatus::PendingNew => Place::Pending(Box::new(place.clone())),
            _ => Place::Waiting { queued: false },
        };
        Open { order, place, held: 0, hold_price: terms.hold_price }
    }

    // Lists.

    pub(super) fn place_list(&mut self, asked: &PlaceOrderList) -> Result<(), Rejection> {
        self.check_trader(asked.uid, asked.symbol)?;
        let at = asked.symbol.0 as usize;
        let market = &self.markets[at];
        let mut lists = market.lists.values().filter(|list| list.uid == asked.uid);
        require(lists.all(|list| list.name != asked.list_client_order_id), Rejection::DuplicateOrderList)?;
        for (index, place) in asked.orders.iter().enumerate() {
            let name = place.client_order_id;
            let open = |open: &Open| open.order.uid == asked.uid && open.order.client_order_id == name;
            let within = asked.orders[..index].iter().any(|other| other.client_order_id == name);
            require(!within && !market.orders.values().any(open), Rejection::DuplicateOrder)?;
        }
        require(is_list(asked), Rejection::InvalidOrderList)?;

        let counts = ListCounts::of(asked.orders.iter());
        let is_pair = asked.kind == OrderListKind::OneCancelsOther;
        let mut all = Vec::new();
        for (index, place) in asked.orders.iter().enumerate() {
            let waits = !is_pair && index > 0;
            let occasion = if waits { Occasion::Pending } else { Occasion::Now };
            all.push(self.check_terms(place, occasion, counts.orders)?);
        }
        self.check_numbers(asked.uid, asked.symbol, counts)?;
        let own = |lists: usize, limit: u32| limit == 0 || lists < limit as usize;
        let lists_in = |market: &super::Market| market.lists.values().filter(|list| list.uid == asked.uid).count();
        let limit = market.symbol.config.max_num_order_lists;
        require(own(lists_in(market), limit), Rejection::MaxNumOrderLists)?;
        let everywhere = self.markets.iter().map(lists_in).sum();
        require(own(everywhere, self.limits.max_num_order_lists), Rejection::ExchangeMaxNumOrderLists)?;
        let pair = match asked.kind {
            OrderListKind::OneCancelsOther => Some((&asked.orders[0], &asked.orders[1])),
            OrderListKind::OneTriggersOther => None,
            OrderListKind::OneTriggersOneCancelsOther => Some((&asked.orders[1], &asked.orders[2])),
        };
        if let Some((above, below)) = pair {
            require(self.is_pair_in_order(above, below, is_pair), Rejection::OcoPrices)?;
        }
        let at_once = if is_pair { 2 } else { 1 };
        for (place, terms) in asked.orders.iter().zip(&mut all).take(at_once) {
            self.check_now(place, Occasion::Now, terms)?;
        }
        let needed = all.iter().take(at_once).map(|terms| terms.hold).max().expect("a list has orders");
        let side = asked.orders[0].side;
        let (free, _) = self.balance(asked.uid, self.pays_in(at, side));
        require(needed <= free, Rejection::InsufficientBalance)?;

        self.accept_list(at, asked, all, needed);
        Ok(())
    }

    fn accept_list(&mut self, at: usize, asked: &PlaceOrderList, all: Vec<Terms>, needed: u128) {
        let is_pair = asked.kind == OrderListKind::OneCancelsOther;
        let market = &mut self.markets[at];
        market.last_list_id += 1;
        let sells_proceeds = asked.orders.iter().any(|place| place.quantity == OrderQuantity::Proceeds);
        let list = List {
            list_id: market.last_list_id,
            uid: asked.uid,
            name: asked.list_client_order_id,
            kind: asked.kind,
            orders: (market.last_order_id + 1..).zip(asked.orders.iter().map(|place| place.client_order_id)).collect(),
            created_at: self.now,
            pair_held: is_pair.then_some(needed),
            proceeds: sells_proceeds.then_some(0),
        };
        market.lists.insert(list.list_id, list.clone());
        self.say_list(at, &list, OrderListStatus::ExecutionStarted);
        let asset = self.pays_in(at, asked.orders[0].side);
        self.lock(asked.uid, asset, needed);
        let list_id = Some(OrderListId(list.list_id));
        for (index, (place, terms)) in asked.orders.iter().zip(&all).enumerate() {
            let waits = !is_pair && index > 0;
            let status = if waits { OrderStatus::PendingNew } else { OrderStatus::New };
            let mut open = self.accept(at, place, terms, list_id, status);
            if !is_pair && !waits {
                open.held = needed;
            }
            self.markets[at].orders.insert(open.order.order_id.0, open);
        }
        for ((order_id, _), terms) in list.orders.iter().zip(&all) {
            let open = &self.markets[at].orders[order_id];
            if open.order.status == OrderStatus::PendingNew || open.order.order_type.is_stop() {
                continue;
            }
            let open = self.markets[at].orders.remove(order_id).expect("it was accepted");
            if is_pair {
                self.rest(at, open);
            } else {
                self.take(at, open, terms.size);
                break;
            }
        }
    }

    /// Whether the prices of a pair stand the right way round, and the last price between them.
    pub(super) fn is_pair_in_order(&self, above: &PlaceOrder, below: &PlaceOrder, with_last: bool) -> bool {
        let market = &self.markets[above.symbol.0 as usize];
        let known = |place: &PlaceOrder| {
            let price = match special_of(place).stop_price {
                Some(stop) => Some(stop),
                None if place.order_type == OrderType::LimitMaker => match special_of(place).peg {
                    // A pending order takes its price when it is placed.
                    Some(_) if !with_last => None,
                    Some(peg) => market.peg_price(place.side, peg).map(|price| market.symbol.scale.price_amount(price)),
                    None => Some(place.price),
                },
                None => None,
            };
            price.map(|price| price.0)
        };
        let (above, below) = (known(above), known(below));
        let last = market.last_price.filter(|_| with_last).map(|last| market.symbol.scale.price_amount(last).0);
        let over = |high: Option<u128>, low: Option<u128>| high.zip(low).is_none_or(|(high, low)| high > low);
        over(above, below) && over(above, last) && over(last, below)
    }

    // Cancels.

    pub(super) fn cancel_order(&mut self, cancel: &CancelOrder) -> Result<(), Rejection> {
        let order_id = self.check_cancel(cancel)?;
        self.cancel(cancel.symbol.0 as usize, order_id, cancel.cancel_client_order_id);
        Ok(())
    }

    fn check_cancel(&self, cancel: &CancelOrder) -> Result<u64, Rejection> {
        let order_id = self.find(cancel.uid, cancel.symbol, &cancel.order)?;
        let status = self.markets[cancel.symbol.0 as usize].orders[&order_id].order.status;
        let allowed = match cancel.restriction {
            None => true,
            Some(CancelRestriction::OnlyNew) => status == OrderStatus::New,
            Some(CancelRestriction::OnlyPartiallyFilled) => status == OrderStatus::PartiallyFilled,
        };
        require(allowed, Rejection::CancelRestricted)?;
        Ok(order_id)
    }

    pub(super) fn cancel_list(&mut self, cancel: &CancelOrderList) -> Result<(), Rejection> {
        let market = self.market(cancel.symbol)?;
        let mut own = market.lists.values().filter(|list| list.uid == cancel.uid);
        let list = match (cancel.order_list_id, cancel.list_client_order_id) {
            (None, None) => None,
            (id, name) => {
                own.find(|list| id.is_none_or(|id| id.0 == list.list_id) && name.is_none_or(|name| name == list.name))
            }
        };
        let orders = list.ok_or(Rejection::UnknownOrderList)?.orders.clone();
        let at = cancel.symbol.0 as usize;
        for (order_id, own_name) in orders {
            if self.markets[at].orders.contains_key(&order_id) {
                self.cancel_one(at, order_id, cancel.cancel_client_order_id.unwrap_or(own_name));
            }
        }
        Ok(())
    }

    pub(super) fn cancel_all(&mut self, uid: Uid, symbol: SymbolId) -> Result<(), Rejection> {
        let market = self.market(symbol)?;
        require(market.orders.values().any(|open| open.order.uid == uid), Rejection::UnknownOrder)?;
        self.cancel_open(symbol.0 as usize, uid);
        Ok(())
    }

    /// Cancel all that a user has in a symbol, the oldest first; lists go whole.
    pub(super) fn cancel_open(&mut self, at: usize, uid: Uid) {
        loop {
            let oldest = self.markets[at].orders.values().find(|open| open.order.uid == uid);
            let Some(order) = oldest.map(|open| &open.order) else { break };
            self.cancel(at, order.order_id.0, order.client_order_id);
        }
    }

    pub(super) fn cancel_replace(&mut self, asked: &CancelReplace) -> Result<(), Rejection> {
        let (cancel, place) = (&asked.cancel, &asked.place);
        self.market(place.symbol)?;
        require((cancel.uid, cancel.symbol) == (place.uid, place.symbol), Rejection::InvalidCombination)?;
        self.check_trader(place.uid, place.symbol)?;
        self.check_terms(place, Occasion::BeforeCancel { limited_is_fine: asked.cancel_when_limited }, 1)?;

        let is_limited = self.is_too_many(place.uid, 1);
        let canceled = self.cancel_order(cancel);
        let placed = match canceled {
            Err(_) if !asked.allow_failure => None,
            _ if is_limited => Some(Err(Rejection::TooManyOrders)),
            _ => Some(self.check_new(place)),
        };
        let decided = Event::CancelReplaceDecided {
            cancel: canceled.err(),
            place: placed.as_ref().map(|terms| terms.as_ref().map(|_| ()).map_err(|rejection| *rejection)),
        };
        self.events.insert(0, decided);
        match placed {
            None => self.count_new_order(place.uid),
            Some(Ok(terms)) => self.accept_and_work(place, terms),
            Some(Err(_)) => {}
        }
        Ok(())
    }

    // Changes of an order.

    pub(super) fn amend(&mut self, amend: &AmendOrder) -> Result<(), Rejection> {
        let market = self.market(amend.symbol)?;
        require(market.symbol.status == SymbolStatus::Trading, Rejection::MarketClosed)?;
        let order_id = self.find(amend.uid, amend.symbol, &amend.order)?;
        let open = market.orders[&order_id].clone();
        let named = |other: &Open| {
            let order = &other.order;
            order.uid == amend.uid && order.client_order_id == amend.new_client_order_id && order.order_id.0 != order_id
        };
        require(!market.orders.values().any(named), Rejection::DuplicateOrder)?;
        let list = open.order.order_list_id().map(|list| market.lists[&list.0].clone());
        // The legs of a pair must stay equal.
        let other = list.as_ref().and_then(|list| list.other_leg(order_id));
        let is_leg = other.is_some_and(|other| market.is_open(other));
        let sells_proceeds = matches!(&open.place, Place::Pending(place) if place.quantity == OrderQuantity::Proceeds);
        require(!is_leg && !sells_proceeds, Rejection::NoChange)?;
        require(amend.new_quantity.0 > 0, Rejection::ZeroQuantity)?;
        let lots = check_lots(market, amend.new_quantity)?;
        let gone = open.order.executed.0 + open.order.prevented().0;
        require(gone < lots && lots < open.order.quantity.0, Rejection::AmendQuantity)?;
        let config = &market.symbol.config;
        let amends = open.order.special.as_ref().map_or(0, |special| special.amends);
        let limit = config.max_num_order_amends;
        require(limit == 0 || amends < limit, Rejection::MaxNumOrderAmends)?;
        if open.order.price.0 > 0 {
            let worth = market.quote(u128::from(open.order.price.0) * u128::from(lots));
            require(is_within(worth, config.min_notional.0, config.max_notional.0), Rejection::Notional)?;
        }

        let previous = open.order.client_order_id;
        let at = amend.symbol.0 as usize;
        self.markets[at].orders.get_mut(&order_id).expect("it is open").order.special_mut().amends += 1;
        self.lower(at, order_id, lots, amend.new_client_order_id);
        let list = list.and_then(|list| self.markets[at].lists.get_mut(&list.list_id));
        if let Some(list) = list.filter(|_| previous != amend.new_client_order_id) {
            for (id, name) in &mut list.orders {
                if *id == order_id {
                    *name = amend.new_client_order_id;
                }
            }
            let list = list.clone();
            self.say_list(at, &list, OrderListStatus::Updated);
        }
        Ok(())
    }

    pub(super) fn reduce(
        &mut self,
        uid: Uid,
        symbol: SymbolId,
        reference: &OrderReference,
        by: Amount,
    ) -> Result<(), Rejection> {
        let market = self.market(symbol)?;
        require(market.symbol.status == SymbolStatus::Trading, Rejection::MarketClosed)?;
        let order_id = self.find(uid, symbol, reference)?;
        let open = &market.orders[&order_id];
        require(open.in_book(), Rejection::UnknownOrder)?;
        require(open.order.order_list_id().is_none(), Rejection::NoChange)?;
        require(by.0 > 0, Rejection::ZeroQuantity)?;
        let lots = market.symbol.scale.lots(by).ok_or(Rejection::LotSize)?.0;
        let (name, quantity) = (open.order.client_order_id, open.order.quantity.0);
        let at = symbol.0 as usize;
        if lots >= open.open_lots() {
            self.cancel(at, order_id, name);
        } else {
            self.lower(at, order_id, quantity - lots, name);
        }
        Ok(())
    }

    /// An order has another quantity, lower than before, and perhaps another name; it keeps its place.
    fn lower(&mut self, at: usize, order_id: u64, lots: u64, name: ClientOrderId) {
        let mut open = self.markets[at].orders.remove(&order_id).expect("it is open");
        let previous_client_order_id = open.order.client_order_id;
        let previous_quantity = open.order.quantity;
        let before = self.need(at, &open);
        open.order.quantity = Quantity(lots);
        open.order.client_order_id = name;
        open.order.updated_at = self.now;
        let less = before - self.need(at, &open);
        open.held -= less;
        let asset = self.pays_in(at, open.order.side);
        self.unlock(open.order.uid, asset, less);
        let left = open.open_lots();
        match &mut open.place {
            Place::Book { shown, .. } => *shown = (*shown).min(left),
            Place::Pending(place) => {
                place.quantity = OrderQuantity::Base(Amount(self.markets[at].base(lots)));
                place.client_order_id = name;
            }
            _ => {}
        }
        let order = open.order.clone();
        let in_book = open.in_book();
        self.markets[at].orders.insert(order_id, open);
        self.events.push(Event::OrderAmended { order: order.clone(), previous_client_order_id, previous_quantity });
        if in_book {
            self.report_level(at, order.side, order.price);
        }
    }

    pub(super) fn replace(&mut self, asked: &ReplaceOrder) -> Result<(), Rejection> {
        let at = asked.symbol.0 as usize;
        let order_id = self.find(asked.uid, asked.symbol, &asked.order)?;
        self.check_trader(asked.uid, asked.symbol)?;
        let market = self.market(asked.symbol)?;
        let open = market.orders[&order_id].clone();
        let order = &open.order;
        let plain = open.in_book() && order.order_list_id().is_none() && open.iceberg().is_none();
        require(plain, Rejection::NoChange)?;
        let config = &market.symbol.config;
        let mut price = order.price;
        if let Some(asked) = asked.price {
            price = self.price_of(at, asked)?;
            let reference = market.reference_price(self.now);
            require(in_range(config.percent_price, order.side, price, reference), Rejection::PercentPrice)?;
        }
        let mut lots = open.open_lots();
        if let Some(asked) = asked.quantity {
            require(asked.0 > 0, Rejection::ZeroQuantity)?;
            lots = check_lots(market, asked)?;
        }
        fits(u128::from(price.0) * u128::from(lots))?;
        let worth = market.quote(u128::from(price.0) * u128::from(lots));
        require(is_within(worth, config.min_notional.0, config.max_notional.0), Rejection::Notional)?;
        self.hold_for(market, order.side, price, lots)?;
        if let Some(best) = market.best(Side::Buy).filter(|_| order.side == Side::Sell) {
            fits(u128::from(best.0) * u128::from(lots))?;
        }
        let gone = order.executed.0 + order.prevented().0;
        fits(u128::from(gone) + u128::from(lots))?;
        fits(market.open_at(order.side, price) + u128::from(lots))?;
        // What it traded already and what it may still trade are worth no more than fits, either.
        let best = market.best(Side::Buy).filter(|_| order.side == Side::Sell);
        let most = u128::from(best.map_or(price, |best| best.max(price)).0) * u128::from(lots);
        fits(market.notional_of(order.cumulative_quote) + most)?;
        let posts = order.order_type == OrderType::LimitMaker;
        require(!(posts && market.crosses(order.side, price)), Rejection::WouldMatchImmediately)?;
        let mut changed = open.clone();
        changed.order.price = price;
        changed.order.quantity = Quantity(gone + lots);
        let need = self.need(at, &changed);
        let asset = self.pays_in(at, order.side);
        let (free, _) = self.balance(order.uid, asset);
        require(need <= free + open.held, Rejection::InsufficientBalance)?;

        self.unlock(order.uid, asset, open.held);
        self.lock(order.uid, asset, need);
        changed.held = need;
        self.markets[at].orders.remove(&order_id);
        self.events.push(Event::OrderReplaced {
            symbol: asked.symbol,
            order_id: order.order_id,
            uid: order.uid,
            price,
            quantity: changed.order.quantity,
        });
        self.report_level(at, order.side, order.price);
        self.take(at, changed, Size::Lots(lots));
        Ok(())
    }

    /// The open order of this user that is meant.
    fn find(&self, uid: Uid, symbol: SymbolId, reference: &OrderReference) -> Result<u64, Rejection> {
        let market = self.market(symbol)?;
        let mut own = market.orders.values().map(|open| &open.order).filter(|order| order.uid == uid);
        let Some(order_id) = reference.order_id else {
            let name = reference.client_order_id.ok_or(Rejection::UnknownOrder)?;
            let order = own.find(|order| order.client_order_id == name).ok_or(Rejection::UnknownOrder)?;
            return Ok(order.order_id.0);
        };
        let order = own.find(|order| order.order_id == order_id).ok_or(Rejection::UnknownOrder)?;
        let agrees = reference.client_order_id.is_none_or(|name| name == order.client_order_id);
        require(agrees, Rejection::ClientOrderIdMismatch)?;
        Ok(order_id.0)
    }
}

/// Whether the orders of a list fit together.
fn is_list(asked: &PlaceOrderList) -> bool {
    let same = |place: &PlaceOrder| (place.uid, place.symbol) == (asked.uid, asked.symbol);
    let pends = |working: &PlaceOrder, pending: &[PlaceOrder]| {
        let sells = |place: &PlaceOrder| place.quantity == OrderQuantity::Proceeds;
        let proceeds = pending.iter().any(sells);
        let right = !proceeds
            || (working.side == Side::Buy && pending.iter().all(|place| place.side == Side::Sell && sells(place)));
        let kinds = matches!(working.order_type, OrderType::Limit | OrderType::LimitMaker);
        let by_quote = |place: &PlaceOrder| matches!(place.quantity, OrderQuantity::Quote(_));
        right && kinds && !pending.iter().any(by_quote)
    };
    let orders = &asked.orders[..];
    orders.iter().all(same)
        && match (asked.kind, orders) {
            (OrderListKind::OneCancelsOther, [above, below]) => is_pair(above, below),
            (OrderListKind::OneTriggersOther, [working, pending]) => pends(working, std::slice::from_ref(pending)),
            (OrderListKind::OneTriggersOneCancelsOther, [working, above, below]) => {
                pends(working, &orders[1..]) && is_pair(above, below)
            }
            _ => false,
        }
}

fn is_pair(above: &PlaceOrder, below: &PlaceOrder) -> bool {
    use OrderType::{LimitMaker, StopLoss, StopLossLimit, TakeProfit, TakeProfitLimit};
    let gains = |place: &PlaceOrder| matches!(place.order_type, LimitMaker | TakeProfit | TakeProfitLimit);
    let stops = |place: &PlaceOrder| matches!(place.order_type, StopLoss | StopLossLimit);
    let kinds = match above.side {
        Side::Sell => gains(above) && stops(below),
        Side::Buy => stops(above) && gains(below),
    };
    kinds && above.side == below.side && above.quantity == below.quantity
}
