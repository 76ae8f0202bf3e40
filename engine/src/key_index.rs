//! From a key that clients have a hand in to a place in some vector: the index by names that are used once.
//!
//! Keys are spread evenly unless a client goes out of its way, so they are in hash tables, where an answer takes one cache
//! line; several, so that none is long when it grows. Who makes names until their keys are neighbours fills a few homes there
//! and no more: what would stand too far from its home is in a tree, which nobody can make slow.

use std::collections::BTreeSet;

use crate::hash_index::HashIndex;

/// Hash tables. Of a million keys some thirty thousand are copied when one grows.
const TABLES: usize = 32;
/// How far from its home a key may stand. At the load that a table has before it grows, one key in thousands is that far.
const REACH: usize = 128;

/// The index.
#[derive(Clone, Debug, Default)]
pub struct KeyIndex {
    tables: [HashIndex; TABLES],
    /// What found no room near its home.
    crowded_out: BTreeSet<(u64, u32)>,
}

impl KeyIndex {
    /// How many places are in it.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.tables.iter().map(HashIndex::len).sum::<usize>() + self.crowded_out.len()
    }

    /// The place of this key that `is_it`, among those of other keys perhaps.
    #[inline]
    pub fn find(&self, key: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let (table, hash) = home(key);
        self.tables[table].find(hash, &is_it).or_else(|| {
            let mut crowded_out = self.crowded_out.range((key, 0)..=(key, u32::MAX)).map(|&(_, place)| place);
            crowded_out.find(|&place| is_it(place))
        })
    }

    /// Begin to fetch what an answer takes.
    #[inline]
    pub fn prefetch(&self, key: u64) {
        let (table, hash) = home(key);
        self.tables[table].prefetch(hash);
    }

    /// Add a place that is not there.
    pub fn insert(&mut self, key: u64, place: u32) {
        let (table, hash) = home(key);
        if !self.tables[table].insert_near(hash, place, REACH) {
            self.crowded_out.insert((key, place));
        }
    }

    /// Take out a place, if it is there.
    pub fn remove(&mut self, key: u64, place: u32) {
        let (table, hash) = home(key);
        if !self.crowded_out.remove(&(key, place)) && self.tables[table].find(hash, |found| found == place).is_some() {
            self.tables[table].remove(hash, place);
        }
    }
}

/// Where a key belongs: in which table, under which hash.
fn home(key: u64) -> (usize, u32) {
    ((key % TABLES as u64) as usize, (key >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_agrees_with_a_b_tree_whether_keys_are_spread_or_neighbours() {
        let cases = [
            (1u64, u64::MAX, false),
            (2, 0xff << 56, false),
            (3, 0b111 << 61, true),
            (4, 0xff << 24, true),
            (5, 0, true),
        ];
        for (seed, mask, is_crowded) in cases {
            let (mut index, mut tree) = (KeyIndex::default(), BTreeMap::new());
            let mut state = seed;
            let mut next = move || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state ^ state >> 29
            };
            let keys: Vec<u64> = (0..4_000).map(|_| next() & mask).collect();
            for _ in 0..40_000 {
                let place = next() % 4_000;
                let (key, place) = (keys[place as usize], place as u32);
                match tree.remove(&place) {
                    Some(key) => index.remove(key, place),
                    None => {
                        tree.insert(place, key);
                        index.insert(key, place);
                    }
                }
                let probe = (next() % 4_000) as u32;
                let expected = tree.contains_key(&probe).then_some(probe);
                assert_eq!(index.find(keys[probe as usize], |place| place == probe), expected);
                assert_eq!(index.len(), tree.len());
            }
            assert_eq!(!index.crowded_out.is_empty(), is_crowded, "seed {seed}");
            for (&place, &key) in &tree {
                index.remove(key, place);
                index.remove(key, place);
            }
            assert_eq!(index.len(), 0, "nothing is left behind");
        }
    }
}
