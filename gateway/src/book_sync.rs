//! A copy of somebody's order book, kept by the published rules for local books: a snapshot, then every diff event without a
//! gap. It follows streams of the Binance form, spot and futures; ours are of the same form.
//!
//! It does no I/O: whoever has the socket hands in what came, in the order in which it came, and asks for a snapshot when
//! told to. What comes from outside may be wrong in any way: that is a [`Fault`], after which the copy is empty and waits for
//! a new snapshot. Nothing grows without bound.

use std::collections::{BTreeMap, VecDeque};

use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

/// Diff events kept while the snapshot is on its way.
const WAITING_MAX: usize = 4_096;
/// Price levels of one side; a book with more is nobody's.
const LEVELS_MAX: usize = 200_000;

/// What stands on one side of a book: exact, as it was sent.
pub type Level = (Decimal, Decimal);

/// An event of a diff stream (`depthUpdate`).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Diff {
    /// The first update in it.
    #[serde(rename = "U")]
    pub first: u64,
    /// The last.
    #[serde(rename = "u")]
    pub last: u64,
    /// The last update of the event before, where the venue says so (futures).
    #[serde(rename = "pu", default)]
    pub previous: Option<u64>,
    /// Bids that changed; a quantity of zero removes the level.
    #[serde(rename = "b", deserialize_with = "levels")]
    pub bids: Vec<Level>,
    /// Asks that changed.
    #[serde(rename = "a", deserialize_with = "levels")]
    pub asks: Vec<Level>,
}

/// The answer to `GET depth`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Snapshot {
    /// The last update in it.
    #[serde(rename = "lastUpdateId")]
    pub last: u64,
    /// The best bids.
    #[serde(deserialize_with = "levels")]
    pub bids: Vec<Level>,
    /// The best asks.
    #[serde(deserialize_with = "levels")]
    pub asks: Vec<Level>,
}

/// What became of an event or a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The copy is up to date with it.
    Applied,
    /// It is older than the copy and changed nothing.
    Old,
    /// It is kept until a snapshot comes: ask for one, if none is on its way.
    Waiting,
}

/// Why the copy is lost. A new snapshot is needed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Events are missing.
    #[error("a gap: the book is at update {at}, the next event begins with {first}")]
    Gap {
        /// The last update that the copy has.
        at: u64,
        /// The first of the event that came.
        first: u64,
    },
    /// The snapshot ends before the events that were kept begin: ask again.
    #[error("the snapshot ends with update {last}, the events begin with {first}")]
    SnapshotTooOld {
        /// The last update of the snapshot.
        last: u64,
        /// The first of the events.
        first: u64,
    },
    /// An event whose last update is before its first.
    #[error("an event from {first} to {last}")]
    Backwards {
        /// Its first update.
        first: u64,
        /// Its last.
        last: u64,
    },
    /// More levels than any book has.
    #[error("more than {LEVELS_MAX} price levels")]
    TooLarge,
}

/// The copy.
#[derive(Debug, Default)]
pub struct BookSync {
    bids: BTreeMap<Decimal, Decimal>,
    asks: BTreeMap<Decimal, Decimal>,
    /// The last update in it; none without a snapshot.
    at: Option<u64>,
    /// Whether an event was applied since the snapshot: from then on each must follow the one before.
    is_chained: bool,
    waiting: VecDeque<Diff>,
}

impl BookSync {
    /// Nothing is known yet.
    pub fn new() -> BookSync {
        BookSync::default()
    }

    /// An event came.
    pub fn diff(&mut self, diff: Diff) -> Result<Step, Fault> {
        if diff.last < diff.first {
            return Err(self.lose(Fault::Backwards { first: diff.first, last: diff.last }));
        }
        let Some(at) = self.at else {
            // The newest are what a snapshot that comes late can be joined to.
            if self.waiting.len() == WAITING_MAX {
                self.waiting.pop_front();
            }
            self.waiting.push_back(diff);
            return Ok(Step::Waiting);
        };
        self.follow(at, &diff)
    }

    /// A snapshot came.
    pub fn snapshot(&mut self, snapshot: Snapshot) -> Result<Step, Fault> {
        if self.at.is_some_and(|at| at >= snapshot.last) {
            return Ok(Step::Old);
        }
        if let Some(first) = self.waiting.front()
            && !is_joined(snapshot.last, first)
        {
            // What is kept stays: a younger snapshot will do.
            return Err(Fault::SnapshotTooOld { last: snapshot.last, first: first.first });
        }
        (self.bids, self.asks) = (BTreeMap::new(), BTreeMap::new());
        set(&mut self.bids, &snapshot.bids);
        set(&mut self.asks, &snapshot.asks);
        (self.at, self.is_chained) = (Some(snapshot.last), false);
        let mut at = snapshot.last;
        for diff in std::mem::take(&mut self.waiting) {
            self.follow(at, &diff)?;
            at = self.at.unwrap_or(at);
        }
        self.within_bounds()
    }

    fn follow(&mut self, at: u64, diff: &Diff) -> Result<Step, Fault> {
        let is_old = match diff.previous {
            // Futures: an event may end where the snapshot does.
            Some(_) => diff.last < at,
            None => diff.last <= at,
        };
        if is_old {
            return Ok(Step::Old);
        }
        let follows = match (self.is_chained, diff.previous) {
            (true, Some(previous)) => previous == at,
            (true, None) => at.checked_add(1) == Some(diff.first),
            (false, _) => is_joined(at, diff),
        };
        if !follows {
            let fault = self.lose(Fault::Gap { at, first: diff.first });
            // A snapshot that covers the hole can still be joined to it.
            self.waiting.push_back(diff.clone());
            return Err(fault);
        }
        set(&mut self.bids, &diff.bids);
        set(&mut self.asks, &diff.asks);
        (self.at, self.is_chained) = (Some(diff.last), true);
        self.within_bounds()
    }

    fn within_bounds(&mut self) -> Result<Step, Fault> {
        if self.bids.len() > LEVELS_MAX || self.asks.len() > LEVELS_MAX {
            return Err(self.lose(Fault::TooLarge));
        }
        Ok(Step::Applied)
    }

    /// Forgets everything, as after a connection that broke.
    pub fn reset(&mut self) {
        *self = BookSync::default();
    }

    fn lose(&mut self, fault: Fault) -> Fault {
        self.reset();
        fault
    }

    /// The last update in the copy; none while it waits for a snapshot.
    pub fn last_update(&self) -> Option<u64> {
        self.at
    }

    /// The best bid and what stands there.
    pub fn best_bid(&self) -> Option<Level> {
        self.bids().next()
    }

    /// The best ask and what stands there.
    pub fn best_ask(&self) -> Option<Level> {
        self.asks().next()
    }

    /// All bids, best first.
    pub fn bids(&self) -> impl Iterator<Item = Level> {
        self.bids.iter().rev().map(|(&price, &quantity)| (price, quantity))
    }

    /// All asks, best first.
    pub fn asks(&self) -> impl Iterator<Item = Level> {
        self.asks.iter().map(|(&price, &quantity)| (price, quantity))
    }
}

/// Whether the first event that is applied to a snapshot may be this one: it holds the update after the snapshot's last, or,
/// of futures, the last itself. An event that is older altogether is in order too, as the next ones show.
fn is_joined(last: u64, diff: &Diff) -> bool {
    match diff.previous {
        Some(_) => diff.first <= last,
        None => diff.first <= last.saturating_add(1),
    }
}

fn set(side: &mut BTreeMap<Decimal, Decimal>, levels: &[Level]) {
    for &(price, quantity) in levels {
        if quantity.is_zero() {
            // One that the snapshot did not reach to is often removed.
            side.remove(&price);
        } else {
            side.insert(price, quantity);
        }
    }
}

/// `[["price","quantity"],…]`; some venues send more in a level.
fn levels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Level>, D::Error> {
    let rows = Vec::<Vec<std::borrow::Cow<'de, str>>>::deserialize(deserializer)?;
    let number = |text: Option<&std::borrow::Cow<'de, str>>| {
        let number = text.and_then(|text| Decimal::from_str_exact(text).ok());
        number.filter(|number| !number.is_sign_negative()).ok_or_else(|| D::Error::custom("a level that is none"))
    };
    rows.iter().map(|row| Ok((number(row.first())?, number(row.get(1))?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(first: u64, last: u64, bid: &str) -> Diff {
        serde_json::from_str(&format!(r#"{{"U":{first},"u":{last},"b":[["1.0","{bid}"]],"a":[]}}"#)).unwrap()
    }

    fn snapshot(last: u64) -> Snapshot {
        serde_json::from_str(&format!(r#"{{"lastUpdateId":{last},"bids":[["1.00","5"]],"asks":[["2","1"]]}}"#)).unwrap()
    }

    fn bid(book: &BookSync) -> String {
        book.best_bid().map_or_else(String::new, |(price, quantity)| format!("{quantity}@{price}"))
    }

    #[test]
    fn events_before_the_snapshot_are_kept_and_joined_to_it() {
        let mut book = BookSync::new();
        for (first, last, quantity) in [(1, 4, "7"), (5, 9, "8"), (10, 10, "9")] {
            assert_eq!(book.diff(diff(first, last, quantity)), Ok(Step::Waiting));
        }
        assert_eq!(book.snapshot(snapshot(7)), Ok(Step::Applied));
        assert_eq!((book.last_update(), bid(&book)), (Some(10), "9@1.00".to_owned()));
        assert_eq!(book.diff(diff(9, 10, "3")), Ok(Step::Old));
        assert_eq!(book.snapshot(snapshot(8)), Ok(Step::Old));
        assert_eq!(book.diff(diff(11, 12, "0")), Ok(Step::Applied));
        assert_eq!((book.best_bid(), book.asks().count()), (None, 1));
    }

    #[test]
    fn a_snapshot_alone_serves_and_the_next_event_must_hold_what_follows_it() {
        let mut book = BookSync::new();
        assert_eq!(book.snapshot(snapshot(7)), Ok(Step::Applied));
        assert_eq!(book.diff(diff(9, 9, "1")), Err(Fault::Gap { at: 7, first: 9 }));
        assert_eq!((book.last_update(), book.best_ask()), (None, None), "what has a gap is shown to nobody");
        // A younger snapshot, and what came meanwhile, mend it.
        assert_eq!(book.snapshot(snapshot(7)), Err(Fault::SnapshotTooOld { last: 7, first: 9 }));
        assert_eq!(book.snapshot(snapshot(8)), Ok(Step::Applied));
        assert_eq!((book.last_update(), bid(&book)), (Some(9), "1@1.00".to_owned()));
    }

    #[test]
    fn an_event_that_overlaps_is_in_order_right_after_the_snapshot_and_never_later() {
        let mut book = BookSync::new();
        book.snapshot(snapshot(7)).unwrap();
        assert_eq!(book.diff(diff(5, 9, "1")), Ok(Step::Applied));
        assert_eq!(book.diff(diff(9, 10, "1")), Err(Fault::Gap { at: 9, first: 9 }));
        assert_eq!(book.diff(diff(4, 3, "1")), Err(Fault::Backwards { first: 4, last: 3 }));
    }

    #[test]
    fn futures_name_the_event_before() {
        let event = |first: u64, last: u64, previous: u64| Diff { previous: Some(previous), ..diff(first, last, "1") };
        let mut book = BookSync::new();
        book.snapshot(snapshot(7)).unwrap();
        assert_eq!(book.diff(event(1, 6, 0)), Ok(Step::Old));
        assert_eq!(book.diff(event(6, 7, 5)), Ok(Step::Applied));
        assert_eq!(book.diff(event(12, 15, 7)), Ok(Step::Applied));
        assert_eq!(book.diff(event(18, 19, 16)), Err(Fault::Gap { at: 15, first: 18 }));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut book = BookSync::new();
        for update in 1..=2 * WAITING_MAX as u64 {
            book.diff(diff(update, update, "1")).unwrap();
        }
        assert_eq!(book.waiting.len(), WAITING_MAX);
        let levels = (1..=LEVELS_MAX as u64 + 1).map(|price| (Decimal::from(price), Decimal::ONE)).collect();
        let huge = Snapshot { last: 3 * WAITING_MAX as u64, bids: levels, asks: Vec::new() };
        assert_eq!(book.snapshot(huge), Err(Fault::TooLarge));
        assert_eq!(book.bids().count(), 0);
    }

    #[test]
    fn levels_that_are_none_are_refused() {
        for level in [r#"["1"]"#, r#"["x","1"]"#, r#"["-1","1"]"#, r#"["1","1e400"]"#, "7", r#"[1,2]"#] {
            let text = format!(r#"{{"U":1,"u":1,"b":[{level}],"a":[]}}"#);
            assert!(serde_json::from_str::<Diff>(&text).is_err(), "{text}");
        }
    }
}
