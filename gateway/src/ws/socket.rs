//! One websocket: reads requests, writes replies and events, pings, and ends it when it has to end.
//!
//! One task reads and writes. A reply goes into the socket before any event that came after it. Everything that is ready
//! is written before one flush. While the peer does not take what is written, nothing more is read from it; and when its
//! queue of events runs full meanwhile, it is closed with code 1008: nobody ever waits for it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use crate::app::App;
use crate::clock;
use crate::config::SocketsConfig;
use crate::ws::hub::{Inbox, Outbox, SlowSignal, outbox};

/// How much is done before one flush at the most, so that the first reply does not wait for the last.
const BEFORE_FLUSH_MAX: usize = 256;
/// How long a peer may take to answer our close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a server that stops waits for the answers to what is under way; less than it waits for its connections.
const LAST_REPLIES_TIMEOUT: Duration = Duration::from_secs(8);
/// How many of our pings a pong may answer.
const PINGS_REMEMBERED: usize = 4;
/// Over how many seconds the limit on incoming messages is averaged: clients subscribe in bursts.
const BURST_SECONDS: u32 = 10;

/// What one socket may do, as the settings say.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many batches of events may wait for a slow reader before it is closed.
    pub queue_batches: usize,
    /// How many messages a client may send in a second on a stream socket, averaged over ten seconds; zero means no limit.
    pub messages_per_second: u32,
    /// How many streams a socket may listen to.
    pub streams_max: usize,
    /// How many WS API requests may be waiting for their answer; then no more are read.
    pub in_flight_max: usize,
    /// The longest message that is read.
    pub message_bytes_max: usize,
    /// How often the server pings.
    pub ping_every: Duration,
    /// How long a client may leave pings unanswered.
    pub pong_timeout: Duration,
    /// How long a socket may live.
    pub lifetime: Duration,
}

impl From<&SocketsConfig> for Limits {
    fn from(config: &SocketsConfig) -> Limits {
        Limits {
            queue_batches: config.queue_batches_max,
            messages_per_second: config.messages_per_second_max,
            streams_max: config.streams_max,
            in_flight_max: config.requests_in_flight_max,
            message_bytes_max: config.message_bytes_max,
            ping_every: Duration::from_secs(config.ping_seconds),
            pong_timeout: Duration::from_secs(config.pong_seconds_max),
            lifetime: Duration::from_secs(config.websocket_hours_max * 60 * 60),
        }
    }
}

/// A reply that is not there yet.
pub type Later = Pin<Box<dyn Future<Output = Utf8Bytes> + Send>>;

/// What a session answers with.
#[derive(Default)]
pub struct Replies {
    ready: VecDeque<Message>,
    later: FuturesUnordered<Later>,
    close: Option<(u16, &'static str)>,
}

impl Replies {
    /// Answers now.
    pub fn send(&mut self, reply: impl Into<Utf8Bytes>) {
        self.ready.push_back(Message::Text(reply.into()));
    }

    /// Answers now, with bytes that are no text.
    pub fn send_binary(&mut self, reply: Bytes) {
        self.ready.push_back(Message::Binary(reply));
    }

    /// Answers when the answer is there.
    pub fn send_later(&mut self, reply: Later) {
        self.later.push(reply);
    }

    /// Ends the socket once what is answered is written.
    pub fn close(&mut self, code: u16, reason: &'static str) {
        self.close = Some((code, reason));
    }

    /// What is answered already, for tests.
    #[cfg(test)]
    pub(super) fn take_ready(&mut self) -> Vec<String> {
        self.ready.drain(..).filter_map(|reply| reply.into_text().ok()).map(|text| text.to_string()).collect()
    }
}

/// What goes on over a socket.
pub trait Session: Send + 'static {
    /// Whether the limit on incoming messages holds for it.
    const IS_LIMITED: bool;

    /// A text message came.
    fn text(&mut self, text: Utf8Bytes, replies: &mut Replies);

    /// A binary message came.
    fn binary(&mut self, bytes: Bytes, replies: &mut Replies);

    /// Something came, before it is looked at.
    fn heard(&mut self) {}

    /// All that was answered is written.
    fn flushed(&mut self) {}

    /// The server is about to stop: what the client is told, if anything.
    fn shutdown(&mut self) -> Option<Utf8Bytes>;

    /// The socket is over.
    fn end(&mut self);
}

/// Accepts the upgrade; `session` makes the session, given the feed's end of the socket's queue.
pub fn accept<S: Session>(
    upgrade: WebSocketUpgrade,
    limits: Limits,
    app: Arc<App>,
    session: impl FnOnce(Outbox) -> S + Send + 'static,
) -> Response {
    // Tens of thousands of sockets are idle: what each reserves counts. Orders come in small messages too.
    let buffer = if S::IS_LIMITED { 4 << 10 } else { 64 << 10 };
    upgrade
        .read_buffer_size(buffer)
        .write_buffer_size(32 << 10)
        .max_message_size(limits.message_bytes_max)
        .max_frame_size(limits.message_bytes_max)
        .on_upgrade(move |socket| async move {
            app.metrics.sockets.fetch_add(1, Ordering::Relaxed);
            app.metrics.sockets_opened.fetch_add(1, Ordering::Relaxed);
            let (outbox, inbox) = outbox(limits.queue_batches);
            let driver = Driver {
                socket,
                session: session(outbox),
                replies: Replies::default(),
                slow: inbox.slow_signal(),
                inbox,
                rate: Rate::new(if S::IS_LIMITED { limits.messages_per_second } else { 0 }),
                pings: VecDeque::new(),
                last_pong: Instant::now(),
                limits,
                app: app.clone(),
            };
            driver.run().await;
            app.metrics.sockets.fetch_sub(1, Ordering::Relaxed);
        })
}

/// Why a socket ends.
enum End {
    /// We close it.
    Close(u16, &'static str),
    /// The peer closes it; the library has the answer to that ready, and it must still be written.
    Answered,
    /// It broke.
    Gone,
}

const SLOW: End = End::Close(1008, "slow reader: too many messages are waiting");

struct Driver<S> {
    socket: WebSocket,
    session: S,
    replies: Replies,
    inbox: Inbox,
    slow: SlowSignal,
    rate: Rate,
    pings: VecDeque<Bytes>,
    last_pong: Instant,
    limits: Limits,
    app: Arc<App>,
}

impl<S: Session> Driver<S> {
    async fn run(mut self) {
        let end = self.serve().await.err().unwrap_or(End::Gone);
        self.session.end();
        if let End::Answered = end {
            // A peer that does not take it in time is dropped.
            let _ = timeout(CLOSE_TIMEOUT, self.socket.close()).await;
        }
        if let End::Close(code, reason) = end {
            let frame = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
            let goodbye = async {
                if self.socket.send(frame).await.is_ok() {
                    // What the peer sent meanwhile has to be read, or the system resets the connection and the close is lost.
                    while let Some(Ok(_)) = self.socket.recv().await {}
                }
            };
            // A peer that does not answer in time is dropped.
            let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
        }
    }

    async fn serve(&mut self) -> Result<(), End> {
        let start = Instant::now() + self.limits.ping_every;
        let mut ping = interval_at(start, self.limits.ping_every);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lifetime = std::pin::pin!(sleep(self.limits.lifetime));
        let mut stopping = self.app.stopping.clone();
        let mut stop = std::pin::pin!(async move {
            // Whoever could say so is gone: then the server stops.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        });
        loop {
            let has_room = self.replies.later.len() < self.limits.in_flight_max;
            tokio::select! {
                biased;
                () = self.slow.wait() => return Err(SLOW),
                message = self.socket.recv(), if has_room => self.received(message)?,
                Some(reply) = self.replies.later.next() => self.replies.send(reply),
                Some(batch) = self.inbox.next() => self.write_all(&batch).await?,
                _ = ping.tick() => self.ping().await?,
                () = &mut lifetime => return Err(End::Close(1001, "connected for 24 hours")),
                () = &mut stop => {
                    if let Some(event) = self.session.shutdown() {
                        self.write(Message::Text(event)).await?;
                    }
                    self.flush().await?;
                    // A peer that gets no more answers in time has to ask elsewhere what became of its requests.
                    timeout(LAST_REPLIES_TIMEOUT, self.last_replies()).await.unwrap_or(Ok(()))?;
                    return Err(End::Close(1001, "the server is stopping"));
                }
            }
            self.finish_what_is_ready().await?;
            self.flush().await?;
            self.session.flushed();
        }
    }

    /// Answers what is under way; nothing more is read.
    async fn last_replies(&mut self) -> Result<(), End> {
        while !self.replies.later.is_empty() {
            tokio::select! {
                biased;
                () = self.slow.wait() => return Err(SLOW),
                Some(reply) = self.replies.later.next() => self.replies.send(reply),
                Some(batch) = self.inbox.next() => self.write_all(&batch).await?,
            }
            self.write_replies().await?;
            self.flush().await?;
            self.session.flushed();
        }
        Ok(())
    }

    /// Takes and writes what is there without waiting.
    async fn finish_what_is_ready(&mut self) -> Result<(), End> {
        for _ in 0..BEFORE_FLUSH_MAX {
            let mut idle = true;
            self.write_replies().await?;
            if self.replies.later.len() < self.limits.in_flight_max
                && let Some(message) = self.socket.recv().now_or_never()
            {
                self.received(message)?;
                self.write_replies().await?;
                idle = false;
            }
            while let Some(Some(reply)) = self.replies.later.next().now_or_never() {
                self.replies.send(reply);
                idle = false;
            }
            self.write_replies().await?;
            if let Some(batch) = self.inbox.try_next() {
                self.write_all(&batch).await?;
                idle = false;
            }
            if idle {
                break;
            }
        }
        Ok(())
    }

    fn received(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        let message = match message {
            None => return Err(End::Gone),
            Some(Err(error)) => return Err(broken(error)),
            Some(Ok(message)) => message,
        };
        self.app.metrics.messages_received.fetch_add(1, Ordering::Relaxed);
        self.session.heard();
        if !self.rate.allows(Instant::now()) {
            return Err(End::Close(1008, "too many messages"));
        }
        match message {
            Message::Text(text) => self.session.text(text, &mut self.replies),
            Message::Binary(bytes) => self.session.binary(bytes, &mut self.replies),
            // The pong goes out with the next flush.
            Message::Ping(_) => {}
            Message::Pong(payload) => {
                // Only the answer to a ping of ours counts.
                if self.pings.contains(&payload) {
                    self.last_pong = Instant::now();
                }
            }
            Message::Close(_) => return Err(End::Answered),
        }
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), End> {
        if self.last_pong.elapsed() > self.limits.pong_timeout {
            return Err(End::Close(1008, "no pong"));
        }
        let payload = Bytes::from(clock::now().millis().to_string());
        if self.pings.len() == PINGS_REMEMBERED {
            self.pings.pop_front();
        }
        self.pings.push_back(payload.clone());
        self.write(Message::Ping(payload)).await
    }

    async fn write_replies(&mut self) -> Result<(), End> {
        while let Some(reply) = self.replies.ready.pop_front() {
            self.write(reply).await?;
        }
        self.replies.close.map_or(Ok(()), |(code, reason)| Err(End::Close(code, reason)))
    }

    async fn write_all(&mut self, batch: &[Utf8Bytes]) -> Result<(), End> {
        for message in batch {
            self.write(Message::Text(message.clone())).await?;
        }
        Ok(())
    }

    /// Puts a message into the socket's buffer.
    async fn write(&mut self, message: Message) -> Result<(), End> {
        self.app.metrics.frames_sent.fetch_add(1, Ordering::Relaxed);
        tokio::select! {
            biased;
            written = self.socket.feed(message) => written.map_err(|_| End::Gone),
            () = self.slow.wait() => Err(SLOW),
            () = too_long(self.limits.pong_timeout) => Err(End::Gone),
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        tokio::select! {
            biased;
            flushed = self.socket.flush() => flushed.map_err(|_| End::Gone),
            () = self.slow.wait() => Err(SLOW),
            () = too_long(self.limits.pong_timeout) => Err(End::Gone),
        }
    }
}

/// A timer that is only made when it is waited for.
async fn too_long(limit: Duration) {
    sleep(limit).await;
}

/// What the peer is told of its own mistake.
fn broken(error: axum::Error) -> End {
    use tokio_tungstenite::tungstenite::Error;
    match error.into_inner().downcast_ref::<Error>() {
        Some(Error::Utf8(_)) => End::Close(1007, "text that is not UTF-8"),
        Some(Error::Capacity(_)) => End::Close(1009, "message too long"),
        Some(Error::Protocol(_)) => End::Close(1002, "protocol error"),
        _ => End::Gone,
    }
}

/// A bucket of tokens, one for each message; it holds ten seconds' worth.
struct Rate {
    per_second: u32,
    /// In millionths of a message.
    tokens: u64,
    last: Instant,
}

impl Rate {
    fn new(per_second: u32) -> Rate {
        Rate { per_second, tokens: Self::full(per_second), last: Instant::now() }
    }

    fn full(per_second: u32) -> u64 {
        u64::from(per_second) * u64::from(BURST_SECONDS) * 1_000_000
    }

    fn allows(&mut self, now: Instant) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let micros = u64::try_from(now.saturating_duration_since(self.last).as_micros()).unwrap_or(u64::MAX);
        self.last = now;
        let grown = micros.saturating_mul(u64::from(self.per_second));
        self.tokens = self.tokens.saturating_add(grown).min(Self::full(self.per_second));
        match self.tokens.checked_sub(1_000_000) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_stream_of_messages_above_the_rate_does_not() {
        let mut rate = Rate::new(5);
        let start = rate.last;
        assert!((0..50).all(|_| rate.allows(start)));
        assert!(!rate.allows(start));
        let later = start + Duration::from_secs(1);
        assert_eq!((0..10).filter(|_| rate.allows(later)).count(), 5);
        let mut unlimited = Rate::new(0);
        assert!((0..1_000).all(|_| unlimited.allows(start)));
    }
}
