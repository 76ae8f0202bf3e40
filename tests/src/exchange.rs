//! A real server: the binary that users run, as a process of its own, with its data in a temporary folder.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gateway::client::{Address, Credentials};
use tempfile::TempDir;

/// How long a start may take, recovery included.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Who asks for everything, as tests do, must not be told to wait.
const CONFIG: &str = "[limits]\nrequest_weight_per_minute = 100000000\norders_per_10_seconds = 100000000\n";

/// A running server, killed when dropped.
pub struct Exchange {
    child: Child,
    address: Address,
    folder: TempDir,
    arguments: Vec<String>,
}

impl Exchange {
    /// Start one that lists and funds what `bootstrap` says, with more `arguments` for `serve`. Its folder is made in
    /// the build folder, which is on a real disk where `/tmp` may not be.
    pub fn start(bootstrap: &str, arguments: &[&str]) -> Exchange {
        Exchange::with_settings(bootstrap, "", arguments)
    }

    /// The same with more settings, in the words of the file that `--config` reads.
    pub fn with_settings(bootstrap: &str, settings: &str, arguments: &[&str]) -> Exchange {
        let folder = TempDir::new_in(build_folder()).expect("a folder in the build folder");
        std::fs::write(folder.path().join("bootstrap.toml"), bootstrap).expect("a writable folder");
        std::fs::write(folder.path().join("config.toml"), format!("{CONFIG}{settings}")).expect("a writable folder");
        let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
        let (child, address) = serve(folder.path(), &arguments);
        Exchange { child, address, folder, arguments }
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A folder that lives as long as it: its data, and what a test wants to put beside.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it was started");
    }

    /// Start again with the same data, after a [`Exchange::kill`].
    pub fn restart(&mut self) {
        (self.child, self.address) = serve(self.folder.path(), &self.arguments);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // It may be dead already: that is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary `rialto` of this build.
pub fn binary() -> PathBuf {
    let binary = build_folder().join("rialto");
    assert!(binary.is_file(), "{} is not built: cargo build --release", binary.display());
    binary
}

/// The folder of this build: tests and benchmarks stand in its `deps` folder, binaries in itself.
pub fn build_folder() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    let folder = program.ancestors().skip(1).find(|folder| !folder.ends_with("deps"));
    folder.expect("a program is in a folder").to_owned()
}

/// The bootstrap text of a market BTCUSD (tick 0.01, step 0.00000001, USD of ten decimals) with so many rich accounts,
/// numbered from 1, and their keys.
pub fn bootstrap(accounts: usize, maker_fee: &str, taker_fee: &str) -> String {
    let mut text = format!(
        "[[asset]]\nname = \"BTC\"\nscale = 8\n[[asset]]\nname = \"USD\"\nscale = 10\n\
         [[symbol]]\nname = \"BTCUSD\"\nbase = \"BTC\"\nquote = \"USD\"\ntick_size = \"0.01\"\nstep_size = \"0.00000001\"\n\
         min_notional = \"0\"\nmaker_fee = \"{maker_fee}\"\ntaker_fee = \"{taker_fee}\"\n"
    );
    for account in 1..=accounts {
        let Credentials { api_key, secret } = credentials(account);
        text.push_str(&format!(
            "[[account]]\nuid = {account}\nbalances = {{ BTC = \"{DEPOSIT_BTC}\", USD = \"{DEPOSIT_USD}\" }}\n\
             [[account.key]]\napi_key = \"{api_key}\"\ntype = \"HMAC\"\nsecret = \"{secret}\"\n\
             permissions = [\"USER_DATA\", \"TRADE\"]\n"
        ));
    }
    text
}

/// What each account of [`bootstrap`] begins with.
pub const DEPOSIT_BTC: &str = "10000000";
/// What each account of [`bootstrap`] begins with.
pub const DEPOSIT_USD: &str = "10000000000";

/// The key of an account of [`bootstrap`].
pub fn credentials(account: usize) -> Credentials {
    Credentials { api_key: format!("key-of-account-{account}"), secret: format!("secret-of-account-{account}") }
}

fn serve(folder: &Path, arguments: &[String]) -> (Child, Address) {
    let mut child = Command::new(binary())
        .arg("serve")
        .args(["--listen", "127.0.0.1:0"])
        .arg("--data")
        .arg(folder.join("data"))
        .arg("--bootstrap")
        .arg(folder.join("bootstrap.toml"))
        .arg("--config")
        .arg(folder.join("config.toml"))
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary can be started");
    let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let (sender, ready) = std::sync::mpsc::channel();
    // Read on to the end, so that the server never waits for a reader.
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let url = line.split_whitespace().find(|word| word.starts_with("http://"));
            if let Some(url) = url {
                // Only the first is waited for.
                let _ = sender.send(Address::parse(url.trim_end_matches(['/', ',', '.'])).expect("its own URL"));
            }
        }
    });
    let address = ready.recv_timeout(START_TIMEOUT).expect("the server says that it is ready");
    (child, address)
}
