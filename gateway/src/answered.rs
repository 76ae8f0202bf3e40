//! Which names of new orders this process has answered for, so that a client may use a name again, as at Binance.
//!
//! A name whose last use was answered is free for another use; one whose answer may be lost is not, and the engine then takes
//! the same terms for a retry ([`engine::once`]). An answer to a cancel of the order, or to a question by its name, is as good:
//! who has it knows what became of the order, so it holds also for what another node or an earlier process placed. An answer counts once the client has said something more over the same
//! connection, or has closed it in good order: that it was written says nothing. What is known is bounded, and gone with the
//! process; then the name is protected again.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;

use engine::Time;
use engine::once::WINDOW;
use parking_lot::Mutex;

/// How many names a generation holds.
const GENERATION_MAX: usize = 1 << 20;

/// The names whose last use was answered, by their key.
#[derive(Default)]
pub struct Answered(Mutex<Generations>);

/// The young one takes what is new until it is full or as old as the engine's memory; then the old one goes.
#[derive(Default)]
struct Generations {
    young: HashSet<u64>,
    old: HashSet<u64>,
    since: Time,
}

impl Answered {
    /// Whether the last use of a name was answered. It is used again now, so that is not known any more.
    pub fn take(&self, key: u64) -> bool {
        let Generations { young, old, .. } = &mut *self.0.lock();
        // What is in both is taken from both.
        young.remove(&key) | old.remove(&key)
    }

    /// The last use of a name was answered.
    pub fn put(&self, key: u64, now: Time) {
        let mut generations = self.0.lock();
        let Generations { young, old, since } = &mut *generations;
        if young.len() == GENERATION_MAX || since.0.saturating_add(WINDOW) <= now.0 {
            *old = mem::take(young);
            *since = now;
        }
        young.insert(key);
    }
}

/// What was answered over one connection and is not known to have arrived. Cheap to clone.
#[derive(Clone, Default)]
pub struct Unconfirmed(Arc<Mutex<Sent>>);

#[derive(Default)]
struct Sent {
    /// Not yet given to the system.
    writing: Vec<u64>,
    written: Vec<u64>,
}

impl Unconfirmed {
    /// An answer that tells what became of the last use of these names is about to be written.
    pub fn write(&self, keys: &[u64]) {
        if !keys.is_empty() {
            self.0.lock().writing.extend_from_slice(keys);
        }
    }

    /// All answers are written.
    pub fn flushed(&self) {
        let Sent { writing, written } = &mut *self.0.lock();
        written.append(writing);
    }

    /// The client has said something more, or goodbye: it has what was written.
    pub fn confirm(&self, answered: &Answered, now: impl FnOnce() -> Time) {
        let written = mem::take(&mut self.0.lock().written);
        if !written.is_empty() {
            let now = now();
            written.into_iter().for_each(|key| answered.put(key, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_free_for_one_more_use_once_its_answer_has_arrived() {
        let (answered, connection) = (Answered::default(), Unconfirmed::default());
        connection.write(&[7]);
        connection.confirm(&answered, || Time(1));
        assert!(!answered.take(7), "it is not written yet");
        connection.flushed();
        assert!(!answered.take(7), "nobody said that it came");
        connection.confirm(&answered, || Time(1));
        assert!(answered.take(7));
        assert!(!answered.take(7), "its next use is not answered");
    }

    #[test]
    fn what_is_known_is_bounded_and_outlives_no_more_than_two_windows() {
        let answered = Answered::default();
        for key in 0..3 * GENERATION_MAX as u64 {
            answered.put(key, Time(WINDOW));
        }
        assert!(!answered.take(0) && answered.take(3 * GENERATION_MAX as u64 - 1));
        let held = {
            let Generations { young, old, .. } = &*answered.0.lock();
            young.len() + old.len()
        };
        assert!(held <= 2 * GENERATION_MAX);
        answered.put(1, Time(2 * WINDOW));
        answered.put(2, Time(3 * WINDOW));
        assert!(answered.take(1) && answered.take(2));
        answered.put(1, Time(4 * WINDOW));
        answered.put(2, Time(5 * WINDOW));
        answered.put(3, Time(6 * WINDOW));
        assert!(!answered.take(1) && answered.take(2));
    }
}
