//! Commands and events as named facts: one list gives both the line for people and the JSON.

use engine::access::{Access, AccessChange, Note, UserTerms};
use engine::command::{
    AccountSettings, CancelReplace, Command, OrderQuantity, OrderReference, PlaceOrder, PlaceOrderList, Placing,
    Transfer,
};
use engine::event::{Event, ExpiryReason, Fill, OrderList, StatusCause};
use engine::quotes::QuoteTerms;
use engine::symbol::Symbol;
use engine::{Amount, AssetId, Order, Quantity, SymbolId, Uid};
use serde_json::{Map, Value, json};

use super::moment;
use super::names::Names;
use crate::wire::{
    contingency_word, expiry_reason_word, list_status_words, peg_word, self_trade_prevention_word, side_word,
    status_word, symbol_status_word, time_in_force_word, type_word,
};

/// What something is, and what is to be said of it, in order.
pub struct Facts {
    kind: &'static str,
    list: Vec<(&'static str, Value)>,
}

impl Facts {
    fn new(kind: &'static str) -> Facts {
        Facts { kind, list: Vec::new() }
    }

    fn put(mut self, name: &'static str, value: impl Into<Value>) -> Facts {
        self.list.push((name, value.into()));
        self
    }

    fn put_some(self, name: &'static str, value: Option<impl Into<Value>>) -> Facts {
        match value {
            Some(value) => self.put(name, value),
            None => self,
        }
    }

    fn with(mut self, others: Facts) -> Facts {
        self.list.extend(others.list);
        self
    }

    /// For people: `Kind name=value name=value`.
    pub fn text(&self) -> String {
        let mut text = self.kind.to_owned();
        for (name, value) in &self.list {
            let value = match value {
                Value::String(value) => value.clone(),
                other => other.to_string(),
            };
            text.push_str(&format!(" {name}={value}"));
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let mut map: Map<String, Value> =
            self.list.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        if !self.kind.is_empty() {
            map.insert("kind".to_owned(), self.kind.into());
        }
        Value::Object(map)
    }
}

/// What a command asks.
pub fn command(command: &Command, names: &Names) -> Facts {
    match command {
        Command::AddAsset(asset) => Facts::new("AddAsset").put("name", asset.name.as_str()).put("scale", asset.scale),
        Command::AddSymbol(config) => Facts::new("AddSymbol")
            .put("name", config.name.as_str())
            .put("base", names.asset_name(config.base))
            .put("quote", names.asset_name(config.quote))
            .put("tick_size", names.amount(config.quote, config.tick_size))
            .put("step_size", names.amount(config.base, config.step_size)),
        Command::ConfigureSymbol { symbol, .. } => {
            Facts::new("ConfigureSymbol").put("symbol", names.symbol_name(*symbol))
        }
        Command::ConfigureExchange(limits) => Facts::new("ConfigureExchange")
            .put("max_num_orders", limits.max_num_orders)
            .put("order_counts", json!(limits.order_counts.map(|count| [count.limit, count.seconds]))),
        Command::SetSymbolStatus { symbol, status } => Facts::new("SetSymbolStatus")
            .put("symbol", names.symbol_name(*symbol))
            .put("status", symbol_status_word(*status)),
        Command::SetReferencePrice { symbol, price } => Facts::new("SetReferencePrice")
            .put("symbol", names.symbol_name(*symbol))
            .put("price", price.map(|price| names.asked_price(*symbol, price))),
        Command::SetQuoteDriven { symbol, terms } => quote_driven("SetQuoteDriven", *symbol, *terms, names),
        Command::ReferenceQuote(quote) => Facts::new("ReferenceQuote")
            .put("symbol", names.symbol_name(quote.symbol))
            .put("bid", names.asked_price(quote.symbol, quote.bid))
            .put("ask", names.asked_price(quote.symbol, quote.ask))
            .put("source", quote.source.to_string())
            .put("outside_time", moment::text(quote.outside_time)),
        Command::SetCommissionTier { tier, rates } => Facts::new("SetCommissionTier")
            .put("tier", *tier)
            .put("maker_billionths", rates.maker.billionths())
            .put("taker_billionths", rates.taker.billionths()),
        Command::OpenAccount { uid } => Facts::new("OpenAccount").put("uid", uid.0),
        Command::ConfigureAccount { uid, settings: asked } => {
            Facts::new("ConfigureAccount").put("uid", uid.0).with(settings(asked))
        }
        // The secret stays where it is.
        Command::AddApiKey(key) => Facts::new("AddApiKey").put("uid", key.uid.0).put("api_key", key_text(&key.api_key)),
        Command::Access(asked) => access(asked),
        Command::Deposit(asked) => transfer("Deposit", asked, names),
        Command::Withdraw(asked) => transfer("Withdraw", asked, names),
        Command::BeginWithdrawal(asked) => transfer("BeginWithdrawal", asked, names),
        Command::EndWithdrawal { uid, external_id, completed } => Facts::new("EndWithdrawal")
            .put("uid", uid.0)
            .put("external_id", external_id.as_str())
            .put("completed", *completed),
        Command::PlaceOrder(place) => order_asked(place, names),
        Command::PlaceOrderList(list) => list_asked(list, names),
        Command::CancelOrder(cancel) => Facts::new("CancelOrder")
            .put("uid", cancel.uid.0)
            .put("symbol", names.symbol_name(cancel.symbol))
            .with(reference(&cancel.order)),
        Command::CancelOrderList(cancel) => Facts::new("CancelOrderList")
            .put("uid", cancel.uid.0)
            .put("symbol", names.symbol_name(cancel.symbol))
            .put_some("order_list_id", cancel.order_list_id.map(|id| id.0))
            .put_some("list_client_order_id", cancel.list_client_order_id.map(|id| id.to_string())),
        Command::CancelAllOrders { uid, symbol } => {
            Facts::new("CancelAllOrders").put("uid", uid.0).put("symbol", names.symbol_name(*symbol))
        }
        Command::CancelEverything { uid } => Facts::new("CancelEverything").put("uid", uid.0),
        Command::CancelReplace(both) => replace_asked(both, names),
        Command::AmendOrder(amend) => Facts::new("AmendOrder")
            .put("uid", amend.uid.0)
            .put("symbol", names.symbol_name(amend.symbol))
            .with(reference(&amend.order))
            .put("new_quantity", names.asked_quantity(amend.symbol, amend.new_quantity)),
        Command::ReduceOrder { uid, symbol, order, by } => Facts::new("ReduceOrder")
            .put("uid", uid.0)
            .put("symbol", names.symbol_name(*symbol))
            .with(reference(order))
            .put("by", names.asked_quantity(*symbol, *by)),
        Command::ReplaceOrder(replace) => Facts::new("ReplaceOrder")
            .put("uid", replace.uid.0)
            .put("symbol", names.symbol_name(replace.symbol))
            .with(reference(&replace.order))
            .put_some("price", replace.price.map(|price| names.asked_price(replace.symbol, price)))
            .put_some("quantity", replace.quantity.map(|quantity| names.asked_quantity(replace.symbol, quantity))),
        Command::SetCountdown { uid, symbol, milliseconds } => Facts::new("SetCountdown")
            .put("uid", uid.0)
            .put("symbol", names.symbol_name(*symbol))
            .put("milliseconds", *milliseconds),
        Command::Tick => Facts::new("Tick"),
        Command::Once(once) => match &once.placing {
            Placing::Order(place) => order_asked(place, names),
            Placing::OrderList(list) => list_asked(list, names),
            Placing::CancelReplace(both) => replace_asked(both, names),
        }
        .put("once", if once.answered { "a new use of the name" } else { "unless it is in already" }),
    }
}

fn order_asked(place: &PlaceOrder, names: &Names) -> Facts {
    Facts::new("PlaceOrder").with(placed(place, names))
}

fn list_asked(list: &PlaceOrderList, names: &Names) -> Facts {
    Facts::new("PlaceOrderList")
        .put("uid", list.uid.0)
        .put("symbol", names.symbol_name(list.symbol))
        .put("list_client_order_id", list.list_client_order_id.to_string())
        .put("contingency", contingency_word(list.kind))
        .put("orders", list.orders.iter().map(|place| placed(place, names).json()).collect::<Vec<_>>())
}

fn replace_asked(both: &CancelReplace, names: &Names) -> Facts {
    Facts::new("CancelReplace").put("cancel", reference(&both.cancel.order).json()).with(placed(&both.place, names))
}

/// What happened.
pub fn event(event: &Event, names: &Names) -> Facts {
    match event {
        Event::AssetAdded { added, .. } => {
            Facts::new("AssetAdded").put("name", added.name.as_str()).put("scale", added.scale)
        }
        Event::SymbolAdded(symbol) => of_symbol("SymbolAdded", symbol),
        Event::SymbolConfigured(symbol) => of_symbol("SymbolConfigured", symbol),
        Event::SymbolStatusChanged { symbol, status, cause } => Facts::new("SymbolStatusChanged")
            .put("symbol", names.symbol_name(*symbol))
            .put("status", symbol_status_word(*status))
            .put("cause", cause_word(*cause)),
        Event::ReferencePriceChanged { symbol, price } => Facts::new("ReferencePriceChanged")
            .put("symbol", names.symbol_name(*symbol))
            .put("price", price.map(|price| names.price(*symbol, price))),
        Event::ExchangeConfigured(_) => Facts::new("ExchangeConfigured"),
        Event::CommissionTierChanged { tier, .. } => Facts::new("CommissionTierChanged").put("tier", *tier),
        Event::AccountOpened { uid } => Facts::new("AccountOpened").put("uid", uid.0),
        Event::AccountConfigured { uid, settings: now } => {
            Facts::new("AccountConfigured").put("uid", uid.0).with(settings(now))
        }
        Event::ApiKeyAdded(key) => {
            Facts::new("ApiKeyAdded").put("uid", key.uid.0).put("api_key", key_text(&key.api_key))
        }
        Event::AccessChanged(change) => access_change(change),
        Event::Deposited(done) => transfer("Deposited", done, names),
        Event::Withdrawn(done) => transfer("Withdrawn", done, names),
        Event::WithdrawalBegun(done) => transfer("WithdrawalBegun", done, names),
        Event::WithdrawalAbandoned(done) => transfer("WithdrawalAbandoned", done, names),
        Event::TransferRepeated(done) => transfer("TransferRepeated", done, names),
        Event::OrderAccepted(now) => Facts::new("OrderAccepted").with(order(now, names)),
        Event::OrderTriggered(now) => Facts::new("OrderTriggered").with(order(now, names)),
        Event::Trade(trade) => Facts::new("Trade")
            .put("symbol", names.symbol_name(trade.symbol))
            .put("trade_id", trade.trade_id.0)
            .put("price", names.price(trade.symbol, trade.price))
            .put("quantity", names.quantity(trade.symbol, trade.quantity))
            .put("quote_amount", names.quote(trade.symbol, trade.quote_amount))
            .put("taker_side", side_word(trade.taker_side))
            .put("taker", fill(&trade.taker, names))
            .put("maker", fill(&trade.maker, names)),
        Event::TradePrevented(prevented) => Facts::new("TradePrevented")
            .put("symbol", names.symbol_name(prevented.symbol))
            .put("prevented_match_id", prevented.prevented_match_id.0)
            .put("price", names.price(prevented.symbol, prevented.price))
            .put("mode", self_trade_prevention_word(prevented.mode))
            .put("taker_order_id", prevented.taker_order_id.0)
            .put("taker_prevented", names.quantity(prevented.symbol, prevented.taker_prevented))
            .put("maker_order_id", prevented.maker_order_id.0)
            .put("maker_prevented", names.quantity(prevented.symbol, prevented.maker_prevented)),
        Event::OrderCanceled { order: now, .. } => Facts::new("OrderCanceled").with(order(now, names)),
        Event::OrderExpired { order: now, reason } => {
            Facts::new("OrderExpired").put("reason", reason_text(*reason)).with(order(now, names))
        }
        Event::OrderAmended { order: now, previous_quantity, .. } => Facts::new("OrderAmended")
            .put("previous_quantity", names.quantity(now.symbol, *previous_quantity))
            .with(order(now, names)),
        Event::OrderReplaced { symbol, order_id, uid, price, quantity } => Facts::new("OrderReplaced")
            .put("symbol", names.symbol_name(*symbol))
            .put("order_id", order_id.0)
            .put("uid", uid.0)
            .put("price", names.price(*symbol, *price))
            .put("quantity", names.quantity(*symbol, *quantity)),
        Event::OrderListChanged(list) => Facts::new("OrderListChanged").with(order_list(list, names)),
        Event::CancelReplaceDecided { cancel, place } => Facts::new("CancelReplaceDecided")
            .put("cancel", cancel.map_or_else(|| "done".to_owned(), |rejection| format!("{rejection:?}")))
            .put(
                "place",
                match place {
                    None => "not attempted".to_owned(),
                    Some(Ok(())) => "done".to_owned(),
                    Some(Err(rejection)) => format!("{rejection:?}"),
                },
            ),
        Event::CountdownSet { uid, symbol, at } => Facts::new("CountdownSet")
            .put("uid", uid.0)
            .put("symbol", names.symbol_name(*symbol))
            .put("at", at.map(moment::text)),
        Event::Rejected(rejection) => Facts::new("Rejected").put("reason", format!("{rejection:?}")),
        Event::OrderRepeated(first) => Facts::new("OrderRepeated")
            .put("uid", first.uid.0)
            .put("symbol", names.symbol_name(first.symbol))
            .put("first_sequence", first.sequence.0)
            .put("order_ids", first.orders.iter().map(|(order_id, _)| order_id.0).collect::<Vec<_>>()),
        Event::LevelChanged { symbol, side, price, quantity, update_id } => Facts::new("LevelChanged")
            .put("symbol", names.symbol_name(*symbol))
            .put("side", side_word(*side))
            .put("price", names.price(*symbol, *price))
            .put("quantity", names.quantity(*symbol, *quantity))
            .put("update_id", *update_id),
        Event::OrderCountChanged { uid, counts } => {
            Facts::new("OrderCountChanged").put("uid", uid.0).put("counts", json!(counts))
        }
        Event::BalanceChanged { uid, asset, free, locked } => {
            Facts::new("BalanceChanged").put("uid", uid.0).with(balance(*asset, *free, *locked, names))
        }
        Event::QuoteDrivenChanged { symbol, terms } => quote_driven("QuoteDrivenChanged", *symbol, *terms, names),
        Event::QuoteChanged(quote) => Facts::new("QuoteChanged")
            .put("symbol", names.symbol_name(quote.symbol))
            .put("bid", quote.bid.map(|bid| names.price(quote.symbol, bid)))
            .put("ask", names.price(quote.symbol, quote.ask))
            .put("source", quote.source.to_string())
            .put("outside_time", moment::text(quote.outside_time)),
        Event::QuoteStale { symbol } => Facts::new("QuoteStale").put("symbol", names.symbol_name(*symbol)),
    }
}

/// How a symbol is quote-driven.
fn quote_driven(kind: &'static str, symbol: SymbolId, terms: Option<QuoteTerms>, names: &Names) -> Facts {
    let facts = Facts::new(kind).put("symbol", names.symbol_name(symbol)).put("on", terms.is_some());
    let Some(QuoteTerms { house, spread, stale_after_ms, max_exposure }) = terms else { return facts };
    facts
        .put("house", house.0)
        .put("spread_hundred_millionths", spread.0)
        .put("stale_after_ms", stale_after_ms)
        .put("max_exposure", max_exposure.0.to_string())
}

/// A balance.
pub fn balance(asset: AssetId, free: Amount, locked: Amount, names: &Names) -> Facts {
    Facts::new("")
        .put("asset", names.asset_name(asset))
        .put("free", names.amount(asset, free))
        .put("locked", names.amount(asset, locked))
}

type Pair = (Amount, Amount);

/// A balance before and after, as far as it moved.
pub fn balance_text(asset: AssetId, free: Pair, locked: Pair, names: &Names) -> String {
    let mut words = Vec::new();
    for (name, (before, after)) in [("free", free), ("locked", locked)] {
        if before != after {
            words.push(format!("{name} {} -> {}", names.amount(asset, before), names.amount(asset, after)));
        }
    }
    format!("{}: {}", names.asset_name(asset), words.join(", "))
}

/// Why an order ended by a rule.
pub fn reason_text(reason: ExpiryReason) -> String {
    match reason {
        ExpiryReason::Rejected(rejection) => format!("REJECTED: {rejection:?}"),
        ExpiryReason::SelfTradePrevention => "SELF_TRADE_PREVENTION".to_owned(),
        other => expiry_reason_word(other).map_or_else(|| format!("{other:?}"), str::to_owned),
    }
}

/// An order as it stands.
pub fn order(order: &Order, names: &Names) -> Facts {
    let symbol = order.symbol;
    let some = |amount: Amount| (!amount.is_zero()).then_some(amount);
    let facts = Facts::new("")
        .put("symbol", names.symbol_name(symbol))
        .put("order_id", order.order_id.0)
        .put("uid", order.uid.0)
        .put("client_order_id", order.client_order_id.to_string())
        .put("side", side_word(order.side))
        .put("type", type_word(order.order_type))
        .put("time_in_force", time_in_force_word(order.time_in_force))
        .put("price", names.price(symbol, order.price))
        .put("quantity", names.quantity(symbol, order.quantity))
        .put_some("quote_order_quantity", some(order.quote_order_quantity).map(|amount| names.quote(symbol, amount)))
        .put("executed", names.quantity(symbol, order.executed))
        .put("cumulative_quote", names.quote(symbol, order.cumulative_quote))
        .put("status", status_word(order.status))
        .put("self_trade_prevention", self_trade_prevention_word(order.self_trade_prevention))
        .put("created_at", moment::text(order.created_at))
        .put("updated_at", moment::text(order.updated_at));
    let Some(special) = &order.special else { return facts };
    let prevented = (!special.prevented.is_zero()).then_some(special.prevented);
    let quantity = |quantity: Quantity| names.quantity(symbol, quantity);
    facts
        .put_some("stop_price", special.stop_price.map(|price| names.price(symbol, price)))
        .put_some("trailing_delta", special.trailing_delta)
        .put_some("working_at", special.working_at.map(moment::text))
        .put_some("iceberg_quantity", special.iceberg_quantity.map(quantity))
        .put_some("prevented", prevented.map(quantity))
        .put_some("peg", special.peg.map(|peg| format!("{}+{}", peg_word(peg.price), peg.offset)))
        .put_some("strategy_id", special.strategy_id)
        .put_some("order_list_id", special.order_list_id.map(|id| id.0))
        .put_some("amends", (special.amends > 0).then_some(special.amends))
}

/// A list and its orders.
pub fn order_list(list: &OrderList, names: &Names) -> Facts {
    Facts::new("")
        .put("symbol", names.symbol_name(list.symbol))
        .put("order_list_id", list.order_list_id.0)
        .put("uid", list.uid.0)
        .put("list_client_order_id", list.list_client_order_id.to_string())
        .put("contingency", contingency_word(list.kind))
        .put("list_status", list_status_words(list.status).0)
        .put("orders", list.orders.iter().map(|(order_id, _)| Value::from(order_id.0)).collect::<Vec<_>>())
}

/// How an account is treated.
pub fn settings(settings: &AccountSettings) -> Facts {
    Facts::new("")
        .put("can_trade", settings.can_trade)
        .put("can_withdraw", settings.can_withdraw)
        .put("can_deposit", settings.can_deposit)
        .put("trade_group", settings.trade_group.map(|group| group.0))
        .put("require_self_trade_prevention", settings.require_self_trade_prevention)
        .put("commission_tier", settings.commission_tier)
        .put("discount", settings.discount)
}

fn of_symbol(kind: &'static str, symbol: &Symbol) -> Facts {
    Facts::new(kind).put("symbol", symbol.config.name.as_str()).put("status", symbol_status_word(symbol.status))
}

fn transfer(kind: &'static str, transfer: &Transfer, names: &Names) -> Facts {
    Facts::new(kind)
        .put("uid", transfer.uid.0)
        .put("asset", names.asset_name(transfer.asset))
        .put("amount", names.amount(transfer.asset, transfer.amount))
        .put("external_id", transfer.external_id.as_str())
}

fn reference(order: &OrderReference) -> Facts {
    Facts::new("")
        .put_some("order_id", order.order_id.map(|id| id.0))
        .put_some("client_order_id", order.client_order_id.map(|id| id.to_string()))
}

fn placed(place: &PlaceOrder, names: &Names) -> Facts {
    let symbol: SymbolId = place.symbol;
    let uid: Uid = place.uid;
    let facts = Facts::new("")
        .put("uid", uid.0)
        .put("symbol", names.symbol_name(symbol))
        .put("client_order_id", place.client_order_id.to_string())
        .put("side", side_word(place.side))
        .put("type", type_word(place.order_type))
        .put("time_in_force", time_in_force_word(place.time_in_force))
        .put_some("price", (!place.price.is_zero()).then(|| names.asked_price(symbol, place.price)));
    let facts = match place.quantity {
        OrderQuantity::Base(amount) => facts.put("quantity", names.asked_quantity(symbol, amount)),
        OrderQuantity::Quote(amount) => facts.put("quote_order_quantity", names.quote(symbol, amount)),
        OrderQuantity::Proceeds => facts.put("quantity", "proceeds"),
    };
    let facts = facts.put_some("self_trade_prevention", place.self_trade_prevention.map(self_trade_prevention_word));
    let Some(special) = &place.special else { return facts };
    facts
        .put_some("stop_price", special.stop_price.map(|price| names.asked_price(symbol, price)))
        .put_some("trailing_delta", special.trailing_delta)
        .put_some("iceberg_quantity", special.iceberg_quantity.map(|part| names.asked_quantity(symbol, part)))
        .put_some("peg", special.peg.map(|peg| format!("{}+{}", peg_word(peg.price), peg.offset)))
        .put_some("strategy_id", special.strategy_id)
}

fn fill(fill: &Fill, names: &Names) -> Value {
    json!({
        "order_id": fill.order_id.0,
        "uid": fill.uid.0,
        "fee": names.amount(fill.fee_asset, fill.fee),
        "fee_asset": names.asset_name(fill.fee_asset),
        "status": status_word(fill.status),
    })
}

/// The begin of an API key: enough to know it by.
pub fn key_text(api_key: &str) -> String {
    let begin: String = api_key.chars().take(6).collect();
    format!("{begin}…")
}

fn access(asked: &Access) -> Facts {
    match asked {
        Access::ConfigureApiKey { api_key, permissions, rules } => Facts::new("ConfigureApiKey")
            .put("api_key", key_text(api_key))
            .put("permissions", format!("{permissions:?}"))
            .put("is_enabled", rules.is_enabled)
            .put("allowed_ranges", rules.allowed.len()),
        Access::RemoveApiKey { api_key } => Facts::new("RemoveApiKey").put("api_key", key_text(api_key)),
        Access::SetUser(terms) => Facts::new("SetUser").with(user(terms)),
        Access::EndSessions { name, session } => {
            Facts::new("EndSessions").put("name", name.as_str()).put("all", session.is_none())
        }
        Access::RemoveUser { name } => Facts::new("RemoveUser").put("name", name.as_str()),
        Access::Note(said) => Facts::new("Note").with(note(said)),
    }
}

fn access_change(change: &AccessChange) -> Facts {
    match change {
        AccessChange::ApiKeyConfigured { key, .. } => {
            Facts::new("ApiKeyConfigured").put("uid", key.uid.0).put("api_key", key_text(&key.api_key))
        }
        AccessChange::ApiKeyRemoved { uid, api_key } => {
            Facts::new("ApiKeyRemoved").put("uid", uid.0).put("api_key", key_text(api_key))
        }
        AccessChange::UserChanged(changed) => Facts::new("UserChanged").with(user(&changed.terms)),
        AccessChange::UserRemoved { name } => Facts::new("UserRemoved").put("name", name.as_str()),
        AccessChange::Noted(said) => Facts::new("Noted").with(note(said)),
    }
}

/// Hash and secret stay where they are.
fn user(terms: &UserTerms) -> Facts {
    Facts::new("user")
        .put("name", terms.name.as_str())
        .put_some("uid", terms.uid.map(|uid| uid.0))
        .put("role", format!("{:?}", terms.role))
        .put("is_enabled", terms.is_enabled)
}

fn note(said: &Note) -> Facts {
    Facts::new("note")
        .put("operator", said.operator.as_str())
        .put("origin", said.origin.as_str())
        .put("action", said.action.as_str())
        .put("reason", said.reason.as_str())
}

/// Who changed a symbol's status.
fn cause_word(cause: StatusCause) -> String {
    match cause {
        StatusCause::Operator => "operator".to_owned(),
        StatusCause::CircuitBreaker { until: Some(until) } => format!("circuit breaker until {}", moment::text(until)),
        StatusCause::CircuitBreaker { until: None } => "circuit breaker".to_owned(),
        StatusCause::CircuitBreakerEnded => "end of the circuit breaker's halt".to_owned(),
    }
}
