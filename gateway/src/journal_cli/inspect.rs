//! `status`, `verify` and `dump`: what is in the directory, whether it is whole, and the commands themselves.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use engine::{Event, Sequence, Time};
use journal::recovery::{self, At, Directory, EntryKind, Played, RawEntry, RecoveryError, Replay, Status, Verified};
use serde_json::{Value, json};

use super::names::Names;
use super::output::{
    Bar, Common, DAMAGE, Outcome, Output, Stop, bytes_text, damage_json, moment_text, per_second, seconds_text,
    tell_passed,
};
use super::{facts, moment};

/// What the directory holds, at a glance
#[derive(Debug, Args)]
#[command(after_long_help = "\
Reads the log only behind the newest snapshot, so it is quick; \"verify\" looks at everything.

Examples:
  rialto journal status --data /var/lib/rialto
  rialto journal status --data /var/lib/rialto --json | jq .log.last_sequence")]
pub(super) struct StatusArguments {
    #[command(flatten)]
    pub common: Common,
}

pub(super) fn status(arguments: &StatusArguments) -> Outcome {
    let status = recovery::status(&arguments.common.data, &mut Bar::new())?;
    let is_damaged = status.durable.is_err()
        || status.history.is_err()
        || status.snapshots.iter().any(|snapshot| snapshot.head.is_err());
    let mut out = Output::new();
    if arguments.common.json {
        out.line(status_json(&status))?;
    } else {
        print_status(&status, &mut out)?;
    }
    out.end()?;
    Ok(if is_damaged { ExitCode::from(DAMAGE) } else { ExitCode::SUCCESS })
}

fn status_json(status: &Status) -> Value {
    let snapshots = status.snapshots.iter().map(|snapshot| {
        let head = snapshot.head.as_ref();
        json!({
            "path": snapshot.path,
            "bytes": snapshot.bytes,
            "entry": snapshot.index,
            "sequence": head.ok().map(|(sequence, _)| sequence.0),
            "state_hash": head.ok().map(|(_, hash)| hex::encode(hash)),
            "damage": head.err().map(damage_json),
        })
    });
    json!({
        "data": status.data,
        "running": status.is_running,
        "format": status.format,
        "starts": status.starts,
        "vote": status.vote.map(|vote| json!({ "term": vote.term, "node": vote.node, "committed": vote.committed })),
        "log": {
            "first_entry": status.entries.map(|(first, _)| first),
            "last_entry": status.entries.map(|(_, last)| last),
            "durable_before": status.durable.as_ref().ok(),
            "durable_damage": status.durable.as_ref().err().map(damage_json),
            "first_sequence": status.first_sequence.0,
            "last_sequence": status.last_sequence.0,
            "last_time": status.last_time.map(moment::text),
        },
        "snapshots": snapshots.collect::<Vec<_>>(),
        "put_aside": status.put_aside,
        "history": {
            "sequence": status.history.as_ref().ok().map(|sequence| sequence.0),
            "damage": status.history.as_ref().err().map(damage_json),
        },
        "bytes": { "database": status.bytes.0, "snapshots": status.bytes.1 },
    })
}

fn print_status(status: &Status, out: &mut Output) -> Result<(), Stop> {
    let node = if status.is_running { "a node is running" } else { "no node is running" };
    out.row("directory", format_args!("{}: {node}", status.data.display()))?;
    out.row("format", format_args!("{}, started {} times", status.format, status.starts))?;
    if let Some(vote) = status.vote {
        let led = if vote.committed { "leads" } else { "voted for" };
        out.row("vote", format_args!("term {}, node {} {led}", vote.term, vote.node))?;
    }
    match status.entries {
        Some((first, last)) => {
            let time = status.last_time.map_or_else(String::new, |time| format!(", {}", moment::text(time)));
            let (from, to) = (status.first_sequence, status.last_sequence);
            out.row("log", format_args!("entries {first} to {last}, sequences {from} to {to}{time}"))?;
        }
        None => out.row("log", format_args!("empty behind sequence {}", status.last_sequence))?,
    }
    match &status.durable {
        Ok(mark) => out.row("durable", format_args!("entries before {mark} at least"))?,
        Err(damage) => out.row("durable", damage)?,
    }
    if status.snapshots.is_empty() {
        out.row("snapshots", "none")?;
    }
    for snapshot in &status.snapshots {
        match &snapshot.head {
            Ok((sequence, hash)) => out.row(
                "snapshot",
                format_args!(
                    "sequence {sequence}, entry {}, {}, state {}",
                    snapshot.index,
                    bytes_text(snapshot.bytes),
                    &hex::encode(hash)[..16]
                ),
            )?,
            Err(damage) => out.row("snapshot", damage)?,
        }
    }
    for path in &status.put_aside {
        out.row("put aside", path.display())?;
    }
    match &status.history {
        Ok(sequence) => {
            let rest = if status.is_running { " on disk" } else { "" };
            out.row("history", format_args!("up to sequence {sequence}{rest}"))?;
        }
        Err(damage) => out.row("history", damage)?,
    }
    let (database, snapshots) = status.bytes;
    out.row("size", format_args!("{} database, {} snapshots", bytes_text(database), bytes_text(snapshots)))
}

/// Look at everything: each byte of log, votes, snapshots and history, and whether a replay comes to the same states
#[derive(Debug, Args)]
#[command(after_long_help = "\
Every frame, link, mark, vote and row is read; every snapshot decoded and hashed; and the log is replayed from the oldest \
snapshot (or from its begin) through every newer one to its end: each time the state must have the same hash. Damage is \
named with its place, its sequence and what to do; the exit status is then 3.

Examples:
  rialto journal verify --data /var/lib/rialto
  rialto journal verify --data /var/lib/rialto --json | jq -r '.damages[].place'")]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    pub common: Common,
}

pub(super) fn verify(arguments: &VerifyArguments) -> Outcome {
    let began = Instant::now();
    let found = recovery::verify(&arguments.common.data, &mut Bar::new())?;
    let elapsed = began.elapsed();
    let mut out = Output::new();
    if arguments.common.json {
        out.line(verified_json(&found, u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)))?;
    } else {
        print_verified(&found, &mut out)?;
        let rate = per_second(found.commands + found.replayed, elapsed);
        out.row("took", format_args!("{}, {rate} commands a second read or replayed", seconds_text(elapsed)))?;
        out.row("verdict", if found.damages.is_empty() { "whole" } else { "DAMAGED" })?;
    }
    out.end()?;
    Ok(if found.damages.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DAMAGE) })
}

fn verified_json(found: &Verified, elapsed_ms: u64) -> Value {
    let state = |(sequence, time, hash): (Sequence, Time, engine::snapshot::StateHash)| json!({ "sequence": sequence.0, "time": moment::text(time), "state_hash": hash.to_string() });
    json!({
        "whole": found.damages.is_empty(),
        "damages": found.damages.iter().map(damage_json).collect::<Vec<_>>(),
        "notes": found.notes,
        "log": { "entries": found.entries, "commands": found.commands, "bytes": found.bytes },
        "snapshots": found.snapshots,
        "history_rows": found.history_rows,
        "replay": {
            "base_sequence": found.base.as_ref().map(|base| base.sequence.0),
            "commands": found.replayed,
            "snapshots_reached": found.reached.iter().map(|(sequence, _)| sequence.0).collect::<Vec<_>>(),
            "end": found.end.map(state),
        },
        "elapsed_ms": elapsed_ms,
    })
}

fn print_verified(found: &Verified, out: &mut Output) -> Result<(), Stop> {
    let (entries, commands) = (found.entries, found.commands);
    out.row("log", format_args!("{entries} entries with {commands} commands, {}", bytes_text(found.bytes)))?;
    out.row("snapshots", format_args!("{} whole", found.snapshots))?;
    out.row("history", format_args!("{} rows", found.history_rows))?;
    if let Some(base) = &found.base {
        let from = match &base.file {
            Some(file) => format!("{}, sequence {}", file.display(), base.sequence),
            None => "the log's begin".to_owned(),
        };
        out.row("replay", format_args!("{} commands from {from}", found.replayed))?;
    }
    for (sequence, hash) in &found.reached {
        out.row("", format_args!("came to the snapshot of sequence {sequence}, state {}", &hash.to_string()[..16]))?;
    }
    if let Some((sequence, time, hash)) = found.end {
        out.row("end", format_args!("{}, state {hash}", moment_text((sequence, time))))?;
    }
    for note in &found.notes {
        out.row("note", note)?;
    }
    for damage in &found.damages {
        out.row("DAMAGE", damage)?;
    }
    Ok(())
}

/// The commands of the log and what they did, one a line
#[derive(Debug, Args)]
#[command(after_long_help = "\
Each command with its sequence, its time, what it asked and what came of it; amounts in the scales of their assets. Secrets \
of API keys are left out. With --entries the log entries as they lie there, undecided: then FROM and TO are entry numbers.

Examples:
  rialto journal dump --data /var/lib/rialto --from 1000 --to 1010
  rialto journal dump --data /var/lib/rialto --from 2026-03-01T09:30:00Z --to 2026-03-01T09:31:00Z --events
  rialto journal dump --data /var/lib/rialto --json | jq 'select(.command.uid == 1001)'
  rialto journal dump --data /var/lib/rialto --entries --from 0 --to 20")]
pub(super) struct DumpArguments {
    #[command(flatten)]
    pub common: Common,
    /// The first command [default: the first in the log]
    #[arg(long, value_name = "MOMENT", value_parser = moment::parse)]
    from: Option<At>,
    /// The last command [default: the last in the log]
    #[arg(long, value_name = "MOMENT", value_parser = moment::parse)]
    to: Option<At>,
    /// What each command did, event by event
    #[arg(long, conflicts_with = "entries")]
    events: bool,
    /// The log entries as they lie there
    #[arg(long)]
    entries: bool,
}

pub(super) fn dump(arguments: &DumpArguments) -> Outcome {
    let directory = Directory::read(&arguments.common.data)?;
    let mut out = Output::new();
    if arguments.entries {
        dump_entries(&directory, arguments, &mut out)?
    } else {
        dump_commands(&directory, arguments, &mut out)?
    }
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

/// Errors of the output travel through the library as errors of its own would.
fn unless_stopped(written: Result<(), Stop>, stopped: &mut Option<Stop>) -> Result<(), RecoveryError> {
    written.map_err(|stop| {
        *stopped = Some(stop);
        RecoveryError::Stopped
    })
}

fn dump_entries(directory: &Directory, arguments: &DumpArguments, out: &mut Output) -> Result<(), Stop> {
    let index = |at: Option<At>, open: u64| match at {
        None | Some(At::End) => Ok(open),
        Some(At::Sequence(index)) => Ok(index.0),
        Some(At::Time(_)) => Err(RecoveryError::Refused("with --entries, FROM and TO are entry numbers".to_owned())),
    };
    let (first, last) = (index(arguments.from, 0)?, index(arguments.to, u64::MAX - 1)?);
    let mut stopped = None;
    let visited = directory.raw_entries(first..=last, &mut Bar::new(), |entry| {
        let line = if arguments.common.json { entry_json(entry).to_string() } else { entry_text(entry) };
        unless_stopped(out.line(line), &mut stopped)
    });
    match stopped {
        Some(stop) => Err(stop),
        None => Ok(visited?),
    }
}

fn entry_json(entry: &RawEntry) -> Value {
    let mut said = json!({
        "entry": entry.index,
        "term": entry.term,
        "node": entry.node,
        "bytes": entry.bytes,
        "previous": hex::encode(entry.previous),
        "link": hex::encode(entry.link),
    });
    match &entry.kind {
        EntryKind::Blank => said["kind"] = "blank".into(),
        EntryKind::Membership(members) => {
            said["kind"] = "membership".into();
            said["membership"] = members.as_str().into();
        }
        EntryKind::Compensation(ruling) => {
            said["kind"] = "compensation".into();
            said["sequence"] = ruling.sequence.0.into();
            said["operator"] = ruling.operator.as_str().into();
            said["reason"] = ruling.reason.as_str().into();
            said["time"] = moment::text(ruling.time).into();
        }
        EntryKind::Commands { first_sequence, count, time, origin: (node, start, ticket) } => {
            said["kind"] = "commands".into();
            said["first_sequence"] = first_sequence.0.into();
            said["commands"] = (*count).into();
            said["time"] = moment::text(*time).into();
            said["origin"] = json!({ "node": node, "start": start, "ticket": ticket });
        }
    }
    said
}

fn entry_text(entry: &RawEntry) -> String {
    let what = match &entry.kind {
        EntryKind::Blank => "blank: a leader began its term".to_owned(),
        EntryKind::Membership(members) => format!("membership {members}"),
        EntryKind::Compensation(ruling) => format!(
            "command {} is passed over, as {} ruled at {}: {}",
            ruling.sequence,
            ruling.operator,
            moment::text(ruling.time),
            ruling.reason
        ),
        EntryKind::Commands { first_sequence, count, time, origin: (node, start, ticket) } => format!(
            "{count} commands from sequence {first_sequence} at {}, number {ticket} of start {start} of node {node}",
            moment::text(*time)
        ),
    };
    format!(
        "entry {:>8}  term {} of node {}  {:>7} bytes  link {}  {what}",
        entry.index,
        entry.term,
        entry.node,
        entry.bytes,
        &hex::encode(entry.link)[..16]
    )
}

fn dump_commands(directory: &Directory, arguments: &DumpArguments, out: &mut Output) -> Result<(), Stop> {
    let mut passed = Vec::new();
    let (from, to) = (arguments.from.unwrap_or(At::Sequence(Sequence(0))), arguments.to.unwrap_or(At::End));
    if let (At::Sequence(first), At::Sequence(last)) = (from, to)
        && last < first
    {
        return Err(RecoveryError::NotThere(format!("{to} is before {first}")).into());
    }
    // Before the first command that is wanted; where the log no longer begins at its begin, from where it does.
    let before = match from {
        At::Sequence(sequence) => At::Sequence(Sequence(sequence.0.saturating_sub(1))),
        At::Time(time) => At::Time(Time(time.0.saturating_sub(1))),
        At::End => At::End,
    };
    let mut replay = match (Replay::towards(directory, before, &mut passed), arguments.from) {
        (Err(RecoveryError::NotThere(_)), None) => Replay::from_oldest(directory, &mut passed)?,
        (opened, _) => opened?,
    };
    tell_passed(&passed);
    if replay.sequence().0 > 0 || before != At::Sequence(Sequence(0)) {
        let start = match before {
            At::Sequence(sequence) if sequence < replay.sequence() => At::Sequence(replay.sequence()),
            other => other,
        };
        replay.run(start, &mut Bar::new(), |_| Ok(ControlFlow::Continue(())))?;
    }
    let mut names = Names::of(&replay.snapshot());
    let mut stopped = None;
    let visited = replay.run(to, &mut Bar::new(), |played| {
        let written = dump_played(played, arguments, &mut names, out);
        unless_stopped(written, &mut stopped)?;
        Ok(ControlFlow::Continue(()))
    });
    if let Some(stop) = stopped {
        return Err(stop);
    }
    if let Err(RecoveryError::Poisoned(poison)) = &visited {
        let asked = facts::command(&poison.command, &names);
        out.line(format_args!(
            "{:>10}  {}  {}  STOPS THE ENGINE",
            poison.sequence,
            moment::text(poison.time),
            asked.text()
        ))?;
    }
    Ok(visited?)
}

fn dump_played(
    played: &Played<'_>,
    arguments: &DumpArguments,
    names: &mut Names,
    out: &mut Output,
) -> Result<(), Stop> {
    let time = played.applied.time;
    for (sequence, command, events) in played.each() {
        events.iter().for_each(|event| names.follow(event));
        let asked = facts::command(command, names);
        if arguments.common.json {
            let mut said = json!({
                "sequence": sequence.0,
                "time": moment::text(time),
                "command": asked.json(),
                "outcome": outcome(events, names),
            });
            if arguments.events {
                said["events"] = events.iter().map(|event| facts::event(event, names).json()).collect();
            }
            out.line(said)?;
            continue;
        }
        out.line(format_args!(
            "{sequence:>10}  {}  {}  -> {}",
            moment::text(time),
            asked.text(),
            outcome(events, names)
        ))?;
        if arguments.events {
            for event in events {
                out.line(format_args!("{:>10}  {}", "", facts::event(event, names).text()))?;
            }
        }
    }
    Ok(())
}

/// What came of a command, in a few words.
pub(super) fn outcome(events: &[Event], names: &Names) -> String {
    let mut words = Vec::new();
    let trades = events.iter().filter(|event| matches!(event, Event::Trade(_))).count();
    for event in events {
        match event {
            Event::Rejected(rejection) => words.push(format!("refused: {rejection:?}")),
            Event::OrderAccepted(order) => words.push(format!("order {}", order.order_id)),
            Event::OrderTriggered(order) => words.push(format!("triggered order {}", order.order_id)),
            Event::OrderCanceled { order, .. } => words.push(format!("canceled order {}", order.order_id)),
            Event::OrderExpired { order, .. } => words.push(format!("expired order {}", order.order_id)),
            Event::OrderAmended { order, .. } => words.push(format!("amended order {}", order.order_id)),
            Event::OrderReplaced { order_id, .. } => words.push(format!("replaced order {order_id}")),
            Event::TransferRepeated(_) => words.push("repeated, nothing changed".to_owned()),
            Event::SymbolAdded(symbol) => words.push(format!("symbol {}", names.symbol_name(symbol.id))),
            _ => {}
        }
    }
    if trades > 0 {
        words.push(format!("{trades} trades"));
    }
    if words.is_empty() { "done".to_owned() } else { words.join(", ") }
}
