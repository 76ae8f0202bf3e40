//! Starts and stops a node: the database, the threads, raft, and what talks with the other nodes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::{Engine, Sequence, Time};
use openraft::{Config, Raft, SnapshotPolicy};
use parking_lot::Mutex;
use rocksdb::DB;
use tokio::sync::{oneshot, watch};

use crate::acquaintance::Acquaintances;
use crate::cluster::{ClusterConfig, ClusterStatus};
use crate::compensation::Compensations;
use crate::database::count_boot;
use crate::engine_thread::{EngineThread, JOBS_MAX, Job, NextDeadline, Waiting, next_index};
use crate::failure::{Failure, StartError};
use crate::fence::Fence;
use crate::gossip;
use crate::history::History;
use crate::history_writer::{self, HistoryWriter};
use crate::identity;
use crate::leader::{Contact, Leader, Leads, Way};
use crate::leadership::Leadership;
use crate::link::Caller as LinkCaller;
use crate::log_chain::log_start;
use crate::log_store::{LogCounters, LogStore, hand_over};
use crate::member::Member;
use crate::network::Network;
use crate::observation::Observation;
use crate::opening::{open_database, upgrade};
use crate::origins::Origins;
use crate::peer_server::{PeerServer, Refusals};
use crate::proposer::Proposer;
use crate::queue::{self, Receiver, Sender};
use crate::record::{Published, TypeConfig};
use crate::runtime;
use crate::sequencer::{Door, Sequencer, SequencerTask};
use crate::snapshot_builder::{SnapshotKeeping, SnapshotProgress};
use crate::snapshot_file::{SnapshotDirectory, SnapshotMeta};
use crate::snapshot_transfer::{Receiving, Sending};
use crate::space::{Space, SpaceConfig, make_room};
use crate::standing::Standings;
use crate::state_hash::StateHash;
use crate::state_machine::StateMachine;
use crate::stats::{QueueDepth, Queues, Stats};
use crate::sweeper::HistoryDays;
use crate::task_thread::TaskThread;
use crate::timings::Timings;
use crate::tls::Tls;
use crate::transport::{Tcp, Transport};

/// The node of a cluster of one that was not told otherwise.
const NODE_ID: u64 = 1;
/// How long a stopping node waits for the last hands to leave the database.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// What a node needs to know to start.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The directory that holds everything; made when it is missing.
    pub data: PathBuf,
    /// How many commands may wait in the sequencer's queue.
    pub queue_commands: usize,
    /// How many commands one entry may hold.
    pub entry_commands_max: usize,
    /// How many entries may be in flight between the sequencer and the engine.
    pub entries_in_flight: usize,
    /// A snapshot is taken after so many entries.
    pub snapshot_every_entries: u64,
    /// And after so many commands: a restart replays no more.
    pub snapshot_every_commands: u64,
    /// How many days history keeps what.
    pub history_days: HistoryDays,
    /// The clock that stamps commands while this node leads; the machine's where none is given.
    pub clock: Option<fn() -> Time>,
    /// How much room is kept on the disk.
    pub space: SpaceConfig,
    /// About how many bytes of the log are kept behind the snapshots, to look back on.
    pub log_bytes_kept: u64,
    /// How much may wait in the channel to the feed.
    pub published_capacity: usize,
    /// The cluster that this node belongs to; none for a node alone.
    pub cluster: Option<ClusterConfig>,
    /// For drills: the engine panics at this command as a faulty one would, until an operator rules that it is passed over.
    pub drill_poison: Option<Sequence>,
}

impl NodeConfig {
    /// The defaults, for the directory `data`.
    pub fn new(data: impl Into<PathBuf>) -> NodeConfig {
        NodeConfig {
            data: data.into(),
            queue_commands: 65_536,
            entry_commands_max: 4_096,
            entries_in_flight: 8,
            snapshot_every_entries: 100_000,
            space: SpaceConfig { low_bytes: 256 << 20, ballast_bytes: 64 << 20 },
            snapshot_every_commands: 5_000_000,
            history_days: HistoryDays::default(),
            clock: None,
            log_bytes_kept: 8 << 30,
            published_capacity: 1_024,
            cluster: None,
            drill_poison: None,
        }
    }
}

/// How a node came to where it is, and what each step took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The last command in the snapshot it started from; 0 without one.
    pub snapshot: Sequence,
    /// The last command in the log.
    pub reached: Sequence,
    /// Opening the database.
    pub opening: Duration,
    /// Loading the snapshot.
    pub loading: Duration,
    /// Checking the log behind it.
    pub checking: Duration,
    /// Applying that log, and leading.
    pub replaying: Duration,
}

impl std::fmt::Display for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "database opened in {:.2?}, snapshot at sequence {} loaded in {:.2?}, log checked in {:.2?}, {} commands \
             replayed in {:.2?}",
            self.opening,
            self.snapshot,
            self.loading,
            self.checking,
            self.reached.0 - self.snapshot.0,
            self.replaying
        )
    }
}

/// Starts the engine's thread; gives the way to it.
pub(crate) type StartEngine = fn(EngineThread) -> (Sender<Job>, JoinHandle<()>);

/// A running node. It runs until [`Node::stop`]; dropping the handle does not end it.
pub struct Node {
    raft: Raft<TypeConfig, StateMachine>,
    member: Member,
    sequencer: Sequencer,
    door: Arc<Door>,
    history: HistoryWriter,
    log: LogStore,
    jobs: Sender<Job>,
    failure: Failure,
    recovered: watch::Receiver<Option<Recovery>>,
    applied: Arc<AtomicU64>,
    entries_published: Arc<AtomicU64>,
    published_capacity: u64,
    log_counters: Arc<LogCounters>,
    snapshots: Arc<SnapshotProgress>,
    stop_sequencer: oneshot::Sender<()>,
    sequencing: tokio::task::JoinHandle<()>,
    stop_peers: watch::Sender<bool>,
    /// What runs beside, and ends when it is told to.
    tasks: Vec<tokio::task::JoinHandle<()>>,
    /// Where all of that runs; none in a simulation, which has one thread for all nodes.
    task_thread: Option<TaskThread>,
    acquaintances: Acquaintances,
    receiving: Receiving,
    space: Space,
    threads: Vec<JoinHandle<()>>,
    database: Arc<DB>,
}

impl Node {
    /// Opens the data directory, checks all that is in it, and starts. The receiver gets the restored state first and
    /// then everything that is applied; it must be drained from now on, or the node stands still.
    pub async fn start(config: NodeConfig) -> Result<(Node, Receiver<Published>), StartError> {
        let tls = config.cluster.as_ref().and_then(|cluster| cluster.tls.as_ref());
        let transport: Arc<dyn Transport> = match tls {
            Some(files) => Arc::new(Tls::read(files).map_err(StartError::Failed)?),
            None => Arc::new(Tcp),
        };
        Node::start_over(config, transport).await
    }

    /// The same, where another transport than TCP takes the nodes' messages to each other.
    pub async fn start_over(
        config: NodeConfig,
        transport: Arc<dyn Transport>,
    ) -> Result<(Node, Receiver<Published>), StartError> {
        Node::start_with(config, transport, EngineThread::start).await
    }

    pub(crate) async fn start_with(
        config: NodeConfig,
        transport: Arc<dyn Transport>,
        start_engine: StartEngine,
    ) -> Result<(Node, Receiver<Published>), StartError> {
        let alone = || ClusterConfig::new(NODE_ID, BTreeMap::from([(NODE_ID, String::new())]));
        let cluster = config.cluster.clone().unwrap_or_else(alone);
        cluster.check().map_err(StartError::Failed)?;
        let task_thread = TaskThread::start().map_err(failed)?;
        let started = task_thread.run(async move {
            let failure = Failure::new();
            let opened = {
                let (config, node, failure) = (config.clone(), cluster.node, failure.clone());
                runtime::blocking(move || Opened::open(&config, node, &failure)).await.map_err(failed)??
            };
            Node::run(config, cluster, opened, transport, failure, start_engine).await
        });
        match started.await {
            Ok((node, published)) => Ok((Node { task_thread: Some(task_thread), ..node }, published)),
            Err(error) => {
                task_thread.end().await;
                Err(error)
            }
        }
    }

    /// Starts what runs, over what was opened. `start_engine` is what is done with the engine's thread (bare.rs does another thing).
    pub(crate) async fn run(
        config: NodeConfig,
        cluster: ClusterConfig,
        opened: Opened,
        transport: Arc<dyn Transport>,
        failure: Failure,
        start_engine: StartEngine,
    ) -> Result<(Node, Receiver<Published>), StartError> {
        let address = cluster.members[&cluster.node].clone();
        let Opened { database, incarnation, boot: own_boot, mut log, compensations, history, engine, meta, .. } =
            opened;
        let Opened { origins, snapshots, recovery, mut threads, .. } = opened;

        if !address.is_empty() {
            // The other nodes need the entry while the disk takes it, and hear from this one meanwhile.
            log.writes_aside();
        }

        // 1. The engine thread, which publishes the state it starts from.
        let (published, receiver) = queue::bounded(config.published_capacity.max(1));
        let waiting = Arc::new(Waiting::default());
        let log_counters = log.counters();
        let timings = log_counters.timings.clone();
        let next_deadline = Arc::new(NextDeadline::none());
        let restored = engine.sequence();
        let applied = Arc::new(AtomicU64::new(restored.0));
        let entries_published = Arc::new(AtomicU64::new(0));
        let boot = Arc::new(AtomicU64::new(0));
        let hash = Arc::new(Mutex::new(StateHash::starting_at(next_index(&meta))));
        let engine_thread = EngineThread {
            engine,
            meta: meta.clone(),
            origins,
            hash: (!address.is_empty()).then(|| hash.clone()),
            node: cluster.node,
            boot: boot.clone(),
            waiting: waiting.clone(),
            lost: None,
            timings: timings.clone(),
            history: Some(history.clone()),
            published,
            entries_published: entries_published.clone(),
            next_deadline: next_deadline.clone(),
            applied: applied.clone(),
            deciding: Arc::default(),
            compensations: compensations.clone(),
            drill_poison: config.drill_poison,
            failure: failure.clone(),
        };
        let (jobs, thread) = start_engine(engine_thread);
        threads.push(thread);

        // 2. Raft, which hands the engine what the log holds beyond that state, and its way to the other nodes.
        let acquaintances = Acquaintances::new(database.clone());
        let caller = Arc::new(LinkCaller {
            transport: transport.clone(),
            from: Some((cluster.node, incarnation)),
            secret: cluster.secret.clone(),
            acquaintances: Some(acquaintances.clone()),
        });
        let network = Network::new(caller, Sending::new(database.clone()));
        let receiving = Receiving::new(snapshots.clone(), history.clone(), database.clone());
        let progress = Arc::new(SnapshotProgress::from(restored));
        let observation = Observation::new(log.clone(), snapshots.clone(), history.reader(), compensations.clone());
        let keeping = SnapshotKeeping {
            snapshots,
            log: log.clone(),
            log_bytes_kept: config.log_bytes_kept,
            kept_free: config.space.low_bytes,
            compensations: compensations.clone(),
            history: history.clone(),
            progress: progress.clone(),
        };
        let state_machine = StateMachine::new(jobs.clone(), meta, keeping, acquaintances.clone());
        let raft_config = Arc::new(raft_config(&config, &cluster)?);
        let started = match transport_ready(&*transport, &address).await {
            Ok(listener) => Raft::new(cluster.node, raft_config, network.clone(), log.clone(), state_machine)
                .await
                .map(|raft| (raft, listener))
                .map_err(failed),
            Err(error) => Err(failed(format!("cannot listen for other nodes on {address}: {error}"))),
        };
        let (raft, listener) = match started {
            Ok(started) => started,
            Err(error) => {
                // Nothing of it may be left, or the directory stays taken for as long as this process lives.
                acquaintances.close();
                network.close();
                receiving.close();
                let _ = hand_over(&jobs, Job::Stop).await;
                let _ = runtime::blocking(move || end_threads(threads, &history, &log)).await;
                close(database).await;
                return Err(error);
            }
        };

        // 3. This node as a member: it answers the others, and tells them how it stands.
        let space = Space::default();
        let (leader, follows) = watch::channel(Leader::Unknown);
        let proposer = Arc::new(Proposer::new(raft.clone(), config.clock));
        let leads = Leads { raft: raft.clone(), proposer, network };
        let member = Member {
            node: cluster.node,
            priority: cluster.priority,
            leads: leads.clone(),
            leader: follows.clone(),
            contact: Contact::default(),
            jobs: jobs.clone(),
            applied: applied.clone(),
            log_counters: log_counters.clone(),
            space: space.clone(),
            standings: Arc::new(Standings::default()),
            hash,
            fence: Fence::of(&config.data),
            failure: failure.clone(),
        };
        let (stop_peers, peers_stop) = watch::channel(false);
        let mut tasks = vec![runtime::spawn(space.clone().watch(config.data.clone(), config.space))];
        if let Some(listener) = listener {
            let server = PeerServer {
                member: member.clone(),
                incarnation,
                secret: cluster.secret.as_str().into(),
                acquaintances: acquaintances.clone(),
                receiving: receiving.clone(),
                observation,
                refusals: Refusals::default(),
            };
            tasks.push(runtime::spawn(server.run(listener, peers_stop)));
            tasks.push(runtime::spawn(gossip::run(member.clone())));
        }

        // 4. The sequencer, whose door opens once this node has caught up and knows who leads.
        let door = Arc::new(Door::shut());
        let (stop_sequencer, stop) = oneshot::channel();
        let task = SequencerTask {
            leads: Way::Member(leads),
            leader: follows,
            node: cluster.node,
            boot: boot.clone(),
            door: door.clone(),
            waiting,
            timings,
            next_deadline,
            has_others: !address.is_empty(),
            renewal: None,
            failure: failure.clone(),
            entry_commands_max: config.entry_commands_max.max(1),
            entries_in_flight: config.entries_in_flight.max(1),
        };
        let (sequencer, sequencing) = task.start(config.queue_commands.max(1), space.clone(), stop);
        let (announce, recovered) = watch::channel(None);
        let leadership = Leadership {
            member: member.clone(),
            cluster,
            leader,
            boot,
            door: door.clone(),
            own_boot,
            database: Some(database.clone()),
            acquaintances: acquaintances.clone(),
            applied: applied.clone(),
            snapshots: progress.clone(),
            snapshot_every_commands: config.snapshot_every_commands.max(1),
            announce,
            recovery,
            failure: failure.clone(),
        };
        tasks.push(runtime::spawn(leadership.run()));

        let node = Node {
            raft,
            member,
            sequencer,
            door,
            history,
            log,
            jobs,
            failure,
            recovered,
            applied,
            entries_published,
            published_capacity: config.published_capacity.max(1) as u64,
            log_counters,
            snapshots: progress,
            stop_sequencer,
            sequencing,
            stop_peers,
            tasks,
            task_thread: None,
            acquaintances,
            receiving,
            space,
            threads,
            database,
        };
        Ok((node, receiver))
    }

    /// Resolves when this node has applied and published everything that was acknowledged before, by itself or by another that
    /// leads.
    pub async fn recovered(&self) -> Result<Recovery, StartError> {
        let mut recovered = self.recovered.clone();
        let found = tokio::select! {
            found = recovered.wait_for(Option::is_some) => found.ok().and_then(|found| *found),
            reason = self.failure.wait() => return Err(StartError::Failed(reason)),
        };
        match found {
            Some(recovery) => Ok(recovery),
            None => Err(StartError::Failed(self.failed().await)),
        }
    }

    /// The door for commands.
    pub fn sequencer(&self) -> Sequencer {
        self.sequencer.clone()
    }

    /// Closed orders and trades.
    pub fn history(&self) -> History {
        self.history.reader()
    }

    /// Counters, for metrics.
    pub fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (free_bytes, is_space_low) = self.space.status();
        Stats {
            free_bytes,
            is_space_low,
            last_log_index: read(&self.log_counters.last_index),
            applied_sequence: read(&self.applied),
            log_syncs: read(&self.log_counters.syncs),
            log_sync_ns: read(&self.log_counters.sync_ns),
            log_entries: read(&self.log_counters.entries),
            log_bytes: read(&self.log_counters.bytes),
            log_damaged: read(&self.log_counters.damaged),
            queued_commands: self.sequencer.queue().depth,
            snapshots: read(&self.snapshots.written),
            history_watermark: self.history.reader().watermark().0,
            entries_published: read(&self.entries_published),
            queues: Queues {
                sequencer: self.sequencer.queue(),
                log_writer: self.log.queue(),
                engine: QueueDepth { depth: self.jobs.len() as u64, bound: JOBS_MAX as u64 },
                history: self.history.queue(),
                feed_bound: self.published_capacity,
            },
        }
    }

    /// How long commands take here, for metrics.
    pub fn timings(&self) -> Arc<Timings> {
        self.log_counters.timings.clone()
    }

    /// The cluster as this node sees it.
    pub fn cluster(&self) -> ClusterStatus {
        self.member.status()
    }

    /// Whether commands are taken here: this node has caught up, knows a leader and hears it.
    pub fn is_ready(&self) -> bool {
        self.sequencer.check().is_ok()
    }

    /// Whether this node leads.
    pub fn leads(&self) -> bool {
        self.member.leader.borrow().is_this()
    }

    /// What does an operator's bidding.
    pub(crate) fn member(&self) -> Member {
        self.member.clone()
    }

    /// The term in which it leads.
    #[cfg(test)]
    pub(crate) fn term_led(&self) -> Option<u64> {
        match *self.member.leader.borrow() {
            Leader::This { term } => Some(term),
            Leader::Peer { .. } | Leader::Unknown => None,
        }
    }

    /// The last command that a read which begins now must see to be current; asks the leader, who asks a majority. None when
    /// that cannot be known now.
    pub fn read_index(&self) -> impl Future<Output = Option<Sequence>> + Send + use<> {
        let member = self.member.clone();
        async move { member.read_index_soon().await }
    }

    /// A copy of the engine as it stands behind all that is applied so far; none when the node has ended.
    pub async fn engine(&self) -> Option<Engine> {
        let (reply, copy) = oneshot::channel();
        hand_over(&self.jobs, Job::Copy(reply)).await.ok()?;
        copy.await.ok().map(|(state, ..)| Engine::from_snapshot(state))
    }

    /// Has a snapshot written of what is applied, beside all else; whether that could be asked for.
    pub fn write_snapshot(&self) -> impl Future<Output = bool> + Send + use<> {
        let raft = self.raft.clone();
        async move { raft.trigger().snapshot().await.is_ok() }
    }

    /// Resolves only when the node can't go on, with the reason.
    pub fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        let (failure, door) = (self.failure.clone(), self.door.clone());
        async move {
            let reason = failure.wait().await;
            door.stop();
            reason
        }
    }

    /// Refuses new commands, lets what is in flight finish, flushes and closes everything. A leader hands over first.
    pub async fn stop(mut self) {
        // In the order of an order's road, so that each stage drains into the next.
        self.door.stop();
        let leads = self.member.leader.borrow().is_this();
        if let Some(successor) = self.member.successor().filter(|_| leads) {
            let handed = self.member.hand_over_to(successor).await;
            tracing::info!("node {successor} {}", if handed { "leads now" } else { "did not take the lead" });
        }
        let _ = self.stop_sequencer.send(());
        let _ = self.sequencing.await;
        self.stop_peers.send_replace(true);
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
        self.snapshots.stopping.store(true, Ordering::Relaxed);
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!("raft did not stop in order: {error}");
        }
        self.acquaintances.close();
        self.receiving.close();
        self.member.leads.network.close();
        drop(self.member);
        let _ = hand_over(&self.jobs, Job::Stop).await;
        let (history, log, threads, failure) = (self.history, self.log, self.threads, self.failure);
        let flush = move || {
            end_threads(threads, &history, &log);
            if failure.reason().is_none()
                && let Err(error) = history.flush()
            {
                tracing::error!("history was not flushed and will be written again: {error}");
            }
        };
        let _ = runtime::blocking(flush).await;
        drop(self.raft);
        close(self.database).await;
        if let Some(task_thread) = self.task_thread {
            task_thread.end().await;
        }
    }
}

/// Listens for other nodes, where this one has an address for them.
async fn transport_ready(
    transport: &dyn Transport,
    address: &str,
) -> std::io::Result<Option<Box<dyn crate::transport::Listener>>> {
    if address.is_empty() { Ok(None) } else { transport.listen(address).await.map(Some) }
}

/// Ends them once what is queued is written. The engine's thread, which was told to stop, is the last in the list; it sends to
/// history until it ends.
fn end_threads(threads: Vec<JoinHandle<()>>, history: &HistoryWriter, log: &LogStore) {
    let mut threads = threads.into_iter().rev();
    threads.next().map(JoinHandle::join);
    history.stop();
    log.stop();
    threads.for_each(|thread| drop(thread.join()));
}

/// Waits until this is the only handle left: raft's last tasks let go shortly after raft has stopped.
async fn close(database: Arc<DB>) {
    let closing = async {
        while Arc::strong_count(&database) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    if tokio::time::timeout(CLOSE_MAX, closing).await.is_err() {
        tracing::error!("the database in {} is still in use", database.path().display());
    }
}

/// What is open before anything runs.
pub(crate) struct Opened {
    pub database: Arc<DB>,
    pub incarnation: u64,
    pub boot: u64,
    pub log: LogStore,
    pub compensations: Arc<Compensations>,
    pub history: HistoryWriter,
    pub engine: Engine,
    pub meta: SnapshotMeta,
    pub origins: Origins,
    pub snapshots: SnapshotDirectory,
    pub recovery: Recovery,
    pub threads: Vec<JoinHandle<()>>,
}

impl Opened {
    /// Opens and checks everything on disk that the node will stand on: the newest snapshot, and the log behind it.
    fn open(config: &NodeConfig, node: u64, failure: &Failure) -> Result<Opened, StartError> {
        let data = &config.data;
        std::fs::create_dir_all(data).map_err(|error| StartError::disk(data, error))?;
        let room = make_room(data, config.space);
        room.map_err(|error| StartError::disk(data, error))?;
        let incarnation = identity::check(data)?;
        Fence::of(data).check()?;
        let mut watch = Stopwatch::start();
        let database = open_database(data)?;
        upgrade(data, &database)?;
        let opening = watch.lap();
        let snapshots = SnapshotDirectory::open(data)?;
        let purged = log_start(&*database)?.log_id.map(|log_id| log_id.index);
        let (engine, meta, origins) = match snapshots.load_newest(purged, history_writer::watermark(&database)?)? {
            Some(found) => (Engine::from_snapshot(found.state), found.meta, found.origins),
            None => (Engine::new(), SnapshotMeta::default(), Origins::default()),
        };
        let loading = watch.lap();
        let (log, compensations, log_thread) = LogStore::open(database.clone(), data, meta.last_log_id, node, failure)?;
        let checking = watch.lap();
        let (snapshot, replaying) = (engine.sequence(), Duration::ZERO);
        let recovery = Recovery { snapshot, reached: snapshot, opening, loading, checking, replaying };
        let boot = count_boot(&database)?;
        let (history, history_thread) = HistoryWriter::start(database.clone(), config.history_days, failure)?;
        let threads = vec![log_thread, history_thread];
        let compensations = Arc::new(compensations);
        Ok(Opened {
            database,
            incarnation,
            boot,
            log,
            compensations,
            history,
            engine,
            meta,
            origins,
            snapshots,
            recovery,
            threads,
        })
    }
}

/// How long each step takes.
struct Stopwatch(Instant);

impl Stopwatch {
    fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    fn lap(&mut self) -> Duration {
        let started = std::mem::replace(&mut self.0, Instant::now());
        self.0 - started
    }
}

fn failed(error: impl std::fmt::Display) -> StartError {
    StartError::Failed(error.to_string())
}

fn raft_config(config: &NodeConfig, cluster: &ClusterConfig) -> Result<Config, StartError> {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    let election = milliseconds(cluster.election_timeout);
    // A node that nobody can reach has nobody to send a heartbeat to, and elects itself (leadership.rs): it needs no ticks.
    let has_others = cluster.members.values().any(|address| !address.is_empty());
    let config = Config {
        cluster_name: "rialto".into(),
        heartbeat_interval: milliseconds(cluster.heartbeat),
        election_timeout_min: election,
        election_timeout_max: 2 * election,
        enable_tick: has_others,
        enable_heartbeat: has_others,
        enable_elect: has_others,
        // A node that was cut off and comes back must not unseat a leader that a majority follows.
        enable_pre_vote: Some(true),
        // After a restart a new term begins, whose first entry commits the log again.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_every_entries.max(1)),
        // The log is kept for the oldest snapshot too, so `Leadership` purges it.
        max_in_snapshot_log_to_keep: u64::MAX,
        ..Config::default()
    };
    config.validate().map_err(failed)
}

#[cfg(test)]
mod tests {
    use openraft::testing::log::{StoreBuilder, Suite};
    use tempfile::TempDir;

    use super::*;

    /// Builds what raft stores in, in a folder of its own.
    struct Builder;

    /// Keeps the folder, and the channel that nobody reads, until the threads have ended.
    struct Guard {
        threads: Vec<JoinHandle<()>>,
        _receiver: Mutex<Receiver<Published>>,
        _folder: TempDir,
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            self.threads.drain(..).for_each(|thread| thread.join().unwrap());
        }
    }

    impl StoreBuilder<TypeConfig, LogStore, StateMachine, Guard> for Builder {
        async fn build(&self) -> Result<(Guard, LogStore, StateMachine), openraft::StorageError<TypeConfig>> {
            let folder = tempfile::tempdir().unwrap();
            let failure = Failure::new();
            let opened = Opened::open(&NodeConfig::new(folder.path()), NODE_ID, &failure).unwrap();
            let (published, receiver) = queue::unbounded();
            let engine_thread = EngineThread {
                engine: opened.engine,
                meta: opened.meta.clone(),
                origins: opened.origins,
                hash: None,
                node: NODE_ID,
                boot: Arc::default(),
                waiting: Arc::default(),
                lost: None,
                timings: Arc::default(),
                history: Some(opened.history.clone()),
                published,
                entries_published: Arc::default(),
                next_deadline: Arc::new(NextDeadline::none()),
                applied: Arc::default(),
                deciding: Arc::default(),
                compensations: opened.compensations.clone(),
                drill_poison: None,
                failure,
            };
            let (jobs, thread) = engine_thread.start();
            let threads = std::iter::once(thread).chain(opened.threads).collect();
            let keeping = SnapshotKeeping {
                snapshots: opened.snapshots,
                log: opened.log.clone(),
                log_bytes_kept: 0,
                kept_free: 0,
                compensations: opened.compensations,
                history: opened.history,
                progress: Arc::new(SnapshotProgress::from(Sequence(0))),
            };
            let state_machine = StateMachine::new(jobs, opened.meta, keeping, Acquaintances::new(opened.database));
            Ok((Guard { threads, _receiver: Mutex::new(receiver), _folder: folder }, opened.log, state_machine))
        }
    }

    /// A node alone, which leads, and what keeps it going.
    async fn leading() -> (Node, Receiver<Published>, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let (node, published) = Node::start(NodeConfig::new(folder.path())).await.unwrap();
        node.recovered().await.unwrap();
        (node, published, folder)
    }

    async fn reason_of_failure(node: Node) -> String {
        let reason = tokio::time::timeout(Duration::from_secs(10), node.failed()).await.expect("it cannot go on");
        node.stop().await;
        reason
    }

    #[tokio::test]
    async fn a_node_whose_raft_ends_cannot_go_on() {
        let (node, _published, _folder) = leading().await;
        node.raft.shutdown().await.unwrap();
        let reason = reason_of_failure(node).await;
        assert!(reason.contains("raft cannot go on"), "{reason}");
    }

    #[tokio::test]
    async fn a_node_whose_raft_panics_cannot_go_on() {
        let (node, _published, _folder) = leading().await;
        let _ = node.raft.with_raft_state(|_| panic!("as a fault of raft's would")).await;
        let reason = reason_of_failure(node).await;
        assert!(reason.contains("raft cannot go on: it panicked"), "{reason}");
    }

    #[tokio::test]
    async fn a_snapshot_whose_file_cannot_be_made_is_tried_again_and_the_node_goes_on() {
        let (node, _published, folder) = leading().await;
        let (path, aside) = (folder.path().join("snapshots"), folder.path().join("aside"));
        std::fs::rename(&path, &aside).unwrap();
        // No file can be made in a file.
        std::fs::write(&path, "").unwrap();
        assert!(node.write_snapshot().await);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((node.failure.reason(), node.is_ready(), node.stats().snapshots), (None, true, 0));
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&aside, &path).unwrap();
        let written = async {
            while node.stats().snapshots == 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), written).await.expect("it is tried again");
        node.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn log_store_and_state_machine_pass_the_suite_of_openraft() {
        Suite::test_all(Builder).await.unwrap();
    }
}
