//! Three real nodes under load, and what befalls nodes: killed, stopped, paused, replaced, out of room, damaged. Whatever a
//! client was told stays so and stands once; clients that ask again once, elsewhere, see no error.
//!
//! Each test prints its seed (`RIALTO_SEED=n` runs the same clients again) and a table of what it measured. CI runs a few
//! rounds of each; `RIALTO_FAILOVERS=100` runs as many as one likes.

use std::time::{Duration, Instant};

use gateway::client::{Answer, Rest};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tests::clients::{Clients, Durations, Manner, Told, first_done_after};
use tests::cluster::{Cluster, check_logs};
use tests::exchange::{bootstrap, number_from};
use tests::load::{Load, SYMBOL};
use tests::subscriber::{Book, compare_candles, keep_book, keep_candles};

const ACCOUNTS: usize = 8;
/// Restarts are short for their snapshots, and the log is whole to the end.
const SETTINGS: &str =
    "[journal]\nballast_bytes = 0\nlow_space_bytes = 0\nsnapshot_every_entries = 5000\nlog_bytes_kept = 100000000000\n";
/// Between two requests of a socket, so that the nodes and not the clients have the machine.
const THINK: Duration = Duration::from_millis(15);
const ALL: [u64; 3] = [1, 2, 3];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_leaders_lose_nothing_acknowledged_and_nothing_is_done_twice() {
    let seed = seed();
    let rounds = number_from("RIALTO_FAILOVERS").unwrap_or(5);
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = start();
    let clients = clients(&cluster, seed, 64);
    let mut kills = Vec::new();
    for _ in 0..rounds {
        let leader = cluster.wait_leader(&ALL);
        pause(&mut random, 200..600).await;
        kills.push((leader, Instant::now()));
        cluster.kill(leader);
        pause(&mut random, 400..1_500).await;
        cluster.restart(leader);
        cluster.wait_ready(leader);
    }
    let told = clients.finish().await;
    println!("{}", failover_table(&told, &kills));
    report_clients(&told);
    let (orders, trades) = check_logs(&mut cluster, &told, &[], &format!("RIALTO_SEED={seed}"));
    println!("{orders} orders, {trades} trades; nothing acknowledged is missing, nothing stands twice");
    no_errors(&told, seed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn books_and_candles_kept_on_a_surviving_node_go_through_failovers_without_a_gap() {
    let seed = seed();
    let rounds = number_from("RIALTO_FAILOVERS").unwrap_or(4);
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = start();
    const SURVIVOR: u64 = 3;
    let address = cluster.address(SURVIVOR);
    let clients = clients(&cluster, seed, 16);
    let book = keep_book(&address, SYMBOL).await;
    let seconds = keep_candles(&address, SYMBOL, "1s").await;
    let minutes = keep_candles(&address, SYMBOL, "1m").await;
    for _ in 0..rounds {
        let mut leader = cluster.wait_leader(&ALL);
        if leader == SURVIVOR {
            cluster.must(SURVIVOR, "transfer-leader", &["1"]);
            while leader == SURVIVOR {
                leader = cluster.wait_leader(&ALL);
            }
        }
        pause(&mut random, 200..600).await;
        cluster.kill(leader);
        pause(&mut random, 400..1_500).await;
        cluster.restart(leader);
        cluster.wait_ready(leader);
    }
    let told = clients.finish().await;
    cluster.wait_agreed(&ALL);
    let (book, seconds, minutes) = (book.finish().await, seconds.finish().await, minutes.finish().await);
    let leader = cluster.wait_leader(&ALL);
    let rest = cluster.rest(leader);
    let get = async |path: &str, more: &[(&str, &str)]| -> Value {
        let parameters = [&[("symbol", SYMBOL)], more].concat();
        rest.get(path, &parameters).await.expect("the leader answers").body
    };
    let snapshot = get("/api/v3/depth", &[("limit", "5000")]).await;
    println!(
        "{rounds} failovers; the book had {} events and has {} levels at update {}; candles: {} events of 1s, {} of 1m",
        book.events,
        book.kept.1.levels(),
        book.kept.0,
        seconds.events,
        minutes.events
    );
    assert!(book.complaints.is_empty(), "RIALTO_SEED={seed}: {:#?}", book.complaints);
    let last = snapshot["lastUpdateId"].as_u64().expect("an update id");
    assert_eq!(book.kept, (last, Book::of(&snapshot)), "RIALTO_SEED={seed}");
    assert!(book.events > 0 && last > 0);
    for (kept, interval) in [(seconds, "1s"), (minutes, "1m")] {
        let mut complaints = kept.complaints;
        let first = kept.kept.keys().next().expect("a candle").to_string();
        let mut rows = Vec::new();
        loop {
            let from =
                rows.last().map_or(first.clone(), |row: &Value| (row[0].as_u64().expect("a time") + 1).to_string());
            let page = get("/api/v3/klines", &[("interval", interval), ("startTime", &from), ("limit", "1000")]).await;
            let page = page.as_array().expect("rows").clone();
            if page.is_empty() {
                break;
            }
            rows.extend(page);
        }
        complaints.extend(compare_candles(&kept.kept, &Value::Array(rows)));
        assert!(complaints.is_empty(), "RIALTO_SEED={seed}: {interval}: {complaints:#?}");
    }
    check_logs(&mut cluster, &told, &[], &format!("RIALTO_SEED={seed}"));
    no_errors(&told, seed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rolling_restart_of_all_nodes_shows_no_error_to_a_client_that_asks_again_once() {
    let seed = seed();
    let rounds = number_from("RIALTO_FAILOVERS").unwrap_or(2);
    let mut cluster = start();
    let clients = clients(&cluster, seed, 64);
    let mut stops = Vec::new();
    let mut starts = Vec::new();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..rounds {
        for id in ALL {
            let leader = cluster.wait_leader(&ALL);
            stops.push((id, Instant::now()));
            let took = cluster.stop(id);
            let started = Instant::now();
            cluster.restart(id);
            cluster.wait_ready(id);
            let role = if id == leader { "leader" } else { "follower" };
            starts.push(format!("| {id} | {role} | {took:.0?} | {:.0?} |", started.elapsed()));
        }
    }
    let told = clients.finish().await;
    println!("| node | was | stopped in | started in |\n|--:|:--|--:|--:|\n{}", starts.join("\n"));
    println!("{}", failover_table(&told, &stops));
    report_clients(&told);
    check_logs(&mut cluster, &told, &[], &format!("RIALTO_SEED={seed}"));
    no_errors(&told, seed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_is_replaced_under_load_and_no_client_that_asks_again_once_sees_an_error() {
    let seed = seed();
    let mut cluster = start();
    let clients = clients(&cluster, seed, 64);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let leader = cluster.wait_leader(&ALL);
    let lost = if leader == 2 { 3 } else { 2 };
    cluster.kill(lost);
    let started = Instant::now();
    cluster.must(leader, "remove", &[&lost.to_string()]);
    cluster.forget(lost);
    let leader = cluster.wait_leader(&cluster.running());
    cluster.join(4, leader);
    cluster.wait_ready(4);
    let members = cluster.running();
    let is_voter = |cluster: &Cluster| cluster.status(leader).is_some_and(|status| status.member(4)["voter"] == true);
    eventually("node 4 votes", || is_voter(&cluster)).await;
    println!("node {lost} was replaced by node 4 in {:.1?}", started.elapsed());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let told = clients.finish().await;
    report_clients(&told);
    let status = cluster.wait_agreed(&members);
    assert_eq!(status.member(lost), &Value::Null, "{status:?}");
    // The new node is one of three: without it, and another, nothing goes on; with it, it does.
    let other = members.iter().copied().find(|id| *id != 4 && Some(*id) != status.leader()).expect("three nodes");
    cluster.kill(other);
    let two: Vec<u64> = cluster.running();
    cluster.wait_leader(&two);
    let more = clients_of(&cluster, seed + 1, 8, &two);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let more = more.finish().await;
    assert!(more.iter().any(Told::is_done), "RIALTO_SEED={seed}: the new node is of no use");
    cluster.restart(other);
    cluster.wait_ready(other);
    let all = [told, more].concat();
    // A learner may begin with a snapshot instead of the first entry.
    check_logs(&mut cluster, &all, &[4], &format!("RIALTO_SEED={seed}"));
    no_errors(&all, seed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_was_removed_while_it_ran_stops_and_says_why() {
    let mut cluster = start();
    let leader = cluster.wait_leader(&ALL);
    let gone = if leader == 3 { 2 } else { 3 };
    cluster.must(leader, "remove", &[&gone.to_string()]);
    assert!(cluster.ends_within(gone, Duration::from_secs(10)), "{}", cluster.said(gone));
    assert!(cluster.said(gone).contains("this node was removed from the cluster"), "{}", cluster.said(gone));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_hears_no_leader_is_not_ready() {
    let mut cluster = Cluster::start(1, &bootstrap(ACCOUNTS, "0.0005", "0.001"), SETTINGS);
    cluster.follow(2, 1);
    cluster.wait_ready(2);
    cluster.pause(1);
    eventually("the learner is not ready", || !cluster.answers(2, "/ready")).await;
    cluster.resume(1);
    eventually("the learner is ready again", || cluster.answers(2, "/ready")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_lead_goes_to_no_node_that_is_not_there_and_to_one_that_is() {
    let mut cluster = start();
    let leader = cluster.wait_leader(&ALL);
    let (dead, well) = if leader == 1 { (2, 3) } else { (1, 5 - leader) };
    cluster.kill(dead);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let term = cluster.status(leader).map(|status| status.term());
    let output = cluster.command(leader, "transfer-leader", &[&dead.to_string()]);
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(cluster.status(leader).map(|status| status.term()), term, "nobody was asked to lead");
    cluster.must(leader, "transfer-leader", &[&well.to_string()]);
    assert_eq!(cluster.wait_leader(&[leader, well]), well);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_that_must_be_current_waits_for_the_next_leader() {
    let cluster = start();
    let leader = cluster.wait_leader(&ALL);
    let other = if leader == 1 { 2 } else { 1 };
    let rest = Rest::linearizable(&cluster.address(other));
    cluster.pause(leader);
    let answer = rest.get("/api/v3/depth", &[("symbol", SYMBOL)]).await;
    assert!(answer.as_ref().is_ok_and(Answer::is_success), "{answer:?}");
    cluster.resume(leader);
}

fn seed() -> u64 {
    let seed = number_from("RIALTO_SEED").unwrap_or_else(|| rand::random_range(0..1 << 40));
    println!("RIALTO_SEED={seed}");
    seed
}

fn start() -> Cluster {
    Cluster::start(3, &bootstrap(ACCOUNTS, "0.0005", "0.001"), SETTINGS)
}

fn clients(cluster: &Cluster, seed: u64, sockets: usize) -> Clients {
    clients_of(cluster, seed, sockets, &cluster.ids())
}

fn clients_of(cluster: &Cluster, seed: u64, sockets: usize, nodes: &[u64]) -> Clients {
    let load = Load { seed, prefix: format!("{seed}"), sockets, accounts: ACCOUNTS, in_flight: 2 };
    let addresses = nodes.iter().map(|id| cluster.address(*id)).collect();
    Clients::start(load, addresses, Manner { think: THINK, ..Manner::default() })
}

async fn pause(random: &mut StdRng, ms: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(random.random_range(ms))).await;
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + tests::cluster::PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// From each moment at which a node was taken away: how long until something asked after it was acknowledged.
fn failover_table(told: &[Told], moments: &[(u64, Instant)]) -> String {
    let first = |at: Instant| first_done_after(told, at).expect("something is acknowledged again").duration_since(at);
    let times = Durations::new(moments.iter().map(|(_, at)| first(*at)).collect());
    let [p50, p90, p99] = [50, 90, 99].map(|percent| times.percentile(percent));
    format!(
        "| times | median | p90 | p99 | worst |\n|--:|--:|--:|--:|--:|\n| {} | {p50:.0?} | {p90:.0?} | {p99:.0?} | {:.0?} |",
        moments.len(),
        times.worst()
    )
}

fn report_clients(told: &[Told]) {
    let count = |wanted: &dyn Fn(&&Told) -> bool| told.iter().filter(wanted).count();
    let longest = told.iter().map(|told| told.ended.duration_since(told.asked)).max().unwrap_or_default();
    println!(
        "{} requests, {} acknowledged, {} asked twice, {} failed; the longest took {longest:.1?}",
        told.len(),
        count(&|told| told.is_done()),
        count(&|told| told.attempts > 1),
        count(&|told| told.is_failed())
    );
}

fn no_errors(told: &[Told], seed: u64) {
    let failed: Vec<&Told> = told.iter().filter(|told| told.is_failed()).collect();
    assert!(failed.is_empty(), "RIALTO_SEED={seed}: {} failed: {:#?}", failed.len(), &failed[..failed.len().min(3)]);
}
