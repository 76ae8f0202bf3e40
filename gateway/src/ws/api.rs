//! The WS API: requests over a websocket, answered through the same table as REST.
//!
//! Many requests may be under way on one socket; each is answered when its answer is there. What must keep its order does:
//! a request's command is in its lane before the next request is read. The parameters' JSON tokens are kept as they came,
//! because they are what the client signed.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Extension;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use bytes::Bytes;
use engine::command::Permission;
use engine::{Command, Time, Uid};
use futures_util::FutureExt;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::answered::Unconfirmed;
use crate::app::{App, Peer};
use crate::auth::{self, Credentials, Security};
use crate::clock;
use crate::decimals::push_integer;
use crate::params::Params;
use crate::rest::account::order_count_rows;
use crate::rest::error::ApiError;
use crate::rest::{Reply, Route};
use crate::stages::Arrival;
use crate::traces::Told;
use crate::ws::handshake::Upgrade;
use crate::ws::hub::{self, Form, Outbox, TimeUnit, Topic};
use crate::ws::logon::Logon;
use crate::ws::request::{echo, query_value, refuse, time_unit};
use crate::ws::socket::{self, Limits, Replies, Session};

/// What opening a socket uses of the address's request weight.
const CONNECT_WEIGHT: u32 = 2;
/// What a request about subscriptions uses of it.
const SUBSCRIPTION_WEIGHT: u32 = 2;
/// How many accounts a socket may listen to at once.
const SUBSCRIPTIONS_MAX: usize = 1_000;
/// How many subscriptions a socket may make in its life.
const SUBSCRIPTIONS_EVER_MAX: u64 = 65_535;

/// The methods that are not in the table that REST has too.
const OWN_METHODS: [&str; 7] = [
    "userDataStream.subscribe",
    "userDataStream.subscribe.signature",
    "userDataStream.unsubscribe",
    "session.logon",
    "session.status",
    "session.logout",
    "session.subscriptions",
];

/// In the URL: an account that trades through the socket wants all its open orders canceled when the socket closes. In a
/// subscription: the account that subscribes does.
const CANCEL_ON_DISCONNECT: &str = "cancelOnDisconnect";

/// `/ws-api/v3`.
pub(super) async fn upgrade(
    State(app): State<Arc<App>>,
    Extension(Peer(peer)): Extension<Peer>,
    uri: Uri,
    upgrade: Upgrade,
) -> Response {
    let address = peer.ip();
    let now = clock::now();
    let counted = app.limits.connect(address, now).and_then(|()| app.limits.use_weight(address, CONNECT_WEIGHT, now));
    if let Err(error) = counted {
        return refuse(&error);
    }
    let unit = match time_unit(&uri) {
        Ok(unit) => unit,
        Err(error) => return refuse(&error),
    };
    let wants = |name: &str, default: bool| query_value(&uri, name).map_or(default, |value| value == "true");
    let shape =
        Shape { has_rate_limits: wants("returnRateLimits", true), has_sequence: wants("returnSequence", false) };
    let limits = Limits::from(&app.config.sockets);
    let cancels_all = wants(CANCEL_ON_DISCONNECT, false);
    let session = {
        let app = app.clone();
        move |outbox| ApiSession {
            app,
            address,
            unit,
            shape,
            outbox,
            logon: Logon::new(clock::now()),
            subscriptions: Vec::new(),
            next_subscription: 0,
            cancels_all,
            cancels: BTreeSet::new(),
            unconfirmed: Unconfirmed::default(),
        }
    };
    socket::accept(upgrade, limits, app, peer, session)
}

/// A socket for requests.
struct ApiSession {
    app: Arc<App>,
    address: IpAddr,
    unit: TimeUnit,
    shape: Shape,
    outbox: Outbox,
    logon: Logon,
    subscriptions: Vec<Subscription>,
    next_subscription: u64,
    /// Whether all accounts that trade through this socket lose their open orders when it closes.
    cancels_all: bool,
    /// The accounts that lose their open orders when it closes.
    cancels: BTreeSet<Uid>,
    /// What was answered and may not have arrived.
    unconfirmed: Unconfirmed,
}

/// An account that the socket listens to.
struct Subscription {
    id: u64,
    uid: Uid,
    /// Whether it was made by whoever is logged on, and ends with the logon.
    is_of_logon: bool,
    /// Events come as long as it is held; they begin after the answer.
    events: Option<hub::Subscription>,
}

/// Which optional fields an answer has.
#[derive(Clone, Copy)]
struct Shape {
    has_rate_limits: bool,
    has_sequence: bool,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(default, borrow)]
    params: Option<Pairs<'a>>,
}

/// Names and JSON tokens, in the order received.
#[derive(Default)]
struct Pairs<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::with_capacity(16);
                while let Some((Name(name), token)) = map.next_entry()? {
                    pairs.push((name, token));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A key that is borrowed unless it has an escape.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// A token as it is signed and read: a text without its quotes, anything else as it came.
fn token_text(token: &RawValue) -> Cow<'_, str> {
    let raw = token.get();
    match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(text) if !text.contains('\\') => Cow::Borrowed(text),
        // It was parsed once already, so it is a text.
        Some(_) => Cow::Owned(serde_json::from_str(raw).unwrap_or_default()),
        None if raw == "null" => Cow::Borrowed(""),
        None => Cow::Borrowed(raw),
    }
}

impl ApiSession {
    fn handle(&mut self, request: Request<'_>, id: &str, arrival: Arrival, replies: &mut Replies) {
        let now = arrival.time;
        let pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> =
            request.params.unwrap_or_default().0.into_iter().map(|(name, token)| (name, token_text(token))).collect();
        let value = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, text)| &**text);
        let shape = Shape {
            has_rate_limits: value("returnRateLimits").map_or(self.shape.has_rate_limits, |text| text != "false"),
            has_sequence: value("returnSequence").map_or(self.shape.has_sequence, |text| text == "true"),
        };
        let method = request.method.strip_prefix("v3/").unwrap_or(&request.method);
        let mut answering = Answering {
            app: self.app.clone(),
            id: id.to_owned(),
            shape,
            address: self.address,
            unit: self.unit,
            unconfirmed: self.unconfirmed.clone(),
            traced: Some(Traced { arrival, name: span_name(method), uid: None }),
        };
        let payload = auth::ws_payload(pairs.iter().map(|(name, text)| (&**name, &**text)));
        let api_key = value("apiKey").map(str::to_owned);
        if self.logon.is_revoked(&self.app.outlets.views.symbols()) {
            return replies.send(self.anonymous().write(Err(ApiError::rejected_key())));
        }
        let session = self.logon.key();
        let by = Credentials {
            api_key: api_key.as_deref(),
            session: session.as_deref(),
            token: None,
            payload: payload.as_bytes(),
            address: self.address,
        };

        let own = ["returnRateLimits", "returnSequence", "apiKey"];
        let rest = pairs.into_iter().filter(|(name, _)| !own.contains(&&**name));
        let params = Params::from_pairs(rest.map(|(name, text)| (name.into_owned(), text.into_owned())).collect());
        let params = match params {
            Ok(params) => params,
            Err(error) => return replies.send(answering.write(Err(error))),
        };

        if let Some(route) = Route::find_ws(method) {
            let (mut handling, caller) = route.handle(&self.app, params, &by, self.unit, arrival);
            answering.traced.iter_mut().for_each(|traced| traced.uid = caller.map(|caller| caller.uid));
            if self.cancels_all && route.security == Security::Trade {
                self.cancels.extend(caller.map(|caller| caller.uid));
            }
            // Most questions are answered at once; a command never is.
            if route.security != Security::Trade
                && let Some(answer) = (&mut handling).now_or_never()
            {
                return replies.send(answering.write(answer));
            }
            return replies.send_later(Box::pin(async move { answering.write(handling.await) }));
        }
        match method {
            "userDataStream.subscribe" | "userDataStream.subscribe.signature" => {
                let is_of_logon = method == "userDataStream.subscribe";
                let subscribed = self.subscribe(params, &by, is_of_logon, now);
                let json = subscribed.as_ref().map(|made| format!(r#"{{"subscriptionId":{}}}"#, made.id));
                let json = json.map_err(Clone::clone);
                replies.send(answering.write(json.map(reply)));
                // After the answer, which must be the first the client hears.
                if let Ok(mut made) = subscribed {
                    let (topic, form) = (Topic::User(made.uid), Form::Subscription(made.id));
                    made.events = Some(self.app.outlets.hub.subscribe(topic, &self.outbox, form, self.unit));
                    self.subscriptions.push(made);
                }
            }
            "userDataStream.unsubscribe" => {
                let ended = self.unsubscribe(params, now);
                let answer = ended.as_ref().map(|_| reply("{}".to_owned())).map_err(Clone::clone);
                replies.send(answering.write(answer));
                self.tell_ended(&ended.unwrap_or_default(), now, replies);
            }
            "session.logon" | "session.status" | "session.logout" => {
                let (asked, ended) = self.session(method, params, &by, now);
                let has_rate_limits = shape.has_rate_limits;
                let answer = asked.map(|()| {
                    reply(self.logon.status(self.unit, now, has_rate_limits, !self.subscriptions.is_empty()))
                });
                replies.send(answering.write(answer));
                self.tell_ended(&ended, now, replies);
            }
            "session.subscriptions" => {
                let ids = self.subscriptions.iter().map(|made| format!(r#"{{"subscriptionId":{}}}"#, made.id));
                let list = format!("[{}]", ids.collect::<Vec<_>>().join(","));
                let counted = self.app.limits.use_weight(self.address, SUBSCRIPTION_WEIGHT, now);
                replies.send(answering.write(counted.and_then(|_| params.finish()).map(|()| reply(list))));
            }
            _ => replies.send(answering.write(Err(ApiError::not_found()))),
        }
    }

    /// A request about the logon; and the subscriptions that ended by it.
    fn session(
        &mut self,
        method: &str,
        params: Params,
        by: &Credentials<'_>,
        now: Time,
    ) -> (Result<(), ApiError>, Vec<u64>) {
        if let Err(error) = self.app.limits.use_weight(self.address, SUBSCRIPTION_WEIGHT, now) {
            return (Err(error), Vec::new());
        }
        let asked = match method {
            "session.logon" => self.logon.log_on(&self.app.outlets.views.symbols(), params, by, now),
            _ => params.finish(),
        };
        if asked.is_ok() && method == "session.logout" {
            self.logon.log_out();
            return (asked, self.end_subscriptions(|made| made.is_of_logon));
        }
        (asked, Vec::new())
    }

    /// Who is to be listened to, under a new id: whoever is logged on, or whoever signs.
    fn subscribe(
        &mut self,
        mut params: Params,
        by: &Credentials<'_>,
        is_of_logon: bool,
        now: Time,
    ) -> Result<Subscription, ApiError> {
        self.app.limits.use_weight(self.address, SUBSCRIPTION_WEIGHT, now)?;
        let catalog = self.app.outlets.views.symbols();
        let uid = if is_of_logon {
            let key = auth::find_key(&catalog, Some(by.session.ok_or_else(ApiError::not_logged_on)?))?;
            let may_read = key.permissions.contains(&Permission::UserData);
            if may_read { key.uid } else { return Err(ApiError::rejected_key()) }
        } else {
            let by = Credentials { session: None, ..*by };
            let caller = auth::authenticate(&catalog, Security::UserData, &by, &mut params, now)?;
            caller.ok_or_else(ApiError::internal)?.uid
        };
        let cancels = params.boolean(CANCEL_ON_DISCONNECT)?.unwrap_or(false);
        params.finish()?;
        if self.subscriptions.iter().any(|made| made.uid == uid) {
            return Err(ApiError::subscription_active());
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX || self.next_subscription >= SUBSCRIPTIONS_EVER_MAX {
            return Err(ApiError::too_many_subscriptions());
        }
        if cancels {
            self.cancels.insert(uid);
        }
        let id = self.next_subscription;
        self.next_subscription += 1;
        Ok(Subscription { id, uid, is_of_logon, events: None })
    }

    /// The subscriptions that ended: the one that is named, or all.
    fn unsubscribe(&mut self, mut params: Params, now: Time) -> Result<Vec<u64>, ApiError> {
        self.app.limits.use_weight(self.address, SUBSCRIPTION_WEIGHT, now)?;
        let wanted = params.integer("subscriptionId")?;
        params.finish()?;
        let ended = self.end_subscriptions(|made| wanted.is_none_or(|wanted| wanted == made.id));
        if wanted.is_some() && ended.is_empty() {
            return Err(ApiError::subscription_inactive());
        }
        Ok(ended)
    }

    /// Ends those that `which` names; their ids.
    fn end_subscriptions(&mut self, which: impl Fn(&Subscription) -> bool) -> Vec<u64> {
        let ended: Vec<_> = self.subscriptions.extract_if(.., |made| which(made)).collect();
        ended.into_iter().map(|made| made.id).collect()
    }

    /// The last event of each.
    fn tell_ended(&self, ended: &[u64], now: Time, replies: &mut Replies) {
        let time = self.unit.of(now);
        for id in ended {
            replies.send(format!(r#"{{"subscriptionId":{id},"event":{{"e":"eventStreamTerminated","E":{time}}}}}"#));
        }
    }
}

fn reply(json: String) -> Reply {
    Reply { json, ..Reply::default() }
}

/// What an answer needs besides the answer.
struct Answering {
    app: Arc<App>,
    id: String,
    shape: Shape,
    address: IpAddr,
    unit: TimeUnit,
    unconfirmed: Unconfirmed,
    /// The request, for its trace; none where it could not be read.
    traced: Option<Traced>,
}

/// A request as its trace tells it.
struct Traced {
    arrival: Arrival,
    name: &'static str,
    uid: Option<Uid>,
}

/// What a trace calls a request: a name of ours, never what a client made up.
fn span_name(method: &str) -> &'static str {
    let known = Route::find_ws(method).map(|route| route.ws_method);
    known.or_else(|| OWN_METHODS.into_iter().find(|own| *own == method)).unwrap_or("unknown")
}

impl Answering {
    fn write(&self, answer: Result<Reply, ApiError>) -> Utf8Bytes {
        self.app.metrics.ws_api_requests.fetch_add(1, Ordering::Relaxed);
        let length = answer.as_ref().map_or(0, |reply| reply.json.len());
        let mut out = String::with_capacity(length + 512);
        out.push_str(r#"{"id":"#);
        out.push_str(&self.id);
        let mut placed_by = None;
        let traced = Told::of(&answer);
        let told = answer.as_ref().map_or_else(|error| error.sequence, |reply| reply.sequence);
        match answer {
            Ok(reply) => {
                out.push_str(r#","status":200,"result":"#);
                out.push_str(&reply.json);
                placed_by = reply.placed_by;
                self.unconfirmed.write(&reply.answers);
            }
            Err(error) => {
                self.app.metrics.count_error(error.code.into());
                self.push_error(&mut out, &error);
                self.unconfirmed.write(&error.answers);
            }
        }
        if self.shape.has_sequence {
            let sequence = told.unwrap_or_else(|| self.app.outlets.views.sequence());
            out.push_str(r#","sequence":"#);
            push_integer(&mut out, sequence.0);
        }
        if self.shape.has_rate_limits {
            self.push_rate_limits(&mut out, placed_by);
        }
        out.push('}');
        traced.journey().iter().for_each(|journey| self.app.outlets.stages.answered(journey));
        if let Some(Traced { arrival, name, uid }) = &self.traced {
            self.app.traces.finish(arrival, || (*name).to_owned(), *uid, &traced);
        }
        out.into()
    }

    fn push_error(&self, out: &mut String, error: &ApiError) {
        let mut body = error.clone();
        if let Some(seconds) = error.retry_after {
            let now = clock::now();
            let again = Time(now.0.saturating_add(seconds.saturating_mul(1_000_000)));
            let data = serde_json::json!({ "serverTime": self.unit.of(now), "retryAfter": self.unit.of(again) });
            body.data = Some(data.to_string());
        }
        let body = body.to_json();
        // Writing to a String cannot fail.
        let _ = write!(out, r#","status":{},"error":{body}"#, error.status);
    }

    /// What the address has used, and the account if it placed an order.
    fn push_rate_limits(&self, out: &mut String, placed_by: Option<Uid>) {
        let now = clock::now();
        let weight = self.app.limits.used_weight(self.address, now);
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            r#","rateLimits":[{{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":{},"count":{weight}}}"#,
            self.app.config.limits.request_weight_per_minute
        );
        if let Some(uid) = placed_by {
            for row in order_count_rows(&self.app, Some(uid), now) {
                let _ = write!(out, ",{row}");
            }
        }
        out.push(']');
    }
}

impl Session for ApiSession {
    const IS_LIMITED: bool = false;

    fn text(&mut self, text: Utf8Bytes, replies: &mut Replies) {
        let arrival = Arrival::now(self.app.traces.sample(|| None));
        let arrived = self.app.limits.arrive(self.address, arrival.time);
        if let Err(refusal) = &arrived
            && refusal.status == 418
        {
            replies.send(self.anonymous().write(Err(refusal.clone())));
            return replies.close(1008, "banned");
        }
        let refused = match serde_json::from_str::<Request<'_>>(&text) {
            Ok(request) => match (echo(request.id), arrived) {
                (Some(id), Ok(())) => return self.handle(request, id, arrival, replies),
                (Some(id), Err(refusal)) => {
                    let answering = Answering { id: id.to_owned(), ..self.anonymous() };
                    return replies.send(answering.write(Err(refusal)));
                }
                (None, _) => ApiError::illegal_characters("id", "^[a-zA-Z0-9-_]{1,36}$"),
            },
            Err(_) => ApiError::invalid_json(),
        };
        replies.send(self.anonymous().write(Err(refused)));
    }

    fn binary(&mut self, _: Bytes, replies: &mut Replies) {
        replies.send(self.anonymous().write(Err(ApiError::invalid_json())));
    }

    fn heard(&mut self) {
        self.unconfirmed.confirm(&self.app.answered, clock::now);
    }

    fn flushed(&mut self) {
        self.unconfirmed.flushed();
    }

    fn shutdown(&mut self) -> Option<Utf8Bytes> {
        let time = self.unit.of(clock::now());
        Some(format!(r#"{{"event":{{"e":"serverShutdown","E":{time}}}}}"#).into())
    }

    fn end(&mut self) {
        self.end_subscriptions(|_| true);
        for uid in std::mem::take(&mut self.cancels) {
            // Nobody waits for the answer. A door that is shut has let nothing in that would have to be canceled here.
            if let Err(error) = self.app.lanes.submit(uid, Command::CancelEverything { uid }, None) {
                tracing::warn!(%uid, code = error.code, "the orders of an account that disconnected stay open");
            }
        }
    }
}

impl ApiSession {
    /// For an answer to a request that has no id that could be told.
    fn anonymous(&self) -> Answering {
        let (app, id, unconfirmed) = (self.app.clone(), "null".to_owned(), self.unconfirmed.clone());
        Answering { app, id, shape: self.shape, address: self.address, unit: self.unit, unconfirmed, traced: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_kept_as_they_came() {
        let text = r#"{"id":"a","method":"v3/order.place","params":{"price":59997.0,"quantity":"0.10","x":true,"n":null,"l":["A","B"],"e":"a\u0062"}}"#;
        let request: Request<'_> = serde_json::from_str(text).unwrap();
        let pairs = request.params.unwrap().0;
        let tokens: Vec<_> = pairs.iter().map(|(name, token)| format!("{name}={}", token_text(token))).collect();
        assert_eq!(tokens, ["price=59997.0", "quantity=0.10", "x=true", "n=", r#"l=["A","B"]"#, "e=ab"]);
        assert_eq!(request.id.unwrap().get(), r#""a""#);
    }

    #[test]
    fn what_is_not_a_request_is_refused() {
        for text in
            ["", "[]", "1", r#"{"id":1}"#, r#"{"method":1}"#, r#"{"method":"a","params":[]}"#, "{\"method\":\"a\"} x"]
        {
            assert!(serde_json::from_str::<Request<'_>>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Request<'_>>(r#"{"method":"ping"}"#).is_ok());
    }
}
