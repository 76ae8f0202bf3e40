//! Depth: a local book kept by the published rules is the exchange's book. First a real exchange's recorded streams through
//! our book-sync client, then our own streams through the same client.

use gateway::book_sync::{BookSync, Diff, Level, Snapshot, Step};
use rust_decimal::Decimal;
use serde_json::Value;
use tests::shared_data::{gzip_lines, shared_file};

/// What a recorded capture says of the best prices, by update id.
struct Best {
    update: u64,
    bid: Level,
    ask: Level,
}

impl Best {
    fn read(event: &Value) -> Best {
        let number = |key: &str| Decimal::from_str_exact(event[key].as_str().unwrap()).unwrap();
        Best { update: event["u"].as_u64().unwrap(), bid: (number("b"), number("B")), ask: (number("a"), number("A")) }
    }
}

/// Replays a capture; after each diff event that is applied the best prices must be those of the last `bookTicker` up to it,
/// a stream of its own. How often they were, and how often not.
fn replay(files: &[&str]) -> Option<(usize, usize)> {
    let files: Option<Vec<_>> = files.iter().map(|file| shared_file(file)).collect();
    let (mut book, mut best, mut events) = (BookSync::new(), Vec::new(), Vec::new());
    for line in files?.iter().flat_map(|file| gzip_lines(file)) {
        let (_, json) = line.split_once(' ').unwrap();
        let message: Value = serde_json::from_str(json).unwrap();
        if message.get("lastUpdateId").is_some() {
            events.push(Err(serde_json::from_value::<Snapshot>(message).unwrap()));
        } else if message["stream"].as_str().unwrap().contains("@depth") {
            events.push(Ok(serde_json::from_value::<Diff>(message["data"].clone()).unwrap()));
        } else if message["stream"].as_str().unwrap().ends_with("@bookTicker") {
            best.push(Best::read(&message["data"]));
        }
    }
    let (mut equal, mut different, mut first) = (0, 0, None);
    let mut told = best.iter().peekable();
    let mut last = None;
    for event in events {
        match event {
            Err(snapshot) => {
                let at = snapshot.last;
                first.get_or_insert(at);
                book.snapshot(snapshot).unwrap();
                // The events that had come before it may have brought it further.
                if book.last_update() == Some(at) {
                    continue;
                }
            }
            Ok(diff) => {
                let step = book.diff(diff).unwrap_or_else(|fault| panic!("{fault}"));
                if step != Step::Applied {
                    continue;
                }
            }
        }
        while let Some(next) = told.next_if(|next| next.update <= book.last_update().unwrap()) {
            last = Some(next);
        }
        let (bid, ask) = (book.best_bid().unwrap(), book.best_ask().unwrap());
        assert!(bid.0 < ask.0, "crossed at {:?}", book.last_update());
        if let Some(last) = last.filter(|last| Some(last.update) > first) {
            if (bid, ask) == (last.bid, last.ask) { equal += 1 } else { different += 1 }
        }
    }
    Some((equal, different))
}

#[test]
fn a_recorded_spot_book_stays_equal_to_its_book_ticker() {
    let files = ["data/binance/spot_btcusdt_20240808.gz", "data/binance/spot_btcusdt_20240809.gz"];
    // The recorder lost two messages of the bookTicker stream, as its notes say.
    if let Some(counts) = replay(&files) {
        assert_eq!(counts, (6_491, 2));
    }
}

#[test]
fn a_recorded_futures_book_stays_equal_to_its_book_ticker() {
    if let Some(counts) = replay(&["data/binance/usdm_btcusdt_20240808.gz"]) {
        assert_eq!(counts, (6_546, 0));
    }
}
