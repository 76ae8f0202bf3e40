//! What can be listened to, and in which form.

use std::borrow::Cow;
use std::sync::Arc;

use engine::{SymbolId, Uid};

use crate::klines::{Interval, Offset};

/// What can be listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// `<symbol>@trade`
    Trade(SymbolId),
    /// `<symbol>@aggTrade`
    AggregateTrade(SymbolId),
    /// `<symbol>@bookTicker`
    BookTicker(SymbolId),
    /// `!bookTicker`
    AllBookTickers,
    /// `<symbol>@depth` and `<symbol>@depth@100ms`
    Depth(SymbolId, Cadence),
    /// `<symbol>@depth<levels>` and `<symbol>@depth<levels>@100ms`
    PartialDepth(SymbolId, u8, Cadence),
    /// `<symbol>@miniTicker`
    MiniTicker(SymbolId),
    /// `!miniTicker@arr`
    AllMiniTickers,
    /// `<symbol>@ticker`
    Ticker(SymbolId),
    /// `!ticker@arr`
    AllTickers,
    /// `<symbol>@ticker_<window>`
    RollingTicker(SymbolId, Window),
    /// `!ticker_<window>@arr`
    AllRollingTickers(Window),
    /// `<symbol>@avgPrice`
    AveragePrice(SymbolId),
    /// `<symbol>@referencePrice`
    ReferencePrice(SymbolId),
    /// `<symbol>@kline_<interval>` and `<symbol>@kline_<interval>@+08:00`
    Kline(SymbolId, Interval, Offset),
    /// What happens to one account.
    User(Uid),
}

/// How often a stream of the book's changes speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cadence {
    /// Every 100 ms.
    Fast,
    /// Every second.
    Slow,
}

/// The windows of the rolling tickers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// `1h`
    Hour1,
    /// `4h`
    Hour4,
    /// `1d`
    Day1,
}

impl Topic {
    /// Whether the feed's clock, and not an event, makes it speak.
    pub fn is_timed(self) -> bool {
        !matches!(
            self,
            Topic::Trade(_) | Topic::AggregateTrade(_) | Topic::BookTicker(_) | Topic::AllBookTickers | Topic::User(_)
        )
    }

    /// Which kind of stream it is, for who counts them.
    pub fn kind(self) -> &'static str {
        match self {
            Topic::Trade(_) => "trade",
            Topic::AggregateTrade(_) => "aggTrade",
            Topic::BookTicker(_) => "bookTicker",
            Topic::AllBookTickers => "!bookTicker",
            Topic::Depth(..) => "depth",
            Topic::PartialDepth(..) => "depth<levels>",
            Topic::MiniTicker(_) => "miniTicker",
            Topic::AllMiniTickers => "!miniTicker@arr",
            Topic::Ticker(_) => "ticker",
            Topic::AllTickers => "!ticker@arr",
            Topic::RollingTicker(..) => "ticker_<window>",
            Topic::AllRollingTickers(_) => "!ticker_<window>@arr",
            Topic::AveragePrice(_) => "avgPrice",
            Topic::ReferencePrice(_) => "referencePrice",
            Topic::Kline(..) => "kline",
            Topic::User(_) => "user",
        }
    }

    /// What is kept of it for those who do not keep up.
    pub fn keeping(self) -> Keeping {
        match self {
            // An array has only what changed since the one before, so none replaces another.
            Topic::Trade(_)
            | Topic::AggregateTrade(_)
            | Topic::User(_)
            | Topic::AllTickers
            | Topic::AllMiniTickers
            | Topic::AllRollingTickers(_) => Keeping::All,
            Topic::Depth(..) => Keeping::Diffs,
            _ => Keeping::Last,
        }
    }
}

/// The unit of the times in a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeUnit {
    /// As everyone knows it.
    #[default]
    Millisecond,
    /// `timeUnit=MICROSECOND` in the URL.
    Microsecond,
}

impl TimeUnit {
    /// A time in this unit.
    pub fn of(self, time: engine::Time) -> u64 {
        match self {
            TimeUnit::Millisecond => time.millis(),
            TimeUnit::Microsecond => time.0,
        }
    }
}

/// In which form a subscriber wants its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// The event alone.
    Raw,
    /// `{"stream":…,"data":…}` with the stream's name.
    Combined(Arc<str>),
    /// The event alone, through a listen key.
    ListenKey(Arc<str>),
    /// `{"stream":…,"data":…}` with the listen key.
    CombinedListenKey(Arc<str>),
    /// `{"subscriptionId":…,"event":…}`
    Subscription(u64),
}

impl Form {
    /// The event in this form.
    pub fn wrap<'a>(&self, event: &'a str) -> Cow<'a, str> {
        match self {
            Form::Raw | Form::ListenKey(_) => event.into(),
            // Neither a stream's name nor a listen key has a character that JSON would escape.
            Form::Combined(name) | Form::CombinedListenKey(name) => {
                format!(r#"{{"stream":"{name}","data":{event}}}"#).into()
            }
            Form::Subscription(id) => format!(r#"{{"subscriptionId":{id},"event":{event}}}"#).into(),
        }
    }

    /// The listen key it came through.
    pub fn listen_key(&self) -> Option<&str> {
        match self {
            Form::ListenKey(key) | Form::CombinedListenKey(key) => Some(key),
            _ => None,
        }
    }
}

/// What is kept of a stream for those who do not keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// Every event; who misses one is cut off.
    All,
    /// The last event of each kind: an older one says nothing any more.
    Last,
    /// Changes of a book, which can be joined to one.
    Diffs,
}
