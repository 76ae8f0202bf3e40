//! Histograms that any number of threads record into without a lock and without allocation.
//!
//! A whole number up to a hundred has a bucket of its own, and each power of ten above it ninety: a reading is never more than
//! a tenth above the truth, and every number with two digits and zeros behind them is exactly a bucket's upper bound. So the
//! bounds that operators are used to (0.25 ms, 5 s) can be told without rounding.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Values up to this one have a bucket each.
const EXACT_MAX: u64 = 100;
/// Buckets of a power of ten above.
const PER_DECADE: usize = 90;
/// What is larger counts as this: a thousand seconds, where values are nanoseconds.
const VALUE_MAX: u64 = 1_000_000_000_000;
/// From 100 to that maximum.
const DECADES: usize = 10;
const BUCKETS: usize = EXACT_MAX as usize + 1 + DECADES * PER_DECADE;

/// How many values were how large.
#[derive(Debug)]
pub struct Histogram {
    /// Threads record into different ones, as far as there are enough, so that they do not wait for each other's caches.
    shards: Box<[Shard]>,
}

#[derive(Debug)]
struct Shard {
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// An empty one that one thread at a time records into.
    pub fn new() -> Histogram {
        Histogram::sharded(1)
    }

    /// An empty one that about so many threads record into at once.
    pub fn sharded(threads: usize) -> Histogram {
        let shard = |_| Shard { counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) };
        Histogram { shards: (0..threads.max(1)).map(shard).collect() }
    }

    /// One more value.
    pub fn record(&self, value: u64) {
        self.record_many(value, 1);
    }

    /// A value that so many had.
    pub fn record_many(&self, value: u64, times: u64) {
        let value = value.min(VALUE_MAX);
        let shard = &self.shards[if self.shards.len() == 1 { 0 } else { thread_number() % self.shards.len() }];
        shard.counts[bucket_of(value)].fetch_add(times, Ordering::Relaxed);
        shard.sum.fetch_add(value.saturating_mul(times), Ordering::Relaxed);
    }

    /// One more duration, in nanoseconds.
    pub fn record_duration(&self, duration: Duration) {
        self.record_durations(duration, 1);
    }

    /// A duration that so many had, in nanoseconds.
    pub fn record_durations(&self, duration: Duration, times: u64) {
        self.record_many(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), times);
    }

    /// What it holds. What is recorded meanwhile may be in it or not.
    pub fn read(&self) -> Counts {
        let mut read = Counts::default();
        for shard in &self.shards {
            for (count, of_shard) in read.counts.iter_mut().zip(&shard.counts) {
                *count += of_shard.load(Ordering::Relaxed);
            }
            read.sum = read.sum.wrapping_add(shard.sum.load(Ordering::Relaxed));
        }
        read
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

/// What a histogram held at a moment, or between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    counts: Box<[u64]>,
    sum: u64,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts { counts: vec![0; BUCKETS].into(), sum: 0 }
    }
}

impl Counts {
    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What they add up to.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// What came after `earlier`, an earlier reading of the same histogram.
    pub fn since(&self, earlier: &Counts) -> Counts {
        let pairs = self.counts.iter().zip(&earlier.counts);
        let counts = pairs.map(|(now, then)| now.saturating_sub(*then)).collect();
        Counts { counts, sum: self.sum.wrapping_sub(earlier.sum) }
    }

    /// The value that so many of a thousand do not exceed, at most a tenth too large; 0 where there is none.
    pub fn per_mille(&self, per_mille: u64) -> u64 {
        let count = u128::from(self.count());
        let wanted = u64::try_from((count * u128::from(per_mille)).div_ceil(1_000)).unwrap_or(u64::MAX).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map_or(0, upper_bound)
    }

    /// How many values are not above each of `bounds`, which ascend; exact where a bound has no more than two digits before
    /// its zeros.
    pub fn at_most(&self, bounds: &[u64]) -> Vec<u64> {
        let (mut told, mut seen, mut next) = (Vec::with_capacity(bounds.len()), 0, 0);
        for &bound in bounds {
            let end = bucket_of(bound.min(VALUE_MAX)) + 1;
            seen += self.counts[next.min(end)..end].iter().sum::<u64>();
            next = end;
            told.push(seen);
        }
        told
    }
}

/// A number of this thread; those that start one after the other have different ones.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    // Zero where it has none yet, so that asking costs no more than a look.
    thread_local!(static NUMBER: Cell<usize> = const { Cell::new(0) });
    let number = NUMBER.get();
    if number != 0 {
        return number;
    }
    NUMBER.set(NEXT.fetch_add(1, Ordering::Relaxed).max(1));
    NUMBER.get()
}

fn bucket_of(value: u64) -> usize {
    if value <= EXACT_MAX {
        return value as usize;
    }
    // An upper bound belongs to its bucket.
    let below = value - 1;
    let decade = below.ilog10();
    let digits = below / 10_u64.pow(decade - 1);
    EXACT_MAX as usize + 1 + (decade as usize - 2) * PER_DECADE + digits as usize - 10
}

fn upper_bound(bucket: usize) -> u64 {
    if bucket <= EXACT_MAX as usize {
        return bucket as u64;
    }
    let above = bucket - EXACT_MAX as usize - 1;
    let (decade, digits) = (above / PER_DECADE, above % PER_DECADE + 10);
    (digits as u64 + 1) * 10_u64.pow(decade as u32 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_bucket_whose_bounds_it_lies_between() {
        let mut value = 0;
        while value <= VALUE_MAX {
            let bucket = bucket_of(value);
            assert!(value <= upper_bound(bucket), "{value}");
            assert!(bucket == 0 || value > upper_bound(bucket - 1), "{value}");
            value += 1 + value / 997;
        }
        assert_eq!(bucket_of(VALUE_MAX), BUCKETS - 1);
        assert_eq!(upper_bound(BUCKETS - 1), VALUE_MAX);
    }

    #[test]
    fn numbers_of_two_digits_and_zeros_are_bounds() {
        for digits in 10..100 {
            for decade in 0..10 {
                let bound = digits * 10_u64.pow(decade);
                assert_eq!(upper_bound(bucket_of(bound)), bound);
            }
        }
    }

    #[test]
    fn percentiles_are_those_of_the_values_sorted_within_a_tenth() {
        let histogram = Histogram::sharded(3);
        // Many small values and a long tail; the same on every run.
        let mut seed = 7_u64;
        let mut values: Vec<u64> = (0..10_000)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                1 + (seed >> 40) % 10_u64.pow(1 + (seed >> 33) as u32 % 8)
            })
            .collect();
        values.iter().for_each(|value| histogram.record(*value));
        values.sort_unstable();
        let read = histogram.read();
        assert_eq!((read.count(), read.sum()), (10_000, values.iter().sum()));
        for per_mille in [1, 10, 500, 900, 990, 999, 1_000] {
            let exact = values[(values.len() * per_mille as usize).div_ceil(1_000) - 1];
            let told = read.per_mille(per_mille);
            assert!(told >= exact && told <= exact + exact / 10 + 1, "{per_mille}: {told} for {exact}");
        }
        let bounds = [0, 5, 25, 2_500, 1_000_000, u64::MAX];
        let exact = bounds.map(|bound| values.iter().filter(|value| **value <= bound).count() as u64);
        assert_eq!(read.at_most(&bounds), exact);
    }

    #[test]
    fn values_beyond_the_last_bucket_count_in_it() {
        let histogram = Histogram::new();
        histogram.record_many(u64::MAX, 2);
        let read = histogram.read();
        assert_eq!((read.count(), read.per_mille(1_000), read.sum()), (2, VALUE_MAX, 2 * VALUE_MAX));
    }

    #[test]
    fn a_difference_holds_what_came_between() {
        let histogram = Histogram::new();
        histogram.record(5);
        let earlier = histogram.read();
        assert_eq!(Counts::default().per_mille(500), 0);
        histogram.record_many(70, 3);
        let between = histogram.read().since(&earlier);
        assert_eq!((between.count(), between.sum(), between.per_mille(1)), (3, 210, 70));
    }

    #[test]
    fn nothing_is_lost_when_threads_record_at_once() {
        let histogram = Histogram::sharded(2);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let histogram = &histogram;
                scope.spawn(move || (0..10_000).for_each(|value| histogram.record(thread * 1_000 + value % 7)));
            }
        });
        assert_eq!(histogram.read().count(), 40_000);
    }
}
