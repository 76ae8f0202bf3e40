//! How many files, sockets among them, the process may have open at once, and how many of them a node needs: one that has none
//! left cannot write its log, and ends.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Where a process may have so many, a node holds all tables of its database open.
const PLENTY: u64 = 16 << 10;
/// What these are counted as then: 64 GiB of tables.
const TABLES: u64 = 1_024;
/// The part of fewer that the tables get: some are closed to open others.
const TABLES_PART: u64 = 8;
/// The database's own files, snapshots that are written and read, what threads and timers take.
const OTHERS: u64 = 64;

/// How many the process may have, after it has asked for all that it can get: who starts a program is commonly given a
/// thousand, and may have more for the asking.
pub fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Where it is not given, what there was holds.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    current()
}

/// How many of `limit` a node needs.
pub fn needed(limit: u64, in_cluster: bool) -> u64 {
    let peers = if in_cluster { crate::peer_server::CONNECTIONS_MAX as u64 } else { 0 };
    tables(limit).unwrap_or(TABLES) + peers + OTHERS
}

/// How many tables of a database are held open; all of them where none is said.
pub(crate) fn tables_max() -> Option<i32> {
    tables(current()).map(|tables| i32::try_from(tables).expect("a part of few"))
}

fn tables(limit: u64) -> Option<u64> {
    (limit < PLENTY).then_some(limit / TABLES_PART)
}

/// None is no limit.
fn current() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
