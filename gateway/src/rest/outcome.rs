//! What became of a command of orders, as its caller is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::command::{OrderCountLimit, OrderReference, Placing};
use engine::event::{Event, OrderList, OrderListStatus, Trade};
use engine::once::{Named, key};
use engine::order::{ClientOrderId, Order};
use engine::units::OrderListId;
use engine::{Command, OrderId, Rejection, Sequence, SymbolId, Time, Uid};
use journal::{Answer, KnownOrder};

use super::error::ApiError;
use super::first_result::first_result;
use super::{Call, Handling, Reply, at_once, to_json};
use crate::app::App;
use crate::lanes::Pending;
use crate::stages::{Arrival, Journey};
use crate::views::Catalog;
use crate::wire::{CanceledShape, ListShape, Numbers, ResponseType, cancel_name, numbers_of};
use crate::ws::hub::TimeUnit;

/// A command on its way, and what its answer is written with.
pub struct Sent {
    app: Arc<App>,
    catalog: Arc<Catalog>,
    uid: Uid,
    symbol: SymbolId,
    unit: TimeUnit,
    now: Time,
    arrival: Arrival,
    pending: Pending,
    asked: Option<Asked>,
}

/// New orders under a name that the client gave.
struct Asked {
    placing: Placing,
    given: Vec<ClientOrderId>,
    key: u64,
}

/// What an answer is written with.
pub struct Telling<'a> {
    /// How the symbol's numbers are written.
    pub numbers: Numbers<'a>,
    /// When the request came.
    pub now: Time,
    app: &'a App,
    uid: Uid,
    /// Of the command.
    sequence: Sequence,
}

/// Puts a command about a symbol into its lane.
pub fn send(
    app: &Arc<App>,
    call: &Call,
    catalog: &Arc<Catalog>,
    symbol: SymbolId,
    command: Command,
) -> Result<Sent, ApiError> {
    let uid = call.uid()?;
    let pending = app.lanes.submit(uid, command, call.deadline())?;
    let (app, catalog, arrival) = (app.clone(), catalog.clone(), call.arrival);
    app.outlets.stages.receive.record_duration(pending.queued.saturating_duration_since(arrival.at));
    Ok(Sent { app, catalog, uid, symbol, unit: call.unit, now: call.now, arrival, pending, asked: None })
}

/// Puts new orders into their lane. `given` are the names that the client wrote: under these it may ask again when no answer
/// comes, and gets the first result.
pub fn send_new(
    app: &Arc<App>,
    call: &Call,
    catalog: &Arc<Catalog>,
    placing: Placing,
    given: Vec<ClientOrderId>,
) -> Result<Sent, ApiError> {
    let (_, symbol) = placing.place();
    let mut command = placing.once(&given);
    let Command::Once(once) = &mut command else { return send(app, call, catalog, symbol, command) };
    let (key, is_anew) = (once.key, app.answered.take(once.key));
    once.answered = is_anew;
    let asked = Asked { placing: once.placing.clone(), given, key };
    let sent = send(app, call, catalog, symbol, command);
    if sent.is_err() && is_anew {
        // It was not used again after all.
        app.answered.put(key, call.now);
    }
    Ok(Sent { asked: Some(asked), ..sent? })
}

/// Waits for the answer and gives it a body.
pub fn answer_with(
    sent: Result<Sent, ApiError>,
    body: impl FnOnce(&Answer, &Telling<'_>) -> Result<String, ApiError> + Send + 'static,
) -> Handling {
    let sent = match sent {
        Ok(sent) => sent,
        Err(error) => return at_once(Err(error)),
    };
    Box::pin(async move {
        let Sent { app, catalog, uid, symbol, unit, now, arrival, pending, asked } = sent;
        let queued = pending.queued;
        let mut answer = pending.answer().await?;
        let journey = answer.road.map(|road| Box::new(Journey { arrival, queued, road }));
        let mut answers = canceled_names(answer.events(), uid);
        if let Some(asked) = asked {
            answers.push(asked.key);
            if let Some(Event::OrderRepeated(first)) = answer.events().first() {
                answer =
                    first_result(&app, &catalog.symbols[symbol.0 as usize], asked.placing, asked.given, first).await?;
            }
        }
        let (numbers, sequence) = (numbers_of(&catalog, symbol, unit), answer.sequence());
        let telling = Telling { numbers, now, app: &app, uid, sequence };
        let json = match body(&answer, &telling) {
            Ok(json) => json,
            Err(error) => return Err(ApiError { sequence: Some(answer.sequence()), answers, journey, ..error }),
        };
        let placed_by = places(&answer).then_some(uid);
        Ok(Reply { json, sequence: Some(answer.sequence()), placed_by, answers, journey })
    })
}

/// The keys of the names of what a command took off the book: its owner knows of that, and may use them again.
fn canceled_names(events: &[Event], uid: Uid) -> Vec<u64> {
    let (mut keys, mut lists) = (Vec::new(), Vec::new());
    for event in events {
        match event {
            Event::OrderCanceled { order, .. } if order.uid == uid => {
                keys.push(key(Named::Order, uid, order.symbol, order.client_order_id));
                lists.extend(order.order_list_id());
            }
            Event::OrderListChanged(list) if list.uid == uid && lists.contains(&list.order_list_id) => {
                keys.push(key(Named::OrderList, uid, list.symbol, list.list_client_order_id));
            }
            _ => {}
        }
    }
    keys
}

/// Whether a command placed an order.
fn places(answer: &Answer) -> bool {
    answer.events().iter().any(|event| matches!(event, Event::OrderAccepted(_)))
}

impl Telling<'_> {
    /// The caller's order in this symbol, if it is still open.
    pub fn open_order(&self, reference: &OrderReference) -> Option<Order> {
        let (views, symbol) = (&self.app.outlets.views, self.numbers.symbol.id);
        let is_named = |order: &Order| Some(order.client_order_id) == reference.client_order_id;
        let known = match reference.order_id {
            Some(order_id) => views.open_order(symbol, order_id).filter(|known| known.order.uid == self.uid),
            None => views.open_orders(self.uid, Some(symbol)).into_iter().find(|known| is_named(&known.order)),
        };
        known.map(|known| known.order)
    }

    /// Why `orders` new orders were refused.
    pub fn order_refused(&self, orders: u32, rejection: Rejection) -> ApiError {
        if rejection != Rejection::TooManyOrders {
            return ApiError::order_rejected(rejection);
        }
        match self.exceeded(orders) {
            Some(limit) => {
                let (interval, number) = crate::rate_limit::interval(limit.seconds);
                let seconds = u64::from(limit.seconds);
                let left = seconds - self.now.0 / 1_000_000 % seconds;
                ApiError::too_many_orders(limit.limit, &format!("{number} {interval}"), left)
            }
            // The window ended meanwhile.
            None => ApiError::order_rejected(rejection),
        }
    }

    /// Whether the account may not place so many more orders now.
    pub fn is_limited(&self, orders: u32) -> bool {
        self.exceeded(orders).is_some()
    }

    fn exceeded(&self, orders: u32) -> Option<OrderCountLimit> {
        let views = &self.app.outlets.views;
        let counts = views.order_counts(self.uid, self.now);
        let exceeded = |&(limit, count): &(OrderCountLimit, u32)| {
            limit.seconds > 0 && limit.limit > 0 && count.saturating_add(orders) > limit.limit
        };
        views.order_limits().into_iter().zip(counts).find(exceeded).map(|(limit, _)| limit)
    }
}

/// The orders that a command placed and the list they are in.
pub struct Placed {
    /// Each with its fills as the taker.
    pub orders: Vec<(KnownOrder, Vec<Trade>)>,
    /// The list.
    pub list: Option<OrderList>,
}

impl Placed {
    /// What the command itself did. What it set off comes later: the answer of an order list still shows its pending orders
    /// as pending when its working order was filled at once.
    pub fn of(events: &[Event], time: Time) -> Placed {
        let mut placed = Placed { orders: Vec::new(), list: None };
        for event in events.iter().take_while(|event| !matches!(event, Event::OrderTriggered(_))) {
            match event {
                Event::OrderAccepted(order) => placed.orders.push((order.clone().into(), Vec::new())),
                Event::Trade(trade) => {
                    if let Some((known, fills)) = placed.find(trade.taker.order_id) {
                        known.fill(&trade.taker, time);
                        fills.push(*trade);
                    }
                }
                Event::TradePrevented(prevented) => {
                    if let Some((known, _)) = placed.find(prevented.taker_order_id) {
                        known.prevent(prevented.prevented_match_id, prevented.taker_prevented, time);
                    }
                }
                Event::OrderExpired { order, reason } => {
                    if let Some((known, _)) = placed.find(order.order_id) {
                        (known.order, known.expiry) = (order.clone(), Some(*reason));
                    }
                }
                Event::OrderListChanged(list) => placed.list = Some(OrderList::clone(list)),
                _ => {}
            }
        }
        placed
    }

    fn find(&mut self, order_id: OrderId) -> Option<&mut (KnownOrder, Vec<Trade>)> {
        self.orders.iter_mut().find(|(known, _)| known.order.order_id == order_id)
    }
}

/// How much the answer says of a new order when the client did not say.
pub fn response_of(order: &Order) -> ResponseType {
    use engine::order::OrderType;
    match order.order_type {
        OrderType::Limit | OrderType::Market => ResponseType::Full,
        _ => ResponseType::Ack,
    }
}

/// The bodies for what a command canceled: each order that is alone, and each list with all its orders.
pub fn canceled(events: &[Event], telling: &Telling<'_>) -> Vec<String> {
    let numbers = &telling.numbers;
    let mut bodies = Vec::new();
    let mut of_lists = BTreeMap::<OrderListId, Vec<CanceledShape<'_>>>::new();
    for event in events {
        match event {
            Event::OrderCanceled { order, cancel_client_order_id } => {
                let name = cancel_name(order, *cancel_client_order_id, telling.sequence);
                let shape = numbers.canceled(order, name);
                match order.order_list_id() {
                    Some(list) => of_lists.entry(list).or_default().push(shape),
                    None => bodies.push(to_json(&shape)),
                }
            }
            Event::OrderListChanged(list) if list.status == OrderListStatus::AllDone => {
                let Some(reports) = of_lists.remove(&list.order_list_id) else { continue };
                let order_reports = Some(reports);
                let time = telling_time(events).unwrap_or(list.created_at);
                bodies.push(to_json(&ListShape { order_reports, ..numbers.list(list, time) }));
            }
            _ => {}
        }
    }
    bodies
}

/// When a command that canceled anything was applied.
fn telling_time(events: &[Event]) -> Option<Time> {
    events.iter().find_map(|event| match event {
        Event::OrderCanceled { order, .. } => Some(order.updated_at),
        _ => None,
    })
}
