//! A real server under more than it should bear: floods, slow and silent clients, bodies without end. The limits hold, memory
//! stays, and honest users are served.
//!
//! Times are printed and never asserted. RIALTO_OVERLOAD_SECONDS and RIALTO_IDLE_SOCKETS make the runs longer and larger.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gateway::client::{Credentials, WsApi, request, signed_request};
use serde_json::{Value, json};
use tests::exchange::{Exchange, bootstrap, credentials, number_from};
use tests::server::{ask, connect, key_header, sign};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const PING: &str = "/api/v3/ping";
/// How much a server's memory may grow under any of this, in KiB: far less than what it is sent.
const GROWTH_MAX: u64 = 96 << 10;

fn server_address(exchange: &Exchange) -> SocketAddr {
    exchange.address().to_string().parse().unwrap()
}

/// What the process holds in memory, in KiB.
fn memory(exchange: &Exchange) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", exchange.process_id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn metric(exchange: &Exchange, name: &str) -> u64 {
    let socket = connect(server_address(exchange), [127, 0, 0, 1]).await;
    let page = ask(socket, "GET", "/metrics", "", b"").await.text;
    let line = page.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("{name} in {page}")).split(' ').nth(1).unwrap().parse().unwrap()
}

/// The address number `index` of this machine, from 127.1.0.0 on.
fn address(index: usize) -> [u8; 4] {
    [127, 1, (index >> 8) as u8, index as u8]
}

fn percentile(times: &mut [u64], part: f64) -> u64 {
    times.sort_unstable();
    times.get(((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1))).copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_from_many_keys_and_addresses_is_held_to_its_limits_and_honest_users_trade_on() {
    const FLOODERS: usize = 40;
    const PER_SECOND: u32 = 20;
    const BURST: u32 = 40;
    let settings = format!(
        "refusals_before_ban = 0\n[limits.address]\ncredits_per_second = {PER_SECOND}\ncredits_max = {BURST}\n\
         [[limits.endpoint]]\nmethod = \"POST\"\npath = \"/api/v3/order/test\"\ncredits_per_second = 20\ncredits_max = 40\n\
"
    );
    let exchange = Exchange::with_settings(&bootstrap(FLOODERS + 2, "0", "0"), &settings, &[]);
    let seconds = number_from("RIALTO_OVERLOAD_SECONDS").unwrap_or(3);
    let quiet = run_for(&exchange, seconds, 0).await;
    let before = memory(&exchange);
    let flooded = run_for(&exchange, seconds, FLOODERS).await;
    let after = memory(&exchange);

    let Run { mut honest, passed, offered, took } = flooded;
    let mut alone = quiet.honest;
    println!(
        "honest orders, µs: alone p50 {} p99 {}; under a flood p50 {} p99 {}\n\
         flood: {FLOODERS} addresses and keys, {offered} requests in {took:?} ({:.0}/s), {passed} passed; memory {before} -> {after} KiB",
        percentile(&mut alone, 0.5),
        percentile(&mut alone, 0.99),
        percentile(&mut honest, 0.5),
        percentile(&mut honest, 0.99),
        offered as f64 / took.as_secs_f64(),
    );
    let most = FLOODERS as u64 * (u64::from(BURST) + u64::from(PER_SECOND) * (took.as_secs() + 2));
    assert!(passed <= most, "{passed} passed, at most {most} may");
    assert!(passed > 0 && offered > 2 * passed, "it was a flood");
    assert!(honest.len() > 10, "honest users trade");
    assert!(after < before + GROWTH_MAX, "memory grew from {before} to {after} KiB");
}

struct Run {
    /// How long each order of the honest users took, in microseconds.
    honest: Vec<u64>,
    passed: u64,
    offered: u64,
    took: Duration,
}

/// An honest user trades for so long while so many others ask ten times what they may, each from an address of its own and
/// with a key of its own.
async fn run_for(exchange: &Exchange, seconds: u64, flooders: usize) -> Run {
    let stop = Arc::new(AtomicBool::new(false));
    let (passed, offered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut floods = JoinSet::new();
    let started = Instant::now();
    for flooder in 0..flooders {
        let (stop, passed, offered) = (stop.clone(), passed.clone(), offered.clone());
        let (server, who) = (server_address(exchange), credentials(flooder + 3));
        floods.spawn(async move {
            let mut socket = connect(server, address(flooder)).await;
            while !stop.load(Ordering::Relaxed) {
                let query = sign(&who, "symbol=BTCUSD&side=BUY&type=MARKET&quantity=1");
                let request =
                    format!("POST /api/v3/order/test?{query} HTTP/1.1\r\nHost: a\r\n{}\r\n", key_header(&who));
                offered.fetch_add(1, Ordering::Relaxed);
                if status_of(&mut socket, &request).await == 200 {
                    passed.fetch_add(1, Ordering::Relaxed);
                }
                // Two hundred a second each: ten times what it may.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    let timer = async {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        stop.store(true, Ordering::Relaxed);
    };
    let prefix = format!("h{flooders}");
    let one = credentials(1);
    let ((), honest) = tokio::join!(timer, trade_slowly(exchange, &one, &stop, &prefix));
    while floods.join_next().await.is_some() {}
    let (passed, offered) = (passed.load(Ordering::Relaxed), offered.load(Ordering::Relaxed));
    Run { honest, passed, offered, took: started.elapsed() }
}

/// A bid that meets nothing and is gone at once.
fn bid() -> [(&'static str, Value); 6] {
    [
        ("symbol", json!("BTCUSD")),
        ("side", json!("BUY")),
        ("type", json!("LIMIT")),
        ("timeInForce", json!("IOC")),
        ("quantity", json!("0.001")),
        ("price", json!("10")),
    ]
}

/// An honest user below the limit of its address: ten orders a second.
async fn trade_slowly(exchange: &Exchange, who: &Credentials, stop: &AtomicBool, prefix: &str) -> Vec<u64> {
    let mut socket = WsApi::connect(exchange.address()).await.expect("an honest user is let in");
    let mut times = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    for id in 0.. {
        tick.tick().await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let order = [&bid()[..], &[("newClientOrderId", json!(format!("{prefix}-{id}")))]].concat();
        let started = Instant::now();
        let answer = socket.call(id, signed_request(id, "order.place", &order, who)).await.expect("an answer");
        times.push(started.elapsed().as_micros() as u64);
        assert!(answer.is_success(), "an honest user is refused: {answer:?}");
    }
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_take_every_connection_leave_the_node_the_files_it_writes_to() {
    const FILES_MAX: u64 = 512;
    let settings =
        "raw_requests_per_5_minutes = 0\nconnections_per_5_minutes = 0\n[journal]\nsnapshot_every_commands = 50\n";
    let exchange = Exchange::with_few_files(FILES_MAX, &bootstrap(1, "0", "0"), settings).expect("so many are enough");
    let server = server_address(&exchange);
    let mut trader = WsApi::connect(exchange.address()).await.expect("it is the first");
    let (mut held, mut refused) = (Vec::new(), 0);
    for index in 0..FILES_MAX as usize {
        let mut socket = connect(server, address(index)).await;
        match status_of(&mut socket, "GET /api/v3/ping HTTP/1.1\r\nHost: a\r\n\r\n").await {
            200 => held.push(socket),
            status => {
                assert_eq!(status, 503);
                refused += 1;
            }
        }
    }
    println!("{} connections were taken and {refused} refused", held.len());
    assert!(held.len() > 100 && refused > 0);
    let snapshots = || std::fs::read_dir(exchange.data().join("snapshots")).unwrap().flatten().map(|file| file.path());
    let mut newest = snapshots().max();
    // Three of them one after the other, each a new file.
    for round in 0..3 {
        let started = Instant::now();
        for id in 0.. {
            let answer = trader.call(id, signed_request(id, "order.place", &bid(), &credentials(1))).await;
            assert!(answer.expect("an answer").is_success());
            let now = snapshots().filter(|file| file.extension().is_none_or(|extension| extension != "tmp")).max();
            if now != newest {
                newest = now;
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "no snapshot {round}: {}", exchange.stderr());
        }
    }
    drop(held);
}

#[test]
fn with_too_few_files_for_the_node_alone_it_says_so_and_does_not_start() {
    let refused = Exchange::with_few_files(256, &bootstrap(1, "0", "0"), "").err().expect("too few");
    assert!(refused.contains("too few files: this process may have 256 files open"), "{refused}");
}

/// The status of an answer on a connection that stays open.
async fn status_of(socket: &mut TcpStream, request: &str) -> u16 {
    socket.write_all(request.as_bytes()).await.expect("the server listens");
    let mut received = Vec::new();
    loop {
        assert!(socket.read_buf(&mut received).await.expect("an answer") > 0, "the server closed");
        let text = String::from_utf8_lossy(&received);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_and_bodies_end_and_others_are_served_meanwhile() {
    let settings = "[sockets]\nfirst_head_seconds_max = 1\nhead_seconds_max = 2\nbody_seconds_max = 2\n";
    let exchange = Exchange::with_settings(&bootstrap(1, "0", "0"), settings, &[]);
    let server = server_address(&exchange);
    let starts = [
        // Nothing, half a head, a head and half a body, a second head that never ends.
        "",
        "GET /api/v3/ping HTTP/1.1\r\nHost: a\r\nX-Slow: ",
        "POST /api/v3/order HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsymbol=",
        "GET /api/v3/ping HTTP/1.1\r\nHost: a\r\n\r\nGET /api",
    ];
    let mut slow = JoinSet::new();
    for index in 0..400 {
        let start = starts[index % starts.len()];
        slow.spawn(async move {
            let mut socket = connect(server, address(index)).await;
            socket.write_all(start.as_bytes()).await.unwrap();
            let began = Instant::now();
            let mut received = [0; 1_024];
            // A byte now and then, until the server has enough of it.
            loop {
                match tokio::time::timeout(Duration::from_millis(300), socket.read(&mut received)).await {
                    Ok(Ok(0) | Err(_)) => return began.elapsed(),
                    Ok(Ok(_)) => {}
                    // A silent one that found the system's queue full is connected on this side alone, until it speaks.
                    Err(_) if !start.is_empty() || began.elapsed() > Duration::from_secs(5) => {
                        drop(socket.write_all(b"x").await);
                    }
                    Err(_) => {}
                }
                assert!(began.elapsed() < Duration::from_secs(30), "never closed: {start:?}");
            }
        });
    }
    let mut served = 0;
    while !slow.is_empty() {
        let answer = ask(connect(server, [127, 0, 0, 1]).await, "GET", PING, "", b"").await;
        assert_eq!(answer.status, 200);
        served += 1;
        while let Some(closed) = slow.try_join_next() {
            closed.expect("the server closes it");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{served} requests were answered meanwhile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_sockets_cost_little_and_a_message_still_finds_them() {
    let count = number_from("RIALTO_IDLE_SOCKETS").unwrap_or(1_500) as usize;
    // The other ends of them are here.
    journal::open_files::raise();
    let settings = "raw_requests_per_5_minutes = 0\nconnections_per_5_minutes = 0\n";
    let exchange = Exchange::with_settings(&bootstrap(2, "0", "0"), settings, &[]);
    let server = server_address(&exchange);
    let before = memory(&exchange);
    let mut idle = Vec::new();
    for index in 0..count {
        let mut socket = connect(server, address(index)).await;
        let lines = "GET /ws/btcusd@trade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        socket.write_all(lines.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\n") {
            assert!(socket.read_buf(&mut received).await.unwrap() > 0, "socket {index} was closed");
        }
        assert!(received.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&received));
        idle.push(socket);
    }
    let after = memory(&exchange);
    println!("{count} idle sockets: {:.1} KiB each", (after - before) as f64 / count as f64);
    assert_eq!(metric(&exchange, "rialto_sockets").await, count as u64);
    assert!(after < before + GROWTH_MAX / 2 + 24 * count as u64, "from {before} to {after} KiB");
    // A trade reaches the first and the last.
    for (account, side) in [(1, "SELL"), (2, "BUY")] {
        let mut socket = WsApi::connect(exchange.address()).await.unwrap();
        let order = [
            ("symbol", json!("BTCUSD")),
            ("side", json!(side)),
            ("type", json!("LIMIT")),
            ("timeInForce", json!("GTC")),
            ("quantity", json!("1")),
            ("price", json!("100")),
        ];
        let answer = socket.call(1, signed_request(1, "order.place", &order, &credentials(account))).await.unwrap();
        assert!(answer.is_success(), "{answer:?}");
    }
    for at in [0, count - 1] {
        let mut received = Vec::new();
        while !String::from_utf8_lossy(&received).contains(r#""e":"trade""#) {
            let read = tokio::time::timeout(Duration::from_secs(20), idle[at].read_buf(&mut received)).await;
            assert!(read.expect("the trade comes").unwrap() > 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_without_end_deep_json_and_packed_bombs_are_refused_and_kept_nowhere() {
    let exchange = Exchange::start(&bootstrap(1, "0", "0"), &[]);
    let server = server_address(&exchange);
    let before = memory(&exchange);
    // A body of a gigabyte, by length and in chunks: the server reads some, refuses, and closes.
    for head in ["Content-Length: 1073741824\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"] {
        let mut socket = connect(server, [127, 0, 0, 1]).await;
        let lines = format!("POST /api/v3/order HTTP/1.1\r\nHost: a\r\n{head}");
        socket.write_all(lines.as_bytes()).await.unwrap();
        let chunked = head.starts_with("Transfer");
        let piece =
            if chunked { [&b"100000\r\n"[..], &[b'a'; 1 << 20], b"\r\n"].concat() } else { vec![b'a'; 1 << 20] };
        let mut sent = 0_u64;
        while sent < 1 << 30 && socket.write_all(&piece).await.is_ok() {
            sent += 1 << 20;
        }
        println!("{} MiB were taken", sent >> 20);
        assert!(sent < 1 << 30, "the whole gigabyte was taken");
    }
    // Every way in is open again, and nothing of it was kept.
    let answer = ask(connect(server, [127, 0, 0, 1]).await, "GET", PING, "", b"").await;
    assert_eq!(answer.status, 200);

    let mut socket = tests::socket::Socket::connect(exchange.address(), "/ws-api/v3").await;
    let deep = "[".repeat(30_000);
    for text in [
        deep.clone(),
        format!(r#"{{"id":1,"method":"ping","params":{{"a":{deep}}}}}"#),
        format!(r#"{{"id":{deep}}}"#),
        "{\"a\":".repeat(10_000),
        format!(r#"{{"id":1,"method":"{}"}}"#, "\\u0000".repeat(9_000)),
        format!(r#"{{"id":1,"method":"ping","params":{{"n":{}}}}}"#, "9".repeat(60_000)),
    ] {
        socket.send(text).await;
        let answer = socket.next().await;
        assert!(answer["status"].as_u64().is_some_and(|status| (400..500).contains(&status)), "{answer}");
    }
    socket.send(request(7, "ping", &[])).await;
    assert_eq!(socket.next().await["status"], 200);
    let body = deep.clone();
    let socket = connect(server, [127, 0, 0, 1]).await;
    assert_eq!(ask(socket, "POST", "/rialto/v1/login", "", &body.as_bytes()[..4_000]).await.status, 400);

    // What says it is packed is read as it came.
    let socket = connect(server, [127, 0, 0, 1]).await;
    let bomb = ask(socket, "POST", "/api/v3/order", "Content-Encoding: gzip\r\n", &[0x1f, 0x8b, 8, 0, 0]).await;
    assert_eq!(bomb.status, 400, "{bomb:?}");
    // A message that would unpack to fifty megabytes is unpacked no further than a message may be long.
    let mut socket = upgraded(server, "Sec-WebSocket-Extensions: permessage-deflate\r\n").await;
    let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&vec![b'a'; 50 << 20]).unwrap();
    let packed = packed.finish().unwrap();
    let length = u16::try_from(packed.len()).expect("fifty megabytes pack into one frame");
    let head = [&[0xc1, 0xfe][..], &length.to_be_bytes(), &[0; 4]].concat();
    socket.write_all(&[head, packed].concat()).await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut rest)).await.expect("it is closed");
    assert_eq!((rest[0], &rest[2..4]), (0x88, &1009_u16.to_be_bytes()[..]), "closed as too long");

    let mut socket = upgraded(server, "").await;
    // One message of many pieces is too long, however small the pieces.
    let mut closed = false;
    for _ in 0..200 {
        let mut frame = vec![0x01, 0xfe, 0x10, 0x00, 0, 0, 0, 0];
        frame.resize(8 + 4_096, b'a');
        closed = socket.write_all(&frame).await.is_err();
        if closed {
            break;
        }
    }
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut rest)).await;
    assert!(closed || ended.is_ok(), "it goes on listening");
    let after = memory(&exchange);
    assert!(after < before + GROWTH_MAX, "memory grew from {before} to {after} KiB");
}

/// A websocket for streams, by hand.
async fn upgraded(server: SocketAddr, headers: &str) -> TcpStream {
    let mut socket = connect(server, [127, 0, 0, 1]).await;
    let lines = format!(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    socket.write_all(lines.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\n") {
        assert!(socket.read_buf(&mut received).await.unwrap() > 0);
    }
    let agreed = String::from_utf8_lossy(&received).to_lowercase().contains("sec-websocket-extensions");
    assert_eq!(agreed, !headers.is_empty(), "what is offered is agreed on, and nothing else");
    socket
}
