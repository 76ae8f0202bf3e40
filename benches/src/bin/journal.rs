//! Order to answer through the journal, every entry synced to disk: clients that each wait for their answer before they
//! send again. Prints a table and appends to `target/bench.jsonl`.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Parser;
use engine::command::{AddAsset, CancelOrder, OrderQuantity, OrderReference, PlaceOrder, Transfer};
use engine::order::{ClientOrderId, OrderType, Side, TimeInForce};
use engine::symbol::SymbolConfig;
use engine::{Amount, AssetId, Command, SymbolId, Uid};
use journal::{Answer, Node, NodeConfig, Published, Sequencer, Stats};
use tokio::sync::oneshot;

#[derive(Parser)]
struct Arguments {
    /// Where the data goes; the disk that is measured.
    #[arg(long, default_value = "target")]
    directory: PathBuf,
    /// Seconds for each case.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How many clients, one case each.
    #[arg(long, value_delimiter = ',', default_value = "1,16,256,4096")]
    clients: Vec<usize>,
    /// Entries between snapshots.
    #[arg(long, default_value_t = 1_000_000)]
    snapshot_every_entries: u64,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    println!(
        "{:>8} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>12} {:>10}",
        "clients", "commands/s", "p50 us", "p99 us", "p99.9 us", "syncs/s", "us/sync", "per entry", "restart s"
    );
    for clients in &arguments.clients {
        measure(&arguments, *clients).await;
    }
}

async fn measure(arguments: &Arguments, clients: usize) {
    let folder = tempfile::tempdir_in(&arguments.directory).expect("the directory can be written");
    let snapshot_every_entries = arguments.snapshot_every_entries;
    let config = NodeConfig { snapshot_every_entries, ..NodeConfig::new(folder.path()) };
    let (node, feed) = start(config.clone()).await;
    let sequencer = node.sequencer();
    for command in listing(clients) {
        ask(&sequencer, command).await;
    }

    let (stop, latencies) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let (before, started) = (node.stats(), Instant::now());
    let running: Vec<_> = (0..clients)
        .map(|client| tokio::spawn(run_client(client, sequencer.clone(), stop.clone(), latencies.clone())))
        .collect();
    tokio::time::sleep(Duration::from_secs_f64(arguments.seconds)).await;
    stop.store(true, Ordering::Relaxed);
    for client in running {
        client.await.expect("no client panics");
    }
    let (seconds, after) = (started.elapsed().as_secs_f64(), node.stats());
    node.stop().await;
    feed.join().expect("the feed does not panic");
    let started = Instant::now();
    let (node, feed) = start(config).await;
    let restart_seconds = started.elapsed().as_secs_f64();
    assert_eq!(node.stats().applied_sequence, after.applied_sequence);
    node.stop().await;
    feed.join().expect("the feed does not panic");
    let mut latencies = std::mem::take(&mut *latencies.lock().expect("no client panics"));
    latencies.sort_unstable();
    report(clients, seconds, &latencies, &before, &after, restart_seconds);
}

/// A node that has recovered, with a feed that does nothing but answer.
async fn start(config: NodeConfig) -> (Node, JoinHandle<()>) {
    let (node, published) = Node::start(config).await.expect("the directory is whole");
    let feed = std::thread::spawn(move || published.iter().for_each(answer));
    node.recovered().await.expect("the log is whole");
    (node, feed)
}

async fn run_client(client: usize, sequencer: Sequencer, stop: Arc<AtomicBool>, all: Arc<Mutex<Vec<u32>>>) {
    let mut latencies = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let started = Instant::now();
        ask(&sequencer, order(client, number)).await;
        latencies.push((started.elapsed().as_nanos() / 100) as u32);
    }
    all.lock().expect("no client panics").extend(latencies);
}

async fn ask(sequencer: &Sequencer, command: Command) -> Answer {
    let (caller, answer) = oneshot::channel();
    sequencer.submit(command, Some(caller)).expect("the queue has room for every client");
    answer.await.expect("the node goes on")
}

fn answer(published: Published) {
    if let Published::Applied { applied, callers } = published {
        for (index, caller) in callers {
            let _ = caller.send(Answer { applied: applied.clone(), index });
        }
    }
}

fn report(clients: usize, seconds: f64, latencies: &[u32], before: &Stats, after: &Stats, restart_seconds: f64) {
    let count = latencies.len();
    let at = |part: f64| f64::from(latencies[((count as f64 * part) as usize).min(count - 1)]) / 10.0;
    let syncs = (after.log_syncs - before.log_syncs).max(1) as f64;
    let entries = (after.log_entries - before.log_entries).max(1) as f64;
    let sync_us = (after.log_sync_ns - before.log_sync_ns) as f64 / syncs / 1_000.0;
    let rate = count as f64 / seconds;
    println!(
        "{clients:>8} {rate:>12.0} {:>10.0} {:>10.0} {:>10.0} {:>10.0} {sync_us:>10.0} {:>12.1} {restart_seconds:>10.2}",
        at(0.5),
        at(0.99),
        at(0.999),
        syncs / seconds,
        count as f64 / entries,
    );
    let mut file = File::options().create(true).append(true).open("target/bench.jsonl").expect("target can be written");
    for (unit, value) in [("commands/s", rate), ("p50 us", at(0.5)), ("p99 us", at(0.99)), ("p99.9 us", at(0.999))] {
        let case = format!("closed loop, {clients} clients");
        let line = serde_json::json!({"bench": "journal", "case": case, "unit": unit, "value": value, "n": count});
        writeln!(file, "{line}").expect("target can be written");
    }
}

/// One symbol and an account for each client, rich enough for the run.
fn listing(clients: usize) -> Vec<Command> {
    let asset = |name: &str| Command::AddAsset(AddAsset { name: name.into(), scale: 8 });
    let symbol = SymbolConfig::plain("ABCXYZ", AssetId(0), AssetId(1), Amount(1_000_000), Amount(1_000));
    let account = |client: usize| {
        let deposit = |asset: u32| {
            let transfer = Transfer {
                uid: uid(client),
                asset: AssetId(asset),
                amount: Amount(1_000_000_000_000_000_000),
                external_id: asset.to_string(),
            };
            Command::Deposit(transfer)
        };
        [Command::OpenAccount { uid: uid(client) }, deposit(0), deposit(1)]
    };
    let listed = [asset("ABC"), asset("XYZ"), Command::AddSymbol(Box::new(symbol))];
    listed.into_iter().chain((0..clients).flat_map(account)).collect()
}

fn uid(client: usize) -> Uid {
    Uid(client as u64 + 1)
}

/// Three commands in turn: an order that rests, its cancel, and one that trades half the time.
fn order(client: usize, number: u64) -> Command {
    let client_order_id = |number: u64| ClientOrderId::new(&format!("o-{number}")).expect("a legal name");
    if number % 3 == 1 {
        return Command::CancelOrder(CancelOrder {
            uid: uid(client),
            symbol: SymbolId(0),
            order: OrderReference { order_id: None, client_order_id: Some(client_order_id(number - 1)) },
            cancel_client_order_id: client_order_id(number),
            restriction: None,
        });
    }
    let side = if (number / 3 + client as u64).is_multiple_of(2) { Side::Buy } else { Side::Sell };
    let away = if number.is_multiple_of(3) { 100 } else { 0 };
    let ticks = if side == Side::Buy { 6_000_000 - away } else { 6_000_000 + away };
    Command::PlaceOrder(PlaceOrder {
        uid: uid(client),
        symbol: SymbolId(0),
        client_order_id: client_order_id(number),
        side,
        order_type: OrderType::Limit,
        time_in_force: TimeInForce::Gtc,
        price: Amount(ticks * 1_000_000),
        quantity: OrderQuantity::Base(Amount(100_000)),
        self_trade_prevention: None,
        special: None,
    })
}
