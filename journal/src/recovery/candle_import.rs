//! Candles of the time before a symbol's first trade, brought in from outside.
//!
//! They stand in history under keys of their own, so nothing that is made from trades is ever mixed with them on the disk; who
//! reads sees one series. They are of this node alone and in no log: a node that joins gets them with history, other nodes
//! import the same file. History written again keeps them. Of each import a record says who did it, why, and from what.

use std::path::Path;

use engine::{Price, SymbolId, Time};
use rocksdb::{Direction, IteratorMode, WriteBatch, WriteOptions};
use serde::{Deserialize, Serialize};

use super::directory::Directory;
use super::fault::{Damage, RecoveryError};
use super::kept_rows;
use super::progress::Progress;
use super::replay::{At, Replay, unseen};
use crate::candle::{Candle, Grain};
use crate::candle_reading::CandleReader;
use crate::database::family;
use crate::format::{
    HISTORY, IMPORT_ROWS, IMPORTED_ROWS, candle_key, candle_rows, decode, decode_candle, encode, encode_candle,
    import_key,
};
use crate::recent_rows::RecentRows;

/// Rows are written in batches of so many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// The progress is told every so many candles.
const TELL_EVERY: u64 = 1 << 12;

/// What is to be imported, and who says so.
#[derive(Clone, Debug)]
pub struct CandleImport {
    /// The symbol's name.
    pub symbol: String,
    /// How long the candles are.
    pub grain: Grain,
    /// When it is asked.
    pub time: Time,
    /// By whom.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// Where they come from, such as the names of files.
    pub source: String,
}

/// The record of an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedCandles {
    /// Which symbol.
    pub symbol: SymbolId,
    /// How long the candles are: the place among [`Grain::ALL`].
    grain: u8,
    /// When the first begins.
    pub from: Time,
    /// When the last ends.
    pub to: Time,
    /// How many lines there were.
    pub candles: u64,
    /// How many of them had trades; the others say nothing.
    pub traded: u64,
    /// When it was imported.
    pub time: Time,
    /// By whom.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// From what.
    pub source: String,
    /// CRC-32C of all that was imported.
    pub checksum: u32,
    /// Whether it came to its end.
    pub is_complete: bool,
}

impl ImportedCandles {
    /// How long the candles are.
    pub fn grain(&self) -> Grain {
        Grain::ALL[usize::from(self.grain).min(Grain::ALL.len() - 1)]
    }
}

/// The record that a row holds; `None` for a row that is none.
pub(crate) fn decode_import(key: &[u8], value: &[u8]) -> Option<ImportedCandles> {
    let found: ImportedCandles = decode(value)?;
    (key.len() == 9 && usize::from(found.grain) < Grain::ALL.len() && found.from < found.to).then_some(found)
}

/// What was imported so far, in the order of the imports.
pub fn candle_imports(data: &Path) -> Result<Vec<ImportedCandles>, RecoveryError> {
    let directory = Directory::read(data)?;
    Ok(records(&directory)?.into_iter().map(|(_, record)| record).collect())
}

fn records(directory: &Directory) -> Result<Vec<(u64, ImportedCandles)>, RecoveryError> {
    let database = directory.database();
    let mut records = Vec::new();
    for row in database.iterator_cf(family(database, HISTORY), IteratorMode::From(&[IMPORT_ROWS], Direction::Forward)) {
        let (key, value) = row.map_err(|error| failed(directory, error))?;
        if key.first() != Some(&IMPORT_ROWS) {
            break;
        }
        let place = || super::history_rows::place(directory, &key);
        let damaged = || Damage::new(place(), "it is not what such a row holds", super::fault::RESTORE);
        let record = decode_import(&key, &value).ok_or_else(damaged)?;
        let number = key[1..].try_into().map(u64::from_be_bytes).map_err(|_| damaged())?;
        records.push((number, record));
    }
    Ok(records)
}

fn failed(directory: &Directory, error: impl std::fmt::Display) -> RecoveryError {
    RecoveryError::disk(&directory.path().join("db"), error)
}

/// What a symbol's numbers are counted in, for who reads candles from text.
#[derive(Clone, Copy, Debug)]
pub struct CandleScales {
    /// What a tick and a lot are worth.
    pub scale: engine::units::Scale,
    /// Decimals of the base asset.
    pub base: u8,
    /// Decimals of the quote asset.
    pub quote: u8,
}

/// Imports what `read` gives, which is asked twice: nothing is changed unless all of it is sound.
pub fn import_candles<I>(
    data: &Path,
    order: &CandleImport,
    mut read: impl FnMut(&CandleScales) -> Result<I, RecoveryError>,
    progress: &mut dyn Progress,
) -> Result<ImportedCandles, RecoveryError>
where
    I: Iterator<Item = Result<Candle, RecoveryError>>,
{
    if order.operator.trim().is_empty() || order.reason.trim().is_empty() {
        return refused("who imports, and why, must be said");
    }
    let directory = Directory::write(data)?;
    if kept_rows::are_there(data) {
        return refused("history was being written again when that was cut off; run rebuild-history first");
    }
    let (symbol, scales, traded) = find_symbol(&directory, &order.symbol, progress)?;
    let end = first_trade_time(&directory, symbol, traded)?.unwrap_or(order.time).min(order.time);
    progress.begin("checking candles", 0);
    let found = Scan::over(read(&scales)?, order.grain, end, progress, |_| Ok(()))?;
    let Some((from, to)) = found.range else { return refused("there are no candles in it") };
    let record = ImportedCandles {
        symbol,
        grain: order.grain as u8,
        from,
        to,
        candles: found.candles,
        traded: found.traded,
        time: order.time,
        operator: order.operator.clone(),
        reason: order.reason.clone(),
        source: order.source.clone(),
        checksum: found.checksum,
        is_complete: false,
    };
    let number = number_for(&record, &records(&directory)?)?;
    let mut writer = Writer { directory: &directory, batch: WriteBatch::default() };
    writer.put(import_key(number), encode(&[], &record))?;
    progress.begin("writing candles", found.candles);
    let written = Scan::over(read(&scales)?, order.grain, end, progress, |candle| {
        writer.put(candle_key(IMPORTED_ROWS, symbol, order.grain, candle.open_time), encode_candle(candle))
    })?;
    if written != found {
        return refused("what is imported changed while it was read; import it again");
    }
    writer.write()?;
    sum_up(&mut writer, &record)?;
    let record = ImportedCandles { is_complete: true, ..record };
    writer.put(import_key(number), encode(&[], &record))?;
    writer.write()?;
    let database = directory.database();
    database.flush_cf(family(database, HISTORY)).map_err(|error| failed(&directory, error))?;
    Ok(record)
}

fn refused<T>(what: impl Into<String>) -> Result<T, RecoveryError> {
    Err(RecoveryError::Refused(what.into()))
}

/// The symbol of that name, and whether it was ever traded.
fn find_symbol(
    directory: &Directory,
    name: &str,
    progress: &mut dyn Progress,
) -> Result<(SymbolId, CandleScales, bool), RecoveryError> {
    let mut replay = Replay::towards(directory, At::End, &mut Vec::new())?;
    replay.run(At::End, progress, unseen)?;
    let state = replay.snapshot();
    let decimals: Vec<u8> = state.assets().map(|asset| asset.asset.scale).collect();
    let found = state.symbols().find(|market| market.symbol().config.name == name);
    let Some(market) = found else { return Err(RecoveryError::NotThere(format!("no symbol is named {name}"))) };
    let symbol = market.symbol();
    let of = |asset: engine::AssetId| decimals.get(asset.0 as usize).copied().unwrap_or(0);
    let scales = CandleScales { scale: symbol.scale, base: of(symbol.config.base), quote: of(symbol.config.quote) };
    Ok((symbol.id, scales, market.counters().trade > 0))
}

/// When the symbol was first traded, or a little before; `None` when it never was.
fn first_trade_time(directory: &Directory, symbol: SymbolId, traded: bool) -> Result<Option<Time>, RecoveryError> {
    if !traded {
        return Ok(None);
    }
    let error = |error: crate::history::HistoryError| failed(directory, error);
    let reader = CandleReader::new(directory.database(), &RecentRows::default(), symbol);
    let trade = reader.trades(engine::TradeId(0)).next().transpose().map_err(error)?;
    if let Some(first) = trade.filter(|first| first.trade.trade_id.0 == 1) {
        return Ok(Some(first.time));
    }
    match reader.first_traded().map_err(error)? {
        Some(day) => Ok(Some(day.open_time)),
        None => refused("history does not know when the symbol was first traded; run rebuild-history first"),
    }
}

/// What was seen of what is to be imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Scan {
    candles: u64,
    traded: u64,
    range: Option<(Time, Time)>,
    checksum: u32,
}

impl Scan {
    /// Looks at all of it; those with trades are shown to `take`.
    fn over(
        candles: impl Iterator<Item = Result<Candle, RecoveryError>>,
        grain: Grain,
        end: Time,
        progress: &mut dyn Progress,
        mut take: impl FnMut(&Candle) -> Result<(), RecoveryError>,
    ) -> Result<Scan, RecoveryError> {
        let mut scan = Scan::default();
        for candle in candles {
            let candle = candle?;
            scan.candles += 1;
            if let Err(what) = scan.check(&candle, grain, end) {
                return refused(format!("candle {} of what is imported: {what}", scan.candles));
            }
            scan.range = Some((scan.range.map_or(candle.open_time, |(from, _)| from), candle.end_time));
            let row = encode_candle(&candle);
            scan.checksum = crc32c::crc32c_append(scan.checksum, &candle.open_time.0.to_be_bytes());
            scan.checksum = crc32c::crc32c_append(scan.checksum, &row);
            if !candle.is_empty() {
                scan.traded += 1;
                take(&candle)?;
            }
            if scan.candles.is_multiple_of(TELL_EVERY) {
                progress.reach(scan.candles);
            }
        }
        Ok(scan)
    }

    fn check(&self, candle: &Candle, grain: Grain, end: Time) -> Result<(), String> {
        let at = candle.open_time.millis();
        if grain.floor(candle.open_time) != candle.open_time || grain.end(candle.open_time) != candle.end_time {
            return Err(format!("at {at} ms no candle of that length begins"));
        }
        if self.range.is_some_and(|(_, last)| candle.open_time < last) {
            return Err(format!("at {at} ms it is not later than the one before it"));
        }
        if candle.end_time > end {
            let what = "ends after the symbol's first trade, or in the future: only the time before can be imported";
            return Err(format!("that of {at} ms {what}"));
        }
        let prices = candle.low..=candle.high;
        if candle.low == Price(0) || !prices.contains(&candle.open) || !prices.contains(&candle.close) {
            return Err(format!("the prices of {at} ms contradict each other"));
        }
        if candle.taker_buy_volume > candle.volume || candle.taker_buy_quote_volume > candle.quote_volume {
            return Err(format!("at {at} ms takers bought more than was traded"));
        }
        if candle.trade_count == 0 && !candle.is_empty() {
            return Err(format!("at {at} ms something was traded in no trade"));
        }
        Ok(())
    }
}

/// Under which number the record stands; refused where it does not go with what is there.
fn number_for(new: &ImportedCandles, records: &[(u64, ImportedCandles)]) -> Result<u64, RecoveryError> {
    let same = |old: &ImportedCandles| {
        (old.symbol, old.grain, old.from, old.to, old.checksum)
            == (new.symbol, new.grain, new.from, new.to, new.checksum)
    };
    for (number, old) in records.iter().filter(|(_, old)| old.symbol == new.symbol) {
        let range = format!("those from {} ms to {} ms, of {}", old.from.millis(), old.to.millis(), old.source);
        if !old.is_complete {
            if same(old) {
                return Ok(*number);
            }
            return refused(format!("an import was cut off; import the same again first: {range}"));
        }
        if old.from < new.to && new.from < old.to {
            return refused(format!("candles were imported for that time already: {range}"));
        }
        // Longer candles cannot be told from shorter ones, so those must reach from their first to the end.
        let (earlier, later) = if old.to <= new.from { (old, new) } else { (new, old) };
        if earlier.grain < later.grain {
            return refused(format!("longer candles cannot follow shorter ones: {range}"));
        }
    }
    Ok(records.last().map_or(1, |(number, _)| number + 1))
}

struct Writer<'a> {
    directory: &'a Directory,
    batch: WriteBatch,
}

impl Writer<'_> {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), RecoveryError> {
        self.batch.put_cf(family(self.directory.database(), HISTORY), key, value);
        if self.batch.size_in_bytes() >= BATCH_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), RecoveryError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        let written = self.directory.database().write_opt(std::mem::take(&mut self.batch), &options);
        written.map_err(|error| failed(self.directory, error))
    }
}

/// Makes the longer candles that are kept too of those that were imported, all anew that hold one of them.
fn sum_up(writer: &mut Writer<'_>, record: &ImportedCandles) -> Result<(), RecoveryError> {
    let directory = writer.directory;
    let database = directory.database();
    for grain in Grain::ALL.into_iter().filter(|grain| *grain > record.grain()) {
        let finer = grain.finer().expect("it is longer than another");
        let prefix = candle_rows(IMPORTED_ROWS, record.symbol, finer);
        let from = candle_key(IMPORTED_ROWS, record.symbol, finer, grain.floor(record.from));
        let to = grain.ceil(record.to);
        let mut sum = None::<Candle>;
        let keep = |writer: &mut Writer<'_>, sum: Option<Candle>| match sum {
            Some(sum) => {
                writer.put(candle_key(IMPORTED_ROWS, record.symbol, grain, sum.open_time), encode_candle(&sum))
            }
            None => Ok(()),
        };
        for row in database.iterator_cf(family(database, HISTORY), IteratorMode::From(&from, Direction::Forward)) {
            let (key, value) = row.map_err(|error| failed(directory, error))?;
            if !key.starts_with(&prefix) {
                break;
            }
            let place = || super::history_rows::place(directory, &key);
            let damaged = || Damage::new(place(), "it is not what such a row holds", super::fault::RESTORE);
            let part = decode_candle(&key, &value).ok_or_else(damaged)?;
            if part.open_time >= to {
                break;
            }
            match &mut sum {
                Some(sum) if part.open_time < sum.end_time => sum.extend(&part),
                _ => {
                    let open_time = grain.floor(part.open_time);
                    let next = Candle { open_time, end_time: grain.end(open_time), ..part };
                    keep(writer, sum.replace(next))?;
                }
            }
        }
        keep(writer, sum)?;
        writer.write()?;
    }
    Ok(())
}
