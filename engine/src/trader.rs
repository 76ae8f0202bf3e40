//! What an account has going in one symbol: where its balances are, its open orders and how many of each kind.
//!
//! Found once by uid; from then on everything in a market knows a trader by its place, which never changes.

use hashbrown::HashTable;

use crate::account::{Accounts, BalanceIndex};
use crate::command::{AccountSettings, PlaceOrder};
use crate::hashing::hash_of_uid;
use crate::order::Side;
use crate::radix::NONE;
use crate::units::{AssetId, Quantity, Uid};

/// A trader's place in its market.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TraderIndex(pub u32);

/// An account in one symbol.
#[derive(Clone, Debug)]
pub struct Trader {
    /// Whose account.
    pub uid: Uid,
    /// Where its base balance is.
    pub base: BalanceIndex,
    /// Where its quote balance is.
    pub quote: BalanceIndex,
    /// The slots of its oldest and newest open order; [`NONE`] where it has none.
    pub first_order: u32,
    /// See `first_order`.
    pub last_order: u32,
    /// How many orders it has open on each side: resting, waiting and pending.
    pub open_by_side: [u32; 2],
    /// How many of them are stops.
    pub stop_orders: u32,
    /// How many of them are icebergs.
    pub iceberg_orders: u32,
    /// How many lists it has open.
    pub order_lists: u32,
    /// What its open buy orders could still buy, in lots.
    pub buying: u128,
    /// The account's settings, kept here because every order asks for them.
    pub settings: AccountSettings,
}

/// All traders of a market.
#[derive(Clone, Debug, Default)]
pub struct Traders {
    all: Vec<Trader>,
    by_uid: HashTable<u32>,
}

impl Traders {
    /// The place of a user who has been here before.
    #[inline]
    pub fn find(&self, uid: Uid) -> Option<TraderIndex> {
        let found = self.by_uid.find(hash_of_uid(uid), |&at| self.all[at as usize].uid == uid);
        found.map(|&at| TraderIndex(at))
    }

    /// The place of a user whose account is open.
    #[inline]
    pub fn enter(&mut self, uid: Uid, base: AssetId, quote: AssetId, accounts: &mut Accounts) -> TraderIndex {
        if let Some(found) = self.find(uid) {
            return found;
        }
        self.add(uid, base, quote, accounts).expect("the account is open")
    }

    /// A place for a user who has none; `None` where there is no such account.
    pub fn add(&mut self, uid: Uid, base: AssetId, quote: AssetId, accounts: &mut Accounts) -> Option<TraderIndex> {
        let at = u32::try_from(self.all.len()).expect("fewer than 2^32 traders");
        let ([base, quote], settings) = accounts.places(uid, [base, quote])?;
        self.all.push(Trader {
            uid,
            base,
            quote,
            first_order: NONE,
            last_order: NONE,
            open_by_side: [0; 2],
            stop_orders: 0,
            iceberg_orders: 0,
            order_lists: 0,
            buying: 0,
            settings,
        });
        let Traders { all, by_uid } = self;
        by_uid.insert_unique(hash_of_uid(uid), at, |&at| hash_of_uid(all[at as usize].uid));
        Some(TraderIndex(at))
    }

    /// For the traders of a snapshot, which follow.
    pub fn restore(count: usize) -> Traders {
        Traders { all: Vec::with_capacity(count), by_uid: HashTable::with_capacity(count) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// A trader.
    #[inline]
    pub fn at(&self, index: TraderIndex) -> &Trader {
        &self.all[index.0 as usize]
    }

    /// A trader, to change.
    #[inline]
    pub fn at_mut(&mut self, index: TraderIndex) -> &mut Trader {
        &mut self.all[index.0 as usize]
    }

    /// All traders, in the order of their coming.
    pub fn iter(&self) -> impl Iterator<Item = &Trader> {
        self.all.iter()
    }
}

impl Trader {
    /// The balance that an order of a side is paid from.
    #[inline]
    pub fn pays_from(&self, side: Side) -> BalanceIndex {
        match side {
            Side::Buy => self.quote,
            Side::Sell => self.base,
        }
    }

    /// How many orders it has open: resting, waiting and pending.
    pub fn open_orders(&self) -> u32 {
        self.open_by_side[0] + self.open_by_side[1]
    }

    /// The balance that an order of a side brings to.
    #[inline]
    pub fn receives_to(&self, side: Side) -> BalanceIndex {
        self.pays_from(side.opposite())
    }

    /// Count an order that opens.
    pub fn opened(&mut self, side: Side, is_stop: bool, is_iceberg: bool, buying: Quantity) {
        self.open_by_side[side as usize] += 1;
        self.stop_orders += u32::from(is_stop);
        self.iceberg_orders += u32::from(is_iceberg);
        self.buying += u128::from(buying.0);
    }

    /// Count an order that closes.
    pub fn closed(&mut self, side: Side, is_stop: bool, is_iceberg: bool, buying: Quantity) {
        self.open_by_side[side as usize] -= 1;
        self.stop_orders -= u32::from(is_stop);
        self.iceberg_orders -= u32::from(is_iceberg);
        self.buying -= u128::from(buying.0);
    }
}

/// How many orders of each kind a command would open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opening {
    /// All.
    pub orders: u32,
    /// Stops.
    pub stops: u32,
    /// Icebergs.
    pub icebergs: u32,
}

impl Opening {
    /// What one more order adds.
    pub fn add(&mut self, place: &PlaceOrder) {
        self.orders += 1;
        self.stops += u32::from(place.order_type.is_stop());
        let part = place.special.as_ref().and_then(|special| special.iceberg_quantity);
        self.icebergs += u32::from(part.is_some_and(|part| !part.is_zero()));
    }
}
