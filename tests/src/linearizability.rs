//! What clients saw of a few order books and of the accounts that trade in them, and whether one exchange that does one thing
//! at a time could have shown it to them.
//!
//! Each book has accounts of its own, so a book with its accounts is an object by itself: a history is linearizable when each
//! object's is. The search is that of the crate todc-utils: Wing and Gong's, with Lowe's memory, as Horn and Kroening describe
//! it. What one book does is said here, in [`Market`], by a model of its own that knows limit orders, cancels and reads.
//!
//! The clients use no sequence numbers: all that counts is when a call began, when it ended, and what it said. A call whose
//! outcome stays unknown may have taken effect at any time after it began, or never.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gateway::client::{Address, Answer, Rest};
use hyper::Method;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use todc_utils::{Action, History, Specification, WGLChecker};
use tokio::task::{JoinHandle, JoinSet};

use crate::exchange::credentials;
use crate::witness::units_of;

/// Accounts of each book.
const ACCOUNTS: usize = 3;
/// Clients of each account, each doing one thing at a time.
const CLIENTS: usize = 2;
/// What an account has of the base asset, in smallest units, when it is opened.
const BASE: u128 = 100_000 * 100_000_000;
/// And of the quote asset.
const QUOTE: u128 = 100_000_000 * QUOTE_UNIT;
const QUOTE_UNIT: u128 = 10_000_000_000;
/// A lot of these tests, 0.01, in the base asset's smallest units.
const LOT: u128 = 1_000_000;
/// A cent times a lot, in the quote asset's smallest units.
const CENT_LOT: u128 = 1_000_000;
/// What of a million received is paid as commission.
const MAKER_FEE: u128 = 500;
const TAKER_FEE: u128 = 1_000;
/// How long a client waits for an answer before it asks another node.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it asks the same, and how long it waits in between.
const ATTEMPTS_MAX: usize = 20;
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How many names back a cancel reaches.
const REACH: u32 = 30;

/// The symbol of a book.
fn symbol(book: usize) -> String {
    format!("B{book}USD")
}

/// The bootstrap text of so many books, with their accounts and keys.
pub fn bootstrap(books: usize) -> String {
    let mut text = "[[asset]]\nname = \"USD\"\nscale = 10\n".to_owned();
    for book in 0..books {
        let symbol = symbol(book);
        text.push_str(&format!(
            "[[asset]]\nname = \"B{book}\"\nscale = 8\n[[symbol]]\nname = \"{symbol}\"\nbase = \"B{book}\"\n\
             quote = \"USD\"\ntick_size = \"0.01\"\nstep_size = \"0.00000001\"\nmin_notional = \"0\"\n\
             maker_fee = \"0.0005\"\ntaker_fee = \"0.001\"\ndefault_self_trade_prevention = \"NONE\"\n"
        ));
        for account in accounts(book) {
            let who = credentials(account);
            text.push_str(&format!(
                "[[account]]\nuid = {account}\nbalances = {{ B{book} = \"{}\", USD = \"{}\" }}\n[[account.key]]\n\
                 api_key = \"{}\"\ntype = \"HMAC\"\nsecret = \"{}\"\npermissions = [\"USER_DATA\", \"TRADE\"]\n",
                BASE / 100_000_000,
                QUOTE / QUOTE_UNIT,
                who.api_key,
                who.secret
            ));
        }
    }
    text
}

fn accounts(book: usize) -> impl Iterator<Item = usize> {
    (1..=ACCOUNTS).map(move |account| book * ACCOUNTS + account)
}

/// A call: who made it, when, and what it asked and said.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who makes one call after the other.
    pub client: usize,
    /// When it was made.
    pub began: Instant,
    /// When it was answered; `None` when it was not.
    pub ended: Option<Instant>,
    /// What it asked and said.
    pub operation: Arc<Operation>,
}

/// What was asked, and what was said if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A limit order.
    Place {
        /// Which of the book's accounts, from zero.
        account: usize,
        /// The order's name.
        name: u32,
        /// Whether it buys.
        buys: bool,
        /// In cents.
        price: u64,
        /// In lots.
        quantity: u64,
        /// Whether what does not trade at once is gone.
        is_immediate: bool,
        /// What was said; `None` when nobody knows.
        said: Option<Placed>,
    },
    /// A cancel, by name.
    Cancel {
        /// Whose.
        account: usize,
        /// The order's name.
        name: u32,
        /// What was said.
        said: Canceled,
    },
    /// The book's levels, price and quantity, bids from the highest, asks from the lowest.
    ReadBook {
        /// The buyers'.
        bids: Vec<(u64, u64)>,
        /// The sellers'.
        asks: Vec<(u64, u64)>,
    },
    /// What an account has.
    ReadBalances {
        /// Whose.
        account: usize,
        /// As it was said.
        said: Balances,
    },
    /// The orders that an account has open: number and executed lots, by number.
    ReadOpenOrders {
        /// Whose.
        account: usize,
        /// As they were said.
        said: Vec<(u64, u64)>,
    },
}

/// What the answer to an order says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It was accepted.
    Accepted {
        /// Its number.
        order_id: u64,
        /// Number, price and lots of each trade at once.
        trades: Vec<(u64, u64, u64)>,
    },
    /// It was refused, which none of these may be.
    Refused,
}

/// What the answer to a cancel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Canceled {
    /// It canceled the order of this number, with so many lots executed.
    Done(u64, u64),
    /// There was no such open order.
    NotOpen,
    /// Nobody knows.
    Unknown,
}

/// Free and locked of base and quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Balances {
    /// Of the base asset.
    pub base: (u128, u128),
    /// Of the quote asset.
    pub quote: (u128, u128),
}

/// One book and its accounts, as the model has them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Market {
    orders: u64,
    trades: u64,
    /// By price from the best, then by age.
    bids: Vec<Resting>,
    asks: Vec<Resting>,
    accounts: [Balances; ACCOUNTS],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Resting {
    order_id: u64,
    account: usize,
    name: u32,
    price: u64,
    open: u64,
    executed: u64,
}

impl Market {
    fn new() -> Market {
        let opened = Balances { base: (BASE, 0), quote: (QUOTE, 0) };
        Market { orders: 0, trades: 0, bids: Vec::new(), asks: Vec::new(), accounts: [opened; ACCOUNTS] }
    }

    /// Places a limit order; its number and its trades.
    fn place(&mut self, taker: Resting, buys: bool, is_immediate: bool) -> (u64, Vec<(u64, u64, u64)>) {
        self.orders += 1;
        let mut taker = Resting { order_id: self.orders, ..taker };
        self.lock(taker.account, buys, taker.price, taker.open);
        let mut trades = Vec::new();
        loop {
            let makers = if buys { &mut self.asks } else { &mut self.bids };
            let Some(maker) = makers.first_mut().filter(|_| taker.open > 0) else { break };
            if if buys { maker.price > taker.price } else { maker.price < taker.price } {
                break;
            }
            let (price, quantity) = (maker.price, maker.open.min(taker.open));
            for party in [&mut *maker, &mut taker] {
                party.open -= quantity;
                party.executed += quantity;
            }
            let maker_account = maker.account;
            if maker.open == 0 {
                makers.remove(0);
            }
            self.trades += 1;
            trades.push((self.trades, price, quantity));
            self.settle(taker.account, buys, taker.price, price, quantity, TAKER_FEE);
            self.settle(maker_account, !buys, price, price, quantity, MAKER_FEE);
        }
        let order_id = taker.order_id;
        if taker.open > 0 && is_immediate {
            self.unlock(taker.account, buys, taker.price, taker.open);
        } else if taker.open > 0 {
            let side = if buys { &mut self.bids } else { &mut self.asks };
            let is_behind = |it: &Resting| if buys { it.price >= taker.price } else { it.price <= taker.price };
            side.insert(side.partition_point(is_behind), taker);
        }
        (order_id, trades)
    }

    /// Cancels the open order of this name; its number and what it executed.
    fn cancel(&mut self, account: usize, name: u32) -> Option<(u64, u64)> {
        let is_it = |it: &Resting| it.account == account && it.name == name;
        let (side, buys) = if self.bids.iter().any(is_it) { (&mut self.bids, true) } else { (&mut self.asks, false) };
        let order = side.remove(side.iter().position(is_it)?);
        self.unlock(account, buys, order.price, order.open);
        Some((order.order_id, order.executed))
    }

    fn lock(&mut self, account: usize, buys: bool, price: u64, lots: u64) {
        let (balance, amount) = self.pays(account, buys, price, lots);
        balance.0 -= amount;
        balance.1 += amount;
    }

    fn unlock(&mut self, account: usize, buys: bool, price: u64, lots: u64) {
        let (balance, amount) = self.pays(account, buys, price, lots);
        balance.1 -= amount;
        balance.0 += amount;
    }

    /// A party that locked at `limit` trades at `price`: what it does not pay is free again.
    fn settle(&mut self, account: usize, buys: bool, limit: u64, price: u64, lots: u64, fee: u128) {
        self.unlock(account, buys, limit, lots);
        let (balance, paid) = self.pays(account, buys, price, lots);
        balance.0 -= paid;
        let (balance, received) = self.pays(account, !buys, price, lots);
        balance.0 += received - received * fee / 1_000_000;
    }

    /// The balance that a buyer or a seller pays from, and how much.
    fn pays(&mut self, account: usize, buys: bool, price: u64, lots: u64) -> (&mut (u128, u128), u128) {
        let balances = &mut self.accounts[account];
        match buys {
            true => (&mut balances.quote, u128::from(price) * u128::from(lots) * CENT_LOT),
            false => (&mut balances.base, u128::from(lots) * LOT),
        }
    }

    fn open_orders(&self, account: usize) -> Vec<(u64, u64)> {
        let own = self.bids.iter().chain(&self.asks).filter(|order| order.account == account);
        let mut own: Vec<_> = own.map(|order| (order.order_id, order.executed)).collect();
        own.sort_unstable();
        own
    }
}

fn levels(side: &[Resting]) -> Vec<(u64, u64)> {
    side.chunk_by(|a, b| a.price == b.price)
        .map(|level| (level[0].price, level.iter().map(|order| order.open).sum()))
        .collect()
}

impl Specification for Market {
    type State = Market;
    type Operation = Arc<Operation>;

    fn init() -> Market {
        Market::new()
    }

    fn apply(operation: &Arc<Operation>, state: &Market) -> (bool, Market) {
        let mut after = state.clone();
        let is_right = match &**operation {
            Operation::Place { account, name, buys, price, quantity, is_immediate, said } => {
                let taker = Resting {
                    order_id: 0,
                    account: *account,
                    name: *name,
                    price: *price,
                    open: *quantity,
                    executed: 0,
                };
                let (order_id, trades) = after.place(taker, *buys, *is_immediate);
                said.as_ref().is_none_or(|said| *said == Placed::Accepted { order_id, trades })
            }
            Operation::Cancel { account, name, said } => match (after.cancel(*account, *name), said) {
                (_, Canceled::Unknown) => true,
                (None, Canceled::NotOpen) => true,
                (Some(done), Canceled::Done(order_id, executed)) => done == (*order_id, *executed),
                _ => false,
            },
            Operation::ReadBook { bids, asks } => levels(&state.bids) == *bids && levels(&state.asks) == *asks,
            Operation::ReadBalances { account, said } => state.accounts[*account] == *said,
            Operation::ReadOpenOrders { account, said } => state.open_orders(*account) == *said,
        };
        (is_right, after)
    }
}

/// Whether one book that does one thing at a time could have said all this. If not: the first answer after which it could
/// not any more.
pub fn check(calls: &[Call]) -> Result<(), String> {
    // What came before a moment is a history too, with what was under way then unanswered. Longer and longer ones are
    // looked at, for the search in one that is right is short, and in one that is wrong the longer the more it goes on.
    let mut ends: Vec<Instant> = calls.iter().filter_map(|call| call.ended).collect();
    ends.sort_unstable();
    let (mut right, mut next) = (0, FIRST_LOOK.min(ends.len()));
    loop {
        let whole = next == ends.len();
        let history = if whole { calls.to_vec() } else { before(calls, ends[next - 1]) };
        match search(history) {
            Found::Explained if whole => return Ok(()),
            Found::Explained => (right, next) = (next, (next * 2).min(ends.len())),
            found => return Err(culprit(calls, &ends, right, next, found)),
        }
    }
}

/// How many answers the first history has that is looked at.
const FIRST_LOOK: usize = 128;
/// How long the search in a history may take. One that is right takes a hundredth of it.
const SEARCH_MAX: Duration = Duration::from_secs(60);

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// One exchange doing one thing at a time could have said it.
    Explained,
    /// It could not.
    Unexplained,
    /// The search took too long.
    Undecided,
}

fn search(history: Vec<Call>) -> Found {
    let (sender, found) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Nobody may wait for it any more.
        let _ = sender.send(is_linearizable(&history));
    });
    match found.recv_timeout(SEARCH_MAX) {
        Ok(true) => Found::Explained,
        Ok(false) => Found::Unexplained,
        Err(_) => Found::Undecided,
    }
}

/// The first answer that cannot be explained: the history up to the `right`-th can, up to the `wrong`-th cannot.
fn culprit(calls: &[Call], ends: &[Instant], mut right: usize, mut wrong: usize, mut found: Found) -> String {
    while right + 1 < wrong {
        let middle = (right + wrong) / 2;
        match search(before(calls, ends[middle - 1])) {
            Found::Explained => right = middle,
            other => (wrong, found) = (middle, other),
        }
    }
    let until = ends[wrong - 1];
    let culprit = calls.iter().find(|call| call.ended == Some(until));
    let under_way = calls.iter().filter(|call| call.began < until && call.ended.is_none_or(|ended| ended >= until));
    format!(
        "{found:?}: answer {wrong} of {} calls: {culprit:?}; under way then: {:#?}",
        calls.len(),
        under_way.collect::<Vec<_>>()
    )
}

/// Whether a search through the whole history finds an explanation.
pub fn is_linearizable(calls: &[Call]) -> bool {
    if calls.is_empty() {
        return true;
    }
    enum Side {
        Begin,
        End,
    }
    let mut sides = Vec::new();
    // Nobody waits for a call without an answer: it is answered after all the others, so anything may have come of it.
    let mut late = Vec::new();
    let last_client = calls.iter().map(|call| call.client).max().unwrap_or(0);
    for call in calls {
        match call.ended {
            Some(ended) => {
                sides.push((call.began, 0, Side::Begin, call.client, call));
                sides.push((ended, 1, Side::End, call.client, call));
            }
            // Its client goes on; in the history it goes on as another.
            None => {
                let client = last_client + 1 + late.len();
                sides.push((call.began, 0, Side::Begin, client, call));
                late.push((client, Action::Response(call.operation.clone())));
            }
        }
    }
    sides.sort_by_key(|(at, order, ..)| (*at, *order));
    let action = |(_, _, side, client, call): &(_, _, Side, usize, &Call)| match side {
        Side::Begin => (*client, Action::Call(call.operation.clone())),
        Side::End => (*client, Action::Response(call.operation.clone())),
    };
    let actions: Vec<_> = sides.iter().map(action).chain(late).collect();
    WGLChecker::<Market>::is_linearizable(History::from_actions(actions))
}

/// The history up to a moment.
fn before(calls: &[Call], end: Instant) -> Vec<Call> {
    let known = calls.iter().filter(|call| call.began <= end);
    let cut = |call: &Call| {
        if call.ended.is_some_and(|ended| ended <= end) {
            return Some(call.clone());
        }
        let operation = match &*call.operation {
            Operation::Place { account, name, buys, price, quantity, is_immediate, .. } => Operation::Place {
                account: *account,
                name: *name,
                buys: *buys,
                price: *price,
                quantity: *quantity,
                is_immediate: *is_immediate,
                said: None,
            },
            Operation::Cancel { account, name, .. } => {
                Operation::Cancel { account: *account, name: *name, said: Canceled::Unknown }
            }
            // A read without an answer says nothing.
            _ => return None,
        };
        Some(Call { ended: None, operation: Arc::new(operation), ..call.clone() })
    };
    known.filter_map(cut).collect()
}

/// Clients at work on every book, through all the nodes.
pub struct Recorder {
    stop: Arc<AtomicBool>,
    books: usize,
    working: JoinHandle<Vec<(usize, Vec<Call>)>>,
}

impl Recorder {
    /// Sets them to work. After each call a client rests for as long as `think` at most.
    pub fn start(addresses: &[Address], books: usize, seed: u64, think: Duration) -> Recorder {
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, addresses) = (stop.clone(), addresses.to_vec());
        let working = tokio::spawn(async move {
            let mut clients = JoinSet::new();
            for book in 0..books {
                let names = Arc::new(AtomicU32::new(0));
                for number in 0..ACCOUNTS * CLIENTS {
                    let client = Client {
                        book,
                        number,
                        account: number % ACCOUNTS,
                        nodes: addresses.iter().map(Rest::linearizable).collect(),
                        node: number % addresses.len(),
                        random: StdRng::seed_from_u64(seed ^ (book as u64) << 32 ^ (number as u64) << 48),
                        names: names.clone(),
                        calls: Vec::new(),
                    };
                    clients.spawn(client.run(flag.clone(), think));
                }
            }
            clients.join_all().await
        });
        Recorder { stop, books, working }
    }

    /// Lets them finish; the history of each book.
    pub async fn finish(self) -> Vec<Vec<Call>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut books = vec![Vec::new(); self.books];
        for (book, calls) in self.working.await.expect("clients do not panic") {
            books[book].extend(calls);
        }
        books
    }
}

/// Who does one thing at a time.
struct Client {
    book: usize,
    number: usize,
    account: usize,
    nodes: Vec<Rest>,
    node: usize,
    random: StdRng,
    names: Arc<AtomicU32>,
    calls: Vec<Call>,
}

impl Client {
    async fn run(mut self, stop: Arc<AtomicBool>, think: Duration) -> (usize, Vec<Call>) {
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let (operation, is_known) = match self.random.random_range(0..100) {
                0..50 => self.place().await,
                50..75 => self.cancel().await,
                75..84 => (self.read_book().await, true),
                84..92 => (self.read_balances().await, true),
                _ => (self.read_open_orders().await, true),
            };
            if let Some(operation) = operation {
                let ended = is_known.then(Instant::now);
                self.calls.push(Call { client: self.number, began, ended, operation: Arc::new(operation) });
            }
            // Now and then at another node, as clients behind a balancer are.
            if self.random.random_range(0..4) == 0 {
                self.go_elsewhere();
            }
            tokio::time::sleep(think.mul_f64(self.random.random_range(0.0..1.0))).await;
        }
        self.forget_vain_cancels().await;
        (self.book, self.calls)
    }

    /// Leaves out the cancels without an answer whose order was not canceled in the end: they did nothing, and a search need
    /// not try when.
    async fn forget_vain_cancels(&mut self) {
        let mut vain = Vec::new();
        for (at, call) in self.calls.iter().enumerate() {
            if let Operation::Cancel { name, said: Canceled::Unknown, .. } = *call.operation {
                vain.push((at, name));
            }
        }
        for (at, name) in vain.into_iter().rev() {
            let parameters = [("symbol", symbol(self.book)), ("origClientOrderId", self.order_name(name))];
            let answer = self.persist(Method::GET, "/api/v3/order", &parameters).await;
            if answer.is_some_and(|answer| answer.body["status"] != "CANCELED") {
                self.calls.remove(at);
            }
        }
    }

    async fn place(&mut self) -> (Option<Operation>, bool) {
        let name = self.names.fetch_add(1, Ordering::Relaxed);
        let (buys, price) = (self.random.random(), self.random.random_range(10_000..10_012));
        let (quantity, is_immediate) = (self.random.random_range(1..500), self.random.random_range(0..3) == 0);
        let parameters = [
            ("symbol", symbol(self.book)),
            ("side", if buys { "BUY" } else { "SELL" }.to_owned()),
            ("type", "LIMIT".to_owned()),
            ("timeInForce", if is_immediate { "IOC" } else { "GTC" }.to_owned()),
            ("price", format!("{}.{:02}", price / 100, price % 100)),
            ("quantity", format!("{}.{:02}", quantity / 100, quantity % 100)),
            ("newClientOrderId", self.order_name(name)),
            ("newOrderRespType", "FULL".to_owned()),
        ];
        let answer = self.persist(Method::POST, "/api/v3/order", &parameters).await;
        let said = answer.map(|answer| if answer.is_success() { placed(&answer.body) } else { Placed::Refused });
        let is_known = said.is_some();
        let account = self.account;
        (Some(Operation::Place { account, name, buys, price, quantity, is_immediate, said }), is_known)
    }

    async fn cancel(&mut self) -> (Option<Operation>, bool) {
        let last = self.names.load(Ordering::Relaxed);
        if last == 0 {
            return (None, true);
        }
        let name = self.random.random_range(last.saturating_sub(REACH)..last);
        let parameters = [("symbol", symbol(self.book)), ("origClientOrderId", self.order_name(name))];
        // Asked once: nothing tells a second attempt from the first, which may still be on its way.
        let said = match self.ask(Method::DELETE, "/api/v3/order", &parameters).await {
            None => Canceled::Unknown,
            Some(answer) if answer.is_success() => {
                let body = &answer.body;
                Canceled::Done(body["orderId"].as_u64().expect("an order id"), lots(&body["executedQty"]))
            }
            Some(_) => Canceled::NotOpen,
        };
        let is_known = said != Canceled::Unknown;
        if !is_known {
            self.go_elsewhere();
        }
        (Some(Operation::Cancel { account: self.account, name, said }), is_known)
    }

    async fn read_book(&mut self) -> Option<Operation> {
        let (symbol, path) = (symbol(self.book), "/api/v3/depth");
        let parameters = [("symbol", symbol.as_str()), ("limit", "5000")];
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, self.nodes[self.node].get(path, &parameters)).await;
        let answer = self.usable(asked.ok()?.ok())?;
        let [bids, asks] = ["bids", "asks"].map(|side| {
            let levels = answer.body[side].as_array().expect("levels");
            levels.iter().map(|level| (cents(&level[0]), lots(&level[1]))).collect()
        });
        Some(Operation::ReadBook { bids, asks })
    }

    async fn read_balances(&mut self) -> Option<Operation> {
        let answer = self.ask(Method::GET, "/api/v3/account", &[]).await?;
        let balances = answer.body["balances"].as_array().expect("balances");
        let of = |asset: &str, scale| {
            let found = balances.iter().find(|balance| balance["asset"] == asset).expect("an asset that was deposited");
            (units_of(&found["free"], scale), units_of(&found["locked"], scale))
        };
        let said = Balances { base: of(&format!("B{}", self.book), 8), quote: of("USD", 10) };
        Some(Operation::ReadBalances { account: self.account, said })
    }

    async fn read_open_orders(&mut self) -> Option<Operation> {
        let answer = self.ask(Method::GET, "/api/v3/openOrders", &[("symbol", symbol(self.book))]).await?;
        let orders = answer.body.as_array().expect("orders");
        let row = |order: &Value| (order["orderId"].as_u64().expect("an order id"), lots(&order["executedQty"]));
        let mut said: Vec<_> = orders.iter().map(row).collect();
        said.sort_unstable();
        Some(Operation::ReadOpenOrders { account: self.account, said })
    }

    /// Asks until one node answers for good, or for too long.
    async fn persist(&mut self, method: Method, path: &str, parameters: &[(&str, String)]) -> Option<Answer> {
        for _ in 0..ATTEMPTS_MAX {
            if let Some(answer) = self.ask(method.clone(), path, parameters).await {
                return Some(answer);
            }
            self.go_elsewhere();
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        None
    }

    async fn ask(&mut self, method: Method, path: &str, parameters: &[(&str, String)]) -> Option<Answer> {
        let parameters: Vec<_> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let who = credentials(self.book * ACCOUNTS + self.account + 1);
        let asking = self.nodes[self.node].signed(method, path, &parameters, &who);
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, asking).await;
        self.usable(asked.ok()?.ok())
    }

    /// An answer that says something: not that the node cannot, or does not know.
    fn usable(&mut self, answer: Option<Answer>) -> Option<Answer> {
        const UNKNOWN: i64 = -1007;
        answer.filter(|answer| answer.status < 500 && answer.code() != UNKNOWN)
    }

    fn go_elsewhere(&mut self) {
        self.node = (self.node + self.random.random_range(1..=self.nodes.len())) % self.nodes.len();
    }

    fn order_name(&self, name: u32) -> String {
        format!("order-{name}")
    }
}

fn placed(body: &Value) -> Placed {
    let fills = body["fills"].as_array().map_or(&[][..], Vec::as_slice);
    let fill =
        |fill: &Value| (fill["tradeId"].as_u64().expect("a trade id"), cents(&fill["price"]), lots(&fill["qty"]));
    Placed::Accepted {
        order_id: body["orderId"].as_u64().expect("an order id"),
        trades: fills.iter().map(fill).collect(),
    }
}

/// A decimal as a whole number of hundredths.
fn hundredths(value: &Value) -> u64 {
    u64::try_from(units_of(value, 2)).expect("a price or quantity of these tests")
}

fn cents(value: &Value) -> u64 {
    hundredths(value)
}

fn lots(value: &Value) -> u64 {
    hundredths(value)
}

/// How large a history is: calls, those of them without an answer, orders with trades, reads, and the most under way at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    /// All calls.
    pub calls: usize,
    /// Those whose outcome nobody knows.
    pub unknown: usize,
    /// Orders that traded at once.
    pub trading: usize,
    /// Reads of the book, of balances, of open orders.
    pub reads: usize,
    /// The most calls under way at one time.
    pub concurrent: usize,
}

impl Size {
    /// Of a history.
    pub fn of(calls: &[Call]) -> Size {
        let count = |wanted: fn(&Operation) -> bool| calls.iter().filter(|call| wanted(&call.operation)).count();
        let mut moments: Vec<_> = calls.iter().map(|call| (call.began, 1)).collect();
        moments.extend(calls.iter().filter_map(|call| call.ended).map(|ended| (ended, -1)));
        moments.sort_unstable();
        let mut under_way = 0;
        let most = moments.into_iter().map(|(_, change)| {
            under_way += change;
            under_way
        });
        Size {
            calls: calls.len(),
            unknown: calls.iter().filter(|call| call.ended.is_none()).count(),
            trading: count(
                |it| matches!(it, Operation::Place { said: Some(Placed::Accepted { trades, .. }), .. } if !trades.is_empty()),
            ),
            reads: count(|it| {
                matches!(
                    it,
                    Operation::ReadBook { .. } | Operation::ReadBalances { .. } | Operation::ReadOpenOrders { .. }
                )
            }),
            concurrent: usize::try_from(most.max().unwrap_or(0)).unwrap_or(0),
        }
    }
}

/// What a history becomes when one answer of it is another than was given: a checker must notice. `None` where the history
/// has no such answer.
pub fn falsified(calls: &[Call], random: &mut StdRng) -> Option<(String, Vec<Call>)> {
    let first = random.random_range(0..calls.len().max(1));
    for at in (first..calls.len()).chain(0..first) {
        let mut operation = (*calls[at].operation).clone();
        let what = match &mut operation {
            Operation::Place { said: Some(Placed::Accepted { order_id, .. }), .. } => {
                *order_id += 1;
                "an order's number is one too high"
            }
            Operation::Cancel { said: Canceled::Done(_, executed), .. } => {
                *executed += 1;
                "a canceled order had executed a lot more"
            }
            Operation::ReadBook { bids, .. } if !bids.is_empty() => {
                bids[0].1 += 1;
                "a level has a lot more"
            }
            Operation::ReadBalances { said, .. } => {
                said.quote.0 -= 1;
                "a balance is one unit less"
            }
            _ => continue,
        };
        let mut calls = calls.to_vec();
        calls[at].operation = Arc::new(operation);
        return Some((what.to_owned(), calls));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Story {
        start: Instant,
        calls: Vec<Call>,
    }

    impl Story {
        fn new() -> Story {
            Story { start: Instant::now(), calls: Vec::new() }
        }

        /// Client `client` calls from `began` to `ended`, in milliseconds.
        fn call(mut self, client: usize, began: u64, ended: Option<u64>, operation: Operation) -> Story {
            let at = |ms| self.start + Duration::from_millis(ms);
            let (began, ended) = (at(began), ended.map(at));
            self.calls.push(Call { client, began, ended, operation: Arc::new(operation) });
            self
        }

        fn is_right(&self) -> bool {
            check(&self.calls).is_ok()
        }
    }

    fn sell(name: u32, quantity: u64, said: Option<u64>) -> Operation {
        let said = said.map(|order_id| Placed::Accepted { order_id, trades: Vec::new() });
        Operation::Place { account: 0, name, buys: false, price: 10_000, quantity, is_immediate: false, said }
    }

    fn buy(name: u32, quantity: u64, order_id: u64, trades: &[(u64, u64, u64)]) -> Operation {
        let said = Some(Placed::Accepted { order_id, trades: trades.to_vec() });
        Operation::Place { account: 1, name, buys: true, price: 10_000, quantity, is_immediate: true, said }
    }

    fn asks(levels: &[(u64, u64)]) -> Operation {
        Operation::ReadBook { bids: Vec::new(), asks: levels.to_vec() }
    }

    #[test]
    fn a_read_after_an_acknowledgement_must_show_it() {
        let placed = || Story::new().call(0, 0, Some(10), sell(1, 5, Some(1)));
        assert!(placed().call(1, 20, Some(30), asks(&[(10_000, 5)])).is_right());
        assert!(!placed().call(1, 20, Some(30), asks(&[])).is_right());
        // Under way at the same time, either may come first.
        assert!(placed().call(1, 5, Some(30), asks(&[])).is_right());
    }

    #[test]
    fn what_nobody_answered_may_have_happened_or_not_but_not_both() {
        let unknown = || Story::new().call(0, 0, None, sell(1, 5, None));
        assert!(unknown().call(1, 20, Some(30), asks(&[])).is_right());
        assert!(unknown().call(1, 20, Some(30), asks(&[(10_000, 5)])).is_right());
        let late = unknown().call(1, 20, Some(30), asks(&[])).call(1, 40, Some(50), asks(&[(10_000, 5)]));
        assert!(late.is_right());
        let back = unknown().call(1, 20, Some(30), asks(&[(10_000, 5)])).call(1, 40, Some(50), asks(&[]));
        assert!(!back.is_right());
    }

    #[test]
    fn an_order_that_was_lost_or_done_twice_is_noticed() {
        let placed = || Story::new().call(0, 0, Some(10), sell(1, 5, Some(1)));
        assert!(placed().call(1, 20, Some(30), buy(2, 5, 2, &[(1, 10_000, 5)])).is_right());
        assert!(!placed().call(1, 20, Some(30), buy(2, 5, 1, &[])).is_right());
        assert!(!placed().call(1, 20, Some(30), asks(&[(10_000, 10)])).is_right());
        let traded = placed().call(1, 20, Some(30), buy(2, 5, 2, &[(1, 10_000, 5)]));
        let fees = Balances {
            base: (BASE - 5 * LOT, 0),
            quote: (QUOTE + 50_000 * CENT_LOT - 50_000 * CENT_LOT * MAKER_FEE / 1_000_000, 0),
        };
        let read = |said| Operation::ReadBalances { account: 0, said };
        assert!(traded.call(2, 40, Some(50), read(fees)).is_right());
        let traded = placed().call(1, 20, Some(30), buy(2, 5, 2, &[(1, 10_000, 5)]));
        assert!(!traded.call(2, 40, Some(50), read(Balances { quote: (QUOTE, 0), ..fees })).is_right());
    }

    #[test]
    fn the_first_answer_that_cannot_be_explained_is_named() {
        let story = Story::new().call(0, 0, Some(10), sell(1, 5, Some(1))).call(1, 20, Some(30), asks(&[])).call(
            1,
            40,
            Some(50),
            asks(&[(10_000, 5)]),
        );
        let error = check(&story.calls).unwrap_err();
        assert!(error.contains("answer 2 of") && error.contains("ReadBook { bids: [], asks: [] }"), "{error}");
    }
}
