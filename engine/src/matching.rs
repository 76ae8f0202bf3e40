//! A taker walks the book: price-time priority, trades at the maker's price, self-trade prevention, settlement.

use crate::book::{Ladder, Slot};
use crate::commission::FeeRounding;
use crate::event::{Event, ExpiryReason, Fill, PreventedMatch, Trade, emit};
use crate::market::{Effect, Floor, Market, reaches};
use crate::order::{Order, OrderStatus, SelfTradePrevention, Side};
use crate::order_list::OrderEnd;
use crate::sweep::Sweep;
use crate::symbol::PriceRange;
use crate::trader::{Trader, TraderIndex};
use crate::units::{Amount, AssetId, Notional, PreventedMatchId, Price, Quantity, TradeId};

/// An order on its walk, its funds held.
#[derive(Debug)]
pub struct Taker {
    /// As it stands.
    pub order: Order,
    /// Whose it is.
    pub trader: TraderIndex,
    /// Where it is open already; a new order gets a place only when it comes to rest.
    pub slot: Option<Slot>,
    /// Why it will end unfilled, where that is known before it walks.
    pub ends: Option<ExpiryReason>,
}

/// Where a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Nothing is left of the taker.
    Done,
    /// Its price reaches no further.
    OutOfReach,
    /// Nothing is left on the other side.
    BookEmpty,
    /// The price range execution rule forbids the next price.
    OutOfRange,
    /// Self-trade prevention ended it.
    Prevented,
}

/// Who pays and who receives in a trade.
struct Parties {
    buyer: TraderIndex,
    seller: TraderIndex,
}

/// What one side is charged.
struct Charge {
    fee: Amount,
    asset: AssetId,
    /// Whether it is taken out of what the trade brings; else it was paid otherwise.
    of_received: bool,
}

impl Market {
    /// The taker trades with what it reaches until it is filled or nothing more is in reach. Says how it ended; says
    /// nothing of what becomes of the rest.
    #[inline]
    pub fn walk(&mut self, taker: &mut Taker, floor: &mut Floor, events: &mut Vec<Event>) -> Stopped {
        if self.desk.is_some() {
            return self.walk_house(taker, floor, events);
        }
        // Most orders reach nothing.
        match self.book.best_price(Ladder::of(taker.order.side.opposite())) {
            None => Stopped::BookEmpty,
            Some(best) if !taker.reaches(best) => Stopped::OutOfReach,
            Some(_) => self.walk_levels(taker, floor, events),
        }
    }

    /// The same from level to level.
    fn walk_levels(&mut self, taker: &mut Taker, floor: &mut Floor, events: &mut Vec<Event>) -> Stopped {
        let side = taker.order.side;
        let against = Ladder::of(side.opposite());
        let range = self.execution_range(floor);
        let mut sweep = self.sweep(taker, floor);
        let mut prices: Option<(Price, Price)> = None;
        let stopped = loop {
            if taker.order.open_quantity().is_zero() {
                break Stopped::Done;
            }
            let Some(price) = self.book.best_price(against) else { break Stopped::BookEmpty };
            if !taker.reaches(price) {
                break Stopped::OutOfReach;
            }
            if !may_execute(range, side, price) {
                break Stopped::OutOfRange;
            }
            let before = self.counters.trade;
            let (changed, prevented) = self.meet_level(taker, &mut sweep, against, price, floor, events);
            if changed {
                self.report_level(side.opposite(), price, events);
            }
            if self.counters.trade != before {
                prices = Some((prices.map_or(price, |(first, _)| first), price));
            }
            if prevented {
                break Stopped::Prevented;
            }
        };
        self.finish_sweep(taker, &mut sweep, floor);
        if let Some((first, last)) = prices {
            self.set_last_price(last, floor);
            self.walks.push((first, last));
        }
        stopped
    }

    /// The price range execution rule and what it goes by now, where it holds.
    #[inline]
    pub fn execution_range(&mut self, floor: &Floor) -> Option<(PriceRange, Price)> {
        let range = self.symbol.config.execution_range?;
        Some((range, self.reference(floor.now)?))
    }

    /// What stops and conversions of commissions go by from now on.
    pub(crate) fn set_last_price(&mut self, price: Price, floor: &mut Floor) {
        if self.last_price != Some(price) {
            self.last_price = Some(price);
            floor.desk.quotes[self.symbol.id.0 as usize].last_price = Some(self.symbol.scale.price_amount(price));
        }
    }

    /// The taker meets the orders at the best price of the other side. Whether the level changed, and whether self-trade
    /// prevention ended the taker.
    fn meet_level(
        &mut self,
        taker: &mut Taker,
        sweep: &mut Sweep,
        against: Ladder,
        price: Price,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) -> (bool, bool) {
        let (mut changed, mut traded) = (false, false);
        while !taker.order.open_quantity().is_zero() {
            let Some(level) = self.book.best(against).filter(|level| level.price == price) else { break };
            let maker = self.book.first_at(level);
            let prevention = if sweep.may_prevent { self.prevention(taker, maker) } else { SelfTradePrevention::None };
            match prevention {
                SelfTradePrevention::None => {
                    if !std::mem::replace(&mut traded, true) {
                        self.counters.aggregate += 1;
                    }
                    changed = true;
                    // In a large exchange the next maker's lines are fetched while this one trades.
                    let next = if floor.is_large { self.book.behind(maker) } else { None };
                    if let Some(next) = next {
                        self.book.prefetch_around(next);
                    }
                    if !self.sweep_order(taker, maker, price, sweep, floor, events) {
                        self.finish_sweep(taker, sweep, floor);
                        self.trade(taker, maker, price, floor, events);
                    }
                    if let Some(next) = next {
                        self.foresee_balances(next, &floor.accounts);
                    }
                }
                mode => {
                    self.finish_sweep(taker, sweep, floor);
                    changed |= mode != SelfTradePrevention::ExpireTaker;
                    if self.prevent(taker, maker, mode, price, floor, events) {
                        return (changed, true);
                    }
                }
            }
        }
        (changed, false)
    }

    /// What happens instead of a trade with this maker.
    #[inline]
    pub fn prevention(&self, taker: &Taker, maker: Slot) -> SelfTradePrevention {
        let mode = taker.order.self_trade_prevention;
        if mode == SelfTradePrevention::None || !self.is_related(taker.trader, self.book.trader_of(maker)) {
            return SelfTradePrevention::None;
        }
        let transfers = self.book.self_trade_prevention(maker) == SelfTradePrevention::Transfer
            && taker.trader != self.book.trader_of(maker);
        if mode == SelfTradePrevention::Transfer && !transfers { SelfTradePrevention::Decrement } else { mode }
    }

    fn is_related(&self, one: TraderIndex, other: TraderIndex) -> bool {
        if one == other {
            return true;
        }
        let group = self.book.traders.at(one).settings.trade_group;
        group.is_some() && group == self.book.traders.at(other).settings.trade_group
    }

    /// One match of the taker with a maker, at the maker's price or, in a quote-driven symbol, the house's.
    pub(crate) fn trade(
        &mut self,
        taker: &mut Taker,
        maker: Slot,
        price: Price,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) {
        let quantity = taker.order.open_quantity().min(self.book.shown(maker));
        // Fits: it is at most what the maker's own price × quantity came to when it was accepted.
        let notional = Notional::of(price, quantity).expect("checked when the maker was accepted");
        let quote = self.symbol.scale.quote_amount(notional);
        let (maker_id, maker_trader) = (self.book.number(maker), self.book.trader_of(maker));
        let maker_list = self.book.special(maker).and_then(|special| special.order_list_id);
        let taker_first = taker.order.executed.is_zero();
        taker.fill(quantity, quote, floor);
        let filled = self.book.fill(maker, quantity, notional, floor.now);

        let base = self.symbol.scale.base_amount(quantity);
        let (taker_charge, maker_charge) = self.settle(taker, maker_trader, quantity, quote, floor);
        if taker.order.side == Side::Buy && !taker.order.order_type.is_market() && price < taker.order.price {
            let limit = Notional::of(taker.order.price, quantity).expect("checked when the order was accepted");
            let improvement = self.symbol.scale.quote_amount(limit.minus(notional));
            floor.accounts.release(self.book.traders.at(taker.trader).quote, improvement);
        }
        if self.symbol.config.average_price_minutes > 0 {
            self.average.trade(floor.now, self.symbol.config.average_price_minutes, notional, quantity);
        }

        let maker_fill = Fill {
            order_id: maker_id,
            uid: self.book.traders.at(maker_trader).uid,
            fee: maker_charge.fee,
            fee_asset: maker_charge.asset,
            executed: filled.executed,
            cumulative_quote: self.symbol.scale.quote_amount(filled.cumulative),
            status: if filled.closed { OrderStatus::Filled } else { OrderStatus::PartiallyFilled },
        };
        let (taker_uid, maker_uid) = (taker.order.uid, maker_fill.uid);
        self.tell_trade(
            &taker.order,
            (taker_charge.fee, taker_charge.asset),
            maker_fill,
            (price, quantity, quote),
            events,
        );
        if floor.limits.counts_orders() {
            floor.count_first_fills(taker_first.then_some(taker_uid), filled.first.then_some(maker_uid));
        }
        let taker_list = taker.order.order_list_id();
        if maker_list.is_none() && taker_list.is_none() {
            return;
        }
        for (list, order_id, charge, trader, side, closed) in [
            (maker_list, maker_id, &maker_charge, maker_trader, taker.order.side.opposite(), filled.closed),
            (taker_list, taker.order.order_id, &taker_charge, taker.trader, taker.order.side, false),
        ] {
            let Some(list) = list else { continue };
            if side == Side::Buy {
                let received = if charge.of_received { base.minus(charge.fee) } else { base };
                self.keep_proceeds(list, order_id, trader, received, floor);
            }
            let end = if closed { OrderEnd::Filled } else { OrderEnd::Traded };
            self.effects.push(Effect { list, order_id, end });
        }
    }

    /// A trade gets its number and is told. The fee and its asset are the taker's.
    #[inline(always)]
    pub(crate) fn tell_trade(
        &mut self,
        taker: &Order,
        fee: (Amount, AssetId),
        maker: Fill,
        traded: (Price, Quantity, Amount),
        events: &mut Vec<Event>,
    ) {
        self.counters.trade += 1;
        let (symbol, counters) = (self.symbol.id, &self.counters);
        let (price, quantity, quote_amount) = traded;
        emit(events, || {
            Event::Trade(Trade {
                symbol,
                trade_id: TradeId(counters.trade),
                aggregate_id: counters.aggregate,
                price,
                quantity,
                quote_amount,
                taker: Fill {
                    order_id: taker.order_id,
                    uid: taker.uid,
                    fee: fee.0,
                    fee_asset: fee.1,
                    executed: taker.executed,
                    cumulative_quote: taker.cumulative_quote,
                    status: taker.status,
                },
                maker,
                taker_side: taker.side,
            })
        });
    }

    /// The buyer's quote goes to the seller and the seller's base to the buyer, each less the receiver's commission. What the
    /// taker and the maker are charged.
    fn settle(
        &self,
        taker: &Taker,
        maker: TraderIndex,
        quantity: Quantity,
        quote: Amount,
        floor: &mut Floor,
    ) -> (Charge, Charge) {
        let taker_buys = taker.order.side == Side::Buy;
        let parties = &if taker_buys {
            Parties { buyer: taker.trader, seller: maker }
        } else {
            Parties { buyer: maker, seller: taker.trader }
        };
        let base = self.symbol.scale.base_amount(quantity);
        let (buyer, seller) = (self.book.traders.at(parties.buyer), self.book.traders.at(parties.seller));
        let config = &self.symbol.config;
        if config.commission.by_lot.is_some() {
            return self.settle_by_lot(parties, taker_buys, quantity, quote, floor);
        }
        if config.commission.discount.is_some() && (buyer.settings.discount || seller.settings.discount) {
            // The discount asset is taken once the trade itself is settled, so what is free is known.
            return self.settle_discounted(parties, taker_buys, base, quote, floor);
        }
        let buyer_charge = self.charge(buyer, !taker_buys, (base, Side::Buy), floor);
        let seller_charge = self.charge(seller, taker_buys, (quote, Side::Sell), floor);
        floor.accounts.settle(buyer.quote, seller.quote, quote, seller_charge.fee);
        floor.accounts.settle(seller.base, buyer.base, base, buyer_charge.fee);
        if taker_buys { (buyer_charge, seller_charge) } else { (seller_charge, buyer_charge) }
    }

    /// The same where the symbol charges by lot.
    #[cold]
    fn settle_by_lot(
        &self,
        parties: &Parties,
        taker_buys: bool,
        quantity: Quantity,
        quote: Amount,
        floor: &mut Floor,
    ) -> (Charge, Charge) {
        let base = self.symbol.scale.base_amount(quantity);
        let (buyer, seller) = (self.book.traders.at(parties.buyer), self.book.traders.at(parties.seller));
        let (buyer_fee, seller_fee) = self.lot_fees(quantity, quote, taker_buys);
        floor.accounts.settle(buyer.quote, seller.quote, quote, seller_fee);
        floor.accounts.settle(seller.base, buyer.base, base, Amount::ZERO);
        floor.accounts.charge_locked(buyer.quote, buyer_fee);
        floor.accounts.release(buyer.quote, self.lot_fee(quantity).minus(buyer_fee));
        let charge = |fee, of_received| Charge { fee, asset: self.symbol.config.quote, of_received };
        let (buyer, seller) = (charge(buyer_fee, false), charge(seller_fee, true));
        if taker_buys { (buyer, seller) } else { (seller, buyer) }
    }

    /// What one side owes of what it receives.
    #[inline]
    fn charge(&self, trader: &Trader, is_maker: bool, received: (Amount, Side), floor: &Floor) -> Charge {
        let (received, side) = received;
        let tier = match trader.settings.commission_tier {
            0 => None,
            tier => floor.desk.tier(tier),
        };
        let parts = self.symbol.config.commission.parts(tier, is_maker, side, received);
        let asset = if side == Side::Buy { self.symbol.config.base } else { self.symbol.config.quote };
        Charge { fee: parts.standard.plus(parts.others), asset, of_received: true }
    }

    /// The same where one side pays, or would like to, in the discount asset: first the trade itself without commission,
    /// then the taker's and the maker's, each in the discount asset if there is enough of it, else of what came in.
    #[cold]
    fn settle_discounted(
        &self,
        parties: &Parties,
        taker_buys: bool,
        base: Amount,
        quote: Amount,
        floor: &mut Floor,
    ) -> (Charge, Charge) {
        let (buyer, seller) = (self.book.traders.at(parties.buyer), self.book.traders.at(parties.seller));
        floor.accounts.settle(buyer.quote, seller.quote, quote, Amount::ZERO);
        floor.accounts.settle(seller.base, buyer.base, base, Amount::ZERO);
        let mut pay = |is_maker: bool| {
            let buys = taker_buys != is_maker;
            let (trader, received, side) =
                if buys { (parties.buyer, base, Side::Buy) } else { (parties.seller, quote, Side::Sell) };
            if let Some(charge) = self.charge_discounted(trader, is_maker, (received, side), floor) {
                return charge;
            }
            let trader = self.book.traders.at(trader);
            let mut charge = self.charge(trader, is_maker, (received, side), floor);
            // In a trade with itself the other side's commission may have been taken out of what this one received.
            charge.fee = charge.fee.min(floor.accounts.at(trader.receives_to(side)).free);
            let paid = floor.accounts.charge_free(trader.uid, charge.asset, charge.fee);
            assert!(paid, "so much is free");
            charge
        };
        (pay(false), pay(true))
    }

    /// One side's commission in the discount asset; `None` where it is not wanted, has no price or is not there.
    fn charge_discounted(
        &self,
        trader: TraderIndex,
        is_maker: bool,
        received: (Amount, Side),
        floor: &mut Floor,
    ) -> Option<Charge> {
        let trader = self.book.traders.at(trader);
        let discount = self.symbol.config.commission.discount.filter(|_| trader.settings.discount)?;
        let (received, side) = received;
        let tier = floor.desk.tier(trader.settings.commission_tier);
        let parts = self.symbol.config.commission.parts(tier, is_maker, side, received);
        let reduced = discount.rate.of(parts.standard, FeeRounding::HalfUp);
        let owed = reduced.plus(parts.others);
        let owed_in = if side == Side::Buy { self.symbol.config.base } else { self.symbol.config.quote };
        let fee = floor.desk.convert(owed, owed_in, discount.asset)?;
        if fee.is_zero() && !owed.is_zero() {
            return None;
        }
        let paid = floor.accounts.charge_free(trader.uid, discount.asset, fee);
        paid.then_some(Charge { fee, asset: discount.asset, of_received: owed_in == discount.asset })
    }

    /// Self-trade prevention instead of a trade. Whether it ended the taker.
    #[cold]
    fn prevent(
        &mut self,
        taker: &mut Taker,
        maker: Slot,
        mode: SelfTradePrevention,
        price: Price,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) -> bool {
        use SelfTradePrevention::{ExpireBoth, ExpireMaker, ExpireTaker};
        let (taker_open, maker_open) = (taker.order.open_quantity(), self.book.open(maker));
        let both = taker_open.min(self.book.shown(maker));
        let (of_taker, of_maker) = match mode {
            ExpireTaker => (taker_open, Quantity::ZERO),
            ExpireMaker => (Quantity::ZERO, maker_open),
            ExpireBoth => (taker_open, maker_open),
            _ => (both, both),
        };
        let (taker_side, maker_trader) = (taker.order.side, self.book.trader_of(maker));
        let maker_balances = self.book.traders.at(maker_trader);
        let (maker_uid, maker_paid_in) = (maker_balances.uid, maker_balances.pays_from(taker_side.opposite()));
        let group = self.book.traders.at(taker.trader).settings.trade_group;
        self.counters.prevented_match += 1;
        events.push(Event::TradePrevented(PreventedMatch {
            symbol: self.symbol.id,
            prevented_match_id: PreventedMatchId(self.counters.prevented_match),
            price,
            mode,
            trade_group: group,
            taker_side,
            taker_order_id: taker.order.order_id,
            taker_uid: taker.order.uid,
            taker_prevented: of_taker,
            maker_order_id: self.book.number(maker),
            maker_uid,
            maker_prevented: of_maker,
        }));
        if !of_taker.is_zero() {
            taker.prevent(of_taker, floor);
        }
        if mode == SelfTradePrevention::Transfer {
            self.transfer(taker, maker_trader, price, both, floor);
        } else {
            self.release_taker(taker, of_taker, floor);
            let held = self.need(taker_side.opposite(), price, of_maker);
            floor.accounts.release(maker_paid_in, held);
        }
        if !of_maker.is_zero() {
            self.book.prevent(maker, of_maker, floor.now);
            if self.book.open(maker).is_zero() {
                let mut order = self.book.order(maker);
                self.book.close(maker);
                order.status = OrderStatus::ExpiredInMatch;
                if let Some(list) = order.order_list_id() {
                    self.effects.push(Effect { list, order_id: order.order_id, end: OrderEnd::Expired });
                }
                events.push(Event::OrderExpired { order, reason: ExpiryReason::SelfTradePrevention });
            } else if let Some(list) = self.book.special(maker).and_then(|special| special.order_list_id) {
                // It lost a part: to the other order of its pair that is as if it had traded.
                self.effects.push(Effect { list, order_id: self.book.number(maker), end: OrderEnd::Traded });
            }
        }
        taker.order.open_quantity().is_zero()
    }

    /// What two accounts of a group would have traded changes hands, without a trade and without a fee.
    fn transfer(&self, taker: &Taker, maker: TraderIndex, price: Price, quantity: Quantity, floor: &mut Floor) {
        let (taker_trader, maker_trader) = (self.book.traders.at(taker.trader), self.book.traders.at(maker));
        let notional = Notional::of(price, quantity).expect("checked when the maker was accepted");
        let (quote, base) = (self.symbol.scale.quote_amount(notional), self.symbol.scale.base_amount(quantity));
        let (buyer, seller, held) = match taker.order.side {
            Side::Sell => (maker_trader, taker_trader, self.need(Side::Buy, price, quantity)),
            // What a market buy holds for it is exactly what it costs.
            Side::Buy if taker.order.order_type.is_market() => (taker_trader, maker_trader, quote),
            Side::Buy => (taker_trader, maker_trader, self.need(Side::Buy, taker.order.price, quantity)),
        };
        floor.accounts.settle(buyer.quote, seller.quote, quote, Amount::ZERO);
        floor.accounts.settle(seller.base, buyer.base, base, Amount::ZERO);
        floor.accounts.release(buyer.quote, held.minus(quote));
    }

    /// Free what the taker held for a part that will not trade. What a market buy holds is exactly what its walk costs, so
    /// there is nothing to free.
    pub fn release_taker(&self, taker: &Taker, part: Quantity, floor: &mut Floor) {
        let (side, is_market) = (taker.order.side, taker.order.order_type.is_market());
        if part.is_zero() || (side == Side::Buy && is_market) {
            return;
        }
        let held = self.need(side, taker.order.price, part);
        floor.accounts.release(self.book.traders.at(taker.trader).pays_from(side), held);
    }

    /// The fees by lot of one trade. A seller's is at most what it receives.
    fn lot_fees(&self, quantity: Quantity, quote: Amount, taker_buys: bool) -> (Amount, Amount) {
        let fee = self.symbol.config.commission.by_lot.expect("the symbol charges by lot");
        let of = |rate: Amount| Amount(rate.0.saturating_mul(u128::from(quantity.0)));
        let (buyer, seller) = if taker_buys { (fee.taker, fee.maker) } else { (fee.maker, fee.taker) };
        (of(buyer), of(seller).min(quote))
    }
}

/// Whether the price range execution rule lets a taker of that side trade at a price.
#[inline]
pub fn may_execute(range: Option<(PriceRange, Price)>, side: Side, price: Price) -> bool {
    range.is_none_or(|(range, reference)| range.contains(side, reference, price))
}

impl Taker {
    /// Whether it may trade at a price.
    #[inline]
    fn reaches(&self, price: Price) -> bool {
        self.order.order_type.is_market() || reaches(self.order.side, self.order.price, price)
    }

    /// Some of it traded.
    #[inline]
    pub(crate) fn fill(&mut self, quantity: Quantity, quote: Amount, floor: &Floor) {
        let order = &mut self.order;
        order.executed = order.executed.checked_add(quantity).expect("a fill is part of the order");
        order.cumulative_quote = order.cumulative_quote.plus(quote);
        order.updated_at = floor.now;
        // What is known to end unfilled is never filled, even where its quantity says so.
        let filled = self.ends.is_none() && order.open_quantity().is_zero();
        order.status = if filled { OrderStatus::Filled } else { OrderStatus::PartiallyFilled };
    }

    /// Self-trade prevention took some of it.
    fn prevent(&mut self, quantity: Quantity, floor: &Floor) {
        self.order.updated_at = floor.now;
        let special = self.order.special_mut();
        special.prevented = special.prevented.checked_add(quantity).expect("a part of the order");
    }
}
