//! A cluster of real servers: one process a node, each with a folder, a loopback address and ports of its own; what befalls
//! nodes; and what must be true of all of them together afterwards.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use gateway::client::{Address, Rest};
use serde_json::Value;
use tempfile::TempDir;

use crate::clients::Told;
use crate::exchange::{CONFIG, START_TIMEOUT, binary, build_folder, parse_ready};
use crate::witness::Witness;

/// How long what a cluster does by itself may take before a test gives it up; far more than it does.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long between two looks at what is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A cluster, killed when dropped.
pub struct Cluster {
    members: Vec<Member>,
    folder: TempDir,
    settings: String,
    is_failed: bool,
}

/// One of its nodes, running or not.
pub struct Member {
    /// Its number in the cluster.
    pub id: u64,
    place: Place,
    data: PathBuf,
    /// What `serve` is told beyond where and what it is.
    arguments: Vec<String>,
    process: Option<Process>,
    starts: usize,
}

/// Where a node is to be found.
#[derive(Clone, Debug)]
pub struct Place {
    /// What its command line begins with: a program that starts it elsewhere, or nothing.
    pub launcher: Vec<String>,
    /// Where clients find it.
    pub listen: String,
    /// Where the other nodes find it.
    pub peer: String,
}

struct Process {
    child: Child,
    ready: Receiver<u64>,
}

/// What `rialto cluster status` says, read.
#[derive(Clone, Debug)]
pub struct Status(pub Value);

impl Cluster {
    /// So many nodes on loopback, formed and ready; they list and fund what `bootstrap` says, with more settings in the
    /// words of the file that `--config` reads.
    pub fn start(nodes: usize, bootstrap: &str, settings: &str) -> Cluster {
        let places = on_loopback(nodes);
        Cluster::start_at(places, bootstrap, settings, |_, data| data)
    }

    /// The same at these places; `data` says where a node of this number keeps its data, given where it would.
    pub fn start_at(
        places: Vec<Place>,
        bootstrap: &str,
        settings: &str,
        data: impl Fn(u64, PathBuf) -> PathBuf,
    ) -> Cluster {
        let folder = TempDir::new_in(build_folder()).expect("a folder in the build folder");
        std::fs::write(folder.path().join("bootstrap.toml"), bootstrap).expect("a writable folder");
        let mut cluster = Cluster { members: Vec::new(), folder, settings: settings.to_owned(), is_failed: true };
        let peers: Vec<String> =
            places.iter().zip(1..).map(|(place, id): (_, u64)| format!("{id}={}", place.peer)).collect();
        for (place, id) in places.into_iter().zip(1..) {
            let data = data(id, cluster.folder.path().join(format!("node-{id}")));
            cluster.add(id, place, data, vec!["--cluster".to_owned(), peers.join(",")]);
        }
        cluster.members.iter().for_each(|member| cluster.write_config(member));
        for at in 0..cluster.members.len() {
            cluster.spawn(at);
        }
        for id in cluster.ids() {
            cluster.wait_ready(id);
        }
        cluster.is_failed = false;
        cluster
    }

    /// One more node, empty, that asks `through` to let it in, with a vote.
    pub fn join(&mut self, id: u64, through: u64) {
        self.let_in(id, through, &["--voter"]);
    }

    /// The same without a vote.
    pub fn follow(&mut self, id: u64, through: u64) {
        self.let_in(id, through, &[]);
    }

    fn let_in(&mut self, id: u64, through: u64, more: &[&str]) {
        let place = on_loopback(1).remove(0);
        let data = self.folder.path().join(format!("node-{id}"));
        let own = format!("{id}={}", place.peer);
        let through = self.member(through).place.peer.clone();
        let arguments = [&["--cluster", &own, "--join", &through], more].concat();
        self.add(id, place, data, arguments.into_iter().map(str::to_owned).collect());
        self.write_config(self.member(id));
        self.spawn(self.members.len() - 1);
    }

    fn add(&mut self, id: u64, place: Place, data: PathBuf, arguments: Vec<String>) {
        self.members.push(Member { id, place, data, arguments, process: None, starts: 0 });
    }

    fn write_config(&self, member: &Member) {
        // To try other settings by hand, as RIALTO_SETTINGS='[cluster]\nelection_timeout_ms = 100'.
        let more = std::env::var("RIALTO_SETTINGS").unwrap_or_default().replace("\\n", "\n");
        let config = format!("{CONFIG}{}{more}", self.settings);
        std::fs::write(self.folder.path().join(format!("config-{}.toml", member.id)), config)
            .expect("a writable folder");
    }

    /// The numbers of its nodes.
    pub fn ids(&self) -> Vec<u64> {
        self.members.iter().map(|member| member.id).collect()
    }

    /// The numbers of those whose process was started and not ended.
    pub fn running(&self) -> Vec<u64> {
        self.members.iter().filter(|member| member.process.is_some()).map(|member| member.id).collect()
    }

    /// A node.
    pub fn member(&self, id: u64) -> &Member {
        self.members.iter().find(|member| member.id == id).expect("a node of this number")
    }

    fn at(&self, id: u64) -> usize {
        self.members.iter().position(|member| member.id == id).expect("a node of this number")
    }

    /// Where its nodes find each other.
    pub fn peers(&self) -> Vec<String> {
        self.members.iter().map(|member| member.place.peer.clone()).collect()
    }

    /// Where clients find its nodes, in the order of [`Cluster::ids`].
    pub fn addresses(&self) -> Vec<Address> {
        self.ids().into_iter().map(|id| self.address(id)).collect()
    }

    /// Where clients find a node.
    pub fn address(&self, id: u64) -> Address {
        Address::parse(&self.member(id).place.listen).expect("host and port")
    }

    /// A REST client of a node.
    pub fn rest(&self, id: u64) -> Rest {
        Rest::new(&self.address(id))
    }

    /// Where a node keeps its data.
    pub fn data(&self, id: u64) -> &Path {
        &self.member(id).data
    }

    /// A folder that lives as long as it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `kill -9`, and the process is gone when it returns.
    pub fn kill(&mut self, id: u64) {
        let mut process = self.take_process(id);
        process.child.kill().expect("it can be killed");
        process.child.wait().expect("it was started");
    }

    /// A graceful stop, as by a service manager; how long it took.
    pub fn stop(&mut self, id: u64) -> Duration {
        let started = Instant::now();
        let mut process = self.take_process(id);
        signal(&process.child, rustix::process::Signal::TERM);
        let end = started + PATIENCE;
        let status = loop {
            if let Some(status) = process.child.try_wait().expect("it was started") {
                break status;
            }
            assert!(Instant::now() < end, "node {id} does not stop: {}", self.said(id));
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "node {id} stopped with {status}: {}", self.said(id));
        started.elapsed()
    }

    /// Waits until a node ends by itself; whether it did.
    pub fn ends_within(&mut self, id: u64, most: Duration) -> bool {
        let end = Instant::now() + most;
        let at = self.at(id);
        while Instant::now() < end {
            let process = self.members[at].process.as_mut().expect("it runs");
            if process.child.try_wait().expect("it was started").is_some() {
                self.members[at].process = None;
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// The process stands still, as in a long pause, until [`Cluster::resume`].
    pub fn pause(&self, id: u64) {
        signal(&self.process(id).child, rustix::process::Signal::STOP);
    }

    /// After [`Cluster::pause`].
    pub fn resume(&self, id: u64) {
        signal(&self.process(id).child, rustix::process::Signal::CONT);
    }

    /// Starts a node again that was killed or stopped, without waiting for it.
    pub fn restart(&mut self, id: u64) {
        let at = self.at(id);
        assert!(self.members[at].process.is_none(), "node {id} runs");
        self.spawn(at);
    }

    /// A node is no longer counted; its process must have ended.
    pub fn forget(&mut self, id: u64) {
        let at = self.at(id);
        assert!(self.members[at].process.is_none(), "node {id} runs");
        self.members.remove(at);
    }

    /// A node's process id.
    pub fn process_id(&self, id: u64) -> u32 {
        self.process(id).child.id()
    }

    fn process(&self, id: u64) -> &Process {
        self.member(id).process.as_ref().expect("it runs")
    }

    fn take_process(&mut self, id: u64) -> Process {
        let at = self.at(id);
        self.members[at].process.take().expect("it runs")
    }

    /// What a node said since its last start.
    pub fn said(&self, id: u64) -> String {
        let text = std::fs::read_to_string(self.stderr_path(self.member(id))).unwrap_or_default();
        text.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn stderr_path(&self, member: &Member) -> PathBuf {
        self.folder.path().join(format!("stderr-{}-{}", member.id, member.starts))
    }

    fn spawn(&mut self, at: usize) {
        self.members[at].starts += 1;
        let member = &self.members[at];
        let said = std::fs::File::create(self.stderr_path(member)).expect("a writable folder");
        let mut command = match member.place.launcher.split_first() {
            None => Command::new(binary()),
            Some((program, more)) => {
                let mut command = Command::new(program);
                command.args(more).arg(binary());
                command
            }
        };
        command
            .args(["serve", "--listen", &member.place.listen, "--node", &member.id.to_string(), "--data"])
            .arg(&member.data)
            .arg("--bootstrap")
            .arg(self.folder.path().join("bootstrap.toml"))
            .arg("--config")
            .arg(self.folder.path().join(format!("config-{}.toml", member.id)))
            .args(&member.arguments)
            .stdout(Stdio::piped())
            .stderr(said);
        let mut child = command.spawn().expect("the binary can be started");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, ready) = channel();
        // Read on to the end, so that the server never waits for a reader.
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // Nobody may wait for it any more.
                let _ = parse_ready(&line).map(|ready| sender.send(ready.recovered));
            }
        });
        self.members[at].process = Some(Process { child, ready });
    }

    /// Waits until a node that was started serves orders; the sequence that it found in its directory.
    pub fn wait_ready(&mut self, id: u64) -> u64 {
        self.try_wait_ready(id).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same; what it said, if it ended or took too long.
    pub fn try_wait_ready(&mut self, id: u64) -> Result<u64, String> {
        let recovered = self.process(id).ready.recv_timeout(START_TIMEOUT);
        let Ok(recovered) = recovered else {
            let mut process = self.take_process(id);
            // It may have ended by itself: that is what is wanted.
            let _ = process.child.kill();
            let _ = process.child.wait();
            return Err(format!("node {id} does not say that it is ready: {}", self.said(id)));
        };
        let end = Instant::now() + PATIENCE;
        while !self.answers(id, "/ready") {
            if Instant::now() > end {
                return Err(format!("node {id} is not ready: {}", self.said(id)));
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        Ok(recovered)
    }

    /// Whether a node answers a plain GET with 200 within a second.
    pub fn answers(&self, id: u64, path: &str) -> bool {
        self.get(id, path).is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// A plain GET by hand, for those who run outside of any runtime: the whole answer, if one came within a second.
    pub fn get(&self, id: u64, path: &str) -> Option<String> {
        use std::io::{Read, Write};
        const LIMIT: Duration = Duration::from_secs(1);
        let address = self.member(id).place.listen.parse().expect("an address and a port");
        let mut stream = std::net::TcpStream::connect_timeout(&address, LIMIT).ok()?;
        stream.set_read_timeout(Some(LIMIT)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// `rialto cluster ...` at a node; its output.
    pub fn command(&self, at: u64, verb: &str, more: &[&str]) -> Output {
        let place = &self.member(at).place;
        let mut words = place.launcher.clone();
        words.push(binary().to_str().expect("a path of plain characters").to_owned());
        words.extend(["cluster", verb, "--peer", &place.peer].map(str::to_owned));
        words.extend(more.iter().map(|it| (*it).to_owned()));
        Command::new(&words[0]).args(&words[1..]).output().expect("the binary can be started")
    }

    /// Has a node that does not run start anew from the others, with the one command for that, and starts it.
    pub fn rebuild(&mut self, id: u64, through: u64) {
        let (own, other) = (self.member(id), &self.member(through).place);
        let aside = PathBuf::from(format!("{}.1", own.data.display()));
        let mut words = other.launcher.clone();
        words.push(binary().to_str().expect("a path of plain characters").to_owned());
        words.extend(["cluster", "rebuild", "--peer", &other.peer, "--data"].map(str::to_owned));
        words.push(own.data.to_str().expect("a path of plain characters").to_owned());
        words.push(id.to_string());
        let mut command = Command::new(&words[0]);
        let mut rebuilding =
            command.args(&words[1..]).stdout(Stdio::null()).spawn().expect("the binary can be started");
        let end = Instant::now() + PATIENCE;
        // It says to start the node once the old directory is out of the way.
        while !aside.exists() {
            assert!(Instant::now() < end, "the directory of node {id} is not put aside");
            std::thread::sleep(LOOK_INTERVAL);
        }
        self.restart(id);
        self.wait_ready(id);
        assert!(rebuilding.wait().expect("it was started").success(), "node {id} is not rebuilt: {}", self.all_said());
    }

    /// [`Cluster::command`]; it must succeed.
    pub fn must(&self, at: u64, verb: &str, more: &[&str]) -> String {
        let output = self.command(at, verb, more);
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "cluster {verb} {}: {said}{complained}", more.join(" "));
        said.into_owned()
    }

    /// What a node knows of the cluster; `None` when it does not answer.
    pub fn status(&self, at: u64) -> Option<Status> {
        let output = self.command(at, "status", &["--json"]);
        // Its exit status says how the cluster is; what it says is there all the same.
        serde_json::from_slice(&output.stdout).ok().map(Status)
    }

    /// Waits until all these nodes name the same one of them as leader; its number.
    pub fn wait_leader(&self, among: &[u64]) -> u64 {
        let end = Instant::now() + PATIENCE;
        loop {
            let named: Vec<Option<u64>> = among.iter().map(|id| self.status(*id)?.leader()).collect();
            if let Some(leader) = named[0]
                && among.contains(&leader)
                && named.iter().all(|it| *it == Some(leader))
            {
                return leader;
            }
            assert!(Instant::now() < end, "no leader of {among:?}: {named:?}\n{}", self.all_said());
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Waits until all these nodes have applied the same and say the same hash of it; the status that says so.
    pub fn wait_agreed(&self, among: &[u64]) -> Status {
        let end = Instant::now() + PATIENCE;
        loop {
            let leader = self.wait_leader(among);
            let status = self.status(leader);
            if let Some(status) = status.as_ref().filter(|status| status.is_agreed(among)) {
                return status.clone();
            }
            assert!(Instant::now() < end, "nodes {among:?} do not agree: {status:?}\n{}", self.all_said());
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Waits until one of these leads, all of them know it, and each has applied what it had when this began.
    pub fn wait_agreed_while_busy(&self, among: &[u64]) -> u64 {
        let leader = self.wait_leader(among);
        let applied = |status: &Status, id: u64| status.member(id)["applied_index"].as_u64();
        let goal = self.status(leader).and_then(|status| applied(&status, leader)).unwrap_or(u64::MAX);
        let end = Instant::now() + PATIENCE;
        loop {
            let leader = self.wait_leader(among);
            let status = self.status(leader);
            if status.as_ref().is_some_and(|it| among.iter().all(|id| applied(it, *id).is_some_and(|at| at >= goal))) {
                return leader;
            }
            assert!(
                Instant::now() < end,
                "nodes {among:?} do not come to index {goal}: {status:?}\n{}",
                self.all_said()
            );
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// What every node said since its last start, to be shown when something is wrong.
    pub fn all_said(&self) -> String {
        self.ids().into_iter().map(|id| format!("--- node {id}:\n{}\n", self.said(id))).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(process) = &mut member.process {
                // It may be dead already: that is what is wanted.
                let _ = process.child.kill();
                let _ = process.child.wait();
            }
        }
        if self.is_failed || std::thread::panicking() {
            println!("{}", self.all_said());
        }
        if std::thread::panicking() && std::env::var_os("RIALTO_KEEP").is_some() {
            self.folder.disable_cleanup(true);
            println!("kept: {}", self.folder.path().display());
        }
    }
}

impl Status {
    /// Who leads, as the node asked knows it.
    pub fn leader(&self) -> Option<u64> {
        self.0["leader"].as_u64()
    }

    /// The term.
    pub fn term(&self) -> u64 {
        self.0["term"].as_u64().unwrap_or(0)
    }

    /// What it says of a member.
    pub fn member(&self, id: u64) -> &Value {
        let members = self.0["members"].as_array().map_or(&[][..], Vec::as_slice);
        members.iter().find(|member| member["node"] == id).unwrap_or(&Value::Null)
    }

    /// Whether all these have applied all that the leader has, and those that have a hash have the same.
    fn is_agreed(&self, among: &[u64]) -> bool {
        let members: Vec<&Value> = among.iter().map(|id| self.member(*id)).collect();
        let applied = |member: &&Value| {
            member["applied_index"].as_u64().map(|index| (index, member["applied_sequence"].as_u64()))
        };
        let first = members.first().and_then(applied);
        let mut hashes = BTreeMap::<u64, &Value>::new();
        for member in &members {
            let hash = &member["state_hash"];
            // A node that started from a snapshot has none before the next epoch of hashes.
            if let Some(index) = hash["index"].as_u64().filter(|_| hash["value"] != "") {
                let known = hashes.entry(index).or_insert(&hash["value"]);
                assert_eq!(*known, &hash["value"], "two states at index {index}: {}", self.0);
            }
        }
        first.is_some() && hashes.len() <= 1 && members.iter().all(|member| applied(member) == first)
    }
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).expect("it runs");
}

/// Addresses of the loopback network that nobody else uses, with ports that the system gave.
pub fn on_loopback(nodes: usize) -> Vec<Place> {
    (0..nodes)
        .map(|_| {
            let host = format!(
                "127.{}.{}.{}",
                rand::random_range(1..255),
                rand::random_range(0..255),
                rand::random_range(1..255)
            );
            let [listen, peer] = [(); 2].map(|()| TcpListener::bind((host.as_str(), 0)).expect("loopback has room"));
            let [listen, peer] = [listen, peer].map(|it| it.local_addr().expect("it is bound").to_string());
            Place { launcher: Vec::new(), listen, peer }
        })
        .collect()
}

/// Stops every node, and looks at what each has in its directory: that what clients were told is so, that nothing is half
/// there, and that all have come to the same state. Nodes named in `partial` need not have the whole log. How many
/// orders and trades there are.
pub fn check_logs(cluster: &mut Cluster, told: &[Told], partial: &[u64], context: &str) -> (usize, usize) {
    let running = cluster.running();
    let status = cluster.wait_agreed(&running);
    let agreed = status.leader().and_then(|leader| status.member(leader)["applied_sequence"].as_u64());
    let agreed = agreed.expect("they agree on something");
    for id in running {
        cluster.stop(id);
    }
    let mut found = None;
    for id in cluster.ids().into_iter().filter(|id| !partial.contains(id)) {
        let mut witness = Witness::default();
        witness.follow_to(cluster.data(id), agreed).unwrap_or_else(|error| panic!("{context}, node {id}: {error}"));
        let state = (witness.sequence(), witness.hash());
        match &found {
            None => {
                let complaints = witness.complaints_of_told(told);
                let first = complaints[..complaints.len().min(5)].join("\n");
                assert!(complaints.is_empty(), "{context}, node {id}: {} complaints:\n{first}", complaints.len());
                assert_eq!(witness.sequence(), agreed, "{context}, node {id}: its log ends too early");
                witness.assert_balances(&format!("{context}, node {id}"));
                let (entries, commands) = witness.void();
                println!(
                    "{agreed} commands; {entries} entries with {commands} commands came twice or too late, and were void"
                );
                found = Some((state, witness.counts()));
            }
            Some((first, _)) => assert_eq!(*first, state, "{context}: node {id} has come to another state"),
        }
    }
    found.expect("a node with the whole log").1
}
