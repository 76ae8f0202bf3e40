//! The websockets that are open. As many as connections may be.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::Mutex;

use crate::ws::channel::{Behind, Outbox};

/// The websockets that are open, by their numbers in this process.
#[derive(Default)]
pub struct Registry(Mutex<HashMap<u64, Open>>);

#[derive(Clone)]
struct Open {
    address: SocketAddr,
    since: Instant,
    outbox: Outbox,
}

/// A place among the open ones, given back when dropped.
pub struct Entered {
    registry: Arc<Registry>,
    id: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.registry.0.lock().remove(&self.id);
    }
}

/// One that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSample {
    /// Its number.
    pub id: u64,
    /// Who is at the other end.
    pub address: SocketAddr,
    /// Streams that it listens to.
    pub streams: usize,
    /// What it has not taken yet of them.
    pub behind: u64,
    /// How old the oldest of that is, or for how long its peer takes nothing, whichever is longer.
    pub lag_ms: u64,
    /// Messages it was not sent, as later ones replaced or contain them.
    pub conflated: u64,
    /// Messages of streams that it took.
    pub sent: u64,
    /// For how long it has been open.
    pub open_seconds: u64,
}

impl Registry {
    /// One more is open.
    pub fn enter(self: &Arc<Registry>, address: SocketAddr, outbox: Outbox) -> Entered {
        let id = outbox.id();
        self.0.lock().insert(id, Open { address, since: Instant::now(), outbox });
        Entered { registry: self.clone(), id }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends one; whether it was open.
    pub fn disconnect(&self, id: u64) -> bool {
        self.0.lock().get(&id).is_some_and(|open| open.outbox.disconnect())
    }

    /// The slowest of them, the most behind first.
    pub fn slowest(&self, behind: &HashMap<u64, Behind>, most: usize, now_ms: u64) -> Vec<SocketSample> {
        let open: Vec<Open> = self.0.lock().values().cloned().collect();
        let mut samples: Vec<SocketSample> = open.iter().map(|open| open.sample(behind, now_ms)).collect();
        samples.sort_unstable_by_key(|it| (std::cmp::Reverse((it.behind, it.lag_ms, it.conflated)), it.id));
        samples.truncate(most);
        samples
    }
}

impl Open {
    fn sample(&self, behind: &HashMap<u64, Behind>, now_ms: u64) -> SocketSample {
        let (id, counts) = (self.outbox.id(), self.outbox.counts());
        let behind = behind.get(&id);
        let stalled = Some(counts.stalled_since_ms.load(Ordering::Relaxed)).filter(|since| *since > 0);
        let waits_since = [behind.map(|behind| behind.since_ms), stalled].into_iter().flatten().min();
        SocketSample {
            id,
            address: self.address,
            streams: counts.streams.load(Ordering::Relaxed),
            behind: behind.map_or(0, |behind| behind.items),
            lag_ms: waits_since.map_or(0, |since| now_ms.saturating_sub(since)),
            conflated: counts.conflated.load(Ordering::Relaxed),
            sent: counts.taken.load(Ordering::Relaxed),
            open_seconds: self.since.elapsed().as_secs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::channel::outbox;

    #[test]
    fn the_slowest_come_first_and_who_is_gone_is_not_told_of() {
        let registry = Arc::new(Registry::default());
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let sockets: Vec<_> = (0..4).map(|_| outbox()).collect();
        let id = |at: usize| sockets[at].0.id();
        let mut entered: Vec<_> = sockets.iter().map(|(outbox, _)| registry.enter(address, outbox.clone())).collect();
        sockets[3].0.counts().stalled_since_ms.store(900, Ordering::Relaxed);
        let behind =
            HashMap::from([(id(1), Behind { items: 2, since_ms: 990 }), (id(2), Behind { items: 7, since_ms: 400 })]);
        let told = |most| {
            let slowest = registry.slowest(&behind, most, 1_000);
            slowest.into_iter().map(|it| (it.id, it.behind, it.lag_ms)).collect::<Vec<_>>()
        };
        assert_eq!(told(10), [(id(2), 7, 600), (id(1), 2, 10), (id(3), 0, 100), (id(0), 0, 0)]);
        assert_eq!(told(1), [(id(2), 7, 600)]);
        drop(entered.remove(2));
        assert_eq!((registry.len(), told(1)), (3, vec![(id(1), 2, 10)]));
        assert!(registry.disconnect(id(1)), "it was open");
        assert!(!registry.disconnect(id(2)), "it is gone");
    }
}
