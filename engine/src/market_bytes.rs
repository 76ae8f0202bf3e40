//! One symbol in a snapshot.
//!
//! ```text
//! block      the symbol: Head
//! traders    those with open orders, by uid: 8 bytes each
//! levels     ladder after ladder (bids, asks, rising, falling), the best first: the price
//! orders     by number: 64 bytes; behind it, where it has one, its note: 64 bytes and what is special in postcard's encoding
//! queues     how many, u32; each: the level, u32, and its orders, u32 each
//! ```
//!
//! An order names its trader and its level by their place in the lists before it, so that no reader searches for them. Orders
//! stand in the order of their numbers, in which a trader's orders stand anyway. So do most queues; those that do not (an
//! iceberg showed its next part, an order was moved, a stop came late) follow at the end, by level, as places of orders.
//! Stops queue by number whenever their prices come, so nothing is said of their queues.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::account::{Accounts, FEE_ACCOUNT, Needs};
use crate::average::{AveragePrice, Bucket};
use crate::book::{Book, Ladder, Note, PlainOrder, Slot};
use crate::breaker::Breaker;
use crate::bytes::{Decoded, Reader, Record, Writer, ensure, found, from_postcard, to_postcard};
use crate::command::OrderListKind;
use crate::engine::{Deadline, Engine};
use crate::event::OrderListStatus;
use crate::filter::rises;
use crate::market::{Counters, Market};
use crate::order::{ClientOrderId, OrderType, SelfTradePrevention, Side, Special, TimeInForce};
use crate::order_list::List;
use crate::prefetch::prefetch;
use crate::radix::NONE;
use crate::symbol::{Symbol, SymbolConfig};
use crate::trader::{TraderIndex, Traders};
use crate::units::{Amount, Notional, OrderId, Price, Quantity, SymbolId, Time, Uid};

/// An order: number, open, created, trader, level, name, words.
pub(crate) const ORDER_BYTES: usize = 3 * 8 + 2 * 4 + 28 + 4;
/// Where in it its trader and level stand.
const TRADER_AT: usize = 3 * 8;
/// Of its words, which stand last: a note follows.
const HAS_NOTE: u32 = 1 << 9;
/// So many orders ahead of the one that is read, what they will touch is fetched.
const AHEAD: usize = 12;
/// A note: quantity, cumulative, updated, shown, price, held, flags, length of what is special.
const NOTE_BYTES: usize = 5 * 8 + 16 + 2 * 4;

/// The ladders in the order in which they are written.
const LADDERS: [Ladder; 4] = [Ladder::Bids, Ladder::Asks, Ladder::Rising, Ladder::Falling];
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

/// What a symbol has one of, and how many there are of what it has many of.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    symbol: Cow<'a, Symbol>,
    counters: Counters,
    last_price: Option<Price>,
    reference_price: Option<Price>,
    average: Vec<Bucket>,
    breaker: Cow<'a, Breaker>,
    lists: Vec<Cow<'a, List>>,
    traders: u32,
    levels: [u32; 4],
    orders: u32,
}

/// Writes a symbol.
pub(crate) fn write(market: &Market, out: &mut Writer) {
    let book = &market.book;
    let trading = (0u32..).zip(book.traders.iter()).filter(|(_, (trader, _))| trader.open_orders() > 0);
    let mut traders: Vec<(Uid, u32)> = trading.map(|(at, (trader, _))| (trader.uid, at)).collect();
    traders.sort_unstable();
    let levels = LADDERS.map(|ladder| book.level_places(ladder));
    out.block(&Head {
        symbol: Cow::Borrowed(&market.symbol),
        counters: market.counters,
        last_price: market.last_price,
        reference_price: market.reference_price,
        average: market.average.buckets().copied().collect(),
        breaker: Cow::Borrowed(&market.breaker),
        lists: market.lists.iter().map(Cow::Borrowed).collect(),
        traders: traders.len() as u32,
        levels: [0, 1, 2, 3].map(|ladder: usize| levels[ladder].len() as u32),
        orders: book.len() as u32,
    });
    let mut ranks = Ranks { traders: vec![NONE; book.traders.len()], levels: vec![NONE; book.level_places_end()] };
    for (rank, &(uid, at)) in (0..).zip(&traders) {
        ranks.traders[at as usize] = rank;
        out.put(&uid.0.to_le_bytes());
    }
    for (rank, &at) in (0..).zip(levels.iter().flatten()) {
        ranks.levels[at as usize] = rank;
        out.put(&book.level_at(at).price.0.to_le_bytes());
    }
    let slots = book.slots_by_number();
    let mut last = vec![None; book.level_places_end()];
    let mut requeued = vec![false; book.level_places_end()];
    for &slot in &slots {
        let order = book.plain(slot);
        if let Some(last) = last.get_mut(order.level as usize) {
            requeued[order.level as usize] |= last.replace(slot) != book.previous(slot);
        }
        write_order(book, slot, &order, &ranks, out);
    }
    let [bids, asks, ..] = &levels;
    let requeued: Vec<u32> = bids.iter().chain(asks).copied().filter(|&at| requeued[at as usize]).collect();
    out.put(&(requeued.len() as u32).to_le_bytes());
    if requeued.is_empty() {
        return;
    }
    let mut places = vec![0u32; book.places_end()];
    (0..).zip(&slots).for_each(|(place, slot)| places[slot.place()] = place);
    for at in requeued {
        out.put(&ranks.levels[at as usize].to_le_bytes());
        for slot in book.queue(book.level_at(at)) {
            out.put(&places[slot.place()].to_le_bytes());
        }
    }
}

/// The places that traders and levels have among those that are written, by the places they have in the book.
struct Ranks {
    traders: Vec<u32>,
    levels: Vec<u32>,
}

#[inline]
fn write_order(book: &Book, slot: Slot, order: &PlainOrder, ranks: &Ranks, out: &mut Writer) {
    let note = book.note(slot).and_then(|note| note_of(book, slot, order, note));
    let mut record = Record::<ORDER_BYTES>::default();
    record.put(&order.order_id.0.to_le_bytes()).put(&order.open.0.to_le_bytes());
    record.put(&order.created_at.0.to_le_bytes());
    record.put(&ranks.traders[order.trader.0 as usize].to_le_bytes());
    record.put(&ranks.levels.get(order.level as usize).map_or(NONE, |&rank| rank).to_le_bytes());
    for word in order.name.words() {
        record.put(&word.to_le_bytes());
    }
    let words = order.side as u32
        | (order.order_type as u32) << 1
        | (order.time_in_force as u32) << 4
        | (order.self_trade_prevention as u32) << 6
        | if note.is_some() { HAS_NOTE } else { 0 };
    record.put(&words.to_le_bytes());
    out.put(&record.bytes);
    if let Some((note, special)) = note {
        out.put(&note);
        out.put(&special);
    }
}

/// A note and what is special, written; none where it says nothing. What the book left in fields that mean nothing is left
/// out, so that the bytes do not depend on it.
#[cold]
fn note_of(book: &Book, slot: Slot, order: &PlainOrder, note: &Note) -> Option<([u8; NOTE_BYTES], Vec<u8>)> {
    let (resting, special) = (book.is_resting(slot), note.special.as_deref());
    let is_iceberg = special.is_some_and(|special| special.iceberg_quantity.is_some());
    let shown = if resting && is_iceberg { book.shown(slot) } else { Quantity::ZERO };
    let price = if resting { Price(0) } else { note.price };
    let held = if holds_by_note(order, note) { note.held } else { Amount::ZERO };
    let says = note.quantity != order.open
        || note.cumulative != Notional::ZERO
        || note.updated_at != order.created_at
        || price.0 > 0
        || !held.is_zero()
        || note.pending
        || special.is_some();
    if !says {
        return None;
    }
    let special = special.map_or(Vec::new(), to_postcard);
    let mut record = Record::<NOTE_BYTES>::default();
    for number in [note.quantity.0, note.cumulative.0, note.updated_at.0, shown.0, price.0] {
        record.put(&number.to_le_bytes());
    }
    record.put(&held.0.to_le_bytes()).put(&u32::from(note.pending).to_le_bytes());
    record.put(&(special.len() as u32).to_le_bytes());
    Some((record.bytes, special))
}

/// Whether only its note says what an order holds: a stop that will be a market buy.
fn holds_by_note(order: &PlainOrder, note: &Note) -> bool {
    order.side == Side::Buy && order.order_type.is_market() && !note.pending
}

/// What is still to be read of a symbol: its orders, which are nearly all of it.
pub(crate) struct Rest {
    lists: Vec<List>,
    orders: usize,
}

/// A symbol without its orders, which are still to be read. It shares nothing with others, so several can be read at a time.
pub struct UnreadSymbol<'a> {
    market: Market,
    rest: Rest,
    now: Time,
    bytes: &'a [u8],
}

/// A symbol, and what the orders of each of its traders hold.
pub struct ReadSymbol {
    market: Market,
    holds: Holds,
}

/// Lists a symbol in an engine, and reads all of it but its orders.
pub(crate) fn open(input: &mut Reader, id: SymbolId, engine: &mut Engine) -> Decoded<Rest> {
    let Head { symbol, counters, last_price, reference_price, average, breaker, lists, traders, levels, orders } =
        input.block()?;
    let symbol = symbol.into_owned();
    let added = engine.can_add_symbol(&symbol.config);
    let (added, base_scale) = found(added.ok(), "a symbol that cannot be")?;
    ensure(
        symbol.id == id && Symbol { status: symbol.status, ..added } == symbol,
        "a symbol that is not as configured",
    )?;
    let config = &symbol.config;
    let highest = highest_price(&symbol);
    let is_price = |price: Price| (Price(1)..=highest).contains(&price);
    ensure([last_price, reference_price].into_iter().flatten().all(is_price), "a price that cannot be")?;
    ensure(counters.are_sound(), "counters out of range")?;
    let now = engine.floor.now;
    ensure(breaker.is_sound(now), "a circuit breaker that cannot be")?;
    let average = found(AveragePrice::restore(&average, now), "an average price that cannot be")?;

    let traders = read_traders(input, traders as usize, config, &mut engine.floor.accounts)?;
    let levels = read_levels(input, levels, is_price)?;
    let orders = orders as usize;
    ensure(orders <= input.0.len() / ORDER_BYTES, "fewer orders than it says")?;

    let last_price_amount = last_price.map(|price| symbol.scale.price_amount(price));
    let book = Book::restore(id, symbol.scale, traders, &levels);
    engine.list(symbol, base_scale);
    engine.floor.desk.quotes.last_mut().expect("it was just listed").last_price = last_price_amount;
    if let Some(at) = breaker.resumes_at {
        engine.timers.set(at, Deadline::Resume(id));
    }
    let market = engine.markets.last_mut().expect("it was just listed");
    market.book = book;
    market.counters = counters;
    market.last_price = last_price;
    market.reference_price = reference_price;
    market.average = average;
    market.breaker = breaker.into_owned();
    Ok(Rest { lists: lists.into_iter().map(Cow::into_owned).collect(), orders })
}

/// Passes over the orders of a symbol that [`open`] listed and over their queues, and gives their bytes. What they say is not
/// looked at here.
pub(crate) fn pass_over<'a>(input: &mut Reader<'a>, rest: &Rest, market: &Market) -> Decoded<&'a [u8]> {
    let (orders, levels) = (rest.orders, market.book.level_places_end());
    let all = input.0;
    for _ in 0..orders {
        let words = u32_at(input.bytes(ORDER_BYTES)?, ORDER_BYTES - 4);
        if words & HAS_NOTE != 0 {
            let special = u32_at(input.bytes(NOTE_BYTES)?, NOTE_BYTES - 4);
            input.bytes(special as usize)?;
        }
    }
    let queues = u32::from_le_bytes(input.take()?);
    if queues > 0 {
        // How long a queue is, only the orders say.
        let at_levels = orders_at_levels(all, orders, levels)?;
        for _ in 0..queues {
            let level = u32::from_le_bytes(input.take()?) as usize;
            input.bytes(size_of::<u32>() * found(at_levels.get(level), "queues out of order")?)?;
        }
    }
    Ok(&all[..all.len() - input.0.len()])
}

fn orders_at_levels(bytes: &[u8], orders: usize, levels: usize) -> Decoded<Vec<usize>> {
    let (mut input, mut at_levels) = (Reader(bytes), vec![0; levels]);
    for _ in 0..orders {
        let record = input.bytes(ORDER_BYTES)?;
        if let Some(orders) = at_levels.get_mut(u32_at(record, TRADER_AT + 4) as usize) {
            *orders += 1;
        }
        if u32_at(record, ORDER_BYTES - 4) & HAS_NOTE != 0 {
            let special = u32_at(input.bytes(NOTE_BYTES)?, NOTE_BYTES - 4);
            input.bytes(special as usize)?;
        }
    }
    Ok(at_levels)
}

#[inline]
fn u32_at(record: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
}

/// The most that a price can be: its amount has 128 bits.
fn highest_price(symbol: &Symbol) -> Price {
    Price(u64::try_from(u128::MAX / symbol.scale.tick_size().0).unwrap_or(u64::MAX))
}

impl<'a> UnreadSymbol<'a> {
    /// The symbol that [`open`] listed, what it left, and the bytes of that.
    pub(crate) fn new(market: Market, rest: Rest, now: Time, bytes: &'a [u8]) -> UnreadSymbol<'a> {
        UnreadSymbol { market, rest, now, bytes }
    }

    /// How many orders are to be read.
    pub fn orders(&self) -> usize {
        self.rest.orders
    }

    /// Reads the orders.
    pub fn read(self) -> Decoded<ReadSymbol> {
        ReadSymbol::read(self.market, self.rest, self.now, &mut Reader(self.bytes))
    }
}

impl ReadSymbol {
    /// Reads the orders of the symbol that [`open`] listed, without passing over them first.
    pub(crate) fn read(mut market: Market, rest: Rest, now: Time, input: &mut Reader) -> Decoded<ReadSymbol> {
        let mut holds = Holds(vec![[Amount::ZERO; 2]; market.book.traders.len()]);
        let highest = highest_price(&market.symbol);
        let in_lists = read_orders(input, rest.orders, &mut market, (highest, now), &mut holds)?;
        read_queues(input, &mut market.book)?;
        let listed = read_lists(rest.lists, &mut market, now, &mut holds)?;
        ensure(listed == in_lists, "an order of a list that is not under way")?;
        Ok(ReadSymbol { market, holds })
    }

    /// The symbol joins those before it.
    pub(crate) fn join(self, engine: &mut Engine, needs: &mut Needs) -> Decoded<()> {
        self.holds.add_to(&self.market, needs)?;
        engine.markets.push(self.market);
        Ok(())
    }
}

fn read_traders(input: &mut Reader, count: usize, config: &SymbolConfig, accounts: &mut Accounts) -> Decoded<Traders> {
    let uids = input.records(count)?.map(|record| Uid(u64::from_le_bytes(record)));
    let sorted = uids.clone().is_sorted_by(|a, b| a < b);
    ensure(sorted && uids.clone().next().is_none_or(|first| first > FEE_ACCOUNT), "traders out of order")?;
    found(Traders::restore(uids, config.base, config.quote, accounts), "a trader without an account")
}

fn read_levels(input: &mut Reader, counts: [u32; 4], is_price: impl Fn(Price) -> bool) -> Decoded<[Vec<Price>; 4]> {
    let mut levels = [const { Vec::new() }; 4];
    for ((levels, count), ladder) in levels.iter_mut().zip(counts).zip(LADDERS) {
        for record in input.records(count as usize)? {
            let price = Price(u64::from_le_bytes(record));
            let follows = levels.last().is_none_or(|&last| ladder.is_better(last, price));
            ensure(follows && is_price(price), "levels out of order")?;
            levels.push(price);
        }
    }
    Ok(levels)
}

/// What the orders of each trader hold on each side.
struct Holds(Vec<[Amount; 2]>);

impl Holds {
    fn of(&mut self, trader: TraderIndex, side: Side) -> &mut Amount {
        &mut self.0[trader.0 as usize][side as usize]
    }

    fn add(&mut self, trader: TraderIndex, side: Side, amount: Amount) -> Decoded<()> {
        let sum = self.of(trader, side);
        *sum = found(sum.checked_add(amount), "holds that do not fit")?;
        Ok(())
    }

    /// All orders of the symbol are in.
    fn add_to(&self, market: &Market, needs: &mut Needs) -> Decoded<()> {
        for ((trader, _), held) in market.book.traders.iter().zip(&self.0) {
            ensure(trader.open_orders() > 0, "a trader without an order")?;
            for side in SIDES {
                found(needs.add(trader.pays_from(side), held[side as usize]), "holds that do not fit")?;
            }
        }
        Ok(())
    }
}

/// The orders, by number; how many of them belong to lists.
fn read_orders(
    input: &mut Reader,
    count: usize,
    market: &mut Market,
    (highest, now): (Price, Time),
    holds: &mut Holds,
) -> Decoded<usize> {
    let (mut last, mut in_lists) = (OrderId(0), 0);
    let mut tracking = Vec::new();
    for _ in 0..count {
        prefetch_ahead(input, &market.book, holds);
        let (order, has_note) = read_order(&input.take()?)?;
        ensure(order.order_id > last, "orders out of order")?;
        last = order.order_id;
        ensure((order.trader.0 as usize) < holds.0.len(), "an order of nobody")?;
        ensure(order.created_at <= now, "an order of the future")?;
        let ladder = match order.level {
            NONE => None,
            level if (level as usize) < market.book.level_places_end() => Some(market.book.level_at(level)),
            _ => return ensure(false, "an order at no level").map(|()| 0),
        };
        let at = ladder.map(|level| (level.ladder, level.price));
        let rests = at.filter(|(ladder, _)| *ladder == Ladder::of(order.side));
        let (note, price) = if has_note {
            let note = read_note(input, &order)?;
            let note = settle_note(&order, note, at, highest, now)?;
            in_lists += usize::from(note.special.as_ref().is_some_and(|special| special.order_list_id.is_some()));
            let price = note.price;
            (Some(note), price)
        } else {
            let plain = matches!(order.order_type, OrderType::Limit | OrderType::LimitMaker);
            ensure(plain && !order.open.is_zero(), "an order that says too little")?;
            let (_, price) = found(rests, "an order that rests nowhere")?;
            (None, price)
        };
        let held = held_by(market, &order, price, note.as_ref())?;
        holds.add(order.trader, order.side, held)?;
        let waits = order.level == NONE && note.as_ref().is_some_and(|note| !note.pending);
        let slot = market.book.restore_order(&order, note);
        let slot = found(slot, "a level whose sum does not fit")?;
        if waits {
            tracking.push((slot, held));
        }
    }
    ensure(last.0 <= market.counters.order, "an order whose number was not given")?;
    ensure(!market.book.has_empty_level(), "a level without an order")?;
    ensure(market.book.restore_indexes(), "two orders of one name")?;
    for (slot, held) in tracking {
        market.wait(slot, held);
    }
    Ok(in_lists)
}

/// Begin to fetch what an order some records on will touch. Where notes stand between, it fetches what nobody asks for.
#[inline]
fn prefetch_ahead(input: &Reader, book: &Book, holds: &Holds) {
    let record = input.0.get(AHEAD * ORDER_BYTES..).and_then(|ahead| ahead.first_chunk::<ORDER_BYTES>());
    let Some(record) = record else { return };
    let (trader, level) = (u32_at(record, TRADER_AT), u32_at(record, TRADER_AT + 4));
    if let Some(held) = holds.0.get(trader as usize) {
        prefetch(held);
        book.prefetch_places(TraderIndex(trader), level);
    }
}

#[inline]
fn read_order(record: &[u8; ORDER_BYTES]) -> Decoded<(PlainOrder, bool)> {
    let mut record = Reader(record);
    let order_id = OrderId(u64::from_le_bytes(record.take()?));
    let open = Quantity(u64::from_le_bytes(record.take()?));
    let created_at = Time(u64::from_le_bytes(record.take()?));
    let trader = TraderIndex(u32::from_le_bytes(record.take()?));
    let level = u32::from_le_bytes(record.take()?);
    let mut name = [0; 7];
    for word in &mut name {
        *word = u32::from_le_bytes(record.take()?);
    }
    let words = u32::from_le_bytes(record.take()?);
    let word = |shift: u32, bits: u32| (words >> shift & ((1 << bits) - 1)) as usize;
    let unknown = "an order of unknown kind";
    ensure(words < 1 << 10, unknown)?;
    let order = PlainOrder {
        order_id,
        open,
        created_at,
        trader,
        level,
        name: ClientOrderId::from_words(name),
        side: SIDES[word(0, 1)],
        order_type: *found(ORDER_TYPES.get(word(1, 3)), unknown)?,
        time_in_force: *found(TIMES_IN_FORCE.get(word(4, 2)), unknown)?,
        self_trade_prevention: *found(PREVENTIONS.get(word(6, 3)), unknown)?,
    };
    Ok((order, words & HAS_NOTE != 0))
}

#[cold]
fn read_note(input: &mut Reader, order: &PlainOrder) -> Decoded<Note> {
    let mut record = Reader(&input.take::<NOTE_BYTES>()?);
    let quantity = Quantity(u64::from_le_bytes(record.take()?));
    let cumulative = Notional(u64::from_le_bytes(record.take()?));
    let updated_at = Time(u64::from_le_bytes(record.take()?));
    let shown = Quantity(u64::from_le_bytes(record.take()?));
    let price = Price(u64::from_le_bytes(record.take()?));
    let held = Amount(u128::from_le_bytes(record.take()?));
    let flags = u32::from_le_bytes(record.take()?);
    let length = u32::from_le_bytes(record.take()?) as usize;
    let special = match length {
        0 => None,
        _ => Some(Box::new(from_postcard::<Special>(input.bytes(length)?)?)),
    };
    let says = quantity != order.open
        || cumulative != Notional::ZERO
        || updated_at != order.created_at
        || price.0 > 0
        || !held.is_zero()
        || flags != 0
        || special.is_some();
    ensure(says && flags <= 1, "a note that says nothing")?;
    Ok(Note { quantity, cumulative, updated_at, shown, held, price, pending: flags == 1, special })
}

/// The note as the book has it, if the order may be where it is: at this level or at none.
fn settle_note(
    order: &PlainOrder,
    mut note: Note,
    at: Option<(Ladder, Price)>,
    highest: Price,
    now: Time,
) -> Decoded<Note> {
    let none = Special::default();
    let special = note.special.as_deref().unwrap_or(&none);
    let gone = note.quantity.0.checked_sub(order.open.0).and_then(|gone| gone.checked_sub(special.prevented.0));
    let executed = found(gone, "an order with more open than it asks")?;
    ensure((executed == 0) == (note.cumulative == Notional::ZERO), "an order whose trades were worth nothing")?;
    let times = [order.created_at, note.updated_at];
    let specials = [special.working_at, special.trailing.map(|(_, since)| since)];
    let past = times.into_iter().chain(specials.into_iter().flatten()).all(|time| time <= now);
    ensure(past && note.updated_at >= order.created_at, "an order of the future")?;
    ensure(note.pending || !order.open.is_zero(), "an open order with nothing open")?;
    ensure(holds_by_note(order, &note) || note.held.is_zero(), "an order that holds what it should not")?;
    let is_price = |price: Price| (Price(1)..=highest).contains(&price);
    let prices = [special.stop_price, special.trailing.map(|(extreme, _)| extreme)];
    ensure(prices.into_iter().flatten().all(is_price), "a price that cannot be")?;
    let delta = special.trailing_delta;
    let possible = delta.is_none_or(|delta| delta > 0 && (order.side == Side::Buy || delta < 10_000));
    ensure(possible && (delta.is_some() || special.trailing.is_none()), "an order that cannot trail")?;

    let (is_stop, is_market) = (order.order_type.is_stop(), order.order_type.is_market());
    let part = special.iceberg_quantity;
    ensure(part.is_none_or(|part| !part.is_zero()), "an iceberg that shows nothing")?;
    let waits = !note.pending && is_stop && special.working_at.is_none() && executed == 0;
    let tracks = delta.is_some() && (special.stop_price.is_none() || special.trailing.is_some());
    match at {
        Some((ladder @ (Ladder::Bids | Ladder::Asks), price)) => {
            let works = !note.pending && !is_market && (!is_stop || special.working_at.is_some());
            ensure(works && ladder == Ladder::of(order.side), "an order that should not rest where it does")?;
            let worth = Notional::of(price, order.open).and_then(|worth| worth.checked_add(note.cumulative));
            ensure(worth.is_some(), "an order that is worth too much")?;
            ensure(note.price.0 == 0, "a resting order with two prices")?;
            note.price = price;
            let shown = part.map_or(Quantity::ZERO..=Quantity::ZERO, |part| Quantity(1)..=part.min(order.open));
            ensure(shown.contains(&note.shown), "an iceberg that shows what it should not")?;
        }
        Some((ladder, price)) => {
            let is_there =
                special.stop_price == Some(price) && (ladder == Ladder::Rising) == rises(order.order_type, order.side);
            ensure(waits && !tracks && is_there, "a stop that waits for another price")?;
        }
        None => {
            let pends = note.pending && special.working_at.is_none() && executed == 0;
            ensure(pends || (waits && tracks), "an order that is nowhere")?;
        }
    }
    if part.is_none() || !matches!(at, Some((Ladder::Bids | Ladder::Asks, _))) {
        ensure(note.shown.is_zero(), "an order that shows what it should not")?;
        note.shown = part.map_or(Quantity(u64::MAX), |part| part.min(order.open));
    }
    if !matches!(at, Some((Ladder::Bids | Ladder::Asks, _))) {
        let priced = match note.price.0 {
            0 => is_market || special.peg.is_some(),
            _ => !is_market && is_price(note.price),
        };
        ensure(priced, "a price that cannot be")?;
    }
    Ok(note)
}

/// What an order holds by itself.
#[inline]
fn held_by(market: &Market, order: &PlainOrder, price: Price, note: Option<&Note>) -> Decoded<Amount> {
    match note {
        Some(note) if note.pending => return Ok(Amount::ZERO),
        Some(note) if holds_by_note(order, note) => return Ok(note.held),
        _ => {}
    }
    let too_much = "an order that is worth too much";
    let notional = found(Notional::of(price, order.open), too_much)?;
    if order.side == Side::Sell {
        return Ok(market.symbol.scale.base_amount(order.open));
    }
    let worth = market.symbol.scale.quote_amount(notional);
    found(worth.checked_add(market.lot_fee(order.open)), too_much)
}

/// The queues that are not in the order of the numbers.
fn read_queues(input: &mut Reader, book: &mut Book) -> Decoded<()> {
    let mut least = 0;
    for _ in 0..u32::from_le_bytes(input.take()?) {
        let at = u32::from_le_bytes(input.take()?);
        let known = at >= least && (at as usize) < book.level_places_end();
        ensure(known && matches!(book.level_at(at).ladder, Ladder::Bids | Ladder::Asks), "queues out of order")?;
        let queue: Vec<u32> = input.records(book.level_at(at).orders as usize)?.map(u32::from_le_bytes).collect();
        ensure(book.restore_queue(at, &queue), "a queue of other orders than those of its level")?;
        least = at + 1;
    }
    Ok(())
}

/// The lists under way; how many open orders they have.
fn read_lists(lists: Vec<List>, market: &mut Market, now: Time, holds: &mut Holds) -> Decoded<usize> {
    ensure(lists.is_sorted_by(|a, b| a.list.order_list_id < b.list.order_list_id), "lists out of order")?;
    let mut listed = 0;
    for list in lists {
        let trader = found(market.book.traders.find(list.list.uid), "a list of nobody")?;
        let slots = found(open_orders_of(&list, trader, market, now), "a list that cannot be")?;
        listed += slots.iter().flatten().count();
        if let Some(proceeds) = list.proceeds {
            holds.add(trader, Side::Sell, proceeds)?;
        }
        if let (Some([first, _]), [.., Some(above), Some(below)]) = (list.pair, &slots[..]) {
            // The pair holds what one needs and its excess; the other holds nothing besides.
            let (side, second) = (market.book.side(*above), market.held(*below));
            holds.add(trader, side, first.1)?;
            let sum = holds.of(trader, side);
            *sum = found(sum.checked_sub(second), "holds that do not fit")?;
        }
        market.book.traders.rare_mut(trader).order_lists += 1;
        ensure(market.lists.insert(trader, list), "two lists of one name")?;
    }
    Ok(listed)
}

/// The orders of a list, where they are open; `None` if it is no list that can be under way.
fn open_orders_of(list: &List, trader: TraderIndex, market: &Market, now: Time) -> Option<Vec<Option<Slot>>> {
    let (book, told) = (&market.book, &list.list);
    let count = if told.kind == OrderListKind::OneTriggersOneCancelsOther { 3 } else { 2 };
    let known = told.symbol == market.symbol.id
        && (1..=market.counters.order_list).contains(&told.order_list_id.0)
        && told.status == OrderListStatus::ExecutionStarted
        && told.created_at <= now
        && told.orders.len() == count
        && told.orders.windows(2).all(|pair| pair[0].0.0.checked_add(1) == Some(pair[1].0.0));
    let slots: Vec<Option<Slot>> = told.orders.iter().map(|&(order_id, _)| book.by_number(order_id)).collect();
    let is_own = |(slot, name): (Slot, ClientOrderId)| {
        let list = book.special(slot).and_then(|special| special.order_list_id);
        (book.trader_of(slot), list, book.name(slot)) == (trader, Some(told.order_list_id), name)
    };
    let mut open = slots.iter().zip(&told.orders).filter_map(|(slot, &(_, name))| Some(((*slot)?, name))).peekable();
    if !known || open.peek().is_none() || !open.all(is_own) {
        return None;
    }
    let pending: Vec<bool> = slots.iter().flatten().map(|&slot| book.is_pending(slot)).collect();
    let (first, others) = (slots[0], &slots[1..]);
    let stands = match (list.working, list.pair) {
        // The first works, all others wait for it.
        (Some(working), None) => {
            told.kind != OrderListKind::OneCancelsOther
                && working == told.orders[0].0
                && others.iter().all(Option::is_some)
                && first.is_some_and(|slot| !book.is_pending(slot))
                && pending[1..].iter().all(|&pending| pending)
        }
        (None, None) => list.proceeds.is_none() && pending.iter().all(|&pending| !pending),
        (None, Some([(above, excess), (below, other_excess)])) => {
            let [.., (above_id, _), (below_id, _)] = told.orders[..] else { return None };
            let [.., Some(above_slot), Some(below_slot)] = slots[..] else { return None };
            let needs = [market.held(above_slot), market.held(below_slot)];
            told.kind != OrderListKind::OneTriggersOther
                && (above, below) == (above_id, below_id)
                && list.proceeds.is_none()
                && pending.iter().all(|&pending| !pending)
                && book.side(above_slot) == book.side(below_slot)
                && needs[0].checked_add(excess)? == needs[1].checked_add(other_excess)?
        }
        (Some(_), Some(_)) => false,
    };
    stands.then_some(slots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{AddAsset, Command};
    use crate::units::AssetId;

    #[test]
    fn every_word_of_an_order_is_where_its_list_has_it() {
        assert!(SIDES.iter().enumerate().all(|(at, word)| *word as usize == at));
        assert!(ORDER_TYPES.iter().enumerate().all(|(at, word)| *word as usize == at));
        assert!(TIMES_IN_FORCE.iter().enumerate().all(|(at, word)| *word as usize == at));
        assert!(PREVENTIONS.iter().enumerate().all(|(at, word)| *word as usize == at));
    }

    #[test]
    fn counts_that_the_bytes_do_not_bear_out_are_refused() {
        let asset = |name: &str| Command::AddAsset(AddAsset { name: name.to_owned(), scale: 8 });
        let config = SymbolConfig::plain("BQ", AssetId(0), AssetId(1), Amount(1_000_000), Amount(1_000));
        let mut engine = Engine::new();
        for command in [asset("B"), asset("Q")] {
            engine.apply(Time(1), &command, &mut Vec::new());
        }
        let (symbol, _) = engine.can_add_symbol(&config).unwrap();
        let told = |traders, levels, orders, requeued: u32| {
            let head = Head {
                symbol: Cow::Borrowed(&symbol),
                counters: Counters::default(),
                last_price: None,
                reference_price: None,
                average: Vec::new(),
                breaker: Cow::Owned(Breaker::default()),
                lists: Vec::new(),
                traders,
                levels,
                orders,
            };
            let mut bytes = Vec::new();
            let mut sink = |piece: &[u8]| bytes.extend_from_slice(piece);
            let mut out = Writer::new(&mut sink);
            out.block(&head);
            out.put(&requeued.to_le_bytes());
            out.flush();
            let mut engine = engine.clone();
            let mut input = Reader(&bytes);
            let rest = open(&mut input, SymbolId(0), &mut engine)?;
            let bytes = pass_over(&mut input, &rest, &engine.markets[0])?;
            UnreadSymbol::new(engine.markets.remove(0), rest, Time(1), bytes).read().map(|_| ())
        };
        assert_eq!(told(0, [0; 4], 0, 0), Ok(()));
        for count in [1, 1 << 20, u32::MAX] {
            assert!(told(count, [0; 4], 0, 0).is_err(), "{count} traders");
            assert!(told(0, [0; 4], count, 0).is_err(), "{count} orders");
            assert!(told(0, [0; 4], 0, count).is_err(), "{count} queues");
            for ladder in 0..4 {
                let mut levels = [0; 4];
                levels[ladder] = count;
                assert!(told(0, levels, 0, 0).is_err(), "{count} levels of ladder {ladder}");
            }
        }
    }
}
