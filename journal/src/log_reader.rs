//! Reads the log of a directory that no node runs on, and changes nothing in it.

use std::path::Path;

use openraft::EntryPayload;
use rocksdb::DB;

use crate::database::{database_options, families};
use crate::failure::StartError;
use crate::format::decode_log_entry;
use crate::log_chain::{entry_place, log_start, point_behind, walk};
use crate::record::{Entry, Proposal};

/// Shows `visit` the index and the commands of every entry from the index `from` on, in order. Each entry's checksum is
/// checked, and that each follows the one before it. An error, too, when what is asked for is no longer there.
pub fn read_log(data: &Path, from: u64, mut visit: impl FnMut(u64, &Entry)) -> Result<(), StartError> {
    let path = data.join("db");
    let mut options = database_options();
    options.create_if_missing(false);
    options.create_missing_column_families(false);
    let opened = DB::open_cf_descriptors_read_only(&options, &path, families(), false);
    let database = opened.map_err(|error| StartError::disk(&path, error))?;
    let start = log_start(&database)?;
    let before = if from == start.next() { Some(start) } else { point_behind(&database, &start, from - 1)? };
    let before = before.ok_or_else(|| {
        let first = start.next();
        StartError::Failed(format!("the log in {} has no entry {from}, it starts with {first}", path.display()))
    })?;
    let mut damaged = None;
    walk(&database, before, |head, frame| match decode_log_entry(frame) {
        Ok(found) => {
            if let EntryPayload::Normal(Proposal::Commands { entry, .. }) = &found.payload {
                visit(head.log_id.index, entry);
            }
            true
        }
        Err(error) => {
            damaged = Some(StartError::damaged(entry_place(&database, head.log_id.index), error));
            false
        }
    })?;
    damaged.map_or(Ok(()), Err)
}
