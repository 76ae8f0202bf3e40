//! History dropped as a whole, for the log to write it again, and what of it is in no log kept: imported candles. They wait in
//! a file beside the database, so that a program that is cut off in between loses nothing: the next run takes them from there.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use rocksdb::{Direction, IteratorMode, WriteBatch, WriteOptions};

use super::directory::Directory;
use super::fault::{Damage, RESTORE, RecoveryError, sync_directory};
use crate::database::{family, family_options};
use crate::format::{HISTORY, IMPORT_ROWS, IMPORTED_ROWS};

/// Rows are written in batches of so many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// No row of these is longer.
const ROW_BYTES_MAX: usize = 1 << 20;

fn path_of(data: &Path) -> PathBuf {
    data.join("imported-candles.kept")
}

/// Whether rows wait there that a run which was cut off left.
pub(crate) fn are_there(data: &Path) -> bool {
    path_of(data).exists()
}

/// Drops history but for what is in no log; how many rows stay.
pub(crate) fn drop_others(directory: &mut Directory) -> Result<u64, RecoveryError> {
    let kept = path_of(directory.path());
    if !kept.exists() && !keep(directory, &kept)? {
        return drop_all(directory).map(|()| 0);
    }
    drop_all(directory)?;
    let rows = take_back(directory, &kept)?;
    fs::remove_file(&kept).map_err(|error| RecoveryError::disk(&kept, error))?;
    Ok(rows)
}

fn drop_all(directory: &mut Directory) -> Result<(), RecoveryError> {
    let path = directory.path().join("db");
    let options = family_options(HISTORY);
    let database = directory.database_mut().ok_or_else(|| RecoveryError::disk(&path, "the database is in use"))?;
    // A program that is cut off in between leaves no such family: whoever opens the directory to change it makes one.
    let dropped = database.drop_cf(HISTORY).and_then(|()| database.create_cf(HISTORY, &options));
    dropped.map_err(|error| RecoveryError::disk(&path, error))
}

/// Writes what is kept into a file, which appears when it is whole; false when there is nothing.
fn keep(directory: &Directory, path: &Path) -> Result<bool, RecoveryError> {
    let database = directory.database();
    let failed = |error: rocksdb::Error| RecoveryError::disk(&directory.path().join("db"), error);
    let unwritten = |error: io::Error| RecoveryError::disk(path, error);
    let partial = path.with_extension("part");
    let mut file = None;
    let mut checksum = 0;
    for kind in [IMPORTED_ROWS, IMPORT_ROWS] {
        let rows = database.iterator_cf(family(database, HISTORY), IteratorMode::From(&[kind], Direction::Forward));
        for row in rows {
            let (key, value) = row.map_err(failed)?;
            if key.first() != Some(&kind) {
                break;
            }
            if file.is_none() {
                file = Some(BufWriter::new(File::create(&partial).map_err(unwritten)?));
            }
            let Some(file) = &mut file else { continue };
            for part in [&key, &value] {
                let bytes = [&(part.len() as u32).to_le_bytes(), &**part].concat();
                checksum = crc32c::crc32c_append(checksum, &bytes);
                file.write_all(&bytes).map_err(unwritten)?;
            }
        }
    }
    let Some(mut file) = file else { return Ok(false) };
    // No row is of length zero: that is the end.
    file.write_all(&0u32.to_le_bytes()).and_then(|()| file.write_all(&checksum.to_le_bytes())).map_err(unwritten)?;
    let file = file.into_inner().map_err(|error| unwritten(error.into_error()))?;
    file.sync_all().map_err(unwritten)?;
    fs::rename(&partial, path).map_err(unwritten)?;
    sync_directory(directory.path())?;
    Ok(true)
}

fn take_back(directory: &Directory, path: &Path) -> Result<u64, RecoveryError> {
    let database = directory.database();
    let history = family(database, HISTORY);
    let failed = |error: rocksdb::Error| RecoveryError::disk(&directory.path().join("db"), error);
    let damaged = || Damage::new(path.display().to_string(), "it is not what was written", RESTORE);
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    let mut file = BufReader::new(File::open(path).map_err(|error| RecoveryError::disk(path, error))?);
    let mut read = |length: usize| {
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes).map(|()| bytes).map_err(|_| damaged())
    };
    let (mut checksum, mut rows, mut batch) = (0, 0, WriteBatch::default());
    let mut key = None::<Vec<u8>>;
    loop {
        let head = read(4)?;
        let length = head.as_slice().try_into().map_or(0, u32::from_le_bytes) as usize;
        if length == 0 {
            break;
        }
        if length > ROW_BYTES_MAX {
            return Err(damaged().into());
        }
        let part = read(length)?;
        checksum = crc32c::crc32c_append(crc32c::crc32c_append(checksum, &head), &part);
        match key.take() {
            None => key = Some(part),
            Some(key) => {
                batch.put_cf(history, key, part);
                rows += 1;
            }
        }
        if batch.size_in_bytes() >= BATCH_BYTES {
            database.write_opt(std::mem::take(&mut batch), &options).map_err(failed)?;
        }
    }
    if key.is_some() || read(4)? != u32::to_le_bytes(checksum) {
        return Err(damaged().into());
    }
    database.write_opt(batch, &options).and_then(|()| database.flush_cf(history)).map_err(failed)?;
    Ok(rows)
}
