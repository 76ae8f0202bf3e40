//! The first result again: what an earlier command did, told from history as the engine told it then, so that the answer to a
//! retry is written by whatever wrote the first one.
//!
//! The engine says which orders the command placed and what each was after it; history has them as they are by now. What came
//! later is taken off again: other fills, amends, triggers.

use std::sync::Arc;

use engine::command::{OrderListKind, OrderQuantity, PlaceOrder, Placing};
use engine::event::{Event, OrderList, OrderListStatus, Repeated};
use engine::order::{ClientOrderId, OrderStatus};
use engine::symbol::Symbol;
use engine::{Order, OrderId, Price, Quantity, SymbolId};
use journal::{Answer, Applied, History, HistoryError, KnownOrder, Page, list_number};

use super::error::ApiError;
use crate::app::App;

/// The answer that the first command had, as far as its caller is told of it. `given` are the names that the client wrote; the
/// others in `placing` are made up anew.
pub async fn first_result(
    app: &App,
    symbol: &Symbol,
    placing: Placing,
    given: Vec<ClientOrderId>,
    first: &Repeated,
) -> Result<Answer, ApiError> {
    let (symbol, repeated) = (symbol.clone(), first.clone());
    let read =
        move |history: &History| Past { history, symbol: &symbol, given: &given, first: &repeated }.events(&placing);
    let events = app.read_history(read).await?.ok_or_else(ApiError::internal)?;
    let ends = vec![u32::try_from(events.len()).map_err(|_| ApiError::internal())?];
    let applied = Applied { first_sequence: first.sequence, time: first.time, events, ends };
    Ok(Answer { applied: Arc::new(applied), index: 0, road: None })
}

struct Past<'a> {
    history: &'a History,
    symbol: &'a Symbol,
    given: &'a [ClientOrderId],
    first: &'a Repeated,
}

/// `None` where history does not have all of it.
type Found<T> = Result<Option<T>, HistoryError>;

impl Past<'_> {
    /// In the order in which the engine told them.
    fn events(&self, placing: &Placing) -> Found<Vec<Event>> {
        let mut events = Vec::new();
        if let (Some(canceled), Placing::CancelReplace(both)) = (self.first.canceled, placing) {
            events.push(Event::CancelReplaceDecided { cancel: canceled.err(), place: Some(Ok(())) });
            if let Ok(order_id) = canceled {
                let name = both.cancel.cancel_client_order_id;
                let Some(gone) = self.canceled(order_id)? else { return Ok(None) };
                for order in gone.orders {
                    let cancel_client_order_id = if order.order_id == order_id { name } else { order.client_order_id };
                    events.push(Event::OrderCanceled { order, cancel_client_order_id });
                }
                events.extend(gone.list.map(|list| Event::OrderListChanged(Box::new(list))));
            }
        }
        let list = match self.first.order_list_id {
            None => None,
            Some(id) => {
                let filed = self.history.order_list(self.first.uid, list_number(self.symbol.id, id))?;
                let Some(filed) = filed else { return Ok(None) };
                Some(OrderList { status: OrderListStatus::ExecutionStarted, ..filed.list })
            }
        };
        let pending_from = match placing {
            Placing::OrderList(asked) if asked.kind != OrderListKind::OneCancelsOther => 1,
            _ => usize::MAX,
        };
        let mut accepted = Vec::new();
        let mut became = Vec::new();
        for (at, (&(order_id, status), asked)) in self.first.orders.iter().zip(placing.orders()).enumerate() {
            let Some(known) = self.history.order(self.first.uid, self.symbol.id, order_id)? else { return Ok(None) };
            self.became(&known, status, &mut became)?;
            accepted.push(self.as_accepted(known, asked, at >= pending_from));
        }
        if let Some(mut list) = list {
            list.orders = accepted.iter().map(|order| (order.order_id, order.client_order_id)).collect();
            events.push(Event::OrderListChanged(Box::new(list.clone())));
            if self.first.orders.iter().all(|(_, status)| !status.is_open()) {
                list.status = OrderListStatus::AllDone;
                became.push(Event::OrderListChanged(Box::new(list)));
            }
        }
        events.extend(accepted.into_iter().map(Event::OrderAccepted));
        events.append(&mut became);
        Ok(Some(events))
    }

    /// The order as it was before it met the book.
    fn as_accepted(&self, known: KnownOrder, asked: &PlaceOrder, pending: bool) -> Order {
        let mut order = known.order;
        order.status = if pending { OrderStatus::PendingNew } else { OrderStatus::New };
        (order.executed, order.cumulative_quote) = (Quantity::ZERO, engine::Amount::ZERO);
        order.updated_at = order.created_at;
        if self.given.contains(&asked.client_order_id) {
            // An amend may have renamed it.
            order.client_order_id = asked.client_order_id;
        }
        match asked.quantity {
            OrderQuantity::Base(amount) => {
                order.quantity = self.symbol.scale.lots(amount).unwrap_or(order.quantity);
            }
            OrderQuantity::Quote(_) => {}
            OrderQuantity::Proceeds => order.quantity = Quantity::ZERO,
        }
        let waits = pending || order.order_type.is_stop();
        if let Some(special) = &mut order.special {
            (special.prevented, special.amends) = (Quantity::ZERO, 0);
            (special.trailing, special.working_at) = (None, None);
            if waits && special.peg.is_some() {
                order.price = Price(0);
            }
        }
        order
    }

    /// What the command made of an order at once.
    fn became(&self, known: &KnownOrder, status: OrderStatus, events: &mut Vec<Event>) -> Result<(), HistoryError> {
        if matches!(status, OrderStatus::New | OrderStatus::PendingNew) && known.prevented_match.is_none() {
            return Ok(());
        }
        let (Repeated { uid, symbol, time, .. }, order_id) = (self.first, known.order.order_id);
        let then = Page::FromTime { start: *time, end: Some(*time) };
        let prevented = self.history.prevented_matches(*uid, *symbol, order_id, then, usize::MAX)?;
        let own = prevented.into_iter().filter(|filed| filed.prevented.taker_order_id == order_id);
        events.extend(own.map(|filed| Event::TradePrevented(filed.prevented)));
        if status != OrderStatus::New {
            let trades = self.history.account_trades(*uid, *symbol, Some(order_id), then, usize::MAX)?;
            let own = trades.into_iter().filter(|filed| !filed.is_maker && filed.trade.taker.order_id == order_id);
            events.extend(own.map(|filed| Event::Trade(filed.trade)));
        }
        if let (OrderStatus::Expired | OrderStatus::ExpiredInMatch, Some(reason)) = (status, known.expiry) {
            events.push(Event::OrderExpired { order: known.order.clone(), reason });
        }
        Ok(())
    }

    /// An order that was canceled, with the others of its list that went with it.
    fn canceled(&self, order_id: OrderId) -> Found<Gone> {
        let symbol = self.symbol.id;
        let Some(known) = self.history.order(self.first.uid, symbol, order_id)? else { return Ok(None) };
        let Some(id) = known.order.order_list_id() else {
            return Ok(Some(Gone { orders: vec![known.order], list: None }));
        };
        let Some(filed) = self.history.order_list(self.first.uid, list_number(symbol, id))? else { return Ok(None) };
        let mut orders = Vec::new();
        for (order_id, _) in &filed.list.orders {
            orders.extend(self.canceled_then(symbol, *order_id)?);
        }
        Ok(Some(Gone { orders, list: Some(OrderList { status: OrderListStatus::AllDone, ..filed.list }) }))
    }

    fn canceled_then(&self, symbol: SymbolId, order_id: OrderId) -> Found<Order> {
        let known = self.history.order(self.first.uid, symbol, order_id)?;
        let then = |order: &Order| order.status == OrderStatus::Canceled && order.updated_at == self.first.time;
        Ok(known.map(|known| known.order).filter(then))
    }
}

/// What a cancel took off the book.
struct Gone {
    orders: Vec<Order>,
    list: Option<OrderList>,
}
