//! What operators do while the exchange runs: accounts, keys, transfers, symbols, users. Each thing done is commands in the log,
//! behind a note of who asked, from where and why; all of it in one entry.
//!
//! Modules in reading order.

pub mod action;
pub mod perform;
pub mod listener;
pub mod caller;
pub mod cli;
