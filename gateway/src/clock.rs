//! The wall clock: for the `E` of events, for cadences and for the end of windows. What is decided goes by sequence time.

use std::time::{SystemTime, UNIX_EPOCH};

use engine::Time;

/// Now.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
