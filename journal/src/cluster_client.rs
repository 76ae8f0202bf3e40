//! What an operator's tool asks of a cluster, over the nodes' own protocol.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Change, ClusterStatus, TlsFiles};
use crate::link::{Caller, Link};
use crate::message::{Reply, Request};
use crate::tls::Tls;
use crate::transport::{Tcp, Transport};

/// How long a node may take to answer: longer than a change of members takes.
const REPLY_MAX: Duration = Duration::from_secs(15);

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

    /// Has the leader change the cluster.
    pub async fn change(&self, change: Change) -> Result<(), String> {
        let status = self.status().await?;
        let leader = status.members.iter().find(|member| Some(member.node) == status.leader);
        let leader = leader.ok_or("the cluster has no leader now")?;
        let link = Link::patient(self.caller.clone(), leader.node, leader.address.clone(), REPLY_MAX);
        link.call(&Request::Change(change)).await.map(|_| ())
    }
}
