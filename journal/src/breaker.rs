//! A circuit breaker: after too many failures nothing is asked of a node for a while, then a few probes say whether it is well
//! again. It has no clock of its own.

use std::time::Duration;

use tokio::time::Instant;

/// Parts of the window in which calls are counted.
const SLOTS: usize = 10;

/// When it opens and closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// It opens after so many failures one after the other.
    pub failures: u32,
    /// And where so many percent of the calls within the window failed,
    pub failure_percent: u32,
    /// of at least so many.
    pub calls_min: u32,
    /// The window.
    pub window: Duration,
    /// How long it stays open.
    pub open: Duration,
    /// Then so many calls are let through; once all of them are answered it closes, at the first failure it opens again.
    pub probes: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        BreakerConfig {
            failures: 5,
            failure_percent: 50,
            calls_min: 20,
            window: Duration::from_secs(10),
            open: Duration::from_secs(2),
            probes: 2,
        }
    }
}

/// What it does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything passes.
    Closed,
    /// Nothing passes.
    Open,
    /// Probes pass.
    HalfOpen,
}

impl BreakerState {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half-open",
        }
    }
}

/// One node's.
pub(crate) struct Breaker {
    state: BreakerState,
    began_at: Instant,
    /// In a row.
    failures: u32,
    slots: [Slot; SLOTS],
    open_until: Instant,
    probes_out: u32,
    probes_good: u32,
    /// How often it opened.
    pub opened: u64,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    number: u64,
    good: u32,
    bad: u32,
}

impl Breaker {
    /// Closed.
    pub(crate) fn new(now: Instant) -> Breaker {
        Breaker {
            state: BreakerState::Closed,
            began_at: now,
            failures: 0,
            slots: Default::default(),
            open_until: now,
            probes_out: 0,
            probes_good: 0,
            opened: 0,
        }
    }

    /// What it does at `now`.
    pub(crate) fn state(&self, now: Instant) -> BreakerState {
        match self.state {
            BreakerState::Open if now >= self.open_until => BreakerState::HalfOpen,
            state => state,
        }
    }

    /// Whether a call would pass.
    pub(crate) fn admits(&self, config: &BreakerConfig, now: Instant) -> bool {
        match self.state(now) {
            BreakerState::Closed => true,
            BreakerState::Open => false,
            BreakerState::HalfOpen => self.state == BreakerState::Open || self.probes_out < config.probes.max(1),
        }
    }

    /// A call passes, if it may.
    pub(crate) fn enter(&mut self, config: &BreakerConfig, now: Instant) -> bool {
        if !self.admits(config, now) {
            return false;
        }
        if self.state == BreakerState::Open {
            self.state = BreakerState::HalfOpen;
            (self.probes_out, self.probes_good) = (0, 0);
        }
        if self.state == BreakerState::HalfOpen {
            self.probes_out += 1;
        }
        true
    }

    /// Nobody waited for what became of a call.
    pub(crate) fn give_up(&mut self) {
        self.probes_out = self.probes_out.saturating_sub(1);
    }

    /// What became of a call.
    pub(crate) fn record(&mut self, config: &BreakerConfig, now: Instant, is_good: bool) {
        match self.state {
            // It was let through before.
            BreakerState::Open => {}
            BreakerState::HalfOpen if is_good => {
                self.probes_good += 1;
                if self.probes_good >= config.probes.max(1) {
                    *self = Breaker { opened: self.opened, began_at: self.began_at, ..Breaker::new(now) };
                }
            }
            BreakerState::HalfOpen => self.open(config, now),
            BreakerState::Closed => {
                self.failures = if is_good { 0 } else { self.failures.saturating_add(1) };
                let (good, bad) = self.count(config, now, is_good);
                let (all, bad_percent) = (good + bad, 100 * u64::from(bad));
                let too_many = all >= config.calls_min.max(1)
                    && bad > 0
                    && bad_percent >= u64::from(config.failure_percent) * u64::from(all);
                if self.failures >= config.failures.max(1) || too_many {
                    self.open(config, now);
                }
            }
        }
    }

    fn open(&mut self, config: &BreakerConfig, now: Instant) {
        self.state = BreakerState::Open;
        self.open_until = now + config.open;
        self.opened += 1;
    }

    /// One more; how many went well and how many did not within the window.
    fn count(&mut self, config: &BreakerConfig, now: Instant, is_good: bool) -> (u32, u32) {
        let slot_ns = (config.window.as_nanos() / SLOTS as u128).max(1);
        // Zero is a slot that was never used.
        let number = u64::try_from((now - self.began_at).as_nanos() / slot_ns).unwrap_or(u64::MAX - 1) + 1;
        let slot = &mut self.slots[(number % SLOTS as u64) as usize];
        if slot.number != number {
            *slot = Slot { number, ..Slot::default() };
        }
        let place = if is_good { &mut slot.good } else { &mut slot.bad };
        *place = place.saturating_add(1);
        let inside = self.slots.iter().filter(|slot| slot.number > 0 && slot.number + SLOTS as u64 > number);
        inside.fold((0u32, 0u32), |(good, bad), slot| (good.saturating_add(slot.good), bad.saturating_add(slot.bad)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn config() -> BreakerConfig {
        BreakerConfig {
            failures: 3,
            failure_percent: 50,
            calls_min: 10,
            window: 10 * SECOND,
            open: 2 * SECOND,
            probes: 2,
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_good_probes_close_it() {
        let (config, start) = (config(), Instant::now());
        let mut breaker = Breaker::new(start);
        for is_good in [false, false, true, false, false] {
            assert!(breaker.enter(&config, start));
            breaker.record(&config, start, is_good);
        }
        assert_eq!(breaker.state(start), BreakerState::Closed, "a good one lies between");
        breaker.record(&config, start, false);
        assert_eq!(breaker.state(start), BreakerState::Open);
        assert!(!breaker.enter(&config, start + SECOND));
        let later = start + 2 * SECOND;
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        assert!(breaker.enter(&config, later) && breaker.enter(&config, later) && !breaker.enter(&config, later));
        breaker.record(&config, later, true);
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        breaker.record(&config, later, true);
        assert_eq!((breaker.state(later), breaker.opened), (BreakerState::Closed, 1));
    }

    #[test]
    fn a_bad_probe_opens_it_again_and_a_lost_one_makes_room() {
        let (config, start) = (config(), Instant::now());
        let mut breaker = Breaker::new(start);
        (0..3).for_each(|_| breaker.record(&config, start, false));
        let later = start + 3 * SECOND;
        assert!(breaker.enter(&config, later) && breaker.enter(&config, later));
        breaker.give_up();
        assert!(breaker.enter(&config, later));
        breaker.record(&config, later, false);
        assert_eq!(breaker.state(later + SECOND), BreakerState::Open);
        breaker.record(&config, later, true);
        assert_eq!(
            (breaker.state(later + SECOND), breaker.opened),
            (BreakerState::Open, 2),
            "it came too late to count"
        );
    }

    #[test]
    fn a_share_of_failures_within_the_window_opens_it_and_older_ones_do_not_count() {
        let (config, start) = (config(), Instant::now());
        let mut breaker = Breaker::new(start);
        (0..4).for_each(|_| {
            breaker.record(&config, start, false);
            breaker.record(&config, start, true);
        });
        let mut other = Breaker::new(start);
        std::mem::swap(&mut breaker, &mut other);
        // Nine calls more than a window later: the eight are forgotten.
        let later = start + 11 * SECOND;
        for at in 0..9 {
            other.record(&config, later, at % 2 == 0);
        }
        assert_eq!(other.state(later), BreakerState::Closed);
        other.record(&config, later, false);
        assert_eq!(other.state(later), BreakerState::Open, "five of ten");
    }
}
