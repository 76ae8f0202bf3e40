//! The engine decides. It is a pure function: (state, time, command) -> (state, events).
//!
//! Invariants: it knows no clock, no randomness, no disk, no network and no thread; it iterates nothing unordered; it
//! uses no float. The same log gives the same state, byte for byte, on every machine. [`Engine::apply`] cannot fail:
//! a client's fault is an [`Event::Rejected`], our own fault is an assertion that stops the node.
//!
//! Modules in reading order.
#![deny(clippy::float_arithmetic, clippy::disallowed_types, clippy::disallowed_methods, clippy::disallowed_macros)]

pub mod command;
pub mod event;
pub mod units;
pub mod order;
pub mod symbol;
pub mod filter;
pub mod commission;
pub mod account;
pub mod access;
mod prefetch;
mod hashing;
mod hash_index;
mod key_index;
mod paged;
mod trader;
mod radix;
mod numbers;
mod book;
mod market;
mod gate;
mod checks;
mod placing;
mod plain;
mod preview;
mod matching;
mod sweep;
mod trigger;
pub mod quotes;
pub mod order_list;
mod changing;
pub mod average;
pub mod breaker;
mod timer;
pub mod once;
pub mod engine;
mod foresight;
mod bytes;
mod market_bytes;
pub mod snapshot_bytes;
pub mod snapshot;

pub use command::Command;
pub use engine::Engine;
pub use event::{Event, Rejection};
pub use order::Order;
pub use snapshot::Snapshot;
pub use units::{Amount, AssetId, OrderId, Price, Quantity, Sequence, SymbolId, Time, TradeId, Uid};
