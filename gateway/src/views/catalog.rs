//! What is listed, what holds everywhere, and which keys work: what changes seldom and every request looks at.

use std::collections::BTreeMap;

use engine::access::{AccessChange, KeyRules, User};
use engine::command::{AccountSettings, ApiKey, ExchangeLimits};
use engine::commission::CommissionRates;
use engine::quotes::QuoteTerms;
use engine::snapshot::SymbolState;
use engine::symbol::Symbol;
use engine::{AssetId, Event, Snapshot, SymbolId};

/// An asset's name and decimals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetInfo {
    /// Such as `BTC`.
    pub name: String,
    /// Decimals of its smallest unit.
    pub scale: u8,
}

/// What is listed, what limits and commissions hold, and which keys work. Never changed, only replaced.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// By asset id.
    pub assets: Vec<AssetInfo>,
    /// By symbol id.
    pub symbols: Vec<Symbol>,
    /// Symbols by name.
    pub by_name: BTreeMap<String, SymbolId>,
    /// Assets by name.
    pub asset_by_name: BTreeMap<String, AssetId>,
    /// API keys by what the client sends.
    pub api_keys: BTreeMap<String, ApiKey>,
    /// What binds the keys that are bound.
    pub key_rules: BTreeMap<String, KeyRules>,
    /// Users by the name they log in with.
    pub users: BTreeMap<String, User>,
    /// The limits over all symbols.
    pub limits: ExchangeLimits,
    /// What tier n pays is at n - 1.
    pub commission_tiers: Vec<Option<CommissionRates>>,
    /// The symbols that are quote-driven, and how.
    pub quote_driven: BTreeMap<SymbolId, QuoteTerms>,
}

impl Catalog {
    /// The symbol of that name, which is in capitals.
    pub fn symbol(&self, name: &str) -> Option<&Symbol> {
        self.by_name.get(name).and_then(|id| self.symbols.get(id.0 as usize))
    }

    /// What an account pays as its standard commission in a symbol.
    pub fn standard_commission(&self, symbol: &Symbol, settings: &AccountSettings) -> CommissionRates {
        let tier = usize::from(settings.commission_tier).checked_sub(1);
        let of_tier = tier.and_then(|tier| self.commission_tiers.get(tier).copied().flatten());
        of_tier.unwrap_or(symbol.config.commission.standard)
    }

    /// As a snapshot says. `opened` makes of a key one that requests can be checked with.
    pub(super) fn restore(snapshot: &Snapshot, opened: impl Fn(&ApiKey) -> ApiKey) -> Catalog {
        let mut catalog = Catalog::default();
        snapshot.assets().for_each(|state| catalog.add_asset(&state.asset.name, state.asset.scale));
        snapshot.symbols().for_each(|state| catalog.add_symbol(state.symbol()));
        (catalog.limits, catalog.commission_tiers) = (*snapshot.limits(), snapshot.commission_tiers().to_vec());
        catalog.api_keys = snapshot.api_keys().map(|key| (key.api_key.clone(), opened(key))).collect();
        catalog.key_rules = snapshot.key_rules().map(|(key, rules)| (key.clone(), rules.clone())).collect();
        catalog.users = snapshot.users().map(|user| (user.terms.name.clone(), user.clone())).collect();
        let driven = |state: SymbolState| Some((state.symbol().id, state.quote_terms()?));
        catalog.quote_driven = snapshot.symbols().filter_map(driven).collect();
        catalog
    }

    /// Whether the event changes what is listed, what holds everywhere, or which keys work.
    pub(super) fn is_about(event: &Event) -> bool {
        matches!(
            event,
            Event::AssetAdded { .. }
                | Event::SymbolAdded(_)
                | Event::SymbolConfigured(_)
                | Event::SymbolStatusChanged { .. }
                | Event::ExchangeConfigured(_)
                | Event::CommissionTierChanged { .. }
                | Event::QuoteDrivenChanged { .. }
                | Event::ApiKeyAdded(_)
                | Event::AccessChanged(_)
        )
    }

    /// Such an event happened. `opened` makes of a key one that requests can be checked with.
    pub(super) fn follow(&mut self, event: &Event, opened: impl Fn(&ApiKey) -> ApiKey) {
        match event {
            Event::AssetAdded { added, .. } => self.add_asset(&added.name, added.scale),
            Event::SymbolAdded(symbol) => self.add_symbol(symbol),
            Event::SymbolConfigured(symbol) => {
                if let Some(listed) = self.symbols.get_mut(symbol.id.0 as usize) {
                    *listed = Symbol::clone(symbol);
                }
            }
            Event::ExchangeConfigured(limits) => self.limits = **limits,
            &Event::CommissionTierChanged { tier, rates } => self.set_commission_tier(tier, rates),
            Event::SymbolStatusChanged { symbol, status, .. } => {
                if let Some(symbol) = self.symbols.get_mut(symbol.0 as usize) {
                    symbol.status = *status;
                }
            }
            &Event::QuoteDrivenChanged { symbol, terms: Some(terms) } => {
                self.quote_driven.insert(symbol, terms);
            }
            Event::QuoteDrivenChanged { symbol, terms: None } => {
                self.quote_driven.remove(symbol);
            }
            Event::ApiKeyAdded(key) => {
                self.api_keys.insert(key.api_key.clone(), opened(key));
            }
            Event::AccessChanged(change) => match &**change {
                AccessChange::ApiKeyConfigured { key, rules } => {
                    self.key_rules.insert(key.api_key.clone(), rules.clone());
                    self.api_keys.insert(key.api_key.clone(), opened(key));
                }
                AccessChange::ApiKeyRemoved { api_key, .. } => {
                    self.api_keys.remove(api_key);
                    self.key_rules.remove(api_key);
                }
                AccessChange::UserChanged(user) => {
                    self.users.insert(user.terms.name.clone(), user.clone());
                }
                AccessChange::UserRemoved { name } => {
                    self.users.remove(name);
                }
                AccessChange::Noted(_) => {}
            },
            _ => {}
        }
    }

    fn set_commission_tier(&mut self, tier: u16, rates: CommissionRates) {
        let tier = usize::from(tier);
        if self.commission_tiers.len() < tier {
            self.commission_tiers.resize(tier, None);
        }
        if let Some(place) = tier.checked_sub(1).and_then(|at| self.commission_tiers.get_mut(at)) {
            *place = Some(rates);
        }
    }

    fn add_asset(&mut self, name: &str, scale: u8) {
        self.asset_by_name.insert(name.to_owned(), AssetId(self.assets.len() as u32));
        self.assets.push(AssetInfo { name: name.to_owned(), scale });
    }

    fn add_symbol(&mut self, symbol: &Symbol) {
        self.by_name.insert(symbol.config.name.clone(), symbol.id);
        self.symbols.push(symbol.clone());
    }
}
