//! The order book of one symbol: price levels, the queue at each, and the indexes by order and by client's name.
//!
//! Orders stand in a slab; a level is a doubly linked list through it, so a cancel costs no walk. Levels are in a B-tree
//! by price. Nothing here knows money or events.

use std::collections::BTreeMap;

use crate::order::{ClientOrderId, Order, OrderStatus, Side};
use crate::units::{Amount, OrderId, Price, Quantity, Time, Uid};

/// Where an order stands in the slab, while it rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

const NONE: Slot = Slot(u32::MAX);

#[derive(Debug)]
struct Resting {
    order: Order,
    previous: Slot,
    next: Slot,
}

#[derive(Debug)]
struct Level {
    /// The sum of the open quantities in the queue.
    quantity: Quantity,
    first: Slot,
    last: Slot,
}

/// The open orders of one symbol.
#[derive(Debug, Default)]
pub struct Book {
    bids: BTreeMap<Price, Level>,
    asks: BTreeMap<Price, Level>,
    slab: Vec<Resting>,
    vacant: Vec<Slot>,
    by_order: BTreeMap<(Uid, OrderId), Slot>,
    by_client: BTreeMap<(Uid, ClientOrderId), Slot>,
}

impl Book {
    /// The best price of a side.
    pub fn best(&self, side: Side) -> Option<Price> {
        match side {
            Side::Buy => self.bids.last_key_value(),
            Side::Sell => self.asks.first_key_value(),
        }
        .map(|(&price, _)| price)
    }

    /// The order that trades first at the best price of a side.
    pub fn front(&self, side: Side) -> Option<Slot> {
        match side {
            Side::Buy => self.bids.last_key_value(),
            Side::Sell => self.asks.first_key_value(),
        }
        .map(|(_, level)| level.first)
    }

    /// A resting order.
    pub fn order(&self, slot: Slot) -> &Order {
        &self.slab[slot.0 as usize].order
    }

    /// How much rests at a price.
    pub fn level_quantity(&self, side: Side, price: Price) -> Quantity {
        self.levels(side).get(&price).map_or(Quantity::ZERO, |level| level.quantity)
    }

    /// Put an open order at the end of its price level. The caller has made sure that the level's sum fits.
    pub fn rest(&mut self, order: Order) {
        let slot = self.occupy(Resting { order, previous: NONE, next: NONE });
        let fresh = Level { quantity: Quantity::ZERO, first: NONE, last: NONE };
        let level = self.levels_mut(order.side).entry(order.price).or_insert(fresh);
        level.quantity = level.quantity.checked_add(order.open_quantity()).expect("level sum was checked");
        let previous = std::mem::replace(&mut level.last, slot);
        if previous == NONE {
            level.first = slot;
        } else {
            self.slab[previous.0 as usize].next = slot;
        }
        self.slab[slot.0 as usize].previous = previous;
        let by_order = self.by_order.insert((order.uid, order.order_id), slot);
        let by_client = self.by_client.insert((order.uid, order.client_order_id), slot);
        assert!(by_order.is_none() && by_client.is_none(), "an order rests once, and its name is unique");
    }

    /// Some of a resting order traded; it leaves the book when nothing is left. The order as it is now.
    pub fn fill(&mut self, slot: Slot, quantity: Quantity, quote: Amount, time: Time) -> Order {
        let order = &mut self.slab[slot.0 as usize].order;
        order.executed = order.executed.checked_add(quantity).expect("a fill is part of the order");
        order.cumulative_quote = order.cumulative_quote.plus(quote);
        order.updated_at = time;
        let filled = order.open_quantity().is_zero();
        order.status = if filled { OrderStatus::Filled } else { OrderStatus::PartiallyFilled };
        let order = *order;
        self.lower_level(&order, quantity);
        if filled {
            self.unlink(slot);
        }
        order
    }

    /// Take an order off the book; as it was.
    pub fn remove(&mut self, slot: Slot) -> Order {
        let order = *self.order(slot);
        self.lower_level(&order, order.open_quantity());
        self.unlink(slot);
        order
    }

    /// Lower a resting order's quantity in its place and rename it. The caller has made sure that something stays open
    /// and that the name is free. The order as it is now.
    pub fn amend(&mut self, slot: Slot, quantity: Quantity, name: ClientOrderId, time: Time) -> Order {
        let order = &mut self.slab[slot.0 as usize].order;
        let (lowered, previous_name) = (order.quantity.minus(quantity), order.client_order_id);
        order.quantity = quantity;
        order.client_order_id = name;
        order.updated_at = time;
        assert!(!order.open_quantity().is_zero(), "an amend leaves something open");
        let order = *order;
        self.lower_level(&order, lowered);
        self.by_client.remove(&(order.uid, previous_name));
        self.by_client.insert((order.uid, name), slot);
        order
    }

    /// The open order of a user by its number.
    pub fn by_order_id(&self, uid: Uid, order_id: OrderId) -> Option<Slot> {
        self.by_order.get(&(uid, order_id)).copied()
    }

    /// The open order of a user by its name.
    pub fn by_client_order_id(&self, uid: Uid, name: ClientOrderId) -> Option<Slot> {
        self.by_client.get(&(uid, name)).copied()
    }

    /// All open orders of a user, oldest first.
    pub fn orders_of(&self, uid: Uid) -> impl Iterator<Item = Slot> {
        let all = (uid, OrderId(0))..=(uid, OrderId(u64::MAX));
        self.by_order.range(all).map(|(_, &slot)| slot)
    }

    /// How much of `wanted` a taker with `limit` would find on a side.
    pub fn available(&self, side: Side, limit: Price, wanted: Quantity) -> Quantity {
        let within = self.depth(side).take_while(|&(price, _)| reaches(side, limit, price));
        let mut found = Quantity::ZERO;
        for (_, quantity) in within {
            found = Quantity(found.0 + wanted.minus(found).min(quantity).0);
            if found == wanted {
                break;
            }
        }
        found
    }

    /// The price levels of a side, best first, with the quantity at each.
    pub fn depth(&self, side: Side) -> impl Iterator<Item = (Price, Quantity)> {
        self.in_order(side).map(|(price, level)| (price, level.quantity))
    }

    /// The open orders of a side in the order in which they would trade.
    pub fn orders(&self, side: Side) -> impl Iterator<Item = &Order> {
        self.in_order(side).flat_map(|(_, level)| self.queue(level))
    }

    /// Check every link, sum and index against the orders themselves. For tests and after a restore.
    pub fn validate(&self) {
        let mut resting = 0;
        for side in [Side::Buy, Side::Sell] {
            for (price, level) in self.in_order(side) {
                let mut sum = 0;
                for order in self.queue(level) {
                    assert!(order.side == side && order.price == price && order.status.is_open());
                    assert!(!order.open_quantity().is_zero(), "a resting order has something open");
                    let by_order = self.by_order_id(order.uid, order.order_id).expect("indexed by number");
                    let by_client = self.by_client_order_id(order.uid, order.client_order_id);
                    assert!(self.order(by_order) == order && by_client == Some(by_order));
                    sum += order.open_quantity().0;
                    resting += 1;
                }
                assert!(sum > 0 && sum == level.quantity.0, "a level's quantity is the sum of its queue");
            }
        }
        assert_eq!((resting, resting), (self.by_order.len(), self.by_client.len()));
        assert_eq!(resting + self.vacant.len(), self.slab.len());
        let crossed = self.best(Side::Buy).zip(self.best(Side::Sell)).is_some_and(|(bid, ask)| bid >= ask);
        assert!(!crossed, "a book at rest is not crossed");
    }

    fn levels(&self, side: Side) -> &BTreeMap<Price, Level> {
        match side {
            Side::Buy => &self.bids,
            Side::Sell => &self.asks,
        }
    }

    fn levels_mut(&mut self, side: Side) -> &mut BTreeMap<Price, Level> {
        match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        }
    }

    fn in_order(&self, side: Side) -> impl Iterator<Item = (Price, &Level)> {
        // One of the two is empty: bids run from the highest price down, asks from the lowest up.
        let (down, up) = match side {
            Side::Buy => (Some(self.bids.iter().rev()), None),
            Side::Sell => (None, Some(self.asks.iter())),
        };
        down.into_iter().flatten().chain(up.into_iter().flatten()).map(|(&price, level)| (price, level))
    }

    fn queue(&self, level: &Level) -> impl Iterator<Item = &Order> {
        let resting = |slot: Slot| self.slab.get(slot.0 as usize);
        std::iter::successors(resting(level.first), move |at| resting(at.next)).map(|at| &at.order)
    }

    fn occupy(&mut self, resting: Resting) -> Slot {
        if let Some(slot) = self.vacant.pop() {
            self.slab[slot.0 as usize] = resting;
            return slot;
        }
        let slot = Slot(u32::try_from(self.slab.len()).expect("fewer than 2^32 orders rest"));
        assert_ne!(slot, NONE, "fewer than 2^32 orders rest");
        self.slab.push(resting);
        slot
    }

    fn lower_level(&mut self, order: &Order, by: Quantity) {
        let level = self.levels_mut(order.side).get_mut(&order.price).expect("an order has its level");
        level.quantity = level.quantity.minus(by);
    }

    fn unlink(&mut self, slot: Slot) {
        let Resting { order, previous, next } = self.slab[slot.0 as usize];
        let level = self.levels_mut(order.side).get_mut(&order.price).expect("an order has its level");
        if previous == NONE {
            level.first = next;
        }
        if next == NONE {
            level.last = previous;
        }
        if level.first == NONE {
            assert!(level.quantity.is_zero(), "an empty level has no quantity");
            self.levels_mut(order.side).remove(&order.price);
        }
        if previous != NONE {
            self.slab[previous.0 as usize].next = next;
        }
        if next != NONE {
            self.slab[next.0 as usize].previous = previous;
        }
        self.by_order.remove(&(order.uid, order.order_id));
        self.by_client.remove(&(order.uid, order.client_order_id));
        self.vacant.push(slot);
    }
}

/// Whether a taker with `limit` may trade at a resting `price` of `side`.
pub fn reaches(side: Side, limit: Price, price: Price) -> bool {
    match side {
        Side::Buy => price >= limit,
        Side::Sell => price <= limit,
    }
}
