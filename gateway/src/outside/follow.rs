//! `rialto feed follow`: the prices of a venue outside become the reference prices of quote-driven symbols.
//!
//! Of a live source the newest price counts: one request of a symbol is under way at a time, and what came meanwhile is
//! conflated. A price that stands is said again while the source gives signs of life, so that it holds; a source that gives
//! none is stale, and its prices end at the exchange by themselves. Of a recording that is taken as fast as it goes, every
//! price is sent, in order.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::process::ExitCode;
use std::time::Duration;

use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::price::{self, Price, Said};
use super::source::{News, Source, now_us};
use crate::client::{Address, Answer, ClientError, Credentials, WsApi, WsApiReceiver, WsApiSender, signed_request};
use crate::say;

/// Requests under way where every price of a recording is sent.
const IN_FLIGHT: usize = 64;
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take before the connection is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Codes after which it makes no sense to go on: a key that may not, a symbol that is not there or has a book.
const HOPELESS: [i64; 5] = [-2014, -2015, -1022, -1121, -2043];
/// Codes of an exchange that cannot take it just now: overloaded, or a limit is reached.
const BUSY: [i64; 3] = [-1003, -1008, -1015];
/// How long to wait then.
const PAUSE: Duration = Duration::from_millis(200);
/// "A later reference quote of this symbol holds."
const OUTDATED: i64 = -2010;

/// What to do.
pub struct Terms {
    /// Where prices come from.
    pub source: Source,
    /// Names outside, in capitals, with the names here.
    pub symbols: BTreeMap<String, String>,
    /// Whether the prices of trades count, and not the top of the book: a recording has both.
    pub by_trades: bool,
    /// The exchange.
    pub to: Address,
    /// Who says the prices there.
    pub key: Credentials,
    /// What they are said to come from.
    pub name: String,
    /// The shortest time between two prices of a symbol.
    pub interval: Duration,
    /// How often a price that stands is said again.
    pub refresh: Duration,
    /// After how long without a sign of life the source is stale.
    pub stale: Duration,
    /// Whether every price of a recording is sent.
    pub exact: bool,
}

/// How it went.
#[derive(Debug, Default)]
pub struct Summary {
    messages: u64,
    unreadable: u64,
    prices: u64,
    sent: u64,
    accepted: u64,
    outdated: u64,
    refused: BTreeMap<String, u64>,
    lost_source: u64,
    lost_exchange: u64,
    stale: u64,
    last: BTreeMap<String, (String, String)>,
    last_sequence: Option<u64>,
}

/// A symbol on its way.
#[derive(Default)]
struct Standing {
    /// The newest price, and when it was said.
    newest: Option<(Decimal, Decimal, u64)>,
    /// Whether it was not sent yet.
    is_new: bool,
    /// When the last was sent.
    sent: Option<Instant>,
    is_under_way: bool,
}

/// A price as it is sent.
#[derive(Clone)]
struct Quote {
    symbol: String,
    bid: Decimal,
    ask: Decimal,
    at_us: u64,
}

/// The exchange's side: a connection, and what is under way on it.
struct Exchange {
    connected: Option<(WsApiSender, WsApiReceiver)>,
    backoff: Backoff,
    not_before: Instant,
    next_id: u64,
    under_way: HashMap<u64, Quote>,
    oldest: Option<Instant>,
}

/// Follows until the source ends or `stop` resolves; what is said at the end, and how it ended.
pub async fn run(terms: Terms, is_json: bool, stop: impl Future<Output = Result<(), String>>) -> ExitCode {
    let mut summary = Summary::default();
    let outcome = follow(&terms, &mut summary, stop).await;
    say!("{}", if is_json { summary.json().to_string() } else { summary.text() });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("feed: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn follow(
    terms: &Terms,
    summary: &mut Summary,
    stop: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    let mut stop = std::pin::pin!(stop);
    let mut news = terms.source.clone().start(terms.stale / 3);
    let mut exchange = Exchange::new();
    let mut symbols: BTreeMap<String, Standing> = BTreeMap::new();
    // Prices of a recording that all are sent, in order.
    let mut queue: VecDeque<Quote> = VecDeque::new();
    let mut look = tokio::time::interval(terms.interval.clamp(Duration::from_millis(1), Duration::from_millis(20)));
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut alive, mut is_stale, mut ended) = (Instant::now(), true, None);
    loop {
        let idle = exchange.under_way.is_empty() && queue.is_empty() && !symbols.values().any(|it| it.is_new);
        if let Some(ended) = ended.take_if(|_| idle) {
            return ended;
        }
        tokio::select! {
            stopped = &mut stop => return stopped,
            // A recording waits until what was read of it is sent.
            said = news.recv(), if ended.is_none() && queue.len() < IN_FLIGHT => match said {
                None => ended = Some(Ok(())),
                Some(News::Ended(how)) => ended = Some(how),
                Some(News::Lost(why)) => {
                    summary.lost_source += 1;
                    tracing::warn!("the source is lost: {why}");
                }
                Some(News::Connected | News::Alive) => alive = Instant::now(),
                Some(News::Message { text, at_us }) => {
                    alive = Instant::now();
                    if std::mem::take(&mut is_stale) {
                        tracing::info!("the source is there");
                    }
                    summary.messages += 1;
                    match price::read(&text) {
                        None => summary.unreadable += 1,
                        Some(Said::Other) => {}
                        Some(Said::Price(said)) => take(terms, said, at_us, summary, &mut symbols, &mut queue),
                    }
                }
            },
            answer = exchange.answer() => match answer {
                Ok((quote, answer)) => {
                    if let Some(standing) = symbols.get_mut(&quote.symbol) {
                        standing.is_under_way = false;
                    }
                    if terms.exact && BUSY.contains(&answer.code()) {
                        // Nothing happened: it is sent again, a little later.
                        queue.push_front(quote);
                        tokio::time::sleep(PAUSE).await;
                    } else {
                        summary.answered(&quote, &answer)?;
                    }
                }
                Err(why) => {
                    summary.lost_exchange += 1;
                    tracing::warn!("the exchange is lost: {why}");
                    // What became of these is not known; of a recording they are sent again, else the newest is.
                    let again = exchange.lose();
                    if terms.exact {
                        again.into_iter().rev().for_each(|quote| queue.push_front(quote));
                    } else {
                        for quote in again {
                            if let Some(standing) = symbols.get_mut(&quote.symbol) {
                                (standing.is_under_way, standing.is_new) = (false, true);
                            }
                        }
                    }
                }
            },
            _ = look.tick() => {
                if !is_stale && alive.elapsed() > terms.stale && ended.is_none() {
                    is_stale = true;
                    summary.stale += 1;
                    tracing::warn!("the source is stale: nothing came for {:?}; its prices end", terms.stale);
                }
            }
        }
        if !exchange.is_ready(&terms.to).await {
            continue;
        }
        let sent = if terms.exact {
            send_all(terms, &mut exchange, &mut queue, summary).await
        } else {
            send_newest(terms, &mut exchange, &mut symbols, is_stale, summary).await
        };
        if let Err(why) = sent {
            tracing::warn!("the exchange is lost: {why}");
            exchange.fail();
        }
    }
}

/// A price came.
fn take(
    terms: &Terms,
    said: Price,
    at_us: u64,
    summary: &mut Summary,
    symbols: &mut BTreeMap<String, Standing>,
    queue: &mut VecDeque<Quote>,
) {
    let Some(symbol) = terms.symbols.get(&said.symbol).filter(|_| said.is_trade == terms.by_trades) else { return };
    summary.prices += 1;
    let standing = symbols.entry(symbol.clone()).or_default();
    let is_other = standing.newest.is_none_or(|(bid, ask, _)| (bid, ask) != (said.bid, said.ask));
    let at_us = said.at_ms.map_or(at_us, |at_ms| at_ms.saturating_mul(1_000));
    standing.newest = Some((said.bid, said.ask, at_us));
    if is_other && terms.exact {
        queue.push_back(Quote { symbol: symbol.clone(), bid: said.bid, ask: said.ask, at_us });
    } else {
        standing.is_new |= is_other;
    }
}

async fn send_all(
    terms: &Terms,
    exchange: &mut Exchange,
    queue: &mut VecDeque<Quote>,
    summary: &mut Summary,
) -> Result<(), ClientError> {
    while exchange.under_way.len() < IN_FLIGHT
        && let Some(quote) = queue.pop_front()
    {
        summary.sent += 1;
        exchange.send(terms, quote).await?;
    }
    exchange.flush().await
}

/// The newest of each symbol, where it is its turn; one that stands, again.
async fn send_newest(
    terms: &Terms,
    exchange: &mut Exchange,
    symbols: &mut BTreeMap<String, Standing>,
    is_stale: bool,
    summary: &mut Summary,
) -> Result<(), ClientError> {
    for (symbol, standing) in symbols {
        let Some((bid, ask, at_us)) = standing.newest.filter(|_| !standing.is_under_way) else { continue };
        let is_due = standing.sent.is_none_or(|sent| sent.elapsed() >= terms.interval);
        let fades = standing.sent.is_none_or(|sent| sent.elapsed() >= terms.refresh);
        let again = fades && !is_stale && !terms.source.is_file();
        if !(standing.is_new && is_due || again) {
            continue;
        }
        // What is said again is so now.
        let at_us = if standing.is_new { at_us } else { at_us.max(now_us()) };
        (standing.is_new, standing.is_under_way, standing.sent) = (false, true, Some(Instant::now()));
        summary.sent += 1;
        exchange.send(terms, Quote { symbol: symbol.clone(), bid, ask, at_us }).await?;
    }
    exchange.flush().await
}

impl Exchange {
    fn new() -> Exchange {
        Exchange {
            connected: None,
            backoff: Backoff::default(),
            not_before: Instant::now(),
            next_id: 0,
            under_way: HashMap::new(),
            oldest: None,
        }
    }

    /// Whether it is connected; connects where it is time to.
    async fn is_ready(&mut self, address: &Address) -> bool {
        if self.connected.is_none() && Instant::now() >= self.not_before {
            match tokio::time::timeout(CONNECT_TIMEOUT, WsApi::connect(address)).await {
                Ok(Ok(api)) => self.connected = Some(api.split()),
                failed => {
                    let why = failed.map_or_else(
                        |_| "no answer".to_owned(),
                        |failed| failed.err().map_or_else(String::new, |why| why.to_string()),
                    );
                    tracing::warn!("the exchange is not there: {why}");
                    self.not_before = Instant::now() + self.backoff.fail();
                }
            }
        }
        self.connected.is_some()
    }

    async fn send(&mut self, terms: &Terms, quote: Quote) -> Result<(), ClientError> {
        self.next_id += 1;
        let parameters = [
            ("symbol", json!(quote.symbol)),
            ("bidPrice", json!(quote.bid.normalize().to_string())),
            ("askPrice", json!(quote.ask.normalize().to_string())),
            ("source", json!(terms.name)),
            ("sourceTime", json!(quote.at_us)),
        ];
        let request = signed_request(self.next_id, "referenceQuote", &parameters, &terms.key);
        self.under_way.insert(self.next_id, quote);
        self.oldest.get_or_insert_with(Instant::now);
        match &mut self.connected {
            Some((sender, _)) => sender.feed(request).await,
            None => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<(), ClientError> {
        match &mut self.connected {
            Some((sender, _)) => sender.flush().await,
            None => Ok(()),
        }
    }

    /// The next answer, or that the connection is lost; pending while nothing is under way.
    async fn answer(&mut self) -> Result<(Quote, Answer), ClientError> {
        let Some((_, receiver)) = self.connected.as_mut() else {
            if self.under_way.is_empty() {
                return std::future::pending().await;
            }
            return Err(ClientError("not connected".to_owned()));
        };
        if self.under_way.is_empty() {
            return std::future::pending().await;
        }
        let until = self.oldest.unwrap_or_else(Instant::now) + ANSWER_TIMEOUT;
        loop {
            let next = tokio::time::timeout_at(until, receiver.next()).await;
            let (id, answer) = next.map_err(|_| ClientError("no answer".to_owned()))??;
            if let Some(quote) = self.under_way.remove(&id) {
                self.backoff.succeed();
                self.oldest = (!self.under_way.is_empty()).then(Instant::now);
                return Ok((quote, answer));
            }
        }
    }

    /// The connection does not serve any more.
    fn fail(&mut self) {
        self.connected = None;
        self.not_before = Instant::now() + self.backoff.fail();
    }

    /// What was under way on a connection that is lost, oldest first.
    fn lose(&mut self) -> Vec<Quote> {
        self.fail();
        self.oldest = None;
        let mut lost: Vec<(u64, Quote)> = self.under_way.drain().collect();
        lost.sort_unstable_by_key(|(id, _)| *id);
        lost.into_iter().map(|(_, quote)| quote).collect()
    }
}

impl Summary {
    /// Counts an answer; an error where it makes no sense to go on.
    fn answered(&mut self, quote: &Quote, answer: &Answer) -> Result<(), String> {
        if answer.is_success() {
            self.accepted += 1;
            self.last_sequence = answer.sequence.or(self.last_sequence);
            self.last.insert(quote.symbol.clone(), (quote.bid.to_string(), quote.ask.to_string()));
            return Ok(());
        }
        let why = format!("{} {}", answer.code(), answer.message());
        if answer.code() == OUTDATED {
            self.outdated += 1;
            return Ok(());
        }
        *self.refused.entry(why.clone()).or_default() += 1;
        if HOPELESS.contains(&answer.code()) { Err(format!("{}: {why}", quote.symbol)) } else { Ok(()) }
    }

    fn json(&self) -> Value {
        let last = self.last.iter().map(|(symbol, (bid, ask))| (symbol.clone(), json!({ "bid": bid, "ask": ask })));
        json!({
            "messages": self.messages,
            "unreadable": self.unreadable,
            "prices": self.prices,
            "sent": self.sent,
            "accepted": self.accepted,
            "outdated": self.outdated,
            "refused": self.refused,
            "source_lost": self.lost_source,
            "source_stale": self.stale,
            "exchange_lost": self.lost_exchange,
            "last": last.collect::<serde_json::Map<_, _>>(),
        })
    }

    fn text(&self) -> String {
        let mut lines = vec![
            format!("messages  {} ({} unreadable), prices {}", self.messages, self.unreadable, self.prices),
            format!("sent      {}, accepted {}, outdated {}", self.sent, self.accepted, self.outdated),
            format!(
                "lost      source {} times, exchange {} times; stale {} times",
                self.lost_source, self.lost_exchange, self.stale
            ),
        ];
        lines.extend(self.refused.iter().map(|(why, count)| format!("refused   {count} × {why}")));
        lines.extend(self.last.iter().map(|(symbol, (bid, ask))| format!("last      {symbol} {bid} / {ask}")));
        lines.join("\n")
    }
}
