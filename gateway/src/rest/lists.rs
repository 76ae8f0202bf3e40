//! Order lists: placing, canceling, asking.

use std::sync::Arc;

use engine::command::{CancelOrderList, Command, OrderListKind, OrderQuantity, PlaceOrder, PlaceOrderList, Placing};
use engine::event::Event;
use engine::order::{OrderType, Side};
use engine::{Rejection, Time};
use journal::{FiledList, list_of_number};

use super::error::{ApiError, OcoFault};
use super::order_params::{
    Leg, Terms, client_order_id, given_names, optional_client_order_id, prefixed, required_side, shared_quantity,
};
use super::outcome::{Placed, Telling, answer_with, send, send_new};
use super::trade::{ROWS, ROWS_MAX, SPAN_MAX, one_canceled, parse_page};
use super::{Call, Handling, Reply, at_once, to_json};
use crate::app::App;
use crate::params::Params;
use crate::views::Catalog;
use crate::wire::{self, ListShape, ResponseType, parse_response_type};
use crate::ws::hub::TimeUnit;

/// POST orderList/oco.
pub fn place_oco(app: &Arc<App>, call: Call) -> Handling {
    place(app, call, |params, terms| {
        let side = required_side(params, "side")?;
        let quantity = Some(shared_quantity(params, "quantity", terms)?);
        let mut leg = |prefix| terms.order(params, Leg { prefix, side, quantity });
        let orders = vec![leg("above")?, leg("below")?];
        check_pair(side, orders[0].order_type, orders[1].order_type)?;
        Ok((OrderListKind::OneCancelsOther, orders))
    })
}

/// POST order/oco: as it was asked before legs were named by where they stand.
pub fn place_oco_by_kind(app: &Arc<App>, mut call: Call) -> Handling {
    match name_by_place(&mut call.params) {
        Ok(()) => place_oco(app, call),
        Err(error) => at_once(Err(error)),
    }
}

/// Gives the parameters of the older form the names of the newer. Of a sale the limit order stands above.
fn name_by_place(params: &mut Params) -> Result<(), ApiError> {
    let side = params.peek("side").and_then(wire::parse_side);
    let (limit, stop) = if side == Some(Side::Sell) { ("above", "below") } else { ("below", "above") };
    for name in ["price", "stopPrice"] {
        params.peek(name).ok_or_else(|| ApiError::missing_parameter(name))?;
    }
    let has_limit_price = params.peek("stopLimitPrice").is_some();
    if has_limit_price && params.peek("stopLimitTimeInForce").is_none() {
        return Err(ApiError::missing_parameter("stopLimitTimeInForce"));
    }
    let renamed = [
        ("limitClientOrderId", limit, "clientOrderId"),
        ("price", limit, "price"),
        ("limitIcebergQty", limit, "icebergQty"),
        ("limitStrategyId", limit, "strategyId"),
        ("limitStrategyType", limit, "strategyType"),
        ("stopClientOrderId", stop, "clientOrderId"),
        ("stopPrice", stop, "stopPrice"),
        ("trailingDelta", stop, "trailingDelta"),
        ("stopLimitPrice", stop, "price"),
        ("stopLimitTimeInForce", stop, "timeInForce"),
        ("stopIcebergQty", stop, "icebergQty"),
        ("stopStrategyId", stop, "strategyId"),
        ("stopStrategyType", stop, "strategyType"),
    ];
    for (old, prefix, new) in renamed {
        params.rename(old, prefixed(prefix, new));
    }
    let stop_type = if has_limit_price { "STOP_LOSS_LIMIT" } else { "STOP_LOSS" };
    params.put(prefixed(limit, "type"), "LIMIT_MAKER".to_owned());
    params.put(prefixed(stop, "type"), stop_type.to_owned());
    Ok(())
}

/// POST orderList/oto.
pub fn place_oto(app: &Arc<App>, call: Call) -> Handling {
    place(app, call, |params, terms| {
        let working = working_leg(params)?;
        let working = terms.order(params, working)?;
        let side = required_side(params, "pendingSide")?;
        let pending = terms.order(params, Leg { prefix: "pending", side, quantity: None })?;
        Ok((OrderListKind::OneTriggersOther, vec![working, pending]))
    })
}

/// POST orderList/otoco.
pub fn place_otoco(app: &Arc<App>, call: Call) -> Handling {
    place(app, call, |params, terms| {
        let working = working_leg(params)?;
        let working = terms.order(params, working)?;
        let side = required_side(params, "pendingSide")?;
        let quantity = shared_quantity(params, "pendingQuantity", terms)?;
        let [above, below] = pending_pair(params, terms, side, quantity)?;
        Ok((OrderListKind::OneTriggersOneCancelsOther, vec![working, above, below]))
    })
}

/// POST orderList/opo.
pub fn place_opo(app: &Arc<App>, call: Call) -> Handling {
    place(app, call, |params, terms| {
        let (working, side) = proceeds_legs(params)?;
        let working = terms.order(params, working)?;
        let quantity = Some(OrderQuantity::Proceeds);
        let pending = terms.order(params, Leg { prefix: "pending", side, quantity })?;
        Ok((OrderListKind::OneTriggersOther, vec![working, pending]))
    })
}

/// POST orderList/opoco.
pub fn place_opoco(app: &Arc<App>, call: Call) -> Handling {
    place(app, call, |params, terms| {
        let (working, side) = proceeds_legs(params)?;
        let working = terms.order(params, working)?;
        let [above, below] = pending_pair(params, terms, side, OrderQuantity::Proceeds)?;
        Ok((OrderListKind::OneTriggersOneCancelsOther, vec![working, above, below]))
    })
}

fn working_leg(params: &mut Params) -> Result<Leg, ApiError> {
    Ok(Leg { prefix: "working", side: required_side(params, "workingSide")?, quantity: None })
}

/// The working order of an OPO and the side of what is pending: what is bought is sold.
fn proceeds_legs(params: &mut Params) -> Result<(Leg, Side), ApiError> {
    let working = working_leg(params)?;
    let pending = required_side(params, "pendingSide")?;
    if working.side != Side::Buy {
        return Err(ApiError::opo_working_must_buy());
    }
    if pending != Side::Sell {
        return Err(ApiError::opo_pending_must_sell());
    }
    Ok((working, pending))
}

fn pending_pair(
    params: &mut Params,
    terms: &Terms<'_>,
    side: Side,
    quantity: OrderQuantity,
) -> Result<[PlaceOrder; 2], ApiError> {
    let mut leg = |prefix| terms.order(params, Leg { prefix, side, quantity: Some(quantity) });
    let pair = [leg("pendingAbove")?, leg("pendingBelow")?];
    check_pair(side, pair[0].order_type, pair[1].order_type)?;
    Ok(pair)
}

/// Whether orders of these kinds can stand above and below the price; each fault has its own code.
fn check_pair(side: Side, above: OrderType, below: OrderType) -> Result<(), ApiError> {
    use OrderType::{LimitMaker, StopLoss, StopLossLimit, TakeProfit, TakeProfitLimit};
    let is_stop_loss = |kind| matches!(kind, StopLoss | StopLossLimit);
    let is_take_profit = |kind| matches!(kind, TakeProfit | TakeProfitLimit);
    let of_pairs = |kind| is_stop_loss(kind) || is_take_profit(kind) || kind == LimitMaker;
    let (upper, lower) = match side {
        Side::Buy => ((OcoFault::BuyLimitAbove, OcoFault::BuyTakeProfitAbove), OcoFault::BuyStopLossBelow),
        Side::Sell => ((OcoFault::SellLimitBelow, OcoFault::SellTakeProfitBelow), OcoFault::SellStopLossAbove),
    };
    // Where the stop loss belongs, and where the other one does.
    let (stop_loss, other) = if side == Side::Buy { (above, below) } else { (below, above) };
    let fault = if !of_pairs(above) || !of_pairs(below) {
        OcoFault::Type
    } else if above == LimitMaker && below == LimitMaker {
        OcoFault::BothLimit
    } else if stop_loss == LimitMaker {
        upper.0
    } else if is_take_profit(stop_loss) {
        upper.1
    } else if is_stop_loss(other) {
        lower
    } else {
        return Ok(());
    };
    Err(ApiError::oco_leg(fault))
}

/// The kind of a list and its orders.
type Parsed = (OrderListKind, Vec<PlaceOrder>);

fn place(
    app: &Arc<App>,
    mut call: Call,
    parse: impl FnOnce(&mut Params, &Terms<'_>) -> Result<Parsed, ApiError>,
) -> Handling {
    let mut response = ResponseType::Result;
    let mut count = 0;
    let sent = (|| {
        let (uid, catalog) = (call.uid()?, app.outlets.views.symbols());
        let given = given_names(&call.params);
        let params = &mut call.params;
        let terms = Terms::parse(params, uid, &catalog)?;
        let list_client_order_id = client_order_id(params, "listClientOrderId")?;
        let asked = params.word("newOrderRespType", parse_response_type, ApiError::invalid_response_type)?;
        response = asked.unwrap_or(response);
        let (kind, orders) = parse(params, &terms)?;
        std::mem::take(params).finish()?;
        count = orders.len() as u32;
        let symbol = terms.symbol.id;
        let list = PlaceOrderList { uid, symbol, list_client_order_id, kind, orders };
        send_new(app, &call, &catalog, Placing::OrderList(list), given)
    })();
    answer_with(sent, move |answer, telling| match answer.events().first() {
        Some(Event::Rejected(rejection)) => Err(telling.order_refused(count, *rejection)),
        _ => placed(answer.events(), answer.applied.time, response, telling),
    })
}

/// The body of the answer to a new list.
fn placed(events: &[Event], time: Time, response: ResponseType, telling: &Telling<'_>) -> Result<String, ApiError> {
    let placed = Placed::of(events, time);
    let list = placed.list.ok_or_else(ApiError::internal)?;
    let report = |(known, fills): &(_, Vec<_>)| telling.numbers.placed(known, response, fills);
    let order_reports = Some(placed.orders.iter().map(report).collect());
    Ok(to_json(&ListShape { order_reports, ..telling.numbers.list(&list, time) }))
}

/// DELETE orderList.
pub fn cancel(app: &Arc<App>, mut call: Call) -> Handling {
    let sent = (|| {
        let (uid, catalog) = (call.uid()?, app.outlets.views.symbols());
        let params = &mut call.params;
        let symbol = params.symbol(&catalog)?.id;
        let number = params.integer("orderListId")?;
        let list_client_order_id = optional_client_order_id(params, "listClientOrderId")?;
        let cancel_client_order_id = Some(client_order_id(params, "newClientOrderId")?);
        std::mem::take(params).finish()?;
        if number.is_none() && list_client_order_id.is_none() {
            return Err(ApiError::missing_either("orderListId", "listClientOrderId"));
        }
        let order_list_id = match number.map(list_of_number) {
            Some((other, _)) if other != symbol => {
                return Err(ApiError::cancel_rejected(Rejection::UnknownOrderList));
            }
            found => found.map(|(_, id)| id),
        };
        let list = CancelOrderList { uid, symbol, order_list_id, list_client_order_id, cancel_client_order_id };
        send(app, &call, &catalog, symbol, Command::CancelOrderList(list))
    })();
    answer_with(sent, |answer, telling| one_canceled(answer.events(), telling))
}

/// GET orderList.
pub fn query(app: &Arc<App>, mut call: Call) -> Handling {
    let app = app.clone();
    Box::pin(async move {
        let (uid, catalog) = (call.uid()?, app.outlets.views.symbols());
        let number = call.params.integer("orderListId")?;
        // The query's name for it is that of an order.
        let name = optional_client_order_id(&mut call.params, "origClientOrderId")?;
        call.params.finish()?;
        let found = app.read_history(move |history| match (number, &name) {
            (Some(number), _) => history.order_list(uid, number),
            (None, Some(name)) => history.order_list_by_name(uid, name),
            (None, None) => Ok(None),
        });
        if number.is_none() && name.is_none() {
            return Err(ApiError::missing_either("orderListId", "origClientOrderId"));
        }
        let list = found.await?.ok_or_else(ApiError::no_such_order)?;
        if name.is_some_and(|name| name != list.list.list_client_order_id) {
            return Err(ApiError::client_order_id_mismatch());
        }
        Ok(Reply::of(&shape(&list, &catalog, call.unit)))
    })
}

/// GET openOrderList.
pub fn open(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let (uid, catalog) = (call.uid()?, app.outlets.views.symbols());
        std::mem::take(&mut call.params).finish()?;
        let lists = app.outlets.views.open_lists(uid);
        Ok(Reply::of(&lists.iter().map(|list| shape(list, &catalog, call.unit)).collect::<Vec<_>>()))
    })())
}

/// GET allOrderList.
pub fn all(app: &Arc<App>, mut call: Call) -> Handling {
    let app = app.clone();
    Box::pin(async move {
        let (uid, catalog) = (call.uid()?, app.outlets.views.symbols());
        let from_id = call.params.integer("fromId")?;
        let timed = ["startTime", "endTime"].iter().any(|name| call.params.peek(name).is_some());
        if timed && from_id.is_some() {
            return Err(ApiError::bad_combination());
        }
        let page = parse_page(&mut call.params, from_id, Some(SPAN_MAX))?;
        let limit = call.params.limit(ROWS, ROWS_MAX)?;
        call.params.finish()?;
        let lists = app.read_history(move |history| history.order_lists(uid, page, limit)).await?;
        Ok(Reply::of(&lists.iter().map(|list| shape(list, &catalog, call.unit)).collect::<Vec<_>>()))
    })
}

fn shape<'a>(filed: &FiledList, catalog: &'a Catalog, unit: TimeUnit) -> ListShape<'a, ()> {
    wire::numbers_of(catalog, filed.list.symbol, unit).list(&filed.list, filed.time)
}
