//! A user's commands keep their order, and one user's flood fills one lane only.
//!
//! The uid picks the lane by a keyed hash on a ring. A lane is a bound and a lock, not a stop on the way: it counts the
//! commands it has under way, and hands each on to the sequencer's queue while its lock is held, so what came first is
//! queued first. All lanes together hold what that queue holds. A full lane refuses with 503 and -1008.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Command, Time, Uid};
use journal::{Answer, Caller, Sequencer, SubmitError};
use parking_lot::Mutex;
use siphasher::sip::SipHasher24;
use tokio::sync::oneshot;

use crate::clock;
use crate::config::LanesConfig;
use crate::feed::InFlight;
use crate::rest::error::ApiError;

/// How long an answer is waited for; then its fate is unknown (rest-api.md: ten seconds).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How many places each lane has on the ring: enough that the fullest lane has little more than its share.
const PLACES_PER_LANE: u32 = 64;

/// The lanes before the sequencer.
pub struct Lanes {
    ring: Ring,
    lanes: Vec<Arc<Lane>>,
    commands_max: usize,
    sequencer: Sequencer,
    in_flight: Arc<InFlight>,
}

/// How many commands of a lane are under way.
type Lane = Mutex<usize>;

impl Lanes {
    /// Lanes before `sequencer`. `key` keeps outsiders from choosing uids that crowd a lane.
    pub fn new(config: &LanesConfig, key: [u8; 16], sequencer: Sequencer, in_flight: Arc<InFlight>) -> Lanes {
        let lanes = (0..config.count).map(|_| Arc::default()).collect();
        Lanes { ring: Ring::new(config.count, key), lanes, commands_max: config.commands_max, sequencer, in_flight }
    }

    /// Puts a user's command into its lane and the queue behind it; never waits. A command whose `deadline` has passed
    /// is refused: the second look at recvWindow, just before the sequencer.
    pub fn submit(&self, uid: Uid, command: Command, deadline: Option<Time>) -> Result<Pending, ApiError> {
        self.put(uid, deadline, |caller| self.sequencer.submit(command, Some(caller)))
    }

    /// The same with commands that stand or fall together; the answer is to the first of them.
    pub fn submit_together(&self, uid: Uid, commands: Vec<Command>) -> Result<Pending, ApiError> {
        self.put(uid, None, |caller| self.sequencer.submit_together(commands, Some(caller)))
    }

    fn put(
        &self,
        uid: Uid,
        deadline: Option<Time>,
        submit: impl FnOnce(Caller) -> Result<Instant, SubmitError>,
    ) -> Result<Pending, ApiError> {
        let lane = &self.lanes[self.ring.lane_of(uid)];
        let mut under_way = lane.lock();
        if *under_way >= self.commands_max {
            return Err(ApiError::busy());
        }
        if deadline.is_some_and(|deadline| clock::now() > deadline) {
            return Err(ApiError::outside_receive_window());
        }
        let (caller, answer) = oneshot::channel();
        self.in_flight.enter();
        let queued = submit(caller).map_err(|error| {
            self.in_flight.leave(1);
            match error {
                // To a client both mean: not now.
                SubmitError::Busy | SubmitError::NoSpace => ApiError::busy(),
                SubmitError::NoLeader | SubmitError::Stopping => ApiError::unavailable(),
            }
        })?;
        *under_way += 1;
        Ok(Pending { queued, answer, _place: Place(lane.clone()) })
    }

    /// How many commands each lane has under way.
    pub fn depths(&self) -> Vec<usize> {
        self.lanes.iter().map(|lane| *lane.lock()).collect()
    }
}

/// A command that is on its way.
pub struct Pending {
    /// When it was put into the queue.
    pub queued: Instant,
    answer: oneshot::Receiver<Answer>,
    _place: Place,
}

impl Pending {
    /// What became of it, once it is durable, applied and in the views.
    pub async fn answer(self) -> Result<Answer, ApiError> {
        match tokio::time::timeout(ANSWER_TIMEOUT, self.answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(ApiError::timeout()),
        }
    }
}

/// A place in a lane, given back when dropped.
struct Place(Arc<Lane>);

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
    }
}

/// A consistent hash of uids: each lane stands at many places of a ring, a uid belongs to the next place after its own
/// hash. Adding a lane moves only the uids that it takes over. The hash is SipHash-2-4 over little-endian bytes with a
/// 16-byte key; it is frozen by the test vectors below.
struct Ring {
    hasher: SipHasher24,
    /// Place and lane, ascending.
    places: Vec<(u64, usize)>,
}

impl Ring {
    fn new(lanes: usize, key: [u8; 16]) -> Ring {
        let hasher = SipHasher24::new_with_key(&key);
        let place = |lane: usize, number: u32| {
            let mut name = [0; 12];
            name[..8].copy_from_slice(&(lane as u64).to_le_bytes());
            name[8..].copy_from_slice(&number.to_le_bytes());
            (hasher.hash(&name), lane)
        };
        let mut places: Vec<_> = (0..lanes)
            .flat_map(|lane| (0..PLACES_PER_LANE).map(move |number| (lane, number)))
            .map(|(lane, number)| place(lane, number))
            .collect();
        places.sort_unstable();
        Ring { hasher, places }
    }

    fn lane_of(&self, uid: Uid) -> usize {
        let hash = self.hasher.hash(&uid.0.to_le_bytes());
        let after = self.places.partition_point(|(place, _)| *place < hash);
        self.places[after % self.places.len()].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 16] = *b"0123456789abcdef";

    #[test]
    fn the_hash_is_siphash_2_4() {
        // The first vectors of the reference implementation: key 00..0f, messages of 0 and 8 ascending bytes.
        let key: [u8; 16] = std::array::from_fn(|byte| byte as u8);
        let hasher = SipHasher24::new_with_key(&key);
        assert_eq!(hasher.hash(&[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(hasher.hash(&[0, 1, 2, 3, 4, 5, 6, 7]), 0x93f5_f579_9a93_2462);
    }

    #[test]
    fn the_ring_is_frozen() {
        // Worked out by another program from the description above.
        let ring = Ring::new(16, KEY);
        let lanes: Vec<usize> = (1..=12).map(|uid| ring.lane_of(Uid(uid))).collect();
        assert_eq!(lanes, [3, 10, 0, 5, 1, 15, 5, 2, 13, 7, 1, 12]);
        assert_eq!(ring.lane_of(Uid(u64::MAX)), 10);
    }

    #[test]
    fn a_lane_has_little_more_than_its_share() {
        let ring = Ring::new(16, KEY);
        let mut counts = [0; 16];
        (1..=100_000).for_each(|uid| counts[ring.lane_of(Uid(uid))] += 1);
        assert!(counts.iter().all(|count| (3_500..9_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn one_more_lane_takes_uids_only_for_itself() {
        let (before, after) = (Ring::new(8, KEY), Ring::new(9, KEY));
        let mut moved = 0;
        for uid in (1..=20_000).map(Uid) {
            let (was, is) = (before.lane_of(uid), after.lane_of(uid));
            assert!(was == is || is == 8, "{uid:?} went from {was} to {is}");
            moved += usize::from(was != is);
        }
        assert!((1_000..4_000).contains(&moved), "{moved} moved");
    }

    #[test]
    fn another_key_is_another_ring() {
        let (one, other) = (Ring::new(16, KEY), Ring::new(16, [7; 16]));
        assert!((1..=100).map(Uid).any(|uid| one.lane_of(uid) != other.lane_of(uid)));
    }
}
