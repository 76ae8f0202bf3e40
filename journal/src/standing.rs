//! How each node of the cluster stands, as it says itself: nodes tell each other several times a second.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::state_hash::Checkpoint;

/// A node that was not heard of for so long is called unreachable.
const FRESH_MAX: Duration = Duration::from_secs(1);

/// How one node stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub node: u64,
    pub term: u64,
    /// Who it thinks leads.
    pub leader: Option<u64>,
    pub applied_sequence: u64,
    pub applied_index: u64,
    /// The last log entry that is durable there.
    pub log_index: u64,
    /// Its state's hashes at the last few log entries at which all nodes take one.
    pub hashes: Vec<Checkpoint>,
    /// Whether its disk has little room left.
    pub is_space_low: bool,
    /// What is wrong with it, if it knows.
    pub trouble: Option<String>,
    /// Its priority to lead.
    pub priority: u8,
    /// The version of its program.
    pub version: String,
}

/// What was last heard of each other node.
#[derive(Default)]
pub(crate) struct Standings {
    by_node: Mutex<BTreeMap<u64, Heard>>,
    /// Those whose state differs from that of a majority, each with the log entry where it was first seen.
    odd: Mutex<BTreeMap<u64, u64>>,
}

/// What was heard, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// The last word, however old.
    pub last: Option<Standing>,
    at: Option<Instant>,
    /// Why it could not be reached since.
    pub trouble: Option<String>,
}

impl Heard {
    /// Why nothing is heard of it now, if that is so.
    pub(crate) fn silence(&self) -> Option<String> {
        match self.at.map(|at| at.elapsed()) {
            Some(since) if since <= FRESH_MAX => None,
            _ if self.trouble.is_some() => self.trouble.clone(),
            Some(since) => Some(format!("nothing was heard of it for {:.1} s", since.as_secs_f32())),
            None => Some("nothing was heard of it yet".to_owned()),
        }
    }

    /// What it said, if that is not long ago.
    pub(crate) fn fresh(&self) -> Option<&Standing> {
        self.last.as_ref().filter(|_| self.at.is_some_and(|at| at.elapsed() <= FRESH_MAX))
    }
}

impl Standings {
    /// A node said how it stands.
    pub(crate) fn heard(&self, standing: Standing) {
        let node = standing.node;
        let heard = Heard { last: Some(standing), at: Some(Instant::now()), trouble: None };
        self.by_node.lock().insert(node, heard);
    }

    /// A node could not be reached.
    pub(crate) fn silent(&self, node: u64, trouble: String) {
        self.by_node.lock().entry(node).or_default().trouble = Some(trouble);
    }

    /// What was heard of a node.
    pub(crate) fn of(&self, node: u64) -> Heard {
        self.by_node.lock().get(&node).cloned().unwrap_or_default()
    }

    /// The state of these nodes differs from that of a majority, at these log entries. One that was fenced says so no more, so
    /// what was seen stays until another directory is in its place.
    pub(crate) fn set_odd(&self, odd: BTreeMap<u64, u64>) {
        let mut known = self.odd.lock();
        for (node, index) in odd {
            if known.insert(node, index).is_none() {
                tracing::error!("the state of node {node} differs from that of a majority at log entry {index}");
            }
        }
    }

    /// Where the state of a node was first seen to differ.
    pub(crate) fn odd(&self, node: u64) -> Option<u64> {
        self.odd.lock().get(&node).copied()
    }

    /// A node is no member any more: what is known of it is forgotten.
    pub(crate) fn forget(&self, node: u64) {
        self.by_node.lock().remove(&node);
        self.odd.lock().remove(&node);
    }

    /// Of all that were heard of not long ago.
    pub(crate) fn fresh(&self) -> Vec<Standing> {
        self.by_node.lock().values().filter_map(|heard| heard.fresh().cloned()).collect()
    }
}
