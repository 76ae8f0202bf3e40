//! The mark "durable up to N": a small file beside the database that says which log entry was on disk at least.
//!
//! RocksDB cannot tell a torn tail, which is harmless, from a log that lost synced entries, which is not. The mark can:
//! it is written only after the entry was synced, so it may lag behind the truth but is never above it. A log that
//! ends below it is damaged.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::failure::StartError;
use crate::format::{open_first, seal};

/// Two slots, written in turn, so that a write torn by a power cut leaves the other one.
const SLOT_LENGTH: u64 = 512;
const FILE_NAME: &str = "durable";

/// How far the log was durable at least, wherever that is kept.
pub(crate) trait Mark: Send + Sync {
    /// How many log entries, from index 0, it says are durable.
    fn entries(&self) -> u64;

    /// Says so, synced.
    fn set(&mut self, entries: u64) -> io::Result<()>;
}

/// The open file.
pub(crate) struct DurableMark {
    file: File,
    /// Counts the writes; its parity picks the slot.
    generation: u64,
    /// The number of log entries, from index 0, known to be durable.
    entries: u64,
}

impl DurableMark {
    /// The file in `data`, or `None` when there is none yet.
    pub(crate) fn open(data: &Path) -> Result<Option<DurableMark>, StartError> {
        let path = path(data);
        let file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StartError::disk(&path, error)),
        };
        let newest = [read_slot(&file, 0), read_slot(&file, 1)].into_iter().flatten().max();
        let place = path.display().to_string();
        let (generation, entries) =
            newest.ok_or_else(|| StartError::damaged(place, "neither of its two slots is whole"))?;
        Ok(Some(DurableMark { file, generation, entries }))
    }

    /// A new file in `data` that says that nothing is durable yet.
    pub(crate) fn create(data: &Path) -> Result<DurableMark, StartError> {
        let path = path(data);
        let create = || -> io::Result<DurableMark> {
            let file = File::options().read(true).write(true).create_new(true).open(&path)?;
            file.set_len(2 * SLOT_LENGTH)?;
            let mut mark = DurableMark { file, generation: 0, entries: 0 };
            mark.set(0)?;
            mark.file.sync_all()?;
            File::open(data)?.sync_all()?;
            Ok(mark)
        };
        create().map_err(|error| StartError::disk(&path, error))
    }
}

impl Mark for DurableMark {
    fn entries(&self) -> u64 {
        self.entries
    }

    fn set(&mut self, entries: u64) -> io::Result<()> {
        let generation = self.generation + 1;
        self.file.write_all_at(&seal(&(generation, entries)), generation % 2 * SLOT_LENGTH)?;
        self.file.sync_data()?;
        self.generation = generation;
        self.entries = entries;
        Ok(())
    }
}

/// What the mark in `data` says, without touching it; `None` when there is none.
pub(crate) fn read(data: &Path) -> Result<Option<u64>, StartError> {
    let path = path(data);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StartError::disk(&path, error)),
    };
    let newest = [read_slot(&file, 0), read_slot(&file, 1)].into_iter().flatten().max();
    let (_, entries) =
        newest.ok_or_else(|| StartError::damaged(path.display().to_string(), "neither of its two slots is whole"))?;
    Ok(Some(entries))
}

fn path(data: &Path) -> PathBuf {
    data.join(FILE_NAME)
}

fn read_slot(file: &File, slot: u64) -> Option<(u64, u64)> {
    let mut bytes = [0; SLOT_LENGTH as usize];
    file.read_exact_at(&mut bytes, slot * SLOT_LENGTH).ok()?;
    open_first(&bytes).ok().map(|(found, _)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_slot_counts() {
        let folder = tempfile::tempdir().unwrap();
        assert!(DurableMark::open(folder.path()).unwrap().is_none());
        let mut mark = DurableMark::create(folder.path()).unwrap();
        mark.set(5).unwrap();
        mark.set(9).unwrap();
        assert_eq!(DurableMark::open(folder.path()).unwrap().unwrap().entries(), 9);

        let torn = mark.generation % 2 * SLOT_LENGTH + 3;
        mark.file.write_all_at(&[0xff], torn).unwrap();
        assert_eq!(DurableMark::open(folder.path()).unwrap().unwrap().entries(), 5);

        mark.file.write_all_at(&[0xff; 1024], 0).unwrap();
        let error = DurableMark::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("durable is damaged"), "{error}");
    }
}
