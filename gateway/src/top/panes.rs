//! What stands in each pane.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style, Stylize};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table, TableState};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde_json::Value;

use super::numbers::{
    NOTHING, bytes, clock, count, count_or, decimals_of, duration, micros, percent, rate, with_decimals,
};
use super::screen::{BAD, GOOD, QUIET, WARNING};
use super::state::{Market, Pane, State};

/// Threads that are counted as one: together they may be busier than one can be.
const POOLS: [&str; 2] = ["runtime", "rocksdb"];
/// A queue that is so full, in percent, is about to say no; a thread that is so busy is about to be the bottleneck.
const HIGH: u64 = 80;

/// A pane without its border.
pub fn pane(frame: &mut Frame, state: &State, pane: Pane, area: Rect) {
    match pane {
        Pane::Symbols => symbols(frame, state, area),
        Pane::Stages => stages(frame, state, area),
        Pane::Sockets => sockets(frame, state, area),
        Pane::Queues => queues(frame, state, area),
        Pane::Journal => journal(frame, state, area),
        Pane::Cluster => cluster(frame, state, area),
        Pane::Rejects => rejects(frame, state, area),
        Pane::Audit => audit(frame, state, area),
    }
}

/// A column: its name, how wide it is at least, whether words stand in it rather than numbers, and whether it takes what room
/// is left.
struct Column(&'static str, u16, bool, bool);

const fn numbers(name: &'static str, width: u16) -> Column {
    Column(name, width, false, false)
}

const fn words(name: &'static str, width: u16) -> Column {
    Column(name, width, true, false)
}

const fn rest(name: &'static str, least: u16) -> Column {
    Column(name, least, true, true)
}

/// Rows under their columns; `chosen` is in sight, and marked where it can be acted on. The last columns go where there is no
/// room for all, and a number that does not fit says so: half of one would be another.
fn table(
    frame: &mut Frame,
    area: Rect,
    columns: &[Column],
    rows: Vec<Vec<Span<'static>>>,
    chosen: Option<usize>,
    is_marked: bool,
    empty: &str,
) {
    if rows.is_empty() {
        frame.render_widget(Line::styled(empty.to_owned(), QUIET), area);
        return;
    }
    let fits = |columns: &[Column]| columns.iter().map(|column| column.1 + 1).sum::<u16>() <= area.width + 1;
    let many = (1..=columns.len()).rev().find(|many| fits(&columns[..*many])).unwrap_or(1);
    let columns = &columns[..many];
    let cell = |mut content: Span<'static>, Column(_, width, is_words, _): &Column| {
        let width = usize::from(*width);
        if !is_words && content.content.chars().count() > width {
            let begin: String = content.content.chars().take(width.saturating_sub(1)).collect();
            content.content = format!("{begin}…").into();
        }
        let alignment = if *is_words { Alignment::Left } else { Alignment::Right };
        Cell::from(Text::from(Line::from(content)).alignment(alignment))
    };
    let header = Row::new(columns.iter().map(|column| cell(Span::styled(column.0, QUIET), column)));
    let rows = rows.into_iter().map(|row| Row::new(row.into_iter().zip(columns).map(|(it, column)| cell(it, column))));
    let marked = if is_marked { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
    let width = |column: &Column| if column.3 { Constraint::Min(column.1) } else { Constraint::Length(column.1) };
    let shown = Table::new(rows, columns.iter().map(width)).header(header).column_spacing(1);
    let shown = shown.row_highlight_style(marked);
    frame.render_stateful_widget(shown, area, &mut TableState::new().with_selected(chosen));
}

fn raw(text: impl Into<String>) -> Span<'static> {
    Span::raw(text.into())
}

fn symbols(frame: &mut Frame, state: &State, area: Rect) {
    let rows = state.symbols().into_iter().map(|it| {
        let decimals = decimals_of([&it.bid, &it.ask, &it.spread].into_iter().flatten().map(String::as_str));
        let price = |text: &Option<String>| {
            raw(text.as_deref().map_or(NOTHING, |text| with_decimals(text, decimals)).to_owned())
        };
        let status = match it.status.as_str() {
            "TRADING" => GOOD,
            "HALT" => BAD,
            _ => WARNING,
        };
        let age = it.last_trade_age_ms.map_or_else(|| NOTHING.to_owned(), |ms| duration(ms / 1_000));
        vec![
            raw(&*it.symbol).bold(),
            Span::styled(it.status.clone(), status),
            raw(rate(state.symbol_rate(&it.symbol, |it| it.orders))),
            raw(rate(state.symbol_rate(&it.symbol, |it| it.trades))),
            raw(count(it.resting_orders)),
            price(&it.bid),
            price(&it.ask),
            raw(age),
            price(&it.spread),
        ]
    });
    // Where there is room for more than the usual 80 columns, prices may be longer.
    let price = if area.width >= 100 { 14 } else { 10 };
    let columns = [
        rest("Symbol", 9),
        words("Status", 11),
        numbers("Orders/s", 8),
        numbers("Trades/s", 8),
        numbers("Resting", 7),
        numbers("Bid", price),
        numbers("Ask", price),
        numbers("Traded", 9),
        numbers("Spread", 10),
    ];
    let chosen = state.chosen_symbol().map(|(at, _)| at);
    let empty = if state.filter.is_empty() { "No symbol is listed" } else { "No symbol has that in its name" };
    table(frame, area, &columns, rows.collect(), chosen, state.pane == Pane::Symbols, empty);
}

fn stages(frame: &mut Frame, state: &State, area: Rect) {
    let width = usize::from(area.width.saturating_sub(48)).min(42);
    let rows = state.now.stages.iter().map(|it| {
        let at = |us: u64| raw(if it.count == 0 { NOTHING.to_owned() } else { micros(us) });
        let bar = if it.count == 0 { String::new() } else { latency_bar([it.p50_us, it.p99_us, it.p999_us], width) };
        vec![
            raw(&*it.name),
            at(it.p50_us),
            at(it.p99_us),
            at(it.p999_us),
            raw(count(it.count)),
            Span::styled(bar, GOOD),
        ]
    });
    let columns = [
        words("Stage", 11),
        numbers("p50", 8),
        numbers("p99", 8),
        numbers("p99.9", 8),
        numbers("Count", 9),
        rest("1 µs to 1 s", 0),
    ];
    table(frame, area, &columns, rows.collect(), Some(state.row), false, "No stage was measured in the newest minute");
}

/// Filled to the first latency, shaded to the second and lightly to the third, on a logarithmic scale from 1 µs to 1 s.
fn latency_bar(at: [u64; 3], width: usize) -> String {
    let ends = at.map(|us| log_millis(us) as usize * width / 6_000);
    let fill = |from: usize, to: usize, with: &str| with.repeat(to.min(width).saturating_sub(from));
    let (first, second) = (ends[0].max(usize::from(width > 0)), ends[1].max(ends[0]));
    fill(0, first, "█") + &fill(first, second, "▒") + &fill(second.max(first), ends[2], "░")
}

/// A thousand times the logarithm to the base of ten, good enough for a bar.
fn log_millis(value: u64) -> u64 {
    let value = value.max(1);
    let digits = value.ilog10();
    let lead = u128::from(value) * 1_000 / u128::from(10_u64.pow(digits));
    // From one power of ten to the next a straight line is off by a tenth at the most.
    u64::from(digits) * 1_000 + (lead as u64 - 1_000) / 9
}

fn sockets(frame: &mut Frame, state: &State, area: Rect) {
    let it = &state.now.sockets;
    let [head, kinds, list] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let messages = state.growth().and_then(|growth| growth.tenths_per_second(|it| Some(it.sockets.messages)));
    let closed = it.slow_disconnects.values().fold(0, |sum: u64, many| sum.saturating_add(*many));
    let text = format!(
        "{} open  {} subscriptions  {} messages/s  {} conflated  {} closed as slow",
        count(it.open),
        count(it.subscriptions),
        rate(messages),
        count(it.conflated),
        count(closed)
    );
    frame.render_widget(Line::from(text), head);
    let kind = it.by_stream.iter().map(|kind| format!("{} {}", kind.stream, count(kind.subscriptions)));
    frame.render_widget(Line::styled(kind.collect::<Vec<_>>().join("  "), QUIET), kinds);
    let rows = it.slowest.iter().map(|it| {
        let behind = Span::styled(count(it.behind), if it.behind > 0 { WARNING } else { Style::new() });
        let lag = format!("{} ms", count(it.lag_ms));
        vec![
            raw(it.id.to_string()),
            raw(&*it.address),
            behind,
            raw(lag),
            raw(count(it.conflated)),
            raw(count(it.sent)),
            raw(duration(it.open_seconds)),
            raw(count(it.streams)),
        ]
    });
    let columns = [
        words("Slowest", 7),
        words("Address", 21),
        numbers("Behind", 7),
        numbers("Lag", 9),
        numbers("Conflated", 9),
        numbers("Sent", 9),
        numbers("Open", 11),
        numbers("Streams", 7),
    ];
    let chosen = state.chosen_socket().map(|(at, _)| at);
    table(frame, list, &columns, rows.collect(), chosen, state.pane == Pane::Sockets, "No websocket is open");
}

fn queues(frame: &mut Frame, state: &State, area: Rect) {
    let threads = state.now.threads.iter().map(|thread| {
        let of =
            |it: &super::overview::Overview| it.threads.iter().find(|it| it.name == thread.name).map(|it| it.busy_ns);
        let busy = state.growth().and_then(|growth| growth.busy_thousandths(of));
        let is_high = busy.is_some_and(|busy| busy > HIGH * 10) && !POOLS.contains(&thread.name.as_str());
        let style = if is_high { WARNING } else { Style::new() };
        vec![raw(&*thread.name), Span::styled(percent(busy), style), raw("busy")]
    });
    let queues = state.now.queues.iter().map(|it| {
        let style = if it.depth.saturating_mul(100) > it.bound.saturating_mul(HIGH) { WARNING } else { Style::new() };
        vec![raw(&*it.name), Span::styled(count(it.depth), style), raw(format!("of {}", count(it.bound)))]
    });
    let columns = [words("Thread, queue", 16), numbers("Waiting", 8), rest("", 9)];
    table(frame, area, &columns, threads.chain(queues).collect(), Some(state.row), false, "None can be read");
}

fn journal(frame: &mut Frame, state: &State, area: Rect) {
    let it = &state.now.journal;
    let growth = state.growth();
    let syncs = growth.and_then(|growth| growth.of(|it| Some(it.journal.log_syncs))).filter(|syncs| *syncs > 0);
    let sync_ns = growth.and_then(|growth| growth.of(|it| Some(it.journal.log_sync_ns)));
    let sync = syncs.zip(sync_ns).map(|(syncs, ns)| micros(ns / syncs / 1_000));
    let written = growth.and_then(|growth| growth.tenths_per_second(|it| Some(it.journal.log_bytes)));
    let rows = [
        ("Log index", count(it.log_index)),
        ("Applied sequence", count(state.now.applied_sequence)),
        ("Log written", bytes(it.log_bytes)),
        ("Log written/s", written.map_or_else(|| NOTHING.to_owned(), |tenths| bytes(tenths / 10))),
        ("Syncs", count(it.log_syncs)),
        ("Mean sync", sync.unwrap_or_else(|| NOTHING.to_owned())),
        ("Snapshots", count(it.snapshots)),
        ("History holds", count(it.history_watermark)),
        ("History behind", count(it.history_lag)),
        ("Disk free", bytes(it.disk_free_bytes)),
    ];
    let rows = rows.into_iter().map(|(name, value)| vec![raw(name), raw(value)]).collect();
    table(frame, area, &[words("Journal", 17), numbers("", 14)], rows, None, false, "");
}

fn cluster(frame: &mut Frame, state: &State, area: Rect) {
    let members = state.now.cluster.iter().flat_map(|cluster| &cluster.members);
    let rows = members.map(|it| {
        let reached = if it.reachable { raw("yes") } else { Span::styled("no", BAD) };
        let name = format!("{}{}", it.node, if it.is_this { " (this)" } else { "" });
        vec![raw(name), raw(&*it.role), reached, raw(count_or(it.lag_entries)), raw(&*it.address)]
    });
    let columns = [words("Node", 8), words("Role", 9), words("Up", 3), numbers("Behind", 8), rest("Address", 14)];
    table(frame, area, &columns, rows.collect(), Some(state.row), false, "One node alone");
}

fn rejects(frame: &mut Frame, state: &State, area: Rect) {
    let rows = state.now.rejects.iter().map(|it| vec![raw(it.code.to_string()), raw(count(it.count))]);
    let columns = [words("Code", 7), numbers("Last 5 min", 10)];
    table(frame, area, &columns, rows.collect(), Some(state.row), false, "None in the last 5 minutes");
}

fn audit(frame: &mut Frame, state: &State, area: Rect) {
    let rows = state.now.audit.iter().map(|it| {
        vec![
            raw(clock(it.time)),
            raw(&*it.operator),
            raw(&*it.origin),
            if it.ok { raw("yes") } else { Span::styled("no", WARNING) },
            raw(action_text(&it.action)),
            raw(&*it.reason),
        ]
    });
    let columns =
        [words("UTC", 8), words("Who", 8), words("From", 11), words("Done", 4), rest("What", 20), rest("Why", 8)];
    table(frame, area, &columns, rows.collect(), Some(state.row), false, "Nothing was done");
}

/// The log keeps what was asked as JSON.
fn action_text(text: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else { return text.to_owned() };
    let Some(Value::String(action)) = fields.get("action") else { return text.to_owned() };
    let fact = |(name, value): (&String, &Value)| match value {
        Value::Null | Value::Bool(false) => None,
        Value::Array(values) if values.is_empty() => None,
        Value::String(value) => Some(format!(" {name}={value}")),
        value => Some(format!(" {name}={value}")),
    };
    // What it is about comes first, as there may be room for little.
    let about = |name: &str| ["symbol", "uid", "id", "name", "api_key"].contains(&name);
    let mut facts: Vec<(&String, &Value)> = fields.iter().filter(|(name, _)| *name != "action").collect();
    facts.sort_by_key(|(name, _)| !about(name));
    facts.into_iter().filter_map(fact).fold(action.clone(), |text, fact| text + &fact)
}

/// A symbol's book beside its trades, and how its price went.
pub fn market(frame: &mut Frame, state: &State, market: &Market, area: Rect) {
    let status = state.now.symbols.iter().find(|it| it.symbol == market.symbol).map_or("", |it| &it.status);
    let title = format!(" {} {status}  Esc back, h halt, c cancel-only, r resume ", market.symbol);
    let block = Block::new().borders(Borders::TOP).title(Line::from(title).bold());
    let inside = block.inner(area);
    frame.render_widget(block, area);
    if let Some(trouble) = &market.trouble {
        frame.render_widget(Paragraph::new(Line::styled(trouble.clone(), WARNING)), inside);
        return;
    }
    let [chart, lists] = Layout::vertical([Constraint::Length(3), Constraint::Min(0)]).areas(inside);
    frame.render_widget(Sparkline::default().data(price_line(market, usize::from(chart.width))).style(GOOD), chart);
    let [bids, asks, trades] =
        Layout::horizontal([Constraint::Fill(2), Constraint::Fill(2), Constraint::Fill(3)]).spacing(2).areas(lists);
    let levels = || market.depth.bids.iter().chain(&market.depth.asks);
    let (prices, sizes) = (levels().map(|it| &*it.0), levels().map(|it| &*it.1));
    let price_decimals = decimals_of(prices.chain(market.trades.iter().map(|it| &*it.price)));
    let size_decimals = decimals_of(sizes.chain(market.trades.iter().map(|it| &*it.qty)));
    let price_text = |text: &str| with_decimals(text, price_decimals).to_owned();
    let size_text = |text: &str| raw(with_decimals(text, size_decimals).to_owned());
    let side = |levels: &[(String, String)], style: Style| {
        levels.iter().map(|(price, size)| vec![Span::styled(price_text(price), style), size_text(size)]).collect()
    };
    let columns = |name| [numbers(name, 10), numbers("Size", 10)];
    table(frame, bids, &columns("Bid"), side(&market.depth.bids, GOOD), None, false, "No bid");
    table(frame, asks, &columns("Ask"), side(&market.depth.asks, BAD), None, false, "No ask");
    let tape = market.trades.iter().rev().map(|trade| {
        let (arrow, style) = if trade.is_buyer_maker { ("▼", BAD) } else { ("▲", GOOD) };
        let price = Span::styled(format!("{arrow} {}", price_text(&trade.price)), style);
        vec![raw(clock(trade.time)), price, size_text(&trade.qty)]
    });
    let columns = [words("UTC", 8), numbers("Price", 12), numbers("Size", 10)];
    table(frame, trades, &columns, tape.collect(), None, false, "No trade yet");
}

/// The newest trades' prices as heights, the lowest of them low and the highest high.
fn price_line(market: &Market, width: usize) -> Vec<u64> {
    let from = market.trades.len().saturating_sub(width);
    let prices: Vec<Decimal> = market.trades[from..].iter().filter_map(|trade| trade.price.parse().ok()).collect();
    let (Some(least), Some(most)) = (prices.iter().min(), prices.iter().max()) else { return Vec::new() };
    let height = |price: &Decimal| {
        let part =
            price.checked_sub(*least)?.checked_mul(Decimal::from(1_000))?.checked_div(most.checked_sub(*least)?)?;
        part.to_u64()
    };
    prices.iter().map(|price| height(price).unwrap_or(500) + 100).collect()
}
