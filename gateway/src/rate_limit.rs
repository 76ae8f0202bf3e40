//! How much a client may ask for: a chain of limits, each of which must let a request through.
//!
//! 1. The gateway: a bucket of tokens for all clients together. Empty, it is overload: 503 and -1008.
//! 2. The address: a ban; raw requests, request weight and new connections in fixed windows, aligned to the UTC clock as
//!    documented (rest-api.md, "IP Limits"); a bucket. Refused with 429 and -1003; whoever goes on asking is banned, with 418,
//!    each time for longer.
//! 3. The account, whatever address and key it comes by: a bucket.
//! 4. The call, for each account that makes it, or address where there is no account: a bucket, where one is configured.
//! 5. Unfilled orders: counted by the engine.
//!
//! A request costs one credit of each bucket, or its weight where that is more. What the gateway's bucket gave for a request
//! that a later link refused goes back: a flood that is refused takes nothing from the others. All this is counted by each
//! node for itself, but for the unfilled orders, which are state.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::{Time, Uid};
use parking_lot::Mutex;

use crate::client_address::counted;
use crate::config::LimitsConfig;
use crate::rest::error::ApiError;
use crate::token_bucket::{Bucket, BucketConfig};

const SECOND: u64 = 1_000_000;
/// Seconds of the window of request weight, and of that in which refusals lead to a ban.
const WEIGHT_WINDOW: u64 = 60;
/// Seconds of the windows of raw requests and of connections.
const LONG_WINDOW: u64 = 300;
/// How many clients are told apart, of each kind; those beyond are refused, so that nobody can make it grow without end.
const CLIENTS_MAX: usize = 100_000;
/// How often it is looked, at the most, which clients can be forgotten.
const SWEEP_EVERY: u64 = SECOND;
/// How much longer each ban of an address is than the one before.
const BAN_GROWTH: u64 = 4;

/// All limits but those that the engine keeps.
pub struct RateLimits {
    config: LimitsConfig,
    gateway: Mutex<Bucket>,
    addresses: Mutex<Table<IpAddr, Address>>,
    accounts: Mutex<Table<Uid, Bucket>>,
    calls: Mutex<Table<(Asker, usize), Bucket>>,
    /// What was refused, for metrics.
    pub counts: RefusalCounts,
}

/// What was refused by which link of the chain.
#[derive(Debug, Default)]
pub struct RefusalCounts {
    /// By the gateway's bucket.
    pub gateway: AtomicU64,
    /// By an address's limits.
    pub address: AtomicU64,
    /// Because the address is banned.
    pub banned: AtomicU64,
    /// By an account's bucket.
    pub account: AtomicU64,
    /// By a call's bucket.
    pub call: AtomicU64,
    /// Bans spoken.
    pub bans: AtomicU64,
}

/// Who makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asker {
    Account(Uid),
    Address(IpAddr),
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
        RateLimits {
            gateway: Mutex::new(Bucket::full(&config.gateway, Time(0))),
            addresses: Mutex::new(Table::new()),
            accounts: Mutex::new(Table::new()),
            calls: Mutex::new(Table::new()),
            counts: RefusalCounts::default(),
            config: config.clone(),
        }
    }

    /// Counts a request that has come, before anything of it is looked at, or refuses it.
    pub fn arrive(&self, address: IpAddr, now: Time) -> Result<(), ApiError> {
        self.take_from_gateway(now)?;
        let arrived = self.at_address(address, now, |used, config| {
            let counted = used.raw_requests.add(1, config.raw_requests_per_5_minutes, LONG_WINDOW, now);
            counted.and_then(|()| used.credits.take(&config.address, 1, now)).map_err(ApiError::too_many_requests)
        });
        self.or_give_back(arrived)
    }

    /// Counts a new websocket, or refuses it.
    pub fn connect(&self, address: IpAddr, now: Time) -> Result<(), ApiError> {
        self.at_address(address, now, |used, config| {
            let limit = config.connections_per_5_minutes;
            let counted = used.connections.add(1, limit, LONG_WINDOW, now);
            counted.map_err(|retry_after| ApiError::too_many_connections(limit, "5 MINUTE", retry_after))
        })
    }

    /// Counts a request's weight, or refuses it.
    pub fn use_weight(&self, address: IpAddr, weight: u32, now: Time) -> Result<(), ApiError> {
        let used = self.at_address(address, now, |used, config| {
            let limit = config.request_weight_per_minute;
            let refuse = |retry_after| ApiError::too_much_weight(limit, retry_after);
            used.weight.add(weight, limit, WEIGHT_WINDOW, now).map_err(refuse)?;
            // One credit was taken when it came.
            let more = weight.saturating_sub(1);
            used.credits.take(&config.address, more, now).map_err(ApiError::too_many_requests)
        });
        self.or_give_back(used)
    }

    /// Refuses a request whose weight would be too much, and counts nothing: whether it weighs, its answer decides.
    pub fn check_weight(&self, address: IpAddr, weight: u32, now: Time) -> Result<(), ApiError> {
        let checked = self.at_address(address, now, |used, config| {
            let limit = config.request_weight_per_minute;
            let checked = used.weight.check(weight, limit, WEIGHT_WINDOW, now);
            checked.map_err(|retry_after| ApiError::too_much_weight(limit, retry_after))
        });
        self.or_give_back(checked)
    }

    /// Counts a call that `uid`, or without one somebody at `address`, makes; or refuses it.
    pub fn use_call(
        &self,
        uid: Option<Uid>,
        address: IpAddr,
        call: (&str, &str),
        weight: u32,
        now: Time,
    ) -> Result<(), ApiError> {
        let credits = weight.max(1);
        if let Some(uid) = uid {
            let config = &self.config.account;
            let taken = take_from(&self.accounts, uid, config, credits, now);
            self.refused_by(&self.counts.account, taken)?;
        }
        let is_it = |endpoint: &crate::config::EndpointLimit| (&*endpoint.method, &*endpoint.path) == call;
        if let Some(at) = self.config.endpoint.iter().position(is_it) {
            let asker = uid.map_or_else(|| Asker::Address(counted(address)), Asker::Account);
            let config = self.config.endpoint[at].bucket();
            let taken = take_from(&self.calls, (asker, at), &config, credits, now);
            self.refused_by(&self.counts.call, taken)?;
        }
        Ok(())
    }

    /// What the address has used of its request weight.
    pub fn used_weight(&self, address: IpAddr, now: Time) -> u32 {
        let addresses = self.addresses.lock();
        addresses.clients.get(&counted(address)).map_or(0, |used| used.weight.used(WEIGHT_WINDOW, now))
    }

    /// Whether the address is banned.
    pub fn is_banned(&self, address: IpAddr, now: Time) -> bool {
        self.addresses.lock().clients.get(&counted(address)).is_some_and(|used| now < used.banned_until)
    }

    fn take_from_gateway(&self, now: Time) -> Result<(), ApiError> {
        let taken = self.gateway.lock().take(&self.config.gateway, 1, now);
        taken.map_err(|retry_after| {
            self.counts.gateway.fetch_add(1, Ordering::Relaxed);
            ApiError { retry_after: Some(retry_after), ..ApiError::busy() }
        })
    }

    fn or_give_back(&self, decided: Result<(), ApiError>) -> Result<(), ApiError> {
        if decided.is_err() {
            self.gateway.lock().give_back(&self.config.gateway, 1);
        }
        decided
    }

    fn refused_by(&self, count: &AtomicU64, taken: Result<(), u64>) -> Result<(), ApiError> {
        let refused = taken.map_err(|retry_after| {
            count.fetch_add(1, Ordering::Relaxed);
            ApiError::too_many_requests(retry_after)
        });
        self.or_give_back(refused)
    }

    /// Lets the address's limits decide; what they refuse may end in a ban.
    fn at_address(
        &self,
        address: IpAddr,
        now: Time,
        decide: impl FnOnce(&mut Address, &LimitsConfig) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let mut addresses = self.addresses.lock();
        let config = &self.config;
        let new = || Address::new(config, now);
        let Some(used) = addresses.of(counted(address), now, new, |used| used.is_idle(config, now)) else {
            self.counts.address.fetch_add(1, Ordering::Relaxed);
            return Err(ApiError::too_many_requests(left_of(WEIGHT_WINDOW, now)));
        };
        if now < used.banned_until {
            self.counts.banned.fetch_add(1, Ordering::Relaxed);
            return Err(ApiError::banned(used.banned_until, now));
        }
        decide(used, config).map_err(|refusal| {
            self.counts.address.fetch_add(1, Ordering::Relaxed);
            if config.refusals_before_ban == 0
                || used.refusals.add(1, config.refusals_before_ban, WEIGHT_WINDOW, now).is_ok()
            {
                return refusal;
            }
            used.ban(config, now);
            self.counts.bans.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(address = %counted(address), until = used.banned_until.millis(), "an address is banned");
            ApiError::banned(used.banned_until, now)
        })
    }
}

fn take_from<K: Copy + Hash + Eq>(
    table: &Mutex<Table<K, Bucket>>,
    client: K,
    config: &BucketConfig,
    credits: u32,
    now: Time,
) -> Result<(), u64> {
    if !config.holds() {
        return Ok(());
    }
    let mut table = table.lock();
    let bucket = table.of(client, now, || Bucket::full(config, now), |bucket| bucket.is_full(config, now));
    bucket.map_or(Err(1), |bucket| bucket.take(config, credits, now))
}

/// What one address has used.
struct Address {
    weight: Count,
    raw_requests: Count,
    connections: Count,
    credits: Bucket,
    /// In the window of the weight.
    refusals: Count,
    banned_until: Time,
    /// How often it was banned lately.
    bans: u32,
}

impl Address {
    fn new(config: &LimitsConfig, now: Time) -> Address {
        Address {
            weight: Count::default(),
            raw_requests: Count::default(),
            connections: Count::default(),
            credits: Bucket::full(&config.address, now),
            refusals: Count::default(),
            banned_until: Time(0),
            bans: 0,
        }
    }

    /// Bans it, for longer each time; for the first time again once it has kept quiet as long as the longest ban lasts.
    fn ban(&mut self, config: &LimitsConfig, now: Time) {
        if self.is_forgiven(config, now) {
            self.bans = 0;
        }
        let seconds = config.ban_seconds_first.saturating_mul(BAN_GROWTH.saturating_pow(self.bans));
        let seconds = seconds.min(config.ban_seconds_max);
        self.bans = self.bans.saturating_add(1);
        self.refusals = Count::default();
        self.banned_until = Time(now.0.saturating_add(seconds.saturating_mul(SECOND)));
    }

    fn is_forgiven(&self, config: &LimitsConfig, now: Time) -> bool {
        now.0 >= self.banned_until.0.saturating_add(config.ban_seconds_max.saturating_mul(SECOND))
    }

    /// Whether it can be forgotten without anything changing for it.
    fn is_idle(&mut self, config: &LimitsConfig, now: Time) -> bool {
        self.weight.used(WEIGHT_WINDOW, now) == 0
            && self.raw_requests.used(LONG_WINDOW, now) == 0
            && self.connections.used(LONG_WINDOW, now) == 0
            && (self.bans == 0 || self.is_forgiven(config, now))
            && self.credits.is_full(&config.address, now)
    }
}

/// What was used in a fixed window of the clock.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// The window's number since 1970.
    window: u64,
    used: u32,
}

impl Count {
    /// Counts `amount`, unless the sum is above the limit: then, after how many seconds to come back. A limit of 0 is none.
    fn add(&mut self, amount: u32, limit: u32, seconds: u64, now: Time) -> Result<(), u64> {
        self.check(amount, limit, seconds, now)?;
        let used = self.used(seconds, now).saturating_add(amount);
        *self = Count { window: window(seconds, now), used };
        Ok(())
    }

    /// As [`Count::add`], without counting.
    fn check(&self, amount: u32, limit: u32, seconds: u64, now: Time) -> Result<(), u64> {
        let sum = self.used(seconds, now).saturating_add(amount);
        if limit == 0 || sum <= limit { Ok(()) } else { Err(left_of(seconds, now)) }
    }

    fn used(&self, seconds: u64, now: Time) -> u32 {
        if self.window == window(seconds, now) { self.used } else { 0 }
    }
}

fn window(seconds: u64, now: Time) -> u64 {
    now.0 / SECOND / seconds
}

/// How many seconds are left of the window.
fn left_of(seconds: u64, now: Time) -> u64 {
    seconds - now.0 / SECOND % seconds
}

/// What is known of each client, of so many at the most.
struct Table<K, V> {
    clients: HashMap<K, V>,
    swept_at: Time,
}

impl<K: Hash + Eq, V> Table<K, V> {
    fn new() -> Table<K, V> {
        Table { clients: HashMap::new(), swept_at: Time(0) }
    }

    /// What is known of a client, new where nothing is. `None` when there is no place for one more: those that `is_idle`
    /// have been forgotten by then.
    fn of(
        &mut self,
        client: K,
        now: Time,
        new: impl FnOnce() -> V,
        mut is_idle: impl FnMut(&mut V) -> bool,
    ) -> Option<&mut V> {
        if self.clients.len() >= CLIENTS_MAX && !self.clients.contains_key(&client) {
            if now.0 < self.swept_at.0.saturating_add(SWEEP_EVERY) && now >= self.swept_at {
                return None;
            }
            self.swept_at = now;
            self.clients.retain(|_, known| !is_idle(known));
            if self.clients.len() >= CLIENTS_MAX {
                return None;
            }
        }
        Some(self.clients.entry(client).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_704_110_400;
    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn at(seconds: u64) -> Time {
        Time((NOON + seconds) * SECOND)
    }

    fn limits(change: impl FnOnce(&mut LimitsConfig)) -> RateLimits {
        let mut config = LimitsConfig { request_weight_per_minute: 10, ..LimitsConfig::default() };
        change(&mut config);
        RateLimits::new(&config)
    }

    fn outcome(result: Result<(), ApiError>) -> (u16, i32, Option<u64>) {
        result.map_or_else(|error| (error.status, error.code, error.retry_after), |()| (200, 0, None))
    }

    #[test]
    fn weight_is_counted_by_address_and_forgotten_on_the_minute() {
        let limits = limits(|_| {});
        limits.check_weight(ONE, 10, at(59)).unwrap();
        limits.use_weight(ONE, 10, at(59)).unwrap();
        assert_eq!(limits.check_weight(ONE, 1, at(59)).unwrap_err().code, -1003);
        assert_eq!(limits.used_weight(ONE, at(59)), 10);
        assert_eq!(outcome(limits.use_weight(ONE, 1, at(59))), (429, -1003, Some(1)));
        limits.use_weight(OTHER, 1, at(59)).unwrap();
        limits.use_weight(ONE, 1, at(60)).unwrap();
        assert_eq!(limits.used_weight(ONE, at(60)), 1);
    }

    #[test]
    fn raw_requests_and_connections_are_counted_over_five_minutes() {
        let limits = limits(|config| (config.raw_requests_per_5_minutes, config.connections_per_5_minutes) = (3, 2));
        (0..3).for_each(|second| limits.arrive(ONE, at(second)).unwrap());
        assert_eq!(outcome(limits.arrive(ONE, at(299))), (429, -1003, Some(1)));
        limits.arrive(OTHER, at(299)).unwrap();
        limits.arrive(ONE, at(300)).unwrap();
        (0..2).for_each(|second| limits.connect(ONE, at(second)).unwrap());
        assert_eq!(outcome(limits.connect(ONE, at(200))), (429, -1034, Some(100)));
        limits.connect(ONE, at(300)).unwrap();
    }

    #[test]
    fn who_goes_on_asking_is_banned_each_time_for_longer_and_forgiven_in_the_end() {
        let limits = limits(|config| config.refusals_before_ban = 3);
        let mut now = 0;
        let exhaust = |now| {
            limits.use_weight(ONE, 10, at(now)).unwrap();
            let refused: Vec<_> = (0..5).map(|_| outcome(limits.use_weight(ONE, 1, at(now))).0).collect();
            assert_eq!(refused, [429, 429, 429, 418, 418]);
        };
        for seconds in [120, 480, 1_920, 7_680, 30_720, 122_880, 259_200, 259_200] {
            exhaust(now);
            assert_eq!(outcome(limits.arrive(ONE, at(now))), (418, -1003, Some(seconds)));
            assert!(limits.is_banned(ONE, at(now + seconds - 1)) && !limits.is_banned(OTHER, at(now)));
            assert_eq!(outcome(limits.check_weight(ONE, 1, at(now + seconds - 1))), (418, -1003, Some(1)));
            now += seconds;
            limits.arrive(ONE, at(now)).unwrap();
        }
        now += 259_200;
        exhaust(now);
        assert_eq!(outcome(limits.connect(ONE, at(now))), (418, -1003, Some(120)));
        let text = limits.arrive(ONE, at(now)).unwrap_err().message;
        let until = (NOON + now + 120) * 1_000;
        assert!(text.contains(&format!("IP banned until {until}.")), "{text}");
    }

    #[test]
    fn refusals_far_apart_are_no_reason_for_a_ban() {
        let limits = limits(|config| config.refusals_before_ban = 3);
        for minute in 0..20 {
            limits.use_weight(ONE, 10, at(60 * minute)).unwrap();
            let refused: Vec<_> = (0..3).map(|_| outcome(limits.use_weight(ONE, 1, at(60 * minute))).0).collect();
            assert_eq!(refused, [429, 429, 429]);
        }
    }

    #[test]
    fn a_flood_that_its_address_refuses_takes_nothing_from_the_gateway() {
        let limits = limits(|config| {
            config.gateway = BucketConfig::new(100, 100);
            config.address = BucketConfig::new(10, 10);
            config.refusals_before_ban = 0;
        });
        let passed = (0..10_000).filter(|_| limits.arrive(ONE, at(0)).is_ok()).count();
        assert_eq!(passed, 10);
        // Nine more addresses with ten each: that is all there is.
        for address in 2..11 {
            assert!((0..10).all(|_| limits.arrive([10, 0, 0, address].into(), at(0)).is_ok()));
        }
        assert_eq!(outcome(limits.arrive([10, 0, 0, 11].into(), at(0))), (503, -1008, Some(1)));
        assert!(limits.arrive([10, 0, 0, 11].into(), at(1)).is_ok());
    }

    #[test]
    fn an_account_is_limited_over_all_its_addresses_and_a_call_by_itself() {
        use crate::config::EndpointLimit;
        let limits = limits(|config| {
            config.account = BucketConfig::new(1, 8);
            let (method, path) = ("GET".to_owned(), "/slow".to_owned());
            config.endpoint.push(EndpointLimit { method, path, credits_per_second: 1, credits_max: 2 });
        });
        let ask = |uid: Option<u64>, address, path| {
            outcome(limits.use_call(uid.map(Uid), address, ("GET", path), 1, at(0))).0
        };
        assert_eq!(
            [ask(Some(1), ONE, "/slow"), ask(Some(1), OTHER, "/slow"), ask(Some(1), ONE, "/slow")],
            [200, 200, 429]
        );
        assert_eq!([ask(Some(2), ONE, "/slow"), ask(None, ONE, "/slow"), ask(None, ONE, "/slow")], [200; 3]);
        assert_eq!([ask(None, ONE, "/slow"), ask(None, OTHER, "/slow")], [429, 200]);
        let others: Vec<_> = (0..7).map(|_| ask(Some(1), OTHER, "/fast")).collect();
        assert_eq!(others, [200, 200, 200, 200, 200, 429, 429]);
        assert_eq!(ask(Some(2), ONE, "/fast"), 200);
    }

    #[test]
    fn an_interval_is_named_by_its_largest_unit() {
        let named = [1, 10, 60, 3_600, 86_400, 90].map(interval);
        let expected = [("SECOND", 1), ("SECOND", 10), ("MINUTE", 1), ("HOUR", 1), ("DAY", 1), ("SECOND", 90)];
        assert_eq!(named, expected);
    }

    #[test]
    fn clients_without_end_are_refused_and_those_that_left_make_room() {
        let limits = limits(|_| {});
        for address in 0..CLIENTS_MAX as u32 {
            limits.use_weight(IpAddr::from(address.to_be_bytes()), 1, at(0)).unwrap();
        }
        assert!(limits.use_weight([255, 0, 0, 1].into(), 1, at(1)).is_err());
        assert!(limits.use_weight([0, 0, 0, 1].into(), 1, at(1)).is_ok());
        assert!(limits.use_weight([255, 0, 0, 1].into(), 1, at(60)).is_ok());
        assert!(limits.addresses.lock().clients.len() < 10);
    }
}
