//! What readers see: symbols, depth, tickers, recent trades, open orders, balances.
//!
//! Built from `Restored`, kept by `Applied`, written by one thread (the feed's) before anyone is told of what happened.
//! So whoever has an answer or a stream's message finds it here, and nothing here is older than what was sent.
//!
//! What commands change is under one lock, which is held for one command at a time: who reads sees all of a command, in the book,
//! the orders and the balances, or nothing of it, and who reads again sees no less. A reader holds it for as long as it copies
//! what it asked for.

mod catalog;
mod state;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use engine::account::FEE_ACCOUNT;
use engine::command::{AccountSettings, ApiKey, ApiKeyKind, OrderCountLimit};
use engine::event::Trade;
use engine::order::Side;
use engine::symbol::Symbol;
use engine::{Amount, AssetId, Event, OrderId, Price, Quantity, Sequence, Snapshot, SymbolId, Time, TradeId, Uid};
use journal::{Applied, CandleReader, FiledList, HistoryError, KnownOrder, MarketTrade};
use parking_lot::RwLock;

pub use self::catalog::{AssetInfo, Catalog};
use self::state::{Account, Market, State, window};
use crate::klines::{Candle, Interval, Klines, Offset};
use crate::secrets::KeyRing;

/// How many trades, and how many aggregate trades, of a symbol are kept in memory.
pub const RECENT_TRADES: usize = 1_000;
/// How many trades are looked at for them after a start.
const RECENT_LOOK_MAX: usize = 100 * RECENT_TRADES;
/// A day, in microseconds.
const DAY: u64 = 86_400_000_000;
/// Over how many minutes `avgPrice` averages.
pub const AVERAGE_PRICE_MINUTES: u64 = 5;

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

/// What readers see.
pub struct Views {
    klines: Arc<Klines>,
    catalog: ArcSwap<Catalog>,
    state: RwLock<State>,
    sequence: AtomicU64,
    time: AtomicU64,
    secrets: OnceLock<Arc<KeyRing>>,
}

impl Views {
    /// An exchange with nothing in it. Statistics are read from `klines`.
    pub fn new(klines: Arc<Klines>) -> Views {
        Views {
            klines,
            catalog: ArcSwap::default(),
            state: RwLock::default(),
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

    // What the feed does.

    /// Forgets everything; this is the state now. Trades and candles are the history's to give: [`Views::recall`].
    pub fn restore(&self, snapshot: &Snapshot) {
        let catalog = Catalog::restore(snapshot, |key| self.opened(key));
        let restored = State::restore(snapshot, &self.state.read());
        // What it takes the place of may be large, and goes when readers have the new one.
        let forgotten = {
            let mut state = self.state.write();
            self.klines.reset(catalog.symbols.iter());
            self.catalog.store(Arc::new(catalog));
            self.advance(snapshot.sequence(), snapshot.time());
            std::mem::replace(&mut *state, restored)
        };
        drop(forgotten);
    }

    /// What history says of an open order, before the first [`Views::apply`].
    pub fn recall_order(&self, filed: &KnownOrder) {
        if let Some(market) = self.state.write().markets.get_mut(filed.order.symbol.0 as usize) {
            market.orders.recall(filed);
        }
    }

    /// A symbol's newest trades and candles as history has them, before the first [`Views::apply`].
    pub fn recall(&self, symbol: SymbolId, history: &CandleReader<'_>) -> Result<(), HistoryError> {
        if self.market(symbol, |_| ()).is_none() {
            return Ok(());
        }
        // Nobody waits for the disk.
        let trades: Vec<MarketTrade> = history.trades(first_recent(history)?).collect::<Result<_, _>>()?;
        if let Some(market) = self.state.write().markets.get_mut(symbol.0 as usize) {
            trades.iter().for_each(|trade| _ = market.add_trade(trade));
        }
        self.klines.recall(symbol, history)
    }

    /// A trade that is known to have been, where there is no history.
    #[cfg(test)]
    pub(crate) fn recall_trade(&self, trade: &MarketTrade) {
        let symbol = trade.trade.symbol;
        if self.state.write().markets[symbol.0 as usize].add_trade(trade) {
            self.klines.add_trades(symbol, [trade]);
        }
    }

    /// This happened next. `changes` is added to.
    pub fn apply(&self, applied: &Applied, changes: &mut Changes) {
        let mut catalog = None;
        for index in 0..applied.len() {
            let (events, sequence) = (applied.events_of(index), applied.sequence(index));
            self.apply_to_catalog(events, &mut catalog);
            let first_trade = changes.trades.len();
            let mut state = self.state.write();
            state.apply(events, applied.time, sequence, changes);
            for run in changes.trades[first_trade..].chunk_by(|a, b| a.trade.symbol == b.trade.symbol) {
                self.klines.add_trades(run[0].trade.symbol, run);
            }
            // Who sees what the command did, and then asks history, waits until that has it too.
            if catalog.is_none() {
                self.advance(sequence, applied.time);
            }
        }
        if let Some(catalog) = catalog {
            self.catalog.store(Arc::new(catalog));
        }
        self.advance(applied.last_sequence(), applied.time);
    }

    /// Only when something is listed is the catalog copied, once for all of an entry.
    fn apply_to_catalog(&self, events: &[Event], catalog: &mut Option<Catalog>) {
        for event in events.iter().filter(|event| Catalog::is_about(event)) {
            let next = catalog.get_or_insert_with(|| Catalog::clone(&self.catalog.load()));
            next.follow(event, |key| self.opened(key));
            if let Event::SymbolAdded(symbol) = event {
                self.klines.add_symbol(symbol);
            }
        }
    }

    fn advance(&self, sequence: Sequence, time: Time) {
        self.time.store(time.0, Ordering::Release);
        self.sequence.store(sequence.0, Ordering::Release);
    }

    fn market<T>(&self, symbol: SymbolId, read: impl FnOnce(&Market) -> T) -> Option<T> {
        self.state.read().markets.get(symbol.0 as usize).map(read)
    }

    fn account<T>(&self, uid: Uid, read: impl FnOnce(&Account) -> T) -> Option<T> {
        self.state.read().accounts.get(&uid).map(read)
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

    /// What an operator or a source outside says that a symbol is worth.
    pub fn reference_price(&self, symbol: SymbolId) -> Option<Price> {
        self.state.read().reference_prices.get(&symbol).copied()
    }

    /// The best `limit` levels of each side.
    pub fn depth(&self, symbol: SymbolId, limit: usize) -> DepthView {
        let depth = self.market(symbol, |market| DepthView {
            last_update_id: market.book.update_id,
            bids: market.bids.iter().rev().take(limit).map(|(&price, &quantity)| (price, quantity)).collect(),
            asks: market.asks.iter().take(limit).map(|(&price, &quantity)| (price, quantity)).collect(),
        });
        depth.unwrap_or(DepthView { last_update_id: 0, bids: Vec::new(), asks: Vec::new() })
    }

    /// The best prices.
    pub fn book_ticker(&self, symbol: SymbolId) -> BookTicker {
        self.market(symbol, |market| market.book).unwrap_or_default()
    }

    /// The last trade.
    pub fn last_trade(&self, symbol: SymbolId) -> Option<MarketTrade> {
        self.market(symbol, |market| market.trades.back().copied())?
    }

    /// The last `limit` trades, oldest first; at most [`RECENT_TRADES`].
    pub fn recent_trades(&self, symbol: SymbolId, limit: usize) -> Vec<MarketTrade> {
        self.market(symbol, |market| last(&market.trades, limit)).unwrap_or_default()
    }

    /// The last `limit` aggregate trades, oldest first; at most [`RECENT_TRADES`].
    pub fn recent_aggregates(&self, symbol: SymbolId, limit: usize) -> Vec<AggregateTrade> {
        self.market(symbol, |market| last(&market.aggregates, limit)).unwrap_or_default()
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
        let price = self.average_over(symbol, AVERAGE_PRICE_MINUTES, now);
        AveragePrice { price, last_trade_time: self.last_trade(symbol).map_or(Time(0), |trade| trade.time) }
    }

    /// The average price of so many minutes, the last price where there was no trade in them; zero before the first.
    fn average_over(&self, symbol: SymbolId, minutes: u64, now: Time) -> Amount {
        let start = Time(now.0.saturating_sub(minutes.saturating_mul(60_000_000)));
        let window = self.klines.since(symbol, Interval::Second1.open_time(start, Offset::UTC), now);
        let catalog = self.catalog.load();
        match (window, catalog.symbols.get(symbol.0 as usize)) {
            (Some(window), Some(symbol)) if window.sum.trade_count == 0 => symbol.scale.price_amount(window.sum.close),
            (Some(window), Some(_)) => average(window.sum.quote_volume, window.sum.volume, self.base_scale(symbol)),
            _ => Amount::ZERO,
        }
    }

    /// What the filters measure a price by, as nearly as it is known outside the engine: what an operator or a source said,
    /// else the average price of the symbol's minutes, else the last price.
    pub fn worth(&self, symbol: &Symbol, now: Time) -> Option<Price> {
        self.reference_price(symbol.id).or_else(|| match symbol.config.average_price_minutes {
            0 => self.last_trade(symbol.id).map(|trade| trade.trade.price),
            minutes => {
                let average = self.average_over(symbol.id, minutes.into(), now);
                let ticks = average.0.checked_div(symbol.config.tick_size.0)?;
                u64::try_from(ticks).ok().filter(|&ticks| ticks > 0).map(Price)
            }
        })
    }

    fn base_scale(&self, symbol: SymbolId) -> u8 {
        let catalog = self.catalog.load();
        let base = catalog.symbols.get(symbol.0 as usize).map(|symbol| symbol.config.base);
        base.and_then(|base| catalog.assets.get(base.0 as usize)).map_or(0, |asset| asset.scale)
    }

    /// A user's open orders, of one symbol or of all, by symbol and order id.
    pub fn open_orders(&self, uid: Uid, symbol: Option<SymbolId>) -> Vec<KnownOrder> {
        let state = self.state.read();
        let Some(account) = state.accounts.get(&uid) else { return Vec::new() };
        let (from, to) = symbol.map_or((SymbolId(0), SymbolId(u32::MAX)), |symbol| (symbol, symbol));
        let open = account.open_orders.range((from, OrderId(0))..=(to, OrderId(u64::MAX)));
        open.filter_map(|&(symbol, id)| state.markets.get(symbol.0 as usize)?.orders.get(id).cloned()).collect()
    }

    /// An order that is open.
    pub fn open_order(&self, symbol: SymbolId, order_id: OrderId) -> Option<KnownOrder> {
        self.market(symbol, |market| market.orders.get(order_id).cloned())?
    }

    /// A user's lists that are under way, by public number.
    pub fn open_lists(&self, uid: Uid) -> Vec<FiledList> {
        self.account(uid, |account| account.open_lists.values().cloned().collect()).unwrap_or_default()
    }

    /// How an account is treated.
    pub fn settings(&self, uid: Uid) -> AccountSettings {
        self.account(uid, |account| account.settings).unwrap_or_default()
    }

    /// How many unfilled orders an account may place, in each window.
    pub fn order_limits(&self) -> [OrderCountLimit; 2] {
        self.catalog.load().limits.order_counts
    }

    /// The unfilled orders that an account placed in the windows that `now` is in.
    pub fn order_counts(&self, uid: Uid, now: Time) -> [u32; 2] {
        let limits = self.order_limits();
        let counts = self.account(uid, |account| account.order_counts).unwrap_or_default();
        // A window that is over counts nothing.
        [0, 1].map(|at| if counts[at].window == window(&limits[at], now) { counts[at].count } else { 0 })
    }

    /// What a user has, by asset: free and locked.
    pub fn balances(&self, uid: Uid) -> Vec<(AssetId, Amount, Amount)> {
        self.balances_and_time(uid).0
    }

    /// The same, and when that last changed; the start of the exchange's time for an account that never had any.
    pub fn balances_and_time(&self, uid: Uid) -> (Vec<(AssetId, Amount, Amount)>, Time) {
        let held = |(&asset, &(free, locked)): (&AssetId, &(Amount, Amount))| (asset, free, locked);
        let both = |account: &Account| (account.balances.iter().map(held).collect(), account.updated_at);
        self.account(uid, both).unwrap_or_default()
    }

    /// Whether there is such an account.
    pub fn account_exists(&self, uid: Uid) -> bool {
        uid != FEE_ACCOUNT && self.account(uid, |_| ()).is_some()
    }

    /// Whether, of every asset, all accounts together have deposits less withdrawals. For metrics: the engine asserts it.
    pub fn is_conserved(&self) -> bool {
        let state = self.state.read();
        state.totals.accounts == state.totals.supply
    }

    /// How each symbol stands, for metrics.
    pub fn figures(&self) -> Vec<MarketFigures> {
        let figures = |(at, market): (usize, &Market)| MarketFigures {
            symbol: SymbolId(u32::try_from(at).unwrap_or(u32::MAX)),
            orders: market.counts.orders,
            trades: market.counts.trades,
            open_orders: market.orders.len(),
            book: market.book,
            last_trade_at: market.trades.back().map(|trade| trade.time),
        };
        self.state.read().markets.iter().enumerate().map(figures).collect()
    }
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

    #[test]
    fn who_reads_sees_all_of_a_command_in_every_part_or_nothing_of_it() {
        const COMMANDS: u64 = 100_000;
        let views = Views::new(Arc::new(Klines::new()));
        views.restore(&crate::testing::listed());
        let (uid, symbol) = (Uid(7), SymbolId(0));
        // Command n takes n from one balance to the other and is change n of the book.
        let told = |number: u64| {
            let balance = |asset, free| Event::BalanceChanged { uid, asset, free, locked: Amount::ZERO };
            let level = Event::LevelChanged {
                symbol,
                side: Side::Buy,
                price: Price(1),
                quantity: Quantity(number),
                update_id: number,
            };
            let to = balance(AssetId(0), Amount(number.into()));
            let from = balance(AssetId(1), Amount((COMMANDS - number).into()));
            let (events, ends) = (vec![level, to, from], vec![3]);
            let applied = Applied { first_sequence: Sequence(number), time: Time(number), events, ends };
            views.apply(&applied, &mut Changes::default());
        };
        let balances = || match views.balances_and_time(uid) {
            (held, time) if held.len() == 2 && Amount(time.0.into()) == held[0].1 => (time.0, held[1].1.0 as u64),
            other => panic!("a part of a command: {other:?}"),
        };
        told(0);
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| (1..=COMMANDS).for_each(told));
            while !writing.is_finished() {
                let earlier = balances();
                assert_eq!(earlier.0 + earlier.1, COMMANDS, "a part of a command");
                let book = views.depth(symbol, 1).last_update_id;
                let sequence = views.sequence().0;
                let later = balances();
                assert!(earlier.0 <= book && book <= later.0, "{book} of the book between {earlier:?} and {later:?}");
                assert!(book <= sequence && sequence <= later.0, "{book} of the book at {sequence}, then {later:?}");
            }
        });
        assert_eq!(balances(), (COMMANDS, 0));
    }
}
