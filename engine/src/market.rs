//! One symbol with all that happens in it, and what all symbols share.

use std::collections::VecDeque;

use crate::account::{Accounts, FEE_ACCOUNT};
use crate::average::AveragePrice;
use crate::book::{Book, Ladder, Slot};
use crate::breaker::Breaker;
use crate::command::ExchangeLimits;
use crate::commission::Desk;
use crate::event::{Event, Rejection, emit};
use crate::gate::Gate;
use crate::order::Side;
use crate::order_list::{Lists, OrderEnd};
use crate::quotes::QuoteDesk;
use crate::symbol::Symbol;
use crate::trader::Opening;
use crate::trigger::Trackers;
use crate::units::{Amount, Notional, OrderId, OrderListId, Price, Quantity, Time, Uid};

/// What all symbols share, and the time of the command.
#[derive(Clone, Debug, Default)]
pub struct Floor {
    /// The time of the command.
    pub now: Time,
    /// All money.
    pub accounts: Accounts,
    /// What commissions go by besides the symbol.
    pub desk: Desk,
    /// The limits over all symbols.
    pub limits: ExchangeLimits,
    /// What the account of the command has open in other symbols; counted only where such limits hold.
    pub elsewhere: Opening,
    /// The lists it has open there.
    pub elsewhere_lists: u32,
    /// Whether the exchange is so large that looking ahead pays (foresight.rs).
    pub(crate) is_large: bool,
}

/// The last numbers given in a symbol; zero before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// Of orders.
    pub order: u64,
    /// Of trades.
    pub trade: u64,
    /// Of aggregate trades.
    pub aggregate: u64,
    /// Of changes of a level.
    pub update: u64,
    /// Of order lists.
    pub order_list: u64,
    /// Of prevented matches.
    pub prevented_match: u64,
}

impl Counters {
    /// Whether they are far from the highest number there is.
    pub fn are_sound(self) -> bool {
        let Counters { order, trade, aggregate, update, order_list, prevented_match } = self;
        [order, trade, aggregate, update, order_list, prevented_match].into_iter().all(|last| last < 1 << 60)
    }
}

/// One symbol.
#[derive(Clone, Debug)]
pub struct Market {
    /// What it is.
    pub symbol: Symbol,
    /// Its open orders.
    pub book: Book,
    /// Its last numbers.
    pub counters: Counters,
    /// The price of the last trade.
    pub last_price: Option<Price>,
    /// What an operator said it is worth.
    pub reference_price: Option<Price>,
    /// What its trades of the last minutes say it is worth.
    pub average: AveragePrice,
    /// The stops that follow the price.
    pub trackers: Trackers,
    /// The lists that are under way.
    pub lists: Lists,
    /// What halts it.
    pub breaker: Breaker,
    /// What the walk under way did to lists, in order.
    pub effects: Vec<Effect>,
    /// What is still to be done for this command.
    pub tasks: VecDeque<Task>,
    /// The first and last price of each walk of this command.
    pub walks: Vec<(Price, Price)>,
    /// What its filters ask of a plain order.
    pub(crate) gate: Gate,
    /// What makes it quote-driven.
    pub(crate) desk: Option<Box<QuoteDesk>>,
}

/// Something that happened to an order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Which list.
    pub list: OrderListId,
    /// Which of its orders.
    pub order_id: OrderId,
    /// What happened.
    pub end: OrderEnd,
}

/// Something that a walk set off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A stop whose price came.
    Trigger(OrderId),
    /// The pending orders of a list whose working order is filled.
    PlacePending(OrderListId),
}

impl Floor {
    /// The account exists and is not the one that receives the fees.
    pub fn trader(&self, uid: Uid) -> Result<(), Rejection> {
        let open = uid != FEE_ACCOUNT && self.accounts.is_open(uid);
        open.then_some(()).ok_or(Rejection::UnknownAccount)
    }

    /// Two orders may have had their first fill: their owners have fewer unfilled ones.
    pub fn count_first_fills(&mut self, taker: Option<Uid>, maker: Option<Uid>) {
        let Floor { now, accounts, limits, .. } = self;
        for (uid, decrement) in [(taker, limits.taker_fill_decrement), (maker, limits.maker_fill_decrement)] {
            if let Some(uid) = uid {
                accounts.count_orders(uid, limits, *now, -i64::from(decrement));
            }
        }
    }
}

impl Market {
    /// A market without orders.
    pub fn new(symbol: Symbol) -> Market {
        Market {
            book: Book::new(symbol.id, symbol.scale),
            gate: Gate::new(&symbol),
            symbol,
            counters: Counters::default(),
            last_price: None,
            reference_price: None,
            average: AveragePrice::default(),
            trackers: Trackers::default(),
            lists: Lists::default(),
            breaker: Breaker::default(),
            effects: Vec::new(),
            tasks: VecDeque::new(),
            walks: Vec::new(),
            desk: None,
        }
    }

    /// What the symbol is worth, for filters and the price range: what an operator said, else the average of the last
    /// minutes, else the last price.
    #[inline]
    pub fn reference(&mut self, now: Time) -> Option<Price> {
        if self.reference_price.is_some() {
            return self.reference_price;
        }
        let average = match self.symbol.config.average_price_minutes {
            0 => None,
            minutes => self.average.price(now, minutes),
        };
        average.or(self.last_price)
    }

    /// The symbol is configured so from now on.
    pub fn configure(&mut self, symbol: Symbol) {
        self.gate = Gate::new(&symbol);
        self.symbol = symbol;
    }

    /// The price of the next trade, if a taker of that side came.
    #[inline]
    pub fn opposite_best(&self, side: Side) -> Option<Price> {
        match &self.desk {
            None => self.book.best_price(Ladder::of(side.opposite())),
            Some(desk) => desk.price(side),
        }
    }

    /// Whether an order on `side` at `price` would trade at once.
    #[inline]
    pub fn crosses(&self, side: Side, price: Price) -> bool {
        self.opposite_best(side).is_some_and(|best| reaches(side, price, best))
    }

    /// Say what a price level holds now.
    #[inline]
    pub fn report_level(&mut self, side: Side, price: Price, events: &mut Vec<Event>) {
        let quantity = self.book.shown_at(Ladder::of(side), price);
        self.report_level_at(side, price, quantity, events);
    }

    /// The same where that is known. Of a quote-driven symbol the orders that rest are not shown.
    #[inline]
    pub fn report_level_at(&mut self, side: Side, price: Price, quantity: Quantity, events: &mut Vec<Event>) {
        if self.desk.is_none() {
            self.tell_level(side, price, quantity, events);
        }
    }

    /// A level is this now.
    #[inline]
    pub(crate) fn tell_level(&mut self, side: Side, price: Price, quantity: Quantity, events: &mut Vec<Event>) {
        self.counters.update += 1;
        let (symbol, update_id) = (self.symbol.id, self.counters.update);
        emit(events, || Event::LevelChanged { symbol, side, price, quantity, update_id });
    }

    /// What so much of an order with a price holds: a buyer the quote (and the fee by lot), a seller the base.
    #[inline]
    pub fn need(&self, side: Side, price: Price, open: Quantity) -> Amount {
        match side {
            Side::Sell => self.symbol.scale.base_amount(open),
            Side::Buy => {
                let notional = Notional::of(price, open).expect("checked when the order was accepted");
                self.symbol.scale.quote_amount(notional).plus(self.lot_fee(open))
            }
        }
    }

    /// The most that a fee by lot comes to.
    #[inline]
    pub fn lot_fee(&self, quantity: Quantity) -> Amount {
        match self.symbol.config.commission.by_lot {
            None => Amount::ZERO,
            Some(fee) => fee.most(quantity).expect("checked when the order was accepted"),
        }
    }

    /// What an open order holds by itself.
    pub fn held(&self, slot: Slot) -> Amount {
        let (side, order_type) = (self.book.side(slot), self.book.order_type(slot));
        match self.book.note(slot) {
            Some(note) if note.pending => Amount::ZERO,
            Some(note) if side == Side::Buy && order_type.is_market() => note.held,
            _ => self.need(side, self.book.price(slot), self.book.open(slot)),
        }
    }
}

/// Whether an order of `side` with a limit may trade at a price.
#[inline]
pub fn reaches(side: Side, limit: Price, price: Price) -> bool {
    match side {
        Side::Buy => price <= limit,
        Side::Sell => price >= limit,
    }
}
