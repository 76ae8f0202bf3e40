//! `snapshot`, `rebuild-history`, `adopt` and `compensate`: what writes into a directory that no node owns.

use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use engine::{Sequence, Time};
use journal::Compensation;
use journal::recovery::{self, At, RecoveryError, Verdict};
use serde_json::json;

use super::names::Names;
use super::output::{
    Bar, Common, Outcome, Output, bytes_text, moment_json, moment_text, print_json, seconds_text, tell_passed,
};
use super::{facts, inspect, moment};

/// Write a snapshot, so that the next start and time travels are shorter
#[derive(Debug, Args)]
#[command(after_long_help = "\
Refused beside a running node, which writes its own. A snapshot is of whole log entries: a MOMENT inside of one is refused, and \
the nearest that can be are named. The node keeps the newest three and some older ones; it removes the others in time.

Examples:
  rialto journal snapshot --data /var/lib/rialto
  rialto journal snapshot --data /var/lib/rialto --at 2026-03-01T09:30:00Z")]
pub(super) struct SnapshotArguments {
    #[command(flatten)]
    pub common: Common,
    /// Of when
    #[arg(long, value_name = "MOMENT", default_value = "end", value_parser = moment::parse)]
    at: At,
}

pub(super) fn snapshot(arguments: &SnapshotArguments) -> Outcome {
    let began = Instant::now();
    let mut passed = Vec::new();
    let report = recovery::write_snapshot(&arguments.common.data, arguments.at, &mut Bar::new(), &mut passed)?;
    tell_passed(&passed);
    let (sequence, time, hash) = report.state;
    if arguments.common.json {
        return print_json(&json!({
            "path": report.path,
            "bytes": report.bytes,
            "at": moment_json((sequence, time)),
            "state_hash": hash.to_string(),
            "replaced": report.was_there,
        }));
    }
    let mut out = Output::new();
    out.row("snapshot", report.path.display())?;
    out.row("of", format_args!("{}, state {hash}", moment_text((sequence, time))))?;
    out.row("size", bytes_text(report.bytes))?;
    if report.was_there {
        out.row("note", "there was one of this moment, which it replaces")?;
    }
    out.row("took", seconds_text(began.elapsed()))?;
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

/// Drop history and write it again from the log
#[derive(Debug, Args)]
#[command(after_long_help = "\
Orders, trades and lists of the past are a copy of what the log says; this makes the copy anew. Where the log no longer begins at \
its begin, what is older than its oldest snapshot cannot be written again: of that, rows that are whole are left. If it is cut \
off, run it again before a node is started.

Examples:
  rialto journal rebuild-history --data /var/lib/rialto")]
pub(super) struct RebuildArguments {
    #[command(flatten)]
    pub common: Common,
}

pub(super) fn rebuild_history(arguments: &RebuildArguments) -> Outcome {
    let began = Instant::now();
    let report = recovery::rebuild_history(&arguments.common.data, &mut Bar::new())?;
    let (sequence, time, hash) = report.end;
    if arguments.common.json {
        return print_json(&json!({
            "from_sequence": report.from.0,
            "rows_left": report.rows_left,
            "at": moment_json((sequence, time)),
            "state_hash": hash.to_string(),
        }));
    }
    let mut out = Output::new();
    out.row("history", format_args!("sequences {} to {sequence} were filed again", report.from))?;
    if report.rows_left > 0 {
        out.row("", format_args!("{} rows that are older than the log were left as they were", report.rows_left))?;
    }
    out.row("end", format_args!("{}, state {hash}", moment_text((sequence, time))))?;
    out.row("took", seconds_text(began.elapsed()))?;
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

/// Make a copied data directory the directory of a node
#[derive(Debug, Args)]
#[command(after_long_help = "\
A node refuses a directory that was copied: an older copy in the place of the original would start without complaint and lose \
what was acknowledged since. This says that the copy is meant, and that the original will not run again.

Examples:
  rialto journal adopt --data /var/lib/rialto")]
pub(super) struct AdoptArguments {
    #[command(flatten)]
    pub common: Common,
    /// Let it go on as this node without the rest of its cluster, which is lost for good
    #[arg(long, value_name = "NODE")]
    alone: Option<u64>,
}

pub(super) fn adopt(arguments: &AdoptArguments) -> Outcome {
    let data = &arguments.common.data;
    recovery::adopt(data, arguments.alone)?;
    if arguments.common.json {
        return print_json(&json!({ "data": data, "adopted": true, "alone": arguments.alone }));
    }
    let mut out = Output::new();
    out.row("adopted", format_args!("{}: a node may start on it", data.display()))?;
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

/// Rule that a command is passed over, because deciding it stops the engine
#[derive(Debug, Args)]
#[command(after_long_help = "\
A command that makes the engine panic stops every node, again after every start. A ruling makes all nodes pass over it: it keeps \
its sequence and does nothing. The ruling is an entry of the log, with who made it and why, and cannot be taken back.

Without --confirm nothing is changed: the command is shown, and what the engine does with it. Only commands behind the newest \
snapshot can be ruled on. Send the log to the makers before: rialto journal export.

Examples:
  rialto journal compensate --data /var/lib/rialto --sequence 4711 --operator ann --reason \"panics, see incident 12\"
  rialto journal compensate --data /var/lib/rialto --sequence 4711 --operator ann --reason \"panics, see incident 12\" --confirm 4711")]
pub(super) struct CompensateArguments {
    #[command(flatten)]
    pub common: Common,
    /// Which command
    #[arg(long, value_name = "SEQUENCE")]
    sequence: u64,
    /// Who rules
    #[arg(long, value_name = "NAME")]
    operator: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The sequence once more: do it
    #[arg(long, value_name = "SEQUENCE")]
    confirm: Option<u64>,
}

pub(super) fn compensate(arguments: &CompensateArguments) -> Outcome {
    let CompensateArguments { common, sequence, operator, reason, confirm } = arguments;
    if operator.trim().is_empty() || reason.trim().is_empty() {
        return Err(RecoveryError::Refused("who rules, and why, must be said".to_owned()).into());
    }
    if confirm.is_some_and(|confirm| confirm != *sequence) {
        let what = format!("--confirm must say {sequence} once more: nothing was changed");
        return Err(RecoveryError::Refused(what).into());
    }
    let mut passed = Vec::new();
    let sequence = Sequence(*sequence);
    let considered = recovery::consider(&common.data, sequence, &mut Bar::new(), &mut passed)?;
    if considered.is_running && confirm.is_some() {
        return Err(RecoveryError::InUse(common.data.clone()).into());
    }
    tell_passed(&passed);
    let names = Names::of(&considered.state);
    let asked = facts::command(&considered.command, &names);
    let (stops, verdict) = match &considered.verdict {
        Verdict::Stops(message) => (true, format!("stops the engine: {message}")),
        Verdict::Decides(events) => {
            (false, format!("is decided by this program without harm: {}", inspect::outcome(events, &names)))
        }
    };
    let ruled = match confirm {
        None => None,
        Some(_) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let time = Time(u64::try_from(now.as_micros()).unwrap_or(u64::MAX));
            let ruling = Compensation { sequence, time, operator: operator.clone(), reason: reason.clone() };
            Some(recovery::compensate(&common.data, ruling, &mut Bar::new())?)
        }
    };
    if common.json {
        return print_json(&json!({
            "sequence": sequence.0,
            "time": moment::text(considered.time),
            "command": asked.json(),
            "stops_the_engine": stops,
            "verdict": verdict,
            "done": ruled.is_some(),
            "end": ruled.map(|(sequence, time, hash)| {
                json!({ "at": moment_json((sequence, time)), "state_hash": hash.to_string() })
            }),
        }));
    }
    let mut out = Output::new();
    out.row("command", moment_text((sequence, considered.time)))?;
    out.row("", asked.text())?;
    out.row("", verdict)?;
    match ruled {
        None => out.row("dry run", format_args!("nothing was changed; to rule so, add --confirm {sequence}"))?,
        Some((last, time, hash)) => {
            out.row("ruled", format_args!("it is passed over from now on, by {operator}: {reason}"))?;
            out.row("end", format_args!("{}, state {hash}", moment_text((last, time))))?;
        }
    }
    out.end()?;
    Ok(ExitCode::SUCCESS)
}
