//! The only owner of the `Engine` that decides: a thread of its own, where no other task runs.
//!
//! Raft hands it the committed entries over a bounded queue (state_machine.rs); it sends what they did to history and to the
//! feed over two more. When the feed is slow, the engine waits, then raft, then the sequencer, and the door refuses: nothing
//! grows.
//!
//! Where little goes on, that thread sleeps on: an entry of a few commands is decided by who hands it over, and what it did is
//! published by the same thread (queue.rs), so that no order waits for threads to wake up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use engine::command::Placing;
use engine::{Command, Engine, Event, Rejection, Sequence, Snapshot, Time};
use openraft::storage::ApplyResponder;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::compensation::Compensations;
use crate::failure::Failure;
use crate::history_writer::HistoryWriter;
use crate::origins::{Origins, is_gateway};
use crate::queue::{self, Consumer, Receiver, Sender};
use crate::record::{Applied, Caller, Entry, LogId, Origin, Published, Restored, StoredMembership, TypeConfig};
use crate::runtime;
use crate::snapshot_file::{FoundSnapshot, SnapshotMeta};
use crate::state_hash::StateHash;
use crate::timings::{Road, Timings};

/// Entries that may wait for the engine; when it is full, raft waits.
pub(crate) const JOBS_MAX: usize = 64;

/// Commands of an entry that is done at once by who hands it over, at the most.
pub const FEW_COMMANDS: usize = 4;
/// Where other nodes wait for signs of life, what is done at once may not meet more orders than are gone through in milliseconds.
const MET_MAX: usize = 100_000;

/// Who on this node waits for which command of an entry.
pub(crate) type Callers = Vec<(usize, Caller)>;

/// An entry of this node's own.
struct Own {
    callers: Callers,
    /// When it was laid.
    at: Instant,
}

/// The callers of this node's own entries that are not applied yet. It holds no more entries than the sequencer lets be in
/// flight.
#[derive(Default)]
pub(crate) struct Waiting {
    by_ticket: Mutex<BTreeMap<u64, Own>>,
    /// The last of this node's tickets that was applied.
    applied: AtomicU64,
    /// Told whenever that grows.
    progress: Notify,
}

impl Waiting {
    pub(crate) fn put(&self, ticket: u64, callers: Callers) {
        self.by_ticket.lock().insert(ticket, Own { callers, at: Instant::now() });
    }

    /// Takes them, and when their entry was laid; dropped, they learn that nobody knows what became of their commands.
    pub(crate) fn take(&self, ticket: u64) -> (Callers, Option<Instant>) {
        self.by_ticket.lock().remove(&ticket).map_or_else(Default::default, |own| (own.callers, Some(own.at)))
    }

    /// Takes all of them; tickets are counted from one again.
    pub(crate) fn begin_anew(&self) -> BTreeMap<u64, Callers> {
        self.applied.store(0, Ordering::Release);
        let taken = std::mem::take(&mut *self.by_ticket.lock());
        taken.into_iter().map(|(ticket, own)| (ticket, own.callers)).collect()
    }

    /// Drops all of them.
    pub(crate) fn give_up(&self) {
        self.by_ticket.lock().clear();
    }

    /// The tickets up to this one are applied.
    fn applied(&self, ticket: u64) {
        self.applied.fetch_max(ticket, Ordering::AcqRel);
        self.progress.notify_one();
    }

    /// The last ticket that was applied.
    pub(crate) fn last_applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// Resolves when more was applied since it was last looked at.
    pub(crate) async fn progress(&self) {
        self.progress.notified().await;
    }
}

/// The log entry that comes behind a state.
pub(crate) fn next_index(meta: &SnapshotMeta) -> u64 {
    meta.last_log_id.map_or(0, |log_id| log_id.index + 1)
}

/// Which start of this node it is, zero until that is known; its own entries carry it.
pub(crate) type Boot = Arc<AtomicU64>;

/// Which start of a gateway will have no further entry counted (origins.rs), as its engine finds out.
#[derive(Default)]
pub(crate) struct Lost {
    /// Zero while there is none.
    pub boot: AtomicU64,
    /// Whether it is not known which of its entries counted, because a state came that says no more.
    pub is_unknown: AtomicBool,
}

/// How far the engine is.
pub(crate) struct Reached {
    pub sequence: Sequence,
    pub time: Time,
    /// Whose entries those were.
    pub origins: Origins,
}

/// When the engine next has something to do by itself, and its time; for the sequencer to see.
pub(crate) struct NextDeadline {
    deadline: AtomicU64,
    time: AtomicU64,
}

impl NextDeadline {
    /// Nothing to do.
    pub(crate) fn none() -> NextDeadline {
        NextDeadline { deadline: AtomicU64::new(u64::MAX), time: AtomicU64::new(0) }
    }

    fn set(&self, engine: &Engine) {
        self.deadline.store(engine.next_deadline().map_or(u64::MAX, |time| time.0), Ordering::Relaxed);
        self.time.store(engine.time().0, Ordering::Relaxed);
    }

    /// Whether there is something to do at `now`.
    pub(crate) fn has_come(&self, now: Time) -> bool {
        self.deadline.load(Ordering::Relaxed) <= now.0
    }

    /// Whether the engine was last told the time more than so many microseconds before `now`; before its first command it is
    /// never late.
    pub(crate) fn is_late(&self, now: Time, microseconds: u64) -> bool {
        let time = self.time.load(Ordering::Relaxed);
        time > 0 && now.0.saturating_sub(time) > microseconds
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
    Copy(oneshot::Sender<(Snapshot, SnapshotMeta, Origins)>),
    /// Become this state.
    Install(FoundSnapshot, oneshot::Sender<()>),
    /// Pass over these commands.
    Heed(Arc<Compensations>),
    /// Say how far it is.
    Tell(oneshot::Sender<Reached>),
    /// End.
    Stop,
}

/// The engine and its two exits.
pub(crate) struct EngineThread {
    pub engine: Engine,
    /// Where in the log it is.
    pub meta: SnapshotMeta,
    /// Whose entries it has applied.
    pub origins: Origins,
    /// What they did, for the other nodes to compare with; none where there are no others.
    pub hash: Option<Arc<Mutex<StateHash>>>,
    /// This node and this start of it: its own entries carry them.
    pub node: u64,
    pub boot: Boot,
    pub waiting: Arc<Waiting>,
    /// Where a gateway learns that it has to begin anew.
    pub lost: Option<Arc<Lost>>,
    pub timings: Arc<Timings>,
    /// None where other nodes keep it.
    pub history: Option<HistoryWriter>,
    pub published: Sender<Published>,
    /// Entries that were sent there, for all to see.
    pub entries_published: Arc<AtomicU64>,
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

impl Consumer<Job> for EngineThread {
    fn consume(&mut self, job: Job) -> bool {
        match job {
            Job::Apply { log_id, origin, entry, responder } => {
                self.meta.last_log_id = Some(log_id);
                self.apply(log_id.index, origin, &entry, responder)
            }
            Job::Pass { log_id, membership, responder } => {
                self.meta.last_log_id = Some(log_id);
                self.meta.last_membership = membership.unwrap_or_else(|| self.meta.last_membership.clone());
                self.pass(log_id.index);
                if let Some(responder) = responder {
                    responder.send(());
                }
                true
            }
            Job::Copy(reply) => {
                let _ = reply.send((self.engine.snapshot(), self.meta.clone(), self.origins.clone()));
                true
            }
            Job::Install(found, done) => {
                self.meta = found.meta;
                self.origins = found.origins;
                self.engine = Engine::from_snapshot(found.state);
                if let Some(hash) = &self.hash {
                    *hash.lock() = StateHash::starting_at(next_index(&self.meta));
                }
                self.forget_own();
                self.look_for_loss(true);
                let open = self.restored();
                let _ = done.send(());
                open
            }
            Job::Heed(compensations) => {
                self.compensations = compensations;
                true
            }
            Job::Tell(reply) => {
                let (sequence, time) = (self.engine.sequence(), self.engine.time());
                let _ = reply.send(Reached { sequence, time, origins: self.origins.clone() });
                true
            }
            Job::Stop => false,
        }
    }

    fn is_quick(&self, job: &Job) -> bool {
        let Job::Apply { entry, .. } = job else { return false };
        let has_room = self.history.as_ref().is_none_or(HistoryWriter::keeps_up) && self.published.len() == 0;
        let has_others = self.hash.is_some();
        has_room
            && entry.commands.len() <= FEW_COMMANDS
            && (!has_others || entry.commands.iter().all(|command| self.meets_few(command)))
    }
}

impl EngineThread {
    /// Where its jobs wait.
    pub(crate) fn queue() -> (Sender<Job>, Receiver<Job>) {
        queue::bounded(JOBS_MAX)
    }

    /// Publishes the state as it is, then runs until it is stopped.
    pub(crate) fn start(mut self) -> (Sender<Job>, JoinHandle<()>) {
        let (jobs, queue) = EngineThread::queue();
        let (failure, deciding) = (self.failure.clone(), self.deciding.clone());
        let describe = move || {
            format!(
                "the engine panicked at the command with sequence {0}, and will again after every start. It is not lost. Send \
                 the log to the makers; to go on without that command: rialto journal compensate --sequence {0}",
                deciding.load(Ordering::Relaxed)
            )
        };
        self.restored();
        (jobs, runtime::thread(&failure, "engine", describe, queue, self))
    }

    /// Whether a command is sure not to meet many orders.
    fn meets_few(&self, command: &Command) -> bool {
        let symbol = match command {
            Command::CancelOrder(_) | Command::ReduceOrder { .. } | Command::AmendOrder(_) => return true,
            Command::PlaceOrder(place) => place.symbol,
            Command::Once(once) => match &once.placing {
                Placing::Order(place) => place.symbol,
                _ => return false,
            },
            _ => return false,
        };
        self.engine.open_orders(symbol) <= MET_MAX
    }

    /// Tells all readers the state as it is. False when there is nobody left to publish to.
    fn restored(&mut self) -> bool {
        let state = Arc::new(self.engine.snapshot());
        self.applied.store(state.sequence().0, Ordering::Release);
        self.next_deadline.set(&self.engine);
        let kept = self.history.as_ref().is_none_or(|history| history.restored(state.clone()));
        kept && self.publish(Published::Restored(Restored { snapshot: state }))
    }

    fn apply(
        &mut self,
        index: u64,
        origin: Origin,
        entry: &Entry,
        responder: Option<ApplyResponder<TypeConfig>>,
    ) -> bool {
        let reached = Instant::now();
        let boot = self.boot.load(Ordering::Acquire);
        let own = origin.node == self.node && origin.boot == boot;
        let is_admitted = self.origins.admits(&origin);
        if is_gateway(origin.node) {
            self.look_for_loss(false);
        }
        if !is_admitted || entry.commands.is_empty() {
            self.pass(index);
            if own {
                self.waiting.applied(origin.ticket.min(self.origins.last_ticket(self.node)));
            }
            if let Some(responder) = responder {
                responder.send(());
            }
            return true;
        }
        let applied = Arc::new(self.decide(entry));
        if let Some(hash) = &self.hash {
            hash.lock().update(index, &applied);
        }
        let (callers, laid) = if own { self.waiting.take(origin.ticket) } else { Default::default() };
        // What is gone through after a start says nothing of what orders wait for.
        let road = (boot > 0).then(|| self.measure(applied.len(), callers.len(), laid, reached));
        self.next_deadline.set(&self.engine);
        self.applied.store(applied.last_sequence().0, Ordering::Release);
        // History last: nobody waits for it.
        let published = self.publish(Published::Applied { applied: applied.clone(), callers, road });
        let open = published && self.history.as_ref().is_none_or(|history| history.applied(applied));
        if own {
            self.waiting.applied(origin.ticket);
        }
        if let Some(responder) = responder {
            responder.send(());
        }
        open
    }

    /// A gateway that others made forget has to begin anew.
    fn look_for_loss(&self, is_unknown: bool) {
        let Some(lost) = &self.lost else { return };
        let boot = self.boot.load(Ordering::Acquire);
        if boot > 0 && lost.boot.load(Ordering::Acquire) != boot && self.origins.is_gone(self.node, boot) {
            lost.is_unknown.store(is_unknown, Ordering::Release);
            lost.boot.store(boot, Ordering::Release);
        }
    }

    /// An entry that the engine has just decided.
    fn measure(&self, commands: usize, callers: usize, laid: Option<Instant>, reached: Instant) -> Road {
        let decided = Instant::now();
        let timings = &self.timings;
        if let Some(laid) = laid.filter(|_| callers > 0) {
            timings.replicate.record_durations(reached.saturating_duration_since(laid), callers as u64);
        }
        timings.engine.record_durations(decided - reached, commands as u64);
        timings.entry_commands.record(commands as u64);
        Road { laid, reached, decided, told: decided }
    }

    /// The entry at `index` did nothing.
    fn pass(&self, index: u64) {
        if let Some(hash) = &self.hash {
            hash.lock().pass(index);
        }
    }

    fn decide(&mut self, entry: &Entry) -> Applied {
        let first_sequence = Sequence(self.engine.sequence().0 + 1);
        let time = entry.time_after(self.engine.time());
        let mut events = Vec::with_capacity(4 * entry.commands.len());
        let mut ends = Vec::with_capacity(entry.commands.len());
        for (at, command) in entry.commands.iter().enumerate() {
            let sequence = first_sequence.0 + at as u64;
            self.engine.foresee(&entry.commands[at..]);
            self.deciding.store(sequence, Ordering::Relaxed);
            assert!(!self.is_drill(Sequence(sequence)), "a drill: this command stops the engine");
            self.compensations.apply(&mut self.engine, time, command, &mut events);
            ends.push(u32::try_from(events.len()).expect("an entry has fewer than 2^32 events"));
        }
        Applied { first_sequence, time, events, ends }
    }

    fn is_drill(&self, sequence: Sequence) -> bool {
        self.drill_poison == Some(sequence) && !self.compensations.contains(sequence)
    }

    /// What this node laid into the log and came back inside of a state is applied, but how is not known.
    fn forget_own(&self) {
        let boot = self.boot.load(Ordering::Acquire);
        if boot > 0 && self.origins.last_boot(self.node) == boot {
            let last = self.origins.last_ticket(self.node);
            (self.waiting.last_applied() + 1..=last).for_each(|ticket| drop(self.waiting.take(ticket)));
            self.waiting.applied(last);
        }
    }

    fn publish(&self, published: Published) -> bool {
        if matches!(published, Published::Applied { .. }) {
            // Before it is sent: who counts what was taken is never ahead.
            self.entries_published.fetch_add(1, Ordering::Relaxed);
        }
        let sent = match self.published.do_at_once(published) {
            Ok(()) => true,
            Err(published) => self.published.send(published).is_ok(),
        };
        if !sent {
            self.failure.report("the feed has ended");
        }
        sent
    }
}
