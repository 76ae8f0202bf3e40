//! Many sockets of the WS API at once, each with a flow of its own that its seed alone decides, and a record of every answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{SinkExt, StreamExt};
use gateway::client::{Address, signed_request};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::exchange::credentials;

/// The symbol of [`bootstrap`](crate::exchange::bootstrap).
pub const SYMBOL: &str = "BTCUSD";
/// A cancel, amend or replace means one of so many orders before it.
const REACH: u64 = 40;

/// How many sockets, whose, and how much each asks at once.
#[derive(Clone, Debug)]
pub struct Load {
    /// What decides every socket's flow.
    pub seed: u64,
    /// What every order's name starts with; no two loads on one exchange may share it.
    pub prefix: String,
    /// How many.
    pub sockets: usize,
    /// They are dealt out to the accounts from 1 to this.
    pub accounts: usize,
    /// How many requests of a socket wait for their answers.
    pub in_flight: usize,
}

/// What was asked, and what came of it.
#[derive(Clone, Debug)]
pub struct Record {
    /// The account that asked.
    pub account: usize,
    /// The WS API method.
    pub method: &'static str,
    /// The name of the order it would place; none for a cancel or an amendment.
    pub name: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a client knows of a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was done, by the command of this sequence.
    Done {
        /// The command's.
        sequence: u64,
        /// The answer's result.
        result: Value,
    },
    /// It was not done.
    Refused {
        /// HTTP's.
        status: u64,
        /// The exchange's.
        code: i64,
    },
    /// No answer came, or one that says that nobody knows.
    Unknown,
}

/// The code of "execution status unknown".
const TIMEOUT_CODE: i64 = -1007;

impl Load {
    /// Asks until `stop` says so or the server is gone. Every request is in the record once.
    pub async fn run(&self, address: &Address, stop: &Arc<AtomicBool>) -> Vec<Record> {
        let mut sockets = JoinSet::new();
        for socket in 0..self.sockets {
            let flow = self.flow(socket);
            sockets.spawn(drive(address.clone(), flow, self.in_flight, stop.clone()));
        }
        sockets.join_all().await.into_iter().flatten().collect()
    }

    /// What the socket of this number asks.
    pub(crate) fn flow(&self, socket: usize) -> Flow {
        Flow {
            random: StdRng::seed_from_u64(self.seed ^ (socket as u64) << 48),
            account: 1 + socket % self.accounts,
            prefix: format!("{}-{socket}-", self.prefix),
            next: 0,
        }
    }
}

/// What one socket asks, one request after the other. It does not depend on the answers, so a seed gives the same again.
pub(crate) struct Flow {
    random: StdRng,
    pub(crate) account: usize,
    prefix: String,
    next: u64,
}

/// A request before it is signed.
pub(crate) struct Planned {
    pub(crate) method: &'static str,
    pub(crate) name: Option<String>,
    pub(crate) parameters: Vec<(&'static str, Value)>,
}

impl Flow {
    /// The next request.
    pub(crate) fn plan(&mut self) -> Planned {
        self.next += 1;
        let name = format!("{}{}", self.prefix, self.next);
        let kind = self.random.random_range(0..100);
        let earlier = self.next.saturating_sub(self.random.random_range(1..REACH));
        let earlier = format!("{}{earlier}", self.prefix);
        match kind {
            0..20 => self.change("order.cancel", vec![("origClientOrderId", json!(earlier))]),
            20..24 => {
                let quantity = self.quantity();
                let terms = vec![("origClientOrderId", json!(earlier)), ("newQty", json!(quantity))];
                self.change("order.amend.keepPriority", terms)
            }
            24..30 => {
                let terms =
                    [("cancelReplaceMode", json!("STOP_ON_FAILURE")), ("cancelOrigClientOrderId", json!(earlier))];
                let mut planned = self.place("order.cancelReplace", name, "LIMIT", Some("GTC"));
                planned.parameters.extend(terms);
                planned
            }
            30..36 => self.place("order.place", name, "LIMIT", Some("IOC")),
            36..38 => self.place("order.place", name, "LIMIT", Some("FOK")),
            38..44 => self.place("order.place", name, "MARKET", None),
            44..48 => self.place("order.place", name, "LIMIT_MAKER", None),
            48..51 => {
                let mut planned = self.place("order.place", name, "STOP_LOSS_LIMIT", Some("GTC"));
                let stop = self.price();
                planned.parameters.push(("stopPrice", json!(stop)));
                planned
            }
            _ => self.place("order.place", name, "LIMIT", Some("GTC")),
        }
    }

    fn change(&mut self, method: &'static str, mut parameters: Vec<(&'static str, Value)>) -> Planned {
        parameters.push(("symbol", json!(SYMBOL)));
        Planned { method, name: None, parameters }
    }

    fn place(&mut self, method: &'static str, name: String, kind: &str, time_in_force: Option<&str>) -> Planned {
        let side = if self.random.random_range(0..2) == 0 { "BUY" } else { "SELL" };
        let mut parameters = vec![
            ("symbol", json!(SYMBOL)),
            ("side", json!(side)),
            ("type", json!(kind)),
            ("newClientOrderId", json!(name)),
            ("newOrderRespType", json!("FULL")),
            ("quantity", json!(self.quantity())),
        ];
        parameters.extend(time_in_force.map(|word| ("timeInForce", json!(word))));
        if kind != "MARKET" {
            parameters.push(("price", json!(self.price())));
        }
        Planned { method, name: Some(name), parameters }
    }

    fn price(&mut self) -> String {
        let cents = self.random.random_range(23_000..23_100);
        format!("{}.{:02}", cents / 100, cents % 100)
    }

    fn quantity(&mut self) -> String {
        let units: u64 = self.random.random_range(1..500_000_000);
        format!("{}.{:08}", units / 100_000_000, units % 100_000_000)
    }
}

async fn drive(address: Address, mut flow: Flow, in_flight: usize, stop: Arc<AtomicBool>) -> Vec<Record> {
    let mut records = Vec::new();
    let url = format!("ws://{address}/ws-api/v3?returnRateLimits=false&returnSequence=true");
    let Ok((stream, _)) = tokio_tungstenite::connect_async_with_config(&url, None, true).await else {
        return records;
    };
    let who = credentials(flow.account);
    let (mut sink, mut stream) = stream.split();
    let mut waiting = BTreeMap::new();
    let mut id = 0;
    loop {
        let mut sent = true;
        while sent && waiting.len() < in_flight && !stop.load(Ordering::Relaxed) {
            let planned = flow.plan();
            id += 1;
            let text = signed_request(id, planned.method, &planned.parameters, &who);
            waiting.insert(id, planned);
            sent = sink.feed(Message::text(text)).await.is_ok();
        }
        if waiting.is_empty() || !sent || sink.flush().await.is_err() {
            break;
        }
        match stream.next().await {
            Some(Ok(Message::Text(text))) => {
                let answer: Value = serde_json::from_str(&text).expect("an answer is JSON");
                if answer.get("event").is_some() {
                    // The server says that it is about to stop.
                    continue;
                }
                let planned = answer["id"].as_u64().and_then(|id| waiting.remove(&id));
                let planned = planned.unwrap_or_else(|| panic!("an answer to nothing that was asked: {text}"));
                records.push(record(flow.account, planned, outcome(answer)));
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => break,
            Some(Ok(_)) => {}
        }
    }
    records.extend(waiting.into_values().map(|planned| record(flow.account, planned, Outcome::Unknown)));
    records
}

fn record(account: usize, planned: Planned, outcome: Outcome) -> Record {
    Record { account, method: planned.method, name: planned.name, outcome }
}

/// What an answer with `returnSequence=true` says.
pub(crate) fn outcome(mut answer: Value) -> Outcome {
    let status = answer["status"].as_u64().expect("an answer has a status");
    if status == 200 {
        let sequence = answer["sequence"].as_u64().unwrap_or_else(|| panic!("done without a sequence: {answer}"));
        return Outcome::Done { sequence, result: answer["result"].take() };
    }
    match answer["error"]["code"].as_i64().expect("an error has a code") {
        TIMEOUT_CODE => Outcome::Unknown,
        code => Outcome::Refused { status, code },
    }
}
