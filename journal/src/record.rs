//! What goes into the journal and what comes out of it: an [`Entry`] in, [`Applied`] or [`Restored`] out; their bytes.

use std::sync::Arc;

use engine::event::Trade;
use engine::{Command, Event, Sequence, Snapshot, Time};
use openraft::BasicNode;
use openraft::alias::{EntryOf, LogIdOf, StoredMembershipOf, VoteOf};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::timings::Road;

/// Commands that were waiting together, with the time the sequencer stamped on them. One entry is one raft log entry.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// When the sequencer laid them in; the same for all of them.
    pub time: Time,
    /// In the order in which they will be applied; none where what was asked came too late to be sent again.
    pub commands: Vec<Command>,
}

impl Entry {
    /// When its commands are decided, if those before it were decided at `last`: time never runs backwards, whatever the
    /// clock of a new leader says.
    pub fn time_after(&self, last: Time) -> Time {
        self.time.max(last)
    }
}

/// What the commands of one entry did.
#[derive(Debug)]
pub struct Applied {
    /// The sequence of the entry's first command; the others follow without a hole.
    pub first_sequence: Sequence,
    /// The entry's time.
    pub time: Time,
    /// The events of all its commands, in order.
    pub events: Vec<Event>,
    /// For each command, where its events end in `events`.
    pub ends: Vec<u32>,
}

impl Applied {
    /// How many commands the entry held.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it held none; never so.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The sequence of its command `index`.
    pub fn sequence(&self, index: usize) -> Sequence {
        Sequence(self.first_sequence.0 + index as u64)
    }

    /// The sequence of its last command.
    pub fn last_sequence(&self) -> Sequence {
        self.sequence(self.len() - 1)
    }

    /// The events of its command `index`.
    pub fn events_of(&self, index: usize) -> &[Event] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.events[start..self.ends[index] as usize]
    }
}

/// A trade as the market sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarketTrade {
    /// When.
    pub time: Time,
    /// The command that made it.
    pub sequence: Sequence,
    /// The trade.
    pub trade: Trade,
}

/// An execution's id is its command's sequence and its place among that command's events, which stays within what every
/// client's integers hold for the first eight thousand million commands.
const EXECUTION_PLACE_BITS: u32 = 20;

/// What names the event at `place` among those of the command `sequence`, to clients.
pub fn execution_id(sequence: Sequence, place: usize) -> u64 {
    sequence.0 << EXECUTION_PLACE_BITS | place as u64
}

/// The whole state, after a start or after a snapshot came from the leader.
#[derive(Debug)]
pub struct Restored {
    /// The state.
    pub snapshot: Arc<Snapshot>,
}

/// The answer to one command: what its entry did, and which of the entry's commands it was.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The whole entry.
    pub applied: Arc<Applied>,
    /// Which command of it.
    pub index: usize,
    /// When it was where; none for what happened in the past.
    pub road: Option<Road>,
}

impl Answer {
    /// The command's sequence.
    pub fn sequence(&self) -> Sequence {
        self.applied.sequence(self.index)
    }

    /// What the command did.
    pub fn events(&self) -> &[Event] {
        self.applied.events_of(self.index)
    }
}

/// Where the answer to one command goes. It is dropped unanswered when this node cannot know what became of the command.
pub type Caller = oneshot::Sender<Answer>;

/// What the journal publishes, in log order, to its one reader (the feed).
#[derive(Debug)]
pub enum Published {
    /// Forget what you know; this is the state.
    Restored(Restored),
    /// This happened next.
    Applied {
        /// What happened.
        applied: Arc<Applied>,
        /// Who on this node waits for which of its commands: to be answered last.
        callers: Vec<(usize, Caller)>,
        /// When it was where; none while the log is gone through after a start.
        road: Option<Road>,
    },
}

// What raft carries.

openraft::declare_raft_types!(
    /// The types that raft works with here.
    pub(crate) TypeConfig:
        D = Proposal,
        R = (),
        NodeId = u64,
        Node = BasicNode,
        AsyncRuntime = RaftRuntime,
);

/// What raft runs on: tokio, where there is no simulation.
#[cfg(not(test))]
type RaftRuntime = openraft::impls::TokioRuntime;
#[cfg(test)]
type RaftRuntime = crate::simulation::RaftRuntime;

pub(crate) type RaftEntry = EntryOf<TypeConfig>;
pub(crate) type Payload = openraft::alias::EntryPayloadOf<TypeConfig>;
pub(crate) type LogId = LogIdOf<TypeConfig>;
pub(crate) type Vote = VoteOf<TypeConfig>;
pub(crate) type StoredMembership = StoredMembershipOf<TypeConfig>;

/// Which proposal an entry is. It goes to the log with the entry, so a node knows its own entries when they are applied,
/// however they came back to it, and never takes those of an earlier life for its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The node that proposed it.
    pub node: u64,
    /// Which start of that node.
    pub boot: u64,
    /// Which proposal since that start.
    pub ticket: u64,
}

/// An operator's ruling that a command is passed over, because deciding it stops the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compensation {
    /// The command.
    pub sequence: Sequence,
    /// When it was ruled.
    pub time: Time,
    /// By whom.
    pub operator: String,
    /// Why.
    pub reason: String,
}

/// What is proposed to raft.
#[derive(Clone, Debug)]
pub(crate) enum Proposal {
    /// An entry and where it comes from.
    Commands { origin: Origin, entry: Arc<Entry> },
    /// A ruling on a command before it in the log.
    Compensation(Arc<Compensation>),
}

impl std::fmt::Display for Proposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Proposal::Commands { entry, .. } => write!(f, "{} commands at {}", entry.commands.len(), entry.time),
            Proposal::Compensation(ruling) => write!(f, "a compensation of command {}", ruling.sequence),
        }
    }
}
