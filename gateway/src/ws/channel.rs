//! One stream in one form: what was sent last, and who listens.
//!
//! A message is put here once, whatever the number of listeners; each has a place in it and takes what follows when its
//! socket has room. So a slow reader costs no memory of its own and nobody's time. How much is kept is bounded; who
//! falls behind it is told the newest alone (`Keeping::Last`), or all changes as one (`Keeping::Diffs`), or is cut off.
//!
//! Few listeners are woken by whoever publishes. Many are woken by the [`Wakers`], so that the feed's thread does not pay
//! for them; these let the woken sockets write after each few, or the first would wait for the last to be woken.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::clock;
use crate::ws::deflate::Agreed;
use crate::ws::diff::Diff;
use crate::ws::message::{Batch, Message};
use crate::ws::outgoing::Outgoing;
use crate::ws::topic::{Form, Keeping, TimeUnit};

/// Into how many groups the listeners of a stream are divided; each is woken by a task of its own.
const GROUPS: usize = 2;
/// So many listeners at most are woken by whoever publishes.
const WOKEN_AT_ONCE_MAX: usize = 8;
/// After so many the woken sockets have their turn.
const WOKEN_BEFORE_YIELD: usize = 32;
/// Bytes that one stream keeps for those who are behind.
const BYTES_MAX: usize = 16 << 20;
/// Messages of which the last counts that are kept before the superseded ones go.
const LAST_KEPT_MAX: usize = 256;
/// A reader that is so many changes of a book behind is told them as one.
const JOINED_ABOVE: usize = 4;
/// Bytes that one socket takes in one turn from one stream.
const TAKEN_BYTES_MAX: usize = 64 << 10;
/// How many listeners are looked at before others have their turn.
const LOOKED_AT_ONCE: usize = 512;
/// When a stream first looks for what nobody needs any more.
const FIRST_LOOK: usize = 64;

/// What is counted of all streams.
#[derive(Debug, Default)]
pub struct ChannelCounts {
    /// Messages taken by sockets.
    pub taken: AtomicU64,
    /// Messages encoded.
    pub encoded: AtomicU64,
    /// Messages that a reader was not sent because a later one replaced or contains them.
    pub conflated: AtomicU64,
    /// Readers cut off because they missed what cannot be left out.
    pub slow: AtomicU64,
    /// Readers cut off because the streams had a hole.
    pub holes: AtomicU64,
}

/// Why a socket has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It missed what cannot be left out.
    Slow,
    /// The streams have a hole; who connects again begins with what is there then.
    Hole,
    /// An operator wants it so.
    Operator,
}

/// The hub's end of a socket.
pub struct Outlet {
    id: usize,
    due: Mutex<VecDeque<Arc<Listener>>>,
    waker: AtomicWaker,
    cut: AtomicU8,
    counts: OutletCounts,
}

/// What is counted of one socket.
#[derive(Debug, Default)]
pub struct OutletCounts {
    /// Streams that it listens to.
    pub streams: AtomicUsize,
    /// Messages it took.
    pub taken: AtomicU64,
    /// Messages it was not sent because a later one replaced or contains them.
    pub conflated: AtomicU64,
    /// Since when its peer takes nothing of what is to be written, in milliseconds of the clock; 0 where it does.
    pub stalled_since_ms: AtomicU64,
}

/// What a socket has not taken yet of the streams that it listens to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// How many items.
    pub items: u64,
    /// When the oldest of them was published, in milliseconds of the clock.
    pub since_ms: u64,
}

impl Outlet {
    /// Its number in this process.
    pub fn id(&self) -> u64 {
        self.id as u64
    }

    /// What is counted of it.
    pub fn counts(&self) -> &OutletCounts {
        &self.counts
    }

    /// An operator ends it; whether it was open.
    pub fn disconnect(&self) -> bool {
        self.cut(Cut::Operator)
    }

    /// Ends the socket; whether that is news.
    fn cut(&self, cut: Cut) -> bool {
        let was_open = self.cut.compare_exchange(0, cut as u8 + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        self.waker.wake();
        was_open
    }

    fn is_cut(&self) -> Option<Cut> {
        match self.cut.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Cut::Slow),
            2 => Some(Cut::Hole),
            _ => Some(Cut::Operator),
        }
    }
}

/// The hub's end of a socket, which subscribes with it.
pub type Outbox = Arc<Outlet>;

/// The socket's own end.
pub struct Inbox {
    outlet: Arc<Outlet>,
    taken: Vec<Batch>,
}

/// The two ends of a new socket.
pub fn outbox() -> (Outbox, Inbox) {
    static SOCKETS: AtomicUsize = AtomicUsize::new(0);
    let id = SOCKETS.fetch_add(1, Ordering::Relaxed);
    let outlet = Arc::new(Outlet {
        id,
        due: Mutex::default(),
        waker: AtomicWaker::new(),
        cut: AtomicU8::new(0),
        counts: OutletCounts::default(),
    });
    (outlet.clone(), Inbox { outlet, taken: Vec::new() })
}

impl Inbox {
    /// What is counted of its socket.
    pub fn counts(&self) -> &OutletCounts {
        &self.outlet.counts
    }

    /// Resolves when the socket has to end.
    pub fn poll_cut(&self, context: &mut Context<'_>) -> Poll<Cut> {
        self.outlet.waker.register(context.waker());
        self.outlet.is_cut().map_or(Poll::Pending, Poll::Ready)
    }

    /// Takes what one of the streams has, in the form that was agreed on.
    pub fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        agreed: Option<Agreed>,
        out: &mut Outgoing,
    ) -> Poll<Result<(), Cut>> {
        self.outlet.waker.register(context.waker());
        if self.take(agreed, out) {
            return Poll::Ready(Ok(()));
        }
        self.outlet.is_cut().map_or(Poll::Pending, |cut| Poll::Ready(Err(cut)))
    }

    /// The same without waiting; whether there was anything.
    pub fn take(&mut self, agreed: Option<Agreed>, out: &mut Outgoing) -> bool {
        self.take_batches();
        let has_any = !self.taken.is_empty();
        for batch in self.taken.drain(..) {
            batch.iter().for_each(|message| out.push(message.bytes(agreed)));
        }
        has_any
    }

    fn take_batches(&mut self) {
        while self.taken.is_empty() && self.outlet.is_cut().is_none() {
            let due = self.outlet.due.lock().pop_front();
            let Some(listener) = due else { return };
            // Before the stream is looked at: what comes after that makes it due again.
            listener.is_due.store(false, Ordering::SeqCst);
            if listener.take(&mut self.taken) {
                // There is more, but other streams have their turn first.
                listener.make_due();
            }
        }
    }

    /// The next messages of one stream, if there are any, for tests.
    pub fn try_next(&mut self) -> Option<Batch> {
        if self.taken.is_empty() {
            self.take_batches();
        }
        (!self.taken.is_empty()).then(|| self.taken.remove(0))
    }
}

/// One who listens to one stream. It ends with [`Listener::end`].
pub struct Listener {
    channel: Arc<Channel>,
    outlet: Arc<Outlet>,
    /// The number of the next item it has to take.
    next: AtomicU64,
    is_due: AtomicBool,
    is_over: AtomicBool,
    /// Its place in its group.
    place: AtomicUsize,
}

impl Listener {
    /// Nothing more is taken.
    pub fn end(&self) {
        let mut listeners = self.channel.groups[self.group()].listeners.lock();
        // Under the lock: whoever closes the stream has emptied the list and says so there.
        if self.is_over.swap(true, Ordering::SeqCst) {
            return;
        }
        let place = self.place.load(Ordering::Relaxed);
        // Whoever wakes them goes from the last to the first, so one that moves forward is not passed over.
        listeners.swap_remove(place);
        if let Some(moved) = listeners.get(place) {
            moved.place.store(place, Ordering::Relaxed);
        }
        drop(listeners);
        self.channel.count.fetch_sub(1, Ordering::Relaxed);
        self.outlet.counts.streams.fetch_sub(1, Ordering::Relaxed);
    }

    fn group(&self) -> usize {
        self.outlet.id % GROUPS
    }

    fn make_due(self: &Arc<Listener>) {
        if !self.is_due.swap(true, Ordering::SeqCst) {
            self.outlet.due.lock().push_back(self.clone());
            self.outlet.waker.wake();
        }
    }

    /// What follows its place in the stream, and whether there is more.
    fn take(&self, taken: &mut Vec<Batch>) -> bool {
        if self.is_over.load(Ordering::Relaxed) {
            return false;
        }
        let channel = &self.channel;
        let ring = channel.ring.read();
        let next = self.next.load(Ordering::Relaxed);
        if next < ring.floor {
            drop(ring);
            self.cut(Cut::Slow);
            return false;
        }
        let start = ring.items.partition_point(|item| item.number < next);
        let waiting = ring.items.len() - start;
        if channel.keeping == Keeping::Diffs && waiting > JOINED_ABOVE {
            let diffs: Vec<Arc<Diff>> = ring.items.range(start..).filter_map(|item| item.diff.clone()).collect();
            self.next.store(ring.next, Ordering::Relaxed);
            drop(ring);
            self.count(1, waiting as u64 - 1);
            if let Some(joined) = Diff::joined(&diffs) {
                let text = joined.text(channel.unit);
                taken.push([Message::text(&channel.form.wrap(&text))].into());
            }
            return false;
        }
        let (mut messages, mut bytes, mut skipped, mut expected) = (0, 0, 0, next);
        for item in ring.items.range(start..) {
            if bytes > TAKEN_BYTES_MAX {
                break;
            }
            skipped += item.number - expected;
            expected = item.number + 1;
            bytes += item.bytes;
            messages += item.batch.len() as u64;
            taken.push(item.batch.clone());
        }
        self.next.store(expected, Ordering::Relaxed);
        let has_more = expected < ring.next;
        drop(ring);
        self.count(messages, skipped);
        has_more
    }

    fn count(&self, taken: u64, conflated: u64) {
        let (all, own) = (&self.channel.counts, &self.outlet.counts);
        all.taken.fetch_add(taken, Ordering::Relaxed);
        own.taken.fetch_add(taken, Ordering::Relaxed);
        if conflated > 0 {
            all.conflated.fetch_add(conflated, Ordering::Relaxed);
            own.conflated.fetch_add(conflated, Ordering::Relaxed);
        }
    }

    fn cut(&self, cut: Cut) {
        if self.outlet.cut(cut) {
            let counts = &self.channel.counts;
            match cut {
                Cut::Slow => counts.slow.fetch_add(1, Ordering::Relaxed),
                Cut::Hole => counts.holes.fetch_add(1, Ordering::Relaxed),
                Cut::Operator => 0,
            };
        }
    }
}

/// What was sent at once.
struct Item {
    number: u64,
    /// What it says something of: a later item of the same key replaces it, where the last counts.
    key: u64,
    batch: Batch,
    bytes: usize,
    diff: Option<Arc<Diff>>,
    at_ms: u64,
}

struct Ring {
    items: VecDeque<Item>,
    /// The number of the next item.
    next: u64,
    /// Who has to take one before this has missed something.
    floor: u64,
    bytes: usize,
    /// With so many items it is time to look for what nobody needs.
    look_at: usize,
}

#[derive(Default)]
struct Group {
    listeners: Mutex<Vec<Arc<Listener>>>,
    is_queued: AtomicBool,
}

/// One stream in one form.
pub struct Channel {
    /// Its form.
    pub form: Form,
    /// The unit of its times.
    pub unit: TimeUnit,
    keeping: Keeping,
    items_max: usize,
    /// Many take at once; only a new message and a new listener need it alone.
    ring: RwLock<Ring>,
    groups: [Group; GROUPS],
    count: AtomicUsize,
    counts: Arc<ChannelCounts>,
    wakers: Arc<Wakers>,
}

impl Channel {
    /// Nobody listens yet. So many items are kept for who is behind.
    pub fn new(
        form: Form,
        unit: TimeUnit,
        keeping: Keeping,
        items_max: usize,
        counts: Arc<ChannelCounts>,
        wakers: Arc<Wakers>,
    ) -> Channel {
        let items_max = if keeping == Keeping::Last { items_max.min(LAST_KEPT_MAX) } else { items_max };
        let look_at = FIRST_LOOK.min(items_max);
        let ring = RwLock::new(Ring { items: VecDeque::new(), next: 0, floor: 0, bytes: 0, look_at });
        let (groups, count) = (Default::default(), AtomicUsize::new(0));
        Channel { form, unit, keeping, items_max, ring, groups, count, counts, wakers }
    }

    /// This socket listens from the next message on.
    pub fn listen(self: &Arc<Channel>, outlet: &Outbox) -> Arc<Listener> {
        let ring = self.ring.write();
        let listener = Arc::new(Listener {
            channel: self.clone(),
            outlet: outlet.clone(),
            next: AtomicU64::new(ring.next),
            is_due: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            place: AtomicUsize::new(0),
        });
        let mut listeners = self.groups[listener.group()].listeners.lock();
        listener.place.store(listeners.len(), Ordering::Relaxed);
        listeners.push(listener.clone());
        self.count.fetch_add(1, Ordering::Relaxed);
        outlet.counts.streams.fetch_add(1, Ordering::Relaxed);
        listener
    }

    /// How many listen.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Puts texts that go out together in.
    pub fn push(self: &Arc<Channel>, key: u64, texts: &[&str], diff: Option<&Arc<Diff>>) {
        let batch: Batch = texts.iter().map(|text| Message::text(&self.form.wrap(text))).collect();
        self.counts.encoded.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let bytes = batch.iter().map(Message::wire_len).sum();
        let at_ms = clock::now().millis();
        let mut ring = self.ring.write();
        let number = ring.next;
        ring.next += 1;
        ring.bytes += bytes;
        ring.items.push_back(Item { number, key, batch, bytes, diff: diff.cloned(), at_ms });
        if ring.items.len() >= ring.look_at || ring.bytes > BYTES_MAX {
            self.forget(&mut ring);
        }
    }

    /// Drops what everyone has, and what there is no room for.
    fn forget(&self, ring: &mut Ring) {
        let mut needed = ring.next;
        for group in &self.groups {
            let listeners = group.listeners.lock();
            let places = listeners.iter().map(|listener| listener.next.load(Ordering::Relaxed));
            needed = places.fold(needed, u64::min);
        }
        while ring.items.front().is_some_and(|item| item.number < needed) {
            ring.drop_first();
        }
        let is_over = |ring: &Ring| ring.items.len() > self.items_max || ring.bytes > BYTES_MAX;
        if is_over(ring) && self.keeping == Keeping::Last {
            let mut seen = HashSet::new();
            let superseded: HashSet<u64> =
                ring.items.iter().rev().filter(|item| !seen.insert(item.key)).map(|item| item.number).collect();
            ring.items.retain(|item| !superseded.contains(&item.number));
            ring.bytes = ring.items.iter().map(|item| item.bytes).sum();
        }
        while is_over(ring) {
            ring.floor = ring.items.front().map_or(ring.floor, |item| item.number + 1);
            ring.drop_first();
        }
        ring.look_at = (ring.items.len() * 2).clamp(FIRST_LOOK.min(self.items_max), self.items_max + 1);
    }

    /// Tells those who listen that there is something.
    pub fn wake(self: &Arc<Channel>) {
        let Some(queues) = self.wakers.queues.get().filter(|_| self.count() > WOKEN_AT_ONCE_MAX) else {
            for group in 0..GROUPS {
                self.wake_some(group, usize::MAX, usize::MAX);
            }
            return;
        };
        for (group, queue) in self.groups.iter().zip(queues.iter()) {
            if !group.is_queued.swap(true, Ordering::SeqCst) {
                queue.channels.lock().push_back(self.clone());
                queue.filled.notify_one();
            }
        }
    }

    /// Wakes at most so many listeners of a group, from the one before `end` down; where it came to.
    fn wake_some(&self, group: usize, end: usize, most: usize) -> usize {
        let floor = if self.keeping == Keeping::Last { 0 } else { self.floor() };
        let listeners = self.groups[group].listeners.lock();
        let end = end.min(listeners.len());
        let start = end.saturating_sub(most);
        for listener in listeners[start..end].iter().rev() {
            if listener.next.load(Ordering::Relaxed) < floor {
                listener.cut(Cut::Slow);
            } else {
                listener.make_due();
            }
        }
        start
    }

    fn floor(&self) -> u64 {
        self.ring.read().floor
    }

    /// Adds who has not taken all, by the number of the socket.
    pub fn add_behind(&self, by_socket: &mut HashMap<u64, Behind>) {
        let end = self.ring.read().next;
        let mut behind = Vec::new();
        for group in &self.groups {
            let mut from = 0;
            loop {
                // Some at a time: who publishes needs the lock too.
                let listeners = group.listeners.lock();
                let part = listeners.iter().skip(from).take(LOOKED_AT_ONCE);
                let next = part.map(|listener| (listener.outlet.id(), listener.next.load(Ordering::Relaxed)));
                behind.extend(next.filter(|(_, next)| *next < end));
                from += LOOKED_AT_ONCE;
                if from >= listeners.len() {
                    break;
                }
            }
        }
        if behind.is_empty() {
            return;
        }
        let ring = self.ring.read();
        for (socket, next) in behind {
            let start = ring.items.partition_point(|item| item.number < next);
            let Some(oldest) = ring.items.get(start) else { continue };
            let told = by_socket.entry(socket).or_insert(Behind { items: 0, since_ms: oldest.at_ms });
            told.items += (ring.items.len() - start) as u64;
            told.since_ms = told.since_ms.min(oldest.at_ms);
        }
    }

    /// Cuts off everyone who listens.
    pub fn cut_all(&self) {
        for group in &self.groups {
            group.listeners.lock().iter().for_each(|listener| listener.cut(Cut::Hole));
        }
    }

    /// Nobody listens any longer.
    pub fn close(&self) {
        for group in &self.groups {
            let mut listeners = group.listeners.lock();
            self.count.fetch_sub(listeners.len(), Ordering::Relaxed);
            for listener in listeners.drain(..) {
                listener.is_over.store(true, Ordering::SeqCst);
                listener.outlet.counts.streams.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Ring {
    fn drop_first(&mut self) {
        if let Some(item) = self.items.pop_front() {
            self.bytes -= item.bytes;
        }
    }
}

/// The tasks that wake listeners where there are many. Without them, whoever publishes does.
#[derive(Default)]
pub struct Wakers {
    queues: OnceLock<[Arc<WakerQueue>; GROUPS]>,
}

/// The streams that have something for one group. A stream is in it at most once, so it is bounded by their number.
#[derive(Default)]
struct WakerQueue {
    channels: Mutex<VecDeque<Arc<Channel>>>,
    filled: Notify,
}

impl Wakers {
    /// Starts the tasks.
    pub fn start(&self) {
        let queues: [Arc<WakerQueue>; GROUPS] = Default::default();
        for (group, queue) in queues.iter().enumerate() {
            let queue = queue.clone();
            tokio::spawn(async move {
                loop {
                    let channel = queue.channels.lock().pop_front();
                    let Some(channel) = channel else {
                        queue.filled.notified().await;
                        continue;
                    };
                    // Before they are woken: what comes after that queues it again.
                    channel.groups[group].is_queued.store(false, Ordering::SeqCst);
                    let mut end = usize::MAX;
                    while end > 0 {
                        end = channel.wake_some(group, end, WOKEN_BEFORE_YIELD);
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
        // Who starts it twice has two sets of tasks, of which one rests.
        let _ = self.queues.set(queues);
    }
}
