//! Traces by OpenTelemetry: of a request that is sampled, one trace from the socket to the answer, with the stages of its
//! command's road as spans inside.
//!
//! Nothing is done for them while a command is under way. Its stages are timed anyway (stages.rs), and the spans are made of
//! those stamps when the answer is written, and sent by a thread of its own. Where that thread cannot keep up, traces are
//! dropped and counted. A request that is not sampled pays one branch.

mod collector;
mod otlp;
mod parent;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded};
use engine::{Sequence, Uid};

use self::collector::Collector;
use crate::config::TracesConfig;
use crate::rest::Reply;
use crate::rest::error::ApiError;
use crate::stages::{Arrival, Journey};

pub use self::parent::Sampled;

/// How many traces go out together, and how long the first of them waits for the others.
const BATCH_TRACES: usize = 256;
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// How long a stopping server waits for the last ones to be sent.
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// Chances are counted in so many parts.
const WHOLE: f64 = (1_u64 << 32) as f64;

/// Where traces go; nowhere, unless a setting says where.
#[derive(Debug, Default)]
pub struct Traces {
    exporter: Option<Exporter>,
    /// What became of them.
    pub counts: Arc<TraceCounts>,
}

/// What became of traces.
#[derive(Debug, Default)]
pub struct TraceCounts {
    /// Taken by the collector.
    pub exported: AtomicU64,
    /// Not taken, or not within the time.
    pub failed: AtomicU64,
    /// Not sent, as too many waited.
    pub dropped: AtomicU64,
}

#[derive(Debug)]
struct Exporter {
    queue: Sender<Message>,
    /// Of 2^32 requests, so many are sampled.
    share: u64,
    heeds_parents: bool,
}

enum Message {
    Trace(Box<Trace>),
    /// Send what there is, and say when that is done.
    Flush(Sender<()>),
}

/// What one request's spans are made of.
#[derive(Clone, Debug)]
struct Trace {
    sampled: Sampled,
    name: String,
    /// When it began, by the clock that never jumps.
    began: Instant,
    /// When it ended, by that clock and in nanoseconds since 1970.
    ended: Instant,
    ended_unix_ns: u64,
    /// The way of its command, where it was one that was sequenced.
    journey: Option<Journey>,
    status: u16,
    code: Option<i32>,
    uid: Option<Uid>,
    sequence: Option<Sequence>,
}

impl Traces {
    /// Begins to send traces of node `node` where the settings say.
    pub fn start(config: &TracesConfig, node: u64) -> Result<Traces, String> {
        let Some(endpoint) = &config.endpoint else { return Ok(Traces::default()) };
        let collector = Collector::new(endpoint)?;
        let counts = Arc::<TraceCounts>::default();
        // When it is full, traces are dropped and counted.
        let (queue, waiting) = bounded(config.queue_traces);
        let resource = otlp::Resource { service: config.service_name.clone(), node };
        let sending = Sending { collector, resource, counts: counts.clone(), told: AtomicBool::new(false) };
        let thread = std::thread::Builder::new().name("traces".to_owned()).spawn(move || sending.run(&waiting));
        thread.map_err(|error| error.to_string())?;
        // Not money: a share of requests.
        let share = (config.sample_ratio * WHOLE) as u64;
        Ok(Traces { exporter: Some(Exporter { queue, share, heeds_parents: config.traceparent }), counts })
    }

    /// Whether a request is sampled. `parent` is its header `traceparent`, looked for only where traces are sent.
    pub fn sample<'a>(&self, parent: impl FnOnce() -> Option<&'a [u8]>) -> Option<Sampled> {
        let exporter = self.exporter.as_ref()?;
        if exporter.heeds_parents
            && let Some(parent) = parent().and_then(parent::parse)
        {
            return parent;
        }
        let is_sampled = u64::from(rand::random::<u32>()) < exporter.share;
        is_sampled.then(Sampled::root)
    }

    /// A request was answered: its trace is sent, if it was sampled.
    pub fn finish(&self, arrival: &Arrival, name: impl FnOnce() -> String, uid: Option<Uid>, told: &Told) {
        let (Some(sampled), Some(exporter)) = (arrival.sampled, &self.exporter) else { return };
        let ended_unix_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let trace = Trace {
            sampled,
            name: name(),
            began: arrival.at,
            ended: Instant::now(),
            ended_unix_ns,
            journey: told.journey,
            status: told.status,
            code: told.code,
            uid,
            sequence: told.sequence,
        };
        if exporter.queue.try_send(Message::Trace(Box::new(trace))).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends what still waits, for a while at most.
    pub fn close(&self) {
        let Some(exporter) = &self.exporter else { return };
        let (done, sent) = bounded(1);
        let end = Instant::now() + CLOSE_MAX;
        if exporter.queue.send_deadline(Message::Flush(done), end).is_ok() {
            // In time or not: the server stops.
            let _ = sent.recv_deadline(end);
        }
    }
}

/// What of an answer its trace tells.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    journey: Option<Journey>,
    status: u16,
    code: Option<i32>,
    sequence: Option<Sequence>,
}

impl Told {
    /// Of an answer.
    pub fn of(answer: &Result<Reply, ApiError>) -> Told {
        match answer {
            Ok(reply) => {
                let journey = reply.journey.as_deref().copied();
                Told { journey, status: 200, code: None, sequence: reply.sequence }
            }
            Err(error) => {
                let journey = error.journey.as_deref().copied();
                Told { journey, status: error.status, code: Some(error.code), sequence: error.sequence }
            }
        }
    }

    /// The way of its command.
    pub fn journey(&self) -> Option<&Journey> {
        self.journey.as_ref()
    }
}

/// The thread that sends them.
struct Sending {
    collector: Collector,
    resource: otlp::Resource,
    counts: Arc<TraceCounts>,
    /// Whether it is known that the collector takes none.
    told: AtomicBool,
}

impl Sending {
    fn run(self, waiting: &Receiver<Message>) {
        let mut batch = Vec::with_capacity(BATCH_TRACES);
        while let Ok(first) = waiting.recv() {
            let end = Instant::now() + BATCH_WAIT;
            let mut next = Some(first);
            let mut flushed = None;
            while let Some(message) = next.take() {
                match message {
                    Message::Trace(trace) => batch.push(*trace),
                    Message::Flush(done) => {
                        flushed = Some(done);
                        break;
                    }
                }
                if batch.len() >= BATCH_TRACES {
                    break;
                }
                // After the time, or when nobody is left who would send more, what there is goes out.
                next = waiting.recv_deadline(end).ok();
            }
            self.send(&mut batch);
            // Who waits for it may have gone.
            if let Some(done) = flushed {
                let _ = done.send(());
            }
        }
    }

    fn send(&self, batch: &mut Vec<Trace>) {
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        let sent = self.collector.post(otlp::encode(&self.resource, batch).as_bytes());
        batch.clear();
        match sent {
            Ok(()) => {
                self.counts.exported.fetch_add(count, Ordering::Relaxed);
                self.told.store(false, Ordering::Relaxed);
            }
            Err(reason) => {
                self.counts.failed.fetch_add(count, Ordering::Relaxed);
                // Once, not for each batch.
                if !self.told.swap(true, Ordering::Relaxed) {
                    tracing::warn!("traces cannot be sent to {}: {reason}", self.collector);
                }
            }
        }
    }
}
