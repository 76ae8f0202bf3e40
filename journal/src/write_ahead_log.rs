//! RocksDB's write-ahead log, looked at before RocksDB does. It cannot be left to RocksDB alone: bytes behind the last record
//! that never were a record can keep its reader busy for ever, a batch of several pages of which a power cut left only the
//! later ones is refused as damage, and an open that finds damage on its way has already rewritten what was whole.
//!
//! Every batch is synced before the next is written, so a crash can tear only the last record: what is broken and has no
//! whole record behind it is such a torn tail, and is cut off. What is broken and has one is damage, and is named. Zeros to the
//! end of a file are room that was made for records (`log_room.rs`); where a file that was closed ended, the manifest says.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::database_manifest::SyncedLengths;
use crate::failure::StartError;
use crate::record_file::{has_record_behind, is_cut_short, keeps_reader, scan, slice, varint};

/// What the files say, all of which are whole up to a torn tail at most.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// What follows the whole records.
    rests: Vec<Rest>,
    /// The highest index that was put into the log, when there is one.
    pub last_index: Option<u64>,
}

/// The end of a file that holds no whole record.
#[derive(Debug, PartialEq, Eq)]
struct Rest {
    path: PathBuf,
    /// Where it begins, and where the file ends.
    begin: u64,
    end: u64,
    /// Whether it was written to: not all of it is zero.
    is_torn: bool,
}

/// Reads all write-ahead logs in `db`; changes nothing. `log_family` is the number of the column family of the log, `synced`
/// what the manifest says.
pub(crate) fn look(db: &Path, log_family: u64, synced: &SyncedLengths) -> Result<Found, StartError> {
    let mut found = Found::default();
    for (number, path) in list(db).map_err(|error| StartError::disk(db, error))? {
        let bytes = fs::read(&path).map_err(|error| StartError::disk(&path, error))?;
        let whole = scan(&bytes, 0, |record| {
            found.last_index = found.last_index.max(last_index_in(record, log_family));
        });
        let damaged = |what| Err(StartError::damaged(path.display().to_string(), what));
        let is_torn = is_written(&bytes[whole..]);
        if is_torn && has_record_behind(&bytes, whole) {
            return damaged(format!("the record at byte {whole} is broken, and whole ones follow it"));
        }
        if let Some(synced) = synced.get(&number).filter(|synced| **synced > whole as u64) {
            return damaged(format!("its whole records end at byte {whole}, yet {synced} bytes were synced"));
        }
        if let Some(torn) = found.rests.iter().find(|rest| rest.is_torn && is_written(&bytes)) {
            let what = format!("it is torn at byte {}, and a later one was written", torn.begin);
            return Err(StartError::damaged(torn.path.display().to_string(), what));
        }
        if whole < bytes.len() {
            found.rests.push(Rest { path, begin: whole as u64, end: bytes.len() as u64, is_torn });
        }
    }
    Ok(found)
}

/// Whether there is more than room in it.
fn is_written(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| *byte != 0)
}

impl Found {
    /// Cuts off what follows the whole records, and says so of a torn tail.
    pub(crate) fn mend(self) -> Result<(), StartError> {
        for Rest { path, begin, end, is_torn } in self.rests {
            if is_torn {
                let length = end - begin;
                tracing::warn!("{}: a torn tail of {length} bytes, never acknowledged, is dropped", path.display());
            }
            let cut = || -> io::Result<()> {
                let file = File::options().write(true).open(&path)?;
                file.set_len(begin)?;
                file.sync_all()
            };
            cut().map_err(|error| StartError::disk(&path, error))?;
        }
        Ok(())
    }
}

/// Refuses what would keep RocksDB's reader busy for ever, and a torn tail that it would take for damage, where nothing may be
/// changed.
pub(crate) fn check_readable(db: &Path) -> Result<(), StartError> {
    for (_, path) in list(db).map_err(|error| StartError::disk(db, error))? {
        let bytes = fs::read(&path).map_err(|error| StartError::disk(&path, error))?;
        let whole = scan(&bytes, 0, |_| {});
        let is_torn_inside = !is_cut_short(&bytes, whole) && !has_record_behind(&bytes, whole);
        if is_torn_inside || keeps_reader(&bytes, whole) {
            let what = format!("the record at byte {whole} is broken; if that is all, a start of the node mends it");
            return Err(StartError::damaged(path.display().to_string(), what));
        }
    }
    Ok(())
}

/// Copies the whole records of all write-ahead logs in `db` into `folder`, for who reads beside the node that writes them. RocksDB's
/// reader, which may find room at their ends, passes over it, and over what is written there until it comes back.
pub(crate) fn copy(db: &Path, folder: &Path) -> Result<(), StartError> {
    for (number, path) in list(db).map_err(|error| StartError::disk(db, error))? {
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            // All of it stands in tables by now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(StartError::disk(&path, error)),
        };
        let whole = scan(&bytes, 0, |_| {});
        let copied = folder.join(format!("{number:06}.log"));
        fs::write(&copied, &bytes[..whole]).map_err(|error| StartError::disk(&copied, error))?;
    }
    Ok(())
}

/// The write-ahead logs with their numbers, oldest first.
pub(crate) fn list(db: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    let entries = match fs::read_dir(db) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        if path.extension().is_some_and(|extension| extension == "log")
            && let Some(number) = number
        {
            files.push((number, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The highest key of eight bytes that a batch puts into the column family `log_family`.
fn last_index_in(batch: &[u8], log_family: u64) -> Option<u64> {
    const PUT: u8 = 1;
    const FAMILY_DELETE: u8 = 4;
    const FAMILY_PUT: u8 = 5;
    const FAMILY_DELETE_RANGE: u8 = 14;
    // Behind a sequence number and a count.
    let mut rest = batch.get(12..)?;
    let mut found = None;
    while let Some((&tag, after)) = rest.split_first() {
        rest = after;
        let family = if tag == PUT { 0 } else { varint(&mut rest)? };
        let key = slice(&mut rest)?;
        match tag {
            PUT | FAMILY_PUT | FAMILY_DELETE_RANGE => drop(slice(&mut rest)?),
            FAMILY_DELETE => {}
            _ => return found,
        }
        if tag == FAMILY_PUT && family == log_family {
            found = found.max(key.try_into().ok().map(u64::from_be_bytes));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use rocksdb::{DB, WriteBatch};

    use super::*;
    use crate::database::{family, synced};
    use crate::format::{LOG, META, log_key};
    use crate::opening::open_database;

    /// A database of entries as large as `lengths`, as a crash leaves it; the bytes of its write-ahead log.
    fn crashed(folder: &Path, lengths: &[usize]) -> Vec<u8> {
        let live = folder.join("live");
        fs::create_dir_all(&live).unwrap();
        let database = open_database(&live).unwrap();
        for (index, length) in lengths.iter().enumerate() {
            let mut batch = WriteBatch::default();
            batch.put_cf(family(&database, LOG), log_key(index as u64), vec![7; *length]);
            database.write_opt(batch, &synced()).unwrap();
        }
        let files = list(&live.join("db")).unwrap();
        fs::read(&files.last().unwrap().1).unwrap()
    }

    fn look_at(bytes: &[u8]) -> Result<Found, StartError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("000004.log"), bytes).unwrap();
        look(folder.path(), 1, &SyncedLengths::new())
    }

    #[test]
    fn every_record_of_a_whole_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = crashed(folder.path(), &[10, 70_000, 32_741, 32_760, 0, 5, 200_000, 30]);
        let found = look_at(&bytes).unwrap();
        assert_eq!(found, Found { rests: Vec::new(), last_index: Some(7) });
    }

    #[test]
    fn any_cut_of_the_last_record_is_a_torn_tail_and_any_break_before_it_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = crashed(folder.path(), &[10, 70_000, 40, 90_000]);
        let end = |upto: u64| {
            let mut ends = Vec::new();
            for length in 1..=bytes.len() {
                // Only at its end does a longer piece have one more whole record.
                let mut count = 0;
                if length % 64 == 0 || length == bytes.len() {
                    scan(&bytes[..length], 0, |_| count += 1);
                    ends.push((count, length));
                }
            }
            ends.into_iter().find(|(count, _)| *count > upto).unwrap().1
        };
        let last_begins_before = end(3).saturating_sub(90_000);
        for cut in (last_begins_before..bytes.len() - 1).step_by(997) {
            let found = look_at(&bytes[..cut]).unwrap();
            assert!(found.last_index <= Some(3) && found.last_index >= Some(2), "cut to {cut}: {found:?}");
            let mut holed = bytes.clone();
            // A page of it never reached the disk, later ones did.
            let page = (cut + 8_192).min(bytes.len() - 1) / 4_096 * 4_096;
            let page_end = (page + 4_096).min(bytes.len());
            holed[page..page_end].fill(0);
            let found = look_at(&holed).unwrap();
            assert_eq!(found.last_index, Some(2), "page {page} gone");
            assert!(found.rests[0].is_torn);
        }
        let mut broken = bytes.clone();
        broken[20_000] ^= 1;
        let error = look_at(&broken).unwrap_err().to_string();
        assert!(error.contains("000004.log is damaged: the record at byte"), "{error}");
    }

    #[test]
    fn a_type_that_would_keep_rocksdb_busy_for_ever_is_refused_where_nothing_may_be_changed() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = crashed(folder.path(), &[10, 20, 40_000]);
        let path = folder.path().join("000004.log");
        fs::write(&path, &bytes).unwrap();
        check_readable(folder.path()).unwrap();
        let second = 7 + usize::from(u16::from_le_bytes([bytes[4], bytes[5]]));
        let whole = bytes[second + 6];
        for kind in [5, 6, 7, 8, 11, 131] {
            bytes[second + 6] = kind;
            fs::write(&path, &bytes).unwrap();
            let error = check_readable(folder.path()).unwrap_err().to_string();
            assert!(
                error.contains(&format!("000004.log is damaged: the record at byte {second} is broken")),
                "{error}"
            );
        }
        bytes[second + 6] = whole;
        // At the beginning of a block, behind a record that is only broken.
        bytes[second + 8] ^= 1;
        bytes[32_768 + 6] = 7;
        fs::write(&path, &bytes).unwrap();
        assert!(check_readable(folder.path()).is_err());
    }

    #[test]
    fn bytes_that_never_were_a_record_are_cut_off_and_rocksdb_then_finds_what_was_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = crashed(folder.path(), &[10, 20, 30]);
        let whole = bytes.len();
        bytes.extend((0..5_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8));
        let path = folder.path().join("000004.log");
        fs::write(&path, &bytes).unwrap();
        look(folder.path(), 1, &SyncedLengths::new()).unwrap().mend().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), whole as u64);
        fs::write(&path, [&bytes[..whole], &[0; 4_096]].concat()).unwrap();
        look(folder.path(), 1, &SyncedLengths::new()).unwrap().mend().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), whole as u64);
    }

    #[test]
    fn a_copy_holds_the_whole_records_and_nothing_that_comes_behind_them() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = crashed(folder.path(), &[10, 70_000, 30]);
        // A record being written, in room that was made.
        let writing = [&bytes[..], &bytes[..10], &[0; 100_000]].concat();
        fs::write(folder.path().join("000012.log"), writing).unwrap();
        fs::write(folder.path().join("000013.log"), [0; 500]).unwrap();
        let copies = folder.path().join("copies");
        fs::create_dir(&copies).unwrap();
        copy(folder.path(), &copies).unwrap();
        assert_eq!(fs::read(copies.join("000012.log")).unwrap(), bytes);
        assert!(fs::read(copies.join("000013.log")).unwrap().is_empty());
    }

    #[test]
    fn room_is_no_torn_tail_and_rocksdb_reads_past_it() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = crashed(folder.path(), &[10, 70_000, 30]);
        let with_room = [&bytes[..], &[0; 100_000]].concat();
        let found = look_at(&with_room).unwrap();
        assert_eq!(found.last_index, Some(2));
        let rests: Vec<_> = found.rests.iter().map(|rest| (rest.begin, rest.end, rest.is_torn)).collect();
        assert_eq!(rests, [(bytes.len() as u64, with_room.len() as u64, false)]);

        let live = folder.path().join("live");
        let (_, path) = list(&live.join("db")).unwrap().pop().unwrap();
        fs::write(&path, &with_room).unwrap();
        check_readable(&live.join("db")).unwrap();
        let options = crate::database::database_options();
        let families = crate::database::families();
        let database = DB::open_cf_descriptors_read_only(&options, live.join("db"), families, false).unwrap();
        for index in 0..3 {
            assert!(database.get_cf(family(&database, LOG), log_key(index)).unwrap().is_some());
        }
        // Torn in the room: the node mends it, who may change nothing says so.
        let torn = [&with_room[..bytes.len() - 20], &[0; 500]].concat();
        fs::write(&path, &torn).unwrap();
        let error = check_readable(&live.join("db")).unwrap_err().to_string();
        assert!(error.contains("if that is all, a start of the node mends it"), "{error}");
        assert!(look_at(&torn).unwrap().rests[0].is_torn);
    }

    #[test]
    fn a_closed_file_that_lost_its_last_record_is_named_even_if_zeros_stand_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let database = open_database(folder.path()).unwrap();
        let db = folder.path().join("db");
        let put = |name: &str, key: u64| {
            database.put_cf_opt(family(&database, name), log_key(key), vec![7; 200], &synced()).unwrap();
        };
        put(META, 1);
        put(LOG, 1);
        // Meta stays in the old file.
        database.flush_cf(family(&database, LOG)).unwrap();
        put(LOG, 2);
        let crashed = tempfile::tempdir().unwrap();
        fs::create_dir(crashed.path().join("db")).unwrap();
        for entry in fs::read_dir(&db).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), crashed.path().join("db").join(entry.file_name())).unwrap();
        }
        let logs = list(&crashed.path().join("db")).unwrap();
        assert_eq!(logs.len(), 2);
        let closed = &logs[0].1;
        let bytes = fs::read(closed).unwrap();
        let mut last = 0;
        let whole = scan(&bytes, 0, |record| last = 7 + record.len());
        let lost = [&bytes[..whole - last], &[0; 5_000]].concat();
        fs::write(closed, lost).unwrap();
        let error = open_database(crashed.path()).err().unwrap().to_string();
        assert!(error.contains("were synced") && error.contains(&closed.display().to_string()), "{error}");
        // Room in it is none of that.
        fs::write(closed, [&bytes[..whole], &[0; 5_000]].concat()).unwrap();
        let opened = open_database(crashed.path()).unwrap();
        assert!(opened.get_cf(family(&opened, META), log_key(1)).unwrap().is_some());
    }
}
