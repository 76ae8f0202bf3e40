//! The journal orders and keeps. It lays commands into one line, keeps that line on disk through raft, lets the engine
//! decide each command in its turn, and publishes what happened. One node is a cluster of one: the same road.
//!
//! Invariants: it knows no JSON, no HTTP and no subscriber; a command is answered only after it is durable; the engine
//! has one owner, and everything that reaches it went through the log; every queue is bounded.
//!
//! Modules in reading order.

pub mod record;
mod format;
mod database;
pub mod sequencer;
pub mod node;
mod log_store;
mod durable_mark;
mod network;
mod state_machine;
mod snapshot_file;
pub mod open_orders;
pub mod history;
mod failure;

pub use failure::StartError;
pub use history::{
    AccountTrade, Amendment, FiledList, FiledPrevention, History, HistoryError, HistoryLag, MarketTrade, Page,
    list_number, list_of_number,
};
pub use node::{Node, NodeConfig, Stats};
pub use open_orders::{KnownOrder, OpenOrders, symbol_of};
pub use record::{Answer, Applied, Caller, Entry, Published, Restored, execution_id};
pub use sequencer::{Sequencer, SubmitError};
pub use state_machine::rehearse;
