//! Every verb of `rialto admin` on a real server, as operators type it: what it does, what it refuses, and that what it does not
//! know it answers with help.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use gateway::config::LogConfig;
use gateway::logging;
use serde_json::Value;
use tests::exchange::binary;
use tests::server::{Server, account_a, limit};
use tests::socket::Socket;

/// How long something that must come may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A line as it is typed; `{name}` stands for what an earlier line was told under that name, and what follows `<<` goes to
/// standard input. Then the exit status, and what its JSON, or its complaint, must have in it.
type Line = (&'static str, i32, &'static str);

/// In this order. Each verb stands here at least once as it works; a new one without a line fails.
const LINES: &[Line] = &[
    ("create-account 2001 --can-withdraw false", 0, r#""uid":2001"#),
    ("create-account 2001", 1, "there is one of that name already"),
    ("create-account", 2, "<UID>"),
    ("configure-account 2001 --can-withdraw true --trade-group 7", 0, r#""can_withdraw":true"#),
    ("configure-account 9 --can-trade false", 1, "no such account"),
    ("account 2001", 0, r#""trade_group":7"#),
    ("account 9", 1, "no such account"),
    ("account x", 2, "invalid value"),
    ("create-key 2001 --permission USER_DATA --allow 10.0.0.0/8", 0, r#""api_key":"#),
    ("create-key 2001 --permission FLY", 1, "FLY"),
    ("configure-key {api_key} --permission TRADE --allow any", 0, "{api_key}"),
    ("configure-key none --enabled false", 1, "no such key"),
    ("keys --uid 2001", 0, r#""permissions":["TRADE"]"#),
    ("remove-key {api_key}", 0, r#""sequence":"#),
    ("remove-key {api_key}", 1, "no such key"),
    ("deposit 2001 USDT 100.5 wire-1 --reason a-wire", 0, r#""sequence":"#),
    ("deposit 2001 USDT 100.5 wire-1", 0, r#""repeated":true"#),
    ("deposit 2001 USDT 1e5 wire-2", 1, "amount"),
    ("withdraw 2001 USDT 0.5 out-1", 0, r#""sequence":"#),
    ("withdraw 2001 USDT 1000 out-2", 1, "does not cover"),
    ("begin-withdrawal 2001 USDT 40 slow", 0, r#""sequence":"#),
    ("account 2001", 0, r#""free":"60.00000000","locked":"40.00000000""#),
    ("end-withdrawal 2001 slow --abandoned", 0, r#""sequence":"#),
    ("end-withdrawal 2001 slow", 1, "no such withdrawal"),
    ("add-asset ETH 8", 0, r#""sequence":"#),
    ("add-asset ETH 8", 1, "there is one of that name already"),
    (
        "add-symbol - <<name = \"ETHUSDT\"\nbase = \"ETH\"\nquote = \"USDT\"\ntick_size = \"0.01\"\nstep_size = \"0.001\"\n",
        0,
        r#""symbol":"ETHUSDT""#,
    ),
    ("add-symbol - <<name = 1\n", 1, "name"),
    ("set-status ETHUSDT HALT", 0, r#""status":"HALT""#),
    ("set-status ETHUSDT SLEEPING", 1, "CANCEL_ONLY"),
    ("set-status NOPE HALT", 1, "no such symbol"),
    ("set-status ETHUSDT TRADING", 0, r#""status":"TRADING""#),
    ("halt-all --reason drill", 0, r#""symbols":["BTCUSDT","ETHUSDT"]"#),
    ("overview", 0, r#""haltedAll":true"#),
    ("log-level warn,gateway=info", 0, r#""filter":"gateway=info,warn""#),
    ("log-level loud", 1, "neither a level"),
    ("log-level", 0, r#""filter":"#),
    ("halt-all", 0, r#""symbols":[]"#),
    ("resume-all --except NOPE", 1, "NOPE"),
    ("resume-all --except ETHUSDT", 0, r#""symbols":["BTCUSDT"]"#),
    ("resume-all", 0, r#""symbols":["ETHUSDT"]"#),
    ("overview", 0, r#""haltedAll":false"#),
    (
        "set-quote-driven ETHUSDT --house 2001 --spread 0.001 --stale-after-ms 3000 --max-exposure 10",
        0,
        r#""quote_driven":true"#,
    ),
    ("set-quote-driven ETHUSDT --off", 0, r#""quote_driven":false"#),
    ("set-quote-driven ETHUSDT", 1, "--house"),
    ("cancel-all 1001 --symbol BTCUSDT", 0, r#""canceled":2"#),
    ("cancel-all 1001", 0, r#""canceled":0"#),
    ("cancel-all 9", 1, "no such account"),
    ("cancel-all 1001 --symbol NOPE", 1, "no such symbol"),
    ("set-user ann --uid 1001 --password - <<a password that is long enough\n", 0, r#""name":"ann""#),
    ("set-user bo --role king --uid 1001", 1, "operator"),
    ("end-sessions ann", 0, r#""sequence":"#),
    ("end-sessions bo", 1, "no such user"),
    ("users", 0, r#""role":"trader""#),
    ("remove-user ann", 0, r#""sequence":"#),
    ("remove-user ann", 1, "no such user"),
    ("disconnect {socket}", 0, "{socket}"),
    ("disconnect {socket}", 1, "no such websocket"),
    ("snapshot", 0, r#""sequence":"#),
    ("overview", 0, r#""audit":[{"action":"{\"action\":\"snapshot\"}""#),
    ("reload", 1, "a node reads its settings when it starts"),
];

/// Verbs that do something on a gateway alone: gateway_tier.rs has them as they work.
const OF_GATEWAYS: [&str; 1] = ["reload"];

/// What it said, with what stands for something put in.
fn run(server: &Server, line: &str) -> Output {
    let (words, input) = line.split_once("<<").unwrap_or((line, ""));
    let mut admin = Command::new(binary());
    admin.args(["admin", "--json", "--operator", "ann", "--data"]).arg(server.data()).args(words.split_whitespace());
    let child = admin.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the binary can be started");
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads or has ended");
    child.wait_with_output().expect("it ends")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_does_what_it_says_and_refuses_what_it_cannot() {
    logging::start(&LogConfig::default()).unwrap();
    let server = Server::start(|_| {}).await;
    for price in ["50000", "49999"] {
        server.order(&account_a(), &limit("BUY", "0.001", price)).await.good();
    }
    let mut socket = Socket::connect(&server.address, "/ws/btcusdt@trade").await;
    let mut told = BTreeMap::new();
    let until = Instant::now() + PATIENCE;
    while !told.contains_key("socket") {
        let seen: Value = serde_json::from_slice(&run(&server, "overview").stdout).unwrap();
        if let Some(id) = seen["result"]["sockets"]["slowest"][0]["id"].as_u64() {
            told.insert("socket".to_owned(), id.to_string());
        }
        assert!(Instant::now() < until, "{seen:#}");
    }
    for (line, status, says) in LINES {
        let put_in = |text: &str| {
            told.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
        };
        let output = run(&server, &put_in(line));
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(*status), "{line}: {out}{err}");
        let said = if *status == 0 { &out } else { &err };
        assert!(said.contains(&put_in(says)), "{line} does not say {says}: {out}{err}");
        if let Ok(answer) = serde_json::from_str::<Value>(&out)
            && let Some(api_key) = answer["result"]["api_key"].as_str()
        {
            told.insert("api_key".to_owned(), api_key.to_owned());
        }
    }
    assert_eq!(socket.close_code().await, Some(1008), "an operator ended it");
    server.stop().await;
}

/// The verbs that the help lists.
fn verbs(help: &str) -> BTreeSet<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // What a verb does goes on in lines that stand further in.
    let verb = |line: &str| {
        line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?.split(' ').next().map(str::to_owned)
    };
    list.filter_map(verb).filter(|verb| verb != "help").collect()
}

#[test]
fn every_verb_of_the_command_line_is_tested() {
    let output = Command::new(binary()).args(["admin", "--help"]).output().unwrap();
    let listed = verbs(&String::from_utf8(output.stdout).unwrap());
    let works = LINES.iter().filter(|(line, status, _)| *status == 0 || OF_GATEWAYS.contains(line));
    let tested: BTreeSet<String> =
        works.map(|(line, ..)| line.split(' ').next().unwrap_or_default().to_owned()).collect();
    assert!(listed.len() > 20, "{listed:?}");
    assert_eq!(listed.difference(&tested).collect::<Vec<_>>(), [""; 0], "have no line in this table");
}

#[test]
fn what_is_not_known_is_answered_with_help_and_status_2() {
    for (line, of) in [
        ("no-such-verb", "rialto [OPTIONS]"),
        ("admin", "rialto admin"),
        ("admin no-such-verb", "rialto admin"),
        ("admin --data D set-statuss BTCUSDT HALT", "rialto admin"),
        ("admin disconnect one", "--help"),
        ("admin halt-all --sideways", "--help"),
        ("journal no-such-verb", "rialto journal"),
        ("cluster no-such-verb", "rialto cluster"),
    ] {
        let output = Command::new(binary()).args(line.split(' ')).stdin(Stdio::null()).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{line}: {out}{err}");
        assert!(out.is_empty() && err.contains(of.strip_suffix(" [OPTIONS]").unwrap_or(of)), "{line}: {out}{err}");
        if of != "--help" {
            assert!(err.contains("\nCommands:\n") && verbs(&err).len() > 5, "{line} lists what there is: {err}");
        }
    }
}
