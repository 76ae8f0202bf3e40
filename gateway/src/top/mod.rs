//! `rialto top`: a running node in a terminal. It shows the overview that the console shows, and acts as `rialto admin` does;
//! books and trades it reads as any client does.
//!
//! Modules in reading order.

pub mod overview;
pub mod numbers;
pub mod state;
pub mod keys;
pub mod screen;
pub mod panes;
mod watch;
pub mod terminal;
pub mod cli;
