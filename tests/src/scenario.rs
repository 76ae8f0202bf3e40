//! Text in, text out: a scenario is a transcript of commands (`> ...`) and of what the engine says to each.
//!
//! One symbol, XUSD, in whole units: prices in USD per X, quantities in X. Traders are alice, bob and carol. A command takes
//! a microsecond; `wait 5s` lets time go by, and only `tick` acts on it.
//!
//! What operators say: `deposit alice 1000 USD`, `withdraw alice 10 X`, `begin withdrawal alice 10 X NAME`,
//! `complete | abandon withdrawal alice NAME`, `halt`, `cancel only`, `resume`, `group alice bob`, `reference price 100`.
//! How the symbol is: `fees maker 1% taker 2%`, `fees by lot maker 1 taker 2` (both before all else), `min notional 10`,
//! `max orders 3`, `execution range 10%`, `breaker 10% in 60s [for 5s]`, `order counts 2 in 10s`.
//!
//! Quote-driven: `driven by carol spread 1% for 5s exposure 10`, `driven by book`, `quote 99 / 101 [said at 7]`.
//!
//! An order: `buy 3 @ 100`, `sell 3 @ primary+1`, `market buy 3`, `market sell for 300`, `stop sell 3` and `take buy 3`; to
//! which may be added `at 95` (the stop price), `trail 100`, `limit 94` (of a stop), `ioc`, `fok`, `post-only`, `shows 2`,
//! `stp decrement`, `as NAME`. What traders say: `alice buy 3 @ 100 ioc`; `alice oco LIST: sell ... | sell ...`, and so
//! `oto` and `otoco`, where a pending quantity may be `proceeds`; `alice cancel #1 | NAME | all | everything`,
//! `alice cancel list NAME`, `alice amend #1 to 2 [as NAME]`, `alice reduce #1 by 2`, `alice replace #1 with 3 @ 99`,
//! `alice cancel #1 and buy 3 @ 99`, `alice cancel #1 or not and buy 3 @ 99`, `alice countdown 500`.
//!
//! New orders may begin with `once`: their client gave the names that stand there with `as`, or the name of the list, so asking
//! the same again changes nothing. With `anew` the client has the answer to the last use of the name, and means a new one.

use engine::command::{
    AccountSettings, AddAsset, AmendOrder, CancelOrder, CancelOrderList, CancelReplace, ExchangeLimits, Once,
    OrderCountLimit, OrderListKind, OrderQuantity, OrderReference, PlaceOrder, PlaceOrderList, Placing, QuoteTerms,
    ReferenceQuote, ReplaceOrder, SpecialTerms, Transfer,
};
use engine::commission::{FeeRate, LotFee};
use engine::event::OrderListStatus;
use engine::order::{ClientOrderId, OrderType, Peg, PegPrice, SelfTradePrevention, Side, TimeInForce};
use engine::symbol::{CircuitBreaker, PriceRange, SymbolConfig, SymbolStatus};
use engine::units::{Multiplier, TradeGroup};
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
    limits: ExchangeLimits,
    listed: bool,
    commands: u64,
    /// What went by without a command, in microseconds.
    waited: u64,
}

impl Venue {
    fn new() -> Venue {
        Venue {
            engine: Engine::new(),
            config: symbol(),
            limits: ExchangeLimits::default(),
            listed: false,
            commands: 0,
            waited: 0,
        }
    }

    fn tell(&mut self, text: &str) -> Vec<String> {
        self.commands += 1;
        let words: Vec<&str> = text.split_whitespace().collect();
        if let Some(seen) = self.configure(&words) {
            return seen;
        }
        self.list();
        if let ["group", who, other] = words[..] {
            for who in [who, other] {
                let settings = AccountSettings { trade_group: Some(TradeGroup(1)), ..AccountSettings::default() };
                self.apply(&Command::ConfigureAccount { uid: uid(who).expect("a trader"), settings });
            }
            return Vec::new();
        }
        let command = self.parse(&words).unwrap_or_else(|| panic!("not a command: {text}"));
        self.apply(&command)
    }

    /// What changes how the symbol is, or lets time go by.
    fn configure(&mut self, words: &[&str]) -> Option<Vec<String>> {
        let config = &mut self.config;
        match *words {
            ["wait", time] => self.waited += micros(time),
            ["fees", "maker", maker, "taker", taker] => {
                config.commission.standard.maker = percent(maker);
                config.commission.standard.taker = percent(taker);
            }
            ["fees", "by", "lot", "maker", maker, "taker", taker] => {
                config.commission.by_lot = Some(LotFee { maker: Amount(number(maker)), taker: Amount(number(taker)) });
            }
            ["min", "notional", amount] => config.min_notional = Amount(number(amount)),
            ["max", "orders", count] => config.max_num_orders = number(count) as u32,
            ["execution", "range", part] => {
                let (up, down) = (Multiplier(100_000_000 + share(part)), Multiplier(100_000_000 - share(part)));
                config.execution_range = Some(PriceRange { bid_up: up, bid_down: down, ask_up: up, ask_down: down });
            }
            ["breaker", part, "in", window, ref halt @ ..] => {
                let seconds = |time: &str| (micros(time) / 1_000_000) as u32;
                config.circuit_breaker = Some(CircuitBreaker {
                    trip: Multiplier(share(part)),
                    window_seconds: seconds(window),
                    halt_seconds: halt.get(1).map_or(0, |halt| seconds(halt)),
                });
            }
            ["order", "counts", count, "in", time] => {
                let limit = OrderCountLimit { seconds: (micros(time) / 1_000_000) as u32, limit: number(count) as u32 };
                self.limits.order_counts[0] = limit;
                (self.limits.taker_fill_decrement, self.limits.maker_fill_decrement) = (1, 2);
                if self.listed {
                    self.apply(&Command::ConfigureExchange(self.limits));
                }
            }
            _ => return None,
        }
        if self.listed {
            let config = Box::new(self.config.clone());
            return Some(self.apply(&Command::ConfigureSymbol { symbol: SYMBOL, config }));
        }
        Some(Vec::new())
    }

    fn list(&mut self) {
        if std::mem::replace(&mut self.listed, true) {
            return;
        }
        for name in ASSETS {
            self.apply(&Command::AddAsset(AddAsset { name: name.into(), scale: 0 }));
        }
        self.apply(&Command::AddSymbol(Box::new(self.config.clone())));
        self.apply(&Command::ConfigureExchange(self.limits));
        for uid in 1..TRADERS.len() as u64 {
            self.apply(&Command::OpenAccount { uid: Uid(uid) });
        }
    }

    fn parse(&self, words: &[&str]) -> Option<Command> {
        let status = |status| Some(Command::SetSymbolStatus { symbol: SYMBOL, status });
        match *words {
            ["deposit", who, amount, asset] => Some(Command::Deposit(transfer(who, amount, asset, None)?)),
            ["withdraw", who, amount, asset] => Some(Command::Withdraw(transfer(who, amount, asset, None)?)),
            ["begin", "withdrawal", who, amount, asset, name] => {
                Some(Command::BeginWithdrawal(transfer(who, amount, asset, Some(name))?))
            }
            [end @ ("complete" | "abandon"), "withdrawal", who, name] => {
                let (uid, completed) = (uid(who)?, end == "complete");
                Some(Command::EndWithdrawal { uid, external_id: name.to_owned(), completed })
            }
            ["reference", "price", price] => {
                Some(Command::SetReferencePrice { symbol: SYMBOL, price: Some(Amount(number(price))) })
            }
            ["driven", "by", house, "spread", part, "for", time, "exposure", lots] => {
                let terms = QuoteTerms {
                    house: uid(house)?,
                    spread: Multiplier(share(part)),
                    stale_after_ms: micros(time) / 1_000,
                    max_exposure: Amount(number(lots)),
                };
                Some(Command::SetQuoteDriven { symbol: SYMBOL, terms: Some(terms) })
            }
            ["driven", "by", "book"] => Some(Command::SetQuoteDriven { symbol: SYMBOL, terms: None }),
            ["quote", bid, "/", ask, ref said @ ..] => Some(Command::ReferenceQuote(ReferenceQuote {
                symbol: SYMBOL,
                bid: Amount(number(bid)),
                ask: Amount(number(ask)),
                outside_time: match *said {
                    ["said", "at", time] => Time(number(time) as u64),
                    _ => Time(self.commands),
                },
                source: name("outside"),
            })),
            ["halt"] => status(SymbolStatus::Halt),
            ["cancel", "only"] => status(SymbolStatus::CancelOnly),
            ["resume"] => status(SymbolStatus::Trading),
            ["tick"] => Some(Command::Tick),
            [who, ref rest @ ..] => self.parse_trader(uid(who)?, rest),
            [] => None,
        }
    }

    /// New orders under the names that stand in the text.
    fn once(&self, uid: Uid, words: &[&str], answered: bool) -> Option<Command> {
        let placing = match self.parse_trader(uid, words)? {
            Command::PlaceOrder(place) => Placing::Order(place),
            Command::PlaceOrderList(list) => Placing::OrderList(*list),
            Command::CancelReplace(both) => Placing::CancelReplace(*both),
            _ => return None,
        };
        let written = words.windows(2).filter(|pair| pair[0] == "as" || pair[1].ends_with(':'));
        let given: Vec<ClientOrderId> = written.map(|pair| name(pair[1].trim_end_matches(':'))).collect();
        let Command::Once(once) = placing.once(&given) else { return None };
        Some(Command::Once(Box::new(Once { answered, ..*once })))
    }

    fn parse_trader(&self, uid: Uid, words: &[&str]) -> Option<Command> {
        let symbol = SYMBOL;
        match *words {
            ["once", ref rest @ ..] => self.once(uid, rest, false),
            ["anew", ref rest @ ..] => self.once(uid, rest, true),
            ["cancel", "all"] => Some(Command::CancelAllOrders { uid, symbol }),
            ["cancel", "everything"] => Some(Command::CancelEverything { uid }),
            ["cancel", "list", list] => Some(Command::CancelOrderList(CancelOrderList {
                uid,
                symbol,
                order_list_id: None,
                list_client_order_id: Some(name(list)),
                cancel_client_order_id: None,
            })),
            ["cancel", order] => Some(Command::CancelOrder(cancel(uid, order))),
            ["cancel", order, "and", ref place @ ..] => self.cancel_replace(uid, order, false, place),
            ["cancel", order, "or", "not", "and", ref place @ ..] => self.cancel_replace(uid, order, true, place),
            ["amend", order, "to", quantity, ref named @ ..] => Some(Command::AmendOrder(AmendOrder {
                uid,
                symbol,
                order: reference(order),
                new_quantity: Amount(number(quantity)),
                new_client_order_id: match *named {
                    ["as", named] => name(named),
                    _ => name(&format!("amended-{}", self.commands)),
                },
            })),
            ["reduce", order, "by", quantity] => {
                Some(Command::ReduceOrder { uid, symbol, order: reference(order), by: Amount(number(quantity)) })
            }
            ["replace", order, "with", quantity, "@", price] => Some(Command::ReplaceOrder(ReplaceOrder {
                uid,
                symbol,
                order: reference(order),
                price: Some(Amount(number(price))),
                quantity: Some(Amount(number(quantity))),
            })),
            ["countdown", milliseconds] => {
                let milliseconds = number(milliseconds) as u64;
                Some(Command::SetCountdown { uid, symbol, milliseconds })
            }
            [kind @ ("oco" | "oto" | "otoco"), list, ref orders @ ..] => {
                let orders = orders.split(|word| *word == "|").enumerate();
                let orders: Option<Vec<PlaceOrder>> = orders.map(|(at, words)| self.order(uid, words, at)).collect();
                Some(Command::PlaceOrderList(Box::new(PlaceOrderList {
                    uid,
                    symbol,
                    list_client_order_id: name(list.strip_suffix(':')?),
                    kind: match kind {
                        "oco" => OrderListKind::OneCancelsOther,
                        "oto" => OrderListKind::OneTriggersOther,
                        _ => OrderListKind::OneTriggersOneCancelsOther,
                    },
                    orders: orders?,
                })))
            }
            _ => self.order(uid, words, 0).map(Command::PlaceOrder),
        }
    }

    fn cancel_replace(&self, uid: Uid, order: &str, allow_failure: bool, place: &[&str]) -> Option<Command> {
        let place = self.order(uid, place, 0)?;
        let cancel = cancel(uid, order);
        Some(Command::CancelReplace(Box::new(CancelReplace {
            cancel,
            place,
            allow_failure,
            cancel_when_limited: false,
        })))
    }

    /// A new order; the one `at` this place of its command.
    fn order(&self, uid: Uid, words: &[&str], at: usize) -> Option<PlaceOrder> {
        let (kind, way, quantity, rest) = match *words {
            ["market", way, "for", quote, ref rest @ ..] => {
                ("market", way, OrderQuantity::Quote(Amount(number(quote))), rest)
            }
            [kind @ ("market" | "stop" | "take"), way, quantity, ref rest @ ..] => (kind, way, lots(quantity), rest),
            [way @ ("buy" | "sell"), quantity, ref rest @ ..] => ("limit", way, lots(quantity), rest),
            _ => return None,
        };
        let mut special = SpecialTerms::default();
        let mut place = PlaceOrder {
            uid,
            symbol: SYMBOL,
            client_order_id: match at {
                0 => name(&format!("order-{}", self.commands)),
                _ => name(&format!("order-{}-{at}", self.commands)),
            },
            side: if way == "buy" { Side::Buy } else { Side::Sell },
            order_type: match kind {
                "limit" => OrderType::Limit,
                "market" => OrderType::Market,
                "stop" => OrderType::StopLoss,
                _ => OrderType::TakeProfit,
            },
            time_in_force: TimeInForce::Gtc,
            price: Amount::ZERO,
            quantity,
            self_trade_prevention: None,
            special: None,
        };
        let mut rest = rest.iter();
        while let Some(word) = rest.next() {
            match *word {
                "ioc" => place.time_in_force = TimeInForce::Ioc,
                "fok" => place.time_in_force = TimeInForce::Fok,
                "post-only" => place.order_type = OrderType::LimitMaker,
                "as" => place.client_order_id = name(rest.next()?),
                "at" => special.stop_price = Some(Amount(number(rest.next()?))),
                "trail" => special.trailing_delta = Some(number(rest.next()?) as u32),
                "shows" => special.iceberg_quantity = Some(Amount(number(rest.next()?))),
                "stp" => place.self_trade_prevention = Some(prevention(rest.next()?)?),
                "limit" => {
                    place.price = Amount(number(rest.next()?));
                    place.order_type = match place.order_type {
                        OrderType::StopLoss => OrderType::StopLossLimit,
                        _ => OrderType::TakeProfitLimit,
                    };
                }
                "@" => {
                    let price = *rest.next()?;
                    special.peg = peg(price);
                    place.price = if special.peg.is_some() { Amount::ZERO } else { Amount(number(price)) };
                }
                _ => return None,
            }
        }
        place.special = (special != SpecialTerms::default()).then(|| Box::new(special));
        Some(place)
    }

    fn apply(&mut self, command: &Command) -> Vec<String> {
        let mut events = Vec::new();
        self.engine.apply(Time(self.commands + self.waited), command, &mut events);
        events.iter().filter_map(say).collect()
    }
}

/// An event as a line; nothing for those that only repeat the command.
fn say(event: &Event) -> Option<String> {
    let who = |uid: Uid| TRADERS[uid.0 as usize];
    Some(match event {
        Event::OrderAccepted(order) => format!("accepted #{}", order.order_id),
        Event::OrderTriggered(order) => format!("triggered #{}", order.order_id),
        Event::Trade(trade) => format!(
            "trade {} @ {}: {} #{} takes from {} #{}",
            trade.quantity,
            trade.price,
            who(trade.taker.uid),
            trade.taker.order_id,
            who(trade.maker.uid),
            trade.maker.order_id
        ),
        Event::TradePrevented(prevented) => format!(
            "prevented @ {}: {:?}, #{} loses {}, #{} loses {}",
            prevented.price,
            prevented.mode,
            prevented.taker_order_id,
            prevented.taker_prevented,
            prevented.maker_order_id,
            prevented.maker_prevented
        ),
        Event::OrderCanceled { order, .. } => {
            format!("canceled #{} with {} open", order.order_id, order.open_quantity())
        }
        Event::OrderExpired { order, reason } => {
            format!("expired #{} after {}: {reason:?}", order.order_id, order.executed)
        }
        Event::OrderAmended { order, .. } => format!("amended #{} to {}", order.order_id, order.quantity),
        Event::OrderReplaced { order_id, price, quantity, .. } => {
            format!("replaced #{order_id} with {quantity} @ {price}")
        }
        Event::OrderListChanged(list) => {
            let name = &list.list_client_order_id;
            match list.status {
                OrderListStatus::ExecutionStarted => format!("list {name} started"),
                OrderListStatus::Updated => format!("list {name} updated"),
                OrderListStatus::AllDone => format!("list {name} done"),
            }
        }
        Event::CancelReplaceDecided { cancel, place } => {
            let cancel = cancel.map_or("done".to_owned(), |rejection| format!("{rejection:?}"));
            let place = match place {
                None => "not attempted".to_owned(),
                Some(Ok(())) => "done".to_owned(),
                Some(Err(rejection)) => format!("{rejection:?}"),
            };
            format!("cancel: {cancel}, new order: {place}")
        }
        Event::Rejected(rejection) => format!("rejected: {rejection:?}"),
        Event::TransferRepeated(_) => "repeated".into(),
        Event::OrderRepeated(first) => {
            let orders = first.orders.iter().map(|(order_id, status)| format!("#{order_id} {status:?}"));
            let orders = orders.collect::<Vec<_>>().join(", ");
            let canceled = first.canceled.map(|canceled| match canceled {
                Ok(order_id) => format!(", canceled #{order_id}"),
                Err(rejection) => format!(", cancel: {rejection:?}"),
            });
            format!("repeated: {orders}{}", canceled.unwrap_or_default())
        }
        Event::LevelChanged { side, price, quantity, .. } => {
            format!("{} {price}: {quantity}", if *side == Side::Buy { "bids" } else { "asks" })
        }
        Event::BalanceChanged { uid, asset, free, locked } => {
            let uid = who(*uid);
            format!("{uid} {}: {free} free, {locked} locked", ASSETS[asset.0 as usize])
        }
        Event::OrderCountChanged { uid, counts } => format!("{} has placed {}", who(*uid), counts[0]),
        Event::SymbolStatusChanged { status, cause, .. } => match cause {
            engine::event::StatusCause::Operator => return None,
            _ => format!("symbol: {status:?}"),
        },
        Event::CountdownSet { uid, at, .. } => match at {
            Some(_) => return None,
            None => format!("countdown of {} is over", who(*uid)),
        },
        Event::AssetAdded { .. }
        | Event::SymbolAdded(_)
        | Event::SymbolConfigured(_)
        | Event::ReferencePriceChanged { .. }
        | Event::ExchangeConfigured(_)
        | Event::CommissionTierChanged { .. }
        | Event::AccountOpened { .. }
        | Event::AccountConfigured { .. }
        | Event::ApiKeyAdded(_)
        | Event::AccessChanged(_)
        | Event::Deposited(_)
        | Event::WithdrawalBegun(_)
        | Event::WithdrawalAbandoned(_)
        | Event::Withdrawn(_)
        | Event::QuoteDrivenChanged { .. } => return None,
        Event::QuoteChanged(quote) => {
            let bid = quote.bid.map_or("nothing".to_owned(), |bid| bid.to_string());
            format!("house: {bid} / {}", quote.ask)
        }
        Event::QuoteStale { .. } => "house: price too old".into(),
    })
}

/// The external id is what is moved, so that saying a transfer twice repeats it.
fn transfer(who: &str, amount: &str, asset: &str, named: Option<&str>) -> Option<Transfer> {
    let index = ASSETS.iter().position(|name| *name == asset)?;
    let external_id = named.map_or_else(|| format!("{amount} {asset}"), str::to_owned);
    Some(Transfer { uid: uid(who)?, asset: AssetId(index as u32), amount: Amount(number(amount)), external_id })
}

fn cancel(uid: Uid, order: &str) -> CancelOrder {
    let (order, symbol) = (reference(order), SYMBOL);
    CancelOrder { uid, symbol, order, cancel_client_order_id: name("cancel"), restriction: None }
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

fn lots(quantity: &str) -> OrderQuantity {
    if quantity == "proceeds" { OrderQuantity::Proceeds } else { OrderQuantity::Base(Amount(number(quantity))) }
}

fn peg(price: &str) -> Option<Peg> {
    let (from, offset) = price.split_once('+').unwrap_or((price, "0"));
    let price = match from {
        "primary" => PegPrice::Primary,
        "market" => PegPrice::Market,
        _ => return None,
    };
    Some(Peg { price, offset: number(offset) as u8 })
}

fn prevention(mode: &str) -> Option<SelfTradePrevention> {
    Some(match mode {
        "none" => SelfTradePrevention::None,
        "expire-taker" => SelfTradePrevention::ExpireTaker,
        "expire-maker" => SelfTradePrevention::ExpireMaker,
        "expire-both" => SelfTradePrevention::ExpireBoth,
        "decrement" => SelfTradePrevention::Decrement,
        "transfer" => SelfTradePrevention::Transfer,
        _ => return None,
    })
}

fn name(text: &str) -> ClientOrderId {
    ClientOrderId::new(text).unwrap_or_else(|| panic!("not a client order id: {text}"))
}

fn number(text: &str) -> u128 {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

fn percent(text: &str) -> FeeRate {
    FeeRate::from_billionths(share(text) as u32 * 10).expect("at most all of it")
}

/// A percentage in hundred-millionths.
fn share(text: &str) -> u64 {
    number(text.trim_end_matches('%')) as u64 * 1_000_000
}

/// `500ms` or `5s` in microseconds.
fn micros(text: &str) -> u64 {
    match text.strip_suffix("ms") {
        Some(text) => number(text) as u64 * 1_000,
        None => number(text.trim_end_matches('s')) as u64 * 1_000_000,
    }
}

fn symbol() -> SymbolConfig {
    SymbolConfig {
        apply_min_to_market: true,
        ..SymbolConfig::plain("XUSD", AssetId(0), AssetId(1), Amount(1), Amount(1))
    }
}
