//! One stream to many subscribers: delivered messages per second, the lag from the event to its receipt, the server's CPU for
//! each message and memory for each socket, against a bare broadcast of the same bytes with tungstenite, in the same run. Then what idle sockets take, and what bad readers do to good ones. Server and clients are processes
//! of their own. Prints tables and appends to `target/bench.jsonl`.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use benches::{Figure, grouped, median};
use clap::{Parser, Subcommand};
use futures_util::SinkExt;
use gateway::bootstrap::Bootstrap;
use gateway::config::Config;
use gateway::serve;
use gateway::ws::hub::Topic;
use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tests::exchange::bootstrap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

#[derive(Parser)]
struct Arguments {
    /// Subscribers, one case each.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
    subscribers: Vec<usize>,
    /// Messages in a second.
    #[arg(long, default_value_t = 1_000)]
    rate: u64,
    /// Seconds for each case.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often each case is run; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Idle sockets.
    #[arg(long, default_value_t = 19_500)]
    idle: usize,
    /// Seconds for which they are held.
    #[arg(long, default_value_t = 75)]
    idle_seconds: u64,
    /// Messages in a second beside bad readers.
    #[arg(long, default_value_t = 100)]
    beside_rate: u64,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// Subscribers of one stream
    Fan,
    /// Sockets that only live
    Idle,
    /// Good readers beside bad ones
    Bad,
    #[command(hide = true)]
    Serve { kind: String },
    #[command(hide = true)]
    Read {
        address: String,
        count: usize,
        messages: u64,
        #[arg(action = clap::ArgAction::Set)]
        compressed: bool,
    },
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    raise_limit();
    match &arguments.part {
        Some(Part::Serve { kind }) => serve(kind).await,
        Some(Part::Read { address, count, messages, compressed }) => {
            read(address, *count, *messages, *compressed).await;
        }
        Some(Part::Fan) => fan(&arguments),
        Some(Part::Idle) => idle(&arguments),
        Some(Part::Bad) => bad(&arguments).await,
        None => {
            fan(&arguments);
            idle(&arguments);
            bad(&arguments).await;
        }
    }
}

/// As many open files as this process may have.
fn raise_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("a process may have what it is allowed");
}

fn micros_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros() as u64
}

/// A trade as the exchange writes it.
fn trade(number: u64) -> String {
    format!(
        r#"{{"e":"trade","E":{},"s":"BTCUSD","t":{number},"p":"61837.6300000000","q":"0.02000000","T":{},"m":true,"M":true}}"#,
        micros_now(),
        micros_now()
    )
}

// The servers.

/// Serves until its input ends; each line `messages rate` there is a run, in order.
async fn serve(kind: &str) {
    let publish = match kind {
        "rialto" => serve_rialto().await,
        "tungstenite" => serve_tungstenite().await,
        other => panic!("{other}"),
    };
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let mut numbers = line.split(' ').map(|number| number.parse::<u64>().expect("a number"));
        let (messages, rate) = (numbers.next().expect("messages"), numbers.next().expect("rate"));
        let started = Instant::now();
        for number in 1..=messages {
            let due = started + Duration::from_micros(number * 1_000_000 / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            publish(trade(number));
        }
        println!("done {}", started.elapsed().as_micros());
    }
    std::process::exit(0);
}

type Publish = Box<dyn Fn(String)>;

/// The exchange itself; what its feed would publish, published in its place.
async fn serve_rialto() -> Publish {
    let folder = tempfile::TempDir::new_in(tests::exchange::fast_folder()).expect("a folder");
    let mut config = Config { data: Some(PathBuf::from(folder.path())), ..Config::default() };
    config.listen = Some(([127, 0, 0, 1], 0).into());
    config.limits.connections_per_5_minutes = 0;
    config.sockets.connections_max = 19_800;
    let running = serve::start(config, Some(Bootstrap::parse(&bootstrap(1, "0", "0")).expect("it is ours"))).await;
    let running = running.unwrap_or_else(|why| panic!("{why}"));
    println!("{}", running.address);
    let hub = running.app().outlets.hub.clone();
    let symbol = running.app().outlets.views.symbols().symbols[0].id;
    let kept = (running, folder);
    Box::new(move |text| {
        let _ = &kept;
        hub.publish(Topic::Trade(symbol), |_| vec![Utf8Bytes::from(text.clone())]);
    })
}

async fn listen() -> TcpListener {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("loopback has room");
    let listener = socket.listen(4_096).expect("it is bound");
    println!("{}", listener.local_addr().expect("it is bound"));
    listener
}

/// A bare broadcast with the library that clients use: each socket sends all there is, then flushes.
async fn serve_tungstenite() -> Publish {
    let (sender, _) = broadcast::channel::<Utf8Bytes>(16_384);
    let (listener, publish) = (listen().await, sender.clone());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            let sender = sender.clone();
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                let mut receiver = sender.subscribe();
                while let Ok(text) = receiver.recv().await {
                    let mut fed = socket.feed(Message::Text(text)).await;
                    while let (Ok(()), Ok(text)) = (&fed, receiver.try_recv()) {
                        fed = socket.feed(Message::Text(text)).await;
                    }
                    if fed.is_err() || socket.flush().await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Box::new(move |text| drop(publish.send(text.into())))
}

// The readers.

/// What all readers of a process have.
#[derive(Default)]
struct Totals {
    delivered: AtomicU64,
    bytes: AtomicU64,
    pings: AtomicU64,
    closed: AtomicU64,
    finished: AtomicU64,
    /// When the first message was made and the last was read.
    span: Mutex<Option<(u64, u64)>>,
    lags: Mutex<Vec<u64>>,
}

/// Connects so many times to `address`, says so, reads until each has so many messages (or, for none, until its input ends),
/// and tells what came.
async fn read(address: &str, count: usize, messages: u64, compressed: bool) {
    let totals = Arc::new(Totals::default());
    // Every hundredth socket, but at least ten, tell their lags.
    let told_by = (count / 100).max(1);
    let mut tasks = Vec::new();
    for index in 0..count {
        let stream = subscribe(address, index, "/ws/btcusd@trade?timeUnit=MICROSECOND", compressed).await;
        let totals = totals.clone();
        tasks.push(tokio::spawn(async move {
            let mut reader = Reader { stream, rest: Vec::new(), lags: (index % told_by == 0).then(Vec::new) };
            reader.run(messages, &totals).await;
            totals.lags.lock().extend(reader.lags.into_iter().flatten());
        }));
    }
    println!("ready");
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().for_each(drop));
    if messages == 0 {
        ended.await.expect("it does not panic");
    } else {
        for task in tasks {
            task.await.expect("a reader does not panic");
        }
    }
    let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let (first, last) = totals.span.lock().unwrap_or_default();
    let mut lags = std::mem::take(&mut *totals.lags.lock());
    lags.sort_unstable();
    let rank = |per_mille: usize| lags.get((lags.len() * per_mille / 1_000).min(lags.len().saturating_sub(1)));
    let told = json!({
        "delivered": load(&totals.delivered), "bytes": load(&totals.bytes), "span_us": last - first,
        "closed": load(&totals.closed), "pings": load(&totals.pings), "p50": rank(500), "p99": rank(990), "max": rank(1_000),
    });
    println!("{told}");
    std::process::exit(0);
}

/// A connection that has sent its request for a websocket and read the answer.
async fn subscribe(address: &str, index: usize, path: &str, compressed: bool) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    // One address has too few ports for all, and those of the last process are in use for a minute more.
    let [.., high, low] = std::process::id().to_be_bytes();
    socket.bind(([127, 1 + high % 254, low, 2 + (index / 10_000) as u8], 0).into()).expect("loopback is wide");
    let mut stream = socket.connect(address.parse().expect("an address")).await.expect("a server");
    stream.set_nodelay(true).expect("a socket");
    let offer = if compressed { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("it is open");
    let mut answer = Vec::new();
    // Nothing follows it before something is published.
    while !answer.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut answer).await.expect("an answer") > 0);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

struct Reader {
    stream: TcpStream,
    rest: Vec<u8>,
    /// In microseconds, where this one tells them.
    lags: Option<Vec<u64>>,
}

impl Reader {
    async fn run(&mut self, messages: u64, totals: &Totals) {
        let mut heard = 0;
        while messages == 0 || heard < messages {
            if self.stream.readable().await.is_err() {
                break;
            }
            let mut buffer = [0; 64 << 10];
            match self.stream.try_read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    totals.bytes.fetch_add(read as u64, Ordering::Relaxed);
                    let (texts, pong) = self.take(&buffer[..read], totals);
                    heard += texts;
                    totals.delivered.fetch_add(texts, Ordering::Relaxed);
                    if let Some(pong) = pong {
                        totals.pings.fetch_add(1, Ordering::Relaxed);
                        self.stream.write_all(&pong).await.expect("it is open");
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        // One that is to hear nothing ends here only when it is closed.
        if messages == 0 || heard < messages {
            totals.closed.fetch_add(1, Ordering::Relaxed);
        }
        totals.finished.fetch_add(1, Ordering::Relaxed);
    }

    /// The texts among what came, and the pong to a ping among it.
    fn take(&mut self, came: &[u8], totals: &Totals) -> (u64, Option<Vec<u8>>) {
        let joined;
        let mut bytes = if self.rest.is_empty() {
            came
        } else {
            self.rest.extend_from_slice(came);
            joined = std::mem::take(&mut self.rest);
            &joined
        };
        let (mut texts, mut pong, now) = (0, None, micros_now());
        while let &[first, length, ref more @ ..] = bytes {
            let (payload, more) = match (length, more) {
                (126, &[high, low, ref more @ ..]) => (usize::from(u16::from_be_bytes([high, low])), more),
                (126.., _) => break,
                _ => (usize::from(length), more),
            };
            let Some(body) = more.get(..payload) else { break };
            match first & 0x0f {
                1 => {
                    texts += 1;
                    if let Some(lags) = &mut self.lags {
                        // One that is compressed does not tell when it was made.
                        let made = made_at(body).filter(|_| first & 0x40 == 0);
                        lags.extend(made.map(|made| now.saturating_sub(made)));
                        let made = made.unwrap_or(now);
                        let mut span = totals.span.lock();
                        let (begin, end) = span.unwrap_or((made, now));
                        *span = Some((begin.min(made), end.max(now)));
                    }
                }
                9 => {
                    let mut frame = vec![0x8a, 0x80 | payload as u8, 0, 0, 0, 0];
                    frame.extend(body);
                    pong = Some(frame);
                }
                _ => {}
            }
            bytes = &more[payload..];
        }
        self.rest.extend_from_slice(bytes);
        (texts, pong)
    }
}

/// When a trade was told, in microseconds.
fn made_at(text: &[u8]) -> Option<u64> {
    let digits = text.strip_prefix(br#"{"e":"trade","E":"#)?.get(..16)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

// What starts them and compares.

struct Process {
    child: Child,
    input: Option<ChildStdin>,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Process {
    fn start(arguments: &[&str]) -> Process {
        let program = std::env::current_exe().expect("a program has a file");
        let command = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = command.expect("it ran a moment ago");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Process { input: child.stdin.take(), child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("it says something").expect("text")
    }

    fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it is open");
        writeln!(input, "{line}").and_then(|()| input.flush()).expect("it reads");
    }

    /// Microseconds of CPU so far.
    fn cpu(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = text.rsplit(')').next().expect("fields").split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<u64>().expect("ticks");
        (ticks(11) + ticks(12)) * 1_000_000 / rustix::param::clock_ticks_per_second()
    }

    /// Bytes in RAM.
    fn resident(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).expect("it runs");
        let pages: u64 = text.split(' ').nth(1).expect("the second").parse().expect("pages");
        pages * rustix::param::page_size() as u64
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already: that is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Run {
    per_second: u64,
    p50: u64,
    p99: u64,
    /// Nanoseconds of the server for each message delivered.
    cpu: u64,
    memory: u64,
    cut: u64,
}

fn run(kind: &str, count: usize, messages: u64, rate: u64, compressed: bool) -> Run {
    let mut server = Process::start(&["serve", kind]);
    let address = server.line();
    let empty = server.resident();
    let mut readers =
        Process::start(&["read", &address, &count.to_string(), &messages.to_string(), &compressed.to_string()]);
    assert_eq!(readers.line(), "ready");
    std::thread::sleep(Duration::from_millis(300));
    let (memory, before) = (server.resident().saturating_sub(empty) / count as u64, server.cpu());
    server.say(&format!("{messages} {rate}"));
    let told: Value = serde_json::from_str(&readers.line()).expect("figures");
    let number = |key: &str| told[key].as_u64().unwrap_or(0);
    let delivered = number("delivered").max(1);
    Run {
        per_second: u64::try_from(u128::from(delivered) * 1_000_000 / u128::from(number("span_us").max(1)))
            .unwrap_or(0),
        p50: number("p50"),
        p99: number("p99"),
        cpu: (server.cpu() - before) * 1_000 / delivered,
        memory,
        cut: number("closed"),
    }
}

fn fan(arguments: &Arguments) {
    let messages = arguments.rate * arguments.seconds;
    println!(
        "{:>11} {:>14} {:>12} {:>7} {:>9} {:>9} {:>8} {:>9} {:>5}",
        "subscribers", "server", "delivered/s", "ratio", "p50 us", "p99 us", "CPU ns", "B/socket", "cut"
    );
    for &count in &arguments.subscribers {
        // Each once in every round, so that what else goes on the machine meets all of them.
        let kinds = [("tungstenite", false), ("rialto", false), ("rialto", true)];
        let mut runs: Vec<Vec<Run>> = kinds.iter().map(|_| Vec::new()).collect();
        for _ in 0..arguments.rounds.max(1) {
            for ((kind, compressed), runs) in kinds.iter().zip(&mut runs) {
                runs.push(run(kind, count, messages, arguments.rate, *compressed));
            }
        }
        let of = |runs: &[Run], figure: fn(&Run) -> u64| median(runs.iter().map(figure).collect());
        let bare = of(&runs[0], |run| run.per_second);
        for ((kind, compressed), runs) in kinds.iter().zip(&runs) {
            let per_second = of(runs, |run| run.per_second);
            let name = format!("{kind}{}", if *compressed { " deflate" } else { "" });
            let (p50, p99, cpu) = (of(runs, |run| run.p50), of(runs, |run| run.p99), of(runs, |run| run.cpu));
            let (memory, cut) = (of(runs, |run| run.memory), runs.iter().map(|run| run.cut).sum::<u64>());
            println!(
                "{count:>11} {name:>14} {:>12} {:>7} {:>9} {:>9} {cpu:>8} {:>9} {cut:>5}",
                grouped(per_second),
                format!("{}.{:02}", per_second * 100 / bare.max(1) / 100, per_second * 100 / bare.max(1) % 100),
                grouped(p50),
                grouped(p99),
                grouped(memory)
            );
            let case = format!("{count} subscribers, {} messages/s, {name}", arguments.rate);
            let keep = |unit: &str, value: u64, baseline: Option<u64>| {
                Figure { bench: "fanout", case: &case, unit, value, n: count as u64 * messages, baseline }.keep();
            };
            keep("delivered/s", per_second, (*kind == "rialto").then_some(bare));
            keep("p50 us", p50, None);
            keep("p99 us", p99, None);
            keep("CPU ns for each", cpu, None);
            keep("bytes for each socket", memory, None);
        }
    }
}

fn idle(arguments: &Arguments) {
    let mut server = Process::start(&["serve", "rialto"]);
    let address = server.line();
    let empty = server.resident();
    let count = arguments.idle;
    let mut readers = Process::start(&["read", &address, &count.to_string(), "0", "false"]);
    assert_eq!(readers.line(), "ready");
    let (opened, before) = (server.resident(), server.cpu());
    std::thread::sleep(Duration::from_secs(arguments.idle_seconds));
    let (held, cpu) = (server.resident(), server.cpu() - before);
    drop(readers.input.take());
    let told: Value = serde_json::from_str(&readers.line()).expect("figures");
    let each = |resident: u64| resident.saturating_sub(empty) / count as u64;
    println!(
        "{} idle sockets for {} s: {} bytes each when opened, {} after; {} pings answered, {} closed; {} us of CPU a second",
        grouped(count as u64),
        arguments.idle_seconds,
        grouped(each(opened)),
        grouped(each(held)),
        told["pings"],
        told["closed"],
        grouped(cpu / arguments.idle_seconds.max(1))
    );
    let case = format!("{count} idle sockets");
    let keep = |unit: &str, value: u64| {
        Figure { bench: "fanout", case: &case, unit, value, n: count as u64, baseline: None }.keep();
    };
    keep("bytes for each socket", each(held).max(each(opened)));
    keep("pings answered", told["pings"].as_u64().unwrap_or(0));
    keep("closed", told["closed"].as_u64().unwrap_or(0));
}

/// A thousand good readers: alone, and beside one that never reads, one that reads a byte a second and one that subscribes
/// anew as fast as it may.
async fn bad(arguments: &Arguments) {
    let (count, rate) = (1_000, arguments.beside_rate);
    let messages = rate * arguments.seconds.max(10);
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds.max(1) {
        for has_bad in [false, true] {
            let mut server = Process::start(&["serve", "rialto"]);
            let address = server.line();
            let mut readers = Process::start(&["read", &address, &count.to_string(), &messages.to_string(), "false"]);
            assert_eq!(readers.line(), "ready");
            let bad = if has_bad { start_bad(&address).await } else { Vec::new() };
            let before = server.resident();
            server.say(&format!("{messages} {rate}"));
            let told: Value = serde_json::from_str(&readers.line()).expect("figures");
            let metrics = metrics(&address).await;
            let counts: Vec<&str> =
                metrics.lines().filter(|line| line.starts_with("rialto_slow_disconnects")).collect();
            println!(
                "{} messages/s to {count} good readers, {}: p50 {} us, p99 {} us, {} of them closed; memory grew by {} KiB; {counts:?}",
                rate,
                if has_bad { "3 bad ones" } else { "alone" },
                told["p50"],
                told["p99"],
                told["closed"],
                server.resident().saturating_sub(before) >> 10,
            );
            let p99 = told["p99"].as_u64().unwrap_or(0);
            if has_bad {
                beside.push(p99)
            } else {
                alone.push(p99)
            }
            bad.into_iter().for_each(|task| task.abort());
        }
    }
    let (alone, beside) = (median(alone), median(beside));
    println!("p99 of the good ones: {} us alone, {} us beside the bad", grouped(alone), grouped(beside));
    let case = "1000 good readers beside 3 bad ones";
    Figure { bench: "fanout", case, unit: "p99 us", value: beside, n: count * messages, baseline: Some(alone) }.keep();
}

async fn start_bad(address: &str) -> Vec<tokio::task::JoinHandle<()>> {
    let streams = "/stream?streams=btcusd@trade/btcusd@depth@100ms/btcusd@bookTicker";
    let never = subscribe(address, 0, streams, false).await;
    let mut byte = subscribe(address, 0, streams, false).await;
    let restless = subscribe(address, 0, "/ws", false).await;
    let (mut restless_in, mut restless_out) = restless.into_split();
    vec![
        tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(never);
        }),
        tokio::spawn(async move {
            while byte.read_u8().await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }),
        tokio::spawn(async move {
            for id in 0_u64.. {
                let method = if id % 2 == 0 { "SUBSCRIBE" } else { "UNSUBSCRIBE" };
                let text = json!({"method": method, "params": ["btcusd@trade", "btcusd@depth"], "id": id}).to_string();
                let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
                frame.extend(text.as_bytes());
                if restless_out.write_all(&frame).await.is_err() {
                    return;
                }
                // Five a second are allowed.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }),
        tokio::spawn(async move {
            let mut buffer = vec![0; 64 << 10];
            while restless_in.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        }),
    ]
}

async fn metrics(address: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a server");
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("it is open");
    let mut page = String::new();
    stream.read_to_string(&mut page).await.expect("text");
    page
}
