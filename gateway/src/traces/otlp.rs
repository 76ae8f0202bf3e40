//! Traces in the words of OTLP, OpenTelemetry's protocol, in its JSON form: names in lowerCamelCase, ids in hex, 64-bit
//! integers as text, enumerations as numbers. The tests decode it with OpenTelemetry's own types.

use std::time::Instant;

use serde::Serialize;

use super::Trace;
use crate::stages::Journey;

/// What kind of span it is: inside of this process, or its answer to another.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
/// The status of a span: nothing said, or an error.
const UNSET: u8 = 0;
const ERROR: u8 = 2;
/// The caller's span is in another process.
const HAS_REMOTE_PARENT: u32 = 0x300;

/// Who sends traces.
#[derive(Clone, Debug)]
pub struct Resource {
    pub service: String,
    pub node: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    resource_spans: [ResourceSpans; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans {
    resource: Attributes,
    scope_spans: [ScopeSpans; 1],
}

#[derive(Serialize)]
struct Attributes {
    attributes: Vec<Attribute>,
}

#[derive(Serialize)]
struct ScopeSpans {
    scope: Scope,
    spans: Vec<Span>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    flags: u32,
    name: String,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<Attribute>,
    status: Status,
}

#[derive(Serialize)]
struct Status {
    code: u8,
}

#[derive(Serialize)]
struct Attribute {
    key: &'static str,
    value: Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Value {
    StringValue(String),
    IntValue(String),
}

/// The body of a request to a collector.
pub fn encode(resource: &Resource, traces: &[Trace]) -> String {
    let attributes = vec![
        text("service.name", &resource.service),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", &resource.node.to_string()),
    ];
    let spans = traces.iter().flat_map(spans).collect();
    let scope = Scope { name: "rialto", version: env!("CARGO_PKG_VERSION") };
    let scope_spans = [ScopeSpans { scope, spans }];
    let request = Request { resource_spans: [ResourceSpans { resource: Attributes { attributes }, scope_spans }] };
    serde_json::to_string(&request).expect("our shapes have text keys and no floats")
}

/// The whole, then its stages.
fn spans(trace: &Trace) -> Vec<Span> {
    let at = |moment: Instant| {
        let before = trace.ended.saturating_duration_since(moment).as_nanos();
        trace.ended_unix_ns.saturating_sub(u64::try_from(before).unwrap_or(u64::MAX)).to_string()
    };
    let trace_id = format!("{:032x}", trace.sampled.trace);
    let whole_id = new_id();
    let stages = trace.journey.iter().flat_map(|journey| stages(journey, trace.ended));
    let stages = stages.map(|(name, from, to)| Span {
        trace_id: trace_id.clone(),
        span_id: new_id(),
        parent_span_id: Some(whole_id.clone()),
        flags: 1,
        name: name.to_owned(),
        kind: INTERNAL,
        start_time_unix_nano: at(from),
        end_time_unix_nano: at(to),
        attributes: Vec::new(),
        status: Status { code: UNSET },
    });
    let whole = Span {
        trace_id: trace_id.clone(),
        span_id: whole_id.clone(),
        parent_span_id: trace.sampled.parent.map(|parent| format!("{parent:016x}")),
        flags: if trace.sampled.parent.is_some() { 1 | HAS_REMOTE_PARENT } else { 1 },
        name: trace.name.clone(),
        kind: SERVER,
        start_time_unix_nano: at(trace.began),
        end_time_unix_nano: at(trace.ended),
        attributes: attributes(trace),
        // By the conventions for HTTP the client's fault is no error of the server.
        status: Status { code: if trace.status >= 500 { ERROR } else { UNSET } },
    };
    std::iter::once(whole).chain(stages).collect()
}

/// Each with its two ends; the next begins where one ends.
fn stages(journey: &Journey, ended: Instant) -> Vec<(&'static str, Instant, Instant)> {
    let road = &journey.road;
    let laid = road.laid.unwrap_or(journey.queued);
    let ends = [
        ("receive", journey.queued),
        ("sequence", laid),
        ("replicate", road.reached),
        ("engine", road.decided),
        ("publish", road.told),
        ("answer", ended),
    ];
    let mut from = journey.arrival.at;
    ends.into_iter().map(|(name, to)| (name, std::mem::replace(&mut from, to), to)).collect()
}

/// What is told of a request; nothing that lets anybody in, and no address.
fn attributes(trace: &Trace) -> Vec<Attribute> {
    let mut attributes = vec![number("http.response.status_code", trace.status.into())];
    attributes.extend(trace.code.map(|code| number("rialto.code", code.into())));
    attributes.extend(trace.uid.map(|uid| number("rialto.uid", uid.0.into())));
    attributes.extend(trace.sequence.map(|sequence| number("rialto.sequence", sequence.0.into())));
    attributes
}

fn text(key: &'static str, value: &str) -> Attribute {
    Attribute { key, value: Value::StringValue(value.to_owned()) }
}

fn number(key: &'static str, value: i128) -> Attribute {
    Attribute { key, value: Value::IntValue(value.to_string()) }
}

/// A span's id; never zero.
fn new_id() -> String {
    format!("{:016x}", rand::random::<u64>().max(1))
}
