//! What a message of a stream says of a price, in the form of Binance's streams: `bookTicker`, `trade`, `aggTrade`.

use std::borrow::Cow;

use rust_decimal::Decimal;
use serde::Deserialize;

/// The longest name of a symbol outside.
const SYMBOL_MAX: usize = 32;

/// A price of a symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// Its name outside, in capitals.
    pub symbol: String,
    /// What is bid.
    pub bid: Decimal,
    /// What is asked; the same where it is the price of a trade.
    pub ask: Decimal,
    /// Whether it is the price of a trade.
    pub is_trade: bool,
    /// When the venue said so, in milliseconds, where it tells.
    pub at_ms: Option<u64>,
}

/// What a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A price.
    Price(Price),
    /// Something else that venues say.
    Other,
}

/// The fields that tell them apart. A trade has a price and an event; the top of a book may have no event at all.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, rename = "e")]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "s")]
    symbol: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "p")]
    price: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "b")]
    bid: Option<Field<'a>>,
    #[serde(borrow, rename = "a")]
    ask: Option<Field<'a>>,
    #[serde(rename = "T")]
    traded_at: Option<u64>,
    #[serde(rename = "E")]
    said_at: Option<u64>,
}

/// `b` and `a` are prices of a book ticker, lists in other events, and numbers of orders in a trade.
#[derive(Deserialize)]
#[serde(untagged)]
enum Field<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Combined<'a> {
    #[serde(borrow)]
    data: Option<&'a serde_json::value::RawValue>,
}

/// The event in a message, which may come in the envelope of a combined stream.
pub fn event_of(message: &str) -> Option<&str> {
    let Combined { data } = serde_json::from_str(message).ok()?;
    Some(data.map_or(message, |data| data.get()))
}

/// What a message says; nothing where it is no JSON, or no price that can be.
pub fn read(message: &str) -> Option<Said> {
    let fields: Fields = serde_json::from_str(event_of(message)?).ok()?;
    let is_trade = matches!(fields.event.as_deref(), Some("trade" | "aggTrade"));
    let is_ticker = matches!(fields.event.as_deref(), None | Some("bookTicker"));
    let (bid, ask) = match (&fields.price, &fields.bid, &fields.ask) {
        (Some(price), ..) if is_trade => (price, price),
        (_, Some(Field::Text(bid)), Some(Field::Text(ask))) if is_ticker => (bid, ask),
        _ => return Some(Said::Other),
    };
    let number = |text: &str| Decimal::from_str_exact(text).ok().filter(|price| !price.is_sign_negative());
    let (bid, ask) = (number(bid)?, number(ask)?);
    let symbol = fields.symbol.filter(|symbol| (1..=SYMBOL_MAX).contains(&symbol.len()))?;
    if bid.is_zero() || ask.is_zero() {
        // A side of the book is empty.
        return Some(Said::Other);
    }
    let fits = bid <= ask;
    let at_ms = fields.traded_at.or(fields.said_at);
    fits.then(|| Said::Price(Price { symbol: symbol.to_uppercase(), bid, ask, is_trade, at_ms }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prices(message: &str) -> Option<(String, String, String, Option<u64>)> {
        match read(message)? {
            Said::Price(Price { symbol, bid, ask, at_ms, .. }) => {
                Some((symbol, bid.to_string(), ask.to_string(), at_ms))
            }
            Said::Other => None,
        }
    }

    #[test]
    fn prices_are_read_in_every_form_they_come_in() {
        let ticker = r#"{"u":1,"s":"BTCUSDT","b":"61685.99000000","B":"1.2","a":"61686.00000000","A":"2.4"}"#;
        let told = ("BTCUSDT".to_owned(), "61685.99000000".to_owned(), "61686.00000000".to_owned(), None);
        assert_eq!(prices(ticker), Some(told.clone()));
        assert_eq!(prices(&format!(r#"{{"stream":"btcusdt@bookTicker","data":{ticker}}}"#)), Some(told.clone()));
        let of_futures = ticker.replace("{\"u\"", r#"{"e":"bookTicker","E":7,"T":5,"u""#);
        assert_eq!(prices(&of_futures), Some((told.0, told.1, told.2, Some(5))));
        let trade =
            r#"{"e":"trade","E":9,"s":"ETHUSDT","t":1,"p":"2.5","q":"1","b":88,"a":50,"T":8,"m":true,"M":true}"#;
        assert_eq!(prices(trade), Some(("ETHUSDT".into(), "2.5".into(), "2.5".into(), Some(8))));
    }

    #[test]
    fn other_events_are_no_prices_and_nonsense_is_not_believed() {
        let depth = r#"{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":1,"u":2,"b":[["1","2"]],"a":[]}"#;
        assert_eq!(read(depth), Some(Said::Other));
        assert_eq!(read(r#"{"result":null,"id":1}"#), Some(Said::Other));
        assert_eq!(read(r#"{"s":"A","b":"0.00","a":"1"}"#), Some(Said::Other), "a side of the book is empty");
        for wrong in [
            "",
            "7",
            "[",
            r#"{"s":"A","b":"2","a":"1"}"#,
            r#"{"s":"A","b":"x","a":"1"}"#,
            r#"{"b":"1","a":"1"}"#,
            r#"{"e":"trade","s":"A","p":"-1"}"#,
            r#"{"e":"trade","s":"A","p":"1e999"}"#,
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
