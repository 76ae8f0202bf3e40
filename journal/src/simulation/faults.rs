//! What goes wrong, when, and how often. Each seed has a taste of its own: some faults often, some never.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::dice::Dice;
use super::disk::Torn;
use super::host::Host;
use super::network::{NEAR_US, Network};
use crate::node::Node;

/// A bug that is put in on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Bug {
    /// None.
    #[default]
    None,
    /// The log says that an entry or a vote is on the disk before it is.
    AckBeforeSync,
    /// Entries are applied whatever ticket they have.
    NoTickets,
    /// A machine that loses its power comes back without its vote.
    ForgottenVote,
    /// A node calls a read current that shows what it has applied.
    StaleRead,
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A process is killed.
    Kill,
    /// A machine loses its power.
    PowerCut,
    /// All machines lose their power.
    Blackout,
    /// An operator stops a node.
    Stop,
    /// An operator has another node lead.
    HandOver,
    /// A process stands still.
    Pause,
    /// A node hears and is heard by nobody.
    Isolate,
    /// A node is heard by nobody.
    Mute,
    /// A node hears nobody.
    Deafen,
    /// Two nodes do not hear each other; the others hear both.
    CutPair,
    /// A node's network comes and goes.
    Flap,
    /// The network is slow.
    Slow,
    /// The network loses packets.
    Lossy,
    /// Connections break.
    Break,
    /// A disk is slow.
    SlowDisk,
    /// A write to a disk fails.
    DiskFails,
}

const ALL: [Fault; 16] = [
    Fault::Kill,
    Fault::PowerCut,
    Fault::Blackout,
    Fault::Stop,
    Fault::HandOver,
    Fault::Pause,
    Fault::Isolate,
    Fault::Mute,
    Fault::Deafen,
    Fault::CutPair,
    Fault::Flap,
    Fault::Slow,
    Fault::Lossy,
    Fault::Break,
    Fault::SlowDisk,
    Fault::DiskFails,
];

/// How often each fault was, and what crashes did to writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultCounts {
    pub faults: BTreeMap<Fault, u64>,
    pub writes_kept: u64,
    pub writes_cut: u64,
    pub connections_broken: u64,
    pub failed_nodes: u64,
}

impl std::ops::AddAssign for FaultCounts {
    fn add_assign(&mut self, other: FaultCounts) {
        for (fault, count) in other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        self.writes_kept += other.writes_kept;
        self.writes_cut += other.writes_cut;
        self.connections_broken += other.connections_broken;
        self.failed_nodes += other.failed_nodes;
    }
}

/// Makes things go wrong.
pub(crate) struct Trouble {
    pub hosts: Vec<Arc<Host>>,
    pub network: Arc<Network>,
    pub dice: Dice,
    pub counts: FaultCounts,
    /// When each node that is down comes back.
    back_at: BTreeMap<u64, Instant>,
    /// When the network is whole again, or a disk quick, or a process goes on.
    whole_at: BTreeMap<u64, Instant>,
    quick_at: BTreeMap<u64, Instant>,
    on_at: BTreeMap<u64, Instant>,
    /// Nodes whose disk was told to fail.
    failing: BTreeMap<u64, Instant>,
    menu: Vec<Fault>,
}

/// The whole network, among what is whole again at a time.
const NETWORK: u64 = 0;

impl Trouble {
    pub(crate) fn new(hosts: Vec<Arc<Host>>, network: Arc<Network>, mut dice: Dice) -> Trouble {
        let share = dice.within(2..5);
        let mut menu: Vec<Fault> = ALL.into_iter().filter(|_| dice.once_in(share)).collect();
        if menu.is_empty() {
            menu.push(Fault::Kill);
        }
        Trouble {
            hosts,
            network,
            dice,
            counts: FaultCounts::default(),
            back_at: BTreeMap::new(),
            whole_at: BTreeMap::new(),
            quick_at: BTreeMap::new(),
            on_at: BTreeMap::new(),
            failing: BTreeMap::new(),
            menu,
        }
    }

    /// Makes no trouble for so long.
    pub(crate) async fn watch(&mut self, time: Duration, look: impl FnMut() -> bool) {
        self.menu.clear();
        self.run(time, look).await;
    }

    /// Makes trouble for so long; `look` is called at each step, and ends it early by returning false.
    pub(crate) async fn run(&mut self, time: Duration, mut look: impl FnMut() -> bool) {
        let end = Instant::now() + time;
        let every_ms = *self.dice.pick(&[60, 200, 500]);
        let mut next = Instant::now();
        while Instant::now() < end {
            sleep(Duration::from_millis(5)).await;
            self.mend_what_is_due();
            if !look() {
                return;
            }
            if Instant::now() >= next && !self.menu.is_empty() {
                next = Instant::now() + Duration::from_millis(self.dice.within(1..2 * every_ms));
                let fault = *self.dice.pick(&self.menu);
                self.make(fault);
            }
        }
    }

    /// Everything is in order again.
    pub(crate) fn end(&mut self) {
        let now = Instant::now();
        for due in [&mut self.back_at, &mut self.whole_at, &mut self.quick_at, &mut self.on_at] {
            due.values_mut().for_each(|at| *at = now);
        }
        self.network.heal();
        self.mend_what_is_due();
        let hosts = self.hosts.clone();
        for host in hosts {
            host.disk.mend();
            if let Some(life) = host.life() {
                life.go_on();
            }
        }
    }

    /// Starts who is down for long enough, and so on.
    pub(crate) fn mend_what_is_due(&mut self) {
        for host in self.hosts.clone() {
            let node = host.node;
            // A node that cannot go on ends its process; only a disk that failed may be the reason.
            if let Some(reason) = host.failed().filter(|_| host.is_up()) {
                if self.failing.remove(&node).is_none() {
                    host.witness.violation(format!("node {node} cannot go on: {reason}"));
                }
                self.counts.failed_nodes += 1;
                self.down(&host, false);
            }
            if is_due(&mut self.back_at, node) || !host.is_up() && !self.back_at.contains_key(&node) {
                host.start(self.dice.child());
            }
            if is_due(&mut self.quick_at, node) {
                host.disk.set_slowest(None);
            }
            if is_due(&mut self.on_at, node)
                && let Some(life) = host.life()
            {
                life.go_on();
            }
        }
        if is_due(&mut self.whole_at, NETWORK) {
            self.network.heal();
        }
    }

    fn down(&mut self, host: &Arc<Host>, silently: bool) {
        if !host.is_up() {
            return;
        }
        match host.crash(silently) {
            Torn::Nothing => {}
            Torn::Kept => self.counts.writes_kept += 1,
            Torn::Cut => self.counts.writes_cut += 1,
        }
        self.failing.remove(&host.node);
        self.on_at.remove(&host.node);
        let longest = *self.dice.pick(&[50, 300, 2_000]);
        self.back_at.insert(host.node, Instant::now() + Duration::from_millis(self.dice.within(1..longest)));
    }

    fn make(&mut self, fault: Fault) {
        *self.counts.faults.entry(fault).or_default() += 1;
        let host = self.dice.pick(&self.hosts).clone();
        let node = host.node;
        let others: Vec<u64> = self.hosts.iter().map(|host| host.node).filter(|other| *other != node).collect();
        let for_a_while = Instant::now() + Duration::from_millis(self.dice.within(20..2_000));
        host.witness.note((fault as u64, node));
        match fault {
            Fault::Kill => self.down(&host, false),
            Fault::PowerCut => self.down(&host, true),
            Fault::Blackout => self.hosts.clone().iter().for_each(|host| self.down(host, true)),
            Fault::Stop => {
                if host.is_up() {
                    tokio::spawn(host.stop());
                }
            }
            Fault::HandOver => {
                let leader = self.hosts.iter().find(|host| host.with(|node| node.leads()) == Some(true));
                if let Some((life, member)) = leader.and_then(|leader| leader.life().zip(leader.with(Node::member))) {
                    life.spawn(async move { member.hand_over_to(node).await });
                }
            }
            Fault::Pause => {
                if let Some(life) = host.life() {
                    life.pause();
                    self.on_at.insert(node, for_a_while);
                }
            }
            Fault::Isolate | Fault::Mute | Fault::Deafen | Fault::Flap => {
                for other in &others {
                    if fault != Fault::Deafen {
                        self.network.cut(node, *other);
                    }
                    if fault != Fault::Mute {
                        self.network.cut(*other, node);
                    }
                }
                let soon = Instant::now() + Duration::from_millis(self.dice.within(20..200));
                self.whole_at.insert(NETWORK, if fault == Fault::Flap { soon } else { for_a_while });
            }
            Fault::CutPair => {
                let other = *self.dice.pick(&others);
                self.network.cut(node, other);
                self.network.cut(other, node);
                self.whole_at.insert(NETWORK, for_a_while);
            }
            Fault::Slow => {
                let longest = *self.dice.pick(&[20_000, 100_000, 400_000]);
                self.network.weather(longest / 4..longest, 0);
                self.whole_at.insert(NETWORK, for_a_while);
            }
            Fault::Lossy => {
                self.network.weather(NEAR_US, *self.dice.pick(&[5, 20, 50]));
                self.whole_at.insert(NETWORK, for_a_while);
            }
            Fault::Break => self.counts.connections_broken += self.network.break_some(3),
            Fault::SlowDisk => {
                let slowest = *self.dice.pick(&[20, 100, 600]);
                host.disk.set_slowest(Some(Duration::from_millis(slowest)));
                self.quick_at.insert(node, for_a_while);
            }
            Fault::DiskFails => {
                if host.is_up() {
                    host.disk.fail_next();
                    self.failing.insert(node, for_a_while);
                }
            }
        }
    }
}

fn is_due(at: &mut BTreeMap<u64, Instant>, key: u64) -> bool {
    let due = at.get(&key).is_some_and(|at| *at <= Instant::now());
    if due {
        at.remove(&key);
    }
    due
}
