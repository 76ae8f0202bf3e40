//! What each market stream sends, and when.
//!
//! Trades, aggregate trades and best prices go out with the command that made them. The rest goes by the feed's clock:
//! changes of the book every 100 ms or 1 s, tickers and candles of a second every second, longer candles every two, each only where something changed or someone
//! new listens. A diff event begins with the update id after the last one's, on each cadence, whoever listens.
//!
//! Partial books are also repeated every second without a change, so that who joins a quiet market sees it.
//!
//! A candle is closed (`x:true`) once, within 100 ms of its end, when no trade can be in it any more: sequence time has
//! passed its end, or the wall clock has and no command is on its way. Only then does the next one begin to be sent.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use engine::order::Side;
use engine::symbol::Symbol;
use engine::{Price, Quantity, SymbolId, Time};
use journal::MarketTrade;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::clock;
use crate::decimals::{Decimals, push_integer};
use crate::klines::{Candle, Interval, Klines, Offset};
use crate::views::{AveragePrice, BookTicker, Catalog, Changes, DepthView, RECENT_TRADES, Ticker, Views};
use crate::ws::diff::{Diff, DiffWindow, WriteDiff};
use crate::ws::hub::{Cadence, Hub, Subscription, TimeUnit, Topic, Window};
use crate::ws::resume::{Missed, Refused};

/// How many ticks of the fast cadence make one of the slow.
const SLOW_EVERY: u64 = 10;
/// How many ticks go by between two looks at a candle; at one of a second it is [`SLOW_EVERY`].
const CANDLE_EVERY: u64 = 20;
/// How many candles of one stream are closed in one tick, should the clock have jumped.
const CLOSES_MAX: usize = 1_000;

/// The topic that a stream's name means; symbols are in small letters. `None` when nothing can ever come of it.
pub fn parse(name: &str, catalog: &Catalog) -> Option<Topic> {
    let window = |text: &str| match text {
        "1h" => Some(Window::Hour1),
        "4h" => Some(Window::Hour4),
        "1d" => Some(Window::Day1),
        _ => None,
    };
    if let Some(all) = name.strip_prefix('!') {
        // Clients of old name a pace, `!miniTicker@arr@3000ms`: there is one.
        let all =
            all.split_once("@arr@").filter(|(_, pace)| is_pace(pace)).map_or(all, |(kind, _)| &all[..kind.len() + 4]);
        return match all {
            "miniTicker@arr" => Some(Topic::AllMiniTickers),
            "ticker@arr" => Some(Topic::AllTickers),
            "bookTicker" => Some(Topic::AllBookTickers),
            _ => all.strip_prefix("ticker_")?.strip_suffix("@arr").and_then(window).map(Topic::AllRollingTickers),
        };
    }
    let (symbol, kind) = name.split_once('@')?;
    if symbol.chars().any(char::is_uppercase) {
        return None;
    }
    let id = catalog.symbol(&symbol.to_uppercase())?.id;
    if let Some(rest) = kind.strip_prefix("kline_") {
        let (interval, offset) = match rest.split_once('@') {
            Some((interval, "+08:00")) => (interval, Offset::from_minutes(8 * 60)),
            Some(_) => return None,
            None => (rest, Offset::UTC),
        };
        return Interval::parse(interval).map(|interval| Topic::Kline(id, interval, offset));
    }
    if let Some(rest) = kind.strip_prefix("ticker_") {
        return window(rest).map(|window| Topic::RollingTicker(id, window));
    }
    Some(match kind {
        "trade" => Topic::Trade(id),
        "aggTrade" => Topic::AggregateTrade(id),
        "bookTicker" => Topic::BookTicker(id),
        "miniTicker" => Topic::MiniTicker(id),
        "ticker" => Topic::Ticker(id),
        "avgPrice" => Topic::AveragePrice(id),
        "referencePrice" => Topic::ReferencePrice(id),
        // Connectors name the pace that needs no name.
        "depth" | "depth@1000ms" => Topic::Depth(id, Cadence::Slow),
        "depth@100ms" => Topic::Depth(id, Cadence::Fast),
        "depth5" | "depth5@1000ms" => Topic::PartialDepth(id, 5, Cadence::Slow),
        "depth10" | "depth10@1000ms" => Topic::PartialDepth(id, 10, Cadence::Slow),
        "depth20" | "depth20@1000ms" => Topic::PartialDepth(id, 20, Cadence::Slow),
        "depth5@100ms" => Topic::PartialDepth(id, 5, Cadence::Fast),
        "depth10@100ms" => Topic::PartialDepth(id, 10, Cadence::Fast),
        "depth20@100ms" => Topic::PartialDepth(id, 20, Cadence::Fast),
        _ => return None,
    })
}

/// Whether it is milliseconds, as in `1000ms`.
fn is_pace(text: &str) -> bool {
    text.strip_suffix("ms")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

/// Makes the market streams speak. The feed's thread owns it.
pub struct Publisher {
    hub: Arc<Hub>,
    views: Arc<Views>,
    klines: Arc<Klines>,
    ticks: u64,
    books: HashMap<SymbolId, BookChanges>,
    tickers: HashMap<(Topic, SymbolId), Ticker>,
    averages: HashMap<Topic, AveragePrice>,
    references: HashMap<Topic, Option<Price>>,
    candles: HashMap<Topic, CandleStream>,
}

/// The levels of one book that changed since each cadence last spoke.
#[derive(Default)]
struct BookChanges {
    fast: DiffWindow,
    slow: DiffWindow,
}

/// Where a stream of candles stands.
struct CandleStream {
    /// The candle that is being sent.
    open_time: Time,
    end_time: Time,
    sent: Option<Candle>,
    /// The tick from which on it is looked at again.
    due: u64,
}

impl Publisher {
    /// Nothing happened yet.
    pub fn new(hub: Arc<Hub>, views: Arc<Views>, klines: Arc<Klines>) -> Publisher {
        Publisher {
            hub,
            views,
            klines,
            ticks: 0,
            books: HashMap::new(),
            tickers: HashMap::new(),
            averages: HashMap::new(),
            references: HashMap::new(),
            candles: HashMap::new(),
        }
    }

    /// The state was replaced: what was collected no longer counts.
    pub fn reset(&mut self) {
        self.books.clear();
        self.candles.clear();
        self.hub.retained.lock().clear();
    }

    /// The views have the trades of the past again: who comes back can go on from there.
    pub fn recall(&self, symbol: SymbolId) {
        let mut retained = self.hub.retained.lock();
        let recent = retained.entry(symbol).or_default();
        self.views.recent_trades(symbol, RECENT_TRADES).iter().for_each(|trade| recent.add_trade(trade));
    }

    /// This happened; views and candles have it already.
    pub fn publish(&mut self, changes: &Changes, now: Time) {
        for change in &changes.levels {
            self.books.entry(change.symbol).or_default().fast.add(change);
        }
        let catalog = self.views.symbols();
        for run in changes.trades.chunk_by(|a, b| a.trade.symbol == b.trade.symbol) {
            let symbol = run[0].trade.symbol;
            let Some(market) = MarketText::new(&catalog, symbol) else { continue };
            // Held until it is told, so that who comes back sees it once.
            let mut retained = self.hub.retained.lock();
            let recent = retained.entry(symbol).or_default();
            run.iter().for_each(|trade| recent.add_trade(trade));
            self.hub.publish(Topic::Trade(symbol), |unit| {
                run.iter().map(|trade| market.trade(trade, unit, now).into()).collect()
            });
            self.hub.publish(Topic::AggregateTrade(symbol), |unit| {
                let aggregates = run.chunk_by(|a, b| a.trade.aggregate_id == b.trade.aggregate_id);
                aggregates.map(|trades| market.aggregate_trade(trades, unit, now).into()).collect()
            });
        }
        for run in changes.best.chunk_by(|a, b| a.0 == b.0) {
            let Some(market) = MarketText::new(&catalog, run[0].0) else { continue };
            let symbol = run[0].0;
            let encode =
                |_| run.iter().map(|(_, book)| (u64::from(symbol.0), market.book_ticker(book).into())).collect();
            self.hub.publish_keyed(Topic::BookTicker(symbol), encode);
            self.hub.publish_keyed(Topic::AllBookTickers, encode);
        }
    }

    /// 100 ms went by. Everything before `reached` is known: no trade can come any more that is earlier.
    pub fn tick(&mut self, now: Time, reached: Time) {
        self.ticks += 1;
        let slow = self.ticks.is_multiple_of(SLOW_EVERY);
        let catalog = self.views.symbols();
        let topics = self.hub.timed_topics();
        for &topic in &topics {
            match topic {
                Topic::PartialDepth(symbol, levels, cadence) => {
                    let changed = self.books.get(&symbol).is_some_and(|book| !book.fast.is_empty());
                    if slow || (cadence == Cadence::Fast && changed) {
                        self.partial_depth(&catalog, topic, symbol, levels);
                    }
                }
                Topic::Kline(symbol, interval, offset) => {
                    self.candles(&catalog, topic, (symbol, interval, offset), slow, now, reached);
                }
                _ if !slow => {}
                Topic::Ticker(symbol) | Topic::MiniTicker(symbol) | Topic::RollingTicker(symbol, _) => {
                    self.ticker(&catalog, topic, &[symbol], now);
                }
                Topic::AllTickers | Topic::AllMiniTickers | Topic::AllRollingTickers(_) => {
                    let symbols: Vec<_> = catalog.symbols.iter().map(|symbol| symbol.id).collect();
                    self.ticker(&catalog, topic, &symbols, now);
                }
                Topic::AveragePrice(symbol) => self.average_price(&catalog, topic, symbol, now),
                Topic::ReferencePrice(symbol) => self.reference_price(&catalog, topic, symbol),
                _ => {}
            }
        }
        self.diffs(&catalog, slow, now);
        if slow {
            // What nobody listens to any more is forgotten, so these are no larger than the hub.
            self.tickers.retain(|(topic, _), _| topics.contains(topic));
            self.averages.retain(|topic, _| topics.contains(topic));
            self.references.retain(|topic, _| topics.contains(topic));
            self.candles.retain(|topic, _| topics.contains(topic));
        }
    }

    fn diffs(&mut self, catalog: &Arc<Catalog>, slow: bool, now: Time) {
        for (&symbol, book) in &mut self.books {
            if book.fast.is_empty() && (!slow || book.slow.is_empty()) {
                continue;
            }
            let of_symbol = catalog.clone();
            let write: WriteDiff = Arc::new(move |window, unit| {
                let market = MarketText::new(&of_symbol, symbol);
                market.map_or_else(String::new, |market| market.depth_update(window, unit, now))
            });
            // Held until it is told, so that who comes back sees it once.
            let mut retained = self.hub.retained.lock();
            let recent = retained.entry(symbol).or_default();
            if !book.fast.is_empty() {
                let window = std::mem::take(&mut book.fast);
                book.slow.join(&window);
                let diff = Arc::new(Diff { window, write: write.clone() });
                recent.add_diff(diff.clone());
                self.hub.publish_diff(Topic::Depth(symbol, Cadence::Fast), &diff);
            }
            if slow && !book.slow.is_empty() {
                let diff = Arc::new(Diff { window: std::mem::take(&mut book.slow), write });
                recent.told_slow(diff.window.last);
                self.hub.publish_diff(Topic::Depth(symbol, Cadence::Slow), &diff);
            }
        }
    }

    fn partial_depth(&self, catalog: &Catalog, topic: Topic, symbol: SymbolId, levels: u8) {
        let Some(market) = MarketText::new(catalog, symbol) else { return };
        let depth = self.views.depth(symbol, usize::from(levels));
        self.hub.publish(topic, |_| vec![market.partial_depth(&depth).into()]);
    }

    /// The tickers of those symbols whose ticker changed, as one event for each or, for the topics of all symbols, as one array.
    fn ticker(&mut self, catalog: &Catalog, topic: Topic, symbols: &[SymbolId], now: Time) {
        let fresh = self.hub.take_fresh(topic);
        let array = matches!(topic, Topic::AllTickers | Topic::AllMiniTickers | Topic::AllRollingTickers(_));
        let mut changed = Vec::new();
        for &symbol in symbols {
            let ticker = match topic {
                Topic::RollingTicker(_, window) | Topic::AllRollingTickers(window) => {
                    self.views.rolling(symbol, window.micros(), now)
                }
                _ => self.views.ticker_24h(symbol, now),
            };
            let mut seen = ticker;
            // The window moves all the time, which is no news.
            (seen.sum.open_time, seen.sum.end_time, seen.book.update_id) = (Time(0), Time(0), 0);
            if !matches!(topic, Topic::Ticker(_) | Topic::AllTickers) {
                seen.book = BookTicker::default();
            }
            let traded = ticker.sum.close != Price(0);
            let news = self.tickers.insert((topic, symbol), seen) != Some(seen);
            if (fresh && (traded || !array)) || (news && traded) {
                changed.push((symbol, ticker));
            }
        }
        if changed.is_empty() {
            return;
        }
        self.hub.publish(topic, |unit| {
            let texts = changed.iter().filter_map(|(symbol, ticker)| {
                let market = MarketText::new(catalog, *symbol)?;
                Some(match topic {
                    Topic::Ticker(_) | Topic::AllTickers => market.ticker(ticker, unit, now),
                    Topic::MiniTicker(_) | Topic::AllMiniTickers => market.mini_ticker(ticker, unit, now),
                    Topic::RollingTicker(_, window) | Topic::AllRollingTickers(window) => {
                        market.rolling_ticker(window, ticker, unit, now)
                    }
                    _ => return None,
                })
            });
            if array {
                vec![format!("[{}]", texts.collect::<Vec<_>>().join(",")).into()]
            } else {
                texts.map(Utf8Bytes::from).collect()
            }
        });
    }

    fn average_price(&mut self, catalog: &Catalog, topic: Topic, symbol: SymbolId, now: Time) {
        let average = self.views.average_price(symbol, now);
        let news = self.averages.insert(topic, average) != Some(average);
        let Some(market) = MarketText::new(catalog, symbol) else { return };
        if self.hub.take_fresh(topic) || news {
            self.hub.publish(topic, |unit| vec![market.average_price(&average, unit, now).into()]);
        }
    }

    fn reference_price(&mut self, catalog: &Catalog, topic: Topic, symbol: SymbolId) {
        let price = self.views.reference_price(symbol);
        let news = self.references.insert(topic, price) != Some(price);
        let Some(market) = MarketText::new(catalog, symbol) else { return };
        if self.hub.take_fresh(topic) || news {
            let time = self.views.time();
            self.hub.publish(topic, |unit| vec![market.reference_price(price, unit, time).into()]);
        }
    }

    fn candles(
        &mut self,
        catalog: &Catalog,
        topic: Topic,
        (symbol, interval, offset): (SymbolId, Interval, Offset),
        slow: bool,
        now: Time,
        reached: Time,
    ) {
        let Some(market) = MarketText::new(catalog, symbol) else { return };
        let klines = &self.klines;
        let stream = self.candles.entry(topic).or_insert_with(|| CandleStream {
            open_time: interval.open_time(reached, offset),
            end_time: interval.next_open_time(reached, offset),
            sent: None,
            due: self.ticks,
        });
        let mut closed = Vec::new();
        while stream.end_time <= reached && closed.len() < CLOSES_MAX {
            closed.extend(klines.candle_at(symbol, interval, offset, stream.open_time));
            stream.open_time = stream.end_time;
            stream.end_time = interval.next_open_time(stream.open_time, offset);
            stream.sent = None;
        }
        if !closed.is_empty() {
            let keyed =
                |candle: &Candle, unit| (candle.open_time.0, market.kline(interval, candle, true, unit, now).into());
            self.hub.publish_keyed(topic, |unit| closed.iter().map(|candle| keyed(candle, unit)).collect());
            stream.due = self.ticks + CANDLE_EVERY;
        }
        let is_due = if interval == Interval::Second1 { slow } else { stream.due <= self.ticks };
        if !is_due || stream.end_time <= reached {
            return;
        }
        stream.due = self.ticks + CANDLE_EVERY;
        let Some(candle) = klines.candle_at(symbol, interval, offset, stream.open_time) else { return };
        if self.hub.take_fresh(topic) || stream.sent != Some(candle) {
            stream.sent = Some(candle);
            let key = candle.open_time.0;
            self.hub.publish_keyed(topic, |unit| vec![(key, market.kline(interval, &candle, false, unit, now).into())]);
        }
    }
}

/// A client comes back: `listen` subscribes, and the events after `from`, the last id that it has, are those it missed. Where
/// they are not kept, one event says so and the stream goes on from now.
pub fn resume(
    hub: &Hub,
    views: &Views,
    name: &str,
    topic: Topic,
    from: u64,
    unit: TimeUnit,
    listen: impl FnOnce() -> Subscription,
) -> (Subscription, Vec<String>) {
    let (Topic::Trade(symbol) | Topic::AggregateTrade(symbol) | Topic::Depth(symbol, _)) = topic else {
        let refused = Refused { first: 0, last: 0 };
        return (listen(), vec![resume_refused(name, from, refused, unit)]);
    };
    let (subscription, missed) = {
        let mut retained = hub.retained.lock();
        let missed = retained.entry(symbol).or_default().since(topic, from);
        (listen(), missed)
    };
    let (catalog, now) = (views.symbols(), clock::now());
    let Some(market) = MarketText::new(&catalog, symbol) else { return (subscription, Vec::new()) };
    let events = match missed {
        Err(refused) => vec![resume_refused(name, from, refused, unit)],
        Ok(Missed::Diffs(diffs)) => diffs.iter().map(|diff| diff.text(unit)).collect(),
        Ok(Missed::Trades(trades)) if matches!(topic, Topic::Trade(_)) => {
            trades.iter().map(|trade| market.trade(trade, unit, now)).collect()
        }
        Ok(Missed::Trades(trades)) => {
            let aggregates = trades.chunk_by(|a, b| a.trade.aggregate_id == b.trade.aggregate_id);
            aggregates.map(|trades| market.aggregate_trade(trades, unit, now)).collect()
        }
    };
    (subscription, events)
}

/// The event that says that a stream cannot go on from there; a client has to begin anew, with a snapshot or a question.
fn resume_refused(name: &str, from: u64, refused: Refused, unit: TimeUnit) -> String {
    let Refused { first, last } = refused;
    let event = serde_json::json!({
        "e": "resumeRefused", "E": unit.of(clock::now()), "stream": name, "resumeFrom": from, "first": first, "last": last,
        "msg": "Not kept from there on: resync. The stream goes on from now.",
    });
    event.to_string()
}

impl Window {
    fn micros(self) -> u64 {
        let hours = match self {
            Window::Hour1 => 1,
            Window::Hour4 => 4,
            Window::Day1 => 24,
        };
        hours * 3_600_000_000
    }

    fn name(self) -> &'static str {
        match self {
            Window::Hour1 => "1h",
            Window::Hour4 => "4h",
            Window::Day1 => "1d",
        }
    }
}

/// Writes the events of one symbol.
struct MarketText<'a> {
    symbol: &'a Symbol,
    decimals: Decimals,
}

impl<'a> MarketText<'a> {
    fn new(catalog: &'a Catalog, symbol: SymbolId) -> Option<MarketText<'a>> {
        let symbol = catalog.symbols.get(symbol.0 as usize)?;
        Some(MarketText { symbol, decimals: Decimals::new(symbol, catalog) })
    }

    /// An event's first fields; the object stays open.
    fn begin(&self, event: &str, unit: TimeUnit, now: Time) -> String {
        let mut out = String::with_capacity(256);
        out.push_str(r#"{"e":""#);
        out.push_str(event);
        out.push_str(r#"","E":"#);
        push_integer(&mut out, unit.of(now));
        out.push_str(r#","s":""#);
        self.push_name(&mut out);
        out.push('"');
        out
    }

    /// The symbol's name. Names are an operator's, so what JSON would escape is escaped.
    fn push_name(&self, out: &mut String) {
        push_escaped(out, &self.symbol.config.name);
    }

    fn price(&self, out: &mut String, key: &str, price: Price) {
        out.push_str(key);
        self.decimals.push_price(out, price);
    }

    fn quantity(&self, out: &mut String, key: &str, quantity: Quantity) {
        out.push_str(key);
        self.decimals.push_quantity(out, quantity);
    }

    fn integer(&self, out: &mut String, key: &str, number: u64) {
        out.push_str(key);
        push_integer(out, number);
    }

    fn trade(&self, trade: &MarketTrade, unit: TimeUnit, now: Time) -> String {
        let mut out = self.begin("trade", unit, now);
        self.integer(&mut out, r#","t":"#, trade.trade.trade_id.0);
        self.price(&mut out, r#","p":""#, trade.trade.price);
        self.quantity(&mut out, r#"","q":""#, trade.trade.quantity);
        self.integer(&mut out, r#"","T":"#, unit.of(trade.time));
        out.push_str(maker_flag(trade.trade.taker_side));
        out
    }

    fn aggregate_trade(&self, trades: &[MarketTrade], unit: TimeUnit, now: Time) -> String {
        let (first, last) = (&trades[0], &trades[trades.len() - 1]);
        let quantity = Quantity(trades.iter().fold(0, |sum, trade| sum.saturating_add(trade.trade.quantity.0)));
        let mut out = self.begin("aggTrade", unit, now);
        self.integer(&mut out, r#","a":"#, first.trade.aggregate_id);
        self.price(&mut out, r#","p":""#, first.trade.price);
        self.quantity(&mut out, r#"","q":""#, quantity);
        self.integer(&mut out, r#"","f":"#, first.trade.trade_id.0);
        self.integer(&mut out, r#","l":"#, last.trade.trade_id.0);
        self.integer(&mut out, r#","T":"#, unit.of(first.time));
        out.push_str(maker_flag(first.trade.taker_side));
        out
    }

    fn book_ticker(&self, book: &BookTicker) -> String {
        let mut out = String::with_capacity(160);
        self.integer(&mut out, r#"{"u":"#, book.update_id);
        out.push_str(r#","s":""#);
        self.push_name(&mut out);
        self.best(&mut out, r#"","b":""#, r#"","B":""#, book.bid);
        self.best(&mut out, r#"","a":""#, r#"","A":""#, book.ask);
        out.push_str(r#""}"#);
        out
    }

    fn best(&self, out: &mut String, price_key: &str, quantity_key: &str, best: Option<(Price, Quantity)>) {
        let (price, quantity) = best.unwrap_or((Price(0), Quantity::ZERO));
        self.price(out, price_key, price);
        self.quantity(out, quantity_key, quantity);
    }

    fn levels(&self, out: &mut String, levels: impl Iterator<Item = (Price, Quantity)>) {
        out.push('[');
        for (index, (price, quantity)) in levels.enumerate() {
            self.price(out, if index == 0 { r#"[""# } else { r#",[""# }, price);
            self.quantity(out, r#"",""#, quantity);
            out.push_str(r#""]"#);
        }
        out.push(']');
    }

    fn depth_update(&self, diff: &DiffWindow, unit: TimeUnit, now: Time) -> String {
        let mut out = self.begin("depthUpdate", unit, now);
        self.integer(&mut out, r#","U":"#, diff.first);
        self.integer(&mut out, r#","u":"#, diff.last);
        let side = |wanted: Side| {
            diff.levels
                .iter()
                .filter(move |((side, _), _)| *side == wanted)
                .map(|(&(_, price), &quantity)| (price, quantity))
        };
        out.push_str(r#","b":"#);
        // Best first on both sides.
        self.levels(&mut out, side(Side::Buy).collect::<Vec<_>>().into_iter().rev());
        out.push_str(r#","a":"#);
        self.levels(&mut out, side(Side::Sell));
        out.push('}');
        out
    }

    fn partial_depth(&self, depth: &DepthView) -> String {
        let mut out = String::with_capacity(1_024);
        self.integer(&mut out, r#"{"lastUpdateId":"#, depth.last_update_id);
        out.push_str(r#","bids":"#);
        self.levels(&mut out, depth.bids.iter().copied());
        out.push_str(r#","asks":"#);
        self.levels(&mut out, depth.asks.iter().copied());
        out.push('}');
        out
    }

    fn change(&self, out: &mut String, ticker: &Ticker) {
        out.push_str(r#","p":""#);
        self.decimals.push_price_change(out, ticker.change_ticks());
        out.push_str(r#"","P":""#);
        push_millipercent(out, ticker.change_millipercent());
        out.push('"');
    }

    fn volumes_and_ids(&self, out: &mut String, ticker: &Ticker, unit: TimeUnit) {
        let sum = &ticker.sum;
        out.push_str(r#"","v":""#);
        self.decimals.push_base(out, sum.volume);
        out.push_str(r#"","q":""#);
        self.decimals.push_quote(out, sum.quote_volume);
        self.integer(out, r#"","O":"#, unit.of(sum.open_time));
        self.integer(out, r#","C":"#, unit.of(sum.end_time));
        // Writing to a String cannot fail.
        let _ = write!(out, r#","F":{},"L":{}"#, sum.first_id(), sum.last_id());
        self.integer(out, r#","n":"#, sum.trade_count);
        out.push('}');
    }

    fn ticker(&self, ticker: &Ticker, unit: TimeUnit, now: Time) -> String {
        let sum = &ticker.sum;
        let mut out = self.begin("24hrTicker", unit, now);
        self.change(&mut out, ticker);
        out.push_str(r#","w":""#);
        self.decimals.push_quote(&mut out, ticker.weighted_average);
        self.price(&mut out, r#"","x":""#, ticker.previous_close);
        self.price(&mut out, r#"","c":""#, sum.close);
        self.quantity(&mut out, r#"","Q":""#, ticker.last_quantity);
        self.best(&mut out, r#"","b":""#, r#"","B":""#, ticker.book.bid);
        self.best(&mut out, r#"","a":""#, r#"","A":""#, ticker.book.ask);
        self.price(&mut out, r#"","o":""#, sum.open);
        self.price(&mut out, r#"","h":""#, sum.high);
        self.price(&mut out, r#"","l":""#, sum.low);
        self.volumes_and_ids(&mut out, ticker, unit);
        out
    }

    fn mini_ticker(&self, ticker: &Ticker, unit: TimeUnit, now: Time) -> String {
        let sum = &ticker.sum;
        let mut out = self.begin("24hrMiniTicker", unit, now);
        self.price(&mut out, r#","c":""#, sum.close);
        self.price(&mut out, r#"","o":""#, sum.open);
        self.price(&mut out, r#"","h":""#, sum.high);
        self.price(&mut out, r#"","l":""#, sum.low);
        out.push_str(r#"","v":""#);
        self.decimals.push_base(&mut out, sum.volume);
        out.push_str(r#"","q":""#);
        self.decimals.push_quote(&mut out, sum.quote_volume);
        out.push_str(r#""}"#);
        out
    }

    fn rolling_ticker(&self, window: Window, ticker: &Ticker, unit: TimeUnit, now: Time) -> String {
        let sum = &ticker.sum;
        let mut out = self.begin(&format!("{}Ticker", window.name()), unit, now);
        self.change(&mut out, ticker);
        self.price(&mut out, r#","o":""#, sum.open);
        self.price(&mut out, r#"","h":""#, sum.high);
        self.price(&mut out, r#"","l":""#, sum.low);
        self.price(&mut out, r#"","c":""#, sum.close);
        out.push_str(r#"","w":""#);
        self.decimals.push_quote(&mut out, ticker.weighted_average);
        self.volumes_and_ids(&mut out, ticker, unit);
        out
    }

    fn average_price(&self, average: &AveragePrice, unit: TimeUnit, now: Time) -> String {
        let mut out = self.begin("avgPrice", unit, now);
        out.push_str(r#","i":"5m","w":""#);
        self.decimals.push_quote(&mut out, average.price);
        self.integer(&mut out, r#"","T":"#, unit.of(average.last_trade_time));
        out.push('}');
        out
    }

    /// Alone among the events it has no `E`, but `t`: as of when the price holds.
    fn reference_price(&self, price: Option<Price>, unit: TimeUnit, time: Time) -> String {
        let mut out = String::with_capacity(96);
        out.push_str(r#"{"e":"referencePrice","s":""#);
        self.push_name(&mut out);
        match price {
            Some(price) => {
                self.price(&mut out, r#"","r":""#, price);
                out.push('"');
            }
            None => out.push_str(r#"","r":null"#),
        }
        self.integer(&mut out, r#","t":"#, unit.of(time));
        out.push('}');
        out
    }

    fn kline(&self, interval: Interval, candle: &Candle, closed: bool, unit: TimeUnit, now: Time) -> String {
        let end = match unit {
            TimeUnit::Millisecond => candle.close_millis(),
            TimeUnit::Microsecond => candle.end_time.0.saturating_sub(1),
        };
        let mut out = self.begin("kline", unit, now);
        self.integer(&mut out, r#","k":{"t":"#, unit.of(candle.open_time));
        self.integer(&mut out, r#","T":"#, end);
        out.push_str(r#","s":""#);
        self.push_name(&mut out);
        let _ = write!(out, r#"","i":"{}","f":{},"L":{}"#, interval.name(), candle.first_id(), candle.last_id());
        self.price(&mut out, r#","o":""#, candle.open);
        self.price(&mut out, r#"","c":""#, candle.close);
        self.price(&mut out, r#"","h":""#, candle.high);
        self.price(&mut out, r#"","l":""#, candle.low);
        out.push_str(r#"","v":""#);
        self.decimals.push_base(&mut out, candle.volume);
        self.integer(&mut out, r#"","n":"#, candle.trade_count);
        let _ = write!(out, r#","x":{closed},"q":""#);
        self.decimals.push_quote(&mut out, candle.quote_volume);
        out.push_str(r#"","V":""#);
        self.decimals.push_base(&mut out, candle.taker_buy_volume);
        out.push_str(r#"","Q":""#);
        self.decimals.push_quote(&mut out, candle.taker_buy_quote_volume);
        out.push_str(r#"","B":"0"}}"#);
        out
    }
}

/// Whether the buyer was the maker, and the field that is always true; closes the event.
fn maker_flag(taker_side: Side) -> &'static str {
    match taker_side {
        Side::Buy => r#","m":false,"M":true}"#,
        Side::Sell => r#","m":true,"M":true}"#,
    }
}

/// Thousandths of a percent with three decimals.
fn push_millipercent(out: &mut String, value: i128) {
    if value < 0 {
        out.push('-');
    }
    crate::decimals::push_amount(out, engine::Amount(value.unsigned_abs()), 3);
}

/// Writes `text` as it stands inside a JSON string.
pub(super) fn push_escaped(out: &mut String, text: &str) {
    let plain = text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\');
    if plain {
        out.push_str(text);
    } else {
        let quoted = serde_json::Value::from(text).to_string();
        out.push_str(&quoted[1..quoted.len() - 1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{listed, random_trades, symbol};
    use crate::views::{AssetInfo, LevelChange};
    use crate::ws::hub::{Form, outbox};
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    use serde_json::Value;
    use std::collections::BTreeMap;

    fn catalog() -> Catalog {
        let asset = |name: &str| AssetInfo { name: name.to_owned(), scale: 8 };
        Catalog {
            assets: vec![asset("BTC"), asset("USDT")],
            symbols: vec![symbol()],
            by_name: [("BTCUSDT".to_owned(), SymbolId(0))].into(),
            ..Catalog::default()
        }
    }

    fn publisher() -> Publisher {
        let klines = Arc::new(Klines::new());
        let views = Arc::new(Views::new(klines.clone()));
        views.restore(&listed());
        Publisher::new(Arc::new(Hub::new()), views, klines)
    }

    #[test]
    fn names_are_exact() {
        let catalog = catalog();
        let id = SymbolId(0);
        assert_eq!(parse("btcusdt@depth", &catalog), Some(Topic::Depth(id, Cadence::Slow)));
        assert_eq!(parse("btcusdt@depth20@100ms", &catalog), Some(Topic::PartialDepth(id, 20, Cadence::Fast)));
        assert_eq!(parse("btcusdt@kline_1M", &catalog), Some(Topic::Kline(id, Interval::Month1, Offset::UTC)));
        assert_eq!(
            parse("btcusdt@kline_1d@+08:00", &catalog),
            Some(Topic::Kline(id, Interval::Day1, Offset::from_minutes(480)))
        );
        assert_eq!(parse("!ticker_4h@arr", &catalog), Some(Topic::AllRollingTickers(Window::Hour4)));
        assert_eq!(parse("btcusdt@depth@1000ms", &catalog), Some(Topic::Depth(id, Cadence::Slow)));
        assert_eq!(parse("btcusdt@depth5@1000ms", &catalog), Some(Topic::PartialDepth(id, 5, Cadence::Slow)));
        assert_eq!(parse("!miniTicker@arr@3000ms", &catalog), Some(Topic::AllMiniTickers));
        assert_eq!(parse("!ticker_1h@arr@1000ms", &catalog), Some(Topic::AllRollingTickers(Window::Hour1)));
        for wrong in ["!ticker@arr@ms", "!ticker@arr@", "!bookTicker@arr", "btcusdt@depth@500ms"] {
            assert_eq!(parse(wrong, &catalog), None, "{wrong}");
        }
        for wrong in ["BTCUSDT@trade", "ethusdt@trade", "btcusdt@depth7", "btcusdt", "", "@", "btcusdt@kline_7m", "!x"]
        {
            assert_eq!(parse(wrong, &catalog), None, "{wrong}");
        }
    }

    /// Both cadences, joined in the middle, under random changes: no gap, absolute quantities, the last word of each level.
    #[test]
    fn diffs_follow_one_another_on_each_cadence_and_add_up_to_the_book() {
        for seed in 0..20 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut publisher = publisher();
            let mut inboxes = [Cadence::Fast, Cadence::Slow].map(|cadence| {
                let (outbox, inbox) = outbox();
                let topic = Topic::Depth(SymbolId(0), cadence);
                (publisher.hub.subscribe(topic, &outbox, Form::Raw, TimeUnit::Millisecond), inbox)
            });
            let mut book = BTreeMap::<(bool, u64), u64>::new();
            let mut update_id = 0;
            for _ in 0..200 {
                let mut changes = Changes::default();
                for _ in 0..random.random_range(0..4) {
                    update_id += 1;
                    let (buys, price, quantity) =
                        (random.random(), random.random_range(1..8), random.random_range(0..3));
                    book.insert((buys, price), quantity);
                    changes.levels.push(LevelChange {
                        symbol: SymbolId(0),
                        side: if buys { Side::Buy } else { Side::Sell },
                        price: Price(price),
                        quantity: Quantity(quantity),
                        update_id,
                    });
                }
                publisher.publish(&changes, Time(0));
                if random.random_range(0..3) == 0 {
                    publisher.tick(Time(0), Time(0));
                }
            }
            (0..SLOW_EVERY).for_each(|_| publisher.tick(Time(0), Time(0)));
            for (_, inbox) in &mut inboxes {
                let (mut last, mut copy) = (0, BTreeMap::<(bool, u64), u64>::new());
                while let Some(batch) = inbox.try_next() {
                    let event: Value = serde_json::from_str(batch[0].as_str()).unwrap();
                    assert_eq!(event["U"], last + 1, "seed {seed}");
                    last = event["u"].as_u64().unwrap();
                    for (key, buys) in [("b", true), ("a", false)] {
                        for level in event[key].as_array().unwrap() {
                            let units = |index: usize| level[index].as_str().unwrap().replace('.', "").parse::<u64>();
                            let (price, quantity) = (units(0).unwrap() / 1_000_000, units(1).unwrap() / 1_000);
                            assert!(quantity > 0 || level[1] == "0.00000000");
                            copy.insert((buys, price), quantity);
                        }
                    }
                }
                assert_eq!((last, &copy), (update_id, &book), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_candle_is_closed_once_also_when_it_is_empty_and_never_before_its_end() {
        let mut publisher = publisher();
        let (outbox, mut inbox) = outbox();
        let topic = Topic::Kline(SymbolId(0), Interval::Second1, Offset::UTC);
        let trades = random_trades(5, 200, 5_000_000);
        publisher.views.recall_trade(&trades[0]);
        let _listening = publisher.hub.subscribe(topic, &outbox, Form::Raw, TimeUnit::Millisecond);
        let (mut now, mut next) = (trades[0].time.0, 1);
        let end = trades.last().unwrap().time.0 + 5_000_000;
        let mut expected = None;
        while now < end {
            while next < trades.len() && trades[next].time.0 <= now {
                publisher.views.recall_trade(&trades[next]);
                next += 1;
            }
            publisher.tick(Time(now), Time(now));
            while let Some(batch) = inbox.try_next() {
                for message in batch.iter() {
                    let event: Value = serde_json::from_str(message.as_str()).unwrap();
                    let start = event["k"]["t"].as_u64().unwrap();
                    assert_eq!(start, *expected.get_or_insert(start));
                    let candle =
                        publisher.klines.candle_at(SymbolId(0), Interval::Second1, Offset::UTC, Time(start * 1_000));
                    assert_eq!(event["k"]["n"], candle.unwrap().trade_count);
                    if event["k"]["x"] == true {
                        assert!(now / 1_000 >= start + 1_000);
                        expected = Some(start + 1_000);
                    }
                }
            }
            now += 100_000;
        }
        assert!(expected.unwrap() * 1_000 + 2_000_000 >= end);
    }

    #[test]
    fn an_empty_minute_is_closed_flat_within_a_tick_of_its_end_and_the_next_one_is_told_two_seconds_later() {
        let mut publisher = publisher();
        let (outbox, mut inbox) = outbox();
        let mut trade = random_trades(5, 1, 0)[0];
        let minute = 60_000_000;
        trade.time = Time(28_400_000 * minute + 59_000_000);
        (trade.trade.price, trade.trade.quantity) = (Price(6_000_012), Quantity(250_000));
        publisher.views.recall_trade(&trade);
        let topic = Topic::Kline(SymbolId(0), Interval::Minute1, Offset::UTC);
        let _listening = publisher.hub.subscribe(topic, &outbox, Form::Raw, TimeUnit::Millisecond);
        let mut told = Vec::new();
        let begin = 28_400_001 * minute + 55_530_000;
        for tick in 0..100 {
            let now = Time(begin + tick * 100_000);
            publisher.tick(now, now);
            while let Some(batch) = inbox.try_next() {
                told.extend(batch.iter().map(|message| (now.0, message.as_str().to_owned())));
            }
        }
        let text = |now: u64, open: u64, is_closed: bool| {
            format!(
                concat!(
                    r#"{{"e":"kline","E":{},"s":"BTCUSDT","k":{{"t":{},"T":{},"s":"BTCUSDT","i":"1m","f":-1,"L":-1,"#,
                    r#""o":"60000.12000000","c":"60000.12000000","h":"60000.12000000","l":"60000.12000000","#,
                    r#""v":"0.00000000","n":0,"x":{},"q":"0.00000000","V":"0.00000000","Q":"0.00000000","B":"0"}}}}"#
                ),
                now / 1_000,
                open / 1_000,
                (open + minute) / 1_000 - 1,
                is_closed,
            )
        };
        let (open, end) = (28_400_001 * minute, 28_400_002 * minute);
        let closed = told.iter().position(|(_, text)| text.contains(r#""x":true"#)).expect("it is closed");
        let at = told[closed].0;
        assert!((end..end + 100_000).contains(&at), "{at}");
        assert_eq!(told[closed].1, text(at, open, true));
        assert_eq!(told[closed - 1].1, text(told[closed - 1].0, open, false));
        let (next, then) = &told[closed + 1];
        assert_eq!(*next, at + 2_000_000);
        assert_eq!(*then, text(*next, end, false));
        // Without a change there is nothing to tell.
        assert_eq!(told.len(), closed + 2);
    }

    #[test]
    fn every_event_is_json_with_the_documented_keys() {
        let catalog = catalog();
        let market = MarketText::new(&catalog, SymbolId(0)).unwrap();
        let trades = random_trades(1, 3, 1_000);
        let (now, unit) = (Time(1_704_000_000_123_456), TimeUnit::Millisecond);
        let keys = |text: &str| {
            let value: Value = serde_json::from_str(text).unwrap();
            let value = value.get("k").cloned().unwrap_or(value);
            let mut keys: Vec<_> =
                value.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>().join(" ").into_bytes();
            keys.sort_unstable();
            let text = String::from_utf8(keys).unwrap();
            text.trim().to_owned()
        };
        let sorted = |text: &str| {
            let mut bytes = text.to_owned().into_bytes();
            bytes.sort_unstable();
            String::from_utf8(bytes).unwrap().trim().to_owned()
        };
        let candle = Candle::flat(Time(0), Time(60_000_000), Price(1));
        let book = BookTicker { update_id: 7, bid: None, ask: Some((Price(1), Quantity(1))) };
        let mut ticker = publisher().views.ticker_24h(SymbolId(0), now);
        ticker.book = book;
        for (text, expected) in [
            (market.trade(&trades[0], unit, now), "e E s t p q T m M"),
            (market.aggregate_trade(&trades, unit, now), "e E s a p q f l T m M"),
            (market.book_ticker(&book), "u s b B a A"),
            (market.ticker(&ticker, unit, now), "e E s p P w x c Q b B a A o h l v q O C F L n"),
            (market.mini_ticker(&ticker, unit, now), "e E s c o h l v q"),
            (market.rolling_ticker(Window::Hour1, &ticker, unit, now), "e E s p P o h l c w v q O C F L n"),
            (market.kline(Interval::Minute1, &candle, true, unit, now), "t T s i f L o c h l v n x q V Q B"),
            (market.depth_update(&DiffWindow::default(), unit, now), "e E s U u b a"),
        ] {
            assert_eq!(keys(&text), sorted(expected), "{text}");
        }
        let trade: Value = serde_json::from_str(&market.trade(&trades[0], unit, now)).unwrap();
        assert_eq!(trade["E"], 1_704_000_000_123_u64);
        assert_eq!(
            market.book_ticker(&book),
            r#"{"u":7,"s":"BTCUSDT","b":"0.00000000","B":"0.00000000","a":"0.01000000","A":"0.00001000"}"#
        );
    }
}
