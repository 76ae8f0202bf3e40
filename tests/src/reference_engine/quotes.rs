//! Quote-driven symbols: every trade is with the house, at the price that it has just then.

use engine::Rejection;
use engine::command::{Command, Placing, QuoteTerms, ReferenceQuote};
use engine::event::{Event, HouseQuote};
use engine::order::{ClientOrderId, Order, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce};
use engine::symbol::SymbolStatus;
use engine::units::{Amount, OrderId, Price, Quantity, SymbolId, Time, Uid};

use super::ReferenceEngine;
use super::book::{Market, Open, Place, Plan, Step, What, reaches};
use super::checks::require;
use super::walk::Walk;

/// What a quote-driven symbol has besides its orders.
#[derive(Clone)]
pub struct Desk {
    pub terms: QuoteTerms,
    /// What the house buys and sells at, since when, and when that was said outside.
    pub quote: Option<(Option<Price>, Price, Time, Time)>,
    /// What the house bought less what it sold.
    pub position: i128,
    /// What depth shows of its bid and its ask.
    pub shown: [Option<(Price, u64)>; 2],
    /// Base and quote that the house has free just now, for who plans with it.
    pub free: [u128; 2],
    /// The time of the command, likewise.
    pub now: Time,
}

impl Desk {
    /// What an order of `side` trades at, while the price holds.
    pub fn price(&self, side: Side) -> Option<Price> {
        let (bid, ask, at, _) = self.quote?;
        let holds = self.now.0 < at.0 + self.terms.stale_after_ms * 1_000;
        let price = if side == Side::Buy { Some(ask) } else { bid };
        price.filter(|_| holds)
    }
}

impl Market {
    /// The lots that the house could trade with orders of `side` at its price.
    pub fn house_means(&self, side: Side, price: Price) -> u64 {
        let desk = self.desk.as_ref().expect("it has a house");
        let limit = desk.terms.max_exposure.0 as i128;
        let room = if side == Side::Buy { desk.position + limit } else { limit - desk.position };
        let by_exposure = room.max(0) as u128 / self.base(1);
        let by_funds = match side {
            Side::Buy => desk.free[0] / self.base(1),
            Side::Sell => desk.free[1] / self.worth_of_lot(price, Side::Buy, true),
        };
        let by_worth = u128::from(u64::MAX / price.0);
        by_exposure.min(by_funds).min(by_worth) as u64
    }

    /// The lots that it trades with a new order: none where others wait for the same.
    pub fn house_lots(&self, side: Side, price: Price) -> u64 {
        let waits = self.in_book(side).any(|open| reaches(side, open.order.price, price));
        if waits || self.symbol.status != SymbolStatus::Trading { 0 } else { self.house_means(side, price) }
    }
}

impl ReferenceEngine {
    pub(super) fn set_quote_driven(&mut self, symbol: SymbolId, terms: Option<QuoteTerms>) -> Result<(), Rejection> {
        let market = self.market(symbol)?;
        if let Some(terms) = terms {
            self.check_trading_account(terms.house)?;
            let sound = terms.spread.0 < 100_000_000
                && terms.stale_after_ms >= 1
                && terms.stale_after_ms <= 86_400_000
                && terms.max_exposure.0 >= 1
                && terms.max_exposure.0 <= 1 << 120;
            require(sound, Rejection::InvalidConfiguration)?;
            require(!market.orders.values().any(|open| open.order.uid == terms.house), Rejection::OpenOrders)?;
        }
        let stays = terms.is_some() == market.desk.is_some();
        require(stays || market.orders.is_empty(), Rejection::OpenOrders)?;
        self.events.push(Event::QuoteDrivenChanged { symbol, terms });
        let at = symbol.0 as usize;
        self.forget_quote(at);
        self.say_reference(at, None);
        let before = self.markets[at].desk.take();
        self.markets[at].desk = terms.map(|terms| Desk {
            terms,
            quote: None,
            position: before.filter(|before| before.terms.house == terms.house).map_or(0, |before| before.position),
            shown: [None; 2],
            free: [0; 2],
            now: self.now,
        });
        Ok(())
    }

    pub(super) fn quote(&mut self, asked: &ReferenceQuote) -> Result<(), Rejection> {
        let market = self.market(asked.symbol)?;
        let desk = market.desk.as_ref().ok_or(Rejection::NotQuoteDriven)?;
        let tick = market.symbol.config.tick_size.0;
        let (whole, spread) = (100_000_000, u128::from(desk.terms.spread.0));
        require(asked.bid.0 > 0 && asked.bid <= asked.ask && asked.outside_time.0 < 1 << 60, Rejection::InvalidQuote)?;
        let price = |ticks: u128| u64::try_from(ticks).map(Price).map_err(|_| Rejection::InvalidQuote);
        let below = asked.bid.0.checked_mul(whole - spread).ok_or(Rejection::InvalidQuote)?;
        let above = asked.ask.0.checked_mul(whole + spread).ok_or(Rejection::InvalidQuote)?;
        let bid = price(below / (whole * tick))?;
        let ask = price(above.div_ceil(whole * tick))?;
        let reference = price((asked.bid.0 + asked.ask.0) / 2 / tick)?;
        require(reference.0 > 0, Rejection::InvalidQuote)?;
        if let Some((_, _, _, outside)) = desk.quote.filter(|_| desk.price(Side::Buy).is_some()) {
            require(asked.outside_time >= outside, Rejection::QuoteOutdated)?;
        }
        let bid = Some(bid).filter(|bid| bid.0 > 0);
        let at = asked.symbol.0 as usize;
        let now = self.now;
        self.markets[at].desk.as_mut().expect("it has a house").quote = Some((bid, ask, now, asked.outside_time));
        self.events.push(Event::QuoteChanged(Box::new(HouseQuote {
            symbol: asked.symbol,
            bid,
            ask,
            source: asked.source,
            outside_time: asked.outside_time,
        })));
        self.say_reference(at, Some(reference));
        self.markets[at].last_price = Some(reference);
        if self.markets[at].symbol.status != SymbolStatus::Trading {
            return Ok(());
        }
        let mut walk = Walk::default();
        for side in [Side::Buy, Side::Sell] {
            self.fill_waiting(at, side, &mut walk);
        }
        self.after_walk(at, Some((reference, reference)), walk.effects);
        Ok(())
    }

    /// Those that rest and are reached, best price first and then the oldest.
    fn fill_waiting(&mut self, at: usize, side: Side, walk: &mut Walk) {
        let market = &self.markets[at];
        let Some(price) = market.desk.as_ref().and_then(|desk| desk.price(side)) else { return };
        let mut left = market.house_means(side, price);
        let mut reached: Vec<&Open> =
            market.in_book(side).filter(|open| reaches(side, open.order.price, price)).collect();
        reached.sort_by_key(|open| {
            let Place::Book { ticket, .. } = open.place else { unreachable!("they rest") };
            let limit = open.order.price.0;
            (if side == Side::Buy { u64::MAX - limit } else { limit }, ticket)
        });
        let mut steps = Vec::new();
        for open in reached {
            let before = market.notional_of(open.order.cumulative_quote);
            let worth = u128::from(price.0) * u128::from(open.open_lots());
            let quantity = open.open_lots().min(left);
            if quantity > 0 && worth + before <= u128::from(u64::MAX) {
                left -= quantity;
                steps.push(Step { maker: open.order.order_id.0, price, quantity, what: What::Trade });
            }
        }
        let total = steps.iter().map(|step| step.quantity).sum();
        if total == 0 {
            return;
        }
        let mut house = self.house_order(at, side.opposite(), price, total);
        walk.aggregate_at = None;
        let id = house.order.order_id.0;
        for step in &steps {
            self.trade(at, &mut house, step, false, walk);
        }
        assert_eq!((house.order.status, house.held), (OrderStatus::Filled, 0), "order {id} of the house is filled");
        self.count_position(at, side, total);
        // What its price reaches is not what its trades did.
        walk.prices = None;
    }

    /// The plan of a new order in a symbol with a house is one trade with it: here is its order.
    pub(super) fn give_house(&mut self, at: usize, taker: &Open, plan: &mut Plan) {
        let [step] = &mut plan.steps[..] else { return };
        if self.markets[at].desk.is_none() {
            return;
        }
        let mut house = self.house_order(at, taker.order.side.opposite(), step.price, step.quantity);
        house.rest(self.markets[at].next_ticket());
        step.maker = house.order.order_id.0;
        self.markets[at].orders.insert(step.maker, house);
    }

    /// An order of the house that will be filled whole.
    pub(super) fn house_order(&mut self, at: usize, side: Side, price: Price, lots: u64) -> Open {
        let market = &self.markets[at];
        let uid = market.desk.as_ref().expect("it has a house").terms.house;
        let held = self.hold_for(market, side, price, lots).expect("it fits");
        let asset = self.pays_in(at, side);
        self.lock(uid, asset, held);
        self.count_new_order(uid);
        let market = &mut self.markets[at];
        market.last_order_id += 1;
        let order = Order {
            order_id: OrderId(market.last_order_id),
            symbol: market.symbol.id,
            uid,
            client_order_id: ClientOrderId::new("house").expect("a name"),
            side,
            order_type: OrderType::Limit,
            time_in_force: TimeInForce::Ioc,
            self_trade_prevention: SelfTradePrevention::None,
            price,
            quantity: Quantity(lots),
            quote_order_quantity: Amount(0),
            executed: Quantity(0),
            cumulative_quote: Amount(0),
            status: OrderStatus::New,
            created_at: self.now,
            updated_at: self.now,
            special: None,
        };
        self.events.push(Event::OrderAccepted(order.clone()));
        Open { order, place: Place::Taking, held, hold_price: Price(0) }
    }

    /// The house traded so many lots with orders of `side`.
    pub(super) fn count_position(&mut self, at: usize, side: Side, lots: u64) {
        let base = self.markets[at].base(lots) as i128;
        let desk = self.markets[at].desk.as_mut().expect("it has a house");
        desk.position += if side == Side::Buy { -base } else { base };
        self.look_at_houses();
    }

    /// What the houses have, for who plans with them.
    pub(super) fn look_at_houses(&mut self) {
        for at in 0..self.markets.len() {
            let Some(Uid(uid)) = self.markets[at].desk.as_ref().map(|desk| desk.terms.house) else { continue };
            let config = &self.markets[at].symbol.config;
            let free = [config.base, config.quote].map(|asset| self.balance(Uid(uid), asset).0);
            let desk = self.markets[at].desk.as_mut().expect("it has a house");
            (desk.free, desk.now) = (free, self.now);
        }
    }

    /// The prices that became too old by now, with when they did.
    pub(super) fn stale_symbols(&self) -> impl Iterator<Item = (Time, SymbolId)> {
        let stale = |market: &Market| {
            let desk = market.desk.as_ref()?;
            let (_, _, at, _) = desk.quote?;
            Some((Time(at.0 + desk.terms.stale_after_ms * 1_000), market.symbol.id))
        };
        self.markets.iter().filter_map(stale)
    }

    pub(super) fn become_stale(&mut self, at: usize) {
        self.events.push(Event::QuoteStale { symbol: self.markets[at].symbol.id });
        self.say_reference(at, None);
        self.forget_quote(at);
    }

    fn forget_quote(&mut self, at: usize) {
        if let Some(desk) = &mut self.markets[at].desk {
            desk.quote = None;
            self.show_house(at);
        }
    }

    fn say_reference(&mut self, at: usize, price: Option<Price>) {
        let market = &mut self.markets[at];
        if std::mem::replace(&mut market.operator_price, price) != price {
            self.events.push(Event::ReferencePriceChanged { symbol: market.symbol.id, price });
        }
    }

    /// After a command in a symbol with a house: what depth shows of it.
    pub(super) fn show_house_of(&mut self, command: &Command) {
        let symbol = match command {
            Command::PlaceOrder(place) => place.symbol,
            Command::PlaceOrderList(list) => list.symbol,
            Command::CancelOrder(cancel) => cancel.symbol,
            Command::CancelOrderList(cancel) => cancel.symbol,
            Command::CancelAllOrders { symbol, .. } | Command::ReduceOrder { symbol, .. } => *symbol,
            Command::CancelReplace(both) => both.place.symbol,
            Command::AmendOrder(amend) => amend.symbol,
            Command::ReplaceOrder(replace) => replace.symbol,
            Command::SetQuoteDriven { symbol, .. } => *symbol,
            Command::ReferenceQuote(quote) => quote.symbol,
            Command::Once(once) if self.first_result(once).is_none() => match &once.placing {
                Placing::Order(place) => place.symbol,
                Placing::OrderList(list) => list.symbol,
                Placing::CancelReplace(both) => both.place.symbol,
            },
            _ => return,
        };
        self.look_at_houses();
        self.show_house(symbol.0 as usize);
    }

    fn show_house(&mut self, at: usize) {
        for (index, side) in [Side::Buy, Side::Sell].into_iter().enumerate() {
            let market = &self.markets[at];
            let Some(desk) = &market.desk else { return };
            let before = desk.shown[index];
            let price = desk.price(side.opposite());
            let now =
                price.map(|price| (price, market.house_lots(side.opposite(), price))).filter(|(_, lots)| *lots > 0);
            if let Some((price, _)) = before.filter(|(price, _)| now.map(|(price, _)| price) != Some(*price)) {
                self.say_level(at, side, price, 0);
            }
            if let Some((price, lots)) = now.filter(|_| now != before) {
                self.say_level(at, side, price, lots);
            }
            self.markets[at].desk.as_mut().expect("it has a house").shown[index] = now;
        }
    }
}
