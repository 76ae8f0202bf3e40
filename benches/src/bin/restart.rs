//! What a start takes on a directory whose snapshot holds so many resting orders and a tenth as many accounts: the steps of
//! the journal, as the server's line says them when it is ready. The directory is made first, through the journal.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use benches::flow::{Commands, founding, resting};
use benches::grouped;
use benches::machine::resident;
use clap::Parser;
use engine::Command;
use journal::{Answer, Node, NodeConfig, Published, SubmitError};
use tokio::sync::oneshot;

const SYMBOLS: u16 = 10;
/// Of each side of each symbol.
const LEVELS: u64 = 20_000;
/// Bids rest below it and asks above.
const MIDDLE: u64 = 1_000_000;
/// Commands that are under way at a time.
const WINDOW: usize = 16_384;

#[derive(Parser)]
struct Arguments {
    /// Where the data goes; it is kept, and used again where it is there
    data: PathBuf,
    /// How many orders rest
    #[arg(long, default_value_t = 10_000_000)]
    orders: u64,
    /// How often it is started
    #[arg(long, default_value_t = 3)]
    starts: usize,
}

#[tokio::main]
async fn main() {
    let Arguments { data, orders, starts } = Arguments::parse();
    if !data.exists() {
        make(&data, orders).await;
    }
    for _ in 0..starts {
        let started = Instant::now();
        let (node, published) = Node::start(config(&data)).await.expect("the directory is whole");
        let readers = std::thread::spawn(move || published.iter().for_each(drop));
        let recovery = node.recovered().await.expect("the log is whole");
        println!("{:.2?}: {recovery}; {} MB in memory", started.elapsed(), grouped(resident() / 1_000_000));
        node.stop().await;
        readers.join().expect("they do not panic");
    }
}

fn config(data: &Path) -> NodeConfig {
    NodeConfig { snapshot_every_entries: u64::MAX, snapshot_every_commands: u64::MAX, ..NodeConfig::new(data) }
}

/// Fills the exchange, has a snapshot written, and stops.
async fn make(data: &Path, orders: u64) {
    let (node, published) = Node::start(config(data)).await.expect("the directory is new");
    let feed = std::thread::spawn(move || published.iter().for_each(answer));
    node.recovered().await.expect("there is nothing in it yet");
    let accounts = orders / 10;
    let sellers = (0..accounts).map(|user| (user, (user % u64::from(SYMBOLS)) as u16));
    let mut commands = Commands::new(SYMBOLS, orders as usize);
    let steps = resting(SYMBOLS, accounts, orders, LEVELS, MIDDLE).map(|step| commands.make(&step).1);
    let mut under_way = VecDeque::new();
    for command in founding(SYMBOLS, accounts, sellers).chain(steps) {
        if under_way.len() == WINDOW {
            wait(under_way.pop_front()).await;
        }
        under_way.push_back(submit(&node, command).await);
    }
    while !under_way.is_empty() {
        wait(under_way.pop_front()).await;
    }
    let started = Instant::now();
    node.write_snapshot().await;
    while node.stats().snapshots == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!(
        "{} orders and {} accounts; the snapshot took {:.2?}",
        grouped(orders),
        grouped(accounts),
        started.elapsed()
    );
    node.stop().await;
    feed.join().expect("it does not panic");
}

async fn submit(node: &Node, command: Command) -> oneshot::Receiver<Answer> {
    loop {
        let (caller, answer) = oneshot::channel();
        match node.sequencer().submit(command.clone(), Some(caller)) {
            Ok(_) => return answer,
            // The door is shut while nothing gets through on a busy machine.
            Err(SubmitError::NoLeader | SubmitError::Busy) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(refused) => panic!("the node does not go on: {refused:?}"),
        }
    }
}

async fn wait(answer: Option<oneshot::Receiver<Answer>>) {
    if let Some(answer) = answer {
        // Where that took too long it is not known what became of it, nor does it matter here.
        let _ = answer.await;
    }
}

fn answer(published: Published) {
    if let Published::Applied { applied, callers, .. } = published {
        for (index, caller) in callers {
            // Whoever waits waits for all.
            let _ = caller.send(Answer { applied: applied.clone(), index, road: None });
        }
    }
}
