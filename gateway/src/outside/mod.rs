//! Venues outside: their streams followed, their prices and books brought in. What `rialto feed` does.
//!
//! Everything here is a client of both sides: it hears the outside venue on its public streams, and asks the exchange over its
//! public sockets, with a key of its own. Nothing that comes from outside is believed: what cannot be read is counted, and
//! what comes faster than it can be passed on is conflated, so nothing grows.

pub mod connection;
pub mod price;
pub mod source;
pub mod backoff;
pub mod follow;
pub mod ladder;
pub mod mirror;
