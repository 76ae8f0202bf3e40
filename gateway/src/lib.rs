//! The gateway talks: JSON, HTTP, WebSocket and API keys are known here and nowhere else.
//!
//! It never touches the engine: it asks through the lanes and the sequencer, and hears through the feed.
//!
//! Modules in the order of an order's road.

pub mod config;
pub mod gateway_settings;
pub mod settings;
pub mod backend;
pub mod app;
pub mod place;
pub mod serve;
pub mod bootstrap;
pub mod request_line;
pub mod server;
pub mod tls;
pub mod edge;
pub mod access_log;
pub mod logging;
pub mod body;
pub mod params;
pub mod public_keys;
pub mod secrets;
pub mod passwords;
pub mod tokens;
pub mod login;
pub mod auth;
pub mod client_address;
pub mod token_bucket;
pub mod rate_limit;
pub mod lanes;
pub mod answered;
pub mod clock;
pub mod decimals;
pub mod wire;
pub mod stages;
pub mod traces;
pub mod rest;
pub mod description;
pub mod audit;
pub mod feed;
pub mod views;
pub mod klines;
pub mod ws;
pub mod web;
pub mod rejects;
pub mod thread_times;
pub mod samples;
pub mod metrics;
pub mod cluster_metrics;
pub mod gateway_metrics;
pub mod gateway_cli;
pub mod stage_metrics;
pub mod push;
pub mod admin;

// The programs that come with the exchange; they know of it what any client knows.
pub mod client;
pub mod book_sync;
pub mod recorded;
pub mod outside;
pub mod feed_cli;
pub mod replay;
pub mod demo;
pub mod demo_market;
pub mod sim;
pub mod journal_cli;
pub mod cluster_cli;
pub mod top;

#[cfg(test)]
mod testing;
