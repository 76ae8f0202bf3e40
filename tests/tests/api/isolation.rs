//! No account sees or touches what is another's: not by number, not by name, not through a stream or a listen key; and no
//! request is good for anyone but who signed it, nor for more than its key may do.

use std::time::Duration;

use gateway::auth::Security;
use gateway::client::{Credentials, now_ms, signed_request};
use gateway::rest::{ROUTES, Weight};
use serde_json::{Value, json};
use tests::server::{MARKET, Response, Server, account_a, account_b, credentials, key_header, limit, sign};
use tests::socket::Socket;

/// How long a socket that must stay silent is listened to.
const SILENCE: Duration = Duration::from_millis(300);

const READER: (&str, &str) = ("key-a-that-only-reads", "secret-r");

/// What account A has: an open order, a filled one, a canceled one, an amended one, an open list, a prevented match.
struct Owned {
    server: Server,
    open: u64,
    others: Vec<u64>,
    list: u64,
    prevented: u64,
}

/// Names that only A uses.
const NAMES: [&str; 3] = ["name-of-a-1", "name-of-a-2", "list-of-a"];

async fn start() -> Owned {
    let server = Server::start(|_| {}).await;
    let (a, b) = (account_a(), account_b());
    let id = |placed: &Value| placed["orderId"].as_u64().unwrap();
    server.order(&b, &limit("SELL", "0.5", "50000")).await.good();
    let filled = server.order(&a, &limit("BUY", "0.5", "50000")).await.good();
    let canceled =
        server.order(&a, &format!("{}&newClientOrderId={}", limit("BUY", "0.5", "40000"), NAMES[0])).await.good();
    server.signed(&a, "DELETE", "/api/v3/order", &format!("symbol=BTCUSDT&orderId={}", id(&canceled))).await.good();
    let amended = server.order(&a, &limit("BUY", "0.5", "41000")).await.good();
    let amend = format!("symbol=BTCUSDT&orderId={}&newQty=0.4", id(&amended));
    server.signed(&a, "PUT", "/api/v3/order/amend/keepPriority", &amend).await.good();
    let own = format!("{}&selfTradePreventionMode=EXPIRE_TAKER", limit("SELL", "0.1", "41000"));
    let prevented = server.order(&a, &own).await.good();
    let open =
        server.order(&a, &format!("{}&newClientOrderId={}", limit("BUY", "0.5", "42000"), NAMES[1])).await.good();
    let list = format!(
        "symbol=BTCUSDT&side=SELL&quantity=0.01&aboveType=LIMIT_MAKER&abovePrice=52000&belowType=STOP_LOSS\
         &belowStopPrice=30000&listClientOrderId={}",
        NAMES[2]
    );
    let list = server.signed(&a, "POST", "/api/v3/orderList/oco", &list).await.good();
    Owned {
        open: id(&open),
        others: vec![id(&filled), id(&canceled), id(&amended), id(&prevented)],
        list: list["orderListId"].as_u64().unwrap(),
        prevented: prevented["preventedMatchId"].as_u64().expect("it met its own order"),
        server,
    }
}

impl Owned {
    /// All that A has, as A is told.
    async fn seen_by_owner(&self) -> Vec<Value> {
        let a = account_a();
        let mut seen = Vec::new();
        for (path, parameters) in [
            ("account", ""),
            ("openOrders", ""),
            ("allOrders", "symbol=BTCUSDT"),
            ("myTrades", "symbol=BTCUSDT"),
            ("openOrderList", ""),
            ("allOrderList", ""),
        ] {
            seen.push(self.server.signed(&a, "GET", &format!("/api/v3/{path}"), parameters).await.good());
        }
        seen
    }

    async fn asked_by_b(&self, method: &str, path: &str, parameters: &str) -> Response {
        self.server.signed(&account_b(), method, &format!("/api/v3/{path}"), parameters).await
    }
}

/// Whether any text or number in it is one of A's names.
fn mentions_a(value: &Value) -> bool {
    let text = value.to_string();
    NAMES.iter().any(|name| text.contains(name)) || text.contains("1001")
}

#[tokio::test]
async fn a_number_that_is_guessed_shows_nothing() {
    let owned = start().await;
    // The same answer as for what does not exist at all.
    let nothing = owned.asked_by_b("GET", "order", "symbol=BTCUSDT&orderId=999999").await;
    nothing.refused(400, -2013, "Order does not exist.");
    for id in owned.others.iter().chain([&owned.open]) {
        let asked = owned.asked_by_b("GET", "order", &format!("symbol=BTCUSDT&orderId={id}")).await;
        assert_eq!((asked.status, &asked.body), (nothing.status, &nothing.body), "order {id}");
        // With a name besides: whether the two agree is not told either.
        for name in NAMES {
            let both = format!("symbol=BTCUSDT&orderId={id}&origClientOrderId={name}");
            assert_eq!(owned.asked_by_b("GET", "order", &both).await.body, nothing.body, "order {id} named {name}");
        }
        for path in ["myTrades", "order/amendments", "myPreventedMatches"] {
            let asked = owned.asked_by_b("GET", path, &format!("symbol=BTCUSDT&orderId={id}")).await.good();
            assert_eq!(asked, json!([]), "{path} of order {id}");
        }
    }
    for name in NAMES {
        let asked = owned.asked_by_b("GET", "order", &format!("symbol=BTCUSDT&origClientOrderId={name}")).await;
        assert_eq!(asked.body, nothing.body, "order named {name}");
        let asked = owned.asked_by_b("GET", "orderList", &format!("origClientOrderId={name}")).await;
        assert_eq!(asked.body, nothing.body, "list named {name}");
    }
    let asked = owned.asked_by_b("GET", "orderList", &format!("orderListId={}", owned.list)).await;
    assert_eq!(asked.body, nothing.body);
    let prevented = format!("symbol=BTCUSDT&preventedMatchId={}", owned.prevented);
    assert_eq!(owned.asked_by_b("GET", "myPreventedMatches", &prevented).await.good(), json!([]));
    assert_ne!(
        owned.server.signed(&account_a(), "GET", "/api/v3/myPreventedMatches", &prevented).await.good(),
        json!([]),
        "its owner sees it"
    );
    // Lists from any id or time on hold B's alone.
    for (path, parameters) in [
        ("openOrders", "symbol=BTCUSDT"),
        ("openOrders", ""),
        ("allOrders", "symbol=BTCUSDT&orderId=0"),
        ("allOrders", "symbol=BTCUSDT"),
        ("myTrades", "symbol=BTCUSDT&fromId=0"),
        ("openOrderList", ""),
        ("allOrderList", "fromId=0"),
        ("account", ""),
        ("rateLimit/order", ""),
    ] {
        let told = owned.asked_by_b("GET", path, parameters).await.good();
        assert!(!mentions_a(&told), "{path}: {told}");
        let ids: Vec<u64> = told.as_array().into_iter().flatten().filter_map(|row| row["orderId"].as_u64()).collect();
        assert!(!ids.iter().any(|id| owned.others.contains(id) || *id == owned.open), "{path}: {told}");
    }
    // What is public of a trade names nobody.
    for path in ["trades", "historicalTrades", "aggTrades"] {
        let told = owned.server.get(&format!("/api/v3/{path}?symbol=BTCUSDT")).await.good();
        assert!(told[0].get("orderId").is_none() && !mentions_a(&told), "{path}: {told}");
    }
    owned.server.stop().await;
}

#[tokio::test]
async fn what_is_guessed_cannot_be_touched() {
    let owned = start().await;
    let before = owned.seen_by_owner().await;
    let unknown = "Unknown order sent.";
    for id in owned.others.iter().chain([&owned.open]) {
        let one = format!("symbol=BTCUSDT&orderId={id}");
        owned.asked_by_b("DELETE", "order", &one).await.refused(400, -2011, unknown);
        let amend = format!("{one}&newQty=0.1");
        owned.asked_by_b("PUT", "order/amend/keepPriority", &amend).await.refused(400, -2038, unknown);
        for mode in ["STOP_ON_FAILURE", "ALLOW_FAILURE"] {
            // Whether the new order is placed or not, the cancel finds nothing.
            let order = limit("BUY", "0.001", "10000");
            let replace = format!("{order}&cancelReplaceMode={mode}&cancelOrderId={id}");
            let answer = owned.asked_by_b("POST", "order/cancelReplace", &replace).await;
            assert_eq!(answer.body["data"]["cancelResult"], "FAILURE", "{answer:?}");
            assert_eq!(answer.body["data"]["cancelResponse"]["code"], -2011, "{answer:?}");
        }
    }
    for name in NAMES {
        let named = format!("symbol=BTCUSDT&origClientOrderId={name}");
        owned.asked_by_b("DELETE", "order", &named).await.refused(400, -2011, unknown);
        let list = format!("symbol=BTCUSDT&listClientOrderId={name}");
        owned.asked_by_b("DELETE", "orderList", &list).await.refused(400, -2011, unknown);
    }
    let list = format!("symbol=BTCUSDT&orderListId={}", owned.list);
    owned.asked_by_b("DELETE", "orderList", &list).await.refused(400, -2011, unknown);
    let all = owned.asked_by_b("DELETE", "openOrders", "symbol=BTCUSDT").await.good();
    assert_eq!(all.as_array().map(Vec::len), Some(owned.others.len() + 1), "the replacements, all of them B's: {all}");
    owned.asked_by_b("POST", "countdownCancelAll", "symbol=BTCUSDT&countdownTime=100").await.good();
    // A name belongs to who uses it: B may use A's for an order of its own.
    let same = format!("{}&newClientOrderId={}", limit("BUY", "0.001", "40000"), NAMES[1]);
    owned.asked_by_b("POST", "order", &same).await.good();
    tokio::time::sleep(SILENCE).await;
    let after = owned.seen_by_owner().await;
    assert_eq!(before, after);
    owned.server.stop().await;
}

#[tokio::test]
async fn a_listen_key_is_its_owners_alone() {
    let server = Server::start(|_| {}).await;
    let (a, b) = (account_a(), account_b());
    let path = "/api/v3/userDataStream";
    let key_of = async |who: &Credentials| {
        let made = server.ask("POST", path, &key_header(who), b"").await.good();
        made["listenKey"].as_str().unwrap().to_owned()
    };
    let (of_a, of_b) = (key_of(&a).await, key_of(&b).await);
    assert!(of_a != of_b && of_a.len() == 64, "{of_a}");
    let foreign = format!("{path}?listenKey={of_a}");
    for method in ["PUT", "DELETE"] {
        server.ask(method, &foreign, &key_header(&b), b"").await.refused(400, -1125, "This listenKey does not exist.");
    }
    let mut owner = Socket::connect(&server.address, &format!("/ws/{of_a}")).await;
    let mut other = Socket::connect(&server.address, &format!("/stream?streams={of_b}")).await;
    // Nearly A's key, and A's uid and API key in its place.
    let near = format!("{}{}", &of_a[..63], if of_a.ends_with('x') { "y" } else { "x" });
    let mut guesses = Vec::new();
    for guess in [near.as_str(), "1001", "key-a", &of_a.to_lowercase()] {
        if guess != of_a {
            guesses.push(Socket::connect(&server.address, &format!("/stream?streams={guess}")).await);
        }
    }
    let mut signed = Socket::connect(&server.address, "/ws-api/v3").await;
    let request = signed_request(1, "userDataStream.subscribe.signature", &[], &b);
    assert_eq!(signed.ask(serde_json::from_str(&request).unwrap()).await["status"], 200);

    server.order(&a, &limit("BUY", "0.01", "40000")).await.good();
    assert_eq!(owner.find(|event| event["e"] == "executionReport").await["x"], "NEW");
    assert_eq!(other.next_within(SILENCE).await, None, "B hears nothing of A");
    assert_eq!(signed.next_within(SILENCE).await, None, "B hears nothing of A");
    for mut guess in guesses {
        assert_eq!(guess.next_within(SILENCE).await, None, "a guess hears nothing");
    }
    // Each hears its own side of a trade, and of the other's no more than the trade.
    server.order(&b, &limit("SELL", "0.01", "40000")).await.good();
    let trade = other.find(|event| event["data"]["x"] == "TRADE").await;
    assert_eq!((&trade["data"]["S"], &trade["data"]["N"]), (&json!("SELL"), &json!("USDT")));
    let trade = owner.find(|event| event["x"] == "TRADE").await;
    assert_eq!((&trade["S"], &trade["N"]), (&json!("BUY"), &json!("BTC")));
    let position = owner.find(|event| event["e"] == "outboundAccountPosition").await;
    assert_eq!(position["B"].as_array().map(Vec::len), Some(2), "only its own balances: {position}");
    server.stop().await;
}

#[tokio::test]
async fn a_request_is_good_as_it_was_signed_and_not_otherwise() {
    let server = Server::start(|_| {}).await;
    let (a, b) = (account_a(), account_b());
    let order = format!("{}&newClientOrderId=once", limit("BUY", "0.01", "40000"));
    let signed = sign(&a, &order);
    let send = async |who: &Credentials, query: &str| {
        server.ask("POST", &format!("/api/v3/order?{query}"), &key_header(who), b"").await
    };
    // Whoever takes it down and sends it under a key of his own gets nowhere, also with a signature of his own.
    send(&b, &signed).await.refused(400, -1022, "Signature for this request is not valid.");
    for (from, to) in [
        ("quantity=0.01", "quantity=0.02"),
        ("quantity=0.01", "quantity=0.010"),
        ("side=BUY", "side=SELL"),
        ("symbol=BTCUSDT&", ""),
        ("&newClientOrderId=once", ""),
        ("&signature=", "&recvWindow=60000&signature="),
        ("symbol=", "symbol=&symbol="),
        ("symbol=BTCUSDT", "symbol=BTCUSD%54"),
        ("side=BUY&type=LIMIT", "type=LIMIT&side=BUY"),
    ] {
        let altered = signed.replacen(from, to, 1);
        assert_ne!(altered, signed, "{from}");
        let answer = send(&a, &altered).await;
        assert!([-1022, -1101].contains(&answer.body["code"].as_i64().unwrap_or(0)), "{from}: {answer:?}");
    }
    // A parameter that is put in the body as well changes what was signed.
    let body = b"quantity=5";
    let answer = server.ask("POST", &format!("/api/v3/order?{signed}"), &key_header(&a), body).await;
    answer.refused(400, -1022, "Signature");
    // The signature of one call is not good for another account's key, another method or a part of it.
    for cut in 1..8 {
        let answer = send(&a, &signed[..signed.len() - cut]).await;
        answer.refused(400, -1022, "Signature");
    }
    server.ask("DELETE", &format!("/api/v3/order?{signed}"), &key_header(&a), b"").await.refused(400, -1102, "");
    assert_eq!(server.signed(&a, "GET", "/api/v3/openOrders", "").await.good(), json!([]), "nothing came of all that");

    // As it was signed, it works; sent again while its order is open it makes no second one.
    let first = send(&a, &signed).await.good();
    let again = send(&a, &signed).await;
    assert!(again.status == 400 || again.body["orderId"] == first["orderId"], "{again:?}");
    let open = server.signed(&a, "GET", "/api/v3/openOrders", "").await.good();
    assert_eq!(open.as_array().map(Vec::len), Some(1), "{open}");
    // And when its time is over it is good for nothing at all.
    let late = tests::server::sign_at(&a, "recvWindow=1", now_ms() - 2);
    server.ask("GET", &format!("/api/v3/account?{late}"), &key_header(&a), b"").await.refused(400, -1021, "outside");
    server.stop().await;
}

#[tokio::test]
async fn every_call_demands_what_the_route_table_says() {
    let server = Server::start(|_| {}).await;
    let reader = credentials(READER.0, READER.1);
    let mut counted = [0; 5];
    for route in ROUTES.iter().filter(|route| !route.path.is_empty()) {
        let what = format!("{} {}", route.method, route.path);
        let plain = server.ask(route.method, route.path, "", b"").await;
        let unsigned = server.ask(route.method, route.path, &key_header(&account_a()), b"").await;
        let read = server.signed(&reader, route.method, route.path, "").await;
        let code = |answer: &Response| answer.body["code"].as_i64().unwrap_or(0);
        match route.security {
            Security::None => {
                assert!(![-2014, -2015, -1022].contains(&code(&plain)), "{what} is open: {plain:?}");
                counted[0] += 1;
            }
            Security::ApiKey | Security::UserStream => {
                plain.refused(401, -2014, "");
                assert!(![-2014, -2015, -1022].contains(&code(&unsigned)), "{what} needs a key alone: {unsigned:?}");
                counted[1] += 1;
            }
            Security::Signed | Security::UserData => {
                plain.refused(401, -2014, "");
                unsigned.refused(400, -1102, "timestamp");
                assert!(![-2014, -2015, -1022].contains(&code(&read)), "{what}: a reader may ask: {read:?}");
                counted[2] += 1;
            }
            Security::Trade | Security::Feed => {
                plain.refused(401, -2014, "");
                unsigned.refused(400, -1102, "timestamp");
                read.refused(401, -2015, "Invalid API-key, IP, or permissions for action.");
                counted[if route.security == Security::Trade { 3 } else { 4 }] += 1;
            }
        }
        assert!(plain.status < 500 && unsigned.status < 500 && read.status < 500, "{what}");
    }
    assert!(counted.iter().all(|count| *count > 0), "{counted:?}");
    let mut socket = Socket::connect(&server.address, "/ws-api/v3").await;
    for (id, route) in ROUTES.iter().enumerate().filter(|(_, route)| !route.ws_method.is_empty()) {
        let answer = socket.ask(json!({ "id": id, "method": route.ws_method })).await;
        let open = route.security == Security::None;
        assert_eq!(answer["error"]["code"] == -2014, !open, "{}: {answer}", route.ws_method);
        if matches!(route.security, Security::Trade | Security::Feed) {
            let request = signed_request(id as u64, route.ws_method, &[], &reader);
            let answer = socket.ask(serde_json::from_str(&request).unwrap()).await;
            assert_eq!(
                (&answer["status"], &answer["error"]["code"]),
                (&json!(401), &json!(-2015)),
                "{}",
                route.ws_method
            );
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_key_that_only_trades_reads_nothing() {
    let key =
        "[[account.key]]\napi_key = \"only-trades\"\ntype = \"HMAC\"\nsecret = \"s\"\npermissions = [\"TRADE\"]\n";
    let server = Server::with(&format!("{MARKET}{key}"), |_| {}).await;
    let trader = credentials("only-trades", "s");
    let rejected = "Invalid API-key, IP, or permissions for action.";
    for route in ROUTES.iter().filter(|route| route.security == Security::UserData) {
        server.signed(&trader, route.method, route.path, "").await.refused(401, -2015, rejected);
    }
    for method in ["POST", "PUT", "DELETE"] {
        let asked = server.ask(method, "/api/v3/userDataStream", &key_header(&trader), b"").await;
        asked.refused(401, -2015, rejected);
    }
    let mut socket = Socket::connect(&server.address, "/ws-api/v3").await;
    let mut ask = async |id: u64, method: &str| {
        let request = signed_request(id, method, &[], &trader);
        socket.ask(serde_json::from_str(&request).unwrap()).await
    };
    assert_eq!(ask(1, "userDataStream.subscribe.signature").await["error"]["code"], -2015);
    assert_eq!(ask(2, "userDataStream.start").await["error"]["code"], -2015);
    assert_eq!(ask(3, "session.logon").await["status"], 200);
    let subscribe = socket.ask(json!({ "id": 4, "method": "userDataStream.subscribe" })).await;
    assert_eq!(subscribe["error"]["code"], -2015);
    let start = socket.ask(json!({ "id": 5, "method": "userDataStream.start" })).await;
    assert_eq!(start["error"]["code"], -2015);
    server.order(&trader, &limit("BUY", "0.01", "40000")).await.good();
    server.stop().await;
}

#[tokio::test]
async fn whatever_changes_something_needs_a_key() {
    // A question may be open; nothing that is sent by another method, and nothing that weighs only when it fails, is.
    for route in ROUTES {
        let changes = route.method != "GET" || matches!(route.weight, Weight::OnFailure(_));
        assert!(!changes || route.security != Security::None, "{} {}", route.method, route.path);
    }
}
