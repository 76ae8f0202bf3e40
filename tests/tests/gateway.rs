//! The REST side of a real server, asked over real sockets: what is documented is answered, what is malformed is refused
//! with its code, and nothing is lost by either.

use std::path::PathBuf;

use gateway::bootstrap::Bootstrap;
use gateway::client::{Credentials, now_ms};
use gateway::config::Config;
use gateway::serve;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::exchange::build_folder;
use tests::server::{MARKET, Response, Server, account_a, account_b, credentials, key_header, limit, sign, sign_at};

#[tokio::test]
async fn malformed_questions_get_their_documented_errors() {
    let server = Server::start(|_| {}).await;
    let many: String = (0..101).map(|number| format!("p{number}=1&")).collect();
    let table = [
        ("/api/v3/nothing", 404, -1020, ""),
        ("/api/v3/depth", 400, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
        ("/api/v3/depth?symbol=", 400, -1102, "symbol"),
        ("/api/v3/depth?symbol=NOPEUSDT", 400, -1121, "Invalid symbol."),
        ("/api/v3/depth?symbol=btcusdt", 400, -1100, "Illegal characters found in parameter 'symbol'; legal range is"),
        ("/api/v3/depth?symbol=BTC%20USDT", 400, -1100, "symbol"),
        ("/api/v3/depth?symbol=BTCUSDT&symbol=BTCUSDT", 400, -1101, "Duplicate values for a parameter detected."),
        ("/api/v3/depth?symbol=BTCUSDT&color=red", 400, -1104, "read '1' parameter(s) but was sent '2'."),
        ("/api/v3/depth?symbol=BTCUSDT&limit=ten", 400, -1100, "limit"),
        ("/api/v3/depth?symbol=BTCUSDT&limit=-5", 400, -1100, "limit"),
        ("/api/v3/depth?symbol=BTCUSDT&limit=0", 400, -1130, "limit"),
        ("/api/v3/depth?symbol=BTCUSDT&limit=", 400, -1105, "Parameter 'limit' was empty."),
        ("/api/v3/depth?symbol=%FF%FE", 400, -1100, "Illegal characters found in a parameter."),
        ("/api/v3/depth?symbol=%E2%82", 400, -1100, "Illegal characters found in a parameter."),
        ("/api/v3/depth?symbol=%G0", 400, -1100, "Illegal characters found in a parameter."),
        ("/api/v3/klines?symbol=BTCUSDT", 400, -1102, "interval"),
        ("/api/v3/klines?symbol=BTCUSDT&interval=7m", 400, -1120, "Invalid interval."),
        ("/api/v3/klines?symbol=BTCUSDT&interval=1m&timeZone=x", 400, -1130, "timeZone"),
        ("/api/v3/trades?symbol=BTCUSDT&limit=99999999999999999999", 400, -1108, "limit"),
        ("/api/v3/ticker/price?symbol=BTCUSDT&symbols=[\"BTCUSDT\"]", 400, -1128, ""),
        ("/api/v3/ticker/price?symbols=BTCUSDT", 400, -1100, "symbols"),
        ("/api/v3/ticker/24hr?symbol=BTCUSDT&type=HUGE", 400, -1139, "Invalid ticker type."),
        ("/api/v3/ticker?windowSize=1d", 400, -1102, "symbol"),
        ("/api/v3/ticker?symbol=BTCUSDT&windowSize=60m", 400, -1130, "windowSize"),
        ("/api/v3/exchangeInfo?symbol=BTCUSDT&symbolStatus=TRADING", 400, -1128, ""),
        ("/api/v3/exchangeInfo?symbolStatus=SLEEPING", 400, -1122, "Invalid symbolStatus."),
        ("/api/v3/aggTrades?symbol=BTCUSDT&fromId=1&startTime=1", 400, -1128, ""),
        (&format!("/api/v3/ping?{many}"), 400, -1101, "Too many parameters sent for this endpoint."),
    ];
    for (target, status, code, text) in table {
        println!("{target}");
        // A quotation mark has no place in a request line.
        server.get(&target.replace('"', "%22")).await.refused(status, code, text);
    }
    server.ask("PATCH", "/api/v3/order", "", b"").await.refused(405, -1020, "");
    server.ask("POST", "/health", "", b"").await.refused(405, -1020, "");
    server.get("/ws/btcusdt@trade").await.refused(400, -1020, "");
    server.ask("POST", "/ws-api/v3", "", b"").await.refused(405, -1020, "");
    server.ask("GET", "/api/v3/time", "X-MBX-TIME-UNIT: FORTNIGHT\r\n", b"").await.refused(400, -1194, "");
    server.stop().await;
}

#[tokio::test]
async fn a_request_must_prove_who_sends_it_and_when() {
    let server = Server::start(|_| {}).await;
    let (who, path) = (account_a(), "/api/v3/account");
    let ask = async |key: &str, query: &str| server.ask("GET", &format!("{path}?{query}"), key, b"").await;
    let key = key_header(&who);

    ask("", &sign(&who, "")).await.refused(401, -2014, "API-key format invalid.");
    ask("X-MBX-APIKEY: a b\r\n", &sign(&who, "")).await.refused(401, -2014, "API-key format invalid.");
    let rejected = "Invalid API-key, IP, or permissions for action.";
    ask("X-MBX-APIKEY: unknown\r\n", &sign(&who, "")).await.refused(401, -2015, rejected);
    ask(&key, "").await.refused(400, -1102, "timestamp");
    ask(&key, &format!("timestamp={}", now_ms())).await.refused(400, -1102, "signature");
    let forged = sign(&credentials("key-a", "another secret"), "");
    ask(&key, &forged).await.refused(400, -1022, "Signature for this request is not valid.");
    ask(&key, &format!("timestamp={}&signature=zz", now_ms())).await.refused(400, -1022, "Signature");
    ask(&key, "timestamp=now&signature=00").await.refused(400, -1100, "timestamp");

    let outside = "Timestamp for this request is outside of the recvWindow.";
    ask(&key, &sign_at(&who, "", now_ms() - 6_000)).await.refused(400, -1021, outside);
    ask(&key, &sign_at(&who, "recvWindow=100.5", now_ms() - 300)).await.refused(400, -1021, outside);
    let ahead = "Timestamp for this request was 1000ms ahead of the server's time.";
    ask(&key, &sign_at(&who, "", now_ms() + 60_000)).await.refused(400, -1021, ahead);
    ask(&key, &sign(&who, "recvWindow=60001")).await.refused(400, -1131, "recvWindow");
    ask(&key, &sign(&who, "recvWindow=1.2345")).await.refused(400, -1111, "recvWindow");

    ask(&key, &sign_at(&who, "recvWindow=60000", now_ms() - 20_000)).await.good();
    // In microseconds, and the signature in capitals.
    ask(&key, &sign_at(&who, "", now_ms() * 1_000)).await.good();
    let (payload, signature) = (format!("timestamp={}", now_ms()), |text: &str| who.sign(text).to_uppercase());
    ask(&key, &format!("{payload}&signature={}", signature(&payload))).await.good();

    let reader = credentials("key-a-that-only-reads", "secret-r");
    server.signed(&reader, "GET", path, "").await.good();
    server.order(&reader, &limit("BUY", "1", "100")).await.refused(401, -2015, rejected);
    server.stop().await;
}

#[tokio::test]
async fn malformed_orders_are_refused_and_change_nothing() {
    let server = Server::start(|_| {}).await;
    let (a, b) = (account_a(), account_b());
    server.order(&b, &limit("SELL", "1", "60000")).await.good();
    let before = server.balances(&a).await;
    let sized = |quantity: &str| limit("BUY", quantity, "50000");
    let priced = |price: &str| limit("BUY", "0.001", price);
    let with = |more: &str| format!("{}&{more}", limit("BUY", "0.001", "50000"));
    let instead = |from: &str, to: &str| limit("BUY", "0.001", "50000").replace(from, to);
    let market = |more: &str| format!("symbol=BTCUSDT&side=BUY&type=MARKET&{more}");
    let table = [
        (sized("-1"), -1100, "Illegal characters found in parameter 'quantity'; legal range is"),
        (sized("0"), -1013, "Invalid quantity."),
        (sized("1e3"), -1100, "quantity"),
        (sized("NaN"), -1100, "quantity"),
        (sized("%EF%BC%91"), -1100, "quantity"),
        (sized("0.000000001"), -1111, "Parameter 'quantity' has too much precision."),
        (sized("0.000001"), -1013, "Filter failure: LOT_SIZE"),
        (sized("0.000015"), -1013, "Filter failure: LOT_SIZE"),
        (sized("9001"), -1013, "Filter failure: LOT_SIZE"),
        (sized("99999999999999999999"), -1013, "Filter failure: LOT_SIZE"),
        (sized(""), -1105, "quantity"),
        (priced(&"9".repeat(40)), -1100, "Illegal characters found in parameter 'price'; legal range is"),
        (priced(&format!("1.{}", "1".repeat(38))), -1100, "price"),
        (priced("-50000"), -1100, "price"),
        (priced("0"), -1013, "Filter failure: PRICE_FILTER"),
        (priced("50000.001"), -1013, "Filter failure: PRICE_FILTER"),
        (priced("1000000.01"), -1013, "Filter failure: PRICE_FILTER"),
        (priced("1000"), -1013, "Filter failure: NOTIONAL"),
        (instead("symbol=BTCUSDT", "symbol=NOPEUSDT"), -1121, "Invalid symbol."),
        (instead("side=BUY&", ""), -1102, "side"),
        (instead("side=BUY", "side=HOLD"), -1117, "Invalid side."),
        (instead("type=LIMIT", "type=GUESS"), -1116, "Invalid orderType."),
        (instead("timeInForce=GTC", "timeInForce=GTX"), -1115, "Invalid timeInForce."),
        (instead("timeInForce=GTC&", ""), -1102, "timeInForce"),
        (instead("&price=50000", ""), -1102, "price"),
        (instead("&quantity=0.001", ""), -1102, "quantity"),
        (instead("type=LIMIT", "type=STOP_LOSS_LIMIT"), -1102, "Param 'stopPrice' or 'trailingDelta' must be sent"),
        (instead("type=LIMIT", "type=TAKE_PROFIT"), -1106, "timeInForce"),
        (instead("type=LIMIT&timeInForce=GTC", "type=STOP_LOSS&stopPrice=49000"), -1106, "price"),
        (with("stopPrice=1"), -1106, "stopPrice"),
        (with("icebergQty=0.002"), -2010, "IcebergQty exceeds QTY."),
        (format!("{}&icebergQty=0.0005", instead("GTC", "IOC")), -1160, "icebergQty"),
        (with("trailingDelta=10"), -1106, "trailingDelta"),
        (with("selfTradePreventionMode=SOME"), -1013, "self-trade prevention mode"),
        (with("pegPriceType=BEST_PEG"), -1210, "Invalid pegPriceType."),
        (with("pegPriceType=PRIMARY_PEG&pegOffsetValue=1"), -1128, "must be sent together"),
        (with("pegPriceType=PRIMARY_PEG&pegOffsetType=TICKS&pegOffsetValue=1"), -1211, "Invalid pegOffsetType."),
        (with("pegPriceType=PRIMARY_PEG&pegOffsetType=PRICE_LEVEL&pegOffsetValue=101"), -1130, "pegOffsetValue"),
        (with("pegPriceType=PRIMARY_PEG"), -2010, "Order book liquidity is too low for this pegged order."),
        (market("quantity=1&pegPriceType=MARKET_PEG"), -2010, "This order type may not use pegged price."),
        (with("quoteOrderQty=10"), -1106, "quoteOrderQty"),
        (with("strategyType=1"), -1134, ""),
        (with("newClientOrderId=a%20b"), -1100, "newClientOrderId"),
        (with(&format!("newClientOrderId={}", "x".repeat(37))), -1100, "newClientOrderId"),
        (with("newOrderRespType=LONG"), -1130, "newOrderRespType"),
        (with("color=red"), -1104, ""),
        (with("price=1"), -1101, "Duplicate"),
        (market("quantity=1&price=1"), -1106, "price"),
        (market("quantity=1&timeInForce=GTC"), -1106, "timeInForce"),
        (market("quantity=1&quoteOrderQty=10"), -1128, ""),
        (market("quantity=1&symbols=1"), -1104, ""),
        (market(""), -1102, "quoteOrderQty"),
        (market("quantity=101"), -1013, "Filter failure: MARKET_LOT_SIZE"),
        (market("quoteOrderQty=1"), -1013, "Filter failure: NOTIONAL"),
        (
            limit("BUY", "1", "60000").replace("LIMIT&timeInForce=GTC", "LIMIT_MAKER"),
            -2010,
            "Order would immediately match and take.",
        ),
        (limit("BUY", "100", "50000"), -2010, "Account has insufficient balance for requested action."),
        (limit("SELL", "100.00001", "70000"), -2010, "Account has insufficient balance for requested action."),
    ];
    for (parameters, code, text) in table {
        println!("{parameters}");
        // An empty part is no parameter.
        server.order(&a, parameters.trim_end_matches('&')).await.refused(400, code, text);
    }
    let cancel = async |parameters: &str| server.signed(&a, "DELETE", "/api/v3/order", parameters).await;
    cancel("symbol=BTCUSDT").await.refused(400, -1102, "Param 'origClientOrderId' or 'orderId' must be sent");
    cancel("symbol=BTCUSDT&orderId=one").await.refused(400, -1100, "orderId");
    cancel("symbol=BTCUSDT&orderId=77").await.refused(400, -2011, "Unknown order sent.");
    cancel("symbol=BTCUSDT&orderId=1").await.refused(400, -2011, "Unknown order sent.");
    let query = async |parameters: &str| server.signed(&a, "GET", "/api/v3/order", parameters).await;
    query("symbol=BTCUSDT&orderId=77").await.refused(400, -2013, "Order does not exist.");
    query("symbol=BTCUSDT&orderId=1").await.refused(400, -2013, "Order does not exist.");
    let span = "symbol=BTCUSDT&startTime=1700000000000&endTime=1700086400001";
    server.signed(&a, "GET", "/api/v3/allOrders", span).await.refused(400, -1127, "24 hours");

    assert_eq!(server.balances(&a).await, before);
    let open = server.signed(&a, "GET", "/api/v3/openOrders", "").await.good();
    assert_eq!(open, json!([]));
    server.stop().await;
}

#[tokio::test]
async fn bodies_of_any_kind_are_survived() {
    let server = Server::start(|_| {}).await;
    let who = account_a();
    let post = async |kind: &str, body: &[u8]| {
        let headers = format!("{}Content-Type: {kind}\r\n", key_header(&who));
        server.ask("POST", "/api/v3/order", &headers, body).await
    };
    post("application/json", br#"{"symbol":"BTCUSDT","#).await.refused(400, -1102, "timestamp");
    post("application/x-www-form-urlencoded", b"symbol=\xff\xfe").await.refused(400, -1100, "Illegal characters");
    post("application/x-www-form-urlencoded", b"\0\0\0\0").await.refused(400, -1102, "timestamp");
    let huge = vec![b'x'; (1 << 20) + 1];
    post("application/x-www-form-urlencoded", &huge).await.refused(413, -1101, "Too many parameters");
    post("application/x-www-form-urlencoded", &huge.repeat(8)).await.refused(413, -1101, "Too many parameters");
    // Not HTTP at all: the connection ends, and only it.
    server.exchange(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
    server.exchange(b"GET / HTTP/9.9\r\n\r\n").await;

    // Parameters may come in the query, in the body, or in both, whatever the content type says.
    let form = sign(&who, &limit("BUY", "0.001", "50000"));
    post("application/x-www-form-urlencoded", form.as_bytes()).await.good();
    post("text/plain", sign(&who, &limit("BUY", "0.001", "50000")).as_bytes()).await.good();
    let headers = format!("{}Content-Type: application/json;charset=utf-8\r\n", key_header(&who));
    let target = format!("/api/v3/order?{}", sign(&who, &limit("BUY", "0.001", "50000")));
    server.ask("POST", &target, &headers, b"").await.good();
    // Query string and body are signed one after the other, with nothing between.
    let (query, body) = (
        "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC",
        format!("quantity=0.001&price=50000&timestamp={}", now_ms()),
    );
    let body = format!("{body}&signature={}", who.sign(&format!("{query}{body}")));
    server.ask("POST", &format!("/api/v3/order?{query}"), &key_header(&who), body.as_bytes()).await.good();
    // A cancel in the body, as python-binance sends it.
    let body = sign(&who, "symbol=BTCUSDT&orderId=1");
    let canceled = server.ask("DELETE", "/api/v3/order", &key_header(&who), body.as_bytes()).await.good();
    assert_eq!(canceled["status"], "CANCELED");
    server.stop().await;
}

#[tokio::test]
async fn an_order_lives_from_placing_to_its_end() {
    let server = Server::start(|_| {}).await;
    let (a, b) = (account_a(), account_b());
    let placed = server.order(&a, &format!("{}&newClientOrderId=first", limit("SELL", "2", "60000"))).await;
    let sequence = |response: &Response| -> u64 { response.header("x-rialto-sequence").unwrap().parse().unwrap() };
    let first_sequence = sequence(&placed);
    assert_eq!(placed.header("x-mbx-order-count-10s"), Some("1"));
    assert_eq!(placed.header("x-mbx-order-count-1d"), Some("1"));
    let placed = placed.good();
    let time = placed["transactTime"].as_u64().unwrap();
    assert_eq!(
        placed,
        json!({
            "symbol": "BTCUSDT", "orderId": 1, "orderListId": -1, "clientOrderId": "first", "transactTime": time,
            "price": "60000.00000000", "origQty": "2.00000000", "executedQty": "0.00000000",
            "origQuoteOrderQty": "0.00000000", "cummulativeQuoteQty": "0.00000000", "status": "NEW",
            "timeInForce": "GTC", "type": "LIMIT", "side": "SELL", "workingTime": time,
            "selfTradePreventionMode": "EXPIRE_MAKER", "fills": [],
        })
    );
    let duplicate = format!("{}&newClientOrderId=first", limit("SELL", "1", "61000"));
    server.order(&a, &duplicate).await.refused(400, -2010, "Duplicate order sent.");

    // Half a coin of it trades, at its price though the taker offers more.
    let taken = server.order(&b, &format!("{}&newOrderRespType=FULL", limit("BUY", "0.5", "60500"))).await;
    assert!(sequence(&taken) > first_sequence);
    let taken = taken.good();
    assert_eq!(taken["status"], "FILLED");
    assert_eq!(
        taken["fills"],
        json!([{
            "price": "60000.00000000", "qty": "0.50000000", "commission": "0.00100000",
            "commissionAsset": "BTC", "tradeId": 1,
        }])
    );
    let query = async |parameters: &str| {
        server.signed(&a, "GET", "/api/v3/order", &format!("symbol=BTCUSDT&{parameters}")).await
    };
    let queried = query("orderId=1").await.good();
    assert_eq!(
        queried,
        json!({
            "symbol": "BTCUSDT", "orderId": 1, "orderListId": -1, "clientOrderId": "first",
            "price": "60000.00000000", "origQty": "2.00000000", "executedQty": "0.50000000",
            "cummulativeQuoteQty": "30000.00000000", "status": "PARTIALLY_FILLED", "timeInForce": "GTC",
            "type": "LIMIT", "side": "SELL", "stopPrice": "0.00000000", "icebergQty": "0.00000000",
            "time": time, "updateTime": taken["transactTime"], "isWorking": true, "workingTime": time,
            "origQuoteOrderQty": "0.00000000", "selfTradePreventionMode": "EXPIRE_MAKER",
        })
    );
    assert_eq!(query("origClientOrderId=first").await.good(), queried);
    query("orderId=1&origClientOrderId=other").await.refused(400, -2039, "Client order ID");
    let open = server.signed(&a, "GET", "/api/v3/openOrders", "symbol=BTCUSDT").await.good();
    assert_eq!(open, json!([queried]));

    // Amended down to one coin, it has half a coin left.
    let amend = async |quantity: &str| {
        let parameters = format!("symbol=BTCUSDT&orderId=1&newQty={quantity}");
        server.signed(&a, "PUT", "/api/v3/order/amend/keepPriority", &parameters).await
    };
    amend("0.5").await.refused(400, -2038, "The requested action would change no state; rejecting.");
    let amended = amend("1").await.good();
    assert_eq!(amended["amendedOrder"]["qty"], "1.00000000");
    assert_eq!(amended["amendedOrder"]["executedQty"], "0.50000000");
    assert_eq!(amended["amendedOrder"]["cumulativeQuoteQty"], "30000.00000000");
    assert_eq!(amended["amendedOrder"]["origClientOrderId"], "first");
    let renamed = amended["amendedOrder"]["clientOrderId"].as_str().unwrap();

    let cancel = async |parameters: &str| {
        server.signed(&a, "DELETE", "/api/v3/order", &format!("symbol=BTCUSDT&{parameters}")).await
    };
    cancel("orderId=1&cancelRestrictions=ONLY_NEW").await.refused(400, -2011, "cancel restrictions");
    let canceled = cancel("orderId=1&newClientOrderId=bye").await.good();
    assert_eq!(canceled["status"], "CANCELED");
    assert_eq!((&canceled["clientOrderId"], &canceled["origClientOrderId"]), (&json!("bye"), &json!(renamed)));
    cancel("orderId=1").await.refused(400, -2011, "Unknown order sent.");
    assert_eq!(query("orderId=1").await.good()["status"], "CANCELED");

    // What was held is free again; each paid a fee of what it received.
    let balance = |asset: &str, free: &str| json!({ "asset": asset, "free": free, "locked": "0.00000000" });
    assert_eq!(server.balances(&a).await, json!([balance("BTC", "99.50000000"), balance("USDT", "1029970.00000000")]));
    assert_eq!(server.balances(&b).await, json!([balance("BTC", "100.49900000"), balance("USDT", "970000.00000000")]));
    let trades = server.signed(&a, "GET", "/api/v3/myTrades", "symbol=BTCUSDT").await.good();
    assert_eq!(
        trades,
        json!([{
            "symbol": "BTCUSDT", "id": 1, "orderId": 1, "orderListId": -1, "price": "60000.00000000",
            "qty": "0.50000000", "quoteQty": "30000.00000000", "commission": "30.00000000",
            "commissionAsset": "USDT", "time": taken["transactTime"], "isBuyer": false, "isMaker": true,
            "isBestMatch": true,
        }])
    );
    let all = server.signed(&a, "GET", "/api/v3/allOrders", "symbol=BTCUSDT").await.good();
    assert_eq!(all, json!([query("orderId=1").await.good()]));
    server.stop().await;
}

#[tokio::test]
async fn an_answer_says_as_much_as_was_asked() {
    let server = Server::start(|_| {}).await;
    let a = account_a();
    let names = |answer: &Value| answer.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>().join(" ");
    let order = limit("BUY", "0.001", "50000");
    let maker = order.replace("LIMIT&timeInForce=GTC", "LIMIT_MAKER");
    let ack = server.order(&a, &format!("{order}&newOrderRespType=ACK")).await.good();
    assert_eq!(names(&ack), "clientOrderId orderId orderListId symbol transactTime");
    assert_eq!(
        names(&server.order(&a, &maker).await.good()),
        names(&ack),
        "LIMIT_MAKER is answered with ACK by default"
    );
    let result = server.order(&a, &format!("{order}&newOrderRespType=RESULT")).await.good();
    assert!(result.get("status").is_some() && result.get("fills").is_none(), "{result}");

    let test = async |more: &str| server.signed(&a, "POST", "/api/v3/order/test", &format!("{order}{more}")).await;
    assert_eq!(test("").await.good(), json!({}));
    let rates = test("&computeCommissionRates=true").await.good();
    assert_eq!(rates["standardCommissionForOrder"]["taker"], "0.00200000");
    let bad = limit("BUY", "0.000001", "50000");
    server.signed(&a, "POST", "/api/v3/order/test", &bad).await.refused(400, -1013, "LOT_SIZE");
    let open = server.signed(&a, "GET", "/api/v3/openOrders", "").await.good();
    assert_eq!(open.as_array().unwrap().len(), 3, "a test places nothing");

    let micros = server.ask("GET", "/api/v3/time", "X-MBX-TIME-UNIT: MICROSECOND\r\n", b"").await.good();
    assert!(micros["serverTime"].as_u64().unwrap() / 1_000 >= now_ms() - 60_000, "{micros}");
    server.stop().await;
}

#[tokio::test]
async fn a_test_order_is_refused_by_the_filters_that_would_refuse_the_order() {
    let range = "min_notional = \"5\"\naverage_price_minutes = 5\n\
                 percent_price_by_side = { bid_up = \"5\", bid_down = \"0.2\", ask_up = \"5\", ask_down = \"0.2\" }";
    let server = Server::with(&MARKET.replace("min_notional = \"5\"", range), |_| {}).await;
    let (a, b) = (account_a(), account_b());
    let orders = [
        limit("BUY", "0.01", "9000"),
        limit("SELL", "0.01", "250001"),
        "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=0.00001".to_owned(),
        "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=0.001".to_owned(),
        limit("SELL", "0.01", "49000"),
    ];
    let test = async |order: &str| server.signed(&a, "POST", "/api/v3/order/test", order).await;
    assert_eq!(test(&orders[0]).await.good(), json!({}), "nobody knows what it is worth");
    server.order(&b, &limit("SELL", "0.01", "50000")).await.good();
    server.order(&a, &limit("BUY", "0.01", "50000")).await.good();
    server.order(&b, &limit("SELL", "1", "50000")).await.good();
    for order in &orders {
        let (tested, placed) = (test(order).await, server.order(&a, order).await);
        assert_eq!((tested.status, tested.status == 400), (placed.status, placed.status == 400), "{order}");
        assert!(tested.status == 200 || tested.body == placed.body, "{order}: {} {}", tested.body, placed.body);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_day_to_the_millisecond_may_be_asked_for_at_once() {
    let server = Server::start(|_| {}).await;
    let a = account_a();
    let (start, end) = (now_ms() - 86_400_000, now_ms());
    let ask = async |path: &str, start: u64, end: u64| {
        server.signed(&a, "GET", path, &format!("symbol=BTCUSDT&startTime={start}&endTime={end}")).await
    };
    for path in ["/api/v3/myTrades", "/api/v3/allOrders"] {
        ask(path, end - 86_400_000, end).await.good();
        ask(path, start * 1_000, start * 1_000 + 86_400_000_000).await.good();
        ask(path, end - 86_400_001, end).await.refused(400, -1127, "More than 24 hours");
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_canceled_at_once_has_one_made_up_name_for_its_cancel() {
    let server = Server::start(|_| {}).await;
    let a = account_a();
    for name in ["first", "second"] {
        server.order(&a, &format!("{}&newClientOrderId={name}", limit("BUY", "0.5", "50000"))).await.good();
    }
    let all = server.signed(&a, "DELETE", "/api/v3/openOrders", "symbol=BTCUSDT").await.good();
    assert_eq!([&all[0]["origClientOrderId"], &all[1]["origClientOrderId"]], ["first", "second"]);
    assert_eq!(all[0]["clientOrderId"], all[1]["clientOrderId"]);
    assert_eq!(all[0]["clientOrderId"].as_str().unwrap().len(), 22, "{all}");
    server.stop().await;
}

#[tokio::test]
async fn symbols_may_be_asked_for_with_quotes_as_they_are() {
    let server = Server::start(|_| {}).await;
    let info = server.get("/api/v3/exchangeInfo?symbols=[\"BTCUSDT\"]").await.good();
    assert_eq!(info["symbols"][0]["symbol"], "BTCUSDT");
    // Where nothing limits an order the number is one that fits into 64 bits with eight decimals.
    let filters = info["symbols"][0]["filters"].as_array().unwrap();
    let notional = filters.iter().find(|filter| filter["filterType"] == "NOTIONAL").unwrap();
    assert_eq!(notional["maxNotional"], "90000000000.00000000");
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_trade_at_once_expires_or_not_as_asked() {
    let server = Server::start(|_| {}).await;
    let (a, b) = (account_a(), account_b());
    let before = [server.balances(&a).await, server.balances(&b).await];
    let ended =
        |answer: &Value| (answer["status"].clone(), answer["executedQty"].clone(), answer["expiryReason"].clone());
    let market = server.order(&b, "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=1").await.good();
    assert_eq!(ended(&market), (json!("EXPIRED"), json!("0.00000000"), json!("INSUFFICIENT_LIQUIDITY")));
    assert_eq!(market["price"], "0.00000000");
    assert_eq!([server.balances(&a).await, server.balances(&b).await], before);

    server.order(&a, &limit("SELL", "1", "60000")).await.good();
    let with = |word: &str, quantity: &str| limit("BUY", quantity, "60000").replace("GTC", word);
    let fok = server.order(&b, &with("FOK", "1.5")).await.good();
    assert_eq!(ended(&fok), (json!("EXPIRED"), json!("0.00000000"), json!("UNFILLED_FOK_ORDER_EXPIRED")));
    let ioc = server.order(&b, &with("IOC", "1.5")).await.good();
    assert_eq!(ended(&ioc), (json!("EXPIRED"), json!("1.00000000"), json!("UNFILLED_IOC_QUANTITY_EXPIRED")));

    // By quote amount: as many whole lots as it pays for.
    server.order(&a, &limit("SELL", "1", "60000")).await.good();
    let spent = server.order(&b, "symbol=BTCUSDT&side=BUY&type=MARKET&quoteOrderQty=100").await.good();
    assert_eq!((&spent["status"], &spent["executedQty"]), (&json!("FILLED"), &json!("0.00166000")));
    assert_eq!(
        (&spent["origQuoteOrderQty"], &spent["cummulativeQuoteQty"]),
        (&json!("100.00000000"), &json!("99.60000000"))
    );
    let open = server.signed(&b, "GET", "/api/v3/openOrders", "").await.good();
    assert_eq!(open, json!([]), "nothing of a taker rests");
    server.stop().await;
}

#[tokio::test]
async fn all_orders_of_a_symbol_are_canceled_at_once_or_there_are_none() {
    let server = Server::start(|_| {}).await;
    let a = account_a();
    let before = server.balances(&a).await;
    let cancel_all = async || server.signed(&a, "DELETE", "/api/v3/openOrders", "symbol=BTCUSDT").await;
    cancel_all().await.refused(400, -2011, "Unknown order sent.");
    for price in ["50000", "50001", "50002"] {
        server.order(&a, &limit("BUY", "0.001", price)).await.good();
    }
    assert_ne!(server.balances(&a).await, before);
    let canceled = cancel_all().await.good();
    let ids: Vec<_> = canceled.as_array().unwrap().iter().map(|order| order["orderId"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert!(canceled.as_array().unwrap().iter().all(|order| order["status"] == "CANCELED"), "{canceled}");
    assert_eq!(server.balances(&a).await, before);
    cancel_all().await.refused(400, -2011, "Unknown order sent.");
    server.stop().await;
}

#[tokio::test]
async fn market_data_is_what_was_traded() {
    let server = Server::start(|_| {}).await;
    let (a, b) = (account_a(), account_b());
    // A symbol that never traded answers too.
    let ticker = server.get("/api/v3/ticker/24hr?symbol=BTCUSDT").await.good();
    assert_eq!(
        (&ticker["lastPrice"], &ticker["firstId"], &ticker["count"]),
        (&json!("0.00000000"), &json!(-1), &json!(0))
    );
    for (price, quantity) in [("60000", "1"), ("60000", "2"), ("60001", "3")] {
        server.order(&a, &limit("SELL", quantity, price)).await.good();
    }
    server.order(&b, &limit("BUY", "4", "60001")).await.good();
    server.order(&b, &limit("BUY", "1", "59000")).await.good();

    let depth = server.get("/api/v3/depth?symbol=BTCUSDT").await.good();
    assert_eq!(depth["bids"], json!([["59000.00000000", "1.00000000"]]));
    assert_eq!(depth["asks"], json!([["60001.00000000", "2.00000000"]]));
    assert!(depth["lastUpdateId"].is_u64() && depth.as_object().unwrap().len() == 3, "{depth}");
    let book = server.get("/api/v3/ticker/bookTicker?symbol=BTCUSDT").await.good();
    assert_eq!((&book["bidPrice"], &book["askQty"]), (&json!("59000.00000000"), &json!("2.00000000")));

    let trades = server.get("/api/v3/trades?symbol=BTCUSDT").await.good();
    let row = |row: &Value| (row["id"].clone(), row["price"].clone(), row["qty"].clone(), row["isBuyerMaker"].clone());
    let trade = |id: u64, price: &str, quantity: &str| (json!(id), json!(price), json!(quantity), json!(false));
    let rows: Vec<_> = trades.as_array().unwrap().iter().map(row).collect();
    assert_eq!(
        rows,
        [
            trade(1, "60000.00000000", "1.00000000"),
            trade(2, "60000.00000000", "2.00000000"),
            trade(3, "60001.00000000", "1.00000000"),
        ]
    );
    assert_eq!(server.get("/api/v3/historicalTrades?symbol=BTCUSDT&fromId=1").await.good(), trades);
    assert_eq!(server.get("/api/v3/trades?symbol=BTCUSDT&limit=1").await.good()[0], trades[2]);
    let aggregates = server.get("/api/v3/aggTrades?symbol=BTCUSDT").await.good();
    let time = &trades[0]["time"];
    assert_eq!(
        aggregates,
        json!([
            { "a": 1, "p": "60000.00000000", "q": "3.00000000", "f": 1, "l": 2, "T": time, "m": false, "M": true },
            { "a": 2, "p": "60001.00000000", "q": "1.00000000", "f": 3, "l": 3, "T": time, "m": false, "M": true },
        ])
    );
    for page in [format!("startTime={time}&endTime={time}"), format!("endTime={time}"), "fromId=1".to_owned()] {
        assert_eq!(server.get(&format!("/api/v3/aggTrades?symbol=BTCUSDT&{page}")).await.good(), aggregates, "{page}");
    }
    assert_eq!(server.get("/api/v3/aggTrades?symbol=BTCUSDT&fromId=2").await.good()[0], aggregates[1]);
    for (page, wanted) in [("limit=1", 1), ("fromId=0&limit=1", 0), ("startTime=1&limit=1", 0)] {
        let rows = server.get(&format!("/api/v3/aggTrades?symbol=BTCUSDT&{page}")).await.good();
        assert_eq!(rows, json!([aggregates[wanted]]), "{page}");
    }
    let late = server.get(&format!("/api/v3/aggTrades?symbol=BTCUSDT&endTime={time}&limit=1")).await.good();
    assert_eq!(late, json!([aggregates[1]]));
    assert_eq!(server.get("/api/v3/aggTrades?symbol=BTCUSDT&fromId=3").await.good(), json!([]));

    // In months, the three trades are in one candle, but for one moment a month.
    let candles = server.get("/api/v3/klines?symbol=BTCUSDT&interval=1M").await.good();
    let candle = &candles.as_array().unwrap().last().unwrap().as_array().unwrap()[1..6];
    assert_eq!(candle, ["60000.00000000", "60001.00000000", "60000.00000000", "60001.00000000", "4.00000000"]);
    for path in ["ticker/24hr", "ticker", "ticker/tradingDay"] {
        let ticker = server.get(&format!("/api/v3/{path}?symbol=BTCUSDT")).await.good();
        assert_eq!(ticker["lastPrice"], "60001.00000000", "{path}");
        assert_eq!(ticker["priceChange"], "1.00000000", "{path}");
        assert_eq!(ticker["priceChangePercent"], "0.002", "{path}");
        assert_eq!(ticker["weightedAvgPrice"], "60000.25000000", "{path}");
        assert_eq!(
            (&ticker["volume"], &ticker["quoteVolume"]),
            (&json!("4.00000000"), &json!("240001.00000000")),
            "{path}"
        );
        assert_eq!(
            (&ticker["firstId"], &ticker["lastId"], &ticker["count"]),
            (&json!(1), &json!(3), &json!(3)),
            "{path}"
        );
    }
    assert_eq!(
        server.get("/api/v3/ticker/price").await.good(),
        json!([{ "symbol": "BTCUSDT", "price": "60001.00000000" }])
    );
    assert_eq!(server.get("/api/v3/ticker/price?symbol=BTCUSDT").await.good()["price"], "60001.00000000");
    server.get("/api/v3/ticker/price?symbol=BTCUSDT&symbolStatus=HALT").await.refused(400, -1220, "");
    assert_eq!(server.get("/api/v3/ticker/price?symbolStatus=HALT").await.good(), json!([]));
    assert_eq!(server.get("/api/v3/avgPrice?symbol=BTCUSDT").await.good()["price"], "60000.25000000");

    let info = server.get("/api/v3/exchangeInfo?symbol=BTCUSDT").await.good();
    let symbol = &info["symbols"][0];
    let types = ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"];
    assert_eq!(symbol["orderTypes"], json!(types));
    assert_eq!(
        (&symbol["ocoAllowed"], &symbol["cancelReplaceAllowed"], &symbol["isMarginTradingAllowed"]),
        (&json!(true), &json!(true), &json!(false))
    );
    assert_eq!(
        symbol["filters"][0],
        json!({ "filterType": "PRICE_FILTER", "minPrice": "0.01000000", "maxPrice": "1000000.00000000", "tickSize": "0.01000000" })
    );
    server.stop().await;
}

#[tokio::test]
async fn a_listen_key_lives_until_it_is_closed() {
    let server = Server::start(|_| {}).await;
    let a = account_a();
    let ask = async |method: &str, query: &str| {
        server.ask(method, &format!("/api/v3/userDataStream{query}"), &key_header(&a), b"").await
    };
    let key = ask("POST", "").await.good()["listenKey"].as_str().unwrap().to_owned();
    assert_eq!(ask("POST", "").await.good()["listenKey"], json!(key), "the one there is comes again");
    let query = format!("?listenKey={key}");
    assert_eq!(ask("PUT", &query).await.good(), json!({}));
    assert_eq!(ask("DELETE", &query).await.good(), json!({}));
    ask("PUT", &query).await.refused(400, -1125, "This listenKey does not exist.");
    server.ask("POST", "/api/v3/userDataStream", "", b"").await.refused(401, -2014, "");
    server.stop().await;
}

#[tokio::test]
async fn a_full_lane_refuses_at_the_door() {
    let server = Server::start(|config| {
        config.lanes.count = 1;
        config.lanes.commands_max = 2;
    })
    .await;
    let a = account_a();
    let mut accepted = 0;
    // How many fit depends on the disk: one round is enough nearly always.
    for _ in 0..20 {
        let orders = (0..64).map(|_| {
            server.order(&a, "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.0002&price=50000")
        });
        let answers = futures_util::future::join_all(orders).await;
        let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
        for answer in &refused {
            answer.refused(
                503,
                -1008,
                "Server is currently overloaded with other requests. Please try again in a few minutes.",
            );
        }
        accepted += answers.len() - refused.len();
        if !refused.is_empty() {
            let open = server.signed(&a, "GET", "/api/v3/openOrders", "symbol=BTCUSDT").await.good();
            assert_eq!(open.as_array().unwrap().len(), accepted, "what was refused had no effect");
            server.stop().await;
            return;
        }
    }
    panic!("no order was ever refused");
}

#[tokio::test]
async fn weight_and_orders_are_counted_and_bounded() {
    let server = Server::start(|config| {
        config.limits.request_weight_per_minute = 60;
        config.limits.orders_per_10_seconds = 2;
    })
    .await;
    let a = account_a();
    let info = server.get("/api/v3/exchangeInfo").await;
    let used: u32 = info.header("x-mbx-used-weight-1m").unwrap().parse().unwrap();
    assert!(used >= 20 && info.header("x-mbx-used-weight").is_some(), "{used}");
    assert_eq!(
        info.body["rateLimits"][0],
        json!({ "rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 60 })
    );
    // A window may end while these are asked; then the next is asked too.
    let too_many = async |ask: &mut dyn FnMut() -> String, tries: usize| {
        for _ in 0..tries {
            let answer = server.order(&a, &ask()).await;
            if answer.status == 429 {
                return answer;
            }
        }
        panic!("never bounded");
    };
    let refused = too_many(&mut || limit("BUY", "0.001", "50000"), 6).await;
    refused.refused(429, -1015, "Too many new orders; current limit is 2 orders per 10 SECOND.");
    assert!(refused.header("retry-after").is_some_and(|seconds| (1..=10).contains(&seconds.parse::<u32>().unwrap())));
    // Orders that succeed weigh nothing, those that fail weigh; beyond the limit nothing is answered.
    let refused = too_many(&mut || limit("BUY", "-1", "50000"), 200).await;
    refused.refused(429, -1003, "current limit is 60 request weight per 1 MINUTE");
    assert!(refused.header("retry-after").is_some_and(|seconds| (1..=60).contains(&seconds.parse::<u32>().unwrap())));
    server.get("/api/v3/ping").await.refused(429, -1003, "");
    server.stop().await;
}

#[tokio::test]
async fn what_clients_ask_at_start_is_there() {
    let server = Server::start(|_| {}).await;
    let a = account_a();
    assert_eq!(server.get("/sapi/v1/system/status").await.good()["status"], 0);
    let coins = server.signed(&a, "GET", "/sapi/v1/capital/config/getall", "").await.good();
    assert_eq!(coins[0]["coin"], "BTC");
    let fees = server.signed(&a, "GET", "/sapi/v1/asset/tradeFee", "symbol=BTCUSDT").await.good();
    assert_eq!(
        fees,
        json!([{ "symbol": "BTCUSDT", "makerCommission": "0.00100000", "takerCommission": "0.00200000" }])
    );
    for path in ["margin/allPairs", "margin/isolated/allPairs", "spot/delist-schedule"] {
        assert_eq!(server.signed(&a, "GET", &format!("/sapi/v1/{path}"), "").await.good(), json!([]), "{path}");
    }
    for path in ["openOrderList", "allOrderList"] {
        assert_eq!(server.signed(&a, "GET", &format!("/api/v3/{path}"), "").await.good(), json!([]), "{path}");
    }
    let account = server.signed(&a, "GET", "/api/v3/account", "omitZeroBalances=true").await.good();
    assert_eq!((&account["makerCommission"], &account["takerCommission"]), (&json!(10), &json!(20)));
    assert_eq!(account["commissionRates"]["maker"], "0.00100000");
    let limits = server.signed(&a, "GET", "/api/v3/rateLimit/order", "").await.good();
    assert_eq!(limits[0]["count"], 0);
    for path in ["/", "/trade/BTCUSDT", "/health", "/ready", "/metrics"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_bootstrap_file_is_applied_whole_or_not_at_all() {
    let folder = TempDir::new_in(build_folder()).unwrap();
    let config = || {
        let listen = Some(([127, 0, 0, 1], 0).into());
        Config { data: Some(PathBuf::from(folder.path())), listen, ..Config::default() }
    };
    // The step of the symbol is refused, long after the assets were not.
    let refused = Bootstrap::parse(&MARKET.replace("step_size = \"0.00001\"", "step_size = \"0.00000001\"")).unwrap();
    let reason = serve::start(config(), Some(refused)).await.err().unwrap();
    assert_eq!(reason, "bootstrap: symbol BTCUSDT: refused: InvalidConfiguration");

    let bootstrap = Bootstrap::parse(MARKET).unwrap();
    // The limits of the settings stand before it.
    let commands = bootstrap.commands().unwrap().len() as u64 + 1;
    let running = serve::start(config(), Some(bootstrap.clone())).await.unwrap();
    assert_eq!(running.sequence.0, commands, "nothing was left of the first file");
    running.stop().await;
    let running = serve::start(config(), Some(bootstrap)).await.unwrap();
    assert_eq!(running.sequence.0, commands, "it is applied once");
    running.stop().await;
}

/// Two accounts agree on a price.
async fn trade_at(server: &Server, price: &str) {
    server.order(&account_b(), &limit("SELL", "0.001", price)).await.good();
    let taken = server.order(&account_a(), &limit("BUY", "0.001", price)).await.good();
    assert_eq!(taken["status"], "FILLED");
}

async fn order_of(server: &Server, who: &Credentials, order_id: &Value) -> Value {
    let query = format!("symbol=BTCUSDT&orderId={order_id}");
    server.signed(who, "GET", "/api/v3/order", &query).await.good()
}

#[tokio::test]
async fn stops_wait_for_their_price_and_then_work() {
    let server = Server::start(|_| {}).await;
    let (a, b) = (account_a(), account_b());
    trade_at(&server, "50000").await;
    let stop = "symbol=BTCUSDT&side=SELL&type=STOP_LOSS_LIMIT&timeInForce=GTC&quantity=0.01&price=48900";
    let placed = server.order(&a, &format!("{stop}&stopPrice=49000&newOrderRespType=RESULT&strategyId=7")).await.good();
    assert_eq!((&placed["status"], &placed["workingTime"]), (&json!("NEW"), &json!(-1)), "{placed}");
    assert_eq!((&placed["stopPrice"], &placed["strategyId"]), (&json!("49000.00000000"), &json!(7)));
    assert_eq!(placed.get("icebergQty"), None);
    let market = "symbol=BTCUSDT&side=SELL&type=STOP_LOSS&quantity=0.01&trailingDelta=100";
    let trailing = server.order(&a, market).await.good();
    assert_eq!(trailing.get("status"), None, "stops are answered with ACK by default");
    server.order(&a, &format!("{stop}&stopPrice=50000")).await.refused(400, -2010, "Order would trigger immediately.");

    let waiting = order_of(&server, &a, &placed["orderId"]).await;
    assert_eq!((&waiting["isWorking"], &waiting["icebergQty"]), (&json!(false), &json!("0.00000000")));
    let tracked = order_of(&server, &a, &trailing["orderId"]).await;
    assert_eq!((&tracked["trailingDelta"], &tracked["trailingTime"]), (&json!(100), &json!(-1)));
    let open = server.signed(&a, "GET", "/api/v3/openOrders", "symbol=BTCUSDT").await.good();
    assert_eq!(open.as_array().unwrap().len(), 2);
    assert_eq!(open[0], waiting);

    trade_at(&server, "50010").await;
    let tracked = order_of(&server, &a, &trailing["orderId"]).await;
    assert!(tracked["trailingTime"].as_u64().is_some(), "{tracked}");
    // The stop rests at its limit once its price was traded; the trailing one sells at once and finds a bid.
    server.order(&b, &limit("BUY", "0.01", "48950")).await.good();
    trade_at(&server, "49000").await;
    let rests = order_of(&server, &a, &placed["orderId"]).await;
    let sold = order_of(&server, &a, &trailing["orderId"]).await;
    assert_eq!([&rests["isWorking"], &sold["isWorking"]], [&json!(true), &json!(true)]);
    let filled = |order: &Value| order["status"] == "FILLED" || order["status"] == "EXPIRED";
    assert!(filled(&rests) || filled(&sold), "one of them found the bid: {rests} {sold}");
    server.stop().await;
}

#[tokio::test]
async fn icebergs_and_pegs_say_what_they_are() {
    let server = Server::start(|_| {}).await;
    let (a, b) = (account_a(), account_b());
    let iceberg = server.order(&a, &format!("{}&icebergQty=0.2", limit("SELL", "1", "60000"))).await.good();
    assert_eq!(iceberg["icebergQty"], "0.20000000");
    let depth = server.get("/api/v3/depth?symbol=BTCUSDT").await.good();
    assert_eq!(depth["asks"], json!([["60000.00000000", "0.20000000"]]));
    server.order(&b, &limit("BUY", "0.3", "60000")).await.good();
    let depth = server.get("/api/v3/depth?symbol=BTCUSDT").await.good();
    assert_eq!(depth["asks"], json!([["60000.00000000", "0.10000000"]]));

    let order = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.01&newOrderRespType=RESULT";
    server.order(&b, &limit("BUY", "0.01", "59000")).await.good();
    let pegged = server.order(&b, &format!("{order}&pegPriceType=PRIMARY_PEG")).await.good();
    assert_eq!((&pegged["price"], &pegged["peggedPrice"]), (&json!("59000.00000000"), &json!("59000.00000000")));
    assert_eq!((&pegged["pegPriceType"], pegged.get("pegOffsetValue")), (&json!("PRIMARY_PEG"), None));
    let deeper = "&pegPriceType=PRIMARY_PEG&pegOffsetType=PRICE_LEVEL&pegOffsetValue=5";
    server.order(&b, &format!("{order}{deeper}")).await.refused(400, -2010, "liquidity is too low");
    let maker = order.replace("LIMIT&timeInForce=GTC", "LIMIT_MAKER");
    let refused = server.order(&b, &format!("{maker}&pegPriceType=MARKET_PEG")).await;
    refused.refused(400, -2010, "This price peg cannot be used with this order type.");
    server.stop().await;
}

#[tokio::test]
async fn an_owner_does_not_trade_with_itself() {
    let server = Server::start(|_| {}).await;
    let a = account_a();
    let resting = server.order(&a, &limit("SELL", "0.01", "50000")).await.good();
    let taker = server.order(&a, &limit("BUY", "0.02", "50000")).await.good();
    assert_eq!((&taker["status"], &taker["fills"]), (&json!("NEW"), &json!([])), "the maker expires unless told");
    let maker = order_of(&server, &a, &resting["orderId"]).await;
    assert_eq!((&maker["status"], &maker["preventedMatchId"]), (&json!("EXPIRED_IN_MATCH"), &json!(1)));
    assert_eq!((&maker["preventedQuantity"], maker.get("expiryReason")), (&json!("0.01000000"), None));

    let sell = format!("{}&selfTradePreventionMode=EXPIRE_TAKER", limit("SELL", "0.03", "50000"));
    let expired = server.order(&a, &sell).await.good();
    assert_eq!((&expired["status"], &expired["preventedMatchId"]), (&json!("EXPIRED_IN_MATCH"), &json!(2)));
    let ask = async |more: &str| {
        server.signed(&a, "GET", "/api/v3/myPreventedMatches", &format!("symbol=BTCUSDT{more}")).await
    };
    let first = ask("&preventedMatchId=1").await.good();
    let time = first[0]["transactTime"].clone();
    assert_eq!(
        first,
        json!([{
            "symbol": "BTCUSDT", "preventedMatchId": 1, "takerOrderId": 2, "makerSymbol": "BTCUSDT", "makerOrderId": 1,
            "tradeGroupId": -1, "selfTradePreventionMode": "EXPIRE_MAKER", "price": "50000.00000000",
            "makerPreventedQuantity": "0.01000000", "transactTime": time,
        }])
    );
    let ids = |rows: &Value| -> Vec<u64> {
        rows.as_array().unwrap().iter().map(|row| row["preventedMatchId"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids(&ask("&orderId=2").await.good()), [1, 2]);
    assert_eq!(ids(&ask("&orderId=2&fromPreventedMatchId=2&limit=5").await.good()), [2]);
    let (b, first) = (account_b(), "symbol=BTCUSDT&preventedMatchId=1");
    let other = server.signed(&b, "GET", "/api/v3/myPreventedMatches", first).await.good();
    assert_eq!(other, json!([]), "it is nobody else's");
    ask("").await.refused(400, -1102, "preventedMatchId");
    ask("&preventedMatchId=1&orderId=2").await.refused(400, -1128, "");
    server.stop().await;
}

#[tokio::test]
async fn an_amend_is_told_and_remembered() {
    let server = Server::start(|_| {}).await;
    let a = account_a();
    let order = server.order(&a, &format!("{}&newClientOrderId=first", limit("BUY", "0.5", "50000"))).await.good();
    let amend = async |more: &str| {
        server.signed(&a, "PUT", "/api/v3/order/amend/keepPriority", &format!("symbol=BTCUSDT&orderId=1&{more}")).await
    };
    let amended = amend("newQty=0.4&newClientOrderId=second").await.good();
    assert_eq!(amended["amendedOrder"]["origClientOrderId"], "first");
    assert_eq!((&amended["amendedOrder"]["qty"], amended.get("listStatus")), (&json!("0.40000000"), None));
    amend("newQty=0.4").await.refused(400, -2038, "The requested action would change no state; rejecting.");
    amend("newQty=0.5").await.refused(400, -2038, "Order amend (quantity increase) is not supported.");
    amend("newQty=0.3&newClientOrderId=second").await.good();
    let ask =
        async |more: &str| server.signed(&a, "GET", "/api/v3/order/amendments", &format!("symbol=BTCUSDT{more}")).await;
    let rows = ask("&orderId=1").await.good();
    assert_eq!(rows.as_array().unwrap().len(), 2);
    assert_eq!((&rows[0]["executionId"], &rows[0]["orderId"]), (&amended["executionId"], &order["orderId"]));
    assert_eq!((&rows[0]["origQty"], &rows[0]["newQty"]), (&json!("0.50000000"), &json!("0.40000000")));
    assert_eq!((&rows[1]["origClientOrderId"], &rows[1]["newClientOrderId"]), (&json!("second"), &json!("second")));
    let from = rows[1]["executionId"].as_u64().unwrap();
    assert_eq!(ask(&format!("&orderId=1&fromExecutionId={from}")).await.good(), json!([rows[1]]));
    ask("").await.refused(400, -1102, "orderId");
    server.stop().await;
}

/// An OCO sale around 50000 as parameters.
const OCO: &str = "symbol=BTCUSDT&side=SELL&quantity=0.01&aboveType=LIMIT_MAKER&abovePrice=52000\
                   &belowType=STOP_LOSS_LIMIT&belowStopPrice=49000&belowPrice=48900&belowTimeInForce=GTC";

#[tokio::test]
async fn of_an_oco_pair_one_ends_the_other() {
    let server = Server::start(|_| {}).await;
    let a = account_a();
    trade_at(&server, "50000").await;
    let before = server.balances(&a).await;
    let place = async |path: &str, parameters: &str| server.signed(&a, "POST", path, parameters).await;
    let placed = place("/api/v3/orderList/oco", &format!("{OCO}&listClientOrderId=pair")).await;
    assert_eq!(placed.header("x-mbx-order-count-10s"), Some("2"));
    let placed = placed.good();
    let number = placed["orderListId"].as_u64().unwrap();
    assert_eq!(
        [
            &placed["contingencyType"],
            &placed["listStatusType"],
            &placed["listOrderStatus"],
            &placed["listClientOrderId"]
        ],
        ["OCO", "EXEC_STARTED", "EXECUTING", "pair"]
    );
    let reports = placed["orderReports"].as_array().unwrap();
    assert_eq!(
        (reports.len(), &reports[0]["type"], &reports[1]["type"]),
        (2, &json!("LIMIT_MAKER"), &json!("STOP_LOSS_LIMIT"))
    );
    assert_eq!((&reports[0]["orderListId"], &reports[1]["workingTime"]), (&json!(number), &json!(-1)));

    // It is found by number and by name, among the open ones and among all.
    let get = async |path: &str, more: &str| server.signed(&a, "GET", path, more).await;
    let found = get("/api/v3/orderList", &format!("orderListId={number}")).await.good();
    assert_eq!(found["orders"], placed["orders"]);
    assert_eq!(get("/api/v3/orderList", "origClientOrderId=pair").await.good(), found);
    get("/api/v3/orderList", "orderListId=1").await.refused(400, -2013, "");
    get("/api/v3/orderList", "").await.refused(400, -1102, "orderListId");
    assert_eq!(get("/api/v3/openOrderList", "").await.good(), json!([found]));
    assert_eq!(get("/api/v3/allOrderList", "").await.good(), json!([found]));
    assert_eq!(get("/api/v3/allOrderList", &format!("fromId={}", number + 1)).await.good(), json!([]));
    get("/api/v3/allOrderList", "fromId=1&startTime=1").await.refused(400, -1128, "");

    // One leg canceled takes the other with it.
    let one = format!("symbol=BTCUSDT&orderId={}", reports[0]["orderId"]);
    let canceled = server.signed(&a, "DELETE", "/api/v3/order", &one).await.good();
    assert_eq!(
        (&canceled["listStatusType"], canceled["orderReports"].as_array().unwrap().len()),
        (&json!("ALL_DONE"), 2)
    );
    assert_eq!(get("/api/v3/openOrderList", "").await.good(), json!([]));
    assert_eq!(get("/api/v3/allOrderList", "").await.good()[0]["listOrderStatus"], "ALL_DONE");
    assert_eq!(server.balances(&a).await, before);

    // The older form, canceled as a list.
    let old = "symbol=BTCUSDT&side=SELL&quantity=0.01&price=52000&stopPrice=49000";
    let old_limited = format!("{old}&stopLimitPrice=48900&stopLimitTimeInForce=GTC");
    let placed = place("/api/v3/order/oco", &old_limited).await.good();
    assert_eq!(placed["orderReports"][1]["stopPrice"], "49000.00000000");
    place("/api/v3/order/oco", &format!("{old}&stopLimitPrice=48900")).await.refused(
        400,
        -1102,
        "stopLimitTimeInForce",
    );
    place("/api/v3/order/oco", &old.replace("&stopPrice=49000", "")).await.refused(400, -1102, "stopPrice");
    let number = placed["orderListId"].as_u64().unwrap();
    let cancel =
        async |more: &str| server.signed(&a, "DELETE", "/api/v3/orderList", &format!("symbol=BTCUSDT{more}")).await;
    let canceled = cancel(&format!("&orderListId={number}")).await.good();
    assert_eq!(canceled["orderReports"][0]["status"], "CANCELED");
    cancel(&format!("&orderListId={number}")).await.refused(400, -2011, "Unknown order sent.");
    cancel("").await.refused(400, -1102, "listClientOrderId");

    // All of a symbol's open orders, those of lists as lists.
    place("/api/v3/orderList/oco", OCO).await.good();
    server.order(&a, &limit("BUY", "0.001", "40000")).await.good();
    let all = server.signed(&a, "DELETE", "/api/v3/openOrders", "symbol=BTCUSDT").await.good();
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(all.iter().filter(|one| one.get("orderReports").is_some()).count(), 1);

    // The price comes: the stop works and the limit order expires.
    let placed = place("/api/v3/orderList/oco", OCO).await.good();
    trade_at(&server, "49000").await;
    let above = order_of(&server, &a, &placed["orderReports"][0]["orderId"]).await;
    assert_eq!((&above["status"], &above["expiryReason"]), (&json!("EXPIRED"), &json!("OCO_TRIGGER")));
    server.stop().await;
}

#[tokio::test]
async fn orders_that_make_no_pair_are_refused() {
    let server = Server::start(|_| {}).await;
    let a = account_a();
    trade_at(&server, "50000").await;
    let stop = "STOP_LOSS_LIMIT&belowStopPrice=49000&belowPrice=48900&belowTimeInForce=GTC";
    let above = |kind: &str, prices: &str| {
        OCO.replace("aboveType=LIMIT_MAKER&abovePrice=52000", &format!("aboveType={kind}{prices}"))
    };
    let below = |what: &str| OCO.replace(stop, what);
    let table = [
        (below("LIMIT_MAKER&belowPrice=48900"), -1168, "At least one OCO order must be contingent."),
        (above("MARKET", ""), -1158, "Order type not supported in OCO."),
        (above("STOP_LOSS", "&aboveStopPrice=52000"), -1197, "A stop loss order in a sell OCO must be below."),
        (below("TAKE_PROFIT&belowStopPrice=49000"), -1199, "A take profit order in a sell OCO must be above."),
        (
            above("STOP_LOSS", "&aboveStopPrice=52000").replace(stop, "LIMIT_MAKER&belowPrice=48900"),
            -1166,
            "A limit order in a sell OCO must be above.",
        ),
        (OCO.replace("SELL", "BUY"), -1165, "A limit order in a buy OCO must be below."),
        (OCO.replace("&abovePrice=52000", ""), -1102, "abovePrice"),
        (OCO.replace("&quantity=0.01", ""), -1102, "quantity"),
        (OCO.replace("&belowStopPrice=49000", ""), -1102, "belowStopPrice"),
        (OCO.replace("belowStopPrice=49000", "belowStopPrice=51000"), -2010, "The relationship of the prices"),
        (format!("{OCO}&aboveStopPrice=1"), -1106, "aboveStopPrice"),
        (format!("{OCO}&belowIcebergQty=0.02"), -2010, "IcebergQty exceeds QTY."),
        (OCO.replace("0.01", "101"), -2010, "insufficient balance"),
    ];
    for (parameters, code, text) in table {
        println!("{parameters}");
        server.signed(&a, "POST", "/api/v3/orderList/oco", &parameters).await.refused(400, code, text);
    }
    let open = server.signed(&a, "GET", "/api/v3/openOrders", "").await.good();
    assert_eq!(open, json!([]));
    server.stop().await;
}

#[tokio::test]
async fn a_working_order_brings_its_pending_ones() {
    let server = Server::start(|_| {}).await;
    let (a, b) = (account_a(), account_b());
    trade_at(&server, "50000").await;
    let place = async |kind: &str, more: &str| {
        let path = format!("/api/v3/orderList/{kind}");
        server.signed(&a, "POST", &path, &format!("symbol=BTCUSDT&{more}")).await
    };
    let working = "workingType=LIMIT&workingSide=BUY&workingPrice=49500&workingQuantity=0.01&workingTimeInForce=GTC";
    let pending = "pendingType=LIMIT_MAKER&pendingSide=SELL&pendingPrice=53000";
    let pair = "pendingSide=SELL&pendingAboveType=LIMIT_MAKER&pendingAbovePrice=53000\
                &pendingBelowType=STOP_LOSS&pendingBelowStopPrice=48000";
    let status = async |placed: &Value, index: usize| {
        let order = order_of(&server, &a, &placed["orders"][index]["orderId"]).await;
        order["status"].as_str().unwrap().to_owned()
    };
    let fill = async || server.order(&b, &limit("SELL", "0.01", "49500")).await.good();

    let oto = place("oto", &format!("{working}&{pending}&pendingQuantity=0.01")).await.good();
    assert_eq!((&oto["contingencyType"], &oto["orderReports"][1]["status"]), (&json!("OTO"), &json!("PENDING_NEW")));
    fill().await;
    assert_eq!([status(&oto, 0).await, status(&oto, 1).await], ["FILLED", "NEW"]);

    let otoco = place("otoco", &format!("{working}&{pair}&pendingQuantity=0.01")).await.good();
    assert_eq!(otoco["orderReports"].as_array().unwrap().len(), 3);
    // An order of a list may be amended; its list says so.
    let path = "/api/v3/order/amend/keepPriority";
    let amend = format!("symbol=BTCUSDT&orderId={}&newQty=0.005", oto["orders"][1]["orderId"]);
    let amended = server.signed(&a, "PUT", path, &amend).await.good();
    assert_eq!(amended["listStatus"]["listOrderStatus"], "EXECUTING", "{amended}");
    let list = format!("symbol=BTCUSDT&orderListId={}", otoco["orderListId"]);
    let canceled = server.signed(&a, "DELETE", "/api/v3/orderList", &list).await.good();
    assert_eq!(canceled["orderReports"].as_array().unwrap().len(), 3);
    assert_eq!(status(&otoco, 2).await, "CANCELED");

    // Of an OPO the pending order sells what the working one brought, less the fee, in whole lots.
    let opo = place("opo", &format!("{working}&{pending}")).await.good();
    fill().await;
    let sale = order_of(&server, &a, &opo["orders"][1]["orderId"]).await;
    assert_eq!((&sale["status"], &sale["origQty"]), (&json!("NEW"), &json!("0.00999000")), "{sale}");
    let opoco = place("opoco", &format!("{working}&{pair}")).await.good();
    fill().await;
    assert_eq!([status(&opoco, 0).await, status(&opoco, 1).await, status(&opoco, 2).await], ["FILLED", "NEW", "NEW"]);

    let sells = working.replace("BUY", "SELL");
    place("opo", &format!("{sells}&{pending}")).await.refused(
        400,
        -1222,
        "Working order in an OPO list must be a bid.",
    );
    let buys = pending.replace("SELL", "BUY");
    place("opo", &format!("{working}&{buys}")).await.refused(400, -1223, "Pending orders in an OPO list must be asks.");
    place("oto", &format!("{working}&{pending}")).await.refused(400, -1102, "pendingQuantity");
    let stop = working.replace("LIMIT&", "STOP_LOSS_LIMIT&workingStopPrice=49000&");
    place("oto", &format!("{stop}&{pending}&pendingQuantity=0.01")).await.refused(400, -1014, "");
    server.stop().await;
}

#[tokio::test]
async fn a_cancel_replace_says_how_both_halves_went() {
    let server = Server::start(|_| {}).await;
    let (a, b) = (account_a(), account_b());
    server.order(&b, &limit("SELL", "1", "60000")).await.good();
    let place = async || server.order(&a, &limit("BUY", "0.001", "50000")).await.good()["orderId"].to_string();
    let replace = async |mode: &str, cancel: &str, order: &str| {
        let parameters = format!("{order}&cancelReplaceMode={mode}&cancelOrderId={cancel}");
        server.signed(&a, "POST", "/api/v3/order/cancelReplace", &parameters).await
    };
    let good = limit("BUY", "0.001", "50001");
    let bad = limit("BUY", "0.001", "60000").replace("LIMIT&timeInForce=GTC", "LIMIT_MAKER");
    let filtered = limit("BUY", "0.001", "50001.001");

    let both = replace("STOP_ON_FAILURE", &place().await, &good).await.good();
    assert_eq!((&both["cancelResult"], &both["newOrderResult"]), (&json!("SUCCESS"), &json!("SUCCESS")));
    assert_eq!(
        (&both["cancelResponse"]["status"], &both["newOrderResponse"]["status"]),
        (&json!("CANCELED"), &json!("NEW"))
    );

    let outcome = |answer: &Response| {
        let data = &answer.body["data"];
        let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
        (answer.status, answer.body["code"].as_i64().unwrap(), text("cancelResult"), text("newOrderResult"))
    };
    let is = |status, code, cancel: &str, place: &str| (status, code, cancel.to_owned(), place.to_owned());
    let answer = replace("STOP_ON_FAILURE", "999", &good).await;
    assert_eq!(outcome(&answer), is(400, -2022, "FAILURE", "NOT_ATTEMPTED"));
    assert_eq!(answer.body["data"]["cancelResponse"], json!({ "code": -2011, "msg": "Unknown order sent." }));
    assert_eq!(answer.body["data"]["newOrderResponse"], Value::Null);
    for mode in ["STOP_ON_FAILURE", "ALLOW_FAILURE"] {
        let answer = replace(mode, &place().await, &bad).await;
        assert_eq!(outcome(&answer), is(409, -2021, "SUCCESS", "FAILURE"));
        assert_eq!(answer.body["data"]["newOrderResponse"]["code"], -2010);
    }
    assert_eq!(outcome(&replace("ALLOW_FAILURE", "999", &good).await), is(409, -2021, "FAILURE", "SUCCESS"));
    assert_eq!(outcome(&replace("ALLOW_FAILURE", "999", &bad).await), is(400, -2022, "FAILURE", "FAILURE"));
    // The filters come before both.
    let order = place().await;
    replace("ALLOW_FAILURE", &order, &filtered).await.refused(400, -1013, "Filter failure: PRICE_FILTER");
    assert_eq!(order_of(&server, &a, &json!(order.parse::<u64>().unwrap())).await["status"], "NEW");
    replace("SOMEHOW", &order, &good).await.refused(400, -1130, "cancelReplaceMode");
    server.signed(&a, "POST", "/api/v3/order/cancelReplace", &good).await.refused(400, -1102, "cancelReplaceMode");
    server.stop().await;
}

#[tokio::test]
async fn unfilled_orders_are_counted_by_the_exchange() {
    let server = Server::start(|config| {
        config.limits.orders_per_10_seconds = 1_000;
        config.limits.orders_per_day = 3;
        config.limits.exchange_max_num_orders = 50;
    })
    .await;
    let (a, b) = (account_a(), account_b());
    let counts = async || {
        let rows = server.signed(&a, "GET", "/api/v3/rateLimit/order", "").await.good();
        assert_eq!(
            (&rows[1]["interval"], &rows[1]["intervalNum"], &rows[1]["limit"]),
            (&json!("DAY"), &json!(1), &json!(3))
        );
        rows[1]["count"].as_u64().unwrap()
    };
    let info = server.get("/api/v3/exchangeInfo").await.good();
    assert_eq!(info["exchangeFilters"], json!([{ "filterType": "EXCHANGE_MAX_NUM_ORDERS", "maxNumOrders": 50 }]));
    let placed = server.order(&a, &limit("SELL", "0.1", "50000")).await;
    assert_eq!(placed.header("x-mbx-order-count-1d"), Some("1"));
    let resting = server.order(&a, &limit("SELL", "0.1", "51000")).await.good()["orderId"].clone();
    server.order(&a, &limit("SELL", "0.1", "52000")).await.good();
    assert_eq!(counts().await, 3);
    let refused = server.order(&a, &limit("SELL", "0.1", "53000")).await;
    refused.refused(429, -1015, "Too many new orders; current limit is 3 orders per 1 DAY.");
    let list = OCO.replace("52000", "54000");
    server.signed(&a, "POST", "/api/v3/orderList/oco", &list).await.refused(429, -1015, "3 orders per 1 DAY");

    // Beyond the limit a cancel-replace may still cancel.
    let replace = async |mode: &str, more: &str, cancel: &str| {
        let order = format!("{}&cancelReplaceMode={mode}&cancelOrderId={cancel}{more}", limit("SELL", "0.1", "53000"));
        server.signed(&a, "POST", "/api/v3/order/cancelReplace", &order).await
    };
    replace("STOP_ON_FAILURE", "", &resting.to_string()).await.refused(429, -1015, "");
    let only = "&orderRateLimitExceededMode=CANCEL_ONLY";
    replace("ALLOW_FAILURE", only, "999").await.refused(400, -2022, "Order cancel-replace failed.");
    let answer = replace("STOP_ON_FAILURE", only, &resting.to_string()).await;
    answer.refused(429, -2021, "Order cancel-replace partially failed.");
    assert_eq!(answer.body["data"]["newOrderResponse"]["code"], -1015);
    replace("STOP_ON_FAILURE", only, "999").await.refused(429, -2022, "Order cancel-replace failed.");

    // An order that is filled as the maker takes five off.
    server.order(&b, &limit("BUY", "0.1", "50000")).await.good();
    assert_eq!(counts().await, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_countdown_that_is_not_wound_up_cancels_all() {
    let server = Server::start(|_| {}).await;
    let a = account_a();
    let order = server.order(&a, &limit("BUY", "0.001", "50000")).await.good();
    let set = async |time: &str| {
        server.signed(&a, "POST", "/api/v3/countdownCancelAll", &format!("symbol=BTCUSDT&countdownTime={time}")).await
    };
    assert_eq!(set("60000").await.good(), json!({ "symbol": "BTCUSDT", "countdownTime": "60000" }));
    set("0").await.good();
    set("200").await.good();
    set("99999999999").await.refused(400, -1130, "countdownTime");
    for _ in 0..100 {
        if order_of(&server, &a, &order["orderId"]).await["status"] == "CANCELED" {
            server.stop().await;
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the order is still open");
}

#[tokio::test]
async fn commissions_and_filters_are_told_as_configured() {
    let more = r#"taker_fee = "0.002"
    buyer_fee = "0.0001"
    tax_commission = { maker = "0.0003" }
    discount = { asset = "BTC", rate = "0.25" }
    average_price_minutes = 5
    percent_price_by_side = { bid_up = "5", bid_down = "0.2", ask_up = "4", ask_down = "0.2" }
    iceberg_parts = 10
    trailing_delta = { min_above = 10, max_above = 2000, min_below = 10, max_below = 2000 }
    max_num_orders = 200
    max_num_algo_orders = 5
    max_num_order_lists = 20
    max_num_order_amends = 1
    max_position = "500"
    default_self_trade_prevention = "DECREMENT"
    allowed_self_trade_prevention = ["DECREMENT", "EXPIRE_BOTH"]"#;
    let text =
        MARKET.replace("taker_fee = \"0.002\"", more).replacen("uid = 1001", "uid = 1001\n    commission_tier = 1", 1);
    let text = format!("{text}\n[[commission_tier]]\nmaker = \"0.0005\"\ntaker = \"0.0006\"\n");
    let server = Server::with(&text, |_| {}).await;
    let (a, b) = (account_a(), account_b());
    let ask = async |who: &Credentials| {
        server.signed(who, "GET", "/api/v3/account/commission", "symbol=BTCUSDT").await.good()
    };
    let standard = ask(&b).await;
    assert_eq!(standard["standardCommission"]["buyer"], "0.00010000");
    assert_eq!(standard["taxCommission"]["maker"], "0.00030000");
    assert_eq!(
        (&standard["discount"]["enabledForSymbol"], &standard["discount"]["discountAsset"]),
        (&json!(true), &json!("BTC"))
    );
    assert_eq!(ask(&a).await["standardCommission"]["taker"], "0.00060000");
    let account = server.signed(&a, "GET", "/api/v3/account", "").await.good();
    assert_eq!((&account["makerCommission"], &account["requireSelfTradePrevention"]), (&json!(5), &json!(false)));

    let info = server.get("/api/v3/exchangeInfo").await.good();
    let symbol = &info["symbols"][0];
    let filters: Vec<_> =
        symbol["filters"].as_array().unwrap().iter().map(|filter| filter["filterType"].as_str().unwrap()).collect();
    assert_eq!(
        filters.join(" "),
        "PRICE_FILTER LOT_SIZE ICEBERG_PARTS MARKET_LOT_SIZE TRAILING_DELTA PERCENT_PRICE_BY_SIDE NOTIONAL MAX_NUM_ORDERS \
         MAX_NUM_ALGO_ORDERS MAX_POSITION MAX_NUM_ORDER_LISTS MAX_NUM_ORDER_AMENDS"
    );
    assert_eq!(symbol["allowedSelfTradePreventionModes"], json!(["DECREMENT", "EXPIRE_BOTH"]));
    assert_eq!(symbol["defaultSelfTradePreventionMode"], "DECREMENT");

    trade_at(&server, "50000").await;
    let table = [
        (limit("BUY", "0.001", "250000.01"), -1013, "Filter failure: PERCENT_PRICE"),
        (limit("SELL", "0.001", "9000"), -1013, "Filter failure: PERCENT_PRICE"),
        (format!("{}&icebergQty=0.001", limit("BUY", "0.1", "40000")), -1013, "Filter failure: ICEBERG_PARTS"),
        (limit("BUY", "450", "10001"), -1013, "Filter failure: MAX_POSITION"),
        (format!("{}&selfTradePreventionMode=NONE", limit("BUY", "0.1", "40000")), -1013, "self-trade prevention"),
        (
            "symbol=BTCUSDT&side=SELL&type=STOP_LOSS&quantity=0.01&trailingDelta=5".to_owned(),
            -1013,
            "Filter failure: TRAILING_DELTA",
        ),
    ];
    for (order, code, text) in table {
        println!("{order}");
        server.order(&a, &order).await.refused(400, code, text);
    }
    let stop = "symbol=BTCUSDT&side=SELL&type=STOP_LOSS&quantity=0.01&stopPrice=40000";
    for _ in 0..5 {
        server.order(&a, stop).await.good();
    }
    server.order(&a, stop).await.refused(400, -1013, "Filter failure: MAX_NUM_ALGO_ORDERS");
    let order = server.order(&a, &limit("BUY", "0.1", "40000")).await.good()["orderId"].clone();
    let path = "/api/v3/order/amend/keepPriority";
    let amend = |quantity: &str| format!("symbol=BTCUSDT&orderId={order}&newQty={quantity}");
    server.signed(&a, "PUT", path, &amend("0.09")).await.good();
    server.signed(&a, "PUT", path, &amend("0.08")).await.refused(400, -2038, "Filter failure: MAX_NUM_ORDER_AMENDS");
    server.stop().await;
}
