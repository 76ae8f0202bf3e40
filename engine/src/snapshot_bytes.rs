//! A snapshot as bytes, versioned, and back.
//!
//! What there are millions of, orders and balances, is written as records of fixed size, little-endian, so that writing and
//! reading go at the speed of memory. All the rest, and what few orders have, is in postcard's encoding before them.

use crate::account::OrderCount;
use crate::command::AccountSettings;
use crate::order::{ClientOrderId, Order, OrderStatus, OrderType, SelfTradePrevention, Side, Special, TimeInForce};
use crate::snapshot::{AccountState, Snapshot, SymbolState};
use crate::units::{Amount, AssetId, OrderId, Price, Quantity, SymbolId, Time, Uid};

/// The version of the bytes that [`Snapshot::encode`] writes.
pub const VERSION: u32 = 2;

/// An order: number, owner, name, price, quantity, executed, cumulative quote, times, and six bytes for the rest.
const ORDER_BYTES: usize = 8 + 8 + 28 + 8 + 8 + 8 + 16 + 8 + 8 + 6;
/// A balance: whose account, as its place among them; asset, free, locked.
const BALANCE_BYTES: usize = 4 + 4 + 16 + 16;

const SIDES: [Side; 2] = [Side::Buy, Side::Sell];
const ORDER_TYPES: [OrderType; 7] = [
    OrderType::Limit,
    OrderType::Market,
    OrderType::LimitMaker,
    OrderType::StopLoss,
    OrderType::StopLossLimit,
    OrderType::TakeProfit,
    OrderType::TakeProfitLimit,
];
const TIMES_IN_FORCE: [TimeInForce; 3] = [TimeInForce::Gtc, TimeInForce::Ioc, TimeInForce::Fok];
const PREVENTIONS: [SelfTradePrevention; 6] = [
    SelfTradePrevention::None,
    SelfTradePrevention::ExpireTaker,
    SelfTradePrevention::ExpireMaker,
    SelfTradePrevention::ExpireBoth,
    SelfTradePrevention::Decrement,
    SelfTradePrevention::Transfer,
];
/// Those that an open order can have.
const STATUSES: [OrderStatus; 3] = [OrderStatus::New, OrderStatus::PendingNew, OrderStatus::PartiallyFilled];

/// Why bytes are not a snapshot.
#[derive(Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Written by another version of the format.
    Version(u32),
    /// Not the bytes of a snapshot.
    Malformed,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DecodeError::Version(found) => write!(f, "snapshot format {found}, this program reads {VERSION}"),
            DecodeError::Malformed => f.write_str("malformed snapshot"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// An account without its balances.
type AccountHead = (Uid, AccountSettings, [OrderCount; 2]);
/// What few orders have, by place.
type Specials = Vec<(u64, Box<Special>)>;

/// How many records there are, by kind.
#[derive(serde::Serialize, serde::Deserialize)]
struct Head {
    /// Orders of each symbol.
    orders: Vec<u64>,
    specials: Vec<Specials>,
    accounts: Vec<AccountHead>,
    balances: u64,
}

impl Snapshot {
    /// The state as bytes: the format version, the length of the head, the head, then the records.
    pub fn encode(&self) -> Vec<u8> {
        let head = Head {
            orders: self.symbols.iter().map(|state| state.orders.len() as u64).collect(),
            specials: self.symbols.iter().map(|state| specials_of(&state.orders)).collect(),
            accounts: self.accounts.iter().map(|state| (state.uid, state.settings, state.order_counts)).collect(),
            balances: self.accounts.iter().map(|state| state.balances.len() as u64).sum(),
        };
        let bytes = postcard::to_extend(&head, Vec::new()).expect("plain data can always be encoded");
        let rest = self.without_records();
        let bytes = postcard::to_extend(&rest, bytes).expect("plain data can always be encoded");
        let orders: u64 = head.orders.iter().sum();
        let records = orders as usize * ORDER_BYTES + head.balances as usize * BALANCE_BYTES;
        let mut out = Vec::with_capacity(12 + bytes.len() + records);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(&bytes);
        for order in self.symbols.iter().flat_map(|state| &state.orders) {
            out.extend_from_slice(&encode_order(order));
        }
        for (at, state) in (0u32..).zip(&self.accounts) {
            for &(asset, free, locked) in &state.balances {
                let mut record = Record::<BALANCE_BYTES>::default();
                record.put(&at.to_le_bytes()).put(&asset.0.to_le_bytes());
                record.put(&free.0.to_le_bytes()).put(&locked.0.to_le_bytes());
                out.extend_from_slice(&record.bytes);
            }
        }
        out
    }

    /// The state from the bytes that [`Snapshot::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Snapshot, DecodeError> {
        let (version, bytes) = bytes.split_first_chunk().ok_or(DecodeError::Malformed)?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        decode_body(bytes).ok_or(DecodeError::Malformed)
    }

    /// All but orders and accounts.
    fn without_records(&self) -> Snapshot {
        let symbol = |state: &SymbolState| SymbolState {
            symbol: state.symbol.clone(),
            counters: state.counters,
            last_price: state.last_price,
            reference_price: state.reference_price,
            average: state.average.clone(),
            breaker: state.breaker.clone(),
            orders: Vec::new(),
            shown: state.shown.clone(),
            stop_holds: state.stop_holds.clone(),
            lists: state.lists.clone(),
        };
        Snapshot {
            sequence: self.sequence,
            time: self.time,
            assets: self.assets.clone(),
            symbols: self.symbols.iter().map(symbol).collect(),
            accounts: Vec::new(),
            limits: self.limits,
            commission_tiers: self.commission_tiers.clone(),
            api_keys: self.api_keys.clone(),
            transfers: self.transfers.clone(),
            withdrawals: self.withdrawals.clone(),
            countdowns: self.countdowns.clone(),
        }
    }
}

fn decode_body(bytes: &[u8]) -> Option<Snapshot> {
    let (length, bytes) = bytes.split_first_chunk()?;
    let (plain, mut records) = bytes.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let (head, plain): (Head, _) = postcard::take_from_bytes(plain).ok()?;
    let mut snapshot: Snapshot = postcard::from_bytes(plain).ok()?;
    if (head.orders.len(), head.specials.len()) != (snapshot.symbols.len(), snapshot.symbols.len()) {
        return None;
    }
    for ((state, count), specials) in snapshot.symbols.iter_mut().zip(head.orders).zip(head.specials) {
        let length = usize::try_from(count).ok()?.checked_mul(ORDER_BYTES)?;
        let (orders, rest) = records.split_at_checked(length)?;
        records = rest;
        let symbol = state.symbol.id;
        let decoded = orders.chunks_exact(ORDER_BYTES).map(|record| decode_order(record.try_into().ok()?, symbol));
        state.orders = decoded.collect::<Option<_>>()?;
        for (at, special) in specials {
            state.orders.get_mut(usize::try_from(at).ok()?)?.special = Some(special);
        }
    }
    let state = |(uid, settings, order_counts)| AccountState { uid, settings, order_counts, balances: Vec::new() };
    snapshot.accounts = head.accounts.into_iter().map(state).collect();
    let length = usize::try_from(head.balances).ok()?.checked_mul(BALANCE_BYTES)?;
    if records.len() != length {
        return None;
    }
    for record in records.chunks_exact(BALANCE_BYTES) {
        let mut record = Reader(record);
        let account = snapshot.accounts.get_mut(u32::from_le_bytes(record.take()) as usize)?;
        let asset = AssetId(u32::from_le_bytes(record.take()));
        let free = Amount(u128::from_le_bytes(record.take()));
        account.balances.push((asset, free, Amount(u128::from_le_bytes(record.take()))));
    }
    Some(snapshot)
}

fn specials_of(orders: &[Order]) -> Specials {
    let special = |(at, order): (u64, &Order)| order.special.clone().map(|special| (at, special));
    (0..).zip(orders).filter_map(special).collect()
}

fn encode_order(order: &Order) -> [u8; ORDER_BYTES] {
    let mut record = Record::<ORDER_BYTES>::default();
    record.put(&order.order_id.0.to_le_bytes()).put(&order.uid.0.to_le_bytes());
    for word in order.client_order_id.words() {
        record.put(&word.to_le_bytes());
    }
    for number in [order.price.0, order.quantity.0, order.executed.0] {
        record.put(&number.to_le_bytes());
    }
    record.put(&order.cumulative_quote.0.to_le_bytes());
    record.put(&order.created_at.0.to_le_bytes()).put(&order.updated_at.0.to_le_bytes());
    let status = STATUSES.iter().position(|status| *status == order.status).expect("an open order") as u8;
    record.put(&[
        order.side as u8,
        order.order_type as u8,
        order.time_in_force as u8,
        order.self_trade_prevention as u8,
        status,
        0,
    ]);
    record.bytes
}

fn decode_order(record: &[u8; ORDER_BYTES], symbol: SymbolId) -> Option<Order> {
    let mut record = Reader(record);
    let order_id = OrderId(u64::from_le_bytes(record.take()));
    let uid = Uid(u64::from_le_bytes(record.take()));
    let words = std::array::from_fn(|_| u32::from_le_bytes(record.take()));
    let [price, quantity, executed] = std::array::from_fn(|_| u64::from_le_bytes(record.take()));
    let cumulative_quote = Amount(u128::from_le_bytes(record.take()));
    let [created_at, updated_at] = std::array::from_fn(|_| Time(u64::from_le_bytes(record.take())));
    let [side, order_type, time_in_force, prevention, status, _] = record.take::<6>().map(usize::from);
    Some(Order {
        order_id,
        symbol,
        uid,
        client_order_id: ClientOrderId::from_words(words),
        side: *SIDES.get(side)?,
        order_type: *ORDER_TYPES.get(order_type)?,
        time_in_force: *TIMES_IN_FORCE.get(time_in_force)?,
        self_trade_prevention: *PREVENTIONS.get(prevention)?,
        price: Price(price),
        quantity: Quantity(quantity),
        quote_order_quantity: Amount::ZERO,
        executed: Quantity(executed),
        cumulative_quote,
        status: *STATUSES.get(status)?,
        created_at,
        updated_at,
        special: None,
    })
}

/// A record being written, field after field.
struct Record<const N: usize> {
    bytes: [u8; N],
    written: usize,
}

impl<const N: usize> Default for Record<N> {
    fn default() -> Self {
        Record { bytes: [0; N], written: 0 }
    }
}

impl<const N: usize> Record<N> {
    fn put(&mut self, field: &[u8]) -> &mut Self {
        self.bytes[self.written..self.written + field.len()].copy_from_slice(field);
        self.written += field.len();
        self
    }
}

/// A record being read, field after field.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("a record has the length of its fields");
        self.0 = rest;
        *field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_an_order_is_where_its_list_has_it() {
        assert!(SIDES.iter().enumerate().all(|(at, word)| *word as usize == at));
        assert!(ORDER_TYPES.iter().enumerate().all(|(at, word)| *word as usize == at));
        assert!(TIMES_IN_FORCE.iter().enumerate().all(|(at, word)| *word as usize == at));
        assert!(PREVENTIONS.iter().enumerate().all(|(at, word)| *word as usize == at));
    }
}
