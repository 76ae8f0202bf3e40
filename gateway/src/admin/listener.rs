//! The admin listener: apart from the clients' port, on loopback unless told otherwise, for who has the token of the data
//! directory or is logged in as an operator.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use super::action;
use super::overview::overview;
use super::perform::{Refused, perform};
use crate::app::{App, Peer};
use crate::body::read_body;
use crate::clock;
use crate::passwords::is_equal;
use crate::secrets::write_private;

/// The path that takes requests.
pub const PATH: &str = "/admin/v1";
/// The path that tells how everything stands.
pub const OVERVIEW_PATH: &str = "/admin/v1/overview";
/// Connections at once.
pub const CONNECTIONS_MAX: usize = 64;
/// Seconds in which a request's head, and then its body, must have come.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request.
const BODY_BYTES_MAX: usize = 64 << 10;
/// The least characters of a token.
const TOKEN_CHARACTERS_MIN: usize = 32;

/// The file of the token, in the data directory.
pub fn token_file(data: &Path) -> PathBuf {
    data.join("admin.token")
}

/// The file that says where the listener is, in the data directory.
pub fn address_file(data: &Path) -> PathBuf {
    data.join("admin.address")
}

/// The listener.
pub struct Admin {
    listener: TcpListener,
    /// Where it listens.
    pub address: SocketAddr,
    token: String,
}

impl Admin {
    /// Binds it, reads the token of the data directory or makes one, and writes down where it listens.
    pub async fn bind(listen: SocketAddr, data: &Path) -> Result<Admin, String> {
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|error| format!("cannot listen on {listen} for operators: {error}"))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let path = token_file(data);
        let complain = |error: std::io::Error| format!("{}: {error}", path.display());
        if !path.exists() {
            let token = hex::encode(rand::random::<[u8; 32]>());
            write_private(&path, &format!("{token}\n")).map_err(complain)?;
        }
        let token = std::fs::read_to_string(&path).map_err(complain)?.trim().to_owned();
        if token.len() < TOKEN_CHARACTERS_MIN {
            return Err(format!("{}: a token has at least {TOKEN_CHARACTERS_MIN} characters", path.display()));
        }
        write_private(&address_file(data), &format!("{address}\n")).map_err(|error| error.to_string())?;
        Ok(Admin { listener, address, token })
    }

    /// Serves until `stopping`.
    pub async fn run(self, app: Arc<App>, mut stopping: watch::Receiver<bool>) {
        let Admin { listener, token, .. } = self;
        let shared = Arc::new(Shared { app, token });
        let router = Router::new()
            .route(PATH, post(answer))
            .route(OVERVIEW_PATH, get(see))
            .route("/metrics", get(metrics))
            .route("/health", get(|| async { "alive\n" }))
            .merge(crate::web::console_routes())
            .with_state(shared);
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(READ_TIMEOUT);
        loop {
            let accepting = async {
                let permit = connections.clone().acquire_owned().await.ok()?;
                Some((listener.accept().await, permit))
            };
            let accepted = tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                accepted = accepting => accepted,
            };
            let Some((accepted, permit)) = accepted else { return };
            let Ok((stream, peer)) = accepted else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let router = router.clone();
            let service = tower::service_fn(move |mut request: Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(Peer(peer));
                router.clone().oneshot(request.map(Body::new))
            });
            let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%peer, "admin connection: {error}");
                }
                drop(permit);
            });
        }
    }
}

struct Shared {
    app: Arc<App>,
    token: String,
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    respond(handle(&shared, request).await)
}

/// How everything stands; for operators alone.
async fn see(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response<Body> {
    match operator(&shared, &headers) {
        Ok(_) => respond(Ok(overview(&shared.app).await)),
        Err(refused) => respond(Err(refused)),
    }
}

/// The same page as on the clients' port: it needs no token there either.
async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], shared.app.metrics_page())
}

fn respond(answer: Result<Value, Refused>) -> Response<Body> {
    let (status, body) = match answer {
        Ok(body) => (200, body),
        Err(Refused(status, text)) => (status, json!({ "error": text })),
    };
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, crate::body::JSON);
    // For who asked alone, and true only now.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn handle(shared: &Shared, request: Request<Body>) -> Result<Value, Refused> {
    let (head, body) = request.into_parts();
    let origin = head.extensions.get::<Peer>().map(|peer| peer.0.ip().to_string()).unwrap_or_default();
    let who = operator(shared, &head.headers)?;
    let reading = tokio::time::timeout(READ_TIMEOUT, read_body(body, BODY_BYTES_MAX)).await;
    let body = reading.map_err(|_| Refused(408, "the request did not come in time".to_owned()))??;
    let asked: action::Request =
        serde_json::from_slice(&body).map_err(|error| Refused(400, format!("not a request: {error}")))?;
    // Who is logged in is who asks; the token is the machine's, and whoever has it says who he is.
    let operator = who.unwrap_or(asked.operator);
    let done = perform(&shared.app, &operator, &origin, &asked.reason, asked.action).await?;
    Ok(json!({ "sequence": done.sequence.map(|sequence| sequence.0), "result": done.told }))
}

/// The operator who is logged in; nothing for who has the token.
fn operator(shared: &Shared, headers: &HeaderMap) -> Result<Option<String>, Refused> {
    let refused = || Refused(401, "the request must have a header Authorization: Bearer <token>".to_owned());
    let header = headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok());
    let token = header.and_then(|header| header.strip_prefix("Bearer ")).ok_or_else(refused)?;
    if is_equal(token.as_bytes(), shared.token.as_bytes()) {
        return Ok(None);
    }
    let catalog = shared.app.outlets.views.symbols();
    let user = shared.app.login.user(&catalog, token, clock::now()).ok_or_else(refused)?;
    if user.terms.role != engine::access::Role::Operator {
        return Err(Refused(403, "this is for operators".to_owned()));
    }
    Ok(Some(user.terms.name.clone()))
}
