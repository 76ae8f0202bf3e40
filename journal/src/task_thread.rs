//! The thread on which all tasks of a node run. They hand each entry from one to the next; on one thread that costs no call to
//! the system, no core is woken for it, and what the gateway does for its clients on other threads never stands before it.

use std::io;
use std::panic::resume_unwind;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, EnterGuard, Handle};
use tokio::sync::oneshot;

/// It runs until it is told to end; dropping the handle does not end it.
pub(crate) struct TaskThread {
    runtime: Handle,
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl TaskThread {
    /// Starts one that has nothing to do yet.
    pub(crate) fn start() -> io::Result<TaskThread> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let run = move || {
            runtime.block_on(async {
                if ended.await.is_err() {
                    std::future::pending::<()>().await;
                }
            });
            // Nobody waits for what is left.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("node".into()).spawn(run)?;
        Ok(TaskThread { runtime: handle, end, thread })
    }

    /// What is spawned while the guard lives runs there.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Runs this there, and whatever it spawns.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        match self.runtime.spawn(work).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(error) => unreachable!("nobody ends it meanwhile: {error}"),
            },
        }
    }

    /// Ends it, and what still runs there.
    pub(crate) async fn end(self) {
        // It is gone already when this fails.
        let _ = self.end.send(());
        let thread = self.thread;
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::thread::current;

    use super::*;

    #[tokio::test]
    async fn all_that_tasks_spawn_runs_on_the_one_thread() {
        let tasks = TaskThread::start().unwrap();
        let ids = tasks.run(async { (current().id(), tokio::spawn(async { current().id() }).await.unwrap()) }).await;
        assert_eq!(ids.0, ids.1);
        assert_ne!(ids.0, current().id());
        let spawned = {
            let _entered = tasks.enter();
            tokio::spawn(async { current().id() })
        };
        assert_eq!(spawned.await.unwrap(), ids.0);
        tasks.end().await;
    }

    #[tokio::test]
    async fn a_panic_of_what_it_runs_reaches_who_asked() {
        let tasks = TaskThread::start().unwrap();
        let asked = tokio::spawn(async move { tasks.run(async { panic!("a test") }).await });
        assert!(asked.await.unwrap_err().is_panic());
    }

    #[tokio::test]
    async fn what_still_runs_at_the_end_is_dropped() {
        let tasks = TaskThread::start().unwrap();
        let (held, gone) = oneshot::channel::<()>();
        let _entered = tasks.enter();
        tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        drop(_entered);
        tasks.end().await;
        assert!(gone.await.is_err());
    }
}
