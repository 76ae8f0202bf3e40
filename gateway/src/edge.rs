//! What stands around every request, whatever it asks: who the client is, the id that it is known by from here to the log, which
//! web pages may ask, and the line in the log of requests.
//!
//! No cookie is read anywhere, so a browser gives nothing of its user away by itself; rules on origins keep foreign pages from
//! reading answers and from opening websockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use engine::Uid;
use tower::ServiceExt;
use tracing::Instrument;

use crate::access_log::{Line, shown};
use crate::app::{App, Peer};
use crate::body::JSON;
use crate::client_address;
use crate::clock;
use crate::rest::error::ApiError;

const FORWARDED_FOR: &str = "x-forwarded-for";
/// What a gateway answers that has nothing to tell of the exchange yet.
const OF_THE_PROCESS: [&str; 3] = ["/health", "/ready", "/metrics"];
/// The id of a request; a client may give its own.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_MAX: usize = 64;
const SEQUENCE: &str = "x-rialto-sequence";

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, DELETE");
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "X-MBX-APIKEY, X-MBX-TIME-UNIT, X-Rialto-Consistency, X-Request-Id, Authorization, Content-Type",
);
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static(
    "X-MBX-USED-WEIGHT, X-MBX-USED-WEIGHT-1M, X-MBX-ORDER-COUNT-10S, X-MBX-ORDER-COUNT-1D, X-Rialto-Sequence, \
     X-Request-Id, Retry-After",
);
/// Seconds for which a browser need not ask again.
const PREFLIGHT_SECONDS: HeaderValue = HeaderValue::from_static("600");

/// What became of a request, for the log; answers carry it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Whose account it was about, if that was proved.
    pub uid: Option<Uid>,
    /// The error's code.
    pub code: Option<i32>,
}

/// Takes a request to where it is answered.
pub async fn serve(
    app: Arc<App>,
    router: Router,
    peer: SocketAddr,
    mut request: Request<Body>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let started = Instant::now();
    let forwarded = request.headers().get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
    let client = client_address::client(peer.ip(), forwarded, &app.config.sockets.trusted_proxies);
    request.extensions_mut().insert(Peer(SocketAddr::new(client, peer.port())));
    let id = request_id(request.headers());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed = origin.as_ref().and_then(|origin| allowed(&app.config.sockets.allowed_origins, origin));
    let logged = app.access_log.is_on().then(|| (request.method().clone(), request.uri().path().to_owned()));

    let is_preflight = request.method() == Method::OPTIONS
        && origin.is_some()
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let is_websocket = request.headers().contains_key(header::SEC_WEBSOCKET_VERSION);
    let is_foreign = allowed.is_none() && origin.as_ref().is_some_and(|origin| !is_own(request.headers(), origin));
    let mut response = if head_bytes(&request) > app.config.sockets.head_bytes_max {
        head_too_large()
    } else if !app.has_state() && !OF_THE_PROCESS.contains(&request.uri().path()) {
        without_state()
    } else if is_preflight {
        preflight(allowed.is_some())
    } else if is_websocket && is_foreign {
        foreign()
    } else {
        let span = tracing::debug_span!("request", id, %client);
        let Ok(response) = router.oneshot(request).instrument(span).await;
        response
    };

    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(allowed) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    if let Some((method, path)) = logged {
        let outcome = response.extensions().get::<Outcome>().copied().unwrap_or_default();
        let sequence = response.headers().get(SEQUENCE).and_then(|sequence| sequence.to_str().ok()?.parse().ok());
        app.access_log.write(&Line {
            time: clock::now().millis(),
            id: &id,
            address: client,
            uid: outcome.uid.map(|uid| uid.0),
            method: method.as_str(),
            path: shown(&path),
            status: response.status().as_u16(),
            code: outcome.code,
            sequence,
            micros: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        });
    }
    Ok(response)
}

/// The client's own id, if it can be one; else a new one.
fn request_id(headers: &HeaderMap) -> String {
    static START: LazyLock<u32> = LazyLock::new(rand::random);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    match given.filter(|id| (1..=REQUEST_ID_MAX).contains(&id.len()) && id.bytes().all(legal)) {
        Some(id) => id.to_owned(),
        None => format!("{:08x}-{:x}", *START, COUNT.fetch_add(1, Ordering::Relaxed)),
    }
}

/// What a page of that origin is told, if it may ask.
fn allowed(origins: &[String], origin: &HeaderValue) -> Option<HeaderValue> {
    if origins.iter().any(|allowed| allowed == "*") {
        return Some(HeaderValue::from_static("*"));
    }
    origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// Whether a page of that origin came from this server, by the name under which it is asked.
fn is_own(headers: &HeaderMap, origin: &HeaderValue) -> bool {
    let own = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let host = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host.as_bytes());
    own.is_some() && own == host
}

fn preflight(is_allowed: bool) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if is_allowed {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
    }
    response
}

/// About how many bytes its head had. The reader's own bound is of its buffer, which grows in steps.
fn head_bytes(request: &Request<Body>) -> usize {
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    request.uri().path_and_query().map_or(0, |target| target.as_str().len()) + headers.sum::<usize>()
}

fn head_too_large() -> Response<Body> {
    let mut response = Response::new(Body::from(ApiError::head_too_large().to_json()));
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A gateway that has no state yet knows no symbol and no account: it must not say so.
fn without_state() -> Response<Body> {
    let error = ApiError::unavailable();
    let mut response = Response::new(Body::from(error.to_json()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// A websocket of a page that may not have one here.
fn foreign() -> Response<Body> {
    let mut response = Response::new(Body::from(ApiError::foreign_origin().to_json()));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}
