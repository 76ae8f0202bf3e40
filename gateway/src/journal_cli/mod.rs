//! `rialto journal`: looks into a data directory, travels in its time, copies it and mends it. The work is done by
//! `journal::recovery`; here are its verbs, and what they print, for people and as JSON.

mod candles;
mod copies;
mod facts;
mod inspect;
mod mend;
mod moment;
mod names;
mod output;
mod story;
mod travel;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Look into a data directory, travel in its time, copy it, mend it
#[derive(Debug, Args)]
#[command(after_long_help = "\
A data directory holds a log of all commands, snapshots of the state, and history. From the log, every moment can be seen \
again: MOMENT is a sequence (12345), a time (2026-03-01T09:30:00Z; UTC where it says no zone), or \"end\".

Verbs that only read work beside a running node too, and then see what was durable when they began. Verbs that write refuse a \
directory that a running node owns. Damage is named with its place and what to do; docs/operations.md has a page for each.

Exit status:
  0  fine
  1  it failed, for example at the disk
  2  the command line is wrong
  3  damage was found
  4  a running node owns the directory
  5  what was asked for is not there: a sequence behind the log's end, an order that never was
  6  refused, as it would do harm

Examples:
  rialto journal status --data /var/lib/rialto
  rialto journal verify --data /var/lib/rialto
  rialto journal explain --data /var/lib/rialto BTCUSDT 4711
  rialto journal show book BTCUSDT --data /var/lib/rialto --at 2026-03-01T09:30:00Z
  rialto journal backup --data /var/lib/rialto --to /mnt/backup/rialto")]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Status(inspect::StatusArguments),
    Verify(inspect::VerifyArguments),
    Dump(inspect::DumpArguments),
    Replay(travel::ReplayArguments),
    Show(travel::ShowArguments),
    Explain(story::ExplainArguments),
    Diff(travel::DiffArguments),
    Snapshot(mend::SnapshotArguments),
    Backup(copies::BackupArguments),
    Restore(copies::RestoreArguments),
    Export(copies::ExportArguments),
    Import(copies::ImportArguments),
    RebuildHistory(mend::RebuildArguments),
    ImportKlines(candles::ImportKlinesArguments),
    Adopt(mend::AdoptArguments),
    Compensate(mend::CompensateArguments),
}

/// Do what the verb says; how the program ends.
pub fn run(arguments: Arguments) -> ExitCode {
    // A panic of the engine is caught and told of as what it is: a command that stops it. Any other says so itself.
    std::panic::set_hook(Box::new(|panic| {
        if !panic.location().is_some_and(|place| place.file().contains("engine/src/")) {
            eprintln!("rialto: a fault in this program: {panic}");
        }
    }));
    let (is_json, outcome) = match arguments.verb {
        Verb::Status(arguments) => (arguments.common.json, inspect::status(&arguments)),
        Verb::Verify(arguments) => (arguments.common.json, inspect::verify(&arguments)),
        Verb::Dump(arguments) => (arguments.common.json, inspect::dump(&arguments)),
        Verb::Replay(arguments) => (arguments.common.json, travel::replay(&arguments)),
        Verb::Show(arguments) => (arguments.is_json(), travel::show(&arguments)),
        Verb::Explain(arguments) => (arguments.common.json, story::explain(&arguments)),
        Verb::Diff(arguments) => (arguments.common.json, travel::diff(&arguments)),
        Verb::Snapshot(arguments) => (arguments.common.json, mend::snapshot(&arguments)),
        Verb::Backup(arguments) => (arguments.common.json, copies::backup(&arguments)),
        Verb::Restore(arguments) => (arguments.common.json, copies::restore(&arguments)),
        Verb::Export(arguments) => (arguments.common.json, copies::export(&arguments)),
        Verb::Import(arguments) => (arguments.common.json, copies::import(&arguments)),
        Verb::RebuildHistory(arguments) => (arguments.common.json, mend::rebuild_history(&arguments)),
        Verb::ImportKlines(arguments) => (arguments.common.json, candles::import_klines(&arguments)),
        Verb::Adopt(arguments) => (arguments.common.json, mend::adopt(&arguments)),
        Verb::Compensate(arguments) => (arguments.common.json, mend::compensate(&arguments)),
    };
    match outcome {
        Ok(code) => code,
        Err(stop) => stop.report(is_json),
    }
}
