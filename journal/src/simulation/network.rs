//! The network: connections that deliver in order and late, that stand still while the way is cut, and that break.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Weak;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};

use super::dice::Dice;
use crate::transport::{Connection, Listener, Transport};

/// What the systems on both sides hold of one direction of a connection; a writer waits beyond it.
const HELD_BYTES_MAX: usize = 1 << 20;
/// How often who connects tries again while the way is cut.
const AGAIN: Duration = Duration::from_millis(100);
/// How much later what was lost on the way arrives.
const RESENT_US: std::ops::Range<u64> = 200_000..420_000;

/// Where a node listens.
pub(crate) fn address(node: u64) -> String {
    format!("node-{node}:7000")
}

/// All of it.
pub(crate) struct Network {
    state: Mutex<State>,
}

struct State {
    dice: Dice,
    /// For each way, so that what goes one way does not change what happens on another.
    ways: BTreeMap<(u64, u64), Dice>,
    seed: u64,
    listeners: BTreeMap<String, (u64, mpsc::UnboundedSender<Box<dyn Connection>>)>,
    /// Nodes that do not even refuse.
    silent: BTreeSet<u64>,
    /// From whom to whom nothing gets through.
    cut: BTreeSet<(u64, u64)>,
    /// How long a packet is under way, in microseconds.
    delay_us: std::ops::Range<u64>,
    /// Of how many packets one is lost; none at zero.
    lost_of: u64,
    wires: Vec<Weak<Wire>>,
}

/// One direction of a connection.
struct Wire {
    from: u64,
    to: u64,
    state: Mutex<WireState>,
}

#[derive(Default)]
struct WireState {
    packets: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    last_at: Option<Instant>,
    /// The writer has closed it.
    closed: bool,
    /// The reader is gone.
    abandoned: bool,
    broken: bool,
    /// One of its ends lost its power: nothing comes and nobody says so.
    dead: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl WireState {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

/// How the way between nodes is where nothing is wrong.
pub(crate) const NEAR_US: std::ops::Range<u64> = 100..3_000;

impl Network {
    pub(crate) fn new(mut dice: Dice) -> Arc<Network> {
        let seed = dice.within(0..u64::MAX);
        let state = State {
            dice,
            ways: BTreeMap::new(),
            seed,
            listeners: BTreeMap::new(),
            silent: BTreeSet::new(),
            cut: BTreeSet::new(),
            delay_us: NEAR_US,
            lost_of: 0,
            wires: Vec::new(),
        };
        Arc::new(Network { state: Mutex::new(state) })
    }

    /// Nothing gets from the one to the other any more.
    pub(crate) fn cut(&self, from: u64, to: u64) {
        self.state.lock().cut.insert((from, to));
    }

    /// All ways are open and short again.
    pub(crate) fn heal(&self) {
        let wires = {
            let mut state = self.state.lock();
            state.cut.clear();
            state.delay_us = NEAR_US;
            state.lost_of = 0;
            state.live()
        };
        wires.iter().for_each(|wire| wire.state.lock().wake());
    }

    /// How long packets are under way, and of how many one is lost.
    pub(crate) fn weather(&self, delay_us: std::ops::Range<u64>, lost_of: u64) {
        let mut state = self.state.lock();
        state.delay_us = delay_us;
        state.lost_of = lost_of;
    }

    /// Breaks one connection in so many; how many those were.
    pub(crate) fn break_some(&self, one_in: u64) -> u64 {
        let wires = self.state.lock().live();
        let mut broken = 0;
        for wire in wires {
            if self.state.lock().dice.once_in(one_in) {
                let mut wire = wire.state.lock();
                wire.broken = true;
                wire.wake();
                broken += 1;
            }
        }
        broken
    }

    /// A node is gone. Its system says so to the others, or has no power to.
    pub(crate) fn gone(&self, node: u64, silently: bool) {
        let wires = {
            let mut state = self.state.lock();
            state.listeners.retain(|_, (listening, _)| *listening != node);
            if silently {
                state.silent.insert(node);
            }
            state.live()
        };
        for wire in wires.iter().filter(|wire| wire.from == node || wire.to == node) {
            let mut wire = wire.state.lock();
            if silently {
                wire.dead = true;
            } else {
                wire.broken = true;
                wire.wake();
            }
        }
    }

    /// A node is back: it refuses what belongs to its last life.
    pub(crate) fn back(&self, node: u64) {
        let wires = {
            let mut state = self.state.lock();
            state.silent.remove(&node);
            state.live()
        };
        for wire in wires.iter().filter(|wire| wire.from == node || wire.to == node) {
            let mut wire = wire.state.lock();
            wire.broken |= wire.dead;
            wire.wake();
        }
    }

    fn arrival(&self, from: u64, to: u64) -> Instant {
        let mut state = self.state.lock();
        let State { seed, ways, delay_us, lost_of, .. } = &mut *state;
        let dice = ways.entry((from, to)).or_insert_with(|| Dice::new(*seed ^ (from << 8 | to)));
        let mut under_way = dice.within(delay_us.clone());
        if *lost_of > 0 && dice.once_in(*lost_of) {
            under_way += dice.within(RESENT_US);
        }
        Instant::now() + Duration::from_micros(under_way)
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.state.lock().cut.contains(&(from, to))
    }

    async fn connect(self: Arc<Network>, from: u64, address: String) -> io::Result<Box<dyn Connection>> {
        let to = number_of(&address)?;
        tokio::time::sleep_until(self.arrival(from, to)).await;
        tokio::time::sleep_until(self.arrival(to, from)).await;
        loop {
            {
                let mut state = self.state.lock();
                let open = !state.cut.contains(&(from, to)) && !state.cut.contains(&(to, from));
                if open && !state.silent.contains(&to) {
                    let Some((_, listener)) = state.listeners.get(&address).cloned() else {
                        return Err(io::ErrorKind::ConnectionRefused.into());
                    };
                    let wire = |from, to| Arc::new(Wire { from, to, state: Mutex::default() });
                    let (there, back) = (wire(from, to), wire(to, from));
                    state.wires.extend([Arc::downgrade(&there), Arc::downgrade(&back)]);
                    let end = |inbound, outbound| {
                        let network = self.clone();
                        Box::new(End { network, inbound, outbound, arrival: Box::pin(sleep(Duration::ZERO)) })
                    };
                    let far = end(there.clone(), back.clone());
                    return match listener.send(far) {
                        Ok(()) => Ok(end(back, there)),
                        Err(_) => Err(io::ErrorKind::ConnectionRefused.into()),
                    };
                }
            }
            sleep(AGAIN).await;
        }
    }
}

fn number_of(address: &str) -> io::Result<u64> {
    let number = address.strip_prefix("node-").and_then(|rest| rest.split(':').next()?.parse().ok());
    number.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

impl State {
    fn live(&mut self) -> Vec<Arc<Wire>> {
        self.wires.retain(|wire| wire.strong_count() > 0);
        self.wires.iter().filter_map(Weak::upgrade).collect()
    }
}

/// The network as one node sees it.
pub(crate) struct Port {
    pub network: Arc<Network>,
    pub node: u64,
}

impl Transport for Port {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        Box::pin(self.network.clone().connect(self.node, address.to_owned()))
    }

    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.network.state.lock().listeners.insert(address.to_owned(), (self.node, sender));
        Box::pin(async move { Ok(Box::new(Accepting(receiver)) as Box<dyn Listener>) })
    }
}

struct Accepting(mpsc::UnboundedReceiver<Box<dyn Connection>>);

impl Listener for Accepting {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Box<dyn Connection>>> {
        Box::pin(async move { self.0.recv().await.ok_or_else(|| io::ErrorKind::ConnectionAborted.into()) })
    }
}

/// One end of a connection.
struct End {
    network: Arc<Network>,
    inbound: Arc<Wire>,
    outbound: Arc<Wire>,
    arrival: Pin<Box<Sleep>>,
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let end = self.get_mut();
        let cut = end.network.is_cut(end.inbound.from, end.inbound.to);
        let mut wire = end.inbound.state.lock();
        if wire.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        wire.reader = Some(context.waker().clone());
        if cut || wire.dead {
            return Poll::Pending;
        }
        let closed = wire.closed;
        match wire.packets.front_mut() {
            Some((at, _)) if *at > Instant::now() => {
                end.arrival.as_mut().reset(*at);
                // Polled so that it wakes the reader.
                let _ = end.arrival.as_mut().poll(context);
                Poll::Pending
            }
            Some((_, bytes)) => {
                let count = bytes.len().min(into.remaining());
                into.put_slice(&bytes[..count]);
                if count == bytes.len() {
                    wire.packets.pop_front();
                } else {
                    bytes.drain(..count);
                }
                wire.bytes -= count;
                wire.writer.take().into_iter().for_each(Waker::wake);
                Poll::Ready(Ok(()))
            }
            None if closed => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let arrival = self.network.arrival(self.outbound.from, self.outbound.to);
        let cut = self.network.is_cut(self.outbound.to, self.outbound.from);
        let mut wire = self.outbound.state.lock();
        if wire.broken || wire.abandoned && !cut && !wire.dead {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = HELD_BYTES_MAX - wire.bytes;
        if room == 0 {
            wire.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let bytes = &bytes[..bytes.len().min(room)];
        let at = wire.last_at.map_or(arrival, |last| last.max(arrival));
        wire.last_at = Some(at);
        wire.bytes += bytes.len();
        wire.packets.push_back((at, bytes.to_vec()));
        wire.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.outbound.state.lock();
        wire.closed = true;
        wire.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut wire = self.outbound.state.lock();
        wire.closed = true;
        wire.reader.take().into_iter().for_each(Waker::wake);
        drop(wire);
        let mut wire = self.inbound.state.lock();
        wire.abandoned = true;
        wire.packets.clear();
        wire.bytes = 0;
        wire.writer.take().into_iter().for_each(Waker::wake);
    }
}
