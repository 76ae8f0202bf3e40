//! The journal at its boundary: commands go in at the sequencer, what happened comes out published, and a restart gives
//! the same state again.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use engine::command::{
    AddAsset, AmendOrder, CancelOrder, OrderListKind, OrderQuantity, OrderReference, PlaceOrder, PlaceOrderList,
    SpecialTerms, Transfer,
};
use engine::order::{ClientOrderId, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce};
use engine::symbol::SymbolConfig;
use engine::units::{OrderListId, PreventedMatchId};
use engine::{
    Amount, AssetId, Command, Engine, Event, OrderId, Rejection, Sequence, Snapshot, SymbolId, Time, TradeId, Uid,
};
use journal::{
    Answer, Applied, Compensation, Consumer, MarketTrade, Node, NodeConfig, Page, Published, SpaceConfig, StartError,
    SubmitError,
};
use tempfile::TempDir;
use tests::data_folder::written;
use tokio::sync::oneshot;

const SYMBOL: SymbolId = SymbolId(0);
const MAKER: Uid = Uid(1);
const TAKER: Uid = Uid(2);

/// What a feed saw: the restored state, then what was applied.
#[derive(Default)]
struct Seen {
    restored: Vec<Arc<Snapshot>>,
    applied: Vec<Arc<Applied>>,
}

impl Seen {
    fn events(&self) -> Vec<Event> {
        self.applied.iter().flat_map(|applied| applied.events.clone()).collect()
    }

    fn uids_opened(&self) -> BTreeSet<u64> {
        let restored = self.restored.iter().flat_map(|state| state.accounts().map(|account| account.uid.0));
        let opened = self.events().into_iter().filter_map(|event| match event {
            Event::AccountOpened { uid } => Some(uid.0),
            _ => None,
        });
        restored.chain(opened).collect()
    }
}

/// A node with a feed that answers the callers.
struct Running {
    node: Node,
    seen: Arc<Mutex<Seen>>,
    feed: JoinHandle<()>,
    recovered: Sequence,
}

impl Running {
    async fn start(config: NodeConfig) -> Running {
        let (node, published) = Node::start(config).await.unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let feed = {
            let seen = seen.clone();
            std::thread::spawn(move || published.iter().for_each(|published| take(&seen, published)))
        };
        let recovered = node.recovered().await.unwrap().reached;
        Running { node, seen, feed, recovered }
    }

    async fn submit(&self, command: Command) -> Answer {
        let (caller, answer) = oneshot::channel();
        self.node.sequencer().submit(command, Some(caller)).unwrap();
        answer.await.unwrap()
    }

    async fn submit_all(&self, commands: impl IntoIterator<Item = Command>) {
        for command in commands {
            self.submit(command).await;
        }
    }

    async fn stop(self) -> Seen {
        self.node.stop().await;
        self.feed.join().unwrap();
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn take(seen: &Mutex<Seen>, published: Published) {
    match published {
        Published::Restored(restored) => seen.lock().unwrap().restored.push(restored.snapshot),
        Published::Applied { applied, callers, .. } => {
            seen.lock().unwrap().applied.push(applied.clone());
            for (index, caller) in callers {
                let _ = caller.send(Answer { applied: applied.clone(), index, road: None });
            }
        }
    }
}

fn config(folder: &TempDir) -> NodeConfig {
    NodeConfig::new(folder.path().join("data"))
}

fn name(text: impl std::fmt::Display) -> ClientOrderId {
    ClientOrderId::new(&text.to_string()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_submitted_together_share_one_entry() {
    let folder = TempDir::new().unwrap();
    let running = Running::start(config(&folder)).await;
    let (caller, answer) = oneshot::channel();
    running.node.sequencer().submit_together(listing(), Some(caller)).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!((answer.index, answer.applied.len()), (0, listing().len()));
    assert_eq!(answer.sequence(), Sequence(1));
    let seen = running.stop().await;
    assert_eq!(seen.applied.len(), 1);
}

#[test]
fn a_rehearsal_names_the_first_command_that_would_be_refused() {
    assert_eq!(journal::rehearse(&listing()), Ok(()));
    let mut commands = listing();
    commands.insert(3, commands[0].clone());
    assert_eq!(journal::rehearse(&commands), Err((3, engine::Rejection::AlreadyExists)));
}

/// One asset against another, two rich users.
fn listing() -> Vec<Command> {
    let asset = |name: &str| Command::AddAsset(AddAsset { name: name.into(), scale: 2 });
    let deposit = |uid: Uid, asset: u32| {
        let external_id = format!("{uid}-{asset}");
        Command::Deposit(Transfer { uid, asset: AssetId(asset), amount: Amount(1_000_000_000), external_id })
    };
    let symbol = SymbolConfig::plain("ABCXYZ", AssetId(0), AssetId(1), Amount(100), Amount(1));
    let accounts = [MAKER, TAKER].map(|uid| Command::OpenAccount { uid });
    let deposits = [MAKER, TAKER].into_iter().flat_map(|uid| [deposit(uid, 0), deposit(uid, 1)]);
    let listed = [asset("ABC"), asset("XYZ"), Command::AddSymbol(Box::new(symbol))];
    listed.into_iter().chain(accounts).chain(deposits).collect()
}

fn place(uid: Uid, side: Side, price: u128, quantity: u128, client_order_id: &str) -> Command {
    Command::PlaceOrder(terms(uid, side, price, quantity, client_order_id))
}

fn terms(uid: Uid, side: Side, price: u128, quantity: u128, client_order_id: &str) -> PlaceOrder {
    PlaceOrder {
        uid,
        symbol: SYMBOL,
        client_order_id: name(client_order_id),
        side,
        order_type: OrderType::Limit,
        time_in_force: TimeInForce::Gtc,
        price: Amount(price * 100),
        quantity: OrderQuantity::Base(Amount(quantity)),
        self_trade_prevention: None,
        special: None,
    }
}

fn reference(client_order_id: &str) -> OrderReference {
    OrderReference { order_id: None, client_order_id: Some(name(client_order_id)) }
}

fn cancel(uid: Uid, client_order_id: &str) -> Command {
    Command::CancelOrder(CancelOrder {
        uid,
        symbol: SYMBOL,
        order: reference(client_order_id),
        cancel_client_order_id: name("c"),
        restriction: None,
    })
}

/// Orders that rest, trade, are amended and canceled.
fn trading(rounds: u128) -> Vec<Command> {
    let round = |round: u128| {
        let [ask, rest] = ["a", "r"].map(|kind| format!("{kind}{round}"));
        [
            place(MAKER, Side::Sell, 100 + round % 7, 10, &ask),
            place(TAKER, Side::Buy, 103, 4 + round % 3, &format!("b{round}")),
            place(TAKER, Side::Buy, 50, 5, &rest),
            Command::AmendOrder(AmendOrder {
                uid: TAKER,
                symbol: SYMBOL,
                order: reference(&rest),
                new_quantity: Amount(3),
                new_client_order_id: name(format!("m{round}")),
            }),
            cancel(TAKER, &format!("m{round}")),
        ]
    };
    (0..rounds).flat_map(round).collect()
}

/// The state after `commands`, at the times at which they were applied.
fn expected(commands: &[Command], applied: &[Arc<Applied>]) -> Engine {
    let mut engine = Engine::new();
    let mut events = Vec::new();
    let times = applied.iter().flat_map(|applied| std::iter::repeat_n(applied.time, applied.len()));
    for (command, time) in commands.iter().zip(times) {
        engine.apply(time, command, &mut events);
    }
    assert_eq!(engine.sequence().0, commands.len() as u64);
    engine
}

/// The state that the node in `config` restarts with when a snapshot is all it needs.
async fn state_of(config: &NodeConfig) -> Arc<Snapshot> {
    let often = NodeConfig { snapshot_every_entries: 1, ..config.clone() };
    let running = Running::start(often.clone()).await;
    while running.node.stats().snapshots == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.stop().await;
    let running = Running::start(often).await;
    let seen = running.stop().await;
    assert_eq!(seen.events(), []);
    seen.restored[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_restored_state_is_published_first_also_of_an_empty_log() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(config(&folder)).await;
    assert_eq!(running.recovered, Sequence(0));
    let seen = running.stop().await;
    assert_eq!(seen.restored.len(), 1);
    assert_eq!(*seen.restored[0], Engine::new().snapshot());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_from_the_log_alone_gives_the_same_events_and_the_same_state() {
    let folder = tempfile::tempdir().unwrap();
    let commands: Vec<_> = listing().into_iter().chain(trading(20)).collect();
    let running = Running::start(config(&folder)).await;
    running.submit_all(commands.clone()).await;
    let before = running.stop().await;

    let running = Running::start(config(&folder)).await;
    assert_eq!(running.recovered, Sequence(commands.len() as u64));
    let after = running.stop().await;
    assert_eq!(after.restored[0].sequence(), Sequence(0));
    assert_eq!(after.events(), before.events());
    let state = state_of(&config(&folder)).await;
    assert_eq!(state.hash(), expected(&commands, &before.applied).state_hash());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_from_snapshot_and_log_gives_the_same_state() {
    let folder = tempfile::tempdir().unwrap();
    let config = NodeConfig { snapshot_every_entries: 30, log_bytes_kept: 0, ..config(&folder) };
    let commands: Vec<_> = listing().into_iter().chain(trading(40)).collect();
    let running = Running::start(config.clone()).await;
    let mut snapshots = 0;
    for commands in commands.chunks(40) {
        for command in commands {
            running.submit(command.clone()).await;
        }
        // More entries than a snapshot waits for.
        while commands.len() == 40 && running.node.stats().snapshots <= snapshots {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        snapshots = running.node.stats().snapshots;
    }
    assert!(snapshots >= 4, "{:?}", running.node.stats());
    let before = running.stop().await;
    let kept = fs::read_dir(config.data.join("snapshots")).unwrap().count();
    assert_eq!(kept, 3);

    let running = Running::start(config.clone()).await;
    assert_eq!(running.recovered, Sequence(commands.len() as u64));
    let after = running.stop().await;
    let restored = after.restored[0].sequence().0 as usize;
    assert!(restored >= 120, "{restored}");
    let skipped: Vec<_> = before.applied.iter().filter(|applied| applied.last_sequence().0 > restored as u64).collect();
    assert_eq!(after.applied.len(), skipped.len());
    let state = state_of(&config).await;
    assert_eq!(state.hash(), expected(&commands, &before.applied).state_hash());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_gives_way_to_an_older_one_and_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let config = NodeConfig { snapshot_every_entries: 30, ..config(&folder) };
    let commands: Vec<_> = listing().into_iter().chain(trading(40)).collect();
    let running = Running::start(config.clone()).await;
    for command in &commands {
        running.submit(command.clone()).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = running.stop().await;
    let mut snapshots: Vec<_> =
        fs::read_dir(config.data.join("snapshots")).unwrap().map(|entry| entry.unwrap().path()).collect();
    snapshots.sort();
    flip_bit_in_the_middle(&snapshots[2]);
    flip_bit_in_the_middle(&snapshots[1]);

    let running = Running::start(config.clone()).await;
    assert_eq!(running.recovered, Sequence(commands.len() as u64));
    running.stop().await;
    let state = state_of(&config).await;
    assert_eq!(state.hash(), expected(&commands, &before.applied).state_hash());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commands_at_once_are_laid_into_few_entries_and_each_is_answered_with_its_own_events() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(config(&folder)).await;
    let sequencer = running.node.sequencer();
    let answers: Vec<_> = (1..=10_000)
        .map(|uid| {
            let (caller, answer) = oneshot::channel();
            sequencer.submit(Command::OpenAccount { uid: Uid(uid) }, Some(caller)).unwrap();
            (uid, answer)
        })
        .collect();
    for (uid, answer) in answers {
        let answer = answer.await.unwrap();
        assert_eq!(answer.events(), [Event::AccountOpened { uid: Uid(uid) }]);
        assert_eq!(answer.sequence(), Sequence(uid));
    }
    let seen = running.stop().await;
    assert!(seen.applied.len() < 1_000, "{} entries", seen.applied.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_and_sequence_never_go_back_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = (Sequence(0), Time(0));
    for round in 0..3 {
        let running = Running::start(config(&folder)).await;
        for number in 0..5 {
            let answer = running.submit(Command::OpenAccount { uid: Uid(10 * round + number + 1) }).await;
            let next = (answer.sequence(), answer.applied.time);
            assert!(next.0.0 == last.0.0 + 1 && next.1 >= last.1, "{last:?} then {next:?}");
            last = next;
        }
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_at_the_door() {
    let folder = tempfile::tempdir().unwrap();
    let small = NodeConfig { queue_commands: 4, entry_commands_max: 1, published_capacity: 1, ..config(&folder) };
    let (node, published) = Node::start(small).await.unwrap();
    assert_eq!(node.sequencer().submit(listing()[0].clone(), None), Err(SubmitError::NoLeader));
    assert!(matches!(published.recv().unwrap(), Published::Restored(_)));
    node.recovered().await.unwrap();

    // Nobody drains the feed: all the queues fill up, and then the door refuses.
    let mut taken = 0;
    let refused = loop {
        match node.sequencer().submit(listing()[0].clone(), None) {
            Ok(_) => taken += 1,
            Err(SubmitError::Busy) if taken < 5 => tokio::task::yield_now().await,
            Err(error) => break error,
        }
        assert!(taken < 1_000, "{taken} commands taken without an end");
    };
    assert_eq!(refused, SubmitError::Busy);

    let drain = std::thread::spawn(move || published.iter().count());
    let sequencer = node.sequencer();
    node.stop().await;
    assert!(drain.join().unwrap() >= 1);
    assert_eq!(sequencer.submit(listing()[0].clone(), None), Err(SubmitError::Stopping));
}

/// Takes what is published, and says on which thread it took what had a caller.
struct Witness(Arc<Mutex<Seen>>, Arc<Mutex<Vec<String>>>);

impl Consumer<Published> for Witness {
    fn consume(&mut self, published: Published) -> bool {
        if matches!(&published, Published::Applied { callers, .. } if !callers.is_empty()) {
            self.1.lock().unwrap().push(std::thread::current().name().unwrap_or_default().to_owned());
        }
        take(&self.0, published);
        true
    }

    fn is_quick(&self, _: &Published) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lone_commands_wake_no_thread_on_their_way_and_large_entries_do() {
    let folder = tempfile::tempdir().unwrap();
    let (node, published) = Node::start(config(&folder)).await.unwrap();
    let (seen, threads) = (Arc::default(), Arc::<Mutex<Vec<String>>>::default());
    let witness = Witness(seen, threads.clone());
    let feed = std::thread::Builder::new().name("feed".into()).spawn(move || published.serve(witness)).unwrap();
    node.recovered().await.unwrap();
    let ask = async |commands: Vec<Command>| {
        let (caller, answer) = oneshot::channel();
        node.sequencer().submit_together(commands, Some(caller)).unwrap();
        answer.await.unwrap();
        threads.lock().unwrap().pop().unwrap()
    };
    // Now and then a thread is still awake.
    let mut alone = Vec::new();
    for number in 1..=100 {
        alone.push(ask(vec![Command::OpenAccount { uid: Uid(number) }]).await);
    }
    assert!(alone.iter().filter(|thread| *thread == "node").count() > 50, "{alone:?}");
    let many = (1_000..2_000).map(|number| Command::OpenAccount { uid: Uid(number) }).collect();
    assert_ne!(ask(many).await, "node");
    node.stop().await;
    feed.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_on_the_directory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(config(&folder)).await;
    let error = Node::start(config(&folder)).await.err().unwrap();
    assert!(matches!(error, StartError::Locked(_)), "{error}");
    running.stop().await;
    Running::start(config(&folder)).await.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_directory_is_refused_until_it_is_adopted() {
    let folder = tempfile::tempdir().unwrap();
    let (image, commands) = crash_image(&folder).await;
    let error = Node::start(NodeConfig::new(&image)).await.err().unwrap();
    assert!(matches!(error, StartError::Copied(_)), "{error}");
    journal::adopt(&image).unwrap();
    let running = Running::start(NodeConfig::new(&image)).await;
    assert_eq!(running.recovered, Sequence(commands));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_little_room_on_the_disk_only_cancels_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(config(&folder)).await;
    running.submit_all(listing()).await;
    running.submit(place(MAKER, Side::Sell, 100, 10, "resting")).await;
    running.stop().await;

    let space = SpaceConfig { low_bytes: u64::MAX, ballast_bytes: 0 };
    let running = Running::start(NodeConfig { space, ..config(&folder) }).await;
    while !running.node.stats().is_space_low {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let refused = running.node.sequencer().submit(place(MAKER, Side::Sell, 100, 10, "another"), None);
    assert_eq!(refused, Err(SubmitError::NoSpace));
    let answer = running.submit(cancel(MAKER, "resting")).await;
    assert!(matches!(answer.events()[0], Event::OrderCanceled { .. }), "{:?}", answer.events());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_finds_no_room_waits_and_neither_stops_the_node_nor_holds_up_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(config(&folder)).await;
    running.submit_all(listing()).await;
    let names = || (0..30).map(|number| format!("o{number}"));
    for name in names() {
        running.submit(place(MAKER, Side::Sell, 100, 10, &name)).await;
    }
    running.stop().await;

    // The room that must stay free is more than any disk has.
    let space = SpaceConfig { low_bytes: u64::MAX, ballast_bytes: 0 };
    let full = NodeConfig { space, snapshot_every_entries: 5, ..config(&folder) };
    let running = Running::start(full).await;
    for name in names() {
        let answer = running.submit(cancel(MAKER, &name)).await;
        assert!(matches!(answer.events()[0], Event::OrderCanceled { .. }), "{:?}", answer.events());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(running.node.stats().snapshots, 0);
    let applied = running.node.stats().applied_sequence;
    running.stop().await;

    let running = Running::start(NodeConfig { snapshot_every_entries: 5, ..config(&folder) }).await;
    assert_eq!(running.recovered, Sequence(applied));
    while running.node.stats().snapshots == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_panics_the_engine_is_named_and_passed_over_once_an_operator_rules_so() {
    let folder = tempfile::tempdir().unwrap();
    let commands: Vec<_> = listing().into_iter().chain(trading(10)).collect();
    let poison = Sequence(listing().len() as u64 + 7);
    let drill = NodeConfig { drill_poison: Some(poison), ..config(&folder) };

    let (node, published) = Node::start(drill.clone()).await.unwrap();
    let drain = std::thread::spawn(move || published.iter().count());
    node.recovered().await.unwrap();
    for command in &commands {
        let _ = node.sequencer().submit(command.clone(), None);
    }
    let reason = node.failed().await;
    assert!(reason.contains(&format!("compensate --sequence {poison}")), "{reason}");
    node.stop().await;
    drain.join().unwrap();

    let (node, published) = Node::start(drill.clone()).await.unwrap();
    let drain = std::thread::spawn(move || published.iter().count());
    let error = node.recovered().await.unwrap_err().to_string();
    assert!(error.contains(&format!("compensate --sequence {poison}")), "{error}");
    node.stop().await;
    drain.join().unwrap();

    let ruling = |sequence, reason: &str| {
        let ruling = Compensation { sequence, time: Time(1), operator: "anna".into(), reason: reason.into() };
        journal::compensate(&drill.data, ruling).map_err(|error| error.to_string())
    };
    assert!(ruling(Sequence(1_000), "beyond").unwrap_err().contains("is not in the log"));
    assert!(ruling(poison, " ").unwrap_err().contains("a reason"));
    ruling(poison, "it panics").unwrap();

    // The ruling holds also once the engine is mended, so that all replays agree.
    let running = Running::start(drill.clone()).await;
    assert_eq!(running.recovered, Sequence(commands.len() as u64));
    let first = running.stop().await;
    let running = Running::start(config(&folder)).await;
    let second = running.stop().await;
    assert_eq!(first.events(), second.events());
    let passed_over: Vec<_> = first
        .applied
        .iter()
        .flat_map(|applied| (0..applied.len()).map(|index| (applied.sequence(index), applied.events_of(index))))
        .filter(|(_, events)| *events == [Event::Rejected(Rejection::Compensated)])
        .map(|(sequence, _)| sequence)
        .collect();
    assert_eq!(passed_over, [poison]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_the_log_before_the_snapshot_is_reported_and_does_not_stop_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let config = NodeConfig { snapshot_every_entries: 30, ..config(&folder) };
    let running = Running::start(config.clone()).await;
    for command in listing().into_iter().chain(trading(20)) {
        running.submit(command).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let recovered = running.node.stats().applied_sequence;
    running.stop().await;
    overwrite_log_entry(&config.data, 5);

    let running = Running::start(config).await;
    assert_eq!(running.recovered, Sequence(recovered));
    while running.node.stats().log_damaged == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_node_whose_snapshots_vanish_writes_one_of_its_own_state() {
    let folder = tempfile::tempdir().unwrap();
    let config = NodeConfig { snapshot_every_entries: 30, log_bytes_kept: 0, ..config(&folder) };
    let commands: Vec<_> = listing().into_iter().chain(trading(40)).collect();
    let running = Running::start(config.clone()).await;
    let (first, rest) = commands.split_at(150);
    for command in first {
        running.submit(command.clone()).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Until none is under way: it would miss its own file.
    let mut written = 0;
    while written < 4 || running.node.stats().snapshots != written {
        written = running.node.stats().snapshots;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for entry in fs::read_dir(config.data.join("snapshots")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for command in rest {
        running.submit(command.clone()).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while running.node.stats().snapshots == written {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = running.stop().await;
    let running = Running::start(config.clone()).await;
    assert_eq!(running.recovered, Sequence(commands.len() as u64));
    running.stop().await;
    let state = state_of(&config).await;
    assert_eq!(state.hash(), expected(&commands, &before.applied).state_hash());
}

/// Puts something else where the log has an entry.
fn overwrite_log_entry(data: &Path, index: u64) {
    let families = ["log", "meta", "history"];
    let database = rocksdb::DB::open_cf(&rocksdb::Options::default(), data.join("db"), families).unwrap();
    database.put_cf(database.cf_handle("log").unwrap(), index.to_be_bytes(), b"not an entry").unwrap();
}

fn flip_bit_in_the_middle(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// A data directory as a crash would leave it, with commands in RocksDB's write-ahead log; how many commands.
async fn crash_image(folder: &TempDir) -> (PathBuf, u64) {
    let running = Running::start(config(folder)).await;
    let commands: Vec<_> = listing().into_iter().chain(trading(20)).collect();
    running.submit_all(commands.clone()).await;
    // The mark of what is durable follows within 100 ms.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let image = folder.path().join("image");
    copy(&config(folder).data, &image);
    running.stop().await;
    (image, commands.len() as u64)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            drop(fs::copy(entry.path(), target))
        }
    }
}

/// RocksDB's write-ahead log, the one that commands are in.
fn write_ahead_log(data: &Path) -> PathBuf {
    let files = fs::read_dir(data.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.max_by_key(|path| written(path)).unwrap()
}

/// Starts a node on a copy of `image` whose write-ahead log was changed by `damage`: the recovered sequence, or the error.
async fn start_damaged(image: &Path, damage: impl FnOnce(&mut Vec<u8>)) -> Result<u64, StartError> {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    copy(image, &data);
    journal::adopt(&data).unwrap();
    let log = write_ahead_log(&data);
    let mut bytes = fs::read(&log).unwrap();
    damage(&mut bytes);
    fs::write(&log, bytes).unwrap();
    let (node, published) = Node::start(NodeConfig::new(data)).await?;
    let drain = std::thread::spawn(move || published.iter().count());
    let recovered = node.recovered().await;
    node.stop().await;
    drain.join().unwrap();
    recovered.map(|recovery| recovery.reached.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_anywhere_in_the_write_ahead_log_is_found_and_named_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let (image, commands) = crash_image(&folder).await;
    assert_eq!(start_damaged(&image, |_| {}).await.unwrap(), commands);
    let length = written(&write_ahead_log(&image)) as usize;
    let mut named = 0;
    for step in 0..60 {
        let position = step * length / 60;
        match start_damaged(&image, |bytes| bytes[position] ^= 1 << (step % 8)).await {
            Ok(recovered) => assert_eq!(recovered, commands, "lost in silence: byte {position}"),
            Err(error) => {
                assert!(matches!(error, StartError::Damaged { .. }), "byte {position}: {error}");
                assert!(error.to_string().contains("data/db/"), "{error}");
                named += 1;
            }
        }
    }
    assert!(named > 50, "{named} of 60 found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_ahead_log_cut_below_what_was_durable_is_damage_not_a_torn_tail() {
    let folder = tempfile::tempdir().unwrap();
    let (image, _) = crash_image(&folder).await;
    let length = written(&write_ahead_log(&image)) as usize;
    for step in 0..20 {
        let error = start_damaged(&image, |bytes| bytes.truncate(length - 1 - step * length / 20)).await.unwrap_err();
        assert!(matches!(error, StartError::Damaged { .. }), "cut {step}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_knows_orders_and_trades_by_id_name_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(config(&folder)).await;
    running.submit_all(listing()).await;
    let mut created = Vec::new();
    for number in 1..=10 {
        let answer = running.submit(place(MAKER, Side::Sell, 100 + number, 10, &format!("ask-{number}"))).await;
        created.push(answer.applied.time);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let sweep = running.submit(place(TAKER, Side::Buy, 104, 35, "sweep")).await;
    let last = running.submit(cancel(MAKER, "ask-9")).await;

    let history = running.node.history();
    history.wait_for(last.sequence()).await.unwrap();
    assert_eq!(history.watermark(), last.sequence());
    let ids = |uid: Uid, page: Page, limit: usize| -> Vec<u64> {
        history.orders(uid, SYMBOL, page, limit).unwrap().iter().map(|known| known.order.order_id.0).collect()
    };
    assert_eq!(ids(MAKER, Page::Latest { until: None }, 3), [8, 9, 10]);
    assert_eq!(ids(MAKER, Page::Latest { until: Some(created[4]) }, 3), [3, 4, 5]);
    assert_eq!(ids(MAKER, Page::FromId(4), 2), [4, 5]);
    assert_eq!(ids(MAKER, Page::FromTime { start: created[2], end: Some(created[4]) }, 9), [3, 4, 5]);
    assert!(ids(MAKER, Page::FromTime { start: Time(created[9].0 + 1), end: None }, 9).is_empty());
    assert!(ids(MAKER, Page::Latest { until: Some(Time(0)) }, 3).is_empty());
    assert!(ids(Uid(9), Page::Latest { until: None }, 3).is_empty());

    let known = |id: u64| {
        let uid = if id == 11 { TAKER } else { MAKER };
        history.order(uid, SYMBOL, OrderId(id)).unwrap().unwrap()
    };
    let order = |id: u64| known(id).order;
    assert_eq!(order(3).status, OrderStatus::Filled);
    assert_eq!((order(4).status, order(4).executed.0), (OrderStatus::PartiallyFilled, 5));
    assert_eq!(order(9).status, OrderStatus::Canceled);
    assert_eq!(order(11).status, OrderStatus::Filled);
    assert_eq!(order(11).updated_at, sweep.applied.time);
    assert_eq!(history.order(MAKER, SYMBOL, OrderId(12)).unwrap(), None);
    assert_eq!(history.order(TAKER, SYMBOL, OrderId(3)).unwrap(), None, "it is another's");
    let named = |uid: Uid, text: &str| history.order_by_client_id(SYMBOL, uid, &name(text)).unwrap();
    assert_eq!(named(MAKER, "ask-9"), Some(known(9)));
    assert_eq!(named(TAKER, "ask-9"), None);

    let all = Page::FromId(0);
    let market = history.trades(SYMBOL, all, 10).unwrap();
    assert_eq!(market.iter().map(|trade| trade.trade.trade_id.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(market.iter().all(|trade| trade.sequence == sweep.sequence() && trade.time == sweep.applied.time));
    assert_eq!(history.trades(SYMBOL, Page::Latest { until: None }, 1).unwrap(), market[3..]);
    let of = |uid: Uid, order: Option<u64>| -> Vec<(u64, bool)> {
        let found = history.account_trades(uid, SYMBOL, order.map(OrderId), all, 10).unwrap();
        found.iter().map(|trade| (trade.trade.trade_id.0, trade.is_maker)).collect()
    };
    assert_eq!(of(MAKER, None), [(1, true), (2, true), (3, true), (4, true)]);
    assert_eq!(of(MAKER, Some(2)), [(2, true)]);
    assert_eq!(of(TAKER, Some(11)), [(1, false), (2, false), (3, false), (4, false)]);
    assert_eq!(of(TAKER, Some(3)), []);
    let mut scanned = Vec::new();
    let scan = |trade: Result<MarketTrade, _>| trade.map(|trade| scanned.push(trade.trade.trade_id.0));
    history.candles(SYMBOL, |reader| reader.trades(TradeId(3)).try_for_each(scan)).unwrap();
    assert_eq!(scanned, [3, 4]);

    let lag = history.wait_for(Sequence(last.sequence().0 + 1)).await.unwrap_err();
    assert_eq!(lag.watermark, last.sequence());
    running.stop().await;
    assert!(history.order(MAKER, SYMBOL, OrderId(1)).is_err(), "a reader does not keep the database open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trade_with_oneself_is_in_history_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(config(&folder)).await;
    running.submit_all(listing()).await;
    running.submit(place(MAKER, Side::Sell, 100, 10, "s")).await;
    let last = running.submit(place(MAKER, Side::Buy, 100, 10, "b")).await;
    let history = running.node.history();
    history.wait_for(last.sequence()).await.unwrap();
    let trades = history.account_trades(MAKER, SYMBOL, None, Page::FromId(1), 10).unwrap();
    assert_eq!(trades.iter().map(|trade| trade.is_maker).collect::<Vec<_>>(), [false, true]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_amendments_and_prevented_matches_are_in_history_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = || NodeConfig { snapshot_every_entries: 4, ..config(&folder) };
    let running = Running::start(config()).await;
    running.submit_all(listing()).await;
    running.submit(place(MAKER, Side::Sell, 110, 10, "ask")).await;
    let mode = Some(SelfTradePrevention::ExpireTaker);
    let own = PlaceOrder { self_trade_prevention: mode, ..terms(MAKER, Side::Buy, 110, 10, "own") };
    let prevented = running.submit(Command::PlaceOrder(own)).await;
    let amend = |quantity, to: &str| {
        let order = OrderReference { order_id: Some(OrderId(1)), client_order_id: None };
        let (new_quantity, new_client_order_id) = (Amount(quantity), name(to));
        Command::AmendOrder(AmendOrder { uid: MAKER, symbol: SYMBOL, order, new_quantity, new_client_order_id })
    };
    let amended = running.submit(amend(8, "less")).await;
    let order = OrderReference { order_id: Some(OrderId(1)), client_order_id: None };
    running.submit(Command::ReduceOrder { uid: MAKER, symbol: SYMBOL, order, by: Amount(1) }).await;
    running.submit(amend(6, "less")).await;
    let pair = |text: &str| {
        let above = terms(MAKER, Side::Sell, 120, 5, &format!("{text}-above"));
        let above = PlaceOrder { order_type: OrderType::LimitMaker, ..above };
        let stop = SpecialTerms { stop_price: Some(Amount(9_000)), ..SpecialTerms::default() };
        let below = terms(MAKER, Side::Sell, 0, 5, &format!("{text}-below"));
        let below = PlaceOrder { order_type: OrderType::StopLoss, special: Some(Box::new(stop)), ..below };
        Command::PlaceOrderList(Box::new(PlaceOrderList {
            uid: MAKER,
            symbol: SYMBOL,
            list_client_order_id: name(text),
            kind: OrderListKind::OneCancelsOther,
            orders: vec![above, below],
        }))
    };
    let first = running.submit(pair("first")).await.applied.time;
    tokio::time::sleep(Duration::from_millis(2)).await;
    let second = running.submit(pair("second")).await.applied.time;
    let last = running.submit(cancel(MAKER, "first-above")).await;

    let mut running = running;
    for _ in 0..2 {
        let history = running.node.history();
        history.wait_for(last.sequence()).await.unwrap();
        let matches = history.prevented_matches(MAKER, SYMBOL, OrderId(2), Page::FromId(0), 9).unwrap();
        assert_eq!(matches.len(), 1);
        assert_eq!(matches[0].time, prevented.applied.time);
        assert_eq!(history.prevented_match(SYMBOL, PreventedMatchId(1)).unwrap().as_ref(), matches.first());
        assert_eq!(history.prevented_matches(MAKER, SYMBOL, OrderId(1), Page::FromId(0), 9).unwrap(), matches);
        assert_eq!(history.prevented_matches(TAKER, SYMBOL, OrderId(1), Page::FromId(0), 9).unwrap(), []);
        let expired = history.order(MAKER, SYMBOL, OrderId(2)).unwrap().unwrap();
        assert_eq!(
            (expired.order.status, expired.prevented_match),
            (OrderStatus::ExpiredInMatch, Some(PreventedMatchId(1)))
        );

        let amendments = history.amendments(SYMBOL, OrderId(1), Page::FromId(0), 9).unwrap();
        let quantities: Vec<_> = amendments.iter().map(|row| (row.previous_quantity.0, row.quantity.0)).collect();
        assert_eq!(quantities, [(10, 8), (7, 6)], "what a reduce took is no amendment");
        assert_eq!(amendments[0].execution_id, journal::execution_id(amended.sequence(), 0));

        let lists = |page| -> Vec<String> {
            let found = history.order_lists(MAKER, page, 9).unwrap();
            found.iter().map(|list| format!("{} {:?}", list.list.list_client_order_id, list.list.status)).collect()
        };
        let both = ["first AllDone", "second ExecutionStarted"];
        assert_eq!(lists(Page::FromId(0)), both);
        assert_eq!(lists(Page::Latest { until: None }), both);
        assert_eq!(lists(Page::FromTime { start: first, end: Some(Time(second.0 - 1)) }), both[..1]);
        assert_eq!(lists(Page::Latest { until: Some(second) }), both);
        let number = journal::list_number(SYMBOL, OrderListId(2));
        assert_eq!(lists(Page::FromId(number)), both[1..]);
        let named = history.order_list_by_name(MAKER, &name("second")).unwrap();
        assert_eq!(named, history.order_list(MAKER, number).unwrap());
        assert_eq!(history.order_list(TAKER, number).unwrap(), None);
        running.stop().await;
        running = Running::start(config()).await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_is_met_without_any_other_command() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(config(&folder)).await;
    running.submit_all(listing()).await;
    running.submit(place(MAKER, Side::Sell, 110, 10, "ask")).await;
    running.submit(Command::SetCountdown { uid: MAKER, symbol: SYMBOL, milliseconds: 300 }).await;
    // It is kept over a restart.
    running.stop().await;
    let running = Running::start(config(&folder)).await;
    let canceled = |seen: &Seen| seen.events().iter().any(|event| matches!(event, Event::OrderCanceled { .. }));
    for _ in 0..200 {
        if canceled(&running.seen.lock().unwrap()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let entries = running.node.stats().log_entries;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(running.node.stats().log_entries, entries, "nobody ticks when nothing is due");
    assert!(canceled(&running.stop().await));
}

/// Not a test of its own: `acknowledged_commands_survive_kill_9` runs it as a process to kill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_acknowledges_until_it_is_killed() {
    let Ok(data) = std::env::var("RIALTO_TEST_CHILD_DATA") else { return };
    let running = Running::start(NodeConfig { snapshot_every_entries: 50, ..NodeConfig::new(data) }).await;
    if running.recovered == Sequence(0) {
        running.submit_all(listing()).await;
    }
    let first = running.node.stats().applied_sequence;
    for number in first.. {
        // Four at once, so that entries hold several.
        let opened: Vec<_> =
            (0..4).map(|k| running.submit(Command::OpenAccount { uid: Uid(10 * number + k) })).collect();
        for (k, opened) in opened.into_iter().enumerate() {
            opened.await;
            println!("acknowledged {}", 10 * number + k as u64);
        }
        running.submit(place(MAKER, Side::Sell, 100, 1, &format!("s{number}"))).await;
        running.submit(place(TAKER, Side::Buy, 100, 1, &format!("b{number}"))).await;
        println!("traded {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_commands_survive_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut acknowledged = BTreeSet::new();
    let mut traded = Vec::new();
    for _ in 0..3 {
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args(["child_that_acknowledges_until_it_is_killed", "--exact", "--nocapture"])
            .env("RIALTO_TEST_CHILD_DATA", &data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.map_while(Result::ok).filter(|line| !line.is_empty()).take(600) {
            match line.split_once(' ') {
                Some(("acknowledged", uid)) => drop(acknowledged.insert(uid.parse::<u64>().unwrap())),
                Some(("traded", number)) => traded.push(number.to_owned()),
                _ => {}
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(acknowledged.len() > 900, "{}", acknowledged.len());

    let running = Running::start(NodeConfig::new(&data)).await;
    let history = running.node.history();
    history.wait_for(running.recovered).await.unwrap();
    assert_eq!(history.watermark(), running.recovered);
    for number in &traded {
        let known = history.order_by_client_id(SYMBOL, TAKER, &name(format!("b{number}"))).unwrap().unwrap();
        assert_eq!(known.order.status, OrderStatus::Filled, "{number}");
    }
    let mut trades = 0;
    let mut count = |trade: MarketTrade| {
        trades += 1;
        assert_eq!(trade.trade.trade_id.0, trades);
    };
    history.candles(SYMBOL, |reader| reader.trades(TradeId(1)).try_for_each(|trade| trade.map(&mut count))).unwrap();
    assert!(trades >= traded.len() as u64);
    // Only a node that has stopped has told its feed all.
    let opened = running.stop().await.uids_opened();
    let lost: Vec<_> = acknowledged.difference(&opened).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

/// Not a test of its own: `a_disk_that_refuses_stops_the_node_and_loses_nothing_acknowledged` runs it with a bound on the
/// size of files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_acknowledges_until_its_disk_refuses() {
    let Ok(data) = std::env::var("RIALTO_TEST_FULL_DISK_DATA") else { return };
    let running = Running::start(NodeConfig::new(data)).await;
    for uid in 1.. {
        let (caller, answer) = oneshot::channel();
        let taken = running.node.sequencer().submit(Command::OpenAccount { uid: Uid(uid) }, Some(caller));
        if taken.is_err() || answer.await.is_err() {
            break;
        }
        println!("acknowledged {uid}");
    }
    println!("failed {}", running.node.failed().await);
    assert!(running.node.sequencer().submit(Command::OpenAccount { uid: Uid(1) }, None).is_err());
    // What is in flight is answered by silence, and stopping still works.
    running.node.stop().await;
    println!("stopped now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_refuses_stops_the_node_and_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let limited = "trap '' XFSZ; ulimit -f 400; exec \"$0\" \"$@\"";
    let child = Process::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .args(["child_that_acknowledges_until_its_disk_refuses", "--exact", "--nocapture"])
        .env("RIALTO_TEST_FULL_DISK_DATA", &data)
        .output()
        .unwrap();
    let output = String::from_utf8(child.stdout).unwrap();
    let said =
        |word: &str| output.lines().filter_map(|line| line.split_once(' ')).filter(|(first, _)| *first == word).count();
    assert!(said("acknowledged") > 100, "{output}");
    assert!(output.contains("failed the log in"), "{output}");
    assert_eq!(said("stopped"), 1, "{output}");

    let running = Running::start(NodeConfig::new(&data)).await;
    assert!(running.recovered >= Sequence(said("acknowledged") as u64));
    running.stop().await;
}
