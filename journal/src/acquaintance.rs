//! Which incarnation of each other node this one has met.
//!
//! A voter that lost its directory has forgotten what it promised: counted again, it could help to elect a leader that lacks
//! what was acknowledged. A directory has a number of its own, its incarnation (identity.rs); a node that comes back with
//! another is refused until it was removed from the cluster and added again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use rocksdb::{DB, Direction, IteratorMode};

use crate::database::{family, read_meta, synced, write_meta};
use crate::failure::StartError;
use crate::format::{ACQUAINTANCES, ACQUAINTED_KEY, META, acquaintance_key};

/// Those met. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Acquaintances {
    met: Arc<Mutex<Met>>,
}

struct Met {
    /// Where members are remembered; none once this node stops.
    database: Option<Arc<DB>>,
    members: BTreeSet<u64>,
    /// Whoever is no member yet: remembered from the moment it becomes one.
    others: BTreeMap<u64, u64>,
}

impl Acquaintances {
    pub(crate) fn new(database: Arc<DB>) -> Acquaintances {
        let met = Met { database: Some(database), members: BTreeSet::new(), others: BTreeMap::new() };
        Acquaintances { met: Arc::new(Mutex::new(met)) }
    }

    /// Lets go of the database: a node that stops meets nobody any more.
    pub(crate) fn close(&self) {
        self.met.lock().database.take();
    }

    /// Meets `node`; refuses a member that is not who it was.
    pub(crate) fn meet(&self, node: u64, incarnation: u64) -> Result<(), String> {
        let mut met = self.met.lock();
        let Some(database) = met.database.clone() else { return Err("this node is stopping".to_owned()) };
        if !met.members.contains(&node) {
            met.others.insert(node, incarnation);
            // Nobody can fill the memory with nodes that are none.
            while met.others.len() > crate::cluster::NODES_MAX {
                met.others.pop_last();
            }
            return Ok(());
        }
        let known = known(&database, node).map_err(|error| error.to_string())?;
        match known {
            Some(known) if known == incarnation => Ok(()),
            Some(_) => Err(format!(
                "node {node} has another data directory than before: what it acknowledged may be lost. Remove it from the \
                 cluster and let it join again: rialto cluster remove {node}"
            )),
            None => write_meta(&database, &acquaintance_key(node), &incarnation).map_err(|error| error.to_string()),
        }
    }

    /// The log entry `index`, which is applied, makes these the members. Each such entry counts once, and none is left out: a
    /// node that was removed and added again at once is another from then on.
    pub(crate) fn follow(&self, index: u64, members: &BTreeSet<u64>) -> Result<(), StartError> {
        let Some(database) = self.met.lock().database.clone() else { return Ok(()) };
        // After a start, entries are applied again that were before.
        if read_meta::<u64>(&database, ACQUAINTED_KEY)?.is_some_and(|seen| index <= seen) {
            return Ok(());
        }
        self.set_members(members)?;
        write_meta(&database, ACQUAINTED_KEY, &index)
    }

    /// These are the members now: whoever is none any more is forgotten.
    pub(crate) fn set_members(&self, members: &BTreeSet<u64>) -> Result<(), StartError> {
        let mut met = self.met.lock();
        let Some(database) = met.database.clone() else { return Ok(()) };
        // Those too that were removed while this node did not run.
        for key in remembered(&database)? {
            if members.iter().all(|node| acquaintance_key(*node) != key) {
                let forgotten = database.delete_cf_opt(family(&database, META), key, &synced());
                forgotten.map_err(|error| StartError::disk(database.path(), error))?;
            }
        }
        for node in members {
            if let Some(incarnation) = met.others.remove(node)
                && known(&database, *node)?.is_none()
            {
                write_meta(&database, &acquaintance_key(*node), &incarnation)?;
            }
        }
        met.members.clone_from(members);
        Ok(())
    }
}

/// The keys of all that are remembered.
fn remembered(database: &DB) -> Result<Vec<Vec<u8>>, StartError> {
    let mut keys = Vec::new();
    for row in database.iterator_cf(family(database, META), IteratorMode::From(ACQUAINTANCES, Direction::Forward)) {
        let (key, _) = row.map_err(|error| StartError::damaged(database.path().display().to_string(), error))?;
        if !key.starts_with(ACQUAINTANCES) {
            break;
        }
        keys.push(key.into_vec());
    }
    Ok(keys)
}

fn known(database: &DB, node: u64) -> Result<Option<u64>, StartError> {
    read_meta(database, &acquaintance_key(node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opening::open_database;

    #[test]
    fn a_member_that_comes_back_with_another_directory_is_refused_until_it_was_removed() {
        let folder = tempfile::tempdir().unwrap();
        let met = Acquaintances::new(open_database(folder.path()).unwrap());
        met.meet(2, 77).unwrap();
        met.meet(2, 78).unwrap();
        met.set_members(&[1, 2].into()).unwrap();
        met.meet(2, 78).unwrap();
        assert!(met.meet(2, 79).unwrap_err().contains("rialto cluster remove 2"));
        met.set_members(&[1].into()).unwrap();
        met.meet(2, 79).unwrap();
        met.set_members(&[1, 2].into()).unwrap();
        met.meet(2, 79).unwrap();
        assert!(met.meet(2, 78).is_err());
    }

    #[test]
    fn a_member_that_was_removed_and_added_again_at_once_is_met_anew_and_a_restart_does_not_forget_it_again() {
        let folder = tempfile::tempdir().unwrap();
        let met = Acquaintances::new(open_database(folder.path()).unwrap());
        met.follow(1, &[1, 2].into()).unwrap();
        met.meet(2, 77).unwrap();
        assert!(met.meet(2, 78).is_err());
        met.follow(8, &[1].into()).unwrap();
        met.follow(9, &[1, 2].into()).unwrap();
        met.meet(2, 78).unwrap();
        met.close();
        let met = Acquaintances::new(open_database(folder.path()).unwrap());
        met.set_members(&[1, 2].into()).unwrap();
        for (index, members) in [(1, vec![1, 2]), (8, vec![1]), (9, vec![1, 2])] {
            met.follow(index, &members.into_iter().collect()).unwrap();
        }
        assert!(met.meet(2, 79).is_err());
        met.meet(2, 78).unwrap();
    }

    #[test]
    fn a_restart_remembers_the_members() {
        let folder = tempfile::tempdir().unwrap();
        let met = Acquaintances::new(open_database(folder.path()).unwrap());
        met.set_members(&[2].into()).unwrap();
        met.meet(2, 5).unwrap();
        met.close();
        let met = Acquaintances::new(open_database(folder.path()).unwrap());
        met.set_members(&[2].into()).unwrap();
        assert!(met.meet(2, 6).is_err());
        met.meet(2, 5).unwrap();
        met.close();
        let met = Acquaintances::new(open_database(folder.path()).unwrap());
        met.set_members(&[1].into()).unwrap();
        met.set_members(&[1, 2].into()).unwrap();
        met.meet(2, 6).expect("it was removed while this node did not run");
    }
}
