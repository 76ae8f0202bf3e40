//! Metrics sent where nothing can come and fetch them: the page of `/metrics`, posted now and then to an address that takes
//! Prometheus' text (a Pushgateway, VictoriaMetrics and its like).
//!
//! One page is under way at a time and only for so long; what fails is counted and not sent again, since the next page holds
//! it all. Nobody waits for this task.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::app::App;

/// How long one page may take at the most; no longer than until the next.
const TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// Sends a page every `interval` until the server stops.
pub async fn run(app: Arc<App>, url: Uri, interval: Duration, mut stopping: watch::Receiver<bool>) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut next = tokio::time::interval(interval);
    next.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_failing = false;
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = next.tick() => {}
        }
        let sending = tokio::time::timeout(interval.min(TIMEOUT_MAX), send(&app, &client, &url));
        let sent = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            sent = sending => sent.unwrap_or_else(|_| Err("no answer in time".to_owned())),
        };
        // Once when it begins and once when it ends, however long it lasts.
        match sent {
            Ok(()) => {
                app.metrics.pushes.fetch_add(1, Ordering::Relaxed);
                if std::mem::take(&mut is_failing) {
                    tracing::info!("metrics are taken again at {url}");
                }
            }
            Err(reason) => {
                app.metrics.push_failures.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!("metrics cannot be sent to {url}: {reason}");
                }
            }
        }
    }
}

async fn send(app: &Arc<App>, client: &Client<HttpConnector, Full<Bytes>>, url: &Uri) -> Result<(), String> {
    let of = app.clone();
    let page = tokio::task::spawn_blocking(move || of.metrics_page()).await.map_err(|error| error.to_string())?;
    let request = Request::post(url).header(CONTENT_TYPE, "text/plain; version=0.0.4");
    let request = request.body(Full::from(page)).map_err(|error| error.to_string())?;
    // What it says beside its status is not read.
    let status = client.request(request).await.map_err(|error| error.to_string())?.status();
    if status.is_success() { Ok(()) } else { Err(format!("status {status}")) }
}
