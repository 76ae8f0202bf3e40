//! `rialto feed`: prices and books of venues outside, brought into a running exchange.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use rust_decimal::Decimal;

use crate::client::{Address, Credentials};
use crate::outside::connection::Venue;
use crate::outside::source::Source;
use crate::outside::{follow, mirror};

/// Bring in what venues outside say: their prices for quote-driven symbols, their books for others.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Exit status: 0 when the recording has ended or it was asked to stop (SIGTERM, SIGINT), 1 when it could not go on (a key that \
may not, a symbol that does not fit, a broken recording), 2 when the command line is wrong. A source or an exchange that is lost is \
connected again, after a wait that grows to half a minute; each loss is logged.")]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Follow prices outside: they become the reference prices of quote-driven symbols
    #[command(after_long_help = FOLLOW_EXAMPLES)]
    Follow(Follow),
    /// Mirror a book outside into an ordinary symbol, as the orders of a market maker
    #[command(after_long_help = MIRROR_EXAMPLES)]
    Mirror(Mirror),
}

const FOLLOW_EXAMPLES: &str = "\
The source speaks the streams of Binance: that venue, one like it, another Rialto, or a recording of lines \"<nanoseconds> <JSON>\". \
The key needs the permission FEED (rialto admin create-key UID --permission FEED). The symbols must be quote-driven (docs/feeds.md).

Examples:
  rialto feed follow --source wss://stream.binance.com:9443 --symbol BTCUSDT --symbol ETHUSDT --to http://127.0.0.1:8080
      The tops of two books, from a venue.
  rialto feed follow --source ws://10.0.0.7:8080 --symbol BTCUSDT=BTCUSD --price trade --to http://127.0.0.1:8080
      Prices of trades at another Rialto, for a symbol of another name here.
  rialto feed follow --source file:recorded.gz --speed 1 --symbol BTCUSDT --to http://127.0.0.1:8080
      A recording, as fast as it was recorded; with --speed max every price of it is sent, in order, as fast as it goes.";

const MIRROR_EXAMPLES: &str = "\
The account of the key is the mirror's own: all orders it has in the symbol are taken for the mirror's. They are canceled when \
it stops and while the source is stale; where it dies, the exchange cancels them after --dead-man-ms.

Examples:
  rialto feed mirror --source wss://stream.binance.com:9443 --snapshots https://api.binance.com --symbol BTCUSDT --to http://127.0.0.1:8080
      Ten levels of a venue's book.
  rialto feed mirror --source ws://10.0.0.7:8080 --symbol BTCUSDT=BTCUSD --levels 20 --scale 0.1 --to http://127.0.0.1:8080
      Twenty levels of another Rialto, a tenth of each quantity.";

#[derive(Debug, Args)]
struct Common {
    /// Where prices come from: ws://HOST[:PORT][/PATH], wss://… or file:PATH
    #[arg(long, value_name = "URL")]
    source: String,
    /// The certificates that an encrypted source may show, in PEM [default: those of the system]
    #[arg(long, value_name = "FILE")]
    source_ca: Option<PathBuf>,
    /// The exchange they go to
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    to: String,
    /// The API key there
    #[arg(long, env = "RIALTO_API_KEY")]
    key: String,
    /// Its HMAC secret
    #[arg(long, env = "RIALTO_API_SECRET", hide_env_values = true)]
    secret: String,
    /// For recordings: so many times as fast as recorded, or "max"
    #[arg(long, default_value = "max", value_parser = parse_speed)]
    speed: Speed,
    /// After so long without a sign of life the source is stale
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(100..))]
    stale_ms: u64,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Follow {
    #[command(flatten)]
    common: Common,
    /// A symbol, or OUTSIDE=HERE; may be said more than once
    #[arg(long = "symbol", value_name = "SYMBOL", required = true, value_parser = parse_symbol)]
    symbols: Vec<Names>,
    /// What prices go by: the top of the book, or trades
    #[arg(long, value_enum, default_value_t = By::Book)]
    price: By,
    /// What the prices are said to come from
    #[arg(long, value_name = "NAME", default_value = "feed")]
    name: String,
    /// The shortest time between two prices of a symbol
    #[arg(long, value_name = "MS", default_value_t = 100)]
    interval_ms: u64,
    /// How often a price that stands is said again; less than the symbols' stale_after_ms
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    refresh_ms: u64,
}

#[derive(Debug, Args)]
struct Mirror {
    #[command(flatten)]
    common: Common,
    /// The symbol, or OUTSIDE=HERE
    #[arg(long, value_name = "SYMBOL", value_parser = parse_symbol)]
    symbol: Names,
    /// Where snapshots of the book are [default: where the source is]
    #[arg(long, value_name = "URL")]
    snapshots: Option<String>,
    /// Levels on each side
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    levels: u16,
    /// How many times what stands outside
    #[arg(long, default_value = "1", value_parser = parse_scale)]
    scale: Decimal,
    /// How often its orders are looked at and changed
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..))]
    interval_ms: u64,
    /// The most orders changed each time
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    changes: u16,
    /// After so long without a word from the mirror the exchange cancels all
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=86_400_000))]
    dead_man_ms: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    /// The best bid and ask
    Book,
    /// The price of each trade
    Trade,
}

#[derive(Clone, Copy, Debug)]
enum Speed {
    Max,
    Times(Decimal),
}

/// A symbol's name outside and here.
#[derive(Clone, Debug)]
struct Names(String, String);

fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" { Ok(Speed::Max) } else { parse_scale(text).map(Speed::Times) }
}

fn parse_scale(text: &str) -> Result<Decimal, String> {
    let number: Option<Decimal> = text.parse().ok();
    number.filter(|number| *number > Decimal::ZERO).ok_or_else(|| "a number above zero".to_owned())
}

fn parse_symbol(text: &str) -> Result<Names, String> {
    let (outside, here) = text.split_once('=').unwrap_or((text, text));
    if outside.is_empty() || here.is_empty() {
        return Err("SYMBOL, or OUTSIDE=HERE".to_owned());
    }
    Ok(Names(outside.to_uppercase(), here.to_owned()))
}

impl Common {
    fn source(&self, streams: &[String]) -> Result<Source, String> {
        let speed = match self.speed {
            Speed::Max => None,
            Speed::Times(times) => Some(times),
        };
        Source::parse(&self.source, self.source_ca.as_deref(), speed, streams)
    }

    fn to(&self) -> Result<Address, String> {
        Address::parse(&self.to).map_err(|why| why.to_string())
    }

    fn credentials(&self) -> Credentials {
        Credentials { api_key: self.key.clone(), secret: self.secret.clone() }
    }

    fn stale(&self) -> Duration {
        Duration::from_millis(self.stale_ms)
    }
}

impl Follow {
    fn terms(&self) -> Result<follow::Terms, String> {
        let stream = match self.price {
            By::Book => "bookTicker",
            By::Trade => "trade",
        };
        let streams: Vec<String> =
            self.symbols.iter().map(|Names(outside, _)| format!("{}@{stream}", outside.to_lowercase())).collect();
        let source = self.common.source(&streams)?;
        let exact = source.is_file() && matches!(self.common.speed, Speed::Max);
        let symbols: BTreeMap<String, String> =
            self.symbols.iter().map(|Names(outside, here)| (outside.clone(), here.clone())).collect();
        Ok(follow::Terms {
            source,
            symbols,
            by_trades: matches!(self.price, By::Trade),
            to: self.common.to()?,
            key: self.common.credentials(),
            name: self.name.clone(),
            interval: Duration::from_millis(self.interval_ms),
            refresh: Duration::from_millis(self.refresh_ms),
            stale: self.common.stale(),
            exact,
        })
    }
}

impl Mirror {
    fn terms(&self) -> Result<mirror::Terms, String> {
        let Names(outside, symbol) = self.symbol.clone();
        let source = self.common.source(&[format!("{}@depth@100ms", outside.to_lowercase())])?;
        let ca = self.common.source_ca.as_deref();
        let snapshots = match (&self.snapshots, &source) {
            (Some(url), _) => Some(Venue::parse(url, ca)?.0),
            (None, Source::Live { venue, .. }) => Some(venue.clone()),
            (None, Source::File { .. }) => None,
        };
        Ok(mirror::Terms {
            source,
            snapshots,
            outside,
            symbol,
            to: self.common.to()?,
            key: self.common.credentials(),
            levels: self.levels.into(),
            scale: self.scale,
            interval: Duration::from_millis(self.interval_ms),
            changes: self.changes.into(),
            stale: self.common.stale(),
            dead_man: Duration::from_millis(self.dead_man_ms),
        })
    }
}

/// Run until the source ends or `stop` resolves.
pub async fn run(arguments: Arguments, stop: impl Future<Output = Result<(), String>>) -> ExitCode {
    let wrong = |why: String| {
        eprintln!("feed: {why}");
        ExitCode::from(2)
    };
    match arguments.verb {
        Verb::Follow(asked) => match asked.terms() {
            Ok(terms) => follow::run(terms, asked.common.json, stop).await,
            Err(why) => wrong(why),
        },
        Verb::Mirror(asked) => match asked.terms() {
            Ok(terms) => mirror::run(terms, asked.common.json, stop).await,
            Err(why) => wrong(why),
        },
    }
}
