//! Arbitrary requests to a whole server in this process, over real sockets, signed or not; see ../README.md.
//!
//! Whatever comes is answered, with JSON and a documented status, and the server goes on: a panic on any of its threads ends
//! the process, which is a finding.
#![no_main]

use std::sync::{LazyLock, Mutex};

use futures_util::{SinkExt, StreamExt};
use gateway::bootstrap::Bootstrap;
use gateway::client::{Credentials, now_ms};
use gateway::config::Config;
use gateway::rest::ROUTES;
use gateway::serve::{self, Running};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const BOOTSTRAP: &str = r#"
[[asset]]
name = "BTC"
scale = 8
[[asset]]
name = "USD"
scale = 10
[[symbol]]
name = "BTCUSD"
base = "BTC"
quote = "USD"
tick_size = "0.01"
step_size = "0.00000001"
min_notional = "0"
maker_fee = "0.001"
taker_fee = "0.002"
[[account]]
uid = 1
balances = { BTC = "10000000", USD = "10000000000" }
[[account.key]]
api_key = "key"
type = "HMAC"
secret = "secret"
permissions = ["USER_DATA", "TRADE"]
"#;

static SERVER: LazyLock<Mutex<Server>> = LazyLock::new(|| Mutex::new(Server::start()));

fuzz_target!(|bytes: &[u8]| {
    let Server { runtime, running, rest, socket, .. } = &mut *SERVER.lock().expect("no panic came before");
    let address = running.url().replace("http://", "");
    runtime.block_on(async {
        let Some((&[way, route, how], text)) = bytes.split_first_chunk::<3>() else { return };
        if way % 2 == 0 {
            ask_rest(rest, &address, route, how, text).await;
        } else {
            ask_ws(socket, &address, route, how, text).await;
        }
    });
});

struct Server {
    running: Running,
    rest: Option<TcpStream>,
    socket: Option<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = Runtime::new().expect("a runtime");
        let mut config = Config { data: Some(folder.path().to_owned()), ..Config::default() };
        config.listen = Some(([127, 0, 0, 1], 0).into());
        config.limits.request_weight_per_minute = u32::MAX;
        config.limits.raw_requests_per_5_minutes = 0;
        config.limits.connections_per_5_minutes = 0;
        config.limits.refusals_before_ban = 0;
        config.limits.orders_per_10_seconds = u32::MAX;
        config.limits.orders_per_day = u32::MAX;
        let bootstrap = Bootstrap::parse(BOOTSTRAP).expect("it is right");
        let running = runtime.block_on(serve::start(config, Some(bootstrap))).expect("it starts");
        Server { running, rest: None, socket: None, runtime, _folder: folder }
    }
}

fn who() -> Credentials {
    Credentials { api_key: "key".to_owned(), secret: "secret".to_owned() }
}

/// `how`: whether it names a key, is signed, and is in the query or the body.
async fn ask_rest(kept: &mut Option<TcpStream>, address: &str, route: u8, how: u8, text: &[u8]) {
    let route = &ROUTES[usize::from(route) % ROUTES.len()];
    let mut form = text.to_vec();
    if how & 2 != 0 {
        let before = if form.is_empty() { "" } else { "&" };
        form.extend(format!("{before}recvWindow=60000&timestamp={}", now_ms()).bytes());
        // Signed as it is sent; bytes that are no text cannot be signed by this client.
        if let Ok(text) = std::str::from_utf8(&form) {
            let signature = who().sign(text);
            form.extend(format!("&signature={signature}").bytes());
        }
    }
    let in_body = how & 4 != 0;
    if !in_body {
        // What would end the request line is what no client can send there.
        form.retain(|byte| byte.is_ascii_graphic() && *byte != b'#');
    }
    let (query, body) = if in_body { (&b""[..], &form[..]) } else { (&form[..], &b""[..]) };
    let key = if how & 1 != 0 { "X-MBX-APIKEY: key\r\n" } else { "" };
    let mut request = format!("{} {}?", route.method, route.path).into_bytes();
    request.extend(query);
    let length = body.len();
    request.extend(
        format!(
            " HTTP/1.1\r\nHost: x\r\n{key}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n"
        )
        .bytes(),
    );
    request.extend(body);
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => TcpStream::connect(address).await.expect("it listens"),
    };
    stream.write_all(&request).await.expect("it reads");
    let mut answer = Vec::new();
    let (status, body, closes) = loop {
        if let Some(whole) = whole(&answer) {
            break whole;
        }
        let read = stream.read_buf(&mut answer).await.expect("it answers");
        assert!(read > 0, "closed without an answer: {}", String::from_utf8_lossy(&answer));
    };
    assert!(status < 500 || status == 503, "{status}: {body}");
    if status != 404 && status != 405 && route.method != "HEAD" {
        let json: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        assert!(status == 200 || json["code"].as_i64().is_some_and(|code| code < 0), "{status}: {body}");
    }
    if !closes {
        *kept = Some(stream);
    }
}

/// Status, body and whether the server closes, once all of it is there.
fn whole(bytes: &[u8]) -> Option<(u16, String, bool)> {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..at]).expect("a head is text").to_lowercase();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let length: usize = header("content-length").expect("it has a length").parse().expect("a number");
    let body = &bytes[at + 4..];
    let status = head.split(' ').nth(1)?.parse().expect("a number");
    let closes = header("connection") == Some("close");
    (body.len() == length).then(|| (status, String::from_utf8(body.to_vec()).expect("text"), closes))
}

/// `how`: whether the text is a form of parameters, which is signed, or the whole message.
async fn ask_ws(
    kept: &mut Option<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    address: &str,
    route: u8,
    how: u8,
    text: &[u8],
) {
    let text = String::from_utf8_lossy(text);
    let message = if how & 1 == 0 { text.into_owned() } else { signed(&text, route, how) };
    let mut socket = match kept.take() {
        Some(socket) => socket,
        None => {
            let url = format!("ws://{address}/ws-api/v3");
            tokio_tungstenite::connect_async(url).await.expect("it accepts").0
        }
    };
    socket.send(Message::text(message.clone())).await.expect("it reads");
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(answer))) => {
                let json: Value = serde_json::from_str(&answer).expect("an answer is JSON");
                if json.get("event").is_some() {
                    continue;
                }
                let status = json["status"].as_u64().expect("an answer has a status");
                assert!(status < 500 || status == 503, "{message}: {answer}");
                assert!(status == 200 || json["error"]["code"].as_i64().is_some_and(|code| code < 0), "{answer}");
                break;
            }
            Some(Ok(Message::Close(frame))) => panic!("closed: {frame:?}"),
            Some(Ok(_)) => {}
            other => panic!("{message}: {other:?}"),
        }
    }
    *kept = Some(socket);
}

fn signed(form: &str, route: u8, how: u8) -> String {
    let route = &ROUTES[usize::from(route) % ROUTES.len()];
    let mut params = Map::new();
    for pair in form.split('&') {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        // A number, a list or a word where it is one.
        let token = if how & 2 != 0 { serde_json::from_str(text).ok() } else { None };
        params.insert(name.to_owned(), token.unwrap_or_else(|| Value::from(text)));
    }
    params.insert("apiKey".to_owned(), "key".into());
    params.insert("recvWindow".to_owned(), 60_000.into());
    params.insert("timestamp".to_owned(), now_ms().into());
    params.remove("signature");
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut pairs: Vec<(&String, String)> = params.iter().map(|(name, value)| (name, text(value))).collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, text)| format!("{name}={text}")).collect();
    let signature = who().sign(&pairs.join("&"));
    params.insert("signature".to_owned(), signature.into());
    serde_json::json!({ "id": 1, "method": route.ws_method, "params": params }).to_string()
}
