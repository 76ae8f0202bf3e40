//! Text in, text out: a scenario is a transcript of commands (`> ...`) and of what the engine says to each.
//!
//! One symbol, XUSD, in whole units: prices in USD per X, quantities in X. Traders are alice, bob and carol.
//!
//! Commands: `deposit alice 1000 USD`, `withdraw alice 10 X`, `fees maker 1% taker 2%` (before anything else),
//! `min notional 10`, `alice buy 3 @ 100 [ioc | fok | post-only] [as NAME]`, `alice market sell 3`,
//! `alice market buy for 300`, `alice cancel #1`, `alice cancel NAME`, `alice cancel all`, `alice amend #1 to 2`,
//! `halt`, `cancel only`, `resume`.

use engine::command::{AddAsset, AmendOrder, CancelOrder, OrderQuantity, OrderReference, PlaceOrder, Transfer};
use engine::order::{ClientOrderId, OrderType, Side, TimeInForce};
use engine::symbol::{SymbolConfig, SymbolStatus};
use engine::units::FeeRate;
use engine::{Amount, AssetId, Command, Engine, Event, OrderId, SymbolId, Time, Uid};

/// By uid; the fee account is the first.
const TRADERS: [&str; 4] = ["fees", "alice", "bob", "carol"];
const ASSETS: [&str; 2] = ["X", "USD"];
const SYMBOL: SymbolId = SymbolId(0);

/// Runs the commands of a transcript and compares all that the engine said with what the transcript says it did.
#[track_caller]
pub fn check(transcript: &str) {
    let wanted: Vec<&str> = transcript.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut venue = Venue::new();
    let mut seen = Vec::new();
    for line in &wanted {
        if let Some(command) = line.strip_prefix("> ") {
            seen.push((*line).to_owned());
            seen.extend(venue.tell(command));
        }
    }
    venue.engine.validate();
    assert_eq!(wanted.join("\n"), seen.join("\n"), "the engine said (right)");
}

struct Venue {
    engine: Engine,
    config: SymbolConfig,
    listed: bool,
    commands: u64,
}

impl Venue {
    fn new() -> Venue {
        Venue { engine: Engine::new(), config: symbol(), listed: false, commands: 0 }
    }

    fn tell(&mut self, text: &str) -> Vec<String> {
        self.commands += 1;
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            ["fees", "maker", maker, "taker", taker] => {
                (self.config.maker_fee, self.config.taker_fee) = (percent(maker), percent(taker));
                return Vec::new();
            }
            ["min", "notional", amount] => {
                self.config.min_notional = Amount(number(amount));
                return Vec::new();
            }
            _ => self.list(),
        }
        let command = self.parse(&words).unwrap_or_else(|| panic!("not a command: {text}"));
        self.apply(&command)
    }

    fn list(&mut self) {
        if std::mem::replace(&mut self.listed, true) {
            return;
        }
        for name in ASSETS {
            self.apply(&Command::AddAsset(AddAsset { name: name.into(), scale: 0 }));
        }
        self.apply(&Command::AddSymbol(self.config.clone()));
        for uid in 1..TRADERS.len() as u64 {
            self.apply(&Command::OpenAccount { uid: Uid(uid) });
        }
    }

    fn parse(&self, words: &[&str]) -> Option<Command> {
        let status = |status| Some(Command::SetSymbolStatus { symbol: SYMBOL, status });
        match *words {
            ["deposit", who, amount, asset] => Some(Command::Deposit(self.transfer(who, amount, asset)?)),
            ["withdraw", who, amount, asset] => Some(Command::Withdraw(self.transfer(who, amount, asset)?)),
            ["halt"] => status(SymbolStatus::Halt),
            ["cancel", "only"] => status(SymbolStatus::CancelOnly),
            ["resume"] => status(SymbolStatus::Trading),
            [who, "cancel", "all"] => Some(Command::CancelAllOrders { uid: uid(who)?, symbol: SYMBOL }),
            [who, "cancel", order] => Some(Command::CancelOrder(CancelOrder {
                uid: uid(who)?,
                symbol: SYMBOL,
                order: reference(order),
                cancel_client_order_id: name("cancel"),
                restriction: None,
            })),
            [who, "amend", order, "to", quantity] => Some(Command::AmendOrder(AmendOrder {
                uid: uid(who)?,
                symbol: SYMBOL,
                order: reference(order),
                new_quantity: Amount(number(quantity)),
                new_client_order_id: name(&format!("amended-{}", self.commands)),
            })),
            [who, "market", way, "for", quote] => {
                self.place(who, way, OrderType::Market, "0", OrderQuantity::Quote(Amount(number(quote))), &[])
            }
            [who, "market", way, quantity] => {
                self.place(who, way, OrderType::Market, "0", OrderQuantity::Base(Amount(number(quantity))), &[])
            }
            [who, way, quantity, "@", price, ref rest @ ..] => {
                self.place(who, way, OrderType::Limit, price, OrderQuantity::Base(Amount(number(quantity))), rest)
            }
            _ => None,
        }
    }

    fn place(
        &self,
        who: &str,
        way: &str,
        order_type: OrderType,
        price: &str,
        quantity: OrderQuantity,
        rest: &[&str],
    ) -> Option<Command> {
        let mut place = PlaceOrder {
            uid: uid(who)?,
            symbol: SYMBOL,
            client_order_id: name(&format!("order-{}", self.commands)),
            side: if way == "buy" { Side::Buy } else { Side::Sell },
            order_type,
            time_in_force: TimeInForce::Gtc,
            price: Amount(number(price)),
            quantity,
        };
        let mut rest = rest.iter();
        while let Some(word) = rest.next() {
            match *word {
                "ioc" => place.time_in_force = TimeInForce::Ioc,
                "fok" => place.time_in_force = TimeInForce::Fok,
                "post-only" => place.order_type = OrderType::LimitMaker,
                "as" => place.client_order_id = name(rest.next()?),
                _ => return None,
            }
        }
        Some(Command::PlaceOrder(place))
    }

    /// The external id is what is moved, so that saying a transfer twice repeats it.
    fn transfer(&self, who: &str, amount: &str, asset: &str) -> Option<Transfer> {
        let index = ASSETS.iter().position(|name| *name == asset)?;
        let external_id = format!("{amount} {asset}");
        Some(Transfer { uid: uid(who)?, asset: AssetId(index as u32), amount: Amount(number(amount)), external_id })
    }

    fn apply(&mut self, command: &Command) -> Vec<String> {
        let mut events = Vec::new();
        self.engine.apply(Time(self.commands), command, &mut events);
        events.iter().filter_map(say).collect()
    }
}

/// An event as a line; nothing for those that only repeat the command.
fn say(event: &Event) -> Option<String> {
    let who = |uid: Uid| TRADERS[uid.0 as usize];
    Some(match event {
        Event::OrderAccepted(order) => format!("accepted #{}", order.order_id),
        Event::Trade(trade) => format!(
            "trade {} @ {}: {} #{} takes from {} #{}",
            trade.quantity,
            trade.price,
            who(trade.taker.uid),
            trade.taker.order_id,
            who(trade.maker.uid),
            trade.maker.order_id
        ),
        Event::OrderCanceled { order, .. } => {
            format!("canceled #{} with {} open", order.order_id, order.open_quantity())
        }
        Event::OrderExpired { order, reason } => {
            format!("expired #{} after {}: {reason:?}", order.order_id, order.executed)
        }
        Event::OrderAmended { order, .. } => format!("amended #{} to {}", order.order_id, order.quantity),
        Event::Rejected(rejection) => format!("rejected: {rejection:?}"),
        Event::TransferRepeated(_) => "repeated".into(),
        Event::LevelChanged { side, price, quantity, .. } => {
            format!("{} {price}: {quantity}", if *side == Side::Buy { "bids" } else { "asks" })
        }
        Event::BalanceChanged { uid, asset, free, locked } => {
            let uid = who(*uid);
            format!("{uid} {}: {free} free, {locked} locked", ASSETS[asset.0 as usize])
        }
        Event::AssetAdded { .. }
        | Event::SymbolAdded(_)
        | Event::SymbolStatusChanged { .. }
        | Event::AccountOpened { .. }
        | Event::ApiKeyAdded(_)
        | Event::Deposited(_)
        | Event::Withdrawn(_) => return None,
    })
}

fn uid(who: &str) -> Option<Uid> {
    TRADERS.iter().position(|trader| *trader == who).map(|uid| Uid(uid as u64))
}

fn reference(order: &str) -> OrderReference {
    match order.strip_prefix('#') {
        Some(id) => OrderReference { order_id: id.parse().ok().map(OrderId), client_order_id: None },
        None => OrderReference { order_id: None, client_order_id: Some(name(order)) },
    }
}

fn name(text: &str) -> ClientOrderId {
    ClientOrderId::new(text).unwrap_or_else(|| panic!("not a client order id: {text}"))
}

fn number(text: &str) -> u128 {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

fn percent(text: &str) -> FeeRate {
    let percent: u32 = text.trim_end_matches('%').parse().unwrap_or_else(|_| panic!("not a percentage: {text}"));
    FeeRate::from_billionths(percent * 10_000_000).expect("at most all of it")
}

fn symbol() -> SymbolConfig {
    SymbolConfig {
        apply_min_to_market: true,
        ..SymbolConfig::plain("XUSD", AssetId(0), AssetId(1), Amount(1), Amount(1))
    }
}
