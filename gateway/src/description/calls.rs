//! The OpenAPI document: every row of the route table, with its parameters and the shape of its answer.

use serde_json::{Map, Value, json};

use super::notation::schema;
use super::shapes::{schemas, shape};
use crate::auth::Security;
use crate::rest::{ROUTES, Route, Weight};

/// What stands before the name of a shape.
const REFERENCE: &str = "#/components/schemas/";

/// One call: method and path, what it is, its parameters (`!` marks those that must be sent, `leg*` stands for all parameters
/// of one order of a list), and the shape of its answer. What signing needs is added to calls that are signed.
type CallText = (&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const CALLS: &[CallText] = &[
    ("GET /api/v3/ping", "Test connectivity", "", "Nothing"),
    ("GET /api/v3/time", "Server time", "", "ServerTime"),
    ("GET /api/v3/exchangeInfo", "Symbols, filters and limits", "symbol symbols permissions symbolStatus showPermissionSets", "ExchangeInfo"),
    ("GET /api/v3/executionRules", "Execution rules", "symbol symbols symbolStatus", "ExecutionRules"),
    ("GET /api/v3/depth", "Order book", "symbol! limit symbolStatus", "Depth"),
    ("GET /api/v3/trades", "Recent trades", "symbol! limit", "[Trade]"),
    ("GET /api/v3/historicalTrades", "Older trades", "symbol! limit fromId", "[Trade]"),
    ("GET /api/v3/aggTrades", "Aggregate trades", "symbol! fromId startTime endTime limit", "[AggregateTrade]"),
    ("GET /api/v3/klines", "Candles", "symbol! interval! startTime endTime timeZone limit", "[Kline]"),
    ("GET /api/v3/uiKlines", "Candles", "symbol! interval! startTime endTime timeZone limit", "[Kline]"),
    ("GET /api/v3/avgPrice", "Average price", "symbol!", "AveragePrice"),
    ("GET /api/v3/ticker/24hr", "Statistics of 24 hours", "symbol symbols type symbolStatus", "DayTicker|MiniTicker|[DayTicker|MiniTicker]"),
    ("GET /api/v3/ticker/tradingDay", "Statistics of the trading day", "symbol symbols timeZone type symbolStatus", "WindowTicker|MiniTicker|[WindowTicker|MiniTicker]"),
    ("GET /api/v3/ticker", "Statistics of a rolling window", "symbol symbols windowSize type symbolStatus", "WindowTicker|MiniTicker|[WindowTicker|MiniTicker]"),
    ("GET /api/v3/ticker/price", "Last price", "symbol symbols symbolStatus", "PriceTicker|[PriceTicker]"),
    ("GET /api/v3/ticker/bookTicker", "Best prices", "symbol symbols symbolStatus", "BookTicker|[BookTicker]"),
    ("GET /api/v3/referencePrice", "Reference price", "symbol!", "ReferencePrice"),
    ("GET /api/v3/referencePrice/calculation", "Where the reference price comes from", "symbol! symbolStatus", "ReferenceCalculation"),
    ("GET /api/v3/historicalBlockTrades", "Block trades", "symbol! fromId! limit", "[BlockTrade]"),
    ("POST /api/v3/order", "New order", "symbol! side! type! timeInForce quantity quoteOrderQty price newClientOrderId strategyId strategyType stopPrice trailingDelta icebergQty newOrderRespType selfTradePreventionMode pegPriceType pegOffsetType pegOffsetValue", "Placed"),
    ("POST /api/v3/order/test", "Test a new order", "symbol! side! type! timeInForce quantity quoteOrderQty price newClientOrderId strategyId strategyType stopPrice trailingDelta icebergQty newOrderRespType selfTradePreventionMode pegPriceType pegOffsetType pegOffsetValue computeCommissionRates", "Tested"),
    ("GET /api/v3/order", "Query an order", "symbol! orderId origClientOrderId", "Order"),
    ("DELETE /api/v3/order", "Cancel an order", "symbol! orderId origClientOrderId newClientOrderId cancelRestrictions", "Canceled|CanceledList"),
    ("POST /api/v3/order/cancelReplace", "Cancel an order and place another", "symbol! side! type! cancelReplaceMode! timeInForce quantity quoteOrderQty price cancelNewClientOrderId cancelOrigClientOrderId cancelOrderId newClientOrderId strategyId strategyType stopPrice trailingDelta icebergQty newOrderRespType selfTradePreventionMode cancelRestrictions orderRateLimitExceededMode pegPriceType pegOffsetType pegOffsetValue", "Replaced"),
    ("PUT /api/v3/order/amend/keepPriority", "Lower an order's quantity; it keeps its place", "symbol! orderId origClientOrderId newClientOrderId newQty!", "AmendAnswer"),
    ("GET /api/v3/order/amendments", "What was amended of an order", "symbol! orderId! fromExecutionId limit", "[Amendment]"),
    ("GET /api/v3/openOrders", "Open orders", "symbol", "[Order]"),
    ("DELETE /api/v3/openOrders", "Cancel all open orders of a symbol", "symbol!", "[Canceled|CanceledList]"),
    ("GET /api/v3/allOrders", "All orders of a symbol", "symbol! orderId startTime endTime limit", "[Order]"),
    ("POST /api/v3/countdownCancelAll", "The dead man's switch of a symbol", "symbol! countdownTime!", "Countdown"),
    ("POST /api/v3/referenceQuote", "Say what a quote-driven symbol is worth outside", "symbol! price bidPrice askPrice source sourceTime", "ReferenceQuote"),
    ("POST /api/v3/order/oco", "New OCO, the older form", "symbol! listClientOrderId side! quantity! limitClientOrderId limitStrategyId limitStrategyType price! limitIcebergQty trailingDelta stopClientOrderId stopPrice! stopStrategyId stopStrategyType stopLimitPrice stopIcebergQty stopLimitTimeInForce newOrderRespType selfTradePreventionMode", "PlacedList"),
    ("POST /api/v3/orderList/oco", "New OCO", "symbol! listClientOrderId side! quantity! above* below* newOrderRespType selfTradePreventionMode", "PlacedList"),
    ("POST /api/v3/orderList/oto", "New OTO", "symbol! listClientOrderId workingSide! workingQuantity! working* pendingSide! pendingQuantity pending* newOrderRespType selfTradePreventionMode", "PlacedList"),
    ("POST /api/v3/orderList/otoco", "New OTOCO", "symbol! listClientOrderId workingSide! workingQuantity! working* pendingSide! pendingQuantity! pendingAbove* pendingBelow* newOrderRespType selfTradePreventionMode", "PlacedList"),
    ("POST /api/v3/orderList/opo", "New OPO", "symbol! listClientOrderId workingSide! workingQuantity! working* pendingSide! pending* newOrderRespType selfTradePreventionMode", "PlacedList"),
    ("POST /api/v3/orderList/opoco", "New OPOCO", "symbol! listClientOrderId workingSide! workingQuantity! working* pendingSide! pendingAbove* pendingBelow* newOrderRespType selfTradePreventionMode", "PlacedList"),
    ("DELETE /api/v3/orderList", "Cancel an order list", "symbol! orderListId listClientOrderId newClientOrderId", "CanceledList"),
    ("GET /api/v3/orderList", "Query an order list", "orderListId origClientOrderId", "OrderList"),
    ("GET /api/v3/openOrderList", "Open order lists", "", "[OrderList]"),
    ("GET /api/v3/allOrderList", "All order lists", "fromId startTime endTime limit", "[OrderList]"),
    ("GET /api/v3/account", "Balances and what the account may do", "omitZeroBalances", "Account"),
    ("GET /api/v3/account/commission", "Commission rates", "symbol!", "Commission"),
    ("GET /api/v3/myTrades", "The account's trades", "symbol! orderId startTime endTime fromId limit", "[AccountTrade]"),
    ("GET /api/v3/myPreventedMatches", "What self-trade prevention prevented", "symbol! preventedMatchId orderId fromPreventedMatchId limit", "[PreventedMatch]"),
    ("GET /api/v3/rateLimit/order", "Unfilled orders", "", "[RateLimit]"),
    ("GET /api/v3/myAllocations", "Allocations", "symbol! startTime endTime fromAllocationId limit orderId", "[any]"),
    ("GET /api/v3/myFilters", "The filters that hold for the account", "symbol!", "Filters"),
    ("POST /api/v3/userDataStream", "Open a listen key", "", "ListenKey"),
    ("PUT /api/v3/userDataStream", "Keep a listen key alive", "listenKey!", "Nothing"),
    ("DELETE /api/v3/userDataStream", "Close a listen key", "listenKey!", "Nothing"),
    ("GET /sapi/v1/system/status", "Whether orders are taken", "", "SystemStatus"),
    ("GET /sapi/v1/capital/config/getall", "The assets", "", "[Coin]"),
    ("GET /sapi/v1/asset/tradeFee", "Commission of each symbol", "symbol", "[TradeFee]"),
    ("GET /sapi/v1/account/apiRestrictions", "What the key may do", "", "KeyRestrictions"),
    ("GET /sapi/v1/margin/allPairs", "Always empty", "symbols", "[any]"),
    ("GET /sapi/v1/margin/isolated/allPairs", "Always empty", "symbols", "[any]"),
    ("GET /sapi/v1/spot/delist-schedule", "Always empty", "", "[any]"),
    ("GET /fapi/v1/ping", "Test connectivity", "", "Nothing"),
    ("GET /fapi/v1/time", "Server time", "", "ServerTime"),
    ("GET /fapi/v1/exchangeInfo", "No contract is listed", "", "NoContracts"),
    ("GET /dapi/v1/ping", "Test connectivity", "", "Nothing"),
    ("GET /dapi/v1/time", "Server time", "", "ServerTime"),
    ("GET /dapi/v1/exchangeInfo", "No contract is listed", "", "NoContracts"),
];

/// What `leg*` stands for.
const LEG: &str = "type! clientOrderId timeInForce price stopPrice trailingDelta icebergQty strategyId strategyType \
                   pegPriceType pegOffsetType pegOffsetValue";
/// What begins the names of an order of a list.
const LEGS: [&str; 8] = ["pendingAbove", "pendingBelow", "pending", "working", "above", "below", "limit", "stop"];

/// What the words are that a parameter may be; the rest is told by its name.
const WORDS: &[(&str, &str)] = &[
    ("side", "Side"),
    ("type", "OrderType"),
    ("timeInForce", "TimeInForce"),
    ("selfTradePreventionMode", "SelfTradePrevention"),
    ("symbolStatus", "SymbolStatus"),
    ("newOrderRespType", "'ACK'|'RESULT'|'FULL'"),
    ("cancelReplaceMode", "'STOP_ON_FAILURE'|'ALLOW_FAILURE'"),
    ("orderRateLimitExceededMode", "'DO_NOTHING'|'CANCEL_ONLY'"),
    ("cancelRestrictions", "'ONLY_NEW'|'ONLY_PARTIALLY_FILLED'"),
    ("pegPriceType", "'PRIMARY_PEG'|'MARKET_PEG'"),
    ("pegOffsetType", "'PRICE_LEVEL'"),
    ("interval", "'1s'|'1m'|'3m'|'5m'|'15m'|'30m'|'1h'|'2h'|'4h'|'6h'|'8h'|'12h'|'1d'|'3d'|'1w'|'1M'"),
];

/// The statuses that any call may be answered with besides 200, and what they mean.
const REFUSALS: &[(&str, &str)] = &[
    ("400", "The request is malformed or was refused; the code says why"),
    ("403", "This origin or address may not ask"),
    ("408", "The request did not come whole in time, or what became of it is not known (-1007)"),
    ("413", "The body is too large"),
    ("418", "The address is banned; Retry-After says for how long"),
    ("429", "A limit is reached; Retry-After says for how long"),
    ("503", "The server cannot take it now; nothing happened"),
];

pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Rialto",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The Binance Spot API as this exchange serves it. Parameters of POST, PUT and DELETE may come in the query \
                string or in a form body; where both have one, the query string's counts. A signature is over the query string \
                and then the body, percent-encoded as they are sent, without the parameter `signature` itself: HMAC-SHA256 in hex, \
                Ed25519 or RSA (PKCS #1 v1.5, SHA-256) in base64. Streams and the WS API are in /asyncapi.json.",
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas(REFERENCE),
            "securitySchemes": { "apiKey": { "type": "apiKey", "in": "header", "name": "X-MBX-APIKEY" } },
        },
    })
}

fn json_content(notation: &str) -> Value {
    json!({ "application/json": { "schema": schema(notation, &shape, REFERENCE) } })
}

fn operation(route: &Route) -> Value {
    let name = format!("{} {}", route.method, route.path);
    let (_, summary, parameters, answer) =
        CALLS.iter().find(|(call, ..)| *call == name).unwrap_or_else(|| panic!("{name} is not described"));
    let is_signed = matches!(route.security, Security::Signed | Security::UserData | Security::Trade | Security::Feed);
    let mut listed: Vec<Value> = names(parameters).iter().map(|name| parameter(name, route)).collect();
    if is_signed {
        listed.extend(["timestamp!", "signature!", "recvWindow"].map(|name| parameter(name, route)));
    }
    listed.push(json!({
        "name": "X-MBX-TIME-UNIT",
        "in": "header",
        "required": false,
        "description": "The unit of the times in the answer",
        "schema": { "type": "string", "enum": ["MILLISECOND", "MICROSECOND", "millisecond", "microsecond"] },
    }));
    let mut responses = Map::new();
    responses.insert("200".to_owned(), json!({
        "description": "Done",
        "headers": {
            "X-MBX-USED-WEIGHT-1M": { "description": "What the address has used", "schema": { "type": "integer" } },
            "X-Rialto-Sequence": { "description": "The place in the exchange's log", "schema": { "type": "integer" } },
        },
        "content": json_content(answer),
    }));
    let mut refuse = |status: &str, description: &str| {
        responses.insert(status.to_owned(), json!({ "description": description, "content": json_content("Error") }));
    };
    REFUSALS.iter().for_each(|(status, description)| refuse(status, description));
    if route.security != Security::None {
        refuse("401", "The key is missing, unknown, or not for this");
    }
    if route.path.ends_with("cancelReplace") {
        refuse("409", "One half was done, the other not; `data` has both");
    }
    let mut operation = json!({
        "operationId": name.replace([' ', '/', '-'], "_"),
        "summary": summary,
        "parameters": listed,
        "responses": responses,
        "x-security": format!("{:?}", route.security),
    });
    if !route.ws_method.is_empty() {
        operation["x-ws-api-method"] = json!(route.ws_method);
    }
    match route.weight {
        Weight::Fixed(weight) => operation["x-weight"] = json!(weight),
        Weight::OnFailure(weight) => operation["x-weight-of-failure"] = json!(weight),
        Weight::By(_) => operation["x-weight"] = json!("by its parameters"),
    }
    if route.security != Security::None {
        operation["security"] = json!([{ "apiKey": [] }]);
    }
    operation
}

/// The names of the parameters, with their marks.
fn names(parameters: &str) -> Vec<String> {
    let expand = |word: &str| match word.strip_suffix('*') {
        Some(leg) => LEG.split_whitespace().map(|name| crate::rest::order_params::prefixed(leg, name)).collect(),
        None => vec![word.to_owned()],
    };
    parameters.split_whitespace().flat_map(expand).collect()
}

fn parameter(marked: &str, route: &Route) -> Value {
    let name = marked.trim_end_matches('!');
    json!({ "name": name, "in": "query", "required": marked.ends_with('!'), "schema": kind(name, route) })
}

/// What a parameter may be.
fn kind(name: &str, route: &Route) -> Value {
    let is_ticker = name == "type" && route.path.contains("/ticker");
    if is_ticker {
        return schema("'FULL'|'MINI'", &shape, REFERENCE);
    }
    // An order of a list has the parameters of one that is alone.
    let of_leg = LEGS.iter().find_map(|leg| name.strip_prefix(leg).filter(|rest| !rest.is_empty()));
    let lower = |rest: &str| format!("{}{}", rest[..1].to_lowercase(), &rest[1..]);
    let plain = of_leg.map(lower).filter(|_| name != "stopPrice").unwrap_or_else(|| name.to_owned());
    let plain = plain
        .strip_prefix("limit")
        .filter(|rest| name.starts_with("stop") && !rest.is_empty())
        .map_or(plain.clone(), lower);
    if let Some((_, notation)) = WORDS.iter().find(|(known, _)| *known == plain) {
        return schema(notation, &shape, REFERENCE);
    }
    let client_order_id = plain.ends_with("ClientOrderId") || plain == "clientOrderId";
    match plain.as_str() {
        _ if client_order_id => json!({ "type": "string", "pattern": "^[a-zA-Z0-9-_.:/]{1,36}$" }),
        "symbol" => json!({ "type": "string", "pattern": "^[A-Z0-9-_.]{1,20}$" }),
        "symbols" => json!({ "type": "string", "description": "A JSON list of symbols" }),
        "quantity" | "price" | "bidPrice" | "askPrice" | "stopPrice" | "icebergQty" | "quoteOrderQty" | "newQty" => {
            json!({ "type": "string", "pattern": r"^([0-9]{1,20})(\.[0-9]{1,20})?$" })
        }
        "recvWindow" => json!({ "type": "number", "minimum": 0, "maximum": 60_000 }),
        "showPermissionSets" | "omitZeroBalances" | "computeCommissionRates" => json!({ "type": "boolean" }),
        "strategyType" => json!({ "type": "integer", "minimum": 1_000_000 }),
        "limit" => json!({ "type": "integer", "minimum": 1 }),
        "source" => json!({ "type": "string", "pattern": "^[a-zA-Z0-9-_.:/]{1,36}$" }),
        "permissions" | "timeZone" | "windowSize" | "signature" | "listenKey" => json!({ "type": "string" }),
        _ => json!({ "type": "integer", "minimum": 0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_once_and_nothing_else_is() {
        let described: Vec<&str> = CALLS.iter().map(|(name, ..)| *name).collect();
        let served: Vec<String> = ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
        for name in &described {
            assert!(served.iter().any(|served| served == name), "{name} is described and not served");
        }
        for name in &served {
            assert_eq!(described.iter().filter(|known| *known == name).count(), 1, "{name}");
        }
        let document = document();
        let operations: usize =
            document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(operations, ROUTES.len());
    }

    #[test]
    fn a_parameter_of_a_list_is_of_the_kind_of_the_same_one_of_an_order() {
        let route = Route::find("POST", "/api/v3/orderList/oco").unwrap();
        for (name, same) in [
            ("abovePrice", "price"),
            ("pendingBelowStopPrice", "stopPrice"),
            ("stopLimitPrice", "price"),
            ("stopLimitTimeInForce", "timeInForce"),
            ("limitClientOrderId", "newClientOrderId"),
            ("workingType", "type"),
            ("stopIcebergQty", "icebergQty"),
        ] {
            assert_eq!(kind(name, route), kind(same, route), "{name}");
        }
        assert_eq!(kind("limit", route)["type"], "integer");
        assert!(kind("stopPrice", route)["pattern"].is_string());
    }
}
