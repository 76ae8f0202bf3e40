//! flowgen's flows and its matcher: a bare book without accounts, filters, commission or events, written to be obviously
//! right. Steps go to it exactly as they go to the engine.

use engine::order::Side;
use flowgen::flows::{Params, generate};
use flowgen::format::{
    ASK, BID, OP_CANCEL, OP_IOC, OP_LIMIT, OP_MARKET, OP_MOVE, OP_REDUCE, Record, Totals as Expected,
};
use flowgen::refbook::RefBook;

use crate::flow::{Action, Flow, Step, Totals};

/// The flow of that name with so many commands, and what must come of it.
pub fn flow(name: &str, commands: u64) -> (Flow, Totals) {
    let flow = generate(name, &Params { commands, seed: 1 }).expect("a flow of that name");
    let header = &flow.header;
    let made = Flow {
        symbols: header.n_symbols as u16,
        users: header.n_users.into(),
        steps: flow.records.iter().map(step).collect(),
        prefill: header.n_prefill as usize,
    };
    (made, totals(&header.total))
}

fn step(record: &Record) -> Step {
    let action = match record.op {
        OP_LIMIT => Action::Limit,
        OP_IOC => Action::ImmediateOrCancel,
        OP_MARKET => Action::Market,
        OP_CANCEL => Action::Cancel,
        OP_REDUCE => Action::Reduce,
        OP_MOVE => Action::Move,
        other => panic!("no operation has the number {other}"),
    };
    Step {
        action,
        side: if record.side == BID { Side::Buy } else { Side::Sell },
        symbol: record.symbol,
        order: record.order_id,
        user: record.uid,
        price: record.price as u64,
        quantity: record.qty as u64,
    }
}

fn totals(expected: &Expected) -> Totals {
    Totals {
        trades: expected.trades,
        volume: expected.volume,
        notional: expected.notional,
        checksum: expected.checksum,
        resting_orders: expected.resting_orders,
        resting_quantity: expected.resting_qty,
    }
}

/// A step as the matcher takes it.
pub fn record(step: &Step) -> Record {
    let op = match step.action {
        Action::Limit => OP_LIMIT,
        Action::ImmediateOrCancel => OP_IOC,
        Action::Market => OP_MARKET,
        Action::Cancel => OP_CANCEL,
        Action::Reduce => OP_REDUCE,
        Action::Move => OP_MOVE,
    };
    Record {
        op,
        side: if step.side == Side::Buy { BID } else { ASK },
        symbol: step.symbol,
        aux: 0,
        order_id: step.order,
        uid: step.user,
        price: step.price as i64,
        qty: step.quantity as i64,
    }
}

/// The matcher.
pub struct Reference(RefBook);

impl Reference {
    /// With empty books.
    pub fn new(symbols: u16) -> Reference {
        Reference(RefBook::new(symbols.into()))
    }

    /// Decides one command.
    pub fn apply(&mut self, record: &Record) {
        self.0.apply(record);
    }

    /// What it all came to.
    pub fn totals(&self) -> Totals {
        totals(&self.0.totals)
    }
}
