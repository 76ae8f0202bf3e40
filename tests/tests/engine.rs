//! The engine against the slow, obvious exchange on random commands, against itself, and against what must always hold.

use std::collections::{BTreeMap, BTreeSet};

use engine::command::{
    AccountSettings, AddAsset, AmendOrder, OrderListKind, OrderQuantity, OrderReference, PlaceOrder, PlaceOrderList,
    ReplaceOrder, SpecialTerms, Transfer,
};
use engine::commission::{Commission, CommissionRates, Discount, FeeRate, FeeRounding, LotFee};
use engine::order::{ClientOrderId, Order, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce};
use engine::symbol::{CircuitBreaker, PriceRange, SymbolConfig, SymbolStatus};
use engine::units::{Multiplier, Scale, TradeGroup};
use engine::{Amount, AssetId, Command, Engine, Event, OrderId, Price, Quantity, Snapshot, SymbolId, Time, Uid};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tests::order_flow::OrderFlow;
use tests::reference_engine::ReferenceEngine;

/// Seeds of the random tests: a fixed few, and one of the day, printed so that it can be asked for again.
fn seeds(fixed: u64) -> Vec<u64> {
    let given = std::env::var("RIALTO_SEED").ok().map(|seed| seed.parse().expect("RIALTO_SEED is a number"));
    let today = given.unwrap_or_else(|| rand::random_range(0..1 << 48));
    println!("RIALTO_SEED={today}");
    (1..=fixed).chain([today]).collect()
}

/// So many commands come to every rule there is.
const ENOUGH: usize = 200_000;

/// `RIALTO_COMMANDS`: how many commands the two exchanges are compared on, over all seeds.
fn commands(otherwise: usize) -> usize {
    std::env::var("RIALTO_COMMANDS").map_or(otherwise, |count| count.parse().expect("RIALTO_COMMANDS is a number"))
}

// Two opinions.

#[test]
fn the_fast_exchange_agrees_with_the_slow_one() {
    agrees(OrderFlow::new, ENOUGH, &MUST_BE_SEEN);
}

#[test]
fn the_fast_exchange_agrees_with_the_slow_one_where_a_reference_price_decides() {
    agrees(OrderFlow::quoted, ENOUGH / 2, &MUST_BE_SEEN_OF_QUOTES);
}

/// Both say the same of the flows of some seeds, which come to all those rules.
fn agrees(flow: fn(u64) -> OrderFlow, enough: usize, must_be_seen: &[&str]) {
    let seeds = seeds(9);
    let all = commands(enough);
    let each = all / seeds.len();
    let mut seen = BTreeSet::new();
    for seed in seeds {
        let mut flow = flow(seed);
        let mut pair = Pair::default();
        let mut next_look = 0;
        for number in 0..each {
            let (time, command) = flow.next().expect("a flow has no end");
            let events = pair.apply(time, &command, || format!("seed {seed}, command {number}"));
            seen.extend(events.iter().map(kind));
            flow.hear(&events);
            // The state grows with its history, so a long run looks at it less often.
            if number == next_look {
                pair.validate(|| format!("seed {seed}, after command {number}"));
                next_look += 500 + number / 20;
            }
        }
        pair.validate(|| format!("seed {seed}, at the end"));
    }
    // A flow that never comes to a rule proves nothing of it.
    let missing: Vec<&str> = must_be_seen.iter().copied().filter(|kind| !seen.contains(*kind)).collect();
    assert!(all < enough || missing.is_empty(), "never came to {missing:?}");
}

/// The two exchanges, asked the same.
struct Pair {
    fast: Engine,
    slow: ReferenceEngine,
    balances: BTreeMap<(Uid, AssetId), (Amount, Amount)>,
}

impl Default for Pair {
    fn default() -> Pair {
        Pair { fast: Engine::new(), slow: ReferenceEngine::new(), balances: BTreeMap::new() }
    }
}

impl Pair {
    #[track_caller]
    fn apply(&mut self, time: Time, command: &Command, context: impl Fn() -> String) -> Vec<Event> {
        let mut events = Vec::new();
        self.fast.apply(time, command, &mut events);
        let slow = self.slow.apply(time, command);
        let slow = self.comparable(slow);
        let fast = self.comparable(events.clone());
        if fast != slow {
            let at = fast.iter().zip(&slow).take_while(|(fast, slow)| fast == slow).count();
            let lines = |events: &[Event]| events.iter().map(|event| format!("    {event:?}\n")).collect::<String>();
            let (fast, slow) = (lines(&fast), lines(&slow));
            panic!("{}: {command:?}\nfast:\n{fast}slow:\n{slow}first difference at event {at}", context());
        }
        for event in &fast {
            if let Event::BalanceChanged { uid, asset, free, locked } = event {
                self.balances.insert((*uid, *asset), (*free, *locked));
            }
        }
        events
    }

    /// The same events, but for the order of those that the contract leaves free, and without the balances that moved
    /// and came back to what they were.
    fn comparable(&self, mut events: Vec<Event>) -> Vec<Event> {
        let is_balance = |event: &Event| matches!(event, Event::BalanceChanged { .. });
        let is_count = |event: &Event| matches!(event, Event::OrderCountChanged { .. });
        let balances = events.iter().rposition(|event| !is_balance(event)).map_or(0, |last| last + 1);
        let counts = events[..balances].iter().rposition(|event| !is_count(event)).map_or(0, |last| last + 1);
        events[counts..].sort_by_key(|event| match event {
            Event::OrderCountChanged { uid, .. } => (0, *uid, AssetId(0)),
            Event::BalanceChanged { uid, asset, .. } => (1, *uid, *asset),
            _ => unreachable!("the two runs at the end"),
        });
        events.retain(|event| match event {
            Event::BalanceChanged { uid, asset, free, locked } => {
                self.balances.get(&(*uid, *asset)).copied().unwrap_or_default() != (*free, *locked)
            }
            _ => true,
        });
        events
    }

    /// Each by itself, and that both have the same orders, in the same queues, and the same balances.
    #[track_caller]
    fn validate(&self, context: impl Fn() -> String) {
        self.fast.validate();
        self.slow.validate();
        let snapshot = self.fast.snapshot();
        for (symbol, orders) in snapshot.symbols().zip(self.slow.orders()) {
            for (fast, slow) in symbol.orders().zip(&orders) {
                assert_eq!(&fast, slow, "{}", context());
            }
            assert_eq!(symbol.orders().count(), orders.len(), "{}", context());
        }
        let balances: Vec<_> = snapshot
            .accounts()
            .flat_map(|account| {
                let uid = account.uid;
                account.balances.into_iter().map(move |(asset, free, locked)| (uid, asset, free, locked))
            })
            .collect();
        assert_eq!(balances, self.slow.balances(), "{}", context());
    }
}

/// What kind of event it is; of a rejection and an expiry, which.
fn kind(event: &Event) -> String {
    match event {
        Event::Rejected(rejection) => format!("Rejected {rejection:?}"),
        Event::OrderExpired { reason, .. } => format!("Expired {reason:?}"),
        Event::TradePrevented(prevented) => format!("Prevented {:?}", prevented.mode),
        Event::CancelReplaceDecided { cancel, place } => {
            let place = place.map_or("none", |place| if place.is_ok() { "ok" } else { "no" });
            format!("Decided {} {place}", if cancel.is_none() { "ok" } else { "no" })
        }
        Event::OrderRepeated(first) => {
            let kind = match (first.order_list_id, first.canceled) {
                (Some(_), _) => "list",
                (None, None) => "order",
                (None, Some(Ok(_))) => "cancel-replace",
                (None, Some(Err(_))) => "cancel-replace without cancel",
            };
            format!("Repeated {kind}")
        }
        _ => {
            let text = format!("{event:?}");
            text.split(|c: char| !c.is_alphanumeric()).next().expect("a name").to_owned()
        }
    }
}

const MUST_BE_SEEN_OF_QUOTES: [&str; 24] = [
    "Expired InsufficientLiquidity",
    "Expired OcoTrigger",
    "Expired Rejected(InsufficientBalance)",
    "Expired UnfilledFok",
    "Expired UnfilledIocQuantity",
    "LevelChanged",
    "OrderTriggered",
    "QuoteChanged",
    "QuoteDrivenChanged",
    "QuoteStale",
    "ReferencePriceChanged",
    "Rejected AccountDisabled",
    "Rejected IcebergNotSupported",
    "Rejected InvalidConfiguration",
    "Rejected InvalidQuote",
    "Rejected NoReferencePrice",
    "Rejected NotQuoteDriven",
    "Rejected OpenOrders",
    "Rejected PegNotSupported",
    "Rejected QuoteOutdated",
    "Rejected WouldMatchImmediately",
    "Rejected WouldTriggerImmediately",
    "SymbolStatusChanged",
    "Trade",
];

const MUST_BE_SEEN: [&str; 95] = [
    "AccountConfigured",
    "AccountOpened",
    "ApiKeyAdded",
    "AssetAdded",
    "BalanceChanged",
    "CommissionTierChanged",
    "CountdownSet",
    "Decided no no",
    "Decided no none",
    "Decided no ok",
    "Decided ok no",
    "Decided ok ok",
    "Deposited",
    "ExchangeConfigured",
    "Expired InsufficientLiquidity",
    "Expired OcoTrigger",
    "Expired OtoPhaseOne",
    "Expired PriceRangeExceeded",
    "Expired Rejected(InsufficientBalance)",
    "Expired Rejected(NoPegPrice)",
    "Expired Rejected(WouldMatchImmediately)",
    "Expired Rejected(WouldTriggerImmediately)",
    "Expired SelfTradePrevention",
    "Expired UnfilledFok",
    "Expired UnfilledIocQuantity",
    "LevelChanged",
    "OrderAccepted",
    "OrderAmended",
    "OrderCanceled",
    "OrderCountChanged",
    "OrderListChanged",
    "OrderReplaced",
    "Repeated cancel-replace",
    "Repeated cancel-replace without cancel",
    "Repeated list",
    "Repeated order",
    "OrderTriggered",
    "Prevented Decrement",
    "Prevented ExpireBoth",
    "Prevented ExpireMaker",
    "Prevented ExpireTaker",
    "Prevented Transfer",
    "ReferencePriceChanged",
    "Rejected AccountDisabled",
    "Rejected AlreadyExists",
    "Rejected AmendQuantity",
    "Rejected CancelRestricted",
    "Rejected ClientOrderIdMismatch",
    "Rejected DuplicateOrder",
    "Rejected DuplicateOrderList",
    "Rejected ExchangeMaxNumAlgoOrders",
    "Rejected ExchangeMaxNumIcebergOrders",
    "Rejected ExchangeMaxNumOrderLists",
    "Rejected ExchangeMaxNumOrders",
    "Rejected IcebergExceedsQuantity",
    "Rejected IcebergParts",
    "Rejected InsufficientBalance",
    "Rejected InvalidCombination",
    "Rejected InvalidConfiguration",
    "Rejected InvalidOrderList",
    "Rejected LotSize",
    "Rejected MarketClosed",
    "Rejected MarketLotSize",
    "Rejected MaxNumAlgoOrders",
    "Rejected MaxNumIcebergOrders",
    "Rejected MaxNumOrderLists",
    "Rejected MaxNumOrders",
    "Rejected MaxPosition",
    "Rejected NoChange",
    "Rejected NoPegPrice",
    "Rejected Notional",
    "Rejected OcoPrices",
    "Rejected Overflow",
    "Rejected PercentPrice",
    "Rejected PriceFilter",
    "Rejected SelfTradePreventionNotAllowed",
    "Rejected TooManyOrders",
    "Rejected TrailingDelta",
    "Rejected UnknownAccount",
    "Rejected UnknownAsset",
    "Rejected UnknownOrder",
    "Rejected UnknownOrderList",
    "Rejected UnknownSymbol",
    "Rejected UnknownWithdrawal",
    "Rejected WouldMatchImmediately",
    "Rejected WouldTriggerImmediately",
    "Rejected ZeroQuantity",
    "SymbolAdded",
    "SymbolConfigured",
    "SymbolStatusChanged",
    "Trade",
    "TransferRepeated",
    "Withdrawn",
    "WithdrawalBegun",
    "WithdrawalAbandoned",
];

// The engine against itself.

#[test]
fn the_same_log_gives_the_same_state_and_the_same_events() {
    for seed in seeds(2) {
        let log = log_of(seed, 20_000);
        let (first, first_events) = replay(Engine::new(), &log);
        let (second, second_events) = replay(Engine::new(), &log);
        assert_eq!(first.state_hash(), second.state_hash(), "seed {seed}");
        assert!(first_events == second_events, "seed {seed}: other events");
    }
}

#[test]
fn a_snapshot_in_the_middle_changes_nothing() {
    for (seed, log) in
        seeds(2).into_iter().flat_map(|seed| [log_of(seed, 12_000), quoted_log_of(seed, 12_000)].map(|log| (seed, log)))
    {
        let (whole, whole_events) = replay(Engine::new(), &log);
        let random = rand::random_range(100..11_000);
        for cut in [0, 1, 17, 40, 300, 4_000, random, 11_999, 12_000] {
            let (before, mut events) = replay(Engine::new(), &log[..cut]);
            let bytes = before.snapshot().encode();
            let restored = Engine::from_snapshot(Snapshot::decode(&bytes).expect("what was encoded"));
            restored.validate();
            assert!(restored.snapshot().encode() == bytes, "seed {seed}, cut at {cut}: other bytes");
            assert_eq!(restored.state_hash(), before.state_hash(), "seed {seed}, cut at {cut}");
            let (after, rest) = replay(restored, &log[cut..]);
            events.extend(rest);
            assert_eq!(after.state_hash(), whole.state_hash(), "seed {seed}, cut at {cut}");
            assert!(events == whole_events, "seed {seed}, cut at {cut}: other events");
        }
    }
}

#[test]
fn a_state_can_be_rebuilt_as_it_was_at_any_sequence() {
    let seed = 3;
    let log = log_of(seed, 5_000);
    let mut live = Engine::new();
    let mut hashes = BTreeMap::new();
    for (number, (time, command)) in (1..).zip(&log) {
        live.apply(*time, command, &mut Vec::new());
        if number % 500 == 0 || number < 40 {
            hashes.insert(number, live.state_hash());
        }
    }
    for (number, hash) in hashes {
        let (rebuilt, _) = replay(Engine::new(), &log[..number]);
        assert_eq!(rebuilt.sequence().0, number as u64);
        assert_eq!(rebuilt.state_hash(), hash, "at sequence {number}");
    }
}

#[test]
fn a_snapshot_of_another_version_or_cut_short_is_refused() {
    let (engine, _) = replay(Engine::new(), &log_of(4, 400));
    let mut bytes = engine.snapshot().encode();
    for length in (0..bytes.len()).step_by(1 + bytes.len() / 2_000) {
        assert!(Snapshot::decode(&bytes[..length]).is_err(), "cut to {length}");
    }
    bytes[0] ^= 0xff;
    assert!(Snapshot::decode(&bytes).unwrap_err().to_string().contains("snapshot format"));
}

/// The engine looks ahead in large exchanges alone (foresight.rs), so there is a crowd with a balance each.
#[test]
fn looking_ahead_at_what_comes_changes_nothing() {
    const CROWD: u64 = 33_000;
    const BATCHES: [usize; 5] = [1, 3, 16, 17, 400];
    for seed in seeds(3) {
        let mut log = log_of(seed, 20_000);
        let listed = log.iter().position(|(_, command)| matches!(command, Command::AddAsset(_)));
        let begin = 1 + listed.expect("a flow begins with what it lists");
        let time = log[begin].0;
        let crowd = (1_000..1_000 + CROWD).map(Uid).flat_map(|uid| {
            let deposit = Transfer { uid, asset: AssetId(0), amount: Amount(1), external_id: "crowd".to_owned() };
            [Command::OpenAccount { uid }, Command::Deposit(deposit)]
        });
        log.splice(begin..begin, crowd.map(|command| (time, command)));
        let (blind, blind_events) = replay(Engine::new(), &log);

        let (times, commands): (Vec<_>, Vec<_>) = log.into_iter().unzip();
        let (mut seeing, mut seeing_events) = (Engine::new(), Vec::new());
        let (mut begin, mut batches) = (0, BATCHES.into_iter().cycle());
        while begin < commands.len() {
            let end = commands.len().min(begin + batches.next().expect("it goes round"));
            for at in begin..end {
                seeing.foresee(&commands[at..end]);
                seeing.apply(times[at], &commands[at], &mut seeing_events);
            }
            begin = end;
        }
        seeing.validate();
        assert_eq!(blind.state_hash(), seeing.state_hash(), "seed {seed}");
        assert!(blind_events == seeing_events, "seed {seed}: other events");
    }
}

/// The first commands of a flow that hears what became of them.
fn log_of(seed: u64, count: usize) -> Vec<(Time, Command)> {
    log_of_flow(OrderFlow::new(seed), count)
}

fn quoted_log_of(seed: u64, count: usize) -> Vec<(Time, Command)> {
    log_of_flow(OrderFlow::quoted(seed), count)
}

fn log_of_flow(mut flow: OrderFlow, count: usize) -> Vec<(Time, Command)> {
    let mut engine = Engine::new();
    let mut log = Vec::new();
    for _ in 0..count {
        let (time, command) = flow.next().expect("a flow has no end");
        let mut events = Vec::new();
        engine.apply(time, &command, &mut events);
        flow.hear(&events);
        log.push((time, command));
    }
    log
}

fn replay(mut engine: Engine, log: &[(Time, Command)]) -> (Engine, Vec<Event>) {
    let mut events = Vec::new();
    for (time, command) in log {
        engine.apply(*time, command, &mut events);
    }
    engine.validate();
    (engine, events)
}

// What must always hold, told from the events alone.

#[test]
fn nothing_is_lost_no_priority_is_passed_over_and_no_order_does_what_its_kind_forbids() {
    for seed in seeds(3) {
        let (mut flow, mut engine, mut listener) = (OrderFlow::new(seed), Engine::new(), Listener::default());
        for number in 0..60_000 {
            let (time, command) = flow.next().expect("a flow has no end");
            let mut events = Vec::new();
            engine.apply(time, &command, &mut events);
            flow.hear(&events);
            let context = || format!("seed {seed}, command {number}: {command:?}\n{events:#?}");
            listener.hear(&events, &context);
            if number % 2_000 == 0 {
                // Counts anew, among other things, what the open orders need, and compares it with what is locked.
                engine.validate();
                listener.compare(&context);
            }
        }
    }
}

/// What one knows who only hears the events: the contract that views and streams are built on.
#[derive(Default)]
struct Listener {
    /// Deposits less withdrawals, by asset.
    supplies: BTreeMap<AssetId, u128>,
    balances: BTreeMap<(Uid, AssetId), (Amount, Amount)>,
    levels: BTreeMap<(SymbolId, Side), BTreeMap<Price, Quantity>>,
    last_update: BTreeMap<SymbolId, u64>,
    last_trade: BTreeMap<SymbolId, u64>,
    /// The open orders as they were told last.
    orders: BTreeMap<(SymbolId, OrderId), Known>,
    arrivals: u64,
}

/// An open order, as far as it was told of.
#[derive(Clone)]
struct Known {
    order: Order,
    /// Who came later to the end of its queue has a higher one; none before it came to the book.
    arrival: Option<u64>,
    /// What it shows.
    shown: u64,
}

impl Known {
    fn open(&self) -> u64 {
        self.order.open_quantity().0
    }

    fn iceberg(&self) -> u64 {
        let special = self.order.special.as_ref();
        special.and_then(|special| special.iceberg_quantity).map_or(u64::MAX, |part| part.0)
    }
}

impl Listener {
    fn hear(&mut self, events: &[Event], context: &dyn Fn() -> String) {
        // The orders that came to the book in this command, and must not stay there if their kind forbids it.
        let mut came = Vec::new();
        for event in events {
            match event {
                Event::Rejected(_) => assert_eq!(events.len(), 1, "a rejection stands alone\n{}", context()),
                Event::Deposited(transfer) => {
                    *self.supplies.entry(transfer.asset).or_default() += transfer.amount.0;
                }
                Event::Withdrawn(transfer) => {
                    *self.supplies.entry(transfer.asset).or_default() -= transfer.amount.0;
                }
                Event::OrderAccepted(order) | Event::OrderTriggered(order) => {
                    assert_eq!(order.executed.0, 0, "as it was before it met the book\n{}", context());
                    self.take_in(order.clone());
                    came.push((order.symbol, order.order_id));
                }
                Event::OrderReplaced { symbol, order_id, price, quantity, .. } => {
                    let known = self.orders.get_mut(&(*symbol, *order_id)).expect("only open orders are replaced");
                    (known.order.price, known.order.quantity) = (*price, *quantity);
                    let order = known.order.clone();
                    self.take_in(order);
                }
                Event::OrderAmended { order, .. } => {
                    let known = self.orders.get_mut(&(order.symbol, order.order_id)).expect("it is open");
                    known.order = order.clone();
                    known.shown = known.shown.min(known.open());
                }
                Event::Trade(trade) => self.hear_trade(trade, context),
                Event::TradePrevented(prevented) => {
                    for (order_id, lots, is_maker) in [
                        (prevented.taker_order_id, prevented.taker_prevented.0, false),
                        (prevented.maker_order_id, prevented.maker_prevented.0, true),
                    ] {
                        let key = (prevented.symbol, order_id);
                        let known = self.orders.get_mut(&key).expect("only open orders are prevented");
                        known.order.special_mut().prevented.0 += lots;
                        if is_maker {
                            self.show_next(key, lots);
                        } else {
                            known.shown = known.shown.min(known.open());
                        }
                    }
                }
                Event::OrderCanceled { order, .. } | Event::OrderExpired { order, .. } => {
                    let known = self.orders.remove(&(order.symbol, order.order_id)).expect("only open orders end");
                    assert!(!order.status.is_open(), "it ended\n{}", context());
                    let all_or_nothing = order.time_in_force != TimeInForce::Fok || order.executed.is_zero();
                    assert!(all_or_nothing, "a fill or kill that ends has traded nothing\n{}", context());
                    assert_eq!(known.order.executed, order.executed, "trades were told\n{}", context());
                }
                Event::LevelChanged { symbol, side, price, quantity, update_id } => {
                    let last = self.last_update.entry(*symbol).or_default();
                    assert_eq!(*update_id, *last + 1, "update ids have no hole\n{}", context());
                    *last = *update_id;
                    let levels = self.levels.entry((*symbol, *side)).or_default();
                    match quantity.0 {
                        0 => levels.remove(price),
                        _ => levels.insert(*price, *quantity),
                    };
                }
                Event::BalanceChanged { uid, asset, free, locked } => {
                    self.balances.insert((*uid, *asset), (*free, *locked));
                }
                _ => {}
            }
        }
        for key in came {
            let Some(known) = self.orders.get(&key) else { continue };
            let order = &known.order;
            let in_book =
                !order.order_type.is_stop() || order.special.as_ref().is_some_and(|it| it.working_at.is_some());
            if in_book && order.status != OrderStatus::PendingNew {
                assert!(!order.order_type.is_market(), "a market order never rests\n{}", context());
                assert_eq!(order.time_in_force, TimeInForce::Gtc, "only such an order rests\n{}", context());
            }
        }
    }

    fn hear_trade(&mut self, trade: &engine::event::Trade, context: &dyn Fn() -> String) {
        let last = self.last_trade.entry(trade.symbol).or_default();
        assert_eq!(trade.trade_id.0, *last + 1, "trade ids have no hole\n{}", context());
        *last = trade.trade_id.0;
        let maker_side = trade.taker_side.opposite();
        let best = self.levels.get(&(trade.symbol, maker_side)).and_then(|levels| match maker_side {
            Side::Buy => levels.keys().next_back(),
            Side::Sell => levels.keys().next(),
        });
        assert_eq!(best, Some(&trade.price), "the best price trades first\n{}", context());
        let maker_key = (trade.symbol, trade.maker.order_id);
        let maker = &self.orders[&maker_key];
        assert_eq!(maker.order.price, trade.price, "at the maker's price\n{}", context());
        assert!(trade.quantity.0 <= maker.shown, "a part of what the maker shows\n{}", context());
        let earlier = self.orders.values().find(|other| {
            let same_level = other.order.symbol == trade.symbol
                && other.order.side == maker_side
                && other.order.price == trade.price
                && other.order.order_id != trade.taker.order_id;
            same_level && other.arrival.is_some() && other.arrival < maker.arrival
        });
        assert!(earlier.is_none(), "{:?} came before\n{}", earlier.map(|it| it.order.order_id), context());

        let taker = &self.orders[&(trade.symbol, trade.taker.order_id)];
        assert_ne!(taker.order.order_type, OrderType::LimitMaker, "post-only never takes\n{}", context());
        if !taker.order.order_type.is_market() {
            let reaches = match trade.taker_side {
                Side::Buy => trade.price <= taker.order.price,
                Side::Sell => trade.price >= taker.order.price,
            };
            assert!(reaches, "never at a price worse than its own\n{}", context());
        }
        for (key, fill) in [(maker_key, trade.maker), ((trade.symbol, trade.taker.order_id), trade.taker)] {
            let known = self.orders.get_mut(&key).expect("only open orders trade");
            known.order.executed.0 += trade.quantity.0;
            known.order.status = fill.status;
            if key != maker_key {
                known.shown = known.shown.min(known.open());
            }
            assert_eq!(known.order.executed, fill.executed, "\n{}", context());
        }
        self.show_next(maker_key, trade.quantity.0);
        for (key, fill) in [(maker_key, trade.maker), ((trade.symbol, trade.taker.order_id), trade.taker)] {
            if fill.status == OrderStatus::Filled {
                let known = self.orders.remove(&key).expect("it traded just now");
                assert_eq!(known.open(), 0, "a filled order has nothing left\n{}", context());
            }
        }
    }

    /// A maker lost so much of what it showed; with its next part it goes to the end.
    fn show_next(&mut self, key: (SymbolId, OrderId), lots: u64) {
        self.arrivals += 1;
        let known = self.orders.get_mut(&key).expect("it is open");
        known.shown = known.shown.saturating_sub(lots);
        if known.shown == 0 {
            known.shown = known.iceberg().min(known.open());
            known.arrival = Some(self.arrivals);
        }
    }

    /// A new order, or one that comes to the book.
    fn take_in(&mut self, order: Order) {
        self.arrivals += 1;
        let waits = order.status == OrderStatus::PendingNew || order.working_at().is_none();
        let mut known = Known { arrival: (!waits).then_some(self.arrivals), shown: 0, order };
        known.shown = known.iceberg().min(known.open());
        self.orders.insert((known.order.symbol, known.order.order_id), known);
    }

    /// Between two commands: every asset adds up, and the levels are what the orders show.
    fn compare(&self, context: &dyn Fn() -> String) {
        let mut sums = BTreeMap::<AssetId, u128>::new();
        for ((_, asset), (free, locked)) in &self.balances {
            *sums.entry(*asset).or_default() += free.0 + locked.0;
        }
        let supplies: BTreeMap<_, _> = self.supplies.iter().filter(|(_, supply)| **supply > 0).collect();
        let sums: BTreeMap<_, _> = sums.iter().filter(|(_, sum)| **sum > 0).collect();
        assert_eq!(sums, supplies, "nothing is made or lost\n{}", context());
        let mut shown = BTreeMap::<(SymbolId, Side), BTreeMap<Price, Quantity>>::new();
        for known in self.orders.values().filter(|known| known.arrival.is_some()) {
            let levels = shown.entry((known.order.symbol, known.order.side)).or_default();
            levels.entry(known.order.price).or_default().0 += known.shown;
        }
        let levels: BTreeMap<_, _> =
            self.levels.iter().filter(|(_, levels)| !levels.is_empty()).map(|(key, it)| (*key, it.clone())).collect();
        assert_eq!(levels, shown, "the levels are what the orders show\n{}", context());
    }
}

// What random orders hardly come to.

#[test]
fn an_account_that_sells_to_itself_keeps_no_more_of_the_proceeds_than_its_commission_left() {
    let mut pair = Pair::default();
    let mut tell = |command: Command| {
        let events = pair.apply(Time(1), &command, || "sells to itself".to_owned());
        pair.validate(|| "sells to itself".to_owned());
        events
    };
    for name in ["BNB", "USDT"] {
        tell(Command::AddAsset(AddAsset { name: name.to_owned(), scale: 8 }));
    }
    let rate = |billionths| FeeRate::from_billionths(billionths).expect("at most all of it");
    let mut config = SymbolConfig::plain("BNBUSDT", AssetId(0), AssetId(1), Amount(1_000_000), Amount(100_000));
    config.commission.standard.maker = rate(1_000_000);
    config.commission.standard.taker = rate(1_000_000);
    config.commission.discount = Some(Discount { asset: AssetId(0), rate: rate(750_000_000) });
    tell(Command::AddSymbol(Box::new(config)));
    for uid in [1, 2].map(Uid) {
        tell(Command::OpenAccount { uid });
        let settings = AccountSettings { discount: true, ..AccountSettings::default() };
        tell(Command::ConfigureAccount { uid, settings });
        for (asset, amount) in [(0, 100_000_000), (1, 1_000_000_000_000)] {
            let (asset, external_id) = (AssetId(asset), format!("first-{asset}"));
            tell(Command::Deposit(Transfer { uid, asset, amount: Amount(amount), external_id }));
        }
    }
    let order = |uid: u64, name: &str, side: Side, quantity: OrderQuantity, price: u128| PlaceOrder {
        uid: Uid(uid),
        symbol: SymbolId(0),
        client_order_id: ClientOrderId::new(name).expect("a legal name"),
        side,
        order_type: OrderType::Limit,
        time_in_force: TimeInForce::Gtc,
        price: Amount(price),
        quantity,
        self_trade_prevention: None,
        special: None,
    };
    let (little, all) = (OrderQuantity::Base(Amount(1_000_000)), OrderQuantity::Base(Amount(100_000_000)));
    // A first trade, so that there is a price to convert at; then all the account has, sold to itself.
    tell(Command::PlaceOrder(order(2, "a", Side::Sell, little, 10_000_000_000)));
    tell(Command::PlaceOrder(order(2, "b", Side::Buy, little, 10_000_000_000)));
    tell(Command::PlaceOrder(order(1, "c", Side::Sell, all, 10_000_000_000)));
    let orders = vec![
        order(1, "d", Side::Buy, all, 10_000_000_000),
        order(1, "e", Side::Sell, OrderQuantity::Proceeds, 11_000_000_000),
    ];
    let events = tell(Command::PlaceOrderList(Box::new(PlaceOrderList {
        uid: Uid(1),
        symbol: SymbolId(0),
        list_client_order_id: ClientOrderId::new("list").expect("a legal name"),
        kind: OrderListKind::OneTriggersOther,
        orders,
    })));
    assert!(events.iter().any(|event| matches!(event, Event::OrderTriggered(_))), "{events:#?}");
}

// Numbers at their limits.

#[test]
fn numbers_at_every_limit_of_their_range_and_at_every_scale_are_right_or_rejected() {
    let mut seen = BTreeMap::<String, u64>::new();
    for seed in seeds(2) {
        let mut random = StdRng::seed_from_u64(seed);
        for base_scale in 0..=18 {
            for quote_scale in [0, 1, 8, 17, 18] {
                for round in 0..10 {
                    let events = at_the_limits(&mut random, base_scale, quote_scale, &|| {
                        format!("seed {seed}, scales {base_scale} and {quote_scale}, round {round}")
                    });
                    for event in &events {
                        *seen.entry(kind(event)).or_default() += 1;
                    }
                }
            }
        }
    }
    for kind in ["Trade", "OrderTriggered", "OrderReplaced", "Rejected Overflow", "Rejected InvalidConfiguration"] {
        assert!(seen.get(kind).is_some_and(|count| *count >= 10), "hardly came to {kind}: {seen:?}");
    }
}

/// A market of two assets of these scales, whose tick and lot are as small or as large as they can be, and orders whose
/// prices and quantities are at the limits.
fn at_the_limits(random: &mut StdRng, base_scale: u8, quote_scale: u8, context: &dyn Fn() -> String) -> Vec<Event> {
    let mut pair = Pair::default();
    let mut all = Vec::new();
    let mut tell = |command: Command| {
        let events = pair.apply(Time(1), &command, context);
        pair.validate(context);
        all.extend_from_slice(&events);
        matches!(events[..], [Event::Rejected(_)])
    };
    for (name, scale) in [("BASE", base_scale), ("QUOTE", quote_scale)] {
        tell(Command::AddAsset(AddAsset { name: name.to_owned(), scale }));
    }
    let settings = AccountSettings { trade_group: Some(TradeGroup(1)), discount: true, ..AccountSettings::default() };
    let whole = 10u128.pow(base_scale.into());
    // Of the pairs of tick and lot many cannot be; one of those is enough now and then.
    let (tick, lot) = loop {
        let unit = [1, 3, 1 << 32, u128::from(u64::MAX)][random.random_range(0..4)];
        let lot = [1, 3, whole, whole / 10 + 1, u128::from(u64::MAX)][random.random_range(0..5)];
        let tick = [1, 7, whole, whole * 10, u128::MAX / whole, unit * whole / lot + 1][random.random_range(0..6)];
        let fits = Scale::new(Amount(tick), Amount(lot), base_scale).is_some();
        if fits || random.random_range(0..40) == 0 {
            break (tick, lot);
        }
    };
    let config = config_at_the_limits(random, tick, lot);
    let is_refused = tell(Command::AddSymbol(Box::new(config)));
    if is_refused {
        return all;
    }
    for uid in [1, 2, 3].map(Uid) {
        tell(Command::OpenAccount { uid });
        if uid.0 < 3 {
            tell(Command::ConfigureAccount { uid, settings });
        }
        for asset in [0, 1].map(AssetId) {
            let amount = Amount(u128::MAX >> random.random_range(0..6));
            let external_id = format!("{uid}-{asset}");
            tell(Command::Deposit(Transfer { uid, asset, amount, external_id }));
        }
    }
    let symbol = SymbolId(0);
    for number in 0..100 {
        let uid = Uid(random.random_range(1..=3));
        let order = OrderReference { order_id: Some(OrderId(random.random_range(1..12))), client_order_id: None };
        let name = |part: &str| ClientOrderId::new(&format!("n{number}{part}")).expect("a legal name");
        tell(match random.random_range(0..24) {
            0 => Command::CancelAllOrders { uid, symbol },
            1 => Command::SetSymbolStatus { symbol, status: SymbolStatus::Trading },
            2 => Command::SetReferencePrice { symbol, price: Some(price_edge(random, tick)) },
            3 => Command::AmendOrder(AmendOrder {
                uid,
                symbol,
                order,
                new_quantity: edge(random, lot),
                new_client_order_id: name(""),
            }),
            4 => Command::ReduceOrder { uid, symbol, order, by: edge(random, lot) },
            5..8 => Command::ReplaceOrder(ReplaceOrder {
                uid,
                symbol,
                order,
                price: (random.random_range(0..3) > 0).then(|| price_edge(random, tick)),
                quantity: (random.random_range(0..3) > 0).then(|| edge(random, lot)),
            }),
            8 => Command::SetCountdown { uid, symbol, milliseconds: u64::MAX >> random.random_range(0..64) },
            9 => {
                let external_id = format!("n{number}");
                Command::Withdraw(Transfer { uid, asset: AssetId(number % 2), amount: edge(random, 1), external_id })
            }
            10..14 => {
                let mut orders = vec![
                    order_at_the_limits(random, uid, name("a"), tick, lot),
                    order_at_the_limits(random, uid, name("b"), tick, lot),
                ];
                let kind = [OrderListKind::OneTriggersOther, OrderListKind::OneCancelsOther][random.random_range(0..2)];
                if kind == OrderListKind::OneTriggersOther {
                    (orders[0].order_type, orders[0].special) = (OrderType::Limit, None);
                    orders[0].side = Side::Buy;
                    if random.random_range(0..2) == 0 {
                        (orders[1].side, orders[1].quantity) = (Side::Sell, OrderQuantity::Proceeds);
                    }
                } else {
                    (orders[1].side, orders[1].quantity) = (orders[0].side, orders[0].quantity);
                }
                let list_client_order_id = name("list");
                Command::PlaceOrderList(Box::new(PlaceOrderList { uid, symbol, list_client_order_id, kind, orders }))
            }
            _ => Command::PlaceOrder(order_at_the_limits(random, uid, name(""), tick, lot)),
        });
    }
    all
}

/// A symbol whose filters and fees are at the limits of what they can be, each now and then.
fn config_at_the_limits(random: &mut StdRng, tick: u128, lot: u128) -> SymbolConfig {
    let mut config = SymbolConfig::plain("LIMITS", AssetId(0), AssetId(1), Amount(tick), Amount(lot));
    let range = |random: &mut StdRng| {
        let multiplier =
            |random: &mut StdRng| Multiplier([0, 1, 100_000_000, 200_000_000, u64::MAX][random.random_range(0..5)]);
        Some(PriceRange {
            bid_up: multiplier(random),
            bid_down: multiplier(random),
            ask_up: multiplier(random),
            ask_down: multiplier(random),
        })
    };
    let rate = |random: &mut StdRng| {
        FeeRate::from_billionths([0, 1, 500_000_000, FeeRate::MAX][random.random_range(0..4)]).expect("at most all")
    };
    let rates = |random: &mut StdRng| CommissionRates {
        maker: rate(random),
        taker: rate(random),
        buyer: rate(random),
        seller: rate(random),
    };
    match random.random_range(0..6) {
        0 | 1 => {
            let taker = Amount(u128::MAX >> random.random_range(0..128));
            config.commission.by_lot = Some(LotFee { maker: edge(random, 1).min(taker), taker });
        }
        2 | 3 => {
            config.commission = Commission {
                standard: rates(random),
                special: rates(random),
                tax: rates(random),
                rounding: [FeeRounding::HalfUp, FeeRounding::Up, FeeRounding::Down][random.random_range(0..3)],
                discount: (random.random_range(0..2) == 0)
                    .then(|| Discount { asset: AssetId(random.random_range(0..2)), rate: rate(random) }),
                by_lot: None,
            };
        }
        _ => {}
    }
    let seldom = |random: &mut StdRng| random.random_range(0..5) == 0;
    if seldom(random) {
        config.max_position = edge(random, lot);
    }
    if seldom(random) {
        config.max_notional = edge(random, 1);
        config.apply_max_to_market = true;
    }
    if seldom(random) {
        config.percent_price = range(random);
    }
    if seldom(random) {
        config.execution_range = range(random);
    }
    if seldom(random) {
        config.average_price_minutes = 1;
    }
    if seldom(random) {
        let trip = Multiplier([1, 100_000_000, u64::MAX][random.random_range(0..3)]);
        config.circuit_breaker = Some(CircuitBreaker { trip, window_seconds: u32::MAX, halt_seconds: 0 });
    }
    config
}

fn order_at_the_limits(random: &mut StdRng, uid: Uid, name: ClientOrderId, tick: u128, lot: u128) -> PlaceOrder {
    let order_type = [
        OrderType::Limit,
        OrderType::Limit,
        OrderType::Limit,
        OrderType::LimitMaker,
        OrderType::Market,
        OrderType::StopLoss,
        OrderType::StopLossLimit,
        OrderType::TakeProfit,
        OrderType::TakeProfitLimit,
    ][random.random_range(0..9)];
    let special = SpecialTerms {
        stop_price: order_type.is_stop().then(|| price_edge(random, tick)),
        trailing_delta: (order_type.is_stop() && random.random_range(0..3) == 0)
            .then(|| [1, 9_999, 10_000, u32::MAX][random.random_range(0..4)]),
        iceberg_quantity: (!order_type.is_market() && random.random_range(0..6) == 0).then(|| edge(random, lot)),
        ..SpecialTerms::default()
    };
    let by_quote = order_type == OrderType::Market && random.random_range(0..2) == 0;
    PlaceOrder {
        uid,
        symbol: SymbolId(0),
        client_order_id: name,
        side: if random.random_range(0..2) == 0 { Side::Buy } else { Side::Sell },
        order_type,
        time_in_force: [TimeInForce::Gtc, TimeInForce::Gtc, TimeInForce::Ioc, TimeInForce::Fok]
            [random.random_range(0..4)],
        price: if order_type.is_market() { Amount(0) } else { price_edge(random, tick) },
        quantity: match by_quote {
            true => OrderQuantity::Quote(edge(random, 1)),
            false => OrderQuantity::Base(edge(random, lot)),
        },
        self_trade_prevention: Some(match random.random_range(0..9) {
            0 => SelfTradePrevention::Decrement,
            1 => SelfTradePrevention::ExpireMaker,
            2 => SelfTradePrevention::ExpireTaker,
            3..5 => SelfTradePrevention::Transfer,
            _ => SelfTradePrevention::None,
        }),
        special: (special != SpecialTerms::default()).then(|| Box::new(special)),
    }
}

/// A price: half of the time a low one, so that orders meet.
fn price_edge(random: &mut StdRng, tick: u128) -> Amount {
    match random.random_range(0..2) {
        0 => Amount(random.random_range(1..4) * tick),
        _ => edge(random, tick),
    }
}

/// A number of units near a power of two or at an end of its range; at times not a whole number of units.
fn edge(random: &mut StdRng, unit: u128) -> Amount {
    let count = match random.random_range(0..12) {
        0 => 0,
        1..4 => random.random_range(1..9),
        4 => u128::from(u32::MAX) + random.random_range(0..3),
        5 => u128::from(u64::MAX) - random.random_range(0..3),
        6 => u128::from(u64::MAX) + 1 + random.random_range(0..3),
        7 => u128::MAX / unit - random.random_range(0..3).min(u128::MAX / unit),
        _ => (1u128 << random.random_range(0..66)) + random.random_range(0..3) - 1,
    };
    let off = u128::from(random.random_range(0..40) == 0);
    Amount(count.saturating_mul(unit).saturating_add(off))
}
