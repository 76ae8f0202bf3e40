//! What can happen. Events are all that anyone outside ever learns of the engine.
//!
//! The order of the events of one command is part of the contract. A new order: `OrderAccepted`, then for each price level
//! it met the `Trade`s in price-time order and the level's `LevelChanged`, then `OrderExpired` or, where it rests, one more
//! `LevelChanged`. A cancel or amend: the order's event, then its level's. Last, one `BalanceChanged` for each balance that
//! moved.

use serde::{Deserialize, Serialize};

use crate::command::{AddAsset, ApiKey, Transfer};
use crate::order::{ClientOrderId, Order, OrderStatus, Side};
use crate::symbol::{Symbol, SymbolStatus};
use crate::units::{Amount, AssetId, OrderId, Price, Quantity, SymbolId, TradeId, Uid};

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
    /// A symbol was halted, resumed or restricted.
    SymbolStatusChanged {
        /// Which one.
        symbol: SymbolId,
        /// What it is now.
        status: SymbolStatus,
    },
    /// An account is open.
    AccountOpened {
        /// Its owner.
        uid: Uid,
    },
    /// A key works from now on.
    ApiKeyAdded(Box<ApiKey>),
    /// An asset came in.
    Deposited(Box<Transfer>),
    /// An asset went out.
    Withdrawn(Box<Transfer>),
    /// This transfer had taken effect before; nothing changed.
    TransferRepeated(Box<Transfer>),
    /// An order is in, as it was before it met the book.
    OrderAccepted(Order),
    /// A taker met a maker.
    Trade(Trade),
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
    /// The command was refused; nothing changed. Always the only event of its command.
    Rejected(Rejection),
    /// A price level has this quantity now; zero removes it.
    LevelChanged {
        /// Which book.
        symbol: SymbolId,
        /// Which side of it.
        side: Side,
        /// Which level.
        price: Price,
        /// The sum of the open quantities that rest there.
        quantity: Quantity,
        /// One more than the symbol's last.
        update_id: u64,
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
    /// A market order that emptied the book, or whose quote amount pays for no further lot.
    InsufficientLiquidity,
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
}
