//! What deploy/ brings for operators speaks of metrics that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use journal::{ClusterStatus, MemberStatus, Role};
use tests::server::{Server, account_a, limit};

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
        let test = tests.split("\n  - name: ").find(|test| test.lines().next() == Some(alert));
        let test = test.unwrap_or_else(|| panic!("{alert} has no test"));
        assert!(test.contains(&format!("alertname=\"{alert}\"")), "{alert} is never made to fire");
        assert!(
            test.contains("exp_samples: []"),
            "nothing says that {alert} does not fire before its condition is true"
        );
    }
    let Ok(told) = Command::new("promtool").args(["test", "rules"]).arg(deploy("alerts.test.yaml")).output() else {
        return println!("skipped: no promtool (Debian, Ubuntu: apt-get install prometheus)");
    };
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
}

/// Pages of metrics one after another, as promtool takes them for what was scraped every 15 seconds.
fn scraped(pages: &[String]) -> String {
    let mut series: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (at, page) in pages.iter().enumerate() {
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            let (name, labels) = name.trim_end_matches('}').split_once('{').unwrap_or((name, ""));
            let comma = if labels.is_empty() { "" } else { "," };
            let values = series.entry(format!("{name}{{instance=\"a\"{comma}{labels}}}")).or_default();
            // What was not on the pages before.
            values.resize(at, "_".to_owned());
            values.push(value.to_owned());
        }
    }
    let line = |(name, values): (&String, &Vec<String>)| {
        format!("      - {{ series: '{name}', values: '{}' }}\n", values.join(" "))
    };
    series.iter().map(line).collect()
}

/// The alerts that fire at the end of what a server printed.
fn firing(pages: &[String]) -> BTreeSet<String> {
    let folder = tempfile::TempDir::new().unwrap();
    let rules = deploy("alerts.yaml").canonicalize().unwrap();
    let end = (pages.len() - 1) * 15;
    // It is told that nothing fires, and complains of each that does.
    let test = format!(
        "rule_files: ['{}']\nevaluation_interval: 15s\ntests:\n  - name: a server\n    interval: 15s\n    input_series:\n{}    \
         promql_expr_test:\n      - {{ expr: 'ALERTS{{alertstate=\"firing\"}}', eval_time: {end}s, exp_samples: [] }}\n",
        rules.display(),
        scraped(pages)
    );
    let file = folder.path().join("test.yaml");
    std::fs::write(&file, &test).unwrap();
    let told = Command::new("promtool").args(["test", "rules"]).arg(&file).output().expect("promtool is there");
    let text = [told.stdout, told.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let names: BTreeSet<String> =
        text.split("alertname=\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect();
    assert_eq!(told.status.success(), names.is_empty(), "{text}");
    names
}

#[tokio::test]
async fn alerts_fire_on_what_a_real_server_prints_when_it_is_in_trouble_and_not_while_it_is_well() {
    if Command::new("promtool").arg("--version").output().is_err() {
        return println!("skipped: no promtool (Debian, Ubuntu: apt-get install prometheus)");
    }
    const PAGES: usize = 12;
    let well = Server::start(|_| {}).await;
    let mut pages = Vec::new();
    for _ in 0..PAGES {
        well.order(&account_a(), &limit("BUY", "0.001", "50000")).await.good();
        well.get("/api/v3/depth").await.refused(400, -1102, "");
        pages.push(well.get("/metrics").await.text);
    }
    assert_eq!(firing(&pages), BTreeSet::new());

    // The same server on a disk without the room it asks for: it says so, and refuses what makes more.
    let full = well.restart(|config| config.journal.low_space_bytes = u64::MAX / 2).await;
    let until = Instant::now() + Duration::from_secs(30);
    while !full.get("/metrics").await.text.contains("\nrialto_disk_low 1\n") {
        assert!(Instant::now() < until, "the disk is low");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    pages.clear();
    for _ in 0..PAGES {
        full.order(&account_a(), &limit("BUY", "0.001", "50000")).await.refused(503, -1008, "");
        pages.push(full.get("/metrics").await.text);
    }
    assert_eq!(firing(&pages), ["RialtoDiskLow", "RialtoOverloaded"].map(str::to_owned).into());
    full.stop().await;
}
