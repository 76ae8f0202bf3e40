//! One symbol's newest candles, in memory: as many of each length as streams, tickers and most questions need.

use std::collections::VecDeque;

use engine::symbol::Symbol;
use engine::{Amount, Time};
use journal::{Candle, CandleReader, Grain, HistoryError, MarketTrade};

use super::compose::Source;

/// How many candles of each length a symbol keeps: of seconds a day's and the hour that tickers reach beyond it, of minutes two
/// weeks', of hours a year's, of days ten years'. Those without trades are not kept, so mostly they reach further.
const KEPT: [usize; Grain::ALL.len()] = [90_000, 20_160, 9_000, 4_000];

/// What is asked for is older than what is kept here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Older;

/// The newest candles of one length.
#[derive(Default)]
struct Series {
    candles: VecDeque<Candle>,
    /// The one before the first, where there is one.
    older: Option<Candle>,
    /// When the first of all began.
    begin: Option<Time>,
}

/// One symbol's.
pub(super) struct SymbolCandles {
    lot: Amount,
    /// How many of each length.
    kept: [usize; Grain::ALL.len()],
    series: [Series; Grain::ALL.len()],
}

impl SymbolCandles {
    /// None yet.
    pub(super) fn new(symbol: &Symbol) -> SymbolCandles {
        SymbolCandles { lot: symbol.scale.step_size(), kept: KEPT, series: Default::default() }
    }

    /// The same, to keep so many of each length.
    #[cfg(test)]
    pub(super) fn keeping(symbol: &Symbol, kept: [usize; Grain::ALL.len()]) -> SymbolCandles {
        SymbolCandles { kept, ..SymbolCandles::new(symbol) }
    }

    /// Adds a trade, which is the newest.
    pub(super) fn add(&mut self, trade: &MarketTrade) {
        for grain in Grain::ALL {
            let candle = Candle::of_trade(grain, trade, self.lot);
            let series = &mut self.series[grain as usize];
            match series.candles.back_mut() {
                // What is read piece by piece from another node can be ahead of here.
                Some(last) if trade.trade.trade_id.0 <= last.last_trade_id => {}
                Some(last) if trade.time < last.end_time => last.extend(&candle),
                _ => series.push(candle, self.kept[grain as usize]),
            }
        }
    }

    /// Takes the newest that history has, in the place of what is here.
    pub(super) fn recall(&mut self, history: &CandleReader<'_>) -> Result<(), HistoryError> {
        for grain in Grain::ALL {
            let mut series = Series { begin: history.first(grain)?.map(|first| first.open_time), ..Series::default() };
            for candle in history.latest(grain, Time(u64::MAX)).take(self.kept[grain as usize] + 1) {
                series.candles.push_front(candle?);
            }
            if series.candles.len() > self.kept[grain as usize] {
                series.older = series.candles.pop_front();
            }
            self.series[grain as usize] = series;
        }
        Ok(())
    }
}

impl Series {
    fn push(&mut self, candle: Candle, most: usize) {
        self.begin.get_or_insert(candle.open_time);
        self.candles.push_back(candle);
        if self.candles.len() > most {
            self.older = self.candles.pop_front();
        }
    }
}

impl Source for SymbolCandles {
    type Error = Older;

    fn between(&self, grain: Grain, from: Time, to: Time, visit: &mut dyn FnMut(&Candle)) -> Result<(), Older> {
        let series = &self.series[grain as usize];
        if series.older.is_some_and(|older| from < older.end_time) {
            return Err(Older);
        }
        let first = series.candles.partition_point(|candle| candle.open_time < from);
        series.candles.range(first..).take_while(|candle| candle.open_time < to).for_each(visit);
        Ok(())
    }

    fn before(&self, grain: Grain, time: Time) -> Result<Option<Candle>, Older> {
        let series = &self.series[grain as usize];
        let found = series.candles.partition_point(|candle| candle.open_time < time).checked_sub(1);
        match (found, series.older) {
            (Some(found), _) => Ok(Some(series.candles[found])),
            (None, Some(older)) if older.open_time >= time => Err(Older),
            (None, older) => Ok(older),
        }
    }

    fn begin(&self, grain: Grain) -> Result<Option<Time>, Older> {
        Ok(self.series[grain as usize].begin)
    }
}

/// History gives every candle it has.
impl Source for CandleReader<'_> {
    type Error = HistoryError;

    fn between(&self, grain: Grain, from: Time, to: Time, visit: &mut dyn FnMut(&Candle)) -> Result<(), HistoryError> {
        for candle in CandleReader::between(self, grain, from, to) {
            visit(&candle?);
        }
        Ok(())
    }

    fn before(&self, grain: Grain, time: Time) -> Result<Option<Candle>, HistoryError> {
        CandleReader::before(self, grain, time)
    }

    fn begin(&self, grain: Grain) -> Result<Option<Time>, HistoryError> {
        Ok(self.first(grain)?.map(|first| first.open_time))
    }
}
