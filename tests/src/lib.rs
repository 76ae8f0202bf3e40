//! What the tests share: scenarios in text, real data found beside the checkout, seeded order flow, the slow and obvious
//! exchange, a real server, in a process of its own or in this one, or a cluster of them; load, faults, and what must be true
//! after them.

pub mod scenario;
pub mod shared_data;
pub mod order_flow;
pub mod prints;
pub mod reference_engine;
pub mod exchange;
pub mod server;
pub mod socket;
pub mod load;
pub mod witness;
pub mod data_folder;
pub mod sandbox;
pub mod cluster;
pub mod gateways;
pub mod network;
pub mod candle_oracle;
pub mod clients;
pub mod subscriber;
pub mod linearizability;
