//! The open orders of one symbol, as the events tell of them: an event says only what changed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use engine::event::{Event, ExpiryReason, Fill};
use engine::filter::rises;
use engine::order::OrderStatus;
use engine::units::PreventedMatchId;
use engine::{Order, OrderId, Price, Quantity, SymbolId, Time};
use serde::{Deserialize, Serialize};
use slab::Slab;

/// An order and what its life left beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownOrder {
    /// The order as it is or as it ended.
    pub order: Order,
    /// The last match that self-trade prevention did not let it have.
    pub prevented_match: Option<PreventedMatchId>,
    /// Why it ended, where a rule ended it.
    pub expiry: Option<ExpiryReason>,
}

impl From<Order> for KnownOrder {
    fn from(order: Order) -> KnownOrder {
        KnownOrder { order, prevented_match: None, expiry: None }
    }
}

impl KnownOrder {
    /// A trade did this to it.
    pub fn fill(&mut self, fill: &Fill, time: Time) {
        let order = &mut self.order;
        order.executed = fill.executed;
        order.cumulative_quote = fill.cumulative_quote;
        order.status = fill.status;
        order.updated_at = time;
        self.set_asked_by_quote();
    }

    /// A match that was prevented took so much off it.
    pub fn prevent(&mut self, id: PreventedMatchId, quantity: Quantity, time: Time) {
        self.prevented_match = Some(id);
        let terms = self.order.special_mut();
        terms.prevented = Quantity(terms.prevented.0 + quantity.0);
        self.order.updated_at = time;
        self.set_asked_by_quote();
    }

    /// The quantity of an order by quote amount is what became of it.
    fn set_asked_by_quote(&mut self) {
        if !self.order.quote_order_quantity.is_zero() {
            self.order.quantity = Quantity(self.order.executed.0 + self.order.prevented().0);
        }
    }
}

/// The symbol of an event that tells of orders or of the book.
pub fn symbol_of(event: &Event) -> Option<SymbolId> {
    match event {
        Event::OrderAccepted(order)
        | Event::OrderTriggered(order)
        | Event::OrderCanceled { order, .. }
        | Event::OrderExpired { order, .. }
        | Event::OrderAmended { order, .. } => Some(order.symbol),
        Event::Trade(trade) => Some(trade.symbol),
        Event::TradePrevented(prevented) => Some(prevented.symbol),
        Event::OrderReplaced { symbol, .. } | Event::LevelChanged { symbol, .. } => Some(*symbol),
        Event::OrderListChanged(list) => Some(list.symbol),
        _ => None,
    }
}

/// Hashes numbers that the engine gives out one after the other, so nobody chooses them to collide.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // The lower bits choose the place, and the product's upper ones are the ones that are mixed.
        self.0.rotate_left(26)
    }
}

/// The open orders of one symbol.
#[derive(Debug, Default)]
pub struct OpenOrders {
    /// Apart from where they are found: an order is hundreds of bytes, of which a hash table leaves up to half unused and moves
    /// all when it grows. The place that became free last is taken first, so it is still near.
    orders: Slab<KnownOrder>,
    places: HashMap<OrderId, u32, BuildHasherDefault<NumberHasher>>,
    /// Those with a trailing delta that do not track the price yet.
    untracked: Vec<OrderId>,
}

impl OpenOrders {
    /// From the state at a start.
    pub fn restore(orders: impl IntoIterator<Item = KnownOrder>) -> OpenOrders {
        let mut open = OpenOrders::default();
        orders.into_iter().for_each(|known| open.put(known));
        open
    }

    /// An order that is open.
    pub fn get(&self, order_id: OrderId) -> Option<&KnownOrder> {
        self.places.get(&order_id).map(|&place| &self.orders[place as usize])
    }

    /// What the state at a start does not say of an open order.
    pub fn recall(&mut self, filed: &KnownOrder) {
        if let Some(known) = self.get_mut(filed.order.order_id) {
            known.prevented_match = filed.prevented_match;
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.orders.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &KnownOrder> {
        self.orders.iter().map(|(_, known)| known)
    }

    /// Follows an event of this symbol. `changed` is told the orders that it changed, as they are now: of a match the taker's
    /// and then the maker's, before any other.
    pub fn follow(&mut self, event: &Event, time: Time, mut changed: impl FnMut(&KnownOrder)) {
        match event {
            Event::OrderAccepted(order) => {
                let known = order.clone().into();
                changed(&known);
                self.put(known);
            }
            Event::OrderTriggered(order) | Event::OrderAmended { order, .. } => {
                let prevented_match = self.get(order.order_id).and_then(|known| known.prevented_match);
                let known = KnownOrder { prevented_match, ..order.clone().into() };
                changed(&known);
                self.put(known);
            }
            Event::Trade(trade) => {
                for fill in [&trade.taker, &trade.maker] {
                    self.change(fill.order_id, &mut changed, |known| known.fill(fill, time));
                }
                self.track(trade.price, time, changed);
            }
            Event::TradePrevented(prevented) => {
                let sides = [
                    (prevented.taker_order_id, prevented.taker_prevented),
                    (prevented.maker_order_id, prevented.maker_prevented),
                ];
                for (order_id, quantity) in sides {
                    let id = prevented.prevented_match_id;
                    self.change(order_id, &mut changed, |known| known.prevent(id, quantity, time));
                }
            }
            Event::OrderReplaced { order_id, price, quantity, .. } => {
                self.change(*order_id, changed, |known| {
                    (known.order.price, known.order.quantity, known.order.updated_at) = (*price, *quantity, time);
                });
            }
            Event::OrderCanceled { order, .. } => changed(&self.close(order, None)),
            Event::OrderExpired { order, reason } => changed(&self.close(order, Some(*reason))),
            _ => {}
        }
    }

    fn put(&mut self, known: KnownOrder) {
        let order = &known.order;
        let trails =
            order.special.as_ref().is_some_and(|terms| terms.trailing_delta.is_some() && terms.trailing.is_none());
        if trails && order.status == OrderStatus::New && order.working_at().is_none() {
            self.untracked.push(order.order_id);
        }
        match self.places.entry(order.order_id) {
            Entry::Occupied(place) => self.orders[*place.get() as usize] = known,
            Entry::Vacant(vacant) => {
                let place = u32::try_from(self.orders.insert(known)).expect("fewer than 2^32 orders are open");
                vacant.insert(place);
            }
        }
    }

    fn get_mut(&mut self, order_id: OrderId) -> Option<&mut KnownOrder> {
        self.places.get(&order_id).map(|&place| &mut self.orders[place as usize])
    }

    fn remove(&mut self, order_id: OrderId) -> Option<KnownOrder> {
        self.places.remove(&order_id).map(|place| self.orders.remove(place as usize))
    }

    fn change(
        &mut self,
        order_id: OrderId,
        mut changed: impl FnMut(&KnownOrder),
        change: impl FnOnce(&mut KnownOrder),
    ) {
        let known = self.get_mut(order_id).expect("an order that changes is open");
        change(known);
        changed(known);
        if !known.order.status.is_open() {
            self.remove(order_id);
        }
    }

    fn close(&mut self, order: &Order, expiry: Option<ExpiryReason>) -> KnownOrder {
        let before = self.remove(order.order_id);
        let prevented_match = before.and_then(|known| known.prevented_match);
        KnownOrder { order: order.clone(), prevented_match, expiry }
    }

    /// The trailing orders that start to track at a trade of that price. How far the price has gone since, nobody outside
    /// the engine is told, so it is not followed here.
    fn track(&mut self, price: Price, time: Time, mut changed: impl FnMut(&KnownOrder)) {
        if self.untracked.is_empty() {
            return;
        }
        let (orders, places) = (&mut self.orders, &self.places);
        self.untracked.retain(|order_id| {
            let Some(&place) = places.get(order_id) else { return false };
            let known = &mut orders[place as usize];
            let rising = rises(known.order.order_type, known.order.side);
            let terms = known.order.special_mut();
            let starts = terms.stop_price.is_none_or(|stop| if rising { price >= stop } else { price <= stop });
            if starts {
                terms.trailing = Some((price, time));
                changed(known);
            }
            !starts
        });
    }
}
