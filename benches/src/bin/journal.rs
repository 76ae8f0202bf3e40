//! Order to answer through the journal, every entry synced to disk: clients that each wait for their answer before they
//! send again; then the same bytes in batches of the same size written to RocksDB by a bare loop, and a start that replays
//! all of it. Prints a table and appends to `target/bench.jsonl`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use benches::machine::process_cpu_time;
use clap::{Parser, Subcommand};
use engine::command::{AddAsset, CancelOrder, OrderQuantity, OrderReference, PlaceOrder, Transfer};
use engine::order::{ClientOrderId, OrderType, Side, TimeInForce};
use engine::symbol::SymbolConfig;
use engine::{Amount, AssetId, Command, Event, SymbolId, Uid};
use journal::{Answer, Answering, Bare, Consumer, FEW_COMMANDS, Node, NodeConfig, Published, Sequencer, Stats};
use rocksdb::{DB, Options, WriteBatch, WriteOptions};
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
    #[command(subcommand)]
    case: Option<Case>,
}

#[derive(Subcommand)]
enum Case {
    /// How long an existing directory takes to start
    Start { data: PathBuf },
    /// What orders feel of snapshots being written without pause while so many orders rest
    Snapshots {
        #[arg(default_value_t = 1_000_000)]
        resting: u64,
    },
    /// Three nodes on this machine against one, and against openraft over the same log store and network with nothing above them
    Cluster {
        /// How often each is measured, in turns; medians are told
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// What each thread costs while history is written again from the log of a directory, which is made first if it is not there
    History { data: PathBuf },
    /// What the directory comes to after so many orders
    Grow {
        #[arg(default_value_t = 50_000_000)]
        orders: u64,
    },
}

#[tokio::main]
async fn main() {
    journal::memory::keep_freed();
    let arguments = Arguments::parse();
    match &arguments.case {
        None => measure_all(&arguments).await,
        Some(Case::Start { data }) => measure_start(data).await,
        Some(Case::Snapshots { resting }) => measure_snapshots(&arguments, *resting).await,
        Some(Case::Cluster { rounds }) => measure_cluster(&arguments, *rounds).await,
        Some(Case::History { data }) => measure_history(&arguments, data).await,
        Some(Case::Grow { orders }) => measure_growth(&arguments, *orders).await,
    }
}

async fn measure_all(arguments: &Arguments) {
    println!(
        "{:>8} {:>12} {:>7} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>12} {:>12} {:>8} {:>10} {:>8} {:>12}",
        "clients",
        "commands/s",
        "CPU us",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "per sync",
        "bytes/sync",
        "us/sync",
        "bare cmds/s",
        "bare p50 us",
        "ratio",
        "p50 ratio",
        "start s",
        "replayed/s"
    );
    for clients in &arguments.clients {
        measure(arguments, *clients).await;
    }
}

async fn measure(arguments: &Arguments, clients: usize) {
    let folder = tempfile::tempdir_in(&arguments.directory).expect("the directory can be written");
    let config = without_snapshots(folder.path());
    let (node, feed) = start(config.clone()).await;
    list(&node, clients).await;
    let (before, cpu) = (node.stats(), process_cpu_time());
    let (seconds, latencies) = run_clients(&node, clients, arguments.seconds).await;
    let after = node.stats();
    node.stop().await;
    let cpu_us = (process_cpu_time() - cpu).as_secs_f64() * 1e6 / latencies.len() as f64;
    feed.join().expect("the feed does not panic");
    let journal = Journal::of(seconds, &latencies, &before, &after);
    let bare = bare(&folder.path().join("bare"), seconds.min(arguments.seconds), &journal);

    let started = Instant::now();
    let (node, feed) = start(config).await;
    let start_seconds = started.elapsed().as_secs_f64();
    assert_eq!(node.stats().applied_sequence, after.applied_sequence);
    node.stop().await;
    feed.join().expect("the feed does not panic");
    report(clients, cpu_us, &latencies, &journal, &bare, start_seconds, after.applied_sequence as f64 / start_seconds);
}

async fn measure_start(data: &Path) {
    let started = Instant::now();
    let (node, feed) = start(without_snapshots(data)).await;
    let (seconds, sequence) = (started.elapsed().as_secs_f64(), node.stats().applied_sequence);
    println!("{sequence} commands in {seconds:.2} s: {:.0} a second", sequence as f64 / seconds);
    node.stop().await;
    feed.join().expect("the feed does not panic");
}

/// Filing alone: a replay feeds history's thread as fast as that takes it.
async fn measure_history(arguments: &Arguments, data: &Path) {
    if !data.exists() {
        let clients = arguments.clients.last().copied().unwrap_or(4_096);
        let (node, feed) = start(without_snapshots(data)).await;
        list(&node, clients).await;
        run_clients(&node, clients, arguments.seconds).await;
        node.stop().await;
        feed.join().expect("the feed does not panic");
    }
    let done = AtomicBool::new(false);
    let (report, seconds, threads) = std::thread::scope(|scope| {
        let watched = scope.spawn(|| watch_threads(&done));
        let started = Instant::now();
        let report = journal::recovery::rebuild_history(data, &mut ()).expect("the log is whole");
        let seconds = started.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        (report, seconds, watched.join().expect("Linux tells of threads"))
    });
    let commands = report.end.0.0 as f64;
    println!("{commands} commands in {seconds:.2} s: {:.0} a second", commands / seconds);
    println!("{:>16} {:>16}", "thread", "CPU ns/command");
    for (name, nanoseconds) in threads {
        println!("{name:>16} {:>16.0}", nanoseconds as f64 / commands);
        keep("history", &name, "CPU ns/command", nanoseconds as f64 / commands, report.end.0.0 as usize);
    }
}

/// The CPU time that threads of this process take until it is `done`, by their names; of one that ends, but for a last moment.
fn watch_threads(done: &AtomicBool) -> BTreeMap<String, u64> {
    const INTERVAL: Duration = Duration::from_millis(2);
    let (mut first, mut last) = (BTreeMap::new(), BTreeMap::new());
    while !done.load(Ordering::Relaxed) {
        for task in std::fs::read_dir("/proc/self/task").expect("Linux").flatten() {
            let read = |file| std::fs::read_to_string(task.path().join(file));
            // It may have ended meanwhile.
            let (Ok(name), Ok(times)) = (read("comm"), read("schedstat")) else { continue };
            let Some(time) = times.split(' ').next().and_then(|time| time.parse::<u64>().ok()) else { continue };
            let thread = (task.file_name(), name.trim().to_owned());
            first.entry(thread.clone()).or_insert(time);
            last.insert(thread, time);
        }
        std::thread::sleep(INTERVAL);
    }
    let mut threads = BTreeMap::new();
    for (thread, time) in last {
        *threads.entry(thread.1.clone()).or_default() += time - first[&thread];
    }
    threads
}

/// So many clients in a closed loop without snapshots, with one after the other, and without again.
async fn measure_snapshots(arguments: &Arguments, resting: u64) {
    let folder = tempfile::tempdir_in(&arguments.directory).expect("the directory can be written");
    let clients = arguments.clients[0];
    let (node, feed) = start(without_snapshots(folder.path())).await;
    list(&node, clients).await;
    rest(&node, clients, resting).await;
    node.stop().await;
    feed.join().expect("the feed does not panic");
    println!(
        "{:>10} {:>12} {:>10} {:>10} {:>10} {:>10}",
        "snapshots", "commands/s", "p50 us", "p99 us", "p99.9 us", "max us"
    );
    for every in [u64::MAX, 1, u64::MAX, 1] {
        let config = NodeConfig { snapshot_every_commands: every, ..without_snapshots(folder.path()) };
        let (node, feed) = start(config).await;
        // After a start history first takes up the open orders, which is not what is measured here.
        assert!(node.history().wait_until_settled(engine::Sequence(0)), "the node goes on");
        let (seconds, latencies) = run_clients(&node, clients, arguments.seconds).await;
        println!(
            "{:>10} {:>12.0} {:>10.0} {:>10.0} {:>10.0} {:>10.0}",
            node.stats().snapshots,
            latencies.len() as f64 / seconds,
            at(&latencies, 0.5),
            at(&latencies, 0.99),
            at(&latencies, 0.999),
            at(&latencies, 1.0)
        );
        node.stop().await;
        feed.join().expect("the feed does not panic");
    }
}

/// Buy orders far below the market, spread over the accounts and over prices.
async fn rest(node: &Node, clients: usize, resting: u64) {
    let mut under_way = std::collections::VecDeque::new();
    for number in 0..resting {
        let place = PlaceOrder {
            uid: uid((number % clients as u64) as usize),
            symbol: SymbolId(0),
            client_order_id: ClientOrderId::new(&format!("r-{number}")).expect("a legal name"),
            side: Side::Buy,
            order_type: OrderType::Limit,
            time_in_force: TimeInForce::Gtc,
            price: Amount(u128::from(1 + number % 100_000) * 1_000_000),
            quantity: OrderQuantity::Base(Amount(100_000)),
            self_trade_prevention: None,
            special: None,
        };
        let (caller, answer) = oneshot::channel();
        node.sequencer().submit(Command::PlaceOrder(place), Some(caller)).expect("the queue has room");
        under_way.push_back(answer);
        if under_way.len() == 10_000
            && let Some(oldest) = under_way.pop_front()
        {
            let _ = oldest.await;
        }
    }
    for answer in under_way {
        let answer: Answer = answer.await.expect("the node goes on");
        assert!(!matches!(answer.events()[0], Event::Rejected(_)), "{:?}", answer.events());
    }
}

/// So many clients in a closed loop: on one node; on the leader of three; on a follower; and on the bare cluster.
async fn measure_cluster(arguments: &Arguments, rounds: usize) {
    println!(
        "{:>8} {:>10} {:>12} {:>7} {:>10} {:>10} {:>10} {:>10} {:>8}",
        "clients", "on", "commands/s", "CPU us", "p50 us", "p99 us", "p99.9 us", "per entry", "of bare"
    );
    for clients in &arguments.clients {
        let mut measured: [Vec<Run>; 4] = Default::default();
        for _ in 0..rounds.max(1) {
            let round = measure_round(arguments, *clients).await;
            measured.iter_mut().zip(round).for_each(|(runs, run)| runs.push(run));
        }
        let [one, on_leader, on_follower, bare] = measured.map(median);
        for (case, run) in [("one node", &one), ("leader", &on_leader), ("follower", &on_follower), ("bare", &bare)] {
            let ratio = run.rate / bare.rate;
            println!(
                "{clients:>8} {case:>10} {:>12.0} {:>7.2} {:>10.0} {:>10.0} {:>10.0} {:>10.1} {ratio:>8.2}",
                run.rate,
                run.cpu_us,
                at(&run.latencies, 0.5),
                at(&run.latencies, 0.99),
                at(&run.latencies, 0.999),
                run.per_entry
            );
            let case = format!("{clients} clients, {case}");
            keep("cluster", &case, "commands/s", run.rate, run.latencies.len());
            keep("cluster", &case, "of bare", ratio, run.latencies.len());
        }
    }
}

/// What clients got done.
struct Run {
    /// Commands a second.
    rate: f64,
    /// CPU time of the whole process for each.
    cpu_us: f64,
    /// Of a command; where nothing but openraft runs, of an entry. Ascending, in tenths of a microsecond.
    latencies: Vec<u32>,
    /// Commands in an entry, on average.
    per_entry: f64,
}

/// The one in the middle by rate.
fn median(mut runs: Vec<Run>) -> Run {
    runs.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    runs.swap_remove(runs.len() / 2)
}

/// One node, three with clients on the leader, the same with clients on a follower, and three bare ones with entries as large.
async fn measure_round(arguments: &Arguments, clients: usize) -> [Run; 4] {
    let folder = tempfile::tempdir_in(&arguments.directory).expect("the directory can be written");
    let (node, feed) = start(without_snapshots(&folder.path().join("one"))).await;
    list(&node, clients).await;
    let one = run(&node, clients, arguments.seconds).await;
    node.stop().await;
    feed.join().expect("the feed does not panic");

    let nodes = three(&folder.path().join("three"), start).await;
    let leader = nodes.iter().position(|(node, _)| node.leads()).expect("one of them leads");
    list(&nodes[leader].0, clients).await;
    let on_leader = run(&nodes[leader].0, clients, arguments.seconds).await;
    let on_follower = run(&nodes[(leader + 1) % 3].0, clients, arguments.seconds).await;
    for (node, feed) in nodes {
        node.stop().await;
        feed.join().expect("the feed does not panic");
    }

    let start_bare = async |config| Bare::start(config).await.expect("the directory is new");
    let nodes = three(&folder.path().join("bare"), start_bare).await;
    let leader = nodes.iter().position(Bare::leads).expect("one of them leads");
    let bare = run_bare(&nodes[leader], clients, on_leader.per_entry, arguments.seconds).await;
    for node in nodes {
        node.stop().await;
    }
    [one, on_leader, on_follower, bare]
}

async fn run(node: &Node, clients: usize, seconds: f64) -> Run {
    let (before, cpu) = (node.stats(), process_cpu_time());
    let (seconds, latencies) = run_clients(node, clients, seconds).await;
    let cpu = process_cpu_time() - cpu;
    let entries = (node.stats().log_entries - before.log_entries).max(1);
    let commands = latencies.len() as f64;
    let cpu_us = cpu.as_secs_f64() * 1e6 / commands;
    Run { rate: commands / seconds, cpu_us, per_entry: commands / entries as f64, latencies }
}

/// Writers that each have one entry under way, as many as a node has at the most, and as there are commands for.
async fn run_bare(leader: &Bare, clients: usize, per_entry: f64, seconds: f64) -> Run {
    let per_entry = (per_entry.round() as usize).clamp(1, clients);
    let entries_in_flight = clients.div_ceil(per_entry).min(NodeConfig::new("").entries_in_flight);
    let (started, cpu) = (Instant::now(), process_cpu_time());
    let writers = (0..entries_in_flight).map(async |writer| {
        let mut latencies = Vec::new();
        for number in 0u64.. {
            let began = Instant::now();
            if (began - started).as_secs_f64() > seconds {
                break;
            }
            let commands = (0..per_entry).map(|at| order(writer * per_entry + at, number)).collect();
            assert!(leader.write(commands).await, "the bare cluster goes on");
            latencies.push((began.elapsed().as_nanos() / 100) as u32);
        }
        latencies
    });
    let latencies = futures_util::future::join_all(writers).await;
    let commands = latencies.iter().flatten().count() as f64 * per_entry as f64;
    let rate = commands / started.elapsed().as_secs_f64();
    let cpu_us = (process_cpu_time() - cpu).as_secs_f64() * 1e6 / commands;
    let mut latencies = latencies.concat();
    latencies.sort_unstable();
    Run { rate, cpu_us, latencies, per_entry: per_entry as f64 }
}

/// Three nodes that form a cluster over loopback.
async fn three<N: Send + 'static>(folder: &Path, start: impl AsyncFn(NodeConfig) -> N) -> Vec<N> {
    let free = |_| TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    // Held together, or one may be given out twice.
    let listeners = [1, 2, 3].map(free);
    let addresses = listeners.each_ref().map(|listener| listener.local_addr().expect("it is bound").to_string());
    drop(listeners);
    let members: BTreeMap<u64, String> = (1..=3).zip(addresses).collect();
    let starts = members.keys().map(|number| {
        let cluster = journal::ClusterConfig::new(*number, members.clone());
        let data = folder.join(number.to_string());
        start(NodeConfig { cluster: Some(cluster), ..without_snapshots(&data) })
    });
    futures_util::future::join_all(starts).await
}

/// The defaults, many clients, ten lines on the way; then a start.
async fn measure_growth(arguments: &Arguments, orders: u64) {
    let folder = tempfile::tempdir_in(&arguments.directory).expect("the directory can be written");
    let config = NodeConfig::new(folder.path());
    let (mut node, mut feed) = start(config.clone()).await;
    let clients = arguments.clients.last().copied().unwrap_or(4_096);
    list(&node, clients).await;
    println!(
        "{:>12} {:>10} {:>12} {:>12} {:>12} {:>10} {:>10} {:>10} {:>8}",
        "orders", "seconds", "log bytes", "written", "directory", "database", "snapshots", "logged x", "start s"
    );
    let (mut placed, mut logged, mut elapsed) = (0, 0, 0.0);
    let written_before = bytes_written();
    while placed < orders {
        let before = node.stats().log_bytes;
        let (seconds, latencies) = run_clients(&node, clients, arguments.seconds).await;
        // Two of three commands are orders.
        placed += latencies.len() as u64 * 2 / 3;
        elapsed += seconds;
        logged += node.stats().log_bytes - before;
        node.stop().await;
        feed.join().expect("the feed does not panic");
        let (all, database, snapshots) =
            (size_of(folder.path()), size_of(&folder.path().join("db")), size_of(&folder.path().join("snapshots")));
        let written = bytes_written() - written_before;
        let started = Instant::now();
        (node, feed) = start(config.clone()).await;
        println!(
            "{placed:>12} {elapsed:>10.0} {logged:>12} {written:>12} {all:>12} {database:>10} {snapshots:>10} {:>10.2} {:>8.2}",
            written as f64 / logged as f64,
            started.elapsed().as_secs_f64()
        );
    }
    node.stop().await;
    feed.join().expect("the feed does not panic");
}

/// What this process had the disk write.
fn bytes_written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok()).expect("Linux counts it")
}

fn size_of(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return path.metadata().map_or(0, |found| found.len()) };
    entries.flatten().map(|entry| size_of(&entry.path())).sum()
}

fn without_snapshots(data: &Path) -> NodeConfig {
    NodeConfig { snapshot_every_entries: u64::MAX, snapshot_every_commands: u64::MAX, ..NodeConfig::new(data) }
}

async fn list(node: &Node, clients: usize) {
    for command in listing(clients) {
        ask(&node.sequencer(), command).await;
    }
}

/// How long they really ran, and what each answer took, ascending, in tenths of a microsecond.
async fn run_clients(node: &Node, clients: usize, seconds: f64) -> (f64, Vec<u32>) {
    let (stop, latencies) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let started = Instant::now();
    let running: Vec<_> = (0..clients)
        .map(|client| tokio::spawn(run_client(client, node.sequencer(), stop.clone(), latencies.clone())))
        .collect();
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    for client in running {
        client.await.expect("no client panics");
    }
    let seconds = started.elapsed().as_secs_f64();
    let mut latencies = std::mem::take(&mut *latencies.lock().expect("no client panics"));
    latencies.sort_unstable();
    (seconds, latencies)
}

/// What a run came to.
struct Journal {
    commands_per_second: f64,
    commands_per_sync: f64,
    entries_per_sync: f64,
    bytes_per_sync: f64,
    us_per_sync: f64,
    p50_us: f64,
}

impl Journal {
    fn of(seconds: f64, latencies: &[u32], before: &Stats, after: &Stats) -> Journal {
        let syncs = (after.log_syncs - before.log_syncs).max(1) as f64;
        Journal {
            commands_per_second: latencies.len() as f64 / seconds,
            commands_per_sync: latencies.len() as f64 / syncs,
            entries_per_sync: (after.log_entries - before.log_entries) as f64 / syncs,
            bytes_per_sync: (after.log_bytes - before.log_bytes) as f64 / syncs,
            us_per_sync: (after.log_sync_ns - before.log_sync_ns) as f64 / syncs / 1_000.0,
            p50_us: at(latencies, 0.5),
        }
    }
}

/// What the same bytes cost without a journal.
struct BareWrites {
    commands_per_second: f64,
    p50_us: f64,
}

/// One thread that writes batches of the size that the journal's had to RocksDB, synced, and does nothing else.
fn bare(path: &Path, seconds: f64, like: &Journal) -> BareWrites {
    let mut options = Options::default();
    options.create_if_missing(true);
    let database = DB::open(&options, path).expect("the directory can be written");
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    let entries = like.entries_per_sync.round().max(1.0) as usize;
    let value = vec![0x5a; (like.bytes_per_sync / entries as f64) as usize];
    let (mut latencies, mut index, started) = (Vec::new(), 0u64, Instant::now());
    while started.elapsed().as_secs_f64() < seconds {
        let mut batch = WriteBatch::default();
        for _ in 0..entries {
            batch.put(index.to_be_bytes(), &value);
            index += 1;
        }
        let started = Instant::now();
        database.write_opt(batch, &synced).expect("the disk takes it");
        latencies.push((started.elapsed().as_nanos() / 100) as u32);
    }
    let syncs_per_second = latencies.len() as f64 / started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    BareWrites { commands_per_second: syncs_per_second * like.commands_per_sync, p50_us: at(&latencies, 0.5) }
}

/// In microseconds; `latencies` ascend, in tenths of one.
fn at(latencies: &[u32], part: f64) -> f64 {
    f64::from(latencies[((latencies.len() as f64 * part) as usize).min(latencies.len() - 1)]) / 10.0
}

/// A node that has recovered, with a feed that does nothing but answer.
async fn start(config: NodeConfig) -> (Node, JoinHandle<()>) {
    let (node, published) = Node::start(config).await.expect("the directory is whole");
    let feed = Feed(Answering::here());
    let feed = std::thread::spawn(move || published.serve(feed));
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

/// Does nothing but answer.
struct Feed(Answering);

impl Consumer<Published> for Feed {
    fn consume(&mut self, published: Published) -> bool {
        if let Published::Applied { applied, callers, road } = published {
            self.0.tell(&applied, callers, road);
        }
        true
    }

    fn is_quick(&self, published: &Published) -> bool {
        matches!(published, Published::Applied { applied, .. } if applied.len() <= FEW_COMMANDS)
    }
}

fn report(
    clients: usize,
    cpu_us: f64,
    latencies: &[u32],
    journal: &Journal,
    bare: &BareWrites,
    start_seconds: f64,
    replayed: f64,
) {
    let (p99, p999) = (at(latencies, 0.99), at(latencies, 0.999));
    let ratio = journal.commands_per_second / bare.commands_per_second;
    let p50_ratio = journal.p50_us / bare.p50_us;
    println!(
        "{clients:>8} {:>12.0} {cpu_us:>7.2} {:>10.0} {p99:>10.0} {p999:>10.0} {:>10.1} {:>10.0} {:>10.0} {:>12.0} {:>12.0} {ratio:>8.2} \
         {p50_ratio:>10.2} {start_seconds:>8.2} {replayed:>12.0}",
        journal.commands_per_second,
        journal.p50_us,
        journal.commands_per_sync,
        journal.bytes_per_sync,
        journal.us_per_sync,
        bare.commands_per_second,
        bare.p50_us,
    );
    for (unit, value) in [
        ("commands/s", journal.commands_per_second),
        ("CPU us per command", cpu_us),
        ("p50 us", journal.p50_us),
        ("p99 us", p99),
        ("p99.9 us", p999),
        ("of bare", ratio),
        ("p50 of bare", p50_ratio),
        ("replayed/s", replayed),
    ] {
        keep("journal", &format!("closed loop, {clients} clients"), unit, value, latencies.len());
    }
}

/// Appends a figure to `target/bench.jsonl`.
fn keep(bench: &str, case: &str, unit: &str, value: f64, n: usize) {
    let mut file = File::options().create(true).append(true).open("target/bench.jsonl").expect("target can be written");
    let line = serde_json::json!({"bench": bench, "case": case, "unit": unit, "value": value, "n": n});
    writeln!(file, "{line}").expect("target can be written");
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
