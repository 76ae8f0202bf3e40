//! `rialto journal` on real directories, made by the real server: what each verb tells is what the server told its clients,
//! what each refuses it refuses by its exit status, and damage is named.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use gateway::client::{Address, Answer, Rest};
use hyper::Method;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rocksdb::{DB, Direction, IteratorMode, Options};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::exchange::{binary, bootstrap, build_folder, credentials};
use tests::shared_data::shared_file;
use tokio::task::JoinSet;

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const DAMAGE: i32 = 3;
const IN_USE: i32 = 4;
const NOT_THERE: i32 = 5;
const REFUSED: i32 = 6;

/// Who asks for everything, as tests do, must not be told to wait.
const SETTINGS: &str = "[limits]\nrequest_weight_per_minute = 100000000\norders_per_10_seconds = 100000000\n";
/// How long a start may take.
const START_TIMEOUT: Duration = Duration::from_secs(60);

// The server.

/// A server on a directory that outlives it; killed when dropped.
struct Server {
    child: Child,
    rest: Rest,
    address: Address,
}

impl Server {
    /// Starts one, or gives what it said on standard error when it would not start.
    fn start(data: &Path, bootstrap: &str, settings: &str) -> Result<Server, String> {
        let folder = data.parent().expect("data lies in a folder");
        fs::write(folder.join("bootstrap.toml"), bootstrap).expect("a writable folder");
        fs::write(folder.join("config.toml"), format!("{SETTINGS}{settings}")).expect("a writable folder");
        let complaints = folder.join("serve.log");
        let mut child = Command::new(binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .arg("--bootstrap")
            .arg(folder.join("bootstrap.toml"))
            .arg("--config")
            .arg(folder.join("config.toml"))
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&complaints).expect("a writable folder"))
            .spawn()
            .expect("the binary can be started");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://")) {
                    // Only the first is waited for.
                    let _ = sender.send(Address::parse(url).expect("its own URL"));
                }
            }
        });
        match ready.recv_timeout(START_TIMEOUT) {
            Ok(address) => Ok(Server { child, rest: Rest::new(&address), address }),
            Err(_) => {
                let _ = child.kill();
                child.wait().expect("it was started");
                Err(fs::read_to_string(complaints).expect("it was made above"))
            }
        }
    }

    fn on(data: &Path) -> Server {
        Server::start(data, &market(), "").unwrap_or_else(|complaint| panic!("it does not start: {complaint}"))
    }

    /// SIGTERM, and all of it in order.
    fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill is there").success());
        assert!(self.child.wait().expect("it was started").success(), "it stops in order");
    }

    fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it was started");
    }

    async fn ask(&self, account: usize, method: Method, path: &str, parameters: &[(&str, &str)]) -> Answer {
        self.rest.signed(method, path, parameters, &credentials(account)).await.expect("an answer")
    }

    /// An order that is accepted.
    async fn place(&self, account: usize, terms: &[(&str, &str)]) -> Value {
        let parameters = [&[("symbol", "BTCUSD"), ("newOrderRespType", "FULL")], terms].concat();
        let answer = self.ask(account, Method::POST, "/api/v3/order", &parameters).await;
        assert!(answer.is_success(), "{terms:?}: {answer:?}");
        answer.body
    }

    async fn limit(&self, account: usize, side: &str, quantity: &str, price: &str) -> Value {
        let terms =
            [("side", side), ("type", "LIMIT"), ("timeInForce", "GTC"), ("quantity", quantity), ("price", price)];
        self.place(account, &terms).await
    }

    async fn all_orders(&self, account: usize) -> Value {
        self.ask(account, Method::GET, "/api/v3/allOrders", &[("symbol", "BTCUSD"), ("limit", "1000")]).await.body
    }

    async fn all_trades(&self, account: usize) -> Value {
        self.ask(account, Method::GET, "/api/v3/myTrades", &[("symbol", "BTCUSD"), ("limit", "1000")]).await.body
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already: that is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn market() -> String {
    bootstrap(3, "0.001", "0.002")
}

fn folder() -> TempDir {
    TempDir::new_in(build_folder()).expect("a folder in the build folder")
}

// A directory to look into: made once, copied for each test.

/// What a day of trading left: the directory, and what the server said of it.
struct Traded {
    folder: TempDir,
    orders: [Value; 2],
    trades: [Value; 2],
    depth: Value,
    account: Value,
}

impl Traded {
    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

/// 1: a sell of account 1 that trades twice as maker and is canceled. 2: a buy of account 2 above the price of 1. 3: a market
/// buy of account 2. 4: a stop of account 2 that waits. 5: a sell of account 1 that rests. 6: an IOC buy of account 2 that
/// meets 5 in part.
async fn trade(server: &Server) {
    server.limit(1, "SELL", "1", "100").await;
    server.limit(2, "BUY", "0.4", "101.5").await;
    server.place(2, &[("side", "BUY"), ("type", "MARKET"), ("quantity", "0.1")]).await;
    let stop = [("side", "SELL"), ("type", "STOP_LOSS"), ("quantity", "0.2"), ("stopPrice", "90")];
    server.place(2, &stop).await;
    let cancel = server.ask(1, Method::DELETE, "/api/v3/order", &[("symbol", "BTCUSD"), ("orderId", "1")]).await;
    assert!(cancel.is_success(), "{cancel:?}");
    server.limit(1, "SELL", "0.3", "102").await;
    let terms = [("side", "BUY"), ("type", "LIMIT"), ("timeInForce", "IOC"), ("quantity", "0.5"), ("price", "103")];
    server.place(2, &terms).await;
    server.limit(1, "SELL", "2", "105.25").await;
}

fn traded() -> &'static Traded {
    static TRADED: OnceLock<Traded> = OnceLock::new();
    TRADED.get_or_init(|| {
        // A runtime of its own: the first of the tests to come may be on one already.
        let make = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let folder = folder();
                let server = Server::on(&folder.path().join("data"));
                trade(&server).await;
                let orders = [server.all_orders(1).await, server.all_orders(2).await];
                let trades = [server.all_trades(1).await, server.all_trades(2).await];
                let depth = server.rest.get("/api/v3/depth", &[("symbol", "BTCUSD")]).await.expect("an answer").body;
                let account = server.ask(2, Method::GET, "/api/v3/account", &[]).await.body;
                server.stop();
                Traded { folder, orders, trades, depth, account }
            })
        };
        std::thread::spawn(make).join().expect("the server trades")
    })
}

/// A copy of that directory, to be changed. Its identity is given up with the copy, as `restore` would.
fn copy() -> (TempDir, PathBuf) {
    let folder = folder();
    let data = folder.path().join("data");
    copy_folder(&traded().data(), &data);
    fs::remove_file(data.join("identity")).expect("a node keeps one");
    (folder, data)
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a writable folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).expect("a folder");
        if path.is_dir() { copy_folder(&path, &to.join(name)) } else { drop(fs::copy(&path, to.join(name))) }
    }
}

// The program.

/// Runs `rialto journal`.
fn run(words: &[&str], data: &Path) -> (i32, String, String) {
    let output = Command::new(binary())
        .arg("journal")
        .args(words)
        .arg("--data")
        .arg(data)
        .output()
        .expect("the binary can be started");
    texts(output)
}

fn texts(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let (out, complaint) = (text(output.stdout), text(output.stderr));
    assert!(!complaint.contains("panicked"), "{complaint}");
    (output.status.code().expect("it was not killed"), out, complaint)
}

/// Runs it, and it is fine.
fn fine(words: &[&str], data: &Path) -> String {
    let (code, out, complaint) = run(words, data);
    assert_eq!(code, 0, "{words:?}: {out}{complaint}");
    out
}

/// Runs it with `--json`, and it is fine; the one value it prints.
fn asked(words: &[&str], data: &Path) -> Value {
    let out = fine(&[words, &["--json"]].concat(), data);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{words:?}: {error}: {out}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a text: {value}"))
}

/// A decimal as a whole number of units of 10^-10, which all assets here fit.
fn units(value: &Value) -> i128 {
    let text = text(value);
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{part:0<10}").parse().unwrap_or_else(|_| panic!("a decimal: {text:?}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("a list: {value}"))
}

fn state_hash(data: &Path) -> String {
    text(&asked(&["replay"], data)["state_hash"]).to_owned()
}

fn last_sequence(data: &Path) -> u64 {
    asked(&["status"], data)["log"]["last_sequence"].as_u64().expect("a sequence")
}

// Looking.

#[test]
fn status_tells_what_a_directory_holds() {
    let data = traded().data();
    let status = asked(&["status"], &data);
    assert_eq!(status["running"], false);
    assert_eq!(status["log"]["first_sequence"], 1);
    let (first, last) = (status["log"]["first_entry"].as_u64(), status["log"]["last_entry"].as_u64());
    assert_eq!(first, Some(0));
    assert_eq!(status["log"]["durable_before"].as_u64(), last.map(|last| last + 1), "it was stopped in order");
    assert_eq!(status["history"]["sequence"], status["log"]["last_sequence"]);
    let said = fine(&["status"], &data);
    for words in ["no node is running", "started 1 times", "sequences 1 to"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn a_whole_directory_verifies_and_the_replay_comes_to_its_snapshots() {
    let (_folder, data) = copy();
    fine(&["snapshot"], &data);
    let found = asked(&["verify"], &data);
    assert_eq!((&found["whole"], &found["damages"]), (&json!(true), &json!([])), "{found}");
    assert_eq!(found["replay"]["snapshots_reached"], json!([last_sequence(&data)]));
    assert_eq!(found["replay"]["commands"].as_u64(), Some(last_sequence(&data)));
    assert!(found["history_rows"].as_u64() > Some(20), "{found}");
    let said = fine(&["verify"], &data);
    assert!(said.contains("came to the snapshot") && said.contains("whole"), "{said}");
}

#[test]
fn dump_has_every_command_once_with_what_it_did_and_no_secret() {
    let data = traded().data();
    let lines = fine(&["dump", "--json", "--events"], &data);
    let commands: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let sequences: Vec<u64> = commands.iter().map(|line| line["sequence"].as_u64().expect("a number")).collect();
    assert!(sequences.iter().copied().eq(1..=last_sequence(&data)), "{sequences:?}");
    let events: Vec<&Value> = commands.iter().flat_map(|line| list(&line["events"])).collect();
    let trades: Vec<&&Value> = events.iter().filter(|event| event["kind"] == "Trade").collect();
    assert_eq!(trades.len(), list(&traded().trades[1]).len());
    assert_eq!(trades[0]["price"], "100.0000000000");
    assert_eq!(trades[0]["quantity"], "0.40000000");
    for verb in [&["dump", "--events"][..], &["dump", "--json", "--events"], &["dump", "--entries"]] {
        let said = fine(verb, &data);
        assert!(!said.contains("secret-of-account"), "{said}");
        assert!(!said.contains(&hex("secret-of-account-1")), "{said}");
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn dump_keeps_to_its_range_by_sequence_by_time_and_by_entry() {
    let data = traded().data();
    let last = last_sequence(&data);
    let some = fine(&["dump", "--from", "3", "--to", "5"], &data);
    assert_eq!(some.lines().count(), 3, "{some}");
    assert!(some.lines().next().is_some_and(|line| line.trim_start().starts_with("3 ")), "{some}");
    let (code, _, complaint) = run(&["dump", "--from", "5", "--to", "3"], &data);
    assert!(code == NOT_THERE && complaint.contains("sequence 3 is before 5"), "{complaint}");
    // All commands of the last one's time, which is the last.
    let line = fine(&["dump", "--json", "--from", &last.to_string()], &data);
    let time: Value = serde_json::from_str(&line).expect("one line of JSON");
    let same = fine(&["dump", "--from", text(&time["time"]), "--to", text(&time["time"])], &data);
    assert!(same.trim_start().starts_with(&last.to_string()) && same.lines().count() == 1, "{same}");
    let entries = fine(&["dump", "--entries", "--json", "--from", "1", "--to", "3"], &data);
    let entries: Vec<Value> = entries.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(entries.iter().map(|entry| entry["entry"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
    assert!(entries.windows(2).all(|pair| pair[0]["link"] == pair[1]["previous"]), "{entries:?}");
}

// Time travel.

#[test]
fn a_replay_comes_to_the_same_state_from_anywhere_and_stops_where_it_is_told() {
    let (_folder, data) = copy();
    let last = last_sequence(&data);
    let hashes: Vec<Value> = (0..=last)
        .map(|sequence| asked(&["replay", "--to", &sequence.to_string()], &data)["state_hash"].take())
        .collect();
    let middle = last - 3;
    let written = asked(&["snapshot", "--at", &middle.to_string()], &data);
    assert_eq!(written["state_hash"], hashes[middle as usize]);
    for sequence in middle..=last {
        let from_snapshot = asked(&["replay", "--to", &sequence.to_string()], &data);
        assert_eq!(from_snapshot["base"]["sequence"], middle);
        assert_eq!(from_snapshot["state_hash"], hashes[sequence as usize], "sequence {sequence}");
    }
    let from_begin = asked(&["replay", "--from-begin"], &data);
    assert_eq!((&from_begin["base"]["sequence"], &from_begin["commands"]), (&json!(0), &json!(last)));
    assert_eq!(from_begin["state_hash"], hashes[last as usize]);
    let time = text(&from_begin["at"]["time"]).to_owned();
    assert_eq!(asked(&["replay", "--to", &time], &data)["at"]["sequence"], last);
    assert_eq!(asked(&["replay", "--to", "1980-01-01"], &data)["at"]["sequence"], 0);
}

#[test]
fn a_book_is_shown_as_the_server_showed_it() {
    let Traded { depth, .. } = traded();
    let data = traded().data();
    let book = asked(&["show", "book", "BTCUSD"], &data);
    for side in ["bids", "asks"] {
        let shown: Vec<(i128, i128)> = list(&book[side]).iter().map(|row| (units(&row[0]), units(&row[1]))).collect();
        let said: Vec<(i128, i128)> = list(&depth[side]).iter().map(|row| (units(&row[0]), units(&row[1]))).collect();
        assert_eq!(shown, said, "{side}");
    }
    assert_eq!(book["update_id"], depth["lastUpdateId"]);
    let said = fine(&["show", "book", "BTCUSD"], &data);
    assert!(said.contains("105.2500000000") && said.contains("2.00000000"), "{said}");
    // When the first order had just come, its was the only level.
    let first = sequence_of(&data, |line| line["outcome"] == "order 1");
    let then = asked(&["show", "book", "BTCUSD", "--at", &first.to_string()], &data);
    assert_eq!((&then["bids"], &then["asks"]), (&json!([]), &json!([["100.0000000000", "1.00000000", 1]])));
}

/// The first command that is like this.
fn sequence_of(data: &Path, is_it: impl Fn(&Value) -> bool) -> u64 {
    let lines = fine(&["dump", "--json"], data);
    let mut commands = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    commands.find(is_it).and_then(|line| line["sequence"].as_u64()).expect("there is one")
}

#[test]
fn an_account_is_shown_as_the_server_showed_it() {
    let data = traded().data();
    let account = asked(&["show", "account", "2"], &data);
    let shown: Vec<_> = list(&account["balances"])
        .iter()
        .map(|balance| (balance["asset"].clone(), units(&balance["free"]), units(&balance["locked"])))
        .collect();
    let said: Vec<_> = list(&traded().account["balances"])
        .iter()
        .map(|balance| (balance["asset"].clone(), units(&balance["free"]), units(&balance["locked"])))
        .collect();
    assert_eq!(shown, said);
    assert_eq!(list(&account["open_orders"]).len(), 1, "the stop: {account}");
    assert_eq!(account["open_orders"][0]["stop_price"], "90.0000000000");
    let said = fine(&["show", "account", "2"], &data);
    assert!(said.contains("asset=BTC") && said.contains("type=STOP_LOSS"), "{said}");
    // Before its deposits it had nothing.
    let opened = sequence_of(&data, |line| line["command"]["kind"] == "OpenAccount" && line["command"]["uid"] == 2);
    let then = asked(&["show", "account", "2", "--at", &opened.to_string()], &data);
    assert_eq!(then["balances"], json!([]));
    let (code, _, complaint) = run(&["show", "account", "2", "--at", &(opened - 1).to_string()], &data);
    assert_eq!((code, complaint.contains("there is no account 2")), (NOT_THERE, true), "{complaint}");
}

#[test]
fn an_order_is_shown_as_the_server_lists_it_and_as_it_was_before() {
    let data = traded().data();
    for order in traded().orders.iter().flat_map(list) {
        let number = order["orderId"].to_string();
        let shown = asked(&["show", "order", "BTCUSD", &number], &data);
        check_order(&shown, order);
    }
    let first = sequence_of(&data, |line| line["outcome"] == "order 1");
    let then = asked(&["show", "order", "BTCUSD", "1", "--at", &first.to_string()], &data);
    assert_eq!((&then["status"], &then["executed"]), (&json!("NEW"), &json!("0.00000000")));
    let said = fine(&["show", "order", "BTCUSD", "6"], &data);
    assert!(said.contains("status=EXPIRED") && said.contains("UNFILLED_IOC"), "{said}");
    let (code, _, complaint) = run(&["show", "order", "BTCUSD", "1", "--at", &(first - 1).to_string()], &data);
    assert_eq!((code, complaint.contains("there is no order 1")), (NOT_THERE, true), "{complaint}");
}

/// What is told of an order is what REST said of it.
fn check_order(told: &Value, said: &Value) {
    let fields = [("client_order_id", "clientOrderId"), ("side", "side"), ("type", "type"), ("status", "status")];
    for (told_as, said_as) in fields {
        assert_eq!(told[told_as], said[said_as], "{told_as}: {told}\n{said}");
    }
    assert_eq!(told["order_id"], said["orderId"]);
    let amounts = [("price", "price"), ("quantity", "origQty"), ("executed", "executedQty")];
    for (told_as, said_as) in amounts.into_iter().chain([("cumulative_quote", "cummulativeQuoteQty")]) {
        assert_eq!(units(&told[told_as]), units(&said[said_as]), "{told_as}: {told}\n{said}");
    }
    assert_eq!(millis(&told["created_at"]), said["time"].as_u64(), "{told}\n{said}");
    assert_eq!(millis(&told["updated_at"]), said["updateTime"].as_u64(), "{told}\n{said}");
}

/// A time as text, in milliseconds since 1970.
fn millis(time: &Value) -> Option<u64> {
    let time = time.as_str()?;
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    // Days from the civil date, by Howard Hinnant's formula: years begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year / 400;
    let of_era = year % 400;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let (clock, micros) = clock.split_once('.')?;
    let seconds = clock.split(':').try_fold(0, |sum, part| part.parse::<u64>().ok().map(|part| sum * 60 + part))?;
    Some((u64::try_from(days).ok()? * 86_400 + seconds) * 1_000 + micros.parse::<u64>().ok()? / 1_000)
}

#[test]
fn a_symbol_is_shown_with_its_numbers() {
    let data = traded().data();
    let symbol = asked(&["show", "symbol", "BTCUSD"], &data);
    assert_eq!((&symbol["last_order_id"], &symbol["last_trade_id"]), (&json!(7), &json!(3)), "{symbol}");
    assert_eq!((&symbol["best_bid"], &symbol["best_ask"]), (&Value::Null, &json!("105.2500000000")));
    assert_eq!((&symbol["resting_orders"], &symbol["waiting_orders"]), (&json!(1), &json!(1)));
    assert_eq!((&symbol["maker_fee"], &symbol["status"]), (&json!("0.00100000"), &json!("TRADING")));
    assert!(fine(&["show", "symbol", "BTCUSD"], &data).contains("105.2500000000"));
}

#[test]
fn a_diff_tells_what_moved_between_two_moments() {
    let data = traded().data();
    let bought = sequence_of(&data, |line| text(&line["outcome"]).starts_with("order 2"));
    let (before, after) = ((bought - 1).to_string(), bought.to_string());
    let diff = asked(&["diff", &before, &after], &data);
    assert_eq!((&diff["commands"], &diff["trades"], &diff["refused"]), (&json!(1), &json!(1), &json!(0)));
    // 0.4 BTC at 100: the buyer pays 40 USD and 0.2 % of what it gets, the seller 0.1 % of what it gets.
    let moved = |uid: u64, asset: &str, field: &str| {
        let account = list(&diff["accounts"]).iter().find(|account| account["uid"] == uid).expect("it moved");
        let balance = list(&account["balances"]).iter().find(|balance| balance["asset"] == asset).expect("it moved");
        units(&balance[field][1]) - units(&balance[field][0])
    };
    let unit = 10_000_000_000;
    assert_eq!((moved(2, "USD", "free"), moved(2, "USD", "locked")), (-40 * unit, 0));
    assert_eq!(moved(2, "BTC", "free"), 4 * unit / 10 * 998 / 1_000);
    assert_eq!((moved(1, "BTC", "locked"), moved(1, "USD", "free")), (-4 * unit / 10, 40 * unit * 999 / 1_000));
    assert_eq!((moved(0, "BTC", "free"), moved(0, "USD", "free")), (8 * unit / 10_000, 40 * unit / 1_000));
    let symbol = &diff["symbols"][0];
    assert_eq!(
        symbol["levels"],
        json!([{ "side": "SELL", "price": "100.0000000000", "before": "1.00000000", "after": "0.60000000" }])
    );
    assert_eq!(symbol["orders"][0]["after"]["executed"], "0.40000000");
    let said = fine(&["diff", &before, &after], &data);
    assert!(said.contains("ask 100.0000000000: 1.00000000 -> 0.60000000"), "{said}");
    assert!(fine(&["diff", &after, &after], &data).contains("nothing differs"));
    assert_eq!(run(&["diff", &after, &before], &data).0, NOT_THERE);
}

#[test]
fn explain_tells_the_life_of_every_order_as_rest_told_it() {
    let data = traded().data();
    for (orders, trades) in traded().orders.iter().zip(&traded().trades) {
        for order in list(orders) {
            let number = order["orderId"].as_u64().expect("a number");
            let own: Vec<&Value> = list(trades).iter().filter(|trade| trade["orderId"] == number).collect();
            let story = asked(&["explain", "BTCUSD", &number.to_string()], &data);
            check_story(&story, order, &own);
        }
    }
    let said = fine(&["explain", "BTCUSD", "2"], &data);
    for words in [
        "BUY LIMIT GTC 0.40000000 BTC at 101.5000000000 USD, holding 40.6000000000 USD",
        "traded 0.40000000 at 100.0000000000 as taker: trade 1 with order 1 of account 1",
        "paid 40.0000000000 USD, received 0.40000000 BTC less a fee of 0.00080000 BTC; 0.6000000000 USD freed",
        "it ended: FILLED",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let said = fine(&["explain", "BTCUSD", "1"], &data);
    assert!(said.contains("canceled by CancelOrder uid=1") && said.contains("0.50000000 BTC freed"), "{said}");
    let said = fine(&["explain", "BTCUSD", "6"], &data);
    assert!(said.contains("expired: UNFILLED_IOC_QUANTITY_EXPIRED; 20.6000000000 USD freed"), "{said}");
    let said = fine(&["explain", "BTCUSD", "4"], &data);
    assert!(said.contains("it is open: NEW") && said.contains("stop 90.0000000000"), "{said}");
}

/// A story says what REST said: the order as it ended, its trades and no others, and its money adds up.
fn check_story(story: &Value, order: &Value, trades: &[&Value]) {
    check_order(&story["order"], order);
    assert_eq!(story["whole"], true);
    let lines = list(&story["lines"]);
    assert_eq!(lines[0]["what"], "came");
    assert_eq!(millis(&lines[0]["time"]), order["time"].as_u64());
    let sequences: Vec<_> = lines.iter().map(|line| line["sequence"].as_u64()).collect();
    assert!(sequences.is_sorted(), "{story}");
    let told: Vec<&Value> = lines.iter().filter(|line| line["what"] == "traded").collect();
    assert_eq!(told.len(), trades.len(), "{story}\n{trades:?}");
    for (told, said) in told.iter().zip(trades) {
        assert_eq!((&told["trade_id"], &told["maker"]), (&said["id"], &said["isMaker"]), "{told}\n{said}");
        for (told_as, said_as) in [("price", "price"), ("quantity", "qty"), ("quote_amount", "quoteQty")] {
            assert_eq!(units(&told[told_as]), units(&said[said_as]), "{told}\n{said}");
        }
        assert_eq!(units(&told["fee"]["amount"]), units(&said["commission"]));
        assert_eq!(told["fee"]["asset"], said["commissionAsset"]);
        assert_eq!(millis(&told["time"]), said["time"].as_u64());
        let (base, quote) = (("BTC", &told["quantity"]), ("USD", &told["quote_amount"]));
        let (paid, received) = if said["isBuyer"] == true { (quote, base) } else { (base, quote) };
        for (side, (asset, amount)) in [("paid", paid), ("received", received)] {
            assert_eq!((&told[side]["asset"], &told[side]["amount"]), (&json!(asset), amount), "{told}");
        }
    }
    // What was held went to somebody, was freed, or is needed still.
    let held = units(&lines[0]["held"]["amount"]);
    let spent: i128 = told.iter().map(|line| units(&line["paid"]["amount"])).sum();
    let freed = lines.iter().filter(|line| !line["released"].is_null());
    let freed: i128 = freed.map(|line| units(&line["released"]["amount"])).sum();
    let needed = match (story["open"] == true, &story["order"]["side"]) {
        (false, _) => 0,
        (true, side) => {
            let open = units(&story["order"]["quantity"]) - units(&story["order"]["executed"]);
            // Both count units of 10^-10: their product does of 10^-20.
            if side == "SELL" { open } else { open * units(&story["order"]["price"]) / 10_000_000_000 }
        }
    };
    assert_eq!(held, spent + freed + needed, "{story}");
}

/// Ten orders of a real day: a buy that took and then gave (7370), a sell through sixteen makers (24378), one that took
/// and gave thirteen times (15554), one that traded both ways and was taken back (2720), market orders (1711, 18128), a
/// maker taken back with a rest (629), one that never traded (20), one that is open with a part gone (18130) and one that
/// nobody ever met (481).
const STORIES: [u64; 10] = [7370, 24378, 15554, 2720, 1711, 18128, 629, 20, 18130, 481];

#[tokio::test]
async fn explain_tells_the_true_story_of_ten_orders_of_the_bitstamp_day() {
    let Some(flow) = shared_file("data/commands/bitstamp_2015-05-01.commands.csv.gz") else { return };
    let folder = folder();
    let data = folder.path().join("data");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/bitstamp.toml");
    let bootstrap = fs::read_to_string(&example).expect("the example is there");
    let server = Server::start(&data, &bootstrap, "").unwrap_or_else(|complaint| panic!("{complaint}"));
    let replayed = Command::new(binary())
        .args(["replay", "--json", "--symbol", "BTCUSD", "--url", &format!("http://{}", server.address)])
        .args(["--in-flight", "100", "--accounts"])
        .arg(&example)
        .arg("--orders")
        .arg(flow)
        .output()
        .expect("the binary can be started");
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    let who = gateway::client::Credentials {
        api_key: "bitstamp-replay-key".to_owned(),
        secret: "bitstamp-replay-secret-known-to-all".to_owned(),
    };
    let ask = async |path: &str, number: &str| {
        let parameters = [("symbol", "BTCUSD"), ("orderId", number)];
        server.rest.signed(Method::GET, path, &parameters, &who).await.expect("an answer").body
    };
    let mut told = Vec::new();
    for number in STORIES {
        let number_text = number.to_string();
        let orders = ask("/api/v3/allOrders", &number_text).await;
        let order = list(&orders).iter().find(|order| order["orderId"] == number).expect("it is listed").clone();
        let trades = ask("/api/v3/myTrades", &number_text).await;
        // Beside the running server, and again when it is dead.
        let story = asked(&["explain", "BTCUSD", &number_text], &data);
        check_story(&story, &order, &list(&trades).iter().collect::<Vec<_>>());
        for line in list(&story["lines"]).iter().filter(|line| line["what"] == "traded") {
            let other = ask("/api/v3/myTrades", &line["with_order"].to_string()).await;
            let met = |trade: &&Value| trade["id"] == line["trade_id"] && trade["isMaker"] != line["maker"];
            assert!(list(&other).iter().any(|trade| met(&trade)), "order {number} met it: {line}\n{other}");
        }
        told.push((number_text, order, story));
    }
    let counts: Vec<usize> = told
        .iter()
        .map(|(_, _, story)| list(&story["lines"]).iter().filter(|line| line["what"] == "traded").count())
        .collect();
    assert_eq!(counts, [9, 16, 13, 7, 8, 8, 8, 0, 1, 0]);
    let statuses: Vec<&str> = told.iter().map(|(_, order, _)| text(&order["status"])).collect();
    let expected = ["FILLED", "FILLED", "FILLED", "CANCELED", "FILLED", "FILLED", "CANCELED", "CANCELED"];
    assert_eq!(statuses, [&expected[..], &["PARTIALLY_FILLED", "NEW"]].concat());
    server.kill();
    for (number, _, story) in told {
        let again = asked(&["explain", "BTCUSD", &number], &data);
        assert_eq!(again["lines"], story["lines"], "order {number}");
    }
}

// Beside a running node.

#[tokio::test]
async fn reading_verbs_read_beside_a_running_node_and_writing_ones_are_refused() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Server::on(&data);
    trade(&server).await;
    assert_eq!(asked(&["status"], &data)["running"], true);
    assert!(fine(&["status"], &data).contains("a node is running"));
    assert_eq!(asked(&["verify"], &data)["whole"], true);
    let before = asked(&["replay"], &data);
    // It sees what is acknowledged the moment before.
    server.limit(1, "SELL", "1", "110").await;
    let after = asked(&["replay"], &data);
    assert_eq!(after["at"]["sequence"].as_u64(), before["at"]["sequence"].as_u64().map(|before| before + 1));
    assert_eq!(asked(&["show", "order", "BTCUSD", "8"], &data)["price"], "110.0000000000");
    fine(&["dump"], &data);
    fine(&["diff", "1", "end"], &data);
    fine(&["explain", "BTCUSD", "1"], &data);
    let ruling = ["compensate", "--sequence", "9", "--operator", "ann", "--reason", "a test", "--confirm", "9"];
    for words in [&["snapshot"][..], &["rebuild-history"], &["adopt"], &ruling] {
        let (code, _, complaint) = run(words, &data);
        assert_eq!(code, IN_USE, "{words:?}: {complaint}");
        assert!(complaint.contains("a running node owns the data directory"), "{complaint}");
    }
    let (code, said, _) = run(&["snapshot", "--json"], &data);
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &said["exit"]), (IN_USE, &json!(IN_USE)));
    // None of that did the node any harm.
    server.limit(1, "SELL", "1", "111").await;
    server.stop();
    assert_eq!(asked(&["verify"], &data)["whole"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_verbs_see_no_damage_while_a_node_writes_snapshots_and_purges_its_log() {
    let folder = folder();
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let settings = "[journal]\nsnapshot_every_entries = 10\nlog_bytes_kept = 0\n";
    let server = Server::start(&data, &market(), settings).unwrap_or_else(|complaint| panic!("{complaint}"));
    let trade = |rest: Rest| async move {
        let terms = [("symbol", "BTCUSD"), ("side", "SELL"), ("type", "LIMIT"), ("timeInForce", "GTC")];
        let parameters = [&terms[..], &[("quantity", "0.01"), ("price", "110")]].concat();
        loop {
            let answer = rest.signed(Method::POST, "/api/v3/order", &parameters, &credentials(1)).await;
            assert!(answer.expect("an answer").is_success());
        }
    };
    let mut trading = JoinSet::new();
    (0..8).for_each(|_| drop(trading.spawn(trade(Rest::new(&server.address)))));
    let look = move || {
        let to = backup.to_str().expect("text").to_owned();
        let verbs: [&[&str]; 5] =
            [&["status"], &["verify"], &["replay"], &["show", "account", "1"], &["backup", "--to", &to]];
        for round in 0..10 {
            for words in verbs {
                let (code, out, complaint) = run(words, &data);
                // A log that was purged beyond the end of the backup is for a new backup.
                let purged = words[0] == "backup" && code == REFUSED && complaint.contains("older ones were purged");
                assert!(code == 0 || purged, "round {round}, {words:?}: exit {code}: {out}{complaint}");
                if purged {
                    fs::remove_dir_all(&backup).expect("it is there");
                }
            }
        }
        data
    };
    let data = tokio::task::spawn_blocking(look).await.expect("no verb sees damage");
    trading.shutdown().await;
    let status = asked(&["status"], &data);
    assert!(status["log"]["first_entry"].as_u64() > Some(0), "it was purged meanwhile: {status}");
    server.stop();
    assert_eq!(asked(&["verify"], &data)["whole"], true);
}

// Copies.

#[tokio::test]
async fn a_backup_of_a_running_node_grows_by_what_is_new_and_restores_to_the_same_state_and_history() {
    let folder = folder();
    let (data, backup, restored) =
        (folder.path().join("data"), folder.path().join("backup"), folder.path().join("restored"));
    let to = ["backup", "--to", backup.to_str().expect("text")];
    let server = Server::on(&data);
    trade(&server).await;
    // The mark follows within a moment; what is behind it waits for the next run.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let first = asked(&to, &data);
    assert_eq!((&first["running"], list(&first["new_segments"]).len()), (&json!(true), 1), "{first}");
    let again = asked(&to, &data);
    assert_eq!((list(&again["new_segments"]).len(), &again["end_entry"]), (0, &first["end_entry"]));
    server.limit(1, "SELL", "1", "110").await;
    server.limit(2, "BUY", "1", "110").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let second = asked(&to, &data);
    assert_eq!(second["new_segments"][0]["first_entry"], first["end_entry"], "{second}");
    assert_eq!(second["segments"], 2);
    let (orders, trades) = (server.all_orders(2).await, server.all_trades(2).await);
    server.kill();
    let third = fine(&to, &data);
    assert!(third.contains("2 segments") || third.contains("3 segments"), "{third}");

    let from = ["restore", "--from", backup.to_str().expect("text")];
    let report = asked(&from, &restored);
    assert_eq!(text(&report["state_hash"]), state_hash(&data));
    assert_eq!(report["history_from"], 1);
    assert_eq!(asked(&["verify"], &restored)["whole"], true);
    let server = Server::on(&restored);
    assert_eq!((server.all_orders(2).await, server.all_trades(2).await), (orders, trades));
    // It goes on where it was, and a backup goes on with it.
    let order = server.limit(1, "SELL", "1", "120").await;
    assert_eq!(order["orderId"], 10);
    server.stop();
    let fourth = asked(&to, &restored);
    assert_eq!(list(&fourth["new_segments"]).len(), 1, "{fourth}");
    // The original did not go that way.
    let (code, _, complaint) = run(&to, &data);
    assert_eq!(code, REFUSED, "{complaint}");
    assert!(complaint.contains("does not go on where the backup"), "{complaint}");
}

#[test]
fn a_backup_of_another_history_is_refused_and_left_as_it_is() {
    let (folder, data) = copy();
    let backup = folder.path().join("backup");
    let to = ["backup", "--to", backup.to_str().expect("text")];
    fine(&to, &data);
    let manifest = fs::read(backup.join("manifest")).expect("there is one");
    let other = folder.path().join("other");
    let server = Server::on(&other);
    server.stop();
    let (code, _, complaint) = run(&to, &other);
    assert_eq!(code, REFUSED, "{complaint}");
    assert!(complaint.contains("Begin a new backup in an empty directory"), "{complaint}");
    assert_eq!(fs::read(backup.join("manifest")).expect("there is one"), manifest);
}

#[test]
fn a_damaged_backup_is_named_and_leaves_no_directory_behind() {
    let (folder, data) = copy();
    let (backup, target) = (folder.path().join("backup"), folder.path().join("restored"));
    fine(&["snapshot"], &data);
    fine(&["backup", "--to", backup.to_str().expect("text")], &data);
    let from = ["restore", "--from", backup.to_str().expect("text")];
    let mut files: Vec<PathBuf> = vec![backup.join("manifest")];
    files.extend(fs::read_dir(backup.join("segments")).expect("a folder").flatten().map(|file| file.path()));
    assert_eq!(files.len(), 2);
    for file in files {
        let whole = fs::read(&file).expect("a file");
        for place in [0, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
            flip(&file, place as u64, 0x10);
            let (code, _, complaint) = run(&from, &target);
            assert_eq!(code, DAMAGE, "{} at {place}: {complaint}", file.display());
            assert!(complaint.contains(file.to_str().expect("text")), "{complaint}");
            assert!(!target.exists(), "nothing is left that a node could start on");
            fs::write(&file, &whole).expect("a writable file");
        }
        fs::write(&file, &whole[..whole.len() / 2]).expect("a writable file");
        assert_eq!(run(&from, &target).0, DAMAGE, "{} cut in half", file.display());
        fs::write(&file, &whole).expect("a writable file");
    }
    fine(&from, &target);
    assert_eq!(run(&from, &target).0, REFUSED, "it is there already");
}

#[test]
fn a_damaged_or_missing_snapshot_of_a_backup_is_passed_over_where_the_entries_hold_it_all() {
    let (folder, data) = copy();
    let backup = folder.path().join("backup");
    fine(&["snapshot"], &data);
    fine(&["backup", "--to", backup.to_str().expect("text")], &data);
    let from = ["restore", "--from", backup.to_str().expect("text")];
    let file = fs::read_dir(backup.join("snapshots")).expect("a folder").flatten().next().expect("a snapshot").path();
    flip(&file, fs::metadata(&file).expect("a file").len() / 2, 0x10);
    for name in ["damaged", "missing"] {
        let target = folder.path().join(name);
        let restored = asked(&from, &target);
        assert_eq!((&restored["snapshots"], text(&restored["state_hash"])), (&json!(0), &*state_hash(&data)));
        assert!(text(&restored["passed_over"][0]).contains(file.to_str().expect("text")), "{restored}");
        assert_eq!(asked(&["verify"], &target)["whole"], true);
        let _ = fs::remove_file(&file);
    }
}

#[test]
fn an_export_imports_to_the_same_state_and_a_damaged_one_is_named() {
    let (folder, data) = copy();
    let (file, target) = (folder.path().join("log.zst"), folder.path().join("imported"));
    let (to, from) =
        (["export", "--to", file.to_str().expect("text")], ["import", "--from", file.to_str().expect("text")]);
    let report = asked(&to, &data);
    assert_eq!((&report["first_entry"], &report["has_snapshot"]), (&json!(0), &json!(false)));
    let (code, _, complaint) = run(&to, &data);
    assert_eq!((code, complaint.contains("exists already")), (REFUSED, true), "{complaint}");
    let imported = asked(&from, &target);
    assert_eq!(text(&imported["state_hash"]), state_hash(&data));
    assert_eq!(asked(&["verify"], &target)["whole"], true);
    assert_eq!(fine(&["dump"], &target), fine(&["dump"], &data));
    let (code, _, complaint) = run(&from, &target);
    assert_eq!((code, complaint.contains("is not empty")), (REFUSED, true), "{complaint}");

    let whole = fs::read(&file).expect("a file");
    let other = folder.path().join("other");
    for place in (0..whole.len()).step_by(whole.len() / 100) {
        flip(&file, place as u64, 0x04);
        let (code, _, complaint) = run(&from, &other);
        assert_eq!(code, DAMAGE, "byte {place}: {complaint}");
        assert!(!other.exists());
        fs::write(&file, &whole).expect("a writable file");
    }
}

#[test]
fn a_purged_log_is_backed_up_and_exported_with_the_snapshot_it_goes_on_from() {
    let folder = folder();
    let data = folder.path().join("data");
    let settings = "[journal]\nsnapshot_every_entries = 10\nlog_bytes_kept = 0\n";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let orders = runtime.block_on(async {
        let server = Server::start(&data, &market(), settings).unwrap_or_else(|complaint| panic!("{complaint}"));
        trade(&server).await;
        for _ in 0..100 {
            server.limit(1, "SELL", "1", "110").await;
            if asked(&["status"], &data)["log"]["first_entry"].as_u64() > Some(10) {
                break;
            }
        }
        let orders = server.all_orders(1).await;
        server.stop();
        orders
    });
    let status = asked(&["status"], &data);
    assert!(status["log"]["first_entry"].as_u64() > Some(10), "it was purged: {status}");
    assert_eq!(asked(&["verify"], &data)["whole"], true);
    let hash = state_hash(&data);
    let (file, backup) = (folder.path().join("log.zst"), folder.path().join("backup"));
    assert_eq!(asked(&["export", "--to", file.to_str().expect("text")], &data)["has_snapshot"], true);
    fine(&["backup", "--to", backup.to_str().expect("text")], &data);
    for (verb, from) in [("import", &file), ("restore", &backup)] {
        let target = folder.path().join(verb);
        let report = asked(&[verb, "--from", from.to_str().expect("text")], &target);
        assert_eq!(text(&report["state_hash"]), hash);
        assert!(report["history_from"].as_u64() > Some(1), "{report}");
        assert_eq!(asked(&["verify"], &target)["whole"], true);
    }
    // The life of an order of before is not told, and said so; what is open still is told from where the log begins.
    let (code, _, complaint) = run(&["explain", "BTCUSD", "2"], &data);
    assert_eq!((code, complaint.contains("where the log begins")), (NOT_THERE, true), "{complaint}");
    let open = asked(&["explain", "BTCUSD", "7"], &data);
    assert_eq!((&open["whole"], &open["lines"][0]["what"]), (&json!(false), &json!("was_open")));
    assert_eq!(run(&["replay", "--to", "3"], &data).0, NOT_THERE);
    // History of before the log is left as it was when history is written again.
    let rebuilt = asked(&["rebuild-history"], &data);
    assert!(rebuilt["rows_left"].as_u64() > Some(0), "{rebuilt}");
    runtime.block_on(async {
        let server = Server::start(&data, &market(), settings).unwrap_or_else(|complaint| panic!("{complaint}"));
        assert_eq!(server.all_orders(1).await, orders);
        server.stop();
    });
}

// Mending.

#[test]
fn a_snapshot_inside_of_an_entry_is_refused_and_the_nearest_are_named() {
    let (_folder, data) = copy();
    // The bootstrap is one entry of many commands.
    let (code, _, complaint) = run(&["snapshot", "--at", "3"], &data);
    assert_eq!(code, REFUSED, "{complaint}");
    assert!(complaint.contains("the nearest are sequence 0 and sequence"), "{complaint}");
    let written = asked(&["snapshot"], &data);
    assert_eq!((&written["at"]["sequence"], &written["replaced"]), (&json!(last_sequence(&data)), &json!(false)));
    assert_eq!(asked(&["snapshot"], &data)["replaced"], true);
}

#[test]
fn a_node_starts_from_a_snapshot_that_was_written_after_a_crash_and_history_has_no_hole() {
    let folder = folder();
    let data = folder.path().join("data");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (orders, trades) = runtime.block_on(async {
        let server = Server::on(&data);
        trade(&server).await;
        let told = (server.all_orders(2).await, server.all_trades(2).await);
        server.kill();
        told
    });
    // History was never flushed: the snapshot must not count before it is.
    assert_eq!(asked(&["status"], &data)["history"]["sequence"], 0);
    fine(&["snapshot"], &data);
    assert_eq!(asked(&["status"], &data)["history"]["sequence"].as_u64(), Some(last_sequence(&data)));
    runtime.block_on(async {
        let server = Server::on(&data);
        assert_eq!((server.all_orders(2).await, server.all_trades(2).await), (orders, trades));
        server.stop();
    });
}

#[test]
fn damaged_history_is_named_and_written_again() {
    let (_folder, data) = copy();
    change(&data, "history", |database, family| {
        let mut rows = database.iterator_cf(family, IteratorMode::From(b"u", Direction::Forward));
        let (key, mut value) = rows.next().expect("an order").expect("it reads");
        // Behind its time.
        value[8] ^= 0x40;
        database.put_cf(family, &key, value).expect("it writes");
    });
    let (damages, code) = damages(&data);
    assert_eq!(code, DAMAGE);
    assert!(damages.iter().any(|damage| text(&damage["place"]).contains("an order, key 75")), "{damages:?}");
    assert!(damages.iter().all(|damage| text(&damage["remedy"]).contains("rebuild-history")), "{damages:?}");
    let rebuilt = asked(&["rebuild-history"], &data);
    assert_eq!((&rebuilt["from_sequence"], &rebuilt["rows_left"]), (&json!(1), &json!(0)));
    assert_eq!(asked(&["verify"], &data)["whole"], true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let server = Server::on(&data);
        for (account, (orders, trades)) in traded().orders.iter().zip(&traded().trades).enumerate() {
            assert_eq!(server.all_orders(account + 1).await, *orders);
            assert_eq!(server.all_trades(account + 1).await, *trades);
        }
        server.stop();
    });
}

#[test]
fn a_copied_directory_starts_after_it_was_adopted() {
    let folder = folder();
    let data = folder.path().join("data");
    copy_folder(&traded().data(), &data);
    let complaint = Server::start(&data, &market(), "").err().expect("a copy is refused");
    assert!(complaint.contains("rialto journal adopt"), "{complaint}");
    assert_eq!(asked(&["adopt"], &data)["adopted"], true);
    assert!(fine(&["adopt"], &data).contains("a node may start on it"));
    Server::on(&data).stop();
}

#[tokio::test]
async fn a_poisoned_command_is_passed_over_by_a_ruling_that_the_log_keeps() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Server::on(&data);
    trade(&server).await;
    server.stop();
    // A command that stops the engine, as a fault in the engine would: the next one.
    let poisoned = last_sequence(&data) + 1;
    let drill = format!("[journal]\ndrill_poison_sequence = {poisoned}\n");
    let server = Server::start(&data, &market(), &drill).unwrap_or_else(|complaint| panic!("{complaint}"));
    let parameters = [("symbol", "BTCUSD"), ("side", "SELL"), ("type", "MARKET"), ("quantity", "0.1")];
    // The node stops on it; whatever it still answers is not success.
    if let Ok(answer) = server.rest.signed(Method::POST, "/api/v3/order", &parameters, &credentials(1)).await {
        assert!(!answer.is_success(), "{answer:?}");
    }
    drop(server);
    let complaint = Server::start(&data, &market(), &drill).err().expect("it stops again at every start");
    assert!(complaint.contains(&format!("compensate --sequence {poisoned}")), "{complaint}");

    let number = poisoned.to_string();
    let ruling = ["compensate", "--sequence", &number, "--operator", "ann", "--reason", "drill 7"];
    let before = state_hash(&data);
    let dry = fine(&ruling, &data);
    assert!(dry.contains("dry run") && dry.contains("PlaceOrder uid=1"), "{dry}");
    assert_eq!(state_hash(&data), before, "nothing was changed");
    let (code, _, complaint) = run(&[&ruling[..], &["--confirm", "1"]].concat(), &data);
    assert_eq!((code, complaint.contains("nothing was changed")), (REFUSED, true), "{complaint}");
    assert_eq!(run(&["compensate", "--sequence", &number, "--operator", "ann"], &data).0, USAGE);
    let (code, _, _) = run(&["compensate", "--sequence", &number, "--operator", " ", "--reason", "x"], &data);
    assert_eq!(code, REFUSED);
    let behind = (poisoned + 1).to_string();
    let (code, _, _) = run(&["compensate", "--sequence", &behind, "--operator", "ann", "--reason", "x"], &data);
    assert_eq!(code, NOT_THERE);

    let done = asked(&[&ruling[..], &["--confirm", &number]].concat(), &data);
    assert_eq!((&done["done"], &done["end"]["at"]["sequence"]), (&json!(true), &json!(poisoned)));
    let (code, _, complaint) = run(&[&ruling[..], &["--confirm", &number]].concat(), &data);
    assert_eq!((code, complaint.contains("passed over already")), (REFUSED, true), "{complaint}");
    assert!(fine(&["dump", "--from", &number], &data).contains("refused: Compensated"));
    assert!(fine(&["dump", "--entries"], &data).contains("as ann ruled"));
    let found = asked(&["verify"], &data);
    assert!(found["whole"] == true && found["notes"].to_string().contains("drill 7"), "{found}");
    let server = Server::start(&data, &market(), &drill).unwrap_or_else(|complaint| panic!("{complaint}"));
    let order = server.limit(1, "SELL", "1", "120").await;
    assert_eq!(order["orderId"], 8, "the order that was passed over has no number");
    server.stop();
    // Node and tool come to the same state, also from a copy.
    let backup = folder.path().join("backup");
    fine(&["backup", "--to", backup.to_str().expect("text")], &data);
    let report = asked(&["restore", "--from", backup.to_str().expect("text")], &folder.path().join("restored"));
    assert_eq!(text(&report["state_hash"]), state_hash(&data));
}

// Wrong questions.

#[test]
fn what_is_asked_wrongly_is_told_by_the_exit_status() {
    let data = traded().data();
    let cases: [(&[&str], i32, &str); 9] = [
        (&["nonsense"], USAGE, "unrecognized subcommand"),
        (&["replay", "--to", "soon"], USAGE, "a sequence such as"),
        (&["explain", "BTCUSD", "x"], USAGE, "invalid value"),
        (&["explain", "BTCUSD", "999"], NOT_THERE, "there is no order 999 of BTCUSD"),
        (&["explain", "NOPE", "1"], NOT_THERE, "there is no symbol NOPE"),
        (&["show", "book", "NOPE"], NOT_THERE, "there is no symbol NOPE"),
        (&["replay", "--to", "99999"], NOT_THERE, "the log ends at sequence"),
        (&["restore", "--from", "/nowhere"], REFUSED, "is no backup"),
        (&["import", "--from", "/nowhere"], FAILED, "No such file"),
    ];
    for (words, expected, complaint) in cases {
        let target = folder();
        let writes = ["restore", "import"].contains(&words[0]);
        let (code, _, said) = run(words, if writes { target.path() } else { &data });
        assert_eq!(code, expected, "{words:?}: {said}");
        assert!(said.contains(complaint), "{words:?}: {said}");
    }
    let empty = folder();
    for verb in ["status", "verify", "dump", "replay", "snapshot", "rebuild-history", "adopt"] {
        let (code, _, said) = run(&[verb], empty.path());
        assert_eq!(code, FAILED, "{verb}: {said}");
        assert!(said.contains("is not a data directory"), "{verb}: {said}");
    }
    assert!(fs::read_dir(empty.path()).expect("a folder").next().is_none(), "nothing was made there");
}

#[test]
fn every_verb_has_help_with_an_example() {
    for verb in [
        "status",
        "verify",
        "dump",
        "replay",
        "show",
        "explain",
        "diff",
        "snapshot",
        "backup",
        "restore",
        "export",
        "import",
        "rebuild-history",
        "adopt",
        "compensate",
    ] {
        let output = Command::new(binary()).args(["journal", verb, "--help"]).output().expect("it starts");
        let (code, help, _) = texts(output);
        assert_eq!(code, 0);
        assert!(help.contains(&format!("rialto journal {verb}")) && help.contains("Examples:"), "{verb}: {help}");
    }
    let (_, help, _) = texts(Command::new(binary()).args(["journal", "--help"]).output().expect("it starts"));
    assert!(help.contains("Exit status:") && help.contains("4  a running node owns the directory"), "{help}");
}

// Damage.

/// Opens the database as RocksDB alone would, and changes what is in a column family.
fn change(data: &Path, family: &str, change: impl FnOnce(&DB, &rocksdb::ColumnFamily)) {
    let database = DB::open_cf(&Options::default(), data.join("db"), ["default", "log", "meta", "history"]);
    let database = database.expect("it opens");
    change(&database, database.cf_handle(family).expect("it was opened"));
}

fn flip(file: &Path, place: u64, bits: u8) {
    let file = fs::File::options().read(true).write(true).open(file).expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, place).expect("it is that long");
    file.write_all_at(&[byte[0] ^ bits], place).expect("a writable file");
}

/// What `verify` finds, and how it ends.
fn damages(data: &Path) -> (Vec<Value>, i32) {
    let (code, out, complaint) = run(&["verify", "--json"], data);
    let said: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{complaint}"));
    let damages = said["damages"].as_array().cloned().unwrap_or_else(|| vec![said["damage"].clone()]);
    (damages, code)
}

fn only_damage(data: &Path) -> Value {
    let (damages, code) = damages(data);
    assert_eq!((code, damages.len()), (DAMAGE, 1), "{damages:?}");
    assert!(!text(&damages[0]["remedy"]).is_empty());
    damages.into_iter().next().expect("there is one")
}

#[test]
fn a_flipped_bit_in_the_log_is_named_with_entry_and_sequence() {
    let (_folder, data) = copy();
    let last = asked(&["status"], &data)["log"]["last_entry"].as_u64().expect("a number");
    let entries = fine(&["dump", "--entries", "--json"], &data);
    let entries: Vec<Value> = entries.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let damaged = entries.iter().rfind(|entry| entry["kind"] == "commands").expect("there are some");
    let index = damaged["entry"].as_u64().expect("a number");
    assert!(index <= last);
    change(&data, "log", |database, family| {
        let mut value = database.get_cf(family, index.to_be_bytes()).expect("it reads").expect("it is there");
        let middle = value.len() / 2;
        value[middle] ^= 1;
        database.put_cf(family, index.to_be_bytes(), value).expect("it writes");
    });
    let damage = only_damage(&data);
    assert!(text(&damage["place"]).contains(&format!("entry {index} of column family `log`")), "{damage}");
    assert_eq!(damage["sequence"], damaged["first_sequence"]);
    assert!(text(&damage["remedy"]).contains("restore"), "{damage}");
    // What comes before it can still be seen, and nothing behind it.
    let before = damaged["first_sequence"].as_u64().expect("a number") - 1;
    asked(&["replay", "--to", &before.to_string()], &data);
    let (code, _, complaint) = run(&["replay"], &data);
    assert_eq!((code, complaint.contains("its checksum is wrong")), (DAMAGE, true), "{complaint}");
    let said = run(&["verify"], &data).1;
    assert!(said.contains("DAMAGE") && said.contains("What to do:"), "{said}");
    // And it does not enter a backup.
    let backup = data.with_file_name("backup");
    assert_eq!(run(&["backup", "--to", backup.to_str().expect("text")], &data).0, DAMAGE);
}

#[test]
fn a_hole_in_the_log_and_an_end_below_the_mark_are_named() {
    let (_folder, data) = copy();
    change(&data, "log", |database, family| {
        database.delete_cf(family, 4u64.to_be_bytes()).expect("it writes");
    });
    let damage = only_damage(&data);
    assert!(text(&damage["place"]).contains("entry 4"), "{damage}");
    assert!(text(&damage["what"]).contains("it is missing"), "{damage}");

    let (_folder, data) = copy();
    let last = asked(&["status"], &data)["log"]["last_entry"].as_u64().expect("a number");
    change(&data, "log", |database, family| {
        database.delete_cf(family, last.to_be_bytes()).expect("it writes");
    });
    let (damages, code) = damages(&data);
    assert_eq!(code, DAMAGE);
    assert!(text(&damages[0]["place"]).contains(&format!("entry {last}")), "{damages:?}");
    assert!(text(&damages[0]["what"]).contains("were durable"), "{damages:?}");
}

#[test]
fn a_lost_or_damaged_mark_is_named() {
    let (_folder, data) = copy();
    fs::remove_file(data.join("durable")).expect("it is there");
    let damage = only_damage(&data);
    assert!(text(&damage["place"]).ends_with("durable"), "{damage}");
    assert_eq!(damage["what"], "it is missing");
    assert_eq!(run(&["status"], &data).0, DAMAGE);
    fs::write(data.join("durable"), [0xff; 1024]).expect("a writable folder");
    assert!(text(&only_damage(&data)["what"]).contains("neither of its two slots"));
}

#[test]
fn a_damaged_snapshot_is_named_and_passed_over() {
    let (_folder, data) = copy();
    let path = text(&asked(&["snapshot"], &data)["path"]).to_owned();
    let hash = state_hash(&data);
    let length = fs::metadata(&path).expect("it is there").len();
    for place in [0, 20, length / 2, length - 1] {
        flip(Path::new(&path), place, 0x80);
        let damage = only_damage(&data);
        assert_eq!(text(&damage["place"]), path);
        assert!(text(&damage["remedy"]).contains("rialto journal snapshot"), "{damage}");
        let (code, said, complaint) = run(&["replay", "--json"], &data);
        let said: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!((code, text(&said["state_hash"])), (0, hash.as_str()));
        assert!(complaint.contains("passed over") && complaint.contains(&path), "{complaint}");
        flip(Path::new(&path), place, 0x80);
    }
    let file = fs::File::options().write(true).open(&path).expect("it is there");
    file.set_len(length / 2).expect("a writable file");
    assert!(text(&only_damage(&data)["place"]).ends_with(".snapshot"));
}

#[test]
fn a_missing_file_of_the_database_is_named() {
    for kind in ["CURRENT", "MANIFEST", ".sst", ".log"] {
        let (_folder, data) = copy();
        let files = fs::read_dir(data.join("db")).expect("a folder").flatten().map(|file| file.path());
        let mut files: Vec<PathBuf> = files
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(kind)))
            .filter(|path| path.metadata().is_ok_and(|file| file.len() > 0))
            .collect();
        files.sort();
        let Some(file) = files.pop() else { continue };
        fs::remove_file(&file).expect("a writable folder");
        let (damages, code) = damages(&data);
        assert_eq!(code, DAMAGE, "{kind}: {damages:?}");
        assert!(!text(&damages[0]["what"]).is_empty());
        // And nothing was made in its place.
        assert_eq!(run(&["rebuild-history"], &data).0, DAMAGE, "{kind}");
        assert!(!file.exists(), "{kind}");
    }
}

#[test]
fn whatever_byte_is_damaged_every_verb_answers_and_none_tells_another_state() {
    let seed = std::env::var("RIALTO_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::random_range(0..1 << 48));
    println!("RIALTO_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (_folder, data) = copy();
    fine(&["snapshot"], &data);
    let (last, hash) = (last_sequence(&data), state_hash(&data));
    let mut files = Vec::new();
    for folder in [data.clone(), data.join("db"), data.join("snapshots")] {
        files.extend(fs::read_dir(folder).expect("a folder").flatten().map(|file| file.path()));
    }
    files.retain(|path| path.is_file() && path.metadata().is_ok_and(|file| file.len() > 0));
    // RocksDB's own notes, its lock and the ballast say nothing of the state.
    files.retain(|path| {
        let name = path.file_name().expect("a file").to_string_lossy();
        !name.starts_with("LOG") && name != "LOCK" && name != "ballast"
    });
    files.sort();
    let mut named = 0;
    for round in 0..60 {
        let file = &files[random.random_range(0..files.len())];
        let whole = fs::read(file).expect("a file");
        let place = random.random_range(0..whole.len());
        let bits = 1 << random.random_range(0..8);
        flip(file, place as u64, bits);
        let context = format!("seed {seed}, round {round}: {} byte {place}", file.display());
        let (found, code) = damages(&data);
        assert!([0, FAILED, DAMAGE].contains(&code), "{context}: {code} {found:?}");
        named += usize::from(code == DAMAGE);
        let (code, said, _) = run(&["replay", "--json"], &data);
        if code == 0 {
            let said: Value = serde_json::from_str(&said).expect("JSON");
            // A log whose last entries were not synced may end sooner; at its sequence the state is the true one.
            if said["at"]["sequence"].as_u64() == Some(last) {
                assert_eq!(text(&said["state_hash"]), hash, "{context}");
            }
        }
        fs::write(file, &whole).expect("a writable file");
    }
    assert!(named > 10, "seed {seed}: only {named} of 60 were named");
    assert_eq!(asked(&["verify"], &data)["whole"], true, "seed {seed}: each flip was undone");
}
