//! What the requests of both kinds of socket have in common: the URL's query, and ids that come back as they were sent.

use axum::http::header::{HeaderValue, RETRY_AFTER};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::value::RawValue;

use crate::rest::error::ApiError;
use crate::ws::hub::TimeUnit;

/// The longest id of a request, in characters, when it is a text.
const ID_CHARACTERS_MAX: usize = 36;

/// A refusal before there is a socket.
pub(super) fn refuse(error: &ApiError) -> Response {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = (status, [("content-type", "application/json")], error.to_json()).into_response();
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The value of a parameter in a URL's query, as it stands there.
pub(super) fn query_value<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    uri.query()?
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// `timeUnit` in a URL's query.
pub(super) fn time_unit(uri: &Uri) -> Result<TimeUnit, ApiError> {
    match query_value(uri, "timeUnit") {
        None | Some("MILLISECOND" | "millisecond") => Ok(TimeUnit::Millisecond),
        Some("MICROSECOND" | "microsecond") => Ok(TimeUnit::Microsecond),
        Some(_) => Err(ApiError::invalid_time_unit()),
    }
}

/// `None` when what is escaped is not UTF-8, or the escape is cut short.
pub(super) fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
            let (high, low) = (digit()?, digit()?);
            decoded.push((high * 16 + low) as u8);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

/// An id as it is sent back: a whole number, a short text, or null. `None` for anything else.
pub(super) fn echo(id: Option<&RawValue>) -> Option<&str> {
    let Some(id) = id else { return Some("null") };
    let legal = match id.get().as_bytes().first() {
        Some(b'"') => {
            serde_json::from_str::<String>(id.get()).is_ok_and(|text| text.chars().count() <= ID_CHARACTERS_MAX)
        }
        _ => id.get().parse::<i64>().is_ok(),
    };
    legal.then(|| id.get())
}
