//! Risk: what each account has free and locked, how it is treated, and the sums that must agree.
//!
//! Money only moves here, in one of two ways. What goes from balance to balance stays within an asset and arrives whole, less
//! a fee that goes to the fee account. What comes in or leaves is kept in two books: the balances, and for each asset the sum
//! over all balances, which must equal deposits less withdrawals ([`Accounts::assert_conserved`]). A balance is found once
//! by uid and asset; from then on it is known by its place, which never changes.

mod run;

use serde::{Deserialize, Serialize};

use crate::command::{AccountSettings, ExchangeLimits};
use crate::event::{Event, Rejection};
use crate::hash_index::HashIndex;
use crate::hashing::hash_of_uid;
use crate::paged::Paged;
use crate::prefetch::prefetch;
use crate::units::{Amount, AssetId, Time, Uid};

pub use run::{Pair, Run};

/// The account that receives all fees. It cannot trade; operators withdraw from it.
pub const FEE_ACCOUNT: Uid = Uid(0);

/// Where a balance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceIndex(u32);

/// What an account has of one asset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// What can be used.
    pub free: Amount,
    /// What open orders and withdrawals under way hold.
    pub locked: Amount,
}

/// A balance, whose it is, and whether it moved. A cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Entry {
    balance: Balance,
    uid: Uid,
    asset: AssetId,
    /// Whether it stands in [`Accounts::moved`].
    has_moved: bool,
}

/// How many unfilled orders an account placed in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCount {
    /// The number of the window: its begin divided by its length.
    pub window: u64,
    /// How many.
    pub count: u32,
}

/// An account, how it is treated and what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountState {
    /// The owner.
    pub uid: Uid,
    /// How it is treated.
    pub settings: AccountSettings,
    /// The unfilled orders it placed in the last windows.
    pub order_counts: [OrderCount; 2],
    /// Asset, free, locked; by asset id, zeros left out.
    pub balances: Vec<(AssetId, Amount, Amount)>,
}

#[derive(Clone, Debug)]
struct Account {
    uid: Uid,
    settings: AccountSettings,
    /// By asset.
    balances: Vec<(AssetId, BalanceIndex)>,
    order_counts: [OrderCount; 2],
    counted_at: u64,
}

/// The two sums that must agree for an asset.
#[derive(Clone, Copy, Debug)]
struct Sums {
    /// Deposits less withdrawals.
    supply: Amount,
    /// Free and locked over all accounts, kept step by step where something comes or goes.
    balances: Amount,
    /// Where its fees go.
    fees: BalanceIndex,
}

/// What is to be locked, by place.
#[derive(Debug, Default)]
pub struct Needs(Vec<Amount>);

impl Needs {
    /// So much more of a balance; `None` where the sum does not fit.
    pub fn add(&mut self, at: BalanceIndex, amount: Amount) -> Option<()> {
        let at = at.0 as usize;
        if self.0.len() <= at {
            self.0.resize(at + 1, Amount::ZERO);
        }
        self.0[at] = self.0[at].checked_add(amount)?;
        Some(())
    }
}

/// All accounts.
#[derive(Clone, Debug)]
pub struct Accounts {
    accounts: Vec<Account>,
    by_uid: HashIndex,
    entries: Paged<Entry>,
    sums: Vec<Sums>,
    /// The balances that moved since the last [`Accounts::report`], in the order of their first move.
    moved: Vec<BalanceIndex>,
    /// The accounts whose order counts changed since the last report, in the same way.
    counted: Vec<u32>,
    /// Whether any sum was touched since the last [`Accounts::assert_conserved`].
    supply_changed: bool,
    /// How often was reported.
    commands: u64,
}

impl Accounts {
    /// Only the fee account, empty.
    pub fn new() -> Accounts {
        let mut accounts = Accounts {
            accounts: Vec::new(),
            by_uid: HashIndex::default(),
            entries: Paged::default(),
            sums: Vec::new(),
            moved: Vec::new(),
            counted: Vec::new(),
            supply_changed: false,
            commands: 1,
        };
        accounts.open(FEE_ACCOUNT);
        accounts
    }

    /// For a snapshot's accounts, which follow by uid: those supplies, by asset id, and room for so many.
    pub fn restore(supplies: &[Amount], accounts: usize) -> Accounts {
        let mut restored = Accounts::new();
        restored.accounts.reserve_exact(accounts);
        restored.by_uid = HashIndex::with_room(accounts + 1);
        restored.by_uid.insert(hash_of_uid(FEE_ACCOUNT), 0);
        for (asset, &supply) in supplies.iter().enumerate() {
            restored.add_asset();
            restored.sums[asset].supply = supply;
        }
        restored
    }

    /// One of them: the fee account, which is open already, or one whose uid comes after all others. Its balances are by asset;
    /// `None` where they are more than fits.
    pub fn restore_account(&mut self, state: &AccountState) -> Option<()> {
        let known = state.uid == FEE_ACCOUNT;
        if !known {
            let at = self.accounts.len() as u32;
            self.by_uid.insert(hash_of_uid(state.uid), at);
            self.accounts.push(Account {
                uid: state.uid,
                settings: state.settings,
                balances: Vec::with_capacity(state.balances.len()),
                order_counts: state.order_counts,
                counted_at: 0,
            });
        }
        let account = self.accounts.last_mut().expect("there is the fee account at least");
        (account.settings, account.order_counts) = (state.settings, state.order_counts);
        for &(asset, free, locked) in &state.balances {
            let sums = &mut self.sums[asset.0 as usize];
            sums.balances = sums.balances.checked_add(free)?.checked_add(locked)?;
            let balance = Balance { free, locked };
            if known {
                // It has one of every asset.
                self.entries[sums.fees.0].balance = balance;
                continue;
            }
            let entry = Entry { balance, uid: state.uid, asset, has_moved: false };
            account.balances.push((asset, BalanceIndex(self.entries.push(entry))));
        }
        Some(())
    }

    /// Whether every asset's balances sum to its supply.
    pub fn is_conserved(&self) -> bool {
        self.sums.iter().all(|sums| sums.balances == sums.supply)
    }

    /// Whether every balance has locked what it needs to.
    pub fn is_locked(&self, needs: &Needs) -> bool {
        let needed = needs.0.iter().copied().chain(std::iter::repeat(Amount::ZERO));
        self.entries.iter().zip(needed).all(|(entry, needed)| entry.balance.locked == needed)
    }

    /// How many accounts there are.
    pub fn open_accounts(&self) -> usize {
        self.accounts.len()
    }

    /// All of them as plain data, by uid.
    pub fn states(&self) -> impl Iterator<Item = AccountState> {
        let mut order: Vec<u32> = (0..).take(self.accounts.len()).collect();
        order.sort_unstable_by_key(|&at| self.accounts[at as usize].uid);
        order.into_iter().map(|at| {
            let account = &self.accounts[at as usize];
            let balance = |&(asset, at): &(AssetId, BalanceIndex)| (asset, self.at(at).free, self.at(at).locked);
            let held = |&(_, free, locked): &(AssetId, Amount, Amount)| !free.is_zero() || !locked.is_zero();
            AccountState {
                uid: account.uid,
                settings: account.settings,
                order_counts: account.order_counts,
                balances: account.balances.iter().map(balance).filter(held).collect(),
            }
        })
    }

    /// Make room for one more asset.
    pub fn add_asset(&mut self) {
        let asset = AssetId(u32::try_from(self.sums.len()).expect("fewer than 2^32 assets"));
        self.sums.push(Sums { supply: Amount::ZERO, balances: Amount::ZERO, fees: BalanceIndex(0) });
        self.sums[asset.0 as usize].fees = self.place(FEE_ACCOUNT, asset);
    }

    /// Open an account; false when it is open already.
    pub fn open(&mut self, uid: Uid) -> bool {
        if self.is_open(uid) {
            return false;
        }
        let at = u32::try_from(self.accounts.len()).expect("fewer than 2^32 accounts");
        self.accounts.push(Account {
            uid,
            settings: AccountSettings::default(),
            balances: Vec::new(),
            order_counts: Default::default(),
            counted_at: 0,
        });
        self.by_uid.insert(hash_of_uid(uid), at);
        true
    }

    /// Whether there is such an account.
    pub fn is_open(&self, uid: Uid) -> bool {
        self.find(uid).is_some()
    }

    /// How an open account is treated.
    pub fn settings(&self, uid: Uid) -> &AccountSettings {
        &self.accounts[self.find(uid).expect("the account is open") as usize].settings
    }

    /// Treat an open account so from now on.
    pub fn configure(&mut self, uid: Uid, settings: AccountSettings) {
        self.account_mut(uid).settings = settings;
    }

    /// What an account has of an asset.
    pub fn balance(&self, uid: Uid, asset: AssetId) -> Balance {
        let account = self.find(uid).map(|at| &self.accounts[at as usize]);
        let found = account.and_then(|account| account.balances.iter().find(|&&(of, _)| of == asset));
        found.map_or_else(Balance::default, |&(_, at)| *self.at(at))
    }

    /// Where an open account's balance of an asset is; made empty on first use.
    pub fn place(&mut self, uid: Uid, asset: AssetId) -> BalanceIndex {
        let account = self.find(uid).expect("the account is open");
        self.place_of(account, asset)
    }

    /// Where an open account's balances of two assets are, and how it is treated; made empty on first use. `None` where there
    /// is no such account.
    pub fn places(&mut self, uid: Uid, assets: [AssetId; 2]) -> Option<([BalanceIndex; 2], AccountSettings)> {
        let account = self.find(uid)?;
        Some((assets.map(|asset| self.place_of(account, asset)), self.accounts[account as usize].settings))
    }

    fn place_of(&mut self, account: u32, asset: AssetId) -> BalanceIndex {
        let Account { uid, balances, .. } = &mut self.accounts[account as usize];
        match balances.binary_search_by_key(&asset, |&(of, _)| of) {
            Ok(found) => balances[found].1,
            Err(missing) => {
                let entry = Entry { balance: Balance::default(), uid: *uid, asset, has_moved: false };
                let at = BalanceIndex(self.entries.push(entry));
                balances.insert(missing, (asset, at));
                at
            }
        }
    }

    /// A balance.
    #[inline]
    pub fn at(&self, index: BalanceIndex) -> &Balance {
        &self.entries[index.0].balance
    }

    /// How many balances there are.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Begin to fetch where an account is told to be.
    pub fn prefetch_index(&self, uid: Uid) {
        self.by_uid.prefetch(hash_of_uid(uid));
    }

    /// Begin to fetch an account.
    pub fn prefetch_account(&self, uid: Uid) {
        if let Some(at) = self.by_uid.find(hash_of_uid(uid), |_| true) {
            prefetch(&self.accounts[at as usize]);
        }
    }

    /// Begin to fetch a balance.
    pub fn prefetch(&self, at: BalanceIndex) {
        prefetch(&self.entries[at.0]);
    }

    /// Deposits less withdrawals of an asset: no balance of it is more.
    #[inline]
    pub fn supply(&self, asset: AssetId) -> Amount {
        self.sums[asset.0 as usize].supply
    }

    /// Deposits less withdrawals, by asset id.
    pub fn supplies(&self) -> impl Iterator<Item = Amount> {
        self.sums.iter().map(|sums| sums.supply)
    }

    /// An amount comes into the exchange. Refused when the asset's supply would no longer fit.
    pub fn deposit(&mut self, uid: Uid, asset: AssetId, amount: Amount) -> Result<(), Rejection> {
        let sums = self.sums_mut(asset);
        sums.supply = sums.supply.checked_add(amount).ok_or(Rejection::Overflow)?;
        sums.balances = sums.balances.plus(amount);
        let at = self.place(uid, asset);
        let balance = &mut self.moved(at).balance;
        balance.free = balance.free.plus(amount);
        Ok(())
    }

    /// An amount leaves the exchange. Refused when it is not free.
    pub fn withdraw(&mut self, uid: Uid, asset: AssetId, amount: Amount) -> Result<(), Rejection> {
        self.balance(uid, asset).free.checked_sub(amount).ok_or(Rejection::InsufficientBalance)?;
        let at = self.place(uid, asset);
        let balance = &mut self.moved(at).balance;
        balance.free = balance.free.minus(amount);
        self.leave(asset, amount);
        Ok(())
    }

    /// An amount that was locked for it leaves the exchange.
    pub fn withdraw_locked(&mut self, uid: Uid, asset: AssetId, amount: Amount) {
        let at = self.place(uid, asset);
        let balance = &mut self.moved(at).balance;
        balance.locked = balance.locked.minus(amount);
        self.leave(asset, amount);
    }

    /// Lock an amount. Refused when it is not free.
    #[inline]
    pub fn hold(&mut self, at: BalanceIndex, amount: Amount) -> Result<(), Rejection> {
        if amount.is_zero() {
            return Ok(());
        }
        let Accounts { entries, moved, .. } = self;
        let entry = &mut entries[at.0];
        entry.balance.free = entry.balance.free.checked_sub(amount).ok_or(Rejection::InsufficientBalance)?;
        entry.balance.locked = entry.balance.locked.plus(amount);
        entry.note(at, moved);
        Ok(())
    }

    /// Free an amount that was locked and no longer needs to be.
    #[inline]
    pub fn release(&mut self, at: BalanceIndex, amount: Amount) {
        if !amount.is_zero() {
            let balance = &mut self.moved(at).balance;
            balance.locked = balance.locked.minus(amount);
            balance.free = balance.free.plus(amount);
        }
    }

    /// One leg of a settlement: what `from` has locked goes to `to`, less the fee, which goes to the fee account. What
    /// arrives and the fee are what was paid, by construction; that all three are of one asset is what could be wrong here.
    pub fn settle(&mut self, from: BalanceIndex, to: BalanceIndex, amount: Amount, fee: Amount) {
        let payer = self.moved(from);
        payer.balance.locked = payer.balance.locked.minus(amount);
        let asset = payer.asset;
        let receiver = self.moved(to);
        receiver.balance.free = receiver.balance.free.plus(amount.minus(fee));
        assert!(receiver.asset == asset, "a settlement is in one asset");
        if !fee.is_zero() {
            self.collect(asset, fee);
        }
    }

    /// Where the fees of an asset go.
    pub fn fees_of(&self, asset: AssetId) -> BalanceIndex {
        self.sums[asset.0 as usize].fees
    }

    /// A fee out of what is locked.
    pub fn charge_locked(&mut self, from: BalanceIndex, fee: Amount) {
        if !fee.is_zero() {
            let payer = self.moved(from);
            payer.balance.locked = payer.balance.locked.minus(fee);
            let asset = payer.asset;
            self.collect(asset, fee);
        }
    }

    /// A fee out of what is free; false, and nothing happens, when there is not enough.
    pub fn charge_free(&mut self, uid: Uid, asset: AssetId, fee: Amount) -> bool {
        if self.balance(uid, asset).free < fee {
            return false;
        }
        let from = self.place(uid, asset);
        let payer = &mut self.moved(from).balance;
        payer.free = payer.free.minus(fee);
        if !fee.is_zero() {
            self.collect(asset, fee);
        }
        true
    }

    /// How many unfilled orders an account has placed in the windows that `now` is in.
    pub fn order_counts(&self, uid: Uid, limits: &ExchangeLimits, now: Time) -> [u32; 2] {
        let account = &self.accounts[self.find(uid).expect("the account is open") as usize];
        account.current_counts(limits, now).map(|count| count.count)
    }

    /// Change an account's counts by `change`, not below zero.
    pub fn count_orders(&mut self, uid: Uid, limits: &ExchangeLimits, now: Time, change: i64) {
        let commands = self.commands;
        let at = self.find(uid).expect("the account is open");
        let account = &mut self.accounts[at as usize];
        let counts = account.current_counts(limits, now);
        let changed = counts.map(|OrderCount { window, count }| OrderCount {
            window,
            count: u32::try_from((i64::from(count) + change).max(0)).unwrap_or(u32::MAX),
        });
        account.order_counts = changed;
        if changed != counts && std::mem::replace(&mut account.counted_at, commands) != commands {
            self.counted.push(at);
        }
    }

    /// Say what moved since the last time, and forget it.
    #[inline]
    pub fn report(&mut self, events: &mut Vec<Event>) {
        self.commands += 1;
        if !self.counted.is_empty() {
            self.report_counts(events);
        }
        let Accounts { moved, entries, .. } = self;
        events.extend(moved.iter().map(|at| {
            let entry = &mut entries[at.0];
            entry.has_moved = false;
            let Entry { balance: Balance { free, locked }, uid, asset, .. } = *entry;
            Event::BalanceChanged { uid, asset, free, locked }
        }));
        self.moved.clear();
    }

    fn report_counts(&mut self, events: &mut Vec<Event>) {
        for at in self.counted.drain(..) {
            let account = &self.accounts[at as usize];
            let counts = account.order_counts.map(|count| count.count);
            events.push(Event::OrderCountChanged { uid: account.uid, counts });
        }
    }

    /// For the assets of which something came in or went since the last report: what is on the accounts is what came in and did
    /// not leave. All else moves an amount from one balance to another of its asset, and is checked where it does.
    #[inline]
    pub fn assert_conserved(&mut self) {
        if std::mem::take(&mut self.supply_changed) {
            for at in &self.moved {
                let asset = self.entries[at.0].asset;
                let sums = &self.sums[asset.0 as usize];
                assert_eq!(sums.balances, sums.supply, "asset {asset} is not conserved");
            }
        }
    }

    /// Count everything anew: every asset's balances sum to its supply. For tests and after a restore.
    pub fn validate(&self) {
        let mut counted = vec![Amount::ZERO; self.sums.len()];
        for entry in self.entries.iter() {
            let sum = &mut counted[entry.asset.0 as usize];
            *sum = sum.plus(entry.balance.free).plus(entry.balance.locked);
        }
        for (counted, sums) in counted.iter().zip(&self.sums) {
            assert_eq!((*counted, *counted), (sums.supply, sums.balances), "balances do not sum to the supply");
        }
    }

    fn find(&self, uid: Uid) -> Option<u32> {
        self.by_uid.find(hash_of_uid(uid), |at| self.accounts[at as usize].uid == uid)
    }

    fn account_mut(&mut self, uid: Uid) -> &mut Account {
        let at = self.find(uid).expect("the account is open");
        &mut self.accounts[at as usize]
    }

    /// The fee account gets what was taken off another one.
    fn collect(&mut self, asset: AssetId, fee: Amount) {
        let fees = &mut self.moved(self.fees_of(asset)).balance;
        fees.free = fees.free.plus(fee);
    }

    /// The sums of an asset about to change.
    fn sums_mut(&mut self, asset: AssetId) -> &mut Sums {
        self.supply_changed = true;
        &mut self.sums[asset.0 as usize]
    }

    fn leave(&mut self, asset: AssetId, amount: Amount) {
        let sums = self.sums_mut(asset);
        sums.supply = sums.supply.minus(amount);
        sums.balances = sums.balances.minus(amount);
    }

    /// The balance about to be moved.
    #[inline]
    fn moved(&mut self, at: BalanceIndex) -> &mut Entry {
        let Accounts { entries, moved, .. } = self;
        let entry = &mut entries[at.0];
        entry.note(at, moved);
        entry
    }
}

impl Entry {
    /// That it moved is known from now on.
    #[inline]
    fn note(&mut self, at: BalanceIndex, moved: &mut Vec<BalanceIndex>) {
        if !self.has_moved {
            self.has_moved = true;
            moved.push(at);
        }
    }
}

impl Account {
    /// The counts in the windows that `now` is in: none where a new one has begun.
    fn current_counts(&self, limits: &ExchangeLimits, now: Time) -> [OrderCount; 2] {
        let mut counts = self.order_counts;
        for (count, limit) in counts.iter_mut().zip(limits.order_counts) {
            let window = now.0 / 1_000_000 / u64::from(limit.seconds.max(1));
            if count.window != window {
                *count = OrderCount { window, count: 0 };
            }
        }
        counts
    }
}

impl Default for Accounts {
    fn default() -> Self {
        Accounts::new()
    }
}
