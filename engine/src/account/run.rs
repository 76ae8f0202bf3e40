//! A taker meets one maker after the other. What each maker pays and gets moves at once; what the taker pays and gets, and the
//! fees, only add up and move when the run of trades ends, since nothing asks for them before.

use crate::account::{Accounts, BalanceIndex};
use crate::units::{Amount, AssetId};

/// One thing for each of a symbol's two assets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair<T> {
    /// Of the base asset.
    pub base: T,
    /// Of the quote asset.
    pub quote: T,
}

/// A run of trades of one taker under way.
#[derive(Debug)]
pub struct Run {
    assets: Pair<AssetId>,
    taker: Pair<BalanceIndex>,
    /// Where the fees go.
    collector: Pair<BalanceIndex>,
    taker_buys: bool,
    /// Whether there was a trade since what sums up was last moved.
    is_open: bool,
    /// The fees that have not moved yet.
    fees: Pair<Amount>,
    /// What the makers paid and got meanwhile: what the taker's side of it must agree with.
    makers: Pair<Amount>,
}

impl Run {
    /// Before its first trade.
    pub fn new(accounts: &Accounts, assets: Pair<AssetId>, taker: Pair<BalanceIndex>, taker_buys: bool) -> Run {
        let collector = Pair { base: accounts.fees_of(assets.base), quote: accounts.fees_of(assets.quote) };
        Run { assets, taker, collector, taker_buys, is_open: false, fees: Pair::default(), makers: Pair::default() }
    }

    /// One trade: what goes from the seller to the buyer and from the buyer to the seller, and how much of each is a fee.
    /// Balances count as moved in the order in which a settlement leg by leg moves them, the quote first.
    #[inline(always)]
    pub fn trade(
        &mut self,
        accounts: &mut Accounts,
        maker: Pair<BalanceIndex>,
        amounts: Pair<Amount>,
        fees: Pair<Amount>,
    ) {
        let is_first = !std::mem::replace(&mut self.is_open, true);
        if self.taker_buys {
            if is_first {
                accounts.moved(self.taker.quote);
            }
            let arrived = amounts.quote.minus(fees.quote);
            accounts.receive(maker.quote, self.assets.quote, arrived);
            self.makers.quote = self.makers.quote.plus(arrived);
        } else {
            accounts.pay(maker.quote, self.assets.quote, amounts.quote);
            self.makers.quote = self.makers.quote.plus(amounts.quote);
            if is_first {
                accounts.moved(self.taker.quote);
            }
        }
        if !fees.quote.is_zero() {
            if self.fees.quote.is_zero() {
                accounts.moved(self.collector.quote);
            }
            self.fees.quote = self.fees.quote.plus(fees.quote);
        }
        if self.taker_buys {
            accounts.pay(maker.base, self.assets.base, amounts.base);
            self.makers.base = self.makers.base.plus(amounts.base);
            if is_first {
                accounts.moved(self.taker.base);
            }
        } else {
            if is_first {
                accounts.moved(self.taker.base);
            }
            let arrived = amounts.base.minus(fees.base);
            accounts.receive(maker.base, self.assets.base, arrived);
            self.makers.base = self.makers.base.plus(arrived);
        }
        if !fees.base.is_zero() {
            if self.fees.base.is_zero() {
                accounts.moved(self.collector.base);
            }
            self.fees.base = self.fees.base.plus(fees.base);
        }
    }

    /// The taker pays and gets all that the trades came to since this was last done, and the fees go where they belong. A taker
    /// that buys had `better` more locked for them than it pays.
    pub fn finish(&mut self, accounts: &mut Accounts, amounts: Pair<Amount>, better: Amount) {
        let (fees, makers) = (std::mem::take(&mut self.fees), std::mem::take(&mut self.makers));
        self.is_open = false;
        // Each asset is conserved: what one side paid is what the other got and the fee. The makers' side is the sum of what
        // moved, the taker's side was worked out from how much was traded in all.
        if self.taker_buys {
            assert_eq!(makers.quote.plus(fees.quote), amounts.quote, "the quote asset is not conserved");
            assert_eq!(makers.base, amounts.base, "the base asset is not conserved");
            accounts.pay(self.taker.quote, self.assets.quote, amounts.quote);
            accounts.release(self.taker.quote, better);
            accounts.receive(self.taker.base, self.assets.base, amounts.base.minus(fees.base));
        } else {
            assert_eq!(makers.quote, amounts.quote, "the quote asset is not conserved");
            assert_eq!(makers.base.plus(fees.base), amounts.base, "the base asset is not conserved");
            accounts.pay(self.taker.base, self.assets.base, amounts.base);
            accounts.receive(self.taker.quote, self.assets.quote, amounts.quote.minus(fees.quote));
        }
        if !fees.quote.is_zero() {
            accounts.receive(self.collector.quote, self.assets.quote, fees.quote);
        }
        if !fees.base.is_zero() {
            accounts.receive(self.collector.base, self.assets.base, fees.base);
        }
    }
}

impl Accounts {
    /// Half of what moves: out of what is locked.
    #[inline(always)]
    fn pay(&mut self, from: BalanceIndex, asset: AssetId, amount: Amount) {
        let payer = self.moved(from);
        assert!(payer.asset == asset, "a settlement is in one asset");
        payer.balance.locked = payer.balance.locked.minus(amount);
    }

    /// The other half.
    #[inline(always)]
    fn receive(&mut self, to: BalanceIndex, asset: AssetId, amount: Amount) {
        let receiver = self.moved(to);
        assert!(receiver.asset == asset, "a settlement is in one asset");
        receiver.balance.free = receiver.balance.free.plus(amount);
    }
}
