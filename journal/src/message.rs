//! What nodes say to each other, byte for byte. Every message is in a frame (format.rs: version, length, body, checksum), so a
//! flipped bit ends the connection and is never taken for something else.
//!
//! A connection begins with a handshake: who calls, which protocol and data format it speaks, and, where the cluster has a
//! secret, a proof on both sides that it is known. Then requests, each with a number that its reply carries. A node that does
//! not speak the other's protocol refuses, it does not guess.

use std::borrow::Cow;
use std::io;

use bytes::BytesMut;
use engine::Command;
use hmac::{Hmac, KeyInit, Mac};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::cluster::{Change, ClusterStatus};
use crate::format::{
    DATA_FORMAT, FRAME_HEAD, FRAME_TAIL, FrameError, LogIdBytes, PayloadBytes, VoteBytes, open, payload_bytes,
    payload_of, seal,
};
use crate::record::{Origin, RaftEntry, TypeConfig};
use crate::standing::Standing;

/// The version of all that follows.
const PROTOCOL: u16 = 1;
/// What a frame may hold before the other side has shown who it is, in bytes.
pub(crate) const GREETING_BYTES_MAX: usize = 4 << 10;
/// And afterwards.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// How much is read at once.
const READ_BYTES: usize = 64 << 10;

// The handshake.

/// What the caller says first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    protocol: u16,
    data_format: u32,
    /// Who calls: a node and its incarnation. None for an operator's tool.
    pub from: Option<(u64, u64)>,
    /// Which node it wants; zero for any.
    pub to: u64,
    nonce: [u8; 16],
}

/// What the called node answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Welcome {
    /// Come in, if you prove that you know the secret.
    Welcome { node: u64, incarnation: u64, nonce: [u8; 16], proof: [u8; 32] },
    /// No, because.
    Refused(String),
}

/// The caller's proof.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Proof(pub [u8; 32]);

impl Hello {
    pub(crate) fn new(from: Option<(u64, u64)>, to: u64) -> Hello {
        Hello { protocol: PROTOCOL, data_format: DATA_FORMAT, from, to, nonce: rand::random() }
    }

    /// Whether this program can talk with the caller's; why not, otherwise.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.protocol != PROTOCOL {
            return Err(format!("it speaks protocol {}, this program speaks {PROTOCOL}", self.protocol));
        }
        if self.data_format != DATA_FORMAT {
            return Err(format!("its data format is {}, this program's is {DATA_FORMAT}", self.data_format));
        }
        Ok(())
    }
}

/// What shows that `side` knows the secret: each side proves it on a number that the other chose.
pub(crate) fn proof(secret: &str, side: &str, hello: &Hello, nonce: [u8; 16]) -> [u8; 32] {
    let mut mac = mac(secret);
    for part in [side.as_bytes(), &hello.nonce, &nonce] {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Whether `found` is that, in constant time.
pub(crate) fn is_proof(secret: &str, side: &str, hello: &Hello, nonce: [u8; 16], found: &[u8; 32]) -> bool {
    let mut mac = mac(secret);
    for part in [side.as_bytes(), &hello.nonce, &nonce] {
        mac.update(part);
    }
    mac.verify_slice(found).is_ok()
}

fn mac(secret: &str) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret.as_bytes()).expect("a key of any length will do")
}

// Requests and replies.

/// Rows of history, key and value.
pub(crate) type HistoryRows<'a> = Vec<(Cow<'a, [u8]>, Cow<'a, [u8]>)>;

/// What a node or a tool asks.
#[derive(Serialize, Deserialize)]
pub(crate) enum Request<'a> {
    /// Raft's entries, or its heartbeat.
    Append(AppendBytes<'a>),
    /// Raft's call for a vote.
    Vote(VoteAsked),
    /// Whether such a call would be heard.
    PreVote(VoteAsked),
    /// Raft's handing over of the lead.
    TransferLeader { from_leader: VoteBytes, to: u64, last_log_id: Option<LogIdBytes> },
    /// A snapshot is to be sent: what raft says with it, its file's length and hash.
    Snapshot { vote: VoteBytes, length: u64, hash: [u8; 32] },
    /// The next piece of its file.
    SnapshotBytes(Cow<'a, [u8]>),
    /// The next rows of history.
    SnapshotRows(HistoryRows<'a>),
    /// That was all of it.
    SnapshotEnd,
    /// A node's own commands, for the leader to lay into the log.
    Forward { origin: Origin, commands: Cow<'a, [Command]> },
    /// Up to which command a read must see, to be current.
    ReadIndex,
    /// How the caller stands; the reply is how the called node does.
    Standing(Box<Standing>),
    /// The cluster as the called node sees it.
    Status,
    /// A change of members, to the leader.
    Change(Change),
    /// What an observer wants of any node.
    Observe(Observe<'a>),
}

/// What an observer asks.
#[derive(Serialize, Deserialize)]
pub(crate) enum Observe<'a> {
    /// A piece of a snapshot's file from this byte on: of the newest, or of the one that an earlier piece named.
    State { of: Option<u64>, offset: u64 },
    /// The committed entries from this index on, once there are any; none after so many milliseconds.
    Entries { from: u64, wait_ms: u64 },
    /// Rows of history, which must hold this sequence.
    Rows { at_least: u64, wanted: Rows<'a> },
}

/// Which rows of history.
#[derive(Serialize, Deserialize)]
pub(crate) enum Rows<'a> {
    /// The values of these keys.
    Get(Vec<Cow<'a, [u8]>>),
    /// So many at the most from this key on, whose keys begin so; backwards where that is said.
    Scan { prefix: Cow<'a, [u8]>, from: Cow<'a, [u8]>, is_reverse: bool, most: u32 },
}

/// What is replied.
#[derive(Serialize, Deserialize)]
pub(crate) enum Reply {
    /// To `Append`.
    Appended(Appended),
    /// To `Vote` and `PreVote`.
    Vote { vote: VoteBytes, granted: bool, last_log_id: Option<LogIdBytes> },
    /// To `Snapshot`: how many bytes of its file are there already, and the key of the last row.
    SnapshotFrom { bytes: u64, row: Option<Vec<u8>> },
    /// To `SnapshotEnd`: raft's answer.
    Snapshot { vote: VoteBytes },
    /// To `Forward`, `TransferLeader`, `SnapshotBytes`, `SnapshotRows`, `Change`: done.
    Done,
    /// To `ReadIndex`: the sequence.
    ReadIndex(u64),
    /// To `Standing`.
    Standing(Box<Standing>),
    /// To `Status`.
    Status(Box<ClusterStatus>),
    /// To any: not done, because.
    Refused(String),
    /// To `Observe`.
    Observed(Observed),
}

/// What an observer is told.
#[derive(Serialize, Deserialize)]
pub(crate) enum Observed {
    /// To `State`: the name and length of the snapshot's file, the rulings that the node heeds, and the piece.
    State { of: u64, length: u64, rulings: Vec<u64>, piece: Vec<u8> },
    /// To `State`: there is none, and the log has everything.
    NoState { rulings: Vec<u64> },
    /// To `Entries`: what was asked for, packed, and who leads.
    Entries { packed: Vec<u8>, term: u64, leader: Option<u64> },
    /// To `Entries`: the log begins later. A state is needed.
    Purged,
    /// To `Rows`: a value for each key.
    Values(Vec<Option<Vec<u8>>>),
    /// To `Rows`: keys and values, and whether there may be more behind them.
    Rows { rows: Vec<(Vec<u8>, Vec<u8>)>, is_more: bool },
}

/// Entries as an observer gets them.
pub(crate) fn pack_entries(entries: &[RaftEntry]) -> Vec<u8> {
    let packed: Vec<_> =
        entries.iter().map(|entry| (LogIdBytes::from(&entry.log_id), payload_bytes(&entry.payload))).collect();
    postcard::to_extend(&packed, Vec::new()).expect("plain data can always be encoded")
}

/// What was packed.
pub(crate) fn unpack_entries(packed: &[u8]) -> Result<Vec<RaftEntry>, FrameError> {
    let packed: Vec<(LogIdBytes, PayloadBytes<'_>)> =
        postcard::from_bytes(packed).map_err(|_| FrameError::Malformed)?;
    let entry = |(log_id, payload): (LogIdBytes, PayloadBytes<'_>)| {
        Ok(RaftEntry { log_id: log_id.into(), payload: payload_of(payload)? })
    };
    packed.into_iter().map(entry).collect()
}

/// Raft's append request as it is sent.
#[derive(Serialize, Deserialize)]
pub(crate) struct AppendBytes<'a> {
    vote: VoteBytes,
    previous: Option<LogIdBytes>,
    entries: Vec<(LogIdBytes, PayloadBytes<'a>)>,
    commit: Option<LogIdBytes>,
}

/// Raft's vote request as it is sent.
#[derive(Serialize, Deserialize)]
pub(crate) struct VoteAsked {
    vote: VoteBytes,
    last_log_id: Option<LogIdBytes>,
    is_transfer: bool,
}

/// Raft's append response as it is sent.
#[derive(Serialize, Deserialize)]
pub(crate) enum Appended {
    Success,
    PartialSuccess(Option<LogIdBytes>),
    Conflict,
    HigherVote(VoteBytes),
}

impl<'a> From<&'a AppendEntriesRequest<TypeConfig>> for AppendBytes<'a> {
    fn from(request: &'a AppendEntriesRequest<TypeConfig>) -> AppendBytes<'a> {
        let entry = |entry: &'a RaftEntry| (LogIdBytes::from(&entry.log_id), payload_bytes(&entry.payload));
        AppendBytes {
            vote: VoteBytes::from(&request.vote),
            previous: request.prev_log_id.as_ref().map(LogIdBytes::from),
            entries: request.entries.iter().map(entry).collect(),
            commit: request.leader_commit.as_ref().map(LogIdBytes::from),
        }
    }
}

impl AppendBytes<'_> {
    /// What raft takes.
    pub(crate) fn request(self) -> Result<AppendEntriesRequest<TypeConfig>, FrameError> {
        let entry = |(log_id, payload): (LogIdBytes, PayloadBytes<'_>)| {
            Ok(RaftEntry { log_id: log_id.into(), payload: payload_of(payload)? })
        };
        Ok(AppendEntriesRequest {
            vote: self.vote.into(),
            prev_log_id: self.previous.map(Into::into),
            entries: self.entries.into_iter().map(entry).collect::<Result<_, FrameError>>()?,
            leader_commit: self.commit.map(Into::into),
        })
    }
}

impl From<&VoteRequest<TypeConfig>> for VoteAsked {
    fn from(request: &VoteRequest<TypeConfig>) -> VoteAsked {
        VoteAsked {
            vote: VoteBytes::from(&request.vote),
            last_log_id: request.last_log_id.as_ref().map(LogIdBytes::from),
            is_transfer: request.leadership_transfer,
        }
    }
}

impl From<VoteAsked> for VoteRequest<TypeConfig> {
    fn from(asked: VoteAsked) -> VoteRequest<TypeConfig> {
        let mut request = VoteRequest::new(asked.vote.into(), asked.last_log_id.map(Into::into));
        request.leadership_transfer = asked.is_transfer;
        request
    }
}

impl From<AppendEntriesResponse<TypeConfig>> for Appended {
    fn from(response: AppendEntriesResponse<TypeConfig>) -> Appended {
        match response {
            AppendEntriesResponse::Success => Appended::Success,
            AppendEntriesResponse::PartialSuccess(matching) => {
                Appended::PartialSuccess(matching.as_ref().map(LogIdBytes::from))
            }
            AppendEntriesResponse::Conflict => Appended::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Appended::HigherVote(VoteBytes::from(&vote)),
        }
    }
}

impl From<VoteResponse<TypeConfig>> for Reply {
    fn from(response: VoteResponse<TypeConfig>) -> Reply {
        Reply::Vote {
            vote: VoteBytes::from(&response.vote),
            granted: response.vote_granted,
            last_log_id: response.last_log_id.as_ref().map(LogIdBytes::from),
        }
    }
}

impl<'a> From<&TransferLeaderRequest<TypeConfig>> for Request<'a> {
    fn from(request: &TransferLeaderRequest<TypeConfig>) -> Request<'a> {
        Request::TransferLeader {
            from_leader: VoteBytes::from(request.from_leader()),
            to: *request.to_node_id(),
            last_log_id: request.last_log_id().map(LogIdBytes::from),
        }
    }
}

// Frames on a connection.

/// A message and the number that its reply carries.
pub(crate) fn numbered(id: u64, message: &impl Serialize) -> Vec<u8> {
    seal(&(id, message))
}

/// Reads frames from one side of a connection.
pub(crate) struct FrameReader<R> {
    from: R,
    bytes: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(from: R) -> FrameReader<R> {
        FrameReader { from, bytes: BytesMut::new() }
    }

    /// The next message, of at most so many bytes; `None` when the other side has closed the connection between two of them.
    /// Dropped half way, it loses nothing.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self, bytes_max: usize) -> io::Result<Option<T>> {
        loop {
            if let Some(length) = self.length(bytes_max)?
                && self.bytes.len() >= length
            {
                let frame = self.bytes.split_to(length);
                let message = open(&frame);
                return message.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
            }
            // What a length promises is believed as its bytes come.
            self.bytes.reserve(READ_BYTES);
            if self.from.read_buf(&mut self.bytes).await? == 0 {
                return if self.bytes.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// How long the frame is that comes next, once that can be told.
    fn length(&self, bytes_max: usize) -> io::Result<Option<usize>> {
        let Some(head) = self.bytes.first_chunk::<FRAME_HEAD>() else { return Ok(None) };
        let body = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if body > bytes_max {
            let what = format!("a message of {body} bytes; {bytes_max} are the most");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(Some(FRAME_HEAD + body + FRAME_TAIL))
    }
}
