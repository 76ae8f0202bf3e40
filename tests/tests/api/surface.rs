//! Calls of the public API that few clients make, and those of other products that clients make at start.

use serde_json::{Value, json};
use tests::server::{MARKET, Server, account_a, account_b, credentials, key_header};
use tests::socket::Socket;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

#[tokio::test]
async fn execution_rules_are_told_as_configured() {
    let range = r#"execution_range = { bid_up = "1.5", bid_down = "0.5", ask_up = "2", ask_down = "0.9999" }"#;
    let server = Server::with(&MARKET.replace("min_notional = \"5\"", range), |_| {}).await;
    let rule = json!({
        "ruleType": "PRICE_RANGE",
        "bidLimitMultUp": "1.50000000",
        "bidLimitMultDown": "0.50000000",
        "askLimitMultUp": "2.00000000",
        "askLimitMultDown": "0.99990000",
    });
    let expected = json!({ "symbolRules": [{ "symbol": "BTCUSDT", "rules": [rule] }] });
    for query in ["", "?symbol=BTCUSDT", "?symbols=[%22BTCUSDT%22]", "?symbolStatus=TRADING"] {
        assert_eq!(server.get(&format!("/api/v3/executionRules{query}")).await.good(), expected, "{query}");
    }
    let halted = server.get("/api/v3/executionRules?symbolStatus=HALT").await.good();
    assert_eq!(halted, json!({ "symbolRules": [] }));
    let both = server.get("/api/v3/executionRules?symbol=BTCUSDT&symbolStatus=HALT").await;
    both.refused(400, -1128, "Combination of optional parameters invalid.");
    server.stop().await;
}

#[tokio::test]
async fn what_there_is_none_of_is_said_as_documented() {
    let server = Server::start(|_| {}).await;
    let none = "This symbol doesn't have a reference price.";
    server.get("/api/v3/referencePrice?symbol=BTCUSDT").await.refused(400, -2043, none);
    server.get("/api/v3/referencePrice/calculation?symbol=BTCUSDT").await.refused(400, -2043, none);
    let halted = server.get("/api/v3/referencePrice/calculation?symbol=BTCUSDT&symbolStatus=HALT").await;
    halted.refused(400, -1220, "The symbol's status does not match the requested symbolStatus.");
    assert_eq!(server.get("/api/v3/historicalBlockTrades?symbol=BTCUSDT&fromId=0").await.good(), json!([]));
    server.get("/api/v3/historicalBlockTrades?symbol=BTCUSDT").await.refused(400, -1102, "fromId");
    let a = account_a();
    let allocations = server.signed(&a, "GET", "/api/v3/myAllocations", "symbol=BTCUSDT&limit=10").await;
    assert_eq!(allocations.good(), json!([]));
    let bad = server.signed(&a, "GET", "/api/v3/myAllocations", "symbol=BTCUSDT&startTime=1&fromAllocationId=1").await;
    bad.refused(400, -1128, "");
    // No order is routed elsewhere, and exchangeInfo does not say that any is.
    let unsupported = "This operation is not supported.";
    server.signed(&a, "POST", "/api/v3/sor/order", "symbol=BTCUSDT").await.refused(404, -1020, unsupported);
    assert!(server.get("/api/v3/exchangeInfo").await.good().get("sors").is_none());
    let mut socket = Socket::connect(&server.address, "/ws-api/v3").await;
    let refused = socket.ask(json!({ "id": 1, "method": "sor.order.place" })).await;
    assert_eq!((&refused["status"], &refused["error"]["code"]), (&json!(404), &json!(-1020)));
    let refused = socket.ask(json!({ "id": 2, "method": "referencePrice", "params": { "symbol": "BTCUSDT" } })).await;
    assert_eq!(refused["error"], json!({ "code": -2043, "msg": none }));
    // Whoever listens for a reference price is told that there is none.
    let mut stream = Socket::connect(&server.address, "/ws/btcusdt@referencePrice").await;
    let event = stream.next().await;
    assert_eq!((&event["e"], &event["s"], &event["r"]), (&json!("referencePrice"), &json!("BTCUSDT"), &Value::Null));
    server.stop().await;
}

#[tokio::test]
async fn an_account_is_told_the_filters_that_hold_for_it() {
    let server = Server::start(|config| config.limits.exchange_max_num_orders = 7).await;
    let told = server.signed(&account_a(), "GET", "/api/v3/myFilters", "symbol=BTCUSDT").await.good();
    let info = server.get("/api/v3/exchangeInfo").await.good();
    assert_eq!(told["symbolFilters"], info["symbols"][0]["filters"]);
    assert_eq!(told["exchangeFilters"], json!([{ "filterType": "EXCHANGE_MAX_NUM_ORDERS", "maxNumOrders": 7 }]));
    assert_eq!(told["assetFilters"], json!([]));
    server.stop().await;
}

#[tokio::test]
async fn a_client_of_all_products_learns_that_there_is_spot_alone() {
    let server = Server::start(|_| {}).await;
    for product in ["/fapi/v1", "/dapi/v1"] {
        assert_eq!(server.get(&format!("{product}/ping")).await.good(), json!({}));
        assert!(server.get(&format!("{product}/time")).await.good()["serverTime"].is_u64());
        assert_eq!(server.get(&format!("{product}/exchangeInfo")).await.good()["symbols"], json!([]));
    }
    let path = "/sapi/v1/account/apiRestrictions";
    let may = async |who| {
        let told = server.signed(&who, "GET", path, "").await.good();
        (told["enableReading"] == true, told["enableSpotAndMarginTrading"] == true)
    };
    assert_eq!(may(account_b()).await, (true, true));
    assert_eq!(may(credentials("key-a-that-only-reads", "secret-r")).await, (true, false));
    server.ask("GET", path, &key_header(&account_a()), b"").await.refused(400, -1102, "timestamp");
    server.stop().await;
}

#[tokio::test]
async fn a_close_is_answered_before_the_connection_ends() {
    let server = Server::start(|_| {}).await;
    for path in ["/ws", "/stream?streams=btcusdt@trade", "/ws-api/v3"] {
        for code in [1000, 1001, 3000] {
            let mut socket = Socket::connect(&server.address, path).await;
            let frame = CloseFrame { code: code.into(), reason: "enough".into() };
            socket.0.close(Some(frame)).await.unwrap();
            assert_eq!(socket.close_code().await, Some(code), "{path}");
        }
    }
    server.stop().await;
}
