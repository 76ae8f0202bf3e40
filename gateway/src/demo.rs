//! `rialto demo`: a server on this machine with symbols, accounts and a market that lives, to try things on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::watch;

use crate::bootstrap::Bootstrap;
use crate::client::Address;
use crate::config::Config;
use crate::demo_market;
use crate::place::Place;
use crate::say;
use crate::serve::{self, Running};

/// What is listed and funded.
const BOOTSTRAP: &str = include_str!("demo.toml");
/// Makers and takers share the address of those who try the demo from the same machine: nobody is to run short.
const REQUEST_WEIGHT_PER_MINUTE: u32 = 600_000;

/// How often it is looked who leads.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Run an exchange with a demo market.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
BTCUSDT, ETHUSDT and SOLUSDT are made up, and so is all money. The accounts demo-trader-1 and demo-trader-2 are for you; \
their keys are printed, and are the same everywhere: do not open a demo to strangers.

The data is kept, so a demo that is stopped or killed goes on where it was. Delete the folder to begin anew.")]
pub struct Arguments {
    /// Where it is served
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// Where its data is kept [default: rialto-demo in the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// How prices wander [default: another way each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Run the demo until `stop` resolves.
pub async fn run(arguments: Arguments, stop: impl Future<Output = Result<(), String>>) -> ExitCode {
    match run_demo(arguments, stop).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("rialto: {reason}");
            ExitCode::FAILURE
        }
    }
}

async fn run_demo(arguments: Arguments, stop: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let seed = arguments.seed.unwrap_or_else(|| rand::random_range(0..1 << 32));
    let mut config = Config {
        data: Some(arguments.data.unwrap_or_else(|| std::env::temp_dir().join("rialto-demo"))),
        listen: Some(arguments.listen),
        ..Config::default()
    };
    arguments.place.apply(&mut config)?;
    config.limits.request_weight_per_minute = REQUEST_WEIGHT_PER_MINUTE;
    let mut running = serve::start(config, Some(Bootstrap::parse(BOOTSTRAP)?)).await?;
    say!("{}", greeting(&running, seed));

    let mut stop = std::pin::pin!(stop);
    let mut traders: Option<Traders> = None;
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    let outcome = loop {
        tokio::select! {
            reason = running.failed() => break Err(reason),
            stopped = &mut stop => break stopped,
            // In a cluster, those of the leader trade: one market is enough.
            _ = look.tick() => match (running.leads(), traders.take()) {
                (true, None) => traders = Some(Traders::start(&running.url(), seed)?),
                (true, trading) => traders = trading,
                (false, Some(trading)) => trading.stop().await,
                (false, None) => {}
            }
        }
    };
    // The traders first, so that nobody hears them complain that the door is closed.
    if let Some(traders) = traders {
        traders.stop().await;
    }
    running.stop().await;
    outcome
}

/// Those who make the market.
struct Traders {
    stop: watch::Sender<bool>,
    trading: tokio::task::JoinHandle<()>,
}

impl Traders {
    fn start(url: &str, seed: u64) -> Result<Traders, String> {
        let (stop, stopped) = watch::channel(false);
        let address = Address::parse(url).map_err(|error| error.to_string())?;
        Ok(Traders { stop, trading: tokio::spawn(demo_market::trade(address, seed, stopped)) })
    }

    async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.trading.await;
    }
}

fn greeting(running: &Running, seed: u64) -> String {
    let (url, data, sequence) = (running.url(), running.data.display(), running.sequence);
    let address = running.address;
    format!(
        "rialto is ready at {url} with data in {data} at sequence {sequence}\n\
         \n\
         THIS IS A DEMO: no money here is real, and the keys below are known to everyone.\n\
         \n\
         page      {url}/\n\
         REST      {url}/api/v3/depth?symbol=BTCUSDT&limit=5\n\
         streams   ws://{address}/ws/btcusdt@trade\n\
         WS API    ws://{address}/ws-api/v3\n\
         symbols   BTCUSDT ETHUSDT SOLUSDT, quoted and traded by demo-maker and demo-taker (seed {seed})\n\
         accounts  API key        secret\n\
         \x20         demo-trader-1  demo-trader-1-secret\n\
         \x20         demo-trader-2  demo-trader-2-secret\n\
         logins    on the page demo-trader-1 with demo-trader-1-password, demo-trader-2 with demo-trader-2-password\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_bootstrap_is_sound() {
        let commands = Bootstrap::parse(BOOTSTRAP).unwrap().commands().unwrap();
        assert!(commands.len() > 20);
    }
}
