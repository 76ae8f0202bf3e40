//! `explain`: the life of an order, line by line.

use std::process::ExitCode;

use clap::Args;
use engine::event::Trade;
use engine::order::OrderType;
use engine::{Order, OrderId};
use journal::recovery::{At, Directory, Happening, Line, Story};
use serde_json::{Value, json};

use super::names::Names;
use super::output::{Bar, Common, Outcome, Output, moment_json, print_json, tell_passed};
use super::{facts, moment};
use crate::wire::{list_status_words, side_word, status_word, time_in_force_word, type_word};

/// The life of an order, line by line: what it held, with whom it traded, what moved, why it ended
#[derive(Debug, Args)]
#[command(after_long_help = "\
Each line has the sequence and the time of the command that did it. The lines \"account\" are the balances of the order's owner \
before and after that command; other orders of the same command count there too.

Examples:
  rialto journal explain --data /var/lib/rialto BTCUSDT 4711
  rialto journal explain --data /var/lib/rialto BTCUSDT 4711 --at 2026-03-01T09:30:00Z
  rialto journal explain --data /var/lib/rialto BTCUSDT 4711 --json | jq '.lines[] | select(.what == \"traded\")'")]
pub(super) struct ExplainArguments {
    #[command(flatten)]
    pub common: Common,
    /// The order's symbol
    symbol: String,
    /// The order's number in it
    order_id: u64,
    /// Up to when
    #[arg(long, value_name = "MOMENT", default_value = "end", value_parser = moment::parse)]
    at: At,
}

pub(super) fn explain(arguments: &ExplainArguments) -> Outcome {
    let directory = Directory::read(&arguments.common.data)?;
    let mut passed = Vec::new();
    let order_id = OrderId(arguments.order_id);
    let story = Story::tell(&directory, &arguments.symbol, order_id, arguments.at, &mut Bar::new(), &mut passed)?;
    tell_passed(&passed);
    let names = Names::of_symbol(&story.symbol, &story.assets);
    let order = &story.order.order;
    if arguments.common.json {
        let lines: Vec<Value> = story.lines.iter().map(|line| line_json(line, order, &names)).collect();
        return print_json(&json!({
            "order": facts::order(order, &names).json(),
            "expiry_reason": story.order.expiry.map(facts::reason_text),
            "open": order.status.is_open(),
            "whole": story.is_whole,
            "base_sequence": story.base.sequence.0,
            "until": moment_json(story.until),
            "lines": lines,
        }));
    }
    let mut out = Output::new();
    let symbol = &story.symbol.config.name;
    out.line(format_args!(
        "order {order_id} of {symbol}, \"{}\" of account {}: {}",
        order.client_order_id,
        order.uid,
        terms_text(order, &names)
    ))?;
    out.line(ending_text(&story, &names))?;
    if !story.is_whole {
        out.line(format_args!(
            "its acceptance is before sequence {}, where the log begins: what came before is not told",
            story.base.sequence
        ))?;
    }
    for line in &story.lines {
        let place = format!("{:>10}  {}  ", line.sequence, moment::text(line.time));
        match &line.what {
            Happening::Account(balances) => {
                for balance in balances {
                    let text = facts::balance_text(balance.asset, balance.free, balance.locked, &names);
                    out.line(format_args!("{place}  account {}", text))?;
                }
            }
            what => out.line(format_args!("{place}{}", what_text(what, line, order, &names)))?,
        }
    }
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

fn terms_text(order: &Order, names: &Names) -> String {
    let (base, quote) = names.assets_of(order.symbol);
    let kind = type_word(order.order_type);
    let mut text = format!("{} {kind}", side_word(order.side));
    if !order.order_type.is_market() && order.order_type != OrderType::LimitMaker {
        text.push_str(&format!(" {}", time_in_force_word(order.time_in_force)));
    }
    if order.quote_order_quantity.is_zero() {
        text.push_str(&format!(" {} {base}", names.quantity(order.symbol, order.quantity)));
    } else {
        text.push_str(&format!(" for {} {quote}", names.quote(order.symbol, order.quote_order_quantity)));
    }
    if order.price.0 > 0 {
        text.push_str(&format!(" at {} {quote}", names.price(order.symbol, order.price)));
    }
    if let Some(special) = &order.special {
        if let Some(stop) = special.stop_price {
            text.push_str(&format!(", stop {}", names.price(order.symbol, stop)));
        }
        if let Some(delta) = special.trailing_delta {
            text.push_str(&format!(", trailing {delta} basis points"));
        }
        if let Some(part) = special.iceberg_quantity {
            text.push_str(&format!(", showing {}", names.quantity(order.symbol, part)));
        }
        if let Some(list) = special.order_list_id {
            text.push_str(&format!(", of list {list}"));
        }
    }
    text
}

fn ending_text(story: &Story, names: &Names) -> String {
    let order = &story.order.order;
    let (base, quote) = names.assets_of(order.symbol);
    let executed = names.quantity(order.symbol, order.executed);
    let worth = names.quote(order.symbol, order.cumulative_quote);
    let reason = story.order.expiry.map_or_else(String::new, |reason| format!(" ({})", facts::reason_text(reason)));
    let is = if order.status.is_open() { "it is open" } else { "it ended" };
    format!("{is}: {}{reason}, {executed} {base} executed for {worth} {quote}", status_word(order.status))
}

/// The order of a trade's other side, and whose it is.
fn other_side(trade: &Trade, is_maker: bool) -> (&engine::event::Fill, &engine::event::Fill) {
    if is_maker { (&trade.maker, &trade.taker) } else { (&trade.taker, &trade.maker) }
}

fn released_text(released: &Option<(engine::AssetId, engine::Amount)>, names: &Names) -> String {
    released.map_or_else(String::new, |money| format!("; {} freed", names.money(money)))
}

fn held_text(held: &Option<(engine::AssetId, engine::Amount)>, names: &Names) -> String {
    held.map_or_else(String::new, |money| format!(", holding {}", names.money(money)))
}

fn what_text(what: &Happening, line: &Line, order: &Order, names: &Names) -> String {
    let symbol = order.symbol;
    let asked = line.command.as_ref().map_or_else(String::new, |command| facts::command(command, names).text());
    match what {
        Happening::Open(now) => format!(
            "was open: {}, {} executed, {}",
            terms_text(now, names),
            names.quantity(symbol, now.executed),
            status_word(now.status)
        ),
        Happening::Accepted { order, held } => {
            format!("came: {}{}", terms_text(order, names), held_text(held, names))
        }
        Happening::Triggered { order, held } => {
            format!("triggered: {}{}", terms_text(order, names), held_text(held, names))
        }
        Happening::Filled { trade, is_maker, paid, received, released } => {
            let (own, other) = other_side(trade, *is_maker);
            let role = if *is_maker { "maker" } else { "taker" };
            let owner = if other.uid == own.uid {
                "of the same account".to_owned()
            } else {
                format!("of account {}", other.uid)
            };
            format!(
                "traded {} at {} as {role}: trade {} with order {} {owner}; paid {}, received {} less a fee of {}{}; now {}",
                names.quantity(symbol, trade.quantity),
                names.price(symbol, trade.price),
                trade.trade_id,
                other.order_id,
                names.money(*paid),
                names.money(*received),
                names.money((own.fee_asset, own.fee)),
                released_text(released, names),
                status_word(own.status)
            )
        }
        Happening::Prevented { prevented, is_maker, released } => {
            let (lost, other) = if *is_maker {
                (prevented.maker_prevented, prevented.taker_order_id)
            } else {
                (prevented.taker_prevented, prevented.maker_order_id)
            };
            format!(
                "did not trade with order {other} (self-trade prevention): lost {}{}",
                names.quantity(symbol, lost),
                released_text(released, names)
            )
        }
        Happening::Amended { order, previous_quantity, released, .. } => format!(
            "amended: {} -> {}{}",
            names.quantity(symbol, *previous_quantity),
            names.quantity(symbol, order.quantity),
            released_text(released, names)
        ),
        Happening::Replaced { price, quantity, held } => format!(
            "replaced: {} at {}{}",
            names.quantity(symbol, *quantity),
            names.price(symbol, *price),
            held_text(held, names)
        ),
        Happening::ListChanged(list) => {
            format!("its list {} is {}", list.order_list_id, list_status_words(list.status).0)
        }
        Happening::Canceled { released, .. } => format!("canceled by {asked}{}", released_text(released, names)),
        Happening::Expired { reason, released, .. } => {
            format!("expired: {}{}", facts::reason_text(*reason), released_text(released, names))
        }
        Happening::Account(_) => String::new(),
    }
}

fn line_json(line: &Line, order: &Order, names: &Names) -> Value {
    let symbol = order.symbol;
    let money = |money: &Option<(engine::AssetId, engine::Amount)>| {
        money.map(|(asset, amount)| json!({ "asset": names.asset_name(asset), "amount": names.amount(asset, amount) }))
    };
    let mut said = match &line.what {
        Happening::Open(order) => json!({ "what": "was_open", "order": facts::order(order, names).json() }),
        Happening::Accepted { order, held } => {
            json!({ "what": "came", "order": facts::order(order, names).json(), "held": money(held) })
        }
        Happening::Triggered { order, held } => {
            json!({ "what": "triggered", "order": facts::order(order, names).json(), "held": money(held) })
        }
        Happening::Filled { trade, is_maker, paid, received, released } => {
            let (own, other) = other_side(trade, *is_maker);
            json!({
                "what": "traded",
                "trade_id": trade.trade_id.0,
                "price": names.price(symbol, trade.price),
                "quantity": names.quantity(symbol, trade.quantity),
                "quote_amount": names.quote(symbol, trade.quote_amount),
                "maker": is_maker,
                "with_order": other.order_id.0,
                "with_account": other.uid.0,
                "paid": money(&Some(*paid)),
                "received": money(&Some(*received)),
                "fee": money(&Some((own.fee_asset, own.fee))),
                "released": money(released),
                "executed": names.quantity(symbol, own.executed),
                "status": status_word(own.status),
            })
        }
        Happening::Prevented { prevented, is_maker, released } => json!({
            "what": "prevented",
            "prevented_match_id": prevented.prevented_match_id.0,
            "maker": is_maker,
            "with_order": if *is_maker { prevented.taker_order_id.0 } else { prevented.maker_order_id.0 },
            "quantity": names.quantity(
                symbol,
                if *is_maker { prevented.maker_prevented } else { prevented.taker_prevented }
            ),
            "released": money(released),
        }),
        Happening::Amended { order, previous_quantity, previous_client_order_id, released } => json!({
            "what": "amended",
            "order": facts::order(order, names).json(),
            "previous_quantity": names.quantity(symbol, *previous_quantity),
            "previous_client_order_id": previous_client_order_id.to_string(),
            "released": money(released),
        }),
        Happening::Replaced { price, quantity, held } => json!({
            "what": "replaced",
            "price": names.price(symbol, *price),
            "quantity": names.quantity(symbol, *quantity),
            "held": money(held),
        }),
        Happening::ListChanged(list) => {
            json!({ "what": "list_changed", "list": facts::order_list(list, names).json() })
        }
        Happening::Canceled { order, cancel_client_order_id, released } => json!({
            "what": "canceled",
            "order": facts::order(order, names).json(),
            "cancel_client_order_id": cancel_client_order_id.to_string(),
            "released": money(released),
        }),
        Happening::Expired { order, reason, released } => json!({
            "what": "expired",
            "order": facts::order(order, names).json(),
            "reason": facts::reason_text(*reason),
            "released": money(released),
        }),
        Happening::Account(balances) => json!({
            "what": "account",
            "balances": balances.iter().map(|balance| {
                let amount = |amount| names.amount(balance.asset, amount);
                json!({
                    "asset": names.asset_name(balance.asset),
                    "free": [amount(balance.free.0), amount(balance.free.1)],
                    "locked": [amount(balance.locked.0), amount(balance.locked.1)],
                })
            }).collect::<Vec<_>>(),
        }),
    };
    said["sequence"] = line.sequence.0.into();
    said["time"] = moment::text(line.time).into();
    if let Some(command) = &line.command {
        said["command"] = facts::command(command, names).json();
    }
    said
}
