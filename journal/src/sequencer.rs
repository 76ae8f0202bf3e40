//! The front door: one queue. It lays the commands that wait into an entry and sends it to whoever leads. With less than two
//! entries under way it never waits to fill one; else it gathers for a moment, as an entry costs the same whatever it holds. So
//! an entry holds one command when it is quiet and thousands under load.
//!
//! An entry is kept until it is seen applied. When the leader changes, or a connection breaks, those that are kept are sent
//! again, in order; origins.rs sees to it that each counts once. So a change of leaders is a pause for who waits here, and
//! nothing else. What could not be sent for too long is given up: nobody wants an order to be placed a minute late.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engine::Command;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::engine_thread::{Boot, Lost, NextDeadline, Waiting};
use crate::failure::Failure;
use crate::leader::{Leader, Way};
use crate::record::{Caller, Origin};
use crate::runtime;
use crate::space::Space;
use crate::stats::QueueDepth;
use crate::timings::Timings;

/// How often it is looked whether the engine's next deadline has come.
const TICK_INTERVAL: Duration = Duration::from_millis(100);
/// Where there are other nodes, the engine is told the time so often at least, in microseconds: on a node that follows the log
/// is the only clock, and candles close by it.
const PULSE_US: u64 = 500_000;
/// From so many entries under way on, commands are gathered. One is decided and answered while the disk takes the other; with
/// one alone the disk would rest meanwhile.
const GATHER_FROM: usize = 2;
/// How long they are gathered at the most. Where a sync takes less, as many entries are under way as was said above; where it is
/// slow, or the leader far, more.
const GATHER_MAX: Duration = Duration::from_millis(1);
/// How long entries are sent again; and how long a command may wait to be laid into one.
const SEND_MAX: Duration = Duration::from_secs(5);
/// With nothing applied, or nobody known to lead, for so long, no more is taken.
const STALLED_MAX: Duration = Duration::from_secs(3);
/// With nothing applied for so long, they are sent again whatever the leader said of them: it may have lost them since.
const UNMOVED_MAX: Duration = Duration::from_secs(1);
/// How long is waited before entries are sent again to the same leader.
const RESEND_INTERVAL: Duration = Duration::from_millis(20);
/// How long a stopping node waits for what it sent to be applied.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// A handle on the one queue of commands. Cheap to clone.
#[derive(Clone)]
pub struct Sequencer {
    queue: mpsc::Sender<Queued>,
    door: Arc<Door>,
    space: Space,
}

/// Why a command was not taken. It has no effect then, now or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full.
    #[error("the queue of commands is full")]
    Busy,
    /// The disk has little room left; only cancels are taken.
    #[error("the disk is nearly full: only cancels are taken")]
    NoSpace,
    /// Nobody leads as far as this node knows, or it has not recovered yet.
    #[error("this node knows no leader")]
    NoLeader,
    /// This node is stopping or has failed.
    #[error("this node is stopping")]
    Stopping,
}

impl Sequencer {
    /// Puts a command into the queue; never blocks. `caller` gets its answer once it is durable and applied. Tells when it was
    /// queued.
    pub fn submit(&self, command: Command, caller: Option<Caller>) -> Result<std::time::Instant, SubmitError> {
        self.put(command, Vec::new(), caller)
    }

    /// Puts commands into the queue that stand or fall together: they share one log entry, which is on disk whole or not
    /// at all. `caller` gets the answer to the first; those to the others follow it in the same entry.
    pub fn submit_together(
        &self,
        commands: Vec<Command>,
        caller: Option<Caller>,
    ) -> Result<std::time::Instant, SubmitError> {
        let mut following = commands.into_iter();
        match following.next() {
            Some(command) => self.put(command, following.collect(), caller),
            None => Ok(std::time::Instant::now()),
        }
    }

    fn put(
        &self,
        command: Command,
        following: Vec<Command>,
        caller: Option<Caller>,
    ) -> Result<std::time::Instant, SubmitError> {
        let at = Instant::now();
        self.door.check(at)?;
        if !std::iter::once(&command).chain(&following).all(|command| self.space.admits(command)) {
            return Err(SubmitError::NoSpace);
        }
        let queued = Queued { command, following, caller, at };
        self.queue.try_send(queued).map(|()| at.into_std()).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Busy,
            TrySendError::Closed(_) => SubmitError::Stopping,
        })
    }

    /// Whether commands are taken; why not, otherwise.
    pub fn check(&self) -> Result<(), SubmitError> {
        self.door.check(Instant::now())
    }

    /// How many commands wait in the queue.
    pub(crate) fn queue(&self) -> QueueDepth {
        let bound = self.queue.max_capacity();
        QueueDepth { depth: (bound - self.queue.capacity()) as u64, bound: bound as u64 }
    }
}

struct Queued {
    command: Command,
    /// What must share its entry; almost always nothing.
    following: Vec<Command>,
    caller: Option<Caller>,
    at: Instant,
}

/// Shut before it was ever open.
const SHUT: u64 = 0;
/// Shut for good.
const STOPPING: u64 = u64::MAX;

/// Whether commands are taken. It shuts by itself unless it is held open, so it also does where the thread that looks after it
/// waits for the disk.
pub(crate) struct Door {
    made_at: Instant,
    /// Until when it is open, in microseconds since it was made; or one of the above.
    open_until: AtomicU64,
}

impl Door {
    pub(crate) fn shut() -> Door {
        Door { made_at: Instant::now(), open_until: AtomicU64::new(SHUT) }
    }

    /// Opens it for a while on a node that has recovered and knows a leader.
    pub(crate) fn open(&self) {
        self.hold_open(Instant::now() + STALLED_MAX);
    }

    /// It shuts then and not before.
    fn hold_open(&self, until: Instant) {
        let until = self.since_made(until);
        // A door that stops stays so.
        let _ = self
            .open_until
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |found| (found != STOPPING).then_some(until));
    }

    /// Shuts it for good.
    pub(crate) fn stop(&self) {
        self.open_until.store(STOPPING, Ordering::Release);
    }

    fn check(&self, now: Instant) -> Result<(), SubmitError> {
        match self.open_until.load(Ordering::Acquire) {
            STOPPING => Err(SubmitError::Stopping),
            until if self.since_made(now) < until => Ok(()),
            _ => Err(SubmitError::NoLeader),
        }
    }

    fn since_made(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.made_at).as_micros() as u64
    }
}

/// What a gateway needs to begin anew under a later start, once its own was forgotten (origins.rs).
pub(crate) struct Renewal {
    pub lost: Arc<Lost>,
    /// About the log index that it has come to.
    pub reached: Arc<AtomicU64>,
}

/// Lays commands into entries, and sends them.
pub(crate) struct SequencerTask {
    pub leads: Way,
    pub leader: watch::Receiver<Leader>,
    pub node: u64,
    pub boot: Boot,
    pub door: Arc<Door>,
    pub waiting: Arc<Waiting>,
    pub timings: Arc<Timings>,
    pub next_deadline: Arc<NextDeadline>,
    /// Whether other nodes may follow.
    pub has_others: bool,
    /// How a gateway begins anew.
    pub renewal: Option<Renewal>,
    pub failure: Failure,
    pub entry_commands_max: usize,
    pub entries_in_flight: usize,
}

impl SequencerTask {
    /// The handle, with room for `queue_commands`, and the task, which ends once told to stop and everything it took is
    /// answered.
    pub(crate) fn start(
        self,
        queue_commands: usize,
        space: Space,
        stop: oneshot::Receiver<()>,
    ) -> (Sequencer, tokio::task::JoinHandle<()>) {
        // When the queue is full, `submit` says `Busy`.
        let (sender, queue) = mpsc::channel(queue_commands);
        let sequencer = Sequencer { queue: sender, door: self.door.clone(), space };
        let sending = Sending {
            kept: VecDeque::new(),
            unsent: 0,
            last_ticket: 0,
            round: 0,
            resend_at: None,
            began_at: Instant::now(),
            moved_at: Instant::now(),
            led_at: Instant::now(),
            task: self,
        };
        (sequencer, runtime::spawn(sending.run(queue, stop)))
    }
}

/// An entry that is not seen applied yet.
struct Kept {
    ticket: u64,
    commands: Vec<Command>,
    at: Instant,
}

/// What became of an entry that was sent, and in which round.
type Sent = BoxFuture<'static, (u64, bool)>;

struct Sending {
    task: SequencerTask,
    /// In the order of their tickets.
    kept: VecDeque<Kept>,
    /// How many at the end of these are to be sent.
    unsent: usize,
    last_ticket: u64,
    /// Counts the times that sending began anew; what comes of earlier rounds does not matter.
    round: u64,
    resend_at: Option<Instant>,
    /// When that was last.
    began_at: Instant,
    /// When an entry was last seen applied, or there was none to be.
    moved_at: Instant,
    /// When a leader was last known: without one, nothing is taken where nothing waits either.
    led_at: Instant,
}

impl Sending {
    async fn run(mut self, mut queue: mpsc::Receiver<Queued>, mut stop: oneshot::Receiver<()>) {
        let mut in_flight: FuturesUnordered<Sent> = FuturesUnordered::new();
        let mut taken = Vec::with_capacity(self.task.entry_commands_max);
        let mut tick = tokio::time::interval(TICK_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let waiting = self.task.waiting.clone();
        let failure = self.task.failure.clone();
        let mut failed = std::pin::pin!(failure.wait());
        loop {
            let has_leader = self.task.leader.borrow().is_known();
            let gathering = self.gathering_until();
            let room =
                has_leader && self.unsent == 0 && self.kept.len() < self.task.entries_in_flight && gathering.is_none();
            let drained = queue.is_closed() && queue.is_empty();
            if drained && self.kept.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                () = waiting.progress() => self.forget_applied(),
                Some((round, applied)) = in_flight.next() => {
                    if !applied && round == self.round && self.resend_at.is_none() {
                        self.resend_at = Some(Instant::now() + RESEND_INTERVAL);
                    }
                }
                changed = self.task.leader.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.begin_anew();
                }
                () = at(self.resend_at) => self.begin_anew(),
                () = at(gathering) => {}
                // The handles cannot send any more; what is in the queue is still taken.
                _ = &mut stop, if !queue.is_closed() => {
                    queue.close();
                    self.moved_at = Instant::now();
                }
                _ = &mut failed => break,
                _ = tick.tick() => {
                    self.look(&queue);
                    self.renew();
                    if !has_leader && self.moved_at.elapsed() > SEND_MAX {
                        // The door has been shut for a while: what waits is too old to be sent.
                        while queue.try_recv().is_ok() {}
                    }
                    if !self.kept.is_empty() && self.moved_at.max(self.began_at).elapsed() > UNMOVED_MAX {
                        self.begin_anew();
                    }
                    if queue.is_closed() && self.moved_at.elapsed() > DRAIN_MAX {
                        break;
                    }
                    if room && self.is_tick_due() {
                        self.lay(vec![Command::Tick], Vec::new());
                    }
                }
                count = queue.recv_many(&mut taken, self.task.entry_commands_max), if room && !drained => {
                    if count > 0 {
                        self.take(&mut taken);
                    }
                }
            }
            while self.unsent > 0 && has_leader && self.resend_at.is_none() {
                let next = self.kept.len() - self.unsent;
                self.unsent -= 1;
                let sent = self.send(next).await;
                in_flight.push(sent);
            }
        }
        // Nobody here will know what became of them.
        waiting.give_up();
    }

    /// Until when commands are gathered; none when they may go.
    fn gathering_until(&self) -> Option<Instant> {
        let last = self.kept.back()?;
        let until = last.at + GATHER_MAX;
        (self.kept.len() >= GATHER_FROM && until > Instant::now()).then_some(until)
    }

    /// Whether the engine waits to be told the time. Only the leader tells it.
    fn is_tick_due(&self) -> bool {
        let now = self.task.leads.now();
        let next = &self.task.next_deadline;
        let pulse = self.task.has_others && next.is_late(now, PULSE_US);
        self.task.leader.borrow().is_this() && (pulse || next.has_come(now))
    }

    /// What was taken becomes an entry.
    fn take(&mut self, taken: &mut Vec<Queued>) {
        let mut commands = Vec::with_capacity(taken.len());
        let mut callers = Vec::with_capacity(taken.len());
        let now = Instant::now();
        for queued in taken.drain(..) {
            let waited = now.saturating_duration_since(queued.at);
            if waited > SEND_MAX {
                continue;
            }
            if queued.caller.is_some() {
                self.task.timings.sequence.record_duration(waited);
            }
            callers.extend(queued.caller.map(|caller| (commands.len(), caller)));
            commands.push(queued.command);
            commands.extend(queued.following);
        }
        if !commands.is_empty() {
            self.lay(commands, callers);
        }
    }

    fn lay(&mut self, commands: Vec<Command>, callers: Vec<(usize, Caller)>) {
        self.last_ticket += 1;
        self.task.waiting.put(self.last_ticket, callers);
        if self.kept.is_empty() {
            self.moved_at = Instant::now();
        }
        self.kept.push_back(Kept { ticket: self.last_ticket, commands, at: Instant::now() });
        self.unsent += 1;
    }

    async fn send(&self, index: usize) -> Sent {
        let Kept { ticket, commands, .. } = &self.kept[index];
        let origin = Origin { node: self.task.node, boot: self.task.boot.load(Ordering::Acquire), ticket: *ticket };
        let leader = *self.task.leader.borrow();
        let applied = self.task.leads.send(leader, origin, commands.clone()).await;
        let round = self.round;
        Box::pin(async move { (round, applied.await) })
    }

    /// Everything that is kept is sent again, in order. What is too old goes without its commands: it only fills its place.
    fn begin_anew(&mut self) {
        self.round += 1;
        self.resend_at = None;
        self.began_at = Instant::now();
        self.unsent = self.kept.len();
        for kept in self.kept.iter_mut().filter(|kept| kept.at.elapsed() > SEND_MAX) {
            kept.commands.clear();
            drop(self.task.waiting.take(kept.ticket));
        }
    }

    /// Begins anew where this start was forgotten: nothing that is kept will ever count under it, so it goes under the next.
    fn renew(&mut self) {
        let Some(Renewal { lost, reached }) = &self.task.renewal else { return };
        let boot = self.task.boot.load(Ordering::Acquire);
        if boot == 0 || lost.boot.load(Ordering::Acquire) != boot {
            return;
        }
        let mut callers = self.task.waiting.begin_anew();
        if lost.is_unknown.load(Ordering::Acquire) {
            // Some of it may have counted, and nobody can tell.
            self.kept.clear();
        }
        for (kept, ticket) in self.kept.iter_mut().zip(1..) {
            self.task.waiting.put(ticket, callers.remove(&kept.ticket).unwrap_or_default());
            kept.ticket = ticket;
        }
        self.last_ticket = self.kept.len() as u64;
        let next = reached.load(Ordering::Acquire).max(boot + 1);
        tracing::info!("many gateways came since: this one begins anew at log entry {next}");
        self.task.boot.store(next, Ordering::Release);
        self.begin_anew();
    }

    fn forget_applied(&mut self) {
        let last = self.task.waiting.last_applied();
        while self.kept.front().is_some_and(|kept| kept.ticket <= last) {
            self.kept.pop_front();
            self.moved_at = Instant::now();
        }
        self.unsent = self.unsent.min(self.kept.len());
    }

    /// Holds the door open as long as something gets through; opens it when something does again.
    fn look(&mut self, queue: &mpsc::Receiver<Queued>) {
        let knows_leader = self.task.leader.borrow().is_known();
        let now = Instant::now();
        if self.kept.is_empty() && (knows_leader || queue.is_empty()) {
            self.moved_at = now;
        }
        if knows_leader {
            self.led_at = now;
        }
        let opens = knows_leader && self.task.boot.load(Ordering::Acquire) > 0;
        if opens || self.task.door.check(now).is_ok() {
            self.task.door.hold_open(self.moved_at.min(self.led_at) + STALLED_MAX);
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_that_stopped_does_not_open_again() {
        let door = Door::shut();
        door.stop();
        door.open();
        assert_eq!(door.check(Instant::now()), Err(SubmitError::Stopping));
    }

    #[test]
    fn a_door_that_nobody_holds_open_shuts() {
        let (door, now) = (Door::shut(), Instant::now());
        assert_eq!(door.check(now), Err(SubmitError::NoLeader));
        door.hold_open(now + STALLED_MAX);
        assert_eq!(door.check(now), Ok(()));
        assert_eq!(door.check(now + STALLED_MAX), Err(SubmitError::NoLeader));
        door.hold_open(now + 2 * STALLED_MAX);
        assert_eq!(door.check(now + STALLED_MAX), Ok(()));
    }
}
