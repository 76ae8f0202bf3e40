//! How long commands take, stage by stage, from the moment their request was read until the answer goes to the socket.
//!
//! The stages follow each other without a gap: receive (read, proved, parsed, put into the queue), sequence (waited to be laid
//! into an entry), replicate (on the way into the log and onto the disks of a majority, then to the engine), engine (decided),
//! publish (views and streams), answer (the caller woke and wrote the answer). Total is all of it. Sync is no stage by itself:
//! one synced write of the log, which replicate waits for.
//!
//! The journal measures its part (journal's timings.rs), the feed and the handlers theirs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::Time;
use journal::{Counts, Histogram, Road, Timings};
use parking_lot::Mutex;

use crate::clock;
use crate::traces::Sampled;

/// Handlers run on as many threads as there are cores, or so.
const THREADS: usize = 8;
/// How often a window begins, and how many make the newest minute.
const WINDOW: Duration = Duration::from_secs(10);
const WINDOWS: usize = 6;

/// The histograms of all stages.
#[derive(Debug)]
pub struct Stages {
    /// Of each command: from the request's first byte seen until it was in the queue.
    pub receive: Histogram,
    /// Of each command applied: from the engine's decision until views and streams had it.
    pub publish: Histogram,
    /// Of each command answered: from then until its answer was written.
    pub answer: Histogram,
    /// Of the same: all of it.
    pub total: Histogram,
    /// What the journal measures.
    pub journal: Arc<Timings>,
    /// What they held when each of the last windows began, the oldest first.
    windows: Mutex<VecDeque<Vec<Counts>>>,
}

/// One stage over about the newest minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageSummary {
    /// Its name.
    pub name: &'static str,
    /// How many commands went through it (for "sync": how many writes).
    pub count: u64,
    /// What half of them took at the most, in microseconds.
    pub p50_us: u64,
    /// What 99 of a hundred took at the most.
    pub p99_us: u64,
    /// What 999 of a thousand took at the most.
    pub p999_us: u64,
}

impl Stages {
    /// Beside what a journal measures.
    pub fn new(journal: Arc<Timings>) -> Stages {
        Stages {
            receive: Histogram::sharded(THREADS),
            publish: Histogram::new(),
            answer: Histogram::sharded(THREADS),
            total: Histogram::sharded(THREADS),
            journal,
            windows: Mutex::default(),
        }
    }

    /// The stages of the road in order, then the whole of it.
    pub fn road(&self) -> [(&'static str, &Histogram); 7] {
        [
            ("receive", &self.receive),
            ("sequence", &self.journal.sequence),
            ("replicate", &self.journal.replicate),
            ("engine", &self.journal.engine),
            ("publish", &self.publish),
            ("answer", &self.answer),
            ("total", &self.total),
        ]
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        self.road().into_iter().chain([("sync", &self.journal.log_sync)])
    }

    /// About the newest minute of each stage, in the order of the road, then "total" and "sync".
    pub fn summaries(&self) -> Vec<StageSummary> {
        let begun = self.windows.lock().front().cloned().unwrap_or_default();
        let summary = |(index, (name, histogram)): (usize, (&'static str, &Histogram))| {
            let now = histogram.read();
            let newest = begun.get(index).map_or_else(|| now.clone(), |then| now.since(then));
            let [p50_us, p99_us, p999_us] =
                [500, 990, 999].map(|per_mille| newest.per_mille(per_mille).div_ceil(1_000));
            StageSummary { name, count: newest.count(), p50_us, p99_us, p999_us }
        };
        self.all().enumerate().map(summary).collect()
    }

    /// A window begins.
    fn turn(&self) {
        let held = self.all().map(|(_, histogram)| histogram.read()).collect();
        let mut windows = self.windows.lock();
        windows.push_back(held);
        if windows.len() > WINDOWS {
            windows.pop_front();
        }
    }

    /// Has the newest minute go by, for as long as it is run.
    pub async fn run(self: Arc<Self>) {
        let mut next = tokio::time::interval(WINDOW);
        next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            next.tick().await;
            self.turn();
        }
    }

    /// A command's answer goes to its socket.
    pub fn answered(&self, journey: &Journey) {
        let now = Instant::now();
        self.answer.record_duration(now.saturating_duration_since(journey.road.told));
        self.total.record_duration(now.saturating_duration_since(journey.arrival.at));
    }
}

impl Default for Stages {
    fn default() -> Stages {
        Stages::new(Arc::default())
    }
}

/// When a request was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// By the clock that everybody shares.
    pub time: Time,
    /// By the one that never jumps.
    pub at: Instant,
    /// Whether it is traced.
    pub sampled: Option<Sampled>,
}

impl Arrival {
    /// Now.
    pub fn now(sampled: Option<Sampled>) -> Arrival {
        Arrival { time: clock::now(), at: Instant::now(), sampled }
    }
}

/// A command's way through this process, known once it is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journey {
    /// When its request was read.
    pub arrival: Arrival,
    /// When it was put into the queue.
    pub queued: Instant,
    /// When it was where from then on.
    pub road: Road,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_of_the_newest_minute() {
        let stages = Stages::default();
        let engine = |stages: &Stages| stages.summaries().into_iter().find(|stage| stage.name == "engine").unwrap();
        stages.turn();
        stages.journal.engine.record_many(1_500, 98);
        stages.journal.engine.record_many(2_000_000, 2);
        let told = engine(&stages);
        assert_eq!((told.count, told.p50_us, told.p99_us, told.p999_us), (100, 2, 2_000, 2_000));
        // Five windows later it is still within the minute.
        (1..WINDOWS).for_each(|_| stages.turn());
        assert_eq!(engine(&stages).count, 100);
        stages.journal.engine.record(10_000);
        stages.turn();
        assert_eq!(engine(&stages), StageSummary { name: "engine", count: 1, p50_us: 10, p99_us: 10, p999_us: 10 });
        stages.turn();
        (1..WINDOWS).for_each(|_| stages.turn());
        assert_eq!(engine(&stages), StageSummary { name: "engine", count: 0, p50_us: 0, p99_us: 0, p999_us: 0 });
        assert!(stages.windows.lock().len() <= WINDOWS);
    }

    #[test]
    fn an_answer_is_measured_from_where_its_caller_was_told_and_its_request_read() {
        let stages = Stages::default();
        let at = Instant::now();
        let road = Road { laid: None, reached: at, decided: at, told: at };
        stages.answered(&Journey { arrival: Arrival { time: Time(0), at, sampled: None }, queued: at, road });
        let (answer, total) = (stages.answer.read(), stages.total.read());
        assert_eq!((answer.count(), total.count()), (1, 1));
        assert!(total.sum() >= answer.sum());
    }
}
