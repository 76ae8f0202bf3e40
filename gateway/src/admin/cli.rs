//! `rialto admin`: an operator's request, sent to the admin listener of a running node.

use std::io::{IsTerminal, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::action::{Action, Request};
use super::listener::{PATH, address_file, token_file};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

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
    /// The data directory of a node on this machine
    #[arg(long, value_name = "DIR", env = "RIALTO_DATA", global = true)]
    data: Option<PathBuf>,
    /// Where the node listens for operators
    #[arg(long, value_name = "ADDR:PORT", global = true)]
    address: Option<SocketAddr>,
    /// The file with the token, or with a token of a user who is an operator
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Who asks [default: the user of this shell]
    #[arg(long, value_name = "NAME", global = true)]
    operator: Option<String>,
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
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Ok(answer) => {
            print_result(&answer["result"]);
            if let Some(sequence) = answer["sequence"].as_u64() {
                println!("done at sequence {sequence}");
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
    let Arguments { data, address, token_file: token_path, operator, reason, action, .. } = arguments;
    let from_data = |file: fn(&Path) -> PathBuf| {
        let data = data.as_deref().ok_or("say which node: --data DIR, or --address and --token-file")?;
        read_line(&file(data))
    };
    let address = match address {
        Some(address) => address,
        None => from_data(address_file)?.parse().map_err(|_| "the directory says no address".to_owned())?,
    };
    let token = token_path.as_deref().map_or_else(|| from_data(token_file), read_line)?;
    let user = || ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let operator = operator.or_else(user).unwrap_or_else(|| "unnamed".to_owned());
    let action = with_standard_input(action)?;
    let request = Request { operator, reason, action };
    let body = serde_json::to_string(&request).map_err(|error| error.to_string())?;
    let answer = post(address, &token, &body).map_err(|error| format!("{address}: {error}"))?;
    let (status, answer) = parse_answer(&answer).ok_or("the answer is none; is that the address for operators?")?;
    match answer["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None if status == 200 => Ok(answer),
        None => Err(format!("status {status}")),
    }
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

fn read_line(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn post(address: SocketAddr, token: &str, body: &str) -> std::io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect_timeout(&address, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    let length = body.len();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    socket.write_all(head.as_bytes())?;
    socket.write_all(body.as_bytes())?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

fn parse_answer(bytes: &[u8]) -> Option<(u16, Value)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, serde_json::from_str(body).ok()?))
}

/// One line for each thing, its facts side by side.
fn print_result(result: &Value) {
    match result {
        Value::Array(rows) => rows.iter().for_each(|row| println!("{}", facts(row))),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Array(rows) if rows.iter().any(Value::is_object) => {
                        println!("{name}:");
                        rows.iter().for_each(|row| println!("  {}", facts(row)));
                    }
                    value => println!("{name}: {}", plain(value)),
                }
            }
        }
        value => println!("{}", plain(value)),
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
