//! Streams and user events over real sockets of a real server: what a subscriber builds from them is what the exchange says
//! when it is asked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use gateway::client::{Answer, Credentials, Rest, WsApi, signed_request};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tests::exchange::{Exchange, bootstrap, credentials};
use tests::socket::Socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

const SYMBOL: &str = "BTCUSD";
/// How long an event that must come may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Places and cancels orders, as account 1 or 2.
struct Trader {
    api: WsApi,
    who: Credentials,
    next_id: u64,
}

impl Trader {
    async fn new(exchange: &Exchange, account: usize) -> Trader {
        let api = WsApi::connect(exchange.address()).await.unwrap();
        Trader { api, who: credentials(account), next_id: 0 }
    }

    async fn call(&mut self, method: &str, parameters: &[(&str, Value)]) -> Answer {
        self.next_id += 1;
        let request = signed_request(self.next_id, method, parameters, &self.who);
        self.api.call(self.next_id, request).await.unwrap()
    }

    async fn limit(&mut self, side: &str, price: &str, quantity: &str) -> Value {
        let answer = self.call("order.place", &limit(side, price, quantity, "GTC")).await;
        assert!(answer.is_success(), "{}", answer.body);
        answer.body
    }
}

fn limit<'a>(side: &str, price: &str, quantity: &str, time_in_force: &str) -> Vec<(&'a str, Value)> {
    vec![
        ("symbol", json!(SYMBOL)),
        ("side", json!(side)),
        ("type", json!("LIMIT")),
        ("timeInForce", json!(time_in_force)),
        ("price", json!(price)),
        ("quantity", json!(quantity)),
    ]
}

/// Random orders and cancels of two accounts, with pauses, for so long.
async fn random_flow(exchange: &Exchange, seed: u64, duration: Duration) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut traders = [Trader::new(exchange, 1).await, Trader::new(exchange, 2).await];
    let mut open: [Vec<u64>; 2] = Default::default();
    let until = Instant::now() + duration;
    while Instant::now() < until {
        let who = random.random_range(0..2);
        let cancels = !open[who].is_empty() && random.random_range(0..3) == 0;
        if cancels {
            let at = random.random_range(0..open[who].len());
            let order = open[who].swap_remove(at);
            // It may be filled by now.
            traders[who].call("order.cancel", &[("symbol", json!(SYMBOL)), ("orderId", json!(order))]).await;
        } else {
            let side = if random.random() { "BUY" } else { "SELL" };
            let price = format!("{}.{:02}", 100, random.random_range(0..40));
            let quantity = format!("0.{:08}", random.random_range(1..9_999_999));
            let time_in_force = if random.random_range(0..4) == 0 { "IOC" } else { "GTC" };
            let answer = traders[who].call("order.place", &limit(side, &price, &quantity, time_in_force)).await;
            assert!(answer.is_success(), "{}", answer.body);
            open[who].push(answer.body["orderId"].as_u64().unwrap());
        }
        if random.random_range(0..50) == 0 {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        }
    }
}

fn seed() -> u64 {
    let given = std::env::var("RIALTO_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| rand::random_range(0..1 << 48));
    println!("RIALTO_SEED={seed}");
    seed
}

async fn get(rest: &Rest, path: &str, parameters: &[(&str, &str)]) -> Value {
    let answer = rest.get(path, parameters).await.unwrap();
    assert!(answer.is_success(), "{path}: {}", answer.body);
    answer.body
}

/// A book as a client keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Book {
    bids: BTreeMap<String, String>,
    asks: BTreeMap<String, String>,
}

impl Book {
    fn set(&mut self, bids: &Value, asks: &Value) {
        for (side, levels) in [(&mut self.bids, bids), (&mut self.asks, asks)] {
            for level in levels.as_array().unwrap() {
                let (price, quantity) = (level[0].as_str().unwrap(), level[1].as_str().unwrap());
                // Clients compare this very text.
                if quantity == "0.00000000" {
                    side.remove(price);
                } else {
                    side.insert(price.to_owned(), quantity.to_owned());
                }
            }
        }
    }

    fn of(snapshot: &Value) -> Book {
        let mut book = Book::default();
        book.set(&snapshot["bids"], &snapshot["asks"]);
        book
    }
}

/// Follows the rules for a local book (web-socket-streams.md) over what came on a diff stream; compares it with every
/// snapshot of the same update id, and returns with how many.
fn follow(events: &[Value], snapshots: &[Value], seed: u64) -> usize {
    let first = events[0]["U"].as_u64().unwrap();
    let id = |snapshot: &Value| snapshot["lastUpdateId"].as_u64().unwrap();
    let start = snapshots.iter().find(|snapshot| id(snapshot) >= first).expect("a snapshot that is young enough");
    let (mut book, begin) = (Book::of(start), id(start));
    let mut local = begin;
    let mut rest = events.iter().skip_while(|event| event["u"].as_u64().unwrap() <= begin).peekable();
    if let Some(event) = rest.peek() {
        let (from, to) = (event["U"].as_u64().unwrap(), event["u"].as_u64().unwrap());
        assert!(from <= local + 1 && local < to, "seed {seed}: the snapshot {local} is outside [{from};{to}]");
    }
    let mut previous = None;
    let mut compared = 0;
    for event in rest {
        let (from, to) = (event["U"].as_u64().unwrap(), event["u"].as_u64().unwrap());
        assert!(from <= to && previous.is_none_or(|previous| from == previous + 1), "seed {seed}: a gap before {from}");
        book.set(&event["b"], &event["a"]);
        (local, previous) = (to, Some(to));
        for snapshot in snapshots.iter().filter(|snapshot| id(snapshot) == local) {
            assert_eq!(book, Book::of(snapshot), "seed {seed}: at update {local}");
            compared += 1;
        }
    }
    let last = snapshots.last().unwrap();
    assert_eq!((local, &book), (id(last), &Book::of(last)), "seed {seed}: at the end");
    compared
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_book_never_sees_a_gap_and_equals_the_snapshot() {
    let seed = seed();
    let exchange = Exchange::start(&bootstrap(2, "0.0005", "0.001"), &[]);
    let rest = Rest::new(exchange.address());
    // What rests before anyone listens is in no event.
    random_flow(&exchange, seed ^ 1, Duration::from_millis(300)).await;
    let mut sockets = Vec::new();
    for stream in ["btcusd@depth@100ms", "btcusd@depth"] {
        let mut socket = Socket::connect(exchange.address(), &format!("/ws/{stream}")).await;
        sockets.push(tokio::spawn(async move {
            let mut events = Vec::new();
            // Quiet for more than a second: all is told.
            while let Some(event) = socket.next_within(Duration::from_millis(2_500)).await {
                assert_eq!((&event["e"], &event["s"]), (&json!("depthUpdate"), &json!(SYMBOL)));
                events.push(event);
            }
            events
        }));
    }
    let depth = || get(&rest, "/api/v3/depth", &[("symbol", SYMBOL), ("limit", "5000")]);
    let mut snapshots = Vec::new();
    let flow = random_flow(&exchange, seed, Duration::from_secs(6));
    tokio::pin!(flow);
    loop {
        tokio::select! {
            () = &mut flow => break,
            snapshot = async { tokio::time::sleep(Duration::from_millis(7)).await; depth().await } => snapshots.push(snapshot),
        }
    }
    snapshots.push(depth().await);
    let mut compared = Vec::new();
    for socket in sockets {
        compared.push(follow(&socket.await.unwrap(), &snapshots, seed));
    }
    println!("compared with {compared:?} of {} snapshots", snapshots.len());
    assert!(compared.iter().all(|count| *count > 0), "seed {seed}: {compared:?}");
}

/// Units of the last decimal: exact where a float is not.
fn units(text: &Value) -> u128 {
    text.as_str().unwrap().replace('.', "").parse().unwrap()
}

/// A kline row from the trades within it; `None` for no trades.
fn row_of(trades: &[Value], open: u64, length: u64) -> Option<Vec<u128>> {
    let inside: Vec<&Value> =
        trades.iter().filter(|trade| (open..open + length).contains(&trade["time"].as_u64().unwrap())).collect();
    let prices = || inside.iter().map(|trade| units(&trade["price"]));
    let sum = |key: &str, buys: bool| {
        inside.iter().filter(|trade| !buys || trade["isBuyerMaker"] == false).map(|trade| units(&trade[key])).sum()
    };
    Some(vec![
        prices().next()?,
        prices().max()?,
        prices().min()?,
        prices().next_back()?,
        sum("qty", false),
        sum("quoteQty", false),
        inside.len() as u128,
        sum("qty", true),
        sum("quoteQty", true),
    ])
}

fn row_numbers(row: &Value) -> Vec<u128> {
    let number = |index: usize| row[index].as_u64().map_or_else(|| units(&row[index]), u128::from);
    [1, 2, 3, 4, 5, 7, 8, 9, 10].into_iter().map(number).collect()
}

async fn all_trades(rest: &Rest) -> Vec<Value> {
    let mut trades = Vec::<Value>::new();
    loop {
        let from = (trades.len() + 1).to_string();
        let parameters = [("symbol", SYMBOL), ("fromId", &from), ("limit", "1000")];
        let page = get(rest, "/api/v3/historicalTrades", &parameters).await;
        let page = page.as_array().unwrap();
        if page.is_empty() {
            return trades;
        }
        trades.extend(page.iter().cloned());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn klines_and_tickers_equal_those_rebuilt_from_trades_also_after_kill_nine() {
    let seed = seed();
    let mut exchange = Exchange::start(&bootstrap(2, "0.0005", "0.001"), &[]);
    let mut socket = Socket::connect(exchange.address(), "/ws/btcusd@kline_1s").await;
    let closes = tokio::spawn(async move {
        let mut closes = Vec::new();
        while let Some(event) = socket.next_within(Duration::from_secs(4)).await {
            let candle = event["k"].clone();
            if candle["x"] == true {
                let now = event["E"].as_u64().unwrap();
                assert!(now > candle["T"].as_u64().unwrap(), "closed before its end: {event}");
                closes.push(candle);
            }
            if closes.len() == 8 {
                break;
            }
        }
        closes
    });
    random_flow(&exchange, seed, Duration::from_secs(5)).await;
    let closes = closes.await.unwrap();
    for restarted in [false, true] {
        if restarted {
            exchange.kill();
            exchange.restart();
        }
        let rest = Rest::new(exchange.address());
        let trades = all_trades(&rest).await;
        assert!(trades.len() > 100, "seed {seed}: {} trades", trades.len());
        for (interval, length) in [("1s", 1_000), ("1m", 60_000), ("1h", 3_600_000), ("1d", 86_400_000)] {
            let parameters = [("symbol", SYMBOL), ("interval", interval), ("startTime", "0"), ("limit", "1000")];
            let rows = get(&rest, "/api/v3/klines", &parameters).await;
            let rows = rows.as_array().unwrap();
            let mut close = 0;
            for row in rows {
                let open = row[0].as_u64().unwrap();
                assert_eq!(row[6].as_u64().unwrap(), open + length - 1);
                let expected = row_of(&trades, open, length).unwrap_or(vec![close, close, close, close, 0, 0, 0, 0, 0]);
                assert_eq!(row_numbers(row), expected, "seed {seed} {interval} {open} restarted {restarted}");
                close = expected[3];
            }
            let count: u64 = rows.iter().map(|row| row[8].as_u64().unwrap()).sum();
            assert_eq!(count, trades.len() as u64, "seed {seed} {interval}: no trade is left out");
            let opens: Vec<u64> = rows.iter().map(|row| row[0].as_u64().unwrap()).collect();
            assert!(opens.windows(2).all(|pair| pair[1] == pair[0] + length), "seed {seed} {interval}: {opens:?}");
            if interval == "1s" {
                assert_eq!(closes.len(), 8, "seed {seed}");
                let times: Vec<u64> = closes.iter().map(|candle| candle["t"].as_u64().unwrap()).collect();
                assert!(times.windows(2).all(|pair| pair[1] == pair[0] + 1_000), "seed {seed}: once each: {times:?}");
                for candle in closes.iter().filter(|candle| candle["t"].as_u64() >= opens.first().copied()) {
                    let row = rows.iter().find(|row| row[0] == candle["t"]).expect("what was closed is there");
                    let pushed = ["o", "h", "l", "c", "v", "q", "n", "V", "Q"].map(|key| candle[key].clone());
                    let asked = [1, 2, 3, 4, 5, 7, 8, 9, 10].map(|index| row[index].clone());
                    assert_eq!(pushed, asked, "seed {seed}");
                }
            }
        }
        let ticker = get(&rest, "/api/v3/ticker/24hr", &[("symbol", SYMBOL)]).await;
        let day = row_of(&trades, 0, u64::MAX / 2).unwrap();
        let keys = ["openPrice", "highPrice", "lowPrice", "lastPrice", "volume", "quoteVolume"];
        for (key, expected) in keys.into_iter().zip(day) {
            assert_eq!(units(&ticker[key]), expected, "seed {seed} {key} restarted {restarted}");
        }
        assert_eq!((&ticker["firstId"], &ticker["lastId"]), (&json!(1), &json!(trades.len())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trade_streams_are_the_trades_in_order_and_aggregates_add_up() {
    let seed = seed();
    let exchange = Exchange::start(&bootstrap(2, "0.0005", "0.001"), &[]);
    let rest = Rest::new(exchange.address());
    let streams = [
        "btcusd@trade",
        "btcusd@aggTrade",
        "btcusd@bookTicker",
        "btcusd@miniTicker",
        "btcusd@ticker",
        "btcusd@depth5@100ms",
    ];
    let mut socket = Socket::connect(exchange.address(), &format!("/stream?streams={}", streams.join("/"))).await;
    let collected = tokio::spawn(async move {
        let mut events = BTreeMap::<String, Vec<Value>>::new();
        let until = Instant::now() + Duration::from_secs(6);
        while Instant::now() < until {
            if let Some(event) = socket.next_within(Duration::from_millis(200)).await {
                let stream = event["stream"].as_str().unwrap().to_owned();
                events.entry(stream).or_default().push(event["data"].clone());
            }
        }
        events
    });
    random_flow(&exchange, seed, Duration::from_secs(3)).await;
    let events = collected.await.unwrap();
    assert_eq!(events.len(), streams.len(), "seed {seed}: {:?}", events.keys());
    let trades = all_trades(&rest).await;
    let told: Vec<_> = events["btcusd@trade"].iter().map(|e| json!([e["t"], e["p"], e["q"], e["T"], e["m"]])).collect();
    let asked: Vec<_> =
        trades.iter().map(|t| json!([t["id"], t["price"], t["qty"], t["time"], t["isBuyerMaker"]])).collect();
    assert_eq!(told, asked, "seed {seed}");
    let (mut next_id, mut next_trade) = (1, 1);
    for aggregate in &events["btcusd@aggTrade"] {
        assert_eq!((&aggregate["a"], &aggregate["f"]), (&json!(next_id), &json!(next_trade)), "seed {seed}");
        let (first, last) = (next_trade as usize, aggregate["l"].as_u64().unwrap());
        let sum: u128 = trades[first - 1..last as usize].iter().map(|trade| units(&trade["qty"])).sum();
        assert_eq!(units(&aggregate["q"]), sum, "seed {seed}");
        (next_id, next_trade) = (next_id + 1, last + 1);
    }
    assert_eq!(next_trade as usize, trades.len() + 1, "seed {seed}");
    let best = get(&rest, "/api/v3/ticker/bookTicker", &[("symbol", SYMBOL)]).await;
    let last = events["btcusd@bookTicker"].last().unwrap();
    let pairs = [("b", "bidPrice"), ("B", "bidQty"), ("a", "askPrice"), ("A", "askQty")];
    pairs.iter().for_each(|(told, asked)| assert_eq!(last[told], best[asked], "seed {seed}"));
    let depth = get(&rest, "/api/v3/depth", &[("symbol", SYMBOL), ("limit", "5")]).await;
    assert_eq!(events["btcusd@depth5@100ms"].last().unwrap(), &depth, "seed {seed}");
    let ticker = get(&rest, "/api/v3/ticker/24hr", &[("symbol", SYMBOL)]).await;
    let last = events["btcusd@ticker"].last().unwrap();
    let pairs = [
        ("c", "lastPrice"),
        ("v", "volume"),
        ("n", "count"),
        ("w", "weightedAvgPrice"),
        ("p", "priceChange"),
        ("P", "priceChangePercent"),
    ];
    pairs.iter().for_each(|(told, asked)| assert_eq!(last[told], ticker[asked], "seed {seed} {asked}"));
}

/// What an account is told of three steps: it offers two, one is bought, it cancels the rest.
async fn check_user_events(exchange: &Exchange, mut next: impl AsyncFnMut() -> Value) {
    let (mut maker, mut taker) = (Trader::new(exchange, 1).await, Trader::new(exchange, 2).await);
    let order = maker.limit("SELL", "100.00", "2.00000000").await;
    taker.limit("BUY", "101.00", "0.50000000").await;
    let cancel =
        [("symbol", json!(SYMBOL)), ("orderId", order["orderId"].clone()), ("newClientOrderId", json!("my-cancel"))];
    let canceled = maker.call("order.cancel", &cancel).await;
    assert!(canceled.is_success(), "{}", canceled.body);
    let mut events = Vec::new();
    while events.len() < 6 {
        events.push(next().await);
    }
    let summary: Vec<_> =
        events.iter().map(|event| format!("{}{}{}", event["e"], event["x"], event["X"]).replace('"', " ")).collect();
    let position = " outboundAccountPosition nullnull";
    assert_eq!(
        summary,
        [
            " executionReport  NEW  NEW ",
            position,
            " executionReport  TRADE  PARTIALLY_FILLED ",
            position,
            " executionReport  CANCELED  CANCELED ",
            position
        ]
    );
    let (trade, end) = (&events[2], &events[4]);
    for (key, expected) in [
        ("i", order["orderId"].clone()),
        ("c", order["clientOrderId"].clone()),
        ("l", json!("0.50000000")),
        ("L", json!("100.0000000000")),
        ("z", json!("0.50000000")),
        ("n", json!("0.0250000000")),
        ("N", json!("USD")),
        ("m", json!(true)),
        ("w", json!(true)),
        ("C", json!("")),
    ] {
        assert_eq!(trade[key], expected, "{key}");
    }
    assert_eq!((&end["c"], &end["C"]), (&json!("my-cancel"), &order["clientOrderId"]));
    let account = maker.call("account.status", &[]).await.body;
    for told in events[5]["B"].as_array().unwrap() {
        let balances = account["balances"].as_array().unwrap();
        let asked = balances.iter().find(|balance| balance["asset"] == told["a"]).unwrap();
        assert_eq!((&told["f"], &told["l"]), (&asked["free"], &asked["locked"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_hears_its_orders_through_a_listen_key() {
    let exchange = Exchange::start(&bootstrap(2, "0.0005", "0.001"), &[]);
    let mut api = Socket::connect(exchange.address(), "/ws-api/v3").await;
    let mut call = async |method: &str, key: Option<&str>| {
        let params = json!({"apiKey": credentials(1).api_key, "listenKey": key});
        let params: Value = params
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, it)| !it.is_null())
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        api.ask(json!({"id": 1, "method": format!("userDataStream.{method}"), "params": params})).await
    };
    let key = call("start", None).await["result"]["listenKey"].as_str().unwrap().to_owned();
    assert_eq!(call("start", None).await["result"]["listenKey"], key.as_str());
    assert_eq!(call("ping", Some(&key)).await["result"], json!({}));
    let mut socket = Socket::connect(exchange.address(), &format!("/ws/{key}")).await;
    check_user_events(&exchange, async || socket.next().await).await;
    assert_eq!(call("stop", Some(&key)).await["result"], json!({}));
    assert_eq!(call("ping", Some(&key)).await["error"]["code"], -1125);
    Trader::new(&exchange, 1).await.limit("SELL", "200.00", "1.00000000").await;
    assert_eq!(socket.next_within(Duration::from_millis(300)).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_hears_its_orders_through_the_ws_api() {
    let exchange = Exchange::start(&bootstrap(2, "0.0005", "0.001"), &[]);
    let mut socket = Socket::connect(exchange.address(), "/ws-api/v3").await;
    let subscribe = |id| signed_request(id, "userDataStream.subscribe.signature", &[], &credentials(1));
    socket.send(subscribe(1)).await;
    let answer = socket.next().await;
    assert_eq!(
        (&answer["id"], &answer["status"], &answer["result"]),
        (&json!(1), &json!(200), &json!({"subscriptionId": 0}))
    );
    assert_eq!(answer["rateLimits"][0]["rateLimitType"], "REQUEST_WEIGHT");
    socket.send(subscribe(2)).await;
    assert_eq!(socket.next().await["error"]["code"], -2035);
    let listed = socket.ask(json!({"id": 3, "method": "session.subscriptions"})).await;
    assert_eq!(listed["result"], json!([{"subscriptionId": 0}]));
    check_user_events(&exchange, async || {
        let event = socket.next().await;
        assert_eq!(event["subscriptionId"], 0);
        event["event"].clone()
    })
    .await;
    let ended =
        socket.ask(json!({"id": 4, "method": "userDataStream.unsubscribe", "params": {"subscriptionId": 0}})).await;
    assert_eq!((&ended["status"], &ended["result"]), (&json!(200), &json!({})));
    assert_eq!(socket.next().await["event"]["e"], "eventStreamTerminated");
    Trader::new(&exchange, 1).await.limit("SELL", "200.00", "1.00000000").await;
    assert_eq!(socket.next_within(Duration::from_millis(300)).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn order_lists_and_cancel_replace_are_asked_through_the_ws_api_too() {
    let exchange = Exchange::start(&bootstrap(2, "0.0005", "0.001"), &[]);
    let mut trader = Trader::new(&exchange, 1).await;
    let oco = json!({
        "symbol": SYMBOL, "side": "SELL", "quantity": "1", "aboveType": "LIMIT_MAKER", "abovePrice": "120.00",
        "belowType": "STOP_LOSS", "belowStopPrice": "90.00",
    });
    let pairs = |of: &Value| of.as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>();
    let oco = pairs(&oco);
    let oco: Vec<(&str, Value)> = oco.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let placed = trader.call("orderList.place.oco", &oco).await;
    assert!(placed.is_success(), "{}", placed.body);
    let number = [("orderListId", placed.body["orderListId"].clone())];
    let open = trader.call("openOrderLists.status", &[]).await.body;
    assert_eq!(trader.call("orderList.status", &number).await.body, open[0]);
    assert_eq!(trader.call("allOrderLists", &[]).await.body, open);
    let cancel = [("symbol", json!(SYMBOL)), number[0].clone()];
    assert_eq!(trader.call("orderList.cancel", &cancel).await.body["listOrderStatus"], "ALL_DONE");

    let order = trader.limit("SELL", "100.00", "1").await;
    let mut replace = limit("SELL", "101.00", "1", "GTC");
    replace.extend([("cancelReplaceMode", json!("STOP_ON_FAILURE")), ("cancelOrderId", order["orderId"].clone())]);
    let replaced = trader.call("order.cancelReplace", &replace).await;
    assert_eq!(replaced.body["newOrderResult"], "SUCCESS");
    let failed = trader.call("order.cancelReplace", &replace).await;
    assert_eq!((failed.status, failed.code()), (400, -2022));
    assert_eq!(failed.body["data"]["newOrderResult"], "NOT_ATTEMPTED");
    let id = replaced.body["newOrderResponse"]["orderId"].clone();
    let amend = [("symbol", json!(SYMBOL)), ("orderId", id.clone()), ("newQty", json!("0.5"))];
    assert!(trader.call("order.amend.keepPriority", &amend).await.is_success());
    let of_order = [("symbol", json!(SYMBOL)), ("orderId", id)];
    assert_eq!(trader.call("order.amendments", &of_order).await.body.as_array().unwrap().len(), 1);
    assert_eq!(trader.call("myPreventedMatches", &of_order).await.body, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_it_loses_its_open_orders_when_its_socket_closes() {
    let exchange = Exchange::start(&bootstrap(3, "0.0005", "0.001"), &[]);
    // By the URL whoever trades through the socket, by the subscription whoever subscribed; nobody else.
    let mut by_url = Socket::connect(exchange.address(), "/ws-api/v3?cancelOnDisconnect=true").await;
    by_url.send(signed_request(1, "order.place", &limit("SELL", "100.00", "1", "GTC"), &credentials(1))).await;
    assert_eq!(by_url.next().await["status"], 200);
    let mut by_subscription = Socket::connect(exchange.address(), "/ws-api/v3").await;
    let parameters = [("cancelOnDisconnect", json!("true"))];
    let subscribe = signed_request(1, "userDataStream.subscribe.signature", &parameters, &credentials(2));
    by_subscription.send(subscribe).await;
    assert_eq!(by_subscription.next().await["status"], 200);
    let mut traders =
        [Trader::new(&exchange, 1).await, Trader::new(&exchange, 2).await, Trader::new(&exchange, 3).await];
    for trader in &mut traders[1..] {
        trader.limit("SELL", "100.00", "1").await;
    }
    let open = async |trader: &mut Trader| trader.call("openOrders.status", &[]).await.body.as_array().unwrap().len();
    assert_eq!(open(&mut traders[0]).await, 1);
    drop((by_url, by_subscription));
    let [one, two, three] = &mut traders;
    for trader in [one, two] {
        let until = Instant::now() + PATIENCE;
        while open(trader).await > 0 {
            assert!(Instant::now() < until, "the orders are still open");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(open(three).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_stream_socket_are_answered_before_their_events() {
    let exchange = Exchange::start(&bootstrap(2, "0.0005", "0.001"), &[]);
    let mut maker = Trader::new(&exchange, 1).await;
    for path in ["/ws", "/ws/0", "/stream", "/stream?streams="] {
        let mut socket = Socket::connect(exchange.address(), path).await;
        for id in [json!(7), json!("a-b-c"), Value::Null] {
            let request = json!({"method": "SUBSCRIBE", "params": ["btcusd@depth5", "btcusd@bookTicker"], "id": id});
            socket.send(request.to_string()).await;
            maker.limit("BUY", "50.00", "1.00000000").await;
            assert_eq!(socket.next().await, json!({"result": null, "id": id}), "{path}");
            socket
                .find(|event| {
                    event.get("u").is_some() || event["stream"] == "btcusd@bookTicker" || event.get("id").is_none()
                })
                .await;
            let list = socket.ask(json!({"method": "LIST_SUBSCRIPTIONS", "id": 1})).await;
            assert_eq!(list["result"], json!(["btcusd@bookTicker", "btcusd@depth5"]));
            let request = json!({"method": "UNSUBSCRIBE", "params": ["btcusd@depth5", "btcusd@bookTicker"], "id": 2});
            assert_eq!(socket.ask(request).await, json!({"result": null, "id": 2}));
            maker.limit("BUY", "50.00", "1.00000000").await;
            assert_eq!(socket.next_within(Duration::from_millis(150)).await, None, "{path}: nothing after UNSUBSCRIBE");
        }
        let error = socket.ask(json!({"method": "NOPE", "id": 9})).await;
        assert_eq!(error["error"]["code"], 2, "{path}");
        socket.send("{").await;
        assert_eq!(socket.next().await["error"]["code"], 3, "{path}");
        socket.0.send(Message::binary(vec![0, 159, 146, 150])).await.unwrap();
        assert_eq!(socket.next().await["error"]["code"], 3, "{path}");
        assert_eq!(socket.ask(json!({"method": "LIST_SUBSCRIPTIONS", "id": 1})).await["result"], json!([]), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_frames_cost_their_socket_and_nothing_else() {
    let exchange = Exchange::start(&bootstrap(1, "0", "0"), &[]);
    for path in ["/ws", "/ws-api/v3"] {
        let mut good = Socket::connect(exchange.address(), path).await;
        let mut long = Socket::connect(exchange.address(), path).await;
        // The server does not read it to the end, so the connection may be reset before the close frame is seen.
        let _ = long.0.send(Message::text("x".repeat(1 << 20))).await;
        let code = long.close_code().await;
        assert!(matches!(code, None | Some(1009)), "{path}: {code:?}");
        // Text that is not UTF-8; no client library sends it, so the frame is made by hand.
        let mut raw = TcpStream::connect(exchange.address().to_string()).await.unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        raw.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4_096];
        let length = raw.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 101"), "{path}");
        raw.write_all(&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe]).await.unwrap();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, raw.read_to_end(&mut rest)).await.expect("the server closes");
        assert!(read.is_err() || rest[..4] == [0x88, rest[1], 0x03, 0xef], "{path}: closed with 1007: {rest:?}");
        // Who did nothing wrong goes on.
        let (request, expected) = match path {
            "/ws" => (json!({"method": "LIST_SUBSCRIPTIONS", "id": 1}), json!([])),
            _ => (json!({"method": "ping", "id": 1}), json!({})),
        };
        assert_eq!(good.ask(request).await["result"], expected, "{path}");
    }
    let mut socket = Socket::connect(exchange.address(), "/ws-api/v3").await;
    for (text, code) in
        [("", -1135), ("{", -1135), ("[]", -1135), (r#"{"id":1}"#, -1135), (r#"{"id":[],"method":"ping"}"#, -1100)]
    {
        socket.send(text).await;
        let answer = socket.next().await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!(code)), "{text}");
    }
    socket.0.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(socket.next().await["error"]["code"], -1135);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_floods_requests_is_closed() {
    let exchange = Exchange::start(&bootstrap(1, "0", "0"), &[]);
    let mut socket = Socket::connect(exchange.address(), "/ws").await;
    for id in 0..200 {
        if socket.0.send(Message::text(json!({"method": "LIST_SUBSCRIPTIONS", "id": id}).to_string())).await.is_err() {
            break;
        }
    }
    assert_eq!(socket.close_code().await, Some(1008));
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_orders_of_one_socket_keep_their_order() {
    let exchange = Exchange::start(&bootstrap(1, "0", "0"), &[]);
    let (mut sender, mut receiver) = WsApi::connect(exchange.address()).await.unwrap().split();
    let who = credentials(1);
    for id in 1..=500 {
        let order = limit("BUY", "10.00", "1.00000000", "GTC");
        sender.feed(signed_request(id, "order.place", &order, &who)).await.unwrap();
    }
    sender.flush().await.unwrap();
    for _ in 1..=500 {
        let (id, answer) = receiver.next().await.unwrap();
        assert!(answer.is_success(), "{}", answer.body);
        assert_eq!(answer.body["orderId"], id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_is_closed_and_slows_nobody() {
    const ORDERS: u64 = 40_000;
    let exchange = Exchange::with_settings(&bootstrap(2, "0", "0"), "[sockets]\nqueue_batches_max = 64\n", &[]);
    let streams = "/stream?streams=btcusd@trade/btcusd@aggTrade/btcusd@bookTicker";
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = socket.connect(exchange.address().to_string().parse().unwrap()).await.unwrap();
    let url = format!("ws://{}{streams}", exchange.address());
    let (mut lazy, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    // Who reads hears all, meanwhile.
    let mut eager = Socket::connect(exchange.address(), "/ws/btcusd@trade").await;
    let reading = tokio::spawn(async move {
        for trade in 1..=ORDERS / 2 {
            assert_eq!(eager.next().await["t"], trade);
        }
    });
    let (mut sender, mut receiver) = WsApi::connect(exchange.address()).await.unwrap().split();
    let asking = tokio::spawn(async move {
        for id in 1..=ORDERS {
            let (side, account) = if id % 2 == 0 { ("BUY", 1) } else { ("SELL", 2) };
            let order = limit(side, "10.00", "1.00000000", "GTC");
            sender.feed(signed_request(id, "order.place", &order, &credentials(account))).await.unwrap();
        }
        sender.flush().await.unwrap();
        sender
    });
    for _ in 1..=ORDERS {
        assert!(receiver.next().await.unwrap().1.is_success());
    }
    asking.await.unwrap();
    reading.await.unwrap();
    let mut heard = 0;
    let end = loop {
        match lazy.next().await {
            Some(Ok(Message::Close(frame))) => break frame.map(|frame| u16::from(frame.code)),
            Some(Ok(_)) => heard += 1,
            // The close frame finds no room when the connection is full to the end.
            Some(Err(_)) | None => break None,
        }
    };
    assert!(matches!(end, None | Some(1008)), "{end:?}");
    assert!(heard < ORDERS, "it was cut off after {heard} messages");
    println!("closed with {end:?} after {heard} messages");
}
