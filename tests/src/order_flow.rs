//! Seeded orders: the same seed gives the same commands, for tests and benchmarks.
//!
//! A flow knows nothing of what the exchange decides: it guesses at order ids and names, and asks for what must be
//! refused as readily as for what must be done.

use engine::command::{
    AddAsset, AmendOrder, ApiKey, ApiKeyKind, CancelOrder, CancelRestriction, OrderQuantity, OrderReference,
    Permission, PlaceOrder, Transfer,
};
use engine::order::{ClientOrderId, OrderType, Side, TimeInForce};
use engine::symbol::{SymbolConfig, SymbolStatus};
use engine::units::FeeRate;
use engine::{Amount, AssetId, Command, OrderId, SymbolId, Time, Uid};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The users of a flow are 1 to this.
pub const USERS: u64 = 6;
/// The symbols of a flow are 0 to one less than this.
pub const SYMBOLS: u32 = 3;
/// The assets of a flow are 0 to one less than this.
const ASSETS: u32 = 3;
/// How many names of orders a flow remembers.
const REMEMBERED: usize = 64;

/// An endless run of commands.
#[derive(Debug)]
pub struct OrderFlow {
    random: StdRng,
    setup: std::vec::IntoIter<Command>,
    time: Time,
    /// The names given last, with their symbol and user: what cancels and amends mostly speak of.
    named: Vec<(Uid, SymbolId, ClientOrderId)>,
    placed: u64,
    transfers: u64,
}

impl OrderFlow {
    /// The flow of a seed: first what lists three symbols and funds the users, then orders without end.
    pub fn new(seed: u64) -> OrderFlow {
        OrderFlow {
            random: StdRng::seed_from_u64(seed),
            setup: setup().into_iter(),
            time: Time(1_700_000_000_000_000),
            named: Vec::new(),
            placed: 0,
            transfers: 0,
        }
    }

    fn command(&mut self) -> Command {
        match self.below(1_000) {
            0..700 => self.place(),
            700..860 => self.cancel(),
            860..930 => self.amend(),
            930..940 => Command::CancelAllOrders { uid: self.user(), symbol: self.symbol() },
            940..965 => self.transfer(Command::Deposit),
            965..990 => self.transfer(Command::Withdraw),
            990..996 => self.status(),
            _ => self.listing(),
        }
    }

    fn place(&mut self) -> Command {
        let (uid, symbol) = (self.user(), self.symbol());
        self.placed += 1;
        // Now and then a name that may still be taken.
        let client_order_id = match self.below(40) {
            0 => self.name().2,
            _ => name(&format!("o{}", self.placed)),
        };
        if self.named.len() == REMEMBERED {
            let forgotten = self.below(REMEMBERED as u64) as usize;
            self.named.swap_remove(forgotten);
        }
        self.named.push((uid, symbol, client_order_id));
        let side = if self.below(2) == 0 { Side::Buy } else { Side::Sell };
        let order_type = match self.below(10) {
            0..7 => OrderType::Limit,
            7 => OrderType::LimitMaker,
            _ => OrderType::Market,
        };
        let time_in_force = match self.below(10) {
            0..7 => TimeInForce::Gtc,
            7..9 => TimeInForce::Ioc,
            _ => TimeInForce::Fok,
        };
        let (price, quantity) = (self.price(symbol, side), self.quantity(symbol));
        let is_market = order_type == OrderType::Market;
        let by_quote = if is_market { self.below(2) == 0 } else { self.below(500) == 0 };
        Command::PlaceOrder(PlaceOrder {
            uid,
            symbol,
            client_order_id,
            side,
            order_type,
            time_in_force,
            price: if is_market && self.below(200) != 0 { Amount::ZERO } else { price },
            quantity: if by_quote { OrderQuantity::Quote(self.quote(symbol)) } else { OrderQuantity::Base(quantity) },
        })
    }

    fn cancel(&mut self) -> Command {
        let (uid, symbol, order) = self.reference();
        let restriction = match self.below(10) {
            0 => Some(CancelRestriction::OnlyNew),
            1 => Some(CancelRestriction::OnlyPartiallyFilled),
            _ => None,
        };
        Command::CancelOrder(CancelOrder { uid, symbol, order, cancel_client_order_id: name("cancel"), restriction })
    }

    fn amend(&mut self) -> Command {
        let (uid, symbol, order) = self.reference();
        let new_client_order_id = match (self.below(4), order.client_order_id) {
            (1.., Some(same)) => same,
            _ => self.name().2,
        };
        let new_quantity = self.quantity(symbol);
        Command::AmendOrder(AmendOrder { uid, symbol, order, new_quantity, new_client_order_id })
    }

    fn transfer(&mut self, kind: fn(Transfer) -> Command) -> Command {
        self.transfers += 1;
        // One in ten asks for an earlier transfer again, perhaps of another amount.
        let id = if self.below(10) == 0 { self.below(self.transfers) } else { self.transfers };
        let amount = match self.below(50) {
            0 => Amount(0),
            1 => Amount(u128::MAX),
            _ => Amount(u128::from(self.below(1_000_000_000))),
        };
        let external_id = if self.below(100) == 0 { String::new() } else { format!("t{id}") };
        kind(Transfer {
            uid: self.user(),
            asset: AssetId(self.below(u64::from(ASSETS) + 1) as u32),
            amount,
            external_id,
        })
    }

    fn status(&mut self) -> Command {
        let status = match self.below(6) {
            0 => SymbolStatus::Halt,
            1 => SymbolStatus::CancelOnly,
            _ => SymbolStatus::Trading,
        };
        Command::SetSymbolStatus { symbol: self.symbol(), status }
    }

    /// What operators ask twice or wrongly.
    fn listing(&mut self) -> Command {
        let setup = setup();
        let again = self.below(setup.len() as u64) as usize;
        match self.below(8) {
            0 => Command::AddAsset(AddAsset { name: String::new(), scale: 8 }),
            1 => Command::AddAsset(AddAsset { name: "DUST".to_owned(), scale: 19 }),
            2 => Command::AddSymbol(SymbolConfig { base: AssetId(99), ..symbols().swap_remove(0) }),
            3 => Command::AddSymbol(SymbolConfig {
                step_size: Amount(1),
                name: "FINE".to_owned(),
                ..symbols().swap_remove(0)
            }),
            4 => Command::AddApiKey(api_key(Uid(self.below(USERS + 2)), "")),
            _ => setup[again].clone(),
        }
    }

    /// Mostly an order that was placed not long ago.
    fn reference(&mut self) -> (Uid, SymbolId, OrderReference) {
        let (uid, symbol, named) = self.name();
        let guess = OrderId(1 + self.below(self.placed / u64::from(SYMBOLS) + 2));
        let order = match self.below(20) {
            0 => OrderReference { order_id: None, client_order_id: None },
            1..4 => OrderReference { order_id: Some(guess), client_order_id: None },
            4 => OrderReference { order_id: Some(guess), client_order_id: Some(named) },
            _ => OrderReference { order_id: None, client_order_id: Some(named) },
        };
        (uid, symbol, order)
    }

    fn name(&mut self) -> (Uid, SymbolId, ClientOrderId) {
        match self.named.len() as u64 {
            0 => (self.user(), self.symbol(), name("none")),
            count => {
                let index = self.below(count) as usize;
                self.named[index]
            }
        }
    }

    /// One in a thousand is nobody, or the fee account.
    fn user(&mut self) -> Uid {
        match self.below(1_000) {
            0 => Uid(0),
            1 => Uid(USERS + 1),
            _ => Uid(1 + self.below(USERS)),
        }
    }

    fn symbol(&mut self) -> SymbolId {
        match self.below(1_000) {
            0 => SymbolId(SYMBOLS),
            _ => SymbolId(self.below(u64::from(SYMBOLS)) as u32),
        }
    }

    /// Around the middle, so that both sides rest and meet; at times off the tick or out of range.
    fn price(&mut self, symbol: SymbolId, side: Side) -> Amount {
        let tick = symbols().get(symbol.0 as usize).map_or(1, |config| config.tick_size.0);
        let away = self.below(20);
        let ticks = if side == Side::Buy { 1_004 - away } else { 996 + away };
        match self.below(400) {
            0 => Amount(0),
            1 => Amount(u128::from(ticks) * tick + 1),
            2 => Amount(u128::MAX / tick * tick),
            3 => Amount(u128::from(u64::MAX) * tick),
            _ => Amount(u128::from(ticks) * tick),
        }
    }

    fn quantity(&mut self, symbol: SymbolId) -> Amount {
        let step = symbols().get(symbol.0 as usize).map_or(1, |config| config.step_size.0);
        let steps = u128::from(1 + self.below(50));
        match self.below(400) {
            0 => Amount(0),
            1 => Amount(steps * step + 1),
            2 => Amount(u128::MAX / step * step),
            3 => Amount(u128::from(u64::MAX) * step),
            4 => Amount(100_000 * step),
            _ => Amount(steps * step),
        }
    }

    fn quote(&mut self, symbol: SymbolId) -> Amount {
        let (price, quantity) = (self.price(symbol, Side::Buy), self.quantity(symbol));
        let base_scale = if symbol == SymbolId(2) { 0 } else { 8 };
        let worth = price.0.saturating_mul(quantity.0) / 10u128.pow(base_scale);
        Amount(worth.saturating_add(u128::from(self.below(3))))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random.random_range(0..end)
    }
}

impl Iterator for OrderFlow {
    type Item = (Time, Command);

    fn next(&mut self) -> Option<(Time, Command)> {
        self.time.0 += self.below(5_000);
        let command = self.setup.next().unwrap_or_else(|| self.command());
        Some((self.time, command))
    }
}

fn setup() -> Vec<Command> {
    let mut commands: Vec<Command> = [("BTC", 8), ("USDT", 8), ("LOT", 0)]
        .map(|(name, scale)| Command::AddAsset(AddAsset { name: name.to_owned(), scale }))
        .into();
    commands.extend(symbols().into_iter().map(Command::AddSymbol));
    for uid in (1..=USERS).map(Uid) {
        commands.push(Command::OpenAccount { uid });
        commands.push(Command::AddApiKey(api_key(uid, &format!("key-{uid}"))));
        // The first users are rich, the last are soon out of funds.
        let amount = Amount(10u128.pow(15 - uid.0 as u32));
        for asset in (0..ASSETS).map(AssetId) {
            commands.push(Command::Deposit(Transfer { uid, asset, amount, external_id: format!("first-{asset}") }));
        }
    }
    commands
}

/// Three symbols that share assets: with fees and narrow filters, with none, and of a base that has no decimals.
fn symbols() -> Vec<SymbolConfig> {
    let fee = |billionths| FeeRate::from_billionths(billionths).expect("a fee below one");
    let plain = SymbolConfig::plain("", AssetId(0), AssetId(1), Amount(1_000_000), Amount(100_000));
    vec![
        SymbolConfig {
            name: "BTCUSDT".to_owned(),
            min_price: Amount(990_000_000),
            max_price: Amount(1_010_000_000),
            min_quantity: Amount(300_000),
            max_quantity: Amount(5_000_000),
            market_min_quantity: Amount(400_000),
            market_max_quantity: Amount(4_000_000),
            min_notional: Amount(5_000_000),
            apply_min_to_market: true,
            max_notional: Amount(45_000_000),
            apply_max_to_market: true,
            maker_fee: fee(1_000_000),
            taker_fee: fee(1_500_001),
            ..plain.clone()
        },
        SymbolConfig { name: "BTCFREE".to_owned(), ..plain.clone() },
        SymbolConfig {
            name: "LOTUSDT".to_owned(),
            base: AssetId(2),
            tick_size: Amount(7),
            step_size: Amount(1),
            maker_fee: fee(333_333_333),
            taker_fee: fee(FeeRate::MAX),
            ..plain
        },
    ]
}

fn api_key(uid: Uid, key: &str) -> ApiKey {
    ApiKey {
        uid,
        api_key: key.to_owned(),
        kind: ApiKeyKind::Hmac { secret: b"secret".to_vec() },
        permissions: vec![Permission::UserData, Permission::Trade],
    }
}

fn name(text: &str) -> ClientOrderId {
    ClientOrderId::new(text).expect("a legal name")
}
