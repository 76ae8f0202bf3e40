//! New orders that are asked again under the name that the client gave them.

use engine::Rejection;
use engine::command::{Once, Placing};
use engine::event::{Event, Repeated};
use engine::order::OrderStatus;
use engine::units::{OrderId, OrderListId, Time};

use super::ReferenceEngine;

/// How long a name is remembered, in microseconds, and how many are.
const REMEMBERED_FOR: u64 = 300_000_000;
const REMEMBERED: usize = 1_048_576;

/// What became of a use of a name.
pub(super) struct Placed {
    key: u64,
    fingerprint: u64,
    time: Time,
    /// The event that a repeat is answered with.
    result: Event,
}

impl ReferenceEngine {
    pub(super) fn place_once(&mut self, once: &Once) -> Result<(), Rejection> {
        if let Some(first) = self.first_result(once) {
            match first.clone() {
                Event::Rejected(rejection) => return Err(rejection),
                first => self.events.push(first),
            }
            return Ok(());
        }
        match &once.placing {
            Placing::Order(place) => self.place_order(place),
            Placing::OrderList(list) => self.place_list(list),
            Placing::CancelReplace(both) => self.cancel_replace(both),
        }
    }

    /// The last use of a name, if it is not too long ago.
    fn last_use(&self, key: u64) -> Option<&Placed> {
        let last = self.placed.iter().rev().find(|placed| placed.key == key)?;
        (self.now.0 - last.time.0 < REMEMBERED_FOR).then_some(last)
    }

    /// What became of the same request before.
    pub(super) fn first_result(&self, once: &Once) -> Option<&Event> {
        let last = self.last_use(once.key)?;
        (!once.answered && last.fingerprint == once.fingerprint).then_some(&last.result)
    }

    /// Remembers what a command under a name came to, once all its events are there.
    pub(super) fn remember(&mut self, once: &Once, time: Time, events: &[Event]) {
        if self.first_result(once).is_some() {
            return;
        }
        let refused = events.iter().find_map(|event| match event {
            Event::CancelReplaceDecided { place: Some(Ok(())), .. } => None,
            // What was canceled cannot be canceled again.
            Event::CancelReplaceDecided { cancel, place } => Some(Event::CancelReplaceDecided {
                cancel: Some(cancel.unwrap_or(Rejection::UnknownOrder)),
                place: *place,
            }),
            Event::Rejected(_) => Some(event.clone()),
            _ => None,
        });
        if let Some(refused) = refused {
            let last = self.last_use(once.key);
            let hides_an_order = last.is_some_and(|last| matches!(last.result, Event::OrderRepeated(_)));
            if !hides_an_order || once.answered {
                self.keep(once, time, refused);
            }
            return;
        }
        let own: Vec<&Event> = events.iter().take_while(|event| !matches!(event, Event::OrderTriggered(_))).collect();
        // In a quote-driven symbol the house has orders too.
        let (asker, _) = once.placing.place();
        let accepted = |event: &&Event| match event {
            Event::OrderAccepted(order) if order.uid == asker => Some((order.order_id, order.status)),
            _ => None,
        };
        let mut orders: Vec<(OrderId, OrderStatus)> = own.iter().filter_map(accepted).collect();
        let Some((first, _)) = orders.first().copied() else { return };
        for (order_id, status) in &mut orders {
            for event in &own {
                match event {
                    Event::Trade(trade) if trade.taker.order_id == *order_id => *status = trade.taker.status,
                    Event::OrderExpired { order, .. } if order.order_id == *order_id => *status = order.status,
                    _ => {}
                }
            }
        }
        let (uid, symbol, order_list_id, canceled) = match &once.placing {
            Placing::Order(place) => (place.uid, place.symbol, None, None),
            Placing::OrderList(asked) => (asked.uid, asked.symbol, own.iter().find_map(list_of), None),
            Placing::CancelReplace(both) => {
                let gone = own.iter().filter_map(|event| match event {
                    Event::OrderCanceled { order, cancel_client_order_id } => {
                        Some((*cancel_client_order_id == both.cancel.cancel_client_order_id, order.order_id))
                    }
                    _ => None,
                });
                // The one under the cancel's name, before the others of its list.
                let gone = gone.min_by_key(|(is_meant, _)| !is_meant).map(|(_, order_id)| order_id);
                let refused = own.iter().find_map(|event| match event {
                    Event::CancelReplaceDecided { cancel, .. } => *cancel,
                    _ => None,
                });
                let canceled = refused.map_or_else(|| Ok(gone.expect("one is canceled")), Err);
                (both.place.uid, both.place.symbol, None, Some(canceled))
            }
        };
        assert!(
            orders.iter().zip(first.0..).all(|((order_id, _), number)| order_id.0 == number),
            "they are numbered in a row"
        );
        let sequence = self.sequence;
        let result = Repeated { uid, symbol, sequence, time, orders, order_list_id, canceled };
        self.keep(once, time, Event::OrderRepeated(Box::new(result)));
    }

    fn keep(&mut self, once: &Once, time: Time, result: Event) {
        self.placed.push_back(Placed { key: once.key, fingerprint: once.fingerprint, time, result });
        if self.placed.len() > REMEMBERED {
            self.placed.pop_front();
        }
    }
}

fn list_of(event: &&Event) -> Option<OrderListId> {
    match event {
        Event::OrderListChanged(list) => Some(list.order_list_id),
        _ => None,
    }
}
