//! What an operator's tool asks of a cluster, over the nodes' own protocol.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::{Change, ClusterStatus, NOT_LEADING, TlsFiles};
use crate::link::{Caller, Link};
use crate::message::{Reply, Request};
use crate::tls::Tls;
use crate::transport::{Tcp, Transport};

/// How long a node may take to answer: longer than a change of members takes.
const REPLY_MAX: Duration = Duration::from_secs(15);
/// How long a leader is waited for: longer than elections take.
const LEADER_WAIT_MAX: Duration = Duration::from_secs(10);
/// How often who leads is asked meanwhile.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// Asks a cluster through one of its nodes.
pub struct ClusterClient {
    caller: Arc<Caller>,
    address: String,
}

impl ClusterClient {
    /// Through the node that listens for the others at `address`; `secret` and `tls` are what the cluster asks of its nodes.
    pub fn new(address: String, secret: String, tls: Option<&TlsFiles>) -> Result<ClusterClient, String> {
        let transport: Arc<dyn Transport> = match tls {
            Some(files) => Arc::new(Tls::read(files)?),
            None => Arc::new(Tcp),
        };
        let caller = Caller { transport, from: None, secret, acquaintances: None };
        Ok(ClusterClient { caller: Arc::new(caller), address })
    }

    /// The cluster as that node sees it.
    pub async fn status(&self) -> Result<ClusterStatus, String> {
        let link = Link::patient(self.caller.clone(), 0, self.address.clone(), REPLY_MAX);
        match link.call(&Request::Status).await? {
            Reply::Status(status) => Ok(*status),
            _ => Err("the reply is to another question".to_owned()),
        }
    }

    /// Has the leader change the cluster; during an election, the next one.
    pub async fn change(&self, change: Change) -> Result<(), String> {
        let end = Instant::now() + LEADER_WAIT_MAX;
        let mut was_asked = false;
        loop {
            let status = self.status().await?;
            if was_asked && change.is_made(&status) {
                return Ok(());
            }
            let leader = status.members.iter().find(|member| Some(member.node) == status.leader);
            let refused = match leader {
                None => "the cluster has no leader now".to_owned(),
                Some(leader) => {
                    let link = Link::patient(self.caller.clone(), leader.node, leader.address.clone(), REPLY_MAX);
                    was_asked = true;
                    match link.call(&Request::Change(change.clone())).await {
                        Err(reason) if reason.contains(NOT_LEADING) => reason,
                        answer => return answer.map(|_| ()),
                    }
                }
            };
            if Instant::now() > end {
                return Err(refused);
            }
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    }
}
