//! Order to acknowledgement: over real websockets, signed, fsynced, against a server process of its own, held against the
//! bare sync of the same disk in the same run (the ratio kept is to the sync in place). Client and server share this machine.

use std::time::{Duration, Instant};

use benches::{Figure, Latencies, bare_sync, grouped};
use gateway::client::{Address, Credentials, WsApi, signed_request};
use serde_json::json;
use tests::exchange::{Exchange, bootstrap, credentials};

/// Sockets, and orders in flight on each.
const CASES: [(usize, usize); 5] = [(1, 1), (1, 64), (64, 1), (64, 8), (64, 64)];
const SYNCS: usize = 500;

#[tokio::main]
async fn main() {
    let seconds = std::env::var("BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let time = Duration::from_secs(seconds);
    let sockets_max = CASES.iter().map(|(sockets, _)| *sockets).max().unwrap_or_default();
    let server = Exchange::start(&bootstrap(sockets_max, "0.0005", "0.001"), &[]);
    let over =
        ["order to acknowledgement", "bare sync in place", "bare sync appended"].map(|text| format!("{text:>29}"));
    println!("{:27} {}", "", over.join("   "));
    let latencies = format!("{:>9} {:>9} {:>9}", "p50 µs", "p99 µs", "p99.9 µs");
    println!("{:>7} {:>9} {:>9} {latencies}   {latencies}   {latencies}", "sockets", "in flight", "orders/s");
    for (sockets, in_flight) in CASES {
        // Just before each case: a disk that others use too is not the same from one minute to the next.
        let (appended, in_place) = bare_sync(server.folder(), SYNCS);
        let started = Instant::now();
        let orders = run(server.address(), sockets, in_flight, time).await;
        let per_second = orders.per_second(started.elapsed());
        let rows = [&orders, &in_place, &appended].map(row).join("   ");
        println!("{sockets:>7} {in_flight:>9} {:>9} {rows}", grouped(per_second));
        let case = format!("{sockets} sockets, {in_flight} in flight");
        let figure = |unit, value, baseline| Figure {
            bench: "end_to_end",
            case: &case,
            unit,
            value,
            n: orders.count(),
            baseline,
        };
        figure("orders/s", per_second, None).keep();
        for (unit, per_mille) in [("p50 µs", 500), ("p99 µs", 990), ("p99.9 µs", 999)] {
            figure(unit, orders.micros(per_mille), Some(in_place.micros(per_mille))).keep();
        }
    }
}

fn row(latencies: &Latencies) -> String {
    let [p50, p99, p999] = [500, 990, 999].map(|per_mille| grouped(latencies.micros(per_mille)));
    format!("{p50:>9} {p99:>9} {p999:>9}")
}

async fn run(address: &Address, sockets: usize, in_flight: usize, time: Duration) -> Latencies {
    let mut clients = Vec::new();
    for account in 1..=sockets {
        let socket = WsApi::connect(address).await.expect("a server that listens");
        clients.push((socket, credentials(account), account));
    }
    let end = Instant::now() + time;
    let tasks =
        clients.into_iter().map(|(socket, who, account)| tokio::spawn(client(socket, who, account, in_flight, end)));
    let mut times = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        times.extend(task.await.expect("a client that ends"));
    }
    Latencies::new(times)
}

/// One socket that keeps so many orders in flight until the end, then waits for the last of them.
async fn client(socket: WsApi, who: Credentials, account: usize, in_flight: usize, end: Instant) -> Vec<Duration> {
    let (mut sender, mut receiver) = socket.split();
    let mut sent: Vec<Instant> = Vec::new();
    let mut times = Vec::new();
    loop {
        while Instant::now() < end && sent.len() - times.len() < in_flight {
            let request = order(sent.len(), account, &who);
            sent.push(Instant::now());
            sender.feed(request).await.expect("an open socket");
        }
        if sent.len() == times.len() {
            return times;
        }
        sender.flush().await.expect("an open socket");
        let (id, answer) = receiver.next().await.expect("an open socket");
        assert!(answer.is_success(), "order {id} of account {account}: {answer:?}");
        times.push(sent[usize::try_from(id).expect("an id that was sent")].elapsed());
    }
}

/// Buys and sells in turn around one price, so that about as much rests as trades.
fn order(number: usize, account: usize, who: &Credentials) -> String {
    let is_buy = (number + account).is_multiple_of(2);
    let cents = 23_600 + (number * 7 + account * 3) % 11 - 5;
    let parameters = [
        ("symbol", json!("BTCUSD")),
        ("side", json!(if is_buy { "BUY" } else { "SELL" })),
        ("type", json!("LIMIT")),
        ("timeInForce", json!("GTC")),
        ("price", json!(format!("{}.{:02}", cents / 100, cents % 100))),
        ("quantity", json!("0.01")),
        ("newOrderRespType", json!("ACK")),
    ];
    signed_request(number as u64, "order.place", &parameters, who)
}
