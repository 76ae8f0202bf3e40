//! Deadlines: a hierarchical timer wheel on sequence time, so that many may wait at no cost until they are due.
//!
//! Each level has 64 slots, each slot spans all of the level below. A deadline stands at the level of the highest digit in
//! which it differs from now, and moves down as that digit comes; each moves at most once per level.

use std::collections::BTreeSet;

use crate::units::Time;

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
/// 64 bits in digits of six.
const LEVELS: usize = 11;

#[derive(Clone, Debug)]
struct Wheel<T> {
    occupied: u64,
    slots: [Vec<(Time, T)>; SLOTS],
}

/// What is to happen when. The order in which deadlines fall due is by time and then by what they are, never by how they
/// came to wait here.
#[derive(Clone, Debug)]
pub struct Timers<T> {
    now: Time,
    wheels: Vec<Wheel<T>>,
    earliest: Option<Time>,
}

impl<T: Copy + Ord> Timers<T> {
    /// No deadlines; none set later will lie before `now`.
    pub fn new(now: Time) -> Timers<T> {
        let wheel = || Wheel { occupied: 0, slots: std::array::from_fn(|_| Vec::new()) };
        Timers { now, wheels: (0..LEVELS).map(|_| wheel()).collect(), earliest: None }
    }

    /// The earliest deadline.
    pub fn earliest(&self) -> Option<Time> {
        self.earliest
    }

    /// Something is to happen at a time that is not past.
    pub fn set(&mut self, at: Time, what: T) {
        self.insert(at.max(self.now), at, what);
        self.earliest = Some(self.earliest.map_or(at, |earliest| earliest.min(at)));
    }

    /// It is not to happen at that time after all.
    pub fn clear(&mut self, at: Time, what: T) {
        let (level, slot) = self.place(at.max(self.now));
        let wheel = &mut self.wheels[level];
        wheel.slots[slot].retain(|entry| *entry != (at, what));
        if wheel.slots[slot].is_empty() {
            wheel.occupied &= !(1 << slot);
        }
        if self.earliest == Some(at) {
            self.earliest = self.find_earliest();
        }
    }

    /// Time goes on: all that is due by now, in order.
    pub fn advance(&mut self, now: Time) -> BTreeSet<(Time, T)> {
        let mut due = BTreeSet::new();
        while let Some((level, slot, begins)) = self.next_slot() {
            if begins > now {
                break;
            }
            self.now = begins.max(self.now);
            let wheel = &mut self.wheels[level];
            wheel.occupied &= !(1 << slot);
            for (at, what) in std::mem::take(&mut wheel.slots[slot]) {
                if at <= now {
                    due.insert((at, what));
                } else {
                    self.insert(at, at, what);
                }
            }
        }
        self.now = self.now.max(now);
        self.earliest = self.find_earliest();
        due
    }

    fn insert(&mut self, place_at: Time, at: Time, what: T) {
        let (level, slot) = self.place(place_at);
        let wheel = &mut self.wheels[level];
        wheel.occupied |= 1 << slot;
        wheel.slots[slot].push((at, what));
    }

    fn place(&self, at: Time) -> (usize, usize) {
        let differing = 63 - (at.0 ^ self.now.0 | 1).leading_zeros();
        let level = differing / BITS;
        (level as usize, (at.0 >> (level * BITS) & (SLOTS as u64 - 1)) as usize)
    }

    /// The next slot that holds anything, and when its span begins.
    fn next_slot(&self) -> Option<(usize, usize, Time)> {
        for (level, wheel) in self.wheels.iter().enumerate() {
            let shift = level as u32 * BITS;
            let digit = self.now.0 >> shift & (SLOTS as u64 - 1);
            let ahead = wheel.occupied >> digit << digit;
            if ahead != 0 {
                let slot = ahead.trailing_zeros();
                let above = self.now.0.checked_shr(shift + BITS).unwrap_or(0).checked_shl(shift + BITS).unwrap_or(0);
                return Some((level, slot as usize, Time(above | u64::from(slot) << shift)));
            }
        }
        None
    }

    fn find_earliest(&self) -> Option<Time> {
        let (level, slot, _) = self.next_slot()?;
        self.wheels[level].slots[slot].iter().map(|&(at, _)| at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_fall_due_in_order_whatever_their_distance() {
        for seed in 0..50u64 {
            let mut state = seed;
            let mut next = |bound: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 20) % bound
            };
            let (mut timers, mut expected, mut now) = (Timers::new(Time(1_000_000)), BTreeSet::new(), 1_000_000);
            for what in 0..500u32 {
                let distance = 1 << next(40);
                match next(4) {
                    0 => {
                        now += next(distance);
                        let due = timers.advance(Time(now));
                        let later = expected.split_off(&(Time(now + 1), 0));
                        assert_eq!(due, std::mem::replace(&mut expected, later), "seed {seed}");
                    }
                    1 if !expected.is_empty() => {
                        let at = next(expected.len() as u64) as usize;
                        let &(time, of) = expected.iter().nth(at).unwrap();
                        expected.remove(&(time, of));
                        timers.clear(time, of);
                    }
                    _ => {
                        let at = Time(now + next(distance));
                        expected.insert((at, what));
                        timers.set(at, what);
                    }
                }
                assert_eq!(timers.earliest(), expected.first().map(|&(at, _)| at), "seed {seed}");
            }
        }
    }
}
