//! Whether what clients see, by whichever node and through whatever befalls the nodes, could have been one exchange doing one
//! thing at a time. The checker is that of the crate todc-utils (Wing and Gong, with Lowe's memory).
//!
//! `RIALTO_SEED=n` decides what clients ask and what befalls the nodes, `RIALTO_HISTORY_SECONDS=n` how long it goes on.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use tests::exchange::{Exchange, number_from};
use tests::linearizability::{Call, Recorder, Size, bootstrap, check, falsified, is_linearizable};

const BOOKS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_is_linearizable_and_the_checker_notices_when_an_answer_is_not() {
    let seed = seed();
    let server = Exchange::start(&bootstrap(BOOKS), &[]);
    let recorder = Recorder::start(&[server.address().clone()], BOOKS, seed, Duration::from_millis(10));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let histories = recorder.finish().await;
    check_all(&histories, seed);
    let mut random = StdRng::seed_from_u64(seed);
    for calls in &histories {
        let (what, false_calls) = falsified(calls, &mut random).expect("something was answered");
        assert!(!is_linearizable(&false_calls), "RIALTO_SEED={seed}: nobody noticed that {what}");
    }
}

fn seed() -> u64 {
    let seed = number_from("RIALTO_SEED").unwrap_or_else(|| rand::random_range(0..1 << 40));
    println!("RIALTO_SEED={seed}");
    seed
}

/// Checks the history of every book, and says how large they were.
fn check_all(histories: &[Vec<Call>], seed: u64) {
    println!("| book | calls | outcome unknown | orders that traded | reads | under way at once | checked in |");
    println!("|--:|--:|--:|--:|--:|--:|--:|");
    for (book, calls) in histories.iter().enumerate() {
        let started = Instant::now();
        let checked = check(calls);
        let Size { calls, unknown, trading, reads, concurrent } = Size::of(calls);
        let took = started.elapsed();
        println!("| {book} | {calls} | {unknown} | {trading} | {reads} | {concurrent} | {took:.1?} |");
        checked.unwrap_or_else(|error| panic!("RIALTO_SEED={seed}: book {book}: {error}"));
        assert!(trading > 0 && reads > 0 && concurrent > 1, "RIALTO_SEED={seed}: book {book} saw too little");
    }
}
