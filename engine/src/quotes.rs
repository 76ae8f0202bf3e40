//! Quote-driven symbols: not a book but a reference price from outside decides, and every trade is with the house.
//!
//! The house buys at its bid and sells at its ask: what the source says, worse by the spread, rounded away from the middle.
//! Users never meet each other. A new order trades at once at the house's price, as the taker; one that rests is filled, as the
//! maker, at the first price of the house that reaches it, which may be better than its own. So each trade is at the price that
//! stood when it happened. Where several wait, price and time decide who comes first, and who comes later waits too.
//!
//! The house has no order at rest: for each walk it gives one that is filled whole, LIMIT and IOC at its price, so that history
//! and user events know both sides of every trade. How much it trades is bounded by its exposure and by what it has; and it
//! trades only while its price is younger, in sequence time, than the limit. Depth shows what could be traded: its two prices
//! and how much; the orders of users are not shown.

use serde::{Deserialize, Serialize};

use crate::book::{Ladder, Slot};
use crate::event::{Event, HouseQuote, Rejection};
use crate::market::{Floor, Market, reaches};
use crate::matching::{Stopped, Taker};
use crate::order::{ClientOrderId, Order, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce};
use crate::preview::{Goal, Preview, Steps};
use crate::symbol::SymbolStatus;
use crate::trader::TraderIndex;
use crate::units::{Amount, Multiplier, Notional, OrderId, Price, Quantity, Scale, SymbolId, Time, Uid};

/// The longest a price may stand, in milliseconds: a day.
const STALE_AFTER_MAX: u64 = 24 * 60 * 60 * 1_000;
/// The highest limit of the exposure, so that twice of it fits wherever it is reckoned with.
const EXPOSURE_MAX: Amount = Amount(1 << 120);
/// Outside times are below this.
const TIME_MAX: Time = Time(1 << 60);

/// How a symbol is quote-driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteTerms {
    /// Whose account every trade is with; it places no orders of its own here.
    pub house: Uid,
    /// The part of the outside price by which the house's is worse, on each side; below one.
    pub spread: Multiplier,
    /// For how many milliseconds of sequence time a price holds; 1 to a day.
    pub stale_after_ms: u64,
    /// How much base the house may have bought more than sold here, or sold more than bought; in smallest units, above zero.
    pub max_exposure: Amount,
}

/// A price from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceQuote {
    /// For which symbol.
    pub symbol: SymbolId,
    /// The outside bid, in smallest quote units per whole base; needs not be a whole number of ticks.
    pub bid: Amount,
    /// The outside ask, not below the bid; the same where the source knows one price alone.
    pub ask: Amount,
    /// When the source said so; among prices that hold, one from before the last is refused.
    pub outside_time: Time,
    /// Who says so.
    pub source: ClientOrderId,
}

/// The house's prices, while they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quote {
    /// None where the spread leaves nothing.
    pub bid: Option<Price>,
    pub ask: Price,
    /// The middle of what the source said.
    pub reference: Price,
    /// When it was logged.
    pub at: Time,
    pub outside_time: Time,
}

/// What a quote-driven symbol has besides its orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QuoteDesk {
    pub terms: QuoteTerms,
    /// The last price, until a tick finds it too old.
    pub quote: Option<Quote>,
    /// What the house has bought here less what it has sold, in smallest base units.
    pub position: i128,
    /// What depth shows of its bid and its ask.
    pub shown: [Option<(Price, Quantity)>; 2],
    /// Whether the price held when the command under way began; told anew for each.
    #[serde(skip)]
    is_live: bool,
}

impl QuoteTerms {
    /// Whether they can be.
    pub(crate) fn are_sound(&self) -> bool {
        self.spread < Multiplier::ONE
            && (1..=STALE_AFTER_MAX).contains(&self.stale_after_ms)
            && (Amount(1)..=EXPOSURE_MAX).contains(&self.max_exposure)
    }

    /// Until when a price of then holds.
    fn holds_until(&self, at: Time) -> Time {
        Time(at.0.saturating_add(self.stale_after_ms * 1_000))
    }
}

impl ReferenceQuote {
    /// What it comes to at the house.
    fn at_house(&self, terms: &QuoteTerms, scale: Scale, now: Time) -> Option<Quote> {
        let whole = u128::from(Multiplier::ONE.0);
        let tick = scale.tick_size().0;
        let spread = u128::from(terms.spread.0);
        let price = |ticks: u128| {
            let price = u64::try_from(ticks).ok().filter(|_| ticks.checked_mul(tick).is_some());
            price.map(Price)
        };
        let bid = price(self.bid.0.checked_mul(whole - spread)? / whole / tick)?;
        let ask = price(self.ask.0.checked_mul(whole + spread)?.div_ceil(whole).div_ceil(tick))?;
        let reference = price(self.bid.0.checked_add(self.ask.0)? / 2 / tick)?;
        let sound = !self.bid.is_zero() && self.bid <= self.ask && reference.0 > 0 && self.outside_time < TIME_MAX;
        let bid = (bid.0 > 0).then_some(bid);
        sound.then_some(Quote { bid, ask, reference, at: now, outside_time: self.outside_time })
    }
}

impl QuoteDesk {
    /// A desk that has no price yet and has bought or sold nothing.
    pub fn new(terms: QuoteTerms) -> QuoteDesk {
        QuoteDesk { terms, quote: None, position: 0, shown: [None; 2], is_live: false }
    }

    /// A command begins at this time.
    pub fn look(&mut self, now: Time) {
        self.is_live = self.quote.is_some_and(|quote| now < self.terms.holds_until(quote.at));
    }

    /// When the price is too old.
    pub fn stale_at(&self) -> Option<Time> {
        self.quote.map(|quote| self.terms.holds_until(quote.at))
    }

    /// What an order of that side trades at now.
    pub fn price(&self, side: Side) -> Option<Price> {
        let quote = self.quote.filter(|_| self.is_live)?;
        if side == Side::Buy { Some(quote.ask) } else { quote.bid }
    }

    /// How much base the house may still trade against orders of that side.
    fn room(&self, side: Side) -> Amount {
        let limit = self.terms.max_exposure.0 as i128;
        let room = if side == Side::Buy { limit + self.position } else { limit - self.position };
        Amount(u128::try_from(room).unwrap_or(0))
    }

    /// Whether an engine comes to this.
    pub fn is_sound(&self, now: Time, highest: Price) -> bool {
        let is_price = |price: Price| (Price(1)..=highest).contains(&price);
        let quote = self.quote.is_none_or(|quote| {
            let Quote { bid, ask, reference, at, outside_time } = quote;
            bid.is_none_or(|bid| is_price(bid) && bid <= reference)
                && is_price(ask)
                && is_price(reference)
                && reference <= ask
                && at <= now
                && outside_time < TIME_MAX
        });
        let shown = self.shown.iter().flatten().all(|&(price, quantity)| is_price(price) && !quantity.is_zero());
        self.terms.are_sound() && quote && shown && self.position.unsigned_abs() <= 2 * EXPOSURE_MAX.0
    }
}

impl Market {
    /// The symbol is quote-driven from now on, otherwise than before, or no more. A price that stood is forgotten.
    pub(crate) fn set_quote_driven(
        &mut self,
        terms: Option<QuoteTerms>,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) -> Result<(), Rejection> {
        if let Some(terms) = &terms {
            floor.trader(terms.house)?;
            if !terms.are_sound() {
                return Err(Rejection::InvalidConfiguration);
            }
            let trader = self.book.traders.find(terms.house);
            if trader.is_some_and(|trader| self.book.traders.at(trader).open_orders() > 0) {
                return Err(Rejection::OpenOrders);
            }
        }
        if terms.is_some() != self.desk.is_some() && self.book.len() > 0 {
            return Err(Rejection::OpenOrders);
        }

        let symbol = self.symbol.id;
        events.push(Event::QuoteDrivenChanged { symbol, terms });
        self.forget_quote(floor, events);
        self.set_reference(None, events);
        let before = self.desk.take();
        self.desk = terms.map(|terms| {
            let mut desk = QuoteDesk::new(terms);
            if let Some(before) = before.filter(|before| before.terms.house == terms.house) {
                desk.position = before.position;
            }
            Box::new(desk)
        });
        Ok(())
    }

    /// A price from outside: what it reaches is filled, what waits for it is triggered.
    pub(crate) fn quote(
        &mut self,
        asked: &ReferenceQuote,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) -> Result<(), Rejection> {
        let desk = self.desk.as_mut().ok_or(Rejection::NotQuoteDriven)?;
        let quote = asked.at_house(&desk.terms, self.symbol.scale, floor.now).ok_or(Rejection::InvalidQuote)?;
        if desk.quote.is_some_and(|last| desk.is_live && quote.outside_time < last.outside_time) {
            return Err(Rejection::QuoteOutdated);
        }

        desk.quote = Some(quote);
        desk.is_live = true;
        let Quote { bid, ask, reference, outside_time, .. } = quote;
        let symbol = self.symbol.id;
        let told = HouseQuote { symbol, bid, ask, source: asked.source, outside_time };
        events.push(Event::QuoteChanged(Box::new(told)));
        self.set_reference(Some(reference), events);
        self.set_last_price(reference, floor);
        if self.symbol.status != SymbolStatus::Trading {
            return Ok(());
        }
        let walked = self.walks.len();
        self.walks.push((reference, reference));
        for side in [Side::Buy, Side::Sell] {
            self.fill_waiting(side, floor, events);
        }
        self.aftermath(walked, floor, events);
        self.finish_tasks(floor, events);
        Ok(())
    }

    /// The price is too old.
    pub(crate) fn become_stale(&mut self, floor: &Floor, events: &mut Vec<Event>) {
        events.push(Event::QuoteStale { symbol: self.symbol.id });
        self.set_reference(None, events);
        self.forget_quote(floor, events);
    }

    fn forget_quote(&mut self, floor: &Floor, events: &mut Vec<Event>) {
        if let Some(desk) = &mut self.desk {
            desk.quote = None;
            desk.is_live = false;
            self.show_quote(floor, events);
        }
    }

    fn set_reference(&mut self, price: Option<Price>, events: &mut Vec<Event>) {
        if self.reference_price != price {
            self.reference_price = price;
            events.push(Event::ReferencePriceChanged { symbol: self.symbol.id, price });
        }
    }

    /// How much the house trades against a new order of that side now: as far as its exposure and its funds go, and nothing
    /// where others wait for the same.
    fn capacity(&self, side: Side, price: Price, floor: &Floor) -> Quantity {
        let waits = self.book.best_price(Ladder::of(side)).is_some_and(|best| reaches(side, best, price));
        if waits || self.symbol.status != SymbolStatus::Trading {
            return Quantity::ZERO;
        }
        let within = self.means(side, price, floor);
        // Its order stands for a moment where orders of users may wait.
        let fits = self.book.has_room(Ladder::of(side.opposite()), price, within);
        if fits { within } else { Quantity::ZERO }
    }

    /// How far its exposure and its funds go.
    fn means(&self, side: Side, price: Price, floor: &Floor) -> Quantity {
        let Some(desk) = &self.desk else { return Quantity::ZERO };
        let free = |asset| floor.accounts.balance(desk.terms.house, asset).free;
        let (config, scale) = (&self.symbol.config, self.symbol.scale);
        let funded = match side {
            Side::Buy => scale.whole_lots(free(config.base)),
            Side::Sell => {
                let lot = scale.quote_amount(Notional(price.0)).checked_add(self.lot_fee(Quantity(1)));
                let lots = lot.map_or(0, |lot| free(config.quote).0 / lot.0);
                Quantity(u64::try_from(lots).unwrap_or(u64::MAX))
            }
        };
        let worth = Quantity(u64::MAX / price.0);
        scale.whole_lots(desk.room(side)).min(funded).min(worth)
    }

    /// What a new order's walk against the house would bring; `None` when its worth does not fit.
    pub(crate) fn preview_house(&self, taker: &Taker, goal: Goal, floor: &Floor) -> Option<Preview> {
        let side = taker.order.side;
        let mut steps = Steps::new(goal);
        let Some(price) = self.opposite_best(side) else { return Some(steps.end(Stopped::BookEmpty)) };
        if !taker.order.order_type.is_market() && !reaches(side, taker.order.price, price) {
            return Some(steps.end(Stopped::OutOfReach));
        }
        let (left, all) = (steps.left(self, side, price), self.capacity(side, price, floor));
        steps.take(self, side, price, all.min(left))?;
        let done = all > left || steps.is_reached();
        Some(steps.end(if done { Stopped::Done } else { Stopped::BookEmpty }))
    }

    /// A new order's walk in a quote-driven symbol.
    #[cold]
    pub(crate) fn walk_house(&mut self, taker: &mut Taker, floor: &mut Floor, events: &mut Vec<Event>) -> Stopped {
        let side = taker.order.side;
        let Some(price) = self.opposite_best(side) else { return Stopped::BookEmpty };
        if !taker.order.order_type.is_market() && !reaches(side, taker.order.price, price) {
            return Stopped::OutOfReach;
        }
        let quantity = taker.order.open_quantity().min(self.capacity(side, price, floor));
        if !quantity.is_zero() {
            let house = self.house_order(side.opposite(), price, quantity, floor, events);
            let slot = self.book.admit(&house.order, house.trader);
            self.book.queue_at(slot, Ladder::of(side.opposite()), price);
            self.counters.aggregate += 1;
            self.trade(taker, slot, price, floor, events);
            self.count_position(side, quantity);
        }
        if taker.order.open_quantity().is_zero() { Stopped::Done } else { Stopped::BookEmpty }
    }

    /// The house's price may reach orders that rest: they are filled, best price first, then oldest, as far as the house can.
    fn fill_waiting(&mut self, side: Side, floor: &mut Floor, events: &mut Vec<Event>) {
        let Some(price) = self.opposite_best(side) else { return };
        let mut left = self.means(side, price, floor);
        let mut fills: Vec<(Slot, Price, Quantity)> = Vec::new();
        let levels = self.book.levels(Ladder::of(side)).take_while(|level| reaches(side, level.price, price));
        for (limit, slot) in levels.flat_map(|level| self.book.queue(level).map(|slot| (level.price, slot))) {
            if left.is_zero() {
                break;
            }
            if self.fits_all(slot, price) {
                let quantity = self.book.open(slot).min(left);
                left = left.minus(quantity);
                fills.push((slot, limit, quantity));
            }
        }
        let total = Quantity(fills.iter().map(|&(_, _, quantity)| quantity.0).sum());
        if total.is_zero() {
            return;
        }
        let mut house = self.house_order(side.opposite(), price, total, floor, events);
        self.counters.aggregate += 1;
        for (slot, limit, quantity) in fills {
            let from = self.book.traders.at(self.book.trader_of(slot)).quote;
            self.trade(&mut house, slot, price, floor, events);
            if side == Side::Buy && price < limit {
                let worth = |price| Notional::of(price, quantity).expect("checked when the order was accepted");
                let better = self.symbol.scale.quote_amount(worth(limit).minus(worth(price)));
                floor.accounts.release(from, better);
            }
        }
        self.count_position(side, total);
    }

    /// Whether all of an order that rests can be worth so much; one that cannot goes on waiting.
    fn fits_all(&self, slot: Slot, price: Price) -> bool {
        let before = self.book.note(slot).map_or(Notional::ZERO, |note| note.cumulative);
        Notional::of(price, self.book.open(slot)).and_then(|worth| worth.checked_add(before)).is_some()
    }

    /// An order of the house that will be filled whole, with what it holds for that.
    fn house_order(
        &mut self,
        side: Side,
        price: Price,
        quantity: Quantity,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) -> Taker {
        let desk = self.desk.as_ref().expect("the symbol is quote-driven");
        let uid = desk.terms.house;
        let config = &self.symbol.config;
        let trader: TraderIndex = self.book.traders.enter(uid, config.base, config.quote, &mut floor.accounts);
        let order = Order {
            order_id: OrderId(0),
            symbol: self.symbol.id,
            uid,
            client_order_id: ClientOrderId::new("house").expect("a name"),
            side,
            order_type: OrderType::Limit,
            time_in_force: TimeInForce::Ioc,
            self_trade_prevention: SelfTradePrevention::None,
            price,
            quantity,
            quote_order_quantity: Amount::ZERO,
            executed: Quantity::ZERO,
            cumulative_quote: Amount::ZERO,
            status: OrderStatus::New,
            created_at: floor.now,
            updated_at: floor.now,
            special: None,
        };
        let mut house = Taker { order, trader, slot: None, ends: None };
        let needed = self.need(side, price, quantity);
        self.hold(&house, needed, floor).expect("the house has what it trades");
        self.accept(&mut house, floor, events);
        house
    }

    /// The house traded so much against orders of that side.
    fn count_position(&mut self, side: Side, quantity: Quantity) {
        let base = self.symbol.scale.base_amount(quantity).0 as i128;
        let desk = self.desk.as_mut().expect("the symbol is quote-driven");
        desk.position += if side == Side::Buy { -base } else { base };
    }

    /// Say what depth shows of the house, where that is another than before.
    pub(crate) fn show_quote(&mut self, floor: &Floor, events: &mut Vec<Event>) {
        let Some(desk) = &self.desk else { return };
        let before = desk.shown;
        let now = [Side::Buy, Side::Sell].map(|side| {
            let price = desk.price(side.opposite())?;
            let quantity = self.capacity(side.opposite(), price, floor);
            (!quantity.is_zero()).then_some((price, quantity))
        });
        for ((side, before), now) in [Side::Buy, Side::Sell].into_iter().zip(before).zip(now) {
            if let Some((price, _)) = before.filter(|(price, _)| now.is_none_or(|(at, _)| at != *price)) {
                self.tell_level(side, price, Quantity::ZERO, events);
            }
            if let Some((price, quantity)) = now.filter(|_| now != before) {
                self.tell_level(side, price, quantity, events);
            }
        }
        self.desk.as_mut().expect("it is there").shown = now;
    }
}
