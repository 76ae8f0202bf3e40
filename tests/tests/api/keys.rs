//! Keys of all three kinds sign requests over REST and the WS API, and log a socket on.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway::client::now_ms;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};
use tests::server::{MARKET, Response, Server, account_a, account_b, key_header, limit, sign_at};
use tests::socket::Socket;

/// Made for these tests by openssl: PKCS#8, 2048 bits.
const RSA_PRIVATE_KEY: &str = include_str!("rsa_private_key.base64");
/// fix-api.md, "Signature computation".
const ED25519_SEED: &str = "gkRha0YGuEAKZv0O/L6prxYR/SVA6XWzgIsgAH2bz24=";

/// A client's private key, and the name its public half is registered by.
struct Signer {
    api_key: &'static str,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Signer {
    fn ed25519() -> Signer {
        let seed = STANDARD.decode(ED25519_SEED).unwrap();
        Signer { api_key: "key-ed", pair: Pair::Ed25519(Ed25519KeyPair::from_seed_unchecked(&seed).unwrap()) }
    }

    fn rsa() -> Signer {
        let der = STANDARD.decode(RSA_PRIVATE_KEY.split_ascii_whitespace().collect::<String>()).unwrap();
        Signer { api_key: "key-rsa", pair: Pair::Rsa(Box::new(RsaKeyPair::from_pkcs8(&der).unwrap())) }
    }

    fn sign(&self, payload: &str) -> String {
        let signature = match &self.pair {
            Pair::Ed25519(pair) => pair.sign(payload.as_bytes()).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), payload.as_bytes(), &mut signature).unwrap();
                signature
            }
        };
        STANDARD.encode(signature)
    }

    /// The public half as it is registered: its DER in PEM.
    fn pem(&self) -> String {
        // What stands around the key itself: its length, which algorithm it is of, and that all its bits are used.
        let (head, key) = match &self.pair {
            Pair::Ed25519(pair) => ("302a300506032b6570032100", pair.public_key().as_ref()),
            Pair::Rsa(pair) => ("30820122300d06092a864886f70d01010105000382010f00", pair.public_key().as_ref()),
        };
        let head: Vec<u8> =
            (0..head.len()).step_by(2).map(|at| u8::from_str_radix(&head[at..at + 2], 16).unwrap()).collect();
        let der = STANDARD.encode([&head, key].concat());
        format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----")
    }

    /// A request with its parameters split over query and body, signed over both as they are sent.
    async fn order(&self, server: &Server, query: &str, body: &str) -> Response {
        let separator = if body.is_empty() && !query.is_empty() { "&" } else { "" };
        let body = format!("{body}{}timestamp={}", if body.is_empty() { separator } else { "&" }, now_ms());
        let (query, body) =
            if separator.is_empty() { (query.to_owned(), body) } else { (format!("{query}{body}"), String::new()) };
        let signature = percent_encode(&self.sign(&format!("{query}{body}")));
        let (query, body) = match body.is_empty() {
            true => (format!("{query}&signature={signature}"), body),
            false => (query, format!("{body}&signature={signature}")),
        };
        let headers = format!("X-MBX-APIKEY: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n", self.api_key);
        server.ask("POST", &format!("/api/v3/order?{query}"), &headers, body.as_bytes()).await
    }

    /// A WS API request: signed over its parameters by name, not percent-encoded.
    fn request(&self, id: u64, method: &str, params: Value) -> Value {
        let mut params = params;
        params["apiKey"] = json!(self.api_key);
        params["timestamp"] = json!(now_ms());
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let by_name: std::collections::BTreeMap<_, _> = params.as_object().unwrap().iter().collect();
        let pairs: Vec<String> = by_name.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
        params["signature"] = json!(self.sign(&pairs.join("&")));
        json!({ "id": id, "method": method, "params": params })
    }
}

fn percent_encode(base64: &str) -> String {
    base64.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

/// The market with a key of each kind for account 1001.
async fn start() -> Server {
    let key = |signer: &Signer, kind: &str, permissions: &str| {
        let (name, pem) = (signer.api_key, signer.pem());
        format!(
            "[[account.key]]\napi_key = \"{name}\"\ntype = \"{kind}\"\npublic_key = \"\"\"{pem}\"\"\"\npermissions = {permissions}\n"
        )
    };
    let both = r#"["USER_DATA", "TRADE"]"#;
    let keys = key(&Signer::ed25519(), "ED25519", both) + &key(&Signer::rsa(), "RSA", both);
    // Into the first account, before the second begins.
    let at = MARKET.rfind("[[account]]").unwrap();
    Server::with(&format!("{}{keys}{}", &MARKET[..at], &MARKET[at..]), |_| {}).await
}

fn limit_params(price: &str) -> Value {
    json!({ "symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01", "price": price })
}

#[tokio::test]
async fn every_kind_of_key_signs_query_and_body() {
    let server = start().await;
    for signer in [Signer::ed25519(), Signer::rsa()] {
        let order = limit("BUY", "0.01", "50000");
        for at in [0, order.find("&type").unwrap(), order.len()] {
            let (query, body) = order.split_at(at);
            let body = body.trim_start_matches('&');
            let placed = signer.order(&server, query, body).await.good();
            assert_eq!(placed["status"], "NEW", "split at {at}");
        }
        // A name that is not ASCII is percent-encoded, and signed as it is sent.
        let wide = order.replace("BTCUSDT", "%EF%BC%91");
        signer.order(&server, &wide, "").await.refused(400, -1121, "Invalid symbol.");
        // What was signed and what is sent differ by one letter.
        let payload = format!("{order}&timestamp={}", now_ms());
        let signature = percent_encode(&signer.sign(&payload));
        let target = format!("/api/v3/order?{}&signature={signature}", payload.replace("BUY", "SELL"));
        let headers = format!("X-MBX-APIKEY: {}\r\n", signer.api_key);
        server.ask("POST", &target, &headers, b"").await.refused(
            400,
            -1022,
            "Signature for this request is not valid.",
        );
        // Another key's signature.
        let headers = key_header(&account_a());
        let target = format!("/api/v3/order?{payload}&signature={signature}");
        server.ask("POST", &target, &headers, b"").await.refused(400, -1022, "Signature");
    }
    server.stop().await;
}

#[tokio::test]
async fn timestamps_in_microseconds_are_as_good_and_answers_come_in_the_unit_that_is_asked_for() {
    let server = start().await;
    let who = account_a();
    let order = |timestamp| format!("/api/v3/order?{}", sign_at(&who, &limit("BUY", "0.01", "50000"), timestamp));
    let headers = format!("{}X-MBX-TIME-UNIT: MICROSECOND\r\n", key_header(&who));
    let micros = |value: &Value| value.as_u64().is_some_and(|time| time > now_ms() * 999);
    let placed = server.ask("POST", &order(now_ms() * 1_000), &headers, b"").await.good();
    assert!(micros(&placed["transactTime"]) && micros(&placed["workingTime"]), "{placed}");
    let placed = server.ask("POST", &order(now_ms() * 1_000), &key_header(&who), b"").await.good();
    assert!(!micros(&placed["transactTime"]), "{placed}");
    let late = order(now_ms() * 1_000 - 5_100_000);
    server.ask("POST", &late, &key_header(&who), b"").await.refused(400, -1021, "outside of the recvWindow");
    let early = order(now_ms() * 1_000 + 60_000_000);
    server.ask("POST", &early, &key_header(&who), b"").await.refused(400, -1021, "1000ms ahead");

    let signer = Signer::ed25519();
    let mut socket = Socket::connect(&server.address, "/ws-api/v3?timeUnit=microsecond").await;
    let placed = socket.ask(signer.request(1, "order.place", limit_params("50000"))).await;
    assert!(micros(&placed["result"]["transactTime"]), "{placed}");
    server.stop().await;
}

#[tokio::test]
async fn a_socket_that_logged_on_asks_without_key_and_signature() {
    let server = start().await;
    for signer in [Signer::ed25519(), Signer::rsa()] {
        let mut socket = Socket::connect(&server.address, "/ws-api/v3").await;
        let plain = |id: u64, method: &str, params: Value| json!({ "id": id, "method": method, "params": params });

        let status = socket.ask(plain(1, "session.status", json!({}))).await["result"].take();
        assert_eq!((&status["apiKey"], &status["authorizedSince"]), (&Value::Null, &Value::Null));
        assert_eq!((&status["userDataStream"], &status["returnRateLimits"]), (&json!(false), &json!(true)));
        let mut unsigned = limit_params("50000");
        unsigned["timestamp"] = json!(now_ms());
        let refused = socket.ask(plain(2, "order.place", unsigned.clone())).await;
        assert_eq!((&refused["status"], &refused["error"]["code"]), (&json!(401), &json!(-2014)));
        let refused = socket.ask(plain(3, "userDataStream.subscribe", json!({}))).await;
        assert_eq!((&refused["status"], &refused["error"]["code"]), (&json!(401), &json!(-1002)));

        let mut forged = signer.request(4, "session.logon", json!({}));
        forged["params"]["timestamp"] = json!(now_ms() + 1);
        assert_eq!(socket.ask(forged).await["error"]["code"], -1022);
        let logged_on = socket.ask(signer.request(5, "session.logon", json!({}))).await["result"].take();
        assert_eq!(logged_on["apiKey"], signer.api_key);
        assert!(logged_on["authorizedSince"].as_u64() >= logged_on["connectedSince"].as_u64(), "{logged_on}");

        let subscribed = socket.ask(plain(6, "userDataStream.subscribe", json!({}))).await;
        assert_eq!(subscribed["result"]["subscriptionId"], 0);
        unsigned["timestamp"] = json!(now_ms());
        let order = plain(7, "order.place", unsigned.clone());
        let (placed, report) = socket.ask_and_hear(order, |message| message["event"]["e"] == "executionReport").await;
        assert_eq!(placed["result"]["status"], "NEW", "{placed}");
        assert_eq!((&report["subscriptionId"], &report["event"]["x"]), (&json!(0), &json!("NEW")));
        // The time is asked for still.
        let refused = socket.ask(plain(8, "account.status", json!({}))).await;
        assert_eq!(refused["error"]["code"], -1102);
        let account = socket.ask(plain(9, "account.status", json!({ "timestamp": now_ms() }))).await;
        assert_eq!(account["result"]["uid"], 1001);
        // A key that is named must sign, and speaks for its own account.
        let refused =
            socket.ask(plain(10, "account.status", json!({ "timestamp": now_ms(), "apiKey": "key-b" }))).await;
        assert_eq!(refused["error"]["code"], -1102);
        let b = account_b();
        let params = [("symbol", json!("BTCUSDT"))];
        let request = gateway::client::signed_request(11, "account.commission", &params, &b);
        assert_eq!(socket.ask(serde_json::from_str(&request).unwrap()).await["status"], 200);
        let status = socket.ask(plain(12, "session.status", json!({}))).await["result"].take();
        assert_eq!((&status["apiKey"], &status["userDataStream"]), (&json!(signer.api_key), &json!(true)));

        let out = socket.ask(plain(13, "session.logout", json!({}))).await["result"].take();
        assert_eq!((&out["apiKey"], &out["userDataStream"]), (&Value::Null, &json!(false)));
        let ended = socket.find(|message| message["event"]["e"] == "eventStreamTerminated").await;
        assert_eq!(ended["subscriptionId"], 0);
        let refused = socket.ask(plain(14, "account.status", json!({ "timestamp": now_ms() }))).await;
        assert_eq!(refused["error"]["code"], -2014);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_logout_leaves_subscriptions_that_were_signed_for() {
    let server = start().await;
    let signer = Signer::ed25519();
    let mut socket = Socket::connect(&server.address, "/ws-api/v3?returnRateLimits=false").await;
    let made = socket.ask(signer.request(1, "userDataStream.subscribe.signature", json!({}))).await;
    assert_eq!(made["result"]["subscriptionId"], 0);
    let logged_on = socket.ask(signer.request(2, "session.logon", json!({}))).await;
    let result = &logged_on["result"];
    assert_eq!((&result["userDataStream"], &result["returnRateLimits"]), (&json!(true), &json!(false)));
    let again = socket.ask(json!({ "id": 3, "method": "userDataStream.subscribe" })).await;
    assert_eq!(again["error"]["code"], -2035, "the account is listened to already");
    socket.ask(json!({ "id": 4, "method": "session.logout" })).await;
    let listed = socket.ask(json!({ "id": 5, "method": "session.subscriptions" })).await;
    assert_eq!(listed["result"], json!([{ "subscriptionId": 0 }]));
    server.stop().await;
}
