//! A snapshot as bytes, versioned, and back.
//!
//! What there are millions of (accounts, transfers, orders) is written as records, little-endian, so that writing and reading
//! go at the speed of memory. All the rest is in postcard's encoding, in blocks that begin with their length:
//!
//! ```text
//! version     u32
//! block       the exchange: Head
//! accounts    by uid: 43 bytes, then 36 for each balance that is not zero, by asset
//! transfers   by uid and external id: uid, length of the id, the id
//! symbols     by id, as market_bytes.rs has them
//! block       what binds keys, and users: AccessBlock; without any the version is lower and this is not there
//! block       the quote-driven symbols, by id: DeskBlock; without any the version is lower and this is not there
//! uses        of the names that clients gave to new orders, oldest first, as once.rs has them; without any it ends before
//! ```
//!
//! The bytes are canonical: they follow from the state alone, and not from how it came about, which slots its orders have or
//! what was in them before; so the state's hash is a hash of them. The other way round, bytes that would not be written are
//! not read: whatever is accepted is written again as the same bytes.
//!
//! A reader believes nothing, since a snapshot comes from a disk or a peer. It refuses what no engine comes to (an order
//! without its funds, an asset whose balances are not its supply, a crossed book), and needs no more memory than some ten
//! times what it was given, whatever the counts in it say.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::access::{KeyRules, User};
use crate::account::{AccountState, Accounts, FEE_ACCOUNT, Needs, OrderCount};
pub use crate::bytes::{DecodeError, VERSION};
use crate::bytes::{
    Decoded, HIGHEST, Reader, Record, VERSION_WITHOUT_ACCESS, VERSION_WITHOUT_DESKS, VERSION_WITHOUT_USES, Writer,
    ensure, found,
};
use crate::command::{AccountSettings, AddAsset, ApiKey, ExchangeLimits};
use crate::commission::CommissionRates;
use crate::engine::{Deadline, Engine};
use crate::market::Market;
use crate::market_bytes::{self, ReadSymbol, UnreadSymbol};
use crate::once;
use crate::quotes::QuoteDesk;
use crate::timer::Timers;
use crate::units::{Amount, AssetId, OrderId, Price, Sequence, SymbolId, Time, TradeGroup, Uid};

/// An account: uid, flags, tier, group, two order counts, how many balances.
const ACCOUNT_BYTES: usize = 8 + 1 + 2 + 4 + 2 * 12 + 4;
/// A balance: asset, free, locked.
const BALANCE_BYTES: usize = 4 + 16 + 16;
/// A transfer but for its name: uid, length of the name.
const TRANSFER_BYTES: usize = 8 + 1;

/// What an exchange has few of, and how many there are of what it has many of.
#[derive(Serialize, Deserialize)]
struct Head {
    sequence: Sequence,
    time: Time,
    /// With how much of each is in the exchange.
    assets: Vec<(AddAsset, Amount)>,
    limits: ExchangeLimits,
    commission_tiers: Vec<Option<CommissionRates>>,
    api_keys: Vec<ApiKey>,
    withdrawals: Vec<((Uid, String), (AssetId, Amount))>,
    countdowns: Vec<((SymbolId, Uid), Time)>,
    accounts: u64,
    transfers: u64,
    symbols: u32,
}

/// What binds keys, and the users.
#[derive(Serialize, Deserialize)]
struct AccessBlock {
    rules: Vec<(String, KeyRules)>,
    users: Vec<User>,
    has_uses: bool,
}

/// The quote-driven symbols.
#[derive(Serialize, Deserialize)]
struct DeskBlock {
    desks: Vec<(SymbolId, QuoteDesk)>,
}

/// About how many bytes there will be: not fewer by much.
pub(crate) fn about(engine: &Engine) -> usize {
    let orders: usize = engine.markets.iter().map(|market| market.book.len()).sum();
    let accounts = engine.floor.accounts.open_accounts() * (ACCOUNT_BYTES + 2 * BALANCE_BYTES);
    orders * market_bytes::ORDER_BYTES
        + engine.uses.len() * once::USE_BYTES
        + accounts
        + engine.transfers.len() * (TRANSFER_BYTES + 16)
}

/// The state's bytes, piece after piece.
pub(crate) fn write(engine: &Engine, sink: &mut dyn FnMut(&[u8])) {
    let mut out = Writer::new(sink);
    let (has_access, has_uses) = (engine.access.has_more(), engine.uses.len() > 0);
    let desks = engine.markets.iter().filter_map(|market| Some((market.symbol.id, (**market.desk.as_ref()?).clone())));
    let desks: Vec<(SymbolId, QuoteDesk)> = desks.collect();
    let version = match (has_access, has_uses) {
        _ if !desks.is_empty() => VERSION,
        (true, _) => VERSION_WITHOUT_DESKS,
        (false, true) => VERSION_WITHOUT_ACCESS,
        (false, false) => VERSION_WITHOUT_USES,
    };
    out.put(&version.to_le_bytes());
    out.block(&Head {
        sequence: engine.sequence,
        time: engine.floor.now,
        assets: engine.assets.iter().zip(engine.floor.accounts.supplies()).map(|(a, s)| (a.clone(), s)).collect(),
        limits: engine.floor.limits,
        commission_tiers: engine.floor.desk.tiers.clone(),
        api_keys: engine.access.api_keys.values().cloned().collect(),
        withdrawals: engine.withdrawals.iter().map(|(name, held)| (name.clone(), *held)).collect(),
        countdowns: engine.countdowns.iter().map(|(whose, at)| (*whose, *at)).collect(),
        accounts: engine.floor.accounts.open_accounts() as u64,
        transfers: engine.transfers.len() as u64,
        symbols: engine.markets.len() as u32,
    });
    engine.floor.accounts.states().for_each(|state| write_account(&state, &mut out));
    for (uid, name) in &engine.transfers {
        out.put(&uid.0.to_le_bytes());
        out.put(&[name.len() as u8]);
        out.put(name.as_bytes());
    }
    engine.markets.iter().for_each(|market| market_bytes::write(market, &mut out));
    if has_access || version == VERSION {
        out.block(&AccessBlock {
            rules: engine.access.rules.clone().into_iter().collect(),
            users: engine.access.users.values().cloned().collect(),
            has_uses,
        });
    }
    if version == VERSION {
        out.block(&DeskBlock { desks });
    }
    if has_uses {
        once::write(&engine.uses, &mut out);
    }
    out.flush();
}

/// The engine whose bytes these are.
pub(crate) fn read(bytes: &[u8]) -> Decoded<Engine> {
    let mut opened = open_exchange(bytes)?;
    for id in 0..opened.symbols {
        let rest = market_bytes::open(&mut opened.left, SymbolId(id), &mut opened.engine)?;
        let market = opened.engine.markets.pop().expect("it was just listed");
        let symbol = ReadSymbol::read(market, rest, opened.engine.floor.now, &mut opened.left)?;
        symbol.join(&mut opened.engine, &mut opened.needs)?;
    }
    opened.close([])
}

/// The same for who has more than one thread: the symbols can be read at a time. Who has only one is spared passing over them.
pub(crate) fn open(bytes: &[u8]) -> Decoded<(Opened<'_>, Vec<UnreadSymbol<'_>>)> {
    let mut opened = open_exchange(bytes)?;
    let mut rests = Vec::new();
    for id in 0..opened.symbols {
        let rest = market_bytes::open(&mut opened.left, SymbolId(id), &mut opened.engine)?;
        let market = opened.engine.markets.last().expect("it was just listed");
        rests.push((market_bytes::pass_over(&mut opened.left, &rest, market)?, rest));
    }
    let (markets, now) = (std::mem::take(&mut opened.engine.markets), opened.engine.floor.now);
    let symbols = markets.into_iter().zip(rests);
    let symbols = symbols.map(|(market, (bytes, rest))| UnreadSymbol::new(market, rest, now, bytes)).collect();
    Ok((opened, symbols))
}

/// Bytes of which all is read but the symbols, and what stands behind those.
pub(crate) struct Opened<'a> {
    engine: Engine,
    needs: Needs,
    countdowns: Vec<((SymbolId, Uid), Time)>,
    symbols: u32,
    version: u32,
    left: Reader<'a>,
}

/// Reads what stands before the symbols.
fn open_exchange(bytes: &[u8]) -> Decoded<Opened<'_>> {
    let mut input = Reader(bytes);
    let version = u32::from_le_bytes(input.take()?);
    if !(VERSION_WITHOUT_USES..=VERSION).contains(&version) {
        return Err(DecodeError::Version(version));
    }
    let head: Head = input.block()?;
    ensure(head.sequence.0 < HIGHEST && head.time.0 < HIGHEST, "a time or sequence out of range")?;
    let mut engine = Engine::new();
    engine.sequence = head.sequence;
    engine.floor.now = head.time;
    engine.timers = Timers::new(head.time);
    for (asset, _) in &head.assets {
        ensure(engine.can_add_asset(asset).is_ok(), "an asset that cannot be")?;
        engine.assets.push(asset.clone());
    }
    ensure(head.limits.is_sound(), "limits that cannot be")?;
    engine.floor.limits = head.limits;
    let tiers = head.commission_tiers;
    let sound = tiers.len() <= usize::from(u16::MAX) && !matches!(tiers.last(), Some(None));
    ensure(sound, "commission tiers that cannot be")?;
    engine.floor.desk.tiers = tiers;
    let supplies: Vec<Amount> = head.assets.iter().map(|&(_, supply)| supply).collect();
    engine.floor.accounts = read_accounts(&mut input, head.accounts, &supplies)?;
    engine.transfers = read_transfers(&mut input, head.transfers, &engine.floor.accounts)?;
    ensure(head.api_keys.is_sorted_by(|a, b| a.api_key < b.api_key), "API keys out of order")?;
    for key in head.api_keys {
        let added = engine.access.add_api_key(&key, &engine.floor.accounts);
        ensure(added.is_ok(), "an API key that cannot be")?;
    }
    let mut needs = Needs::default();
    ensure(head.withdrawals.is_sorted_by(|a, b| a.0 < b.0), "withdrawals out of order")?;
    for (name, (asset, amount)) in &head.withdrawals {
        let known = engine.transfers.contains(name) && (asset.0 as usize) < engine.assets.len();
        ensure(known && !amount.is_zero(), "a withdrawal that cannot be")?;
        let at = engine.floor.accounts.place(name.0, *asset);
        found(needs.add(at, *amount), "holds that do not fit")?;
    }
    engine.withdrawals = BTreeMap::from_iter(head.withdrawals);
    Ok(Opened { engine, needs, countdowns: head.countdowns, symbols: head.symbols, version, left: input })
}

impl Opened<'_> {
    /// The engine, once all symbols are read; those that have not joined it yet come in their order.
    pub(crate) fn close(self, symbols: impl IntoIterator<Item = Decoded<ReadSymbol>>) -> Decoded<Engine> {
        let Opened { mut engine, mut needs, countdowns, version, left: mut input, .. } = self;
        for symbol in symbols {
            symbol?.join(&mut engine, &mut needs)?;
        }
        read_end(&mut input, version, &mut engine)?;
        ensure(countdowns.is_sorted_by(|a, b| a.0 < b.0), "countdowns out of order")?;
        for &((symbol, uid), at) in &countdowns {
            let known = (symbol.0 as usize) < engine.markets.len() && engine.floor.trader(uid).is_ok();
            ensure(known && at.0 < 2 * HIGHEST, "a countdown that cannot be")?;
            engine.timers.set(at, Deadline::Countdown(symbol, uid));
        }
        engine.countdowns = BTreeMap::from_iter(countdowns);
        ensure(engine.floor.accounts.is_locked(&needs), "an account that does not hold what its orders need")?;
        Ok(engine)
    }
}

/// What stands behind the symbols.
fn read_end(input: &mut Reader, version: u32, engine: &mut Engine) -> Decoded<()> {
    let mut has_uses = version == VERSION_WITHOUT_ACCESS;
    if version >= VERSION_WITHOUT_DESKS {
        let block: AccessBlock = input.block()?;
        has_uses = block.has_uses;
        for (api_key, rules) in block.rules {
            ensure(engine.access.restore_rules(api_key, rules), "rules of a key that cannot be")?;
        }
        for user in block.users {
            ensure(engine.access.restore_user(user, &engine.floor.accounts), "a user that cannot be")?;
        }
        ensure(version == VERSION || engine.access.has_more(), "a later version than it needs")?;
    }
    if version == VERSION {
        read_desks(input, engine)?;
    }
    let sound = |market: &Market| market.desk.is_some() || !market.book.is_crossed();
    ensure(engine.markets.iter().all(sound), "a crossed book")?;
    if has_uses {
        let is_trader = |uid| engine.floor.trader(uid).is_ok();
        let last = |symbol: SymbolId| engine.markets.get(symbol.0 as usize).map(|market| market.counters.order);
        let is_order = |symbol, order: OrderId| order.0 > 0 && last(symbol).is_some_and(|last| order.0 <= last);
        engine.uses = once::read(input, (engine.sequence, engine.floor.now), is_trader, is_order)?;
    }
    ensure(input.0.is_empty(), "bytes behind its end")
}

/// The quote-driven symbols take up their desks.
fn read_desks(input: &mut Reader, engine: &mut Engine) -> Decoded<()> {
    let DeskBlock { desks } = input.block()?;
    ensure(!desks.is_empty() && desks.is_sorted_by(|a, b| a.0 < b.0), "a later version than it needs")?;
    for (symbol, desk) in desks {
        ensure(engine.floor.trader(desk.terms.house).is_ok(), "a house without an account")?;
        let market = found(engine.markets.get_mut(symbol.0 as usize), "a desk of no symbol")?;
        let tick = market.symbol.scale.tick_size().0;
        let highest = Price(u64::try_from(u128::MAX / tick).unwrap_or(u64::MAX));
        ensure(desk.is_sound(engine.floor.now, highest), "a desk that cannot be")?;
        let reference = desk.quote.map(|quote| quote.reference);
        ensure(market.reference_price == reference, "a reference price that nobody said")?;
        let is_house = |uid| uid == desk.terms.house;
        ensure(!market.book.slots().any(|slot| is_house(market.book.uid_of(slot))), "an order of the house")?;
        if let Some(at) = desk.stale_at() {
            engine.timers.set(at, Deadline::Stale(symbol));
        }
        market.desk = Some(Box::new(desk));
    }
    Ok(())
}

fn write_account(state: &AccountState, out: &mut Writer) {
    let AccountSettings {
        can_trade,
        can_withdraw,
        can_deposit,
        trade_group,
        require_self_trade_prevention,
        commission_tier,
        discount,
    } = state.settings;
    let flags = [can_trade, can_withdraw, can_deposit, require_self_trade_prevention, discount, trade_group.is_some()];
    let flags = flags.iter().rev().fold(0, |flags, &flag| flags << 1 | u8::from(flag));
    let mut record = Record::<ACCOUNT_BYTES>::default();
    record.put(&state.uid.0.to_le_bytes()).put(&[flags]).put(&commission_tier.to_le_bytes());
    record.put(&trade_group.map_or(0, |group| group.0).to_le_bytes());
    for OrderCount { window, count } in state.order_counts {
        record.put(&window.to_le_bytes()).put(&count.to_le_bytes());
    }
    record.put(&(state.balances.len() as u32).to_le_bytes());
    out.put(&record.bytes);
    for &(asset, free, locked) in &state.balances {
        let mut record = Record::<BALANCE_BYTES>::default();
        record.put(&asset.0.to_le_bytes()).put(&free.0.to_le_bytes()).put(&locked.0.to_le_bytes());
        out.put(&record.bytes);
    }
}

fn read_accounts(input: &mut Reader, count: u64, supplies: &[Amount]) -> Decoded<Accounts> {
    let most = input.0.len() / ACCOUNT_BYTES;
    let count = usize::try_from(count).ok().filter(|&count| count <= most).ok_or(DecodeError::Cut)?;
    let mut accounts = Accounts::restore(supplies, count);
    let (mut previous, mut state) = (None, AccountState::default());
    for _ in 0..count {
        read_account(input, supplies.len(), &mut state)?;
        let follows = previous.map_or(state.uid == FEE_ACCOUNT, |previous| state.uid > previous);
        ensure(follows, "accounts out of order")?;
        previous = Some(state.uid);
        found(accounts.restore_account(&state), "balances that do not fit")?;
    }
    ensure(previous.is_some(), "no fee account")?;
    accounts.restore_index();
    ensure(accounts.is_conserved(), "balances that do not sum to the supply")?;
    Ok(accounts)
}

/// The next account into `state`, whose memory is used again.
fn read_account(input: &mut Reader, assets: usize, state: &mut AccountState) -> Decoded<()> {
    let mut record = Reader(&input.take::<ACCOUNT_BYTES>()?);
    state.uid = Uid(u64::from_le_bytes(record.take()?));
    let [flags] = record.take()?;
    let commission_tier = u16::from_le_bytes(record.take()?);
    let group = u32::from_le_bytes(record.take()?);
    for counted in &mut state.order_counts {
        let window = u64::from_le_bytes(record.take()?);
        *counted = OrderCount { window, count: u32::from_le_bytes(record.take()?) };
    }
    let count = u32::from_le_bytes(record.take()?) as usize;
    let flag = |at: u8| flags >> at & 1 == 1;
    ensure(flags < 1 << 6 && (flag(5) || group == 0), "an account with unknown settings")?;
    state.settings = AccountSettings {
        can_trade: flag(0),
        can_withdraw: flag(1),
        can_deposit: flag(2),
        trade_group: flag(5).then_some(TradeGroup(group)),
        require_self_trade_prevention: flag(3),
        commission_tier,
        discount: flag(4),
    };
    ensure(count <= assets, "more balances than assets")?;
    state.balances.clear();
    for _ in 0..count {
        let mut record = Reader(&input.take::<BALANCE_BYTES>()?);
        let asset = AssetId(u32::from_le_bytes(record.take()?));
        let free = Amount(u128::from_le_bytes(record.take()?));
        let locked = Amount(u128::from_le_bytes(record.take()?));
        let follows = state.balances.last().is_none_or(|&(previous, ..)| asset > previous);
        let known = (asset.0 as usize) < assets && !(free.is_zero() && locked.is_zero());
        ensure(follows && known, "a balance that cannot be")?;
        state.balances.push((asset, free, locked));
    }
    Ok(())
}

fn read_transfers(input: &mut Reader, count: u64, accounts: &Accounts) -> Decoded<BTreeSet<(Uid, String)>> {
    let most = input.0.len() / TRANSFER_BYTES;
    let count = usize::try_from(count).ok().filter(|&count| count <= most).ok_or(DecodeError::Cut)?;
    let mut transfers: Vec<(Uid, String)> = Vec::with_capacity(count);
    // Both are by uid.
    let mut uids = accounts.uids().peekable();
    for _ in 0..count {
        let uid = Uid(u64::from_le_bytes(input.take()?));
        let [length] = input.take()?;
        let name = std::str::from_utf8(input.bytes(length.into())?).ok();
        let name = found(name.filter(|name| Engine::is_external_id(name)), "a transfer without a name")?;
        let transfer = (uid, name.to_owned());
        while uids.next_if(|open| *open < uid).is_some() {}
        let follows = transfers.last().is_none_or(|last| *last < transfer);
        ensure(follows && uids.peek() == Some(&uid), "a transfer that cannot be")?;
        transfers.push(transfer);
    }
    Ok(BTreeSet::from_iter(transfers))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A count is no reason to ask for memory: only bytes that are there are.
    #[test]
    fn counts_that_the_bytes_do_not_bear_out_are_refused() {
        for count in [1, 1 << 20, u64::from(u32::MAX), u64::MAX / 64, u64::MAX] {
            for lie in 0..3 {
                let head = Head {
                    sequence: Sequence(0),
                    time: Time(0),
                    assets: Vec::new(),
                    limits: ExchangeLimits::default(),
                    commission_tiers: Vec::new(),
                    api_keys: Vec::new(),
                    withdrawals: Vec::new(),
                    countdowns: Vec::new(),
                    accounts: if lie == 0 { count.max(2) } else { 1 },
                    transfers: if lie == 1 { count } else { 0 },
                    symbols: if lie == 2 { count.try_into().unwrap_or(u32::MAX) } else { 0 },
                };
                let mut bytes = Vec::new();
                let mut sink = |piece: &[u8]| bytes.extend_from_slice(piece);
                let mut out = Writer::new(&mut sink);
                out.put(&VERSION.to_le_bytes());
                out.block(&head);
                write_account(&AccountState::default(), &mut out);
                out.flush();
                assert!(matches!(read(&bytes), Err(DecodeError::Cut)), "{count} of kind {lie}");
            }
        }
        let blocks = [[&VERSION.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat(), VERSION.to_le_bytes().to_vec()];
        assert!(blocks.iter().all(|bytes| matches!(read(bytes), Err(DecodeError::Cut))));
    }
}
