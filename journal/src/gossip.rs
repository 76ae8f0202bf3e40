//! Tells the other members how this node stands, and hears how they do.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::member::{Member, REMOVED};
use crate::message::{Reply, Request};

/// How often.
const INTERVAL: Duration = Duration::from_millis(100);

/// Goes on until it is dropped.
pub(crate) async fn run(member: Member) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut asked = FuturesUnordered::new();
    // Those that have not answered yet are not asked again.
    let mut waited_for = BTreeSet::new();
    loop {
        tokio::select! {
            biased;
            Some((node, reply)) = asked.next() => {
                waited_for.remove(&node);
                match reply {
                    Ok(Reply::Standing(standing)) if standing.node == node => {
                        member.standings.heard(*standing);
                        member.compare();
                    }
                    Ok(_) => {}
                    Err(reason) if reason == REMOVED && member.is_member() => member.failure.report(REMOVED),
                    Err(reason) => member.standings.silent(node, reason),
                }
            }
            _ = tick.tick() => {
                let metrics = member.metrics();
                let own = Box::new(member.standing());
                for (node, place) in metrics.membership_config.membership().nodes() {
                    let node = *node;
                    if node != member.node && waited_for.insert(node) {
                        let link = member.leads.network.link(node, &place.addr);
                        let reply = link.call(&Request::Standing(own.clone()));
                        asked.push(async move { (node, reply.await) });
                    }
                }
            }
        }
    }
}
