//! Orders: placing, canceling, replacing, amending, asking.

use std::sync::Arc;

use engine::command::{AmendOrder, CancelOrder, CancelReplace, Command, OrderQuantity, PlaceOrder, Placing};
use engine::event::{Event, OrderList};
use engine::once::{Named, key};
use engine::symbol::Symbol;
use engine::units::Notional;
use engine::{Order, OrderId, Price, Rejection, Time};
use journal::{Amendment, Answer, KnownOrder, Page, execution_id};
use serde::Serialize;
use serde_json::json;

use super::error::ApiError;
use super::order_params::{
    Leg, Terms, base_scale, cancel_restriction, client_order_id, given_names, order_reference, required_side,
};
use super::outcome::{Placed, Telling, answer_with, canceled, response_of, send, send_new};
use super::{Call, Handling, Reply, at_once, to_json};
use crate::app::App;
use crate::params::Params;
use crate::views::Catalog;
use crate::wire::{self, AmendedShape, ListShape, Numbers, OrderShape, ResponseType, parse_response_type};
use crate::ws::hub::TimeUnit;

/// How far apart startTime and endTime may be.
pub(super) const SPAN_MAX: u64 = 24 * 3_600 * 1_000_000;
/// How long an order that ended without a trade can be asked for: ninety days.
const ARCHIVED_AFTER: u64 = 90 * SPAN_MAX;
/// Orders and trades in one answer: when not said, and at the most.
pub(super) const ROWS: usize = 500;
pub(super) const ROWS_MAX: usize = 1_000;

/// POST order.
pub fn place_order(app: &Arc<App>, mut call: Call) -> Handling {
    let mut response = None;
    let sent = (|| {
        let catalog = app.outlets.views.symbols();
        let given = given_names(&call.params);
        let (place, asked) = parse_order(&mut call, &catalog)?;
        response = asked;
        send_new(app, &call, &catalog, Placing::Order(place), given)
    })();
    answer_with(sent, move |answer, telling| match answer.events().first() {
        Some(Event::Rejected(rejection)) => Err(telling.order_refused(1, *rejection)),
        _ => placed(answer, response, telling),
    })
}

/// The new order that the parameters describe, and how its answer should look.
fn parse_order(call: &mut Call, catalog: &Catalog) -> Result<(PlaceOrder, Option<ResponseType>), ApiError> {
    let uid = call.uid()?;
    let params = &mut call.params;
    let terms = Terms::parse(params, uid, catalog)?;
    let side = required_side(params, "side")?;
    let place = terms.order(params, Leg::alone(side))?;
    let response = params.word("newOrderRespType", parse_response_type, ApiError::invalid_response_type)?;
    std::mem::take(params).finish()?;
    Ok((place, response))
}

/// The body of the answer to a new order.
fn placed(answer: &Answer, response: Option<ResponseType>, telling: &Telling<'_>) -> Result<String, ApiError> {
    let placed = Placed::of(answer.events(), answer.applied.time);
    let (known, fills) = placed.orders.first().ok_or_else(ApiError::internal)?;
    let response = response.unwrap_or_else(|| response_of(&known.order));
    Ok(to_json(&telling.numbers.placed(known, response, fills)))
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
        let (uid, views) = (call.uid()?, &app.outlets.views);
        let catalog = views.symbols();
        let (place, _) = parse_order(&mut call, &catalog)?;
        let symbol = &catalog.symbols[place.symbol.0 as usize];
        let settings = views.settings(uid);
        let worth = || views.worth(symbol, call.now);
        check_order(symbol, &place, settings.require_self_trade_prevention, worth).map_err(ApiError::order_rejected)?;
        Ok(Reply::of(&if rates { super::account::commission_of_order(&catalog, symbol, &settings) } else { json!({}) }))
    })())
}

/// The filters that need neither book nor balance, where the symbol is `worth` that much.
fn check_order(
    symbol: &Symbol,
    place: &PlaceOrder,
    require_prevention: bool,
    worth: impl FnOnce() -> Option<Price>,
) -> Result<(), Rejection> {
    symbol.check_self_trade_prevention(place.self_trade_prevention, require_prevention)?;
    let special = place.special.as_deref().copied().unwrap_or_default();
    if let Some(price) = special.stop_price {
        symbol.check_price(price)?;
    }
    if let Some(delta) = special.trailing_delta {
        symbol.check_trailing(place.order_type, place.side, delta)?;
    }
    let amount = match place.quantity {
        OrderQuantity::Base(amount) => amount,
        OrderQuantity::Quote(quote) => return symbol.check_market_notional(quote),
        OrderQuantity::Proceeds => return Ok(()),
    };
    let quantity = symbol.check_quantity(amount)?;
    if let Some(part) = special.iceberg_quantity {
        symbol.check_iceberg(part, quantity)?;
    }
    if place.order_type.is_market() {
        symbol.check_market_quantity(amount)?;
        let stop_price = special.stop_price.and_then(|price| symbol.scale.ticks(price));
        let Some(price) = stop_price.or_else(worth) else { return Ok(()) };
        let notional = Notional::of(price, quantity).ok_or(Rejection::Overflow)?;
        return symbol.check_market_notional(symbol.scale.quote_amount(notional));
    }
    if special.peg.is_some() && place.price.is_zero() {
        return Ok(());
    }
    let price = symbol.check_price(place.price)?;
    symbol.check_percent_price(place.side, price, worth())?;
    symbol.check_notional(Notional::of(price, quantity).ok_or(Rejection::Overflow)?)
}

/// DELETE order.
pub fn cancel_order(app: &Arc<App>, mut call: Call) -> Handling {
    let sent = (|| {
        let (uid, catalog) = (call.uid()?, app.outlets.views.symbols());
        let params = &mut call.params;
        let symbol = params.symbol(&catalog)?.id;
        let order = order_reference(params, "orderId", "origClientOrderId")?;
        let cancel_client_order_id = client_order_id(params, "newClientOrderId")?;
        let restriction = cancel_restriction(params)?;
        std::mem::take(params).finish()?;
        let cancel = CancelOrder { uid, symbol, order, cancel_client_order_id, restriction };
        send(app, &call, &catalog, symbol, Command::CancelOrder(cancel))
    })();
    answer_with(sent, |answer, telling| one_canceled(answer.events(), telling))
}

/// The body for the one order, or the one list, that a command canceled.
pub(super) fn one_canceled(events: &[Event], telling: &Telling<'_>) -> Result<String, ApiError> {
    match events.first() {
        Some(Event::Rejected(rejection)) => Err(ApiError::cancel_rejected(*rejection)),
        _ => canceled(events, telling).into_iter().next().ok_or_else(ApiError::internal),
    }
}

/// DELETE openOrders.
pub fn cancel_open_orders(app: &Arc<App>, mut call: Call) -> Handling {
    let sent = (|| {
        let (uid, catalog) = (call.uid()?, app.outlets.views.symbols());
        let symbol = call.params.symbol(&catalog)?.id;
        std::mem::take(&mut call.params).finish()?;
        send(app, &call, &catalog, symbol, Command::CancelAllOrders { uid, symbol })
    })();
    answer_with(sent, |answer, telling| match answer.events().first() {
        Some(Event::Rejected(rejection)) => Err(ApiError::cancel_rejected(*rejection)),
        _ => Ok(format!("[{}]", canceled(answer.events(), telling).join(","))),
    })
}

/// POST countdownCancelAll, which the venue has for futures only: the dead man's switch of a symbol.
pub fn countdown(app: &Arc<App>, mut call: Call) -> Handling {
    let mut milliseconds = 0;
    let sent = (|| {
        let (uid, catalog) = (call.uid()?, app.outlets.views.symbols());
        let symbol = call.params.symbol(&catalog)?.id;
        milliseconds = call.params.required_integer("countdownTime")?;
        std::mem::take(&mut call.params).finish()?;
        if milliseconds > COUNTDOWN_MAX {
            return Err(ApiError::bad_data("countdownTime"));
        }
        send(app, &call, &catalog, symbol, Command::SetCountdown { uid, symbol, milliseconds })
    })();
    answer_with(sent, move |answer, telling| match answer.events().first() {
        Some(Event::Rejected(rejection)) => Err(ApiError::cancel_rejected(*rejection)),
        _ => {
            let symbol = &telling.numbers.symbol.config.name;
            Ok(to_json(&json!({ "symbol": symbol, "countdownTime": milliseconds.to_string() })))
        }
    })
}

/// The longest countdown, in milliseconds: a day.
const COUNTDOWN_MAX: u64 = 86_400_000;

/// POST order/cancelReplace.
pub fn cancel_replace(app: &Arc<App>, mut call: Call) -> Handling {
    let mut response = None;
    let mut mode = Mode { allow_failure: false, cancel_when_limited: false };
    let sent = (|| {
        let (uid, catalog) = (call.uid()?, app.outlets.views.symbols());
        let given = given_names(&call.params);
        mode = Mode::parse(&mut call.params)?;
        let order = order_reference(&mut call.params, "cancelOrderId", "cancelOrigClientOrderId")?;
        let cancel_client_order_id = client_order_id(&mut call.params, "cancelNewClientOrderId")?;
        let restriction = cancel_restriction(&mut call.params)?;
        let (place, asked) = parse_order(&mut call, &catalog)?;
        response = asked;
        let symbol = place.symbol;
        let cancel = CancelOrder { uid, symbol, order, cancel_client_order_id, restriction };
        let Mode { allow_failure, cancel_when_limited } = mode;
        let both = CancelReplace { cancel, place, allow_failure, cancel_when_limited };
        send_new(app, &call, &catalog, Placing::CancelReplace(both), given)
    })();
    answer_with(sent, move |answer, telling| replaced(answer, mode, response, telling))
}

/// What is done of a cancel-replace when not all of it can be.
#[derive(Clone, Copy)]
struct Mode {
    allow_failure: bool,
    cancel_when_limited: bool,
}

impl Mode {
    fn parse(params: &mut Params) -> Result<Mode, ApiError> {
        let either = |no: &'static str, yes: &'static str| {
            move |word: &str| if word == yes { Some(true) } else { (word == no).then_some(false) }
        };
        let modes = either("STOP_ON_FAILURE", "ALLOW_FAILURE");
        let allow_failure = params.word("cancelReplaceMode", modes, ApiError::invalid_cancel_replace_mode)?;
        let limited = either("DO_NOTHING", "CANCEL_ONLY");
        let limited = params.word("orderRateLimitExceededMode", limited, ApiError::invalid_rate_limit_mode)?;
        Ok(Mode {
            allow_failure: allow_failure.ok_or_else(|| ApiError::missing_parameter("cancelReplaceMode"))?,
            cancel_when_limited: limited.unwrap_or(false),
        })
    }
}

/// Both halves of the answer to a cancel-replace, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReplacedShape {
    cancel_result: &'static str,
    new_order_result: &'static str,
    cancel_response: Box<serde_json::value::RawValue>,
    new_order_response: Box<serde_json::value::RawValue>,
}

fn replaced(
    answer: &Answer,
    mode: Mode,
    response: Option<ResponseType>,
    telling: &Telling<'_>,
) -> Result<String, ApiError> {
    let events = answer.events();
    let (cancel, place) = match events.first() {
        Some(Event::CancelReplaceDecided { cancel, place }) => (*cancel, *place),
        Some(Event::Rejected(rejection)) => return Err(telling.order_refused(1, *rejection)),
        _ => return Err(ApiError::internal()),
    };
    let refused = |error: ApiError| raw(ApiError { retry_after: None, ..error }.to_json());
    let cancel_response = match cancel {
        None => raw(one_canceled(&events[1..], telling)?),
        Some(rejection) => refused(ApiError::cancel_rejected(rejection)),
    };
    let new_order_response = match place {
        None => raw("null".to_owned()),
        Some(Ok(())) => raw(placed(answer, response, telling)?),
        Some(Err(rejection)) => refused(telling.order_refused(1, rejection)),
    };
    let body = to_json(&ReplacedShape {
        cancel_result: if cancel.is_none() { "SUCCESS" } else { "FAILURE" },
        new_order_result: match place {
            None => "NOT_ATTEMPTED",
            Some(Ok(())) => "SUCCESS",
            Some(Err(_)) => "FAILURE",
        },
        cancel_response,
        new_order_response,
    });
    let (canceled, placed) = (cancel.is_none(), place == Some(Ok(())));
    if canceled && placed {
        return Ok(body);
    }
    let both_failed = !canceled && !placed;
    // The venue's table (rest-api.md): a limit that stopped the new order shows only where nothing more was to be tried.
    let limited = match place {
        Some(Err(rejection)) => rejection == Rejection::TooManyOrders,
        // An attempt that was not made is counted all the same, so a limit that stopped it is exceeded by now.
        None => mode.cancel_when_limited && telling.is_limited(0),
        Some(Ok(())) => false,
    };
    let status = match (limited && !mode.allow_failure, both_failed) {
        (true, _) => 429,
        (false, true) => 400,
        (false, false) => 409,
    };
    Err(ApiError::cancel_replace(status, both_failed, body))
}

fn raw(json: String) -> Box<serde_json::value::RawValue> {
    serde_json::value::RawValue::from_string(json).expect("our own bodies are JSON")
}

/// PUT order/amend/keepPriority.
pub fn amend_order(app: &Arc<App>, mut call: Call) -> Handling {
    let mut asked = None;
    let sent = (|| {
        let (uid, catalog) = (call.uid()?, app.outlets.views.symbols());
        let params = &mut call.params;
        let symbol = params.symbol(&catalog)?;
        let order = order_reference(params, "orderId", "origClientOrderId")?;
        let new_quantity = params.required_decimal("newQty", base_scale(symbol, &catalog))?;
        let new_client_order_id = client_order_id(params, "newClientOrderId")?;
        std::mem::take(params).finish()?;
        asked = Some((order, new_quantity));
        let amend = AmendOrder { uid, symbol: symbol.id, order, new_quantity, new_client_order_id };
        send(app, &call, &catalog, symbol.id, Command::AmendOrder(amend))
    })();
    answer_with(sent, move |answer, telling| match answer.events().first() {
        Some(Event::OrderAmended { order, previous_client_order_id, .. }) => {
            let list = answer.events().iter().find_map(|event| match event {
                Event::OrderListChanged(list) => Some(&**list),
                _ => None,
            });
            let known = KnownOrder::from(order.clone());
            let amended = telling.numbers.amended(&known, *previous_client_order_id);
            Ok(amend_body(answer, amended, list, &telling.numbers))
        }
        Some(Event::Rejected(rejection)) => {
            let order = asked.and_then(|(order, _)| telling.open_order(&order));
            let quantity = asked.and_then(|(_, quantity)| telling.numbers.symbol.scale.lots(quantity));
            Err(ApiError::amend_rejected(*rejection, order.as_ref().zip(quantity)))
        }
        _ => Err(ApiError::internal()),
    })
}

/// The answer to an amend (rest-api.md, "Order Amend Keep Priority").
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AmendAnswerShape<'a> {
    transact_time: u64,
    execution_id: u64,
    amended_order: AmendedShape<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    list_status: Option<ListShape<'a, ()>>,
}

fn amend_body(answer: &Answer, amended: AmendedShape<'_>, list: Option<&OrderList>, numbers: &Numbers<'_>) -> String {
    let list_status = list.map(|list| {
        let shape = numbers.list(list, answer.applied.time);
        ListShape { list_status_type: None, transaction_time: None, ..shape }
    });
    to_json(&AmendAnswerShape {
        transact_time: numbers.time(answer.applied.time),
        // It is the command's first event.
        execution_id: execution_id(answer.sequence(), 0),
        amended_order: amended,
        list_status,
    })
}

/// GET order/amendments.
pub fn amendments(app: &Arc<App>, mut call: Call) -> Handling {
    let app = app.clone();
    Box::pin(async move {
        let (uid, catalog) = (call.uid()?, app.outlets.views.symbols());
        let symbol = call.params.symbol(&catalog)?;
        let order_id = OrderId(call.params.required_integer("orderId")?);
        let page = call.params.integer("fromExecutionId")?.map_or(Page::FromId(0), Page::FromId);
        let limit = call.params.limit(ROWS, ROWS_MAX)?;
        call.params.finish()?;
        let id = symbol.id;
        let found = app.read_history(move |history| history.amendments(id, order_id, page, limit)).await?;
        let numbers = Numbers::new(symbol, &catalog, call.unit);
        let rows = found.iter().filter(|amendment| amendment.uid == uid).map(|row| amendment_shape(row, &numbers));
        Ok(Reply::of(&rows.collect::<Vec<_>>()))
    })
}

fn amendment_shape(row: &Amendment, numbers: &Numbers<'_>) -> serde_json::Value {
    json!({
        "symbol": numbers.symbol.config.name,
        "orderId": row.order_id.0,
        "executionId": row.execution_id,
        "origClientOrderId": row.previous_client_order_id,
        "newClientOrderId": row.client_order_id,
        "origQty": numbers.quantity(row.previous_quantity),
        "newQty": numbers.quantity(row.quantity),
        "time": numbers.time(row.time),
    })
}

/// GET order.
pub fn query_order(app: &Arc<App>, mut call: Call) -> Handling {
    let app = app.clone();
    Box::pin(async move {
        let (uid, catalog) = (call.uid()?, app.outlets.views.symbols());
        let symbol = call.params.symbol(&catalog)?;
        let reference = order_reference(&mut call.params, "orderId", "origClientOrderId")?;
        call.params.finish()?;
        let id = symbol.id;
        let found = app.read_history(move |history| match (reference.order_id, &reference.client_order_id) {
            (Some(order_id), _) => history.order(uid, id, order_id),
            (None, Some(name)) => history.order_by_client_id(id, uid, name),
            (None, None) => Ok(None),
        });
        let known = found.await?.filter(|known| known.order.uid == uid).ok_or_else(ApiError::no_such_order)?;
        if reference.client_order_id.is_some_and(|name| name != known.order.client_order_id) {
            return Err(ApiError::client_order_id_mismatch());
        }
        if is_archived(&known.order, call.now) {
            return Err(ApiError::order_archived());
        }
        let reply = Reply::of(&Numbers::new(symbol, &catalog, call.unit).order(&known));
        // By name it is the last order of that name.
        let by_name = reference.client_order_id.filter(|_| reference.order_id.is_none());
        let answers = by_name.map(|name| key(Named::Order, uid, id, name));
        Ok(Reply { answers: answers.into_iter().collect(), ..reply })
    })
}

/// Whether an order ended without a trade, and too long ago to be told of.
fn is_archived(order: &Order, now: Time) -> bool {
    !order.status.is_open() && order.executed.is_zero() && now.0.saturating_sub(order.updated_at.0) > ARCHIVED_AFTER
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

/// Which rows are meant: from an id on, or by time. Without either, the newest.
pub(super) fn parse_page(params: &mut Params, from_id: Option<u64>, span_max: Option<u64>) -> Result<Page, ApiError> {
    let (start, end) = (parse_time(params, "startTime")?, parse_time(params, "endTime")?);
    // In whole milliseconds, of which the last one is included.
    if let (Some(start), Some(end)) = (start, end)
        && span_max.is_some_and(|max| end.0.saturating_sub(start.0) / 1_000 > max / 1_000)
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

fn order_shapes<'a>(orders: &[KnownOrder], catalog: &'a Catalog, unit: TimeUnit) -> Vec<OrderShape<'a>> {
    orders.iter().map(|known| wire::numbers_of(catalog, known.order.symbol, unit).order(known)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::command::Transfer;
    use engine::order::{ClientOrderId, OrderType, Side, TimeInForce};
    use engine::{Amount, AssetId, SymbolId, Uid};

    const DAY: u64 = 24 * 3_600 * 1_000_000;
    const UID: Uid = Uid(1);

    /// An order that rests, and the same one canceled, a minute after 1970 began.
    fn open_and_canceled() -> [Order; 2] {
        let (mut engine, mut events) = (crate::testing::engine(), Vec::new());
        let deposit = Transfer { uid: UID, asset: AssetId(1), amount: Amount(1 << 60), external_id: "1".to_owned() };
        let place = PlaceOrder {
            uid: UID,
            symbol: SymbolId(0),
            client_order_id: ClientOrderId::new("a").unwrap(),
            side: Side::Buy,
            order_type: OrderType::Limit,
            time_in_force: TimeInForce::Gtc,
            price: Amount(100_000_000),
            quantity: OrderQuantity::Base(Amount(100_000_000)),
            self_trade_prevention: None,
            special: None,
        };
        for command in [
            Command::OpenAccount { uid: UID },
            Command::Deposit(deposit),
            Command::PlaceOrder(place),
            Command::CancelAllOrders { uid: UID, symbol: SymbolId(0) },
        ] {
            engine.apply(Time(60_000_000), &command, &mut events);
        }
        let find = |of: fn(&Event) -> Option<&Order>| events.iter().find_map(of).expect("the event").clone();
        let open = find(|event| if let Event::OrderAccepted(order) = event { Some(order) } else { None });
        let canceled = find(|event| if let Event::OrderCanceled { order, .. } = event { Some(order) } else { None });
        [open, canceled]
    }

    #[test]
    fn an_order_that_ended_without_a_trade_is_told_of_for_ninety_days() {
        let [open, canceled] = open_and_canceled();
        let last = Time(canceled.updated_at.0 + 90 * DAY);
        assert!(!is_archived(&canceled, last));
        assert!(is_archived(&canceled, Time(last.0 + 1)));
        assert!(!is_archived(&open, Time(last.0 + 1)), "an open order is never too old");
        let traded = Order { executed: engine::Quantity(1), ..canceled };
        assert!(!is_archived(&traded, Time(last.0 + 1)));
    }
}
