//! Who asks, and whether just now: API keys, signatures, the timing window (rest-api.md, "Request Security").

use engine::command::{ApiKey, ApiKeyKind, Permission};
use engine::{Time, Uid};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::params::Params;
use crate::rest::error::ApiError;
use crate::views::Catalog;

/// recvWindow when it is not sent, in microseconds.
const RECEIVE_WINDOW: u64 = 5_000_000;
/// The widest recvWindow, in microseconds.
const RECEIVE_WINDOW_MAX: u64 = 60_000_000;
/// How far a client's clock may be ahead, in microseconds.
const AHEAD_MAX: u64 = 1_000_000;
/// Timestamps from here on count microseconds, below it milliseconds: it is the year 5138 in the one, 1973 in the other.
const MICROSECONDS_FROM: u64 = 100_000_000_000_000;
/// The longest key that is looked up.
const API_KEY_MAX: usize = 128;

/// What a request must prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Nothing.
    None,
    /// A known key.
    ApiKey,
    /// A signature by a key that may read the account.
    UserData,
    /// A signature by a key that may trade.
    Trade,
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whose account it is.
    pub uid: Uid,
    /// Until when the request is good, if it was signed.
    pub deadline: Option<Time>,
}

/// Checks what `security` demands: the key, its permission, the time, and the signature of `payload`. Takes the
/// parameters that belong to it.
pub fn authenticate(
    catalog: &Catalog,
    security: Security,
    api_key: Option<&str>,
    payload: &[u8],
    params: &mut Params,
    now: Time,
) -> Result<Option<Caller>, ApiError> {
    let permission = match security {
        Security::None => return Ok(None),
        Security::ApiKey => {
            let key = find_key(catalog, api_key)?;
            return Ok(Some(Caller { uid: key.uid, deadline: None }));
        }
        Security::UserData => Permission::UserData,
        Security::Trade => Permission::Trade,
    };
    let key = find_key(catalog, api_key)?;
    let timestamp = params.required_integer("timestamp")?;
    let window = params.optional("recvWindow")?;
    let signature = params.required("signature")?;
    let deadline = check_timing(timestamp, window.as_deref(), now)?;
    if !verify(key, payload, &signature) {
        return Err(ApiError::bad_signature());
    }
    if !key.permissions.contains(&permission) {
        return Err(ApiError::rejected_key());
    }
    Ok(Some(Caller { uid: key.uid, deadline: Some(deadline) }))
}

/// The key that the client names.
pub fn find_key<'a>(catalog: &'a Catalog, api_key: Option<&str>) -> Result<&'a ApiKey, ApiError> {
    let api_key = api_key.ok_or_else(ApiError::api_key_format)?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if api_key.is_empty() || api_key.len() > API_KEY_MAX || !api_key.bytes().all(legal) {
        return Err(ApiError::api_key_format());
    }
    catalog.api_keys.get(api_key).ok_or_else(ApiError::rejected_key)
}

/// Whether `signature` is the key's for `payload`. The comparison takes the same time wherever they differ.
fn verify(key: &ApiKey, payload: &[u8], signature: &str) -> bool {
    match &key.kind {
        ApiKeyKind::Hmac { secret } => {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
            mac.update(payload);
            // Hex in any case of letters.
            hex::decode(signature).is_ok_and(|signature| mac.verify_slice(&signature).is_ok())
        }
    }
}

/// Whether the request is from now: `timestamp` in milliseconds or microseconds, `window` in milliseconds with at most
/// three decimals. Gives the time until which it is good.
fn check_timing(timestamp: u64, window: Option<&str>, now: Time) -> Result<Time, ApiError> {
    let timestamp = if timestamp < MICROSECONDS_FROM { timestamp * 1_000 } else { timestamp };
    let window = window.map_or(Ok(RECEIVE_WINDOW), parse_window)?;
    if timestamp >= now.0 + AHEAD_MAX {
        return Err(ApiError::timestamp_ahead());
    }
    let deadline = timestamp + window;
    if now.0 > deadline {
        return Err(ApiError::outside_receive_window());
    }
    Ok(Time(deadline))
}

fn parse_window(text: &str) -> Result<u64, ApiError> {
    let window = crate::params::parse_decimal("recvWindow", text, 3)?.0;
    // Three decimals of a millisecond are microseconds.
    u64::try_from(window)
        .ok()
        .filter(|window| *window <= RECEIVE_WINDOW_MAX)
        .ok_or_else(ApiError::receive_window_too_large)
}

/// What a REST request signs: its query string and then its body, both as received, without the signature itself.
pub fn rest_payload(query: &str, body: &[u8]) -> Vec<u8> {
    let mut payload = without_signature(query.as_bytes());
    payload.extend(without_signature(body));
    payload
}

fn without_signature(form: &[u8]) -> Vec<u8> {
    let parts = form.split(|byte| *byte == b'&').filter(|part| !part.starts_with(b"signature="));
    parts.collect::<Vec<_>>().join(&b'&')
}

/// What a WS API request signs: its parameters in the order of their names, with their texts as received, without the
/// signature itself.
pub fn ws_payload<'a>(params: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut pairs: Vec<_> = params.into_iter().filter(|(name, _)| *name != "signature").collect();
    pairs.sort_unstable();
    let mut payload = String::with_capacity(256);
    for (name, text) in pairs {
        if !payload.is_empty() {
            payload.push('&');
        }
        payload.push_str(name);
        payload.push('=');
        payload.push_str(text);
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j";
    const NOW: Time = Time(1_499_827_320_000_000);

    fn catalog(permissions: Vec<Permission>) -> Catalog {
        let kind = ApiKeyKind::Hmac { secret: SECRET.into() };
        let key = ApiKey { uid: Uid(7), api_key: "abc".into(), kind, permissions };
        Catalog { api_keys: [("abc".to_owned(), key)].into(), ..Catalog::default() }
    }

    fn ask(query: &str, body: &str, key: Option<&str>) -> Result<Option<Caller>, ApiError> {
        let mut params = Params::from_request(query, body.as_bytes())?;
        let payload = rest_payload(query, body.as_bytes());
        authenticate(&catalog(vec![Permission::Trade]), Security::Trade, key, &payload, &mut params, NOW)
    }

    const ORDER: &str = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559";
    const SIGNATURE: &str = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71";

    #[test]
    fn the_documented_sample_is_accepted_in_query_and_in_body() {
        let signed = format!("{ORDER}&signature={SIGNATURE}");
        let caller = ask(&signed, "", Some("abc")).unwrap().unwrap();
        assert_eq!((caller.uid, caller.deadline), (Uid(7), Some(Time(1_499_827_324_559_000))));
        assert!(ask("", &signed, Some("abc")).is_ok());
        assert!(ask("", &signed.replace(SIGNATURE, &SIGNATURE.to_uppercase()), Some("abc")).is_ok());
    }

    #[test]
    fn the_documented_mixed_sample_is_accepted() {
        // The query string and the body are joined without a separator.
        let query = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC";
        let body = "quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559\
                    &signature=0fd168b8ddb4876a0358a8d14d0c9f3da0e9b20c5d52b2a00fcf7d1c602f9a77";
        assert!(ask(query, body, Some("abc")).is_ok());
    }

    #[test]
    fn what_is_wrong_has_its_code() {
        let code = |query: &str, key| ask(query, "", key).unwrap_err().code;
        let signed = format!("{ORDER}&signature={SIGNATURE}");
        assert_eq!(code(&signed, None), -2014);
        assert_eq!(code(&signed, Some("a b")), -2014);
        assert_eq!(code(&signed, Some("unknown")), -2015);
        assert_eq!(code(ORDER, Some("abc")), -1102);
        assert_eq!(code(&signed.replace("price=0.1", "price=0.2"), Some("abc")), -1022);
        assert_eq!(code(&format!("{ORDER}&signature=zz"), Some("abc")), -1022);
        assert_eq!(code(&signed.replace("timestamp=", "timestamp=x"), Some("abc")), -1100);
        assert_eq!(code("timestamp=1499827319559&recvWindow=60001&signature=00", Some("abc")), -1131);
    }

    #[test]
    fn the_window_ends_exactly_where_it_says() {
        let check = |timestamp, window| check_timing(timestamp, window, NOW).map_err(|error| error.message);
        assert!(check(NOW.0 / 1_000 + 999, None).is_ok());
        assert!(check(NOW.0 / 1_000 + 1_000, None).unwrap_err().contains("ahead"));
        assert!(check(NOW.0 / 1_000 - 5_000, None).is_ok());
        assert!(check(NOW.0 / 1_000 - 5_001, None).unwrap_err().contains("outside"));
        assert!(check(NOW.0 - 1_500, Some("1.5")).is_ok());
        assert!(check(NOW.0 - 1_501, Some("1.5")).unwrap_err().contains("outside"));
    }

    #[test]
    fn a_ws_api_request_signs_its_parameters_by_name() {
        let params = [("signature", "x"), ("timestamp", "5"), ("apiKey", "k"), ("price", "59997.0")];
        assert_eq!(ws_payload(params), "apiKey=k&price=59997.0&timestamp=5");
    }

    #[test]
    fn a_key_without_the_permission_is_refused() {
        let mut params = Params::from_request(&format!("{ORDER}&signature={SIGNATURE}"), b"").unwrap();
        let catalog = catalog(vec![Permission::UserData]);
        let refused = authenticate(&catalog, Security::Trade, Some("abc"), ORDER.as_bytes(), &mut params, NOW);
        assert_eq!(refused.unwrap_err().code, -2015);
    }
}
