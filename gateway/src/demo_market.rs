//! The traders of `rialto demo`: for each symbol a market maker that quotes a ladder around a price that wanders, and a
//! taker that buys and sells. They come through the public sockets like any client, with accounts of their own.
//!
//! The same seed wanders the same way; what trades also depends on when the orders arrive. Prices are ticks and
//! quantities lots, in integers throughout.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::debug;

use crate::client::{Address, Answer, ClientError, Credentials, WsApi, now_ms, signed_request};

/// How often the maker looks at its quotes.
const QUOTE_PERIOD: Duration = Duration::from_millis(100);
/// How often it asks which of them are still open.
const REFRESH_PERIOD: Duration = Duration::from_secs(5);
/// The taker trades, then rests for so many milliseconds.
const TAKER_REST_MS: std::ops::Range<u64> = 100..700;
/// How long a trader waits before it connects again.
const RECONNECT_DELAY: Duration = Duration::from_millis(500);
/// Quotes on each side.
const LEVELS: u64 = 20;
/// The most quotes canceled and placed on one side each period: what keeps the rate modest.
const CHANGES_MAX: usize = 4;

/// A symbol and how it is traded: `tick` and `lot` as the demo's bootstrap lists them.
#[derive(Clone, Copy)]
struct Market {
    symbol: &'static str,
    tick_decimals: u32,
    lot_decimals: u32,
    /// Where the price begins, and what it returns to in the long run.
    home: u64,
    /// Ticks between two quotes.
    gap: u64,
    /// The largest quote, in lots.
    lots_max: u64,
}

const MARKETS: [Market; 3] = [
    Market { symbol: "BTCUSDT", tick_decimals: 2, lot_decimals: 5, home: 6_000_000, gap: 250, lots_max: 50_000 },
    Market { symbol: "ETHUSDT", tick_decimals: 2, lot_decimals: 4, home: 300_000, gap: 15, lots_max: 100_000 },
    Market { symbol: "SOLUSDT", tick_decimals: 2, lot_decimals: 3, home: 15_000, gap: 2, lots_max: 300_000 },
];

/// Trade on the demo's symbols until told to stop.
pub async fn trade(address: Address, seed: u64, stop: watch::Receiver<bool>) {
    let mut traders = tokio::task::JoinSet::new();
    for (index, market) in (0..).zip(MARKETS) {
        let middle = Arc::new(AtomicU64::new(market.home));
        let maker = Maker {
            account: Account::new("demo-maker", market),
            random: StdRng::seed_from_u64(seed.wrapping_add(2 * index)),
            middle: middle.clone(),
            bids: BTreeMap::new(),
            asks: BTreeMap::new(),
        };
        let taker = Taker {
            account: Account::new("demo-taker", market),
            random: StdRng::seed_from_u64(seed.wrapping_add(2 * index + 1)),
            middle,
            inventory: 0,
        };
        traders.spawn(keep_trading(maker, address.clone(), stop.clone()));
        traders.spawn(keep_trading(taker, address.clone(), stop.clone()));
    }
    traders.join_all().await;
}

/// Connect and trade; connect again when the socket drops.
async fn keep_trading(mut trader: impl Trader, address: Address, mut stop: watch::Receiver<bool>) {
    let run = async {
        loop {
            let ended = match WsApi::connect(&address).await {
                Ok(socket) => trader.trade(socket).await,
                Err(why) => Err(why),
            };
            if let Err(why) = ended {
                debug!("demo trader: {why}");
            }
            tokio::time::sleep(RECONNECT_DELAY).await;
        }
    };
    tokio::select! {
        () = run => {}
        // The sender gone means the same as being told.
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Trades over one socket until it drops.
trait Trader: Send {
    fn trade(&mut self, socket: WsApi) -> impl Future<Output = Result<(), ClientError>> + Send;
}

/// One key, one symbol: asks and waits for the answer.
struct Account {
    market: Market,
    who: Credentials,
    /// What tells this run's orders from those of the last.
    session: u64,
    asked: u64,
}

impl Account {
    fn new(api_key: &str, market: Market) -> Account {
        let who = Credentials { api_key: api_key.to_owned(), secret: format!("{api_key}-secret") };
        Account { market, who, session: now_ms(), asked: 0 }
    }

    async fn ask(
        &mut self,
        socket: &mut WsApi,
        method: &str,
        parameters: &[(&str, Value)],
    ) -> Result<Answer, ClientError> {
        self.asked += 1;
        let mut parameters = parameters.to_vec();
        parameters.push(("symbol", json!(self.market.symbol)));
        socket.call(self.asked, signed_request(self.asked, method, &parameters, &self.who)).await
    }

    /// A name that no other order has.
    fn name(&self) -> String {
        format!("demo-{}-{}", self.session, self.asked)
    }
}

struct Maker {
    account: Account,
    random: StdRng,
    /// The price it quotes around, which the taker of the same symbol sees too.
    middle: Arc<AtomicU64>,
    /// Its quotes: price and name.
    bids: BTreeMap<u64, String>,
    asks: BTreeMap<u64, String>,
}

impl Trader for Maker {
    async fn trade(&mut self, mut socket: WsApi) -> Result<(), ClientError> {
        let mut period = tokio::time::interval(QUOTE_PERIOD);
        let mut refresh_at = Instant::now();
        loop {
            period.tick().await;
            if Instant::now() >= refresh_at {
                self.refresh(&mut socket).await?;
                refresh_at = Instant::now() + REFRESH_PERIOD;
            }
            self.wander();
            self.requote(&mut socket, "BUY").await?;
            self.requote(&mut socket, "SELL").await?;
        }
    }
}

impl Maker {
    /// Which quotes are open: some traded, and some may be left from an earlier run.
    async fn refresh(&mut self, socket: &mut WsApi) -> Result<(), ClientError> {
        let answer = self.account.ask(socket, "openOrders.status", &[]).await?;
        if !answer.is_success() {
            return Ok(());
        }
        (self.bids, self.asks) = (BTreeMap::new(), BTreeMap::new());
        for order in answer.body.as_array().into_iter().flatten() {
            let price = order["price"].as_str().and_then(|text| ticks(text, self.account.market.tick_decimals));
            let (Some(price), Some(name)) = (price, order["clientOrderId"].as_str()) else { continue };
            let side = if order["side"] == "BUY" { &mut self.bids } else { &mut self.asks };
            side.insert(price, name.to_owned());
        }
        Ok(())
    }

    /// The price takes a small step, in the long run back home.
    fn wander(&mut self) {
        let market = self.account.market;
        let middle = self.middle.load(Ordering::Relaxed);
        let step = (middle / 20_000).max(1);
        let up = self.random.random_range(0..=2 * step);
        // One in fifty steps goes towards home, further the farther it is away.
        let pull = if self.random.random_range(0..50) == 0 { middle.abs_diff(market.home) / 50 } else { 0 };
        let homeward = if middle > market.home { middle - pull } else { middle + pull };
        let wandered = (homeward + up).saturating_sub(step).max(market.gap * (LEVELS + 2));
        self.middle.store(wandered, Ordering::Relaxed);
    }

    /// Cancel what is no longer wanted and place what is missing, a few at a time, the nearest first.
    async fn requote(&mut self, socket: &mut WsApi, side: &str) -> Result<(), ClientError> {
        let wanted = self.wanted(side);
        let quotes = if side == "BUY" { &self.bids } else { &self.asks };
        let stale = quotes.iter().filter(|(price, _)| !wanted.contains(price));
        let mut stale: Vec<(u64, String)> = stale.map(|(price, name)| (*price, name.clone())).collect();
        let missing: Vec<u64> =
            wanted.into_iter().filter(|price| !quotes.contains_key(price)).take(CHANGES_MAX).collect();
        if side == "BUY" {
            stale.reverse();
        }
        for (price, name) in stale.into_iter().take(CHANGES_MAX) {
            // An error means that it traded meanwhile: it is gone either way.
            self.account.ask(socket, "order.cancel", &[("origClientOrderId", json!(name))]).await?;
            self.quotes(side).remove(&price);
        }
        for price in missing {
            self.quote(socket, side, price).await?;
        }
        Ok(())
    }

    async fn quote(&mut self, socket: &mut WsApi, side: &str, price: u64) -> Result<(), ClientError> {
        let market = self.account.market;
        let lots = self.random.random_range(market.lots_max / 50..=market.lots_max);
        let name = self.account.name();
        let parameters = [
            ("side", json!(side)),
            ("type", json!("LIMIT_MAKER")),
            ("price", json!(decimal(price, market.tick_decimals))),
            ("quantity", json!(decimal(lots, market.lot_decimals))),
            ("newClientOrderId", json!(name)),
            ("newOrderRespType", json!("ACK")),
        ];
        let answer = self.account.ask(socket, "order.place", &parameters).await?;
        // Refused where someone else's order is in the way: the taker will come by.
        if answer.is_success() {
            self.quotes(side).insert(price, name);
        }
        Ok(())
    }

    fn quotes(&mut self, side: &str) -> &mut BTreeMap<u64, String> {
        if side == "BUY" { &mut self.bids } else { &mut self.asks }
    }

    /// The prices of a side's ladder, nearest first. They stand on a grid, each a little off, so that most quotes stay
    /// where they are while the middle moves.
    fn wanted(&self, side: &str) -> Vec<u64> {
        let gap = self.account.market.gap;
        let cell = self.middle.load(Ordering::Relaxed) / gap;
        let price = |cell: u64| cell * gap + cell.wrapping_mul(0x9e37_79b9_7f4a_7c15) % gap;
        (1..=LEVELS).map(|away| price(if side == "BUY" { cell - away } else { cell + away })).collect()
    }
}

struct Taker {
    account: Account,
    random: StdRng,
    middle: Arc<AtomicU64>,
    /// Lots bought less lots sold: it leans to the side that brings it back to nothing.
    inventory: i64,
}

impl Trader for Taker {
    async fn trade(&mut self, mut socket: WsApi) -> Result<(), ClientError> {
        loop {
            let rest = Duration::from_millis(self.random.random_range(TAKER_REST_MS));
            tokio::time::sleep(rest).await;
            let order = self.order();
            let is_buy = order[0].1 == "BUY";
            let answer = self.account.ask(&mut socket, "order.place", &order).await?;
            let executed = answer.body["executedQty"].as_str();
            let lots = executed.and_then(|text| ticks(text, self.account.market.lot_decimals)).unwrap_or(0);
            let lots = i64::try_from(lots).unwrap_or(i64::MAX);
            self.inventory = self.inventory.saturating_add(if is_buy { lots } else { -lots });
        }
    }
}

impl Taker {
    fn order(&mut self) -> Vec<(&'static str, Value)> {
        let Market { tick_decimals, lot_decimals, lots_max, gap, .. } = self.account.market;
        let lean = match self.inventory.cmp(&0) {
            std::cmp::Ordering::Greater => 40,
            std::cmp::Ordering::Equal => 50,
            std::cmp::Ordering::Less => 60,
        };
        let is_buy = self.random.random_range(0..100) < lean;
        // Mostly small, now and then one that eats a few levels.
        let most = if self.random.random_range(0..20) == 0 { 2 * lots_max } else { lots_max / 10 };
        let lots = self.random.random_range(lots_max / 100..=most);
        let mut order = vec![
            ("side", json!(if is_buy { "BUY" } else { "SELL" })),
            ("newClientOrderId", json!(self.account.name())),
            ("newOrderRespType", json!("RESULT")),
        ];
        let middle = self.middle.load(Ordering::Relaxed);
        match self.random.random_range(0..10) {
            0..6 => order.extend([("type", json!("MARKET")), ("quantity", json!(decimal(lots, lot_decimals)))]),
            6..8 => {
                let worth = u128::from(middle) * u128::from(lots) / 10u128.pow(lot_decimals);
                let worth = u64::try_from(worth).unwrap_or(u64::MAX);
                order.extend([("type", json!("MARKET")), ("quoteOrderQty", json!(decimal(worth, tick_decimals)))]);
            }
            _ => {
                let price = if is_buy { middle + 3 * gap } else { middle - 3 * gap };
                order.extend([
                    ("type", json!("LIMIT")),
                    ("timeInForce", json!("IOC")),
                    ("price", json!(decimal(price, tick_decimals))),
                    ("quantity", json!(decimal(lots, lot_decimals))),
                ]);
            }
        }
        order
    }
}

/// So many ticks or lots as a decimal text.
fn decimal(units: u64, decimals: u32) -> String {
    let unit = 10u64.pow(decimals);
    format!("{}.{:0width$}", units / unit, units % unit, width = decimals as usize)
}

/// A decimal text in ticks or lots; `None` when it is not a whole number of them.
fn ticks(text: &str, decimals: u32) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let (kept, cut) = part.split_at(part.len().min(decimals as usize));
    cut.bytes().all(|digit| digit == b'0').then_some(())?;
    format!("{whole}{kept:0<width$}", width = decimals as usize).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_and_ticks_are_each_others_inverse() {
        for (units, decimals, text) in [(6_000_001, 2, "60000.01"), (7, 5, "0.00007"), (123_000, 3, "123.000")] {
            assert_eq!(decimal(units, decimals), text);
            assert_eq!(ticks(&format!("{text}000"), decimals), Some(units));
        }
        assert_eq!(ticks("0.001", 2), None);
        assert_eq!(ticks("5", 2), Some(500));
    }
}
