//! The snapshot files of a directory, looked at and never changed.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::fault::{DROP_SNAPSHOT, Damage, RESTORE, RecoveryError};
use crate::format::{SnapshotHeader, open_snapshot_header};
use crate::snapshot_file::{self, FoundSnapshot, SnapshotError};

/// A header is far smaller; one that is not is damaged.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// A snapshot file.
pub(crate) struct SnapshotFile {
    pub index: u64,
    pub path: PathBuf,
    pub bytes: u64,
}

/// All snapshot files of a data directory, newest first.
pub(crate) fn list(data: &Path) -> Result<Vec<SnapshotFile>, RecoveryError> {
    let mut found = Vec::new();
    for path in files(data)? {
        let named = path.extension().is_some_and(|extension| extension == "snapshot");
        let index = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let (true, Some(index)) = (named, index) {
            let bytes = path.metadata().map_or(0, |metadata| metadata.len());
            found.push(SnapshotFile { index, path, bytes });
        }
    }
    found.sort_unstable_by_key(|file| std::cmp::Reverse(file.index));
    Ok(found)
}

/// What else lies there: damaged ones that were put aside, ones half written.
pub(crate) fn others(data: &Path) -> Result<Vec<PathBuf>, RecoveryError> {
    let known = list(data)?;
    Ok(files(data)?.into_iter().filter(|path| known.iter().all(|file| file.path != *path)).collect())
}

fn files(data: &Path) -> Result<Vec<PathBuf>, RecoveryError> {
    let path = data.join("snapshots");
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(RecoveryError::disk(&path, error)),
    };
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(|error| RecoveryError::disk(&path, error))).collect()
}

impl SnapshotFile {
    /// What to do if it is damaged: with a log that begins before it, a damaged snapshot costs time only.
    fn damage(&self, what: impl std::fmt::Display, can_do_without: bool) -> Damage {
        let remedy = if can_do_without { DROP_SNAPSHOT } else { RESTORE };
        Damage::new(self.path.display().to_string(), what, remedy)
    }

    /// What its header says.
    pub(crate) fn header(&self, can_do_without: bool) -> Result<SnapshotHeader, Damage> {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut start = Vec::new();
            File::open(&self.path)?.take(HEADER_BYTES_MAX).read_to_end(&mut start)?;
            Ok(start)
        };
        let start = read().map_err(|error| self.damage(error, can_do_without))?;
        let header = open_snapshot_header(&start);
        let (header, _) =
            header.map_err(|error| self.damage(format!("its header is damaged: {error}"), can_do_without))?;
        self.check_index(&header, can_do_without)?;
        Ok(header)
    }

    /// All of it, checked against its hash.
    pub(crate) fn load(&self, can_do_without: bool) -> Result<FoundSnapshot, Damage> {
        let header = self.header(can_do_without)?;
        let file = File::open(&self.path).map_err(|error| self.damage(error, can_do_without))?;
        let mut file = file;
        let found = snapshot_file::read(&mut file).map_err(|error| self.damage(error, can_do_without))?;
        self.check_index(&header, can_do_without)?;
        Ok(found)
    }

    fn check_index(&self, header: &SnapshotHeader, can_do_without: bool) -> Result<(), Damage> {
        let says = header.last_log_id.map_or(0, |log_id| crate::record::LogId::from(log_id).index);
        if says == self.index {
            return Ok(());
        }
        Err(self.damage(format!("it is named for entry {}, yet holds entry {says}", self.index), can_do_without))
    }
}

/// The header of a snapshot file that is in memory, if all of it is whole.
pub(crate) fn check_bytes(bytes: &[u8]) -> Result<SnapshotHeader, SnapshotError> {
    let (header, body) = snapshot_file::check_bytes(bytes)?;
    engine::Snapshot::decode(body)?;
    Ok(header)
}
