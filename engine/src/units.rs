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
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` when it does not fit.
    pub fn checked_add(self, other: Quantity) -> Option<Quantity> {
        self.0.checked_add(other.0).map(Quantity)
    }

    /// The difference; the caller has established `other <= self`.
    pub fn minus(self, other: Quantity) -> Quantity {
        Quantity(self.0.checked_sub(other.0).expect("quantity below zero"))
    }
}

impl Amount {
    /// Nothing.
    pub const ZERO: Amount = Amount(0);

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` when it does not fit.
    pub fn checked_add(self, other: Amount) -> Option<Amount> {
        self.0.checked_add(other.0).map(Amount)
    }

    /// The difference, or `None` below zero.
    pub fn checked_sub(self, other: Amount) -> Option<Amount> {
        self.0.checked_sub(other.0).map(Amount)
    }

    /// The sum; the caller has established that it fits (every amount is part of an asset's supply, and that fits).
    pub fn plus(self, other: Amount) -> Amount {
        Amount(self.0.checked_add(other.0).expect("amount over its range"))
    }

    /// The difference; the caller has established `other <= self`.
    pub fn minus(self, other: Amount) -> Amount {
        Amount(self.0.checked_sub(other.0).expect("amount below zero"))
    }
}

/// What part of the received amount is paid as a fee, in billionths: 0.001 (ten basis points) is 1,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeeRate(u32);

impl FeeRate {
    const ONE: u128 = 1_000_000_000;
    /// The highest rate that can be set: everything received.
    pub const MAX: u32 = Self::ONE as u32;

    /// A rate of `billionths`, or `None` above [`FeeRate::MAX`].
    pub fn from_billionths(billionths: u32) -> Option<FeeRate> {
        (billionths <= Self::MAX).then_some(FeeRate(billionths))
    }

    /// The rate in billionths.
    pub fn billionths(self) -> u32 {
        self.0
    }

    /// The fee on `received`, rounded half up to the asset's smallest unit, as the venue documents it
    /// (faqs/commission_faq.md: 17,491.25 USDT at 0.0000023 is 0.040229875, charged 0.04022988). It is never more
    /// than `received`, so the one who receives is never charged for receiving.
    pub fn of(self, received: Amount) -> Amount {
        let rate = u128::from(self.0);
        let (whole, rest) = (received.0 / Self::ONE, received.0 % Self::ONE);
        // whole * rate <= received, and rest * rate < 10^18: neither can overflow.
        Amount(whole * rate + (rest * rate + Self::ONE / 2) / Self::ONE)
    }
}

/// How many smallest units a tick and a lot of one symbol are worth. Only made by [`Scale::new`], which makes sure that
/// every price times quantity is a whole number of smallest quote units: nothing is ever rounded in a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    tick: u128,
    lot: u128,
    notional: u128,
}

impl Scale {
    /// From `tick` (smallest quote units per whole base, one tick) and `lot` (smallest base units, one lot), for a base
    /// asset of `base_scale` decimals. `None` when either is zero, or when tick × lot is not a whole number of quote units.
    pub fn new(tick: Amount, lot: Amount, base_scale: u8) -> Option<Scale> {
        let whole_base = 10u128.checked_pow(u32::from(base_scale))?;
        let product = tick.0.checked_mul(lot.0)?;
        (product > 0 && product.is_multiple_of(whole_base)).then(|| Scale {
            tick: tick.0,
            lot: lot.0,
            notional: product / whole_base,
        })
    }

    /// One tick, in smallest quote units per whole base.
    pub fn tick_size(self) -> Amount {
        Amount(self.tick)
    }

    /// One lot, in smallest base units.
    pub fn step_size(self) -> Amount {
        Amount(self.lot)
    }

    /// The price in ticks, or `None` when it is not a whole number of them or has more than fit.
    pub fn ticks(self, price: Amount) -> Option<Price> {
        price.0.is_multiple_of(self.tick).then_some(())?;
        u64::try_from(price.0 / self.tick).ok().map(Price)
    }

    /// The quantity in lots, or `None` when it is not a whole number of them or has more than fit.
    pub fn lots(self, quantity: Amount) -> Option<Quantity> {
        quantity.0.is_multiple_of(self.lot).then_some(())?;
        u64::try_from(quantity.0 / self.lot).ok().map(Quantity)
    }

    /// The price of one whole base in smallest quote units.
    pub fn price_amount(self, price: Price) -> Amount {
        // A Price is only made by `ticks` from an amount that fitted.
        Amount(u128::from(price.0).checked_mul(self.tick).expect("price over its range"))
    }

    /// The quantity in smallest base units, or `None` when it does not fit.
    pub fn base_amount(self, quantity: Quantity) -> Option<Amount> {
        u128::from(quantity.0).checked_mul(self.lot).map(Amount)
    }

    /// Price × quantity in smallest quote units, exact, or `None` when it does not fit.
    pub fn quote_amount(self, price: Price, quantity: Quantity) -> Option<Amount> {
        (u128::from(price.0) * u128::from(quantity.0)).checked_mul(self.notional).map(Amount)
    }

    /// The most whole lots that `quote` pays for at `price` (which is above zero).
    pub fn affordable(self, quote: Amount, price: Price) -> Quantity {
        let per_lot = u128::from(price.0).checked_mul(self.notional);
        let lots = per_lot.map_or(0, |per_lot| quote.0 / per_lot);
        Quantity(u64::try_from(lots).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fee_is_rounded_half_up_as_the_venue_documents_it() {
        let rate = FeeRate::from_billionths(2_300).unwrap();
        assert_eq!(rate.of(Amount(1_749_125_000_000)), Amount(4_022_988));
        assert_eq!(rate.of(Amount(0)), Amount(0));
        assert_eq!(FeeRate::from_billionths(FeeRate::MAX).unwrap().of(Amount(u128::MAX)), Amount(u128::MAX));
    }

    #[test]
    fn scale_refuses_a_tick_and_lot_whose_product_is_not_whole() {
        // 0.01 USDT × 0.00001 BTC = 10 units of 10^-8 USDT.
        let scale = Scale::new(Amount(1_000_000), Amount(1_000), 8).unwrap();
        assert_eq!(scale.quote_amount(Price(6_000_000), Quantity(3)), Some(Amount(180_000_000)));
        assert_eq!(Scale::new(Amount(1_000_000), Amount(1), 8), None);
        assert_eq!(Scale::new(Amount(0), Amount(1), 8), None);
    }

    #[test]
    fn a_price_between_ticks_is_not_a_price() {
        let scale = Scale::new(Amount(1_000_000), Amount(1_000), 8).unwrap();
        assert_eq!(scale.ticks(Amount(1_500_000)), None);
        assert_eq!(scale.ticks(Amount(3_000_000)), Some(Price(3)));
        assert_eq!(scale.ticks(Amount(u128::MAX / 1_000_000 * 1_000_000)), None);
    }
}
