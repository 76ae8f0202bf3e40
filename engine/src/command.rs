//! What can be asked. A command is what stands in the log; everything that changes state is one.
//!
//! Prices and quantities come as [`Amount`]s, exactly as the client wrote them, so that the filters on tick and lot are
//! decided here too: a price is in smallest quote units per whole base, a quantity in smallest base units.

use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::commission::CommissionRates;
pub use crate::once::{Once, Placing};
use crate::order::{ClientOrderId, OrderType, Peg, SelfTradePrevention, Side, TimeInForce};
pub use crate::quotes::{QuoteTerms, ReferenceQuote};
use crate::symbol::{SymbolConfig, SymbolStatus};
use crate::units::{Amount, AssetId, OrderId, OrderListId, SymbolId, TradeGroup, Uid};

/// One request to change the state of the exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// List an asset.
    AddAsset(AddAsset),
    /// List a symbol; it trades at once.
    AddSymbol(Box<SymbolConfig>),
    /// Change a symbol's filters, fees and rules; its name, assets, tick and step stay.
    ConfigureSymbol {
        /// Which one.
        symbol: SymbolId,
        /// What it becomes.
        config: Box<SymbolConfig>,
    },
    /// Change the limits that hold over all symbols.
    ConfigureExchange(ExchangeLimits),
    /// Halt, resume or restrict a symbol.
    SetSymbolStatus {
        /// Which one.
        symbol: SymbolId,
        /// What it becomes.
        status: SymbolStatus,
    },
    /// Say what a symbol is worth, for the filters and the price range; `None` lets its own trades say it again.
    SetReferencePrice {
        /// Which one.
        symbol: SymbolId,
        /// Smallest quote units per whole base.
        price: Option<Amount>,
    },
    /// Say what the accounts of a tier pay instead of a symbol's standard commission.
    SetCommissionTier {
        /// Which one, from 1.
        tier: u16,
        /// What it pays.
        rates: CommissionRates,
    },
    /// Open an account for a user. Asking again changes nothing and is an error.
    OpenAccount {
        /// The new owner.
        uid: Uid,
    },
    /// What an account may do and how it is treated.
    ConfigureAccount {
        /// Whose.
        uid: Uid,
        /// What holds from now on.
        settings: AccountSettings,
    },
    /// Give an account an API key.
    AddApiKey(ApiKey),
    /// Put an asset on an account. The same `external_id` for the same user takes effect once.
    Deposit(Transfer),
    /// Take an asset off an account. The same `external_id` for the same user takes effect once.
    Withdraw(Transfer),
    /// Lock an asset for a withdrawal that is under way outside; [`Command::EndWithdrawal`] ends it by its `external_id`.
    BeginWithdrawal(Transfer),
    /// A withdrawal that was begun has left the exchange, or did not.
    EndWithdrawal {
        /// Whose.
        uid: Uid,
        /// The name it was begun with.
        external_id: String,
        /// Whether it left; else it is free again.
        completed: bool,
    },
    /// A new order.
    PlaceOrder(PlaceOrder),
    /// New orders that depend on each other.
    PlaceOrderList(Box<PlaceOrderList>),
    /// Take one order off the book; with it goes the list it belongs to.
    CancelOrder(CancelOrder),
    /// Cancel all that is open of a list.
    CancelOrderList(CancelOrderList),
    /// Take all of a user's orders in a symbol off the book.
    CancelAllOrders {
        /// Whose orders.
        uid: Uid,
        /// In which symbol.
        symbol: SymbolId,
    },
    /// Take all of a user's orders in all symbols off the book. Nothing to cancel is no error.
    CancelEverything {
        /// Whose orders.
        uid: Uid,
    },
    /// Cancel one order and place another.
    CancelReplace(Box<CancelReplace>),
    /// Lower an order's whole quantity; it keeps its place in the queue.
    AmendOrder(AmendOrder),
    /// Lower an order's open quantity by so much; it keeps its place, or leaves the book when nothing is left. Beyond the
    /// venue's rules: no client of the public API can ask it.
    ReduceOrder {
        /// Who asks; only the owner's orders are found.
        uid: Uid,
        /// Where.
        symbol: SymbolId,
        /// Which order.
        order: OrderReference,
        /// By how much, in smallest base units.
        by: Amount,
    },
    /// Give an order a new price and open quantity under its own number; it loses its place and may trade at once. Beyond
    /// the venue's rules: no client of the public API can ask it.
    ReplaceOrder(ReplaceOrder),
    /// The dead man's switch: cancel all that a user has in a symbol unless told otherwise in time.
    SetCountdown {
        /// Whose orders.
        uid: Uid,
        /// In which symbol.
        symbol: SymbolId,
        /// After how many milliseconds from now; zero disarms.
        milliseconds: u64,
    },
    /// Time has come so far: all that was to happen by now happens. Deadlines are met by this command alone.
    Tick,
    /// New orders under a name that the client gave, so that asking again changes nothing.
    Once(Box<Once>),
    /// Change keys or users, or note who asks.
    Access(Box<Access>),
    /// Let a reference price decide in a symbol instead of its book, on these terms; `None` makes it a book again. Only with
    /// no order open can it become the one or the other.
    SetQuoteDriven {
        /// Which one.
        symbol: SymbolId,
        /// How.
        terms: Option<QuoteTerms>,
    },
    /// A price from outside for a quote-driven symbol.
    ReferenceQuote(ReferenceQuote),
}

/// Limits over all symbols of one account; zero is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeLimits {
    /// EXCHANGE_MAX_NUM_ORDERS.
    pub max_num_orders: u32,
    /// EXCHANGE_MAX_NUM_ALGO_ORDERS.
    pub max_num_algo_orders: u32,
    /// EXCHANGE_MAX_NUM_ICEBERG_ORDERS.
    pub max_num_iceberg_orders: u32,
    /// EXCHANGE_MAX_NUM_ORDER_LISTS.
    pub max_num_order_lists: u32,
    /// How many unfilled orders an account may place in each interval; at most two.
    pub order_counts: [OrderCountLimit; 2],
    /// How much an order's first fill takes off the counts where it came as the taker.
    pub taker_fill_decrement: u32,
    /// How much an order's first fill takes off the counts where it came as the maker.
    pub maker_fill_decrement: u32,
}

impl ExchangeLimits {
    /// Whether a limit has a window.
    pub fn is_sound(&self) -> bool {
        self.order_counts.iter().all(|count| count.limit == 0 || count.seconds > 0)
    }

    /// Whether any limit on what is open over all symbols holds.
    pub fn counts_open_orders(&self) -> bool {
        self.max_num_orders | self.max_num_algo_orders | self.max_num_iceberg_orders | self.max_num_order_lists > 0
    }

    /// Whether unfilled orders are counted at all.
    pub fn counts_orders(&self) -> bool {
        self.order_counts[0].limit | self.order_counts[1].limit > 0
    }
}

/// A limit of unfilled orders (faqs/order_count_decrement.md). Windows begin at whole multiples of the interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCountLimit {
    /// The window in seconds; above zero where there is a limit.
    pub seconds: u32,
    /// How many orders; zero for no limit.
    pub limit: u32,
}

/// What an account may do and how it is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSettings {
    /// Whether it may place orders.
    pub can_trade: bool,
    /// Whether it may withdraw.
    pub can_withdraw: bool,
    /// Whether it may be deposited to.
    pub can_deposit: bool,
    /// Its group for self-trade prevention.
    pub trade_group: Option<TradeGroup>,
    /// Whether every order must have a self-trade prevention other than NONE.
    pub require_self_trade_prevention: bool,
    /// Its commission tier; zero pays the symbols' standard.
    pub commission_tier: u16,
    /// Whether commission is taken in the discount asset where there is enough of it.
    pub discount: bool,
}

impl Default for AccountSettings {
    fn default() -> Self {
        AccountSettings {
            can_trade: true,
            can_withdraw: true,
            can_deposit: true,
            trade_group: None,
            require_self_trade_prevention: false,
            commission_tier: 0,
            discount: false,
        }
    }
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
    /// Ed25519 with a key pair of which only the client has the private half.
    Ed25519 {
        /// The public half.
        public_key: [u8; 32],
    },
    /// RSASSA-PKCS1-v1_5 with SHA-256 and a key pair of which only the client has the private half.
    Rsa {
        /// The public half: modulus and exponent, in DER.
        public_key: Vec<u8>,
    },
    /// HMAC-SHA256 with a shared secret that is not told here: the gateway sealed it with a key of its own.
    SealedHmac {
        /// The ciphertext.
        sealed: Vec<u8>,
    },
}

impl std::fmt::Debug for ApiKeyKind {
    /// Never shows the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ApiKeyKind::Hmac { .. } => f.write_str("Hmac"),
            ApiKeyKind::Ed25519 { .. } => f.write_str("Ed25519"),
            ApiKeyKind::Rsa { .. } => f.write_str("Rsa"),
            ApiKeyKind::SealedHmac { .. } => f.write_str("SealedHmac"),
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
    /// Say what quote-driven symbols are worth outside.
    Feed,
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
    /// All whole lots of what the list's working order brought; pending sell orders only.
    Proceeds,
}

/// A new order as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Ignored for kinds that have none.
    pub time_in_force: TimeInForce,
    /// Smallest quote units per whole base; zero for an order without a price, which a pegged one may be.
    pub price: Amount,
    /// How much.
    pub quantity: OrderQuantity,
    /// What happens where it would trade with its owner; the symbol's default where the client said nothing.
    pub self_trade_prevention: Option<SelfTradePrevention>,
    /// What most orders do not ask.
    pub special: Option<Box<SpecialTerms>>,
}

/// What most orders do not ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialTerms {
    /// Smallest quote units per whole base; stop orders only.
    pub stop_price: Option<Amount>,
    /// In basis points; stop orders only.
    pub trailing_delta: Option<u32>,
    /// In smallest base units: how much the book shows at a time. Zero shows all.
    pub iceberg_quantity: Option<Amount>,
    /// Where the price comes from.
    pub peg: Option<Peg>,
    /// The client's number for a strategy.
    pub strategy_id: Option<i64>,
    /// The client's kind of strategy, from 1,000,000.
    pub strategy_type: Option<i32>,
}

/// How the orders of a list depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OrderListKind {
    /// Two orders, of which the one that works or fills first ends the other.
    OneCancelsOther,
    /// A working order; once it is filled, one pending order.
    OneTriggersOther,
    /// A working order; once it is filled, two pending orders of which one ends the other.
    OneTriggersOneCancelsOther,
}

/// New orders that depend on each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceOrderList {
    /// Whose.
    pub uid: Uid,
    /// Where.
    pub symbol: SymbolId,
    /// The list's name, unique among the owner's open lists in the symbol.
    pub list_client_order_id: ClientOrderId,
    /// How they depend on each other.
    pub kind: OrderListKind,
    /// The orders: of OCO the one above and the one below; of OTO the working and the pending; of OTOCO the working, the
    /// pending above and the pending below. With [`OrderQuantity::Proceeds`] the pending ones make it an OPO or OPOCO.
    pub orders: Vec<PlaceOrder>,
}

/// A cancel of a whole list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelOrderList {
    /// Who asks; only the owner's lists are found.
    pub uid: Uid,
    /// Where.
    pub symbol: SymbolId,
    /// The exchange's number of the list.
    pub order_list_id: Option<OrderListId>,
    /// The client's name of the list.
    pub list_client_order_id: Option<ClientOrderId>,
    /// A name for the cancel itself, reported with each order; without one each order's own name is.
    pub cancel_client_order_id: Option<ClientOrderId>,
}

/// Cancel one order and place another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelReplace {
    /// Which order goes.
    pub cancel: CancelOrder,
    /// What comes; of the same user and symbol.
    pub place: PlaceOrder,
    /// Whether the new order is placed even when the cancel fails.
    pub allow_failure: bool,
    /// Whether the cancel is made even when too many orders are unfilled for a new one.
    pub cancel_when_limited: bool,
}

/// A new price and open quantity for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplaceOrder {
    /// Who asks; only the owner's orders are found.
    pub uid: Uid,
    /// Where.
    pub symbol: SymbolId,
    /// Which order.
    pub order: OrderReference,
    /// The new price in smallest quote units per whole base; `None` keeps it.
    pub price: Option<Amount>,
    /// The new open quantity in smallest base units; `None` keeps it.
    pub quantity: Option<Amount>,
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
