//! The account: balances, fees, trades, limits, listen keys; and the few calls beyond `/api` that clients make at start.

use std::sync::Arc;

use engine::order::Side;
use engine::symbol::Symbol;
use engine::units::FeeRate;
use engine::{AssetId, OrderId};
use journal::AccountTrade;
use serde::Serialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::trade::{ROWS, ROWS_MAX, SPAN_MAX, parse_page};
use super::{Call, Handling, Reply, at_once};
use crate::app::App;
use crate::params::Params;
use crate::views::Catalog;
use crate::wire::{Numbers, amount_text, rate_text};

/// One basis point in billionths.
const BASIS_POINT: u32 = 100_000;

/// GET account.
pub fn account(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let uid = call.uid()?;
        let omit_zeros = call.params.boolean("omitZeroBalances")?.unwrap_or(false);
        call.params.finish()?;
        let views = &app.outlets.views;
        let catalog = views.symbols();
        let held = views.balances(uid);
        let balance = |(asset, info): (u32, &crate::views::AssetInfo)| {
            let of_asset = held.iter().find(|(held, _, _)| *held == AssetId(asset));
            let (free, locked) = of_asset.map_or_else(Default::default, |(_, free, locked)| (*free, *locked));
            let shown = !omit_zeros || !free.is_zero() || !locked.is_zero();
            let text = |amount| amount_text(amount, info.scale);
            shown.then(|| json!({ "asset": info.name, "free": text(free), "locked": text(locked) }))
        };
        let balances: Vec<Value> = (0..).zip(&catalog.assets).filter_map(balance).collect();
        // The venue has one rate for an account; here each symbol has its own, so the highest is told.
        let highest = |rate: fn(&Symbol) -> FeeRate| catalog.symbols.iter().map(rate).max().unwrap_or_default();
        let maker = highest(|symbol| symbol.config.maker_fee);
        let taker = highest(|symbol| symbol.config.taker_fee);
        Ok(Reply::of(&json!({
            "makerCommission": maker.billionths() / BASIS_POINT,
            "takerCommission": taker.billionths() / BASIS_POINT,
            "buyerCommission": 0,
            "sellerCommission": 0,
            "commissionRates": rates(maker, taker),
            "canTrade": true,
            "canWithdraw": true,
            "canDeposit": true,
            "brokered": false,
            "requireSelfTradePrevention": false,
            "preventSor": true,
            "updateTime": call.unit.of(views.account_update_time(uid)),
            "accountType": "SPOT",
            "balances": balances,
            "permissions": ["SPOT"],
            "uid": uid.0,
        })))
    })())
}

/// GET account/commission.
pub fn commission(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let catalog = app.outlets.views.symbols();
        let symbol = call.params.symbol(&catalog)?;
        call.params.finish()?;
        let mut body = commission_rates(symbol);
        body["symbol"] = json!(symbol.config.name);
        body["standardCommission"] = body["standardCommissionForOrder"].take();
        body["specialCommission"] = body["specialCommissionForOrder"].take();
        body["taxCommission"] = body["taxCommissionForOrder"].take();
        if let Some(fields) = body.as_object_mut() {
            fields.retain(|name, _| !name.ends_with("ForOrder"));
        }
        Ok(Reply::of(&body))
    })())
}

/// What an order in the symbol would pay (order/test with computeCommissionRates).
pub(super) fn commission_rates(symbol: &Symbol) -> Value {
    let none = rates(FeeRate::default(), FeeRate::default());
    json!({
        "standardCommissionForOrder": rates(symbol.config.maker_fee, symbol.config.taker_fee),
        "specialCommissionForOrder": none,
        "taxCommissionForOrder": none,
        "discount": {
            "enabledForAccount": false,
            "enabledForSymbol": false,
            "discountAsset": "",
            "discount": rate_text(FeeRate::default()),
        },
    })
}

fn rates(maker: FeeRate, taker: FeeRate) -> Value {
    let none = rate_text(FeeRate::default());
    json!({ "maker": rate_text(maker), "taker": rate_text(taker), "buyer": none, "seller": none })
}

/// Weight of GET myTrades.
pub fn my_trades_weight(params: &Params) -> u32 {
    if params.peek("orderId").is_some() { 5 } else { 20 }
}

/// GET myTrades.
pub fn my_trades(app: &Arc<App>, mut call: Call) -> Handling {
    let app = app.clone();
    Box::pin(async move {
        let uid = call.uid()?;
        let catalog = app.outlets.views.symbols();
        let symbol = call.params.symbol(&catalog)?;
        let order = call.params.integer("orderId")?.map(OrderId);
        let from_id = call.params.integer("fromId")?;
        let timed = ["startTime", "endTime"].iter().any(|name| call.params.peek(name).is_some());
        if timed && (from_id.is_some() || order.is_some()) {
            return Err(ApiError::bad_combination());
        }
        let page = parse_page(&mut call.params, from_id, Some(SPAN_MAX))?;
        let limit = call.params.limit(ROWS, ROWS_MAX)?;
        call.params.finish()?;
        let id = symbol.id;
        let trades = app.read_history(move |history| history.account_trades(uid, id, order, page, limit)).await?;
        let numbers = Numbers::new(symbol, &catalog, call.unit);
        Ok(Reply::of(&trades.iter().map(|trade| account_trade(trade, &numbers)).collect::<Vec<_>>()))
    })
}

/// A row of GET myTrades.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountTradeShape<'a> {
    symbol: &'a str,
    id: u64,
    order_id: u64,
    order_list_id: i64,
    price: String,
    qty: String,
    quote_qty: String,
    commission: String,
    commission_asset: &'a str,
    time: u64,
    is_buyer: bool,
    is_maker: bool,
    is_best_match: bool,
}

fn account_trade<'a>(row: &AccountTrade, numbers: &Numbers<'a>) -> AccountTradeShape<'a> {
    let trade = &row.trade;
    let (fill, side) =
        if row.is_maker { (&trade.maker, trade.taker_side.opposite()) } else { (&trade.taker, trade.taker_side) };
    let (commission, commission_asset) = numbers.commission(fill.fee, fill.fee_asset);
    AccountTradeShape {
        symbol: &numbers.symbol.config.name,
        id: trade.trade_id.0,
        order_id: fill.order_id.0,
        order_list_id: -1,
        price: numbers.price(trade.price),
        qty: numbers.quantity(trade.quantity),
        quote_qty: numbers.quote(trade.quote_amount),
        commission,
        commission_asset,
        time: numbers.time(row.time),
        is_buyer: side == Side::Buy,
        is_maker: row.is_maker,
        is_best_match: true,
    }
}

/// GET rateLimit/order.
pub fn order_limits(app: &Arc<App>, call: Call) -> Handling {
    at_once((|| {
        let uid = call.uid()?;
        call.params.finish()?;
        let used = app.limits.order_count(uid, call.now);
        let limits = &app.config.limits;
        let row = |interval: &str, number: u32, limit: u32, count: u32| json!({ "rateLimitType": "ORDERS", "interval": interval, "intervalNum": number, "limit": limit, "count": count });
        Ok(Reply::of(&json!([
            row("SECOND", 10, limits.orders_per_10_seconds, used.ten_seconds),
            row("DAY", 1, limits.orders_per_day, used.day),
        ])))
    })())
}

/// POST userDataStream.
pub fn open_listen_key(app: &Arc<App>, call: Call) -> Handling {
    at_once((|| {
        let uid = call.uid()?;
        call.params.finish()?;
        let key = app.outlets.listen_keys.create(uid, call.now).map_err(|_| ApiError::too_many_listen_keys())?;
        Ok(Reply::of(&json!({ "listenKey": &*key })))
    })())
}

/// PUT userDataStream.
pub fn extend_listen_key(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let (uid, key) = (call.uid()?, call.params.required("listenKey")?);
        call.params.finish()?;
        app.outlets.listen_keys.extend(uid, &key, call.now).map_err(|_| ApiError::invalid_listen_key())?;
        Ok(Reply::of(&json!({})))
    })())
}

/// DELETE userDataStream.
pub fn close_listen_key(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let (uid, key) = (call.uid()?, call.params.required("listenKey")?);
        call.params.finish()?;
        app.outlets.listen_keys.close(uid, &key).map_err(|_| ApiError::invalid_listen_key())?;
        app.outlets.hub.close_listen_key(uid, &key);
        Ok(Reply::of(&json!({})))
    })())
}

/// GET sapi system/status.
pub fn system_status(app: &Arc<App>, call: Call) -> Handling {
    let (status, message) = if app.is_ready() { (0, "normal") } else { (1, "system maintenance") };
    at_once(call.params.finish().map(|()| Reply::of(&json!({ "status": status, "msg": message }))))
}

/// GET sapi capital/config/getall: the assets, of which none is on any chain.
pub fn coins(app: &Arc<App>, call: Call) -> Handling {
    at_once((|| {
        let uid = call.uid()?;
        call.params.finish()?;
        let catalog = app.outlets.views.symbols();
        let held = app.outlets.views.balances(uid);
        let coin = |(asset, info): (u32, &crate::views::AssetInfo)| {
            let of_asset = held.iter().find(|(held, _, _)| *held == AssetId(asset));
            let (free, locked) = of_asset.map_or_else(Default::default, |(_, free, locked)| (*free, *locked));
            let nothing = amount_text(engine::Amount::ZERO, info.scale);
            json!({
                "coin": info.name,
                "name": info.name,
                "depositAllEnable": false,
                "withdrawAllEnable": false,
                "free": amount_text(free, info.scale),
                "locked": amount_text(locked, info.scale),
                "freeze": nothing,
                "withdrawing": nothing,
                "ipoing": nothing,
                "ipoable": nothing,
                "storage": nothing,
                "isLegalMoney": false,
                "trading": true,
                "networkList": [],
            })
        };
        Ok(Reply::of(&(0..).zip(&catalog.assets).map(coin).collect::<Vec<_>>()))
    })())
}

/// GET sapi asset/tradeFee.
pub fn trade_fees(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let catalog: Arc<Catalog> = app.outlets.views.symbols();
        let one = match call.params.peek("symbol") {
            Some(_) => Some(call.params.symbol(&catalog)?.id),
            None => None,
        };
        call.params.finish()?;
        let wanted = catalog.symbols.iter().filter(|symbol| one.is_none_or(|one| one == symbol.id));
        let row = |symbol: &Symbol| {
            json!({
                "symbol": symbol.config.name,
                "makerCommission": rate_text(symbol.config.maker_fee),
                "takerCommission": rate_text(symbol.config.taker_fee),
            })
        };
        Ok(Reply::of(&wanted.map(row).collect::<Vec<_>>()))
    })())
}

/// What there is none of here.
pub fn nothing(_app: &Arc<App>, mut call: Call) -> Handling {
    // Some of its callers sign though they need not.
    for name in ["timestamp", "recvWindow", "signature", "symbols"] {
        call.params.take(name);
    }
    at_once(call.params.finish().map(|()| Reply::of(&json!([]))))
}
