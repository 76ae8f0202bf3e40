//! Starts and stops a node: the database, the threads, raft; who leads.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use engine::{Engine, Sequence, Time};
use openraft::async_runtime::WatchReceiver;
use openraft::{BasicNode, Config, Raft, ServerState, SnapshotPolicy};
use rocksdb::DB;
use tokio::sync::{oneshot, watch};

use crate::compensation::Compensations;
use crate::database::count_boot;
use crate::engine_thread::{EngineThread, Job, NextDeadline, Waiting};
use crate::failure::{Failure, StartError};
use crate::history::{self, History, HistoryWriter};
use crate::identity;
use crate::log_chain::log_start;
use crate::log_store::{LogCounters, LogStore, hand_over};
use crate::network::Network;
use crate::opening::{open_database, upgrade};
use crate::record::{Published, TypeConfig};
use crate::sequencer::{Door, Sequencer, SequencerTask};
use crate::snapshot_builder::{SnapshotKeeping, SnapshotProgress};
use crate::snapshot_file::{SnapshotDirectory, SnapshotMeta};
use crate::space::{Space, SpaceConfig, make_room};
use crate::state_machine::StateMachine;

/// The one voter of a cluster of one.
const NODE_ID: u64 = 1;
/// How long a stopping node waits for the last hands to leave the database.
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// How often raft's health is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

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
    /// How many days history keeps what is closed; 0 keeps it for ever.
    pub history_days: u32,
    /// How much room is kept on the disk.
    pub space: SpaceConfig,
    /// About how many bytes of the log are kept behind the snapshots, to look back on.
    pub log_bytes_kept: u64,
    /// How much may wait in the channel to the feed.
    pub published_capacity: usize,
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
            history_days: 0,
            log_bytes_kept: 8 << 30,
            published_capacity: 1_024,
            drill_poison: None,
        }
    }
}

/// Counters of a running node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Index of the last raft log entry that is durable.
    pub last_log_index: u64,
    /// Sequence of the last command applied.
    pub applied_sequence: u64,
    /// Log batches written and synced.
    pub log_syncs: u64,
    /// Nanoseconds spent in that.
    pub log_sync_ns: u64,
    /// Entries written to the log.
    pub log_entries: u64,
    /// Bytes free on the disk.
    pub free_bytes: u64,
    /// Whether that is so little that only cancels are taken.
    pub is_space_low: bool,
    /// Commands waiting in the sequencer's queue.
    pub queued_commands: u64,
    /// Bytes written for them.
    pub log_bytes: u64,
    /// How often damage was found in the log that is only kept to look back on.
    pub log_damaged: u64,
    /// Snapshots written since the start.
    pub snapshots: u64,
    /// The last sequence that history holds.
    pub history_watermark: u64,
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

/// A running node. It runs until [`Node::stop`]; dropping the handle does not end it.
pub struct Node {
    raft: Raft<TypeConfig, StateMachine>,
    sequencer: Sequencer,
    door: Arc<Door>,
    history: HistoryWriter,
    log: LogStore,
    jobs: Sender<Job>,
    failure: Failure,
    recovered: watch::Receiver<Option<Recovery>>,
    applied: Arc<AtomicU64>,
    log_counters: Arc<LogCounters>,
    snapshots: Arc<SnapshotProgress>,
    stop_sequencer: oneshot::Sender<()>,
    sequencing: tokio::task::JoinHandle<()>,
    leading: tokio::task::JoinHandle<()>,
    space: Space,
    watching_space: tokio::task::JoinHandle<()>,
    threads: Vec<JoinHandle<()>>,
    database: Arc<DB>,
}

impl Node {
    /// Opens the data directory, checks all that is in it, and starts. The receiver gets the restored state first and
    /// then everything that is applied; it must be drained from now on, or the node stands still.
    pub async fn start(config: NodeConfig) -> Result<(Node, Receiver<Published>), StartError> {
        let failure = Failure::new();
        let opened = {
            let (config, failure) = (config.clone(), failure.clone());
            let open = tokio::task::spawn_blocking(move || Opened::open(&config, &failure));
            open.await.map_err(|error| StartError::Failed(error.to_string()))??
        };
        let Opened { database, boot, log, compensations, history, engine, meta, snapshots, recovery, mut threads } =
            opened;

        // 1. The engine thread, which publishes the state it starts from.
        let (published, receiver) = crossbeam_channel::bounded(config.published_capacity.max(1));
        let waiting = Arc::new(Waiting::default());
        let next_deadline = Arc::new(NextDeadline::none());
        let restored = engine.sequence();
        let applied = Arc::new(AtomicU64::new(restored.0));
        let engine_thread = EngineThread {
            engine,
            meta: meta.clone(),
            node: NODE_ID,
            boot,
            waiting: waiting.clone(),
            history: history.clone(),
            published,
            next_deadline: next_deadline.clone(),
            applied: applied.clone(),
            deciding: Arc::default(),
            compensations: compensations.clone(),
            drill_poison: config.drill_poison,
            failure: failure.clone(),
        };
        let (jobs, thread) = engine_thread.start();
        threads.push(thread);

        // 2. Raft, which hands the engine what the log holds beyond that state.
        let progress = Arc::new(SnapshotProgress::from(restored));
        let keeping = SnapshotKeeping {
            snapshots,
            log: log.clone(),
            log_bytes_kept: config.log_bytes_kept,
            kept_free: config.space.low_bytes,
            compensations: compensations.clone(),
            history: history.clone(),
            progress: progress.clone(),
        };
        let state_machine = StateMachine::new(jobs.clone(), meta, keeping);
        let raft_config = Arc::new(raft_config(&config)?);
        let raft = match Raft::new(NODE_ID, raft_config, Network, log.clone(), state_machine).await {
            Ok(raft) => raft,
            Err(error) => {
                // Nothing of it may be left, or the directory stays taken for as long as this process lives.
                let _ = hand_over(&jobs, Job::Stop).await;
                let _ = tokio::task::spawn_blocking(move || end_threads(threads, &history, &log)).await;
                close(database).await;
                return Err(failed(error));
            }
        };

        // 3. The sequencer, whose door opens once this node leads and has applied its whole log.
        let space = Space::default();
        let watching_space = tokio::spawn(space.clone().watch(config.data.clone(), config.space));
        let door = Arc::new(Door::shut());
        let (stop_sequencer, stop) = oneshot::channel();
        let task = SequencerTask {
            raft: raft.clone(),
            node: NODE_ID,
            boot,
            door: door.clone(),
            waiting,
            next_deadline,
            entry_commands_max: config.entry_commands_max.max(1),
            entries_in_flight: config.entries_in_flight.max(1),
        };
        let (sequencer, sequencing) = task.start(config.queue_commands.max(1), space.clone(), stop);
        let (announce, recovered) = watch::channel(None);
        let leadership = Leadership {
            raft: raft.clone(),
            door: door.clone(),
            jobs: jobs.clone(),
            applied: applied.clone(),
            snapshots: progress.clone(),
            snapshot_every_commands: config.snapshot_every_commands.max(1),
            announce,
            recovery,
            failure: failure.clone(),
        };
        let leading = tokio::spawn(leadership.run());

        let log_counters = log.counters();
        let node = Node {
            raft,
            sequencer,
            door,
            history,
            log,
            jobs,
            failure,
            recovered,
            applied,
            log_counters,
            snapshots: progress,
            stop_sequencer,
            sequencing,
            leading,
            space,
            watching_space,
            threads,
            database,
        };
        Ok((node, receiver))
    }

    /// Resolves when this node leads and everything in its log is applied and published.
    pub async fn recovered(&self) -> Result<Recovery, StartError> {
        let mut recovered = self.recovered.clone();
        tokio::select! {
            found = recovered.wait_for(Option::is_some) => match found {
                Ok(recovery) => Ok(recovery.expect("waited for it")),
                Err(_) => Err(StartError::Failed(self.failed().await)),
            },
            reason = self.failure.wait() => Err(StartError::Failed(reason)),
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
            queued_commands: self.sequencer.queued() as u64,
            snapshots: read(&self.snapshots.written),
            history_watermark: self.history.reader().watermark().0,
        }
    }

    /// A copy of the engine as it stands behind all that is applied so far; none when the node has ended.
    pub async fn engine(&self) -> Option<Engine> {
        let (reply, copy) = oneshot::channel();
        hand_over(&self.jobs, Job::Copy(reply)).await.ok()?;
        copy.await.ok().map(|(state, _)| Engine::from_snapshot(state))
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

    /// Refuses new commands, lets what is in flight finish, flushes and closes everything.
    pub async fn stop(self) {
        // In the order of an order's road, so that each stage drains into the next.
        self.door.stop();
        let _ = self.stop_sequencer.send(());
        let _ = self.sequencing.await;
        self.watching_space.abort();
        self.leading.abort();
        let _ = self.leading.await;
        self.snapshots.stopping.store(true, Ordering::Relaxed);
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!("raft did not stop in order: {error}");
        }
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
        let _ = tokio::task::spawn_blocking(flush).await;
        drop(self.raft);
        close(self.database).await;
    }
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
struct Opened {
    database: Arc<DB>,
    boot: u64,
    log: LogStore,
    compensations: Arc<Compensations>,
    history: HistoryWriter,
    engine: Engine,
    meta: SnapshotMeta,
    snapshots: SnapshotDirectory,
    recovery: Recovery,
    threads: Vec<JoinHandle<()>>,
}

impl Opened {
    /// Opens and checks everything on disk that the node will stand on: the newest snapshot, and the log behind it.
    fn open(config: &NodeConfig, failure: &Failure) -> Result<Opened, StartError> {
        let data = &config.data;
        std::fs::create_dir_all(data).map_err(|error| StartError::disk(data, error))?;
        let room = make_room(data, config.space);
        room.map_err(|error| StartError::disk(data, error))?;
        identity::check(data)?;
        let mut watch = Stopwatch::start();
        let database = open_database(data)?;
        upgrade(data, &database)?;
        let opening = watch.lap();
        let snapshots = SnapshotDirectory::open(data)?;
        let purged = log_start(&*database)?.log_id.map(|log_id| log_id.index);
        let (engine, meta) = match snapshots.load_newest(purged, history::watermark(&database)?)? {
            Some(found) => (Engine::from_snapshot(found.state), found.meta),
            None => (Engine::new(), SnapshotMeta::default()),
        };
        let loading = watch.lap();
        let snapshot = meta.last_log_id.map(|log_id| log_id.index);
        let (log, compensations, log_thread) = LogStore::open(database.clone(), data, snapshot, failure)?;
        let checking = watch.lap();
        let (snapshot, replaying) = (engine.sequence(), Duration::ZERO);
        let recovery = Recovery { snapshot, reached: snapshot, opening, loading, checking, replaying };
        let boot = count_boot(&database)?;
        let (history, history_thread) = HistoryWriter::start(database.clone(), config.history_days, failure)?;
        let threads = vec![log_thread, history_thread];
        let compensations = Arc::new(compensations);
        Ok(Opened { database, boot, log, compensations, history, engine, meta, snapshots, recovery, threads })
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

fn raft_config(config: &NodeConfig) -> Result<Config, StartError> {
    let config = Config {
        cluster_name: "rialto".into(),
        // A cluster of one has nobody to send a heartbeat to, and elects itself below.
        enable_heartbeat: false,
        enable_elect: false,
        // After a restart a new term begins, whose first entry commits the log again.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_every_entries.max(1)),
        // The log is kept for the oldest snapshot too, so `Leadership` purges it.
        max_in_snapshot_log_to_keep: u64::MAX,
        ..Config::default()
    };
    config.validate().map_err(failed)
}

/// The task that opens and shuts the door as this node comes to lead and ceases to.
struct Leadership {
    raft: Raft<TypeConfig, StateMachine>,
    door: Arc<Door>,
    jobs: Sender<Job>,
    applied: Arc<AtomicU64>,
    snapshots: Arc<SnapshotProgress>,
    snapshot_every_commands: u64,
    announce: watch::Sender<Option<Recovery>>,
    /// What is known of the recovery before the log is applied.
    recovery: Recovery,
    failure: Failure,
}

impl Leadership {
    async fn run(self) {
        let started = Instant::now();
        match self.lead().await {
            Ok((reached, time)) => {
                self.door.open(time);
                let replaying = started.elapsed();
                self.announce.send_replace(Some(Recovery { reached, replaying, ..self.recovery }));
                self.watch().await;
            }
            Err(reason) => self.failure.report(reason),
        }
        self.door.stop();
    }

    /// Becomes the leader and applies the whole log; what the engine has reached then.
    async fn lead(&self) -> Result<(Sequence, Time), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        if self.raft.is_initialized().await.map_err(|error| text(&error))? {
            self.raft.trigger().elect(false).await.map_err(|error| text(&error))?;
        } else {
            let members = BTreeMap::from([(NODE_ID, BasicNode::default())]);
            self.raft.initialize(members).await.map_err(|error| text(&error))?;
        }
        let leader = self.raft.wait(None).state(ServerState::Leader, "lead a cluster of one").await;
        leader.map_err(|error| text(&error))?;
        // Once this entry is applied, so are all before it.
        self.raft.write_blank().await.map_err(|error| text(&error))?;
        let (reply, reached) = oneshot::channel();
        let told = hand_over(&self.jobs, Job::Tell(reply)).await;
        told.map_err(|_| "the engine thread has ended".to_string())?;
        reached.await.map_err(|_| "the engine thread has ended".to_string())
    }

    /// Follows raft until it cannot go on; the log is purged as snapshots make it unneeded.
    async fn watch(&self) {
        let mut log_needed_after = self.snapshots.log_needed_after.subscribe();
        // Raft's metrics change with every entry; looking now and then costs nothing.
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        // The command at which a snapshot was last asked for.
        let mut asked_at = 0;
        loop {
            tokio::select! {
                _ = look.tick() => {
                    self.look();
                    let applied = self.applied.load(Ordering::Relaxed);
                    let last = asked_at.max(self.snapshots.sequence.load(Ordering::Relaxed));
                    if applied.saturating_sub(last) >= self.snapshot_every_commands {
                        asked_at = applied;
                        // An error is raft's end, which `look` finds.
                        let _ = self.raft.trigger().snapshot().await;
                    }
                }
                _ = log_needed_after.changed() => {
                    let upto = *log_needed_after.borrow_and_update();
                    if let Some(upto) = upto {
                        // An error is raft's end, which `look` finds.
                        let _ = self.raft.trigger().purge_log(upto).await;
                    }
                }
                _ = self.failure.wait() => return,
            }
        }
    }

    fn look(&self) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if let Err(fatal) = &metrics.running_state {
            self.failure.report(format!("raft cannot go on: {fatal}"));
        }
        if metrics.state != ServerState::Leader {
            self.door.close();
        }
    }
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
        _receiver: Receiver<Published>,
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
            let opened = Opened::open(&NodeConfig::new(folder.path()), &failure).unwrap();
            let (published, receiver) = crossbeam_channel::unbounded();
            let engine_thread = EngineThread {
                engine: opened.engine,
                meta: opened.meta.clone(),
                node: NODE_ID,
                boot: opened.boot,
                waiting: Arc::default(),
                history: opened.history.clone(),
                published,
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
            let state_machine = StateMachine::new(jobs, opened.meta, keeping);
            Ok((Guard { threads, _receiver: receiver, _folder: folder }, opened.log, state_machine))
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn log_store_and_state_machine_pass_the_suite_of_openraft() {
        Suite::test_all(Builder).await.unwrap();
    }
}
