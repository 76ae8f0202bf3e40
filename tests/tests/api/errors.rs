//! Every error code of the public API that matters to clients is what some request is answered with: code, text and status, to
//! the letter, because clients match all three.

use std::collections::BTreeSet;

use gateway::bootstrap::Bootstrap;
use gateway::client::{Credentials, now_ms, signed_request};
use serde_json::{Value, json};
use tests::server::{MARKET, Response, Server, account_a, account_b, credentials, key_header, limit, sign, sign_at};
use tests::socket::Socket;
use tokio_tungstenite::tungstenite::Error;

/// The codes that bots need (errors.md; the venue's own order).
const CODES: &[i64] = &[
    -1000, -1002, -1003, -1006, -1007, -1008, -1013, -1014, -1015, -1016, -1020, -1021, -1022, -1034, -1100, -1101,
    -1102, -1103, -1104, -1105, -1106, -1108, -1111, -1112, -1114, -1115, -1116, -1117, -1118, -1119, -1120, -1121,
    -1122, -1125, -1127, -1128, -1130, -1134, -1135, -1139, -1145, -1151, -1158, -1160, -1165, -1166, -1168, -1194,
    -1196, -1197, -1198, -1199, -1220, -2010, -2011, -2013, -2014, -2015, -2016, -2021, -2022, -2026, -2035, -2036,
    -2038, -2039, -2042,
];

/// Those that no request of a client brings about, and why.
const BY_NO_REQUEST: &[(i64, &str)] = &[
    (-1000, "a fault of ours"),
    (-1006, "there is no message bus whose answer could be unexpected"),
    (-1112, "an order that finds no book expires, and says so in its status"),
    (-2026, "an order must be ninety days old; trade.rs has the rule and its test"),
];

/// The answers so far.
#[derive(Default)]
struct Seen(BTreeSet<i64>);

impl Seen {
    #[track_caller]
    fn rest(&mut self, answer: &Response, status: u16, code: i64, text: &str) {
        let kind = answer.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/json"), "{answer:?}");
        self.body(answer.status, &answer.body, status, code, text);
    }

    #[track_caller]
    fn ws(&mut self, answer: &Value, status: u16, code: i64, text: &str) {
        let found = answer["status"].as_u64().unwrap_or_default() as u16;
        self.body(found, &answer["error"], status, code, text);
    }

    #[track_caller]
    fn body(&mut self, found: u16, body: &Value, status: u16, code: i64, text: &str) {
        assert_eq!((found, &body["code"], &body["msg"]), (status, &json!(code), &json!(text)), "{body}");
        self.0.insert(code);
    }
}

/// The public market with its second symbol, which nobody trades.
fn market() -> String {
    let at = MARKET.find("[[account]]").unwrap();
    let symbol = MARKET[MARKET.find("[[symbol]]").unwrap()..at].replace("\"BTCUSDT\"", "\"QUIET\"");
    format!("{}{symbol}{}", &MARKET[..at], &MARKET[at..])
}

async fn trade(server: &Server) {
    server.order(&account_b(), &limit("SELL", "0.001", "50000")).await.good();
    server.order(&account_a(), &limit("BUY", "0.001", "50000")).await.good();
}

/// What is wrong with a question, whoever asks.
async fn questions(server: &Server, seen: &mut Seen) {
    let many: String = (0..101).map(|number| format!("p{number}=1&")).collect();
    let legal_symbol = "^[A-Z0-9-_.]{1,20}$";
    let illegal = format!("Illegal characters found in parameter 'symbol'; legal range is '{legal_symbol}'.");
    let table = [
        ("nothing", 404, -1020, "This operation is not supported."),
        ("depth?symbol=btcusdt", 400, -1100, &illegal),
        ("depth?symbol=%FF", 400, -1100, "Illegal characters found in a parameter."),
        (&format!("ping?{many}"), 400, -1101, "Too many parameters sent for this endpoint."),
        ("depth?symbol=BTCUSDT&symbol=BTCUSDT", 400, -1101, "Duplicate values for a parameter detected."),
        ("depth", 400, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
        ("ticker", 400, -1102, "Param 'symbol' or 'symbols' must be sent, but both were empty/null!"),
        ("depth?symbol=BTCUSDT&=5", 400, -1103, "An unknown parameter was sent."),
        (
            "depth?symbol=BTCUSDT&color=red",
            400,
            -1104,
            "Not all sent parameters were read; read '1' parameter(s) but was sent '2'.",
        ),
        ("depth?symbol=BTCUSDT&limit=", 400, -1105, "Parameter 'limit' was empty."),
        ("trades?symbol=BTCUSDT&limit=99999999999999999999", 400, -1108, "Parameter 'limit' overflowed."),
        ("klines?symbol=BTCUSDT&interval=7m", 400, -1120, "Invalid interval."),
        ("depth?symbol=NOPEUSDT", 400, -1121, "Invalid symbol."),
        ("exchangeInfo?symbolStatus=SLEEPING", 400, -1122, "Invalid symbolStatus."),
        ("aggTrades?symbol=BTCUSDT&fromId=1&startTime=1", 400, -1128, "Combination of optional parameters invalid."),
        ("ticker?symbol=BTCUSDT&windowSize=60m", 400, -1130, "Data sent for parameter 'windowSize' is not valid."),
        ("ticker/24hr?symbol=BTCUSDT&type=HUGE", 400, -1139, "Invalid ticker type."),
        ("ticker/price?symbols=[%22QUIET%22,%22QUIET%22]", 400, -1151, "Symbol is present multiple times in the list."),
        (
            "depth?symbol=BTCUSDT&symbolStatus=HALT",
            400,
            -1220,
            "The symbol's status does not match the requested symbolStatus.",
        ),
        (
            "ticker?symbol=QUIET",
            400,
            -2016,
            "No trading window could be found for the symbol. Try ticker/24hrs instead.",
        ),
    ];
    for (question, status, code, text) in table {
        seen.rest(&server.get(&format!("/api/v3/{question}")).await, status, code, text);
    }
    let unit = "Invalid value for time unit; expected either MICROSECOND or MILLISECOND.";
    seen.rest(&server.ask("GET", "/api/v3/time", "X-MBX-TIME-UNIT: DAY\r\n", b"").await, 400, -1194, unit);
}

/// What is wrong with who asks, or when.
async fn callers(server: &Server, seen: &mut Seen) {
    let a = account_a();
    let ask =
        async |headers: &str, query: &str| server.ask("GET", &format!("/api/v3/account?{query}"), headers, b"").await;
    let key = key_header(&a);
    seen.rest(&ask("", &sign(&a, "")).await, 401, -2014, "API-key format invalid.");
    let rejected = "Invalid API-key, IP, or permissions for action.";
    seen.rest(&ask("X-MBX-APIKEY: unknown\r\n", &sign(&a, "")).await, 401, -2015, rejected);
    let reader = credentials("key-a-that-only-reads", "secret-r");
    seen.rest(&server.order(&reader, &limit("BUY", "1", "100")).await, 401, -2015, rejected);
    let forged = sign(&credentials("key-a", "another"), "");
    seen.rest(&ask(&key, &forged).await, 400, -1022, "Signature for this request is not valid.");
    let outside = "Timestamp for this request is outside of the recvWindow.";
    seen.rest(&ask(&key, &sign_at(&a, "", now_ms() - 6_000)).await, 400, -1021, outside);
    let ahead = "Timestamp for this request was 1000ms ahead of the server's time.";
    seen.rest(&ask(&key, &sign_at(&a, "", now_ms() + 60_000)).await, 400, -1021, ahead);
    let listen_key = "/api/v3/userDataStream?listenKey=nope";
    seen.rest(&server.ask("PUT", listen_key, &key, b"").await, 400, -1125, "This listenKey does not exist.");
    let day = "symbol=BTCUSDT&startTime=1&endTime=90000000";
    let long = server.signed(&a, "GET", "/api/v3/myTrades", day).await;
    seen.rest(&long, 400, -1127, "More than 24 hours between startTime and endTime.");
}

/// What is wrong with an order.
async fn orders(server: &Server, seen: &mut Seen) {
    let a = account_a();
    let good = limit("BUY", "0.001", "50000");
    let with = |more: &str| format!("{good}&{more}");
    let instead = |from: &str, to: &str| good.replace(from, to);
    let stop = "symbol=BTCUSDT&side=BUY&type=STOP_LOSS&quantity=0.001&stopPrice=40000".to_owned();
    let maker =
        instead("type=LIMIT&timeInForce=GTC", "type=LIMIT_MAKER").replace("BUY", "SELL").replace("50000", "40000");
    let named = with("newClientOrderId=twice");
    server.order(&a, &named).await.good();
    let table = [
        (instead("0.001", "0.000001"), -1013, "Filter failure: LOT_SIZE"),
        (instead("50000", "50000.001"), -1013, "Filter failure: PRICE_FILTER"),
        (instead("50000", "1000"), -1013, "Filter failure: NOTIONAL"),
        (with("stopPrice=1"), -1106, "Parameter 'stopPrice' sent when not required."),
        (instead("0.001", "0.000000001"), -1111, "Parameter 'quantity' has too much precision."),
        (instead("GTC", "GTX"), -1115, "Invalid timeInForce."),
        (instead("LIMIT", "GUESS"), -1116, "Invalid orderType."),
        (instead("BUY", "HOLD"), -1117, "Invalid side."),
        (with("newClientOrderId="), -1118, "New client order ID was empty."),
        (with("newOrderRespType=ALL"), -1130, "Data sent for parameter 'newOrderRespType' is not valid."),
        (with("strategyType=999999"), -1134, "strategyType was less than 1000000."),
        (
            with("icebergQty=0.0005").replace("GTC", "IOC"),
            -1160,
            "Parameter 'icebergQty' is not supported if timeInForce is not GTC.",
        ),
        // With the same terms it would be a retry.
        (named.replace("0.001", "0.002"), -2010, "Duplicate order sent."),
        (instead("0.001", "999"), -2010, "Account has insufficient balance for requested action."),
        (maker, -2010, "Order would immediately match and take."),
        (stop, -2010, "Order would trigger immediately."),
        (with("icebergQty=0.002"), -2010, "IcebergQty exceeds QTY."),
    ];
    for (order, code, text) in table {
        println!("{order}");
        seen.rest(&server.order(&a, &order).await, 400, code, text);
    }
}

/// What is wrong with a cancel, an amend, or a question about an order.
async fn changes(server: &Server, seen: &mut Seen) {
    let a = account_a();
    let placed = server.order(&a, &limit("BUY", "0.001", "40000")).await.good();
    let of = |more: &str| format!("symbol=BTCUSDT&orderId={}{more}", placed["orderId"]);
    let order = "/api/v3/order";
    let amend = "/api/v3/order/amend/keepPriority";
    let table = [
        ("DELETE", order, "symbol=BTCUSDT&origClientOrderId=".to_owned(), -1119, "Original client order ID was empty."),
        (
            "DELETE",
            order,
            of("&cancelRestrictions=ONLY_OLD"),
            -1145,
            "cancelRestrictions has to be either ONLY_NEW or ONLY_PARTIALLY_FILLED.",
        ),
        ("DELETE", order, "symbol=BTCUSDT&orderId=999999".to_owned(), -2011, "Unknown order sent."),
        (
            "DELETE",
            order,
            of("&cancelRestrictions=ONLY_PARTIALLY_FILLED"),
            -2011,
            "Order was not canceled due to cancel restrictions.",
        ),
        ("GET", order, "symbol=BTCUSDT&orderId=999999".to_owned(), -2013, "Order does not exist."),
        ("PUT", amend, "symbol=BTCUSDT&orderId=999999&newQty=1".to_owned(), -2038, "Unknown order sent."),
        ("PUT", amend, of("&newQty=0.001"), -2038, "The requested action would change no state; rejecting."),
        ("GET", order, of("&origClientOrderId=other"), -2039, "Client order ID is not correct for this order ID."),
    ];
    for (method, path, parameters, code, text) in table {
        println!("{method} {path} {parameters}");
        seen.rest(&server.signed(&a, method, path, &parameters).await, 400, code, text);
    }
    let replace = async |cancel: &str, order: &str| {
        let parameters = format!("{order}&cancelReplaceMode=STOP_ON_FAILURE&cancelOrderId={cancel}");
        server.signed(&a, "POST", "/api/v3/order/cancelReplace", &parameters).await
    };
    let failed = replace("999999", &limit("BUY", "0.001", "40000")).await;
    seen.rest(&failed, 400, -2022, "Order cancel-replace failed.");
    let half = replace(&placed["orderId"].to_string(), &limit("BUY", "999", "40000")).await;
    seen.rest(&half, 409, -2021, "Order cancel-replace partially failed.");
}

/// What is wrong with a list of orders.
async fn lists(server: &Server, seen: &mut Seen) {
    let a = account_a();
    let pair = |side: &str, above: &str, below: &str| {
        format!("symbol=BTCUSDT&side={side}&quantity=0.001&aboveType={above}&belowType={below}")
    };
    let maker = |leg: &str, price: u32| format!("LIMIT_MAKER&{leg}Price={price}");
    let stop = |leg: &str, kind: &str, price: u32| format!("{kind}&{leg}StopPrice={price}");
    let limit_stop = |leg: &str, price: u32| {
        format!("STOP_LOSS_LIMIT&{leg}StopPrice={price}&{leg}Price={price}&{leg}TimeInForce=IOC&{leg}IcebergQty=0.0005")
    };
    let low = |kind: &str| stop("below", kind, 49_000);
    let high = |kind: &str| stop("above", kind, 51_000);
    let with_time = |leg: String| format!("{leg}&belowTimeInForce=GTC");
    let table = [
        (
            pair("SELL", &maker("above", 51_000), &with_time(low("STOP_LOSS"))),
            -1114,
            "TimeInForce parameter sent when not required.",
        ),
        (pair("SELL", "MARKET", &low("STOP_LOSS")), -1158, "Order type not supported in OCO."),
        (
            pair("SELL", &maker("above", 51_000), &limit_stop("below", 49_000)),
            -1160,
            "Parameter 'belowIcebergQty' is not supported if belowTimeInForce is not GTC.",
        ),
        (pair("BUY", &maker("above", 51_000), &low("TAKE_PROFIT")), -1165, "A limit order in a buy OCO must be below."),
        (
            pair("SELL", &high("TAKE_PROFIT"), &maker("below", 49_000)),
            -1166,
            "A limit order in a sell OCO must be above.",
        ),
        (
            pair("SELL", &maker("above", 51_000), &maker("below", 49_000)),
            -1168,
            "At least one OCO order must be contingent.",
        ),
        (pair("BUY", &high("STOP_LOSS"), &low("STOP_LOSS")), -1196, "A stop loss order in a buy OCO must be above."),
        (pair("SELL", &high("STOP_LOSS"), &low("STOP_LOSS")), -1197, "A stop loss order in a sell OCO must be below."),
        (
            pair("BUY", &high("TAKE_PROFIT"), &low("TAKE_PROFIT")),
            -1198,
            "A take profit order in a buy OCO must be below.",
        ),
        (
            pair("SELL", &high("TAKE_PROFIT"), &low("TAKE_PROFIT")),
            -1199,
            "A take profit order in a sell OCO must be above.",
        ),
        (
            pair("SELL", &maker("above", 49_000), &low("STOP_LOSS")),
            -2010,
            "The relationship of the prices for the orders is not correct.",
        ),
    ];
    for (parameters, code, text) in table {
        println!("{parameters}");
        seen.rest(&server.signed(&a, "POST", "/api/v3/orderList/oco", &parameters).await, 400, code, text);
    }
    let working = "symbol=BTCUSDT&workingSide=BUY&workingQuantity=0.001&workingType=STOP_LOSS&workingStopPrice=60000";
    let pending = "pendingSide=SELL&pendingType=MARKET&pendingQuantity=0.001";
    let oto = server.signed(&a, "POST", "/api/v3/orderList/oto", &format!("{working}&{pending}")).await;
    seen.rest(&oto, 400, -1014, "Unsupported order combination.");
}

/// What is wrong on a socket.
async fn sockets(server: &Server, seen: &mut Seen) {
    let mut socket = Socket::connect(&server.address, "/ws-api/v3").await;
    socket.send("{").await;
    seen.ws(&socket.next().await, 400, -1135, "Invalid JSON Request");
    let refused = socket.ask(json!({ "id": 1, "method": "userDataStream.subscribe" })).await;
    seen.ws(&refused, 401, -1002, "You are not authorized to execute this request.");
    let mut subscribe = async |id: u64, who: &Credentials| {
        let request = signed_request(id, "userDataStream.subscribe.signature", &[], who);
        socket.ask(serde_json::from_str(&request).unwrap()).await
    };
    assert_eq!(subscribe(2, &account_a()).await["status"], 200);
    seen.ws(&subscribe(3, &account_a()).await, 400, -2035, "User Data Stream subscription already active.");
    let none = json!({ "id": 4, "method": "userDataStream.unsubscribe", "params": { "subscriptionId": 77 } });
    seen.ws(&socket.ask(none).await, 400, -2036, "User Data Stream subscription not active.");
}

/// A socket listens to a thousand accounts and to no more.
async fn subscriptions(seen: &mut Seen) {
    let accounts: String = (1..=1_001)
        .map(|uid| {
            format!(
                "[[account]]\nuid = {uid}\n[[account.key]]\napi_key = \"k{uid}\"\ntype = \"HMAC\"\nsecret = \"s{uid}\"\n\
                 permissions = [\"USER_DATA\"]\n"
            )
        })
        .collect();
    let market = &MARKET[..MARKET.find("[[account]]").unwrap()];
    let server = Server::with(&format!("{market}{accounts}"), |_| {}).await;
    let mut socket = Socket::connect(&server.address, "/ws-api/v3").await;
    for uid in 1..=1_001 {
        let who = credentials(&format!("k{uid}"), &format!("s{uid}"));
        let request = signed_request(uid, "userDataStream.subscribe.signature", &[], &who);
        let answer = socket.ask(serde_json::from_str(&request).unwrap()).await;
        match uid {
            1_001 => seen.ws(&answer, 400, -2042, "Maximum subscription ID reached for this connection."),
            _ => assert_eq!(answer["status"], 200),
        }
    }
    server.stop().await;
}

/// Too much of something.
async fn limits(seen: &mut Seen) {
    let server = Server::start(|config| {
        config.limits.request_weight_per_minute = 100;
        config.limits.orders_per_10_seconds = 1;
    })
    .await;
    // A window may end meanwhile; then the next one is filled too.
    let mut refused = None;
    for _ in 0..10 {
        let answer = server.order(&account_a(), &limit("BUY", "0.001", "50000")).await;
        refused = refused.or((answer.status == 429).then_some(answer));
    }
    let text = "Too many new orders; current limit is 1 orders per 10 SECOND.";
    let answer = refused.expect("the second in ten seconds is too many");
    seen.rest(&answer, 429, -1015, text);
    assert!(answer.header("retry-after").is_some());
    let mut refused = None;
    for _ in 0..12 {
        let answer = server.get("/api/v3/exchangeInfo").await;
        refused = refused.or((answer.status == 429).then_some(answer));
    }
    let text = "Too much request weight used; current limit is 100 request weight per 1 MINUTE. \
                Please use WebSocket Streams for live updates to avoid polling the API.";
    let answer = refused.expect("a minute does not end twice");
    seen.rest(&answer, 429, -1003, text);
    assert!(answer.header("retry-after").is_some());
    server.stop().await;

    let server = Server::start(|config| config.limits.connections_per_5_minutes = 1).await;
    let url = format!("ws://{}/ws", server.address);
    let mut refused = None;
    for _ in 0..3 {
        if let Err(Error::Http(answer)) = tokio_tungstenite::connect_async(&url).await {
            refused = Some(answer);
        }
    }
    let answer = refused.expect("two connections are too many");
    let body = serde_json::from_slice(answer.body().as_deref().unwrap_or_default()).expect("a refusal is JSON");
    let text = "Too many connection attempts from IP; current limit is 1 per '5 MINUTE'.";
    seen.body(answer.status().as_u16(), &body, 429, -1034, text);
    server.stop().await;

    let server = Server::start(|config| (config.lanes.count, config.lanes.commands_max) = (1, 1)).await;
    let mut refused = None;
    // How many are under way at once depends on the disk: one round is enough nearly always.
    for _ in 0..50 {
        let (who, order) = (account_b(), limit("BUY", "0.0002", "50000"));
        let answers = (0..32).map(|_| server.order(&who, &order));
        refused = futures_util::future::join_all(answers).await.into_iter().find(|answer| answer.status == 503);
        if refused.is_some() {
            break;
        }
    }
    let text = "Server is currently overloaded with other requests. Please try again in a few minutes.";
    seen.rest(&refused.expect("a full lane"), 503, -1008, text);
    server.stop().await;
}

/// The engine stops over a command: what became of it nobody can say, and nothing more is taken.
async fn broken_engine(seen: &mut Seen) {
    // The limits and the market come first, then an order that goes well.
    let market = Bootstrap::parse(MARKET).and_then(|market| market.commands()).expect("the market").len() as u64;
    let server = Server::start(|config| config.journal.drill_poison_sequence = 1 + market + 2).await;
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(server.order(&account_a(), &limit("BUY", "0.001", "50000")).await);
    }
    let unknown = "Timeout waiting for response from backend server. Send status unknown; execution status unknown.";
    let first = answers.iter().position(|answer| answer.status != 200).expect("the engine stops");
    seen.rest(&answers[first], 408, -1007, unknown);
    for answer in &answers[first + 1..] {
        seen.rest(answer, 503, -1016, "This service is no longer available.");
    }
    server.stop().await;
}

#[tokio::test]
async fn every_code_is_what_some_request_is_answered_with() {
    let mut seen = Seen::default();
    let server = Server::with(&market(), |_| {}).await;
    trade(&server).await;
    questions(&server, &mut seen).await;
    callers(&server, &mut seen).await;
    orders(&server, &mut seen).await;
    changes(&server, &mut seen).await;
    lists(&server, &mut seen).await;
    sockets(&server, &mut seen).await;
    server.stop().await;
    subscriptions(&mut seen).await;
    limits(&mut seen).await;
    broken_engine(&mut seen).await;
    for (code, why) in BY_NO_REQUEST {
        assert!(!seen.0.contains(code), "{code} was answered after all, though: {why}");
        println!("{code} is left out: {why}");
    }
    let excused: BTreeSet<i64> = BY_NO_REQUEST.iter().map(|(code, _)| *code).collect();
    let wanted: BTreeSet<i64> = CODES.iter().copied().collect();
    let missing: Vec<_> = wanted.iter().filter(|code| !seen.0.contains(*code) && !excused.contains(*code)).collect();
    assert!(missing.is_empty(), "no request was answered with {missing:?}");
    println!("{} codes of {}", seen.0.intersection(&wanted).count(), wanted.len());
}
