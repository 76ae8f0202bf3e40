//! Queues to threads that sleep as soon as there is nothing to read. Each entry passes through several threads that wait for one
//! another; a crossbeam receiver spins and yields before it sleeps (crossbeam issue 821), which takes the core from the one that
//! is about to send. Else these are crossbeam's channels.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};
use crossbeam_utils::sync::{Parker, Unparker};

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
    (Sender { queue: sender, reader }, Receiver { queue: receiver, parker })
}

/// The way in. Cheap to clone.
pub(crate) struct Sender<T> {
    // Dropped before `reader`: when the last of those goes, all of these have gone.
    queue: crossbeam_channel::Sender<T>,
    reader: Arc<Reader>,
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
        Sender { queue: self.queue.clone(), reader: self.reader.clone() }
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

    #[test]
    fn who_sends_learns_that_nobody_reads() {
        let (sender, receiver) = bounded(1);
        drop(receiver);
        assert!(sender.send(1).is_err());
        assert!(matches!(sender.try_send(1), Err(TrySendError::Disconnected(1))));
    }
}
