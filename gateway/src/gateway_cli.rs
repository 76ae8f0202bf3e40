//! `rialto gateway`: serves clients as a node does, without a disk, in front of a cluster.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::gateway_settings::GatewaySettings;
use crate::say;
use crate::serve::{self, Running};
use crate::settings::{self, Sources};

/// How often it is looked whether the file of settings changed.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Serve clients in front of a cluster, without a disk
#[derive(Debug, Args)]
#[command(after_long_help = "\
A gateway serves clients exactly as a node does: REST, websockets, the WS API, the page, /metrics, /health and /ready. It takes \
the state from the nodes, follows their log, and answers reads and feeds streams by itself; orders go to the leader, closed orders \
and old trades are read from any node. It keeps nothing, so any number of them can come and go. A leader's death is a pause.

/ready says 503 and why while it has no state, knows no leader or is too far behind.

Its settings are those of \"rialto serve\", and [gateway] among them: how nodes are found, how reads are spread over them and when one \
is left alone. That section is read again when the file changes, at SIGHUP, and at \"rialto admin reload\"; a file with an error is \
refused and named, and what was stays. cluster.secret and cluster.tls_* are what the nodes ask of each other, and secrets.key_file \
must be theirs too.

Examples:
  rialto gateway --nodes 10.0.0.1:7081,10.0.0.2:7081,10.0.0.3:7081 --listen 0.0.0.0:8080
  rialto gateway --config /etc/rialto/gateway.toml
      with [gateway] nodes = [\"10.0.0.1:7081\"] balance = \"least_active\"
  curl -s http://127.0.0.1:8080/ready")]
pub struct Arguments {
    /// Where some nodes of the cluster listen for the others; the rest is found through them
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    nodes: Vec<String>,
    /// Where clients are served [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Where operators are served [default: any free port of 127.0.0.1]
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<SocketAddr>,
    /// A folder for the admin listener's address and token; one for this start alone where none is said
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Settings; a flag given here wins over the environment, and that over the file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Arguments {
    /// The settings that come of flags, environment and file.
    pub fn settings(&self) -> Result<(Config, Sources), String> {
        let (mut config, mut sources) = settings::read(self.config.as_deref())?;
        let said = [
            ("gateway.nodes", !self.nodes.is_empty(), "--nodes"),
            ("listen", self.listen.is_some(), "--listen"),
            ("admin.listen", self.admin.is_some(), "--admin"),
            ("data", self.data.is_some(), "--data"),
        ];
        said.into_iter().filter(|(_, is_said, _)| *is_said).for_each(|(path, _, flag)| sources.say(path, flag));
        if !self.nodes.is_empty() {
            config.gateway.nodes = self.nodes.clone();
        }
        config.data = self.data.clone().or(config.data);
        config.listen = self.listen.or(config.listen);
        config.admin.listen = self.admin.or(config.admin.listen);
        if config.gateway.nodes.is_empty() {
            return Err("at least one node must be given: --nodes HOST:PORT".to_owned());
        }
        config.gateway.nodes().map(|_| (config, sources))
    }
}

/// Serves until it is told to stop or cannot go on.
pub async fn run(arguments: Arguments, stopping: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let (config, _) = arguments.settings()?;
    let file = arguments.config.clone();
    let arguments = Arc::new(arguments);
    let again = arguments.clone();
    let reload = move || again.settings().map(|(config, _)| config.gateway);
    let mut running = serve::start_gateway(config, Arc::new(reload)).await?;
    let (app, url) = (running.app(), running.url());
    tracing::info!("listening at {url}, for operators at {}", running.admin);
    let watching = tokio::spawn(watch(file, {
        let app = app.clone();
        move || match app.reload() {
            Ok(said) => tracing::info!("{said}"),
            Err(reason) => tracing::warn!("the settings stay as they were: {reason}"),
        }
    }));
    let announcing = tokio::spawn(async move {
        while !app.is_ready() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        say!("rialto is ready at {url} in front of a cluster at sequence {}", app.outlets.views.sequence());
    });
    let outcome = tokio::select! {
        reason = running.failed() => Err(reason),
        stopped = stopping => stopped,
    };
    watching.abort();
    announcing.abort();
    Running::stop(running).await;
    outcome
}

/// Calls `reload` at SIGHUP, and when the file has changed.
async fn watch(file: Option<PathBuf>, reload: impl Fn()) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            tracing::warn!("SIGHUP is not heard: {error}");
            return;
        }
    };
    let mut seen = file.as_deref().and_then(stamp);
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    loop {
        tokio::select! {
            heard = hangup.recv() => match heard {
                Some(()) => {
                    seen = file.as_deref().and_then(stamp);
                    reload();
                }
                None => return,
            },
            _ = look.tick() => {
                // One that is being replaced is not there for a moment.
                let now = file.as_deref().and_then(stamp);
                if now.is_some() && now != seen {
                    seen = now;
                    reload();
                }
            }
        }
    }
}

/// What changes with a file.
fn stamp(file: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// What reads the settings of a gateway again.
pub type Reload = Arc<dyn Fn() -> Result<GatewaySettings, String> + Send + Sync>;
