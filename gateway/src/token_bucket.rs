//! A bucket of tokens: it fills at a steady rate up to its size, and whoever finds too little in it waits.

use engine::Time;
use serde::{Deserialize, Serialize};

const SECOND: u64 = 1_000_000;

/// How fast a bucket fills and how much it holds, in credits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketConfig {
    /// What comes in each second; 0 is no limit.
    pub credits_per_second: u32,
    /// The most it holds: how much may be used at once after a pause.
    pub credits_max: u32,
}

impl BucketConfig {
    /// So much a second, and so much at once.
    pub const fn new(credits_per_second: u32, credits_max: u32) -> BucketConfig {
        BucketConfig { credits_per_second, credits_max }
    }

    /// Whether it limits anything.
    pub fn holds(&self) -> bool {
        self.credits_per_second > 0
    }

    fn full(&self) -> u64 {
        u64::from(self.credits_max) * SECOND
    }
}

/// What is in a bucket.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// In millionths of a credit, which is what comes in a microsecond at one a second.
    level: u64,
    at: Time,
}

impl Bucket {
    /// A full one.
    pub fn full(config: &BucketConfig, now: Time) -> Bucket {
        Bucket { level: config.full(), at: now }
    }

    /// Takes so many credits, or says after how many seconds they would be there. More than it holds is let through when it
    /// is full: it could never be otherwise.
    pub fn take(&mut self, config: &BucketConfig, credits: u32, now: Time) -> Result<(), u64> {
        if !config.holds() {
            return Ok(());
        }
        self.fill(config, now);
        let wanted = (u64::from(credits) * SECOND).min(config.full());
        match self.level.checked_sub(wanted) {
            Some(left) => {
                self.level = left;
                Ok(())
            }
            None => {
                let missing = wanted - self.level;
                Err(missing.div_ceil(u64::from(config.credits_per_second)).div_ceil(SECOND).max(1))
            }
        }
    }

    /// Puts back what was taken for nothing.
    pub fn give_back(&mut self, config: &BucketConfig, credits: u32) {
        self.level = (self.level + u64::from(credits) * SECOND).min(config.full());
    }

    /// Whether nothing of it is used any more.
    pub fn is_full(&mut self, config: &BucketConfig, now: Time) -> bool {
        self.fill(config, now);
        !config.holds() || self.level == config.full()
    }

    fn fill(&mut self, config: &BucketConfig, now: Time) {
        let passed = now.0.saturating_sub(self.at.0);
        // A clock that was set back starts from there.
        self.at = now;
        let come = passed.saturating_mul(u64::from(config.credits_per_second));
        self.level = self.level.saturating_add(come).min(config.full());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: BucketConfig = BucketConfig::new(10, 20);

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let start = Time(5 * SECOND);
        let mut bucket = Bucket::full(&CONFIG, start);
        assert!((0..20).all(|_| bucket.take(&CONFIG, 1, start).is_ok()));
        assert_eq!(bucket.take(&CONFIG, 1, start), Err(1));
        assert_eq!(bucket.take(&CONFIG, 15, start), Err(2));
        let later = Time(start.0 + SECOND / 2);
        assert_eq!((0..20).filter(|_| bucket.take(&CONFIG, 1, later).is_ok()).count(), 5);
        assert!(!bucket.is_full(&CONFIG, later));
        assert!(bucket.is_full(&CONFIG, Time(later.0 + 2 * SECOND)));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_never_overflows_it() {
        let mut bucket = Bucket::full(&CONFIG, Time(0));
        bucket.take(&CONFIG, 20, Time(0)).unwrap();
        bucket.give_back(&CONFIG, 3);
        assert!(bucket.take(&CONFIG, 4, Time(0)).is_err());
        bucket.take(&CONFIG, 3, Time(0)).unwrap();
        bucket.give_back(&CONFIG, u32::MAX);
        bucket.take(&CONFIG, 20, Time(0)).unwrap();
        assert!(bucket.take(&CONFIG, 1, Time(0)).is_err());
    }

    #[test]
    fn a_clock_that_goes_back_or_far_ahead_breaks_nothing() {
        let mut bucket = Bucket::full(&CONFIG, Time(100 * SECOND));
        bucket.take(&CONFIG, 20, Time(100 * SECOND)).unwrap();
        assert!(bucket.take(&CONFIG, 1, Time(0)).is_err());
        bucket.take(&CONFIG, 10, Time(SECOND)).unwrap();
        bucket.take(&CONFIG, 20, Time(u64::MAX)).unwrap();
    }

    #[test]
    fn no_rate_is_no_limit_and_more_than_the_size_passes_when_full() {
        let mut bucket = Bucket::full(&BucketConfig::default(), Time(0));
        assert!((0..1_000).all(|_| bucket.take(&BucketConfig::default(), u32::MAX, Time(0)).is_ok()));
        let mut bucket = Bucket::full(&CONFIG, Time(0));
        bucket.take(&CONFIG, 1_000, Time(0)).unwrap();
        assert_eq!(bucket.take(&CONFIG, 1_000, Time(0)), Err(2));
    }
}
