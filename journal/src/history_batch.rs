//! What history writes together: the rows of some commands.

use engine::event::{Event, OrderList, PreventedMatch, Trade};
use engine::{Order, OrderId, Sequence, SymbolId, Time};

use crate::format::{
    WATERMARK_KEY, client_id_key, encode_order, encode_time_and_order, encode_timed, encode_trade, list_key,
    list_name_key, list_number, list_time_key, order_key, prevented_key, seal, trade_key, user_prevented_key,
    user_trade_key,
};
use crate::open_orders::KnownOrder;
use crate::record::MarketTrade;
use crate::row_buffer::RowBuffer;

/// What is written together.
pub(crate) struct Batch {
    pub rows: RowBuffer,
    /// The orders that changed and were open then: each is written once, with its last state.
    pub open: Vec<(SymbolId, OrderId)>,
    pub commands: usize,
    pub watermark: Sequence,
}

impl Batch {
    /// An empty one.
    pub(crate) fn after(watermark: Sequence) -> Batch {
        Batch { rows: RowBuffer::default(), open: Vec::new(), commands: 0, watermark }
    }

    /// The rows that stay; what became of the orders is added beside.
    pub(crate) fn add(&mut self, event: &Event, time: Time, sequence: Sequence) {
        match event {
            Event::OrderAccepted(order) => self.add_name(order),
            Event::OrderAmended { order, .. } => self.add_name(order),
            Event::Trade(trade) => self.add_trade(&MarketTrade { time, sequence, trade: *trade }),
            Event::TradePrevented(prevented) => self.add_prevented(prevented, time),
            Event::OrderListChanged(list) => self.add_list(list, time),
            _ => {}
        }
    }

    /// An order is like this now.
    pub(crate) fn change(&mut self, known: &KnownOrder) {
        if known.order.status.is_open() {
            self.open.push((known.order.symbol, known.order.order_id));
        } else {
            self.put_order(known);
        }
    }

    /// An order that came with a state.
    pub(crate) fn add_order(&mut self, known: &KnownOrder) {
        self.add_name(&known.order);
        self.put_order(known);
    }

    pub(crate) fn put_order(&mut self, known: &KnownOrder) {
        let Order { uid, symbol, order_id, .. } = known.order;
        self.rows.put(&order_key(uid, symbol, order_id), |value| encode_order(value, known));
    }

    fn add_name(&mut self, order: &Order) {
        let key = client_id_key(order.uid, order.symbol, &order.client_order_id);
        self.rows.put(&key, |value| value.extend_from_slice(&order.order_id.0.to_be_bytes()));
    }

    fn add_trade(&mut self, trade: &MarketTrade) {
        let Trade { symbol, trade_id, taker, maker, .. } = trade.trade;
        self.rows.put(&trade_key(symbol, trade_id), |value| encode_trade(value, trade));
        for (fill, is_maker) in [(taker, false), (maker, true)] {
            let key = user_trade_key(fill.uid, symbol, trade_id, is_maker);
            self.rows.put(&key, |value| value.extend_from_slice(&encode_time_and_order(trade.time, fill.order_id)));
        }
    }

    fn add_prevented(&mut self, prevented: &PreventedMatch, time: Time) {
        let PreventedMatch { symbol, prevented_match_id: id, .. } = *prevented;
        self.rows.put(&prevented_key(symbol, id), |value| encode_timed(value, time, prevented));
        let sides = [(prevented.taker_uid, prevented.taker_order_id), (prevented.maker_uid, prevented.maker_order_id)];
        for (uid, order_id) in sides {
            let key = user_prevented_key(uid, symbol, order_id, id);
            self.rows.put(&key, |value| value.extend_from_slice(&time.0.to_be_bytes()));
        }
    }

    pub(crate) fn add_list(&mut self, list: &OrderList, time: Time) {
        let number = list_number(list.symbol, list.order_list_id);
        self.rows.put(&list_key(list.uid, number), |value| encode_timed(value, time, list));
        let key = list_time_key(list.uid, list.created_at, number);
        self.rows.put(&key, |value| value.extend_from_slice(&list.created_at.0.to_be_bytes()));
        let key = list_name_key(list.uid, &list.list_client_order_id);
        self.rows.put(&key, |value| value.extend_from_slice(&number.to_be_bytes()));
    }

    /// How far this batch goes.
    pub(crate) fn add_watermark(&mut self) {
        let watermark = seal(&self.watermark);
        self.rows.put(WATERMARK_KEY, |value| value.extend_from_slice(&watermark));
    }
}
