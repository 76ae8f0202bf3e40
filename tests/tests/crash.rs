//! `kill -9` under load, again and again: whatever was acknowledged is there once, under the numbers it was acknowledged
//! with; nothing is half there; and the state is what a replay from the first command gives.
//!
//! The flows of a round follow from its seed alone, which is printed: `RIALTO_SEED=n` runs the same again. CI runs 20
//! rounds; `RIALTO_CRASH_ROUNDS=300` runs as many as one likes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use gateway::client::Rest;
use hyper::Method;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tests::data_folder;
use tests::exchange::{Exchange, bootstrap, build_folder, credentials, number_from};
use tests::load::{Load, Outcome};
use tests::witness::{Found, Witness, units_of};

const ACCOUNTS: usize = 8;
/// So often the directory is left behind and a new one begun: what is compared would grow without end.
const ROUNDS_ON_ONE_DIRECTORY: u64 = 10;
/// Several snapshots in a round, so that some kills meet one half written.
const SETTINGS: &str = "[journal]\nsnapshot_every_entries = 100\nballast_bytes = 0\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_acknowledged_survives_kill_nine_once_and_nothing_is_half_there() {
    let seed = number_from("RIALTO_SEED").unwrap_or_else(|| rand::random_range(0..1 << 40));
    let rounds = number_from("RIALTO_CRASH_ROUNDS").unwrap_or(20);
    println!("RIALTO_SEED={seed}");
    let mut acknowledged = 0;
    let mut round = 0;
    while round < rounds {
        let mut server = Exchange::with_settings(&bootstrap(ACCOUNTS, "0.0005", "0.001"), SETTINGS, &[]);
        let mut witness = Witness::default();
        for _ in 0..ROUNDS_ON_ONE_DIRECTORY.min(rounds - round) {
            let context = format!("RIALTO_SEED={seed}, round {round}");
            acknowledged += kill_once(&mut server, &mut witness, seed.wrapping_add(round), &context).await;
            round += 1;
        }
        let (orders, trades) = witness.counts();
        println!(
            "round {round}: {acknowledged} acknowledged so far; {orders} orders, {trades} trades in this directory"
        );
    }
    assert!(acknowledged > 50 * rounds, "RIALTO_SEED={seed}: too little was acknowledged: {acknowledged}");
}

/// One round: load, kill, look at what is left, start again, ask. How many requests were acknowledged.
async fn kill_once(server: &mut Exchange, witness: &mut Witness, seed: u64, context: &str) -> u64 {
    let mut random = StdRng::seed_from_u64(seed);
    let load = Load { seed, prefix: format!("{seed}"), sockets: 64, accounts: ACCOUNTS, in_flight: 8 };
    let address = server.address().clone();
    let loading = tokio::spawn(async move { load.run(&address, &Arc::new(AtomicBool::new(false))).await });
    tokio::time::sleep(Duration::from_millis(random.random_range(50..600))).await;
    server.kill();
    let records = loading.await.expect("the load ends with the server");

    // The directory as the kill left it: what the log says, and what a node makes of it.
    let copy = TempDir::new_in(build_folder()).expect("a folder in the build folder");
    let data = copy.path().join("data");
    data_folder::copy(server.data(), &data);
    journal::adopt(&data).unwrap_or_else(|error| panic!("{context}: {error}"));
    witness.follow(&data).unwrap_or_else(|error| panic!("{context}: {error}"));
    let complaints = witness.complaints(&records);
    assert!(
        complaints.is_empty(),
        "{context}: {} complaints:\n{}",
        complaints.len(),
        complaints[..complaints.len().min(5)].join("\n")
    );
    witness.assert_balances(context);
    match witness.compare(&data).await {
        Found::Right => {}
        Found::Refused(what) | Found::HistoryRefused(what) | Found::Wrong(what) => panic!("{context}: {what}"),
    }

    // The server itself, as its clients see it.
    server.restart();
    assert_eq!(server.recovered(), witness.sequence(), "{context}");
    ask(&Rest::new(server.address()), witness, context).await;
    records.iter().filter(|record| matches!(record.outcome, Outcome::Done { .. })).count() as u64
}

/// Whether the API says the same of every account.
async fn ask(rest: &Rest, witness: &Witness, context: &str) {
    for account in 1..=ACCOUNTS {
        let who = credentials(account);
        let answer = rest.signed(Method::GET, "/api/v3/account", &[], &who).await.expect("an answer");
        let found = answer.body["balances"].as_array().unwrap_or_else(|| panic!("{context}: {answer:?}"));
        for ((asset, free, locked), (name, scale)) in
            witness.balances_of(account).into_iter().zip([("BTC", 8), ("USD", 10)])
        {
            let said = found.iter().find(|balance| balance["asset"] == name).expect("an asset that was deposited");
            let said = [&said["free"], &said["locked"]].map(|value| units_of(value, scale));
            assert_eq!(said, [free, locked], "{context}: asset {asset} of account {account}");
        }
        let open = rest.signed(Method::GET, "/api/v3/openOrders", &[], &who).await.expect("an answer");
        let open = open.body.as_array().unwrap_or_else(|| panic!("{context}: {open:?}")).len();
        assert_eq!(open, witness.open_orders_of(account), "{context}: open orders of account {account}");
    }
}
