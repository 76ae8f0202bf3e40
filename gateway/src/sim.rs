//! `rialto sim`: the real engine in a pipe. One JSON command per line comes in, one JSON answer per line goes out; no disk,
//! no network and no clock: what stands first is decided first.
//!
//! The engine decides everything. What is asked about orders, books and balances is answered from its events, as any
//! outsider would learn it. A line that is no command gets an answer too; nothing that comes in can stop the program.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io::{BufRead, Read, Write};
use std::process::ExitCode;

use engine::command::{
    AccountSettings, AddAsset, AmendOrder, CancelOrder, CancelReplace, OrderQuantity, OrderReference, PlaceOrder,
    ReplaceOrder, SpecialTerms, Transfer,
};
use engine::commission::{Commission, CommissionRates, FeeRate, FeeRounding, LotFee};
use engine::event::{ExpiryReason, Fill, PreventedMatch, Trade};
use engine::order::{ClientOrderId, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce};
use engine::symbol::{Symbol, SymbolConfig, SymbolStatus};
use engine::units::TradeGroup;
use engine::{
    Amount, AssetId, Command, Engine, Event, Order, OrderId, Price, Quantity, Rejection, SymbolId, Time, Uid,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::decimals::push_amount;
use crate::params::parse_decimal;
use crate::wire::{side_word, status_word, type_word};

/// The longest line, in bytes.
const LINE_MAX: u64 = 1 << 20;
/// Of so many closed orders in a symbol the last state is known; their ids count as used where ids are not reused.
const CLOSED_MAX: usize = 100_000;
/// What everybody gets of each asset where nobody needs funds. A million users fit.
const PLENTY: Amount = Amount(1 << 108);
/// The decimals of an asset, unless prices and quantities need more.
const ASSET_SCALE: u8 = 8;
/// The most decimals an asset can have.
const ASSET_SCALE_MAX: u8 = 18;
/// The steps of prices and quantities where a symbol is configured without: together they make eight decimals.
const DEFAULT_TICK: &str = "0.01";
const DEFAULT_LOT: &str = "0.000001";

/// Drive the engine with JSON commands on standard input, without disk or network.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A venue in a pipe, to try rules on, to test strategies with, or to compare with another engine. Each line on standard \
input is a command, each gets one line on standard output: {\"ok\":true, ...} or {\"ok\":false,\"err\":CODE}. Nothing is \
kept when the input ends. Numbers are decimal strings; \"symbol\" may be left out and is the first one then.

  {\"op\":\"reset\"}
  {\"op\":\"config\",\"symbol\":\"BTCUSDT\",\"base\":\"BTC\",\"quote\":\"USDT\",\"tick\":\"0.01\",\"lot\":\"0.001\",\"accounts\":true}
      also: min_price max_price min_qty max_qty min_notional maker_fee taker_fee fee_rounding (half_up, down, up)
      fee_precision (8) fee_model (received, lot_quote) stp_default (NONE) id_reuse (true) status
      replace_keeps_on_reduce (false). Without accounts nobody needs funds. tick is 0.01 and lot 0.000001 when not
      given; an order is worth at most 2^64 times tick x lot.
  {\"op\":\"status\",\"status\":\"HALT\"}
      TRADING, HALT or CANCEL_ONLY
  {\"op\":\"deposit\",\"user\":\"ann\",\"asset\":\"USDT\",\"amount\":\"1000\"}
      withdraw has the same fields
  {\"op\":\"group\",\"user\":\"ann\",\"group\":1}
      self-trade prevention over the accounts of a group; null leaves it
  {\"op\":\"new\",\"id\":\"a1\",\"user\":\"ann\",\"side\":\"BUY\",\"type\":\"LIMIT\",\"tif\":\"GTC\",\"price\":\"100\",\"qty\":\"2\"}
      types LIMIT LIMIT_MAKER MARKET STOP_LOSS STOP_LOSS_LIMIT TAKE_PROFIT TAKE_PROFIT_LIMIT; also quote_qty stop_price
      stp (NONE EXPIRE_TAKER EXPIRE_MAKER EXPIRE_BOTH DECREMENT TRANSFER)
  {\"op\":\"cancel\",\"id\":\"a1\"}
  {\"op\":\"amend\",\"id\":\"a1\",\"qty\":\"1\"}
      a smaller whole quantity; keeps the place in the queue
  {\"op\":\"reduce\",\"id\":\"a1\",\"by\":\"0.5\"}
      keeps the place in the queue; by all that is open removes the order
  {\"op\":\"replace\",\"id\":\"a1\",\"price\":\"101\",\"qty\":\"1\"}
      a new price and open quantity; loses the place. These four take a \"user\", who is then refused orders of others
  {\"op\":\"cancel_replace\",\"cancel_id\":\"a1\",\"id\":\"a2\",\"user\":\"ann\", ...}
      the rest as in new
  {\"op\":\"cancel_all\",\"user\":\"ann\"}
  {\"op\":\"book\",\"depth\":5}
      bids and asks as [price, quantity, orders], best first
  {\"op\":\"queue\"}
      bids and asks as [id, open quantity] in order of priority
  {\"op\":\"order\",\"id\":\"a1\"}
      an order, open or among the last 100,000 closed of its symbol
  {\"op\":\"balances\",\"user\":\"ann\"}
      {user: {asset: {free, locked}}}; of everybody without \"user\"
  {\"op\":\"totals\"}
      what was paid in, the fees, and whether all of it is still there
  {\"op\":\"snapshot\"}
      the hash of the whole state

An example:
  printf '%s\\n' '{\"op\":\"config\",\"symbol\":\"X\"}' \\
    '{\"op\":\"new\",\"id\":\"1\",\"user\":\"ann\",\"side\":\"SELL\",\"type\":\"LIMIT\",\"price\":\"100\",\"qty\":\"2\"}' \\
    '{\"op\":\"new\",\"id\":\"2\",\"user\":\"bob\",\"side\":\"BUY\",\"type\":\"MARKET\",\"qty\":\"1\"}' '{\"op\":\"book\"}' | rialto sim

Exit status: 0 when the input ends, 1 when it cannot be read or the answers cannot be written.")]
pub struct Arguments {}

/// Answer standard input on standard output until it ends.
pub fn run(Arguments {}: Arguments) -> ExitCode {
    match pipe(std::io::BufReader::new(std::io::stdin().lock()), std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rialto: {error}");
            ExitCode::FAILURE
        }
    }
}

fn pipe<R: Read>(mut input: std::io::BufReader<R>, output: impl Write) -> std::io::Result<()> {
    let mut output = std::io::BufWriter::new(output);
    let mut sim = Sim::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut input).take(LINE_MAX).read_until(b'\n', &mut line)? == 0 {
            return output.flush();
        }
        let whole = line.len() < LINE_MAX as usize || line.ends_with(b"\n");
        let answer = match std::str::from_utf8(&line) {
            Ok(text) if whole => sim.answer(text),
            Ok(_) => refusal(&Refusal::of("LINE_TOO_LONG")),
            Err(_) => refusal(&Refusal::malformed("not UTF-8")),
        };
        if !whole {
            skip_line(&mut input)?;
        }
        writeln!(output, "{answer}")?;
        // Who waits for an answer before the next command gets it; who sends many at once gets many at once.
        if !input.buffer().contains(&b'\n') {
            output.flush()?;
        }
    }
}

fn skip_line(input: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let read = input.fill_buf()?;
        let (used, done) = match read.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (read.len(), read.is_empty()),
        };
        input.consume(used);
        if done {
            return Ok(());
        }
    }
}

/// What can be asked; the fields as the protocol names them.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum Operation {
    Reset {},
    Config(Box<Configuration>),
    Status { symbol: Option<String>, status: String },
    Deposit { user: String, asset: String, amount: Decimal },
    Withdraw { user: String, asset: String, amount: Decimal },
    Group { user: String, group: Option<u32> },
    New(Box<NewOrder>),
    Cancel { symbol: Option<String>, id: String, user: Option<String> },
    CancelAll { symbol: Option<String>, user: String },
    Amend { symbol: Option<String>, id: String, user: Option<String>, qty: Decimal },
    Reduce { symbol: Option<String>, id: String, user: Option<String>, by: Decimal },
    Replace { symbol: Option<String>, id: String, user: Option<String>, price: Option<Decimal>, qty: Option<Decimal> },
    CancelReplace(Box<NewOrder>),
    Book { symbol: Option<String>, depth: Option<usize> },
    Queue { symbol: Option<String> },
    Order { symbol: Option<String>, id: String },
    Balances { user: Option<String> },
    Totals {},
    Snapshot {},
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Configuration {
    symbol: String,
    base: Option<String>,
    quote: Option<String>,
    tick: Option<Decimal>,
    lot: Option<Decimal>,
    min_price: Option<Decimal>,
    max_price: Option<Decimal>,
    min_qty: Option<Decimal>,
    max_qty: Option<Decimal>,
    min_notional: Option<Decimal>,
    maker_fee: Option<Decimal>,
    taker_fee: Option<Decimal>,
    fee_rounding: Option<String>,
    fee_precision: Option<u8>,
    fee_model: Option<String>,
    #[serde(default)]
    accounts: bool,
    stp_default: Option<String>,
    id_reuse: Option<bool>,
    status: Option<String>,
    #[serde(default)]
    replace_keeps_on_reduce: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewOrder {
    symbol: Option<String>,
    /// Of a cancel_replace alone.
    cancel_id: Option<String>,
    id: String,
    user: String,
    side: String,
    #[serde(rename = "type")]
    order_type: String,
    tif: Option<String>,
    price: Option<Decimal>,
    qty: Option<Decimal>,
    quote_qty: Option<Decimal>,
    stop_price: Option<Decimal>,
    stp: Option<String>,
}

/// A number as it was written; a whole one may stand without quotes.
struct Decimal(String);

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Decimal;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a decimal number as a string")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Decimal, E> {
                Ok(Decimal(text.to_owned()))
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Decimal, E> {
                Ok(Decimal(number.to_string()))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl Decimal {
    /// As a count of units of 10^-`scale`.
    fn amount(&self, scale: u8) -> Result<Amount, Refusal> {
        parse_decimal("number", &self.0, scale).map_err(|_| {
            Refusal::with("BAD_NUMBER", format!("{:?} is not a number of at most {scale} decimals", self.0))
        })
    }
}

/// Why there is no answer but `err`.
struct Refusal {
    code: String,
    message: Option<String>,
}

impl Refusal {
    fn of(code: &str) -> Refusal {
        Refusal { code: code.to_owned(), message: None }
    }

    fn with(code: &str, message: String) -> Refusal {
        Refusal { code: code.to_owned(), message: Some(message) }
    }

    fn malformed(what: &str) -> Refusal {
        Refusal::with("MALFORMED", what.to_owned())
    }

    fn word(word: &str) -> Refusal {
        Refusal::malformed(&format!("unknown word {word:?}"))
    }
}

impl From<Rejection> for Refusal {
    /// The engine's own name, in the protocol's letters: `LotSize` is LOT_SIZE.
    fn from(rejection: Rejection) -> Refusal {
        let mut code = String::new();
        for letter in format!("{rejection:?}").chars() {
            if letter.is_ascii_uppercase() && !code.is_empty() {
                code.push('_');
            }
            code.push(letter.to_ascii_uppercase());
        }
        Refusal { code, message: None }
    }
}

fn refusal(refusal: &Refusal) -> String {
    match &refusal.message {
        None => json!({ "ok": false, "err": refusal.code }).to_string(),
        Some(message) => json!({ "ok": false, "err": refusal.code, "msg": message }).to_string(),
    }
}

type Answer = Result<Map<String, Value>, Refusal>;

/// The engine in a pipe, with what its events told.
#[derive(Default)]
pub struct Sim {
    engine: Engine,
    events: Vec<Event>,
    /// Of the engine; also what the next order or transfer is called there.
    commands: u64,
    assets: Vec<Asset>,
    markets: Vec<Market>,
    /// By uid, from 1.
    users: Vec<String>,
    uids: HashMap<String, Uid>,
    balances: BTreeMap<(Uid, AssetId), (Amount, Amount)>,
    /// Who got plenty of what.
    funded: HashSet<(Uid, AssetId)>,
    /// The last place given in any queue.
    places: u64,
}

struct Asset {
    name: String,
    scale: u8,
    /// Paid in less paid out.
    supply: u128,
}

struct Market {
    symbol: Symbol,
    accounts: bool,
    id_reuse: bool,
    replace_keeps_on_reduce: bool,
    orders: HashMap<OrderId, Known>,
    /// The last order of each id.
    ids: HashMap<String, OrderId>,
    /// Oldest first.
    closed: VecDeque<OrderId>,
    /// Bids, asks.
    levels: [BTreeMap<Price, Quantity>; 2],
    update_id: u64,
}

/// An order as the events told it.
struct Known {
    id: String,
    order: Order,
    /// Whoever has the lower one of two at a price came first.
    place: u64,
}

impl Known {
    fn rests(&self) -> bool {
        let order = &self.order;
        order.status.is_open() && order.working_at().is_some() && order.price > Price(0)
    }

    fn open(&self) -> Quantity {
        let order = &self.order;
        let gone = order.executed.0 + order.prevented().0;
        Quantity(if order.status.is_open() { order.quantity.0.saturating_sub(gone) } else { 0 })
    }
}

/// What one command did.
#[derive(Default)]
struct Outcome {
    trades: Vec<Value>,
    prevented_matches: Vec<Value>,
    expired: Vec<Value>,
    triggered: Vec<String>,
    canceled: Vec<String>,
    /// The first order it accepted.
    accepted: Option<OrderId>,
    /// Why the second half of a cancel_replace was refused.
    refused: Option<Rejection>,
}

impl Sim {
    /// An engine with nothing in it.
    pub fn new() -> Sim {
        Sim::default()
    }

    /// The answer to one line.
    pub fn answer(&mut self, line: &str) -> String {
        self.forget();
        let operation = serde_json::from_str(line).map_err(|error| Refusal::malformed(&error.to_string()));
        match operation.and_then(|operation| self.carry_out(operation)) {
            Ok(mut answer) => {
                answer.insert("ok".to_owned(), Value::Bool(true));
                Value::Object(answer).to_string()
            }
            Err(why) => refusal(&why),
        }
    }

    fn carry_out(&mut self, operation: Operation) -> Answer {
        match operation {
            Operation::Reset {} => {
                *self = Sim::new();
                Ok(Map::new())
            }
            Operation::Config(config) => self.configure(&config),
            Operation::Status { symbol, status } => {
                let symbol = self.market(symbol.as_deref())?;
                self.set_status(symbol, &status)
            }
            Operation::Deposit { user, asset, amount } => self.transfer(&user, &asset, &amount, Command::Deposit),
            Operation::Withdraw { user, asset, amount } => self.transfer(&user, &asset, &amount, Command::Withdraw),
            Operation::Group { user, group } => {
                let settings = AccountSettings { trade_group: group.map(TradeGroup), ..AccountSettings::default() };
                let uid = self.uid(&user)?;
                self.apply(Command::ConfigureAccount { uid, settings }, "")?;
                Ok(Map::new())
            }
            Operation::New(new) => self.place(&new),
            Operation::CancelReplace(new) => self.cancel_replace(&new),
            Operation::Cancel { symbol, id, user } => {
                let (symbol, uid, order) = self.meant(symbol.as_deref(), &id, user.as_deref())?;
                let cancel = self.cancel(symbol, uid, order);
                self.change(symbol, order, Command::CancelOrder(cancel))
            }
            Operation::CancelAll { symbol, user } => {
                let symbol = self.market(symbol.as_deref())?;
                let uid = *self.uids.get(&user).ok_or(Rejection::UnknownAccount)?;
                let outcome = self.apply(Command::CancelAllOrders { uid, symbol }, "")?;
                Ok(object(json!({ "canceled": outcome.canceled })))
            }
            Operation::Amend { symbol, id, user, qty } => {
                let (symbol, uid, order) = self.meant(symbol.as_deref(), &id, user.as_deref())?;
                let new_quantity = qty.amount(self.base_scale(symbol))?;
                let new_client_order_id = self.known(symbol, order).order.client_order_id;
                let order_reference = reference(order);
                let amend = AmendOrder { uid, symbol, order: order_reference, new_quantity, new_client_order_id };
                self.change(symbol, order, Command::AmendOrder(amend))
            }
            Operation::Reduce { symbol, id, user, by } => {
                let (symbol, uid, order) = self.meant(symbol.as_deref(), &id, user.as_deref())?;
                let by = by.amount(self.base_scale(symbol))?;
                self.change(symbol, order, Command::ReduceOrder { uid, symbol, order: reference(order), by })
            }
            Operation::Replace { symbol, id, user, price, qty } => {
                let (symbol, uid, order) = self.meant(symbol.as_deref(), &id, user.as_deref())?;
                let price = price.map(|price| price.amount(self.quote_scale(symbol))).transpose()?;
                let quantity = qty.map(|qty| qty.amount(self.base_scale(symbol))).transpose()?;
                let command = self.replace(symbol, uid, order, price, quantity);
                self.change(symbol, order, command)
            }
            Operation::Book { symbol, depth } => {
                let symbol = self.market(symbol.as_deref())?;
                Ok(self.book(symbol, depth.unwrap_or(usize::MAX)))
            }
            Operation::Queue { symbol } => {
                let symbol = self.market(symbol.as_deref())?;
                Ok(self.queue(symbol))
            }
            Operation::Order { symbol, id } => {
                let symbol = self.market(symbol.as_deref())?;
                let order = *self.markets[symbol.0 as usize].ids.get(&id).ok_or(Rejection::UnknownOrder)?;
                Ok(object(json!({ "order": self.order(symbol, order) })))
            }
            Operation::Balances { user } => self.balances(user.as_deref()),
            Operation::Totals {} => Ok(self.totals()),
            Operation::Snapshot {} => Ok(object(json!({ "hash": self.engine.state_hash().to_string() }))),
        }
    }

    // What is told to the engine.

    fn configure(&mut self, config: &Configuration) -> Answer {
        let text = |given: &Option<Decimal>, default: &str| {
            Decimal(given.as_ref().map_or_else(|| default.to_owned(), |decimal| decimal.0.clone()))
        };
        let (tick, lot) = (text(&config.tick, DEFAULT_TICK), text(&config.lot, DEFAULT_LOT));
        let [tick_decimals, lot_decimals, both] = decimals(tick.amount(ASSET_SCALE_MAX)?, lot.amount(ASSET_SCALE_MAX)?);
        let least = config.fee_precision.unwrap_or(ASSET_SCALE);
        if config.fee_precision.is_some_and(|precision| precision < both.max(tick_decimals)) {
            let message = format!("tick x lot has {both} decimals: fee_precision cannot be less");
            return Err(Refusal::with("INVALID_CONFIGURATION", message));
        }
        // All that can be refused here is refused before an asset is listed.
        let rounding = match config.fee_rounding.as_deref() {
            None | Some("half_up") => FeeRounding::HalfUp,
            Some("down") => FeeRounding::Down,
            Some("up") => FeeRounding::Up,
            Some(word) => return Err(Refusal::word(word)),
        };
        let by_lot = match config.fee_model.as_deref() {
            None | Some("received") => false,
            Some("lot_quote") => true,
            Some(word) => return Err(Refusal::word(word)),
        };
        let prevention = config.stp_default.as_deref().map(parse_prevention).transpose()?.unwrap_or_default();
        let base_scale = self.scale_of(config.base.as_deref().unwrap_or("BASE"), lot_decimals.max(least))?;
        let quote_scale =
            self.scale_of(config.quote.as_deref().unwrap_or("QUOTE"), both.max(tick_decimals).max(least))?;
        let status = config.status.as_deref().map(parse_status).transpose()?;
        let amount = |decimal: &Option<Decimal>, scale| {
            decimal.as_ref().map_or(Ok(Amount::ZERO), |decimal| decimal.amount(scale))
        };
        let tick = tick.amount(quote_scale)?;
        let lot = lot.amount(base_scale)?;
        let mut symbol = SymbolConfig::plain(&config.symbol, AssetId(0), AssetId(0), tick, lot);
        symbol.min_price = amount(&config.min_price, quote_scale)?;
        symbol.max_price = amount(&config.max_price, quote_scale)?;
        symbol.min_quantity = amount(&config.min_qty, base_scale)?;
        symbol.max_quantity = amount(&config.max_qty, base_scale)?;
        symbol.min_notional = amount(&config.min_notional, quote_scale)?;
        symbol.default_self_trade_prevention = prevention;
        symbol.commission = if by_lot {
            let maker = amount(&config.maker_fee, quote_scale)?;
            let taker = amount(&config.taker_fee, quote_scale)?;
            Commission { by_lot: Some(LotFee { maker, taker }), ..Commission::default() }
        } else {
            let maker = rate(&config.maker_fee)?;
            let taker = rate(&config.taker_fee)?;
            let standard = CommissionRates { maker, taker, ..CommissionRates::default() };
            Commission { standard, rounding, ..Commission::default() }
        };

        symbol.base = self.asset(config.base.as_deref().unwrap_or("BASE"), base_scale)?;
        symbol.quote = self.asset(config.quote.as_deref().unwrap_or("QUOTE"), quote_scale)?;
        let listed = self.markets.iter().position(|market| market.symbol.config.name == config.symbol);
        match listed {
            Some(index) => {
                let symbol = Box::new(symbol);
                self.apply(Command::ConfigureSymbol { symbol: SymbolId(index as u32), config: symbol }, "")?
            }
            None => self.apply(Command::AddSymbol(Box::new(symbol)), "")?,
        };
        let index = listed.unwrap_or(self.markets.len() - 1);
        let market = &mut self.markets[index];
        market.accounts = config.accounts;
        market.id_reuse = config.id_reuse.unwrap_or(true);
        market.replace_keeps_on_reduce = config.replace_keeps_on_reduce;
        if let Some(status) = status {
            self.apply(Command::SetSymbolStatus { symbol: SymbolId(index as u32), status }, "")?;
        }
        Ok(Map::new())
    }

    /// The decimals of an asset: those it was listed with, if they are enough.
    fn scale_of(&self, name: &str, needed: u8) -> Result<u8, Refusal> {
        let scale = self.assets.iter().find(|asset| asset.name == name).map_or(needed, |asset| asset.scale);
        if scale < needed || scale > ASSET_SCALE_MAX {
            let message = format!("{name} would need {needed} decimals");
            return Err(Refusal::with("INVALID_CONFIGURATION", message));
        }
        Ok(scale)
    }

    fn asset(&mut self, name: &str, scale: u8) -> Result<AssetId, Refusal> {
        if let Some(index) = self.assets.iter().position(|asset| asset.name == name) {
            return Ok(AssetId(index as u32));
        }
        self.apply(Command::AddAsset(AddAsset { name: name.to_owned(), scale }), "")?;
        Ok(AssetId(self.assets.len() as u32 - 1))
    }

    fn set_status(&mut self, symbol: SymbolId, status: &str) -> Answer {
        let status = parse_status(status)?;
        self.apply(Command::SetSymbolStatus { symbol, status }, "")?;
        Ok(Map::new())
    }

    fn transfer(&mut self, user: &str, asset: &str, amount: &Decimal, command: fn(Transfer) -> Command) -> Answer {
        let index = self.assets.iter().position(|known| known.name == asset).ok_or(Rejection::UnknownAsset)?;
        let amount = amount.amount(self.assets[index].scale)?;
        let uid = self.uid(user)?;
        let external_id = format!("t{}", self.commands);
        self.apply(command(Transfer { uid, asset: AssetId(index as u32), amount, external_id }), "")?;
        Ok(Map::new())
    }

    fn place(&mut self, new: &NewOrder) -> Answer {
        if new.cancel_id.is_some() {
            return Err(Refusal::malformed("cancel_id is for cancel_replace"));
        }
        let symbol = self.market(new.symbol.as_deref())?;
        let mut place = self.terms(symbol, new)?;
        self.check_id(symbol, &new.id, None)?;
        place.uid = self.trader(symbol, &new.user)?;
        let outcome = self.apply(Command::PlaceOrder(place), &new.id)?;
        let order = outcome.accepted.expect("a placed order was accepted");
        Ok(self.report(symbol, order, outcome))
    }

    fn cancel_replace(&mut self, new: &NewOrder) -> Answer {
        let cancel_id = new.cancel_id.as_deref().ok_or_else(|| Refusal::malformed("cancel_id is missing"))?;
        let (symbol, uid, order) = self.meant(new.symbol.as_deref(), cancel_id, Some(&new.user))?;
        let mut place = self.terms(symbol, new)?;
        self.check_id(symbol, &new.id, Some(order))?;
        place.uid = uid;
        let cancel = self.cancel(symbol, uid, order);
        let both = CancelReplace { cancel, place, allow_failure: false, cancel_when_limited: false };
        let outcome = self.apply(Command::CancelReplace(Box::new(both)), &new.id)?;
        match (outcome.accepted, outcome.refused) {
            (Some(order), _) => Ok(self.report(symbol, order, outcome)),
            (None, why) => Err(why.unwrap_or(Rejection::UnknownOrder).into()),
        }
    }

    /// A new order as the engine wants it; the owner stands in later.
    fn terms(&self, symbol: SymbolId, new: &NewOrder) -> Result<PlaceOrder, Refusal> {
        let (base, quote) = (self.base_scale(symbol), self.quote_scale(symbol));
        let quantity = match (&new.qty, &new.quote_qty) {
            (Some(qty), None) => OrderQuantity::Base(qty.amount(base)?),
            (None, Some(quote_qty)) => OrderQuantity::Quote(quote_qty.amount(quote)?),
            _ => return Err(Refusal::malformed("one of qty and quote_qty is needed")),
        };
        let time_in_force = match new.tif.as_deref() {
            None | Some("GTC") => TimeInForce::Gtc,
            Some("IOC") => TimeInForce::Ioc,
            Some("FOK") => TimeInForce::Fok,
            Some(word) => return Err(Refusal::word(word)),
        };
        let stop_price = new.stop_price.as_ref().map(|price| price.amount(quote)).transpose()?;
        let special = stop_price.map(|_| Box::new(SpecialTerms { stop_price, ..SpecialTerms::default() }));
        Ok(PlaceOrder {
            uid: Uid(0),
            symbol,
            client_order_id: self.next_name(),
            side: parse_side(&new.side)?,
            order_type: parse_type(&new.order_type)?,
            time_in_force,
            price: new.price.as_ref().map_or(Ok(Amount::ZERO), |price| price.amount(quote))?,
            quantity,
            self_trade_prevention: new.stp.as_deref().map(parse_prevention).transpose()?,
            special,
        })
    }

    /// An id is unique among the open orders, whoever has them, and where ids are not reused among the closed ones too.
    fn check_id(&self, symbol: SymbolId, id: &str, but: Option<OrderId>) -> Result<(), Rejection> {
        let market = &self.markets[symbol.0 as usize];
        let Some(&order) = market.ids.get(id) else { return Ok(()) };
        let taken = market.orders[&order].order.status.is_open() && Some(order) != but;
        if taken || !market.id_reuse { Err(Rejection::DuplicateOrder) } else { Ok(()) }
    }

    fn cancel(&self, symbol: SymbolId, uid: Uid, order: OrderId) -> CancelOrder {
        let order = reference(order);
        CancelOrder { uid, symbol, order, cancel_client_order_id: self.next_name(), restriction: None }
    }

    fn replace(
        &self,
        symbol: SymbolId,
        uid: Uid,
        order: OrderId,
        price: Option<Amount>,
        quantity: Option<Amount>,
    ) -> Command {
        let market = &self.markets[symbol.0 as usize];
        let known = &market.orders[&order];
        let scale = market.symbol.scale;
        let same_price = price.is_none_or(|price| price == scale.price_amount(known.order.price));
        let less = quantity.and_then(|quantity| scale.base_amount(known.open()).checked_sub(quantity));
        match less {
            Some(by) if market.replace_keeps_on_reduce && same_price && !by.is_zero() && known.rests() => {
                Command::ReduceOrder { uid, symbol, order: reference(order), by }
            }
            _ => Command::ReplaceOrder(ReplaceOrder { uid, symbol, order: reference(order), price, quantity }),
        }
    }

    /// The order that an id means, and who asks for it: its owner where nobody is named.
    fn meant(&self, symbol: Option<&str>, id: &str, user: Option<&str>) -> Result<(SymbolId, Uid, OrderId), Refusal> {
        let symbol = self.market(symbol)?;
        let order = *self.markets[symbol.0 as usize].ids.get(id).ok_or(Rejection::UnknownOrder)?;
        let uid = match user {
            None => self.known(symbol, order).order.uid,
            Some(user) => *self.uids.get(user).ok_or(Rejection::UnknownOrder)?,
        };
        Ok((symbol, uid, order))
    }

    fn change(&mut self, symbol: SymbolId, order: OrderId, command: Command) -> Answer {
        let outcome = self.apply(command, "")?;
        Ok(self.report(symbol, order, outcome))
    }

    fn report(&self, symbol: SymbolId, order: OrderId, outcome: Outcome) -> Map<String, Value> {
        object(json!({
            "trades": outcome.trades,
            "prevented_matches": outcome.prevented_matches,
            "expired": outcome.expired,
            "triggered": outcome.triggered,
            "order": self.order(symbol, order),
        }))
    }

    fn market(&self, name: Option<&str>) -> Result<SymbolId, Rejection> {
        let named = |market: &Market| name.is_none_or(|name| market.symbol.config.name == name);
        let index = self.markets.iter().position(named).ok_or(Rejection::UnknownSymbol)?;
        Ok(SymbolId(index as u32))
    }

    /// The account of a user, opened at first sight.
    fn uid(&mut self, user: &str) -> Result<Uid, Refusal> {
        if let Some(uid) = self.uids.get(user) {
            return Ok(*uid);
        }
        let uid = Uid(self.users.len() as u64 + 1);
        self.apply(Command::OpenAccount { uid }, "")?;
        self.users.push(user.to_owned());
        self.uids.insert(user.to_owned(), uid);
        Ok(uid)
    }

    /// The account of a user, with plenty on it where nobody needs funds.
    fn trader(&mut self, symbol: SymbolId, user: &str) -> Result<Uid, Refusal> {
        let uid = self.uid(user)?;
        let market = &self.markets[symbol.0 as usize];
        if !market.accounts {
            for asset in [market.symbol.config.base, market.symbol.config.quote] {
                if !self.funded.contains(&(uid, asset)) {
                    let external_id = format!("t{}", self.commands);
                    self.apply(Command::Deposit(Transfer { uid, asset, amount: PLENTY, external_id }), "")?;
                    self.funded.insert((uid, asset));
                }
            }
        }
        Ok(uid)
    }

    fn next_name(&self) -> ClientOrderId {
        ClientOrderId::new(&format!("i{}", self.commands)).expect("a letter and digits are legal")
    }

    fn base_scale(&self, symbol: SymbolId) -> u8 {
        self.assets[self.markets[symbol.0 as usize].symbol.config.base.0 as usize].scale
    }

    fn quote_scale(&self, symbol: SymbolId) -> u8 {
        self.assets[self.markets[symbol.0 as usize].symbol.config.quote.0 as usize].scale
    }

    fn known(&self, symbol: SymbolId, order: OrderId) -> &Known {
        &self.markets[symbol.0 as usize].orders[&order]
    }

    // What the engine tells.

    /// Has the engine decide and learns from its events; `id` is what the command's order is called, if it has one.
    fn apply(&mut self, command: Command, id: &str) -> Result<Outcome, Refusal> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        self.commands += 1;
        self.engine.apply(Time(self.commands), &command, &mut events);
        let mut outcome = Outcome::default();
        let refused = match &events[..] {
            [Event::Rejected(rejection)] => Some(*rejection),
            _ => {
                for event in &events {
                    self.learn(event, id, &mut outcome);
                }
                None
            }
        };
        self.events = events;
        refused.map_or(Ok(outcome), |rejection| Err(rejection.into()))
    }

    fn learn(&mut self, event: &Event, id: &str, outcome: &mut Outcome) {
        match event {
            Event::AssetAdded { added, .. } => {
                self.assets.push(Asset { name: added.name.clone(), scale: added.scale, supply: 0 });
            }
            Event::SymbolAdded(symbol) => self.markets.push(Market {
                symbol: (**symbol).clone(),
                accounts: false,
                id_reuse: true,
                replace_keeps_on_reduce: false,
                orders: HashMap::new(),
                ids: HashMap::new(),
                closed: VecDeque::new(),
                levels: [BTreeMap::new(), BTreeMap::new()],
                update_id: 0,
            }),
            Event::SymbolConfigured(symbol) => self.markets[symbol.id.0 as usize].symbol = (**symbol).clone(),
            Event::Deposited(transfer) => self.assets[transfer.asset.0 as usize].supply += transfer.amount.0,
            Event::Withdrawn(transfer) => self.assets[transfer.asset.0 as usize].supply -= transfer.amount.0,
            Event::OrderAccepted(order) => {
                outcome.accepted.get_or_insert(order.order_id);
                self.places += 1;
                let market = &mut self.markets[order.symbol.0 as usize];
                market.ids.insert(id.to_owned(), order.order_id);
                let known = Known { id: id.to_owned(), order: order.clone(), place: self.places };
                market.orders.insert(order.order_id, known);
            }
            Event::OrderTriggered(order) => {
                self.places += 1;
                let place = self.places;
                let known = self.known_mut(order.symbol, order.order_id);
                known.order = order.clone();
                known.place = place;
                outcome.triggered.push(known.id.clone());
            }
            Event::OrderReplaced { symbol, order_id, price, quantity, .. } => {
                self.places += 1;
                let place = self.places;
                let known = self.known_mut(*symbol, *order_id);
                known.order.price = *price;
                known.order.quantity = *quantity;
                known.place = place;
            }
            Event::OrderAmended { order, .. } => self.known_mut(order.symbol, order.order_id).order = order.clone(),
            Event::Trade(trade) => {
                outcome.trades.push(self.trade(trade));
                self.fill(trade.symbol, &trade.maker);
                self.fill(trade.symbol, &trade.taker);
            }
            Event::TradePrevented(prevented) => {
                outcome.prevented_matches.push(self.prevented_match(prevented));
                for (order, quantity) in [
                    (prevented.taker_order_id, prevented.taker_prevented),
                    (prevented.maker_order_id, prevented.maker_prevented),
                ] {
                    self.known_mut(prevented.symbol, order).order.special_mut().prevented.0 += quantity.0;
                }
            }
            Event::OrderCanceled { order, .. } => {
                outcome.canceled.push(self.known(order.symbol, order.order_id).id.clone());
                self.end(order);
            }
            Event::OrderExpired { order, reason } => {
                let known = self.known(order.symbol, order.order_id);
                let took = outcome.accepted == Some(order.order_id) || outcome.triggered.contains(&known.id);
                if *reason == ExpiryReason::SelfTradePrevention && !took {
                    outcome.expired.push(json!({ "id": known.id }));
                }
                self.end(order);
            }
            Event::CancelReplaceDecided { cancel, place } => {
                outcome.refused = cancel.or(place.and_then(Result::err));
            }
            Event::LevelChanged { symbol, side, price, quantity, update_id } => {
                let market = &mut self.markets[symbol.0 as usize];
                market.update_id = *update_id;
                let levels = &mut market.levels[(*side == Side::Sell) as usize];
                if quantity.is_zero() {
                    levels.remove(price)
                } else {
                    levels.insert(*price, *quantity)
                };
            }
            Event::BalanceChanged { uid, asset, free, locked } => {
                self.balances.insert((*uid, *asset), (*free, *locked));
            }
            _ => {}
        }
    }

    fn known_mut(&mut self, symbol: SymbolId, order: OrderId) -> &mut Known {
        self.markets[symbol.0 as usize].orders.get_mut(&order).expect("events name orders that were accepted")
    }

    fn fill(&mut self, symbol: SymbolId, fill: &Fill) {
        let order = &mut self.known_mut(symbol, fill.order_id).order;
        order.executed = fill.executed;
        order.cumulative_quote = fill.cumulative_quote;
        order.status = fill.status;
        if order.status == OrderStatus::Filled {
            // A market order by quote amount asked for no quantity.
            order.quantity = Quantity(order.executed.0 + order.prevented().0);
            self.close(symbol, fill.order_id);
        }
    }

    fn end(&mut self, order: &Order) {
        self.known_mut(order.symbol, order.order_id).order = order.clone();
        self.close(order.symbol, order.order_id);
    }

    fn close(&mut self, symbol: SymbolId, order: OrderId) {
        self.markets[symbol.0 as usize].closed.push_back(order);
    }

    /// Drops the oldest of too many closed orders; between two commands, so that what one names is there to its end.
    fn forget(&mut self) {
        for market in &mut self.markets {
            while market.closed.len() > CLOSED_MAX {
                let oldest = market.closed.pop_front().expect("there are many");
                let Some(known) = market.orders.remove(&oldest) else { continue };
                if market.ids.get(&known.id) == Some(&oldest) {
                    market.ids.remove(&known.id);
                }
            }
        }
    }

    // What is answered.

    fn trade(&self, trade: &Trade) -> Value {
        let name = |order| self.known(trade.symbol, order).id.as_str();
        let asset = |asset: AssetId| &self.assets[asset.0 as usize];
        let fee = |fill: &Fill| text(fill.fee, asset(fill.fee_asset).scale);
        json!({
            "id": trade.trade_id.0,
            "taker": name(trade.taker.order_id),
            "maker": name(trade.maker.order_id),
            "price": self.price(trade.symbol, trade.price),
            "qty": self.quantity(trade.symbol, trade.quantity),
            "taker_side": side_word(trade.taker_side),
            "taker_fee": fee(&trade.taker),
            "taker_fee_asset": asset(trade.taker.fee_asset).name,
            "maker_fee": fee(&trade.maker),
            "maker_fee_asset": asset(trade.maker.fee_asset).name,
        })
    }

    fn prevented_match(&self, prevented: &PreventedMatch) -> Value {
        json!({
            "maker": self.known(prevented.symbol, prevented.maker_order_id).id,
            "price": self.price(prevented.symbol, prevented.price),
            "taker_qty": self.quantity(prevented.symbol, prevented.taker_prevented),
            "maker_qty": self.quantity(prevented.symbol, prevented.maker_prevented),
        })
    }

    fn order(&self, symbol: SymbolId, order: OrderId) -> Value {
        let known = self.known(symbol, order);
        let order = &known.order;
        json!({
            "id": known.id,
            "user": self.users[order.uid.0 as usize - 1],
            "side": side_word(order.side),
            "type": type_word(order.order_type),
            "status": status_word(order.status),
            "orig": self.quantity(symbol, order.quantity),
            "executed": self.quantity(symbol, order.executed),
            "cum_quote": text(order.cumulative_quote, self.quote_scale(symbol)),
            "prevented": self.quantity(symbol, order.prevented()),
            "open": self.quantity(symbol, known.open()),
            "price": self.price(symbol, order.price),
        })
    }

    fn book(&self, symbol: SymbolId, depth: usize) -> Map<String, Value> {
        let market = &self.markets[symbol.0 as usize];
        let mut counts = HashMap::<(Side, Price), u64>::new();
        for known in market.orders.values().filter(|known| known.rests()) {
            *counts.entry((known.order.side, known.order.price)).or_default() += 1;
        }
        let level = |side: Side, (price, quantity): (&Price, &Quantity)| {
            let orders = counts.get(&(side, *price)).copied().unwrap_or(0);
            json!([self.price(symbol, *price), self.quantity(symbol, *quantity), orders])
        };
        let [bids, asks] = &market.levels;
        let bids: Vec<Value> = bids.iter().rev().take(depth).map(|entry| level(Side::Buy, entry)).collect();
        let asks: Vec<Value> = asks.iter().take(depth).map(|entry| level(Side::Sell, entry)).collect();
        object(json!({ "bids": bids, "asks": asks, "update_id": market.update_id }))
    }

    fn queue(&self, symbol: SymbolId) -> Map<String, Value> {
        let side = |side: Side| {
            let orders = self.markets[symbol.0 as usize].orders.values();
            let mut resting: Vec<&Known> = orders.filter(|known| known.rests() && known.order.side == side).collect();
            resting.sort_by_key(|known| {
                let price = known.order.price.0;
                (if side == Side::Buy { u64::MAX - price } else { price }, known.place)
            });
            let open = |known: &Known| json!([known.id, self.quantity(symbol, known.open())]);
            resting.into_iter().map(open).collect::<Vec<Value>>()
        };
        object(json!({ "bids": side(Side::Buy), "asks": side(Side::Sell) }))
    }

    fn balances(&self, user: Option<&str>) -> Answer {
        let mut users = Map::new();
        for (name, uid) in self.users.iter().zip(1..) {
            if user.is_some_and(|user| user != name) {
                continue;
            }
            let mut assets = Map::new();
            for ((_, asset), (free, locked)) in
                self.balances.range((Uid(uid), AssetId(0))..=(Uid(uid), AssetId(u32::MAX)))
            {
                let Asset { name, scale, .. } = &self.assets[asset.0 as usize];
                assets.insert(name.clone(), json!({ "free": text(*free, *scale), "locked": text(*locked, *scale) }));
            }
            users.insert(name.clone(), Value::Object(assets));
        }
        Ok(object(json!({ "balances": users })))
    }

    fn totals(&self) -> Map<String, Value> {
        self.engine.validate();
        let (mut totals, mut fees) = (Map::new(), Map::new());
        let mut conserved = true;
        for (index, asset) in (0..).zip(&self.assets) {
            let held = self.balances.iter().filter(|((_, of), _)| of.0 == index);
            let sum: u128 = held.map(|(_, (free, locked))| free.0 + locked.0).sum();
            conserved &= sum == asset.supply;
            totals.insert(asset.name.clone(), text(Amount(asset.supply), asset.scale).into());
            // The exchange's own account is the first.
            let (fee, _) = self.balances.get(&(Uid(0), AssetId(index))).copied().unwrap_or_default();
            fees.insert(asset.name.clone(), text(fee, asset.scale).into());
        }
        object(json!({ "totals": totals, "fees": fees, "conserved": conserved }))
    }

    fn price(&self, symbol: SymbolId, price: Price) -> String {
        text(self.markets[symbol.0 as usize].symbol.scale.price_amount(price), self.quote_scale(symbol))
    }

    fn quantity(&self, symbol: SymbolId, quantity: Quantity) -> String {
        text(self.markets[symbol.0 as usize].symbol.scale.base_amount(quantity), self.base_scale(symbol))
    }
}

fn reference(order: OrderId) -> OrderReference {
    OrderReference { order_id: Some(order), client_order_id: None }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => unreachable!("not an object: {other}"),
    }
}

/// A decimal without needless zeros.
fn text(amount: Amount, scale: u8) -> String {
    let mut text = String::new();
    push_amount(&mut text, amount, scale);
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    text
}

/// How many decimals two numbers and their product have, the numbers being counts of 10^-[`ASSET_SCALE_MAX`].
fn decimals(tick: Amount, lot: Amount) -> [u8; 3] {
    let shortest = |amount: Amount| {
        let (mut digits, mut decimals) = (amount.0, ASSET_SCALE_MAX);
        while decimals > 0 && digits.is_multiple_of(10) {
            digits /= 10;
            decimals -= 1;
        }
        (digits, decimals)
    };
    let ((tick, tick_decimals), (lot, lot_decimals)) = (shortest(tick), shortest(lot));
    let mut both = tick_decimals + lot_decimals;
    let mut product = tick.checked_mul(lot).unwrap_or(1);
    while both > 0 && product > 0 && product.is_multiple_of(10) {
        product /= 10;
        both -= 1;
    }
    [tick_decimals, lot_decimals, both]
}

fn rate(decimal: &Option<Decimal>) -> Result<FeeRate, Refusal> {
    let billionths = decimal.as_ref().map_or(Ok(Amount::ZERO), |decimal| decimal.amount(9))?;
    let rate = u32::try_from(billionths.0).ok().and_then(FeeRate::from_billionths);
    rate.ok_or_else(|| Rejection::InvalidConfiguration.into())
}

fn parse_side(word: &str) -> Result<Side, Refusal> {
    let known = [Side::Buy, Side::Sell];
    known.into_iter().find(|side| side_word(*side) == word).ok_or_else(|| Refusal::word(word))
}

fn parse_type(word: &str) -> Result<OrderType, Refusal> {
    let known = [
        OrderType::Limit,
        OrderType::LimitMaker,
        OrderType::Market,
        OrderType::StopLoss,
        OrderType::StopLossLimit,
        OrderType::TakeProfit,
        OrderType::TakeProfitLimit,
    ];
    known.into_iter().find(|kind| type_word(*kind) == word).ok_or_else(|| Refusal::word(word))
}

fn parse_prevention(word: &str) -> Result<SelfTradePrevention, Refusal> {
    Ok(match word {
        "NONE" => SelfTradePrevention::None,
        "EXPIRE_TAKER" => SelfTradePrevention::ExpireTaker,
        "EXPIRE_MAKER" => SelfTradePrevention::ExpireMaker,
        "EXPIRE_BOTH" => SelfTradePrevention::ExpireBoth,
        "DECREMENT" => SelfTradePrevention::Decrement,
        "TRANSFER" => SelfTradePrevention::Transfer,
        _ => return Err(Refusal::word(word)),
    })
}

fn parse_status(word: &str) -> Result<SymbolStatus, Refusal> {
    Ok(match word {
        "TRADING" => SymbolStatus::Trading,
        "HALT" => SymbolStatus::Halt,
        "CANCEL_ONLY" => SymbolStatus::CancelOnly,
        _ => return Err(Refusal::word(word)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(lines: &str) -> Vec<Value> {
        let mut output = Vec::new();
        pipe(std::io::BufReader::new(lines.as_bytes()), &mut output).expect("memory can be written");
        String::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn every_line_gets_one_answer_whatever_it_is() {
        let long = format!("{{\"op\":\"{}\"}}", "x".repeat(2 * LINE_MAX as usize));
        let lines = [
            "",
            "[]",
            "{",
            "nonsense",
            r#"{"op":"fly"}"#,
            r#"{"op":"reset","and":"more"}"#,
            r#"{"op":"book"}"#,
            r#"{"op":"config","symbol":"X","tick":"0.000000001","lot":"0.0000000001"}"#,
            r#"{"op":"config","symbol":"X","status":"ODD"}"#,
            long.as_str(),
            r#"{"op":"config","symbol":"X"}"#,
            r#"{"op":"book"}"#,
        ];
        let answers = answers(&lines.join("\n"));
        assert_eq!(answers.len(), lines.len());
        let ok: Vec<bool> = answers.iter().map(|answer| answer["ok"].as_bool().unwrap()).collect();
        assert_eq!(ok, [vec![false; 10], vec![true; 2]].concat(), "{answers:?}");
    }

    #[test]
    fn the_decimals_of_a_product_are_counted_exactly() {
        let decimals = |tick: &str, lot: &str| {
            let amount = |text: &str| parse_decimal("number", text, ASSET_SCALE_MAX).unwrap();
            super::decimals(amount(tick), amount(lot))
        };
        assert_eq!(decimals("0.01", "0.000001"), [2, 6, 8]);
        assert_eq!(decimals("0.01", "1000000"), [2, 0, 0]);
        assert_eq!(decimals("0.5", "0.2"), [1, 1, 1]);
        assert_eq!(decimals("0", "1"), [0, 0, 0]);
    }

    #[test]
    fn ids_that_are_not_reused_stay_taken() {
        let order = |id: &str| {
            format!(r#"{{"op":"new","id":"{id}","user":"u","side":"BUY","type":"LIMIT","price":"1","qty":"1"}}"#)
        };
        let cancel = r#"{"op":"cancel","id":"a"}"#;
        let answers = answers(&format!(
            "{}\n{}\n{cancel}\n{}\n{}",
            r#"{"op":"config","symbol":"X","id_reuse":false}"#,
            order("a"),
            order("a"),
            order("b"),
        ));
        assert_eq!(answers[3]["err"], "DUPLICATE_ORDER");
        assert_eq!(answers[4]["order"]["status"], "NEW");
    }
}
