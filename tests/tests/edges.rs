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
            (config.journal.snapshot_every_commands, config.journal.snapshot_every_entries) = (10, 10);
            with_keys(config);
        })
        .await;
    for _ in 0..30 {
        let order = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=IOC&quantity=0.01&price=50000";
        server.signed(&who, "POST", "/api/v3/order", order).await.good();
    }
    // A snapshot is written beside the flow.
    for _ in 0..200 {
        if std::fs::read_dir(server.data().join("snapshots")).is_ok_and(|mut found| found.next().is_some()) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
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

const UPGRADE: &str = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// The head of an answer to these lines.
async fn head(server: &Server, lines: &str) -> String {
    let mut socket = server.connect_from([127, 0, 0, 1]).await;
    socket.write_all(format!("{lines}\r\n").as_bytes()).await.unwrap();
    let mut received = Vec::new();
    while !received.windows(4).any(|end| end == b"\r\n\r\n") && socket.read_buf(&mut received).await.unwrap() > 0 {}
    String::from_utf8_lossy(&received).to_lowercase()
}

#[tokio::test]
async fn a_page_from_elsewhere_is_served_only_where_its_origin_is_allowed() {
    let server = Server::start(|config| config.sockets.allowed_origins = vec!["https://friend.example".into()]).await;
    let ask = async |origin: &str| server.ask("GET", PING, &format!("Origin: {origin}\r\n"), b"").await;
    let friend = ask("https://friend.example").await;
    assert_eq!(friend.header("access-control-allow-origin"), Some("https://friend.example"));
    assert!(friend.header("access-control-allow-credentials").is_none() && friend.head.contains("vary: origin"));
    for origin in ["https://foe.example", "null", "https://friend.example.foe.example"] {
        assert_eq!(ask(origin).await.header("access-control-allow-origin"), None, "{origin}");
    }
    let preflight = |origin: &str| format!("Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n");
    let asked = server.ask("OPTIONS", "/api/v3/order", &preflight("https://friend.example"), b"").await;
    assert_eq!(asked.status, 204);
    assert!(asked.header("access-control-allow-headers").unwrap().contains("x-mbx-apikey"));
    let asked = server.ask("OPTIONS", "/api/v3/order", &preflight("https://foe.example"), b"").await;
    assert_eq!(asked.header("access-control-allow-methods"), None);
    let open = async |path: &str, origin: &str| {
        head(&server, &format!("GET {path} HTTP/1.1\r\nHost: venue.example\r\n{UPGRADE}{origin}")).await[9..12]
            .to_owned()
    };
    for path in ["/ws/btcusdt@trade", "/ws-api/v3"] {
        assert_eq!(open(path, "").await, "101", "no browser");
        assert_eq!(open(path, "Origin: http://venue.example\r\n").await, "101", "its own page");
        assert_eq!(open(path, "Origin: https://friend.example\r\n").await, "101");
        assert_eq!(open(path, "Origin: https://foe.example\r\n").await, "403");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_log_of_requests_has_each_with_its_id_and_nothing_secret() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("access.log");
    let server = Server::start(|config| config.access_log.file = Some(file.clone())).await;
    let who = account_a();
    let query = sign(&who, "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.001&price=50000");
    let headers = format!("{}X-Request-Id: my-own-id.7\r\n", key_header(&who));
    let answer = server.ask("POST", &format!("/api/v3/order?{query}"), &headers, b"").await;
    assert_eq!((answer.status, answer.header("x-request-id")), (200, Some("my-own-id.7")));
    let refused = server.ask("GET", "/api/v3/order?symbol=NOPE", "X-Request-Id: no good\"\r\n", b"").await;
    let id = refused.header("x-request-id").unwrap().to_owned();
    assert!(!id.contains("good") && id != server.get(PING).await.header("x-request-id").unwrap(), "{id}");
    let key = server.signed(&who, "POST", "/api/v3/userDataStream", "").await;
    let key = server.ask("POST", "/api/v3/userDataStream", &key_header(&who), b"").await.body["listenKey"]
        .as_str()
        .unwrap_or_else(|| panic!("{key:?}"))
        .to_owned();
    head(&server, &format!("GET /ws/{key} HTTP/1.1\r\nHost: a\r\n{UPGRADE}")).await;
    // Moved away, it is begun anew.
    let moved = folder.path().join("access.log.1");
    let mut text = String::new();
    for _ in 0..200 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        text = std::fs::read_to_string(&file).unwrap();
        if text.contains("/ws/…") {
            break;
        }
    }
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let order = lines.iter().find(|line| line["id"] == "my-own-id.7").expect("the order");
    assert_eq!(
        (&order["method"], &order["path"], &order["status"]),
        (&json!("POST"), &json!("/api/v3/order"), &json!(200))
    );
    assert_eq!((&order["uid"], &order["address"]), (&json!(1001), &json!("127.0.0.1")));
    assert_eq!(order["sequence"].as_u64(), answer.header("x-rialto-sequence").and_then(|it| it.parse().ok()));
    assert_eq!(lines.iter().find(|line| line["id"] == id.as_str()).expect("the refusal")["code"], -2014);
    for secret in ["signature", "key-a", &key, "secret-a"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    std::fs::rename(&file, &moved).unwrap();
    for _ in 0..200 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        server.get(PING).await;
        if std::fs::metadata(&file).is_ok_and(|metadata| metadata.len() > 0) {
            break;
        }
    }
    assert!(std::fs::metadata(&file).unwrap().len() > 0);
    server.stop().await;
}

/// A certificate for `name`, signed by itself, with its key beside it.
fn write_certificate(folder: &std::path::Path, name: &str) -> rcgen::Certificate {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let write = |file: &str, text: String| {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let path = folder.join(file);
        let mut options = std::fs::OpenOptions::new();
        options
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    };
    write("key.pem", key.serialize_pem());
    write("certificate.pem", certificate.pem());
    certificate
}

/// A request over TLS by a client that trusts that certificate alone.
async fn over_tls(
    server: &Server,
    trusted: &rcgen::Certificate,
    name: &'static str,
) -> Result<tests::server::Response, String> {
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(std::sync::Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let socket = server.connect_from([127, 0, 0, 1]).await;
    let socket =
        connector.connect(ServerName::try_from(name).unwrap(), socket).await.map_err(|error| error.to_string())?;
    Ok(tests::server::ask(socket, "GET", PING, "", b"").await)
}

#[tokio::test]
async fn a_certificate_is_served_replaced_without_a_restart_and_kept_when_the_next_is_none() {
    let folder = tempfile::TempDir::new().unwrap();
    let first = write_certificate(folder.path(), "one.example");
    let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
    let server = Server::start(|config| {
        config.tls.certificate = Some(certificate.clone());
        config.tls.key = Some(key.clone());
    })
    .await;
    assert_eq!(over_tls(&server, &first, "one.example").await.unwrap().status, 200);
    assert!(over_tls(&server, &first, "two.example").await.is_err(), "another name");
    // Who speaks no TLS is not answered, and harms nobody.
    let mut plain = server.connect_from([127, 0, 0, 1]).await;
    plain.write_all(b"GET /api/v3/ping HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut received = Vec::new();
    let _ = plain.read_to_end(&mut received).await;
    assert!(!received.starts_with(b"HTTP"), "{received:?}");
    // Rubbish is not taken.
    std::fs::write(&certificate, "no certificate").unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(over_tls(&server, &first, "one.example").await.unwrap().status, 200);
    let second = write_certificate(folder.path(), "two.example");
    let mut taken = false;
    for _ in 0..100 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        taken = over_tls(&server, &second, "two.example").await.is_ok_and(|answer| answer.status == 200);
        if taken {
            break;
        }
    }
    assert!(taken);
    server.stop().await;
    // What cannot work is refused at the start.
    let mut config = Config { data: Some(folder.path().join("data")), ..Config::default() };
    config.tls.certificate = Some(certificate.clone());
    assert!(config.check().is_err());
    std::fs::write(&certificate, "no certificate").unwrap();
    config.tls.key = Some(key);
    assert!(gateway::serve::start(config, None).await.is_err());
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_who_asks_nothing_is_closed() {
    let server = Server::start(|config| {
        config.sockets.connections_per_address_max = 3;
        config.sockets.first_head_seconds_max = 1;
    })
    .await;
    let closed = async |mut socket: tokio::net::TcpStream| {
        let mut received = Vec::new();
        // Closed or reset, it ends.
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), socket.read_to_end(&mut received)).await;
        assert!(ended.is_ok() && received.is_empty(), "{received:?}");
    };
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(server.connect_from([127, 0, 0, 6]).await);
    }
    closed(server.connect_from([127, 0, 0, 6]).await).await;
    assert_eq!(server.get(PING).await.status, 200, "another address");
    // None of the three asked anything; once they are closed there is room again.
    for socket in held {
        closed(socket).await;
    }
    assert_eq!(server.ask_from([127, 0, 0, 6], "GET", PING, "", b"").await.status, 200);
    let long = format!("X-Long: {}\r\n", "x".repeat(100 << 10));
    assert_eq!(server.ask("GET", PING, &long, b"").await.status, 431);
    let many: String = (0..150).map(|number| format!("X-{number}: 1\r\n")).collect();
    assert_eq!(server.ask("GET", PING, &many, b"").await.status, 431);
    server.stop().await;
}

#[tokio::test]
async fn when_all_places_are_taken_newcomers_are_told_and_there_is_room_once_one_leaves() {
    let server = Server::start(|config| config.sockets.connections_max = 4).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut socket = server.connect_from([127, 0, 0, 1]).await;
        socket.write_all(b"GET /api/v3/ping HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(socket.read(&mut [0; 1_024]).await.unwrap() > 0);
        held.push(socket);
    }
    let refused = server.get(PING).await;
    assert_eq!((refused.outcome(), refused.header("retry-after")), ((503, -1008), Some("1")), "{refused:?}");
    // Who is in is served, and operators have a door of their own.
    held[0].write_all(b"GET /api/v3/ping HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(held[0].read(&mut [0; 1_024]).await.unwrap() > 0);
    assert_eq!(server.admin(json!({ "action": "users" })).await.0, 200);
    held.pop();
    let mut status = 503;
    for _ in 0..100 {
        status = server.get(PING).await.status;
        if status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_stop_says_goodbye_on_every_kind_of_websocket() {
    let server = Server::start(|_| {}).await;
    let mut sockets = Vec::new();
    for path in ["/ws/btcusdt@trade", "/stream?streams=btcusdt@trade", "/ws-api/v3"] {
        let url = format!("ws://{}{path}", server.address);
        sockets.push((path, tokio_tungstenite::connect_async(url).await.unwrap().0));
    }
    let stopping = tokio::spawn(server.stop());
    for (path, mut socket) in sockets {
        let (mut told, mut code) = (false, None);
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Text(text) => told |= text.contains("serverShutdown"),
                Message::Close(frame) => code = frame.map(|frame| u16::from(frame.code)),
                _ => {}
            }
        }
        assert_eq!((told, code), (true, Some(1001)), "{path}");
    }
    stopping.await.unwrap();
}
