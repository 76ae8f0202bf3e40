//! `rialto cluster`: how a cluster stands, and changes of its members. It talks to the nodes where they talk to each other.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use journal::{Change, ClusterClient, ClusterStatus, Role};

use crate::config::ClusterSettings;
use crate::say;
use crate::settings;

/// How often a vote is asked for a node that catches up.
const PROMOTE_INTERVAL: Duration = Duration::from_millis(500);

/// See how a cluster stands, and change its members
#[derive(Debug, Args)]
#[command(after_long_help = "\
--peer is the address at which any one node of the cluster listens for the others. Changes go to the leader, wherever they \
are asked for.

Exit status: 0 done, 1 not done, 2 the command line is wrong.

Examples:
  rialto cluster status --peer 10.0.0.1:7081
  rialto cluster add-learner --peer 10.0.0.1:7081 4=10.0.0.4:7081
  rialto cluster promote --peer 10.0.0.1:7081 4
  rialto cluster remove --peer 10.0.0.1:7081 2
  rialto cluster transfer-leader --peer 10.0.0.1:7081 3
  rialto cluster rebuild --peer 10.0.0.1:7081 --data /var/lib/rialto 2

To replace a node whose disk is gone: remove it, then start it on an empty directory with
  rialto serve --data DIR --node 2 --cluster 2=10.0.0.2:7081 --join 10.0.0.1:7081 --voter")]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Who leads, and how far each node is
    Status {
        #[command(flatten)]
        common: Common,
    },
    /// Add a node that follows without a vote
    AddLearner {
        #[command(flatten)]
        common: Common,
        /// The node and where it listens for the others
        #[arg(value_name = "ID=HOST:PORT")]
        node: String,
    },
    /// Give a learner a vote
    Promote {
        #[command(flatten)]
        common: Common,
        /// The node
        #[arg(value_name = "ID")]
        node: u64,
    },
    /// Remove a node; it stops
    Remove {
        #[command(flatten)]
        common: Common,
        /// The node
        #[arg(value_name = "ID")]
        node: u64,
    },
    /// Have a node start anew from the others: after its state differed, or its disk was damaged
    #[command(after_long_help = "\
The node must not run, and this is done on its machine. It is removed from the cluster, its directory is put aside (DIR.1, DIR.2, ...), it \
is added again, and given its vote back once it has caught up: start it meanwhile with the command it was always started with.

Example:
  rialto cluster rebuild --peer 10.0.0.1:7081 --data /var/lib/rialto 2")]
    Rebuild {
        #[command(flatten)]
        common: Common,
        /// Its data directory
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// The node
        #[arg(value_name = "ID")]
        node: u64,
    },
    /// Let another voter lead
    TransferLeader {
        #[command(flatten)]
        common: Common,
        /// The node
        #[arg(value_name = "ID")]
        node: u64,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// Where a node of the cluster listens for the others
    #[arg(long, value_name = "HOST:PORT")]
    peer: String,
    /// The settings of a node of the cluster: its secret and certificates
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Do what the verb says; how the program ends.
pub fn run(arguments: Arguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    match runtime.block_on(run_verb(arguments.verb)) {
        Ok(said) => {
            say!("{said}");
            ExitCode::SUCCESS
        }
        Err(reason) => fail(&reason),
    }
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("rialto: {reason}");
    ExitCode::FAILURE
}

async fn run_verb(verb: Verb) -> Result<String, String> {
    let (common, change, done) = match verb {
        Verb::Status { common } => {
            let status = client(&common)?.status().await?;
            return Ok(if common.json { json(&status) } else { table(&status) });
        }
        Verb::AddLearner { common, node } => {
            let (number, address) = node.split_once('=').ok_or("the node is given as ID=HOST:PORT")?;
            let number = number.parse().map_err(|_| format!("{number:?} is not a node's number"))?;
            (common, Change::AddLearner(number, address.to_owned()), format!("node {number} is a learner now"))
        }
        Verb::Promote { common, node } => (common, Change::Promote(node), format!("node {node} has a vote now")),
        Verb::Remove { common, node } => (common, Change::Remove(node), format!("node {node} is removed")),
        Verb::Rebuild { common, data, node } => return rebuild(&common, &data, node).await,
        Verb::TransferLeader { common, node } => {
            (common, Change::TransferLeader(node), format!("node {node} leads now"))
        }
    };
    client(&common)?.change(change).await?;
    Ok(if common.json { serde_json::json!({ "done": done }).to_string() } else { done })
}

/// Removes a node, puts its directory aside, adds it again, and gives it a vote when it has caught up.
async fn rebuild(common: &Common, data: &Path, node: u64) -> Result<String, String> {
    let client = client(common)?;
    let status = client.status().await?;
    let member = status.members.iter().find(|member| member.node == node);
    let member = member.ok_or_else(|| format!("node {node} is no member"))?;
    if member.role != Role::Unreachable {
        return Err(format!("node {node} runs: stop it first"));
    }
    if !data.join("db").exists() {
        return Err(format!("{} is not a data directory", data.display()));
    }
    client.change(Change::Remove(node)).await?;
    let aside = (1..)
        .map(|number| PathBuf::from(format!("{}.{number}", data.display())))
        .find(|path| !path.exists())
        .expect("some number is free");
    std::fs::rename(data, &aside).map_err(|error| format!("{}: {error}", data.display()))?;
    client.change(Change::AddLearner(node, member.address.clone())).await?;
    eprintln!("node {node} is a learner now, and its old directory is {}; start it", aside.display());
    if member.voter {
        while let Err(reason) = client.change(Change::Promote(node)).await {
            tracing::debug!("no vote yet: {reason}");
            tokio::time::sleep(PROMOTE_INTERVAL).await;
        }
    }
    let done = format!("node {node} is rebuilt");
    Ok(if common.json { serde_json::json!({ "done": done, "aside": aside }).to_string() } else { done })
}

fn client(common: &Common) -> Result<ClusterClient, String> {
    let (config, _) = settings::read(common.config.as_deref())?;
    let cluster = config.cluster.as_ref().map(ClusterSettings::journal).transpose()?;
    let (secret, tls) = cluster.map(|cluster| (cluster.secret, cluster.tls)).unwrap_or_default();
    ClusterClient::new(common.peer.clone(), secret, tls.as_ref())
}

fn json(status: &ClusterStatus) -> String {
    serde_json::to_string(status).expect("plain data can be written as JSON")
}

/// The status as a table for people.
fn table(status: &ClusterStatus) -> String {
    use std::fmt::Write;
    let leader = status.leader.map_or("none".to_owned(), |node| format!("node {node}"));
    let mut said = format!("term {}, leader {leader}, asked node {}\n\n", status.term, status.asked);
    // Writing to a String cannot fail.
    let _ = writeln!(
        said,
        "{:>4}  {:<11}  {:<5}  {:>12}  {:>12}  address",
        "node", "role", "vote", "sequence", "log entry"
    );
    for member in &status.members {
        let vote = if member.voter { "yes" } else { "no" };
        let _ = write!(
            said,
            "{:>4}  {:<11}  {vote:<5}  {:>12}  {:>12}  {}",
            member.node, member.role, member.applied_sequence, member.log_index, member.address
        );
        if let Some(trouble) = &member.trouble {
            let _ = write!(said, "  ! {trouble}");
        }
        said.push('\n');
    }
    said.pop();
    said
}

#[cfg(test)]
mod tests {
    use journal::MemberStatus;

    use super::*;

    #[test]
    fn a_member_in_trouble_is_named_in_the_table() {
        let member = MemberStatus {
            node: 2,
            address: "10.0.0.2:7081".to_owned(),
            role: Role::Unreachable,
            voter: true,
            applied_sequence: 41,
            applied_index: 7,
            log_index: 7,
            state_hash: Default::default(),
            trouble: Some("it does not answer".to_owned()),
            version: "0.1.0".to_owned(),
        };
        let status = ClusterStatus { asked: 1, term: 3, leader: Some(1), members: vec![member] };
        let said = table(&status);
        assert!(said.starts_with("term 3, leader node 1, asked node 1\n"), "{said}");
        let line = said.lines().last().unwrap();
        assert!(line.contains("unreachable") && line.ends_with("10.0.0.2:7081  ! it does not answer"), "{said}");
    }
}
