//! The JSON shapes that several handlers share, and the words of the API. Names, kinds and order of fields are those of
//! rest-api.md.

use engine::command::OrderListKind;
use engine::commission::{CommissionRates, FeeRate};
use engine::event::{ExpiryReason, OrderList, OrderListStatus, Trade};
use engine::order::{ClientOrderId, Order, OrderStatus, OrderType, PegPrice, SelfTradePrevention, Side, TimeInForce};
use engine::symbol::{Symbol, SymbolStatus};
use engine::{Amount, OrderId, Price, Quantity, Rejection, Sequence, SymbolId, Time};
use journal::{KnownOrder, list_number};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::decimals::{Decimals, push_amount};
use crate::views::Catalog;
use crate::ws::hub::TimeUnit;

/// What an order outside any list says of its list, and an order that does not work of its working time.
pub const NONE: i64 = -1;
/// Billionths: the decimals of a fee rate.
const FEE_RATE_SCALE: u8 = 9;

/// `text` of a side, and back.
pub fn side_word(side: Side) -> &'static str {
    match side {
        Side::Buy => "BUY",
        Side::Sell => "SELL",
    }
}

/// The side that the word means.
pub fn parse_side(word: &str) -> Option<Side> {
    match word {
        "BUY" => Some(Side::Buy),
        "SELL" => Some(Side::Sell),
        _ => None,
    }
}

/// The word for an order type.
pub fn type_word(order_type: OrderType) -> &'static str {
    match order_type {
        OrderType::Limit => "LIMIT",
        OrderType::Market => "MARKET",
        OrderType::LimitMaker => "LIMIT_MAKER",
        OrderType::StopLoss => "STOP_LOSS",
        OrderType::StopLossLimit => "STOP_LOSS_LIMIT",
        OrderType::TakeProfit => "TAKE_PROFIT",
        OrderType::TakeProfitLimit => "TAKE_PROFIT_LIMIT",
    }
}

/// All order types, in the order of their words.
pub const ORDER_TYPES: [OrderType; 7] = [
    OrderType::Limit,
    OrderType::LimitMaker,
    OrderType::Market,
    OrderType::StopLoss,
    OrderType::StopLossLimit,
    OrderType::TakeProfit,
    OrderType::TakeProfitLimit,
];

/// The order type that the word means.
pub fn parse_type(word: &str) -> Option<OrderType> {
    ORDER_TYPES.into_iter().find(|order_type| type_word(*order_type) == word)
}

/// The word for a self-trade prevention.
pub fn self_trade_prevention_word(mode: SelfTradePrevention) -> &'static str {
    match mode {
        SelfTradePrevention::None => "NONE",
        SelfTradePrevention::ExpireTaker => "EXPIRE_TAKER",
        SelfTradePrevention::ExpireMaker => "EXPIRE_MAKER",
        SelfTradePrevention::ExpireBoth => "EXPIRE_BOTH",
        SelfTradePrevention::Decrement => "DECREMENT",
        SelfTradePrevention::Transfer => "TRANSFER",
    }
}

/// The self-trade prevention that the word means.
pub fn parse_self_trade_prevention(word: &str) -> Option<SelfTradePrevention> {
    use SelfTradePrevention::{Decrement, ExpireBoth, ExpireMaker, ExpireTaker, None, Transfer};
    let all = [None, ExpireTaker, ExpireMaker, ExpireBoth, Decrement, Transfer];
    all.into_iter().find(|mode| self_trade_prevention_word(*mode) == word)
}

/// The word for where a pegged price comes from.
pub fn peg_word(price: PegPrice) -> &'static str {
    match price {
        PegPrice::Primary => "PRIMARY_PEG",
        PegPrice::Market => "MARKET_PEG",
    }
}

/// Where a pegged price comes from, as the word says.
pub fn parse_peg(word: &str) -> Option<PegPrice> {
    [PegPrice::Primary, PegPrice::Market].into_iter().find(|price| peg_word(*price) == word)
}

/// The word for how the orders of a list depend on each other; one that triggers a pair triggers, too.
pub fn contingency_word(kind: OrderListKind) -> &'static str {
    match kind {
        OrderListKind::OneCancelsOther => "OCO",
        OrderListKind::OneTriggersOther | OrderListKind::OneTriggersOneCancelsOther => "OTO",
    }
}

/// The words for how far a list is: its own, and its orders'.
pub fn list_status_words(status: OrderListStatus) -> (&'static str, &'static str) {
    match status {
        OrderListStatus::ExecutionStarted => ("EXEC_STARTED", "EXECUTING"),
        OrderListStatus::Updated => ("UPDATED", "EXECUTING"),
        OrderListStatus::AllDone => ("ALL_DONE", "ALL_DONE"),
    }
}

/// The name of a cancel. What canceled without one, such as all orders at once, has the order's own in the log; then one is made of
/// the command's sequence, the same for all it canceled and wherever it is told of (rest-api.md, "Cancel All Open Orders").
pub fn cancel_name(order: &Order, cancel: ClientOrderId, sequence: Sequence) -> ClientOrderId {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const LENGTH: usize = 22;
    if cancel != order.client_order_id {
        return cancel;
    }
    let mixed = Sha256::digest(sequence.0.to_be_bytes());
    let name: String = mixed.iter().take(LENGTH).map(|byte| char::from(LETTERS[usize::from(*byte) % 62])).collect();
    ClientOrderId::new(&name).unwrap_or(cancel)
}

/// The public number of the list that an order belongs to.
pub fn list_number_of(order: &Order) -> i64 {
    order.order_list_id().map_or(NONE, |id| list_number(order.symbol, id) as i64)
}

/// Why an order was refused when it came to the book (user-data-stream.md, "Order Reject Reason").
pub fn reject_reason_word(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::InsufficientBalance => "INSUFFICIENT_BALANCES",
        Rejection::WouldTriggerImmediately => "STOP_PRICE_WOULD_TRIGGER_IMMEDIATELY",
        Rejection::WouldMatchImmediately => "WOULD_MATCH_IMMEDIATELY",
        Rejection::OcoPrices => "OCO_BAD_PRICES",
        _ => "NONE",
    }
}

/// The word for a time in force.
pub fn time_in_force_word(time_in_force: TimeInForce) -> &'static str {
    match time_in_force {
        TimeInForce::Gtc => "GTC",
        TimeInForce::Ioc => "IOC",
        TimeInForce::Fok => "FOK",
    }
}

/// The time in force that the word means.
pub fn parse_time_in_force(word: &str) -> Option<TimeInForce> {
    match word {
        "GTC" => Some(TimeInForce::Gtc),
        "IOC" => Some(TimeInForce::Ioc),
        "FOK" => Some(TimeInForce::Fok),
        _ => None,
    }
}

/// The word for an order's status.
pub fn status_word(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::New => "NEW",
        OrderStatus::PendingNew => "PENDING_NEW",
        OrderStatus::PartiallyFilled => "PARTIALLY_FILLED",
        OrderStatus::Filled => "FILLED",
        OrderStatus::Canceled => "CANCELED",
        OrderStatus::Expired => "EXPIRED",
        OrderStatus::ExpiredInMatch => "EXPIRED_IN_MATCH",
    }
}

/// The word for why an order expired. What self-trade prevention ended has none: its status says so.
pub fn expiry_reason_word(reason: ExpiryReason) -> Option<&'static str> {
    Some(match reason {
        ExpiryReason::UnfilledIocQuantity => "UNFILLED_IOC_QUANTITY_EXPIRED",
        ExpiryReason::UnfilledFok => "UNFILLED_FOK_ORDER_EXPIRED",
        ExpiryReason::InsufficientLiquidity => "INSUFFICIENT_LIQUIDITY",
        ExpiryReason::PriceRangeExceeded => "EXECUTION_RULE_PRICE_RANGE_EXCEEDED",
        ExpiryReason::OcoTrigger => "OCO_TRIGGER",
        ExpiryReason::OtoPhaseOne => "OTO_PHASE_ONE_EXPIRED",
        ExpiryReason::Rejected(_) => "REJECTED",
        ExpiryReason::SelfTradePrevention => return None,
    })
}

/// The word for a symbol's status.
pub fn symbol_status_word(status: SymbolStatus) -> &'static str {
    match status {
        SymbolStatus::Trading => "TRADING",
        SymbolStatus::EndOfDay => "END_OF_DAY",
        SymbolStatus::Halt => "HALT",
        SymbolStatus::Break => "BREAK",
        SymbolStatus::CancelOnly => "CANCEL_ONLY",
    }
}

/// An amount as decimal text.
pub fn amount_text(amount: Amount, scale: u8) -> String {
    let mut text = String::new();
    push_amount(&mut text, amount, scale);
    text
}

/// A fee rate as a fraction with eight decimals, or nine where it needs them.
pub fn rate_text(rate: FeeRate) -> String {
    let mut text = amount_text(Amount(rate.billionths().into()), FEE_RATE_SCALE);
    if text.ends_with('0') {
        text.pop();
    }
    text
}

/// The four rates of one kind of commission.
pub fn commission_rates(rates: &CommissionRates) -> Value {
    json!({
        "maker": rate_text(rates.maker),
        "taker": rate_text(rates.taker),
        "buyer": rate_text(rates.buyer),
        "seller": rate_text(rates.seller),
    })
}

/// One symbol's way of writing numbers.
#[derive(Clone, Copy)]
pub struct Numbers<'a> {
    /// The symbol.
    pub symbol: &'a Symbol,
    catalog: &'a Catalog,
    decimals: Decimals,
    unit: TimeUnit,
}

impl<'a> Numbers<'a> {
    /// Of a symbol of the catalog, with times in `unit`.
    pub fn new(symbol: &'a Symbol, catalog: &'a Catalog, unit: TimeUnit) -> Numbers<'a> {
        Numbers { symbol, catalog, decimals: Decimals::new(symbol, catalog), unit }
    }

    /// Decimals of the base asset.
    pub fn base_scale(&self) -> u8 {
        self.decimals.base
    }

    /// Decimals of the quote asset.
    pub fn quote_scale(&self) -> u8 {
        self.decimals.quote
    }

    /// A price.
    pub fn price(&self, price: Price) -> String {
        let mut text = String::new();
        self.decimals.push_price(&mut text, price);
        text
    }

    /// A quantity.
    pub fn quantity(&self, quantity: Quantity) -> String {
        let mut text = String::new();
        self.decimals.push_quantity(&mut text, quantity);
        text
    }

    /// An amount of quote.
    pub fn quote(&self, amount: Amount) -> String {
        amount_text(amount, self.decimals.quote)
    }

    /// An amount of base.
    pub fn base(&self, amount: Amount) -> String {
        amount_text(amount, self.decimals.base)
    }

    /// A time.
    pub fn time(&self, time: engine::Time) -> u64 {
        self.unit.of(time)
    }

    fn asset_name(&self, asset: engine::AssetId) -> &'a str {
        self.catalog.assets.get(asset.0 as usize).map_or("", |asset| &asset.name)
    }

    /// What the taker of a trade is told of it.
    pub fn fill(&self, trade: &Trade) -> FillShape<'a> {
        let (commission, commission_asset) = self.commission(trade.taker.fee, trade.taker.fee_asset);
        FillShape {
            price: self.price(trade.price),
            qty: self.quantity(trade.quantity),
            commission,
            commission_asset,
            trade_id: trade.trade_id.0,
        }
    }

    /// A commission with its asset's name.
    pub fn commission(&self, fee: Amount, asset: engine::AssetId) -> (String, &'a str) {
        let scale = self.catalog.assets.get(asset.0 as usize).map_or(0, |asset| asset.scale);
        (amount_text(fee, scale), self.asset_name(asset))
    }

    /// An order as queries show it.
    pub fn order(&self, known: &KnownOrder) -> OrderShape<'a> {
        let order = &known.order;
        let mut terms = self.terms(known);
        terms.working_time = Some(self.working_time(order));
        let conditional = &mut terms.conditional;
        conditional.stop_price.get_or_insert_with(|| self.price(Price(0)));
        conditional.iceberg_qty.get_or_insert_with(|| self.quantity(Quantity::ZERO));
        OrderShape {
            symbol: &self.symbol.config.name,
            order_id: order.order_id.0,
            order_list_id: list_number_of(order),
            client_order_id: order.client_order_id,
            terms,
            time: self.time(order.created_at),
            update_time: self.time(order.updated_at),
            is_working: order.working_at().is_some(),
        }
    }

    /// What every answer about an order says of it.
    fn terms(&self, known: &KnownOrder) -> TermsShape {
        let order = &known.order;
        TermsShape {
            price: self.price(order.price),
            orig_qty: self.quantity(order.quantity),
            executed_qty: self.quantity(order.executed),
            orig_quote_order_qty: self.quote(order.quote_order_quantity),
            cummulative_quote_qty: self.quote(order.cumulative_quote),
            status: status_word(order.status),
            time_in_force: time_in_force_word(order.time_in_force),
            order_type: type_word(order.order_type),
            side: side_word(order.side),
            working_time: None,
            self_trade_prevention_mode: self_trade_prevention_word(order.self_trade_prevention),
            conditional: self.conditional(known),
            expiry_reason: known.expiry.and_then(expiry_reason_word),
        }
    }

    /// When the order came to the book.
    fn working_time(&self, order: &Order) -> i64 {
        order.working_at().map_or(NONE, |time| self.time(time) as i64)
    }

    /// What only some orders have.
    fn conditional(&self, known: &KnownOrder) -> ConditionalShape {
        let Some(special) = &known.order.special else { return ConditionalShape::default() };
        let prevented = (!special.prevented.is_zero()).then_some(special.prevented);
        let trails = special.trailing_delta.is_some();
        let priced = special.peg.is_some() && known.order.price != Price(0);
        ConditionalShape {
            stop_price: special.stop_price.map(|price| self.price(price)),
            iceberg_qty: special.iceberg_quantity.map(|quantity| self.quantity(quantity)),
            trailing_delta: special.trailing_delta,
            trailing_time: trails.then(|| special.trailing.map_or(NONE, |(_, since)| self.time(since) as i64)),
            strategy_id: special.strategy_id,
            strategy_type: special.strategy_type,
            prevented_match_id: known.prevented_match.map(|id| id.0),
            prevented_quantity: prevented.map(|quantity| self.quantity(quantity)),
            peg_price_type: special.peg.map(|peg| peg_word(peg.price)),
            peg_offset_type: special.peg.filter(|peg| peg.offset > 0).map(|_| PEG_OFFSET_TYPE),
            peg_offset_value: special.peg.filter(|peg| peg.offset > 0).map(|peg| peg.offset),
            pegged_price: priced.then(|| self.price(known.order.price)),
        }
    }

    /// The answer to a new order, with as much of the result and the fills as the client asked for.
    pub fn placed(&self, known: &KnownOrder, response: ResponseType, fills: &[Trade]) -> PlacedShape<'a> {
        let order = &known.order;
        let result = || TermsShape { working_time: Some(self.working_time(order)), ..self.terms(known) };
        PlacedShape {
            symbol: &self.symbol.config.name,
            order_id: order.order_id.0,
            order_list_id: list_number_of(order),
            client_order_id: order.client_order_id,
            transact_time: self.time(order.updated_at),
            result: (response >= ResponseType::Result).then(result),
            fills: (response == ResponseType::Full).then(|| fills.iter().map(|trade| self.fill(trade)).collect()),
        }
    }

    /// The answer to a cancel of `order` under the name `cancel_id`, see [`cancel_name`].
    pub fn canceled(&self, order: &Order, cancel_id: ClientOrderId) -> CanceledShape<'a> {
        CanceledShape {
            symbol: &self.symbol.config.name,
            orig_client_order_id: order.client_order_id,
            order_id: order.order_id.0,
            order_list_id: list_number_of(order),
            client_order_id: cancel_id,
            transact_time: self.time(order.updated_at),
            result: self.terms(&order.clone().into()),
        }
    }

    /// The answer to an amend.
    pub fn amended(&self, known: &KnownOrder, previous: ClientOrderId) -> AmendedShape<'a> {
        let order = &known.order;
        AmendedShape {
            symbol: &self.symbol.config.name,
            order_id: order.order_id.0,
            order_list_id: list_number_of(order),
            orig_client_order_id: previous,
            client_order_id: order.client_order_id,
            price: self.price(order.price),
            qty: self.quantity(order.quantity),
            executed_qty: self.quantity(order.executed),
            prevented_qty: self.quantity(order.prevented()),
            quote_order_qty: self.quote(order.quote_order_quantity),
            cumulative_quote_qty: self.quote(order.cumulative_quote),
            status: status_word(order.status),
            time_in_force: time_in_force_word(order.time_in_force),
            order_type: type_word(order.order_type),
            side: side_word(order.side),
            working_time: order.working_at().map(|time| self.time(time)),
            self_trade_prevention_mode: self_trade_prevention_word(order.self_trade_prevention),
            conditional: self.conditional(known),
        }
    }

    /// A list as it is at `time`, without its orders' reports.
    pub fn list<R>(&self, list: &OrderList, time: Time) -> ListShape<'a, R> {
        let (status_type, order_status) = list_status_words(list.status);
        ListShape {
            order_list_id: list_number(list.symbol, list.order_list_id),
            contingency_type: contingency_word(list.kind),
            list_status_type: Some(status_type),
            list_order_status: order_status,
            list_client_order_id: list.list_client_order_id,
            transaction_time: Some(self.time(time)),
            symbol: &self.symbol.config.name,
            orders: list.orders.iter().map(|order| self.list_order(order)).collect(),
            order_reports: None,
        }
    }

    fn list_order(&self, &(order_id, client_order_id): &(OrderId, ClientOrderId)) -> ListOrderShape<'a> {
        ListOrderShape { symbol: &self.symbol.config.name, order_id: order_id.0, client_order_id }
    }
}

/// The numbers of a symbol of the catalog.
pub fn numbers_of(catalog: &Catalog, symbol: SymbolId, unit: TimeUnit) -> Numbers<'_> {
    Numbers::new(&catalog.symbols[symbol.0 as usize], catalog, unit)
}

/// The one way to count how deep a peg looks.
pub const PEG_OFFSET_TYPE: &str = "PRICE_LEVEL";

/// How much the answer to a new order says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResponseType {
    /// That it is in.
    Ack,
    /// What became of it.
    Result,
    /// And how it was filled.
    Full,
}

/// The response type that the word means.
pub fn parse_response_type(word: &str) -> Option<ResponseType> {
    match word {
        "ACK" => Some(ResponseType::Ack),
        "RESULT" => Some(ResponseType::Result),
        "FULL" => Some(ResponseType::Full),
        _ => None,
    }
}

/// An order in a query's answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of rest-api.md, \"Query order\"")]
pub struct OrderShape<'a> {
    pub symbol: &'a str,
    pub order_id: u64,
    pub order_list_id: i64,
    pub client_order_id: ClientOrderId,
    #[serde(flatten)]
    pub terms: TermsShape,
    pub time: u64,
    pub update_time: u64,
    pub is_working: bool,
}

/// What every answer about an order says of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of rest-api.md, \"New order\"")]
pub struct TermsShape {
    pub price: String,
    pub orig_qty: String,
    pub executed_qty: String,
    pub orig_quote_order_qty: String,
    pub cummulative_quote_qty: String,
    pub status: &'static str,
    pub time_in_force: &'static str,
    #[serde(rename = "type")]
    pub order_type: &'static str,
    pub side: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_time: Option<i64>,
    pub self_trade_prevention_mode: &'static str,
    #[serde(flatten)]
    pub conditional: ConditionalShape,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry_reason: Option<&'static str>,
}

/// What only some orders have.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of rest-api.md, \"Conditional fields in Order Responses\"")]
pub struct ConditionalShape {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_price: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iceberg_qty: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trailing_delta: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trailing_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy_type: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prevented_match_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prevented_quantity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peg_price_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peg_offset_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peg_offset_value: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pegged_price: Option<String>,
}

/// The answer to a new order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of rest-api.md, \"New order\"")]
pub struct PlacedShape<'a> {
    pub symbol: &'a str,
    pub order_id: u64,
    pub order_list_id: i64,
    pub client_order_id: ClientOrderId,
    pub transact_time: u64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub result: Option<TermsShape>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fills: Option<Vec<FillShape<'a>>>,
}

/// One fill in the answer to a new order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of rest-api.md, \"New order\"")]
pub struct FillShape<'a> {
    pub price: String,
    pub qty: String,
    pub commission: String,
    pub commission_asset: &'a str,
    pub trade_id: u64,
}

/// The answer to a cancel.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of rest-api.md, \"Cancel order\"")]
pub struct CanceledShape<'a> {
    pub symbol: &'a str,
    pub orig_client_order_id: ClientOrderId,
    pub order_id: u64,
    pub order_list_id: i64,
    pub client_order_id: ClientOrderId,
    pub transact_time: u64,
    #[serde(flatten)]
    pub result: TermsShape,
}

/// An order after an amend; some of its words are of the amend alone.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of rest-api.md, \"Order Amend Keep Priority\"")]
pub struct AmendedShape<'a> {
    pub symbol: &'a str,
    pub order_id: u64,
    pub order_list_id: i64,
    pub orig_client_order_id: ClientOrderId,
    pub client_order_id: ClientOrderId,
    pub price: String,
    pub qty: String,
    pub executed_qty: String,
    pub prevented_qty: String,
    pub quote_order_qty: String,
    pub cumulative_quote_qty: String,
    pub status: &'static str,
    pub time_in_force: &'static str,
    #[serde(rename = "type")]
    pub order_type: &'static str,
    pub side: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_time: Option<u64>,
    pub self_trade_prevention_mode: &'static str,
    #[serde(flatten)]
    pub conditional: ConditionalShape,
}

/// An order list, with reports of its orders where it was placed or canceled.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of rest-api.md, \"Order lists\"")]
pub struct ListShape<'a, R> {
    pub order_list_id: u64,
    pub contingency_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list_status_type: Option<&'static str>,
    pub list_order_status: &'static str,
    pub list_client_order_id: ClientOrderId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction_time: Option<u64>,
    pub symbol: &'a str,
    pub orders: Vec<ListOrderShape<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_reports: Option<Vec<R>>,
}

/// An order of a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of rest-api.md, \"Order lists\"")]
pub struct ListOrderShape<'a> {
    pub symbol: &'a str,
    pub order_id: u64,
    pub client_order_id: ClientOrderId,
}
