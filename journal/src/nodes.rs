//! The nodes of a cluster as a gateway in front of it knows them: found through any of those it was told, asked again and again
//! how they stand, and chosen among for reads. A node that fails is left alone for a while (breaker.rs).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use engine::Command;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::balance::{Ask, Balance, Candidate};
use crate::breaker::{Breaker, BreakerConfig, BreakerState};
use crate::cluster::{ClusterStatus, NODES_MAX};
use crate::leader::Leader;
use crate::link::{Caller, Link};
use crate::message::{Reply, Request};
use crate::record::Origin;

/// How often nodes are asked how they stand.
const ASK_INTERVAL: Duration = Duration::from_millis(200);
/// What was heard is news for so long.
const FRESH_MAX: Duration = Duration::from_secs(3);
/// A reply to a read is waited for no longer than this, whatever is configured.
const READ_MAX: Duration = Duration::from_secs(30);

/// How a gateway finds nodes and spreads its reads over them. All of it can be changed while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodesConfig {
    /// Where some nodes listen for the others; the rest is found through them.
    pub addresses: Vec<String>,
    /// How reads are spread.
    pub balance: Balance,
    /// The weights of nodes by their number; one where none is said.
    pub weights: BTreeMap<u64, u32>,
    /// When a node is left alone.
    pub breaker: BreakerConfig,
    /// How many nodes a read is tried at.
    pub attempts: u32,
    /// How long one may take to answer it.
    pub read_timeout: Duration,
}

impl Default for NodesConfig {
    fn default() -> Self {
        NodesConfig {
            addresses: Vec::new(),
            balance: Balance::default(),
            weights: BTreeMap::new(),
            breaker: BreakerConfig::default(),
            attempts: 3,
            read_timeout: Duration::from_secs(3),
        }
    }
}

/// How a node is seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSeen {
    /// Its number.
    pub node: u64,
    /// Where it listens for the others.
    pub address: String,
    /// Whether it answered not long ago.
    pub is_reachable: bool,
    /// Its circuit breaker.
    pub breaker: BreakerState,
    /// How often that opened.
    pub opened: u64,
    /// Reads it answered.
    pub reads: u64,
    /// Reads it did not.
    pub failures: u64,
    /// Reads under way.
    pub active: usize,
}

/// All of them.
pub(crate) struct Nodes {
    caller: Arc<Caller>,
    config: RwLock<Arc<NodesConfig>>,
    by_address: Mutex<BTreeMap<String, Arc<Known>>>,
    turn: AtomicU64,
    leader: watch::Sender<Leader>,
    heard: Mutex<Option<(ClusterStatus, Instant)>>,
    /// Where the links to them run, whoever makes them known.
    runtime: Handle,
}

/// One of them.
pub(crate) struct Known {
    pub address: String,
    /// Its number; zero until it has said so.
    node: AtomicU64,
    /// For what is said seldom, and for commands.
    link: Link,
    /// For reads.
    reading: Link,
    is_reachable: AtomicBool,
    is_member: AtomicBool,
    applied: AtomicU64,
    breaker: Mutex<Breaker>,
    active: AtomicUsize,
    reads: AtomicU64,
    failures: AtomicU64,
}

impl Known {
    fn new(caller: &Arc<Caller>, address: &str) -> Known {
        Known {
            address: address.to_owned(),
            node: AtomicU64::new(0),
            link: Link::new(caller.clone(), 0, address.to_owned()),
            reading: Link::patient(caller.clone(), 0, address.to_owned(), READ_MAX),
            is_reachable: AtomicBool::new(false),
            is_member: AtomicBool::new(false),
            applied: AtomicU64::new(0),
            breaker: Mutex::new(Breaker::new(Instant::now())),
            active: AtomicUsize::new(0),
            reads: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Its number.
    pub(crate) fn node(&self) -> u64 {
        self.node.load(Ordering::Relaxed)
    }
}

impl Nodes {
    /// In the runtime that this is called in.
    pub(crate) fn new(caller: Arc<Caller>, config: NodesConfig) -> (Arc<Nodes>, watch::Receiver<Leader>) {
        let (leader, follows) = watch::channel(Leader::Unknown);
        let nodes = Nodes {
            caller,
            config: RwLock::default(),
            by_address: Mutex::default(),
            turn: AtomicU64::new(rand::random()),
            leader,
            heard: Mutex::default(),
            runtime: Handle::current(),
        };
        nodes.configure(config);
        (Arc::new(nodes), follows)
    }

    /// Goes by these settings from now on.
    pub(crate) fn configure(&self, config: NodesConfig) {
        *self.config.write() = Arc::new(config);
        self.know(None);
    }

    /// The settings.
    pub(crate) fn config(&self) -> Arc<NodesConfig> {
        self.config.read().clone()
    }

    /// Who is called, and how.
    pub(crate) fn caller(&self) -> Arc<Caller> {
        self.caller.clone()
    }

    /// Those that were told of, and the members of the cluster, are known; others no more.
    fn know(&self, status: Option<&ClusterStatus>) {
        let config = self.config();
        let _entered = self.runtime.enter();
        let mut known = self.by_address.lock();
        for address in &config.addresses {
            known.entry(address.clone()).or_insert_with(|| Arc::new(Known::new(&self.caller, address)));
        }
        let Some(status) = status else { return };
        let mut members = BTreeMap::new();
        for member in status.members.iter().take(NODES_MAX).filter(|member| !member.address.is_empty()) {
            members.insert(member.address.as_str(), member);
        }
        for address in members.keys() {
            known.entry((*address).to_owned()).or_insert_with(|| Arc::new(Known::new(&self.caller, address)));
        }
        known.retain(|address, _| config.addresses.contains(address) || members.contains_key(address.as_str()));
        for (address, known) in known.iter() {
            known.is_member.store(members.contains_key(address.as_str()), Ordering::Relaxed);
        }
    }

    /// Asks all of them how they stand, again and again.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut tick = tokio::time::interval(ASK_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut asked = FuturesUnordered::new();
        let mut waited_for: BTreeMap<String, ()> = BTreeMap::new();
        loop {
            tokio::select! {
                biased;
                Some((known, reply)) = asked.next() => {
                    let known: Arc<Known> = known;
                    waited_for.remove(&known.address);
                    self.heard_of(&known, reply);
                }
                _ = tick.tick() => {
                    let all: Vec<Arc<Known>> = self.by_address.lock().values().cloned().collect();
                    for known in all {
                        if waited_for.insert(known.address.clone(), ()).is_none() {
                            let reply = known.link.call(&Request::Status);
                            asked.push(async move { (known, reply.await) });
                        }
                    }
                }
            }
        }
    }

    fn heard_of(&self, known: &Known, reply: Result<Reply, String>) {
        let status = match reply {
            Ok(Reply::Status(status)) => *status,
            Ok(_) => return,
            Err(reason) => {
                if known.is_reachable.swap(false, Ordering::Relaxed) {
                    tracing::warn!("node {} does not answer: {reason}", known.node());
                }
                return;
            }
        };
        known.node.store(status.asked, Ordering::Relaxed);
        known.is_reachable.store(true, Ordering::Relaxed);
        if let Some(own) = status.members.iter().find(|member| member.node == status.asked) {
            known.applied.store(own.applied_sequence, Ordering::Relaxed);
        }
        self.follow(status.term, status.leader);
        let mut heard = self.heard.lock();
        let is_newer = heard.as_ref().is_none_or(|(known, at)| {
            (status.term, status.leader.is_some()) >= (known.term, known.leader.is_some()) || at.elapsed() > FRESH_MAX
        });
        if is_newer && !status.members.is_empty() {
            *heard = Some((status.clone(), Instant::now()));
            drop(heard);
            self.know(Some(&status));
        }
    }

    /// Some node says who leads in that term, if it knows.
    pub(crate) fn follow(&self, term: u64, leader: Option<u64>) {
        self.leader.send_if_modified(|known| {
            let next = match (*known, leader) {
                (Leader::Peer { term: seen, .. }, _) if term < seen => return false,
                // Within a term nobody else can lead.
                (Leader::Peer { term: seen, .. }, None) if term == seen => return false,
                (_, Some(node)) => Leader::Peer { node, term },
                (_, None) => Leader::Unknown,
            };
            std::mem::replace(known, next) != next
        });
    }

    /// What was last heard of the cluster.
    pub(crate) fn status(&self) -> Option<ClusterStatus> {
        self.heard.lock().as_ref().map(|(status, _)| status.clone())
    }

    /// Whether anything was heard not long ago.
    pub(crate) fn is_fresh(&self) -> bool {
        self.heard.lock().as_ref().is_some_and(|(_, at)| at.elapsed() < FRESH_MAX)
    }

    /// The last command that any of them has applied.
    pub(crate) fn applied(&self) -> u64 {
        self.by_number().values().map(|known| known.applied.load(Ordering::Relaxed)).max().unwrap_or(0)
    }

    /// Each node once, under the address that the cluster has of it where that answers.
    fn by_number(&self) -> BTreeMap<u64, Arc<Known>> {
        let mut found: BTreeMap<u64, Arc<Known>> = BTreeMap::new();
        let rank =
            |known: &Known| (known.is_reachable.load(Ordering::Relaxed), known.is_member.load(Ordering::Relaxed));
        for known in self.by_address.lock().values().filter(|known| known.node() > 0) {
            let place = found.entry(known.node()).or_insert_with(|| known.clone());
            if rank(known) > rank(place) {
                *place = known.clone();
            }
        }
        found
    }

    /// How they are seen.
    pub(crate) fn seen(&self) -> Vec<NodeSeen> {
        let now = Instant::now();
        let seen = |(node, known): (u64, Arc<Known>)| {
            let breaker = known.breaker.lock();
            NodeSeen {
                node,
                address: known.address.clone(),
                is_reachable: known.is_reachable.load(Ordering::Relaxed),
                breaker: breaker.state(now),
                opened: breaker.opened,
                reads: known.reads.load(Ordering::Relaxed),
                failures: known.failures.load(Ordering::Relaxed),
                active: known.active.load(Ordering::Relaxed),
            }
        };
        self.by_number().into_iter().map(seen).collect()
    }

    /// Sends a command to a node, in the order of the calls; whether it has applied it.
    pub(crate) fn forward(&self, node: u64, origin: Origin, commands: Vec<Command>) -> BoxFuture<'static, bool> {
        match self.by_number().get(&node) {
            Some(known) => {
                let reply = known.link.call(&Request::Forward { origin, commands: commands.into() });
                Box::pin(async move { matches!(reply.await, Ok(Reply::Done)) })
            }
            None => Box::pin(async { false }),
        }
    }

    /// Asks the leader what a read that begins now must see.
    pub(crate) async fn read_index(&self) -> Result<u64, String> {
        let Leader::Peer { node, .. } = *self.leader.borrow() else { return Err("no leader is known".to_owned()) };
        let known = self.by_number().remove(&node).ok_or("the leader is not known")?;
        match known.link.call(&Request::ReadIndex).await? {
            Reply::ReadIndex(sequence) => Ok(sequence),
            _ => Err("the reply is to another question".to_owned()),
        }
    }

    /// A node to follow, which is not the one at that address if there is another.
    pub(crate) fn source(&self, but: Option<&str>) -> Option<Arc<Known>> {
        let all: Vec<Arc<Known>> = self.by_number().into_values().collect();
        let reachable = |known: &&Arc<Known>| known.is_reachable.load(Ordering::Relaxed);
        let other = |known: &&Arc<Known>| Some(known.address.as_str()) != but;
        let mut found: Vec<&Arc<Known>> = all.iter().filter(reachable).filter(other).collect();
        if found.is_empty() {
            found = all.iter().filter(reachable).collect();
        }
        let furthest = found.iter().map(|known| known.applied.load(Ordering::Relaxed)).max()?;
        // One that lags is no source; among the others it is by lot, so that gateways spread.
        found.retain(|known| known.applied.load(Ordering::Relaxed) + 1_000 >= furthest);
        let at = rand::random_range(0..found.len());
        found.get(at).map(|known| (*known).clone())
    }

    /// Asks some node what any of them can answer, and another one where that fails.
    pub(crate) async fn read(&self, affinity: u64, request: &Request<'_>) -> Result<Reply, String> {
        let config = self.config();
        let mut tried = Vec::new();
        let mut complaint = "no node can be asked now".to_owned();
        for _ in 0..config.attempts.max(1) {
            let Some(known) = self.choose(&config, affinity, &tried) else { break };
            tried.push(known.node());
            let mut active = Active::enter(&known);
            let limit = config.read_timeout.min(READ_MAX);
            let reply = match timeout(limit, known.reading.call(request)).await {
                Ok(reply) => reply,
                Err(_) => Err("it does not answer in time".to_owned()),
            };
            active.is_done = true;
            known.breaker.lock().record(&config.breaker, Instant::now(), reply.is_ok());
            let counter = if reply.is_ok() { &known.reads } else { &known.failures };
            counter.fetch_add(1, Ordering::Relaxed);
            match reply {
                Ok(reply) => return Ok(reply),
                Err(reason) => complaint = format!("node {}: {reason}", known.node()),
            }
        }
        Err(complaint)
    }

    fn choose(&self, config: &NodesConfig, affinity: u64, tried: &[u64]) -> Option<Arc<Known>> {
        let now = Instant::now();
        let mut able: Vec<Arc<Known>> = self.by_number().into_values().collect();
        able.retain(|known| !tried.contains(&known.node()) && known.breaker.lock().admits(&config.breaker, now));
        while !able.is_empty() {
            let candidate = |known: &Arc<Known>| Candidate {
                node: known.node(),
                weight: config.weights.get(&known.node()).copied().unwrap_or(1),
                active: known.active.load(Ordering::Relaxed),
            };
            let candidates: Vec<Candidate> = able.iter().map(candidate).collect();
            let ask = Ask { turn: self.turn.fetch_add(1, Ordering::Relaxed), lot: rand::random(), affinity };
            let known = able.swap_remove(config.balance.choose(&candidates, ask)?);
            if known.breaker.lock().enter(&config.breaker, now) {
                return Some(known);
            }
        }
        None
    }
}

/// A read that is under way.
struct Active<'k> {
    known: &'k Known,
    is_done: bool,
}

impl<'k> Active<'k> {
    fn enter(known: &'k Known) -> Active<'k> {
        known.active.fetch_add(1, Ordering::Relaxed);
        Active { known, is_done: false }
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.known.active.fetch_sub(1, Ordering::Relaxed);
        if !self.is_done {
            self.known.breaker.lock().give_up();
        }
    }
}
