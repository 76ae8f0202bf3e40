//! What a server says of itself on standard error: as many levels as it is told, changed while it runs, and nothing secret.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use gateway::client::{Credentials, WsApi, signed_request};
use gateway::passwords::one_time_code;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::exchange::{Exchange, binary, bootstrap, build_folder, credentials};
use tests::server::{Response, sign};

/// A server whose standard error can be read, with these settings of its log.
fn start(folder: &TempDir, log: &str) -> Exchange {
    Exchange::on(&folder.path().join("data"), &bootstrap(2, "0", "0"), log, &[])
}

fn folder() -> TempDir {
    TempDir::new_in(build_folder()).expect("a folder in the build folder")
}

/// What an operator asks on the command line: the exit status, and what it prints.
fn admin(server: &Exchange, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(binary())
        .args(["admin", "--operator", "ann", "--json", "--data"])
        .arg(server.data())
        .args(arguments)
        .output()
        .expect("the binary can be started");
    let told = [output.stdout, output.stderr].concat();
    (output.status.code().expect("it ended by itself"), String::from_utf8(told).expect("text"))
}

fn done(server: &Exchange, arguments: &[&str]) -> Value {
    let (status, told) = admin(server, arguments);
    assert_eq!(status, 0, "{arguments:?}: {told}");
    serde_json::from_str::<Value>(&told).expect("JSON")["result"].clone()
}

fn deposit(server: &Exchange, name: &str) {
    done(server, &["deposit", "1", "BTC", "1", name]);
}

#[test]
fn levels_change_while_it_runs_and_what_is_no_level_is_refused() {
    let folder = folder();
    let server = start(&folder, "[log]\nlevel = \"info,journal=warn\"\n");
    let filter = |told: &Value| told["filter"].as_str().expect("a text").to_owned();
    let begun = filter(&done(&server, &["log-level"]));
    assert!(begun.contains("info") && begun.contains("journal=warn"), "{begun}");
    // An operator's command is told at info, before it is answered.
    deposit(&server, "first");
    assert_eq!(filter(&done(&server, &["log-level", "warn"])), "warn");
    deposit(&server, "second");
    for wrong in ["loud", "info,gateway", "", "gateway=loud"] {
        let (status, told) = admin(&server, &["log-level", wrong]);
        assert!(status == 1 && told.contains("neither a level"), "{wrong}: {told}");
    }
    assert_eq!(filter(&done(&server, &["log-level"])), "warn");
    done(&server, &["log-level", "off,gateway::admin=info"]);
    deposit(&server, "third");
    let log = server.stderr();
    assert!(log.contains("first") && !log.contains("second") && log.contains("third"), "{log}");
    // Lines for people, without the colours of a terminal.
    assert!(log.contains(" INFO ") && !log.contains('\u{1b}'), "{log}");
}

#[test]
fn a_level_that_is_none_keeps_it_from_starting() {
    let folder = folder();
    let config = folder.path().join("rialto.toml");
    std::fs::write(&config, "[log]\nlevel = \"loud\"\n").unwrap();
    let check = |with_file: bool, variable: &str| {
        let mut command = Command::new(binary());
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path().join("data"));
        if with_file {
            command.arg("--config").arg(&config);
        }
        let output = command.env("RUST_LOG", variable).output().expect("the binary can be started");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let (status, told) = check(true, "");
    assert!(status == Some(1) && told.contains("log.level: \"loud\""), "{told}");
    let (status, told) = check(false, "info,noisy");
    assert!(status == Some(1) && told.contains("RUST_LOG: \"noisy\""), "{told}");
}

/// One request on a connection of its own, with whatever bytes.
fn exchange(server: &Exchange, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(server.address().to_string()).expect("it listens");
    // Who refuses early need not read or say all of it.
    let _ = socket.write_all(bytes);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn ask(server: &Exchange, method: &str, target: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n");
    exchange(server, format!("{head}{headers}\r\n{body}").as_bytes())
}

/// What was sent or received and lets somebody in, by what it is.
#[derive(Default)]
struct Secrets(BTreeMap<String, String>);

impl Secrets {
    fn keep(&mut self, what: &str, secret: &str) {
        assert!(secret.len() >= 8, "{what}: {secret:?}");
        self.0.insert(format!("{what} {}", self.0.len()), secret.to_owned());
    }

    fn keep_signature(&mut self, signed: &str) {
        self.keep("a signature", signed.split("signature=").nth(1).expect("it is signed"));
    }
}

#[tokio::test]
async fn nothing_that_lets_anybody_in_is_ever_logged() {
    let folder = folder();
    let log = "[log]\nformat = \"json\"\nlevel = \"warn,gateway=trace,journal=trace,engine=trace,rialto=trace\"\n";
    let server = start(&folder, log);
    let mut secrets = Secrets::default();
    for account in [1, 2] {
        secrets.keep("an API secret", &credentials(account).secret);
    }
    let token = std::fs::read_to_string(server.data().join("admin.token")).unwrap().trim().to_owned();
    secrets.keep("the operators' token", &token);

    // Operators make what is secret, and are refused with it.
    let made = done(&server, &["create-key", "1"]);
    let key = Credentials {
        api_key: made["api_key"].as_str().unwrap().to_owned(),
        secret: made["secret"].as_str().unwrap().to_owned(),
    };
    secrets.keep("an API secret", &key.secret);
    let password = "correct horse battery staple";
    let user = done(&server, &["set-user", "bob", "--uid", "1", "--password", password, "--one-time-codes"]);
    secrets.keep("a password", password);
    let url = user["one_time_url"].as_str().unwrap();
    let one_time = url.split("secret=").nth(1).unwrap().split('&').next().unwrap();
    secrets.keep("a secret of one-time codes", one_time);
    let made = done(&server, &["set-user", "eve", "--uid", "2"]);
    secrets.keep("a password", made["password"].as_str().unwrap());
    assert_eq!(admin(&server, &["set-user", "bob", "--role", "king", "--password", "another fine password"]).0, 1);
    secrets.keep("a password", "another fine password");

    // Requests signed well, signed badly, to nowhere, too late, and torn.
    let order = "symbol=BTCUSD&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=100";
    let named = |who: &Credentials| format!("X-MBX-APIKEY: {}\r\n", who.api_key);
    for who in [&credentials(1), &credentials(2), &key] {
        for path in ["/api/v3/order", "/api/v3/order/test", "/api/v3/nowhere"] {
            let signed = sign(who, order);
            secrets.keep_signature(&signed);
            ask(&server, "POST", &format!("{path}?{signed}"), &named(who), "");
            ask(&server, "POST", path, &named(who), &signed);
            ask(&server, "PATCH", &format!("{path}?{signed}&signature=%ff"), &named(who), "");
        }
    }
    let forged = sign(&Credentials { secret: "a secret that is wrong".to_owned(), ..key.clone() }, order);
    secrets.keep_signature(&forged);
    assert!(ask(&server, "POST", &format!("/api/v3/order?{forged}"), &named(&key), "").contains("-1022"));
    let signed = sign(&key, order);
    secrets.keep_signature(&signed);
    for torn in [
        format!("POST /api/v3/order?{signed} NONSENSE\r\n\r\n"),
        format!("POST /api/v3/order HTTP/1.1\r\n{}: {signed}\r\n\r\n", "\u{7f}"),
        format!("{signed}\r\n\r\n"),
        format!("GET /api/v3/account?{signed} HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(40_000)),
    ] {
        exchange(&server, torn.as_bytes());
    }

    // Logins, good and bad, and what they give.
    let code = one_time_code(&base32(one_time), gateway::client::now_ms() / 30_000);
    let login = json!({ "name": "bob", "password": password, "code": code }).to_string();
    let logged_in = Response::parse(ask(&server, "POST", "/rialto/v1/login", "", &login).as_bytes()).body;
    let tokens: Vec<&str> =
        logged_in.as_object().unwrap().values().filter_map(Value::as_str).filter(|it| it.len() > 40).collect();
    assert!(tokens.len() >= 2, "{logged_in}");
    for token in tokens {
        secrets.keep("a token of a login", token);
        ask(&server, "GET", "/rialto/v1/me", &format!("Authorization: Bearer {token}\r\n"), "");
        ask(&server, "GET", "/api/v3/account", &format!("Authorization: Bearer {token}x\r\n"), "");
        ask(&server, "POST", "/rialto/v1/refresh", "", &json!({ "refreshToken": token }).to_string());
    }
    let wrong = json!({ "name": "bob", "password": "a password that is wrong", "code": "123456" }).to_string();
    secrets.keep("a password", "a password that is wrong");
    ask(&server, "POST", "/rialto/v1/login", "", &wrong);

    // Listen keys and websockets.
    let listen_key = Response::parse(ask(&server, "POST", "/api/v3/userDataStream", &named(&key), "").as_bytes()).body;
    if let Some(listen_key) = listen_key["listenKey"].as_str() {
        secrets.keep("a listen key", listen_key);
        ask(&server, "GET", &format!("/ws/{listen_key}"), "", "");
        let upgrade =
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        exchange(
            &server,
            format!("GET /ws/{listen_key} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{upgrade}\r\n").as_bytes(),
        );
    }
    let mut socket = WsApi::connect(server.address()).await.unwrap();
    for (id, method) in [(1, "order.place"), (2, "session.logon"), (3, "no.such.method"), (4, "account.status")] {
        let request = signed_request(id, method, &[], &key);
        let sent: Value = serde_json::from_str(&request).unwrap();
        secrets.keep("a signature", sent["params"]["signature"].as_str().unwrap());
        socket.call(id, request).await.unwrap();
    }
    let (mut sender, mut receiver) = socket.split();
    sender.feed(format!("not JSON: {signed}")).await.unwrap();
    sender.flush().await.unwrap();
    // It is refused under no id that could be read.
    let _ = receiver.next().await;
    sender.close().await;
    deposit(&server, "the last of all");

    let log = server.stderr();
    let mut levels = BTreeMap::<String, usize>::new();
    for line in log.lines() {
        let told: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(told["timestamp"].is_string() && told["target"].is_string() && told["fields"].is_object(), "{line}");
        *levels.entry(told["level"].as_str().expect("a level").to_owned()).or_default() += 1;
    }
    // It tells of all this, and in detail.
    assert!(log.contains("create-key") && log.contains("set-user") && log.contains("the last of all"), "{log}");
    assert!(levels.contains_key("INFO") && levels.contains_key("DEBUG") && !levels.contains_key("ERROR"), "{levels:?}");
    for (what, secret) in &secrets.0 {
        assert!(
            !log.contains(secret),
            "{what} is in the log: {}",
            log.lines().find(|line| line.contains(secret)).unwrap()
        );
    }
}

/// The bytes of a secret of one-time codes, as authenticators are told it.
fn base32(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for letter in text.bytes() {
        let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|known| *known == letter).expect("base 32");
        bits = bits << 5 | value as u32;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    bytes
}
