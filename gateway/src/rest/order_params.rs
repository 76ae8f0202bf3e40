//! The parameters of new orders: alone, or as one of several in a list, where each name has its order before it.

use engine::command::{CancelRestriction, OrderQuantity, OrderReference, PlaceOrder, SpecialTerms};
use engine::order::{ClientOrderId, OrderType, Peg, PegPrice, SelfTradePrevention, Side, TimeInForce};
use engine::symbol::Symbol;
use engine::{Amount, OrderId, Rejection, Uid};
use rand::RngExt;
use rand::distr::Alphanumeric;

use super::error::ApiError;
use crate::params::Params;
use crate::views::Catalog;
use crate::wire::{self, PEG_OFFSET_TYPE};

/// The pattern that client order ids follow.
const LEGAL_CLIENT_ORDER_ID: &str = "^[a-zA-Z0-9-_.:/]{1,36}$";
/// How many characters an id has that we make up.
const MADE_UP_LENGTH: usize = 22;
/// The least strategyType.
const STRATEGY_TYPE_MIN: u64 = 1_000_000;

/// Where a new order goes, and what is said of all orders of a list together.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// Whose it is.
    pub uid: Uid,
    /// Where.
    pub symbol: &'a Symbol,
    /// Its assets' decimals are there.
    pub catalog: &'a Catalog,
    /// What the client says of its own trades.
    pub self_trade_prevention: Option<SelfTradePrevention>,
}

/// Which order of a list is meant; what is shared with another is said already.
#[derive(Clone, Copy)]
pub struct Leg {
    /// What stands before the names of its parameters; nothing for an order that is alone.
    pub prefix: &'static str,
    /// Its side.
    pub side: Side,
    /// Its quantity, where it is not its own.
    pub quantity: Option<OrderQuantity>,
}

impl<'a> Terms<'a> {
    /// Reads what is said of all orders of the request.
    pub fn parse(params: &mut Params, uid: Uid, catalog: &'a Catalog) -> Result<Terms<'a>, ApiError> {
        let symbol = params.symbol(catalog)?;
        let parse = wire::parse_self_trade_prevention;
        let mode = params.word("selfTradePreventionMode", parse, ApiError::invalid_self_trade_prevention)?;
        Ok(Terms { uid, symbol, catalog, self_trade_prevention: mode })
    }

    /// Reads one order; whether it is allowed, the engine decides.
    pub fn order(&self, params: &mut Params, leg: Leg) -> Result<PlaceOrder, ApiError> {
        let name = |name: &str| leg.name(name);
        let order_type = params.required(&name("type"))?;
        let order_type = wire::parse_type(&order_type).ok_or_else(ApiError::invalid_order_type)?;
        let id_name = if leg.prefix.is_empty() { "newClientOrderId".to_owned() } else { name("clientOrderId") };
        let client_order_id = client_order_id(params, &id_name)?;
        let time_in_force =
            params.word(&name("timeInForce"), wire::parse_time_in_force, ApiError::invalid_time_in_force)?;
        let has_time_in_force = order_type == OrderType::Limit || order_type.is_stop() && !order_type.is_market();
        let time_in_force = match (has_time_in_force, time_in_force) {
            (true, time_in_force) => time_in_force.ok_or_else(|| ApiError::missing_parameter(&name("timeInForce")))?,
            (false, Some(_)) if leg.prefix.is_empty() => return Err(ApiError::not_required("timeInForce")),
            (false, Some(_)) => return Err(ApiError::time_in_force_not_required()),
            (false, None) => TimeInForce::Gtc,
        };
        let quantity = match leg.quantity {
            Some(quantity) => quantity,
            None => self.quantity(params, leg, order_type)?,
        };
        let special = self.special(params, leg, order_type, time_in_force)?;
        let is_pegged = special.peg.is_some();
        let price = params.decimal(&name("price"), quote_scale(self.symbol, self.catalog))?;
        let price = match price {
            Some(_) if order_type.is_market() => return Err(ApiError::not_required(&name("price"))),
            // To the engine zero is no price at all.
            Some(Amount::ZERO) => return Err(ApiError::order_rejected(Rejection::PriceFilter)),
            None if !order_type.is_market() && !is_pegged => return Err(ApiError::missing_parameter(&name("price"))),
            price => price.unwrap_or_default(),
        };
        Ok(PlaceOrder {
            uid: self.uid,
            symbol: self.symbol.id,
            client_order_id,
            side: leg.side,
            order_type,
            time_in_force,
            price,
            quantity,
            self_trade_prevention: self.self_trade_prevention,
            special: (special != SpecialTerms::default()).then(|| Box::new(special)),
        })
    }

    fn quantity(&self, params: &mut Params, leg: Leg, order_type: OrderType) -> Result<OrderQuantity, ApiError> {
        let name = leg.name("quantity");
        let base = params.decimal(&name, base_scale(self.symbol, self.catalog))?;
        // No order of a list is given by its quote amount.
        let quote_name = "quoteOrderQty";
        let quote = match leg.prefix {
            "" => params.decimal(quote_name, quote_scale(self.symbol, self.catalog))?,
            _ => None,
        };
        match (order_type, base, quote) {
            (OrderType::Market, Some(_), Some(_)) => Err(ApiError::bad_combination()),
            (OrderType::Market, None, Some(quote)) => Ok(OrderQuantity::Quote(quote)),
            (OrderType::Market, None, None) if leg.prefix.is_empty() => {
                Err(ApiError::missing_either("quantity", quote_name))
            }
            (_, _, Some(_)) => Err(ApiError::not_required(quote_name)),
            (_, Some(base), None) => Ok(OrderQuantity::Base(base)),
            (_, None, None) => Err(ApiError::missing_parameter(&name)),
        }
    }

    fn special(
        &self,
        params: &mut Params,
        leg: Leg,
        order_type: OrderType,
        time_in_force: TimeInForce,
    ) -> Result<SpecialTerms, ApiError> {
        let stop_price = params.decimal(&leg.name("stopPrice"), quote_scale(self.symbol, self.catalog))?;
        let trailing_delta = integer(params, &leg.name("trailingDelta"))?;
        match (order_type.is_stop(), stop_price, trailing_delta) {
            (true, None, None) => {
                return Err(ApiError::missing_either(&leg.name("stopPrice"), &leg.name("trailingDelta")));
            }
            (false, Some(_), _) => return Err(ApiError::not_required(&leg.name("stopPrice"))),
            (false, _, Some(_)) => return Err(ApiError::not_required(&leg.name("trailingDelta"))),
            _ => {}
        }
        let iceberg_name = leg.name("icebergQty");
        let iceberg_quantity = params.decimal(&iceberg_name, base_scale(self.symbol, self.catalog))?;
        let iceberg_quantity = iceberg_quantity.filter(|quantity| !quantity.is_zero());
        if iceberg_quantity.is_some() && order_type.is_market() {
            return Err(ApiError::not_required(&iceberg_name));
        }
        if iceberg_quantity.is_some() && time_in_force != TimeInForce::Gtc {
            return Err(ApiError::iceberg_needs_gtc(&iceberg_name, &leg.name("timeInForce")));
        }
        let strategy_id = integer(params, &leg.name("strategyId"))?;
        let strategy_type = params.integer(&leg.name("strategyType"))?;
        if strategy_type.is_some_and(|kind| kind < STRATEGY_TYPE_MIN) {
            return Err(ApiError::strategy_type_too_low());
        }
        let too_large = |_| ApiError::overflow(&leg.name("strategyType"));
        Ok(SpecialTerms {
            stop_price,
            trailing_delta,
            iceberg_quantity,
            peg: peg(params, leg, order_type)?,
            strategy_id,
            strategy_type: strategy_type.map(i32::try_from).transpose().map_err(too_large)?,
        })
    }
}

impl Leg {
    /// An order that is alone.
    pub fn alone(side: Side) -> Leg {
        Leg { prefix: "", side, quantity: None }
    }

    fn name(&self, name: &str) -> String {
        prefixed(self.prefix, name)
    }
}

/// The name of a parameter of one order of a list: `above` and `stopPrice` are `aboveStopPrice`.
pub fn prefixed(prefix: &str, name: &str) -> String {
    let (first, rest) = name.split_at(1);
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}{}{rest}", first.to_uppercase()) }
}

fn peg(params: &mut Params, leg: Leg, order_type: OrderType) -> Result<Option<Peg>, ApiError> {
    let price = params.word(&leg.name("pegPriceType"), wire::parse_peg, ApiError::invalid_peg_price_type)?;
    let (kind_name, value_name) = (leg.name("pegOffsetType"), leg.name("pegOffsetValue"));
    let parse_kind = |word: &str| (word == PEG_OFFSET_TYPE).then_some(());
    let kind = params.word(&kind_name, parse_kind, ApiError::invalid_peg_offset_type)?;
    let value = params.integer(&value_name)?;
    if kind.is_some() != value.is_some() {
        return Err(ApiError::only_together(&format!("{kind_name}, {value_name}")));
    }
    let Some(price) = price else {
        return if kind.is_none() { Ok(None) } else { Err(ApiError::missing_parameter(&leg.name("pegPriceType"))) };
    };
    if order_type.is_market() {
        return Err(ApiError::not_for_pegs());
    }
    if order_type == OrderType::LimitMaker && price == PegPrice::Market {
        return Err(ApiError::wrong_peg());
    }
    let offset = u8::try_from(value.unwrap_or(0)).ok().filter(|offset| *offset <= Peg::OFFSET_MAX);
    let offset = offset.ok_or_else(|| ApiError::bad_data(&value_name))?;
    Ok(Some(Peg { price, offset }))
}

/// A whole number of the engine's kind.
fn integer<T: TryFrom<u64>>(params: &mut Params, name: &str) -> Result<Option<T>, ApiError> {
    let number = params.integer(name)?;
    number.map(T::try_from).transpose().map_err(|_| ApiError::overflow(name))
}

/// A side that must be there.
pub fn required_side(params: &mut Params, name: &str) -> Result<Side, ApiError> {
    let side = params.word(name, wire::parse_side, ApiError::invalid_side)?;
    side.ok_or_else(|| ApiError::missing_parameter(name))
}

/// `orderId`, `origClientOrderId`, or both, under the names given.
pub fn order_reference(params: &mut Params, id_name: &str, client_name: &str) -> Result<OrderReference, ApiError> {
    let order_id = params.integer(id_name)?.map(OrderId);
    let client_order_id = optional_client_order_id(params, client_name)?;
    if order_id.is_none() && client_order_id.is_none() {
        return Err(ApiError::missing_either(client_name, id_name));
    }
    Ok(OrderReference { order_id, client_order_id })
}

/// `cancelRestrictions`.
pub fn cancel_restriction(params: &mut Params) -> Result<Option<CancelRestriction>, ApiError> {
    let parse = |word: &str| match word {
        "ONLY_NEW" => Some(CancelRestriction::OnlyNew),
        "ONLY_PARTIALLY_FILLED" => Some(CancelRestriction::OnlyPartiallyFilled),
        _ => None,
    };
    params.word("cancelRestrictions", parse, ApiError::invalid_cancel_restriction)
}

/// The parameters that name what a request of new orders makes.
const NAMES: [&str; 11] = [
    "newClientOrderId",
    "cancelNewClientOrderId",
    "listClientOrderId",
    "aboveClientOrderId",
    "belowClientOrderId",
    "workingClientOrderId",
    "pendingClientOrderId",
    "pendingAboveClientOrderId",
    "pendingBelowClientOrderId",
    // As OCO was asked before legs were named by where they stand.
    "limitClientOrderId",
    "stopClientOrderId",
];

/// The names that the client gave to new orders and lists; all others that their commands have are made up.
pub fn given_names(params: &Params) -> Vec<ClientOrderId> {
    NAMES.iter().filter_map(|name| ClientOrderId::new(params.peek(name)?)).collect()
}

/// The id that the client gave, or one that we make up.
pub fn client_order_id(params: &mut Params, name: &str) -> Result<ClientOrderId, ApiError> {
    match optional_client_order_id(params, name)? {
        Some(id) => Ok(id),
        None => {
            let made_up: String = rand::rng().sample_iter(Alphanumeric).take(MADE_UP_LENGTH).map(char::from).collect();
            parse_client_order_id(name, &made_up)
        }
    }
}

/// The id that the client gave.
pub fn optional_client_order_id(params: &mut Params, name: &str) -> Result<Option<ClientOrderId>, ApiError> {
    match params.take(name) {
        Some(text) if !text.is_empty() => parse_client_order_id(name, &text).map(Some),
        Some(_) if name.to_ascii_lowercase().contains("orig") => Err(ApiError::empty_original_client_order_id()),
        Some(_) => Err(ApiError::empty_new_client_order_id()),
        None => Ok(None),
    }
}

fn parse_client_order_id(name: &str, text: &str) -> Result<ClientOrderId, ApiError> {
    ClientOrderId::new(text).ok_or_else(|| ApiError::illegal_characters(name, LEGAL_CLIENT_ORDER_ID))
}

/// Decimals of the base asset.
pub fn base_scale(symbol: &Symbol, catalog: &Catalog) -> u8 {
    catalog.assets[symbol.config.base.0 as usize].scale
}

fn quote_scale(symbol: &Symbol, catalog: &Catalog) -> u8 {
    catalog.assets[symbol.config.quote.0 as usize].scale
}

/// A quantity that several orders of a list share.
pub fn shared_quantity(params: &mut Params, name: &str, terms: &Terms<'_>) -> Result<OrderQuantity, ApiError> {
    params.required_decimal(name, base_scale(terms.symbol, terms.catalog)).map(OrderQuantity::Base)
}
