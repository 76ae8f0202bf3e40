//! Connections to a venue outside: its streams and its REST side, plain or over TLS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// How long it may take until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest message and the longest answer, in bytes.
const BYTES_MAX: usize = 16 << 20;
/// Where most systems keep the certificates they trust.
const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A connection, plain or encrypted.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// A websocket to a venue.
pub type Socket = WebSocketStream<Box<dyn Connection>>;

/// Where a venue is: from a URL, without its path.
#[derive(Clone)]
pub struct Venue {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
}

impl std::fmt::Display for Venue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Venue {
    /// The venue of a URL (`ws`, `wss`, `http` or `https`), and the path that follows, empty where there is none. `trusted` are
    /// the certificates that an encrypted venue may show, in PEM; those of the system where none are named.
    pub fn parse(url: &str, trusted: Option<&Path>) -> Result<(Venue, String), String> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("{url:?} is no URL"))?;
        let is_encrypted = match scheme {
            "ws" | "http" => false,
            "wss" | "https" => true,
            other => return Err(format!("{other} is none of ws, wss, http, https")),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let usual = if is_encrypted { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| format!("{port:?} is no port"))?),
            None => (authority, usual),
        };
        if host.is_empty() {
            return Err(format!("{url:?} names no host"));
        }
        let tls = is_encrypted.then(|| trust(trusted)).transpose()?;
        Ok((Venue { host: host.to_owned(), port, tls }, path.trim_end_matches('/').to_owned()))
    }

    /// Connects and asks for a websocket at `path`.
    pub async fn websocket(&self, path: &str) -> Result<Socket, String> {
        let config = WebSocketConfig::default().max_message_size(Some(BYTES_MAX)).max_frame_size(Some(BYTES_MAX));
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        let url = format!("{scheme}://{self}{path}");
        let connected = async {
            let stream = self.connect().await?;
            let shaken = tokio_tungstenite::client_async_with_config(&url, stream, Some(config)).await;
            shaken.map(|(socket, _)| socket).map_err(|why| why.to_string())
        };
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connected).await;
        connected.map_err(|_| "no answer".to_owned())?.map_err(|why| format!("{url}: {why}"))
    }

    /// The body of `GET path`.
    pub async fn get(&self, path: &str) -> Result<Vec<u8>, String> {
        let answered = async {
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, self.connect()).await;
            let stream = stream.map_err(|_| "no connection".to_owned())??;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|why| why.to_string())?;
            let request = Request::get(path).header("Host", self.to_string()).body(Empty::<bytes::Bytes>::new());
            let request = request.map_err(|why| why.to_string())?;
            let exchange = async {
                let response = sender.send_request(request).await.map_err(|why| why.to_string())?;
                let status = response.status();
                let body =
                    Limited::new(response.into_body(), BYTES_MAX).collect().await.map_err(|why| why.to_string())?;
                if status.is_success() { Ok(body.to_bytes().to_vec()) } else { Err(format!("status {status}")) }
            };
            tokio::select! {
                answer = exchange => answer,
                ended = connection => Err(ended.map_or_else(|why| why.to_string(), |()| "closed".to_owned())),
            }
        };
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, answered).await;
        answered.map_err(|_| "no answer".to_owned())?.map_err(|why: String| format!("{self}{path}: {why}"))
    }

    async fn connect(&self) -> Result<Box<dyn Connection>, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|why| why.to_string())?;
        stream.set_nodelay(true).map_err(|why| why.to_string())?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(self.host.clone()).map_err(|why| why.to_string())?;
        let encrypted = TlsConnector::from(tls.clone()).connect(name, stream).await.map_err(|why| why.to_string())?;
        Ok(Box::new(encrypted))
    }
}

/// Who may vouch for a venue.
fn trust(file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let file = file.unwrap_or(Path::new(TRUSTED));
    let complaint = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file).map_err(|why| complaint(&why))?;
    // One that this library does not understand is no reason to trust none.
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if roots.is_empty() {
        return Err(complaint(&"no certificates"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(|why| complaint(&why))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_venue_and_a_path() {
        let parse = |url: &str| Venue::parse(url, None).map(|(venue, path)| format!("{venue} {path}"));
        assert_eq!(parse("ws://127.0.0.1:8080").unwrap(), "127.0.0.1:8080 ");
        assert_eq!(parse("ws://venue/stream?streams=a@trade").unwrap(), "venue:80 /stream?streams=a@trade");
        assert_eq!(parse("http://venue/").unwrap(), "venue:80 ");
        for wrong in ["venue:80", "ftp://venue", "ws://", "ws://venue:port", "ws://:80"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
