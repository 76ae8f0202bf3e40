//! Numbers and the only arithmetic between them. How a number is stored, this file alone knows.
//!
//! Three kinds of number never mix: a [`Price`] counts ticks, a [`Quantity`] counts lots, an [`Amount`] counts the
//! smallest units of one asset. Every step is checked: what does not fit is `None` here and a rejection in the caller.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(/// A user: the owner of one account.
    Uid(u64));
id!(/// An asset, numbered from 0 in the order of its addition.
    AssetId(u32));
id!(/// A symbol, numbered from 0 in the order of its addition.
    SymbolId(u32));
id!(/// An order's number within its symbol, from 1, without a hole.
    OrderId(u64));
id!(/// A trade's number within its symbol, from 1, without a hole.
    TradeId(u64));
id!(/// An order list's number within its symbol, from 1, without a hole.
    OrderListId(u64));
id!(/// A prevented match's number within its symbol, from 1, without a hole.
    PreventedMatchId(u64));
id!(/// Accounts in one group do not trade with each other where self-trade prevention says so.
    TradeGroup(u32));
id!(/// The number of a command in the log, from 1: the one clock of the system.
    Sequence(u64));
id!(/// Microseconds since 1970-01-01 UTC, stamped by the sequencer; never runs backwards within a log.
    Time(u64));
id!(/// A price in ticks of its symbol (`tick_size`). Zero only where there is no price (market orders).
    Price(u64));
id!(/// A quantity in lots of its symbol (`step_size`).
    Quantity(u64));
id!(/// An amount in the smallest units of an asset (10^-scale).
    Amount(u128));

impl Time {
    /// Milliseconds since 1970-01-01 UTC, rounded down.
    pub fn millis(self) -> u64 {
        self.0 / 1_000
    }
}

impl Quantity {
    /// No lots at all.
    pub const ZERO: Quantity = Quantity(0);

    /// Whether there is nothing left.
    #[inline]
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` when it does not fit.
    #[inline]
    pub fn checked_add(self, other: Quantity) -> Option<Quantity> {
        self.0.checked_add(other.0).map(Quantity)
    }

    /// The difference; the caller has established `other <= self`.
    #[inline]
    pub fn minus(self, other: Quantity) -> Quantity {
        Quantity(self.0.checked_sub(other.0).expect("quantity below zero"))
    }
}

impl Amount {
    /// Nothing.
    pub const ZERO: Amount = Amount(0);

    /// Whether it is nothing.
    #[inline]
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` when it does not fit.
    #[inline]
    pub fn checked_add(self, other: Amount) -> Option<Amount> {
        self.0.checked_add(other.0).map(Amount)
    }

    /// The difference, or `None` below zero.
    #[inline]
    pub fn checked_sub(self, other: Amount) -> Option<Amount> {
        self.0.checked_sub(other.0).map(Amount)
    }

    /// The sum; the caller has established that it fits (every amount is part of an asset's supply, and that fits).
    #[inline]
    pub fn plus(self, other: Amount) -> Amount {
        Amount(self.0.checked_add(other.0).expect("amount over its range"))
    }

    /// The difference; the caller has established `other <= self`.
    #[inline]
    pub fn minus(self, other: Amount) -> Amount {
        Amount(self.0.checked_sub(other.0).expect("amount below zero"))
    }
}

/// How many times something, in hundred-millionths: 1.2 is 120,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Multiplier(pub u64);

impl Multiplier {
    /// Once.
    pub const ONE: Multiplier = Multiplier(100_000_000);

    /// The price times this, rounded down; the highest price where it does not fit.
    #[inline]
    pub fn of(self, price: Price) -> Price {
        // In 64 bits where that fits, which is many times faster.
        if let Some(product) = price.0.checked_mul(self.0) {
            return Price(product / Self::ONE.0);
        }
        let product = u128::from(price.0) * u128::from(self.0) / u128::from(Self::ONE.0);
        Price(u64::try_from(product).unwrap_or(u64::MAX))
    }

    /// The price times this, rounded up; the highest price where it does not fit.
    #[inline]
    pub fn of_rounded_up(self, price: Price) -> Price {
        if let Some(product) = price.0.checked_mul(self.0) {
            return Price(product.div_ceil(Self::ONE.0));
        }
        let product = (u128::from(price.0) * u128::from(self.0)).div_ceil(u128::from(Self::ONE.0));
        Price(u64::try_from(product).unwrap_or(u64::MAX))
    }
}

/// A price times a quantity, in ticks × lots: what it is worth before the symbol's [`Scale`] says in which units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Notional(pub u64);

impl Notional {
    /// Nothing.
    pub const ZERO: Notional = Notional(0);

    /// Price × quantity, or `None` when it does not fit: what an order may be worth at most is 2^64 tick-lots.
    #[inline]
    pub fn of(price: Price, quantity: Quantity) -> Option<Notional> {
        price.0.checked_mul(quantity.0).map(Notional)
    }

    /// The sum, or `None` when it does not fit.
    #[inline]
    pub fn checked_add(self, other: Notional) -> Option<Notional> {
        self.0.checked_add(other.0).map(Notional)
    }

    /// The sum; the caller has established that it fits.
    #[inline]
    pub fn plus(self, other: Notional) -> Notional {
        Notional(self.0.checked_add(other.0).expect("notional over its range"))
    }

    /// The difference; the caller has established `other <= self`.
    #[inline]
    pub fn minus(self, other: Notional) -> Notional {
        Notional(self.0.checked_sub(other.0).expect("notional below zero"))
    }
}

/// How many smallest units a tick and a lot of one symbol are worth. Only made by [`Scale::new`], which makes sure that
/// every price times quantity is a whole number of smallest quote units: nothing is ever rounded in a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    tick: u128,
    lot: u64,
    notional: u64,
}

impl Scale {
    /// From `tick` (smallest quote units per whole base, one tick) and `lot` (smallest base units, one lot), for a base
    /// asset of `base_scale` decimals. `None` when either is zero, when tick × lot is not a whole number of quote units, or
    /// when that number or the lot has more than 64 bits.
    pub fn new(tick: Amount, lot: Amount, base_scale: u8) -> Option<Scale> {
        let whole_base = 10u128.checked_pow(u32::from(base_scale))?;
        let product = tick.0.checked_mul(lot.0)?;
        if product == 0 || !product.is_multiple_of(whole_base) {
            return None;
        }
        Some(Scale {
            tick: tick.0,
            lot: u64::try_from(lot.0).ok()?,
            notional: u64::try_from(product / whole_base).ok()?,
        })
    }

    /// One tick, in smallest quote units per whole base.
    pub fn tick_size(self) -> Amount {
        Amount(self.tick)
    }

    /// One lot, in smallest base units.
    pub fn step_size(self) -> Amount {
        Amount(self.lot.into())
    }

    /// The price in ticks, or `None` when it is not a whole number of them or has more than fit.
    pub fn ticks(self, price: Amount) -> Option<Price> {
        whole(price.0, self.tick).map(Price)
    }

    /// The quantity in lots, or `None` when it is not a whole number of them or has more than fit.
    pub fn lots(self, quantity: Amount) -> Option<Quantity> {
        whole(quantity.0, self.lot.into()).map(Quantity)
    }

    /// The whole lots in an amount of base; as many as fit.
    pub fn whole_lots(self, base: Amount) -> Quantity {
        Quantity(u64::try_from(base.0 / u128::from(self.lot)).unwrap_or(u64::MAX))
    }

    /// The price of one whole base in smallest quote units.
    #[inline]
    pub fn price_amount(self, price: Price) -> Amount {
        // A Price is only made by `ticks` from an amount that fitted.
        Amount(u128::from(price.0).checked_mul(self.tick).expect("price over its range"))
    }

    /// The quantity in smallest base units.
    #[inline]
    pub fn base_amount(self, quantity: Quantity) -> Amount {
        Amount(u128::from(quantity.0) * u128::from(self.lot))
    }

    /// Price × quantity in smallest quote units, exact.
    #[inline]
    pub fn quote_amount(self, notional: Notional) -> Amount {
        Amount(u128::from(notional.0) * u128::from(self.notional))
    }

    /// The same of many orders' worth together: each of them fits, and they are part of the asset's supply.
    pub fn quote_amounts(self, notional: u128) -> Amount {
        Amount(notional.checked_mul(u128::from(self.notional)).expect("amount over its range"))
    }

    /// The most tick-lots that `quote` pays for.
    pub fn whole_notional(self, quote: Amount) -> Notional {
        Notional(u64::try_from(quote.0 / u128::from(self.notional)).unwrap_or(u64::MAX))
    }
}

/// A tick or a lot of at most 64 bits, made ready to count how many of it an amount is, without a division: a multiple of an odd
/// number times the number's inverse modulo 2^64 is how many times it is, and what is no multiple comes out larger than any
/// multiple does.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    /// The inverse of its odd part.
    inverse: u64,
    /// Its factors of two.
    twos: u32,
    /// The most of it that 64 bits hold.
    most: u64,
}

impl Unit {
    /// Of that many smallest units, above zero. Any amount counts as none of one that has more than 64 bits.
    pub fn new(unit: Amount) -> Unit {
        let Ok(unit) = u64::try_from(unit.0) else { return Unit { inverse: 0, twos: 0, most: 0 } };
        let twos = unit.trailing_zeros();
        let odd = unit >> twos;
        // Each step doubles how many of the lowest bits are right, from three on.
        let inverse = (0..5).fold(odd, |inverse, _| inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse))));
        Unit { inverse, twos, most: u64::MAX / unit }
    }

    /// How many of it `amount` is; `None` where that is no whole number, or the amount has more than 64 bits.
    #[inline]
    pub fn count(self, amount: Amount) -> Option<u64> {
        let amount = u64::try_from(amount.0).ok()?;
        let count = amount.wrapping_mul(self.inverse).rotate_right(self.twos);
        (count <= self.most).then_some(count)
    }
}

/// `value / unit` where that is a whole number of 64 bits.
fn whole(value: u128, unit: u128) -> Option<u64> {
    // A division of 64 bits is many times faster than one of 128, and nearly all values fit.
    if let (Ok(value), Ok(unit)) = (u64::try_from(value), u64::try_from(unit)) {
        return value.is_multiple_of(unit).then(|| value / unit);
    }
    value.is_multiple_of(unit).then(|| u64::try_from(value / unit).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_refuses_a_tick_and_lot_whose_product_is_not_whole() {
        // 0.01 USDT × 0.00001 BTC = 10 units of 10^-8 USDT.
        let scale = Scale::new(Amount(1_000_000), Amount(1_000), 8).unwrap();
        let notional = Notional::of(Price(6_000_000), Quantity(3)).unwrap();
        assert_eq!(scale.quote_amount(notional), Amount(180_000_000));
        assert_eq!(Scale::new(Amount(1_000_000), Amount(1), 8), None);
        assert_eq!(Scale::new(Amount(0), Amount(1), 8), None);
        assert_eq!(Scale::new(Amount(1), Amount(1 << 64), 0), None);
    }

    #[test]
    fn a_unit_counts_what_a_division_does() {
        let units = [1, 2, 3, 7, 10, 48, 1_000, 1_000_000, 999_983, 1 << 40, 1 << 63, (1 << 63) + 1, u64::MAX];
        for unit in units {
            let ready = Unit::new(Amount(unit.into()));
            let near = |value: u64| (0..5).map(move |more| value.saturating_sub(2).saturating_add(more));
            let multiples = (0..70u32).map(|power| u64::MAX.checked_shr(power).unwrap_or(0) / unit * unit);
            for amount in units.into_iter().chain(multiples).flat_map(near) {
                let expected = amount.is_multiple_of(unit).then(|| amount / unit);
                assert_eq!(ready.count(Amount(amount.into())), expected, "{amount} of {unit}");
                assert_eq!(ready.count(Amount(u128::from(amount) + (1 << 64))), None);
            }
        }
        let wide = Unit::new(Amount(1 << 64));
        assert_eq!([1, 5, 1 << 63].map(|amount| wide.count(Amount(amount)).unwrap_or(0)), [0; 3]);
    }

    #[test]
    fn a_price_between_ticks_is_not_a_price() {
        let scale = Scale::new(Amount(1_000_000), Amount(1_000), 8).unwrap();
        assert_eq!(scale.ticks(Amount(1_500_000)), None);
        assert_eq!(scale.ticks(Amount(3_000_000)), Some(Price(3)));
        assert_eq!(scale.ticks(Amount(u128::MAX / 1_000_000 * 1_000_000)), None);
    }

    #[test]
    fn a_multiple_of_a_price_is_rounded_the_way_it_says() {
        assert_eq!(Multiplier(120_000_000).of(Price(101)), Price(121));
        assert_eq!(Multiplier(120_000_000).of_rounded_up(Price(101)), Price(122));
        assert_eq!(Multiplier(u64::MAX).of(Price(u64::MAX)), Price(u64::MAX));
    }
}
