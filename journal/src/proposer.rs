//! Where commands become entries of the log, on the leader alone: its own, and those that other nodes sent. One clock stamps
//! them, and each node's entries go in in the order of their tickets, each once.

use std::sync::Arc;
use std::time::Duration;

use engine::{Command, Time};
use openraft::Raft;
use openraft::impls::ProgressResponder;
use tokio::sync::{Mutex, Notify};

use crate::origins::{Origins, Standing};
use crate::record::{Entry, Origin, Proposal, TypeConfig};
use crate::runtime;
use crate::state_machine::StateMachine;

/// How far the machine's clock may be behind before that is told, in microseconds.
const BEHIND_MAX: u64 = 1_000_000;
/// How often it is, in microseconds of that clock.
const TELL_EVERY: u64 = 60_000_000;

/// The clock that must not run backwards. Where the log is ahead of the machine's clock, because that was set back or another
/// leader's was ahead, it goes on at half the pace until the machine's has caught up: deadlines come late, but they come.
#[derive(Default)]
pub(crate) struct Clock {
    readings: parking_lot::Mutex<Readings>,
    /// Another clock than the machine's.
    other: Option<fn() -> Time>,
}

/// In microseconds.
#[derive(Default)]
struct Readings {
    /// What it said last.
    last: u64,
    /// What the machine's clock said then.
    machine: u64,
    /// From when on it is told again that that one is behind.
    tell_from: u64,
}

impl Clock {
    /// What it says from now on is not before `time`.
    pub(crate) fn reach(&self, time: Time) {
        let mut readings = self.readings.lock();
        readings.last = readings.last.max(time.0);
    }

    /// The time in microseconds, or what half the time since the last one makes of that when it is later.
    pub(crate) fn stamp(&self) -> Time {
        let machine = self.other.map_or_else(runtime::now, |clock| clock()).0;
        let mut readings = self.readings.lock();
        // Nothing is known of the time before the first reading, nor of that in which the clock was set back.
        let since = if readings.machine == 0 { 0 } else { machine.saturating_sub(readings.machine) };
        readings.last = machine.max(readings.last.saturating_add(since / 2));
        readings.tell(machine);
        readings.machine = machine;
        Time(readings.last)
    }
}

impl Readings {
    fn tell(&mut self, machine: u64) {
        let behind = self.last - machine;
        let was_set_back = machine < self.machine;
        if behind > BEHIND_MAX && (was_set_back || machine >= self.tell_from) {
            self.tell_from = machine.saturating_add(TELL_EVERY);
            tracing::error!(
                "the machine's clock is {:.1?} behind the log's: time goes at half its pace until it has caught up; set the clock",
                Duration::from_micros(behind)
            );
        }
    }
}

/// Lays entries into the log while this node leads.
pub(crate) struct Proposer {
    raft: Raft<TypeConfig, StateMachine>,
    clock: Clock,
    /// What is in the log, this term's entries included; none while this node does not lead. The lock keeps the order of what
    /// is admitted and what is handed to raft the same.
    log: Mutex<Option<Origins>>,
    failed: Notify,
}

/// Why an entry was not taken; the log does not have it from this call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProposeError {
    /// This node does not lead, or not yet.
    #[error("this node does not lead")]
    NotLeader,
    /// One of the node's entries before it is not here.
    #[error("an entry before it is missing")]
    Ahead,
}

impl Proposer {
    pub(crate) fn new(raft: Raft<TypeConfig, StateMachine>, clock: Option<fn() -> Time>) -> Proposer {
        Proposer {
            raft,
            clock: Clock { other: clock, ..Clock::default() },
            log: Mutex::new(None),
            failed: Notify::new(),
        }
    }

    /// The clock that stamps what is proposed.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Takes entries, on a leader whose engine has applied the whole log: up to `time`, the entries of `origins`.
    pub(crate) async fn open(&self, time: Time, origins: Origins) {
        self.clock.reach(time);
        *self.log.lock().await = Some(origins);
    }

    /// Takes none.
    pub(crate) async fn close(&self) {
        *self.log.lock().await = None;
    }

    /// Resolves when an entry was not taken by raft after all: what is in the log must be looked at again.
    pub(crate) async fn failed(&self) {
        self.failed.notified().await;
    }

    /// Has whoever waits in [`Proposer::failed`] look at the log again.
    pub(crate) fn look_again(&self) {
        self.failed.notify_one();
    }

    /// Proposes an entry. The future tells, once that is known, whether it is applied.
    pub(crate) async fn propose(
        self: &Arc<Self>,
        origin: Origin,
        commands: Vec<Command>,
    ) -> Result<impl Future<Output = bool> + Send + use<>, ProposeError> {
        let mut log = self.log.lock().await;
        let origins = log.as_mut().ok_or(ProposeError::NotLeader)?;
        let done = match origins.standing(&origin) {
            Standing::Ahead => return Err(ProposeError::Ahead),
            // It was sent again, and is on its way or applied.
            Standing::Known => None,
            Standing::Next => {
                origins.admits(&origin);
                let entry = Arc::new(Entry { time: self.clock.stamp(), commands });
                let (responder, done) = ProgressResponder::complete_only();
                let proposal = Proposal::Commands { origin, entry };
                if self.raft.client_write_ff(proposal, Some(responder)).await.is_err() {
                    *log = None;
                    return Err(ProposeError::NotLeader);
                }
                Some(done)
            }
        };
        // Watched to its end whether or not the caller still waits: a connection that broke must not hide that raft refused it.
        let watching = done.map(|done| {
            let applied = async move { done.await.is_ok_and(|result| result.is_ok()) };
            runtime::spawn(self.clone().watch(applied))
        });
        Ok(async move {
            match watching {
                Some(watching) => watching.await.unwrap_or(false),
                None => true,
            }
        })
    }

    /// Whether what was proposed is applied, once that is known.
    async fn watch(self: Arc<Self>, applied: impl Future<Output = bool>) -> bool {
        let applied = applied.await;
        if !applied {
            // Those behind it would leave a hole.
            self.close().await;
            self.look_again();
        }
        applied
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// What the clock of the test's thread says.
        static MACHINE: Cell<u64> = const { Cell::new(0) };
    }

    fn at(machine: u64, clock: &Clock) -> u64 {
        MACHINE.set(machine);
        clock.stamp().0
    }

    #[test]
    fn time_goes_at_half_its_pace_while_the_clock_is_behind_the_log() {
        let clock = Clock { other: Some(|| Time(MACHINE.get())), ..Clock::default() };
        clock.reach(Time(5_000));
        assert_eq!(at(1_000, &clock), 5_000, "how long ago that was is not known");
        assert_eq!(at(1_400, &clock), 5_200);
        assert_eq!(at(400, &clock), 5_200, "it was set back");
        assert_eq!(at(1_400, &clock), 5_700);
        assert_eq!(at(10_000, &clock), 10_000, "it has caught up");
        assert_eq!(at(10_001, &clock), 10_001);
    }

    #[test]
    fn time_follows_the_clock_and_never_goes_back() {
        let clock = Clock::default();
        clock.reach(Time(5));
        let first = clock.stamp();
        assert!(first > Time(1_700_000_000_000_000));
        assert!(clock.stamp() >= first);
    }
}
