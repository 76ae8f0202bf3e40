//! The newest of what operators did, for whoever watches. Nothing depends on it: what changed the exchange stands in the log
//! with its note, and from there comes what is told here, whichever node was asked. What a node did or refused without the log
//! is known to that node alone.

use std::collections::VecDeque;

use engine::access::{AccessChange, Note};
use engine::{Event, Sequence, Time};
use journal::Applied;
use parking_lot::Mutex;

/// How many are kept.
pub const KEPT: usize = 50;

/// The newest of what operators did.
#[derive(Debug, Default)]
pub struct Audit(Mutex<VecDeque<Line>>);

/// One thing an operator asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The sequence of its note in the log, if it came there.
    pub sequence: Option<Sequence>,
    /// When.
    pub time: Time,
    /// Who asked, from where, for what and why.
    pub note: Note,
    /// Whether it was done.
    pub is_done: bool,
}

impl Audit {
    /// Takes what an entry has of it. A note stands before the commands it is about; where one of them is refused, it is the
    /// first.
    pub fn follow(&self, applied: &Applied) {
        for index in 0..applied.len() {
            let [Event::AccessChanged(change)] = applied.events_of(index) else { continue };
            let AccessChange::Noted(note) = &**change else { continue };
            let next = index + 1;
            let is_refused =
                next < applied.len() && matches!(applied.events_of(next).first(), Some(Event::Rejected(_)));
            self.add(Line {
                sequence: Some(applied.sequence(index)),
                time: applied.time,
                note: note.clone(),
                is_done: !is_refused,
            });
        }
    }

    /// One more.
    pub fn add(&self, line: Line) {
        let mut lines = self.0.lock();
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// All that are kept, the newest first.
    pub fn newest(&self) -> Vec<Line> {
        self.0.lock().iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_are_kept_and_they_come_first() {
        let audit = Audit::default();
        for time in 0..=KEPT as u64 {
            let note = Note {
                operator: "ann".to_owned(),
                origin: "127.0.0.1".to_owned(),
                action: time.to_string(),
                reason: String::new(),
            };
            audit.add(Line { sequence: None, time: Time(time), note, is_done: true });
        }
        let newest = audit.newest();
        assert_eq!(newest.len(), KEPT);
        assert_eq!((newest[0].time, newest[KEPT - 1].time), (Time(KEPT as u64), Time(1)));
    }
}
