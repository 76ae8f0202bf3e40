//! The JSON shapes that several handlers share, and the words of the API. Names, kinds and order of fields are those of
//! rest-api.md.

use engine::event::{ExpiryReason, Trade};
use engine::order::{Order, OrderStatus, OrderType, Side, TimeInForce};
use engine::symbol::{Symbol, SymbolStatus};
use engine::units::FeeRate;
use engine::{Amount, Price, Quantity};
use serde::Serialize;

use crate::decimals::{Decimals, push_amount};
use crate::views::Catalog;
use crate::ws::hub::TimeUnit;

/// There are no order lists, so every order says so.
const NO_ORDER_LIST: i64 = -1;
/// Self-trades are not prevented.
pub const SELF_TRADE_PREVENTION: &str = "NONE";
/// Billionths: the decimals of a fee rate.
const FEE_RATE_SCALE: u8 = 9;

/// `text` of a side, and back.
pub fn side_word(side: Side) -> &'static str {
    match side {
        Side::Buy => "BUY",
        Side::Sell => "SELL",
    }
}

/// The side that the word means.
pub fn parse_side(word: &str) -> Option<Side> {
    match word {
        "BUY" => Some(Side::Buy),
        "SELL" => Some(Side::Sell),
        _ => None,
    }
}

/// The word for an order type.
pub fn type_word(order_type: OrderType) -> &'static str {
    match order_type {
        OrderType::Limit => "LIMIT",
        OrderType::Market => "MARKET",
        OrderType::LimitMaker => "LIMIT_MAKER",
    }
}

/// The word for a time in force.
pub fn time_in_force_word(time_in_force: TimeInForce) -> &'static str {
    match time_in_force {
        TimeInForce::Gtc => "GTC",
        TimeInForce::Ioc => "IOC",
        TimeInForce::Fok => "FOK",
    }
}

/// The time in force that the word means.
pub fn parse_time_in_force(word: &str) -> Option<TimeInForce> {
    match word {
        "GTC" => Some(TimeInForce::Gtc),
        "IOC" => Some(TimeInForce::Ioc),
        "FOK" => Some(TimeInForce::Fok),
        _ => None,
    }
}

/// The word for an order's status.
pub fn status_word(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::New => "NEW",
        OrderStatus::PartiallyFilled => "PARTIALLY_FILLED",
        OrderStatus::Filled => "FILLED",
        OrderStatus::Canceled => "CANCELED",
        OrderStatus::Expired => "EXPIRED",
    }
}

/// The word for why an order expired.
pub fn expiry_reason_word(reason: ExpiryReason) -> &'static str {
    match reason {
        ExpiryReason::UnfilledIocQuantity => "UNFILLED_IOC_QUANTITY_EXPIRED",
        ExpiryReason::UnfilledFok => "UNFILLED_FOK_ORDER_EXPIRED",
        ExpiryReason::InsufficientLiquidity => "INSUFFICIENT_LIQUIDITY",
    }
}

/// The word for a symbol's status.
pub fn symbol_status_word(status: SymbolStatus) -> &'static str {
    match status {
        SymbolStatus::Trading => "TRADING",
        SymbolStatus::Halt => "HALT",
        SymbolStatus::CancelOnly => "CANCEL_ONLY",
    }
}

/// An amount as decimal text.
pub fn amount_text(amount: Amount, scale: u8) -> String {
    let mut text = String::new();
    push_amount(&mut text, amount, scale);
    text
}

/// A fee rate as a fraction with eight decimals, or nine where it needs them.
pub fn rate_text(rate: FeeRate) -> String {
    let mut text = amount_text(Amount(rate.billionths().into()), FEE_RATE_SCALE);
    if text.ends_with('0') {
        text.pop();
    }
    text
}

/// One symbol's way of writing numbers.
#[derive(Clone, Copy)]
pub struct Numbers<'a> {
    /// The symbol.
    pub symbol: &'a Symbol,
    catalog: &'a Catalog,
    decimals: Decimals,
    unit: TimeUnit,
}

impl<'a> Numbers<'a> {
    /// Of a symbol of the catalog, with times in `unit`.
    pub fn new(symbol: &'a Symbol, catalog: &'a Catalog, unit: TimeUnit) -> Numbers<'a> {
        Numbers { symbol, catalog, decimals: Decimals::new(symbol, catalog), unit }
    }

    /// Decimals of the base asset.
    pub fn base_scale(&self) -> u8 {
        self.decimals.base
    }

    /// Decimals of the quote asset.
    pub fn quote_scale(&self) -> u8 {
        self.decimals.quote
    }

    /// A price.
    pub fn price(&self, price: Price) -> String {
        let mut text = String::new();
        self.decimals.push_price(&mut text, price);
        text
    }

    /// A quantity.
    pub fn quantity(&self, quantity: Quantity) -> String {
        let mut text = String::new();
        self.decimals.push_quantity(&mut text, quantity);
        text
    }

    /// An amount of quote.
    pub fn quote(&self, amount: Amount) -> String {
        amount_text(amount, self.decimals.quote)
    }

    /// An amount of base.
    pub fn base(&self, amount: Amount) -> String {
        amount_text(amount, self.decimals.base)
    }

    /// A time.
    pub fn time(&self, time: engine::Time) -> u64 {
        self.unit.of(time)
    }

    fn asset_name(&self, asset: engine::AssetId) -> &'a str {
        self.catalog.assets.get(asset.0 as usize).map_or("", |asset| &asset.name)
    }

    /// What the taker of a trade is told of it.
    pub fn fill(&self, trade: &Trade) -> FillShape<'a> {
        let scale = if trade.taker_side == Side::Buy { self.decimals.base } else { self.decimals.quote };
        FillShape {
            price: self.price(trade.price),
            qty: self.quantity(trade.quantity),
            commission: amount_text(trade.taker.fee, scale),
            commission_asset: self.asset_name(trade.taker.fee_asset),
            trade_id: trade.trade_id.0,
        }
    }

    /// A commission with its asset's name.
    pub fn commission(&self, fee: Amount, asset: engine::AssetId) -> (String, &'a str) {
        let scale = self.catalog.assets.get(asset.0 as usize).map_or(0, |asset| asset.scale);
        (amount_text(fee, scale), self.asset_name(asset))
    }

    /// An order as queries show it.
    pub fn order(&self, order: &Order) -> OrderShape<'a> {
        OrderShape {
            symbol: &self.symbol.config.name,
            order_id: order.order_id.0,
            order_list_id: NO_ORDER_LIST,
            client_order_id: order.client_order_id.as_str().to_owned(),
            price: self.price(order.price),
            orig_qty: self.quantity(order.quantity),
            executed_qty: self.quantity(order.executed),
            cummulative_quote_qty: self.quote(order.cumulative_quote),
            status: status_word(order.status),
            time_in_force: time_in_force_word(order.time_in_force),
            order_type: type_word(order.order_type),
            side: side_word(order.side),
            stop_price: self.price(Price(0)),
            iceberg_qty: self.quantity(Quantity(0)),
            time: self.time(order.created_at),
            update_time: self.time(order.updated_at),
            is_working: true,
            working_time: self.time(order.created_at),
            orig_quote_order_qty: self.quote(order.quote_order_quantity),
            self_trade_prevention_mode: SELF_TRADE_PREVENTION,
        }
    }

    /// What every answer about an order ends with.
    pub fn result(&self, order: &Order) -> ResultShape {
        ResultShape {
            price: self.price(order.price),
            orig_qty: self.quantity(order.quantity),
            executed_qty: self.quantity(order.executed),
            orig_quote_order_qty: self.quote(order.quote_order_quantity),
            cummulative_quote_qty: self.quote(order.cumulative_quote),
            status: status_word(order.status),
            time_in_force: time_in_force_word(order.time_in_force),
            order_type: type_word(order.order_type),
            side: side_word(order.side),
            working_time: self.time(order.created_at),
            self_trade_prevention_mode: SELF_TRADE_PREVENTION,
        }
    }

    /// The answer to a new order; more of it is filled in as the client asked.
    pub fn placed(&self, order: &Order) -> PlacedShape<'a> {
        PlacedShape {
            symbol: &self.symbol.config.name,
            order_id: order.order_id.0,
            order_list_id: NO_ORDER_LIST,
            client_order_id: order.client_order_id.as_str().to_owned(),
            transact_time: self.time(order.updated_at),
            result: None,
            expiry_reason: None,
            fills: None,
        }
    }

    /// The answer to a cancel of `order` under the name `cancel_id`.
    pub fn canceled(&self, order: &Order, cancel_id: &str) -> CanceledShape<'a> {
        CanceledShape {
            symbol: &self.symbol.config.name,
            orig_client_order_id: order.client_order_id.as_str().to_owned(),
            order_id: order.order_id.0,
            order_list_id: NO_ORDER_LIST,
            client_order_id: cancel_id.to_owned(),
            transact_time: self.time(order.updated_at),
            result: self.result(order),
        }
    }
}

/// An order in a query's answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of rest-api.md, \"Query order\"")]
pub struct OrderShape<'a> {
    pub symbol: &'a str,
    pub order_id: u64,
    pub order_list_id: i64,
    pub client_order_id: String,
    pub price: String,
    pub orig_qty: String,
    pub executed_qty: String,
    pub cummulative_quote_qty: String,
    pub status: &'static str,
    pub time_in_force: &'static str,
    #[serde(rename = "type")]
    pub order_type: &'static str,
    pub side: &'static str,
    pub stop_price: String,
    pub iceberg_qty: String,
    pub time: u64,
    pub update_time: u64,
    pub is_working: bool,
    pub working_time: u64,
    pub orig_quote_order_qty: String,
    pub self_trade_prevention_mode: &'static str,
}

/// The part that the answers to placing and canceling have in common.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of rest-api.md, \"New order\"")]
pub struct ResultShape {
    pub price: String,
    pub orig_qty: String,
    pub executed_qty: String,
    pub orig_quote_order_qty: String,
    pub cummulative_quote_qty: String,
    pub status: &'static str,
    pub time_in_force: &'static str,
    #[serde(rename = "type")]
    pub order_type: &'static str,
    pub side: &'static str,
    pub working_time: u64,
    pub self_trade_prevention_mode: &'static str,
}

/// The answer to a new order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of rest-api.md, \"New order\"")]
pub struct PlacedShape<'a> {
    pub symbol: &'a str,
    pub order_id: u64,
    pub order_list_id: i64,
    pub client_order_id: String,
    pub transact_time: u64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultShape>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fills: Option<Vec<FillShape<'a>>>,
}

/// One fill in the answer to a new order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of rest-api.md, \"New order\"")]
pub struct FillShape<'a> {
    pub price: String,
    pub qty: String,
    pub commission: String,
    pub commission_asset: &'a str,
    pub trade_id: u64,
}

/// The answer to a cancel.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of rest-api.md, \"Cancel order\"")]
pub struct CanceledShape<'a> {
    pub symbol: &'a str,
    pub orig_client_order_id: String,
    pub order_id: u64,
    pub order_list_id: i64,
    pub client_order_id: String,
    pub transact_time: u64,
    #[serde(flatten)]
    pub result: ResultShape,
}
