//! What is known of the log without the disk: where it starts and ends, its vote, its newest entries.

use std::collections::VecDeque;

use crate::compensation::Compensations;
use crate::failure::StartError;
use crate::format::{Link, VOTE_KEY, VoteBytes, encode_log_entry};
use crate::log_chain::{Point, entry_place, log_start, point_behind, walk};
use crate::log_disk::{LogDisk, read_record};
use crate::record::{LogId, RaftEntry, Vote};

/// Entries kept in memory for replication and apply: written ones beyond this are read from the disk.
const TAIL_BYTES_MAX: usize = 32 << 20;

/// What of the log a start did not look at: the entries behind `start` and before `end`.
pub(crate) struct Unchecked {
    pub start: Point,
    pub end: u64,
}

/// What is known of the log without the disk, and its newest entries.
pub(crate) struct Log {
    pub vote: Option<Vote>,
    pub purged: Option<LogId>,
    pub purged_link: Link,
    /// Whether what stands on the disk is contradicted by the snapshot that the node starts from, so that none of it counts.
    pub is_superseded: bool,
    /// The first index that the log may hold.
    pub first: u64,
    pub last: Option<LogId>,
    pub last_link: Link,
    /// The newest entries; at least all that are not written yet. They end at `last`.
    pub tail: VecDeque<TailEntry>,
    tail_bytes: usize,
    /// Entries before this index are written.
    written_end: u64,
    /// Counts truncations, so that the writer never calls an entry written that was truncated meanwhile.
    truncations: u64,
}

pub(crate) struct TailEntry {
    pub entry: RaftEntry,
    link: Link,
    /// How long its frame is.
    pub bytes: usize,
}

impl Log {
    /// Checks what stands on `disk` behind the entry `snapshot`, the last that the snapshot knows, and takes note of the rulings
    /// in it; what it did not check comes along.
    ///
    /// Where the log has another entry in that one's place, it is of a leader that was followed by another before a majority
    /// had it: the snapshot came from that other, and the node ended before the disk had let go of the entry and those behind
    /// it. The log starts anew behind the snapshot then. Nobody can have sent `node`, which this is, a snapshot of its own, nor one
    /// of an earlier leader: that is damage, or parts of two directories.
    pub(crate) fn open(
        disk: &(impl LogDisk + ?Sized),
        snapshot: Option<LogId>,
        node: u64,
    ) -> Result<(Log, Compensations, Unchecked), StartError> {
        let found = log_start(disk)?;
        let behind = snapshot.map(|last| point_behind(disk, &found, last.index)).transpose()?.flatten();
        let superseding = snapshot.filter(|_| behind.is_some_and(|point| point.log_id != snapshot));
        if let Some(last) = superseding
            && (last.leader_id.node_id == node || behind.is_some_and(|point| point.log_id > snapshot))
        {
            let what = "the snapshot has another entry in its place, and no later leader can have sent that";
            return Err(StartError::damaged(entry_place(disk, last.index), what));
        }
        let is_superseded = superseding.is_some();
        let anew = Point { log_id: snapshot, link: Link::START };
        let (start, from) = if is_superseded { (anew, anew) } else { (found, behind.unwrap_or(found)) };
        let mut compensations = Compensations::default();
        let mut reached = from;
        if !is_superseded {
            reached = walk(disk, from, |head, frame| {
                compensations.note(head, frame);
                true
            })?;
        }
        let vote = read_record::<VoteBytes>(disk, VOTE_KEY)?.map(Vote::from);
        let log = Log {
            vote,
            purged: start.log_id,
            purged_link: start.link,
            is_superseded,
            first: start.next(),
            last: reached.log_id,
            last_link: reached.link,
            tail: VecDeque::new(),
            tail_bytes: 0,
            written_end: reached.next(),
            truncations: 0,
        };
        Ok((log, compensations, Unchecked { start, end: from.next() }))
    }

    /// Refuses a log that lost entries which were durable.
    pub(crate) fn reaches(&self, disk: &(impl LogDisk + ?Sized), mark: u64) -> Result<(), StartError> {
        if self.is_superseded || self.end() >= mark {
            return Ok(());
        }
        let what = format!("the log ends before it, yet the entries before {mark} were durable");
        Err(StartError::damaged(entry_place(disk, self.end()), what))
    }

    /// One more than the last index.
    pub(crate) fn end(&self) -> u64 {
        self.last.map_or(0, |log_id| log_id.index + 1)
    }

    pub(crate) fn append(&mut self, entry: RaftEntry) -> (u64, Vec<u8>) {
        let index = entry.log_id.index;
        if self.last.is_none() {
            self.first = index;
        } else {
            assert_eq!(index, self.end(), "raft left a hole in the log");
        }
        let (frame, link) = encode_log_entry(&entry, self.last_link);
        self.last = Some(entry.log_id);
        self.last_link = link;
        self.tail_bytes += frame.len();
        self.tail.push_back(TailEntry { entry, link, bytes: frame.len() });
        (index, frame)
    }

    pub(crate) fn truncate(&mut self, last: Option<LogId>, last_link: Link) {
        let end = last.map_or(self.first, |log_id| log_id.index + 1);
        while self.tail.back().is_some_and(|held| held.entry.log_id.index >= end) {
            self.tail_bytes -= self.tail.pop_back().map_or(0, |held| held.bytes);
        }
        self.last = last;
        self.last_link = last_link;
        self.written_end = self.written_end.min(end);
        self.truncations += 1;
    }

    pub(crate) fn purge(&mut self, upto: LogId, link: Link) {
        while self.tail.front().is_some_and(|held| held.entry.log_id.index <= upto.index) {
            self.tail_bytes -= self.tail.pop_front().map_or(0, |held| held.bytes);
        }
        self.purged = Some(upto);
        self.purged_link = link;
        self.first = upto.index + 1;
        if self.last.is_none_or(|last| last.index <= upto.index) {
            // The log starts anew behind a snapshot.
            self.last = Some(upto);
            self.last_link = Link::START;
        }
    }

    pub(crate) fn link_in_tail(&self, index: u64) -> Option<Link> {
        let first = self.tail.front()?.entry.log_id.index;
        let position = index.checked_sub(first)?;
        self.tail.get(position as usize).map(|held| held.link)
    }

    /// The writer has synced the entries before `end`; those beyond the bound may leave memory now.
    pub(crate) fn written(&mut self, end: u64, truncations: u64) {
        if truncations == self.truncations {
            self.written_end = self.written_end.max(end);
        }
        while self.tail_bytes > TAIL_BYTES_MAX
            && self.tail.front().is_some_and(|held| held.entry.log_id.index < self.written_end)
        {
            self.tail_bytes -= self.tail.pop_front().map_or(0, |held| held.bytes);
        }
    }
}
