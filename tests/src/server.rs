//! A server in this process, with its data in a folder of its own, and requests to it byte by byte, from any address of
//! this machine.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use gateway::bootstrap::Bootstrap;
use gateway::client::{Credentials, now_ms};
use gateway::config::Config;
use gateway::serve::{self, Running};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::exchange::build_folder;

/// It stops with [`Server::stop`].
pub struct Server {
    /// What runs.
    pub running: Running,
    /// Removed with it.
    folder: TempDir,
}

impl Server {
    /// Starts one that lists and funds what `market` says; `change` has the last word on its settings.
    pub async fn start(market: &str, change: impl FnOnce(&mut Config)) -> Server {
        let folder = TempDir::new_in(build_folder()).expect("a folder in the build folder");
        let mut config = Config { data: Some(folder.path().join("data")), ..Config::default() };
        config.listen = Some(([127, 0, 0, 1], 0).into());
        change(&mut config);
        let bootstrap = Bootstrap::parse(market).expect("a sound bootstrap");
        let running = serve::start(config, Some(bootstrap)).await.expect("it starts");
        Server { running, folder }
    }

    /// Stops it and starts it again on the same data.
    pub async fn restart(self, change: impl FnOnce(&mut Config)) -> Server {
        let Server { running, folder } = self;
        running.stop().await;
        let mut config = Config { data: Some(folder.path().join("data")), ..Config::default() };
        config.listen = Some(([127, 0, 0, 1], 0).into());
        change(&mut config);
        let running = serve::start(config, None).await.expect("it starts again");
        Server { running, folder }
    }

    /// Stops it in order.
    pub async fn stop(self) {
        self.running.stop().await;
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// Where its data is.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A connection from that address of this machine.
    pub async fn connect_from(&self, from: [u8; 4]) -> TcpStream {
        connect(self.address(), from).await
    }

    /// One request on a connection of its own.
    pub async fn ask(&self, method: &str, target: &str, headers: &str, body: &[u8]) -> Response {
        self.ask_from([127, 0, 0, 1], method, target, headers, body).await
    }

    /// The same from that address of this machine.
    pub async fn ask_from(&self, from: [u8; 4], method: &str, target: &str, headers: &str, body: &[u8]) -> Response {
        ask(self.address(), from, method, target, headers, body).await
    }

    /// GET.
    pub async fn get(&self, target: &str) -> Response {
        self.ask("GET", target, "", b"").await
    }

    /// A signed request with its parameters in the query string.
    pub async fn signed(&self, who: &Credentials, method: &str, path: &str, parameters: &str) -> Response {
        self.ask(method, &format!("{path}?{}", signed_query(who, parameters)), &key_header(who), b"").await
    }
}

/// A connection to `server` from that address of this machine.
pub async fn connect(server: SocketAddr, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(IpAddr::from(from), 0)).expect("an address of this machine");
    socket.connect(server).await.expect("the server listens")
}

/// One request on a connection of its own.
pub async fn ask(
    server: SocketAddr,
    from: [u8; 4],
    method: &str,
    target: &str,
    headers: &str,
    body: &[u8],
) -> Response {
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    let mut socket = connect(server, from).await;
    // A server that refuses early need not read all of it.
    let _ = socket.write_all(&[head.as_bytes(), body].concat()).await;
    let mut received = Vec::new();
    let _ = socket.read_to_end(&mut received).await;
    Response::parse(&received)
}

/// The key's header line.
pub fn key_header(who: &Credentials) -> String {
    format!("X-MBX-APIKEY: {}\r\n", who.api_key)
}

/// The parameters with a timestamp and the signature.
pub fn signed_query(who: &Credentials, parameters: &str) -> String {
    let separator = if parameters.is_empty() { "" } else { "&" };
    let payload = format!("{parameters}{separator}timestamp={}", now_ms());
    format!("{payload}&signature={}", who.sign(&payload))
}

/// A whole answer.
#[derive(Debug)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Status line and headers, names in small letters.
    pub head: String,
    /// Its body as it came.
    pub text: String,
    /// Its body as JSON; null where it is none.
    pub body: Value,
}

impl Response {
    /// From its bytes.
    pub fn parse(bytes: &[u8]) -> Response {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("not an answer: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let lower = |line: &str| match line.split_once(':') {
            Some((name, value)) => format!("{}:{value}\n", name.to_lowercase()),
            None => format!("{line}\n"),
        };
        let head = head.lines().map(lower).collect();
        Response { status, head, text: body.to_owned(), body: serde_json::from_str(body).unwrap_or(Value::Null) }
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The body of a good answer.
    #[track_caller]
    pub fn good(self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.body
    }

    /// Its status and code.
    pub fn outcome(&self) -> (u16, i64) {
        (self.status, self.body["code"].as_i64().unwrap_or(0))
    }
}
