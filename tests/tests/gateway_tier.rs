//! Gateways without a disk in front of real nodes: what clients see there is what they would see at a node, whatever befalls
//! nodes and gateways.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tests::clients::{Clients, Manner, Told};
use tests::cluster::{Cluster, check_logs};
use tests::exchange::{bootstrap, credentials, number_from};
use tests::gateways::Gateway;
use tests::load::{Load, SYMBOL};
use tests::socket::Socket;
use tests::subscriber::keep_book;

const ACCOUNTS: usize = 8;
/// Snapshots are taken often, so that gateways begin with one.
const SETTINGS: &str =
    "[journal]\nballast_bytes = 0\nlow_space_bytes = 0\nsnapshot_every_entries = 50\nlog_bytes_kept = 100000000000\n";
const ALL: [u64; 3] = [1, 2, 3];

fn start(nodes: usize) -> Cluster {
    Cluster::start(nodes, &bootstrap(ACCOUNTS, "0.0005", "0.001"), SETTINGS)
}

fn seed() -> u64 {
    let seed = number_from("RIALTO_SEED").unwrap_or_else(|| rand::random_range(0..1 << 40));
    println!("RIALTO_SEED={seed}");
    seed
}

fn order(side: &str, price: &str) -> Vec<(&'static str, String)> {
    let terms = [
        ("symbol", SYMBOL),
        ("side", side),
        ("type", "LIMIT"),
        ("timeInForce", "GTC"),
        ("quantity", "1"),
        ("price", price),
    ];
    terms.map(|(name, value)| (name, value.to_owned())).to_vec()
}

async fn place(gateway: &Gateway, account: usize, side: &str, price: &str) -> Value {
    let terms = order(side, price);
    let terms: Vec<(&str, &str)> = terms.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = gateway.rest().signed(Method::POST, "/api/v3/order", &terms, &credentials(account)).await.unwrap();
    assert!(answer.is_success(), "{answer:?}");
    answer.body
}

/// A path, whether it is signed, and parameters.
type Question = (&'static str, bool, &'static [(&'static str, &'static str)]);

/// What both are asked, and must tell alike.
const QUESTIONS: [Question; 11] = [
    ("/api/v3/exchangeInfo", false, &[]),
    ("/api/v3/depth", false, &[("symbol", SYMBOL)]),
    ("/api/v3/trades", false, &[("symbol", SYMBOL)]),
    ("/api/v3/historicalTrades", false, &[("symbol", SYMBOL), ("fromId", "1"), ("limit", "7")]),
    ("/api/v3/aggTrades", false, &[("symbol", SYMBOL), ("fromId", "1")]),
    ("/api/v3/klines", false, &[("symbol", SYMBOL), ("interval", "1m"), ("startTime", "0")]),
    ("/api/v3/account", true, &[]),
    ("/api/v3/openOrders", true, &[("symbol", SYMBOL)]),
    ("/api/v3/allOrders", true, &[("symbol", SYMBOL)]),
    ("/api/v3/allOrders", true, &[("symbol", SYMBOL), ("startTime", "1"), ("limit", "3")]),
    ("/api/v3/myTrades", true, &[("symbol", SYMBOL), ("limit", "5")]),
];

/// Asks the gateway and a node the same; what they tell must be the same.
async fn told_alike(cluster: &Cluster, node: u64, gateway: &Gateway) {
    let (there, here) = (
        gateway::client::Rest::linearizable(&cluster.address(node)),
        gateway::client::Rest::linearizable(gateway.address()),
    );
    for (path, is_signed, parameters) in QUESTIONS {
        for account in [1, 2] {
            let who = credentials(account);
            let ask = async |rest: &gateway::client::Rest| {
                let answer = match is_signed {
                    true => rest.signed(Method::GET, path, parameters, &who).await,
                    false => rest.get(path, parameters).await,
                };
                let mut answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
                assert!(answer.is_success(), "{path}: {answer:?}; {}", gateway.said());
                if let Some(fields) = answer.body.as_object_mut() {
                    fields.remove("serverTime");
                }
                answer.body
            };
            assert_eq!(ask(&here).await, ask(&there).await, "{path} {parameters:?} of account {account}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gateway_in_front_of_one_node_is_that_node_to_its_clients() {
    let mut cluster = start(1);
    let first = Gateway::start(&cluster, "first", "");
    let mut stream = Socket::connect(first.address(), &format!("/ws/{}@trade", SYMBOL.to_lowercase())).await;
    let mut user = Socket::connect(first.address(), "/ws-api/v3").await;
    let subscribed = user.ask(subscription()).await;
    assert_eq!(subscribed["status"], 200, "{subscribed}");
    let made = place(&first, 1, "BUY", "100.00").await;
    assert_eq!(made["status"], "NEW");
    let made = place(&first, 2, "SELL", "100.00").await;
    assert_eq!((&made["status"], &made["fills"][0]["tradeId"]), (&json!("FILLED"), &json!(1)), "{made}");
    let trade = stream.find(|it| it["e"] == "trade").await;
    assert_eq!(trade["t"], 1, "{trade}");
    user.find(|it| it["event"]["e"] == "executionReport" && it["event"]["x"] == "TRADE").await;
    for at in 0..150 {
        let (side, price) = if at % 2 == 0 { ("BUY", "99.50") } else { ("SELL", "99.50") };
        place(&first, 1 + at % 3, side, price).await;
        place(&first, 1 + (at + 1) % 3, "BUY", &format!("{}.00", 10 + at % 40)).await;
    }
    told_alike(&cluster, 1, &first).await;

    // One that begins now takes the state from a snapshot, and has the past from the node.
    let second = Gateway::start(&cluster, "second", "");
    told_alike(&cluster, 1, &second).await;
    place(&second, 3, "BUY", "9.00").await;
    told_alike(&cluster, 1, &first).await;
    told_alike(&cluster, 1, &second).await;
    // One that was there from the first entry has every hash; nodes take one at every 64th entry.
    first.wait("that its state is the node's", |it| {
        it.metric("rialto_gateway_agreed_log_index").is_some_and(|index| index > 0.0)
    });

    cluster.kill(1);
    first.wait("that it is out of rotation and says why", |it| {
        it.get("/ready").is_some_and(|(status, body)| status == 503 && body.starts_with("not ready: "))
    });
    assert_eq!(first.get("/health").map(|(status, _)| status), Some(200));
    cluster.restart(1);
    cluster.wait_ready(1);
    first.wait_ready();
    place(&first, 2, "BUY", "8.00").await;
    told_alike(&cluster, 1, &first).await;
    told_alike(&cluster, 1, &second).await;
}

/// A subscription to the events of account 1, on a socket of the WS API.
fn subscription() -> Value {
    let who = credentials(1);
    let timestamp = gateway::client::now_ms();
    let signature = who.sign(&format!("apiKey={}&timestamp={timestamp}", who.api_key));
    json!({ "id": 1, "method": "userDataStream.subscribe.signature",
            "params": { "apiKey": who.api_key, "timestamp": timestamp, "signature": signature } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn through_the_death_of_leaders_and_of_a_gateway_clients_see_a_pause_and_nothing_is_lost_or_doubled() {
    let seed = seed();
    let mut cluster = start(3);
    let mut first = Gateway::start(&cluster, "first", "");
    let second = Gateway::start(&cluster, "second", "");
    let addresses = vec![first.address().clone(), second.address().clone()];
    let load = Load { seed, prefix: "tier".to_owned(), sockets: 24, accounts: ACCOUNTS, in_flight: 1 };
    let manner = Manner { think: Duration::from_millis(15), ..Manner::default() };
    let clients = Clients::start(load, addresses, manner);
    let book = keep_book(second.address(), SYMBOL).await;
    for round in 0..2 {
        let leader = cluster.wait_leader(&ALL);
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.kill(leader);
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        cluster.restart(leader);
        cluster.wait_ready(leader);
        if round == 0 {
            first.kill();
            tokio::time::sleep(Duration::from_millis(500)).await;
            drop(first);
            first = Gateway::start(&cluster, "again", "");
        }
    }
    let told = clients.finish().await;
    second.wait_ready();
    cluster.wait_agreed(&ALL);
    let depth = gateway::client::Rest::linearizable(&cluster.address(1));
    let depth = depth.get("/api/v3/depth", &[("symbol", SYMBOL), ("limit", "5000")]).await.unwrap().body;
    // It follows a node, so it may come there a moment later.
    let here = gateway::client::Rest::linearizable(second.address());
    here.get("/api/v3/depth", &[("symbol", SYMBOL)]).await.unwrap();
    let book = book.finish().await;
    println!("{} requests; the book on the surviving gateway had {} events", told.len(), book.events);
    assert!(book.complaints.is_empty(), "RIALTO_SEED={seed}: {:#?}", book.complaints);
    assert!(book.events > 0);
    let last = depth["lastUpdateId"].as_u64().expect("an update id");
    assert_eq!(book.kept, (last, tests::subscriber::Book::of(&depth)), "RIALTO_SEED={seed}");
    told_alike(&cluster, 1, &second).await;
    told_alike(&cluster, 2, &first).await;
    second.wait("that its state is the nodes'", |it| {
        it.metric("rialto_gateway_agreed_log_index").is_some_and(|index| index > 0.0)
    });
    assert_eq!(second.metric("rialto_gateway_states_total"), Some(1.0), "it never had to begin anew");
    drop((first, second));
    check_logs(&mut cluster, &told, &[], &format!("RIALTO_SEED={seed}"));
    let failed: Vec<&Told> = told.iter().filter(|told| told.is_failed()).collect();
    assert!(failed.is_empty(), "RIALTO_SEED={seed}: {} failed: {:#?}", failed.len(), &failed[..failed.len().min(3)]);
    assert!(told.iter().any(Told::is_done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gateway_that_finds_no_node_is_out_of_rotation_until_one_comes() {
    let mut cluster = start(1);
    cluster.kill(1);
    let gateway = Gateway::begin(&cluster, "early", "");
    gateway.wait("that it says what it lacks", |it| {
        it.get("/ready").is_some_and(|(status, body)| (status, &*body) == (503, "not ready: it has no state yet\n"))
    });
    assert_eq!(gateway.get("/health").map(|(status, _)| status), Some(200));
    let answer = gateway.rest().get("/api/v3/exchangeInfo", &[]).await.unwrap();
    assert_eq!(answer.status, 503, "it knows nothing, and must not say that there is nothing: {answer:?}");
    assert_eq!(gateway.metric("rialto_gateway_ready"), Some(0.0));
    cluster.restart(1);
    cluster.wait_ready(1);
    gateway.wait_ready();
    let answer = gateway.rest().get("/api/v3/exchangeInfo", &[]).await.unwrap();
    assert_eq!(answer.body["symbols"][0]["symbol"], SYMBOL, "{answer:?}");
    place(&gateway, 1, "BUY", "5.00").await;
}

/// Reads that only nodes can answer; all of them must go well.
async fn read_history(gateway: &Gateway, times: usize) {
    for _ in 0..times {
        let parameters = [("symbol", SYMBOL), ("startTime", "1")];
        let answer = gateway.rest().signed(Method::GET, "/api/v3/allOrders", &parameters, &credentials(1)).await;
        let answer = answer.unwrap();
        assert!(answer.is_success(), "{answer:?}; {}", gateway.said());
    }
}

fn of_node(gateway: &Gateway, name: &str, node: u64) -> f64 {
    gateway.metric(&format!("rialto_gateway_node_{name}{{node=\"{node}\"}}")).unwrap_or(-1.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_stands_still_is_left_alone_and_read_from_again_once_it_is_well() {
    let cluster = start(3);
    let settings =
        "[gateway]\nread_timeout_ms = 300\nbreaker_failures = 2\nbreaker_open_ms = 1000\nbreaker_probes = 2\n";
    let gateway = Gateway::start(&cluster, "one", settings);
    place(&gateway, 1, "BUY", "5.00").await;
    let leader = cluster.wait_leader(&ALL);
    let still = ALL.into_iter().find(|id| *id != leader).expect("three nodes");
    gateway.wait("that it knows all nodes", |it| ALL.iter().all(|id| of_node(it, "reachable", *id) == 1.0));
    read_history(&gateway, 12).await;
    assert!(ALL.iter().all(|id| of_node(&gateway, "reads_total", *id) > 0.0), "reads are spread");
    cluster.pause(still);
    let end = std::time::Instant::now() + tests::cluster::PATIENCE;
    while of_node(&gateway, "breaker", still) != 2.0 {
        read_history(&gateway, 1).await;
        assert!(std::time::Instant::now() < end, "its breaker does not open");
    }
    assert!(
        of_node(&gateway, "read_failures_total", still) >= 2.0
            && of_node(&gateway, "breaker_opened_total", still) >= 1.0
    );
    gateway.wait("that it is not heard of", |it| of_node(it, "reachable", still) == 0.0);
    cluster.resume(still);
    let end = std::time::Instant::now() + tests::cluster::PATIENCE;
    while of_node(&gateway, "breaker", still) != 0.0 {
        read_history(&gateway, 1).await;
        assert!(std::time::Instant::now() < end, "its breaker does not close");
    }
    let before = of_node(&gateway, "reads_total", still);
    read_history(&gateway, 9).await;
    assert!(of_node(&gateway, "reads_total", still) > before, "it is read from again");
    let others = ALL.into_iter().filter(|id| *id != still);
    assert!(others.into_iter().all(|id| of_node(&gateway, "breaker_opened_total", id) == 0.0), "the others were well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn settings_that_change_are_gone_by_at_once_and_those_that_make_no_sense_are_refused_by_name() {
    let cluster = start(3);
    let gateway = Gateway::start(&cluster, "one", "[gateway]\nbalance = \"least_active\"\n");
    gateway.wait("that it knows all nodes", |it| ALL.iter().all(|id| of_node(it, "reachable", *id) == 1.0));
    let reads = |gateway: &Gateway| ALL.map(|id| of_node(gateway, "reads_total", id));
    let said = |gateway: &Gateway, what: &str| gateway.said().matches(what).count();
    let only_second =
        format!("{}weights = {{ 1 = 0, 2 = 5, 3 = 0 }}\n", gateway.settings().replace("least_active", "weighted"));
    gateway.set(&only_second);
    gateway.wait("that the file was read again", |it| said(it, "was read again") == 1);
    let before = reads(&gateway);
    read_history(&gateway, 10).await;
    let after = reads(&gateway);
    assert!(after[1] >= before[1] + 10.0 && after[0] == before[0] && after[2] == before[2], "{before:?} {after:?}");

    gateway.set(&only_second.replace("weighted", "fairly"));
    gateway.wait("that it says what is wrong", |it| said(it, "the settings stay as they were") == 1);
    gateway.wait("that it names the file and the setting", |it| {
        it.said().lines().any(|line| line.contains("stay as they were") && line.contains("gateway.toml"))
            && it.said().contains("unknown variant `fairly`")
    });
    read_history(&gateway, 5).await;
    let last = reads(&gateway);
    assert!(last[0] == after[0] && last[2] == after[2], "{after:?} {last:?}");

    gateway.set(&only_second.replace("2 = 5, 3 = 0", "2 = 0, 3 = 5"));
    gateway.wait("that the file was read again", |it| said(it, "was read again") == 2);
    let before = reads(&gateway);
    read_history(&gateway, 5).await;
    let after = reads(&gateway);
    assert!(after[2] >= before[2] + 5.0 && after[1] == before[1], "{before:?} {after:?}");
    gateway.hang_up();
    gateway.wait("that SIGHUP was heard", |it| said(it, "was read again") == 3);
    let told = gateway.admin(&["reload"]);
    assert!(told.status.success() && String::from_utf8_lossy(&told.stdout).contains("3 nodes"), "{told:?}");
}
