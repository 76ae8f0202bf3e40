//! An ordered map from 64-bit keys to 32-bit values: a trie of 64-way nodes, each with a bitmap of its children.
//!
//! What it is for: price levels by price, open orders by number. A step down costs two cache lines; runs of near keys
//! share a leaf; the best price is the first or last bit of a few bitmaps. A node stands only where keys part (and at the
//! end of each), so a key far from all others costs at most two nodes, whatever lies between: no array over the range.
//! Nodes are in one vector and are used again, so nothing is allocated once it is warm.

/// No node, and no value: a value is below this.
pub const NONE: u32 = u32::MAX;

const BITS: u32 = 6;
const MASK: u64 = (1 << BITS) - 1;
/// The most nodes on a way down: 64 bits in steps of six.
const DEPTH: usize = 11;
/// How many leaves are kept at hand.
const FINGERS: usize = 16;
/// The `shift` of a node that is not in use.
const VACANT: u32 = u32::MAX;

#[derive(Debug, Clone)]
struct Node {
    /// The bits of its keys above its own digit.
    prefix: u64,
    /// Which children there are.
    occupied: u64,
    /// Where its digit stands in a key; at zero the children are values, else nodes.
    shift: u32,
    /// [`NONE`] where there is no child.
    children: [u32; 64],
}

/// The map.
#[derive(Debug, Clone)]
pub struct RadixMap {
    nodes: Vec<Node>,
    vacant: Vec<u32>,
    root: u32,
    /// Leaves that were lately seen, by the lowest bits of their prefix: the next key is often near one of the last ones.
    fingers: [u32; FINGERS],
    len: usize,
}

impl RadixMap {
    /// An empty map.
    pub fn new() -> RadixMap {
        RadixMap { nodes: Vec::new(), vacant: Vec::new(), root: NONE, fingers: [NONE; FINGERS], len: 0 }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The value of a key.
    #[inline]
    pub fn get(&self, key: u64) -> Option<u32> {
        if let Some(leaf) = self.nodes.get(self.finger(key) as usize)
            && (leaf.shift, leaf.prefix) == (0, key >> BITS)
        {
            let value = leaf.children[digit(key, 0)];
            return (value != NONE).then_some(value);
        }
        self.descend(key)
    }

    fn descend(&self, key: u64) -> Option<u32> {
        let mut at = self.root;
        while at != NONE {
            let node = &self.nodes[at as usize];
            let child = node.children[digit(key, node.shift)];
            if node.shift == 0 {
                return (node.prefix == key >> BITS && child != NONE).then_some(child);
            }
            at = child;
        }
        None
    }

    /// Give a key that is not there a value.
    #[inline]
    pub fn insert(&mut self, key: u64, value: u32) {
        debug_assert!(value != NONE);
        self.len += 1;
        let finger = self.finger(key);
        if let Some(leaf) = self.nodes.get_mut(finger as usize)
            && (leaf.shift, leaf.prefix) == (0, key >> BITS)
        {
            let digit = digit(key, 0);
            assert!(leaf.occupied >> digit & 1 == 0, "a key is inserted once");
            leaf.occupied |= 1 << digit;
            leaf.children[digit] = value;
            return;
        }
        self.insert_from_root(key, value);
    }

    fn insert_from_root(&mut self, key: u64, value: u32) {
        let (mut parent, mut at) = (NONE, self.root);
        while at != NONE {
            let node = &mut self.nodes[at as usize];
            if above(key, node.shift) != node.prefix {
                return self.branch(parent, at, key, value);
            }
            let digit = digit(key, node.shift);
            if node.shift == 0 {
                assert!(node.occupied >> digit & 1 == 0, "a key is inserted once");
                node.occupied |= 1 << digit;
                node.children[digit] = value;
                self.fingers[finger_of(key)] = at;
                return;
            }
            if node.occupied >> digit & 1 == 0 {
                let leaf = self.leaf(key, value);
                let node = &mut self.nodes[at as usize];
                node.occupied |= 1 << digit;
                node.children[digit] = leaf;
                return;
            }
            (parent, at) = (at, node.children[digit]);
        }
        self.root = self.leaf(key, value);
    }

    /// Take a key that is there out.
    #[inline]
    pub fn remove(&mut self, key: u64) {
        let finger = self.finger(key);
        if let Some(leaf) = self.nodes.get_mut(finger as usize)
            && (leaf.shift, leaf.prefix) == (0, key >> BITS)
            && !leaf.occupied.is_power_of_two()
        {
            let bit = 1 << digit(key, 0);
            assert!(leaf.occupied & bit != 0, "only a key that is there is removed");
            self.len -= 1;
            leaf.occupied &= !bit;
            leaf.children[digit(key, 0)] = NONE;
            return;
        }
        self.remove_from_root(key);
    }

    fn remove_from_root(&mut self, key: u64) {
        let mut path = [NONE; DEPTH];
        let (mut depth, mut at) = (0, self.root);
        loop {
            let node = &self.nodes[at as usize];
            path[depth] = at;
            if node.shift == 0 {
                break;
            }
            depth += 1;
            at = node.children[digit(key, node.shift)];
        }
        self.len -= 1;
        let leaf = &mut self.nodes[at as usize];
        let bit = 1 << digit(key, 0);
        assert!(leaf.prefix == key >> BITS && leaf.occupied & bit != 0, "only a key that is there is removed");
        leaf.occupied &= !bit;
        leaf.children[digit(key, 0)] = NONE;
        if leaf.occupied != 0 {
            return;
        }
        self.vacate(at);
        let Some(parent_depth) = depth.checked_sub(1) else {
            self.root = NONE;
            return;
        };
        let parent = path[parent_depth];
        let node = &mut self.nodes[parent as usize];
        node.occupied &= !(1 << digit(key, node.shift));
        node.children[digit(key, node.shift)] = NONE;
        if node.occupied.is_power_of_two() {
            // One child is left: it takes the node's place.
            let child = std::mem::replace(&mut node.children[node.occupied.trailing_zeros() as usize], NONE);
            self.vacate(parent);
            let grandparent = parent_depth.checked_sub(1).map_or(NONE, |depth| path[depth]);
            self.set_child(grandparent, key, child);
        }
    }

    /// The lowest key and its value.
    #[inline]
    pub fn first(&self) -> Option<(u64, u32)> {
        self.extreme(self.root, |occupied| occupied.trailing_zeros())
    }

    /// The highest key and its value.
    #[inline]
    pub fn last(&self) -> Option<(u64, u32)> {
        self.extreme(self.root, |occupied| 63 - occupied.leading_zeros())
    }

    /// The lowest key above `key`, and its value.
    pub fn after(&self, key: u64) -> Option<(u64, u32)> {
        self.beside(
            key,
            |occupied, digit| occupied & u64::MAX.checked_shl(digit + 1).unwrap_or(0),
            |occupied| occupied.trailing_zeros(),
            |prefix, of_key| prefix > of_key,
        )
    }

    /// The highest key below `key`, and its value.
    pub fn before(&self, key: u64) -> Option<(u64, u32)> {
        self.beside(
            key,
            |occupied, digit| occupied & !(u64::MAX << digit),
            |occupied| 63 - occupied.leading_zeros(),
            |prefix, of_key| prefix < of_key,
        )
    }

    /// All keys and values, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        std::iter::successors(self.first(), |&(key, _)| self.after(key))
    }

    /// Show all keys and values, lowest first. Cheaper than [`RadixMap::iter`], which can be left off.
    pub fn for_each(&self, mut show: impl FnMut(u64, u32)) {
        if self.root != NONE {
            self.for_each_below(self.root, &mut show);
        }
    }

    fn for_each_below(&self, at: u32, show: &mut impl FnMut(u64, u32)) {
        let node = &self.nodes[at as usize];
        let mut left = node.occupied;
        while left != 0 {
            let digit = left.trailing_zeros();
            left &= left - 1;
            let child = node.children[digit as usize];
            match node.shift {
                0 => show(node.prefix << BITS | u64::from(digit), child),
                _ => self.for_each_below(child, show),
            }
        }
    }

    /// The nearest key on one side: `further` keeps the children beyond a digit, `nearest` picks among them, `is_beyond`
    /// tells whether a node whose prefix is not the key's lies on that side.
    fn beside(
        &self,
        key: u64,
        further: impl Fn(u64, u32) -> u64,
        nearest: impl Fn(u64) -> u32,
        is_beyond: impl Fn(u64, u64) -> bool,
    ) -> Option<(u64, u32)> {
        let (mut at, mut candidate) = (self.root, None);
        while at != NONE {
            let node = &self.nodes[at as usize];
            let of_key = above(key, node.shift);
            if node.prefix != of_key {
                if is_beyond(node.prefix, of_key) {
                    return self.extreme(at, nearest);
                }
                break;
            }
            let digit = digit(key, node.shift);
            let beyond = further(node.occupied, digit as u32);
            if beyond != 0 {
                candidate = Some((at, nearest(beyond)));
            }
            if node.shift == 0 || node.occupied >> digit & 1 == 0 {
                break;
            }
            at = node.children[digit];
        }
        let (at, digit) = candidate?;
        let node = &self.nodes[at as usize];
        let child = node.children[digit as usize];
        if node.shift == 0 {
            return Some((node.prefix << BITS | u64::from(digit), child));
        }
        self.extreme(child, nearest)
    }

    fn extreme(&self, mut at: u32, pick: impl Fn(u64) -> u32) -> Option<(u64, u32)> {
        while at != NONE {
            let node = &self.nodes[at as usize];
            let digit = pick(node.occupied);
            let child = node.children[digit as usize];
            if node.shift == 0 {
                return Some((node.prefix << BITS | u64::from(digit), child));
            }
            at = child;
        }
        None
    }

    /// Part the way to `at`, whose keys are not like `key`, with a node at the highest digit where they differ.
    fn branch(&mut self, parent: u32, at: u32, key: u64, value: u32) {
        let Node { prefix, shift, .. } = self.nodes[at as usize];
        let base = shift + BITS;
        let differing = 63 - (above(key, shift) ^ prefix).leading_zeros();
        let within = differing / BITS * BITS;
        let leaf = self.leaf(key, value);
        let branch = self.occupy(above(key, base + within), base + within);
        let node = &mut self.nodes[branch as usize];
        for (digit, child) in [(digit(prefix, within), at), (digit(key, base + within), leaf)] {
            node.occupied |= 1 << digit;
            node.children[digit] = child;
        }
        self.set_child(parent, key, branch);
    }

    /// The leaf that is at hand for the like of a key; it may be another's, or in use no more.
    #[inline]
    fn finger(&self, key: u64) -> u32 {
        self.fingers[finger_of(key)]
    }

    fn set_child(&mut self, parent: u32, key: u64, child: u32) {
        match self.nodes.get_mut(parent as usize) {
            Some(node) => node.children[digit(key, node.shift)] = child,
            None => self.root = child,
        }
    }

    fn leaf(&mut self, key: u64, value: u32) -> u32 {
        let leaf = self.occupy(key >> BITS, 0);
        let node = &mut self.nodes[leaf as usize];
        let digit = digit(key, 0);
        node.occupied = 1 << digit;
        node.children[digit] = value;
        self.fingers[finger_of(key)] = leaf;
        leaf
    }

    fn occupy(&mut self, prefix: u64, shift: u32) -> u32 {
        if let Some(at) = self.vacant.pop() {
            let node = &mut self.nodes[at as usize];
            (node.prefix, node.shift, node.occupied) = (prefix, shift, 0);
            return at;
        }
        let at = u32::try_from(self.nodes.len()).ok().filter(|&at| at != NONE).expect("fewer than 2^32 nodes");
        self.nodes.push(Node { prefix, occupied: 0, shift, children: [NONE; 64] });
        at
    }

    fn vacate(&mut self, at: u32) {
        self.nodes[at as usize].shift = VACANT;
        self.vacant.push(at);
    }
}

impl Default for RadixMap {
    fn default() -> Self {
        RadixMap::new()
    }
}

/// Where a leaf with this key is kept at hand.
fn finger_of(key: u64) -> usize {
    (key >> BITS) as usize % FINGERS
}

/// The digit of a key that stands at `shift`.
fn digit(key: u64, shift: u32) -> usize {
    (key >> shift & MASK) as usize
}

/// The bits of a key above the digit that stands at `shift`.
fn above(key: u64, shift: u32) -> u64 {
    key.checked_shr(shift + BITS).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A small generator of its own: the engine knows no randomness.
    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    #[test]
    fn it_agrees_with_a_b_tree_on_near_and_far_keys() {
        for seed in 0..20 {
            let mut state = seed;
            let (mut map, mut tree) = (RadixMap::new(), BTreeMap::new());
            for step in 0..4_000u32 {
                let wide = next(&mut state) % 64;
                let key = (next(&mut state) << 33 ^ next(&mut state)) >> wide;
                if tree.remove(&key).is_some() {
                    map.remove(key);
                } else {
                    tree.insert(key, step);
                    map.insert(key, step);
                }
                let probe = key ^ (next(&mut state) % 70);
                assert_eq!(map.get(probe), tree.get(&probe).copied(), "seed {seed}");
                let after = tree.range((std::ops::Bound::Excluded(probe), std::ops::Bound::Unbounded)).next();
                assert_eq!(map.after(probe), after.map(|(&key, &value)| (key, value)), "seed {seed}");
                let before = tree.range(..probe).next_back();
                assert_eq!(map.before(probe), before.map(|(&key, &value)| (key, value)), "seed {seed}");
                assert_eq!(map.first(), tree.iter().next().map(|(&key, &value)| (key, value)));
                assert_eq!(map.last(), tree.iter().next_back().map(|(&key, &value)| (key, value)));
            }
            assert!(map.iter().eq(tree.iter().map(|(&key, &value)| (key, value))));
            let mut shown = Vec::new();
            map.for_each(|key, value| shown.push((key, value)));
            assert!(map.iter().eq(shown));
            for &key in tree.keys() {
                map.remove(key);
            }
            assert!(
                map.len() == 0 && map.root == NONE && map.vacant.len() == map.nodes.len(),
                "nothing is left behind"
            );
        }
    }

    #[test]
    fn a_key_far_from_all_others_costs_at_most_two_nodes() {
        let mut map = RadixMap::new();
        for power in 0..64 {
            map.insert(1 << power, power);
        }
        assert!(map.nodes.len() <= 2 * 64);
    }
}
