//! The filters: what a symbol lets in (filters.md). Those that count orders are with the traders, in placing.rs.

use crate::event::Rejection;
use crate::order::{OrderType, SelfTradePrevention, Side};
use crate::symbol::{ICEBERG_PARTS_MAX, PriceRange, Symbol};
use crate::units::{Amount, Multiplier, Notional, Price, Quantity};

impl Symbol {
    /// PRICE_FILTER: the price in ticks. Holds for stop prices too.
    #[inline]
    pub fn check_price(&self, price: Amount) -> Result<Price, Rejection> {
        if price.is_zero() || !within(price, self.config.min_price, self.config.max_price) {
            return Err(Rejection::PriceFilter);
        }
        self.scale.ticks(price).ok_or(Rejection::PriceFilter)
    }

    /// LOT_SIZE: the quantity in lots.
    #[inline]
    pub fn check_quantity(&self, quantity: Amount) -> Result<Quantity, Rejection> {
        if quantity.is_zero() {
            return Err(Rejection::ZeroQuantity);
        }
        if !within(quantity, self.config.min_quantity, self.config.max_quantity) {
            return Err(Rejection::LotSize);
        }
        self.scale.lots(quantity).ok_or(Rejection::LotSize)
    }

    /// MARKET_LOT_SIZE: a quantity that passed LOT_SIZE, of an order that will be a market order.
    pub fn check_market_quantity(&self, quantity: Amount) -> Result<(), Rejection> {
        let allowed = within(quantity, self.config.market_min_quantity, self.config.market_max_quantity);
        allowed.then_some(()).ok_or(Rejection::MarketLotSize)
    }

    /// The most lots that LOT_SIZE and MARKET_LOT_SIZE let a market order have.
    pub fn most_market_quantity(&self) -> Quantity {
        let limits = [self.config.max_quantity, self.config.market_max_quantity];
        let lots = limits.into_iter().filter(|limit| !limit.is_zero()).map(|limit| self.scale.whole_lots(limit));
        lots.min().unwrap_or(Quantity(u64::MAX))
    }

    /// LOT_SIZE and ICEBERG_PARTS of an iceberg: what it shows, in lots.
    pub fn check_iceberg(&self, part: Amount, quantity: Quantity) -> Result<Quantity, Rejection> {
        let part = self.check_quantity(part)?;
        if part > quantity {
            return Err(Rejection::IcebergExceedsQuantity);
        }
        let limit = match self.config.iceberg_parts {
            0 => ICEBERG_PARTS_MAX,
            limit => limit,
        };
        let allowed = quantity.0.div_ceil(part.0) <= u64::from(limit);
        allowed.then_some(part).ok_or(Rejection::IcebergParts)
    }

    /// TRAILING_DELTA. Without the filter any delta is allowed that the price can come back by.
    pub fn check_trailing(&self, order_type: OrderType, side: Side, delta: u32) -> Result<(), Rejection> {
        let above = rises(order_type, side);
        let allowed = match self.config.trailing_delta {
            Some(filter) if above => (filter.min_above..=filter.max_above).contains(&delta),
            Some(filter) => (filter.min_below..=filter.max_below).contains(&delta),
            None => true,
        };
        let possible = delta > 0 && (side == Side::Buy || delta < 10_000);
        (allowed && possible).then_some(()).ok_or(Rejection::TrailingDelta)
    }

    /// PERCENT_PRICE and PERCENT_PRICE_BY_SIDE, where there is a reference price.
    #[inline]
    pub fn check_percent_price(&self, side: Side, price: Price, reference: Option<Price>) -> Result<(), Rejection> {
        let (Some(range), Some(reference)) = (&self.config.percent_price, reference) else { return Ok(()) };
        range.contains(side, reference, price).then_some(()).ok_or(Rejection::PercentPrice)
    }

    /// NOTIONAL of an order with a price.
    #[inline]
    pub fn check_notional(&self, notional: Notional) -> Result<(), Rejection> {
        let notional = self.scale.quote_amount(notional);
        let allowed = within(notional, self.config.min_notional, self.config.max_notional);
        allowed.then_some(()).ok_or(Rejection::Notional)
    }

    /// NOTIONAL of a market order, whose notional is an estimate or its quote amount.
    pub fn check_market_notional(&self, notional: Amount) -> Result<(), Rejection> {
        let limit = |applies: bool, limit: Amount| if applies { limit } else { Amount::ZERO };
        let min = limit(self.config.apply_min_to_market, self.config.min_notional);
        let max = limit(self.config.apply_max_to_market, self.config.max_notional);
        within(notional, min, max).then_some(()).ok_or(Rejection::Notional)
    }

    /// The self-trade prevention of an order: what it says or the symbol's default, where both symbol and account allow it.
    #[inline]
    pub fn check_self_trade_prevention(
        &self,
        said: Option<SelfTradePrevention>,
        required: bool,
    ) -> Result<SelfTradePrevention, Rejection> {
        let Some(mode) = said else {
            let mode = self.config.default_self_trade_prevention;
            let allowed = !required || mode != SelfTradePrevention::None;
            return allowed.then_some(mode).ok_or(Rejection::SelfTradePreventionNotAllowed);
        };
        let allowed = self.config.allowed_self_trade_prevention.contains(&mode)
            && !(required && mode == SelfTradePrevention::None);
        allowed.then_some(mode).ok_or(Rejection::SelfTradePreventionNotAllowed)
    }
}

impl PriceRange {
    /// Whether an order of that side may have a price where the reference is this. A bound that no price reaches is the highest
    /// price.
    #[inline]
    pub fn contains(&self, side: Side, reference: Price, price: Price) -> bool {
        let (down, up) = match side {
            Side::Buy => (self.bid_down, self.bid_up),
            Side::Sell => (self.ask_down, self.ask_up),
        };
        // Multiplied out, for a division costs more than all other filters together. Down is a bound that is rounded up and up
        // one that is rounded down, so whole prices compare in the same way.
        let times = |price: Price, multiplier: Multiplier| u128::from(price.0) * u128::from(multiplier.0);
        let price_once = times(price, Multiplier::ONE);
        let high_enough = price_once >= times(reference, down) || price.0 == u64::MAX;
        let low_enough = up == Multiplier(0) || price_once <= times(reference, up);
        high_enough && low_enough
    }
}

/// Whether a stop waits for the price to rise to it: a stop loss that buys, a take profit that sells.
pub fn rises(order_type: OrderType, side: Side) -> bool {
    let stop_loss = matches!(order_type, OrderType::StopLoss | OrderType::StopLossLimit);
    stop_loss == (side == Side::Buy)
}

/// Whether `value` is from `min` to `max`, where a limit of zero is none.
fn within(value: Amount, min: Amount, max: Amount) -> bool {
    value >= min && (max.is_zero() || value <= max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbol::SymbolConfig;
    use crate::units::{AssetId, SymbolId};

    #[test]
    fn a_price_is_within_the_bounds_rounded_into_the_range() {
        let bounds = |range: &PriceRange, reference| {
            let low = if range.bid_down.0 == 0 { Price(0) } else { range.bid_down.of_rounded_up(reference) };
            let high = if range.bid_up.0 == 0 { Price(u64::MAX) } else { range.bid_up.of(reference) };
            low..=high
        };
        let numbers = [0, 1, 2, 99, 100, 101, 33_333_333, 99_999_999, 100_000_000, 100_000_001, u64::MAX - 1, u64::MAX];
        for (&up, &down) in numbers.iter().flat_map(|up| numbers.iter().map(move |down| (up, down))) {
            let [bid_up, bid_down] = [up, down].map(Multiplier);
            let range = PriceRange { bid_up, bid_down, ask_up: bid_down, ask_down: bid_up };
            for (&reference, &price) in numbers.iter().flat_map(|one| numbers.iter().map(move |other| (one, other))) {
                let (reference, price) = (Price(reference), Price(price));
                let expected = bounds(&range, reference).contains(&price);
                assert_eq!(range.contains(Side::Buy, reference, price), expected, "{price} of {reference}, {range:?}");
            }
        }
    }

    #[test]
    fn an_iceberg_of_endless_parts_is_refused_where_the_symbol_sets_no_limit() {
        let config = SymbolConfig::plain("BTCUSDT", AssetId(0), AssetId(1), Amount(1), Amount(1));
        let symbol = Symbol::new(SymbolId(0), config, 0).unwrap();
        assert_eq!(symbol.check_iceberg(Amount(1), Quantity(1 << 40)), Err(Rejection::IcebergParts));
        assert_eq!(symbol.check_iceberg(Amount(1), Quantity(u64::from(ICEBERG_PARTS_MAX))), Ok(Quantity(1)));
    }
}
