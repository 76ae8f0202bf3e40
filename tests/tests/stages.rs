//! How long commands take, stage by stage, as a real server tells it.

use std::collections::BTreeMap;

use gateway::client::{WsApi, signed_request};
use serde_json::json;
use tests::server::{Server, account_a, limit};

/// The samples of the page of metrics.
async fn samples(server: &Server) -> BTreeMap<String, f64> {
    let page = server.get("/metrics").await.text;
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    lines.map(sample).collect()
}

const STAGES: [&str; 7] = ["receive", "sequence", "replicate", "engine", "publish", "answer", "total"];

#[tokio::test]
async fn every_order_is_counted_in_every_stage_whatever_its_answer_and_its_door() {
    let server = Server::start(|_| {}).await;
    let before = samples(&server).await;
    let a = account_a();
    for number in 0..5 {
        server.order(&a, &limit("BUY", "0.001", &format!("{}", 100_000 - number))).await.good();
    }
    // The engine's refusal comes along the whole road; one at the door does not set out.
    server.order(&a, &limit("BUY", "100", "100000")).await.refused(400, -2010, "insufficient");
    server.order(&a, &limit("BUY", "-1", "50000")).await.refused(400, -1100, "quantity");
    let mut socket = WsApi::connect(&server.address).await.unwrap();
    let order = [
        ("symbol", json!("BTCUSDT")),
        ("side", json!("BUY")),
        ("type", json!("LIMIT")),
        ("timeInForce", json!("GTC")),
        ("quantity", json!("0.001")),
        ("price", json!("90000")),
    ];
    let answer = socket.call(1, signed_request(1, "order.place", &order, &a)).await.unwrap();
    assert!(answer.is_success(), "{answer:?}");
    // A question takes no part in it.
    server.get("/api/v3/depth?symbol=BTCUSDT").await.good();

    let after = samples(&server).await;
    let grown = |name: &str| after[name] - before[name];
    let of = |stage: &str, what: &str| format!("rialto_stage_duration_seconds_{what}{{stage=\"{stage}\"}}");
    for stage in ["receive", "sequence", "replicate", "answer", "total"] {
        assert_eq!(grown(&of(stage, "count")), 7.0, "{stage}");
    }
    for stage in ["engine", "publish"] {
        // The engine may have been told the time in between.
        assert!(grown(&of(stage, "count")) >= 7.0, "{stage}");
    }
    // Each stage is a part of the whole; between them they are the whole, but for commands that nobody waits for.
    let parts: f64 = ["receive", "sequence", "replicate", "answer"].map(|stage| grown(&of(stage, "sum"))).iter().sum();
    assert!(parts > 0.0 && parts <= grown(&of("total", "sum")), "{parts}");
    // An answer waits for the sync of its entry.
    let syncs = grown("rialto_log_sync_duration_seconds_count");
    assert!(syncs >= 1.0 && grown("rialto_log_sync_duration_seconds_sum") > 0.0);
    assert!(grown("rialto_entry_commands_sum") >= 7.0);

    let told = server.app().outlets.stages.summaries();
    let names: Vec<_> = told.iter().map(|stage| stage.name).collect();
    assert_eq!(names, [&STAGES[..], &["sync"]].concat());
    for stage in &told {
        assert!(stage.count > 0 && stage.p50_us <= stage.p99_us && stage.p99_us <= stage.p999_us, "{stage:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn buckets_grow_with_their_bounds_up_to_the_count() {
    let server = Server::start(|_| {}).await;
    server.order(&account_a(), &limit("BUY", "0.001", "50000")).await.good();
    let page = server.get("/metrics").await.text;
    for stage in STAGES {
        let prefix = format!("rialto_stage_duration_seconds_bucket{{stage=\"{stage}\",le=\"");
        let buckets: Vec<(f64, u64)> = page
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix)?.split_once("\"} "))
            .map(|(bound, count)| {
                (if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() }, count.parse().unwrap())
            })
            .collect();
        assert!(buckets.len() > 10 && buckets.is_sorted(), "{stage}: {buckets:?}");
        let count = format!("rialto_stage_duration_seconds_count{{stage=\"{stage}\"}} {}\n", buckets.last().unwrap().1);
        assert!(page.contains(&count) && buckets.last().unwrap().1 > 0, "{stage}");
    }
    server.stop().await;
}
