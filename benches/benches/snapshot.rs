//! What a snapshot of ten million resting orders and a million accounts costs: how long the engine stands still for it,
//! how fast its bytes are made and read, and how large it is; against copying as many bytes in the same run.

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::flow::{Commands, exchange, resting};
use benches::machine::{cpu_time, resident};
use benches::{Figure, grouped};
use engine::{Engine, Snapshot};

const ORDERS: u64 = 10_000_000;
const ACCOUNTS: u64 = 1_000_000;
const SYMBOLS: u16 = 10;
/// Of each side of each symbol.
const LEVELS: u64 = 20_000;
/// Bids rest below it and asks above.
const MIDDLE: u64 = 1_000_000;

fn main() {
    // A part of it for a quick look.
    let part = std::env::var("BENCH_PART").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let (orders, accounts) = (ORDERS / part, ACCOUNTS / part);
    let engine = filled(orders, accounts);
    let case = format!("{} resting orders, {} accounts", grouped(orders), grouped(accounts));
    println!("{case}, {} MB in memory", grouped(resident() / 1_000_000));

    let (paused, snapshot) = timed(|| engine.snapshot());
    let mut size = 0;
    let (written, ()) = timed(|| snapshot.write(|piece| size += black_box(piece).len() as u64));
    let (hashed, hash) = timed(|| snapshot.hash());
    let (encoded, bytes) = timed(|| snapshot.encode());
    drop(snapshot);
    let (decoded, read) = timed(|| Snapshot::decode(&bytes).expect("what was written can be read"));
    let again = Engine::from_snapshot(read);
    let (validated, ()) = timed(|| again.validate());
    let mut copy = vec![1u8; bytes.len()];
    let (copied, ()) = timed(|| copy.copy_from_slice(black_box(&bytes)));
    black_box(&copy);
    assert!(again.state_hash() == hash && bytes.len() as u64 == size);

    let rate = |time: Duration| size * 1_000 / (time.as_nanos().max(1) as u64);
    println!("{} MB, {} bytes for each order", grouped(size / 1_000_000), size / orders);
    println!("{:>46} {:>9} {:>9}", "", "ms", "MB/s");
    for (what, time) in [
        ("the engine stands still, copied", paused),
        ("state to bytes, piece after piece", written),
        ("the same, and their hash", hashed),
        ("state to bytes, in one vector", encoded),
        ("bytes to a running engine, all checked", decoded),
        ("all counted anew, as tests do", validated),
        ("copying the bytes", copied),
    ] {
        println!("{what:>46} {:>9} {:>9}", grouped(time.as_millis() as u64), grouped(rate(time)));
    }
    let keep = |unit, value, baseline| Figure { bench: "snapshot", case: &case, unit, value, n: 1, baseline }.keep();
    keep("bytes", size, None);
    keep("pause ms", paused.as_millis() as u64, None);
    keep("write MB/s", rate(written), Some(rate(copied)));
    keep("read MB/s", rate(decoded), Some(rate(copied)));
}

/// CPU time, and what came of it. The wall's time is told where it differs much: then the machine was short of memory.
fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let (started, cpu) = (Instant::now(), cpu_time());
    let made = work();
    let (wall, cpu) = (started.elapsed(), cpu_time() - cpu);
    if wall > 2 * cpu {
        println!("({} ms on the wall clock for {} ms of work)", wall.as_millis(), cpu.as_millis());
    }
    (cpu, made)
}

fn filled(orders: u64, accounts: u64) -> Engine {
    // A seller sells in one symbol.
    let sellers = (0..accounts).map(|user| (user, (user % u64::from(SYMBOLS)) as u16));
    let mut engine = exchange(SYMBOLS, accounts, sellers);
    let mut commands = Commands::new(SYMBOLS, orders as usize);
    let mut events = Vec::new();
    for step in resting(SYMBOLS, accounts, orders, LEVELS, MIDDLE) {
        let (time, command) = commands.make(&step);
        events.clear();
        engine.apply(time, &command, &mut events);
    }
    engine
}
