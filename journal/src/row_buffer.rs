//! Rows in one piece of memory: first as they come, then sorted, then many of these joined to one.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

/// The first bytes of a key, as numbers that sort as they do: they decide nearly every comparison, and stand side by side.
type Head = [u64; 3];

fn head_of(key: &[u8]) -> Head {
    let mut words = [[0; 8]; 3];
    words.iter_mut().zip(key.chunks(8)).for_each(|(word, bytes)| word[..bytes.len()].copy_from_slice(bytes));
    words.map(u64::from_be_bytes)
}

#[derive(Clone, Copy)]
struct Row {
    head: Head,
    start: usize,
    key: u32,
    value: u32,
}

/// Keys and values as they come.
#[derive(Default)]
pub(crate) struct RowBuffer {
    bytes: Vec<u8>,
    rows: Vec<Row>,
}

impl RowBuffer {
    /// An empty one that is going to have about so many rows, of so many bytes.
    pub(crate) fn with_capacity(rows: usize, bytes: usize) -> RowBuffer {
        RowBuffer { bytes: Vec::with_capacity(bytes), rows: Vec::with_capacity(rows) }
    }

    /// One more row, whose key is not empty; `write` appends its value.
    pub(crate) fn put(&mut self, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        write(&mut self.bytes);
        let length = |range: Range<usize>| u32::try_from(range.len()).expect("a row is far smaller than 4 GiB");
        let behind_key = start + key.len();
        let value = length(behind_key..self.bytes.len());
        self.rows.push(Row { head: head_of(key), start, key: length(start..behind_key), value });
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The rows in the order of their keys; of those with one key the last that was put.
    pub(crate) fn sorted(self) -> SortedRows {
        let RowBuffer { bytes, mut rows } = self;
        let key = |row: &Row| &bytes[row.start..][..row.key as usize];
        // Of one key the last comes first, and is the one that stays.
        rows.sort_unstable_by(|a, b| compare((a.head, key(a)), (b.head, key(b))).then(b.start.cmp(&a.start)));
        rows.dedup_by(|a, b| a.head == b.head && key(a) == key(b));
        SortedRows { bytes, rows }
    }
}

fn compare(a: (Head, &[u8]), b: (Head, &[u8])) -> Ordering {
    a.0.cmp(&b.0).then_with(|| a.1.cmp(b.1))
}

/// Keys and values in the order of the keys, no key twice.
#[derive(Default)]
pub(crate) struct SortedRows {
    bytes: Vec<u8>,
    rows: Vec<Row>,
}

impl SortedRows {
    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// How much memory they take.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + self.rows.len() * size_of::<Row>()
    }

    pub(crate) fn key(&self, at: usize) -> &[u8] {
        self.key_of(&self.rows[at])
    }

    pub(crate) fn value(&self, at: usize) -> &[u8] {
        let row = &self.rows[at];
        &self.bytes[row.start + row.key as usize..][..row.value as usize]
    }

    fn key_of(&self, row: &Row) -> &[u8] {
        &self.bytes[row.start..][..row.key as usize]
    }

    /// The place of the first row whose key is not below `key`.
    pub(crate) fn first_from(&self, key: &[u8]) -> usize {
        let head = head_of(key);
        self.rows.partition_point(|row| compare((row.head, self.key_of(row)), (head, key)).is_lt())
    }

    /// The place of the first row whose key is above `key`.
    pub(crate) fn first_above(&self, key: &[u8]) -> usize {
        let head = head_of(key);
        self.rows.partition_point(|row| compare((row.head, self.key_of(row)), (head, key)).is_le())
    }

    /// The places of the rows whose keys begin with `prefix`.
    pub(crate) fn of_prefix(&self, prefix: &[u8]) -> Range<usize> {
        let first = self.first_from(prefix);
        let more = self.rows[first..].partition_point(|row| self.key_of(row).starts_with(prefix));
        first..first + more
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let at = self.first_from(key);
        (at < self.rows.len() && self.key(at) == key).then(|| self.value(at))
    }

    /// The rows of all `runs` as one; of those with one key the one of the last run.
    pub(crate) fn joined(runs: &[Arc<SortedRows>]) -> SortedRows {
        let places = places(runs);
        let mut joined = RowBuffer::with_capacity(places.len(), runs.iter().map(|run| run.bytes.len()).sum());
        for place in places {
            let run = &runs[place.run as usize];
            let row = &run.rows[place.at as usize];
            let start = joined.bytes.len();
            joined.bytes.extend_from_slice(&run.bytes[row.start..][..row.key as usize + row.value as usize]);
            joined.rows.push(Row { start, ..*row });
        }
        SortedRows { bytes: joined.bytes, rows: joined.rows }
    }

    /// The keys and values of all `runs`, in order; of those with one key the one of the last run.
    pub(crate) fn in_order(runs: &[Arc<SortedRows>]) -> impl Iterator<Item = (&[u8], &[u8])> {
        places(runs).into_iter().map(|place| {
            let (run, at) = (&runs[place.run as usize], place.at as usize);
            (run.key(at), run.value(at))
        })
    }
}

/// Where a row is among several runs.
struct Place {
    head: Head,
    run: u32,
    at: u32,
}

fn places(runs: &[Arc<SortedRows>]) -> Vec<Place> {
    let number = |at: usize| u32::try_from(at).expect("there are far fewer than four thousand million rows");
    let mut places = Vec::with_capacity(runs.iter().map(|run| run.rows.len()).sum());
    // The last run first: the sort leaves those with one key in this order, and the first of them stays.
    for (run, rows) in runs.iter().enumerate().rev() {
        let of_run = rows.rows.iter().enumerate();
        places.extend(of_run.map(|(at, row)| Place { head: row.head, run: number(run), at: number(at) }));
    }
    let key = |place: &Place| runs[place.run as usize].key(place.at as usize);
    // This sort finds what is in order already and merges it.
    places.sort_by(|a, b| compare((a.head, key(a)), (b.head, key(b))));
    places.dedup_by(|a, b| a.head == b.head && key(a) == key(b));
    places
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    /// Few bytes, so that keys meet, and are the beginnings of others, behind their heads too.
    fn key(random: &mut StdRng) -> Vec<u8> {
        let mut key: Vec<u8> = (0..random.random_range(1..3)).map(|_| random.random_range(0..3)).collect();
        key.resize(key.len() + [0, 4, 22][random.random_range(0..3)], 0);
        key.extend((0..random.random_range(0..3)).map(|_| random.random_range(0..3)));
        key
    }

    fn rows(random: &mut StdRng) -> (SortedRows, Map) {
        let (mut rows, mut wanted) = (RowBuffer::default(), Map::new());
        for _ in 0..random.random_range(0..100) {
            let key = key(random);
            let value: Vec<u8> = (0..random.random_range(0..5)).map(|_| random.random()).collect();
            rows.put(&key, |bytes| bytes.extend_from_slice(&value));
            wanted.insert(key, value);
        }
        (rows.sorted(), wanted)
    }

    fn map(rows: &SortedRows) -> Map {
        (0..rows.len()).map(|at| (rows.key(at).to_vec(), rows.value(at).to_vec())).collect()
    }

    #[test]
    fn rows_come_in_the_order_of_their_keys_and_of_one_key_the_last_counts() {
        for seed in 0..300 {
            let mut random = StdRng::seed_from_u64(seed);
            let (runs, maps): (Vec<_>, Vec<_>) = (0..random.random_range(1..9))
                .map(|_| rows(&mut random))
                .map(|(rows, map)| (Arc::new(rows), map))
                .unzip();
            for (run, wanted) in runs.iter().zip(&maps) {
                assert_eq!(map(run), *wanted, "seed {seed}");
                assert!((1..run.len()).all(|at| run.key(at - 1) < run.key(at)), "seed {seed}");
                let sought = key(&mut random);
                assert_eq!(run.get(&sought), wanted.get(&sought).map(Vec::as_slice), "seed {seed}");
                assert_eq!(run.first_from(&sought), wanted.range(..sought.clone()).count(), "seed {seed}");
                assert_eq!(run.first_above(&sought), wanted.range(..=sought.clone()).count(), "seed {seed}");
                let places = run.of_prefix(&sought);
                assert_eq!(places.len(), wanted.keys().filter(|key| key.starts_with(&sought)).count(), "seed {seed}");
                assert!(places.into_iter().all(|at| run.key(at).starts_with(&sought)), "seed {seed}");
            }
            let all: Map = maps.into_iter().flatten().collect();
            assert_eq!(map(&SortedRows::joined(&runs)), all, "seed {seed}");
            let in_order = SortedRows::in_order(&runs).map(|(key, value)| (key.to_vec(), value.to_vec()));
            assert!(in_order.eq(all), "seed {seed}");
        }
    }
}
