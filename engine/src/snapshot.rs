//! The whole state, no longer changing: what is written down, what readers start from, and its hash.
//!
//! A snapshot is a copy of the engine at the speed of memory; what it holds is told one by one to who asks, and never stands
//! in memory a second time. snapshot_bytes.rs writes it down.

use sha2::{Digest, Sha256};

use crate::access::{KeyRules, User};
pub use crate::account::AccountState;
use crate::book::{Ladder, Level, Slot};
use crate::command::{AddAsset, ApiKey, ExchangeLimits};
use crate::commission::CommissionRates;
use crate::engine::Engine;
pub use crate::market::Counters;
use crate::market::Market;
pub use crate::market_bytes::{ReadSymbol, UnreadSymbol};
use crate::order::{Order, Side};
use crate::order_list::List;
use crate::quotes::QuoteTerms;
use crate::snapshot_bytes::{self, DecodeError};
use crate::symbol::Symbol;
use crate::units::{Amount, OrderId, Price, Quantity, Sequence, Time};

/// The state of the engine after a command.
#[derive(Clone)]
pub struct Snapshot(Box<Engine>);

/// An asset and how much of it is in the exchange.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AssetState {
    /// Name and scale.
    pub asset: AddAsset,
    /// Deposits less withdrawals.
    pub supply: Amount,
}

/// A symbol, its counters and its book.
#[derive(Clone, Copy, Debug)]
pub struct SymbolState<'a>(&'a Market);

impl Snapshot {
    /// The last command that is in it; 0 before the first.
    pub fn sequence(&self) -> Sequence {
        self.0.sequence
    }

    /// The time of that command.
    pub fn time(&self) -> Time {
        self.0.floor.now
    }

    /// By asset id.
    pub fn assets(&self) -> impl Iterator<Item = AssetState> {
        let assets = self.0.assets.iter().zip(self.0.floor.accounts.supplies());
        assets.map(|(asset, supply)| AssetState { asset: asset.clone(), supply })
    }

    /// By symbol id.
    pub fn symbols(&self) -> impl Iterator<Item = SymbolState<'_>> {
        self.0.markets.iter().map(SymbolState)
    }

    /// By uid; the fee account is the first.
    pub fn accounts(&self) -> impl Iterator<Item = AccountState> {
        self.0.floor.accounts.states()
    }

    /// The limits over all symbols.
    pub fn limits(&self) -> &ExchangeLimits {
        &self.0.floor.limits
    }

    /// What tier n pays is at n - 1.
    pub fn commission_tiers(&self) -> &[Option<CommissionRates>] {
        &self.0.floor.desk.tiers
    }

    /// How many deposits and withdrawals took effect.
    pub fn transfers(&self) -> usize {
        self.0.transfers.len()
    }

    /// By key.
    pub fn api_keys(&self) -> impl Iterator<Item = &ApiKey> {
        self.0.access.api_keys.values()
    }

    /// What binds the keys that are bound.
    pub fn key_rules(&self) -> impl Iterator<Item = (&String, &KeyRules)> {
        self.0.access.rules.iter()
    }

    /// By name.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.0.access.users.values()
    }

    /// The state's hash: SHA-256 of its bytes.
    pub fn hash(&self) -> StateHash {
        self.0.state_hash()
    }

    /// The state as bytes: the same state gives the same bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(snapshot_bytes::about(&self.0));
        self.write(|piece| bytes.extend_from_slice(piece));
        bytes
    }

    /// The same, piece after piece.
    pub fn write(&self, mut sink: impl FnMut(&[u8])) {
        snapshot_bytes::write(&self.0, &mut sink);
    }

    /// The state from the bytes that [`Snapshot::encode`] gave. They are not believed: what is no sound state is refused.
    pub fn decode(bytes: &[u8]) -> Result<Snapshot, DecodeError> {
        snapshot_bytes::read(bytes).map(|engine| Snapshot(Box::new(engine)))
    }

    /// The same for who has more than one thread: the symbols that it gives can be read at a time. [`OpenedSnapshot::close`]
    /// takes them in the order in which they stand here.
    pub fn open(bytes: &[u8]) -> Result<(OpenedSnapshot<'_>, Vec<UnreadSymbol<'_>>), DecodeError> {
        snapshot_bytes::open(bytes).map(|(opened, symbols)| (OpenedSnapshot(opened), symbols))
    }
}

/// A snapshot whose symbols are being read.
pub struct OpenedSnapshot<'a>(snapshot_bytes::Opened<'a>);

impl OpenedSnapshot<'_> {
    /// The state, once all symbols are read.
    pub fn close(
        self,
        symbols: impl IntoIterator<Item = Result<ReadSymbol, DecodeError>>,
    ) -> Result<Snapshot, DecodeError> {
        self.0.close(symbols).map(|engine| Snapshot(Box::new(engine)))
    }
}

impl From<Engine> for Snapshot {
    /// The state of an engine that goes on no more.
    fn from(engine: Engine) -> Snapshot {
        Snapshot(Box::new(engine))
    }
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Snapshot) -> bool {
        self.hash() == other.hash()
    }
}

impl Eq for Snapshot {}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("sequence", &self.sequence()).field("hash", &self.hash()).finish()
    }
}

impl<'a> SymbolState<'a> {
    /// As listed, with its status.
    pub fn symbol(self) -> &'a Symbol {
        &self.0.symbol
    }

    /// The last numbers given.
    pub fn counters(self) -> Counters {
        self.0.counters
    }

    /// The price of the last trade.
    pub fn last_price(self) -> Option<Price> {
        self.0.last_price
    }

    /// What the levels of a side show, best first.
    pub fn levels(self, side: Side) -> impl Iterator<Item = (Price, Quantity)> {
        let (levels, shown) = self.shown(side);
        levels.map(|level| (level.price, level.shown)).chain(shown)
    }

    /// What depth shows: the levels of the book, or of a quote-driven symbol the house.
    fn shown(self, side: Side) -> (impl Iterator<Item = &'a Level>, Option<(Price, Quantity)>) {
        let desk = self.0.desk.as_ref();
        let levels = desk.is_none().then(|| self.0.book.levels(Ladder::of(side)));
        (levels.into_iter().flatten(), desk.and_then(|desk| desk.shown[side as usize]))
    }

    /// How it is quote-driven, if it is.
    pub fn quote_terms(self) -> Option<QuoteTerms> {
        self.0.desk.as_ref().map(|desk| desk.terms)
    }

    /// What the house of a quote-driven symbol has bought here less what it has sold, in smallest base units.
    pub fn house_position(self) -> Option<i128> {
        self.0.desk.as_ref().map(|desk| desk.position)
    }

    /// All open orders: the bids and then the asks, each best price first and then in the order in which they would trade;
    /// then by number the stops that wait and the pending orders of lists.
    pub fn orders(self) -> impl Iterator<Item = Order> {
        let book = &self.0.book;
        let resting = [Ladder::Bids, Ladder::Asks].into_iter().flat_map(|ladder| book.levels(ladder));
        let resting = resting.flat_map(|level| book.queue(level));
        let waits = move |slot: &Slot| !book.is_resting(*slot);
        resting.chain(book.slots().filter(waits)).map(|slot| book.order(slot))
    }

    /// What an operator said it is worth.
    pub fn reference_price(self) -> Option<Price> {
        self.0.reference_price
    }

    /// How many orders stand at each level of a side, best first.
    pub fn orders_at_levels(self, side: Side) -> impl Iterator<Item = u32> {
        let (levels, shown) = self.shown(side);
        levels.map(|level| level.orders).chain(shown.map(|_| 1))
    }

    /// What a waiting stop that will be a market buy holds.
    pub fn stop_held(self, order_id: OrderId) -> Option<Amount> {
        let book = &self.0.book;
        let note = book.by_number(order_id).and_then(|slot| book.note(slot));
        note.map(|note| note.held).filter(|held| !held.is_zero())
    }

    /// How many orders are open.
    pub fn open_orders(self) -> usize {
        self.0.book.len()
    }

    /// The lists under way, by number.
    pub fn lists(self) -> impl Iterator<Item = &'a List> {
        self.0.lists.iter()
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
    /// The whole state as it is now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(Box::new(self.clone()))
    }

    /// What tells this state from any other.
    pub fn state_hash(&self) -> StateHash {
        let mut hasher = Sha256::new();
        snapshot_bytes::write(self, &mut |piece| hasher.update(piece));
        StateHash(hasher.finalize().into())
    }

    /// The exchange that goes on from a snapshot.
    pub fn from_snapshot(snapshot: Snapshot) -> Engine {
        *snapshot.0
    }
}
