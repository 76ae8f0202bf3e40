//! What the tests share: scenarios in text, real data found beside the checkout, seeded order flow, the slow and obvious
//! exchange, a real server process.

pub mod scenario;
pub mod shared_data;
pub mod order_flow;
pub mod reference_engine;
pub mod exchange;
