//! An observer: the engine of a gateway, in front of a cluster and no member of it. It takes the state from any node, and then
//! the committed entries behind it, and decides each as the nodes do: the same state, the same events, the same hash. So all that
//! is read of the present is read here and costs the nodes nothing; commands go to the leader as a node's own would.
//!
//! It keeps nothing. When it starts anew it takes the state anew, under another number (origins.rs). What it has applied is
//! committed, so a change of leaders is a pause for it, and another node to follow is only another place to read the same log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use engine::{Engine, Sequence};
use openraft::EntryPayload;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::cluster::{ClusterStatus, TlsFiles};
use crate::compensation::Compensations;
use crate::engine_thread::{EngineThread, JOBS_MAX, Job, Lost, NextDeadline, Waiting, next_index};
use crate::failure::{Failure, StartError};
use crate::history::History;
use crate::leader::{Leader, Way};
use crate::link::{Caller, Link};
use crate::log_store::hand_over;
use crate::message::{Observe, Observed, Reply, Request, unpack_entries};
use crate::nodes::{Known, NodeSeen, Nodes, NodesConfig};
use crate::origins::{GATEWAYS_FROM, Origins};
use crate::queue::{self, Receiver, Sender};
use crate::record::{Proposal, Published, RaftEntry, StoredMembership};
use crate::remote_history::RemoteHistory;
use crate::runtime;
use crate::sequencer::{Door, Renewal, Sequencer, SequencerTask};
use crate::snapshot_file::{FoundSnapshot, SnapshotMeta, read_bytes};
use crate::space::Space;
use crate::state_hash::{Checkpoint, StateHash};
use crate::stats::{QueueDepth, Queues, Stats};
use crate::task_thread::TaskThread;
use crate::timings::Timings;
use crate::tls::Tls;
use crate::transport::{Tcp, Transport};

/// How long a node may have the observer wait for entries.
const WAIT: Duration = Duration::from_millis(400);
/// How long a node may take for a piece of its state.
const PIECE_MAX: Duration = Duration::from_secs(10);
/// How long is rested before another node is followed.
const FOLLOW_REST: Duration = Duration::from_millis(50);
/// How often it is looked whether it has caught up, and whether its state is that of the nodes.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long a read that is to be current may take to learn what it must see.
const READ_INDEX_MAX: Duration = Duration::from_secs(2);

/// Of how many log indexes the nodes' hashes are kept to be compared.
const INDEXES_MAX: usize = 64;

/// What an observer needs to know to start.
#[derive(Clone, Debug)]
pub struct ObserverConfig {
    /// The nodes, and how reads are spread over them.
    pub nodes: NodesConfig,
    /// What the nodes ask of each other.
    pub secret: String,
    /// Certificates for encrypted connections; none for plain ones.
    pub tls: Option<TlsFiles>,
    /// How many commands it may be behind and still be ready.
    pub behind_max: u64,
    /// See [`NodeConfig`](crate::NodeConfig).
    pub queue_commands: usize,
    /// See [`NodeConfig`](crate::NodeConfig).
    pub entry_commands_max: usize,
    /// See [`NodeConfig`](crate::NodeConfig).
    pub entries_in_flight: usize,
    /// See [`NodeConfig`](crate::NodeConfig).
    pub published_capacity: usize,
}

impl ObserverConfig {
    /// The defaults, in front of those nodes.
    pub fn new(nodes: NodesConfig) -> ObserverConfig {
        ObserverConfig {
            nodes,
            secret: String::new(),
            tls: None,
            behind_max: 100_000,
            queue_commands: 65_536,
            entry_commands_max: 4_096,
            entries_in_flight: 8,
            published_capacity: 1_024,
        }
    }
}

/// A running observer. It runs until [`Observer::stop`].
pub struct Observer {
    nodes: Arc<Nodes>,
    leader: watch::Receiver<Leader>,
    shared: Arc<Shared>,
    sequencer: Sequencer,
    door: Arc<Door>,
    history: History,
    jobs: Sender<Job>,
    timings: Arc<Timings>,
    entries_published: Arc<AtomicU64>,
    feed_bound: u64,
    behind_max: u64,
    failure: Failure,
    stop_sequencer: oneshot::Sender<()>,
    sequencing: tokio::task::JoinHandle<()>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    thread: JoinHandle<()>,
    /// Where the tasks run.
    task_thread: TaskThread,
}

/// How far it is, for all of its tasks to see.
struct Shared {
    /// The last sequence applied.
    applied: Arc<AtomicU64>,
    /// The log index that comes next.
    next: Arc<AtomicU64>,
    has_state: AtomicBool,
    boot: Arc<AtomicU64>,
    hash: Arc<Mutex<StateHash>>,
    /// The last log index at which a majority of the nodes had the same hash.
    agreed: AtomicU64,
    /// What was acknowledged when it began.
    began_at: AtomicU64,
    /// States taken.
    states: AtomicU64,
    /// The node that is followed.
    source: AtomicU64,
}

impl Observer {
    /// Starts in front of nodes that need not be there yet. The receiver gets an empty state first, the nodes' once that is
    /// there, and then everything that is applied; it must be drained from now on.
    pub fn start(config: ObserverConfig) -> Result<(Observer, Receiver<Published>), StartError> {
        let transport: Arc<dyn Transport> = match &config.tls {
            Some(files) => Arc::new(Tls::read(files).map_err(StartError::Failed)?),
            None => Arc::new(Tcp),
        };
        let caller = Caller { transport, from: None, secret: config.secret.clone(), acquaintances: None };
        let failure = Failure::new();
        let task_thread = TaskThread::start().map_err(|error| StartError::Failed(error.to_string()))?;
        let entered = task_thread.enter();
        let (nodes, leader) = Nodes::new(Arc::new(caller), config.nodes.clone());

        // 1. The engine thread, as on a node.
        let (published, receiver) = queue::bounded(config.published_capacity.max(1));
        let (waiting, lost) = (Arc::new(Waiting::default()), Arc::new(Lost::default()));
        let next_deadline = Arc::new(NextDeadline::none());
        let number = GATEWAYS_FROM | rand::random::<u64>();
        let shared = Arc::new(Shared {
            applied: Arc::default(),
            next: Arc::default(),
            has_state: AtomicBool::new(false),
            boot: Arc::default(),
            hash: Arc::new(Mutex::new(StateHash::starting_at(0))),
            agreed: AtomicU64::new(0),
            began_at: AtomicU64::new(0),
            states: AtomicU64::new(0),
            source: AtomicU64::new(0),
        });
        let timings = Arc::new(Timings::default());
        let entries_published = Arc::new(AtomicU64::new(0));
        let engine_thread = EngineThread {
            engine: Engine::new(),
            meta: SnapshotMeta::default(),
            origins: Origins::default(),
            hash: Some(shared.hash.clone()),
            node: number,
            boot: shared.boot.clone(),
            waiting: waiting.clone(),
            lost: Some(lost.clone()),
            timings: timings.clone(),
            history: None,
            published,
            entries_published: entries_published.clone(),
            next_deadline: next_deadline.clone(),
            applied: shared.applied.clone(),
            deciding: Arc::default(),
            compensations: Arc::default(),
            drill_poison: None,
            failure: failure.clone(),
        };
        let (jobs, thread) = engine_thread.start();

        // 2. What finds the nodes, and follows one of them.
        let following = Following { nodes: nodes.clone(), jobs: jobs.clone(), shared: shared.clone() };
        let watching = Watching { nodes: nodes.clone(), shared: shared.clone(), failure: failure.clone() };
        let tasks =
            vec![runtime::spawn(nodes.clone().run()), runtime::spawn(following.run()), runtime::spawn(watching.run())];

        // 3. The sequencer, as on a node that follows.
        let door = Arc::new(Door::shut());
        let (stop_sequencer, stop) = oneshot::channel();
        let task = SequencerTask {
            leads: Way::Observer(nodes.clone()),
            leader: leader.clone(),
            node: number,
            boot: shared.boot.clone(),
            door: door.clone(),
            waiting,
            timings: timings.clone(),
            next_deadline,
            has_others: true,
            renewal: Some(Renewal { lost, reached: shared.next.clone() }),
            failure: failure.clone(),
            entry_commands_max: config.entry_commands_max.max(1),
            entries_in_flight: config.entries_in_flight.max(1),
        };
        let (sequencer, sequencing) = task.start(config.queue_commands.max(1), Space::default(), stop);
        drop(entered);
        let history = History::remote(RemoteHistory::new(nodes.clone(), shared.applied.clone()));
        let (behind_max, feed_bound) = (config.behind_max, config.published_capacity.max(1) as u64);
        let observer = Observer {
            nodes,
            leader,
            shared,
            sequencer,
            door,
            history,
            jobs,
            timings,
            entries_published,
            feed_bound,
            behind_max,
            failure,
            stop_sequencer,
            sequencing,
            tasks,
            thread,
            task_thread,
        };
        Ok((observer, receiver))
    }

    /// The door for commands.
    pub fn sequencer(&self) -> Sequencer {
        self.sequencer.clone()
    }

    /// Closed orders and trades, which the nodes have.
    pub fn history(&self) -> History {
        self.history.clone()
    }

    /// Whether it has the state of the cluster, however old by now.
    pub fn has_state(&self) -> bool {
        self.shared.has_state.load(Ordering::Acquire)
    }

    /// Whether commands are taken and reads are of the present; why not, otherwise.
    pub fn readiness(&self) -> Result<(), String> {
        if let Some(reason) = self.failure.reason() {
            return Err(reason);
        }
        if !self.has_state() {
            return Err("it has no state yet".to_owned());
        }
        if !self.nodes.is_fresh() {
            return Err("no node answers".to_owned());
        }
        if !self.leader.borrow().is_known() {
            return Err("no leader is known".to_owned());
        }
        if self.shared.boot.load(Ordering::Acquire) == 0 {
            return Err("it has not caught up yet".to_owned());
        }
        let behind = self.behind();
        if behind > self.behind_max {
            return Err(format!("it is {behind} commands behind; {} are the most", self.behind_max));
        }
        self.sequencer.check().map_err(|error| error.to_string())
    }

    /// The last command that was acknowledged when it began to take any: readers must see it.
    pub fn began_at(&self) -> Sequence {
        Sequence(self.shared.began_at.load(Ordering::Acquire))
    }

    /// How many commands the nodes have applied that it has not.
    pub fn behind(&self) -> u64 {
        self.nodes.applied().saturating_sub(self.shared.applied.load(Ordering::Acquire))
    }

    /// Counters, for metrics; what only a node has stays zero.
    pub fn stats(&self) -> Stats {
        Stats {
            last_log_index: self.shared.next.load(Ordering::Relaxed).saturating_sub(1),
            applied_sequence: self.shared.applied.load(Ordering::Relaxed),
            history_watermark: self.shared.applied.load(Ordering::Relaxed),
            queued_commands: self.sequencer.queue().depth,
            entries_published: self.entries_published.load(Ordering::Relaxed),
            queues: Queues {
                sequencer: self.sequencer.queue(),
                engine: QueueDepth { depth: self.jobs.len() as u64, bound: JOBS_MAX as u64 },
                feed_bound: self.feed_bound,
                ..Queues::default()
            },
            ..Stats::default()
        }
    }

    /// How long commands take here, stage by stage.
    pub fn timings(&self) -> Arc<Timings> {
        self.timings.clone()
    }

    /// The cluster as it was last heard of, asked by nobody who is a member of it.
    pub fn cluster(&self) -> Option<ClusterStatus> {
        self.nodes.status().map(|status| ClusterStatus { asked: 0, ..status })
    }

    /// The nodes as they are seen from here.
    pub fn nodes(&self) -> Vec<NodeSeen> {
        self.nodes.seen()
    }

    /// The node that it follows; zero while it follows none.
    pub fn source(&self) -> u64 {
        self.shared.source.load(Ordering::Relaxed)
    }

    /// How often it took a whole state.
    pub fn states(&self) -> u64 {
        self.shared.states.load(Ordering::Relaxed)
    }

    /// The last log index at which a majority of the nodes was seen to have the same hash as it; zero before the first.
    pub fn agreed_index(&self) -> u64 {
        self.shared.agreed.load(Ordering::Relaxed)
    }

    /// Goes by these settings from now on.
    pub fn configure(&self, config: NodesConfig) {
        self.nodes.configure(config);
    }

    /// See [`Node::read_index`](crate::Node::read_index).
    pub fn read_index(&self) -> impl Future<Output = Option<Sequence>> + Send + use<> {
        let nodes = self.nodes.clone();
        async move { timeout(READ_INDEX_MAX, nodes.read_index()).await.ok()?.ok().map(Sequence) }
    }

    /// A copy of its engine.
    pub async fn engine(&self) -> Option<Engine> {
        let (reply, copy) = oneshot::channel();
        hand_over(&self.jobs, Job::Copy(reply)).await.ok()?;
        copy.await.ok().map(|(state, ..)| Engine::from_snapshot(state))
    }

    /// Resolves only when it can't go on, with the reason.
    pub fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        let (failure, door) = (self.failure.clone(), self.door.clone());
        async move {
            let reason = failure.wait().await;
            door.stop();
            reason
        }
    }

    /// Refuses new commands, lets what is in flight finish, and ends.
    pub async fn stop(self) {
        self.door.stop();
        let _ = self.stop_sequencer.send(());
        let _ = self.sequencing.await;
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        let _ = hand_over(&self.jobs, Job::Stop).await;
        let thread = self.thread;
        let _ = runtime::blocking(move || thread.join()).await;
        self.task_thread.end().await;
    }
}

/// Takes the state from one of the nodes, and then its entries.
struct Following {
    nodes: Arc<Nodes>,
    jobs: Sender<Job>,
    shared: Arc<Shared>,
}

impl Following {
    async fn run(self) {
        let mut last: Option<String> = None;
        loop {
            if let Some(known) = self.nodes.source(last.as_deref()) {
                tracing::debug!("node {} at {} is followed", known.node(), known.address);
                let ended = self.follow(&known).await;
                self.shared.source.store(0, Ordering::Relaxed);
                match ended {
                    Ok(()) => return,
                    Err(reason) => tracing::info!("node {} is followed no more: {reason}", known.node()),
                }
                last = Some(known.address.clone());
            }
            tokio::time::sleep(FOLLOW_REST).await;
        }
    }

    /// Ends without an error when the engine has ended.
    async fn follow(&self, known: &Known) -> Result<(), String> {
        let link = Link::patient(self.nodes.caller(), 0, known.address.clone(), PIECE_MAX);
        if !self.shared.has_state.load(Ordering::Acquire) && !self.take_state(&link).await? {
            return Ok(());
        }
        self.shared.source.store(known.node(), Ordering::Relaxed);
        let wait_ms = u64::try_from(WAIT.as_millis()).unwrap_or(u64::MAX);
        loop {
            let from = self.shared.next.load(Ordering::Relaxed);
            let asked = link.call(&Request::Observe(Observe::Entries { from, wait_ms }));
            let told = timeout(WAIT + Duration::from_secs(2), asked).await;
            match told.map_err(|_| "it does not answer")?? {
                Reply::Observed(Observed::Entries { packed, term, leader }) => {
                    self.nodes.follow(term, leader);
                    if packed.is_empty() {
                        // Nothing came for a while; it may be cut off from the others.
                        let behind = self.nodes.applied() > self.shared.applied.load(Ordering::Acquire);
                        if behind {
                            return Err("it does not go on, and others do".to_owned());
                        }
                        continue;
                    }
                    let entries = unpack_entries(&packed).map_err(|error| error.to_string())?;
                    if !self.take(entries).await? {
                        return Ok(());
                    }
                }
                Reply::Observed(Observed::Purged) => {
                    tracing::warn!("this gateway is too far behind for the log, and takes the state anew");
                    if !self.take_state(&link).await? {
                        return Ok(());
                    }
                }
                _ => return Err("the reply is to another question".to_owned()),
            }
        }
    }

    /// Hands entries to the engine, which must follow on what it has; false when it has ended.
    async fn take(&self, entries: Vec<RaftEntry>) -> Result<bool, String> {
        for entry in entries {
            let next = self.shared.next.load(Ordering::Relaxed);
            if entry.log_id.index != next {
                return Err(format!("entry {} came, and {next} was to come", entry.log_id.index));
            }
            let log_id = entry.log_id;
            let job = match entry.payload {
                EntryPayload::Normal(Proposal::Commands { origin, entry }) => {
                    Job::Apply { log_id, origin, entry, responder: None }
                }
                EntryPayload::Membership(membership) => {
                    let membership = Some(StoredMembership::new(Some(log_id), membership));
                    Job::Pass { log_id, membership, responder: None }
                }
                EntryPayload::Normal(Proposal::Compensation(_)) | EntryPayload::Blank => {
                    Job::Pass { log_id, membership: None, responder: None }
                }
            };
            if hand_over(&self.jobs, job).await.is_err() {
                return Ok(false);
            }
            self.shared.next.store(next + 1, Ordering::Release);
        }
        Ok(true)
    }

    /// Becomes the state of a node; false when the engine has ended.
    async fn take_state(&self, link: &Link) -> Result<bool, String> {
        let mut of = None;
        let mut bytes = Vec::new();
        let (found, rulings) = loop {
            let offset = bytes.len() as u64;
            match link.call(&Request::Observe(Observe::State { of, offset })).await? {
                Reply::Observed(Observed::NoState { rulings }) => break (None, rulings),
                Reply::Observed(Observed::State { of: found, length, rulings, piece }) => {
                    if piece.is_empty() && offset < length {
                        return Err("a piece of its state is empty".to_owned());
                    }
                    of = Some(found);
                    bytes.extend_from_slice(&piece);
                    if bytes.len() as u64 >= length {
                        break (Some(std::mem::take(&mut bytes)), rulings);
                    }
                }
                _ => return Err("the reply is to another question".to_owned()),
            }
        };
        let found = match found {
            None if self.shared.has_state.load(Ordering::Acquire) => {
                return Err("it has no state to give".to_owned());
            }
            None => {
                let state = Engine::new().snapshot();
                FoundSnapshot { meta: SnapshotMeta::default(), origins: Origins::default(), state }
            }
            Some(bytes) => {
                let read = runtime::blocking(move || read_bytes(&bytes)).await.map_err(|error| error.to_string())?;
                read.map_err(|error| error.to_string())?
            }
        };
        let next = next_index(&found.meta);
        if self.shared.has_state.load(Ordering::Acquire) && next <= self.shared.next.load(Ordering::Relaxed) {
            return Err("its state is older than what is here".to_owned());
        }
        tracing::info!("the state at sequence {} is taken", found.state.sequence());
        let (done, installed) = oneshot::channel();
        let heed = Job::Heed(Arc::new(Compensations::of(&rulings)));
        if hand_over(&self.jobs, heed).await.is_err()
            || hand_over(&self.jobs, Job::Install(found, done)).await.is_err()
            || installed.await.is_err()
        {
            return Ok(false);
        }
        self.shared.next.store(next, Ordering::Release);
        self.shared.states.fetch_add(1, Ordering::Relaxed);
        self.shared.has_state.store(true, Ordering::Release);
        Ok(true)
    }
}

/// Opens the door once it has caught up, and compares its state with that of the nodes.
struct Watching {
    nodes: Arc<Nodes>,
    shared: Arc<Shared>,
    failure: Failure,
}

impl Watching {
    async fn run(self) {
        let (mut wanted, mut votes) = (None, BTreeMap::new());
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            if !self.shared.has_state.load(Ordering::Acquire) {
                continue;
            }
            if self.shared.boot.load(Ordering::Acquire) == 0 {
                if wanted.is_none() {
                    // What was acknowledged before this start must show here before anything is taken.
                    wanted = timeout(READ_INDEX_MAX, self.nodes.read_index()).await.ok().and_then(Result::ok);
                }
                if let Some(wanted) = wanted
                    && self.shared.applied.load(Ordering::Acquire) >= wanted
                {
                    self.shared.began_at.store(wanted, Ordering::Release);
                    // Origins tell later starts from earlier ones by it, so it must not be zero.
                    let boot = self.shared.next.load(Ordering::Acquire).max(1);
                    self.shared.boot.store(boot, Ordering::Release);
                    tracing::info!("this gateway has caught up");
                }
            }
            let reason = match self.differs(&mut votes) {
                Some(reason) => Some(reason),
                None => self.is_ahead().await,
            };
            if let Some(reason) = reason {
                self.failure.report(reason);
                return;
            }
        }
    }

    /// Whether the cluster has less than this engine: it was restored, or goes on from one node that had not all of it.
    async fn is_ahead(&self) -> Option<String> {
        let applied = self.shared.applied.load(Ordering::Acquire);
        if self.nodes.applied() >= applied || !self.nodes.is_fresh() {
            return None;
        }
        // Nodes are asked now and then only; the leader knows everything that was ever acknowledged.
        let known = timeout(READ_INDEX_MAX, self.nodes.read_index()).await.ok()?.ok()?;
        (known < applied).then(|| {
            format!(
                "the cluster is at sequence {known}, this gateway at {applied}: it was restored to an earlier state. Started anew, \
                 the gateway takes that"
            )
        })
    }

    /// Whether a majority of the nodes has come to another state than this engine; it serves no more then.
    fn differs(&self, votes: &mut BTreeMap<u64, BTreeMap<u64, u64>>) -> Option<String> {
        let status = self.nodes.status()?;
        let voters = status.members.iter().filter(|member| member.voter).count();
        for member in status.members.iter().filter(|member| member.voter) {
            if let Ok(value) = u64::from_str_radix(&member.state_hash.value, 16) {
                votes.entry(member.state_hash.index).or_default().insert(member.node, value);
            }
        }
        while votes.len() > INDEXES_MAX {
            votes.pop_first();
        }
        for (index, by_node) in votes.iter() {
            let Some(Checkpoint { value: own, .. }) = self.shared.hash.lock().at(*index) else { continue };
            let has_majority = |value: u64| 2 * by_node.values().filter(|other| **other == value).count() > voters;
            if has_majority(own) {
                self.shared.agreed.fetch_max(*index, Ordering::Relaxed);
            } else if by_node.values().any(|value| has_majority(*value)) {
                return Some(format!(
                    "what this gateway did with the log up to entry {index} differs from what a majority of the nodes did: its \
                     memory or its program is at fault. Started anew, it takes their state"
                ));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use engine::command::AddAsset;
    use engine::{Command, Event};

    use super::*;
    use crate::cluster::ClusterConfig;
    use crate::node::{Node, NodeConfig};
    use crate::origins::GATEWAYS_MAX;
    use crate::record::Answer;
    use crate::space::SpaceConfig;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Answers callers, and counts the assets that were listed and the commands that were refused.
    fn drain(published: Receiver<Published>) -> JoinHandle<(usize, usize)> {
        std::thread::spawn(move || {
            let (mut listed, mut refused) = (0, 0);
            for published in published.iter() {
                let Published::Applied { applied, callers, road } = published else { continue };
                listed += applied.events.iter().filter(|event| matches!(event, Event::AssetAdded { .. })).count();
                refused += applied.events.iter().filter(|event| matches!(event, Event::Rejected(_))).count();
                for (index, caller) in callers {
                    let _ = caller.send(Answer { applied: applied.clone(), index, road });
                }
            }
            (listed, refused)
        })
    }

    async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        let waiting = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what} is not so"));
    }

    /// More gateways than are known at once take turns, so that each has to begin anew again and again.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn gateways_that_were_forgotten_begin_anew_and_each_of_their_commands_counts_once() {
        const ROUNDS: usize = 3;
        let folder = tempfile::tempdir().unwrap();
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let cluster = ClusterConfig {
            secret: "known to all".to_owned(),
            ..ClusterConfig::new(1, BTreeMap::from([(1, address.clone())]))
        };
        let config = NodeConfig {
            cluster: Some(cluster),
            space: SpaceConfig { low_bytes: 0, ballast_bytes: 0 },
            ..NodeConfig::new(folder.path())
        };
        let (node, published) = Node::start(config).await.unwrap();
        let at_node = drain(published);
        node.recovered().await.unwrap();

        let nodes = NodesConfig { addresses: vec![address.clone()], ..NodesConfig::default() };
        let stranger = ObserverConfig { secret: "guessed".to_owned(), ..ObserverConfig::new(nodes.clone()) };
        let (stranger, published) = Observer::start(stranger).unwrap();
        let at_stranger = drain(published);
        let count = GATEWAYS_MAX + 4;
        let mut gateways = Vec::new();
        for _ in 0..count {
            let config = ObserverConfig { secret: "known to all".to_owned(), ..ObserverConfig::new(nodes.clone()) };
            let (observer, published) = Observer::start(config).unwrap();
            gateways.push((observer, drain(published)));
        }
        for (observer, _) in &gateways {
            until("that it is ready", || observer.readiness().is_ok()).await;
        }
        for round in 0..ROUNDS {
            for (number, (observer, _)) in gateways.iter().enumerate() {
                let command = Command::AddAsset(AddAsset { name: format!("A{round}N{number}"), scale: 8 });
                let (caller, answer) = oneshot::channel();
                observer.sequencer().submit(command, Some(caller)).unwrap();
                let answer = timeout(PATIENCE, answer).await.expect("it is answered").expect("it is known");
                assert!(matches!(answer.events(), [Event::AssetAdded { .. }, ..]), "{:?}", answer.events());
            }
        }
        for (observer, _) in &gateways {
            // The leader tells the time now and then, so the two are of one moment sooner or later.
            let compared = async {
                loop {
                    let (here, there) = (observer.engine().await.unwrap(), node.engine().await.unwrap());
                    if here.sequence() == there.sequence() {
                        return here.state_hash() == there.state_hash();
                    }
                }
            };
            assert!(timeout(PATIENCE, compared).await.expect("it comes as far"), "its state is the node's");
        }
        assert!(!stranger.has_state(), "who does not know the secret is told nothing");
        stranger.stop().await;
        drop(at_stranger);
        for (observer, drained) in gateways {
            observer.stop().await;
            drop(drained);
        }
        node.stop().await;
        assert_eq!(at_node.join().unwrap(), (ROUNDS * count, 0), "each once");
    }
}
