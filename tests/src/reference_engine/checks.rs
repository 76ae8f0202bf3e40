//! All that a new order must pass, in the order in which it is said.

use engine::command::{OrderQuantity, PlaceOrder, SpecialTerms};
use engine::order::{OrderType, Peg, PegPrice, SelfTradePrevention, Side, TimeInForce};
use engine::symbol::{SymbolConfig, SymbolStatus};
use engine::units::{Amount, Price, Uid};
use engine::{Rejection, SymbolId};

use super::ReferenceEngine;
use super::book::{End, Market, Plan, Size, Taker, in_range, is_rising};

/// Where an order is when it is checked.
#[derive(Clone, Copy, PartialEq)]
pub enum Occasion {
    /// It comes to the book, or begins to wait for its price, if all checks pass.
    Now,
    /// It is of a list, and waits for another order to be filled.
    Pending,
    /// It was pending and is placed now: the names and numbers were checked before.
    Placed,
    /// It is the new order of a cancel-replace, before the cancel.
    BeforeCancel { limited_is_fine: bool },
}

/// How many orders come at once.
#[derive(Clone, Copy, PartialEq)]
pub struct ListCounts {
    pub orders: u32,
    pub stops: u32,
    pub icebergs: u32,
}

/// What a new order comes to.
pub struct Terms {
    pub price: Price,
    pub stop_price: Option<Price>,
    pub lots: u64,
    pub iceberg: Option<u64>,
    pub mode: SelfTradePrevention,
    pub quote_order_quantity: u128,
    /// What a buying market stop holds for each lot.
    pub hold_price: Price,
    pub size: Size,
    pub hold: u128,
}

impl ReferenceEngine {
    pub(super) fn check_trader(&self, uid: Uid, symbol: SymbolId) -> Result<(), Rejection> {
        let market = self.market(symbol)?;
        let account = self.accounts.get(&uid).filter(|_| uid.0 != 0).ok_or(Rejection::UnknownAccount)?;
        require(account.settings.can_trade, Rejection::AccountDisabled)?;
        require(market.symbol.status == SymbolStatus::Trading, Rejection::MarketClosed)?;
        let is_house = market.desk.as_ref().is_some_and(|desk| desk.terms.house == uid);
        require(!is_house, Rejection::AccountDisabled)
    }

    /// What can be checked of an order before it is known what else comes with it: its shape, and the filters on its
    /// own numbers.
    pub(super) fn check_terms(&self, place: &PlaceOrder, occasion: Occasion, coming: u32) -> Result<Terms, Rejection> {
        let market = self.market(place.symbol)?;
        let config = &market.symbol.config;
        let special = special_of(place);
        let is_pending = occasion == Occasion::Pending;
        require(is_well_shaped(place, &special, is_pending), Rejection::InvalidCombination)?;
        let is_counted = !matches!(occasion, Occasion::Placed | Occasion::BeforeCancel { limited_is_fine: true });
        require(!(is_counted && self.is_too_many(place.uid, coming)), Rejection::TooManyOrders)?;

        let mode = place.self_trade_prevention.unwrap_or(config.default_self_trade_prevention);
        if occasion != Occasion::Placed {
            let must = self.accounts[&place.uid].settings.require_self_trade_prevention;
            let allowed = config.allowed_self_trade_prevention.contains(&mode);
            let right = allowed && !(must && mode == SelfTradePrevention::None);
            require(right, Rejection::SelfTradePreventionNotAllowed)?;
        }

        let mut lots = 0;
        if let OrderQuantity::Base(quantity) = place.quantity {
            require(quantity.0 > 0, Rejection::ZeroQuantity)?;
            lots = check_lots(market, quantity)?;
            if place.order_type.is_market() {
                let (min, max) = (config.market_min_quantity.0, config.market_max_quantity.0);
                require(is_within(quantity.0, min, max), Rejection::MarketLotSize)?;
            }
        }
        // What a pending order said of prices and parts was checked when it was accepted.
        let again = occasion == Occasion::Placed;
        if market.desk.is_some() {
            require(special.iceberg_quantity.is_none(), Rejection::IcebergNotSupported)?;
            require(special.peg.is_none(), Rejection::PegNotSupported)?;
        }
        let mut iceberg = None;
        if let Some(part) = special.iceberg_quantity {
            let part_lots = if again { lots_of(market, part)? } else { check_lots(market, part)? };
            if !again {
                require(part_lots <= lots, Rejection::IcebergExceedsQuantity)?;
                let most = if config.iceberg_parts > 0 { config.iceberg_parts } else { ICEBERG_PARTS_MAX };
                let few = lots.div_ceil(part_lots) <= u64::from(most);
                require(few, Rejection::IcebergParts)?;
            }
            iceberg = Some(part_lots);
        }
        let check_price = if again { price_of } else { check_price };
        let stop_price = special.stop_price.map(|stop| check_price(market, stop)).transpose()?;
        if let Some(delta) = special.trailing_delta.filter(|_| !again) {
            require(is_allowed_delta(config, place, delta), Rejection::TrailingDelta)?;
        }
        let mut price = None;
        if place.price.0 > 0 {
            price = Some(check_price(market, place.price)?);
        }
        if let Some(peg) = special.peg {
            price = None;
            // A stop takes its price when it triggers, a pending order when it is placed.
            if !place.order_type.is_stop() && !is_pending {
                let pegged = market.peg_price(place.side, peg).ok_or(Rejection::NoPegPrice)?;
                self::check_price(market, market.symbol.scale.price_amount(pegged))?;
                price = Some(pegged);
            }
        }
        if let Some(price) = price.filter(|_| !is_pending) {
            let reference = market.reference_price(self.now);
            require(in_range(config.percent_price, place.side, price, reference), Rejection::PercentPrice)?;
        }

        if let OrderQuantity::Quote(quote) = place.quantity {
            require(quote.0 > 0, Rejection::ZeroQuantity)?;
        }
        let best = market.best(Side::Buy).filter(|_| place.side == Side::Sell);
        for factor in [price, stop_price, best].into_iter().flatten() {
            fits(u128::from(factor.0) * u128::from(lots))?;
        }
        if let Some(price) = price {
            self.hold_for(market, place.side, price, lots)?;
            fits(market.open_at(place.side, price) + u128::from(lots))?;
        }
        self.check_notional(market, place, price, stop_price, lots)?;
        Ok(Terms {
            price: price.unwrap_or(Price(0)),
            stop_price,
            lots,
            iceberg,
            mode,
            quote_order_quantity: 0,
            hold_price: stop_price.or(market.last_price).unwrap_or(Price(0)),
            size: Size::Lots(lots),
            hold: 0,
        })
    }

    /// What is checked of an order that is placed now, as the market is now; says what it holds.
    pub(super) fn check_now(&self, place: &PlaceOrder, occasion: Occasion, terms: &mut Terms) -> Result<(), Rejection> {
        let market = self.market(place.symbol)?;
        let config = &market.symbol.config;
        let special = special_of(place);
        if occasion == Occasion::Now && place.side == Side::Buy {
            self.check_position(market, place.uid, terms.lots)?;
        }
        let posts = place.order_type == OrderType::LimitMaker;
        require(!(posts && market.crosses(place.side, terms.price)), Rejection::WouldMatchImmediately)?;
        let triggers = match (terms.stop_price, special.trailing_delta, market.last_price) {
            (Some(stop), None, Some(last)) if is_rising(place.order_type, place.side) => last >= stop,
            (Some(stop), None, Some(last)) => last <= stop,
            _ => false,
        };
        require(!triggers, Rejection::WouldTriggerImmediately)?;

        let (free, _) = self.balance(place.uid, self.pays_in(place.symbol.0 as usize, place.side));
        terms.hold = match (place.order_type, place.side) {
            (OrderType::Market, side) => {
                require(market.has_house_price(side), Rejection::NoReferencePrice)?;
                if let OrderQuantity::Quote(quote) = place.quantity {
                    require(side == Side::Sell || quote.0 <= free, Rejection::InsufficientBalance)?;
                    terms.quote_order_quantity = quote.0;
                    terms.size = Size::Budget { quote: quote.0, most: most_lots(config) };
                }
                let taker = Taker { uid: place.uid, side, limit: None, mode: terms.mode, size: terms.size };
                let plan = market.plan(&taker, &self.groups(), self.now);
                let cost = market.cost_of(&plan, side)?;
                if let OrderQuantity::Quote(_) = place.quantity {
                    let lots = u128::from(plan.traded()) + u128::from(plan.prevented());
                    fits(lots)?;
                    terms.lots = lots as u64;
                    if let Some(best) = market.best(Side::Buy).filter(|_| side == Side::Sell) {
                        fits(u128::from(best.0) * lots)?;
                    }
                    let base = market.base(terms.lots);
                    if !matches!(plan.end, End::BookEmpty | End::OutOfRange) {
                        require(lots > 0 && base >= config.min_quantity.0, Rejection::LotSize)?;
                        require(base >= config.market_min_quantity.0, Rejection::MarketLotSize)?;
                    }
                    if side == Side::Buy {
                        self.check_position(market, place.uid, terms.lots)?;
                    }
                }
                if side == Side::Buy { cost } else { market.base(terms.lots) }
            }
            (OrderType::StopLoss | OrderType::TakeProfit, side) => {
                self.hold_for(market, side, terms.hold_price, terms.lots)?
            }
            (_, side) => self.hold_for(market, side, terms.price, terms.lots)?,
        };
        Ok(())
    }

    /// What an order at a price holds; it must fit.
    pub(super) fn hold_for(&self, market: &Market, side: Side, price: Price, lots: u64) -> Result<u128, Rejection> {
        if side == Side::Sell {
            return Ok(market.base(lots));
        }
        let notional = u128::from(price.0) * u128::from(lots);
        fits(notional)?;
        let fee = market.symbol.config.commission.by_lot.map_or(0, |fee| fee.taker.0);
        let fee = fee.checked_mul(lots.into()).ok_or(Rejection::Overflow)?;
        market.quote(notional).checked_add(fee).ok_or(Rejection::Overflow)
    }

    /// An open order of the account has the name.
    pub(super) fn is_name_taken(&self, place: &PlaceOrder) -> bool {
        let mut orders = self.markets[place.symbol.0 as usize].orders.values().map(|open| &open.order);
        orders.any(|order| order.uid == place.uid && order.client_order_id == place.client_order_id)
    }

    fn check_notional(
        &self,
        market: &Market,
        place: &PlaceOrder,
        price: Option<Price>,
        stop_price: Option<Price>,
        lots: u64,
    ) -> Result<(), Rejection> {
        let config = &market.symbol.config;
        let worth = |price: Price| {
            let notional = u128::from(price.0) * u128::from(lots);
            fits(notional).map(|()| market.quote(notional))
        };
        if !place.order_type.is_market() {
            let Some(price) = price.filter(|_| place.quantity != OrderQuantity::Proceeds) else { return Ok(()) };
            let right = is_within(worth(price)?, config.min_notional.0, config.max_notional.0);
            return require(right, Rejection::Notional);
        }
        if !config.apply_min_to_market && !config.apply_max_to_market {
            return Ok(());
        }
        let worth = match place.quantity {
            OrderQuantity::Quote(quote) => Some(quote.0),
            OrderQuantity::Base(_) => stop_price.or_else(|| market.reference_price(self.now)).map(worth).transpose()?,
            OrderQuantity::Proceeds => None,
        };
        let min = if config.apply_min_to_market { config.min_notional.0 } else { 0 };
        let max = if config.apply_max_to_market { config.max_notional.0 } else { 0 };
        require(worth.is_none_or(|worth| is_within(worth, min, max)), Rejection::Notional)
    }

    /// How many orders of each sort may be open.
    pub(super) fn check_numbers(&self, uid: Uid, symbol: SymbolId, coming: ListCounts) -> Result<(), Rejection> {
        let here = &self.market(symbol)?.symbol.config;
        let limits = &self.limits;
        let only = [(symbol, NUMBERS, here.max_num_orders, here.max_num_algo_orders, here.max_num_iceberg_orders)];
        let all = (
            SymbolId(u32::MAX),
            EXCHANGE_NUMBERS,
            limits.max_num_orders,
            limits.max_num_algo_orders,
            limits.max_num_iceberg_orders,
        );
        for (place, [too_many, too_many_stops, too_many_icebergs], orders, stops, icebergs) in
            only.into_iter().chain([all])
        {
            if orders == 0 && stops == 0 && icebergs == 0 {
                continue;
            }
            let markets = || self.markets.iter().filter(move |market| place.0 == u32::MAX || market.symbol.id == place);
            let own = || markets().flat_map(|market| market.orders.values()).filter(|open| open.order.uid == uid);
            let exceeds = |limit: u32, open: usize, coming: u32| {
                limit > 0 && coming > 0 && open + coming as usize > limit as usize
            };
            require(!exceeds(orders, own().count(), coming.orders), too_many)?;
            let open_stops = own().filter(|open| open.order.order_type.is_stop()).count();
            require(!exceeds(stops, open_stops, coming.stops), too_many_stops)?;
            let open_icebergs = own().filter(|open| open.iceberg().is_some()).count();
            require(!exceeds(icebergs, open_icebergs, coming.icebergs), too_many_icebergs)?;
        }
        Ok(())
    }

    fn check_position(&self, market: &Market, uid: Uid, lots: u64) -> Result<(), Rejection> {
        let config = &market.symbol.config;
        if config.max_position.0 == 0 || lots == 0 {
            return Ok(());
        }
        let (free, locked) = self.balance(uid, config.base);
        let buys = market.orders.values().filter(|open| open.order.uid == uid && open.order.side == Side::Buy);
        let coming: u128 = buys.map(|open| u128::from(open.open_lots())).sum::<u128>() + u128::from(lots);
        let position = coming.saturating_mul(config.step_size.0).checked_add(free + locked);
        require(position.is_some_and(|position| position <= config.max_position.0), Rejection::MaxPosition)
    }

    /// Whether so many more orders are more than a window takes.
    pub(super) fn is_too_many(&self, uid: Uid, coming: u32) -> bool {
        let counts = self.counts_now(uid);
        let over = |(limit, count): (&engine::command::OrderCountLimit, u32)| {
            limit.limit > 0 && limit.seconds > 0 && count + coming > limit.limit
        };
        self.limits.order_counts.iter().zip(counts).any(over)
    }
}

/// In how many parts an iceberg may come where the symbol sets no limit.
const ICEBERG_PARTS_MAX: u32 = 100;

const NUMBERS: [Rejection; 3] = [Rejection::MaxNumOrders, Rejection::MaxNumAlgoOrders, Rejection::MaxNumIcebergOrders];
const EXCHANGE_NUMBERS: [Rejection; 3] =
    [Rejection::ExchangeMaxNumOrders, Rejection::ExchangeMaxNumAlgoOrders, Rejection::ExchangeMaxNumIcebergOrders];

impl ListCounts {
    pub(super) fn of<'a>(orders: impl Iterator<Item = &'a PlaceOrder> + Clone) -> ListCounts {
        let stops = orders.clone().filter(|place| place.order_type.is_stop()).count();
        let icebergs = orders.clone().filter(|place| special_of(place).iceberg_quantity.is_some()).count();
        ListCounts { orders: orders.count() as u32, stops: stops as u32, icebergs: icebergs as u32 }
    }
}

/// The special terms of an order; an iceberg of zero is none.
pub fn special_of(place: &PlaceOrder) -> SpecialTerms {
    let mut special = place.special.as_deref().copied().unwrap_or_default();
    special.iceberg_quantity = special.iceberg_quantity.filter(|part| part.0 > 0);
    special
}

/// Whether the kind, the price, the quantity and the rest go together.
fn is_well_shaped(place: &PlaceOrder, special: &SpecialTerms, is_pending: bool) -> bool {
    let by_base = match place.quantity {
        OrderQuantity::Base(_) => true,
        OrderQuantity::Quote(_) => false,
        OrderQuantity::Proceeds => is_pending && place.side == Side::Sell && special.iceberg_quantity.is_none(),
    };
    let has_price = place.price.0 > 0 || special.peg.is_some();
    let has_stop = special.stop_price.is_some() || special.trailing_delta.is_some();
    let is_plain = !has_stop && special.iceberg_quantity.is_none() && special.peg.is_none();
    let right = match place.order_type {
        OrderType::Limit | OrderType::LimitMaker => has_price && by_base && !has_stop,
        OrderType::Market => {
            let by_quote = matches!(place.quantity, OrderQuantity::Quote(_));
            place.price.0 == 0 && (by_base || by_quote) && is_plain
        }
        OrderType::StopLoss | OrderType::TakeProfit => {
            place.price.0 == 0 && by_base && has_stop && special.iceberg_quantity.is_none() && special.peg.is_none()
        }
        OrderType::StopLossLimit | OrderType::TakeProfitLimit => has_price && by_base && has_stop,
    };
    let good_till_canceled = place.order_type == OrderType::LimitMaker || place.time_in_force == TimeInForce::Gtc;
    let right_iceberg = special.iceberg_quantity.is_none() || good_till_canceled;
    let right_peg = special.peg.is_none_or(|peg: Peg| {
        let right = match (place.order_type, peg.price) {
            (OrderType::Limit, PegPrice::Primary) => place.time_in_force == TimeInForce::Gtc,
            (OrderType::LimitMaker, PegPrice::Market) => false,
            _ => true,
        };
        right && peg.offset <= Peg::OFFSET_MAX
    });
    right && right_iceberg && right_peg && special.trailing_delta != Some(0)
}

fn is_allowed_delta(config: &SymbolConfig, place: &PlaceOrder, delta: u32) -> bool {
    // A sell whose price need not come back but from nothing could never trigger.
    let possible = place.side == Side::Buy || delta < 10_000;
    possible
        && match config.trailing_delta {
            Some(filter) if is_rising(place.order_type, place.side) => {
                (filter.min_above..=filter.max_above).contains(&delta)
            }
            Some(filter) => (filter.min_below..=filter.max_below).contains(&delta),
            None => true,
        }
}

/// The quantity in lots, if LOT_SIZE lets it pass.
pub fn check_lots(market: &Market, quantity: Amount) -> Result<u64, Rejection> {
    let config = &market.symbol.config;
    require(is_within(quantity.0, config.min_quantity.0, config.max_quantity.0), Rejection::LotSize)?;
    lots_of(market, quantity)
}

/// The quantity in lots, if it is a whole number of them.
fn lots_of(market: &Market, quantity: Amount) -> Result<u64, Rejection> {
    let step = market.symbol.config.step_size.0;
    require(quantity.0.is_multiple_of(step), Rejection::LotSize)?;
    u64::try_from(quantity.0 / step).map_err(|_| Rejection::LotSize)
}

/// The price in ticks, if PRICE_FILTER lets it pass.
pub fn check_price(market: &Market, price: Amount) -> Result<Price, Rejection> {
    let config = &market.symbol.config;
    let right = price.0 > 0 && is_within(price.0, config.min_price.0, config.max_price.0);
    require(right, Rejection::PriceFilter)?;
    price_of(market, price)
}

/// The price in ticks, if it is a whole number of them.
fn price_of(market: &Market, price: Amount) -> Result<Price, Rejection> {
    let tick = market.symbol.config.tick_size.0;
    require(price.0.is_multiple_of(tick), Rejection::PriceFilter)?;
    u64::try_from(price.0 / tick).map(Price).map_err(|_| Rejection::PriceFilter)
}

/// The most lots that a market order by quote may trade.
fn most_lots(config: &SymbolConfig) -> u64 {
    let limits = [config.max_quantity.0, config.market_max_quantity.0].into_iter().filter(|limit| *limit > 0);
    limits.map(|limit| u64::try_from(limit / config.step_size.0).unwrap_or(u64::MAX)).min().unwrap_or(u64::MAX)
}

/// What one order may be worth is limited to 64 bits, in ticks × lots as in lots.
pub fn fits(value: u128) -> Result<(), Rejection> {
    require(value <= u128::from(u64::MAX), Rejection::Overflow)
}

pub fn is_within(value: u128, min: u128, max: u128) -> bool {
    value >= min && (max == 0 || value <= max)
}

pub fn require(holds: bool, rejection: Rejection) -> Result<(), Rejection> {
    if holds { Ok(()) } else { Err(rejection) }
}

impl Market {
    /// So many ticks × lots in smallest quote units.
    pub(super) fn quote(&self, notional: u128) -> u128 {
        notional * self.quote_unit()
    }

    /// The ticks × lots that came to so much quote.
    pub(super) fn notional_of(&self, quote: Amount) -> u128 {
        quote.0 / self.quote_unit()
    }

    pub(super) fn base(&self, lots: u64) -> u128 {
        u128::from(lots) * self.symbol.config.step_size.0
    }

    fn quote_unit(&self) -> u128 {
        self.symbol.scale.quote_amount(engine::units::Notional(1)).0
    }

    /// Whether an order of `side` has a price: in a quote-driven symbol the house's.
    pub(super) fn has_house_price(&self, side: Side) -> bool {
        self.desk.as_ref().is_none_or(|desk| desk.price(side).is_some())
    }

    /// What a plan costs a buyer, the fee by lot included, or brings a seller.
    pub(super) fn cost_of(&self, plan: &Plan, side: Side) -> Result<u128, Rejection> {
        let fee = match self.symbol.config.commission.by_lot {
            Some(fee) if side == Side::Buy => fee.taker.0.checked_mul(plan.traded().into()),
            _ => Some(0),
        };
        let quote = plan.notional().checked_mul(self.quote_unit());
        quote.zip(fee).and_then(|(quote, fee)| quote.checked_add(fee)).ok_or(Rejection::Overflow)
    }
}
