//! Risk: what each account has free and locked, and the sums that must agree.
//!
//! Money only moves here. Every step keeps two books: the balances, and for each asset the sum over all balances, which
//! must equal deposits less withdrawals after every command ([`Accounts::assert_conserved`]).

use std::collections::BTreeMap;

use crate::event::{Event, Rejection};
use crate::snapshot::AccountState;
use crate::units::{Amount, AssetId, Uid};

/// The account that receives all fees. It cannot trade; operators withdraw from it.
pub const FEE_ACCOUNT: Uid = Uid(0);

/// What an account has of one asset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// What can be used.
    pub free: Amount,
    /// What open orders hold.
    pub locked: Amount,
}

/// A balance and whether it stands in [`Accounts::moved`].
#[derive(Clone, Copy, Debug, Default)]
struct Tracked {
    balance: Balance,
    moved: bool,
}

/// The two sums that must agree for an asset.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// Deposits less withdrawals.
    supply: Amount,
    /// Free and locked over all accounts, kept step by step.
    balances: Amount,
}

/// All accounts.
#[derive(Debug)]
pub struct Accounts {
    /// By asset id; an account's vector is as long as the assets it ever had.
    accounts: BTreeMap<Uid, Vec<Tracked>>,
    sums: Vec<Sums>,
    /// The balances that moved since the last [`Accounts::report`], in the order of their first move.
    moved: Vec<(Uid, AssetId)>,
}

impl Accounts {
    /// Only the fee account, empty.
    pub fn new() -> Accounts {
        let accounts = BTreeMap::from([(FEE_ACCOUNT, Vec::new())]);
        Accounts { accounts, sums: Vec::new(), moved: Vec::new() }
    }

    /// From the plain data of a snapshot; `supplies` by asset id.
    pub fn restore(states: &[AccountState], supplies: impl Iterator<Item = Amount>) -> Accounts {
        let mut restored = Accounts::new();
        restored.sums = supplies.map(|supply| Sums { supply, balances: Amount::ZERO }).collect();
        for state in states {
            restored.accounts.entry(state.uid).or_default();
            for &(asset, free, locked) in &state.balances {
                restored.add(state.uid, asset, free);
                let balance = restored.balance_mut(state.uid, asset);
                balance.locked = locked;
                let sums = &mut restored.sums[asset.0 as usize];
                sums.balances = sums.balances.plus(locked);
            }
        }
        restored.report(&mut Vec::new());
        restored
    }

    /// As plain data, by uid.
    pub fn states(&self) -> Vec<AccountState> {
        let state = |(&uid, balances): (&Uid, &Vec<Tracked>)| {
            let balances = (0..)
                .zip(balances)
                .filter(|(_, tracked)| tracked.balance != Balance::default())
                .map(|(asset, tracked)| (AssetId(asset), tracked.balance.free, tracked.balance.locked))
                .collect();
            AccountState { uid, balances }
        };
        self.accounts.iter().map(state).collect()
    }

    /// Make room for one more asset.
    pub fn add_asset(&mut self) {
        self.sums.push(Sums::default());
    }

    /// Open an account; false when it is open already.
    pub fn open(&mut self, uid: Uid) -> bool {
        let is_new = !self.accounts.contains_key(&uid);
        self.accounts.entry(uid).or_default();
        is_new
    }

    /// Whether there is such an account.
    pub fn is_open(&self, uid: Uid) -> bool {
        self.accounts.contains_key(&uid)
    }

    /// What an account has of an asset.
    pub fn balance(&self, uid: Uid, asset: AssetId) -> Balance {
        let balances = self.accounts.get(&uid);
        balances.and_then(|balances| balances.get(asset.0 as usize)).map_or_else(Balance::default, |at| at.balance)
    }

    /// Deposits less withdrawals of an asset.
    pub fn supply(&self, asset: AssetId) -> Amount {
        self.sums[asset.0 as usize].supply
    }

    /// An amount comes into the exchange. Refused when the asset's supply would no longer fit.
    pub fn deposit(&mut self, uid: Uid, asset: AssetId, amount: Amount) -> Result<(), Rejection> {
        let sums = &mut self.sums[asset.0 as usize];
        sums.supply = sums.supply.checked_add(amount).ok_or(Rejection::Overflow)?;
        self.add(uid, asset, amount);
        Ok(())
    }

    /// An amount leaves the exchange. Refused when it is not free.
    pub fn withdraw(&mut self, uid: Uid, asset: AssetId, amount: Amount) -> Result<(), Rejection> {
        let free = self.balance(uid, asset).free.checked_sub(amount).ok_or(Rejection::InsufficientBalance)?;
        self.balance_mut(uid, asset).free = free;
        let sums = &mut self.sums[asset.0 as usize];
        sums.supply = sums.supply.minus(amount);
        sums.balances = sums.balances.minus(amount);
        Ok(())
    }

    /// Lock an amount for an order. Refused when it is not free.
    pub fn hold(&mut self, uid: Uid, asset: AssetId, amount: Amount) -> Result<(), Rejection> {
        let free = self.balance(uid, asset).free.checked_sub(amount).ok_or(Rejection::InsufficientBalance)?;
        let balance = self.balance_mut(uid, asset);
        balance.free = free;
        balance.locked = balance.locked.plus(amount);
        Ok(())
    }

    /// Free an amount that an order held and no longer needs.
    pub fn release(&mut self, uid: Uid, asset: AssetId, amount: Amount) {
        if !amount.is_zero() {
            let balance = self.balance_mut(uid, asset);
            balance.locked = balance.locked.minus(amount);
            balance.free = balance.free.plus(amount);
        }
    }

    /// One leg of a settlement: what `from` holds goes to `to`, less the fee, which goes to the fee account.
    pub fn settle(&mut self, from: Uid, to: Uid, asset: AssetId, amount: Amount, fee: Amount) {
        let payer = self.balance_mut(from, asset);
        payer.locked = payer.locked.minus(amount);
        let sums = &mut self.sums[asset.0 as usize];
        sums.balances = sums.balances.minus(amount);
        self.add(to, asset, amount.minus(fee));
        if !fee.is_zero() {
            self.add(FEE_ACCOUNT, asset, fee);
        }
    }

    /// Say what moved since the last time, and forget it.
    pub fn report(&mut self, events: &mut Vec<Event>) {
        for (uid, asset) in std::mem::take(&mut self.moved) {
            let Some(tracked) = self.accounts.get_mut(&uid).and_then(|all| all.get_mut(asset.0 as usize)) else {
                unreachable!("only balances that exist move")
            };
            tracked.moved = false;
            let Balance { free, locked } = tracked.balance;
            events.push(Event::BalanceChanged { uid, asset, free, locked });
        }
    }

    /// For the assets that moved since the last report: what is on the accounts is what came in and did not leave.
    pub fn assert_conserved(&self) {
        for &(_, asset) in &self.moved {
            let sums = self.sums[asset.0 as usize];
            assert_eq!(sums.balances, sums.supply, "asset {asset} is not conserved");
        }
    }

    /// Count everything anew: every asset's balances sum to its supply. For tests and after a restore.
    pub fn validate(&self) {
        let mut counted = vec![Amount::ZERO; self.sums.len()];
        for balances in self.accounts.values() {
            for (sum, tracked) in counted.iter_mut().zip(balances) {
                *sum = sum.plus(tracked.balance.free).plus(tracked.balance.locked);
            }
        }
        for (counted, sums) in counted.iter().zip(&self.sums) {
            assert_eq!((*counted, *counted), (sums.supply, sums.balances), "balances do not sum to the supply");
        }
    }

    fn add(&mut self, uid: Uid, asset: AssetId, amount: Amount) {
        let balance = self.balance_mut(uid, asset);
        balance.free = balance.free.plus(amount);
        let sums = &mut self.sums[asset.0 as usize];
        sums.balances = sums.balances.plus(amount);
    }

    /// The balance about to be moved.
    fn balance_mut(&mut self, uid: Uid, asset: AssetId) -> &mut Balance {
        let balances = self.accounts.get_mut(&uid).expect("only open accounts move");
        let index = asset.0 as usize;
        if balances.len() <= index {
            balances.resize(index + 1, Tracked::default());
        }
        let tracked = &mut balances[index];
        if !std::mem::replace(&mut tracked.moved, true) {
            self.moved.push((uid, asset));
        }
        &mut tracked.balance
    }
}

impl Default for Accounts {
    fn default() -> Self {
        Accounts::new()
    }
}
