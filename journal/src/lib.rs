//! The journal orders and keeps. It lays commands into one line, keeps that line on disk through raft, lets the engine
//! decide each command in its turn, and publishes what happened. One node is a cluster of one: the same road.
//!
//! Invariants: it knows no JSON, no HTTP and no subscriber; a command is answered only after it is durable; the engine
//! has one owner, and everything that reaches it went through the log; every queue is bounded.
//!
//! Modules in reading order.

pub mod record;
pub mod candle;
pub mod histogram;
pub mod timings;
mod format;
pub mod open_files;
pub mod memory;
mod database;
mod opening;
mod record_file;
mod database_manifest;
mod write_ahead_log;
pub mod cluster;
mod stats;
pub mod sequencer;
pub mod node;
pub mod bare;
mod space;
mod identity;
mod log_store;
mod log_memory;
mod log_writer;
mod log_room;
mod log_purge;
mod log_disk;
mod log_chain;
mod origins;
mod compensation;
mod founding;
mod fence;
mod retention;
mod durable_mark;
pub mod transport;
mod tls;
pub mod state_hash;
mod standing;
mod message;
mod acquaintance;
mod link;
mod snapshot_transfer;
mod network;
mod observation;
mod breaker;
mod balance;
mod nodes;
mod proposer;
mod leader;
mod member;
mod leadership;
mod gossip;
mod peer_server;
mod cluster_client;
mod engine_thread;
mod answering;
mod state_machine;
mod snapshot_decoding;
mod snapshot_file;
mod snapshot_builder;
pub mod open_orders;
mod backlog;
mod row_buffer;
mod recent_rows;
mod history_source;
mod remote_history;
mod history_upgrade;
mod history_batch;
pub mod history;
mod history_tables;
mod candle_filing;
mod history_writer;
pub mod candle_reading;
mod sweeper;
mod observer;
mod failure;
mod queue;
mod runtime;
mod task_thread;
#[cfg(test)]
mod simulation;
pub mod recovery;

pub use answering::Answering;
pub use balance::Balance;
pub use bare::Bare;
pub use breaker::{BreakerConfig, BreakerState};
pub use candle::{Candle, Grain};
pub use candle_reading::CandleReader;
pub use cluster::{Change, ClusterConfig, ClusterStatus, MemberStatus, Role, TlsFiles};
pub use cluster_client::ClusterClient;
pub use compensation::{CompensationError, compensate};
pub use engine_thread::{FEW_COMMANDS, rehearse};
pub use failure::StartError;
pub use format::{list_number, list_of_number};
pub use histogram::{Counts, Histogram};
pub use history::{AccountTrade, Amendment, FiledList, FiledPrevention, History, HistoryError, HistoryLag, Page};
pub use identity::adopt;
pub use node::{Node, NodeConfig, Recovery};
pub use nodes::{NodeSeen, NodesConfig};
pub use observer::{Observer, ObserverConfig};
pub use open_orders::{KnownOrder, OpenOrders, symbol_of};
pub use queue::{Consumer, Receiver};
pub use record::{
    Answer, Applied, Caller, Compensation, Entry, MarketTrade, Origin, Published, Restored, execution_id,
};
pub use sequencer::{Sequencer, SubmitError};
pub use space::SpaceConfig;
pub use stats::{QueueDepth, Queues, Stats};
pub use sweeper::HistoryDays;
pub use timings::{Road, Timings};
