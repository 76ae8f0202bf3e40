//! The whole API on one screen: path, WS API method, security, weight, handler. And the way of a request to its handler.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use engine::{Sequence, Time, Uid};

use crate::app::App;
use crate::auth::{self, Caller, Credentials, Security};
use crate::params::Params;
use crate::stages::{Arrival, Journey};
use crate::ws::hub::TimeUnit;

pub mod account;
pub mod error;
pub mod filters;
mod first_result;
pub mod lists;
pub mod market;
pub mod order_params;
pub mod outcome;
pub mod quotes;
pub mod trade;

use error::ApiError;

/// Every call there is. `""` stands where one of REST and WS API has it not.
#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    // General.
    route("GET", "/api/v3/ping", "ping", Security::None, Weight::Fixed(1), market::ping),
    route("GET", "/api/v3/time", "time", Security::None, Weight::Fixed(1), market::time),
    route("GET", "/api/v3/exchangeInfo", "exchangeInfo", Security::None, Weight::Fixed(20), market::exchange_info),
    route("GET", "/api/v3/executionRules", "executionRules", Security::None, Weight::By(market::rules_weight), market::execution_rules),
    // Market data.
    route("GET", "/api/v3/depth", "depth", Security::None, Weight::By(market::depth_weight), market::depth),
    route("GET", "/api/v3/trades", "trades.recent", Security::None, Weight::Fixed(25), market::trades),
    route("GET", "/api/v3/historicalTrades", "trades.historical", Security::None, Weight::Fixed(25), market::historical_trades),
    route("GET", "/api/v3/aggTrades", "trades.aggregate", Security::None, Weight::Fixed(4), market::aggregate_trades),
    route("GET", "/api/v3/klines", "klines", Security::None, Weight::Fixed(2), market::klines),
    route("GET", "/api/v3/uiKlines", "uiKlines", Security::None, Weight::Fixed(2), market::klines),
    route("GET", "/api/v3/avgPrice", "avgPrice", Security::None, Weight::Fixed(2), market::average_price),
    route("GET", "/api/v3/ticker/24hr", "ticker.24hr", Security::None, Weight::By(market::ticker_24h_weight), market::ticker_24h),
    route("GET", "/api/v3/ticker/tradingDay", "ticker.tradingDay", Security::None, Weight::By(market::rolling_weight), market::ticker_trading_day),
    route("GET", "/api/v3/ticker", "ticker", Security::None, Weight::By(market::rolling_weight), market::ticker_rolling),
    route("GET", "/api/v3/ticker/price", "ticker.price", Security::None, Weight::By(market::price_weight), market::ticker_price),
    route("GET", "/api/v3/ticker/bookTicker", "ticker.book", Security::None, Weight::By(market::price_weight), market::ticker_book),
    route("GET", "/api/v3/referencePrice", "referencePrice", Security::None, Weight::Fixed(2), market::reference_price),
    route("GET", "/api/v3/referencePrice/calculation", "referencePrice.calculation", Security::None, Weight::Fixed(2), market::reference_calculation),
    route("GET", "/api/v3/historicalBlockTrades", "blockTrades.historical", Security::None, Weight::Fixed(25), market::block_trades),
    // Trading.
    route("POST", "/api/v3/order", "order.place", Security::Trade, Weight::OnFailure(1), trade::place_order),
    route("POST", "/api/v3/order/test", "order.test", Security::Trade, Weight::By(trade::test_order_weight), trade::test_order),
    route("GET", "/api/v3/order", "order.status", Security::UserData, Weight::Fixed(4), trade::query_order),
    route("DELETE", "/api/v3/order", "order.cancel", Security::Trade, Weight::OnFailure(1), trade::cancel_order),
    route("POST", "/api/v3/order/cancelReplace", "order.cancelReplace", Security::Trade, Weight::OnFailure(1), trade::cancel_replace),
    route("PUT", "/api/v3/order/amend/keepPriority", "order.amend.keepPriority", Security::Trade, Weight::Fixed(4), trade::amend_order),
    route("GET", "/api/v3/order/amendments", "order.amendments", Security::UserData, Weight::Fixed(4), trade::amendments),
    route("GET", "/api/v3/openOrders", "openOrders.status", Security::UserData, Weight::By(trade::open_orders_weight), trade::open_orders),
    route("DELETE", "/api/v3/openOrders", "openOrders.cancelAll", Security::Trade, Weight::OnFailure(1), trade::cancel_open_orders),
    route("GET", "/api/v3/allOrders", "allOrders", Security::UserData, Weight::Fixed(20), trade::all_orders),
    route("POST", "/api/v3/countdownCancelAll", "countdownCancelAll", Security::Trade, Weight::Fixed(1), trade::countdown),
    // Prices from outside, for symbols that are quote-driven.
    route("POST", "/api/v3/referenceQuote", "referenceQuote", Security::Feed, Weight::OnFailure(1), quotes::quote),
    // Order lists.
    route("POST", "/api/v3/order/oco", "orderList.place", Security::Trade, Weight::OnFailure(1), lists::place_oco_by_kind),
    route("POST", "/api/v3/orderList/oco", "orderList.place.oco", Security::Trade, Weight::OnFailure(1), lists::place_oco),
    route("POST", "/api/v3/orderList/oto", "orderList.place.oto", Security::Trade, Weight::OnFailure(1), lists::place_oto),
    route("POST", "/api/v3/orderList/otoco", "orderList.place.otoco", Security::Trade, Weight::OnFailure(1), lists::place_otoco),
    route("POST", "/api/v3/orderList/opo", "orderList.place.opo", Security::Trade, Weight::OnFailure(1), lists::place_opo),
    route("POST", "/api/v3/orderList/opoco", "orderList.place.opoco", Security::Trade, Weight::OnFailure(1), lists::place_opoco),
    route("DELETE", "/api/v3/orderList", "orderList.cancel", Security::Trade, Weight::OnFailure(1), lists::cancel),
    route("GET", "/api/v3/orderList", "orderList.status", Security::UserData, Weight::Fixed(4), lists::query),
    route("GET", "/api/v3/openOrderList", "openOrderLists.status", Security::UserData, Weight::Fixed(6), lists::open),
    route("GET", "/api/v3/allOrderList", "allOrderLists", Security::UserData, Weight::Fixed(20), lists::all),
    // Account.
    route("GET", "/api/v3/account", "account.status", Security::UserData, Weight::Fixed(20), account::account),
    route("GET", "/api/v3/account/commission", "account.commission", Security::UserData, Weight::Fixed(20), account::commission),
    route("GET", "/api/v3/myTrades", "myTrades", Security::UserData, Weight::By(account::my_trades_weight), account::my_trades),
    route("GET", "/api/v3/myPreventedMatches", "myPreventedMatches", Security::UserData, Weight::By(account::prevented_matches_weight), account::prevented_matches),
    route("GET", "/api/v3/rateLimit/order", "account.rateLimits.orders", Security::UserData, Weight::Fixed(40), account::order_limits),
    route("GET", "/api/v3/myAllocations", "myAllocations", Security::UserData, Weight::Fixed(20), account::allocations),
    route("GET", "/api/v3/myFilters", "myFilters", Security::UserData, Weight::Fixed(40), account::relevant_filters),
    // Listen keys; the WS API methods of this kind stand in ws/api.rs.
    route("POST", "/api/v3/userDataStream", "userDataStream.start", Security::UserStream, Weight::Fixed(2), account::open_listen_key),
    route("PUT", "/api/v3/userDataStream", "userDataStream.ping", Security::UserStream, Weight::Fixed(2), account::extend_listen_key),
    route("DELETE", "/api/v3/userDataStream", "userDataStream.stop", Security::UserStream, Weight::Fixed(2), account::close_listen_key),
    // What ccxt and freqtrade ask for at start-up.
    route("GET", "/sapi/v1/system/status", "", Security::None, Weight::Fixed(1), account::system_status),
    route("GET", "/sapi/v1/capital/config/getall", "", Security::UserData, Weight::Fixed(10), account::coins),
    route("GET", "/sapi/v1/asset/tradeFee", "", Security::UserData, Weight::Fixed(1), account::trade_fees),
    route("GET", "/sapi/v1/account/apiRestrictions", "", Security::Signed, Weight::Fixed(1), account::key_restrictions),
    route("GET", "/sapi/v1/margin/allPairs", "", Security::ApiKey, Weight::Fixed(1), account::nothing),
    route("GET", "/sapi/v1/margin/isolated/allPairs", "", Security::ApiKey, Weight::Fixed(10), account::nothing),
    route("GET", "/sapi/v1/spot/delist-schedule", "", Security::ApiKey, Weight::Fixed(1), account::nothing),
    route("GET", "/fapi/v1/ping", "", Security::None, Weight::Fixed(1), market::ping),
    route("GET", "/fapi/v1/time", "", Security::None, Weight::Fixed(1), market::time),
    route("GET", "/fapi/v1/exchangeInfo", "", Security::None, Weight::Fixed(1), account::no_contracts),
    route("GET", "/dapi/v1/ping", "", Security::None, Weight::Fixed(1), market::ping),
    route("GET", "/dapi/v1/time", "", Security::None, Weight::Fixed(1), market::time),
    route("GET", "/dapi/v1/exchangeInfo", "", Security::None, Weight::Fixed(1), account::no_contracts),
];

/// One call.
pub struct Route {
    /// The HTTP method.
    pub method: &'static str,
    /// The path.
    pub path: &'static str,
    /// The WS API method.
    pub ws_method: &'static str,
    /// What the caller must prove.
    pub security: Security,
    /// What it uses of the address's request weight.
    pub weight: Weight,
    handler: Handler,
}

const fn route(
    method: &'static str,
    path: &'static str,
    ws_method: &'static str,
    security: Security,
    weight: Weight,
    handler: Handler,
) -> Route {
    Route { method, path, ws_method, security, weight, handler }
}

/// What a call uses of the address's request weight.
#[derive(Clone, Copy)]
pub enum Weight {
    /// Always as much.
    Fixed(u32),
    /// Nothing when it succeeds.
    OnFailure(u32),
    /// It depends on what is asked.
    By(fn(&Params) -> u32),
}

/// A request on its way to its handler.
pub struct Call {
    /// What it says.
    pub params: Params,
    /// Who asks; always there when the route demands it.
    pub caller: Option<Caller>,
    /// In which unit the answer's times are.
    pub unit: TimeUnit,
    /// When it came.
    pub now: Time,
    /// The same more exactly.
    pub arrival: Arrival,
}

/// A good answer.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The body, or the `result` of a WS API answer.
    pub json: String,
    /// The sequence of the command that it acknowledges, or one up to which a question's answer knows all.
    pub sequence: Option<Sequence>,
    /// Whose order count it changed.
    pub placed_by: Option<Uid>,
    /// The keys of the names whose last use it tells the end of; see [`crate::answered`].
    pub answers: Vec<u64>,
    /// The way of the command that it answers.
    pub journey: Option<Box<Journey>>,
}

impl Reply {
    /// An answer to a question.
    pub fn of(body: &impl serde::Serialize) -> Reply {
        Reply { json: to_json(body), ..Reply::default() }
    }
}

/// The body as JSON text.
pub fn to_json(body: &impl serde::Serialize) -> String {
    serde_json::to_string(body).expect("our shapes have text keys and no floats")
}

/// An answer to come.
pub type Handling = Pin<Box<dyn Future<Output = Result<Reply, ApiError>> + Send>>;

/// What answers a call. Whatever must keep its order is done before it returns: commands are in their lane by then, and
/// the future only waits.
pub type Handler = fn(&Arc<App>, Call) -> Handling;

/// An answer that is there already.
pub fn at_once(answer: Result<Reply, ApiError>) -> Handling {
    Box::pin(ready(answer))
}

impl Call {
    /// Who asks.
    pub fn uid(&self) -> Result<Uid, ApiError> {
        self.caller.map(|caller| caller.uid).ok_or_else(ApiError::internal)
    }

    /// Until when it is good.
    pub fn deadline(&self) -> Option<Time> {
        self.caller.and_then(|caller| caller.deadline)
    }
}

impl Route {
    /// The call of that method and path.
    pub fn find(method: &str, path: &str) -> Result<&'static Route, ApiError> {
        let mut of_path = ROUTES.iter().filter(|route| route.path == path).peekable();
        of_path.peek().ok_or_else(ApiError::not_found)?;
        of_path.find(|route| route.method == method).ok_or_else(ApiError::method_not_allowed)
    }

    /// The methods that a path has.
    pub fn methods(path: &str) -> String {
        let methods: Vec<&str> = ROUTES.iter().filter(|route| route.path == path).map(|route| route.method).collect();
        methods.join(", ")
    }

    /// The call of that WS API method.
    pub fn find_ws(method: &str) -> Option<&'static Route> {
        ROUTES.iter().find(|route| route.ws_method == method && !method.is_empty())
    }

    /// Counts, authenticates and handles a call. What must keep its order is done when this returns. Tells also whose call
    /// it is, once that is proved.
    pub fn handle(
        &self,
        app: &Arc<App>,
        mut params: Params,
        by: &Credentials<'_>,
        unit: TimeUnit,
        arrival: Arrival,
    ) -> (Handling, Option<Caller>) {
        let now = arrival.time;
        let weight = match self.weight {
            Weight::Fixed(weight) | Weight::OnFailure(weight) => weight,
            Weight::By(weight) => weight(&params),
        };
        let allowed = match self.weight {
            Weight::Fixed(_) | Weight::By(_) => app.limits.use_weight(by.address, weight, now),
            Weight::OnFailure(_) => app.limits.check_weight(by.address, weight, now),
        };
        if let Err(error) = allowed {
            return (at_once(Err(error)), None);
        }
        let catalog = app.outlets.views.symbols();
        // Before the handler looks, so that it looks at this or at more.
        let reflected = app.outlets.views.sequence();
        let caller = match by.token {
            Some(token) => app.login.caller(&catalog, self.security, token, &mut params, now),
            None => auth::authenticate(&catalog, self.security, by, &mut params, now),
        };
        let caller = caller.and_then(|caller| {
            let (uid, call) = (caller.map(|caller| caller.uid), (self.method, self.path));
            app.limits.use_call(uid, by.address, call, weight, now).map(|()| caller)
        });
        let (handling, caller) = match caller {
            Ok(caller) => ((self.handler)(app, Call { params, caller, unit, now, arrival }), caller),
            Err(error) => (at_once(Err(error)), None),
        };
        let Weight::OnFailure(weight) = self.weight else {
            let answer = async move {
                let reply = handling.await?;
                Ok(Reply { sequence: reply.sequence.or(Some(reflected)), ..reply })
            };
            return (Box::pin(answer), caller);
        };
        let (app, address) = (app.clone(), by.address);
        let handling = Box::pin(async move {
            let answer = handling.await;
            if answer.is_err() {
                // The answer stands; that the limit is reached shows with the next request.
                let _ = app.limits.use_weight(address, weight, now);
            }
            answer
        });
        (handling, caller)
    }
}
