//! Gateways in front of a cluster of real servers: one process each, with settings in a file that a test can change.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gateway::client::{Address, Rest};

use crate::cluster::{Cluster, PATIENCE};
use crate::exchange::{CONFIG, binary};

/// How long between two looks at what is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A gateway, killed when dropped.
pub struct Gateway {
    child: Child,
    address: Address,
    config: PathBuf,
    stderr: PathBuf,
    folder: PathBuf,
}

impl Gateway {
    /// In front of a cluster, ready; with more settings in the words of the file that `--config` reads, the section `[gateway]`
    /// last.
    pub fn start(cluster: &Cluster, name: &str, settings: &str) -> Gateway {
        let gateway = Gateway::begin(cluster, name, settings);
        gateway.wait_ready();
        gateway
    }

    /// The same, without waiting for it to be ready.
    pub fn begin(cluster: &Cluster, name: &str, settings: &str) -> Gateway {
        let peers: Vec<String> = cluster.peers().iter().map(|peer| format!("\"{peer}\"")).collect();
        let folder = cluster.folder().join(format!("gateway-{name}"));
        std::fs::create_dir_all(&folder).expect("a writable folder");
        let (config, stderr) = (folder.join("gateway.toml"), folder.join("stderr"));
        let listen = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("loopback has room");
        let gateway = |child| Gateway {
            child,
            address: Address::parse(&listen.to_string()).expect("host and port"),
            config: config.clone(),
            stderr: stderr.clone(),
            folder: folder.clone(),
        };
        let nodes = format!("[gateway]\nnodes = [{}]\n", peers.join(", "));
        let text = if settings.contains("[gateway]") { settings.replace("[gateway]\n", &nodes) } else { nodes };
        std::fs::write(&config, format!("{CONFIG}{text}")).expect("a writable folder");
        let mut child = Command::new(binary())
            .args(["gateway", "--listen", &listen.to_string(), "--config"])
            .arg(&config)
            .arg("--data")
            .arg(folder.join("run"))
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&stderr).expect("a writable folder"))
            .spawn()
            .expect("the binary can be started");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        // Read on to the end, so that it never waits for a reader.
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(drop));
        gateway(child)
    }

    /// Where clients find it.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// A REST client of it.
    pub fn rest(&self) -> Rest {
        Rest::new(&self.address)
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Its file of settings, as it is.
    pub fn settings(&self) -> String {
        std::fs::read_to_string(&self.config).expect("its settings")
    }

    /// Other settings, in the place of those.
    pub fn set(&self, settings: &str) {
        let new = self.config.with_extension("new");
        std::fs::write(&new, settings).expect("a writable folder");
        std::fs::rename(new, &self.config).expect("a writable folder");
    }

    /// What it said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// `rialto admin ...` at it; its output.
    pub fn admin(&self, words: &[&str]) -> std::process::Output {
        let mut command = Command::new(binary());
        command.args(["admin", "--data"]).arg(self.folder.join("run")).args(["--operator", "ann"]).args(words);
        command.output().expect("the binary can be started")
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("it runs");
    }

    /// `kill -9`, and the process is gone when it returns.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it was started");
    }

    /// A plain GET: status and body, if an answer came within two seconds.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        const LIMIT: Duration = Duration::from_secs(2);
        let address = self.address.to_string().parse().expect("an address and a port");
        let mut stream = std::net::TcpStream::connect_timeout(&address, LIMIT).ok()?;
        stream.set_read_timeout(Some(LIMIT)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// A number of its metrics; none where it is not there.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, page) = self.get("/metrics")?;
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until something is so of it.
    pub fn wait(&self, what: &str, mut is_so: impl FnMut(&Gateway) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            let ready = self.get("/ready");
            assert!(Instant::now() < end, "{what} is not so; {ready:?}; it said: {}", self.said());
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Waits until it takes orders.
    pub fn wait_ready(&self) {
        self.wait("that the gateway is ready", |it| it.get("/ready").is_some_and(|(status, _)| status == 200));
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may be dead already: that is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- gateway at {}:\n{}", self.address, self.said());
        }
    }
}
