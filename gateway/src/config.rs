//! Every setting with its default and its check. Where one comes from is in [`crate::settings`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use engine::command::{ExchangeLimits, OrderCountLimit};
use hyper::Uri;
use journal::{ClusterConfig, TlsFiles};
use serde::{Deserialize, Serialize};

use crate::client_address::Network;
use crate::gateway_settings::GatewaySettings;
use crate::logging;
use crate::token_bucket::BucketConfig;

/// All settings of a server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where everything is kept.
    pub data: Option<PathBuf>,
    /// Where clients are served; port 0 takes any free one.
    pub listen: Option<SocketAddr>,
    /// What is listed and funded when the log is empty.
    pub bootstrap: Option<PathBuf>,
    /// The cluster that this node belongs to.
    pub cluster: Option<ClusterSettings>,
    /// How a gateway in front of a cluster finds its nodes.
    pub gateway: GatewaySettings,
    /// The journal.
    pub journal: JournalConfig,
    /// The queues before it.
    pub lanes: LanesConfig,
    /// What clients may ask for.
    pub limits: LimitsConfig,
    /// Sockets and requests.
    pub sockets: SocketsConfig,
    /// Secrets at rest.
    pub secrets: SecretsConfig,
    /// TLS on the clients' port.
    pub tls: TlsConfig,
    /// The listener for operators.
    pub admin: AdminConfig,
    /// Logins on the web page.
    pub login: LoginConfig,
    /// The log of requests.
    pub access_log: AccessLogConfig,
    /// What the process says of itself on standard error.
    pub log: LogConfig,
    /// Traces by OpenTelemetry.
    pub traces: TracesConfig,
    /// Where metrics are sent.
    pub metrics: MetricsConfig,
}

/// Where metrics are sent, for where nothing can fetch them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// To where the page of `/metrics` is posted, such as `http://127.0.0.1:9091/metrics/job/rialto`; nowhere where it is not said.
    pub push_url: Option<String>,
    /// Milliseconds between two pages.
    pub push_interval_ms: u64,
}

impl MetricsConfig {
    /// Where pages go; why not there, otherwise.
    pub fn url(&self) -> Result<Option<Uri>, String> {
        let Some(url) = &self.push_url else { return Ok(None) };
        let uri: Uri = url.parse().map_err(|error| format!("metrics.push_url: {error}"))?;
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        if uri.scheme_str() != Some("http") || authority.is_empty() {
            return Err("metrics.push_url must be http://HOST[:PORT]/PATH; TLS is not spoken there".to_owned());
        }
        if authority.contains('@') {
            return Err("metrics.push_url has a name or password in it, which is not sent".to_owned());
        }
        Ok(Some(uri))
    }
}

impl Default for MetricsConfig {
    fn default() -> Self {
        MetricsConfig { push_url: None, push_interval_ms: 15_000 }
    }
}

/// TLS on the clients' port: both files, or neither and the port speaks plain HTTP.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate, and those between it and a root, in PEM. A file that changes is read again.
    pub certificate: Option<PathBuf>,
    /// Its private key in PEM, which only its owner may read.
    pub key: Option<PathBuf>,
}

/// The listener for operators.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Where; any free port of loopback where it is not said. `admin.address` in the data directory tells.
    pub listen: Option<SocketAddr>,
    /// Whether it may be an address that others reach. It speaks plain HTTP: only where the network is your own.
    pub allow_remote: bool,
}

/// Logins on the web page.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoginConfig {
    /// How many minutes an access token lasts.
    pub access_minutes: u64,
    /// How many hours a refresh token lasts.
    pub refresh_hours: u64,
}

impl Default for LoginConfig {
    fn default() -> Self {
        LoginConfig { access_minutes: 15, refresh_hours: 12 }
    }
}

/// The log of requests: one JSON line for each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogConfig {
    /// The file; none is written where it is not said. One that was moved away is begun anew.
    pub file: Option<PathBuf>,
    /// How many lines may wait for the disk; more are dropped and counted.
    pub queue_lines: usize,
}

impl Default for AccessLogConfig {
    fn default() -> Self {
        AccessLogConfig { file: None, queue_lines: 65_536 }
    }
}

/// What the process says of itself on standard error.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Which levels of which modules, such as `info,gateway::ws=debug`; the environment's RUST_LOG says otherwise, and while it
    /// runs `rialto admin log-level` does.
    pub level: String,
    /// `text`, or `json` for one object a line.
    pub format: LogFormat,
}

/// How it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { level: "info,openraft=error".to_owned(), format: LogFormat::Text }
    }
}

/// Traces by OpenTelemetry, sent by OTLP over HTTP.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracesConfig {
    /// The collector, such as `http://127.0.0.1:4318`; none are made where it is not said.
    pub endpoint: Option<String>,
    /// The share of requests that are traced, from 0 to 1.
    pub sample_ratio: f64,
    /// Whether a client's header `traceparent` decides instead.
    pub traceparent: bool,
    /// What the venue is called there.
    pub service_name: String,
    /// How many traces may wait to be sent; more are dropped and counted.
    pub queue_traces: usize,
}

impl Default for TracesConfig {
    fn default() -> Self {
        TracesConfig {
            endpoint: None,
            sample_ratio: 0.01,
            traceparent: true,
            service_name: "rialto".to_owned(),
            queue_traces: 4_096,
        }
    }
}

/// Secrets at rest.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretsConfig {
    /// The file of the keys that seal them; the same for all nodes of a cluster. Where it is not said, `rialto/secrets.key` in the
    /// user's configuration folder, which is made when it is missing.
    pub key_file: Option<PathBuf>,
}

/// The cluster that a node belongs to, and how it talks with the others.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterSettings {
    /// Which of its nodes this is, from 1.
    pub node: u64,
    /// By number, where each node that forms the cluster listens for the others: host and port. A node that joins later lists
    /// itself alone.
    pub members: BTreeMap<String, String>,
    /// A node of a running cluster that this one is to join.
    pub join: Option<String>,
    /// Whether it is to have a vote once it has joined.
    pub voter: bool,
    /// What every node must know to be let in; empty lets in whoever reaches the port.
    pub secret: String,
    /// When the leader stops in order, the node with the highest takes over among those equally far.
    pub priority: u8,
    /// Milliseconds between the leader's heartbeats.
    pub heartbeat_ms: u64,
    /// A follower that heard none for three to four times as many milliseconds stands for election.
    pub election_timeout_ms: u64,
    /// Certificates, in PEM, for mutual TLS between the nodes: the authority that signed all of them,
    pub tls_authority: Option<PathBuf>,
    /// this node's,
    pub tls_certificate: Option<PathBuf>,
    /// and its private key. All three or none.
    pub tls_key: Option<PathBuf>,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        ClusterSettings {
            node: 1,
            members: BTreeMap::new(),
            join: None,
            voter: false,
            secret: String::new(),
            priority: 0,
            heartbeat_ms: 50,
            election_timeout_ms: 100,
            tls_authority: None,
            tls_certificate: None,
            tls_key: None,
        }
    }
}

impl ClusterSettings {
    /// Takes the members from a list such as `1=10.0.0.1:7081,2=10.0.0.2:7081`.
    pub fn set_members(&mut self, list: &str) -> Result<(), String> {
        self.members.clear();
        for item in list.split(',') {
            let (node, address) = item.split_once('=').ok_or_else(|| format!("{item:?} is not NODE=HOST:PORT"))?;
            if self.members.insert(node.trim().to_owned(), address.trim().to_owned()).is_some() {
                return Err(format!("node {node} stands in the list twice"));
            }
        }
        Ok(())
    }

    /// What the journal takes of it.
    pub fn journal(&self) -> Result<ClusterConfig, String> {
        let mut members = BTreeMap::new();
        for (node, address) in &self.members {
            let number: u64 = node.parse().map_err(|_| format!("{node:?} is not a node's number"))?;
            let port = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
            if port.is_none_or(|(host, _)| host.is_empty()) {
                return Err(format!("{address:?} is not HOST:PORT"));
            }
            members.insert(number, address.clone());
        }
        let config = ClusterConfig {
            join: self.join.clone(),
            join_as_voter: self.voter,
            secret: self.secret.clone(),
            tls: self.tls_files()?,
            priority: self.priority,
            heartbeat: Duration::from_millis(self.heartbeat_ms),
            election_timeout: Duration::from_millis(self.election_timeout_ms),
            ..ClusterConfig::new(self.node, members)
        };
        config.check()?;
        Ok(config)
    }

    /// The certificates of the nodes' port.
    pub fn tls_files(&self) -> Result<Option<TlsFiles>, String> {
        match (&self.tls_authority, &self.tls_certificate, &self.tls_key) {
            (None, None, None) => Ok(None),
            (Some(authority), Some(certificate), Some(key)) => {
                Ok(Some(TlsFiles { authority: authority.clone(), certificate: certificate.clone(), key: key.clone() }))
            }
            _ => Err("cluster.tls_authority, tls_certificate and tls_key go together".to_owned()),
        }
    }
}

/// The journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JournalConfig {
    /// How many commands one log entry may hold.
    pub entry_commands_max: usize,
    /// How many log entries may be in flight between the sequencer and the engine.
    pub entries_in_flight: usize,
    /// A snapshot is taken after so many log entries.
    pub snapshot_every_entries: u64,
    /// And after so many commands: a restart replays no more.
    pub snapshot_every_commands: u64,
    /// About how many bytes of the log are kept behind the snapshots, to look back on.
    pub log_bytes_kept: u64,
    /// How many days history keeps what is closed; 0 keeps it for ever.
    pub history_days: u32,
    /// How many days candles of a second are kept; 0 keeps them for ever.
    pub kline_second_days: u32,
    /// How many days candles of a minute are kept, and what is made of minutes; 0 keeps them for ever. Hours and days stay.
    pub kline_minute_days: u32,
    /// With less room on the disk than so many bytes, only cancels are taken.
    pub low_space_bytes: u64,
    /// The size of a file that is thrown out when a start finds no room on the disk.
    pub ballast_bytes: u64,
    /// The clock that stamps commands, for programs that let days go by in minutes; no file can set it.
    #[serde(skip)]
    pub clock: Option<fn() -> engine::Time>,
    /// For drills: the engine panics at the command of this sequence, as a faulty one would; 0 for none.
    pub drill_poison_sequence: u64,
}

impl Default for JournalConfig {
    fn default() -> Self {
        JournalConfig {
            entry_commands_max: 4_096,
            entries_in_flight: 8,
            snapshot_every_entries: 100_000,
            snapshot_every_commands: 5_000_000,
            log_bytes_kept: 8 << 30,
            history_days: 0,
            kline_second_days: 30,
            kline_minute_days: 0,
            low_space_bytes: 256 << 20,
            ballast_bytes: 64 << 20,
            clock: None,
            drill_poison_sequence: 0,
        }
    }
}

/// The lanes: who may have how many commands under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LanesConfig {
    /// How many lanes there are.
    pub count: usize,
    /// How many commands one lane may have under way; more are refused with 503 and -1008.
    pub commands_max: usize,
}

impl Default for LanesConfig {
    fn default() -> Self {
        LanesConfig { count: 16, commands_max: 4_096 }
    }
}

/// What clients may ask for. They are told so by exchangeInfo.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Request weight that one address may use in a minute.
    pub request_weight_per_minute: u32,
    /// Requests, whatever they weigh, that one address may send in five minutes; 0 is no limit.
    pub raw_requests_per_5_minutes: u32,
    /// Websockets that one address may open in five minutes; 0 is no limit.
    pub connections_per_5_minutes: u32,
    /// How often in a minute an address may be refused before it is banned; 0 bans nobody.
    pub refusals_before_ban: u32,
    /// How many seconds the first ban of an address lasts; each further one lasts four times as long.
    pub ban_seconds_first: u64,
    /// How many seconds a ban lasts at the most; who keeps quiet so long after one begins anew.
    pub ban_seconds_max: u64,
    /// Credits for all requests together.
    pub gateway: BucketConfig,
    /// Credits of each address.
    pub address: BucketConfig,
    /// Credits of each account.
    pub account: BucketConfig,
    /// Credits of each account, or address where no account is named, for one call.
    pub endpoint: Vec<EndpointLimit>,
    /// Unfilled orders that one account may place in ten seconds.
    pub orders_per_10_seconds: u32,
    /// Unfilled orders that one account may place in a day.
    pub orders_per_day: u32,
    /// How much an order's first fill takes off these counts where it came as the taker.
    pub taker_fill_decrement: u32,
    /// The same where it came as the maker.
    pub maker_fill_decrement: u32,
    /// Orders that one account may have open over all symbols; 0 is no limit.
    pub exchange_max_num_orders: u32,
    /// Stop orders among them; 0 is no limit.
    pub exchange_max_num_algo_orders: u32,
    /// Icebergs among them; 0 is no limit.
    pub exchange_max_num_iceberg_orders: u32,
    /// Order lists that one account may have open over all symbols; 0 is no limit.
    pub exchange_max_num_order_lists: u32,
}

/// A limit on one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointLimit {
    /// The HTTP method; the method of the WS API that does the same is limited with it.
    pub method: String,
    /// The path.
    pub path: String,
    /// What comes in each second; 0 is no limit.
    pub credits_per_second: u32,
    /// The most that is kept.
    pub credits_max: u32,
}

impl EndpointLimit {
    /// Its bucket.
    pub fn bucket(&self) -> BucketConfig {
        BucketConfig::new(self.credits_per_second, self.credits_max)
    }
}

impl LimitsConfig {
    /// What of it the engine keeps.
    pub fn exchange(&self) -> ExchangeLimits {
        let per = |seconds, limit| OrderCountLimit { seconds, limit };
        ExchangeLimits {
            max_num_orders: self.exchange_max_num_orders,
            max_num_algo_orders: self.exchange_max_num_algo_orders,
            max_num_iceberg_orders: self.exchange_max_num_iceberg_orders,
            max_num_order_lists: self.exchange_max_num_order_lists,
            order_counts: [per(10, self.orders_per_10_seconds), per(86_400, self.orders_per_day)],
            taker_fill_decrement: self.taker_fill_decrement,
            maker_fill_decrement: self.maker_fill_decrement,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        LimitsConfig {
            request_weight_per_minute: 6_000,
            raw_requests_per_5_minutes: 60_000_000,
            connections_per_5_minutes: 30_000,
            refusals_before_ban: 100,
            ban_seconds_first: 120,
            ban_seconds_max: 3 * 86_400,
            gateway: BucketConfig::new(1_000_000, 1_000_000),
            address: BucketConfig::new(500_000, 1_000_000),
            account: BucketConfig::new(250_000, 500_000),
            endpoint: Vec::new(),
            orders_per_10_seconds: 100_000,
            orders_per_day: 100_000_000,
            taker_fill_decrement: 1,
            maker_fill_decrement: 5,
            exchange_max_num_orders: 0,
            exchange_max_num_algo_orders: 0,
            exchange_max_num_iceberg_orders: 0,
            exchange_max_num_order_lists: 0,
        }
    }
}

/// Sockets and requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SocketsConfig {
    /// Connections that are open at once; newcomers are refused. Fewer where the process may not have so many files open.
    pub connections_max: usize,
    /// Proxies, and networks of them, whose word on the client's address is taken: the last address in `X-Forwarded-For`
    /// that is none of them.
    pub trusted_proxies: Vec<Network>,
    /// Origins of web pages, such as `https://example.com`, that browsers may let ask here beside its own; `*` is all.
    pub allowed_origins: Vec<String>,
    /// Connections of one address that are open at once; 0 is no limit.
    pub connections_per_address_max: usize,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// Seconds in which the first request of a connection must have come, or the connection is closed.
    pub first_head_seconds_max: u64,
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Seconds in which a request's head must have come; so long, too, an idle connection is kept. Clients keep theirs for
    /// 15 seconds and more, and an order that meets a closing connection has an unknown fate.
    pub head_seconds_max: u64,
    /// Seconds in which its body must have come, after the head.
    pub body_seconds_max: u64,
    /// Streams that one websocket may listen to.
    pub streams_max: usize,
    /// Messages that one stream socket may send in a second; more close it. 0 is no limit.
    pub messages_per_second_max: u32,
    /// Bytes of a message that a websocket may send.
    pub message_bytes_max: usize,
    /// Batches of messages that a stream keeps for those of its readers who are behind.
    pub queue_batches_max: usize,
    /// WS API requests that one socket may have under way; more wait unread.
    pub requests_in_flight_max: usize,
    /// Seconds between the server's pings.
    pub ping_seconds: u64,
    /// Seconds without a pong after which a websocket is closed.
    pub pong_seconds_max: u64,
    /// Hours after which a websocket is closed.
    pub websocket_hours_max: u64,
}

impl Default for SocketsConfig {
    fn default() -> Self {
        SocketsConfig {
            connections_max: 18_000,
            trusted_proxies: Vec::new(),
            allowed_origins: Vec::new(),
            connections_per_address_max: 0,
            head_bytes_max: 32 << 10,
            first_head_seconds_max: 20,
            body_bytes_max: 64 << 10,
            head_seconds_max: 65,
            body_seconds_max: 10,
            streams_max: 1_024,
            messages_per_second_max: 5,
            message_bytes_max: 64 << 10,
            queue_batches_max: 8_192,
            requests_in_flight_max: 1_024,
            ping_seconds: 20,
            pong_seconds_max: 60,
            websocket_hours_max: 24,
        }
    }
}

impl Config {
    /// Whether every setting is one that works; which is not, otherwise.
    pub fn check(&self) -> Result<(), String> {
        let least = [
            ("journal.entry_commands_max", self.journal.entry_commands_max as u64, 1),
            ("journal.entries_in_flight", self.journal.entries_in_flight as u64, 1),
            ("journal.snapshot_every_entries", self.journal.snapshot_every_entries, 10),
            ("journal.snapshot_every_commands", self.journal.snapshot_every_commands, 10),
            ("lanes.count", self.lanes.count as u64, 1),
            ("lanes.commands_max", self.lanes.commands_max as u64, 1),
            ("limits.request_weight_per_minute", self.limits.request_weight_per_minute.into(), 1),
            ("limits.orders_per_10_seconds", self.limits.orders_per_10_seconds.into(), 1),
            ("limits.orders_per_day", self.limits.orders_per_day.into(), 1),
            ("limits.ban_seconds_first", self.limits.ban_seconds_first, 1),
            ("limits.ban_seconds_max", self.limits.ban_seconds_max, 1),
            ("sockets.connections_max", self.sockets.connections_max as u64, 1),
            ("sockets.head_bytes_max", self.sockets.head_bytes_max as u64, 8_192),
            ("sockets.first_head_seconds_max", self.sockets.first_head_seconds_max, 1),
            ("login.access_minutes", self.login.access_minutes, 1),
            ("login.refresh_hours", self.login.refresh_hours, 1),
            ("access_log.queue_lines", self.access_log.queue_lines as u64, 1),
            ("traces.queue_traces", self.traces.queue_traces as u64, 1),
            ("sockets.body_bytes_max", self.sockets.body_bytes_max as u64, 1_024),
            ("sockets.head_seconds_max", self.sockets.head_seconds_max, 1),
            ("sockets.body_seconds_max", self.sockets.body_seconds_max, 1),
            ("sockets.streams_max", self.sockets.streams_max as u64, 1),
            ("sockets.message_bytes_max", self.sockets.message_bytes_max as u64, 1_024),
            ("sockets.queue_batches_max", self.sockets.queue_batches_max as u64, 1),
            ("sockets.requests_in_flight_max", self.sockets.requests_in_flight_max as u64, 1),
            ("sockets.ping_seconds", self.sockets.ping_seconds, 1),
            ("sockets.pong_seconds_max", self.sockets.pong_seconds_max, 1),
            ("sockets.websocket_hours_max", self.sockets.websocket_hours_max, 1),
            ("metrics.push_interval_ms", self.metrics.push_interval_ms, 100),
        ];
        for (name, value, least) in least {
            if value < least {
                return Err(format!("{name} is {value}; it must be at least {least}"));
            }
        }
        let buckets =
            [("gateway", self.limits.gateway), ("address", self.limits.address), ("account", self.limits.account)];
        let endpoints = self.limits.endpoint.iter().map(|endpoint| (&*endpoint.path, endpoint.bucket()));
        for (name, bucket) in buckets.into_iter().chain(endpoints) {
            if bucket.holds() && bucket.credits_max == 0 {
                return Err(format!("limits: the bucket of {name} holds nothing; credits_max must be at least 1"));
            }
        }
        self.cluster.as_ref().map(ClusterSettings::journal).transpose()?;
        self.metrics.url()?;
        self.gateway.nodes()?;
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            return Err("tls.certificate and tls.key go together".to_owned());
        }
        if self.admin.listen.is_some_and(|listen| !listen.ip().is_loopback()) && !self.admin.allow_remote {
            return Err("admin.listen is not on loopback; admin.allow_remote = true says that this is meant".to_owned());
        }
        if self.login.access_minutes > 24 * 60 || self.login.refresh_hours > 24 * 365 {
            return Err("login: a token may not last that long".to_owned());
        }
        if !(0.0..=1.0).contains(&self.traces.sample_ratio) {
            return Err("traces.sample_ratio is a share: from 0 to 1".to_owned());
        }
        logging::check(&self.log.level).map_err(|reason| format!("log.level: {reason}"))?;
        if self.lanes.count > 4_096 {
            return Err(format!("lanes.count is {}; it must be at most 4096", self.lanes.count));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_or_impossible_setting_is_named() {
        let read = |text: &str| toml::from_str::<Config>(text).map_err(|error| error.to_string());
        assert!(read("[limits]\norders_per_year = 1").unwrap_err().contains("orders_per_year"));
        let config = read("[lanes]\ncount = 0").unwrap();
        assert_eq!(config.check().unwrap_err(), "lanes.count is 0; it must be at least 1");
        Config::default().check().unwrap();
        let config = read("[limits.address]\ncredits_per_second = 5\ncredits_max = 0").unwrap();
        assert!(config.check().unwrap_err().contains("the bucket of address"));
        assert!(read("[limits.address]\ncredits_per_second = 5").is_err());
        assert!(read("[sockets]\ntrusted_proxies = [\"10.0.0.0/33\"]").unwrap_err().contains("10.0.0.0/33"));
    }

    #[test]
    fn metrics_go_only_where_they_can_be_sent() {
        let url = |url: &str| MetricsConfig { push_url: Some(url.to_owned()), ..MetricsConfig::default() }.url();
        assert!(url("http://push.local:9091/metrics/job/rialto").is_ok_and(|uri| uri.is_some()));
        for (wrong, complaint) in [
            ("https://push.local/", "TLS"),
            ("push.local:9091", "http://HOST"),
            ("/metrics", "http://HOST"),
            ("http://ann:secret@push.local/", "password"),
            ("http://a b/", "push_url"),
        ] {
            let told = url(wrong).unwrap_err();
            assert!(told.contains(complaint) && !told.contains("secret"), "{wrong}: {told}");
        }
    }

    #[test]
    fn the_limits_of_the_example_are_sound() {
        let config: Config = toml::from_str(include_str!("../../docs/examples/public-venue.toml")).unwrap();
        config.check().unwrap();
    }
}
