//! What a node takes from the world besides disk and network: tasks, threads, the time of day. It is taken here and nowhere
//! else, so that the simulation (tests alone have it) can put its own in the place of each.

use std::io;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::Time;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task;

use crate::failure::Failure;
use crate::queue::{Consumer, Receiver, Sender};
#[cfg(test)]
use crate::simulation::Life;

/// The lowest priority that a thread can have.
pub(crate) const NICENESS_MAX: i32 = 19;

/// A task of this node.
pub(crate) fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> task::JoinHandle<T> {
    #[cfg(test)]
    if let Some(life) = Life::current() {
        return life.spawn(work);
    }
    tokio::spawn(work)
}

/// Runs what may block on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    #[cfg(test)]
    if Life::current().is_some() {
        return Ok(work());
    }
    task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// Runs what takes long on a thread of its own, which gives way to all others.
pub(crate) async fn giving_way<T: Send + 'static>(
    name: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) -> io::Result<T> {
    #[cfg(test)]
    if Life::current().is_some() {
        return Ok(work.await);
    }
    let (reply, done) = oneshot::channel();
    let runtime = Handle::current();
    let run = move || {
        give_way(NICENESS_MAX);
        let _ = reply.send(runtime.block_on(work));
    };
    std::thread::Builder::new().name(name.into()).spawn(run)?;
    done.await.map_err(|_| io::Error::other(format!("the thread {name} panicked")))
}

/// This thread gives way to those that are less nice. Linux takes that for the thread, not for its process.
pub(crate) fn give_way(niceness: i32) {
    // Where that is not allowed, it takes its share of the cores like all others.
    let _ = rustix::process::setpriority_process(None, niceness);
}

/// A thread that has `consumer` do one job after the other from `queue`.
pub(crate) fn thread<J: Send + 'static>(
    failure: &Failure,
    name: &'static str,
    describe: impl Fn() -> String + Send + 'static,
    queue: Receiver<J>,
    consumer: impl Consumer<J> + 'static,
) -> JoinHandle<()> {
    #[cfg(test)]
    if let Some(life) = Life::current() {
        life.take_jobs(failure.watch(describe), queue, consumer);
        return std::thread::spawn(|| ());
    }
    failure.spawn_described(name, describe, move || queue.serve(consumer))
}

/// Waits until there is room in a queue that a thread reads.
pub(crate) async fn send<T: Send + 'static>(queue: Sender<T>, item: T) -> io::Result<()> {
    #[cfg(test)]
    if Life::current().is_some() {
        return Life::send(&queue, item).await.map_err(io::Error::other);
    }
    blocking(move || queue.send(item)).await?.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// Something was put into a queue that a thread reads: nothing to do where there are threads.
pub(crate) fn handed_over() {
    #[cfg(test)]
    if let Some(life) = Life::current() {
        life.handed_over();
    }
}

/// The clock, in microseconds since 1970.
pub(crate) fn now() -> Time {
    #[cfg(test)]
    if let Some(life) = Life::current() {
        return life.now();
    }
    Time(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64))
}
