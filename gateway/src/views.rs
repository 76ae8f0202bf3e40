//! What readers see: symbols, depth, tickers, recent trades, open orders, balances.
//!
//! Built from `Restored`, kept by `Applied`, written by one thread (the feed's) before anyone is told of what happened.
//! So whoever has an answer or a stream's message finds it here, and nothing here is older than what was sent. Each symbol
//! and each group of accounts has its own lock; a reader holds one for as long as it copies what it asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use engine::access::{AccessChange, KeyRules, User};
use engine::account::{FEE_ACCOUNT, OrderCount};
use engine::command::{AccountSettings, ApiKey, ApiKeyKind, ExchangeLimits, OrderCountLimit};
use engine::commission::CommissionRates;
use engine::event::{OrderList, OrderListStatus, Trade};
use engine::order::Side;
use engine::quotes::QuoteTerms;
use engine::snapshot::{AccountState, SymbolState};
use engine::symbol::Symbol;
use engine::{Amount, AssetId, Event, OrderId, Price, Quantity, Sequence, Snapshot, SymbolId, Time, TradeId, Uid};
use journal::{
    Applied, CandleReader, FiledList, HistoryError, KnownOrder, MarketTrade, OpenOrders, list_number, symbol_of,
};
use parking_lot::RwLock;

use crate::klines::{Candle, Interval, Klines, Offset};
use crate::secrets::KeyRing;

/// How many trades, and how many aggregate trades, of a symbol are kept in memory.
pub const RECENT_TRADES: usize = 1_000;
/// How many trades are looked at for them after a start.
const RECENT_LOOK_MAX: usize = 100 * RECENT_TRADES;
/// Into how many groups the accounts are divided, each with its own lock.
const ACCOUNT_GROUPS: usize = 64;
/// A day, in microseconds.
const DAY: u64 = 86_400_000_000;
/// Over how many minutes `avgPrice` averages.
pub const AVERAGE_PRICE_MINUTES: u64 = 5;

/// An asset's name and decimals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetInfo {
    /// Such as `BTC`.
    pub name: String,
    /// Decimals of its smallest unit.
    pub scale: u8,
}

/// What is listed, what limits and commissions hold, and which keys work. Never changed, only replaced.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// By asset id.
    pub assets: Vec<AssetInfo>,
    /// By symbol id.
    pub symbols: Vec<Symbol>,
    /// Symbols by name.
    pub by_name: BTreeMap<String, SymbolId>,
    /// Assets by name.
    pub asset_by_name: BTreeMap<String, AssetId>,
    /// API keys by what the client sends.
    pub api_keys: BTreeMap<String, ApiKey>,
    /// What binds the keys that are bound.
    pub key_rules: BTreeMap<String, KeyRules>,
    /// Users by the name they log in with.
    pub users: BTreeMap<String, User>,
    /// The limits over all symbols.
    pub limits: ExchangeLimits,
    /// What tier n pays is at n - 1.
    pub commission_tiers: Vec<Option<CommissionRates>>,
    /// The symbols that are quote-driven, and how.
    pub quote_driven: BTreeMap<SymbolId, QuoteTerms>,
}

impl Catalog {
    /// The symbol of that name, which is in capitals.
    pub fn symbol(&self, name: &str) -> Option<&Symbol> {
        self.by_name.get(name).and_then(|id| self.symbols.get(id.0 as usize))
    }

    /// What an account pays as its standard commission in a symbol.
    pub fn standard_commission(&self, symbol: &Symbol, settings: &AccountSettings) -> CommissionRates {
        let tier = usize::from(settings.commission_tier).checked_sub(1);
        let of_tier = tier.and_then(|tier| self.commission_tiers.get(tier).copied().flatten());
        of_tier.unwrap_or(symbol.config.commission.standard)
    }

    fn set_commission_tier(&mut self, tier: u16, rates: CommissionRates) {
        let tier = usize::from(tier);
        if self.commission_tiers.len() < tier {
            self.commission_tiers.resize(tier, None);
        }
        if let Some(place) = tier.checked_sub(1).and_then(|at| self.commission_tiers.get_mut(at)) {
            *place = Some(rates);
        }
    }

    fn add_asset(&mut self, name: &str, scale: u8) {
        self.asset_by_name.insert(name.to_owned(), AssetId(self.assets.len() as u32));
        self.assets.push(AssetInfo { name: name.to_owned(), scale });
    }

    fn add_symbol(&mut self, symbol: &Symbol) {
        self.by_name.insert(symbol.config.name.clone(), symbol.id);
        self.symbols.push(symbol.clone());
    }
}

/// A part of the book, best prices first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepthView {
    /// The last change that is in it.
    pub last_update_id: u64,
    /// From the highest down.
    pub bids: Vec<(Price, Quantity)>,
    /// From the lowest up.
    pub asks: Vec<(Price, Quantity)>,
}

/// The best prices and what rests there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BookTicker {
    /// The last change of the book.
    pub update_id: u64,
    /// The best bid, if there is one.
    pub bid: Option<(Price, Quantity)>,
    /// The best ask, if there is one.
    pub ask: Option<(Price, Quantity)>,
}

/// The trades of one taker order at one price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AggregateTrade {
    /// Its number within the symbol.
    pub id: u64,
    /// The price.
    pub price: Price,
    /// The sum.
    pub quantity: Quantity,
    /// The first of them.
    pub first_trade_id: TradeId,
    /// The last of them.
    pub last_trade_id: TradeId,
    /// When.
    pub time: Time,
    /// The taker's side.
    pub taker_side: Side,
}

/// The statistics of a window that ends now.
///
/// The 24-hour window begins on a whole second and every other one on a whole minute, as the venue's `/ticker` does: it is
/// up to 999 ms, or 59,999 ms, longer than its name says, and holds exactly the trades since the `open_time` it prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticker {
    /// What traded; flat at the last price (zero before the first trade) when nothing did.
    pub sum: Candle,
    /// The last price before the window.
    pub previous_close: Price,
    /// The quantity of the last trade.
    pub last_quantity: Quantity,
    /// Quote per whole base, averaged by volume, in smallest quote units; zero when nothing traded.
    pub weighted_average: Amount,
    /// The best prices.
    pub book: BookTicker,
}

impl Ticker {
    /// The last price less the first, in ticks.
    pub fn change_ticks(&self) -> i128 {
        i128::from(self.sum.close.0) - i128::from(self.sum.open.0)
    }

    /// The change in thousandths of a percent of the first price, rounded half away from zero.
    pub fn change_millipercent(&self) -> i128 {
        let open = i128::from(self.sum.open.0);
        if open == 0 {
            return 0;
        }
        let scaled = self.change_ticks() * 100_000;
        (scaled.abs() + open / 2) / open * scaled.signum()
    }
}

/// The average price that `avgPrice` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AveragePrice {
    /// Quote per whole base in smallest quote units: averaged by volume over [`AVERAGE_PRICE_MINUTES`], or the last price.
    pub price: Amount,
    /// When the last trade was.
    pub last_trade_time: Time,
}

/// `quote / base` in smallest quote units per whole base of `base_scale` decimals, rounded half up; zero for no base.
fn average(quote: Amount, base: Amount, base_scale: u8) -> Amount {
    if base.is_zero() {
        return Amount::ZERO;
    }
    // Digit by digit, since quote × 10^scale need not fit. A base that is near its range would overflow by ten.
    let (mut result, mut rest) = (quote.0 / base.0, quote.0 % base.0);
    for _ in 0..base_scale {
        let Some(digit) = rest.checked_mul(10) else { return Amount::ZERO };
        result = result.saturating_mul(10).saturating_add(digit / base.0);
        rest = digit % base.0;
    }
    Amount(result.saturating_add(u128::from(rest >= base.0.div_ceil(2))))
}

/// What an [`Applied`] did that its events alone do not tell, for the streams. The feed keeps one and clears it.
#[derive(Debug, Default)]
pub struct Changes {
    /// The orders after each event that says only what changed of them, in order: of a trade or a prevented match the
    /// taker's and the maker's, of a replaced order its own.
    pub orders: Vec<KnownOrder>,
    /// The trades that were not known before, in order.
    pub trades: Vec<MarketTrade>,
    /// The best prices after each command that changed them, in order.
    pub best: Vec<(SymbolId, BookTicker)>,
    /// The levels that changed, in order.
    pub levels: Vec<LevelChange>,
}

/// A price level has this quantity now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelChange {
    /// Which book.
    pub symbol: SymbolId,
    /// Which side of it.
    pub side: Side,
    /// Which level.
    pub price: Price,
    /// What rests there; zero removes it.
    pub quantity: Quantity,
    /// One more than the symbol's last.
    pub update_id: u64,
}

impl Changes {
    /// Ready for the next [`Applied`].
    pub fn clear(&mut self) {
        self.orders.clear();
        self.trades.clear();
        self.best.clear();
        self.levels.clear();
    }
}

/// What readers see.
pub struct Views {
    klines: Arc<Klines>,
    catalog: ArcSwap<Catalog>,
    markets: ArcSwap<Vec<Arc<RwLock<Market>>>>,
    accounts: [RwLock<BTreeMap<Uid, Account>>; ACCOUNT_GROUPS],
    totals: RwLock<Totals>,
    /// What an operator or a source outside says that symbols are worth. Not in the catalog, which is copied when it changes.
    reference_prices: RwLock<BTreeMap<SymbolId, Price>>,
    sequence: AtomicU64,
    time: AtomicU64,
    secrets: OnceLock<Arc<KeyRing>>,
}

/// For each asset: what all accounts have together, and deposits less withdrawals. Equal after every entry.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    accounts: Vec<u128>,
    supply: Vec<u128>,
}

/// One symbol.
#[derive(Debug, Default)]
struct Market {
    book: BookTicker,
    bids: BTreeMap<Price, Quantity>,
    asks: BTreeMap<Price, Quantity>,
    orders: OpenOrders,
    trades: VecDeque<MarketTrade>,
    aggregates: VecDeque<AggregateTrade>,
    counts: MarketCounts,
}

/// What happened in a symbol since this process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct MarketCounts {
    orders: u64,
    trades: u64,
}

/// How a symbol stands, for who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarketFigures {
    /// Which one.
    pub symbol: SymbolId,
    /// Orders accepted since this process began.
    pub orders: u64,
    /// Trades since then.
    pub trades: u64,
    /// Orders that are open in it.
    pub open_orders: usize,
    /// The best prices.
    pub book: BookTicker,
    /// When the last trade was.
    pub last_trade_at: Option<Time>,
}

/// One account.
#[derive(Debug, Default)]
struct Account {
    balances: BTreeMap<AssetId, (Amount, Amount)>,
    open_orders: BTreeSet<(SymbolId, OrderId)>,
    /// By public number.
    open_lists: BTreeMap<u64, FiledList>,
    settings: AccountSettings,
    /// The unfilled orders it placed, in the windows of [`ExchangeLimits::order_counts`].
    order_counts: [OrderCount; 2],
    updated_at: Time,
}

impl Account {
    fn restore(state: &AccountState, time: Time) -> Account {
        let balances = state.balances.iter().map(|&(asset, free, locked)| (asset, (free, locked))).collect();
        let (settings, order_counts) = (state.settings, state.order_counts);
        Account { balances, settings, order_counts, updated_at: time, ..Account::default() }
    }
}

/// The number of the window that a time is in.
fn window(limit: &OrderCountLimit, time: Time) -> u64 {
    time.0 / 1_000_000 / u64::from(limit.seconds.max(1))
}

impl Views {
    /// An exchange with nothing in it. Statistics are read from `klines`.
    pub fn new(klines: Arc<Klines>) -> Views {
        Views {
            klines,
            catalog: ArcSwap::default(),
            markets: ArcSwap::default(),
            accounts: std::array::from_fn(|_| RwLock::default()),
            totals: RwLock::default(),
            reference_prices: RwLock::default(),
            sequence: AtomicU64::new(0),
            time: AtomicU64::new(0),
            secrets: OnceLock::new(),
        }
    }

    /// With which keys secrets are opened; said once, before the first of them comes.
    pub fn open_secrets_with(&self, keys: Arc<KeyRing>) {
        // Who says it twice means the same.
        let _ = self.secrets.set(keys);
    }

    /// A key that requests can be checked with. One that does not open here stays sealed, and lets nobody in.
    fn opened(&self, key: &ApiKey) -> ApiKey {
        if !matches!(key.kind, ApiKeyKind::SealedHmac { .. }) {
            return key.clone();
        }
        match self.secrets.get().map(|keys| keys.open_api_key(key)) {
            Some(Ok(opened)) => opened,
            Some(Err(reason)) => {
                tracing::warn!(uid = %key.uid, "the secret of an API key cannot be opened, so it lets nobody in: {reason}");
                key.clone()
            }
            None => key.clone(),
        }
    }

    /// What an operator or a source outside says that a symbol is worth.
    pub fn reference_price(&self, symbol: SymbolId) -> Option<Price> {
        self.reference_prices.read().get(&symbol).copied()
    }

    // What the feed does.

    /// Forgets everything; this is the state now. Trades and candles are the history's to give: [`Views::recall`].
    pub fn restore(&self, snapshot: &Snapshot) {
        let mut catalog = Catalog::default();
        snapshot.assets().for_each(|state| catalog.add_asset(&state.asset.name, state.asset.scale));
        snapshot.symbols().for_each(|state| catalog.add_symbol(state.symbol()));
        (catalog.limits, catalog.commission_tiers) = (*snapshot.limits(), snapshot.commission_tiers().to_vec());
        catalog.api_keys = snapshot.api_keys().map(|key| (key.api_key.clone(), self.opened(key))).collect();
        catalog.key_rules = snapshot.key_rules().map(|(key, rules)| (key.clone(), rules.clone())).collect();
        catalog.users = snapshot.users().map(|user| (user.terms.name.clone(), user.clone())).collect();
        let referenced = |state: SymbolState| Some((state.symbol().id, state.reference_price()?));
        *self.reference_prices.write() = snapshot.symbols().filter_map(referenced).collect();
        let driven = |state: SymbolState| Some((state.symbol().id, state.quote_terms()?));
        catalog.quote_driven = snapshot.symbols().filter_map(driven).collect();
        self.klines.reset(catalog.symbols.iter());
        self.catalog.store(Arc::new(catalog));
        let known = self.markets.load();
        let counts = |at: usize| known.get(at).map_or_else(MarketCounts::default, |market| market.read().counts);
        let markets = snapshot.symbols().enumerate().map(|(at, state)| restore_market(state, counts(at)));
        self.markets.store(Arc::new(markets.collect()));
        self.accounts.iter().for_each(|group| group.write().clear());
        let supply: Vec<u128> = snapshot.assets().map(|state| state.supply.0).collect();
        let mut totals = Totals { accounts: vec![0; supply.len()], supply };
        for state in snapshot.accounts() {
            for &(asset, free, locked) in &state.balances {
                let total = &mut totals.accounts[asset.0 as usize];
                *total = total.wrapping_add(free.0).wrapping_add(locked.0);
            }
            self.group(state.uid).write().insert(state.uid, Account::restore(&state, snapshot.time()));
        }
        *self.totals.write() = totals;
        for order in snapshot.symbols().flat_map(|state| state.orders()) {
            let mut group = self.group(order.uid).write();
            group.entry(order.uid).or_default().open_orders.insert((order.symbol, order.order_id));
        }
        for list in snapshot.symbols().flat_map(|state| state.lists()) {
            self.keep_list(&list.list, list.list.created_at);
        }
        self.advance(snapshot.sequence(), snapshot.time());
    }

    /// What history says of an open order, before the first [`Views::apply`].
    pub fn recall_order(&self, filed: &KnownOrder) {
        if let Some(market) = self.market(filed.order.symbol) {
            market.write().orders.recall(filed);
        }
    }

    /// A symbol's newest trades and candles as history has them, before the first [`Views::apply`].
    pub fn recall(&self, symbol: SymbolId, history: &CandleReader<'_>) -> Result<(), HistoryError> {
        let Some(market) = self.market(symbol) else { return Ok(()) };
        let first = first_recent(history)?;
        let mut market = market.write();
        for trade in history.trades(first) {
            market.add_trade(&trade?);
        }
        drop(market);
        self.klines.recall(symbol, history)
    }

    /// A trade that is known to have been, where there is no history.
    #[cfg(test)]
    pub(crate) fn recall_trade(&self, trade: &MarketTrade) {
        let market = self.market(trade.trade.symbol).expect("it is listed");
        if market.write().add_trade(trade) {
            self.klines.add_trades(trade.trade.symbol, [trade]);
        }
    }

    /// This happened next. `changes` is added to.
    pub fn apply(&self, applied: &Applied, changes: &mut Changes) {
        let first_trade = changes.trades.len();
        let mut catalog = None;
        let mut totals = self.totals.write();
        for index in 0..applied.len() {
            let events = applied.events_of(index);
            self.apply_to_catalog(events, &mut catalog, &mut totals);
            self.apply_to_market(events, applied.time, applied.sequence(index), changes);
            self.apply_to_accounts(events, applied.time, &mut totals);
        }
        drop(totals);
        if let Some(catalog) = catalog {
            self.catalog.store(Arc::new(catalog));
        }
        for run in changes.trades[first_trade..].chunk_by(|a, b| a.trade.symbol == b.trade.symbol) {
            self.klines.add_trades(run[0].trade.symbol, run);
        }
        self.advance(applied.last_sequence(), applied.time);
    }

    /// Only when something is listed is the catalog copied, once for all of an entry.
    fn apply_to_catalog(&self, events: &[Event], catalog: &mut Option<Catalog>, totals: &mut Totals) {
        for event in events {
            if let &Event::ReferencePriceChanged { symbol, price } = event {
                let mut prices = self.reference_prices.write();
                match price {
                    Some(price) => prices.insert(symbol, price),
                    None => prices.remove(&symbol),
                };
            }
            let listed = matches!(
                event,
                Event::AssetAdded { .. }
                    | Event::SymbolAdded(_)
                    | Event::SymbolConfigured(_)
                    | Event::SymbolStatusChanged { .. }
                    | Event::ExchangeConfigured(_)
                    | Event::CommissionTierChanged { .. }
                    | Event::QuoteDrivenChanged { .. }
                    | Event::ApiKeyAdded(_)
                    | Event::AccessChanged(_)
            );
            if !listed {
                continue;
            }
            let next = catalog.get_or_insert_with(|| Catalog::clone(&self.catalog.load()));
            match event {
                Event::AssetAdded { added, .. } => {
                    next.add_asset(&added.name, added.scale);
                    totals.accounts.push(0);
                    totals.supply.push(0);
                }
                Event::SymbolAdded(symbol) => {
                    next.add_symbol(symbol);
                    let mut markets = Vec::clone(&self.markets.load());
                    markets.push(Arc::default());
                    self.markets.store(Arc::new(markets));
                    self.klines.add_symbol(symbol);
                }
                Event::SymbolConfigured(symbol) => {
                    if let Some(listed) = next.symbols.get_mut(symbol.id.0 as usize) {
                        *listed = Symbol::clone(symbol);
                    }
                }
                Event::ExchangeConfigured(limits) => next.limits = **limits,
                &Event::CommissionTierChanged { tier, rates } => next.set_commission_tier(tier, rates),
                Event::SymbolStatusChanged { symbol, status, .. } => {
                    if let Some(symbol) = next.symbols.get_mut(symbol.0 as usize) {
                        symbol.status = *status;
                    }
                }
                &Event::QuoteDrivenChanged { symbol, terms: Some(terms) } => {
                    next.quote_driven.insert(symbol, terms);
                }
                Event::QuoteDrivenChanged { symbol, terms: None } => {
                    next.quote_driven.remove(symbol);
                }
                Event::ApiKeyAdded(key) => {
                    next.api_keys.insert(key.api_key.clone(), self.opened(key));
                }
                Event::AccessChanged(change) => match &**change {
                    AccessChange::ApiKeyConfigured { key, rules } => {
                        next.key_rules.insert(key.api_key.clone(), rules.clone());
                        next.api_keys.insert(key.api_key.clone(), self.opened(key));
                    }
                    AccessChange::ApiKeyRemoved { api_key, .. } => {
                        next.api_keys.remove(api_key);
                        next.key_rules.remove(api_key);
                    }
                    AccessChange::UserChanged(user) => {
                        next.users.insert(user.terms.name.clone(), user.clone());
                    }
                    AccessChange::UserRemoved { name } => {
                        next.users.remove(name);
                    }
                    AccessChange::Noted(_) => {}
                },
                _ => {}
            }
        }
    }

    /// The events of one command; those of one symbol under one lock. Most commands concern one symbol.
    fn apply_to_market(&self, events: &[Event], time: Time, sequence: Sequence, changes: &mut Changes) {
        for run in events.chunk_by(|a, b| symbol_of(a) == symbol_of(b)) {
            let Some(symbol) = symbol_of(&run[0]) else { continue };
            let Some(market) = self.market(symbol) else { continue };
            let mut market = market.write();
            let (bid, ask) = (market.book.bid, market.book.ask);
            for event in run {
                self.apply_order_event(event, &mut market, time, sequence, changes);
            }
            market.book.bid = market.bids.last_key_value().map(|(&price, &quantity)| (price, quantity));
            market.book.ask = market.asks.first_key_value().map(|(&price, &quantity)| (price, quantity));
            if (bid, ask) != (market.book.bid, market.book.ask) {
                changes.best.push((symbol, market.book));
            }
        }
    }

    fn apply_to_accounts(&self, events: &[Event], time: Time, totals: &mut Totals) {
        for event in events {
            match event {
                Event::AccountOpened { uid } => {
                    self.group(*uid).write().entry(*uid).or_default();
                }
                &Event::BalanceChanged { uid, asset, free, locked } => {
                    let mut group = self.group(uid).write();
                    let account = group.entry(uid).or_default();
                    let before = account.balances.insert(asset, (free, locked)).unwrap_or_default();
                    account.updated_at = time;
                    let total = &mut totals.accounts[asset.0 as usize];
                    let sum = |(free, locked): (Amount, Amount)| free.0.wrapping_add(locked.0);
                    *total = total.wrapping_add(sum((free, locked))).wrapping_sub(sum(before));
                }
                Event::AccountConfigured { uid, settings } => {
                    self.group(*uid).write().entry(*uid).or_default().settings = *settings;
                }
                Event::OrderListChanged(list) => self.keep_list(list, time),
                Event::OrderCountChanged { uid, counts } => {
                    let limits = self.catalog.load().limits.order_counts;
                    let count = |at: usize| OrderCount { window: window(&limits[at], time), count: counts[at] };
                    self.group(*uid).write().entry(*uid).or_default().order_counts = [count(0), count(1)];
                }
                Event::Deposited(transfer) => {
                    let supply = &mut totals.supply[transfer.asset.0 as usize];
                    *supply = supply.wrapping_add(transfer.amount.0);
                }
                Event::Withdrawn(transfer) => {
                    let supply = &mut totals.supply[transfer.asset.0 as usize];
                    *supply = supply.wrapping_sub(transfer.amount.0);
                }
                _ => {}
            }
        }
    }

    fn apply_order_event(
        &self,
        event: &Event,
        market: &mut Market,
        time: Time,
        sequence: Sequence,
        changes: &mut Changes,
    ) {
        let first = changes.orders.len();
        market.orders.follow(event, time, |known| changes.orders.push(known.clone()));
        let told_of = match event {
            Event::OrderAccepted(order) => {
                let mut group = self.group(order.uid).write();
                group.entry(order.uid).or_default().open_orders.insert((order.symbol, order.order_id));
                market.counts.orders += 1;
                0
            }
            Event::Trade(trade) => {
                let trade = MarketTrade { time, sequence, trade: *trade };
                if market.add_trade(&trade) {
                    market.counts.trades += 1;
                    changes.trades.push(trade);
                }
                2
            }
            Event::TradePrevented(_) => 2,
            Event::OrderReplaced { .. } => 1,
            &Event::LevelChanged { symbol, side, price, quantity, update_id } => {
                market.set_level(side, price, quantity);
                market.book.update_id = update_id;
                changes.levels.push(LevelChange { symbol, side, price, quantity, update_id });
                0
            }
            _ => 0,
        };
        for KnownOrder { order, .. } in &changes.orders[first..] {
            if !order.status.is_open()
                && let Some(account) = self.group(order.uid).write().get_mut(&order.uid)
            {
                account.open_orders.remove(&(order.symbol, order.order_id));
            }
        }
        changes.orders.truncate(first + told_of);
    }

    fn keep_list(&self, list: &OrderList, time: Time) {
        let number = list_number(list.symbol, list.order_list_id);
        let mut group = self.group(list.uid).write();
        let lists = &mut group.entry(list.uid).or_default().open_lists;
        if list.status == OrderListStatus::AllDone {
            lists.remove(&number);
        } else {
            lists.insert(number, FiledList { time, list: list.clone() });
        }
    }

    fn advance(&self, sequence: Sequence, time: Time) {
        self.time.store(time.0, Ordering::Release);
        self.sequence.store(sequence.0, Ordering::Release);
    }

    fn market(&self, symbol: SymbolId) -> Option<Arc<RwLock<Market>>> {
        self.markets.load().get(symbol.0 as usize).cloned()
    }

    fn group(&self, uid: Uid) -> &RwLock<BTreeMap<Uid, Account>> {
        &self.accounts[(uid.0 % ACCOUNT_GROUPS as u64) as usize]
    }

    // What readers ask.

    /// The last command that is in the views.
    pub fn sequence(&self) -> Sequence {
        Sequence(self.sequence.load(Ordering::Acquire))
    }

    /// The time of that command.
    pub fn time(&self) -> Time {
        Time(self.time.load(Ordering::Acquire))
    }

    /// What is listed and which keys work.
    pub fn symbols(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// The best `limit` levels of each side.
    pub fn depth(&self, symbol: SymbolId, limit: usize) -> DepthView {
        let Some(market) = self.market(symbol) else {
            return DepthView { last_update_id: 0, bids: Vec::new(), asks: Vec::new() };
        };
        let market = market.read();
        DepthView {
            last_update_id: market.book.update_id,
            bids: market.bids.iter().rev().take(limit).map(|(&price, &quantity)| (price, quantity)).collect(),
            asks: market.asks.iter().take(limit).map(|(&price, &quantity)| (price, quantity)).collect(),
        }
    }

    /// The best prices.
    pub fn book_ticker(&self, symbol: SymbolId) -> BookTicker {
        self.market(symbol).map_or(BookTicker::default(), |market| market.read().book)
    }

    /// The last trade.
    pub fn last_trade(&self, symbol: SymbolId) -> Option<MarketTrade> {
        self.market(symbol)?.read().trades.back().copied()
    }

    /// The last `limit` trades, oldest first; at most [`RECENT_TRADES`].
    pub fn recent_trades(&self, symbol: SymbolId, limit: usize) -> Vec<MarketTrade> {
        self.market(symbol).map_or(Vec::new(), |market| last(&market.read().trades, limit))
    }

    /// The last `limit` aggregate trades, oldest first; at most [`RECENT_TRADES`].
    pub fn recent_aggregates(&self, symbol: SymbolId, limit: usize) -> Vec<AggregateTrade> {
        self.market(symbol).map_or(Vec::new(), |market| last(&market.read().aggregates, limit))
    }

    /// The statistics of the last 24 hours.
    pub fn ticker_24h(&self, symbol: SymbolId, now: Time) -> Ticker {
        let start = Time(now.0.saturating_sub(DAY));
        self.ticker_since(symbol, Interval::Second1.open_time(start, Offset::UTC), now)
    }

    /// The statistics of the last `window` microseconds.
    pub fn rolling(&self, symbol: SymbolId, window: u64, now: Time) -> Ticker {
        let start = Time(now.0.saturating_sub(window));
        self.ticker_since(symbol, Interval::Minute1.open_time(start, Offset::UTC), now)
    }

    /// The statistics since `start`, which is a whole second.
    pub fn ticker_since(&self, symbol: SymbolId, start: Time, now: Time) -> Ticker {
        let window = self.klines.since(symbol, start, now);
        let sum = window.map_or(Candle::flat(start, now, Price(0)), |window| window.sum);
        Ticker {
            sum,
            previous_close: window.map_or(Price(0), |window| window.previous_close),
            last_quantity: self.last_trade(symbol).map_or(Quantity::ZERO, |trade| trade.trade.quantity),
            weighted_average: average(sum.quote_volume, sum.volume, self.base_scale(symbol)),
            book: self.book_ticker(symbol),
        }
    }

    /// The average price of the last minutes.
    pub fn average_price(&self, symbol: SymbolId, now: Time) -> AveragePrice {
        let start = Time(now.0.saturating_sub(AVERAGE_PRICE_MINUTES * 60_000_000));
        let window = self.klines.since(symbol, Interval::Second1.open_time(start, Offset::UTC), now);
        let catalog = self.catalog.load();
        let price = match (window, catalog.symbols.get(symbol.0 as usize)) {
            (Some(window), Some(symbol)) if window.sum.trade_count == 0 => symbol.scale.price_amount(window.sum.close),
            (Some(window), Some(_)) => average(window.sum.quote_volume, window.sum.volume, self.base_scale(symbol)),
            _ => Amount::ZERO,
        };
        AveragePrice { price, last_trade_time: self.last_trade(symbol).map_or(Time(0), |trade| trade.time) }
    }

    fn base_scale(&self, symbol: SymbolId) -> u8 {
        let catalog = self.catalog.load();
        let base = catalog.symbols.get(symbol.0 as usize).map(|symbol| symbol.config.base);
        base.and_then(|base| catalog.assets.get(base.0 as usize)).map_or(0, |asset| asset.scale)
    }

    /// A user's open orders, of one symbol or of all, by symbol and order id.
    pub fn open_orders(&self, uid: Uid, symbol: Option<SymbolId>) -> Vec<KnownOrder> {
        let ids: Vec<(SymbolId, OrderId)> = match self.group(uid).read().get(&uid) {
            None => return Vec::new(),
            Some(account) => match symbol {
                None => account.open_orders.iter().copied().collect(),
                Some(symbol) => {
                    account.open_orders.range((symbol, OrderId(0))..=(symbol, OrderId(u64::MAX))).copied().collect()
                }
            },
        };
        let mut orders = Vec::with_capacity(ids.len());
        for run in ids.chunk_by(|a, b| a.0 == b.0) {
            if let Some(market) = self.market(run[0].0) {
                let market = market.read();
                orders.extend(run.iter().filter_map(|(_, order_id)| market.orders.get(*order_id)).cloned());
            }
        }
        orders
    }

    /// An order that is open.
    pub fn open_order(&self, symbol: SymbolId, order_id: OrderId) -> Option<KnownOrder> {
        self.market(symbol)?.read().orders.get(order_id).cloned()
    }

    /// A user's lists that are under way, by public number.
    pub fn open_lists(&self, uid: Uid) -> Vec<FiledList> {
        let group = self.group(uid).read();
        group.get(&uid).map_or(Vec::new(), |account| account.open_lists.values().cloned().collect())
    }

    /// How an account is treated.
    pub fn settings(&self, uid: Uid) -> AccountSettings {
        self.group(uid).read().get(&uid).map_or_else(AccountSettings::default, |account| account.settings)
    }

    /// How many unfilled orders an account may place, in each window.
    pub fn order_limits(&self) -> [OrderCountLimit; 2] {
        self.catalog.load().limits.order_counts
    }

    /// The unfilled orders that an account placed in the windows that `now` is in.
    pub fn order_counts(&self, uid: Uid, now: Time) -> [u32; 2] {
        let limits = self.order_limits();
        let counts = self.group(uid).read().get(&uid).map_or_else(Default::default, |account| account.order_counts);
        // A window that is over counts nothing.
        [0, 1].map(|at| if counts[at].window == window(&limits[at], now) { counts[at].count } else { 0 })
    }

    /// What a user has, by asset: free and locked.
    pub fn balances(&self, uid: Uid) -> Vec<(AssetId, Amount, Amount)> {
        let group = self.group(uid).read();
        let balances = group.get(&uid).map(|account| &account.balances);
        balances.into_iter().flatten().map(|(&asset, &(free, locked))| (asset, free, locked)).collect()
    }

    /// Whether there is such an account.
    pub fn account_exists(&self, uid: Uid) -> bool {
        uid != FEE_ACCOUNT && self.group(uid).read().contains_key(&uid)
    }

    /// When an account's balances last changed; the start of the exchange's time for an account that never had any.
    pub fn account_update_time(&self, uid: Uid) -> Time {
        self.group(uid).read().get(&uid).map_or(Time(0), |account| account.updated_at)
    }

    /// Whether, of every asset, all accounts together have deposits less withdrawals. For metrics: the engine asserts it.
    pub fn is_conserved(&self) -> bool {
        let totals = self.totals.read();
        totals.accounts == totals.supply
    }

    /// How each symbol stands, for metrics.
    pub fn figures(&self) -> Vec<MarketFigures> {
        let figures = |(at, market): (usize, &Arc<RwLock<Market>>)| {
            let market = market.read();
            MarketFigures {
                symbol: SymbolId(u32::try_from(at).unwrap_or(u32::MAX)),
                orders: market.counts.orders,
                trades: market.counts.trades,
                open_orders: market.orders.len(),
                book: market.book,
                last_trade_at: market.trades.back().map(|trade| trade.time),
            }
        };
        self.markets.load().iter().enumerate().map(figures).collect()
    }
}

impl Market {
    fn set_level(&mut self, side: Side, price: Price, quantity: Quantity) {
        let levels = match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        };
        match quantity {
            Quantity::ZERO => levels.remove(&price),
            quantity => levels.insert(price, quantity),
        };
    }

    /// Whether the trade was new. History, read at the start, may be ahead of the log's replay.
    fn add_trade(&mut self, trade: &MarketTrade) -> bool {
        if self.trades.back().is_some_and(|last| last.trade.trade_id >= trade.trade.trade_id) {
            return false;
        }
        push_recent(&mut self.trades, *trade);
        let Trade { aggregate_id, price, quantity, trade_id, taker_side, .. } = trade.trade;
        match self.aggregates.back_mut() {
            Some(last) if last.id == aggregate_id => {
                // The sum is part of the taker's quantity, so it fits.
                last.quantity = Quantity(last.quantity.0.saturating_add(quantity.0));
                last.last_trade_id = trade_id;
            }
            _ => push_recent(
                &mut self.aggregates,
                AggregateTrade {
                    id: aggregate_id,
                    price,
                    quantity,
                    first_trade_id: trade_id,
                    last_trade_id: trade_id,
                    time: trade.time,
                    taker_side,
                },
            ),
        }
        true
    }
}

fn restore_market(state: SymbolState, counts: MarketCounts) -> Arc<RwLock<Market>> {
    let mut market = Market {
        counts,
        bids: state.levels(Side::Buy).collect(),
        asks: state.levels(Side::Sell).collect(),
        orders: OpenOrders::restore(state.orders().map(KnownOrder::from)),
        ..Market::default()
    };
    market.book = BookTicker {
        update_id: state.counters().update,
        bid: market.bids.last_key_value().map(|(&price, &quantity)| (price, quantity)),
        ask: market.asks.first_key_value().map(|(&price, &quantity)| (price, quantity)),
    };
    Arc::new(RwLock::new(market))
}

/// From which trade on the recent ones are to be read, so that each aggregate trade among them is whole.
fn first_recent(history: &CandleReader<'_>) -> Result<TradeId, HistoryError> {
    let (mut first, mut whole, mut newest) = (TradeId(0), None, None);
    let (mut trades, mut aggregate) = (0, 0);
    for trade in history.latest_trades() {
        let Trade { trade_id, aggregate_id, .. } = trade?.trade;
        let newest = *newest.get_or_insert(aggregate_id);
        if trades > 0 && aggregate_id != aggregate {
            whole = Some(first);
            let enough = trades >= RECENT_TRADES && newest.saturating_sub(aggregate) + 1 >= RECENT_TRADES as u64;
            if enough || trades >= RECENT_LOOK_MAX {
                break;
            }
        } else if trades >= RECENT_LOOK_MAX && whole.is_some() {
            break;
        }
        (first, aggregate, trades) = (trade_id, aggregate_id, trades + 1);
    }
    // The oldest that is kept may be the middle of one.
    Ok(if trades >= RECENT_TRADES { whole.unwrap_or(first) } else { first })
}

fn push_recent<T>(recent: &mut VecDeque<T>, item: T) {
    if recent.len() == RECENT_TRADES {
        recent.pop_front();
    }
    recent.push_back(item);
}

fn last<T: Copy>(recent: &VecDeque<T>, limit: usize) -> Vec<T> {
    recent.range(recent.len().saturating_sub(limit)..).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random_trades;

    #[test]
    fn an_average_is_rounded_half_up_and_needs_no_room_above_its_terms() {
        assert_eq!(average(Amount(200_000_000), Amount(100_000_000), 8), Amount(200_000_000));
        assert_eq!(average(Amount(100), Amount(300_000_000), 8), Amount(33));
        assert_eq!(average(Amount(200), Amount(300_000_000), 8), Amount(67));
        assert_eq!(average(Amount(1), Amount(2), 0), Amount(1));
        assert_eq!(average(Amount(u128::MAX / 100), Amount(u128::MAX / 100), 8), Amount(100_000_000));
        assert_eq!(average(Amount(5), Amount(0), 8), Amount(0));
    }

    #[test]
    fn a_percentage_is_rounded_half_away_from_zero() {
        let ticker = |open: u64, close: u64| {
            let mut sum = Candle::flat(Time(0), Time(1), Price(open));
            sum.close = Price(close);
            let nothing = (Price(0), Quantity::ZERO, Amount::ZERO, BookTicker::default());
            let (previous_close, last_quantity, weighted_average, book) = nothing;
            Ticker { sum, previous_close, last_quantity, weighted_average, book }.change_millipercent()
        };
        assert_eq!(ticker(200_000, 199_999), -1);
        assert_eq!(ticker(200_000, 200_001), 1);
        assert_eq!(ticker(300_000, 300_001), 0);
        assert_eq!(ticker(100, 125), 25_000);
        assert_eq!(ticker(0, 125), 0);
    }

    #[test]
    fn a_reference_price_holds_until_it_is_taken_back_and_over_a_restart() {
        let (mut engine, views) = (crate::testing::engine(), Views::new(Arc::new(Klines::new())));
        views.restore(&engine.snapshot());
        let set = |price| engine::Command::SetReferencePrice { symbol: SymbolId(0), price };
        let mut told = |command: &engine::Command| {
            let mut events = Vec::new();
            engine.apply(Time(1), command, &mut events);
            let ends = vec![events.len() as u32];
            views.apply(
                &Applied { first_sequence: engine.sequence(), time: Time(1), events, ends },
                &mut Changes::default(),
            );
            let restored = Views::new(Arc::new(Klines::new()));
            restored.restore(&engine.snapshot());
            let price = views.reference_price(SymbolId(0));
            assert_eq!(restored.reference_price(SymbolId(0)), price);
            price
        };
        assert_eq!(told(&set(None)), None);
        assert_eq!(told(&set(Some(Amount(5_000_000_000_000)))), Some(Price(5_000_000)));
        assert_eq!(told(&set(None)), None);
    }

    #[test]
    fn a_trade_that_history_told_before_is_not_counted_again() {
        let views = Views::new(Arc::new(Klines::new()));
        views.restore(&crate::testing::listed());
        let trades = random_trades(3, 2_000, 1_000_000);
        trades.iter().chain(&trades[1_500..]).for_each(|trade| views.recall_trade(trade));
        let now = trades[1_999].time;
        assert_eq!(views.recent_trades(SymbolId(0), 5_000), trades[1_000..]);
        assert_eq!(views.recent_aggregates(SymbolId(0), 1)[0].id, 2_000);
        assert_eq!(views.ticker_24h(SymbolId(0), now).sum.trade_count, 2_000);
    }
}
