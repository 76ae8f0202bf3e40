//! The body of a request, read within bounds.

use axum::body::Body;
use axum::http::HeaderValue;
use http_body_util::BodyExt;

use crate::rest::error::ApiError;

/// What answers are.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json;charset=UTF-8");

/// How much of a body that is too large is read and dropped. Many clients read no answer before they wrote everything.
const DROPPED_BYTES_MAX: usize = 64 << 20;

/// The whole body, of at most `bytes_max`.
pub async fn read_body(mut body: Body, bytes_max: usize) -> Result<Vec<u8>, ApiError> {
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
