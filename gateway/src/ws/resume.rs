//! What happened last in each symbol, for clients that come back: a stream goes on after the last id that they have.
//!
//! The feed writes here and to the streams under one lock, and who comes back reads and subscribes under the same: so there
//! is no gap and nothing twice between what is told from here and what follows live. What is kept is bounded.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use engine::SymbolId;
use journal::MarketTrade;
use parking_lot::{Mutex, MutexGuard};

use crate::ws::diff::Diff;
use crate::ws::topic::{Cadence, Topic};

/// Trades kept of each symbol.
const TRADES_MAX: usize = 2_000;
/// Changes of the book kept of each symbol: a minute of them.
const DIFFS_MAX: usize = 600;
/// Price levels in them.
const LEVELS_MAX: usize = 50_000;

/// What is kept of one symbol.
#[derive(Default)]
pub struct Recent {
    trades: VecDeque<MarketTrade>,
    diffs: VecDeque<Arc<Diff>>,
    levels: usize,
    /// The last update that the slow diff stream has told.
    slow_told: u64,
}

/// What is kept of all symbols.
#[derive(Default)]
pub struct Retained(Mutex<HashMap<SymbolId, Recent>>);

/// Why a stream cannot go on from an id: what is kept begins and ends elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The first id from which it could.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// What follows an id.
pub enum Missed {
    /// These trades.
    Trades(Vec<MarketTrade>),
    /// These changes of the book.
    Diffs(Vec<Arc<Diff>>),
}

impl Retained {
    /// While this is held nothing new is told.
    pub fn lock(&self) -> MutexGuard<'_, HashMap<SymbolId, Recent>> {
        self.0.lock()
    }
}

impl Recent {
    /// A trade.
    pub fn add_trade(&mut self, trade: &MarketTrade) {
        if self.trades.len() == TRADES_MAX {
            self.trades.pop_front();
        }
        self.trades.push_back(*trade);
    }

    /// Changes of the book that follow those before.
    pub fn add_diff(&mut self, diff: Arc<Diff>) {
        self.levels += diff.window.levels.len();
        self.diffs.push_back(diff);
        while self.diffs.len() > DIFFS_MAX || (self.levels > LEVELS_MAX && self.diffs.len() > 1) {
            let dropped = self.diffs.pop_front();
            self.levels -= dropped.map_or(0, |diff| diff.window.levels.len());
        }
    }

    /// The slow diff stream has told everything up to this update.
    pub fn told_slow(&mut self, update: u64) {
        self.slow_told = update;
    }

    /// What came after `from`, the last id that the client has.
    pub fn since(&self, topic: Topic, from: u64) -> Result<Missed, Refused> {
        match topic {
            Topic::Trade(_) => self.trades_since(from, |trade| trade.trade.trade_id.0),
            Topic::AggregateTrade(_) => self.trades_since(from, |trade| trade.trade.aggregate_id),
            Topic::Depth(_, cadence) => self.diffs_since(from, cadence),
            _ => Err(Refused { first: 0, last: 0 }),
        }
    }

    fn trades_since(&self, from: u64, id: impl Fn(&MarketTrade) -> u64) -> Result<Missed, Refused> {
        let (Some(first), Some(last)) = (self.trades.front().map(&id), self.trades.back().map(&id)) else {
            return Err(Refused { first: 0, last: 0 });
        };
        // The first may be what is left of an aggregate, unless it is the first of all.
        let first = if first == 1 { 0 } else { first };
        if !(first..=last).contains(&from) {
            return Err(Refused { first, last });
        }
        let start = self.trades.partition_point(|trade| id(trade) <= from);
        Ok(Missed::Trades(self.trades.range(start..).copied().collect()))
    }

    fn diffs_since(&self, from: u64, cadence: Cadence) -> Result<Missed, Refused> {
        let told = match cadence {
            Cadence::Fast => self.diffs.back().map_or(0, |diff| diff.window.last),
            Cadence::Slow => self.slow_told,
        };
        let Some(first) = self.diffs.front().map(|diff| diff.window.first - 1).filter(|first| *first <= told) else {
            return Err(Refused { first: told, last: told });
        };
        if !(first..=told).contains(&from) {
            return Err(Refused { first, last: told });
        }
        let missed = self.diffs.iter().filter(|diff| diff.window.last > from && diff.window.last <= told);
        Ok(Missed::Diffs(match cadence {
            Cadence::Fast => missed.cloned().collect(),
            Cadence::Slow => Diff::joined(missed).map(Arc::new).into_iter().collect(),
        }))
    }
}
