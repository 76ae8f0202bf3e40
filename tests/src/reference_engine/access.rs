//! Keys and users, by the words of the rules.

use engine::Rejection;
use engine::access::{Access, AccessChange, KeyRules, Role, User, UserTerms};
use engine::command::{ApiKey, ApiKeyKind};
use engine::event::Event;

use super::ReferenceEngine;
use super::checks::require;

impl ReferenceEngine {
    pub(super) fn add_api_key(&mut self, key: &ApiKey) -> Result<(), Rejection> {
        self.check_trading_account(key.uid)?;
        let material = match &key.kind {
            ApiKeyKind::Hmac { .. } | ApiKeyKind::Ed25519 { .. } => true,
            ApiKeyKind::Rsa { public_key } => public_key.len() <= 1_024,
            ApiKeyKind::SealedHmac { sealed } => sealed.len() <= 512,
        };
        let named = (1..=128).contains(&key.api_key.len());
        require(named && material, Rejection::InvalidConfiguration)?;
        require(!self.api_keys.contains_key(&key.api_key), Rejection::AlreadyExists)?;
        self.api_keys.insert(key.api_key.clone(), key.clone());
        self.events.push(Event::ApiKeyAdded(Box::new(key.clone())));
        Ok(())
    }

    pub(super) fn access(&mut self, asked: &Access) -> Result<(), Rejection> {
        let change = match asked {
            Access::ConfigureApiKey { api_key, permissions, rules } => {
                require(can_bind(rules), Rejection::InvalidConfiguration)?;
                let mut key = self.api_keys.get(api_key).cloned().ok_or(Rejection::UnknownApiKey)?;
                key.permissions = permissions.clone();
                self.api_keys.insert(api_key.clone(), key.clone());
                AccessChange::ApiKeyConfigured { key, rules: rules.clone() }
            }
            Access::RemoveApiKey { api_key } => {
                let key = self.api_keys.remove(api_key).ok_or(Rejection::UnknownApiKey)?;
                AccessChange::ApiKeyRemoved { uid: key.uid, api_key: api_key.clone() }
            }
            Access::SetUser(terms) => {
                self.check_user(terms)?;
                let last = self.users.get(&terms.name).map_or(0, |user| user.epoch);
                let user = User { terms: terms.clone(), epoch: self.now.0.max(last + 1), ended: vec![] };
                self.users.insert(terms.name.clone(), user.clone());
                AccessChange::UserChanged(user)
            }
            Access::EndSessions { name, session } => {
                let now = self.now;
                let user = self.users.get_mut(name).ok_or(Rejection::UnknownUser)?;
                user.ended.retain(|(_, until)| *until > now);
                let is_known = session.is_some_and(|(id, _)| user.ended.iter().any(|(ended, _)| *ended == id));
                if let Some(session) = session.filter(|_| user.ended.len() < 64 && !is_known) {
                    user.ended.push(session);
                } else if !is_known {
                    user.epoch = now.0.max(user.epoch + 1);
                    user.ended = vec![];
                }
                AccessChange::UserChanged(user.clone())
            }
            Access::RemoveUser { name } => {
                require(self.users.remove(name).is_some(), Rejection::UnknownUser)?;
                AccessChange::UserRemoved { name: name.clone() }
            }
            Access::Note(note) => {
                let longest = [&note.operator, &note.origin, &note.action, &note.reason].map(|text| text.len());
                require(longest.iter().all(|length| *length <= 1_024), Rejection::InvalidConfiguration)?;
                AccessChange::Noted(note.clone())
            }
        };
        self.events.push(Event::AccessChanged(Box::new(change)));
        Ok(())
    }

    fn check_user(&self, terms: &UserTerms) -> Result<(), Rejection> {
        match terms.uid {
            Some(uid) => self.check_trading_account(uid)?,
            None => require(terms.role == Role::Operator, Rejection::UnknownAccount)?,
        }
        let named = (1..=64).contains(&terms.name.len());
        let secret = terms.one_time_secret.as_ref().is_none_or(|secret| secret.len() <= 512);
        require(named && terms.password_hash.len() <= 512 && secret, Rejection::InvalidConfiguration)
    }
}

fn can_bind(rules: &KeyRules) -> bool {
    rules.allowed.len() <= 64 && rules.allowed.iter().all(|range| range.prefix <= 128)
}
