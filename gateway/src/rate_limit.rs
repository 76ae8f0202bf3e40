//! How much a client may ask for: request weight by address. Windows are fixed and aligned to the UTC clock, as documented
//! (rest-api.md, "IP Limits"). Unfilled orders are counted by the engine.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use engine::Time;
use parking_lot::Mutex;

use crate::config::LimitsConfig;
use crate::rest::error::ApiError;

const SECOND: u64 = 1_000_000;
/// Addresses or accounts counted in one window; those beyond are refused, so that nobody can make it grow without end.
const CLIENTS_MAX: usize = 100_000;

/// All limits.
pub struct RateLimits {
    weight: Window<IpAddr>,
}

/// The venue's name of an interval of so many seconds, and how many of it.
pub fn interval(seconds: u32) -> (&'static str, u32) {
    let units = [("DAY", 86_400), ("HOUR", 3_600), ("MINUTE", 60)];
    let unit = units.into_iter().find(|(_, length)| seconds > 0 && seconds.is_multiple_of(*length));
    unit.map_or(("SECOND", seconds), |(name, length)| (name, seconds / length))
}

impl RateLimits {
    /// Nothing used yet.
    pub fn new(config: &LimitsConfig) -> RateLimits {
        RateLimits { weight: Window::new(60, config.request_weight_per_minute) }
    }

    /// Counts a request's weight, or refuses it.
    pub fn use_weight(&self, address: IpAddr, weight: u32, now: Time) -> Result<(), ApiError> {
        self.weight.add(address, weight, now).map_err(|retry_after| self.too_much_weight(retry_after))
    }

    /// Refuses a request whose weight would be too much, and counts nothing: whether it weighs, its answer decides.
    pub fn check_weight(&self, address: IpAddr, weight: u32, now: Time) -> Result<(), ApiError> {
        self.weight.check(address, weight, now).map_err(|retry_after| self.too_much_weight(retry_after))
    }

    fn too_much_weight(&self, retry_after: u64) -> ApiError {
        ApiError::too_much_weight(self.weight.limit, retry_after)
    }

    /// What the address has used.
    pub fn used_weight(&self, address: IpAddr, now: Time) -> u32 {
        self.weight.used(address, now)
    }
}

/// One window for all clients: it starts for all at once, so its end forgets them all.
struct Window<K> {
    seconds: u64,
    limit: u32,
    counts: Mutex<Counts<K>>,
}

struct Counts<K> {
    /// The number of the window since 1970.
    window: u64,
    by_client: HashMap<K, u32>,
}

impl<K: Hash + Eq> Window<K> {
    fn new(seconds: u64, limit: u32) -> Window<K> {
        Window { seconds, limit, counts: Mutex::new(Counts { window: 0, by_client: HashMap::new() }) }
    }

    /// Counts `amount`, unless the sum is above the limit: then, after how many seconds to come back.
    fn add(&self, client: K, amount: u32, now: Time) -> Result<(), u64> {
        let mut counts = self.at(now);
        let sum = self.sum(&counts, &client, amount, now)?;
        counts.by_client.insert(client, sum);
        Ok(())
    }

    /// As [`Window::add`], without counting.
    fn check(&self, client: K, amount: u32, now: Time) -> Result<(), u64> {
        self.sum(&self.at(now), &client, amount, now).map(drop)
    }

    fn sum(&self, counts: &Counts<K>, client: &K, amount: u32, now: Time) -> Result<u32, u64> {
        let used = counts.by_client.get(client);
        let sum = used.copied().unwrap_or(0).saturating_add(amount);
        let has_place = used.is_some() || counts.by_client.len() < CLIENTS_MAX;
        if has_place && sum <= self.limit { Ok(sum) } else { Err(self.seconds - now.0 / SECOND % self.seconds) }
    }

    fn used(&self, client: K, now: Time) -> u32 {
        self.at(now).by_client.get(&client).copied().unwrap_or(0)
    }

    fn at(&self, now: Time) -> parking_lot::MutexGuard<'_, Counts<K>> {
        let mut counts = self.counts.lock();
        let window = now.0 / SECOND / self.seconds;
        if counts.window != window {
            counts.window = window;
            counts.by_client.clear();
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_704_110_400;

    fn at(seconds: u64) -> Time {
        Time((NOON + seconds) * SECOND)
    }

    fn limits() -> RateLimits {
        RateLimits::new(&LimitsConfig { request_weight_per_minute: 10, ..LimitsConfig::default() })
    }

    #[test]
    fn weight_is_counted_by_address_and_forgotten_on_the_minute() {
        let limits = limits();
        let (one, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        limits.check_weight(one, 10, at(59)).unwrap();
        limits.use_weight(one, 10, at(59)).unwrap();
        assert_eq!(limits.check_weight(one, 1, at(59)).unwrap_err().code, -1003);
        assert_eq!(limits.used_weight(one, at(59)), 10);
        let refused = limits.use_weight(one, 1, at(59)).unwrap_err();
        assert_eq!((refused.status, refused.code, refused.retry_after), (429, -1003, Some(1)));
        limits.use_weight(other, 1, at(59)).unwrap();
        limits.use_weight(one, 1, at(60)).unwrap();
        assert_eq!(limits.used_weight(one, at(60)), 1);
    }

    #[test]
    fn an_interval_is_named_by_its_largest_unit() {
        let named = [1, 10, 60, 3_600, 86_400, 90].map(interval);
        let expected = [("SECOND", 1), ("SECOND", 10), ("MINUTE", 1), ("HOUR", 1), ("DAY", 1), ("SECOND", 90)];
        assert_eq!(named, expected);
    }

    #[test]
    fn clients_without_end_are_refused() {
        let limits = limits();
        for address in 0..CLIENTS_MAX as u32 {
            limits.use_weight(IpAddr::from(address.to_be_bytes()), 1, at(0)).unwrap();
        }
        assert!(limits.use_weight([255, 0, 0, 1].into(), 1, at(0)).is_err());
        assert!(limits.use_weight([0, 0, 0, 1].into(), 1, at(0)).is_ok());
    }
}
