//! `kill -9` in the middle of trading, again and again: whatever was acknowledged is there afterwards. Proven by asking,
//! over the public API, what any client can ask.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gateway::client::{Credentials, Rest};
use hyper::Method;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tests::exchange::{self, DEPOSIT_BTC, DEPOSIT_USD, Exchange, bootstrap, credentials};
use tests::shared_data::{gzip_lines, shared_file};

const SYMBOL: &str = "BTCUSD";
const BTC_SCALE: usize = 8;
const USD_SCALE: usize = 10;
/// Two accounts that trade with each other: their numbers.
const ACCOUNTS: [usize; 2] = [1, 2];
/// The most that an answer to one question holds.
const PAGE: usize = 1_000;

#[tokio::test]
async fn whatever_was_acknowledged_survives_kill_nine() {
    let seed = number_from("RIALTO_SEED").unwrap_or_else(|| rand::random_range(0..1 << 48));
    let rounds = number_from("RIALTO_CRASH_ROUNDS").unwrap_or(4);
    println!("RIALTO_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = Exchange::start(&bootstrap(2, "0.0005", "0.001"), &[]);
    let mut witnessed = Vec::new();
    for round in 0..rounds {
        let flows = flows(server.folder(), &mut random);
        let traders: Vec<(usize, Child, PathBuf)> = ACCOUNTS
            .into_iter()
            .zip(flows)
            .map(|(account, flow)| {
                let record = server.folder().join(format!("record-{round}-{account}"));
                (account, trade(&server.url(), account, &flow, &record, &format!("{round}-")), record)
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(random.random_range(300..2_500))).await;
        server.kill();
        for (account, mut trader, record) in traders {
            trader.wait().expect("it was started");
            witnessed.extend(acknowledged(&record).into_iter().map(|answer| (account, answer)));
        }
        server.restart();
        println!("round {round}: {} acknowledgements so far", witnessed.len());
        let rest = Rest::new(server.address());
        check(&rest, &witnessed, &format!("seed {seed}, round {round}")).await;
    }
    assert!(witnessed.len() > 100 * rounds as usize, "seed {seed}: too little was acknowledged: {}", witnessed.len());
}

/// Ask for everything that was acknowledged, and for what must follow from it.
async fn check(rest: &Rest, witnessed: &[(usize, Value)], context: &str) {
    let (mut orders, mut trades) = (BTreeMap::new(), BTreeMap::new());
    for account in ACCOUNTS {
        let who = credentials(account);
        let own_orders = pages(rest, "/api/v3/allOrders", "orderId", "orderId", &who).await;
        let own_trades = pages(rest, "/api/v3/myTrades", "fromId", "id", &who).await;
        check_balances(rest, &who, &own_orders, &own_trades, context).await;
        orders.extend(own_orders.into_iter().map(|order| ((account, id(&order["orderId"])), order)));
        // A trade with oneself is listed twice, once for each order.
        trades.extend(own_trades.into_iter().map(|trade| ((account, id(&trade["id"]), id(&trade["orderId"])), trade)));
    }
    let mut lost = Vec::new();
    for (account, answer) in witnessed {
        let order_id = id(&answer["orderId"]);
        let Some(kept) = orders.get(&(*account, order_id)) else {
            lost.push(format!("order {answer}"));
            continue;
        };
        let same = ["clientOrderId", "side", "type", "price", "origQty"].into_iter().all(|field| {
            // A cancel is answered with its own name, and the order's as origClientOrderId.
            let said = if field == "clientOrderId" { answer.get("origClientOrderId") } else { None };
            said.unwrap_or(&answer[field]) == &kept[field]
        });
        // An order that was done is as it was; one that rested may have traded since, and never less than it had.
        let was_open = ["NEW", "PARTIALLY_FILLED"].contains(&text(&answer["status"]));
        let then = units(&answer["executedQty"], BTC_SCALE);
        let now = units(&kept["executedQty"], BTC_SCALE);
        let kept_its_end = if was_open { now >= then } else { now == then && answer["status"] == kept["status"] };
        if !same || !kept_its_end {
            lost.push(format!("order {answer}\n  is now {kept}"));
        }
        for fill in answer["fills"].as_array().into_iter().flatten() {
            let kept = trades.get(&(*account, id(&fill["tradeId"]), order_id));
            let same =
                |kept: &Value| ["price", "qty", "commission"].into_iter().all(|field| kept[field] == fill[field]);
            if !kept.is_some_and(same) {
                lost.push(format!("trade {fill} of order {order_id}, is now {kept:?}"));
            }
        }
    }
    assert!(lost.is_empty(), "{context}: {} acknowledged, {} lost:\n{}", witnessed.len(), lost.len(), lost.join("\n"));
    // Numbers never go back, never repeat, never skip: over both accounts every one was given once.
    let count = orders.len() as u64;
    let mut order_ids: Vec<u64> = orders.keys().map(|(_, order_id)| *order_id).collect();
    order_ids.sort_unstable();
    assert!(order_ids.iter().copied().eq(1..=count), "{context}: order ids have a hole or repeat");
    let mut trade_ids: Vec<u64> = trades.keys().map(|(_, trade_id, _)| *trade_id).collect();
    trade_ids.sort_unstable();
    let twice: Vec<u64> = (1..=trade_ids.len() as u64 / 2).flat_map(|trade_id| [trade_id, trade_id]).collect();
    assert!(trade_ids == twice, "{context}: each trade has two sides, and trade ids have no hole");
}

/// An account has what it began with, plus and less what its trades say; locked is what its open orders need.
async fn check_balances(rest: &Rest, who: &Credentials, orders: &[Value], trades: &[Value], context: &str) {
    let (mut btc, mut usd) = (units_of(DEPOSIT_BTC, BTC_SCALE), units_of(DEPOSIT_USD, USD_SCALE));
    for trade in trades {
        let (base, quote) = (units(&trade["qty"], BTC_SCALE), units(&trade["quoteQty"], USD_SCALE));
        if trade["isBuyer"] == true {
            btc += base - units(&trade["commission"], BTC_SCALE);
            usd -= quote;
        } else {
            btc -= base;
            usd += quote - units(&trade["commission"], USD_SCALE);
        }
    }
    let (mut btc_locked, mut usd_locked) = (0, 0);
    for order in orders.iter().filter(|order| ["NEW", "PARTIALLY_FILLED"].contains(&text(&order["status"]))) {
        let open = units(&order["origQty"], BTC_SCALE) - units(&order["executedQty"], BTC_SCALE);
        if order["side"] == "BUY" {
            // A price in cents times a quantity of eight decimals is an amount of ten decimals.
            usd_locked += units(&order["price"], USD_SCALE) / 10i128.pow(8) * open;
        } else {
            btc_locked += open;
        }
    }
    let account = rest.signed(Method::GET, "/api/v3/account", &[], who).await.expect("an answer");
    let balance = |asset: &str, scale: usize| {
        let balances = account.body["balances"].as_array().expect("balances");
        let found = balances.iter().find(|balance| balance["asset"] == asset).expect("an asset that was deposited");
        (units(&found["free"], scale), units(&found["locked"], scale))
    };
    let expected = [(btc - btc_locked, btc_locked), (usd - usd_locked, usd_locked)];
    assert_eq!([balance("BTC", BTC_SCALE), balance("USD", USD_SCALE)], expected, "{context}: {}", who.api_key);
}

/// Everything of an account, page by page from the first id. A page may end between the two sides of a trade with oneself,
/// which have one id: so the next one begins with the last id of the one before.
async fn pages(rest: &Rest, path: &str, from: &str, id_field: &str, who: &Credentials) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let next = all.last().map_or(1, |last| id(&last[id_field]));
        let parameters = [("symbol", SYMBOL), (from, &next.to_string()), ("limit", &PAGE.to_string())];
        let answer = rest.signed(Method::GET, path, &parameters, who).await.expect("an answer");
        let page = answer.body.as_array().unwrap_or_else(|| panic!("{path}: {answer:?}")).clone();
        let is_last = page.len() < PAGE;
        let seen_from = all.partition_point(|row| id(&row[id_field]) < next);
        for row in page {
            if !all[seen_from..].contains(&row) {
                all.push(row);
            }
        }
        if is_last {
            return all;
        }
    }
}

/// Orders for each account: Bitstamp's recorded ones dealt out between them, or seeded ones where there is no recording.
fn flows(folder: &Path, random: &mut StdRng) -> [PathBuf; 2] {
    let recorded = shared_file("data/commands/bitstamp_2015-05-01.commands.csv.gz");
    let lines: Vec<String> = match recorded {
        Some(file) => gzip_lines(&file).skip(1).collect(),
        None => (0..20_000).map(|number| seeded_line(number, random)).collect(),
    };
    ["a", "b"].map(|name| {
        let path = folder.join(name);
        let parity = if name == "a" { 0 } else { 1 };
        let dealt = lines.iter().filter(|line| {
            line.split(',').nth(2).and_then(|it| it.parse::<u64>().ok()).is_some_and(|it| it % 2 == parity)
        });
        let text: String = dealt.map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, format!("ts_ms,cmd,oid,side,type,price,qty\n{text}")).expect("a writable folder");
        path
    })
}

fn seeded_line(number: u64, random: &mut StdRng) -> String {
    let side = if random.random_range(0..2) == 0 { 'B' } else { 'S' };
    let (price, quantity) = (random.random_range(23_000..23_100), random.random_range(1..500_000_000u64));
    match random.random_range(0..10) {
        0..3 if number > 0 => format!("0,C,{},,,,", random.random_range(number.saturating_sub(50)..number)),
        3 => format!("0,N,{number},{side},MARKET,0,{quantity}"),
        _ => format!("0,N,{number},{side},LIMIT,{price},{quantity}"),
    }
}

fn trade(url: &str, account: usize, flow: &Path, record: &Path, id_prefix: &str) -> Child {
    let who = credentials(account);
    Command::new(exchange::binary())
        .args(["replay", "--url", url, "--symbol", SYMBOL, "--key", &who.api_key, "--secret", &who.secret])
        .args(["--in-flight", "16", "--id-prefix", id_prefix])
        .arg("--orders")
        .arg(flow)
        .arg("--record")
        .arg(record)
        .stdout(Stdio::null())
        // The connection it loses is what this test is about.
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary can be started")
}

/// What was acknowledged: every answer that says something was done.
fn acknowledged(record: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(record).expect("the replay writes what it was told");
    let answers = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("one answer each line"));
    answers.filter(|answer| answer["status"] == 200).map(|mut answer| answer["answer"].take()).collect()
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

fn id(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("an id: {value}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a text: {value}"))
}

fn units(value: &Value, scale: usize) -> i128 {
    units_of(text(value), scale)
}

/// A decimal as a whole number of its smallest units.
fn units_of(text: &str, scale: usize) -> i128 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let (kept, cut) = part.split_at(part.len().min(scale));
    assert!(cut.bytes().all(|digit| digit == b'0'), "{text} has more than {scale} decimals");
    format!("{whole}{kept:0<scale$}").parse().unwrap_or_else(|_| panic!("a decimal: {text:?}"))
}
