//! What every request and every socket shares.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use journal::{History, HistoryError};
use parking_lot::RwLock;
use tokio::sync::{Semaphore, watch};

use crate::access_log::AccessLog;
use crate::answered::Answered;
use crate::backend::Backend;
use crate::config::Config;
use crate::feed::Outlets;
use crate::gateway_cli::Reload;
use crate::gateway_metrics;
use crate::lanes::Lanes;
use crate::login::Login;
use crate::metrics::{self, Metrics};
use crate::rate_limit::RateLimits;
use crate::rest::error::ApiError;
use crate::samples::Samples;
use crate::secrets::KeyRing;
use crate::stage_metrics;
use crate::traces::Traces;
use crate::ws::registry::Registry;

/// How long a read that is to be current may wait for the views.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);
/// How often it is looked whether they are there.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(1);

/// The address at the other end of a connection: put into every request by whoever accepts the connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// The running exchange, as handlers see it.
pub struct App {
    /// Its settings.
    pub config: Config,
    /// What the feed keeps up to date: views, candles, streams, listen keys.
    pub outlets: Outlets,
    /// The way in for commands.
    pub lanes: Lanes,
    /// Closed orders and trades.
    pub history: History,
    /// What clients have used of their limits.
    pub limits: RateLimits,
    /// What opens and seals secrets.
    pub secrets: Arc<KeyRing>,
    /// Who is logged in.
    pub login: Login,
    /// Passwords are hashed so many at a time: each takes memory and a while.
    pub hashing: Semaphore,
    /// Where requests are logged.
    pub access_log: AccessLog,
    /// Where traces are sent.
    pub traces: Traces,
    /// The names of new orders whose last use was answered.
    pub answered: Answered,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The websockets that are open.
    pub sockets: Arc<Registry>,
    /// When it began.
    pub started: Instant,
    /// Where clients are served, as a URL.
    pub public_url: String,
    /// Turns true when the server stops, so that websockets can say goodbye.
    pub stopping: watch::Receiver<bool>,
    /// The node, or what stands in its place, until it is stopped.
    pub node: RwLock<Option<Backend>>,
    /// What reads the settings of a gateway again; none on a node.
    pub settings_again: Option<Reload>,
}

impl App {
    /// Whether orders are taken.
    pub fn is_ready(&self) -> bool {
        self.readiness().is_ok()
    }

    /// Whether orders are taken; why not, otherwise.
    pub fn readiness(&self) -> Result<(), String> {
        self.node.read().as_ref().map_or_else(|| Err("it is stopping".to_owned()), Backend::readiness)
    }

    /// Whether there is anything to read: a gateway that was just started has nothing yet.
    pub fn has_state(&self) -> bool {
        self.node.read().as_ref().is_none_or(Backend::has_state)
    }

    /// Reads the settings of a gateway again, and goes by them; what was done.
    pub fn reload(&self) -> Result<String, String> {
        let again = self.settings_again.as_ref().ok_or("a node reads its settings when it starts")?;
        let nodes = again()?.nodes()?;
        match self.node.read().as_ref() {
            Some(Backend::Observer(observer)) => {
                let said = format!("[gateway] was read again: {} nodes, {:?}", nodes.addresses.len(), nodes.balance);
                observer.configure(nodes);
                Ok(said)
            }
            _ => Err("it is stopping".to_owned()),
        }
    }

    /// Waits until the views show everything that was acknowledged, here or on any other node, before this call.
    pub async fn read_current(&self) -> Result<(), ApiError> {
        let reading = self.node.read().as_ref().map(Backend::read_index);
        let wanted = match reading {
            Some(reading) => reading.await.ok_or_else(ApiError::unavailable)?,
            None => return Err(ApiError::unavailable()),
        };
        let started = Instant::now();
        while self.outlets.views.sequence() < wanted {
            if started.elapsed() > CATCH_UP_MAX {
                return Err(ApiError::unavailable());
            }
            tokio::time::sleep(CATCH_UP_INTERVAL).await;
        }
        Ok(())
    }

    /// The page of metrics.
    pub fn metrics_page(&self) -> String {
        let stages = stage_metrics::render(&self.outlets.stages, &self.traces.counts);
        let mut page = [metrics::render(&Samples::take(self)), stages].concat();
        if let Some(Backend::Observer(observer)) = self.node.read().as_ref() {
            page.push_str(&gateway_metrics::render(observer));
        }
        page
    }

    /// Reads history once it holds all that the views show, so that whoever has an answer finds it there too.
    pub async fn read_history<T: Send + 'static>(
        &self,
        read: impl FnOnce(&History) -> Result<T, journal::HistoryError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let history = self.history.clone();
        if let Err(lag) = history.wait_for(self.outlets.views.sequence()).await {
            tracing::warn!("{lag}");
            return Err(ApiError::busy());
        }
        match tokio::task::spawn_blocking(move || read(&history)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error @ HistoryError::Unreachable(_))) => {
                tracing::warn!("{error}");
                Err(ApiError::busy())
            }
            Ok(Err(error)) => {
                tracing::error!("{error}");
                Err(ApiError::internal())
            }
            Err(error) => {
                tracing::error!("a read of history ended early: {error}");
                Err(ApiError::internal())
            }
        }
    }
}
