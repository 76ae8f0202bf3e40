//! A small client of the public API, for the programs that come with the exchange: replay, demo, benchmarks and tests.
//!
//! It knows what any client knows: URLs, JSON, signatures. Nothing here reaches into the server.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Map, Value, json};
use sha2::Sha256;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// The widest window the API allows, in milliseconds: a pipelined request waits behind others before it is checked.
const RECEIVE_WINDOW_MS: u64 = 60_000;
/// How long a REST call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a call could not be made or answered: the connection, not the exchange's refusal.
#[derive(Debug)]
pub struct ClientError(pub String);

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ClientError {}

fn error(what: &str, why: impl std::fmt::Display) -> ClientError {
    ClientError(format!("{what}: {why}"))
}

/// An API key with its HMAC secret.
#[derive(Clone)]
pub struct Credentials {
    /// What goes into `X-MBX-APIKEY`.
    pub api_key: String,
    /// What signs.
    pub secret: String,
}

impl Credentials {
    /// HMAC-SHA256 of `payload`, in hex.
    pub fn sign(&self, payload: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("HMAC takes a key of any length");
        mac.update(payload.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }
}

/// Where a server is, without a scheme: `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// From `http://host:port`, `ws://host:port` or `host:port`, with or without a path.
    pub fn parse(url: &str) -> Result<Address, ClientError> {
        if url.starts_with("https://") || url.starts_with("wss://") {
            return Err(error("URL", "TLS is not spoken here; use http://"));
        }
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("ws://")).unwrap_or(url);
        let authority = rest.split('/').next().unwrap_or_default();
        if authority.is_empty() {
            return Err(error("URL", format!("no host in {url:?}")));
        }
        Ok(Address(authority.to_owned()))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What the exchange answered, good or bad.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status, or the one in a WS API answer.
    pub status: u16,
    /// The result, or the error object with `code` and `msg`.
    pub body: Value,
    /// The sequence of the command that it acknowledges, or up to which it knows all; by the WS API only where it was asked.
    pub sequence: Option<u64>,
}

impl Answer {
    /// Whether the exchange did what was asked.
    pub fn is_success(&self) -> bool {
        self.status == 200
    }

    /// The error code; 0 when there is none.
    pub fn code(&self) -> i64 {
        self.body["code"].as_i64().unwrap_or(0)
    }

    /// The error text; empty when there is none.
    pub fn message(&self) -> &str {
        self.body["msg"].as_str().unwrap_or_default()
    }
}

/// The REST side.
pub struct Rest {
    address: Address,
    client: Client<HttpConnector, Full<Bytes>>,
    is_linearizable: bool,
}

impl Rest {
    /// A client of the server at `address`; connects when first used.
    pub fn new(address: &Address) -> Rest {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Rest { address: address.clone(), client, is_linearizable: false }
    }

    /// The same, and every read reflects all that was acknowledged before it was asked, by whichever node.
    pub fn linearizable(address: &Address) -> Rest {
        Rest { is_linearizable: true, ..Rest::new(address) }
    }

    /// An unsigned GET.
    pub async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Answer, ClientError> {
        self.send(Method::GET, path, query(parameters), None).await
    }

    /// A signed call.
    pub async fn signed(
        &self,
        method: Method,
        path: &str,
        parameters: &[(&str, &str)],
        who: &Credentials,
    ) -> Result<Answer, ClientError> {
        let mut payload = query(parameters);
        if !payload.is_empty() {
            payload.push('&');
        }
        payload.push_str(&format!("recvWindow={RECEIVE_WINDOW_MS}&timestamp={}", now_ms()));
        let signature = who.sign(&payload);
        self.send(method, path, format!("{payload}&signature={signature}"), Some(who)).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: String,
        who: Option<&Credentials>,
    ) -> Result<Answer, ClientError> {
        let mark = if query.is_empty() { "" } else { "?" };
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}{mark}{query}", self.address));
        if let Some(who) = who {
            request = request.header("X-MBX-APIKEY", &who.api_key);
        }
        if self.is_linearizable {
            request = request.header("X-Rialto-Consistency", "linearizable");
        }
        let request = request.body(Full::default()).map_err(|why| error(path, why))?;
        let answer = async {
            let response = self.client.request(request).await.map_err(|why| error(path, why))?;
            let status = response.status().as_u16();
            let sequence = response.headers().get("x-rialto-sequence");
            let sequence = sequence.and_then(|text| text.to_str().ok()?.parse().ok());
            let bytes = response.into_body().collect().await.map_err(|why| error(path, why))?.to_bytes();
            let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            Ok(Answer { status, body, sequence })
        };
        tokio::time::timeout(CALL_TIMEOUT, answer).await.map_err(|_| error(path, "no answer"))?
    }
}

/// The WS API: one socket, requests out and answers in, matched by id.
pub struct WsApi {
    sender: WsApiSender,
    receiver: WsApiReceiver,
}

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The half that asks.
pub struct WsApiSender(SplitSink<Stream, Message>);

/// The half that hears.
pub struct WsApiReceiver(SplitStream<Stream>);

impl WsApi {
    /// Connect to `/ws-api/v3`.
    pub async fn connect(address: &Address) -> Result<WsApi, ClientError> {
        let url = format!("ws://{address}/ws-api/v3?returnRateLimits=false");
        let no_delay = true;
        let connected = tokio_tungstenite::connect_async_with_config(&url, None, no_delay).await;
        let (stream, _) = connected.map_err(|why| error(&url, why))?;
        let (sink, stream) = stream.split();
        Ok(WsApi { sender: WsApiSender(sink), receiver: WsApiReceiver(stream) })
    }

    /// The two halves, for pipelining.
    pub fn split(self) -> (WsApiSender, WsApiReceiver) {
        (self.sender, self.receiver)
    }

    /// Ask and wait for the answer to `id`; answers to other ids are dropped.
    pub async fn call(&mut self, id: u64, request: String) -> Result<Answer, ClientError> {
        self.sender.feed(request).await?;
        self.sender.flush().await?;
        loop {
            let (answered, answer) = self.receiver.next().await?;
            if answered == id {
                return Ok(answer);
            }
        }
    }
}

impl WsApiSender {
    /// Hand a request to the socket; it may wait there until [`WsApiSender::flush`].
    pub async fn feed(&mut self, request: String) -> Result<(), ClientError> {
        self.0.feed(Message::text(request)).await.map_err(|why| error("socket", why))
    }

    /// Send what was fed.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        self.0.flush().await.map_err(|why| error("socket", why))
    }

    /// Say goodbye.
    pub async fn close(&mut self) {
        // The other side may be gone already: nothing is lost then.
        let _ = self.0.close().await;
    }
}

impl WsApiReceiver {
    /// The next answer and the id it answers; an error when the socket ends.
    pub async fn next(&mut self) -> Result<(u64, Answer), ClientError> {
        loop {
            match self.0.next().await {
                None => return Err(error("socket", "closed by the server")),
                Some(Err(why)) => return Err(error("socket", why)),
                Some(Ok(Message::Close(frame))) => {
                    let why = frame.map_or_else(|| "no reason given".to_owned(), |frame| frame.reason.to_string());
                    return Err(error("socket closed by the server", why));
                }
                Some(Ok(Message::Text(text))) => return parse_answer(&text),
                // Pings are answered by the library.
                Some(Ok(_)) => {}
            }
        }
    }
}

fn parse_answer(text: &str) -> Result<(u64, Answer), ClientError> {
    let mut value: Value = serde_json::from_str(text).map_err(|why| error("answer", why))?;
    let status = value["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(0);
    let Some(id) = value["id"].as_u64() else {
        return Err(error("answer without an id", text));
    };
    let body = if status == 200 { value["result"].take() } else { value["error"].take() };
    Ok((id, Answer { status, body, sequence: value["sequence"].as_u64() }))
}

/// The text of an unsigned WS API request.
pub fn request(id: u64, method: &str, parameters: &[(&str, Value)]) -> String {
    let parameters: Map<String, Value> =
        parameters.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    json!({ "id": id, "method": method, "params": parameters }).to_string()
}

/// The text of a signed WS API request: the signature is over all parameters, sorted by name.
pub fn signed_request(id: u64, method: &str, parameters: &[(&str, Value)], who: &Credentials) -> String {
    let mut all = parameters.to_vec();
    all.push(("apiKey", json!(who.api_key)));
    all.push(("recvWindow", json!(RECEIVE_WINDOW_MS)));
    all.push(("timestamp", json!(now_ms())));
    all.sort_by_key(|(name, _)| *name);
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs: Vec<String> = all.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
    let signature = who.sign(&pairs.join("&"));
    all.push(("signature", json!(signature)));
    request(id, method, &all)
}

/// Milliseconds since 1970, by this machine's clock.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    u64::try_from(since.as_millis()).expect("milliseconds fit for half a billion years")
}

fn query(parameters: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{name}={}", percent_encode(value));
    parameters.iter().map(pair).collect::<Vec<_>>().join("&")
}

fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_equals_the_documented_sample() {
        // rest-api.md, "SIGNED endpoint examples", HMAC keys.
        let who = Credentials {
            api_key: String::new(),
            secret: "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j".to_owned(),
        };
        let payload = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1\
                       &recvWindow=5000&timestamp=1499827319559";
        assert_eq!(who.sign(payload), "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71");
    }

    #[test]
    fn an_address_is_what_stands_between_scheme_and_path() {
        for url in ["http://127.0.0.1:8080", "ws://127.0.0.1:8080/ws", "127.0.0.1:8080"] {
            assert_eq!(Address::parse(url).unwrap().to_string(), "127.0.0.1:8080");
        }
        assert!(Address::parse("https://example.com").is_err());
        assert!(Address::parse("http://").is_err());
    }
}
