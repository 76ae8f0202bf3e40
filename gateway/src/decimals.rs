//! Integers as the decimal text of the API: exact, with as many decimals as the asset has.

use engine::symbol::Symbol;
use engine::{Amount, Price, Quantity};

use crate::views::Catalog;

/// Writes `amount`, which counts units of 10^-`scale`.
pub fn push_amount(out: &mut String, amount: Amount, scale: u8) {
    // 39 digits of a u128, a point, and at most 18 decimals of a number below one.
    let mut digits = [b'0'; 64];
    let mut at = digits.len();
    let mut rest = amount.0;
    let mut count = 0;
    while rest > 0 || count <= scale {
        if count == scale && scale > 0 {
            at -= 1;
            digits[at] = b'.';
        }
        // Most numbers fit 64 bits, where a division costs a fraction.
        let digit = match u64::try_from(rest) {
            Ok(small) => {
                rest = u128::from(small / 10);
                small % 10
            }
            Err(_) => {
                let digit = rest % 10;
                rest /= 10;
                digit as u64
            }
        };
        at -= 1;
        digits[at] = b'0' + digit as u8;
        count += 1;
    }
    out.push_str(std::str::from_utf8(&digits[at..]).expect("digits and a point"));
}

/// Writes a whole number.
pub fn push_integer(out: &mut String, number: u64) {
    push_amount(out, Amount(u128::from(number)), 0);
}

/// How the numbers of one symbol are written: prices with the quote asset's decimals, quantities with the base asset's.
#[derive(Clone, Copy, Debug)]
pub struct Decimals {
    tick: u128,
    lot: u128,
    /// Decimals of the base asset.
    pub base: u8,
    /// Decimals of the quote asset.
    pub quote: u8,
}

impl Decimals {
    /// Of a symbol in its catalog.
    pub fn new(symbol: &Symbol, catalog: &Catalog) -> Decimals {
        let scale = |asset: engine::AssetId| catalog.assets.get(asset.0 as usize).map_or(0, |asset| asset.scale);
        Decimals {
            tick: symbol.scale.tick_size().0,
            lot: symbol.scale.step_size().0,
            base: scale(symbol.config.base),
            quote: scale(symbol.config.quote),
        }
    }

    /// Writes a price.
    pub fn push_price(&self, out: &mut String, price: Price) {
        push_amount(out, Amount(u128::from(price.0).saturating_mul(self.tick)), self.quote);
    }

    /// Writes a quantity.
    pub fn push_quantity(&self, out: &mut String, quantity: Quantity) {
        push_amount(out, Amount(u128::from(quantity.0).saturating_mul(self.lot)), self.base);
    }

    /// Writes an amount of base.
    pub fn push_base(&self, out: &mut String, amount: Amount) {
        push_amount(out, amount, self.base);
    }

    /// Writes an amount of quote.
    pub fn push_quote(&self, out: &mut String, amount: Amount) {
        push_amount(out, amount, self.quote);
    }

    /// Writes a difference of two prices, given in ticks.
    pub fn push_price_change(&self, out: &mut String, ticks: i128) {
        if ticks < 0 {
            out.push('-');
        }
        push_amount(out, Amount(ticks.unsigned_abs().saturating_mul(self.tick)), self.quote);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_has_all_its_decimals_and_no_more() {
        let text = |amount: u128, scale: u8| {
            let mut out = String::new();
            push_amount(&mut out, Amount(amount), scale);
            out
        };
        assert_eq!(text(0, 8), "0.00000000");
        assert_eq!(text(0, 0), "0");
        assert_eq!(text(1, 8), "0.00000001");
        assert_eq!(text(6_000_000_000_000, 8), "60000.00000000");
        assert_eq!(text(123, 0), "123");
        assert_eq!(text(1_234, 1), "123.4");
        assert_eq!(text(u128::MAX, 18), "340282366920938463463.374607431768211455");
        assert_eq!(text(5, 18), "0.000000000000000005");
    }
}
