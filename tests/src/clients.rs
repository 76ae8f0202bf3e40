//! Clients of a cluster: many sockets of the WS API, spread over its nodes. When a node is gone, does not answer or says that
//! it does not know, a client asks the same again at another node, once: what comes of that is what it is left with.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use gateway::client::{Address, signed_request};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::exchange::credentials;
use crate::load::{Flow, Load, Outcome, Planned, Record, outcome};

/// How often a request is asked at most.
const ATTEMPTS_MAX: u32 = 2;
/// How long a client without anything under way waits before it tries the next node.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// How long a connection may take to be made: a node that stands still takes it and says nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How clients behave, beyond what they ask.
#[derive(Clone, Debug)]
pub struct Manner {
    /// How long an answer may take until the client gives the node up.
    pub answer_timeout: Duration,
    /// How long a socket waits after an answer before it asks the next.
    pub think: Duration,
    /// Whether a client stays with its node when that is gone, as one that can reach no other.
    pub is_loyal: bool,
}

impl Default for Manner {
    fn default() -> Manner {
        Manner { answer_timeout: Duration::from_secs(5), think: Duration::ZERO, is_loyal: false }
    }
}

/// A request, what came of it, and when.
#[derive(Clone, Debug)]
pub struct Told {
    /// What was asked and what came of it in the end.
    pub record: Record,
    /// When it was first asked.
    pub asked: Instant,
    /// When it was last asked.
    pub asked_last: Instant,
    /// When the answer came, or the client gave up.
    pub ended: Instant,
    /// How often it was asked.
    pub attempts: u32,
    /// The node that it was last asked at, counted from zero.
    pub node: usize,
    /// What went wrong, attempt by attempt.
    pub troubles: Vec<String>,
}

impl Told {
    /// Whether it was acknowledged.
    pub fn is_done(&self) -> bool {
        matches!(self.record.outcome, Outcome::Done { .. })
    }

    /// Whether what the client is left with is the exchange's failure and not its ruling.
    pub fn is_failed(&self) -> bool {
        match &self.record.outcome {
            Outcome::Done { .. } => false,
            Outcome::Refused { status, .. } => *status >= 500,
            Outcome::Unknown => self.troubles.len() as u32 == self.attempts,
        }
    }
}

/// Clients at work.
pub struct Clients {
    stop: Arc<AtomicBool>,
    working: JoinHandle<Vec<Told>>,
}

impl Clients {
    /// Sends `load` over the nodes at `addresses`, each socket beginning with another.
    pub fn start(load: Load, addresses: Vec<Address>, manner: Manner) -> Clients {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let working = tokio::spawn(async move {
            let mut sockets = JoinSet::new();
            for socket in 0..load.sockets {
                let client = Client {
                    node: socket % addresses.len(),
                    addresses: addresses.clone(),
                    flow: load.flow(socket),
                    random: StdRng::seed_from_u64(load.seed ^ !(socket as u64)),
                    manner: manner.clone(),
                    in_flight: load.in_flight,
                    stop: flag.clone(),
                    next_id: 1,
                    again: VecDeque::new(),
                    told: Vec::new(),
                };
                sockets.spawn(client.run());
            }
            sockets.join_all().await.into_iter().flatten().collect()
        });
        Clients { stop, working }
    }

    /// Lets them finish what is under way; everything that was asked.
    pub async fn finish(self) -> Vec<Told> {
        self.stop.store(true, Ordering::Relaxed);
        self.working.await.expect("clients do not panic")
    }
}

/// One of them.
struct Client {
    addresses: Vec<Address>,
    node: usize,
    flow: Flow,
    random: StdRng,
    manner: Manner,
    in_flight: usize,
    stop: Arc<AtomicBool>,
    next_id: u64,
    /// What is to be asked again.
    again: VecDeque<Pending>,
    told: Vec<Told>,
}

/// A request under way.
struct Pending {
    planned: Planned,
    asked: Instant,
    asked_last: Instant,
    attempts: u32,
    troubles: Vec<String>,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Client {
    async fn run(mut self) -> Vec<Told> {
        while !(self.stop.load(Ordering::Relaxed) && self.again.is_empty()) {
            match self.connect().await {
                Ok(socket) => self.talk(socket).await,
                Err(trouble) => {
                    // What waits to be asked was asked here in vain.
                    for mut pending in std::mem::take(&mut self.again) {
                        pending.attempts += 1;
                        self.failed(pending, trouble.clone());
                    }
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                }
            }
            self.go_elsewhere();
        }
        self.told
    }

    fn go_elsewhere(&mut self) {
        let others = self.addresses.len() - 1;
        if others > 0 && !self.manner.is_loyal {
            self.node = (self.node + self.random.random_range(1..=others)) % self.addresses.len();
        }
    }

    async fn connect(&self) -> Result<Socket, String> {
        let url = format!("ws://{}/ws-api/v3?returnRateLimits=false&returnSequence=true", self.addresses[self.node]);
        let connecting = tokio_tungstenite::connect_async_with_config(&url, None, true);
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(error)) => Err(format!("connect: {error}")),
            Err(_) => Err("connect: no answer".to_owned()),
        }
    }

    /// Asks until the socket ends, an answer is late, the server is about to stop or this is.
    async fn talk(&mut self, socket: Socket) {
        let who = credentials(self.flow.account);
        let (mut sink, mut stream) = socket.split();
        let mut waiting = BTreeMap::<u64, Pending>::new();
        let mut is_leaving = false;
        let trouble = loop {
            let mut sent = true;
            while sent && waiting.len() < self.in_flight {
                is_leaving |= self.stop.load(Ordering::Relaxed) && self.again.is_empty();
                if is_leaving {
                    break;
                }
                let mut pending = self.again.pop_front().unwrap_or_else(|| Pending::new(self.flow.plan()));
                pending.attempts += 1;
                pending.asked_last = Instant::now();
                let id = self.next_id;
                self.next_id += 1;
                let text = signed_request(id, pending.planned.method, &pending.planned.parameters, &who);
                waiting.insert(id, pending);
                sent = sink.feed(Message::text(text)).await.is_ok();
            }
            if !sent || sink.flush().await.is_err() {
                break "the socket broke".to_owned();
            }
            if waiting.is_empty() {
                break String::new();
            }
            let oldest = waiting.values().map(|pending| pending.asked_last).min().expect("some wait");
            let late = tokio::time::Instant::from_std(oldest + self.manner.answer_timeout);
            match tokio::time::timeout_at(late, stream.next()).await {
                Err(_) => break "no answer in time".to_owned(),
                Ok(Some(Ok(Message::Text(text)))) => {
                    let answer: Value = serde_json::from_str(&text).expect("an answer is JSON");
                    if answer.get("event").is_some() {
                        // The server says that it is about to stop: the next is asked elsewhere.
                        is_leaving = true;
                        continue;
                    }
                    let pending = answer["id"].as_u64().and_then(|id| waiting.remove(&id));
                    let pending = pending.unwrap_or_else(|| panic!("an answer to nothing that was asked: {text}"));
                    self.answered(pending, answer);
                    // What failed here is asked again elsewhere.
                    is_leaving |= !self.again.is_empty();
                    if !self.manner.think.is_zero() {
                        tokio::time::sleep(self.manner.think).await;
                    }
                }
                Ok(Some(Ok(Message::Close(frame)))) => break format!("closed: {frame:?}"),
                Ok(Some(Err(error))) => break format!("socket: {error}"),
                Ok(None) => break "the socket ended".to_owned(),
                Ok(Some(Ok(_))) => {}
            }
        };
        for pending in waiting.into_values() {
            self.failed(pending, trouble.clone());
        }
    }

    fn answered(&mut self, pending: Pending, answer: Value) {
        let said = answer["error"].to_string();
        match outcome(answer) {
            Outcome::Unknown => self.failed(pending, said),
            Outcome::Refused { status: 500.., .. } if pending.attempts < ATTEMPTS_MAX => self.failed(pending, said),
            // It may be the first attempt that did it, and left nothing for this one to do.
            Outcome::Refused { status: ..500, .. } if pending.attempts > 1 && !pending.may_be_repeated() => {
                self.tell(pending, Outcome::Unknown);
            }
            outcome => self.tell(pending, outcome),
        }
    }

    /// An attempt came to nothing: the request is asked again, or given up.
    fn failed(&mut self, mut pending: Pending, trouble: String) {
        pending.troubles.push(trouble);
        if pending.attempts < ATTEMPTS_MAX {
            self.again.push_back(pending);
        } else {
            self.tell(pending, Outcome::Unknown);
        }
    }

    fn tell(&mut self, pending: Pending, outcome: Outcome) {
        let Pending { planned: Planned { method, name, .. }, asked, asked_last, attempts, troubles } = pending;
        let record = Record { account: self.flow.account, method, name, outcome };
        let node = self.node;
        self.told.push(Told { record, asked, asked_last, ended: Instant::now(), attempts, node, troubles });
    }
}

impl Pending {
    fn new(planned: Planned) -> Pending {
        let now = Instant::now();
        Pending { planned, asked: now, asked_last: now, attempts: 0, troubles: Vec::new() }
    }

    /// Whether asking again brings the first result: an order placed under a name of its own.
    fn may_be_repeated(&self) -> bool {
        self.planned.method == "order.place"
    }
}

/// When the first acknowledgement came of a request that was asked after `moment`.
pub fn first_done_after(told: &[Told], moment: Instant) -> Option<Instant> {
    told.iter().filter(|told| told.is_done() && told.asked_last > moment).map(|told| told.ended).min()
}

/// How long things took, in order.
pub struct Durations(Vec<Duration>);

impl Durations {
    /// In any order.
    pub fn new(mut durations: Vec<Duration>) -> Durations {
        assert!(!durations.is_empty(), "something was measured");
        durations.sort_unstable();
        Durations(durations)
    }

    /// The one that so much of a hundred do not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent).div_ceil(100).max(1) - 1]
    }

    /// The longest.
    pub fn worst(&self) -> Duration {
        self.0[self.0.len() - 1]
    }
}
