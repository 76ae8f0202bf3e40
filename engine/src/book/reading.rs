//! What can be asked of a book, and what is fetched beforehand of it; book.rs changes it.

use super::*;

impl Book {
    // Levels.

    /// The best level of a ladder.
    #[inline]
    pub fn best(&self, ladder: Ladder) -> Option<&Level> {
        self.rungs[ladder as usize].best.map(|level| &self.levels[level as usize])
    }

    /// The best price of a ladder.
    #[inline]
    pub fn best_price(&self, ladder: Ladder) -> Option<Price> {
        self.best(ladder).map(|level| level.price)
    }

    /// The first order at a level.
    #[inline]
    pub fn first_at(&self, level: &Level) -> Slot {
        Slot(level.first)
    }

    /// The level at a price.
    pub fn level(&self, ladder: Ladder, price: Price) -> Option<&Level> {
        self.rungs[ladder as usize].by_price.get(price.0).map(|level| &self.levels[level as usize])
    }

    /// How much the level at a price shows.
    #[inline]
    pub fn shown_at(&self, ladder: Ladder, price: Price) -> Quantity {
        match self.best(ladder) {
            Some(best) if best.price == price => best.shown,
            _ => self.level(ladder, price).map_or(Quantity::ZERO, |level| level.shown),
        }
    }

    /// Whether the sum of a level stays within its range with so much more.
    #[inline]
    pub fn has_room(&self, ladder: Ladder, price: Price, quantity: Quantity) -> bool {
        // Where even all orders together leave room, the level need not be looked up.
        if self.resting + u128::from(quantity.0) <= u128::from(u64::MAX) {
            return true;
        }
        let resting =
            self.level(ladder, price).map_or(Some(Quantity::ZERO), |level| level.shown.checked_add(level.hidden));
        resting.and_then(|resting| resting.checked_add(quantity)).is_some()
    }

    /// The levels of a ladder, best first.
    pub fn levels(&self, ladder: Ladder) -> impl Iterator<Item = &Level> {
        let by_price = &self.rungs[ladder as usize].by_price;
        let down = ladder.highest_first();
        let first = if down { by_price.last() } else { by_price.first() };
        std::iter::successors(
            first,
            move |&(price, _)| if down { by_price.before(price) } else { by_price.after(price) },
        )
        .map(|(_, level)| &self.levels[level as usize])
    }

    /// The orders at a level, the first to trade first.
    pub fn queue(&self, level: &Level) -> impl Iterator<Item = Slot> {
        let slot = |at: u32| (at != NONE).then_some(Slot(at));
        std::iter::successors(slot(level.first), move |&at| slot(self.link(at).next))
    }

    /// The order behind another one in its queue.
    #[inline]
    pub fn behind(&self, slot: Slot) -> Option<Slot> {
        let next = self.link(slot).next;
        (next != NONE).then_some(Slot(next))
    }

    // Finding orders.

    /// The open order of that number.
    #[inline]
    pub fn by_number(&self, order_id: OrderId) -> Option<Slot> {
        self.by_number.get(order_id.0).map(Slot)
    }

    /// The open order of a user by its name.
    #[inline]
    pub fn by_name(&self, trader: TraderIndex, name: ClientOrderId) -> Option<Slot> {
        let is_it = |at| self.name(Slot(at)) == name && self.trader_of(Slot(at)) == trader;
        self.by_name.find(hash_of_name(self.traders.at(trader).uid, name), is_it).map(Slot)
    }

    /// The hash of a name, if the user has no open order under it.
    #[inline]
    pub fn free_name(&self, trader: TraderIndex, name: ClientOrderId) -> Option<u32> {
        let is_it = |at| self.name(Slot(at)) == name && self.trader_of(Slot(at)) == trader;
        let hash = hash_of_name(self.traders.at(trader).uid, name);
        self.by_name.find(hash, is_it).is_none().then_some(hash)
    }

    /// A trader's oldest open order.
    pub fn first_of(&self, trader: TraderIndex) -> Option<Slot> {
        let first = self.traders.at(trader).first_order;
        (first != NONE).then_some(Slot(first))
    }

    /// All open orders, by number.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        self.by_number.iter().map(|(_, at)| Slot(at))
    }

    /// How many orders are open.
    pub fn len(&self) -> usize {
        self.by_number.len()
    }

    // Fetching beforehand what a command will touch, one step along its chain after the other (foresight.rs).

    /// What [`Book::by_number`] takes.
    pub fn prefetch_number(&self, order_id: OrderId) {
        self.by_number.prefetch(order_id.0);
    }

    /// What [`Book::by_name`] takes first.
    pub fn prefetch_name(&self, uid: Uid, name: ClientOrderId) {
        self.by_name.prefetch(hash_of_name(uid, name));
    }

    /// An order itself.
    #[inline]
    pub fn prefetch(&self, slot: Slot) {
        let order = self.link(slot);
        prefetch(order);
        prefetch(&order.side);
        self.name_tails.prefetch(slot.0);
    }

    /// What an order is linked to: its level, its trader, its neighbours at both, its name.
    pub fn prefetch_around(&self, slot: Slot) {
        let order = self.link(slot);
        prefetch(self.traders.at(order.trader));
        self.by_name.prefetch(order.name_hash);
        if let Some(level) = self.levels.get(order.level as usize) {
            prefetch(level);
        }
        for neighbour in [order.previous, order.next, order.trader_previous, order.trader_next] {
            if neighbour != NONE {
                prefetch(&self.open_orders[neighbour]);
            }
        }
        if let Some(note) = self.notes.get(order.note as usize) {
            prefetch(note);
        }
    }

    /// The newest order of a trader, after which the next is linked.
    #[inline]
    pub fn prefetch_order(&self, place: u32) {
        if place != NONE {
            prefetch(&self.open_orders[place]);
        }
    }

    /// The level at a price, and its place.
    #[inline]
    pub fn prefetch_level(&self, ladder: Ladder, price: Price) -> Option<u32> {
        let at = self.rungs[ladder as usize].by_price.get(price.0)?;
        prefetch(&self.levels[at as usize]);
        Some(at)
    }

    /// The last order at the level of that place, after which the next is linked.
    #[inline]
    pub fn prefetch_last_at(&self, level: u32) {
        self.prefetch_order(self.levels[level as usize].last);
    }

    // One order.

    /// Whose it is.
    #[inline]
    pub fn trader_of(&self, slot: Slot) -> TraderIndex {
        self.link(slot).trader
    }

    /// Whose it is.
    pub fn uid_of(&self, slot: Slot) -> Uid {
        self.traders.at(self.link(slot).trader).uid
    }

    /// Its number.
    #[inline]
    pub fn number(&self, slot: Slot) -> OrderId {
        self.link(slot).order_id
    }

    /// Its name.
    #[inline]
    pub fn name(&self, slot: Slot) -> ClientOrderId {
        let [a, b, c, d, e] = self.link(slot).name_head;
        let [f, g] = self.name_tails.get(slot.0);
        ClientOrderId::from_words([a, b, c, d, e, f, g])
    }

    /// Its side.
    #[inline]
    pub fn side(&self, slot: Slot) -> Side {
        self.link(slot).side
    }

    /// Its kind.
    #[inline]
    pub fn order_type(&self, slot: Slot) -> OrderType {
        self.link(slot).order_type
    }

    /// What it does against its owner's orders.
    pub fn self_trade_prevention(&self, slot: Slot) -> SelfTradePrevention {
        self.link(slot).self_trade_prevention
    }

    /// All that can still trade.
    #[inline]
    pub fn open(&self, slot: Slot) -> Quantity {
        self.link(slot).open
    }

    /// The part of it that the book shows.
    #[inline]
    pub fn shown(&self, slot: Slot) -> Quantity {
        let link = self.link(slot);
        match self.notes.get(link.note as usize) {
            Some(note) => link.open.min(note.shown),
            None => link.open,
        }
    }

    /// What it is worth at its limit: what a limit order holds, before the scale.
    #[inline]
    pub fn price(&self, slot: Slot) -> Price {
        let link = self.link(slot);
        match self.levels.get(link.level as usize) {
            Some(level) if matches!(level.ladder, Ladder::Bids | Ladder::Asks) => level.price,
            _ => self.note(slot).map_or(Price(0), |note| note.price),
        }
    }

    /// Whether it stands in the book and can be met by a taker.
    pub fn is_resting(&self, slot: Slot) -> bool {
        self.resting_at(slot).is_some()
    }

    /// Its side and price where it stands in the book and can be met by a taker.
    #[inline]
    pub fn resting_at(&self, slot: Slot) -> Option<(Side, Price)> {
        let link = self.link(slot);
        let level = self.levels.get(link.level as usize)?;
        matches!(level.ladder, Ladder::Bids | Ladder::Asks).then_some((link.side, level.price))
    }

    /// Its side and price where it rests and there is no note to it: no trade, no stop, no list, nothing but a limit.
    #[inline]
    pub fn plain_at(&self, slot: Slot) -> Option<(Side, Price)> {
        if self.link(slot).note == NONE { self.resting_at(slot) } else { None }
    }

    /// Such an order in full, as it is in that state.
    #[inline(always)]
    pub fn plain_order(&self, slot: Slot, price: Price, status: OrderStatus, updated_at: Time) -> Order {
        debug_assert!(self.link(slot).note == NONE);
        Order { status, updated_at, ..self.as_accepted(slot, price) }
    }

    /// An order in full where nothing stands in a note.
    #[inline(always)]
    fn as_accepted(&self, slot: Slot, price: Price) -> Order {
        let link = self.link(slot);
        Order {
            order_id: link.order_id,
            symbol: self.symbol,
            uid: self.traders.at(link.trader).uid,
            client_order_id: self.name(slot),
            side: link.side,
            order_type: link.order_type,
            time_in_force: link.time_in_force,
            self_trade_prevention: link.self_trade_prevention,
            price,
            quantity: link.open,
            quote_order_quantity: Amount::ZERO,
            executed: Quantity::ZERO,
            cumulative_quote: Amount::ZERO,
            status: OrderStatus::New,
            created_at: link.created_at,
            updated_at: link.created_at,
            special: None,
        }
    }

    /// The whole quantity that is asked.
    #[inline]
    pub fn quantity(&self, slot: Slot) -> Quantity {
        self.note(slot).map_or(self.link(slot).open, |note| note.quantity)
    }

    /// Whether it waits for the working order of its list.
    pub fn is_pending(&self, slot: Slot) -> bool {
        self.note(slot).is_some_and(|note| note.pending)
    }

    /// What few orders have.
    #[inline]
    pub fn note(&self, slot: Slot) -> Option<&Note> {
        self.notes.get(self.link(slot).note as usize)
    }

    /// What most orders do not ask.
    #[inline]
    pub fn special(&self, slot: Slot) -> Option<&Special> {
        self.note(slot).and_then(|note| note.special.as_deref())
    }

    /// The order as it stands, in full.
    pub fn order(&self, slot: Slot) -> Order {
        let order = self.as_accepted(slot, self.price(slot));
        let Some(note) = self.note(slot) else { return order };
        let prevented = note.special.as_ref().map_or(Quantity::ZERO, |special| special.prevented);
        let executed = note.quantity.minus(self.open(slot)).minus(prevented);
        Order {
            quantity: note.quantity,
            executed,
            cumulative_quote: self.scale.quote_amount(note.cumulative),
            status: match (note.pending, executed.is_zero()) {
                (true, _) => OrderStatus::PendingNew,
                (_, true) => OrderStatus::New,
                (_, false) => OrderStatus::PartiallyFilled,
            },
            updated_at: note.updated_at,
            special: note.special.clone(),
            ..order
        }
    }

    /// Whether the best bid is as high as the best ask.
    pub fn is_crossed(&self) -> bool {
        self.best_price(Ladder::Bids).zip(self.best_price(Ladder::Asks)).is_some_and(|(bid, ask)| bid >= ask)
    }
}
