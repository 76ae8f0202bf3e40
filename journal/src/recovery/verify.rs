//! Everything in a data directory, looked at: each frame, each link, the mark, the votes, the snapshots, history; and whether
//! the log, replayed from each snapshot, comes to the state of the next.

use std::path::Path;

use engine::snapshot::StateHash;
use engine::{Sequence, Time};
use openraft::EntryPayload;
use rocksdb::IteratorMode;

use super::directory::Directory;
use super::fault::{Damage, REBUILD, RESTORE, RecoveryError};
use super::history_rows;
use super::log::Row;
use super::progress::Progress;
use super::replay::{At, Base, Before, Replay, unseen};
use super::snapshots::{self, SnapshotFile};
use crate::format::{LOG, Link, log_key};
use crate::record::{Compensation, Proposal};

/// More damaged entries than this are not named one by one.
const NAMED_MAX: usize = 20;
/// The progress is told every so many entries.
const TELL_EVERY: u64 = 1 << 12;

/// What a look at everything found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// What is not as it was written; empty when all is well.
    pub damages: Vec<Damage>,
    /// What is no damage and yet worth knowing.
    pub notes: Vec<String>,
    /// Log entries that were read, and the commands in them.
    pub entries: u64,
    /// See `entries`.
    pub commands: u64,
    /// Bytes of these entries.
    pub bytes: u64,
    /// Snapshots that are whole.
    pub snapshots: u64,
    /// Rows of history.
    pub history_rows: u64,
    /// Where the replay began.
    pub base: Option<Base>,
    /// Commands that were replayed.
    pub replayed: u64,
    /// The snapshots whose state the replay came to.
    pub reached: Vec<(Sequence, StateHash)>,
    /// The state at the log's end.
    pub end: Option<(Sequence, Time, StateHash)>,
}

/// Looks at everything.
pub fn verify(data: &Path, progress: &mut dyn Progress) -> Result<Verified, RecoveryError> {
    let mut found = Verified::default();
    // First: of a snapshot that a running node writes meanwhile, the log and history seen here may know nothing.
    let snapshots = snapshots::list(data)?;
    let directory = match Directory::read(data) {
        Ok(directory) => Some(directory),
        Err(RecoveryError::Damaged(damage)) => {
            found.damages.push(damage);
            None
        }
        Err(error) => return Err(error),
    };
    let Some(directory) = directory else {
        found.notes.push("the database cannot be opened: of the rest, only files were looked at".to_owned());
        check_snapshots(data, &snapshots, false, &mut found)?;
        return Ok(found);
    };
    if directory.is_running() {
        found.notes.push("a node runs on this directory: what it wrote since this look began was not looked at".into());
    }
    let start = match directory.log_start() {
        Ok(start) => Some(start),
        Err(RecoveryError::Damaged(damage)) => {
            found.damages.push(damage);
            None
        }
        Err(error) => return Err(error),
    };
    for outcome in [directory.vote().map(drop), directory.boot().map(drop), directory.format().map(drop)] {
        match outcome {
            Ok(()) => {}
            Err(RecoveryError::Damaged(damage)) => found.damages.push(damage),
            Err(error) => return Err(error),
        }
    }
    let can_do_without = start.is_some_and(|start| start.log_id.is_none());
    let mut log_is_whole = false;
    if let Some(start) = start {
        let before = found.damages.len();
        check_log(&directory, start.next(), start.link, progress, &mut found)?;
        check_mark(&directory, start.next(), &mut found)?;
        log_is_whole = found.damages.len() == before;
    }
    check_snapshots(data, &snapshots, can_do_without, &mut found)?;
    match history_rows::watermark(&directory) {
        Ok(watermark) => check_watermark(&directory, &snapshots, watermark, &mut found),
        Err(damage) => found.damages.push(damage),
    }
    found.history_rows = history_rows::check(&directory, progress, &mut found.damages)?;
    if log_is_whole {
        check_replay(&directory, &snapshots, progress, &mut found)?;
    } else {
        found.notes.push("the log was not replayed, because it is damaged".to_owned());
    }
    Ok(found)
}

/// Every frame and every link. After a damaged entry it goes on with the next that can be read.
fn check_log(
    directory: &Directory,
    first: u64,
    link: Link,
    progress: &mut dyn Progress,
    found: &mut Verified,
) -> Result<(), RecoveryError> {
    let end = directory.last_index()?.map_or(first, |last| last + 1);
    progress.begin("reading the log", end.saturating_sub(first));
    // Up to the first damage it is known which command comes next.
    let mut before = directory.sequence_before(first, &mut ()).ok();
    progress.begin("reading the log", end.saturating_sub(first));
    let (mut next, mut link) = (first, Some(link));
    while next < end {
        let damage = read_on(directory, &mut next, link, first, &mut before, progress, found);
        let Some(damage) = damage else { break };
        found.damages.push(match before {
            Some(before) => damage.at(Sequence(before.0 + 1)),
            None => damage,
        });
        if found.damages.len() >= NAMED_MAX {
            found.notes.push(format!("entries from {next} on were not looked at: too many are damaged"));
            break;
        }
        let Some(readable) = next_readable(directory, next + 1, end) else { break };
        if readable > next + 1 {
            found.notes.push(format!("between entries {next} and {readable} none can be read"));
        }
        (next, link, before) = (readable, None, None);
    }
    Ok(())
}

/// Reads entries until one is damaged, which `next` then is.
fn read_on(
    directory: &Directory,
    next: &mut u64,
    link: Option<Link>,
    first: u64,
    before: &mut Option<Sequence>,
    progress: &mut dyn Progress,
    found: &mut Verified,
) -> Option<Damage> {
    for row in directory.rows(*next, link) {
        let row: Row = match row {
            Ok(row) => row,
            Err(damage) => return Some(damage),
        };
        *next = row.index + 1;
        found.entries += 1;
        found.commands += row.commands();
        found.bytes += row.bytes.len() as u64;
        if let Some(before) = before {
            before.0 += row.commands();
        }
        if let EntryPayload::Normal(Proposal::Compensation(ruling)) = &row.payload {
            let Compensation { sequence, operator, reason, .. } = &**ruling;
            found.notes.push(format!("command {sequence} is passed over, as {operator} ruled: {reason}"));
        }
        if row.index.is_multiple_of(TELL_EVERY) {
            progress.reach(row.index - first);
        }
    }
    None
}

/// The first index from `from` on at which the database gives an entry, looked for in growing steps.
fn next_readable(directory: &Directory, from: u64, end: u64) -> Option<u64> {
    let (mut at, mut step) = (from, 1);
    while at < end {
        let mode = IteratorMode::From(&log_key(at), rocksdb::Direction::Forward);
        if let Some(Ok((key, _))) = directory.database().iterator_cf(directory.family(LOG), mode).next() {
            return <[u8; 8]>::try_from(&*key).ok().map(u64::from_be_bytes);
        }
        at += step;
        step *= 2;
    }
    None
}

fn check_mark(directory: &Directory, first: u64, found: &mut Verified) -> Result<(), RecoveryError> {
    let end = directory.last_index()?.map_or(first, |last| last + 1);
    match directory.mark() {
        Ok(mark) if mark > end => {
            let what = format!("the log ends before it, yet the entries before {mark} were durable");
            found.damages.push(Damage::new(directory.entry_place(end), what, RESTORE));
        }
        Ok(_) => {}
        Err(damage) => found.damages.push(damage),
    }
    Ok(())
}

fn check_snapshots(
    data: &Path,
    files: &[SnapshotFile],
    can_do_without: bool,
    found: &mut Verified,
) -> Result<(), RecoveryError> {
    for file in files {
        match file.load(can_do_without) {
            Ok(_) => found.snapshots += 1,
            // A running node removes old ones.
            Err(_) if !file.path.exists() => {}
            Err(damage) => found.damages.push(damage),
        }
    }
    for path in snapshots::others(data)? {
        found.notes.push(format!("{} was put aside and is of no use to the node", path.display()));
    }
    Ok(())
}

/// A node starts from its newest snapshot; what history lacks before that is never written again by itself.
fn check_watermark(directory: &Directory, files: &[SnapshotFile], watermark: Sequence, found: &mut Verified) {
    let newest = files.iter().find_map(|file| file.header(true).ok());
    if let Some(newest) = newest
        && watermark < newest.sequence
    {
        let place = format!("column family `history` in {}", directory.path().join("db").display());
        let what = format!("it ends at sequence {watermark}, before the newest snapshot's {}", newest.sequence);
        found.damages.push(Damage::new(place, what, REBUILD).at(watermark));
    }
}

/// From the oldest base through every snapshot to the end: each time the same state.
fn check_replay(
    directory: &Directory,
    files: &[SnapshotFile],
    progress: &mut dyn Progress,
    found: &mut Verified,
) -> Result<(), RecoveryError> {
    let outcome = replay_through(directory, files, progress, found);
    match outcome {
        Ok(()) => Ok(()),
        Err(RecoveryError::Damaged(damage)) => {
            if !found.damages.iter().any(|known| known.place == damage.place) {
                found.damages.push(damage);
            }
            Ok(())
        }
        Err(RecoveryError::Poisoned(poison)) => {
            let what = format!("the engine panics at it: {}", poison.message);
            let place = format!("command {} of the log in {}", poison.sequence, directory.path().display());
            found.damages.push(Damage::new(place, what, COMPENSATE).at(poison.sequence));
            Ok(())
        }
        Err(RecoveryError::NotThere(what)) => {
            found.damages.push(Damage::new(directory.path().display().to_string(), what, RESTORE));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// What to do about a poisoned command.
const COMPENSATE: &str = "pass over it with a compensation (rialto journal compensate)";

fn replay_through(
    directory: &Directory,
    files: &[SnapshotFile],
    progress: &mut dyn Progress,
    found: &mut Verified,
) -> Result<(), RecoveryError> {
    // Damaged ones are named already.
    let mut replay = Replay::before(directory, Before::Everything, &mut Vec::new())?;
    found.base = Some(replay.base().clone());
    for file in files.iter().rev() {
        let Ok(header) = file.header(true) else { continue };
        if header.sequence <= replay.base().sequence {
            continue;
        }
        replay.run(At::Sequence(header.sequence), progress, unseen)?;
        found.replayed = replay.commands();
        let hash = replay.state_hash();
        if hash.0 == header.state_hash {
            found.reached.push((header.sequence, hash));
            continue;
        }
        let what = format!("a replay of the log comes to another state at its sequence: {hash}");
        found.damages.push(Damage::new(file.path.display().to_string(), what, DIFFERS).at(header.sequence));
        if let Ok(other) = file.load(true) {
            replay.continue_as(other.state);
        }
    }
    replay.run(At::End, progress, unseen)?;
    found.replayed = replay.commands();
    found.end = Some((replay.sequence(), replay.time(), replay.state_hash()));
    Ok(())
}

/// What to do where a snapshot and the log disagree.
const DIFFERS: &str = "keep a copy of the directory and report it: either the snapshot was changed, or it was written by a \
     program that decides otherwise; `rialto journal diff` shows what differs";
