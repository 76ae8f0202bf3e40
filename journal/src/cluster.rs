//! What a cluster is made of, and what is told of its members.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The most nodes that one cluster may have, learners included.
pub const NODES_MAX: usize = 64;

/// How a node finds the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Which of them this node is.
    pub node: u64,
    /// The nodes that form the cluster when it starts for the first time, and where each listens for the others: host and
    /// port. A node that joins later lists itself alone.
    pub members: BTreeMap<u64, String>,
    /// Any node of a running cluster that this one is to join, if it belongs to none yet.
    pub join: Option<String>,
    /// Whether it is to vote as soon as it has caught up, when it joins.
    pub join_as_voter: bool,
    /// What all nodes know and others do not: each proves it when it connects. Empty means that nothing is asked.
    pub secret: String,
    /// Certificates for encrypted connections; none for plain ones.
    pub tls: Option<TlsFiles>,
    /// When the leader stops in order, that of the highest priority takes over among the nodes that are equally far.
    pub priority: u8,
    /// How often the leader says that it is there.
    pub heartbeat: Duration,
    /// A follower that heard nothing from the leader for three to four times as long stands for election: two for the
    /// leader's lease, and one to two by lot.
    pub election_timeout: Duration,
}

/// Where the keys of mutual TLS are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authority that signed every node's certificate.
    pub authority: PathBuf,
    /// This node's certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl ClusterConfig {
    /// The defaults, for `node` among `members`.
    pub fn new(node: u64, members: BTreeMap<u64, String>) -> ClusterConfig {
        ClusterConfig {
            node,
            members,
            join: None,
            join_as_voter: false,
            secret: String::new(),
            tls: None,
            priority: 0,
            heartbeat: Duration::from_millis(50),
            election_timeout: Duration::from_millis(100),
        }
    }

    /// Whether it makes sense; what does not, otherwise.
    pub fn check(&self) -> Result<(), String> {
        if self.node == 0 {
            return Err("a node's number must be at least 1".to_owned());
        }
        if !self.members.contains_key(&self.node) {
            return Err(format!("node {} is not among the nodes of the cluster", self.node));
        }
        if self.members.len() > NODES_MAX {
            return Err(format!("a cluster may have {NODES_MAX} nodes"));
        }
        if self.election_timeout < self.heartbeat * 2 {
            return Err("the election timeout must be at least two heartbeats".to_owned());
        }
        Ok(())
    }
}

/// What a node is in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It orders the commands.
    Leader,
    /// It votes, and follows.
    Follower,
    /// It follows without a vote.
    Learner,
    /// It does not answer.
    Unreachable,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Learner => "learner",
            Role::Unreachable => "unreachable",
        })
    }
}

/// A node as it was last heard of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its number.
    pub node: u64,
    /// Where it listens for the others.
    pub address: String,
    /// What it is.
    pub role: Role,
    /// Whether it has a vote.
    pub voter: bool,
    /// The last command it has applied.
    pub applied_sequence: u64,
    /// The log entry of that command.
    pub applied_index: u64,
    /// The last log entry that is durable there.
    pub log_index: u64,
    /// A hash of all that it has done up to a log entry.
    pub state_hash: HashAt,
    /// What is wrong with it, if anything is known to be.
    pub trouble: Option<String>,
    /// The version of its program.
    pub version: String,
}

/// What is said of a member whose state is not that of a majority.
pub(crate) const DIFFERS: &str = "its state differs";

impl MemberStatus {
    /// Whether its state is known to differ from that of a majority.
    pub fn differs(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.starts_with(DIFFERS))
    }
}

/// A state's hash at a log entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashAt {
    /// The log entry.
    pub index: u64,
    /// In hexadecimal.
    pub value: String,
}

/// The cluster as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The node that was asked.
    pub asked: u64,
    /// Its term.
    pub term: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<u64>,
    /// All members, by number.
    pub members: Vec<MemberStatus>,
}

/// What an operator asks of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A node that follows without a vote, and where it listens.
    AddLearner(u64, String),
    /// A learner gets a vote.
    Promote(u64),
    /// A node is no longer a member.
    Remove(u64),
    /// A voter is to lead.
    TransferLeader(u64),
}

impl Change {
    /// Whether it is so already.
    pub(crate) fn is_made(&self, status: &ClusterStatus) -> bool {
        let find = |node: &u64| status.members.iter().find(|member| member.node == *node);
        match self {
            Change::AddLearner(node, address) => find(node).is_some_and(|member| member.address == *address),
            Change::Promote(node) => find(node).is_some_and(|member| member.voter),
            Change::Remove(node) => find(node).is_none(),
            Change::TransferLeader(node) => status.leader == Some(*node),
        }
    }
}

/// What a node says that is asked for a change and does not lead, or no longer.
pub(crate) const NOT_LEADING: &str = "this node does not lead";
