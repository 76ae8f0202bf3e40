//! What operators see, in one JSON object: the console and `rialto top` show nothing else. The numbers are the samples that
//! `/metrics` prints.

use std::sync::Arc;

use engine::Price;
use engine::symbol::SymbolStatus;
use journal::{ClusterStatus, MemberStatus, Role};
use serde_json::{Value, json};

use crate::app::App;
use crate::audit::Line;
use crate::rejects::Rejected;
use crate::samples::{Samples, lag_entries};
use crate::stages::StageSummary;
use crate::views::MarketFigures;
use crate::wire::{Numbers, symbol_status_word};
use crate::ws::hub::TimeUnit;
use crate::ws::registry::SocketSample;

/// How many of the slowest sockets are told of.
const SLOWEST: usize = 10;

/// As everything stands now.
pub async fn overview(app: &Arc<App>) -> Value {
    let at = app.clone();
    // With tens of thousands of sockets it takes a while to find the slowest.
    let taken = tokio::task::spawn_blocking(move || {
        let samples = Samples::take(&at);
        let slowest = at.sockets.slowest(&at.outlets.hub.behind(), SLOWEST, samples.time.millis());
        let told = tell(&samples, &slowest, &at.outlets.audit.newest());
        (told, at.public_url.clone())
    });
    // It ends early only with the program.
    let (mut told, url) = taken.await.unwrap_or_default();
    told["publicUrl"] = json!(url);
    told
}

/// The samples as the console has them.
pub fn tell(samples: &Samples, slowest: &[SocketSample], audit: &[Line]) -> Value {
    let (node, sockets) = (&samples.node, &samples.sockets);
    json!({
        "time": samples.time.millis(),
        "version": env!("CARGO_PKG_VERSION"),
        "node": samples.cluster.as_ref().map_or(0, |status| status.asked),
        "role": samples.cluster.as_ref().map_or("none", role),
        "uptimeSeconds": samples.uptime_seconds,
        "ready": samples.is_ready,
        "sequence": samples.sequence,
        "appliedSequence": node.applied_sequence,
        "conserved": samples.is_conserved,
        "reconciliation": reconciliation(samples),
        "haltedAll": is_all_halted(samples),
        "cluster": samples.others().map(cluster),
        "stages": samples.stages.iter().map(stage).collect::<Value>(),
        "queues": samples.queues().iter().map(|queue| {
            json!({ "name": queue.name, "depth": queue.depth.depth, "bound": queue.depth.bound })
        }).collect::<Value>(),
        "threads": samples.threads.iter().map(|(name, busy)| json!({ "name": name, "busyNs": busy })).collect::<Value>(),
        "journal": {
            "logIndex": node.last_log_index,
            "logBytes": node.log_bytes,
            "logSyncs": node.log_syncs,
            "logSyncNs": node.log_sync_ns,
            "snapshots": node.snapshots,
            "historyWatermark": node.history_watermark,
            "historyLag": samples.history_lag(),
            "diskFreeBytes": node.free_bytes,
            "diskLow": node.is_space_low,
        },
        "symbols": samples.symbols.iter().filter_map(|figures| symbol(samples, figures)).collect::<Value>(),
        "sockets": {
            "open": sockets.open,
            "subscriptions": sockets.subscriptions(),
            "messages": sockets.messages,
            "conflated": sockets.conflated,
            "slowDisconnects": sockets.slow_disconnects.iter().map(|(reason, count)| (*reason, json!(count)))
                .collect::<Value>(),
            "byStream": sockets.by_stream.iter().map(|(stream, count)| {
                json!({ "stream": stream, "subscriptions": count })
            }).collect::<Value>(),
            "slowest": slowest.iter().map(socket).collect::<Value>(),
        },
        "rejects": rejects(&samples.rejects),
        "audit": audit.iter().map(line).collect::<Value>(),
    })
}

fn stage(stage: &StageSummary) -> Value {
    json!({
        "name": stage.name,
        "count": stage.count,
        "p50Us": stage.p50_us,
        "p99Us": stage.p99_us,
        "p999Us": stage.p999_us,
    })
}

fn own(status: &ClusterStatus) -> Option<&MemberStatus> {
    status.members.iter().find(|member| member.node == status.asked)
}

fn role(status: &ClusterStatus) -> &'static str {
    match own(status).map(|member| member.role) {
        Some(Role::Leader) => "leader",
        Some(Role::Follower) => "follower",
        Some(Role::Learner) => "learner",
        // Whoever stands in front of a cluster asks as nobody.
        None if status.asked == 0 => "gateway",
        Some(Role::Unreachable) | None => "none",
    }
}

/// Whether the books can be trusted: all balances add up, and all nodes did the same.
fn reconciliation(samples: &Samples) -> Value {
    if !samples.is_conserved {
        return json!({ "state": "broken", "detail": "the balances do not add up to deposits less withdrawals" });
    }
    let Some(status) = samples.others() else {
        return json!({ "state": "ok", "detail": "all balances add up to deposits less withdrawals" });
    };
    let odd = status.members.iter().find(|member| member.differs());
    if let Some((member, trouble)) = odd.and_then(|member| Some((member, member.trouble.as_ref()?))) {
        return json!({ "state": "fenced", "detail": format!("node {}: {trouble}", member.node) });
    }
    let hash = own(status).map(|member| &member.state_hash);
    let hash = hash.map_or_else(String::new, |hash| format!("; state {} at log entry {}", hash.value, hash.index));
    json!({ "state": "ok", "detail": format!("all balances add up, and no node's state differs{hash}") })
}

fn is_all_halted(samples: &Samples) -> bool {
    let is = |status| samples.catalog.symbols.iter().any(|symbol| symbol.status == status);
    is(SymbolStatus::Halt) && !is(SymbolStatus::Trading)
}

fn cluster(status: &ClusterStatus) -> Value {
    let member = |member: &MemberStatus| {
        json!({
            "node": member.node,
            "address": member.address,
            "role": member.role,
            "voter": member.voter,
            "appliedSequence": member.applied_sequence,
            "lagEntries": lag_entries(status, member.applied_index),
            "reachable": member.role != Role::Unreachable,
            "trouble": member.trouble,
            "version": member.version,
            "isThis": member.node == status.asked,
        })
    };
    json!({
        "leader": status.leader,
        "term": status.term,
        "members": status.members.iter().map(member).collect::<Value>(),
    })
}

fn symbol(samples: &Samples, figures: &MarketFigures) -> Option<Value> {
    let symbol = samples.catalog.symbols.get(figures.symbol.0 as usize)?;
    let numbers = Numbers::new(symbol, &samples.catalog, TimeUnit::Millisecond);
    let (bid, ask) = (figures.book.bid.map(|(price, _)| price), figures.book.ask.map(|(price, _)| price));
    // They cross for no longer than it takes to match; what a quote-driven symbol says then is no spread.
    let spread = bid.zip(ask).and_then(|(bid, ask)| Some(Price(ask.0.checked_sub(bid.0)?)));
    let text = |price: Option<Price>| price.map(|price| numbers.price(price));
    Some(json!({
        "symbol": symbol.config.name,
        "status": symbol_status_word(symbol.status),
        "orders": figures.orders,
        "trades": figures.trades,
        "restingOrders": figures.open_orders,
        "bid": text(bid),
        "ask": text(ask),
        "spread": text(spread),
        "lastTradeAgeMs": figures.last_trade_at.map(|at| samples.time.0.saturating_sub(at.0) / 1_000),
    }))
}

fn socket(sample: &SocketSample) -> Value {
    json!({
        "id": sample.id,
        "address": sample.address.to_string(),
        "streams": sample.streams,
        "behind": sample.behind,
        "lagMs": sample.lag_ms,
        "conflated": sample.conflated,
        "sent": sample.sent,
        "openSeconds": sample.open_seconds,
    })
}

/// Those of the last minutes, the most frequent first.
fn rejects(by_code: &[Rejected]) -> Value {
    let mut recent: Vec<&Rejected> = by_code.iter().filter(|rejected| rejected.recent > 0).collect();
    recent.sort_by_key(|rejected| std::cmp::Reverse(rejected.recent));
    let told = |it: &&Rejected| json!({ "code": it.code, "count": it.recent, "total": it.total });
    recent.iter().map(told).collect()
}

fn line(line: &Line) -> Value {
    json!({
        "sequence": line.sequence.map(|sequence| sequence.0),
        "time": line.time.millis(),
        "operator": line.note.operator,
        "origin": line.note.origin,
        "action": line.note.action,
        "reason": line.note.reason,
        "ok": line.is_done,
    })
}
