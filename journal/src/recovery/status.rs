//! What a data directory holds, at a glance.

use std::path::{Path, PathBuf};

use engine::{Sequence, Time};

use super::directory::Directory;
use super::fault::{Damage, RecoveryError};
use super::history_rows;
use super::progress::Progress;
use super::snapshots;

/// What a data directory holds.
#[derive(Clone, Debug)]
pub struct Status {
    /// Where it is.
    pub data: PathBuf,
    /// Whether a node runs on it.
    pub is_running: bool,
    /// The version of its format.
    pub format: u32,
    /// How often a node was started on it.
    pub starts: u64,
    /// Who it voted for last.
    pub vote: Option<Vote>,
    /// The first and the last entry of the log; `None` when it holds none.
    pub entries: Option<(u64, u64)>,
    /// The entries before this one were durable; or what is wrong with the mark.
    pub durable: Result<u64, Damage>,
    /// The first command that the log holds.
    pub first_sequence: Sequence,
    /// The last command in the log.
    pub last_sequence: Sequence,
    /// When the last command was, if the log still holds one.
    pub last_time: Option<Time>,
    /// Newest first.
    pub snapshots: Vec<SnapshotStatus>,
    /// What else lies beside them.
    pub put_aside: Vec<PathBuf>,
    /// The last command that history holds on disk; or what is wrong with it.
    pub history: Result<Sequence, Damage>,
    /// Bytes on disk, of the database and of the snapshots.
    pub bytes: (u64, u64),
}

/// Who a node voted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// In which term.
    pub term: u64,
    /// Which node.
    pub node: u64,
    /// Whether that node came to lead.
    pub committed: bool,
}

/// A snapshot as its header has it.
#[derive(Clone, Debug)]
pub struct SnapshotStatus {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The last log entry in it.
    pub index: u64,
    /// The last command in it and the state's hash; or what is wrong with its header.
    pub head: Result<(Sequence, [u8; 32]), Damage>,
}

/// Looks at a directory. Of the log only what stands behind the newest snapshot is read.
pub fn status(data: &Path, progress: &mut dyn Progress) -> Result<Status, RecoveryError> {
    let directory = Directory::read(data)?;
    let start = directory.log_start()?;
    let last = directory.last_index()?;
    let files = snapshots::list(data)?;
    let snapshots: Vec<SnapshotStatus> = files
        .iter()
        .map(|file| SnapshotStatus {
            path: file.path.clone(),
            bytes: file.bytes,
            index: file.index,
            head: file.header(start.log_id.is_none()).map(|header| (header.sequence, header.state_hash)),
        })
        // A running node removes old ones.
        .filter(|snapshot| snapshot.head.is_ok() || snapshot.path.exists())
        .collect();
    let end = last.map_or(start.next(), |last| last + 1);
    let last_sequence = directory.sequence_before(end, progress)?;
    let first_sequence = Sequence(directory.sequence_before(start.next(), progress)?.0 + 1);
    Ok(Status {
        data: data.to_owned(),
        is_running: directory.is_running(),
        format: directory.format()?,
        starts: directory.boot()?,
        vote: directory.vote()?.map(|vote| Vote {
            term: vote.leader_id.term,
            node: vote.leader_id.node_id,
            committed: vote.committed,
        }),
        entries: last.map(|last| (start.next(), last)),
        durable: directory.mark(),
        first_sequence,
        last_sequence,
        last_time: last_time(&directory, start.next(), end)?,
        snapshots,
        put_aside: snapshots::others(data)?,
        history: history_rows::watermark(&directory),
        bytes: (size_of(&data.join("db")), files.iter().map(|file| file.bytes).sum()),
    })
}

/// The time of the last entry with commands; the last few carry none after a start.
fn last_time(directory: &Directory, first: u64, end: u64) -> Result<Option<Time>, RecoveryError> {
    for index in (first..end).rev() {
        if let Some(entry) = directory.row(index)?.entry() {
            return Ok(Some(entry.time));
        }
    }
    Ok(None)
}

fn size_of(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).filter(|file| file.is_file()).map(|file| file.len()).sum()
}
