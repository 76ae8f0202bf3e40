//! The engine's thread as raft sees it: hands over committed entries in log order, installs snapshots.

use std::fs::File;
use std::io;

use futures_util::{Stream, TryStreamExt};
use openraft::alias::SnapshotOf;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::oneshot;

use crate::acquaintance::Acquaintances;
use crate::engine_thread::Job;
use crate::log_store::hand_over;
use crate::queue::Sender;
use crate::record::{LogId, Proposal, StoredMembership, TypeConfig};
use crate::runtime;
use crate::snapshot_builder::{SnapshotBuilder, SnapshotKeeping};
use crate::snapshot_file::{self, SnapshotMeta};

/// The engine thread as raft sees it.
pub(crate) struct StateMachine {
    jobs: Sender<Job>,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    keeping: SnapshotKeeping,
    acquaintances: Acquaintances,
}

impl StateMachine {
    /// Over an engine that is at `meta`.
    pub(crate) fn new(
        jobs: Sender<Job>,
        meta: SnapshotMeta,
        keeping: SnapshotKeeping,
        acquaintances: Acquaintances,
    ) -> StateMachine {
        let SnapshotMeta { last_log_id: last_applied, last_membership: membership } = meta;
        StateMachine { jobs, last_applied, membership, keeping, acquaintances }
    }

    /// The members are others from here on.
    fn set_membership(&mut self, membership: StoredMembership) -> io::Result<()> {
        let index = membership.log_id().map_or(0, |log_id| log_id.index);
        let members = membership.membership().nodes().map(|(node, _)| *node).collect();
        self.membership = membership;
        self.acquaintances.follow(index, &members).map_err(io::Error::other)
    }

    async fn tell(&self, job: Job) -> io::Result<()> {
        let Err(job) = self.jobs.do_at_once(job) else { return Ok(()) };
        hand_over(&self.jobs, job).await.map_err(|_| engine_ended())
    }
}

fn engine_ended() -> io::Error {
    io::Error::other("the engine thread has ended")
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = File;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.last_applied, self.membership.clone()))
    }

    /// Hands the entries to the engine thread, which answers for them when they are done.
    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            if self.last_applied.is_some_and(|last| entry.log_id <= last) {
                // It is in the snapshot that the engine started from.
                continue;
            }
            let log_id = entry.log_id;
            self.last_applied = Some(log_id);
            let membership = match entry.payload {
                EntryPayload::Normal(Proposal::Commands { origin, entry }) => {
                    self.tell(Job::Apply { log_id, origin, entry, responder }).await?;
                    continue;
                }
                EntryPayload::Membership(membership) => Some(StoredMembership::new(Some(log_id), membership)),
                // A compensation was heeded before, when the log was read: see compensation.rs.
                EntryPayload::Normal(Proposal::Compensation(_)) | EntryPayload::Blank => None,
            };
            if let Some(membership) = &membership {
                self.set_membership(membership.clone())?;
            }
            self.tell(Job::Pass { log_id, membership, responder }).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let meta = SnapshotMeta { last_log_id: self.last_applied, last_membership: self.membership.clone() };
        SnapshotBuilder::new(meta, self.keeping.clone(), self.jobs.clone())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, mut snapshot: File) -> Result<(), io::Error> {
        let snapshots = self.keeping.snapshots.clone();
        let store = move || -> io::Result<_> {
            let found = snapshot_file::read(&mut snapshot)?;
            snapshots.write(&found.meta, &found.origins, &found.state, 0)?;
            Ok(found)
        };
        let found = runtime::blocking(store).await??;
        let (done, installed) = oneshot::channel();
        let sequence = found.state.sequence();
        self.tell(Job::Install(found, done)).await?;
        installed.await.map_err(|_| engine_ended())?;
        // Raft drops the log before it; a start finds nothing to write history from then.
        self.keeping.history.wait_for(sequence).await;
        let history = self.keeping.history.clone();
        runtime::blocking(move || history.flush()).await??;
        self.last_applied = meta.last_log_id;
        self.set_membership(meta.last_membership.clone())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, File>>, io::Error> {
        let newest = self.keeping.snapshots.newest()?;
        Ok(newest.map(|(meta, snapshot)| SnapshotOf::<TypeConfig, File> { meta, snapshot }))
    }
}
