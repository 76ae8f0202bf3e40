//! Answers the other nodes, and operators' tools.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use openraft::raft::TransferLeaderRequest;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

use crate::acquaintance::Acquaintances;
use crate::format::seal;
use crate::link::Greeted;
use crate::member::{Member, REMOVED};
use crate::message::{
    Appended, FrameReader, GREETING_BYTES_MAX, Hello, MESSAGE_BYTES_MAX, Proof, Reply, Request, Welcome, is_proof,
    numbered, proof,
};
use crate::observation::Observation;
use crate::origins::is_gateway;
use crate::runtime;
use crate::snapshot_transfer::{Incoming, Receiving};
use crate::transport::{Connection, Listener};

/// Connections that are served at once; more wait.
pub(crate) const CONNECTIONS_MAX: usize = 512;
/// How long a caller may take to say who it is.
const GREETING_MAX: Duration = Duration::from_secs(2);
/// How long a caller may take to read.
const WRITE_MAX: Duration = Duration::from_secs(2);
/// Requests of one connection that are under way; more are not read.
const UNDER_WAY_MAX: usize = 64;
/// How often it is said that somebody was refused.
const SAY_INTERVAL: Duration = Duration::from_secs(5);
/// How long is waited after a connection could not be taken.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What answers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PeerServer {
    pub member: Member,
    pub incarnation: u64,
    pub secret: Arc<str>,
    pub acquaintances: Acquaintances,
    pub receiving: Receiving,
    pub observation: Observation,
    pub refusals: Refusals,
}

/// Says now and then that somebody was refused. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Refusals {
    said_at: Arc<Mutex<Option<Instant>>>,
}

impl Refusals {
    fn is_due(&self) -> bool {
        let mut said_at = self.said_at.lock();
        let due = said_at.is_none_or(|at| at.elapsed() > SAY_INTERVAL);
        if due {
            *said_at = Some(Instant::now());
        }
        due
    }
}

impl PeerServer {
    /// Serves until `stop` turns true.
    pub(crate) async fn run(self, mut listener: Box<dyn Listener>, mut stop: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(connection) => {
                    let (server, mut stop) = (self.clone(), stop.clone());
                    runtime::spawn(async move {
                        tokio::select! {
                            biased;
                            _ = stop.wait_for(|stop| *stop) => {}
                            served = server.serve(connection) => if let Err(error) = served {
                                tracing::debug!("a connection from another node ended: {error}");
                            },
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("a connection from another node could not be taken: {error}");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    async fn serve(&self, connection: Box<dyn Connection>) -> io::Result<()> {
        let (reader, writer) = tokio::io::split(connection);
        let mut greeted = Greeted { reader: FrameReader::new(reader), writer };
        match timeout(GREETING_MAX, self.greet(&mut greeted)).await {
            Ok(Ok(())) => Serving::new(self, greeted).run().await,
            Ok(Err(error)) => {
                // Who is refused asks again and again.
                if error.kind() == io::ErrorKind::PermissionDenied && self.refusals.is_due() {
                    tracing::warn!("another node was refused: {error}");
                }
                Err(error)
            }
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn greet(&self, greeted: &mut Greeted) -> io::Result<()> {
        let refuse = |what: String| io::Error::new(io::ErrorKind::PermissionDenied, what);
        let hello: Hello = greeted.reader.next(GREETING_BYTES_MAX).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let node = self.member.node;
        let checked = hello.check().and_then(|()| {
            if hello.to == 0 || hello.to == node { Ok(()) } else { Err(format!("this is node {node}")) }
        });
        let (nonce, secret) = (rand::random(), &self.secret);
        let welcome = match checked.clone() {
            Ok(()) => {
                let proof = proof(secret, "called", &hello, nonce);
                Welcome::Welcome { node, incarnation: self.incarnation, nonce, proof }
            }
            Err(reason) => Welcome::Refused(reason),
        };
        write(greeted, &seal(&welcome)).await?;
        checked.map_err(refuse)?;
        let Proof(found) = greeted.reader.next(GREETING_BYTES_MAX).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if !is_proof(secret, "caller", &hello, nonce, &found) {
            return Err(refuse("it does not know the cluster's secret".to_owned()));
        }
        match hello.from {
            Some((node, incarnation)) => self.acquaintances.meet(node, incarnation).map_err(refuse),
            None => Ok(()),
        }
    }
}

async fn write(greeted: &mut Greeted, bytes: &[u8]) -> io::Result<()> {
    match timeout(WRITE_MAX, greeted.writer.write_all(bytes)).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// A reply that is not known yet, with its request's number.
type Working = Pin<Box<dyn Future<Output = (u64, Reply)> + Send>>;

struct Serving<'s> {
    server: &'s PeerServer,
    greeted: Greeted,
    /// Raft's entries, which it must get in order.
    entries: FuturesOrdered<Working>,
    others: FuturesUnordered<Working>,
    incoming: Option<Incoming>,
}

impl<'s> Serving<'s> {
    fn new(server: &'s PeerServer, greeted: Greeted) -> Serving<'s> {
        Serving { server, greeted, entries: FuturesOrdered::new(), others: FuturesUnordered::new(), incoming: None }
    }

    async fn run(mut self) -> io::Result<()> {
        loop {
            let room = self.entries.len() + self.others.len() < UNDER_WAY_MAX;
            tokio::select! {
                biased;
                Some((id, reply)) = self.entries.next() => self.reply(id, &reply).await?,
                Some((id, reply)) = self.others.next() => self.reply(id, &reply).await?,
                request = self.greeted.reader.next(MESSAGE_BYTES_MAX), if room => match request? {
                    Some((id, request)) => self.take(id, request).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    async fn reply(&mut self, id: u64, reply: &impl Serialize) -> io::Result<()> {
        write(&mut self.greeted, &numbered(id, reply)).await
    }

    async fn take(&mut self, id: u64, request: Request<'static>) -> io::Result<()> {
        let member = self.server.member.clone();
        let raft = member.leads.raft.clone();
        let working: Working = match request {
            Request::Append(append) => {
                let request = append.request().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                let leader = request.vote.leader_id;
                member.contact.heard(leader.term, leader.node_id);
                self.entries.push_back(Box::pin(async move {
                    let appended = raft.append_entries(request).await.map(Appended::from);
                    (id, or_refused(appended.map(Reply::Appended)))
                }));
                return Ok(());
            }
            Request::Vote(asked) => {
                Box::pin(async move { (id, or_refused(raft.vote(asked.into()).await.map(Reply::from))) })
            }
            Request::PreVote(asked) => {
                Box::pin(async move { (id, or_refused(raft.pre_vote(asked.into()).await.map(Reply::from))) })
            }
            Request::TransferLeader { from_leader, to, last_log_id } => Box::pin(async move {
                let request = TransferLeaderRequest::new(from_leader.into(), to, last_log_id.map(Into::into));
                let handled = raft.handle_transfer_leader(request).await;
                let handled = handled.map_err(|error| error.to_string());
                (id, or_refused(handled.and_then(|done| done.map_err(|error| error.to_string())).map(|()| Reply::Done)))
            }),
            Request::Forward { origin, .. } if is_gateway(origin.node) && !began_here(&member, origin.boot) => {
                Box::pin(async move { (id, Reply::Refused("it began in no log of this cluster".to_owned())) })
            }
            Request::Forward { origin, commands } => {
                // In the order of the requests; what becomes of it is waited for beside the others.
                let proposed = member.leads.proposer.propose(origin, commands.into_owned()).await;
                Box::pin(async move {
                    let reply = match proposed {
                        Ok(applied) => match applied.await {
                            true => Reply::Done,
                            false => Reply::Refused("it may be in the log, or not".to_owned()),
                        },
                        Err(error) => Reply::Refused(error.to_string()),
                    };
                    (id, reply)
                })
            }
            Request::ReadIndex => Box::pin(async move {
                let leads = member.leader.borrow().is_this();
                let read = if leads { member.read_index_here().await } else { Err("it does not lead".to_owned()) };
                (id, or_refused(read.map(|sequence| Reply::ReadIndex(sequence.0))))
            }),
            Request::Standing(standing) if member.has_removed(&standing) => {
                Box::pin(async move { (id, Reply::Refused(REMOVED.to_owned())) })
            }
            Request::Standing(standing) => {
                member.standings.heard(*standing);
                let own = Reply::Standing(Box::new(member.standing()));
                Box::pin(async move { (id, own) })
            }
            Request::Status => {
                let status = Reply::Status(Box::new(member.status()));
                Box::pin(async move { (id, status) })
            }
            Request::Change(change) => {
                Box::pin(async move { (id, or_refused(member.change(change).await.map(|()| Reply::Done))) })
            }
            Request::Observe(asked) => {
                let answer = self.server.observation.clone().answer(member, asked);
                Box::pin(async move { (id, or_refused(answer.await)) })
            }
            Request::Snapshot { .. } | Request::SnapshotBytes(_) | Request::SnapshotRows(_) | Request::SnapshotEnd => {
                let reply = or_refused(self.snapshot(request).await);
                return self.reply(id, &reply).await;
            }
        };
        self.others.push(working);
        Ok(())
    }

    /// One after the other: the pieces belong together.
    async fn snapshot(&mut self, request: Request<'static>) -> Result<Reply, String> {
        let receiving = self.server.receiving.clone();
        let none = || "no snapshot was announced".to_owned();
        let incoming = self.incoming.take();
        match request {
            Request::Snapshot { vote, length, hash } => {
                let begun = receiving.begin(vote, length, hash).map_err(|error| error.to_string());
                let (incoming, reply) = begun?;
                self.incoming = Some(incoming);
                Ok(reply)
            }
            Request::SnapshotBytes(piece) => {
                let mut incoming = incoming.ok_or_else(none)?;
                self.incoming = Some(blocking(move || incoming.bytes(&piece).map(|()| incoming)).await?);
                Ok(Reply::Done)
            }
            Request::SnapshotRows(rows) => {
                let incoming = incoming.ok_or_else(none)?;
                self.incoming = Some(blocking(move || receiving.rows(&incoming, rows).map(|()| incoming)).await?);
                Ok(Reply::Done)
            }
            _ => {
                let incoming = incoming.ok_or_else(none)?;
                let (vote, snapshot) = blocking(move || receiving.end(incoming)).await?;
                let installed = self.server.member.leads.raft.install_full_snapshot(vote, snapshot).await;
                let response = installed.map_err(|error| error.to_string())?;
                Ok(Reply::Snapshot { vote: (&response.vote).into() })
            }
        }
    }
}

/// Whether a gateway can have begun at this index: one far ahead would never make room for others (origins.rs).
fn began_here(member: &Member, index: u64) -> bool {
    index <= member.log_counters.last_index.load(Ordering::Relaxed) + 1
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, String> {
    let done = runtime::blocking(work).await.map_err(|error| error.to_string())?;
    done.map_err(|error| error.to_string())
}

fn or_refused<E: std::fmt::Display>(reply: Result<Reply, E>) -> Reply {
    reply.unwrap_or_else(|error| Reply::Refused(error.to_string()))
}
