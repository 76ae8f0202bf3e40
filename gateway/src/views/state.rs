//! What every command changes, as its readers see it: books, open orders, recent trades, balances.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use engine::account::OrderCount;
use engine::command::{AccountSettings, OrderCountLimit};
use engine::event::{OrderList, OrderListStatus, Trade};
use engine::order::Side;
use engine::snapshot::{AccountState, SymbolState};
use engine::{Amount, AssetId, Event, OrderId, Price, Quantity, Sequence, Snapshot, SymbolId, Time, Uid};
use journal::{FiledList, KnownOrder, MarketTrade, OpenOrders, list_number, symbol_of};

use super::{AggregateTrade, BookTicker, Changes, LevelChange, RECENT_TRADES};

/// All of it.
#[derive(Debug, Default)]
pub(super) struct State {
    /// By symbol id.
    pub markets: Vec<Market>,
    pub accounts: BTreeMap<Uid, Account>,
    pub totals: Totals,
    /// What an operator or a source outside says that symbols are worth.
    pub reference_prices: BTreeMap<SymbolId, Price>,
    /// How many unfilled orders an account may place, in each window.
    order_limits: [OrderCountLimit; 2],
}

/// For each asset: what all accounts have together, and deposits less withdrawals. Equal after every command.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub accounts: Vec<u128>,
    pub supply: Vec<u128>,
}

/// One symbol.
#[derive(Debug, Default)]
pub(super) struct Market {
    pub book: BookTicker,
    pub bids: BTreeMap<Price, Quantity>,
    pub asks: BTreeMap<Price, Quantity>,
    pub orders: OpenOrders,
    pub trades: VecDeque<MarketTrade>,
    pub aggregates: VecDeque<AggregateTrade>,
    pub counts: MarketCounts,
}

/// What happened in a symbol since this process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MarketCounts {
    pub orders: u64,
    pub trades: u64,
}

/// One account.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub balances: BTreeMap<AssetId, (Amount, Amount)>,
    pub open_orders: BTreeSet<(SymbolId, OrderId)>,
    /// By public number.
    pub open_lists: BTreeMap<u64, FiledList>,
    pub settings: AccountSettings,
    /// The unfilled orders it placed, in the windows of [`ExchangeLimits::order_counts`].
    pub order_counts: [OrderCount; 2],
    pub updated_at: Time,
}

impl Account {
    fn restore(state: &AccountState, time: Time) -> Account {
        let balances = state.balances.iter().map(|&(asset, free, locked)| (asset, (free, locked))).collect();
        let (settings, order_counts) = (state.settings, state.order_counts);
        Account { balances, settings, order_counts, updated_at: time, ..Account::default() }
    }

    fn keep_list(&mut self, list: &OrderList, time: Time) {
        let number = list_number(list.symbol, list.order_list_id);
        if list.status == OrderListStatus::AllDone {
            self.open_lists.remove(&number);
        } else {
            self.open_lists.insert(number, FiledList { time, list: list.clone() });
        }
    }
}

/// The number of the window that a time is in.
pub(super) fn window(limit: &OrderCountLimit, time: Time) -> u64 {
    time.0 / 1_000_000 / u64::from(limit.seconds.max(1))
}

impl State {
    /// As a snapshot says; trades are the history's to give. What was counted of the symbols goes on from `before`.
    pub fn restore(snapshot: &Snapshot, before: &State) -> State {
        let counts = |at: usize| before.markets.get(at).map_or_else(MarketCounts::default, |market| market.counts);
        let markets = snapshot.symbols().enumerate().map(|(at, state)| Market::restore(state, counts(at)));
        let referenced = |state: SymbolState| Some((state.symbol().id, state.reference_price()?));
        let mut state = State {
            markets: markets.collect(),
            reference_prices: snapshot.symbols().filter_map(referenced).collect(),
            order_limits: snapshot.limits().order_counts,
            ..State::default()
        };
        state.totals.supply = snapshot.assets().map(|state| state.supply.0).collect();
        state.totals.accounts = vec![0; state.totals.supply.len()];
        for account in snapshot.accounts() {
            for &(asset, free, locked) in &account.balances {
                let total = &mut state.totals.accounts[asset.0 as usize];
                *total = total.wrapping_add(free.0).wrapping_add(locked.0);
            }
            state.accounts.insert(account.uid, Account::restore(&account, snapshot.time()));
        }
        for order in snapshot.symbols().flat_map(|state| state.orders()) {
            state.account(order.uid).open_orders.insert((order.symbol, order.order_id));
        }
        for list in snapshot.symbols().flat_map(|state| state.lists()) {
            state.account(list.list.uid).keep_list(&list.list, list.list.created_at);
        }
        state
    }

    /// One command did this.
    pub fn apply(&mut self, events: &[Event], time: Time, sequence: Sequence, changes: &mut Changes) {
        for run in events.chunk_by(|a, b| symbol_of(a) == symbol_of(b)) {
            let Some(symbol) = symbol_of(&run[0]) else { continue };
            let Some(market) = self.markets.get_mut(symbol.0 as usize) else { continue };
            let before = (market.book.bid, market.book.ask);
            for event in run {
                market.follow(event, &mut self.accounts, time, sequence, changes);
            }
            market.see_best();
            if before != (market.book.bid, market.book.ask) {
                changes.best.push((symbol, market.book));
            }
        }
        events.iter().for_each(|event| self.follow(event, time));
    }

    /// What is not of one symbol alone.
    fn follow(&mut self, event: &Event, time: Time) {
        match event {
            Event::AssetAdded { .. } => {
                self.totals.accounts.push(0);
                self.totals.supply.push(0);
            }
            Event::SymbolAdded(_) => self.markets.push(Market::default()),
            Event::ExchangeConfigured(limits) => self.order_limits = limits.order_counts,
            &Event::ReferencePriceChanged { symbol, price } => {
                match price {
                    Some(price) => self.reference_prices.insert(symbol, price),
                    None => self.reference_prices.remove(&symbol),
                };
            }
            Event::AccountOpened { uid } => {
                self.account(*uid);
            }
            &Event::BalanceChanged { uid, asset, free, locked } => {
                let account = self.accounts.entry(uid).or_default();
                let before = account.balances.insert(asset, (free, locked)).unwrap_or_default();
                account.updated_at = time;
                let total = &mut self.totals.accounts[asset.0 as usize];
                let sum = |(free, locked): (Amount, Amount)| free.0.wrapping_add(locked.0);
                *total = total.wrapping_add(sum((free, locked))).wrapping_sub(sum(before));
            }
            Event::AccountConfigured { uid, settings } => self.account(*uid).settings = *settings,
            Event::OrderListChanged(list) => self.account(list.uid).keep_list(list, time),
            Event::OrderCountChanged { uid, counts } => {
                let limits = self.order_limits;
                let count = |at: usize| OrderCount { window: window(&limits[at], time), count: counts[at] };
                self.account(*uid).order_counts = [count(0), count(1)];
            }
            Event::Deposited(transfer) => {
                let supply = &mut self.totals.supply[transfer.asset.0 as usize];
                *supply = supply.wrapping_add(transfer.amount.0);
            }
            Event::Withdrawn(transfer) => {
                let supply = &mut self.totals.supply[transfer.asset.0 as usize];
                *supply = supply.wrapping_sub(transfer.amount.0);
            }
            _ => {}
        }
    }

    fn account(&mut self, uid: Uid) -> &mut Account {
        self.accounts.entry(uid).or_default()
    }
}

impl Market {
    fn restore(state: SymbolState, counts: MarketCounts) -> Market {
        let mut market = Market {
            counts,
            bids: state.levels(Side::Buy).collect(),
            asks: state.levels(Side::Sell).collect(),
            orders: OpenOrders::restore(state.orders().map(KnownOrder::from)),
            ..Market::default()
        };
        market.book.update_id = state.counters().update;
        market.see_best();
        market
    }

    fn follow(
        &mut self,
        event: &Event,
        accounts: &mut BTreeMap<Uid, Account>,
        time: Time,
        sequence: Sequence,
        changes: &mut Changes,
    ) {
        let first = changes.orders.len();
        self.orders.follow(event, time, |known| changes.orders.push(known.clone()));
        let told_of = match event {
            Event::OrderAccepted(order) => {
                accounts.entry(order.uid).or_default().open_orders.insert((order.symbol, order.order_id));
                self.counts.orders += 1;
                0
            }
            Event::Trade(trade) => {
                let trade = MarketTrade { time, sequence, trade: *trade };
                if self.add_trade(&trade) {
                    self.counts.trades += 1;
                    changes.trades.push(trade);
                }
                2
            }
            Event::TradePrevented(_) => 2,
            Event::OrderReplaced { .. } => 1,
            &Event::LevelChanged { symbol, side, price, quantity, update_id } => {
                self.set_level(side, price, quantity);
                self.book.update_id = update_id;
                changes.levels.push(LevelChange { symbol, side, price, quantity, update_id });
                0
            }
            _ => 0,
        };
        for KnownOrder { order, .. } in &changes.orders[first..] {
            if !order.status.is_open()
                && let Some(account) = accounts.get_mut(&order.uid)
            {
                account.open_orders.remove(&(order.symbol, order.order_id));
            }
        }
        changes.orders.truncate(first + told_of);
    }

    fn see_best(&mut self) {
        self.book.bid = self.bids.last_key_value().map(|(&price, &quantity)| (price, quantity));
        self.book.ask = self.asks.first_key_value().map(|(&price, &quantity)| (price, quantity));
    }

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
    pub fn add_trade(&mut self, trade: &MarketTrade) -> bool {
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

fn push_recent<T>(recent: &mut VecDeque<T>, item: T) {
    if recent.len() == RECENT_TRADES {
        recent.pop_front();
    }
    recent.push_back(item);
}
