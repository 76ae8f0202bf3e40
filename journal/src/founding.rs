//! What is left of a cluster goes on alone. When a majority of the voters is lost for good, raft rightly never acknowledges
//! anything again; an operator can then rule that one directory, the one with the longest log, is a venue of its own. The ruling
//! is an entry of its log: a membership of one. What only the lost nodes had is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use openraft::{BasicNode, EntryPayload, Membership};

use crate::database::{family, synced};
use crate::failure::StartError;
use crate::format::{LOG, decode_log_entry, encode_log_entry, log_key};
use crate::log_chain::{Point, log_start, walk};
use crate::opening::{open_database, upgrade};
use crate::record::{LogId, RaftEntry};
use crate::snapshot_file::SnapshotDirectory;

/// Makes the stopped directory `data` that of `node`, alone.
pub(crate) fn found_alone(data: &Path, node: u64) -> Result<(), StartError> {
    let database = open_database(data)?;
    upgrade(data, &database)?;
    let end = walk(&*database, log_start(&*database)?, |_, _| true)?;
    let last = end.log_id.ok_or_else(|| StartError::Failed("there is nothing in its log to go on with".to_owned()))?;
    let nodes = BTreeMap::from([(node, BasicNode::default())]);
    let membership = Membership::new(vec![BTreeSet::from([node])], nodes);
    let membership = membership.map_err(|error| StartError::Failed(error.to_string()))?;
    let log_id = LogId { leader_id: last.leader_id, index: end.next() };
    let (frame, _) = encode_log_entry(&RaftEntry { log_id, payload: EntryPayload::Membership(membership) }, end.link);
    let written = database.put_cf_opt(family(&database, LOG), log_key(log_id.index), frame, &synced());
    written.map_err(|error| StartError::disk(database.path(), error))
}

/// How many nodes the stopped directory `data` belongs to, as its newest snapshot and the log behind it say.
pub(crate) fn count_members(data: &Path) -> Result<usize, StartError> {
    let database = open_database(data)?;
    let newest = SnapshotDirectory::open(data)?.newest();
    let newest = newest.map_err(|error| StartError::damaged(data.join("snapshots").display().to_string(), error))?;
    let mut members = newest.map_or(0, |(meta, _)| meta.last_membership.membership().nodes().count());
    let mut look = |frame: &[u8]| {
        if let Ok(RaftEntry { payload: EntryPayload::Membership(found), .. }) = decode_log_entry(frame) {
            members = found.nodes().count();
        }
    };
    let start: Point = log_start(&*database)?;
    walk(&*database, start, |_, frame| {
        look(frame);
        true
    })?;
    Ok(members)
}
