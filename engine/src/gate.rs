//! What a symbol's filters ask of prices, quantities and their product, in ticks, lots and tick-lots: made ready when the symbol
//! is configured, so that what passes does so in a few compares. What does not pass is checked anew by filter.rs, which alone
//! refuses; so the filters and their rejections are written once.

use crate::event::Rejection;
use crate::market::{Floor, Market};
use crate::order::{SelfTradePrevention, Side};
use crate::symbol::Symbol;
use crate::units::{Amount, Notional, Price, Quantity, Unit};

/// What a symbol's filters ask.
#[derive(Clone, Debug)]
pub struct Gate {
    tick: Unit,
    lot: Unit,
    /// From and to, in ticks.
    prices: (Price, Price),
    /// In lots.
    quantities: (Quantity, Quantity),
    /// In tick-lots.
    notionals: (Notional, Notional),
    default_self_trade_prevention: SelfTradePrevention,
    /// A bit for each.
    allowed_self_trade_prevention: u8,
}

impl Gate {
    /// What this symbol asks.
    pub fn new(symbol: &Symbol) -> Gate {
        let (config, scale) = (&symbol.config, symbol.scale);
        let bounds = |min: Amount, max: Amount, unit: Amount| {
            let low = u64::try_from(min.0.div_ceil(unit.0)).ok();
            let high = if max.is_zero() { u64::MAX } else { u64::try_from(max.0 / unit.0).unwrap_or(u64::MAX) };
            // Where even the lowest does not fit, nothing passes.
            low.map_or((u64::MAX, 0), |low| (low, high))
        };
        let (tick, lot) = (scale.tick_size(), scale.step_size());
        let prices = bounds(config.min_price, config.max_price, tick);
        let quantities = bounds(config.min_quantity, config.max_quantity, lot);
        let notionals = bounds(config.min_notional, config.max_notional, scale.quote_amount(Notional(1)));
        let bits = config.allowed_self_trade_prevention.iter().map(|&mode| 1 << mode as u8);
        Gate {
            tick: Unit::new(tick),
            lot: Unit::new(lot),
            prices: (Price(prices.0.max(1)), Price(prices.1)),
            quantities: (Quantity(quantities.0.max(1)), Quantity(quantities.1)),
            notionals: (Notional(notionals.0), Notional(notionals.1)),
            default_self_trade_prevention: config.default_self_trade_prevention,
            allowed_self_trade_prevention: bits.fold(0, |all, bit: u8| all | bit),
        }
    }

    /// A price, where it passes PRICE_FILTER.
    #[inline]
    pub fn price(&self, price: Amount) -> Option<Price> {
        let price = Price(self.tick.count(price)?);
        (self.prices.0 <= price && price <= self.prices.1).then_some(price)
    }

    /// A quantity, where it passes LOT_SIZE.
    #[inline]
    pub fn quantity(&self, quantity: Amount) -> Option<Quantity> {
        let quantity = Quantity(self.lot.count(quantity)?);
        (self.quantities.0 <= quantity && quantity <= self.quantities.1).then_some(quantity)
    }

    /// Whether NOTIONAL is passed.
    #[inline]
    pub fn is_worth_enough(&self, notional: Notional) -> bool {
        self.notionals.0 <= notional && notional <= self.notionals.1
    }

    /// The self-trade prevention of an order, where it is allowed.
    #[inline]
    pub fn self_trade_prevention(
        &self,
        said: Option<SelfTradePrevention>,
        required: bool,
    ) -> Option<SelfTradePrevention> {
        let mode = match said {
            None => self.default_self_trade_prevention,
            Some(mode) => {
                if self.allowed_self_trade_prevention >> mode as u8 & 1 == 0 {
                    return None;
                }
                mode
            }
        };
        (!required || mode != SelfTradePrevention::None).then_some(mode)
    }
}

impl Market {
    /// [`Symbol::check_price`].
    #[inline]
    pub fn check_price(&self, price: Amount) -> Result<Price, Rejection> {
        self.gate.price(price).map_or_else(|| refuse(|| self.symbol.check_price(price)), Ok)
    }

    /// [`Symbol::check_quantity`].
    #[inline]
    pub fn check_quantity(&self, quantity: Amount) -> Result<Quantity, Rejection> {
        self.gate.quantity(quantity).map_or_else(|| refuse(|| self.symbol.check_quantity(quantity)), Ok)
    }

    /// [`Symbol::check_notional`].
    #[inline]
    pub fn check_notional(&self, notional: Notional) -> Result<(), Rejection> {
        if self.gate.is_worth_enough(notional) { Ok(()) } else { refuse(|| self.symbol.check_notional(notional)) }
    }

    /// [`Symbol::check_percent_price`] around what the symbol is worth now.
    #[inline]
    pub fn check_percent_price(&mut self, side: Side, price: Price, floor: &Floor) -> Result<(), Rejection> {
        if self.symbol.config.percent_price.is_none() {
            return Ok(());
        }
        let reference = self.reference(floor.now);
        self.symbol.check_percent_price(side, price, reference)
    }
}

/// What did not pass in a few compares is seldom checked.
#[cold]
#[inline(never)]
fn refuse<T>(check: impl FnOnce() -> Result<T, Rejection>) -> Result<T, Rejection> {
    check()
}
