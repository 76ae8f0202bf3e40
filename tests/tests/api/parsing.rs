//! Whatever bytes a client sends, reading a request and checking its signature ends in an answer, never in a panic; and what
//! was signed is the bytes that were sent. Random, by a seed that is printed; `RIALTO_SEED` sets it, `RIALTO_CASES` how many.

use engine::command::{ApiKey, ApiKeyKind, Permission};
use engine::{Time, Uid};
use gateway::auth::{Credentials, Security, authenticate, rest_payload, ws_payload};
use gateway::params::Params;
use gateway::public_keys;
use gateway::views::Catalog;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const NOW: Time = Time(1_700_000_000_000_000);
const ED25519: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGUIKv9dSpWXBViXp2m6vAIb8QMFJYBgyFEQsFJlqgA0=\n-----END PUBLIC KEY-----";

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn catalog() -> Catalog {
    let key = |name: &str, kind: ApiKeyKind| {
        let api_key = ApiKey { uid: Uid(1), api_key: name.to_owned(), kind, permissions: vec![Permission::Trade] };
        (name.to_owned(), api_key)
    };
    let keys = [
        key("hmac", ApiKeyKind::Hmac { secret: b"secret".to_vec() }),
        key("ed", public_keys::parse(ED25519).unwrap()),
        // Bytes that are no key at all: whatever came to be in the log, a signature is refused by it.
        key("rsa", ApiKeyKind::Rsa { public_key: vec![0x30, 0x82, 0xff] }),
    ];
    Catalog { api_keys: keys.into(), ..Catalog::default() }
}

/// Pieces that requests are made of, and a few that they are not.
const PIECES: [&str; 28] = [
    "symbol",
    "timestamp",
    "recvWindow",
    "signature",
    "quantity",
    "=",
    "&",
    "&&",
    "==",
    "?",
    "%",
    "%2",
    "%zz",
    "%00",
    "%FF",
    "%E2%82%AC",
    "+",
    "1700000000000",
    "1700000000000000",
    "99999999999999999999",
    "5000.123",
    "-1",
    "1e9",
    "\u{fe0f}",
    "é",
    "BTCUSDT",
    "AAAA",
    "=timestamp=",
];

fn random_form(random: &mut StdRng) -> Vec<u8> {
    let mut form = Vec::new();
    for _ in 0..random.random_range(0..24) {
        match random.random_range(0..10) {
            0 => form.push(random.random()),
            1 if !form.is_empty() => {
                let at = random.random_range(0..form.len());
                form[at] ^= 1 << random.random_range(0..8);
            }
            _ => form.extend(PIECES[random.random_range(0..PIECES.len())].bytes()),
        }
    }
    form
}

#[test]
fn no_bytes_make_reading_or_checking_a_request_panic() {
    let seed = setting("RIALTO_SEED", 1);
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let catalog = catalog();
    let (mut read, mut let_in) = (0, 0);
    for _ in 0..setting("RIALTO_CASES", 30_000) {
        let (query, body) = (random_form(&mut random), random_form(&mut random));
        let query = String::from_utf8_lossy(&query);
        let payload = rest_payload(&query, &body);
        assert!(payload.len() <= query.len() + body.len(), "nothing is added to what is signed");
        let Ok(mut params) = Params::from_request(&query, &body) else { continue };
        read += 1;
        let key = ["hmac", "ed", "rsa", "none", "\u{0}"][random.random_range(0..5)];
        let by = Credentials {
            api_key: Some(key),
            token: None,
            session: None,
            payload: &payload,
            address: [127, 0, 0, 1].into(),
        };
        let_in += u32::from(authenticate(&catalog, Security::Trade, &by, &mut params, NOW).is_ok());
    }
    println!("{read} were read");
    assert!(read > 0);
    assert_eq!(let_in, 0, "nobody guesses a signature");
}

#[test]
fn no_text_makes_reading_a_public_key_panic() {
    let seed = setting("RIALTO_SEED", 1);
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..20_000 {
        let mut pem = ED25519.as_bytes().to_vec();
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..pem.len());
            match random.random_range(0..3) {
                0 => pem[at] = random.random(),
                1 => drop(pem.remove(at)),
                _ => pem.insert(at, random.random()),
            }
        }
        // Many are a key still; none is a panic.
        let _ = public_keys::parse(&String::from_utf8_lossy(&pem));
    }
}

#[test]
fn what_a_ws_api_request_signs_does_not_hang_on_the_order_of_its_parameters() {
    let mut random = StdRng::seed_from_u64(setting("RIALTO_SEED", 1));
    let mut pairs: Vec<(String, String)> = (0..12).map(|at| (format!("p{at}"), format!("v{at}"))).collect();
    let signed = ws_payload(pairs.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    for _ in 0..100 {
        let (one, other) = (random.random_range(0..12), random.random_range(0..12));
        pairs.swap(one, other);
        assert_eq!(ws_payload(pairs.iter().map(|(name, text)| (name.as_str(), text.as_str()))), signed);
    }
}
