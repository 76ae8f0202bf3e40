//! Orders: placing, canceling, amending, asking.

use std::sync::Arc;

use engine::command::{AmendOrder, CancelOrder, CancelRestriction, Command, OrderQuantity, OrderReference, PlaceOrder};
use engine::event::Event;
use engine::order::{ClientOrderId, Order, OrderType, TimeInForce};
use engine::symbol::Symbol;
use engine::{Amount, OrderId, Rejection, SymbolId, Time, Uid};
use journal::{Answer, Page};
use rand::RngExt;
use rand::distr::Alphanumeric;
use serde::Serialize;
use serde_json::json;

use super::error::ApiError;
use super::{Call, Handling, Reply, at_once};
use crate::app::App;
use crate::lanes::Pending;
use crate::params::Params;
use crate::views::Catalog;
use crate::wire::{self, Numbers, OrderShape};
use crate::ws::hub::TimeUnit;

/// The pattern that client order ids follow.
const LEGAL_CLIENT_ORDER_ID: &str = "^[a-zA-Z0-9-_.:/]{1,36}$";
/// How many characters an id has that we make up.
const MADE_UP_LENGTH: usize = 22;
/// How far apart startTime and endTime may be.
pub(super) const SPAN_MAX: u64 = 24 * 3_600 * 1_000_000;
/// The least strategyType.
const STRATEGY_TYPE_MIN: u64 = 1_000_000;
/// Orders and trades in one answer: when not said, and at the most.
pub(super) const ROWS: usize = 500;
pub(super) const ROWS_MAX: usize = 1_000;

/// How much the answer to a new order says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ResponseType {
    Ack,
    Result,
    Full,
}

/// A new order with how its answer should look.
struct NewOrder {
    place: PlaceOrder,
    response: ResponseType,
}

/// POST order.
pub fn place_order(app: &Arc<App>, call: Call) -> Handling {
    let submitted = (|| {
        let (uid, deadline, unit, now) = (call.uid()?, call.deadline(), call.unit, call.now);
        let catalog = app.outlets.views.symbols();
        let order = parse_order(call.params, uid, &catalog)?;
        app.limits.count_orders(uid, 1, now)?;
        let pending = app.lanes.submit(uid, Command::PlaceOrder(order.place), deadline)?;
        Ok((order, pending, unit, catalog))
    })();
    let (order, pending, unit, catalog) = match submitted {
        Ok(submitted) => submitted,
        Err(error) => return at_once(Err(error)),
    };
    Box::pin(async move {
        let answer = pending.answer().await?;
        let symbol = &catalog.symbols[order.place.symbol.0 as usize];
        let body = placed(&answer, order.response, Numbers::new(symbol, &catalog, unit))?;
        Ok(Reply { json: body, sequence: Some(answer.sequence()), placed_by: Some(order.place.uid) })
    })
}

/// Weight of POST order/test.
pub fn test_order_weight(params: &Params) -> u32 {
    let rates = params.peek("computeCommissionRates").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    if rates { 20 } else { 1 }
}

/// POST order/test: all that can be said without the book and the balances.
pub fn test_order(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let rates = call.params.boolean("computeCommissionRates")?.unwrap_or(false);
        let uid = call.uid()?;
        let catalog = app.outlets.views.symbols();
        let order = parse_order(call.params, uid, &catalog)?;
        let symbol = &catalog.symbols[order.place.symbol.0 as usize];
        check_order(symbol, &order.place).map_err(ApiError::order_rejected)?;
        Ok(Reply::of(&if rates { super::account::commission_rates(symbol) } else { json!({}) }))
    })())
}

/// DELETE order.
pub fn cancel_order(app: &Arc<App>, mut call: Call) -> Handling {
    let submitted = (|| {
        let (uid, deadline, unit) = (call.uid()?, call.deadline(), call.unit);
        let catalog = app.outlets.views.symbols();
        let symbol = call.params.symbol(&catalog)?.id;
        let order = parse_reference(&mut call.params)?;
        let cancel_client_order_id = client_order_id(&mut call.params, "newClientOrderId")?;
        let restriction =
            call.params.word("cancelRestrictions", parse_restriction, ApiError::invalid_cancel_restriction)?;
        call.params.finish()?;
        let cancel = CancelOrder { uid, symbol, order, cancel_client_order_id, restriction };
        let pending = app.lanes.submit(uid, Command::CancelOrder(cancel), deadline)?;
        Ok((pending, symbol, unit, catalog))
    })();
    answer_with(submitted, |answer, numbers| {
        let canceled = canceled(answer, numbers)?;
        // There is exactly one.
        canceled.into_iter().next().ok_or_else(ApiError::internal)
    })
}

/// DELETE openOrders.
pub fn cancel_open_orders(app: &Arc<App>, mut call: Call) -> Handling {
    let submitted = (|| {
        let (uid, deadline, unit) = (call.uid()?, call.deadline(), call.unit);
        let catalog = app.outlets.views.symbols();
        let symbol = call.params.symbol(&catalog)?.id;
        call.params.finish()?;
        let pending = app.lanes.submit(uid, Command::CancelAllOrders { uid, symbol }, deadline)?;
        Ok((pending, symbol, unit, catalog))
    })();
    answer_with(submitted, |answer, numbers| Ok(format!("[{}]", canceled(answer, numbers)?.join(","))))
}

/// PUT order/amend/keepPriority.
pub fn amend_order(app: &Arc<App>, mut call: Call) -> Handling {
    let submitted = (|| {
        let (uid, deadline, unit) = (call.uid()?, call.deadline(), call.unit);
        let catalog = app.outlets.views.symbols();
        let symbol = call.params.symbol(&catalog)?;
        let order = parse_reference(&mut call.params)?;
        let new_quantity = call.params.required_decimal("newQty", base_scale(symbol, &catalog))?;
        let new_client_order_id = client_order_id(&mut call.params, "newClientOrderId")?;
        call.params.finish()?;
        let amend = AmendOrder { uid, symbol: symbol.id, order, new_quantity, new_client_order_id };
        let pending = app.lanes.submit(uid, Command::AmendOrder(amend), deadline)?;
        Ok((pending, symbol.id, unit, catalog.clone()))
    })();
    answer_with(submitted, |answer, numbers| match answer.events().first() {
        Some(Event::OrderAmended { order, previous_client_order_id, .. }) => {
            Ok(amended(answer, order, previous_client_order_id, numbers))
        }
        Some(Event::Rejected(rejection)) => Err(ApiError::amend_rejected(*rejection)),
        _ => Err(ApiError::internal()),
    })
}

/// GET order.
pub fn query_order(app: &Arc<App>, mut call: Call) -> Handling {
    let app = app.clone();
    Box::pin(async move {
        let uid = call.uid()?;
        let catalog = app.outlets.views.symbols();
        let symbol = call.params.symbol(&catalog)?;
        let reference = parse_reference(&mut call.params)?;
        call.params.finish()?;
        let id = symbol.id;
        let found = app.read_history(move |history| match (reference.order_id, &reference.client_order_id) {
            (Some(order_id), _) => history.order(id, order_id),
            (None, Some(name)) => history.order_by_client_id(id, uid, name),
            (None, None) => Ok(None),
        });
        let order = found.await?.filter(|order| order.uid == uid).ok_or_else(ApiError::no_such_order)?;
        if reference.client_order_id.is_some_and(|name| name != order.client_order_id) {
            return Err(ApiError::client_order_id_mismatch());
        }
        Ok(Reply::of(&Numbers::new(symbol, &catalog, call.unit).order(&order)))
    })
}

/// Weight of GET openOrders.
pub fn open_orders_weight(params: &Params) -> u32 {
    if params.peek("symbol").is_some() { 6 } else { 80 }
}

/// GET openOrders.
pub fn open_orders(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let uid = call.uid()?;
        let catalog = app.outlets.views.symbols();
        let symbol = match call.params.peek("symbol") {
            Some(_) => Some(call.params.symbol(&catalog)?.id),
            None => None,
        };
        call.params.finish()?;
        let orders = app.outlets.views.open_orders(uid, symbol);
        Ok(Reply::of(&order_shapes(&orders, &catalog, call.unit)))
    })())
}

/// GET allOrders.
pub fn all_orders(app: &Arc<App>, mut call: Call) -> Handling {
    let app = app.clone();
    Box::pin(async move {
        let uid = call.uid()?;
        let catalog = app.outlets.views.symbols();
        let symbol = call.params.symbol(&catalog)?.id;
        let order_id = call.params.integer("orderId")?;
        let page = parse_page(&mut call.params, order_id, Some(SPAN_MAX))?;
        let limit = call.params.limit(ROWS, ROWS_MAX)?;
        call.params.finish()?;
        let orders = app.read_history(move |history| history.orders(uid, symbol, page, limit)).await?;
        Ok(Reply::of(&order_shapes(&orders, &catalog, call.unit)))
    })
}

/// GET openOrderList and allOrderList: there are no order lists here.
pub fn order_lists(_app: &Arc<App>, mut call: Call) -> Handling {
    for name in ["fromId", "startTime", "endTime", "limit"] {
        call.params.take(name);
    }
    at_once(call.params.finish().map(|()| Reply::of(&json!([]))))
}

/// Which rows are meant: from an id on, or by time. Without either, the newest.
pub(super) fn parse_page(params: &mut Params, from_id: Option<u64>, span_max: Option<u64>) -> Result<Page, ApiError> {
    let (start, end) = (parse_time(params, "startTime")?, parse_time(params, "endTime")?);
    if let (Some(start), Some(end)) = (start, end)
        && span_max.is_some_and(|max| end.0.saturating_sub(start.0) > max)
    {
        return Err(ApiError::interval_too_big());
    }
    Ok(match (from_id, start) {
        (Some(id), _) => Page::FromId(id),
        (None, Some(start)) => Page::FromTime { start, end },
        (None, None) => Page::Latest { until: end },
    })
}

/// A time in milliseconds or microseconds. A millisecond that ends a range includes all of it.
pub(super) fn parse_time(params: &mut Params, name: &str) -> Result<Option<Time>, ApiError> {
    const MICROSECONDS_FROM: u64 = 100_000_000_000_000;
    let time = params.integer(name)?;
    Ok(time.map(|time| {
        let last_of_it = if name == "endTime" { 999 } else { 0 };
        Time(if time < MICROSECONDS_FROM { time * 1_000 + last_of_it } else { time })
    }))
}

fn order_shapes<'a>(orders: &[Order], catalog: &'a Catalog, unit: TimeUnit) -> Vec<OrderShape<'a>> {
    let shape = |order: &Order| {
        let symbol = &catalog.symbols[order.symbol.0 as usize];
        Numbers::new(symbol, catalog, unit).order(order)
    };
    orders.iter().map(shape).collect()
}

/// The body of the answer to a new order.
fn placed(answer: &Answer, response: ResponseType, numbers: Numbers) -> Result<String, ApiError> {
    let mut order = match answer.events().first() {
        Some(Event::OrderAccepted(order)) => *order,
        Some(Event::Rejected(rejection)) => return Err(ApiError::order_rejected(*rejection)),
        _ => return Err(ApiError::internal()),
    };
    let mut fills = Vec::new();
    let mut reason = None;
    for event in answer.events() {
        match event {
            Event::Trade(trade) => {
                order.executed = trade.taker.executed;
                order.cumulative_quote = trade.taker.cumulative_quote;
                order.status = trade.taker.status;
                if response == ResponseType::Full {
                    fills.push(numbers.fill(trade));
                }
            }
            Event::OrderExpired { order: expired, reason: why } => {
                order = *expired;
                reason = Some(*why);
            }
            _ => {}
        }
    }
    let mut shape = numbers.placed(&order);
    if response >= ResponseType::Result {
        shape.result = Some(numbers.result(&order));
        shape.expiry_reason = reason.map(wire::expiry_reason_word);
    }
    shape.fills = (response == ResponseType::Full).then_some(fills);
    Ok(super::to_json(&shape))
}

/// The bodies for the orders that a command canceled.
fn canceled(answer: &Answer, numbers: Numbers) -> Result<Vec<String>, ApiError> {
    if let Some(Event::Rejected(rejection)) = answer.events().first() {
        return Err(ApiError::cancel_rejected(*rejection));
    }
    let body = |event: &Event| match event {
        Event::OrderCanceled { order, cancel_client_order_id } => {
            Some(super::to_json(&numbers.canceled(order, cancel_client_order_id.as_str())))
        }
        _ => None,
    };
    Ok(answer.events().iter().filter_map(body).collect())
}

/// The answer to an amend (rest-api.md, "Order Amend Keep Priority").
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AmendedShape<'a> {
    transact_time: u64,
    /// Names the amend; the command's sequence does.
    execution_id: u64,
    amended_order: AmendedOrderShape<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AmendedOrderShape<'a> {
    symbol: &'a str,
    order_id: u64,
    order_list_id: i64,
    orig_client_order_id: &'a str,
    client_order_id: &'a str,
    price: String,
    qty: String,
    executed_qty: String,
    prevented_qty: String,
    quote_order_qty: String,
    cumulative_quote_qty: String,
    status: &'static str,
    time_in_force: &'static str,
    #[serde(rename = "type")]
    order_type: &'static str,
    side: &'static str,
    working_time: u64,
    self_trade_prevention_mode: &'static str,
}

fn amended(answer: &Answer, order: &Order, previous: &ClientOrderId, numbers: Numbers) -> String {
    super::to_json(&AmendedShape {
        transact_time: numbers.time(order.updated_at),
        execution_id: answer.sequence().0,
        amended_order: AmendedOrderShape {
            symbol: &numbers.symbol.config.name,
            order_id: order.order_id.0,
            order_list_id: -1,
            orig_client_order_id: previous.as_str(),
            client_order_id: order.client_order_id.as_str(),
            price: numbers.price(order.price),
            qty: numbers.quantity(order.quantity),
            executed_qty: numbers.quantity(order.executed),
            prevented_qty: numbers.quantity(engine::Quantity(0)),
            quote_order_qty: numbers.quote(order.quote_order_quantity),
            cumulative_quote_qty: numbers.quote(order.cumulative_quote),
            status: wire::status_word(order.status),
            time_in_force: wire::time_in_force_word(order.time_in_force),
            order_type: wire::type_word(order.order_type),
            side: wire::side_word(order.side),
            working_time: numbers.time(order.created_at),
            self_trade_prevention_mode: wire::SELF_TRADE_PREVENTION,
        },
    })
}

/// A command on its way, and what its answer is written with.
type Submitted = Result<(Pending, SymbolId, TimeUnit, Arc<Catalog>), ApiError>;

/// Waits for the answer and gives it a body.
fn answer_with(
    submitted: Submitted,
    body: impl FnOnce(&Answer, Numbers) -> Result<String, ApiError> + Send + 'static,
) -> Handling {
    let (pending, symbol, unit, catalog) = match submitted {
        Ok(submitted) => submitted,
        Err(error) => return at_once(Err(error)),
    };
    Box::pin(async move {
        let answer = pending.answer().await?;
        let symbol = &catalog.symbols[symbol.0 as usize];
        let json = body(&answer, Numbers::new(symbol, &catalog, unit))?;
        Ok(Reply { json, sequence: Some(answer.sequence()), placed_by: None })
    })
}

/// The new order that the parameters describe; whether it is allowed, the engine decides.
fn parse_order(mut params: Params, uid: Uid, catalog: &Catalog) -> Result<NewOrder, ApiError> {
    let symbol = params.symbol(catalog)?;
    let side = params.word("side", wire::parse_side, ApiError::invalid_side)?;
    let side = side.ok_or_else(|| ApiError::missing_parameter("side"))?;
    let order_type = parse_type(&params.required("type")?)?;
    refuse_unsupported(&mut params)?;
    let client_order_id = client_order_id(&mut params, "newClientOrderId")?;
    let response = params.word("newOrderRespType", parse_response_type, ApiError::invalid_response_type)?;
    let default = if order_type == OrderType::LimitMaker { ResponseType::Ack } else { ResponseType::Full };

    let time_in_force = params.word("timeInForce", wire::parse_time_in_force, ApiError::invalid_time_in_force)?;
    let (base, quote) = (base_scale(symbol, catalog), quote_scale(symbol, catalog));
    let price = params.decimal("price", quote)?;
    let quantity = params.decimal("quantity", base)?;
    let quote_quantity = params.decimal("quoteOrderQty", quote)?;
    params.finish()?;

    let quantity = match (order_type, quantity, quote_quantity) {
        (OrderType::Market, Some(_), Some(_)) => return Err(ApiError::bad_combination()),
        (OrderType::Market, None, Some(quote)) => OrderQuantity::Quote(quote),
        (OrderType::Market, None, None) => return Err(ApiError::missing_either("quantity", "quoteOrderQty")),
        (_, _, Some(_)) => return Err(ApiError::not_required("quoteOrderQty")),
        (_, Some(base), None) => OrderQuantity::Base(base),
        (_, None, None) => return Err(ApiError::missing_parameter("quantity")),
    };
    let price = match (order_type, price) {
        (OrderType::Market, Some(_)) => return Err(ApiError::not_required("price")),
        (OrderType::Market, None) => Amount::ZERO,
        (_, price) => price.ok_or_else(|| ApiError::missing_parameter("price"))?,
    };
    let time_in_force = match (order_type, time_in_force) {
        (OrderType::Limit, None) => return Err(ApiError::missing_parameter("timeInForce")),
        (OrderType::Limit, Some(time_in_force)) => time_in_force,
        (_, Some(_)) => return Err(ApiError::not_required("timeInForce")),
        (_, None) => TimeInForce::Gtc,
    };
    let place =
        PlaceOrder { uid, symbol: symbol.id, client_order_id, side, order_type, time_in_force, price, quantity };
    Ok(NewOrder { place, response: response.unwrap_or(default) })
}

fn parse_type(word: &str) -> Result<OrderType, ApiError> {
    match word {
        "LIMIT" => Ok(OrderType::Limit),
        "MARKET" => Ok(OrderType::Market),
        "LIMIT_MAKER" => Ok(OrderType::LimitMaker),
        "STOP_LOSS" | "STOP_LOSS_LIMIT" => Err(ApiError::not_supported("Stop loss orders")),
        "TAKE_PROFIT" | "TAKE_PROFIT_LIMIT" => Err(ApiError::not_supported("Take profit orders")),
        _ => Err(ApiError::invalid_order_type()),
    }
}

/// What exchangeInfo says is not there.
fn refuse_unsupported(params: &mut Params) -> Result<(), ApiError> {
    if params.decimal("icebergQty", 18)?.is_some_and(|quantity| !quantity.is_zero()) {
        return Err(ApiError::not_supported("Iceberg orders"));
    }
    if params.take("trailingDelta").is_some() {
        return Err(ApiError::not_supported("Trailing stop orders"));
    }
    if params.take("stopPrice").is_some() {
        return Err(ApiError::not_required("stopPrice"));
    }
    if params.take("pegPriceType").is_some() {
        return Err(ApiError::not_supported("Pegged orders"));
    }
    if params.optional("selfTradePreventionMode")?.is_some_and(|mode| mode != wire::SELF_TRADE_PREVENTION) {
        return Err(ApiError::invalid_self_trade_prevention());
    }
    // Names of the client's own, which change nothing.
    params.integer("strategyId")?;
    if params.integer("strategyType")?.is_some_and(|kind| kind < STRATEGY_TYPE_MIN) {
        return Err(ApiError::strategy_type_too_low());
    }
    Ok(())
}

/// The filters that need neither book nor balance.
fn check_order(symbol: &Symbol, place: &PlaceOrder) -> Result<(), Rejection> {
    match (place.order_type, place.quantity) {
        (OrderType::Market, OrderQuantity::Base(quantity)) => symbol.check_market_quantity(quantity).map(drop),
        (_, OrderQuantity::Quote(quote)) => symbol.check_market_notional(quote),
        (_, OrderQuantity::Base(quantity)) => {
            let price = symbol.check_price(place.price)?;
            let quantity = symbol.check_quantity(quantity)?;
            let notional = symbol.scale.quote_amount(price, quantity).ok_or(Rejection::Overflow)?;
            symbol.check_notional(notional)
        }
    }
}

fn parse_response_type(word: &str) -> Option<ResponseType> {
    match word {
        "ACK" => Some(ResponseType::Ack),
        "RESULT" => Some(ResponseType::Result),
        "FULL" => Some(ResponseType::Full),
        _ => None,
    }
}

fn parse_restriction(word: &str) -> Option<CancelRestriction> {
    match word {
        "ONLY_NEW" => Some(CancelRestriction::OnlyNew),
        "ONLY_PARTIALLY_FILLED" => Some(CancelRestriction::OnlyPartiallyFilled),
        _ => None,
    }
}

/// `orderId`, `origClientOrderId`, or both.
fn parse_reference(params: &mut Params) -> Result<OrderReference, ApiError> {
    let order_id = params.integer("orderId")?.map(OrderId);
    let name = params.optional("origClientOrderId")?;
    let client_order_id = name.map(|name| parse_client_order_id("origClientOrderId", &name)).transpose()?;
    if order_id.is_none() && client_order_id.is_none() {
        return Err(ApiError::missing_either("origClientOrderId", "orderId"));
    }
    Ok(OrderReference { order_id, client_order_id })
}

/// The id that the client gave, or one that we make up.
fn client_order_id(params: &mut Params, name: &str) -> Result<ClientOrderId, ApiError> {
    match params.optional(name)? {
        Some(text) => parse_client_order_id(name, &text),
        None => {
            let made_up: String = rand::rng().sample_iter(Alphanumeric).take(MADE_UP_LENGTH).map(char::from).collect();
            parse_client_order_id(name, &made_up)
        }
    }
}

fn parse_client_order_id(name: &str, text: &str) -> Result<ClientOrderId, ApiError> {
    ClientOrderId::new(text).ok_or_else(|| ApiError::illegal_characters(name, LEGAL_CLIENT_ORDER_ID))
}

fn base_scale(symbol: &Symbol, catalog: &Catalog) -> u8 {
    catalog.assets[symbol.config.base.0 as usize].scale
}

fn quote_scale(symbol: &Symbol, catalog: &Catalog) -> u8 {
    catalog.assets[symbol.config.quote.0 as usize].scale
}
