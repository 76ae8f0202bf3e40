//! `Engine::apply`: check, hold, match, settle. Owns symbols, books and accounts.
//!
//! Every command is decided in two halves: all checks first, in the order of the [`Rejection`]s they give; then the line
//! after which it must succeed. A refused command changes nothing but the sequence and the time. What traders ask of a
//! symbol is decided in its `Market`: placing.rs, order_list.rs, changing.rs.

use std::collections::{BTreeMap, BTreeSet};

use crate::access::{Access, AccessState};
use crate::book::Ladder;
use crate::command::{
    AccountSettings, AddAsset, ApiKey, CancelReplace, Command, ExchangeLimits, Once, OrderQuantity, PlaceOrder,
    PlaceOrderList, Placing, Transfer,
};
use crate::commission::{CommissionRates, Quote};
use crate::event::{Event, Rejection, StatusCause};
use crate::foresight::Guesses;
use crate::market::{Floor, Market};
use crate::once::{First, Uses};
use crate::order::Side;
use crate::symbol::{Symbol, SymbolConfig, SymbolStatus};
use crate::timer::Timers;
use crate::trader::Opening;
use crate::units::{Amount, AssetId, Price, Quantity, Sequence, SymbolId, Time, Uid};

/// The most decimals an asset can have.
const ASSET_SCALE_MAX: u8 = 18;
/// The longest name of an asset, in bytes.
const ASSET_NAME_MAX: usize = 20;
/// The longest external id of a transfer, in bytes.
const EXTERNAL_ID_MAX: usize = 64;
/// The longest countdown of the dead man's switch, in milliseconds: thirty days.
const COUNTDOWN_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;

type Decision = Result<(), Rejection>;

/// What happens when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deadline {
    /// A dead man's switch fires.
    Countdown(SymbolId, Uid),
    /// A halt by the circuit breaker ends.
    Resume(SymbolId),
    /// The house's price in a quote-driven symbol is too old.
    Stale(SymbolId),
}

/// The whole exchange, between two commands.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) sequence: Sequence,
    pub(crate) assets: Vec<AddAsset>,
    pub(crate) markets: Vec<Market>,
    pub(crate) floor: Floor,
    pub(crate) access: AccessState,
    /// The transfers that took effect: what makes asking again harmless.
    pub(crate) transfers: BTreeSet<(Uid, String)>,
    /// The withdrawals under way; their names are in `transfers` too.
    pub(crate) withdrawals: BTreeMap<(Uid, String), (AssetId, Amount)>,
    pub(crate) countdowns: BTreeMap<(SymbolId, Uid), Time>,
    pub(crate) timers: Timers<Deadline>,
    /// What the names that clients gave to new orders were used for lately.
    pub(crate) uses: Uses,
    /// What looking ahead has seen (foresight.rs).
    pub(crate) guesses: Guesses,
}

impl Engine {
    /// An exchange with nothing in it, before the first command.
    pub fn new() -> Engine {
        Engine {
            sequence: Sequence(0),
            assets: Vec::new(),
            markets: Vec::new(),
            floor: Floor::default(),
            access: AccessState::default(),
            transfers: BTreeSet::new(),
            withdrawals: BTreeMap::new(),
            countdowns: BTreeMap::new(),
            timers: Timers::new(Time(0)),
            uses: Uses::default(),
            guesses: Guesses::default(),
        }
    }

    /// The last command applied; 0 before the first.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// The time of the last command.
    pub fn time(&self) -> Time {
        self.floor.now
    }

    /// The best price of a side of a symbol's book; for programs that own an engine (`rialto sim`, benches). A venue's readers
    /// learn all from events.
    pub fn best_price(&self, symbol: SymbolId, side: Side) -> Option<Price> {
        self.markets.get(symbol.0 as usize)?.book.best_price(Ladder::of(side))
    }

    /// How much a symbol's book shows at a price; for the same.
    pub fn shown_at(&self, symbol: SymbolId, side: Side, price: Price) -> Quantity {
        let market = self.markets.get(symbol.0 as usize);
        market.map_or(Quantity::ZERO, |market| market.book.shown_at(Ladder::of(side), price))
    }

    /// How many orders are open in a symbol: the most that one new order can meet and set off.
    pub fn open_orders(&self, symbol: SymbolId) -> usize {
        self.markets.get(symbol.0 as usize).map_or(0, |market| market.book.len())
    }

    /// When the next [`Command::Tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.earliest()
    }

    /// Decide one command and say what happened. `time` is never before that of the last command.
    pub fn apply(&mut self, time: Time, command: &Command, events: &mut Vec<Event>) {
        assert!(time >= self.floor.now, "time runs forward in the log");
        self.floor.now = time;
        self.sequence.0 += 1;
        self.measure();
        let before = events.len();
        if let Err(rejection) = self.decide(command, events) {
            assert_eq!(events.len(), before, "a refused command changes nothing");
            events.push(Event::Rejected(rejection));
        }
        self.floor.accounts.assert_conserved();
        self.floor.accounts.report(events);
    }

    /// Pass over a command that cannot be decided, as the log says an operator ruled: it takes its sequence and its time and
    /// does nothing else.
    pub fn skip(&mut self, time: Time, events: &mut Vec<Event>) {
        assert!(time >= self.floor.now, "time runs forward in the log");
        self.floor.now = time;
        self.sequence.0 += 1;
        events.push(Event::Rejected(Rejection::Compensated));
    }

    /// Count everything anew and compare: balances, holds, books. For tests and after a restore.
    pub fn validate(&self) {
        self.floor.accounts.validate();
        let mut held = BTreeMap::<(Uid, AssetId), Amount>::new();
        let mut add = |uid, asset, amount: Amount| {
            if !amount.is_zero() {
                let sum = held.entry((uid, asset)).or_default();
                *sum = sum.plus(amount);
            }
        };
        for market in &self.markets {
            market.book.validate();
            assert!(market.desk.is_some() || !market.book.is_crossed(), "a book at rest is not crossed");
            let config = &market.symbol.config;
            let asset = |side| if side == Side::Buy { config.quote } else { config.base };
            let mut held_by_pair = BTreeSet::new();
            for (trader, side, amount, other) in market.list_holds() {
                add(market.book.traders.at(trader).uid, asset(side), amount);
                held_by_pair.extend(other);
            }
            for slot in market.book.slots() {
                if !held_by_pair.contains(&market.book.number(slot)) {
                    add(market.book.uid_of(slot), asset(market.book.side(slot)), market.held(slot));
                }
            }
        }
        for ((uid, _), &(asset, amount)) in &self.withdrawals {
            add(*uid, asset, amount);
        }
        for state in self.floor.accounts.states() {
            for (asset, _, locked) in state.balances {
                let needed = held.remove(&(state.uid, asset)).unwrap_or_default();
                assert_eq!(locked, needed, "uid {} holds of asset {asset} what its orders need", state.uid);
            }
        }
        assert!(held.is_empty(), "every open order is backed");
    }

    /// The commands that nearly all are come first, apart from the others: so what is between them stays small.
    #[inline]
    fn decide(&mut self, command: &Command, events: &mut Vec<Event>) -> Decision {
        match command {
            Command::PlaceOrder(place) => self.place_order(place, events),
            Command::CancelOrder(cancel) => {
                self.trade(cancel.symbol, events, |market, floor, events| market.cancel(cancel, floor, events))
            }
            Command::ReplaceOrder(replace) => {
                self.trade(replace.symbol, events, |market, floor, events| market.replace(replace, floor, events))
            }
            Command::ReduceOrder { uid, symbol, order, by } => {
                self.trade(*symbol, events, |market, floor, events| market.reduce(*uid, order, *by, floor, events))
            }
            _ => self.decide_other(command, events),
        }
    }

    #[inline(never)]
    fn decide_other(&mut self, command: &Command, events: &mut Vec<Event>) -> Decision {
        match command {
            Command::PlaceOrder(_)
            | Command::CancelOrder(_)
            | Command::ReplaceOrder(_)
            | Command::ReduceOrder { .. } => unreachable!("decided before"),
            Command::AddAsset(added) => self.add_asset(added, events),
            Command::AddSymbol(config) => self.add_symbol(config, events),
            Command::ConfigureSymbol { symbol, config } => self.configure_symbol(*symbol, config, events),
            Command::ConfigureExchange(limits) => self.configure_exchange(limits, events),
            Command::SetSymbolStatus { symbol, status } => self.set_symbol_status(*symbol, *status, events),
            Command::SetReferencePrice { symbol, price } => self.set_reference_price(*symbol, *price, events),
            Command::SetCommissionTier { tier, rates } => self.set_commission_tier(*tier, *rates, events),
            Command::OpenAccount { uid } => self.open_account(*uid, events),
            Command::ConfigureAccount { uid, settings } => self.configure_account(*uid, *settings, events),
            Command::AddApiKey(key) => self.add_api_key(key, events),
            Command::Access(asked) => self.access(asked, events),
            Command::Deposit(transfer) => self.deposit(transfer, events),
            Command::Withdraw(transfer) => self.withdraw(transfer, events),
            Command::BeginWithdrawal(transfer) => self.begin_withdrawal(transfer, events),
            Command::EndWithdrawal { uid, external_id, completed } => {
                self.end_withdrawal(*uid, external_id, *completed, events)
            }
            Command::PlaceOrderList(place) => self.place_list(place, events),
            Command::CancelOrderList(cancel) => self.trade(cancel.symbol, events, |market, floor, events| {
                market.cancel_list_command(cancel, floor, events)
            }),
            Command::CancelAllOrders { uid, symbol } => self.trade(*symbol, events, |market, floor, events| {
                let canceled = market.cancel_all(*uid, floor, events);
                if canceled == 0 { Err(Rejection::UnknownOrder) } else { Ok(()) }
            }),
            Command::CancelEverything { uid } => {
                for market in &mut self.markets {
                    market.cancel_all(*uid, &mut self.floor, events);
                }
                Ok(())
            }
            Command::CancelReplace(command) => self.cancel_replace(command, events),
            Command::AmendOrder(amend) => {
                self.trade(amend.symbol, events, |market, floor, events| market.amend(amend, floor, events))
            }
            Command::SetCountdown { uid, symbol, milliseconds } => {
                self.set_countdown(*uid, *symbol, *milliseconds, events)
            }
            Command::Tick => {
                self.tick(events);
                Ok(())
            }
            Command::Once(once) => self.place_once(once, events),
            Command::SetQuoteDriven { symbol, terms } => {
                self.requote(*symbol, events, |market, floor, events| market.set_quote_driven(*terms, floor, events))
            }
            Command::ReferenceQuote(quote) => {
                self.requote(quote.symbol, events, |market, floor, events| market.quote(quote, floor, events))
            }
        }
    }

    // What operators ask.

    fn add_asset(&mut self, added: &AddAsset, events: &mut Vec<Event>) -> Decision {
        let asset = self.can_add_asset(added)?;

        self.assets.push(added.clone());
        self.floor.accounts.add_asset();
        events.push(Event::AssetAdded { asset, added: added.clone() });
        Ok(())
    }

    /// The number that an asset would get.
    pub(crate) fn can_add_asset(&self, added: &AddAsset) -> Result<AssetId, Rejection> {
        let named = (1..=ASSET_NAME_MAX).contains(&added.name.len());
        if !named || added.scale > ASSET_SCALE_MAX {
            return Err(Rejection::InvalidConfiguration);
        }
        if self.assets.iter().any(|asset| asset.name == added.name) {
            return Err(Rejection::AlreadyExists);
        }
        u32::try_from(self.assets.len()).map(AssetId).map_err(|_| Rejection::Overflow)
    }

    fn add_symbol(&mut self, config: &SymbolConfig, events: &mut Vec<Event>) -> Decision {
        let (symbol, base_scale) = self.can_add_symbol(config)?;

        events.push(Event::SymbolAdded(Box::new(symbol.clone())));
        self.list(symbol, base_scale);
        Ok(())
    }

    /// The symbol that would be listed, and the decimals of its base.
    pub(crate) fn can_add_symbol(&self, config: &SymbolConfig) -> Result<(Symbol, u8), Rejection> {
        let base_scale = self.asset(config.base)?.scale;
        self.asset(config.quote)?;
        self.check_discount(config)?;
        if self.markets.iter().any(|market| market.symbol.config.name == config.name) {
            return Err(Rejection::AlreadyExists);
        }
        let id = SymbolId(u32::try_from(self.markets.len()).map_err(|_| Rejection::Overflow)?);
        Ok((Symbol::new(id, config.clone(), base_scale)?, base_scale))
    }

    /// A symbol gets its market and its place among the quotes.
    pub(crate) fn list(&mut self, symbol: Symbol, base_scale: u8) {
        self.floor.desk.quotes.push(Quote {
            base: symbol.config.base,
            quote: symbol.config.quote,
            whole_base: Amount(10u128.pow(base_scale.into())),
            last_price: None,
        });
        self.markets.push(Market::new(symbol));
    }

    fn configure_symbol(&mut self, symbol: SymbolId, config: &SymbolConfig, events: &mut Vec<Event>) -> Decision {
        self.check_discount(config)?;
        let market = self.markets.get_mut(symbol.0 as usize).ok_or(Rejection::UnknownSymbol)?;
        let configured = market.symbol.reconfigured(config.clone())?;

        market.configure(configured.clone());
        events.push(Event::SymbolConfigured(Box::new(configured)));
        Ok(())
    }

    fn check_discount(&self, config: &SymbolConfig) -> Decision {
        config.commission.discount.map_or(Ok(()), |discount| self.asset(discount.asset).map(|_| ()))
    }

    fn configure_exchange(&mut self, limits: &ExchangeLimits, events: &mut Vec<Event>) -> Decision {
        if !limits.is_sound() {
            return Err(Rejection::InvalidConfiguration);
        }
        self.floor.limits = *limits;
        events.push(Event::ExchangeConfigured(Box::new(*limits)));
        Ok(())
    }

    fn set_symbol_status(&mut self, symbol: SymbolId, status: SymbolStatus, events: &mut Vec<Event>) -> Decision {
        let market = self.markets.get_mut(symbol.0 as usize).ok_or(Rejection::UnknownSymbol)?;
        market.symbol.status = status;
        market.breaker.forget();
        if let Some(at) = market.breaker.resumes_at.take() {
            self.timers.clear(at, Deadline::Resume(symbol));
        }
        events.push(Event::SymbolStatusChanged { symbol, status, cause: StatusCause::Operator });
        Ok(())
    }

    fn set_reference_price(&mut self, symbol: SymbolId, price: Option<Amount>, events: &mut Vec<Event>) -> Decision {
        let market = self.markets.get_mut(symbol.0 as usize).ok_or(Rejection::UnknownSymbol)?;
        if market.desk.is_some() {
            return Err(Rejection::InvalidConfiguration);
        }
        let price = price.map(|price| market.symbol.check_price(price)).transpose()?;
        market.reference_price = price;
        events.push(Event::ReferencePriceChanged { symbol, price });
        Ok(())
    }

    fn set_commission_tier(&mut self, tier: u16, rates: CommissionRates, events: &mut Vec<Event>) -> Decision {
        let at = usize::from(tier).checked_sub(1).ok_or(Rejection::InvalidConfiguration)?;
        let tiers = &mut self.floor.desk.tiers;
        if tiers.len() <= at {
            tiers.resize(at + 1, None);
        }
        tiers[at] = Some(rates);
        events.push(Event::CommissionTierChanged { tier, rates });
        Ok(())
    }

    fn open_account(&mut self, uid: Uid, events: &mut Vec<Event>) -> Decision {
        if !self.floor.accounts.open(uid) {
            return Err(Rejection::AlreadyExists);
        }
        events.push(Event::AccountOpened { uid });
        Ok(())
    }

    fn configure_account(&mut self, uid: Uid, settings: AccountSettings, events: &mut Vec<Event>) -> Decision {
        if !self.floor.accounts.is_open(uid) {
            return Err(Rejection::UnknownAccount);
        }
        self.floor.accounts.configure(uid, settings);
        for market in &mut self.markets {
            if let Some(trader) = market.book.traders.find(uid) {
                market.book.traders.at_mut(trader).settings = settings;
            }
        }
        events.push(Event::AccountConfigured { uid, settings });
        Ok(())
    }

    fn add_api_key(&mut self, key: &ApiKey, events: &mut Vec<Event>) -> Decision {
        self.access.add_api_key(key, &self.floor.accounts)?;
        events.push(Event::ApiKeyAdded(Box::new(key.clone())));
        Ok(())
    }

    fn access(&mut self, asked: &Access, events: &mut Vec<Event>) -> Decision {
        let change = self.access.decide(asked, &self.floor.accounts, self.floor.now)?;
        events.push(Event::AccessChanged(Box::new(change)));
        Ok(())
    }

    fn deposit(&mut self, transfer: &Transfer, events: &mut Vec<Event>) -> Decision {
        if self.check_transfer(transfer, events)? {
            return Ok(());
        }
        if !self.floor.accounts.settings(transfer.uid).can_deposit {
            return Err(Rejection::AccountDisabled);
        }
        self.floor.accounts.deposit(transfer.uid, transfer.asset, transfer.amount)?;

        self.remember(transfer);
        events.push(Event::Deposited(Box::new(transfer.clone())));
        Ok(())
    }

    fn withdraw(&mut self, transfer: &Transfer, events: &mut Vec<Event>) -> Decision {
        if self.check_transfer(transfer, events)? {
            return Ok(());
        }
        if !self.floor.accounts.settings(transfer.uid).can_withdraw {
            return Err(Rejection::AccountDisabled);
        }
        self.floor.accounts.withdraw(transfer.uid, transfer.asset, transfer.amount)?;

        self.remember(transfer);
        events.push(Event::Withdrawn(Box::new(transfer.clone())));
        Ok(())
    }

    fn begin_withdrawal(&mut self, transfer: &Transfer, events: &mut Vec<Event>) -> Decision {
        if self.check_transfer(transfer, events)? {
            return Ok(());
        }
        if !self.floor.accounts.settings(transfer.uid).can_withdraw {
            return Err(Rejection::AccountDisabled);
        }
        let from = self.floor.accounts.place(transfer.uid, transfer.asset);
        self.floor.accounts.hold(from, transfer.amount)?;

        self.remember(transfer);
        let name = (transfer.uid, transfer.external_id.clone());
        self.withdrawals.insert(name, (transfer.asset, transfer.amount));
        events.push(Event::WithdrawalBegun(Box::new(transfer.clone())));
        Ok(())
    }

    fn end_withdrawal(&mut self, uid: Uid, external_id: &str, completed: bool, events: &mut Vec<Event>) -> Decision {
        let name = (uid, external_id.to_owned());
        let (asset, amount) = self.withdrawals.remove(&name).ok_or(Rejection::UnknownWithdrawal)?;
        let transfer = Box::new(Transfer { uid, asset, amount, external_id: name.1 });
        if completed {
            self.floor.accounts.withdraw_locked(uid, asset, amount);
            events.push(Event::Withdrawn(transfer));
        } else {
            let at = self.floor.accounts.place(uid, asset);
            self.floor.accounts.release(at, amount);
            events.push(Event::WithdrawalAbandoned(transfer));
        }
        Ok(())
    }

    /// Whether the transfer took effect before, which is said then.
    fn check_transfer(&self, transfer: &Transfer, events: &mut Vec<Event>) -> Result<bool, Rejection> {
        self.asset(transfer.asset)?;
        if !self.floor.accounts.is_open(transfer.uid) {
            return Err(Rejection::UnknownAccount);
        }
        if transfer.amount.is_zero() {
            return Err(Rejection::ZeroQuantity);
        }
        if !Self::is_external_id(&transfer.external_id) {
            return Err(Rejection::InvalidConfiguration);
        }
        let repeated = self.transfers.contains(&(transfer.uid, transfer.external_id.clone()));
        if repeated {
            events.push(Event::TransferRepeated(Box::new(transfer.clone())));
        }
        Ok(repeated)
    }

    /// Whether that can be the external id of a transfer.
    pub(crate) fn is_external_id(id: &str) -> bool {
        (1..=EXTERNAL_ID_MAX).contains(&id.len())
    }

    fn remember(&mut self, transfer: &Transfer) {
        self.transfers.insert((transfer.uid, transfer.external_id.clone()));
    }

    fn asset(&self, asset: AssetId) -> Result<&AddAsset, Rejection> {
        self.assets.get(asset.0 as usize).ok_or(Rejection::UnknownAsset)
    }

    // What traders ask.

    fn place_order(&mut self, place: &PlaceOrder, events: &mut Vec<Event>) -> Decision {
        if place.quantity == OrderQuantity::Proceeds {
            return Err(Rejection::InvalidCombination);
        }
        self.count_elsewhere(place.uid, place.symbol);
        self.trade(place.symbol, events, |market, floor, events| market.place(place, floor, events))
    }

    fn place_list(&mut self, place: &PlaceOrderList, events: &mut Vec<Event>) -> Decision {
        self.count_elsewhere(place.uid, place.symbol);
        self.trade(place.symbol, events, |market, floor, events| market.place_list(place, floor, events))
    }

    fn cancel_replace(&mut self, both: &CancelReplace, events: &mut Vec<Event>) -> Decision {
        self.count_elsewhere(both.place.uid, both.place.symbol);
        self.trade(both.place.symbol, events, |market, floor, events| market.cancel_replace(both, floor, events))
    }

    /// New orders, unless they are in already.
    fn place_once(&mut self, once: &Once, events: &mut Vec<Event>) -> Decision {
        match self.uses.find(once, self.floor.now) {
            None => {}
            Some(First::Refused(rejection)) => return Err(rejection),
            Some(First::NotReplaced { cancel, place }) => {
                events.push(Event::CancelReplaceDecided { cancel: Some(cancel), place: place.map(Err) });
                return Ok(());
            }
            Some(First::Placed(first)) => {
                events.push(Event::OrderRepeated(Box::new(first)));
                return Ok(());
            }
        }
        let before = events.len();
        let decided = match &once.placing {
            Placing::Order(place) => self.place_order(place, events),
            Placing::OrderList(place) => self.place_list(place, events),
            Placing::CancelReplace(both) => self.cancel_replace(both, events),
        };
        self.uses.remember(once, self.sequence, self.floor.now, decided.map(|()| &events[before..]));
        decided
    }

    /// Decide in a symbol's market; then see whether its prices ran too far.
    fn trade(
        &mut self,
        symbol: SymbolId,
        events: &mut Vec<Event>,
        decide: impl FnOnce(&mut Market, &mut Floor, &mut Vec<Event>) -> Decision,
    ) -> Decision {
        let market = self.markets.get_mut(symbol.0 as usize).ok_or(Rejection::UnknownSymbol)?;
        if let Some(desk) = &mut market.desk {
            desk.look(self.floor.now);
        }
        decide(market, &mut self.floor, events)?;
        if market.desk.is_some() {
            market.show_quote(&self.floor, events);
        }
        if !market.walks.is_empty() {
            self.check_breaker(symbol, events);
        }
        Ok(())
    }

    /// The same where the house's price changes, and with it when it is too old.
    fn requote(
        &mut self,
        symbol: SymbolId,
        events: &mut Vec<Event>,
        decide: impl FnOnce(&mut Market, &mut Floor, &mut Vec<Event>) -> Decision,
    ) -> Decision {
        let stale_at = |engine: &Engine| engine.markets.get(symbol.0 as usize)?.desk.as_ref()?.stale_at();
        let before = stale_at(self);
        self.trade(symbol, events, decide)?;
        let now = stale_at(self);
        if now != before {
            if let Some(at) = before {
                self.timers.clear(at, Deadline::Stale(symbol));
            }
            if let Some(at) = now {
                self.timers.set(at, Deadline::Stale(symbol));
            }
        }
        Ok(())
    }

    /// Count what an account has open in other symbols, where limits over all symbols hold.
    #[inline]
    fn count_elsewhere(&mut self, uid: Uid, symbol: SymbolId) {
        if self.floor.limits.counts_open_orders() {
            self.count_open_elsewhere(uid, symbol);
        }
    }

    fn count_open_elsewhere(&mut self, uid: Uid, symbol: SymbolId) {
        let (mut open, mut lists) = (Opening::default(), 0);
        for market in self.markets.iter().filter(|market| market.symbol.id != symbol) {
            let Some(trader) = market.book.traders.find(uid) else { continue };
            let rare = market.book.traders.rare(trader);
            open.orders += market.book.traders.at(trader).open_orders();
            open.stops += rare.stop_orders;
            open.icebergs += rare.iceberg_orders;
            lists += rare.order_lists;
        }
        self.floor.elsewhere = open;
        self.floor.elsewhere_lists = lists;
    }

    /// The prices of the command may halt the symbol.
    fn check_breaker(&mut self, symbol: SymbolId, events: &mut Vec<Event>) {
        let market = &mut self.markets[symbol.0 as usize];
        let Some(rule) = market.symbol.config.circuit_breaker else { return market.walks.clear() };
        let now = self.floor.now;
        let mut tripped = false;
        // Every price is seen, so that each counts for what comes after; once, where a walk had but one.
        for (first, last) in market.walks.drain(..) {
            tripped |= market.breaker.trips(rule, now, first);
            if last != first {
                tripped |= market.breaker.trips(rule, now, last);
            }
        }
        if tripped && market.symbol.status == SymbolStatus::Trading {
            market.symbol.status = SymbolStatus::Halt;
            market.breaker.forget();
            let until = (rule.halt_seconds > 0).then(|| Time(now.0 + u64::from(rule.halt_seconds) * 1_000_000));
            market.breaker.resumes_at = until;
            if let Some(at) = until {
                self.timers.set(at, Deadline::Resume(symbol));
            }
            let cause = StatusCause::CircuitBreaker { until };
            events.push(Event::SymbolStatusChanged { symbol, status: SymbolStatus::Halt, cause });
        }
    }

    fn set_countdown(&mut self, uid: Uid, symbol: SymbolId, milliseconds: u64, events: &mut Vec<Event>) -> Decision {
        self.markets.get(symbol.0 as usize).ok_or(Rejection::UnknownSymbol)?;
        self.floor.trader(uid)?;
        if milliseconds > COUNTDOWN_MAX {
            return Err(Rejection::Overflow);
        }
        let at = (milliseconds > 0).then(|| Time(self.floor.now.0 + milliseconds * 1_000));
        self.arm(uid, symbol, at);
        events.push(Event::CountdownSet { uid, symbol, at });
        Ok(())
    }

    fn arm(&mut self, uid: Uid, symbol: SymbolId, at: Option<Time>) {
        let deadline = Deadline::Countdown(symbol, uid);
        if let Some(before) = self.countdowns.remove(&(symbol, uid)) {
            self.timers.clear(before, deadline);
        }
        if let Some(at) = at {
            self.countdowns.insert((symbol, uid), at);
            self.timers.set(at, deadline);
        }
    }

    // What time asks.

    fn tick(&mut self, events: &mut Vec<Event>) {
        for (_, deadline) in self.timers.advance(self.floor.now) {
            match deadline {
                Deadline::Countdown(symbol, uid) => {
                    self.countdowns.remove(&(symbol, uid));
                    events.push(Event::CountdownSet { uid, symbol, at: None });
                    self.markets[symbol.0 as usize].cancel_all(uid, &mut self.floor, events);
                }
                Deadline::Resume(symbol) => {
                    let market = &mut self.markets[symbol.0 as usize];
                    market.breaker.resumes_at = None;
                    market.symbol.status = SymbolStatus::Trading;
                    let cause = StatusCause::CircuitBreakerEnded;
                    events.push(Event::SymbolStatusChanged { symbol, status: SymbolStatus::Trading, cause });
                }
                Deadline::Stale(symbol) => {
                    self.markets[symbol.0 as usize].become_stale(&self.floor, events);
                }
            }
        }
    }
}

impl Default for Engine {
    fn default() -> Self {
        Engine::new()
    }
}
