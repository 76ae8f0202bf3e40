//! The only owner of the `Engine` that decides: a thread of its own, where no other task runs.
//!
//! Raft hands it the committed entries over a bounded queue (state_machine.rs); it sends what they did to history and to the
//! feed over two more. When the feed is slow, the engine waits, then raft, then the sequencer, and the door refuses: nothing
//! grows.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use engine::{Command, Engine, Event, Rejection, Sequence, Snapshot, Time};
use openraft::storage::ApplyResponder;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::compensation::Compensations;
use crate::failure::Failure;
use crate::history::HistoryWriter;
use crate::record::{Applied, Caller, Entry, LogId, Origin, Published, Restored, StoredMembership, TypeConfig};
use crate::snapshot_file::SnapshotMeta;

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
    Apply { log_id: LogId, origin: Origin, entry: Arc<Entry>, responder: Option<ApplyResponder<TypeConfig>> },
    /// There was an entry without commands; the membership, if it changed that.
    Pass { log_id: LogId, membership: Option<StoredMembership>, responder: Option<ApplyResponder<TypeConfig>> },
    /// Copy the state, and say where in the log it is: for a snapshot when the disk cannot give one any more.
    Copy(oneshot::Sender<(Snapshot, SnapshotMeta)>),
    /// Become this state.
    Install(SnapshotMeta, Snapshot, oneshot::Sender<()>),
    /// Say how far it is.
    Tell(oneshot::Sender<(Sequence, Time)>),
    /// End.
    Stop,
}

/// The engine and its two exits.
pub(crate) struct EngineThread {
    pub engine: Engine,
    /// Where in the log it is.
    pub meta: SnapshotMeta,
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
    /// The command under way: where the engine stopped, should it panic.
    pub deciding: Arc<AtomicU64>,
    /// The commands that an operator ruled are passed over.
    pub compensations: Arc<Compensations>,
    /// See [`NodeConfig::drill_poison`](crate::NodeConfig::drill_poison).
    pub drill_poison: Option<Sequence>,
    pub failure: Failure,
}

impl EngineThread {
    /// Publishes the state as it is, then runs until it is stopped.
    pub(crate) fn start(self) -> (Sender<Job>, JoinHandle<()>) {
        let (jobs, queue) = crossbeam_channel::bounded(JOBS_MAX);
        let (failure, deciding) = (self.failure.clone(), self.deciding.clone());
        let describe = move || {
            format!(
                "the engine panicked at the command with sequence {0}, and will again after every start. It is not lost. Send \
                 the log to the makers; to go on without that command: rialto journal compensate --sequence {0}",
                deciding.load(Ordering::Relaxed)
            )
        };
        let thread = failure.spawn_described("engine", describe, move || self.run(&queue));
        (jobs, thread)
    }

    fn run(mut self, queue: &Receiver<Job>) {
        let mut open = self.restored();
        while open {
            let Ok(job) = queue.recv() else { break };
            open = match job {
                Job::Apply { log_id, origin, entry, responder } => {
                    self.meta.last_log_id = Some(log_id);
                    self.apply(origin, &entry, responder)
                }
                Job::Pass { log_id, membership, responder } => {
                    self.meta.last_log_id = Some(log_id);
                    self.meta.last_membership = membership.unwrap_or_else(|| self.meta.last_membership.clone());
                    if let Some(responder) = responder {
                        responder.send(());
                    }
                    true
                }
                Job::Copy(reply) => {
                    let _ = reply.send((self.engine.snapshot(), self.meta.clone()));
                    true
                }
                Job::Install(meta, state, done) => {
                    self.meta = meta;
                    self.engine = Engine::from_snapshot(state);
                    let open = self.restored();
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

    /// Tells all readers the state as it is. False when there is nobody left to publish to.
    fn restored(&mut self) -> bool {
        let state = Arc::new(self.engine.snapshot());
        self.applied.store(state.sequence().0, Ordering::Release);
        self.next_deadline.set(self.engine.next_deadline());
        let kept = self.history.restored(state.clone());
        kept && self.publish(Published::Restored(Restored { snapshot: state }))
    }

    fn apply(&mut self, origin: Origin, entry: &Entry, responder: Option<ApplyResponder<TypeConfig>>) -> bool {
        let applied = Arc::new(self.decide(entry));
        let callers = self.callers_of(&origin);
        self.next_deadline.set(self.engine.next_deadline());
        self.applied.store(applied.last_sequence().0, Ordering::Release);
        let open = self.history.applied(applied.clone()) && self.publish(Published::Applied { applied, callers });
        if let Some(responder) = responder {
            responder.send(());
        }
        open
    }

    fn decide(&mut self, entry: &Entry) -> Applied {
        let first_sequence = Sequence(self.engine.sequence().0 + 1);
        let mut events = Vec::with_capacity(4 * entry.commands.len());
        let mut ends = Vec::with_capacity(entry.commands.len());
        for (at, command) in entry.commands.iter().enumerate() {
            let sequence = first_sequence.0 + at as u64;
            self.engine.foresee(&entry.commands[at..]);
            self.deciding.store(sequence, Ordering::Relaxed);
            assert!(!self.is_drill(Sequence(sequence)), "a drill: this command stops the engine");
            self.compensations.apply(&mut self.engine, entry.time, command, &mut events);
            ends.push(u32::try_from(events.len()).expect("an entry has fewer than 2^32 events"));
        }
        Applied { first_sequence, time: entry.time, events, ends }
    }

    fn is_drill(&self, sequence: Sequence) -> bool {
        self.drill_poison == Some(sequence) && !self.compensations.contains(sequence)
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
