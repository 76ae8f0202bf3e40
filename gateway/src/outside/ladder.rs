//! What a market maker's orders must become so that they stand as the levels of a book outside do.

use std::collections::BTreeMap;

use engine::order::Side;
use rust_decimal::Decimal;

/// A price and a quantity.
pub type Level = (Decimal, Decimal);

/// The orders of one level; with more, they are made one.
const ORDERS_MAX: usize = 3;

/// What orders must be like where they are to stand.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Prices are whole multiples of it.
    pub tick: Decimal,
    /// Quantities are whole multiples of it.
    pub step: Decimal,
    /// The least quantity of an order.
    pub min_quantity: Decimal,
    /// The most.
    pub max_quantity: Decimal,
    /// The least worth of an order.
    pub min_notional: Decimal,
    /// Levels on each side.
    pub levels: usize,
    /// How many times what stands outside.
    pub scale: Decimal,
}

/// An order that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its number.
    pub order_id: u64,
    /// Its side.
    pub side: Side,
    /// Its price.
    pub price: Decimal,
    /// What was asked.
    pub quantity: Decimal,
    /// What was traded of it.
    pub executed: Decimal,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Take an order off.
    Cancel(u64),
    /// Lower an order to this quantity, of which some may have traded; it keeps its place.
    Lower(u64, Decimal),
    /// Place a new one.
    Place(Side, Decimal, Decimal),
}

impl Rules {
    /// The levels that are to stand, best first, from those outside: prices away from the middle to the tick, quantities down
    /// to the step; what would be too small to be an order is left out.
    pub fn wanted(&self, side: Side, outside: impl Iterator<Item = Level>) -> Vec<Level> {
        let mut wanted: Vec<Level> = Vec::new();
        for (price, quantity) in outside {
            let Some(price) = self.rounded(side, price) else { continue };
            let is_full = wanted.len() == self.levels;
            match wanted.last_mut() {
                Some((last, sum)) if *last == price => *sum = sum.saturating_add(quantity),
                _ if is_full => break,
                _ => wanted.push((price, quantity)),
            }
        }
        let orders = wanted.into_iter().map(|(price, quantity)| (price, self.sized(quantity)));
        orders.filter(|&(price, quantity)| self.is_order(price, quantity)).collect()
    }

    fn rounded(&self, side: Side, price: Decimal) -> Option<Decimal> {
        let ticks = price.checked_div(self.tick)?;
        let ticks = if side == Side::Buy { ticks.floor() } else { ticks.ceil() };
        ticks.checked_mul(self.tick).filter(|price| !price.is_zero()).map(|price| price.normalize())
    }

    fn sized(&self, quantity: Decimal) -> Decimal {
        let scaled = quantity.checked_mul(self.scale).unwrap_or(Decimal::MAX).min(self.max_quantity);
        let steps = scaled.checked_div(self.step).map(|steps| steps.floor());
        steps.and_then(|steps| steps.checked_mul(self.step)).unwrap_or_default().normalize()
    }

    fn is_order(&self, price: Decimal, quantity: Decimal) -> bool {
        let worth = price.checked_mul(quantity).unwrap_or(Decimal::MAX);
        !quantity.is_zero() && quantity >= self.min_quantity && worth >= self.min_notional
    }

    /// What makes the orders that stand into the levels that are wanted; first what is taken away, the best prices first, then
    /// what is added, the best first.
    pub fn changes(&self, side: Side, wanted: &[Level], standing: &[Standing]) -> Vec<Change> {
        let mut levels: BTreeMap<Decimal, Vec<&Standing>> = BTreeMap::new();
        for order in standing.iter().filter(|order| order.side == side) {
            levels.entry(order.price.normalize()).or_default().push(order);
        }
        let (mut gone, mut added) = (Vec::new(), Vec::new());
        let best_first: Vec<(Decimal, Vec<&Standing>)> =
            if side == Side::Buy { levels.into_iter().rev().collect() } else { levels.into_iter().collect() };
        let mut known = BTreeMap::new();
        for (price, orders) in best_first {
            match wanted.iter().find(|(at, _)| *at == price) {
                Some(&(_, quantity)) => {
                    let (less, more) = self.level(side, price, quantity, &orders);
                    gone.extend(less);
                    known.insert(price, more);
                }
                None => gone.extend(orders.iter().map(|order| Change::Cancel(order.order_id))),
            }
        }
        for &(price, quantity) in wanted {
            match known.remove(&price) {
                Some(more) => added.extend(more),
                None => added.push(Change::Place(side, price, quantity)),
            }
        }
        gone.into_iter().chain(added).collect()
    }

    /// What is taken away and what is added at one level.
    fn level(
        &self,
        side: Side,
        price: Decimal,
        wanted: Decimal,
        orders: &[&Standing],
    ) -> (Vec<Change>, Option<Change>) {
        let open = |order: &Standing| order.quantity.saturating_sub(order.executed);
        let stands: Decimal = orders.iter().map(|order| open(order)).sum();
        if stands == wanted {
            return (Vec::new(), None);
        }
        let anew = || {
            let gone = orders.iter().map(|order| Change::Cancel(order.order_id)).collect();
            (gone, Some(Change::Place(side, price, wanted)))
        };
        if stands < wanted {
            let more = wanted.saturating_sub(stands);
            let fits = orders.len() < ORDERS_MAX && self.is_order(price, more);
            return if fits { (Vec::new(), Some(Change::Place(side, price, more))) } else { anew() };
        }
        // The last to come goes first.
        let (mut excess, mut gone) = (stands.saturating_sub(wanted), Vec::new());
        for order in orders.iter().rev() {
            if excess.is_zero() {
                break;
            }
            let open = open(order);
            if open <= excess {
                gone.push(Change::Cancel(order.order_id));
                excess = excess.saturating_sub(open);
                continue;
            }
            let left = order.quantity.saturating_sub(excess);
            if !self.is_order(price, left) {
                return anew();
            }
            gone.push(Change::Lower(order.order_id, left));
            excess = Decimal::ZERO;
        }
        (gone, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn levels(text: &str) -> Vec<Level> {
        let level = |text: &str| {
            let (quantity, price) = text.split_once('@').unwrap();
            (number(price), number(quantity))
        };
        text.split_whitespace().map(level).collect()
    }

    fn rules() -> Rules {
        Rules {
            tick: number("0.5"),
            step: number("0.1"),
            min_quantity: number("0.1"),
            max_quantity: number("1000"),
            min_notional: number("5"),
            levels: 3,
            scale: number("0.5"),
        }
    }

    /// Orders numbered from 1: `2@10`, or `2(1)@10` with one traded.
    fn standing(side: Side, text: &str) -> Vec<Standing> {
        let order = |(order_id, text): (u64, &str)| {
            let (quantity, price) = text.split_once('@').unwrap();
            let (quantity, executed) = quantity.split_once('(').unwrap_or((quantity, "0)"));
            let executed = number(executed.trim_end_matches(')'));
            Standing { order_id, side, price: number(price), quantity: number(quantity), executed }
        };
        (1..).zip(text.split_whitespace()).map(order).collect()
    }

    #[test]
    fn levels_are_rounded_away_from_the_middle_merged_and_bounded() {
        let outside = "2@10.4 3@10.2 1@9.9 8@9.2 8@8.0 8@7.0";
        assert_eq!(
            rules().wanted(Side::Buy, levels(outside).into_iter()),
            levels("2.5@10 0.5@9.5 4@9")[..]
                .iter()
                .copied()
                .filter(|(_, quantity)| *quantity != number("0.5"))
                .collect::<Vec<_>>()
        );
        let outside = "2@10.1 3@10.4 8@11 8@11.2 8@13";
        assert_eq!(rules().wanted(Side::Sell, levels(outside).into_iter()), levels("2.5@10.5 4@11 4@11.5"));
    }

    #[test]
    fn orders_are_changed_as_little_as_it_takes() {
        let rules = rules();
        let changes =
            |wanted: &str, orders: &str| rules.changes(Side::Buy, &levels(wanted), &standing(Side::Buy, orders));
        assert_eq!(changes("2@10 3@9", "2@10 3@9"), []);
        assert_eq!(
            changes("2@10 3@9", "2@10 5@11"),
            [Change::Cancel(2), Change::Place(Side::Buy, number("9"), number("3"))]
        );
        assert_eq!(changes("2@10", "5@10"), [Change::Lower(1, number("2"))]);
        assert_eq!(changes("2@10", "5(1)@10"), [Change::Lower(1, number("3"))]);
        assert_eq!(changes("2@10", "2@10 3@10"), [Change::Cancel(2)]);
        assert_eq!(changes("5@10", "2@10"), [Change::Place(Side::Buy, number("10"), number("3"))]);
        let anew = [Change::Cancel(1), Change::Place(Side::Buy, number("10"), number("2.2"))];
        assert_eq!(changes("2.2@10", "2@10"), anew, "what is missing is too small to be an order");
        assert_eq!(rules.changes(Side::Sell, &[], &standing(Side::Buy, "2@10")), [], "of one side alone");
    }

    #[test]
    fn done_changes_leave_the_levels_that_were_wanted() {
        use rand::rngs::StdRng;
        use rand::{RngExt, SeedableRng};
        let (rules, mut random) = (rules(), StdRng::seed_from_u64(7));
        let mut orders: Vec<Standing> = Vec::new();
        for round in 0..2_000 {
            let level = |_| {
                (
                    Decimal::from(random.random_range(8..20)) / Decimal::TWO,
                    Decimal::from(random.random_range(1..40)) / Decimal::TEN,
                )
            };
            let mut outside: Vec<Level> = (0..6).map(level).collect();
            outside.sort_by(|a, b| b.cmp(a));
            outside.dedup_by_key(|level| level.0);
            let wanted = rules.wanted(Side::Buy, outside.into_iter());
            for change in rules.changes(Side::Buy, &wanted, &orders) {
                match change {
                    Change::Cancel(id) => orders.retain(|order| order.order_id != id),
                    Change::Lower(id, quantity) => {
                        let order = orders.iter_mut().find(|order| order.order_id == id).unwrap();
                        assert!(quantity < order.quantity && quantity > order.executed);
                        order.quantity = quantity;
                    }
                    Change::Place(side, price, quantity) => {
                        assert!(rules.is_order(price, quantity));
                        orders.push(Standing {
                            order_id: orders.len() as u64 + round * 100,
                            side,
                            price,
                            quantity,
                            executed: Decimal::ZERO,
                        });
                    }
                }
            }
            let mut sums: BTreeMap<Decimal, Decimal> = BTreeMap::new();
            orders
                .iter()
                .for_each(|order| *sums.entry(order.price.normalize()).or_default() += order.quantity - order.executed);
            assert_eq!(sums.into_iter().rev().collect::<Vec<_>>(), wanted, "round {round}");
            if let Some(order) = orders.first_mut().filter(|_| round % 3 == 0) {
                order.executed = order.quantity / Decimal::TWO;
            }
        }
    }
}
