//! Who may do what: API keys with their rules, and the users who log in. The engine only keeps them, so that every node knows
//! them and the log tells who changed them; the gateway checks them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::account::{Accounts, FEE_ACCOUNT};
use crate::command::{ApiKey, ApiKeyKind, Permission};
use crate::event::Rejection;
use crate::units::{Time, Uid};

/// The longest API key, in bytes.
const API_KEY_MAX: usize = 128;
/// The longest RSA public key, in bytes: one of 4096 bits has 526.
const RSA_KEY_MAX: usize = 1_024;
/// How many ranges of addresses a key may be bound to.
const ALLOWED_MAX: usize = 64;
/// The longest name of a user, in bytes.
const USER_NAME_MAX: usize = 64;
/// The longest hash of a password, and the longest sealed secret, in bytes.
const HASH_MAX: usize = 512;
/// How many ended sessions of a user are remembered; one more ends all.
const ENDED_MAX: usize = 64;
/// The longest text of a note, in bytes.
const NOTE_MAX: usize = 1_024;

/// What operators ask about keys and users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Change what a key may do.
    ConfigureApiKey {
        /// Which one.
        api_key: String,
        /// What it may do from now on.
        permissions: Vec<Permission>,
        /// What binds it from now on.
        rules: KeyRules,
    },
    /// A key works no more.
    RemoveApiKey {
        /// Which one.
        api_key: String,
    },
    /// Make a user, or change one; what was logged in as it is no more.
    SetUser(UserTerms),
    /// What is logged in as a user is no more.
    EndSessions {
        /// Who.
        name: String,
        /// Which session and until when it would have lasted; all where it is not said.
        session: Option<(u64, Time)>,
    },
    /// A user is no more.
    RemoveUser {
        /// Who.
        name: String,
    },
    /// Who asked for the commands that follow in the same entry, and why. Changes nothing.
    Note(Note),
}

/// What changed of keys and users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessChange {
    /// A key is this from now on.
    ApiKeyConfigured {
        /// The key, with what it may do.
        key: ApiKey,
        /// What binds it.
        rules: KeyRules,
    },
    /// A key works no more.
    ApiKeyRemoved {
        /// Whose it was.
        uid: Uid,
        /// Which one.
        api_key: String,
    },
    /// A user is this from now on.
    UserChanged(User),
    /// A user is no more.
    UserRemoved {
        /// Who.
        name: String,
    },
    /// An operator said who asks and why.
    Noted(Note),
}

/// What binds an API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRules {
    /// Whether it works at all.
    pub is_enabled: bool,
    /// From where alone it may be used; from everywhere when empty.
    pub allowed: Vec<AddressRange>,
}

impl Default for KeyRules {
    fn default() -> Self {
        KeyRules { is_enabled: true, allowed: Vec::new() }
    }
}

/// All network addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRange {
    /// As one of the sixth version, where those of the fourth are mapped.
    pub address: [u8; 16],
    /// How many bits count.
    pub prefix: u8,
}

/// Who asks for what follows, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Who.
    pub operator: String,
    /// From where.
    pub origin: String,
    /// What, in the words of the request, without secrets.
    pub action: String,
    /// Why.
    pub reason: String,
}

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Reads its account and trades.
    Trader,
    /// Reads its account.
    ReadOnly,
    /// Runs the exchange; has an account only if one is said.
    Operator,
}

/// A user as an operator sets it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserTerms {
    /// The name it logs in with; unique.
    pub name: String,
    /// Whose account it sees; all but operators have one.
    pub uid: Option<Uid>,
    /// What it may do.
    pub role: Role,
    /// Its password, hashed.
    pub password_hash: String,
    /// The secret of its one-time codes, sealed.
    pub one_time_secret: Option<Vec<u8>>,
    /// Whether it may log in.
    pub is_enabled: bool,
}

impl std::fmt::Debug for UserTerms {
    /// Never shows a hash or a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserTerms({}, {:?}, {:?})", self.name, self.role, self.uid)
    }
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// As it was set.
    pub terms: UserTerms,
    /// Rises whenever all its sessions end: those that began under another number are over. It begins with the time, so that
    /// nobody who was logged in under a name still is when the name is given again.
    pub epoch: u64,
    /// Sessions that were ended by themselves, and until when each would have lasted.
    pub ended: Vec<(u64, Time)>,
}

/// All keys and users.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccessState {
    pub api_keys: BTreeMap<String, ApiKey>,
    /// Of the keys that are bound by any.
    pub rules: BTreeMap<String, KeyRules>,
    pub users: BTreeMap<String, User>,
}

impl AccessState {
    pub(crate) fn add_api_key(&mut self, key: &ApiKey, accounts: &Accounts) -> Result<(), Rejection> {
        self.can_add_api_key(key, accounts)?;

        self.api_keys.insert(key.api_key.clone(), key.clone());
        Ok(())
    }

    pub(crate) fn can_add_api_key(&self, key: &ApiKey, accounts: &Accounts) -> Result<(), Rejection> {
        if !is_trader(accounts, key.uid) {
            return Err(Rejection::UnknownAccount);
        }
        let is_too_long = match &key.kind {
            ApiKeyKind::Rsa { public_key } => public_key.len() > RSA_KEY_MAX,
            ApiKeyKind::SealedHmac { sealed } => sealed.len() > HASH_MAX,
            _ => false,
        };
        if !(1..=API_KEY_MAX).contains(&key.api_key.len()) || is_too_long {
            return Err(Rejection::InvalidConfiguration);
        }
        if self.api_keys.contains_key(&key.api_key) {
            return Err(Rejection::AlreadyExists);
        }
        Ok(())
    }

    /// What an operator asked, done.
    pub(crate) fn decide(&mut self, asked: &Access, accounts: &Accounts, now: Time) -> Result<AccessChange, Rejection> {
        match asked {
            Access::ConfigureApiKey { api_key, permissions, rules } => {
                if !rules.is_sound() {
                    return Err(Rejection::InvalidConfiguration);
                }
                let key = self.api_keys.get_mut(api_key).ok_or(Rejection::UnknownApiKey)?;
                key.permissions = permissions.clone();
                if *rules == KeyRules::default() {
                    self.rules.remove(api_key);
                } else {
                    self.rules.insert(api_key.clone(), rules.clone());
                }
                Ok(AccessChange::ApiKeyConfigured { key: key.clone(), rules: rules.clone() })
            }
            Access::RemoveApiKey { api_key } => {
                let key = self.api_keys.remove(api_key).ok_or(Rejection::UnknownApiKey)?;
                self.rules.remove(api_key);
                Ok(AccessChange::ApiKeyRemoved { uid: key.uid, api_key: key.api_key })
            }
            Access::SetUser(terms) => {
                can_set(terms, accounts)?;
                let before = self.users.get(&terms.name).map_or(0, |user| user.epoch);
                let user = User { terms: terms.clone(), epoch: next_epoch(before, now), ended: Vec::new() };
                self.users.insert(terms.name.clone(), user.clone());
                Ok(AccessChange::UserChanged(user))
            }
            Access::EndSessions { name, session } => {
                let user = self.users.get_mut(name).ok_or(Rejection::UnknownUser)?;
                user.end(*session, now);
                Ok(AccessChange::UserChanged(user.clone()))
            }
            Access::RemoveUser { name } => {
                self.users.remove(name).ok_or(Rejection::UnknownUser)?;
                Ok(AccessChange::UserRemoved { name: name.clone() })
            }
            Access::Note(note) => {
                let texts = [&note.operator, &note.origin, &note.action, &note.reason];
                if texts.into_iter().any(|text| text.len() > NOTE_MAX) {
                    return Err(Rejection::InvalidConfiguration);
                }
                Ok(AccessChange::Noted(note.clone()))
            }
        }
    }

    /// Whether there is more than keys.
    pub(crate) fn has_more(&self) -> bool {
        !self.rules.is_empty() || !self.users.is_empty()
    }

    /// The rules of a key as a snapshot has them; whether they can be.
    pub(crate) fn restore_rules(&mut self, api_key: String, rules: KeyRules) -> bool {
        let is_sound = rules.is_sound() && rules != KeyRules::default() && self.api_keys.contains_key(&api_key);
        let follows = self.rules.last_key_value().is_none_or(|(last, _)| *last < api_key);
        self.rules.insert(api_key, rules);
        is_sound && follows
    }

    /// A user as a snapshot has it; whether it can be.
    pub(crate) fn restore_user(&mut self, user: User, accounts: &Accounts) -> bool {
        let is_sound = can_set(&user.terms, accounts).is_ok() && user.ended.len() <= ENDED_MAX;
        let follows = self.users.last_key_value().is_none_or(|(last, _)| *last < user.terms.name);
        self.users.insert(user.terms.name.clone(), user);
        is_sound && follows
    }
}

impl KeyRules {
    fn is_sound(&self) -> bool {
        self.allowed.len() <= ALLOWED_MAX && self.allowed.iter().all(|range| range.prefix <= 128)
    }
}

impl User {
    fn end(&mut self, session: Option<(u64, Time)>, now: Time) {
        self.ended.retain(|&(_, until)| until > now);
        let known = |(session, _): (u64, Time)| self.ended.iter().any(|&(ended, _)| ended == session);
        match session {
            Some(session) if known(session) => {}
            Some(session) if self.ended.len() < ENDED_MAX => self.ended.push(session),
            _ => {
                self.epoch = next_epoch(self.epoch, now);
                self.ended.clear();
            }
        }
    }
}

fn next_epoch(before: u64, now: Time) -> u64 {
    now.0.max(before.saturating_add(1))
}

fn is_trader(accounts: &Accounts, uid: Uid) -> bool {
    uid != FEE_ACCOUNT && accounts.is_open(uid)
}

fn can_set(terms: &UserTerms, accounts: &Accounts) -> Result<(), Rejection> {
    let has_its_account = match terms.uid {
        Some(uid) => is_trader(accounts, uid),
        None => terms.role == Role::Operator,
    };
    if !has_its_account {
        return Err(Rejection::UnknownAccount);
    }
    let secret = terms.one_time_secret.as_ref().map_or(0, Vec::len);
    if !(1..=USER_NAME_MAX).contains(&terms.name.len()) || terms.password_hash.len() > HASH_MAX || secret > HASH_MAX {
        return Err(Rejection::InvalidConfiguration);
    }
    Ok(())
}
