//! openraft over this log store and this network with nothing above them: no door, no engine, no history, no feed. It is what a
//! whole node is measured against (benches/src/bin/journal.rs), and nothing else.

use std::sync::Arc;
use std::thread::JoinHandle;

use engine::{Command, Time};

use crate::engine_thread::{EngineThread, Job};
use crate::failure::StartError;
use crate::node::{Node, NodeConfig};
use crate::queue::{Consumer, Receiver, Sender};
use crate::record::{Entry, Origin, Proposal, Published};
use crate::runtime;
use crate::transport::Tcp;

/// A node that keeps entries and does nothing with them.
pub struct Bare {
    node: Node,
    /// Nothing comes, but who publishes would stop without it.
    _published: Receiver<Published>,
}

impl Bare {
    /// Opens the data directory and starts.
    pub async fn start(config: NodeConfig) -> Result<Bare, StartError> {
        let (node, published) = Node::start_with(config, Arc::new(Tcp), idle).await?;
        node.recovered().await?;
        Ok(Bare { node, _published: published })
    }

    /// Whether it leads.
    pub fn leads(&self) -> bool {
        self.node.leads()
    }

    /// Has a leader write one entry; whether a majority has it on disk and this node was told to apply it.
    pub async fn write(&self, commands: Vec<Command>) -> bool {
        let entry = Arc::new(Entry { time: Time(0), commands });
        // Nobody counts origins here.
        let proposal = Proposal::Commands { origin: Origin { node: 0, boot: 0, ticket: 0 }, entry };
        self.node.member().leads.raft.client_write(proposal).await.is_ok()
    }

    /// Flushes and closes everything.
    pub async fn stop(self) {
        self.node.stop().await;
    }
}

/// In the place of the engine's thread: commands are let pass, all else is done.
fn idle(mut engine: EngineThread) -> (Sender<Job>, JoinHandle<()>) {
    let (jobs, queue) = EngineThread::queue();
    let failure = engine.failure.clone();
    let step = move |job| match job {
        Job::Apply { responder, .. } => {
            responder.into_iter().for_each(|responder| responder.send(()));
            true
        }
        job => engine.consume(job),
    };
    (jobs, runtime::thread(&failure, "engine", || "nothing can panic here".to_owned(), queue, step))
}
