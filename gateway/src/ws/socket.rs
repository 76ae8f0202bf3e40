//! One websocket: reads requests, writes replies and events, pings, and ends it when it has to end.
//!
//! One task reads and writes. A reply goes into the socket before any event that came after it. Everything that is ready
//! is written before one flush. While the peer does not take what is written, nothing more is read from it; and when its
//! queue of events runs full meanwhile, it is closed with code 1008: nobody ever waits for it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::app::App;
use crate::clock;
use crate::config::SocketsConfig;
use crate::ws::channel::{Cut, Inbox, Outbox, outbox};
use crate::ws::decoder::{Decoder, Incoming, Violation};
use crate::ws::deflate::Agreed;
use crate::ws::handshake::Upgrade;
use crate::ws::message::{Opcode, compressed, frame};
use crate::ws::outgoing::Outgoing;

/// How much is done before one flush at the most, so that the first reply does not wait for the last.
const BEFORE_FLUSH_MAX: usize = 256;
/// And how many bytes.
const BYTES_BEFORE_FLUSH_MAX: usize = 64 << 10;
/// How much is read at a time.
const READ_BYTES: usize = 16 << 10;
/// A reply goes to one socket alone: only a long one is worth compressing.
const COMPRESSED_REPLY_MIN: usize = 1_024;
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
    ready: VecDeque<(Opcode, Bytes)>,
    later: FuturesUnordered<Later>,
    close: Option<(u16, &'static str)>,
}

impl Replies {
    /// Answers now.
    pub fn send(&mut self, reply: impl Into<Utf8Bytes>) {
        let text: Utf8Bytes = reply.into();
        self.ready.push_back((Opcode::Text, text.into()));
    }

    /// Answers now, with bytes that are no text.
    pub fn send_binary(&mut self, reply: Bytes) {
        self.ready.push_back((Opcode::Binary, reply));
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
        self.ready.drain(..).map(|(_, reply)| String::from_utf8_lossy(&reply).into_owned()).collect()
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

    /// The socket is open.
    fn begin(&mut self, _: &mut Replies) {}

    /// Something came, before it is looked at.
    fn heard(&mut self) {}

    /// All that was answered is written.
    fn flushed(&mut self) {}

    /// The server is about to stop: what the client is told, if anything.
    fn shutdown(&mut self) -> Option<Utf8Bytes>;

    /// The socket is over.
    fn end(&mut self);
}

/// Accepts the upgrade; `session` makes the session, given the hub's end of the socket.
pub fn accept<S: Session>(
    upgrade: Upgrade,
    limits: Limits,
    app: Arc<App>,
    peer: SocketAddr,
    session: impl FnOnce(Outbox) -> S + Send + 'static,
) -> Response {
    upgrade.answer(move |io, agreed| async move {
        app.metrics.sockets_opened.fetch_add(1, Ordering::Relaxed);
        if agreed.is_some() {
            app.metrics.sockets_compressed.fetch_add(1, Ordering::Relaxed);
        }
        let (outbox, inbox) = outbox();
        let entered = app.sockets.enter(peer, outbox.clone());
        let driver = Driver {
            io,
            agreed,
            decoder: Decoder::new(limits.message_bytes_max, agreed.is_some()),
            out: Outgoing::default(),
            session: session(outbox),
            replies: Replies::default(),
            inbox,
            rate: Rate::new(if S::IS_LIMITED { limits.messages_per_second } else { 0 }),
            pings: VecDeque::new(),
            last_pong: Instant::now(),
            limits,
            app: app.clone(),
        };
        driver.run().await;
        drop(entered);
    })
}

/// Why a socket ends.
enum End {
    /// We close it.
    Close(u16, &'static str),
    /// The peer closes it, with this code; that must be answered.
    Answered(Option<u16>),
    /// It broke.
    Gone,
}

impl From<Cut> for End {
    fn from(cut: Cut) -> End {
        match cut {
            Cut::Slow => End::Close(1008, "slow reader: too many messages are waiting"),
            Cut::Hole => End::Close(1012, "the streams were interrupted: connect again"),
            Cut::Operator => End::Close(1008, "an operator ended this connection"),
        }
    }
}

/// What a peer is told of its own mistake.
impl From<Violation> for End {
    fn from(violation: Violation) -> End {
        match violation {
            Violation::Protocol => End::Close(1002, "protocol error"),
            Violation::Utf8 => End::Close(1007, "text that is not UTF-8"),
            Violation::TooLong => End::Close(1009, "message too long"),
        }
    }
}

/// What a socket woke for.
enum Woken {
    Came(Incoming),
    Answered(Utf8Bytes),
    /// Events are among what is to be written.
    Taken,
    Ping,
    Old,
    Stop,
}

struct Driver<S> {
    io: TokioIo<Upgraded>,
    agreed: Option<Agreed>,
    decoder: Decoder,
    out: Outgoing,
    session: S,
    replies: Replies,
    inbox: Inbox,
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
        // A peer that does not take it in time is dropped.
        let _ = timeout(CLOSE_TIMEOUT, self.say_goodbye(end)).await;
    }

    async fn say_goodbye(&mut self, end: End) -> Result<(), End> {
        let (code, reason) = match end {
            End::Gone => return Ok(()),
            End::Answered(code) => (code, ""),
            End::Close(code, reason) => (Some(code), reason),
        };
        let mut payload = code.map_or_else(Vec::new, |code| code.to_be_bytes().to_vec());
        payload.extend(reason.as_bytes());
        self.out.push(frame(Opcode::Close, &payload));
        poll_fn(|context| self.out.poll_flush(context, &mut self.io)).await.map_err(|_| End::Gone)?;
        self.io.shutdown().await.map_err(|_| End::Gone)?;
        // What the peer sent meanwhile has to be read, or the system resets the connection and the close is lost.
        let mut rest = vec![0; READ_BYTES];
        while self.io.read(&mut rest).await.is_ok_and(|read| read > 0) {}
        Ok(())
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
        self.session.begin(&mut self.replies);
        self.write_replies()?;
        self.flush().await?;
        loop {
            let woken = poll_fn(|context| {
                if let Poll::Ready(woken) = self.poll_work(context) {
                    return Poll::Ready(woken);
                }
                if ping.poll_tick(context).is_ready() {
                    return Poll::Ready(Ok(Woken::Ping));
                }
                if lifetime.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Ok(Woken::Old));
                }
                stop.as_mut().poll(context).map(|()| Ok(Woken::Stop))
            });
            match woken.await? {
                Woken::Came(message) => self.received(message)?,
                Woken::Answered(reply) => self.replies.send(reply),
                Woken::Taken => {}
                Woken::Ping => self.ping()?,
                Woken::Old => return Err(End::Close(1001, "connected for 24 hours")),
                Woken::Stop => {
                    if let Some(event) = self.session.shutdown() {
                        self.out.push(frame(Opcode::Text, event.as_bytes()));
                    }
                    self.flush().await?;
                    // A peer that gets no more answers in time has to ask elsewhere what became of its requests.
                    timeout(LAST_REPLIES_TIMEOUT, self.last_replies()).await.unwrap_or(Ok(()))?;
                    return Err(End::Close(1001, "the server is stopping"));
                }
            }
            self.finish_what_is_ready()?;
            self.flush().await?;
            self.session.flushed();
        }
    }

    /// What came, what was answered, what the streams have: in this order.
    fn poll_work(&mut self, context: &mut Context<'_>) -> Poll<Result<Woken, End>> {
        if let Poll::Ready(cut) = self.inbox.poll_cut(context) {
            return Poll::Ready(Err(cut.into()));
        }
        if let Poll::Ready(came) = self.poll_message(context) {
            return Poll::Ready(came.map(Woken::Came));
        }
        if let Poll::Ready(Some(reply)) = self.replies.later.poll_next_unpin(context) {
            return Poll::Ready(Ok(Woken::Answered(reply)));
        }
        let taken = self.inbox.poll_take(context, self.agreed, &mut self.out);
        taken.map(|taken| taken.map(|()| Woken::Taken).map_err(End::from))
    }

    /// The next message, unless as many requests are under way as may be.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<Incoming, End>> {
        if self.replies.later.len() >= self.limits.in_flight_max {
            return Poll::Pending;
        }
        loop {
            if let Some(message) = self.decoder.next()? {
                return Poll::Ready(Ok(message));
            }
            // On the stack: tens of thousands of sockets are idle, and what each reserves counts.
            let mut space = [MaybeUninit::uninit(); READ_BYTES];
            let mut space = ReadBuf::uninit(&mut space);
            match ready!(Pin::new(&mut self.io).poll_read(context, &mut space)) {
                Ok(()) if !space.filled().is_empty() => self.decoder.feed(space.filled()),
                _ => return Poll::Ready(Err(End::Gone)),
            }
        }
    }

    /// Answers what is under way; nothing more is read.
    async fn last_replies(&mut self) -> Result<(), End> {
        while !self.replies.later.is_empty() {
            let answered = poll_fn(|context| {
                if let Poll::Ready(reply) = self.replies.later.poll_next_unpin(context) {
                    return Poll::Ready(Ok(reply));
                }
                self.inbox.poll_take(context, self.agreed, &mut self.out).map(|taken| taken.map(|()| None))
            });
            if let Some(reply) = answered.await? {
                self.replies.send(reply);
            }
            self.write_replies()?;
            self.flush().await?;
            self.session.flushed();
        }
        Ok(())
    }

    /// Takes what is there without waiting.
    fn finish_what_is_ready(&mut self) -> Result<(), End> {
        // It is polled again, with a waker that counts, before anyone waits.
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..BEFORE_FLUSH_MAX {
            let mut idle = true;
            self.write_replies()?;
            if let Poll::Ready(came) = self.poll_message(&mut context) {
                self.received(came?)?;
                self.write_replies()?;
                idle = false;
            }
            while let Poll::Ready(Some(reply)) = self.replies.later.poll_next_unpin(&mut context) {
                self.replies.send(reply);
                idle = false;
            }
            self.write_replies()?;
            idle &= !self.inbox.take(self.agreed, &mut self.out);
            if idle || self.out.bytes() > BYTES_BEFORE_FLUSH_MAX {
                break;
            }
        }
        Ok(())
    }

    fn received(&mut self, message: Incoming) -> Result<(), End> {
        self.app.metrics.messages_received.fetch_add(1, Ordering::Relaxed);
        self.session.heard();
        if !self.rate.allows(Instant::now()) {
            return Err(End::Close(1008, "too many messages"));
        }
        match message {
            Incoming::Text(text) => self.session.text(text, &mut self.replies),
            Incoming::Binary(bytes) => self.session.binary(bytes, &mut self.replies),
            Incoming::Ping(payload) => self.out.push(frame(Opcode::Pong, &payload)),
            Incoming::Pong(payload) => {
                // Only the answer to a ping of ours counts.
                if self.pings.contains(&payload) {
                    self.last_pong = Instant::now();
                }
            }
            Incoming::Close(code) => return Err(End::Answered(code)),
        }
        Ok(())
    }

    fn ping(&mut self) -> Result<(), End> {
        if self.last_pong.elapsed() > self.limits.pong_timeout {
            self.app.metrics.sockets_silent.fetch_add(1, Ordering::Relaxed);
            return Err(End::Close(1008, "no pong"));
        }
        let payload = Bytes::from(clock::now().millis().to_string());
        if self.pings.len() == PINGS_REMEMBERED {
            self.pings.pop_front();
        }
        self.out.push(frame(Opcode::Ping, &payload));
        self.pings.push_back(payload);
        Ok(())
    }

    fn write_replies(&mut self) -> Result<(), End> {
        while let Some((opcode, reply)) = self.replies.ready.pop_front() {
            let agreed =
                self.agreed.filter(|agreed| reply.len() >= COMPRESSED_REPLY_MIN && agreed.may_hold(reply.len()));
            let shorter = agreed.and_then(|_| compressed(opcode, &reply));
            self.out.push(shorter.unwrap_or_else(|| frame(opcode, &reply)));
        }
        self.replies.close.map_or(Ok(()), |(code, reason)| Err(End::Close(code, reason)))
    }

    /// Writes all that is to be written. The streams wait meanwhile; what they have then is in [`Inbox`].
    async fn flush(&mut self) -> Result<(), End> {
        self.app.metrics.frames_sent.fetch_add(self.out.take_pushed(), Ordering::Relaxed);
        let mut late = None;
        let flushed = poll_fn(|context| {
            if let Poll::Ready(flushed) = self.out.poll_flush(context, &mut self.io) {
                return Poll::Ready(flushed.map_err(|_| End::Gone));
            }
            if let Poll::Ready(cut) = self.inbox.poll_cut(context) {
                return Poll::Ready(Err(cut.into()));
            }
            // A timer is only made when it is waited for.
            let late = late.get_or_insert_with(|| {
                self.inbox.counts().stalled_since_ms.store(clock::now().millis(), Ordering::Relaxed);
                Box::pin(sleep(self.limits.pong_timeout))
            });
            ready!(late.as_mut().poll(context));
            self.app.metrics.sockets_stalled.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(Err(End::Gone))
        })
        .await;
        if late.is_some() {
            self.inbox.counts().stalled_since_ms.store(0, Ordering::Relaxed);
        }
        flushed
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
