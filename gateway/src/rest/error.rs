//! One table: what went wrong -> HTTP status, code, text. Codes and texts are those of errors.md, because clients match
//! both.

use std::borrow::Cow;

use engine::{Order, Quantity, Rejection, Sequence, Time};

use crate::stages::Journey;

/// A refusal as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// The documented code.
    pub code: i32,
    /// The documented text.
    pub message: Cow<'static, str>,
    /// After how many seconds asking again makes sense (429 and 418).
    pub retry_after: Option<u64>,
    /// What more there is to tell, as JSON: the two halves of a cancel-replace.
    pub data: Option<String>,
    /// The sequence of the command that was refused, where the engine did.
    pub sequence: Option<Sequence>,
    /// As in [`super::Reply::answers`].
    pub answers: Vec<u64>,
    /// As in [`super::Reply::journey`].
    pub journey: Option<Box<Journey>>,
}

const fn error(status: u16, code: i32, message: Cow<'static, str>) -> ApiError {
    ApiError {
        status,
        code,
        message,
        retry_after: None,
        data: None,
        sequence: None,
        answers: Vec::new(),
        journey: None,
    }
}

const fn fixed(status: u16, code: i32, message: &'static str) -> ApiError {
    error(status, code, Cow::Borrowed(message))
}

fn bad_request(code: i32, message: String) -> ApiError {
    error(400, code, Cow::Owned(message))
}

impl ApiError {
    /// The body of the answer.
    pub fn to_json(&self) -> String {
        let mut body = serde_json::json!({ "code": self.code, "msg": self.message }).to_string();
        if let Some(data) = &self.data {
            body.truncate(body.len() - 1);
            body = format!(r#"{body},"data":{data}}}"#);
        }
        body
    }

    /// The two halves of a cancel-replace of which one failed, or both did.
    pub fn cancel_replace(status: u16, both_failed: bool, data: String) -> ApiError {
        let error = if both_failed {
            fixed(status, -2022, "Order cancel-replace failed.")
        } else {
            fixed(status, -2021, "Order cancel-replace partially failed.")
        };
        ApiError { data: Some(data), ..error }
    }

    /// Our own fault; the log has more.
    pub fn internal() -> ApiError {
        fixed(500, -1000, "An unknown error occurred while processing the request.")
    }

    /// A request that only a socket that is logged on may make.
    pub fn not_logged_on() -> ApiError {
        fixed(401, -1002, "You are not authorized to execute this request.")
    }

    /// Nobody can say what became of the command.
    pub fn timeout() -> ApiError {
        fixed(
            408,
            -1007,
            "Timeout waiting for response from backend server. Send status unknown; execution status unknown.",
        )
    }

    /// A queue is full: the request had no effect.
    pub fn busy() -> ApiError {
        fixed(503, -1008, "Server is currently overloaded with other requests. Please try again in a few minutes.")
    }

    /// The node is stopping or does not lead: the request had no effect.
    pub fn unavailable() -> ApiError {
        fixed(503, -1016, "This service is no longer available.")
    }

    /// The address used up its request weight.
    pub fn too_much_weight(limit: u32, retry_after: u64) -> ApiError {
        let message = format!(
            "Too much request weight used; current limit is {limit} request weight per 1 MINUTE. \
             Please use WebSocket Streams for live updates to avoid polling the API."
        );
        ApiError { retry_after: Some(retry_after), ..error(429, -1003, Cow::Owned(message)) }
    }

    /// A limit on requests, whatever they weigh, is reached.
    pub fn too_many_requests(retry_after: u64) -> ApiError {
        ApiError { retry_after: Some(retry_after), ..fixed(429, -1003, "Too many requests queued.") }
    }

    /// The address went on asking when it was told to wait.
    pub fn banned(until: Time, now: Time) -> ApiError {
        let message = format!(
            "Way too much request weight used; IP banned until {}. \
             Please use WebSocket Streams for live updates to avoid bans.",
            until.millis()
        );
        let retry_after = Some(until.0.saturating_sub(now.0).div_ceil(1_000_000));
        ApiError { retry_after, ..error(418, -1003, Cow::Owned(message)) }
    }

    /// The account has as many unfilled orders as it may in a window that lasts for another `retry_after` seconds.
    pub fn too_many_orders(limit: u32, interval: &str, retry_after: u64) -> ApiError {
        let message = format!("Too many new orders; current limit is {limit} orders per {interval}.");
        ApiError { retry_after: Some(retry_after), ..error(429, -1015, Cow::Owned(message)) }
    }

    /// The address opened as many sockets as it may in an interval that lasts for another `retry_after` seconds.
    pub fn too_many_connections(limit: u32, interval: &str, retry_after: u64) -> ApiError {
        let message = format!("Too many connection attempts from IP; current limit is {limit} per '{interval}'.");
        ApiError { retry_after: Some(retry_after), ..error(429, -1034, Cow::Owned(message)) }
    }

    /// A head beyond the limit.
    pub fn head_too_large() -> ApiError {
        fixed(431, -1101, "Too many parameters sent for this endpoint.")
    }

    /// A websocket of a web page that may not have one here.
    pub fn foreign_origin() -> ApiError {
        fixed(403, -1002, "You are not authorized to execute this request.")
    }

    /// No such path.
    pub fn not_found() -> ApiError {
        fixed(404, -1020, "This operation is not supported.")
    }

    /// A path that has no such method.
    pub fn method_not_allowed() -> ApiError {
        fixed(405, -1020, "This operation is not supported.")
    }

    /// A request for a websocket that is not one.
    pub fn no_websocket(status: u16) -> ApiError {
        fixed(status, -1020, "This operation is not supported.")
    }

    /// A body that did not come in time.
    pub fn incomplete_body() -> ApiError {
        fixed(408, -1013, "The request is rejected by the API.")
    }

    /// The symbol is in another status than the one that was asked for.
    pub fn symbol_status_mismatch() -> ApiError {
        fixed(400, -1220, "The symbol's status does not match the requested symbolStatus.")
    }

    /// A body beyond the limit.
    pub fn body_too_large() -> ApiError {
        fixed(413, -1101, "Too many parameters sent for this endpoint.")
    }

    /// Outside the timing window.
    pub fn outside_receive_window() -> ApiError {
        fixed(400, -1021, "Timestamp for this request is outside of the recvWindow.")
    }

    /// From the future.
    pub fn timestamp_ahead() -> ApiError {
        fixed(400, -1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    }

    /// The window is wider than it may be.
    pub fn receive_window_too_large() -> ApiError {
        fixed(400, -1131, "recvWindow must be less than 60000")
    }

    /// The signature does not fit.
    pub fn bad_signature() -> ApiError {
        fixed(400, -1022, "Signature for this request is not valid.")
    }

    /// Bytes that are not text.
    pub fn illegal_encoding() -> ApiError {
        fixed(400, -1100, "Illegal characters found in a parameter.")
    }

    /// A parameter that does not look as it must.
    pub fn illegal_characters(name: &str, legal: &str) -> ApiError {
        bad_request(-1100, format!("Illegal characters found in parameter '{name}'; legal range is '{legal}'."))
    }

    /// A parameter without a name.
    pub fn nameless_parameter() -> ApiError {
        fixed(400, -1103, "An unknown parameter was sent.")
    }

    /// More parameters than a request may have.
    pub fn too_many_parameters() -> ApiError {
        fixed(400, -1101, "Too many parameters sent for this endpoint.")
    }

    /// A name twice.
    pub fn duplicate_parameter() -> ApiError {
        fixed(400, -1101, "Duplicate values for a parameter detected.")
    }

    /// A parameter that must be there.
    pub fn missing_parameter(name: &str) -> ApiError {
        bad_request(-1102, format!("Mandatory parameter '{name}' was not sent, was empty/null, or malformed."))
    }

    /// One of two parameters must be there.
    pub fn missing_either(one: &str, other: &str) -> ApiError {
        bad_request(-1102, format!("Param '{one}' or '{other}' must be sent, but both were empty/null!"))
    }

    /// A parameter that nobody knows.
    pub fn unread_parameters(read: usize, sent: usize) -> ApiError {
        let message = format!("Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'.");
        bad_request(-1104, message)
    }

    /// A parameter without a value.
    pub fn empty_parameter(name: &str) -> ApiError {
        bad_request(-1105, format!("Parameter '{name}' was empty."))
    }

    /// A parameter that this kind of request must not have.
    pub fn not_required(name: &str) -> ApiError {
        bad_request(-1106, format!("Parameter '{name}' sent when not required."))
    }

    /// A number larger than it can be.
    pub fn overflow(name: &str) -> ApiError {
        bad_request(-1108, format!("Parameter '{name}' overflowed."))
    }

    /// More decimals than the asset has.
    pub fn too_precise(name: &str) -> ApiError {
        bad_request(-1111, format!("Parameter '{name}' has too much precision."))
    }

    /// A value of the wrong kind.
    pub fn bad_data(name: &str) -> ApiError {
        bad_request(-1130, format!("Data sent for parameter '{name}' is not valid."))
    }

    /// A limit of zero.
    pub fn bad_limit() -> ApiError {
        ApiError::bad_data("limit")
    }

    /// timeInForce.
    pub fn invalid_time_in_force() -> ApiError {
        fixed(400, -1115, "Invalid timeInForce.")
    }

    /// timeInForce of an order of a list that has none.
    pub fn time_in_force_not_required() -> ApiError {
        fixed(400, -1114, "TimeInForce parameter sent when not required.")
    }

    /// The client's name of a new order, list or cancel that is there without a text.
    pub fn empty_new_client_order_id() -> ApiError {
        fixed(400, -1118, "New client order ID was empty.")
    }

    /// The client's name of an order that is meant, there without a text.
    pub fn empty_original_client_order_id() -> ApiError {
        fixed(400, -1119, "Original client order ID was empty.")
    }

    /// type.
    pub fn invalid_order_type() -> ApiError {
        fixed(400, -1116, "Invalid orderType.")
    }

    /// side.
    pub fn invalid_side() -> ApiError {
        fixed(400, -1117, "Invalid side.")
    }

    /// interval.
    pub fn invalid_interval() -> ApiError {
        fixed(400, -1120, "Invalid interval.")
    }

    /// symbol.
    pub fn invalid_symbol() -> ApiError {
        fixed(400, -1121, "Invalid symbol.")
    }

    /// A symbol twice in a list.
    pub fn duplicate_symbols() -> ApiError {
        fixed(400, -1151, "Symbol is present multiple times in the list.")
    }

    /// type of a ticker.
    pub fn invalid_ticker_type() -> ApiError {
        fixed(400, -1139, "Invalid ticker type.")
    }

    /// A window of a symbol that was never traded.
    pub fn no_trading_window() -> ApiError {
        fixed(400, -2016, "No trading window could be found for the symbol. Try ticker/24hrs instead.")
    }

    /// symbolStatus.
    pub fn invalid_symbol_status() -> ApiError {
        fixed(400, -1122, "Invalid symbolStatus.")
    }

    /// listenKey.
    pub fn invalid_listen_key() -> ApiError {
        fixed(400, -1125, "This listenKey does not exist.")
    }

    /// More listen keys than can be kept.
    pub fn too_many_listen_keys() -> ApiError {
        fixed(503, -1008, "Server is currently overloaded with other requests. Please try again in a few minutes.")
    }

    /// A WS API message that is not a request.
    pub fn invalid_json() -> ApiError {
        fixed(400, -1135, "Invalid JSON Request")
    }

    /// This socket listens to the account already.
    pub fn subscription_active() -> ApiError {
        fixed(400, -2035, "User Data Stream subscription already active.")
    }

    /// This socket has no such subscription.
    pub fn subscription_inactive() -> ApiError {
        fixed(400, -2036, "User Data Stream subscription not active.")
    }

    /// This socket has made as many subscriptions as it may.
    pub fn too_many_subscriptions() -> ApiError {
        fixed(400, -2042, "Maximum subscription ID reached for this connection.")
    }

    /// A span that is too long.
    pub fn interval_too_big() -> ApiError {
        fixed(400, -1127, "More than 24 hours between startTime and endTime.")
    }

    /// Parameters that do not go together.
    pub fn bad_combination() -> ApiError {
        fixed(400, -1128, "Combination of optional parameters invalid.")
    }

    /// newOrderRespType.
    pub fn invalid_response_type() -> ApiError {
        fixed(400, -1130, "Data sent for parameter 'newOrderRespType' is not valid.")
    }

    /// cancelRestrictions.
    pub fn invalid_cancel_restriction() -> ApiError {
        fixed(400, -1145, "cancelRestrictions has to be either ONLY_NEW or ONLY_PARTIALLY_FILLED.")
    }

    /// X-MBX-TIME-UNIT.
    pub fn invalid_time_unit() -> ApiError {
        fixed(400, -1194, "Invalid value for time unit; expected either MICROSECOND or MILLISECOND.")
    }

    /// strategyType below its least value.
    pub fn strategy_type_too_low() -> ApiError {
        fixed(400, -1134, "strategyType was less than 1000000.")
    }

    /// selfTradePreventionMode.
    pub fn invalid_self_trade_prevention() -> ApiError {
        fixed(400, -1013, "This symbol does not allow the specified self-trade prevention mode.")
    }

    /// cancelReplaceMode.
    pub fn invalid_cancel_replace_mode() -> ApiError {
        ApiError::bad_data("cancelReplaceMode")
    }

    /// orderRateLimitExceededMode.
    pub fn invalid_rate_limit_mode() -> ApiError {
        ApiError::bad_data("orderRateLimitExceededMode")
    }

    /// pegPriceType.
    pub fn invalid_peg_price_type() -> ApiError {
        fixed(400, -1210, "Invalid pegPriceType.")
    }

    /// pegOffsetType.
    pub fn invalid_peg_offset_type() -> ApiError {
        fixed(400, -1211, "Invalid pegOffsetType.")
    }

    /// An order type that has no price to peg.
    pub fn not_for_pegs() -> ApiError {
        fixed(400, -2010, "This order type may not use pegged price.")
    }

    /// A post-only order at the price of the other side.
    pub fn wrong_peg() -> ApiError {
        fixed(400, -2010, "This price peg cannot be used with this order type.")
    }

    /// Parameters of which one needs the other.
    pub fn only_together(names: &str) -> ApiError {
        bad_request(-1128, format!("Fields [{names}] must be sent together or omitted entirely."))
    }

    /// An iceberg that does not stay.
    pub fn iceberg_needs_gtc(name: &str, time_in_force: &str) -> ApiError {
        bad_request(-1160, format!("Parameter '{name}' is not supported if {time_in_force} is not GTC."))
    }

    /// What an OCO pair must not be.
    pub fn oco_leg(fault: OcoFault) -> ApiError {
        match fault {
            OcoFault::Type => fixed(400, -1158, "Order type not supported in OCO."),
            OcoFault::BuyLimitAbove => fixed(400, -1165, "A limit order in a buy OCO must be below."),
            OcoFault::SellLimitBelow => fixed(400, -1166, "A limit order in a sell OCO must be above."),
            OcoFault::BothLimit => fixed(400, -1168, "At least one OCO order must be contingent."),
            OcoFault::BuyStopLossBelow => fixed(400, -1196, "A stop loss order in a buy OCO must be above."),
            OcoFault::SellStopLossAbove => fixed(400, -1197, "A stop loss order in a sell OCO must be below."),
            OcoFault::BuyTakeProfitAbove => fixed(400, -1198, "A take profit order in a buy OCO must be below."),
            OcoFault::SellTakeProfitBelow => fixed(400, -1199, "A take profit order in a sell OCO must be above."),
        }
    }

    /// An OPO that does not begin with a buy.
    pub fn opo_working_must_buy() -> ApiError {
        fixed(400, -1222, "Working order in an OPO list must be a bid.")
    }

    /// An OPO that does not end with a sale.
    pub fn opo_pending_must_sell() -> ApiError {
        fixed(400, -1223, "Pending orders in an OPO list must be asks.")
    }

    /// Nobody said what the symbol is worth.
    pub fn no_reference_price() -> ApiError {
        fixed(400, -2043, "This symbol doesn't have a reference price.")
    }

    /// The order that was asked about.
    pub fn no_such_order() -> ApiError {
        fixed(400, -2013, "Order does not exist.")
    }

    /// An order that ended without a trade so long ago that it is told no more.
    pub fn order_archived() -> ApiError {
        fixed(400, -2026, "Order was canceled or expired with no executed qty over 90 days ago and has been archived.")
    }

    /// The order of that number has another name.
    pub fn client_order_id_mismatch() -> ApiError {
        fixed(400, -2039, "Client order ID is not correct for this order ID.")
    }

    /// A reference quote for a symbol with a book.
    pub fn not_quote_driven() -> ApiError {
        fixed(400, -2043, "This symbol is not quote-driven.")
    }

    /// A reference quote that is no price.
    pub fn invalid_quote() -> ApiError {
        fixed(400, -1013, "Invalid reference quote.")
    }

    /// A reference quote from before the one that holds.
    pub fn outdated_quote() -> ApiError {
        fixed(400, -2010, "A later reference quote of this symbol holds.")
    }

    /// No key, or not one.
    pub fn api_key_format() -> ApiError {
        fixed(401, -2014, "API-key format invalid.")
    }

    /// A key that is not known, or not for this.
    pub fn rejected_key() -> ApiError {
        fixed(401, -2015, "Invalid API-key, IP, or permissions for action.")
    }

    /// A new order or order list that the engine refused. [`Rejection::TooManyOrders`] has a text of its own: the caller
    /// knows which limit is reached.
    pub fn order_rejected(rejection: Rejection) -> ApiError {
        if let Some(filter) = filter_of(rejection) {
            return bad_request(-1013, format!("Filter failure: {filter}"));
        }
        match rejection {
            Rejection::UnknownSymbol => ApiError::invalid_symbol(),
            Rejection::ZeroQuantity => fixed(400, -1013, "Invalid quantity."),
            Rejection::Overflow => fixed(400, -1108, "Price * QTY is larger than the exchange can count."),
            Rejection::InvalidCombination => fixed(400, -1014, "Unsupported order combination."),
            Rejection::TooManyOrders => fixed(429, -1015, "Too many new orders."),
            Rejection::SelfTradePreventionNotAllowed => ApiError::invalid_self_trade_prevention(),
            Rejection::InvalidOrderList => fixed(400, -1014, "Unsupported order combination."),
            Rejection::MarketClosed => fixed(400, -2010, "Market is closed."),
            Rejection::InsufficientBalance => {
                fixed(400, -2010, "Account has insufficient balance for requested action.")
            }
            Rejection::DuplicateOrder | Rejection::DuplicateOrderList => fixed(400, -2010, "Duplicate order sent."),
            Rejection::WouldMatchImmediately => fixed(400, -2010, "Order would immediately match and take."),
            Rejection::WouldTriggerImmediately => fixed(400, -2010, "Order would trigger immediately."),
            Rejection::OcoPrices => fixed(400, -2010, "The relationship of the prices for the orders is not correct."),
            Rejection::IcebergExceedsQuantity => fixed(400, -2010, "IcebergQty exceeds QTY."),
            Rejection::NoPegPrice => fixed(400, -2010, "Order book liquidity is too low for this pegged order."),
            Rejection::NoReferencePrice => ApiError::no_reference_price(),
            Rejection::IcebergNotSupported => fixed(400, -2010, "Iceberg orders are not supported for this symbol."),
            Rejection::PegNotSupported => fixed(400, -2010, "Pegged orders are not supported for this symbol."),
            Rejection::UnknownAccount => fixed(400, -2010, "This action is disabled on this account."),
            Rejection::AccountDisabled => fixed(400, -2010, "This account may not place or cancel orders."),
            other => cannot_be(other),
        }
    }

    /// A cancel that the engine refused.
    pub fn cancel_rejected(rejection: Rejection) -> ApiError {
        match rejection {
            Rejection::UnknownSymbol => ApiError::invalid_symbol(),
            Rejection::UnknownOrder | Rejection::UnknownOrderList => fixed(400, -2011, "Unknown order sent."),
            Rejection::CancelRestricted => fixed(400, -2011, "Order was not canceled due to cancel restrictions."),
            Rejection::ClientOrderIdMismatch => ApiError::client_order_id_mismatch(),
            Rejection::UnknownAccount => fixed(400, -2011, "This action is disabled on this account."),
            other => cannot_be(other),
        }
    }

    /// An amend that the engine refused, of that order to that quantity where they are still known.
    pub fn amend_rejected(rejection: Rejection, asked: Option<(&Order, Quantity)>) -> ApiError {
        match rejection {
            Rejection::AmendQuantity if asked.is_some_and(|(order, quantity)| quantity > order.quantity) => {
                fixed(400, -2038, "Order amend (quantity increase) is not supported.")
            }
            Rejection::NoChange if asked.is_some_and(|(order, _)| order.quantity.is_zero()) => {
                fixed(400, -2038, "Order amend (pending OPO order) is not supported.")
            }
            Rejection::ClientOrderIdMismatch => ApiError::client_order_id_mismatch(),
            Rejection::UnknownOrder => fixed(400, -2038, "Unknown order sent."),
            Rejection::MarketClosed => fixed(400, -2038, "Market is closed."),
            Rejection::DuplicateOrder => fixed(400, -2038, "Duplicate order sent."),
            Rejection::AmendQuantity | Rejection::NoChange => {
                fixed(400, -2038, "The requested action would change no state; rejecting.")
            }
            Rejection::MaxNumOrderAmends => fixed(400, -2038, "Filter failure: MAX_NUM_ORDER_AMENDS"),
            other => ApiError::order_rejected(other),
        }
    }
}

/// How the two legs of an OCO pair do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is said by its text")]
pub enum OcoFault {
    Type,
    BuyLimitAbove,
    SellLimitBelow,
    BothLimit,
    BuyStopLossBelow,
    SellStopLossAbove,
    BuyTakeProfitAbove,
    SellTakeProfitBelow,
}

/// The filter that a rejection names.
fn filter_of(rejection: Rejection) -> Option<&'static str> {
    Some(match rejection {
        Rejection::PriceFilter => "PRICE_FILTER",
        Rejection::PercentPrice => "PERCENT_PRICE",
        Rejection::LotSize => "LOT_SIZE",
        Rejection::MarketLotSize => "MARKET_LOT_SIZE",
        Rejection::Notional => "NOTIONAL",
        Rejection::IcebergParts => "ICEBERG_PARTS",
        Rejection::TrailingDelta => "TRAILING_DELTA",
        Rejection::MaxNumOrders => "MAX_NUM_ORDERS",
        Rejection::MaxNumAlgoOrders => "MAX_NUM_ALGO_ORDERS",
        Rejection::MaxNumIcebergOrders => "MAX_NUM_ICEBERG_ORDERS",
        Rejection::MaxNumOrderLists => "MAX_NUM_ORDER_LISTS",
        Rejection::MaxPosition => "MAX_POSITION",
        Rejection::ExchangeMaxNumOrders => "EXCHANGE_MAX_NUM_ORDERS",
        Rejection::ExchangeMaxNumAlgoOrders => "EXCHANGE_MAX_NUM_ALGO_ORDERS",
        Rejection::ExchangeMaxNumIcebergOrders => "EXCHANGE_MAX_NUM_ICEBERG_ORDERS",
        Rejection::ExchangeMaxNumOrderLists => "EXCHANGE_MAX_NUM_ORDER_LISTS",
        _ => return None,
    })
}

/// The engine never says this to such a command.
fn cannot_be(rejection: Rejection) -> ApiError {
    tracing::error!("the engine answered {rejection:?} to a command that cannot get it");
    ApiError::internal()
}
