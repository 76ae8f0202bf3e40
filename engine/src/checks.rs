//! What a new order must pass, in the order in which the checks are made, and what it holds if it does. Nothing changes here.
//!
//! First what the client wrote, by itself: that it fits together, and the filters. Then what depends on the moment: how many
//! orders are open, whether it would trade or trigger at once, what its walk would cost.

use crate::book::Ladder;
use crate::command::{OrderCountLimit, OrderQuantity, PlaceOrder, SpecialTerms};
use crate::event::{ExpiryReason, Rejection};
use crate::filter::rises;
use crate::market::{Floor, Market};
use crate::matching::{Stopped, Taker};
use crate::order::{Order, OrderStatus, OrderType, Peg, PegPrice, SelfTradePrevention, Side, Special, TimeInForce};
use crate::preview::{Goal, Preview};
use crate::symbol::SymbolStatus;
use crate::trader::{Opening, RareCounts, TraderIndex};
use crate::units::{Amount, Notional, OrderId, Price, Quantity, Time, Uid};

/// What a client's words come to, once they are checked.
pub struct Terms {
    /// Its own or the symbol's.
    pub self_trade_prevention: SelfTradePrevention,
    /// In ticks.
    pub price: Price,
    /// In lots.
    pub quantity: Quantity,
    /// What few orders ask.
    pub special: Option<Box<Special>>,
}

/// What of an order its worth goes by.
#[derive(Clone, Copy)]
struct Amounts {
    side: Side,
    order_type: OrderType,
    price: Price,
    quantity: Quantity,
    stop_price: Option<Price>,
}

impl Terms {
    /// The order on these terms, before it has a number. Inline, so that it is made where it will stay.
    #[inline(always)]
    pub fn taker(self, place: &PlaceOrder, trader: TraderIndex, pending: bool, now: Time) -> Taker {
        let priced =
            matches!(place.order_type, OrderType::Limit | OrderType::StopLossLimit | OrderType::TakeProfitLimit);
        let order = Order {
            order_id: OrderId(0),
            symbol: place.symbol,
            uid: place.uid,
            client_order_id: place.client_order_id,
            side: place.side,
            order_type: place.order_type,
            time_in_force: if priced { place.time_in_force } else { TimeInForce::Gtc },
            self_trade_prevention: self.self_trade_prevention,
            price: self.price,
            quantity: self.quantity,
            quote_order_quantity: Amount::ZERO,
            executed: Quantity::ZERO,
            cumulative_quote: Amount::ZERO,
            status: if pending { OrderStatus::PendingNew } else { OrderStatus::New },
            created_at: now,
            updated_at: now,
            special: self.special,
        };
        Taker { order, trader, slot: None, ends: None }
    }
}

impl Market {
    /// The first checks of anything that a trader asks: the account exists and may trade, and the symbol trades.
    pub fn admit_trader(&mut self, uid: Uid, floor: &mut Floor) -> Result<TraderIndex, Rejection> {
        let trader = match self.book.traders.find(uid) {
            Some(trader) => trader,
            None => {
                floor.trader(uid)?;
                let config = &self.symbol.config;
                self.book.traders.enter(uid, config.base, config.quote, &mut floor.accounts)
            }
        };
        self.check_trading(trader)?;
        let is_house = self.desk.as_ref().is_some_and(|desk| desk.terms.house == uid);
        if is_house { Err(Rejection::AccountDisabled) } else { Ok(trader) }
    }

    /// The account may trade, and the symbol does.
    #[inline]
    pub fn check_trading(&self, trader: TraderIndex) -> Result<(), Rejection> {
        if !self.book.traders.at(trader).settings.can_trade {
            return Err(Rejection::AccountDisabled);
        }
        if self.symbol.status != SymbolStatus::Trading {
            return Err(Rejection::MarketClosed);
        }
        Ok(())
    }

    /// The name is free.
    pub fn check_name(&self, trader: TraderIndex, place: &PlaceOrder) -> Result<(), Rejection> {
        let taken = self.book.by_name(trader, place.client_order_id).is_some();
        if taken { Err(Rejection::DuplicateOrder) } else { Ok(()) }
    }

    /// The checks of one new order by itself, where the command opens `together` orders.
    #[inline]
    pub fn check(
        &mut self,
        place: &PlaceOrder,
        trader: TraderIndex,
        together: u32,
        floor: &Floor,
    ) -> Result<Terms, Rejection> {
        check_shape(place, false)?;
        self.check_order_count(place.uid, together, floor)?;
        self.terms(place, trader, false, floor)
    }

    /// Not too many unfilled orders in the windows of now.
    pub fn check_order_count(&self, uid: Uid, together: u32, floor: &Floor) -> Result<(), Rejection> {
        if !floor.limits.counts_orders() {
            return Ok(());
        }
        let counts = floor.accounts.order_counts(uid, &floor.limits, floor.now);
        let limits = floor.limits.order_counts;
        let over = |(count, limit): (&u32, &OrderCountLimit)| {
            limit.limit > 0 && u64::from(*count) + u64::from(together) > u64::from(limit.limit)
        };
        if counts.iter().zip(&limits).any(over) { Err(Rejection::TooManyOrders) } else { Ok(()) }
    }

    /// What the client's words come to; `pending` where the order is not placed yet, so that what depends on the market is
    /// checked later.
    pub fn terms(
        &mut self,
        place: &PlaceOrder,
        trader: TraderIndex,
        pending: bool,
        floor: &Floor,
    ) -> Result<Terms, Rejection> {
        let settings = self.book.traders.at(trader).settings;
        let self_trade_prevention = self
            .symbol
            .check_self_trade_prevention(place.self_trade_prevention, settings.require_self_trade_prevention)?;
        let quantity = match place.quantity {
            OrderQuantity::Base(amount) => {
                let lots = self.check_quantity(amount)?;
                if place.order_type.is_market() {
                    self.symbol.check_market_quantity(amount)?;
                }
                lots
            }
            OrderQuantity::Quote(_) | OrderQuantity::Proceeds => Quantity::ZERO,
        };
        let special = match &place.special {
            Some(terms) => self.special_terms(place, terms, quantity)?,
            None => None,
        };
        let mut price = Price(0);
        if !place.price.is_zero() {
            price = self.check_price(place.price)?;
        }
        if let Some(peg) = special.as_ref().and_then(|special| special.peg) {
            let now = !pending && !place.order_type.is_stop();
            price = if now { self.peg_price(place.side, peg)? } else { Price(0) };
        }
        let stop_price = special.as_ref().and_then(|special| special.stop_price);
        let amounts = Amounts { side: place.side, order_type: place.order_type, price, quantity, stop_price };
        self.check_amounts(amounts, budget_of(place), pending, floor)?;
        Ok(Terms { self_trade_prevention, price, quantity, special })
    }

    /// What few orders ask, checked.
    fn special_terms(
        &self,
        place: &PlaceOrder,
        terms: &SpecialTerms,
        quantity: Quantity,
    ) -> Result<Option<Box<Special>>, Rejection> {
        if self.desk.is_some() {
            // Nothing of an order is shown, and there are no levels to follow.
            if terms.iceberg_quantity.is_some_and(|part| !part.is_zero()) {
                return Err(Rejection::IcebergNotSupported);
            }
            if terms.peg.is_some() {
                return Err(Rejection::PegNotSupported);
            }
        }
        let iceberg_quantity = match terms.iceberg_quantity.filter(|part| !part.is_zero()) {
            None => None,
            Some(part) => Some(self.symbol.check_iceberg(part, quantity)?),
        };
        let stop_price = terms.stop_price.map(|price| self.symbol.check_price(price)).transpose()?;
        if let Some(delta) = terms.trailing_delta {
            self.symbol.check_trailing(place.order_type, place.side, delta)?;
        }
        let special = Special {
            stop_price,
            trailing_delta: terms.trailing_delta,
            iceberg_quantity,
            peg: terms.peg,
            strategy_id: terms.strategy_id,
            strategy_type: terms.strategy_type,
            ..Special::default()
        };
        Ok((special != Special::default()).then(|| Box::new(special)))
    }

    /// PRICE and NOTIONAL filters on the price that the order has now, and that every product and sum fits.
    fn check_amounts(
        &mut self,
        amounts: Amounts,
        budget: Option<Amount>,
        pending: bool,
        floor: &Floor,
    ) -> Result<(), Rejection> {
        let Amounts { side, order_type, price, quantity, stop_price } = amounts;
        if price != Price(0) && !pending {
            self.check_percent_price(side, price, floor)?;
        }
        if let Some(amount) = budget {
            if amount.is_zero() {
                return Err(Rejection::ZeroQuantity);
            }
            return self.symbol.check_market_notional(amount);
        }
        if let Some(stop_price) = stop_price {
            Notional::of(stop_price, quantity).ok_or(Rejection::Overflow)?;
        }
        self.check_sell_worth(side, price, quantity)?;
        if price.0 > 0 {
            let notional = Notional::of(price, quantity).ok_or(Rejection::Overflow)?;
            self.check_fee_fits(side, notional, quantity)?;
            if !self.book.has_room(Ladder::of(side), price, quantity) {
                return Err(Rejection::Overflow);
            }
            return if quantity.is_zero() { Ok(()) } else { self.check_notional(notional) };
        }
        let config = &self.symbol.config;
        let unpriced = order_type.is_market() && (config.apply_min_to_market || config.apply_max_to_market);
        if unpriced
            && !quantity.is_zero()
            && let Some(price) = stop_price.or_else(|| self.reference(floor.now))
        {
            let notional = Notional::of(price, quantity).ok_or(Rejection::Overflow)?;
            self.symbol.check_market_notional(self.symbol.scale.quote_amount(notional))?;
        }
        Ok(())
    }

    /// A seller trades at its price or better: at the best bid even all of it must be worth no more than fits.
    pub fn check_sell_worth(&self, side: Side, price: Price, quantity: Quantity) -> Result<(), Rejection> {
        let best = if side == Side::Sell { self.opposite_best(side) } else { None };
        let fits = best.is_none_or(|best| Notional::of(best.max(price), quantity).is_some());
        fits.then_some(()).ok_or(Rejection::Overflow)
    }

    /// That what a buyer holds, the fee by lot included, fits.
    pub fn check_fee_fits(&self, side: Side, notional: Notional, quantity: Quantity) -> Result<(), Rejection> {
        let Some(fee) = self.symbol.config.commission.by_lot.filter(|_| side == Side::Buy) else { return Ok(()) };
        let fee = fee.most(quantity).ok_or(Rejection::Overflow)?;
        let fits = self.symbol.scale.quote_amount(notional).checked_add(fee).is_some();
        fits.then_some(()).ok_or(Rejection::Overflow)
    }

    fn peg_price(&self, side: Side, peg: Peg) -> Result<Price, Rejection> {
        let from = match peg.price {
            PegPrice::Primary => Ladder::of(side),
            PegPrice::Market => Ladder::of(side.opposite()),
        };
        let price = self.book.levels(from).nth(peg.offset.into()).map(|level| level.price);
        let price = price.ok_or(Rejection::NoPegPrice)?;
        self.symbol.check_price(self.symbol.scale.price_amount(price))
    }

    /// MAX_NUM_ORDERS and its kin.
    pub fn check_counts(&self, trader: TraderIndex, opening: Opening, floor: &Floor) -> Result<(), Rejection> {
        let (config, limits, elsewhere) = (&self.symbol.config, &floor.limits, floor.elsewhere);
        let over = |count: u32, limit: u32| limit > 0 && count > limit;
        let orders = self.book.traders.at(trader).open_orders() + opening.orders;
        let is_rare = opening.stops > 0 || opening.icebergs > 0;
        let rare = if is_rare { *self.book.traders.rare(trader) } else { RareCounts::default() };
        let (stops, icebergs) = (rare.stop_orders + opening.stops, rare.iceberg_orders + opening.icebergs);
        if over(orders, config.max_num_orders) {
            return Err(Rejection::MaxNumOrders);
        }
        if opening.stops > 0 && over(stops, config.max_num_algo_orders) {
            return Err(Rejection::MaxNumAlgoOrders);
        }
        if opening.icebergs > 0 && over(icebergs, config.max_num_iceberg_orders) {
            return Err(Rejection::MaxNumIcebergOrders);
        }
        if over(orders + elsewhere.orders, limits.max_num_orders) {
            return Err(Rejection::ExchangeMaxNumOrders);
        }
        if opening.stops > 0 && over(stops + elsewhere.stops, limits.max_num_algo_orders) {
            return Err(Rejection::ExchangeMaxNumAlgoOrders);
        }
        if opening.icebergs > 0 && over(icebergs + elsewhere.icebergs, limits.max_num_iceberg_orders) {
            return Err(Rejection::ExchangeMaxNumIcebergOrders);
        }
        Ok(())
    }

    /// MAX_POSITION for buys of so much in all.
    pub fn check_position(&self, trader: TraderIndex, buying: Quantity, floor: &Floor) -> Result<(), Rejection> {
        let max = self.symbol.config.max_position;
        if max.is_zero() || buying.is_zero() {
            return Ok(());
        }
        let trader = self.book.traders.at(trader);
        let lot = self.symbol.scale.step_size();
        let open = trader.buying.checked_add(u128::from(buying.0)).and_then(|lots| lots.checked_mul(lot.0));
        // Where all there is of the asset would be within, so is a part of it, and the balance need not be fetched.
        let supply = floor.accounts.supply(self.symbol.config.base);
        if open.and_then(|open| open.checked_add(supply.0)).is_some_and(|most| most <= max.0) {
            return Ok(());
        }
        let balance = floor.accounts.at(trader.base);
        let position = balance.free.plus(balance.locked).0.checked_add(open.unwrap_or(u128::MAX));
        let within = position.is_some_and(|position| position <= max.0);
        within.then_some(()).ok_or(Rejection::MaxPosition)
    }

    /// What a checked order comes to if it is placed now: whether the market's state allows it, and what it holds.
    pub fn check_now(&mut self, taker: &mut Taker, budget: Option<Amount>, floor: &Floor) -> Result<Amount, Rejection> {
        let Order { side, price, quantity, order_type, .. } = taker.order;
        if side == Side::Buy && taker.slot.is_none() {
            self.check_position(taker.trader, quantity, floor)?;
        }
        if order_type == OrderType::LimitMaker && self.crosses(side, price) {
            return Err(Rejection::WouldMatchImmediately);
        }
        if order_type.is_stop() {
            if self.would_trigger(&taker.order) {
                return Err(Rejection::WouldTriggerImmediately);
            }
            return self.stop_hold(&taker.order);
        }
        if let Some(budget) = budget {
            return self.check_quote_order(taker, budget, floor);
        }
        self.working_hold(taker, floor)
    }

    /// What a limit or market order holds for its walk and its rest.
    fn working_hold(&mut self, taker: &mut Taker, floor: &Floor) -> Result<Amount, Rejection> {
        let Order { side, price, quantity, order_type, time_in_force, .. } = taker.order;
        if order_type.is_market() {
            self.check_house_price(side)?;
            let preview = self.preview(taker, Goal::Quantity(quantity), floor).ok_or(Rejection::Overflow)?;
            return Ok(if side == Side::Buy { preview.cost } else { self.symbol.scale.base_amount(quantity) });
        }
        if time_in_force == TimeInForce::Fok {
            let preview = self.preview(taker, Goal::Quantity(quantity), floor);
            let fills = preview.is_some_and(|preview| preview.traded == quantity);
            taker.ends = (!fills).then_some(ExpiryReason::UnfilledFok);
        }
        Ok(self.need(side, price, quantity))
    }

    /// A market order in a quote-driven symbol needs a price that holds.
    fn check_house_price(&self, side: Side) -> Result<(), Rejection> {
        let missing = self.desk.is_some() && self.opposite_best(side).is_none();
        if missing { Err(Rejection::NoReferencePrice) } else { Ok(()) }
    }

    /// A market order by quote amount learns how many lots that is.
    fn check_quote_order(&mut self, taker: &mut Taker, budget: Amount, floor: &Floor) -> Result<Amount, Rejection> {
        let side = taker.order.side;
        self.check_house_price(side)?;
        let trader = self.book.traders.at(taker.trader);
        if side == Side::Buy && floor.accounts.at(trader.quote).free < budget {
            return Err(Rejection::InsufficientBalance);
        }
        let most = self.symbol.most_market_quantity();
        let Preview { traded, prevented, cost, stopped } =
            self.preview(taker, Goal::Quote(budget, most), floor).ok_or(Rejection::Overflow)?;
        let quantity = traded.checked_add(prevented).ok_or(Rejection::Overflow)?;
        self.check_sell_worth(side, Price(0), quantity)?;
        let base = self.symbol.scale.base_amount(quantity);
        let config = &self.symbol.config;
        taker.ends = match stopped {
            Stopped::BookEmpty => Some(ExpiryReason::InsufficientLiquidity),
            Stopped::OutOfRange => Some(ExpiryReason::PriceRangeExceeded),
            Stopped::Done | Stopped::OutOfReach | Stopped::Prevented => None,
        };
        if taker.ends.is_none() && (quantity.is_zero() || base < config.min_quantity) {
            return Err(Rejection::LotSize);
        }
        if taker.ends.is_none() && base < config.market_min_quantity {
            return Err(Rejection::MarketLotSize);
        }
        if side == Side::Buy {
            self.check_position(taker.trader, quantity, floor)?;
        }
        taker.order.quantity = quantity;
        taker.order.quote_order_quantity = budget;
        Ok(if side == Side::Buy { cost } else { base })
    }

    /// What a stop holds while it waits. What a market buy will cost is not known yet: its stop price, else the last price,
    /// stands in.
    pub fn stop_hold(&self, order: &Order) -> Result<Amount, Rejection> {
        let Order { side, price, quantity, order_type, .. } = *order;
        if side == Side::Sell || !order_type.is_market() {
            return Ok(self.need(side, price, quantity));
        }
        let stop_price = order.special.as_ref().and_then(|special| special.stop_price);
        let price = stop_price.or(self.last_price).unwrap_or(Price(0));
        let notional = Notional::of(price, quantity).ok_or(Rejection::Overflow)?;
        self.check_fee_fits(side, notional, quantity)?;
        Ok(self.need(side, price, quantity))
    }

    fn would_trigger(&self, order: &Order) -> bool {
        let special = order.special.as_ref().filter(|special| special.trailing_delta.is_none());
        let stop_price = special.and_then(|special| special.stop_price);
        let (Some(stop_price), Some(last_price)) = (stop_price, self.last_price) else { return false };
        if rises(order.order_type, order.side) { last_price >= stop_price } else { last_price <= stop_price }
    }

    /// The checks of a pending order when its turn has come: those of a new order, but for what was checked when its list was
    /// accepted; what it holds then.
    pub fn check_placement(&mut self, taker: &mut Taker, floor: &Floor) -> Result<Amount, Rejection> {
        let Order { side, quantity, order_type, .. } = taker.order;
        let amount = self.symbol.scale.base_amount(quantity);
        self.symbol.check_quantity(amount)?;
        if order_type.is_market() {
            self.symbol.check_market_quantity(amount)?;
        }
        let peg = taker.order.special.as_ref().and_then(|special| special.peg);
        if let Some(peg) = peg.filter(|_| !order_type.is_stop()) {
            taker.order.price = self.peg_price(side, peg)?;
        }
        let stop_price = taker.order.special.as_ref().and_then(|special| special.stop_price);
        let amounts = Amounts { side, order_type, price: taker.order.price, quantity, stop_price };
        self.check_amounts(amounts, None, false, floor)?;
        self.check_now(taker, None, floor)
    }

    /// The checks of a stop that comes to the book later than it was accepted; what it holds then.
    pub fn check_arrival(&mut self, taker: &mut Taker, floor: &Floor) -> Result<Amount, Rejection> {
        let Order { side, quantity, order_type, .. } = taker.order;
        let peg = taker.order.special.as_ref().and_then(|special| special.peg);
        if let Some(peg) = peg {
            taker.order.price = self.peg_price(side, peg)?;
            self.check_percent_price(side, taker.order.price, floor)?;
        }
        let price = taker.order.price;
        self.check_sell_worth(side, price, quantity)?;
        if !order_type.is_market() {
            let notional = Notional::of(price, quantity).ok_or(Rejection::Overflow)?;
            self.check_fee_fits(side, notional, quantity)?;
            if !self.book.has_room(Ladder::of(side), price, quantity) {
                return Err(Rejection::Overflow);
            }
            if peg.is_some() {
                self.symbol.check_notional(notional)?;
            }
        }
        self.working_hold(taker, floor)
    }
}

/// The quote amount of an order that spends or raises one.
pub fn budget_of(place: &PlaceOrder) -> Option<Amount> {
    match place.quantity {
        OrderQuantity::Quote(amount) => Some(amount),
        OrderQuantity::Base(_) | OrderQuantity::Proceeds => None,
    }
}

/// That kind, price, quantity and the rest go together; `in_list` where the order may be for another's proceeds.
#[inline]
pub fn check_shape(place: &PlaceOrder, in_list: bool) -> Result<(), Rejection> {
    if let Some(terms) = &place.special {
        return check_special_shape(place, terms, in_list);
    }
    let has_price = !place.price.is_zero();
    let quantity_fits = match place.quantity {
        OrderQuantity::Base(_) => true,
        OrderQuantity::Quote(_) => place.order_type == OrderType::Market && !in_list,
        OrderQuantity::Proceeds => in_list && place.side == Side::Sell,
    };
    let fits = has_price != place.order_type.is_market() && !place.order_type.is_stop() && quantity_fits;
    fits.then_some(()).ok_or(Rejection::InvalidCombination)
}

fn check_special_shape(place: &PlaceOrder, terms: &SpecialTerms, in_list: bool) -> Result<(), Rejection> {
    let has_price = !place.price.is_zero();
    let stops = terms.stop_price.is_some() || terms.trailing_delta.is_some();
    let is_iceberg = terms.iceberg_quantity.is_some_and(|part| !part.is_zero());
    let gtc = place.time_in_force == TimeInForce::Gtc;
    let peg_allowed = terms.peg.is_none_or(|peg| {
        let resting = peg.price == PegPrice::Primary;
        peg.offset <= Peg::OFFSET_MAX
            && match place.order_type {
                OrderType::Limit => !resting || gtc,
                OrderType::LimitMaker => resting,
                OrderType::StopLossLimit | OrderType::TakeProfitLimit => true,
                OrderType::Market | OrderType::StopLoss | OrderType::TakeProfit => false,
            }
    });
    let price_fits = if place.order_type.is_market() { !has_price } else { has_price || terms.peg.is_some() };
    let stop_fits = stops == place.order_type.is_stop() && terms.trailing_delta != Some(0);
    let iceberg_fits = !is_iceberg
        || match place.order_type {
            OrderType::LimitMaker => true,
            kind => !kind.is_market() && gtc,
        };
    let quantity_fits = match place.quantity {
        OrderQuantity::Base(_) => true,
        OrderQuantity::Quote(_) => place.order_type == OrderType::Market && !in_list,
        OrderQuantity::Proceeds => in_list && place.side == Side::Sell && !is_iceberg,
    };
    let fits = price_fits && stop_fits && iceberg_fits && peg_allowed && quantity_fits;
    fits.then_some(()).ok_or(Rejection::InvalidCombination)
}
