//! Snapshots on disk: one file each, `<index of the last log entry in it>.snapshot`, a header in a frame and then the
//! state. A file appears whole or not at all, and is read back before it counts; retention.rs says how long it stays.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::snapshot_bytes::DecodeError;
use engine::{Sequence, Snapshot};
use openraft::alias::SnapshotMetaOf;
use sha2::{Digest, Sha256};

use crate::failure::StartError;
use crate::format::{FrameError, LogIdBytes, MembershipBytes, SnapshotHeader, open_snapshot_header, seal};
use crate::origins::Origins;
use crate::record::{LogId, StoredMembership, TypeConfig};
use crate::retention;
use crate::snapshot_decoding;
use crate::space::free_bytes;

pub(crate) type SnapshotMeta = SnapshotMetaOf<TypeConfig>;

const SUFFIX: &str = "snapshot";
/// What is on its way to be a snapshot, or was one.
const UNFINISHED: &str = "tmp";
/// A header is far smaller; one that is not is damaged.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// A file is synced as it is written, in pieces of this size and with a rest behind each: one sync of it all would have the
/// syncs of the log wait behind it.
const SYNC_BYTES: usize = 256 << 10;
const SYNC_REST: Duration = Duration::from_millis(2);

/// A file is removed in pieces too, from its end on: a file system that tells the disk which blocks are free again (mounted with
/// `discard`) keeps it busy with a large one for tens of milliseconds.
const REMOVED_BYTES: u64 = 1 << 20;

/// A snapshot that was read and found whole.
pub(crate) struct FoundSnapshot {
    pub meta: SnapshotMeta,
    pub origins: Origins,
    pub state: Snapshot,
}

/// Why a file is not a snapshot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("{0}")]
    Disk(#[from] io::Error),
    #[error("there must be {0} bytes free on the disk for it")]
    NoRoom(u64),
    /// Nothing was written.
    #[error("its file cannot be made: {0}")]
    NotMade(io::Error),
    #[error("its header is damaged: {0}")]
    Header(#[from] FrameError),
    #[error("its length or checksum is wrong")]
    Body,
    #[error("{0}")]
    State(#[from] DecodeError),
}

impl From<SnapshotError> for io::Error {
    fn from(error: SnapshotError) -> io::Error {
        io::Error::other(error.to_string())
    }
}

/// The directory they are in.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotDirectory {
    path: PathBuf,
}

impl SnapshotDirectory {
    /// Opens or makes it in `data`, and removes what a crash left half written or half removed.
    pub(crate) fn open(data: &Path) -> Result<SnapshotDirectory, StartError> {
        let path = data.join("snapshots");
        let open = || -> io::Result<()> {
            fs::create_dir_all(&path)?;
            File::open(data)?.sync_all()?;
            for entry in fs::read_dir(&path)? {
                let entry = entry?.path();
                if entry.extension().is_some_and(|extension| extension == UNFINISHED) {
                    fs::remove_file(entry)?;
                }
            }
            Ok(())
        };
        open().map_err(|error| StartError::disk(&path, error))?;
        Ok(SnapshotDirectory { path })
    }

    /// The newest one that is whole. Damaged ones are reported and put aside, and the next older is tried, as long as
    /// the log, whose entries up to `purged` are gone, continues it. History is made durable before a snapshot is written;
    /// where it ends at `filed`, before a snapshot, it has lost what it had, and is written again from an older one on.
    pub(crate) fn load_newest(
        &self,
        purged: Option<u64>,
        filed: Sequence,
    ) -> Result<Option<FoundSnapshot>, StartError> {
        let files = self.list().map_err(|error| StartError::disk(&self.path, error))?;
        let (mut damaged, mut ahead) = (None, Vec::new());
        for (index, path) in files {
            if purged.is_some_and(|purged| index < purged) {
                break;
            }
            match read_file(&path) {
                Ok(found) if found.state.sequence() <= filed => {
                    self.put_aside(ahead)?;
                    return Ok(Some(found));
                }
                Ok(found) => {
                    let sequence = found.state.sequence();
                    tracing::warn!("history ends at sequence {filed}, {} is at {sequence}", path.display());
                    ahead.push(path);
                }
                // It is whole, and for another version of this program.
                Err(SnapshotError::State(error @ DecodeError::Version(_))) => {
                    return Err(StartError::damaged(path.display().to_string(), error));
                }
                Err(error) => {
                    tracing::warn!("{} is damaged and is put aside: {error}", path.display());
                    fs::rename(&path, path.with_extension("damaged"))
                        .map_err(|error| StartError::disk(&path, error))?;
                    damaged.get_or_insert((path, error));
                }
            }
        }
        if let (Some(_), Some(path)) = (purged, ahead.last()) {
            return Err(StartError::HistoryLost { path: path.clone(), filed });
        }
        match (purged, damaged) {
            (None, _) => self.put_aside(ahead).map(|()| None),
            (Some(_), Some((path, error))) => Err(StartError::damaged(path.display().to_string(), error)),
            (Some(purged), None) => {
                let what = format!("there is no snapshot in it, but the log starts only after entry {purged}");
                Err(StartError::damaged(self.path.display().to_string(), what))
            }
        }
    }

    /// Raft takes the newest one there is for the state it is at.
    fn put_aside(&self, ahead: Vec<PathBuf>) -> Result<(), StartError> {
        for path in ahead {
            fs::rename(&path, path.with_extension("ahead")).map_err(|error| StartError::disk(&path, error))?;
        }
        Ok(())
    }

    /// Writes one and reads it back. Where that would leave less room on the disk than `kept_free` bytes, nothing is written;
    /// where it fails half way, nothing is left of it.
    pub(crate) fn write(
        &self,
        meta: &SnapshotMeta,
        origins: &Origins,
        state: &Snapshot,
        kept_free: u64,
    ) -> Result<(), SnapshotError> {
        let index = meta.last_log_id.map_or(0, |log_id| log_id.index);
        let path = self.path.join(format!("{index:020}.{SUFFIX}"));
        let temporary = path.with_extension(UNFINISHED);
        // Twice through the state is quicker than once through the memory that all its bytes would take.
        let (mut hasher, mut body_length) = (Sha256::new(), 0);
        state.write(|piece| {
            hasher.update(piece);
            body_length += piece.len() as u64;
        });
        let header = SnapshotHeader {
            last_log_id: meta.last_log_id.as_ref().map(LogIdBytes::from),
            membership_log_id: meta.last_membership.log_id().as_ref().map(LogIdBytes::from),
            membership: MembershipBytes::from(meta.last_membership.membership()),
            sequence: state.sequence(),
            body_length,
            state_hash: hasher.finalize().into(),
            origins: origins.clone(),
        };
        let needed = body_length.saturating_add(HEADER_BYTES_MAX).saturating_add(kept_free);
        if free_bytes(&self.path)? < needed {
            return Err(SnapshotError::NoRoom(needed));
        }
        if let Err(error) = write_whole(&temporary, &header, state) {
            let _ = fs::remove_file(&temporary);
            return Err(match error {
                SnapshotError::Disk(error) | SnapshotError::NotMade(error)
                    if error.kind() == io::ErrorKind::StorageFull =>
                {
                    SnapshotError::NoRoom(needed)
                }
                error => error,
            });
        }
        fs::rename(&temporary, &path)?;
        File::open(&self.path)?.sync_all()?;
        Ok(())
    }

    /// The newest one, open for reading, with what its header says.
    pub(crate) fn newest(&self) -> Result<Option<(SnapshotMeta, File)>, SnapshotError> {
        let found = self.newest_header()?;
        found.map(|(header, file)| Ok((header.meta()?, file))).transpose()
    }

    /// A piece of the file that is named by this log index, or of the newest one: its name, how long it is, and the bytes from
    /// `offset` on, so many at the most. None where there is no such file.
    pub(crate) fn piece(
        &self,
        of: Option<u64>,
        offset: u64,
        bytes_max: usize,
    ) -> io::Result<Option<(u64, u64, Vec<u8>)>> {
        let mut files = self.list()?.into_iter();
        let Some((index, path)) = files.find(|(index, _)| of.is_none_or(|of| of == *index)) else { return Ok(None) };
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(offset.min(length)))?;
        let mut piece = Vec::new();
        file.take(bytes_max as u64).read_to_end(&mut piece)?;
        Ok(Some((index, length, piece)))
    }

    /// Where a snapshot of that name gathers that comes from another node. Others that were coming are given up.
    pub(crate) fn incoming(&self, name: &str) -> io::Result<PathBuf> {
        let wanted = self.path.join(name).with_extension("part");
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "part") && path != wanted {
                fs::remove_file(path)?;
            }
        }
        Ok(wanted)
    }

    /// What the header of an open file says.
    pub(crate) fn meta_of(mut file: &File) -> Result<SnapshotMeta, SnapshotError> {
        let meta = read_header(&mut file)?.meta()?;
        file.rewind()?;
        Ok(meta)
    }

    /// How many bytes may still be written beside them.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        free_bytes(&self.path)
    }

    /// The last log entry and the last command in the newest one, as its header says.
    pub(crate) fn newest_position(&self) -> Result<Option<(u64, Sequence)>, StartError> {
        let damaged = |error: SnapshotError| StartError::damaged(self.path.display().to_string(), error);
        let found = self.newest_header().map_err(damaged)?;
        Ok(found.map(|(header, _)| (header.last_log_id.map_or(0, |log_id| LogId::from(log_id).index), header.sequence)))
    }

    fn newest_header(&self) -> Result<Option<(SnapshotHeader, File)>, SnapshotError> {
        let Some((_, path)) = self.list()?.into_iter().next() else { return Ok(None) };
        let mut file = File::open(path)?;
        let header = read_header(&mut file)?;
        file.rewind()?;
        Ok(Some((header, file)))
    }

    /// Removes those that [`retention::plan`] drops; the log entry up to which the log may go.
    pub(crate) fn prune(&self, log_bytes_after: impl Fn(u64) -> u64, log_bytes_kept: u64) -> io::Result<Option<u64>> {
        let mut files = self.list()?;
        files.reverse();
        let indexes: Vec<u64> = files.iter().map(|(index, _)| *index).collect();
        let plan = retention::plan(&indexes, log_bytes_after, log_bytes_kept);
        for (_, old) in files.into_iter().filter(|(index, _)| plan.dropped.contains(index)) {
            // From here on it is no snapshot any more, also for a start after a crash.
            let leaving = old.with_extension(UNFINISHED);
            fs::rename(&old, &leaving)?;
            remove_in_pieces(&leaving)?;
        }
        Ok(plan.purge_upto)
    }

    /// Index and path of each, newest first.
    fn list(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let named = path.extension().is_some_and(|extension| extension == SUFFIX);
            let index = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            if let (true, Some(index)) = (named, index) {
                files.push((index, path));
            }
        }
        files.sort_unstable_by(|a, b| b.cmp(a));
        Ok(files)
    }
}

impl SnapshotHeader {
    fn meta(&self) -> Result<SnapshotMeta, FrameError> {
        let membership = self.membership.clone().try_into()?;
        let last_membership = StoredMembership::new(self.membership_log_id.map(Into::into), membership);
        Ok(SnapshotMeta { last_log_id: self.last_log_id.map(Into::into), last_membership })
    }
}

/// A file of its own, synced and read back.
fn write_whole(path: &Path, header: &SnapshotHeader, state: &Snapshot) -> Result<(), SnapshotError> {
    let mut file = File::create(path).map_err(SnapshotError::NotMade)?;
    file.write_all(&seal(header))?;
    let (mut written, mut unsynced) = (Ok(()), 0);
    state.write(|piece| {
        unsynced += piece.len();
        if written.is_ok() {
            written = file.write_all(piece);
        }
        if written.is_ok() && unsynced >= SYNC_BYTES {
            unsynced = 0;
            written = file.sync_data();
            std::thread::sleep(SYNC_REST);
        }
    });
    written?;
    file.sync_all()?;
    drop(file);
    check(&mut File::open(path)?)
}

fn remove_in_pieces(path: &Path) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    let mut length = file.metadata()?.len();
    while length > REMOVED_BYTES {
        length -= REMOVED_BYTES;
        file.set_len(length)?;
        std::thread::sleep(SYNC_REST);
    }
    fs::remove_file(path)
}

/// The header; the file then stands at the body.
fn read_header(file: &mut (impl Read + Seek)) -> Result<SnapshotHeader, SnapshotError> {
    let mut start = Vec::new();
    file.rewind()?;
    // A header is far smaller; one that is not is damaged.
    file.by_ref().take(HEADER_BYTES_MAX).read_to_end(&mut start)?;
    let (header, length) = open_snapshot_header(&start)?;
    file.seek(SeekFrom::Start(length as u64))?;
    Ok(header)
}

/// Whether this is a whole snapshot file.
fn check(file: &mut File) -> Result<(), SnapshotError> {
    let header = read_header(file)?;
    let (mut hasher, mut length, mut piece) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut piece)?;
        hasher.update(&piece[..read]);
        length += read as u64;
        if read == 0 {
            break;
        }
    }
    let whole = length == header.body_length && *hasher.finalize() == header.state_hash;
    if whole { Ok(()) } else { Err(SnapshotError::Body) }
}

fn read_file(path: &Path) -> Result<FoundSnapshot, SnapshotError> {
    read(&mut File::open(path)?)
}

/// The header and the body, if `bytes` are a whole snapshot file.
pub(crate) fn check_bytes(bytes: &[u8]) -> Result<(SnapshotHeader, &[u8]), SnapshotError> {
    let (header, length) = open_snapshot_header(bytes)?;
    let body = &bytes[length..];
    let whole = body.len() as u64 == header.body_length && *Sha256::digest(body) == header.state_hash;
    if whole { Ok((header, body)) } else { Err(SnapshotError::Body) }
}

/// The snapshot in `bytes`, if they are a whole snapshot file.
pub(crate) fn read_bytes(bytes: &[u8]) -> Result<FoundSnapshot, SnapshotError> {
    let (header, length) = open_snapshot_header(bytes)?;
    found(header, &bytes[length..])
}

/// The snapshot in an open file.
pub(crate) fn read(file: &mut File) -> Result<FoundSnapshot, SnapshotError> {
    let header = read_header(file)?;
    let mut body = Vec::new();
    let left = file.metadata()?.len().saturating_sub(file.stream_position()?);
    if left != header.body_length {
        return Err(SnapshotError::Body);
    }
    body.reserve_exact(usize::try_from(left).map_err(|_| SnapshotError::Body)?);
    file.read_to_end(&mut body)?;
    found(header, &body)
}

/// The snapshot that a header and a body are, if they belong together.
fn found(header: SnapshotHeader, body: &[u8]) -> Result<FoundSnapshot, SnapshotError> {
    if body.len() as u64 != header.body_length {
        return Err(SnapshotError::Body);
    }
    let state = snapshot_decoding::decode(body, &header.state_hash).ok_or(SnapshotError::Body)??;
    if state.sequence() != header.sequence {
        return Err(SnapshotError::Body);
    }
    Ok(FoundSnapshot { meta: header.meta()?, origins: header.origins, state })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use engine::{Command, Engine, Time};
    use openraft::alias::LeaderIdOf;

    use super::*;

    /// Where history ends, beyond every snapshot.
    const END: Sequence = Sequence(u64::MAX);

    fn meta(index: u64) -> SnapshotMeta {
        let log_id = LogId { leader_id: LeaderIdOf::<TypeConfig> { term: 1, node_id: 1 }, index };
        SnapshotMeta { last_log_id: Some(log_id), last_membership: StoredMembership::default() }
    }

    #[test]
    fn a_snapshot_comes_back_as_it_was_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let directory = SnapshotDirectory::open(folder.path()).unwrap();
        let state = Engine::new().snapshot();
        for index in [5, 10, 15, 20] {
            directory.write(&meta(index), &Origins::default(), &state, 0).unwrap();
            let purge_upto = directory.prune(|_| 0, 0).unwrap();
            assert_eq!(purge_upto, [None, None, Some(5), Some(10)][index as usize / 5 - 1]);
        }
        assert_eq!(fs::read_dir(folder.path().join("snapshots")).unwrap().count(), 3);
        let found = directory.load_newest(Some(10), END).unwrap().unwrap();
        assert_eq!((found.meta, found.state), (meta(20), state));
        assert_eq!(directory.newest().unwrap().unwrap().0, meta(20));
    }

    #[test]
    fn a_large_file_goes_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("5.tmp");
        fs::write(&path, vec![1; 3 * REMOVED_BYTES as usize + 5]).unwrap();
        remove_in_pieces(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_snapshot_that_would_take_the_last_room_is_not_begun() {
        let folder = tempfile::tempdir().unwrap();
        let directory = SnapshotDirectory::open(folder.path()).unwrap();
        let error = directory.write(&meta(5), &Origins::default(), &Engine::new().snapshot(), u64::MAX).unwrap_err();
        assert!(matches!(error, SnapshotError::NoRoom(u64::MAX)), "{error}");
        assert_eq!(fs::read_dir(folder.path().join("snapshots")).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_snapshot_gives_way_to_the_next_older_one_that_the_log_reaches() {
        let folder = tempfile::tempdir().unwrap();
        let directory = SnapshotDirectory::open(folder.path()).unwrap();
        let state = Engine::new().snapshot();
        let damage = |index: u64| {
            let path = folder.path().join(format!("snapshots/{index:020}.snapshot"));
            let file = File::options().write(true).open(path).unwrap();
            file.write_all_at(&[0xee], file.metadata().unwrap().len() - 1).unwrap();
        };
        for index in [5, 10, 15] {
            directory.write(&meta(index), &Origins::default(), &state, 0).unwrap();
        }
        damage(15);
        assert_eq!(directory.load_newest(Some(5), END).unwrap().unwrap().meta, meta(10));
        damage(10);
        let error = directory.load_newest(Some(7), END).err().unwrap().to_string();
        assert!(error.contains("00000000000000000010.snapshot is damaged"), "{error}");
        assert!(directory.load_newest(None, END).unwrap().is_some());
    }

    #[test]
    fn history_that_lost_rows_is_written_again_from_an_older_snapshot_or_named() {
        let folder = tempfile::tempdir().unwrap();
        let directory = SnapshotDirectory::open(folder.path()).unwrap();
        for index in [5, 10] {
            let mut engine = Engine::new();
            (0..index).for_each(|_| engine.apply(Time(0), &Command::Tick, &mut Vec::new()));
            directory.write(&meta(index), &Origins::default(), &engine.snapshot(), 0).unwrap();
        }
        let error = directory.load_newest(Some(5), Sequence(4)).err().unwrap().to_string();
        assert!(error.contains("00000000000000000005.snapshot"), "{error}");
        assert!(error.contains("rialto journal rebuild-history"), "{error}");
        assert_eq!(directory.load_newest(Some(5), Sequence(10)).unwrap().unwrap().meta, meta(10));
        assert_eq!(directory.load_newest(Some(5), Sequence(9)).unwrap().unwrap().meta, meta(5));
        assert_eq!(directory.newest().unwrap().unwrap().0, meta(5), "the newer one is put aside");
        assert!(directory.load_newest(None, Sequence(4)).unwrap().is_none(), "the whole log is there");
    }

    #[test]
    fn a_file_with_any_bit_changed_or_any_byte_cut_off_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let directory = SnapshotDirectory::open(folder.path()).unwrap();
        directory.write(&meta(5), &Origins::default(), &Engine::new().snapshot(), 0).unwrap();
        let path = folder.path().join(format!("snapshots/{:020}.snapshot", 5));
        let whole = fs::read(&path).unwrap();
        let is_refused = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            assert_eq!(read_file(&path).is_err(), check(&mut File::open(&path).unwrap()).is_err());
            read_file(&path).is_err()
        };
        assert!(!is_refused(&whole));
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                assert!(is_refused(&changed), "bit {bit} of byte {at}");
            }
            assert!(is_refused(&whole[..at]), "cut to {at}");
        }
        assert!(is_refused(&[&whole[..], &[0]].concat()), "one byte more");
    }
}
