//! The bootstrap file: what is listed and funded when the log is empty, as the commands that do so.

use std::collections::BTreeMap;
use std::path::Path;

use engine::command::{AddAsset, ApiKey, ApiKeyKind, Command, Permission, Transfer};
use engine::symbol::SymbolConfig;
use engine::units::FeeRate;
use engine::{Amount, AssetId, Uid};
use serde::Deserialize;

use crate::params::parse_decimal;

/// Decimals of a fee rate.
const FEE_SCALE: u8 = 9;

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
    maker_fee: Option<String>,
    #[serde(default)]
    taker_fee: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    uid: u64,
    #[serde(default)]
    balances: BTreeMap<String, String>,
    #[serde(default)]
    key: Vec<Key>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    api_key: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    secret: Option<String>,
    permissions: Vec<String>,
}

impl std::fmt::Debug for Key {
    /// Never shows the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.api_key)
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
            let added = AddAsset { name: asset.name.clone(), scale: asset.scale };
            commands.push((format!("asset {}", asset.name), Command::AddAsset(added)));
        }
        for symbol in &self.symbol {
            let what = format!("symbol {}", symbol.name);
            let config = symbol.config(find).map_err(|error| format!("{what}: {error}"))?;
            commands.push((what, Command::AddSymbol(config)));
        }
        for account in &self.account {
            let what = format!("account {}", account.uid);
            let uid = Uid(account.uid);
            commands.push((what.clone(), Command::OpenAccount { uid }));
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
        }
        Ok(commands)
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
            name: self.name.clone(),
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
            maker_fee: fee("maker_fee", &self.maker_fee)?,
            taker_fee: fee("taker_fee", &self.taker_fee)?,
        })
    }
}

impl Key {
    fn command(&self, uid: Uid) -> Result<ApiKey, String> {
        if self.kind != "HMAC" {
            return Err(format!("type {} is not supported; HMAC is", self.kind));
        }
        let secret = self.secret.as_deref().ok_or("an HMAC key needs a secret")?;
        let permission = |word: &String| match word.as_str() {
            "USER_DATA" => Ok(Permission::UserData),
            "TRADE" => Ok(Permission::Trade),
            other => Err(format!("permission {other} is neither USER_DATA nor TRADE")),
        };
        let permissions = self.permissions.iter().map(permission).collect::<Result<_, _>>()?;
        let kind = ApiKeyKind::Hmac { secret: secret.as_bytes().to_vec() };
        Ok(ApiKey { uid, api_key: self.api_key.clone(), kind, permissions })
    }
}

fn decimal(name: &str, text: &str, scale: u8) -> Result<Amount, String> {
    let complaint = |_| format!("{name} is {text:?}; it must be a number with at most {scale} decimals");
    parse_decimal(name, text, scale).map_err(complaint)
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
        assert_eq!(config.maker_fee, FeeRate::from_billionths(1_000_000).unwrap());
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
        assert!(complaint("type = \"HMAC\"", "type = \"ED25519\"").contains("ED25519"));
        assert!(complaint("maker_fee = \"0.001\"", "maker_fee = \"1.1\"").contains("maker_fee"));
        assert!(complaint("min_notional", "min_national").contains("min_national"));
    }
}
