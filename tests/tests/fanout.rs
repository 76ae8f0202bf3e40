//! Streams to many, to the slow, to those who come back and to those who want them compressed, over real sockets of a real
//! server.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use gateway::book_sync::{BookSync, Diff, Level, Snapshot, Step};
use gateway::client::{Address, Rest, WsApi, WsApiReceiver, WsApiSender, signed_request};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tests::exchange::{Exchange, bootstrap, credentials};
use tests::socket::Socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;

const SYMBOL: &str = "BTCUSD";
/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn seed() -> u64 {
    let given = std::env::var("RIALTO_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| rand::random_range(0..1 << 48));
    println!("RIALTO_SEED={seed}");
    seed
}

/// Places orders, many at a time.
struct Trader {
    sender: WsApiSender,
    receiver: WsApiReceiver,
    placed: u64,
    answered: u64,
}

/// How many orders are under way at the most.
const UNDER_WAY_MAX: u64 = 500;

impl Trader {
    async fn new(exchange: &Exchange) -> Trader {
        let (sender, receiver) = WsApi::connect(exchange.address()).await.unwrap().split();
        Trader { sender, receiver, placed: 0, answered: 0 }
    }

    async fn limit(&mut self, account: usize, side: &str, price: &str, quantity: &str) {
        self.placed += 1;
        let terms = [("price", price), ("quantity", quantity), ("side", side), ("timeInForce", "GTC")];
        let mut parameters: Vec<_> = terms.iter().map(|(name, value)| (*name, json!(value))).collect();
        parameters.extend([("symbol", json!(SYMBOL)), ("type", json!("LIMIT"))]);
        let request = signed_request(self.placed, "order.place", &parameters, &credentials(account));
        self.sender.feed(request).await.unwrap();
        if self.placed - self.answered >= UNDER_WAY_MAX {
            self.wait().await;
        }
    }

    /// Waits for all answers.
    async fn wait(&mut self) {
        self.sender.flush().await.unwrap();
        while self.answered < self.placed {
            let (_, answer) = self.receiver.next().await.unwrap();
            assert!(answer.is_success(), "{}", answer.body);
            self.answered += 1;
        }
    }

    /// So many orders around a price, of which about half trade.
    async fn churn(&mut self, random: &mut StdRng, orders: usize) {
        for _ in 0..orders {
            let side = if random.random() { "BUY" } else { "SELL" };
            let price = format!("100.{:02}", random.random_range(0..30));
            let quantity = format!("0.{:08}", random.random_range(1..9_999_999));
            self.limit(random.random_range(1..=2), side, &price, &quantity).await;
        }
        self.wait().await;
    }

    /// So many trades, each at once and of its own aggregate.
    async fn trade(&mut self, trades: usize) {
        for _ in 0..trades {
            self.limit(1, "SELL", "500.00", "0.00001000").await;
            self.limit(2, "BUY", "500.00", "0.00001000").await;
        }
        self.wait().await;
    }
}

async fn depth(address: &Address) -> Snapshot {
    let parameters = [("symbol", SYMBOL), ("limit", "5000")];
    let answer = Rest::new(address).get("/api/v3/depth", &parameters).await.unwrap();
    serde_json::from_value(answer.body).unwrap()
}

/// The events of a socket until it is told to stop.
async fn hear(mut socket: Socket, mut stop: oneshot::Receiver<()>) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        tokio::select! {
            event = socket.next() => events.push(event),
            _ = &mut stop => return events,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_streams_keep_a_local_book_equal_to_book_ticker_partial_books_and_snapshots() {
    let (seed, exchange) = (seed(), Exchange::start(&bootstrap(2, "0", "0"), &[]));
    let (mut random, mut trader) = (StdRng::seed_from_u64(seed), Trader::new(&exchange).await);
    trader.churn(&mut random, 50).await;
    let streams = "btcusd@depth@100ms/btcusd@bookTicker/btcusd@depth5@100ms/btcusd@depth20@100ms";
    let socket = Socket::connect(exchange.address(), &format!("/stream?streams={streams}")).await;
    let (stop, stopped) = oneshot::channel();
    let hearing = tokio::spawn(hear(socket, stopped));
    tokio::time::sleep(Duration::from_millis(150)).await;
    let mut snapshots = Vec::new();
    for _ in 0..30 {
        snapshots.push(depth(exchange.address()).await);
        trader.churn(&mut random, 20).await;
    }
    snapshots.push(depth(exchange.address()).await);
    // More than a second, the slowest stream's pace.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    stop.send(()).unwrap();
    let events = hearing.await.unwrap();
    let of = |name: &str| -> Vec<&Value> {
        let named = events.iter().filter(|event| event["stream"] == format!("btcusd@{name}"));
        named.map(|event| &event["data"]).collect()
    };
    let number = |text: &Value| Decimal::from_str_exact(text.as_str().unwrap()).unwrap();
    let mut book = BookSync::new();
    book.snapshot(snapshots[0].clone()).unwrap();
    let (best, mut compared) = (of("bookTicker"), [0; 3]);
    for event in of("depth@100ms") {
        if book.diff(serde_json::from_value::<Diff>(event.clone()).unwrap()).unwrap() != Step::Applied {
            continue;
        }
        let at = book.last_update().unwrap();
        let last = best.iter().rfind(|told| told["u"].as_u64().unwrap() <= at);
        if let Some(told) = last.filter(|told| told["u"].as_u64().unwrap() > snapshots[0].last) {
            let told: [Level; 2] =
                [("b", "B"), ("a", "A")].map(|(price, at)| (number(&told[price]), number(&told[at])));
            // A side without orders is told as zero.
            let told = told.map(|level| Some(level).filter(|(price, _)| !price.is_zero()));
            assert_eq!([book.best_bid(), book.best_ask()], told, "seed {seed} at {at}");
            compared[0] += 1;
        }
        for (name, count) in [("depth5@100ms", 5), ("depth20@100ms", 20)] {
            for part in of(name).into_iter().filter(|part| part["lastUpdateId"] == at) {
                let part: Snapshot = serde_json::from_value(part.clone()).unwrap();
                let mine: (Vec<Level>, Vec<Level>) =
                    (book.bids().take(count).collect(), book.asks().take(count).collect());
                assert_eq!((part.bids, part.asks), mine, "seed {seed}: {name} at {at}");
                compared[1] += 1;
            }
        }
        for snapshot in snapshots.iter().filter(|snapshot| snapshot.last == at) {
            let mine: (Vec<Level>, Vec<Level>) = (book.bids().collect(), book.asks().collect());
            assert_eq!((snapshot.bids.clone(), snapshot.asks.clone()), mine, "seed {seed} at {at}");
            compared[2] += 1;
        }
    }
    assert_eq!(book.last_update(), Some(snapshots.last().unwrap().last), "seed {seed}");
    println!("equal to {compared:?} best prices, partial books and snapshots");
    assert!(compared.iter().all(|count| *count > 0), "seed {seed}: {compared:?}");
}

/// What comes after `from` on a stream whose ids are under these keys: the first and the last of each event.
async fn resumed(address: &Address, path: &str, keys: [&str; 2], until: u64) -> Vec<(u64, u64)> {
    let mut socket = Socket::connect(address, path).await;
    let mut ids = Vec::new();
    while ids.last().is_none_or(|(_, last)| *last < until) {
        let event = socket.next().await;
        assert_ne!(event["e"], "resumeRefused", "{path}: {event}");
        ids.push((event[keys[0]].as_u64().unwrap(), event[keys[1]].as_u64().unwrap()));
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_goes_on_after_the_last_id_it_has_without_a_gap() {
    let (seed, exchange) = (seed(), Exchange::start(&bootstrap(2, "0", "0"), &[]));
    let (mut random, mut trader) = (StdRng::seed_from_u64(seed), Trader::new(&exchange).await);
    for _ in 0..6 {
        trader.churn(&mut random, 40).await;
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    trader.trade(20).await;
    // The slow stream has told all of it.
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    let (address, book) = (exchange.address().clone(), depth(exchange.address()).await.last);
    let trades = Rest::new(&address).get("/api/v3/trades", &[("symbol", SYMBOL), ("limit", "1")]).await.unwrap();
    let trades = trades.body[0]["id"].as_u64().unwrap();
    for _ in 0..10 {
        let from = random.random_range(0..trades);
        let path = format!("/ws/btcusd@trade?resumeFrom={from}");
        let ids = resumed(&address, &path, ["t", "t"], trades).await;
        assert_eq!(ids, (from + 1..=trades).map(|id| (id, id)).collect::<Vec<_>>(), "seed {seed}");
        for cadence in ["@depth@100ms", "@depth"] {
            let from = random.random_range(0..book);
            let path = format!("/ws/btcusd{cadence}?resumeFrom={from}");
            let ids = resumed(&address, &path, ["U", "u"], book).await;
            assert!(
                ids[0].0 <= from + 1 && from < ids[0].1,
                "seed {seed}: {cadence} after {from} begins with {:?}",
                ids[0]
            );
            assert!(ids.windows(2).all(|pair| pair[1].0 == pair[0].1 + 1), "seed {seed}: {cadence} {ids:?}");
        }
    }
    // By request, with what happens meanwhile: still once each, and after the answer.
    let mut socket = Socket::connect(&address, "/ws").await;
    let trading = tokio::spawn(async move {
        trader.trade(150).await;
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let params = json!([format!("btcusd@trade?resumeFrom={}", trades - 5), "btcusd@aggTrade?resumeFrom=3"]);
    socket.send(json!({"method": "SUBSCRIBE", "params": params, "id": 1}).to_string()).await;
    assert_eq!(socket.next().await, json!({"result": null, "id": 1}));
    let (mut next_trade, mut next_aggregate) = (trades - 4, 4);
    while next_trade <= trades + 150 {
        let event = socket.next().await;
        if event["e"] == "trade" {
            assert_eq!(event["t"], next_trade, "seed {seed}");
            next_trade += 1;
        } else {
            assert_eq!((&event["e"], &event["a"]), (&json!("aggTrade"), &json!(next_aggregate)), "seed {seed}");
            next_aggregate += 1;
        }
    }
    trading.await.unwrap();
    let list = socket.ask(json!({"method": "LIST_SUBSCRIPTIONS", "id": 2})).await;
    assert_eq!(list["result"], json!(["btcusd@aggTrade", "btcusd@trade"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_too_long_is_told_to_begin_anew_and_hears_what_comes_then() {
    let exchange = Exchange::start(&bootstrap(2, "0", "0"), &[]);
    let mut trader = Trader::new(&exchange).await;
    trader.trade(2_100).await;
    let refused = async |path: &str, from: u64| {
        let mut socket = Socket::connect(exchange.address(), &format!("/ws/btcusd@{path}?resumeFrom={from}")).await;
        let event = socket.next().await;
        assert_eq!((&event["e"], &event["resumeFrom"]), (&json!("resumeRefused"), &json!(from)), "{path}: {event}");
        (socket, [event["first"].as_u64().unwrap(), event["last"].as_u64().unwrap()])
    };
    let (mut before, range) = refused("trade", 5).await;
    assert_eq!(range, [101, 2_100]);
    let (_after, range) = refused("trade", 2_101).await;
    assert_eq!(range, [101, 2_100]);
    assert_eq!(refused("aggTrade", 7).await.1, [101, 2_100]);
    refused("depth", 1 << 40).await;
    refused("bookTicker", 1).await;
    trader.trade(1).await;
    assert_eq!(before.next().await["t"], 2_101, "it goes on from now");
    let url = format!("ws://{}/ws/btcusd@trade?resumeFrom=99999999999999999999", exchange.address());
    assert!(tokio_tungstenite::connect_async(url).await.is_err(), "no id is that large");
    let mut socket = Socket::connect(exchange.address(), "/ws").await;
    let wrong = socket.ask(json!({"method": "SUBSCRIBE", "params": ["btcusd@trade?resume=1"], "id": 1})).await;
    assert_eq!(wrong["error"]["code"], 2);
}

/// A connection with a small window that becomes a websocket for `path`; the headers say what it offers.
async fn raw(address: &Address, path: &str, headers: &str) -> (TcpStream, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(address.to_string().parse().unwrap()).await.unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    (stream, answer)
}

/// The next frame: its first byte and its payload.
async fn frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let first = stream.read_u8().await.unwrap();
    let length = match stream.read_u8().await.unwrap() {
        126 => u64::from(stream.read_u16().await.unwrap()),
        127 => stream.read_u64().await.unwrap(),
        length => u64::from(length),
    };
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).await.unwrap();
    (first, payload)
}

/// A client's frame.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    // A mask of zeros leaves the payload as it is.
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

fn inflate(payload: &[u8]) -> String {
    let mut state = flate2::Decompress::new(false);
    let mut out = Vec::with_capacity(1 << 20);
    let input = [payload, &[0, 0, 0xff, 0xff]].concat();
    state.decompress_vec(&input, &mut out, flate2::FlushDecompress::Sync).unwrap();
    String::from_utf8(out).unwrap()
}

fn deflate(text: &[u8]) -> Vec<u8> {
    let mut state = flate2::Compress::new(flate2::Compression::best(), false);
    let mut out = Vec::with_capacity(1 << 20);
    state.compress_vec(text, &mut out, flate2::FlushCompress::Sync).unwrap();
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_answers_are_compressed_for_who_offers_it_and_for_nobody_else() {
    let exchange = Exchange::start(&bootstrap(2, "0", "0"), &[]);
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let (mut packed, answer) = raw(exchange.address(), "/ws/btcusd@trade", offer).await;
    let agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert!(answer.contains(agreed), "{answer}");
    let (mut plain, answer) = raw(exchange.address(), "/ws/btcusd@trade", "").await;
    assert!(!answer.contains("extensions"), "{answer}");
    Trader::new(&exchange).await.trade(5).await;
    for _ in 0..5 {
        let ((first, payload), (bare, text)) = (frame(&mut packed).await, frame(&mut plain).await);
        assert_eq!((first, bare), (0xc1, 0x81));
        assert!(payload.len() < text.len());
        assert_eq!(inflate(&payload).as_bytes(), text);
    }
    // A request that is compressed is understood, on the streams and on the WS API, and a long answer is compressed too.
    let request = json!({"method": "LIST_SUBSCRIPTIONS", "id": "0123456789012345678901234567890123"}).to_string();
    packed.write_all(&masked(0xc1, &deflate(request.as_bytes()))).await.unwrap();
    let (_, answer) = frame(&mut packed).await;
    assert!(String::from_utf8_lossy(&answer).contains("btcusd@trade"));
    let (mut api, _) = raw(exchange.address(), "/ws-api/v3", offer).await;
    let request = json!({"method": "exchangeInfo", "id": 7}).to_string();
    api.write_all(&masked(0xc1, &deflate(request.as_bytes()))).await.unwrap();
    let (first, answer) = frame(&mut api).await;
    let answer: Value = serde_json::from_str(&inflate(&answer)).unwrap();
    assert_eq!((first, &answer["id"], &answer["status"]), (0xc1, &json!(7), &json!(200)));
    // Compressed without an agreement, and a bomb: each costs its own socket.
    plain.write_all(&masked(0xc1, &deflate(request.as_bytes()))).await.unwrap();
    assert_eq!(frame(&mut plain).await, (0x88, [&[0x03, 0xea][..], b"protocol error"].concat()));
    let bomb = deflate(&vec![b' '; 10 << 20]);
    assert!(bomb.len() < 20_000);
    api.write_all(&masked(0xc1, &bomb)).await.unwrap();
    assert_eq!(frame(&mut api).await, (0x88, [&[0x03, 0xf1][..], b"message too long"].concat()));
    let list = json!({"method": "LIST_SUBSCRIPTIONS", "id": 1}).to_string();
    packed.write_all(&masked(0x81, list.as_bytes())).await.unwrap();
    assert_eq!(frame(&mut packed).await.0, 0x81, "who did nothing wrong goes on");
}

/// Who reads nothing while the book changes is told all of it in the end, in fewer events and without a gap.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_depth_gets_fewer_events_without_a_gap_and_of_best_prices_the_last() {
    let (seed, exchange) = (seed(), Exchange::start(&bootstrap(2, "0", "0"), &[]));
    let streams = "/stream?streams=btcusd@depth@100ms/btcusd@bookTicker";
    let (mut slow, _) = raw(exchange.address(), streams, "").await;
    let (mut random, mut trader) = (StdRng::seed_from_u64(seed), Trader::new(&exchange).await);
    // Until it is sent nothing any more, its buffers are filled; nobody knows how much the system holds.
    let rest = Rest::new(exchange.address());
    let metric = async |name: &str| -> u64 {
        let page = page(exchange.address()).await;
        let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let (begun, mut sent) = (Instant::now(), 0);
    loop {
        trader.churn(&mut random, 4_000).await;
        match metric("rialto_stream_messages_total ").await {
            now if now == sent => break,
            now => sent = now,
        }
        assert!(begun.elapsed() < Duration::from_secs(100), "seed {seed}: it is never behind");
    }
    tokio::time::sleep(Duration::from_millis(250)).await;
    let last = depth(exchange.address()).await;
    let (mut at, mut merged, mut best) = (None, 0, Value::Null);
    let mut book = BookSync::new();
    book.snapshot(Snapshot { last: 0, bids: Vec::new(), asks: Vec::new() }).unwrap();
    while at != Some(last.last) {
        let next = tokio::time::timeout(PATIENCE, frame(&mut slow)).await.expect("all is told");
        if next.0 != 0x81 {
            continue;
        }
        let event: Value = serde_json::from_slice(&next.1).unwrap();
        if event["stream"] == "btcusd@bookTicker" {
            best = event["data"].clone();
            continue;
        }
        let diff: Diff = serde_json::from_value(event["data"].clone()).unwrap();
        merged = merged.max(diff.last - diff.first);
        assert_eq!(book.diff(diff), Ok(Step::Applied), "seed {seed}");
        at = book.last_update();
    }
    println!("the largest event held {merged} updates");
    let left_out = metric("rialto_stream_messages_conflated_total ").await;
    assert!(left_out > 1_000, "seed {seed}: of so many changes few are told: {left_out} were left out");
    let mine: (Vec<_>, Vec<_>) = (book.bids().collect(), book.asks().collect());
    assert_eq!((last.bids, last.asks), mine, "seed {seed}");
    let told = rest.get("/api/v3/ticker/bookTicker", &[("symbol", SYMBOL)]).await.unwrap().body;
    while best["b"] != told["bidPrice"] || best["A"] != told["askQty"] {
        let next = tokio::time::timeout(PATIENCE, frame(&mut slow)).await.expect("the last is told");
        let event: Value = serde_json::from_slice(&next.1).unwrap_or_default();
        if event["stream"] == "btcusd@bookTicker" {
            best = event["data"].clone();
        }
    }
    assert_eq!(metric("rialto_slow_disconnects_total{reason=\"behind\"} ").await, 0, "nobody was cut off");
}

async fn page(address: &Address) -> String {
    let mut stream = TcpStream::connect(address.to_string()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_of_many_hears_every_trade_while_others_come_go_and_do_not_read() {
    const READERS: usize = 300;
    const TRADES: u64 = 400;
    let settings = "[sockets]\nqueue_batches_max = 1024\n";
    let exchange = Exchange::with_settings(&bootstrap(2, "0", "0"), settings, &[]);
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut socket = Socket::connect(exchange.address(), "/ws/btcusd@trade").await;
        readers.push(tokio::spawn(async move {
            for trade in 1..=TRADES {
                assert_eq!(socket.next().await["t"], trade);
            }
        }));
    }
    let (lazy, _) = raw(exchange.address(), "/stream?streams=btcusd@trade/btcusd@bookTicker", "").await;
    let address = exchange.address().clone();
    let restless = tokio::spawn(async move {
        let mut socket = Socket::connect(&address, "/ws").await;
        for id in 0..40 {
            let method = if id % 2 == 0 { "SUBSCRIBE" } else { "UNSUBSCRIBE" };
            let request = json!({"method": method, "params": ["btcusd@trade", "btcusd@depth@100ms"], "id": id});
            assert_eq!(socket.ask(request).await["result"], Value::Null);
        }
        socket.0.send(Message::Close(None)).await.unwrap();
        while socket.0.next().await.is_some_and(|message| message.is_ok()) {}
    });
    Trader::new(&exchange).await.trade(TRADES as usize).await;
    for reader in readers {
        tokio::time::timeout(PATIENCE, reader).await.expect("everyone hears all").unwrap();
    }
    restless.await.unwrap();
    drop(lazy);
}
