//! Backups: of a running node too, and only what is new since the last time.
//!
//! ```text
//! <backup>/manifest                        which of the files below count, in what order, and their hashes: one frame
//! <backup>/segments/<first>-<end>.zst      entries of the log (stream.rs); each names the hash of the one before
//! <backup>/snapshots/<index>.snapshot      the newest snapshot; and the one that the first entry goes on from, if it does
//! ```
//!
//! The manifest is written last and at once: a backup that is cut off leaves the one before it whole. A log that does not
//! go on where the backup ends is refused, so that a backup never mixes two histories.

use std::path::{Path, PathBuf};

use engine::Sequence;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::directory::{Directory, is_owned};
use super::fault::{BACK_UP_ANEW, Damage, RESTORE, RecoveryError, sync_directory};
use super::progress::Progress;
use super::snapshots;
use super::stream::{self, StreamHeader, StreamWriter, Written, end_of_copy};
use crate::format::{Link, LogIdBytes, VoteBytes, seal};

/// A segment is closed at so many bytes of entries.
const SEGMENT_BYTES: u64 = 256 << 20;
/// How often a snapshot is looked for again that the node removed meanwhile.
const ATTEMPTS: u32 = 5;

/// Which files count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The entry before the first and its link; `None` where the log begins.
    pub before: Option<(LogIdBytes, Link)>,
    /// In order.
    pub segments: Vec<Segment>,
    /// The snapshots, oldest first.
    pub snapshots: Vec<KeptSnapshot>,
    /// Who the node voted for.
    pub vote: Option<VoteBytes>,
    /// How often it was started.
    pub boot: u64,
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    pub first: u64,
    pub end: u64,
    pub bytes: u64,
    pub hash: [u8; 32],
    /// Its last entry and that entry's link.
    pub last: LogIdBytes,
    pub link: Link,
}

/// A snapshot in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptSnapshot {
    pub index: u64,
    pub sequence: Sequence,
    pub bytes: u64,
    pub hash: [u8; 32],
}

impl Segment {
    pub(crate) fn path(&self, backup: &Path) -> PathBuf {
        backup.join("segments").join(format!("{:020}-{:020}.zst", self.first, self.end))
    }
}

impl KeptSnapshot {
    pub(crate) fn path(&self, backup: &Path) -> PathBuf {
        backup.join("snapshots").join(format!("{:020}.snapshot", self.index))
    }
}

impl Manifest {
    pub(crate) fn read(backup: &Path) -> Result<Option<Manifest>, RecoveryError> {
        stream::open_file(&backup.join("manifest"), BACK_UP_ANEW)
    }

    /// One more than the last entry.
    pub(crate) fn end(&self) -> u64 {
        let first = self.before.map_or(0, |(before, _)| crate::record::LogId::from(before).index + 1);
        self.segments.last().map_or(first, |segment| segment.end)
    }

    /// The link of the last entry.
    pub(crate) fn link(&self) -> Link {
        let before = self.before.map_or(Link::START, |(_, link)| link);
        self.segments.last().map_or(before, |segment| segment.link)
    }

    fn write(&self, backup: &Path) -> Result<(), RecoveryError> {
        let (path, temporary) = (backup.join("manifest"), backup.join("manifest.tmp"));
        let written = std::fs::write(&temporary, seal(self))
            .and_then(|()| std::fs::File::open(&temporary)?.sync_all())
            .and_then(|()| std::fs::rename(&temporary, &path));
        written.map_err(|error| RecoveryError::disk(&path, error))?;
        sync_directory(backup)
    }
}

/// What a backup added.
#[derive(Clone, Debug)]
pub struct BackupReport {
    /// Whether a node ran on the directory meanwhile.
    pub was_running: bool,
    /// The segments that are new.
    pub segments: Vec<SegmentReport>,
    /// The snapshot that is new: its last command and its size.
    pub snapshot: Option<(Sequence, u64)>,
    /// What the backup holds now: its first entry and one more than its last, in so many segments and bytes.
    pub entries: (u64, u64),
    /// See `entries`.
    pub segment_count: u64,
    /// See `entries`.
    pub bytes: u64,
    /// The last command of the newest snapshot in it.
    pub newest_snapshot: Option<Sequence>,
}

/// A new segment of a backup.
#[derive(Clone, Debug)]
pub struct SegmentReport {
    /// The file.
    pub path: PathBuf,
    /// Its first entry, and one more than its last.
    pub entries: (u64, u64),
    /// The size of its entries, and of the file.
    pub bytes: (u64, u64),
}

/// Adds to the backup in `backup`, which is made when it is missing, what is new in `data`.
pub fn back_up(data: &Path, backup: &Path, progress: &mut dyn Progress) -> Result<BackupReport, RecoveryError> {
    let mut attempt = 0;
    loop {
        match back_up_once(data, backup, progress) {
            // A node that writes snapshots and purges may have moved on from all that belonged together a moment ago.
            Err(RecoveryError::Damaged(_)) if attempt + 1 < ATTEMPTS && is_owned(data)? => attempt += 1,
            outcome => return outcome,
        }
    }
}

fn back_up_once(data: &Path, backup: &Path, progress: &mut dyn Progress) -> Result<BackupReport, RecoveryError> {
    let directory = Directory::read(data)?;
    for folder in [backup.to_owned(), backup.join("segments"), backup.join("snapshots")] {
        std::fs::create_dir_all(&folder).map_err(|error| RecoveryError::disk(&folder, error))?;
    }
    let _lock = lock(backup)?;
    let known = Manifest::read(backup)?;
    let start = directory.log_start()?;
    let is_first = known.is_none();
    let mut manifest = known.unwrap_or_else(|| Manifest {
        before: start.log_id.map(|purged| (LogIdBytes::from(&purged), start.link)),
        segments: Vec::new(),
        snapshots: Vec::new(),
        vote: None,
        boot: 0,
    });
    if is_first && std::fs::read_dir(backup.join("segments")).is_ok_and(|mut files| files.next().is_some()) {
        // Segments without a manifest: of a first backup that was cut off, or of one whose manifest was lost.
        let what = "there are segments, and no manifest that says which of them count";
        return Err(Damage::new(backup.join("manifest").display().to_string(), what, BACK_UP_ANEW).into());
    }
    check_files(backup, &manifest)?;
    let end = end_of_copy(&directory)?;
    check_goes_on(&directory, &manifest, backup, end)?;
    let (vote, boot) = (directory.vote()?.as_ref().map(VoteBytes::from), directory.boot()?);
    if is_first {
        // From now on a cut-off backup is known for what it is.
        manifest.write(backup)?;
    }

    let mut reports = Vec::new();
    let first = manifest.end();
    progress.begin("copying entries", end.saturating_sub(first));
    let mut writer: Option<StreamWriter> = None;
    let mut rows = directory.rows(first, Some(manifest.link()));
    loop {
        let row = rows.next().transpose()?.filter(|row| row.index < end);
        let is_full = writer.as_ref().is_some_and(|writer| writer.raw_bytes() >= SEGMENT_BYTES);
        if (row.is_none() || is_full)
            && let Some(writer) = writer.take()
        {
            close(backup, &mut manifest, &mut reports, writer)?;
        }
        let Some(row) = row else { break };
        let open = match &mut writer {
            Some(open) => open,
            None => writer.insert(begin(backup, &manifest, vote, boot)?),
        };
        open.push(&row)?;
        progress.reach(row.index - first);
    }
    (manifest.vote, manifest.boot) = (vote, boot);
    let snapshot = copy_snapshot(&directory, backup, &mut manifest)?;
    manifest.write(backup)?;
    remove_strays(backup, &manifest)?;
    let first = manifest.segments.first().map_or(manifest.end(), |segment| segment.first);
    Ok(BackupReport {
        was_running: directory.is_running(),
        segments: reports,
        snapshot,
        entries: (first, manifest.end()),
        segment_count: manifest.segments.len() as u64,
        bytes: manifest.segments.iter().map(|segment| segment.bytes).sum::<u64>()
            + manifest.snapshots.iter().map(|snapshot| snapshot.bytes).sum::<u64>(),
        newest_snapshot: manifest.snapshots.last().map(|snapshot| snapshot.sequence),
    })
}

/// Held until it is dropped: two backups into one directory would tear each other's.
fn lock(backup: &Path) -> Result<std::fs::File, RecoveryError> {
    let file = std::fs::File::open(backup).map_err(|error| RecoveryError::disk(backup, error))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(RecoveryError::Refused(format!("another backup into {} is under way", backup.display()))),
    }
}

fn check_files(backup: &Path, manifest: &Manifest) -> Result<(), RecoveryError> {
    let mut previous = None;
    for segment in &manifest.segments {
        let path = segment.path(backup);
        let damaged = |what: String| Damage::new(path.display().to_string(), what, BACK_UP_ANEW);
        match path.metadata() {
            Ok(found) if found.len() == segment.bytes => {}
            Ok(found) => return Err(damaged(format!("it has {} bytes, not {}", found.len(), segment.bytes)).into()),
            Err(error) => return Err(damaged(error.to_string()).into()),
        }
        if previous.is_some_and(|previous| previous != segment.first) {
            return Err(damaged("the manifest has a hole before it".to_owned()).into());
        }
        previous = Some(segment.end);
    }
    Ok(())
}

/// The log must have the backup's last entry, or have purged exactly up to it, and as the backup has it.
fn check_goes_on(directory: &Directory, manifest: &Manifest, backup: &Path, end: u64) -> Result<(), RecoveryError> {
    let refused = |what: String| {
        RecoveryError::Refused(format!(
            "{} does not go on where the backup in {} ends: {what}. Begin a new backup in an empty directory",
            directory.path().display(),
            backup.display()
        ))
    };
    let (backed_up, start) = (manifest.end(), directory.log_start()?);
    if manifest.segments.is_empty() && manifest.before.is_none() && start.log_id.is_none() {
        return Ok(());
    }
    if backed_up > end {
        return Err(refused(format!("the backup holds entries before {backed_up}, the log only those before {end}")));
    }
    if backed_up < start.next() {
        return Err(refused(format!(
            "the backup ends before entry {backed_up}, and the log begins only at entry {}, as older ones were purged",
            start.next()
        )));
    }
    let link = match (backed_up == start.next(), backed_up.checked_sub(1)) {
        (true, _) => start.link,
        (false, Some(last)) => directory.row(last)?.head.link,
        (false, None) => Link::START,
    };
    if link == manifest.link() {
        return Ok(());
    }
    Err(refused(format!("entry {} is another one there", backed_up.saturating_sub(1))))
}

fn begin(
    backup: &Path,
    manifest: &Manifest,
    vote: Option<VoteBytes>,
    boot: u64,
) -> Result<StreamWriter, RecoveryError> {
    let last = manifest.segments.last();
    let header = StreamHeader {
        first: manifest.end(),
        before: last.map_or(manifest.before, |segment| Some((segment.last, segment.link))),
        previous_file: last.map(|segment| segment.hash),
        vote,
        boot,
        snapshot_bytes: 0,
    };
    let path = backup.join("segments").join(format!("{:020}-new", header.first));
    StreamWriter::create(&path, &header, &[])
}

/// The segment gets its name, which says what is in it, and counts from now on.
fn close(
    backup: &Path,
    manifest: &mut Manifest,
    reports: &mut Vec<SegmentReport>,
    writer: StreamWriter,
) -> Result<(), RecoveryError> {
    let first = manifest.end();
    let Written { end, bytes, raw_bytes, hash, last, link, .. } = writer.finish()?;
    let Some(last) = last else { return Ok(()) };
    let segment = Segment { first, end, bytes, hash, last, link };
    let (new, path) = (backup.join("segments").join(format!("{first:020}-new")), segment.path(backup));
    std::fs::rename(&new, &path).map_err(|error| RecoveryError::disk(&path, error))?;
    sync_directory(&backup.join("segments"))?;
    reports.push(SegmentReport { path, entries: (first, end), bytes: (raw_bytes, bytes) });
    manifest.segments.push(segment);
    manifest.write(backup)
}

/// Copies the newest whole snapshot of which the backup has all entries, if it is new. The one that the first entry goes on
/// from stays; those between are given up.
fn copy_snapshot(
    directory: &Directory,
    backup: &Path,
    manifest: &mut Manifest,
) -> Result<Option<(Sequence, u64)>, RecoveryError> {
    let mut copied = None;
    for attempt in 0..ATTEMPTS {
        match newest_snapshot(directory, manifest)? {
            Newest::Known => break,
            Newest::Vanished if attempt + 1 < ATTEMPTS => continue,
            Newest::Vanished => break,
            Newest::Found(kept, bytes) => {
                let path = kept.path(backup);
                let temporary = stream::with_suffix(&path, "tmp");
                let written = std::fs::write(&temporary, &bytes)
                    .and_then(|()| std::fs::File::open(&temporary)?.sync_all())
                    .and_then(|()| std::fs::rename(&temporary, &path));
                written.map_err(|error| RecoveryError::disk(&path, error))?;
                sync_directory(&backup.join("snapshots"))?;
                copied = Some((kept.sequence, kept.bytes));
                let keeps_first = usize::from(manifest.before.is_some() && !manifest.snapshots.is_empty());
                manifest.snapshots.truncate(keeps_first);
                manifest.snapshots.push(kept);
                break;
            }
        }
    }
    if manifest.before.is_some() && manifest.snapshots.is_empty() {
        let place = directory.path().join("snapshots").display().to_string();
        let what = "no snapshot in it is one that the log goes on from, and the log does not begin at its begin";
        return Err(Damage::new(place, what, RESTORE).into());
    }
    Ok(copied)
}

enum Newest {
    /// There is none that is newer than what the backup has.
    Known,
    /// It was removed while it was read.
    Vanished,
    Found(KeptSnapshot, Vec<u8>),
}

fn newest_snapshot(directory: &Directory, manifest: &Manifest) -> Result<Newest, RecoveryError> {
    let first = manifest.before.map_or(0, |(before, _)| crate::record::LogId::from(before).index);
    for file in snapshots::list(directory.path())? {
        if file.index >= manifest.end() || file.index < first {
            continue;
        }
        if manifest.snapshots.last().is_some_and(|kept| kept.index >= file.index) {
            return Ok(Newest::Known);
        }
        let bytes = match std::fs::read(&file.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Newest::Vanished),
            Err(error) => return Err(RecoveryError::disk(&file.path, error)),
        };
        // A damaged one is passed over: an older one and the log are worth as much.
        let Ok(header) = snapshots::check_bytes(&bytes) else { continue };
        let hash = <sha2::Sha256 as sha2::Digest>::digest(&bytes).into();
        let kept = KeptSnapshot { index: file.index, sequence: header.sequence, bytes: bytes.len() as u64, hash };
        return Ok(Newest::Found(kept, bytes));
    }
    Ok(Newest::Known)
}

/// What a backup that was cut off left, and snapshots that no longer count.
fn remove_strays(backup: &Path, manifest: &Manifest) -> Result<(), RecoveryError> {
    let segments = manifest.segments.iter().map(|segment| segment.path(backup));
    let counts: Vec<PathBuf> = segments.chain(manifest.snapshots.iter().map(|kept| kept.path(backup))).collect();
    for folder in ["segments", "snapshots"] {
        let folder = backup.join(folder);
        let files = std::fs::read_dir(&folder).map_err(|error| RecoveryError::disk(&folder, error))?;
        for file in files.flatten().map(|file| file.path()).filter(|path| !counts.contains(path)) {
            std::fs::remove_file(&file).map_err(|error| RecoveryError::disk(&file, error))?;
        }
    }
    Ok(())
}
