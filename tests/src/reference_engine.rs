//! The slow, obvious exchange: every command decided by plain scans over plain collections, so that what it says can be
//! read off the rules. It shares nothing with the fast engine but the words of commands and events.
//!
//! It is a second opinion: `tests/engine.rs` asks both the same and compares every event. Beyond that it keeps itself
//! honest by arithmetic that panics, and by [`ReferenceEngine::validate`].

mod access;
mod book;
mod checks;
mod lists;
mod once;
mod quotes;
mod traders;
mod walk;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use engine::access::User;
use engine::command::{AccountSettings, AddAsset, ApiKey, ExchangeLimits, OrderCountLimit, Transfer};
use engine::commission::CommissionRates;
use engine::event::{Event, StatusCause};
use engine::order::{Order, Side};
use engine::symbol::{Symbol, SymbolConfig, SymbolStatus};
use engine::units::{Amount, AssetId, Multiplier, Price, Quantity, Sequence, SymbolId, Time, TradeGroup, Uid};
use engine::{Command, Rejection};

use book::{Market, Place};
use checks::{check_price, require};
use lists::Task;
use once::Placed;
use walk::FEES;

/// The longest countdown in milliseconds.
const COUNTDOWN_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;

/// The slow, obvious exchange.
#[derive(Default)]
pub struct ReferenceEngine {
    now: Time,
    assets: Vec<AddAsset>,
    /// Deposits less withdrawals, by asset.
    supplies: Vec<u128>,
    markets: Vec<Market>,
    accounts: BTreeMap<Uid, Account>,
    api_keys: BTreeMap<String, ApiKey>,
    users: BTreeMap<String, User>,
    /// The names of the transfers that took effect.
    transfers: BTreeSet<(Uid, String)>,
    /// The withdrawals under way.
    withdrawals: BTreeMap<(Uid, String), Transfer>,
    limits: ExchangeLimits,
    tiers: BTreeMap<u16, CommissionRates>,
    countdowns: BTreeMap<(SymbolId, Uid), Time>,
    sequence: Sequence,
    /// What was placed under names that clients gave, oldest first.
    placed: VecDeque<Placed>,

    // Of the command under way.
    events: Vec<Event>,
    /// What the balances that moved were before.
    before: BTreeMap<(Uid, AssetId), (u128, u128)>,
    /// The accounts whose orders were counted.
    counted: BTreeSet<Uid>,
    tasks: VecDeque<Task>,
    /// The first and the last price of every walk that traded.
    walks: Vec<(usize, Price, Price)>,
}

#[derive(Default)]
struct Account {
    settings: AccountSettings,
    /// Free and locked.
    balances: BTreeMap<AssetId, (u128, u128)>,
    /// By order count limit: the number of a window and the orders counted in it.
    counts: [(u64, u32); 2],
}

impl ReferenceEngine {
    /// An exchange with nothing in it, before the first command.
    pub fn new() -> ReferenceEngine {
        let mut engine = ReferenceEngine::default();
        engine.accounts.insert(FEES, Account::default());
        engine
    }

    /// Decide one command and say what happened. Of the balances, only those that are another than before.
    pub fn apply(&mut self, time: Time, command: &Command) -> Vec<Event> {
        self.now = time;
        self.sequence.0 += 1;
        self.look_at_houses();
        let decision = self.decide(command);
        if let Err(rejection) = decision {
            assert!(self.events.is_empty() && self.before.is_empty(), "a refused command changes nothing");
            let events = vec![Event::Rejected(rejection)];
            if let Command::Once(once) = command {
                self.remember(once, time, &events);
            }
            return events;
        }
        self.run_tasks();
        self.show_house_of(command);
        self.break_circuits();
        for uid in std::mem::take(&mut self.counted) {
            self.events.push(Event::OrderCountChanged { uid, counts: self.counts_now(uid) });
        }
        for ((uid, asset), before) in std::mem::take(&mut self.before) {
            let (free, locked) = self.balance(uid, asset);
            if (free, locked) != before {
                let (free, locked) = (Amount(free), Amount(locked));
                self.events.push(Event::BalanceChanged { uid, asset, free, locked });
            }
        }
        let events = std::mem::take(&mut self.events);
        if let Command::Once(once) = command {
            self.remember(once, time, &events);
        }
        events
    }

    /// Count everything anew: what is locked is what open orders, lists and withdrawals hold; nothing came or went.
    pub fn validate(&self) {
        let mut locked = BTreeMap::<(Uid, AssetId), u128>::new();
        let mut sums = vec![0; self.supplies.len()];
        for (at, market) in self.markets.iter().enumerate() {
            for open in market.orders.values() {
                *locked.entry((open.order.uid, self.pays_in(at, open.order.side))).or_default() += open.held;
                if matches!(open.place, Place::Pending(_)) {
                    assert_eq!(open.held, 0, "a pending order holds nothing");
                }
            }
            for list in market.lists.values() {
                let side = |id: u64| market.orders.get(&id).map(|open| open.order.side);
                let pair = list.pair().and_then(|[a, b]| side(a).or(side(b)));
                let asset = pair.map_or(market.symbol.config.base, |side| self.pays_in(at, side));
                *locked.entry((list.uid, asset)).or_default() += list.pair_held.unwrap_or(0);
                *locked.entry((list.uid, market.symbol.config.base)).or_default() += list.proceeds.unwrap_or(0);
            }
        }
        for transfer in self.withdrawals.values() {
            *locked.entry((transfer.uid, transfer.asset)).or_default() += transfer.amount.0;
        }
        for (uid, account) in &self.accounts {
            for (asset, (free, held)) in &account.balances {
                sums[asset.0 as usize] += free + held;
                assert_eq!(locked.remove(&(*uid, *asset)).unwrap_or(0), *held, "what {uid} holds of asset {asset}");
            }
        }
        assert!(locked.values().all(|amount| *amount == 0), "what is held is locked");
        assert_eq!(sums, self.supplies, "nothing came or went");
    }

    /// The open orders of each symbol: the bids and the asks as they would trade, then by number those that wait.
    pub fn orders(&self) -> Vec<Vec<Order>> {
        self.markets.iter().map(Market::sorted_orders).collect()
    }

    /// Uid, asset, free, locked; zeros left out.
    pub fn balances(&self) -> Vec<(Uid, AssetId, Amount, Amount)> {
        let of_account = |(uid, account): (&Uid, &Account)| {
            let balance =
                |(asset, (free, locked)): (&AssetId, &(u128, u128))| (*uid, *asset, Amount(*free), Amount(*locked));
            account.balances.iter().map(balance).collect::<Vec<_>>()
        };
        let all = self.accounts.iter().flat_map(of_account);
        all.filter(|(_, _, free, locked)| free.0 + locked.0 > 0).collect()
    }

    fn decide(&mut self, command: &Command) -> Result<(), Rejection> {
        match command {
            Command::AddAsset(added) => self.add_asset(added),
            Command::AddSymbol(config) => self.add_symbol(config),
            Command::ConfigureSymbol { symbol, config } => self.configure_symbol(*symbol, config),
            Command::ConfigureExchange(limits) => {
                let endless = |count: &OrderCountLimit| count.limit > 0 && count.seconds == 0;
                require(!limits.order_counts.iter().any(endless), Rejection::InvalidConfiguration)?;
                self.limits = *limits;
                self.events.push(Event::ExchangeConfigured(Box::new(*limits)));
                Ok(())
            }
            Command::SetSymbolStatus { symbol, status } => self.set_status(*symbol, *status),
            Command::SetReferencePrice { symbol, price } => self.set_reference_price(*symbol, *price),
            Command::SetCommissionTier { tier, rates } => {
                require(*tier > 0, Rejection::InvalidConfiguration)?;
                self.tiers.insert(*tier, *rates);
                self.events.push(Event::CommissionTierChanged { tier: *tier, rates: *rates });
                Ok(())
            }
            Command::OpenAccount { uid } => {
                require(!self.accounts.contains_key(uid), Rejection::AlreadyExists)?;
                self.accounts.insert(*uid, Account::default());
                self.events.push(Event::AccountOpened { uid: *uid });
                Ok(())
            }
            Command::ConfigureAccount { uid, settings } => {
                self.check_account(*uid)?;
                self.accounts.get_mut(uid).expect("it is open").settings = *settings;
                self.events.push(Event::AccountConfigured { uid: *uid, settings: *settings });
                Ok(())
            }
            Command::AddApiKey(key) => self.add_api_key(key),
            Command::Access(asked) => self.access(asked),
            Command::Deposit(transfer) => self.deposit(transfer),
            Command::Withdraw(transfer) => self.withdraw(transfer),
            Command::BeginWithdrawal(transfer) => self.begin_withdrawal(transfer),
            Command::EndWithdrawal { uid, external_id, completed } => {
                self.end_withdrawal(*uid, external_id, *completed)
            }
            Command::PlaceOrder(place) => self.place_order(place),
            Command::PlaceOrderList(list) => self.place_list(list),
            Command::CancelOrder(cancel) => self.cancel_order(cancel),
            Command::CancelOrderList(cancel) => self.cancel_list(cancel),
            Command::CancelAllOrders { uid, symbol } => self.cancel_all(*uid, *symbol),
            Command::CancelEverything { uid } => {
                for at in 0..self.markets.len() {
                    self.cancel_open(at, *uid);
                }
                Ok(())
            }
            Command::CancelReplace(replace) => self.cancel_replace(replace),
            Command::AmendOrder(amend) => self.amend(amend),
            Command::ReduceOrder { uid, symbol, order, by } => self.reduce(*uid, *symbol, order, *by),
            Command::ReplaceOrder(replace) => self.replace(replace),
            Command::SetCountdown { uid, symbol, milliseconds } => self.set_countdown(*uid, *symbol, *milliseconds),
            Command::Tick => {
                self.tick();
                Ok(())
            }
            Command::Once(once) => self.place_once(once),
            Command::SetQuoteDriven { symbol, terms } => self.set_quote_driven(*symbol, *terms),
            Command::ReferenceQuote(quote) => self.quote(quote),
        }
    }

    // What operators ask.

    fn add_asset(&mut self, added: &AddAsset) -> Result<(), Rejection> {
        require((1..=20).contains(&added.name.len()) && added.scale <= 18, Rejection::InvalidConfiguration)?;
        require(self.assets.iter().all(|asset| asset.name != added.name), Rejection::AlreadyExists)?;
        let asset = AssetId(self.assets.len() as u32);
        self.assets.push(added.clone());
        self.supplies.push(0);
        self.events.push(Event::AssetAdded { asset, added: added.clone() });
        Ok(())
    }

    fn add_symbol(&mut self, config: &SymbolConfig) -> Result<(), Rejection> {
        self.check_asset(config.base)?;
        self.check_asset(config.quote)?;
        let named = |market: &Market| market.symbol.config.name == config.name;
        require(!self.markets.iter().any(named), Rejection::AlreadyExists)?;
        let base_scale = self.assets[config.base.0 as usize].scale;
        let symbol = Symbol::new(SymbolId(self.markets.len() as u32), config.clone(), base_scale)?;
        self.events.push(Event::SymbolAdded(Box::new(symbol.clone())));
        self.markets.push(Market::new(symbol));
        Ok(())
    }

    fn configure_symbol(&mut self, symbol: SymbolId, config: &SymbolConfig) -> Result<(), Rejection> {
        let configured = self.market(symbol)?.symbol.reconfigured(config.clone())?;
        self.events.push(Event::SymbolConfigured(Box::new(configured.clone())));
        self.markets[symbol.0 as usize].symbol = configured;
        Ok(())
    }

    fn set_status(&mut self, symbol: SymbolId, status: SymbolStatus) -> Result<(), Rejection> {
        self.market(symbol)?;
        let market = &mut self.markets[symbol.0 as usize];
        market.symbol.status = status;
        market.resumes_at = None;
        market.recent.clear();
        self.events.push(Event::SymbolStatusChanged { symbol, status, cause: StatusCause::Operator });
        Ok(())
    }

    fn set_reference_price(&mut self, symbol: SymbolId, price: Option<Amount>) -> Result<(), Rejection> {
        let market = self.market(symbol)?;
        require(market.desk.is_none(), Rejection::InvalidConfiguration)?;
        let price = price.map(|price| check_price(market, price)).transpose()?;
        self.markets[symbol.0 as usize].operator_price = price;
        self.events.push(Event::ReferencePriceChanged { symbol, price });
        Ok(())
    }

    // Money in and out.

    fn deposit(&mut self, transfer: &Transfer) -> Result<(), Rejection> {
        if self.check_transfer(transfer, |settings| settings.can_deposit)? {
            return Ok(());
        }
        let supply = &mut self.supplies[transfer.asset.0 as usize];
        *supply = supply.checked_add(transfer.amount.0).ok_or(Rejection::Overflow)?;
        self.receive(transfer.uid, transfer.asset, transfer.amount.0);
        self.name_transfer(transfer);
        self.events.push(Event::Deposited(Box::new(transfer.clone())));
        Ok(())
    }

    fn withdraw(&mut self, transfer: &Transfer) -> Result<(), Rejection> {
        if self.check_transfer(transfer, |settings| settings.can_withdraw)? {
            return Ok(());
        }
        let (free, _) = self.balance(transfer.uid, transfer.asset);
        require(transfer.amount.0 <= free, Rejection::InsufficientBalance)?;
        self.take_free(transfer.uid, transfer.asset, transfer.amount.0);
        self.supplies[transfer.asset.0 as usize] -= transfer.amount.0;
        self.name_transfer(transfer);
        self.events.push(Event::Withdrawn(Box::new(transfer.clone())));
        Ok(())
    }

    fn begin_withdrawal(&mut self, transfer: &Transfer) -> Result<(), Rejection> {
        if self.check_transfer(transfer, |settings| settings.can_withdraw)? {
            return Ok(());
        }
        let (free, _) = self.balance(transfer.uid, transfer.asset);
        require(transfer.amount.0 <= free, Rejection::InsufficientBalance)?;
        self.lock(transfer.uid, transfer.asset, transfer.amount.0);
        self.name_transfer(transfer);
        self.withdrawals.insert((transfer.uid, transfer.external_id.clone()), transfer.clone());
        self.events.push(Event::WithdrawalBegun(Box::new(transfer.clone())));
        Ok(())
    }

    fn end_withdrawal(&mut self, uid: Uid, external_id: &str, completed: bool) -> Result<(), Rejection> {
        let begun = self.withdrawals.remove(&(uid, external_id.to_owned()));
        let transfer = begun.ok_or(Rejection::UnknownWithdrawal)?;
        if completed {
            self.spend(uid, transfer.asset, transfer.amount.0);
            self.supplies[transfer.asset.0 as usize] -= transfer.amount.0;
            self.events.push(Event::Withdrawn(Box::new(transfer)));
        } else {
            self.unlock(uid, transfer.asset, transfer.amount.0);
            self.events.push(Event::WithdrawalAbandoned(Box::new(transfer)));
        }
        Ok(())
    }

    /// Whether the transfer took effect before; then that is said.
    fn check_transfer(&mut self, transfer: &Transfer, may: fn(&AccountSettings) -> bool) -> Result<bool, Rejection> {
        self.check_asset(transfer.asset)?;
        self.check_account(transfer.uid)?;
        require(transfer.amount.0 > 0, Rejection::ZeroQuantity)?;
        require((1..=64).contains(&transfer.external_id.len()), Rejection::InvalidConfiguration)?;
        if self.transfers.contains(&(transfer.uid, transfer.external_id.clone())) {
            self.events.push(Event::TransferRepeated(Box::new(transfer.clone())));
            return Ok(true);
        }
        require(may(&self.accounts[&transfer.uid].settings), Rejection::AccountDisabled)?;
        Ok(false)
    }

    fn name_transfer(&mut self, transfer: &Transfer) {
        self.transfers.insert((transfer.uid, transfer.external_id.clone()));
    }

    fn check_asset(&self, asset: AssetId) -> Result<(), Rejection> {
        require((asset.0 as usize) < self.assets.len(), Rejection::UnknownAsset)
    }

    fn check_account(&self, uid: Uid) -> Result<(), Rejection> {
        require(self.accounts.contains_key(&uid), Rejection::UnknownAccount)
    }

    fn check_trading_account(&self, uid: Uid) -> Result<(), Rejection> {
        require(uid != FEES && self.accounts.contains_key(&uid), Rejection::UnknownAccount)
    }

    fn market(&self, symbol: SymbolId) -> Result<&Market, Rejection> {
        self.markets.get(symbol.0 as usize).ok_or(Rejection::UnknownSymbol)
    }

    // Balances. Nothing else touches them.

    fn balance(&self, uid: Uid, asset: AssetId) -> (u128, u128) {
        self.accounts.get(&uid).and_then(|account| account.balances.get(&asset)).copied().unwrap_or_default()
    }

    fn touch(&mut self, uid: Uid, asset: AssetId) -> &mut (u128, u128) {
        let before = self.balance(uid, asset);
        self.before.entry((uid, asset)).or_insert(before);
        self.accounts.get_mut(&uid).expect("it is open").balances.entry(asset).or_default()
    }

    /// It comes to what is free.
    fn receive(&mut self, uid: Uid, asset: AssetId, amount: u128) {
        self.touch(uid, asset).0 += amount;
    }

    /// It goes from what is free.
    fn take_free(&mut self, uid: Uid, asset: AssetId, amount: u128) {
        self.touch(uid, asset).0 -= amount;
    }

    /// It goes from what is locked.
    fn spend(&mut self, uid: Uid, asset: AssetId, amount: u128) {
        self.touch(uid, asset).1 -= amount;
    }

    fn lock(&mut self, uid: Uid, asset: AssetId, amount: u128) {
        let (free, locked) = self.touch(uid, asset);
        (*free, *locked) = (*free - amount, *locked + amount);
    }

    fn unlock(&mut self, uid: Uid, asset: AssetId, amount: u128) {
        let (free, locked) = self.touch(uid, asset);
        (*free, *locked) = (*free + amount, *locked - amount);
    }

    /// The asset that a side pays in.
    fn pays_in(&self, at: usize, side: Side) -> AssetId {
        let config = &self.markets[at].symbol.config;
        if side == Side::Buy { config.quote } else { config.base }
    }

    fn groups(&self) -> BTreeMap<Uid, TradeGroup> {
        let group = |(uid, account): (&Uid, &Account)| Some((*uid, account.settings.trade_group?));
        self.accounts.iter().filter_map(group).collect()
    }

    // Order counts.

    /// The orders an account has placed in the windows of now.
    fn counts_now(&self, uid: Uid) -> [u32; 2] {
        let counts = self.accounts.get(&uid).map_or([(0, 0); 2], |account| account.counts);
        let now = |index: usize| {
            let (window, count) = counts[index];
            if window == self.window(index) { count } else { 0 }
        };
        [now(0), now(1)]
    }

    /// The number of the window of now; a limit without an interval is counted by the second.
    fn window(&self, index: usize) -> u64 {
        self.now.0 / 1_000_000 / u64::from(self.limits.order_counts[index].seconds.max(1))
    }

    fn count(&mut self, uid: Uid, change: impl Fn(u32) -> u32) {
        if !self.limits.counts_orders() {
            return;
        }
        let counts = self.counts_now(uid);
        let changed = [0, 1].map(|index| (self.window(index), change(counts[index])));
        self.accounts.get_mut(&uid).expect("it is open").counts = changed;
        if counts.iter().any(|count| change(*count) != *count) {
            self.counted.insert(uid);
        }
    }

    fn count_new_order(&mut self, uid: Uid) {
        self.count(uid, |count| count + 1);
    }

    fn count_first_fill(&mut self, uid: Uid, is_maker: bool) {
        let less = if is_maker { self.limits.maker_fill_decrement } else { self.limits.taker_fill_decrement };
        self.count(uid, |count| count.saturating_sub(less));
    }

    // Time and prices.

    fn set_countdown(&mut self, uid: Uid, symbol: SymbolId, milliseconds: u64) -> Result<(), Rejection> {
        self.market(symbol)?;
        self.check_trading_account(uid)?;
        require(milliseconds <= COUNTDOWN_MAX, Rejection::Overflow)?;
        let at = (milliseconds > 0).then(|| Time(self.now.0 + milliseconds * 1_000));
        self.countdowns.remove(&(symbol, uid));
        if let Some(at) = at {
            self.countdowns.insert((symbol, uid), at);
        }
        self.events.push(Event::CountdownSet { uid, symbol, at });
        Ok(())
    }

    fn tick(&mut self) {
        let countdowns = self.countdowns.iter().map(|((symbol, uid), at)| (*at, 0, *symbol, *uid));
        let resumes = |market: &Market| Some((market.resumes_at?, 1, market.symbol.id, Uid(0)));
        let mut due: Vec<(Time, u8, SymbolId, Uid)> =
            countdowns.chain(self.markets.iter().filter_map(resumes)).filter(|(at, ..)| *at <= self.now).collect();
        let stale = self.stale_symbols().map(|(at, symbol)| (at, 2, symbol, Uid(0)));
        due.extend(stale.filter(|(at, ..)| *at <= self.now));
        due.sort();
        for (_, kind, symbol, uid) in due {
            if kind == 0 {
                self.countdowns.remove(&(symbol, uid));
                self.events.push(Event::CountdownSet { uid, symbol, at: None });
                self.cancel_open(symbol.0 as usize, uid);
            } else if kind == 2 {
                self.become_stale(symbol.0 as usize);
            } else {
                let market = &mut self.markets[symbol.0 as usize];
                market.resumes_at = None;
                market.symbol.status = SymbolStatus::Trading;
                let (status, cause) = (SymbolStatus::Trading, StatusCause::CircuitBreakerEnded);
                self.events.push(Event::SymbolStatusChanged { symbol, status, cause });
            }
        }
    }

    /// Halt the symbols whose price ran too far in this command.
    fn break_circuits(&mut self) {
        let walks = std::mem::take(&mut self.walks);
        let now = self.now;
        for (at, market) in self.markets.iter_mut().enumerate() {
            let kept = now.0.saturating_sub(3_700_000_000);
            market.traded.retain(|second, _| *second >= kept / 1_000_000);
            let Some(breaker) = market.symbol.config.circuit_breaker else { continue };
            let mut trips = false;
            for (_, first, last) in walks.iter().filter(|(walked, ..)| *walked == at) {
                for price in [*first, *last] {
                    market.recent.push((now, price));
                    let window = u64::from(breaker.window_seconds) * 1_000_000;
                    market.recent.retain(|(time, _)| time.0 + window > now.0);
                    let prices = market.recent.iter().map(|(_, price)| *price);
                    let lowest = prices.clone().min().expect("there is one");
                    let highest = prices.max().expect("there is one");
                    let up = Multiplier(Multiplier::ONE.0.saturating_add(breaker.trip.0));
                    let down = Multiplier(Multiplier::ONE.0.saturating_sub(breaker.trip.0));
                    trips |= price > lowest && price >= up.of_rounded_up(lowest);
                    trips |= price < highest && price <= down.of(highest);
                }
            }
            if trips {
                let until =
                    (breaker.halt_seconds > 0).then(|| Time(now.0 + u64::from(breaker.halt_seconds) * 1_000_000));
                market.symbol.status = SymbolStatus::Halt;
                market.resumes_at = until;
                market.recent.clear();
                self.events.push(Event::SymbolStatusChanged {
                    symbol: market.symbol.id,
                    status: SymbolStatus::Halt,
                    cause: StatusCause::CircuitBreaker { until },
                });
            }
        }
    }

    /// Say what a level shows now.
    fn report_level(&mut self, at: usize, side: Side, price: Price) {
        let market = &self.markets[at];
        if market.desk.is_none() {
            self.say_level(at, side, price, market.shown_at(side, price));
        }
    }

    fn say_level(&mut self, at: usize, side: Side, price: Price, lots: u64) {
        let market = &mut self.markets[at];
        market.last_update_id += 1;
        self.events.push(Event::LevelChanged {
            symbol: market.symbol.id,
            side,
            price,
            quantity: Quantity(lots),
            update_id: market.last_update_id,
        });
    }

    /// A price as a trader writes it, in ticks.
    fn price_of(&self, at: usize, price: Amount) -> Result<Price, Rejection> {
        check_price(&self.markets[at], price)
    }
}
