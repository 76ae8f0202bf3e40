//! The short road of a walk: trades between orders of the plain kind. What the trades of a walk have in common is found once,
//! and what only sums up is moved once, at the end.
//!
//! Plain is who pays a part of what is received and nothing else, an order without terms that few have, and an exchange that
//! does not count unfilled orders. All else takes the general road, [`Market::trade`], which does the same for every kind of
//! order; the tests hold both against a third.

use crate::account::{Pair, Run};
use crate::book::Slot;
use crate::commission::FeeRate;
use crate::event::{Event, Fill};
use crate::market::{Floor, Market};
use crate::matching::Taker;
use crate::order::{OrderStatus, SelfTradePrevention, Side};
use crate::trader::Trader;
use crate::units::{Amount, Notional, Price, Quantity};

/// A walk as far as it has come.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// Whether the taker may meet an order that it must not trade with.
    pub may_prevent: bool,
    /// Whether the taker and what it is charged are plain.
    is_plain: bool,
    /// What is paid of what the buyer and the seller receive.
    buyer_rate: FeeRate,
    seller_rate: FeeRate,
    /// What the trades pay and bring.
    run: Run,
    /// How much was traded since what only sums up was last moved.
    quantity: Quantity,
    /// What that was worth, in tick-lots.
    notional: u128,
}

impl Market {
    /// Before the first trade of a walk.
    pub(crate) fn sweep(&self, taker: &Taker, floor: &Floor) -> Sweep {
        let side = taker.order.side;
        let taker_buys = side == Side::Buy;
        let trader @ &Trader { base, quote, settings, .. } = self.book.traders.at(taker.trader);
        let config = &self.symbol.config;
        let rates = &config.commission.standard;
        Sweep {
            may_prevent: taker.order.self_trade_prevention != SelfTradePrevention::None
                && (trader.open_by_side[side.opposite() as usize] > 0 || settings.trade_group.is_some()),
            is_plain: settings.commission_tier == 0 && config.commission.is_plain() && !floor.limits.counts_orders(),
            buyer_rate: rates.rate(!taker_buys, Side::Buy),
            seller_rate: rates.rate(taker_buys, Side::Sell),
            run: Run::new(
                &floor.accounts,
                Pair { base: config.base, quote: config.quote },
                Pair { base, quote },
                taker_buys,
            ),
            quantity: Quantity::ZERO,
            notional: 0,
        }
    }

    /// One match of the taker with a maker, at the maker's price; false, and nothing happened, where that is not for this road.
    pub(crate) fn sweep_order(
        &mut self,
        taker: &mut Taker,
        maker: Slot,
        price: Price,
        sweep: &mut Sweep,
        floor: &mut Floor,
        events: &mut Vec<Event>,
    ) -> bool {
        let &Trader { uid, base, quote, settings, .. } = self.book.traders.at(self.book.trader_of(maker));
        let is_plain = sweep.is_plain && taker.order.special.is_none() && settings.commission_tier == 0;
        if !is_plain || self.book.special(maker).is_some() {
            return false;
        }
        let maker_balances = Pair { base, quote };
        let (scale, rounding) = (self.symbol.scale, self.symbol.config.commission.rounding);
        let order_id = self.book.number(maker);
        let quantity = taker.order.open_quantity().min(self.book.open(maker));
        // Fits: it is at most what the maker's own price × quantity came to when it was accepted.
        let notional = Notional::of(price, quantity).expect("checked when the maker was accepted");
        let (base, quote) = (scale.base_amount(quantity), scale.quote_amount(notional));
        taker.fill(quantity, quote, floor);
        let filled = self.book.fill(maker, quantity, notional, floor.now);
        sweep.quantity = sweep.quantity.checked_add(quantity).expect("a part of the order");
        sweep.notional += u128::from(notional.0);

        let taker_buys = taker.order.side == Side::Buy;
        let (base_fee, quote_fee) = (sweep.buyer_rate.of(base, rounding), sweep.seller_rate.of(quote, rounding));
        let fees = Pair { base: base_fee, quote: quote_fee };
        sweep.run.trade(&mut floor.accounts, maker_balances, Pair { base, quote }, fees);

        let bought = (base_fee, self.symbol.config.base);
        let sold = (quote_fee, self.symbol.config.quote);
        let (of_taker, of_maker) = if taker_buys { (bought, sold) } else { (sold, bought) };
        let maker = Fill {
            order_id,
            uid,
            fee: of_maker.0,
            fee_asset: of_maker.1,
            executed: filled.executed,
            cumulative_quote: scale.quote_amount(filled.cumulative),
            status: if filled.closed { OrderStatus::Filled } else { OrderStatus::PartiallyFilled },
        };
        self.tell_trade(&taker.order, of_taker, maker, (price, quantity, quote), events);
        true
    }

    /// What only summed up until now moves: at the end of a walk, and before anything else than this road moves money.
    #[inline]
    pub(crate) fn finish_sweep(&mut self, taker: &Taker, sweep: &mut Sweep, floor: &mut Floor) {
        if !sweep.quantity.is_zero() {
            self.settle_sweep(taker, sweep, floor);
        }
    }

    fn settle_sweep(&mut self, taker: &Taker, sweep: &mut Sweep, floor: &mut Floor) {
        let (quantity, notional) = (std::mem::take(&mut sweep.quantity), std::mem::take(&mut sweep.notional));
        let scale = self.symbol.scale;
        let quote = scale.quote_amounts(notional);
        let mut better = Amount::ZERO;
        if taker.order.side == Side::Buy && !taker.order.order_type.is_market() {
            let held = Notional::of(taker.order.price, quantity).expect("checked when the order was accepted");
            better = scale.quote_amount(held).minus(quote);
        }
        sweep.run.finish(&mut floor.accounts, Pair { base: scale.base_amount(quantity), quote }, better);
        let minutes = self.symbol.config.average_price_minutes;
        if minutes > 0 {
            self.average.trades(floor.now, minutes, notional, quantity);
        }
    }
}
