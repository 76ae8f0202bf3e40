//! This node as a member of its cluster: what it says of itself and of the others, and what it does for operators.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engine::Sequence;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::ReadPolicy;
use openraft::{BasicNode, ChangeMembers, RaftMetrics, ServerState};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::cluster::{Change, ClusterStatus, DIFFERS, HashAt, MemberStatus, NODES_MAX, NOT_LEADING, Role};
use crate::engine_thread::{Job, Reached};
use crate::failure::Failure;
use crate::fence::Fence;
use crate::leader::{Contact, Leader, Leads};
use crate::link::REPLY_MAX;
use crate::log_store::{LogCounters, hand_over};
use crate::message::{Reply, Request};
use crate::queue::Sender;
use crate::record::TypeConfig;
use crate::space::Space;
use crate::standing::{Standing, Standings};
use crate::state_hash::{Checkpoint, StateHash, Verdict, odd_one};

/// How long a change of members may take.
const CHANGE_MAX: Duration = Duration::from_secs(10);
/// How many hashes of its state a node tells the others at once.
const HASHES_TOLD: usize = 16;
/// How far behind a node may be, in log entries, to be given a vote or the lead.
const BEHIND_MAX: u64 = 1_000;
/// How long is waited before a leader that could not say how far a read must see is asked again.
const READ_REST: Duration = Duration::from_millis(20);
/// How often it is looked who leads after a hand-over.
const LEADER_INTERVAL: Duration = Duration::from_millis(5);
/// How often it is looked whether this node has applied what it waits for.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(1);

/// What a node is told, and then says, that is no member any more.
pub(crate) const REMOVED: &str = "this node was removed from the cluster";

/// What this program calls itself.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A node in its cluster. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Member {
    pub node: u64,
    pub priority: u8,
    pub leads: Leads,
    pub leader: watch::Receiver<Leader>,
    pub contact: Contact,
    pub jobs: Sender<Job>,
    pub applied: Arc<AtomicU64>,
    pub log_counters: Arc<LogCounters>,
    pub space: Space,
    pub standings: Arc<Standings>,
    pub hash: Arc<Mutex<StateHash>>,
    pub fence: Fence,
    pub failure: Failure,
}

/// Why a change was not made, in words that [`ClusterClient`](crate::ClusterClient) knows.
fn refusal(error: &RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> String {
    if error.forward_to_leader().is_some() { NOT_LEADING.to_owned() } else { error.to_string() }
}

impl Member {
    pub(crate) fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.leads.raft.metrics().borrow_watched().clone()
    }

    /// How this node stands.
    pub(crate) fn standing(&self) -> Standing {
        let metrics = self.metrics();
        Standing {
            node: self.node,
            term: metrics.current_term,
            leader: metrics.current_leader,
            applied_sequence: self.applied.load(Ordering::Acquire),
            applied_index: metrics.last_applied.map_or(0, |log_id| log_id.index),
            log_index: self.log_counters.last_index.load(Ordering::Relaxed),
            hashes: self.hash.lock().last(HASHES_TOLD),
            is_space_low: self.space.status().1,
            trouble: self.failure.reason(),
            priority: self.priority,
            version: VERSION.to_owned(),
        }
    }

    /// The cluster as this node sees it.
    pub(crate) fn status(&self) -> ClusterStatus {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let own = self.standing();
        let member = |node: u64, address: &BasicNode| {
            let heard = self.standings.of(node);
            let standing = if node == self.node { Some(&own) } else { heard.last.as_ref() };
            let is_fresh = node == self.node || heard.fresh().is_some();
            let voter = voters.contains(&node);
            let role = match (is_fresh, voter) {
                (false, _) => Role::Unreachable,
                _ if metrics.current_leader == Some(node) => Role::Leader,
                (true, true) => Role::Follower,
                (true, false) => Role::Learner,
            };
            let trouble = standing.and_then(|standing| standing.trouble.clone());
            let trouble = trouble.or_else(|| heard.silence().filter(|_| !is_fresh));
            let differs = self.standings.odd(node).map(|index| format!("{DIFFERS} at log entry {index}"));
            let trouble = differs.or(trouble);
            let low = standing.is_some_and(|standing| standing.is_space_low);
            let hash = standing.and_then(|standing| standing.hashes.last().copied());
            MemberStatus {
                node,
                address: address.addr.clone(),
                role,
                voter,
                applied_sequence: standing.map_or(0, |standing| standing.applied_sequence),
                applied_index: standing.map_or(0, |standing| standing.applied_index),
                log_index: standing.map_or(0, |standing| standing.log_index),
                state_hash: hash.map_or_else(HashAt::default, |hash| HashAt {
                    index: hash.index,
                    value: format!("{:016x}", hash.value),
                }),
                trouble: trouble.or_else(|| low.then(|| "its disk has little room left".to_owned())),
                version: standing.map_or_else(String::new, |standing| standing.version.clone()),
            }
        };
        ClusterStatus {
            asked: self.node,
            term: metrics.current_term,
            leader: metrics.current_leader,
            members: membership.nodes().map(|(node, address)| member(*node, address)).collect(),
        }
    }

    /// Compares what this node's state did with what the others' did; a node that differs from a majority serves no more.
    pub(crate) fn compare(&self) {
        let metrics = self.metrics();
        let voters = metrics.membership_config.membership().voter_ids();
        let told =
            |node: u64| self.standings.of(node).fresh().map_or_else(Vec::new, |standing| standing.hashes.clone());
        let peers: BTreeMap<u64, Vec<Checkpoint>> =
            voters.filter(|node| *node != self.node).map(|node| (node, told(node))).collect();
        let verdict = odd_one(&self.hash.lock(), &peers);
        match verdict {
            Verdict::Unknown => {}
            Verdict::Agrees { odd } => self.standings.set_odd(odd),
            Verdict::Fenced { index, .. } => {
                let reason = format!(
                    "what this node did with the log up to entry {index} differs from what a majority did: its memory or its \
                     program is at fault. It serves no more. Have it rebuilt from the others: rialto cluster rebuild {}",
                    self.node
                );
                if let Err(error) = self.fence.set(&reason) {
                    tracing::error!("the mark of the fence cannot be written: {error}");
                }
                self.failure.report(reason);
            }
        }
    }

    /// Whether this node is a member, as far as it knows.
    pub(crate) fn is_member(&self) -> bool {
        self.metrics().committed_membership_config.membership().get_node(&self.node).is_some()
    }

    /// Whether the node that stands so was removed. It may never see the entry that says so: raft sends it nothing from then on.
    /// Only a leader has all such entries, and not once the node knows a later one.
    pub(crate) fn has_removed(&self, standing: &Standing) -> bool {
        let metrics = self.metrics();
        let now = [&metrics.committed_membership_config, &metrics.membership_config];
        self.leader.borrow().is_this()
            && standing.term <= metrics.current_term
            && now.iter().all(|config| config.membership().get_node(&standing.node).is_none())
    }

    /// How far the engine is, once it has done all that raft has handed to it.
    pub(crate) async fn reached(&self) -> Result<Reached, String> {
        let (reply, reached) = oneshot::channel();
        let told = hand_over(&self.jobs, Job::Tell(reply)).await;
        told.map_err(|_| "the engine thread has ended".to_owned())?;
        reached.await.map_err(|_| "the engine thread has ended".to_owned())
    }

    /// The last command that a read which begins now must see. Only a leader that a majority still follows knows it.
    pub(crate) async fn read_index(&self, leader: Leader) -> Result<Sequence, String> {
        #[cfg(test)]
        if crate::simulation::has_bug(crate::simulation::Bug::StaleRead) {
            return Ok(Sequence(self.applied.load(Ordering::Acquire)));
        }
        match leader {
            Leader::Unknown => Err("this node knows no leader".to_owned()),
            Leader::This { .. } => self.read_index_here().await,
            Leader::Peer { node, .. } => {
                let address = self.leads.address(node).ok_or("the leader is no member")?;
                match self.leads.network.link(node, &address).call(&Request::ReadIndex).await? {
                    Reply::ReadIndex(sequence) => Ok(Sequence(sequence)),
                    _ => Err("the reply is to another question".to_owned()),
                }
            }
        }
    }

    /// The same, on the leader.
    pub(crate) async fn read_index_here(&self) -> Result<Sequence, String> {
        let ensured = self.leads.raft.ensure_linearizable(ReadPolicy::ReadIndex).await;
        ensured.map_err(|error| error.to_string())?;
        self.reached().await.map(|reached| reached.sequence)
    }

    /// The same, from whoever leads meanwhile: a leader that is gone does not answer, the next one does. None when that cannot be
    /// known soon.
    pub(crate) async fn read_index_soon(&self) -> Option<Sequence> {
        let mut leader = self.leader.clone();
        let reading = async {
            loop {
                let asked = *leader.borrow_and_update();
                tokio::select! {
                    biased;
                    changed = leader.changed() => changed.ok()?,
                    read = self.read_index(asked) => match read {
                        Ok(sequence) => return Some(sequence),
                        Err(_) => tokio::time::sleep(READ_REST).await,
                    },
                }
            }
        };
        tokio::time::timeout(REPLY_MAX, reading).await.ok()?
    }

    /// Waits until this node has applied everything that was acknowledged before.
    pub(crate) async fn catch_up(&self, leader: Leader) -> Result<Sequence, String> {
        let wanted = self.read_index(leader).await?;
        while self.applied.load(Ordering::Acquire) < wanted.0 {
            if let Some(reason) = self.failure.reason() {
                return Err(reason);
            }
            tokio::time::sleep(CATCH_UP_INTERVAL).await;
        }
        Ok(wanted)
    }

    /// Does what an operator asks; only the leader can.
    pub(crate) async fn change(&self, change: Change) -> Result<(), String> {
        if !self.leader.borrow().is_this() {
            return Err(NOT_LEADING.to_owned());
        }
        match tokio::time::timeout(CHANGE_MAX, self.change_now(change)).await {
            Ok(changed) => changed,
            Err(_) => Err("it takes too long: what became of it, the status says".to_owned()),
        }
    }

    async fn change_now(&self, change: Change) -> Result<(), String> {
        let raft = &self.leads.raft;
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership().clone();
        let is_voter = |node: u64| membership.voter_ids().any(|voter| voter == node);
        let known = |node: u64| membership.get_node(&node).is_some();
        match change {
            Change::AddLearner(node, address) => {
                if known(node) {
                    return Err(format!("node {node} is a member already"));
                }
                if node == 0 || membership.nodes().count() >= NODES_MAX {
                    return Err(format!("a cluster has at most {NODES_MAX} nodes, numbered from 1"));
                }
                let added = raft.add_learner(node, BasicNode::new(address), false).await;
                added.map(|_| ()).map_err(|error| refusal(&error))
            }
            Change::Promote(node) if is_voter(node) => Err(format!("node {node} has a vote already")),
            Change::Promote(node) if known(node) => {
                self.keeps_up(node)?;
                self.set_members(ChangeMembers::AddVoterIds(BTreeSet::from([node]))).await
            }
            Change::Remove(node) if known(node) => {
                if is_voter(node) && membership.voter_ids().count() == 1 {
                    return Err("the last voter cannot be removed".to_owned());
                }
                if is_voter(node) {
                    self.set_members(ChangeMembers::RemoveVoters(BTreeSet::from([node]))).await?;
                }
                self.set_members(ChangeMembers::RemoveNodes(BTreeSet::from([node]))).await
            }
            // It leads: only the leader is here.
            Change::TransferLeader(node) if node == self.node => Ok(()),
            Change::TransferLeader(node) if is_voter(node) => {
                self.keeps_up(node)?;
                if !self.hand_over_to(node).await {
                    return Err(format!("node {node} did not take the lead"));
                }
                match self.leader_after(metrics.current_term).await {
                    leader if leader == node => Ok(()),
                    leader => Err(format!("node {node} did not take the lead; node {leader} leads now")),
                }
            }
            Change::TransferLeader(node) if known(node) => Err(format!("node {node} has no vote")),
            Change::Promote(node) | Change::Remove(node) | Change::TransferLeader(node) => {
                Err(format!("node {node} is no member"))
            }
        }
    }

    /// Refuses a node that does not answer or is too far behind.
    fn keeps_up(&self, node: u64) -> Result<(), String> {
        let heard = self.standings.of(node);
        let standing = heard.fresh().ok_or_else(|| format!("node {node} cannot be reached"))?;
        let behind = self.log_counters.last_index.load(Ordering::Relaxed).saturating_sub(standing.applied_index);
        if behind > BEHIND_MAX {
            return Err(format!("node {node} is {behind} log entries behind; {BEHIND_MAX} are the most"));
        }
        Ok(())
    }

    /// Waits until somebody leads in a term after this one.
    async fn leader_after(&self, term: u64) -> u64 {
        loop {
            let metrics = self.metrics();
            if let Some(leader) = metrics.current_leader.filter(|_| metrics.current_term > term) {
                return leader;
            }
            tokio::time::sleep(LEADER_INTERVAL).await;
        }
    }

    async fn set_members(&self, change: ChangeMembers<u64, BasicNode>) -> Result<(), String> {
        let changed = self.leads.raft.change_membership(change, false).await;
        changed.map(|_| ()).map_err(|error| refusal(&error))
    }

    /// Says where this node listens, if the others have another address of it.
    pub(crate) async fn announce(&self, address: &str) -> Result<(), String> {
        if self.leads.address(self.node).is_none_or(|known| known == address) {
            return Ok(());
        }
        let nodes = [(self.node, BasicNode::new(address))].into();
        self.set_members(ChangeMembers::SetNodes(nodes)).await
    }

    /// Lets another voter lead; whether it does. Nothing is proposed meanwhile, so nothing can fall between the two.
    pub(crate) async fn hand_over_to(&self, node: u64) -> bool {
        if node == self.node {
            return self.leader.borrow().is_this();
        }
        self.leads.proposer.close().await;
        let mut leader = self.leader.clone();
        let ended = async {
            if self.leads.raft.trigger().transfer_leader(node).await.is_err() {
                return false;
            }
            loop {
                if self.metrics().state != ServerState::Leader {
                    return true;
                }
                // With nobody left who says who leads, this node has failed, and would be asked again without a pause.
                if let Ok(Err(_)) = tokio::time::timeout(Duration::from_millis(5), leader.changed()).await {
                    return false;
                }
            }
        };
        let handed = tokio::time::timeout(Duration::from_secs(1), ended).await.unwrap_or(false);
        if !handed {
            // It leads on: what is in the log is looked at again before anything is proposed.
            self.leads.proposer.look_again();
        }
        handed
    }

    /// The voter that is to lead when this node goes: the one that is furthest, and among equals that of the highest priority.
    pub(crate) fn successor(&self) -> Option<u64> {
        let metrics = self.metrics();
        let voters: BTreeSet<u64> = metrics.membership_config.membership().voter_ids().collect();
        let fresh = self.standings.fresh().into_iter();
        let able = fresh.filter(|standing| voters.contains(&standing.node) && standing.trouble.is_none());
        able.max_by_key(|standing| (standing.log_index, standing.priority)).map(|standing| standing.node)
    }
}
