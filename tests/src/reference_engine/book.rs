//! What is open in one symbol, and what a taker would meet there.

use std::collections::BTreeMap;

use engine::command::{OrderListKind, PlaceOrder};
use engine::order::{ClientOrderId, Order, OrderType, Peg, PegPrice, SelfTradePrevention, Side};
use engine::symbol::{PriceRange, Symbol};
use engine::units::{Multiplier, Notional, Price, Time, TradeGroup, Uid};

use super::quotes::Desk;

/// One symbol with all that is open in it.
pub struct Market {
    pub symbol: Symbol,
    /// Every open order by its number: in the book, waiting for its price, or pending in a list.
    pub orders: BTreeMap<u64, Open>,
    /// The order that is walking the book just now: open, but not among `orders`.
    pub taking: Option<u64>,
    /// The open lists by their number.
    pub lists: BTreeMap<u64, List>,
    pub last_order_id: u64,
    pub last_list_id: u64,
    pub last_trade_id: u64,
    pub last_aggregate_id: u64,
    pub last_prevented_match_id: u64,
    pub last_update_id: u64,
    /// Who came to the end of a queue later has a higher one.
    pub last_ticket: u64,
    pub last_price: Option<Price>,
    /// What the operator says the symbol is worth.
    pub operator_price: Option<Price>,
    /// By second: the sum of price × quantity, and of quantity.
    pub traded: BTreeMap<u64, (u128, u128)>,
    /// The first and last prices of the walks that the circuit breaker looks at.
    pub recent: Vec<(Time, Price)>,
    /// When the circuit breaker's halt ends.
    pub resumes_at: Option<Time>,
    /// What makes it quote-driven.
    pub desk: Option<Desk>,
}

/// An open order.
#[derive(Clone, Debug)]
pub struct Open {
    pub order: Order,
    pub place: Place,
    /// What it holds by itself. The two legs of an OCO pair hold together; see [`List::pair_held`].
    pub held: u128,
    /// What a buying market stop holds for each lot, in ticks.
    pub hold_price: Price,
}

/// Where an open order is.
#[derive(Clone, Debug)]
pub enum Place {
    /// In the book, where it shows so many lots.
    Book { ticket: u64, shown: u64 },
    /// Not in the book before its price comes; `queued` once it has come.
    Waiting { queued: bool },
    /// Not placed before the working order of its list is filled; with what was asked.
    Pending(Box<PlaceOrder>),
    /// Walking the book.
    Taking,
}

/// An open list.
#[derive(Clone, Debug)]
pub struct List {
    pub list_id: u64,
    pub uid: Uid,
    pub name: ClientOrderId,
    pub kind: OrderListKind,
    pub orders: Vec<(u64, ClientOrderId)>,
    pub created_at: Time,
    /// What the two legs of an OCO pair hold together, while both are open.
    pub pair_held: Option<u128>,
    /// What the working order brought, if the pending orders sell it: locked base.
    pub proceeds: Option<u128>,
}

impl List {
    /// The order that must be filled before the others are placed.
    pub fn working(&self) -> Option<u64> {
        (self.kind != OrderListKind::OneCancelsOther).then(|| self.orders[0].0)
    }

    /// The orders of which one ends the other.
    pub fn pair(&self) -> Option<[u64; 2]> {
        match self.kind {
            OrderListKind::OneCancelsOther => Some([self.orders[0].0, self.orders[1].0]),
            OrderListKind::OneTriggersOther => None,
            OrderListKind::OneTriggersOneCancelsOther => Some([self.orders[1].0, self.orders[2].0]),
        }
    }

    /// The other order of the pair that this one is of.
    pub fn other_leg(&self, order_id: u64) -> Option<u64> {
        match self.pair()? {
            [a, b] if a == order_id => Some(b),
            [a, b] if b == order_id => Some(a),
            _ => None,
        }
    }
}

impl Open {
    pub fn open_lots(&self) -> u64 {
        self.order.open_quantity().0
    }

    pub fn iceberg(&self) -> Option<u64> {
        self.order.special.as_ref().and_then(|special| special.iceberg_quantity).map(|quantity| quantity.0)
    }

    /// Put it at the end of its level's queue, showing what it shows.
    pub fn rest(&mut self, ticket: u64) {
        let open = self.open_lots();
        self.place = Place::Book { ticket, shown: self.iceberg().map_or(open, |part| part.min(open)) };
    }

    pub fn in_book(&self) -> bool {
        matches!(self.place, Place::Book { .. })
    }
}

impl Market {
    pub fn new(symbol: Symbol) -> Market {
        Market {
            symbol,
            orders: BTreeMap::new(),
            taking: None,
            lists: BTreeMap::new(),
            last_order_id: 0,
            last_list_id: 0,
            last_trade_id: 0,
            last_aggregate_id: 0,
            last_prevented_match_id: 0,
            last_update_id: 0,
            last_ticket: 0,
            last_price: None,
            operator_price: None,
            traded: BTreeMap::new(),
            recent: Vec::new(),
            resumes_at: None,
            desk: None,
        }
    }

    /// The bids and the asks as they would trade, then by number the orders that wait.
    pub fn sorted_orders(&self) -> Vec<Order> {
        let mut orders = Vec::new();
        for side in [Side::Buy, Side::Sell] {
            let mut queue: Vec<Maker> = self.in_book(side).map(Maker::of).collect();
            queue.sort_by_key(|maker| maker.turn(side));
            orders.extend(queue.iter().map(|maker| self.orders[&maker.order_id].order.clone()));
        }
        orders.extend(self.orders.values().filter(|open| !open.in_book()).map(|open| open.order.clone()));
        orders
    }

    pub fn next_ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// Whether an order is still open.
    pub fn is_open(&self, order_id: u64) -> bool {
        self.orders.contains_key(&order_id) || self.taking == Some(order_id)
    }

    pub fn in_book(&self, side: Side) -> impl Iterator<Item = &Open> {
        self.orders.values().filter(move |open| open.order.side == side && open.in_book())
    }

    /// The prices that have orders, the best first.
    pub fn levels(&self, side: Side) -> Vec<Price> {
        let mut prices: Vec<Price> = self.in_book(side).map(|open| open.order.price).collect();
        prices.sort();
        prices.dedup();
        if side == Side::Buy {
            prices.reverse();
        }
        prices
    }

    pub fn best(&self, side: Side) -> Option<Price> {
        if let Some(desk) = &self.desk {
            return desk.price(side.opposite());
        }
        let prices = self.in_book(side).map(|open| open.order.price);
        if side == Side::Buy { prices.max() } else { prices.min() }
    }

    /// What a level shows.
    pub fn shown_at(&self, side: Side, price: Price) -> u64 {
        let shown = |open: &Open| match open.place {
            Place::Book { shown, .. } if open.order.price == price => shown,
            _ => 0,
        };
        self.in_book(side).map(shown).sum()
    }

    /// What a level has, shown or not.
    pub fn open_at(&self, side: Side, price: Price) -> u128 {
        self.in_book(side).filter(|open| open.order.price == price).map(|open| u128::from(open.open_lots())).sum()
    }

    /// Whether an order of `side` at `price` would meet the best of the other side.
    pub fn crosses(&self, side: Side, price: Price) -> bool {
        self.best(side.opposite()).is_some_and(|best| reaches(side, price, best))
    }

    pub fn peg_price(&self, side: Side, peg: Peg) -> Option<Price> {
        let from = match peg.price {
            PegPrice::Primary => side,
            PegPrice::Market => side.opposite(),
        };
        self.levels(from).get(usize::from(peg.offset)).copied()
    }

    /// What the symbol is worth: the operator's word, else the average, else the last price.
    pub fn reference_price(&self, now: Time) -> Option<Price> {
        if self.operator_price.is_some() {
            return self.operator_price;
        }
        let window = i128::from(self.symbol.config.average_price_minutes) * 60;
        let after = i128::from(now.0 / 1_000_000) - window;
        let (mut notional, mut quantity) = (0u128, 0);
        if window > 0 {
            for (_, (worth, lots)) in self.traded.iter().filter(|(second, _)| i128::from(**second) > after) {
                notional += worth;
                quantity += lots;
            }
        }
        let average = notional.checked_div(quantity);
        average.map(|average| Price(u64::try_from(average).expect("an average of prices"))).or(self.last_price)
    }

    /// What a taker of `side` would do, step by step, and how it would end.
    pub fn plan(&self, taker: &Taker, groups: &BTreeMap<Uid, TradeGroup>, now: Time) -> Plan {
        let mut plan = self.walk(taker, groups, now);
        // The quantity of an order by quote is what it trades and loses here: with that it is done, and meets nobody more.
        if matches!(taker.size, Size::Budget { .. }) {
            let takes = |step: &Step| !matches!(step.what, What::Prevent { of_taker: 0, .. });
            let length = plan.steps.iter().rposition(takes).map_or(0, |last| last + 1);
            plan.steps.truncate(length);
        }
        plan
    }

    fn walk(&self, taker: &Taker, groups: &BTreeMap<Uid, TradeGroup>, now: Time) -> Plan {
        let reference = self.reference_price(now);
        let mut queue: Vec<Maker> = match &self.desk {
            Some(desk) => Maker::of_house(self, desk, taker.side).into_iter().collect(),
            None => self.in_book(taker.side.opposite()).map(Maker::of).collect(),
        };
        queue.retain(|maker| taker.limit.is_none_or(|limit| reaches(taker.side, limit, maker.price)));
        let mut next_ticket = u64::MAX / 2;
        let mut plan = Plan { steps: Vec::new(), end: End::Filled };
        let mut size = taker.size;
        loop {
            if size.is_used_up() {
                return Plan { end: End::Filled, ..plan };
            }
            let rest = queue.iter_mut().filter(|maker| maker.open > 0);
            let Some(maker) = rest.min_by_key(|maker| maker.turn(taker.side.opposite())) else {
                return Plan { end: End::BookEmpty, ..plan };
            };
            let open = size.lots(maker.price, self, taker.side);
            if open == 0 {
                return Plan { end: End::Unaffordable, ..plan };
            }
            let ranged = self.desk.is_none();
            if ranged && !in_range(self.symbol.config.execution_range, taker.side, maker.price, reference) {
                return Plan { end: End::OutOfRange, ..plan };
            }
            let both = open.min(maker.shown);
            let relation = taker.relation(maker, groups).filter(|_| self.desk.is_none());
            let (quantity, what) = match relation {
                None => (both, What::Trade),
                Some((mode, group)) => {
                    let (of_taker, of_maker) = match mode {
                        SelfTradePrevention::ExpireTaker => (open, 0),
                        SelfTradePrevention::ExpireMaker => (0, maker.open),
                        SelfTradePrevention::ExpireBoth => (open, maker.open),
                        _ => (both, both),
                    };
                    (both, What::Prevent { mode, group, of_taker, of_maker })
                }
            };
            plan.steps.push(Step { maker: maker.order_id, price: maker.price, quantity, what });
            let (of_taker, of_maker, ends) = match what {
                What::Trade => (both, both, false),
                What::Prevent { mode, of_taker, of_maker, .. } => {
                    let ends = matches!(mode, SelfTradePrevention::ExpireTaker | SelfTradePrevention::ExpireBoth);
                    (of_taker, of_maker, ends)
                }
            };
            if ends {
                return Plan { end: End::Prevented, ..plan };
            }
            let cost = match what {
                What::Trade => self.worth_of_lot(maker.price, taker.side, true),
                What::Prevent { mode: SelfTradePrevention::Transfer, .. } => {
                    self.worth_of_lot(maker.price, taker.side, false)
                }
                What::Prevent { .. } => 0,
            };
            size.use_up(of_taker, cost);
            // An order by quote has no quantity but what it may still trade here: where a maker has more, it is done.
            if of_maker < maker.shown && matches!(size, Size::Budget { .. }) {
                return Plan { end: End::Unaffordable, ..plan };
            }
            maker.take(of_maker, &mut next_ticket);
        }
    }

    /// What one lot costs or brings a taker in smallest quote units; a buyer's fee by lot comes on top.
    pub fn worth_of_lot(&self, price: Price, side: Side, with_fee: bool) -> u128 {
        let fee = match self.symbol.config.commission.by_lot {
            Some(fee) if with_fee && side == Side::Buy => fee.taker.0,
            _ => 0,
        };
        self.symbol.scale.quote_amount(Notional(price.0)).0.saturating_add(fee)
    }
}

/// Whether an order of `side` with the limit `price` may trade at `other`.
pub fn reaches(side: Side, price: Price, other: Price) -> bool {
    match side {
        Side::Buy => other <= price,
        Side::Sell => other >= price,
    }
}

/// Whether a price is within the range around the reference.
pub fn in_range(range: Option<PriceRange>, side: Side, price: Price, reference: Option<Price>) -> bool {
    let (Some(range), Some(reference)) = (range, reference) else { return true };
    let (up, down) = match side {
        Side::Buy => (range.bid_up, range.bid_down),
        Side::Sell => (range.ask_up, range.ask_down),
    };
    let holds = |multiplier: Multiplier| multiplier.0 > 0;
    (!holds(up) || price <= up.of(reference)) && (!holds(down) || price >= down.of_rounded_up(reference))
}

/// Who comes to the book.
#[derive(Clone, Copy)]
pub struct Taker {
    pub uid: Uid,
    pub side: Side,
    /// None takes any price.
    pub limit: Option<Price>,
    pub mode: SelfTradePrevention,
    pub size: Size,
}

/// How much a taker wants.
#[derive(Clone, Copy)]
pub enum Size {
    Lots(u64),
    /// As many lots as so much quote buys or raises, at most `most`.
    Budget {
        quote: u128,
        most: u64,
    },
}

/// What a taker does.
pub struct Plan {
    pub steps: Vec<Step>,
    pub end: End,
}

#[derive(Clone, Copy)]
pub struct Step {
    pub maker: u64,
    pub price: Price,
    pub quantity: u64,
    pub what: What,
}

#[derive(Clone, Copy, PartialEq)]
pub enum What {
    Trade,
    Prevent { mode: SelfTradePrevention, group: Option<TradeGroup>, of_taker: u64, of_maker: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// Nothing of it is left.
    Filled,
    /// Nothing in reach is left.
    BookEmpty,
    /// The next price is out of the execution range.
    OutOfRange,
    /// The quote amount does not pay for another lot.
    Unaffordable,
    /// Self-trade prevention ended the taker.
    Prevented,
}

impl Step {
    /// Whether the maker has less after it.
    pub fn touches_maker(&self) -> bool {
        !matches!(self.what, What::Prevent { of_maker: 0, .. })
    }
}

impl Plan {
    /// The lots that would trade.
    pub fn traded(&self) -> u64 {
        self.steps.iter().filter(|step| step.what == What::Trade).map(|step| step.quantity).sum()
    }

    /// The lots that self-trade prevention would take off the taker.
    pub fn prevented(&self) -> u64 {
        let of_taker = |step: &Step| match step.what {
            What::Trade => 0,
            What::Prevent { of_taker, .. } => of_taker,
        };
        self.steps.iter().map(of_taker).sum()
    }

    /// What changes hands, in ticks × lots.
    pub fn notional(&self) -> u128 {
        let paid =
            |step: &&Step| matches!(step.what, What::Trade | What::Prevent { mode: SelfTradePrevention::Transfer, .. });
        self.steps.iter().filter(paid).map(|step| u128::from(step.price.0) * u128::from(step.quantity)).sum()
    }
}

impl Size {
    fn is_used_up(&self) -> bool {
        match *self {
            Size::Lots(lots) => lots == 0,
            Size::Budget { quote, most } => quote == 0 || most == 0,
        }
    }

    fn lots(&self, price: Price, market: &Market, side: Side) -> u64 {
        match *self {
            Size::Lots(lots) => lots,
            Size::Budget { quote, most } => {
                let affordable = quote / market.worth_of_lot(price, side, true);
                u64::try_from(affordable).unwrap_or(u64::MAX).min(most)
            }
        }
    }

    fn use_up(&mut self, used: u64, cost_of_lot: u128) {
        match self {
            Size::Lots(lots) => *lots -= used,
            Size::Budget { quote, most } => {
                *quote -= cost_of_lot * u128::from(used);
                *most -= used;
            }
        }
    }
}

/// A resting order, as far as a plan is concerned.
struct Maker {
    order_id: u64,
    uid: Uid,
    mode: SelfTradePrevention,
    price: Price,
    ticket: u64,
    shown: u64,
    open: u64,
    iceberg: Option<u64>,
}

impl Maker {
    /// The house of a quote-driven symbol, as one maker of as much as it trades.
    fn of_house(market: &Market, desk: &Desk, side: Side) -> Option<Maker> {
        let price = desk.price(side)?;
        let lots = market.house_lots(side, price);
        (lots > 0).then_some(Maker {
            order_id: 0,
            uid: desk.terms.house,
            mode: SelfTradePrevention::None,
            price,
            ticket: 0,
            shown: lots,
            open: lots,
            iceberg: None,
        })
    }

    fn of(open: &Open) -> Maker {
        let Place::Book { ticket, shown } = open.place else { unreachable!("only the book is planned with") };
        Maker {
            order_id: open.order.order_id.0,
            uid: open.order.uid,
            mode: open.order.self_trade_prevention,
            price: open.order.price,
            ticket,
            shown,
            open: open.open_lots(),
            iceberg: open.iceberg(),
        }
    }

    /// Who has the lowest turn trades first: the best price, and at one price who came first.
    fn turn(&self, side: Side) -> (u64, u64) {
        (if side == Side::Sell { self.price.0 } else { u64::MAX - self.price.0 }, self.ticket)
    }

    /// It loses so many lots; an iceberg that shows nothing any more goes to the end of the queue with its next part.
    fn take(&mut self, lots: u64, next_ticket: &mut u64) {
        self.open -= lots;
        self.shown = self.shown.saturating_sub(lots);
        if self.shown == 0 {
            self.shown = self.iceberg.map_or(self.open, |part| part.min(self.open));
            *next_ticket += 1;
            self.ticket = *next_ticket;
        }
    }
}

impl Taker {
    /// Why the two must not trade, and what happens instead; `None` when they may.
    fn relation(
        &self,
        maker: &Maker,
        groups: &BTreeMap<Uid, TradeGroup>,
    ) -> Option<(SelfTradePrevention, Option<TradeGroup>)> {
        let shared = groups.get(&self.uid).filter(|group| groups.get(&maker.uid) == Some(*group)).copied();
        let same = self.uid == maker.uid;
        if self.mode == SelfTradePrevention::None || !(same || shared.is_some()) {
            return None;
        }
        let transfers = maker.mode == SelfTradePrevention::Transfer && !same;
        let mode = match self.mode {
            SelfTradePrevention::Transfer if !transfers => SelfTradePrevention::Decrement,
            mode => mode,
        };
        Some((mode, shared))
    }
}

/// Whether a stop is met from below.
pub fn is_rising(order_type: OrderType, side: Side) -> bool {
    match order_type {
        OrderType::StopLoss | OrderType::StopLossLimit => side == Side::Buy,
        _ => side == Side::Sell,
    }
}
