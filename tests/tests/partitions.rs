//! Three real nodes in networks of their own, and wires between them that are cut, cut in one direction, flap, are slow and
//! lose packets. Who is cut off from the majority acknowledges nothing; the majority goes on; and when the wires are whole
//! again, all nodes come to one state, with everything in it that a client was told.
//!
//! Clients reach every node all the time, and each stays with its own: so a cut off leader has somebody to mislead.
//! `RIALTO_PARTITION_SECONDS=n` is how long each fault lasts.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::clients::{Clients, Manner, Told, first_done_after};
use tests::cluster::{Cluster, check_logs};
use tests::exchange::{binary, bootstrap, build_folder, number_from};
use tests::load::Load;
use tests::network::{CUT, Network, Wire};
use tests::sandbox;

const ACCOUNTS: usize = 8;
const SETTINGS: &str = "[journal]\nballast_bytes = 0\nlow_space_bytes = 0\n";
const ALL: [u64; 3] = [1, 2, 3];
/// Between two requests of a socket.
const THINK: Duration = Duration::from_millis(5);

/// Something is wrong with the network: what is done to it, and which nodes it leaves without a majority.
struct Fault {
    name: &'static str,
    /// `begin(network, leader, follower, other follower)`.
    begin: fn(&Network, u64, u64, u64),
    /// Done again and again while it lasts, with whether it is on: for wires that flap.
    flap: Option<fn(&Network, u64, bool)>,
    /// Who may acknowledge nothing while it lasts.
    cut_off: fn(u64, u64) -> Option<u64>,
}

const NOBODY: fn(u64, u64) -> Option<u64> = |_, _| None;
const LEADER: fn(u64, u64) -> Option<u64> = |leader, _| Some(leader);
const FOLLOWER: fn(u64, u64) -> Option<u64> = |_, follower| Some(follower);

const FAULTS: [Fault; 11] = [
    Fault { name: "leader alone", begin: |net, leader, _, _| net.isolate(leader), flap: None, cut_off: LEADER },
    Fault { name: "follower alone", begin: |net, _, follower, _| net.isolate(follower), flap: None, cut_off: FOLLOWER },
    Fault { name: "leader is not heard", begin: |net, leader, _, _| net.mute(leader), flap: None, cut_off: LEADER },
    Fault { name: "leader hears nobody", begin: |net, leader, _, _| net.deafen(leader), flap: None, cut_off: LEADER },
    Fault {
        name: "follower is not heard",
        begin: |net, _, follower, _| net.mute(follower),
        flap: None,
        cut_off: FOLLOWER,
    },
    Fault {
        name: "follower hears nobody",
        begin: |net, _, follower, _| net.deafen(follower),
        flap: None,
        cut_off: FOLLOWER,
    },
    Fault {
        name: "leader and follower only by the third",
        begin: |net, leader, follower, _| net.set_between(leader, follower, CUT),
        flap: None,
        cut_off: NOBODY,
    },
    Fault {
        name: "leader flaps, 200 ms",
        begin: |_, _, _, _| {},
        flap: Some(|net, leader, is_on| if is_on { net.isolate(leader) } else { net.heal() }),
        cut_off: NOBODY,
    },
    Fault {
        name: "200 ms to one follower and back",
        begin: |net, leader, follower, other| {
            for node in [leader, other] {
                net.set_between(node, follower, SLOW);
            }
        },
        flap: None,
        cut_off: NOBODY,
    },
    Fault { name: "200 ms on every wire", begin: |net, _, _, _| net.set_all(SLOW), flap: None, cut_off: NOBODY },
    Fault { name: "5 % of packets lost", begin: |net, _, _, _| net.set_all(LOSSY), flap: None, cut_off: NOBODY },
];

const SLOW: Wire = Wire { is_cut: false, loss_permille: 0, delay: Duration::from_millis(200) };
const LOSSY: Wire = Wire { is_cut: false, loss_permille: 50, delay: Duration::ZERO };
const FLAP: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_is_cut_off_acknowledges_nothing_the_rest_goes_on_and_all_agree_afterwards() {
    if !sandbox::is_inside_network("whoever_is_cut_off_acknowledges_nothing_the_rest_goes_on_and_all_agree_afterwards")
    {
        return;
    }
    let seed = number_from("RIALTO_SEED").unwrap_or_else(|| rand::random_range(0..1 << 40));
    let lasts = Duration::from_secs(number_from("RIALTO_PARTITION_SECONDS").unwrap_or(2));
    let only = std::env::var("RIALTO_PARTITION").ok();
    println!("RIALTO_SEED={seed}");
    let network = Network::new(ALL.len(), seed);
    let bootstrap = bootstrap(ACCOUNTS, "0.0005", "0.001");
    let mut cluster = Cluster::start_at(network.places(), &bootstrap, SETTINGS, |_, data| data);
    let load = Load { seed, prefix: format!("{seed}"), sockets: 24, accounts: ACCOUNTS, in_flight: 2 };
    let manner = Manner { is_loyal: true, think: THINK, answer_timeout: lasts + Duration::from_secs(20) };
    let clients = Clients::start(load, cluster.addresses(), manner);
    let mut rows = Vec::new();
    for fault in FAULTS.iter().filter(|fault| only.as_deref().is_none_or(|only| fault.name.contains(only))) {
        cluster.wait_agreed_while_busy(&ALL);
        let leader = cluster.wait_leader(&ALL);
        let term = cluster.status(leader).expect("the leader answers").term();
        let mut followers = ALL.into_iter().filter(|id| *id != leader);
        let (follower, other) = (followers.next().expect("three nodes"), followers.next().expect("three nodes"));
        let began = Instant::now();
        (fault.begin)(&network, leader, follower, other);
        match fault.flap {
            None => tokio::time::sleep(lasts).await,
            Some(flap) => {
                let mut is_on = true;
                while began.elapsed() < lasts {
                    flap(&network, leader, is_on);
                    is_on = !is_on;
                    tokio::time::sleep(FLAP).await;
                }
            }
        }
        let healed = Instant::now();
        network.heal();
        cluster.wait_agreed_while_busy(&ALL);
        let agreed = Instant::now();
        let status = cluster.status(cluster.wait_leader(&ALL)).expect("the leader answers");
        let cut_off = (fault.cut_off)(leader, follower);
        rows.push(Row { name: fault.name, began, healed, agreed, cut_off, elections: status.term() - term });
    }
    let told = clients.finish().await;
    println!(
        "| fault | first acknowledgement after | acknowledged meanwhile | by who is cut off | terms | agreed after |"
    );
    println!("|:--|--:|--:|--:|--:|--:|");
    let mut complaints = Vec::new();
    for row in &rows {
        row.print(&told, &mut complaints);
    }
    let (passed, lost) = network.counts();
    println!("{passed} packets carried, {lost} lost");
    check_logs(&mut cluster, &told, &[], &format!("RIALTO_SEED={seed}"));
    assert!(complaints.is_empty(), "RIALTO_SEED={seed}: {}", complaints.join("\n"));
}

/// What a fault did.
struct Row {
    name: &'static str,
    began: Instant,
    healed: Instant,
    agreed: Instant,
    cut_off: Option<u64>,
    elections: u64,
}

impl Row {
    fn print(&self, told: &[Told], complaints: &mut Vec<String>) {
        let meanwhile = |told: &&Told| told.is_done() && told.asked_last > self.began && told.ended < self.healed;
        let is_cut_off = |told: &&Told| Some(told.node as u64 + 1) == self.cut_off;
        let (misled, served): (Vec<&Told>, Vec<&Told>) = told.iter().filter(meanwhile).partition(is_cut_off);
        let first = first_done_after(told, self.began).map(|at| at.duration_since(self.began));
        println!(
            "| {} | {:.0?} | {} | {} | {} | {:.0?} |",
            self.name,
            first.unwrap_or_default(),
            served.len(),
            if self.cut_off.is_some() { misled.len().to_string() } else { "-".to_owned() },
            self.elections,
            self.agreed.duration_since(self.healed)
        );
        if let Some(told) = misled.first() {
            complaints.push(format!("{}: the minority acknowledged {told:?}", self.name));
        }
        if served.is_empty() {
            complaints.push(format!("{}: nobody was served while it lasted", self.name));
        }
    }
}

#[test]
fn a_wire_of_these_tests_carries_delays_and_cuts_each_direction_on_its_own() {
    if !sandbox::is_inside_network("a_wire_of_these_tests_carries_delays_and_cuts_each_direction_on_its_own") {
        return;
    }
    let network = Network::new(2, 1);
    let places = network.places();
    let folder = tempfile::TempDir::new_in(build_folder()).unwrap();
    let mut server = Command::new("ip")
        .args(["netns", "exec", "node-2"])
        .arg(binary())
        .args(["serve", "--listen", &places[1].peer, "--data"])
        .arg(folder.path().join("data"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // From one host to the other: whether it answers within two seconds, and how fast.
    let asks = || {
        let (host, port) = places[1].peer.split_once(':').unwrap();
        let script = format!(
            "exec 3<>/dev/tcp/{host}/{port}; printf 'GET /health HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n' >&3; head -1 <&3"
        );
        let started = Instant::now();
        let output = Command::new("ip")
            .args(["netns", "exec", "node-1", "timeout", "2", "bash", "-c", &script])
            .output()
            .unwrap();
        (String::from_utf8_lossy(&output.stdout).contains("200"), started.elapsed())
    };
    let end = Instant::now() + tests::cluster::PATIENCE;
    while !asks().0 {
        assert!(Instant::now() < end, "a whole wire carries nothing");
    }
    network.set_between(1, 2, Wire { delay: Duration::from_millis(100), ..Wire::default() });
    let (answers, took) = asks();
    // Connecting takes one way and back, asking another.
    assert!(answers && took >= Duration::from_millis(400), "{took:?}");
    for (from, to) in [(1, 2), (2, 1)] {
        network.heal();
        network.set(from, to, CUT);
        assert!(!asks().0, "a cut from {from} to {to} lets something through");
    }
    network.heal();
    assert!(asks().0);
    let (passed, lost) = network.counts();
    assert!(passed > 0 && lost > 0);
    server.kill().unwrap();
    server.wait().unwrap();
}
