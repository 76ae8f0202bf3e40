//! What operators see and do while the exchange runs: accounts, keys, transfers, symbols, users, sockets. Each thing that changes
//! the exchange is commands in the log, behind a note of who asked, from where and why; all of it in one entry.
//!
//! Modules in reading order.

pub mod action;
pub mod perform;
pub mod overview;
pub mod listener;
pub mod caller;
pub mod cli;
