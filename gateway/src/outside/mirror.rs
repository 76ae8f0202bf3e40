//! `rialto feed mirror`: the book of a venue outside stands again in an ordinary symbol, as the orders of a market maker.
//!
//! It looks at its own orders every round and changes what differs from the copy of the book outside, so whatever was lost on
//! the way is mended by the next round. Its account is its own: all orders that it has in the symbol are taken for the
//! mirror's. When it stops, or the source is stale, all are canceled; when it dies, the exchange's dead man's switch does that.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use engine::order::Side;
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::connection::Venue;
use super::ladder::{Change, Rules, Standing};
use super::price::event_of;
use super::source::{News, Source};
use crate::book_sync::{BookSync, Diff, Snapshot};
use crate::client::{
    Address, Answer, ClientError, Credentials, Rest, WsApi, WsApiReceiver, WsApiSender, signed_request,
};
use crate::say;

/// How long an answer may take before the connection is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Levels of the snapshot that is asked for.
const SNAPSHOT_LEVELS: usize = 1_000;
/// The shortest time between two snapshots.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);
/// "Unknown order sent.": it was filled or canceled meanwhile.
const UNKNOWN: [i64; 2] = [-2011, -2038];
/// Codes after which it makes no sense to go on: a key that may not.
const HOPELESS: [i64; 3] = [-2014, -2015, -1022];

/// What to do.
pub struct Terms {
    /// Where the book is.
    pub source: Source,
    /// Where its snapshots are; of a recording they are in it.
    pub snapshots: Option<Venue>,
    /// The symbol's name outside, in capitals.
    pub outside: String,
    /// The symbol here.
    pub symbol: String,
    /// The exchange.
    pub to: Address,
    /// The market maker's key.
    pub key: Credentials,
    /// Levels on each side.
    pub levels: usize,
    /// How many times what stands outside.
    pub scale: Decimal,
    /// How long a round is.
    pub interval: Duration,
    /// The most orders changed in a round.
    pub changes: usize,
    /// After how long without a sign of life the source is stale.
    pub stale: Duration,
    /// After how long the exchange cancels all where nothing is heard of the mirror.
    pub dead_man: Duration,
}

/// How it went.
#[derive(Debug, Default)]
struct Summary {
    messages: u64,
    unreadable: u64,
    snapshots: u64,
    faults: u64,
    rounds: u64,
    placed: u64,
    lowered: u64,
    canceled: u64,
    refused: BTreeMap<String, u64>,
    lost_source: u64,
    lost_exchange: u64,
    stale: u64,
}

/// The exchange's side.
struct Exchange {
    sender: WsApiSender,
    receiver: WsApiReceiver,
    next_id: u64,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, rename = "e")]
    event: Option<&'a str>,
    #[serde(borrow, rename = "s")]
    symbol: Option<&'a str>,
    #[serde(rename = "lastUpdateId")]
    last: Option<u64>,
}

/// The copy of the book outside, and how it stands.
struct Outside {
    book: BookSync,
    alive: Instant,
    /// When a snapshot was asked for; none while none is on its way.
    asked: Option<Instant>,
    ended: Option<Result<(), String>>,
}

/// Mirrors until the source ends or `stop` resolves.
pub async fn run(terms: Terms, is_json: bool, stop: impl Future<Output = Result<(), String>>) -> ExitCode {
    let mut summary = Summary::default();
    let outcome = mirror(&terms, &mut summary, stop).await;
    say!("{}", if is_json { summary.json().to_string() } else { summary.text() });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("feed: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn mirror(
    terms: &Terms,
    summary: &mut Summary,
    stop: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    let rules = rules(terms).await?;
    let mut stop = std::pin::pin!(stop);
    let mut news = terms.source.clone().start(terms.stale / 3);
    let (snapshot_sender, mut snapshots) = mpsc::channel(1);
    let mut outside = Outside { book: BookSync::new(), alive: Instant::now(), asked: None, ended: None };
    let (mut exchange, mut backoff, mut not_before) = (None, Backoff::default(), Instant::now());
    let mut round = tokio::time::interval(terms.interval);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut is_stale, mut armed): (bool, Option<Instant>) = (true, None);
    let outcome = loop {
        tokio::select! {
            stopped = &mut stop => break stopped,
            said = news.recv(), if outside.ended.is_none() => outside.hear(said, terms, summary),
            Some(got) = snapshots.recv() => outside.take(got, summary),
            _ = round.tick() => {
                if outside.wants_snapshot() && let Some(venue) = terms.snapshots.clone() {
                    outside.asked = Some(Instant::now());
                    let (sender, symbol) = (snapshot_sender.clone(), terms.outside.clone());
                    tokio::spawn(async move {
                        let _ = sender.send(fetch(&venue, &symbol).await).await;
                    });
                }
                let was_stale = is_stale;
                is_stale = outside.alive.elapsed() > terms.stale || outside.book.last_update().is_none();
                if is_stale && !was_stale {
                    summary.stale += 1;
                    tracing::warn!("the book outside is stale: all orders are canceled");
                }
                if exchange.is_none() && Instant::now() >= not_before {
                    match tokio::time::timeout(ANSWER_TIMEOUT, WsApi::connect(&terms.to)).await {
                        Ok(Ok(api)) => {
                            let (sender, receiver) = api.split();
                            exchange = Some(Exchange { sender, receiver, next_id: 0 });
                            armed = None;
                        }
                        failed => {
                            if let Ok(Err(why)) = failed {
                                tracing::warn!("the exchange is not there: {why}");
                            }
                            not_before = Instant::now() + backoff.fail();
                        }
                    }
                }
                let Some(connected) = &mut exchange else { continue };
                let done = tokio::time::timeout(ANSWER_TIMEOUT, connected.round(terms, &rules, &outside.book, is_stale, &mut armed, summary));
                match done.await {
                    Ok(Ok(is_done)) => {
                        backoff.succeed();
                        if let Some(ended) = outside.ended.take_if(|_| is_done) {
                            break ended;
                        }
                    }
                    Ok(Err(Lost::Hopeless(why))) => break Err(why),
                    lost => {
                        let why = match lost {
                            Ok(Err(Lost::Connection(why))) => why,
                            _ => "no answer".to_owned(),
                        };
                        summary.lost_exchange += 1;
                        tracing::warn!("the exchange is lost: {why}");
                        (exchange, not_before) = (None, Instant::now() + backoff.fail());
                    }
                }
            }
        }
    };
    // Whatever the connection was in the middle of, a new one cancels all.
    let goodbye = async {
        let (sender, receiver) = WsApi::connect(&terms.to).await?.split();
        let mut exchange = Exchange { sender, receiver, next_id: 0 };
        exchange.cancel_all(terms, summary).await?;
        exchange.countdown(terms, Duration::ZERO).await.map(|_| ())
    };
    match tokio::time::timeout(ANSWER_TIMEOUT, goodbye).await {
        Ok(Ok(())) => outcome,
        Ok(Err(why)) => outcome.and(Err(format!("the last orders could not be canceled: {why}"))),
        Err(_) => outcome.and(Err("the last orders could not be canceled: no answer".to_owned())),
    }
}

/// Why a round was not made.
enum Lost {
    Connection(String),
    Hopeless(String),
}

impl From<ClientError> for Lost {
    fn from(error: ClientError) -> Lost {
        Lost::Connection(error.to_string())
    }
}

impl Outside {
    fn hear(&mut self, said: Option<News>, terms: &Terms, summary: &mut Summary) {
        match said {
            None => self.ended = Some(Ok(())),
            Some(News::Ended(how)) => self.ended = Some(how),
            Some(News::Lost(why)) => {
                summary.lost_source += 1;
                tracing::warn!("the source is lost: {why}");
                self.book.reset();
            }
            Some(News::Connected) => {
                self.alive = Instant::now();
                self.book.reset();
                self.asked = None;
            }
            Some(News::Alive) => self.alive = Instant::now(),
            Some(News::Message { text, .. }) => {
                self.alive = Instant::now();
                summary.messages += 1;
                if self.message(&text, terms, summary).is_none() {
                    summary.unreadable += 1;
                }
            }
        }
    }

    fn message(&mut self, text: &str, terms: &Terms, summary: &mut Summary) -> Option<()> {
        let event = event_of(text)?;
        let kind: Kind = serde_json::from_str(event).ok()?;
        if kind.last.is_some() {
            self.take(Ok(serde_json::from_str(event).ok()?), summary);
        } else if kind.event == Some("depthUpdate") && kind.symbol == Some(&terms.outside) {
            let diff: Diff = serde_json::from_str(event).ok()?;
            if let Err(fault) = self.book.diff(diff) {
                summary.faults += 1;
                tracing::warn!("the copy of the book outside is lost: {fault}");
            }
        }
        Some(())
    }

    /// A snapshot came, or did not.
    fn take(&mut self, got: Result<Snapshot, String>, summary: &mut Summary) {
        match got.map(|snapshot| self.book.snapshot(snapshot)) {
            Ok(Ok(_)) => summary.snapshots += 1,
            Ok(Err(fault)) => {
                summary.faults += 1;
                tracing::debug!("a snapshot that does not fit: {fault}");
            }
            Err(why) => tracing::warn!("no snapshot: {why}"),
        }
    }

    fn wants_snapshot(&self) -> bool {
        let is_due = self.asked.is_none_or(|asked| asked.elapsed() > SNAPSHOT_EVERY);
        self.book.last_update().is_none() && self.ended.is_none() && is_due
    }
}

impl Exchange {
    /// One look, and what it takes to make the orders stand as the book outside does. Whether they do.
    async fn round(
        &mut self,
        terms: &Terms,
        rules: &Rules,
        book: &BookSync,
        is_stale: bool,
        armed: &mut Option<Instant>,
        summary: &mut Summary,
    ) -> Result<bool, Lost> {
        summary.rounds += 1;
        if armed.is_none_or(|armed| armed.elapsed() > terms.dead_man / 3) {
            summary.refused(&self.countdown(terms, terms.dead_man).await?)?;
            *armed = Some(Instant::now());
        }
        if is_stale {
            self.cancel_all(terms, summary).await?;
            return Ok(true);
        }
        let asked = vec![("openOrders.status", vec![("symbol", json!(terms.symbol))])];
        let Some(answer) = self.ask(asked, terms).await?.pop() else { return Ok(false) };
        summary.refused(&answer)?;
        let Some(standing) = answer.is_success().then(|| standing(&answer.body)).flatten() else { return Ok(false) };
        let bids = rules.changes(Side::Buy, &rules.wanted(Side::Buy, book.bids()), &standing);
        let asks = rules.changes(Side::Sell, &rules.wanted(Side::Sell, book.asks()), &standing);
        let mut changes: Vec<Change> = bids.into_iter().chain(asks).collect();
        // What stands in the way of what comes goes before it.
        changes.sort_by_key(|change| matches!(change, Change::Place(..)));
        let is_done = changes.is_empty();
        changes.truncate(terms.changes);
        let requests = changes.iter().map(|change| request(change, terms)).collect();
        for (change, answer) in changes.iter().zip(self.ask(requests, terms).await?) {
            match change {
                _ if !answer.is_success() => summary.refused(&answer)?,
                Change::Cancel(_) => summary.canceled += 1,
                Change::Lower(..) => summary.lowered += 1,
                Change::Place(..) => summary.placed += 1,
            }
        }
        Ok(is_done)
    }

    async fn cancel_all(&mut self, terms: &Terms, summary: &mut Summary) -> Result<(), ClientError> {
        let asked = vec![("openOrders.cancelAll", vec![("symbol", json!(terms.symbol))])];
        for answer in self.ask(asked, terms).await? {
            summary.canceled += answer.body.as_array().map_or(0, |canceled| canceled.len() as u64);
        }
        Ok(())
    }

    /// Arms the dead man's switch; with no time, disarms it.
    async fn countdown(&mut self, terms: &Terms, time: Duration) -> Result<Answer, ClientError> {
        let parameters = vec![
            ("symbol", json!(terms.symbol)),
            ("countdownTime", json!(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))),
        ];
        let answers = self.ask(vec![("countdownCancelAll", parameters)], terms).await?;
        answers.into_iter().next().ok_or_else(|| ClientError("no answer".to_owned()))
    }

    /// Asks all at once and waits for all answers.
    async fn ask(
        &mut self,
        requests: Vec<(&str, Vec<(&str, Value)>)>,
        terms: &Terms,
    ) -> Result<Vec<Answer>, ClientError> {
        let first = self.next_id + 1;
        for (method, parameters) in &requests {
            self.next_id += 1;
            self.sender.feed(signed_request(self.next_id, method, parameters, &terms.key)).await?;
        }
        self.sender.flush().await?;
        let mut answers: Vec<Option<Answer>> = requests.iter().map(|_| None).collect();
        while answers.iter().any(Option::is_none) {
            let (id, answer) = self.receiver.next().await?;
            let place = id.checked_sub(first).and_then(|at| answers.get_mut(usize::try_from(at).ok()?));
            if let Some(place) = place {
                *place = Some(answer);
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }
}

fn request<'a>(change: &Change, terms: &Terms) -> (&'a str, Vec<(&'a str, Value)>) {
    let symbol = ("symbol", json!(terms.symbol));
    match change {
        Change::Cancel(order_id) => ("order.cancel", vec![symbol, ("orderId", json!(order_id))]),
        Change::Lower(order_id, quantity) => {
            let quantity = ("newQty", json!(quantity.normalize().to_string()));
            ("order.amend.keepPriority", vec![symbol, ("orderId", json!(order_id)), quantity])
        }
        Change::Place(side, price, quantity) => {
            let side = if *side == Side::Buy { "BUY" } else { "SELL" };
            let parameters = vec![
                symbol,
                ("side", json!(side)),
                ("type", json!("LIMIT")),
                ("timeInForce", json!("GTC")),
                ("price", json!(price.normalize().to_string())),
                ("quantity", json!(quantity.normalize().to_string())),
                ("newOrderRespType", json!("ACK")),
            ];
            ("order.place", parameters)
        }
    }
}

/// The orders that stand; nothing where the answer is none that can be.
fn standing(body: &Value) -> Option<Vec<Standing>> {
    let number = |value: &Value| value.as_str()?.parse::<Decimal>().ok();
    let order = |row: &Value| {
        Some(Standing {
            order_id: row["orderId"].as_u64()?,
            side: if row["side"] == "BUY" { Side::Buy } else { Side::Sell },
            price: number(&row["price"])?,
            quantity: number(&row["origQty"])?,
            executed: number(&row["executedQty"])?,
        })
    };
    body.as_array()?.iter().map(order).collect()
}

/// What orders of the symbol must be like.
async fn rules(terms: &Terms) -> Result<Rules, String> {
    let answer = Rest::new(&terms.to).get("/api/v3/exchangeInfo", &[("symbol", &terms.symbol)]).await;
    let answer = answer.map_err(|why| format!("{}: {why}", terms.to))?;
    if !answer.is_success() {
        return Err(format!("{}: {} {}", terms.symbol, answer.code(), answer.message()));
    }
    let filters = &answer.body["symbols"][0]["filters"];
    let filter = |kind: &str, name: &str| {
        let found = filters.as_array()?.iter().find(|filter| filter["filterType"] == kind)?;
        found[name].as_str()?.parse::<Decimal>().ok()
    };
    let needed = |kind: &str, name: &str| {
        filter(kind, name).filter(|number| !number.is_zero()).ok_or_else(|| format!("{}: no {name}", terms.symbol))
    };
    let max_quantity = filter("LOT_SIZE", "maxQty").filter(|max| !max.is_zero()).unwrap_or(Decimal::MAX);
    Ok(Rules {
        tick: needed("PRICE_FILTER", "tickSize")?,
        step: needed("LOT_SIZE", "stepSize")?,
        min_quantity: filter("LOT_SIZE", "minQty").unwrap_or_default(),
        max_quantity,
        min_notional: filter("NOTIONAL", "minNotional").unwrap_or_default(),
        levels: terms.levels,
        scale: terms.scale,
    })
}

async fn fetch(venue: &Venue, symbol: &str) -> Result<Snapshot, String> {
    let body = venue.get(&format!("/api/v3/depth?symbol={symbol}&limit={SNAPSHOT_LEVELS}")).await?;
    serde_json::from_slice(&body).map_err(|why| format!("depth: {why}"))
}

impl Summary {
    /// Counts a refusal; an error where it makes no sense to go on.
    fn refused(&mut self, answer: &Answer) -> Result<(), Lost> {
        if answer.is_success() || UNKNOWN.contains(&answer.code()) {
            return Ok(());
        }
        let why = format!("{} {}", answer.code(), answer.message());
        if HOPELESS.contains(&answer.code()) {
            return Err(Lost::Hopeless(why));
        }
        *self.refused.entry(why).or_default() += 1;
        Ok(())
    }

    fn json(&self) -> Value {
        json!({
            "messages": self.messages,
            "unreadable": self.unreadable,
            "snapshots": self.snapshots,
            "book_lost": self.faults,
            "rounds": self.rounds,
            "placed": self.placed,
            "lowered": self.lowered,
            "canceled": self.canceled,
            "refused": self.refused,
            "source_lost": self.lost_source,
            "source_stale": self.stale,
            "exchange_lost": self.lost_exchange,
        })
    }

    fn text(&self) -> String {
        let mut lines = vec![
            format!("messages  {} ({} unreadable), snapshots {}", self.messages, self.unreadable, self.snapshots),
            format!("orders    placed {}, lowered {}, canceled {}", self.placed, self.lowered, self.canceled),
            format!("rounds    {}", self.rounds),
            format!(
                "lost      book {} times, source {} times, exchange {} times; stale {} times",
                self.faults, self.lost_source, self.lost_exchange, self.stale
            ),
        ];
        lines.extend(self.refused.iter().map(|(why, count)| format!("refused   {count} × {why}")));
        lines.join("\n")
    }
}
