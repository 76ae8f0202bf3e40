//! An order, its ids, and the words that describe it.

use serde::{Deserialize, Serialize};

use crate::units::{Amount, OrderId, Price, Quantity, SymbolId, Time, Uid};

/// Buy or sell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// Pays quote, receives base; rests among the bids.
    Buy,
    /// Pays base, receives quote; rests among the asks.
    Sell,
}

impl Side {
    /// The side one trades against.
    pub fn opposite(self) -> Side {
        match self {
            Side::Buy => Side::Sell,
            Side::Sell => Side::Buy,
        }
    }
}

/// What kind of order it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OrderType {
    /// Trades up to its price; what is left rests or expires, as its time in force says.
    Limit,
    /// Trades at any price the book has; what is left expires.
    Market,
    /// Rests, or is rejected when it would trade at once (post-only).
    LimitMaker,
}

/// What happens to the quantity that does not trade at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TimeInForce {
    /// Good till canceled: it rests.
    Gtc,
    /// Immediate or cancel: it expires.
    Ioc,
    /// Fill or kill: all of it trades at once, or none does and it expires.
    Fok,
}

/// Where an order stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OrderStatus {
    /// Accepted, nothing traded yet.
    New,
    /// Some of it traded, the rest is still open.
    PartiallyFilled,
    /// All of it traded.
    Filled,
    /// Taken off the book by its owner.
    Canceled,
    /// Ended by a rule; see [`ExpiryReason`](crate::event::ExpiryReason).
    Expired,
}

impl OrderStatus {
    /// Whether the order can still trade.
    pub fn is_open(self) -> bool {
        matches!(self, OrderStatus::New | OrderStatus::PartiallyFilled)
    }
}

/// The client's own name for an order: 1 to 36 of `A-Z a-z 0-9 . : / _ -`. Unique among the open orders that its user
/// has in the symbol; free again once that order is closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientOrderId {
    length: u8,
    bytes: [u8; ClientOrderId::MAX_LENGTH],
}

impl ClientOrderId {
    /// The most characters an id can have.
    pub const MAX_LENGTH: usize = 36;

    /// `text` as an id, or `None` when it is empty, too long, or has a character that is not allowed.
    pub fn new(text: &str) -> Option<ClientOrderId> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b".:/_-".contains(&b);
        if text.is_empty() || text.len() > Self::MAX_LENGTH || !text.bytes().all(legal) {
            return None;
        }
        let mut bytes = [0; Self::MAX_LENGTH];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Some(ClientOrderId { length: text.len() as u8, bytes })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).expect("only ASCII is let in")
    }
}

impl std::fmt::Debug for ClientOrderId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

impl Serialize for ClientOrderId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_str().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ClientOrderId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = ClientOrderId;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a client order id")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ClientOrderId, E> {
                ClientOrderId::new(text).ok_or_else(|| E::custom("not a client order id"))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// An order as it stands: what was asked, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its number within the symbol.
    pub order_id: OrderId,
    /// Where it trades.
    pub symbol: SymbolId,
    /// Whose it is.
    pub uid: Uid,
    /// The owner's name for it.
    pub client_order_id: ClientOrderId,
    /// Buy or sell.
    pub side: Side,
    /// Its kind.
    pub order_type: OrderType,
    /// What happens to what does not trade at once. Market orders are IOC by nature and say GTC, as the venue prints it.
    pub time_in_force: TimeInForce,
    /// The worst price it may trade at; zero for a market order.
    pub price: Price,
    /// The whole quantity asked (less what an amend took off). Of a market order by quote amount: what it executed.
    pub quantity: Quantity,
    /// The quote amount a market order was asked to spend or raise; zero otherwise.
    pub quote_order_quantity: Amount,
    /// How much of it traded.
    pub executed: Quantity,
    /// What that was worth in quote.
    pub cumulative_quote: Amount,
    /// Where it stands.
    pub status: OrderStatus,
    /// When it was accepted.
    pub created_at: Time,
    /// When it last changed.
    pub updated_at: Time,
}

impl Order {
    /// The quantity that can still trade.
    pub fn open_quantity(&self) -> Quantity {
        self.quantity.minus(self.executed)
    }
}
