//! The whole state as plain data, to bytes and back, versioned; and its hash.
//!
//! Everything stands in a defined order, so equal states give equal bytes.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::command::{AddAsset, ApiKey};
use crate::order::Order;
use crate::symbol::Symbol;
use crate::units::{Amount, AssetId, Price, Sequence, Time, Uid};

/// The version of the bytes that [`Snapshot::encode`] writes.
pub const VERSION: u32 = 1;

/// The state of the engine after the command `sequence`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last command that is in it; 0 before the first.
    pub sequence: Sequence,
    /// The time of that command.
    pub time: Time,
    /// By asset id.
    pub assets: Vec<AssetState>,
    /// By symbol id.
    pub symbols: Vec<SymbolState>,
    /// By uid; the fee account is the first.
    pub accounts: Vec<AccountState>,
    /// By key.
    pub api_keys: Vec<ApiKey>,
    /// Transfers that took effect: uid and external id, in that order.
    pub transfers: Vec<(Uid, String)>,
}

/// An asset and how much of it is in the exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetState {
    /// Name and scale.
    pub asset: AddAsset,
    /// Deposits less withdrawals.
    pub supply: Amount,
}

/// A symbol, its counters and its book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SymbolState {
    /// As listed, with its status.
    pub symbol: Symbol,
    /// The last order id given; 0 before the first.
    pub last_order_id: u64,
    /// The last trade id given; 0 before the first.
    pub last_trade_id: u64,
    /// The last aggregate trade id given; 0 before the first.
    pub last_aggregate_id: u64,
    /// The last update id given; 0 before the first.
    pub last_update_id: u64,
    /// The price of the last trade.
    pub last_price: Option<Price>,
    /// Open buy orders, best price first, then by arrival.
    pub bids: Vec<Order>,
    /// Open sell orders, best price first, then by arrival.
    pub asks: Vec<Order>,
}

/// An account's balances, by asset id, zeros left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountState {
    /// The owner.
    pub uid: Uid,
    /// Asset, free, locked.
    pub balances: Vec<(AssetId, Amount, Amount)>,
}

/// Why bytes are not a snapshot.
#[derive(Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Written by another version of the format.
    Version(u32),
    /// Not the bytes of a snapshot.
    Malformed,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DecodeError::Version(found) => write!(f, "snapshot format {found}, this program reads {VERSION}"),
            DecodeError::Malformed => f.write_str("malformed snapshot"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl Snapshot {
    /// The state as bytes: the format version as four little-endian bytes, then the state in postcard's encoding.
    pub fn encode(&self) -> Vec<u8> {
        let head = VERSION.to_le_bytes().to_vec();
        postcard::to_extend(self, head).expect("plain data can always be encoded")
    }

    /// The state from the bytes that [`Snapshot::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Snapshot, DecodeError> {
        let (head, body) = bytes.split_first_chunk().ok_or(DecodeError::Malformed)?;
        match u32::from_le_bytes(*head) {
            VERSION => postcard::from_bytes(body).map_err(|_| DecodeError::Malformed),
            other => Err(DecodeError::Version(other)),
        }
    }

    /// The state's hash: SHA-256 of its bytes.
    pub fn hash(&self) -> StateHash {
        StateHash(Sha256::digest(self.encode()).into())
    }
}

/// What tells two states apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateHash(pub [u8; 32]);

impl std::fmt::Display for StateHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for StateHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}
