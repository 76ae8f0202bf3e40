//! A connection to one node, made when it is needed and made again when it broke. Requests go out one behind the other without
//! waiting for replies; a reply finds its request by number.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::acquaintance::Acquaintances;
use crate::format::seal;
use crate::message::{
    FrameReader, GREETING_BYTES_MAX, Hello, MESSAGE_BYTES_MAX, Proof, Reply, Request, Welcome, is_proof, numbered,
    proof,
};
use crate::runtime;
use crate::transport::{Connection, Transport};

/// Requests that may wait to be sent; more are refused.
const CALLS_MAX: usize = 256;
/// How long making a connection may take, the handshake included.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How long a reply may take before the connection counts as broken.
pub(crate) const REPLY_MAX: Duration = Duration::from_secs(2);
/// How long sending may stand still.
const WRITE_MAX: Duration = Duration::from_secs(2);
/// How often it is looked whether replies are late.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Who calls, and how.
pub(crate) struct Caller {
    pub transport: Arc<dyn Transport>,
    /// This node and its incarnation; none for an operator's tool.
    pub from: Option<(u64, u64)>,
    pub secret: String,
    /// Whom this node has met.
    pub acquaintances: Option<Acquaintances>,
}

impl Caller {
    /// A connection to the node that listens at `address`, which must be `node` unless that is zero; and which it is.
    pub(crate) async fn connect(&self, node: u64, address: &str) -> io::Result<(Greeted, u64)> {
        let connecting = async {
            let connection = self.transport.connect(address).await?;
            self.greet(node, connection).await
        };
        match timeout(CONNECT_MAX, connecting).await {
            Ok(greeted) => greeted,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer")),
        }
    }

    async fn greet(&self, node: u64, connection: Box<dyn Connection>) -> io::Result<(Greeted, u64)> {
        let refused = |what: String| io::Error::new(io::ErrorKind::PermissionDenied, what);
        let (reader, mut writer) = tokio::io::split(connection);
        let mut reader = FrameReader::new(reader);
        let hello = Hello::new(self.from, node);
        writer.write_all(&seal(&hello)).await?;
        let welcome = reader.next(GREETING_BYTES_MAX).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let (found, incarnation, nonce, theirs) = match welcome {
            Welcome::Welcome { node, incarnation, nonce, proof } => (node, incarnation, nonce, proof),
            Welcome::Refused(reason) => return Err(refused(reason)),
        };
        if !is_proof(&self.secret, "called", &hello, nonce, &theirs) {
            return Err(refused("it does not know the cluster's secret".to_owned()));
        }
        if node != 0 && found != node {
            return Err(refused(format!("node {found} answers there, not node {node}")));
        }
        if let Some(acquaintances) = &self.acquaintances {
            acquaintances.meet(found, incarnation).map_err(refused)?;
        }
        writer.write_all(&seal(&Proof(proof(&self.secret, "caller", &hello, nonce)))).await?;
        Ok((Greeted { reader, writer }, found))
    }
}

/// A connection whose two sides know each other.
pub(crate) struct Greeted {
    pub reader: FrameReader<ReadHalf<Box<dyn Connection>>>,
    pub writer: WriteHalf<Box<dyn Connection>>,
}

/// A way to one node. Cheap to clone; it ends with its last handle.
#[derive(Clone)]
pub(crate) struct Link {
    calls: mpsc::Sender<Call>,
    next_id: Arc<AtomicU64>,
}

struct Call {
    id: u64,
    frame: Vec<u8>,
    reply: Answer,
}

type Answer = oneshot::Sender<Result<Reply, String>>;

impl Link {
    /// To `node`, which listens at `address`.
    pub(crate) fn new(caller: Arc<Caller>, node: u64, address: String) -> Link {
        Link::patient(caller, node, address, REPLY_MAX)
    }

    /// The same, where a reply may take so long.
    pub(crate) fn patient(caller: Arc<Caller>, node: u64, address: String, reply_max: Duration) -> Link {
        let (calls, queue) = mpsc::channel(CALLS_MAX);
        runtime::spawn(run(caller, node, address, reply_max, queue));
        Link { calls, next_id: Arc::default() }
    }

    /// Sends a request, in the order of the calls; the future waits for its reply. Why there is none, otherwise: then the
    /// request may or may not have arrived.
    pub(crate) fn call(&self, request: &Request<'_>) -> impl Future<Output = Result<Reply, String>> + Send + use<> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let sent = self.calls.try_send(Call { id, frame: numbered(id, request), reply });
        async move {
            if sent.is_err() {
                return Err("too much waits to be sent to it".to_owned());
            }
            match answer.await {
                Ok(Ok(Reply::Refused(reason)) | Err(reason)) => Err(reason),
                Ok(Ok(reply)) => Ok(reply),
                Err(_) => Err("the connection to it has ended".to_owned()),
            }
        }
    }
}

async fn run(caller: Arc<Caller>, node: u64, address: String, reply_max: Duration, mut queue: mpsc::Receiver<Call>) {
    while let Some(first) = queue.recv().await {
        match caller.connect(node, &address).await {
            Ok((greeted, _)) => {
                // Whoever waits learns that the connection ended; the next call makes a new one.
                let _ = Session::start(greeted.writer, greeted.reader, reply_max).run(first, &mut queue).await;
            }
            Err(error) => {
                let reason = format!("node {node} at {address}: {error}");
                let waiting = std::iter::from_fn(|| queue.try_recv().ok());
                std::iter::once(first).chain(waiting).for_each(|call| drop(call.reply.send(Err(reason.clone()))));
            }
        }
    }
}

/// The requests that wait for their replies, and since when.
type Pending = Arc<Mutex<BTreeMap<u64, (Instant, Answer)>>>;

struct Session {
    writer: WriteHalf<Box<dyn Connection>>,
    pending: Pending,
    reading: tokio::task::JoinHandle<()>,
    reply_max: Duration,
}

impl Session {
    fn start(
        writer: WriteHalf<Box<dyn Connection>>,
        mut reader: FrameReader<ReadHalf<Box<dyn Connection>>>,
        reply_max: Duration,
    ) -> Session {
        let pending = Pending::default();
        let waiting = pending.clone();
        let reading = runtime::spawn(async move {
            while let Ok(Some((id, reply))) = reader.next::<(u64, Reply)>(MESSAGE_BYTES_MAX).await {
                let answer = waiting.lock().remove(&id);
                // Who gave up waiting needs no reply.
                answer.map(|(_, answer)| answer.send(Ok(reply)));
            }
        });
        Session { writer, pending, reading, reply_max }
    }

    async fn run(&mut self, first: Call, queue: &mut mpsc::Receiver<Call>) -> io::Result<()> {
        self.send(first, queue).await?;
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                call = queue.recv() => match call {
                    Some(call) => self.send(call, queue).await?,
                    None => return Ok(()),
                },
                _ = &mut self.reading => return Ok(()),
                _ = look.tick() => {
                    if self.pending.lock().values().any(|(since, _)| since.elapsed() > self.reply_max) {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
            }
        }
    }

    /// Sends a call and those behind it in one go.
    async fn send(&mut self, first: Call, queue: &mut mpsc::Receiver<Call>) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut next = Some(first);
        while let Some(call) = next {
            // Who gave up waiting wants nothing sent; raft's heartbeats do so.
            if !call.reply.is_closed() {
                self.pending.lock().insert(call.id, (Instant::now(), call.reply));
                bytes.extend_from_slice(&call.frame);
            }
            next = if bytes.len() < 1 << 20 { queue.try_recv().ok() } else { None };
        }
        match timeout(WRITE_MAX, self.writer.write_all(&bytes)).await {
            Ok(written) => written,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reading.abort();
        self.pending.lock().clear();
    }
}
