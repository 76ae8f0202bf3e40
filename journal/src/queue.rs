//! Queues to threads that sleep as soon as there is nothing to read. Each entry passes through several threads that wait for one
//! another; a crossbeam receiver spins and yields before it sleeps (crossbeam issue 821), which takes the core from the one that
//! is about to send. Else these are crossbeam's channels.
//!
//! To wake a thread takes tens of microseconds, and where little is to be done that is most of what it takes. So a thread may leave
//! its work with the queue ([`Receiver::serve`]): then who sends something small, and finds nothing before it, does it
//! itself ([`Sender::do_at_once`]).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};
use crossbeam_utils::sync::{Parker, Unparker};
use parking_lot::Mutex;

/// What is done with what comes out of a queue, one after the other.
pub trait Consumer<T>: Send {
    /// Does it; false when that was the last.
    fn consume(&mut self, item: T) -> bool;

    /// Whether that would take no longer than to wake a thread, and wait for nobody.
    fn is_quick(&self, _item: &T) -> bool {
        false
    }

    /// When there is something to do that nobody sends.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Does that.
    fn tick(&mut self) {}
}

impl<T, F: FnMut(T) -> bool + Send> Consumer<T> for F {
    fn consume(&mut self, item: T) -> bool {
        self(item)
    }
}

/// The consumer of a queue, where who sends finds it. Who has the lock has the right to consume, so what is sent is done in order.
type Desk<T> = Arc<Mutex<Service<T>>>;

enum Service<T> {
    /// There is none: who has the receiver takes the items themselves. Or it is at work, or has ended.
    None,
    /// It waits for work.
    Idle(Box<dyn Consumer<T>>),
    /// It panicked at work on the thread of who sent.
    Broken(Box<dyn Any + Send>),
}

/// A queue that holds at most so many.
pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    over(crossbeam_channel::bounded(capacity))
}

/// A queue that somebody else bounds.
pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    over(crossbeam_channel::unbounded())
}

fn over<T>(
    (sender, receiver): (crossbeam_channel::Sender<T>, crossbeam_channel::Receiver<T>),
) -> (Sender<T>, Receiver<T>) {
    let parker = Parker::new();
    let reader = Arc::new(Reader(parker.unparker().clone()));
    let desk = Arc::new(Mutex::new(Service::None));
    (Sender { queue: sender, reader, desk: desk.clone() }, Receiver { queue: receiver, parker, desk })
}

/// The way in. Cheap to clone.
pub(crate) struct Sender<T> {
    // Dropped before `reader`: when the last of those goes, all of these have gone.
    queue: crossbeam_channel::Sender<T>,
    reader: Arc<Reader>,
    desk: Desk<T>,
}

/// Wakes the thread that reads, also when nobody is left to send.
struct Reader(Unparker);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { queue: self.queue.clone(), reader: self.reader.clone(), desk: self.desk.clone() }
    }
}

impl<T> Sender<T> {
    /// Waits while the queue is full; an error when nobody reads it any more.
    pub(crate) fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.queue.send(item)?;
        self.reader.0.unpark();
        Ok(())
    }

    /// Never waits.
    pub(crate) fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        self.queue.try_send(item)?;
        self.reader.0.unpark();
        Ok(())
    }

    /// Has the consumer do it here and now, if nothing waits before it and it is quick; else gives it back.
    pub(crate) fn do_at_once(&self, item: T) -> Result<(), T> {
        let Some(mut desk) = self.desk.try_lock() else { return Err(item) };
        match &*desk {
            Service::Idle(consumer) if self.queue.is_empty() && consumer.is_quick(&item) => {}
            _ => return Err(item),
        }
        let Service::Idle(mut consumer) = std::mem::replace(&mut *desk, Service::None) else {
            unreachable!("just seen")
        };
        match catch_unwind(AssertUnwindSafe(|| consumer.consume(item))) {
            Ok(true) => *desk = Service::Idle(consumer),
            Ok(false) => self.wake(),
            Err(panic) => {
                // It is the thread's, which dies of it as if it had been at work.
                *desk = Service::Broken(panic);
                self.wake();
            }
        }
        Ok(())
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Ends the next [`Receiver::wait`], though nothing was sent.
    pub(crate) fn wake(&self) {
        self.reader.0.unpark();
    }
}

/// The way out.
pub struct Receiver<T> {
    queue: crossbeam_channel::Receiver<T>,
    parker: Parker,
    desk: Desk<T>,
}

impl<T> Receiver<T> {
    /// The next one; waits for it. An error when the queue is empty and nobody is left to send.
    pub fn recv(&self) -> Result<T, RecvError> {
        loop {
            match self.try_recv() {
                Ok(item) => return Ok(item),
                Err(TryRecvError::Empty) => self.parker.park(),
                Err(TryRecvError::Disconnected) => return Err(RecvError),
            }
        }
    }

    /// The same, until `deadline`.
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        loop {
            match self.try_recv() {
                Ok(item) => return Ok(item),
                Err(TryRecvError::Empty) if Instant::now() >= deadline => return Err(RecvTimeoutError::Timeout),
                Err(TryRecvError::Empty) => self.parker.park_deadline(deadline),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            }
        }
    }

    /// Until there may be one, nobody is left to send, somebody says so, or `deadline` comes.
    pub(crate) fn wait(&self, deadline: Option<Instant>) {
        match deadline {
            Some(deadline) => self.parker.park_deadline(deadline),
            None => self.parker.park(),
        }
    }

    /// Has `consumer` do what comes, here or where it is sent, until it has done the last or nobody is left to send.
    pub fn serve(&self, consumer: impl Consumer<T> + 'static) {
        *self.desk.lock() = Service::Idle(Box::new(consumer));
        loop {
            let mut desk = self.desk.lock();
            let mut consumer = match std::mem::replace(&mut *desk, Service::None) {
                Service::Idle(consumer) => consumer,
                Service::Broken(panic) => resume_unwind(panic),
                Service::None => return,
            };
            let due = loop {
                if consumer.due().is_some_and(|due| due <= Instant::now()) {
                    consumer.tick();
                }
                let is_last = match self.try_recv() {
                    Ok(item) => !consumer.consume(item),
                    Err(TryRecvError::Empty) => break consumer.due(),
                    Err(TryRecvError::Disconnected) => true,
                };
                if is_last {
                    return;
                }
            };
            *desk = Service::Idle(consumer);
            drop(desk);
            self.wait(due);
        }
    }

    /// The next one if it is there.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.queue.try_recv()
    }

    /// All there will be.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// All there is.
    pub fn try_iter(&self) -> impl Iterator<Item = T> {
        self.queue.try_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_reader_that_sleeps_gets_what_is_sent_in_order() {
        let (sender, receiver) = bounded(4);
        let reading = std::thread::spawn(move || receiver.iter().collect::<Vec<u32>>());
        for number in 0..100_000 {
            if number % 1_000 == 0 {
                std::thread::sleep(Duration::from_micros(50));
            }
            sender.send(number).unwrap();
        }
        drop(sender);
        assert!(reading.join().unwrap().into_iter().eq(0..100_000));
    }

    #[test]
    fn a_reader_that_sleeps_learns_that_the_last_sender_went() {
        for _ in 0..1_000 {
            let (sender, receiver) = unbounded::<()>();
            let other = sender.clone();
            let reading = std::thread::spawn(move || receiver.recv());
            drop(sender);
            drop(other);
            assert!(reading.join().unwrap().is_err());
        }
    }

    #[test]
    fn a_reader_waits_until_its_deadline_and_no_longer() {
        let (sender, receiver) = bounded(1);
        let soon = || Instant::now() + Duration::from_millis(5);
        assert_eq!(receiver.recv_deadline(soon()), Err(RecvTimeoutError::Timeout));
        sender.try_send(7).unwrap();
        assert!(matches!(sender.try_send(8), Err(TrySendError::Full(8))));
        assert_eq!(sender.len(), 1);
        assert_eq!(receiver.recv_deadline(soon()), Ok(7));
        drop(sender);
        assert_eq!(receiver.recv_deadline(soon()), Err(RecvTimeoutError::Disconnected));
    }

    /// Keeps what it was sent, and whether that was done by who sent it. Ends at zero, panics at one and two, finds even numbers quick.
    struct Keeper(Kept, std::thread::ThreadId);

    type Kept = Arc<Mutex<Vec<(u32, bool)>>>;

    impl Consumer<u32> for Keeper {
        fn consume(&mut self, number: u32) -> bool {
            assert!(number != 1 && number != 2, "a test");
            self.0.lock().push((number, std::thread::current().id() == self.1));
            number > 0
        }

        fn is_quick(&self, number: &u32) -> bool {
            number.is_multiple_of(2)
        }
    }

    /// A thread that serves a queue, and what it was sent.
    fn keeper() -> (Sender<u32>, Kept, std::thread::JoinHandle<()>) {
        let (sender, receiver) = bounded(4);
        let kept = Kept::default();
        let keeper = Keeper(kept.clone(), std::thread::current().id());
        (sender, kept, std::thread::spawn(move || receiver.serve(keeper)))
    }

    /// Does it as soon as it may be done here.
    fn do_here(sender: &Sender<u32>, number: u32) {
        while sender.do_at_once(number).is_err() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn who_sends_does_what_is_quick_and_the_thread_what_is_not() {
        let (sender, kept, serving) = keeper();
        do_here(&sender, 10);
        assert_eq!(sender.do_at_once(11), Err(11));
        sender.send(11).unwrap();
        do_here(&sender, 12);
        drop(sender);
        serving.join().unwrap();
        assert_eq!(*kept.lock(), [(10, true), (11, false), (12, true)]);
    }

    #[test]
    fn what_is_done_at_once_never_overtakes_what_was_sent_before() {
        let (sender, kept, serving) = keeper();
        for number in 3..100_000 {
            if let Err(number) = sender.do_at_once(number) {
                sender.send(number).unwrap();
            }
        }
        drop(sender);
        serving.join().unwrap();
        assert!(kept.lock().iter().map(|(number, _)| *number).eq(3..100_000));
    }

    #[test]
    fn a_thread_that_serves_ends_with_the_last_item_wherever_that_was_done() {
        let (sender, _, serving) = keeper();
        do_here(&sender, 0);
        serving.join().unwrap();
        assert_eq!(sender.do_at_once(4), Err(4));
        assert!(sender.send(4).is_err());
    }

    #[test]
    fn a_panic_of_what_is_done_at_once_is_the_panic_of_the_thread() {
        for number in [1, 2] {
            let (sender, _, serving) = keeper();
            if number == 2 {
                do_here(&sender, number);
            } else {
                sender.send(number).unwrap();
            }
            assert!(serving.join().is_err());
            assert_eq!(sender.do_at_once(4), Err(4));
            assert!(sender.send(4).is_err());
        }
    }

    #[test]
    fn a_consumer_does_what_is_due_though_nothing_is_sent() {
        struct Clock(Instant, Sender<()>);

        impl Consumer<()> for Clock {
            fn consume(&mut self, (): ()) -> bool {
                false
            }

            fn due(&self) -> Option<Instant> {
                Some(self.0)
            }

            fn tick(&mut self) {
                self.0 += Duration::from_millis(1);
                let _ = self.1.try_send(());
            }
        }

        let (sender, receiver) = bounded(1);
        let (ticks, ticked) = bounded(1);
        let serving = std::thread::spawn(move || receiver.serve(Clock(Instant::now(), ticks)));
        assert!((0..3).all(|_| ticked.recv().is_ok()));
        sender.send(()).unwrap();
        serving.join().unwrap();
    }

    #[test]
    fn who_sends_learns_that_nobody_reads() {
        let (sender, receiver) = bounded(1);
        drop(receiver);
        assert!(sender.send(1).is_err());
        assert!(matches!(sender.try_send(1), Err(TrySendError::Disconnected(1))));
    }
}
