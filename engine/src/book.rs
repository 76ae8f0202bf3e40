//! The open orders of one symbol: price levels in price order, the queue at each, and the indexes by number and by name.
//!
//! Made for the machine. An open order is a slot: all that matching, cancelling and reporting touch is two neighbouring cache
//! lines ([`OpenOrder`]). What few orders have (a partial fill, a stop price, a list) stands apart in a `Note`, and so does the
//! end of a long name. Queues, a trader's orders and the vacant slots are linked through the slots, so an order
//! goes in and out without a search and without an allocation. A level is found by price in a [`RadixMap`], the best one is
//! kept at hand; an order knows its level, so only the first and last order of a price pay for the map.
//!
//! Four ladders share all this: bids, asks, and the stops that wait for a higher or a lower price. Nothing here knows money
//! or events.

mod reading;
mod restore;

use crate::hash_index::HashIndex;
use crate::hashing::hash_of_name;
use crate::numbers::Numbers;
use crate::order::{ClientOrderId, Order, OrderStatus, OrderType, SelfTradePrevention, Side, Special, TimeInForce};
use crate::paged::{Paged, Sparse};
use crate::prefetch::prefetch;
use crate::radix::{NONE, RadixMap};
use crate::trader::{TraderIndex, Traders};
use crate::units::{Amount, Notional, OrderId, Price, Quantity, Scale, SymbolId, Time, Uid};

pub use restore::PlainOrder;

/// Where an open order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

impl Slot {
    /// Its place among all slots.
    pub fn place(self) -> usize {
        self.0 as usize
    }
}

/// Orders by price, the first of them at the best price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ladder {
    /// Resting buy orders, the highest price first.
    Bids,
    /// Resting sell orders, the lowest price first.
    Asks,
    /// Stops that wait for a higher price, the lowest first.
    Rising,
    /// Stops that wait for a lower price, the highest first.
    Falling,
}

impl Ladder {
    /// The ladder on which orders of a side rest.
    pub fn of(side: Side) -> Ladder {
        match side {
            Side::Buy => Ladder::Bids,
            Side::Sell => Ladder::Asks,
        }
    }

    /// Whether a price comes before another on it.
    pub fn is_better(self, price: Price, than: Price) -> bool {
        if self.highest_first() { price > than } else { price < than }
    }

    fn highest_first(self) -> bool {
        matches!(self, Ladder::Bids | Ladder::Falling)
    }
}

/// The orders at one price of a ladder.
#[derive(Clone, Debug)]
pub struct Level {
    /// The price.
    pub price: Price,
    /// The sum of the open quantities that are shown.
    pub shown: Quantity,
    /// The sum of those that icebergs hide.
    pub hidden: Quantity,
    first: u32,
    last: u32,
    /// How many orders.
    pub orders: u32,
    /// Which ladder it is on.
    pub ladder: Ladder,
}

/// An open order, but for what few orders have. 80 bytes, of which the links come first: where a neighbour goes, they alone are
/// touched, and they never straddle two cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
struct OpenOrder {
    previous: u32,
    /// The next in the queue; of a vacant slot the next vacant one.
    next: u32,
    trader_previous: u32,
    trader_next: u32,
    /// All that can still trade, hidden too. Without a note it is also all that was asked.
    open: Quantity,
    /// The level in whose queue it stands; none for a pending order, and a stop that is tracking or being triggered.
    level: u32,
    trader: TraderIndex,
    note: u32,
    /// Of trader and name together.
    name_hash: u32,
    order_id: OrderId,
    created_at: Time,
    /// All of a name of up to 25 characters.
    name_head: [u32; NAME_HEAD],
    side: Side,
    order_type: OrderType,
    time_in_force: TimeInForce,
    self_trade_prevention: SelfTradePrevention,
}

/// So many words of a name stand with the order; the others ([`NAME_TAIL`]) are zero but for long names.
const NAME_HEAD: usize = 5;
const NAME_TAIL: usize = 7 - NAME_HEAD;

/// What of a name stands with its order, and what apart.
#[inline]
fn parts(name: ClientOrderId) -> ([u32; NAME_HEAD], [u32; NAME_TAIL]) {
    let [a, b, c, d, e, tail @ ..] = name.words();
    ([a, b, c, d, e], tail)
}

/// A plain limit order that is new.
pub struct NewOrder {
    /// Its number.
    pub order_id: OrderId,
    /// Whose it is.
    pub trader: TraderIndex,
    /// Its name.
    pub name: ClientOrderId,
    /// Of trader and name together ([`Book::free_name`]).
    pub name_hash: u32,
    /// Its side.
    pub side: Side,
    /// Its kind.
    pub order_type: OrderType,
    /// What happens to what does not trade at once.
    pub time_in_force: TimeInForce,
    /// What it does against its owner's orders.
    pub self_trade_prevention: SelfTradePrevention,
    /// All of it.
    pub open: Quantity,
    /// When it was accepted.
    pub created_at: Time,
}

/// What few open orders have.
#[derive(Clone, Debug)]
pub struct Note {
    /// The whole quantity that is asked.
    pub quantity: Quantity,
    /// What its trades were worth.
    pub cumulative: Notional,
    /// When it last changed.
    pub updated_at: Time,
    /// The part of an iceberg that is shown; more than is open for any other order.
    pub shown: Quantity,
    /// What a stop holds that will be a market buy: nothing else says how much.
    pub held: Amount,
    /// The price of an order that stands in no book level: a stop-limit, a pending order.
    pub price: Price,
    /// Whether it waits for the working order of its list.
    pub pending: bool,
    /// What most orders do not ask.
    pub special: Option<Box<Special>>,
}

#[derive(Clone, Debug, Default)]
struct Rungs {
    by_price: RadixMap,
    best: Option<u32>,
}

/// The open orders of one symbol.
#[derive(Clone, Debug)]
pub struct Book {
    symbol: SymbolId,
    scale: Scale,
    open_orders: Paged<OpenOrder>,
    /// What of long names does not stand with the order.
    name_tails: Sparse<[u32; NAME_TAIL]>,
    vacant: u32,
    notes: Vec<Note>,
    vacant_notes: Vec<u32>,
    levels: Vec<Level>,
    vacant_levels: Vec<u32>,
    rungs: [Rungs; 4],
    /// All that can still trade, of every order that stands in the book.
    resting: u128,
    by_number: Numbers,
    by_name: HashIndex,
    /// Whose orders these are.
    pub traders: Traders,
}

/// What a fill made of a resting order.
#[derive(Clone, Copy, Debug)]
pub struct Filled {
    /// How much of it traded by now.
    pub executed: Quantity,
    /// What that was worth.
    pub cumulative: Notional,
    /// Whether it was its first fill.
    pub first: bool,
    /// Whether nothing is left.
    pub closed: bool,
}

impl Book {
    /// No orders.
    pub fn new(symbol: SymbolId, scale: Scale) -> Book {
        Book {
            symbol,
            scale,
            open_orders: Paged::default(),
            name_tails: Sparse::default(),
            vacant: NONE,
            notes: Vec::new(),
            vacant_notes: Vec::new(),
            levels: Vec::new(),
            vacant_levels: Vec::new(),
            rungs: Default::default(),
            resting: 0,
            by_number: Numbers::default(),
            by_name: HashIndex::default(),
            traders: Traders::default(),
        }
    }

    /// Open an order: it can be found, and belongs to its trader, but stands on no ladder yet.
    pub fn admit(&mut self, order: &Order, trader: TraderIndex) -> Slot {
        let (name_head, name_tail) = parts(order.client_order_id);
        let name_hash = hash_of_name(order.uid, order.client_order_id);
        let at = self.occupy(
            OpenOrder {
                order_id: order.order_id,
                open: order.open_quantity(),
                created_at: order.created_at,
                level: NONE,
                previous: NONE,
                next: NONE,
                trader,
                trader_previous: NONE,
                trader_next: NONE,
                note: NONE,
                name_hash,
                name_head,
                side: order.side,
                order_type: order.order_type,
                time_in_force: order.time_in_force,
                self_trade_prevention: order.self_trade_prevention,
            },
            name_tail,
        );
        let slot = Slot(at);
        if order.special.is_some() || !order.executed.is_zero() || order.updated_at != order.created_at {
            self.annotate(slot, order);
        }
        self.by_number.insert(order.order_id.0, at);
        self.by_name.insert(name_hash, at);
        self.join_trader(slot);
        slot
    }

    /// Open a plain order at the end of the queue at a price; how much is shown there now. The caller has made sure that the
    /// level's sum fits.
    #[inline]
    pub fn rest(&mut self, new: &NewOrder, price: Price) -> Quantity {
        let place = self.level_for(Ladder::of(new.side), price);
        let level = &mut self.levels[place as usize];
        level.orders += 1;
        level.shown = level.shown.checked_add(new.open).expect("level sum was checked");
        self.resting += u128::from(new.open.0);
        let (shown, previous) = (level.shown, level.last);

        let trader = self.traders.at_mut(new.trader);
        trader.open_by_side[new.side as usize] += 1;
        if new.side == Side::Buy {
            trader.buying += u128::from(new.open.0);
        }
        let trader_previous = trader.last_order;
        let (name_head, name_tail) = parts(new.name);
        let at = self.occupy(
            OpenOrder {
                order_id: new.order_id,
                open: new.open,
                created_at: new.created_at,
                level: place,
                previous,
                next: NONE,
                trader: new.trader,
                trader_previous,
                trader_next: NONE,
                note: NONE,
                name_hash: new.name_hash,
                name_head,
                side: new.side,
                order_type: new.order_type,
                time_in_force: new.time_in_force,
                self_trade_prevention: new.self_trade_prevention,
            },
            name_tail,
        );
        let level = &mut self.levels[place as usize];
        level.last = at;
        match previous {
            NONE => level.first = at,
            previous => self.open_orders[previous].next = at,
        }
        let trader = self.traders.at_mut(new.trader);
        trader.last_order = at;
        match trader_previous {
            NONE => trader.first_order = at,
            previous => self.open_orders[previous].trader_next = at,
        }
        self.by_number.insert(new.order_id.0, at);
        self.by_name.insert(new.name_hash, at);
        shown
    }

    /// Bring an open order to the state it is in after a walk: what is open of it, and what a note says.
    pub fn update(&mut self, slot: Slot, order: &Order) {
        let open = order.open_quantity();
        let link = &mut self.open_orders[slot.0];
        let bought = if link.side == Side::Buy { (link.open, open) } else { (Quantity::ZERO, Quantity::ZERO) };
        link.open = open;
        let trader = self.traders.at_mut(link.trader);
        trader.buying = trader.buying - u128::from(bought.0.0) + u128::from(bought.1.0);
        self.annotate(slot, order);
        self.note_mut(slot).pending = false;
    }

    /// An open order that stands on no ladder asks another quantity.
    pub fn reprice(&mut self, slot: Slot, open: Quantity, quantity: Quantity) {
        let link = &mut self.open_orders[slot.0];
        if link.open != open {
            if link.side == Side::Buy {
                let trader = self.traders.at_mut(link.trader);
                trader.buying = trader.buying - u128::from(link.open.0) + u128::from(open.0);
            }
            link.open = open;
            if let Some(note) = self.notes.get_mut(link.note as usize) {
                note.quantity = quantity;
            }
        }
    }

    /// Put an open order at the end of the queue at a price; how much is shown there now. The caller has made sure that the
    /// level's sum fits.
    pub fn queue_at(&mut self, slot: Slot, ladder: Ladder, price: Price) -> Quantity {
        let level = self.level_for(ladder, price);
        let shown = self.shown(slot);
        let link = &mut self.open_orders[slot.0];
        debug_assert!(link.level == NONE);
        link.level = level;
        link.next = NONE;
        let open = link.open;
        let level = &mut self.levels[level as usize];
        level.orders += 1;
        if matches!(ladder, Ladder::Bids | Ladder::Asks) {
            level.shown = level.shown.checked_add(shown).expect("level sum was checked");
            level.hidden = level.hidden.checked_add(open.minus(shown)).expect("level sum was checked");
            self.resting += u128::from(open.0);
        }
        let shown = level.shown;
        let previous = std::mem::replace(&mut level.last, slot.0);
        if previous == NONE {
            level.first = slot.0;
        } else {
            self.open_orders[previous].next = slot.0;
        }
        self.open_orders[slot.0].previous = previous;
        shown
    }

    /// Take an order off its ladder; it stays open. How much is shown at its level now.
    pub fn unqueue(&mut self, slot: Slot) -> Quantity {
        let shown = self.shown(slot);
        let link = &mut self.open_orders[slot.0];
        let (open, previous, next) = (link.open, link.previous, link.next);
        let at = std::mem::replace(&mut link.level, NONE);
        if previous != NONE {
            self.open_orders[previous].next = next;
        }
        if next != NONE {
            self.open_orders[next].previous = previous;
        }
        let level = &mut self.levels[at as usize];
        level.orders -= 1;
        if matches!(level.ladder, Ladder::Bids | Ladder::Asks) {
            level.shown = level.shown.minus(shown);
            level.hidden = level.hidden.minus(open.minus(shown));
            self.resting -= u128::from(open.0);
        }
        if previous == NONE {
            level.first = next;
        }
        if next == NONE {
            level.last = previous;
        }
        let (shown, is_empty) = (level.shown, level.first == NONE);
        if is_empty {
            self.drop_level(at);
        }
        shown
    }

    /// Take an order out of the book altogether; how much is shown at its level now, if it stood at one.
    pub fn close(&mut self, slot: Slot) -> Quantity {
        let shown = if self.link(slot).level == NONE { Quantity::ZERO } else { self.unqueue(slot) };
        self.leave_trader(slot);
        let vacant = std::mem::replace(&mut self.vacant, slot.0);
        let link = &mut self.open_orders[slot.0];
        link.next = vacant;
        let note = std::mem::replace(&mut link.note, NONE);
        let (order_id, name_hash) = (link.order_id, link.name_hash);
        self.by_number.remove(order_id.0);
        self.by_name.remove(name_hash, slot.0);
        if note != NONE {
            self.notes[note as usize].special = None;
            self.vacant_notes.push(note);
        }
        shown
    }

    /// Some of what a resting order shows traded; it is closed when nothing is left, and an iceberg that has shown all it
    /// would shows its next part at the end of the queue.
    #[inline]
    pub fn fill(&mut self, slot: Slot, quantity: Quantity, notional: Notional, time: Time) -> Filled {
        let link = &mut self.open_orders[slot.0];
        let before = link.open;
        let open = before.minus(quantity);
        let closed = open.is_zero();
        if link.note == NONE && !closed {
            self.note_mut(slot);
        }
        let link = &mut self.open_orders[slot.0];
        link.open = open;
        let (note, side, trader) = (link.note, link.side, link.trader);
        let level = &mut self.levels[link.level as usize];
        level.shown = level.shown.minus(quantity);
        self.resting -= u128::from(quantity.0);
        if side == Side::Buy {
            self.traders.at_mut(trader).buying -= u128::from(quantity.0);
        }
        let Some(note) = self.notes.get_mut(note as usize) else {
            self.close(slot);
            return Filled { executed: before, cumulative: notional, first: true, closed };
        };
        let first = note.cumulative == Notional::ZERO;
        note.cumulative = note.cumulative.plus(notional);
        note.updated_at = time;
        let cumulative = note.cumulative;
        let prevented = note.special.as_ref().map_or(Quantity::ZERO, |special| special.prevented);
        let executed = note.quantity.minus(open).minus(prevented);
        if closed {
            self.close(slot);
        } else {
            self.replenish(slot, quantity);
        }
        Filled { executed, cumulative, first, closed }
    }

    /// Self-trade prevention takes so much off a resting order, of what it shows first. The caller closes it when nothing is
    /// left.
    pub fn prevent(&mut self, slot: Slot, quantity: Quantity, time: Time) {
        let of_shown = quantity.min(self.shown(slot));
        let special = self.special_mut(slot);
        special.prevented = special.prevented.checked_add(quantity).expect("a part of the order");
        self.note_mut(slot).updated_at = time;
        let link = &mut self.open_orders[slot.0];
        link.open = link.open.minus(quantity);
        let level = &mut self.levels[link.level as usize];
        level.shown = level.shown.minus(of_shown);
        level.hidden = level.hidden.minus(quantity.minus(of_shown));
        self.resting -= u128::from(quantity.0);
        if link.side == Side::Buy {
            let trader = link.trader;
            self.traders.at_mut(trader).buying -= u128::from(quantity.0);
        }
        if !self.open(slot).is_zero() {
            self.replenish(slot, of_shown);
        }
    }

    /// Lower what is asked of an open order, in its place. The caller has made sure that something stays open.
    pub fn lower(&mut self, slot: Slot, by: Quantity, time: Time) {
        let shown = self.shown(slot);
        let note = self.note_mut(slot);
        note.updated_at = time;
        note.quantity = note.quantity.minus(by);
        let link = &mut self.open_orders[slot.0];
        link.open = link.open.minus(by);
        let (level, open) = (link.level, link.open);
        if link.side == Side::Buy {
            let trader = link.trader;
            self.traders.at_mut(trader).buying -= u128::from(by.0);
        }
        // An iceberg gives of what it hides first.
        let now_shown = shown.min(open);
        if let Some(level) = self.levels.get_mut(level as usize)
            && matches!(level.ladder, Ladder::Bids | Ladder::Asks)
        {
            let from_shown = shown.minus(now_shown);
            level.shown = level.shown.minus(from_shown);
            level.hidden = level.hidden.minus(by.minus(from_shown));
            self.resting -= u128::from(by.0);
        }
    }

    /// Give an open order another name. The caller has made sure that it is free.
    pub fn rename(&mut self, slot: Slot, name: ClientOrderId) {
        self.forget_name(slot);
        let (name_head, name_tail) = parts(name);
        let name_hash = hash_of_name(self.uid_of(slot), name);
        let link = &mut self.open_orders[slot.0];
        (link.name_head, link.name_hash) = (name_head, name_hash);
        self.name_tails.set(slot.0, name_tail);
        self.by_name.insert(name_hash, slot.0);
    }

    /// A pending order learns how much it is for.
    pub fn set_quantity(&mut self, slot: Slot, quantity: Quantity) {
        let link = &mut self.open_orders[slot.0];
        debug_assert!(link.level == NONE && link.side == Side::Sell);
        link.open = quantity;
        self.note_mut(slot).quantity = quantity;
    }

    /// What few orders have, made on first use.
    pub fn note_mut(&mut self, slot: Slot) -> &mut Note {
        let link = &mut self.open_orders[slot.0];
        if link.note == NONE {
            let note = Note {
                quantity: link.open,
                cumulative: Notional::ZERO,
                updated_at: link.created_at,
                shown: Quantity(u64::MAX),
                held: Amount::ZERO,
                price: Price(0),
                pending: false,
                special: None,
            };
            link.note = match self.vacant_notes.pop() {
                Some(at) => {
                    self.notes[at as usize] = note;
                    at
                }
                None => {
                    self.notes.push(note);
                    u32::try_from(self.notes.len() - 1).expect("fewer than 2^32 notes")
                }
            };
        }
        &mut self.notes[link.note as usize]
    }

    /// What most orders do not ask, made on first use.
    pub fn special_mut(&mut self, slot: Slot) -> &mut Special {
        self.note_mut(slot).special.get_or_insert_default()
    }

    /// Check every link, sum and index against the orders themselves. For tests and after a restore.
    pub fn validate(&self) {
        let (mut queued, mut resting) = (0, 0);
        for ladder in [Ladder::Bids, Ladder::Asks, Ladder::Rising, Ladder::Falling] {
            for level in self.levels(ladder) {
                let (mut shown, mut hidden, mut orders, mut previous) = (0, 0, 0, NONE);
                for slot in self.queue(level) {
                    let link = self.link(slot);
                    assert_eq!(link.previous, previous, "the queue is linked both ways");
                    assert!(!link.open.is_zero(), "an open order has something open");
                    let level_of = &self.levels[link.level as usize];
                    assert!((level_of.price, level_of.ladder) == (level.price, level.ladder), "it knows its level");
                    shown += u128::from(self.shown(slot).0);
                    hidden += u128::from(link.open.minus(self.shown(slot)).0);
                    orders += 1;
                    previous = slot.0;
                }
                if matches!(ladder, Ladder::Bids | Ladder::Asks) {
                    assert_eq!(
                        (u128::from(level.shown.0), u128::from(level.hidden.0)),
                        (shown, hidden),
                        "sums of a level"
                    );
                    resting += shown + hidden;
                }
                assert_eq!((orders, previous), (level.orders, level.last));
                assert!(orders > 0, "no level is empty");
                queued += orders;
            }
            let best = self.levels(ladder).next().map(|level| level.price);
            assert_eq!(best, self.best_price(ladder), "the best level is at hand");
        }
        assert_eq!(resting, self.resting);
        for slot in self.slots() {
            let link = self.link(slot);
            assert_eq!(self.by_name(link.trader, self.name(slot)), Some(slot), "found by name");
            queued += u32::from(link.level == NONE);
        }
        assert_eq!((queued as usize, self.len()), (self.len(), self.by_name.len()), "every order is indexed twice");
        let mut of_traders = 0;
        for (trader, rare) in self.traders.iter() {
            let (mut at, mut previous, mut orders, mut stops, mut buying) = (trader.first_order, NONE, 0, 0, 0);
            while at != NONE {
                let link = &self.open_orders[at];
                assert_eq!((link.trader_previous, self.traders.at(link.trader).uid), (previous, trader.uid));
                orders += 1;
                stops += u32::from(link.order_type.is_stop());
                buying += if link.side == Side::Buy { u128::from(link.open.0) } else { 0 };
                (previous, at) = (at, link.trader_next);
            }
            assert_eq!((orders, stops, buying), (trader.open_orders(), rare.stop_orders, trader.buying));
            of_traders += orders as usize;
        }
        assert_eq!(of_traders, self.len(), "every order has its trader");
    }

    fn link(&self, slot: Slot) -> &OpenOrder {
        &self.open_orders[slot.0]
    }

    /// A part of an iceberg was used up: where it was the whole of it, the next is shown at the end of the queue.
    fn replenish(&mut self, slot: Slot, used: Quantity) {
        let note = &mut self.notes[self.open_orders[slot.0].note as usize];
        let Some(part) = note.special.as_ref().and_then(|special| special.iceberg_quantity) else { return };
        note.shown = note.shown.minus(used);
        if note.shown.is_zero() {
            let (ladder, price) = {
                let level = &self.levels[self.link(slot).level as usize];
                (level.ladder, level.price)
            };
            self.unqueue(slot);
            let open = self.open(slot);
            self.note_mut(slot).shown = part.min(open);
            self.queue_at(slot, ladder, price);
        }
    }

    fn annotate(&mut self, slot: Slot, order: &Order) {
        let cumulative = self.scale.whole_notional(order.cumulative_quote);
        let open = order.open_quantity();
        let note = self.note_mut(slot);
        note.quantity = order.quantity;
        note.cumulative = cumulative;
        note.updated_at = order.updated_at;
        note.price = order.price;
        note.special = order.special.clone();
        let part = order.special.as_ref().and_then(|special| special.iceberg_quantity);
        note.shown = part.map_or(Quantity(u64::MAX), |part| part.min(open));
    }

    #[inline]
    fn level_for(&mut self, ladder: Ladder, price: Price) -> u32 {
        let rungs = &mut self.rungs[ladder as usize];
        if let Some(best) = rungs.best
            && self.levels[best as usize].price == price
        {
            return best;
        }
        if let Some(level) = rungs.by_price.get(price.0) {
            return level;
        }
        let level =
            Level { price, shown: Quantity::ZERO, hidden: Quantity::ZERO, first: NONE, last: NONE, orders: 0, ladder };
        let at = match self.vacant_levels.pop() {
            Some(at) => {
                self.levels[at as usize] = level;
                at
            }
            None => {
                self.levels.push(level);
                u32::try_from(self.levels.len() - 1).expect("fewer than 2^32 levels")
            }
        };
        rungs.by_price.insert(price.0, at);
        let better = rungs.best.is_none_or(|best| ladder.is_better(price, self.levels[best as usize].price));
        if better {
            rungs.best = Some(at);
        }
        at
    }

    fn drop_level(&mut self, at: u32) {
        let Level { price, ladder, .. } = self.levels[at as usize];
        let rungs = &mut self.rungs[ladder as usize];
        rungs.by_price.remove(price.0);
        if rungs.best == Some(at) {
            let best = if ladder.highest_first() { rungs.by_price.last() } else { rungs.by_price.first() };
            rungs.best = best.map(|(_, level)| level);
        }
        self.vacant_levels.push(at);
    }

    #[inline]
    fn occupy(&mut self, order: OpenOrder, name_tail: [u32; NAME_TAIL]) -> u32 {
        let mut at = self.vacant;
        if at == NONE {
            at = self.open_orders.push(order);
        } else {
            let vacant = &mut self.open_orders[at];
            self.vacant = vacant.next;
            *vacant = order;
        }
        self.name_tails.set(at, name_tail);
        at
    }

    fn join_trader(&mut self, slot: Slot) {
        let is_iceberg = self.is_iceberg(slot);
        let link = &mut self.open_orders[slot.0];
        let trader = self.traders.at_mut(link.trader);
        let buying = if link.side == Side::Buy { link.open } else { Quantity::ZERO };
        trader.open_by_side[link.side as usize] += 1;
        trader.buying += u128::from(buying.0);
        link.trader_next = NONE;
        link.trader_previous = std::mem::replace(&mut trader.last_order, slot.0);
        match link.trader_previous {
            NONE => trader.first_order = slot.0,
            previous => self.open_orders[previous].trader_next = slot.0,
        }
        let link = self.link(slot);
        let (trader, is_stop) = (link.trader, link.order_type.is_stop());
        if is_stop || is_iceberg {
            let rare = self.traders.rare_mut(trader);
            rare.stop_orders += u32::from(is_stop);
            rare.iceberg_orders += u32::from(is_iceberg);
        }
    }

    fn leave_trader(&mut self, slot: Slot) {
        let link = &self.open_orders[slot.0];
        if link.note != NONE {
            let (is_stop, is_iceberg) = (link.order_type.is_stop(), self.is_iceberg(slot));
            if is_stop || is_iceberg {
                let rare = self.traders.rare_mut(link.trader);
                rare.stop_orders -= u32::from(is_stop);
                rare.iceberg_orders -= u32::from(is_iceberg);
            }
        }
        let link = &self.open_orders[slot.0];
        let (previous, next) = (link.trader_previous, link.trader_next);
        let trader = self.traders.at_mut(link.trader);
        let buying = if link.side == Side::Buy { link.open } else { Quantity::ZERO };
        trader.open_by_side[link.side as usize] -= 1;
        trader.buying -= u128::from(buying.0);
        if previous == NONE {
            trader.first_order = next;
        }
        if next == NONE {
            trader.last_order = previous;
        }
        if previous != NONE {
            self.open_orders[previous].trader_next = next;
        }
        if next != NONE {
            self.open_orders[next].trader_previous = previous;
        }
    }

    fn is_iceberg(&self, slot: Slot) -> bool {
        self.special(slot).is_some_and(|special| special.iceberg_quantity.is_some())
    }

    fn forget_name(&mut self, slot: Slot) {
        self.by_name.remove(self.link(slot).name_hash, slot.0);
    }
}
