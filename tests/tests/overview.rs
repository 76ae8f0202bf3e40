//! What operators see from one place, on a real server: the overview and /metrics are the same numbers, slow sockets are named and
//! can be ended, and what operators do is told there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engine::SymbolId;
use gateway::admin::overview;
use gateway::metrics;
use gateway::samples::Samples;
use gateway::ws::hub::Topic;
use journal::{ClusterStatus, MemberStatus, Role};
use serde_json::{Value, json};
use tests::cluster::Cluster;
use tests::exchange::{binary, bootstrap};
use tests::server::{Response, Server, account_a, account_b, ask, connect, limit};
use tests::socket::Socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// How long something that must come may take.
const PATIENCE: Duration = Duration::from_secs(30);
const PATH: &str = "/admin/v1/overview";

async fn admin_get(server: &Server, path: &str, token: &str) -> Response {
    let socket = connect(server.admin_address(), [127, 0, 0, 1]).await;
    let headers = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    ask(socket, "GET", path, &headers, b"").await
}

fn token(server: &Server) -> String {
    std::fs::read_to_string(server.data().join("admin.token")).unwrap().trim().to_owned()
}

async fn overview(server: &Server) -> Value {
    admin_get(server, PATH, &token(server)).await.good()
}

/// The overview as soon as it is as wanted.
async fn overview_when(server: &Server, wanted: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let seen = overview(server).await;
        if wanted(&seen) {
            return seen;
        }
        assert!(Instant::now() < until, "{seen:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn done(server: &Server, action: Value) -> Value {
    let (status, answer) = server.admin(action.clone()).await;
    assert_eq!(status, 200, "{action}: {answer}");
    answer
}

/// Trades, refusals, a listener, and two orders that rest.
async fn some_life(server: &Server) -> Socket {
    let (a, b) = (account_a(), account_b());
    let mut socket = Socket::connect(&server.address, "/stream?streams=btcusdt@trade/btcusdt@bookTicker").await;
    socket.ask(json!({ "method": "LIST_SUBSCRIPTIONS", "id": 1 })).await;
    server.order(&a, &limit("SELL", "0.5", "50000.10")).await.good();
    server.order(&b, &limit("BUY", "0.2", "50000.10")).await.good();
    server.order(&b, &limit("BUY", "0.2", "49999.05")).await.good();
    server.order(&b, &limit("BUY", "0.2", "50000.105")).await.refused(400, -1013, "");
    server.get("/api/v3/depth").await.refused(400, -1102, "");
    server.get("/api/v3/depth?symbol=NOPE").await.refused(400, -1121, "");
    socket.find(|event| event["data"]["e"] == "trade").await;
    socket
}

#[tokio::test]
async fn the_overview_is_for_operators_alone() {
    let server = Server::start(|_| {}).await;
    for wrong in ["", "x", &"0".repeat(64)] {
        let answer = admin_get(&server, PATH, wrong).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        assert_eq!(answer.body.as_object().unwrap().keys().collect::<Vec<_>>(), ["error"], "no data");
    }
    for (name, role, status) in [("ann", "trader", 403), ("otto", "operator", 200)] {
        let uid = (role == "trader").then_some(1001);
        done(
            &server,
            json!({ "action": "set-user", "name": name, "role": role, "uid": uid, "password": "a long password" }),
        )
        .await;
        let body = json!({ "name": name, "password": "a long password" }).to_string();
        let pair = server.ask("POST", "/rialto/v1/login", "", body.as_bytes()).await.good();
        let answer = admin_get(&server, PATH, pair["accessToken"].as_str().unwrap()).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.body["sequence"].is_u64(), status == 200);
    }
    // The clients' port has no such thing.
    assert_eq!(
        server.ask("GET", PATH, &format!("Authorization: Bearer {}\r\n", token(&server)), b"").await.status,
        404
    );
    let answer = admin_get(&server, PATH, &token(&server)).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    server.stop().await;
}

#[tokio::test]
async fn the_console_is_there_without_a_token_and_holds_no_data() {
    let server = Server::start(|_| {}).await;
    let page = admin_get(&server, "/", "").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!page.text.contains("BTCUSDT"), "{}", page.text);
    // The clients' port has the trading page there, and nothing of the console.
    let trading = server.get("/").await;
    assert_ne!(trading.text, page.text);
    let script = page.text.split("src=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert_eq!(admin_get(&server, script, "").await.status, 200);
    assert_eq!(server.get(script).await.status, 404);
    server.stop().await;
}

#[tokio::test]
async fn the_overview_tells_how_everything_stands() {
    let server = Server::start(|_| {}).await;
    let _listening = some_life(&server).await;
    // History and the measuring of an answer come after it; every order counts, the refused one too.
    let is_settled = |seen: &Value| {
        seen["journal"]["historyLag"] == 0
            && seen["stages"][6]["count"] == 4
            && seen["sockets"]["slowest"][0]["behind"] == 0
    };
    let seen = overview_when(&server, is_settled).await;
    let sequence = server.app().outlets.views.sequence().0;
    assert_eq!((seen["sequence"].as_u64(), seen["appliedSequence"].as_u64()), (Some(sequence), Some(sequence)));
    assert_eq!((&seen["role"], &seen["node"], &seen["ready"]), (&json!("leader"), &json!(1), &json!(true)));
    assert_eq!((&seen["conserved"], &seen["reconciliation"]["state"]), (&json!(true), &json!("ok")));
    assert_eq!((&seen["cluster"], &seen["haltedAll"]), (&Value::Null, &json!(false)));
    assert_eq!(seen["publicUrl"], format!("http://{}", server.address));
    let symbol = &seen["symbols"][0];
    let age = symbol["lastTradeAgeMs"].as_u64().unwrap();
    assert!(age < 600_000, "{symbol}");
    let mut symbol = symbol.clone();
    symbol.as_object_mut().unwrap().remove("lastTradeAgeMs");
    assert_eq!(
        symbol,
        json!({
            "symbol": "BTCUSDT", "status": "TRADING", "orders": 3, "trades": 1, "restingOrders": 2,
            "bid": "49999.05000000", "ask": "50000.10000000", "spread": "1.05000000",
        })
    );
    let stages = seen["stages"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["receive", "sequence", "replicate", "engine", "publish", "answer", "total", "sync"]);
    let total = &stages[6];
    assert!(0 < total["p50Us"].as_u64().unwrap() && total["p50Us"].as_u64() <= total["p999Us"].as_u64(), "{total}");
    let names: Vec<&str> = seen["queues"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!((names.len(), names[0]), (21, "lane 0"));
    assert_eq!(names[16..], ["sequencer", "log writer", "engine", "history", "feed"]);
    for queue in seen["queues"].as_array().unwrap() {
        assert!(queue["bound"].as_u64() > Some(0) && queue["depth"].as_u64() <= queue["bound"].as_u64(), "{queue}");
    }
    let row = |code: i64| json!({ "code": code, "count": 1, "total": 1 });
    assert_eq!(seen["rejects"], json!([row(-1121), row(-1102), row(-1013)]));
    let sockets = &seen["sockets"];
    assert_eq!((&sockets["open"], &sockets["subscriptions"]), (&json!(1), &json!(2)));
    assert_eq!(
        sockets["byStream"],
        json!([{ "stream": "bookTicker", "subscriptions": 1 }, { "stream": "trade", "subscriptions": 1 }])
    );
    let slowest = &sockets["slowest"][0];
    assert!(slowest["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{slowest}");
    assert_eq!((&slowest["streams"], &slowest["behind"]), (&json!(2), &json!(0)));
    server.stop().await;
}

/// `name{label="value"}` and what it is.
fn samples_of(page: &str) -> BTreeMap<&str, &str> {
    page.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap()).collect()
}

/// Every number that the overview and the page of metrics share: as the overview has it, and the name it has on the page.
fn shared(seen: &Value) -> Vec<(Value, String)> {
    let mut pairs: Vec<(Value, String)> = [
        ("/uptimeSeconds", "rialto_uptime_seconds"),
        ("/ready", "rialto_ready"),
        ("/sequence", "rialto_sequence"),
        ("/appliedSequence", "rialto_applied_sequence"),
        ("/conserved", "rialto_conserved"),
        ("/journal/logIndex", "rialto_log_index"),
        ("/journal/logBytes", "rialto_log_bytes_total"),
        ("/journal/logSyncs", "rialto_log_syncs_total"),
        ("/journal/logSyncNs", "rialto_log_sync_nanoseconds_total"),
        ("/journal/snapshots", "rialto_snapshots_total"),
        ("/journal/historyWatermark", "rialto_history_watermark"),
        ("/journal/historyLag", "rialto_history_lag_commands"),
        ("/journal/diskFreeBytes", "rialto_disk_free_bytes"),
        ("/journal/diskLow", "rialto_disk_low"),
        ("/sockets/open", "rialto_sockets"),
        ("/sockets/subscriptions", "rialto_stream_subscriptions"),
        ("/sockets/messages", "rialto_stream_messages_total"),
        ("/sockets/conflated", "rialto_stream_messages_conflated_total"),
    ]
    .map(|(pointer, name)| (seen.pointer(pointer).unwrap_or(&Value::Null).clone(), name.to_owned()))
    .into();
    let rows = |pointer: &str| seen.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut each = |pointer: &str, label: (&str, &str), numbers: &[(&str, &str)]| {
        for row in rows(pointer) {
            let of = row[label.0].as_str().map_or_else(|| row[label.0].to_string(), str::to_owned);
            for (field, name) in numbers {
                pairs.push((row[*field].clone(), format!("{name}{{{}=\"{of}\"}}", label.1)));
            }
        }
    };
    each("/queues", ("name", "queue"), &[("depth", "rialto_queue_depth"), ("bound", "rialto_queue_bound")]);
    each("/sockets/byStream", ("stream", "stream"), &[("subscriptions", "rialto_stream_kind_subscriptions")]);
    each("/rejects", ("code", "code"), &[("total", "rialto_errors_total")]);
    each(
        "/symbols",
        ("symbol", "symbol"),
        &[
            ("orders", "rialto_symbol_orders_total"),
            ("trades", "rialto_symbol_trades_total"),
            ("restingOrders", "rialto_symbol_open_orders"),
        ],
    );
    each(
        "/cluster/members",
        ("node", "node"),
        &[("lagEntries", "rialto_cluster_member_lag_entries"), ("reachable", "rialto_cluster_member_reachable")],
    );
    for (reason, count) in seen["sockets"]["slowDisconnects"].as_object().into_iter().flatten() {
        pairs.push((count.clone(), format!("rialto_slow_disconnects_total{{reason=\"{reason}\"}}")));
    }
    for row in rows("/symbols") {
        let name = row["symbol"].as_str().unwrap_or_default();
        pairs.push((json!(row["status"] == "TRADING"), format!("rialto_symbol_trading{{symbol=\"{name}\"}}")));
    }
    for row in rows("/threads") {
        let (name, busy) = (row["name"].as_str().unwrap_or_default(), row["busyNs"].as_u64().unwrap_or_default());
        let seconds = format!("{}.{:09}", busy / 1_000_000_000, busy % 1_000_000_000);
        pairs.push((json!(seconds), format!("rialto_thread_cpu_seconds_total{{thread=\"{name}\"}}")));
    }
    pairs
}

/// A number as the page writes it.
fn plain(value: &Value) -> String {
    match value {
        Value::Bool(is) => u8::from(*is).to_string(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// The numbers of the overview that are other ones on the page.
fn differing(seen: &Value, page: &str) -> Vec<String> {
    let samples = samples_of(page);
    let differs = |(value, name): &(Value, String)| samples.get(name.as_str()).copied() != Some(&*plain(value));
    let pairs = shared(seen);
    assert!(pairs.len() > 60, "{seen:#}");
    pairs
        .iter()
        .filter(|pair| differs(pair))
        .map(|(value, name)| format!("{name}: {value}, {:?}", samples.get(name.as_str())))
        .collect()
}

#[tokio::test]
async fn overview_and_metrics_of_the_same_samples_agree_in_every_number_they_share() {
    let server = Server::start(|_| {}).await;
    let _listening = some_life(&server).await;
    let app = server.app();
    let samples = Samples::take(&app);
    let seen = overview::tell(&samples, &app.sockets.slowest(&app.outlets.hub.behind(), 10, 0), &[]);
    assert_eq!(differing(&seen, &metrics::render(&samples)), [""; 0]);
    server.stop().await;
}

#[tokio::test]
async fn overview_and_metrics_over_the_wire_agree_while_nothing_happens() {
    let server = Server::start(|_| {}).await;
    let _listening = some_life(&server).await;
    // What goes on by itself, such as time, room on the disk and work of threads, may change between two questions.
    let restless =
        ["rialto_uptime_seconds", "rialto_disk_free_bytes", "rialto_thread_cpu_seconds_total", "rialto_log_"];
    let until = Instant::now() + PATIENCE;
    loop {
        let seen = overview(&server).await;
        let page = admin_get(&server, "/metrics", "").await.text;
        let differing = differing(&seen, &page);
        let wrong: Vec<_> =
            differing.iter().filter(|line| !restless.iter().any(|name| line.starts_with(name))).collect();
        if wrong.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "{wrong:#?}");
    }
    server.stop().await;
}

/// A websocket that never reads what it is sent, with little room on its side.
async fn never_reads(server: &Server, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut socket = socket.connect(server.address.to_string().parse().unwrap()).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 64];
    let read = socket.read(&mut head).await.unwrap();
    assert!(head[..read].starts_with(b"HTTP/1.1 101"), "{:?}", String::from_utf8_lossy(&head[..read]));
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_named_and_can_be_ended_and_the_others_keep_up() {
    let server = Server::start(|_| {}).await;
    let app = server.app();
    let mut quick = Socket::connect(&server.address, "/ws/btcusdt@trade").await;
    let slow = never_reads(&server, "/ws/btcusdt@trade").await;
    let slow_address = slow.local_addr().unwrap().to_string();
    overview_when(&server, |seen| seen["sockets"]["subscriptions"] == 2).await;

    // Trades of a size that fills the system's buffers, one at a time, as the other reads them.
    let trade: String = format!("{{\"e\":\"trade\",\"x\":\"{}\"}}", "x".repeat(128 << 10));
    let until = Instant::now() + PATIENCE;
    let seen = loop {
        for _ in 0..8 {
            app.outlets.hub.publish(Topic::Trade(SymbolId(0)), |_| vec![trade.as_str().into()]);
            quick.next().await;
        }
        let seen = overview(&server).await;
        if seen["sockets"]["slowest"][0]["behind"].as_u64() > Some(0) {
            break seen;
        }
        assert!(Instant::now() < until, "{:#}", seen["sockets"]);
    };
    assert_eq!(seen["sockets"]["slowest"][0]["address"], slow_address);
    // What the other has read it may be told of a moment later.
    let others_keep_up = |seen: &Value| {
        let slowest = &seen["sockets"]["slowest"];
        slowest[0]["address"] == *slow_address && slowest[1]["behind"] == 0 && slowest[1]["lagMs"] == 0
    };
    let seen = overview_when(&server, others_keep_up).await;
    let slowest = &seen["sockets"]["slowest"];
    let id = slowest[0]["id"].as_u64().unwrap();
    overview_when(&server, |seen| seen["sockets"]["slowest"][0]["lagMs"].as_u64() > Some(50)).await;

    done(&server, json!({ "action": "disconnect", "id": id })).await;
    let seen = overview_when(&server, |seen| seen["sockets"]["open"] == 1).await;
    assert_ne!(seen["sockets"]["slowest"][0]["id"], id);
    let line = &seen["audit"][0];
    assert_eq!((&line["sequence"], &line["operator"], &line["ok"]), (&Value::Null, &json!("ann"), &json!(true)));
    assert_eq!(line["action"], format!(r#"{{"action":"disconnect","id":{id}}}"#));
    let (status, _) = server.admin(json!({ "action": "disconnect", "id": id })).await;
    assert_eq!(status, 404, "it is gone");
    // One that reads is told why.
    let id = seen["sockets"]["slowest"][0]["id"].as_u64().unwrap();
    done(&server, json!({ "action": "disconnect", "id": id })).await;
    assert_eq!(quick.close_code().await, Some(1008));
    server.stop().await;
}

#[tokio::test]
async fn what_operators_do_and_may_not_do_is_told_newest_first() {
    let server = Server::start(|_| {}).await;
    done(&server, json!({ "action": "set-status", "symbol": "BTCUSDT", "status": "CANCEL_ONLY" })).await;
    let (status, _) = server.admin(json!({ "action": "set-status", "symbol": "NOPE", "status": "HALT" })).await;
    assert_eq!(status, 404);
    // The engine refuses this one, so it stands in the log.
    let (status, _) = server.admin(json!({ "action": "add-asset", "name": "BTC", "scale": 8 })).await;
    assert_eq!(status, 409);
    done(&server, json!({ "action": "keys" })).await;
    let audit = overview(&server).await["audit"].as_array().unwrap().clone();
    let told: Vec<_> = audit
        .iter()
        .map(|line| {
            let action: Value = serde_json::from_str(line["action"].as_str().unwrap()).unwrap();
            (action["action"].as_str().unwrap().to_owned(), line["sequence"].is_u64(), line["ok"] == true)
        })
        .collect();
    let line = |action: &str, is_logged, is_done| (action.to_owned(), is_logged, is_done);
    assert_eq!(
        told,
        [line("add-asset", true, false), line("set-status", false, false), line("set-status", true, true)],
        "questions are none of it"
    );
    assert_eq!((&audit[0]["operator"], &audit[0]["origin"]), (&json!("ann"), &json!("127.0.0.1")));
    // What the log has is known again after a restart.
    let server = server.restart(|_| {}).await;
    let audit = overview(&server).await["audit"].as_array().unwrap().clone();
    assert_eq!(audit.len(), 2, "{audit:?}");
    server.stop().await;
}

fn member(node: u64, role: Role, applied_index: u64, trouble: Option<&str>) -> MemberStatus {
    MemberStatus {
        node,
        address: format!("host-{node}:7081"),
        role,
        voter: true,
        applied_sequence: applied_index * 2,
        applied_index,
        log_index: applied_index,
        state_hash: Default::default(),
        trouble: trouble.map(str::to_owned),
        version: String::new(),
    }
}

#[test]
fn what_is_wrong_with_the_books_or_with_a_node_stands_in_the_reconciliation() {
    let told = |is_conserved, trouble| {
        let members = vec![
            member(1, Role::Leader, 90, None),
            member(2, Role::Follower, 88, trouble),
            member(3, Role::Learner, 90, None),
        ];
        let cluster = Some(ClusterStatus { asked: 2, term: 7, leader: Some(1), members });
        Samples { is_conserved, cluster, ..Samples::default() }
    };
    let differs = Some("its state differs at log entry 64");
    for (samples, state) in [
        (told(true, None), "ok"),
        (told(true, Some("it does not answer")), "ok"),
        (told(true, differs), "fenced"),
        (told(false, differs), "broken"),
    ] {
        let seen = overview::tell(&samples, &[], &[]);
        assert_eq!(seen["reconciliation"]["state"], state, "{seen:#}");
        assert_eq!(seen["reconciliation"]["detail"].as_str().unwrap().contains("log entry 64"), state == "fenced");
        assert_eq!((&seen["node"], &seen["role"]), (&json!(2), &json!("follower")));
        assert_eq!((&seen["cluster"]["leader"], &seen["cluster"]["term"]), (&json!(1), &json!(7)));
        let second = &seen["cluster"]["members"][1];
        assert_eq!((&second["lagEntries"], &second["isThis"]), (&json!(2), &json!(true)));
        let page = metrics::render(&samples);
        let page = samples_of(&page);
        for (value, name) in shared(&seen) {
            assert_eq!(page.get(name.as_str()).copied(), Some(&*plain(&value)), "{name}");
        }
    }
}

/// What `rialto admin` says of a node of a cluster.
fn ask_node(cluster: &Cluster, node: u64, words: &[&str]) -> Value {
    let output = std::process::Command::new(binary())
        .args(["admin", "--json", "--operator", "ann", "--data"])
        .arg(cluster.data(node))
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["result"].clone()
}

fn node_when(cluster: &Cluster, node: u64, wanted: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let seen = ask_node(cluster, node, &["overview"]);
        if wanted(&seen) {
            return seen;
        }
        assert!(Instant::now() < until, "{seen:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn every_node_of_a_cluster_tells_of_all_and_of_what_operators_did_at_any() {
    let mut cluster = Cluster::start(3, &bootstrap(2, "0", "0"), "");
    cluster.wait_agreed(&[1, 2, 3]);
    let leader = cluster.wait_leader(&[1, 2, 3]);
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|node| *node != leader).collect();
    for node in [1, 2, 3] {
        let is_all_there = |seen: &Value| {
            let members = seen["cluster"]["members"].as_array().cloned().unwrap_or_default();
            members.len() == 3 && members.iter().all(|member| member["reachable"] == true)
        };
        let seen = node_when(&cluster, node, is_all_there);
        assert_eq!((&seen["node"], &seen["cluster"]["leader"]), (&json!(node), &json!(leader)));
        assert_eq!(seen["role"], if node == leader { "leader" } else { "follower" });
        assert_eq!(seen["reconciliation"]["state"], "ok", "{seen:#}");
        for member in seen["cluster"]["members"].as_array().unwrap() {
            assert_eq!(member["isThis"], member["node"] == node);
            assert_eq!(member["role"] == "leader", member["node"] == leader);
        }
    }
    // Asked of a follower, done by all, and told by all.
    assert_eq!(ask_node(&cluster, others[0], &["halt-all", "--reason", "drill"])["symbols"], json!(["BTCUSD"]));
    for node in [1, 2, 3] {
        let seen = node_when(&cluster, node, |seen| seen["haltedAll"] == true);
        assert_eq!((&seen["audit"][0]["reason"], &seen["audit"][0]["ok"]), (&json!("drill"), &json!(true)));
    }
    cluster.kill(others[1]);
    let is_gone = |seen: &Value| seen["cluster"]["members"][others[1] as usize - 1]["reachable"] == false;
    let seen = node_when(&cluster, leader, is_gone);
    assert_eq!(seen["reconciliation"]["state"], "ok", "who is silent is not known to differ");
}
