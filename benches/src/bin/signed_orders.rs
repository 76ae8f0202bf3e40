//! What a signed order costs the gateway: orders per second and the server's CPU for each, over websockets and over HTTP
//! connections that are kept alive, held against an echo of messages of the same sizes through the same libraries in the same
//! run. Then, where `perf` is there, where that CPU goes. Prints tables and appends to `target/bench.jsonl`.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{Message as Incoming, WebSocketUpgrade};
use axum::routing::{any, post};
use benches::{Figure, Latencies, grouped, per_second};
use clap::{Parser, Subcommand};
use futures_util::{SinkExt, StreamExt};
use gateway::client::{Credentials, now_ms, signed_request};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tests::exchange::{Exchange, bootstrap, credentials};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

#[derive(Parser)]
struct Arguments {
    /// Seconds for each case.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Websockets, and HTTP connections.
    #[arg(long, default_value_t = 64)]
    sockets: usize,
    /// Requests in flight on each websocket.
    #[arg(long, default_value_t = 8)]
    in_flight: usize,
    /// How often each case is run; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[command(subcommand)]
    case: Option<Case>,
}

#[derive(Subcommand)]
enum Case {
    /// Only answers: what the measurement starts beside the exchange
    #[command(hide = true)]
    Echo,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    match arguments.case {
        None => measure(&arguments).await,
        Some(Case::Echo) => echo().await,
    }
}

/// The acknowledgement of an order, as the exchange writes it.
const REPLY: &str = r#"{"id":1234567,"status":200,"result":{"symbol":"BTCUSD","orderId":1234567,"orderListId":-1,"clientOrderId":"abcdefghijklmnopqrstuv","transactTime":1700000000000}}"#;

/// Answers every message and every request with [`REPLY`].
async fn echo() {
    let socket = |upgrade: WebSocketUpgrade| async {
        upgrade.read_buffer_size(64 << 10).write_buffer_size(32 << 10).on_upgrade(|mut socket| async move {
            while let Some(Ok(message)) = socket.recv().await {
                if matches!(message, Incoming::Text(_)) && socket.send(Incoming::text(REPLY)).await.is_err() {
                    return;
                }
            }
        })
    };
    let router = Router::new().route("/ws-api/v3", any(socket)).route(
        "/api/v3/order",
        post(|body: Bytes| async move {
            drop(body);
            ([("content-type", "application/json;charset=UTF-8")], REPLY)
        }),
    );
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has room");
    println!("{}", listener.local_addr().expect("it is bound"));
    axum::serve(listener, router).await.expect("it serves until it is killed");
}

/// A server to be measured.
struct Server {
    address: String,
    process_id: u32,
}

#[derive(Clone, Copy)]
enum Way {
    Websockets,
    Http,
}

/// What one run of a case came to.
struct Run {
    per_second: u64,
    /// Nanoseconds of CPU of the server's process for each request.
    cpu: u64,
    latencies: Latencies,
}

async fn measure(arguments: &Arguments) {
    let exchange = Exchange::start(&bootstrap(arguments.sockets, "0.0005", "0.001"), &[]);
    let of_exchange = Server { address: exchange.address().to_string(), process_id: exchange.process_id() };
    let (mut child, of_echo) = start_echo();
    println!(
        "{:>12} {:>10} {:>12} {:>10} {:>10} {:>10} | {:>12} {:>10} | {:>6} {:>14}",
        "over", "in flight", "orders/s", "us CPU", "p50 us", "p99 us", "echo/s", "us CPU", "ratio", "us CPU above"
    );
    for way in [Way::Websockets, Way::Http] {
        let (mut orders, mut echoes) = (Vec::new(), Vec::new());
        for _ in 0..arguments.rounds.max(1) {
            orders.push(run(&of_exchange, way, arguments).await);
            echoes.push(run(&of_echo, way, arguments).await);
        }
        report(way, arguments, &median(orders), &median(echoes));
    }
    child.kill().expect("it runs");
    child.wait().expect("it was started");
    stages(&of_exchange, arguments).await;
}

fn median(mut runs: Vec<Run>) -> Run {
    runs.sort_by_key(|run| run.per_second);
    runs.swap_remove(runs.len() / 2)
}

fn report(way: Way, arguments: &Arguments, orders: &Run, echo: &Run) {
    let (over, in_flight) = match way {
        Way::Websockets => ("websockets", arguments.in_flight),
        Way::Http => ("HTTP", 1),
    };
    let micros = |nanos: u64| format!("{}.{}", nanos / 1_000, nanos % 1_000 / 100);
    let hundredths = orders.per_second * 100 / echo.per_second.max(1);
    println!(
        "{:>12} {:>10} {:>12} {:>10} {:>10} {:>10} | {:>12} {:>10} | {:>6} {:>14}",
        format!("{} {over}", arguments.sockets),
        in_flight,
        grouped(orders.per_second),
        micros(orders.cpu),
        grouped(orders.latencies.micros(500)),
        grouped(orders.latencies.micros(990)),
        grouped(echo.per_second),
        micros(echo.cpu),
        format!("{}.{:02}", hundredths / 100, hundredths % 100),
        micros(orders.cpu.saturating_sub(echo.cpu))
    );
    let case = format!("{} {over}, {in_flight} in flight", arguments.sockets);
    let n = orders.latencies.count();
    for (unit, value, baseline) in
        [("orders/s", orders.per_second, echo.per_second), ("ns CPU an order", orders.cpu, echo.cpu)]
    {
        Figure { bench: "signed_orders", case: &case, unit, value, n, baseline: Some(baseline) }.keep();
    }
}

fn start_echo() -> (Child, Server) {
    let program = std::env::current_exe().expect("a program has a file");
    let mut child = Command::new(program).arg("echo").stdout(Stdio::piped()).spawn().expect("it ran a moment ago");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
    let address: SocketAddr = line.trim().parse().expect("an address");
    let process_id = child.id();
    (child, Server { address: address.to_string(), process_id })
}

async fn run(server: &Server, way: Way, arguments: &Arguments) -> Run {
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let (started, cpu) = (Instant::now(), cpu_nanos(server.process_id));
    let clients = (1..=arguments.sockets).map(|account| {
        let (address, in_flight) = (server.address.clone(), arguments.in_flight);
        tokio::spawn(async move {
            match way {
                Way::Websockets => over_websocket(&address, account, in_flight, end).await,
                Way::Http => over_http(&address, account, end).await,
            }
        })
    });
    let mut times = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        times.extend(client.await.expect("a client that ends"));
    }
    let (elapsed, used) = (started.elapsed(), cpu_nanos(server.process_id) - cpu);
    let latencies = Latencies::new(times);
    let count = latencies.count();
    Run { per_second: per_second(count, elapsed), cpu: used / count.max(1), latencies }
}

/// The CPU time of a process so far: user and system, in clock ticks (proc(5)).
fn cpu_nanos(process_id: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process_id}/stat")).expect("it runs");
    let after_name = text.rsplit_once(") ").expect("a name in brackets").1;
    let fields: Vec<&str> = after_name.split(' ').collect();
    // The 14th and 15th, counted from the first, which is the process id.
    let ticks = |at: usize| fields[at - 3].parse::<u64>().expect("a number");
    (ticks(14) + ticks(15)) * 1_000_000_000 / rustix::param::clock_ticks_per_second()
}

/// One websocket that keeps so many requests in flight until the end, then waits for the last of them.
async fn over_websocket(address: &str, account: usize, in_flight: usize, end: Instant) -> Vec<Duration> {
    let url = format!("ws://{address}/ws-api/v3?returnRateLimits=false");
    let connected = tokio_tungstenite::connect_async_with_config(&url, None, true).await;
    let (mut sink, mut stream) = connected.expect("a server that listens").0.split();
    let who = credentials(account);
    // An account's orders are answered in the order they came.
    let mut sent = VecDeque::new();
    let (mut times, mut number) = (Vec::new(), 0);
    loop {
        while Instant::now() < end && sent.len() < in_flight {
            number += 1;
            let request = signed_request(number as u64, "order.place", &order(number, account), &who);
            sent.push_back(Instant::now());
            sink.feed(Message::text(request)).await.expect("an open socket");
        }
        if sent.is_empty() {
            return times;
        }
        sink.flush().await.expect("an open socket");
        match stream.next().await.expect("an open socket").expect("an open socket") {
            Message::Text(answer) => {
                assert!(answer.contains(r#""status":200"#), "{answer}");
                times.push(sent.pop_front().expect("it was asked").elapsed());
            }
            other => assert!(!other.is_close(), "{other:?}"),
        }
    }
}

/// One connection that asks, waits, and asks again.
async fn over_http(address: &str, account: usize, end: Instant) -> Vec<Duration> {
    let stream = TcpStream::connect(address).await.expect("a server that listens");
    stream.set_nodelay(true).expect("a socket");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a server that listens");
    tokio::spawn(connection);
    let who = credentials(account);
    let (mut times, mut number) = (Vec::new(), 0);
    while Instant::now() < end {
        number += 1;
        let body = form(&order(number, account), &who);
        let request = Request::post("/api/v3/order")
            .header("host", address)
            .header("x-mbx-apikey", &who.api_key)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        let asked = Instant::now();
        let response = sender.send_request(request).await.expect("an open connection");
        let status = response.status();
        let answer = response.into_body().collect().await.expect("an open connection").to_bytes();
        assert_eq!(status, 200, "{answer:?}");
        times.push(asked.elapsed());
    }
    times
}

/// Buys and sells in turn around one price, so that about as much rests as trades.
fn order(number: usize, account: usize) -> [(&'static str, serde_json::Value); 7] {
    let is_buy = (number + account).is_multiple_of(2);
    let cents = 23_600 + (number * 7 + account * 3) % 11 - 5;
    [
        ("symbol", json!("BTCUSD")),
        ("side", json!(if is_buy { "BUY" } else { "SELL" })),
        ("type", json!("LIMIT")),
        ("timeInForce", json!("GTC")),
        ("price", json!(format!("{}.{:02}", cents / 100, cents % 100))),
        ("quantity", json!("0.01")),
        ("newOrderRespType", json!("ACK")),
    ]
}

fn form(parameters: &[(&str, serde_json::Value)], who: &Credentials) -> String {
    let pair = |(name, value): &(&str, serde_json::Value)| format!("{name}={}", value.as_str().expect("a text"));
    let pairs: Vec<String> = parameters.iter().map(pair).collect();
    let payload = format!("{}&recvWindow=60000&timestamp={}", pairs.join("&"), now_ms());
    let signature = who.sign(&payload);
    format!("{payload}&signature={signature}")
}

/// What a stage of the road is known by: the innermost function on a stack that has one of these in its name decides.
const STAGES: [(&str, &[&str]); 8] = [
    ("verify", &["auth::authenticate", "auth::verify"]),
    ("limit", &["rate_limit::", "token_bucket::"]),
    ("encode", &["Answering::write", "outcome::answer_with", "wire::", "Serialize"]),
    ("queue", &["lanes::", "Sequencer::submit"]),
    (
        "parse",
        &[
            "ApiSession>::handle",
            "ApiSession::handle",
            "ApiSession as",
            "params::",
            "rest::trade::",
            "order_params::",
            "rest::call",
            "server::call",
        ],
    ),
    ("sequence, log, raft", &["journal::", "openraft", "rocksdb"]),
    ("publish", &["gateway::feed", "gateway::views", "gateway::klines", "ws::hub", "market_streams", "user_stream"]),
    ("sockets", &["tungstenite", "hyper", "axum", "ws::socket", "gateway::edge", "gateway::server", "tokio"]),
];

/// Where the server's CPU goes while it serves orders over websockets, by samples of its stacks.
async fn stages(server: &Server, arguments: &Arguments) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("perf.data");
    let recorder = Command::new("perf")
        .args(["record", "-q", "-F", "397", "--call-graph", "dwarf,16384", "-p", &server.process_id.to_string(), "-o"])
        .arg(&data)
        .args(["--", "sleep", &arguments.seconds.to_string()])
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut recorder) = recorder else {
        return println!("where the CPU goes is not told: there is no perf here");
    };
    let orders = run(server, Way::Websockets, arguments).await;
    let recorded = tokio::task::spawn_blocking(move || recorder.wait()).await.expect("it only waits");
    let script = Command::new("perf").args(["script", "--no-inline", "-F", "comm,ip,sym", "-i"]).arg(&data).output();
    let (Ok(true), Ok(script)) = (recorded.map(|status| status.success()), script) else {
        return println!("where the CPU goes is not told: perf may not look at the server");
    };
    let counts = count_stages(&String::from_utf8_lossy(&script.stdout));
    let all: u64 = counts.values().sum();
    println!(
        "\nof {}.{} us CPU an order, over websockets ({all} samples):",
        orders.cpu / 1_000,
        orders.cpu % 1_000 / 100
    );
    let mut rows: Vec<(&String, &u64)> = counts.iter().collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (stage, count) in rows {
        let share = count * 1_000 / all.max(1);
        println!("{stage:>24} {:>5}.{} %", share / 10, share % 10);
        let value = orders.cpu * share / 1_000;
        Figure {
            bench: "signed_orders stages",
            case: stage,
            unit: "ns CPU an order",
            value,
            n: *count,
            baseline: None,
        }
        .keep();
    }
}

/// How many samples belong to each stage. A sample is the thread's name on a line of its own, then its stack, innermost
/// first, then an empty line.
fn count_stages(script: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for sample in script.split("\n\n").filter(|sample| !sample.trim().is_empty()) {
        let mut lines = sample.trim_start().lines();
        let thread = lines.next().unwrap_or_default().trim();
        let of_function =
            |function: &str| STAGES.iter().find(|(_, names)| names.iter().any(|name| function.contains(name)));
        let stage = match thread.split([' ', '-']).next().unwrap_or_default() {
            "engine" | "history" | "feed" | "log" => format!("thread {thread}"),
            _ => lines.find_map(of_function).map_or_else(|| "system".to_owned(), |(stage, _)| (*stage).to_owned()),
        };
        *counts.entry(stage).or_default() += 1;
    }
    counts
}
