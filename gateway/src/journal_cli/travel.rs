//! `replay`, `show` and `diff`: the state at any moment, and what differs between two.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Subcommand};
use engine::event::Event;
use engine::order::Side;
use engine::snapshot::{Counters, SymbolState};
use engine::{OrderId, Snapshot, SymbolId, Uid};
use journal::recovery::{
    At, BookLevel, Diff, Directory, LevelChange, OrderChange, RecoveryError, Replay, Story, SymbolChange, book_levels,
};
use serde_json::{Value, json};

use super::names::Names;
use super::output::{
    Bar, Common, Outcome, Output, Stop, moment_json, moment_text, per_second, print_json, seconds_text, tell_passed,
};
use super::{facts, moment};
use crate::wire::{rate_text, side_word, symbol_status_word};

/// Replay the log and say which state it comes to
#[derive(Debug, Args)]
#[command(after_long_help = "\
Begins at the newest snapshot that is not after TO, or at the log's begin, and applies every command up to TO. The hash names \
the state: two directories whose logs are the same come to the same hash at the same sequence, on every machine.

Examples:
  rialto journal replay --data /var/lib/rialto
  rialto journal replay --data /var/lib/rialto --to 12345
  rialto journal replay --data /var/lib/rialto --from-begin --to 2026-03-01T09:30:00Z --json")]
pub(super) struct ReplayArguments {
    #[command(flatten)]
    pub common: Common,
    /// Where to stop
    #[arg(long, value_name = "MOMENT", default_value = "end", value_parser = moment::parse)]
    to: At,
    /// Begin as far back as the log allows, whatever snapshots there are
    #[arg(long)]
    from_begin: bool,
}

pub(super) fn replay(arguments: &ReplayArguments) -> Outcome {
    let directory = Directory::read(&arguments.common.data)?;
    let mut passed = Vec::new();
    let mut replay = if arguments.from_begin {
        Replay::from_oldest(&directory, &mut passed)?
    } else {
        Replay::towards(&directory, arguments.to, &mut passed)?
    };
    tell_passed(&passed);
    let began = Instant::now();
    replay.run(arguments.to, &mut Bar::new(), |_| Ok(ControlFlow::Continue(())))?;
    let elapsed = began.elapsed();
    let (commands, rate) = (replay.commands(), per_second(replay.commands(), elapsed));
    let state = replay.snapshot();
    let hash = state.hash();
    let open_orders: usize = state.symbols().map(|symbol| symbol.open_orders()).sum();
    let (accounts, symbols) = (state.accounts().count(), state.symbols().count());
    let base = replay.base();
    if arguments.common.json {
        return print_json(&json!({
            "base": { "file": base.file, "sequence": base.sequence.0 },
            "commands": commands,
            "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            "per_second": rate,
            "at": moment_json((replay.sequence(), replay.time())),
            "state_hash": hash.to_string(),
            "accounts": accounts,
            "symbols": symbols,
            "open_orders": open_orders,
        }));
    }
    let mut out = Output::new();
    let from = base.file.as_ref().map_or_else(|| "the log's begin".to_owned(), |file| file.display().to_string());
    out.row("from", format_args!("sequence {}, {from}", base.sequence))?;
    out.row("to", moment_text((replay.sequence(), replay.time())))?;
    out.row("commands", format_args!("{commands} in {}, {rate} a second", seconds_text(elapsed)))?;
    out.row("state", hash)?;
    out.row("holds", format_args!("{accounts} accounts, {symbols} symbols, {open_orders} open orders"))?;
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

/// A book, an account, an order or a symbol as it was at any moment
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  rialto journal show book BTCUSDT --data /var/lib/rialto
  rialto journal show book BTCUSDT --depth 5 --data /var/lib/rialto --at 2026-03-01T09:30:00Z
  rialto journal show account 1001 --data /var/lib/rialto --at 12345
  rialto journal show order BTCUSDT 4711 --data /var/lib/rialto
  rialto journal show symbol BTCUSDT --data /var/lib/rialto --json")]
pub(super) struct ShowArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The price levels of a symbol
    Book {
        /// Which symbol
        symbol: String,
        /// So many levels of each side; 0 for all
        #[arg(long, value_name = "LEVELS", default_value_t = 20)]
        depth: usize,
        #[command(flatten)]
        when: When,
    },
    /// The balances, the settings and the open orders of an account
    Account {
        /// Whose
        uid: u64,
        #[command(flatten)]
        when: When,
    },
    /// An order, open or closed
    Order {
        /// Of which symbol
        symbol: String,
        /// Its number
        order_id: u64,
        #[command(flatten)]
        when: When,
    },
    /// A symbol, its numbers and what rests in its book
    Symbol {
        /// Which one
        symbol: String,
        #[command(flatten)]
        when: When,
    },
}

#[derive(Debug, Args)]
struct When {
    #[command(flatten)]
    common: Common,
    /// When
    #[arg(long, value_name = "MOMENT", default_value = "end", value_parser = moment::parse)]
    at: At,
}

impl ShowArguments {
    fn when(&self) -> &When {
        match &self.what {
            What::Book { when, .. }
            | What::Account { when, .. }
            | What::Order { when, .. }
            | What::Symbol { when, .. } => when,
        }
    }

    pub(super) fn is_json(&self) -> bool {
        self.when().common.json
    }
}

pub(super) fn show(arguments: &ShowArguments) -> Outcome {
    let When { common, at } = arguments.when();
    let directory = Directory::read(&common.data)?;
    let mut passed = Vec::new();
    if let What::Order { symbol, order_id, .. } = &arguments.what {
        let order_id = OrderId(*order_id);
        let told = Story::tell(&directory, symbol, order_id, *at, &mut Bar::new(), &mut passed)?;
        tell_passed(&passed);
        return show_order(&told, common.json);
    }
    let mut replay = Replay::towards(&directory, *at, &mut passed)?;
    tell_passed(&passed);
    replay.run(*at, &mut Bar::new(), |_| Ok(ControlFlow::Continue(())))?;
    let state = replay.snapshot();
    match &arguments.what {
        What::Book { symbol, depth, .. } => show_book(&state, symbol, *depth, common.json),
        What::Account { uid, .. } => show_account(&state, Uid(*uid), common.json),
        What::Symbol { symbol, .. } => show_symbol(&state, symbol, common.json),
        What::Order { .. } => unreachable!("answered above"),
    }
}

fn find<'a>(state: &'a Snapshot, name: &str) -> Result<SymbolState<'a>, RecoveryError> {
    let found = state.symbols().find(|symbol| symbol.symbol().config.name == name);
    found.ok_or_else(|| RecoveryError::NotThere(format!("there is no symbol {name} at sequence {}", state.sequence())))
}

fn show_book(state: &Snapshot, name: &str, depth: usize, is_json: bool) -> Outcome {
    let (symbol, names) = (find(state, name)?, Names::of(state));
    let id = symbol.symbol().id;
    let most = if depth == 0 { usize::MAX } else { depth };
    let (bids, asks): (Vec<BookLevel>, Vec<BookLevel>) =
        book_levels(symbol).into_iter().partition(|level| level.side == Side::Buy);
    let shown = |levels: &[BookLevel]| -> Vec<(String, String, usize)> {
        let levels = levels.iter().take(most);
        levels.map(|level| (names.price(id, level.price), names.quantity(id, level.quantity), level.orders)).collect()
    };
    let (bids_shown, asks_shown) = (shown(&bids), shown(&asks));
    if is_json {
        let rows = |levels: &[(String, String, usize)]| -> Vec<Value> {
            levels.iter().map(|(price, quantity, orders)| json!([price, quantity, orders])).collect()
        };
        return print_json(&json!({
            "symbol": name,
            "at": moment_json((state.sequence(), state.time())),
            "status": symbol_status_word(symbol.symbol().status),
            "update_id": symbol.counters().update,
            "bids": rows(&bids_shown),
            "asks": rows(&asks_shown),
            "levels": [bids.len(), asks.len()],
        }));
    }
    let mut out = Output::new();
    let status = symbol_status_word(symbol.symbol().status);
    out.line(format_args!(
        "{name} at {}, {status}, update {}",
        moment_text((state.sequence(), state.time())),
        symbol.counters().update
    ))?;
    out.line(format_args!(
        "{:>8} {:>22} {:>20} | {:<20} {:<22} {:<8}",
        "orders", "quantity", "bid", "ask", "quantity", "orders"
    ))?;
    for row in 0..bids_shown.len().max(asks_shown.len()) {
        let bid = bids_shown.get(row).map_or_else(
            || format!("{:>8} {:>22} {:>20}", "", "", ""),
            |(price, quantity, orders)| format!("{orders:>8} {quantity:>22} {price:>20}"),
        );
        let ask = asks_shown
            .get(row)
            .map_or_else(String::new, |(price, quantity, orders)| format!("{price:<20} {quantity:<22} {orders}"));
        out.line(format_args!("{bid} | {ask}"))?;
    }
    let hidden = |all: usize, shown: usize| all - shown;
    let (more_bids, more_asks) = (hidden(bids.len(), bids_shown.len()), hidden(asks.len(), asks_shown.len()));
    if more_bids + more_asks > 0 {
        out.line(format_args!("and {more_bids} more bids, {more_asks} more asks (--depth 0 for all)"))?;
    }
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

fn show_account(state: &Snapshot, uid: Uid, is_json: bool) -> Outcome {
    let names = Names::of(state);
    let found = state.accounts().find(|account| account.uid == uid);
    let account = found.ok_or_else(|| {
        RecoveryError::NotThere(format!("there is no account {uid} at sequence {}", state.sequence()))
    })?;
    let orders: Vec<_> = state
        .symbols()
        .flat_map(|symbol| symbol.orders())
        .filter(|order| order.uid == uid)
        .map(|order| facts::order(&order, &names))
        .collect();
    let balances = account.balances.iter().map(|&(asset, free, locked)| facts::balance(asset, free, locked, &names));
    let balances: Vec<_> = balances.collect();
    let settings = facts::settings(&account.settings);
    if is_json {
        return print_json(&json!({
            "uid": uid.0,
            "at": moment_json((state.sequence(), state.time())),
            "settings": settings.json(),
            "balances": balances.iter().map(facts::Facts::json).collect::<Vec<_>>(),
            "open_orders": orders.iter().map(facts::Facts::json).collect::<Vec<_>>(),
        }));
    }
    let mut out = Output::new();
    out.line(format_args!("account {uid} at {}", moment_text((state.sequence(), state.time()))))?;
    out.line(format_args!("settings:{}", settings.text()))?;
    for balance in &balances {
        out.line(format_args!("balance:{}", balance.text()))?;
    }
    for order in &orders {
        out.line(format_args!("open order:{}", order.text()))?;
    }
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

fn show_symbol(state: &Snapshot, name: &str, is_json: bool) -> Outcome {
    let (symbol, names) = (find(state, name)?, Names::of(state));
    let (config, id) = (&symbol.symbol().config, symbol.symbol().id);
    let (bids, asks): (Vec<BookLevel>, Vec<BookLevel>) =
        book_levels(symbol).into_iter().partition(|level| level.side == Side::Buy);
    let resting = symbol.orders().filter(|order| order.working_at().is_some()).count();
    let price = |price: Option<engine::Price>| price.map(|price| names.price(id, price));
    let Counters { order, trade, update, order_list, .. } = symbol.counters();
    let said = json!({
        "symbol": name,
        "at": moment_json((state.sequence(), state.time())),
        "status": symbol_status_word(symbol.symbol().status),
        "base": names.asset_name(config.base),
        "quote": names.asset_name(config.quote),
        "tick_size": names.amount(config.quote, config.tick_size),
        "step_size": names.amount(config.base, config.step_size),
        "min_notional": names.amount(config.quote, config.min_notional),
        "maker_fee": rate_text(config.commission.standard.maker),
        "taker_fee": rate_text(config.commission.standard.taker),
        "last_order_id": order,
        "last_trade_id": trade,
        "last_update_id": update,
        "last_order_list_id": order_list,
        "last_price": price(symbol.last_price()),
        "reference_price": price(symbol.reference_price()),
        "best_bid": price(bids.first().map(|level| level.price)),
        "best_ask": price(asks.first().map(|level| level.price)),
        "levels": [bids.len(), asks.len()],
        "resting_orders": resting,
        "waiting_orders": symbol.open_orders() - resting,
        "open_lists": symbol.lists().count(),
    });
    if is_json {
        return print_json(&said);
    }
    let mut out = Output::new();
    out.line(format_args!("{name} at {}", moment_text((state.sequence(), state.time()))))?;
    for (field, value) in said.as_object().into_iter().flatten().filter(|(field, _)| *field != "at") {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        out.line(format_args!("{field:<20} {value}"))?;
    }
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

fn show_order(told: &Story, is_json: bool) -> Outcome {
    let names = Names::of_symbol(&told.symbol, &told.assets);
    let facts = facts::order(&told.order.order, &names);
    let expiry = told.order.expiry.map(facts::reason_text);
    if is_json {
        let mut said = facts.json();
        said["at"] = moment_json(told.until);
        said["expiry_reason"] = expiry.into();
        return print_json(&said);
    }
    let mut out = Output::new();
    let expiry = expiry.map_or_else(String::new, |reason| format!(" ({reason})"));
    out.line(format_args!("order:{}{expiry}", facts.text()))?;
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

/// What changed between two moments: accounts, books, symbols
#[derive(Debug, Args)]
#[command(after_long_help = "\
Compares the state after A with the state after B, which is later.

Examples:
  rialto journal diff --data /var/lib/rialto 1000 1010
  rialto journal diff --data /var/lib/rialto 2026-03-01T09:30:00Z end --json")]
pub(super) struct DiffArguments {
    #[command(flatten)]
    pub common: Common,
    /// The earlier moment
    #[arg(value_name = "A", value_parser = moment::parse)]
    a: At,
    /// The later moment
    #[arg(value_name = "B", value_parser = moment::parse)]
    b: At,
}

/// What happened between two moments, counted.
#[derive(Default)]
struct Counts {
    commands: u64,
    refused: u64,
    trades: u64,
}

pub(super) fn diff(arguments: &DiffArguments) -> Outcome {
    let directory = Directory::read(&arguments.common.data)?;
    let mut passed = Vec::new();
    let mut replay = Replay::towards(&directory, arguments.a, &mut passed)?;
    tell_passed(&passed);
    replay.run(arguments.a, &mut Bar::new(), |_| Ok(ControlFlow::Continue(())))?;
    let from = replay.snapshot();
    let mut counts = Counts::default();
    replay.run(arguments.b, &mut Bar::new(), |played| {
        for event in &played.applied.events {
            match event {
                Event::Trade(_) => counts.trades += 1,
                Event::Rejected(_) => counts.refused += 1,
                _ => {}
            }
        }
        counts.commands += played.commands.len() as u64;
        Ok(ControlFlow::Continue(()))
    })?;
    let to = replay.snapshot();
    if let At::Time(_) = arguments.b
        && to.sequence() < from.sequence()
    {
        return Err(RecoveryError::NotThere(format!("{} is before {}", arguments.b, arguments.a)).into());
    }
    let (diff, names) = (Diff::of(&from, &to), Names::of(&to));
    if arguments.common.json {
        return print_json(&diff_json(&diff, &counts, &names));
    }
    let mut out = Output::new();
    print_diff(&diff, &counts, &names, &mut out)?;
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

fn level_json(level: &LevelChange, symbol: SymbolId, names: &Names) -> Value {
    json!({
        "side": side_word(level.side),
        "price": names.price(symbol, level.price),
        "before": names.quantity(symbol, level.quantity.0),
        "after": names.quantity(symbol, level.quantity.1),
    })
}

fn order_change_json(change: &OrderChange, names: &Names) -> Value {
    match change {
        OrderChange::Came(order) => json!({ "change": "came", "after": facts::order(order, names).json() }),
        OrderChange::Gone(order) => json!({ "change": "gone", "before": facts::order(order, names).json() }),
        OrderChange::Changed(before, after) => json!({
            "change": "changed",
            "before": facts::order(before, names).json(),
            "after": facts::order(after, names).json(),
        }),
    }
}

fn symbol_change_json(change: &SymbolChange, names: &Names) -> Value {
    let id = change.symbol.id;
    let price = |price: Option<engine::Price>| price.map(|price| names.price(id, price));
    let (before, after) = change.counters;
    json!({
        "symbol": change.symbol.config.name,
        "new": change.is_new,
        "config_changed": change.config,
        "status": change.status.map(|(before, after)| [symbol_status_word(before), symbol_status_word(after)]),
        "orders_placed": after.order - before.order,
        "trades": after.trade - before.trade,
        "last_price": [price(change.last_price.0), price(change.last_price.1)],
        "reference_price": [price(change.reference_price.0), price(change.reference_price.1)],
        "levels": change.levels.iter().map(|level| level_json(level, id, names)).collect::<Vec<_>>(),
        "orders": change.orders.iter().map(|order| order_change_json(order, names)).collect::<Vec<_>>(),
    })
}

fn diff_json(diff: &Diff, counts: &Counts, names: &Names) -> Value {
    let accounts = diff.accounts.iter().map(|account| {
        let balances = account.balances.iter().map(|balance| {
            let amount = |amount| names.amount(balance.asset, amount);
            json!({
                "asset": names.asset_name(balance.asset),
                "free": [amount(balance.free.0), amount(balance.free.1)],
                "locked": [amount(balance.locked.0), amount(balance.locked.1)],
            })
        });
        json!({
            "uid": account.uid.0,
            "new": account.is_new,
            "settings": account.settings.map(|(before, after)| {
                [facts::settings(&before).json(), facts::settings(&after).json()]
            }),
            "balances": balances.collect::<Vec<_>>(),
        })
    });
    let supplies = diff.supplies.iter().map(|(asset, before, after)| {
        json!({
            "asset": names.asset_name(*asset),
            "supply": [names.amount(*asset, *before), names.amount(*asset, *after)],
        })
    });
    json!({
        "from": moment_json(diff.from),
        "to": moment_json(diff.to),
        "commands": counts.commands,
        "refused": counts.refused,
        "trades": counts.trades,
        "assets": diff.assets.iter().map(|(_, asset)| asset.name.as_str()).collect::<Vec<_>>(),
        "supplies": supplies.collect::<Vec<_>>(),
        "accounts": accounts.collect::<Vec<_>>(),
        "symbols": diff.symbols.iter().map(|change| symbol_change_json(change, names)).collect::<Vec<_>>(),
        "limits_changed": diff.limits,
        "commission_tiers_changed": diff.commission_tiers,
        "api_keys_added_for": diff.api_keys.iter().map(|uid| uid.0).collect::<Vec<_>>(),
        "transfers": diff.transfers,
    })
}

fn print_diff(diff: &Diff, counts: &Counts, names: &Names, out: &mut Output) -> Result<(), Stop> {
    out.row("from", moment_text(diff.from))?;
    out.row("to", moment_text(diff.to))?;
    let Counts { commands, refused, trades } = counts;
    out.row("between", format_args!("{commands} commands, {refused} of them refused, {trades} trades"))?;
    for (_, asset) in &diff.assets {
        out.row("asset", format_args!("{} is new, of {} decimals", asset.name, asset.scale))?;
    }
    for (asset, before, after) in &diff.supplies {
        let (before, after) = (names.amount(*asset, *before), names.amount(*asset, *after));
        out.row("supply", format_args!("{}: {before} -> {after}", names.asset_name(*asset)))?;
    }
    for account in &diff.accounts {
        let new = if account.is_new { " is new" } else { "" };
        out.row("account", format_args!("{}{new}", account.uid))?;
        if let Some((before, after)) = &account.settings {
            out.row("", format_args!("settings:{}", facts::settings(before).text()))?;
            out.row("", format_args!("      ->:{}", facts::settings(after).text()))?;
        }
        for balance in &account.balances {
            out.row("", facts::balance_text(balance.asset, balance.free, balance.locked, names))?;
        }
    }
    for change in &diff.symbols {
        print_symbol_change(change, names, out)?;
    }
    for (changed, what) in [(diff.limits, "limits"), (diff.commission_tiers, "tiers")] {
        if changed {
            out.row(what, "changed")?;
        }
    }
    for uid in &diff.api_keys {
        out.row("API key", format_args!("a new one for account {uid}"))?;
    }
    if diff.is_empty() {
        out.row("result", "nothing differs")?;
    }
    Ok(())
}

fn print_symbol_change(change: &SymbolChange, names: &Names, out: &mut Output) -> Result<(), Stop> {
    let id = change.symbol.id;
    let price = |price: Option<engine::Price>| price.map_or_else(|| "none".to_owned(), |price| names.price(id, price));
    let new = if change.is_new { " is new" } else { "" };
    out.row("symbol", format_args!("{}{new}", change.symbol.config.name))?;
    if change.config {
        out.row("", "its filters, fees or rules changed")?;
    }
    if let Some((before, after)) = change.status {
        out.row("", format_args!("status {} -> {}", symbol_status_word(before), symbol_status_word(after)))?;
    }
    let (before, after) = change.counters;
    out.row("", format_args!("{} orders placed, {} trades", after.order - before.order, after.trade - before.trade))?;
    for (name, (before, after)) in [("last price", change.last_price), ("reference price", change.reference_price)] {
        if before != after {
            out.row("", format_args!("{name} {} -> {}", price(before), price(after)))?;
        }
    }
    for level in &change.levels {
        let (before, after) = (names.quantity(id, level.quantity.0), names.quantity(id, level.quantity.1));
        let word = if level.side == Side::Buy { "bid" } else { "ask" };
        out.row("", format_args!("{word} {}: {before} -> {after}", names.price(id, level.price)))?;
    }
    for order in &change.orders {
        match order {
            OrderChange::Came(order) => out.row("", format_args!("came:{}", facts::order(order, names).text()))?,
            OrderChange::Gone(order) => {
                out.row("", format_args!("open no more:{}", facts::order(order, names).text()))?;
            }
            OrderChange::Changed(before, after) => {
                out.row("", format_args!("was:{}", facts::order(before, names).text()))?;
                out.row("", format_args!("is: {}", facts::order(after, names).text()))?;
            }
        }
    }
    Ok(())
}
