//! Raft's messages to the other nodes, over a link to each.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesOrdered, unfold};
use futures_util::{Stream, StreamExt};
use openraft::alias::SnapshotOf;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, BasicNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::link::{Caller, Link};
use crate::message::{AppendBytes, Appended, Reply, Request, VoteAsked};
use crate::record::{TypeConfig, Vote};
use crate::snapshot_transfer::{self, Sending};

/// Append requests that are under way to one node: while one is synced there, the next gathers.
const APPENDS_IN_FLIGHT: usize = 4;
/// How long a node may take to install a snapshot.
const INSTALL_MAX: Duration = Duration::from_secs(300);
/// How long raft rests before it calls a node again that could not be reached.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Makes the connections to peers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Network {
    caller: Arc<Caller>,
    /// For all that is said seldom: votes, forwarded commands, questions. Entries go over links of their own.
    links: Arc<Mutex<BTreeMap<(u64, String), Link>>>,
    sending: Sending,
    /// Where they run, whoever is the first to need one.
    runtime: Handle,
}

impl Network {
    /// In the runtime that this is called in.
    pub(crate) fn new(caller: Arc<Caller>, sending: Sending) -> Network {
        Network { caller, links: Arc::default(), sending, runtime: Handle::current() }
    }

    /// The link for what is said seldom.
    pub(crate) fn link(&self, node: u64, address: &str) -> Link {
        let _entered = self.runtime.enter();
        let mut links = self.links.lock();
        let new = || Link::new(self.caller.clone(), node, address.to_owned());
        links.entry((node, address.to_owned())).or_insert_with(new).clone()
    }

    /// Ends all links once nobody uses them.
    pub(crate) fn close(&self) {
        self.links.lock().clear();
        self.sending.close();
    }
}

/// The way to one peer.
pub(crate) struct Peer {
    network: Network,
    node: u64,
    address: String,
    /// For entries.
    entries: Option<Link>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        Peer { network: self.clone(), node: target, address: node.addr.clone(), entries: None }
    }
}

fn unreachable(reason: impl std::fmt::Display) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(&AnyError::error(reason)))
}

fn unexpected() -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(&AnyError::error("the reply is to another question")))
}

/// What raft is told of an append request's reply.
fn told(request: &AppendEntriesRequest<TypeConfig>, appended: Appended) -> StreamAppendResult<TypeConfig> {
    let end = || request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
    match appended {
        Appended::Success => Ok(end()),
        Appended::PartialSuccess(matching) => Ok(matching.map(Into::into)),
        // A request without an entry before it conflicts with nothing.
        Appended::Conflict => {
            request.prev_log_id.map_or(Ok(None), |previous| Err(StreamAppendError::Conflict(previous)))
        }
        Appended::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote.into())),
    }
}

type Told = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;
type Telling = Pin<Box<dyn Future<Output = Told> + Send>>;

fn append(link: &Link, request: AppendEntriesRequest<TypeConfig>) -> Telling {
    let reply = link.call(&Request::Append(AppendBytes::from(&request)));
    Box::pin(async move {
        match reply.await.map_err(unreachable)? {
            Reply::Appended(appended) => Ok(told(&request, appended)),
            _ => Err(unexpected()),
        }
    })
}

impl Peer {
    fn seldom(&self) -> Link {
        self.network.link(self.node, &self.address)
    }

    async fn ask_vote(&self, request: Request<'_>) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.seldom().call(&request).await.map_err(unreachable)? {
            Reply::Vote { vote, granted, last_log_id } => {
                Ok(VoteResponse::new(Vote::from(vote), last_log_id.map(Into::into), granted))
            }
            _ => Err(unexpected()),
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = File;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let reply = self.seldom().call(&Request::Append(AppendBytes::from(&request)));
        match reply.await.map_err(unreachable)? {
            Reply::Appended(Appended::Success) => Ok(AppendEntriesResponse::Success),
            Reply::Appended(Appended::PartialSuccess(matching)) => {
                Ok(AppendEntriesResponse::PartialSuccess(matching.map(Into::into)))
            }
            Reply::Appended(Appended::Conflict) => Ok(AppendEntriesResponse::Conflict),
            Reply::Appended(Appended::HigherVote(vote)) => Ok(AppendEntriesResponse::HigherVote(vote.into())),
            _ => Err(unexpected()),
        }
    }

    /// Several requests are under way at once; replies are told in the order of the requests.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Told>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let new = || Link::new(self.network.caller.clone(), self.node, self.address.clone());
        let link = self.entries.get_or_insert_with(new).clone();
        let start = (Some(input), FuturesOrdered::<Telling>::new());
        let told = unfold(start, move |(mut input, mut under_way)| {
            let link = link.clone();
            async move {
                loop {
                    let room = under_way.len() < APPENDS_IN_FLIGHT;
                    tokio::select! {
                        biased;
                        Some(told) = under_way.next() => {
                            // After an error raft begins anew, and what is under way is nobody's any more.
                            let go_on = matches!(told, Ok(Ok(_)));
                            let rest = if go_on { under_way } else { FuturesOrdered::new() };
                            return Some((told, (input.filter(|_| go_on), rest)));
                        }
                        request = next(&mut input), if room && input.is_some() => match request {
                            Some(request) => under_way.push_back(append(&link, request)),
                            None => input = None,
                        },
                        else => return None,
                    }
                }
            }
        });
        Box::pin(async move { Ok(Box::pin(told) as BoxStream<'s, Told>) })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(Request::Vote(VoteAsked::from(&request))).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(Request::PreVote(VoteAsked::from(&request))).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, File>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let link = Link::patient(self.network.caller.clone(), self.node, self.address.clone(), INSTALL_MAX);
        let sending = snapshot_transfer::send(&link, &vote, snapshot.snapshot, &self.network.sending);
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sending => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(reason) => {
                    tracing::warn!("the snapshot for node {} was not sent to its end: {reason}", self.node);
                    Err(StreamingError::Unreachable(Unreachable::new(&AnyError::error(reason))))
                }
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.seldom().call(&Request::from(&request)).await.map_err(unreachable)? {
            Reply::Done => Ok(Ok(())),
            _ => Err(unexpected()),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(RETRY_INTERVAL)))
    }
}

async fn next<S: Stream + Unpin>(input: &mut Option<S>) -> Option<S::Item> {
    match input {
        Some(input) => input.next().await,
        None => None,
    }
}
