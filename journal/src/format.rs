//! What stands on disk, all of it: column families, keys, values, frames, and the version of the whole.
//!
//! A value is in a frame (version, length, body in postcard's encoding, CRC-32C) wherever a flipped bit must be found by
//! us; history's rows, which can be written again from the log, are not. A release reads what the release before it wrote:
//! [`DATA_FORMAT`] counts the changes, `opening.rs` makes them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::event::ExpiryReason;
use engine::order::{ClientOrderId, OrderStatus, OrderType, SelfTradePrevention, Side, Special, TimeInForce};
use engine::units::{OrderListId, PreventedMatchId};
use engine::{Amount, Order, OrderId, Price, Quantity, Sequence, SymbolId, Time, TradeId, Uid};
use openraft::alias::LeaderIdOf;
use openraft::{BasicNode, EntryPayload, Membership};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::candle::{Candle, Grain};
use crate::open_orders::KnownOrder;
use crate::origins::Origins;
use crate::record::{Compensation, Entry, LogId, MarketTrade, Origin, Payload, Proposal, RaftEntry, TypeConfig, Vote};

/// The version of a data directory that this program writes.
pub(crate) const DATA_FORMAT: u32 = 5;

// Column families.

/// The log: [`log_key`] -> [`encode_log_entry`].
pub(crate) const LOG: &str = "log";
/// What must be remembered beside the log; the keys follow.
pub(crate) const META: &str = "meta";
/// Orders, trades, lists of the past; the keys stand below.
pub(crate) const HISTORY: &str = "history";

// Keys of the log and of meta.

/// A log entry's key: its index in eight big-endian bytes.
pub(crate) fn log_key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

/// -> [`DATA_FORMAT`] of the program that last wrote here; version 2 had none.
pub(crate) const FORMAT_KEY: &[u8] = b"format";
/// -> [`VoteBytes`].
pub(crate) const VOTE_KEY: &[u8] = b"vote";
/// The last entry that was purged and its link -> `(LogIdBytes, Link)`.
pub(crate) const PURGED_KEY: &[u8] = b"purged";
/// What the keys of other nodes start with.
pub(crate) const ACQUAINTANCES: &[u8] = b"node";
/// Another node -> the incarnation of its directory, `u64`.
pub(crate) fn acquaintance_key(node: u64) -> Vec<u8> {
    [ACQUAINTANCES, &node.to_be_bytes()].concat()
}

/// The index of the last log entry whose change of the members is in what is known of other nodes -> `u64`.
pub(crate) const ACQUAINTED_KEY: &[u8] = b"acquainted";

/// How often this node was started -> `u64`.
pub(crate) const BOOT_KEY: &[u8] = b"boot";

// Frames.

/// The version of every frame that this program writes, and the only one it reads.
const FRAME_VERSION: u8 = 2;
/// Bytes before the body: version and length.
pub(crate) const FRAME_HEAD: usize = 1 + 4;
/// Bytes behind it: the checksum.
pub(crate) const FRAME_TAIL: usize = 4;

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
    let body = body_of_first(bytes)?;
    let value = postcard::from_bytes(body).map_err(|_| FrameError::Malformed)?;
    Ok((value, FRAME_HEAD + body.len() + FRAME_TAIL))
}

/// What the frame holds that `bytes` start with, checked.
fn body_of_first(bytes: &[u8]) -> Result<&[u8], FrameError> {
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
    Ok(&framed[FRAME_HEAD..])
}

/// The SHA-256 of a log entry's frame. Each frame holds the link of the one before it: that is the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link(pub(crate) [u8; 32]);

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

/// What a log entry carries, as it is written and sent.
#[derive(Serialize, Deserialize)]
pub(crate) enum PayloadBytes<'a> {
    Blank,
    Commands { origin: Origin, entry: Cow<'a, Entry> },
    Membership(MembershipBytes),
    Compensation(Cow<'a, Compensation>),
}

/// What [`PayloadBytes::Compensation`] starts with in postcard's encoding.
const COMPENSATION_TAG: u8 = 3;

/// What stands at the head of a log entry, found in its frame.
#[derive(Debug)]
pub(crate) struct LogEntryHead {
    pub log_id: LogId,
    /// The link that it says the entry before it has.
    pub previous: Link,
    /// Its own.
    pub link: Link,
    /// Whether it is a ruling on a command before it.
    pub is_compensation: bool,
}

/// Checks the frame of a log entry and reads its head alone.
pub(crate) fn check_log_entry(bytes: &[u8]) -> Result<LogEntryHead, FrameError> {
    let body = body_of_first(bytes)?;
    if FRAME_HEAD + body.len() + FRAME_TAIL != bytes.len() {
        return Err(FrameError::Length);
    }
    // The first fields of `LogEntryBytes`.
    let ((previous, log_id), payload) =
        postcard::take_from_bytes::<(Link, LogIdBytes)>(body).map_err(|_| FrameError::Malformed)?;
    let is_compensation = payload.first() == Some(&COMPENSATION_TAG);
    Ok(LogEntryHead { log_id: log_id.into(), previous, link: Link::of(bytes), is_compensation })
}

/// Whether a frame, if it is whole, is that of a ruling: for whoever looks for rulings alone.
pub(crate) fn seems_compensation(bytes: &[u8]) -> bool {
    let head = bytes.get(FRAME_HEAD + size_of::<Link>()..);
    let payload = head.and_then(|head| postcard::take_from_bytes::<LogIdBytes>(head).ok());
    payload.is_some_and(|(_, payload)| payload.first() == Some(&COMPENSATION_TAG))
}

/// The bytes of a log entry that follows one with the link `previous`, and its own link.
pub(crate) fn encode_log_entry(entry: &RaftEntry, previous: Link) -> (Vec<u8>, Link) {
    let payload = payload_bytes(&entry.payload);
    let frame = seal(&LogEntryBytes { previous, log_id: LogIdBytes::from(&entry.log_id), payload });
    let link = Link::of(&frame);
    (frame, link)
}

/// The log entry from the bytes of [`encode_log_entry`].
pub(crate) fn decode_log_entry(bytes: &[u8]) -> Result<RaftEntry, FrameError> {
    let found: LogEntryBytes<'static> = open(bytes)?;
    Ok(RaftEntry { log_id: found.log_id.into(), payload: payload_of(found.payload)? })
}

/// What an entry carries, to be written or sent.
pub(crate) fn payload_bytes(payload: &Payload) -> PayloadBytes<'_> {
    match payload {
        EntryPayload::Blank => PayloadBytes::Blank,
        EntryPayload::Normal(Proposal::Commands { origin, entry }) => {
            PayloadBytes::Commands { origin: *origin, entry: Cow::Borrowed(entry) }
        }
        EntryPayload::Normal(Proposal::Compensation(ruling)) => PayloadBytes::Compensation(Cow::Borrowed(ruling)),
        EntryPayload::Membership(membership) => PayloadBytes::Membership(MembershipBytes::from(membership)),
    }
}

/// What an entry carries, from what was written or sent.
pub(crate) fn payload_of(bytes: PayloadBytes<'_>) -> Result<Payload, FrameError> {
    Ok(match bytes {
        PayloadBytes::Blank => EntryPayload::Blank,
        PayloadBytes::Commands { origin, entry } => {
            EntryPayload::Normal(Proposal::Commands { origin, entry: Arc::new(entry.into_owned()) })
        }
        PayloadBytes::Compensation(ruling) => {
            EntryPayload::Normal(Proposal::Compensation(Arc::new(ruling.into_owned())))
        }
        PayloadBytes::Membership(membership) => EntryPayload::Membership(membership.try_into()?),
    })
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

/// What stands before the state in a snapshot file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotHeader {
    pub last_log_id: Option<LogIdBytes>,
    pub membership_log_id: Option<LogIdBytes>,
    pub membership: MembershipBytes,
    pub sequence: Sequence,
    pub body_length: u64,
    /// SHA-256 of the body, which is the state's hash too.
    pub state_hash: [u8; 32],
    pub origins: Origins,
}

/// A [`SnapshotHeader`] as data format 3 wrote it.
#[derive(Deserialize)]
struct SnapshotHeader3 {
    last_log_id: Option<LogIdBytes>,
    membership_log_id: Option<LogIdBytes>,
    membership: MembershipBytes,
    sequence: Sequence,
    body_length: u64,
    state_hash: [u8; 32],
}

/// The header that a snapshot file starts with, and how long it is.
pub(crate) fn open_snapshot_header(bytes: &[u8]) -> Result<(SnapshotHeader, usize), FrameError> {
    match open_first(bytes) {
        Err(FrameError::Malformed) => {}
        found => return found,
    }
    let (old, length) = open_first::<SnapshotHeader3>(bytes)?;
    let header = SnapshotHeader {
        last_log_id: old.last_log_id,
        membership_log_id: old.membership_log_id,
        membership: old.membership,
        sequence: old.sequence,
        body_length: old.body_length,
        state_hash: old.state_hash,
        origins: Origins::unknown(),
    };
    Ok((header, length))
}

// History: keys and values, side by side. Numbers in keys are big-endian, so the order of keys is the order of ids. Values that
// start with a time start with its eight big-endian bytes.

/// What a stored value of postcard's encoding starts with.
pub(crate) const VALUE_VERSION: u8 = 2;

/// What the keys of orders start with: the first byte of a key says what its row is.
pub(crate) const ORDER_ROWS: u8 = b'u';
/// What the keys of trades start with.
pub(crate) const TRADE_ROWS: u8 = b't';
/// What the keys start with by which trades are found by their user.
const USER_TRADE_ROWS: u8 = b'a';
/// What the keys of prevented matches start with.
pub(crate) const PREVENTED_ROWS: u8 = b'p';
/// What the keys of order lists start with.
pub(crate) const LIST_ROWS: u8 = b'l';
/// What the keys of candles start with that were made from trades.
pub(crate) const CANDLE_ROWS: u8 = b'k';
/// What the keys of candles start with that were imported.
pub(crate) const IMPORTED_ROWS: u8 = b'i';
/// What the keys of imports start with.
pub(crate) const IMPORT_ROWS: u8 = b'j';

/// -> a sealed `Sequence`: the last one that history holds.
pub(crate) const WATERMARK_KEY: &[u8] = b"w";

/// -> a sealed version: candles are kept, of every trade that history holds.
pub(crate) const CANDLES_KEY: &[u8] = b"z";
/// The version that [`CANDLES_KEY`] says.
pub(crate) const CANDLES_VERSION: u32 = 1;

/// [`CANDLE_ROWS`] or [`IMPORTED_ROWS`], symbol, length, opening -> [`encode_candle`].
pub(crate) fn candle_key(kind: u8, symbol: SymbolId, grain: Grain, open_time: Time) -> Vec<u8> {
    [candle_rows(kind, symbol, grain).as_slice(), &open_time.0.to_be_bytes()].concat()
}

/// The keys of one symbol's candles of one length.
pub(crate) fn candle_rows(kind: u8, symbol: SymbolId, grain: Grain) -> Vec<u8> {
    [[kind].as_slice(), &symbol.0.to_be_bytes(), &[grain as u8]].concat()
}

/// What a candle's key says: the symbol, the length, the opening. `None` when it is none.
pub(crate) fn candle_of_key(key: &[u8]) -> Option<(SymbolId, Grain, Time)> {
    let rest = key.strip_prefix(&[CANDLE_ROWS]).or_else(|| key.strip_prefix(&[IMPORTED_ROWS]))?;
    let (symbol, rest) = rest.split_first_chunk()?;
    let (grain, open_time) = rest.split_first()?;
    let open_time = Time(u64::from_be_bytes(open_time.try_into().ok()?));
    let grain = Grain::ALL.get(usize::from(*grain)).copied()?;
    (grain.floor(open_time) == open_time).then_some((SymbolId(u32::from_be_bytes(*symbol)), grain, open_time))
}

/// number -> `ImportedCandles`.
pub(crate) fn import_key(number: u64) -> Vec<u8> {
    [[IMPORT_ROWS].as_slice(), &number.to_be_bytes()].concat()
}

/// user, symbol, order id -> time of creation, [`encode_order`]: its latest state.
pub(crate) fn order_key(uid: Uid, symbol: SymbolId, order_id: OrderId) -> [u8; 21] {
    user_key(ORDER_ROWS, uid, symbol, order_id.0)
}

/// user, symbol, client order id -> the id of the most recent order of that name.
pub(crate) fn client_id_key(uid: Uid, symbol: SymbolId, client_order_id: &ClientOrderId) -> Vec<u8> {
    [user_rows(b'c', uid, symbol).as_slice(), client_order_id.as_str().as_bytes()].concat()
}

/// user, symbol, trade id, whether as maker -> time, the user's order id.
pub(crate) fn user_trade_key(uid: Uid, symbol: SymbolId, trade_id: TradeId, is_maker: bool) -> [u8; 22] {
    let mut key = [is_maker.into(); 22];
    key[..21].copy_from_slice(&user_key(USER_TRADE_ROWS, uid, symbol, trade_id.0));
    key
}

/// symbol, trade id -> time, `(Sequence, Trade)`.
pub(crate) fn trade_key(symbol: SymbolId, trade_id: TradeId) -> [u8; 13] {
    let mut key = [TRADE_ROWS; 13];
    key[1..5].copy_from_slice(&symbol.0.to_be_bytes());
    key[5..].copy_from_slice(&trade_id.0.to_be_bytes());
    key
}

/// symbol, prevented match id -> time, `PreventedMatch`.
pub(crate) fn prevented_key(symbol: SymbolId, id: PreventedMatchId) -> Vec<u8> {
    [[PREVENTED_ROWS].as_slice(), &symbol.0.to_be_bytes(), &id.0.to_be_bytes()].concat()
}

/// user, symbol, order id, prevented match id -> time.
pub(crate) fn user_prevented_key(uid: Uid, symbol: SymbolId, order_id: OrderId, id: PreventedMatchId) -> Vec<u8> {
    [prevented_rows(uid, symbol, order_id).as_slice(), &id.0.to_be_bytes()].concat()
}

/// symbol, order id, execution id -> time, `Amendment`.
pub(crate) fn amendment_key(symbol: SymbolId, order_id: OrderId, execution_id: u64) -> Vec<u8> {
    [amendment_rows(symbol, order_id).as_slice(), &execution_id.to_be_bytes()].concat()
}

/// user, list number -> time, `OrderList`, its latest state.
pub(crate) fn list_key(uid: Uid, number: u64) -> Vec<u8> {
    [list_rows(uid).as_slice(), &number.to_be_bytes()].concat()
}

/// user, time of creation, list number -> that time. Lists are numbered by symbol, so their numbers do not follow time.
pub(crate) fn list_time_key(uid: Uid, created_at: Time, number: u64) -> Vec<u8> {
    [list_time_rows(uid).as_slice(), &created_at.0.to_be_bytes(), &number.to_be_bytes()].concat()
}

/// user, list client order id -> the number of the most recent list of that name.
pub(crate) fn list_name_key(uid: Uid, name: &ClientOrderId) -> Vec<u8> {
    [b"n".as_slice(), &uid.0.to_be_bytes(), name.as_str().as_bytes()].concat()
}

pub(crate) fn order_rows(uid: Uid, symbol: SymbolId) -> Vec<u8> {
    user_rows(ORDER_ROWS, uid, symbol)
}

pub(crate) fn user_trade_rows(uid: Uid, symbol: SymbolId) -> Vec<u8> {
    user_rows(USER_TRADE_ROWS, uid, symbol)
}

pub(crate) fn prevented_rows(uid: Uid, symbol: SymbolId, order_id: OrderId) -> Vec<u8> {
    [user_rows(b'q', uid, symbol).as_slice(), &order_id.0.to_be_bytes()].concat()
}

pub(crate) fn amendment_rows(symbol: SymbolId, order_id: OrderId) -> Vec<u8> {
    [b"e".as_slice(), &symbol.0.to_be_bytes(), &order_id.0.to_be_bytes()].concat()
}

pub(crate) fn list_rows(uid: Uid) -> Vec<u8> {
    [[LIST_ROWS].as_slice(), &uid.0.to_be_bytes()].concat()
}

pub(crate) fn list_time_rows(uid: Uid) -> Vec<u8> {
    [b"m".as_slice(), &uid.0.to_be_bytes()].concat()
}

fn user_key(kind: u8, uid: Uid, symbol: SymbolId, id: u64) -> [u8; 21] {
    let mut key = [kind; 21];
    key[1..9].copy_from_slice(&uid.0.to_be_bytes());
    key[9..13].copy_from_slice(&symbol.0.to_be_bytes());
    key[13..].copy_from_slice(&id.to_be_bytes());
    key
}

fn user_rows(kind: u8, uid: Uid, symbol: SymbolId) -> Vec<u8> {
    [[kind].as_slice(), &uid.0.to_be_bytes(), &symbol.0.to_be_bytes()].concat()
}

pub(crate) fn trade_rows(symbol: SymbolId) -> Vec<u8> {
    [[TRADE_ROWS].as_slice(), &symbol.0.to_be_bytes()].concat()
}

/// Bits of a list's public number that are its symbol's.
const LIST_SYMBOL_BITS: u32 = 20;

/// The public number of a list. Clients name lists without their symbol, and the engine counts them within one.
pub fn list_number(symbol: SymbolId, id: OrderListId) -> u64 {
    id.0 << LIST_SYMBOL_BITS | u64::from(symbol.0)
}

/// The symbol and list of a public number.
pub fn list_of_number(number: u64) -> (SymbolId, OrderListId) {
    let symbol = number & ((1 << LIST_SYMBOL_BITS) - 1);
    (SymbolId(symbol as u32), OrderListId(number >> LIST_SYMBOL_BITS))
}

pub(crate) fn encode(head: &[u8], value: &impl Serialize) -> Vec<u8> {
    let mut bytes = head.to_vec();
    encode_into(&mut bytes, value);
    bytes
}

fn encode_into(bytes: &mut Vec<u8>, value: &impl Serialize) {
    bytes.push(VALUE_VERSION);
    postcard::serialize_with_flavor(value, Appending(bytes)).expect("plain data can always be encoded");
}

/// Has postcard write behind what is there already, piece by piece instead of byte by byte.
struct Appending<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appending<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (version, value) = bytes.split_first()?;
    if *version == VALUE_VERSION { postcard::from_bytes(value).ok() } else { None }
}

/// A value behind its time.
pub(crate) fn encode_timed(bytes: &mut Vec<u8>, time: Time, value: &impl Serialize) {
    bytes.extend_from_slice(&time.0.to_be_bytes());
    encode_into(bytes, value);
}

pub(crate) fn decode_timed<T: DeserializeOwned>(bytes: &[u8]) -> Option<(Time, T)> {
    let (time, rest) = bytes.split_first_chunk()?;
    Some((Time(u64::from_be_bytes(*time)), decode(rest)?))
}

/// What the row of an order holds beside what its key says and when it was made: what was asked, what became of it, how much
/// later that was, and what most orders do not have.
type OrderBytes<S> = (
    (ClientOrderId, Side, OrderType, TimeInForce, SelfTradePrevention),
    (Price, Quantity, Amount),
    (Quantity, Amount, OrderStatus, u64),
    (S, Option<PreventedMatchId>, Option<ExpiryReason>),
);

pub(crate) fn encode_order(bytes: &mut Vec<u8>, known: &KnownOrder) {
    let KnownOrder { order, prevented_match, expiry } = known;
    let asked = (order.client_order_id, order.side, order.order_type, order.time_in_force, order.self_trade_prevention);
    let later = order.updated_at.0.wrapping_sub(order.created_at.0);
    let value: OrderBytes<&Option<Box<Special>>> = (
        asked,
        (order.price, order.quantity, order.quote_order_quantity),
        (order.executed, order.cumulative_quote, order.status, later),
        (&order.special, *prevented_match, *expiry),
    );
    encode_timed(bytes, order.created_at, &value);
}

/// The order of a row; `None` for a row that is none.
pub(crate) fn decode_order(key: &[u8], value: &[u8]) -> Option<KnownOrder> {
    let key: &[u8; 21] = key.try_into().ok()?;
    let (created_at, value) = decode_timed::<OrderBytes<Option<Box<Special>>>>(value)?;
    let ((client_order_id, side, order_type, time_in_force, self_trade_prevention), limits, became, beside) = value;
    let ((price, quantity, quote_order_quantity), (executed, cumulative_quote, status, later)) = (limits, became);
    let (special, prevented_match, expiry) = beside;
    let order = Order {
        order_id: OrderId(number_at(key, 13)?),
        symbol: SymbolId(u32::from_be_bytes(*key[9..].first_chunk()?)),
        uid: Uid(number_at(key, 1)?),
        client_order_id,
        side,
        order_type,
        time_in_force,
        self_trade_prevention,
        price,
        quantity,
        quote_order_quantity,
        executed,
        cumulative_quote,
        status,
        created_at,
        updated_at: Time(created_at.0.wrapping_add(later)),
        special,
    };
    (key[0] == ORDER_ROWS).then_some(KnownOrder { order, prevented_match, expiry })
}

pub(crate) fn encode_time_and_order(time: Time, order_id: OrderId) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&time.0.to_be_bytes());
    bytes[8..].copy_from_slice(&order_id.0.to_be_bytes());
    bytes
}

pub(crate) fn encode_trade(bytes: &mut Vec<u8>, trade: &MarketTrade) {
    encode_timed(bytes, trade.time, &(trade.sequence, trade.trade));
}

pub(crate) fn decode_trade(bytes: &[u8]) -> Option<MarketTrade> {
    let (time, (sequence, trade)) = decode_timed(bytes)?;
    Some(MarketTrade { time, sequence, trade })
}

/// A candle's prices, volumes, count and ids, in the order in which [`Candle`] has them.
type CandleBytes = ([Price; 4], [Amount; 4], [u64; 3]);

/// What a candle's row holds beside what its key says.
pub(crate) fn encode_candle(candle: &Candle) -> Vec<u8> {
    let Candle { open, high, low, close, .. } = *candle;
    let Candle { volume, quote_volume, taker_buy_volume, taker_buy_quote_volume, .. } = *candle;
    let volumes = [volume, quote_volume, taker_buy_volume, taker_buy_quote_volume];
    let counts = [candle.trade_count, candle.first_trade_id, candle.last_trade_id];
    let bytes: CandleBytes = ([open, high, low, close], volumes, counts);
    encode(&[], &bytes)
}

/// The candle of a row; `None` for a row that is none.
pub(crate) fn decode_candle(key: &[u8], value: &[u8]) -> Option<Candle> {
    let (_, grain, open_time) = candle_of_key(key)?;
    let (prices, volumes, counts): CandleBytes = decode(value)?;
    let ([open, high, low, close], [trade_count, first_trade_id, last_trade_id]) = (prices, counts);
    let [volume, quote_volume, taker_buy_volume, taker_buy_quote_volume] = volumes;
    let candle = Candle {
        open_time,
        end_time: grain.end(open_time),
        open,
        high,
        low,
        close,
        volume,
        quote_volume,
        taker_buy_volume,
        taker_buy_quote_volume,
        trade_count,
        first_trade_id,
        last_trade_id,
    };
    let in_range = |price: Price| (low..=high).contains(&price);
    (in_range(open) && in_range(close) && first_trade_id <= last_trade_id).then_some(candle)
}

pub(crate) fn number_at(bytes: &[u8], position: usize) -> Option<u64> {
    let (number, _) = bytes.get(position..)?.split_first_chunk()?;
    Some(u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use engine::Command;

    use super::*;

    pub(crate) fn log_id(index: u64) -> LogId {
        LogIdBytes { term: 3, node: 1, index }.into()
    }

    fn entries() -> Vec<RaftEntry> {
        let commands =
            vec![Command::OpenAccount { uid: Uid(7) }, Command::CancelAllOrders { uid: Uid(7), symbol: SymbolId(0) }];
        let origin = Origin { node: 1, boot: 2, ticket: 3 };
        let proposal = Proposal::Commands { origin, entry: Arc::new(Entry { time: Time(1_000_000), commands }) };
        let (operator, reason) = ("anna".into(), "it panics".into());
        let ruling = Compensation { sequence: Sequence(7), time: Time(2_000_000), operator, reason };
        let nodes = BTreeMap::from([(1, BasicNode::new("a:1")), (2, BasicNode::new("b:2"))]);
        let membership = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        vec![
            RaftEntry { log_id: log_id(4), payload: EntryPayload::Blank },
            RaftEntry { log_id: log_id(5), payload: EntryPayload::Normal(proposal) },
            RaftEntry { log_id: log_id(6), payload: EntryPayload::Membership(membership) },
            RaftEntry { log_id: log_id(7), payload: EntryPayload::Normal(Proposal::Compensation(Arc::new(ruling))) },
        ]
    }

    #[test]
    fn a_log_entry_comes_back_as_it_was() {
        let mut previous = Link::START;
        for entry in entries() {
            let (bytes, link) = encode_log_entry(&entry, previous);
            let head = check_log_entry(&bytes).unwrap();
            assert_eq!((head.log_id, head.previous, head.link), (entry.log_id, previous, link));
            let rules = matches!(entry.payload, EntryPayload::Normal(Proposal::Compensation(_)));
            assert_eq!(head.is_compensation, rules);
            let found = decode_log_entry(&bytes).unwrap();
            assert_eq!(found.log_id, entry.log_id);
            assert_eq!(format!("{:?}", found.payload), format!("{:?}", entry.payload));
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
                assert!(check_log_entry(&damaged).is_err(), "bit {bit}");
            }
            for length in 0..bytes.len() {
                assert!(decode_log_entry(&bytes[..length]).is_err(), "cut to {length}");
                assert!(check_log_entry(&bytes[..length]).is_err(), "cut to {length}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(decode_log_entry(&longer).unwrap_err(), FrameError::Length);
            assert_eq!(check_log_entry(&longer).unwrap_err(), FrameError::Length);
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

#[cfg(test)]
mod history_tests {
    use engine::AssetId;
    use engine::event::{Fill, Trade};

    use super::*;

    /// Numbers without a pattern, the same in every run.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.0 >> (self.0 >> 58)
        }

        fn order(&mut self) -> Order {
            Order {
                order_id: OrderId(self.next()),
                symbol: SymbolId(self.next() as u32),
                uid: Uid(self.next()),
                client_order_id: ClientOrderId::new(&format!("name-{}", self.next())).unwrap(),
                side: [Side::Buy, Side::Sell][self.next() as usize % 2],
                order_type: [OrderType::Limit, OrderType::Market, OrderType::LimitMaker][self.next() as usize % 3],
                time_in_force: TimeInForce::Ioc,
                price: Price(self.next()),
                quantity: Quantity(self.next()),
                quote_order_quantity: Amount(u128::from(self.next()) * u128::from(self.next())),
                executed: Quantity(self.next()),
                cumulative_quote: Amount(u128::from(self.next()) * u128::from(self.next())),
                status: OrderStatus::Expired,
                created_at: Time(self.next()),
                updated_at: Time(self.next()),
                self_trade_prevention: SelfTradePrevention::ExpireMaker,
                special: self.next().is_multiple_of(2).then(|| Box::new(self.special())),
            }
        }

        fn special(&mut self) -> Special {
            Special {
                stop_price: Some(Price(self.next())),
                trailing: Some((Price(self.next()), Time(self.next()))),
                prevented: Quantity(self.next()),
                strategy_id: Some(-(self.next() as i64 & 0xffff)),
                order_list_id: Some(OrderListId(self.next())),
                ..Special::default()
            }
        }

        fn fill(&mut self) -> Fill {
            Fill {
                order_id: OrderId(self.next()),
                uid: Uid(self.next()),
                fee: Amount(u128::from(self.next())),
                fee_asset: AssetId(self.next() as u32),
                executed: Quantity(self.next()),
                cumulative_quote: Amount(u128::from(self.next())),
                status: OrderStatus::PartiallyFilled,
            }
        }

        fn trade(&mut self) -> MarketTrade {
            let trade = Trade {
                symbol: SymbolId(self.next() as u32),
                trade_id: TradeId(self.next()),
                aggregate_id: self.next(),
                price: Price(self.next()),
                quantity: Quantity(self.next()),
                quote_amount: Amount(u128::from(self.next())),
                taker: self.fill(),
                maker: self.fill(),
                taker_side: Side::Sell,
            };
            MarketTrade { time: Time(self.next()), sequence: Sequence(self.next()), trade }
        }
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes);
        bytes
    }

    #[test]
    fn values_come_back_as_they_were() {
        let mut numbers = Numbers(1);
        for _ in 0..1_000 {
            let (order, trade) = (numbers.order(), numbers.trade());
            let known = KnownOrder { prevented_match: Some(PreventedMatchId(7)), ..order.clone().into() };
            let key = order_key(order.uid, order.symbol, order.order_id);
            assert_eq!(decode_order(&key, &written(|bytes| encode_order(bytes, &known))), Some(known));
            assert_eq!(decode_trade(&written(|bytes| encode_trade(bytes, &trade))), Some(trade));
            let row = encode_time_and_order(order.created_at, order.order_id);
            assert_eq!((number_at(&row, 0), number_at(&row, 8)), (Some(order.created_at.0), Some(order.order_id.0)));
        }
    }

    #[test]
    fn the_order_of_keys_is_the_order_of_ids() {
        let mut numbers = Numbers(2);
        for _ in 0..1_000 {
            let (uid, symbol, a, b) = (Uid(numbers.next()), SymbolId(7), numbers.next(), numbers.next());
            let expected = a.cmp(&b);
            let of = |id| order_key(uid, symbol, OrderId(id));
            assert_eq!(of(a).cmp(&of(b)), expected);
            assert_eq!(number_at(&of(a), order_rows(uid, symbol).len()), Some(a));
            assert_eq!(trade_key(symbol, TradeId(a)).cmp(&trade_key(symbol, TradeId(b))), expected);
            assert!(user_trade_key(uid, symbol, TradeId(a), false) < user_trade_key(uid, symbol, TradeId(a), true));
        }
    }

    #[test]
    fn a_list_is_found_by_its_public_number() {
        let (symbol, id) = (SymbolId(7), OrderListId(12_345_678));
        assert_eq!(list_of_number(list_number(symbol, id)), (symbol, id));
        assert!(list_number(SymbolId(9), OrderListId(1)) < list_number(SymbolId(0), OrderListId(2)));
    }

    #[test]
    fn a_candle_comes_back_from_its_row_and_no_other_key_is_a_candles() {
        let mut numbers = Numbers(3);
        for _ in 0..1_000 {
            let grain = Grain::ALL[numbers.next() as usize % 4];
            let open_time = grain.floor(Time(numbers.next()));
            let mut candle = Candle::flat(open_time, grain.end(open_time), Price(numbers.next()));
            candle.high = Price(candle.open.0.saturating_add(numbers.next()));
            candle.quote_volume = Amount(u128::from(numbers.next()) * u128::from(numbers.next()));
            candle.trade_count = numbers.next();
            candle.last_trade_id = numbers.next();
            let key = candle_key(CANDLE_ROWS, SymbolId(7), grain, open_time);
            assert_eq!(candle_of_key(&key), Some((SymbolId(7), grain, open_time)));
            assert_eq!(decode_candle(&key, &encode_candle(&candle)), Some(candle));
            assert_eq!(decode_candle(&key[1..], &encode_candle(&candle)), None);
            let between = candle_key(CANDLE_ROWS, SymbolId(7), Grain::Minute, Time(open_time.0 | 1));
            assert_eq!(decode_candle(&between, &encode_candle(&candle)), None);
            candle.low = Price(candle.high.0.saturating_add(1));
            assert_eq!(decode_candle(&key, &encode_candle(&candle)), None);
        }
    }

    #[test]
    fn damaged_values_are_not_read_as_something_else() {
        let key = order_key(Uid(1), SymbolId(2), OrderId(3));
        let other = user_trade_key(Uid(1), SymbolId(2), TradeId(3), false);
        let mut numbers = Numbers(4);
        let value = written(|bytes| encode_order(bytes, &numbers.order().into()));
        assert!(decode_order(&key, &value).is_some());
        assert_eq!(decode_order(&other[..21], &value), None);
        assert_eq!(decode_order(&other, &value), None);
        for length in 0..value.len() {
            assert_eq!(decode_order(&key, &value[..length]), None);
        }
        assert_eq!(decode_trade(&[0; 7]), None);
    }
}
