//! A symbol: its assets, scales, commission, filters and rules, as an operator configures them.

use serde::{Deserialize, Serialize};

use crate::commission::Commission;
use crate::event::Rejection;
use crate::order::SelfTradePrevention;
use crate::units::{Amount, AssetId, Multiplier, Scale, SymbolId};

/// The most parts of an iceberg where the symbol says no limit: each part is a trade of its own for the taker that meets it.
pub const ICEBERG_PARTS_MAX: u32 = 100;

/// What an operator says of a symbol. Prices are in smallest quote units per whole base, quantities in smallest base units.
/// A limit of zero, and a rule that is `None`, do not hold. The filters are checked in filter.rs.
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
    /// Over how many minutes the average price goes that stands in for a market order's price and that the price range
    /// filters compare with; zero takes the last price.
    pub average_price_minutes: u32,
    /// PERCENT_PRICE_BY_SIDE; PERCENT_PRICE where both sides are the same.
    pub percent_price: Option<PriceRange>,
    /// The price range execution rule: beyond it a taker expires (faqs/price_range_execution_rules.md).
    pub execution_range: Option<PriceRange>,
    /// ICEBERG_PARTS; zero for the engine's own limit of [`ICEBERG_PARTS_MAX`].
    pub iceberg_parts: u32,
    /// TRAILING_DELTA.
    pub trailing_delta: Option<TrailingDeltaFilter>,
    /// MAX_NUM_ORDERS.
    pub max_num_orders: u32,
    /// MAX_NUM_ALGO_ORDERS.
    pub max_num_algo_orders: u32,
    /// MAX_NUM_ICEBERG_ORDERS.
    pub max_num_iceberg_orders: u32,
    /// MAX_NUM_ORDER_AMENDS.
    pub max_num_order_amends: u32,
    /// MAX_NUM_ORDER_LISTS.
    pub max_num_order_lists: u32,
    /// MAX_POSITION, in smallest base units.
    pub max_position: Amount,
    /// The self-trade prevention of an order that says none.
    pub default_self_trade_prevention: SelfTradePrevention,
    /// The modes an order may say; the default is always among them.
    pub allowed_self_trade_prevention: Vec<SelfTradePrevention>,
    /// What trades pay.
    pub commission: Commission,
    /// When a run of the price stops the symbol by itself.
    pub circuit_breaker: Option<CircuitBreaker>,
}

/// A range around a reference price, by side of the order. A multiplier of zero does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceRange {
    /// A buy is at most so many times the reference.
    pub bid_up: Multiplier,
    /// A buy is at least so many times the reference.
    pub bid_down: Multiplier,
    /// A sell is at most so many times the reference.
    pub ask_up: Multiplier,
    /// A sell is at least so many times the reference.
    pub ask_down: Multiplier,
}

/// TRAILING_DELTA, in basis points. Above holds where the stop lies above the price: a stop loss that buys, a take profit
/// that sells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrailingDeltaFilter {
    /// minTrailingAboveDelta.
    pub min_above: u32,
    /// maxTrailingAboveDelta.
    pub max_above: u32,
    /// minTrailingBelowDelta.
    pub min_below: u32,
    /// maxTrailingBelowDelta.
    pub max_below: u32,
}

/// Halts the symbol when the price moves too far too fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitBreaker {
    /// The move that halts, as a part of the lowest or highest price within the window.
    pub trip: Multiplier,
    /// Within how many seconds.
    pub window_seconds: u32,
    /// For how many seconds; zero until an operator resumes it.
    pub halt_seconds: u32,
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
            average_price_minutes: 0,
            percent_price: None,
            execution_range: None,
            iceberg_parts: 0,
            trailing_delta: None,
            max_num_orders: 0,
            max_num_algo_orders: 0,
            max_num_iceberg_orders: 0,
            max_num_order_amends: 0,
            max_num_order_lists: 0,
            max_position: none,
            default_self_trade_prevention: SelfTradePrevention::None,
            allowed_self_trade_prevention: vec![
                SelfTradePrevention::None,
                SelfTradePrevention::ExpireTaker,
                SelfTradePrevention::ExpireMaker,
                SelfTradePrevention::ExpireBoth,
                SelfTradePrevention::Decrement,
                SelfTradePrevention::Transfer,
            ],
            commission: Commission::default(),
            circuit_breaker: None,
        }
    }
}

/// Whether a symbol trades.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SymbolStatus {
    /// Everything is allowed.
    Trading,
    /// The trading day is over: nothing new; cancels are allowed.
    EndOfDay,
    /// Stopped, by an operator or by the circuit breaker: nothing new; cancels are allowed.
    Halt,
    /// Paused: nothing new; cancels are allowed.
    Break,
    /// Nothing new but cancels, said so to clients.
    CancelOnly,
}

/// A listed symbol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symbol {
    /// Its number.
    pub id: SymbolId,
    /// As it is configured.
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
        let symbol = Symbol { id, config, status: SymbolStatus::Trading, scale };
        symbol.is_sound().then_some(symbol).ok_or(Rejection::InvalidConfiguration)
    }

    /// The symbol with other filters, fees and rules. What its book is made of stays.
    pub fn reconfigured(&self, config: SymbolConfig) -> Result<Symbol, Rejection> {
        let same = (&config.name, config.base, config.quote, config.tick_size, config.step_size)
            == (&self.config.name, self.config.base, self.config.quote, self.config.tick_size, self.config.step_size);
        let same_fee_model = config.commission.by_lot == self.config.commission.by_lot;
        let symbol = Symbol { config, ..self.clone() };
        (same && same_fee_model && symbol.is_sound()).then_some(symbol).ok_or(Rejection::InvalidConfiguration)
    }

    fn is_sound(&self) -> bool {
        let config = &self.config;
        let ordered = |min: Amount, max: Amount| max.is_zero() || min <= max;
        let trailing = config
            .trailing_delta
            .is_none_or(|filter| filter.min_above <= filter.max_above && filter.min_below <= filter.max_below);
        let breaker = config.circuit_breaker.is_none_or(|breaker| breaker.trip.0 > 0 && breaker.window_seconds > 0);
        let by_lot = config.commission.by_lot.is_none_or(|fee| {
            // By lot excludes what is charged of what is received.
            fee.maker <= fee.taker
                && u64::try_from(fee.taker.0).is_ok()
                && config.commission == Commission { by_lot: Some(fee), ..Commission::default() }
        });
        (1..=20).contains(&config.name.len())
            && config.base != config.quote
            && ordered(config.min_price, config.max_price)
            && ordered(config.min_quantity, config.max_quantity)
            && ordered(config.market_min_quantity, config.market_max_quantity)
            && ordered(config.min_notional, config.max_notional)
            && config.average_price_minutes <= 60
            && config.iceberg_parts <= 10 * ICEBERG_PARTS_MAX
            && config.allowed_self_trade_prevention.contains(&config.default_self_trade_prevention)
            && trailing
            && breaker
            && by_lot
    }
}
