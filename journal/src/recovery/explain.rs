//! The life of one order, line by line: what the log says of it, with whom it traded, and what moved on its owner's account.
//!
//! What is held and released is told of the order alone where an order holds by itself. The orders of a list may hold
//! together; of them the account's balances tell.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use engine::command::AddAsset;
use engine::event::{ExpiryReason, OrderList, PreventedMatch, Trade};
use engine::order::{ClientOrderId, OrderStatus, Side};
use engine::symbol::Symbol;
use engine::units::Notional;
use engine::{
    Amount, AssetId, Command, Event, Order, OrderId, Price, Quantity, Sequence, Snapshot, SymbolId, Time, Uid,
};

use super::directory::Directory;
use super::fault::{Damage, RecoveryError};
use super::progress::Progress;
use super::replay::{At, Base, Before, Played, Replay};
use crate::open_orders::KnownOrder;

/// The life of an order.
#[derive(Clone, Debug)]
pub struct Story {
    /// Its symbol.
    pub symbol: Symbol,
    /// All assets, by id.
    pub assets: Vec<AddAsset>,
    /// The order at the end of the story.
    pub order: KnownOrder,
    /// What happened, in order.
    pub lines: Vec<Line>,
    /// Whether it begins with the order's acceptance; else the order was open already in the base.
    pub is_whole: bool,
    /// Where the replay began.
    pub base: Base,
    /// The last command that was looked at, and its time.
    pub until: (Sequence, Time),
}

/// One thing that happened to an order.
#[derive(Clone, Debug)]
pub struct Line {
    /// The command that did it; of an order that was open already, the last one before the story.
    pub sequence: Sequence,
    /// When.
    pub time: Time,
    /// What was asked.
    pub command: Option<Box<Command>>,
    /// What happened.
    pub what: Happening,
}

/// An amount of an asset.
pub type Money = (AssetId, Amount);

/// What happened to an order.
#[derive(Clone, Debug)]
pub enum Happening {
    /// It was open where the story begins.
    Open(Box<Order>),
    /// It came in.
    Accepted {
        /// As it was before it met the book.
        order: Box<Order>,
        /// What it held; `None` where it holds together with others, or nothing.
        held: Option<Money>,
    },
    /// It came to the book after it had waited.
    Triggered {
        /// As it was then.
        order: Box<Order>,
        /// What it holds from now on.
        held: Option<Money>,
    },
    /// It traded.
    Filled {
        /// The trade.
        trade: Box<Trade>,
        /// Whether it was there first.
        is_maker: bool,
        /// What its owner gave, out of what was held.
        paid: Money,
        /// What its owner got, before the fee.
        received: Money,
        /// What was freed beside, as the price was better than its own.
        released: Option<Money>,
    },
    /// Self-trade prevention took a part off it.
    Prevented {
        /// The match that was not let happen.
        prevented: Box<PreventedMatch>,
        /// Whether it was there first.
        is_maker: bool,
        /// What was freed.
        released: Option<Money>,
    },
    /// Its quantity was lowered in place.
    Amended {
        /// As it is now.
        order: Box<Order>,
        /// Its quantity before.
        previous_quantity: Quantity,
        /// Its name before.
        previous_client_order_id: ClientOrderId,
        /// What was freed.
        released: Option<Money>,
    },
    /// It has another price and quantity.
    Replaced {
        /// Its price now.
        price: Price,
        /// Its whole quantity now.
        quantity: Quantity,
        /// What it holds now.
        held: Option<Money>,
    },
    /// Its list began, changed or ended.
    ListChanged(Box<OrderList>),
    /// Its owner took it off the book.
    Canceled {
        /// As it ended.
        order: Box<Order>,
        /// The name of the cancel.
        cancel_client_order_id: ClientOrderId,
        /// What was freed.
        released: Option<Money>,
    },
    /// A rule ended it.
    Expired {
        /// As it ended.
        order: Box<Order>,
        /// The rule.
        reason: ExpiryReason,
        /// What was freed.
        released: Option<Money>,
    },
    /// The balances of its owner that the command moved, other orders of the same command included.
    Account(Vec<Account>),
}

/// A balance before and after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Of what.
    pub asset: AssetId,
    /// What could be used.
    pub free: (Amount, Amount),
    /// What was locked.
    pub locked: (Amount, Amount),
}

impl Story {
    /// Tells the life of an order of a symbol, up to a moment.
    pub fn tell(
        directory: &Directory,
        symbol: &str,
        order_id: OrderId,
        to: At,
        progress: &mut dyn Progress,
        passed: &mut Vec<Damage>,
    ) -> Result<Story, RecoveryError> {
        let mut replay = match Replay::before(directory, Before::Order(symbol, order_id), passed) {
            // The log no longer reaches so far: the order may be open still where it begins.
            Err(RecoveryError::NotThere(_)) => Replay::from_oldest(directory, passed)?,
            other => other?,
        };
        let mut teller = Teller::new(&replay.snapshot(), symbol, order_id);
        replay.run(to, progress, |played| teller.watch(played))?;
        let until = (replay.sequence(), replay.time());
        let base = replay.base().clone();
        let missing = || {
            let what = match (&teller.symbol, base.file.is_some()) {
                (None, _) => format!("there is no symbol {symbol} up to sequence {}", until.0),
                (Some(_), true) if teller.was_before => format!(
                    "order {order_id} of {symbol} came and ended before sequence {}, where the log begins: history has \
                     its end, a backup or an export may have its life",
                    base.sequence
                ),
                (Some(_), _) => format!("there is no order {order_id} of {symbol} up to sequence {}", until.0),
            };
            RecoveryError::NotThere(what)
        };
        let (Some(symbol), Some(order)) = (teller.symbol.clone(), teller.order.clone()) else { return Err(missing()) };
        let is_whole = matches!(teller.lines.first(), Some(Line { what: Happening::Accepted { .. }, .. }));
        Ok(Story { symbol, assets: teller.assets, order, lines: teller.lines, is_whole, base, until })
    }
}

struct Teller<'a> {
    name: &'a str,
    order_id: OrderId,
    symbol: Option<Symbol>,
    assets: Vec<AddAsset>,
    /// Of every account, as nobody knows yet whose the order will be.
    balances: BTreeMap<(Uid, AssetId), (Amount, Amount)>,
    order: Option<KnownOrder>,
    /// What a stop that will be a market buy holds while it waits.
    stop_held: Option<Amount>,
    lines: Vec<Line>,
    /// Whether the base knows of a later order than this one, which it does not have.
    was_before: bool,
}

impl<'a> Teller<'a> {
    fn new(state: &Snapshot, name: &'a str, order_id: OrderId) -> Teller<'a> {
        let listed = state.symbols().find(|listed| listed.symbol().config.name == name);
        let found = listed.and_then(|listed| listed.orders().find(|order| order.order_id == order_id));
        let balances = state.accounts().flat_map(|account| {
            let uid = account.uid;
            account.balances.into_iter().map(move |(asset, free, locked)| ((uid, asset), (free, locked)))
        });
        let line = |order: &Order| Line {
            sequence: state.sequence(),
            time: state.time(),
            command: None,
            what: Happening::Open(Box::new(order.clone())),
        };
        Teller {
            name,
            order_id,
            symbol: listed.map(|listed| listed.symbol().clone()),
            assets: state.assets().map(|asset| asset.asset).collect(),
            balances: balances.collect(),
            stop_held: listed.and_then(|listed| listed.stop_held(order_id)),
            lines: found.as_ref().map(line).into_iter().collect(),
            was_before: found.is_none() && listed.is_some_and(|listed| listed.counters().order >= order_id.0),
            order: found.map(KnownOrder::from),
        }
    }

    fn watch(&mut self, played: &mut Played<'_>) -> Result<ControlFlow<()>, RecoveryError> {
        if self.was_before {
            return Ok(ControlFlow::Break(()));
        }
        let time = played.applied.time;
        let is_done = |teller: &Teller<'_>| teller.order.as_ref().is_some_and(|known| !known.order.status.is_open());
        for (sequence, command, events) in played.each() {
            let first = self.lines.len();
            for event in events {
                self.follow(event, sequence, time);
            }
            let account = self.settle(events);
            if self.lines.len() > first {
                self.complete(first, &account);
                for line in &mut self.lines[first..] {
                    line.command = Some(Box::new(command.clone()));
                }
                if !account.is_empty() {
                    self.push(sequence, time, Happening::Account(account));
                }
            }
            if is_done(self) {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn push(&mut self, sequence: Sequence, time: Time, what: Happening) {
        self.lines.push(Line { sequence, time, command: None, what });
    }

    fn is_mine(&self, symbol: SymbolId, order_id: OrderId) -> bool {
        order_id == self.order_id && self.symbol.as_ref().is_some_and(|own| own.id == symbol)
    }

    fn follow(&mut self, event: &Event, sequence: Sequence, time: Time) {
        match event {
            Event::AssetAdded { added, .. } => self.assets.push(added.clone()),
            Event::SymbolAdded(symbol) if symbol.config.name == self.name => self.symbol = Some((**symbol).clone()),
            Event::SymbolConfigured(symbol) if symbol.config.name == self.name => {
                self.symbol = Some((**symbol).clone());
            }
            Event::OrderAccepted(order) if self.is_mine(order.symbol, order.order_id) => {
                let held = self.held_by(order);
                self.order = Some(order.clone().into());
                self.push(sequence, time, Happening::Accepted { order: Box::new(order.clone()), held });
            }
            Event::OrderTriggered(order) if self.is_mine(order.symbol, order.order_id) => {
                let held = self.held_by(order);
                self.stop_held = None;
                self.order = Some(order.clone().into());
                self.push(sequence, time, Happening::Triggered { order: Box::new(order.clone()), held });
            }
            Event::Trade(trade) => {
                for is_maker in [false, true] {
                    let fill = if is_maker { &trade.maker } else { &trade.taker };
                    if self.is_mine(trade.symbol, fill.order_id) {
                        self.fill(trade, is_maker, sequence, time);
                    }
                }
            }
            Event::TradePrevented(prevented) => {
                let sides = [
                    (prevented.taker_order_id, prevented.taker_prevented, false),
                    (prevented.maker_order_id, prevented.maker_prevented, true),
                ];
                for (order_id, quantity, is_maker) in sides {
                    if self.is_mine(prevented.symbol, order_id) {
                        let before = self.open_hold();
                        if let Some(known) = &mut self.order {
                            known.prevent(prevented.prevented_match_id, quantity, time);
                        }
                        let released = self.less(before, Amount::ZERO);
                        let prevented = Box::new(*prevented);
                        self.push(sequence, time, Happening::Prevented { prevented, is_maker, released });
                    }
                }
            }
            Event::OrderAmended { order, previous_client_order_id, previous_quantity }
                if self.is_mine(order.symbol, order.order_id) =>
            {
                let before = self.open_hold();
                self.order = Some(KnownOrder { prevented_match: self.prevented_match(), ..order.clone().into() });
                let what = Happening::Amended {
                    order: Box::new(order.clone()),
                    previous_quantity: *previous_quantity,
                    previous_client_order_id: *previous_client_order_id,
                    released: self.less(before, Amount::ZERO),
                };
                self.push(sequence, time, what);
            }
            Event::OrderReplaced { symbol, order_id, price, quantity, .. } if self.is_mine(*symbol, *order_id) => {
                if let Some(known) = &mut self.order {
                    (known.order.price, known.order.quantity, known.order.updated_at) = (*price, *quantity, time);
                }
                let held = self.open_hold();
                self.push(sequence, time, Happening::Replaced { price: *price, quantity: *quantity, held });
            }
            // A list begins before its orders are accepted; the story begins with the order.
            Event::OrderListChanged(list)
                if self.order.is_some() && list.orders.iter().any(|(id, _)| self.is_mine(list.symbol, *id)) =>
            {
                self.push(sequence, time, Happening::ListChanged(list.clone()));
            }
            Event::OrderCanceled { order, cancel_client_order_id } if self.is_mine(order.symbol, order.order_id) => {
                let released = self.released_at_end(order);
                self.end(order, None);
                let order = Box::new(order.clone());
                let cancel_client_order_id = *cancel_client_order_id;
                self.push(sequence, time, Happening::Canceled { order, cancel_client_order_id, released });
            }
            Event::OrderExpired { order, reason } if self.is_mine(order.symbol, order.order_id) => {
                let released = self.released_at_end(order);
                self.end(order, Some(*reason));
                let order = Box::new(order.clone());
                self.push(sequence, time, Happening::Expired { order, reason: *reason, released });
            }
            _ => {}
        }
    }

    fn prevented_match(&self) -> Option<engine::units::PreventedMatchId> {
        self.order.as_ref().and_then(|known| known.prevented_match)
    }

    fn end(&mut self, order: &Order, expiry: Option<ExpiryReason>) {
        self.order = Some(KnownOrder { order: order.clone(), prevented_match: self.prevented_match(), expiry });
    }

    fn fill(&mut self, trade: &Trade, is_maker: bool, sequence: Sequence, time: Time) {
        let (Some(symbol), before) = (&self.symbol, self.open_hold()) else { return };
        let (base, quote) = (symbol.config.base, symbol.config.quote);
        let side = if is_maker { trade.taker_side.opposite() } else { trade.taker_side };
        let fill = if is_maker { &trade.maker } else { &trade.taker };
        let base_amount = symbol.scale.base_amount(trade.quantity);
        let by_lot = symbol.config.commission.by_lot.is_some();
        let (paid, received) = match side {
            Side::Buy => ((quote, trade.quote_amount), (base, base_amount)),
            Side::Sell => ((base, base_amount), (quote, trade.quote_amount)),
        };
        // A fee by lot is paid on top, out of what is held for it.
        let spent = if by_lot && side == Side::Buy { paid.1.checked_add(fill.fee) } else { Some(paid.1) };
        if let Some(known) = &mut self.order {
            known.fill(fill, time);
        }
        let released = self.less(before, spent.unwrap_or(paid.1));
        self.push(sequence, time, Happening::Filled { trade: Box::new(*trade), is_maker, paid, received, released });
    }

    /// What the order needs by itself for all that is open of it; `None` where nobody outside the engine can say: a market buy
    /// holds exactly what it costs, the orders of a list may hold together.
    fn open_hold(&self) -> Option<Money> {
        self.order.as_ref().and_then(|known| self.held_by(&known.order))
    }

    fn held_by(&self, order: &Order) -> Option<Money> {
        let symbol = self.symbol.as_ref()?;
        if order.status == OrderStatus::PendingNew || order.order_list_id().is_some() {
            return None;
        }
        let open = order.quantity.0.checked_sub(order.executed.0)?.checked_sub(order.prevented().0).map(Quantity)?;
        match order.side {
            Side::Sell => Some((symbol.config.base, symbol.scale.base_amount(open))),
            Side::Buy if order.order_type.is_market() => {
                self.stop_held.filter(|_| order.working_at().is_none()).map(|held| (symbol.config.quote, held))
            }
            Side::Buy => {
                let amount = symbol.scale.quote_amount(Notional::of(order.price, open)?);
                let fee = symbol.config.commission.by_lot.map_or(Some(Amount::ZERO), |fee| fee.most(open))?;
                Some((symbol.config.quote, amount.checked_add(fee)?))
            }
        }
    }

    /// What is free of what was held before, when so much was spent and the rest is needed still.
    fn less(&self, before: Option<Money>, spent: Amount) -> Option<Money> {
        let (asset, before) = before?;
        let (_, after) = self.open_hold()?;
        let freed = before.checked_sub(after)?.checked_sub(spent)?;
        (!freed.is_zero()).then_some((asset, freed))
    }

    fn released_at_end(&self, order: &Order) -> Option<Money> {
        // The order as it was: what ended it changed its status and no more.
        let was_waiting = self.order.as_ref().is_some_and(|known| known.order.working_at().is_none());
        if was_waiting && order.side == Side::Buy && order.order_type.is_market() {
            return self.open_hold();
        }
        self.held_by(order).filter(|(_, amount)| !amount.is_zero())
    }

    /// The balances that a command moved, of the order's owner, before and after; and keeps all as they are now.
    fn settle(&mut self, events: &[Event]) -> Vec<Account> {
        let owner = self.order.as_ref().map(|known| known.order.uid);
        let mut moved = Vec::new();
        for event in events {
            let Event::BalanceChanged { uid, asset, free, locked } = event else { continue };
            let before = self.balances.insert((*uid, *asset), (*free, *locked)).unwrap_or_default();
            // A trade with oneself can leave a balance as it was.
            if owner == Some(*uid) && before != (*free, *locked) {
                moved.push(Account { asset: *asset, free: (before.0, *free), locked: (before.1, *locked) });
            }
        }
        moved
    }

    /// What only the whole command tells: what a market buy cost, what a stop holds while it waits.
    fn complete(&mut self, first: usize, account: &[Account]) {
        let Some(symbol) = &self.symbol else { return };
        let quote = symbol.config.quote;
        let mut cost = Amount::ZERO;
        for line in &self.lines[first..] {
            if let Happening::Filled { trade, is_maker: false, paid, .. } = &line.what {
                let fee = if symbol.config.commission.by_lot.is_some() { trade.taker.fee } else { Amount::ZERO };
                cost = cost.checked_add(paid.1).and_then(|sum| sum.checked_add(fee)).unwrap_or(cost);
            }
        }
        let stop_held = account.iter().find(|balance| balance.asset == quote);
        let stop_held = stop_held.and_then(|balance| balance.locked.1.checked_sub(balance.locked.0));
        let mut stop = None;
        for line in &mut self.lines[first..] {
            let (Happening::Accepted { order, held } | Happening::Triggered { order, held }) = &mut line.what else {
                continue;
            };
            let alone = order.order_list_id().is_none() && order.side == Side::Buy && order.order_type.is_market();
            if alone && order.working_at().is_some() {
                *held = Some((quote, cost));
            } else if alone {
                *held = stop_held.map(|amount| (quote, amount));
                stop = stop_held;
            }
        }
        self.stop_held = stop.or(self.stop_held);
    }
}
