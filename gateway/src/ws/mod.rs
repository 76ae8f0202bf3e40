//! Websockets: what a URL asks for, and the requests of a stream socket (SUBSCRIBE and its kin).
//!
//! `/ws`, `/ws/<stream>`, `/ws/<a>/<b>`, `/ws/<listenKey>` and `/ws/<number>` (no stream: some clients number their sockets)
//! send the events alone; `/stream` and `/stream?streams=<a>/<b>` wrap each with its stream's name. A name that means nothing
//! is accepted and stays silent, as at the venue. `/ws-api/v3` is in api.rs.
//!
//! Modules in reading order.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use axum::routing::any;
use axum::{Extension, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::app::{App, Peer};
use crate::clock;
use crate::feed::Outlets;
use crate::rest::error::ApiError;

mod request;
pub mod handshake;
mod deflate;
pub mod message;
mod decoder;
mod outgoing;
pub mod socket;
mod topic;
mod diff;
pub mod channel;
pub mod hub;
pub mod registry;
pub mod resume;
pub mod market_streams;
pub mod user_stream;
mod logon;
pub mod api;

use handshake::Upgrade;
use hub::{Form, Outbox, Subscription, TimeUnit, Topic};
use request::{echo, percent_decode, query_value, refuse, time_unit};
use socket::{Limits, Replies, Session};

/// The parameter by which a client that comes back goes on after the last id it has.
const RESUME_FROM: &str = "resumeFrom";

/// How many streams one URL or request may resume: what they missed is sent at once.
const RESUMED_MAX: usize = 8;

/// The paths of all websockets.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/ws", any(streams))
        .route("/ws/", any(streams))
        .route("/ws/{*streams}", any(streams))
        .route("/stream", any(streams))
        .route("/stream/", any(streams))
        .route("/ws-api/v3", any(api::upgrade))
        .route("/ws-api/v3/", any(api::upgrade))
}

async fn streams(
    State(app): State<Arc<App>>,
    Extension(Peer(peer)): Extension<Peer>,
    uri: Uri,
    upgrade: Upgrade,
) -> Response {
    if let Err(error) = app.limits.connect(peer.ip(), clock::now()) {
        return refuse(&error);
    }
    let target = match Target::parse(&uri) {
        Ok(target) => target,
        Err(error) => return refuse(&error),
    };
    let limits = Limits::from(&app.config.sockets);
    if target.names.len() > limits.streams_max {
        return refuse(&ApiError::too_many_parameters());
    }
    let (outlets, streams_max) = (app.outlets.clone(), limits.streams_max);
    let session = move |outbox| MarketSession::new(outlets, outbox, target, streams_max);
    socket::accept(upgrade, limits, app, peer, session)
}

/// What a URL asks for.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// Each with the last id of it that the client has, where it wants to go on from there.
    names: Vec<(String, Option<u64>)>,
    combined: bool,
    unit: TimeUnit,
}

impl Target {
    fn parse(uri: &Uri) -> Result<Target, ApiError> {
        let path = uri.path();
        let combined = path.trim_end_matches('/') == "/stream";
        let listed =
            if combined { query_value(uri, "streams").unwrap_or("") } else { path.strip_prefix("/ws").unwrap_or("") };
        // Some clients escape the slash between two names, so names are told apart after that is undone.
        let listed = percent_decode(listed).ok_or_else(ApiError::illegal_encoding)?;
        let is_stream = |name: &&str| !name.is_empty() && !name.bytes().all(|b| b.is_ascii_digit());
        let names = listed.split('/').filter(is_stream).map(str::to_owned);
        let mut ids = query_value(uri, RESUME_FROM).unwrap_or_default().split(',');
        let names = names.map(|name| match ids.next() {
            None | Some("") => Ok((name, None)),
            Some(id) => {
                Ok((name, Some(id.parse().map_err(|_| ApiError::illegal_characters(RESUME_FROM, "^[0-9]{1,20}$"))?)))
            }
        });
        let names = names.collect::<Result<Vec<_>, ApiError>>()?;
        if names.iter().filter(|(_, from)| from.is_some()).count() > RESUMED_MAX {
            return Err(ApiError::too_many_parameters());
        }
        Ok(Target { names, combined, unit: time_unit(uri)? })
    }
}

/// A socket for streams.
struct MarketSession {
    outlets: Outlets,
    outbox: Outbox,
    combined: bool,
    unit: TimeUnit,
    streams_max: usize,
    /// By name; nothing for a name that means nothing.
    subscriptions: BTreeMap<String, Option<Subscription>>,
    /// What was told from what is kept, to be sent after the answer.
    missed: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Method {
    Subscribe,
    Unsubscribe,
    ListSubscriptions,
    SetProperty,
    GetProperty,
}

#[derive(Deserialize)]
struct Request<'a> {
    method: Method,
    #[serde(default)]
    params: Option<Value>,
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
}

/// What can still be read of a request that is not one.
#[derive(Deserialize)]
struct Identified<'a> {
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
}

/// A refusal, by the small codes of stream sockets.
#[derive(Debug)]
struct Refusal(u8, String);

impl Refusal {
    fn invalid_request(text: impl std::fmt::Display) -> Refusal {
        Refusal(2, format!("Invalid request: {text}"))
    }
}

impl MarketSession {
    fn new(outlets: Outlets, outbox: Outbox, target: Target, streams_max: usize) -> MarketSession {
        let Target { names, combined, unit } = target;
        let (subscriptions, missed) = (BTreeMap::new(), Vec::new());
        let mut session = MarketSession { outlets, outbox, combined, unit, streams_max, subscriptions, missed };
        names.into_iter().for_each(|(name, from)| session.subscribe(name, from));
        session
    }

    /// Listens; from the event after `from` on, where that is said.
    fn subscribe(&mut self, name: String, from: Option<u64>) {
        if self.subscriptions.contains_key(&name) {
            return;
        }
        let subscription = self.topic(&name).map(|(topic, form)| {
            let hub = &self.outlets.hub;
            let listen = || hub.subscribe(topic, &self.outbox, form.clone(), self.unit);
            let Some(from) = from else { return listen() };
            let (subscription, events) =
                market_streams::resume(&self.outlets.hub, &self.outlets.views, &name, topic, from, self.unit, listen);
            self.missed.extend(events.iter().map(|event| form.wrap(event).into_owned()));
            subscription
        });
        self.subscriptions.insert(name, subscription);
    }

    fn unsubscribe(&mut self, name: &str) {
        self.subscriptions.remove(name);
    }

    /// What a name means at this time: a stream or a listen key.
    fn topic(&self, name: &str) -> Option<(Topic, Form)> {
        if let Some(topic) = market_streams::parse(name, &self.outlets.views.symbols()) {
            return Some((topic, if self.combined { Form::Combined(name.into()) } else { Form::Raw }));
        }
        let uid = self.outlets.listen_keys.owner(name, clock::now())?;
        let key = name.into();
        let form = if self.combined { Form::CombinedListenKey(key) } else { Form::ListenKey(key) };
        Some((Topic::User(uid), form))
    }

    fn set_combined(&mut self, combined: bool) {
        if self.combined != combined {
            self.combined = combined;
            let names: Vec<String> = self.subscriptions.keys().cloned().collect();
            self.subscriptions.clear();
            names.into_iter().for_each(|name| self.subscribe(name, None));
        }
    }

    /// What a request is answered with. Where it subscribes, the events come after the answer, because the same task writes
    /// both.
    fn answer(&mut self, method: Method, params: Option<Value>) -> Result<Value, Refusal> {
        let list = match params {
            None => Vec::new(),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(Refusal::invalid_request("params must be an array")),
        };
        match method {
            Method::Subscribe => {
                let names: Vec<_> = names(list)?.iter().map(|name| resumed(name)).collect::<Result<_, _>>()?;
                let new = names.iter().filter(|(name, _)| !self.subscriptions.contains_key(name)).count();
                let resumed = names.iter().filter(|(_, from)| from.is_some()).count();
                if self.subscriptions.len() + new > self.streams_max || resumed > RESUMED_MAX {
                    return Err(Refusal::invalid_request("too many parameters"));
                }
                names.into_iter().for_each(|(name, from)| self.subscribe(name, from));
                Ok(Value::Null)
            }
            Method::Unsubscribe => {
                names(list)?.iter().for_each(|name| self.unsubscribe(name));
                Ok(Value::Null)
            }
            Method::ListSubscriptions => Ok(self.subscriptions.keys().cloned().collect()),
            Method::GetProperty => {
                property(&list, 1)?;
                Ok(self.combined.into())
            }
            Method::SetProperty => {
                property(&list, 2)?;
                let combined = list.get(1).and_then(Value::as_bool);
                let combined = combined.ok_or(Refusal(1, "Invalid value type: expected Boolean".to_owned()))?;
                self.set_combined(combined);
                Ok(Value::Null)
            }
        }
    }
}

/// Streams' names.
fn names(list: Vec<Value>) -> Result<Vec<String>, Refusal> {
    let name = |value| match value {
        Value::String(name) => Ok(name),
        _ => Err(Refusal::invalid_request("stream name must be a string")),
    };
    list.into_iter().map(name).collect()
}

/// A stream's name, and the last id that the client has of it: `btcusdt@trade?resumeFrom=7`.
fn resumed(name: &str) -> Result<(String, Option<u64>), Refusal> {
    let Some((name, from)) = name.split_once('?') else { return Ok((name.to_owned(), None)) };
    let from = from.strip_prefix(RESUME_FROM).and_then(|rest| rest.strip_prefix('=')?.parse().ok());
    let from: u64 =
        from.ok_or_else(|| Refusal::invalid_request(format!("only ?{RESUME_FROM}=<id> may follow a stream")))?;
    Ok((name.to_owned(), Some(from)))
}

/// Whether the first of at most `most` parameters is the name of the one property there is.
fn property(list: &[Value], most: usize) -> Result<(), Refusal> {
    match list.first() {
        _ if list.len() > most => Err(Refusal::invalid_request("too many parameters")),
        Some(Value::String(name)) if name == "combined" => Ok(()),
        Some(Value::String(_)) => Err(Refusal(0, "Unknown property".to_owned())),
        _ => Err(Refusal::invalid_request("property name must be a string")),
    }
}

fn refused(refusal: &Refusal, id: &str) -> String {
    let error = serde_json::json!({ "code": refusal.0, "msg": refusal.1 });
    format!(r#"{{"error":{error},"id":{id}}}"#)
}

impl Session for MarketSession {
    const IS_LIMITED: bool = true;

    fn text(&mut self, text: Utf8Bytes, replies: &mut Replies) {
        let (answer, id) = match serde_json::from_str::<Request<'_>>(&text) {
            Ok(request) => match echo(request.id) {
                Some(id) => (self.answer(request.method, request.params), id),
                None => (Err(Refusal::invalid_request("request ID must be an unsigned integer")), "null"),
            },
            Err(error) if error.is_data() => {
                let known = serde_json::from_str::<Identified<'_>>(&text).ok();
                let id = known.and_then(|known| echo(known.id)).unwrap_or("null");
                (Err(Refusal::invalid_request(error)), id)
            }
            Err(error) => (Err(Refusal(3, format!("Invalid JSON: {error}"))), "null"),
        };
        replies.send(match answer {
            Ok(result) => format!(r#"{{"result":{result},"id":{id}}}"#),
            Err(refusal) => refused(&refusal, id),
        });
        self.missed.drain(..).for_each(|event| replies.send(event));
    }

    fn begin(&mut self, replies: &mut Replies) {
        self.missed.drain(..).for_each(|event| replies.send(event));
    }

    fn binary(&mut self, _: Bytes, replies: &mut Replies) {
        replies.send(refused(&Refusal(3, "Invalid JSON: expected a text frame".to_owned()), "null"));
    }

    fn shutdown(&mut self) -> Option<Utf8Bytes> {
        let event = format!(r#"{{"e":"serverShutdown","E":{}}}"#, self.unit.of(clock::now()));
        let wrapped = format!(r#"{{"stream":"!serverShutdown","data":{event}}}"#);
        Some(if self.combined { wrapped } else { event }.into())
    }

    fn end(&mut self) {
        self.subscriptions.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::Uid;

    fn target(uri: &str) -> Result<Target, ApiError> {
        Target::parse(&uri.parse().unwrap())
    }

    fn session(combined: bool) -> MarketSession {
        let (outbox, _) = hub::outbox();
        let target = Target { names: Vec::new(), combined, unit: TimeUnit::Millisecond };
        MarketSession::new(Outlets::default(), outbox, target, 3)
    }

    #[test]
    fn every_form_of_url_is_understood() {
        for (uri, combined, names) in [
            ("/ws", false, ""),
            ("/ws/", false, ""),
            ("/ws/0", false, ""),
            ("/ws/17", false, ""),
            ("/ws/btcusdt@trade", false, "btcusdt@trade"),
            ("/ws/btcusdt@trade/ethusdt@depth@100ms", false, "btcusdt@trade ethusdt@depth@100ms"),
            ("/ws/btcusdt%40trade", false, "btcusdt@trade"),
            ("/ws/!miniTicker@arr", false, "!miniTicker@arr"),
            ("/stream", true, ""),
            ("/stream?streams=", true, ""),
            ("/stream?streams=a@trade/b@trade&timeUnit=millisecond", true, "a@trade b@trade"),
            ("/stream?streams=a@trade%2Fb@trade", true, "a@trade b@trade"),
        ] {
            let target = target(uri).unwrap();
            let listed: Vec<_> = target.names.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!((target.combined, listed.join(" ").as_str()), (combined, names), "{uri}");
        }
        assert_eq!(target("/ws?timeUnit=MICROSECOND").unwrap().unit, TimeUnit::Microsecond);
        assert_eq!(target("/ws?timeUnit=hour").unwrap_err().code, -1194);
        let target_of = |uri: &str| target(uri).map(|target| target.names);
        let named = |name: &str, from| (name.to_owned(), from);
        assert_eq!(target_of("/ws/a@trade?resumeFrom=7").unwrap(), [named("a@trade", Some(7))]);
        assert_eq!(
            target_of("/stream?streams=a@trade/b@depth/c@trade&resumeFrom=,8").unwrap(),
            [named("a@trade", None), named("b@depth", Some(8)), named("c@trade", None)]
        );
        assert_eq!(target_of("/ws/a@trade?resumeFrom=x").unwrap_err().code, -1100);
        assert!(target("/ws/%ff").is_err() && target("/ws/%4").is_err());
    }

    /// Sends requests and returns the answers.
    fn talk(session: &mut MarketSession, requests: &[&str]) -> Vec<String> {
        let mut replies = Replies::default();
        requests.iter().for_each(|text| session.text((*text).into(), &mut replies));
        replies.take_ready()
    }

    #[test]
    fn ids_come_back_as_they_were_sent() {
        let request = |id: &str| format!(r#"{{"method":"LIST_SUBSCRIPTIONS","id":{id}}}"#);
        for id in ["1", "-7", "9223372036854775807", r#""a-b_c""#, "null", r#""\u00e9""#] {
            assert_eq!(talk(&mut session(false), &[&request(id)]), [format!(r#"{{"result":[],"id":{id}}}"#)]);
        }
        for id in ["1.5", "true", "[]", "{}", r#""0123456789012345678901234567890123456""#] {
            let answer = &talk(&mut session(false), &[&request(id)])[0];
            assert!(answer.contains("request ID") && answer.ends_with(r#""id":null}"#), "{answer}");
        }
    }

    #[test]
    fn subscriptions_come_and_go_and_are_bounded() {
        let mut session = session(true);
        let answers = talk(
            &mut session,
            &[
                r#"{"method":"SUBSCRIBE","params":["a@trade","b@trade","a@trade"],"id":1}"#,
                r#"{"method":"LIST_SUBSCRIPTIONS","id":2}"#,
                r#"{"method":"SUBSCRIBE","params":["c@trade","d@trade"],"id":3}"#,
                r#"{"method":"UNSUBSCRIBE","params":["a@trade","x@trade"],"id":4}"#,
                r#"{"method":"LIST_SUBSCRIPTIONS","id":5}"#,
                r#"{"method":"GET_PROPERTY","params":["combined"],"id":6}"#,
                r#"{"method":"SET_PROPERTY","params":["combined",false],"id":7}"#,
                r#"{"method":"GET_PROPERTY","params":["combined"],"id":8}"#,
            ],
        );
        assert_eq!(
            answers,
            [
                r#"{"result":null,"id":1}"#,
                r#"{"result":["a@trade","b@trade"],"id":2}"#,
                r#"{"error":{"code":2,"msg":"Invalid request: too many parameters"},"id":3}"#,
                r#"{"result":null,"id":4}"#,
                r#"{"result":["b@trade"],"id":5}"#,
                r#"{"result":true,"id":6}"#,
                r#"{"result":null,"id":7}"#,
                r#"{"result":false,"id":8}"#,
            ]
        );
    }

    #[test]
    fn what_is_not_a_request_gets_its_documented_code_and_keeps_its_id() {
        for (request, expected) in [
            (
                r#"{"method":"NOPE","id":7}"#,
                r#"{"code":2,"msg":"Invalid request: unknown variant `NOPE`, expected one of `SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY` at line 1 column 16"},"id":7}"#,
            ),
            (
                r#"{"id":"x"}"#,
                r#"{"code":2,"msg":"Invalid request: missing field `method` at line 1 column 10"},"id":"x"}"#,
            ),
            (
                r#"{"method":"SUBSCRIBE","params":[1],"id":7}"#,
                r#"{"code":2,"msg":"Invalid request: stream name must be a string"},"id":7}"#,
            ),
            (r#"{"method":"GET_PROPERTY","params":["x"],"id":7}"#, r#"{"code":0,"msg":"Unknown property"},"id":7}"#),
            (
                r#"{"method":"SET_PROPERTY","params":["combined",1],"id":7}"#,
                r#"{"code":1,"msg":"Invalid value type: expected Boolean"},"id":7}"#,
            ),
            ("nonsense", r#"{"code":3,"msg":"Invalid JSON: expected ident at line 1 column 2"},"id":null}"#),
            ("", r#"{"code":3,"msg":"Invalid JSON: EOF while parsing a value at line 1 column 0"},"id":null}"#),
        ] {
            assert_eq!(talk(&mut session(false), &[request]), [format!(r#"{{"error":{expected}"#)]);
        }
    }

    #[test]
    fn a_listen_key_is_a_stream_until_its_socket_ends() {
        let mut session = session(false);
        let key = session.outlets.listen_keys.create(Uid(1), clock::now()).unwrap();
        talk(&mut session, &[&format!(r#"{{"method":"SUBSCRIBE","params":["{key}"],"id":1}}"#)]);
        assert!(session.outlets.hub.listens(Topic::User(Uid(1))));
        session.end();
        assert!(!session.outlets.hub.has_users());
    }
}
