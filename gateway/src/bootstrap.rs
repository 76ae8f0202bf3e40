//! The bootstrap file: what is listed and funded when the log is empty, as the commands that do so.

use std::collections::BTreeMap;
use std::path::Path;

use engine::access::{Access, Role, UserTerms};
use engine::command::{AccountSettings, AddAsset, ApiKey, ApiKeyKind, Command, Permission, Transfer};
use engine::commission::{Commission, CommissionRates, Discount, FeeRate};
use engine::order::SelfTradePrevention;
use engine::quotes;
use engine::symbol::{CircuitBreaker, PriceRange, SymbolConfig, TrailingDeltaFilter};
use engine::units::{Multiplier, TradeGroup};
use engine::{Amount, AssetId, SymbolId, Uid};
use serde::{Deserialize, Serialize};

use crate::params::parse_decimal;
use crate::passwords;
use crate::public_keys;
use crate::tokens::parse_role;
use crate::wire::parse_self_trade_prevention;

/// Decimals of a fee rate.
const FEE_SCALE: u8 = 9;
/// Decimals of a [`Multiplier`].
const MULTIPLIER_SCALE: u8 = 8;

/// What a file lists.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    #[serde(default)]
    asset: Vec<Asset>,
    #[serde(default)]
    symbol: Vec<Symbol>,
    #[serde(default)]
    account: Vec<Account>,
    /// What the accounts of a tier pay instead of the symbols' standard; the first is tier 1.
    #[serde(default)]
    commission_tier: Vec<Rates>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asset {
    name: String,
    scale: u8,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Symbol {
    name: String,
    base: String,
    quote: String,
    tick_size: String,
    #[serde(default)]
    min_price: Option<String>,
    #[serde(default)]
    max_price: Option<String>,
    step_size: String,
    #[serde(default)]
    min_qty: Option<String>,
    #[serde(default)]
    max_qty: Option<String>,
    #[serde(default)]
    market_min_qty: Option<String>,
    #[serde(default)]
    market_max_qty: Option<String>,
    #[serde(default)]
    min_notional: Option<String>,
    #[serde(default)]
    apply_min_to_market: Option<bool>,
    #[serde(default)]
    max_notional: Option<String>,
    #[serde(default)]
    apply_max_to_market: Option<bool>,
    #[serde(default)]
    average_price_minutes: u32,
    #[serde(default)]
    percent_price_by_side: Option<Range>,
    #[serde(default)]
    execution_range: Option<Range>,
    #[serde(default)]
    iceberg_parts: u32,
    #[serde(default)]
    trailing_delta: Option<TrailingDelta>,
    #[serde(default)]
    max_num_orders: u32,
    #[serde(default)]
    max_num_algo_orders: u32,
    #[serde(default)]
    max_num_iceberg_orders: u32,
    #[serde(default)]
    max_num_order_amends: u32,
    #[serde(default)]
    max_num_order_lists: u32,
    #[serde(default)]
    max_position: Option<String>,
    /// EXPIRE_MAKER, as at the venue, where it is not said.
    #[serde(default)]
    default_self_trade_prevention: Option<String>,
    /// All, where it is not said.
    #[serde(default)]
    allowed_self_trade_prevention: Option<Vec<String>>,
    #[serde(default)]
    maker_fee: Option<String>,
    #[serde(default)]
    taker_fee: Option<String>,
    #[serde(default)]
    buyer_fee: Option<String>,
    #[serde(default)]
    seller_fee: Option<String>,
    #[serde(default)]
    special_commission: Option<Rates>,
    #[serde(default)]
    tax_commission: Option<Rates>,
    #[serde(default)]
    discount: Option<DiscountTerms>,
    #[serde(default)]
    circuit_breaker: Option<Breaker>,
    /// A reference price decides, and not the book.
    #[serde(default)]
    quote_driven: Option<QuoteTerms>,
}

/// How a symbol is quote-driven: in the file, and on the command line of operators.
#[derive(Clone, Debug, Deserialize, Serialize, clap::Args)]
#[serde(deny_unknown_fields)]
#[group(id = "QuoteTerms")]
pub struct QuoteTerms {
    /// Whose account every trade is with
    #[arg(long, value_name = "UID", required = false)]
    pub house: u64,
    /// The part of the outside price by which the house's is worse on each side, such as 0.0005
    #[arg(long, value_name = "PART", required = false)]
    pub spread: String,
    /// For how long a price holds
    #[arg(long, value_name = "MS", required = false)]
    pub stale_after_ms: u64,
    /// How much base the house may have bought more than sold, or sold more than bought
    #[arg(long, value_name = "QUANTITY", required = false)]
    pub max_exposure: String,
}

impl QuoteTerms {
    /// What it comes to, where the base has so many decimals.
    pub fn parse(&self, base_scale: u8) -> Result<quotes::QuoteTerms, String> {
        Ok(quotes::QuoteTerms {
            house: Uid(self.house),
            spread: multiplier("spread", &self.spread)?,
            stale_after_ms: self.stale_after_ms,
            max_exposure: decimal("max_exposure", &self.max_exposure, base_scale)?,
        })
    }
}

/// The four rates of a commission; what is not said is nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rates {
    maker: Option<String>,
    taker: Option<String>,
    buyer: Option<String>,
    seller: Option<String>,
}

/// Multipliers of a reference price; what is not said does not hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Range {
    bid_up: Option<String>,
    bid_down: Option<String>,
    ask_up: Option<String>,
    ask_down: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrailingDelta {
    min_above: u32,
    max_above: u32,
    min_below: u32,
    max_below: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DiscountTerms {
    asset: String,
    rate: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Breaker {
    trip: String,
    window_seconds: u32,
    #[serde(default)]
    halt_seconds: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    uid: u64,
    #[serde(default)]
    trade_group: Option<u32>,
    #[serde(default)]
    commission_tier: u16,
    #[serde(default)]
    discount: bool,
    #[serde(default)]
    require_self_trade_prevention: bool,
    #[serde(default)]
    balances: BTreeMap<String, String>,
    #[serde(default)]
    key: Vec<Key>,
    #[serde(default)]
    user: Vec<User>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    api_key: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    secret: Option<String>,
    #[serde(default)]
    public_key: Option<String>,
    permissions: Vec<String>,
}

impl std::fmt::Debug for Key {
    /// Never shows the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.api_key)
    }
}

/// Who may log in to the web page on behalf of an account.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    name: String,
    password: String,
    /// Trader, where it is not said.
    #[serde(default)]
    role: Option<String>,
}

impl std::fmt::Debug for User {
    /// Never shows the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "User({})", self.name)
    }
}

impl Bootstrap {
    /// The file at `path`.
    pub fn read(path: &Path) -> Result<Bootstrap, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Bootstrap::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The file's text.
    pub fn parse(text: &str) -> Result<Bootstrap, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// The commands, each with what it is called in a message.
    pub fn commands(&self) -> Result<Vec<(String, Command)>, String> {
        let assets: BTreeMap<&str, (AssetId, u8)> =
            (0..).zip(&self.asset).map(|(id, asset)| (asset.name.as_str(), (AssetId(id), asset.scale))).collect();
        let find = |name: &str| assets.get(name).copied().ok_or_else(|| format!("{name} is not an asset of this file"));

        let mut commands = Vec::new();
        for asset in &self.asset {
            let what = format!("asset {}", asset.name);
            let name = listed_name(&asset.name).map_err(|error| format!("{what}: {error}"))?;
            commands.push((what, Command::AddAsset(AddAsset { name, scale: asset.scale })));
        }
        for symbol in &self.symbol {
            let what = format!("symbol {}", symbol.name);
            let config = symbol.config(find).map_err(|error| format!("{what}: {error}"))?;
            commands.push((what, Command::AddSymbol(Box::new(config))));
        }
        for (tier, rates) in (1..).zip(&self.commission_tier) {
            let what = format!("commission tier {tier}");
            let rates = rates.parse().map_err(|error| format!("{what}: {error}"))?;
            commands.push((what, Command::SetCommissionTier { tier, rates }));
        }
        for account in &self.account {
            let what = format!("account {}", account.uid);
            let uid = Uid(account.uid);
            commands.push((what.clone(), Command::OpenAccount { uid }));
            let settings = account.settings();
            if settings != AccountSettings::default() {
                commands.push((what.clone(), Command::ConfigureAccount { uid, settings }));
            }
            for (name, amount) in &account.balances {
                let what = format!("{what}: balance of {name}");
                let transfer = find(name).and_then(|(asset, scale)| {
                    let amount = decimal("balances", amount, scale)?;
                    Ok(Transfer { uid, asset, amount, external_id: format!("bootstrap-{name}") })
                });
                let transfer = transfer.map_err(|error| format!("{what}: {error}"))?;
                if !transfer.amount.is_zero() {
                    commands.push((what, Command::Deposit(transfer)));
                }
            }
            for key in &account.key {
                let what = format!("{what}: key {}", key.api_key);
                let api_key = key.command(uid).map_err(|error| format!("{what}: {error}"))?;
                commands.push((what, Command::AddApiKey(api_key)));
            }
            for user in &account.user {
                let what = format!("{what}: user {}", user.name);
                let terms = user.terms(uid).map_err(|error| format!("{what}: {error}"))?;
                commands.push((what, Command::Access(Box::new(Access::SetUser(terms)))));
            }
        }
        for (id, symbol) in (0..).zip(&self.symbol) {
            let Some(terms) = &symbol.quote_driven else { continue };
            let what = format!("symbol {}: quote_driven", symbol.name);
            let terms = find(&symbol.base).and_then(|(_, scale)| terms.parse(scale));
            let terms = Some(terms.map_err(|error| format!("{what}: {error}"))?);
            commands.push((what, Command::SetQuoteDriven { symbol: SymbolId(id), terms }));
        }
        Ok(commands)
    }
}

impl User {
    fn terms(&self, uid: Uid) -> Result<UserTerms, String> {
        let role = self.role.as_deref().map_or(Some(Role::Trader), parse_role);
        if !passwords::PASSWORD_BYTES.contains(&self.password.len()) {
            return Err(format!("a password has {:?} bytes", passwords::PASSWORD_BYTES));
        }
        Ok(UserTerms {
            name: self.name.clone(),
            uid: Some(uid),
            role: role.ok_or("the role is none of trader, read-only, operator")?,
            password_hash: passwords::hash(&self.password),
            one_time_secret: None,
            is_enabled: true,
        })
    }
}

impl Account {
    fn settings(&self) -> AccountSettings {
        AccountSettings {
            trade_group: self.trade_group.map(TradeGroup),
            commission_tier: self.commission_tier,
            discount: self.discount,
            require_self_trade_prevention: self.require_self_trade_prevention,
            ..AccountSettings::default()
        }
    }
}

impl Rates {
    fn parse(&self) -> Result<CommissionRates, String> {
        Ok(CommissionRates {
            maker: fee("maker", &self.maker)?,
            taker: fee("taker", &self.taker)?,
            buyer: fee("buyer", &self.buyer)?,
            seller: fee("seller", &self.seller)?,
        })
    }
}

impl Range {
    fn parse(&self) -> Result<PriceRange, String> {
        let bound = |name: &str, text: &Option<String>| {
            text.as_deref().map_or(Ok(Multiplier(0)), |text| multiplier(name, text))
        };
        Ok(PriceRange {
            bid_up: bound("bid_up", &self.bid_up)?,
            bid_down: bound("bid_down", &self.bid_down)?,
            ask_up: bound("ask_up", &self.ask_up)?,
            ask_down: bound("ask_down", &self.ask_down)?,
        })
    }
}

impl Breaker {
    fn parse(&self) -> Result<CircuitBreaker, String> {
        let trip = multiplier("trip", &self.trip)?;
        Ok(CircuitBreaker { trip, window_seconds: self.window_seconds, halt_seconds: self.halt_seconds })
    }
}

impl Symbol {
    fn config(&self, find: impl Fn(&str) -> Result<(AssetId, u8), String>) -> Result<SymbolConfig, String> {
        let ((base, base_scale), (quote, quote_scale)) = (find(&self.base)?, find(&self.quote)?);
        let optional = |name: &str, text: &Option<String>, scale: u8| {
            text.as_deref().map_or(Ok(Amount::ZERO), |text| decimal(name, text, scale))
        };
        let price = |name: &str, text: &Option<String>| optional(name, text, quote_scale);
        let quantity = |name: &str, text: &Option<String>| optional(name, text, base_scale);
        Ok(SymbolConfig {
            name: listed_name(&self.name)?,
            base,
            quote,
            tick_size: decimal("tick_size", &self.tick_size, quote_scale)?,
            min_price: price("min_price", &self.min_price)?,
            max_price: price("max_price", &self.max_price)?,
            step_size: decimal("step_size", &self.step_size, base_scale)?,
            min_quantity: quantity("min_qty", &self.min_qty)?,
            max_quantity: quantity("max_qty", &self.max_qty)?,
            market_min_quantity: quantity("market_min_qty", &self.market_min_qty)?,
            market_max_quantity: quantity("market_max_qty", &self.market_max_qty)?,
            min_notional: price("min_notional", &self.min_notional)?,
            apply_min_to_market: self.apply_min_to_market.unwrap_or(true),
            max_notional: price("max_notional", &self.max_notional)?,
            apply_max_to_market: self.apply_max_to_market.unwrap_or(false),
            average_price_minutes: self.average_price_minutes,
            percent_price: self.percent_price_by_side.as_ref().map(Range::parse).transpose()?,
            execution_range: self.execution_range.as_ref().map(Range::parse).transpose()?,
            iceberg_parts: self.iceberg_parts,
            trailing_delta: self.trailing_delta.map(|TrailingDelta { min_above, max_above, min_below, max_below }| {
                TrailingDeltaFilter { min_above, max_above, min_below, max_below }
            }),
            max_num_orders: self.max_num_orders,
            max_num_algo_orders: self.max_num_algo_orders,
            max_num_iceberg_orders: self.max_num_iceberg_orders,
            max_num_order_amends: self.max_num_order_amends,
            max_num_order_lists: self.max_num_order_lists,
            max_position: quantity("max_position", &self.max_position)?,
            default_self_trade_prevention: self.default_self_trade_prevention()?,
            allowed_self_trade_prevention: self.allowed_self_trade_prevention()?,
            commission: self.commission(&find)?,
            circuit_breaker: self.circuit_breaker.as_ref().map(Breaker::parse).transpose()?,
        })
    }

    fn default_self_trade_prevention(&self) -> Result<SelfTradePrevention, String> {
        let said = self.default_self_trade_prevention.as_deref();
        said.map_or(Ok(SelfTradePrevention::ExpireMaker), self_trade_prevention)
    }

    fn allowed_self_trade_prevention(&self) -> Result<Vec<SelfTradePrevention>, String> {
        const ALL: [&str; 6] = ["NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT", "TRANSFER"];
        match &self.allowed_self_trade_prevention {
            Some(words) => words.iter().map(|word| self_trade_prevention(word)).collect(),
            None => ALL.into_iter().map(self_trade_prevention).collect(),
        }
    }

    fn commission(&self, find: impl Fn(&str) -> Result<(AssetId, u8), String>) -> Result<Commission, String> {
        let standard = CommissionRates {
            maker: fee("maker_fee", &self.maker_fee)?,
            taker: fee("taker_fee", &self.taker_fee)?,
            buyer: fee("buyer_fee", &self.buyer_fee)?,
            seller: fee("seller_fee", &self.seller_fee)?,
        };
        let discount = |terms: &DiscountTerms| {
            let rate = fee("discount.rate", &Some(terms.rate.clone()))?;
            Ok::<_, String>(Discount { asset: find(&terms.asset)?.0, rate })
        };
        let rates = |rates: &Option<Rates>| rates.as_ref().map_or(Ok(CommissionRates::default()), Rates::parse);
        Ok(Commission {
            standard,
            special: rates(&self.special_commission)?,
            tax: rates(&self.tax_commission)?,
            discount: self.discount.as_ref().map(discount).transpose()?,
            ..Commission::default()
        })
    }
}

impl Key {
    fn command(&self, uid: Uid) -> Result<ApiKey, String> {
        let kind = self.kind()?;
        let permission = |word: &String| match word.as_str() {
            "USER_DATA" => Ok(Permission::UserData),
            "TRADE" => Ok(Permission::Trade),
            "FEED" => Ok(Permission::Feed),
            other => Err(format!("permission {other} is none of USER_DATA, TRADE, FEED")),
        };
        let permissions = self.permissions.iter().map(permission).collect::<Result<_, _>>()?;
        Ok(ApiKey { uid, api_key: self.api_key.clone(), kind, permissions })
    }

    fn kind(&self) -> Result<ApiKeyKind, String> {
        match (self.kind.as_str(), self.secret.as_deref(), self.public_key.as_deref()) {
            ("HMAC", Some(secret), None) => Ok(ApiKeyKind::Hmac { secret: secret.as_bytes().to_vec() }),
            ("HMAC", ..) => Err("an HMAC key needs a secret, and no public_key".to_owned()),
            (name @ ("ED25519" | "RSA"), None, Some(pem)) => match (name, public_keys::parse(pem)?) {
                ("ED25519", kind @ ApiKeyKind::Ed25519 { .. }) | ("RSA", kind @ ApiKeyKind::Rsa { .. }) => Ok(kind),
                _ => Err(format!("its public_key is not of type {name}")),
            },
            ("ED25519" | "RSA", ..) => Err(format!("an {} key needs a public_key in PEM, and no secret", self.kind)),
            (other, ..) => Err(format!("type {other} is none of HMAC, ED25519 and RSA")),
        }
    }
}

/// A symbol by what stands under `[[symbol]]`; `find` knows the assets.
pub fn symbol(text: &str, find: impl Fn(&str) -> Result<(AssetId, u8), String>) -> Result<SymbolConfig, String> {
    let symbol: Symbol = toml::from_str(text).map_err(|error| error.to_string())?;
    if symbol.quote_driven.is_some() {
        return Err("quote_driven is for set-quote-driven, once the symbol is listed".to_owned());
    }
    symbol.config(find)
}

/// The name of an asset or a symbol, which stands in queries, in names of streams (in small letters) and in metrics: up to twenty
/// characters, capital letters, letters of scripts that have no capitals, digits and `-_.`.
pub fn listed_name(name: &str) -> Result<String, String> {
    let is_legal = |letter: char| (letter.is_alphanumeric() && !letter.is_lowercase()) || "-_.".contains(letter);
    let is_named = (1..=20).contains(&name.chars().count()) && name.chars().all(is_legal);
    let complaint = || format!("the name {name:?} is not up to 20 capital letters, digits and \"-_.\"");
    is_named.then(|| name.to_owned()).ok_or_else(complaint)
}

fn decimal(name: &str, text: &str, scale: u8) -> Result<Amount, String> {
    let complaint = |_| format!("{name} is {text:?}; it must be a number with at most {scale} decimals");
    parse_decimal(name, text, scale).map_err(complaint)
}

fn multiplier(name: &str, text: &str) -> Result<Multiplier, String> {
    let units = u64::try_from(decimal(name, text, MULTIPLIER_SCALE)?.0).map_err(|_| format!("{name} is too large"))?;
    Ok(Multiplier(units))
}

fn self_trade_prevention(word: &str) -> Result<SelfTradePrevention, String> {
    parse_self_trade_prevention(word).ok_or_else(|| format!("{word} is not a self-trade prevention mode"))
}

fn fee(name: &str, text: &Option<String>) -> Result<FeeRate, String> {
    let Some(text) = text.as_deref() else { return Ok(FeeRate::default()) };
    let billionths = u32::try_from(decimal(name, text, FEE_SCALE)?.0).ok();
    billionths.and_then(FeeRate::from_billionths).ok_or_else(|| format!("{name} is {text:?}; it must be at most 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [[asset]]
        name = "BTC"
        scale = 8
        [[asset]]
        name = "USDT"
        scale = 8
        [[symbol]]
        name = "BTCUSDT"
        base = "BTC"
        quote = "USDT"
        tick_size = "0.01"
        step_size = "0.00001"
        min_notional = "5"
        maker_fee = "0.001"
        [[account]]
        uid = 1001
        balances = { BTC = "100", USDT = "10000000" }
        [[account.key]]
        api_key = "key"
        type = "HMAC"
        secret = "secret"
        permissions = ["USER_DATA", "TRADE"]
    "#;

    #[test]
    fn names_are_such_as_can_stand_in_queries_streams_and_metrics() {
        for name in ["BTC", "1000SATS", "BTC-USDT", "币安人生USDT"] {
            assert_eq!(listed_name(name).as_deref(), Ok(name));
        }
        for name in ["", "btc", "A\"B", "N\nL", "BTC/USDT", "BTCUSDT@trade", "A B", "ABCDEFGHIJKLMNOPQRSTU"] {
            assert!(listed_name(name).is_err(), "{name}");
        }
        let commands = Bootstrap::parse(&FILE.replace("BTCUSDT", "btcusdt")).unwrap().commands();
        assert!(commands.unwrap_err().starts_with("symbol btcusdt: the name"));
    }

    #[test]
    fn a_user_trades_unless_it_is_said_otherwise_and_has_a_password_of_some_length() {
        let with = |user: &str| Bootstrap::parse(&format!("{FILE}[[account.user]]\n{user}")).unwrap().commands();
        let last = with("name = \"ann\"\npassword = \"long enough\"").unwrap().pop().unwrap();
        let Command::Access(access) = last.1 else { panic!("{}", last.0) };
        let Access::SetUser(terms) = *access else { panic!("{}", last.0) };
        assert_eq!((terms.uid, terms.role), (Some(Uid(1001)), Role::Trader));
        assert!(passwords::verify("long enough", &terms.password_hash));
        let refused = |user: &str, why: &str| assert!(with(user).unwrap_err().contains(why), "{user}");
        refused("name = \"ann\"\npassword = \"short\"", "bytes");
        refused("name = \"ann\"\npassword = \"long enough\"\nrole = \"king\"", "role");
    }

    #[test]
    fn a_file_becomes_commands_in_order() {
        let commands = Bootstrap::parse(FILE).unwrap().commands().unwrap();
        let names: Vec<&str> = commands.iter().map(|(what, _)| what.as_str()).collect();
        assert_eq!(
            names,
            [
                "asset BTC",
                "asset USDT",
                "symbol BTCUSDT",
                "account 1001",
                "account 1001: balance of BTC",
                "account 1001: balance of USDT",
                "account 1001: key key",
            ]
        );
        let Command::AddSymbol(config) = &commands[2].1 else { panic!("{commands:?}") };
        assert_eq!((config.tick_size, config.step_size), (Amount(1_000_000), Amount(1_000)));
        assert_eq!(config.commission.standard.maker, FeeRate::from_billionths(1_000_000).unwrap());
        assert!(!format!("{commands:?}").contains("secret"), "a secret is never shown");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let complaint = |from: &str, to: &str| {
            let text = FILE.replace(from, to);
            Bootstrap::parse(&text).and_then(|file| file.commands()).unwrap_err()
        };
        assert!(complaint("tick_size = \"0.01\"", "tick_size = \"x\"").contains("symbol BTCUSDT: tick_size is \"x\""));
        assert!(complaint("base = \"BTC\"", "base = \"ETH\"").contains("ETH is not an asset"));
        assert!(complaint("type = \"HMAC\"", "type = \"ED25519\"").contains("needs a public_key"));
        assert!(complaint("type = \"HMAC\"", "type = \"DSA\"").contains("none of HMAC, ED25519 and RSA"));
        let pem = "\"\"\"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAgmDRTtj2FA+wzJUIlAL9ly1eovjLBu7uXUFR+jFULmg=\n\
                   -----END PUBLIC KEY-----\"\"\"";
        let key = |kind: &str| format!("type = \"{kind}\"\npublic_key = {pem}");
        let hmac = "type = \"HMAC\"\n        secret = \"secret\"";
        assert!(complaint(hmac, &key("RSA")).contains("not of type RSA"));
        let good = FILE.replace(hmac, &key("ED25519"));
        let commands = Bootstrap::parse(&good).unwrap().commands().unwrap();
        let Command::AddApiKey(added) = &commands[6].1 else { panic!("{commands:?}") };
        assert!(matches!(added.kind, ApiKeyKind::Ed25519 { .. }));
        assert!(complaint("maker_fee = \"0.001\"", "maker_fee = \"1.1\"").contains("maker_fee"));
        assert!(complaint("min_notional", "min_national").contains("min_national"));
    }
}
