//! The promises of the public API to its clients, each held against a real server.

mod description;
mod errors;
mod isolation;
mod keys;
mod parsing;
mod surface;
