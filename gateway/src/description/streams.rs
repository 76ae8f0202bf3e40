//! The AsyncAPI document: the streams, what each sends, and the sockets that requests go through.

use serde_json::{Map, Value, json};

use super::shapes::schemas;
use crate::rest::ROUTES;

/// What stands before the name of a shape.
const REFERENCE: &str = "#/components/schemas/";

/// The streams by their names, and what each sends. `<symbol>` is a symbol in small letters.
pub(super) const STREAMS: &[(&str, &str, &str)] = &[
    ("<symbol>@trade", "TradeEvent", "each trade"),
    ("<symbol>@aggTrade", "AggregateTradeEvent", "the trades of one taker order at one price"),
    ("<symbol>@kline_<interval>", "KlineEvent", "the candle, each second where it changed, and once when it closes"),
    ("<symbol>@kline_<interval>@+08:00", "KlineEvent", "the same in that time zone"),
    ("<symbol>@depth", "DepthEvent", "the levels that changed, each second"),
    ("<symbol>@depth@100ms", "DepthEvent", "the levels that changed, every 100 ms"),
    ("<symbol>@depth<levels>", "PartialDepthEvent", "the best 5, 10 or 20 levels, each second"),
    ("<symbol>@depth<levels>@100ms", "PartialDepthEvent", "the same every 100 ms"),
    ("<symbol>@bookTicker", "BookTickerEvent", "the best prices, whenever they change"),
    ("!bookTicker", "BookTickerEvent", "the same of all symbols"),
    ("<symbol>@ticker", "TickerEvent", "statistics of 24 hours, each second where they changed"),
    ("!ticker@arr", "TickersEvent", "the same of all symbols that changed"),
    ("<symbol>@miniTicker", "MiniTickerEvent", "the short form of it"),
    ("!miniTicker@arr", "MiniTickersEvent", "the same of all symbols that changed"),
    ("<symbol>@ticker_<window>", "WindowTickerEvent", "statistics of 1h, 4h or 1d"),
    ("!ticker_<window>@arr", "WindowTickersEvent", "the same of all symbols that changed"),
    ("<symbol>@avgPrice", "AveragePriceEvent", "the average price"),
    ("<symbol>@referencePrice", "ReferencePriceEvent", "what an operator says the symbol is worth"),
];

/// What an account is told, through a listen key or a subscription.
pub(super) const USER_EVENTS: &[(&str, &str)] = &[
    ("ExecutionReport", "something happened to an order"),
    ("ListStatusEvent", "something happened to an order list"),
    ("PositionEvent", "balances moved"),
    ("BalanceEvent", "a deposit or a withdrawal"),
    ("LockEvent", "a withdrawal is under way, or was given up"),
    ("StreamEndEvent", "the subscription is over"),
    ("ListenKeyEndEvent", "the listen key is over"),
    ("ServerShutdownEvent", "the server stops"),
];

/// The methods of the WS API that are about the socket itself; the others stand in the route table.
pub(super) const SOCKET_METHODS: &[&str] = &[
    "session.logon",
    "session.status",
    "session.logout",
    "session.subscriptions",
    "userDataStream.subscribe",
    "userDataStream.subscribe.signature",
    "userDataStream.unsubscribe",
];

pub(super) fn document() -> Value {
    let mut messages = Map::new();
    let mut message = |shape: &str, summary: &str| {
        let payload = json!({ "$ref": format!("{REFERENCE}{shape}") });
        messages.entry(shape).or_insert_with(|| json!({ "name": shape, "summary": summary, "payload": payload }));
    };
    STREAMS.iter().for_each(|(_, shape, summary)| message(shape, summary));
    USER_EVENTS.iter().for_each(|(shape, summary)| message(shape, summary));
    message("ResumeRefusedEvent", "what came after that id is not kept: resync");
    message("StreamRequest", "subscribes or asks about subscriptions");
    message("StreamAnswer", "the answer to it");
    message("ApiRequest", "a call");
    message("ApiAnswer", "the answer to it");

    let mut sent: Vec<&str> = STREAMS.iter().map(|(_, shape, _)| *shape).collect();
    sent.extend(USER_EVENTS.iter().map(|(shape, _)| *shape));
    sent.extend(["ResumeRefusedEvent", "StreamRequest", "StreamAnswer"]);
    let on_api: Vec<&str> = USER_EVENTS.iter().map(|(shape, _)| *shape).chain(["ApiRequest", "ApiAnswer"]).collect();
    let by_name = |shapes: &[&str]| -> Map<String, Value> {
        let reference =
            |shape: &&str| ((*shape).to_owned(), json!({ "$ref": format!("#/components/messages/{shape}") }));
        shapes.iter().map(reference).collect()
    };
    let channel = |address: &str, description: &str, shapes: &[&str]| json!({ "address": address, "description": description, "messages": by_name(shapes) });
    let streams: Map<String, Value> = STREAMS
        .iter()
        .map(|(name, shape, summary)| ((*name).to_owned(), json!({ "message": shape, "summary": summary })))
        .collect();
    let served = ROUTES.iter().map(|route| route.ws_method).filter(|method| !method.is_empty());
    let methods: Vec<&str> = served.chain(SOCKET_METHODS.iter().copied()).collect();
    let operation = |action: &str, channel: &str, shapes: &[&str]| {
        let messages: Vec<Value> =
            shapes.iter().map(|shape| json!({ "$ref": format!("#/channels/{channel}/messages/{shape}") })).collect();
        json!({ "action": action, "channel": { "$ref": format!("#/channels/{channel}") }, "messages": messages })
    };
    let events: Vec<&str> = sent.iter().copied().filter(|shape| *shape != "StreamRequest").collect();
    let answers: Vec<&str> = on_api.iter().copied().filter(|shape| *shape != "ApiRequest").collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Rialto: streams and WS API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Names of streams may stand in the path of /ws, in the parameter `streams` of /stream, or in SUBSCRIBE on either. \
                `?resumeFrom=<id>` goes on after the last id that the client has. \
                On /stream each event comes as {\"stream\":name,\"data\":event}, on the WS API as {\"subscriptionId\":id,\"event\":event}. \
                The calls of the WS API take the parameters of their twins in /openapi.json.",
        },
        "servers": { "here": { "host": "localhost", "protocol": "ws" } },
        "defaultContentType": "application/json",
        "channels": {
            "streams": channel("/ws", "Events as they are; also /ws/<stream>/<stream>", &sent),
            "combined": channel("/stream", "Events with their stream's name; also /stream?streams=<stream>/<stream>", &sent),
            "api": channel("/ws-api/v3", "Calls, and the events of accounts that are subscribed to", &on_api),
        },
        "operations": {
            "sendEvents": operation("send", "streams", &events),
            "sendCombined": operation("send", "combined", &events),
            "answerCalls": operation("send", "api", &answers),
            "takeSubscriptions": operation("receive", "streams", &["StreamRequest"]),
            "takeCombinedSubscriptions": operation("receive", "combined", &["StreamRequest"]),
            "takeCalls": operation("receive", "api", &["ApiRequest"]),
        },
        "components": { "messages": messages, "schemas": schemas(REFERENCE) },
        "x-streams": streams,
        "x-ws-api-methods": methods,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::market_streams::parse;

    #[test]
    fn every_stream_that_is_described_is_one() {
        let views = crate::views::Views::new(std::sync::Arc::new(crate::klines::Klines::new()));
        views.restore(&crate::testing::listed());
        for (name, ..) in STREAMS {
            let name = name.replace("<symbol>", "btcusdt").replace("<interval>", "1m");
            let name = name.replace("<levels>", "20").replace("<window>", "4h");
            assert!(parse(&name, &views.symbols()).is_some(), "{name}");
        }
    }
}
