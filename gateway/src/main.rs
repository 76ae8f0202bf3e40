//! The binary `rialto`: its subcommands. `serve` starts in order and stops in reverse.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use gateway::bootstrap::Bootstrap;
use gateway::config::{Config, LogConfig};
use gateway::place::Place;
use gateway::secrets::KeyRing;
use gateway::serve::{self, Running};
use gateway::settings::{self, Sources};
use gateway::{admin, cluster_cli, demo, feed_cli, gateway_cli, journal_cli, logging, replay, say, sim, top};
use tokio::signal::unix::{SignalKind, signal};

/// An exchange that speaks the Binance Spot API.
#[derive(Parser)]
#[command(
    name = "rialto",
    version,
    about,
    after_long_help = "\
Examples:
  rialto demo
      A venue on http://127.0.0.1:8080 with symbols, accounts and a live market, to try things on.
  rialto serve --data /var/lib/rialto --listen 0.0.0.0:8080 --bootstrap market.toml
      A venue of your own; market.toml lists its assets, symbols, accounts and keys, and is applied once.
  rialto replay --orders flow.csv.gz --symbol BTCUSD --accounts market.toml
      Drives recorded orders through a running venue.
  rialto feed follow --source wss://stream.binance.com:9443 --symbol BTCUSDT --to http://127.0.0.1:8080
      Prices of a venue outside for a quote-driven symbol; \"rialto feed mirror\" brings in a whole book.
  rialto sim < commands.jsonl
      The engine alone in a pipe, one JSON command a line; \"rialto sim --help\" shows them.
  rialto serve --data /var/lib/rialto --node 1 --cluster 1=10.0.0.1:7081,2=10.0.0.2:7081,3=10.0.0.3:7081
      One node of three that are one venue; the same on the others with --node 2 and 3.
  rialto gateway --nodes 10.0.0.1:7081,10.0.0.2:7081,10.0.0.3:7081 --listen 0.0.0.0:8080
      Serves clients in front of that cluster, without a disk; as many of them as are needed.
  rialto cluster status --peer 10.0.0.1:7081
      Who leads, and how far each node is.
  rialto top --data /var/lib/rialto
      Health, symbols, latency, queues, websockets of a running node in the terminal.
  rialto journal explain --data /var/lib/rialto BTCUSDT 4711
      The life of an order, line by line; \"rialto journal --help\" lists what else can be asked of a data directory.

Exit status: 0 after an orderly stop, 1 when something failed, 2 when the command line is wrong; \
\"rialto journal\" has more."
)]
struct Rialto {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run an exchange
    Serve(Serve),
    /// Serve clients in front of a cluster, without a disk
    Gateway(gateway_cli::Arguments),
    /// Run an exchange with a demo market: symbols, accounts, a market maker and takers
    Demo(demo::Arguments),
    /// Drive recorded orders through a running exchange and compare what it does
    Replay(Box<replay::Arguments>),
    /// Bring in prices and books of venues outside
    Feed(Box<feed_cli::Arguments>),
    /// Drive the engine with JSON commands on standard input
    Sim(sim::Arguments),
    /// Accounts, keys, deposits, symbols and users of a running exchange
    Admin(Box<admin::cli::Arguments>),
    /// See how a running exchange stands, in the terminal
    Top(top::cli::Arguments),
    /// Make a file of keys for secrets at rest, to be shared by all nodes of a cluster
    SecretsKey {
        /// The file; one that is there stays
        file: PathBuf,
    },
    /// Look into a data directory, travel in its time, copy it, mend it
    Journal(journal_cli::Arguments),
    /// See how a cluster stands, and change its members
    Cluster(cluster_cli::Arguments),
    /// The settings that "serve" would have, and where each comes from
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print what makes a shell complete these commands, such as: rialto completions bash > /etc/bash_completion.d/rialto
    Completions {
        /// For which shell
        shell: Shell,
    },
    /// Write the manual pages into a folder, such as: rialto man /usr/local/share/man/man1
    Man {
        /// The folder, which must be there
        folder: PathBuf,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Print every setting with its value and who said so: a flag, a variable of the environment, the file, or the default
    #[command(after_long_help = "\
A flag wins over the environment, that over the file, and that over the default. In the environment limits.orders_per_day is \
RIALTO_LIMITS__ORDERS_PER_DAY.

Example:
  rialto config show --config /etc/rialto/rialto.toml | grep -v 'default$'
      What differs from the defaults.")]
    Show {
        #[command(flatten)]
        serve: Box<Serve>,
        /// One JSON object a line instead
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
#[command(after_long_help = "\
Everything is served on one port: REST under /api/v3, streams under /ws and /stream, the WS API at /ws-api/v3, the page \
at /, /metrics, /health and /ready. One line is printed when orders are taken. SIGTERM and SIGINT stop it in order; a \
kill at any moment loses nothing that was acknowledged.

RUST_LOG sets what is logged, for example RUST_LOG=info,gateway=debug; else log.level in the settings does, and log.format = \"json\"
makes each line an object. While it runs, \"rialto admin log-level\" changes it.")]
struct Serve {
    /// Where everything is kept; made when it is missing
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where clients are served [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// What is listed and funded when the log is empty; ignored with a notice otherwise
    #[arg(long, value_name = "FILE")]
    bootstrap: Option<PathBuf>,
    /// Where operators are served, apart from the clients [default: any free port of 127.0.0.1; admin.address in the data
    /// directory tells]
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<SocketAddr>,
    /// Settings; a flag given here wins over the environment, and that over the file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

fn main() -> ExitCode {
    journal::memory::keep_freed();
    match parse().command {
        Command::Serve(arguments) => match arguments.settings() {
            Ok((config, _)) => with_runtime(&config.log.clone(), async {
                match run_server(config).await {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(reason) => fail(&reason),
                }
            }),
            Err(reason) => fail(&reason),
        },
        Command::Gateway(arguments) => match arguments.settings() {
            Ok((config, _)) => with_runtime(&config.log, async {
                match gateway_cli::run(arguments, stop_signal()).await {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(reason) => fail(&reason),
                }
            }),
            Err(reason) => fail(&reason),
        },
        Command::Demo(arguments) => {
            with_runtime(&LogConfig::default(), async { demo::run(arguments, stop_signal()).await })
        }
        Command::Replay(arguments) => with_runtime(&LogConfig::default(), replay::run(*arguments)),
        Command::Feed(arguments) => {
            with_runtime(&LogConfig::default(), async { feed_cli::run(*arguments, stop_signal()).await })
        }
        Command::Sim(arguments) => sim::run(arguments),
        Command::Journal(arguments) => journal_cli::run(arguments),
        Command::Admin(arguments) => admin::cli::run(*arguments),
        Command::Top(arguments) => top::cli::run(arguments),
        Command::SecretsKey { file } => match KeyRing::read_or_create(&file) {
            Ok(_) => ExitCode::SUCCESS,
            Err(reason) => fail(&reason),
        },
        Command::Cluster(arguments) => cluster_cli::run(arguments),
        Command::Config { command: ConfigCommand::Show { serve, json } } => match show_settings(*serve, json) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => fail(&reason),
        },
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Rialto::command(), "rialto", &mut script);
            // Who closes the pipe early has read enough.
            let _ = std::io::stdout().write_all(&script);
            ExitCode::SUCCESS
        }
        Command::Man { folder } => match clap_mangen::generate_to(Rialto::command(), &folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("{}: {error}", folder.display())),
        },
    }
}

/// The command line; what it asks for that is not there is answered with what is.
fn parse() -> Rialto {
    let error = match Rialto::try_parse() {
        Ok(parsed) => return parsed,
        Err(error) => error,
    };
    if error.kind() != ErrorKind::InvalidSubcommand {
        error.exit();
    }
    let mut command = Rialto::command();
    command.build();
    let mut meant = &command;
    for word in std::env::args().skip(1) {
        meant = meant.find_subcommand(word).unwrap_or(meant);
    }
    eprintln!("{error}\n{}", meant.clone().render_help());
    std::process::exit(2)
}

/// Does what goes on for a while, with a runtime and a log of what happens.
fn with_runtime(log: &LogConfig, work: impl Future<Output = ExitCode>) -> ExitCode {
    if let Err(reason) = logging::start(log) {
        return fail(&reason);
    }
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("rialto: {reason}");
    ExitCode::FAILURE
}

impl Serve {
    /// The settings that come of flags, environment and file.
    fn settings(self) -> Result<(Config, Sources), String> {
        let (mut config, mut sources) = settings::read(self.config.as_deref())?;
        self.place.apply(&mut config)?;
        let said = [
            ("data", self.data.is_some(), "--data"),
            ("listen", self.listen.is_some(), "--listen"),
            ("bootstrap", self.bootstrap.is_some(), "--bootstrap"),
            ("admin.listen", self.admin.is_some(), "--admin"),
        ];
        for (path, _, flag) in said.into_iter().chain(self.place.said()).filter(|(_, is_said, _)| *is_said) {
            sources.say(path, flag);
        }
        config.data = self.data.or(config.data);
        config.listen = self.listen.or(config.listen);
        config.admin.listen = self.admin.or(config.admin.listen);
        config.bootstrap = self.bootstrap.or(config.bootstrap);
        Ok((config, sources))
    }
}

/// Prints every setting, its value and who said so.
fn show_settings(serve: Serve, as_json: bool) -> Result<(), String> {
    let (config, sources) = serve.settings()?;
    config.check()?;
    let told = sources.tell(&config);
    let width = told.iter().map(|(path, ..)| path.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (setting, value, from) in told {
        out += &if as_json {
            format!("{}\n", serde_json::json!({ "setting": setting, "value": value, "from": from }))
        } else {
            format!("{setting:width$} = {value}  # {from}\n")
        };
    }
    // Who closes the pipe early has read enough.
    let _ = std::io::stdout().write_all(out.as_bytes());
    Ok(())
}

async fn run_server(config: Config) -> Result<(), String> {
    let bootstrap = config.bootstrap.as_deref().map(Bootstrap::read).transpose()?;

    let mut running = serve::start(config, bootstrap).await?;
    // Before the line that says it is ready: who reads it may ask for the stop at once.
    let stopping = stop_signal();
    let Running { data, sequence, recovery, .. } = &running;
    let (url, data) = (running.url(), data.display());
    let how = recovery.map(|recovery| format!(" ({recovery})")).unwrap_or_default();
    say!("rialto is ready at {url} with data in {data} at sequence {sequence}{how}");
    let outcome = tokio::select! {
        reason = running.failed() => Err(reason),
        stopped = stopping => stopped,
    };
    running.stop().await;
    outcome
}

/// Resolves when the process is asked to stop; it hears that from now on, and not only once it is waited for.
fn stop_signal() -> impl Future<Output = Result<(), String>> {
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        let mut terminate = terminate.map_err(|error| error.to_string())?;
        let mut interrupt = interrupt.map_err(|error| error.to_string())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        Ok(())
    }
}
