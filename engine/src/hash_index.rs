//! From a hash to a place in some vector: the index by name and by uid.
//!
//! An open-addressing table of 64-bit entries, made so that an answer takes one cache line. The upper half of an entry is
//! its hash: what is sought is told from its neighbours without looking at what they stand for, and nothing is ever hashed
//! again. A hash has its home at its share of the table, so entries stand in the order of their hashes, with gaps between
//! them: a search ends at the first larger hash, a removal leaves nothing behind, and growing is one pass from front to
//! back, by any factor.
//!
//! Iterated by nobody: the order of equal hashes depends on what came before.

use crate::prefetch::prefetch;

/// No entry: larger than any.
const GAP: u64 = u64::MAX;
/// The entries of a new table.
const SMALLEST: usize = 32;
/// A table grows by a quarter when more than three in four of its entries are taken: fuller, a search is seldom over at
/// once, and where it ends cannot be foreseen by the processor.
const FULL: (usize, usize) = (3, 4);
const GROWTH: (usize, usize) = (5, 4);

/// The table.
#[derive(Clone, Debug, Default)]
pub struct HashIndex {
    /// The hash above, the place below. What finds no room before the last home stands behind it.
    entries: Vec<u64>,
    /// How many homes there are.
    homes: usize,
    len: usize,
}

impl HashIndex {
    /// One of the places from 0 on, whose hashes these are; it holds a quarter more before it grows. `None` where two of one
    /// hash are the same.
    pub fn restore(
        hashes: impl ExactSizeIterator<Item = u32>,
        is_same: impl Fn(u32, u32) -> bool,
    ) -> Option<HashIndex> {
        let count = hashes.len();
        let homes = ((count + count / 4) * FULL.1 / FULL.0 + 1).max(SMALLEST);
        assert!(u32::try_from(homes).is_ok(), "fewer than 2^32 entries");
        let mut index = HashIndex { entries: Vec::new(), homes, len: count };
        // In the order in which they stand in it, so that it is filled from front to back and nothing is searched.
        let mut sorted: Vec<u64> = hashes.zip(0u32..).map(|(hash, place)| entry(hash, place)).collect();
        sorted.sort_unstable();
        let is_alone = |(at, &entry): (usize, &u64)| {
            let alike = sorted[..at].iter().rev().take_while(|&&before| before >> 32 == entry >> 32);
            alike.into_iter().all(|&before| !is_same(before as u32, entry as u32))
        };
        if !sorted.iter().enumerate().all(is_alone) {
            return None;
        }
        index.spread(sorted.into_iter());
        Some(index)
    }

    /// How many places are in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The place of this hash that `is_it`.
    #[inline]
    pub fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let lowest = u64::from(hash) << 32;
        for &entry in self.entries.get(self.home(hash)..)? {
            if entry >= lowest {
                if entry >> 32 != u64::from(hash) || entry == GAP {
                    return None;
                }
                if is_it(entry as u32) {
                    return Some(entry as u32);
                }
            }
        }
        None
    }

    /// Begin to fetch what an answer takes.
    #[inline]
    pub fn prefetch(&self, hash: u32) {
        if let Some(entry) = self.entries.get(self.home(hash)) {
            prefetch(entry);
        }
    }

    /// Add a place that is not there.
    #[inline]
    pub fn insert(&mut self, hash: u32, place: u32) {
        if (self.len + 1) * FULL.1 > self.homes * FULL.0 {
            self.grow();
        }
        self.len += 1;
        let mut at = self.home(hash);
        let mut moving = entry(hash, place);
        while self.entries.get(at).is_some_and(|&entry| entry < moving) {
            at += 1;
        }
        // It takes the place of the first larger one, and all up to the next gap make room.
        while moving != GAP {
            match self.entries.get_mut(at) {
                Some(entry) => moving = std::mem::replace(entry, moving),
                None => self.entries.push(std::mem::replace(&mut moving, GAP)),
            }
            at += 1;
        }
    }

    /// Add a place that is not there, if there is a gap within `reach` of its home. Where all are added like this, none ever
    /// stands farther from home: what makes room has its home behind the new one's, and goes no farther than that gap.
    #[inline]
    pub fn insert_near(&mut self, hash: u32, place: u32, reach: usize) -> bool {
        let home = self.home(hash);
        let is_near = (home..home + reach).any(|at| self.entries.get(at).is_none_or(|&entry| entry == GAP));
        if is_near {
            self.insert(hash, place);
        }
        is_near
    }

    /// Take out a place that is there.
    #[inline]
    pub fn remove(&mut self, hash: u32, place: u32) {
        let sought = entry(hash, place);
        let mut at = self.home(hash);
        while self.entries[at] < sought {
            at += 1;
        }
        assert!(self.entries[at] == sought, "only what is there is removed");
        self.len -= 1;
        // What stands behind it, away from home, moves up.
        loop {
            let next = self.entries.get(at + 1).copied().unwrap_or(GAP);
            if next == GAP || self.home((next >> 32) as u32) > at {
                self.entries[at] = GAP;
                return;
            }
            self.entries[at] = next;
            at += 1;
        }
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        (u64::from(hash).wrapping_mul(self.homes as u64) >> 32) as usize
    }

    #[cold]
    fn grow(&mut self) {
        self.homes = (self.homes * GROWTH.0 / GROWTH.1).max(SMALLEST);
        assert!(u32::try_from(self.homes).is_ok(), "fewer than 2^32 entries");
        let before = std::mem::take(&mut self.entries);
        self.spread(before.into_iter().filter(|&entry| entry != GAP));
    }

    /// These entries, lowest first, each at its home or as near behind it as there is room.
    fn spread(&mut self, sorted: impl Iterator<Item = u64>) {
        self.entries = vec![GAP; self.homes];
        let mut free = 0;
        for entry in sorted {
            let at = self.home((entry >> 32) as u32).max(free);
            match self.entries.get_mut(at) {
                Some(gap) => *gap = entry,
                None => self.entries.push(entry),
            }
            free = at + 1;
        }
    }
}

fn entry(hash: u32, place: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(place)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_agrees_with_a_b_tree_whatever_collides() {
        for (seed, distinct) in [(1, 7u64), (2, 50), (3, 1_000), (4, 100_000)] {
            let mut state: u64 = seed;
            let mut next = move |bound: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % bound
            };
            let (mut index, mut tree) = (HashIndex::default(), BTreeMap::new());
            for _ in 0..20_000 {
                let place = next(3_000) as u32;
                // The highest hashes have their home at the end of the table.
                let hash_of = |place: u32| u32::MAX - (u64::from(place) % distinct) as u32 * 0x9e37;
                let hash = hash_of(place);
                match tree.remove(&place) {
                    Some(hash) => index.remove(hash, place),
                    None => {
                        tree.insert(place, hash);
                        index.insert(hash, place);
                    }
                }
                assert_eq!(index.len(), tree.len());
                let probe = next(3_000) as u32;
                let expected = tree.contains_key(&probe).then_some(probe);
                assert_eq!(index.find(hash_of(probe), |place| place == probe), expected);
            }
            // The same made at once, of what has no gaps between its places.
            let hashes: Vec<u32> = tree.values().copied().collect();
            let mut restored = HashIndex::restore(hashes.iter().copied(), |_, _| false).unwrap();
            for (place, &hash) in (0..).zip(&hashes) {
                assert_eq!(restored.find(hash, |found| found == place), Some(place));
            }
            for (place, &hash) in (0..).zip(&hashes) {
                restored.remove(hash, place);
            }
            assert!(restored.len() == 0 && restored.entries.iter().all(|&entry| entry == GAP));
            let (first, last) = (hashes[0], hashes.len() as u32);
            let again = || hashes.iter().copied().chain([first]).collect::<Vec<u32>>().into_iter();
            assert!(HashIndex::restore(again(), |a, b| (a, b) == (0, last)).is_none(), "it is there twice");

            for (&place, &hash) in &tree {
                index.remove(hash, place);
            }
            assert!(index.entries.iter().all(|&entry| entry == GAP), "nothing is left behind");
        }
    }
}
