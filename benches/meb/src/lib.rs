//! The engine behind the C ABI of the public matching engine benchmark; see ../README.md.
//!
//! The harness calls from one thread. What it asks about the book is answered from the engine's own.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::ffi::c_void;

use engine::command::{
    AddAsset, CancelOrder, Command, OrderQuantity, OrderReference, PlaceOrder, ReplaceOrder, Transfer,
};
use engine::commission::FeeRate;
use engine::order::{ClientOrderId, OrderType, SelfTradePrevention, Side, TimeInForce};
use engine::symbol::{PriceRange, SymbolConfig};
use engine::units::Multiplier;
use engine::{Amount, AssetId, Engine, Event, OrderId, Price, SymbolId, Time, Uid};

/// The messages, as api/matching_engine_api.h of the benchmark lays them out.
#[repr(C)]
pub struct NewOrder {
    order_id: u64,
    sequence_number: u64,
    price_ticks: i64,
    quantity: u32,
    side: u8,
    ioc: u8,
    reserved: [u8; 2],
}

#[repr(C)]
pub struct Cancel {
    order_id: u64,
    sequence_number: u64,
}

#[repr(C)]
pub struct Modify {
    order_id: u64,
    sequence_number: u64,
    new_price_ticks: i64,
    new_quantity: u32,
    side: u8,
    reserved: [u8; 3],
}

#[repr(C)]
#[derive(Default)]
pub struct Report {
    kind: u8,
    side: u8,
    reserved: [u8; 6],
    sequence_number: u64,
    order_id: u64,
    price_ticks: i64,
    quantity: u32,
    reserved_2: u32,
    maker_order_id: u64,
    taker_order_id: u64,
    reserved_3: u64,
}

const ORDER_ACK: u8 = 0;
const TRADE: u8 = 1;
const CANCEL_ACK: u8 = 2;
const MODIFY_ACK: u8 = 3;
const CANCEL_REJECT: u8 = 4;
const MODIFY_REJECT: u8 = 5;

#[repr(C)]
pub struct Transport {
    create: extern "C" fn(u32) -> *mut c_void,
    push: extern "C" fn(*mut c_void, *const Report) -> i32,
    drain: extern "C" fn(*mut c_void, *mut Report, u32) -> u32,
    flush: extern "C" fn(*mut c_void),
    destroy: extern "C" fn(*mut c_void),
}

/// One tick is half a cent: 0.005 with eight decimals. A lot is 0.00001.
const TICK: u128 = 500_000;
const LOT: u128 = 1_000;
const SYMBOL: SymbolId = SymbolId(0);
/// Buyers have even numbers, sellers odd ones.
const USERS: u64 = 2_048;

/// The one venue. The harness makes, asks and drops it from one thread at a time.
struct Only(UnsafeCell<Option<Venue>>);

// SAFETY: see above.
unsafe impl Sync for Only {}

static VENUE: Only = Only(UnsafeCell::new(None));

struct Venue {
    engine: Engine,
    events: Vec<Event>,
    time: u64,
    transport: *const Transport,
    sink: *mut c_void,
    /// By the benchmark's order id: the engine's, and whose.
    orders: Vec<(OrderId, Uid)>,
    /// By the engine's order id: the benchmark's.
    numbers: Vec<u64>,
    /// Of the new orders to come, in their order.
    names: VecDeque<ClientOrderId>,
    /// Of every cancel.
    cancel_name: ClientOrderId,
}

impl Venue {
    fn new(transport: *const Transport, sink: *mut c_void) -> Venue {
        let mut venue = Venue {
            engine: Engine::new(),
            events: Vec::with_capacity(1 << 16),
            time: 1_000_000,
            transport,
            sink,
            orders: Vec::with_capacity(1 << 21),
            numbers: vec![0],
            names: VecDeque::with_capacity(1 << 20),
            cancel_name: name(0),
        };
        venue.numbers.reserve(1 << 21);
        venue.tell(&Command::AddAsset(AddAsset { name: "USD".to_owned(), scale: 8 }));
        venue.tell(&Command::AddAsset(AddAsset { name: "SHARE".to_owned(), scale: 8 }));
        venue.tell(&Command::AddSymbol(Box::new(listing())));
        for uid in 1..=USERS {
            let uid = Uid(uid);
            venue.tell(&Command::OpenAccount { uid });
            for asset in [AssetId(0), AssetId(1)] {
                let external_id = format!("first-{asset}");
                venue.tell(&Command::Deposit(Transfer { uid, asset, amount: Amount(1 << 96), external_id }));
            }
        }
        venue
    }

    fn tell(&mut self, command: &Command) {
        self.time += 1;
        self.events.clear();
        self.engine.apply(Time(self.time), command, &mut self.events);
    }

    fn refused(&self) -> bool {
        matches!(self.events[..], [Event::Rejected(_)])
    }

    fn push(&self, report: &Report) {
        // SAFETY: the harness gave both, and keeps them until the end.
        unsafe {
            let push = (*self.transport).push;
            while push(self.sink, report) == 0 {
                std::hint::spin_loop();
            }
        }
    }

    fn order(&self, number: u64) -> (OrderId, Uid) {
        // No order of the engine has the number zero.
        usize::try_from(number).ok().and_then(|index| self.orders.get(index)).copied().unwrap_or((OrderId(0), Uid(1)))
    }

    fn place(&mut self, new: &NewOrder) {
        let side = if new.side == 0 { Side::Buy } else { Side::Sell };
        let uid = Uid(1 + new.order_id % (USERS / 2) * 2 + u64::from(new.side));
        let client_order_id = self.names.pop_front().unwrap_or_else(|| name(new.order_id));
        self.tell(&Command::PlaceOrder(PlaceOrder {
            uid,
            symbol: SYMBOL,
            client_order_id,
            side,
            order_type: OrderType::Limit,
            time_in_force: if new.ioc != 0 { TimeInForce::Ioc } else { TimeInForce::Gtc },
            price: price(new.price_ticks),
            quantity: OrderQuantity::Base(quantity(new.quantity)),
            self_trade_prevention: None,
            special: None,
        }));
        let Some(Event::OrderAccepted(order)) = self.events.first() else {
            eprintln!("order {} was refused: {:?}", new.order_id, self.events);
            return;
        };
        let index = new.order_id as usize;
        if self.orders.len() <= index {
            self.orders.resize(index + 1, (OrderId(0), Uid(1)));
        }
        self.orders[index] = (order.order_id, uid);
        self.numbers.push(new.order_id);
        self.push(&Report {
            kind: ORDER_ACK,
            side: new.side,
            sequence_number: new.sequence_number,
            order_id: new.order_id,
            price_ticks: new.price_ticks,
            quantity: new.quantity,
            ..Report::default()
        });
        self.report(new.sequence_number);
    }

    fn cancel(&mut self, cancel: &Cancel) {
        let (order, uid) = self.order(cancel.order_id);
        self.tell(&Command::CancelOrder(CancelOrder {
            uid,
            symbol: SYMBOL,
            order: OrderReference { order_id: Some(order), client_order_id: None },
            cancel_client_order_id: self.cancel_name,
            restriction: None,
        }));
        if self.refused() {
            self.reject(CANCEL_REJECT, cancel.sequence_number, cancel.order_id);
        } else {
            self.report(cancel.sequence_number);
        }
    }

    fn modify(&mut self, modify: &Modify) {
        let (order, uid) = self.order(modify.order_id);
        self.tell(&Command::ReplaceOrder(ReplaceOrder {
            uid,
            symbol: SYMBOL,
            order: OrderReference { order_id: Some(order), client_order_id: None },
            price: Some(price(modify.new_price_ticks)),
            quantity: Some(quantity(modify.new_quantity)),
        }));
        if self.refused() {
            return self.reject(MODIFY_REJECT, modify.sequence_number, modify.order_id);
        }
        self.report(modify.sequence_number);
        self.push(&Report {
            kind: MODIFY_ACK,
            side: modify.side,
            sequence_number: modify.sequence_number,
            order_id: modify.order_id,
            price_ticks: modify.new_price_ticks,
            quantity: modify.new_quantity,
            ..Report::default()
        });
    }

    fn reject(&self, kind: u8, sequence_number: u64, order_id: u64) {
        self.push(&Report { kind, sequence_number, order_id, ..Report::default() });
    }

    /// Reports the trades and ends among the events.
    fn report(&self, sequence_number: u64) {
        let number = |order: OrderId| self.numbers[order.0 as usize];
        for event in &self.events {
            match event {
                Event::Trade(trade) => {
                    let taker = number(trade.taker.order_id);
                    self.push(&Report {
                        kind: TRADE,
                        side: trade.taker_side as u8,
                        sequence_number,
                        order_id: taker,
                        price_ticks: trade.price.0 as i64,
                        quantity: trade.quantity.0 as u32,
                        maker_order_id: number(trade.maker.order_id),
                        taker_order_id: taker,
                        ..Report::default()
                    });
                }
                Event::OrderCanceled { order, .. } | Event::OrderExpired { order, .. } => self.push(&Report {
                    kind: CANCEL_ACK,
                    side: order.side as u8,
                    sequence_number,
                    order_id: number(order.order_id),
                    price_ticks: order.price.0 as i64,
                    quantity: order.open_quantity().0 as u32,
                    ..Report::default()
                }),
                _ => {}
            }
        }
    }
}

fn listing() -> SymbolConfig {
    let mut config = SymbolConfig::plain("SHAREUSD", AssetId(1), AssetId(0), Amount(TICK), Amount(LOT));
    let tenth_of_a_percent = FeeRate::from_billionths(1_000_000).expect("it is below one");
    config.commission.standard.maker = tenth_of_a_percent;
    config.commission.standard.taker = tenth_of_a_percent;
    config.min_price = Amount(TICK);
    config.max_price = Amount(TICK << 50);
    config.min_quantity = Amount(LOT);
    config.max_quantity = Amount(LOT << 40);
    config.min_notional = Amount(1);
    let (most, least) = (Multiplier(1_000_000 * Multiplier::ONE.0), Multiplier(Multiplier::ONE.0 / 1_000_000));
    config.percent_price = Some(PriceRange { bid_up: most, bid_down: least, ask_up: most, ask_down: least });
    config.max_num_orders = u32::MAX;
    config.default_self_trade_prevention = SelfTradePrevention::ExpireMaker;
    config
}

fn price(ticks: i64) -> Amount {
    Amount(u128::from(ticks.unsigned_abs()) * TICK)
}

fn quantity(lots: u32) -> Amount {
    Amount(u128::from(lots) * LOT)
}

/// The order id as a client would send it: sixteen hexadecimal digits.
fn name(number: u64) -> ClientOrderId {
    let mut digits = [0; 16];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(rest & 15) as usize];
        rest >>= 4;
    }
    ClientOrderId::new(std::str::from_utf8(&digits).expect("digits are text")).expect("digits are legal")
}

fn venue<T>(ask: impl FnOnce(&mut Venue) -> T) -> T {
    // SAFETY: no call is made within a call.
    let venue = unsafe { &mut *VENUE.0.get() };
    ask(venue.as_mut().expect("engine_init comes first"))
}

#[unsafe(no_mangle)]
pub extern "C" fn engine_init(_seed: u64, transport: *const Transport, sink: *mut c_void) {
    // SAFETY: no call is made within a call.
    unsafe { *VENUE.0.get() = Some(Venue::new(transport, sink)) };
}

#[unsafe(no_mangle)]
pub extern "C" fn engine_shutdown() {
    // SAFETY: no call is made within a call.
    unsafe { *VENUE.0.get() = None };
}

/// # Safety
/// The harness gives a message that lives during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_on_new_order(new: *const NewOrder) {
    // SAFETY: see above.
    venue(|venue| venue.place(unsafe { &*new }));
}

/// # Safety
/// The harness gives a message that lives during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_on_cancel(cancel: *const Cancel) {
    // SAFETY: see above.
    venue(|venue| venue.cancel(unsafe { &*cancel }));
}

/// # Safety
/// The harness gives a message that lives during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_on_modify(modify: *const Modify) {
    // SAFETY: see above.
    venue(|venue| venue.modify(unsafe { &*modify }));
}

/// Writes the client order ids of new orders, which the benchmark has as numbers.
///
/// # Safety
/// The harness gives a message that lives during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_prebuild(kind: u8, message: *const c_void) {
    if kind == 0 {
        // SAFETY: see above; kind 0 is a new order.
        let new = unsafe { &*message.cast::<NewOrder>() };
        venue(|venue| venue.names.push_back(name(new.order_id)));
    }
}

/// Every call has done all its work when it returns.
#[unsafe(no_mangle)]
pub extern "C" fn engine_flush() {}

#[unsafe(no_mangle)]
pub extern "C" fn engine_query_best_bid() -> i64 {
    venue(|venue| venue.engine.best_price(SYMBOL, Side::Buy)).map_or(i64::MIN, |price| price.0 as i64)
}

#[unsafe(no_mangle)]
pub extern "C" fn engine_query_best_ask() -> i64 {
    venue(|venue| venue.engine.best_price(SYMBOL, Side::Sell)).map_or(i64::MAX, |price| price.0 as i64)
}

#[unsafe(no_mangle)]
pub extern "C" fn engine_query_depth_at(price_ticks: i64, side: u8) -> u64 {
    let side = if side == 0 { Side::Buy } else { Side::Sell };
    venue(|venue| venue.engine.shown_at(SYMBOL, side, Price(price_ticks as u64))).0
}
