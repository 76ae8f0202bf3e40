//! The engine against the slow, obvious exchange on random commands, and against itself.

use std::collections::{BTreeMap, BTreeSet};

use engine::order::{Order, OrderStatus, Side};
use engine::symbol::{Symbol, SymbolStatus};
use engine::{Command, Engine, Event, Rejection, Snapshot, SymbolId, Time};
use tests::order_flow::OrderFlow;
use tests::reference_book::{Fact, Open, ReferenceExchange};

/// Seeds of the random tests: a fixed few, and one of the day, printed so that it can be asked for again.
fn seeds() -> Vec<u64> {
    let given = std::env::var("RIALTO_SEED").ok().map(|seed| seed.parse().expect("RIALTO_SEED is a number"));
    let today = given.unwrap_or_else(|| rand::random_range(0..1 << 48));
    println!("RIALTO_SEED={today}");
    vec![1, 2, today]
}

#[test]
fn the_fast_exchange_agrees_with_the_slow_one() {
    let mut seen = BTreeSet::new();
    for seed in seeds() {
        let (mut engine, mut slow, mut listener) = (Engine::new(), ReferenceExchange::default(), Listener::default());
        for (number, (time, command)) in OrderFlow::new(seed).take(150_000).enumerate() {
            let mut events = Vec::new();
            engine.apply(time, &command, &mut events);
            let expected = slow.apply(&command);
            let facts = listener.hear(&command, &events);
            assert_eq!(facts, expected, "seed {seed}, command {number}: {command:?}\n{events:#?}");
            listener.compare(&slow, || format!("seed {seed}, command {number}: {command:?}\n{events:#?}"));
            if number % 1_000 == 0 {
                engine.validate();
                compare_orders(&engine.snapshot(), &slow);
            }
            seen.extend(facts.iter().map(kind));
        }
        engine.validate();
        compare_orders(&engine.snapshot(), &slow);
    }
    // A flow that never comes to a rule proves nothing of it.
    let kinds = ["Accepted", "Traded", "Ended", "Amended", "Repeated", "Done"].map(str::to_owned);
    let all = kinds.into_iter().chain(ALL_REJECTIONS.map(|rejection| kind(&Fact::Rejected(rejection))));
    let missing: Vec<String> = all.filter(|kind| !seen.contains(kind)).collect();
    assert!(missing.is_empty(), "never came to {missing:?}");
}

/// What kind of fact it is; of a rejection, which.
fn kind(fact: &Fact) -> String {
    let text = format!("{fact:?}");
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
    if words[0] == "Rejected" { words[..2].join(" ") } else { words[0].to_owned() }
}

const ALL_REJECTIONS: [Rejection; 20] = [
    Rejection::UnknownAsset,
    Rejection::UnknownSymbol,
    Rejection::UnknownAccount,
    Rejection::AlreadyExists,
    Rejection::InvalidConfiguration,
    Rejection::MarketClosed,
    Rejection::InsufficientBalance,
    Rejection::DuplicateOrder,
    Rejection::WouldMatchImmediately,
    Rejection::ZeroQuantity,
    Rejection::InvalidCombination,
    Rejection::PriceFilter,
    Rejection::LotSize,
    Rejection::MarketLotSize,
    Rejection::Notional,
    Rejection::Overflow,
    Rejection::UnknownOrder,
    Rejection::CancelRestricted,
    Rejection::AmendQuantity,
    Rejection::ClientOrderIdMismatch,
];

#[test]
fn the_same_log_gives_the_same_state_and_the_same_events() {
    for seed in seeds() {
        let log: Vec<(Time, Command)> = OrderFlow::new(seed).take(20_000).collect();
        let (first, first_events) = replay(Engine::new(), &log);
        let (second, second_events) = replay(Engine::new(), &log);
        assert_eq!(first.state_hash(), second.state_hash(), "seed {seed}");
        assert!(first_events == second_events, "seed {seed}: other events");
    }
}

#[test]
fn a_snapshot_in_the_middle_changes_nothing() {
    for seed in seeds() {
        let log: Vec<(Time, Command)> = OrderFlow::new(seed).take(12_000).collect();
        let (whole, whole_events) = replay(Engine::new(), &log);
        for cut in [0, 1, 17, 4_000, 11_999, 12_000] {
            let (before, mut events) = replay(Engine::new(), &log[..cut]);
            let bytes = before.snapshot().encode();
            let restored = Engine::from_snapshot(&Snapshot::decode(&bytes).expect("what was encoded"));
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
    let log: Vec<(Time, Command)> = OrderFlow::new(seed).take(5_000).collect();
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
    let (engine, _) = replay(Engine::new(), &OrderFlow::new(4).take(100).collect::<Vec<_>>());
    let mut bytes = engine.snapshot().encode();
    for length in 0..bytes.len() {
        assert!(Snapshot::decode(&bytes[..length]).is_err(), "cut to {length}");
    }
    bytes[0] ^= 0xff;
    assert!(Snapshot::decode(&bytes).unwrap_err().to_string().contains("snapshot format"));
}

fn replay(mut engine: Engine, log: &[(Time, Command)]) -> (Engine, Vec<Event>) {
    let mut events = Vec::new();
    for (time, command) in log {
        engine.apply(*time, command, &mut events);
    }
    engine.validate();
    (engine, events)
}

/// What one knows who only hears the events: the contract that views and streams are built on.
#[derive(Default)]
struct Listener {
    symbols: Vec<Symbol>,
    balances: BTreeMap<(u64, u32), (u128, u128)>,
    levels: BTreeMap<(u32, Side), BTreeMap<u128, u128>>,
    last_update: BTreeMap<u32, u64>,
}

impl Listener {
    /// Take in the events of a command, and say in plain facts what it came to.
    fn hear(&mut self, command: &Command, events: &[Event]) -> Vec<Fact> {
        let mut facts = Vec::new();
        for event in events {
            facts.extend(self.hear_one(event));
        }
        let is_plain = !matches!(
            command,
            Command::PlaceOrder(_) | Command::CancelOrder(_) | Command::CancelAllOrders { .. } | Command::AmendOrder(_)
        );
        if is_plain && facts.is_empty() {
            facts.push(Fact::Done);
        }
        facts
    }

    fn hear_one(&mut self, event: &Event) -> Option<Fact> {
        match event {
            Event::SymbolAdded(symbol) => {
                assert_eq!(symbol.status, SymbolStatus::Trading);
                self.symbols.push((**symbol).clone());
                None
            }
            Event::Rejected(rejection) => Some(Fact::Rejected(*rejection)),
            Event::OrderAccepted(order) => {
                assert_eq!((order.status, order.executed.0), (OrderStatus::New, 0), "as it was before it met the book");
                Some(Fact::Accepted(order.order_id.0))
            }
            Event::Trade(trade) => {
                let filled = |status: OrderStatus| status == OrderStatus::Filled;
                let (tick, lot) = self.units(trade.symbol);
                Some(Fact::Traded {
                    trade: trade.trade_id.0,
                    aggregate: trade.aggregate_id,
                    price: u128::from(trade.price.0) * tick,
                    quantity: u128::from(trade.quantity.0) * lot,
                    taker: (trade.taker.order_id.0, trade.taker.fee.0, filled(trade.taker.status)),
                    maker: (trade.maker.order_id.0, trade.maker.fee.0, filled(trade.maker.status)),
                })
            }
            Event::OrderCanceled { order, .. } | Event::OrderExpired { order, .. } => Some(self.ended(order)),
            Event::OrderAmended { order, .. } => {
                Some(Fact::Amended(order.order_id.0, u128::from(order.quantity.0) * self.units(order.symbol).1))
            }
            Event::TransferRepeated(_) => Some(Fact::Repeated),
            Event::LevelChanged { symbol, side, price, quantity, update_id } => {
                let (tick, lot) = self.units(*symbol);
                let last = self.last_update.entry(symbol.0).or_default();
                assert_eq!(*update_id, *last + 1, "update ids have no hole");
                *last = *update_id;
                let levels = self.levels.entry((symbol.0, *side)).or_default();
                match quantity.0 {
                    0 => levels.remove(&(u128::from(price.0) * tick)),
                    lots => levels.insert(u128::from(price.0) * tick, u128::from(lots) * lot),
                };
                None
            }
            Event::BalanceChanged { uid, asset, free, locked } => {
                match (free.0, locked.0) {
                    (0, 0) => self.balances.remove(&(uid.0, asset.0)),
                    held => self.balances.insert((uid.0, asset.0), held),
                };
                None
            }
            _ => None,
        }
    }

    fn ended(&self, order: &Order) -> Fact {
        Fact::Ended(order.order_id.0, order.status, u128::from(order.executed.0) * self.units(order.symbol).1)
    }

    fn units(&self, symbol: SymbolId) -> (u128, u128) {
        let config = &self.symbols[symbol.0 as usize].config;
        (config.tick_size.0, config.step_size.0)
    }

    fn compare(&self, slow: &ReferenceExchange, context: impl Fn() -> String) {
        assert_eq!(self.balances, slow.balances(), "balances\n{}", context());
        for symbol in 0..self.symbols.len() {
            for side in [Side::Buy, Side::Sell] {
                let heard = self.levels.get(&(symbol as u32, side)).cloned().unwrap_or_default();
                assert_eq!(heard, slow.levels(symbol, side), "levels of {symbol} {side:?}\n{}", context());
            }
        }
    }
}

/// The queues themselves: every open order, in the order in which it will trade.
fn compare_orders(snapshot: &Snapshot, slow: &ReferenceExchange) {
    for (index, state) in snapshot.symbols.iter().enumerate() {
        let (tick, lot) = (state.symbol.config.tick_size.0, state.symbol.config.step_size.0);
        let plain = |order: &Order| Open {
            id: order.order_id.0,
            uid: order.uid.0,
            name: order.client_order_id.as_str().to_owned(),
            side: order.side,
            price: u128::from(order.price.0) * tick,
            quantity: u128::from(order.quantity.0) * lot,
            executed: u128::from(order.executed.0) * lot,
            quote: order.cumulative_quote.0,
        };
        for (side, orders) in [(Side::Buy, &state.bids), (Side::Sell, &state.asks)] {
            assert_eq!(orders.iter().map(plain).collect::<Vec<_>>(), slow.orders(index, side));
        }
    }
}
