//! The only owner of `Engine`: applies committed entries in log order, builds and installs snapshots.
//!
//! The engine lives on a thread of its own, where no other task runs. Raft hands it the committed entries over a bounded
//! queue; it sends what they did to history and to the feed over two more. When the feed is slow, the engine waits, then
//! raft, then the sequencer, and the door refuses: nothing grows.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use engine::{Command, Engine, Event, Rejection, Sequence, Snapshot, Time};
use futures_util::{Stream, TryStreamExt};
use openraft::alias::SnapshotOf;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::failure::Failure;
use crate::history::HistoryWriter;
use crate::log_store::hand_over;
use crate::record::{Applied, Caller, LogId, Origin, Proposal, Published, Restored, StoredMembership, TypeConfig};
use crate::snapshot_file::{self, SnapshotDirectory, SnapshotMeta};

/// Entries that may wait for the engine; when it is full, raft waits.
const JOBS_MAX: usize = 64;

/// Who on this node waits for which command of an entry.
pub(crate) type Callers = Vec<(usize, Caller)>;

/// The callers of the entries that this node proposed and that are not applied yet. It holds no more entries than the
/// sequencer lets be in flight.
#[derive(Default)]
pub(crate) struct Waiting {
    by_ticket: Mutex<HashMap<u64, Callers>>,
}

impl Waiting {
    pub(crate) fn put(&self, ticket: u64, callers: Callers) {
        self.by_ticket.lock().insert(ticket, callers);
    }

    /// Takes them; dropped, they learn that nobody knows what became of their commands.
    pub(crate) fn take(&self, ticket: u64) -> Callers {
        self.by_ticket.lock().remove(&ticket).unwrap_or_default()
    }
}

/// When the engine next has something to do by itself; for the sequencer to see.
pub(crate) struct NextDeadline(AtomicU64);

impl NextDeadline {
    /// Nothing to do.
    pub(crate) fn none() -> NextDeadline {
        NextDeadline(AtomicU64::new(u64::MAX))
    }

    fn set(&self, deadline: Option<Time>) {
        self.0.store(deadline.map_or(u64::MAX, |time| time.0), Ordering::Relaxed);
    }

    /// Whether there is something to do at `now`.
    pub(crate) fn has_come(&self, now: Time) -> bool {
        self.0.load(Ordering::Relaxed) <= now.0
    }
}

/// What would become of these commands on an empty exchange: the first that would be refused, and why. Nothing is kept.
pub fn rehearse<'a>(commands: impl IntoIterator<Item = &'a Command>) -> Result<(), (usize, Rejection)> {
    let (mut engine, mut events) = (Engine::new(), Vec::new());
    for (index, command) in commands.into_iter().enumerate() {
        events.clear();
        engine.apply(Time(0), command, &mut events);
        if let Some(Event::Rejected(rejection)) = events.first() {
            return Err((index, *rejection));
        }
    }
    Ok(())
}

/// What the engine thread is told.
pub(crate) enum Job {
    /// Apply an entry.
    Apply { proposal: Proposal, responder: Option<ApplyResponder<TypeConfig>> },
    /// Copy the engine: at the speed of memory, so that commands wait no longer than that. What is made of the copy is made
    /// elsewhere.
    Copy(oneshot::Sender<Box<Engine>>),
    /// Become this state.
    Install(Arc<Snapshot>, oneshot::Sender<()>),
    /// Say how far it is.
    Tell(oneshot::Sender<(Sequence, Time)>),
    /// End.
    Stop,
}

/// The engine and its two exits.
pub(crate) struct EngineThread {
    pub engine: Engine,
    /// This node and this start of it: its own entries carry them.
    pub node: u64,
    pub boot: u64,
    pub waiting: Arc<Waiting>,
    pub history: HistoryWriter,
    pub published: Sender<Published>,
    /// When the engine next has something to do by itself, for the sequencer to see.
    pub next_deadline: Arc<NextDeadline>,
    /// The last sequence applied, for all to see.
    pub applied: Arc<AtomicU64>,
    pub failure: Failure,
}

impl EngineThread {
    /// Publishes the state as it is, then runs until it is stopped.
    pub(crate) fn start(self) -> (Sender<Job>, JoinHandle<()>) {
        let (jobs, queue) = crossbeam_channel::bounded(JOBS_MAX);
        let failure = self.failure.clone();
        let thread = failure.spawn("engine", move || self.run(&queue));
        (jobs, thread)
    }

    fn run(mut self, queue: &Receiver<Job>) {
        let state = Arc::new(self.engine.snapshot());
        let mut open = self.restored(state);
        while open {
            let Ok(job) = queue.recv() else { break };
            open = match job {
                Job::Apply { proposal, responder } => self.apply(proposal, responder),
                Job::Copy(reply) => {
                    let _ = reply.send(Box::new(self.engine.clone()));
                    true
                }
                Job::Install(state, done) => {
                    self.engine = Engine::from_snapshot(&state);
                    let open = self.restored(state);
                    let _ = done.send(());
                    open
                }
                Job::Tell(reply) => {
                    let _ = reply.send((self.engine.sequence(), self.engine.time()));
                    true
                }
                Job::Stop => false,
            };
        }
    }

    /// False when there is nobody left to publish to.
    fn restored(&mut self, state: Arc<Snapshot>) -> bool {
        self.applied.store(state.sequence.0, Ordering::Release);
        self.next_deadline.set(self.engine.next_deadline());
        let kept = self.history.restored(state.clone());
        kept && self.publish(Published::Restored(Restored { snapshot: state }))
    }

    fn apply(&mut self, proposal: Proposal, responder: Option<ApplyResponder<TypeConfig>>) -> bool {
        let applied = Arc::new(self.decide(&proposal));
        let callers = self.callers_of(&proposal.origin);
        self.next_deadline.set(self.engine.next_deadline());
        self.applied.store(applied.last_sequence().0, Ordering::Release);
        let open = self.history.applied(applied.clone()) && self.publish(Published::Applied { applied, callers });
        if let Some(responder) = responder {
            responder.send(());
        }
        open
    }

    fn decide(&mut self, proposal: &Proposal) -> Applied {
        let entry = &proposal.entry;
        let first_sequence = Sequence(self.engine.sequence().0 + 1);
        let mut events = Vec::with_capacity(4 * entry.commands.len());
        let mut ends = Vec::with_capacity(entry.commands.len());
        for (at, command) in entry.commands.iter().enumerate() {
            self.engine.foresee(&entry.commands[at..]);
            self.engine.apply(entry.time, command, &mut events);
            ends.push(u32::try_from(events.len()).expect("an entry has fewer than 2^32 events"));
        }
        Applied { first_sequence, time: entry.time, events, ends }
    }

    fn callers_of(&self, origin: &Origin) -> Callers {
        let own = origin.node == self.node && origin.boot == self.boot;
        if own { self.waiting.take(origin.ticket) } else { Callers::new() }
    }

    fn publish(&self, published: Published) -> bool {
        let sent = self.published.send(published).is_ok();
        if !sent {
            self.failure.report("the feed has ended");
        }
        sent
    }
}

/// The engine thread as raft sees it.
pub(crate) struct StateMachine {
    jobs: Sender<Job>,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    snapshots: SnapshotDirectory,
    history: HistoryWriter,
    progress: Arc<SnapshotProgress>,
}

/// What became of snapshots since the start.
pub(crate) struct SnapshotProgress {
    /// How many were written.
    pub written: AtomicU64,
    /// The log is needed only behind this index.
    pub log_needed_after: watch::Sender<Option<u64>>,
}

impl StateMachine {
    /// Over an engine that is at `meta`.
    pub(crate) fn new(
        jobs: Sender<Job>,
        meta: SnapshotMeta,
        snapshots: SnapshotDirectory,
        history: HistoryWriter,
    ) -> StateMachine {
        let progress = SnapshotProgress { written: AtomicU64::new(0), log_needed_after: watch::Sender::new(None) };
        StateMachine {
            jobs,
            last_applied: meta.last_log_id,
            membership: meta.last_membership,
            snapshots,
            history,
            progress: Arc::new(progress),
        }
    }

    pub(crate) fn progress(&self) -> Arc<SnapshotProgress> {
        self.progress.clone()
    }

    async fn tell(&self, job: Job) -> io::Result<()> {
        hand_over(&self.jobs, job).await.map_err(|_| engine_ended())
    }
}

fn engine_ended() -> io::Error {
    io::Error::other("the engine thread has ended")
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = File;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.last_applied, self.membership.clone()))
    }

    /// Hands the entries to the engine thread, which answers for them when they are done.
    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            if self.last_applied.is_some_and(|last| entry.log_id <= last) {
                // It is in the snapshot that the engine started from.
                continue;
            }
            self.last_applied = Some(entry.log_id);
            let respond = match entry.payload {
                EntryPayload::Normal(proposal) => {
                    self.tell(Job::Apply { proposal, responder }).await?;
                    None
                }
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    responder
                }
                EntryPayload::Blank => responder,
            };
            if let Some(responder) = respond {
                responder.send(());
            }
        }
        Ok(())
    }

    /// Asks for the copy here, in log order, so that it is the state of exactly the entries before.
    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let (reply, state) = oneshot::channel();
        // When the engine has ended, the builder finds no state and says so.
        let _ = self.tell(Job::Copy(reply)).await;
        let meta = SnapshotMeta { last_log_id: self.last_applied, last_membership: self.membership.clone() };
        let state = Some(state);
        SnapshotBuilder {
            meta,
            state,
            snapshots: self.snapshots.clone(),
            history: self.history.clone(),
            progress: self.progress.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, mut snapshot: File) -> Result<(), io::Error> {
        let snapshots = self.snapshots.clone();
        let store = move || -> io::Result<_> {
            let found = snapshot_file::read(&mut snapshot)?;
            snapshots.write(&found.meta, &found.state)?;
            Ok(found.state)
        };
        let state = tokio::task::spawn_blocking(store).await.map_err(io::Error::other)??;
        let (done, installed) = oneshot::channel();
        self.tell(Job::Install(Arc::new(state), done)).await?;
        installed.await.map_err(|_| engine_ended())?;
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, File>>, io::Error> {
        let newest = self.snapshots.newest()?;
        Ok(newest.map(|(meta, snapshot)| SnapshotOf::<TypeConfig, File> { meta, snapshot }))
    }
}

/// Writes one snapshot, while the engine goes on.
pub(crate) struct SnapshotBuilder {
    meta: SnapshotMeta,
    /// The state to come; taken by the one build.
    state: Option<oneshot::Receiver<Box<Engine>>>,
    snapshots: SnapshotDirectory,
    history: HistoryWriter,
    progress: Arc<SnapshotProgress>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = File;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, File>, io::Error> {
        let copy = self.state.take().ok_or_else(|| io::Error::other("a builder builds once"))?;
        let engine = copy.await.map_err(|_| engine_ended())?;
        // The log before a snapshot may go. What history did not keep yet could then never be written again.
        self.history.wait_for(engine.sequence()).await;
        let (meta, snapshots, history) = (self.meta.clone(), self.snapshots.clone(), self.history.clone());
        let write = move || -> io::Result<_> {
            history.flush()?;
            snapshots.write(&meta, &engine.snapshot())?;
            let newest = snapshots.newest()?.ok_or_else(|| io::Error::other("the snapshot just written is gone"))?;
            Ok((newest, snapshots.oldest_kept()?))
        };
        let ((meta, snapshot), oldest_kept) = tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??;
        self.progress.written.fetch_add(1, Ordering::Relaxed);
        self.progress.log_needed_after.send_replace(oldest_kept);
        Ok(SnapshotOf::<TypeConfig, File> { meta, snapshot })
    }
}
