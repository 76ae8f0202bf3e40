//! Who listens to what. The feed publishes here; sockets come and go.
//!
//! A message is encoded only if someone listens, once for each form that someone wants it in ([`Channel`]), and its bytes
//! are shared. Nobody who publishes waits for anyone who listens, or pays for their number.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use engine::Uid;
use parking_lot::RwLock;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::ws::channel::{Behind, Channel, ChannelCounts, Listener, Wakers};
use crate::ws::diff::Diff;
use crate::ws::resume::Retained;
use crate::ws::topic::Keeping;

pub use crate::ws::channel::{Inbox, Outbox, outbox};
pub use crate::ws::topic::{Cadence, Form, TimeUnit, Topic, Window};

/// Items that a stream keeps for those who are behind, unless it is said.
const ITEMS_MAX: usize = 8_192;

#[derive(Default)]
struct Channels {
    list: Vec<Arc<Channel>>,
    /// Someone came since the topic last spoke.
    fresh: AtomicBool,
}

/// Who listens to what.
pub struct Hub {
    topics: RwLock<HashMap<Topic, Channels>>,
    users: AtomicUsize,
    items_max: AtomicUsize,
    wakers: Arc<Wakers>,
    /// What was told last, for those who come back.
    pub retained: Retained,
    /// What it counts, for metrics.
    pub counts: Arc<ChannelCounts>,
}

impl Default for Hub {
    fn default() -> Hub {
        Hub {
            topics: RwLock::default(),
            users: AtomicUsize::new(0),
            items_max: AtomicUsize::new(ITEMS_MAX),
            wakers: Arc::default(),
            retained: Retained::default(),
            counts: Arc::default(),
        }
    }
}

/// That a socket listens; it ends when this is dropped.
pub struct Subscription {
    hub: Arc<Hub>,
    topic: Topic,
    listener: Arc<Listener>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.listener.end();
        if matches!(self.topic, Topic::User(_)) {
            self.hub.users.fetch_sub(1, Ordering::Relaxed);
        }
        self.hub.tidy(self.topic);
    }
}

impl Hub {
    /// Nobody listens yet.
    pub fn new() -> Hub {
        Hub::default()
    }

    /// From now on tasks of their own wake those who listen, and a stream keeps so many batches for who is behind.
    pub fn start(&self, items_max: usize) {
        self.items_max.store(items_max, Ordering::Relaxed);
        self.wakers.start();
    }

    /// This socket listens from now on.
    pub fn subscribe(self: &Arc<Hub>, topic: Topic, outbox: &Outbox, form: Form, unit: TimeUnit) -> Subscription {
        let mut topics = self.topics.write();
        let channels = topics.entry(topic).or_default();
        let known = channels.list.iter().find(|channel| channel.form == form && channel.unit == unit);
        let channel = known.cloned().unwrap_or_else(|| {
            let items_max = self.items_max.load(Ordering::Relaxed);
            let (counts, wakers) = (self.counts.clone(), self.wakers.clone());
            let channel = Arc::new(Channel::new(form, unit, topic.keeping(), items_max, counts, wakers));
            channels.list.push(channel.clone());
            channel
        });
        let listener = channel.listen(outbox);
        channels.fresh.store(true, Ordering::Relaxed);
        if matches!(topic, Topic::User(_)) {
            self.users.fetch_add(1, Ordering::Relaxed);
        }
        Subscription { hub: self.clone(), topic, listener }
    }

    /// Nobody listens through this listen key any longer.
    pub fn close_listen_key(&self, uid: Uid, key: &str) {
        if let Some(channels) = self.topics.read().get(&Topic::User(uid)) {
            let of_key = channels.list.iter().filter(|channel| channel.form.listen_key() == Some(key));
            of_key.for_each(|channel| channel.close());
        }
        self.tidy(Topic::User(uid));
    }

    /// Forgets the streams of a topic to which nobody listens.
    fn tidy(&self, topic: Topic) {
        let is_tidy = |channels: &Channels| channels.list.iter().all(|channel| channel.count() > 0);
        if self.topics.read().get(&topic).is_none_or(is_tidy) {
            return;
        }
        let mut topics = self.topics.write();
        if let Some(channels) = topics.get_mut(&topic) {
            channels.list.retain(|channel| channel.count() > 0);
            if channels.list.is_empty() {
                topics.remove(&topic);
            }
        }
    }

    /// Cuts off everyone who listens: the streams have a hole, and who connects again begins with what is there then.
    pub fn cut_all(&self) {
        self.topics.read().values().flat_map(|channels| &channels.list).for_each(|channel| channel.cut_all());
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

    /// How many subscriptions there are to each kind of stream, for metrics.
    pub fn subscriptions(&self) -> BTreeMap<&'static str, usize> {
        let mut by_kind = BTreeMap::new();
        for (topic, channels) in self.topics.read().iter() {
            *by_kind.entry(topic.kind()).or_default() +=
                channels.list.iter().map(|channel| channel.count()).sum::<usize>();
        }
        by_kind
    }

    /// The sockets that have not taken all, by their numbers.
    pub fn behind(&self) -> HashMap<u64, Behind> {
        let mut by_socket = HashMap::new();
        let channels: Vec<Arc<Channel>> =
            self.topics.read().values().flat_map(|channels| &channels.list).cloned().collect();
        channels.iter().for_each(|channel| channel.add_behind(&mut by_socket));
        by_socket
    }

    /// Whether someone came since this was last asked.
    pub fn take_fresh(&self, topic: Topic) -> bool {
        self.topics.read().get(&topic).is_some_and(|channels| channels.fresh.swap(false, Ordering::Relaxed))
    }

    /// Sends what `encode` makes to everyone who listens; it is called only if someone does, once for each unit of time.
    pub fn publish(&self, topic: Topic, encode: impl Fn(TimeUnit) -> Vec<Utf8Bytes>) {
        self.publish_if(topic, |_| true, |unit| encode(unit).into_iter().map(|text| (0, text)).collect(), None);
    }

    /// The same where each message says of what it is: the last of each replaces those before.
    pub fn publish_keyed(&self, topic: Topic, encode: impl Fn(TimeUnit) -> Vec<(u64, Utf8Bytes)>) {
        self.publish_if(topic, |_| true, encode, None);
    }

    /// Sends changes of a book.
    pub fn publish_diff(&self, topic: Topic, diff: &Arc<Diff>) {
        self.publish_if(topic, |_| true, |unit| vec![(0, diff.text(unit).into())], Some(diff));
    }

    /// Sends an account's events through one listen key alone.
    pub fn publish_to_key(&self, uid: Uid, key: &str, event: Utf8Bytes) {
        let of_key = |form: &Form| form.listen_key() == Some(key);
        self.publish_if(Topic::User(uid), of_key, |_| vec![(0, event.clone())], None);
    }

    fn publish_if(
        &self,
        topic: Topic,
        wanted: impl Fn(&Form) -> bool,
        encode: impl Fn(TimeUnit) -> Vec<(u64, Utf8Bytes)>,
        diff: Option<&Arc<Diff>>,
    ) {
        let topics = self.topics.read();
        let Some(channels) = topics.get(&topic) else { return };
        let goes_together = topic.keeping() != Keeping::Last;
        let mut encoded: [Option<Vec<(u64, Utf8Bytes)>>; 2] = [None, None];
        for channel in channels.list.iter().filter(|channel| wanted(&channel.form)) {
            let messages = encoded[channel.unit as usize].get_or_insert_with(|| encode(channel.unit));
            if messages.is_empty() {
                return;
            }
            if goes_together {
                let texts: Vec<&str> = messages.iter().map(|(_, text)| text.as_str()).collect();
                channel.push(0, &texts, diff);
            } else {
                messages.iter().for_each(|(key, text)| channel.push(*key, &[text.as_str()], None));
            }
            channel.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::channel::Cut;
    use crate::ws::message::{Batch, Message};
    use crate::ws::outgoing::Outgoing;
    use engine::SymbolId;
    use std::task::{Context, Poll};

    const TRADES: Topic = Topic::Trade(SymbolId(0));
    const BEST: Topic = Topic::BookTicker(SymbolId(0));

    fn text(batch: &Batch) -> Vec<&str> {
        batch.iter().map(Message::as_str).collect()
    }

    fn listen(hub: &Arc<Hub>, topic: Topic, outbox: &Outbox) -> Subscription {
        hub.subscribe(topic, outbox, Form::Raw, TimeUnit::Millisecond)
    }

    fn small() -> Arc<Hub> {
        let hub = Hub::new();
        hub.items_max.store(4, Ordering::Relaxed);
        Arc::new(hub)
    }

    fn cut(inbox: &Inbox) -> Poll<Cut> {
        inbox.poll_cut(&mut Context::from_waker(std::task::Waker::noop()))
    }

    fn numbered(number: u64) -> Vec<Utf8Bytes> {
        vec![number.to_string().into()]
    }

    #[test]
    fn one_encoding_serves_every_subscriber_of_a_form() {
        let hub = Arc::new(Hub::new());
        let mut sockets: Vec<_> = (0..4).map(|_| outbox()).collect();
        let mut subscriptions = Vec::new();
        for (index, (outbox, _)) in sockets.iter().enumerate() {
            let form = if index % 2 == 0 { Form::Raw } else { Form::Combined("btcusdt@trade".into()) };
            subscriptions.push(hub.subscribe(TRADES, outbox, form, TimeUnit::Millisecond));
        }
        let calls = std::cell::Cell::new(0);
        hub.publish(TRADES, |_| {
            calls.set(calls.get() + 1);
            vec!["{}".into()]
        });
        assert_eq!(calls.get(), 1);
        let batches: Vec<_> = sockets.iter_mut().map(|(_, inbox)| inbox.try_next().unwrap()).collect();
        assert_eq!(text(&batches[0]), ["{}"]);
        assert_eq!(text(&batches[1]), [r#"{"stream":"btcusdt@trade","data":{}}"#]);
        assert!(Arc::ptr_eq(&batches[0], &batches[2]) && Arc::ptr_eq(&batches[1], &batches[3]));
    }

    #[test]
    fn after_a_hole_in_the_streams_everyone_who_listens_is_cut_off() {
        let hub = Arc::new(Hub::new());
        let ((listener, mut inbox), (_other, quiet)) = (outbox(), outbox());
        let _listening = listen(&hub, TRADES, &listener);
        hub.cut_all();
        assert_eq!(cut(&inbox), Poll::Ready(Cut::Hole));
        hub.publish(TRADES, |_| vec!["{}".into()]);
        assert!(inbox.try_next().is_none(), "it is sent nothing more");
        assert_eq!(cut(&quiet), Poll::Pending, "who listens to nothing stays");
    }

    #[test]
    fn nothing_is_encoded_for_nobody() {
        let hub = Arc::new(Hub::new());
        let (outbox, mut inbox) = outbox();
        let listening = listen(&hub, TRADES, &outbox);
        hub.publish(TRADES, |_| vec!["{}".into()]);
        drop(listening);
        hub.publish(TRADES, |_| panic!("nobody listens"));
        assert!(inbox.try_next().is_none(), "what came before and was not taken is not sent after the end either");
        assert_eq!((hub.subscriptions().len(), hub.listens(TRADES)), (0, false));
    }

    #[test]
    fn who_is_too_far_behind_on_trades_is_cut_off_and_no_other() {
        let hub = small();
        let ((slow, slow_inbox), (fast, mut fast_inbox)) = (outbox(), outbox());
        let _both = (listen(&hub, TRADES, &slow), listen(&hub, TRADES, &fast));
        for number in 0..10 {
            hub.publish(TRADES, |_| numbered(number));
            assert_eq!(text(&fast_inbox.try_next().unwrap()), [number.to_string()]);
        }
        assert_eq!((cut(&slow_inbox), cut(&fast_inbox)), (Poll::Ready(Cut::Slow), Poll::Pending));
        assert_eq!(hub.counts.slow.load(Ordering::Relaxed), 1);
        assert_eq!(hub.counts.taken.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn it_is_known_who_is_behind_since_when_and_by_how_much() {
        let hub = Arc::new(Hub::new());
        let ((slow, mut slow_inbox), (fast, mut fast_inbox)) = (outbox(), outbox());
        let _listening =
            [(TRADES, &slow), (TRADES, &fast), (BEST, &slow)].map(|(topic, outbox)| listen(&hub, topic, outbox));
        assert_eq!(hub.subscriptions(), BTreeMap::from([("bookTicker", 1), ("trade", 2)]));
        let before = crate::clock::now().millis();
        (0..3).for_each(|number| hub.publish(TRADES, |_| numbered(number)));
        hub.publish(BEST, |_| numbered(9));
        while fast_inbox.try_next().is_some() {}
        let behind = hub.behind();
        assert_eq!(behind.len(), 1, "{behind:?}");
        let told = behind[&slow.id()];
        assert_eq!(told.items, 4);
        assert!((before..=crate::clock::now().millis()).contains(&told.since_ms), "{told:?}");
        while slow_inbox.try_next().is_some() {}
        assert!(hub.behind().is_empty());
        let counts = |outbox: &Outbox| {
            let counts = outbox.counts();
            (counts.streams.load(Ordering::Relaxed), counts.taken.load(Ordering::Relaxed))
        };
        assert_eq!((counts(&slow), counts(&fast)), ((2, 4), (1, 3)));
    }

    #[test]
    fn a_listen_key_that_is_closed_is_no_stream_of_its_socket_any_more() {
        let hub = Arc::new(Hub::new());
        let (outbox, _inbox) = outbox();
        let listening =
            hub.subscribe(Topic::User(Uid(1)), &outbox, Form::ListenKey("key".into()), TimeUnit::Millisecond);
        hub.close_listen_key(Uid(1), "key");
        drop(listening);
        assert_eq!(outbox.counts().streams.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_is_behind_on_best_prices_gets_the_last_of_each_symbol() {
        let hub = small();
        let ((slow, mut slow_inbox), (fast, mut fast_inbox)) = (outbox(), outbox());
        let all = Topic::AllBookTickers;
        let _listening =
            [(BEST, &slow), (BEST, &fast), (all, &slow)].map(|(topic, outbox)| listen(&hub, topic, outbox));
        for number in 0..100_u64 {
            hub.publish(BEST, |_| numbered(number));
            assert_eq!(text(&fast_inbox.try_next().unwrap()), [number.to_string()]);
            hub.publish_keyed(all, |_| vec![(number % 3, format!("{}:{number}", number % 3).into())]);
        }
        let mut heard = Vec::new();
        while let Some(batch) = slow_inbox.try_next() {
            heard.extend(batch.iter().map(|message| message.as_str().to_owned()));
        }
        assert!(heard.len() < 12, "{heard:?}");
        for last in ["99", "0:99", "1:97", "2:98"] {
            assert!(heard.iter().any(|text| text == last), "{last} is missing of {heard:?}");
        }
        assert_eq!(cut(&slow_inbox), Poll::Pending);
        assert_eq!(hub.counts.conflated.load(Ordering::Relaxed), 200 - heard.len() as u64);
    }

    /// Whatever comes and goes while they are woken, who listens is told of everything.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_listeners_are_all_woken_while_others_come_and_go() {
        const LISTENERS: usize = 200;
        const MESSAGES: u64 = 300;
        let hub = Arc::new(Hub::new());
        hub.start(ITEMS_MAX);
        let mut tasks = Vec::new();
        for _ in 0..LISTENERS {
            let (outbox, mut inbox) = outbox();
            let listening = listen(&hub, TRADES, &outbox);
            tasks.push(tokio::spawn(async move {
                let (mut heard, mut out) = (0, Outgoing::default());
                while heard < MESSAGES {
                    let taken = std::future::poll_fn(|context| inbox.poll_take(context, None, &mut out)).await;
                    taken.unwrap();
                    heard += out.take_pushed();
                }
                drop(listening);
            }));
        }
        let coming = hub.clone();
        let restless = tokio::task::spawn_blocking(move || {
            for _ in 0..2_000 {
                let (outbox, _inbox) = outbox();
                drop(listen(&coming, TRADES, &outbox));
            }
        });
        for number in 0..MESSAGES {
            hub.publish(TRADES, |_| numbered(number));
            if number % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
        for task in tasks {
            tokio::time::timeout(std::time::Duration::from_secs(20), task).await.expect("everyone is told").unwrap();
        }
        restless.await.unwrap();
        assert!(hub.subscriptions().is_empty());
    }
}
