//! Market data: what is listed, books, trades, candles, tickers. All of it comes from the views, older trades from history.

use std::sync::Arc;

use engine::event::Trade;
use engine::order::{SelfTradePrevention, Side};
use engine::symbol::Symbol;
use engine::{Amount, Price, Quantity, SymbolId, Time};
use journal::{History, HistoryError, MarketTrade, Page};
use serde::Serialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::trade::{ROWS, ROWS_MAX, parse_page, parse_time};
use super::{Call, Handling, Reply, at_once};
use crate::app::App;
use crate::klines::{Candle, Interval, Offset, Query};
use crate::params::Params;
use crate::views::{AVERAGE_PRICE_MINUTES, AggregateTrade, Catalog, Ticker};
use crate::wire::{self, Numbers, amount_text, symbol_status_word};
use crate::ws::hub::TimeUnit;

/// Symbols in GET executionRules beyond which it weighs no more, and what each weighs.
const RULES_WEIGHT_MAX: u32 = 40;
const RULES_WEIGHT: u32 = 2;
/// What an operator sets has no number of its own.
const EXTERNAL_CALCULATION: u32 = 0;
/// Levels of a side in GET depth: when not said, and at the most.
const LEVELS: usize = 100;
const LEVELS_MAX: usize = 5_000;
/// The most symbols of a rolling ticker.
const ROLLING_SYMBOLS_MAX: usize = 100;
const MINUTE: u64 = 60_000_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// GET ping.
pub fn ping(_app: &Arc<App>, call: Call) -> Handling {
    at_once(call.params.finish().map(|()| Reply::of(&json!({}))))
}

/// GET time.
pub fn time(_app: &Arc<App>, call: Call) -> Handling {
    at_once(call.params.finish().map(|()| Reply::of(&json!({ "serverTime": call.unit.of(call.now) }))))
}

/// GET exchangeInfo.
pub fn exchange_info(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let catalog = app.outlets.views.symbols();
        let named = call.params.symbols(&catalog)?;
        let permissions = call.params.optional("permissions")?;
        let status = symbol_status(&mut call.params)?;
        call.params.boolean("showPermissionSets")?;
        call.params.finish()?;
        if named.is_some() && (permissions.is_some() || status.is_some()) {
            return Err(ApiError::bad_combination());
        }
        let spot = permissions.is_none_or(|permissions| permissions.contains("SPOT"));
        let all = catalog.symbols.iter().filter(|symbol| spot && has_status(symbol, status));
        let symbols: Vec<&Symbol> = named.unwrap_or_else(|| all.collect());
        Ok(Reply::of(&json!({
            "timezone": "UTC",
            "serverTime": call.unit.of(call.now),
            "rateLimits": rate_limits(app),
            "exchangeFilters": super::filters::of_exchange(&catalog.limits),
            "symbols": symbols.iter().map(|symbol| symbol_info(symbol, &catalog)).collect::<Vec<_>>(),
        })))
    })())
}

/// What limits there are, as exchangeInfo tells them.
fn rate_limits(app: &App) -> Vec<Value> {
    let limit = app.config.limits.request_weight_per_minute;
    let weight = json!({ "rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": limit });
    let mut rows = super::account::order_count_rows(app, None, app.outlets.views.time());
    rows.insert(0, weight);
    let limit = app.config.limits.raw_requests_per_5_minutes;
    if limit > 0 {
        rows.push(json!({ "rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": limit }));
    }
    rows
}

fn symbol_info(symbol: &Symbol, catalog: &Catalog) -> Value {
    let config = &symbol.config;
    let numbers = Numbers::new(symbol, catalog, TimeUnit::Millisecond);
    let (base, quote) = (numbers.base_scale(), numbers.quote_scale());
    let name = |asset: engine::AssetId| &catalog.assets[asset.0 as usize].name;
    let word = |mode: &SelfTradePrevention| wire::self_trade_prevention_word(*mode);
    let is_quote_driven = catalog.quote_driven.contains_key(&symbol.id);
    json!({
        "symbol": config.name,
        "status": symbol_status_word(symbol.status),
        "baseAsset": name(config.base),
        "baseAssetPrecision": base,
        "quoteAsset": name(config.quote),
        "quotePrecision": quote,
        "quoteAssetPrecision": quote,
        "baseCommissionPrecision": base,
        "quoteCommissionPrecision": quote,
        "orderTypes": wire::ORDER_TYPES.map(wire::type_word),
        "icebergAllowed": !is_quote_driven,
        "ocoAllowed": true,
        "otoAllowed": true,
        "opoAllowed": true,
        "quoteOrderQtyMarketAllowed": true,
        "allowTrailingStop": true,
        "cancelReplaceAllowed": true,
        "amendAllowed": true,
        "pegInstructionsAllowed": !is_quote_driven,
        "isSpotTradingAllowed": true,
        "isMarginTradingAllowed": false,
        "filters": super::filters::of_symbol(&numbers),
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": word(&config.default_self_trade_prevention),
        "allowedSelfTradePreventionModes":
            config.allowed_self_trade_prevention.iter().map(word).collect::<Vec<_>>(),
    })
}

/// The status that a symbol must have to be told of; some of them no symbol has here.
fn symbol_status(params: &mut Params) -> Result<Option<&'static str>, ApiError> {
    const WORDS: [&str; 5] = ["TRADING", "END_OF_DAY", "HALT", "BREAK", "CANCEL_ONLY"];
    let parse = |word: &str| WORDS.into_iter().find(|known| *known == word);
    params.word("symbolStatus", parse, ApiError::invalid_symbol_status)
}

fn has_status(symbol: &Symbol, status: Option<&str>) -> bool {
    status.is_none_or(|status| symbol_status_word(symbol.status) == status)
}

/// Weight of GET executionRules.
pub fn rules_weight(params: &Params) -> u32 {
    let symbols = symbols_asked(params).and_then(|symbols| u32::try_from(symbols).ok());
    symbols.map_or(RULES_WEIGHT_MAX, |symbols| symbols.saturating_mul(RULES_WEIGHT).min(RULES_WEIGHT_MAX))
}

/// GET executionRules.
pub fn execution_rules(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let catalog = app.outlets.views.symbols();
        let named = call.params.symbols(&catalog)?;
        let status = symbol_status(&mut call.params)?;
        call.params.finish()?;
        if named.is_some() && status.is_some() {
            return Err(ApiError::bad_combination());
        }
        let all = || catalog.symbols.iter().filter(|symbol| has_status(symbol, status)).collect();
        let rows = named.unwrap_or_else(all).into_iter().map(|symbol| {
            let rules: Vec<Value> = symbol.config.execution_range.iter().map(super::filters::execution_rule).collect();
            json!({ "symbol": symbol.config.name, "rules": rules })
        });
        Ok(Reply::of(&json!({ "symbolRules": rows.collect::<Vec<_>>() })))
    })())
}

/// GET referencePrice: what an operator says that the symbol is worth.
pub fn reference_price(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let catalog = app.outlets.views.symbols();
        let symbol = call.params.symbol(&catalog)?;
        call.params.finish()?;
        let price = app.outlets.views.reference_price(symbol.id).ok_or_else(ApiError::no_reference_price)?;
        let numbers = Numbers::new(symbol, &catalog, call.unit);
        Ok(Reply::of(&json!({
            "symbol": symbol.config.name,
            "referencePrice": numbers.price(price),
            "timestamp": numbers.time(app.outlets.views.time()),
        })))
    })())
}

/// GET referencePrice/calculation.
pub fn reference_calculation(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let catalog = app.outlets.views.symbols();
        let symbol = call.params.symbol(&catalog)?;
        let status = symbol_status(&mut call.params)?;
        call.params.finish()?;
        if !has_status(symbol, status) {
            return Err(ApiError::symbol_status_mismatch());
        }
        app.outlets.views.reference_price(symbol.id).ok_or_else(ApiError::no_reference_price)?;
        Ok(Reply::of(&json!({
            "symbol": symbol.config.name,
            "calculationType": "EXTERNAL",
            "externalCalculationId": EXTERNAL_CALCULATION,
        })))
    })())
}

/// GET historicalBlockTrades: there are none, since nobody can make one.
pub fn block_trades(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let catalog = app.outlets.views.symbols();
        call.params.symbol(&catalog)?;
        call.params.required_integer("fromId")?;
        call.params.limit(ROWS, ROWS_MAX)?;
        call.params.finish()?;
        Ok(Reply::of(&json!([])))
    })())
}

/// Weight of GET depth.
pub fn depth_weight(params: &Params) -> u32 {
    match params.peek("limit").and_then(|limit| limit.parse::<usize>().ok()).unwrap_or(LEVELS) {
        0..=100 => 5,
        101..=500 => 25,
        501..=1_000 => 50,
        _ => 250,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DepthShape {
    last_update_id: u64,
    bids: Vec<(String, String)>,
    asks: Vec<(String, String)>,
}

/// GET depth.
pub fn depth(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let catalog = app.outlets.views.symbols();
        let symbol = call.params.symbol(&catalog)?;
        let limit = call.params.limit(LEVELS, LEVELS_MAX)?;
        let status = symbol_status(&mut call.params)?;
        call.params.finish()?;
        if !has_status(symbol, status) {
            return Err(ApiError::symbol_status_mismatch());
        }
        let numbers = Numbers::new(symbol, &catalog, call.unit);
        let level = |&(price, quantity): &(Price, Quantity)| (numbers.price(price), numbers.quantity(quantity));
        let depth = app.outlets.views.depth(symbol.id, limit);
        Ok(Reply::of(&DepthShape {
            last_update_id: depth.last_update_id,
            bids: depth.bids.iter().map(level).collect(),
            asks: depth.asks.iter().map(level).collect(),
        }))
    })())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TradeShape {
    id: u64,
    price: String,
    qty: String,
    quote_qty: String,
    time: u64,
    is_buyer_maker: bool,
    is_best_match: bool,
}

fn trade_shape(row: &MarketTrade, numbers: &Numbers) -> TradeShape {
    TradeShape {
        id: row.trade.trade_id.0,
        price: numbers.price(row.trade.price),
        qty: numbers.quantity(row.trade.quantity),
        quote_qty: numbers.quote(row.trade.quote_amount),
        time: numbers.time(row.time),
        is_buyer_maker: row.trade.taker_side == Side::Sell,
        is_best_match: true,
    }
}

fn trade_rows(rows: &[MarketTrade], numbers: &Numbers) -> Reply {
    Reply::of(&rows.iter().map(|row| trade_shape(row, numbers)).collect::<Vec<_>>())
}

/// GET trades.
pub fn trades(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let catalog = app.outlets.views.symbols();
        let symbol = call.params.symbol(&catalog)?;
        let limit = call.params.limit(ROWS, ROWS_MAX)?;
        call.params.finish()?;
        let rows = app.outlets.views.recent_trades(symbol.id, limit);
        Ok(trade_rows(&rows, &Numbers::new(symbol, &catalog, call.unit)))
    })())
}

/// GET historicalTrades.
pub fn historical_trades(app: &Arc<App>, mut call: Call) -> Handling {
    let app = app.clone();
    Box::pin(async move {
        let catalog = app.outlets.views.symbols();
        let symbol = call.params.symbol(&catalog)?;
        let limit = call.params.limit(ROWS, ROWS_MAX)?;
        let from_id = call.params.integer("fromId")?;
        call.params.finish()?;
        let (id, page) = (symbol.id, from_id.map_or(Page::Latest { until: None }, Page::FromId));
        let rows = app.read_history(move |history| history.trades(id, page, limit)).await?;
        Ok(trade_rows(&rows, &Numbers::new(symbol, &catalog, call.unit)))
    })
}

/// A row of GET aggTrades.
#[derive(Serialize)]
struct AggregateTradeShape {
    a: u64,
    p: String,
    q: String,
    f: u64,
    l: u64,
    #[serde(rename = "T")]
    time: u64,
    m: bool,
    #[serde(rename = "M")]
    is_best_match: bool,
}

/// GET aggTrades.
pub fn aggregate_trades(app: &Arc<App>, mut call: Call) -> Handling {
    let app = app.clone();
    Box::pin(async move {
        let catalog = app.outlets.views.symbols();
        let symbol = call.params.symbol(&catalog)?;
        let limit = call.params.limit(ROWS, ROWS_MAX)?;
        let from_id = call.params.integer("fromId")?;
        let page = parse_page(&mut call.params, None, None)?;
        call.params.finish()?;
        if from_id.is_some() && page != (Page::Latest { until: None }) {
            return Err(ApiError::bad_combination());
        }
        let id = symbol.id;
        let rows = if from_id.is_none() && page == (Page::Latest { until: None }) {
            app.outlets.views.recent_aggregates(id, limit)
        } else {
            app.read_history(move |history| read_aggregates(history, id, from_id, page, limit)).await?
        };
        let numbers = Numbers::new(symbol, &catalog, call.unit);
        let shape = |row: &AggregateTrade| AggregateTradeShape {
            a: row.id,
            p: numbers.price(row.price),
            q: numbers.quantity(row.quantity),
            f: row.first_trade_id.0,
            l: row.last_trade_id.0,
            time: numbers.time(row.time),
            m: row.taker_side == Side::Sell,
            is_best_match: true,
        };
        Ok(Reply::of(&rows.iter().map(shape).collect::<Vec<_>>()))
    })
}

/// Trades that history is asked for at a time, to be put together.
const AGGREGATION_ROWS: usize = 4_096;

/// Reads trades and puts them together until there are `limit` aggregates. All trades of one have the same time, so
/// where time cuts, it cuts between two.
fn read_aggregates(
    history: &History,
    symbol: SymbolId,
    from_id: Option<u64>,
    page: Page,
    limit: usize,
) -> Result<Vec<AggregateTrade>, HistoryError> {
    let (from_id, end) = match (from_id, page) {
        (None, Page::Latest { until }) => {
            let newest = history.trades(symbol, page, 1)?;
            let Some(newest) = newest.last() else { return Ok(Vec::new()) };
            // Aggregate ids have no holes, so the first of the last `limit` is known.
            (Some((newest.trade.aggregate_id + 1).saturating_sub(limit as u64)), until)
        }
        (None, Page::FromTime { end, .. }) => (None, end),
        (from_id, _) => (from_id, None),
    };
    let mut next = match from_id {
        None => page,
        Some(id) => match first_trade_of(history, symbol, id)? {
            None => return Ok(Vec::new()),
            Some(trade_id) => Page::FromId(trade_id),
        },
    };
    let mut rows: Vec<AggregateTrade> = Vec::new();
    loop {
        let trades = history.trades(symbol, next, AGGREGATION_ROWS)?;
        let in_time = |row: &&MarketTrade| end.is_none_or(|end| row.time <= end);
        trades.iter().take_while(in_time).for_each(|row| add_to_aggregates(&mut rows, row));
        match trades.last() {
            // The last one may have more trades.
            Some(last) if trades.len() == AGGREGATION_ROWS && rows.len() <= limit && in_time(&last) => {
                next = Page::FromId(last.trade.trade_id.0 + 1);
            }
            _ => break,
        }
    }
    rows.truncate(limit);
    Ok(rows)
}

/// The first trade of the aggregate `id`, or of the first one after it. Both kinds of id ascend together, and trade ids
/// have no holes, so halving finds it.
fn first_trade_of(history: &History, symbol: SymbolId, id: u64) -> Result<Option<u64>, HistoryError> {
    let newest = history.trades(symbol, Page::Latest { until: None }, 1)?;
    let Some(newest) = newest.last().filter(|row| row.trade.aggregate_id >= id) else { return Ok(None) };
    // There are never more aggregates than trades, so it is not before the trade of that number.
    let (mut low, mut high) = (id.max(1), newest.trade.trade_id.0);
    while low < high {
        let middle = low + (high - low) / 2;
        match history.trades(symbol, Page::FromId(middle), 1)?.first() {
            Some(row) if row.trade.aggregate_id < id => low = middle + 1,
            _ => high = middle,
        }
    }
    Ok(Some(low))
}

fn add_to_aggregates(rows: &mut Vec<AggregateTrade>, row: &MarketTrade) {
    let trade: &Trade = &row.trade;
    if let Some(last) = rows.last_mut().filter(|last| last.id == trade.aggregate_id) {
        last.quantity = last.quantity.checked_add(trade.quantity).unwrap_or(last.quantity);
        last.last_trade_id = trade.trade_id;
        return;
    }
    rows.push(AggregateTrade {
        id: trade.aggregate_id,
        price: trade.price,
        quantity: trade.quantity,
        first_trade_id: trade.trade_id,
        last_trade_id: trade.trade_id,
        time: row.time,
        taker_side: trade.taker_side,
    });
}

/// GET klines and uiKlines: from memory, or from history where they are older.
pub fn klines(app: &Arc<App>, mut call: Call) -> Handling {
    let app = app.clone();
    Box::pin(async move {
        let catalog = app.outlets.views.symbols();
        let symbol = call.params.symbol(&catalog)?;
        let interval = call.params.required("interval")?;
        let interval = Interval::parse(&interval).ok_or_else(ApiError::invalid_interval)?;
        let start = parse_time(&mut call.params, "startTime")?;
        let end = parse_time(&mut call.params, "endTime")?;
        let zone = call.params.optional("timeZone")?;
        let offset =
            zone.map_or(Ok(Offset::UTC), |zone| Offset::parse(&zone).ok_or_else(|| ApiError::bad_data("timeZone")))?;
        let limit = call.params.limit(ROWS, ROWS_MAX)?;
        call.params.finish()?;
        // Until now at least in sequence time: the last candle is never older than the last trade.
        let now = call.now.max(app.outlets.views.time());
        let query = Query { interval, offset, start, end: end.map_or(now, |end| end.min(now)), limit };
        let id = symbol.id;
        let candles = match app.outlets.klines.candles(id, &query) {
            Some(candles) => candles,
            None => {
                let read = move |history: &History| history.candles(id, |reader| crate::klines::read(reader, &query));
                app.read_history(read).await?
            }
        };
        let numbers = Numbers::new(symbol, &catalog, call.unit);
        Ok(Reply::of(&candles.iter().map(|candle| candle_row(candle, &numbers)).collect::<Vec<_>>()))
    })
}

fn candle_row(candle: &Candle, numbers: &Numbers) -> Value {
    json!([
        numbers.time(candle.open_time),
        numbers.price(candle.open),
        numbers.price(candle.high),
        numbers.price(candle.low),
        numbers.price(candle.close),
        numbers.base(candle.volume),
        numbers.time(last_moment(candle.end_time)),
        numbers.quote(candle.quote_volume),
        candle.trade_count,
        numbers.base(candle.taker_buy_volume),
        numbers.quote(candle.taker_buy_quote_volume),
        "0",
    ])
}

/// The last microsecond before `end`.
fn last_moment(end: Time) -> Time {
    Time(end.0.saturating_sub(1))
}

/// GET avgPrice.
pub fn average_price(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let catalog = app.outlets.views.symbols();
        let symbol = call.params.symbol(&catalog)?;
        call.params.finish()?;
        let average = app.outlets.views.average_price(symbol.id, call.now);
        let numbers = Numbers::new(symbol, &catalog, call.unit);
        Ok(Reply::of(&json!({
            "mins": AVERAGE_PRICE_MINUTES,
            "price": numbers.quote(average.price),
            "closeTime": numbers.time(average.last_trade_time),
        })))
    })())
}

/// The symbols that a ticker is asked for, and whether one alone was.
fn asked_for<'a>(params: &mut Params, catalog: &'a Catalog) -> Result<(Vec<&'a Symbol>, bool), ApiError> {
    let one = params.peek("symbol").is_some();
    let named = params.symbols(catalog)?;
    let status = symbol_status(params)?;
    let all = || catalog.symbols.iter().collect();
    let mut symbols: Vec<&Symbol> = named.unwrap_or_else(all);
    symbols.retain(|symbol| has_status(symbol, status));
    if one && symbols.is_empty() { Err(ApiError::symbol_status_mismatch()) } else { Ok((symbols, one)) }
}

/// The bodies of tickers: an object for the one symbol that was asked for, a list otherwise.
fn one_or_all(rows: Vec<Value>, one: bool) -> Reply {
    match (one, rows.first()) {
        (true, Some(row)) => Reply::of(row),
        _ => Reply::of(&rows),
    }
}

fn symbols_asked(params: &Params) -> Option<usize> {
    if params.peek("symbol").is_some() {
        return Some(1);
    }
    params.peek("symbols").map(|list| list.split(',').count())
}

/// Weight of GET ticker/24hr.
pub fn ticker_24h_weight(params: &Params) -> u32 {
    match symbols_asked(params) {
        Some(0..=20) => 2,
        Some(21..=100) => 40,
        _ => 80,
    }
}

/// GET ticker/24hr.
pub fn ticker_24h(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let catalog = app.outlets.views.symbols();
        let (symbols, one) = asked_for(&mut call.params, &catalog)?;
        let mini = is_mini(&mut call.params)?;
        call.params.finish()?;
        let row = |symbol: &&Symbol| {
            let ticker = app.outlets.views.ticker_24h(symbol.id, call.now);
            ticker_shape(&ticker, &Numbers::new(symbol, &catalog, call.unit), mini, true, call.now)
        };
        Ok(one_or_all(symbols.iter().map(row).collect(), one))
    })())
}

/// Weight of GET ticker and ticker/tradingDay.
pub fn rolling_weight(params: &Params) -> u32 {
    let symbols = symbols_asked(params).unwrap_or(1);
    u32::try_from(symbols).unwrap_or(u32::MAX).saturating_mul(4).min(200)
}

/// GET ticker.
pub fn ticker_rolling(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let catalog = app.outlets.views.symbols();
        require_symbols(&call.params)?;
        let (symbols, one) = asked_for(&mut call.params, &catalog)?;
        let window = call.params.optional("windowSize")?;
        let window =
            window.map_or(Ok(DAY), |text| parse_window(&text).ok_or_else(|| ApiError::bad_data("windowSize")))?;
        let mini = is_mini(&mut call.params)?;
        call.params.finish()?;
        require_a_trade(app, &symbols, one)?;
        let row = |symbol: &&Symbol| {
            let ticker = app.outlets.views.rolling(symbol.id, window, call.now);
            ticker_shape(&ticker, &Numbers::new(symbol, &catalog, call.unit), mini, false, call.now)
        };
        Ok(one_or_all(symbols.iter().map(row).collect(), one))
    })())
}

/// GET ticker/tradingDay.
pub fn ticker_trading_day(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let catalog = app.outlets.views.symbols();
        require_symbols(&call.params)?;
        let (symbols, one) = asked_for(&mut call.params, &catalog)?;
        let zone = call.params.optional("timeZone")?;
        let offset =
            zone.map_or(Ok(Offset::UTC), |zone| Offset::parse(&zone).ok_or_else(|| ApiError::bad_data("timeZone")))?;
        let mini = is_mini(&mut call.params)?;
        call.params.finish()?;
        require_a_trade(app, &symbols, one)?;
        let start = Interval::Day1.open_time(call.now, offset);
        let row = |symbol: &&Symbol| {
            let ticker = app.outlets.views.ticker_since(symbol.id, start, call.now);
            ticker_shape(&ticker, &Numbers::new(symbol, &catalog, call.unit), mini, false, call.now)
        };
        Ok(one_or_all(symbols.iter().map(row).collect(), one))
    })())
}

fn require_symbols(params: &Params) -> Result<(), ApiError> {
    match symbols_asked(params) {
        None => Err(ApiError::missing_either("symbol", "symbols")),
        Some(0..=ROLLING_SYMBOLS_MAX) => Ok(()),
        Some(_) => Err(ApiError::bad_data("symbols")),
    }
}

/// The one symbol that a window is asked of must have been traded; of several, who was not has zeros.
fn require_a_trade(app: &App, symbols: &[&Symbol], one: bool) -> Result<(), ApiError> {
    let has_traded = |symbol: &&&Symbol| app.outlets.views.last_trade(symbol.id).is_some();
    if one && !symbols.iter().any(|symbol| has_traded(&symbol)) { Err(ApiError::no_trading_window()) } else { Ok(()) }
}

fn is_mini(params: &mut Params) -> Result<bool, ApiError> {
    let parse = |word: &str| match word {
        "FULL" => Some(false),
        "MINI" => Some(true),
        _ => None,
    };
    Ok(params.word("type", parse, ApiError::invalid_ticker_type)?.unwrap_or(false))
}

/// `1m` to `59m`, `1h` to `23h`, `1d` to `7d`, in microseconds.
fn parse_window(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    let (most, unit) = match unit {
        "m" => (59, MINUTE),
        "h" => (23, HOUR),
        "d" => (7, DAY),
        _ => return None,
    };
    (1..=most).contains(&number).then(|| number * unit)
}

fn ticker_shape(ticker: &Ticker, numbers: &Numbers, mini: bool, with_book: bool, now: Time) -> Value {
    let sum = &ticker.sum;
    let mut shape = json!({
        "symbol": numbers.symbol.config.name,
        "openPrice": numbers.price(sum.open),
        "highPrice": numbers.price(sum.high),
        "lowPrice": numbers.price(sum.low),
        "lastPrice": numbers.price(sum.close),
        "volume": numbers.base(sum.volume),
        "quoteVolume": numbers.quote(sum.quote_volume),
        "openTime": numbers.time(sum.open_time),
        "closeTime": numbers.time(now),
        "firstId": sum.first_id(),
        "lastId": sum.last_id(),
        "count": sum.trade_count,
    });
    if mini {
        return shape;
    }
    shape["priceChange"] = json!(signed(ticker.change_ticks(), |ticks| numbers.price(Price(ticks))));
    shape["priceChangePercent"] = json!(percent(ticker.change_millipercent()));
    shape["weightedAvgPrice"] = json!(numbers.quote(ticker.weighted_average));
    if with_book {
        let level = |level: Option<(Price, Quantity)>| level.unwrap_or((Price(0), Quantity(0)));
        let ((bid, bid_quantity), (ask, ask_quantity)) = (level(ticker.book.bid), level(ticker.book.ask));
        shape["prevClosePrice"] = json!(numbers.price(ticker.previous_close));
        shape["lastQty"] = json!(numbers.quantity(ticker.last_quantity));
        shape["bidPrice"] = json!(numbers.price(bid));
        shape["bidQty"] = json!(numbers.quantity(bid_quantity));
        shape["askPrice"] = json!(numbers.price(ask));
        shape["askQty"] = json!(numbers.quantity(ask_quantity));
    }
    shape
}

/// A difference of prices, which may be below zero.
fn signed(ticks: i128, text: impl Fn(u64) -> String) -> String {
    let sign = if ticks < 0 { "-" } else { "" };
    format!("{sign}{}", text(u64::try_from(ticks.unsigned_abs()).unwrap_or(u64::MAX)))
}

/// Thousandths of a percent, as a percentage with three decimals.
fn percent(thousandths: i128) -> String {
    let sign = if thousandths < 0 { "-" } else { "" };
    format!("{sign}{}", amount_text(Amount(thousandths.unsigned_abs()), 3))
}

/// Weight of GET ticker/price and ticker/bookTicker.
pub fn price_weight(params: &Params) -> u32 {
    if params.peek("symbol").is_some() { 2 } else { 4 }
}

/// GET ticker/price.
pub fn ticker_price(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let catalog = app.outlets.views.symbols();
        let (symbols, one) = asked_for(&mut call.params, &catalog)?;
        call.params.finish()?;
        let row = |symbol: &&Symbol| {
            let price = app.outlets.views.last_trade(symbol.id).map_or(Price(0), |row| row.trade.price);
            json!({ "symbol": symbol.config.name, "price": Numbers::new(symbol, &catalog, call.unit).price(price) })
        };
        Ok(one_or_all(symbols.iter().map(row).collect(), one))
    })())
}

/// GET ticker/bookTicker.
pub fn ticker_book(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let catalog = app.outlets.views.symbols();
        let (symbols, one) = asked_for(&mut call.params, &catalog)?;
        call.params.finish()?;
        let row = |symbol: &&Symbol| {
            let book = app.outlets.views.book_ticker(symbol.id);
            let numbers = Numbers::new(symbol, &catalog, call.unit);
            let level = |level: Option<(Price, Quantity)>| level.unwrap_or((Price(0), Quantity(0)));
            let ((bid, bid_quantity), (ask, ask_quantity)) = (level(book.bid), level(book.ask));
            json!({
                "symbol": symbol.config.name,
                "bidPrice": numbers.price(bid),
                "bidQty": numbers.quantity(bid_quantity),
                "askPrice": numbers.price(ask),
                "askQty": numbers.quantity(ask_quantity),
            })
        };
        Ok(one_or_all(symbols.iter().map(row).collect(), one))
    })())
}
