//! The flags that say which place a node has in a cluster.

use clap::Args;

use crate::config::Config;

/// A node's place in a cluster; without them it is a venue by itself.
#[derive(Debug, Args)]
pub struct Place {
    /// Which node of the cluster this is
    #[arg(long, value_name = "ID")]
    node: Option<u64>,
    /// Where each node of the cluster listens for the others, the same on all of them. Empty directories form the cluster
    /// once all nodes are there
    #[arg(long, value_name = "ID=HOST:PORT,...")]
    cluster: Option<String>,
    /// Join a running cluster through this node of it; --cluster then lists this node alone
    #[arg(long, value_name = "HOST:PORT")]
    join: Option<String>,
    /// Have a vote once joined
    #[arg(long, requires = "join")]
    voter: bool,
}

impl Place {
    /// Which settings these flags say: the setting, whether it is said, the flag.
    pub fn said(&self) -> [(&'static str, bool, &'static str); 4] {
        [
            ("cluster.node", self.node.is_some(), "--node"),
            ("cluster.members", self.cluster.is_some(), "--cluster"),
            ("cluster.join", self.join.is_some(), "--join"),
            ("cluster.voter", self.voter, "--voter"),
        ]
    }

    /// Lays them over the settings of the file.
    pub fn apply(&self, config: &mut Config) -> Result<(), String> {
        if self.node.is_none() && self.cluster.is_none() && self.join.is_none() {
            return Ok(());
        }
        let settings = config.cluster.get_or_insert_default();
        settings.node = self.node.unwrap_or(settings.node);
        if let Some(list) = &self.cluster {
            settings.set_members(list).map_err(|reason| format!("--cluster: {reason}"))?;
        }
        settings.join = self.join.clone().or(settings.join.take());
        settings.voter |= self.voter;
        settings.journal().map(|_| ()).map_err(|reason| format!("--cluster: {reason}"))
    }
}
