//! Starts a server in the order of an order's road, and stops it in the same order, so that each stage drains into the
//! next.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Command, Sequence};
use journal::{
    ClusterStatus, HistoryDays, MemberStatus, Node, NodeConfig, Observer, ObserverConfig, Recovery, SpaceConfig,
    StartError, open_files,
};
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;

use crate::access_log::AccessLog;
use crate::admin::listener::{self, Admin};
use crate::answered::Answered;
use crate::app::App;
use crate::backend::Backend;
use crate::bootstrap::Bootstrap;
use crate::config::{ClusterSettings, Config};
use crate::feed::{Feed, Outlets};
use crate::gateway_cli::Reload;
use crate::lanes::Lanes;
use crate::login::Login;
use crate::metrics::Metrics;
use crate::push;
use crate::rate_limit::RateLimits;
use crate::rest::Route;
use crate::secrets::KeyRing;
use crate::server;
use crate::stages::Stages;
use crate::tls::Tls;
use crate::traces::Traces;

/// Where clients are served unless a setting says otherwise.
const LISTEN: ([u8; 4], u16) = ([127, 0, 0, 1], 8080);
/// Where operators are served unless a setting says otherwise.
const ADMIN_LISTEN: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
/// How many passwords are hashed at a time.
const HASHED_AT_ONCE: usize = 2;
/// How long the node may take to say why the feed has ended.
const REASON_WAIT_MAX: Duration = Duration::from_secs(1);
/// Files for logs, traces, the feed of prices and what else a server has open beside its clients.
const OTHER_FILES: u64 = 64;
/// With places for fewer clients it does not start.
const CONNECTIONS_MIN: u64 = 16;
/// How often it is looked whether the feed has caught up at the start.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(2);
/// How often a start that takes its time says what it waits for.
const WAITING_TOLD_EVERY: Duration = Duration::from_secs(5);

/// A running server.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it listens for operators.
    pub admin: SocketAddr,
    url: String,
    watching: Option<JoinHandle<()>>,
    /// Where its data is.
    pub data: PathBuf,
    /// The last command that was there when it started, bootstrap included.
    pub sequence: Sequence,
    /// How the journal came there; none on a gateway, which has none.
    pub recovery: Option<Recovery>,
    /// The folder for this start alone that a gateway without one has.
    folder: Option<PathBuf>,
    app: Arc<App>,
    stopping: watch::Sender<bool>,
    serving: JoinHandle<()>,
    feed: Feed,
    failed: JoinHandle<String>,
    windows: JoinHandle<()>,
}

/// Starts a server. `bootstrap` is applied if the log is empty, and ignored with a notice otherwise.
pub async fn start(mut config: Config, bootstrap: Option<Bootstrap>) -> Result<Running, String> {
    let started = Instant::now();
    check(&config)?;
    let in_cluster = config.cluster.is_some();
    leave_files(&mut config, |limit| open_files::needed(limit, in_cluster))?;
    let tls = Tls::read(&config.tls)?;
    let data = config.data.clone().ok_or("the data directory must be given: --data DIR")?;

    // 1. The journal: the log is checked, the engine comes up from snapshot and log.
    let (node, published) = Node::start(node_config(&config, &data)?).await.map_err(|error| error.to_string())?;
    let history = node.history();

    // 2. The feed, which the journal fills from its first moment on.
    let outlets = Outlets { stages: Arc::new(Stages::new(node.timings())), ..Outlets::default() };
    outlets.hub.start(config.sockets.queue_batches_max);
    let secrets = match open_secrets(&config, &data) {
        Ok(secrets) => Arc::new(secrets),
        Err(reason) => {
            node.stop().await;
            return Err(reason);
        }
    };
    outlets.views.open_secrets_with(secrets.clone());
    let feed = Feed::start(outlets.clone(), history.clone(), published, config.cluster.is_some())
        .map_err(|error| error.to_string())?;
    let recovery = match recovered(&node).await {
        Ok(recovery) => recovery,
        Err(error) => {
            // Its threads must not outlive the program's end.
            node.stop().await;
            return Err(error.to_string());
        }
    };
    let mut sequence = recovery.reached;
    while outlets.views.sequence() < sequence {
        tokio::time::sleep(CATCH_UP_INTERVAL).await;
    }

    // 3. What the operator wants to be there: the limits, and from the beginning what is listed and funded.
    match provide(&config, bootstrap, &node, &outlets, &secrets).await {
        Ok(last) => sequence = last.unwrap_or(sequence),
        Err(reason) => {
            node.stop().await;
            return Err(reason);
        }
    }

    // 4. The doors.
    let behind = Behind {
        backend: Backend::Node(Box::new(node)),
        outlets,
        secrets,
        history,
        feed,
        settings_again: None,
        started,
    };
    let mut running = open_doors(config, tls, data, behind).await?;
    (running.sequence, running.recovery) = (sequence, Some(recovery));
    Ok(running)
}

/// Waits until the node has recovered, and says now and then what it waits for.
async fn recovered(node: &Node) -> Result<Recovery, StartError> {
    let mut recovered = pin!(node.recovered());
    loop {
        match tokio::time::timeout(WAITING_TOLD_EVERY, recovered.as_mut()).await {
            Ok(recovery) => return recovery,
            Err(_) => tracing::info!("not ready yet: {}", waits_for(&node.cluster())),
        }
    }
}

fn waits_for(status: &ClusterStatus) -> String {
    let ClusterStatus { asked, leader, members, .. } = status;
    let trouble = |member: &MemberStatus| Some(format!("; node {}: {}", member.node, member.trouble.as_ref()?));
    let troubles: String = members.iter().filter_map(trouble).collect();
    let numbers: Vec<String> = members.iter().map(|member| member.node.to_string()).collect();
    match (members.iter().find(|member| member.node == *asked), leader) {
        (None, _) => {
            format!("node {asked} is no member of the cluster it knows, which are {}{troubles}", numbers.join(", "))
        }
        (Some(_), None) => format!("no node leads{troubles}"),
        (Some(own), Some(leader)) => {
            format!("node {leader} leads, this one is at sequence {}{troubles}", own.applied_sequence)
        }
    }
}

/// Starts a gateway in front of a cluster: what a node is, without the journal. It need not be there yet.
pub async fn start_gateway(mut config: Config, settings_again: Reload) -> Result<Running, String> {
    let started = Instant::now();
    // Of the cluster's settings it needs the secret and the certificates alone.
    check(&Config { cluster: None, ..config.clone() })?;
    leave_files(&mut config, |_| 0)?;
    let tls = Tls::read(&config.tls)?;
    let cluster = config.cluster.clone().unwrap_or_default();
    let folder = config.data.is_none().then(own_folder).transpose()?;
    let data = config.data.clone().or(folder.clone()).unwrap_or_default();
    std::fs::create_dir_all(&data).map_err(|error| format!("{}: {error}", data.display()))?;
    let secrets = Arc::new(open_secrets(&config, &data)?);
    let (observer, published) = Observer::start(ObserverConfig {
        secret: cluster.secret.clone(),
        tls: cluster.tls_files()?,
        behind_max: config.gateway.behind_max,
        queue_commands: config.lanes.count * config.lanes.commands_max,
        entry_commands_max: config.journal.entry_commands_max,
        entries_in_flight: config.journal.entries_in_flight,
        ..ObserverConfig::new(config.gateway.nodes()?)
    })
    .map_err(|error| error.to_string())?;
    let history = observer.history();
    let outlets = Outlets { stages: Arc::new(Stages::new(observer.timings())), ..Outlets::default() };
    outlets.hub.start(config.sockets.queue_batches_max);
    outlets.views.open_secrets_with(secrets.clone());
    let feed = Feed::start(outlets.clone(), history.clone(), published, true).map_err(|error| error.to_string())?;
    let backend = Backend::Observer(Box::new(observer));
    let behind = Behind { backend, outlets, secrets, history, feed, settings_again: Some(settings_again), started };
    let mut running = open_doors(config, tls, data, behind).await?;
    running.folder = folder;
    Ok(running)
}

fn check(config: &Config) -> Result<(), String> {
    config.check()?;
    config.metrics.url()?;
    for endpoint in &config.limits.endpoint {
        let (method, path) = (&*endpoint.method, &*endpoint.path);
        Route::find(method, path).map_err(|_| format!("limits.endpoint: there is no call {method} {path}"))?;
    }
    Ok(())
}

/// Leaves the node and the operators the files they need, whatever clients open. `of_node` says what a node needs of so many.
fn leave_files(config: &mut Config, of_node: impl FnOnce(u64) -> u64) -> Result<(), String> {
    let limit = open_files::raise();
    let needed = of_node(limit) + (server::REFUSED_AT_ONCE + listener::CONNECTIONS_MAX) as u64 + OTHER_FILES;
    let left = limit.saturating_sub(needed);
    let how =
        format!("this process may have {limit} files open (ulimit -n; LimitNOFILE) and needs {needed} for itself");
    if left < CONNECTIONS_MIN {
        return Err(format!("too few files: {how}"));
    }
    let connections_max = &mut config.sockets.connections_max;
    if left < *connections_max as u64 {
        tracing::warn!("at most {left} connections, not {connections_max}: {how}");
        *connections_max = left as usize;
    }
    Ok(())
}

/// A folder that only this user can read, for this start alone.
fn own_folder() -> Result<PathBuf, String> {
    use std::os::unix::fs::DirBuilderExt;
    let path = std::env::temp_dir().join(format!("rialto-gateway-{:016x}", rand::random::<u64>()));
    let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
    made.map_err(|error| format!("{}: {error}; --data DIR names another place", path.display()))?;
    Ok(path)
}

/// What the doors open to.
struct Behind {
    backend: Backend,
    outlets: Outlets,
    secrets: Arc<KeyRing>,
    history: journal::History,
    feed: Feed,
    settings_again: Option<Reload>,
    started: Instant,
}

/// Listens for clients and operators.
async fn open_doors(config: Config, tls: Option<Tls>, data: PathBuf, behind: Behind) -> Result<Running, String> {
    let Behind { backend, outlets, secrets, history, feed, settings_again, started } = behind;
    let listen = config.listen.unwrap_or(LISTEN.into());
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let admin = Admin::bind(config.admin.listen.unwrap_or(ADMIN_LISTEN.into()), &data).await?;
    let admin_address = admin.address;
    let access_log = AccessLog::start(&config.access_log)?;
    let push_url = config.metrics.url()?;
    let node_number = config.cluster.as_ref().map_or(1, |cluster| cluster.node);
    let traces = Traces::start(&config.traces, node_number)?;
    let (stopping, stop) = watch::channel(false);
    let failed = tokio::spawn(backend.failed());
    // Which lane a uid falls into is nobody's business outside, and need not be the same after a restart.
    let lanes = Lanes::new(&config.lanes, rand::random(), backend.sequencer(), outlets.in_flight.clone());
    let public_url = format!("{}://{address}", if tls.is_some() { "https" } else { "http" });
    let app = Arc::new(App {
        limits: RateLimits::new(&config.limits),
        login: Login::new(&config.login, &secrets.derive("tokens of logins")),
        hashing: Semaphore::new(HASHED_AT_ONCE),
        secrets,
        access_log,
        traces,
        config,
        outlets,
        lanes,
        history,
        answered: Answered::default(),
        metrics: Arc::new(Metrics::new()),
        sockets: Arc::default(),
        started,
        public_url: public_url.clone(),
        stopping: stop.clone(),
        node: RwLock::new(Some(backend)),
        settings_again,
    });
    let watching = tls.as_ref().map(Tls::watch);
    tokio::spawn(admin.run(app.clone(), stop.clone()));
    if let Some(url) = push_url {
        let interval = Duration::from_millis(app.config.metrics.push_interval_ms);
        tokio::spawn(push::run(app.clone(), url, interval, stop.clone()));
    }
    let windows = tokio::spawn(app.outlets.stages.clone().run());
    let serving = tokio::spawn(server::run(listener, tls, app.clone(), stop));
    Ok(Running {
        address,
        admin: admin_address,
        url: public_url,
        watching,
        data,
        sequence: Sequence(0),
        recovery: None,
        folder: None,
        app,
        stopping,
        serving,
        feed,
        failed,
        windows,
    })
}

/// The keys of secrets at rest.
fn open_secrets(config: &Config, data: &std::path::Path) -> Result<KeyRing, String> {
    match &config.secrets.key_file {
        Some(path) => KeyRing::read(path),
        None => KeyRing::of_user(data),
    }
}

fn node_config(config: &Config, data: &std::path::Path) -> Result<NodeConfig, String> {
    Ok(NodeConfig {
        cluster: config.cluster.as_ref().map(ClusterSettings::journal).transpose()?,
        // All lanes together: a command that its lane let in finds room.
        queue_commands: config.lanes.count * config.lanes.commands_max,
        entry_commands_max: config.journal.entry_commands_max,
        entries_in_flight: config.journal.entries_in_flight,
        snapshot_every_entries: config.journal.snapshot_every_entries,
        snapshot_every_commands: config.journal.snapshot_every_commands,
        log_bytes_kept: config.journal.log_bytes_kept,
        history_days: HistoryDays {
            closed: config.journal.history_days,
            second_candles: config.journal.kline_second_days,
            minute_candles: config.journal.kline_minute_days,
        },
        clock: config.journal.clock,
        space: SpaceConfig { low_bytes: config.journal.low_space_bytes, ballast_bytes: config.journal.ballast_bytes },
        drill_poison: Some(Sequence(config.journal.drill_poison_sequence)).filter(|sequence| sequence.0 > 0),
        ..NodeConfig::new(data)
    })
}

/// Sees to it that what the operator wants is there; the sequence of the last command that took. In a cluster the leader does,
/// and the others wait until there is something.
async fn provide(
    config: &Config,
    bootstrap: Option<Bootstrap>,
    node: &Node,
    outlets: &Outlets,
    secrets: &KeyRing,
) -> Result<Option<Sequence>, String> {
    while !node.leads() {
        if outlets.views.sequence() > Sequence(0) {
            return Ok(None);
        }
        tokio::time::sleep(CATCH_UP_INTERVAL).await;
    }
    let mut wanted = Vec::new();
    let limits = config.limits.exchange();
    if outlets.views.symbols().limits != limits {
        wanted.push(("limits".to_owned(), Command::ConfigureExchange(limits)));
    }
    match bootstrap {
        Some(bootstrap) if outlets.views.sequence() == Sequence(0) => wanted.extend(bootstrap.commands()?),
        Some(_) => tracing::info!("the log is not empty, so the bootstrap file is ignored"),
        None => {}
    }
    wanted.iter_mut().for_each(|(_, command)| secrets.seal_command(command));
    apply(wanted, node).await
}

/// Lays what the operator wants into the log, all in one entry, so that a crash leaves all of it or nothing; the sequence
/// of the last. What would be refused leaves nothing either.
async fn apply(wanted: Vec<(String, Command)>, node: &Node) -> Result<Option<Sequence>, String> {
    let (names, commands): (Vec<String>, Vec<Command>) = wanted.into_iter().unzip();
    journal::rehearse(&commands)
        .map_err(|(index, rejection)| format!("bootstrap: {}: refused: {rejection:?}", names[index]))?;
    if commands.is_empty() {
        return Ok(None);
    }
    let (caller, answer) = oneshot::channel();
    node.sequencer().submit_together(commands, Some(caller)).map_err(|error| format!("bootstrap: {error}"))?;
    let answer = answer.await.map_err(|_| "bootstrap: the node stopped")?;
    Ok(Some(answer.applied.last_sequence()))
}

impl Running {
    /// Whether this node leads its cluster.
    pub fn leads(&self) -> bool {
        self.app.node.read().as_ref().is_some_and(Backend::leads)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// What its handlers see, for a program that serves more than it does.
    pub fn app(&self) -> Arc<App> {
        self.app.clone()
    }

    /// Resolves only when it cannot go on, with the reason.
    pub async fn failed(&mut self) -> String {
        tokio::select! {
            reason = &mut self.failed => return reason.unwrap_or_else(|error| error.to_string()),
            _ = &mut self.feed.ended => {}
        }
        // The feed ends when the engine does, and why that was the node says.
        let reason = tokio::time::timeout(REASON_WAIT_MAX, &mut self.failed).await;
        reason
            .map_or_else(|_| "the feed has ended".to_owned(), |reason| reason.unwrap_or_else(|error| error.to_string()))
    }

    /// Closes the door, says goodbye, lets what is under way finish, and closes everything.
    pub async fn stop(self) {
        // Nobody listens any more when this fails.
        let _ = self.stopping.send(true);
        let _ = self.serving.await;
        self.failed.abort();
        self.windows.abort();
        self.watching.iter().for_each(JoinHandle::abort);
        let node = self.app.node.write().take();
        if let Some(node) = node {
            node.stop().await;
        }
        let (feed, app) = (self.feed, self.app);
        let last = move || {
            feed.join();
            app.traces.close();
        };
        let _ = tokio::task::spawn_blocking(last).await;
        if let Some(folder) = self.folder {
            // What is left of it hurts nobody.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}
