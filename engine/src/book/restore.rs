//! What a snapshot takes out of a book, and how a book is made of that again: orders by number, in one pass, into vectors and
//! indexes whose size is known.
//!
//! What comes in is not believed. What would break a link or a sum of the book is refused here; whether an order may be where
//! it is, the caller has checked.

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
        slots.extend(self.slots());
        slots
    }

    /// One more than the highest place of a slot.
    pub fn places_end(&self) -> usize {
        self.open_orders.len()
    }

    /// An open order, but for what few orders have.
    #[inline]
    pub fn plain(&self, slot: Slot) -> PlainOrder {
        let link = self.link(slot);
        PlainOrder {
            order_id: link.order_id,
            open: link.open,
            created_at: link.created_at,
            trader: link.trader,
            level: link.level,
            name: self.name(slot),
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

    /// A book of these traders and levels, the levels of each ladder best first.
    pub fn restore(symbol: SymbolId, scale: Scale, traders: Traders, levels: &[Vec<Price>; 4]) -> Book {
        let mut book = Book::new(symbol, scale);
        book.traders = traders;
        book.levels.reserve_exact(levels.iter().map(Vec::len).sum());
        for (ladder, prices) in [Ladder::Bids, Ladder::Asks, Ladder::Rising, Ladder::Falling].into_iter().zip(levels) {
            prices.iter().for_each(|&price| {
                book.level_for(ladder, price);
            });
        }
        book
    }

    /// Begin to fetch a trader and a level, if there are such.
    #[inline]
    pub fn prefetch_places(&self, trader: TraderIndex, level: u32) {
        if (trader.0 as usize) < self.traders.len() {
            prefetch(self.traders.at(trader));
        }
        if let Some(level) = self.levels.get(level as usize) {
            // It may straddle two lines.
            prefetch(&level.price);
            prefetch(&level.ladder);
        }
    }

    /// The next order by number: it belongs to its trader and stands last in the queue of its level. `None` where the sums of
    /// that level have no room for it.
    pub fn restore_order(&mut self, order: &PlainOrder, note: Option<Note>) -> Option<Slot> {
        let at = self.open_orders.len() as u32;
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
        let is_stop = order.order_type.is_stop();
        if is_stop || is_iceberg {
            let rare = self.traders.rare_mut(order.trader);
            rare.stop_orders += u32::from(is_stop);
            rare.iceberg_orders += u32::from(is_iceberg);
        }
        let trader = self.traders.at_mut(order.trader);
        trader.open_by_side[order.side as usize] += 1;
        if order.side == Side::Buy {
            trader.buying += u128::from(order.open.0);
        }
        let trader_previous = std::mem::replace(&mut trader.last_order, at);
        if trader_previous == NONE {
            trader.first_order = at;
        }
        let (name_head, name_tail) = parts(order.name);
        self.open_orders.push(OpenOrder {
            order_id: order.order_id,
            open: order.open,
            created_at: order.created_at,
            level: order.level,
            previous,
            next: NONE,
            trader: order.trader,
            trader_previous,
            trader_next: NONE,
            note,
            name_hash: hash_of_name(trader.uid, order.name),
            name_head,
            side: order.side,
            order_type: order.order_type,
            time_in_force: order.time_in_force,
            self_trade_prevention: order.self_trade_prevention,
        });
        self.name_tails.set(at, name_tail);
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
        let count = self.open_orders.len() as u32;
        for at in (0..count).rev() {
            let order = &mut self.open_orders[at];
            if let Some(behind) = behind.get_mut(order.level as usize) {
                order.next = std::mem::replace(behind, at);
            }
            order.trader_next = std::mem::replace(&mut later[order.trader.0 as usize], at);
        }
        self.by_number = Numbers::restore((0..count).map(|at| self.open_orders[at].order_id.0));
        let hashes = (0..count).map(|at| self.open_orders[at].name_hash);
        let same = |a: u32, b: u32| {
            let (a, b) = (Slot(a), Slot(b));
            self.trader_of(a) == self.trader_of(b) && self.name(a) == self.name(b)
        };
        let by_name = HashIndex::restore(hashes, same);
        by_name.map(|by_name| self.by_name = by_name).is_some()
    }

    /// The queue at a level is not in the order of the numbers, but in this one: the places of its orders by number. False
    /// where they are not the orders of that level, each once.
    pub fn restore_queue(&mut self, level: u32, queue: &[u32]) -> bool {
        let at_level = |&at: &u32| (at as usize) < self.open_orders.len() && self.open_orders[at].level == level;
        let mut sorted = queue.to_vec();
        sorted.sort_unstable();
        let each_once = sorted.windows(2).all(|pair| pair[0] < pair[1]);
        let (Some(found), [first, .., last]) = (self.levels.get_mut(level as usize), queue) else { return false };
        if !each_once || sorted == queue || !queue.iter().all(at_level) || found.orders as usize != queue.len() {
            return false;
        }
        (found.first, found.last) = (*first, *last);
        for pair in queue.windows(2) {
            self.open_orders[pair[0]].next = pair[1];
            self.open_orders[pair[1]].previous = pair[0];
        }
        self.open_orders[*first].previous = NONE;
        self.open_orders[*last].next = NONE;
        true
    }
}
