//! Posts to a collector over plain HTTP, on a thread that may wait. A collector stands beside the server or within its own
//! network, and takes it from there, encrypted or not.

use std::fmt;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Where OTLP over HTTP listens unless it is said, and its path for traces.
const PORT: u16 = 4_318;
const PATH: &str = "/v1/traces";
/// How long one request may take in all.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How much of an answer is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A collector.
#[derive(Debug)]
pub struct Collector {
    host: String,
    port: u16,
    path: String,
}

impl Collector {
    /// Of a URL such as `http://127.0.0.1:4318`; without a path it is that of OTLP.
    pub fn new(url: &str) -> Result<Collector, String> {
        let wrong = |why: &str| Err(format!("traces.endpoint: {url:?} {why}"));
        let Some(rest) = url.strip_prefix("http://") else {
            return wrong("is not http://HOST:PORT; for an encrypted way, have a collector on this machine send it on");
        };
        let (place, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let (host, port) = match place.rsplit_once(':') {
            // The colons of an IPv6 address are within brackets.
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
            _ => (place, Some(PORT)),
        };
        let Some(port) = port else { return wrong("has no such port") };
        if host.is_empty() || url.contains(char::is_whitespace) || url.contains(char::is_control) || host.contains('@')
        {
            return wrong("names no host");
        }
        let path = if matches!(path, "" | "/") { PATH } else { path };
        Ok(Collector { host: host.to_owned(), port, path: path.to_owned() })
    }

    /// Posts a body; an answer other than 2xx is an error.
    pub fn post(&self, body: &[u8]) -> Result<(), String> {
        let end = Instant::now() + TIMEOUT;
        self.exchange(body, end).map_err(|error| error.to_string()).and_then(|answer| verdict(&answer))
    }

    fn exchange(&self, body: &[u8], end: Instant) -> std::io::Result<Vec<u8>> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let mut socket = None;
        let mut reason = std::io::Error::other("the host has no address");
        for address in (host, self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(end)?) {
                Ok(connected) => {
                    socket = Some(connected);
                    break;
                }
                Err(error) => reason = error,
            }
        }
        let mut socket = socket.ok_or(reason)?;
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}:{}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             User-Agent: rialto/{}\r\nContent-Length: {}\r\n\r\n",
            self.path,
            self.host,
            self.port,
            env!("CARGO_PKG_VERSION"),
            body.len()
        );
        socket.set_write_timeout(Some(left(end)?))?;
        socket.write_all(head.as_bytes())?;
        for part in body.chunks(64 << 10) {
            socket.set_write_timeout(Some(left(end)?))?;
            socket.write_all(part)?;
        }
        let (mut answer, mut part) = (Vec::new(), [0; 4_096]);
        // The status line is what matters; who closes behind it has said all.
        while answer.len() < ANSWER_BYTES_MAX && !answer.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            socket.set_read_timeout(Some(left(end)?))?;
            match socket.read(&mut part)? {
                0 => break,
                length => answer.extend_from_slice(&part[..length]),
            }
        }
        Ok(answer)
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.path)
    }
}

fn left(end: Instant) -> std::io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn verdict(answer: &[u8]) -> Result<(), String> {
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse::<u16>().ok());
    match status {
        Some(200..=299) => Ok(()),
        Some(_) => Err(format!("it answered {line:?}")),
        None => Err("it did not answer in HTTP".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_port_or_path_means_those_of_otlp() {
        let told = |url: &str| Collector::new(url).map(|collector| collector.to_string());
        assert_eq!(told("http://127.0.0.1").unwrap(), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(told("http://collector:1234/").unwrap(), "http://collector:1234/v1/traces");
        assert_eq!(told("http://[::1]:55/own/path").unwrap(), "http://[::1]:55/own/path");
        assert_eq!(told("http://[::1]").unwrap(), "http://[::1]:4318/v1/traces");
    }

    #[test]
    fn a_url_that_cannot_be_asked_is_refused_with_the_reason() {
        for (url, why) in [
            ("https://collector", "is not http://"),
            ("collector:4318", "is not http://"),
            ("http://", "names no host"),
            ("http://:80", "names no host"),
            ("http://host:port", "no such port"),
            ("http://host:70000", "no such port"),
            ("http://host/ HTTP/1.1\r\nX: y", "names no host"),
            ("http://user:word@host:1", "names no host"),
        ] {
            let told = Collector::new(url).unwrap_err();
            assert!(told.contains(why), "{url}: {told}");
        }
    }

    #[test]
    fn only_a_status_of_success_is_success() {
        assert_eq!(verdict(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), Ok(()));
        assert!(verdict(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").unwrap_err().contains("503"));
        for answer in [&b""[..], b"HTTP/1.1", b"SSH-2.0-x\r\n", b"HTTP/1.1 two\r\n"] {
            assert!(verdict(answer).is_err(), "{answer:?}");
        }
    }
}
