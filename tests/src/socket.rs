//! A websocket as a client has it.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use gateway::client::Address;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// How long an event that must come may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A socket that reads JSON.
pub struct Socket(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// To a path of the server.
    pub async fn connect(address: &Address, path: &str) -> Socket {
        let url = format!("ws://{address}{path}");
        Socket(tokio_tungstenite::connect_async(&url).await.unwrap_or_else(|error| panic!("{url}: {error}")).0)
    }

    /// Sends a text.
    pub async fn send(&mut self, text: impl Into<String>) {
        self.0.send(Message::text(text.into())).await.expect("an open socket");
    }

    /// The next text, or `None` when none comes within `patience`.
    pub async fn next_within(&mut self, patience: Duration) -> Option<Value> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.0.next()).await.ok()?? {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).expect("every text is JSON")),
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The next text, which must come.
    pub async fn next(&mut self) -> Value {
        self.next_within(PATIENCE).await.expect("an event")
    }

    /// The next one for which it holds.
    pub async fn find(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let value = self.next().await;
            if wanted(&value) {
                return value;
            }
        }
    }

    /// A request and its answer.
    pub async fn ask(&mut self, request: Value) -> Value {
        let id = request["id"].clone();
        self.send(request.to_string()).await;
        self.find(|answer| answer["id"] == id && answer.get("e").is_none()).await
    }

    /// A request, its answer, and the first event for which it holds, whichever of the two comes first: an event and an
    /// answer take ways of their own to the socket.
    pub async fn ask_and_hear(&mut self, request: Value, wanted: impl Fn(&Value) -> bool) -> (Value, Value) {
        let id = request["id"].clone();
        self.send(request.to_string()).await;
        let (mut answer, mut event) = (None, None);
        while answer.is_none() || event.is_none() {
            let value = self.next().await;
            if value["id"] == id && value.get("e").is_none() {
                answer = Some(value);
            } else if event.is_none() && wanted(&value) {
                event = Some(value);
            }
        }
        (answer.expect("both have come"), event.expect("both have come"))
    }

    /// The code with which the server closes.
    pub async fn close_code(&mut self) -> Option<u16> {
        let closing = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        };
        tokio::time::timeout(PATIENCE, closing).await.expect("the server closes")
    }
}
