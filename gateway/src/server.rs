//! Accepts sockets, bounds them, and takes each request to where it is answered.

use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use axum::middleware::map_response;
use axum::response::IntoResponse;
use axum::routing::get;
use http_body_util::BodyExt;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tower::ServiceExt;

use crate::app::{App, Peer};
use crate::auth::{Credentials, rest_payload};
use crate::client_address;
use crate::clock;
use crate::params::Params;
use crate::rest::error::ApiError;
use crate::rest::{Reply, Route};
use crate::ws;
use crate::ws::hub::TimeUnit;

/// How long requests under way may take when the server stops; longer than a command's own timeout.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);
/// How long to wait after the system could not give a socket.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How much of a body that is too large is read and dropped. Many clients read no answer before they wrote everything.
const DROPPED_BYTES_MAX: usize = 64 << 20;

const API_KEY: &str = "x-mbx-apikey";
const FORWARDED_FOR: &str = "x-forwarded-for";
const TIME_UNIT: &str = "x-mbx-time-unit";
/// A read that says `linearizable` here sees everything that was acknowledged before it, whichever node is asked.
const CONSISTENCY: &str = "x-rialto-consistency";
const SEQUENCE: HeaderName = HeaderName::from_static("x-rialto-sequence");
const USED_WEIGHT: HeaderName = HeaderName::from_static("x-mbx-used-weight");
const USED_WEIGHT_1M: HeaderName = HeaderName::from_static("x-mbx-used-weight-1m");
const ORDER_COUNT_10S: HeaderName = HeaderName::from_static("x-mbx-order-count-10s");
const ORDER_COUNT_1D: HeaderName = HeaderName::from_static("x-mbx-order-count-1d");
const JSON: HeaderValue = HeaderValue::from_static("application/json;charset=UTF-8");

/// Serves `listener` until `stopping`, then lets what is under way finish.
pub async fn run(listener: TcpListener, app: Arc<App>, mut stopping: watch::Receiver<bool>) {
    let connections = Arc::new(Semaphore::new(app.config.sockets.connections_max));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    builder.header_read_timeout(Duration::from_secs(app.config.sockets.head_seconds_max));
    let router = router(app.clone());
    // Each connection holds a sender; when all are gone, so are the connections.
    let (open, mut all_closed) = mpsc::channel::<()>(1);
    loop {
        // Beyond the bound, connections wait in the system's own queue, which refuses when it is full.
        let accepted = tokio::select! {
            () = stop(&mut stopping) => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (router, of_app) = (router.clone(), app.clone());
        let service = tower::service_fn(move |mut request: Request<hyper::body::Incoming>| {
            let forwarded = request.headers().get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
            let client = client_address::client(peer.ip(), forwarded, &of_app.config.sockets.trusted_proxies);
            request.extensions_mut().insert(Peer(SocketAddr::new(client, peer.port())));
            router.clone().oneshot(request.map(Body::new))
        });
        let connection = builder.serve_connection(stream, TowerToHyperService::new(service)).with_upgrades();
        let (open, mut stopping) = (open.clone(), stopping.clone());
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop(&mut stopping) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%peer, "connection: {error}");
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

async fn accept(listener: &TcpListener, connections: &Arc<Semaphore>) -> std::io::Result<(Counted, SocketAddr)> {
    let permit = connections.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((Counted { stream: TokioIo::new(stream), _permit: permit }, peer))
}

/// A connection with its place among those that may be open, which it keeps when it becomes a websocket.
struct Counted {
    stream: TokioIo<TcpStream>,
    _permit: OwnedSemaphorePermit,
}

impl Read for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Counted {
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

/// Every path there is.
fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(|| asset("text/html; charset=utf-8", include_bytes!("../web/index.html"))))
        .route("/app.js", get(|| asset("text/javascript; charset=utf-8", include_bytes!("../web/app.js"))))
        .route("/style.css", get(|| asset("text/css; charset=utf-8", include_bytes!("../web/style.css"))))
        .route("/health", get(|| async { "alive\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .merge(ws::routes().layer(map_response(refusal_as_json)))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(rest)
        .with_state(app)
}

/// A file of the page, which is built into the binary.
async fn asset(kind: &'static str, bytes: &'static [u8]) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], bytes)
}

async fn ready(State(app): State<Arc<App>>) -> impl IntoResponse {
    if app.is_ready() { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics_page())
}

/// A REST call: read, dispatch, answer.
async fn rest(State(app): State<Arc<App>>, request: Request<Body>) -> Response<Body> {
    app.metrics.http_requests.fetch_add(1, Ordering::Relaxed);
    let peer = request.extensions().get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
    let arrived = app.limits.arrive(peer, clock::now());
    let is_banned = arrived.as_ref().is_err_and(|error| error.status == 418);
    let answer = match arrived {
        Ok(()) => call(&app, request, peer).await,
        Err(refusal) => Err(refusal),
    };
    let mut response = respond(&app, peer, answer);
    if is_banned {
        // Nothing more is read from it: a request costs it a connection then.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn call(app: &Arc<App>, request: Request<Body>, address: IpAddr) -> Result<Reply, ApiError> {
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
    let credentials = Credentials { api_key, session: None, payload: &payload, address };
    if head.headers.get(CONSISTENCY).is_some_and(|wanted| wanted == "linearizable") {
        app.read_current().await?;
    }
    let (handling, _) = route.handle(app, params, &credentials, unit, clock::now());
    handling.await
}

async fn read_body(mut body: Body, bytes_max: usize) -> Result<Vec<u8>, ApiError> {
    let mut read = Vec::new();
    let mut dropped = 0;
    while let Some(frame) = body.frame().await {
        // The client went away or broke the protocol; whatever is said here, nobody reads it.
        let frame = frame.map_err(|_| ApiError::incomplete_body())?;
        let Ok(data) = frame.into_data() else { continue };
        if dropped == 0 && read.len() + data.len() <= bytes_max {
            read.extend_from_slice(&data);
        } else {
            dropped += data.len();
        }
        if dropped > DROPPED_BYTES_MAX {
            break;
        }
    }
    if dropped == 0 { Ok(read) } else { Err(ApiError::body_too_large()) }
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
    let (status, body) = match answer {
        Ok(reply) => {
            if let Some(sequence) = reply.sequence {
                headers.insert(SEQUENCE, HeaderValue::from(sequence.0));
            }
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
