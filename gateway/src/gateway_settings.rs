//! The settings of a gateway in front of a cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use journal::{Balance, BreakerConfig, NodesConfig};
use serde::{Deserialize, Serialize};

/// How `rialto gateway` finds nodes and spreads its reads over them. All of it is read again while it runs, when its file
/// changes, at SIGHUP and when an operator says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewaySettings {
    /// Where some nodes listen for the others: host and port. The rest is found through them.
    pub nodes: Vec<String>,
    /// How reads of history are spread: random, round_robin, weighted, least_active or uid_hash.
    pub balance: BalanceWord,
    /// The weights of nodes by their number, where reads are spread by weight; one where none is said.
    pub weights: BTreeMap<String, u32>,
    /// How many nodes a read is tried at.
    pub read_attempts: u32,
    /// How many milliseconds one of them may take.
    pub read_timeout_ms: u64,
    /// How many commands the gateway may be behind and still be ready.
    pub behind_max: u64,
    /// A node is left alone after so many failures one after the other,
    pub breaker_failures: u32,
    /// and where so many percent of the reads in the window failed,
    pub breaker_failure_percent: u32,
    /// of at least so many.
    pub breaker_calls_min: u32,
    /// The window, in milliseconds.
    pub breaker_window_ms: u64,
    /// For how many milliseconds it is left alone;
    pub breaker_open_ms: u64,
    /// then so many reads must go well.
    pub breaker_probes: u32,
}

/// How reads are spread, in words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BalanceWord {
    /// By lot.
    Random,
    /// One after the other.
    #[default]
    RoundRobin,
    /// By weight.
    Weighted,
    /// To the one with the fewest under way.
    LeastActive,
    /// Those of one account to one node.
    UidHash,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let NodesConfig { breaker, attempts, read_timeout, .. } = NodesConfig::default();
        GatewaySettings {
            nodes: Vec::new(),
            balance: BalanceWord::default(),
            weights: BTreeMap::new(),
            read_attempts: attempts,
            read_timeout_ms: milliseconds(read_timeout),
            behind_max: 100_000,
            breaker_failures: breaker.failures,
            breaker_failure_percent: breaker.failure_percent,
            breaker_calls_min: breaker.calls_min,
            breaker_window_ms: milliseconds(breaker.window),
            breaker_open_ms: milliseconds(breaker.open),
            breaker_probes: breaker.probes,
        }
    }
}

impl GatewaySettings {
    /// What the journal takes of it; which setting makes no sense, otherwise.
    pub fn nodes(&self) -> Result<NodesConfig, String> {
        for address in &self.nodes {
            let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
            if parts.is_none_or(|(host, port)| host.is_empty() || port == 0) {
                return Err(format!("gateway.nodes: {address:?} is not HOST:PORT"));
            }
        }
        let mut weights = BTreeMap::new();
        for (node, weight) in &self.weights {
            let number = node.parse().map_err(|_| format!("gateway.weights: {node:?} is not a node's number"))?;
            weights.insert(number, *weight);
        }
        let least = [
            ("read_attempts", u64::from(self.read_attempts), 1),
            ("read_timeout_ms", self.read_timeout_ms, 1),
            ("breaker_failures", u64::from(self.breaker_failures), 1),
            ("breaker_failure_percent", u64::from(self.breaker_failure_percent), 1),
            ("breaker_calls_min", u64::from(self.breaker_calls_min), 1),
            ("breaker_window_ms", self.breaker_window_ms, 10),
            ("breaker_probes", u64::from(self.breaker_probes), 1),
        ];
        for (name, value, least) in least {
            if value < least {
                return Err(format!("gateway.{name} is {value}; it must be at least {least}"));
            }
        }
        if self.breaker_failure_percent > 100 {
            return Err("gateway.breaker_failure_percent must be at most 100".to_owned());
        }
        Ok(NodesConfig {
            addresses: self.nodes.clone(),
            balance: match self.balance {
                BalanceWord::Random => Balance::Random,
                BalanceWord::RoundRobin => Balance::RoundRobin,
                BalanceWord::Weighted => Balance::Weighted,
                BalanceWord::LeastActive => Balance::LeastActive,
                BalanceWord::UidHash => Balance::UidHash,
            },
            weights,
            breaker: BreakerConfig {
                failures: self.breaker_failures,
                failure_percent: self.breaker_failure_percent,
                calls_min: self.breaker_calls_min,
                window: Duration::from_millis(self.breaker_window_ms),
                open: Duration::from_millis(self.breaker_open_ms),
                probes: self.breaker_probes,
            },
            attempts: self.read_attempts,
            read_timeout: Duration::from_millis(self.read_timeout_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_named() {
        let complaint = |text: &str| toml::from_str::<GatewaySettings>(text).unwrap().nodes().unwrap_err();
        assert_eq!(complaint("nodes = [\"10.0.0.1\"]"), "gateway.nodes: \"10.0.0.1\" is not HOST:PORT");
        assert_eq!(complaint("breaker_failures = 0"), "gateway.breaker_failures is 0; it must be at least 1");
        assert!(complaint("weights = { one = 1 }").contains("gateway.weights"));
        assert!(toml::from_str::<GatewaySettings>("balance = \"fair\"").unwrap_err().to_string().contains("uid_hash"));
        assert_eq!(GatewaySettings::default().nodes().unwrap(), NodesConfig::default());
    }
}
