//! Two threads that speak with the node, so that keys never wait for it: one looks again and again, one does deeds in their order.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;

use super::overview::{self, Overview};
use super::state::Market;
use crate::admin::action::Action;
use crate::admin::caller::{Caller, ask};
use crate::client::Address;

/// How long an answer may take. A halt must not wait behind a node that is gone for longer than that.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Questions and deeds that wait; who asks for more is told so.
const WAITING_MAX: usize = 16;
/// Levels of a book and trades that are asked for.
const LEVELS: u16 = 20;
const TRADES: u16 = 200;
/// What stands in the log as why, where nobody says.
const REASON: &str = "by rialto top";

/// What came.
#[derive(Debug)]
pub enum Heard {
    /// How everything stands, or why that is not known.
    Overview(Result<Box<Overview>, String>),
    /// A symbol's book and trades.
    Market(Market),
    /// What came of a deed.
    Done(String),
    /// A key or a new size of the terminal; nothing more where that has ended.
    Terminal(Option<ratatui::crossterm::event::Event>),
}

/// What is looked at, and how often.
#[derive(Clone, Debug)]
pub struct Wants {
    /// How often.
    pub interval: Duration,
    /// Whether at all.
    pub is_paused: bool,
    /// The symbol whose book is wanted.
    pub symbol: Option<String>,
}

/// Where the public API is, if somebody said so; else the overview does.
pub type Url = Option<String>;

/// The two threads. They end once this is dropped.
pub struct Watch {
    wants: Sender<Wants>,
    deeds: Sender<(Action, String)>,
}

impl Watch {
    /// Starts them; what they hear goes to `heard`.
    pub fn start(caller: Caller, url: Url, wants: Wants, heard: mpsc::Sender<Heard>) -> std::io::Result<Watch> {
        let (want, wanted) = bounded(WAITING_MAX);
        let (deed, deeds) = bounded(WAITING_MAX);
        let (looking, doing, done) = (caller.clone(), caller, heard.clone());
        thread::Builder::new().name("look".to_owned()).spawn(move || look(&looking, url, wants, &wanted, &heard))?;
        thread::Builder::new().name("act".to_owned()).spawn(move || act(&doing, &deeds, &done))?;
        Ok(Watch { wants: want, deeds: deed })
    }

    /// From now on this is wanted.
    pub fn want(&self, wants: Wants) {
        // Only where a look takes longer than somebody needs for so many keys; the next key says it again.
        let _ = self.wants.try_send(wants);
    }

    /// Has something done; whether it will be.
    pub fn act(&self, action: Action, done: String) -> bool {
        self.deeds.try_send((action, done)).is_ok()
    }
}

/// How everything stands now.
pub fn overview(caller: &Caller) -> Result<Overview, String> {
    parse(caller.get(overview::PATH, TIMEOUT)?)
}

/// The same as it came.
pub fn overview_json(caller: &Caller) -> Result<Value, String> {
    caller.get(overview::PATH, TIMEOUT)
}

fn parse<T: DeserializeOwned>(answer: Value) -> Result<T, String> {
    serde_json::from_value(answer).map_err(|error| format!("the answer is not understood: {error}"))
}

fn look(caller: &Caller, url: Url, mut wants: Wants, wanted: &Receiver<Wants>, heard: &mpsc::Sender<Heard>) {
    let mut public = url;
    let mut due = Instant::now() + wants.interval;
    loop {
        let next = match wanted.recv_deadline(due) {
            Ok(wants) => Some(wants),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if let Some(next) = next {
            // The newest is what counts.
            wants = wanted.try_iter().last().unwrap_or(next);
        }
        due = Instant::now() + wants.interval;
        if !wants.is_paused {
            let overview = overview(caller);
            if let (None, Ok(Some(url))) = (&public, overview.as_ref().map(|it| &it.public_url)) {
                public = Some(url.clone());
            }
            if heard.blocking_send(Heard::Overview(overview.map(Box::new))).is_err() {
                return;
            }
        }
        if let Some(symbol) = wants.symbol.clone().filter(|_| !wants.is_paused) {
            let market = market(caller, public.as_deref(), symbol);
            if heard.blocking_send(Heard::Market(market)).is_err() {
                return;
            }
        }
    }
}

fn act(caller: &Caller, deeds: &Receiver<(Action, String)>, heard: &mpsc::Sender<Heard>) {
    for (action, done) in deeds {
        let said = match caller.act(REASON, action) {
            Ok(answer) => match answer["sequence"].as_u64() {
                Some(sequence) => format!("{done}, at sequence {sequence}"),
                None => done,
            },
            Err(why) => format!("Not done: {why}"),
        };
        if heard.blocking_send(Heard::Done(said)).is_err() {
            return;
        }
    }
}

fn market(caller: &Caller, url: Option<&str>, symbol: String) -> Market {
    let read = || -> Result<Market, String> {
        let url = url.ok_or("the node does not say where clients are served; say it with --url")?;
        let host = public_host(url, caller.address.ip())?;
        let get = |path: String| match ask(&host, "GET", &path, "", "", TIMEOUT)? {
            (200, body) => Ok(body),
            (status, body) => Err(format!("{host}: status {status} {}", body["msg"].as_str().unwrap_or_default())),
        };
        // A symbol is letters and digits; it need not be escaped.
        let depth = parse(get(format!("/api/v3/depth?symbol={symbol}&limit={LEVELS}"))?)?;
        let trades = parse(get(format!("/api/v3/trades?symbol={symbol}&limit={TRADES}"))?)?;
        Ok(Market { symbol: symbol.clone(), depth, trades, trouble: None })
    };
    read().unwrap_or_else(|trouble| Market { symbol: symbol.clone(), trouble: Some(trouble), ..Market::default() })
}

/// Host and port of a URL; a node that listens everywhere is found where its operators find it.
fn public_host(url: &str, node: IpAddr) -> Result<String, String> {
    let host = Address::parse(url).map_err(|error| error.to_string())?.to_string();
    let everywhere = ["0.0.0.0:", "[::]:"].into_iter().find_map(|it| host.strip_prefix(it));
    Ok(match (everywhere, node) {
        (None, _) => host,
        (Some(port), IpAddr::V4(node)) => format!("{node}:{port}"),
        (Some(port), IpAddr::V6(node)) => format!("[{node}]:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_listens_everywhere_is_asked_where_it_listens_for_operators() {
        let host = |url: &str, node: &str| public_host(url, node.parse().unwrap());
        assert_eq!(host("http://0.0.0.0:8080", "10.0.0.7").as_deref(), Ok("10.0.0.7:8080"));
        assert_eq!(host("http://[::]:8080", "2001:db8::1").as_deref(), Ok("[2001:db8::1]:8080"));
        assert_eq!(host("http://127.0.0.1:8080/", "10.0.0.7").as_deref(), Ok("127.0.0.1:8080"));
        assert!(host("https://127.0.0.1:8080", "10.0.0.7").unwrap_err().contains("TLS"));
    }
}
