//! What goes into the journal and what comes out of it: an [`Entry`] in, [`Applied`] or [`Restored`] out; their bytes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::{Command, Event, Sequence, Snapshot, Time};
use openraft::alias::{EntryOf, LeaderIdOf, LogIdOf, StoredMembershipOf, VoteOf};
use openraft::{BasicNode, EntryPayload, Membership};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

/// Commands that were waiting together, with the time the sequencer stamped on them. One entry is one raft log entry.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// When the sequencer laid them in; the same for all of them.
    pub time: Time,
    /// In the order in which they will be applied; at least one.
    pub commands: Vec<Command>,
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
);

pub(crate) type RaftEntry = EntryOf<TypeConfig>;
pub(crate) type LogId = LogIdOf<TypeConfig>;
pub(crate) type Vote = VoteOf<TypeConfig>;
pub(crate) type StoredMembership = StoredMembershipOf<TypeConfig>;

/// Which proposal an entry is. It goes to the log with the entry, so a node knows its own entries when they are applied,
/// however they came back to it, and never takes those of an earlier life for its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// The node that proposed it.
    pub node: u64,
    /// Which start of that node.
    pub boot: u64,
    /// Which proposal since that start.
    pub ticket: u64,
}

/// What is proposed to raft: an entry and where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Proposal {
    pub origin: Origin,
    pub entry: Arc<Entry>,
}

impl std::fmt::Display for Proposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} commands at {}", self.entry.commands.len(), self.entry.time)
    }
}

// Bytes. Everything stands in a frame: version, length, body in postcard's encoding, CRC-32C of all that.

/// The version of every frame that this program writes, and the only one it reads.
const FRAME_VERSION: u8 = 2;
const FRAME_HEAD: usize = 1 + 4;
const FRAME_TAIL: usize = 4;

/// Why bytes are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("its format is version {0}, this program reads version {FRAME_VERSION}")]
    Version(u8),
    #[error("its length is wrong")]
    Length,
    #[error("its checksum is wrong")]
    Checksum,
    #[error("its content makes no sense")]
    Malformed,
}

/// `value` in a frame.
pub(crate) fn seal(value: &impl Serialize) -> Vec<u8> {
    let head = vec![FRAME_VERSION, 0, 0, 0, 0];
    let mut bytes = postcard::to_extend(value, head).expect("plain data can always be encoded");
    let length = u32::try_from(bytes.len() - FRAME_HEAD).expect("a frame holds less than 4 GiB");
    bytes[1..FRAME_HEAD].copy_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// The value in the one frame that `bytes` are.
pub(crate) fn open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    let (value, length) = open_first(bytes)?;
    if length == bytes.len() { Ok(value) } else { Err(FrameError::Length) }
}

/// The value in the frame that `bytes` start with, and how long that frame is.
pub(crate) fn open_first<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), FrameError> {
    let (version, rest) = bytes.split_first().ok_or(FrameError::Length)?;
    if *version != FRAME_VERSION {
        return Err(FrameError::Version(*version));
    }
    let (length, _) = rest.split_first_chunk().ok_or(FrameError::Length)?;
    let end = FRAME_HEAD.saturating_add(u32::from_le_bytes(*length) as usize);
    let (framed, tail) = bytes.split_at_checked(end).ok_or(FrameError::Length)?;
    let (checksum, _) = tail.split_first_chunk().ok_or(FrameError::Length)?;
    if crc32c::crc32c(framed) != u32::from_le_bytes(*checksum) {
        return Err(FrameError::Checksum);
    }
    let value = postcard::from_bytes(&framed[FRAME_HEAD..]).map_err(|_| FrameError::Malformed)?;
    Ok((value, end + FRAME_TAIL))
}

/// The SHA-256 of a log entry's frame. Each frame holds the link of the one before it: that is the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link([u8; 32]);

impl Link {
    /// What the first entry of a log is chained to.
    pub(crate) const START: Link = Link([0; 32]);

    fn of(frame: &[u8]) -> Link {
        Link(Sha256::digest(frame).into())
    }
}

#[derive(Serialize, Deserialize)]
struct LogEntryBytes<'a> {
    previous: Link,
    log_id: LogIdBytes,
    payload: PayloadBytes<'a>,
}

#[derive(Serialize, Deserialize)]
enum PayloadBytes<'a> {
    Blank,
    Commands { origin: Origin, entry: Cow<'a, Entry> },
    Membership(MembershipBytes),
}

/// A log entry as it was found in its frame.
#[derive(Debug)]
pub(crate) struct FoundEntry {
    pub entry: RaftEntry,
    /// The link that it says the entry before it has.
    pub previous: Link,
    /// Its own.
    pub link: Link,
}

/// The bytes of a log entry that follows one with the link `previous`, and its own link.
pub(crate) fn encode_log_entry(entry: &RaftEntry, previous: Link) -> (Vec<u8>, Link) {
    let payload = match &entry.payload {
        EntryPayload::Blank => PayloadBytes::Blank,
        EntryPayload::Normal(proposal) => {
            PayloadBytes::Commands { origin: proposal.origin, entry: Cow::Borrowed(&proposal.entry) }
        }
        EntryPayload::Membership(membership) => PayloadBytes::Membership(MembershipBytes::from(membership)),
    };
    let frame = seal(&LogEntryBytes { previous, log_id: LogIdBytes::from(&entry.log_id), payload });
    let link = Link::of(&frame);
    (frame, link)
}

/// The log entry from the bytes of [`encode_log_entry`].
pub(crate) fn decode_log_entry(bytes: &[u8]) -> Result<FoundEntry, FrameError> {
    let found: LogEntryBytes<'static> = open(bytes)?;
    let payload = match found.payload {
        PayloadBytes::Blank => EntryPayload::Blank,
        PayloadBytes::Commands { origin, entry } => {
            EntryPayload::Normal(Proposal { origin, entry: Arc::new(entry.into_owned()) })
        }
        PayloadBytes::Membership(membership) => EntryPayload::Membership(membership.try_into()?),
    };
    let entry = RaftEntry { log_id: found.log_id.into(), payload };
    Ok(FoundEntry { entry, previous: found.previous, link: Link::of(bytes) })
}

/// A log id as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogIdBytes {
    term: u64,
    node: u64,
    index: u64,
}

impl From<&LogId> for LogIdBytes {
    fn from(log_id: &LogId) -> LogIdBytes {
        LogIdBytes { term: log_id.leader_id.term, node: log_id.leader_id.node_id, index: log_id.index }
    }
}

impl From<LogIdBytes> for LogId {
    fn from(bytes: LogIdBytes) -> LogId {
        let leader_id = LeaderIdOf::<TypeConfig> { term: bytes.term, node_id: bytes.node };
        LogId { leader_id, index: bytes.index }
    }
}

/// A vote as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteBytes {
    term: u64,
    node: u64,
    committed: bool,
}

impl From<&Vote> for VoteBytes {
    fn from(vote: &Vote) -> VoteBytes {
        VoteBytes { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
    }
}

impl From<VoteBytes> for Vote {
    fn from(bytes: VoteBytes) -> Vote {
        let leader_id = LeaderIdOf::<TypeConfig> { term: bytes.term, node_id: bytes.node };
        Vote { leader_id, committed: bytes.committed }
    }
}

/// A membership as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MembershipBytes {
    /// The voters; two sets while a change is under way.
    configs: Vec<BTreeSet<u64>>,
    /// The address of every node, learners included.
    nodes: BTreeMap<u64, String>,
}

impl From<&Membership<u64, BasicNode>> for MembershipBytes {
    fn from(membership: &Membership<u64, BasicNode>) -> MembershipBytes {
        MembershipBytes {
            configs: membership.get_joint_config().clone(),
            nodes: membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
        }
    }
}

impl TryFrom<MembershipBytes> for Membership<u64, BasicNode> {
    type Error = FrameError;

    fn try_from(bytes: MembershipBytes) -> Result<Self, FrameError> {
        let nodes: BTreeMap<u64, BasicNode> =
            bytes.nodes.into_iter().map(|(id, address)| (id, BasicNode::new(address))).collect();
        if bytes.configs.is_empty() && nodes.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(bytes.configs, nodes).map_err(|_| FrameError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use engine::{SymbolId, Uid};

    use super::*;

    pub(crate) fn log_id(index: u64) -> LogId {
        LogIdBytes { term: 3, node: 1, index }.into()
    }

    fn entries() -> Vec<RaftEntry> {
        let commands =
            vec![Command::OpenAccount { uid: Uid(7) }, Command::CancelAllOrders { uid: Uid(7), symbol: SymbolId(0) }];
        let origin = Origin { node: 1, boot: 2, ticket: 3 };
        let proposal = Proposal { origin, entry: Arc::new(Entry { time: Time(1_000_000), commands }) };
        let nodes = BTreeMap::from([(1, BasicNode::new("a:1")), (2, BasicNode::new("b:2"))]);
        let membership = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        vec![
            RaftEntry { log_id: log_id(4), payload: EntryPayload::Blank },
            RaftEntry { log_id: log_id(5), payload: EntryPayload::Normal(proposal) },
            RaftEntry { log_id: log_id(6), payload: EntryPayload::Membership(membership) },
        ]
    }

    #[test]
    fn a_log_entry_comes_back_as_it_was() {
        let mut previous = Link::START;
        for entry in entries() {
            let (bytes, link) = encode_log_entry(&entry, previous);
            let found = decode_log_entry(&bytes).unwrap();
            assert_eq!(found.previous, previous);
            assert_eq!(found.link, link);
            assert_eq!(found.entry.log_id, entry.log_id);
            assert_eq!(format!("{:?}", found.entry.payload), format!("{:?}", entry.payload));
            previous = link;
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        for entry in entries() {
            let (bytes, _) = encode_log_entry(&entry, Link::START);
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(decode_log_entry(&damaged).is_err(), "bit {bit}");
            }
            for length in 0..bytes.len() {
                assert!(decode_log_entry(&bytes[..length]).is_err(), "cut to {length}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(decode_log_entry(&longer).unwrap_err(), FrameError::Length);
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = seal(&7u64);
        bytes[0] = 9;
        assert_eq!(open::<u64>(&bytes).unwrap_err(), FrameError::Version(9));
    }

    #[test]
    fn the_same_entry_after_another_one_has_another_link() {
        let entry = &entries()[0];
        let (_, first) = encode_log_entry(entry, Link::START);
        let (_, second) = encode_log_entry(entry, first);
        assert_ne!(first, second);
    }

    #[test]
    fn a_vote_comes_back_as_it_was() {
        let vote = Vote { leader_id: log_id(0).leader_id, committed: true };
        let found: VoteBytes = open(&seal(&VoteBytes::from(&vote))).unwrap();
        assert_eq!(Vote::from(found), vote);
    }
}
