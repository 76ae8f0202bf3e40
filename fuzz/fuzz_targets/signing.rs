//! Arbitrary bytes as what is signed, as signatures, as keys and as tokens; see ../README.md.
#![no_main]

use std::net::IpAddr;
use std::sync::LazyLock;

use engine::command::{ApiKey, ApiKeyKind, Permission};
use engine::{Time, Uid};
use gateway::auth::{self, Security, authenticate, rest_payload, ws_payload};
use gateway::client::Credentials;
use gateway::params::Params;
use gateway::tokens::{Purpose, Tokens};
use gateway::views::Catalog;
use gateway::{client_address, public_keys};
use libfuzzer_sys::fuzz_target;

const NOW: Time = Time(1_700_000_000_000_000);
const TIMESTAMP: &str = "timestamp=1700000000000";
const ED25519: &str =
    "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGUIKv9dSpWXBViXp2m6vAIb8QMFJYBgyFEQsFJlqgA0=\n-----END PUBLIC KEY-----";

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let key = |name: &str, kind| {
        let permissions = vec![Permission::Trade];
        (name.to_owned(), ApiKey { uid: Uid(1), api_key: name.to_owned(), kind, permissions })
    };
    let keys = [
        key("hmac", ApiKeyKind::Hmac { secret: b"secret".to_vec() }),
        key("ed", public_keys::parse(ED25519).expect("a key")),
        key("rsa", ApiKeyKind::Rsa { public_key: vec![0x30, 0x82, 0xff] }),
    ];
    Catalog { api_keys: keys.into(), ..Catalog::default() }
});

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind % 5 {
        0 => guessed(rest),
        1 => signed(rest),
        2 => public_key(rest),
        3 => token(rest),
        _ => forwarded(rest),
    }
});

/// The bytes up to the first zero, and those after it.
fn halves(bytes: &[u8]) -> (&[u8], &[u8]) {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (&bytes[..at], bytes.get(at + 1..).unwrap_or_default())
}

fn may_trade(key: &str, query: &str, body: &[u8]) -> bool {
    let payload = rest_payload(query, body);
    let Ok(mut params) = Params::from_request(query, body) else { return false };
    let address = [127, 0, 0, 1].into();
    let by = auth::Credentials { api_key: Some(key), token: None, session: None, payload: &payload, address };
    authenticate(&CATALOG, Security::Trade, &by, &mut params, NOW).is_ok()
}

/// Nobody guesses a signature, whatever key is named.
fn guessed(bytes: &[u8]) {
    let (query, body) = halves(bytes);
    let query = String::from_utf8_lossy(query);
    for key in ["hmac", "ed", "rsa", "none", &query] {
        assert!(!may_trade(key, &query, body), "let in");
    }
}

/// What is signed as documented is let in, and nothing that was changed after.
fn signed(bytes: &[u8]) {
    let (query, body) = halves(bytes);
    let query = format!("{}&{TIMESTAMP}", String::from_utf8_lossy(query));
    let client = Credentials { api_key: "hmac".to_owned(), secret: "secret".to_owned() };
    // The client signs the bytes that it sends.
    let Ok(body) = std::str::from_utf8(body) else { return };
    let is_plain = |text: &str| !text.split('&').any(|part| part.starts_with("signature="));
    if !is_plain(&query) || !is_plain(body) {
        return;
    }
    let signature = client.sign(&format!("{query}{body}"));
    let sent = format!("{query}&signature={signature}");
    let Ok(params) = Params::from_request(&sent, body.as_bytes()) else { return };
    // Other texts under these names, percent-encoded perhaps, are what it says instead.
    let is_ours = params.peek("timestamp") == Some("1700000000000")
        && params.peek("signature") == Some(&*signature)
        && params.peek("recvWindow").is_none();
    let let_in = may_trade("hmac", &sent, body.as_bytes());
    assert!(let_in || !is_ours, "signed and refused");
    if let_in {
        for at in 0..query.len().min(64) {
            let mut changed = query.clone().into_bytes();
            changed[at] ^= 1;
            if let Ok(changed) = String::from_utf8(changed) {
                assert!(!may_trade("hmac", &format!("{changed}&signature={signature}"), body.as_bytes()), "changed");
            }
        }
        assert!(!may_trade("hmac", &format!("{query}x&signature={signature}"), body.as_bytes()), "longer");
    }
    let pairs: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let backwards = pairs.iter().rev().copied();
    assert_eq!(ws_payload(pairs.iter().copied()), ws_payload(backwards), "order does not matter");
}

fn public_key(bytes: &[u8]) {
    let (pem, payload) = halves(bytes);
    let pem = String::from_utf8_lossy(pem);
    // With the frame, so that what is inside is reached.
    let framed = format!("-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----");
    for text in [&*pem, &framed] {
        let Ok(kind) = public_keys::parse(text) else { continue };
        let key = ApiKey { uid: Uid(1), api_key: "k".to_owned(), kind, permissions: vec![Permission::Trade] };
        let catalog = Catalog { api_keys: [("k".to_owned(), key)].into(), ..Catalog::default() };
        let query = format!("{TIMESTAMP}&signature={}", String::from_utf8_lossy(payload));
        let Ok(mut params) = Params::from_request(&query, b"") else { continue };
        let address = [127, 0, 0, 1].into();
        let by = auth::Credentials { api_key: Some("k"), token: None, session: None, payload, address };
        let _ = authenticate(&catalog, Security::Trade, &by, &mut params, NOW);
    }
}

fn token(bytes: &[u8]) {
    let tokens = Tokens::new(&[7; 32]);
    let text = String::from_utf8_lossy(bytes);
    assert!(tokens.read(&text, Purpose::Access, NOW).is_none(), "nobody makes a token");
    assert!(tokens.read(&text, Purpose::Refresh, NOW).is_none(), "nobody makes a token");
}

fn forwarded(bytes: &[u8]) {
    let peer: IpAddr = [127, 0, 0, 1].into();
    let values: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    assert_eq!(client_address::client(peer, values.iter().copied(), &[]), peer, "nobody is trusted");
}
