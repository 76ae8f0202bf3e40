//! From an HTTP request to a websocket (RFC 6455, section 4), with permessage-deflate where the client offers it.

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::http::{Method, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::ws::deflate::{self, Agreed};

/// A request that becomes a websocket.
pub struct Upgrade {
    on_upgrade: OnUpgrade,
    accept: HeaderValue,
    agreed: Option<Agreed>,
}

/// Why a request does not.
pub type Refused = (StatusCode, &'static str);

impl<S: Sync> FromRequestParts<S> for Upgrade {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Upgrade, Refused> {
        let headers = &parts.headers;
        if parts.method != Method::GET {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "a websocket begins with GET"));
        }
        if !lists(headers, header::CONNECTION, "upgrade") || !lists(headers, header::UPGRADE, "websocket") {
            return Err((
                StatusCode::BAD_REQUEST,
                "there are websockets alone here: Connection and Upgrade say no such thing",
            ));
        }
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err((StatusCode::BAD_REQUEST, "Sec-WebSocket-Version must be 13"));
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or((StatusCode::BAD_REQUEST, "no Sec-WebSocket-Key"))?;
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
        let accept = accept.map_err(|_| (StatusCode::BAD_REQUEST, "Sec-WebSocket-Key"))?;
        let offers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter();
        let agreed = offers.filter_map(|offers| offers.to_str().ok()).find_map(deflate::negotiate);
        let on_upgrade = parts.extensions.remove::<OnUpgrade>();
        let on_upgrade =
            on_upgrade.ok_or((StatusCode::UPGRADE_REQUIRED, "this connection cannot become a websocket"))?;
        Ok(Upgrade { on_upgrade, accept, agreed })
    }
}

impl Upgrade {
    /// Answers; `serve` gets the connection and what was agreed on.
    pub fn answer<F>(
        self,
        serve: impl FnOnce(TokioIo<Upgraded>, Option<Agreed>) -> F + Send + 'static,
    ) -> Response<Body>
    where
        F: Future<Output = ()> + Send,
    {
        let Upgrade { on_upgrade, accept, agreed } = self;
        tokio::spawn(async move {
            match on_upgrade.await {
                Ok(upgraded) => serve(TokioIo::new(upgraded), agreed).await,
                Err(error) => tracing::debug!("a websocket did not begin: {error}"),
            }
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(agreed) = agreed.and_then(|agreed| HeaderValue::from_str(&agreed.header()).ok()) {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, agreed);
        }
        response
    }
}

/// Whether a header, which may be a list, has this word.
fn lists(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
}
