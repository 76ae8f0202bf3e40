//! What an account has going in one symbol: where its balances are, its open orders and how many of each kind.
//!
//! Found once by uid; from then on everything in a market knows a trader by its place, which never changes.

use crate::account::{Accounts, BalanceIndex};
use crate::command::{AccountSettings, PlaceOrder};
use crate::hash_index::HashIndex;
use crate::hashing::hash_of_uid;
use crate::order::Side;
use crate::paged::Paged;
use crate::prefetch::prefetch;
use crate::radix::NONE;
use crate::units::{AssetId, Uid};

/// So many traders ahead of the one that is restored, where their accounts are told to be is fetched.
const AHEAD: usize = 16;

/// A trader's place in its market.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TraderIndex(pub u32);

/// An account in one symbol. A cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
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
    /// What its open buy orders could still buy, in lots.
    pub buying: u128,
    /// The account's settings, kept here because every order asks for them.
    pub settings: AccountSettings,
}

/// How many orders of rare kinds a trader has open.
#[derive(Clone, Copy, Debug, Default)]
pub struct RareCounts {
    /// Stops.
    pub stop_orders: u32,
    /// Icebergs.
    pub iceberg_orders: u32,
    /// Order lists.
    pub order_lists: u32,
}

/// All traders of a market.
#[derive(Clone, Debug, Default)]
pub struct Traders {
    all: Paged<Trader>,
    /// Beside `all`.
    rare: Vec<RareCounts>,
    by_uid: HashIndex,
}

impl Traders {
    /// The place of a user who has been here before.
    #[inline]
    pub fn find(&self, uid: Uid) -> Option<TraderIndex> {
        self.by_uid.find(hash_of_uid(uid), |at| self.all[at].uid == uid).map(TraderIndex)
    }

    /// Begin to fetch what [`Traders::find`] takes first.
    pub fn prefetch_index(&self, uid: Uid) {
        self.by_uid.prefetch(hash_of_uid(uid));
    }

    /// Begin to fetch a trader's line, and where that is; none where there seems to be none.
    #[inline]
    pub fn prefetch(&self, uid: Uid) -> Option<u32> {
        let found = self.by_uid.find(hash_of_uid(uid), |_| true);
        if let Some(at) = found {
            prefetch(&self.all[at]);
        }
        found
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
        let at = self.enrol(uid, base, quote, accounts)?;
        self.by_uid.insert(hash_of_uid(uid), at);
        Some(TraderIndex(at))
    }

    /// A place that is not to be found by uid yet.
    fn enrol(&mut self, uid: Uid, base: AssetId, quote: AssetId, accounts: &mut Accounts) -> Option<u32> {
        let ([base, quote], settings) = accounts.places(uid, [base, quote])?;
        let at = self.all.push(Trader {
            uid,
            base,
            quote,
            first_order: NONE,
            last_order: NONE,
            open_by_side: [0; 2],
            buying: 0,
            settings,
        });
        self.rare.push(RareCounts::default());
        Some(at)
    }

    /// The traders of a snapshot, by uid; `None` where one has no account.
    pub fn restore(
        uids: impl ExactSizeIterator<Item = Uid> + Clone,
        base: AssetId,
        quote: AssetId,
        accounts: &mut Accounts,
    ) -> Option<Traders> {
        let mut traders = Traders::default();
        traders.rare.reserve_exact(uids.len());
        let mut ahead = uids.clone().skip(AHEAD);
        for uid in uids.clone() {
            ahead.next().into_iter().for_each(|uid| accounts.prefetch_index(uid));
            traders.enrol(uid, base, quote, accounts)?;
        }
        traders.by_uid = HashIndex::restore(uids.map(hash_of_uid), |_, _| false)?;
        Some(traders)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// A trader.
    #[inline]
    pub fn at(&self, index: TraderIndex) -> &Trader {
        &self.all[index.0]
    }

    /// A trader, to change.
    #[inline]
    pub fn at_mut(&mut self, index: TraderIndex) -> &mut Trader {
        &mut self.all[index.0]
    }

    /// How many orders of rare kinds a trader has open.
    pub fn rare(&self, index: TraderIndex) -> &RareCounts {
        &self.rare[index.0 as usize]
    }

    /// The same, to change.
    pub fn rare_mut(&mut self, index: TraderIndex) -> &mut RareCounts {
        &mut self.rare[index.0 as usize]
    }

    /// All traders, in the order of their coming.
    pub fn iter(&self) -> impl Iterator<Item = (&Trader, &RareCounts)> {
        self.all.iter().zip(&self.rare)
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
