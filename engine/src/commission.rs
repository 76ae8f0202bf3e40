//! Commission: what each side of a trade pays out of what it receives (faqs/commission_faq.md).
//!
//! A worked example, the venue's own: a taker sells 0.49975 BTC at 35,000 and receives 17,491.25 USDT. The standard rates
//! are 0.0000002 (taker) and 0.0000004 (seller): 17,491.25 × 0.0000006 = 0.01049475. The tax rates are 0.00000114 and
//! 0.00000116: 17,491.25 × 0.0000023 = 0.040229875, charged 0.04022988. Each of the three parts (standard, special, tax) is
//! rounded by itself to the asset's smallest unit, half up unless the symbol says otherwise; then they are summed. The sum is
//! never more than what was received, so nobody is charged for receiving, and what is charged is all that the fee account
//! gets: a trade neither makes nor loses a unit.

use serde::{Deserialize, Serialize};

use crate::order::Side;
use crate::units::{Amount, AssetId, Quantity};

/// How a commission that is not a whole number of smallest units is rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeeRounding {
    /// To the nearer unit, half a unit up: what the venue documents.
    #[default]
    HalfUp,
    /// In favour of the one who pays.
    Down,
    /// In favour of the exchange.
    Up,
}

impl FeeRounding {
    /// What is added to billionths before they are cut off: less than a whole one.
    #[inline]
    fn bias(self) -> u64 {
        match self {
            FeeRounding::HalfUp => FeeRate::ONE / 2,
            FeeRounding::Down => 0,
            FeeRounding::Up => FeeRate::ONE - 1,
        }
    }
}

/// What part of an amount is paid, in billionths: 0.001 (ten basis points) is 1,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct FeeRate(u32);

impl TryFrom<u32> for FeeRate {
    type Error = &'static str;
    fn try_from(billionths: u32) -> Result<FeeRate, &'static str> {
        FeeRate::from_billionths(billionths).ok_or("a rate above one")
    }
}

impl From<FeeRate> for u32 {
    fn from(rate: FeeRate) -> u32 {
        rate.0
    }
}

impl FeeRate {
    const ONE: u64 = 1_000_000_000;
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

    /// The two rates together, at most everything.
    pub fn plus(self, other: FeeRate) -> FeeRate {
        FeeRate(self.0.saturating_add(other.0).min(Self::MAX))
    }

    /// The part of `received`, rounded to its smallest unit. Never more than `received`, and nothing at a rate of zero.
    #[inline]
    pub fn of(self, received: Amount, rounding: FeeRounding) -> Amount {
        let (rate, bias) = (u64::from(self.0), rounding.bias());
        // Most amounts are small enough for one multiplication in 64 bits, which is many times faster than in 128.
        let small = u64::try_from(received.0).ok().and_then(|received| received.checked_mul(rate));
        if let Some(product) = small.and_then(|product| product.checked_add(bias)) {
            return Amount(u128::from(product / Self::ONE));
        }
        self.of_much(received, bias)
    }

    /// The same in 128 bits; `bias` is what rounds.
    fn of_much(self, received: Amount, bias: u64) -> Amount {
        let rate = u64::from(self.0);
        let (whole, rest) = (received.0 / u128::from(Self::ONE), received.0 % u128::from(Self::ONE));
        // whole * rate <= received, and rest * rate < 10^18: neither can overflow.
        Amount(whole * u128::from(rate) + (rest * u128::from(rate) + u128::from(bias)) / u128::from(Self::ONE))
    }
}

/// One kind of commission: a trade pays by its role and by its side, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommissionRates {
    /// For the one who was there first.
    pub maker: FeeRate,
    /// For the one who came second.
    pub taker: FeeRate,
    /// For the one who receives base.
    pub buyer: FeeRate,
    /// For the one who receives quote.
    pub seller: FeeRate,
}

impl CommissionRates {
    /// What a side pays in a role.
    pub fn rate(&self, is_maker: bool, side: Side) -> FeeRate {
        let role = if is_maker { self.maker } else { self.taker };
        role.plus(match side {
            Side::Buy => self.buyer,
            Side::Sell => self.seller,
        })
    }
}

/// A fee of so much quote for each lot, in place of a part of what is received. The buyer pays it on top, and holds it in
/// advance at the taker's rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LotFee {
    /// Smallest quote units for each lot, for a maker.
    pub maker: Amount,
    /// The same for a taker; at least the maker's, and of at most 64 bits.
    pub taker: Amount,
}

impl LotFee {
    /// The most that a trade of so much can cost; `None` when it does not fit.
    pub fn most(&self, quantity: Quantity) -> Option<Amount> {
        self.taker.0.checked_mul(u128::from(quantity.0)).map(Amount)
    }
}

/// All that a symbol charges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commission {
    /// What every trade pays; an account's tier may put its own in its place.
    pub standard: CommissionRates,
    /// What is added in special circumstances.
    pub special: CommissionRates,
    /// What is collected for the state.
    pub tax: CommissionRates,
    /// How each part is rounded.
    pub rounding: FeeRounding,
    /// Another asset to pay in, and how much cheaper the standard part is then.
    pub discount: Option<Discount>,
    /// A fee by lot in place of all the above.
    pub by_lot: Option<LotFee>,
}

/// Commission paid in another asset. The standard part is reduced; special and tax are converted whole. It is converted at
/// the last price of the symbol whose base is the discount asset and whose quote is what the commission is owed in, or the
/// other way round. Where there is no such price, or not enough of the asset is free, the whole is charged as usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discount {
    /// In which asset.
    pub asset: AssetId,
    /// What part of the standard commission is paid then, in billionths: the venue's 0.25 pays a quarter.
    pub rate: FeeRate,
}

/// The three parts of one commission, each rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// By the account's tier or the symbol.
    pub standard: Amount,
    /// Special and tax.
    pub others: Amount,
}

impl Commission {
    /// Whether a trade pays nothing but the standard part out of what it brings, whoever trades.
    #[inline]
    pub fn is_plain(&self) -> bool {
        let none = CommissionRates::default();
        self.by_lot.is_none() && self.discount.is_none() && self.special == none && self.tax == none
    }

    /// What one side of a trade owes of what it `received`; `tier` replaces the standard rates.
    #[inline]
    pub fn parts(&self, tier: Option<&CommissionRates>, is_maker: bool, side: Side, received: Amount) -> Parts {
        let standard = tier.unwrap_or(&self.standard).rate(is_maker, side).of(received, self.rounding);
        let none = CommissionRates::default();
        if self.special == none && self.tax == none {
            return Parts { standard, others: Amount::ZERO };
        }
        self.parts_with_others(standard, is_maker, side, received)
    }

    fn parts_with_others(&self, standard: Amount, is_maker: bool, side: Side, received: Amount) -> Parts {
        let part = |rates: &CommissionRates| rates.rate(is_maker, side).of(received, self.rounding);
        // The three rates together may ask for more than there is: each has what those before it left.
        let left = received.minus(standard);
        let special = part(&self.special).min(left);
        let others = special.plus(part(&self.tax).min(left.minus(special)));
        Parts { standard, others }
    }
}

/// What the conversion into a discount asset goes by: all tiers, and the last price of every symbol.
#[derive(Clone, Debug, Default)]
pub struct Desk {
    /// What tier n pays is at n - 1.
    pub tiers: Vec<Option<CommissionRates>>,
    /// By symbol.
    pub quotes: Vec<Quote>,
}

/// The last price of a symbol, for the conversion of a commission.
#[derive(Clone, Copy, Debug)]
pub struct Quote {
    /// What is traded.
    pub base: AssetId,
    /// What it is paid in.
    pub quote: AssetId,
    /// Smallest base units in a whole base.
    pub whole_base: Amount,
    /// Smallest quote units per whole base; none before the first trade.
    pub last_price: Option<Amount>,
}

impl Desk {
    /// What a tier pays instead of the symbol's standard rates; a tier that nobody set pays the standard.
    pub fn tier(&self, tier: u16) -> Option<&CommissionRates> {
        usize::from(tier).checked_sub(1).and_then(|at| self.tiers.get(at)?.as_ref())
    }

    /// So much of an asset in another, rounded half up, at the last price of the first symbol that trades the two.
    pub fn convert(&self, amount: Amount, from: AssetId, to: AssetId) -> Option<Amount> {
        if from == to {
            return Some(amount);
        }
        let pair = |quote: &&Quote| (quote.base, quote.quote) == (to, from) || (quote.base, quote.quote) == (from, to);
        let quote = self.quotes.iter().find(pair)?;
        let price = quote.last_price?;
        let (times, per) = if quote.base == to { (quote.whole_base, price) } else { (price, quote.whole_base) };
        let product = amount.0.checked_mul(times.0)?;
        Some(Amount(product.checked_add(per.0 / 2)? / per.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(maker: u32, taker: u32, buyer: u32, seller: u32) -> CommissionRates {
        CommissionRates { maker: FeeRate(maker), taker: FeeRate(taker), buyer: FeeRate(buyer), seller: FeeRate(seller) }
    }

    #[test]
    fn each_part_is_rounded_half_up_as_the_venue_documents_it() {
        let commission = Commission {
            standard: rates(100, 200, 300, 400),
            special: rates(10_000_000, 20_000_000, 30_000_000, 40_000_000),
            tax: rates(1_120, 1_140, 1_180, 1_160),
            ..Commission::default()
        };
        let received = Amount(1_749_125_000_000);
        let parts = commission.parts(None, false, Side::Sell, received);
        assert_eq!(parts.standard, Amount(1_049_475));
        assert_eq!(parts.others, Amount(104_947_500_000 + 4_022_988));
    }

    #[test]
    fn a_commission_is_never_more_than_what_was_received() {
        let all = rates(FeeRate::MAX, FeeRate::MAX, FeeRate::MAX, FeeRate::MAX);
        let commission = Commission { standard: all, special: all, tax: all, ..Commission::default() };
        for received in [0, 1, 7, u128::from(u64::MAX), u128::MAX] {
            let parts = commission.parts(None, true, Side::Buy, Amount(received));
            assert_eq!(parts, Parts { standard: Amount(received), others: Amount::ZERO });
        }
    }

    #[test]
    fn rounding_goes_the_way_the_symbol_says() {
        let rate = FeeRate(1_000_000);
        for (received, down, half_up, up) in [(1_499, 1, 1, 2), (1_500, 1, 2, 2), (2_000, 2, 2, 2), (0, 0, 0, 0)] {
            for wide in [0, u128::from(u64::MAX) / 1_000 * 1_000] {
                let of = |rounding| rate.of(Amount(wide + received), rounding).0 - wide / 1_000;
                let all = [FeeRounding::Down, FeeRounding::HalfUp, FeeRounding::Up].map(of);
                assert_eq!(all, [down, half_up, up], "of {received} and {wide}");
            }
        }
    }
}
