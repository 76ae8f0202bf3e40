//! The slow, obvious exchange: plain vectors searched from the front, amounts as they were asked, no ticks, no indexes.
//!
//! It shares with the engine the words of commands and rejections, and nothing of how they are decided.

use std::collections::{BTreeMap, BTreeSet};

use engine::command::{
    AmendOrder, CancelOrder, CancelRestriction, OrderQuantity, OrderReference, PlaceOrder, Transfer,
};
use engine::order::{OrderStatus, OrderType, Side, TimeInForce};
use engine::symbol::{SymbolConfig, SymbolStatus};
use engine::{Command, Rejection};

/// What a command came to, in the words of both exchanges. Prices and quantities in smallest units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Refused.
    Rejected(Rejection),
    /// An order is in, with this id.
    Accepted(u64),
    /// A match.
    Traded {
        /// Its number.
        trade: u64,
        /// The run it belongs to.
        aggregate: u64,
        /// At which price.
        price: u128,
        /// How much base.
        quantity: u128,
        /// The taker's order, what it paid as a fee, and whether it is filled.
        taker: (u64, u128, bool),
        /// The same of the maker's.
        maker: (u64, u128, bool),
    },
    /// An order ended without being filled, or by a rule; with what it executed.
    Ended(u64, OrderStatus, u128),
    /// An order's quantity is this now.
    Amended(u64, u128),
    /// A transfer that took effect before.
    Repeated,
    /// Anything else was done as asked.
    Done,
}

/// An open order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its number.
    pub id: u64,
    /// Whose.
    pub uid: u64,
    /// Its name.
    pub name: String,
    /// Buy or sell.
    pub side: Side,
    /// In smallest quote units per whole base.
    pub price: u128,
    /// The whole of it.
    pub quantity: u128,
    /// What traded.
    pub executed: u128,
    /// For what.
    pub quote: u128,
}

/// A symbol and its orders, in the order in which they came to rest.
#[derive(Debug)]
struct Market {
    config: SymbolConfig,
    status: SymbolStatus,
    base_unit: u128,
    open: Vec<Open>,
    orders: u64,
    trades: u64,
    aggregates: u64,
    last_price: Option<u128>,
}

/// The exchange.
#[derive(Debug)]
pub struct ReferenceExchange {
    assets: Vec<(String, u8)>,
    markets: Vec<Market>,
    /// By user and asset: free and locked.
    balances: BTreeMap<(u64, u32), (u128, u128)>,
    users: BTreeSet<u64>,
    keys: BTreeSet<String>,
    transfers: BTreeSet<(u64, String)>,
}

type Facts = Result<Vec<Fact>, Rejection>;

impl Default for ReferenceExchange {
    fn default() -> Self {
        ReferenceExchange {
            assets: Vec::new(),
            markets: Vec::new(),
            balances: BTreeMap::new(),
            users: BTreeSet::from([0]),
            keys: BTreeSet::new(),
            transfers: BTreeSet::new(),
        }
    }
}

impl ReferenceExchange {
    /// Decide a command.
    pub fn apply(&mut self, command: &Command) -> Vec<Fact> {
        self.decide(command).unwrap_or_else(|rejection| vec![Fact::Rejected(rejection)])
    }

    /// Every balance that is not nothing, by user and asset: free and locked.
    pub fn balances(&self) -> BTreeMap<(u64, u32), (u128, u128)> {
        self.balances.iter().filter(|(_, held)| **held != (0, 0)).map(|(key, held)| (*key, *held)).collect()
    }

    /// How much rests at each price of a side, in smallest units.
    pub fn levels(&self, symbol: usize, side: Side) -> BTreeMap<u128, u128> {
        let mut levels = BTreeMap::new();
        for order in self.markets.get(symbol).into_iter().flat_map(|market| &market.open) {
            if order.side == side {
                *levels.entry(order.price).or_default() += order.quantity - order.executed;
            }
        }
        levels
    }

    /// The open orders of a side, best price first, then by arrival.
    pub fn orders(&self, symbol: usize, side: Side) -> Vec<Open> {
        let mut orders: Vec<Open> =
            self.markets[symbol].open.iter().filter(|order| order.side == side).cloned().collect();
        // Stable: orders at one price stay as they arrived.
        orders.sort_by_key(|order| if side == Side::Buy { u128::MAX - order.price } else { order.price });
        orders
    }

    fn decide(&mut self, command: &Command) -> Facts {
        match command {
            Command::AddAsset(added) => {
                require(
                    !added.name.is_empty() && added.name.len() <= 20 && added.scale <= 18,
                    Rejection::InvalidConfiguration,
                )?;
                require(self.assets.iter().all(|(name, _)| *name != added.name), Rejection::AlreadyExists)?;
                self.assets.push((added.name.clone(), added.scale));
                Ok(vec![Fact::Done])
            }
            Command::AddSymbol(config) => self.list(config),
            Command::SetSymbolStatus { symbol, status } => {
                let market = self.markets.get_mut(symbol.0 as usize).ok_or(Rejection::UnknownSymbol)?;
                market.status = *status;
                Ok(vec![Fact::Done])
            }
            Command::OpenAccount { uid } => {
                require(self.users.insert(uid.0), Rejection::AlreadyExists)?;
                Ok(vec![Fact::Done])
            }
            Command::AddApiKey(key) => {
                require(key.uid.0 != 0 && self.users.contains(&key.uid.0), Rejection::UnknownAccount)?;
                require((1..=128).contains(&key.api_key.len()), Rejection::InvalidConfiguration)?;
                require(self.keys.insert(key.api_key.clone()), Rejection::AlreadyExists)?;
                Ok(vec![Fact::Done])
            }
            Command::Deposit(transfer) => self.transfer(transfer, true),
            Command::Withdraw(transfer) => self.transfer(transfer, false),
            Command::PlaceOrder(place) => self.place(place),
            Command::CancelOrder(cancel) => self.cancel(cancel),
            Command::CancelAllOrders { uid, symbol } => {
                let market = self.markets.get(symbol.0 as usize).ok_or(Rejection::UnknownSymbol)?;
                let mut ids: Vec<u64> =
                    market.open.iter().filter(|order| order.uid == uid.0).map(|order| order.id).collect();
                require(!ids.is_empty(), Rejection::UnknownOrder)?;
                ids.sort_unstable();
                Ok(ids.into_iter().map(|id| self.take_off(symbol.0 as usize, id)).collect())
            }
            Command::AmendOrder(amend) => self.amend(amend),
        }
    }

    fn list(&mut self, config: &SymbolConfig) -> Facts {
        let (_, base_scale) = *self.assets.get(config.base.0 as usize).ok_or(Rejection::UnknownAsset)?;
        require((config.quote.0 as usize) < self.assets.len(), Rejection::UnknownAsset)?;
        require(self.markets.iter().all(|market| market.config.name != config.name), Rejection::AlreadyExists)?;
        let base_unit = 10u128.pow(u32::from(base_scale));
        let whole = config.tick_size.0 * config.step_size.0;
        require(whole > 0 && whole.is_multiple_of(base_unit), Rejection::InvalidConfiguration)?;
        self.markets.push(Market {
            config: config.clone(),
            status: SymbolStatus::Trading,
            base_unit,
            open: Vec::new(),
            orders: 0,
            trades: 0,
            aggregates: 0,
            last_price: None,
        });
        Ok(vec![Fact::Done])
    }

    fn transfer(&mut self, transfer: &Transfer, comes_in: bool) -> Facts {
        let Transfer { uid, asset, amount, external_id } = transfer;
        require((asset.0 as usize) < self.assets.len(), Rejection::UnknownAsset)?;
        require(self.users.contains(&uid.0), Rejection::UnknownAccount)?;
        require(amount.0 > 0, Rejection::ZeroQuantity)?;
        require((1..=64).contains(&external_id.len()), Rejection::InvalidConfiguration)?;
        let key = (uid.0, external_id.clone());
        if self.transfers.contains(&key) {
            return Ok(vec![Fact::Repeated]);
        }
        let supply: u128 = self
            .balances
            .iter()
            .filter(|((_, held), _)| *held == asset.0)
            .map(|(_, (free, locked))| free + locked)
            .sum();
        if comes_in {
            require(supply.checked_add(amount.0).is_some(), Rejection::Overflow)?;
        }
        let (free, _) = self.balances.entry((uid.0, asset.0)).or_default();
        if comes_in {
            *free += amount.0;
        } else {
            *free = free.checked_sub(amount.0).ok_or(Rejection::InsufficientBalance)?;
        }
        self.transfers.insert(key);
        Ok(vec![Fact::Done])
    }

    fn place(&mut self, place: &PlaceOrder) -> Facts {
        let symbol = place.symbol.0 as usize;
        let market = self.markets.get(symbol).ok_or(Rejection::UnknownSymbol)?;
        let uid = place.uid.0;
        require(uid != 0 && self.users.contains(&uid), Rejection::UnknownAccount)?;
        require(market.status == SymbolStatus::Trading, Rejection::MarketClosed)?;
        let name = place.client_order_id.as_str();
        require(!market.open.iter().any(|order| order.uid == uid && order.name == name), Rejection::DuplicateOrder)?;

        let config = &market.config;
        let (pays, free_of) = match place.side {
            Side::Buy => (config.quote.0, self.free(uid, config.quote.0)),
            Side::Sell => (config.base.0, self.free(uid, config.base.0)),
        };
        let is_market = place.order_type == OrderType::Market;
        let mut reason = None;
        let (quantity, hold) = match (is_market, place.quantity) {
            (true, _) if place.price.0 != 0 => return Err(Rejection::InvalidCombination),
            (false, OrderQuantity::Quote(_)) => return Err(Rejection::InvalidCombination),
            (false, OrderQuantity::Base(quantity)) => {
                let (price, quantity) = (place.price.0, quantity.0);
                market.check_price(price)?;
                market.check_quantity(quantity)?;
                let worth = market.worth(price, quantity)?;
                require(within(worth, config.min_notional.0, config.max_notional.0), Rejection::Notional)?;
                let resting = market.open.iter().filter(|order| order.side == place.side && order.price == price);
                let resting: u128 = resting.map(|order| order.quantity - order.executed).sum();
                market.fits((resting + quantity) / config.step_size.0)?;
                let reachable: u128 =
                    market.reach(place.side, Some(price)).iter().map(|order| order.quantity - order.executed).sum();
                require(place.order_type != OrderType::LimitMaker || reachable == 0, Rejection::WouldMatchImmediately)?;
                if place.order_type == OrderType::Limit
                    && place.time_in_force == TimeInForce::Fok
                    && reachable < quantity
                {
                    reason = Some(OrderStatus::Expired);
                }
                (quantity, if place.side == Side::Buy { worth } else { quantity })
            }
            (true, OrderQuantity::Base(quantity)) => {
                let quantity = quantity.0;
                market.check_quantity(quantity)?;
                require(
                    within(quantity, config.market_min_quantity.0, config.market_max_quantity.0),
                    Rejection::MarketLotSize,
                )?;
                if let Some(last) = market.last_price {
                    market.check_market_worth(market.worth(last, quantity)?)?;
                }
                let (mut left, mut spent) = (quantity, 0);
                for order in market.reach(place.side, None) {
                    let take = left.min(order.quantity - order.executed);
                    spent += market.worth(order.price, take)?;
                    left -= take;
                }
                if left > 0 {
                    reason = Some(OrderStatus::Expired);
                }
                (quantity, if place.side == Side::Buy { spent } else { quantity })
            }
            (true, OrderQuantity::Quote(quote)) => {
                let budget = quote.0;
                require(place.side == Side::Sell || budget <= free_of, Rejection::InsufficientBalance)?;
                require(budget > 0, Rejection::ZeroQuantity)?;
                market.check_market_worth(budget)?;
                let (quantity, spent, is_exhausted) = market.spend(place.side, budget)?;
                let enough = |least: u128| is_exhausted || quantity >= least;
                require(enough(config.min_quantity.0.max(1)), Rejection::LotSize)?;
                require(enough(config.market_min_quantity.0), Rejection::MarketLotSize)?;
                if is_exhausted {
                    reason = Some(OrderStatus::Expired);
                }
                (quantity, if place.side == Side::Buy { spent } else { quantity })
            }
        };
        require(hold <= free_of, Rejection::InsufficientBalance)?;
        self.lock(uid, pays, hold);
        let kills = reason.is_some() && !is_market;

        let market = &mut self.markets[symbol];
        market.orders += 1;
        let mut taker = Open {
            id: market.orders,
            uid,
            name: name.to_owned(),
            side: place.side,
            price: place.price.0,
            quantity,
            executed: 0,
            quote: 0,
        };
        let mut facts = vec![Fact::Accepted(taker.id)];
        let mut locked_left = hold;
        if !kills {
            locked_left = self.walk(symbol, &mut taker, is_market, hold, &mut facts);
        }
        let is_filled = taker.executed == taker.quantity;
        let expires_rest =
            place.order_type == OrderType::Limit && place.time_in_force == TimeInForce::Ioc && !is_filled;
        if reason.is_some() || expires_rest {
            self.unlock(uid, pays, locked_left);
            facts.push(Fact::Ended(taker.id, OrderStatus::Expired, taker.executed));
        } else if !is_filled {
            self.markets[symbol].open.push(taker);
        }
        Ok(facts)
    }

    /// The taker trades with the best and oldest until it is filled or nothing is in reach; what it still locks.
    fn walk(&mut self, symbol: usize, taker: &mut Open, is_market: bool, hold: u128, facts: &mut Vec<Fact>) -> u128 {
        let mut locked = hold;
        let mut price_before = None;
        loop {
            let market = &mut self.markets[symbol];
            let limit = (!is_market).then_some(taker.price);
            let Some(best) = market.reach(taker.side, limit).first().map(|order| order.id) else { break };
            let left = taker.quantity - taker.executed;
            if left == 0 {
                break;
            }
            let position = market.open.iter().position(|order| order.id == best).expect("it is in reach");
            let maker = &mut market.open[position];
            let take = left.min(maker.quantity - maker.executed);
            let worth = maker.price * take / market.base_unit;
            maker.executed += take;
            maker.quote += worth;
            taker.executed += take;
            taker.quote += worth;
            let maker = maker.clone();
            if maker.executed == maker.quantity {
                market.open.remove(position);
            }
            market.trades += 1;
            market.aggregates += u64::from(price_before != Some(maker.price));
            price_before = Some(maker.price);
            market.last_price = Some(maker.price);

            let (trade, aggregate) = (market.trades, market.aggregates);
            let config = market.config.clone();
            let base_unit = market.base_unit;
            let rates = [config.taker_fee, config.maker_fee].map(|rate| u128::from(rate.billionths()));
            let fee = |side: Side, rate: u128| {
                let received = if side == Side::Buy { take } else { worth };
                (received * rate + 500_000_000) / 1_000_000_000
            };
            let (taker_fee, maker_fee) = (fee(taker.side, rates[0]), fee(maker.side, rates[1]));
            let ((buyer, buyer_fee), (seller, seller_fee)) = match taker.side {
                Side::Buy => ((taker.uid, taker_fee), (maker.uid, maker_fee)),
                Side::Sell => ((maker.uid, maker_fee), (taker.uid, taker_fee)),
            };
            // The seller's base goes to the buyer, the buyer's quote to the seller, the fees to the exchange.
            self.spend_locked(seller, config.base.0, take);
            self.spend_locked(buyer, config.quote.0, worth);
            self.receive(buyer, config.base.0, take - buyer_fee);
            self.receive(seller, config.quote.0, worth - seller_fee);
            self.receive(0, config.base.0, buyer_fee);
            self.receive(0, config.quote.0, seller_fee);
            // What a buyer was ready to pay above the maker's price is its own again.
            locked -= match (taker.side, is_market) {
                (Side::Sell, _) => take,
                (Side::Buy, true) => worth,
                (Side::Buy, false) => {
                    let ready = taker.price * take / base_unit;
                    self.unlock(taker.uid, config.quote.0, ready - worth);
                    ready
                }
            };
            facts.push(Fact::Traded {
                trade,
                aggregate,
                price: maker.price,
                quantity: take,
                taker: (taker.id, taker_fee, taker.executed == taker.quantity),
                maker: (maker.id, maker_fee, maker.executed == maker.quantity),
            });
        }
        locked
    }

    fn cancel(&mut self, cancel: &CancelOrder) -> Facts {
        let symbol = cancel.symbol.0 as usize;
        let order = self.find(symbol, cancel.uid.0, &cancel.order)?;
        let has_traded = order.executed > 0;
        let id = order.id;
        let allowed = match cancel.restriction {
            None => true,
            Some(CancelRestriction::OnlyNew) => !has_traded,
            Some(CancelRestriction::OnlyPartiallyFilled) => has_traded,
        };
        require(allowed, Rejection::CancelRestricted)?;
        Ok(vec![self.take_off(symbol, id)])
    }

    fn amend(&mut self, amend: &AmendOrder) -> Facts {
        let symbol = amend.symbol.0 as usize;
        let market = self.markets.get(symbol).ok_or(Rejection::UnknownSymbol)?;
        require(market.status == SymbolStatus::Trading, Rejection::MarketClosed)?;
        let order = self.find(symbol, amend.uid.0, &amend.order)?.clone();
        let name = amend.new_client_order_id.as_str();
        let is_taken = |other: &Open| other.uid == order.uid && other.name == name && other.id != order.id;
        require(!market.open.iter().any(is_taken), Rejection::DuplicateOrder)?;
        let quantity = amend.new_quantity.0;
        market.check_quantity(quantity)?;
        require(quantity < order.quantity && quantity > order.executed, Rejection::AmendQuantity)?;
        let worth = market.worth(order.price, quantity)?;
        require(within(worth, market.config.min_notional.0, market.config.max_notional.0), Rejection::Notional)?;

        let less = order.quantity - quantity;
        let (asset, freed) = match order.side {
            Side::Buy => (market.config.quote.0, order.price * less / market.base_unit),
            Side::Sell => (market.config.base.0, less),
        };
        self.unlock(order.uid, asset, freed);
        let open = &mut self.markets[symbol].open;
        let amended = open.iter_mut().find(|open| open.id == order.id).expect("it was found");
        amended.quantity = quantity;
        amended.name = name.to_owned();
        Ok(vec![Fact::Amended(order.id, quantity)])
    }

    fn take_off(&mut self, symbol: usize, id: u64) -> Fact {
        let market = &mut self.markets[symbol];
        let position = market.open.iter().position(|order| order.id == id).expect("it is open");
        let order = market.open.remove(position);
        let left = order.quantity - order.executed;
        let (asset, locked) = match order.side {
            Side::Buy => (market.config.quote.0, order.price * left / market.base_unit),
            Side::Sell => (market.config.base.0, left),
        };
        self.unlock(order.uid, asset, locked);
        Fact::Ended(id, OrderStatus::Canceled, order.executed)
    }

    fn find(&self, symbol: usize, uid: u64, reference: &OrderReference) -> Result<&Open, Rejection> {
        let market = self.markets.get(symbol).ok_or(Rejection::UnknownSymbol)?;
        let mut own = market.open.iter().filter(|order| order.uid == uid);
        let name = reference.client_order_id.as_ref().map(|name| name.as_str());
        let Some(id) = reference.order_id else {
            return own.find(|order| Some(order.name.as_str()) == name).ok_or(Rejection::UnknownOrder);
        };
        let order = own.find(|order| order.id == id.0).ok_or(Rejection::UnknownOrder)?;
        require(name.is_none_or(|name| name == order.name), Rejection::ClientOrderIdMismatch)?;
        Ok(order)
    }

    fn free(&self, uid: u64, asset: u32) -> u128 {
        self.balances.get(&(uid, asset)).map_or(0, |(free, _)| *free)
    }

    fn lock(&mut self, uid: u64, asset: u32, amount: u128) {
        let (free, locked) = self.balances.entry((uid, asset)).or_default();
        (*free, *locked) = (*free - amount, *locked + amount);
    }

    fn unlock(&mut self, uid: u64, asset: u32, amount: u128) {
        let (free, locked) = self.balances.entry((uid, asset)).or_default();
        (*free, *locked) = (*free + amount, *locked - amount);
    }

    fn spend_locked(&mut self, uid: u64, asset: u32, amount: u128) {
        self.balances.entry((uid, asset)).or_default().1 -= amount;
    }

    fn receive(&mut self, uid: u64, asset: u32, amount: u128) {
        self.balances.entry((uid, asset)).or_default().0 += amount;
    }
}

impl Market {
    /// The orders that a taker of `side` may trade with, in the order in which it would.
    fn reach(&self, side: Side, limit: Option<u128>) -> Vec<&Open> {
        let in_reach = |order: &&Open| match (side, limit) {
            (_, None) => true,
            (Side::Buy, Some(limit)) => order.price <= limit,
            (Side::Sell, Some(limit)) => order.price >= limit,
        };
        let mut found: Vec<&Open> = self.open.iter().filter(|order| order.side != side).filter(in_reach).collect();
        found.sort_by_key(|order| if side == Side::Buy { order.price } else { u128::MAX - order.price });
        found
    }

    /// How much `budget` buys or raises, level by level in whole lots; for what; and whether the book ended first.
    fn spend(&self, side: Side, budget: u128) -> Result<(u128, u128, bool), Rejection> {
        let step = self.config.step_size.0;
        let limits = [self.config.max_quantity.0, self.config.market_max_quantity.0];
        let most = limits
            .into_iter()
            .filter(|limit| *limit > 0)
            .min()
            .map_or(u128::from(u64::MAX) * step, |most| most / step * step);
        let mut levels: Vec<(u128, u128)> = Vec::new();
        for order in self.reach(side, None) {
            let left = order.quantity - order.executed;
            match levels.last_mut() {
                Some((price, quantity)) if *price == order.price => *quantity += left,
                _ => levels.push((order.price, left)),
            }
        }
        let (mut quantity, mut spent) = (0, 0);
        for (price, available) in levels {
            let per_lot = self.worth(price, step)?;
            let affordable = (budget - spent) / per_lot * step;
            let take = available.min(affordable).min(most - quantity);
            quantity += take;
            spent += self.worth(price, take)?;
            if take < available {
                return Ok((quantity, spent, false));
            }
        }
        Ok((quantity, spent, spent < budget && quantity < most))
    }

    fn check_price(&self, price: u128) -> Result<(), Rejection> {
        let config = &self.config;
        let allowed = price > 0 && within(price, config.min_price.0, config.max_price.0);
        require(allowed && price.is_multiple_of(config.tick_size.0), Rejection::PriceFilter)?;
        require(price / config.tick_size.0 <= u128::from(u64::MAX), Rejection::PriceFilter)
    }

    fn check_quantity(&self, quantity: u128) -> Result<(), Rejection> {
        let config = &self.config;
        require(quantity > 0, Rejection::ZeroQuantity)?;
        let allowed = within(quantity, config.min_quantity.0, config.max_quantity.0);
        require(allowed && quantity.is_multiple_of(config.step_size.0), Rejection::LotSize)?;
        require(quantity / config.step_size.0 <= u128::from(u64::MAX), Rejection::LotSize)
    }

    fn check_market_worth(&self, worth: u128) -> Result<(), Rejection> {
        let config = &self.config;
        let min = if config.apply_min_to_market { config.min_notional.0 } else { 0 };
        let max = if config.apply_max_to_market { config.max_notional.0 } else { 0 };
        require(within(worth, min, max), Rejection::Notional)
    }

    /// Price × quantity in smallest quote units; a whole number, as price and quantity are whole ticks and lots.
    fn worth(&self, price: u128, quantity: u128) -> Result<u128, Rejection> {
        let (ticks, lots) = (price / self.config.tick_size.0, quantity / self.config.step_size.0);
        let per_lot = self.config.tick_size.0 * self.config.step_size.0 / self.base_unit;
        ticks.checked_mul(lots).and_then(|product| product.checked_mul(per_lot)).ok_or(Rejection::Overflow)
    }

    fn fits(&self, lots: u128) -> Result<(), Rejection> {
        require(lots <= u128::from(u64::MAX), Rejection::Overflow)
    }
}

fn require(holds: bool, rejection: Rejection) -> Result<(), Rejection> {
    holds.then_some(()).ok_or(rejection)
}

fn within(value: u128, min: u128, max: u128) -> bool {
    value >= min && (max == 0 || value <= max)
}
