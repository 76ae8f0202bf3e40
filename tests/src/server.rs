//! A server in this process, and what is asked of it byte by byte over real sockets.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway::app::App;
use gateway::bootstrap::Bootstrap;
use gateway::client::{Address, Credentials, now_ms};
use gateway::config::Config;
use gateway::serve::{self, Running};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::exchange::build_folder;

/// Fees of 0.1 % and 0.2 %, so that each side's is told from the other's.
pub const MARKET: &str = r#"
    [[asset]]
    name = "BTC"
    scale = 8
    [[asset]]
    name = "USDT"
    scale = 8
    [[symbol]]
    name = "BTCUSDT"
    base = "BTC"
    quote = "USDT"
    tick_size = "0.01"
    max_price = "1000000"
    step_size = "0.00001"
    min_qty = "0.00001"
    max_qty = "9000"
    market_max_qty = "100"
    min_notional = "5"
    maker_fee = "0.001"
    taker_fee = "0.002"
    [[account]]
    uid = 1001
    balances = { BTC = "100", USDT = "1000000" }
    [[account.key]]
    api_key = "key-a"
    type = "HMAC"
    secret = "secret-a"
    permissions = ["USER_DATA", "TRADE"]
    [[account.key]]
    api_key = "key-a-that-only-reads"
    type = "HMAC"
    secret = "secret-r"
    permissions = ["USER_DATA"]
    [[account]]
    uid = 1002
    balances = { BTC = "100", USDT = "1000000" }
    [[account.key]]
    api_key = "key-b"
    type = "HMAC"
    secret = "secret-b"
    permissions = ["USER_DATA", "TRADE"]
"#;

/// A server in this process, with its data in a folder of its own.
pub struct Server {
    running: Running,
    /// Where it listens.
    pub address: Address,
    /// Removed with the server.
    folder: TempDir,
}

impl Server {
    /// With [`MARKET`] and settings of its own.
    pub async fn start(change: impl FnOnce(&mut Config)) -> Server {
        Server::with(MARKET, change).await
    }

    /// With what `bootstrap` says and settings of its own.
    pub async fn with(bootstrap: &str, change: impl FnOnce(&mut Config)) -> Server {
        let folder = TempDir::new_in(build_folder()).unwrap();
        let mut config = Config { data: Some(PathBuf::from(folder.path())), ..Config::default() };
        config.listen = Some(([127, 0, 0, 1], 0).into());
        config.limits.request_weight_per_minute = 1_000_000;
        change(&mut config);
        let running = serve::start(config, Some(Bootstrap::parse(bootstrap).unwrap())).await.unwrap();
        let address = Address::parse(&running.address.to_string()).unwrap();
        Server { running, address, folder }
    }

    /// Stops it in order and starts it again on the same data, with settings that may be others.
    pub async fn restart(self, change: impl FnOnce(&mut Config)) -> Server {
        Server::on(self.stop_only().await, change).await
    }

    /// On data that another one left.
    pub async fn on(folder: TempDir, change: impl FnOnce(&mut Config)) -> Server {
        let mut config = Config { data: Some(PathBuf::from(folder.path())), ..Config::default() };
        config.listen = Some(([127, 0, 0, 1], 0).into());
        config.limits.request_weight_per_minute = 1_000_000;
        change(&mut config);
        let running = serve::start(config, None).await.unwrap();
        let address = Address::parse(&running.url()).unwrap();
        Server { running, address, folder }
    }

    /// What an operator asks; the status and the answer.
    pub async fn admin(&self, action: Value) -> (u16, Value) {
        let token = std::fs::read_to_string(self.data().join("admin.token")).unwrap();
        self.admin_as(token.trim(), action).await
    }

    /// The same with another token.
    pub async fn admin_as(&self, token: &str, action: Value) -> (u16, Value) {
        let request = serde_json::json!({ "operator": "ann", "reason": "a test", "do": action });
        let socket = connect(self.running.admin, [127, 0, 0, 1]).await;
        let headers = format!("Authorization: Bearer {token}\r\n");
        let answer = ask(socket, "POST", "/admin/v1", &headers, request.to_string().as_bytes()).await;
        (answer.status, answer.body)
    }

    /// What its requests see.
    pub fn app(&self) -> Arc<App> {
        self.running.app()
    }

    /// Where it listens for operators.
    pub fn admin_address(&self) -> SocketAddr {
        self.running.admin
    }

    /// Where its data is.
    pub fn data(&self) -> &Path {
        self.folder.path()
    }

    /// A connection from that address of this machine.
    pub async fn connect_from(&self, from: [u8; 4]) -> TcpStream {
        connect(self.running.address, from).await
    }

    /// One request from that address of this machine.
    pub async fn ask_from(&self, from: [u8; 4], method: &str, target: &str, headers: &str, body: &[u8]) -> Response {
        ask(self.connect_from(from).await, method, target, headers, body).await
    }

    /// Stops it; its data stays until what is returned is dropped.
    pub async fn stop_only(self) -> TempDir {
        self.running.stop().await;
        self.folder
    }

    /// Stops it.
    pub async fn stop(self) {
        self.running.stop().await;
    }

    /// Sends bytes and gives what comes back until the server closes.
    pub async fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let mut socket = TcpStream::connect(self.address.to_string()).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut received = Vec::new();
        socket.read_to_end(&mut received).await.unwrap();
        received
    }

    /// One request on a connection of its own.
    pub async fn ask(&self, method: &str, target: &str, headers: &str, body: &[u8]) -> Response {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            self.address,
            body.len()
        );
        Response::parse(&self.exchange(&[head.as_bytes(), body].concat()).await)
    }

    /// An unsigned GET.
    pub async fn get(&self, target: &str) -> Response {
        self.ask("GET", target, "", b"").await
    }

    /// A signed request with its parameters in the query string.
    pub async fn signed(&self, who: &Credentials, method: &str, path: &str, parameters: &str) -> Response {
        let target = format!("{path}?{}", sign(who, parameters));
        self.ask(method, &target, &key_header(who), b"").await
    }

    /// A new order.
    pub async fn order(&self, who: &Credentials, parameters: &str) -> Response {
        self.signed(who, "POST", "/api/v3/order", parameters).await
    }

    /// Free and locked of each asset.
    pub async fn balances(&self, who: &Credentials) -> Value {
        let account = self.signed(who, "GET", "/api/v3/account", "").await.good();
        account["balances"].clone()
    }
}

/// A connection to `server` from that address of this machine.
pub async fn connect(server: SocketAddr, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(server).await.unwrap()
}

/// The one request of a connection. A server that refuses early need not read all of it.
pub async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: S,
    method: &str,
    target: &str,
    headers: &str,
    body: &[u8],
) -> Response {
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: rialto\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    let _ = socket.write_all(&[head.as_bytes(), body].concat()).await;
    let mut received = Vec::new();
    let _ = socket.read_to_end(&mut received).await;
    Response::parse(&received)
}

/// A whole answer.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The status line and the headers, in lower case.
    pub head: String,
    /// The body as it came.
    pub text: String,
    /// The body, if it is JSON.
    pub body: Value,
}

impl Response {
    /// From the bytes of a connection.
    pub fn parse(bytes: &[u8]) -> Response {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("not an answer: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let json = serde_json::from_str(body).unwrap_or(Value::Null);
        Response { status, head: head.to_lowercase(), text: body.to_owned(), body: json }
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The body of an answer that must be good.
    pub fn good(self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.body
    }

    /// The status and the code; 0 where there is none.
    pub fn outcome(&self) -> (u16, i64) {
        (self.status, self.body["code"].as_i64().unwrap_or(0))
    }

    /// That it is a refusal with this status, code and text.
    #[track_caller]
    pub fn refused(&self, status: u16, code: i64, text: &str) {
        assert_eq!((self.status, self.body["code"].as_i64()), (status, Some(code)), "{self:?}");
        assert!(self.body["msg"].as_str().is_some_and(|message| message.contains(text)), "{self:?}");
        assert!(self.header("content-type").is_some_and(|kind| kind.starts_with("application/json")), "{self:?}");
    }
}

/// A key and its secret.
pub fn credentials(api_key: &str, secret: &str) -> Credentials {
    Credentials { api_key: api_key.to_owned(), secret: secret.to_owned() }
}

/// The key of account 1001.
pub fn account_a() -> Credentials {
    credentials("key-a", "secret-a")
}

/// The key of account 1002.
pub fn account_b() -> Credentials {
    credentials("key-b", "secret-b")
}

/// The header that names a key.
pub fn key_header(who: &Credentials) -> String {
    format!("X-MBX-APIKEY: {}\r\n", who.api_key)
}

/// The parameters with timestamp and signature.
pub fn sign(who: &Credentials, parameters: &str) -> String {
    sign_at(who, parameters, now_ms())
}

/// The same at another time, in any unit.
pub fn sign_at(who: &Credentials, parameters: &str, timestamp: u64) -> String {
    let separator = if parameters.is_empty() { "" } else { "&" };
    let payload = format!("{parameters}{separator}timestamp={timestamp}");
    let signature = who.sign(&payload);
    format!("{payload}&signature={signature}")
}

/// A limit order as a query string.
pub fn limit(side: &str, quantity: &str, price: &str) -> String {
    format!("symbol=BTCUSDT&side={side}&type=LIMIT&timeInForce=GTC&quantity={quantity}&price={price}")
}
