//! A symbol: its assets, scales, fees and filters.

use serde::{Deserialize, Serialize};

use crate::event::Rejection;
use crate::units::{Amount, AssetId, FeeRate, Price, Quantity, Scale, SymbolId};

/// What an operator says of a new symbol. Prices are in smallest quote units per whole base, quantities in smallest base
/// units. A filter's limit of zero means no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SymbolConfig {
    /// Its name, such as `BTCUSDT`: 1 to 20 bytes, unique.
    pub name: String,
    /// What is bought and sold.
    pub base: AssetId,
    /// What it is paid in.
    pub quote: AssetId,
    /// PRICE_FILTER tickSize; above zero.
    pub tick_size: Amount,
    /// PRICE_FILTER minPrice.
    pub min_price: Amount,
    /// PRICE_FILTER maxPrice.
    pub max_price: Amount,
    /// LOT_SIZE stepSize; above zero.
    pub step_size: Amount,
    /// LOT_SIZE minQty.
    pub min_quantity: Amount,
    /// LOT_SIZE maxQty.
    pub max_quantity: Amount,
    /// MARKET_LOT_SIZE minQty.
    pub market_min_quantity: Amount,
    /// MARKET_LOT_SIZE maxQty.
    pub market_max_quantity: Amount,
    /// NOTIONAL minNotional, in smallest quote units.
    pub min_notional: Amount,
    /// Whether minNotional holds for market orders too.
    pub apply_min_to_market: bool,
    /// NOTIONAL maxNotional, in smallest quote units.
    pub max_notional: Amount,
    /// Whether maxNotional holds for market orders too.
    pub apply_max_to_market: bool,
    /// What a maker pays of what it receives.
    pub maker_fee: FeeRate,
    /// What a taker pays of what it receives.
    pub taker_fee: FeeRate,
}

impl SymbolConfig {
    /// A symbol of this tick and step, without any limit and without fees.
    pub fn plain(name: &str, base: AssetId, quote: AssetId, tick_size: Amount, step_size: Amount) -> SymbolConfig {
        let none = Amount::ZERO;
        SymbolConfig {
            name: name.to_owned(),
            base,
            quote,
            tick_size,
            min_price: none,
            max_price: none,
            step_size,
            min_quantity: none,
            max_quantity: none,
            market_min_quantity: none,
            market_max_quantity: none,
            min_notional: none,
            apply_min_to_market: false,
            max_notional: none,
            apply_max_to_market: false,
            maker_fee: FeeRate::default(),
            taker_fee: FeeRate::default(),
        }
    }
}

/// Whether a symbol trades.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SymbolStatus {
    /// Everything is allowed.
    Trading,
    /// Nothing new; cancels are allowed.
    Halt,
    /// Nothing new but cancels, said so to clients.
    CancelOnly,
}

/// A listed symbol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symbol {
    /// Its number.
    pub id: SymbolId,
    /// As it was listed.
    pub config: SymbolConfig,
    /// Whether it trades.
    pub status: SymbolStatus,
    /// What a tick and a lot are worth.
    pub scale: Scale,
}

impl Symbol {
    /// The symbol that `config` describes, where the base asset has `base_scale` decimals; checks what can be checked
    /// without knowing the other symbols.
    pub fn new(id: SymbolId, config: SymbolConfig, base_scale: u8) -> Result<Symbol, Rejection> {
        let scale =
            Scale::new(config.tick_size, config.step_size, base_scale).ok_or(Rejection::InvalidConfiguration)?;
        let named = (1..=20).contains(&config.name.len());
        let ordered = |min: Amount, max: Amount| max.is_zero() || min <= max;
        let sound = named
            && config.base != config.quote
            && ordered(config.min_price, config.max_price)
            && ordered(config.min_quantity, config.max_quantity)
            && ordered(config.market_min_quantity, config.market_max_quantity)
            && ordered(config.min_notional, config.max_notional);
        if !sound {
            return Err(Rejection::InvalidConfiguration);
        }
        Ok(Symbol { id, config, status: SymbolStatus::Trading, scale })
    }

    /// PRICE_FILTER: the price in ticks.
    pub fn check_price(&self, price: Amount) -> Result<Price, Rejection> {
        if price.is_zero() || !within(price, self.config.min_price, self.config.max_price) {
            return Err(Rejection::PriceFilter);
        }
        self.scale.ticks(price).ok_or(Rejection::PriceFilter)
    }

    /// LOT_SIZE: the quantity in lots.
    pub fn check_quantity(&self, quantity: Amount) -> Result<Quantity, Rejection> {
        if quantity.is_zero() {
            return Err(Rejection::ZeroQuantity);
        }
        if !within(quantity, self.config.min_quantity, self.config.max_quantity) {
            return Err(Rejection::LotSize);
        }
        self.scale.lots(quantity).ok_or(Rejection::LotSize)
    }

    /// LOT_SIZE and MARKET_LOT_SIZE: the quantity of a market order in lots.
    pub fn check_market_quantity(&self, quantity: Amount) -> Result<Quantity, Rejection> {
        let lots = self.check_quantity(quantity)?;
        if !within(quantity, self.config.market_min_quantity, self.config.market_max_quantity) {
            return Err(Rejection::MarketLotSize);
        }
        Ok(lots)
    }

    /// NOTIONAL of an order with a price.
    pub fn check_notional(&self, notional: Amount) -> Result<(), Rejection> {
        let allowed = within(notional, self.config.min_notional, self.config.max_notional);
        allowed.then_some(()).ok_or(Rejection::Notional)
    }

    /// NOTIONAL of a market order, whose notional is an estimate by the last price, or its quote amount.
    pub fn check_market_notional(&self, notional: Amount) -> Result<(), Rejection> {
        let limit = |applies: bool, limit: Amount| if applies { limit } else { Amount::ZERO };
        let min = limit(self.config.apply_min_to_market, self.config.min_notional);
        let max = limit(self.config.apply_max_to_market, self.config.max_notional);
        within(notional, min, max).then_some(()).ok_or(Rejection::Notional)
    }
}

/// Whether `value` is from `min` to `max`, where a limit of zero is none.
fn within(value: Amount, min: Amount, max: Amount) -> bool {
    value >= min && (max.is_zero() || value <= max)
}
