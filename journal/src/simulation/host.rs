//! A machine: its disks, which stay, and the node on it, which comes and goes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine::{Engine, Sequence};
use parking_lot::Mutex;
use rocksdb::DB;
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

use super::dice::Dice;
use super::disk::{Disk, Torn, write_to};
use super::faults::Bug;
use super::life::Life;
use super::network::{Network, Port};
use super::witness::Witness;
use crate::cluster::ClusterConfig;
use crate::database::count_boot;
use crate::engine_thread::EngineThread;
use crate::failure::{Failure, StartError};
use crate::history_writer::HistoryWriter;
use crate::log_chain::log_start;
use crate::log_memory::Log;
use crate::log_store::LogStore;
use crate::node::{Node, NodeConfig, Opened, Recovery};
use crate::queue::{self, Receiver};
use crate::record::Published;
use crate::sequencer::Sequencer;
use crate::snapshot_file::{SnapshotDirectory, SnapshotMeta};

/// How long a node that is stopped in order may take.
const STOP_MAX: Duration = Duration::from_secs(3);

/// See above.
pub(crate) struct Host {
    pub node: u64,
    pub disk: Arc<Disk>,
    pub folder: TempDir,
    /// For the few records of meta; the log is on `disk`.
    pub database: Arc<DB>,
    pub witness: Arc<Witness>,
    pub network: Arc<Network>,
    pub began: Instant,
    pub config: NodeConfig,
    pub cluster: ClusterConfig,
    pub bug: Bug,
    pub running: Mutex<Option<Running>>,
}

/// A node that was started.
pub(crate) struct Running {
    pub life: Arc<Life>,
    pub failure: Failure,
    /// None while it opens its directory.
    pub node: Arc<Mutex<Option<Node>>>,
}

impl Host {
    pub(crate) fn life(&self) -> Option<Arc<Life>> {
        self.running.lock().as_ref().map(|running| running.life.clone())
    }

    pub(crate) fn is_up(&self) -> bool {
        self.running.lock().is_some()
    }

    /// Looks at the node, if there is one.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Node) -> T) -> Option<T> {
        let running = self.running.lock();
        let node = running.as_ref()?.node.lock();
        node.as_ref().map(look)
    }

    pub(crate) fn sequencer(&self) -> Option<Sequencer> {
        self.with(Node::sequencer)
    }

    /// Why the node cannot go on, if it cannot.
    pub(crate) fn failed(&self) -> Option<String> {
        self.running.lock().as_ref().and_then(|running| running.failure.reason())
    }

    /// Starts a node on what is on the disks.
    pub(crate) fn start(self: &Arc<Host>, mut dice: Dice) {
        let ahead_us = dice.within(0..800_000);
        let life = Life::new(self.node, self.witness.clone(), self.bug, dice, self.began, ahead_us);
        let failure = Failure::new();
        let node = Arc::new(Mutex::new(None));
        let running = Running { life: life.clone(), failure: failure.clone(), node: node.clone() };
        *self.running.lock() = Some(running);
        self.witness.starts(self.node);
        self.network.back(self.node);
        let (host, of) = (self.clone(), life.clone());
        life.spawn(async move {
            match host.open(&of, &failure).await {
                Ok((started, receiver)) => {
                    of.feed(receiver);
                    *node.lock() = Some(started);
                }
                Err(error) => host.witness.violation(format!("node {} does not start: {error}", host.node)),
            }
        });
    }

    async fn open(&self, life: &Arc<Life>, failure: &Failure) -> Result<(Node, Receiver<Published>), StartError> {
        let (disk, data) = (&self.disk, self.folder.path());
        let snapshots = SnapshotDirectory::open(data)?;
        let purged = log_start(&**disk)?.log_id.map(|log_id| log_id.index);
        let (engine, meta, origins) = match snapshots.load_newest(purged, Sequence(u64::MAX))? {
            Some(found) => {
                self.witness.restored(self.node, found.meta.last_log_id, &found.state);
                (Engine::from_snapshot(found.state), found.meta, found.origins)
            }
            None => (Engine::new(), SnapshotMeta::default(), Default::default()),
        };
        let (log, compensations, _) = Log::open(&**disk, meta.last_log_id, self.node)?;
        let mark = disk.mark();
        log.reaches(&**disk, mark.entries())?;
        let (jobs, queue) = queue::unbounded();
        let (log, writer) = LogStore::over(disk.clone(), log, jobs, mark, failure);
        life.spawn(write_to(disk.clone(), writer, queue, life.clone()));
        let sequence = engine.sequence();
        let opened = Opened {
            database: self.database.clone(),
            incarnation: self.node,
            boot: count_boot(&self.database)?,
            log,
            compensations: Arc::new(compensations),
            history: HistoryWriter::filing_nothing(&self.database, failure),
            engine,
            meta,
            origins,
            snapshots,
            recovery: Recovery {
                snapshot: sequence,
                reached: sequence,
                opening: Duration::ZERO,
                loading: Duration::ZERO,
                checking: Duration::ZERO,
                replaying: Duration::ZERO,
            },
            threads: Vec::new(),
        };
        let port = Arc::new(Port { network: self.network.clone(), node: self.node });
        Node::run(self.config.clone(), self.cluster.clone(), opened, port, failure.clone(), EngineThread::start).await
    }

    /// The node is gone from one moment to the next: its process was killed, or, silently, its machine lost its power.
    pub(crate) fn crash(&self, silently: bool) -> Torn {
        let Some(running) = self.running.lock().take() else { return Torn::Nothing };
        self.network.gone(self.node, silently);
        running.life.end();
        drop(running.node.lock().take());
        self.disk.crash()
    }

    /// The node is asked to stop, as an operator does.
    pub(crate) async fn stop(self: Arc<Host>) {
        let (life, node) = match &*self.running.lock() {
            Some(running) => (running.life.clone(), running.node.lock().take()),
            None => return,
        };
        if let Some(node) = node {
            let _ = timeout(STOP_MAX, life.spawn(node.stop())).await;
        }
        // It may have been killed meanwhile, and another be there.
        if self.life().is_some_and(|now| Arc::ptr_eq(&now, &life)) {
            self.crash(false);
        }
    }
}

/// A database in memory, or nearly.
pub(crate) fn database(folder: &Path) -> Arc<DB> {
    crate::opening::open_database(folder).expect("a database can be made in memory")
}
