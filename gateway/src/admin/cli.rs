//! `rialto admin`: an operator's request, sent to the admin listener of a running node.

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

use serde_json::Value;

use super::action::Action;
use super::caller::{Caller, Place};
use crate::say;

/// Accounts, keys, deposits, symbols and users of a running exchange
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
With --data the node's own directory says where it listens for operators and which token opens that (admin.address and \
admin.token in it, which only their owner may read). From elsewhere give --address and --token-file.

Whatever changes something is commands in the log, behind a note of who asked, from where and why: \"rialto journal dump\" \
shows them. On a follower it is sent on to the leader.

Examples:
  rialto admin --data D create-account 1001
  rialto admin --data D create-key 1001 --permission USER_DATA --permission TRADE --allow 203.0.113.0/24
  rialto admin --data D create-key 1001 --public-key \"$(cat client.pem)\"
  rialto admin --data D deposit 1001 USDT 1000.50 wire-20260301-17 --reason \"wire of March 1st\"
  rialto admin --data D set-status BTCUSDT HALT --reason \"incident 42\"
  rialto admin --data D set-user ann --uid 1001 --one-time-codes

Exit status: 0 when it is done, 1 when it was refused or failed, 2 when the command line is wrong.")]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Why; stands in the log
    #[arg(long, value_name = "TEXT", default_value = "", global = true)]
    reason: String,
    /// Print the answer as JSON in one line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

/// Asks and prints the answer.
pub fn run(arguments: Arguments) -> ExitCode {
    let is_json = arguments.json;
    match ask(arguments) {
        Ok(answer) if is_json => {
            say!("{answer}");
            ExitCode::SUCCESS
        }
        Ok(answer) => {
            print_result(&answer["result"]);
            if let Some(sequence) = answer["sequence"].as_u64() {
                say!("done at sequence {sequence}");
            }
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("rialto: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn ask(arguments: Arguments) -> Result<Value, String> {
    let Arguments { place, reason, action, .. } = arguments;
    let caller = Caller::new(place)?;
    caller.act(&reason, with_standard_input(action)?)
}

/// What "-" stands for is read from standard input, so that it stands in no list of processes.
fn with_standard_input(mut action: Action) -> Result<Action, String> {
    let place = match &mut action {
        Action::AddSymbol { terms } => Some(terms),
        Action::SetUser { password: Some(password), .. } => Some(password),
        _ => None,
    };
    if let Some(place) = place.filter(|place| *place == "-") {
        if std::io::stdin().is_terminal() {
            eprint!("> ");
            let _ = std::io::stderr().flush();
            place.clear();
            std::io::stdin().read_line(place).map_err(|error| error.to_string())?;
        } else {
            place.clear();
            std::io::stdin().read_to_string(place).map_err(|error| error.to_string())?;
        }
        let length = place.trim_end_matches(['\r', '\n']).len();
        place.truncate(length);
    }
    Ok(action)
}

/// One line for each thing, its facts side by side.
fn print_result(result: &Value) {
    match result {
        Value::Array(rows) => rows.iter().for_each(|row| say!("{}", facts(row))),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Array(rows) if rows.iter().any(Value::is_object) => {
                        say!("{name}:");
                        rows.iter().for_each(|row| say!("  {}", facts(row)));
                    }
                    value => say!("{name}: {}", plain(value)),
                }
            }
        }
        value => say!("{}", plain(value)),
    }
}

fn facts(row: &Value) -> String {
    match row {
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect();
            fields.join("  ")
        }
        value => plain(value),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(parts) => parts.iter().map(plain).collect::<Vec<_>>().join(","),
        value => value.to_string(),
    }
}
