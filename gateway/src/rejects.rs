//! Errors that clients were answered, by code: all since the start, and those of the last minutes.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long an error counts as recent.
pub const RECENT: Duration = Duration::from_secs(5 * 60);
/// In steps of this length it stops to.
const STEP: Duration = Duration::from_secs(10);

/// Errors answered. Codes are those of one table, so their number is bounded.
#[derive(Debug, Default)]
pub struct Rejects(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    total: BTreeMap<i64, u64>,
    /// When each step began, and what was counted in it; as many as fit into [`RECENT`].
    steps: VecDeque<(Instant, BTreeMap<i64, u64>)>,
}

/// One code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The code.
    pub code: i64,
    /// How often since the start.
    pub total: u64,
    /// How often in the last minutes.
    pub recent: u64,
}

impl Rejects {
    /// A client was answered with this error code.
    pub fn count(&self, code: i64, now: Instant) {
        let mut counts = self.0.lock();
        *counts.total.entry(code).or_default() += 1;
        if counts.steps.back().is_none_or(|(began, _)| now.saturating_duration_since(*began) >= STEP) {
            counts.forget(now);
            counts.steps.push_back((now, BTreeMap::new()));
        }
        if let Some((_, step)) = counts.steps.back_mut() {
            *step.entry(code).or_default() += 1;
        }
    }

    /// Every code that was ever answered, ascending.
    pub fn by_code(&self, now: Instant) -> Vec<Rejected> {
        let mut counts = self.0.lock();
        counts.forget(now);
        let recent = |code: &i64| counts.steps.iter().filter_map(|(_, step)| step.get(code)).sum();
        counts.total.iter().map(|(code, total)| Rejected { code: *code, total: *total, recent: recent(code) }).collect()
    }
}

impl Counts {
    fn forget(&mut self, now: Instant) {
        while self.steps.front().is_some_and(|(began, _)| now.saturating_duration_since(*began) >= RECENT) {
            self.steps.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_five_minutes_is_counted_in_the_total_alone() {
        let (rejects, start) = (Rejects::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        rejects.count(-2010, at(0));
        rejects.count(-1121, at(200));
        rejects.count(-2010, at(203));
        let told = |seconds| {
            let told = rejects.by_code(at(seconds));
            told.iter().map(|told| (told.code, told.total, told.recent)).collect::<Vec<_>>()
        };
        assert_eq!(told(203), [(-2010, 2, 2), (-1121, 1, 1)]);
        assert_eq!(told(310), [(-2010, 2, 1), (-1121, 1, 1)]);
        assert_eq!(told(600), [(-2010, 2, 0), (-1121, 1, 0)]);
    }

    #[test]
    fn only_as_many_steps_are_kept_as_count() {
        let (rejects, start) = (Rejects::default(), Instant::now());
        (0..10_000).for_each(|second| rejects.count(-1000, start + Duration::from_secs(second)));
        let steps = rejects.0.lock().steps.len();
        assert!(steps <= 31, "{steps}");
    }
}
