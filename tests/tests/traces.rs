//! Traces by OpenTelemetry, as a collector gets them: OTLP in its JSON form, decoded here as its specification says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use gateway::client::{WsApi, signed_request};
use serde_json::{Value, json};
use tests::server::{Server, account_a, key_header, limit, sign};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The stages of a command's road.
const STAGES: [&str; 6] = ["receive", "sequence", "replicate", "engine", "publish", "answer"];

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// Who takes traces.
struct Collector {
    url: String,
    /// The bodies that came.
    taken: Arc<Mutex<Vec<String>>>,
    /// Whether it answers.
    answers: watch::Sender<bool>,
}

impl Collector {
    /// One that answers with this status line.
    async fn start(status: &'static str, answers: bool) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let taken = Arc::<Mutex<Vec<String>>>::default();
        let (answers, allowed) = watch::channel(answers);
        let bodies = taken.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(take(socket, status, bodies.clone(), allowed.clone()));
            }
        });
        Collector { url, taken, answers }
    }

    /// The spans that have come, by trace.
    async fn traces(&self) -> BTreeMap<String, Vec<Span>> {
        let mut traces = BTreeMap::<_, Vec<_>>::new();
        for body in self.taken.lock().await.iter() {
            let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
            let of_resources = body["resourceSpans"].as_array().expect("a list").iter();
            let of_scopes = of_resources.flat_map(|of| of["scopeSpans"].as_array().expect("a list"));
            for span in of_scopes.flat_map(|of| of["spans"].as_array().expect("a list")).map(Span::parse) {
                traces.entry(span.trace_id.clone()).or_default().push(span);
            }
        }
        traces
    }

    /// The same once there are so many traces.
    async fn wait_for(&self, count: usize) -> BTreeMap<String, Vec<Span>> {
        let end = Instant::now() + PATIENCE;
        loop {
            let traces = self.traces().await;
            if traces.len() >= count {
                return traces;
            }
            assert!(Instant::now() < end, "{} traces of {count}", traces.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn take(
    mut socket: TcpStream,
    status: &'static str,
    bodies: Arc<Mutex<Vec<String>>>,
    mut answers: watch::Receiver<bool>,
) {
    let mut received = Vec::new();
    let body = loop {
        let mut part = vec![0; 64 << 10];
        let length = socket.read(&mut part).await.unwrap();
        assert!(length > 0, "a request that ends early");
        received.extend_from_slice(&part[..length]);
        let text = String::from_utf8(received.clone()).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        let head = head.to_lowercase();
        assert!(head.contains("content-type: application/json"), "{head}");
        let wanted = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() >= wanted.parse().unwrap() {
            break body.to_owned();
        }
    };
    bodies.lock().await.push(body);
    if answers.wait_for(|answers| *answers).await.is_ok() {
        // Who asked may have given up.
        let _ = socket.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}").as_bytes()).await;
    }
}

/// A span as a collector has it.
#[derive(Clone, Debug)]
struct Span {
    trace_id: String,
    span_id: String,
    /// Empty where it begins a trace.
    parent_span_id: String,
    name: String,
    kind: u64,
    start: u64,
    end: u64,
    attributes: BTreeMap<String, Value>,
    status: u64,
}

impl Span {
    /// Ids are in hex, 64-bit integers are text, enumerations are numbers; a name that is not known is a mistake.
    fn parse(value: &Value) -> Span {
        let fields = value.as_object().expect("an object");
        let known = [
            "traceId",
            "spanId",
            "parentSpanId",
            "flags",
            "name",
            "kind",
            "startTimeUnixNano",
            "endTimeUnixNano",
            "attributes",
            "status",
        ];
        assert!(fields.keys().all(|name| known.contains(&name.as_str())), "{value}");
        let text = |name: &str| value[name].as_str().unwrap_or_else(|| panic!("{name} of {value}")).to_owned();
        let id = |name: &str, digits: usize| {
            let id = text(name);
            let is_hex = id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            assert!(id.len() == digits && is_hex && id.bytes().any(|byte| byte != b'0'), "{name} of {value}");
            id
        };
        assert_eq!(value["flags"].as_u64().expect("a number") & 1, 1, "{value}");
        Span {
            trace_id: id("traceId", 32),
            span_id: id("spanId", 16),
            parent_span_id: fields.get("parentSpanId").map(|_| id("parentSpanId", 16)).unwrap_or_default(),
            name: text("name"),
            kind: value["kind"].as_u64().expect("a number"),
            start: text("startTimeUnixNano").parse().expect("nanoseconds"),
            end: text("endTimeUnixNano").parse().expect("nanoseconds"),
            attributes: attributes(&value["attributes"]),
            status: value["status"]["code"].as_u64().expect("a number"),
        }
    }
}

fn attributes(list: &Value) -> BTreeMap<String, Value> {
    let attribute = |pair: &Value| {
        let value = match (&pair["value"]["stringValue"], &pair["value"]["intValue"]) {
            (Value::String(text), Value::Null) => json!(text),
            (Value::Null, Value::String(number)) => json!(number.parse::<i64>().expect("an integer")),
            _ => panic!("{pair}"),
        };
        (pair["key"].as_str().expect("a name").to_owned(), value)
    };
    list.as_array().into_iter().flatten().map(attribute).collect()
}

/// That these spans are one command's: the whole with all stages within, each behind the one before. The whole.
fn assert_whole(spans: &[Span]) -> &Span {
    let [whole, stages @ ..] = spans else { panic!("no spans") };
    let names: Vec<_> = stages.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, STAGES);
    assert_eq!((stages[0].start, stages[5].end), (whole.start, whole.end));
    // A server's span, and what is inside of it.
    assert!(whole.kind == 2 && stages.iter().all(|span| span.kind == 1 && span.status == 0));
    let mut ids = vec![&whole.span_id];
    let mut reached = whole.start;
    for stage in stages {
        assert_eq!((&stage.trace_id, &stage.parent_span_id), (&whole.trace_id, &whole.span_id), "{stage:?}");
        assert_eq!(stage.start, reached, "{stage:?}");
        assert!(stage.end >= reached, "{stage:?}");
        reached = stage.end;
        assert!(!ids.contains(&&stage.span_id));
        ids.push(&stage.span_id);
    }
    // In this century: nanoseconds, not another unit.
    assert!((1_600_000_000_000_000_000..4_000_000_000_000_000_000).contains(&whole.start));
    whole
}

/// A new order with a header of its own.
async fn order(server: &Server, parameters: &str, header: &str) -> tests::server::Response {
    let a = account_a();
    let target = format!("/api/v3/order?{}", sign(&a, parameters));
    server.ask("POST", &target, &format!("{}{header}", key_header(&a)), b"").await
}

fn parent(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{CALLER}-{flags}\r\n")
}

#[tokio::test]
async fn an_order_is_one_trace_whose_stages_lie_within_it_in_order() {
    let collector = Collector::start("200 OK", true).await;
    let server = Server::start(|config| {
        config.traces.endpoint = Some(collector.url.clone());
        config.traces.sample_ratio = 1.0;
        config.traces.service_name = "a venue".to_owned();
    })
    .await;
    let a = account_a();
    let placed = order(&server, &limit("BUY", "0.001", "50000"), &parent("01")).await;
    let sequence: u64 = placed.header("x-rialto-sequence").unwrap().parse().unwrap();
    placed.good();
    let mut socket = WsApi::connect(&server.address).await.unwrap();
    let parameters = [
        ("symbol", json!("BTCUSDT")),
        ("side", json!("BUY")),
        ("type", json!("LIMIT")),
        ("timeInForce", json!("GTC")),
        ("quantity", json!("100")),
        ("price", json!("90000")),
    ];
    let refused = socket.call(1, signed_request(1, "order.place", &parameters, &a)).await.unwrap();
    assert_eq!(refused.code(), -2010);
    server.get("/api/v3/no-such-thing").await.refused(404, -1020, "");

    let traces = collector.wait_for(3).await;
    assert_eq!(traces.len(), 3);
    let named = |name: &str| {
        let found: Vec<_> = traces.values().filter(|spans| spans[0].name == name).collect();
        assert_eq!(found.len(), 1, "{name}");
        found[0]
    };
    // The client's own trace goes on here.
    let whole = assert_whole(named("POST /api/v3/order"));
    assert_eq!((&*whole.trace_id, &*whole.parent_span_id), (TRACE, CALLER));
    let expected =
        [("http.response.status_code", json!(200)), ("rialto.sequence", json!(sequence)), ("rialto.uid", json!(1001))];
    assert_eq!(whole.attributes, expected.map(|(key, value)| (key.to_owned(), value)).into());
    // What the engine refuses went the whole way too; its trace begins here.
    let whole = assert_whole(named("order.place"));
    assert!(whole.parent_span_id.is_empty());
    assert_eq!(whole.attributes["rialto.code"], json!(-2010));
    // What asks for nothing that there is has no name of its own, and no stages.
    assert_eq!(named("unknown").len(), 1);

    let bodies = collector.taken.lock().await.concat();
    for secret in [a.api_key.as_str(), a.secret.as_str(), "signature", "127.0.0.1", "no-such-thing"] {
        assert!(!bodies.contains(secret), "{secret} in {bodies}");
    }
    assert!(bodies.contains(r#"{"key":"service.name","value":{"stringValue":"a venue"}}"#), "{bodies}");
    server.stop().await;
}

#[tokio::test]
async fn what_a_client_says_of_sampling_holds_and_else_the_ratio() {
    let collector = Collector::start("200 OK", true).await;
    let server = Server::start(|config| {
        config.traces.endpoint = Some(collector.url.clone());
        config.traces.sample_ratio = 0.0;
    })
    .await;
    // None of these; the one that is sent last would come behind them.
    for header in ["", &parent("00"), "traceparent: nonsense\r\n"] {
        order(&server, &limit("BUY", "0.001", "50000"), header).await.good();
    }
    order(&server, &limit("BUY", "0.001", "50000"), &parent("01")).await.good();
    let traces = collector.wait_for(1).await;
    assert_eq!(traces.keys().collect::<Vec<_>>(), [TRACE]);
    server.stop().await;

    // Where clients are not to decide, the ratio does.
    let collector = Collector::start("200 OK", true).await;
    let server = Server::start(|config| {
        config.traces.endpoint = Some(collector.url.clone());
        config.traces.sample_ratio = 1.0;
        config.traces.traceparent = false;
    })
    .await;
    order(&server, &limit("BUY", "0.001", "50000"), &parent("00")).await.good();
    let traces = collector.wait_for(1).await;
    assert!(traces.keys().all(|trace| trace != TRACE));
    server.stop().await;
}

async fn counted(server: &Server, outcome: &str) -> u64 {
    let page = server.get("/metrics").await.text;
    let sample = format!("rialto_traces_total{{outcome=\"{outcome}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&sample)).expect("it is there").parse().unwrap()
}

#[tokio::test]
async fn orders_do_not_wait_for_a_collector_that_hangs_and_what_does_not_fit_is_dropped_and_counted() {
    let collector = Collector::start("200 OK", false).await;
    let server = Server::start(|config| {
        config.traces.endpoint = Some(collector.url.clone());
        config.traces.sample_ratio = 1.0;
        config.traces.queue_traces = 2;
    })
    .await;
    let end = Instant::now() + PATIENCE;
    while counted(&server, "dropped").await == 0 {
        assert!(Instant::now() < end, "nothing is dropped");
        join_all((0..50).map(|_| server.get("/api/v3/ping"))).await;
        order(&server, &limit("BUY", "0.00011", "50000"), "").await.good();
    }
    // Then it answers, and traces get through again.
    let answers = &collector.answers;
    answers.send_replace(true);
    while counted(&server, "exported").await == 0 {
        assert!(Instant::now() < end, "none is taken");
        server.get("/api/v3/ping").await.good();
    }
    server.stop().await;
}

#[tokio::test]
async fn what_a_collector_refuses_or_cannot_be_sent_is_counted() {
    let collector = Collector::start("503 Service Unavailable", true).await;
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for url in [collector.url.clone(), nobody] {
        let server = Server::start(|config| {
            config.traces.endpoint = Some(url);
            config.traces.sample_ratio = 1.0;
        })
        .await;
        order(&server, &limit("BUY", "0.001", "50000"), "").await.good();
        let end = Instant::now() + PATIENCE;
        while counted(&server, "failed").await == 0 {
            assert!(Instant::now() < end, "none has failed");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(counted(&server, "exported").await, 0);
        server.stop().await;
    }
}

#[tokio::test]
async fn what_was_answered_before_a_stop_is_sent() {
    let collector = Collector::start("200 OK", true).await;
    let server = Server::start(|config| {
        config.traces.endpoint = Some(collector.url.clone());
        config.traces.sample_ratio = 1.0;
    })
    .await;
    order(&server, &limit("BUY", "0.001", "50000"), "").await.good();
    server.stop().await;
    assert_whole(collector.wait_for(1).await.values().next().unwrap());
}
