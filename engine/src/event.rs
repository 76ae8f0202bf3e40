//! What can happen. Events are all that anyone outside ever learns of the engine.
//!
//! The order of the events of one command is part of the contract:
//!
//! 1. What the command itself did. A new order: `OrderAccepted`; then as a taker, for each price level it met, the `Trade`s,
//!    `TradePrevented`s and what they ended in price-time order and the level's `LevelChanged`; then `OrderExpired` or, where
//!    it rests in the book, one more `LevelChanged`. A cancel or amend: the order's event, then its level's, if it stood in
//!    the book. A list: `OrderListChanged`, then `OrderAccepted` for each order, then what its working order does.
//! 2. What that set off, each thing whole before the next: first what the trades and ends of the walk did to order lists, in
//!    their order; then the stops that its prices triggered, oldest first: `OrderTriggered`, then as a taker or resting as
//!    above; and so on with what these set off.
//!    In a quote-driven symbol a walk begins with the `OrderAccepted` of the house's own order, and there are no levels of
//!    orders; behind all else the levels of the house, where they changed.
//! 3. A `SymbolStatusChanged` where the circuit breaker tripped.
//! 4. One `OrderCountChanged` for each account whose counts changed, if counts are limited.
//! 5. One `BalanceChanged` for each balance that moved, in the order of their first move.

use serde::{Deserialize, Serialize};

use crate::access::AccessChange;
use crate::command::{AccountSettings, AddAsset, ApiKey, ExchangeLimits, OrderListKind, Transfer};
use crate::commission::CommissionRates;
use crate::order::{ClientOrderId, Order, OrderStatus, SelfTradePrevention, Side};
use crate::quotes::QuoteTerms;
use crate::symbol::{Symbol, SymbolStatus};
use crate::units::{
    Amount, AssetId, OrderId, OrderListId, PreventedMatchId, Price, Quantity, Sequence, SymbolId, Time, TradeGroup,
    TradeId, Uid,
};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// An asset is listed.
    AssetAdded {
        /// Its number.
        asset: AssetId,
        /// Its name and scale.
        added: AddAsset,
    },
    /// A symbol is listed.
    SymbolAdded(Box<Symbol>),
    /// A symbol has other filters, fees or rules.
    SymbolConfigured(Box<Symbol>),
    /// A symbol was halted, resumed or restricted.
    SymbolStatusChanged {
        /// Which one.
        symbol: SymbolId,
        /// What it is now.
        status: SymbolStatus,
        /// Who did it.
        cause: StatusCause,
    },
    /// An operator said what a symbol is worth, or no longer says it.
    ReferencePriceChanged {
        /// Which one.
        symbol: SymbolId,
        /// The price.
        price: Option<Price>,
    },
    /// The limits over all symbols are these.
    ExchangeConfigured(Box<ExchangeLimits>),
    /// A commission tier pays this.
    CommissionTierChanged {
        /// Which one.
        tier: u16,
        /// What it pays.
        rates: CommissionRates,
    },
    /// An account is open.
    AccountOpened {
        /// Its owner.
        uid: Uid,
    },
    /// An account is treated so from now on.
    AccountConfigured {
        /// Its owner.
        uid: Uid,
        /// What holds.
        settings: AccountSettings,
    },
    /// A key works from now on.
    ApiKeyAdded(Box<ApiKey>),
    /// A key or a user changed, or an operator said who asks.
    AccessChanged(Box<AccessChange>),
    /// An asset came in.
    Deposited(Box<Transfer>),
    /// An asset went out.
    Withdrawn(Box<Transfer>),
    /// An asset is locked for a withdrawal.
    WithdrawalBegun(Box<Transfer>),
    /// A withdrawal did not leave: what it locked is free again.
    WithdrawalAbandoned(Box<Transfer>),
    /// This transfer had taken effect before; nothing changed.
    TransferRepeated(Box<Transfer>),
    /// An order is in, as it was before it met the book.
    OrderAccepted(Order),
    /// An order that waited came to the book, as it was before it met it: a stop whose price came, or a pending order.
    OrderTriggered(Order),
    /// A taker met a maker.
    Trade(Trade),
    /// A taker met a maker that it must not trade with.
    TradePrevented(PreventedMatch),
    /// An order was taken off the book by its owner; as it ended.
    OrderCanceled {
        /// The order with its final state.
        order: Order,
        /// The name of the cancel.
        cancel_client_order_id: ClientOrderId,
    },
    /// An order ended by a rule; as it ended.
    OrderExpired {
        /// The order with its final state.
        order: Order,
        /// The rule.
        reason: ExpiryReason,
    },
    /// An order's quantity was lowered in place.
    OrderAmended {
        /// The order as it is now.
        order: Order,
        /// Its name before.
        previous_client_order_id: ClientOrderId,
        /// Its quantity before.
        previous_quantity: Quantity,
    },
    /// An order has another price and open quantity, and the last place in the queue.
    OrderReplaced {
        /// Where.
        symbol: SymbolId,
        /// Which one.
        order_id: OrderId,
        /// Whose.
        uid: Uid,
        /// Its price now.
        price: Price,
        /// Its whole quantity now.
        quantity: Quantity,
    },
    /// A list began, changed or ended.
    OrderListChanged(Box<OrderList>),
    /// How the two halves of a cancel-replace went; stands first. The second is `None` where it was not attempted.
    CancelReplaceDecided {
        /// The cancel.
        cancel: Option<Rejection>,
        /// Whether the new order was attempted, and how it went.
        place: Option<Result<(), Rejection>>,
    },
    /// The dead man's switch is armed or, at zero, disarmed.
    CountdownSet {
        /// Whose.
        uid: Uid,
        /// In which symbol.
        symbol: SymbolId,
        /// When it fires.
        at: Option<Time>,
    },
    /// The command was refused; nothing changed. Always the only event of its command.
    Rejected(Rejection),
    /// These new orders are in already, by an earlier command that asked the same under the same name; nothing changed. Always
    /// the only event of its command.
    OrderRepeated(Box<Repeated>),
    /// A price level has this quantity now; zero removes it.
    LevelChanged {
        /// Which book.
        symbol: SymbolId,
        /// Which side of it.
        side: Side,
        /// Which level.
        price: Price,
        /// The sum of the open quantities that rest there and are shown.
        quantity: Quantity,
        /// One more than the symbol's last.
        update_id: u64,
    },
    /// An account has placed so many unfilled orders in the windows of [`ExchangeLimits::order_counts`].
    OrderCountChanged {
        /// Whose.
        uid: Uid,
        /// In the same order.
        counts: [u32; 2],
    },
    /// A balance is this now.
    BalanceChanged {
        /// Whose.
        uid: Uid,
        /// Of what.
        asset: AssetId,
        /// What can be used.
        free: Amount,
        /// What open orders hold.
        locked: Amount,
    },
    /// A symbol is quote-driven on these terms from now on, or no more.
    QuoteDrivenChanged {
        /// Which one.
        symbol: SymbolId,
        /// How.
        terms: Option<QuoteTerms>,
    },
    /// The house has these prices from now on.
    QuoteChanged(Box<HouseQuote>),
    /// The house's prices are too old: nothing trades until the next come.
    QuoteStale {
        /// Where.
        symbol: SymbolId,
    },
}

/// What a price from outside comes to at the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HouseQuote {
    /// Where.
    pub symbol: SymbolId,
    /// What it buys at; nothing where the spread leaves nothing.
    pub bid: Option<Price>,
    /// What it sells at.
    pub ask: Price,
    /// Who said the price outside.
    pub source: ClientOrderId,
    /// And when.
    pub outside_time: Time,
}

/// Write an event where it belongs. An event is as large as its largest kind; pushed, it would first be made elsewhere and then
/// copied whole, which costs more than the making (measured: a fifth of a replace).
#[inline(always)]
pub(crate) fn emit(events: &mut Vec<Event>, event: impl FnOnce() -> Event) {
    events.extend(std::iter::once_with(event));
}

/// Who changed a symbol's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StatusCause {
    /// An operator's command.
    Operator,
    /// The price ran too far; until then, or until an operator resumes it.
    CircuitBreaker {
        /// When it resumes by itself.
        until: Option<Time>,
    },
    /// The time of the halt is over.
    CircuitBreakerEnded,
}

/// What an earlier command placed, and what it made of it at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeated {
    /// Whose.
    pub uid: Uid,
    /// Where.
    pub symbol: SymbolId,
    /// That command.
    pub sequence: Sequence,
    /// Its time.
    pub time: Time,
    /// The orders that it placed, and what each was after it, before what it set off.
    pub orders: Vec<(OrderId, OrderStatus)>,
    /// The list that they are in.
    pub order_list_id: Option<OrderListId>,
    /// Of a cancel-replace: the order that was canceled, or why none was.
    pub canceled: Option<Result<OrderId, Rejection>>,
}

/// A list and where its orders stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderList {
    /// Its number within the symbol.
    pub order_list_id: OrderListId,
    /// Where.
    pub symbol: SymbolId,
    /// Whose.
    pub uid: Uid,
    /// The owner's name for it.
    pub list_client_order_id: ClientOrderId,
    /// How its orders depend on each other.
    pub kind: OrderListKind,
    /// Whether it is still under way.
    pub status: OrderListStatus,
    /// Its orders, in the order of their acceptance: their numbers and names.
    pub orders: Vec<(OrderId, ClientOrderId)>,
    /// When it was accepted.
    pub created_at: Time,
}

/// How far a list is (enums.md, "List status type").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderListStatus {
    /// It is in.
    ExecutionStarted,
    /// The name of one of its orders changed.
    Updated,
    /// None of its orders is open any more.
    AllDone,
}

/// A match that self-trade prevention did not let happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreventedMatch {
    /// Where.
    pub symbol: SymbolId,
    /// Its number within the symbol.
    pub prevented_match_id: PreventedMatchId,
    /// The maker's price.
    pub price: Price,
    /// What happened instead.
    pub mode: SelfTradePrevention,
    /// The trade group of the taker's account.
    pub trade_group: Option<TradeGroup>,
    /// The taker's side.
    pub taker_side: Side,
    /// Who came second.
    pub taker_order_id: OrderId,
    /// The taker's owner.
    pub taker_uid: Uid,
    /// What the taker lost.
    pub taker_prevented: Quantity,
    /// Who was there first.
    pub maker_order_id: OrderId,
    /// The maker's owner.
    pub maker_uid: Uid,
    /// What the maker lost.
    pub maker_prevented: Quantity,
}

/// One match of a taker and a maker, at the maker's price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trade {
    /// Where.
    pub symbol: SymbolId,
    /// Its number within the symbol.
    pub trade_id: TradeId,
    /// The number, within the symbol and from 1, of the run of trades of one taker order at one price.
    pub aggregate_id: u64,
    /// The maker's price.
    pub price: Price,
    /// How much.
    pub quantity: Quantity,
    /// Price × quantity.
    pub quote_amount: Amount,
    /// Who came second.
    pub taker: Fill,
    /// Who was there first.
    pub maker: Fill,
    /// The taker's side; the maker's is the opposite.
    pub taker_side: Side,
}

/// What a trade did to one of its two orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// The order.
    pub order_id: OrderId,
    /// Its owner.
    pub uid: Uid,
    /// What the owner paid for the trade, out of what was received.
    pub fee: Amount,
    /// In what: base for a buyer, quote for a seller.
    pub fee_asset: AssetId,
    /// The order's executed quantity after the trade.
    pub executed: Quantity,
    /// The order's cumulative quote amount after the trade.
    pub cumulative_quote: Amount,
    /// The order's status after the trade.
    pub status: OrderStatus,
}

/// Why an order expired (enums.md, "Expiry reason").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExpiryReason {
    /// What an IOC order could not trade at once.
    UnfilledIocQuantity,
    /// A FOK order that could not trade whole at once.
    UnfilledFok,
    /// A market order that emptied the book.
    InsufficientLiquidity,
    /// The next price is beyond the price range execution rule.
    PriceRangeExceeded,
    /// The other order of its pair works or has filled.
    OcoTrigger,
    /// The working order of its list ended without being filled.
    OtoPhaseOne,
    /// Self-trade prevention; the status says so too.
    SelfTradePrevention,
    /// When it came to the book it no longer passed the checks of a new order.
    Rejected(Rejection),
}

/// Why a command was refused. The gateway's rest/error.rs gives each its code and text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rejection {
    /// No such asset.
    UnknownAsset,
    /// No such symbol.
    UnknownSymbol,
    /// No such account.
    UnknownAccount,
    /// An asset, symbol, account or key of that name exists.
    AlreadyExists,
    /// A name, scale, size or fee that cannot be.
    InvalidConfiguration,
    /// The symbol's status does not allow it.
    MarketClosed,
    /// The free balance does not cover it.
    InsufficientBalance,
    /// An open order of this user in this symbol has that name.
    DuplicateOrder,
    /// A post-only order that would trade at once.
    WouldMatchImmediately,
    /// A quantity or amount of zero.
    ZeroQuantity,
    /// A kind, price and quantity that do not go together.
    InvalidCombination,
    /// PRICE_FILTER.
    PriceFilter,
    /// LOT_SIZE.
    LotSize,
    /// MARKET_LOT_SIZE.
    MarketLotSize,
    /// NOTIONAL.
    Notional,
    /// A product that does not fit.
    Overflow,
    /// No open order of this user answers to the reference of a cancel or amend.
    UnknownOrder,
    /// The order of that number has another name than the one given with it.
    ClientOrderIdMismatch,
    /// The order is not in the status that the cancel asked for.
    CancelRestricted,
    /// An amend to a quantity that is not below the present one and above what is executed.
    AmendQuantity,
    /// PERCENT_PRICE or PERCENT_PRICE_BY_SIDE.
    PercentPrice,
    /// ICEBERG_PARTS.
    IcebergParts,
    /// An iceberg that shows more than it has.
    IcebergExceedsQuantity,
    /// TRAILING_DELTA.
    TrailingDelta,
    /// MAX_NUM_ORDERS.
    MaxNumOrders,
    /// MAX_NUM_ALGO_ORDERS.
    MaxNumAlgoOrders,
    /// MAX_NUM_ICEBERG_ORDERS.
    MaxNumIcebergOrders,
    /// MAX_NUM_ORDER_LISTS.
    MaxNumOrderLists,
    /// MAX_NUM_ORDER_AMENDS.
    MaxNumOrderAmends,
    /// MAX_POSITION.
    MaxPosition,
    /// EXCHANGE_MAX_NUM_ORDERS.
    ExchangeMaxNumOrders,
    /// EXCHANGE_MAX_NUM_ALGO_ORDERS.
    ExchangeMaxNumAlgoOrders,
    /// EXCHANGE_MAX_NUM_ICEBERG_ORDERS.
    ExchangeMaxNumIcebergOrders,
    /// EXCHANGE_MAX_NUM_ORDER_LISTS.
    ExchangeMaxNumOrderLists,
    /// Too many unfilled orders in a window.
    TooManyOrders,
    /// A stop whose price is there already.
    WouldTriggerImmediately,
    /// A self-trade prevention that the symbol does not allow, or that the account must have.
    SelfTradePreventionNotAllowed,
    /// A pegged order, and no price to take on the book.
    NoPegPrice,
    /// The account may not do this.
    AccountDisabled,
    /// The orders of a list that do not fit together: kinds, sides or quantities.
    InvalidOrderList,
    /// The prices of an OCO pair that are the wrong way round.
    OcoPrices,
    /// No open list of this user answers to the reference.
    UnknownOrderList,
    /// An open list of this user in this symbol has that name.
    DuplicateOrderList,
    /// A replace that changes nothing, or an amend of what cannot be amended.
    NoChange,
    /// No such withdrawal is under way.
    UnknownWithdrawal,
    /// The operator's compensation: deciding this command would stop the engine.
    Compensated,
    /// No such API key.
    UnknownApiKey,
    /// No such user.
    UnknownUser,
    /// A reference quote for a symbol that has a book.
    NotQuoteDriven,
    /// A reference quote that is no price, or whose bid is above its ask.
    InvalidQuote,
    /// A reference quote from before the one that holds.
    QuoteOutdated,
    /// A market order in a quote-driven symbol that has no price, or none that is young enough.
    NoReferencePrice,
    /// An iceberg in a quote-driven symbol.
    IcebergNotSupported,
    /// A pegged order in a quote-driven symbol.
    PegNotSupported,
    /// What can only be changed while no order is open.
    OpenOrders,
}
