//! Sees everything that any node applies and everything that any client is told, and says what must never be.
//!
//! It keeps the one history that the cluster may have: the first node to apply an entry writes it, every other must agree.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use engine::{AssetId, Command, Event, Sequence, Snapshot, SymbolId, Time};
use parking_lot::Mutex;
use serde::Serialize;

use super::disk::Disk;
use crate::record::{Answer, Applied, Entry, LogId, Origin};

/// After every so many entries the whole state is compared, and its balances are added up.
const COMPARE_EVERY: u64 = 16;

/// The only one of a simulation.
pub(crate) struct Witness {
    state: Mutex<State>,
}

/// What an entry of the log did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    log_id: LogId,
    /// Of its content.
    content: u64,
    /// Where its commands stand, and a hash of what they did; none where it had no effect.
    effect: Option<(Sequence, u64)>,
}

#[derive(Default)]
struct State {
    disks: Vec<Arc<Disk>>,
    /// Who led in a term.
    leaders: BTreeMap<u64, u64>,
    decided: BTreeMap<u64, Decided>,
    /// Of the state after an entry, and who had it, at which command.
    hashes: BTreeMap<u64, ([u8; 32], u64, Sequence)>,
    /// Those that had an effect: node, its start, number.
    tickets: BTreeSet<(u64, u64, u64)>,
    /// Where the command of a name stands.
    names: BTreeMap<String, (Sequence, u64)>,
    /// The last number given, by what is numbered.
    numbers: BTreeMap<(Numbered, SymbolId), u64>,
    deposited: BTreeMap<AssetId, i128>,
    deposited_at: BTreeMap<u64, BTreeMap<AssetId, i128>>,
    last_sequence: Sequence,
    last_time: Time,
    acknowledged: Sequence,
    /// The last entry that each node applied since it started.
    applied: BTreeMap<u64, u64>,
    compares_each: bool,
    /// The entry up to which a snapshot was ahead of all engines.
    leapt_to: u64,
    counts: Counts,
    trace: DefaultHasher,
    violations: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Numbered {
    Order,
    Trade,
    Aggregate,
    Update,
}

/// How much was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub acknowledged: u64,
    pub unknown: u64,
    pub refused: u64,
    pub reads: u64,
    pub entries: u64,
    pub void: u64,
    pub compared: u64,
    pub terms: u64,
    pub installed: u64,
    pub leaps: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.refused += other.refused;
        self.reads += other.reads;
        self.entries += other.entries;
        self.void += other.void;
        self.compared += other.compared;
        self.terms += other.terms;
        self.installed += other.installed;
        self.leaps += other.leaps;
    }
}

fn hash_of(value: &impl Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    postcard::to_allocvec(value).expect("plain data can always be encoded").hash(&mut hasher);
    hasher.finish()
}

/// What a client calls its command; no two have the same.
pub(crate) fn name_of(command: &Command) -> Option<String> {
    match command {
        Command::PlaceOrder(place) => Some(place.client_order_id.as_str().to_string()),
        Command::CancelOrder(cancel) => Some(cancel.cancel_client_order_id.as_str().to_string()),
        Command::Deposit(transfer) | Command::Withdraw(transfer) => Some(transfer.external_id.clone()),
        _ => None,
    }
}

impl Witness {
    pub(crate) fn new(disks: Vec<Arc<Disk>>) -> Arc<Witness> {
        Arc::new(Witness { state: Mutex::new(State { disks, ..State::default() }) })
    }

    /// What must never be.
    pub(crate) fn violation(&self, what: impl Into<String>) {
        self.state.lock().violations.push(what.into());
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.state.lock().violations.clone()
    }

    pub(crate) fn counts(&self) -> Counts {
        let state = self.state.lock();
        Counts { terms: state.leaders.len() as u64, ..state.counts }
    }

    /// A number that no other course of events has.
    pub(crate) fn trace(&self) -> u64 {
        self.state.lock().trace.finish()
    }

    /// Something that happened, for the trace alone.
    pub(crate) fn note(&self, what: impl Hash) {
        what.hash(&mut self.state.lock().trace);
    }

    /// A node leads.
    pub(crate) fn leads(&self, node: u64, term: u64) {
        self.state.lock().leads(node, term);
    }

    /// A node starts from what it has on its disks.
    pub(crate) fn starts(&self, node: u64) {
        self.state.lock().applied.remove(&node);
    }

    /// A node has this state now, whole, up to this entry.
    pub(crate) fn restored(&self, node: u64, log_id: Option<LogId>, snapshot: &Snapshot) {
        let mut state = self.state.lock();
        let Some(log_id) = log_id else { return };
        state.applied.insert(node, log_id.index);
        state.counts.installed += 1;
        match state.decided.get(&log_id.index) {
            Some(decided) if decided.log_id == log_id => {}
            Some(decided) => {
                let what = format!("node {node} has a state up to entry {log_id}, which is {}", decided.log_id);
                state.wrong(what);
            }
            None => state.leap(log_id.index, snapshot),
        }
        state.compare(node, log_id.index, snapshot);
    }

    /// A node applied an entry; `applied` is what its commands did, if anything. Whether the state is to be compared.
    pub(crate) fn applied(
        &self,
        node: u64,
        log_id: LogId,
        commands: Option<(Origin, &Entry)>,
        applied: Option<&Applied>,
    ) -> bool {
        let mut state = self.state.lock();
        (node, log_id.index, log_id.leader_id.term, applied.map(|applied| applied.first_sequence.0))
            .hash(&mut state.trace);
        state.leads(log_id.leader_id.node_id, log_id.leader_id.term);
        if let Some(last) = state.applied.insert(node, log_id.index)
            && last + 1 != log_id.index
        {
            state.wrong(format!("node {node} applied entry {log_id} after entry {last}"));
        }
        let effect = applied.map(|applied| (applied.first_sequence, hash_of(&(applied.time, &applied.events))));
        let decided = Decided { log_id, content: hash_of(&commands), effect };
        match state.decided.get(&log_id.index) {
            None => {
                if let Some((last, _)) = state.decided.last_key_value()
                    && last + 1 != log_id.index
                    && log_id.index > state.leapt_to + 1
                {
                    let what = format!("node {node} applied entry {log_id}, and nobody the one after entry {last}");
                    state.wrong(what);
                }
                state.decided.insert(log_id.index, decided);
                state.first(log_id, commands, applied);
            }
            Some(first) if *first == decided => {}
            Some(first) => {
                let what = format!("node {node} applied {decided:?}, another node {first:?}");
                state.wrong(what);
            }
        }
        state.compares_each || log_id.index.is_multiple_of(COMPARE_EVERY)
    }

    /// From now on the state is compared after each entry.
    pub(crate) fn compare_each(&self) {
        self.state.lock().compares_each = true;
    }

    /// The last entry that each node applied since it started.
    pub(crate) fn applied_by_node(&self) -> BTreeMap<u64, u64> {
        self.state.lock().applied.clone()
    }

    /// A node's state after an entry.
    pub(crate) fn compare(&self, node: u64, index: u64, snapshot: &Snapshot) {
        self.state.lock().compare(node, index, snapshot);
    }

    /// The last command that was acknowledged so far.
    pub(crate) fn acknowledged(&self) -> Sequence {
        self.state.lock().acknowledged
    }

    /// A client is told that its command is done. It was sent when `before` had been acknowledged.
    pub(crate) fn answered(&self, name: &str, before: Sequence, answer: &Answer) {
        let mut state = self.state.lock();
        state.counts.acknowledged += 1;
        let sequence = answer.sequence();
        sequence.0.hash(&mut state.trace);
        state.acknowledged = state.acknowledged.max(sequence);
        if sequence <= before {
            state.wrong(format!("{name} is command {sequence}, yet {before} was acknowledged before it was sent"));
        }
        let Some((decided_at, index)) = state.names.get(name).copied() else {
            return state.wrong(format!("{name} was acknowledged and never applied"));
        };
        if decided_at != sequence {
            state.wrong(format!("{name} was acknowledged as command {sequence}, and is {decided_at}"));
        }
        let log_id = state.decided[&index].log_id;
        let kept = state.disks.iter().filter(|disk| disk.holds(&log_id)).count();
        if kept <= state.disks.len() / 2 {
            let of = state.disks.len();
            state.wrong(format!("{name} was acknowledged while {kept} of {of} disks had entry {log_id}"));
        }
    }

    /// A client is told that nobody knows, or that its command was not taken.
    pub(crate) fn unanswered(&self, refused: bool) {
        let counts = &mut self.state.lock().counts;
        *if refused { &mut counts.refused } else { &mut counts.unknown } += 1;
    }

    /// A client is told that a read which shows `found` is current. It was sent when `before` had been acknowledged.
    pub(crate) fn read(&self, node: u64, before: Sequence, found: Sequence) {
        let mut state = self.state.lock();
        state.counts.reads += 1;
        if found < before {
            state.wrong(format!(
                "a read at node {node} is said to be current at {found}, after {before} was acknowledged"
            ));
        }
    }

    /// Everything is over and every node is there: each has applied everything.
    pub(crate) fn settled(&self, nodes: impl IntoIterator<Item = u64>) -> bool {
        let state = self.state.lock();
        let last = state.decided.last_key_value().map(|(index, _)| *index);
        nodes.into_iter().all(|node| state.applied.get(&node).copied() == last)
    }
}

impl State {
    fn wrong(&mut self, what: String) {
        self.violations.push(what);
    }

    fn leads(&mut self, node: u64, term: u64) {
        let leader = *self.leaders.entry(term).or_insert(node);
        if leader != node {
            self.wrong(format!("nodes {leader} and {node} both led in term {term}"));
        }
    }

    /// An entry that nobody has applied before.
    fn first(&mut self, log_id: LogId, commands: Option<(Origin, &Entry)>, applied: Option<&Applied>) {
        self.counts.entries += 1;
        let Some((origin, entry)) = commands else { return };
        let Some(applied) = applied else {
            self.counts.void += u64::from(!entry.commands.is_empty());
            return;
        };
        let seen_in_order = log_id.index > self.leapt_to;
        if seen_in_order && applied.first_sequence.0 != self.last_sequence.0 + 1 {
            self.wrong(format!("command {} follows command {}", applied.first_sequence, self.last_sequence));
        }
        if seen_in_order && applied.time < self.last_time {
            self.wrong(format!("time went back from {} to {}", self.last_time, applied.time));
        }
        if seen_in_order {
            self.last_sequence = applied.last_sequence();
            self.last_time = applied.time;
        }
        if !self.tickets.insert((origin.node, origin.boot, origin.ticket)) {
            self.wrong(format!("{origin:?} counted twice"));
        }
        for (at, command) in entry.commands.iter().enumerate() {
            if let Some(name) = name_of(command)
                && let Some(before) = self.names.insert(name.clone(), (applied.sequence(at), log_id.index))
            {
                self.wrong(format!(
                    "{name} was applied as command {} and before as {}",
                    applied.sequence(at),
                    before.0
                ));
            }
        }
        if seen_in_order {
            applied.events.iter().for_each(|event| self.event(event));
        }
        // What was deposited is not known of the places that were leapt over.
        let is_known = log_id.index >= self.leapt_to;
        if is_known && (self.compares_each || log_id.index.is_multiple_of(COMPARE_EVERY)) {
            self.deposited_at.insert(log_id.index, self.deposited.clone());
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::OrderAccepted(order) => self.number(Numbered::Order, order.symbol, order.order_id.0, false),
            Event::Trade(trade) => {
                self.number(Numbered::Trade, trade.symbol, trade.trade_id.0, false);
                self.number(Numbered::Aggregate, trade.symbol, trade.aggregate_id, true);
            }
            Event::LevelChanged { symbol, update_id, .. } => {
                self.number(Numbered::Update, *symbol, *update_id, false);
            }
            Event::Deposited(transfer) => {
                *self.deposited.entry(transfer.asset).or_default() += transfer.amount.0 as i128;
            }
            Event::Withdrawn(transfer) => {
                *self.deposited.entry(transfer.asset).or_default() -= transfer.amount.0 as i128;
            }
            _ => {}
        }
    }

    /// A snapshot is ahead of all engines: it was built from entries that were committed, and then the power was cut. They will
    /// be applied again; their numbers are not looked at.
    fn leap(&mut self, index: u64, snapshot: &Snapshot) {
        self.counts.leaps += 1;
        self.leapt_to = index;
        self.last_sequence = snapshot.sequence();
        self.last_time = snapshot.time();
        self.numbers.clear();
        self.deposited = (0..).map(AssetId).zip(snapshot.assets().map(|asset| asset.supply.0 as i128)).collect();
    }

    fn number(&mut self, what: Numbered, symbol: SymbolId, number: u64, may_repeat: bool) {
        if let Some(last) = self.numbers.insert((what, symbol), number)
            && number != last + 1
            && !(may_repeat && number == last)
        {
            self.wrong(format!("{what:?} {number} of symbol {symbol:?} follows {last}"));
        }
    }

    fn compare(&mut self, node: u64, index: u64, snapshot: &Snapshot) {
        self.counts.compared += 1;
        let hash = snapshot.hash().0;
        hash.hash(&mut self.trace);
        let first = *self.hashes.entry(index).or_insert((hash, node, snapshot.sequence()));
        if first.0 != hash {
            let (_, other, sequence) = first;
            self.wrong(format!(
                "after entry {index} node {node} is at command {} with another state than node {other}, at {sequence}",
                snapshot.sequence()
            ));
        }
        let Some(deposited) = self.deposited_at.get(&index).cloned() else { return };
        let mut held = BTreeMap::<AssetId, i128>::new();
        for (asset, free, locked) in snapshot.accounts().flat_map(|account| account.balances) {
            *held.entry(asset).or_default() += (free.0 + locked.0) as i128;
        }
        if held.into_iter().filter(|(_, sum)| *sum != 0).ne(deposited.into_iter().filter(|(_, sum)| *sum != 0)) {
            self.wrong(format!("after entry {index} the balances on node {node} are not what was deposited"));
        }
    }
}
