//! Room for RocksDB's write-ahead log: zeros behind its end, there before RocksDB is. The sync of a file that grows brings its
//! length and its map of blocks to the disk besides the bytes; one of bytes that lie where zeros lay is a single write, and
//! a quarter to a third quicker.
//!
//! RocksDB knows nothing of it. It writes on where it is, and its reader takes zeros for the end. `write_ahead_log.rs` tells what a crash
//! left of them from a torn tail.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::write_ahead_log;

/// So much room is made at once.
const ROOM_BYTES: u64 = 256 << 10;
/// A larger batch gets none: the time that its bytes take outweighs what room would save, and each would be written once more.
const BATCH_BYTES_MAX: usize = 32 << 10;
/// What others may write beside us (a few records of meta) before room is made anew, which starts so far behind what is written.
const GAP: u64 = 16 << 10;

/// The room in the newest file of the log.
pub(crate) struct LogRoom {
    db: PathBuf,
    /// The file that room was made in, with its number.
    file: Option<(u64, File)>,
    /// Where RocksDB is in it at the most, as long as others write less than the gap.
    written: u64,
    /// Where the room ends.
    end: u64,
    /// Whether the last attempt failed.
    failed: bool,
}

impl LogRoom {
    /// For the log of the database in `db`.
    pub(crate) fn new(db: PathBuf) -> LogRoom {
        LogRoom { db, file: None, written: 0, end: 0, failed: false }
    }

    /// Sees to room for a batch that is written next, by the caller and nobody else. Where none can be made, the log grows as it
    /// would without.
    pub(crate) fn make_for(&mut self, batch_bytes: usize) {
        // A head of 7 bytes for each block of 32 KiB that it is in.
        let record_bytes = (batch_bytes + 7 * (batch_bytes / (32 << 10) + 2)) as u64;
        self.written += record_bytes;
        if batch_bytes > BATCH_BYTES_MAX || self.written + GAP <= self.end {
            return;
        }
        match self.make(record_bytes) {
            Ok(()) => self.failed = false,
            Err(error) if !self.failed => {
                self.failed = true;
                tracing::warn!("no room can be made for the log in {}, which is slower: {error}", self.db.display());
            }
            Err(_) => {}
        }
    }

    fn make(&mut self, record_bytes: u64) -> io::Result<()> {
        static ZEROS: [u8; ROOM_BYTES as usize] = [0; ROOM_BYTES as usize];
        let Some((number, path)) = write_ahead_log::list(&self.db)?.pop() else { return Ok(()) };
        let (file, is_new) = match self.file.take() {
            Some((of, file)) if of == number => (file, false),
            _ => (File::options().write(true).open(path)?, true),
        };
        let length = file.metadata()?.len();
        // Nothing is ever written over what RocksDB wrote: while the file ends where the room does, RocksDB is before that.
        if is_new || length > self.end {
            self.end = length + GAP;
            self.written = length + record_bytes;
        }
        let made = file.write_all_at(&ZEROS, self.end);
        self.file = Some((number, file));
        made.map(|()| self.end += ROOM_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use rocksdb::{DB, WriteBatch};

    use super::*;
    use crate::database::{family, synced};
    use crate::format::{LOG, META, log_key};
    use crate::opening::open_database;

    /// Writes an entry as the log's writer does.
    fn append(database: &DB, room: &mut LogRoom, index: u64, length: usize) {
        let mut batch = WriteBatch::default();
        batch.put_cf(family(database, LOG), log_key(index), vec![7; length]);
        room.make_for(batch.size_in_bytes());
        database.write_opt(batch, &synced()).unwrap();
    }

    fn newest_log(db: &Path) -> PathBuf {
        write_ahead_log::list(db).unwrap().pop().unwrap().1
    }

    /// A copy of a database in use, as a crash would leave it, opened.
    fn after_crash(data: &Path) -> (tempfile::TempDir, Arc<DB>) {
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join("db")).unwrap();
        for entry in fs::read_dir(data.join("db")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.path().join("db").join(entry.file_name())).unwrap();
        }
        let database = open_database(copy.path()).unwrap();
        (copy, database)
    }

    #[test]
    fn small_entries_do_not_lengthen_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let database = open_database(folder.path()).unwrap();
        let db = folder.path().join("db");
        let mut room = LogRoom::new(db.clone());
        append(&database, &mut room, 0, 100);
        let length = fs::metadata(newest_log(&db)).unwrap().len();
        assert!(length > ROOM_BYTES);
        (1..1_000).for_each(|index| append(&database, &mut room, index, 100));
        assert_eq!(fs::metadata(newest_log(&db)).unwrap().len(), length);
    }

    #[test]
    fn a_new_file_of_the_log_gets_room_too() {
        let folder = tempfile::tempdir().unwrap();
        let database = open_database(folder.path()).unwrap();
        let db = folder.path().join("db");
        let mut room = LogRoom::new(db.clone());
        append(&database, &mut room, 0, 100);
        let first = newest_log(&db);
        database.flush_cf(family(&database, LOG)).unwrap();
        // Noticed when the room of the old one would be used up.
        (1..4_000).for_each(|index| append(&database, &mut room, index, 100));
        assert_ne!(newest_log(&db), first);
        let written = room.written;
        assert!(fs::metadata(newest_log(&db)).unwrap().len() >= written + GAP);
        let (_copy, copied) = after_crash(folder.path());
        (0..4_000).for_each(|index| assert!(copied.get_cf(family(&copied, LOG), log_key(index)).unwrap().is_some()));
    }

    #[test]
    fn nothing_written_is_lost_whatever_is_written_beside_it() {
        let seed = std::env::var("RIALTO_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
        println!("RIALTO_SEED={seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let folder = tempfile::tempdir().unwrap();
        let database = open_database(folder.path()).unwrap();
        let mut room = LogRoom::new(folder.path().join("db"));
        let (mut lengths, mut records) = (Vec::new(), 0u64);
        for _ in 0..1_500 {
            match random.random_range(0..100) {
                // Far more than who makes room expects.
                0..20 => {
                    let value = vec![9; random.random_range(0..20_000)];
                    database.put_cf_opt(family(&database, META), records.to_be_bytes(), value, &synced()).unwrap();
                    records += 1;
                }
                20 => database.flush_cf(family(&database, META)).unwrap(),
                21 => database.flush_cf(family(&database, LOG)).unwrap(),
                kind => {
                    let length = random.random_range(0..if kind < 30 { 100_000 } else { 2_000 });
                    append(&database, &mut room, lengths.len() as u64, length);
                    lengths.push(length);
                }
            }
        }
        let (_copy, copied) = after_crash(folder.path());
        for (index, length) in lengths.into_iter().enumerate() {
            let found = copied.get_cf(family(&copied, LOG), log_key(index as u64)).unwrap();
            assert_eq!(found, Some(vec![7; length]), "RIALTO_SEED={seed}: entry {index}");
        }
        for record in 0..records {
            assert!(
                copied.get_cf(family(&copied, META), record.to_be_bytes()).unwrap().is_some(),
                "RIALTO_SEED={seed}"
            );
        }
    }

    #[test]
    fn a_log_that_room_cannot_be_made_for_goes_on_without() {
        let folder = tempfile::tempdir().unwrap();
        let database = open_database(folder.path()).unwrap();
        let mut room = LogRoom::new(folder.path().join("nowhere"));
        (0..10).for_each(|index| append(&database, &mut room, index, 100));
        assert!(room.failed || room.end == 0);
        let (_copy, copied) = after_crash(folder.path());
        (0..10).for_each(|index| assert!(copied.get_cf(family(&copied, LOG), log_key(index)).unwrap().is_some()));
    }
}
