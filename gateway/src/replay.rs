//! `rialto replay`: recorded order flow through the public sockets of a running server, as a client would send it.
//!
//! One account, one socket, commands in the order they were recorded: the exchange keeps that order, so what it does is
//! the same in every run, however many commands are in flight. A book is compared at an exact place in the flow: all
//! commands before it are answered, then the depth is asked for.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use engine::order::Side;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::client::{self, Address, Answer, ClientError, Credentials, Rest, WsApi, WsApiSender};
use crate::recorded::{self, Action, Level, Recorded, RecordedBook, Terms};
use crate::say;

/// How many levels a book is compared on.
const DEPTHS: [usize; 3] = [1, 5, 20];
/// "Unknown order sent.": the order to be canceled is closed by now, as it may be in a recording.
const UNKNOWN_ORDER: i64 = -2011;

/// Drive recorded order flow through a running server and compare what it does with what the recorded exchange did.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The file is CSV, gzipped or not, with the columns cmd,oid,side,price,qty and, where recorded, ts_ms and type. cmd is N \
(new), C (cancel), R (reduce in place) or X (immediate or cancel). A price counts ticks, a quantity counts steps of the \
symbol.

All commands go over one socket in order. Comparing books costs one depth request each; when the server says that its \
request weight is used up, the replay waits as long as it is told. Orders cannot wait without losing their place: a \
server that limits orders per account must allow as many as the file sends.

Exit status: 0 when every command was answered as the recording allows and all of --expect-at-least is met, 1 when not, \
2 when the run could not be made or the connection was lost.")]
pub struct Arguments {
    /// Recorded commands
    #[arg(long, value_name = "FILE")]
    orders: PathBuf,
    /// The running server
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The symbol to trade
    #[arg(long)]
    symbol: String,
    /// A bootstrap file; its first API key trades
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "secret"])]
    accounts: Option<PathBuf>,
    /// The API key that trades
    #[arg(long, env = "RIALTO_API_KEY", requires = "secret")]
    key: Option<String>,
    /// Its HMAC secret
    #[arg(long, env = "RIALTO_API_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// So many times as fast as recorded, or "max"
    #[arg(long, default_value = "max", value_parser = parse_speed)]
    speed: Speed,
    /// Commands sent and not yet answered, at most
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    in_flight: u32,
    /// Only the first N commands
    #[arg(long, value_name = "N")]
    take: Option<usize>,
    /// What client order ids begin with; another one for each replay whose orders may still be open
    #[arg(long, default_value = "r", value_name = "TEXT")]
    id_prefix: String,
    /// The recorded exchange's trades, to compare with
    #[arg(long, value_name = "FILE")]
    expect_trades: Option<PathBuf>,
    /// The recorded exchange's books, to compare with
    #[arg(long, value_name = "FILE")]
    expect_books: Option<PathBuf>,
    /// Fail below these, such as trades=567,top1=4908,top5=4186,top20=1039: trades and books that equal the recorded ones
    #[arg(long, value_name = "NAME=COUNT", value_delimiter = ',', value_parser = parse_gate)]
    expect_at_least: Vec<Gate>,
    /// Write every answered command as one JSON line
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug)]
enum Speed {
    Max,
    Times(Decimal),
}

#[derive(Clone, Debug)]
struct Gate {
    name: String,
    count: usize,
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    let times: Decimal = text.parse().map_err(|_| "a number above zero, or max".to_owned())?;
    if times > Decimal::ZERO { Ok(Speed::Times(times)) } else { Err("a number above zero, or max".to_owned()) }
}

fn parse_gate(text: &str) -> Result<Gate, String> {
    let (name, count) = text.split_once('=').ok_or("NAME=COUNT")?;
    if !["trades", "top1", "top5", "top20"].contains(&name) {
        return Err(format!("{name:?} is none of trades, top1, top5, top20"));
    }
    Ok(Gate { name: name.to_owned(), count: count.parse().map_err(|_| format!("{count:?} is not a count"))? })
}

/// Run the replay, print its summary, and say how it ended.
pub async fn run(arguments: Arguments) -> ExitCode {
    let prepared = match Prepared::new(&arguments).await {
        Ok(prepared) => prepared,
        Err(why) => {
            eprintln!("replay: {why}");
            return ExitCode::from(2);
        }
    };
    let mut run = Run::new(&arguments, &prepared);
    let started = Instant::now();
    let outcome = run.drive().await;
    run.report.elapsed = started.elapsed();
    let written = run.record.as_mut().map_or(Ok(()), |record| record.flush());
    let expected = prepared.trades.as_deref().map(|trades| run.compare_trades(trades));
    if outcome.is_ok() || !run.report.latencies_ns.is_empty() {
        run.report.print(arguments.json, prepared.commands.len(), expected);
    }
    if let Err(why) = outcome.and(written.map_err(|why| ClientError(format!("--record: {why}")))) {
        eprintln!("replay: {why}");
        return ExitCode::from(2);
    }
    let mut missed =
        run.report.refused.iter().map(|(refusal, count)| format!("{count} × {refusal}")).collect::<Vec<_>>();
    for gate in &arguments.expect_at_least {
        let reached = run.report.reached(&gate.name, expected);
        if reached < gate.count {
            missed.push(format!("{} {reached}, expected at least {}", gate.name, gate.count));
        }
    }
    for miss in &missed {
        eprintln!("replay: {miss}");
    }
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Everything that must be right before the first command goes out.
struct Prepared {
    address: Address,
    who: Credentials,
    symbol: Symbol,
    commands: Vec<Recorded>,
    trades: Option<Vec<Level>>,
    books: Vec<RecordedBook>,
}

/// What the exchange says a tick and a step are.
struct Symbol {
    name: String,
    base: String,
    quote: String,
    tick: Decimal,
    step: Decimal,
}

impl Prepared {
    async fn new(arguments: &Arguments) -> Result<Prepared, String> {
        let mut commands = recorded::read_commands(&arguments.orders)?;
        commands.truncate(arguments.take.unwrap_or(usize::MAX));
        let address = Address::parse(&arguments.url).map_err(|why| why.to_string())?;
        let symbol = Symbol::ask(&Rest::new(&address), &arguments.symbol).await?;
        Ok(Prepared {
            who: credentials(arguments)?,
            trades: arguments.expect_trades.as_deref().map(recorded::read_trades).transpose()?,
            books: arguments.expect_books.as_deref().map(recorded::read_books).transpose()?.unwrap_or_default(),
            address,
            symbol,
            commands,
        })
    }
}

fn credentials(arguments: &Arguments) -> Result<Credentials, String> {
    if let (Some(api_key), Some(secret)) = (&arguments.key, &arguments.secret) {
        return Ok(Credentials { api_key: api_key.clone(), secret: secret.clone() });
    }
    let path = arguments.accounts.as_ref().ok_or("who trades? give --accounts, or --key and --secret")?;
    let text = std::fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))?;
    let file: toml::Table = text.parse().map_err(|why| format!("{}: {why}", path.display()))?;
    let tables = |table: &toml::Table, name: &str| -> Vec<toml::Table> {
        let entries = table.get(name).and_then(toml::Value::as_array).cloned().unwrap_or_default();
        entries.into_iter().filter_map(|entry| entry.try_into().ok()).collect()
    };
    let keys = tables(&file, "account").into_iter().flat_map(|account| tables(&account, "key"));
    let text_of = |key: &toml::Table, name: &str| key.get(name).and_then(toml::Value::as_str).map(str::to_owned);
    keys.into_iter()
        .find_map(|key| Some(Credentials { api_key: text_of(&key, "api_key")?, secret: text_of(&key, "secret")? }))
        .ok_or_else(|| format!("{}: no account has a key with a secret", path.display()))
}

impl Symbol {
    async fn ask(rest: &Rest, name: &str) -> Result<Symbol, String> {
        let answer = rest.get("/api/v3/exchangeInfo", &[("symbol", name)]).await.map_err(|why| why.to_string())?;
        let found = &answer.body["symbols"][0];
        if !answer.is_success() || found.is_null() {
            return Err(format!("symbol {name}: {} {}", answer.code(), answer.message()));
        }
        let filter = |kind: &str, field: &str| {
            let filters = found["filters"].as_array()?;
            let filter = filters.iter().find(|filter| filter["filterType"] == kind)?;
            filter[field].as_str()?.parse::<Decimal>().ok()
        };
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        Ok(Symbol {
            name: name.to_owned(),
            base: text("baseAsset"),
            quote: text("quoteAsset"),
            tick: filter("PRICE_FILTER", "tickSize").ok_or("no tickSize in exchangeInfo")?,
            step: filter("LOT_SIZE", "stepSize").ok_or("no stepSize in exchangeInfo")?,
        })
    }

    fn price(&self, ticks: u64) -> Result<Decimal, ClientError> {
        times(self.tick, ticks)
    }

    fn quantity(&self, steps: u64) -> Result<Decimal, ClientError> {
        times(self.step, steps)
    }

    fn level(&self, &(price, quantity): &Level) -> Result<(Decimal, Decimal), ClientError> {
        Ok((self.price(price)?, self.quantity(quantity)?))
    }
}

fn times(unit: Decimal, count: u64) -> Result<Decimal, ClientError> {
    let product =
        unit.checked_mul(Decimal::from(count)).ok_or_else(|| ClientError(format!("{count} × {unit} is too big")))?;
    Ok(product.normalize())
}

/// One run: what is in flight, and what came back.
struct Run<'a> {
    arguments: &'a Arguments,
    prepared: &'a Prepared,
    waiting: HashMap<u64, Instant>,
    /// The open quantity's upper bound by order, for what reduces in place.
    quantities: HashMap<i64, u64>,
    trades: Vec<(Decimal, Decimal)>,
    record: Option<std::io::BufWriter<std::fs::File>>,
    report: Report,
}

/// When it came, the id it answers, and what it says.
type Stamped = (Instant, Result<(u64, Answer), ClientError>);

/// A socket whose answers are stamped as they arrive.
struct Line {
    sender: WsApiSender,
    answers: mpsc::Receiver<Stamped>,
}

impl Line {
    /// Connects; at most `in_flight` requests will wait for their answers at any time.
    async fn connect(address: &Address, in_flight: u32) -> Result<Line, ClientError> {
        let (sender, mut receiver) = WsApi::connect(address).await?.split();
        // Room for every answer that can come, a question about the book, and the word that the socket ended.
        let (stamped, answers) = mpsc::channel(in_flight as usize + 2);
        tokio::spawn(async move {
            loop {
                let answer = receiver.next().await;
                let is_last = answer.is_err();
                if stamped.send((Instant::now(), answer)).await.is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Line { sender, answers })
    }

    async fn next(&mut self) -> Result<(Instant, u64, Answer), ClientError> {
        self.sender.flush().await?;
        let (at, answer) = self.answers.recv().await.ok_or_else(|| ClientError("socket: closed".to_owned()))?;
        let (id, answer) = answer?;
        Ok((at, id, answer))
    }
}

impl<'a> Run<'a> {
    fn new(arguments: &'a Arguments, prepared: &'a Prepared) -> Run<'a> {
        Run {
            arguments,
            prepared,
            waiting: HashMap::new(),
            quantities: HashMap::new(),
            trades: Vec::new(),
            record: None,
            report: Report {
                base: prepared.symbol.base.clone(),
                quote: prepared.symbol.quote.clone(),
                ..Report::default()
            },
        }
    }

    async fn drive(&mut self) -> Result<(), ClientError> {
        if let Some(path) = &self.arguments.record {
            let file = std::fs::File::create(path).map_err(|why| ClientError(format!("{}: {why}", path.display())))?;
            self.record = Some(std::io::BufWriter::new(file));
        }
        let mut line = Line::connect(&self.prepared.address, self.arguments.in_flight).await?;
        self.check_empty_book(&mut line).await?;
        let mut books: VecDeque<&RecordedBook> = self.prepared.books.iter().collect();
        let mut progress = Progress::new(self.prepared.commands.len());
        let started = Instant::now();
        for (index, command) in self.prepared.commands.iter().enumerate() {
            self.compare_books(&mut line, &mut books, index).await?;
            self.wait_for_time(&mut line, started, command).await?;
            while let Ok((at, answer)) = line.answers.try_recv() {
                let (id, answer) = answer?;
                self.answered(at, id, answer)?;
            }
            while self.waiting.len() >= self.arguments.in_flight as usize {
                let (at, id, answer) = line.next().await?;
                self.answered(at, id, answer)?;
            }
            let id = index as u64;
            let request = self.request(id, command)?;
            self.waiting.insert(id, Instant::now());
            line.sender.feed(request).await?;
            progress.at(index);
        }
        self.compare_books(&mut line, &mut books, self.prepared.commands.len()).await?;
        self.drain(&mut line).await?;
        line.sender.close().await;
        Ok(())
    }

    /// A comparison only means something when the book is the recording's alone.
    async fn check_empty_book(&mut self, line: &mut Line) -> Result<(), ClientError> {
        if self.arguments.expect_books.is_none() && self.arguments.expect_trades.is_none() {
            return Ok(());
        }
        let depth = self.depth(line).await?;
        let is_empty = |side: &str| depth[side].as_array().is_none_or(Vec::is_empty);
        if is_empty("bids") && is_empty("asks") {
            return Ok(());
        }
        let symbol = &self.prepared.symbol.name;
        Err(ClientError(format!("the book of {symbol} is not empty: nothing in it can be compared with the recording")))
    }

    /// Hold the recorded pace, hearing answers meanwhile.
    async fn wait_for_time(
        &mut self,
        line: &mut Line,
        started: Instant,
        command: &Recorded,
    ) -> Result<(), ClientError> {
        let Speed::Times(times) = self.arguments.speed else { return Ok(()) };
        let first = self.prepared.commands.iter().find_map(|command| command.at_ms);
        let (Some(at), Some(first)) = (command.at_ms, first) else { return Ok(()) };
        let micros = (Decimal::from(at.saturating_sub(first)) * Decimal::ONE_THOUSAND) / times;
        let due = started + Duration::from_micros(u64::try_from(micros.trunc()).unwrap_or(u64::MAX));
        loop {
            line.sender.flush().await?;
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => return Ok(()),
                Some((at, answer)) = line.answers.recv() => {
                    let (id, answer) = answer?;
                    self.answered(at, id, answer)?;
                }
            }
        }
    }

    async fn drain(&mut self, line: &mut Line) -> Result<(), ClientError> {
        while !self.waiting.is_empty() {
            let (at, id, answer) = line.next().await?;
            self.answered(at, id, answer)?;
        }
        Ok(())
    }

    /// The request that a recorded command is.
    fn request(&mut self, id: u64, command: &Recorded) -> Result<String, ClientError> {
        let symbol = &self.prepared.symbol;
        let name = format!("{}{}", self.arguments.id_prefix, command.order);
        let sign = |method: &str, parameters: &[(&str, Value)]| {
            client::signed_request(id, method, parameters, &self.prepared.who)
        };
        let place = |name: String, terms: Terms, kind: &[(&str, Value)]| -> Result<String, ClientError> {
            let side = if terms.side == Side::Buy { "BUY" } else { "SELL" };
            let mut parameters = vec![
                ("symbol", json!(symbol.name)),
                ("side", json!(side)),
                ("quantity", json!(symbol.quantity(terms.quantity)?.to_string())),
                // Recorded flow does not say whose order it is, so few accounts trade for all.
                ("selfTradePreventionMode", json!("NONE")),
                ("newClientOrderId", json!(name)),
                ("newOrderRespType", json!("FULL")),
            ];
            parameters.extend_from_slice(kind);
            Ok(sign("order.place", &parameters))
        };
        let limit = |terms: Terms, time_in_force: &str| -> Result<Vec<(&'static str, Value)>, ClientError> {
            Ok(vec![
                ("type", json!("LIMIT")),
                ("timeInForce", json!(time_in_force)),
                ("price", json!(symbol.price(terms.price)?.to_string())),
            ])
        };
        let request = match command.action {
            Action::Limit(terms) => {
                self.quantities.insert(command.order, terms.quantity);
                place(name, terms, &limit(terms, "GTC")?)?
            }
            // The recording may name the order it takes from, several times: the place in the file makes it unique.
            Action::ImmediateOrCancel(terms) => {
                place(format!("{}x{id}", self.arguments.id_prefix), terms, &limit(terms, "IOC")?)?
            }
            Action::Market(terms) => place(name, terms, &[("type", json!("MARKET"))])?,
            Action::Cancel => {
                sign("order.cancel", &[("symbol", json!(symbol.name)), ("origClientOrderId", json!(name))])
            }
            Action::Reduce(steps) => {
                let quantity = self.quantities.entry(command.order).or_default();
                *quantity = quantity.saturating_sub(steps);
                let quantity = symbol.quantity(*quantity)?.to_string();
                let parameters = [
                    ("symbol", json!(symbol.name)),
                    ("origClientOrderId", json!(name)),
                    ("newClientOrderId", json!(name)),
                    ("newQty", json!(quantity)),
                ];
                sign("order.amend.keepPriority", &parameters)
            }
        };
        Ok(request)
    }

    fn answered(&mut self, at: Instant, id: u64, answer: Answer) -> Result<(), ClientError> {
        let sent =
            self.waiting.remove(&id).ok_or_else(|| ClientError(format!("an answer to {id}, which is not asked")))?;
        let command = &self.prepared.commands[id as usize];
        if let Some(record) = &mut self.record {
            let line = json!({ "command": id, "order": command.order, "status": answer.status, "answer": answer.body });
            writeln!(record, "{line}").map_err(|why| ClientError(format!("--record: {why}")))?;
        }
        // Refused for want of room, not for what it is: all that follows would meet another book than the recorded one.
        if answer.status == 429 || answer.status == 418 || answer.status >= 500 {
            let (code, message) = (answer.code(), answer.message());
            return Err(ClientError(format!(
                "the server could not take command {id}: {} {code} {message}",
                answer.status
            )));
        }
        self.report.latencies_ns.push(u64::try_from(at.saturating_duration_since(sent).as_nanos()).unwrap_or(u64::MAX));
        let is_cancel = command.action == Action::Cancel;
        match (answer.is_success(), is_cancel) {
            (true, true) => self.report.canceled += 1,
            (true, false) => {
                self.report.accepted += 1;
                self.fills(&answer.body)?;
            }
            (false, true) if answer.code() == UNKNOWN_ORDER => self.report.gone += 1,
            (false, _) => {
                *self.report.refused.entry(format!("{} {}", answer.code(), answer.message())).or_default() += 1;
            }
        }
        Ok(())
    }

    fn fills(&mut self, result: &Value) -> Result<(), ClientError> {
        for fill in result["fills"].as_array().into_iter().flatten() {
            let (price, quantity) = (decimal(&fill["price"])?, decimal(&fill["qty"])?);
            self.report.volume += quantity;
            self.report.turnover += price * quantity;
            self.trades.push((price, quantity));
        }
        self.report.trades = self.trades.len();
        Ok(())
    }

    async fn compare_books(
        &mut self,
        line: &mut Line,
        books: &mut VecDeque<&RecordedBook>,
        commands: usize,
    ) -> Result<(), ClientError> {
        while books.front().is_some_and(|book| book.commands_before <= commands) {
            let Some(book) = books.pop_front() else { break };
            self.drain(line).await?;
            let depth = self.depth(line).await?;
            let (bids, asks) = (levels(&depth["bids"])?, levels(&depth["asks"])?);
            let expected = |side: &[Level]| -> Result<Vec<(Decimal, Decimal)>, ClientError> {
                side.iter().map(|level| self.prepared.symbol.level(level)).collect()
            };
            let (expected_bids, expected_asks) = (expected(&book.bids)?, expected(&book.asks)?);
            self.report.books += 1;
            for (equal, depth) in self.report.books_equal.iter_mut().zip(DEPTHS) {
                let same =
                    top(&bids, depth) == top(&expected_bids, depth) && top(&asks, depth) == top(&expected_asks, depth);
                *equal += usize::from(same);
            }
        }
        Ok(())
    }

    /// The book as the public sees it, waiting as told when the request weight is used up.
    async fn depth(&mut self, line: &mut Line) -> Result<Value, ClientError> {
        let id = u64::MAX >> 1;
        loop {
            let parameters = [("symbol", json!(self.prepared.symbol.name)), ("limit", json!(DEPTHS[2]))];
            line.sender.feed(client::request(id, "depth", &parameters)).await?;
            let (_, answered, answer) = line.next().await?;
            if answered != id {
                return Err(ClientError(format!("an answer to {answered}, which is not asked")));
            }
            if answer.is_success() {
                return Ok(answer.body);
            }
            let retry_after = answer.body["data"]["retryAfter"].as_u64();
            match retry_after {
                Some(until) if answer.status == 429 => {
                    self.report.waits += 1;
                    tokio::time::sleep(Duration::from_millis(until.saturating_sub(client::now_ms()) + 1)).await;
                }
                _ => return Err(ClientError(format!("depth: {} {}", answer.code(), answer.message()))),
            }
        }
    }

    /// How many of the exchange's trades are among ours, each of ours counted once.
    fn compare_trades(&self, exchange: &[Level]) -> Comparison {
        let mut ours: BTreeMap<(Decimal, Decimal), usize> = BTreeMap::new();
        for trade in &self.trades {
            *ours.entry(*trade).or_default() += 1;
        }
        let mut comparison = Comparison { trades: exchange.len(), volume: Decimal::ZERO, identical: 0 };
        for trade in exchange {
            let Ok(trade) = self.prepared.symbol.level(trade) else { continue };
            comparison.volume += trade.1;
            if let Some(left) = ours.get_mut(&trade).filter(|left| **left > 0) {
                *left -= 1;
                comparison.identical += 1;
            }
        }
        comparison
    }
}

fn top(levels: &[(Decimal, Decimal)], depth: usize) -> &[(Decimal, Decimal)] {
    &levels[..levels.len().min(depth)]
}

fn levels(side: &Value) -> Result<Vec<(Decimal, Decimal)>, ClientError> {
    side.as_array().into_iter().flatten().map(|level| Ok((decimal(&level[0])?, decimal(&level[1])?))).collect()
}

fn decimal(value: &Value) -> Result<Decimal, ClientError> {
    let parsed = value.as_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| ClientError(format!("{value} is not a decimal in a string")))
}

/// What the recorded exchange did, beside what this one did.
#[derive(Clone, Copy)]
struct Comparison {
    trades: usize,
    volume: Decimal,
    identical: usize,
}

#[derive(Default)]
struct Report {
    base: String,
    quote: String,
    elapsed: Duration,
    latencies_ns: Vec<u64>,
    accepted: usize,
    canceled: usize,
    gone: usize,
    refused: BTreeMap<String, usize>,
    trades: usize,
    volume: Decimal,
    turnover: Decimal,
    books: usize,
    books_equal: [usize; DEPTHS.len()],
    waits: usize,
}

impl Report {
    fn reached(&self, gate: &str, expected: Option<Comparison>) -> usize {
        let [top1, top5, top20] = self.books_equal;
        match gate {
            "trades" => expected.map_or(0, |expected| expected.identical),
            "top1" => top1,
            "top5" => top5,
            _ => top20,
        }
    }

    fn print(&mut self, as_json: bool, commands: usize, expected: Option<Comparison>) {
        self.latencies_ns.sort_unstable();
        let answered = self.latencies_ns.len();
        let elapsed_ms = self.elapsed.as_millis().max(1);
        let per_second = answered as u128 * 1_000 / elapsed_ms;
        let latency_us = |per_mille: usize| percentile(&self.latencies_ns, per_mille) / 1_000;
        let [p50, p99, p999, max] = [500, 990, 999, 1_000].map(latency_us);
        let [top1, top5, top20] = self.books_equal;
        let refused: usize = self.refused.values().sum();
        if as_json {
            let expected = expected.map(|expected| {
                json!({ "trades": expected.trades, "volume": expected.volume.to_string(), "identical": expected.identical })
            });
            let summary = json!({
                "commands": commands, "answered": answered, "elapsed_ms": elapsed_ms as u64, "per_second": per_second as u64,
                "latency_us": { "p50": p50, "p99": p99, "p99.9": p999, "max": max },
                "accepted": self.accepted, "canceled": self.canceled, "gone": self.gone, "refused": self.refused,
                "trades": self.trades, "volume": self.volume.normalize().to_string(),
                "turnover": self.turnover.normalize().to_string(), "expected": expected,
                "books": { "compared": self.books, "top1": top1, "top5": top5, "top20": top20 },
                "waits_for_weight": self.waits,
            });
            say!("{summary}");
            return;
        }
        let seconds = format!("{}.{:03}", elapsed_ms / 1_000, elapsed_ms % 1_000);
        say!("commands   {answered} of {commands} answered in {seconds} s, {per_second} per second");
        say!(
            "orders     {} accepted, {} canceled, {} gone before their cancel, {refused} refused",
            self.accepted,
            self.canceled,
            self.gone
        );
        for (refusal, count) in &self.refused {
            say!("           {count} × {refusal}");
        }
        say!("latency    p50 {p50} µs, p99 {p99} µs, p99.9 {p999} µs, max {max} µs");
        let (volume, turnover) = (self.volume.normalize(), self.turnover.normalize());
        say!("trades     {}, {volume} {} for {turnover} {}", self.trades, self.base, self.quote);
        if let Some(Comparison { trades, volume, identical }) = expected {
            say!(
                "recorded   {trades}, {} {}; {identical} of them identical in price and quantity",
                volume.normalize(),
                self.base
            );
        }
        if self.books > 0 {
            say!(
                "books      {} compared: {top1} equal at the best prices, {top5} in the top 5, {top20} in the top 20",
                self.books
            );
        }
        if self.waits > 0 {
            say!("waited     {} times for the request weight", self.waits);
        }
    }
}

/// The smallest of `sorted` that `per_mille` of a thousand do not exceed; 0 of nothing.
fn percentile(sorted: &[u64], per_mille: usize) -> u64 {
    let rank = (sorted.len() * per_mille).div_ceil(1_000);
    rank.checked_sub(1).map_or(0, |index| sorted[index])
}

/// One line on a terminal, renewed each second.
struct Progress {
    total: usize,
    shown: Instant,
    visible: bool,
}

impl Progress {
    fn new(total: usize) -> Progress {
        Progress { total, shown: Instant::now(), visible: std::io::stderr().is_terminal() }
    }

    fn at(&mut self, index: usize) {
        let is_last = index + 1 == self.total;
        if self.visible && (is_last || self.shown.elapsed() >= Duration::from_secs(1)) {
            self.shown = Instant::now();
            eprint!("\r{} of {} commands{}", index + 1, self.total, if is_last { "\n" } else { "" });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks() {
        let sorted: Vec<u64> = (1..=1_000).collect();
        assert_eq!([500, 990, 999, 1_000].map(|per_mille| percentile(&sorted, per_mille)), [500, 990, 999, 1_000]);
        assert_eq!(percentile(&[], 500), 0);
        assert_eq!(percentile(&[7], 1), 7);
    }
}
