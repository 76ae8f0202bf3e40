//! A follower in trouble, under load: standing still, dead, out of room, damaged. The cluster goes on without it, and says
//! which node it is and what is wrong, in its status and in its metrics; and when the trouble is over the node catches up.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyper::Method;
use tempfile::TempDir;
use tests::clients::{Clients, Manner, Told};
use tests::cluster::{Cluster, PATIENCE, Status, check_logs};
use tests::data_folder::{write_ahead_logs, written};
use tests::exchange::{bootstrap, credentials, fast_folder, number_from};
use tests::load::{Load, SYMBOL};
use tests::sandbox::{self, Mount};

const ACCOUNTS: usize = 8;
const SETTINGS: &str = "[journal]\nballast_bytes = 0\nlow_space_bytes = 0\n";
const ALL: [u64; 3] = [1, 2, 3];
/// How long the cluster is watched while a follower is in trouble.
const WATCH: Duration = Duration::from_secs(2);
/// How long no acknowledgement may be missing while it is only a follower that is in trouble: an election would take longer
/// than that, and there must be none. Far more than what a busy machine does.
const GAP_MAX: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_cluster_goes_on_without_a_follower_that_stands_still_and_names_it() {
    let seed = seed();
    let mut cluster = Cluster::start(3, &bootstrap(ACCOUNTS, "0.0005", "0.001"), SETTINGS);
    let (leader, follower) = leader_and_follower(&cluster);
    let clients = clients(&cluster, seed, follower);
    cluster.pause(follower);
    let began = Instant::now();
    named(&cluster, leader, follower, "paused").await;
    tokio::time::sleep(WATCH).await;
    cluster.resume(follower);
    let ended = Instant::now();
    well_again(&cluster, leader, follower).await;
    let told = clients.finish().await;
    goes_on(&told, began, ended, seed);
    check_logs(&mut cluster, &told, &[], &format!("RIALTO_SEED={seed}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_cluster_goes_on_without_a_dead_follower_and_names_it() {
    let seed = seed();
    let mut cluster = Cluster::start(3, &bootstrap(ACCOUNTS, "0.0005", "0.001"), SETTINGS);
    let (leader, follower) = leader_and_follower(&cluster);
    let clients = clients(&cluster, seed, follower);
    let began = Instant::now();
    cluster.kill(follower);
    named(&cluster, leader, follower, "dead").await;
    tokio::time::sleep(WATCH).await;
    let ended = Instant::now();
    cluster.restart(follower);
    cluster.wait_ready(follower);
    well_again(&cluster, leader, follower).await;
    let told = clients.finish().await;
    goes_on(&told, began, ended, seed);
    check_logs(&mut cluster, &told, &[], &format!("RIALTO_SEED={seed}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_cluster_goes_on_without_a_follower_whose_disk_is_full_and_names_it() {
    if !sandbox::is_inside("the_cluster_goes_on_without_a_follower_whose_disk_is_full_and_names_it") {
        return;
    }
    const DISK_BYTES: u64 = 512 << 20;
    let seed = seed();
    let folder = TempDir::new_in(fast_folder()).unwrap();
    let disks: Vec<Mount> =
        ALL.iter().map(|id| Mount::memory(&folder.path().join(id.to_string()), DISK_BYTES).unwrap()).collect();
    let on_disk = |id: u64| disks[id as usize - 1].path();
    let places = tests::cluster::on_loopback(ALL.len());
    let settings = "[journal]\nballast_bytes = 16777216\nlow_space_bytes = 67108864\n";
    let bootstrap = bootstrap(ACCOUNTS, "0.0005", "0.001");
    let mut cluster = Cluster::start_at(places, &bootstrap, settings, |id, _| on_disk(id).join("data"));
    let (leader, follower) = leader_and_follower(&cluster);
    let clients = clients(&cluster, seed, follower);
    let filler = on_disk(follower).join("filler");
    fill(&filler);
    let began = Instant::now();
    named(&cluster, leader, follower, "full").await;
    tokio::time::sleep(WATCH).await;
    let ended = Instant::now();
    fs::remove_file(&filler).unwrap();
    if cluster.ends_within(follower, Duration::from_millis(1)) {
        println!("it had stopped: {}", cluster.said(follower).lines().last().unwrap_or_default());
        cluster.restart(follower);
        cluster.wait_ready(follower);
    }
    well_again(&cluster, leader, follower).await;
    let told = clients.finish().await;
    goes_on(&told, began, ended, seed);
    check_logs(&mut cluster, &told, &[], &format!("RIALTO_SEED={seed}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_cluster_goes_on_without_a_follower_with_a_flipped_bit_which_refuses_to_start_and_is_named() {
    let seed = seed();
    let mut cluster = Cluster::start(3, &bootstrap(ACCOUNTS, "0.0005", "0.001"), SETTINGS);
    let (leader, follower) = leader_and_follower(&cluster);
    let clients = clients(&cluster, seed, follower);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    cluster.kill(follower);
    let file = flip_a_bit(cluster.data(follower));
    cluster.restart(follower);
    let error = cluster.try_wait_ready(follower).expect_err("a damaged node does not serve");
    println!("it says: {}", error.lines().last().unwrap_or_default());
    let name = file.file_name().and_then(|name| name.to_str()).expect("a plain name");
    assert!(error.contains(name) || error.contains("sequence"), "which file, or which sequence: {error}");
    named(&cluster, leader, follower, "damaged").await;
    let ended = Instant::now();
    let told = clients.finish().await;
    goes_on(&told, began, ended, seed);
    rebuilt(&mut cluster, leader, follower, &told, seed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_whose_memory_has_a_flipped_bit_stops_serving_and_is_named() {
    let seed = seed();
    // An account with so much of something that the number is nowhere else in memory.
    const BALANCE: (&str, u64) = ("1234567890.1234567891", 12_345_678_901_234_567_891);
    let odd = credentials(ACCOUNTS + 1);
    let more = format!(
        "[[account]]\nuid = {}\nbalances = {{ USD = \"{}\" }}\n[[account.key]]\napi_key = \"{}\"\ntype = \"HMAC\"\n\
         secret = \"{}\"\npermissions = [\"USER_DATA\", \"TRADE\"]\n",
        ACCOUNTS + 1,
        BALANCE.0,
        odd.api_key,
        odd.secret
    );
    let mut cluster = Cluster::start(3, &(bootstrap(ACCOUNTS, "0.0005", "0.001") + &more), SETTINGS);
    let (leader, follower) = leader_and_follower(&cluster);
    cluster.wait_agreed_while_busy(&ALL);
    let found = flip_in_memory(cluster.process_id(follower), &BALANCE.1.to_le_bytes());
    println!("flipped a bit of the number in {found} places");
    assert!(found > 0, "the balance is not to be found in memory");
    // What the account does next comes out otherwise there than elsewhere.
    let order = [
        ("symbol", SYMBOL),
        ("side", "BUY"),
        ("type", "LIMIT"),
        ("timeInForce", "GTC"),
        ("price", "1.00"),
        ("quantity", "1"),
    ];
    let placed = cluster.rest(leader).signed(Method::POST, "/api/v3/order", &order, &odd).await.unwrap();
    assert!(placed.is_success(), "{placed:?}");
    let clients = clients(&cluster, seed, follower);
    let began = Instant::now();
    named(&cluster, leader, follower, "another state").await;
    let end = Instant::now() + PATIENCE;
    while cluster.answers(follower, "/ready") {
        assert!(Instant::now() < end, "a node in another state than the others still serves");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("it says: {}", cluster.said(follower).lines().last().unwrap_or_default());
    tokio::time::sleep(WATCH).await;
    let ended = Instant::now();
    let told = clients.finish().await;
    goes_on(&told, began, ended, seed);
    assert!(cluster.ends_within(follower, PATIENCE), "it goes on, though it serves no more");
    cluster.restart(follower);
    cluster
        .try_wait_ready(follower)
        .expect_err("a node that was in another state does not start as if nothing had been");
    rebuilt(&mut cluster, leader, follower, &told, seed).await;
}

fn seed() -> u64 {
    let seed = number_from("RIALTO_SEED").unwrap_or_else(|| rand::random_range(0..1 << 40));
    println!("RIALTO_SEED={seed}");
    seed
}

fn leader_and_follower(cluster: &Cluster) -> (u64, u64) {
    let leader = cluster.wait_leader(&ALL);
    (leader, ALL.into_iter().find(|id| *id != leader).expect("three nodes"))
}

/// Clients of the two nodes that are well.
fn clients(cluster: &Cluster, seed: u64, not_of: u64) -> Clients {
    let load = Load { seed, prefix: format!("{seed}"), sockets: 16, accounts: ACCOUNTS, in_flight: 2 };
    let addresses = ALL.into_iter().filter(|id| *id != not_of).map(|id| cluster.address(id)).collect();
    Clients::start(load, addresses, Manner { think: Duration::from_millis(4), ..Manner::default() })
}

fn is_well(status: &Status, node: u64) -> bool {
    let member = status.member(node);
    member["trouble"].is_null() && member["role"] != "unreachable"
}

/// Waits until the leader's status and metrics say that this node is not well.
async fn named(cluster: &Cluster, leader: u64, node: u64, what: &str) {
    let end = Instant::now() + PATIENCE;
    let began = Instant::now();
    loop {
        let status = cluster.status(leader);
        if let Some(status) = status.as_ref().filter(|status| !is_well(status, node)) {
            let member = status.member(node);
            let metrics = peer_metrics(cluster, leader, node);
            let says = |name: &str, value: &str| {
                metrics
                    .iter()
                    .any(|line| line.starts_with(&format!("rialto_cluster_member_{name}{{")) && line.ends_with(value))
            };
            assert!(says("reachable", " 0") || says("trouble", " 1"), "the metrics say that it is well: {metrics:?}");
            println!(
                "{what}: named after {:.1?}: role {}, trouble {}; {metrics:?}",
                began.elapsed(),
                member["role"],
                member["trouble"]
            );
            return;
        }
        assert!(Instant::now() < end, "node {node} is {what} and nobody says so: {status:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the metrics of one node say of another.
fn peer_metrics(cluster: &Cluster, of: u64, node: u64) -> Vec<String> {
    let text = cluster.get(of, "/metrics").expect("the leader answers");
    let label = format!("node=\"{node}\"");
    text.lines().filter(|line| line.contains(&label)).map(str::to_owned).collect()
}

async fn well_again(cluster: &Cluster, leader: u64, node: u64) {
    let end = Instant::now() + PATIENCE;
    let began = Instant::now();
    while !cluster.status(leader).is_some_and(|status| is_well(&status, node)) {
        assert!(Instant::now() < end, "node {node} is well and nobody says so: {:?}", cluster.status(leader));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.wait_agreed_while_busy(&ALL);
    println!("caught up after {:.1?}", began.elapsed());
}

/// A node that does not run starts anew from the others, and comes to their state.
async fn rebuilt(cluster: &mut Cluster, leader: u64, node: u64, told: &[Told], seed: u64) {
    let began = Instant::now();
    cluster.rebuild(node, leader);
    println!("rebuilt from the others in {:.1?}", began.elapsed());
    well_again(cluster, leader, node).await;
    // It may have begun with a snapshot instead of the first entry.
    check_logs(cluster, told, &[node], &format!("RIALTO_SEED={seed}"));
}

/// Whether acknowledgements came all the time.
fn goes_on(told: &[Told], began: Instant, ended: Instant, seed: u64) {
    let mut moments: Vec<Instant> = told.iter().filter(|told| told.is_done()).map(|told| told.ended).collect();
    moments.retain(|moment| (began..ended).contains(moment));
    moments.extend([began, ended]);
    moments.sort_unstable();
    let gap = moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    println!("{} acknowledged in {:.1?}, the longest gap {gap:.0?}", moments.len() - 2, ended - began);
    assert!(gap < GAP_MAX, "RIALTO_SEED={seed}: nothing was acknowledged for {gap:?}");
    let failed: Vec<&Told> = told.iter().filter(|told| told.is_failed()).take(3).collect();
    assert!(failed.is_empty(), "RIALTO_SEED={seed}: {failed:#?}");
}

/// Flips the lowest bit of every place in a process's memory where these bytes stand; how many there were.
fn flip_in_memory(process: u32, bytes: &[u8]) -> usize {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = fs::File::options().read(true).write(true).open(format!("/proc/{process}/mem")).unwrap();
    let mut found = 0;
    for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
        let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).expect("an address"));
        let mut region = vec![0; usize::try_from(to - from).expect("a region fits")];
        if memory.read_exact_at(&mut region, from).is_err() {
            // The kernel's own, or gone since.
            continue;
        }
        for (at, _) in region.windows(bytes.len()).enumerate().filter(|(_, window)| *window == bytes) {
            memory.write_all_at(&[bytes[0] ^ 1], from + at as u64).unwrap();
            found += 1;
        }
    }
    found
}

/// Takes all the room there is.
fn fill(filler: &Path) {
    let mut file = fs::File::create(filler).unwrap();
    let piece = vec![0; 1 << 20];
    while file.write_all(&piece).is_ok() {}
}

/// Flips a bit in the middle of what was written last; in which file.
fn flip_a_bit(data: &Path) -> PathBuf {
    let logs = write_ahead_logs(data);
    let path = logs.iter().max_by_key(|path| written(path)).expect("a log").clone();
    let at = written(&path) / 2;
    let mut file = fs::File::options().read(true).write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    let mut byte = [0];
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 0x10]).unwrap();
    path
}
