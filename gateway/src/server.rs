//! Accepts sockets, bounds them, and takes each request to where it is answered.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use axum::middleware::map_response;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use engine::Uid;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::admin::perform::Refused;
use crate::answered::Unconfirmed;
use crate::app::{App, Peer};
use crate::auth::{Credentials, rest_payload};
use crate::body::{JSON, read_body};
use crate::client_address::{Network, counted};
use crate::clock;
use crate::config::SocketsConfig;
use crate::description;
use crate::edge::{self, Outcome};
use crate::login::{self, Asked};
use crate::params::Params;
use crate::request_line::RequestLines;
use crate::rest::error::ApiError;
use crate::rest::{Reply, Route};
use crate::stages::Arrival;
use crate::tls::Tls;
use crate::traces::Told;
use crate::web;
use crate::ws;
use crate::ws::hub::TimeUnit;

/// How long requests under way may take when the server stops; longer than a command's own timeout.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);
/// How long to wait after the system could not give a socket.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What a newcomer is told when all places are taken.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n\
    Content-Type: application/json;charset=UTF-8\r\nContent-Length: 110\r\n\r\n\
    {\"code\":-1008,\"msg\":\"Server is currently overloaded with other requests. Please try again in a few minutes.\"}\n";
/// How many newcomers are told so at a time, and how long each may take.
pub const REFUSED_AT_ONCE: usize = 64;
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// How often it is told that they are, or that there are no sockets.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// Headers of one request.
const HEADERS_MAX: usize = 100;
/// What a question of logins weighs.
const LOGIN_WEIGHT: u32 = 10;
/// Bytes of it.
const LOGIN_BODY_MAX: usize = 4 << 10;

const API_KEY: &str = "x-mbx-apikey";
const TRACEPARENT: &str = "traceparent";
const TIME_UNIT: &str = "x-mbx-time-unit";
/// A read that says `linearizable` here sees everything that was acknowledged before it, whichever node is asked.
const CONSISTENCY: &str = "x-rialto-consistency";
const SEQUENCE: HeaderName = HeaderName::from_static("x-rialto-sequence");
const USED_WEIGHT: HeaderName = HeaderName::from_static("x-mbx-used-weight");
const USED_WEIGHT_1M: HeaderName = HeaderName::from_static("x-mbx-used-weight-1m");
const ORDER_COUNT_10S: HeaderName = HeaderName::from_static("x-mbx-order-count-10s");
const ORDER_COUNT_1D: HeaderName = HeaderName::from_static("x-mbx-order-count-1d");

/// Serves `listener` until `stopping`, then lets what is under way finish.
pub async fn run(listener: TcpListener, tls: Option<Tls>, app: Arc<App>, mut stopping: watch::Receiver<bool>) {
    let mut places = Places::new(&app.config.sockets, tls.is_some());
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    builder.header_read_timeout(Duration::from_secs(app.config.sockets.head_seconds_max));
    builder.max_headers(HEADERS_MAX);
    builder.max_buf_size(app.config.sockets.head_bytes_max);
    let router = router(app.clone());
    // Each connection holds a sender; when all are gone, so are the connections.
    let (open, mut all_closed) = mpsc::channel::<()>(1);
    let mut failed = None;
    loop {
        let accepted = tokio::select! {
            () = stop(&mut stopping) => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Where the machine has none to give, it has none for a while.
                if failed.is_none_or(|failed: Instant| failed.elapsed() > WARN_EVERY) {
                    failed = Some(Instant::now());
                    tracing::warn!("cannot accept a connection: {error}");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(stream) = places.take(stream, peer) else {
            app.metrics.connections_refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let (connection, open) =
            (Connection { builder: builder.clone(), router: router.clone(), app: app.clone(), peer }, open.clone());
        let (stopping, tls) = (stopping.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => connection.serve(stream, stopping).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => connection.serve(stream, stopping).await,
                    Err(error) => tracing::debug!(%peer, "TLS: {error}"),
                },
            }
            drop(open);
        });
    }
    drop((listener, open));
    if tokio::time::timeout(STOP_TIMEOUT, all_closed.recv()).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
}

/// Resolves when the server stops.
async fn stop(stopping: &mut watch::Receiver<bool>) {
    // A sender that is gone stops it too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// The places for connections: so many in all, and so many of one address. Who finds none is told so at once.
struct Places {
    all: Arc<Semaphore>,
    by_address: Arc<ByAddress>,
    of_address_max: usize,
    trusted_proxies: Vec<Network>,
    is_tls: bool,
    refused: Arc<Semaphore>,
    warned: Option<Instant>,
}

impl Places {
    fn new(sockets: &SocketsConfig, is_tls: bool) -> Places {
        Places {
            all: Arc::new(Semaphore::new(sockets.connections_max)),
            by_address: Arc::default(),
            of_address_max: sockets.connections_per_address_max,
            trusted_proxies: sockets.trusted_proxies.clone(),
            is_tls,
            refused: Arc::new(Semaphore::new(REFUSED_AT_ONCE)),
            warned: None,
        }
    }

    /// The connection with a place. Without one it is closed, with a word where that can be said without waiting.
    fn take(&mut self, stream: TcpStream, peer: SocketAddr) -> Option<Counted> {
        let is_bound = self.of_address_max > 0 && !self.trusted_proxies.iter().any(|proxy| proxy.contains(peer.ip()));
        let of_address = is_bound.then(|| self.by_address.take(counted(peer.ip()), self.of_address_max));
        if let Some(None) = of_address {
            return None;
        }
        let Ok(permit) = self.all.clone().try_acquire_owned() else {
            if self.warned.is_none_or(|warned| warned.elapsed() > WARN_EVERY) {
                self.warned = Some(Instant::now());
                tracing::warn!("all places for connections are taken: newcomers are refused");
            }
            // With too many of them at once, they are closed without a word.
            if !self.is_tls
                && let Ok(permit) = self.refused.clone().try_acquire_owned()
            {
                tokio::spawn(refuse_newcomer(stream, permit));
            }
            return None;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, "connection: {error}");
            return None;
        }
        Some(Counted { stream, _permit: permit, _of_address: of_address.flatten() })
    }
}

/// Tells a newcomer that there is no place. What it has sent is read first, or the system would reset the connection and the
/// word be lost.
async fn refuse_newcomer(mut stream: TcpStream, _permit: OwnedSemaphorePermit) {
    let goodbye = async {
        stream.write_all(FULL).await?;
        stream.shutdown().await?;
        let mut sent = [0; 1_024];
        while stream.read(&mut sent).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Whoever does not take it in time is closed without it.
    let _ = tokio::time::timeout(GOODBYE_TIMEOUT, goodbye).await;
}

/// A connection and what it is served with.
struct Connection {
    builder: http1::Builder,
    router: Router,
    app: Arc<App>,
    peer: SocketAddr,
}

impl Connection {
    async fn serve<S>(self, stream: S, mut stopping: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Connection { builder, router, app, peer } = self;
        let first_head = Duration::from_secs(app.config.sockets.first_head_seconds_max);
        let has_asked = Arc::new(AtomicBool::new(false));
        let (asked, unconfirmed) = (has_asked.clone(), Unconfirmed::default());
        let (of_connection, of_app) = (unconfirmed.clone(), app.clone());
        let service = tower::service_fn(move |mut request: Request<hyper::body::Incoming>| {
            asked.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(of_connection.clone());
            edge::serve(of_app.clone(), router.clone(), peer, request.map(Body::new))
        });
        let connection = builder
            .serve_connection(TokioIo::new(RequestLines::new(stream)), TowerToHyperService::new(service))
            .with_upgrades();
        let mut connection = pin!(connection);
        // Who connects and asks nothing holds a place that others need.
        let mut too_late = pin!(tokio::time::sleep(first_head));
        let mut waits = true;
        let ended = loop {
            tokio::select! {
                ended = connection.as_mut() => break ended,
                () = stop(&mut stopping) => {
                    connection.as_mut().graceful_shutdown();
                    break connection.await;
                }
                () = &mut too_late, if waits => {
                    if !has_asked.load(Ordering::Relaxed) {
                        return;
                    }
                    waits = false;
                }
            }
        };
        match ended {
            // It was closed in good order, which a client does who has read what was sent.
            Ok(()) => unconfirmed.confirm(&app.answered, clock::now),
            Err(error) => tracing::debug!(%peer, "connection: {error}"),
        }
    }
}

/// A connection with its place among those that may be open, which it keeps when it becomes a websocket.
struct Counted {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
    _of_address: Option<PlaceOfAddress>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }
}

/// How many connections each address has open.
#[derive(Default)]
struct ByAddress(Mutex<HashMap<IpAddr, usize>>);

/// A place among an address's connections, given back when dropped.
struct PlaceOfAddress {
    by_address: Arc<ByAddress>,
    address: IpAddr,
}

impl ByAddress {
    /// One more, unless there are `most` already.
    fn take(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<PlaceOfAddress> {
        let mut open = self.0.lock();
        let count = open.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(PlaceOfAddress { by_address: self.clone(), address })
    }
}

impl Drop for PlaceOfAddress {
    fn drop(&mut self) {
        let mut open = self.by_address.0.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Every path there is.
fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/health", get(|| async { "alive\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/rialto/v1/login", post(|state, request| logins(state, request, Asked::Login)))
        .route("/rialto/v1/refresh", post(|state, request| logins(state, request, Asked::Refresh)))
        .route("/rialto/v1/logout", post(|state, request| logins(state, request, Asked::Logout)))
        .route("/rialto/v1/password", post(|state, request| logins(state, request, Asked::Password)))
        .route("/rialto/v1/me", get(|state, request| logins(state, request, Asked::Me)))
        .route("/openapi.json", get(|| described(description::openapi())))
        .route("/asyncapi.json", get(|| described(description::asyncapi())))
        .merge(web::routes())
        .merge(ws::routes().layer(map_response(refusal_as_json)))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(rest)
        .with_state(app)
}

async fn ready(State(app): State<Arc<App>>) -> impl IntoResponse {
    match app.readiness() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics_page())
}

/// A question of logins: what it weighs is much, so that guessing is slow.
async fn logins(State(app): State<Arc<App>>, request: Request<Body>, asked: Asked) -> Response<Body> {
    let address = request.extensions().get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
    let now = clock::now();
    let counted = app.limits.arrive(address, now).and_then(|()| app.limits.use_weight(address, LOGIN_WEIGHT, now));
    if let Err(refusal) = counted {
        return refuse(&refusal);
    }
    let (head, body) = request.into_parts();
    let reading = read_body(body, LOGIN_BODY_MAX);
    let body = tokio::time::timeout(Duration::from_secs(app.config.sockets.body_seconds_max), reading).await;
    let body = match body.unwrap_or_else(|_| Err(ApiError::incomplete_body())) {
        Ok(body) => body,
        Err(error) => return refuse(&error),
    };
    let answer = login::answer(&app, asked, &body, bearer(&head.headers), address, now).await;
    let (status, body) = match answer {
        Ok(body) => (200, body),
        Err(Refused(status, text)) => (status, serde_json::json!({ "code": -1002, "msg": text })),
    };
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    // Tokens are for who asked alone.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The token of `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// A description of the API for machines.
async fn described(document: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], document)
}

/// A REST call: read, dispatch, answer.
async fn rest(State(app): State<Arc<App>>, request: Request<Body>) -> Response<Body> {
    app.metrics.http_requests.fetch_add(1, Ordering::Relaxed);
    let peer = request.extensions().get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
    let unconfirmed = request.extensions().get::<Unconfirmed>().cloned().unwrap_or_default();
    // Who asks again over a connection has read the answer before.
    unconfirmed.confirm(&app.answered, clock::now);
    // Then the answer is the last thing on it, and nobody says that it came.
    let is_last = request.version() == Version::HTTP_10
        || request
            .headers()
            .get(header::CONNECTION)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
    let (method, target) = (request.method().clone(), request.uri().clone());
    let sampled = app.traces.sample(|| request.headers().get(TRACEPARENT).map(HeaderValue::as_bytes));
    let arrival = Arrival::now(sampled);
    let arrived = app.limits.arrive(peer, arrival.time);
    let is_banned = arrived.as_ref().is_err_and(|error| error.status == 418);
    let mut uid = None;
    let answer = match arrived {
        Ok(()) => call(&app, request, peer, arrival, &mut uid).await,
        Err(refusal) => Err(refusal),
    };
    if !is_last {
        unconfirmed.write(answer.as_ref().map_or_else(|error| &error.answers, |reply| &reply.answers));
        // The next request is read after this answer is written.
        unconfirmed.flushed();
    }
    let (code, told) = (answer.as_ref().err().map(|error| error.code), Told::of(&answer));
    let mut response = respond(&app, peer, answer);
    told.journey().iter().for_each(|journey| app.outlets.stages.answered(journey));
    app.traces.finish(&arrival, || span_name(&method, target.path()), uid, &told);
    response.extensions_mut().insert(Outcome { uid, code });
    if is_banned {
        // Nothing more is read from it: a request costs it a connection then.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if response.status() == StatusCode::METHOD_NOT_ALLOWED
        && let Ok(methods) = HeaderValue::from_str(&Route::methods(target.path()))
    {
        response.headers_mut().insert(header::ALLOW, methods);
    }
    response
}

/// What a trace calls a request: a name of ours, never what a client made up.
fn span_name(method: &Method, path: &str) -> String {
    match Route::find(method.as_str(), path) {
        Ok(route) => format!("{} {}", route.method, route.path),
        Err(_) => "unknown".to_owned(),
    }
}

async fn call(
    app: &Arc<App>,
    request: Request<Body>,
    address: IpAddr,
    arrival: Arrival,
    uid: &mut Option<Uid>,
) -> Result<Reply, ApiError> {
    let (head, body) = request.into_parts();
    // The body first, whatever becomes of the request: a connection with unread bytes could not be used again.
    let sockets = &app.config.sockets;
    let reading = read_body(body, sockets.body_bytes_max);
    let body = tokio::time::timeout(Duration::from_secs(sockets.body_seconds_max), reading).await;
    let body = body.unwrap_or_else(|_| Err(ApiError::incomplete_body()))?;
    let route = Route::find(head.method.as_str(), head.uri.path())?;
    let unit = time_unit(&head.headers)?;
    let query = head.uri.query().unwrap_or("");
    let params = Params::from_request(query, &body)?;
    let api_key = head.headers.get(API_KEY).and_then(|key| key.to_str().ok());
    let payload = rest_payload(query, &body);
    // A key says more than a token: who sends both means the key.
    let token = bearer(&head.headers).filter(|_| api_key.is_none());
    let credentials = Credentials { api_key, session: None, token, payload: &payload, address };
    if head.headers.get(CONSISTENCY).is_some_and(|wanted| wanted == "linearizable") {
        app.read_current().await?;
    }
    // Its time is when all of it was there: a signature may not be stretched by sending slowly.
    let arrival = Arrival { time: clock::now(), ..arrival };
    let (handling, caller) = route.handle(app, params, &credentials, unit, arrival);
    *uid = caller.map(|caller| caller.uid);
    handling.await
}

/// What stands at a path, but not for this method.
async fn method_not_allowed() -> Response<Body> {
    refuse(&ApiError::method_not_allowed())
}

/// What is wrong with a request for a websocket is found by a library that says so in plain text.
async fn refusal_as_json(response: Response<Body>) -> Response<Body> {
    let kind = response.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if response.status().is_client_error() && !kind.starts_with(b"application/json") {
        return refuse(&ApiError::no_websocket(response.status().as_u16()));
    }
    response
}

fn refuse(error: &ApiError) -> Response<Body> {
    let mut response = Response::new(Body::from(error.to_json()));
    *response.status_mut() = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

fn time_unit(headers: &HeaderMap) -> Result<TimeUnit, ApiError> {
    match headers.get(TIME_UNIT).map(HeaderValue::as_bytes) {
        None | Some(b"MILLISECOND" | b"millisecond") => Ok(TimeUnit::Millisecond),
        Some(b"MICROSECOND" | b"microsecond") => Ok(TimeUnit::Microsecond),
        Some(_) => Err(ApiError::invalid_time_unit()),
    }
}

fn respond(app: &App, address: IpAddr, answer: Result<Reply, ApiError>) -> Response<Body> {
    let now = clock::now();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, JSON);
    let used = HeaderValue::from(app.limits.used_weight(address, now));
    headers.insert(USED_WEIGHT, used.clone());
    headers.insert(USED_WEIGHT_1M, used);
    let told = answer.as_ref().map_or_else(|error| error.sequence, |reply| reply.sequence);
    let sequence = told.unwrap_or_else(|| app.outlets.views.sequence());
    headers.insert(SEQUENCE, HeaderValue::from(sequence.0));
    let (status, body) = match answer {
        Ok(reply) => {
            if let Some(uid) = reply.placed_by {
                let [ten_seconds, day] = app.outlets.views.order_counts(uid, now);
                headers.insert(ORDER_COUNT_10S, HeaderValue::from(ten_seconds));
                headers.insert(ORDER_COUNT_1D, HeaderValue::from(day));
            }
            (StatusCode::OK, reply.json)
        }
        Err(error) => {
            app.metrics.count_error(error.code.into());
            if let Some(seconds) = error.retry_after {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, error.to_json())
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
