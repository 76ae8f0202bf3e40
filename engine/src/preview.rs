//! What a walk would bring, before anything happens: for orders that must know it (fill or kill, market orders).
//!
//! Exact: it minds self-trade prevention, what icebergs hide, and the price range execution rule, in the order in which
//! [`Market::walk`] will meet them.

use std::collections::VecDeque;

use crate::book::{Ladder, Level};
use crate::market::{Floor, Market, reaches};
use crate::matching::{Stopped, Taker, may_execute};
use crate::order::{SelfTradePrevention, Side};
use crate::units::{Amount, Notional, Price, Quantity};

/// How far a walk may go.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// Until so much is traded or prevented.
    Quantity(Quantity),
    /// Until a further lot costs or brings more than is left of the amount, or so many lots are traded or prevented.
    Quote(Amount, Quantity),
}

/// What a walk would bring.
#[derive(Clone, Copy, Debug)]
pub struct Preview {
    /// How much would trade.
    pub traded: Quantity,
    /// How much the taker would lose to self-trade prevention.
    pub prevented: Quantity,
    /// What a buyer would pay, the fee by lot included; what a seller would be paid.
    pub cost: Amount,
    /// Where it would end.
    pub stopped: Stopped,
}

/// A preview under way.
pub(crate) struct Steps {
    preview: Preview,
    goal: Goal,
}

impl Market {
    /// What the taker's walk would bring; `None` when its worth does not fit.
    pub fn preview(&mut self, taker: &Taker, goal: Goal, floor: &Floor) -> Option<Preview> {
        if self.desk.is_some() {
            return self.preview_house(taker, goal, floor);
        }
        let side = taker.order.side;
        let limit = (!taker.order.order_type.is_market()).then_some(taker.order.price);
        let range = self.execution_range(floor);
        let trader = self.book.traders.at(taker.trader);
        let may_prevent = taker.order.self_trade_prevention != SelfTradePrevention::None
            && (trader.open_by_side[side.opposite() as usize] > 0 || trader.settings.trade_group.is_some());
        let mut steps = Steps::new(goal);
        for level in self.book.levels(Ladder::of(side.opposite())) {
            if limit.is_some_and(|limit| !reaches(side, limit, level.price)) {
                steps.preview.stopped = Stopped::OutOfReach;
                return Some(steps.preview);
            }
            if steps.left(self, side, level.price).is_zero() {
                steps.preview.stopped = Stopped::Done;
                return Some(steps.preview);
            }
            if !may_execute(range, side, level.price) {
                steps.preview.stopped = Stopped::OutOfRange;
                return Some(steps.preview);
            }
            let ended = if may_prevent {
                self.preview_queue(taker, level, &mut steps)?
            } else {
                let all = level.shown.checked_add(level.hidden).expect("level sum was checked");
                let left = steps.left(self, side, level.price);
                steps.take(self, side, level.price, all.min(left))?;
                (all > left).then_some(Stopped::Done)
            };
            if let Some(stopped) = ended {
                steps.preview.stopped = stopped;
                return Some(steps.preview);
            }
        }
        if steps.is_reached() {
            steps.preview.stopped = Stopped::Done;
        }
        Some(steps.preview)
    }

    /// A level order by order, as the walk would meet them.
    fn preview_queue(&self, taker: &Taker, level: &Level, steps: &mut Steps) -> Option<Option<Stopped>> {
        let side = taker.order.side;
        let mut queue = self.book.queue(level).map(|slot| (slot, self.book.open(slot), self.book.shown(slot)));
        // The icebergs that show their next part, at the end of the queue.
        let mut replenished = VecDeque::new();
        while let Some((slot, open, shown)) = queue.next().or_else(|| replenished.pop_front()) {
            let left = steps.left(self, side, level.price);
            if left.is_zero() {
                return Some(Some(Stopped::Done));
            }
            let part = shown.min(left);
            match self.prevention(taker, slot) {
                SelfTradePrevention::None => steps.take(self, side, level.price, part)?,
                SelfTradePrevention::ExpireMaker => continue,
                SelfTradePrevention::ExpireTaker | SelfTradePrevention::ExpireBoth => {
                    steps.lose(left)?;
                    return Some(Some(Stopped::Prevented));
                }
                SelfTradePrevention::Decrement => steps.lose(part)?,
                SelfTradePrevention::Transfer => {
                    steps.lose(part)?;
                    let moved = self.symbol.scale.quote_amount(Notional::of(level.price, part)?);
                    steps.preview.cost = steps.preview.cost.checked_add(moved)?;
                }
            }
            let (open, shown) = (open.minus(part), shown.minus(part));
            let next_part = self.book.special(slot).and_then(|special| special.iceberg_quantity);
            match next_part {
                _ if open.is_zero() => {}
                Some(next) if shown.is_zero() => replenished.push_back((slot, open, next.min(open))),
                // Something of what is shown is left, so the taker is done.
                _ => return Some(Some(Stopped::Done)),
            }
        }
        Some(None)
    }
}

impl Steps {
    /// Before the first.
    pub(crate) fn new(goal: Goal) -> Steps {
        let preview = Preview {
            traded: Quantity::ZERO,
            prevented: Quantity::ZERO,
            cost: Amount::ZERO,
            stopped: Stopped::BookEmpty,
        };
        Steps { preview, goal }
    }

    /// There it ends.
    pub(crate) fn end(self, stopped: Stopped) -> Preview {
        Preview { stopped, ..self.preview }
    }

    /// How much more may be met at this price.
    pub(crate) fn left(&self, market: &Market, side: Side, price: Price) -> Quantity {
        let met = Quantity(self.preview.traded.0 + self.preview.prevented.0);
        match self.goal {
            Goal::Quantity(quantity) => quantity.minus(met),
            Goal::Quote(budget, most) => {
                let notional = market.symbol.scale.quote_amount(Notional(price.0));
                let lot = match side {
                    Side::Buy => notional.plus(market.lot_fee(Quantity(1))),
                    Side::Sell => notional,
                };
                let left = budget.minus(self.preview.cost);
                let lots = left.0 / lot.0;
                Quantity(u64::try_from(lots).unwrap_or(u64::MAX)).min(most.minus(met))
            }
        }
    }

    pub(crate) fn is_reached(&self) -> bool {
        let met = Quantity(self.preview.traded.0 + self.preview.prevented.0);
        match self.goal {
            Goal::Quantity(quantity) => met == quantity,
            Goal::Quote(budget, most) => met == most || self.preview.cost == budget,
        }
    }

    pub(crate) fn take(&mut self, market: &Market, side: Side, price: Price, quantity: Quantity) -> Option<()> {
        let notional = Notional::of(price, quantity)?;
        self.preview.traded = self.preview.traded.checked_add(quantity)?;
        let quote = market.symbol.scale.quote_amount(notional);
        let fee = match (side, market.symbol.config.commission.by_lot) {
            (Side::Buy, Some(fee)) => fee.most(quantity)?,
            _ => Amount::ZERO,
        };
        let cost = quote.checked_add(fee)?;
        self.preview.cost = self.preview.cost.checked_add(cost)?;
        Some(())
    }

    fn lose(&mut self, quantity: Quantity) -> Option<()> {
        self.preview.prevented = self.preview.prevented.checked_add(quantity)?;
        Some(())
    }
}
