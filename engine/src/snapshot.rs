//! The whole state as plain data, from an engine and back; and its hash. snapshot_bytes.rs writes it down.
//!
//! Everything stands in a defined order, so equal states give equal bytes.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use crate::account::AccountState;
use crate::account::Accounts;
use crate::average::{AveragePrice, Bucket};
use crate::book::Ladder;
use crate::breaker::Breaker;
use crate::command::{AddAsset, ApiKey, ExchangeLimits};
use crate::commission::CommissionRates;
use crate::engine::{Deadline, Engine};
pub use crate::market::Counters;
use crate::market::Market;
use crate::order::{Order, OrderStatus};
use crate::order_list::List;
use crate::symbol::Symbol;
use crate::timer::Timers;
use crate::units::{Amount, AssetId, OrderId, Price, Quantity, Sequence, SymbolId, Time, Uid};

/// The state of the engine after the command `sequence`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last command that is in it; 0 before the first.
    pub sequence: Sequence,
    /// The time of that command.
    pub time: Time,
    /// By asset id.
    pub assets: Vec<AssetState>,
    /// By symbol id.
    pub symbols: Vec<SymbolState>,
    /// By uid; the fee account is the first.
    pub accounts: Vec<AccountState>,
    /// The limits over all symbols.
    pub limits: ExchangeLimits,
    /// What tier n pays is at n - 1.
    pub commission_tiers: Vec<Option<CommissionRates>>,
    /// By key.
    pub api_keys: Vec<ApiKey>,
    /// Transfers that took effect: uid and external id, in that order.
    pub transfers: Vec<(Uid, String)>,
    /// Withdrawals under way: uid, external id, what they lock; in that order.
    pub withdrawals: Vec<(Uid, String, AssetId, Amount)>,
    /// The dead man's switches that are armed, by symbol and uid.
    pub countdowns: Vec<(SymbolId, Uid, Time)>,
}

/// An asset and how much of it is in the exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetState {
    /// Name and scale.
    pub asset: AddAsset,
    /// Deposits less withdrawals.
    pub supply: Amount,
}

/// A symbol, its counters and its book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SymbolState {
    /// As listed, with its status.
    pub symbol: Symbol,
    /// The last numbers given.
    pub counters: Counters,
    /// The price of the last trade.
    pub last_price: Option<Price>,
    /// What an operator said it is worth.
    pub reference_price: Option<Price>,
    /// What traded in the seconds of the average price's window.
    pub average: Vec<Bucket>,
    /// What its circuit breaker knows.
    pub breaker: Breaker,
    /// All open orders: the bids and then the asks, each best price first and then in the order in which they would trade;
    /// then by number the stops that wait and the pending orders of lists.
    pub orders: Vec<Order>,
    /// Of the icebergs that rest, by number: how much of the part that is shown is left.
    pub shown: Vec<(OrderId, Quantity)>,
    /// Of the stops that will be market buys, by number: what they hold.
    pub stop_holds: Vec<(OrderId, Amount)>,
    /// The lists under way, by number.
    pub lists: Vec<List>,
}

impl Snapshot {
    /// The state's hash: SHA-256 of its bytes.
    pub fn hash(&self) -> StateHash {
        StateHash(Sha256::digest(self.encode()).into())
    }
}

/// What tells two states apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateHash(pub [u8; 32]);

impl std::fmt::Display for StateHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for StateHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Engine {
    /// The whole state as plain data.
    pub fn snapshot(&self) -> Snapshot {
        let asset_state = |(asset, added): (u32, &AddAsset)| AssetState {
            asset: added.clone(),
            supply: self.floor.accounts.supply(AssetId(asset)),
        };
        let withdrawal =
            |((uid, name), &(asset, amount)): (&(Uid, String), &(AssetId, Amount))| (*uid, name.clone(), asset, amount);
        Snapshot {
            sequence: self.sequence,
            time: self.floor.now,
            assets: (0..).zip(&self.assets).map(asset_state).collect(),
            symbols: self.markets.iter().map(symbol_state).collect(),
            accounts: self.floor.accounts.states(),
            limits: self.floor.limits,
            commission_tiers: self.floor.desk.tiers.clone(),
            api_keys: self.api_keys.values().cloned().collect(),
            transfers: self.transfers.iter().cloned().collect(),
            withdrawals: self.withdrawals.iter().map(withdrawal).collect(),
            countdowns: self.countdowns.iter().map(|(&(symbol, uid), &at)| (symbol, uid, at)).collect(),
        }
    }

    /// What tells this state from any other.
    pub fn state_hash(&self) -> StateHash {
        self.snapshot().hash()
    }

    /// The exchange as a snapshot describes it. Asserts that it is sound.
    pub fn from_snapshot(snapshot: &Snapshot) -> Engine {
        let mut engine = Engine::new();
        engine.sequence = snapshot.sequence;
        engine.floor.now = snapshot.time;
        engine.floor.limits = snapshot.limits;
        engine.floor.desk.tiers = snapshot.commission_tiers.clone();
        engine.assets = snapshot.assets.iter().map(|state| state.asset.clone()).collect();
        let supplies = snapshot.assets.iter().map(|state| state.supply);
        engine.floor.accounts = Accounts::restore(&snapshot.accounts, supplies);
        engine.api_keys = snapshot.api_keys.iter().map(|key| (key.api_key.clone(), key.clone())).collect();
        engine.transfers = snapshot.transfers.iter().cloned().collect();
        let withdrawals = snapshot.withdrawals.iter().cloned();
        engine.withdrawals = withdrawals.map(|(uid, name, asset, amount)| ((uid, name), (asset, amount))).collect();
        engine.timers = Timers::new(snapshot.time);
        for &(symbol, uid, at) in &snapshot.countdowns {
            engine.countdowns.insert((symbol, uid), at);
            engine.timers.set(at, Deadline::Countdown(symbol, uid));
        }
        for state in &snapshot.symbols {
            engine.restore_symbol(state);
        }
        engine.validate();
        engine
    }

    fn restore_symbol(&mut self, state: &SymbolState) {
        let base_scale = self.assets[state.symbol.config.base.0 as usize].scale;
        self.list(state.symbol.clone(), base_scale);
        let market = self.markets.last_mut().expect("it was just listed");
        market.counters = state.counters;
        market.last_price = state.last_price;
        market.reference_price = state.reference_price;
        market.average = AveragePrice::restore(&state.average);
        market.breaker = state.breaker.clone();
        if let Some(at) = state.breaker.resumes_at {
            self.timers.set(at, Deadline::Resume(state.symbol.id));
        }
        let quote = self.floor.desk.quotes.last_mut().expect("it was just listed");
        quote.last_price = state.last_price.map(|price| state.symbol.scale.price_amount(price));
        restore_orders(market, state, &mut self.floor.accounts);
        for list in &state.lists {
            let trader = market.book.traders.find(list.list.uid).expect("an open list has open orders");
            market.book.traders.rare_mut(trader).order_lists += 1;
            market.lists.insert(trader, list.clone());
        }
    }
}

fn symbol_state(market: &Market) -> SymbolState {
    let book = &market.book;
    let (mut orders, mut shown) = (Vec::with_capacity(book.len()), Vec::new());
    for level in [Ladder::Bids, Ladder::Asks].into_iter().flat_map(|ladder| book.levels(ladder)) {
        for slot in book.queue(level) {
            let part = book.special(slot).and_then(|special| special.iceberg_quantity);
            if part.is_some_and(|part| part.min(book.open(slot)) != book.shown(slot)) {
                shown.push((book.number(slot), book.shown(slot)));
            }
            orders.push(book.order(slot));
        }
    }
    shown.sort_unstable();
    let mut stop_holds = Vec::new();
    // Few orders wait or are pending; where none is, there is nothing to look for among all.
    if orders.len() < book.len() {
        for slot in book.slots().filter(|&slot| !book.is_resting(slot)) {
            if let Some(held) = book.note(slot).map(|note| note.held).filter(|held| !held.is_zero()) {
                stop_holds.push((book.number(slot), held));
            }
            orders.push(book.order(slot));
        }
    }
    SymbolState {
        symbol: market.symbol.clone(),
        counters: market.counters,
        last_price: market.last_price,
        reference_price: market.reference_price,
        average: market.average.buckets().copied().collect(),
        breaker: market.breaker.clone(),
        orders,
        shown,
        stop_holds,
        lists: market.lists.iter().cloned().collect(),
    }
}

/// All orders take their places by number, so that a trader's stand in that order; then they queue as the snapshot has them.
fn restore_orders(market: &mut Market, state: &SymbolState, accounts: &mut Accounts) {
    let mut by_number: Vec<&Order> = state.orders.iter().collect();
    by_number.sort_unstable_by_key(|order| order.order_id);
    let config = &state.symbol.config;
    for order in by_number {
        let trader = market.book.traders.enter(order.uid, config.base, config.quote, accounts);
        market.book.admit(order, trader);
    }
    for &(order_id, shown) in &state.shown {
        let slot = market.book.by_number(order_id).expect("an iceberg is open");
        market.book.set_shown(slot, shown);
    }
    for order in &state.orders {
        let slot = market.book.by_number(order.order_id).expect("it was just admitted");
        if order.status == OrderStatus::PendingNew {
            market.book.note_mut(slot).pending = true;
        } else if order.working_at().is_some() {
            market.book.queue_at(slot, Ladder::of(order.side), order.price);
        } else {
            let held = state.stop_holds.binary_search_by_key(&order.order_id, |&(of, _)| of);
            market.wait(slot, held.map_or(Amount::ZERO, |at| state.stop_holds[at].1));
        }
    }
}
