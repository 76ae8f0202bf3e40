//! Seeded orders: the same seed gives the same commands, for tests and benchmarks.
//!
//! A flow knows nothing of what the exchange decides: it guesses at order ids and names, and asks for what must be
//! refused as readily as for what must be done. Who wants it to speak of orders that are there lets it hear the events
//! ([`OrderFlow::hear`]); what it says then depends on what it heard, and on nothing else.

use engine::access::{Access, AddressRange, KeyRules, Note, Role, UserTerms};
use engine::command::{
    AccountSettings, AddAsset, AmendOrder, ApiKey, ApiKeyKind, CancelOrder, CancelOrderList, CancelReplace,
    CancelRestriction, ExchangeLimits, Once, OrderCountLimit, OrderListKind, OrderQuantity, OrderReference, Permission,
    PlaceOrder, PlaceOrderList, Placing, QuoteTerms, ReferenceQuote, ReplaceOrder, SpecialTerms, Transfer,
};
use engine::commission::{Commission, CommissionRates, Discount, FeeRate, FeeRounding, LotFee};
use engine::order::{ClientOrderId, OrderType, Peg, PegPrice, SelfTradePrevention, Side, TimeInForce};
use engine::symbol::{CircuitBreaker, PriceRange, SymbolConfig, SymbolStatus, TrailingDeltaFilter};
use engine::units::{Multiplier, OrderListId, TradeGroup};
use engine::{Amount, AssetId, Command, Event, OrderId, SymbolId, Time, Uid};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The users of a flow are 1 to this.
pub const USERS: u64 = 7;
/// The symbols of a flow are 0 to one less than this.
pub const SYMBOLS: u32 = 3;
/// The assets of a flow are 0 to one less than this.
const ASSETS: u32 = 4;
/// The house of the symbols that are quote-driven.
pub const HOUSE: Uid = Uid(USERS + 1);
/// How many names of orders, and how many numbers of orders and lists, a flow remembers.
const REMEMBERED: usize = 64;
/// Around which price, in ticks, a symbol begins.
const MIDDLE: u64 = 1_000;

/// An endless run of commands.
#[derive(Debug)]
pub struct OrderFlow {
    random: StdRng,
    setup: std::vec::IntoIter<Command>,
    configs: Vec<SymbolConfig>,
    time: Time,
    /// The names given last, with their symbol and user: what cancels and amends mostly speak of.
    named: Vec<(Uid, SymbolId, ClientOrderId)>,
    /// The same of lists.
    lists_named: Vec<(Uid, SymbolId, ClientOrderId)>,
    /// The orders and lists heard of last.
    heard: Vec<(Uid, SymbolId, OrderId)>,
    lists_heard: Vec<(Uid, SymbolId, OrderListId)>,
    /// New orders under names of their clients, to be asked again.
    asked: Vec<Once>,
    /// Around which price each symbol trades just now.
    middles: Vec<u64>,
    placed: u64,
    transfers: u64,
    /// What this seed does more of than others.
    mood: u64,
    /// Whether symbols are quote-driven.
    is_quoted: bool,
}

impl OrderFlow {
    /// The flow of a seed: first what lists three symbols and funds the users, then orders without end.
    pub fn new(seed: u64) -> OrderFlow {
        let mut random = StdRng::seed_from_u64(seed);
        let mood = random.random_range(0..8);
        OrderFlow {
            random,
            mood,
            setup: setup().into_iter(),
            configs: symbols(),
            time: Time(1_700_000_000_000_000),
            named: Vec::new(),
            lists_named: Vec::new(),
            heard: Vec::new(),
            lists_heard: Vec::new(),
            asked: Vec::new(),
            middles: vec![MIDDLE; SYMBOLS as usize],
            placed: 0,
            transfers: 0,
            is_quoted: false,
        }
    }

    /// The same with symbols that are quote-driven, most of the time: prices come in between the orders.
    pub fn quoted(seed: u64) -> OrderFlow {
        let flow = OrderFlow::new(seed);
        let mut setup: Vec<Command> = flow.setup.collect();
        setup.push(Command::OpenAccount { uid: HOUSE });
        for asset in (0..ASSETS).map(AssetId) {
            let external_id = format!("first-{asset}");
            setup.push(Command::Deposit(Transfer { uid: HOUSE, asset, amount: Amount(3_000_000_000), external_id }));
        }
        let mut flow = OrderFlow { is_quoted: true, setup: setup.into_iter(), ..flow };
        let driven: Vec<Command> = (0..SYMBOLS).map(|symbol| flow.quote_driven(SymbolId(symbol), true)).collect();
        flow.setup = flow.setup.chain(driven).collect::<Vec<Command>>().into_iter();
        flow
    }

    /// What became of the last command: the flow speaks of the orders and lists that it hears of.
    pub fn hear(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::OrderAccepted(order) => {
                    let known = (order.uid, order.symbol, order.order_id);
                    remember(&mut self.heard, known, &mut self.random);
                }
                Event::OrderListChanged(list) => {
                    let known = (list.uid, list.symbol, list.order_list_id);
                    remember(&mut self.lists_heard, known, &mut self.random);
                }
                _ => {}
            }
        }
    }

    fn command(&mut self) -> Command {
        if self.is_quoted && self.below(4) == 0 {
            return self.quoted_command();
        }
        if self.below(20) == 0 && !self.asked.is_empty() {
            return self.ask_again();
        }
        let command = self.plain();
        let placing = match &command {
            Command::PlaceOrder(place) => Placing::Order(place.clone()),
            Command::PlaceOrderList(list) => Placing::OrderList(PlaceOrderList::clone(list)),
            Command::CancelReplace(both) => Placing::CancelReplace(CancelReplace::clone(both)),
            _ => return command,
        };
        if self.below(2) == 0 { command } else { self.named(placing) }
    }

    /// The same under the names that the client gave: all that there are, or some.
    fn named(&mut self, placing: Placing) -> Command {
        let mut given: Vec<ClientOrderId> = placing.orders().iter().map(|order| order.client_order_id).collect();
        if let Placing::OrderList(list) = &placing {
            given.insert(0, list.list_client_order_id);
        }
        if self.below(4) == 0 {
            given.remove(0);
        }
        let command = placing.once(&given);
        if let Command::Once(once) = &command {
            remember(&mut self.asked, Once::clone(once), &mut self.random);
        }
        command
    }

    /// What was asked before: mostly the same, now and then other terms under the same name, or a new use of the name by who
    /// has the answer.
    fn ask_again(&mut self) -> Command {
        let at = self.below(self.asked.len() as u64) as usize;
        let mut once = self.asked[at].clone();
        match self.below(6) {
            0 => once.answered = true,
            1 => {
                let name = once.placing.orders()[0].client_order_id;
                let (uid, symbol) = once.placing.place();
                let place = PlaceOrder { client_order_id: name, ..self.place_of(uid, symbol) };
                return self.named(Placing::Order(place));
            }
            _ => {}
        }
        Command::Once(Box::new(once))
    }

    fn plain(&mut self) -> Command {
        if self.mood < 4 && self.below(3) == 0 {
            return match self.mood {
                0 => self.place_list(),
                1 => self.replace(),
                2 => self.cancel_replace(),
                _ => self.amend(),
            };
        }
        match self.below(1_000) {
            0..580 => Command::PlaceOrder(self.place()),
            580..660 => self.place_list(),
            660..730 => Command::CancelOrder(self.cancel()),
            730..740 => self.cancel_list(),
            740..775 => self.cancel_replace(),
            775..815 => self.amend(),
            815..840 => self.reduce(),
            840..880 => self.replace(),
            880..905 => Command::CancelAllOrders { uid: self.user(), symbol: self.symbol() },
            905..910 => Command::CancelEverything { uid: self.user() },
            910..920 => self.countdown(),
            920..935 => Command::Tick,
            935..950 => self.transfer(Command::Deposit),
            950..960 => self.transfer(Command::Withdraw),
            960..968 => self.transfer(Command::BeginWithdrawal),
            968..976 => self.end_withdrawal(),
            976..986 => self.status(),
            _ => self.operator(),
        }
    }

    // Prices from outside.

    fn quoted_command(&mut self) -> Command {
        match self.below(60) {
            0 => {
                let (symbol, is_on) = (self.symbol(), self.below(5) > 0);
                self.quote_driven(symbol, is_on)
            }
            1 => {
                let symbol = self.symbol();
                Command::PlaceOrder(self.place_of(HOUSE, symbol))
            }
            2 => Command::Tick,
            3 => {
                self.transfers += 1;
                let asset = AssetId(self.below(u64::from(ASSETS)) as u32);
                let external_id = format!("house-{}", self.transfers);
                let amount = Amount(u128::from(self.below(200_000_000)));
                let transfer = Transfer { uid: HOUSE, asset, amount, external_id };
                if self.below(3) == 0 { Command::Withdraw(transfer) } else { Command::Deposit(transfer) }
            }
            _ => self.reference_quote(),
        }
    }

    fn quote_driven(&mut self, symbol: SymbolId, is_on: bool) -> Command {
        let lots = 1 + self.below(150);
        let terms = QuoteTerms {
            house: if self.below(30) == 0 { self.user() } else { HOUSE },
            spread: Multiplier(match self.below(40) {
                0 => 99_999_999,
                1 => 100_000_000,
                some => [0, 50_000, 300_000, 1_000_000][some as usize % 4],
            }),
            stale_after_ms: [0, 1, 100, 3_000, 3_000, 3_000, 86_400_000, 86_400_001][self.below(8) as usize],
            max_exposure: if self.below(30) == 0 { Amount(0) } else { self.lots(symbol, lots, lots + 1) },
        };
        Command::SetQuoteDriven { symbol, terms: is_on.then_some(terms) }
    }

    fn reference_quote(&mut self) -> Command {
        let symbol = self.symbol();
        let middle = self.middle(symbol);
        let wide = self.below(3);
        // A little off the ticks.
        let off = u128::from(self.below(3));
        let bid = Amount(self.ticks(symbol, middle - wide).0 + off);
        let ask = match self.below(50) {
            0 => Amount(self.ticks(symbol, middle - wide).0 - 1),
            1 => Amount(u128::MAX),
            _ => Amount(self.ticks(symbol, middle + wide).0 + off),
        };
        let outside = self.time.0 / 1_000 - self.below(8).saturating_sub(5) * 100;
        let source = name(["one", "two"][self.below(2) as usize]);
        Command::ReferenceQuote(ReferenceQuote { symbol, bid, ask, outside_time: Time(outside), source })
    }

    // New orders.

    fn place(&mut self) -> PlaceOrder {
        let (uid, symbol) = (self.user(), self.symbol());
        self.place_of(uid, symbol)
    }

    fn place_of(&mut self, uid: Uid, symbol: SymbolId) -> PlaceOrder {
        let side = if self.below(2) == 0 { Side::Buy } else { Side::Sell };
        let order_type = match self.below(if self.mood == 4 { 60 } else { 100 }) {
            // More that waits for its price than rests.
            0..30 if self.mood == 5 => OrderType::StopLoss,
            0..48 => OrderType::Limit,
            48..56 => OrderType::LimitMaker,
            56..70 => OrderType::Market,
            70..77 => OrderType::StopLoss,
            77..86 => OrderType::StopLossLimit,
            86..92 => OrderType::TakeProfit,
            _ => OrderType::TakeProfitLimit,
        };
        self.order(uid, symbol, side, order_type)
    }

    /// An order of that kind, mostly well formed.
    fn order(&mut self, uid: Uid, symbol: SymbolId, side: Side, order_type: OrderType) -> PlaceOrder {
        let is_market = order_type.is_market();
        let time_in_force = match self.below(10) {
            0..7 => TimeInForce::Gtc,
            7..9 => TimeInForce::Ioc,
            _ => TimeInForce::Fok,
        };
        let mut special = SpecialTerms::default();
        if order_type.is_stop() != (self.below(300) == 0) {
            self.stop_terms(&mut special, symbol, side, order_type);
        }
        let mut price = if is_market && self.below(200) != 0 { Amount::ZERO } else { self.price(symbol, side) };
        if (!is_market && self.below(12) == 0) || self.below(300) == 0 {
            special.iceberg_quantity = Some(match self.below(12) {
                0 => self.quantity(symbol),
                _ => self.lots(symbol, 1, 12),
            });
        }
        if (!is_market && self.below(12) == 0) || self.below(300) == 0 {
            let peg_price = if self.below(2) == 0 { PegPrice::Primary } else { PegPrice::Market };
            let offset = match self.below(20) {
                0 => self.below(256) as u8,
                _ => self.below(4) as u8,
            };
            special.peg = Some(Peg { price: peg_price, offset });
            if self.below(4) != 0 {
                price = Amount::ZERO;
            }
        }
        if self.below(50) == 0 {
            special.strategy_id = Some(self.below(5) as i64 - 2);
            special.strategy_type = Some(1_000_000 + self.below(3) as i32);
        }
        let by_quote = if order_type == OrderType::Market { self.below(2) == 0 } else { self.below(500) == 0 };
        let quantity = match self.below(1_000) {
            0 => OrderQuantity::Proceeds,
            _ if by_quote => OrderQuantity::Quote(self.quote(symbol)),
            _ => OrderQuantity::Base(self.quantity(symbol)),
        };
        PlaceOrder {
            uid,
            symbol,
            client_order_id: self.new_name(uid, symbol),
            side,
            order_type,
            time_in_force: if special.iceberg_quantity.is_some() && self.below(10) != 0 {
                TimeInForce::Gtc
            } else {
                time_in_force
            },
            price,
            quantity,
            self_trade_prevention: self.prevention(),
            special: (special != SpecialTerms::default() || self.below(100) == 0).then(|| Box::new(special)),
        }
    }

    /// A stop a little away from the middle, on the side where it does not trigger at once; at times it trails.
    fn stop_terms(&mut self, special: &mut SpecialTerms, symbol: SymbolId, side: Side, order_type: OrderType) {
        let loses = matches!(order_type, OrderType::StopLoss | OrderType::StopLossLimit);
        let rising = loses == (side == Side::Buy);
        let trails = self.below(3) == 0;
        if !trails || self.below(2) == 0 {
            let away = self.below(14) + 1;
            let middle = self.middle(symbol);
            let above = rising != (self.below(20) == 0);
            let ticks = if above { middle + away } else { middle - away };
            special.stop_price = Some(self.ticks(symbol, ticks));
        }
        if trails {
            special.trailing_delta = Some(match self.below(40) {
                0 => 0,
                1 => 10_000,
                2 => 9_999,
                _ => [10, 20, 50, 100, 150, 300][self.below(6) as usize],
            });
        }
    }

    fn place_list(&mut self) -> Command {
        let (uid, symbol) = (self.user(), self.symbol());
        let kind = match self.below(3) {
            0 => OrderListKind::OneCancelsOther,
            1 => OrderListKind::OneTriggersOther,
            _ => OrderListKind::OneTriggersOneCancelsOther,
        };
        let mut orders = Vec::new();
        let mut side = if self.below(2) == 0 { Side::Buy } else { Side::Sell };
        if kind != OrderListKind::OneCancelsOther {
            let order_type = match self.below(40) {
                0 => OrderType::Market,
                1..12 => OrderType::LimitMaker,
                _ => OrderType::Limit,
            };
            orders.push(self.order(uid, symbol, side, order_type));
            side = if self.below(4) == 0 { side } else { side.opposite() };
        }
        if kind == OrderListKind::OneTriggersOther {
            let mut pending = self.place_of(uid, symbol);
            pending.side = side;
            orders.push(pending);
        } else {
            orders.extend(self.pair(uid, symbol, side));
        }
        let buys = orders[0].side == Side::Buy && kind != OrderListKind::OneCancelsOther;
        let sells = orders.iter().skip(1).all(|place| place.side == Side::Sell);
        if (buys && sells && self.below(2) == 0) || self.below(100) == 0 {
            for pending in orders.iter_mut().skip(1) {
                pending.quantity = OrderQuantity::Proceeds;
            }
        }
        match self.below(100) {
            0 => orders[0].uid = Uid(orders[0].uid.0 % USERS + 1),
            1 => orders.truncate(1),
            2 => orders[0].symbol = self.symbol(),
            3 => orders.reverse(),
            4 => orders[1].client_order_id = orders[0].client_order_id,
            _ => {}
        }
        let list_client_order_id = match self.below(40) {
            0 => self.list_name().2,
            _ => {
                let made = name(&format!("l{}", self.placed));
                remember(&mut self.lists_named, (uid, symbol, made), &mut self.random);
                made
            }
        };
        Command::PlaceOrderList(Box::new(PlaceOrderList { uid, symbol, list_client_order_id, kind, orders }))
    }

    /// The two legs of an OCO, mostly the right way round.
    fn pair(&mut self, uid: Uid, symbol: SymbolId, side: Side) -> [PlaceOrder; 2] {
        let gain = match self.below(6) {
            0 => OrderType::TakeProfit,
            1 => OrderType::TakeProfitLimit,
            _ => OrderType::LimitMaker,
        };
        let stop = if self.below(3) == 0 { OrderType::StopLoss } else { OrderType::StopLossLimit };
        let mut gain = self.order(uid, symbol, side, gain);
        let mut stop = self.order(uid, symbol, side, stop);
        if gain.order_type == OrderType::LimitMaker && gain.price.0 > 0 && self.below(20) != 0 {
            let away = 1 + self.below(12);
            let middle = self.middle(symbol);
            gain.price = self.ticks(symbol, if side == Side::Sell { middle + away } else { middle - away });
        }
        if self.below(30) != 0 {
            gain.quantity = stop.quantity;
        }
        if let Some(special) = &mut stop.special {
            special.iceberg_quantity = special.iceberg_quantity.filter(|_| stop.time_in_force == TimeInForce::Gtc);
        }
        if (side == Side::Sell) != (self.below(40) == 0) { [gain, stop] } else { [stop, gain] }
    }

    // What is asked of orders that are there.

    fn cancel(&mut self) -> CancelOrder {
        let (uid, symbol, order) = self.reference();
        let restriction = match self.below(10) {
            0 => Some(CancelRestriction::OnlyNew),
            1 => Some(CancelRestriction::OnlyPartiallyFilled),
            _ => None,
        };
        CancelOrder { uid, symbol, order, cancel_client_order_id: name("cancel"), restriction }
    }

    fn cancel_list(&mut self) -> Command {
        let (mut uid, mut symbol, named) = self.list_name();
        let (mut order_list_id, mut list_client_order_id) = (None, Some(named));
        if self.below(2) == 0 && !self.lists_heard.is_empty() {
            let at = self.below(self.lists_heard.len() as u64) as usize;
            let heard = self.lists_heard[at];
            (uid, symbol) = (heard.0, heard.1);
            order_list_id = Some(heard.2);
            if self.below(10) != 0 {
                list_client_order_id = None;
            }
        }
        let cancel_client_order_id = (self.below(2) == 0).then(|| name("cancel-list"));
        Command::CancelOrderList(CancelOrderList {
            uid,
            symbol,
            order_list_id,
            list_client_order_id,
            cancel_client_order_id,
        })
    }

    fn cancel_replace(&mut self) -> Command {
        let cancel = self.cancel();
        let mut place = self.place_of(cancel.uid, cancel.symbol);
        if let (Some(same), 0) = (cancel.order.client_order_id, self.below(4)) {
            place.client_order_id = same;
        }
        if self.below(100) == 0 {
            place.uid = self.user();
        }
        Command::CancelReplace(Box::new(CancelReplace {
            cancel,
            place,
            allow_failure: self.below(2) == 0,
            cancel_when_limited: self.below(2) == 0,
        }))
    }

    fn amend(&mut self) -> Command {
        let (uid, symbol, order) = self.reference();
        let new_client_order_id = match (self.below(4), order.client_order_id) {
            (1.., Some(same)) => same,
            _ => match self.below(2) {
                0 => self.known_name().2,
                _ => self.new_name(uid, symbol),
            },
        };
        let new_quantity = self.quantity(symbol);
        Command::AmendOrder(AmendOrder { uid, symbol, order, new_quantity, new_client_order_id })
    }

    fn reduce(&mut self) -> Command {
        let (uid, symbol, order) = self.reference();
        let by = if self.below(4) == 0 { self.quantity(symbol) } else { self.lots(symbol, 1, 10) };
        Command::ReduceOrder { uid, symbol, order, by }
    }

    fn replace(&mut self) -> Command {
        let (uid, symbol, order) = self.reference();
        let side = if self.below(2) == 0 { Side::Buy } else { Side::Sell };
        let price = (self.below(5) != 0).then(|| self.price(symbol, side));
        let quantity = (self.below(3) != 0).then(|| self.quantity(symbol));
        Command::ReplaceOrder(ReplaceOrder { uid, symbol, order, price, quantity })
    }

    fn countdown(&mut self) -> Command {
        let milliseconds = match self.below(20) {
            0..5 => 0,
            5 => u64::MAX,
            _ => self.below(20_000),
        };
        Command::SetCountdown { uid: self.user(), symbol: self.symbol(), milliseconds }
    }

    // What operators ask.

    fn transfer(&mut self, kind: fn(Transfer) -> Command) -> Command {
        self.transfers += 1;
        // One in ten asks for an earlier transfer again, perhaps of another amount.
        let id = if self.below(10) == 0 { self.below(self.transfers) } else { self.transfers };
        let amount = match self.below(50) {
            0 => Amount(0),
            1 => Amount(u128::MAX),
            2..8 => Amount(u128::from(self.below(1_000_000_000))),
            _ => Amount(u128::from(self.below(10_000_000))),
        };
        let external_id = if self.below(100) == 0 { String::new() } else { format!("t{id}") };
        kind(Transfer {
            uid: if self.below(20) == 0 { Uid(0) } else { self.user() },
            asset: AssetId(self.below(u64::from(ASSETS) * 10 + 1) as u32 / 10),
            amount,
            external_id,
        })
    }

    fn end_withdrawal(&mut self) -> Command {
        let back = self.below(400).min(self.transfers);
        let external_id = format!("t{}", self.transfers - back);
        Command::EndWithdrawal { uid: self.user(), external_id, completed: self.below(2) == 0 }
    }

    fn status(&mut self) -> Command {
        let status = match self.below(120) {
            0 => SymbolStatus::Halt,
            1 => SymbolStatus::CancelOnly,
            2 => SymbolStatus::Break,
            3 => SymbolStatus::EndOfDay,
            _ => SymbolStatus::Trading,
        };
        Command::SetSymbolStatus { symbol: self.symbol(), status }
    }

    /// What operators change, ask twice or ask wrongly.
    fn operator(&mut self) -> Command {
        let again = self.below(self.setup_length()) as usize;
        match self.below(20) {
            0 => Command::AddAsset(AddAsset { name: String::new(), scale: 8 }),
            1 => Command::AddAsset(AddAsset { name: "DUST".to_owned(), scale: 19 }),
            2 => Command::AddSymbol(Box::new(SymbolConfig { base: AssetId(99), ..self.configs[0].clone() })),
            3 => Command::AddSymbol(Box::new(SymbolConfig {
                step_size: Amount(1),
                name: "FINE".to_owned(),
                ..self.configs[0].clone()
            })),
            4 => self.access(),
            5..8 => {
                let symbol = self.symbol();
                let price = self.price(symbol, Side::Buy);
                Command::SetReferencePrice { symbol, price: (self.below(3) == 0).then_some(price) }
            }
            8..11 => self.configure_symbol(),
            11 => Command::ConfigureExchange(self.exchange_limits()),
            12..16 => self.configure_account(),
            16 => Command::SetCommissionTier {
                tier: self.below(4) as u16,
                rates: rates([self.below(3_000_000), self.below(3_000_000), 0, self.below(2)].map(|rate| rate as u32)),
            },
            _ => setup().swap_remove(again),
        }
    }

    /// Keys and users: of accounts that are there and that are not, known and unknown, with rules that can be and not.
    fn access(&mut self) -> Command {
        let (number, uid) = (self.below(USERS + 2), Uid(self.below(USERS + 2)));
        let (key, user) = (format!("key-{number}"), format!("user-{}", number % 3));
        let prefix = self.below(140) as u8;
        let rules =
            KeyRules { is_enabled: self.below(2) == 0, allowed: vec![AddressRange { address: [7; 16], prefix }] };
        let access = match self.below(9) {
            0 => return Command::AddApiKey(api_key(uid, "")),
            1 => return Command::AddApiKey(api_key(uid, &key)),
            2 => Access::RemoveApiKey { api_key: key },
            3 => Access::ConfigureApiKey { api_key: key, permissions: vec![Permission::UserData], rules },
            4 | 5 => Access::SetUser(UserTerms {
                name: user,
                uid: (number > 0).then_some(uid),
                role: if prefix < 70 { Role::Operator } else { Role::Trader },
                password_hash: "hash".to_owned(),
                one_time_secret: (prefix < 20).then(|| vec![prefix; 600 / (1 + usize::from(prefix))]),
                is_enabled: true,
            }),
            6 => {
                let session = (prefix > 2).then(|| (self.below(90), Time(u64::MAX)));
                Access::EndSessions { name: user, session }
            }
            7 => Access::RemoveUser { name: user },
            _ => {
                let text = || "x".repeat(if prefix == 0 { 1_025 } else { 9 });
                Access::Note(Note { operator: text(), origin: text(), action: text(), reason: text() })
            }
        };
        Command::Access(Box::new(access))
    }

    fn configure_symbol(&mut self) -> Command {
        let symbol = SymbolId(self.below(u64::from(SYMBOLS)) as u32);
        let mut config = self.configs[symbol.0 as usize].clone();
        let (tick, step) = (config.tick_size.0, config.step_size.0);
        match self.below(24) {
            0 => config.max_num_orders = 8 + self.below(16) as u32,
            1 => config.max_num_algo_orders = 3 + self.below(8) as u32,
            2 => config.max_num_order_lists = 2 + self.below(5) as u32,
            3 => config.tick_size = Amount(0),
            4 => config.percent_price = None,
            5 => config.execution_range = None,
            6 => config.execution_range = Some(range(100_300_000, 99_700_000)),
            7 => config.min_quantity = Amount(u128::from(5 + self.below(10)) * step),
            8 => config.max_quantity = Amount(u128::from(20 + self.below(20)) * step),
            9 => config.max_price = Amount(u128::from(MIDDLE) * tick),
            10 => config.min_price = Amount(u128::from(MIDDLE) * tick),
            11 => config.allowed_self_trade_prevention = vec![config.default_self_trade_prevention],
            12 => config.iceberg_parts = 3,
            13 => config.max_position = Amount(0),
            14 => config.commission.discount = None,
            15 => config.apply_max_to_market = !config.apply_max_to_market,
            16 if config.commission.by_lot.is_none() => config.commission.standard = rates([0, 900_000_000, 0, 0]),
            _ => {}
        }
        Command::ConfigureSymbol { symbol, config: Box::new(config) }
    }

    fn exchange_limits(&mut self) -> ExchangeLimits {
        let mut limits = limits();
        limits.max_num_orders = 40 + self.below(20) as u32;
        limits.max_num_algo_orders = 15 + self.below(10) as u32;
        match self.below(6) {
            0 => limits.order_counts = Default::default(),
            1 => limits.order_counts[1] = OrderCountLimit::default(),
            2 => limits.order_counts[0].limit = 0,
            3 => limits.order_counts[0].seconds = 0,
            _ => {}
        }
        limits
    }

    fn configure_account(&mut self) -> Command {
        let uid = self.user();
        let mut settings = settings(uid);
        match self.below(30) {
            0 => settings.can_trade = false,
            1 => settings.can_withdraw = false,
            2 => settings.can_deposit = false,
            3..5 => settings.require_self_trade_prevention = true,
            5 => settings.discount = !settings.discount,
            6 => settings.trade_group = Some(TradeGroup(1)),
            7 => settings.commission_tier = self.below(4) as u16,
            _ => {}
        }
        Command::ConfigureAccount { uid, settings }
    }

    // The parts.

    /// Mostly an order that was placed not long ago.
    fn reference(&mut self) -> (Uid, SymbolId, OrderReference) {
        let (uid, symbol, named) = self.known_name();
        let guess = OrderId(1 + self.below(self.placed / u64::from(SYMBOLS) + 2));
        let by_id = |order_id| OrderReference { order_id: Some(order_id), client_order_id: None };
        let order = match self.below(20) {
            0 => OrderReference { order_id: None, client_order_id: None },
            1 => by_id(guess),
            2 => OrderReference { order_id: Some(guess), client_order_id: Some(named) },
            3..10 if !self.heard.is_empty() => {
                let at = self.below(self.heard.len() as u64) as usize;
                let (uid, symbol, order_id) = self.heard[at];
                let named = (self.below(20) == 0).then_some(named);
                return (uid, symbol, OrderReference { order_id: Some(order_id), client_order_id: named });
            }
            _ => OrderReference { order_id: None, client_order_id: Some(named) },
        };
        (uid, symbol, order)
    }

    /// A name for a new order; now and then one that may still be taken.
    fn new_name(&mut self, uid: Uid, symbol: SymbolId) -> ClientOrderId {
        self.placed += 1;
        let made = match self.below(40) {
            0 => self.known_name().2,
            _ => name(&format!("o{}", self.placed)),
        };
        remember(&mut self.named, (uid, symbol, made), &mut self.random);
        made
    }

    fn known_name(&mut self) -> (Uid, SymbolId, ClientOrderId) {
        match self.named.len() as u64 {
            0 => (self.user(), self.symbol(), name("none")),
            count => {
                let at = self.below(count) as usize;
                self.named[at]
            }
        }
    }

    fn list_name(&mut self) -> (Uid, SymbolId, ClientOrderId) {
        match self.lists_named.len() as u64 {
            0 => (self.user(), self.symbol(), name("none")),
            count => {
                let at = self.below(count) as usize;
                self.lists_named[at]
            }
        }
    }

    /// One in a thousand is nobody, or the fee account.
    fn user(&mut self) -> Uid {
        match self.below(1_000) {
            0 => Uid(0),
            1 => Uid(USERS + 1),
            // Mostly two, who meet themselves and each other.
            2..800 if self.mood == 6 => Uid(USERS - self.below(2)),
            _ => Uid(1 + self.below(USERS)),
        }
    }

    fn symbol(&mut self) -> SymbolId {
        match self.below(1_000) {
            0 => SymbolId(SYMBOLS),
            2..800 if self.mood == 7 => SymbolId(1),
            _ => SymbolId(self.below(u64::from(SYMBOLS)) as u32),
        }
    }

    fn prevention(&mut self) -> Option<SelfTradePrevention> {
        Some(match self.below(12) {
            0 => SelfTradePrevention::None,
            1 => SelfTradePrevention::ExpireTaker,
            2 => SelfTradePrevention::ExpireMaker,
            3 => SelfTradePrevention::ExpireBoth,
            4 => SelfTradePrevention::Decrement,
            5..8 => SelfTradePrevention::Transfer,
            _ => return None,
        })
    }

    /// Where the symbol trades; it moves a little now and then.
    fn middle(&mut self, symbol: SymbolId) -> u64 {
        let step = self.below(40);
        let Some(middle) = self.middles.get_mut(symbol.0 as usize) else { return MIDDLE };
        match step {
            0 if *middle < MIDDLE + 60 => *middle += 1,
            1 if *middle > MIDDLE - 60 => *middle -= 1,
            _ => {}
        }
        *middle
    }

    /// Around the middle, so that both sides rest and meet; at times off the tick or out of range.
    fn price(&mut self, symbol: SymbolId, side: Side) -> Amount {
        let tick = self.configs.get(symbol.0 as usize).map_or(1, |config| config.tick_size.0);
        let away = self.below(16);
        let middle = self.middle(symbol);
        let ticks = if side == Side::Buy { middle + 4 - away } else { middle - 4 + away };
        match self.below(400) {
            0 => Amount(0),
            1 => Amount(u128::from(ticks) * tick + 1),
            2 => Amount(u128::MAX / tick * tick),
            3 => Amount(u128::from(u64::MAX) * tick),
            4..8 => Amount(u128::from(ticks / 2 + self.below(ticks)) * tick),
            _ => Amount(u128::from(ticks) * tick),
        }
    }

    fn ticks(&self, symbol: SymbolId, ticks: u64) -> Amount {
        let tick = self.configs.get(symbol.0 as usize).map_or(1, |config| config.tick_size.0);
        Amount(u128::from(ticks) * tick)
    }

    fn quantity(&mut self, symbol: SymbolId) -> Amount {
        let step = self.configs.get(symbol.0 as usize).map_or(1, |config| config.step_size.0);
        let steps = u128::from(1 + self.below(50));
        match self.below(500) {
            0 => Amount(0),
            1 => Amount(steps * step + 1),
            2 => Amount(u128::MAX / step * step),
            3 => Amount(u128::from(u64::MAX) * step),
            4 => Amount(100_000 * step),
            5 => Amount(u128::from(u64::MAX / 1_000) * step),
            6..10 => Amount((steps * 20) * step),
            _ => Amount(steps * step),
        }
    }

    fn lots(&mut self, symbol: SymbolId, from: u64, to: u64) -> Amount {
        let step = self.configs.get(symbol.0 as usize).map_or(1, |config| config.step_size.0);
        Amount(u128::from(from + self.below(to - from)) * step)
    }

    fn quote(&mut self, symbol: SymbolId) -> Amount {
        let (price, quantity) = (self.price(symbol, Side::Buy), self.quantity(symbol));
        let base_scale = if symbol == SymbolId(2) { 0 } else { 8 };
        let worth = price.0.saturating_mul(quantity.0) / 10u128.pow(base_scale);
        Amount(worth.saturating_add(u128::from(self.below(3))))
    }

    fn setup_length(&self) -> u64 {
        // Assets, symbols, limits, a tier, and what each user begins with.
        u64::from(ASSETS) + u64::from(SYMBOLS) + 2 + USERS * (3 + u64::from(ASSETS))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random.random_range(0..end)
    }
}

impl Iterator for OrderFlow {
    type Item = (Time, Command);

    fn next(&mut self) -> Option<(Time, Command)> {
        let Some(command) = self.setup.next() else {
            // Mostly milliseconds, now and then a pause.
            self.time.0 += match self.below(200) {
                0 if self.below(20) == 0 => self.below(2 * engine::once::WINDOW),
                0 => self.below(8_000_000),
                1..10 => 0,
                _ => self.below(20_000),
            };
            return Some((self.time, self.command()));
        };
        Some((self.time, command))
    }
}

/// Put one more into a list of a limited length, in the place of another when it is full.
fn remember<T>(known: &mut Vec<T>, one: T, random: &mut StdRng) {
    if known.len() == REMEMBERED {
        let forgotten = random.random_range(0..REMEMBERED);
        known.swap_remove(forgotten);
    }
    known.push(one);
}

fn setup() -> Vec<Command> {
    let mut commands: Vec<Command> = [("BTC", 8), ("USDT", 8), ("LOT", 0), ("BNB", 8)]
        .map(|(name, scale)| Command::AddAsset(AddAsset { name: name.to_owned(), scale }))
        .into();
    commands.extend(symbols().into_iter().map(|config| Command::AddSymbol(Box::new(config))));
    commands.push(Command::ConfigureExchange(limits()));
    commands.push(Command::SetCommissionTier { tier: 1, rates: rates([500_000, 700_000, 0, 100_000]) });
    for uid in (1..=USERS).map(Uid) {
        commands.push(Command::OpenAccount { uid });
        commands.push(Command::ConfigureAccount { uid, settings: settings(uid) });
        commands.push(Command::AddApiKey(api_key(uid, &format!("key-{uid}"))));
        for asset in (0..ASSETS).map(AssetId) {
            // The first users are rich, the last are soon out of funds; the last of all has hardly anything to pay its
            // commission with.
            let is_poor = uid.0 == USERS && asset == AssetId(3);
            let amount = Amount(if is_poor { 20_000_000 } else { 10u128.pow(15 - uid.0 as u32) });
            commands.push(Command::Deposit(Transfer { uid, asset, amount, external_id: format!("first-{asset}") }));
        }
    }
    commands
}

/// Three symbols that share assets: with all filters, with few, and of a base that has no decimals, with fees by lot.
fn symbols() -> Vec<SymbolConfig> {
    let plain = SymbolConfig::plain("", AssetId(0), AssetId(1), Amount(1_000_000), Amount(100_000));
    let discount = |rate| Some(Discount { asset: AssetId(3), rate: fee(rate) });
    vec![
        SymbolConfig {
            name: "BTCUSDT".to_owned(),
            min_price: Amount(900_000_000),
            max_price: Amount(1_100_000_000),
            min_quantity: Amount(300_000),
            max_quantity: Amount(5_000_000),
            market_min_quantity: Amount(400_000),
            market_max_quantity: Amount(4_000_000),
            min_notional: Amount(5_000_000),
            apply_min_to_market: true,
            max_notional: Amount(45_000_000),
            apply_max_to_market: true,
            average_price_minutes: 1,
            percent_price: Some(range(102_000_000, 97_000_000)),
            execution_range: Some(range(101_000_000, 99_000_000)),
            iceberg_parts: 10,
            trailing_delta: Some(TrailingDeltaFilter { min_above: 20, max_above: 200, min_below: 10, max_below: 300 }),
            max_num_orders: 18,
            max_num_algo_orders: 8,
            max_num_iceberg_orders: 2,
            max_num_order_amends: 2,
            max_num_order_lists: 3,
            max_position: Amount(10u128.pow(14) + 150_000_000),
            default_self_trade_prevention: SelfTradePrevention::ExpireMaker,
            allowed_self_trade_prevention: vec![
                SelfTradePrevention::None,
                SelfTradePrevention::ExpireTaker,
                SelfTradePrevention::ExpireMaker,
                SelfTradePrevention::Decrement,
                SelfTradePrevention::Transfer,
            ],
            commission: Commission {
                standard: rates([1_000_000, 1_500_001, 7, 333]),
                special: rates([0, 20_000, 1, 0]),
                tax: rates([1_120, 1_140, 1_180, 1_160]),
                rounding: FeeRounding::HalfUp,
                discount: discount(750_000_000),
                by_lot: None,
            },
            ..plain.clone()
        },
        SymbolConfig {
            name: "BNBUSDT".to_owned(),
            base: AssetId(3),
            execution_range: Some(range(101_500_000, 0)),
            commission: Commission {
                standard: rates([333_333_333, FeeRate::MAX, 0, 5]),
                rounding: FeeRounding::Up,
                discount: discount(250_000_000),
                ..Commission::default()
            },
            circuit_breaker: Some(CircuitBreaker { trip: Multiplier(3_500_000), window_seconds: 5, halt_seconds: 3 }),
            ..plain.clone()
        },
        SymbolConfig {
            name: "LOTUSDT".to_owned(),
            base: AssetId(2),
            tick_size: Amount(7),
            step_size: Amount(1),
            max_num_orders: 60,
            average_price_minutes: 2,
            default_self_trade_prevention: SelfTradePrevention::Decrement,
            commission: Commission {
                by_lot: Some(LotFee { maker: Amount(3), taker: Amount(11) }),
                ..Commission::default()
            },
            circuit_breaker: Some(CircuitBreaker { trip: Multiplier(8_000_000), window_seconds: 20, halt_seconds: 0 }),
            ..plain
        },
    ]
}

fn limits() -> ExchangeLimits {
    ExchangeLimits {
        max_num_orders: 60,
        max_num_algo_orders: 24,
        max_num_iceberg_orders: 5,
        max_num_order_lists: 6,
        order_counts: [OrderCountLimit { seconds: 10, limit: 50 }, OrderCountLimit { seconds: 60, limit: 150 }],
        taker_fill_decrement: 1,
        maker_fill_decrement: 3,
    }
}

/// Two pairs of users are of a group, and there is one of every sort of account.
fn settings(uid: Uid) -> AccountSettings {
    AccountSettings {
        trade_group: match uid.0 {
            1 | 2 => Some(TradeGroup(1)),
            3 | 4 => Some(TradeGroup(2)),
            _ => None,
        },
        commission_tier: u16::from(uid.0 == 2),
        discount: uid.0 % 2 == 1,
        ..AccountSettings::default()
    }
}

fn range(up: u64, down: u64) -> PriceRange {
    let (up, down) = (Multiplier(up), Multiplier(down));
    PriceRange { bid_up: up, bid_down: down, ask_up: up, ask_down: down }
}

fn rates([maker, taker, buyer, seller]: [u32; 4]) -> CommissionRates {
    CommissionRates { maker: fee(maker), taker: fee(taker), buyer: fee(buyer), seller: fee(seller) }
}

fn fee(billionths: u32) -> FeeRate {
    FeeRate::from_billionths(billionths).expect("at most all of it")
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
