//! What waits for history, bounded by its events: entries hold one command or thousands. History gives way to orders, so under
//! load it falls behind by as much as fits in here; only then does the engine wait for it.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// Events that may wait: some 100 MB, and what is decided in a second or two under full load.
pub(crate) const EVENTS_MAX: usize = 1 << 19;

/// Counts what waits. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Backlog(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<Waiting>,
    /// Told when there is room, or nobody who makes any.
    room: Condvar,
}

#[derive(Default)]
struct Waiting {
    events: usize,
    has_ended: bool,
}

impl Backlog {
    /// Counts `events`, once there is room for them. What is larger than all room goes in alone.
    pub(crate) fn add(&self, events: usize) {
        let mut waiting = self.0.waiting.lock();
        let is_full =
            |waiting: &mut Waiting| !waiting.has_ended && waiting.events > 0 && waiting.events + events > EVENTS_MAX;
        self.0.room.wait_while(&mut waiting, is_full);
        waiting.events += events;
    }

    /// So many have been taken out.
    pub(crate) fn taken(&self, events: usize) {
        self.0.waiting.lock().events -= events;
        self.0.room.notify_one();
    }

    /// How many wait.
    pub(crate) fn events(&self) -> usize {
        self.0.waiting.lock().events
    }

    /// What lets nobody wait for room any more when it goes.
    pub(crate) fn reader(&self) -> Reader {
        Reader(self.clone())
    }
}

/// Held by whoever takes out.
pub(crate) struct Reader(Backlog);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.0.waiting.lock().has_ended = true;
        self.0.0.room.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_no_room_goes_on_when_some_was_made() {
        let backlog = Backlog::default();
        backlog.add(EVENTS_MAX);
        let other = backlog.clone();
        let waiting = std::thread::spawn(move || other.add(1));
        backlog.taken(EVENTS_MAX);
        waiting.join().unwrap();
        assert_eq!(backlog.events(), 1);
    }

    #[test]
    fn who_finds_no_room_goes_on_when_nobody_reads_any_more() {
        let backlog = Backlog::default();
        let reader = backlog.reader();
        backlog.add(EVENTS_MAX);
        let other = backlog.clone();
        let waiting = std::thread::spawn(move || other.add(1));
        drop(reader);
        waiting.join().unwrap();
    }

    #[test]
    fn what_is_larger_than_all_room_goes_in_alone() {
        let backlog = Backlog::default();
        backlog.add(2 * EVENTS_MAX);
        assert_eq!(backlog.events(), 2 * EVENTS_MAX);
    }
}
