//! Who leads, as far as this node knows, and the way there.

use std::sync::Arc;
use std::time::Duration;

use engine::{Command, Time};
use futures_util::future::BoxFuture;
use openraft::Raft;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::message::{Reply, Request};
use crate::network::Network;
use crate::nodes::Nodes;
use crate::proposer::Proposer;
use crate::record::{Origin, TypeConfig};
use crate::runtime;
use crate::state_machine::StateMachine;

/// Who leads. The term tells one time of leading from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leader {
    /// Nobody, as far as is known, or a node that is not ready yet.
    Unknown,
    /// This node, which has applied its whole log.
    This { term: u64 },
    /// Another.
    Peer { node: u64, term: u64 },
}

impl Leader {
    pub(crate) fn is_known(&self) -> bool {
        *self != Leader::Unknown
    }

    pub(crate) fn is_this(&self) -> bool {
        matches!(self, Leader::This { .. })
    }
}

/// When a leader was last heard: raft goes on naming one that is gone until another is elected, and one that removed this node for
/// ever. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Contact {
    /// Its term and number, and when.
    last: Arc<Mutex<Option<(u64, u64, Instant)>>>,
}

impl Contact {
    /// The leader `node` of `term` sent entries, or that it is there.
    pub(crate) fn heard(&self, term: u64, node: u64) {
        let mut last = self.last.lock();
        // One that does not know yet that it leads no longer does not count.
        if last.is_none_or(|(known, ..)| known <= term) {
            *last = Some((term, node, Instant::now()));
        }
    }

    /// Whether it was heard in the last `most`.
    pub(crate) fn is_fresh(&self, term: u64, node: u64, most: Duration) -> bool {
        self.last.lock().is_some_and(|(of, from, at)| (of, from) == (term, node) && at.elapsed() <= most)
    }
}

/// The way to the leader. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Leads {
    pub raft: Raft<TypeConfig, StateMachine>,
    pub proposer: Arc<Proposer>,
    pub network: Network,
}

impl Leads {
    /// What the clock of a leader here would stamp.
    pub(crate) fn now(&self) -> Time {
        self.proposer.clock().stamp()
    }

    /// Sends an entry to the leader, in the order of the calls. The future tells whether the leader has applied it; if not, it
    /// may be in the log all the same.
    pub(crate) async fn send(
        &self,
        leader: Leader,
        origin: Origin,
        commands: Vec<Command>,
    ) -> BoxFuture<'static, bool> {
        match leader {
            Leader::This { .. } => match self.proposer.propose(origin, commands).await {
                Ok(applied) => Box::pin(applied),
                Err(_) => Box::pin(async { false }),
            },
            Leader::Peer { node, .. } => match self.address(node) {
                Some(address) => {
                    let commands = commands.into();
                    let reply = self.network.link(node, &address).call(&Request::Forward { origin, commands });
                    Box::pin(async move { matches!(reply.await, Ok(Reply::Done)) })
                }
                None => Box::pin(async { false }),
            },
            Leader::Unknown => Box::pin(async { false }),
        }
    }

    /// Where a member listens.
    pub(crate) fn address(&self, node: u64) -> Option<String> {
        let metrics = self.raft.server_metrics();
        let metrics = openraft::async_runtime::WatchReceiver::borrow_watched(&metrics);
        metrics.membership_config.membership().get_node(&node).map(|node| node.addr.clone())
    }
}

/// The way to the leader from wherever the sequencer is.
pub(crate) enum Way {
    /// A member of the cluster.
    Member(Leads),
    /// A gateway in front of it.
    Observer(Arc<Nodes>),
}

impl Way {
    /// What the clock of a leader here would stamp.
    pub(crate) fn now(&self) -> Time {
        match self {
            Way::Member(leads) => leads.now(),
            Way::Observer(_) => runtime::now(),
        }
    }

    /// See [`Leads::send`].
    pub(crate) async fn send(
        &self,
        leader: Leader,
        origin: Origin,
        commands: Vec<Command>,
    ) -> BoxFuture<'static, bool> {
        match self {
            Way::Member(leads) => leads.send(leader, origin, commands).await,
            Way::Observer(nodes) => match leader {
                Leader::Peer { node, .. } => nodes.forward(node, origin, commands),
                Leader::This { .. } | Leader::Unknown => Box::pin(async { false }),
            },
        }
    }
}
