//! Whether what clients see, by whichever node and through whatever befalls the nodes, could have been one exchange doing one
//! thing at a time. The checker is that of the crate todc-utils (Wing and Gong, with Lowe's memory).
//!
//! `RIALTO_SEED=n` decides what clients ask and what befalls the nodes, `RIALTO_HISTORY_SECONDS=n` how long it goes on.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tests::cluster::{Cluster, check_logs};
use tests::exchange::{Exchange, number_from};
use tests::linearizability::{Call, Recorder, Size, bootstrap, check, falsified, is_linearizable};
use tests::network::{Network, Wire};
use tests::sandbox;

const BOOKS: usize = 4;
const ALL: [u64; 3] = [1, 2, 3];
const SETTINGS: &str = "[journal]\nballast_bytes = 0\nlow_space_bytes = 0\n";
/// How long a client of a cluster rests after a call, at most.
const THINK: Duration = Duration::from_millis(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_is_linearizable_and_the_checker_notices_when_an_answer_is_not() {
    let seed = seed();
    let server = Exchange::start(&bootstrap(BOOKS), &[]);
    let recorder = Recorder::start(&[server.address().clone()], BOOKS, seed, Duration::from_millis(10));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let histories = recorder.finish().await;
    check_all(&histories, seed);
    let mut random = StdRng::seed_from_u64(seed);
    for calls in &histories {
        let (what, false_calls) = falsified(calls, &mut random).expect("something was answered");
        assert!(!is_linearizable(&false_calls), "RIALTO_SEED={seed}: nobody noticed that {what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_is_linearizable_through_crashes_pauses_and_handovers() {
    let seed = seed();
    let mut cluster = Cluster::start(ALL.len(), &bootstrap(BOOKS), SETTINGS);
    let kinds = [Trouble::Crash, Trouble::Pause, Trouble::Handover, Trouble::Restart];
    record(&mut cluster, None, &kinds, seed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_is_linearizable_through_partitions_crashes_and_pauses() {
    if !sandbox::is_inside_network("a_cluster_is_linearizable_through_partitions_crashes_and_pauses") {
        return;
    }
    let seed = seed();
    let network = Network::new(ALL.len(), seed);
    let mut cluster = Cluster::start_at(network.places(), &bootstrap(BOOKS), SETTINGS, |_, data| data);
    record(&mut cluster, Some(&network), &Trouble::ALL, seed).await;
}

/// What befalls a node, the leader as often as not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    Crash,
    Restart,
    Pause,
    Handover,
    Isolation,
    Muteness,
    Deafness,
    BadWires,
}

impl Trouble {
    const ALL: [Trouble; 8] = [
        Trouble::Crash,
        Trouble::Restart,
        Trouble::Pause,
        Trouble::Handover,
        Trouble::Isolation,
        Trouble::Muteness,
        Trouble::Deafness,
        Trouble::BadWires,
    ];
}

/// Clients at work while one trouble follows the other; then everything they saw is checked.
async fn record(cluster: &mut Cluster, network: Option<&Network>, kinds: &[Trouble], seed: u64) {
    let lasts = Duration::from_secs(number_from("RIALTO_HISTORY_SECONDS").unwrap_or(10));
    let mut random = StdRng::seed_from_u64(seed);
    let recorder = Recorder::start(&cluster.addresses(), BOOKS, seed, THINK);
    let began = Instant::now();
    let mut troubles = std::collections::BTreeMap::<Trouble, u32>::new();
    while began.elapsed() < lasts {
        let leader = cluster.wait_leader(&ALL);
        let node = if random.random() { leader } else { *ALL.choose(&mut random).expect("three") };
        let kind = *kinds.choose(&mut random).expect("some");
        let ms = Duration::from_millis(random.random_range(300..1_200));
        *troubles.entry(kind).or_default() += 1;
        trouble(cluster, network, kind, node, ms).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(100..600))).await;
    }
    let histories = recorder.finish().await;
    println!("{troubles:?}");
    check_all(&histories, seed);
    check_logs(cluster, &[], &[], &format!("RIALTO_SEED={seed}"));
}

async fn trouble(cluster: &mut Cluster, network: Option<&Network>, kind: Trouble, node: u64, lasts: Duration) {
    match kind {
        Trouble::Crash => {
            cluster.kill(node);
            tokio::time::sleep(lasts).await;
            cluster.restart(node);
            cluster.wait_ready(node);
        }
        Trouble::Restart => {
            cluster.stop(node);
            cluster.restart(node);
            cluster.wait_ready(node);
        }
        Trouble::Pause => {
            cluster.pause(node);
            tokio::time::sleep(lasts).await;
            cluster.resume(node);
        }
        Trouble::Handover => {
            let leader = cluster.wait_leader(&ALL);
            let next = ALL.into_iter().find(|id| *id != leader).expect("three");
            // It may be refused, as when the other is behind: then nothing happens.
            cluster.command(leader, "transfer-leader", &[&next.to_string()]);
        }
        Trouble::Isolation | Trouble::Muteness | Trouble::Deafness | Trouble::BadWires => {
            let network = network.expect("wires to cut");
            match kind {
                Trouble::Isolation => network.isolate(node),
                Trouble::Muteness => network.mute(node),
                Trouble::Deafness => network.deafen(node),
                _ => network.set_all(Wire { loss_permille: 50, delay: Duration::from_millis(10), ..Wire::default() }),
            }
            tokio::time::sleep(lasts).await;
            network.heal();
        }
    }
}

fn seed() -> u64 {
    let seed = number_from("RIALTO_SEED").unwrap_or_else(|| rand::random_range(0..1 << 40));
    println!("RIALTO_SEED={seed}");
    seed
}

/// Checks the history of every book, and says how large they were.
fn check_all(histories: &[Vec<Call>], seed: u64) {
    println!("| book | calls | outcome unknown | orders that traded | reads | under way at once | checked in |");
    println!("|--:|--:|--:|--:|--:|--:|--:|");
    for (book, calls) in histories.iter().enumerate() {
        let started = Instant::now();
        let checked = check(calls);
        let Size { calls, unknown, trading, reads, concurrent } = Size::of(calls);
        let took = started.elapsed();
        println!("| {book} | {calls} | {unknown} | {trading} | {reads} | {concurrent} | {took:.1?} |");
        checked.unwrap_or_else(|error| panic!("RIALTO_SEED={seed}: book {book}: {error}"));
        assert!(trading > 0 && reads > 0 && concurrent > 1, "RIALTO_SEED={seed}: book {book} saw too little");
    }
}
