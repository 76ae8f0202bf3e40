//! The account: balances, fees, trades, limits, listen keys; and the few calls beyond `/api` that clients make at start.

use std::sync::Arc;

use engine::command::{AccountSettings, OrderCountLimit};
use engine::commission::{CommissionRates, FeeRate};
use engine::order::Side;
use engine::symbol::Symbol;
use engine::units::PreventedMatchId;
use engine::{AssetId, OrderId, Time, Uid};
use journal::{AccountTrade, FiledPrevention, Page};
use serde::Serialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::trade::{ROWS, ROWS_MAX, SPAN_MAX, parse_page};
use super::{Call, Handling, Reply, at_once};
use crate::app::App;
use crate::params::Params;
use crate::views::Catalog;
use crate::wire::{self, Numbers, amount_text, rate_text};

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
        let (held, updated_at) = views.balances_and_time(uid);
        let balance = |(asset, info): (u32, &crate::views::AssetInfo)| {
            let of_asset = held.iter().find(|(held, _, _)| *held == AssetId(asset));
            let (free, locked) = of_asset.map_or_else(Default::default, |(_, free, locked)| (*free, *locked));
            let shown = !omit_zeros || !free.is_zero() || !locked.is_zero();
            let text = |amount| amount_text(amount, info.scale);
            shown.then(|| json!({ "asset": info.name, "free": text(free), "locked": text(locked) }))
        };
        let balances: Vec<Value> = (0..).zip(&catalog.assets).filter_map(balance).collect();
        let settings = views.settings(uid);
        // The venue has one rate for an account; here each symbol has its own, so the highest is told.
        let standard = || catalog.symbols.iter().map(|symbol| catalog.standard_commission(symbol, &settings));
        let highest = |rate: fn(CommissionRates) -> FeeRate| standard().map(rate).max().unwrap_or_default();
        let rates = CommissionRates {
            maker: highest(|rates| rates.maker),
            taker: highest(|rates| rates.taker),
            buyer: highest(|rates| rates.buyer),
            seller: highest(|rates| rates.seller),
        };
        Ok(Reply::of(&json!({
            "makerCommission": rates.maker.billionths() / BASIS_POINT,
            "takerCommission": rates.taker.billionths() / BASIS_POINT,
            "buyerCommission": rates.buyer.billionths() / BASIS_POINT,
            "sellerCommission": rates.seller.billionths() / BASIS_POINT,
            "commissionRates": wire::commission_rates(&rates),
            "canTrade": settings.can_trade,
            "canWithdraw": settings.can_withdraw,
            "canDeposit": settings.can_deposit,
            "brokered": false,
            "requireSelfTradePrevention": settings.require_self_trade_prevention,
            "preventSor": true,
            "updateTime": call.unit.of(updated_at),
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
        let (uid, views) = (call.uid()?, &app.outlets.views);
        let catalog = views.symbols();
        let symbol = call.params.symbol(&catalog)?;
        call.params.finish()?;
        let mut body = commissions(&catalog, symbol, &views.settings(uid), "");
        body["symbol"] = json!(symbol.config.name);
        Ok(Reply::of(&body))
    })())
}

/// What an order in the symbol would pay (order/test with computeCommissionRates).
pub(super) fn commission_of_order(catalog: &Catalog, symbol: &Symbol, settings: &AccountSettings) -> Value {
    commissions(catalog, symbol, settings, "ForOrder")
}

/// The three kinds of commission and the discount; `suffix` ends the names of the three.
fn commissions(catalog: &Catalog, symbol: &Symbol, settings: &AccountSettings, suffix: &str) -> Value {
    let commission = &symbol.config.commission;
    let kinds = [
        ("standardCommission", catalog.standard_commission(symbol, settings)),
        ("specialCommission", commission.special),
        ("taxCommission", commission.tax),
    ];
    let mut body = json!({});
    for (name, rates) in kinds {
        body[format!("{name}{suffix}")] = wire::commission_rates(&rates);
    }
    let asset = commission.discount.and_then(|discount| catalog.assets.get(discount.asset.0 as usize));
    body["discount"] = json!({
        "enabledForAccount": settings.discount,
        "enabledForSymbol": commission.discount.is_some(),
        "discountAsset": asset.map_or("", |asset| &asset.name),
        "discount": rate_text(commission.discount.map_or_else(FeeRate::default, |discount| discount.rate)),
    });
    body
}

/// Weight of GET myPreventedMatches.
pub fn prevented_matches_weight(params: &Params) -> u32 {
    if params.peek("orderId").is_some() { 20 } else { 2 }
}

/// GET myPreventedMatches.
pub fn prevented_matches(app: &Arc<App>, mut call: Call) -> Handling {
    let app = app.clone();
    Box::pin(async move {
        let (uid, catalog) = (call.uid()?, app.outlets.views.symbols());
        let symbol = call.params.symbol(&catalog)?;
        let id = call.params.integer("preventedMatchId")?.map(PreventedMatchId);
        let order_id = call.params.integer("orderId")?.map(OrderId);
        let from_id = call.params.integer("fromPreventedMatchId")?;
        let limit = call.params.integer("limit")?;
        call.params.finish()?;
        let is_paged = from_id.is_some() || limit.is_some();
        let page = Page::FromId(from_id.unwrap_or(0));
        let rows = match limit {
            Some(0) => return Err(ApiError::bad_limit()),
            limit => limit.map_or(ROWS, |limit| usize::try_from(limit).unwrap_or(ROWS_MAX).min(ROWS_MAX)),
        };
        let symbol_id = symbol.id;
        let found = match (id, order_id) {
            (Some(id), None) if !is_paged => {
                let found = app.read_history(move |history| history.prevented_match(symbol_id, id)).await?;
                found.into_iter().collect()
            }
            (None, Some(order_id)) => {
                let read =
                    move |history: &journal::History| history.prevented_matches(uid, symbol_id, order_id, page, rows);
                app.read_history(read).await?
            }
            (None, None) => return Err(ApiError::missing_either("preventedMatchId", "orderId")),
            _ => return Err(ApiError::bad_combination()),
        };
        let is_own = |row: &&FiledPrevention| [row.prevented.taker_uid, row.prevented.maker_uid].contains(&uid);
        let numbers = Numbers::new(symbol, &catalog, call.unit);
        let rows = found.iter().filter(is_own).map(|row| prevented_shape(row, &numbers));
        Ok(Reply::of(&rows.collect::<Vec<_>>()))
    })
}

fn prevented_shape(row: &FiledPrevention, numbers: &Numbers<'_>) -> Value {
    let prevented = &row.prevented;
    let symbol = &numbers.symbol.config.name;
    let mut shape = json!({
        "symbol": symbol,
        "preventedMatchId": prevented.prevented_match_id.0,
        "takerOrderId": prevented.taker_order_id.0,
        "makerSymbol": symbol,
        "makerOrderId": prevented.maker_order_id.0,
        "tradeGroupId": prevented.trade_group.map_or(wire::NONE, |group| group.0.into()),
        "selfTradePreventionMode": wire::self_trade_prevention_word(prevented.mode),
        "price": numbers.price(prevented.price),
        "transactTime": numbers.time(row.time),
    });
    // Only who lost something says how much (faqs/stp_faq.md).
    let lost =
        [("takerPreventedQuantity", prevented.taker_prevented), ("makerPreventedQuantity", prevented.maker_prevented)];
    for (name, quantity) in lost.into_iter().filter(|(_, quantity)| !quantity.is_zero()) {
        shape[name] = json!(numbers.quantity(quantity));
    }
    shape
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
        order_list_id: wire::NONE,
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

/// GET myAllocations: there are none, since no order is routed elsewhere.
pub fn allocations(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let catalog = app.outlets.views.symbols();
        call.params.symbol(&catalog)?;
        call.params.integer("orderId")?;
        let from_id = call.params.integer("fromAllocationId")?;
        let timed = ["startTime", "endTime"].iter().any(|name| call.params.peek(name).is_some());
        if timed && from_id.is_some() {
            return Err(ApiError::bad_combination());
        }
        parse_page(&mut call.params, from_id, Some(SPAN_MAX))?;
        call.params.limit(ROWS, ROWS_MAX)?;
        call.params.finish()?;
        Ok(Reply::of(&json!([])))
    })())
}

/// GET myFilters: what holds for the account's orders in a symbol. No account has filters of its own.
pub fn relevant_filters(app: &Arc<App>, mut call: Call) -> Handling {
    at_once((|| {
        let catalog = app.outlets.views.symbols();
        let symbol = call.params.symbol(&catalog)?;
        call.params.finish()?;
        Ok(Reply::of(&json!({
            "exchangeFilters": super::filters::of_exchange(&catalog.limits),
            "symbolFilters": super::filters::of_symbol(&Numbers::new(symbol, &catalog, call.unit)),
            "assetFilters": [],
        })))
    })())
}

/// GET rateLimit/order.
pub fn order_limits(app: &Arc<App>, call: Call) -> Handling {
    at_once((|| {
        let uid = call.uid()?;
        call.params.finish()?;
        Ok(Reply::of(&order_count_rows(app, Some(uid), call.now)))
    })())
}

/// The limits of unfilled orders; with what an account has of them, if one is asked.
pub fn order_count_rows(app: &App, uid: Option<Uid>, now: Time) -> Vec<Value> {
    let views = &app.outlets.views;
    let counts = uid.map(|uid| views.order_counts(uid, now));
    let row = |(at, limit): (usize, OrderCountLimit)| {
        let (interval, number) = crate::rate_limit::interval(limit.seconds);
        let mut row =
            json!({ "rateLimitType": "ORDERS", "interval": interval, "intervalNum": number, "limit": limit.limit });
        if let Some(counts) = counts {
            row["count"] = json!(counts[at]);
        }
        row
    };
    views.order_limits().into_iter().enumerate().filter(|(_, limit)| limit.seconds > 0).map(row).collect()
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
        let (uid, catalog) = (call.uid()?, app.outlets.views.symbols());
        let settings = app.outlets.views.settings(uid);
        let one = match call.params.peek("symbol") {
            Some(_) => Some(call.params.symbol(&catalog)?.id),
            None => None,
        };
        call.params.finish()?;
        let wanted = catalog.symbols.iter().filter(|symbol| one.is_none_or(|one| one == symbol.id));
        let row = |symbol: &Symbol| {
            let rates = catalog.standard_commission(symbol, &settings);
            json!({
                "symbol": symbol.config.name,
                "makerCommission": rate_text(rates.maker),
                "takerCommission": rate_text(rates.taker),
            })
        };
        Ok(Reply::of(&wanted.map(row).collect::<Vec<_>>()))
    })())
}

/// GET sapi account/apiRestrictions: what the key that asks may do.
pub fn key_restrictions(_app: &Arc<App>, call: Call) -> Handling {
    at_once((|| {
        let caller = call.caller.ok_or_else(ApiError::internal)?;
        call.params.finish()?;
        Ok(Reply::of(&json!({
            "ipRestrict": false,
            "enableReading": caller.may_read,
            "enableSpotAndMarginTrading": caller.may_trade,
            "enableWithdrawals": false,
            "enableInternalTransfer": false,
            "permitsUniversalTransfer": false,
            "enableMargin": false,
            "enableFutures": false,
            "enableVanillaOptions": false,
            "enablePortfolioMarginTrading": false,
            "enableFixApiTrade": false,
            "enableFixReadOnly": false,
        })))
    })())
}

/// GET fapi and dapi exchangeInfo: no contract is traded here, which clients of spot and contracts learn so.
pub fn no_contracts(_app: &Arc<App>, call: Call) -> Handling {
    at_once((|| {
        call.params.finish()?;
        Ok(Reply::of(&json!({
            "timezone": "UTC",
            "serverTime": call.unit.of(call.now),
            "rateLimits": [],
            "exchangeFilters": [],
            "assets": [],
            "symbols": [],
        })))
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
