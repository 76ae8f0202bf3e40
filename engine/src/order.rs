//! An order, its ids, and the words that describe it.

use serde::{Deserialize, Serialize};

use crate::units::{Amount, OrderId, OrderListId, Price, Quantity, SymbolId, Time, Uid};

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
    /// A market order once the price has moved against its owner.
    StopLoss,
    /// A limit order once the price has moved against its owner.
    StopLossLimit,
    /// A market order once the price has moved in its owner's favour.
    TakeProfit,
    /// A limit order once the price has moved in its owner's favour.
    TakeProfitLimit,
}

impl OrderType {
    /// Whether it waits for a price before it works (the filters call these "algo" orders).
    pub fn is_stop(self) -> bool {
        matches!(
            self,
            OrderType::StopLoss | OrderType::StopLossLimit | OrderType::TakeProfit | OrderType::TakeProfitLimit
        )
    }

    /// Whether it has no price of its own when it works.
    pub fn is_market(self) -> bool {
        matches!(self, OrderType::Market | OrderType::StopLoss | OrderType::TakeProfit)
    }
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

/// What happens instead of a trade between two orders of one owner, or of two accounts in one trade group
/// (faqs/stp_faq.md). The taker's mode decides; only `Transfer` needs both sides to say so, and is `Decrement` otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SelfTradePrevention {
    /// They trade.
    #[default]
    None,
    /// What is left of the taker expires.
    ExpireTaker,
    /// What is left of the maker expires, and the taker goes on.
    ExpireMaker,
    /// What is left of both expires.
    ExpireBoth,
    /// Both lose what they would have traded; the smaller expires.
    Decrement,
    /// As `Decrement`, and between two accounts of a group what they would have traded changes hands, without a fee.
    Transfer,
}

/// Where an order stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OrderStatus {
    /// Accepted, nothing traded yet.
    New,
    /// In a list, and not placed before the list's working order is filled.
    PendingNew,
    /// Some of it traded, the rest is still open.
    PartiallyFilled,
    /// All of it traded.
    Filled,
    /// Taken off the book by its owner.
    Canceled,
    /// Ended by a rule; see [`ExpiryReason`](crate::event::ExpiryReason).
    Expired,
    /// Ended by self-trade prevention.
    ExpiredInMatch,
}

impl OrderStatus {
    /// Whether the order can still trade.
    pub fn is_open(self) -> bool {
        matches!(self, OrderStatus::New | OrderStatus::PendingNew | OrderStatus::PartiallyFilled)
    }
}

/// The client's own name for an order: 1 to 36 of `A-Z a-z 0-9 . : / _ -`. Unique among the open orders that its user
/// has in the symbol; free again once that order is closed.
///
/// A name stands beside every resting order, so it is packed: a character is one of 67, and 36 of them, as digits to the
/// base 68 (zero for none), fit 28 bytes. Three words hold ten digits each and a third of the last one, the fourth holds five.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientOrderId([u32; 7]);

/// The characters of a [`ClientOrderId`]; a digit is the place here, from 1.
const CHARACTERS: &[u8; 67] = b"-./0123456789:ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
/// From a byte to its digit; zero for a byte that is not allowed.
const DIGITS: [u8; 256] = {
    let mut digits = [0; 256];
    let mut at = 0;
    while at < CHARACTERS.len() {
        digits[CHARACTERS[at] as usize] = at as u8 + 1;
        at += 1;
    }
    digits
};
const BASE: u64 = 68;
/// Digits in each of the first three words.
const WORD_DIGITS: usize = 10;
/// Above the ten digits of a word stands one of [`TOP_BASE`] parts of the last digit.
const TOP: u64 = BASE.pow(WORD_DIGITS as u32);
const TOP_BASE: u64 = 5;

impl ClientOrderId {
    /// The most characters an id can have.
    pub const MAX_LENGTH: usize = 36;
    /// No name, for where one is left out.
    pub(crate) const NONE: ClientOrderId = ClientOrderId([0; 7]);

    /// `text` as an id, or `None` when it is empty, too long, or has a character that is not allowed.
    pub fn new(text: &str) -> Option<ClientOrderId> {
        let bytes = text.as_bytes();
        if bytes.is_empty()
            || bytes.len() > Self::MAX_LENGTH
            || bytes.iter().any(|&byte| DIGITS[usize::from(byte)] == 0)
        {
            return None;
        }
        let digit = |byte: u8| u64::from(DIGITS[usize::from(byte)]);
        let word = |from: usize, digits: usize| {
            let part = &bytes[from.min(bytes.len())..(from + digits).min(bytes.len())];
            part.iter().rev().fold(0, |word, &byte| word * BASE + digit(byte))
        };
        let last = bytes.get(Self::MAX_LENGTH - 1).map_or(0, |&byte| digit(byte));
        let tops = [last % TOP_BASE, last / TOP_BASE % TOP_BASE, last / TOP_BASE / TOP_BASE];
        let mut packed = [0; 7];
        for (index, top) in tops.into_iter().enumerate() {
            let word = word(index * WORD_DIGITS, WORD_DIGITS) + top * TOP;
            packed[index * 2] = word as u32;
            packed[index * 2 + 1] = (word >> 32) as u32;
        }
        packed[6] = word(3 * WORD_DIGITS, 5) as u32;
        Some(ClientOrderId(packed))
    }

    /// The id as text.
    pub fn as_str(&self) -> ClientOrderIdText {
        let mut text = ClientOrderIdText { length: 0, bytes: [0; Self::MAX_LENGTH] };
        let word = |index: usize| u64::from(self.0[index * 2]) | u64::from(self.0[index * 2 + 1]) << 32;
        let words = [word(0), word(1), word(2)];
        for (word, digits) in words.map(|word| (word % TOP, WORD_DIGITS)).into_iter().chain([(self.0[6].into(), 5)]) {
            text.push(word, digits);
        }
        let last = words[0] / TOP + words[1] / TOP * TOP_BASE + words[2] / TOP * TOP_BASE * TOP_BASE;
        text.push(last, 1);
        text
    }

    /// The id as it is kept: for hashing, and for writing state.
    pub fn words(&self) -> [u32; 7] {
        self.0
    }

    /// The id from how it is kept. Words that no text gives are an id too, whose text ends where it makes no sense.
    pub(crate) fn from_words(words: [u32; 7]) -> ClientOrderId {
        ClientOrderId(words)
    }
}

/// The text of a [`ClientOrderId`]; reads as a `str`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClientOrderIdText {
    length: u8,
    bytes: [u8; ClientOrderId::MAX_LENGTH],
}

impl ClientOrderIdText {
    fn push(&mut self, mut word: u64, digits: usize) {
        for _ in 0..digits {
            let (rest, digit) = (word / BASE, word % BASE);
            if digit == 0 || digit as usize > CHARACTERS.len() || usize::from(self.length) == self.bytes.len() {
                return;
            }
            self.bytes[usize::from(self.length)] = CHARACTERS[digit as usize - 1];
            self.length += 1;
            word = rest;
        }
    }
}

impl std::ops::Deref for ClientOrderIdText {
    type Target = str;
    fn deref(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).expect("only ASCII is let in")
    }
}

impl std::fmt::Display for ClientOrderIdText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self)
    }
}

impl std::fmt::Display for ClientOrderId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

impl std::fmt::Debug for ClientOrderId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&*self.as_str(), f)
    }
}

impl Serialize for ClientOrderId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.as_str())
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

/// From which best price a pegged order takes its own (faqs/pegged_orders.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PegPrice {
    /// The best price of its own side.
    Primary,
    /// The best price of the opposite side.
    Market,
}

/// A price taken from the book at the moment the order comes to it; it does not follow the book afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Peg {
    /// Which best price.
    pub price: PegPrice,
    /// So many existing price levels deeper into the book, 0 to [`Peg::OFFSET_MAX`].
    pub offset: u8,
}

impl Peg {
    /// The deepest offset.
    pub const OFFSET_MAX: u8 = 100;
}

/// An order as it stands: what was asked, and what became of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What happens where it would trade with its owner.
    pub self_trade_prevention: SelfTradePrevention,
    /// The worst price it may trade at; zero for a market order, and for a pegged one that has not come to the book.
    pub price: Price,
    /// The whole quantity asked (less what an amend took off). Of a market order by quote amount: what it executed and
    /// what was prevented. Of a pending order that sells the proceeds of another: zero.
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
    /// When it last came to the book, traded, lost a part or ended. A new price alone does not count.
    pub updated_at: Time,
    /// What most orders do not have.
    pub special: Option<Box<Special>>,
}

/// What most orders do not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Special {
    /// The last price at which a stop triggers or, with a trailing delta, starts to track.
    pub stop_price: Option<Price>,
    /// How far, in basis points, the price must come back from its extreme for the order to trigger.
    pub trailing_delta: Option<u32>,
    /// The lowest (buy) or highest (sell) price seen, and since when it has been tracked.
    pub trailing: Option<(Price, Time)>,
    /// When a stop or pending order came to the book. Orders without any of this work from the start.
    pub working_at: Option<Time>,
    /// How much of it the book shows at a time.
    pub iceberg_quantity: Option<Quantity>,
    /// How much self-trade prevention took off it.
    pub prevented: Quantity,
    /// Where its price came from.
    pub peg: Option<Peg>,
    /// The client's number for a strategy.
    pub strategy_id: Option<i64>,
    /// The client's kind of strategy, from 1,000,000.
    pub strategy_type: Option<i32>,
    /// The list it belongs to.
    pub order_list_id: Option<OrderListId>,
    /// How often it was amended.
    pub amends: u32,
}

impl Clone for Order {
    /// By hand and inline, so that a copy is written where it belongs: derived, it is made elsewhere and then copied whole.
    #[inline(always)]
    fn clone(&self) -> Order {
        Order { special: self.special.clone(), ..*self }
    }
}

impl Order {
    /// The quantity that can still trade.
    pub fn open_quantity(&self) -> Quantity {
        self.quantity.minus(self.executed).minus(self.prevented())
    }

    /// How much self-trade prevention took off it.
    pub fn prevented(&self) -> Quantity {
        self.special.as_ref().map_or(Quantity::ZERO, |special| special.prevented)
    }

    /// When it came to the book; `None` for a stop that has not triggered and a pending order that was not placed.
    pub fn working_at(&self) -> Option<Time> {
        let waits = self.order_type.is_stop() || self.status == OrderStatus::PendingNew;
        match &self.special {
            Some(special) if special.working_at.is_some() => special.working_at,
            _ => (!waits).then_some(self.created_at),
        }
    }

    /// The list it belongs to.
    pub fn order_list_id(&self) -> Option<OrderListId> {
        self.special.as_ref().and_then(|special| special.order_list_id)
    }

    /// What most orders do not have, made on first use.
    pub fn special_mut(&mut self) -> &mut Special {
        self.special.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_order_id_of_any_length_comes_back_as_it_was() {
        for length in 1..=ClientOrderId::MAX_LENGTH {
            for shift in 0..CHARACTERS.len() {
                let bytes = (0..length).map(|at| CHARACTERS[(at * 7 + shift) % CHARACTERS.len()]);
                let text = String::from_utf8(bytes.collect()).unwrap();
                let id = ClientOrderId::new(&text).unwrap();
                assert_eq!(&*id.as_str(), text);
                assert_eq!(ClientOrderId::from_words(id.words()), id);
            }
        }
    }

    #[test]
    fn an_id_that_is_empty_too_long_or_of_other_characters_is_none() {
        for text in ["", "a b", "ü", "a\0", &"x".repeat(37)] {
            assert_eq!(ClientOrderId::new(text), None, "{text:?}");
        }
        assert!(ClientOrderId::from_words([u32::MAX; 7]).as_str().len() <= ClientOrderId::MAX_LENGTH);
    }
}
