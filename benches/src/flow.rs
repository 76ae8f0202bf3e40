//! Order flow as flat steps, the exchange that takes it, and the steps as its commands.
//!
//! The exchange is complete: accounts with balances, commission, every filter, self-trade prevention on, names for all
//! orders. The limits are wide enough that none of the steps is refused, so that the work is the same as that of any
//! matcher that is given the same steps.

use std::collections::BTreeSet;

use engine::command::{
    AddAsset, CancelOrder, OrderQuantity, OrderReference, PlaceOrder, Placing, ReplaceOrder, Transfer,
};
use engine::commission::FeeRate;
use engine::order::{ClientOrderId, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce};
use engine::symbol::{CircuitBreaker, PriceRange, SymbolConfig, TrailingDeltaFilter};
use engine::units::Multiplier;
use engine::{Amount, AssetId, Command, Engine, Event, OrderId, SymbolId, Time, Uid};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// One price step in smallest quote units, and one quantity step in smallest base units: 0.01 and 0.00001 of assets with
/// eight decimals.
const TICK: u128 = 1_000_000;
const LOT: u128 = 1_000;
/// Between two commands, in microseconds.
const STEP: u64 = 10;
/// What every user gets of every asset.
const PLENTY: Amount = Amount(1 << 96);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A new order that rests.
    Limit,
    /// A new order that does not rest.
    ImmediateOrCancel,
    /// A new order without a price.
    Market,
    /// An order leaves.
    Cancel,
    /// An order's open quantity is lowered by `quantity`.
    Reduce,
    /// An order gets the price `price`, and the last place.
    Move,
}

/// One step of a flow.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// The order's side.
    pub side: Side,
    /// Where.
    pub symbol: u16,
    /// Which order, over all symbols: from 1 in the order of their arrival.
    pub order: u64,
    /// Whose, from 0.
    pub user: u64,
    /// In ticks.
    pub price: u64,
    /// In lots.
    pub quantity: u64,
}

/// A flow, and what must come of it.
pub struct Flow {
    /// How many symbols.
    pub symbols: u16,
    /// How many users.
    pub users: u64,
    /// All that is done.
    pub steps: Vec<Step>,
    /// So many of the first steps only fill the book.
    pub prefill: usize,
}

impl Flow {
    /// An exchange with the symbols and users of this flow.
    pub fn exchange(&self) -> Engine {
        let sellers = self.steps.iter().filter(|step| step.side == Side::Sell);
        let sellers: BTreeSet<(u64, u16)> = sellers.map(|step| (step.user, step.symbol)).collect();
        exchange(self.symbols, self.users, sellers)
    }

    /// How many orders come in it.
    pub fn orders(&self) -> usize {
        self.steps.iter().map(|step| step.order as usize).max().unwrap_or(0)
    }
}

/// An exchange where everybody has quote, and every seller (a user and the symbol it sells in) has base.
pub fn exchange(symbols: u16, users: u64, sellers: impl IntoIterator<Item = (u64, u16)>) -> Engine {
    let mut engine = Engine::new();
    let mut events = Vec::new();
    for command in founding(symbols, users, sellers) {
        events.clear();
        engine.apply(Time(1), &command, &mut events);
        assert!(!matches!(events[..], [Event::Rejected(_)]), "{command:?}: {events:?}");
    }
    engine
}

/// The commands that make it.
pub fn founding(
    symbols: u16,
    users: u64,
    sellers: impl IntoIterator<Item = (u64, u16)>,
) -> impl Iterator<Item = Command> {
    let deposit = |user, asset| {
        let external_id = format!("first-{asset}");
        Command::Deposit(Transfer { uid: uid(user), asset: AssetId(asset), amount: PLENTY, external_id })
    };
    let add_asset = |name| Command::AddAsset(AddAsset { name, scale: 8 });
    let listed = (0..symbols)
        .flat_map(move |symbol| [add_asset(format!("BASE{symbol}")), Command::AddSymbol(Box::new(listing(symbol)))]);
    let opened = (0..users).flat_map(move |user| [Command::OpenAccount { uid: uid(user) }, deposit(user, 0)]);
    let sellers = sellers.into_iter().map(move |(user, symbol)| deposit(user, 1 + u32::from(symbol)));
    std::iter::once(add_asset("QUOTE".to_owned())).chain(listed).chain(opened).chain(sellers)
}

/// So many orders that rest, each of a random user at a random price of so many on either side of `middle`.
pub fn resting(symbols: u16, users: u64, orders: u64, levels: u64, middle: u64) -> impl Iterator<Item = Step> {
    let mut random = StdRng::seed_from_u64(1);
    (1..=orders).map(move |order| {
        let user = random.random_range(0..users);
        let away = random.random_range(1..=levels);
        let (side, price) = match random.random_range(0..2) {
            0 => (Side::Buy, middle - away),
            _ => (Side::Sell, middle + away),
        };
        let symbol = (user % u64::from(symbols)) as u16;
        let quantity = random.random_range(1..1_000);
        Step { action: Action::Limit, side, symbol, order, user, price, quantity }
    })
}

fn listing(symbol: u16) -> SymbolConfig {
    let name = format!("BASE{symbol}QUOTE");
    let mut config = SymbolConfig::plain(&name, AssetId(1 + u32::from(symbol)), AssetId(0), Amount(TICK), Amount(LOT));
    let tenth_of_a_percent = FeeRate::from_billionths(1_000_000).expect("it is below one");
    config.commission.standard.maker = tenth_of_a_percent;
    config.commission.standard.taker = tenth_of_a_percent;
    config.min_price = Amount(TICK);
    config.max_price = Amount(TICK << 50);
    config.min_quantity = Amount(LOT);
    config.max_quantity = Amount(LOT << 40);
    config.market_min_quantity = Amount(LOT);
    config.market_max_quantity = Amount(LOT << 40);
    config.min_notional = Amount(1);
    config.max_notional = Amount(1 << 100);
    config.apply_min_to_market = true;
    config.apply_max_to_market = true;
    config.average_price_minutes = 5;
    let (most, least) = (Multiplier(1_000 * Multiplier::ONE.0), Multiplier(Multiplier::ONE.0 / 1_000));
    let range = PriceRange { bid_up: most, bid_down: least, ask_up: most, ask_down: least };
    config.percent_price = Some(range);
    config.execution_range = Some(range);
    config.iceberg_parts = 10;
    config.trailing_delta =
        Some(TrailingDeltaFilter { min_above: 10, max_above: 2_000, min_below: 10, max_below: 2_000 });
    config.max_num_orders = u32::MAX;
    config.max_num_algo_orders = 5;
    config.max_num_iceberg_orders = 10;
    config.max_num_order_amends = 10;
    config.max_num_order_lists = 20;
    config.max_position = Amount(1 << 120);
    config.default_self_trade_prevention = SelfTradePrevention::ExpireMaker;
    config.circuit_breaker =
        Some(CircuitBreaker { trip: Multiplier(90_000_000), window_seconds: 60, halt_seconds: 60 });
    config
}

fn uid(user: u64) -> Uid {
    Uid(user + 1)
}

/// Makes the commands of steps. An order's number is known in advance: they are given by symbol in the order of arrival.
pub struct Commands {
    /// By symbol, the last one given.
    last: Vec<u64>,
    /// By the flow's number of the order, the engine's.
    orders: Vec<u64>,
    time: u64,
    once: bool,
}

impl Commands {
    /// For a flow of so many symbols and orders.
    pub fn new(symbols: u16, orders: usize) -> Commands {
        Commands { last: vec![0; usize::from(symbols)], orders: vec![0; orders + 1], time: 1_000_000, once: false }
    }

    /// New orders are asked once, as the gateway does with every order that its client gave a name.
    pub fn once(self) -> Commands {
        Commands { once: true, ..self }
    }

    /// The command of the next step, and its time.
    pub fn make(&mut self, step: &Step) -> (Time, Command) {
        self.time += STEP;
        let symbol = SymbolId(step.symbol.into());
        let uid = uid(step.user);
        let index = step.order as usize;
        if matches!(step.action, Action::Limit | Action::ImmediateOrCancel | Action::Market) {
            self.last[usize::from(step.symbol)] += 1;
            self.orders[index] = self.last[usize::from(step.symbol)];
        }
        let order = OrderReference { order_id: Some(OrderId(self.orders[index])), client_order_id: None };
        let quantity = Amount(u128::from(step.quantity) * LOT);
        let place = |order_type, time_in_force, price: u64| {
            let place = PlaceOrder {
                uid,
                symbol,
                client_order_id: name(step.order),
                side: step.side,
                order_type,
                time_in_force,
                price: Amount(u128::from(price) * TICK),
                quantity: OrderQuantity::Base(quantity),
                self_trade_prevention: None,
                special: None,
            };
            if self.once { Placing::Order(place).once(&[name(step.order)]) } else { Command::PlaceOrder(place) }
        };
        let command = match step.action {
            Action::Limit => place(OrderType::Limit, TimeInForce::Gtc, step.price),
            Action::ImmediateOrCancel => place(OrderType::Limit, TimeInForce::Ioc, step.price),
            Action::Market => place(OrderType::Market, TimeInForce::Gtc, 0),
            Action::Cancel => Command::CancelOrder(CancelOrder {
                uid,
                symbol,
                order,
                cancel_client_order_id: name(step.order),
                restriction: None,
            }),
            Action::Reduce => Command::ReduceOrder { uid, symbol, order, by: quantity },
            Action::Move => {
                let price = Some(Amount(u128::from(step.price) * TICK));
                Command::ReplaceOrder(ReplaceOrder { uid, symbol, order, price, quantity: None })
            }
        };
        (Time(self.time), command)
    }

    /// The flow's number of each of a symbol's orders, by the engine's number.
    pub fn numbers(&self, steps: &[Step]) -> Vec<Vec<u64>> {
        let mut numbers: Vec<Vec<u64>> = self.last.iter().map(|last| vec![0; *last as usize + 1]).collect();
        for step in steps {
            numbers[usize::from(step.symbol)][self.orders[step.order as usize] as usize] = step.order;
        }
        numbers
    }
}

fn name(order: u64) -> ClientOrderId {
    ClientOrderId::new(&format!("web_{order:012}")).expect("it is legal")
}

/// What a flow comes to, the way flowgen counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many trades.
    pub trades: u64,
    /// How many lots were traded.
    pub volume: u64,
    /// The sum of price times quantity, in ticks and lots; wraps.
    pub notional: u64,
    /// Over the makers, prices and quantities of all trades.
    pub checksum: u64,
    /// How many orders rest.
    pub resting_orders: u64,
    /// How many lots rest.
    pub resting_quantity: u64,
}

impl Totals {
    /// Counts what one command did; `number` gives the flow's number of a symbol's order.
    pub fn count(&mut self, events: &[Event], number: impl Fn(SymbolId, OrderId) -> u64) {
        for event in events {
            match event {
                Event::Trade(trade) => {
                    self.trades += 1;
                    self.volume += trade.quantity.0;
                    self.notional = self.notional.wrapping_add(trade.price.0.wrapping_mul(trade.quantity.0));
                    let maker = number(trade.symbol, trade.maker.order_id);
                    let mixed = (maker ^ trade.price.0.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                    self.checksum = self.checksum.wrapping_add(mixed ^ trade.quantity.0);
                    self.resting_quantity -= 2 * trade.quantity.0;
                    let filled = [trade.maker.status, trade.taker.status];
                    let filled = filled.into_iter().filter(|status| *status == OrderStatus::Filled);
                    self.resting_orders -= filled.count() as u64;
                }
                Event::OrderAccepted(order) => {
                    self.resting_orders += 1;
                    self.resting_quantity += order.quantity.0;
                }
                Event::OrderCanceled { order, .. } | Event::OrderExpired { order, .. } => {
                    self.resting_orders -= 1;
                    self.resting_quantity -= order.quantity.0 - order.executed.0;
                }
                Event::OrderAmended { order, previous_quantity, .. } => {
                    self.resting_quantity -= previous_quantity.0 - order.quantity.0;
                }
                Event::Rejected(rejection) => panic!("a step was refused: {rejection:?}"),
                _ => {}
            }
        }
    }
}
