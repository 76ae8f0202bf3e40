//! What the engine alone decides in a second: on the tests' mixed flow, and at a thousand and a million resting orders.

use std::time::Instant;

use benches::{Figure, grouped, per_second};
use engine::command::{AddAsset, CancelOrder, OrderQuantity, OrderReference, PlaceOrder, Transfer};
use engine::order::{ClientOrderId, OrderType, Side, TimeInForce};
use engine::symbol::SymbolConfig;
use engine::{Amount, AssetId, Command, Engine, Event, SymbolId, Time, Uid};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tests::order_flow::OrderFlow;

const SEED: u64 = 1;
const COMMANDS: usize = 1_000_000;
const TRADER: Uid = Uid(1);
const SYMBOL: SymbolId = SymbolId(0);
/// Bids rest below it and asks above.
const MIDDLE: u64 = 1_000_000;
/// How many orders rest at one price.
const PER_LEVEL: usize = 10;

fn main() {
    let mixed: Vec<(Time, Command)> = OrderFlow::new(SEED).take(COMMANDS).collect();
    let elapsed = run(&mut Engine::new(), &mixed);
    report("mixed flow of the tests", elapsed, None);

    let mut small = None;
    for resting in [1_000, 1_000_000] {
        let mut market = Market::new(resting);
        let commands = market.commands();
        let elapsed = run(&mut market.engine, &commands);
        let case = format!("{} resting: 40 % rest, 40 % cancel, 20 % trade", grouped(resting as u64));
        report(&case, elapsed, small);
        small = small.or(Some(per_second(COMMANDS as u64, elapsed)));
    }
}

fn report(case: &str, elapsed: std::time::Duration, baseline: Option<u64>) {
    let value = per_second(COMMANDS as u64, elapsed);
    println!("{case:<50} {:>10} commands/s", grouped(value));
    Figure { bench: "matching", case, unit: "commands/s", value, n: COMMANDS as u64, baseline }.keep();
}

fn run(engine: &mut Engine, commands: &[(Time, Command)]) -> std::time::Duration {
    let mut events = Vec::new();
    let started = Instant::now();
    for (time, command) in commands {
        events.clear();
        engine.apply(*time, command, &mut events);
    }
    started.elapsed()
}

/// A book of so many resting orders, kept at that size.
struct Market {
    engine: Engine,
    random: StdRng,
    levels: u64,
    /// The names of what rests, some of it traded by now.
    resting: Vec<u64>,
    names: u64,
}

impl Market {
    fn new(resting: usize) -> Market {
        let mut market = Market {
            engine: Engine::new(),
            random: StdRng::seed_from_u64(SEED),
            levels: (resting / PER_LEVEL / 2).max(1) as u64,
            resting: Vec::new(),
            names: 0,
        };
        for name in ["BASE", "QUOTE"] {
            market.apply(Command::AddAsset(AddAsset { name: name.to_owned(), scale: 0 }));
        }
        market.apply(Command::AddSymbol(symbol()));
        market.apply(Command::OpenAccount { uid: TRADER });
        for asset in [AssetId(0), AssetId(1)] {
            let external_id = format!("first-{asset}");
            market.apply(Command::Deposit(Transfer { uid: TRADER, asset, amount: Amount(1 << 100), external_id }));
        }
        for _ in 0..resting {
            let command = market.rest();
            market.apply(command);
        }
        market
    }

    /// Commands under which the book keeps its size: as many come to rest as are canceled or traded.
    fn commands(&mut self) -> Vec<(Time, Command)> {
        let time = self.engine.time();
        let command = |number| match number % 5 {
            0 | 2 => self.rest(),
            1 | 3 => self.cancel(),
            _ => self.take(),
        };
        (0..COMMANDS).map(command).map(|command| (time, command)).collect()
    }

    fn apply(&mut self, command: Command) {
        let mut events = Vec::new();
        self.engine.apply(Time(1), &command, &mut events);
        assert!(!matches!(events[..], [Event::Rejected(_)]), "{command:?}: {events:?}");
    }

    fn rest(&mut self) -> Command {
        self.names += 1;
        self.resting.push(self.names);
        let away = self.random.random_range(1..=self.levels);
        let (side, price) = match self.names % 2 {
            0 => (Side::Buy, MIDDLE - away),
            _ => (Side::Sell, MIDDLE + away),
        };
        place(self.names, side, TimeInForce::Gtc, price, 100)
    }

    fn cancel(&mut self) -> Command {
        let index = self.random.random_range(0..self.resting.len());
        let name = self.resting.swap_remove(index);
        Command::CancelOrder(CancelOrder {
            uid: TRADER,
            symbol: SYMBOL,
            order: OrderReference { order_id: None, client_order_id: Some(named(name)) },
            cancel_client_order_id: named(0),
            restriction: None,
        })
    }

    fn take(&mut self) -> Command {
        self.names += 1;
        match self.names % 2 {
            0 => place(self.names, Side::Buy, TimeInForce::Ioc, MIDDLE + self.levels, 10),
            _ => place(self.names, Side::Sell, TimeInForce::Ioc, MIDDLE - self.levels, 10),
        }
    }
}

fn place(name: u64, side: Side, time_in_force: TimeInForce, price: u64, quantity: u64) -> Command {
    Command::PlaceOrder(PlaceOrder {
        uid: TRADER,
        symbol: SYMBOL,
        client_order_id: named(name),
        side,
        order_type: OrderType::Limit,
        time_in_force,
        price: Amount(price.into()),
        quantity: OrderQuantity::Base(Amount(quantity.into())),
    })
}

fn named(name: u64) -> ClientOrderId {
    ClientOrderId::new(&format!("n{name}")).expect("a legal name")
}

fn symbol() -> SymbolConfig {
    SymbolConfig::plain("BENCH", AssetId(0), AssetId(1), Amount(1), Amount(1))
}
