//! A client that asks again because no answer came gets the first result; one that has the answer may use the name again, as at
//! Binance. Over real sockets, to the byte of the answers.

use std::path::Path;

use gateway::bootstrap::Bootstrap;
use gateway::client::{Address, Credentials, WsApi, now_ms, signed_request};
use gateway::config::Config;
use gateway::serve::{self, Running};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::exchange::{bootstrap, build_folder, credentials};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ORDER: &str = "/api/v3/order";
const REPLACE: &str = "/api/v3/order/cancelReplace";

/// A server in this process, with its data in a folder of its own.
struct Server {
    running: Running,
    folder: TempDir,
    silent: Vec<Connection>,
}

impl Server {
    async fn start() -> Server {
        let folder = TempDir::new_in(build_folder()).unwrap();
        Server { running: Self::serve(folder.path()).await, folder, silent: Vec::new() }
    }

    async fn serve(folder: &Path) -> Running {
        let mut config = Config { data: Some(folder.to_owned()), ..Config::default() };
        config.listen = Some(([127, 0, 0, 1], 0).into());
        config.limits.request_weight_per_minute = 1_000_000;
        serve::start(config, Some(Bootstrap::parse(&bootstrap(2, "0.001", "0.002")).unwrap())).await.unwrap()
    }

    async fn restart(self) -> Server {
        self.running.stop().await;
        Server { running: Self::serve(self.folder.path()).await, folder: self.folder, silent: Vec::new() }
    }

    fn address(&self) -> Address {
        Address::parse(&self.running.url()).unwrap()
    }

    async fn connect(&self) -> Connection {
        let address = self.address().to_string();
        let stream = TcpStream::connect(&address).await.unwrap();
        Connection { stream, address, who: credentials(1) }
    }

    /// The other account does something, over a connection of its own.
    async fn other(&self, method: &str, path: &str, parameters: &str) -> Response {
        let mut connection = Connection { who: credentials(2), ..self.connect().await };
        connection.call(method, path, parameters).await
    }

    /// Asks on a new connection that never says anything more, nor goodbye, so that nobody knows whether its answer arrived.
    async fn ask_and_fall_silent(&mut self, path: &str, parameters: &str) -> Response {
        let mut connection = self.connect().await;
        let answer = connection.post(path, parameters).await;
        self.silent.push(connection);
        answer
    }

    /// How many orders the first account has ever placed, and those that are open.
    async fn orders(&self) -> (usize, usize) {
        let mut connection = self.connect().await;
        let mut count = async |path| connection.call("GET", path, "symbol=BTCUSD").await.body.as_array().unwrap().len();
        (count("/api/v3/allOrders").await, count("/api/v3/openOrders").await)
    }
}

/// A connection that is kept alive.
struct Connection {
    stream: TcpStream,
    address: String,
    who: Credentials,
}

#[derive(Debug, PartialEq)]
struct Response {
    status: u16,
    sequence: Option<u64>,
    has_order_count: bool,
    body: Value,
}

impl Connection {
    async fn send(&mut self, method: &str, path: &str, parameters: &str) {
        let payload = format!("{parameters}&recvWindow=60000&timestamp={}", now_ms());
        let signature = self.who.sign(&payload);
        let request = format!(
            "{method} {path}?{payload}&signature={signature} HTTP/1.1\r\nHost: {}\r\nX-MBX-APIKEY: {}\r\nContent-Length: 0\r\n\r\n",
            self.address, self.who.api_key
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
    }

    async fn receive(&mut self) -> Response {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let head = head.to_lowercase();
                let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                let length: usize = header("content-length").unwrap().parse().unwrap();
                if body.len() == length {
                    return Response {
                        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
                        sequence: header("x-rialto-sequence").map(|text| text.parse().unwrap()),
                        has_order_count: header("x-mbx-order-count-10s").is_some(),
                        body: serde_json::from_str(body).unwrap(),
                    };
                }
            }
            assert!(self.stream.read_buf(&mut bytes).await.unwrap() > 0, "the server closed it: {text}");
        }
    }

    async fn call(&mut self, method: &str, path: &str, parameters: &str) -> Response {
        self.send(method, path, parameters).await;
        self.receive().await
    }

    async fn post(&mut self, path: &str, parameters: &str) -> Response {
        self.call("POST", path, parameters).await
    }

    async fn cancel(&mut self, name: &str) {
        let canceled = self.call("DELETE", ORDER, &format!("symbol=BTCUSD&origClientOrderId={name}")).await;
        assert_eq!(canceled.status, 200, "{canceled:?}");
    }
}

fn limit(side: &str, quantity: &str, price: &str, more: &str) -> String {
    format!("symbol=BTCUSD&side={side}&type=LIMIT&timeInForce=GTC&quantity={quantity}&price={price}{more}")
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_to_the_byte_whatever_became_of_the_order() {
    let mut server = Server::start().await;
    server.other("POST", ORDER, &limit("SELL", "1", "100", "")).await;
    server.other("POST", ORDER, &limit("SELL", "1", "101", "")).await;
    let mut kept = Vec::new();
    for (number, response) in ["ACK", "RESULT", "FULL"].into_iter().enumerate() {
        // It takes what is there the first time, and rests with what is left.
        let quantity = ["3", "0.5", "0.5"][number];
        let wanted = limit("BUY", quantity, "101", &format!("&newClientOrderId=a{number}&newOrderRespType={response}"));
        let first = server.ask_and_fall_silent(ORDER, &wanted).await;
        assert_eq!(first.status, 200, "{first:?}");
        kept.push((wanted, first));
    }
    assert_eq!(kept[0].1.body.as_object().unwrap().len(), 5);
    let orders = server.orders().await;
    // The rest of the first order trades, the second is lowered and renamed, the third is canceled.
    server.other("POST", ORDER, &limit("SELL", "0.4", "101", "")).await;
    let mut owner = server.connect().await;
    let amend = "symbol=BTCUSD&origClientOrderId=a1&newQty=0.2&newClientOrderId=b1";
    assert_eq!(owner.call("PUT", "/api/v3/order/amend/keepPriority", amend).await.status, 200);
    owner.cancel("a2").await;
    for (wanted, first) in &kept {
        for _ in 0..2 {
            assert_eq!(server.ask_and_fall_silent(ORDER, wanted).await, *first, "{wanted}");
        }
    }
    // Who asks in another form gets the same order in that form, with the fills it had at first.
    let full = kept[0].0.replace("ACK", "FULL");
    let answer = server.ask_and_fall_silent(ORDER, &full).await.body;
    assert_eq!((&answer["orderId"], &answer["status"]), (&kept[0].1.body["orderId"], &json!("PARTIALLY_FILLED")));
    assert_eq!((&answer["executedQty"], &answer["origQty"]), (&json!("2.00000000"), &json!("3.00000000")));
    let fills: Vec<&Value> = answer["fills"].as_array().unwrap().iter().map(|fill| &fill["price"]).collect();
    assert_eq!(fills, ["100.00", "101.00"].map(|price| format!("{price}00000000")).iter().collect::<Vec<_>>());
    assert_eq!(server.orders().await.0, orders.0, "nothing was placed twice");
    server.running.stop().await;
}

#[tokio::test]
async fn orders_that_ended_at_once_are_answered_again_as_they_ended() {
    let mut server = Server::start().await;
    server.other("POST", ORDER, &limit("SELL", "1", "100", "")).await;
    let market = "symbol=BTCUSD&side=BUY&type=MARKET&newOrderRespType=FULL";
    let asked = [
        format!("{market}&quantity=0.25&newClientOrderId=filled"),
        format!("{market}&quoteOrderQty=25&newClientOrderId=by-quote"),
        format!("{market}&quantity=2&newClientOrderId=emptied"),
        limit("BUY", "1", "99", "&newClientOrderId=ioc&newOrderRespType=FULL").replace("GTC", "IOC"),
        "symbol=BTCUSD&side=SELL&type=STOP_LOSS&quantity=1&stopPrice=50&newClientOrderId=stop&newOrderRespType=FULL"
            .into(),
        limit("SELL", "2", "200", "&icebergQty=1&newClientOrderId=iceberg&newOrderRespType=FULL"),
    ];
    let mut kept = Vec::new();
    for wanted in asked {
        let first = server.ask_and_fall_silent(ORDER, &wanted).await;
        assert_eq!(first.status, 200, "{wanted}: {first:?}");
        kept.push((wanted, first));
    }
    let statuses: Vec<&Value> = kept.iter().map(|(_, first)| &first.body["status"]).collect();
    assert_eq!(statuses, ["FILLED", "FILLED", "EXPIRED", "EXPIRED", "NEW", "NEW"]);
    // The stop comes to the book.
    server.other("POST", ORDER, &limit("BUY", "5", "50", "")).await;
    server.other("POST", ORDER, &limit("SELL", "1", "50", "")).await;
    for (wanted, first) in &kept {
        assert_eq!(server.ask_and_fall_silent(ORDER, wanted).await, *first, "{wanted}");
    }
    server.running.stop().await;
}

#[tokio::test]
async fn a_retry_after_a_restart_gets_the_first_answer() {
    let server = Server::start().await;
    let wanted = limit("BUY", "1", "100", "&newClientOrderId=a");
    let mut connection = server.connect().await;
    let first = connection.post(ORDER, &wanted).await;
    connection.cancel("a").await;
    drop(connection);
    let mut server = server.restart().await;
    assert_eq!(server.ask_and_fall_silent(ORDER, &wanted).await, first);
    assert_eq!(server.orders().await, (1, 0));
    server.running.stop().await;
}

#[tokio::test]
async fn who_has_the_answer_may_use_the_name_again_as_at_binance() {
    let mut server = Server::start().await;
    let wanted = limit("BUY", "1", "100", "&newClientOrderId=a");
    let mut connection = server.connect().await;
    let first = connection.post(ORDER, &wanted).await;
    let duplicate = json!({ "code": -2010, "msg": "Duplicate order sent." });
    assert_eq!(connection.post(ORDER, &wanted).await.body, duplicate);
    // Who knows of a refusal may ask again.
    assert_eq!(connection.post(ORDER, &wanted).await.body, duplicate);
    connection.cancel("a").await;
    let second = connection.post(ORDER, &wanted).await;
    assert!(second.body["orderId"].as_u64() > first.body["orderId"].as_u64(), "{second:?}");
    // Closed in good order: the answer was read. The system may be a moment late to say so.
    drop(connection);
    let mut answer = server.ask_and_fall_silent(ORDER, &wanted).await;
    for _ in 0..200 {
        if answer.body == duplicate {
            break;
        }
        assert_eq!(answer, second, "until it is known");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        answer = server.ask_and_fall_silent(ORDER, &wanted).await;
    }
    assert_eq!(answer.body, duplicate);
    server.running.stop().await;
}

#[tokio::test]
async fn who_was_told_that_an_order_is_refused_does_not_find_it_placed_by_an_attempt_that_came_late() {
    let mut server = Server::start().await;
    let maker = "symbol=BTCUSD&side=BUY&type=LIMIT_MAKER&quantity=1&price=100&newClientOrderId=a";
    server.other("POST", ORDER, &limit("SELL", "1", "100", "&newClientOrderId=there")).await;
    let refused = server.ask_and_fall_silent(ORDER, maker).await;
    assert_eq!(refused.body, json!({ "code": -2010, "msg": "Order would immediately match and take." }));
    server.other("DELETE", ORDER, "symbol=BTCUSD&origClientOrderId=there").await;
    // By now it would be accepted.
    assert_eq!(server.ask_and_fall_silent(ORDER, maker).await.body, refused.body);
    assert_eq!(server.orders().await, (0, 0));
    // Who has the answer asks anew.
    let mut connection = server.connect().await;
    assert_eq!(connection.post(ORDER, maker).await.body, refused.body);
    assert_eq!(connection.post(ORDER, maker).await.status, 200);
    assert_eq!(server.orders().await, (1, 1));
    server.running.stop().await;
}

#[tokio::test]
async fn a_refusal_does_not_hide_the_order_that_its_name_stands_for() {
    let mut server = Server::start().await;
    let wanted = limit("BUY", "1", "100", "&newClientOrderId=a");
    let first = server.ask_and_fall_silent(ORDER, &wanted).await;
    let other = limit("BUY", "2", "100", "&newClientOrderId=a");
    let duplicate = json!({ "code": -2010, "msg": "Duplicate order sent." });
    assert_eq!(server.ask_and_fall_silent(ORDER, &other).await.body, duplicate);
    assert_eq!(server.ask_and_fall_silent(ORDER, &wanted).await, first);
    server.running.stop().await;
}

#[tokio::test]
async fn who_cancels_an_order_or_asks_for_it_by_its_name_may_use_the_name_again() {
    let mut server = Server::start().await;
    let wanted = |name: &str| limit("BUY", "1", "100", &format!("&newClientOrderId={name}"));
    let names = ["asked", "nothing", "canceled", "by-number", "all"];
    let mut first = Vec::new();
    for name in names {
        first.push(server.ask_and_fall_silent(ORDER, &wanted(name)).await);
    }
    // As if the client had come from another node: this one has answered nothing.
    let server = server.restart().await;
    let mut owner = server.connect().await;
    let ids: Vec<u64> = first.iter().map(|answer| answer.body["orderId"].as_u64().unwrap()).collect();
    // Two trade. By its number an order is asked for, and not the last one of a name.
    server.other("POST", ORDER, &limit("SELL", "2", "100", "")).await;
    for question in ["origClientOrderId=asked".to_owned(), format!("orderId={}", ids[1])] {
        let found = owner.call("GET", ORDER, &format!("symbol=BTCUSD&{question}")).await;
        assert_eq!((found.status, &found.body["status"]), (200, &json!("FILLED")));
    }
    owner.cancel("canceled").await;
    let by_number = owner.call("DELETE", ORDER, &format!("symbol=BTCUSD&orderId={}", ids[3])).await;
    assert_eq!(by_number.status, 200);
    assert_eq!(owner.call("DELETE", "/api/v3/openOrders", "symbol=BTCUSD").await.status, 200);
    for (at, name) in names.into_iter().enumerate() {
        let again = owner.post(ORDER, &wanted(name)).await;
        let id = again.body["orderId"].as_u64().unwrap();
        assert_eq!(id == ids[at], name == "nothing", "{name}: {again:?}");
    }
    server.running.stop().await;
}

#[tokio::test]
async fn a_second_use_whose_answer_is_lost_is_protected_like_the_first() {
    let mut server = Server::start().await;
    let wanted = limit("BUY", "1", "100", "&newClientOrderId=a");
    let mut connection = server.connect().await;
    let first = connection.post(ORDER, &wanted).await;
    connection.cancel("a").await;
    // From here on nobody knows whether the connection's answers arrive.
    let second = connection.post(ORDER, &wanted).await;
    assert_ne!(first.body["orderId"], second.body["orderId"]);
    server.other("POST", ORDER, &limit("SELL", "1", "100", "")).await;
    assert_eq!(server.ask_and_fall_silent(ORDER, &wanted).await, second, "and not a third, though the name is free");
    assert_eq!(server.orders().await, (2, 0));
    server.running.stop().await;
}

#[tokio::test]
async fn other_terms_and_other_users_are_no_retries() {
    let mut server = Server::start().await;
    let first = server.ask_and_fall_silent(ORDER, &limit("BUY", "1", "100", "&newClientOrderId=a")).await;
    let other = limit("BUY", "2", "100", "&newClientOrderId=a");
    assert_eq!(server.ask_and_fall_silent(ORDER, &other).await.body["code"], -2010);
    let of_other = server.other("POST", ORDER, &limit("BUY", "1", "100", "&newClientOrderId=a")).await;
    assert_ne!(of_other.body["orderId"], first.body["orderId"]);
    let mut owner = server.connect().await;
    owner.cancel("a").await;
    let second = owner.post(ORDER, &other).await;
    assert_eq!(second.status, 200);
    assert_ne!(second.body["orderId"], first.body["orderId"]);
    // Without a name of its own nothing is known to be the same.
    let nameless = limit("BUY", "1", "90", "");
    let ids = [owner.post(ORDER, &nameless).await, owner.post(ORDER, &nameless).await];
    assert_ne!(ids[0].body["orderId"], ids[1].body["orderId"]);
    server.running.stop().await;
}

#[tokio::test]
async fn lists_are_asked_again_by_the_name_of_the_list_or_of_an_order() {
    let mut server = Server::start().await;
    server.other("POST", ORDER, &limit("SELL", "0.3", "100", "")).await;
    let asked = [
        (
            "/api/v3/orderList/oco",
            "symbol=BTCUSD&side=SELL&quantity=1&aboveType=LIMIT_MAKER&abovePrice=200&belowType=STOP_LOSS&belowStopPrice=50\
             &listClientOrderId=oco",
        ),
        (
            "/api/v3/orderList/oto",
            "symbol=BTCUSD&workingType=LIMIT&workingSide=BUY&workingPrice=100&workingQuantity=1&workingTimeInForce=GTC\
             &pendingType=LIMIT_MAKER&pendingSide=SELL&pendingQuantity=1&pendingPrice=300&workingClientOrderId=working",
        ),
        (
            "/api/v3/orderList/opo",
            "symbol=BTCUSD&workingType=LIMIT&workingSide=BUY&workingPrice=90&workingQuantity=1&workingTimeInForce=GTC\
             &pendingType=LIMIT_MAKER&pendingSide=SELL&pendingPrice=300&listClientOrderId=opo&pendingClientOrderId=p",
        ),
        ("/api/v3/order/oco", "symbol=BTCUSD&side=SELL&quantity=1&price=210&stopPrice=40&limitClientOrderId=older"),
    ];
    let mut kept = Vec::new();
    for (path, wanted) in asked {
        let wanted = format!("{wanted}&newOrderRespType=FULL");
        let first = server.ask_and_fall_silent(path, &wanted).await;
        assert_eq!(first.status, 200, "{wanted}: {first:?}");
        kept.push((path, wanted, first));
    }
    // The working orders fill, the pending ones are placed, and one leg of a pair takes the other along.
    for (side, quantity, price) in [("SELL", "0.7", "100"), ("SELL", "1", "90"), ("BUY", "1", "200")] {
        server.other("POST", ORDER, &limit(side, quantity, price, "")).await;
    }
    let orders = server.orders().await;
    let mut server = server.restart().await;
    for (path, wanted, first) in &kept {
        assert_eq!(server.ask_and_fall_silent(path, wanted).await, *first, "{wanted}");
    }
    assert_eq!(server.orders().await, orders);
    server.running.stop().await;
}

#[tokio::test]
async fn a_cancel_replace_is_asked_again_with_both_its_halves() {
    let mut server = Server::start().await;
    let mut owner = server.connect().await;
    owner.post(ORDER, &limit("BUY", "1", "100", "&newClientOrderId=old")).await;
    let replace = limit("BUY", "1", "99", "&cancelReplaceMode=STOP_ON_FAILURE&cancelOrigClientOrderId=old");
    let wanted = format!("{replace}&newClientOrderId=new&cancelNewClientOrderId=bye");
    let first = server.ask_and_fall_silent(REPLACE, &wanted).await;
    assert_eq!((first.status, &first.body["newOrderResult"]), (200, &json!("SUCCESS")), "{first:?}");
    assert_eq!(server.ask_and_fall_silent(REPLACE, &wanted).await, first);
    owner.cancel("new").await;
    assert_eq!(server.ask_and_fall_silent(REPLACE, &wanted).await, first);
    assert_eq!(server.orders().await, (2, 0));

    // A list goes with its order, and a cancel that fails is told again too.
    let oco = "symbol=BTCUSD&side=SELL&quantity=1&aboveType=LIMIT_MAKER&abovePrice=200&belowType=STOP_LOSS&belowStopPrice=50\
               &aboveClientOrderId=above";
    assert_eq!(owner.post("/api/v3/orderList/oco", oco).await.status, 200);
    for (mode, name, status) in [("STOP_ON_FAILURE", "n1", 200), ("ALLOW_FAILURE", "n2", 409)] {
        let replace = limit("BUY", "1", "98", &format!("&cancelReplaceMode={mode}&cancelOrigClientOrderId=above"));
        let wanted = format!("{replace}&newClientOrderId={name}&cancelNewClientOrderId=bye");
        let first = server.ask_and_fall_silent(REPLACE, &wanted).await;
        assert_eq!(first.status, status, "{first:?}");
        assert_eq!(server.ask_and_fall_silent(REPLACE, &wanted).await, first);
    }
    server.running.stop().await;
}

#[tokio::test]
async fn the_ws_api_keeps_the_same_rules() {
    let mut server = Server::start().await;
    let parameters = |name: &str| {
        let mut all = vec![("symbol", json!("BTCUSD")), ("side", json!("BUY")), ("type", json!("LIMIT"))];
        all.extend([("timeInForce", json!("GTC")), ("quantity", json!("1")), ("price", json!("100"))]);
        all.push(("newClientOrderId", json!(name)));
        all
    };
    let who = credentials(1);
    let place = |id, name| signed_request(id, "order.place", &parameters(name), &who);
    let mut silent = WsApi::connect(&server.address()).await.unwrap();
    let first = silent.call(1, place(1, "a")).await.unwrap();
    assert_eq!(first.status, 200, "{first:?}");
    // Over another socket and over REST it is a retry: the first socket has said nothing since.
    let mut socket = WsApi::connect(&server.address()).await.unwrap();
    assert_eq!(socket.call(2, place(2, "a")).await.unwrap().body, first.body);
    assert_eq!(
        server.ask_and_fall_silent(ORDER, &limit("BUY", "1", "100", "&newClientOrderId=a")).await.body,
        first.body
    );
    // Over the socket that has the answer, it is a duplicate and then, once it is closed, a new order.
    assert_eq!(socket.call(3, place(3, "a")).await.unwrap().code(), -2010);
    server.connect().await.cancel("a").await;
    let second = socket.call(4, place(4, "a")).await.unwrap();
    assert!(second.body["orderId"].as_u64() > first.body["orderId"].as_u64(), "{second:?}");
    assert_eq!(server.orders().await, (2, 1));
    server.running.stop().await;
}

#[tokio::test]
async fn every_answer_says_up_to_which_sequence_it_knows_all() {
    let server = Server::start().await;
    let mut owner = server.connect().await;
    let placed = owner.post(ORDER, &limit("BUY", "1", "100", "&newClientOrderId=a")).await;
    let first = placed.sequence.unwrap();
    for (path, parameters) in
        [("/api/v3/openOrders", ""), (ORDER, "symbol=BTCUSD&origClientOrderId=a"), ("/api/v3/ping", "x=1")]
    {
        let read = owner.call("GET", path, parameters).await;
        assert_eq!(read.sequence, Some(first), "{path}: {read:?}");
    }
    let refused = owner.post(ORDER, &limit("BUY", "1", "100", "&newClientOrderId=a")).await;
    assert_eq!((refused.status, refused.sequence), (400, Some(first + 1)));
    let unknown = owner.call("GET", "/api/v3/nothing", "").await;
    assert_eq!((unknown.status, unknown.sequence), (404, Some(first + 1)));

    let mut socket = WsApi::connect(&server.address()).await.unwrap();
    let question = signed_request(1, "openOrders.status", &[], &credentials(1));
    assert!(socket.call(1, question.clone()).await.unwrap().sequence.is_none(), "strict clients see no unknown field");
    let asking = signed_request(2, "openOrders.status", &[("returnSequence", json!(true))], &credentials(1));
    assert_eq!(socket.call(2, asking).await.unwrap().sequence, Some(first + 1));
    server.running.stop().await;
}
