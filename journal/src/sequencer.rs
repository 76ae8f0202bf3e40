//! The front door, open on the leader: one queue, one clock. It lays the commands that wait into an entry and proposes
//! it; it never waits to fill one, so an entry holds one command when it is quiet and thousands under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use engine::{Command, Time};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use openraft::Raft;
use openraft::impls::ProgressResponder;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::engine_thread::{NextDeadline, Waiting};
use crate::record::{Caller, Entry, Origin, Proposal, TypeConfig};
use crate::runtime;
use crate::space::Space;
use crate::state_machine::StateMachine;

/// How often it is looked whether the engine's next deadline has come.
const TICK_INTERVAL: Duration = Duration::from_millis(100);

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
    /// This node does not lead, or has not recovered yet.
    #[error("this node does not lead")]
    NotLeader,
    /// This node is stopping or has failed.
    #[error("this node is stopping")]
    Stopping,
}

impl Sequencer {
    /// Puts a command into the queue; never blocks. `caller` gets its answer once it is durable and applied.
    pub fn submit(&self, command: Command, caller: Option<Caller>) -> Result<(), SubmitError> {
        self.put(Queued { command, following: Vec::new(), caller })
    }

    /// Puts commands into the queue that stand or fall together: they share one log entry, which is on disk whole or not
    /// at all. `caller` gets the answer to the first; those to the others follow it in the same entry.
    pub fn submit_together(&self, commands: Vec<Command>, caller: Option<Caller>) -> Result<(), SubmitError> {
        let mut following = commands.into_iter();
        match following.next() {
            Some(command) => self.put(Queued { command, following: following.collect(), caller }),
            None => Ok(()),
        }
    }

    fn put(&self, queued: Queued) -> Result<(), SubmitError> {
        match self.door.state.load(Ordering::Acquire) {
            OPEN => {}
            SHUT => return Err(SubmitError::NotLeader),
            _ => return Err(SubmitError::Stopping),
        }
        if !std::iter::once(&queued.command).chain(&queued.following).all(|command| self.space.admits(command)) {
            return Err(SubmitError::NoSpace);
        }
        self.queue.try_send(queued).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Busy,
            TrySendError::Closed(_) => SubmitError::Stopping,
        })
    }

    /// How many commands wait in the queue.
    pub(crate) fn queued(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }
}

struct Queued {
    command: Command,
    /// What must share its entry; almost always nothing.
    following: Vec<Command>,
    caller: Option<Caller>,
}

const SHUT: u8 = 0;
const OPEN: u8 = 1;
const STOPPING: u8 = 2;

/// Whether commands are taken, and the clock that must not run backwards.
pub(crate) struct Door {
    state: AtomicU8,
    last_time: AtomicU64,
}

impl Door {
    pub(crate) fn shut() -> Door {
        Door { state: AtomicU8::new(SHUT), last_time: AtomicU64::new(0) }
    }

    /// Opens it on a leader whose engine has reached `time` and the end of the log.
    pub(crate) fn open(&self, time: Time) {
        self.last_time.fetch_max(time.0, Ordering::Relaxed);
        // A door that stops stays so.
        let _ = self.state.compare_exchange(SHUT, OPEN, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Closes it on a node that no longer leads.
    pub(crate) fn close(&self) {
        let _ = self.state.compare_exchange(OPEN, SHUT, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Closes it for good.
    pub(crate) fn stop(&self) {
        self.state.store(STOPPING, Ordering::Release);
    }

    /// The clock in microseconds, or the last time when that is later.
    fn stamp(&self) -> Time {
        let clock = runtime::now().0;
        Time(self.last_time.fetch_max(clock, Ordering::Relaxed).max(clock))
    }
}

/// Who proposes, and how much at a time.
pub(crate) struct SequencerTask {
    pub raft: Raft<TypeConfig, StateMachine>,
    pub node: u64,
    pub boot: u64,
    pub door: Arc<Door>,
    pub waiting: Arc<Waiting>,
    pub next_deadline: Arc<NextDeadline>,
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
        (sequencer, runtime::spawn(self.run(queue, stop)))
    }

    async fn run(self, mut queue: mpsc::Receiver<Queued>, mut stop: oneshot::Receiver<()>) {
        let mut in_flight = FuturesUnordered::new();
        let mut taken = Vec::with_capacity(self.entry_commands_max);
        let mut ticket = 0;
        let mut tick = tokio::time::interval(TICK_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let room = in_flight.len() < self.entries_in_flight;
            tokio::select! {
                biased;
                Some(()) = in_flight.next() => {}
                // The handles cannot send any more; what is in the queue is still taken.
                _ = &mut stop, if !queue.is_closed() => queue.close(),
                _ = tick.tick(), if room => {
                    if self.is_tick_due() {
                        taken.push(Queued { command: Command::Tick, following: Vec::new(), caller: None });
                        ticket += 1;
                        in_flight.push(self.propose(ticket, &mut taken).await);
                    }
                }
                count = queue.recv_many(&mut taken, self.entry_commands_max), if room => {
                    if count == 0 {
                        break;
                    }
                    ticket += 1;
                    in_flight.push(self.propose(ticket, &mut taken).await);
                }
            }
        }
        while in_flight.next().await.is_some() {}
    }

    /// Whether the engine waits to be told the time. Only the leader tells it.
    fn is_tick_due(&self) -> bool {
        self.door.state.load(Ordering::Acquire) == OPEN && self.next_deadline.has_come(self.door.stamp())
    }

    /// Proposes what was taken as one entry; the future ends when it is applied, or never will be as far as is known.
    async fn propose(&self, ticket: u64, taken: &mut Vec<Queued>) -> impl Future<Output = ()> + use<> {
        let mut commands = Vec::with_capacity(taken.len());
        let mut callers = Vec::with_capacity(taken.len());
        for queued in taken.drain(..) {
            callers.extend(queued.caller.map(|caller| (commands.len(), caller)));
            commands.push(queued.command);
            commands.extend(queued.following);
        }
        let origin = Origin { node: self.node, boot: self.boot, ticket };
        let entry = Arc::new(Entry { time: self.door.stamp(), commands });
        self.waiting.put(ticket, callers);
        let (responder, done) = ProgressResponder::complete_only();
        let proposed = self.raft.client_write_ff(Proposal::Commands { origin, entry }, Some(responder)).await;
        let waiting = self.waiting.clone();
        async move {
            let applied = proposed.is_ok() && done.await.is_ok_and(|result| result.is_ok());
            if !applied {
                // Whether the log has it is unknown here: the callers are dropped unanswered.
                waiting.take(ticket);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stands_still_while_the_clock_is_behind_the_log() {
        let door = Door::shut();
        let ahead = Time(u64::MAX / 2);
        door.open(ahead);
        assert_eq!(door.stamp(), ahead);
        assert_eq!(door.stamp(), ahead);
    }

    #[test]
    fn time_follows_the_clock_and_never_goes_back() {
        let door = Door::shut();
        door.open(Time(5));
        let first = door.stamp();
        assert!(first > Time(1_700_000_000_000_000));
        assert!(door.stamp() >= first);
    }

    #[test]
    fn a_door_that_stopped_does_not_open_again() {
        let door = Door::shut();
        door.stop();
        door.open(Time(0));
        assert_eq!(door.state.load(Ordering::Relaxed), STOPPING);
    }
}
