//! The filters as exchangeInfo tells them (filters.md).

use engine::Amount;
use engine::command::ExchangeLimits;
use engine::symbol::{PriceRange, SymbolConfig};
use engine::units::Multiplier;
use serde_json::{Value, json};

use crate::wire::{Numbers, amount_text};

/// Decimals of a [`Multiplier`].
const MULTIPLIER_SCALE: u8 = 8;

/// A symbol's filters; those that do not hold are left out, but for the ones that clients rely on.
pub fn of_symbol(numbers: &Numbers<'_>) -> Vec<Value> {
    let config = &numbers.symbol.config;
    let price = |amount: Amount| amount_text(amount, numbers.quote_scale());
    let quantity = |amount: Amount| amount_text(amount, numbers.base_scale());
    // Zero is no limit inside; outside a limit of zero would allow nothing, so one stands that no order reaches.
    let ceiling = |amount: Amount, one: Amount, scale: u8| if amount.is_zero() { largest(one, scale) } else { amount };
    let (price_scale, quantity_scale) = (numbers.quote_scale(), numbers.base_scale());
    let mut filters = vec![
        json!({
            "filterType": "PRICE_FILTER",
            "minPrice": price(config.min_price.max(config.tick_size)),
            "maxPrice": price(ceiling(config.max_price, config.tick_size, price_scale)),
            "tickSize": price(config.tick_size),
        }),
        json!({
            "filterType": "LOT_SIZE",
            "minQty": quantity(config.min_quantity.max(config.step_size)),
            "maxQty": quantity(ceiling(config.max_quantity, config.step_size, quantity_scale)),
            "stepSize": quantity(config.step_size),
        }),
    ];
    filters.extend(count("ICEBERG_PARTS", "limit", config.iceberg_parts));
    filters.push(json!({
        "filterType": "MARKET_LOT_SIZE",
        "minQty": quantity(config.market_min_quantity),
        "maxQty": quantity(ceiling(config.market_max_quantity, config.step_size, quantity_scale)),
        "stepSize": quantity(Amount::ZERO),
    }));
    filters.extend(config.trailing_delta.map(|filter| {
        json!({
            "filterType": "TRAILING_DELTA",
            "minTrailingAboveDelta": filter.min_above,
            "maxTrailingAboveDelta": filter.max_above,
            "minTrailingBelowDelta": filter.min_below,
            "maxTrailingBelowDelta": filter.max_below,
        })
    }));
    filters.extend(config.percent_price.map(|range| percent_price(config, &range)));
    filters.push(json!({
        "filterType": "NOTIONAL",
        "minNotional": price(config.min_notional),
        "applyMinToMarket": config.apply_min_to_market,
        "maxNotional": price(ceiling(config.max_notional, config.tick_size, price_scale)),
        "applyMaxToMarket": config.apply_max_to_market,
        "avgPriceMins": config.average_price_minutes,
    }));
    filters.extend(count("MAX_NUM_ORDERS", "maxNumOrders", config.max_num_orders));
    filters.extend(count("MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders", config.max_num_algo_orders));
    filters.extend(count("MAX_NUM_ICEBERG_ORDERS", "maxNumIcebergOrders", config.max_num_iceberg_orders));
    if !config.max_position.is_zero() {
        filters.push(json!({ "filterType": "MAX_POSITION", "maxPosition": quantity(config.max_position) }));
    }
    filters.extend(count("MAX_NUM_ORDER_LISTS", "maxNumOrderLists", config.max_num_order_lists));
    filters.extend(count("MAX_NUM_ORDER_AMENDS", "maxNumOrderAmends", config.max_num_order_amends));
    filters
}

/// The filters over all symbols.
pub fn of_exchange(limits: &ExchangeLimits) -> Vec<Value> {
    let all = [
        count("EXCHANGE_MAX_NUM_ORDERS", "maxNumOrders", limits.max_num_orders),
        count("EXCHANGE_MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders", limits.max_num_algo_orders),
        count("EXCHANGE_MAX_NUM_ICEBERG_ORDERS", "maxNumIcebergOrders", limits.max_num_iceberg_orders),
        count("EXCHANGE_MAX_NUM_ORDER_LISTS", "maxNumOrderLists", limits.max_num_order_lists),
    ];
    all.into_iter().flatten().collect()
}

/// The price range execution rule (faqs/price_range_execution_rules.md).
pub fn execution_rule(range: &PriceRange) -> Value {
    json!({
        "ruleType": "PRICE_RANGE",
        "bidLimitMultUp": multiplier(range.bid_up),
        "bidLimitMultDown": multiplier(range.bid_down),
        "askLimitMultUp": multiplier(range.ask_up),
        "askLimitMultDown": multiplier(range.ask_down),
    })
}

fn multiplier(multiplier: Multiplier) -> String {
    amount_text(Amount(multiplier.0.into()), MULTIPLIER_SCALE)
}

/// A filter that is one number, where it holds.
fn count(kind: &str, name: &str, limit: u32) -> Option<Value> {
    (limit > 0).then(|| json!({ "filterType": kind, name: limit }))
}

fn percent_price(config: &SymbolConfig, range: &PriceRange) -> Value {
    let text = multiplier;
    let minutes = config.average_price_minutes;
    if (range.bid_up, range.bid_down) == (range.ask_up, range.ask_down) {
        return json!({
            "filterType": "PERCENT_PRICE",
            "multiplierUp": text(range.bid_up),
            "multiplierDown": text(range.bid_down),
            "avgPriceMins": minutes,
        });
    }
    json!({
        "filterType": "PERCENT_PRICE_BY_SIDE",
        "bidMultiplierUp": text(range.bid_up),
        "bidMultiplierDown": text(range.bid_down),
        "askMultiplierUp": text(range.ask_up),
        "askMultiplierDown": text(range.ask_down),
        "avgPriceMins": minutes,
    })
}

/// The most of something that comes in steps of `one`: as many as an order can count, and no more than ninety billion whole, for
/// clients count in 64 bits with eight decimals.
fn largest(one: Amount, scale: u8) -> Amount {
    let countable = one.0.saturating_mul(9_000_000_000_000_000);
    Amount(countable.min(10u128.saturating_pow(scale.into()).saturating_mul(90_000_000_000)))
}
