//! Snapshots as bytes: every state comes back as it was, and what is no state is refused.

use std::collections::BTreeMap;

use engine::snapshot::UnreadSymbol;
use engine::snapshot_bytes::DecodeError;
use engine::{Command, Engine, Event, Snapshot, Time};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tests::order_flow::OrderFlow;

/// Seeds of the random tests: a fixed few, and one of the day, printed so that it can be asked for again.
fn seeds(fixed: u64) -> Vec<u64> {
    let given = std::env::var("RIALTO_SEED").ok().map(|seed| seed.parse().expect("RIALTO_SEED is a number"));
    let today = given.unwrap_or_else(|| rand::random_range(0..1 << 48));
    println!("RIALTO_SEED={today}");
    (1..=fixed).chain([today]).collect()
}

/// A flow that hears what became of its commands, and the exchange that decides them.
struct Run {
    flow: OrderFlow,
    engine: Engine,
}

impl Run {
    fn new(seed: u64, commands: usize) -> Run {
        let mut run = Run { flow: OrderFlow::new(seed), engine: Engine::new() };
        run.go_on(commands);
        run
    }

    fn go_on(&mut self, commands: usize) {
        for _ in 0..commands {
            self.step();
        }
    }

    fn step(&mut self) -> (Time, Command, Vec<Event>) {
        let (time, command) = self.flow.next().expect("a flow has no end");
        let mut events = Vec::new();
        self.engine.apply(time.max(self.engine.time()), &command, &mut events);
        self.flow.hear(&events);
        (time, command, events)
    }
}

/// As one reads them who has many threads: the symbols each by itself, in no order.
fn decode_apart(bytes: &[u8]) -> Result<Snapshot, DecodeError> {
    let (opened, symbols) = Snapshot::open(bytes)?;
    let mut read: Vec<_> = symbols.into_iter().rev().map(UnreadSymbol::read).collect();
    read.reverse();
    opened.close(read)
}

#[test]
fn every_state_comes_back_from_its_bytes_and_gives_the_same_bytes() {
    let mut kinds = BTreeMap::new();
    for seed in seeds(8) {
        let mut run = Run::new(seed, 0);
        for round in 0..60 {
            run.go_on(1 + (round * round) % 331);
            let snapshot = run.engine.snapshot();
            let bytes = snapshot.encode();
            let read = Snapshot::decode(&bytes).unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
            assert!(read.encode() == bytes, "seed {seed}, round {round}: other bytes");
            let apart = decode_apart(&bytes).unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
            assert!(apart.encode() == bytes, "seed {seed}, round {round}: other bytes symbol by symbol");
            assert_eq!(read, snapshot, "seed {seed}, round {round}");
            for (symbol, again) in snapshot.symbols().zip(read.symbols()) {
                assert!(symbol.orders().eq(again.orders()), "seed {seed}, round {round}");
                symbol.orders().for_each(|order| *kinds.entry(format!("{:?}", order.order_type)).or_insert(0) += 1);
                let special = |is: fn(&engine::Order) -> bool| symbol.orders().filter(is).count();
                *kinds.entry("icebergs".to_owned()).or_default() +=
                    special(|order| order.special.as_ref().is_some_and(|terms| terms.iceberg_quantity.is_some()));
                *kinds.entry("partly filled".to_owned()).or_default() += special(|order| order.executed.0 > 0);
                *kinds.entry("lists".to_owned()).or_default() += symbol.lists().count();
            }
            let mut restored = Engine::from_snapshot(read);
            restored.validate();
            // Both go on in the same way.
            for _ in 0..20 {
                let (time, command, events) = run.step();
                let mut again = Vec::new();
                restored.apply(time, &command, &mut again);
                assert_eq!(again, events, "seed {seed}, round {round}: {command:?}");
            }
            assert_eq!(restored.state_hash(), run.engine.state_hash(), "seed {seed}, round {round}");
            // From here on the restored one is the one that lives: what a restore leaves out would add up.
            run.engine = restored;
        }
    }
    println!("{kinds:?}");
    let all = ["Limit", "LimitMaker", "StopLoss", "StopLossLimit", "TakeProfit", "TakeProfitLimit"];
    let all = all.into_iter().chain(["icebergs", "partly filled", "lists"]);
    let missing: Vec<&str> = all.filter(|kind| kinds.get(*kind).is_none_or(|count| *count == 0)).collect();
    assert!(missing.is_empty(), "never in a snapshot: {missing:?}");
}

#[test]
fn the_bytes_do_not_depend_on_the_way_to_the_state() {
    for seed in seeds(3) {
        let mut lived = Run::new(seed, 500);
        let mut restored = Engine::from_snapshot(lived.engine.snapshot());
        for _ in 0..40 {
            for _ in 0..100 {
                let (time, command, _) = lived.step();
                restored.apply(time, &command, &mut Vec::new());
            }
            // One keeps its slots, notes and queues as they came about; the other makes them anew each time.
            restored = Engine::from_snapshot(Snapshot::decode(&restored.snapshot().encode()).expect("a sound state"));
            assert!(restored.snapshot().encode() == lived.engine.snapshot().encode(), "seed {seed}");
        }
    }
}

#[test]
fn bytes_that_are_cut_or_go_on_are_refused() {
    for seed in seeds(2) {
        let bytes = Run::new(seed, 3_000).engine.snapshot().encode();
        for length in 0..bytes.len() {
            assert!(Snapshot::decode(&bytes[..length]).is_err(), "seed {seed}: cut to {length} of {}", bytes.len());
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(Snapshot::decode(&longer).is_err(), "seed {seed}: one byte more");
    }
}

#[test]
fn another_version_is_refused_by_its_name() {
    let mut bytes = Engine::new().snapshot().encode();
    bytes[0] ^= 0xff;
    assert!(Snapshot::decode(&bytes).unwrap_err().to_string().contains("snapshot format"));
}

/// Without a checksum: that is the file's. What is not refused is another state, sound and with exactly these bytes.
#[test]
fn changed_bytes_are_refused_or_are_another_sound_state() {
    let (mut refused, mut accepted) = (0, 0);
    for seed in seeds(4) {
        let mut random = StdRng::seed_from_u64(seed);
        for round in 0..6 {
            let commands = random.random_range(100..3_000);
            let bytes = Run::new(seed * 10 + round, commands).engine.snapshot().encode();
            for attempt in 0..1_500 {
                let mut changed = bytes.clone();
                for _ in 0..random.random_range(1..3) {
                    let at = random.random_range(0..changed.len());
                    match random.random_range(0..4) {
                        0 => changed[at] ^= 1 << random.random_range(0..8),
                        1 => changed[at] = random.random_range(0..=255),
                        2 => changed[at] = changed[at].wrapping_add(1),
                        _ => {
                            // A piece from elsewhere.
                            let length = random.random_range(1..=64).min(changed.len() - at);
                            let from = random.random_range(0..=changed.len() - length);
                            changed.copy_within(from..from + length, at);
                        }
                    }
                }
                if changed == bytes {
                    continue;
                }
                let context = format!("seed {seed}, round {round}, attempt {attempt}");
                let apart = decode_apart(&changed);
                let Ok(other) = Snapshot::decode(&changed) else {
                    assert!(apart.is_err(), "{context}: symbol by symbol it is believed");
                    refused += 1;
                    continue;
                };
                accepted += 1;
                assert!(apart.is_ok_and(|apart| apart == other), "{context}: symbol by symbol it is another");
                assert!(other.encode() == changed, "{context}: other bytes");
                let engine = Engine::from_snapshot(other);
                engine.validate();
                // It works on as an exchange does, and stays sound.
                let mut run = Run { flow: OrderFlow::new(seed + attempt), engine };
                run.go_on(30);
                run.engine.validate();
            }
        }
    }
    println!("{refused} refused, {accepted} accepted");
    assert!(refused > 3 * accepted && accepted > 0, "{refused} refused, {accepted} accepted");
}
