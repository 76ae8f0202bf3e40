//! What deploy/ brings for operators speaks of metrics that there are.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use journal::{ClusterStatus, MemberStatus, Role};
use tests::server::Server;

fn deploy(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("rialto_")).collect()
}

#[tokio::test]
async fn rules_and_dashboard_name_metrics_that_the_server_has() {
    let server = Server::start(|_| {}).await;
    // So that there is an error to count.
    server.get("/api/v3/depth").await;
    let of_node = server.get("/metrics").await.text;
    let member = |node, role| MemberStatus {
        node,
        address: String::new(),
        role,
        voter: true,
        applied_sequence: 0,
        applied_index: 0,
        log_index: 0,
        state_hash: Default::default(),
        trouble: None,
        version: String::new(),
    };
    let members = vec![member(1, Role::Leader), member(2, Role::Follower)];
    let of_cluster = gateway::cluster_metrics::render(&ClusterStatus { asked: 1, term: 1, leader: Some(1), members });
    let known = [of_node, of_cluster].concat();
    let known = names(&known);
    for file in ["alerts.yaml", "alerts.test.yaml", "dashboard.json"] {
        let text = std::fs::read_to_string(deploy(file)).expect("it is in the project");
        let used = names(&text);
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(!used.is_empty() && unknown.is_empty(), "{file} names {unknown:?}");
    }
    server.stop().await;
}

#[test]
fn every_alert_fires_where_its_condition_is_true_and_none_where_all_is_well() {
    let text = std::fs::read_to_string(deploy("alerts.yaml")).expect("it is in the project");
    let tests = std::fs::read_to_string(deploy("alerts.test.yaml")).expect("it is in the project");
    for alert in text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert} is never made to fire");
    }
    let Ok(told) = Command::new("promtool").args(["test", "rules"]).arg(deploy("alerts.test.yaml")).output() else {
        return println!("skipped: no promtool (Debian, Ubuntu: apt-get install prometheus)");
    };
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
}
