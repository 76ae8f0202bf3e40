//! What a snapshot takes out of a book, and how a book is made of that again: orders by number, in one pass, into vectors and
//! indexes whose size is known.
//!
//! What comes in is not believed. What would break a link or a sum of the book is refused here; whether an order may be where
//! it is, the caller has checked.

use hashbrown::hash_table::Entry;

use super::*;

/// An open order, but for what few orders have.
#[derive(Clone, Copy, Debug)]
pub struct PlainOrder {
    /// Its number.
    pub order_id: OrderId,
    /// All that can still trade.
    pub open: Quantity,
    /// When it was accepted.
    pub created_at: Time,
    /// Whose it is.
    pub trader: TraderIndex,
    /// The place of the level in whose queue it stands; [`NONE`] where it stands in none.
    pub level: u32,
    /// Its name.
    pub name: ClientOrderId,
    /// Its side.
    pub side: Side,
    /// Its kind.
    pub order_type: OrderType,
    /// What happens to what does not trade at once.
    pub time_in_force: TimeInForce,
    /// What it does against its owner's orders.
    pub self_trade_prevention: SelfTradePrevention,
}

impl Book {
    /// The places of a ladder's levels, the best first.
    pub fn level_places(&self, ladder: Ladder) -> Vec<u32> {
        let mut places = Vec::new();
        self.rungs[ladder as usize].by_price.for_each(|_, place| places.push(place));
        if ladder.highest_first() {
            places.reverse();
        }
        places
    }

    /// The level at a place.
    pub fn level_at(&self, place: u32) -> &Level {
        &self.levels[place as usize]
    }

    /// One more than the highest place of a level.
    pub fn level_places_end(&self) -> usize {
        self.levels.len()
    }

    /// All open orders, by number.
    pub fn slots_by_number(&self) -> Vec<Slot> {
        let mut slots = Vec::with_capacity(self.len());
        self.by_number.for_each(|_, at| slots.push(Slot(at)));
        slots
    }

    /// One more than the highest place of a slot.
    pub fn places_end(&self) -> usize {
        self.links.len()
    }

    /// An open order, but for what few orders have.
    #[inline]
    pub fn plain(&self, slot: Slot) -> PlainOrder {
        let link = self.link(slot);
        PlainOrder {
            order_id: link.order_id,
            open: link.open,
            created_at: self.terms[slot.0 as usize].created_at,
            trader: link.trader,
            level: link.level,
            name: self.names[slot.0 as usize],
            side: link.side,
            order_type: link.order_type,
            time_in_force: link.time_in_force,
            self_trade_prevention: link.self_trade_prevention,
        }
    }

    /// The order before it in its queue.
    #[inline]
    pub fn previous(&self, slot: Slot) -> Option<Slot> {
        let previous = self.link(slot).previous;
        (previous != NONE).then_some(Slot(previous))
    }

    /// A book of these traders and levels, the levels of each ladder best first, with room for so many orders.
    pub fn restore(symbol: SymbolId, scale: Scale, traders: Traders, levels: &[Vec<Price>; 4], orders: usize) -> Book {
        let mut book = Book::new(symbol, scale);
        book.traders = traders;
        book.levels.reserve_exact(levels.iter().map(Vec::len).sum());
        for (ladder, prices) in [Ladder::Bids, Ladder::Asks, Ladder::Rising, Ladder::Falling].into_iter().zip(levels) {
            prices.iter().for_each(|&price| {
                book.level_for(ladder, price);
            });
        }
        book.links.reserve_exact(orders);
        book.terms.reserve_exact(orders);
        book.names.reserve_exact(orders);
        book
    }

    /// The next order by number: it belongs to its trader and stands last in the queue of its level. `None` where the sums of
    /// that level have no room for it.
    pub fn restore_order(&mut self, order: &PlainOrder, quantity: Quantity, note: Option<Note>) -> Option<Slot> {
        let at = self.links.len() as u32;
        let shown = note.as_ref().map_or(order.open, |note| order.open.min(note.shown));
        let is_iceberg = note.as_ref().and_then(|note| note.special.as_ref()?.iceberg_quantity).is_some();
        let note = note.map_or(NONE, |note| {
            self.notes.push(note);
            self.notes.len() as u32 - 1
        });
        let mut previous = NONE;
        if let Some(level) = self.levels.get_mut(order.level as usize) {
            previous = std::mem::replace(&mut level.last, at);
            if previous == NONE {
                level.first = at;
            }
            level.orders += 1;
            if matches!(level.ladder, Ladder::Bids | Ladder::Asks) {
                let hidden = order.open.minus(shown);
                level.shown = level.shown.checked_add(shown)?;
                level.hidden = level.hidden.checked_add(hidden)?;
                level.shown.checked_add(level.hidden)?;
                self.resting += u128::from(order.open.0);
            }
        }
        let trader = self.traders.at_mut(order.trader);
        let bought = if order.side == Side::Buy { order.open } else { Quantity::ZERO };
        trader.opened(order.side, order.order_type.is_stop(), is_iceberg, bought);
        let trader_previous = std::mem::replace(&mut trader.last_order, at);
        if trader_previous == NONE {
            trader.first_order = at;
        }
        self.links.push(Link {
            order_id: order.order_id,
            open: order.open,
            level: order.level,
            previous,
            next: NONE,
            trader: order.trader,
            trader_previous,
            trader_next: NONE,
            note,
            side: order.side,
            order_type: order.order_type,
            time_in_force: order.time_in_force,
            self_trade_prevention: order.self_trade_prevention,
        });
        self.terms.push(Terms { quantity, created_at: order.created_at });
        self.names.push(order.name);
        Some(Slot(at))
    }

    /// Whether there is a level where no order stands.
    pub fn has_empty_level(&self) -> bool {
        self.levels.iter().any(|level| level.orders == 0)
    }

    /// All orders are in: link them forwards and index them. False where two of a trader have one name.
    pub fn restore_indexes(&mut self) -> bool {
        // From the last to the first, so that only small vectors are jumped about in.
        let mut behind = vec![NONE; self.levels.len()];
        let mut later = vec![NONE; self.traders.len()];
        for (at, link) in self.links.iter_mut().enumerate().rev() {
            let at = at as u32;
            if let Some(behind) = behind.get_mut(link.level as usize) {
                link.next = std::mem::replace(behind, at);
            }
            link.trader_next = std::mem::replace(&mut later[link.trader.0 as usize], at);
        }
        let Book { links, names, by_number, by_name, .. } = self;
        let hash = |at: u32| hash_of_name(links[at as usize].trader.0, names[at as usize]);
        *by_name = HashTable::with_capacity(links.len());
        for (at, link) in (0..).zip(&*links) {
            by_number.insert(link.order_id.0, at);
            let same = |&other: &u32| {
                names[other as usize] == names[at as usize] && links[other as usize].trader == link.trader
            };
            match by_name.entry(hash(at), same, |&at| hash(at)) {
                Entry::Occupied(_) => return false,
                Entry::Vacant(entry) => entry.insert(at),
            };
        }
        true
    }

    /// The queue at a level is not in the order of the numbers, but in this one: the places of its orders by number. False
    /// where they are not the orders of that level, each once.
    pub fn restore_queue(&mut self, level: u32, queue: &[u32]) -> bool {
        let at_level = |&at: &u32| self.links.get(at as usize).is_some_and(|link| link.level == level);
        let mut sorted = queue.to_vec();
        sorted.sort_unstable();
        let each_once = sorted.windows(2).all(|pair| pair[0] < pair[1]);
        let (Some(found), [first, .., last]) = (self.levels.get_mut(level as usize), queue) else { return false };
        if !each_once || sorted == queue || !queue.iter().all(at_level) || found.orders as usize != queue.len() {
            return false;
        }
        (found.first, found.last) = (*first, *last);
        for pair in queue.windows(2) {
            self.links[pair[0] as usize].next = pair[1];
            self.links[pair[1] as usize].previous = pair[0];
        }
        self.links[*first as usize].previous = NONE;
        self.links[*last as usize].next = NONE;
        true
    }
}
