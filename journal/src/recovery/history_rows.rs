//! History's rows, each looked at for what it should be.

use engine::event::{OrderList, PreventedMatch};
use engine::{Sequence, Time};
use rocksdb::{IteratorMode, ReadOptions};

use super::candle_chain::CandleChain;
use super::candle_import::decode_import;
use super::directory::Directory;
use super::fault::{Damage, REBUILD, RecoveryError};
use super::progress::Progress;
use crate::format::{
    DATA_FORMAT, HISTORY, WATERMARK_KEY, amendment_key, decode_candle, decode_order, decode_timed, decode_trade,
    list_key, list_number, number_at, open, prevented_key, trade_key,
};
use crate::history::Amendment;
use crate::history_upgrade;

/// The progress is told every so many rows.
const TELL_EVERY: u64 = 1 << 14;
/// More damaged rows than this are counted and not named.
const NAMED_MAX: usize = 20;

/// The last command that history holds on disk.
pub(crate) fn watermark(directory: &Directory) -> Result<Sequence, Damage> {
    let place = || format!("the watermark in column family `{HISTORY}` in {}", directory.path().join("db").display());
    let damaged = |error: String| Damage::new(place(), error, REBUILD);
    let found = directory.database().get_cf(directory.family(HISTORY), WATERMARK_KEY);
    match found.map_err(|error| damaged(error.into_string()))? {
        Some(bytes) => open(&bytes).map_err(|error| damaged(error.to_string())),
        None => Ok(Sequence(0)),
    }
}

/// How a row is named.
pub(crate) fn place(directory: &Directory, key: &[u8]) -> String {
    let kind = match key.first() {
        Some(b'u') => "an order, ",
        Some(b't') => "a trade, ",
        Some(b'l') => "an order list, ",
        Some(b'k') => "a candle, ",
        Some(b'i') => "an imported candle, ",
        Some(b'j') => "an import of candles, ",
        _ => "",
    };
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{kind}key {key} of column family `{HISTORY}` in {}", directory.path().join("db").display())
}

/// When what a row tells of last changed, and, where it says so, the command that did it; `None` for a row that is none.
/// Rows of an index tell nothing but the time.
pub(crate) fn read(key: &[u8], value: &[u8]) -> Option<Time> {
    let same = |wanted: Vec<u8>| (wanted == key).then_some(());
    match (*key.first()?, key.len()) {
        (b'u', _) => decode_order(key, value).map(|known| known.order.updated_at),
        (b't', _) => {
            let found = decode_trade(value)?;
            same(trade_key(found.trade.symbol, found.trade.trade_id).to_vec())?;
            Some(found.time)
        }
        (b'p', _) => {
            let (time, found) = decode_timed::<PreventedMatch>(value)?;
            same(prevented_key(found.symbol, found.prevented_match_id))?;
            Some(time)
        }
        (b'e', 21) => {
            let (time, found) = decode_timed::<Amendment>(value)?;
            let symbol = engine::SymbolId(u32::from_be_bytes(key[1..5].try_into().ok()?));
            same(amendment_key(symbol, found.order_id, found.execution_id))?;
            Some(time)
        }
        (b'l', _) => {
            let (time, found) = decode_timed::<OrderList>(value)?;
            same(list_key(found.uid, list_number(found.symbol, found.order_list_id)))?;
            Some(time)
        }
        (b'k', _) => decode_candle(key, value).map(|candle| candle.open_time),
        // What was imported is in no log: it is as old as can be.
        (b'i', _) => decode_candle(key, value).map(|_| Time(0)),
        (b'j', _) => decode_import(key, value).map(|_| Time(0)),
        (b'z', 1) => open::<u32>(value).ok().map(|_| Time(0)),
        // Index rows: their values are a time, a time and an order, or the number of what they name.
        (b'q', 29) | (b'm', 25) => (value.len() == 8).then(|| number_at(value, 0)).flatten().map(Time),
        (b'a', 22) => (value.len() == 16).then(|| number_at(value, 0)).flatten().map(Time),
        (b'c', 14..) | (b'n', 10..) => (value.len() == 8).then_some(Time(0)),
        _ => None,
    }
}

/// Looks at every row; how many there are, with what is wrong.
pub(crate) fn check(
    directory: &Directory,
    progress: &mut dyn Progress,
    damages: &mut Vec<Damage>,
) -> Result<u64, RecoveryError> {
    let estimate = directory.database().property_int_value_cf(directory.family(HISTORY), "rocksdb.estimate-num-keys");
    progress.begin("reading history", estimate.ok().flatten().unwrap_or(0));
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_verify_checksums(true);
    // Nothing is upgraded by looking at it. A damaged record of the format is named by whoever looks at that.
    let is_old = directory.format().is_ok_and(|format| format < DATA_FORMAT);
    let (mut rows, mut damaged, mut candles) = (0u64, 0, CandleChain::default());
    for row in directory.database().iterator_cf_opt(directory.family(HISTORY), options, IteratorMode::Start) {
        let (key, value) = match row {
            Ok(row) => row,
            Err(error) => {
                let place = format!("column family `{HISTORY}` in {}", directory.path().join("db").display());
                damages.push(Damage::new(place, error, REBUILD));
                break;
            }
        };
        rows += 1;
        if rows.is_multiple_of(TELL_EVERY) {
            progress.reach(rows);
        }
        let is_row = || read(&key, &value).is_some() || (is_old && history_upgrade::is_old(&key, &value));
        let is_whole = *key == *WATERMARK_KEY || is_row();
        let what = if is_whole { candles.follow(&key, &value) } else { Err("it is not what such a row holds".into()) };
        let Err(what) = what else { continue };
        damaged += 1;
        if damaged <= NAMED_MAX {
            damages.push(Damage::new(place(directory, &key), what, REBUILD));
        }
    }
    if damaged > NAMED_MAX {
        let place = format!("column family `{HISTORY}` in {}", directory.path().join("db").display());
        damages.push(Damage::new(place, format!("{} more rows are damaged", damaged - NAMED_MAX), REBUILD));
    }
    Ok(rows)
}
