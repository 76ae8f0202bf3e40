//! Asking a node as an operator: where it listens for them, what opens that, and one request at a time over it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::action::{Action, Request};
use super::listener::{PATH, address_file, token_file};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Which node is asked, and by whom.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// The data directory of a node on this machine
    #[arg(long, value_name = "DIR", env = "RIALTO_DATA", global = true)]
    pub data: Option<PathBuf>,
    /// Where the node listens for operators
    #[arg(long, value_name = "ADDR:PORT", global = true)]
    pub address: Option<SocketAddr>,
    /// The file with the token, or with a token of a user who is an operator
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// Who asks [default: the user of this shell]
    #[arg(long, value_name = "NAME", global = true)]
    pub operator: Option<String>,
}

/// Who asks one node.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Where it listens for operators.
    pub address: SocketAddr,
    token: String,
    operator: String,
}

impl Caller {
    /// Reads what `place` does not say from the data directory.
    pub fn new(place: Place) -> Result<Caller, String> {
        let Place { data, address, token_file: token_path, operator } = place;
        let from_data = |file: fn(&Path) -> PathBuf| {
            let data = data.as_deref().ok_or("say which node: --data DIR, or --address and --token-file")?;
            read_line(&file(data))
        };
        let address = match address {
            Some(address) => address,
            None => from_data(address_file)?.parse().map_err(|_| "the directory says no address".to_owned())?,
        };
        let token = token_path.as_deref().map_or_else(|| from_data(token_file), read_line)?;
        let user = || ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
        let operator = operator.or_else(user).unwrap_or_else(|| "unnamed".to_owned());
        Ok(Caller { address, token, operator })
    }

    /// Has something done; the whole answer.
    pub fn act(&self, reason: &str, action: Action) -> Result<Value, String> {
        let request = Request { operator: self.operator.clone(), reason: reason.to_owned(), action };
        let body = serde_json::to_string(&request).map_err(|error| error.to_string())?;
        self.ask("POST", PATH, &body, TIMEOUT)
    }

    /// What the node shows its operators under a path of its listener for them.
    pub fn get(&self, path: &str, timeout: Duration) -> Result<Value, String> {
        self.ask("GET", path, "", timeout)
    }

    fn ask(&self, method: &str, path: &str, body: &str, timeout: Duration) -> Result<Value, String> {
        let address = self.address;
        let headers = format!("Authorization: Bearer {}\r\n", self.token);
        let (status, answer) = ask(address, method, path, &headers, body, timeout)?;
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None if status == 200 => Ok(answer),
            None => Err(format!("{address}: status {status}")),
        }
    }
}

/// One request over a connection of its own: the status and the JSON that was answered.
pub fn ask(
    place: impl ToSocketAddrs + std::fmt::Display,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
    timeout: Duration,
) -> Result<(u16, Value), String> {
    let complain = |error: std::io::Error| format!("{place}: {error}");
    let address = place.to_socket_addrs().map_err(complain)?.next().ok_or_else(|| format!("{place}: no such host"))?;
    let mut socket = TcpStream::connect_timeout(&address, timeout).map_err(complain)?;
    socket.set_read_timeout(Some(timeout)).map_err(complain)?;
    socket.set_write_timeout(Some(timeout)).map_err(complain)?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n{headers}\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).map_err(complain)?;
    socket.write_all(body.as_bytes()).map_err(complain)?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(complain)?;
    parse_answer(&answer).ok_or_else(|| format!("{place}: the answer is none; is that the address?"))
}

fn read_line(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// An answer without a body of JSON has one of null.
fn parse_answer(bytes: &[u8]) -> Option<(u16, Value)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}
