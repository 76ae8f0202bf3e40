//! What happens to an account, as its owner is told: executionReport, listStatus, outboundAccountPosition, balanceUpdate,
//! externalLockUpdate; and the listen keys through which older clients ask for it.
//!
//! For each command: the order's NEW, then a TRADE for each fill, then EXPIRED or CANCELED if it comes to that, then the
//! balances that moved. A stop or pending order that comes to the book is NEW once more, and then on the book. An order that
//! self-trade prevention ends is told so by its TRADE_PREVENTION and by nothing else. An account that nobody listens to costs a look into a table.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use engine::event::{ExpiryReason, OrderList, PreventedMatch, Trade};
use engine::order::{ClientOrderId, OrderStatus};
use engine::symbol::Symbol;
use engine::units::Notional;
use engine::{Amount, AssetId, Event, Order, OrderId, Price, Quantity, Time, Uid};
use journal::{Applied, KnownOrder, execution_id, list_number};
use parking_lot::Mutex;
use rand::RngExt;
use rand::distr::Alphanumeric;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::decimals::{Decimals, push_amount, push_integer};
use crate::views::Catalog;
use crate::wire::{
    NONE, PEG_OFFSET_TYPE, cancel_name, contingency_word, expiry_reason_word, list_number_of, list_status_words,
    peg_word, reject_reason_word, self_trade_prevention_word, side_word, status_word, time_in_force_word, type_word,
};
use crate::ws::hub::{Hub, TimeUnit, Topic};
use crate::ws::market_streams::push_escaped;

/// How long a listen key lives after it was made or extended, in microseconds.
const LISTEN_KEY_LIFE: u64 = 60 * 60 * 1_000_000;
/// How many characters a listen key has, as the venue's do.
const LISTEN_KEY_LENGTH: usize = 64;
/// How many listen keys there may be; one for an account.
const LISTEN_KEYS_MAX: usize = 1_000_000;
/// Tells the owners what happened. `orders` are those of [`Changes::orders`](crate::views::Changes::orders).
pub fn publish(hub: &Hub, catalog: &Catalog, applied: &Applied, orders: &[KnownOrder], now: Time) {
    if !hub.has_users() {
        return;
    }
    for (uid, events) in collect(applied, orders, |uid| hub.listens(Topic::User(uid))) {
        hub.publish(Topic::User(uid), |unit| {
            let writer = Writer { catalog, unit, now, time: applied.time };
            events.iter().filter_map(|event| writer.event(event)).map(Utf8Bytes::from).collect()
        });
    }
}

/// The last event of a listen key.
pub fn listen_key_expired(key: &str, now: Time) -> Utf8Bytes {
    format!(r#"{{"e":"listenKeyExpired","E":{},"listenKey":"{key}"}}"#, now.millis()).into()
}

/// What one account is told.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "most of them are executions")]
enum UserEvent {
    Execution { id: u64, order: Order, what: Execution },
    List(Box<OrderList>),
    Position(Vec<(AssetId, Amount, Amount)>),
    Transfer { asset: AssetId, amount: Amount, out: bool },
    Lock { asset: AssetId, amount: Amount, ended: bool },
}

#[derive(Debug)]
enum Execution {
    New,
    Trade { trade: Trade, is_maker: bool },
    Prevented { prevented: PreventedMatch, is_maker: bool },
    Canceled(ClientOrderId),
    Expired(ExpiryReason),
    Replaced(ClientOrderId),
}

/// The events of those accounts that are wanted, each account's in order.
fn collect(applied: &Applied, orders: &[KnownOrder], wanted: impl Fn(Uid) -> bool) -> Vec<(Uid, Vec<UserEvent>)> {
    let mut accounts = HashMap::<Uid, Option<Vec<UserEvent>>>::new();
    let mut orders = orders.iter();
    for index in 0..applied.len() {
        let mut account = |uid: Uid, event: UserEvent| {
            let events = accounts.entry(uid).or_insert_with(|| wanted(uid).then(Vec::new));
            if let Some(events) = events {
                events.push(event);
            }
        };
        let mut moved = Vec::<(Uid, (AssetId, Amount, Amount))>::new();
        let events = applied.events_of(index);
        for (place, event) in events.iter().enumerate() {
            let id = execution_id(applied.sequence(index), place);
            let mut report = |order: &Order, what: Execution| {
                account(order.uid, UserEvent::Execution { id, order: order.clone(), what });
            };
            let mut next = || &orders.next().expect("there is an order for each that changed").order;
            match event {
                Event::OrderAccepted(order) | Event::OrderTriggered(order) => report(order, Execution::New),
                Event::Trade(trade) => {
                    for is_maker in [false, true] {
                        report(next(), Execution::Trade { trade: *trade, is_maker });
                    }
                }
                Event::TradePrevented(prevented) => {
                    let lost = [prevented.taker_prevented, prevented.maker_prevented];
                    for (lost, is_maker) in lost.into_iter().zip([false, true]) {
                        let mut order = next().clone();
                        if is_ended(&events[place + 1..], order.order_id) {
                            order.status = OrderStatus::ExpiredInMatch;
                        }
                        if !lost.is_zero() {
                            report(&order, Execution::Prevented { prevented: *prevented, is_maker });
                        }
                    }
                }
                Event::OrderCanceled { order, cancel_client_order_id } => {
                    let name = cancel_name(order, *cancel_client_order_id, applied.sequence(index));
                    report(order, Execution::Canceled(name));
                }
                Event::OrderExpired { reason: ExpiryReason::SelfTradePrevention, .. } => {}
                Event::OrderExpired { order, reason } => report(order, Execution::Expired(*reason)),
                Event::OrderAmended { order, previous_client_order_id, .. } => {
                    report(order, Execution::Replaced(*previous_client_order_id));
                }
                Event::OrderReplaced { .. } => {
                    let order = next();
                    report(order, Execution::Replaced(order.client_order_id));
                }
                Event::OrderListChanged(list) => account(list.uid, UserEvent::List(list.clone())),
                Event::Deposited(transfer) | Event::Withdrawn(transfer) => {
                    let out = matches!(event, Event::Withdrawn(_));
                    account(transfer.uid, UserEvent::Transfer { asset: transfer.asset, amount: transfer.amount, out });
                }
                Event::WithdrawalBegun(transfer) | Event::WithdrawalAbandoned(transfer) => {
                    let ended = matches!(event, Event::WithdrawalAbandoned(_));
                    account(transfer.uid, UserEvent::Lock { asset: transfer.asset, amount: transfer.amount, ended });
                }
                Event::BalanceChanged { uid, asset, free, locked } => moved.push((*uid, (*asset, *free, *locked))),
                _ => {}
            }
        }
        moved.sort_by_key(|(uid, (asset, ..))| (*uid, *asset));
        for run in moved.chunk_by(|a, b| a.0 == b.0) {
            account(run[0].0, UserEvent::Position(run.iter().map(|(_, balance)| *balance).collect()));
        }
    }
    accounts.into_iter().filter_map(|(uid, events)| events.map(|events| (uid, events))).collect()
}

/// Whether self-trade prevention ends the order before it meets the next match that is prevented.
fn is_ended(following: &[Event], order_id: OrderId) -> bool {
    let about_it = following.iter().find_map(|event| match event {
        Event::OrderExpired { order, reason: ExpiryReason::SelfTradePrevention } if order.order_id == order_id => {
            Some(true)
        }
        Event::TradePrevented(next) if [next.taker_order_id, next.maker_order_id].contains(&order_id) => Some(false),
        _ => None,
    });
    about_it.unwrap_or(false)
}

/// Writes user events.
struct Writer<'a> {
    catalog: &'a Catalog,
    unit: TimeUnit,
    now: Time,
    time: Time,
}

impl Writer<'_> {
    /// `None` only for a symbol or asset that the catalog does not have, which cannot be.
    fn event(&self, event: &UserEvent) -> Option<String> {
        match event {
            UserEvent::Execution { id, order, what } => self.execution_report(*id, order, what),
            UserEvent::Position(balances) => self.account_position(balances),
            UserEvent::List(list) => self.list_status(list),
            UserEvent::Transfer { asset, amount, out } => self.change("balanceUpdate", *asset, *amount, *out),
            UserEvent::Lock { asset, amount, ended } => self.change("externalLockUpdate", *asset, *amount, *ended),
        }
    }

    fn begin(&self, event: &str) -> String {
        let mut out = String::with_capacity(640);
        out.push_str(r#"{"e":""#);
        out.push_str(event);
        out.push_str(r#"","E":"#);
        push_integer(&mut out, self.unit.of(self.now));
        out
    }

    fn execution_report(&self, id: u64, order: &Order, what: &Execution) -> Option<String> {
        let symbol = self.catalog.symbols.get(order.symbol.0 as usize)?;
        let decimals = Decimals::new(symbol, self.catalog);
        let time = self.unit.of(self.time);
        let name = order.client_order_id.as_str();
        // The report's name, and the name it refers to.
        let (client_order_id, original) = match what {
            Execution::Canceled(cancel) => (cancel.as_str(), Some(name)),
            Execution::Replaced(previous) => (name, Some(previous.as_str())),
            _ => (name, None),
        };
        let original = original.as_deref().unwrap_or("");
        let execution = match what {
            Execution::New => "NEW",
            Execution::Trade { .. } => "TRADE",
            Execution::Prevented { .. } => "TRADE_PREVENTION",
            Execution::Canceled(_) => "CANCELED",
            Execution::Expired(_) => "EXPIRED",
            Execution::Replaced(_) => "REPLACED",
        };
        let mut out = self.begin("executionReport");
        out.push_str(r#","s":""#);
        push_escaped(&mut out, &symbol.config.name);
        // Client order ids have no character that JSON would escape. Writing to a String cannot fail.
        let _ = write!(
            out,
            r#"","c":"{client_order_id}","S":"{}","o":"{}","f":"{}","q":""#,
            side_word(order.side),
            type_word(order.order_type),
            time_in_force_word(order.time_in_force),
        );
        decimals.push_quantity(&mut out, order.quantity);
        out.push_str(r#"","p":""#);
        decimals.push_price(&mut out, order.price);
        out.push_str(r#"","P":""#);
        let special = order.special.as_deref();
        decimals.push_price(&mut out, special.and_then(|special| special.stop_price).unwrap_or_default());
        out.push_str(r#"","F":""#);
        decimals.push_quantity(&mut out, special.and_then(|special| special.iceberg_quantity).unwrap_or_default());
        let refused = match what {
            Execution::Expired(ExpiryReason::Rejected(rejection)) => reject_reason_word(*rejection),
            _ => "NONE",
        };
        let _ = write!(
            out,
            r#"","g":{},"C":"{original}","x":"{execution}","X":"{}","r":"{refused}","i":{},"l":""#,
            list_number_of(order),
            status_word(order.status),
            order.order_id
        );
        let trade = match what {
            Execution::Trade { trade, is_maker } => Some((trade, *is_maker)),
            _ => None,
        };
        decimals.push_quantity(&mut out, trade.map_or(Quantity::ZERO, |(trade, _)| trade.quantity));
        out.push_str(r#"","z":""#);
        decimals.push_quantity(&mut out, order.executed);
        out.push_str(r#"","L":""#);
        decimals.push_price(&mut out, trade.map_or(Price(0), |(trade, _)| trade.price));
        out.push_str(r#"","n":""#);
        match trade {
            Some((trade, is_maker)) => {
                let fill = if is_maker { &trade.maker } else { &trade.taker };
                let asset = self.catalog.assets.get(fill.fee_asset.0 as usize)?;
                push_amount(&mut out, fill.fee, asset.scale);
                out.push_str(r#"","N":""#);
                push_escaped(&mut out, &asset.name);
                let _ = write!(out, r#"","T":{time},"t":{}"#, trade.trade_id);
            }
            None => {
                let _ = write!(out, r#"0","N":null,"T":{time},"t":-1"#);
            }
        }
        let _ = write!(
            out,
            r#","I":{id},"w":{},"m":{},"M":{},"O":{},"Z":""#,
            order.status.is_open() && order.working_at().is_some(),
            trade.is_some_and(|(_, is_maker)| is_maker),
            trade.is_some(),
            self.unit.of(order.created_at),
        );
        decimals.push_quote(&mut out, order.cumulative_quote);
        out.push_str(r#"","Y":""#);
        decimals.push_quote(&mut out, trade.map_or(Amount::ZERO, |(trade, _)| trade.quote_amount));
        out.push_str(r#"","Q":""#);
        decimals.push_quote(&mut out, order.quote_order_quantity);
        out.push('"');
        if let Some(since) = order.working_at() {
            let _ = write!(out, r#","W":{}"#, self.unit.of(since));
        }
        let _ = write!(out, r#","V":"{}""#, self_trade_prevention_word(order.self_trade_prevention));
        self.push_special(&mut out, order, &decimals);
        if let Execution::Prevented { prevented, is_maker } = what {
            self.push_prevented(&mut out, order, prevented, *is_maker, symbol);
        }
        if let Execution::Expired(reason) = what
            && let Some(word) = expiry_reason_word(*reason)
        {
            let _ = write!(out, r#","eR":"{word}""#);
        }
        out.push('}');
        Some(out)
    }

    /// What only some orders have.
    fn push_special(&self, out: &mut String, order: &Order, decimals: &Decimals) {
        let Some(special) = &order.special else { return };
        if let Some(delta) = special.trailing_delta {
            let since = special.trailing.map_or(NONE, |(_, since)| self.unit.of(since) as i64);
            let _ = write!(out, r#","d":{delta},"D":{since}"#);
        }
        if let Some(id) = special.strategy_id {
            let _ = write!(out, r#","j":{id}"#);
        }
        if let Some(kind) = special.strategy_type {
            let _ = write!(out, r#","J":{kind}"#);
        }
        if let Some(peg) = special.peg {
            let _ = write!(out, r#","gP":"{}""#, peg_word(peg.price));
            if peg.offset > 0 {
                let _ = write!(out, r#","gOT":"{PEG_OFFSET_TYPE}","gOV":{}"#, peg.offset);
            }
            out.push_str(r#","gp":""#);
            decimals.push_price(out, order.price);
            out.push('"');
        }
    }

    /// What self-trade prevention took off the order.
    fn push_prevented(
        &self,
        out: &mut String,
        order: &Order,
        prevented: &PreventedMatch,
        is_maker: bool,
        symbol: &Symbol,
    ) {
        let decimals = Decimals::new(symbol, self.catalog);
        let (lost, counter) = if is_maker {
            (prevented.maker_prevented, prevented.taker_order_id)
        } else {
            (prevented.taker_prevented, prevented.maker_order_id)
        };
        let group = prevented.trade_group.map_or(NONE, |group| group.0.into());
        let _ = write!(out, r#","v":{},"A":""#, prevented.prevented_match_id);
        decimals.push_quantity(out, order.prevented());
        out.push_str(r#"","B":""#);
        decimals.push_quantity(out, lost);
        let _ = write!(out, r#"","u":{group},"U":{counter},"Cs":""#);
        push_escaped(out, &symbol.config.name);
        // What the match would have been.
        let quantity = match (prevented.taker_prevented, prevented.maker_prevented) {
            (Quantity::ZERO, only) | (only, Quantity::ZERO) => only,
            (taker, maker) => taker.min(maker),
        };
        out.push_str(r#"","pl":""#);
        decimals.push_quantity(out, quantity);
        out.push_str(r#"","pL":""#);
        decimals.push_price(out, prevented.price);
        out.push_str(r#"","pY":""#);
        let quote = Notional::of(prevented.price, quantity).map(|notional| symbol.scale.quote_amount(notional));
        decimals.push_quote(out, quote.unwrap_or_default());
        out.push('"');
    }

    fn list_status(&self, list: &OrderList) -> Option<String> {
        let symbol = self.catalog.symbols.get(list.symbol.0 as usize)?;
        let (status_type, order_status) = list_status_words(list.status);
        let mut out = self.begin("listStatus");
        out.push_str(r#","s":""#);
        push_escaped(&mut out, &symbol.config.name);
        let _ = write!(
            out,
            r#"","g":{},"c":"{}","l":"{status_type}","L":"{order_status}","r":"NONE","C":"{}","T":{},"O":["#,
            list_number(list.symbol, list.order_list_id),
            contingency_word(list.kind),
            list.list_client_order_id.as_str(),
            self.unit.of(self.time),
        );
        for (index, (order_id, name)) in list.orders.iter().enumerate() {
            out.push_str(if index == 0 { r#"{"s":""# } else { r#",{"s":""# });
            push_escaped(&mut out, &symbol.config.name);
            let _ = write!(out, r#"","i":{order_id},"c":"{}"}}"#, name.as_str());
        }
        out.push_str("]}");
        Some(out)
    }

    fn account_position(&self, balances: &[(AssetId, Amount, Amount)]) -> Option<String> {
        let mut out = self.begin("outboundAccountPosition");
        out.push_str(r#","u":"#);
        push_integer(&mut out, self.unit.of(self.time));
        out.push_str(r#","B":["#);
        for (index, (asset, free, locked)) in balances.iter().enumerate() {
            let asset = self.catalog.assets.get(asset.0 as usize)?;
            out.push_str(if index == 0 { r#"{"a":""# } else { r#",{"a":""# });
            push_escaped(&mut out, &asset.name);
            out.push_str(r#"","f":""#);
            push_amount(&mut out, *free, asset.scale);
            out.push_str(r#"","l":""#);
            push_amount(&mut out, *locked, asset.scale);
            out.push_str(r#""}"#);
        }
        out.push_str("]}");
        Some(out)
    }

    /// An amount that came, or went.
    fn change(&self, event: &str, asset: AssetId, amount: Amount, is_less: bool) -> Option<String> {
        let asset = self.catalog.assets.get(asset.0 as usize)?;
        let mut out = self.begin(event);
        out.push_str(r#","a":""#);
        push_escaped(&mut out, &asset.name);
        out.push_str(if is_less { r#"","d":"-"# } else { r#"","d":""# });
        push_amount(&mut out, amount, asset.scale);
        out.push_str(r#"","T":"#);
        push_integer(&mut out, self.unit.of(self.time));
        out.push('}');
        Some(out)
    }
}

/// The listen keys of this node. They are not part of the log: after a restart clients make new ones, as they do when one
/// has expired.
#[derive(Default)]
pub struct ListenKeys {
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    by_key: HashMap<Arc<str>, (Uid, Time)>,
    by_uid: HashMap<Uid, Arc<str>>,
}

/// There is no such listen key, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownListenKey;

/// There are as many listen keys as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyListenKeys;

impl ListenKeys {
    /// None yet.
    pub fn new() -> ListenKeys {
        ListenKeys::default()
    }

    /// The account's key, which lives for an hour from now; made if there is none.
    pub fn create(&self, uid: Uid, now: Time) -> Result<Arc<str>, TooManyListenKeys> {
        let mut keys = self.keys.lock();
        let until = Time(now.0 + LISTEN_KEY_LIFE);
        if let Some(key) = keys.by_uid.get(&uid).cloned()
            && let Some((_, expires)) = keys.by_key.get_mut(&key)
            && *expires > now
        {
            *expires = until;
            return Ok(key);
        }
        if keys.by_key.len() >= LISTEN_KEYS_MAX {
            return Err(TooManyListenKeys);
        }
        let key: Arc<str> =
            rand::rng().sample_iter(Alphanumeric).take(LISTEN_KEY_LENGTH).map(char::from).collect::<String>().into();
        keys.by_uid.insert(uid, key.clone());
        keys.by_key.insert(key.clone(), (uid, until));
        Ok(key)
    }

    /// The account's key lives for an hour from now.
    pub fn extend(&self, uid: Uid, key: &str, now: Time) -> Result<(), UnknownListenKey> {
        match self.keys.lock().by_key.get_mut(key) {
            Some((owner, expires)) if *owner == uid && *expires > now => {
                *expires = Time(now.0 + LISTEN_KEY_LIFE);
                Ok(())
            }
            _ => Err(UnknownListenKey),
        }
    }

    /// The account's key ends now. The caller tells the hub.
    pub fn close(&self, uid: Uid, key: &str) -> Result<(), UnknownListenKey> {
        let mut keys = self.keys.lock();
        match keys.by_key.get(key) {
            Some((owner, _)) if *owner == uid => {
                keys.by_key.remove(key);
                keys.by_uid.remove(&uid);
                Ok(())
            }
            _ => Err(UnknownListenKey),
        }
    }

    /// The account that a key opens.
    pub fn owner(&self, key: &str, now: Time) -> Option<Uid> {
        self.keys.lock().by_key.get(key).filter(|(_, expires)| *expires > now).map(|(uid, _)| *uid)
    }

    /// Takes out the keys whose time is over.
    pub fn expire(&self, now: Time) -> Vec<(Uid, Arc<str>)> {
        let mut keys = self.keys.lock();
        let over = keys.by_key.extract_if(|_, (_, expires)| *expires <= now);
        let over: Vec<_> = over.map(|(key, (uid, _))| (uid, key)).collect();
        for (uid, key) in &over {
            if keys.by_uid.get(uid) == Some(key) {
                keys.by_uid.remove(uid);
            }
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listen_key_lives_an_hour_from_its_last_use() {
        let keys = ListenKeys::new();
        let key = keys.create(Uid(1), Time(0)).unwrap();
        assert_eq!(keys.create(Uid(1), Time(1)).unwrap(), key);
        assert_eq!(keys.extend(Uid(2), &key, Time(1)), Err(UnknownListenKey));
        assert_eq!(keys.extend(Uid(1), &key, Time(10)), Ok(()));
        assert_eq!(keys.owner(&key, Time(LISTEN_KEY_LIFE)), Some(Uid(1)));
        assert!(keys.expire(Time(LISTEN_KEY_LIFE)).is_empty());
        assert_eq!(keys.expire(Time(LISTEN_KEY_LIFE + 10)), [(Uid(1), key.clone())]);
        assert_eq!(keys.close(Uid(1), &key), Err(UnknownListenKey));
        assert_ne!(keys.create(Uid(1), Time(0)).unwrap(), key);
    }
}
