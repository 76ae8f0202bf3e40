//! What an exchange must know after a fault: everything that its log says, worked out here by an engine of the test's own,
//! from the first command on; and the comparison with what a client was told and with what a node found when it started.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use engine::event::{Fill, Trade};
use engine::order::{ClientOrderId, OrderStatus, Side};
use engine::{AssetId, Command, Engine, Event, Order, OrderId, SymbolId, Uid};
use journal::recovery::{Directory, RecoveryError};
use journal::{Node, NodeConfig, Origin, Page, Published, SpaceConfig};
use serde_json::Value;

use crate::clients::Told;
use crate::load::{Outcome, Record};

/// How long a start may take before it counts as one that hangs.
pub const START_MAX: Duration = Duration::from_secs(20);

/// Nothing is refused for want of room, and no room is taken.
pub const NO_BALLAST: SpaceConfig = SpaceConfig { low_bytes: 0, ballast_bytes: 0 };

/// The truth according to the log.
#[derive(Default)]
pub struct Witness {
    engine: Engine,
    time: engine::Time,
    /// The first log entry that it has not seen.
    next_index: u64,
    /// By node: its last start that laid an entry into the log, and the number of its last entry that counted.
    counted: HashMap<u64, (u64, u64)>,
    /// How many entries did not count, and how many commands were in them.
    void: (u64, u64),
    /// Every order there ever was, as it is now.
    orders: BTreeMap<(SymbolId, OrderId), Order>,
    trades: BTreeMap<SymbolId, Vec<Trade>>,
    /// Base and quote of each symbol, by its number.
    pairs: Vec<(AssetId, AssetId)>,
    /// By owner and name: the sequences of the commands that placed an order so named.
    names: HashMap<(Uid, ClientOrderId), Vec<u64>>,
    /// What each account has, by deposits and trades alone.
    balances: BTreeMap<(Uid, AssetId), i128>,
    /// The events of the commands that [`Witness::follow`] last saw, from the sequence `latest_from` on.
    latest: Vec<Vec<Event>>,
    latest_from: u64,
}

/// What a node found when it started.
pub enum Found {
    /// It refused to start: why.
    Refused(String),
    /// It started, and cannot read some of its history: what it says.
    HistoryRefused(String),
    /// It started, and everything is as it must be.
    Right,
    /// It started with something that never was: what.
    Wrong(String),
}

impl Witness {
    /// The sequence of the last command it has seen.
    pub fn sequence(&self) -> u64 {
        self.engine.sequence().0
    }

    /// How many orders and trades there are.
    pub fn counts(&self) -> (usize, usize) {
        (self.orders.len(), self.trades.values().map(Vec::len).sum())
    }

    /// Applies what the log in `data` has beyond what it has seen.
    pub fn follow(&mut self, data: &Path) -> Result<(), RecoveryError> {
        self.follow_to(data, u64::MAX)
    }

    /// The same, up to a sequence: what a node of a cluster has beyond what was agreed may never count.
    pub fn follow_to(&mut self, data: &Path, last: u64) -> Result<(), RecoveryError> {
        self.latest.clear();
        self.latest_from = self.sequence() + 1;
        let from = self.next_index;
        Directory::read(data)?.entries(from, |index, origin, entry| {
            assert!(index >= self.next_index, "entry {index} again, {} was to come", self.next_index);
            self.next_index = index + 1;
            if !self.counts_next(origin) {
                self.void = (self.void.0 + 1, self.void.1 + entry.commands.len() as u64);
                return;
            }
            // A new leader's clock may be behind the last one's; the exchange's time never runs backwards.
            self.time = self.time.max(entry.time);
            let time = self.time;
            for command in &entry.commands {
                if self.sequence() < last {
                    self.apply(time, command);
                }
            }
        })
    }

    /// Whether an entry is the next of who laid it into the log, since that node's last start: others were laid twice, or
    /// came after one that was lost with a leader.
    fn counts_next(&mut self, origin: &Origin) -> bool {
        let (boot, last) = self.counted.get(&origin.node).copied().unwrap_or_default();
        let is_next = match origin.boot.cmp(&boot) {
            Ordering::Less => false,
            Ordering::Equal => origin.ticket == last + 1,
            Ordering::Greater => origin.ticket == 1,
        };
        if is_next {
            self.counted.insert(origin.node, (origin.boot, origin.ticket));
        }
        is_next
    }

    /// How many entries of the log did not count, and how many commands were in them.
    pub fn void(&self) -> (u64, u64) {
        self.void
    }

    /// Applies one command.
    pub fn apply(&mut self, time: engine::Time, command: &Command) {
        let mut events = Vec::new();
        self.engine.apply(time, command, &mut events);
        let sequence = self.sequence();
        for event in &events {
            self.fold(sequence, event);
        }
        self.latest.push(events);
    }

    fn fold(&mut self, sequence: u64, event: &Event) {
        match event {
            Event::SymbolAdded(symbol) => self.pairs.push((symbol.config.base, symbol.config.quote)),
            Event::OrderAccepted(order) => {
                let known = self.orders.insert((order.symbol, order.order_id), order.clone());
                assert!(known.is_none(), "order id {} given twice", order.order_id);
                self.names.entry((order.uid, order.client_order_id)).or_default().push(sequence);
            }
            Event::OrderTriggered(order)
            | Event::OrderCanceled { order, .. }
            | Event::OrderExpired { order, .. }
            | Event::OrderAmended { order, .. } => {
                self.orders.insert((order.symbol, order.order_id), order.clone());
            }
            Event::Trade(trade) => self.trade(trade),
            Event::Deposited(transfer) => {
                *self.balances.entry((transfer.uid, transfer.asset)).or_default() += transfer.amount.0 as i128;
            }
            _ => {}
        }
    }

    fn trade(&mut self, trade: &Trade) {
        let (base, quote) = self.pairs[trade.symbol.0 as usize];
        self.trades.entry(trade.symbol).or_default().push(*trade);
        let maker_side = trade.taker_side.opposite();
        for (fill, side) in [(&trade.taker, trade.taker_side), (&trade.maker, maker_side)] {
            let order = self.orders.get_mut(&(trade.symbol, fill.order_id)).expect("who trades was accepted");
            order.executed = fill.executed;
            order.cumulative_quote = fill.cumulative_quote;
            order.status = fill.status;
            let quote_amount = trade.quote_amount.0 as i128;
            // A lot is the smallest unit of base in the symbols of these tests.
            let base_amount = i128::from(trade.quantity.0);
            let sign = if side == Side::Buy { 1 } else { -1 };
            let mut add = |asset, amount| *self.balances.entry((fill.uid, asset)).or_default() += amount;
            add(base, sign * base_amount);
            add(quote, -sign * quote_amount);
            add(fill.fee_asset, -(fill.fee.0 as i128));
        }
    }

    /// Whether everything that was acknowledged is in the log, once, under the numbers it was acknowledged with; and nothing
    /// that was refused. Each complaint is one line. To be asked after each [`Witness::follow`], about the load before it.
    pub fn complaints(&self, records: &[Record]) -> Vec<String> {
        let complain = |record: &Record| self.complaint(record).map(|what| format!("{what}: {record:?}"));
        records.iter().filter_map(complain).collect()
    }

    /// The same of what clients of a cluster were told, who may have asked twice: what was placed was placed by whichever
    /// attempt came first.
    pub fn complaints_of_told(&self, told: &[Told]) -> Vec<String> {
        let complain = |told: &Told| {
            let complaint =
                if told.attempts > 1 { self.complaint_twice(&told.record) } else { self.complaint(&told.record) };
            complaint.map(|what| format!("{what}: {told:?}"))
        };
        told.iter().filter_map(complain).collect()
    }

    fn complaint_twice(&self, record: &Record) -> Option<String> {
        let uid = Uid(record.account as u64);
        match (&record.outcome, &record.name) {
            (Outcome::Done { result, .. }, Some(name)) => {
                let name = ClientOrderId::new(name).expect("a name that was accepted");
                match self.names.get(&(uid, name)).map_or(&[][..], Vec::as_slice) {
                    [sequence] => self.answer_differs(uid, *sequence, result),
                    sequences => Some(format!("it was placed by {sequences:?}")),
                }
            }
            _ => self.complaint(record),
        }
    }

    /// The hash of the state that the log leads to.
    pub fn hash(&self) -> engine::snapshot::StateHash {
        self.engine.snapshot().hash()
    }

    fn complaint(&self, record: &Record) -> Option<String> {
        let uid = Uid(record.account as u64);
        let placed = record.name.as_ref().map(|name| {
            let name = ClientOrderId::new(name).expect("a name that was accepted or refused for something else");
            self.names.get(&(uid, name)).map_or(&[][..], Vec::as_slice)
        });
        match (&record.outcome, placed) {
            (Outcome::Unknown, Some([_, _, ..])) => Some("it was placed twice".into()),
            (Outcome::Unknown, _) => None,
            (Outcome::Refused { .. }, Some([_, ..])) => Some("it was refused and is there".into()),
            (Outcome::Refused { .. }, _) => None,
            (Outcome::Done { sequence, .. }, Some(sequences)) if sequences != [*sequence] => {
                Some(format!("it was placed by {sequences:?}"))
            }
            (Outcome::Done { sequence, result }, _) => self.answer_differs(uid, *sequence, result),
        }
    }

    /// What differs between the answer and the events of its command.
    fn answer_differs(&self, uid: Uid, sequence: u64, result: &Value) -> Option<String> {
        let place = sequence.checked_sub(self.latest_from).map(|place| place as usize);
        let Some(events) = place.and_then(|place| self.latest.get(place)) else {
            return Some(format!("the log ends at {}", self.sequence()));
        };
        // A cancel-replace has two answers, an amendment has its order inside.
        let parts = ["cancelResponse", "newOrderResponse", "amendedOrder"].map(|name| &result[name]);
        let parts = if parts.iter().all(|part| part.is_null()) { vec![result] } else { parts.to_vec() };
        parts.into_iter().filter(|part| !part.is_null()).find_map(|part| told_otherwise(uid, part, events))
    }

    /// Starts a node on `data` and compares everything it knows with this.
    pub async fn compare(&self, data: &Path) -> Found {
        let started = tokio::time::timeout(START_MAX, start(data)).await;
        let (node, drain) = match started {
            Ok(Ok(started)) => started,
            Ok(Err(refused)) => return Found::Refused(refused),
            Err(_) => return Found::Wrong(format!("no start within {START_MAX:?}")),
        };
        let compared = tokio::time::timeout(START_MAX, self.compare_node(&node)).await;
        let stopped = tokio::time::timeout(START_MAX, node.stop()).await;
        if stopped.is_err() {
            return Found::Wrong(format!("no stop within {START_MAX:?}"));
        }
        // The node let go of it.
        drain.join().expect("it only drains");
        compared.unwrap_or_else(|_| Found::Wrong(format!("no answer within {START_MAX:?}")))
    }

    async fn compare_node(&self, node: &Node) -> Found {
        let recovered = match node.recovered().await {
            Ok(recovery) => recovery.reached,
            Err(error) => return Found::Refused(error.to_string()),
        };
        if recovered != self.engine.sequence() {
            return Found::Wrong(format!("recovered {recovered}, the log has {}", self.sequence()));
        }
        let Some(engine) = node.engine().await else { return Found::Wrong("its engine has ended".into()) };
        // Asserts that holds are what open orders need, and that no asset was made or lost.
        engine.validate();
        let (here, there) = (self.engine.state_hash(), engine.state_hash());
        if here != there {
            return Found::Wrong(format!("its state is {there}, the log gives {here}"));
        }
        match self.compare_history(node).await {
            Ok(None) => Found::Right,
            Ok(Some(wrong)) => Found::Wrong(wrong),
            Err(refused) => Found::HistoryRefused(refused),
        }
    }

    /// What is wrong in it; an error when it cannot be read.
    async fn compare_history(&self, node: &Node) -> Result<Option<String>, String> {
        let history = node.history();
        if let Err(lag) = history.wait_for(self.engine.sequence()).await {
            // It may have met what is damaged after the rest of the node was ready.
            return Err(tokio::select! {
                biased;
                reason = node.failed() => reason,
                () = std::future::ready(()) => lag.to_string(),
            });
        }
        let mut by_owner = BTreeMap::<(Uid, SymbolId), Vec<&Order>>::new();
        for order in self.orders.values() {
            by_owner.entry((order.uid, order.symbol)).or_default().push(order);
        }
        for ((uid, symbol), orders) in &by_owner {
            let filed =
                history.orders(*uid, *symbol, Page::FromId(0), usize::MAX).map_err(|error| error.to_string())?;
            if filed.len() != orders.len() {
                return Ok(Some(format!("history has {} orders of {uid}, the log {}", filed.len(), orders.len())));
            }
            for (filed, order) in filed.iter().zip(orders) {
                if row(&filed.order) != row(order) {
                    return Ok(Some(format!("history has {:?}, the log {order:?}", filed.order)));
                }
            }
            let mut trades = Vec::new();
            for trade in self.trades.get(symbol).into_iter().flatten() {
                trades.extend((trade.taker.uid == *uid).then_some((*trade, false)));
                trades.extend((trade.maker.uid == *uid).then_some((*trade, true)));
            }
            let filed = history.account_trades(*uid, *symbol, None, Page::FromId(0), usize::MAX);
            let filed = filed.map_err(|error| error.to_string())?;
            let filed: Vec<_> = filed.into_iter().map(|filed| (filed.trade, filed.is_maker)).collect();
            if filed != trades {
                let differ = filed.iter().zip(&trades).find(|(filed, trade)| filed != trade);
                let (filed, trades) = (filed.len(), trades.len());
                return Ok(Some(format!("history has {filed} trades of {uid}, the log {trades}: {differ:?}")));
            }
        }
        for (symbol, trades) in &self.trades {
            let mut filed = Vec::new();
            let scanned = history.candles(*symbol, |reader| {
                reader.trades(engine::TradeId(0)).try_for_each(|found| found.map(|found| filed.push(found.trade)))
            });
            scanned.map_err(|error| error.to_string())?;
            if filed != *trades {
                return Ok(Some(format!("history has {} trades, the log {}", filed.len(), trades.len())));
            }
        }
        Ok(None)
    }

    /// Asserts what follows from the orders and trades alone, worked out without the engine: each account has what it put in
    /// and what its trades say, its open orders need what is locked, and numbers have no hole. For symbols whose lot is the
    /// smallest unit of base, and whose tick of one lot is the smallest of quote.
    pub fn assert_balances(&self, context: &str) {
        let mut needed = BTreeMap::<(Uid, AssetId), i128>::new();
        for order in self.orders.values().filter(|order| order.status.is_open()) {
            let (base, quote) = self.pairs[order.symbol.0 as usize];
            let open = i128::from(order.quantity.0) - i128::from(order.executed.0);
            let (asset, amount) = match order.side {
                Side::Buy => (quote, open * i128::from(order.price.0)),
                Side::Sell => (base, open),
            };
            *needed.entry((order.uid, asset)).or_default() += amount;
        }
        let snapshot = self.engine.snapshot();
        // The fee account is the first; it has what the fees brought.
        for account in snapshot.accounts().skip(1) {
            for (asset, free, locked) in account.balances {
                let key = (account.uid, asset);
                let expected = self.balances.get(&key).copied().unwrap_or(0);
                assert_eq!((free.0 + locked.0) as i128, expected, "{context}: {key:?}");
                assert_eq!(locked.0 as i128, needed.remove(&key).unwrap_or(0), "{context}: locked of {key:?}");
            }
        }
        needed.retain(|_, amount| *amount != 0);
        assert!(needed.is_empty(), "{context}: nothing is locked for {needed:?}");
        for symbol in (0..self.pairs.len() as u32).map(SymbolId) {
            let orders = self.orders.range((symbol, OrderId(0))..=(symbol, OrderId(u64::MAX)));
            let count = orders.clone().count() as u64;
            assert!(orders.map(|((_, id), _)| id.0).eq(1..=count), "{context}: order ids have a hole");
            let trades = self.trades.get(&symbol).map_or(&[][..], Vec::as_slice);
            let numbers = trades.iter().map(|trade| trade.trade_id.0);
            assert!(numbers.eq(1..=trades.len() as u64), "{context}: trade ids have a hole");
        }
    }

    /// The balances of an account: asset, free, locked.
    pub fn balances_of(&self, account: usize) -> Vec<(AssetId, u128, u128)> {
        let snapshot = self.engine.snapshot();
        let found = snapshot.accounts().find(|state| state.uid.0 == account as u64);
        let balances = found.expect("it is open").balances;
        balances.into_iter().map(|(asset, free, locked)| (asset, free.0, locked.0)).collect()
    }

    /// How many orders an account has open.
    pub fn open_orders_of(&self, account: usize) -> usize {
        let own = |order: &&Order| order.uid.0 == account as u64 && order.status.is_open();
        self.orders.values().filter(own).count()
    }
}

/// What must be equal in history and here.
fn row(order: &Order) -> impl PartialEq + use<> {
    (order.order_id, order.client_order_id, order.side, order.status, order.executed, order.cumulative_quote)
}

/// What an answer about one order says other than the events do.
fn told_otherwise(uid: Uid, answer: &Value, events: &[Event]) -> Option<String> {
    let order_id = OrderId(answer["orderId"].as_u64()?);
    let (mut name, mut status, mut executed, mut own) = (None, None, None, false);
    let mut fills = Vec::new();
    for event in events {
        let mut set = |order: &Order| {
            if order.order_id == order_id {
                own = order.uid == uid;
                (name, status, executed) = (Some(order.client_order_id), Some(order.status), Some(order.executed));
            }
        };
        match event {
            // From here on it is what the command set off, which its answer does not tell.
            Event::OrderTriggered(_) => break,
            Event::OrderAccepted(order)
            | Event::OrderCanceled { order, .. }
            | Event::OrderExpired { order, .. }
            | Event::OrderAmended { order, .. } => set(order),
            Event::Trade(trade) => {
                for fill in [&trade.taker, &trade.maker].into_iter().filter(|fill| fill.order_id == order_id) {
                    (status, executed) = (Some(fill.status), Some(fill.executed));
                    fills.push((trade, fill));
                }
            }
            _ => {}
        }
    }
    let Some((name, status, executed)) = name.zip(status).zip(executed).map(|((a, b), c)| (a, b, c)) else {
        return Some(format!("the command at its sequence did nothing to order {order_id}"));
    };
    // In the answer to a cancel `clientOrderId` is the cancel's name, in that to an amendment the order's new one.
    let name = name.to_string();
    let same = own
        && ["origClientOrderId", "clientOrderId"].iter().any(|field| answer[field] == name)
        && answer["status"] == status_word(status)
        && units(&answer["executedQty"]) == u128::from(executed.0);
    if !same {
        return Some(format!("the log says {name}, {status:?}, {} executed", executed.0));
    }
    let told = answer["fills"].as_array().map_or(&[][..], Vec::as_slice);
    let told_fills = answer.get("fills").is_none() || told.len() == fills.len();
    let all_same = told.iter().zip(&fills).all(|(told, fill)| same_fill(told, fill));
    (!told_fills || !all_same).then(|| format!("the log says it traded {fills:?}"))
}

fn same_fill(told: &Value, (trade, fill): &(&Trade, &Fill)) -> bool {
    told["tradeId"] == trade.trade_id.0
        && units(&told["qty"]) == u128::from(trade.quantity.0)
        // Cents, as text with eight decimals.
        && units(&told["price"]) == u128::from(trade.price.0) * 1_000_000
        && (units(&told["commission"]) == fill.fee.0 || units_of(&told["commission"], 10) == fill.fee.0)
}

fn status_word(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::New => "NEW",
        OrderStatus::PendingNew => "PENDING_NEW",
        OrderStatus::PartiallyFilled => "PARTIALLY_FILLED",
        OrderStatus::Filled => "FILLED",
        OrderStatus::Canceled => "CANCELED",
        OrderStatus::Expired => "EXPIRED",
        OrderStatus::ExpiredInMatch => "EXPIRED_IN_MATCH",
    }
}

fn units(value: &Value) -> u128 {
    units_of(value, 8)
}

/// A decimal as a whole number of its smallest units; what is beyond them must be zero.
pub fn units_of(value: &Value, scale: usize) -> u128 {
    let text = value.as_str().unwrap_or_else(|| panic!("a decimal: {value}"));
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let (kept, cut) = part.split_at(part.len().min(scale));
    if cut.bytes().any(|digit| digit != b'0') {
        return u128::MAX;
    }
    format!("{whole}{kept:0<scale$}").parse().unwrap_or_else(|_| panic!("a decimal: {text:?}"))
}

/// A node, and who takes what it publishes. The other end of a node's channel must be drained, or it stands still.
async fn start(data: &Path) -> Result<(Node, std::thread::JoinHandle<()>), String> {
    let config = NodeConfig { snapshot_every_entries: u64::MAX, space: NO_BALLAST, ..NodeConfig::new(data) };
    // On a task of its own, so that a panic is something to report.
    let started = tokio::spawn(Node::start(config)).await.map_err(|error| format!("PANIC: {error}"))?;
    let (node, published) = started.map_err(|error| error.to_string())?;
    let drain = std::thread::spawn(move || {
        for published in published.iter() {
            if let Published::Applied { callers, .. } = published {
                assert!(callers.is_empty(), "nobody asked");
            }
        }
    });
    Ok((node, drain))
}
