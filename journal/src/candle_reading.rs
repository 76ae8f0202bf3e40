//! How candles are read from history: those made from trades and those that were imported, as one series.

use std::iter::Peekable;

use engine::{SymbolId, Time, TradeId};
use rocksdb::{DB, Direction};

use crate::candle::{Candle, Grain};
use crate::format::{
    CANDLE_ROWS, IMPORTED_ROWS, candle_key, candle_rows, decode_candle, decode_trade, trade_key, trade_rows,
};
use crate::history::{History, HistoryError, Opened, damaged};
use crate::history_source::{AtOneMoment, RowSource};
use crate::recent_rows::{RawRows, RecentRows};
use crate::record::MarketTrade;

/// Of a series that other nodes have, so many rows are asked for at once.
const ROWS_AT_ONCE: usize = 4_096;

/// One symbol's candles and trades at one moment: what is written meanwhile does not show. Those of other nodes are read piece by
/// piece, so of them the newest may be of different moments.
pub struct CandleReader<'a> {
    rows: Box<dyn RowSource + 'a>,
    symbol: SymbolId,
}

impl History {
    /// Lets `read` see one symbol's candles at one moment.
    pub fn candles<T>(
        &self,
        symbol: SymbolId,
        read: impl FnOnce(&CandleReader<'_>) -> Result<T, HistoryError>,
    ) -> Result<T, HistoryError> {
        match self.open(u64::from(symbol.0))? {
            Opened::Here(own) => read(&CandleReader::new(&own.database, &own.recent, symbol)),
            Opened::There(rows) => read(&CandleReader { rows: Box::new(rows), symbol }),
        }
    }
}

type Rows<'a> = Box<dyn Iterator<Item = Result<Candle, HistoryError>> + 'a>;

impl<'a> CandleReader<'a> {
    pub(crate) fn new(database: &'a DB, recent: &RecentRows, symbol: SymbolId) -> CandleReader<'a> {
        CandleReader { rows: Box::new(AtOneMoment::of(database, recent)), symbol }
    }

    /// The candles that begin from `from` on and before `to`, in order.
    pub fn between(
        &self,
        grain: Grain,
        from: Time,
        to: Time,
    ) -> impl Iterator<Item = Result<Candle, HistoryError>> + '_ {
        let inside = move |row: &Result<Candle, HistoryError>| row.as_ref().map_or(true, |row| row.open_time < to);
        let of = |kind| self.rows(kind, grain, from, Direction::Forward);
        merge(of(IMPORTED_ROWS), of(CANDLE_ROWS), Direction::Forward).take_while(inside)
    }

    /// The last candle that begins before `time`.
    pub fn before(&self, grain: Grain, time: Time) -> Result<Option<Candle>, HistoryError> {
        let Some(latest) = time.0.checked_sub(1) else { return Ok(None) };
        self.latest(grain, Time(latest)).next().transpose()
    }

    /// The candles that begin up to `time`, the last one first.
    pub fn latest(&self, grain: Grain, time: Time) -> impl Iterator<Item = Result<Candle, HistoryError>> + '_ {
        let of = |kind| self.rows(kind, grain, time, Direction::Reverse);
        merge(of(IMPORTED_ROWS), of(CANDLE_ROWS), Direction::Reverse)
    }

    /// The first candle.
    pub fn first(&self, grain: Grain) -> Result<Option<Candle>, HistoryError> {
        self.between(grain, Time(0), Time(u64::MAX)).next().transpose()
    }

    /// The first day that was made from trades.
    pub(crate) fn first_traded(&self) -> Result<Option<Candle>, HistoryError> {
        self.rows(CANDLE_ROWS, Grain::Day, Time(0), Direction::Forward).next().transpose()
    }

    /// The trades from `first` on, in order.
    pub fn trades(&self, first: TradeId) -> impl Iterator<Item = Result<MarketTrade, HistoryError>> + '_ {
        self.trade_rows(trade_key(self.symbol, first).to_vec(), Direction::Forward)
    }

    /// The trades, the last one first.
    pub fn latest_trades(&self) -> impl Iterator<Item = Result<MarketTrade, HistoryError>> + '_ {
        self.trade_rows([trade_rows(self.symbol).as_slice(), &[u8::MAX; 8]].concat(), Direction::Reverse)
    }

    fn trade_rows(
        &self,
        from: Vec<u8>,
        direction: Direction,
    ) -> impl Iterator<Item = Result<MarketTrade, HistoryError>> + '_ {
        let rows = self.raw(trade_rows(self.symbol), from, direction);
        rows.map(|row| row.and_then(|(key, value)| decode_trade(&value).ok_or_else(|| damaged(&key))))
    }

    fn rows(&self, kind: u8, grain: Grain, from: Time, direction: Direction) -> Rows<'_> {
        let rows =
            self.raw(candle_rows(kind, self.symbol, grain), candle_key(kind, self.symbol, grain, from), direction);
        Box::new(rows.map(|row| row.and_then(|(key, value)| decode_candle(&key, &value).ok_or_else(|| damaged(&key)))))
    }

    fn raw(&self, prefix: Vec<u8>, from: Vec<u8>, direction: Direction) -> RawRows<'_> {
        self.rows.scan(prefix, from, direction, ROWS_AT_ONCE)
    }
}

/// Two series as one, in their direction. Where both have a candle of one time, what was imported came first.
fn merge<'a>(imported: Rows<'a>, traded: Rows<'a>, direction: Direction) -> Rows<'a> {
    Box::new(Merge { imported: imported.peekable(), traded: traded.peekable(), direction })
}

struct Merge<'a> {
    imported: Peekable<Rows<'a>>,
    traded: Peekable<Rows<'a>>,
    direction: Direction,
}

impl Iterator for Merge<'_> {
    type Item = Result<Candle, HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (imported, traded) = match (self.imported.peek(), self.traded.peek()) {
            (Some(Ok(imported)), Some(Ok(traded))) => (imported.open_time, traded.open_time),
            (Some(_), None) | (Some(Err(_)), _) => return self.imported.next(),
            (None, _) | (_, Some(Err(_))) => return self.traded.next(),
        };
        if imported == traded {
            let mut both = self.imported.next()?;
            if let (Ok(both), Some(Ok(later))) = (&mut both, self.traded.next()) {
                both.extend(&later);
            }
            return Some(both);
        }
        let imported_first = (imported < traded) == matches!(self.direction, Direction::Forward);
        if imported_first { self.imported.next() } else { self.traded.next() }
    }
}
