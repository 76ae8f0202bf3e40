//! `backup`, `restore`, `export` and `import`: the directory elsewhere, and back.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use journal::recovery::{self, RestoreReport};
use serde_json::{Value, json};

use super::output::{
    Bar, Common, Outcome, Output, Stop, bytes_text, moment_json, moment_text, print_json, seconds_text,
};

/// Add what is new to a backup, also while a node runs
#[derive(Debug, Args)]
#[command(after_long_help = "\
The first run copies the whole log and the newest snapshot; each later one only what is new since. Beside a running node only \
what is durable is copied. A directory whose log does not go on where the backup ends is refused (exit status 6): begin a new \
backup in an empty directory then. A backup that is cut off leaves the one before it whole.

A node purges its log; a backup keeps it. Back up from the first day on and the backup has every command there ever was.

Examples:
  rialto journal backup --data /var/lib/rialto --to /mnt/backup/rialto
  */10 * * * *  rialto journal backup --data /var/lib/rialto --to /mnt/backup/rialto   (in a crontab)")]
pub(super) struct BackupArguments {
    #[command(flatten)]
    pub common: Common,
    /// The directory of the backup; made when it is missing
    #[arg(long, value_name = "BACKUP")]
    to: PathBuf,
}

pub(super) fn backup(arguments: &BackupArguments) -> Outcome {
    let began = Instant::now();
    let report = recovery::back_up(&arguments.common.data, &arguments.to, &mut Bar::new())?;
    if arguments.common.json {
        let segments = report.segments.iter().map(|segment| {
            json!({
                "path": segment.path,
                "first_entry": segment.entries.0,
                "end_entry": segment.entries.1,
                "raw_bytes": segment.bytes.0,
                "bytes": segment.bytes.1,
            })
        });
        return print_json(&json!({
            "running": report.was_running,
            "new_segments": segments.collect::<Vec<_>>(),
            "new_snapshot": report.snapshot.map(|(sequence, bytes)| json!({ "sequence": sequence.0, "bytes": bytes })),
            "first_entry": report.entries.0,
            "end_entry": report.entries.1,
            "segments": report.segment_count,
            "bytes": report.bytes,
            "newest_snapshot": report.newest_snapshot.map(|sequence| sequence.0),
        }));
    }
    let mut out = Output::new();
    if report.segments.is_empty() {
        out.row("new", "no entries")?;
    }
    for segment in &report.segments {
        let ((first, end), (raw, bytes)) = (segment.entries, segment.bytes);
        let (raw, bytes) = (bytes_text(raw), bytes_text(bytes));
        out.row("new", format_args!("entries {first} to {}, {raw} in {bytes}: {}", end - 1, segment.path.display()))?;
    }
    if let Some((sequence, bytes)) = report.snapshot {
        out.row("new", format_args!("snapshot of sequence {sequence}, {}", bytes_text(bytes)))?;
    }
    let (first, end) = report.entries;
    let segments = report.segment_count;
    out.row(
        "backup",
        format_args!("entries {first} to before {end} in {segments} segments, {}", bytes_text(report.bytes)),
    )?;
    out.row("took", seconds_text(began.elapsed()))?;
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

/// Make a data directory of a backup
#[derive(Debug, Args)]
#[command(after_long_help = "\
Everything is checked on the way: each file's hash, each frame and link, and a replay that must come to the state of every \
snapshot; history is written anew. The directory appears under its name when all of that is done, or not at all. Start a node \
on it then, as ever. What was acknowledged after the backup is not in it.

Examples:
  rialto journal restore --from /mnt/backup/rialto --data /var/lib/rialto
  rialto journal restore --from /mnt/backup/rialto --data /tmp/drill && rialto journal verify --data /tmp/drill")]
pub(super) struct RestoreArguments {
    #[command(flatten)]
    pub common: Common,
    /// The directory of the backup
    #[arg(long, value_name = "BACKUP")]
    from: PathBuf,
}

pub(super) fn restore(arguments: &RestoreArguments) -> Outcome {
    let began = Instant::now();
    let report = recovery::restore(&arguments.from, &arguments.common.data, &mut Bar::new())?;
    print_restored(&report, began, arguments.common.json)
}

fn print_restored(report: &RestoreReport, began: Instant, is_json: bool) -> Outcome {
    let (sequence, time, hash) = report.end;
    if is_json {
        return print_json(&json!({
            "data": report.data,
            "first_entry": report.entries.0,
            "end_entry": report.entries.1,
            "snapshots": report.snapshots,
            "passed_over": report.passed_over,
            "at": moment_json((sequence, time)),
            "state_hash": hash.to_string(),
            "history_from": report.history_from.0,
        }));
    }
    let mut out = Output::new();
    out.row("directory", report.data.display())?;
    let (first, end) = report.entries;
    out.row("log", format_args!("entries {first} to before {end}, {} snapshots", report.snapshots))?;
    for wrong in &report.passed_over {
        out.row("passed over", wrong)?;
    }
    out.row("end", format_args!("{}, state {hash}", moment_text((sequence, time))))?;
    print_history(report.history_from.0, &mut out)?;
    out.row("took", seconds_text(began.elapsed()))?;
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

fn print_history(from: u64, out: &mut Output) -> Result<(), Stop> {
    match from {
        1 => out.row("history", "whole, from the first command on"),
        from => out.row("history", format_args!("from sequence {from} on, where the log begins")),
    }
}

/// Write the log into one compressed file
#[derive(Debug, Args)]
#[command(after_long_help = "\
The file holds every entry of the log, checked again by whoever reads it; where the log was purged, the snapshot it goes on from \
stands before them.

Examples:
  rialto journal export --data /var/lib/rialto --to rialto.log.zst
  rialto journal import --from rialto.log.zst --data /tmp/copy")]
pub(super) struct ExportArguments {
    #[command(flatten)]
    pub common: Common,
    /// The file; it must not exist
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

pub(super) fn export(arguments: &ExportArguments) -> Outcome {
    let began = Instant::now();
    let report = recovery::export(&arguments.common.data, &arguments.to, &mut Bar::new())?;
    if arguments.common.json {
        let entry = |entry: Option<u64>| entry.map_or(Value::Null, Value::from);
        return print_json(&json!({
            "file": report.path,
            "first_entry": entry(report.entries.map(|(first, _)| first)),
            "last_entry": entry(report.entries.map(|(_, last)| last)),
            "has_snapshot": report.has_snapshot,
            "raw_bytes": report.bytes.0,
            "bytes": report.bytes.1,
        }));
    }
    let mut out = Output::new();
    out.row("file", report.path.display())?;
    let snapshot = if report.has_snapshot { ", and the snapshot they go on from" } else { "" };
    match report.entries {
        Some((first, last)) => out.row("entries", format_args!("{first} to {last}{snapshot}"))?,
        None => out.row("entries", format_args!("none{snapshot}"))?,
    }
    let (raw, bytes) = report.bytes;
    out.row("size", format_args!("{} of entries in {}", bytes_text(raw), bytes_text(bytes)))?;
    out.row("took", seconds_text(began.elapsed()))?;
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

/// Make a data directory of an exported log
#[derive(Debug, Args)]
#[command(after_long_help = "\
Checked as a restored backup is: the directory appears when everything in it was read, replayed and filed, or not at all.

Examples:
  rialto journal import --from rialto.log.zst --data /tmp/copy")]
pub(super) struct ImportArguments {
    #[command(flatten)]
    pub common: Common,
    /// The exported file
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
}

pub(super) fn import(arguments: &ImportArguments) -> Outcome {
    let began = Instant::now();
    let report = recovery::import(&arguments.from, &arguments.common.data, &mut Bar::new())?;
    print_restored(&report, began, arguments.common.json)
}
