//! `snapshot` and `rebuild-history`: what writes into a directory that no node owns.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use journal::recovery::{self, At};
use serde_json::json;

use super::output::{Bar, Output, bytes_text, moment_json, moment_text, seconds_text, tell_passed};
use super::{Common, Outcome, parse_moment, print_json};

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
    #[arg(long, value_name = "MOMENT", default_value = "end", value_parser = parse_moment)]
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
