//! A real server: the binary that users run, as a process of its own, with its data in a temporary folder.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gateway::client::{Address, Credentials};
use tempfile::TempDir;

/// How long a start may take, recovery included.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Who asks for everything, as tests do, must not be told to wait.
pub(crate) const CONFIG: &str = "[limits]\nrequest_weight_per_minute = 100000000\norders_per_10_seconds = 100000000\n";

/// A running server, killed when dropped.
pub struct Exchange {
    child: Child,
    address: Address,
    /// The sequence that its last start recovered.
    recovered: u64,
    place: Place,
    arguments: Vec<String>,
}

/// Where a server keeps what it has.
struct Place {
    /// Its settings, and what it says to stderr where a test wants to read that.
    folder: TempDir,
    data: PathBuf,
    /// Whether stderr goes to a file rather than to who runs the test.
    is_quiet: bool,
    /// How many files it may have open, where a test says it.
    files_max: Option<u64>,
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
        let data = folder.path().join("data");
        let place = Place { folder, data, is_quiet: false, files_max: None };
        Exchange::prepare(place, bootstrap, settings, arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same with its data in the folder `data`, which outlives it; what it says to stderr goes to a file.
    pub fn on(data: &Path, bootstrap: &str, settings: &str, arguments: &[&str]) -> Exchange {
        let folder = TempDir::new_in(build_folder()).expect("a folder in the build folder");
        let place = Place { folder, data: data.to_owned(), is_quiet: true, files_max: None };
        Exchange::prepare(place, bootstrap, settings, arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// One that may have so many files open, sockets among them; why it did not start, if it did not. What it says to stderr
    /// goes to a file.
    pub fn with_few_files(files_max: u64, bootstrap: &str, settings: &str) -> Result<Exchange, String> {
        let folder = TempDir::new_in(build_folder()).expect("a folder in the build folder");
        let data = folder.path().join("data");
        let place = Place { folder, data, is_quiet: true, files_max: Some(files_max) };
        Exchange::prepare(place, bootstrap, settings, &[])
    }

    fn prepare(place: Place, bootstrap: &str, settings: &str, arguments: &[&str]) -> Result<Exchange, String> {
        let folder = place.folder.path();
        std::fs::write(folder.join("bootstrap.toml"), bootstrap).expect("a writable folder");
        std::fs::write(folder.join("config.toml"), format!("{CONFIG}{settings}")).expect("a writable folder");
        let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
        let (child, ready) = serve(&place, &arguments);
        let Ready { address, recovered } = ready?;
        Ok(Exchange { child, address, recovered, place, arguments })
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
        self.place.folder.path()
    }

    /// Its data.
    pub fn data(&self) -> &Path {
        &self.place.data
    }

    /// The sequence that its last start recovered.
    pub fn recovered(&self) -> u64 {
        self.recovered
    }

    /// Its process.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// What it said to stderr since its last start, if its data was given with [`Exchange::on`].
    pub fn stderr(&self) -> String {
        self.place.stderr()
    }

    /// Waits until it ends by itself, so long at most; whether it did.
    pub fn ends_within(&mut self, most: Duration) -> bool {
        let end = Instant::now() + most;
        while Instant::now() < end {
            if self.child.try_wait().expect("it was started").is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it was started");
    }

    /// Start again with the same data, after a [`Exchange::kill`].
    pub fn restart(&mut self) {
        self.try_restart().unwrap_or_else(|error| panic!("{error}"));
    }

    /// The same; why it did not, if it did not.
    pub fn try_restart(&mut self) -> Result<(), String> {
        let (child, ready) = serve(&self.place, &self.arguments);
        self.child = child;
        let Ready { address, recovered } = ready?;
        (self.address, self.recovered) = (address, recovered);
        Ok(())
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

/// The number in an environment variable, if it is set: seeds, and how many rounds a test is to run.
pub fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Where a test keeps data that is not about what a real disk does: in memory, where there is a file system in it.
pub fn fast_folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() && tempfile::tempfile_in(memory).is_ok() { memory.to_owned() } else { build_folder() }
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

impl Place {
    fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }
}

/// What a server says when it is ready.
pub(crate) struct Ready {
    pub(crate) address: Address,
    pub(crate) recovered: u64,
}

/// The process, and what it said once it was ready or why it never was.
fn serve(place: &Place, arguments: &[String]) -> (Child, Result<Ready, String>) {
    let folder = place.folder.path();
    let stderr = if place.is_quiet {
        std::fs::File::create(folder.join("stderr")).expect("a writable folder").into()
    } else {
        Stdio::inherit()
    };
    let mut command = match place.files_max {
        None => Command::new(binary()),
        Some(files_max) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &files_max.to_string()]).arg(binary());
            shell
        }
    };
    if place.is_quiet {
        // What it says is read: its settings alone say how much that is.
        command.env_remove("RUST_LOG");
    }
    let mut child = command
        .arg("serve")
        .args(["--listen", "127.0.0.1:0"])
        .arg("--data")
        .arg(&place.data)
        .arg("--bootstrap")
        .arg(folder.join("bootstrap.toml"))
        .arg("--config")
        .arg(folder.join("config.toml"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .expect("the binary can be started");
    let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let (sender, ready) = std::sync::mpsc::channel();
    // Read on to the end, so that the server never waits for a reader.
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            // Only the first is waited for.
            drop(parse_ready(&line).map(|ready| sender.send(ready)));
        }
    });
    let ready = ready.recv_timeout(START_TIMEOUT).map_err(|_| {
        // It has ended, or must now.
        let _ = child.kill();
        let _ = child.wait();
        format!("the server does not say that it is ready: {}", place.stderr())
    });
    (child, ready)
}

/// `rialto is ready at URL with data in DIR at sequence N`.
pub(crate) fn parse_ready(line: &str) -> Option<Ready> {
    let url = line.split_whitespace().find(|word| word.starts_with("http://"))?;
    let address = Address::parse(url.trim_end_matches(['/', ',', '.'])).expect("its own URL");
    let mut words = line.split_whitespace().skip_while(|word| *word != "sequence");
    let recovered = words.nth(1)?.trim_end_matches([',', '.']).parse().ok()?;
    Some(Ready { address, recovered })
}
