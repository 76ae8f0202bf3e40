//! Changes of a book between two update ids, and how several become one.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::order::Side;
use engine::{Price, Quantity};

use crate::views::LevelChange;
use crate::ws::topic::TimeUnit;

/// The levels that changed, and between which update ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiffWindow {
    /// What each level has now.
    pub levels: BTreeMap<(Side, Price), Quantity>,
    /// The first change in the window; zero when there is none.
    pub first: u64,
    /// The last.
    pub last: u64,
}

impl DiffWindow {
    /// One more change.
    pub fn add(&mut self, change: &LevelChange) {
        if self.first == 0 {
            self.first = change.update_id;
        }
        self.last = change.update_id;
        self.levels.insert((change.side, change.price), change.quantity);
    }

    /// What comes next, added.
    pub fn join(&mut self, next: &DiffWindow) {
        if self.first == 0 {
            self.first = next.first;
        }
        self.last = next.last;
        self.levels.extend(&next.levels);
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.first == 0
    }
}

/// Writes changes as an event.
pub type WriteDiff = Arc<dyn Fn(&DiffWindow, TimeUnit) -> String + Send + Sync>;

/// Changes that were sent, and how they are written.
pub struct Diff {
    /// What changed.
    pub window: DiffWindow,
    /// How that is told.
    pub write: WriteDiff,
}

impl Diff {
    /// The event.
    pub fn text(&self, unit: TimeUnit) -> String {
        (self.write)(&self.window, unit)
    }

    /// Several that follow one another, as one.
    pub fn joined<'a>(diffs: impl IntoIterator<Item = &'a Arc<Diff>>) -> Option<Diff> {
        let mut diffs = diffs.into_iter();
        let first = diffs.next()?;
        let mut joined = Diff { window: first.window.clone(), write: first.write.clone() };
        for diff in diffs {
            joined.window.join(&diff.window);
            joined.write = diff.write.clone();
        }
        Some(joined)
    }
}
