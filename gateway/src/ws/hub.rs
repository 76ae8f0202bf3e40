//! Who listens to what. The feed publishes here; sockets come and go.
//!
//! A message is encoded only if someone listens, once for each form that someone wants it in, and its bytes are shared.
//! All messages of one topic that one entry of the journal caused travel as one [`Batch`]. A socket's queue is bounded: one
//! that is full is never waited for, its socket is closed as a slow reader.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use axum::extract::ws::Utf8Bytes;
use engine::{SymbolId, Uid};
use parking_lot::RwLock;
use tokio::sync::{Notify, mpsc};

use crate::klines::{Interval, Offset};

/// Messages that go out together, in order.
pub type Batch = Arc<[Utf8Bytes]>;

/// What can be listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// `<symbol>@trade`
    Trade(SymbolId),
    /// `<symbol>@aggTrade`
    AggregateTrade(SymbolId),
    /// `<symbol>@bookTicker`
    BookTicker(SymbolId),
    /// `!bookTicker`
    AllBookTickers,
    /// `<symbol>@depth` and `<symbol>@depth@100ms`
    Depth(SymbolId, Cadence),
    /// `<symbol>@depth<levels>` and `<symbol>@depth<levels>@100ms`
    PartialDepth(SymbolId, u8, Cadence),
    /// `<symbol>@miniTicker`
    MiniTicker(SymbolId),
    /// `!miniTicker@arr`
    AllMiniTickers,
    /// `<symbol>@ticker`
    Ticker(SymbolId),
    /// `!ticker@arr`
    AllTickers,
    /// `<symbol>@ticker_<window>`
    RollingTicker(SymbolId, Window),
    /// `!ticker_<window>@arr`
    AllRollingTickers(Window),
    /// `<symbol>@avgPrice`
    AveragePrice(SymbolId),
    /// `<symbol>@referencePrice`
    ReferencePrice(SymbolId),
    /// `<symbol>@kline_<interval>` and `<symbol>@kline_<interval>@+08:00`
    Kline(SymbolId, Interval, Offset),
    /// What happens to one account.
    User(Uid),
}

/// How often a stream of the book's changes speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cadence {
    /// Every 100 ms.
    Fast,
    /// Every second.
    Slow,
}

/// The windows of the rolling tickers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// `1h`
    Hour1,
    /// `4h`
    Hour4,
    /// `1d`
    Day1,
}

impl Topic {
    /// Whether the feed's clock, and not an event, makes it speak.
    pub fn is_timed(self) -> bool {
        !matches!(
            self,
            Topic::Trade(_) | Topic::AggregateTrade(_) | Topic::BookTicker(_) | Topic::AllBookTickers | Topic::User(_)
        )
    }
}

/// The unit of the times in a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeUnit {
    /// As everyone knows it.
    #[default]
    Millisecond,
    /// `timeUnit=MICROSECOND` in the URL.
    Microsecond,
}

impl TimeUnit {
    /// A time in this unit.
    pub fn of(self, time: engine::Time) -> u64 {
        match self {
            TimeUnit::Millisecond => time.millis(),
            TimeUnit::Microsecond => time.0,
        }
    }
}

/// In which form a subscriber wants its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// The event alone.
    Raw,
    /// `{"stream":…,"data":…}` with the stream's name.
    Combined(Arc<str>),
    /// The event alone, through a listen key.
    ListenKey(Arc<str>),
    /// `{"stream":…,"data":…}` with the listen key.
    CombinedListenKey(Arc<str>),
    /// `{"subscriptionId":…,"event":…}`
    Subscription(u64),
}

impl Form {
    /// The event in this form.
    fn wrap(&self, event: &Utf8Bytes) -> Utf8Bytes {
        match self {
            Form::Raw | Form::ListenKey(_) => event.clone(),
            // Neither a stream's name nor a listen key has a character that JSON would escape.
            Form::Combined(name) | Form::CombinedListenKey(name) => {
                format!(r#"{{"stream":"{name}","data":{}}}"#, event.as_str()).into()
            }
            Form::Subscription(id) => format!(r#"{{"subscriptionId":{id},"event":{}}}"#, event.as_str()).into(),
        }
    }

    /// The listen key it came through.
    pub fn listen_key(&self) -> Option<&str> {
        match self {
            Form::ListenKey(key) | Form::CombinedListenKey(key) => Some(key),
            _ => None,
        }
    }
}

/// The feed's end of a socket's queue.
#[derive(Clone)]
pub struct Outbox {
    socket: u64,
    batches: mpsc::Sender<Batch>,
    state: Arc<OutboxState>,
}

#[derive(Default)]
struct OutboxState {
    slow: AtomicBool,
    became_slow: Notify,
    bytes: AtomicUsize,
}

/// The socket's end of its queue.
pub struct Inbox {
    batches: mpsc::Receiver<Batch>,
    state: Arc<OutboxState>,
}

/// The most bytes that may wait for one socket, whatever the number of batches.
const OUTBOX_BYTES_MAX: usize = 16 << 20;

/// A queue of at most `capacity` batches for a new socket.
pub fn outbox(capacity: usize) -> (Outbox, Inbox) {
    static SOCKETS: AtomicU64 = AtomicU64::new(0);
    let (sender, receiver) = mpsc::channel(capacity);
    let state = Arc::<OutboxState>::default();
    let socket = SOCKETS.fetch_add(1, Ordering::Relaxed);
    (Outbox { socket, batches: sender, state: state.clone() }, Inbox { batches: receiver, state })
}

impl Outbox {
    fn send(&self, batch: &Batch) -> bool {
        if self.state.slow.load(Ordering::Relaxed) {
            return false;
        }
        let size: usize = batch.iter().map(|message| message.len()).sum();
        let waiting = self.state.bytes.fetch_add(size, Ordering::Relaxed);
        let taken = waiting + size <= OUTBOX_BYTES_MAX && self.batches.try_send(batch.clone()).is_ok();
        if !taken {
            self.cut();
        }
        taken
    }

    /// Nothing more is sent, and the socket is closed.
    fn cut(&self) {
        self.state.slow.store(true, Ordering::Relaxed);
        self.state.became_slow.notify_one();
    }
}

impl Inbox {
    /// The next batch; waits for one. There is always one to wait for: the socket holds an [`Outbox`] of its own.
    pub async fn next(&mut self) -> Option<Batch> {
        let batch = self.batches.recv().await?;
        self.taken(&batch);
        Some(batch)
    }

    /// The next batch if it is there.
    pub fn try_next(&mut self) -> Option<Batch> {
        let batch = self.batches.try_recv().ok()?;
        self.taken(&batch);
        Some(batch)
    }

    /// What tells when the queue is full.
    pub fn slow_signal(&self) -> SlowSignal {
        SlowSignal(self.state.clone())
    }

    fn taken(&self, batch: &Batch) {
        let size: usize = batch.iter().map(|message| message.len()).sum();
        self.state.bytes.fetch_sub(size, Ordering::Relaxed);
    }
}

/// Tells that a socket's reader is too slow.
pub struct SlowSignal(Arc<OutboxState>);

impl SlowSignal {
    /// Resolves when the socket's queue was full.
    pub async fn wait(&self) {
        while !self.0.slow.load(Ordering::Relaxed) {
            self.0.became_slow.notified().await;
        }
    }
}

struct Subscriber {
    outbox: Outbox,
    form: Form,
    unit: TimeUnit,
}

#[derive(Default)]
struct Subscribers {
    list: Vec<Subscriber>,
    /// Someone came since the topic last spoke.
    fresh: AtomicBool,
}

/// Who listens to what.
#[derive(Default)]
pub struct Hub {
    topics: RwLock<HashMap<Topic, Subscribers>>,
    users: AtomicUsize,
    /// What it counts, for metrics.
    pub counts: HubCounts,
}

/// What a [`Hub`] counts.
#[derive(Default)]
pub struct HubCounts {
    /// Messages put into queues.
    pub messages: AtomicU64,
    /// Messages that had to be encoded.
    pub encoded: AtomicU64,
    /// Sockets found too slow.
    pub slow: AtomicU64,
}

impl Hub {
    /// Nobody listens yet.
    pub fn new() -> Hub {
        Hub::default()
    }

    /// This socket listens from now on.
    pub fn subscribe(&self, topic: Topic, outbox: &Outbox, form: Form, unit: TimeUnit) {
        let mut topics = self.topics.write();
        let subscribers = topics.entry(topic).or_default();
        subscribers.list.push(Subscriber { outbox: outbox.clone(), form, unit });
        subscribers.fresh.store(true, Ordering::Relaxed);
        if matches!(topic, Topic::User(_)) {
            self.users.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// This socket no longer listens in this form.
    pub fn unsubscribe(&self, topic: Topic, outbox: &Outbox, form: &Form) {
        self.retain(topic, |subscriber| subscriber.outbox.socket != outbox.socket || subscriber.form != *form);
    }

    /// Nobody listens through this listen key any longer.
    pub fn close_listen_key(&self, uid: Uid, key: &str) {
        self.retain(Topic::User(uid), |subscriber| subscriber.form.listen_key() != Some(key));
    }

    fn retain(&self, topic: Topic, keep: impl FnMut(&Subscriber) -> bool) {
        let mut topics = self.topics.write();
        let Some(subscribers) = topics.get_mut(&topic) else { return };
        let before = subscribers.list.len();
        subscribers.list.retain(keep);
        if matches!(topic, Topic::User(_)) {
            self.users.fetch_sub(before - subscribers.list.len(), Ordering::Relaxed);
        }
        if subscribers.list.is_empty() {
            topics.remove(&topic);
        }
    }

    /// Cuts off everyone who listens: the streams have a hole, and who connects again begins with what is there then.
    pub fn cut_all(&self) {
        let topics = self.topics.read();
        topics.values().flat_map(|subscribers| &subscribers.list).for_each(|subscriber| subscriber.outbox.cut());
    }

    /// The topics that have subscribers and speak by the clock.
    pub fn timed_topics(&self) -> Vec<Topic> {
        self.topics.read().keys().copied().filter(|topic| topic.is_timed()).collect()
    }

    /// Whether anyone listens to any account.
    pub fn has_users(&self) -> bool {
        self.users.load(Ordering::Relaxed) > 0
    }

    /// Whether anyone listens.
    pub fn listens(&self, topic: Topic) -> bool {
        self.topics.read().contains_key(&topic)
    }

    /// How many subscriptions there are, for metrics.
    pub fn subscriptions(&self) -> usize {
        self.topics.read().values().map(|subscribers| subscribers.list.len()).sum()
    }

    /// Whether someone came since this was last asked.
    pub fn take_fresh(&self, topic: Topic) -> bool {
        self.topics.read().get(&topic).is_some_and(|subscribers| subscribers.fresh.swap(false, Ordering::Relaxed))
    }

    /// Sends what `encode` makes to everyone who listens; it is called only if someone does, once for each unit of time.
    pub fn publish(&self, topic: Topic, encode: impl Fn(TimeUnit) -> Vec<Utf8Bytes>) {
        self.publish_if(topic, |_| true, encode);
    }

    /// Sends an account's events through one listen key alone.
    pub fn publish_to_key(&self, uid: Uid, key: &str, event: Utf8Bytes) {
        self.publish_if(Topic::User(uid), |form| form.listen_key() == Some(key), |_| vec![event.clone()]);
    }

    fn publish_if(&self, topic: Topic, wanted: impl Fn(&Form) -> bool, encode: impl Fn(TimeUnit) -> Vec<Utf8Bytes>) {
        let topics = self.topics.read();
        let Some(subscribers) = topics.get(&topic) else { return };
        // One topic has few forms: the event alone, its combined form, and for an account one for each subscription.
        let mut raw: [Option<Batch>; 2] = [None, None];
        let mut wrapped: Vec<(&Form, TimeUnit, Batch)> = Vec::new();
        for subscriber in subscribers.list.iter().filter(|subscriber| wanted(&subscriber.form)) {
            let raw = raw[subscriber.unit as usize].get_or_insert_with(|| {
                let batch: Batch = encode(subscriber.unit).into();
                self.counts.encoded.fetch_add(batch.len() as u64, Ordering::Relaxed);
                batch
            });
            if raw.is_empty() {
                return;
            }
            let batch = match &subscriber.form {
                Form::Raw | Form::ListenKey(_) => &*raw,
                form => {
                    let known = wrapped.iter().position(|(other, unit, _)| *other == form && *unit == subscriber.unit);
                    let index = known.unwrap_or_else(|| {
                        let batch = raw.iter().map(|event| form.wrap(event)).collect();
                        wrapped.push((form, subscriber.unit, batch));
                        wrapped.len() - 1
                    });
                    &wrapped[index].2
                }
            };
            let slow_before = subscriber.outbox.state.slow.load(Ordering::Relaxed);
            if subscriber.outbox.send(batch) {
                self.counts.messages.fetch_add(batch.len() as u64, Ordering::Relaxed);
            } else if !slow_before {
                self.counts.slow.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(batch: &Batch) -> Vec<&str> {
        batch.iter().map(|message| message.as_str()).collect()
    }

    #[test]
    fn one_encoding_serves_every_subscriber_of_a_form() {
        let hub = Hub::new();
        let topic = Topic::Trade(SymbolId(0));
        let mut sockets: Vec<_> = (0..4).map(|_| outbox(4)).collect();
        for (index, (outbox, _)) in sockets.iter().enumerate() {
            let form = if index % 2 == 0 { Form::Raw } else { Form::Combined("btcusdt@trade".into()) };
            hub.subscribe(topic, outbox, form, TimeUnit::Millisecond);
        }
        let calls = std::cell::Cell::new(0);
        hub.publish(topic, |_| {
            calls.set(calls.get() + 1);
            vec!["{}".into()]
        });
        assert_eq!(calls.get(), 1);
        let batches: Vec<_> = sockets.iter_mut().map(|(_, inbox)| inbox.try_next().unwrap()).collect();
        assert_eq!(text(&batches[0]), ["{}"]);
        assert_eq!(text(&batches[1]), [r#"{"stream":"btcusdt@trade","data":{}}"#]);
        assert!(Arc::ptr_eq(&batches[0], &batches[2]) && Arc::ptr_eq(&batches[1], &batches[3]));
    }

    #[tokio::test]
    async fn after_a_hole_in_the_streams_everyone_who_listens_is_cut_off() {
        let hub = Hub::new();
        let topic = Topic::Trade(SymbolId(0));
        let ((listener, mut inbox), (_other, quiet)) = (outbox(4), outbox(4));
        hub.subscribe(topic, &listener, Form::Raw, TimeUnit::Millisecond);
        hub.cut_all();
        inbox.slow_signal().wait().await;
        hub.publish(topic, |_| vec!["{}".into()]);
        assert!(inbox.try_next().is_none(), "it is sent nothing more");
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(20), quiet.slow_signal().wait()).await;
        assert!(waiting.is_err(), "who listens to nothing stays");
    }

    #[test]
    fn nothing_is_encoded_for_nobody() {
        let hub = Hub::new();
        let (outbox, _inbox) = outbox(4);
        let topic = Topic::Trade(SymbolId(0));
        hub.subscribe(topic, &outbox, Form::Raw, TimeUnit::Millisecond);
        hub.unsubscribe(topic, &outbox, &Form::Raw);
        hub.publish(topic, |_| panic!("nobody listens"));
        assert_eq!(hub.subscriptions(), 0);
    }

    #[tokio::test]
    async fn a_full_queue_marks_its_socket_slow_and_no_other() {
        let hub = Hub::new();
        let topic = Topic::Trade(SymbolId(0));
        let (slow, slow_inbox) = outbox(2);
        let (fast, mut fast_inbox) = outbox(2);
        hub.subscribe(topic, &slow, Form::Raw, TimeUnit::Millisecond);
        hub.subscribe(topic, &fast, Form::Raw, TimeUnit::Millisecond);
        for _ in 0..4 {
            hub.publish(topic, |_| vec!["{}".into()]);
            assert!(fast_inbox.try_next().is_some());
        }
        slow_inbox.slow_signal().wait().await;
        assert_eq!(hub.counts.slow.load(Ordering::Relaxed), 1);
        assert_eq!(hub.counts.messages.load(Ordering::Relaxed), 6);
    }
}
