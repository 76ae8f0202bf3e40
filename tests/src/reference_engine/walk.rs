//! A taker does what was planned for it: trades, fees, what self-trade prevention takes, and what becomes of the rest.

use engine::commission::{CommissionRates, FeeRounding, LotFee};
use engine::event::{Event, ExpiryReason, Fill, PreventedMatch, Trade};
use engine::order::{Order, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce};
use engine::units::{Amount, AssetId, OrderId, PreventedMatchId, Price, Quantity, TradeId, Uid};

use super::ReferenceEngine;
use super::book::{End, Open, Place, Plan, Size, Step, Taker, What};
use super::lists::Effect;

/// What the trades of one walk did to prices and to lists.
#[derive(Default)]
pub struct Walk {
    pub prices: Option<(Price, Price)>,
    pub effects: Vec<Effect>,
    pub aggregate_at: Option<Price>,
}

/// One side of a trade.
struct Party {
    uid: Uid,
    side: Side,
    is_maker: bool,
    received: u128,
    asset: AssetId,
    /// What the other rules left to pay by lot.
    lots: u64,
}

impl ReferenceEngine {
    /// An order that holds what it needs comes to the book. What it sets off waits in `tasks`.
    pub(super) fn take(&mut self, at: usize, mut taker: Open, size: Size) {
        let order_id = taker.order.order_id.0;
        taker.place = Place::Taking;
        self.markets[at].taking = Some(order_id);
        let is_market = taker.order.order_type.is_market();
        let mut plan = self.plan_for(at, &taker, size);
        let kills = !is_market && taker.order.time_in_force == TimeInForce::Fok;
        if kills && plan.traded() < taker.open_lots() {
            self.end_taker(at, taker, OrderStatus::Expired, ExpiryReason::UnfilledFok);
            self.after_walk(at, None, vec![Effect::Ended(order_id)]);
            return;
        }

        // An order by quote that the book cannot satisfy is not filled, though nothing of its quantity is left.
        let by_quote = matches!(size, Size::Budget { .. });
        let falls_short = by_quote && matches!(plan.end, End::BookEmpty | End::OutOfRange);
        let mut walk = Walk::default();
        let mut is_touched = false;
        self.give_house(at, &taker, &mut plan);
        for (index, step) in plan.steps.iter().enumerate() {
            match step.what {
                What::Trade => self.trade(at, &mut taker, step, falls_short, &mut walk),
                What::Prevent { .. } => self.prevent(at, &mut taker, step, &mut walk),
            }
            is_touched |= step.touches_maker();
            if plan.steps.get(index + 1).is_none_or(|next| next.price != step.price) && std::mem::take(&mut is_touched)
            {
                self.report_level(at, taker.order.side.opposite(), step.price);
            }
        }

        if self.markets[at].desk.is_some() {
            // Its trades are not what moves its price.
            walk.prices = None;
            self.count_position(at, taker.order.side, plan.traded());
        }
        // A commission is converted at the last price before the walk.
        if let Some((_, last)) = walk.prices {
            self.markets[at].last_price = Some(last);
        }
        let is_over = taker.open_lots() == 0;
        if taker.order.status == OrderStatus::Filled {
            self.release_hold_of(at, &taker);
            walk.effects.push(Effect::Filled(order_id));
        } else {
            let immediate = !is_market && taker.order.time_in_force == TimeInForce::Ioc;
            let reason = match plan.end {
                End::Prevented => Some(ExpiryReason::SelfTradePrevention),
                _ if is_over && !falls_short => Some(ExpiryReason::SelfTradePrevention),
                End::OutOfRange => Some(ExpiryReason::PriceRangeExceeded),
                _ if is_market => Some(ExpiryReason::InsufficientLiquidity),
                _ if immediate => Some(ExpiryReason::UnfilledIocQuantity),
                _ => None,
            };
            match reason {
                Some(reason) => {
                    let prevented = reason == ExpiryReason::SelfTradePrevention;
                    let status = if prevented { OrderStatus::ExpiredInMatch } else { OrderStatus::Expired };
                    self.end_taker(at, taker, status, reason);
                    walk.effects.push(Effect::Ended(order_id));
                }
                None => self.rest(at, taker),
            }
        }
        self.after_walk(at, walk.prices, walk.effects);
    }

    pub(super) fn plan_for(&self, at: usize, open: &Open, size: Size) -> Plan {
        let order = &open.order;
        let taker = Taker {
            uid: order.uid,
            side: order.side,
            limit: (!order.order_type.is_market()).then_some(order.price),
            mode: order.self_trade_prevention,
            size,
        };
        self.markets[at].plan(&taker, &self.groups(), self.now)
    }

    /// The order goes to the end of its level's queue.
    pub(super) fn rest(&mut self, at: usize, mut open: Open) {
        let market = &mut self.markets[at];
        open.rest(market.next_ticket());
        market.taking = None;
        let (side, price) = (open.order.side, open.order.price);
        market.orders.insert(open.order.order_id.0, open);
        self.report_level(at, side, price);
    }

    fn end_taker(&mut self, at: usize, mut taker: Open, status: OrderStatus, reason: ExpiryReason) {
        self.markets[at].taking = None;
        self.release_hold_of(at, &taker);
        taker.order.status = status;
        taker.order.updated_at = self.now;
        self.events.push(Event::OrderExpired { order: taker.order, reason });
    }

    pub(super) fn trade(&mut self, at: usize, taker: &mut Open, step: &Step, falls_short: bool, walk: &mut Walk) {
        let now = self.now;
        let (price, lots) = (step.price, step.quantity);
        let market = &mut self.markets[at];
        let (quote, base) = (market.quote(u128::from(price.0) * u128::from(lots)), market.base(lots));
        market.last_trade_id += 1;
        if walk.aggregate_at != Some(price) {
            market.last_aggregate_id += 1;
        }
        walk.aggregate_at = Some(price);
        walk.prices = Some((walk.prices.map_or(price, |(first, _)| first), price));
        let sums = market.traded.entry(now.0 / 1_000_000).or_default();
        *sums = (sums.0 + u128::from(price.0) * u128::from(lots), sums.1 + u128::from(lots));
        let mut maker = market.orders.remove(&step.maker).expect("the plan speaks of open orders");

        for (open, is_maker) in [(&*taker, false), (&maker, true)] {
            if open.order.executed.0 == 0 {
                self.count_first_fill(open.order.uid, is_maker);
            }
        }
        let before = [self.need(at, taker), self.need(at, &maker)];
        fill(&mut taker.order, lots, quote, now);
        fill(&mut maker.order, lots, quote, now);
        if falls_short {
            taker.order.status = OrderStatus::PartiallyFilled;
        }
        self.show_next(at, &mut maker, lots);

        // The seller's base goes to the buyer, the buyer's quote to the seller.
        let by_lot = self.markets[at].symbol.config.commission.by_lot;
        let top = |side: Side, is_maker: bool| match by_lot {
            Some(fee) if side == Side::Buy => lot_fee(fee, is_maker, lots),
            _ => 0,
        };
        let mut freed = Vec::new();
        for (open, is_maker, before) in [(&mut *taker, false, before[0]), (&mut maker, true, before[1])] {
            let paid = match open.order.side {
                Side::Buy => quote + top(Side::Buy, is_maker),
                Side::Sell => base,
            };
            freed.push((open.order.uid, open.order.side, self.pay(at, open, before, paid, true)));
        }
        let config = &self.markets[at].symbol.config;
        let (base_asset, quote_asset) = (config.base, config.quote);
        let party = |order: &Order, is_maker: bool| Party {
            uid: order.uid,
            side: order.side,
            is_maker,
            received: if order.side == Side::Buy { base } else { quote },
            asset: if order.side == Side::Buy { base_asset } else { quote_asset },
            lots,
        };
        let parties = [party(&taker.order, false), party(&maker.order, true)];
        for party in &parties {
            self.receive(party.uid, party.asset, party.received);
        }
        let fees = parties.each_ref().map(|party| self.charge(at, party));
        // Then the buyer has back what the price was better than asked, and what a list will sell is kept for it.
        for (uid, side, freed) in freed {
            let asset = self.pays_in(at, side);
            self.unlock(uid, asset, freed);
        }
        for ((party, (fee, asset)), order) in parties.iter().zip(&fees).zip([&taker.order, &maker.order]) {
            if party.side == Side::Buy {
                let kept = if *asset == party.asset { party.received - fee } else { party.received };
                self.keep_proceeds(at, order.order_id.0, order.order_list_id(), kept);
            }
        }

        let fill_of = |order: &Order, (fee, fee_asset): (u128, AssetId)| Fill {
            order_id: order.order_id,
            uid: order.uid,
            fee: Amount(fee),
            fee_asset,
            executed: order.executed,
            cumulative_quote: order.cumulative_quote,
            status: order.status,
        };
        let market = &mut self.markets[at];
        self.events.push(Event::Trade(Trade {
            symbol: market.symbol.id,
            trade_id: TradeId(market.last_trade_id),
            aggregate_id: market.last_aggregate_id,
            price,
            quantity: Quantity(lots),
            quote_amount: Amount(quote),
            taker: fill_of(&taker.order, fees[0]),
            maker: fill_of(&maker.order, fees[1]),
            taker_side: taker.order.side,
        }));

        let maker_id = step.maker;
        if maker.open_lots() > 0 {
            self.markets[at].orders.insert(maker_id, maker);
            walk.effects.push(Effect::Traded(maker_id));
        } else {
            self.close_maker(at, &maker);
            walk.effects.push(Effect::Filled(maker_id));
        }
        walk.effects.push(Effect::Traded(taker.order.order_id.0));
        if taker.order.status == OrderStatus::Filled {
            self.markets[at].taking = None;
        }
    }

    fn prevent(&mut self, at: usize, taker: &mut Open, step: &Step, walk: &mut Walk) {
        let What::Prevent { mode, group, of_taker, of_maker } = step.what else { unreachable!("it is a prevention") };
        let now = self.now;
        let market = &mut self.markets[at];
        market.last_prevented_match_id += 1;
        let mut maker = market.orders.remove(&step.maker).expect("the plan speaks of open orders");
        self.events.push(Event::TradePrevented(PreventedMatch {
            symbol: market.symbol.id,
            prevented_match_id: PreventedMatchId(market.last_prevented_match_id),
            price: step.price,
            mode,
            trade_group: group,
            taker_side: taker.order.side,
            taker_order_id: taker.order.order_id,
            taker_uid: taker.order.uid,
            taker_prevented: Quantity(of_taker),
            maker_order_id: OrderId(step.maker),
            maker_uid: maker.order.uid,
            maker_prevented: Quantity(of_maker),
        }));

        let transferred = if mode == SelfTradePrevention::Transfer { step.quantity } else { 0 };
        let market = &self.markets[at];
        let quote = market.quote(u128::from(step.price.0) * u128::from(transferred));
        let base = market.base(transferred);
        let (base_asset, quote_asset) = (market.symbol.config.base, market.symbol.config.quote);
        for (open, lots) in [(&mut *taker, of_taker), (&mut maker, of_maker)] {
            if lots == 0 {
                continue;
            }
            let before = self.need(at, open);
            open.order.special_mut().prevented.0 += lots;
            open.order.updated_at = now;
            let paid = if open.order.side == Side::Buy { quote } else { base };
            let freed = self.pay(at, open, before, paid, false);
            let asset = self.pays_in(at, open.order.side);
            self.unlock(open.order.uid, asset, freed);
        }
        if transferred > 0 {
            for open in [&*taker, &maker] {
                match open.order.side {
                    Side::Buy => self.receive(open.order.uid, base_asset, base),
                    Side::Sell => self.receive(open.order.uid, quote_asset, quote),
                }
            }
        }
        if of_maker > 0 {
            self.show_next(at, &mut maker, of_maker);
        }
        if maker.open_lots() > 0 {
            self.markets[at].orders.insert(step.maker, maker);
            // The legs of a pair are not equal any more: as if this one had traded.
            if of_maker > 0 {
                walk.effects.push(Effect::Traded(step.maker));
            }
        } else {
            self.close_maker(at, &maker);
            maker.order.status = OrderStatus::ExpiredInMatch;
            self.events.push(Event::OrderExpired { order: maker.order, reason: ExpiryReason::SelfTradePrevention });
            walk.effects.push(Effect::Ended(step.maker));
        }
    }

    /// What the book shows of a maker that lost so many lots; with a new part it goes to the end of the queue.
    fn show_next(&mut self, at: usize, maker: &mut Open, lots: u64) {
        let Place::Book { ticket, shown } = maker.place else { unreachable!("makers rest") };
        let shown = shown.saturating_sub(lots);
        maker.place = Place::Book { ticket, shown };
        if shown == 0 && maker.open_lots() > 0 {
            maker.rest(self.markets[at].next_ticket());
        }
    }

    /// An order paid `paid` out of what it holds and needs less than `before`; says how much of it is to be free again. Of
    /// what was prevented a pair goes on to hold what its other leg needs.
    fn pay(&mut self, at: usize, open: &mut Open, before: u128, paid: u128, has_traded: bool) -> u128 {
        let asset = self.pays_in(at, open.order.side);
        let is_market_buy = open.order.side == Side::Buy && is_market_taker(open);
        let in_pair = self.pair_held(at, &open.order).is_some();
        let stays = is_market_buy || (in_pair && !has_traded);
        let less = if stays { paid } else { before - self.need(at, open) };
        self.spend(open.order.uid, asset, paid);
        match self.pair_held(at, &open.order) {
            Some(held) => *held -= less,
            None => open.held -= less,
        }
        less - paid
    }

    /// A maker has nothing left. What its pair holds is settled when the walk's effects on lists are.
    fn close_maker(&mut self, at: usize, maker: &Open) {
        if self.pair_held(at, &maker.order).is_none() {
            self.release_hold_of(at, maker);
        }
    }

    /// What an open order holds, or its share of what its pair holds.
    pub(super) fn need(&self, at: usize, open: &Open) -> u128 {
        let market = &self.markets[at];
        let order = &open.order;
        let lots = open.open_lots();
        let waits = !matches!(open.place, Place::Taking);
        match (order.side, order.order_type) {
            _ if matches!(open.place, Place::Pending(_)) => 0,
            (Side::Sell, _) => market.base(lots),
            (Side::Buy, OrderType::StopLoss | OrderType::TakeProfit) if waits => {
                let fee = market.symbol.config.commission.by_lot.map_or(0, |fee| fee.taker.0);
                market.quote(u128::from(open.hold_price.0) * u128::from(lots)) + fee * u128::from(lots)
            }
            (Side::Buy, OrderType::Market | OrderType::StopLoss | OrderType::TakeProfit) => open.held,
            (Side::Buy, _) => {
                let fee = market.symbol.config.commission.by_lot.map_or(0, |fee| fee.taker.0);
                market.quote(u128::from(order.price.0) * u128::from(lots)) + fee * u128::from(lots)
            }
        }
    }

    /// Take what one side owes of a trade off what it has; how much, in what.
    fn charge(&mut self, at: usize, party: &Party) -> (u128, AssetId) {
        let config = &self.markets[at].symbol.config;
        let commission = config.commission;
        if let Some(fee) = commission.by_lot {
            let (quote, fee) = (config.quote, lot_fee(fee, party.is_maker, party.lots));
            // The buyer paid it on top of the price.
            if party.side == Side::Buy {
                self.receive(FEES, quote, fee);
                return (fee, quote);
            }
            let fee = fee.min(party.received);
            self.charge_of(party.uid, quote, fee);
            return (fee, quote);
        }
        let settings = self.accounts[&party.uid].settings;
        let tier = self.tiers.get(&settings.commission_tier).filter(|_| settings.commission_tier > 0);
        let standard = tier.copied().unwrap_or(commission.standard);
        let part = |rates: CommissionRates| {
            let role = if party.is_maker { rates.maker } else { rates.taker };
            let side = if party.side == Side::Buy { rates.buyer } else { rates.seller };
            let rate = (u128::from(role.billionths()) + u128::from(side.billionths())).min(ALL);
            part_of(party.received, rate, commission.rounding)
        };
        let standard = part(standard);
        let others = (part(commission.special) + part(commission.tax)).min(party.received - standard);
        if let Some(discount) = commission.discount.filter(|_| settings.discount) {
            let owed = part_of(standard, discount.rate.billionths().into(), FeeRounding::HalfUp) + others;
            let converted = self.convert(owed, party.asset, discount.asset);
            // What comes to nothing only by the conversion is charged as usual.
            let right = |converted: &u128| *converted > 0 || owed == 0;
            let (free, _) = self.balance(party.uid, discount.asset);
            if let Some(fee) = converted.filter(right).filter(|fee| *fee <= free) {
                self.charge_of(party.uid, discount.asset, fee);
                return (fee, discount.asset);
            }
        }
        // Of what came in there may be less by now, where an account trades with itself and paid the other side's
        // commission in this asset.
        let fee = (standard + others).min(self.balance(party.uid, party.asset).0);
        self.charge_of(party.uid, party.asset, fee);
        (fee, party.asset)
    }

    fn charge_of(&mut self, uid: Uid, asset: AssetId, fee: u128) {
        self.take_free(uid, asset, fee);
        self.receive(FEES, asset, fee);
    }

    /// So much of one asset in another, at the last price of the first symbol that trades the two.
    fn convert(&self, amount: u128, from: AssetId, to: AssetId) -> Option<u128> {
        if from == to {
            return Some(amount);
        }
        let pairs = |config: &engine::symbol::SymbolConfig| {
            (config.base, config.quote) == (to, from) || (config.base, config.quote) == (from, to)
        };
        let market = self.markets.iter().find(|market| pairs(&market.symbol.config))?;
        let price = market.symbol.scale.price_amount(market.last_price?).0;
        let config = &market.symbol.config;
        let whole = 10u128.pow(self.assets[config.base.0 as usize].scale.into());
        let (times, per) = if config.base == to { (whole, price) } else { (price, whole) };
        Some(amount.checked_mul(times)?.checked_add(per / 2)? / per)
    }
}

/// Where all fees go.
pub const FEES: Uid = Uid(0);
/// A rate of everything, in billionths.
const ALL: u128 = 1_000_000_000;

/// A part of an amount, in billionths.
fn part_of(amount: u128, rate: u128, rounding: FeeRounding) -> u128 {
    let bias = match rounding {
        FeeRounding::HalfUp => ALL / 2,
        FeeRounding::Down => 0,
        FeeRounding::Up => ALL - 1,
    };
    // In two halves, as the product may not fit.
    amount / ALL * rate + (amount % ALL * rate + bias) / ALL
}

fn lot_fee(fee: LotFee, is_maker: bool, lots: u64) -> u128 {
    (if is_maker { fee.maker.0 } else { fee.taker.0 }) * u128::from(lots)
}

fn is_market_taker(open: &Open) -> bool {
    matches!(open.place, Place::Taking) && open.order.order_type.is_market()
}

fn fill(order: &mut Order, lots: u64, quote: u128, now: engine::Time) {
    order.executed.0 += lots;
    order.cumulative_quote.0 += quote;
    order.updated_at = now;
    let is_over = order.open_quantity().is_zero();
    order.status = if is_over { OrderStatus::Filled } else { OrderStatus::PartiallyFilled };
}
