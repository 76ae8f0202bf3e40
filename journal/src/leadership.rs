//! The task that forms the cluster or joins it, follows who leads, prepares this node to lead when raft elects it, and keeps
//! raft's snapshots and log in bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use openraft::{BasicNode, ServerState};
use rocksdb::DB;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::acquaintance::Acquaintances;
use crate::cluster::{Change, ClusterConfig, ClusterStatus};
use crate::database::raise_boot;
use crate::engine_thread::Boot;
use crate::failure::Failure;
use crate::leader::Leader;
use crate::link::Link;
use crate::member::{Member, REMOVED};
use crate::message::{Reply, Request};
use crate::node::Recovery;
use crate::record::TypeConfig;
use crate::sequencer::Door;
use crate::snapshot_builder::SnapshotProgress;

/// How often raft's health is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long is waited before the others are asked again.
const ASK_INTERVAL: Duration = Duration::from_millis(200);
/// A leader that was not heard for so many election timeouts is not known any more: the others elected one long before.
const SILENCE_MAX: u32 = 10;
/// How long is waited before a new leader tries again.
const LEAD_INTERVAL: Duration = Duration::from_millis(5);
/// How often it is said that the node waits for others.
const SAY_INTERVAL: Duration = Duration::from_secs(5);

/// What it works with.
pub(crate) struct Leadership {
    pub member: Member,
    pub cluster: ClusterConfig,
    pub leader: watch::Sender<Leader>,
    pub boot: Boot,
    pub door: Arc<Door>,
    /// The number of this start, as the directory counts them.
    pub own_boot: u64,
    pub database: Option<Arc<DB>>,
    pub acquaintances: Acquaintances,
    pub applied: Arc<AtomicU64>,
    pub snapshots: Arc<SnapshotProgress>,
    pub snapshot_every_commands: u64,
    pub announce: watch::Sender<Option<Recovery>>,
    /// What is known of the recovery before the log is applied.
    pub recovery: Recovery,
    pub failure: Failure,
}

type Metrics = RaftServerMetrics<TypeConfig>;

impl Leadership {
    pub(crate) async fn run(self) {
        let started = Instant::now();
        let failure = self.failure.clone();
        let follow = async {
            match self.belong().await {
                Ok(()) => self.follow(started).await,
                Err(reason) => self.failure.report(reason),
            }
        };
        tokio::select! {
            biased;
            _ = failure.wait() => {}
            reason = self.end_of_raft() => failure.report(reason),
            () = self.keep() => {}
            () = follow => {}
        }
    }

    /// Waits until raft has ended, by an error or a panic; why it has. A node that stops in order ends this task before raft.
    async fn end_of_raft(&self) -> String {
        let mut metrics = self.member.leads.raft.server_metrics();
        while metrics.changed().await.is_ok() {}
        match &self.member.metrics().running_state {
            Err(fatal) => format!("raft cannot go on: {fatal}"),
            Ok(()) => "raft cannot go on: it panicked".to_owned(),
        }
    }

    // Belonging to a cluster.

    /// Makes this node a member, if it is none yet.
    async fn belong(&self) -> Result<(), String> {
        let raft = self.member.leads.raft.clone();
        let text = |error: &dyn std::fmt::Display| error.to_string();
        if raft.is_initialized().await.map_err(|error| text(&error))? {
            if self.is_alone() {
                raft.trigger().elect(false).await.map_err(|error| text(&error))?;
            }
            return Ok(());
        }
        if let Some(address) = self.cluster.join.clone() {
            return self.join(&address).await;
        }
        if self.is_to_form().await? {
            let node = |(node, address): (&u64, &String)| (*node, BasicNode::new(address));
            let members: BTreeMap<u64, BasicNode> = self.cluster.members.iter().map(node).collect();
            raft.initialize(members).await.map_err(|error| text(&error))?;
        }
        Ok(())
    }

    fn is_alone(&self) -> bool {
        let metrics = self.member.metrics();
        let membership = metrics.membership_config.membership();
        membership.voter_ids().eq([self.member.node])
    }

    /// Waits until the cluster is there, or can be formed: by the first of its nodes, once all are there. One that is missing
    /// might hold a log. Whether this node is to form it now.
    async fn is_to_form(&self) -> Result<bool, String> {
        let own = self.cluster.node;
        let is_first = self.cluster.members.keys().next() == Some(&own);
        let others: Vec<_> = self.cluster.members.iter().filter(|(node, _)| **node != own).collect();
        let mut said_at: Option<Instant> = None;
        loop {
            let mut missing = None;
            for (node, address) in &others {
                match ask_status(&self.member.leads.network.link(**node, address)).await {
                    Ok(status) if status.members.is_empty() => {}
                    Ok(status) if status.members.iter().any(|member| member.node == own) => return Ok(false),
                    Ok(_) => {
                        return Err(format!(
                            "the cluster of node {node} at {address} has no node {own}. A node joins it with --join {address}, \
                             and --cluster that lists the node itself alone"
                        ));
                    }
                    Err(reason) => missing = Some(reason),
                }
            }
            // The first has done so, and its entry came.
            if self.member.leads.raft.is_initialized().await.map_err(|error| error.to_string())? {
                return Ok(false);
            }
            if missing.is_none() && is_first {
                return Ok(true);
            }
            if let Some(reason) = missing.filter(|_| said_at.is_none_or(|at| at.elapsed() > SAY_INTERVAL)) {
                said_at = Some(Instant::now());
                tracing::info!("the cluster is formed once all of its nodes are there: {reason}");
            }
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    }

    /// Has the leader add this node, which finds it through the node at `address`.
    async fn join(&self, address: &str) -> Result<(), String> {
        let own = &self.cluster.members[&self.cluster.node];
        let mut said_at: Option<Instant> = None;
        loop {
            let reason = match self.ask_to_join(address, own).await {
                Ok(()) => return Ok(()),
                Err(reason) => reason,
            };
            if said_at.is_none_or(|at| at.elapsed() > SAY_INTERVAL) {
                said_at = Some(Instant::now());
                tracing::warn!("the cluster at {address} was not joined yet: {reason}");
            }
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    }

    async fn ask_to_join(&self, address: &str, own: &str) -> Result<(), String> {
        let network = &self.member.leads.network;
        let status = ask_status(&network.link(0, address)).await?;
        let node = self.cluster.node;
        match status.members.iter().find(|member| member.node == node) {
            Some(member) if member.address == own => return Ok(()),
            Some(member) => return Err(format!("its node {node} is at {}", member.address)),
            None => {}
        }
        let leader = status.members.iter().find(|member| Some(member.node) == status.leader);
        let leader = leader.ok_or("it has no leader now")?;
        let change = Change::AddLearner(node, own.to_owned());
        network.link(leader.node, &leader.address).call(&Request::Change(change)).await.map(|_| ())
    }

    // Following the leader.

    /// Follows who leads, and leads when it is this node's turn.
    async fn follow(&self, started: Instant) {
        let mut metrics = self.member.leads.raft.server_metrics();
        let mut recovered = false;
        let mut wants_vote = self.cluster.join_as_voter;
        let mut led = None;
        loop {
            let now = metrics.borrow_and_update().clone();
            let seen = self.seen(&now);
            let leads_still = seen.is_this() && led == Some(seen);
            if !leads_still {
                self.member.leads.proposer.close().await;
                led = None;
            }
            let ready = match seen {
                Leader::This { .. } if leads_still => Ok(()),
                Leader::This { .. } => {
                    self.leader.send_replace(Leader::Unknown);
                    tokio::select! {
                        biased;
                        _ = changes(&mut metrics, &now) => continue,
                        led = self.lead() => led,
                    }
                }
                Leader::Peer { .. } | Leader::Unknown => Ok(()),
            };
            match ready {
                Ok(()) if seen.is_this() => led = Some(seen),
                Ok(()) => {}
                Err(reason) => {
                    tracing::warn!("this node cannot lead yet: {reason}");
                    tokio::time::sleep(ASK_INTERVAL).await;
                    continue;
                }
            }
            if !recovered && seen.is_known() {
                match self.recover(seen, started).await {
                    Ok(recovery) => {
                        recovered = true;
                        self.tell(seen);
                        self.door.open();
                        self.announce.send_replace(Some(recovery));
                    }
                    Err(reason) => {
                        tracing::info!("not caught up yet: {reason}");
                        tokio::time::sleep(ASK_INTERVAL).await;
                        continue;
                    }
                }
            }
            self.tell(seen);
            if seen.is_this() {
                let own = self.cluster.members.get(&self.cluster.node).map_or("", String::as_str);
                if let Err(reason) = self.member.announce(own).await {
                    tracing::warn!("the others have another address of this node: {reason}");
                }
            }
            if wants_vote && recovered {
                wants_vote = !self.ask_for_vote(&now).await;
            }
            tokio::select! {
                biased;
                Ok(()) = metrics.changed() => {}
                () = self.member.leads.proposer.failed() => led = None,
                // One that leads is not heard.
                () = tokio::time::sleep(ASK_INTERVAL), if wants_vote || !seen.is_this() => {}
            }
        }
    }

    fn seen(&self, metrics: &Metrics) -> Leader {
        let term = metrics.vote.leader_id.term;
        match metrics.current_leader {
            Some(node) if node == self.member.node && metrics.state == ServerState::Leader => Leader::This { term },
            Some(node) if node != self.member.node && self.hears(node, term) => Leader::Peer { node, term },
            _ => Leader::Unknown,
        }
    }

    fn hears(&self, node: u64, term: u64) -> bool {
        self.member.contact.is_fresh(term, node, self.cluster.election_timeout.saturating_mul(SILENCE_MAX))
    }

    /// Makes known who leads.
    fn tell(&self, seen: Leader) {
        if self.leader.send_if_modified(|known| std::mem::replace(known, seen) != seen) {
            match seen {
                Leader::This { term } => tracing::info!("this node leads in term {term}"),
                Leader::Peer { node, term } => tracing::info!("node {node} leads in term {term}"),
                Leader::Unknown => tracing::info!("this node hears no leader"),
            }
        }
    }

    /// Applies the whole log, and then takes entries.
    async fn lead(&self) -> Result<(), String> {
        // Once this entry is applied, so are all before it, and no other node adds to the log in this term. Raft takes it as
        // soon as a majority has acknowledged the new leader.
        while let Err(error) = self.member.leads.raft.write_blank().await {
            tracing::debug!("this node cannot lead yet: {error}");
            tokio::time::sleep(LEAD_INTERVAL).await;
        }
        let reached = self.member.reached().await?;
        self.member.leads.proposer.open(reached.time, reached.origins).await;
        Ok(())
    }

    /// Catches up with what was acknowledged before this start.
    async fn recover(&self, leader: Leader, started: Instant) -> Result<Recovery, String> {
        self.member.catch_up(leader).await?;
        let reached = self.member.reached().await?;
        // Greater than that of every start whose entries are in the log, also where the directory is a new one.
        let boot = self.own_boot.max(reached.origins.last_boot(self.member.node) + 1);
        if let Some(database) = self.database.as_ref().filter(|_| boot > self.own_boot) {
            raise_boot(database, boot).map_err(|error| error.to_string())?;
        }
        self.boot.store(boot, Ordering::Release);
        let replaying = started.elapsed();
        Ok(Recovery { reached: reached.sequence, replaying, ..self.recovery })
    }

    /// Asks the leader for a vote for this node, which joined to have one; whether it has it now.
    async fn ask_for_vote(&self, metrics: &Metrics) -> bool {
        let node = self.member.node;
        if metrics.membership_config.membership().voter_ids().any(|voter| voter == node) {
            return true;
        }
        let Leader::Peer { node: leader, .. } = *self.leader.borrow() else { return false };
        let Some(address) = self.member.leads.address(leader) else { return false };
        let asked = self.member.leads.network.link(leader, &address).call(&Request::Change(Change::Promote(node)));
        if let Err(reason) = asked.await {
            tracing::info!("no vote yet: {reason}");
        }
        false
    }

    // Keeping raft in bounds.

    /// Looks after raft for as long as it runs; the log is purged as snapshots make it unneeded.
    async fn keep(&self) {
        let raft = &self.member.leads.raft;
        let mut log_needed_after = self.snapshots.log_needed_after.subscribe();
        // Raft's metrics change with every entry; looking now and then costs nothing.
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        // The command at which a snapshot was last asked for.
        let mut asked_at = 0;
        let mut members = BTreeSet::new();
        loop {
            tokio::select! {
                biased;
                _ = look.tick() => {
                    self.look(&mut members);
                    let applied = self.applied.load(Ordering::Relaxed);
                    let last = asked_at.max(self.snapshots.sequence.load(Ordering::Relaxed));
                    if applied.saturating_sub(last) >= self.snapshot_every_commands {
                        asked_at = applied;
                        // An error is raft's end, which `end_of_raft` finds.
                        let _ = raft.trigger().snapshot().await;
                    }
                }
                _ = log_needed_after.changed() => {
                    let upto = *log_needed_after.borrow_and_update();
                    if let Some(upto) = upto {
                        // An error is raft's end, which `end_of_raft` finds.
                        let _ = raft.trigger().purge_log(upto).await;
                    }
                }
            }
        }
    }

    fn look(&self, members: &mut BTreeSet<u64>) {
        let metrics = self.member.metrics();
        let committed = metrics.committed_membership_config.membership();
        let now: BTreeSet<u64> = committed.nodes().map(|(node, _)| *node).collect();
        // One that is a member again is another: what was wrong with its old directory is not wrong with the new one.
        self.acquaintances.take_removed().into_iter().for_each(|gone| self.member.standings.forget(gone));
        if now == *members {
            return;
        }
        if let Err(error) = self.acquaintances.set_members(&now) {
            self.failure.report(format!("the members of the cluster cannot be remembered: {error}"));
        }
        if members.contains(&self.member.node) && !now.contains(&self.member.node) {
            self.failure.report(REMOVED);
        }
        members.difference(&now).for_each(|gone| self.member.standings.forget(*gone));
        *members = now;
    }
}

async fn ask_status(link: &Link) -> Result<ClusterStatus, String> {
    match link.call(&Request::Status).await? {
        Reply::Status(status) => Ok(*status),
        _ => Err("the reply is to another question".to_owned()),
    }
}

/// Resolves when what raft says of the leader is no longer what it was; never once raft has ended.
async fn changes(metrics: &mut WatchReceiverOf<TypeConfig, Metrics>, was: &Metrics) {
    while metrics.changed().await.is_ok() {
        let now = metrics.borrow_and_update();
        if now.vote != was.vote || now.state != was.state || now.current_leader != was.current_leader {
            return;
        }
    }
    std::future::pending().await
}
