//! `Engine::apply`: check, hold, match, settle. Owns symbols, books and accounts.
//!
//! Every command is decided in two halves: all checks first, in the order of the [`Rejection`]s they give; then the line
//! after which it must succeed. A refused command changes nothing but the sequence and the time.

use std::collections::{BTreeMap, BTreeSet};

use crate::account::{Accounts, FEE_ACCOUNT};
use crate::book::{Book, Slot};
use crate::command::{
    AddAsset, AmendOrder, ApiKey, CancelOrder, CancelRestriction, Command, OrderQuantity, OrderReference, PlaceOrder,
    Transfer,
};
use crate::event::{Event, ExpiryReason, Rejection};
use crate::matching::{Market, Sweep};
use crate::order::{ClientOrderId, Order, OrderStatus, OrderType, Side, TimeInForce};
use crate::snapshot::{AssetState, Snapshot, StateHash, SymbolState};
use crate::symbol::{Symbol, SymbolConfig, SymbolStatus};
use crate::units::{Amount, AssetId, OrderId, Price, Quantity, Sequence, SymbolId, Time, Uid};

/// The most decimals an asset can have.
const ASSET_SCALE_MAX: u8 = 18;
/// The longest name of an asset, in bytes.
const ASSET_NAME_MAX: usize = 20;
/// The longest API key, in bytes.
const API_KEY_MAX: usize = 128;
/// The longest external id of a transfer, in bytes.
const EXTERNAL_ID_MAX: usize = 64;

type Decision = Result<(), Rejection>;

/// The whole exchange, between two commands.
#[derive(Debug, Default)]
pub struct Engine {
    sequence: Sequence,
    time: Time,
    assets: Vec<AddAsset>,
    markets: Vec<Market>,
    accounts: Accounts,
    api_keys: BTreeMap<String, ApiKey>,
    /// The transfers that took effect: what makes asking again harmless.
    transfers: BTreeSet<(Uid, String)>,
}

impl Engine {
    /// An exchange with nothing in it, before the first command.
    pub fn new() -> Engine {
        Engine::default()
    }

    /// The exchange as a snapshot describes it. Asserts that it is sound.
    pub fn from_snapshot(snapshot: &Snapshot) -> Engine {
        let supplies = snapshot.assets.iter().map(|state| state.supply);
        let engine = Engine {
            sequence: snapshot.sequence,
            time: snapshot.time,
            assets: snapshot.assets.iter().map(|state| state.asset.clone()).collect(),
            markets: snapshot.symbols.iter().map(restore_market).collect(),
            accounts: Accounts::restore(&snapshot.accounts, supplies),
            api_keys: snapshot.api_keys.iter().map(|key| (key.api_key.clone(), key.clone())).collect(),
            transfers: snapshot.transfers.iter().cloned().collect(),
        };
        engine.validate();
        engine
    }

    /// The whole state as plain data.
    pub fn snapshot(&self) -> Snapshot {
        let asset_state = |(asset, added): (u32, &AddAsset)| AssetState {
            asset: added.clone(),
            supply: self.accounts.supply(AssetId(asset)),
        };
        Snapshot {
            sequence: self.sequence,
            time: self.time,
            assets: (0..).zip(&self.assets).map(asset_state).collect(),
            symbols: self.markets.iter().map(symbol_state).collect(),
            accounts: self.accounts.states(),
            api_keys: self.api_keys.values().cloned().collect(),
            transfers: self.transfers.iter().cloned().collect(),
        }
    }

    /// What tells this state from any other.
    pub fn state_hash(&self) -> StateHash {
        self.snapshot().hash()
    }

    /// The last command applied; 0 before the first.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// The time of the last command.
    pub fn time(&self) -> Time {
        self.time
    }

    /// Decide one command and say what happened. `time` is never before that of the last command.
    pub fn apply(&mut self, time: Time, command: &Command, events: &mut Vec<Event>) {
        assert!(time >= self.time, "time runs forward in the log");
        self.time = time;
        self.sequence.0 += 1;
        let before = events.len();
        if let Err(rejection) = self.decide(command, events) {
            assert_eq!(events.len(), before, "a refused command changes nothing");
            events.push(Event::Rejected(rejection));
        }
        self.accounts.assert_conserved();
        self.accounts.report(events);
    }

    /// Count everything anew and compare: balances, holds, books. For tests and after a restore.
    pub fn validate(&self) {
        self.accounts.validate();
        let mut held = BTreeMap::<(Uid, AssetId), Amount>::new();
        for market in &self.markets {
            market.book.validate();
            for order in market.book.orders(Side::Buy).chain(market.book.orders(Side::Sell)) {
                let (asset, amount) = hold_of(market, order);
                let sum = held.entry((order.uid, asset)).or_default();
                *sum = sum.plus(amount);
            }
        }
        for state in self.accounts.states() {
            for (asset, _, locked) in state.balances {
                let needed = held.remove(&(state.uid, asset)).unwrap_or_default();
                assert_eq!(locked, needed, "uid {} holds of asset {asset} what its orders need", state.uid);
            }
        }
        assert!(held.is_empty(), "every open order is backed");
    }

    fn decide(&mut self, command: &Command, events: &mut Vec<Event>) -> Decision {
        match command {
            Command::AddAsset(added) => self.add_asset(added, events),
            Command::AddSymbol(config) => self.add_symbol(config, events),
            Command::SetSymbolStatus { symbol, status } => self.set_symbol_status(*symbol, *status, events),
            Command::OpenAccount { uid } => self.open_account(*uid, events),
            Command::AddApiKey(key) => self.add_api_key(key, events),
            Command::Deposit(transfer) => self.deposit(transfer, events),
            Command::Withdraw(transfer) => self.withdraw(transfer, events),
            Command::PlaceOrder(place) => self.place_order(place, events),
            Command::CancelOrder(cancel) => self.cancel_order(cancel, events),
            Command::CancelAllOrders { uid, symbol } => self.cancel_all_orders(*uid, *symbol, events),
            Command::AmendOrder(amend) => self.amend_order(amend, events),
        }
    }

    // What operators ask.

    fn add_asset(&mut self, added: &AddAsset, events: &mut Vec<Event>) -> Decision {
        let named = (1..=ASSET_NAME_MAX).contains(&added.name.len());
        if !named || added.scale > ASSET_SCALE_MAX {
            return Err(Rejection::InvalidConfiguration);
        }
        if self.assets.iter().any(|asset| asset.name == added.name) {
            return Err(Rejection::AlreadyExists);
        }
        let asset = AssetId(u32::try_from(self.assets.len()).map_err(|_| Rejection::Overflow)?);

        self.assets.push(added.clone());
        self.accounts.add_asset();
        events.push(Event::AssetAdded { asset, added: added.clone() });
        Ok(())
    }

    fn add_symbol(&mut self, config: &SymbolConfig, events: &mut Vec<Event>) -> Decision {
        let base = self.assets.get(config.base.0 as usize).ok_or(Rejection::UnknownAsset)?;
        self.assets.get(config.quote.0 as usize).ok_or(Rejection::UnknownAsset)?;
        if self.markets.iter().any(|market| market.symbol.config.name == config.name) {
            return Err(Rejection::AlreadyExists);
        }
        let id = SymbolId(u32::try_from(self.markets.len()).map_err(|_| Rejection::Overflow)?);
        let symbol = Symbol::new(id, config.clone(), base.scale)?;

        events.push(Event::SymbolAdded(Box::new(symbol.clone())));
        self.markets.push(Market {
            symbol,
            book: Book::default(),
            last_order_id: 0,
            last_trade_id: 0,
            last_aggregate_id: 0,
            last_update_id: 0,
            last_price: None,
        });
        Ok(())
    }

    fn set_symbol_status(&mut self, symbol: SymbolId, status: SymbolStatus, events: &mut Vec<Event>) -> Decision {
        self.market(symbol)?.symbol.status = status;
        events.push(Event::SymbolStatusChanged { symbol, status });
        Ok(())
    }

    fn open_account(&mut self, uid: Uid, events: &mut Vec<Event>) -> Decision {
        if !self.accounts.open(uid) {
            return Err(Rejection::AlreadyExists);
        }
        events.push(Event::AccountOpened { uid });
        Ok(())
    }

    fn add_api_key(&mut self, key: &ApiKey, events: &mut Vec<Event>) -> Decision {
        self.trader(key.uid)?;
        if !(1..=API_KEY_MAX).contains(&key.api_key.len()) {
            return Err(Rejection::InvalidConfiguration);
        }
        if self.api_keys.contains_key(&key.api_key) {
            return Err(Rejection::AlreadyExists);
        }

        self.api_keys.insert(key.api_key.clone(), key.clone());
        events.push(Event::ApiKeyAdded(Box::new(key.clone())));
        Ok(())
    }

    fn deposit(&mut self, transfer: &Transfer, events: &mut Vec<Event>) -> Decision {
        if self.check_transfer(transfer)? {
            events.push(Event::TransferRepeated(Box::new(transfer.clone())));
            return Ok(());
        }
        self.accounts.deposit(transfer.uid, transfer.asset, transfer.amount)?;

        self.transfers.insert((transfer.uid, transfer.external_id.clone()));
        events.push(Event::Deposited(Box::new(transfer.clone())));
        Ok(())
    }

    fn withdraw(&mut self, transfer: &Transfer, events: &mut Vec<Event>) -> Decision {
        if self.check_transfer(transfer)? {
            events.push(Event::TransferRepeated(Box::new(transfer.clone())));
            return Ok(());
        }
        self.accounts.withdraw(transfer.uid, transfer.asset, transfer.amount)?;

        self.transfers.insert((transfer.uid, transfer.external_id.clone()));
        events.push(Event::Withdrawn(Box::new(transfer.clone())));
        Ok(())
    }

    /// Whether the transfer took effect before.
    fn check_transfer(&self, transfer: &Transfer) -> Result<bool, Rejection> {
        self.assets.get(transfer.asset.0 as usize).ok_or(Rejection::UnknownAsset)?;
        if !self.accounts.is_open(transfer.uid) {
            return Err(Rejection::UnknownAccount);
        }
        if transfer.amount.is_zero() {
            return Err(Rejection::ZeroQuantity);
        }
        if !(1..=EXTERNAL_ID_MAX).contains(&transfer.external_id.len()) {
            return Err(Rejection::InvalidConfiguration);
        }
        Ok(self.transfers.contains(&(transfer.uid, transfer.external_id.clone())))
    }

    // What traders ask.

    fn place_order(&mut self, place: &PlaceOrder, events: &mut Vec<Event>) -> Decision {
        let Terms { price, quantity, quote_order_quantity, hold, unfilled } = self.terms(place)?;
        let time = self.time;
        let market = &mut self.markets[place.symbol.0 as usize];
        let (paid_in, _) = hold_asset(market, place.side);
        self.accounts.hold(place.uid, paid_in, hold)?;

        market.last_order_id += 1;
        let mut order = Order {
            order_id: OrderId(market.last_order_id),
            symbol: place.symbol,
            uid: place.uid,
            client_order_id: place.client_order_id,
            side: place.side,
            order_type: place.order_type,
            time_in_force: if place.order_type == OrderType::Limit { place.time_in_force } else { TimeInForce::Gtc },
            price,
            quantity,
            quote_order_quantity,
            executed: Quantity::ZERO,
            cumulative_quote: Amount::ZERO,
            status: OrderStatus::New,
            created_at: time,
            updated_at: time,
        };
        events.push(Event::OrderAccepted(order));
        if unfilled != Some(ExpiryReason::UnfilledFok) {
            market.execute(&mut order, &mut self.accounts, time, events);
        }
        match unfilled.or_else(|| leftover(&order)) {
            Some(reason) => {
                // A sell by quantity held all of it; every other taker that expires holds what it did not trade.
                let left = hold_left(market, &order);
                self.accounts.release(order.uid, paid_in, left);
                order.status = OrderStatus::Expired;
                events.push(Event::OrderExpired { order, reason });
            }
            None if order.status.is_open() => {
                market.book.rest(order);
                market.report_level(order.side, order.price, events);
            }
            None => {}
        }
        Ok(())
    }

    /// All checks of a new order but the balance, and what it comes to.
    fn terms(&mut self, place: &PlaceOrder) -> Result<Terms, Rejection> {
        let market = self.markets.get(place.symbol.0 as usize).ok_or(Rejection::UnknownSymbol)?;
        self.trader(place.uid)?;
        if market.symbol.status != SymbolStatus::Trading {
            return Err(Rejection::MarketClosed);
        }
        if market.book.by_client_order_id(place.uid, place.client_order_id).is_some() {
            return Err(Rejection::DuplicateOrder);
        }
        match (place.order_type, place.quantity) {
            (OrderType::Market, _) if !place.price.is_zero() => Err(Rejection::InvalidCombination),
            (OrderType::Market, OrderQuantity::Base(quantity)) => market_terms(market, place.side, quantity),
            (OrderType::Market, OrderQuantity::Quote(quote)) => {
                // The whole order is refused when the balance cannot cover what it may spend.
                let free = self.accounts.balance(place.uid, market.symbol.config.quote).free;
                if place.side == Side::Buy && free < quote {
                    return Err(Rejection::InsufficientBalance);
                }
                quote_terms(market, place.side, quote)
            }
            (_, OrderQuantity::Base(quantity)) => limit_terms(market, place, quantity),
            (_, OrderQuantity::Quote(_)) => Err(Rejection::InvalidCombination),
        }
    }

    fn cancel_order(&mut self, cancel: &CancelOrder, events: &mut Vec<Event>) -> Decision {
        let market = self.market(cancel.symbol)?;
        let slot = find(market, cancel.uid, &cancel.order)?;
        let status = market.book.order(slot).status;
        let allowed = match cancel.restriction {
            None => true,
            Some(CancelRestriction::OnlyNew) => status == OrderStatus::New,
            Some(CancelRestriction::OnlyPartiallyFilled) => status == OrderStatus::PartiallyFilled,
        };
        if !allowed {
            return Err(Rejection::CancelRestricted);
        }

        self.cancel(cancel.symbol, slot, Some(cancel.cancel_client_order_id), events);
        Ok(())
    }

    fn cancel_all_orders(&mut self, uid: Uid, symbol: SymbolId, events: &mut Vec<Event>) -> Decision {
        let slots: Vec<Slot> = self.market(symbol)?.book.orders_of(uid).collect();
        if slots.is_empty() {
            return Err(Rejection::UnknownOrder);
        }

        for slot in slots {
            self.cancel(symbol, slot, None, events);
        }
        Ok(())
    }

    /// Take a resting order off the book; a cancel without a name of its own carries the order's.
    fn cancel(&mut self, symbol: SymbolId, slot: Slot, name: Option<ClientOrderId>, events: &mut Vec<Event>) {
        let market = &mut self.markets[symbol.0 as usize];
        let mut order = market.book.remove(slot);
        let (asset, held) = hold_of(market, &order);
        self.accounts.release(order.uid, asset, held);
        order.status = OrderStatus::Canceled;
        order.updated_at = self.time;
        let cancel_client_order_id = name.unwrap_or(order.client_order_id);
        events.push(Event::OrderCanceled { order, cancel_client_order_id });
        market.report_level(order.side, order.price, events);
    }

    fn amend_order(&mut self, amend: &AmendOrder, events: &mut Vec<Event>) -> Decision {
        let time = self.time;
        let market = self.market(amend.symbol)?;
        if market.symbol.status != SymbolStatus::Trading {
            return Err(Rejection::MarketClosed);
        }
        let slot = find(market, amend.uid, &amend.order)?;
        let named = market.book.by_client_order_id(amend.uid, amend.new_client_order_id);
        if named.is_some_and(|other| other != slot) {
            return Err(Rejection::DuplicateOrder);
        }
        let before = *market.book.order(slot);
        let quantity = market.symbol.check_quantity(amend.new_quantity)?;
        if quantity >= before.quantity || quantity <= before.executed {
            return Err(Rejection::AmendQuantity);
        }
        market.symbol.check_notional(market.quote_amount(before.price, quantity))?;

        let order = market.book.amend(slot, quantity, amend.new_client_order_id, time);
        let (asset, held) = hold_of(market, &before);
        let (_, needed) = hold_of(market, &order);
        events.push(Event::OrderAmended {
            order,
            previous_client_order_id: before.client_order_id,
            previous_quantity: before.quantity,
        });
        market.report_level(order.side, order.price, events);
        self.accounts.release(order.uid, asset, held.minus(needed));
        Ok(())
    }

    fn market(&mut self, symbol: SymbolId) -> Result<&mut Market, Rejection> {
        self.markets.get_mut(symbol.0 as usize).ok_or(Rejection::UnknownSymbol)
    }

    /// The account exists and may trade.
    fn trader(&self, uid: Uid) -> Decision {
        let open = uid != FEE_ACCOUNT && self.accounts.is_open(uid);
        open.then_some(()).ok_or(Rejection::UnknownAccount)
    }
}

/// What a new order comes to once it is checked.
struct Terms {
    price: Price,
    quantity: Quantity,
    quote_order_quantity: Amount,
    /// What it locks before it trades.
    hold: Amount,
    /// Why it will expire, where that is known before it trades.
    unfilled: Option<ExpiryReason>,
}

fn limit_terms(market: &Market, place: &PlaceOrder, quantity: Amount) -> Result<Terms, Rejection> {
    let price = market.symbol.check_price(place.price)?;
    let quantity = market.symbol.check_quantity(quantity)?;
    let notional = market.symbol.scale.quote_amount(price, quantity).ok_or(Rejection::Overflow)?;
    let base = market.symbol.scale.base_amount(quantity).ok_or(Rejection::Overflow)?;
    market.symbol.check_notional(notional)?;
    market.book.level_quantity(place.side, price).checked_add(quantity).ok_or(Rejection::Overflow)?;
    if place.order_type == OrderType::LimitMaker && market.crosses(place.side, price) {
        return Err(Rejection::WouldMatchImmediately);
    }
    let kills = place.order_type == OrderType::Limit
        && place.time_in_force == TimeInForce::Fok
        && market.book.available(place.side.opposite(), price, quantity) < quantity;
    Ok(Terms {
        price,
        quantity,
        quote_order_quantity: Amount::ZERO,
        hold: if place.side == Side::Buy { notional } else { base },
        unfilled: kills.then_some(ExpiryReason::UnfilledFok),
    })
}

fn market_terms(market: &Market, side: Side, quantity: Amount) -> Result<Terms, Rejection> {
    let quantity = market.symbol.check_market_quantity(quantity)?;
    let base = market.symbol.scale.base_amount(quantity).ok_or(Rejection::Overflow)?;
    // NOTIONAL of a market order goes by the last price; before the first trade there is nothing to go by.
    if let Some(price) = market.last_price {
        let notional = market.symbol.scale.quote_amount(price, quantity).ok_or(Rejection::Overflow)?;
        market.symbol.check_market_notional(notional)?;
    }
    let sweep = market.sweep_quantity(side.opposite(), quantity).ok_or(Rejection::Overflow)?;
    Ok(Terms {
        price: Price(0),
        quantity,
        quote_order_quantity: Amount::ZERO,
        hold: if side == Side::Buy { sweep.quote } else { base },
        unfilled: sweep.exhausted.then_some(ExpiryReason::InsufficientLiquidity),
    })
}

fn quote_terms(market: &Market, side: Side, budget: Amount) -> Result<Terms, Rejection> {
    if budget.is_zero() {
        return Err(Rejection::ZeroQuantity);
    }
    market.symbol.check_market_notional(budget)?;
    let config = &market.symbol.config;
    let limits = [config.max_quantity, config.market_max_quantity].into_iter().filter(|limit| !limit.is_zero());
    let most = limits.map(|limit| Quantity(u64::try_from(limit.0 / config.step_size.0).unwrap_or(u64::MAX))).min();
    let most = most.unwrap_or(Quantity(u64::MAX));
    let Sweep { quantity, quote, exhausted } =
        market.sweep_quote(side.opposite(), budget, most).ok_or(Rejection::Overflow)?;
    let base = market.symbol.scale.base_amount(quantity).ok_or(Rejection::Overflow)?;
    if !exhausted && (quantity.is_zero() || base < config.min_quantity) {
        return Err(Rejection::LotSize);
    }
    if !exhausted && base < config.market_min_quantity {
        return Err(Rejection::MarketLotSize);
    }
    Ok(Terms {
        price: Price(0),
        quantity,
        quote_order_quantity: budget,
        hold: if side == Side::Buy { quote } else { base },
        unfilled: exhausted.then_some(ExpiryReason::InsufficientLiquidity),
    })
}

/// Why an order that has traded what it could does not rest; `None` when it rests or is filled.
fn leftover(order: &Order) -> Option<ExpiryReason> {
    let ioc = order.order_type == OrderType::Limit && order.time_in_force == TimeInForce::Ioc;
    (ioc && order.status.is_open()).then_some(ExpiryReason::UnfilledIocQuantity)
}

/// The open order of `uid` that the reference means.
fn find(market: &Market, uid: Uid, reference: &OrderReference) -> Result<Slot, Rejection> {
    let Some(order_id) = reference.order_id else {
        let name = reference.client_order_id.ok_or(Rejection::UnknownOrder)?;
        return market.book.by_client_order_id(uid, name).ok_or(Rejection::UnknownOrder);
    };
    let slot = market.book.by_order_id(uid, order_id).ok_or(Rejection::UnknownOrder)?;
    let name = market.book.order(slot).client_order_id;
    if reference.client_order_id.is_some_and(|given| given != name) {
        return Err(Rejection::ClientOrderIdMismatch);
    }
    Ok(slot)
}

/// The asset that a side pays in, and the one it receives.
fn hold_asset(market: &Market, side: Side) -> (AssetId, AssetId) {
    let config = &market.symbol.config;
    match side {
        Side::Buy => (config.quote, config.base),
        Side::Sell => (config.base, config.quote),
    }
}

/// What a resting order holds, and of which asset.
fn hold_of(market: &Market, order: &Order) -> (AssetId, Amount) {
    let open = order.open_quantity();
    let amount = match order.side {
        Side::Buy => market.quote_amount(order.price, open),
        Side::Sell => market.base_amount(open),
    };
    (hold_asset(market, order.side).0, amount)
}

/// What a taker still holds when it expires. A market buy held exactly what it traded for.
fn hold_left(market: &Market, order: &Order) -> Amount {
    if order.order_type == OrderType::Market && order.side == Side::Buy {
        return Amount::ZERO;
    }
    hold_of(market, order).1
}

fn symbol_state(market: &Market) -> SymbolState {
    SymbolState {
        symbol: market.symbol.clone(),
        last_order_id: market.last_order_id,
        last_trade_id: market.last_trade_id,
        last_aggregate_id: market.last_aggregate_id,
        last_update_id: market.last_update_id,
        last_price: market.last_price,
        bids: market.book.orders(Side::Buy).copied().collect(),
        asks: market.book.orders(Side::Sell).copied().collect(),
    }
}

fn restore_market(state: &SymbolState) -> Market {
    let mut book = Book::default();
    for &order in state.bids.iter().chain(&state.asks) {
        book.rest(order);
    }
    Market {
        symbol: state.symbol.clone(),
        book,
        last_order_id: state.last_order_id,
        last_trade_id: state.last_trade_id,
        last_aggregate_id: state.last_aggregate_id,
        last_update_id: state.last_update_id,
        last_price: state.last_price,
    }
}
