//! Subscribers of one node who keep what they are told: a book by the published rules for local books, and candles. They
//! complain of what no subscriber may see: a gap, a step back, a closed candle that changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use gateway::client::{Address, Rest};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

/// How long after the last trade until all was told: more than a second, the slowest stream's pace.
const QUIET: Duration = Duration::from_millis(2_500);
/// How often a subscriber looks whether it is to stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A book as a client keeps it: quantity by price, in the very texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    bids: BTreeMap<String, String>,
    asks: BTreeMap<String, String>,
}

impl Book {
    /// The book of a depth snapshot.
    pub fn of(snapshot: &Value) -> Book {
        let mut book = Book::default();
        book.set(&snapshot["bids"], &snapshot["asks"]);
        book
    }

    /// How many levels it has.
    pub fn levels(&self) -> usize {
        self.bids.len() + self.asks.len()
    }

    fn set(&mut self, bids: &Value, asks: &Value) {
        for (side, levels) in [(&mut self.bids, bids), (&mut self.asks, asks)] {
            for level in levels.as_array().expect("levels") {
                let [price, quantity] = [0, 1].map(|at| level[at].as_str().expect("a decimal"));
                if quantity.bytes().all(|byte| b"0.".contains(&byte)) {
                    side.remove(price);
                } else {
                    side.insert(price.to_owned(), quantity.to_owned());
                }
            }
        }
    }
}

/// What a subscriber has in the end.
#[derive(Debug)]
pub struct Kept<T> {
    /// What it keeps.
    pub kept: T,
    /// How many events it was sent.
    pub events: u64,
    /// What it may not have seen.
    pub complaints: Vec<String>,
}

/// A subscriber at work.
pub struct Subscriber<T> {
    stop: Arc<AtomicBool>,
    working: JoinHandle<Kept<T>>,
}

impl<T> Subscriber<T> {
    /// Waits until all is told; what the subscriber has then. Nobody may trade any more.
    pub async fn finish(self) -> Kept<T> {
        self.stop.store(true, Ordering::Relaxed);
        self.working.await.expect("a subscriber does not panic")
    }
}

/// Keeps the book of `symbol` as the node at `address` tells it: the book and the last update id in it.
pub async fn keep_book(address: &Address, symbol: &str) -> Subscriber<(u64, Book)> {
    let stop = Arc::new(AtomicBool::new(false));
    let socket = connect(address, &format!("{}@depth@100ms", symbol.to_lowercase())).await;
    let (rest, symbol, flag) = (Rest::new(address), symbol.to_owned(), stop.clone());
    let working = tokio::spawn(async move {
        let parameters = [("symbol", symbol.as_str()), ("limit", "5000")];
        // Listening comes first, so the snapshot is young enough for every event but those it has in it already.
        let snapshot = rest.get("/api/v3/depth", &parameters).await.expect("the node answers").body;
        let mut local = snapshot["lastUpdateId"].as_u64().expect("an update id");
        let mut keeper = Kept { kept: (local, Book::of(&snapshot)), events: 0, complaints: Vec::new() };
        let mut previous = None::<u64>;
        follow(socket, &flag, |event| {
            let [from, to] = ["U", "u"].map(|key| event[key].as_u64().expect("an update id"));
            keeper.events += 1;
            if from > to || previous.is_some_and(|previous| from != previous + 1) {
                keeper.complaints.push(format!("after {previous:?} came [{from};{to}]"));
            }
            previous = Some(to);
            if to <= local {
                return;
            }
            if from > local + 1 {
                keeper.complaints.push(format!("the book is at {local}, the event is [{from};{to}]"));
            }
            keeper.kept.1.set(&event["b"], &event["a"]);
            (local, keeper.kept.0) = (to, to);
        })
        .await
        .unwrap_or_else(|ended| keeper.complaints.push(ended));
        keeper
    });
    Subscriber { stop, working }
}

/// Candles by their opening: the row that the API gives for each, as far as a stream tells it, and whether it is closed.
pub type Candles = BTreeMap<u64, (Vec<Value>, bool)>;

/// Keeps the candles of `symbol` as the node at `address` tells them.
pub async fn keep_candles(address: &Address, symbol: &str, interval: &str) -> Subscriber<Candles> {
    let stop = Arc::new(AtomicBool::new(false));
    let socket = connect(address, &format!("{}@kline_{interval}", symbol.to_lowercase())).await;
    let flag = stop.clone();
    let working = tokio::spawn(async move {
        let mut keeper = Kept { kept: Candles::new(), events: 0, complaints: Vec::new() };
        follow(socket, &flag, |event| {
            keeper.events += 1;
            let candle = &event["k"];
            let open = candle["t"].as_u64().expect("a time");
            let is_closed = candle["x"] == true;
            let row: Vec<Value> = ROW.iter().map(|key| candle[*key].clone()).collect();
            if let Some((last, _)) = keeper.kept.last_key_value()
                && *last > open
            {
                keeper.complaints.push(format!("a step back from {last} to {open}"));
            }
            if let Some((known, true)) = keeper.kept.get(&open) {
                keeper.complaints.push(format!("{open} was closed as {known:?} and is told again as {row:?}"));
            }
            if let Some((known, _)) = keeper.kept.get(&open)
                && known[COUNT].as_u64() > row[COUNT].as_u64()
            {
                keeper.complaints.push(format!("{open} had {} trades and now {}", known[COUNT], row[COUNT]));
            }
            keeper.kept.insert(open, (row, is_closed));
        })
        .await
        .unwrap_or_else(|ended| keeper.complaints.push(ended));
        keeper
    });
    Subscriber { stop, working }
}

/// What of a candle is in its row: the stream's names, in the row's order.
const ROW: [&str; 11] = ["t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q"];
/// Where in the row the number of trades stands.
const COUNT: usize = 8;

/// What differs between the candles of a subscriber and the rows that a node gives.
pub fn compare_candles(kept: &Candles, rows: &Value) -> Vec<String> {
    let rows: BTreeMap<u64, &[Value]> = rows
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| (row[0].as_u64().expect("a time"), &row.as_array().expect("a row")[..ROW.len()]))
        .collect();
    let Some(first) = kept.keys().next() else { return vec!["no candle".to_owned()] };
    let mut complaints = Vec::new();
    for (open, (row, _)) in kept {
        match rows.get(open) {
            Some(expected) if *expected == row.as_slice() => {}
            other => complaints.push(format!("{open}: kept {row:?}, the node says {other:?}")),
        }
    }
    // One in which nothing was traded need not be told; one with trades must.
    let untold = rows.range(first..).filter(|(open, row)| row[COUNT] != 0 && !kept.contains_key(open));
    complaints.extend(untold.map(|(open, row)| format!("{open}: never told, the node says {row:?}")));
    complaints
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn connect(address: &Address, stream: &str) -> Socket {
    let url = format!("ws://{address}/ws/{stream}");
    tokio_tungstenite::connect_async(&url).await.unwrap_or_else(|error| panic!("{url}: {error}")).0
}

/// Hands on every event until it is told to stop and all was told; why it ended before that.
async fn follow(mut socket: Socket, stop: &AtomicBool, mut each: impl FnMut(&Value)) -> Result<(), String> {
    let mut end = None;
    loop {
        if stop.load(Ordering::Relaxed) && Instant::now() > *end.get_or_insert(Instant::now() + QUIET) {
            return Ok(());
        }
        let Ok(message) = tokio::time::timeout(LOOK_INTERVAL, socket.next()).await else { continue };
        match message {
            Some(Ok(Message::Text(text))) => {
                let event: Value = serde_json::from_str(&text).map_err(|error| format!("not JSON: {error}"))?;
                if event.get("e").is_some_and(|kind| kind != "serverShutdown") {
                    each(&event);
                }
            }
            Some(Ok(Message::Close(frame))) => return Err(format!("closed: {frame:?}")),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(format!("socket: {error}")),
            None => return Err("the socket ended".to_owned()),
        }
    }
}
