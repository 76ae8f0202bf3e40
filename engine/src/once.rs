//! Exactly once: new orders whose names the client gave are remembered for a while, so that a client who asks again because no
//! answer came gets the first order and not a second one.
//!
//! A refusal is remembered too, unless it would hide an order that the name stands for: the retry may come before the first
//! attempt, and who was told "refused" must not find the order in the book when that one arrives.
//!
//! The window is part of the state, so it holds across a failover and a restart. It is bounded in time ([`WINDOW`]) and in
//! number ([`USES_MAX`]). Which requests are the same is said by two hashes that the gateway
//! takes of what the client wrote ([`Placing::once`]), so that the engine compares numbers. They are of SHA-256, since clients
//! choose what is hashed: nobody can make a request that counts as another one's.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bytes::{DecodeError, Decoded, HIGHEST, Reader, Record, Writer, ensure, found, from_postcard, to_postcard};
use crate::command::{CancelReplace, Command, PlaceOrder, PlaceOrderList};
use crate::event::{Event, Rejection, Repeated};
use crate::key_index::KeyIndex;
use crate::order::{ClientOrderId, OrderStatus};
use crate::units::{OrderId, OrderListId, Sequence, SymbolId, Time, Uid};

/// How long a use of a name is remembered, in microseconds: five minutes.
pub const WINDOW: u64 = 5 * 60 * 1_000_000;
/// How many uses are remembered at the most; the oldest goes first.
pub const USES_MAX: usize = 1 << 20;

/// How many uses whose time is over are forgotten with each one that comes: more than one, so that they become fewer, and not
/// all, so that no command waits for a million of them.
const FORGOTTEN_AT_ONCE: usize = 4;
/// The most orders in a list.
const ORDERS_MAX: usize = 3;

/// New orders under a name that the client gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// What is asked.
    pub placing: Placing,
    /// What the name stands for in the window: a hash of whose it is, where, and the name.
    pub key: u64,
    /// A hash of all that the client wrote.
    pub fingerprint: u64,
    /// Whether the client is known to have the answer to the last use of the name. Then this is no retry: it is decided as
    /// any new order is, and remembered instead.
    pub answered: bool,
}

/// The commands that place new orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placing {
    /// One.
    Order(PlaceOrder),
    /// Some that depend on each other.
    OrderList(PlaceOrderList),
    /// One in the place of another.
    CancelReplace(CancelReplace),
}

impl Placing {
    /// The command that asks this once, as far as is known for the first time; the plain command when the client gave no name
    /// to know it by again. `given` are the names that the client wrote: all others were made up for this request and mean
    /// nothing.
    pub fn once(self, given: &[ClientOrderId]) -> Command {
        let own = |name: &ClientOrderId| given.contains(name);
        let (named, name) = match &self {
            Placing::Order(place) => (Named::Order, Some(place.client_order_id)),
            Placing::CancelReplace(both) => (Named::Order, Some(both.place.client_order_id)),
            Placing::OrderList(list) => {
                let names = list.orders.iter().map(|order| order.client_order_id);
                (Named::OrderList, std::iter::once(list.list_client_order_id).chain(names).find(own))
            }
        };
        let Some(name) = name.filter(own) else {
            return match self {
                Placing::Order(place) => Command::PlaceOrder(place),
                Placing::OrderList(list) => Command::PlaceOrderList(Box::new(list)),
                Placing::CancelReplace(both) => Command::CancelReplace(Box::new(both)),
            };
        };
        let (uid, symbol) = self.place();
        let mut asked = self.clone();
        for name in asked.names().into_iter().filter(|name| !own(name)) {
            *name = ClientOrderId::NONE;
        }
        let (key, fingerprint) = (key(named, uid, symbol, name), hash(&to_postcard(&asked)));
        Command::Once(Box::new(Once { placing: self, key, fingerprint, answered: false }))
    }

    /// Whose orders, and where.
    pub fn place(&self) -> (Uid, SymbolId) {
        match self {
            Placing::Order(place) => (place.uid, place.symbol),
            Placing::OrderList(list) => (list.uid, list.symbol),
            Placing::CancelReplace(both) => (both.place.uid, both.place.symbol),
        }
    }

    /// The new orders.
    pub fn orders(&self) -> &[PlaceOrder] {
        match self {
            Placing::Order(place) => std::slice::from_ref(place),
            Placing::OrderList(list) => &list.orders,
            Placing::CancelReplace(both) => std::slice::from_ref(&both.place),
        }
    }

    /// The names that are given with it. By which name an order to be canceled is known is not one of them.
    fn names(&mut self) -> Vec<&mut ClientOrderId> {
        match self {
            Placing::Order(place) => vec![&mut place.client_order_id],
            Placing::OrderList(list) => {
                let orders = list.orders.iter_mut().map(|order| &mut order.client_order_id);
                std::iter::once(&mut list.list_client_order_id).chain(orders).collect()
            }
            Placing::CancelReplace(both) => {
                vec![&mut both.place.client_order_id, &mut both.cancel.cancel_client_order_id]
            }
        }
    }
}

/// What a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// An order.
    Order,
    /// A list, or one of its orders by which alone it is known.
    OrderList,
}

/// The [`Once::key`] of a name.
pub fn key(named: Named, uid: Uid, symbol: SymbolId, name: ClientOrderId) -> u64 {
    let kind: &[u8] = if named == Named::Order { b"o" } else { b"l" };
    hash(&[kind, &uid.0.to_le_bytes(), &symbol.0.to_le_bytes(), name.as_str().as_bytes()].concat())
}

fn hash(bytes: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    u64::from_le_bytes(*digest.first_chunk().expect("it is longer"))
}

/// A use of a name, and what became of it at once.
#[derive(Clone, Copy, Debug)]
struct Use {
    key: u64,
    fingerprint: u64,
    uid: Uid,
    symbol: SymbolId,
    time: Time,
    sequence: Sequence,
    /// Its first order; the others of a list follow it.
    order: OrderId,
    /// What each of its orders was after the command.
    statuses: [OrderStatus; ORDERS_MAX],
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Order,
    OrderList {
        id: OrderListId,
        orders: usize,
    },
    CancelReplace {
        canceled: Result<OrderId, Rejection>,
    },
    /// No order was placed.
    Refused(Rejection),
    /// Of a cancel-replace that placed no order: why nothing was, or is now, to be canceled; why the new order was refused,
    /// if it was tried.
    NotReplaced {
        cancel: Rejection,
        place: Option<Rejection>,
    },
}

/// What became of the same request before.
pub(crate) enum First {
    Placed(Repeated),
    Refused(Rejection),
    NotReplaced { cancel: Rejection, place: Option<Rejection> },
}

impl Use {
    /// What a command did; `None` when it neither placed an order nor was refused.
    fn of(once: &Once, sequence: Sequence, time: Time, decided: Result<&[Event], Rejection>) -> Option<Use> {
        let (uid, symbol) = once.placing.place();
        let Once { key, fingerprint, .. } = *once;
        let made = |order, statuses, kind| Use { key, fingerprint, uid, symbol, time, sequence, order, statuses, kind };
        let none = [OrderStatus::New; ORDERS_MAX];
        let refused = |kind| Some(made(OrderId(0), none, kind));
        let events = match decided {
            Ok([Event::CancelReplaceDecided { cancel, place }, ..]) if !matches!(place, Some(Ok(()))) => {
                // The order that was canceled is gone, and asked again there is none.
                let cancel = cancel.unwrap_or(Rejection::UnknownOrder);
                return refused(Kind::NotReplaced { cancel, place: place.and_then(Result::err) });
            }
            Ok(events) => events,
            Err(rejection) => return refused(Kind::Refused(rejection)),
        };
        let (mut order, mut canceled, mut list) = (None, None::<(bool, OrderId)>, None);
        let cancel_name = match &once.placing {
            Placing::CancelReplace(both) => Some(both.cancel.cancel_client_order_id),
            _ => None,
        };
        let mut statuses = none;
        let mut set = |first: Option<OrderId>, id: OrderId, status: OrderStatus| {
            let at = first.and_then(|first| id.0.checked_sub(first.0)).and_then(|at| usize::try_from(at).ok());
            if let Some(place) = at.and_then(|at| statuses.get_mut(at)) {
                *place = status;
            }
        };
        // What the command set off is not its own answer.
        for event in events.iter().take_while(|event| !matches!(event, Event::OrderTriggered(_))) {
            match event {
                Event::OrderAccepted(accepted) => {
                    order = order.or(Some(accepted.order_id));
                    set(order, accepted.order_id, accepted.status);
                }
                Event::Trade(trade) => set(order, trade.taker.order_id, trade.taker.status),
                Event::OrderExpired { order: expired, .. } => set(order, expired.order_id, expired.status),
                // With an order its list is canceled; the one that was meant is the one under the cancel's name.
                Event::OrderCanceled { order, cancel_client_order_id } => {
                    let meant = Some(*cancel_client_order_id) == cancel_name;
                    if canceled.is_none_or(|(was_meant, _)| meant && !was_meant) {
                        canceled = Some((meant, order.order_id));
                    }
                }
                Event::OrderListChanged(changed) => list = list.or(Some(changed.order_list_id)),
                _ => {}
            }
        }
        let kind = match (&once.placing, events.first()) {
            (Placing::Order(_), _) => Kind::Order,
            (Placing::OrderList(asked), _) => Kind::OrderList { id: list?, orders: asked.orders.len() },
            (Placing::CancelReplace(_), Some(Event::CancelReplaceDecided { cancel: Some(rejection), .. })) => {
                Kind::CancelReplace { canceled: Err(*rejection) }
            }
            (Placing::CancelReplace(_), _) => Kind::CancelReplace { canceled: Ok(canceled?.1) },
        };
        Some(made(order?, statuses, kind))
    }

    fn is_refused(&self) -> bool {
        matches!(self.kind, Kind::Refused(_) | Kind::NotReplaced { .. })
    }

    fn is_recent(&self, now: Time) -> bool {
        self.time.0 + WINDOW > now.0
    }

    fn first(&self) -> First {
        let (mut order_list_id, mut canceled, mut orders) = (None, None, 1);
        match self.kind {
            Kind::Refused(rejection) => return First::Refused(rejection),
            Kind::NotReplaced { cancel, place } => return First::NotReplaced { cancel, place },
            Kind::Order => {}
            Kind::OrderList { id, orders: together } => (order_list_id, orders) = (Some(id), together),
            Kind::CancelReplace { canceled: result } => canceled = Some(result),
        }
        let numbers = (self.order.0..).map(OrderId);
        First::Placed(Repeated {
            uid: self.uid,
            symbol: self.symbol,
            sequence: self.sequence,
            time: self.time,
            orders: numbers.zip(self.statuses).take(orders).collect(),
            order_list_id,
            canceled,
        })
    }
}

/// The uses of the last while, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uses {
    /// Pages that are filled one after the other and go when all on them is forgotten, so that no command waits for a copy of
    /// a million records.
    pages: VecDeque<Vec<Use>>,
    /// How many are forgotten, and how many there were: a use is known by how many came before it.
    forgotten: usize,
    seen: usize,
    /// The last use of each name, by the name's key.
    last: KeyIndex,
}

/// Uses on a page.
const PAGE: usize = 512;

/// The place in the index of the use that came after so many others: each that is remembered has its own.
fn place(number: usize) -> u32 {
    (number % USES_MAX) as u32
}

impl Uses {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.seen - self.forgotten
    }

    /// Begin to fetch where the name of a command is noted that comes `ahead` commands from now, and where the one is that will
    /// be forgotten then.
    pub(crate) fn prefetch(&self, key: u64, ahead: usize) {
        self.last.prefetch(key);
        if self.len() > ahead {
            self.last.prefetch(self.at(self.forgotten + ahead).key);
        }
    }

    /// What became of the same request before, if it was made before.
    pub(crate) fn find(&self, once: &Once, now: Time) -> Option<First> {
        let first = self.at(self.last_of(once.key)?);
        let same = !once.answered && first.fingerprint == once.fingerprint && first.is_recent(now);
        // The hashes say so already; that nobody is told of another's order is worth looking twice.
        let own = (first.uid, first.symbol) == once.placing.place();
        (same && own).then(|| first.first())
    }

    /// Remembers what a command did under its name: its events, or why it was refused.
    pub(crate) fn remember(
        &mut self,
        once: &Once,
        sequence: Sequence,
        now: Time,
        decided: Result<&[Event], Rejection>,
    ) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            if self.len() == 0 || self.at(self.forgotten).is_recent(now) {
                break;
            }
            self.forget();
        }
        if let Some(made) = Use::of(once, sequence, now, decided)
            && !(made.is_refused() && !once.answered && self.is_placed(once.key, now))
        {
            self.push(made);
        }
    }

    /// Whether a name stands for an order whose owner may ask for it again.
    fn is_placed(&self, key: u64, now: Time) -> bool {
        self.last_of(key).map(|number| self.at(number)).is_some_and(|last| !last.is_refused() && last.is_recent(now))
    }

    fn push(&mut self, made: Use) {
        if self.len() == USES_MAX {
            self.forget();
        }
        if self.seen.is_multiple_of(PAGE) {
            self.pages.push_back(Vec::with_capacity(PAGE));
        }
        self.pages.back_mut().expect("there is a page").push(made);
        if let Some(earlier) = self.last_of(made.key) {
            self.last.remove(made.key, place(earlier));
        }
        self.last.insert(made.key, place(self.seen));
        self.seen += 1;
    }

    /// The last use of a name.
    fn last_of(&self, key: u64) -> Option<usize> {
        let number = |place: u32| self.forgotten + (place as usize + USES_MAX - self.forgotten % USES_MAX) % USES_MAX;
        self.last.find(key, |place| self.at(number(place)).key == key).map(number)
    }

    fn forget(&mut self) {
        // Unless there is a later use of the name.
        self.last.remove(self.at(self.forgotten).key, place(self.forgotten));
        self.forgotten += 1;
        if self.forgotten.is_multiple_of(PAGE) {
            self.pages.pop_front();
        }
    }

    /// The use that came after so many others.
    fn at(&self, number: usize) -> &Use {
        &self.pages[number / PAGE - self.forgotten / PAGE][number % PAGE]
    }
}

/// A use: key, fingerprint, uid, time, sequence, order, list or canceled order, symbol, kind, statuses, rejection.
pub(crate) const USE_BYTES: usize = 7 * 8 + 4 + 1 + ORDERS_MAX + 1;

const STATUSES: [OrderStatus; 7] = [
    OrderStatus::New,
    OrderStatus::PendingNew,
    OrderStatus::PartiallyFilled,
    OrderStatus::Filled,
    OrderStatus::Canceled,
    OrderStatus::Expired,
    OrderStatus::ExpiredInMatch,
];

/// Writes the window: how many, and each, oldest first. Which of them are the last of their name follows.
pub(crate) fn write(uses: &Uses, out: &mut Writer) {
    out.put(&(uses.len() as u64).to_le_bytes());
    for number in uses.forgotten..uses.seen {
        let used = uses.at(number);
        let (kind, other, rejection) = match used.kind {
            Kind::Order => (0, 0, 0),
            Kind::OrderList { id, orders } => (orders as u8, id.0, 0),
            Kind::CancelReplace { canceled: Ok(order) } => (KIND_REPLACED, order.0, 0),
            Kind::CancelReplace { canceled: Err(rejection) } => (KIND_NOT_CANCELED, 0, byte_of(rejection)),
            Kind::Refused(rejection) => (KIND_REFUSED, 0, byte_of(rejection)),
            Kind::NotReplaced { cancel, place } => {
                (KIND_NOT_REPLACED, place.map_or(0, |place| 1 + u64::from(byte_of(place))), byte_of(cancel))
            }
        };
        let mut record = Record::<USE_BYTES>::default();
        for number in [used.key, used.fingerprint, used.uid.0, used.time.0, used.sequence.0, used.order.0, other] {
            record.put(&number.to_le_bytes());
        }
        record.put(&used.symbol.0.to_le_bytes()).put(&[kind]);
        record.put(&used.statuses.map(|status| status as u8)).put(&[rejection]);
        out.put(&record.bytes);
    }
}

const KIND_REFUSED: u8 = 1;
const KIND_REPLACED: u8 = 4;
const KIND_NOT_CANCELED: u8 = 5;
const KIND_NOT_REPLACED: u8 = 6;

/// A rejection's number in postcard's encoding; there are fewer than what takes a second byte.
fn byte_of(rejection: Rejection) -> u8 {
    to_postcard(&rejection)[0]
}

/// Reads the window of an exchange whose last command was `sequence`, at `now`; `is_order` says whether a symbol has given
/// that number to an order, `is_trader` whether there is such an account.
pub(crate) fn read(
    input: &mut Reader,
    (sequence, now): (Sequence, Time),
    is_trader: impl Fn(Uid) -> bool,
    is_order: impl Fn(SymbolId, OrderId) -> bool,
) -> Decoded<Uses> {
    let count = u64::from_le_bytes(input.take()?);
    ensure((1..=USES_MAX as u64).contains(&count), "no uses of names, or more than are remembered")?;
    let mut uses = Uses::default();
    let (mut last_time, mut last_sequence) = (Time(0), Sequence(0));
    for record in input.records::<USE_BYTES>(count as usize)? {
        let used = read_use(&record)?;
        let follows = used.time >= last_time && used.sequence > last_sequence;
        ensure(follows && used.time <= now && used.sequence <= sequence, "uses of names out of order")?;
        let orders = match used.kind {
            Kind::OrderList { orders, .. } => orders as u64,
            _ => 1,
        };
        let placed = used.order.0 > 0
            && used.order.0 < HIGHEST
            && is_order(used.symbol, OrderId(used.order.0 + orders - 1))
            && is_trader(used.uid);
        // What was refused may have named an account or a symbol that there is not.
        let known = if used.is_refused() { used.order.0 == 0 } else { placed };
        let canceled = match used.kind {
            Kind::CancelReplace { canceled: Ok(order) } => is_order(used.symbol, order),
            _ => true,
        };
        ensure(known && canceled, "a use of a name that cannot be")?;
        (last_time, last_sequence) = (used.time, used.sequence);
        uses.push(used);
    }
    Ok(uses)
}

fn read_use(record: &[u8; USE_BYTES]) -> Decoded<Use> {
    let mut record = Reader(record);
    let mut number = || record.take().map(u64::from_le_bytes);
    let (key, fingerprint, uid) = (number()?, number()?, Uid(number()?));
    let (time, sequence, order, other) = (Time(number()?), Sequence(number()?), OrderId(number()?), number()?);
    let symbol = SymbolId(u32::from_le_bytes(record.take()?));
    let [kind] = record.take()?;
    let mut statuses = [OrderStatus::New; ORDERS_MAX];
    for (status, code) in statuses.iter_mut().zip(record.take::<ORDERS_MAX>()?) {
        *status = *found(STATUSES.get(usize::from(code)), "a status that is none")?;
    }
    let [rejection] = record.take()?;
    let kind = match kind {
        0 => Kind::Order,
        2 | 3 => Kind::OrderList { id: OrderListId(other), orders: kind.into() },
        KIND_REPLACED => Kind::CancelReplace { canceled: Ok(OrderId(other)) },
        KIND_NOT_CANCELED => Kind::CancelReplace { canceled: Err(from_postcard(&[rejection])?) },
        KIND_REFUSED => Kind::Refused(from_postcard(&[rejection])?),
        KIND_NOT_REPLACED => Kind::NotReplaced { cancel: from_postcard(&[rejection])?, place: read_place(other)? },
        _ => return Err(DecodeError::Unsound("a use of a name of no kind")),
    };
    let orders = if let Kind::OrderList { orders, .. } = kind { orders } else { 1 };
    let (has_other, has_rejection) = match kind {
        Kind::Order => (false, false),
        Kind::OrderList { .. } | Kind::CancelReplace { canceled: Ok(_) } => (true, false),
        Kind::CancelReplace { canceled: Err(_) } | Kind::Refused(_) => (false, true),
        Kind::NotReplaced { .. } => (true, true),
    };
    let (plain, accepted) = (has_other || other == 0, has_rejection || rejection == 0);
    let unused = statuses[orders..].iter().all(|status| *status == OrderStatus::New);
    ensure(plain && accepted && unused, "a use of a name that says what it should not")?;
    Ok(Use { key, fingerprint, uid, symbol, time, sequence, order, statuses, kind })
}

fn read_place(other: u64) -> Decoded<Option<Rejection>> {
    let Some(byte) = other.checked_sub(1) else { return Ok(None) };
    let byte = u8::try_from(byte).map_err(|_| DecodeError::Unsound("a rejection that is none"))?;
    Ok(Some(from_postcard(&[byte])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{CancelOrder, OrderListKind, OrderQuantity, OrderReference};
    use crate::order::{OrderType, Side, TimeInForce};
    use crate::units::Amount;

    fn name(text: &str) -> ClientOrderId {
        ClientOrderId::new(text).unwrap()
    }

    fn order(uid: u64, named: &str, quantity: u128) -> PlaceOrder {
        PlaceOrder {
            uid: Uid(uid),
            symbol: SymbolId(0),
            client_order_id: name(named),
            side: Side::Buy,
            order_type: OrderType::Limit,
            time_in_force: TimeInForce::Gtc,
            price: Amount(100),
            quantity: OrderQuantity::Base(Amount(quantity)),
            self_trade_prevention: None,
            special: None,
        }
    }

    fn list(named: &str, orders: [&str; 2]) -> Placing {
        Placing::OrderList(PlaceOrderList {
            uid: Uid(1),
            symbol: SymbolId(0),
            list_client_order_id: name(named),
            kind: OrderListKind::OneTriggersOther,
            orders: orders.map(|named| order(1, named, 5)).into(),
        })
    }

    fn replace(named: &str, cancel: &str) -> Placing {
        Placing::CancelReplace(CancelReplace {
            cancel: CancelOrder {
                uid: Uid(1),
                symbol: SymbolId(0),
                order: OrderReference { order_id: Some(OrderId(7)), client_order_id: None },
                cancel_client_order_id: name(cancel),
                restriction: None,
            },
            place: order(1, named, 5),
            allow_failure: false,
            cancel_when_limited: false,
        })
    }

    fn hashes(placing: Placing, given: &[&str]) -> Option<(u64, u64)> {
        let given: Vec<ClientOrderId> = given.iter().map(|given| name(given)).collect();
        match placing.once(&given) {
            Command::Once(once) => Some((once.key, once.fingerprint)),
            _ => None,
        }
    }

    #[test]
    fn a_request_without_a_name_of_its_clients_is_not_asked_once() {
        assert_eq!(hashes(Placing::Order(order(1, "a", 5)), &[]), None);
        assert_eq!(hashes(replace("a", "c"), &["c"]), None);
        assert_eq!(hashes(list("l", ["a", "b"]), &[]), None);
    }

    #[test]
    fn names_that_were_made_up_mean_nothing_and_names_that_were_given_do() {
        assert_eq!(hashes(list("l", ["a", "b"]), &["l"]), hashes(list("l", ["x", "y"]), &["l"]));
        assert_eq!(hashes(list("l", ["a", "b"]), &["a"]), hashes(list("m", ["a", "y"]), &["a"]));
        assert_eq!(hashes(replace("a", "c"), &["a"]), hashes(replace("a", "d"), &["a"]));
        let (key, fingerprint) = hashes(replace("a", "c"), &["a", "c"]).unwrap();
        let other = hashes(replace("a", "d"), &["a", "d"]).unwrap();
        assert!(key == other.0 && fingerprint != other.1);
        let (key, fingerprint) = hashes(list("l", ["a", "b"]), &["l", "a", "b"]).unwrap();
        let other = hashes(list("l", ["a", "c"]), &["l", "a", "c"]).unwrap();
        assert!(key == other.0 && fingerprint != other.1);
    }

    #[test]
    fn the_key_is_of_user_symbol_and_name_and_of_orders_or_lists() {
        let key = |placing, given| hashes(placing, &[given]).unwrap().0;
        let of_order = key(Placing::Order(order(1, "a", 5)), "a");
        assert_eq!(of_order, key(Placing::Order(order(1, "a", 6)), "a"));
        assert_eq!(of_order, key(replace("a", "c"), "a"));
        let elsewhere = PlaceOrder { symbol: SymbolId(1), ..order(1, "a", 5) };
        for other in [Placing::Order(order(2, "a", 5)), Placing::Order(elsewhere), list("a", ["x", "y"])] {
            assert_ne!(of_order, key(other, "a"));
        }
    }

    /// The key of a name, as well spread as those that the gateway makes.
    fn key_of(name: u64) -> u64 {
        hash(&name.to_le_bytes())
    }

    fn made(name: u64, time: u64) -> Use {
        Use {
            key: key_of(name),
            fingerprint: name,
            uid: Uid(1),
            symbol: SymbolId(0),
            time: Time(time),
            sequence: Sequence(time),
            order: OrderId(time),
            statuses: [OrderStatus::New; ORDERS_MAX],
            kind: Kind::Order,
        }
    }

    #[test]
    fn the_oldest_uses_go_first_and_a_later_use_of_a_name_stays() {
        let mut uses = Uses::default();
        let all = USES_MAX as u64 + 3 * PAGE as u64 + 7;
        for number in 0..all {
            // The first names are used again near the end.
            let name = if number > all - 5 { number - (all - 5) } else { number };
            uses.push(made(name, number));
        }
        assert_eq!((uses.len(), uses.pages.len()), (USES_MAX, USES_MAX / PAGE + 1));
        let last = |name: u64| uses.last_of(key_of(name)).map(|number| uses.at(number).order.0);
        assert_eq!((last(1), last(4)), (Some(all - 4), Some(all - 1)));
        let first = all - USES_MAX as u64;
        assert_eq!((last(first - 1), last(first)), (None, Some(first)));
        while uses.len() > 0 {
            uses.forget();
        }
        assert!(uses.last.len() == 0 && uses.pages.len() <= 1, "nothing is left behind");
    }

    #[test]
    fn what_was_long_ago_is_forgotten_a_few_at_a_time() {
        let mut uses = Uses::default();
        (0..100).for_each(|number| uses.push(made(number, number)));
        let Command::Once(once) = Placing::Order(order(1, "a", 5)).once(&[name("a")]) else { panic!("it has a name") };
        uses.remember(&once, Sequence(200), Time(WINDOW + 98), Ok(&[]));
        assert_eq!(uses.len(), 100 - FORGOTTEN_AT_ONCE);
        for _ in 0..100 {
            uses.remember(&once, Sequence(200), Time(WINDOW + 98), Ok(&[]));
        }
        assert_eq!(uses.len(), 1, "the last is of within the window");
    }

    #[test]
    fn every_rejection_and_status_has_its_byte() {
        assert_eq!(to_postcard(&Rejection::Compensated).len(), 1, "the last of them");
        for (code, status) in (0u8..).zip(STATUSES) {
            assert_eq!(status as u8, code);
        }
    }
}
