//! Our websockets as an echo, for suites that test whether a websocket is one (Autobahn's fuzzing client): the server's own
//! accepting, reading, writing, closing; only what is answered is what was asked.
//!
//! `cargo run --release -p gateway --example websocket_echo -- 127.0.0.1:9001`

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use bytes::Bytes;
use gateway::app::App;
use gateway::config::Config;
use gateway::serve;
use gateway::ws::handshake::Upgrade;
use gateway::ws::socket::{Limits, Replies, Session, accept};
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// The suite sends messages of sixteen mebibytes.
const MESSAGE_BYTES_MAX: usize = 32 << 20;

struct Echo;

impl Session for Echo {
    const IS_LIMITED: bool = false;

    fn text(&mut self, text: Utf8Bytes, replies: &mut Replies) {
        replies.send(text);
    }

    fn binary(&mut self, bytes: Bytes, replies: &mut Replies) {
        replies.send_binary(bytes);
    }

    fn shutdown(&mut self) -> Option<Utf8Bytes> {
        None
    }

    fn end(&mut self) {}
}

async fn echo(State(app): State<Arc<App>>, upgrade: Upgrade) -> Response {
    let limits = Limits { message_bytes_max: MESSAGE_BYTES_MAX, ..Limits::from(&app.config.sockets) };
    // Nobody asks here who is connected.
    accept(upgrade, limits, app, ([0, 0, 0, 0], 0).into(), |_| Echo)
}

#[tokio::main]
async fn main() -> Result<(), String> {
    let listen = std::env::args().nth(1).ok_or("where to listen: ADDR:PORT")?;
    let data = std::env::temp_dir().join(format!("websocket-echo-{}", std::process::id()));
    let config = Config { data: Some(data.clone()), listen: Some(([127, 0, 0, 1], 0).into()), ..Config::default() };
    let running = serve::start(config, None).await?;
    let listener = tokio::net::TcpListener::bind(&listen).await.map_err(|error| error.to_string())?;
    // As the server itself does; and a stream that has failed shows when it is read.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    println!("echoing at ws://{listen}");
    let router = Router::new().fallback(any(echo)).with_state(running.app());
    tokio::select! {
        served = axum::serve(listener, router) => served.map_err(|error| error.to_string())?,
        _ = tokio::signal::ctrl_c() => {}
    }
    running.stop().await;
    std::fs::remove_dir_all(data).map_err(|error| error.to_string())
}
