//! The only exit: takes what the journal publishes in order, on a thread of its own; a small entry where it was decided.
//!
//! For each entry: views and candles, then the market streams, then the accounts' owners, and last the callers who wait for
//! an answer. So who has an answer finds it in the views and has been sent the events before it. Between entries the same
//! thread is the streams' clock: every 100 ms.
//!
//! Nothing here waits for a subscriber. If the thread ends for any other reason than the journal's end, [`Feed::ended`]
//! says so, and the process has to stop: without it nobody is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use engine::symbol::Symbol;
use engine::{Event, Sequence, Time};
use journal::{
    Answering, Applied, Caller, Consumer, FEW_COMMANDS, History, HistoryError, Published, Receiver, Restored, Road,
};
use tokio::sync::oneshot;
use tracing::{error, info};

use crate::audit::Audit;
use crate::clock;
use crate::klines::Klines;
use crate::stages::Stages;
use crate::views::{Changes, Views};
use crate::ws::hub::Hub;
use crate::ws::market_streams::Publisher;
use crate::ws::user_stream::{self, ListenKeys};

/// The streams' clock.
const TICK: Duration = Duration::from_millis(100);
/// An entry is taken where it is published if the last one took no longer, and has no more events than this.
const QUICK_MAX: Duration = Duration::from_micros(100);
const FEW_EVENTS: usize = 64;
/// How often a gateway asks nodes for a symbol's past before it goes without.
const RECALL_TRIES: u32 = 100;
/// How long it rests in between.
const RECALL_REST: Duration = Duration::from_millis(100);
/// How long a command can be on its way at the most before the wall clock alone is trusted, in microseconds.
const ON_THE_WAY_MAX: u64 = 10_000_000;

/// How many commands with a caller are between the door and the feed. Whoever submits a command counts it first.
#[derive(Debug, Default)]
pub struct InFlight(AtomicU64);

impl InFlight {
    /// A command is about to be submitted.
    pub fn enter(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// So many commands were answered, or refused at the door.
    pub fn leave(&self, commands: u64) {
        // A caller that counted nothing must not wrap it to eternity.
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| Some(count.saturating_sub(commands)));
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// What the feed counts, for metrics.
#[derive(Debug, Default)]
pub struct FeedCounts {
    /// Whole states taken.
    pub states: AtomicU64,
    /// Entries taken.
    pub entries: AtomicU64,
    /// Events in them.
    pub events: AtomicU64,
    /// Trades that were new.
    pub trades: AtomicU64,
    /// Callers answered.
    pub answers: AtomicU64,
    /// Commands refused by the engine.
    pub rejections: AtomicU64,
    /// Nanoseconds spent on entries.
    pub busy_ns: AtomicU64,
    /// Microseconds between the time stamped on the last entry and its publication.
    pub lag_us: AtomicU64,
}

/// What the feed keeps up to date, shared with those who read it.
#[derive(Clone)]
pub struct Outlets {
    /// What readers see.
    pub views: Arc<Views>,
    /// Candles.
    pub klines: Arc<Klines>,
    /// Who listens.
    pub hub: Arc<Hub>,
    /// Listen keys, whose time the feed's clock ends.
    pub listen_keys: Arc<ListenKeys>,
    /// Commands between the door and the feed.
    pub in_flight: Arc<InFlight>,
    /// What it counts.
    pub counts: Arc<FeedCounts>,
    /// The newest of what operators did.
    pub audit: Arc<Audit>,
    /// How long commands take, stage by stage.
    pub stages: Arc<Stages>,
}

impl Default for Outlets {
    /// For an exchange with nothing in it.
    fn default() -> Outlets {
        let klines = Arc::new(Klines::new());
        Outlets {
            views: Arc::new(Views::new(klines.clone())),
            klines,
            hub: Arc::default(),
            listen_keys: Arc::default(),
            in_flight: Arc::default(),
            counts: Arc::default(),
            audit: Arc::default(),
            stages: Arc::default(),
        }
    }
}

/// The running feed.
pub struct Feed {
    thread: thread::JoinHandle<()>,
    /// Resolves when the feed has ended: with `Ok` after the journal's end, with an error when it broke.
    pub ended: oneshot::Receiver<()>,
}

impl Feed {
    /// Starts the feed on what the journal publishes, in the runtime in which callers wait. `history` gives the trades from before.
    /// Among other nodes (`is_clustered`), commands come from elsewhere too, and the log is the only clock.
    pub fn start(
        outlets: Outlets,
        history: History,
        published: Receiver<Published>,
        is_clustered: bool,
    ) -> std::io::Result<Feed> {
        let (at_end, ended) = oneshot::channel();
        let worker = Worker::new(outlets, history, Answering::here(), is_clustered);
        let run = move || {
            published.serve(worker);
            // Whoever does not wait for it does not want to know.
            let _ = at_end.send(());
        };
        let thread = thread::Builder::new().name("feed".to_owned()).spawn(run)?;
        Ok(Feed { thread, ended })
    }

    /// Waits for the feed's end, which follows the journal's.
    pub fn join(self) {
        if self.thread.join().is_err() {
            error!("the feed broke");
        }
    }
}

struct Worker {
    outlets: Outlets,
    history: History,
    answering: Answering,
    publisher: Publisher,
    changes: Changes,
    is_clustered: bool,
    /// Whether the state from which it began is known.
    is_restored: bool,
    /// When the streams' clock strikes next.
    next_tick: Instant,
    /// How long the last entry took.
    busy: Duration,
}

impl Consumer<Published> for Worker {
    fn consume(&mut self, published: Published) -> bool {
        match published {
            Published::Restored(restored) => self.restore(&restored),
            Published::Applied { applied, callers, road } => self.apply(&applied, callers, road),
        }
        true
    }

    /// Many subscribers take time, and whoever publishes must not spend it.
    fn is_quick(&self, published: &Published) -> bool {
        let Published::Applied { applied, .. } = published else { return false };
        applied.len() <= FEW_COMMANDS && applied.events.len() <= FEW_EVENTS && self.busy < QUICK_MAX
    }

    fn due(&self) -> Option<Instant> {
        Some(self.next_tick)
    }

    fn tick(&mut self) {
        self.strike();
        // A tick that came late is not made up for.
        self.next_tick = (self.next_tick + TICK).max(Instant::now());
    }
}

impl Worker {
    fn new(outlets: Outlets, history: History, answering: Answering, is_clustered: bool) -> Worker {
        let publisher = Publisher::new(outlets.hub.clone(), outlets.views.clone(), outlets.klines.clone());
        Worker {
            outlets,
            history,
            answering,
            publisher,
            changes: Changes::default(),
            is_clustered,
            is_restored: false,
            next_tick: Instant::now() + TICK,
            busy: Duration::ZERO,
        }
    }

    fn restore(&mut self, restored: &Restored) {
        if std::mem::replace(&mut self.is_restored, true) {
            // A snapshot came from the leader: what happened in between was never published here.
            self.outlets.hub.cut_all();
        }
        let views = &self.outlets.views;
        views.restore(&restored.snapshot);
        self.publisher.reset();
        let orders = restored.snapshot.symbols().flat_map(|state| state.orders());
        for order in orders.filter(|order| !order.prevented().is_zero()) {
            match self.history.order(order.uid, order.symbol, order.order_id) {
                Ok(filed) => filed.iter().for_each(|filed| views.recall_order(filed)),
                Err(reason) => error!(order = %order.order_id, %reason, "what was prevented is not known"),
            }
        }
        if !self.history.wait_until_settled(restored.snapshot.sequence()) {
            error!("history has ended: candles, tickers and recent trades are not known");
            return;
        }
        views.symbols().symbols.iter().for_each(|symbol| self.recall(symbol));
        self.outlets.counts.states.fetch_add(1, Ordering::Release);
        info!(sequence = restored.snapshot.sequence().0, "views are built");
    }

    /// What history knows of a symbol.
    fn recall(&self, symbol: &Symbol) {
        let views = &self.outlets.views;
        let mut tries = if self.history.is_remote() { RECALL_TRIES } else { 1 };
        let recalled = loop {
            tries -= 1;
            match self.history.candles(symbol.id, |history| views.recall(symbol.id, history)) {
                Err(HistoryError::Unreachable(reason)) if tries > 0 => {
                    info!(symbol = symbol.config.name, %reason, "the past is asked for again");
                    thread::sleep(RECALL_REST);
                }
                recalled => break recalled,
            }
        };
        if let Err(reason) = recalled {
            error!(symbol = symbol.config.name, %reason, "candles, tickers and recent trades of the past are lacking");
        }
        self.publisher.recall(symbol.id);
    }

    /// Symbols that are listed once more, as the log is gone through after a start, have a past.
    fn recall_listed(&self, applied: &Applied) {
        for event in &applied.events {
            if let Event::SymbolAdded(symbol) = event
                && self.history.watermark() >= applied.last_sequence()
            {
                self.recall(symbol);
            }
        }
    }

    fn apply(&mut self, applied: &Arc<Applied>, callers: Vec<(usize, Caller)>, road: Option<Road>) {
        let started = Instant::now();
        let Outlets { views, hub, in_flight, counts, stages, audit, .. } = &self.outlets;
        self.changes.clear();
        views.apply(applied, &mut self.changes);
        self.recall_listed(applied);
        audit.follow(applied);
        let now = clock::now();
        self.publisher.publish(&self.changes, now);
        user_stream::publish(hub, &views.symbols(), applied, &self.changes.orders, now);
        counts.answers.fetch_add(callers.len() as u64, Ordering::Relaxed);
        let road = road.map(|road| Road { told: Instant::now(), ..road });
        if let Some(road) = road {
            stages.publish.record_durations(road.told - road.decided, applied.len() as u64);
        }
        // Before the answers: who has one may submit the next command.
        in_flight.leave(callers.len() as u64);
        self.answering.tell(applied, callers, road);
        let is_rejection = |event: &&Event| matches!(event, Event::Rejected(_));
        let rejections = applied.events.iter().filter(is_rejection).count();
        counts.entries.fetch_add(1, Ordering::Relaxed);
        counts.events.fetch_add(applied.events.len() as u64, Ordering::Relaxed);
        counts.trades.fetch_add(self.changes.trades.len() as u64, Ordering::Relaxed);
        counts.rejections.fetch_add(rejections as u64, Ordering::Relaxed);
        counts.lag_us.store(now.0.saturating_sub(applied.time.0), Ordering::Relaxed);
        self.busy = started.elapsed();
        counts.busy_ns.fetch_add(u64::try_from(self.busy.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn strike(&mut self) {
        let now = clock::now();
        let reached = self.reached(now);
        self.publisher.tick(now, reached);
        for (uid, key) in self.outlets.listen_keys.expire(now) {
            self.outlets.hub.publish_to_key(uid, &key, user_stream::listen_key_expired(&key, now));
            self.outlets.hub.close_listen_key(uid, &key);
        }
    }

    /// Up to when everything is known. With no command on its way, that is now: one that comes later is stamped later. The
    /// clock has to be read before the count.
    fn reached(&self, now: Time) -> Time {
        let sequence_time = self.outlets.views.time();
        if self.is_clustered {
            return sequence_time;
        }
        let idle = self.outlets.in_flight.count() == 0 && self.outlets.views.sequence() > Sequence(0);
        let wall = if idle { now } else { Time(now.0.saturating_sub(ON_THE_WAY_MAX)) };
        sequence_time.max(wall)
    }
}
