//! What a node takes from the world besides disk and network: tasks, threads to block on, the time of day. It is taken here
//! and nowhere else, so that the simulation can put its own in the place of each.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::Time;
use tokio::task::JoinHandle;

/// A task of this node.
pub(crate) fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task)
}

/// Runs what may block on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// Something was put into a queue that a thread reads: nothing to do where there are threads.
pub(crate) fn handed_over() {}

/// The clock, in microseconds since 1970.
pub(crate) fn now() -> Time {
    Time(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64))
}
