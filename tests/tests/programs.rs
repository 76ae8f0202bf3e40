//! The programs that come with the exchange, as users start them: `replay` against a real server, and `demo`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use gateway::client::{Address, Rest, WsApi, signed_request};
use serde_json::{Value, json};
use tests::exchange::{Exchange, binary, bootstrap, credentials};
use tests::shared_data::shared_file;

/// How long a demo may take until all its symbols have traded.
const DEMO_TIMEOUT: Duration = Duration::from_secs(30);

/// What a plain price-time engine makes of these commands, over real sockets: 575 trades, 567 of them as the exchange
/// published them, and so many of its 5,011 books.
#[test]
fn replay_of_bitstamp_trades_as_the_exchange_did() {
    let Some(orders) = shared_file("data/commands/bitstamp_2015-05-01.commands.csv.gz") else { return };
    let Some(trades) = shared_file("data/commands/bitstamp_2015-05-01.exchange_trades.csv.gz") else { return };
    let Some(books) = shared_file("data/commands/bitstamp_2015-05-01.exchange_book20.csv.gz") else { return };
    let accounts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/bitstamp.toml");
    let server = Exchange::start(&std::fs::read_to_string(&accounts).expect("the example is there"), &[]);
    let output = Command::new(binary())
        .args(["replay", "--json", "--symbol", "BTCUSD", "--url", &server.url(), "--in-flight", "100"])
        .args(["--expect-at-least", "trades=567,top1=4908,top5=4186,top20=1039"])
        .arg("--accounts")
        .arg(&accounts)
        .arg("--orders")
        .arg(orders)
        .arg("--expect-trades")
        .arg(trades)
        .arg("--expect-books")
        .arg(books)
        .output()
        .expect("the binary can be started");
    let summary = summary(&output);
    assert!(output.status.success(), "{summary}\n{}", String::from_utf8_lossy(&output.stderr));
    let expected = json!({ "trades": 575, "volume": "847.65711841", "identical": 567 });
    assert_eq!(
        (&summary["trades"], &summary["volume"], &summary["expected"]),
        (&json!(575), &json!("847.73858096"), &expected)
    );
    assert_eq!(summary["books"], json!({ "compared": 5_011, "top1": 4_908, "top5": 4_186, "top20": 1_039 }));
    assert_eq!((&summary["answered"], &summary["gone"], &summary["refused"]), (&json!(49_414), &json!(31), &json!({})));
}

#[test]
fn replay_says_by_its_exit_status_what_it_missed() {
    let server = Exchange::start(&bootstrap(1, "0", "0"), &[]);
    let file = |name: &str, text: &str| {
        let path = server.folder().join(name);
        std::fs::write(&path, text).expect("a writable folder");
        path
    };
    let orders = file("orders", "cmd,oid,side,type,price,qty\nN,1,S,LIMIT,100,5\nN,2,B,MARKET,0,2\nC,2,,,,\nC,1,,,,\n");
    let trades = file("trades", "price,qty\n100,2\n100,1\n");
    let who = credentials(1);
    let replay = |symbol: &str, gates: &str| {
        let output = Command::new(binary())
            .args([
                "replay",
                "--json",
                "--symbol",
                symbol,
                "--url",
                &server.url(),
                "--key",
                &who.api_key,
                "--secret",
                &who.secret,
            ])
            .arg("--orders")
            .arg(&orders)
            .arg("--expect-trades")
            .arg(&trades)
            .args(["--expect-at-least", gates])
            .output()
            .expect("the binary can be started");
        (output.status.code(), summary(&output))
    };
    let (status, said) = replay("BTCUSD", "trades=1");
    assert_eq!((status, &said["expected"]["identical"], &said["gone"]), (Some(0), &json!(1), &json!(1)), "{said}");
    let (status, _) = replay("BTCUSD", "trades=2");
    assert_eq!(status, Some(1));
    let (status, _) = replay("NOPE", "trades=0");
    assert_eq!(status, Some(2));
}

#[tokio::test]
async fn demo_trades_on_its_own_serves_its_accounts_and_stops_cleanly() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut demo = Command::new(binary())
        .args(["demo", "--listen", "127.0.0.1:0", "--seed", "1", "--data"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary can be started");
    let mut lines = BufReader::new(demo.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let url = lines.find_map(|line| line.split(' ').find(|word| word.starts_with("http://")).map(str::to_owned));
    let address = Address::parse(&url.expect("it says where it is")).expect("its own URL");
    let rest = Rest::new(&address);
    let started = Instant::now();
    for symbol in ["BTCUSDT", "ETHUSDT", "SOLUSDT"] {
        while rest.get("/api/v3/trades", &[("symbol", symbol)]).await.expect("an answer").body == json!([]) {
            assert!(started.elapsed() < DEMO_TIMEOUT, "{symbol} does not trade");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let who =
        gateway::client::Credentials { api_key: "demo-trader-1".to_owned(), secret: "demo-trader-1-secret".to_owned() };
    let mut socket = WsApi::connect(&address).await.expect("a socket");
    let order =
        [("symbol", json!("BTCUSDT")), ("side", json!("BUY")), ("type", json!("MARKET")), ("quantity", json!("0.001"))];
    let answer = socket.call(1, signed_request(1, "order.place", &order, &who)).await.expect("an answer");
    assert_eq!(answer.body["status"], "FILLED", "{answer:?}");

    let stopped = Command::new("kill").args(["-TERM", &demo.id().to_string()]).status().expect("kill is there");
    assert!(stopped.success());
    assert!(demo.wait().expect("it was started").success());
}

#[test]
fn shells_complete_every_command_and_every_command_has_its_manual_page() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(binary()).args(["completions", shell]).output().expect("the binary can be started");
        let script = String::from_utf8(output.stdout).expect("a script is text");
        assert!(output.status.success() && script.contains("transfer-leader"), "{shell}: {script}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(binary()).arg("man").arg(folder.path()).output().expect("the binary can be started");
    assert!(output.status.success(), "{output:?}");
    for page in ["rialto.1", "rialto-serve.1", "rialto-journal-explain.1"] {
        let text = std::fs::read_to_string(folder.path().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
    let output = Command::new(binary()).args(["man", "/nowhere"]).output().expect("the binary can be started");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains("/nowhere"), "{told}");
}

#[test]
fn config_show_says_where_each_setting_comes_from() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/public-venue.toml");
    let show = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = Command::new(binary());
        command.args(["config", "show", "--json", "--config"]).arg(&file).args(arguments);
        command.envs(environment.iter().copied()).output().expect("the binary can be started")
    };
    let output = show(&["--data", "/somewhere"], &[("RIALTO_LIMITS__ORDERS_PER_DAY", "9")]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("settings are text");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |setting: &str| lines.iter().find(|line| line["setting"] == setting).expect("it is a setting");
    let told = |setting: &str| (of(setting)["value"].clone(), of(setting)["from"].as_str().expect("a text").to_owned());
    assert_eq!(told("data"), (json!("/somewhere"), "--data".to_owned()));
    assert_eq!(told("limits.orders_per_day"), (json!(9), "RIALTO_LIMITS__ORDERS_PER_DAY".to_owned()));
    assert_eq!(told("limits.orders_per_10_seconds"), (json!(50), file.display().to_string()));
    assert_eq!(told("lanes.count"), (json!(16), "default".to_owned()));
    let output = show(&[], &[("RIALTO_LANES__COUNT", "none")]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains("RIALTO_LANES__COUNT"), "{told}");
}

fn summary(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}
