//! Which incarnation of each other node this one has met.
//!
//! A voter that lost its directory has forgotten what it promised: counted again, it could help to elect a leader that lacks
//! what was acknowledged. A directory has a number of its own, its incarnation (identity.rs); a node that comes back with
//! another is refused until it was removed from the cluster and added again.

use std::sync::Arc;

use parking_lot::Mutex;
use rocksdb::DB;

use crate::database::{family, read_meta, synced, write_meta};
use crate::format::{META, acquaintance_key};

/// Those met, kept in the database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Acquaintances {
    /// None where nothing is to be kept.
    database: Arc<Mutex<Option<Arc<DB>>>>,
}

impl Acquaintances {
    pub(crate) fn new(database: Arc<DB>) -> Acquaintances {
        Acquaintances { database: Arc::new(Mutex::new(Some(database))) }
    }

    /// Lets go of the database: a node that stops meets nobody any more.
    pub(crate) fn close(&self) {
        self.database.lock().take();
    }

    /// Meets `node`, a member; refuses one that is not who it was.
    pub(crate) fn meet(&self, node: u64, incarnation: u64) -> Result<(), String> {
        let database = self.database.lock();
        let Some(database) = &*database else { return Err("this node is stopping".to_owned()) };
        let key = acquaintance_key(node);
        match read_meta::<u64>(database, &key).map_err(|error| error.to_string())? {
            Some(known) if known == incarnation => Ok(()),
            Some(_) => Err(format!(
                "node {node} has another data directory than before: what it acknowledged may be lost. Remove it from the \
                 cluster and let it join again: rialto cluster remove {node}"
            )),
            None => write_meta(database, &key, &incarnation).map_err(|error| error.to_string()),
        }
    }

    /// Forgets a node that is no longer a member.
    pub(crate) fn forget(&self, node: u64) {
        if let Some(database) = &*self.database.lock() {
            let forgotten = database.delete_cf_opt(family(database, META), acquaintance_key(node), &synced());
            if let Err(error) = forgotten {
                tracing::warn!("node {node} is still remembered: {error}");
            }
        }
    }
}
