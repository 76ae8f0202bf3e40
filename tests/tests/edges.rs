//! The edges of a real server: limits, addresses, bans.

use futures_util::{SinkExt, StreamExt};
use gateway::client::now_ms;
use gateway::config::Config;
use gateway::secrets::KeyRing;
use serde_json::{Value, json};
use tests::server::{Server, account_a, account_b, key_header, sign};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

const PING: &str = "/api/v3/ping";

/// Waits where a window of five minutes is about to end: what is counted in one must not fall into two.
async fn away_from_the_end_of_a_window() {
    let left = 300_000 - now_ms() % 300_000;
    if left < 10_000 {
        tokio::time::sleep(std::time::Duration::from_millis(left)).await;
    }
}

#[tokio::test]
async fn who_goes_on_asking_after_429_is_banned_on_every_door_and_others_are_not() {
    away_from_the_end_of_a_window().await;
    let server = Server::start(|config| {
        config.limits.raw_requests_per_5_minutes = 5;
        config.limits.refusals_before_ban = 3;
    })
    .await;
    let flood = [127, 0, 0, 9];
    let mut outcomes = Vec::new();
    for _ in 0..20 {
        outcomes.push(server.ask_from(flood, "GET", PING, "", b"").await.outcome());
    }
    outcomes.dedup();
    assert_eq!(outcomes, [(200, 0), (429, -1003), (418, -1003)]);
    let banned = server.ask_from(flood, "GET", "/api/v3/no/such/path", "", b"").await;
    assert_eq!(banned.status, 418);
    let wait: u64 = banned.header("retry-after").unwrap().parse().unwrap();
    assert!((100..=120).contains(&wait), "{wait}");
    assert!(banned.body["msg"].as_str().unwrap().starts_with("Way too much request weight used; IP banned until "));
    for door in ["/ws/btcusdt@trade", "/ws-api/v3"] {
        let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let mut socket = server.connect_from(flood).await;
        socket.write_all(format!("GET {door} HTTP/1.1\r\nHost: a\r\n{upgrade}").as_bytes()).await.unwrap();
        let mut start = [0; 12];
        socket.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 418", "{door}");
    }
    // What tells that the node is alive is for everyone.
    assert_eq!(server.ask_from(flood, "GET", "/health", "", b"").await.status, 200);
    assert_eq!(server.get(PING).await.status, 200);
    let metrics = server.get("/metrics").await.text;
    assert!(metrics.contains("rialto_bans_total 1\n"), "{metrics}");
    server.stop().await;
}

#[tokio::test]
async fn a_forwarded_address_counts_only_when_a_trusted_proxy_says_it() {
    away_from_the_end_of_a_window().await;
    let server = Server::start(|config| {
        config.limits.request_weight_per_minute = 50;
        config.limits.refusals_before_ban = 0;
        config.sockets.trusted_proxies = vec!["127.0.0.7".parse().unwrap()];
    })
    .await;
    let info = async |from, forwarded: &str| {
        server.ask_from(from, "GET", "/api/v3/exchangeInfo", &format!("X-Forwarded-For: {forwarded}\r\n"), b"").await
    };
    let used = |answer: &tests::server::Response| answer.header("x-mbx-used-weight-1m").unwrap().to_owned();
    // Behind the proxy, each has its own count.
    for client in ["198.51.100.1", "6.6.6.6, 198.51.100.2", "198.51.100.3, 127.0.0.7"] {
        assert_eq!(used(&info([127, 0, 0, 7], client).await), "20", "{client}");
    }
    // From anywhere else the header is air: all of these are one client.
    let mut refused = 0;
    for spoofed in 0..8 {
        refused += usize::from(info([127, 0, 0, 8], &format!("203.0.113.{spoofed}")).await.status == 429);
    }
    assert!(refused >= 4, "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn an_account_is_limited_whatever_address_it_comes_by_and_a_call_by_itself() {
    let server = Server::start(|config| {
        config.limits.account = gateway::token_bucket::BucketConfig::new(1, 60);
        config.limits.endpoint = vec![gateway::config::EndpointLimit {
            method: "GET".to_owned(),
            path: "/api/v3/allOrders".to_owned(),
            credits_per_second: 1,
            credits_max: 20,
        }];
    })
    .await;
    let (one, other) = (account_a(), account_b());
    let ask = async |who, path: &str| server.signed(who, "GET", path, "symbol=BTCUSDT").await.outcome();
    assert_eq!(ask(&one, "/api/v3/allOrders").await, (200, 0));
    assert_eq!(ask(&one, "/api/v3/allOrders").await, (429, -1003));
    assert_eq!(ask(&one, "/api/v3/openOrders").await, (200, 0));
    assert_eq!(ask(&other, "/api/v3/allOrders").await, (200, 0));
    let account = async |from| {
        let query = sign(&one, "");
        let target = format!("/api/v3/account?{query}");
        server.ask_from(from, "GET", &target, &key_header(&one), b"").await.outcome()
    };
    let mut outcomes = Vec::new();
    for from in 1..6 {
        outcomes.push(account([127, 0, 0, from]).await);
    }
    assert_eq!(outcomes.last(), Some(&(429, -1003)), "{outcomes:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_websocket_is_limited_as_rest_is_and_closed_when_its_address_is_banned() {
    away_from_the_end_of_a_window().await;
    let server = Server::start(|config| {
        config.limits.raw_requests_per_5_minutes = 5;
        config.limits.connections_per_5_minutes = 2;
        config.limits.refusals_before_ban = 4;
    })
    .await;
    let open = async |path: &str| tokio_tungstenite::connect_async(format!("ws://{}{path}", server.address)).await;
    let (mut socket, _) = open("/ws-api/v3").await.unwrap();
    let (_stream, _) = open("/ws/btcusdt@trade").await.unwrap();
    let refused = open("/ws/btcusdt@trade").await.unwrap_err();
    assert!(refused.to_string().contains("429"), "{refused}");
    for id in 0..20 {
        let request = json!({ "id": id, "method": "ping" }).to_string();
        if socket.send(Message::text(request)).await.is_err() {
            break;
        }
    }
    let (mut statuses, mut closed) = (Vec::new(), None);
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) => {
                let answer: Value = serde_json::from_str(&text).unwrap();
                if answer["status"] == 429 {
                    assert!(
                        answer["error"]["data"]["retryAfter"].as_u64() > answer["error"]["data"]["serverTime"].as_u64()
                    );
                    assert!(answer["id"].is_u64());
                }
                statuses.push(answer["status"].as_u64().unwrap());
            }
            Message::Close(frame) => closed = frame.map(|frame| u16::from(frame.code)),
            _ => {}
        }
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429, 429, 418]);
    assert_eq!(closed, Some(1008));
    server.stop().await;
}

#[tokio::test]
async fn a_limit_on_a_call_that_does_not_exist_stops_the_start() {
    let folder = tempfile::TempDir::new_in(tests::exchange::build_folder()).unwrap();
    let mut config = gateway::config::Config { data: Some(folder.path().into()), ..Default::default() };
    let (method, path) = ("GET".to_owned(), "/api/v3/nothing".to_owned());
    config.limits.endpoint =
        vec![gateway::config::EndpointLimit { method, path, credits_per_second: 1, credits_max: 1 }];
    let Err(reason) = gateway::serve::start(config, None).await else { panic!("it started") };
    assert!(reason.contains("GET /api/v3/nothing"), "{reason}");
}

/// The files of a folder and of the folders in it.
fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn secrets_stand_nowhere_in_the_data_and_work_again_after_a_restart() {
    let market = tests::server::MARKET.replace("\"secret-a\"", "\"canary-in-a-coal-mine\"");
    let who = tests::server::credentials("key-a", "canary-in-a-coal-mine");
    let folder = tempfile::TempDir::new().unwrap();
    let key_file = folder.path().join("keys");
    KeyRing::read_or_create(&key_file).unwrap();
    let with_keys = |config: &mut Config| config.secrets.key_file = Some(key_file.clone());
    let server = Server::with(&market, with_keys).await;
    server.signed(&who, "GET", "/api/v3/account", "").await.good();
    let server = server
        .restart(|config| {
            config.journal.snapshot_every_commands = 10;
            with_keys(config);
        })
        .await;
    for _ in 0..30 {
        let order = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=IOC&quantity=0.01&price=50000";
        server.signed(&who, "POST", "/api/v3/order", order).await.good();
    }
    let server = server.restart(with_keys).await;
    server.signed(&who, "GET", "/api/v3/account", "").await.good();
    let all = files(server.data());
    assert!(all.iter().any(|path| path.parent().is_some_and(|folder| folder.ends_with("snapshots"))), "{all:?}");
    for path in all {
        let bytes = std::fs::read(&path).unwrap();
        let canary = b"canary-in-a-coal-mine";
        assert!(!bytes.windows(canary.len()).any(|window| window == canary), "{} has a secret", path.display());
    }
    // Under another key nothing opens, and nobody gets in; with the old key behind it all is well again.
    let old = std::fs::read_to_string(&key_file).unwrap();
    std::fs::remove_file(&key_file).unwrap();
    KeyRing::read_or_create(&key_file).unwrap();
    let server = server.restart(with_keys).await;
    assert_eq!(server.signed(&who, "GET", "/api/v3/account", "").await.outcome(), (400, -1022));
    let new = std::fs::read_to_string(&key_file).unwrap();
    std::fs::write(&key_file, format!("{new}{old}")).unwrap();
    let server = server.restart(with_keys).await;
    server.signed(&who, "GET", "/api/v3/account", "").await.good();
    server.stop().await;
}
