//! Whether the candles that were made from trades hang together: trades are numbered without a hole, so each candle begins
//! with the trade after the last one's, counts as many as its ids say, and those of every length end with the same trade.

use engine::SymbolId;

use crate::candle::Grain;
use crate::format::{CANDLE_ROWS, candle_of_key, decode_candle};

/// Follows the rows in the order of their keys.
#[derive(Default)]
pub(crate) struct CandleChain {
    /// Whose candles the last row was one of, and its last trade.
    last: Option<(SymbolId, Grain, u64)>,
    /// The last trade in the seconds of the symbol at hand.
    newest: u64,
}

impl CandleChain {
    /// The next row; what is wrong with it.
    pub(crate) fn follow(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let is_candle = key.first() == Some(&CANDLE_ROWS);
        let of = candle_of_key(key).filter(|_| is_candle).map(|(symbol, grain, _)| (symbol, grain));
        let before = self.last.filter(|(symbol, grain, _)| Some((*symbol, *grain)) == of);
        let ended = if before.is_none() { self.end() } else { Ok(()) };
        let Some(((symbol, grain), candle)) = of.zip(decode_candle(key, value)) else {
            self.last = None;
            return ended;
        };
        self.last = Some((symbol, grain, candle.last_trade_id));
        ended?;
        let count = (candle.last_trade_id - candle.first_trade_id).saturating_add(1);
        if candle.first_trade_id == 0 || candle.trade_count != count {
            return Err(format!("it counts {} trades, its ids {count}", candle.trade_count));
        }
        match before {
            Some((_, _, last)) if candle.first_trade_id != last.saturating_add(1) => {
                Err(format!("it begins with trade {}, the one before it ends with {last}", candle.first_trade_id))
            }
            _ => Ok(()),
        }
    }

    /// The candles of one symbol and length are over.
    fn end(&mut self) -> Result<(), String> {
        match self.last.take() {
            Some((_, Grain::Second, last)) => {
                self.newest = last;
                Ok(())
            }
            Some((symbol, grain, last)) if last != self.newest => Err(format!(
                "the candles before it, of symbol {symbol} and length {grain:?}, end with trade {last}, its seconds with {}",
                self.newest
            )),
            _ => Ok(()),
        }
    }
}
