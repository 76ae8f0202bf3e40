//! What stands behind the doors: a node with a disk of its own, or an observer in front of a cluster.

use std::future::Future;
use std::pin::Pin;

use engine::Sequence;
use journal::{ClusterStatus, History, Node, Observer, Sequencer, Stats};

/// A node, or what stands in its place in a gateway.
pub enum Backend {
    /// A node, which keeps everything itself.
    Node(Box<Node>),
    /// A gateway's, which keeps nothing.
    Observer(Box<Observer>),
}

/// Something that is known later.
type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Backend {
    /// The door for commands.
    pub fn sequencer(&self) -> Sequencer {
        match self {
            Backend::Node(node) => node.sequencer(),
            Backend::Observer(observer) => observer.sequencer(),
        }
    }

    /// Closed orders and trades.
    pub fn history(&self) -> History {
        match self {
            Backend::Node(node) => node.history(),
            Backend::Observer(observer) => observer.history(),
        }
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        match self {
            Backend::Node(node) => node.stats(),
            Backend::Observer(observer) => observer.stats(),
        }
    }

    /// The cluster as it is seen from here; nothing where a gateway has heard of none yet.
    pub fn cluster(&self) -> Option<ClusterStatus> {
        match self {
            Backend::Node(node) => Some(node.cluster()),
            Backend::Observer(observer) => observer.cluster(),
        }
    }

    /// Whether orders are taken, whatever the views show; why not, otherwise.
    pub fn readiness(&self) -> Result<(), String> {
        match self {
            Backend::Node(node) => node.sequencer().check().map_err(|error| error.to_string()),
            Backend::Observer(observer) => observer.readiness(),
        }
    }

    /// Whether it leads a cluster.
    pub fn leads(&self) -> bool {
        matches!(self, Backend::Node(node) if node.leads())
    }

    /// The last command that a read which begins now must see.
    pub fn read_index(&self) -> Later<Option<Sequence>> {
        match self {
            Backend::Node(node) => Box::pin(node.read_index()),
            Backend::Observer(observer) => Box::pin(observer.read_index()),
        }
    }

    /// Has a snapshot written; nothing in a gateway, which has none.
    pub fn write_snapshot(&self) -> Option<Later<bool>> {
        match self {
            Backend::Node(node) => Some(Box::pin(node.write_snapshot())),
            Backend::Observer(_) => None,
        }
    }

    /// Resolves only when it cannot go on, with the reason.
    pub fn failed(&self) -> Later<String> {
        match self {
            Backend::Node(node) => Box::pin(node.failed()),
            Backend::Observer(observer) => Box::pin(observer.failed()),
        }
    }

    /// Lets what is under way finish, and ends.
    pub async fn stop(self) {
        match self {
            Backend::Node(node) => (*node).stop().await,
            Backend::Observer(observer) => (*observer).stop().await,
        }
    }
}
