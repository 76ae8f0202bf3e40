//! Who asks, and whether just now: API keys, signatures, the timing window (rest-api.md, "Request Security").

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::access::AddressRange;
use engine::command::{ApiKey, ApiKeyKind, Permission};
use engine::{Time, Uid};
use hmac::{Hmac, KeyInit, Mac};
use ring::signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use sha2::Sha256;

use crate::client_address::Network;
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
    /// A known key that may read the account: what listen keys are opened with.
    UserStream,
    /// A signature by a known key.
    Signed,
    /// A signature by a key that may read the account.
    UserData,
    /// A signature by a key that may trade.
    Trade,
    /// A signature by a key that may say reference prices.
    Feed,
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whose account it is.
    pub uid: Uid,
    /// Until when the request is good, if it was signed.
    pub deadline: Option<Time>,
    /// Whether the key may read the account.
    pub may_read: bool,
    /// Whether the key may trade.
    pub may_trade: bool,
}

impl Caller {
    fn of(key: &ApiKey, deadline: Option<Time>) -> Caller {
        let may = |permission| key.permissions.contains(&permission);
        Caller { uid: key.uid, deadline, may_read: may(Permission::UserData), may_trade: may(Permission::Trade) }
    }
}

/// What a call needs to be authenticated and counted.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The key that the client names.
    pub api_key: Option<&'a str>,
    /// The key that its socket logged on with, which stands in for a key that is not named.
    pub session: Option<&'a str>,
    /// The token of who logged in, which stands in for key and signature.
    pub token: Option<&'a str>,
    /// What it signed.
    pub payload: &'a [u8],
    /// Where it comes from.
    pub address: IpAddr,
}

/// Checks what `security` demands: the key, its permission, the time, and the signature. Takes the parameters that belong
/// to it.
pub fn authenticate(
    catalog: &Catalog,
    security: Security,
    by: &Credentials<'_>,
    params: &mut Params,
    now: Time,
) -> Result<Option<Caller>, ApiError> {
    let permission = match security {
        Security::None => return Ok(None),
        Security::ApiKey | Security::UserStream => {
            let key = find_key(catalog, by.api_key.or(by.session))?;
            let lacks = security == Security::UserStream && !key.permissions.contains(&Permission::UserData);
            if lacks || !is_allowed_from(catalog, key, by.address) {
                return Err(ApiError::rejected_key());
            }
            return Ok(Some(Caller::of(key, None)));
        }
        Security::Signed => None,
        Security::UserData => Some(Permission::UserData),
        Security::Trade => Some(Permission::Trade),
        Security::Feed => Some(Permission::Feed),
    };
    let key = find_key(catalog, by.api_key.or(by.session))?;
    let timestamp = params.required_integer("timestamp")?;
    let window = params.optional("recvWindow")?;
    // A socket that logged on has proved whose it is: its requests may be signed, and need not.
    let is_proved = by.api_key.is_none() && by.session.is_some() && params.peek("signature").is_none();
    let signature = if is_proved { None } else { Some(params.required("signature")?) };
    let deadline = check_timing(timestamp, window.as_deref(), now)?;
    if signature.is_some_and(|signature| !verify(key, by.payload, &signature)) {
        return Err(ApiError::bad_signature());
    }
    let lacks = permission.is_some_and(|permission| !key.permissions.contains(&permission));
    if lacks || !is_allowed_from(catalog, key, by.address) {
        return Err(ApiError::rejected_key());
    }
    Ok(Some(Caller::of(key, Some(deadline))))
}

/// The key that the client names.
pub fn find_key<'a>(catalog: &'a Catalog, api_key: Option<&str>) -> Result<&'a ApiKey, ApiError> {
    let api_key = api_key.ok_or_else(ApiError::api_key_format)?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if api_key.is_empty() || api_key.len() > API_KEY_MAX || !api_key.bytes().all(legal) {
        return Err(ApiError::api_key_format());
    }
    let is_enabled = catalog.key_rules.get(api_key).is_none_or(|rules| rules.is_enabled);
    catalog.api_keys.get(api_key).filter(|_| is_enabled).ok_or_else(ApiError::rejected_key)
}

/// Whether a key may be used from that address.
pub fn is_allowed_from(catalog: &Catalog, key: &ApiKey, address: IpAddr) -> bool {
    let Some(rules) = catalog.key_rules.get(&key.api_key) else { return true };
    let holds = |range: &AddressRange| {
        Network::from_parts(range.address, range.prefix).is_some_and(|network| network.contains(address))
    };
    rules.allowed.is_empty() || rules.allowed.iter().any(holds)
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
        ApiKeyKind::Ed25519 { public_key } => {
            is_signed(UnparsedPublicKey::new(&ED25519, &public_key[..]), payload, signature)
        }
        ApiKeyKind::Rsa { public_key } => {
            is_signed(UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &public_key[..]), payload, signature)
        }
        // The views open what can be opened here.
        ApiKeyKind::SealedHmac { .. } => false,
    }
}

fn is_signed(public_key: UnparsedPublicKey<&[u8]>, payload: &[u8], signature: &str) -> bool {
    // A plus that was not percent-encoded has become a space; no base64 has one of its own.
    let signature = STANDARD.decode(signature.replace(' ', "+"));
    signature.is_ok_and(|signature| public_key.verify(payload, &signature).is_ok())
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
    use crate::public_keys;

    const SECRET: &str = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j";
    const NOW: Time = Time(1_499_827_320_000_000);

    fn catalog_of(kind: ApiKeyKind, permissions: Vec<Permission>) -> Catalog {
        let key = ApiKey { uid: Uid(7), api_key: "abc".into(), kind, permissions };
        Catalog { api_keys: [("abc".to_owned(), key)].into(), ..Catalog::default() }
    }

    fn hmac_catalog(permissions: Vec<Permission>) -> Catalog {
        catalog_of(ApiKeyKind::Hmac { secret: SECRET.into() }, permissions)
    }

    fn by<'a>(api_key: Option<&'a str>, payload: &'a [u8]) -> Credentials<'a> {
        Credentials { api_key, session: None, token: None, payload, address: [127, 0, 0, 1].into() }
    }

    fn ask_with(catalog: &Catalog, query: &str, body: &str, key: Option<&str>) -> Result<Option<Caller>, ApiError> {
        let mut params = Params::from_request(query, body.as_bytes())?;
        let payload = rest_payload(query, body.as_bytes());
        authenticate(catalog, Security::Trade, &by(key, &payload), &mut params, NOW)
    }

    fn ask(query: &str, body: &str, key: Option<&str>) -> Result<Option<Caller>, ApiError> {
        ask_with(&hmac_catalog(vec![Permission::Trade]), query, body, key)
    }

    const ORDER: &str = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559";
    const SIGNATURE: &str = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71";

    /// The public half of the key of fix-api.md, "Signature computation".
    const ED25519_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGUIKv9dSpWXBViXp2m6vAIb8QMFJYBgyFEQsFJlqgA0=\n\
        -----END PUBLIC KEY-----\n";
    /// By openssl, over [`ORDER`].
    const ED25519_SIGNATURE: &str =
        "WfzGnDebxAC6/SQQ8IgxO2A8zV0I3v3OTWs0IkFAqkrVzaUtwtzJI7VQf3QCKbPbYawE7LohsWhJm55b7ZPBAQ==";
    const RSA_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
        MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAjDU/8ZLRj7ArMNFGm1nY\n\
        IpkjXRbtUTkuj4EDKj//RvhipmLG6j0SCJdw0Fue8Vdx6yfH23m5UM32qCUcfxiD\n\
        FQLF5I6ZowWkCAopfCX+kExT+cqsfEWHwKLGf1MVn8clJSqOGbZef5hSaockwPVn\n\
        8NdoIK+WuOcQnZxgjRA3Czk18ImICG5ntCBoG2zClDognBtdEWG+7NqvLlBvyUPL\n\
        DULp7C1v77AdIHSbmEOZc4vw4kvFjgkSfdFbiqN8LyAJ1Kq73vu9+mOCEjqTEK6N\n\
        vFqPp+m/pGZF4eskPP2shMTpr6pkBVshZtie4/heik9/JO1BCJvBWydOVtm5mrqr\n\
        wwIDAQAB\n\
        -----END PUBLIC KEY-----\n";
    /// By openssl, over [`ORDER`].
    const RSA_SIGNATURE: &str = "g2z7vOMlTfuqbGXcTplymLRpEPha8ZsWaNDFueu9JHOgeIjBgm+SFaMkza0/o2xcu/dMfSKJxYpUaT3AziSEpswofw\
        +wcK8IQof2DEN/EUFwhGdy4f5sxVtnMmYuBwkCtXekvJFvnAcrpftmBwy0Bu+JOaCkwYwmvvYPHg3qtVlCmrTT6I32\
        ypfAsBa74+2BdkKfwwWZl9EUY3sifwJ7C5GO5KGEDNznH73eXNXNdSzkV9MkSBH3Gj2yh8RcnFnwU5TxcKcpojUGyo\
        2tAN4i6kuBUGcaxunHvlbR46RFvbvGOvSld+plC/4zPso2xukXhpnRYlve1ha4X6wxcNAWPQ==";

    #[test]
    fn the_documented_sample_is_accepted_in_query_and_in_body() {
        let signed = format!("{ORDER}&signature={SIGNATURE}");
        let caller = ask(&signed, "", Some("abc")).unwrap().unwrap();
        assert_eq!((caller.uid, caller.deadline), (Uid(7), Some(Time(1_499_827_324_559_000))));
        assert!(ask("", &signed, Some("abc")).is_ok());
        assert!(ask("", &signed.replace(SIGNATURE, &SIGNATURE.to_uppercase()), Some("abc")).is_ok());
    }

    #[test]
    fn the_documented_sample_with_a_percent_encoded_name_is_accepted() {
        // Encoded first, signed then.
        let order = ORDER.replace("LTCBTC", "%EF%BC%91%EF%BC%92%EF%BC%93%EF%BC%94%EF%BC%95%EF%BC%96");
        let signature = "e1353ec6b14d888f1164ae9af8228a3dbd508bc82eb867db8ab6046442f33ef3";
        assert!(ask(&format!("{order}&signature={signature}"), "", Some("abc")).is_ok());
        let decoded = ORDER.replace("LTCBTC", "１２３４５６");
        assert_eq!(ask(&format!("{decoded}&signature={signature}"), "", Some("abc")).unwrap_err().code, -1022);
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
    fn the_documented_ed25519_signature_is_accepted() {
        let key = public_keys::parse(ED25519_KEY).unwrap();
        let key = ApiKey { uid: Uid(7), api_key: "abc".into(), kind: key, permissions: Vec::new() };
        let payload = b"A\x01EXAMPLE\x01SPOT\x011\x0120240627-11:17:25.223";
        let signature = "4MHXelVVcpkdwuLbl6n73HQUXUf1dse2PCgT1DYqW9w8AVZ1RACFGM+5UdlGPrQHrgtS3CvsRURC1oj73j8gCA==";
        assert!(verify(&key, payload, signature));
        assert!(!verify(&key, &payload[1..], signature));
    }

    #[test]
    fn keys_of_every_kind_sign_in_query_and_body_and_nothing_altered_passes() {
        let encode = |text: &str| text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        for (pem, signature) in [(ED25519_KEY, ED25519_SIGNATURE), (RSA_KEY, RSA_SIGNATURE)] {
            let catalog = catalog_of(public_keys::parse(pem).unwrap(), vec![Permission::Trade]);
            let ask = |query: &str, body: &str| ask_with(&catalog, query, body, Some("abc"));
            let signed = format!("{ORDER}&signature={}", encode(signature));
            assert_eq!(ask(&signed, "").unwrap().unwrap().uid, Uid(7));
            assert!(ask("", &signed).is_ok());
            // Half of it in the query, and the signature not encoded.
            let (query, body) = ORDER.split_at(ORDER.find("price").unwrap());
            assert!(ask(query, &format!("{body}&signature={signature}")).is_ok());
            let code = |query: &str| ask(query, "").unwrap_err().code;
            assert_eq!(code(&signed.replace("price=0.1", "price=0.2")), -1022);
            // These two kinds are told apart by case.
            let lower = encode(&signature.to_lowercase());
            assert_eq!(code(&format!("{ORDER}&signature={lower}")), -1022);
            for other in ["", "AAAA", SIGNATURE, "%00", &encode(&signature[4..])] {
                let expected = if other.is_empty() { -1102 } else { -1022 };
                assert_eq!(code(&format!("{ORDER}&signature={other}")), expected, "{other}");
            }
        }
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
        assert!(check(NOW.0 + 999_999, None).is_ok());
        assert!(check(NOW.0 + 1_000_000, None).unwrap_err().contains("ahead"));
        assert!(check(u64::MAX, None).unwrap_err().contains("ahead"));
    }

    #[test]
    fn a_ws_api_request_signs_its_parameters_by_name() {
        let params = [("signature", "x"), ("timestamp", "5"), ("apiKey", "k"), ("price", "59997.0")];
        assert_eq!(ws_payload(params), "apiKey=k&price=59997.0&timestamp=5");
    }

    #[test]
    fn the_documented_ws_api_samples_are_accepted() {
        let sample = |symbol, side, quantity, price, window| {
            [
                ("symbol", symbol),
                ("side", side),
                ("type", "LIMIT"),
                ("timeInForce", "GTC"),
                ("quantity", quantity),
                ("price", price),
                ("recvWindow", window),
                ("timestamp", "1645423376532"),
                ("apiKey", "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"),
            ]
        };
        let key = &hmac_catalog(Vec::new()).api_keys["abc"];
        let ascii = ws_payload(sample("BTCUSDT", "SELL", "0.01000000", "52000.00", "100"));
        assert!(verify(key, ascii.as_bytes(), "aa1b5712c094bc4e57c05a1a5c1fd8d88dcd628338ea863fec7b88e59fe2db24"));
        let wide = ws_payload(sample("１２３４５６", "BUY", "1.00000000", "0.10000000", "5000"));
        assert!(verify(key, wide.as_bytes(), "b33892ae8e687c939f4468c6268ddd4c40ac1af18ad19a064864c47bae0752cd"));
    }

    #[test]
    fn a_key_without_the_permission_is_refused() {
        let catalog = hmac_catalog(vec![Permission::UserData]);
        let refused = ask_with(&catalog, &format!("{ORDER}&signature={SIGNATURE}"), "", Some("abc"));
        assert_eq!(refused.unwrap_err().code, -2015);
    }

    #[test]
    fn a_session_stands_in_for_key_and_signature_but_not_for_the_time() {
        let catalog = hmac_catalog(vec![Permission::Trade]);
        let ask = |api_key, query: &str| {
            let mut params = Params::from_request(query, b"").unwrap();
            let by = Credentials { session: Some("abc"), ..by(api_key, b"") };
            authenticate(&catalog, Security::Trade, &by, &mut params, NOW).map_err(|error| error.code)
        };
        assert_eq!(ask(None, "timestamp=1499827319559").unwrap().unwrap().uid, Uid(7));
        assert_eq!(ask(None, ""), Err(-1102));
        assert_eq!(ask(None, "timestamp=1499827310000"), Err(-1021));
        // What is said after all must be right.
        assert_eq!(ask(None, "timestamp=1499827319559&signature=00"), Err(-1022));
        assert_eq!(ask(Some("abc"), "timestamp=1499827319559"), Err(-1102));
    }
}
