//! What an operator can ask for: the same words on the command line (`rialto admin …`) and in the JSON that goes to the admin
//! listener.

use clap::{Args, Subcommand};

use crate::bootstrap::QuoteTerms;
use serde::{Deserialize, Serialize};

/// One thing to do.
#[derive(Clone, Debug, Serialize, Deserialize, Subcommand)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Open an account
    CreateAccount {
        /// Its number, from 1
        uid: u64,
        /// How it is treated
        #[serde(flatten)]
        #[command(flatten)]
        settings: Settings,
    },
    /// Change what an account may do; what is not said stays
    ConfigureAccount {
        /// Its number
        uid: u64,
        /// How it is treated
        #[serde(flatten)]
        #[command(flatten)]
        settings: Settings,
    },
    /// Show an account: settings, balances, keys
    Account {
        /// Its number
        uid: u64,
    },
    /// Make an API key; what is secret of it is shown once and never again
    CreateKey {
        /// Whose
        uid: u64,
        /// What may be done with it: USER_DATA, TRADE, FEED; the first two where it is not said
        #[arg(long = "permission", value_name = "WORD")]
        #[serde(default)]
        permissions: Option<Vec<String>>,
        /// From where alone it may be used, such as 203.0.113.7 or 10.0.0.0/8; may be said more than once
        #[arg(long, value_name = "NETWORK")]
        #[serde(default)]
        allow: Vec<String>,
        /// The client's public key (Ed25519 or RSA) in PEM; without one an HMAC secret is made
        #[arg(long, value_name = "PEM")]
        #[serde(default)]
        public_key: Option<String>,
    },
    /// Change what a key may do; what is not said stays
    ConfigureKey {
        /// The key
        api_key: String,
        /// What may be done with it from now on
        #[arg(long = "permission", value_name = "WORD")]
        #[serde(default)]
        permissions: Option<Vec<String>>,
        /// From where alone it may be used from now on; "any" for everywhere
        #[arg(long, value_name = "NETWORK")]
        #[serde(default)]
        allow: Option<Vec<String>>,
        /// Whether it works at all
        #[arg(long, value_name = "true|false")]
        #[serde(default)]
        enabled: Option<bool>,
    },
    /// Remove a key
    RemoveKey {
        /// The key
        api_key: String,
    },
    /// List keys, without what is secret of them
    Keys {
        /// Of this account alone
        #[arg(long)]
        #[serde(default)]
        uid: Option<u64>,
    },
    /// Put an asset on an account; asked again under the same external id it has no second effect
    Deposit {
        /// What moves
        #[serde(flatten)]
        #[command(flatten)]
        transfer: TransferTerms,
    },
    /// Take an asset off an account at once; asked again under the same external id it has no second effect
    Withdraw {
        /// What moves
        #[serde(flatten)]
        #[command(flatten)]
        transfer: TransferTerms,
    },
    /// Lock an asset for a withdrawal that is under way outside
    BeginWithdrawal {
        /// What moves
        #[serde(flatten)]
        #[command(flatten)]
        transfer: TransferTerms,
    },
    /// Say how a withdrawal that was begun has ended
    EndWithdrawal {
        /// Whose
        uid: u64,
        /// The name it was begun with
        external_id: String,
        /// It did not leave: what it locked is free again
        #[arg(long)]
        #[serde(default)]
        abandoned: bool,
    },
    /// List an asset
    AddAsset {
        /// Its name, such as BTC
        name: String,
        /// Decimals of its smallest unit
        scale: u8,
    },
    /// List a symbol; it trades at once
    AddSymbol {
        /// What stands under `symbol` in the bootstrap file, in TOML; "-" reads it from standard input
        terms: String,
    },
    /// Halt, restrict or resume a symbol
    SetStatus {
        /// Which one
        symbol: String,
        /// TRADING, HALT, BREAK, CANCEL_ONLY or END_OF_DAY
        status: String,
    },
    /// Halt every symbol that trades, all at once
    HaltAll,
    /// Resume every symbol that is halted, all at once
    ResumeAll {
        /// One that stays as it is; may be said more than once
        #[arg(long, value_name = "SYMBOL")]
        #[serde(default)]
        except: Vec<String>,
    },
    /// Take all open orders of an account off the books
    CancelAll {
        /// Whose
        uid: u64,
        /// Of this symbol alone
        #[arg(long)]
        #[serde(default)]
        symbol: Option<String>,
    },
    /// Let a reference price from outside decide in a symbol instead of its book; only while no order is open in it
    SetQuoteDriven {
        /// Which one
        symbol: String,
        /// How
        #[command(flatten)]
        #[serde(flatten)]
        terms: Option<QuoteTerms>,
        /// It has a book again
        #[arg(long, conflicts_with = "QuoteTerms")]
        #[serde(default)]
        off: bool,
    },
    /// Make a user for the web page, or set one anew; whatever was logged in as it is logged out
    SetUser {
        /// The name it logs in with
        name: String,
        /// trader, read-only or operator
        #[arg(long, default_value = "trader")]
        role: String,
        /// Whose account it sees; an operator need not have one
        #[arg(long)]
        #[serde(default)]
        uid: Option<u64>,
        /// Its password; "-" reads it from standard input; where it is not said, one is made and shown once
        #[arg(long)]
        #[serde(default)]
        password: Option<String>,
        /// It needs a one-time code too: the secret for its authenticator is made and shown once
        #[arg(long)]
        #[serde(default)]
        one_time_codes: bool,
        /// It may not log in
        #[arg(long)]
        #[serde(default)]
        disabled: bool,
    },
    /// Remove a user
    RemoveUser {
        /// Who
        name: String,
    },
    /// Log a user out everywhere
    EndSessions {
        /// Who
        name: String,
    },
    /// List users, without what is secret of them
    Users,
    /// End a websocket of this node
    Disconnect {
        /// Its number, as the overview has it
        id: u64,
    },
    /// Write a snapshot on this node now
    Snapshot,
    /// Show what this node logs, or say what it logs until it stops, such as info,gateway::ws=debug
    LogLevel {
        /// Levels (off, error, warn, info, debug, trace) and MODULE=LEVEL, with commas between them
        #[serde(default)]
        filter: Option<String>,
    },
    /// Read the settings of a gateway again: its nodes, how reads are spread over them, when one is left alone
    Reload,
    /// Show how everything stands: health, cluster, queues, symbols, sockets, rejects, what operators did
    Overview,
}

/// How an account is treated; what is not said stays, and is the usual for a new one.
#[derive(Clone, Debug, Default, Serialize, Deserialize, Args)]
#[serde(default)]
pub struct Settings {
    /// Whether it may place orders
    #[arg(long, value_name = "true|false")]
    pub can_trade: Option<bool>,
    /// Whether it may be deposited to
    #[arg(long, value_name = "true|false")]
    pub can_deposit: Option<bool>,
    /// Whether it may withdraw
    #[arg(long, value_name = "true|false")]
    pub can_withdraw: Option<bool>,
    /// Its group for self-trade prevention; -1 for none
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub trade_group: Option<i64>,
    /// Its commission tier; 0 pays the symbols' standard
    #[arg(long, value_name = "N")]
    pub commission_tier: Option<u16>,
    /// Whether commission is taken in the discount asset
    #[arg(long, value_name = "true|false")]
    pub discount: Option<bool>,
    /// Whether every order must have a self-trade prevention
    #[arg(long, value_name = "true|false")]
    pub require_self_trade_prevention: Option<bool>,
}

/// An asset that moves into or out of the exchange.
#[derive(Clone, Debug, Serialize, Deserialize, Args)]
pub struct TransferTerms {
    /// Whose account
    pub uid: u64,
    /// Which asset, such as BTC
    pub asset: String,
    /// How much, such as 1.5
    pub amount: String,
    /// The name of this transfer in the outside world: what makes asking twice harmless
    pub external_id: String,
}

impl Action {
    /// Whether it only asks.
    pub fn is_question(&self) -> bool {
        matches!(
            self,
            Action::Account { .. }
                | Action::Keys { .. }
                | Action::Users
                | Action::Overview
                | Action::LogLevel { filter: None }
        )
    }

    /// In words for the log, without what is secret.
    pub fn summary(&self) -> String {
        let mut shown = self.clone();
        if let Action::SetUser { password, .. } = &mut shown {
            *password = None;
        }
        if let Action::AddSymbol { terms } = &mut shown {
            *terms = terms.lines().find(|line| line.trim_start().starts_with("name")).unwrap_or_default().to_owned();
        }
        let mut text = serde_json::to_string(&shown).unwrap_or_default();
        // What the log takes at the most.
        let end = (0..=text.len().min(1_000)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text
    }
}

/// What goes to the admin listener.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Who asks; by a token of a user it is that user.
    #[serde(default)]
    pub operator: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// What.
    #[serde(rename = "do")]
    pub action: Action,
}
