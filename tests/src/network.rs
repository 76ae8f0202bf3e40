//! A network between the nodes of a cluster that can be cut, slowed down and made to lose packets, in each direction on its
//! own, while it is in use.
//!
//! Every node is a host in a network namespace of its own. The wire between the hosts is this process: each host has a TUN
//! device whose packets are read here and handed to the device of the host they are for, or not. So nothing is asked of
//! the kernel beyond TUN: neither netem nor a packet filter. Clients reach every node over a wire of its own that never fails.
//!
//! To be used inside [`is_inside_network`](crate::sandbox::is_inside_network).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::cluster::Place;
use crate::sandbox::run;

/// How large a packet may be: fewer and larger ones leave more of the machine to the nodes.
const MTU: usize = 9_000;
/// How many packets may be on their way on slow wires; more are lost, as on any wire.
const UNDERWAY_MAX: usize = 65_536;

/// One direction between two hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// Nothing passes.
    pub is_cut: bool,
    /// Of a thousand packets, so many are lost.
    pub loss_permille: u32,
    /// How long a packet takes.
    pub delay: Duration,
}

/// The hosts and the wires between them, gone when dropped.
pub struct Network {
    hosts: usize,
    wires: Arc<Vec<WireState>>,
}

/// A [`Wire`] as the threads that carry packets see it, and what it did.
#[derive(Default)]
struct WireState {
    loss_permille: AtomicU64,
    delay_us: AtomicU64,
    passed: AtomicU64,
    lost: AtomicU64,
}

/// A packet on a slow wire, in the order of arrival.
type Underway = Reverse<(Instant, u64, usize, Vec<u8>)>;

impl Network {
    /// So many hosts, every wire whole. `seed` decides which packets a wire that loses some loses.
    pub fn new(hosts: usize, seed: u64) -> Network {
        must("mount", &["-t", "tmpfs", "tmpfs", "/run"]);
        must("ip", &["link", "set", "lo", "up"]);
        let devices: Vec<File> = (1..=hosts).map(host).collect();
        let wires: Arc<Vec<WireState>> = Arc::new((0..hosts * hosts).map(|_| WireState::default()).collect());
        let out: Arc<Vec<File>> = Arc::new(devices.iter().map(|it| it.try_clone().expect("a file")).collect());
        let (slow, underway) = sync_channel(UNDERWAY_MAX);
        let carrier = out.clone();
        std::thread::spawn(move || carry_slowly(&underway, &carrier));
        for (from, device) in devices.into_iter().enumerate() {
            let (wires, out, slow) = (wires.clone(), out.clone(), slow.clone());
            let random = StdRng::seed_from_u64(seed ^ from as u64);
            std::thread::spawn(move || carry(from, device, &wires, &out, &slow, random));
        }
        Network { hosts, wires }
    }

    /// Where the nodes are to be, in order.
    pub fn places(&self) -> Vec<Place> {
        let place = |host| Place {
            launcher: ["ip", "netns", "exec", &name(host)].map(str::to_owned).to_vec(),
            listen: format!("10.78.{host}.2:8000"),
            peer: format!("10.77.0.{host}:7000"),
        };
        (1..=self.hosts).map(place).collect()
    }

    /// The wire from one node to another is such from now on.
    pub fn set(&self, from: u64, to: u64, wire: Wire) {
        let state = &self.wires[self.index(from, to)];
        let loss = if wire.is_cut { 1_000 } else { wire.loss_permille };
        state.loss_permille.store(loss.into(), Ordering::Relaxed);
        state.delay_us.store(wire.delay.as_micros() as u64, Ordering::Relaxed);
    }

    /// Both directions between two nodes.
    pub fn set_between(&self, a: u64, b: u64, wire: Wire) {
        self.set(a, b, wire);
        self.set(b, a, wire);
    }

    /// Every wire.
    pub fn set_all(&self, wire: Wire) {
        for from in 1..=self.hosts as u64 {
            for to in 1..=self.hosts as u64 {
                self.set(from, to, wire);
            }
        }
    }

    /// A node is alone.
    pub fn isolate(&self, node: u64) {
        self.others(node).for_each(|other| self.set_between(node, other, CUT));
    }

    /// What a node sends is lost; it still hears the others.
    pub fn mute(&self, node: u64) {
        self.others(node).for_each(|other| self.set(node, other, CUT));
    }

    /// What is sent to a node is lost; the others still hear it.
    pub fn deafen(&self, node: u64) {
        self.others(node).for_each(|other| self.set(other, node, CUT));
    }

    /// Every wire is whole again.
    pub fn heal(&self) {
        self.set_all(Wire::default());
    }

    /// How many packets were carried and how many were lost, in all.
    pub fn counts(&self) -> (u64, u64) {
        let sum = |of: fn(&WireState) -> &AtomicU64| self.wires.iter().map(|it| of(it).load(Ordering::Relaxed)).sum();
        (sum(|wire| &wire.passed), sum(|wire| &wire.lost))
    }

    fn others(&self, node: u64) -> impl Iterator<Item = u64> {
        (1..=self.hosts as u64).filter(move |other| *other != node)
    }

    fn index(&self, from: u64, to: u64) -> usize {
        let number = |node: u64| usize::try_from(node - 1).expect("a small number");
        number(from) * self.hosts + number(to)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in 1..=self.hosts {
            // Its devices go with it, and with them who reads them.
            let _ = run("ip", &["netns", "del", &name(host)]);
        }
    }
}

/// A wire that carries nothing.
pub const CUT: Wire = Wire { is_cut: true, loss_permille: 0, delay: Duration::ZERO };

fn name(host: usize) -> String {
    format!("node-{host}")
}

/// Makes a host; the other end of its device.
fn host(host: usize) -> File {
    let name = name(host);
    let (tun, near, far) = (format!("peer{host}"), format!("near{host}"), format!("far{host}"));
    must("ip", &["netns", "add", &name]);
    let device = File::options().read(true).write(true).open("/dev/net/tun").expect("a TUN device");
    attach(&device, &tun).expect("root may make a TUN device");
    must("ip", &["link", "set", &tun, "netns", &name]);
    must("ip", &["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &name]);
    must("ip", &["addr", "add", &format!("10.78.{host}.1/24"), "dev", &near]);
    must("ip", &["link", "set", &near, "up"]);
    for words in [
        format!("addr add 10.77.0.{host}/24 dev {tun}"),
        format!("link set {tun} mtu {MTU} up"),
        format!("addr add 10.78.{host}.2/24 dev {far}"),
        format!("link set {far} up"),
        "link set lo up".to_owned(),
    ] {
        let words: Vec<&str> = ["-n", &name].into_iter().chain(words.split(' ')).collect();
        must("ip", &words);
    }
    device
}

fn must(program: &str, arguments: &[&str]) {
    run(program, arguments).unwrap_or_else(|error| panic!("{error}"));
}

/// Carries what one host sends, until the host is gone.
fn carry(
    from: usize,
    mut device: File,
    wires: &[WireState],
    out: &[File],
    slow: &SyncSender<Underway>,
    mut random: StdRng,
) {
    let mut packet = vec![0; MTU];
    let mut number = 0;
    while let Ok(length) = device.read(&mut packet) {
        // IPv4, from this host to one of 10.77.0.1 and on: the last byte of its destination. The rest is chatter.
        let is_ours = length >= 20 && packet[0] >> 4 == 4 && packet[16..19] == [10, 77, 0];
        let to = usize::from(packet[19]).wrapping_sub(1);
        if !is_ours || to >= out.len() || to == from {
            continue;
        }
        let wire = &wires[from * out.len() + to];
        let loss = wire.loss_permille.load(Ordering::Relaxed);
        if loss > 0 && random.random_range(0..1_000) < loss {
            wire.lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let delay = wire.delay_us.load(Ordering::Relaxed);
        let passed = if delay == 0 {
            deliver(&out[to], &packet[..length])
        } else {
            number += 1;
            let due = Instant::now() + Duration::from_micros(delay);
            slow.try_send(Reverse((due, number, to, packet[..length].to_vec()))).is_ok()
        };
        let count = if passed { &wire.passed } else { &wire.lost };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Holds packets back until they are due.
fn carry_slowly(arriving: &Receiver<Underway>, out: &[File]) {
    let mut underway = BinaryHeap::new();
    loop {
        let wait = underway.peek().map_or(Duration::from_secs(1), |Reverse((due, ..)): &Underway| {
            due.saturating_duration_since(Instant::now())
        });
        match arriving.recv_timeout(wait) {
            Ok(packet) => underway.push(packet),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while underway.peek().is_some_and(|Reverse((due, ..))| *due <= Instant::now()) {
            let Reverse((_, _, to, packet)) = underway.pop().expect("it was looked at");
            deliver(&out[to], &packet);
        }
    }
}

fn deliver(mut device: &File, packet: &[u8]) -> bool {
    // A host that is going away takes nothing any more.
    device.write(packet).is_ok()
}

/// `TUNSETIFF`: the file is from now on the other end of a device of this name, which is made.
#[expect(unsafe_code, reason = "an ioctl that no library has; it reads and writes one ifreq")]
fn attach(device: &File, name: &str) -> rustix::io::Result<()> {
    const TUNSETIFF: rustix::ioctl::Opcode = rustix::ioctl::opcode::write::<i32>(b'T', 202);
    const IFREQ_BYTES: usize = 40;
    const NAME_BYTES: usize = 16;
    // IFF_TUN | IFF_NO_PI: packets of the internet protocol, nothing before them.
    const FLAGS: u16 = 0x0001 | 0x1000;
    assert!(name.len() < NAME_BYTES, "a device's name is short");
    let mut request = [0_u8; IFREQ_BYTES];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[NAME_BYTES..NAME_BYTES + 2].copy_from_slice(&FLAGS.to_ne_bytes());
    // SAFETY: the kernel reads and writes one `struct ifreq`, of 40 bytes on every 64-bit machine, behind the pointer.
    unsafe { rustix::ioctl::ioctl(device, rustix::ioctl::Updater::<TUNSETIFF, _>::new(&mut request)) }
}
