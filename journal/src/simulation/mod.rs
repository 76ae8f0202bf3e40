//! The whole cluster in one thread, on a clock that leaps from one event to the next, with everything that can go wrong going
//! wrong by the throw of seeded dice. The same seed is the same course of events, to the last entry.
//!
//! Real here: raft, the log's logic and its frames and chain, snapshots and their transfer, the sequencer, forwarding, tickets,
//! the engine, who leads and who may, links, messages and their framing. In the place of the real: the clock (tokio's, paused),
//! the dice of raft ([`RaftRuntime`]), threads ([`Life`]: each is a task), the network ([`network`]), the disk under the log
//! ([`disk`]); history is not written. Snapshots are files, written at once; a crash never finds one half written.
//!
//! At each step: one leader a term; what one node applied at a place of the log, all others do; what was acknowledged stays, is
//! on the disks of a majority when it is said, and comes after all that was acknowledged before it was asked for; no command
//! and no ticket counts twice; the same state after the same entry; balances add up to what was deposited; numbers have no
//! gaps. At the end the faults end, and all nodes must take commands and come to the same state.
//!
//! `RIALTO_SEEDS=20000 cargo test --release -p journal simulation -- --nocapture` runs more seeds, `RIALTO_SEEDS=5000..10000`
//! those alone, `RIALTO_SEED=n` that one.

mod clients;
mod dice;
mod disk;
mod faults;
mod host;
mod life;
mod network;
mod raft_runtime;
mod ordered_watch;
mod witness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rocksdb::DB;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::ClusterConfig;
use crate::node::NodeConfig;
use crate::space::SpaceConfig;
use clients::Client;
use dice::Dice;
use disk::Disk;
use faults::{FaultCounts, Trouble};
use host::Host;
use network::Network;
use witness::{Counts, Witness};

pub(crate) use faults::Bug;
pub(crate) use life::Life;
pub(crate) use raft_runtime::RaftRuntime;

/// How long things go wrong.
const TROUBLE: Duration = Duration::from_secs(6);
/// How long a cluster in which everything is in order may take to be one again.
const SETTLE_MAX: Duration = Duration::from_secs(20);
/// Seeds of one run where nothing else is asked.
const SEEDS: u64 = 1_000;
/// Seeds that once found something.
const ONCE_FAILED: &[u64] = &[23, 35, 77, 86, 251, 2711, 4021, 4070, 7433, 7855, 15314];

/// Whether this is a node of a simulation with this bug.
pub(crate) fn has_bug(bug: Bug) -> bool {
    Life::current().is_some_and(|life| life.bug == bug)
}

/// What came of one seed.
struct Outcome {
    violations: Vec<String>,
    counts: Counts,
    faults: FaultCounts,
    syncs: u64,
    trace: u64,
    /// Virtual time that it took.
    time: Duration,
    settled_in: Duration,
}

/// Databases for the few records beside the log, used again and again.
#[derive(Default)]
struct Databases(Vec<(TempDir, Arc<DB>)>);

impl Databases {
    /// An empty one for each node.
    fn take(&mut self, count: usize) -> Vec<Arc<DB>> {
        while self.0.len() < count {
            let folder = folder();
            let database = host::database(folder.path());
            self.0.push((folder, database));
        }
        for (_, database) in &self.0 {
            let meta = crate::database::family(database, crate::format::META);
            let keys: Vec<_> = database.iterator_cf(meta, rocksdb::IteratorMode::Start).flatten().collect();
            keys.iter().for_each(|(key, _)| database.delete_cf(meta, key).expect("it is in memory"));
        }
        self.0.iter().take(count).map(|(_, database)| database.clone()).collect()
    }
}

/// A folder in memory, where the system has such.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("there is room for a folder")
}

fn simulate(seed: u64, bug: Bug, databases: &mut Databases) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime can be made").block_on(run(seed, bug, databases))
}

async fn run(seed: u64, bug: Bug, databases: &mut Databases) -> Outcome {
    let mut dice = Dice::new(seed);
    let began = Instant::now();
    let count = *dice.pick(&[3, 3, 3, 5]);
    let network = Network::new(dice.child());
    let disks: Vec<_> = (1..=count).map(|node| Disk::new(node, dice.child(), bug)).collect();
    let witness = Witness::new(disks.clone());
    let members: BTreeMap<u64, String> = (1..=count).map(|node| (node, network::address(node))).collect();
    let snapshot_every_entries = *dice.pick(&[30, 100, 10_000]);
    let hosts: Vec<Arc<Host>> = disks
        .iter()
        .zip(databases.take(disks.len()))
        .map(|(disk, database)| {
            let folder = folder();
            let mut config = NodeConfig::new(folder.path());
            config.queue_commands = 1_024;
            config.entry_commands_max = *dice.pick(&[1, 4, 64]);
            config.snapshot_every_entries = snapshot_every_entries;
            config.log_bytes_kept = *dice.pick(&[0, 20_000]);
            config.space = SpaceConfig { low_bytes: 0, ballast_bytes: 0 };
            let node = disk.node;
            Arc::new(Host {
                node,
                disk: disk.clone(),
                folder,
                database,
                witness: witness.clone(),
                network: network.clone(),
                began,
                config,
                cluster: ClusterConfig::new(node, members.clone()),
                bug,
                running: Mutex::default(),
            })
        })
        .collect();
    hosts.iter().for_each(|host| host.start(dice.child()));

    // The cluster forms, and gets its market.
    for command in clients::setup() {
        // The cluster takes a moment to form.
        let mut tries = 0;
        while tries < 1_000 && !clients::ask(&hosts[0], &witness, command.clone()).await {
            tries += 1;
            sleep(Duration::from_millis(10)).await;
        }
    }

    // Trouble.
    let (stop, stopped) = watch::channel(false);
    let mut clients = Vec::new();
    let rest_ms = *dice.pick(&[20, 80, 200]);
    for (number, host) in (1..).zip(hosts.iter().flat_map(|host| [host, host])) {
        let (host, witness) = (host.clone(), witness.clone());
        let client = Client { number, host, witness, dice: dice.child(), rest_ms, placed: Vec::new(), sent: 0 };
        clients.push(tokio::spawn(client.run(stopped.clone())));
    }
    let mut trouble = Trouble::new(hosts.clone(), network.clone(), dice.child());
    let look = || {
        for host in &hosts {
            if let Some(Some(term)) = host.with(|node| node.term_led()) {
                witness.leads(host.node, term);
            }
        }
        witness.violations().is_empty()
    };
    trouble.run(TROUBLE, look).await;

    // And none.
    trouble.end();
    let quiet = Instant::now();
    let mut settled_in = Duration::ZERO;
    if witness.violations().is_empty() {
        trouble.watch(Duration::from_secs(1), look).await;
        stop.send_replace(true);
        let mut answered = std::pin::pin!(futures_util::future::join_all(clients));
        // Who was stopped in the last moment comes back meanwhile.
        while timeout(Duration::from_millis(20), answered.as_mut()).await.is_err() {
            trouble.mend_what_is_due();
        }
        // Every node takes commands, and all come to the same state.
        let settled = async {
            for host in &hosts {
                let probe = engine::Command::CancelEverything { uid: engine::Uid(host.node) };
                while !clients::ask(host, &witness, probe.clone()).await {
                    trouble.mend_what_is_due();
                    sleep(Duration::from_millis(20)).await;
                }
            }
            // The last entry is one whose state is compared.
            witness.compare_each();
            while !clients::ask(&hosts[0], &witness, engine::Command::Tick).await {
                sleep(Duration::from_millis(20)).await;
            }
            while !witness.settled(hosts.iter().map(|host| host.node)) {
                trouble.mend_what_is_due();
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(SETTLE_MAX, settled).await.is_err() {
            let now: Vec<_> = hosts.iter().map(|host| host.with(|node| format!("{:?}", node.cluster()))).collect();
            witness.violation(format!("it did not settle; applied: {:?}; {now:#?}", witness.applied_by_node()));
        }
        settled_in = quiet.elapsed();
    }
    let syncs = disks.iter().map(|disk| disk.syncs()).sum();
    for host in &hosts {
        host.crash(false);
    }
    Outcome {
        violations: witness.violations(),
        counts: witness.counts(),
        faults: trouble.counts.clone(),
        syncs,
        trace: witness.trace(),
        time: began.elapsed(),
        settled_in,
    }
}

/// What came of many seeds.
#[derive(Default)]
struct Total {
    seeds: u64,
    counts: Counts,
    faults: FaultCounts,
    syncs: u64,
    time: Duration,
    slowest_to_settle: Duration,
    failed: Vec<(u64, Vec<String>)>,
}

impl Total {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.seeds += 1;
        self.counts += outcome.counts;
        self.faults += outcome.faults;
        self.syncs += outcome.syncs;
        self.time += outcome.time;
        self.slowest_to_settle = self.slowest_to_settle.max(outcome.settled_in);
        if !outcome.violations.is_empty() {
            let first = outcome.violations.into_iter().take(3).collect();
            self.failed.push((seed, first));
        }
    }

    fn print(&self, real: Duration) {
        println!("{} seeds, {:.0?} of virtual time in {real:.1?}", self.seeds, self.time);
        println!("{:?}", self.counts);
        println!("{} syncs; slowest to settle {:.1?}", self.syncs, self.slowest_to_settle);
        println!("{:#?}", self.faults);
        for (seed, violations) in &self.failed {
            println!("RIALTO_SEED={seed}: {violations:#?}");
        }
    }
}

/// Runs these seeds on all cores.
fn run_seeds(seeds: std::ops::Range<u64>, bug: Bug) -> Total {
    let (next, total) = (AtomicU64::new(seeds.start), Mutex::new(Total::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut databases = Databases::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let outcome = simulate(seed, bug, &mut databases);
                    total.lock().add(seed, outcome);
                }
            });
        }
    });
    let mut total = total.into_inner();
    total.failed.sort();
    total
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// `20000` is all before that one, `5000..10000` those from the first on.
fn range(text: &str) -> std::ops::Range<u64> {
    let (first, end) = text.split_once("..").unwrap_or(("0", text));
    let [first, end] =
        [first, end].map(|number| number.parse().expect("RIALTO_SEEDS is a number, or two with .. between"));
    first..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fault_breaks_a_promise() {
        let seeds = match from_environment("RIALTO_SEED") {
            Some(seed) => {
                let _ = tracing_subscriber::fmt()
                    .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
                    .without_time()
                    .try_init();
                seed..seed + 1
            }
            None => std::env::var("RIALTO_SEEDS").map_or(0..SEEDS, |text| range(&text)),
        };
        let started = std::time::Instant::now();
        let total = run_seeds(seeds, Bug::None);
        total.print(started.elapsed());
        assert!(total.failed.is_empty(), "seeds failed: {:?}", total.failed);
    }

    #[test]
    fn what_once_failed_does_not_fail_again() {
        let mut databases = Databases::default();
        for seed in ONCE_FAILED {
            let outcome = simulate(*seed, Bug::None, &mut databases);
            assert!(outcome.violations.is_empty(), "seed {seed}: {:#?}", outcome.violations);
        }
    }

    #[test]
    fn the_same_seed_is_the_same_course_of_events() {
        let mut databases = Databases::default();
        for seed in 0..8 {
            let [once, again] = [(), ()].map(|()| simulate(seed, Bug::None, &mut databases));
            assert_eq!((once.trace, once.time, once.syncs), (again.trace, again.time, again.syncs), "seed {seed}");
        }
    }

    /// The simulation is worth something if it finds what was put in. Says after how many seeds it did.
    fn is_found(bug: Bug) {
        let mut databases = Databases::default();
        for seed in 0..100 {
            let outcome = simulate(seed, bug, &mut databases);
            if let Some(first) = outcome.violations.first() {
                println!("{bug:?} is found by seed {seed}, after {:.1?} of virtual time: {first}", outcome.time);
                return;
            }
        }
        panic!("{bug:?} was not found");
    }

    #[test]
    fn an_acknowledgement_before_the_sync_is_found() {
        is_found(Bug::AckBeforeSync);
    }

    #[test]
    fn entries_that_count_twice_are_found() {
        is_found(Bug::NoTickets);
    }

    #[test]
    fn a_vote_that_is_forgotten_is_found() {
        is_found(Bug::ForgottenVote);
    }

    #[test]
    fn a_stale_read_is_found() {
        is_found(Bug::StaleRead);
    }
}
