//! The documents that describe the API, held against what the server answers and sends.

use serde_json::{Value, json};
use tests::server::{Response, Server, account_a, account_b, credentials, key_header, limit};
use tests::socket::Socket;

/// Whether a value is of a schema of the document; the first place where it is not.
fn check(document: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    let fail = |why: String| Err(format!("{place}: {why}"));
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).expect("what is referred to is there");
        return check(document, target, value, place);
    }
    if let Some(either) = schema["anyOf"].as_array() {
        let tries: Vec<_> = either.iter().map(|one| check(document, one, value, place)).collect();
        let complaints: Vec<_> = tries.into_iter().map(Result::err).collect();
        return match complaints.iter().any(Option::is_none) {
            true => Ok(()),
            false => fail(format!("is none of {complaints:?}")),
        };
    }
    if let Some(wanted) = schema.get("const") {
        return if value == wanted { Ok(()) } else { fail(format!("{value} is not {wanted}")) };
    }
    if let Some(words) = schema["enum"].as_array() {
        return if words.contains(value) { Ok(()) } else { fail(format!("{value} is none of {words:?}")) };
    }
    match schema["type"].as_str() {
        None => Ok(()),
        Some("integer") if value.is_i64() || value.is_u64() => Ok(()),
        Some("boolean") if value.is_boolean() => Ok(()),
        Some("null") if value.is_null() => Ok(()),
        Some("string") => match (value.as_str(), schema["pattern"].is_string()) {
            (Some(text), true) => {
                let digits = text.strip_prefix('-').unwrap_or(text).replacen('.', "", 1);
                let is_decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                if is_decimal { Ok(()) } else { fail(format!("{text:?} is no decimal")) }
            }
            (Some(_), false) => Ok(()),
            (None, _) => fail(format!("{value} is no text")),
        },
        Some("array") => {
            let Some(items) = value.as_array() else { return fail(format!("{value} is no list")) };
            let several = schema["prefixItems"].as_array();
            if several.is_some_and(|several| several.len() != items.len()) {
                return fail(format!("{} items", items.len()));
            }
            items.iter().enumerate().try_for_each(|(at, item)| {
                let schema = several.map_or(&schema["items"], |several| &several[at]);
                check(document, schema, item, &format!("{place}[{at}]"))
            })
        }
        Some("object") => {
            let Some(fields) = value.as_object() else { return fail(format!("{value} is no object")) };
            let known = schema["properties"].as_object().expect("an object has properties");
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !fields.contains_key(name) {
                    return fail(format!("{name} is missing in {value}"));
                }
            }
            fields.iter().try_for_each(|(name, value)| match known.get(name) {
                Some(schema) => check(document, schema, value, &format!("{place}.{name}")),
                None => fail(format!("{name} is not described")),
            })
        }
        Some(kind) => fail(format!("{value} is not of type {kind}")),
    }
}

#[test]
fn what_does_not_fit_is_found() {
    let document =
        json!({ "s": { "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"] } });
    let schema = json!({ "type": "array", "items": { "$ref": "#/s" } });
    let fits = |value: Value| check(&document, &schema, &value, "it").is_ok();
    assert!(fits(json!([])) && fits(json!([{ "a": 1 }])));
    for bad in [json!({}), json!([{}]), json!([{ "a": "1" }]), json!([{ "a": 1, "b": 2 }]), json!([{ "a": 1.5 }])] {
        assert!(!fits(bad.clone()), "{bad}");
    }
}

/// Asks, and holds the answer against the document.
struct Asker {
    server: Server,
    document: Value,
    /// The calls that were answered well.
    answered: std::collections::BTreeSet<String>,
}

impl Asker {
    fn hold(&mut self, method: &str, path: &str, answer: &Response) {
        let operation = &self.document["paths"][path][method.to_lowercase()];
        let described = &operation["responses"][answer.status.to_string()];
        assert!(described.is_object(), "{method} {path}: {answer:?}");
        let schema = &described["content"]["application/json"]["schema"];
        if let Err(why) = check(&self.document, schema, &answer.body, "it") {
            panic!("{method} {path}: {why}");
        }
        if answer.status == 200 {
            self.answered.insert(format!("{method} {path}"));
        }
    }

    async fn signed(&mut self, method: &str, path: &str, parameters: &str) -> Value {
        let answer = self.server.signed(&account_a(), method, path, parameters).await;
        self.hold(method, path, &answer);
        answer.good()
    }

    /// The same of a call of `/api/v3`.
    async fn api(&mut self, method: &str, path: &str, parameters: &str) -> Value {
        self.signed(method, &format!("/api/v3/{path}"), parameters).await
    }
}

/// A symbol whose price comes from outside.
async fn quoted(asker: &mut Asker) {
    let terms = "name = \"BTCQ\"\nbase = \"BTC\"\nquote = \"USDT\"\ntick_size = \"0.01\"\nstep_size = \"0.00001\"";
    let listed = asker.server.admin(json!({ "action": "add-symbol", "terms": terms })).await;
    assert_eq!(listed.0, 200, "{listed:?}");
    let driven = json!({
        "action": "set-quote-driven",
        "symbol": "BTCQ",
        "house": 1002,
        "spread": "0.001",
        "stale_after_ms": 86_400_000,
        "max_exposure": "1",
    });
    let driven = asker.server.admin(driven).await;
    assert_eq!(driven.0, 200, "{driven:?}");
    let key = json!({ "action": "create-key", "uid": 1001, "permissions": ["FEED"] });
    let (status, made) = asker.server.admin(key).await;
    assert_eq!(status, 200, "{made}");
    let text = |name: &str| made["result"][name].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    let feeder = credentials(&text("api_key"), &text("secret"));
    let parameters = "symbol=BTCQ&bidPrice=100&askPrice=101&source=test&sourceTime=1700000000000";
    let answer = asker.server.signed(&feeder, "POST", "/api/v3/referenceQuote", parameters).await;
    asker.hold("POST", "/api/v3/referenceQuote", &answer);
    for call in ["referencePrice", "referencePrice/calculation"] {
        let answer = asker.server.get(&format!("/api/v3/{call}?symbol=BTCQ")).await;
        asker.hold("GET", &format!("/api/v3/{call}"), &answer);
    }
}

/// Trades, orders of every kind, lists, and whatever else there is to be told of.
async fn live(asker: &mut Asker) {
    let b = account_b();
    asker.server.order(&b, &limit("SELL", "0.5", "50000")).await.good();
    let full = asker.api("POST", "order", &limit("BUY", "0.5", "50000")).await;
    assert_eq!(full["fills"].as_array().map(Vec::len), Some(1));
    for kind in ["ACK", "RESULT", "FULL"] {
        asker.api("POST", "order", &format!("{}&newOrderRespType={kind}", limit("BUY", "0.01", "40000"))).await;
    }
    let special = "symbol=BTCUSDT&side=SELL&type=STOP_LOSS_LIMIT&timeInForce=GTC&quantity=0.01&price=30000&stopPrice=31000\
                   &trailingDelta=100&icebergQty=0.005&strategyId=1&strategyType=1000000&newOrderRespType=FULL";
    asker.api("POST", "order", special).await;
    asker.api("POST", "order", "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=0.01").await;
    let pegged = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.01&pegPriceType=PRIMARY_PEG";
    asker.api("POST", "order", pegged).await;
    asker.api("POST", "order/test", &limit("BUY", "0.01", "40000")).await;
    asker.api("POST", "order/test", &format!("{}&computeCommissionRates=true", limit("BUY", "0.01", "40000"))).await;
    let id = asker.api("POST", "order", &limit("BUY", "0.02", "41000")).await["orderId"].clone();
    let one = format!("symbol=BTCUSDT&orderId={id}");
    asker.api("PUT", "order/amend/keepPriority", &format!("{one}&newQty=0.01")).await;
    asker.api("GET", "order/amendments", &one).await;
    let own = asker
        .api("POST", "order", &format!("{}&selfTradePreventionMode=EXPIRE_TAKER", limit("SELL", "0.01", "41000")))
        .await;
    asker.api("GET", "myPreventedMatches", &format!("symbol=BTCUSDT&orderId={}", own["orderId"])).await;
    asker.api("GET", "order", &one).await;
    let replace = format!("{}&cancelReplaceMode=STOP_ON_FAILURE&cancelOrderId={id}", limit("BUY", "0.01", "42000"));
    let id = asker.api("POST", "order/cancelReplace", &replace).await["newOrderResponse"]["orderId"].clone();
    asker.api("DELETE", "order", &format!("symbol=BTCUSDT&orderId={id}")).await;

    let pair = "aboveType=LIMIT_MAKER&abovePrice=60000&belowType=STOP_LOSS&belowStopPrice=30000";
    let oco = format!("symbol=BTCUSDT&side=SELL&quantity=0.01&{pair}");
    let list = asker.api("POST", "orderList/oco", &oco).await["orderListId"].clone();
    asker.api("GET", "orderList", &format!("orderListId={list}")).await;
    asker.api("GET", "openOrderList", "").await;
    asker.api("DELETE", "orderList", &format!("symbol=BTCUSDT&orderListId={list}")).await;
    asker.api("POST", "order/oco", "symbol=BTCUSDT&side=SELL&quantity=0.01&price=60000&stopPrice=30000").await;
    let working = "symbol=BTCUSDT&workingType=LIMIT&workingTimeInForce=GTC&workingSide=BUY&workingQuantity=0.01&workingPrice=40000";
    let pending = "pendingSide=SELL&pendingType=LIMIT&pendingTimeInForce=GTC&pendingPrice=60000";
    let pendings = "pendingSide=SELL&pendingAboveType=LIMIT_MAKER&pendingAbovePrice=60000&pendingBelowType=STOP_LOSS\
                    &pendingBelowStopPrice=30000";
    asker.api("POST", "orderList/oto", &format!("{working}&{pending}&pendingQuantity=0.01")).await;
    asker.api("POST", "orderList/otoco", &format!("{working}&{pendings}&pendingQuantity=0.01")).await;
    asker.api("POST", "orderList/opo", &format!("{working}&{pending}")).await;
    asker.api("POST", "orderList/opoco", &format!("{working}&{pendings}")).await;
    asker.api("GET", "allOrderList", "").await;
    asker.api("GET", "openOrders", "").await;
    asker.api("POST", "countdownCancelAll", "symbol=BTCUSDT&countdownTime=0").await;
    asker.api("DELETE", "openOrders", "symbol=BTCUSDT").await;
    for path in ["allOrders", "myTrades", "account/commission", "myAllocations", "myFilters"] {
        asker.api("GET", path, "symbol=BTCUSDT").await;
    }
    for path in ["account", "rateLimit/order"] {
        asker.api("GET", path, "").await;
    }
    for path in [
        "capital/config/getall",
        "asset/tradeFee",
        "account/apiRestrictions",
        "margin/allPairs",
        "margin/isolated/allPairs",
        "spot/delist-schedule",
    ] {
        asker.signed("GET", &format!("/sapi/v1/{path}"), "").await;
    }
}

#[tokio::test]
async fn every_good_answer_is_as_the_document_says() {
    let server = Server::start(|_| {}).await;
    let document = server.get("/openapi.json").await;
    assert_eq!(document.header("content-type"), Some("application/json"));
    let document = document.good();
    let mut asker = Asker { server, document, answered: Default::default() };
    live(&mut asker).await;
    let questions = [
        "ping",
        "time",
        "exchangeInfo",
        "executionRules",
        "depth?symbol=BTCUSDT",
        "trades?symbol=BTCUSDT",
        "historicalTrades?symbol=BTCUSDT",
        "aggTrades?symbol=BTCUSDT",
        "klines?symbol=BTCUSDT&interval=1m",
        "uiKlines?symbol=BTCUSDT&interval=1m",
        "avgPrice?symbol=BTCUSDT",
        "ticker/24hr",
        "ticker/24hr?symbol=BTCUSDT&type=MINI",
        "ticker/tradingDay?symbol=BTCUSDT",
        "ticker?symbol=BTCUSDT",
        "ticker/price",
        "ticker/price?symbol=BTCUSDT",
        "ticker/bookTicker",
        "historicalBlockTrades?symbol=BTCUSDT&fromId=0",
        "referencePrice?symbol=BTCUSDT",
        "depth",
        "referencePrice/calculation?symbol=BTCUSDT",
    ];
    for question in questions {
        let target = format!("/api/v3/{question}");
        let answer = asker.server.get(&target).await;
        asker.hold("GET", target.split('?').next().unwrap(), &answer);
    }
    for path in [
        "/sapi/v1/system/status",
        "/fapi/v1/ping",
        "/fapi/v1/time",
        "/fapi/v1/exchangeInfo",
        "/dapi/v1/ping",
        "/dapi/v1/time",
        "/dapi/v1/exchangeInfo",
    ] {
        let answer = asker.server.get(path).await;
        asker.hold("GET", path, &answer);
    }
    let (path, headers) = ("/api/v3/userDataStream", key_header(&account_a()));
    let made = asker.server.ask("POST", path, &headers, b"").await;
    asker.hold("POST", path, &made);
    let key = made.good()["listenKey"].as_str().unwrap().to_owned();
    for method in ["PUT", "DELETE"] {
        let answer = asker.server.ask(method, &format!("{path}?listenKey={key}"), &headers, b"").await;
        asker.hold(method, path, &answer);
    }
    quoted(&mut asker).await;
    let paths = asker.document["paths"].as_object().unwrap();
    let described = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    let missing: Vec<_> = described.filter(|call| !asker.answered.contains(call)).collect();
    assert!(missing.is_empty(), "not asked: {missing:?}");
    asker.server.stop().await;
}

#[tokio::test]
async fn every_parameter_that_is_described_is_read() {
    let server = Server::start(|_| {}).await;
    let document = server.get("/openapi.json").await.good();
    let mut checked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().unwrap().iter().filter(|one| one["in"] == "query");
            let names: Vec<&str> = parameters.map(|one| one["name"].as_str().unwrap()).collect();
            for name in &names {
                let name = *name;
                if ["timestamp", "signature", "recvWindow"].contains(&name) {
                    continue;
                }
                // A value that no parameter can have: whoever reads it complains of it, and says its name or its kind. Whoever
                // does not read it, says that it was not read. Parameters before it may be missed first; that tells nothing.
                let (method, odd) = (method.to_uppercase(), format!("{name}=%21"));
                let answer = if names.contains(&"signature") {
                    server.signed(&account_a(), &method, path, &odd).await
                } else {
                    server.ask(&method, &format!("{path}?{odd}"), &key_header(&account_a()), b"").await
                };
                assert_ne!(answer.body["code"], -1104, "{method} {path}: {name} is described and not read");
                checked += 1;
            }
        }
    }
    assert!(checked > 250, "{checked}");
    server.stop().await;
}

#[tokio::test]
async fn every_event_is_as_the_document_says() {
    let server = Server::start(|_| {}).await;
    let document = server.get("/asyncapi.json").await.good();
    let streams = document["x-streams"].as_object().unwrap().clone();
    let names: Vec<(String, String)> = streams
        .iter()
        .map(|(name, told)| {
            let name = name.replace("<symbol>", "btcusdt").replace("<interval>", "1s");
            let name = name.replace("<levels>", "5").replace("<window>", "1h");
            (name, told["message"].as_str().unwrap().to_owned())
        })
        .collect();
    let listed: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
    let mut market = Socket::connect(&server.address, "/stream").await;
    let answer = market.ask(json!({ "method": "SUBSCRIBE", "params": listed, "id": 1 })).await;
    let hold = |shape: &str, value: &Value| {
        let schema = &document["components"]["schemas"][shape];
        if let Err(why) = check(&document, schema, value, shape) {
            panic!("{why}: {value}");
        }
    };
    hold("StreamAnswer", &answer);
    let made = server.ask("POST", "/api/v3/userDataStream", &key_header(&account_a()), b"").await.good();
    let mut user = Socket::connect(&server.address, &format!("/ws/{}", made["listenKey"].as_str().unwrap())).await;
    server.order(&account_b(), &limit("SELL", "0.5", "50000")).await.good();
    server.order(&account_a(), &limit("BUY", "0.5", "50000")).await.good();
    let pair = "symbol=BTCUSDT&side=SELL&quantity=0.01&aboveType=LIMIT_MAKER&abovePrice=60000&belowType=STOP_LOSS&belowStopPrice=30000";
    server.signed(&account_a(), "POST", "/api/v3/orderList/oco", pair).await.good();

    let mut waited: std::collections::BTreeSet<String> = names.iter().map(|(name, _)| name.clone()).collect();
    while !waited.is_empty() {
        let message = market.next().await;
        let name = message["stream"].as_str().unwrap().to_owned();
        let (_, shape) = names.iter().find(|(known, _)| *known == name).expect("a stream that was asked for");
        hold(shape, &message["data"]);
        waited.remove(&name);
    }
    let mut waited: std::collections::BTreeSet<&str> =
        ["executionReport", "outboundAccountPosition", "listStatus"].into();
    while !waited.is_empty() {
        let event = user.next().await;
        let shape = match event["e"].as_str().unwrap() {
            "executionReport" => "ExecutionReport",
            "outboundAccountPosition" => "PositionEvent",
            "listStatus" => "ListStatusEvent",
            other => panic!("{other} was not caused"),
        };
        hold(shape, &event);
        waited.remove(event["e"].as_str().unwrap());
    }
    let mut api = Socket::connect(&server.address, "/ws-api/v3").await;
    for (id, method) in document["x-ws-api-methods"].as_array().unwrap().iter().enumerate() {
        let answer = api.ask(json!({ "id": id, "method": method })).await;
        hold("ApiAnswer", &answer);
        assert_ne!(answer["error"]["code"], -1020, "{method} is described and not served");
    }
    server.stop().await;
}

#[test]
fn the_table_for_people_has_every_call_and_stream_too() {
    let table = include_str!("../../../docs/api.md");
    for route in gateway::rest::ROUTES {
        let path = route.path.strip_prefix("/api/v3/").unwrap_or(route.path);
        assert!(table.contains(path), "{path} is not in docs/api.md");
        // Methods of one kind stand there by their last words.
        let last = route.ws_method.rsplit('.').next().unwrap_or_default();
        assert!(table.contains(route.ws_method) || table.contains(&format!(".{last}")), "{}", route.ws_method);
    }
}
