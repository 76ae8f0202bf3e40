//! An operator's request: checked, made commands, laid into the log, and told.

use std::sync::Arc;

use engine::access::{Access, AddressRange, KeyRules, Note, UserTerms};
use engine::command::{AccountSettings, AddAsset, ApiKey, ApiKeyKind, Command, Permission, Transfer};
use engine::symbol::SymbolStatus;
use engine::units::TradeGroup;
use engine::{Event, Rejection, Sequence, Uid};
use serde_json::{Value, json};

use super::action::{Action, Settings, TransferTerms};
use super::overview::overview;
use crate::app::App;
use crate::audit::Line;
use crate::backend::Backend;
use crate::bootstrap;
use crate::client_address::Network;
use crate::clock;
use crate::logging;
use crate::params::parse_decimal;
use crate::passwords;
use crate::public_keys;
use crate::rest::error::ApiError;
use crate::tokens::{parse_role, role_word};
use crate::views::Catalog;
use crate::wire::{amount_text, symbol_status_word};

/// Under which uid operators' commands stand in the lanes: no account has it.
const LANE: Uid = Uid(u64::MAX);
/// The longest text that says who or why, in bytes.
const TEXT_MAX: usize = 256;

/// What was done, or is so.
#[derive(Debug)]
pub struct Done {
    /// The sequence of the command; none for a question.
    pub sequence: Option<Sequence>,
    /// What there is to tell.
    pub told: Value,
}

/// Why nothing was done, and which status says so.
#[derive(Debug)]
pub struct Refused(pub u16, pub String);

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Refused {
        Refused(error.status, error.message.into_owned())
    }
}

fn wrong(complaint: impl Into<String>) -> Refused {
    Refused(400, complaint.into())
}

/// Does what is asked; `operator` asked it from `origin` for a reason.
pub async fn perform(
    app: &Arc<App>,
    operator: &str,
    origin: &str,
    reason: &str,
    action: Action,
) -> Result<Done, Refused> {
    if operator.is_empty() || operator.len() > TEXT_MAX || reason.len() > TEXT_MAX {
        return Err(wrong(format!("the operator must be named, and name and reason have at most {TEXT_MAX} bytes")));
    }
    let is_question = action.is_question();
    let note = Note {
        operator: operator.to_owned(),
        origin: origin.to_owned(),
        action: action.summary(),
        reason: reason.to_owned(),
    };
    let planned = plan(app, action).await;
    let is_for_log = planned.as_ref().is_ok_and(|planned| !planned.commands.is_empty());
    if !is_question && !is_for_log {
        // What the log does not tell is told here.
        tracing::info!(operator, origin, reason, action = note.action, done = planned.is_ok(), "an operator's request");
        let (time, note, is_done) = (clock::now(), note.clone(), planned.is_ok());
        app.outlets.audit.add(Line { sequence: None, time, note, is_done });
    }
    let Planned { commands, told } = planned?;
    if commands.is_empty() {
        return Ok(Done { sequence: None, told });
    }
    let summary = note.action.clone();
    let mut together = vec![Command::Access(Box::new(Access::Note(note)))];
    together.extend(commands);
    let count = together.len();
    let answer = app.lanes.submit_together(LANE, together)?.answer().await?;
    let mut told = told;
    let mut canceled = 0;
    for index in answer.index..answer.index + count {
        let events = answer.applied.events_of(index);
        canceled += events.iter().filter(|event| matches!(event, Event::OrderCanceled { .. })).count();
        match events.first() {
            Some(Event::Rejected(rejection)) => return Err(refusal(*rejection)),
            Some(Event::TransferRepeated(_)) => told["repeated"] = json!(true),
            _ => {}
        }
    }
    if told.get("canceled").is_some() {
        told["canceled"] = json!(canceled);
    }
    let sequence = answer.applied.sequence(answer.index + count - 1);
    tracing::info!(operator, origin, reason, action = summary, sequence = sequence.0, "an operator's command");
    Ok(Done { sequence: Some(sequence), told })
}

fn refusal(rejection: Rejection) -> Refused {
    let (status, text) = match rejection {
        Rejection::UnknownAccount => (404, "there is no such account"),
        Rejection::UnknownSymbol => (404, "there is no such symbol"),
        Rejection::UnknownAsset => (404, "there is no such asset"),
        Rejection::UnknownApiKey => (404, "there is no such key"),
        Rejection::UnknownUser => (404, "there is no such user"),
        Rejection::UnknownOrder => (404, "no order is open there"),
        Rejection::UnknownWithdrawal => (404, "no such withdrawal is under way"),
        Rejection::AlreadyExists => (409, "there is one of that name already"),
        Rejection::InsufficientBalance => (409, "the free balance does not cover it"),
        Rejection::AccountDisabled => (409, "the account's settings do not allow it"),
        Rejection::ZeroQuantity => (400, "the amount must be above zero"),
        Rejection::Overflow => (400, "the amount does not fit"),
        Rejection::OpenOrders => (409, "orders are open; cancel them first"),
        Rejection::InvalidConfiguration => (400, "a name, number or text is not one that can be"),
        other => return Refused(409, format!("refused: {other:?}")),
    };
    Refused(status, text.to_owned())
}

/// What to lay into the log, and what to tell once it is there.
struct Planned {
    commands: Vec<Command>,
    told: Value,
}

fn planned(command: Command, told: Value) -> Result<Planned, Refused> {
    Ok(Planned { commands: vec![command], told })
}

fn access(asked: Access, told: Value) -> Result<Planned, Refused> {
    planned(Command::Access(Box::new(asked)), told)
}

async fn plan(app: &Arc<App>, action: Action) -> Result<Planned, Refused> {
    let catalog = app.outlets.views.symbols();
    let views = &app.outlets.views;
    match action {
        Action::CreateAccount { uid, settings } => {
            if uid == 0 || uid == LANE.0 {
                return Err(wrong("an account's number is above zero and below 2^64 - 1"));
            }
            let settings = changed(AccountSettings::default(), &settings)?;
            let uid = Uid(uid);
            let mut commands = vec![Command::OpenAccount { uid }];
            if settings != AccountSettings::default() {
                commands.push(Command::ConfigureAccount { uid, settings });
            }
            // The second would come to an account that is another's.
            if views.account_exists(uid) {
                return Err(refusal(Rejection::AlreadyExists));
            }
            Ok(Planned { commands, told: json!({ "uid": uid.0 }) })
        }
        Action::ConfigureAccount { uid, settings } => {
            let uid = existing(app, uid)?;
            let settings = changed(views.settings(uid), &settings)?;
            planned(Command::ConfigureAccount { uid, settings }, settings_told(uid, &settings))
        }
        Action::Account { uid } => {
            let uid = existing(app, uid)?;
            let mut told = settings_told(uid, &views.settings(uid));
            let balance = |(asset, free, locked): &(engine::AssetId, engine::Amount, engine::Amount)| {
                let info = catalog.assets.get(asset.0 as usize)?;
                let (free, locked) = (amount_text(*free, info.scale), amount_text(*locked, info.scale));
                Some(json!({ "asset": info.name, "free": free, "locked": locked }))
            };
            told["balances"] = views.balances(uid).iter().filter_map(balance).collect();
            told["keys"] = keys_told(&catalog, Some(uid));
            Ok(Planned { commands: Vec::new(), told })
        }
        Action::CreateKey { uid, permissions, allow, public_key } => {
            let uid = existing(app, uid)?;
            let permissions =
                parse_permissions(permissions.as_deref().unwrap_or(&["USER_DATA".into(), "TRADE".into()]))?;
            let rules = KeyRules { is_enabled: true, allowed: parse_networks(&allow)? };
            let api_key = random_text();
            let mut told = json!({ "uid": uid.0, "api_key": api_key });
            let kind = match public_key {
                Some(pem) => public_keys::parse(&pem).map_err(wrong)?,
                None => {
                    let secret = random_text();
                    told["secret"] = json!(secret);
                    ApiKeyKind::Hmac { secret: secret.into_bytes() }
                }
            };
            told["type"] = json!(kind_word(&kind));
            let bound = (rules != KeyRules::default()).then(|| {
                let (api_key, permissions) = (api_key.clone(), permissions.clone());
                Command::Access(Box::new(Access::ConfigureApiKey { api_key, permissions, rules }))
            });
            let mut command = Command::AddApiKey(ApiKey { uid, api_key, kind, permissions });
            app.secrets.seal_command(&mut command);
            Ok(Planned { commands: std::iter::once(command).chain(bound).collect(), told })
        }
        Action::ConfigureKey { api_key, permissions, allow, enabled } => {
            let key = catalog.api_keys.get(&api_key).ok_or_else(|| refusal(Rejection::UnknownApiKey))?;
            let permissions = match permissions {
                Some(words) => parse_permissions(&words)?,
                None => key.permissions.clone(),
            };
            let mut rules = catalog.key_rules.get(&api_key).cloned().unwrap_or_default();
            rules.is_enabled = enabled.unwrap_or(rules.is_enabled);
            if let Some(allow) = allow {
                let anywhere = allow.len() == 1 && allow[0] == "any";
                rules.allowed = if anywhere { Vec::new() } else { parse_networks(&allow)? };
            }
            let told = json!({ "api_key": api_key });
            access(Access::ConfigureApiKey { api_key, permissions, rules }, told)
        }
        Action::RemoveKey { api_key } => access(Access::RemoveApiKey { api_key }, json!({})),
        Action::Keys { uid } => Ok(Planned { commands: Vec::new(), told: keys_told(&catalog, uid.map(Uid)) }),
        Action::Deposit { transfer } => planned(Command::Deposit(parse_transfer(&catalog, &transfer)?), json!({})),
        Action::Withdraw { transfer } => planned(Command::Withdraw(parse_transfer(&catalog, &transfer)?), json!({})),
        Action::BeginWithdrawal { transfer } => {
            planned(Command::BeginWithdrawal(parse_transfer(&catalog, &transfer)?), json!({}))
        }
        Action::EndWithdrawal { uid, external_id, abandoned } => {
            let uid = existing(app, uid)?;
            planned(Command::EndWithdrawal { uid, external_id, completed: !abandoned }, json!({}))
        }
        Action::AddAsset { name, scale } => {
            let name = bootstrap::listed_name(&name).map_err(wrong)?;
            planned(Command::AddAsset(AddAsset { name, scale }), json!({}))
        }
        Action::AddSymbol { terms } => {
            let find = |name: &str| {
                let id = catalog.asset_by_name.get(name).copied();
                let info = id.and_then(|id| Some((id, catalog.assets.get(id.0 as usize)?.scale)));
                info.ok_or_else(|| format!("{name} is not an asset"))
            };
            let config = bootstrap::symbol(&terms, find).map_err(wrong)?;
            let told = json!({ "symbol": config.name });
            planned(Command::AddSymbol(Box::new(config)), told)
        }
        Action::SetStatus { symbol, status } => {
            use SymbolStatus::{Break, CancelOnly, EndOfDay, Halt, Trading};
            let known = [Trading, EndOfDay, Halt, Break, CancelOnly];
            let status = known.into_iter().find(|known| symbol_status_word(*known) == status);
            let status =
                status.ok_or_else(|| wrong("the status is none of TRADING, HALT, BREAK, CANCEL_ONLY, END_OF_DAY"))?;
            let symbol = catalog.symbol(&symbol).ok_or_else(|| refusal(Rejection::UnknownSymbol))?.id;
            planned(Command::SetSymbolStatus { symbol, status }, json!({ "status": symbol_status_word(status) }))
        }
        Action::HaltAll => Ok(change_all(&catalog, SymbolStatus::Trading, SymbolStatus::Halt, &[])),
        Action::ResumeAll { except } => {
            if let Some(unknown) = except.iter().find(|name| catalog.symbol(name).is_none()) {
                return Err(Refused(404, format!("there is no symbol {unknown}")));
            }
            Ok(change_all(&catalog, SymbolStatus::Halt, SymbolStatus::Trading, &except))
        }
        Action::CancelAll { uid, symbol } => {
            let uid = existing(app, uid)?;
            let find = |name: String| catalog.symbol(&name).ok_or_else(|| refusal(Rejection::UnknownSymbol));
            let command = match symbol.map(find).transpose()? {
                Some(symbol) => Command::CancelAllOrders { uid, symbol: symbol.id },
                None => Command::CancelEverything { uid },
            };
            planned(command, json!({ "canceled": 0 }))
        }
        Action::SetQuoteDriven { symbol, terms, off } => {
            let symbol = catalog.symbol(&symbol).ok_or_else(|| refusal(Rejection::UnknownSymbol))?;
            let terms = match (off, terms) {
                (true, _) => None,
                (false, None) => {
                    return Err(wrong("say --house, --spread, --stale-after-ms and --max-exposure, or --off"));
                }
                (false, Some(terms)) => {
                    let base = catalog.assets.get(symbol.config.base.0 as usize);
                    let scale = base.ok_or_else(|| refusal(Rejection::UnknownAsset))?.scale;
                    existing(app, terms.house)?;
                    Some(terms.parse(scale).map_err(wrong)?)
                }
            };
            planned(Command::SetQuoteDriven { symbol: symbol.id, terms }, json!({ "quote_driven": terms.is_some() }))
        }
        Action::SetUser { name, role, uid, password, one_time_codes, disabled } => {
            let role = parse_role(&role).ok_or_else(|| wrong("the role is none of trader, read-only, operator"))?;
            let mut told = json!({ "name": name, "role": role_word(role) });
            let password = password.unwrap_or_else(|| {
                let made = random_text();
                told["password"] = json!(made);
                made
            });
            let password_hash = hash_password(app, password).await?;
            let one_time_secret = one_time_codes.then(|| {
                let secret = passwords::one_time_secret();
                told["one_time_url"] = json!(passwords::one_time_url(&name, &secret));
                app.secrets.seal(&one_time_context(&name), &secret)
            });
            let uid = uid.map(Uid);
            let terms = UserTerms { name, uid, role, password_hash, one_time_secret, is_enabled: !disabled };
            access(Access::SetUser(terms), told)
        }
        Action::RemoveUser { name } => access(Access::RemoveUser { name }, json!({})),
        Action::EndSessions { name } => access(Access::EndSessions { name, session: None }, json!({})),
        Action::Users => {
            let user = |user: &engine::access::User| {
                json!({
                    "name": user.terms.name,
                    "role": role_word(user.terms.role),
                    "uid": user.terms.uid.map(|uid| uid.0),
                    "one_time_codes": user.terms.one_time_secret.is_some(),
                    "enabled": user.terms.is_enabled,
                })
            };
            Ok(Planned { commands: Vec::new(), told: catalog.users.values().map(user).collect() })
        }
        Action::Disconnect { id } => match app.sockets.disconnect(id) {
            true => Ok(Planned { commands: Vec::new(), told: json!({ "id": id }) }),
            false => Err(Refused(404, "no such websocket is open on this node".to_owned())),
        },
        Action::Snapshot => {
            let writing = app.node.read().as_ref().map(Backend::write_snapshot);
            let is_begun = match writing {
                Some(Some(writing)) => writing.await,
                Some(None) => return Err(Refused(409, "a gateway keeps nothing; ask a node".to_owned())),
                None => false,
            };
            match is_begun {
                true => Ok(Planned { commands: Vec::new(), told: json!({ "sequence": views.sequence().0 }) }),
                false => Err(Refused(503, "the node is stopping".to_owned())),
            }
        }
        Action::LogLevel { filter } => {
            filter.iter().try_for_each(|filter| logging::set_filter(filter)).map_err(wrong)?;
            let filter = logging::filter().ok_or_else(|| wrong("this process does not log by a filter"))?;
            Ok(Planned { commands: Vec::new(), told: json!({ "filter": filter }) })
        }
        Action::Reload => match app.reload() {
            Ok(said) => Ok(Planned { commands: Vec::new(), told: json!({ "reloaded": said }) }),
            Err(reason) => Err(Refused(409, reason)),
        },
        Action::Overview => Ok(Planned { commands: Vec::new(), told: overview(app).await }),
    }
}

/// The hash of a password that may be one; a thread of its own works it out.
pub async fn hash_password(app: &App, password: String) -> Result<String, Refused> {
    if !passwords::PASSWORD_BYTES.contains(&password.len()) {
        let (least, most) = (passwords::PASSWORD_BYTES.start(), passwords::PASSWORD_BYTES.end());
        return Err(wrong(format!("a password has {least} to {most} bytes")));
    }
    let _permit = app.hashing.acquire().await.map_err(|_| Refused(503, "the server is stopping".to_owned()))?;
    let hashed = tokio::task::spawn_blocking(move || passwords::hash(&password)).await;
    hashed.map_err(|_| Refused(500, "the password could not be hashed".to_owned()))
}

/// What a secret of one-time codes belongs to.
pub fn one_time_context(name: &str) -> String {
    format!("one-time:{name}")
}

/// All symbols of one status get another.
fn change_all(catalog: &Catalog, from: SymbolStatus, to: SymbolStatus, except: &[String]) -> Planned {
    let symbols =
        catalog.symbols.iter().filter(|symbol| symbol.status == from && !except.contains(&symbol.config.name));
    let (commands, names): (Vec<Command>, Vec<&str>) = symbols
        .map(|symbol| (Command::SetSymbolStatus { symbol: symbol.id, status: to }, symbol.config.name.as_str()))
        .unzip();
    Planned { commands, told: json!({ "status": symbol_status_word(to), "symbols": names }) }
}

fn existing(app: &App, uid: u64) -> Result<Uid, Refused> {
    let uid = Uid(uid);
    if app.outlets.views.account_exists(uid) { Ok(uid) } else { Err(refusal(Rejection::UnknownAccount)) }
}

fn changed(mut settings: AccountSettings, asked: &Settings) -> Result<AccountSettings, Refused> {
    settings.can_trade = asked.can_trade.unwrap_or(settings.can_trade);
    settings.can_deposit = asked.can_deposit.unwrap_or(settings.can_deposit);
    settings.can_withdraw = asked.can_withdraw.unwrap_or(settings.can_withdraw);
    settings.commission_tier = asked.commission_tier.unwrap_or(settings.commission_tier);
    settings.discount = asked.discount.unwrap_or(settings.discount);
    let required = asked.require_self_trade_prevention;
    settings.require_self_trade_prevention = required.unwrap_or(settings.require_self_trade_prevention);
    settings.trade_group = match asked.trade_group {
        None => settings.trade_group,
        Some(-1) => None,
        Some(group) => {
            Some(TradeGroup(u32::try_from(group).map_err(|_| wrong("a trade group is a number, or -1 for none"))?))
        }
    };
    Ok(settings)
}

fn settings_told(uid: Uid, settings: &AccountSettings) -> Value {
    json!({
        "uid": uid.0,
        "can_trade": settings.can_trade,
        "can_deposit": settings.can_deposit,
        "can_withdraw": settings.can_withdraw,
        "trade_group": settings.trade_group.map(|group| group.0),
        "commission_tier": settings.commission_tier,
        "discount": settings.discount,
        "require_self_trade_prevention": settings.require_self_trade_prevention,
    })
}

fn keys_told(catalog: &Catalog, uid: Option<Uid>) -> Value {
    let wanted = catalog.api_keys.values().filter(|key| uid.is_none_or(|uid| key.uid == uid));
    let key = |key: &ApiKey| {
        let rules = catalog.key_rules.get(&key.api_key).cloned().unwrap_or_default();
        json!({
            "api_key": key.api_key,
            "uid": key.uid.0,
            "type": kind_word(&key.kind),
            "permissions": key.permissions.iter().map(|it| permission_word(*it)).collect::<Vec<_>>(),
            "allow": rules.allowed.iter().filter_map(network_text).collect::<Vec<_>>(),
            "enabled": rules.is_enabled,
            // Sealed under a key that this node does not have: it lets nobody in here.
            "opens": !matches!(key.kind, ApiKeyKind::SealedHmac { .. }),
        })
    };
    wanted.map(key).collect()
}

fn network_text(range: &AddressRange) -> Option<String> {
    Network::from_parts(range.address, range.prefix).map(|network| network.to_string())
}

fn kind_word(kind: &ApiKeyKind) -> &'static str {
    match kind {
        ApiKeyKind::Hmac { .. } | ApiKeyKind::SealedHmac { .. } => "HMAC",
        ApiKeyKind::Ed25519 { .. } => "ED25519",
        ApiKeyKind::Rsa { .. } => "RSA",
    }
}

fn permission_word(permission: Permission) -> &'static str {
    match permission {
        Permission::UserData => "USER_DATA",
        Permission::Trade => "TRADE",
        Permission::Feed => "FEED",
    }
}

fn parse_permissions(words: &[String]) -> Result<Vec<Permission>, Refused> {
    let known = [Permission::UserData, Permission::Trade, Permission::Feed];
    let parse = |word: &String| known.into_iter().find(|known| permission_word(*known) == word);
    let complaint = |word: &String| wrong(format!("permission {word} is none of USER_DATA, TRADE, FEED"));
    words.iter().map(|word| parse(word).ok_or_else(|| complaint(word))).collect()
}

fn parse_networks(texts: &[String]) -> Result<Vec<AddressRange>, Refused> {
    let parse = |text: &String| {
        let (address, prefix) = text.parse::<Network>().map_err(wrong)?.parts();
        Ok(AddressRange { address, prefix })
    };
    texts.iter().map(parse).collect()
}

fn parse_transfer(catalog: &Catalog, terms: &TransferTerms) -> Result<Transfer, Refused> {
    let asset = catalog.asset_by_name.get(&terms.asset).copied().ok_or_else(|| refusal(Rejection::UnknownAsset))?;
    let scale = catalog.assets.get(asset.0 as usize).ok_or_else(|| refusal(Rejection::UnknownAsset))?.scale;
    let amount = parse_decimal("amount", &terms.amount, scale)?;
    Ok(Transfer { uid: Uid(terms.uid), asset, amount, external_id: terms.external_id.clone() })
}

/// Sixty-four letters and digits that nobody can guess.
fn random_text() -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bytes: [u8; 64] = rand::random();
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte & 63)])).collect()
}
