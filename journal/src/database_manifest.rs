//! RocksDB's manifest, the list of the files that make up the database, looked at before RocksDB does: a bit flipped in it can
//! keep RocksDB's reader busy for ever, or have it take what comes before that for the whole list.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::failure::StartError;
use crate::record_file::{has_record_behind, is_cut_short, scan, slice, varint};

/// How long each file of the write-ahead log was when it had been closed and synced, by its number.
pub(crate) type SyncedLengths = BTreeMap<u64, u64>;

/// Refuses a broken one in `db`; a last record that a crash cut short was never synced, and RocksDB drops it. What is not there is
/// left for RocksDB to name.
pub(crate) fn check(db: &Path) -> Result<SyncedLengths, StartError> {
    let mut synced = SyncedLengths::new();
    let current = db.join("CURRENT");
    let Some(name) = read_if_there(&current)? else { return Ok(synced) };
    let name = std::str::from_utf8(&name).ok().and_then(|name| name.strip_suffix('\n'));
    let Some(name) = name.filter(|name| name.strip_prefix("MANIFEST-").is_some_and(is_number)) else {
        return Err(StartError::damaged(current.display().to_string(), "it names no manifest"));
    };
    let path = db.join(name);
    let Some(bytes) = read_if_there(&path)? else { return Ok(synced) };
    let whole = scan(&bytes, 0, |record| synced.extend(synced_lengths_in(record)));
    if is_cut_short(&bytes, whole) && !has_record_behind(&bytes, whole) {
        return Ok(synced);
    }
    Err(StartError::damaged(path.display().to_string(), format!("the record at byte {whole} is broken")))
}

/// What a record says of files of the write-ahead log: first come numbers, then they (`VersionEdit::EncodeTo`, `WalAddition`).
fn synced_lengths_in(mut record: &[u8]) -> SyncedLengths {
    const NUMBERS: [u64; 5] = [2, 3, 4, 9, 10];
    const ADDITION: u64 = (1 << 13) + 7;
    const LENGTH: u64 = 2;
    let mut found = SyncedLengths::new();
    while let Some(tag) = varint(&mut record) {
        if tag == ADDITION {
            let Some(mut addition) = slice(&mut record) else { break };
            let number = varint(&mut addition);
            let length = (varint(&mut addition) == Some(LENGTH)).then(|| varint(&mut addition)).flatten();
            found.extend(number.zip(length));
        } else if !NUMBERS.contains(&tag) || varint(&mut record).is_none() {
            break;
        }
    }
    found
}

/// Which manifest it is and how long: as long as that stays, no file came or went.
pub(crate) fn extent(db: &Path) -> io::Result<(Vec<u8>, u64)> {
    let name = fs::read(db.join("CURRENT"))?;
    let path = db.join(String::from_utf8_lossy(&name).trim_end());
    Ok((name, fs::metadata(path)?.len()))
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, StartError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StartError::disk(path, error)),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;
    use crate::database::family;
    use crate::format::{LOG, META, log_key};
    use crate::opening::open_database;

    /// A database that was written to and closed a few times; its manifest.
    fn made() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..3 {
            let database = open_database(folder.path()).unwrap();
            for index in 0..4 {
                database.put_cf(family(&database, LOG), log_key(4 * round + index), b"entry").unwrap();
                database.put_cf(family(&database, META), b"key", b"value").unwrap();
                database.flush_cf(family(&database, LOG)).unwrap();
                database.flush_cf(family(&database, META)).unwrap();
            }
        }
        let db = folder.path().join("db");
        let name = fs::read_to_string(db.join("CURRENT")).unwrap();
        (folder, db.join(name.trim_end()))
    }

    fn heads(bytes: &[u8]) -> Vec<usize> {
        let mut heads = vec![0];
        while let Some(length) = bytes.get(heads[heads.len() - 1]..).filter(|rest| rest.len() >= 7) {
            let length = usize::from(u16::from_le_bytes([length[4], length[5]]));
            heads.push(heads[heads.len() - 1] + 7 + length);
        }
        assert_eq!(heads.pop(), Some(bytes.len()));
        heads
    }

    #[test]
    fn any_bit_flipped_is_named_before_rocksdb_reads_it() {
        let (folder, path) = made();
        let bytes = fs::read(&path).unwrap();
        let db = folder.path().join("db");
        check(&db).unwrap();
        assert!(heads(&bytes).len() > 10, "{} records", heads(&bytes).len());
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, flipped).unwrap();
            let error = check(&db).expect_err(&format!("byte {}", bit / 8)).to_string();
            assert!(error.contains("MANIFEST-") && error.contains("is broken"), "{error}");
        }
        fs::write(&path, &bytes).unwrap();
        open_database(folder.path()).unwrap();
    }

    #[test]
    fn a_record_type_that_would_keep_rocksdb_busy_for_ever_is_refused() {
        let (folder, path) = made();
        let bytes = fs::read(&path).unwrap();
        for head in heads(&bytes) {
            let mut flipped = bytes.clone();
            flipped[head + 6] ^= 4;
            fs::write(&path, flipped).unwrap();
            let error = open_database(folder.path()).err().unwrap().to_string();
            assert!(error.contains(&format!("the record at byte {head} is broken")), "{error}");
            assert!(error.contains("Restore the data directory from a backup"), "{error}");
        }
    }

    #[test]
    fn a_file_that_names_no_manifest_is_named() {
        let (folder, path) = made();
        let current = path.with_file_name("CURRENT");
        for bytes in
            [&b""[..], &[0; 16], b"MANIFEST-000005", b"MANIFEST-\n", b"MANIFEST-0x0005\n", b"../MANIFEST-000005\n"]
        {
            fs::write(&current, bytes).unwrap();
            let error = open_database(folder.path()).err().unwrap().to_string();
            assert!(error.contains("CURRENT is damaged: it names no manifest"), "{error}");
        }
        // RocksDB names what is not there.
        fs::write(&current, "MANIFEST-999999\n").unwrap();
        let error = open_database(folder.path()).err().unwrap().to_string();
        assert!(error.contains("MANIFEST-999999"), "{error}");
    }

    #[test]
    fn a_last_record_that_was_cut_short_is_none() {
        let (folder, path) = made();
        let bytes = fs::read(&path).unwrap();
        let last = *heads(&bytes).last().unwrap();
        for length in last..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            check(&folder.path().join("db")).unwrap();
        }
        fs::write(&path, [&bytes[..], &[0; 4_096]].concat()).unwrap();
        check(&folder.path().join("db")).unwrap();
        open_database(folder.path()).unwrap();
    }
}
