//! What `/metrics` says of a gateway and of the nodes as it sees them.

use std::fmt::Write;

use journal::{BreakerState, NodeSeen, Observer};

/// The page's part about `observer`, which takes orders or does not.
pub fn render(observer: &Observer, is_ready: bool) -> String {
    let mut page = String::new();
    let mut single = |name: &str, kind: &str, help: &str, value: u64| {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    };
    let ready = u64::from(is_ready);
    single("rialto_gateway_ready", "gauge", "1 while orders are taken.", ready);
    single(
        "rialto_gateway_behind_commands",
        "gauge",
        "Commands that nodes have applied and it has not.",
        observer.behind(),
    );
    single("rialto_gateway_followed_node", "gauge", "The node whose log it reads; 0 for none.", observer.source());
    single("rialto_gateway_states_total", "counter", "Whole states taken from nodes.", observer.states());
    single(
        "rialto_gateway_agreed_log_index",
        "gauge",
        "The last log entry at which a majority of the nodes had the same state as it.",
        observer.agreed_index(),
    );
    let nodes = observer.nodes();
    let open = |node: &NodeSeen| match node.breaker {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    };
    let mut each = |name: &str, kind: &str, help: &str, value: &dyn Fn(&NodeSeen) -> u64| {
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for node in &nodes {
            let _ = writeln!(page, "{name}{{node=\"{}\"}} {}", node.node, value(node));
        }
    };
    let reachable = |node: &NodeSeen| u64::from(node.is_reachable);
    each("rialto_gateway_node_reachable", "gauge", "1 for a node that answers.", &reachable);
    each("rialto_gateway_node_breaker", "gauge", "A node's circuit breaker: 0 closed, 1 half-open, 2 open.", &open);
    each("rialto_gateway_node_breaker_opened_total", "counter", "How often it opened.", &|node| node.opened);
    each("rialto_gateway_node_reads_total", "counter", "Reads that a node answered.", &|node| node.reads);
    each("rialto_gateway_node_read_failures_total", "counter", "Reads that it did not.", &|node| node.failures);
    each("rialto_gateway_node_reads_active", "gauge", "Reads under way.", &|node| node.active as u64);
    page
}
