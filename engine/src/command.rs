//! What can be asked. A command is what stands in the log; everything that changes state is one.
//!
//! Prices and quantities come as [`Amount`]s, exactly as the client wrote them, so that the filters on tick and lot are
//! decided here too: a price is in smallest quote units per whole base, a quantity in smallest base units.

use serde::{Deserialize, Serialize};

use crate::order::{ClientOrderId, OrderType, Side, TimeInForce};
use crate::symbol::{SymbolConfig, SymbolStatus};
use crate::units::{Amount, AssetId, OrderId, SymbolId, Uid};

/// One request to change the state of the exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// List an asset.
    AddAsset(AddAsset),
    /// List a symbol; it trades at once.
    AddSymbol(SymbolConfig),
    /// Halt, resume or restrict a symbol.
    SetSymbolStatus {
        /// Which one.
        symbol: SymbolId,
        /// What it becomes.
        status: SymbolStatus,
    },
    /// Open an account for a user. Asking again changes nothing and is an error.
    OpenAccount {
        /// The new owner.
        uid: Uid,
    },
    /// Give an account an API key.
    AddApiKey(ApiKey),
    /// Put an asset on an account. The same `external_id` for the same user takes effect once.
    Deposit(Transfer),
    /// Take an asset off an account. The same `external_id` for the same user takes effect once.
    Withdraw(Transfer),
    /// A new order.
    PlaceOrder(PlaceOrder),
    /// Take one order off the book.
    CancelOrder(CancelOrder),
    /// Take all of a user's orders in a symbol off the book.
    CancelAllOrders {
        /// Whose orders.
        uid: Uid,
        /// In which symbol.
        symbol: SymbolId,
    },
    /// Lower an order's quantity; it keeps its place in the queue.
    AmendOrder(AmendOrder),
}

/// A new asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddAsset {
    /// Its name, such as `BTC`: 1 to 20 bytes, unique.
    pub name: String,
    /// Decimals of its smallest unit, 0 to 18.
    pub scale: u8,
}

/// A credential, kept with the state so that every node knows it. The engine only keeps it; the gateway checks signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Whose account it opens.
    pub uid: Uid,
    /// What the client sends in `X-MBX-APIKEY`; unique.
    pub api_key: String,
    /// How requests are signed.
    pub kind: ApiKeyKind,
    /// What may be done with it.
    pub permissions: Vec<Permission>,
}

/// How an API key signs, with what is needed to verify it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApiKeyKind {
    /// HMAC-SHA256 with a shared secret.
    Hmac {
        /// The secret's bytes.
        secret: Vec<u8>,
    },
}

impl std::fmt::Debug for ApiKeyKind {
    /// Never shows the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ApiKeyKind::Hmac { .. } => f.write_str("Hmac"),
        }
    }
}

/// What an API key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Permission {
    /// Read the account: balances, orders, trades, user events.
    UserData,
    /// Place, amend and cancel orders.
    Trade,
}

/// An asset moved into or out of the exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Whose account.
    pub uid: Uid,
    /// Which asset.
    pub asset: AssetId,
    /// How much; above zero.
    pub amount: Amount,
    /// The name of this transfer in the outside world, 1 to 64 bytes: what makes asking twice harmless.
    pub external_id: String,
}

/// How much to trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderQuantity {
    /// So much base.
    Base(Amount),
    /// As many whole lots as so much quote buys or raises; market orders only.
    Quote(Amount),
}

/// A new order as the client wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceOrder {
    /// Whose order.
    pub uid: Uid,
    /// Where.
    pub symbol: SymbolId,
    /// Its name; the gateway makes one up for a client that gave none.
    pub client_order_id: ClientOrderId,
    /// Buy or sell.
    pub side: Side,
    /// Its kind.
    pub order_type: OrderType,
    /// Ignored for kinds other than LIMIT.
    pub time_in_force: TimeInForce,
    /// Smallest quote units per whole base; zero for a market order.
    pub price: Amount,
    /// How much.
    pub quantity: OrderQuantity,
}

/// Which order is meant: by number, by the client's name, or by both, which must then agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderReference {
    /// The exchange's number.
    pub order_id: Option<OrderId>,
    /// The client's name.
    pub client_order_id: Option<ClientOrderId>,
}

/// A cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelOrder {
    /// Who asks; only the owner's orders are found.
    pub uid: Uid,
    /// Where.
    pub symbol: SymbolId,
    /// Which order.
    pub order: OrderReference,
    /// A name for the cancel itself, reported with it.
    pub cancel_client_order_id: ClientOrderId,
    /// Cancel only in this status.
    pub restriction: Option<CancelRestriction>,
}

/// In which status alone an order may be canceled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CancelRestriction {
    /// Only when nothing of it traded.
    OnlyNew,
    /// Only when some of it traded.
    OnlyPartiallyFilled,
}

/// An amend that keeps priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AmendOrder {
    /// Who asks; only the owner's orders are found.
    pub uid: Uid,
    /// Where.
    pub symbol: SymbolId,
    /// Which order.
    pub order: OrderReference,
    /// The new whole quantity in smallest base units: above what was executed, below what it was.
    pub new_quantity: Amount,
    /// The order's name from now on.
    pub new_client_order_id: ClientOrderId,
}
