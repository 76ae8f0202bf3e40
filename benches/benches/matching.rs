//! What the complete engine decides in a second of CPU time, and what an order costs in memory, held in the same run
//! against flowgen's reference matcher, which is a bare book: no accounts, no commission, no filters, no events.
//!
//! The commands are made outside of the timed parts, a batch at a time, as they come from the log. Every round's work is
//! proven the same: the first one's trades and what rests are compared with what the flow says must come of it.

use std::hint::black_box;
use std::time::{Duration, Instant};

#[cfg(flowgen)]
use benches::flow::Totals;
use benches::flow::{Action, Commands, Flow, Step, exchange};
use benches::machine::{apart, cpu_time, resident};
#[cfg(flowgen)]
use benches::reference::{self, Reference, record};
use benches::{Figure, Latencies, grouped, median, per_second};
use engine::order::Side;
use engine::{Command, Engine, Event, Time};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

#[cfg(flowgen)]
const FLOWS: [(&str, u64); 5] = [
    ("ec1k", 5_000_000),
    ("deep1m", 4_000_000),
    ("burst", 5_000_000),
    ("cancel95", 5_000_000),
    ("multi100", 5_000_000),
];
/// Of these each command is timed too.
#[cfg(flowgen)]
const TIMED_SINGLY: [&str; 2] = ["ec1k", "deep1m"];
/// How many resting orders the book grows through.
const SIZES: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
/// How many of them rest at one price.
const PER_LEVEL: u64 = 10;
/// How many levels the case of far prices has, with one order each.
const FAR_LEVELS: u64 = 100_000;
/// Bids rest below it and asks above.
const MIDDLE: u64 = 1_000_000_000;
const USERS: u64 = 1_000;
const SEED: u64 = 1;
/// Made at once, and decided at once.
const BATCH: usize = 1_024;
/// Commands of one round of a growing book.
const GROWTH_COMMANDS: usize = 300_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<&str>>()[1..] {
        ["apart", "growth", size] => return growth(size.parse().expect("a number")),
        ["apart", "far"] => return far(),
        #[cfg(flowgen)]
        ["apart", "deep"] => return deep(),
        _ => {}
    }
    flows();
    println!(
        "{:>12} {:>13} {:>13} {:>6} {:>15} {:>15}",
        "resting", "commands/s", "bare book", "ratio", "bytes an order", "bare book"
    );
    for size in SIZES {
        let case = format!("{} resting: half rest, a third cancel, the others trade", grouped(size));
        let [nanos, reference_nanos, bytes, reference_bytes] = apart(&["apart", "growth", &size.to_string()])[..]
        else {
            panic!("four figures");
        };
        let rate = |nanos| per_second(GROWTH_COMMANDS as u64, Duration::from_nanos(nanos));
        let (value, baseline) = (rate(nanos), some(reference_nanos).map(rate));
        keep(&case, "commands/s", value, GROWTH_COMMANDS as u64, baseline);
        keep(&case, "bytes per order", bytes, size, some(reference_bytes));
        let [baseline, reference_bytes] = [baseline.unwrap_or(0), reference_bytes].map(grouped);
        println!(
            "{:>12} {:>13} {baseline:>13} {:>6} {bytes:>15} {reference_bytes:>15}",
            grouped(size),
            grouped(value),
            ratio(nanos, reference_nanos)
        );
    }
    let [bytes, reference_bytes] = apart(&["apart", "far"])[..] else { panic!("two figures") };
    let case = format!("{} orders at prices of 1 to 2^49 ticks", grouped(FAR_LEVELS));
    println!("{case}: {bytes} bytes an order, the bare book {reference_bytes}");
    keep(&case, "bytes per order", bytes, FAR_LEVELS, some(reference_bytes));
}

fn keep(case: &str, unit: &str, value: u64, n: u64, baseline: Option<u64>) {
    Figure { bench: "matching", case, unit, value, n, baseline }.keep();
}

/// Zero stands for no figure.
fn some(figure: u64) -> Option<u64> {
    (figure > 0).then_some(figure)
}

/// How many times as fast, of two times.
fn ratio(nanos: u64, reference_nanos: u64) -> String {
    let hundredths = reference_nanos * 100 / nanos.max(1);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

fn rounds() -> usize {
    std::env::var("BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

#[cfg(not(flowgen))]
fn flows() {
    println!("skipped: there is no ../shared/flowgen, so neither its flows nor the bare book to compare with");
}

#[cfg(flowgen)]
fn flows() {
    println!("{:>10} {:>13} {:>13} {:>6} {:>13}", "flow", "commands/s", "bare book", "ratio", "asked once");
    for (name, count) in FLOWS {
        // A part of the flows for a quick look; all of it is the figure.
        let count = std::env::var("BENCH_COMMANDS").ok().and_then(|text| text.parse().ok()).unwrap_or(count);
        let (flow, expected) = reference::flow(name, count);
        verify(&flow, &expected);
        let (mut ours, mut once, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds() {
            let commands = || Commands::new(flow.symbols, flow.orders());
            ours.push(engine_round(&flow, commands()));
            once.push(engine_round(&flow, commands().once()));
            theirs.push(reference_round(&flow, &expected));
        }
        let n = (flow.steps.len() - flow.prefill) as u64;
        let (ours, once, theirs) = (median(ours), median(once), median(theirs));
        let rate = |nanos| per_second(n, Duration::from_nanos(nanos));
        println!(
            "{name:>10} {:>13} {:>13} {:>6} {:>13}",
            grouped(rate(ours)),
            grouped(rate(theirs)),
            ratio(ours, theirs),
            grouped(rate(once))
        );
        keep(&format!("flow {name}"), "commands/s", rate(ours), n, Some(rate(theirs)));
        keep(&format!("flow {name}, new orders asked once"), "commands/s", rate(once), n, Some(rate(theirs)));
        if TIMED_SINGLY.contains(&name) {
            let (ours, theirs) = (engine_latencies(&flow), reference_latencies(&flow));
            for (unit, per_mille) in [("p50 ns", 500), ("p99 ns", 990), ("p99.9 ns", 999)] {
                let (value, baseline) = (ours.nanos(per_mille), theirs.nanos(per_mille));
                println!(
                    "{:>10} {:>13} {:>13}   one command, with reading the clock",
                    unit,
                    grouped(value),
                    grouped(baseline)
                );
                keep(&format!("flow {name}, one command"), unit, value, n, Some(baseline));
            }
        }
    }
    let [bytes, reference_bytes] = apart(&["apart", "deep"])[..] else { panic!("two figures") };
    println!("deep1m: {bytes} bytes for each resting order, the bare book {reference_bytes}");
    keep("flow deep1m", "bytes per order", bytes, 1_000_000, Some(reference_bytes));
}

/// That the engine's work is the flow's, whole.
#[cfg(flowgen)]
fn verify(flow: &Flow, expected: &Totals) {
    let mut engine = flow.exchange();
    let mut commands = Commands::new(flow.symbols, flow.orders());
    let mut made = Commands::new(flow.symbols, flow.orders());
    for step in &flow.steps {
        made.make(step);
    }
    let numbers = made.numbers(&flow.steps);
    let mut totals = Totals::default();
    let mut events = Vec::new();
    for step in &flow.steps {
        let (time, command) = commands.make(step);
        events.clear();
        engine.apply(time, &command, &mut events);
        totals.count(&events, |symbol, order| numbers[symbol.0 as usize][order.0 as usize]);
    }
    assert_eq!(totals, *expected, "the same trades, and the same orders rest");
}

/// CPU nanoseconds of all but the prefill.
#[cfg(flowgen)]
fn engine_round(flow: &Flow, mut commands: Commands) -> u64 {
    let mut engine = flow.exchange();
    let (prefill, timed) = flow.steps.split_at(flow.prefill);
    run(&mut engine, &mut commands, prefill);
    run(&mut engine, &mut commands, timed)
}

/// Decides steps, a batch at a time; the CPU nanoseconds of deciding.
fn run(engine: &mut Engine, commands: &mut Commands, steps: &[Step]) -> u64 {
    let mut events = Vec::new();
    let (mut times, mut batch): (Vec<Time>, Vec<Command>) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    let mut time = Duration::ZERO;
    for steps in steps.chunks(BATCH) {
        times.clear();
        batch.clear();
        for (time, command) in steps.iter().map(|step| commands.make(step)) {
            times.push(time);
            batch.push(command);
        }
        let started = cpu_time();
        // As the engine's thread does with the commands of an entry.
        for (at, command) in batch.iter().enumerate() {
            events.clear();
            engine.foresee(&batch[at..]);
            engine.apply(times[at], command, &mut events);
            black_box(&events);
        }
        time += cpu_time() - started;
    }
    assert!(!matches!(events[..], [Event::Rejected(_)]), "no step is refused");
    time.as_nanos() as u64
}

#[cfg(flowgen)]
fn reference_round(flow: &Flow, expected: &Totals) -> u64 {
    let mut book = Reference::new(flow.symbols);
    let (prefill, timed) = flow.steps.split_at(flow.prefill);
    run_reference(&mut book, prefill);
    let time = run_reference(&mut book, timed);
    assert_eq!(book.totals(), *expected);
    time
}

#[cfg(flowgen)]
fn run_reference(book: &mut Reference, steps: &[Step]) -> u64 {
    let mut batch = Vec::with_capacity(BATCH);
    let mut time = Duration::ZERO;
    for steps in steps.chunks(BATCH) {
        batch.clear();
        batch.extend(steps.iter().map(record));
        let started = cpu_time();
        for record in &batch {
            book.apply(record);
        }
        time += cpu_time() - started;
    }
    time.as_nanos() as u64
}

#[cfg(flowgen)]
fn engine_latencies(flow: &Flow) -> Latencies {
    let mut engine = flow.exchange();
    let mut commands = Commands::new(flow.symbols, flow.orders());
    let (prefill, timed) = flow.steps.split_at(flow.prefill);
    run(&mut engine, &mut commands, prefill);
    let mut events = Vec::new();
    let (mut stamps, mut batch): (Vec<Time>, Vec<Command>) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    let mut times = Vec::with_capacity(timed.len());
    for steps in timed.chunks(BATCH) {
        stamps.clear();
        batch.clear();
        for (time, command) in steps.iter().map(|step| commands.make(step)) {
            stamps.push(time);
            batch.push(command);
        }
        for (at, command) in batch.iter().enumerate() {
            events.clear();
            let started = Instant::now();
            engine.foresee(&batch[at..]);
            engine.apply(stamps[at], command, &mut events);
            times.push(started.elapsed());
            black_box(&events);
        }
    }
    Latencies::new(times)
}

#[cfg(flowgen)]
fn reference_latencies(flow: &Flow) -> Latencies {
    let mut book = Reference::new(flow.symbols);
    let (prefill, timed) = flow.steps.split_at(flow.prefill);
    run_reference(&mut book, prefill);
    let mut batch = Vec::with_capacity(BATCH);
    let mut times = Vec::with_capacity(timed.len());
    for steps in timed.chunks(BATCH) {
        batch.clear();
        batch.extend(steps.iter().map(record));
        for record in &batch {
            let started = Instant::now();
            book.apply(record);
            times.push(started.elapsed());
        }
    }
    Latencies::new(times)
}

/// In a process of its own: what the prefill of deep1m takes, for each order that rests then.
#[cfg(flowgen)]
fn deep() {
    let (flow, _) = reference::flow("deep1m", 1);
    let prefill = &flow.steps[..flow.prefill];
    let mut commands = Commands::new(flow.symbols, flow.orders());
    let mut engine = flow.exchange();
    let before = resident();
    run(&mut engine, &mut commands, prefill);
    let bytes = resident().saturating_sub(before);
    let mut book = Reference::new(flow.symbols);
    let before = resident();
    run_reference(&mut book, prefill);
    let reference_bytes = resident().saturating_sub(before);
    let resting = book.totals().resting_orders;
    println!("{} {}", bytes / resting, reference_bytes / resting);
    black_box(engine);
}

/// In a process of its own: fills a book, and changes it under way without changing its size.
fn growth(size: u64) {
    let mut market = Market::new(size);
    let steps: Vec<Step> = (0..size).map(|_| market.rest()).collect();
    let rounds: Vec<Vec<Step>> = (0..rounds()).map(|_| market.steps()).collect();
    let mut commands = Commands::new(1, market.orders as usize);
    let mut engine = exchange(1, USERS, (0..USERS).map(|user| (user, 0)));
    let before = resident();
    run(&mut engine, &mut commands, &steps);
    let bytes = resident().saturating_sub(before) / size;

    #[cfg(flowgen)]
    let (mut book, reference_bytes) = {
        let mut book = Reference::new(1);
        let before = resident();
        run_reference(&mut book, &steps);
        (book, resident().saturating_sub(before) / size)
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for steps in &rounds {
        ours.push(run(&mut engine, &mut commands, steps));
        #[cfg(flowgen)]
        theirs.push(run_reference(&mut book, steps));
        #[cfg(not(flowgen))]
        theirs.push(0);
    }
    #[cfg(not(flowgen))]
    let reference_bytes = 0;
    println!("{} {} {bytes} {reference_bytes}", median(ours), median(theirs));
}

/// In a process of its own: one order at each of many prices as far from each other as prices can be.
fn far() {
    let mut random = StdRng::seed_from_u64(SEED);
    let step = |order: u64| {
        // Bids are below 2^24 ticks, asks above.
        let (side, bits) = if order.is_multiple_of(2) { (Side::Buy, 1..24) } else { (Side::Sell, 25..49) };
        let top = 1u64 << random.random_range(bits);
        let price = top + random.random_range(0..top);
        Step { action: Action::Limit, side, symbol: 0, order, user: order % USERS, price, quantity: 100 }
    };
    let steps: Vec<Step> = (1..=FAR_LEVELS).map(step).collect();
    let mut commands = Commands::new(1, FAR_LEVELS as usize);
    let mut engine = exchange(1, USERS, (0..USERS).map(|user| (user, 0)));
    let before = resident();
    run(&mut engine, &mut commands, &steps);
    let bytes = resident().saturating_sub(before) / FAR_LEVELS;
    #[cfg(flowgen)]
    let reference_bytes = {
        let mut book = Reference::new(1);
        let before = resident();
        run_reference(&mut book, &steps);
        resident().saturating_sub(before) / FAR_LEVELS
    };
    #[cfg(not(flowgen))]
    let reference_bytes = 0;
    println!("{bytes} {reference_bytes}");
    black_box(engine);
}

/// A book of so many resting orders, kept at that size.
struct Market {
    random: StdRng,
    levels: u64,
    /// The orders that rest, but for those at the middle.
    resting: Vec<u64>,
    orders: u64,
}

impl Market {
    fn new(size: u64) -> Market {
        let levels = (size / PER_LEVEL / 2).max(1);
        Market { random: StdRng::seed_from_u64(SEED), levels, resting: Vec::new(), orders: 0 }
    }

    /// Steps after which as many orders rest: of six, two come to rest and two leave anywhere in the book; one comes to the
    /// touch, and one takes it.
    fn steps(&mut self) -> Vec<Step> {
        let step = |number: usize| match number % 6 {
            0 | 2 => self.rest(),
            1 | 3 => self.cancel(),
            4 => self.at(MIDDLE, Action::Limit),
            _ => self.at(MIDDLE, Action::ImmediateOrCancel),
        };
        (0..GROWTH_COMMANDS).map(step).collect()
    }

    fn rest(&mut self) -> Step {
        let away = self.random.random_range(1..=self.levels);
        let step = self.at(0, Action::Limit);
        self.resting.push(step.order);
        Step { price: if step.side == Side::Buy { MIDDLE - away } else { MIDDLE + away }, ..step }
    }

    fn cancel(&mut self) -> Step {
        let index = self.random.random_range(0..self.resting.len());
        let order = self.resting.swap_remove(index);
        Step { action: Action::Cancel, ..Market::step(order) }
    }

    /// The next order; every other one buys.
    fn at(&mut self, price: u64, action: Action) -> Step {
        self.orders += 1;
        Step { action, price, ..Market::step(self.orders) }
    }

    /// Buyers have even numbers and sellers odd ones: nobody meets himself.
    fn step(order: u64) -> Step {
        let side = if order.is_multiple_of(2) { Side::Buy } else { Side::Sell };
        Step { action: Action::Limit, side, symbol: 0, order, user: order % USERS, price: 0, quantity: 100 }
    }
}
