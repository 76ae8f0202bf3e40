//! The engine on recorded markets: every row of LOBSTER's reconstructed NASDAQ books, every maker, and Bitstamp's flow.

use std::collections::BTreeMap;
use std::path::Path;

use engine::command::{AddAsset, AmendOrder, CancelOrder, OrderQuantity, OrderReference, PlaceOrder, Transfer};
use engine::order::{ClientOrderId, OrderType, Side, TimeInForce};
use engine::symbol::SymbolConfig;
use engine::{Amount, AssetId, Command, Engine, Event, OrderId, Price, Quantity, SymbolId, Time, Uid};
use tests::shared_data::{gzip_lines, shared_file, zip_lines};

const TRADER: Uid = Uid(1);
const SYMBOL: SymbolId = SymbolId(0);

#[test]
fn lobster_goog_every_row_and_every_maker() {
    lobster("GOOG_L1", "GOOG_2012-06-21_1", 1, Counts { rows: 49_482, executions: 7_759 });
}

#[test]
fn lobster_amzn_every_row_and_every_maker() {
    lobster("AMZN_L5", "AMZN_2012-06-21_5", 5, Counts { rows: 155_935, executions: 8_939 });
}

#[test]
fn lobster_aapl_every_row_and_every_maker() {
    lobster("AAPL_L1", "AAPL_2012-06-21_1", 1, Counts { rows: 118_497, executions: 23_633 });
}

/// A plain price-time engine fed Bitstamp's commands trades exactly this, and its books agree so often with the recorded
/// ones: the rest is what the recording does not tell (orders sized in dollars, and quantities raised afterwards).
#[test]
fn bitstamp_trades_and_books() {
    let Some(commands) = shared_file("data/commands/bitstamp_2015-05-01.commands.csv.gz") else { return };
    let Some(trades) = shared_file("data/commands/bitstamp_2015-05-01.exchange_trades.csv.gz") else { return };
    let Some(books) = shared_file("data/commands/bitstamp_2015-05-01.exchange_book20.csv.gz") else { return };
    let books = rows(&books);
    let mut books = books.iter().peekable();
    let mut market = Market::new();
    let (mut ours, mut equal, mut volume) = (BTreeMap::<(u64, u64), usize>::new(), [0; 3], 0);
    let mut compare = |market: &Market, commands: usize| {
        while let Some(book) = books.next_if(|book| book[1].parse() == Ok(commands)) {
            let side = |text: &str| -> Vec<(u64, u64)> {
                let pair = |pair: &str| pair.split_once(':').map(|(price, quantity)| (number(price), number(quantity)));
                text.split(' ').map(|text| pair(text).expect("price:qty")).collect()
            };
            let (bids, asks) = (side(&book[2]), side(&book[3]));
            for (equal, depth) in equal.iter_mut().zip([1, 5, 20]) {
                let same =
                    |side, recorded: &[(u64, u64)]| market.top(side, depth) == recorded[..depth.min(recorded.len())];
                *equal += usize::from(same(Side::Buy, &bids) && same(Side::Sell, &asks));
            }
        }
    };
    let mut count = 0;
    for (done, row) in rows(&commands).iter().enumerate() {
        compare(&market, done);
        let [_, command, order, side, kind, price, quantity] = row.as_slice() else { panic!("seven columns: {row:?}") };
        let events = match (command.as_str(), kind.as_str()) {
            ("C", _) => market.cancel(order),
            (_, "MARKET") => {
                market.place(order, side_of(side), OrderType::Market, TimeInForce::Gtc, 0, number(quantity))
            }
            _ => {
                market.place(order, side_of(side), OrderType::Limit, TimeInForce::Gtc, number(price), number(quantity))
            }
        };
        for event in events {
            if let Event::Trade(trade) = event {
                *ours.entry((trade.price.0, trade.quantity.0)).or_default() += 1;
                volume += trade.quantity.0;
                count += 1;
            }
        }
    }
    compare(&market, 49_414);
    let mut identical = 0;
    for trade in rows(&trades) {
        if let Some(left) = ours.get_mut(&(number(&trade[2]), number(&trade[3]))).filter(|left| **left > 0) {
            *left -= 1;
            identical += 1;
        }
    }
    market.engine.validate();
    assert_eq!((count, identical, volume), (575, 567, 84_773_858_096));
    assert_eq!(equal, [4_908, 4_186, 1_039]);
}

struct Counts {
    rows: usize,
    executions: usize,
}

fn lobster(commands: &str, sample: &str, levels: usize, expected: Counts) {
    let Some(commands) = shared_file(&format!("data/commands/lobster_{commands}.csv.gz")) else { return };
    let Some(sample) = shared_file(&format!("data/lobster/LOBSTER_SampleFile_{sample}.zip")) else { return };
    let commands = rows(&commands);
    let mut commands = commands.iter().peekable();
    let mut market = Market::new();
    let mut executions = 0;
    let books = order_books(&sample, levels);
    for (row, book) in books.iter().enumerate() {
        while let Some(command) = commands.next_if(|command| command[0].parse() == Ok(row)) {
            executions += market.recorded(command);
        }
        let (asks, bids) = book.split_at(levels);
        let shown = |levels: &[Option<(u64, u64)>]| -> Vec<(u64, u64)> { levels.iter().copied().flatten().collect() };
        assert_eq!(market.top(Side::Sell, levels), shown(asks), "asks after row {row}");
        assert_eq!(market.top(Side::Buy, levels), shown(bids), "bids after row {row}");
    }
    assert!(commands.next().is_none(), "every command belongs to a row");
    assert_eq!((books.len(), executions), (expected.rows, expected.executions));
    market.engine.validate();
}

/// An engine with one symbol and one trader, where a price of 1 is a tick and a quantity of 1 is a lot; and the book as
/// those see it who only hear its events.
struct Market {
    engine: Engine,
    heard: BTreeMap<(Side, Price), Quantity>,
    orders: BTreeMap<String, (OrderId, u64)>,
}

impl Market {
    fn new() -> Market {
        let mut market = Market { engine: Engine::new(), heard: BTreeMap::new(), orders: BTreeMap::new() };
        for name in ["BASE", "QUOTE"] {
            market.apply(Command::AddAsset(AddAsset { name: name.to_owned(), scale: 0 }));
        }
        let symbol = SymbolConfig::plain("RECORDED", AssetId(0), AssetId(1), Amount(1), Amount(1));
        market.apply(Command::AddSymbol(Box::new(symbol)));
        market.apply(Command::OpenAccount { uid: TRADER });
        for asset in [AssetId(0), AssetId(1)] {
            let amount = Amount(u128::MAX >> 16);
            market.apply(Command::Deposit(Transfer { uid: TRADER, asset, amount, external_id: format!("{asset}") }));
        }
        market
    }

    fn apply(&mut self, command: Command) -> Vec<Event> {
        let mut events = Vec::new();
        self.engine.apply(Time(self.engine.time().0 + 1), &command, &mut events);
        for event in &events {
            if let Event::LevelChanged { side, price, quantity, .. } = *event {
                if quantity.is_zero() {
                    self.heard.remove(&(side, price));
                } else {
                    self.heard.insert((side, price), quantity);
                }
            }
        }
        events
    }

    /// The best levels of a side.
    fn top(&self, side: Side, levels: usize) -> Vec<(u64, u64)> {
        let of_side = self.heard.range((side, Price(0))..=(side, Price(u64::MAX)));
        let plain = |((_, price), quantity): (&(Side, Price), &Quantity)| (price.0, quantity.0);
        match side {
            Side::Buy => of_side.rev().take(levels).map(plain).collect(),
            Side::Sell => of_side.take(levels).map(plain).collect(),
        }
    }

    /// One command of a LOBSTER file. How many executions it was.
    fn recorded(&mut self, row: &[String]) -> usize {
        let [_, command, order, side, price, quantity, maker] = row else { panic!("seven columns: {row:?}") };
        let (price, quantity) = (number(price), number(quantity));
        match command.as_str() {
            "N" => {
                let events = self.place(order, side_of(side), OrderType::Limit, TimeInForce::Gtc, price, quantity);
                assert!(
                    !events.iter().any(|event| matches!(event, Event::Trade(_))),
                    "a recorded order never crosses: {row:?}"
                );
            }
            "C" => {
                let events = self.cancel(order);
                assert!(matches!(events[..], [Event::OrderCanceled { .. }, ..]), "{row:?}: {events:?}");
            }
            "R" => {
                let (order_id, whole) = self.orders[order];
                let reduced = whole - quantity;
                self.orders.insert(order.clone(), (order_id, reduced));
                let events = self.apply(Command::AmendOrder(AmendOrder {
                    uid: TRADER,
                    symbol: SYMBOL,
                    order: OrderReference { order_id: Some(order_id), client_order_id: None },
                    new_quantity: Amount(u128::from(reduced)),
                    new_client_order_id: client_order_id(order),
                }));
                assert!(matches!(events[0], Event::OrderAmended { .. }), "{row:?}: {events:?}");
            }
            "X" => {
                let taker = format!("x{}", row[0]);
                let events = self.place(&taker, side_of(side), OrderType::Limit, TimeInForce::Ioc, price, quantity);
                let trades: Vec<_> = events
                    .iter()
                    .filter_map(|event| if let Event::Trade(trade) = event { Some(*trade) } else { None })
                    .collect();
                let [trade] = trades.as_slice() else { panic!("one trade each: {row:?}: {events:?}") };
                assert_eq!((trade.price, trade.quantity), (Price(price), Quantity(quantity)), "{row:?}");
                assert_eq!(trade.maker.order_id, self.orders[maker].0, "the expected maker: {row:?}");
                return 1;
            }
            other => panic!("command {other:?}"),
        }
        0
    }

    fn place(
        &mut self,
        name: &str,
        side: Side,
        order_type: OrderType,
        time_in_force: TimeInForce,
        price: u64,
        quantity: u64,
    ) -> Vec<Event> {
        let events = self.apply(Command::PlaceOrder(PlaceOrder {
            uid: TRADER,
            symbol: SYMBOL,
            client_order_id: client_order_id(name),
            side,
            order_type,
            time_in_force,
            price: Amount(u128::from(price)),
            quantity: OrderQuantity::Base(Amount(u128::from(quantity))),
            self_trade_prevention: None,
            special: None,
        }));
        let Event::OrderAccepted(order) = &events[0] else { panic!("{name}: {events:?}") };
        self.orders.insert(name.to_owned(), (order.order_id, quantity));
        events
    }

    /// A recording may cancel an order whose placing it missed.
    fn cancel(&mut self, name: &str) -> Vec<Event> {
        let Some(&(order_id, _)) = self.orders.get(name) else { return Vec::new() };
        self.apply(Command::CancelOrder(CancelOrder {
            uid: TRADER,
            symbol: SYMBOL,
            order: OrderReference { order_id: Some(order_id), client_order_id: None },
            cancel_client_order_id: client_order_id("cancel"),
            restriction: None,
        }))
    }
}

fn client_order_id(name: &str) -> ClientOrderId {
    ClientOrderId::new(name).expect("a legal name")
}

fn side_of(text: &str) -> Side {
    if text == "B" { Side::Buy } else { Side::Sell }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("a number: {text:?}"))
}

/// A gzipped CSV file without its first line.
fn rows(path: &Path) -> Vec<Vec<String>> {
    gzip_lines(path).skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// For each row its levels, all asks before all bids, best first; `None` where the book has no such level.
fn order_books(path: &Path, levels: usize) -> Vec<Vec<Option<(u64, u64)>>> {
    let level =
        |price: &str, quantity: &str| (!price.contains("9999999999")).then(|| (number(price), number(quantity)));
    let row = |line: &String| {
        let fields: Vec<&str> = line.trim().split(',').collect();
        let of_side =
            |first: usize| fields.chunks_exact(4).map(|it| level(it[first], it[first + 1])).collect::<Vec<_>>();
        [of_side(0), of_side(2)].concat()
    };
    zip_lines(path, &format!("orderbook_{levels}.csv")).iter().map(row).collect()
}
