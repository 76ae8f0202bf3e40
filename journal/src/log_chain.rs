//! The chain of the log: each entry carries the link of the one before it. Walking it finds a flipped bit, a hole, an entry
//! that was swapped, and names the entry.

use crate::failure::StartError;
use crate::format::{LOG, Link, LogEntryHead, LogIdBytes, PURGED_KEY, check_log_entry, log_key};
use crate::log_disk::{LogDisk, read_record};
use crate::record::LogId;

/// How much of the log one piece of a scrub reads.
const SCRUB_BYTES: usize = 1 << 20;

/// A place in the log: right behind an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    /// The entry; none at the start of a log that was never purged.
    pub log_id: Option<LogId>,
    /// Its link, which the entry after it carries.
    pub link: Link,
}

impl Point {
    /// The index of the entry that comes next.
    pub(crate) fn next(&self) -> u64 {
        self.log_id.map_or(0, |log_id| log_id.index + 1)
    }
}

/// How an entry is called when it is damaged.
pub(crate) fn entry_place(disk: &(impl LogDisk + ?Sized), index: u64) -> String {
    format!("entry {index} of column family `{LOG}` in {}", disk.place())
}

/// Where the log starts: behind what was purged.
pub(crate) fn log_start(disk: &(impl LogDisk + ?Sized)) -> Result<Point, StartError> {
    let purged = read_record::<(LogIdBytes, Link)>(disk, PURGED_KEY)?;
    let start = Point { log_id: None, link: Link::START };
    Ok(purged.map_or(start, |(log_id, link)| Point { log_id: Some(log_id.into()), link }))
}

/// The place behind the entry `index`, if the log, which starts at `start`, has it.
pub(crate) fn point_behind(
    disk: &(impl LogDisk + ?Sized),
    start: &Point,
    index: u64,
) -> Result<Option<Point>, StartError> {
    if start.log_id.is_some_and(|log_id| log_id.index == index) {
        return Ok(Some(*start));
    }
    if index < start.next() {
        return Ok(None);
    }
    let damaged = |what: String| StartError::damaged(entry_place(disk, index), what);
    let found = disk.frame(index).map_err(damaged)?;
    let Some(frame) = found else { return Ok(None) };
    let head = check_log_entry(&frame).map_err(|error| damaged(error.to_string()))?;
    if head.log_id.index != index {
        return Err(damaged(format!("it holds entry {}", head.log_id.index)));
    }
    Ok(Some(Point { log_id: Some(head.log_id), link: head.link }))
}

/// Walks from `from` to the end of the log and checks every frame and link; `visit` sees each frame, and ends the walk
/// by returning false. The place where it ended.
pub(crate) fn walk(
    disk: &(impl LogDisk + ?Sized),
    from: Point,
    mut visit: impl FnMut(&LogEntryHead, &[u8]) -> bool,
) -> Result<Point, StartError> {
    let mut at = from;
    for row in disk.frames(from.next()) {
        let index = at.next();
        let damaged = |what: String| StartError::damaged(entry_place(disk, index), what);
        let (key, frame) = row.map_err(damaged)?;
        if *key != log_key(index) {
            return Err(damaged("it is missing, and later entries are there".into()));
        }
        let head = check_log_entry(&frame).map_err(|error| damaged(error.to_string()))?;
        if head.previous != at.link {
            return Err(damaged("it does not follow the entry before it".into()));
        }
        if head.log_id.index != index {
            return Err(damaged(format!("it holds entry {}", head.log_id.index)));
        }
        at = Point { log_id: Some(head.log_id), link: head.link };
        if !visit(&head, &frame) {
            break;
        }
    }
    Ok(at)
}

/// Walks on from `from`, to the entry before `end` at most, as far as one piece of a scrub goes; the place reached.
pub(crate) fn scrub_piece(disk: &(impl LogDisk + ?Sized), from: Point, end: u64) -> Result<Point, StartError> {
    let mut bytes = 0;
    walk(disk, from, |head, frame| {
        bytes += frame.len();
        bytes < SCRUB_BYTES && head.log_id.index + 1 < end
    })
}
