//! Trades that a server is made to make, at times of the caller's choosing: recorded ones one by one, or generated ones in
//! numbers. Every one goes the way of a live trade: two orders through the journal and the engine to the feed and history.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::command::{OrderQuantity, PlaceOrder};
use engine::order::{ClientOrderId, OrderType, Side, TimeInForce};
use engine::{Amount, Command, SymbolId, Time, Uid};
use gateway::app::App;
use journal::{Answer, Caller};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::oneshot;

/// Who makes, and who takes.
const MAKER: Uid = Uid(1001);
const TAKER: Uid = Uid(1002);
/// Commands that stand in one entry, at the most.
const TOGETHER_MAX: usize = 1_000;
/// Entries under way.
const UNDER_WAY: usize = 64;

/// One symbol, `BTCUSDT`, of that tick and step, and two accounts that never run out.
pub fn market(tick_size: &str, step_size: &str) -> String {
    format!(
        r#"
        [[asset]]
        name = "BTC"
        scale = 8
        [[asset]]
        name = "USDT"
        scale = 8
        [[symbol]]
        name = "BTCUSDT"
        base = "BTC"
        quote = "USDT"
        tick_size = "{tick_size}"
        step_size = "{step_size}"
        [[account]]
        uid = 1001
        balances = {{ BTC = "1000000000000", USDT = "10000000000000000" }}
        [[account]]
        uid = 1002
        balances = {{ BTC = "1000000000000", USDT = "10000000000000000" }}
        "#
    )
}

/// A trade as it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print {
    /// When.
    pub time: Time,
    /// At which price, in smallest quote units.
    pub price: Amount,
    /// How much, in smallest base units.
    pub quantity: Amount,
    /// Whether the taker buys.
    pub taker_buys: bool,
}

/// A decimal with at most eight decimals as a whole number of them.
pub fn eight_decimals(text: &str) -> Amount {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    assert!(part.len() <= 8, "{text}");
    Amount(format!("{whole}{part:0<8}").parse().unwrap_or_else(|_| panic!("{text:?} is no decimal")))
}

fn order(uid: Uid, name: u64, side: Side, force: TimeInForce, price: Amount, quantity: Amount) -> Command {
    Command::PlaceOrder(PlaceOrder {
        uid,
        symbol: SymbolId(0),
        client_order_id: ClientOrderId::new(&format!("p{name}")).expect("a short name"),
        side,
        order_type: OrderType::Limit,
        time_in_force: force,
        price,
        quantity: OrderQuantity::Base(quantity),
        self_trade_prevention: None,
        special: None,
    })
}

/// Orders, each with a name of its own.
struct Orders {
    names: u64,
    commands: Vec<Command>,
}

impl Orders {
    fn rest(&mut self, side: Side, price: Amount, quantity: Amount) {
        self.names += 1;
        self.commands.push(order(MAKER, self.names, side, TimeInForce::Gtc, price, quantity));
    }

    fn take(&mut self, side: Side, price: Amount, quantity: Amount) {
        self.names += 1;
        self.commands.push(order(TAKER, self.names, side, TimeInForce::Ioc, price, quantity));
    }
}

fn opposite(side: Side) -> Side {
    if side == Side::Buy { Side::Sell } else { Side::Buy }
}

async fn submit(app: &App, commands: Vec<Command>) -> oneshot::Receiver<Answer> {
    let sequencer = app.node.read().as_ref().expect("it runs").sequencer();
    let (caller, answer): (Caller, _) = oneshot::channel();
    // Far fewer are under way than the queue holds.
    sequencer.submit_together(commands, Some(caller)).unwrap_or_else(|error| panic!("{error}"));
    answer
}

/// Makes these trades, each at its time, which `clock` is set to.
pub async fn replay(app: &Arc<App>, clock: &AtomicU64, prints: &[Print]) {
    let mut orders = Orders { names: 0, commands: Vec::new() };
    for together in prints.chunk_by(|a, b| a.time == b.time).flat_map(|same| same.chunks(TOGETHER_MAX / 2)) {
        for print in together {
            let side = if print.taker_buys { Side::Buy } else { Side::Sell };
            orders.rest(opposite(side), print.price, print.quantity);
            orders.take(side, print.price, print.quantity);
        }
        clock.store(together[0].time.0, Ordering::SeqCst);
        submit(app, std::mem::take(&mut orders.commands)).await.await.expect("it is answered");
    }
}

/// Generated flow: a price that wanders, quantities without a pattern, one order in three that takes several, now and then
/// hours without a trade.
pub struct Flow {
    random: StdRng,
    orders: Orders,
    price: u64,
    gap_every: u64,
    /// How many trades it made.
    pub made: u64,
}

impl Flow {
    /// From a seed, with a gap of hours after so many entries on the average.
    pub fn new(seed: u64, gap_every: u64) -> Flow {
        let orders = Orders { names: 0, commands: Vec::new() };
        Flow { random: StdRng::seed_from_u64(seed), orders, price: 6_000_000, gap_every, made: 0 }
    }

    /// Makes at least `count` trades more, which are all there when this returns. `clock` goes on by `step` microseconds on the
    /// average from one entry of about a hundred trades to the next.
    pub async fn run(&mut self, app: &Arc<App>, clock: &AtomicU64, count: u64, step: u64) {
        let until = self.made + count;
        let mut under_way = VecDeque::new();
        while self.made < until {
            self.entry(usize::try_from(until - self.made).unwrap_or(usize::MAX).min(100));
            let mut gap = self.random.random_range(0..=2 * step);
            if self.random.random_range(0..self.gap_every) == 0 {
                gap += self.random.random_range(0..20 * 3_600_000_000_u64);
            }
            clock.fetch_add(gap, Ordering::SeqCst);
            under_way.push_back(submit(app, std::mem::take(&mut self.orders.commands)).await);
            if under_way.len() >= UNDER_WAY {
                under_way.pop_front().expect("there is one").await.expect("it is answered");
            }
        }
        for answer in under_way {
            answer.await.expect("it is answered");
        }
    }

    /// The orders of `count` trades.
    fn entry(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            let several = left.min(self.random.random_range(1..20));
            let side = if self.random.random() { Side::Buy } else { Side::Sell };
            self.price = self.price.saturating_add_signed(self.random.random_range(-50..=50)).clamp(1_000, 100_000_000);
            let price = Amount(u128::from(self.price) * 1_000_000);
            let parts: Vec<u64> = (0..several).map(|_| self.random.random_range(1..99_999)).collect();
            let quantity = |lots: u64| Amount(u128::from(lots) * 1_000);
            let sum = quantity(parts.iter().sum());
            if self.random.random_range(0..3) == 0 {
                parts.iter().for_each(|part| self.orders.rest(opposite(side), price, quantity(*part)));
                self.orders.take(side, price, sum);
            } else {
                self.orders.rest(opposite(side), price, sum);
                parts.iter().for_each(|part| self.orders.take(side, price, quantity(*part)));
            }
            left -= several;
            self.made += several as u64;
        }
    }
}
