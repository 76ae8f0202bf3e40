//! How long to wait before the next attempt: twice as long each time, up to a bound, and a little by chance so that many who
//! lost the same venue do not come back together.

use std::time::Duration;

use rand::RngExt;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

/// The attempts since the last that went well.
#[derive(Debug, Default)]
pub struct Backoff {
    failed: u32,
}

impl Backoff {
    /// It went well: the next failure is the first again.
    pub fn succeed(&mut self) {
        self.failed = 0;
    }

    /// It failed: how long to wait.
    pub fn fail(&mut self) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.failed.min(16)).min(LONGEST);
        self.failed = self.failed.saturating_add(1);
        longest.mul_f64(rand::rng().random_range(0.5..1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let first = backoff.fail();
        assert!(first >= FIRST / 2 && first <= FIRST);
        let last = (0..100).map(|_| backoff.fail()).last().unwrap();
        assert!(last >= LONGEST / 2 && last <= LONGEST);
        backoff.succeed();
        assert!(backoff.fail() <= FIRST);
    }
}
