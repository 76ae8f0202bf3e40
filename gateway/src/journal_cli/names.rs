//! Assets and symbols by name, and numbers in their scales.

use engine::command::AddAsset;
use engine::symbol::Symbol;
use engine::{Amount, AssetId, Event, Price, Quantity, Snapshot, SymbolId};

use crate::decimals::push_amount;

/// What is listed, as far as one has read.
#[derive(Clone, Debug, Default)]
pub struct Names {
    assets: Vec<AddAsset>,
    symbols: Vec<Symbol>,
}

impl Names {
    /// Those of a state.
    pub fn of(state: &Snapshot) -> Names {
        Names {
            assets: state.assets().map(|asset| asset.asset).collect(),
            symbols: state.symbols().map(|symbol| symbol.symbol().clone()).collect(),
        }
    }

    /// Those of one symbol.
    pub fn of_symbol(symbol: &Symbol, assets: &[AddAsset]) -> Names {
        let mut names = Names { assets: assets.to_vec(), symbols: Vec::new() };
        // Ids count from 0: the places before are never asked for.
        names.symbols.resize(symbol.id.0 as usize + 1, symbol.clone());
        names
    }

    /// Takes note of what is listed.
    pub fn follow(&mut self, event: &Event) {
        match event {
            Event::AssetAdded { added, .. } => self.assets.push(added.clone()),
            Event::SymbolAdded(symbol) => self.symbols.push((**symbol).clone()),
            Event::SymbolConfigured(symbol) => {
                if let Some(known) = self.symbols.get_mut(symbol.id.0 as usize) {
                    *known = (**symbol).clone();
                }
            }
            _ => {}
        }
    }

    /// A symbol.
    pub fn symbol(&self, id: SymbolId) -> Option<&Symbol> {
        self.symbols.get(id.0 as usize)
    }

    /// The name of an asset; its number where it has none, which a refused command may name.
    pub fn asset_name(&self, id: AssetId) -> String {
        self.assets.get(id.0 as usize).map_or_else(|| format!("#{id}"), |asset| asset.name.clone())
    }

    /// The name of a symbol; its number where it has none.
    pub fn symbol_name(&self, id: SymbolId) -> String {
        self.symbol(id).map_or_else(|| format!("#{id}"), |symbol| symbol.config.name.clone())
    }

    /// An amount with all decimals of its asset.
    pub fn amount(&self, asset: AssetId, amount: Amount) -> String {
        let scale = self.assets.get(asset.0 as usize).map_or(0, |asset| asset.scale);
        let mut text = String::new();
        push_amount(&mut text, amount, scale);
        text
    }

    /// An amount and its asset's name.
    pub fn money(&self, (asset, amount): (AssetId, Amount)) -> String {
        format!("{} {}", self.amount(asset, amount), self.asset_name(asset))
    }

    /// A price of a symbol.
    pub fn price(&self, symbol: SymbolId, price: Price) -> String {
        match self.symbol(symbol) {
            Some(known) => {
                let amount = u128::from(price.0).saturating_mul(known.scale.tick_size().0);
                self.amount(known.config.quote, Amount(amount))
            }
            None => format!("{price} ticks"),
        }
    }

    /// A quantity of a symbol.
    pub fn quantity(&self, symbol: SymbolId, quantity: Quantity) -> String {
        match self.symbol(symbol) {
            Some(known) => self.amount(known.config.base, known.scale.base_amount(quantity)),
            None => format!("{quantity} lots"),
        }
    }

    /// A price as a client wrote it: in smallest quote units.
    pub fn asked_price(&self, symbol: SymbolId, price: Amount) -> String {
        self.symbol(symbol).map_or_else(|| price.to_string(), |known| self.amount(known.config.quote, price))
    }

    /// A quantity as a client wrote it: in smallest base units.
    pub fn asked_quantity(&self, symbol: SymbolId, quantity: Amount) -> String {
        self.symbol(symbol).map_or_else(|| quantity.to_string(), |known| self.amount(known.config.base, quantity))
    }

    /// An amount of a symbol's quote asset.
    pub fn quote(&self, symbol: SymbolId, amount: Amount) -> String {
        self.asked_price(symbol, amount)
    }

    /// The names of a symbol's base and quote asset.
    pub fn assets_of(&self, symbol: SymbolId) -> (String, String) {
        let names = |symbol: &Symbol| (self.asset_name(symbol.config.base), self.asset_name(symbol.config.quote));
        self.symbol(symbol).map(names).unwrap_or_default()
    }
}
