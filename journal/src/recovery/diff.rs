//! What differs between two states: accounts, books, symbols.

use std::collections::{BTreeMap, BTreeSet};

use engine::account::FEE_ACCOUNT;
use engine::command::{AccountSettings, AddAsset};
use engine::order::Side;
use engine::snapshot::{AccountState, Counters, SymbolState};
use engine::symbol::{Symbol, SymbolStatus};
use engine::{Amount, AssetId, Order, OrderId, Price, Quantity, Sequence, Snapshot, Time, Uid};

/// What differs between two states of one exchange.
#[derive(Clone, Debug)]
pub struct Diff {
    /// The first: its last command and that command's time.
    pub from: (Sequence, Time),
    /// The second.
    pub to: (Sequence, Time),
    /// Assets that are new.
    pub assets: Vec<(AssetId, AddAsset)>,
    /// Assets of which there is more or less: before and after.
    pub supplies: Vec<(AssetId, Amount, Amount)>,
    /// The accounts that differ.
    pub accounts: Vec<AccountChange>,
    /// The symbols that differ.
    pub symbols: Vec<SymbolChange>,
    /// Whether the limits over all symbols differ.
    pub limits: bool,
    /// Whether the commission tiers differ.
    pub commission_tiers: bool,
    /// The owners of API keys that are new.
    pub api_keys: Vec<Uid>,
    /// How many transfers took effect.
    pub transfers: u64,
}

/// How an account differs.
#[derive(Clone, Debug)]
pub struct AccountChange {
    /// Whose it is.
    pub uid: Uid,
    /// Whether it is new.
    pub is_new: bool,
    /// How it was and how it is treated, where that differs.
    pub settings: Option<(AccountSettings, AccountSettings)>,
    /// The balances that differ.
    pub balances: Vec<BalanceChange>,
}

/// How a balance differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceChange {
    /// Of what.
    pub asset: AssetId,
    /// What can be used: before and after.
    pub free: (Amount, Amount),
    /// What is locked: before and after.
    pub locked: (Amount, Amount),
}

/// How a symbol and its book differ.
#[derive(Clone, Debug)]
pub struct SymbolChange {
    /// The symbol as it is after.
    pub symbol: Symbol,
    /// Whether it is new.
    pub is_new: bool,
    /// Whether its filters, fees or rules differ.
    pub config: bool,
    /// Its status before and after, where that differs.
    pub status: Option<(SymbolStatus, SymbolStatus)>,
    /// The last numbers given, before and after.
    pub counters: (Counters, Counters),
    /// The price of the last trade, before and after.
    pub last_price: (Option<Price>, Option<Price>),
    /// What an operator said it is worth, before and after.
    pub reference_price: (Option<Price>, Option<Price>),
    /// The levels of the book that differ, bids and then asks, best first.
    pub levels: Vec<LevelChange>,
    /// The open orders that differ, by number.
    pub orders: Vec<OrderChange>,
}

impl SymbolChange {
    fn is_any(&self) -> bool {
        self.is_new
            || self.config
            || self.status.is_some()
            || self.counters.0 != self.counters.1
            || self.last_price.0 != self.last_price.1
            || self.reference_price.0 != self.reference_price.1
            || !self.levels.is_empty()
            || !self.orders.is_empty()
    }
}

/// How a price level differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelChange {
    /// Which side of the book.
    pub side: Side,
    /// Which level.
    pub price: Price,
    /// What it shows, before and after.
    pub quantity: (Quantity, Quantity),
}

/// How an order differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderChange {
    /// It came.
    Came(Order),
    /// It is another: before and after.
    Changed(Order, Order),
    /// It is open no more; as it was.
    Gone(Order),
}

/// A price level of a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookLevel {
    /// Which side of the book.
    pub side: Side,
    /// Its price.
    pub price: Price,
    /// What it shows.
    pub quantity: Quantity,
    /// How many orders rest there.
    pub orders: usize,
}

/// The levels of a book: the bids and then the asks, best first.
pub fn book_levels(state: SymbolState<'_>) -> Vec<BookLevel> {
    let of = |side| {
        let levels = state.levels(side).zip(state.orders_at_levels(side));
        levels.map(move |((price, quantity), orders)| BookLevel { side, price, quantity, orders: orders as usize })
    };
    of(Side::Buy).chain(of(Side::Sell)).collect()
}

impl Diff {
    /// What differs between an earlier state and a later one.
    pub fn of(from: &Snapshot, to: &Snapshot) -> Diff {
        let (assets_before, assets): (Vec<_>, Vec<_>) = (from.assets().collect(), to.assets().collect());
        let asset = |(id, asset): (u32, &engine::snapshot::AssetState)| (AssetId(id), asset.asset.clone());
        let supplies = (0..).zip(&assets).map(|(id, asset)| {
            let before = assets_before.get(id as usize).map_or(Amount::ZERO, |asset| asset.supply);
            (AssetId(id), before, asset.supply)
        });
        let known: BTreeSet<&str> = from.api_keys().map(|key| key.api_key.as_str()).collect();
        let keys = to.api_keys().filter(|key| !known.contains(key.api_key.as_str()));
        Diff {
            from: (from.sequence(), from.time()),
            to: (to.sequence(), to.time()),
            assets: (0..).zip(&assets).skip(assets_before.len()).map(asset).collect(),
            supplies: supplies.filter(|(_, before, after)| before != after).collect(),
            accounts: account_changes(from, to),
            symbols: to.symbols().filter_map(|after| symbol_change(from, after)).collect(),
            limits: from.limits() != to.limits(),
            commission_tiers: from.commission_tiers() != to.commission_tiers(),
            api_keys: keys.map(|key| key.uid).collect(),
            transfers: (to.transfers() as u64).saturating_sub(from.transfers() as u64),
        }
    }

    /// Whether nothing differs that can be asked for.
    pub fn is_empty(&self) -> bool {
        self.assets.is_empty()
            && self.supplies.is_empty()
            && self.accounts.is_empty()
            && self.symbols.is_empty()
            && !self.limits
            && !self.commission_tiers
            && self.api_keys.is_empty()
            && self.transfers == 0
    }
}

fn account_changes(from: &Snapshot, to: &Snapshot) -> Vec<AccountChange> {
    let before: BTreeMap<Uid, AccountState> = from.accounts().map(|account| (account.uid, account)).collect();
    let change = |after: AccountState| {
        let known = before.get(&after.uid);
        let settings = known.map_or_else(AccountSettings::default, |known| known.settings);
        let change = AccountChange {
            uid: after.uid,
            is_new: known.is_none() && after.uid != FEE_ACCOUNT,
            settings: (settings != after.settings).then_some((settings, after.settings)),
            balances: balance_changes(known.map_or(&[], |known| &known.balances), &after.balances),
        };
        (change.is_new || change.settings.is_some() || !change.balances.is_empty()).then_some(change)
    };
    to.accounts().filter_map(change).collect()
}

type Balances = [(AssetId, Amount, Amount)];

fn balance_changes(before: &Balances, after: &Balances) -> Vec<BalanceChange> {
    let of = |balances: &Balances, asset: AssetId| {
        let found = balances.iter().find(|(of, _, _)| *of == asset);
        found.map_or((Amount::ZERO, Amount::ZERO), |&(_, free, locked)| (free, locked))
    };
    let assets: BTreeSet<AssetId> = before.iter().chain(after).map(|(asset, _, _)| *asset).collect();
    let change = |asset: AssetId| {
        let ((free, locked), (free_after, locked_after)) = (of(before, asset), of(after, asset));
        BalanceChange { asset, free: (free, free_after), locked: (locked, locked_after) }
    };
    let changes = assets.into_iter().map(change);
    changes.filter(|change| change.free.0 != change.free.1 || change.locked.0 != change.locked.1).collect()
}

fn symbol_change(from: &Snapshot, after: SymbolState<'_>) -> Option<SymbolChange> {
    let symbol = after.symbol();
    let before = from.symbols().nth(symbol.id.0 as usize);
    let status = before.map_or(symbol.status, |before| before.symbol().status);
    let change = SymbolChange {
        symbol: symbol.clone(),
        is_new: before.is_none(),
        config: before.is_some_and(|before| before.symbol().config != symbol.config),
        status: (status != symbol.status).then_some((status, symbol.status)),
        counters: (before.map(|before| before.counters()).unwrap_or_default(), after.counters()),
        last_price: (before.and_then(|before| before.last_price()), after.last_price()),
        reference_price: (before.and_then(|before| before.reference_price()), after.reference_price()),
        levels: level_changes(before, after),
        orders: order_changes(before, after),
    };
    change.is_any().then_some(change)
}

fn level_changes(before: Option<SymbolState<'_>>, after: SymbolState<'_>) -> Vec<LevelChange> {
    // By side and by how far from the best: bids fall, asks rise.
    let key = |level: &BookLevel| match level.side {
        Side::Buy => (0, u64::MAX - level.price.0),
        Side::Sell => (1, level.price.0),
    };
    let mut levels: BTreeMap<(u8, u64), LevelChange> = BTreeMap::new();
    for (place, state) in [(0, before), (1, Some(after))] {
        for level in state.map(book_levels).unwrap_or_default() {
            let none = (Quantity::ZERO, Quantity::ZERO);
            let change = LevelChange { side: level.side, price: level.price, quantity: none };
            let entry = levels.entry(key(&level)).or_insert(change);
            if place == 0 {
                entry.quantity.0 = level.quantity;
            } else {
                entry.quantity.1 = level.quantity;
            }
        }
    }
    levels.into_values().filter(|change| change.quantity.0 != change.quantity.1).collect()
}

fn order_changes(before: Option<SymbolState<'_>>, after: SymbolState<'_>) -> Vec<OrderChange> {
    let by_number = |state: SymbolState<'_>| -> BTreeMap<OrderId, Order> {
        state.orders().map(|order| (order.order_id, order)).collect()
    };
    let mut gone = before.map(by_number).unwrap_or_default();
    let mut changes = BTreeMap::new();
    for (order_id, order) in by_number(after) {
        match gone.remove(&order_id) {
            None => drop(changes.insert(order_id, OrderChange::Came(order))),
            Some(was) if was != order => drop(changes.insert(order_id, OrderChange::Changed(was, order))),
            Some(_) => {}
        }
    }
    changes.extend(gone.into_iter().map(|(order_id, order)| (order_id, OrderChange::Gone(order))));
    changes.into_values().collect()
}
