//! Open orders by number. Numbers are given one after the other, so the newest stand in a ring, where a number is its own
//! place: an answer takes one cache line, and a new order stands beside the last. An order that is still open when the ring
//! comes round to its place goes to a trie; the ring grows where that would be many.

use crate::prefetch::prefetch;
use crate::radix::RadixMap;

/// The places of a new ring; always a power of two.
const SMALLEST: usize = 64;

/// The index.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// One more than the value of a number, at the number's lowest bits; zero where there is none. So a new ring costs no
    /// memory before the numbers come to it.
    ring: Vec<u32>,
    /// The highest number there ever was: the ring is for it and those before it.
    newest: u64,
    /// The numbers from before the ring.
    old: RadixMap,
    len: usize,
}

impl Numbers {
    /// These numbers, lowest first, each with its place in the row as its value.
    pub fn restore(numbers: impl ExactSizeIterator<Item = u64> + DoubleEndedIterator + Clone) -> Numbers {
        let size = (2 * numbers.len() + 1).next_power_of_two().max(SMALLEST);
        let newest = numbers.clone().next_back().unwrap_or(0);
        let mut restored = Numbers { ring: vec![0; size], newest, old: RadixMap::new(), len: numbers.len() };
        for (value, number) in (0..).zip(numbers) {
            if restored.is_old(number) {
                restored.old.insert(number, value);
            } else {
                let at = restored.place(number);
                restored.ring[at] = value + 1;
            }
        }
        restored
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The value of a number.
    #[inline]
    pub fn get(&self, number: u64) -> Option<u32> {
        if self.is_old(number) {
            return self.old.get(number);
        }
        self.ring[self.place(number)].checked_sub(1)
    }

    /// Begin to fetch what an answer takes.
    #[inline]
    pub fn prefetch(&self, number: u64) {
        if let Some(value) = self.ring.get(self.place(number)) {
            prefetch(value);
        }
    }

    /// Give a number that is not there a value.
    #[inline]
    pub fn insert(&mut self, number: u64, value: u32) {
        // Nearly always it is the next one, and who had its place before it is gone.
        let at = self.place(number);
        if number == self.newest + 1
            && let Some(free @ 0) = self.ring.get_mut(at)
        {
            *free = value + 1;
            self.newest = number;
            self.len += 1;
            return;
        }
        self.insert_anywhere(number, value);
    }

    fn insert_anywhere(&mut self, number: u64, value: u32) {
        if self.ring.is_empty() {
            self.grow();
        }
        if number > self.newest {
            self.advance(number);
        }
        self.len += 1;
        if self.is_old(number) {
            return self.old.insert(number, value);
        }
        let at = self.place(number);
        assert!(self.ring[at] == 0, "a number is given once");
        self.ring[at] = value + 1;
    }

    /// Take a number that is there out.
    #[inline]
    pub fn remove(&mut self, number: u64) {
        self.len -= 1;
        if self.is_old(number) {
            return self.old.remove(number);
        }
        let at = self.place(number);
        assert!(self.ring[at] != 0, "only a number that is there is removed");
        self.ring[at] = 0;
    }

    /// All numbers and values, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        let ring = (self.newest + 1).saturating_sub(self.ring.len() as u64)..=self.newest;
        let in_ring = ring.filter_map(|number| Some((number, self.ring.get(self.place(number))?.checked_sub(1)?)));
        self.old.iter().chain(in_ring)
    }

    /// The ring is for the numbers up to this one from now on: those that lose their place go to the trie.
    fn advance(&mut self, number: u64) {
        while self.newest < number {
            if self.len == self.old.len() {
                // Nothing is in the ring.
                self.newest = number;
                return;
            }
            let next = self.newest + 1;
            let at = self.place(next);
            let value = self.ring[at];
            if value != 0 {
                if self.len * 2 >= self.ring.len() {
                    self.grow();
                    continue;
                }
                self.ring[at] = 0;
                self.old.insert(next - self.ring.len() as u64, value - 1);
            }
            self.newest = next;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let larger = (self.ring.len() * 2).max(SMALLEST);
        let before = std::mem::replace(&mut self.ring, vec![0; larger]);
        let first = |size: usize| (self.newest + 1).saturating_sub(size as u64);
        for number in first(before.len())..=self.newest {
            let at = self.place(number);
            self.ring[at] = before[number as usize & (before.len() - 1)];
        }
        let first = first(larger);
        while let Some((number, value)) = self.old.last().filter(|&(number, _)| number >= first) {
            self.old.remove(number);
            let at = self.place(number);
            self.ring[at] = value + 1;
        }
    }

    /// Whether a number is not one that the ring is for.
    fn is_old(&self, number: u64) -> bool {
        self.newest.wrapping_sub(number) >= self.ring.len() as u64
    }

    fn place(&self, number: u64) -> usize {
        number as usize & self.ring.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_agrees_with_a_b_tree_on_numbers_that_grow_old() {
        for (seed, gap) in [(1, 1u64), (2, 3), (3, 1_000), (4, 1)] {
            let mut state: u64 = seed;
            let mut next = move |bound: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % bound
            };
            let (mut numbers, mut tree, mut newest) = (Numbers::default(), BTreeMap::new(), 0);
            for step in 0..20_000u32 {
                newest += 1 + next(gap);
                // Now and then a number comes after a higher one.
                let number = if next(10) == 0 { newest.saturating_sub(next(5_000)) } else { newest };
                if tree.insert(number, step).is_none() {
                    numbers.insert(number, step);
                } else {
                    tree.insert(number, numbers.get(number).unwrap());
                }
                while tree.len() > 700 || (!tree.is_empty() && next(3) == 0) {
                    let &gone = tree.range(next(newest + 1)..).next().or(tree.iter().next()).unwrap().0;
                    tree.remove(&gone);
                    numbers.remove(gone);
                }
                let probe = next(newest + 10);
                assert_eq!(numbers.get(probe), tree.get(&probe).copied(), "seed {seed}");
                if step % 500 == 0 {
                    assert!(numbers.iter().eq(tree.iter().map(|(&number, &value)| (number, value))));
                    assert_eq!(numbers.len(), tree.len());
                }
            }
            assert!(numbers.ring.len() <= 2_048, "it is no larger than four times what is in it");
        }
    }
}
