//! The newest rows of history, in memory until there are enough of them for a table of the database.
//!
//! RocksDB would keep them in a skip list, where each row is a search that misses the cache a dozen times, and where its writer
//! waits for the log's. Here a batch is sorted once and kept as it is, few small runs are joined to a larger one, and all of them
//! are written as one sorted table that the database takes over. A reader sees the runs above the tables.
//!
//! What is here is lost in a crash, as anything of history that is not in a table: its watermark is lost with it, and the log
//! writes it again.

use std::io;
use std::iter::Peekable;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rocksdb::{DB, Direction, IngestExternalFileOptions, SstFileWriter};

use crate::database::{family, family_options};
use crate::format::HISTORY;
use crate::history::HistoryError;
use crate::row_buffer::SortedRows;

/// A key and its value as the database gives them.
pub(crate) type RawRow = (Box<[u8]>, Box<[u8]>);
/// Rows one after the other.
pub(crate) type RawRows<'a> = Box<dyn Iterator<Item = Result<RawRow, HistoryError>> + 'a>;

/// With so many bytes a table is due.
const TABLE_BYTES: usize = 64 << 20;
/// With so many bytes whoever adds more writes a table first.
const BYTES_MAX: usize = 2 * TABLE_BYTES;
/// So many small runs one after the other are joined.
const JOINED_AT_ONCE: usize = 8;
/// Runs of this size are joined no more but in a table.
const RUN_BYTES: usize = 2 << 20;
/// With so many tables that wait to be merged, the next one waits for the database.
const TABLES_WAITING_MAX: u64 = 24;
/// How often it is looked whether they have been.
const WAITING_INTERVAL: Duration = Duration::from_millis(10);

/// The newest rows of one database's history.
#[derive(Default)]
pub(crate) struct RecentRows {
    kept: RwLock<Kept>,
    /// Held while a table is written.
    writing: Mutex<()>,
}

#[derive(Default)]
struct Kept {
    /// Oldest first.
    runs: Vec<Arc<SortedRows>>,
    /// The first ones, which are being written to a table.
    in_writing: usize,
    /// How many tables have taken runs away.
    tables: u64,
}

impl Kept {
    /// The bytes of those that are not being written yet.
    fn bytes(&self) -> usize {
        self.runs[self.in_writing..].iter().map(|run| run.size()).sum()
    }

    /// The last runs that are worth joining; an empty slice if there are none.
    fn small(&self) -> &[Arc<SortedRows>] {
        let free = &self.runs[self.in_writing..];
        let class = |run: &Arc<SortedRows>| run.size().max(1).ilog2() / JOINED_AT_ONCE.ilog2();
        let Some(newest) = free.last().filter(|newest| newest.size() < RUN_BYTES).map(class) else { return &[] };
        let count = free.iter().rev().take_while(|run| run.size() < RUN_BYTES && class(run) <= newest).count();
        if count < JOINED_AT_ONCE { &[] } else { &free[free.len() - count..] }
    }
}

impl RecentRows {
    /// Adds rows that are newer than all others; true when a table is due. There is one who adds.
    pub(crate) fn add(&self, rows: SortedRows) -> bool {
        if rows.len() == 0 {
            return false;
        }
        self.kept.write().runs.push(Arc::new(rows));
        loop {
            let small = self.kept.read().small().to_vec();
            if small.is_empty() {
                break;
            }
            let joined = Arc::new(SortedRows::joined(&small));
            let mut kept = self.kept.write();
            let first = kept.runs.len().checked_sub(small.len()).filter(|first| *first >= kept.in_writing);
            // A table that began meanwhile has them.
            let Some(first) = first.filter(|first| Arc::ptr_eq(&kept.runs[*first], &small[0])) else { break };
            kept.runs.truncate(first);
            kept.runs.push(joined);
        }
        self.is_due()
    }

    /// Whether all is in tables.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.read().runs.is_empty()
    }

    /// Whether there are enough for a table.
    pub(crate) fn is_due(&self) -> bool {
        self.kept.read().bytes() >= TABLE_BYTES
    }

    /// Whether there are so many that no more may be added before a table is written.
    pub(crate) fn is_full(&self) -> bool {
        self.kept.read().bytes() >= BYTES_MAX
    }

    /// Writes all that is here to a table; it is on the disk when this returns.
    pub(crate) fn write_table(&self, database: &DB) -> io::Result<()> {
        let _alone = self.writing.lock();
        let runs = {
            let mut kept = self.kept.write();
            kept.in_writing = kept.runs.len();
            kept.runs.clone()
        };
        let written = if runs.is_empty() { Ok(()) } else { write_table(database, &runs) };
        let mut kept = self.kept.write();
        kept.in_writing = 0;
        if written.is_ok() {
            kept.runs.drain(..runs.len());
            kept.tables += 1;
        }
        written
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.kept.read().runs.iter().rev().find_map(|run| run.get(key).map(<[u8]>::to_vec))
    }

    /// What is here and what `look` sees of the database, both of one moment.
    pub(crate) fn beside<T>(&self, look: impl Fn() -> T) -> (Vec<Arc<SortedRows>>, T) {
        loop {
            let tables = self.kept.read().tables;
            let seen = look();
            let kept = self.kept.read();
            // Runs that left in between would be in neither; those that are in both do no harm.
            if kept.tables == tables {
                return (kept.runs.clone(), seen);
            }
        }
    }
}

fn write_table(database: &DB, runs: &[Arc<SortedRows>]) -> io::Result<()> {
    let history = family(database, HISTORY);
    // What was written to the database itself is older than the table. It would flush it too, with all writers waiting.
    database.flush_cf(history).map_err(io::Error::other)?;
    let waiting = || database.property_int_value_cf(history, "rocksdb.num-files-at-level0").ok().flatten();
    while waiting().is_some_and(|tables| tables >= TABLES_WAITING_MAX) {
        std::thread::sleep(WAITING_INTERVAL);
    }
    let path = table_path(database);
    // One that a crash left may be a name of a table that is in use: it must not be written over.
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let options = family_options(HISTORY);
    let mut table = SstFileWriter::create(&options);
    table.open(&path).map_err(io::Error::other)?;
    for (key, value) in SortedRows::in_order(runs) {
        table.put(key, value).map_err(io::Error::other)?;
    }
    table.finish().map_err(io::Error::other)?;
    let mut taken_over = IngestExternalFileOptions::default();
    taken_over.set_move_files(true);
    database.ingest_external_file_cf_opts(history, &taken_over, vec![path]).map_err(io::Error::other)
}

fn table_path(database: &DB) -> PathBuf {
    database.path().join("history.table")
}

/// The rows of `runs` above those of `table`, which are of the same prefix and direction.
pub(crate) fn above<'a>(
    runs: &[Arc<SortedRows>],
    table: RawRows<'a>,
    prefix: &[u8],
    from: &[u8],
    direction: Direction,
) -> RawRows<'a> {
    let is_reverse = matches!(direction, Direction::Reverse);
    let cursors = runs.iter().rev().filter_map(|run| {
        let mut places = run.of_prefix(prefix);
        if is_reverse {
            places.end = places.end.min(run.first_above(from));
        } else {
            places.start = places.start.max(run.first_from(from));
        }
        (!places.is_empty()).then(|| Cursor { run: run.clone(), places, is_reverse })
    });
    let cursors: Vec<Cursor> = cursors.collect();
    if cursors.is_empty() { table } else { Box::new(Above { cursors, table: table.peekable(), is_reverse }) }
}

/// What is left of a run.
struct Cursor {
    run: Arc<SortedRows>,
    places: std::ops::Range<usize>,
    is_reverse: bool,
}

impl Cursor {
    fn at(&self) -> Option<usize> {
        let places = &self.places;
        (!places.is_empty()).then(|| if self.is_reverse { places.end - 1 } else { places.start })
    }

    fn key(&self) -> Option<&[u8]> {
        self.at().map(|at| self.run.key(at))
    }

    fn step(&mut self) {
        if self.is_reverse {
            self.places.end -= 1;
        } else {
            self.places.start += 1;
        }
    }
}

struct Above<'a> {
    /// The newest first.
    cursors: Vec<Cursor>,
    table: Peekable<RawRows<'a>>,
    is_reverse: bool,
}

fn is_before(a: &[u8], b: &[u8], is_reverse: bool) -> bool {
    if is_reverse { a > b } else { a < b }
}

impl Above<'_> {
    /// The next row of the runs, from the newest of those that have its key.
    fn next_here(&self) -> Option<(&[u8], &[u8])> {
        let mut next: Option<(&Cursor, &[u8])> = None;
        for cursor in &self.cursors {
            let Some(key) = cursor.key() else { continue };
            if next.is_none_or(|(_, first)| is_before(key, first, self.is_reverse)) {
                next = Some((cursor, key));
            }
        }
        next.and_then(|(cursor, key)| Some((key, cursor.run.value(cursor.at()?))))
    }
}

impl Iterator for Above<'_> {
    type Item = Result<RawRow, HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some((key, value)) = self.next_here() else { return self.table.next() };
        let (key, value): RawRow = (key.into(), value.into());
        match self.table.peek() {
            Some(Err(_)) => return self.table.next(),
            Some(Ok((other, _))) if is_before(other, &key, self.is_reverse) => return self.table.next(),
            Some(Ok((other, _))) if *other == key => drop(self.table.next()),
            _ => {}
        }
        for cursor in &mut self.cursors {
            if cursor.key() == Some(&*key) {
                cursor.step();
            }
        }
        Some(Ok((key, value)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use rocksdb::IteratorMode;

    use super::*;
    use crate::history_source::{AtOneMoment, OwnRows, RowSource};
    use crate::opening::open_database;
    use crate::row_buffer::RowBuffer;

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    fn key(random: &mut StdRng) -> Vec<u8> {
        (0..random.random_range(1..4)).map(|_| random.random_range(1..4)).collect()
    }

    fn add(recent: &RecentRows, rows: &Map) -> bool {
        let mut buffer = RowBuffer::default();
        rows.iter().for_each(|(key, value)| buffer.put(key, |bytes| bytes.extend_from_slice(value)));
        recent.add(buffer.sorted())
    }

    fn scanned(rows: &dyn RowSource, prefix: &[u8], from: &[u8], direction: Direction) -> Vec<(Vec<u8>, Vec<u8>)> {
        let found = rows.scan(prefix.to_vec(), from.to_vec(), direction, 1);
        found.map(|row| row.map(|(key, value)| (key.into_vec(), value.into_vec())).unwrap()).collect()
    }

    /// What is read is what a map says.
    fn check(rows: &dyn RowSource, wanted: &Map, random: &mut StdRng, context: &str) {
        let sought = key(random);
        assert_eq!(rows.get(&sought).unwrap(), wanted.get(&sought).cloned(), "{context}");
        let prefix = key(random)[..1].to_vec();
        let from = [prefix.clone(), key(random)[1..].to_vec()].concat();
        let of_prefix = |(key, _): &(&Vec<u8>, &Vec<u8>)| key.starts_with(&prefix);
        let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        let forward: Vec<_> = wanted.range(from.clone()..).filter(of_prefix).map(owned).collect();
        assert_eq!(scanned(rows, &prefix, &from, Direction::Forward), forward, "{context}");
        let reverse: Vec<_> = wanted.range(..=from.clone()).rev().filter(of_prefix).map(owned).collect();
        assert_eq!(scanned(rows, &prefix, &from, Direction::Reverse), reverse, "{context}");
    }

    #[test]
    fn what_is_read_is_what_was_added_last_wherever_it_stands() {
        for seed in 0..20 {
            let mut random = StdRng::seed_from_u64(seed);
            let folder = tempfile::tempdir().unwrap();
            let rows = OwnRows { database: open_database(folder.path()).unwrap(), recent: Arc::default() };
            let mut wanted = Map::new();
            for step in 0..60 {
                let context = format!("seed {seed}, step {step}");
                let before = AtOneMoment::of(&rows.database, &rows.recent);
                let then = wanted.clone();
                let new: Map = (0..random.random_range(0..6)).map(|_| (key(&mut random), vec![step])).collect();
                add(&rows.recent, &new);
                wanted.extend(new);
                if random.random_ratio(1, 10) {
                    rows.recent.write_table(&rows.database).unwrap();
                    assert!(rows.recent.kept.read().runs.is_empty());
                }
                check(&rows, &wanted, &mut random, &context);
                check(&before, &then, &mut random, &context);
            }
        }
    }

    #[test]
    fn many_small_runs_are_joined_to_few() {
        let recent = RecentRows::default();
        let mut wanted = Map::new();
        for number in 0..10_000u32 {
            let row = (number.wrapping_mul(0x9e37_79b9).to_be_bytes().to_vec(), number.to_be_bytes().to_vec());
            assert!(!add(&recent, &Map::from([row.clone()])));
            wanted.extend([row]);
        }
        let runs = recent.kept.read().runs.clone();
        assert!(runs.len() < 50, "{}", runs.len());
        let rows = SortedRows::in_order(&runs).map(|(key, value)| (key.to_vec(), value.to_vec()));
        assert!(rows.eq(wanted));
    }

    #[test]
    fn readers_see_everything_while_tables_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let rows = OwnRows { database: open_database(folder.path()).unwrap(), recent: Arc::default() };
        // Each batch writes all keys, so whoever sees two values has seen two moments.
        let batch = |number: u8| (1..50u8).map(|key| (vec![7, key], vec![number])).collect::<Map>();
        add(&rows.recent, &batch(0));
        std::thread::scope(|scope| {
            let read = || {
                let mut last = 0;
                while last < 200 {
                    let found = scanned(&rows, &[7], &[7], Direction::Forward);
                    assert_eq!(found.len(), 49);
                    assert!(found.iter().all(|(_, value)| *value == found[0].1) && found[0].1[0] >= last);
                    last = found[0].1[0];
                    assert!(rows.get(&[7, 49]).unwrap().unwrap()[0] >= last);
                }
            };
            scope.spawn(read);
            scope.spawn(read);
            scope.spawn(|| (0..30).for_each(|_| rows.recent.write_table(&rows.database).unwrap()));
            for number in 1..=200 {
                add(&rows.recent, &batch(number));
            }
        });
    }

    #[test]
    fn a_table_that_a_crash_left_under_its_first_name_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let database = open_database(folder.path()).unwrap();
        let recent = RecentRows::default();
        add(&recent, &Map::from([(vec![1], vec![1])]));
        recent.write_table(&database).unwrap();
        let tables = fs::read_dir(database.path()).unwrap().map(|file| file.unwrap().path());
        let table =
            tables.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "sst")).unwrap();
        fs::hard_link(&table, table_path(&database)).unwrap();
        let before = fs::read(&table).unwrap();

        add(&recent, &Map::from([(vec![2], vec![2])]));
        recent.write_table(&database).unwrap();
        assert_eq!(fs::read(&table).unwrap(), before);
        assert!(!table_path(&database).exists());
        let rows = database.iterator_cf(family(&database, HISTORY), IteratorMode::Start);
        let keys: Vec<u8> = rows.map(|row| row.unwrap().0[0]).collect();
        assert_eq!(keys, [1, 2]);
    }
}
