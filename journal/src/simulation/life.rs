//! One life of a node, from its start to its crash: its tasks, its dice, its clock.
//!
//! Whatever a node spawns belongs to its life, so a crash ends all of it at once, wherever it stands; a pause holds all of it,
//! as a stopped process is held.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crossbeam_channel::TrySendError;
use engine::Time;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep};

use super::dice::Dice;
use super::faults::Bug;
use super::witness::Witness;
use crate::engine_thread::Job;
use crate::queue::{Consumer, Receiver, Sender};
use crate::record::{Applied, Entry, LogId, Origin, Published};
use crate::runtime;

tokio::task_local! {
    static LIFE: Arc<Life>;
}

/// The first moment of every simulation, in microseconds since 1970.
const BEGINNING_US: u64 = 1_800_000_000_000_000;

/// A node that runs, or ran.
pub(crate) struct Life {
    pub node: u64,
    pub witness: Arc<Witness>,
    pub bug: Bug,
    dice: Mutex<Dice>,
    /// What the engine publishes.
    feed: Mutex<Option<Receiver<Published>>>,
    began: Instant,
    /// How far its clock is ahead of the true time, in microseconds; all are ahead, some more.
    ahead_us: u64,
    tasks: Mutex<Vec<AbortHandle>>,
    /// Who reads a queue in this life, to be told that something was put into one.
    readers: Mutex<Vec<Arc<Notify>>>,
    is_over: AtomicBool,
    is_paused: AtomicBool,
    held: Mutex<Vec<Waker>>,
}

impl Life {
    /// `began` is when the simulation did.
    pub(crate) fn new(
        node: u64,
        witness: Arc<Witness>,
        bug: Bug,
        dice: Dice,
        began: Instant,
        ahead_us: u64,
    ) -> Arc<Life> {
        Arc::new(Life {
            node,
            witness,
            bug,
            dice: Mutex::new(dice),
            feed: Mutex::default(),
            began,
            ahead_us,
            tasks: Mutex::default(),
            readers: Mutex::default(),
            is_over: AtomicBool::new(false),
            is_paused: AtomicBool::new(false),
            held: Mutex::default(),
        })
    }

    /// Whose task this is; none outside of a simulation.
    pub(crate) fn current() -> Option<Arc<Life>> {
        LIFE.try_with(Clone::clone).ok()
    }

    /// A task of this life.
    pub(crate) fn spawn<T: Send + 'static>(
        self: &Arc<Life>,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let held = Held { life: self.clone(), task: Box::pin(task) };
        let task = tokio::spawn(LIFE.scope(self.clone(), held));
        let mut tasks = self.tasks.lock();
        if tasks.len() == tasks.capacity() {
            tasks.retain(|task| !task.is_finished());
        }
        tasks.push(task.abort_handle());
        if self.is_over.load(Ordering::Relaxed) {
            task.abort();
        }
        task
    }

    /// Ends all of it.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        self.go_on();
    }

    /// Nothing of it runs until it goes on.
    pub(crate) fn pause(&self) {
        self.is_paused.store(true, Ordering::Relaxed);
    }

    pub(crate) fn go_on(&self) {
        self.is_paused.store(false, Ordering::Relaxed);
        self.held.lock().drain(..).for_each(Waker::wake);
    }

    /// Its own clock.
    pub(crate) fn now(&self) -> Time {
        Time(BEGINNING_US + self.ahead_us + self.began.elapsed().as_micros() as u64)
    }

    pub(crate) fn dice(&self) -> Dice {
        self.dice.lock().child()
    }

    /// To be told whenever something is put into a queue.
    pub(crate) fn reader(&self) -> Arc<Notify> {
        let reader = Arc::new(Notify::new());
        self.readers.lock().push(reader.clone());
        reader
    }

    /// Something was put into a queue.
    pub(crate) fn handed_over(&self) {
        self.readers.lock().iter().for_each(|reader| reader.notify_one());
    }
}

// What a thread does elsewhere is a task here.

impl Life {
    /// Takes one job after the other from `queue`, as a thread would, now and then late.
    pub(crate) fn take_jobs<J: Send + 'static>(
        self: &Arc<Life>,
        watched: impl Send + 'static,
        queue: Receiver<J>,
        mut consumer: impl Consumer<J> + 'static,
    ) {
        let (life, reader, mut dice) = (self.clone(), self.reader(), self.dice());
        self.spawn(async move {
            let _watched = watched;
            loop {
                while let Ok(job) = queue.try_recv() {
                    if dice.once_in(64) {
                        sleep(Duration::from_millis(dice.within(1..40))).await;
                    }
                    let seen = Seen::of(&job);
                    let open = consumer.consume(job);
                    if let Some(seen) = seen {
                        life.saw(seen, &mut consumer);
                    }
                    if !open {
                        return;
                    }
                }
                reader.notified().await;
            }
        });
    }

    /// Waits until there is room in the queue.
    pub(crate) async fn send<T>(queue: &Sender<T>, mut item: T) -> Result<(), &'static str> {
        loop {
            item = match queue.try_send(item) {
                Ok(()) => {
                    runtime::handed_over();
                    return Ok(());
                }
                Err(TrySendError::Full(item)) => item,
                Err(TrySendError::Disconnected(_)) => return Err("nobody reads the queue any more"),
            };
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// The feed of the node, whose callers are answered as they are there.
    pub(crate) fn feed(&self, receiver: Receiver<Published>) {
        *self.feed.lock() = Some(receiver);
    }

    /// Tells the witness what the engine just did, and then the callers.
    fn saw<J: 'static>(&self, seen: Seen, consumer: &mut impl Consumer<J>) {
        let (mut done, mut told, mut state) = (None, Vec::new(), None);
        let feed = self.feed.lock();
        for published in feed.iter().flat_map(Receiver::try_iter) {
            match published {
                // The first is the state that the node started from.
                Published::Restored(restored) => state = Some(restored.snapshot),
                Published::Applied { applied, callers, .. } => {
                    told.extend(callers);
                    done = Some(applied);
                }
            }
        }
        drop(feed);
        let applied: Option<&Applied> = done.as_deref();
        let (log_id, compare) = match &seen {
            Seen::Install(log_id) => {
                let state = state.expect("who installs a state publishes it");
                return self.witness.restored(self.node, *log_id, &state);
            }
            Seen::Pass(log_id) => (log_id, self.witness.applied(self.node, *log_id, None, None)),
            Seen::Apply(log_id, origin, entry) => {
                (log_id, self.witness.applied(self.node, *log_id, Some((*origin, entry)), applied))
            }
        };
        if compare {
            let (reply, mut copy) = oneshot::channel();
            let job: Box<dyn Any> = Box::new(Job::Copy(reply));
            consumer.consume(*job.downcast().expect("these are the engine's jobs"));
            if let Ok((snapshot, ..)) = copy.try_recv() {
                self.witness.compare(self.node, log_id.index, &snapshot);
            }
        }
        for (index, caller) in told {
            let applied = done.clone().expect("who is told is told of something");
            let _ = caller.send(crate::record::Answer { applied, index, road: None });
        }
    }
}

/// A job of the engine that the witness wants to know of.
enum Seen {
    Apply(LogId, Origin, Arc<Entry>),
    Pass(LogId),
    Install(Option<LogId>),
}

impl Seen {
    fn of(job: &dyn Any) -> Option<Seen> {
        match job.downcast_ref::<Job>()? {
            Job::Apply { log_id, origin, entry, .. } => Some(Seen::Apply(*log_id, *origin, entry.clone())),
            Job::Pass { log_id, .. } => Some(Seen::Pass(*log_id)),
            Job::Install(found, _) => Some(Seen::Install(found.meta.last_log_id)),
            Job::Copy(_) | Job::Heed(_) | Job::Tell(_) | Job::Stop => None,
        }
    }
}

/// A task that stands still while its life is paused.
struct Held<T> {
    life: Arc<Life>,
    task: Pin<Box<dyn Future<Output = T> + Send>>,
}

impl<T> Future for Held<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if self.life.is_paused.load(Ordering::Relaxed) {
            self.life.held.lock().push(context.waker().clone());
            return Poll::Pending;
        }
        let Held { life, task } = &mut *self;
        let panic = Panic(life);
        let polled = task.as_mut().poll(context);
        std::mem::forget(panic);
        polled
    }
}

/// Dropped while a task of a node panics.
struct Panic<'l>(&'l Life);

impl Drop for Panic<'_> {
    fn drop(&mut self) {
        self.0.witness.violation(format!("a task of node {} panicked", self.0.node));
    }
}
