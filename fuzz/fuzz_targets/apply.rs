//! Arbitrary bytes as commands; see ../README.md.
#![no_main]

use std::collections::BTreeMap;

use engine::command::*;
use engine::commission::{Commission, CommissionRates, Discount, FeeRate, FeeRounding, LotFee};
use engine::order::*;
use engine::symbol::*;
use engine::units::{Multiplier, OrderListId, TradeGroup};
use engine::{Amount, AssetId, Command, Engine, Event, OrderId, Price, Quantity, Snapshot, SymbolId, Time, Uid};
use libfuzzer_sys::fuzz_target;

/// Users 1 to 4 have accounts; 0 and 5 have none at first.
const USERS: u64 = 6;
/// BASE/QUOTE, COIN/QUOTE and COIN/BASE: two that share a quote asset, and one between their bases.
const SYMBOLS: u32 = 3;
const ASSETS: u32 = 3;
/// Prices lie around it, in ticks.
const MIDDLE: u64 = 100;
/// Between two times that the engine counts itself anew, in commands.
const VALIDATE_EVERY: usize = 16;

fuzz_target!(|bytes: &[u8]| {
    run(&mut Bytes(bytes));
});

fn run(bytes: &mut Bytes) {
    let trace = std::env::var_os("FUZZ_TRACE").is_some();
    let mut engine = Engine::new();
    let mut twin: Option<Engine> = None;
    let mut outsider = Outsider::default();
    let mut time = Time(1_700_000_000_000_000);
    let mut events = Vec::new();
    let mut same_events = Vec::new();
    let twin_at = usize::from(bytes.next()) / 2;

    let mut commands: std::collections::VecDeque<Command> = prepare(bytes).into();
    for index in 0.. {
        let command = match commands.pop_front() {
            Some(command) => command,
            None if bytes.0.is_empty() => break,
            None => {
                time.0 += bytes.step();
                bytes.command(&outsider)
            }
        };
        if trace {
            println!("{} {command:?}", time.0);
        }
        events.clear();
        engine.apply(time, &command, &mut events);
        if trace {
            events.iter().for_each(|event| println!("    {event:?}"));
        }
        outsider.watch(&events);
        if let Some(twin) = &mut twin {
            same_events.clear();
            twin.apply(time, &command, &mut same_events);
            assert_eq!(events, same_events, "a restored engine says the same");
        }
        if index % VALIDATE_EVERY == 0 {
            engine.validate();
            outsider.compare_levels();
        }
        if index == twin_at {
            twin = Some(restored(&engine));
        }
    }
    engine.validate();
    let hash = engine.state_hash();
    assert_eq!(restored(&engine).state_hash(), hash, "a snapshot holds the whole state");
    if let Some(twin) = twin {
        assert_eq!(twin.state_hash(), hash, "a restored engine comes to the same state");
    }
}

fn restored(engine: &Engine) -> Engine {
    let bytes = engine.snapshot().encode();
    Engine::from_snapshot(Snapshot::decode(&bytes).expect("what was written can be read"))
}

/// What anyone can hold against the events.
#[derive(Default)]
struct Outsider {
    balances: BTreeMap<(Uid, AssetId), u128>,
    supply: BTreeMap<AssetId, u128>,
    symbols: BTreeMap<SymbolId, Counters>,
    orders: BTreeMap<(SymbolId, OrderId), Order>,
    last_price: BTreeMap<SymbolId, Price>,
}

#[derive(Default)]
struct Counters {
    order: u64,
    trade: u64,
    aggregate: u64,
    update: u64,
    prevented: u64,
    list: u64,
    levels: [BTreeMap<Price, Quantity>; 2],
}

impl Outsider {
    fn watch(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Rejected(_) => assert_eq!(events.len(), 1, "a refused command says nothing else"),
                Event::Deposited(transfer) => *self.supply.entry(transfer.asset).or_default() += transfer.amount.0,
                Event::Withdrawn(transfer) => *self.supply.entry(transfer.asset).or_default() -= transfer.amount.0,
                Event::BalanceChanged { uid, asset, free, locked } => {
                    self.balances.insert((*uid, *asset), free.0 + locked.0);
                }
                Event::OrderAccepted(order) => {
                    let counters = self.symbols.entry(order.symbol).or_default();
                    next(&mut counters.order, order.order_id.0);
                    assert!(order.status.is_open() && order.executed.is_zero());
                    self.orders.insert((order.symbol, order.order_id), order.clone());
                }
                Event::OrderTriggered(order) => {
                    assert!(order.status.is_open() && order.executed.is_zero());
                    let known = self.orders.get_mut(&(order.symbol, order.order_id));
                    *known.expect("a triggered order was accepted") = order.clone();
                }
                Event::Trade(trade) => {
                    let counters = self.symbols.entry(trade.symbol).or_default();
                    next(&mut counters.trade, trade.trade_id.0);
                    assert!((counters.aggregate..=counters.aggregate + 1).contains(&trade.aggregate_id));
                    counters.aggregate = trade.aggregate_id;
                    assert!(!trade.quantity.is_zero());
                    self.last_price.insert(trade.symbol, trade.price);
                    for (fill, side) in [(&trade.maker, trade.taker_side.opposite()), (&trade.taker, trade.taker_side)]
                    {
                        let order = self.orders.get_mut(&(trade.symbol, fill.order_id)).expect("it was accepted");
                        assert!(order.status.is_open(), "a closed order does not trade");
                        assert_eq!((order.side, order.uid), (side, fill.uid));
                        let worse = match side {
                            Side::Buy => trade.price > order.price,
                            Side::Sell => trade.price < order.price,
                        };
                        assert!(order.order_type.is_market() || !worse, "a limit trades through its own price");
                        assert_eq!(order.executed.0 + trade.quantity.0, fill.executed.0);
                        assert_eq!(order.cumulative_quote.0 + trade.quote_amount.0, fill.cumulative_quote.0);
                        order.executed = fill.executed;
                        order.cumulative_quote = fill.cumulative_quote;
                        order.status = fill.status;
                    }
                }
                Event::TradePrevented(prevented) => {
                    let counters = self.symbols.entry(prevented.symbol).or_default();
                    next(&mut counters.prevented, prevented.prevented_match_id.0);
                    for (order, quantity) in [
                        (prevented.taker_order_id, prevented.taker_prevented),
                        (prevented.maker_order_id, prevented.maker_prevented),
                    ] {
                        let order = self.orders.get_mut(&(prevented.symbol, order)).expect("it was accepted");
                        order.special_mut().prevented.0 += quantity.0;
                    }
                }
                Event::OrderCanceled { order, .. } | Event::OrderExpired { order, .. } => {
                    assert!(!order.status.is_open());
                    let known = self.orders.get_mut(&(order.symbol, order.order_id)).expect("it was accepted");
                    assert!(known.status.is_open(), "an order ends once");
                    assert_eq!(known.executed, order.executed);
                    *known = order.clone();
                }
                Event::OrderAmended { order, .. } => {
                    assert!(order.status.is_open());
                    self.orders.insert((order.symbol, order.order_id), order.clone());
                }
                Event::OrderReplaced { symbol, order_id, price, quantity, .. } => {
                    let order = self.orders.get_mut(&(*symbol, *order_id)).expect("it was accepted");
                    assert!(order.status.is_open());
                    (order.price, order.quantity) = (*price, *quantity);
                }
                Event::OrderListChanged(list) => {
                    let counters = self.symbols.entry(list.symbol).or_default();
                    if list.status == engine::event::OrderListStatus::ExecutionStarted {
                        next(&mut counters.list, list.order_list_id.0);
                    }
                    assert!(list.order_list_id.0 <= counters.list);
                    if list.status == engine::event::OrderListStatus::AllDone {
                        for (order, _) in &list.orders {
                            assert!(!self.orders[&(list.symbol, *order)].status.is_open(), "all of it is done");
                        }
                    }
                }
                Event::LevelChanged { symbol, side, price, quantity, update_id } => {
                    let counters = self.symbols.entry(*symbol).or_default();
                    next(&mut counters.update, *update_id);
                    let levels = &mut counters.levels[(*side == Side::Sell) as usize];
                    if quantity.is_zero() {
                        levels.remove(price)
                    } else {
                        levels.insert(*price, *quantity)
                    };
                }
                _ => {}
            }
        }
        for counters in self.symbols.values() {
            let [bids, asks] = &counters.levels;
            if let (Some((bid, _)), Some((ask, _))) = (bids.last_key_value(), asks.first_key_value()) {
                assert!(bid < ask, "the book is crossed: {bid} and {ask}");
            }
        }
        for (asset, supply) in &self.supply {
            let held = self.balances.iter().filter(|((_, of), _)| of == asset).map(|(_, held)| held);
            assert_eq!(held.sum::<u128>(), *supply, "all of asset {asset} is on some account");
        }
    }

    /// Every level is the sum of what rests there; where an iceberg rests, at most that.
    fn compare_levels(&self) {
        let mut sums = BTreeMap::<(SymbolId, Side, Price), (u64, bool)>::new();
        for order in self.orders.values().filter(|order| order.status.is_open() && order.working_at().is_some()) {
            let (sum, hides) = sums.entry((order.symbol, order.side, order.price)).or_default();
            *sum += order.open_quantity().0;
            *hides |= order.special.as_ref().is_some_and(|special| special.iceberg_quantity.is_some());
        }
        let mut levels = 0;
        for (symbol, counters) in &self.symbols {
            for (side, shown) in [Side::Buy, Side::Sell].into_iter().zip(&counters.levels) {
                levels += shown.len();
                for (price, quantity) in shown {
                    let (sum, hides) = sums.get(&(*symbol, side, *price)).copied().unwrap_or_default();
                    assert!(quantity.0 == sum || hides && quantity.0 < sum, "{side:?} {price}: {quantity} of {sum}");
                }
            }
        }
        assert_eq!(levels, sums.len(), "every order that rests is on a level");
    }
}

fn next(last: &mut u64, number: u64) {
    *last += 1;
    assert_eq!(*last, number, "numbers have no holes");
}

/// The assets, symbols and accounts; what the first bytes say holds for them.
fn prepare(bytes: &mut Bytes) -> Vec<Command> {
    let mut commands = Vec::new();
    for (name, scale) in [("QUOTE", 2), ("BASE", 1), ("COIN", 0)] {
        commands.push(Command::AddAsset(AddAsset { name: name.to_owned(), scale }));
    }
    for symbol in 0..SYMBOLS {
        commands.push(Command::AddSymbol(Box::new(bytes.symbol(symbol))));
    }
    if bytes.one_in(2) {
        commands.push(Command::ConfigureExchange(bytes.limits()));
    }
    for uid in 1..USERS - 1 {
        commands.push(Command::OpenAccount { uid: Uid(uid) });
        for asset in 0..ASSETS {
            let amount = Amount(if bytes.one_in(8) { 500 } else { 1 << 70 });
            let external_id = format!("first-{asset}");
            commands.push(Command::Deposit(Transfer { uid: Uid(uid), asset: AssetId(asset), amount, external_id }));
        }
    }
    commands
}

/// What is left of the input; zeros follow its end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let (&first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        first
    }

    fn below(&mut self, bound: u8) -> u8 {
        self.next() % bound
    }

    fn one_in(&mut self, count: u8) -> bool {
        self.next() % count == count - 1
    }

    fn wide(&mut self) -> u64 {
        let shift = self.below(64);
        let low = u64::from(self.next()) << 8 | u64::from(self.next());
        low.rotate_left(u32::from(shift))
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.next()) % from.len()]
    }

    fn maybe<T>(&mut self, in_count: u8, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.one_in(in_count).then(|| make(self))
    }

    /// Microseconds until the next command.
    fn step(&mut self) -> u64 {
        match self.below(8) {
            0..=4 => 0,
            5 => 1_000,
            6 => 1_000_000,
            _ => u64::from(self.next()) * 1_000_000,
        }
    }

    fn uid(&mut self) -> Uid {
        Uid(match self.below(16) {
            15 => u64::from(self.next()) % USERS,
            other => u64::from(other) % (USERS - 2) + 1,
        })
    }

    fn symbol_id(&mut self) -> SymbolId {
        SymbolId(match self.below(16) {
            0..=9 => 0,
            10..=12 => 1,
            13..=14 => 2,
            _ => u32::from(self.next()),
        })
    }

    fn asset(&mut self) -> AssetId {
        AssetId(u32::from(self.below(ASSETS as u8 + 1)))
    }

    fn side(&mut self) -> Side {
        if self.next() & 1 == 0 { Side::Buy } else { Side::Sell }
    }

    fn name(&mut self) -> ClientOrderId {
        ClientOrderId::new(&format!("n{}", self.next() % 48)).expect("it is legal")
    }

    /// Mostly whole ticks around the middle.
    fn price(&mut self, symbol: SymbolId) -> Amount {
        let tick = tick_of(symbol).0;
        match self.below(16) {
            0..=12 => Amount((MIDDLE - 8 + u64::from(self.below(17))) as u128 * tick),
            13 => Amount(u128::from(self.next()) * tick),
            14 => Amount(u128::from(self.wide()) * tick),
            _ => Amount(u128::from(self.wide())),
        }
    }

    fn quantity(&mut self, symbol: SymbolId) -> Amount {
        let step = step_of(symbol).0;
        match self.below(16) {
            0..=12 => Amount((1 + u128::from(self.below(24))) * step),
            13 => Amount(u128::from(self.next())),
            14 => Amount(u128::from(self.wide()) * step),
            _ => Amount(u128::from(self.wide())),
        }
    }

    fn amount(&mut self) -> Amount {
        match self.below(4) {
            0 => Amount(u128::from(self.wide())),
            1 => Amount(u128::from(self.wide()) << 64),
            _ => Amount(u128::from(self.next()) * 100),
        }
    }

    fn prevention(&mut self) -> SelfTradePrevention {
        self.pick(&[
            SelfTradePrevention::None,
            SelfTradePrevention::ExpireTaker,
            SelfTradePrevention::ExpireMaker,
            SelfTradePrevention::ExpireBoth,
            SelfTradePrevention::Decrement,
            SelfTradePrevention::Transfer,
        ])
    }

    fn rates(&mut self) -> CommissionRates {
        let rate = |bytes: &mut Self| {
            let billionths = match bytes.below(4) {
                0 => 0,
                1 => 1_000_000,
                2 => u32::from(bytes.next()) * 1_000_000,
                _ => (bytes.wide() % (u64::from(FeeRate::MAX) + 1)) as u32,
            };
            FeeRate::from_billionths(billionths).expect("it is in range")
        };
        CommissionRates { maker: rate(self), taker: rate(self), buyer: rate(self), seller: rate(self) }
    }

    fn range(&mut self) -> PriceRange {
        let multiplier = |bytes: &mut Self, around: u64| match bytes.below(4) {
            0 => Multiplier(0),
            1 => Multiplier(bytes.wide()),
            _ => Multiplier((around + u64::from(bytes.below(10))) * 1_000_000),
        };
        PriceRange {
            bid_up: multiplier(self, 100),
            bid_down: multiplier(self, 90),
            ask_up: multiplier(self, 100),
            ask_down: multiplier(self, 90),
        }
    }

    /// A symbol with whatever rules the bytes say.
    fn symbol(&mut self, number: u32) -> SymbolConfig {
        let id = SymbolId(number);
        let (name, base, quote) = match number {
            0 => ("BASEQUOTE", 1, 0),
            1 => ("COINQUOTE", 2, 0),
            _ => ("COINBASE", 2, 1),
        };
        let mut config = SymbolConfig::plain(name, AssetId(base), AssetId(quote), tick_of(id), step_of(id));
        let by_lot = number == 1;
        if by_lot {
            let (maker, more) = (u128::from(self.below(4)), u128::from(self.below(4)));
            let fee = LotFee { maker: Amount(maker), taker: Amount(maker + more) };
            config.commission = Commission { by_lot: Some(fee), ..Commission::default() };
        } else {
            config.commission.standard = self.rates();
            if self.one_in(4) {
                config.commission.special = self.rates();
                config.commission.tax = self.rates();
            }
            config.commission.rounding = self.pick(&[FeeRounding::HalfUp, FeeRounding::Down, FeeRounding::Up]);
            let asset = AssetId(u32::from(self.below(ASSETS as u8)));
            config.commission.discount =
                self.maybe(2, |bytes| bytes.rates().maker).map(|rate| Discount { asset, rate });
        }
        config.average_price_minutes = if self.one_in(2) { u32::from(self.below(7)) } else { 0 };
        config.percent_price = self.maybe(4, Bytes::range);
        config.execution_range = self.maybe(4, Bytes::range);
        if self.one_in(4) {
            let (tick, step) = (config.tick_size.0, config.step_size.0);
            config.min_price = Amount(u128::from(self.next()) * tick);
            config.max_price = Amount(u128::from(self.next()) * tick * 8);
            config.min_quantity = Amount(u128::from(self.below(4)) * step);
            config.max_quantity = Amount(u128::from(self.next()) * step);
            config.market_min_quantity = Amount(u128::from(self.below(4)) * step);
            config.market_max_quantity = Amount(u128::from(self.next()) * step);
            config.min_notional = Amount(u128::from(self.next()));
            config.max_notional = Amount(u128::from(self.next()) * 1_000);
            config.apply_min_to_market = self.one_in(2);
            config.apply_max_to_market = self.one_in(2);
        }
        if self.one_in(4) {
            config.iceberg_parts = u32::from(self.below(12));
            config.max_num_orders = u32::from(self.below(12));
            config.max_num_algo_orders = u32::from(self.below(6));
            config.max_num_iceberg_orders = u32::from(self.below(6));
            config.max_num_order_amends = u32::from(self.below(4));
            config.max_num_order_lists = u32::from(self.below(4));
            config.max_position = self.amount();
            config.trailing_delta = self.maybe(2, |bytes| TrailingDeltaFilter {
                min_above: u32::from(bytes.next()),
                max_above: u32::from(bytes.next()) * 20,
                min_below: u32::from(bytes.next()),
                max_below: u32::from(bytes.next()) * 20,
            });
        }
        config.default_self_trade_prevention = self.prevention();
        config.circuit_breaker = self.maybe(4, |bytes| CircuitBreaker {
            trip: Multiplier(u64::from(bytes.next()) * 1_000_000),
            window_seconds: u32::from(bytes.next()),
            halt_seconds: u32::from(bytes.below(60)),
        });
        // What is out of order would only keep the symbol from being listed.
        for (min, max) in [
            (config.min_price, &mut config.max_price),
            (config.min_quantity, &mut config.max_quantity),
            (config.market_min_quantity, &mut config.market_max_quantity),
            (config.min_notional, &mut config.max_notional),
        ] {
            if !max.is_zero() && *max < min {
                *max = min;
            }
        }
        config
    }

    fn limits(&mut self) -> ExchangeLimits {
        let limit = |bytes: &mut Self| OrderCountLimit {
            seconds: u32::from(bytes.below(120)),
            limit: u32::from(bytes.below(60)),
        };
        ExchangeLimits {
            max_num_orders: u32::from(self.below(24)),
            max_num_algo_orders: u32::from(self.below(12)),
            max_num_iceberg_orders: u32::from(self.below(12)),
            max_num_order_lists: u32::from(self.below(8)),
            order_counts: [limit(self), limit(self)],
            taker_fill_decrement: u32::from(self.below(4)),
            maker_fill_decrement: u32::from(self.below(4)),
        }
    }

    fn settings(&mut self) -> AccountSettings {
        let settings = self.next();
        AccountSettings {
            can_trade: settings & 15 != 15,
            can_withdraw: settings & 16 == 0,
            can_deposit: settings & 32 == 0,
            trade_group: self.maybe(2, |bytes| TradeGroup(u32::from(bytes.below(2)))),
            require_self_trade_prevention: settings & 192 == 192,
            commission_tier: u16::from(self.below(3)),
            discount: settings & 64 != 0,
        }
    }

    fn transfer(&mut self) -> Transfer {
        Transfer {
            uid: self.uid(),
            asset: self.asset(),
            amount: self.amount(),
            external_id: format!("t{}", self.next() % 16),
        }
    }

    fn order_id(&mut self, outsider: &Outsider, symbol: SymbolId) -> OrderId {
        let last = outsider.symbols.get(&symbol).map_or(0, |counters| counters.order);
        // Young orders are more often open.
        OrderId((last + 1).saturating_sub(u64::from(self.next())))
    }

    /// An order, mostly of the one who asks.
    fn reference(&mut self, outsider: &Outsider, symbol: SymbolId) -> (Uid, OrderReference) {
        let order_id = self.order_id(outsider, symbol);
        let owner = outsider.orders.get(&(symbol, order_id));
        match (self.below(16), owner) {
            (0..=11, Some(order)) => (order.uid, OrderReference { order_id: Some(order_id), client_order_id: None }),
            (12..=13, Some(order)) => {
                (order.uid, OrderReference { order_id: None, client_order_id: Some(order.client_order_id) })
            }
            (14, _) => (self.uid(), OrderReference { order_id: Some(order_id), client_order_id: Some(self.name()) }),
            _ => (self.uid(), OrderReference { order_id: None, client_order_id: Some(self.name()) }),
        }
    }

    fn cancel(&mut self, outsider: &Outsider) -> CancelOrder {
        let symbol = self.symbol_id();
        let (uid, order) = self.reference(outsider, symbol);
        CancelOrder {
            uid,
            symbol,
            order,
            cancel_client_order_id: self.name(),
            restriction: self
                .maybe(8, |bytes| bytes.pick(&[CancelRestriction::OnlyNew, CancelRestriction::OnlyPartiallyFilled])),
        }
    }

    /// An order that mostly fits together.
    fn order(&mut self, uid: Uid, symbol: SymbolId) -> PlaceOrder {
        let order_type = match self.below(16) {
            0..=7 => OrderType::Limit,
            8..=9 => OrderType::Market,
            10 => OrderType::LimitMaker,
            11 => OrderType::StopLoss,
            12 => OrderType::StopLossLimit,
            13 => OrderType::TakeProfit,
            14 => OrderType::TakeProfitLimit,
            _ => OrderType::Limit,
        };
        self.order_of(uid, symbol, order_type)
    }

    fn order_of(&mut self, uid: Uid, symbol: SymbolId, order_type: OrderType) -> PlaceOrder {
        let terms = self.next();
        let limit_kind = matches!(order_type, OrderType::Limit | OrderType::StopLossLimit | OrderType::TakeProfitLimit);
        let mut special = SpecialTerms::default();
        if order_type.is_stop() {
            if terms & 3 != 3 {
                special.stop_price = Some(self.price(symbol));
            }
            if terms & 3 >= 2 {
                special.trailing_delta = Some(u32::from(self.next()) * 10);
            }
        }
        let mut price = if order_type.is_market() { Amount::ZERO } else { self.price(symbol) };
        let mut time_in_force =
            self.pick(&[TimeInForce::Gtc, TimeInForce::Gtc, TimeInForce::Gtc, TimeInForce::Ioc, TimeInForce::Fok]);
        if !order_type.is_market() && terms & 28 == 28 {
            special.iceberg_quantity = Some(self.quantity(symbol));
            time_in_force = TimeInForce::Gtc;
        }
        if !order_type.is_market() && terms & 224 == 224 {
            let price_of =
                if limit_kind { self.pick(&[PegPrice::Primary, PegPrice::Market]) } else { PegPrice::Primary };
            special.peg = Some(Peg { price: price_of, offset: self.below(4) });
            if self.one_in(2) {
                price = Amount::ZERO;
            }
        }
        if self.one_in(16) {
            special.strategy_id = Some(i64::from(self.next()));
            special.strategy_type = Some(1_000_000 + i32::from(self.next()));
        }
        if self.one_in(64) {
            special.stop_price = Some(self.price(symbol));
        }
        let quantity = match order_type {
            OrderType::Market if terms & 1 == 1 => OrderQuantity::Quote(self.amount()),
            _ => OrderQuantity::Base(self.quantity(symbol)),
        };
        PlaceOrder {
            uid,
            symbol,
            client_order_id: self.name(),
            side: self.side(),
            order_type,
            time_in_force,
            price,
            quantity,
            self_trade_prevention: self.maybe(2, Bytes::prevention),
            special: (special != SpecialTerms::default()).then(|| Box::new(special)),
        }
    }

    /// A pair of which one ends the other, mostly as it has to be.
    fn pair(&mut self, uid: Uid, symbol: SymbolId, middle: u64) -> [PlaceOrder; 2] {
        let side = self.side();
        let maker = self.pick(&[OrderType::LimitMaker, OrderType::TakeProfit, OrderType::TakeProfitLimit]);
        let stop = self.pick(&[OrderType::StopLoss, OrderType::StopLossLimit]);
        let kinds = if side == Side::Sell { [maker, stop] } else { [stop, maker] };
        let quantity = OrderQuantity::Base(self.quantity(symbol));
        let tick = tick_of(symbol).0;
        let [above, below] =
            [middle + 1 + u64::from(self.below(6)), middle.saturating_sub(1 + u64::from(self.below(6)))];
        let mut pair = kinds.map(|kind| self.order_of(uid, symbol, kind));
        for (order, price) in pair.iter_mut().zip([above, below]) {
            order.side = side;
            order.quantity = quantity;
            let price = Amount(u128::from(price) * tick);
            if order.order_type.is_stop() {
                let special = order.special.get_or_insert_default();
                if special.trailing_delta.is_none() || self.one_in(2) {
                    special.stop_price = Some(price);
                }
            } else {
                order.price = price;
            }
        }
        pair
    }

    fn list(&mut self, outsider: &Outsider) -> PlaceOrderList {
        let (uid, symbol) = (self.uid(), self.symbol_id());
        let middle = outsider.last_price.get(&symbol).map_or(MIDDLE, |price| price.0).min(1 << 40);
        let list_client_order_id = self.name();
        let kind = self.pick(&[
            OrderListKind::OneCancelsOther,
            OrderListKind::OneTriggersOther,
            OrderListKind::OneTriggersOneCancelsOther,
        ]);
        let mut orders = Vec::new();
        if kind != OrderListKind::OneCancelsOther {
            let working = self.pick(&[OrderType::Limit, OrderType::Limit, OrderType::LimitMaker]);
            orders.push(self.order_of(uid, symbol, working));
        }
        if kind == OrderListKind::OneTriggersOther {
            orders.push(self.order(uid, symbol));
        } else {
            orders.extend(self.pair(uid, symbol, middle));
        }
        if kind != OrderListKind::OneCancelsOther && self.one_in(3) {
            orders[0].side = Side::Buy;
            for order in &mut orders[1..] {
                order.side = Side::Sell;
                order.quantity = OrderQuantity::Proceeds;
            }
        }
        if self.one_in(32) {
            orders.reverse();
        }
        if self.one_in(32) {
            orders.pop();
        }
        PlaceOrderList { uid, symbol, list_client_order_id, kind, orders }
    }

    fn command(&mut self, outsider: &Outsider) -> Command {
        match self.below(64) {
            0..=27 => {
                let (uid, symbol) = (self.uid(), self.symbol_id());
                Command::PlaceOrder(self.order(uid, symbol))
            }
            28..=33 => Command::PlaceOrderList(Box::new(self.list(outsider))),
            34..=37 => Command::CancelOrder(self.cancel(outsider)),
            38 => {
                let symbol = self.symbol_id();
                let last = outsider.symbols.get(&symbol).map_or(0, |counters| counters.list);
                let number = OrderListId((last + 1).saturating_sub(u64::from(self.below(8))));
                Command::CancelOrderList(CancelOrderList {
                    uid: self.uid(),
                    symbol,
                    order_list_id: self.maybe(2, |_| number),
                    list_client_order_id: self.maybe(2, Bytes::name),
                    cancel_client_order_id: self.maybe(2, Bytes::name),
                })
            }
            39 => Command::CancelAllOrders { uid: self.uid(), symbol: self.symbol_id() },
            40 => Command::CancelEverything { uid: self.uid() },
            41..=43 => {
                let cancel = self.cancel(outsider);
                let mut place = self.order(cancel.uid, cancel.symbol);
                if self.one_in(16) {
                    place.uid = self.uid();
                }
                let (allow_failure, cancel_when_limited) = (self.one_in(2), self.one_in(2));
                Command::CancelReplace(Box::new(CancelReplace { cancel, place, allow_failure, cancel_when_limited }))
            }
            44..=45 => {
                let symbol = self.symbol_id();
                let (uid, order) = self.reference(outsider, symbol);
                let (new_quantity, new_client_order_id) = (self.quantity(symbol), self.name());
                Command::AmendOrder(AmendOrder { uid, symbol, order, new_quantity, new_client_order_id })
            }
            46..=47 => {
                let symbol = self.symbol_id();
                let (uid, order) = self.reference(outsider, symbol);
                Command::ReduceOrder { uid, symbol, order, by: self.quantity(symbol) }
            }
            48..=50 => {
                let symbol = self.symbol_id();
                let (uid, order) = self.reference(outsider, symbol);
                let price = self.one_in(2).then(|| self.price(symbol));
                let quantity = self.one_in(2).then(|| self.quantity(symbol));
                Command::ReplaceOrder(ReplaceOrder { uid, symbol, order, price, quantity })
            }
            51 => {
                let (uid, symbol) = (self.uid(), self.symbol_id());
                let milliseconds = match self.below(4) {
                    0 => 0,
                    1 => self.wide(),
                    _ => u64::from(self.next()) * 500,
                };
                Command::SetCountdown { uid, symbol, milliseconds }
            }
            52..=54 => Command::Tick,
            55 => Command::SetSymbolStatus {
                symbol: self.symbol_id(),
                status: self.pick(&[
                    SymbolStatus::Trading,
                    SymbolStatus::Trading,
                    SymbolStatus::Trading,
                    SymbolStatus::EndOfDay,
                    SymbolStatus::Halt,
                    SymbolStatus::Break,
                    SymbolStatus::CancelOnly,
                ]),
            },
            56 => {
                let symbol = self.symbol_id();
                Command::SetReferencePrice { symbol, price: self.one_in(2).then(|| self.price(symbol)) }
            }
            57 => {
                let symbol = SymbolId(u32::from(self.below(SYMBOLS as u8)));
                let mut config = self.symbol(symbol.0);
                if self.one_in(16) {
                    config.step_size = Amount(7);
                }
                Command::ConfigureSymbol { symbol, config: Box::new(config) }
            }
            58 => Command::ConfigureExchange(self.limits()),
            59 => Command::SetCommissionTier { tier: u16::from(self.below(3)), rates: self.rates() },
            60 => Command::ConfigureAccount { uid: self.uid(), settings: self.settings() },
            61 => Command::Deposit(self.transfer()),
            62 => match self.below(4) {
                0 => Command::Withdraw(self.transfer()),
                1 => Command::BeginWithdrawal(self.transfer()),
                _ => Command::EndWithdrawal {
                    uid: self.uid(),
                    external_id: format!("t{}", self.next() % 16),
                    completed: self.one_in(2),
                },
            },
            _ => match self.below(4) {
                0 => Command::OpenAccount { uid: Uid(u64::from(self.below(8))) },
                1 => Command::AddAsset(AddAsset { name: format!("A{}", self.next()), scale: self.below(20) }),
                2 => Command::AddSymbol(Box::new(SymbolConfig::plain(
                    &format!("S{}", self.next()),
                    self.asset(),
                    self.asset(),
                    self.amount(),
                    self.amount(),
                ))),
                _ => Command::AddApiKey(ApiKey {
                    uid: self.uid(),
                    api_key: format!("k{}", self.next()),
                    kind: ApiKeyKind::Hmac { secret: vec![self.next()] },
                    permissions: vec![Permission::Trade],
                                    }),
            },
        }
    }
}

/// In smallest quote units per whole base.
fn tick_of(symbol: SymbolId) -> Amount {
    Amount(if symbol.0 == 0 { 10 } else { 5 })
}

/// In smallest base units: tenths of BASE, and whole COINs.
fn step_of(_: SymbolId) -> Amount {
    Amount(1)
}
