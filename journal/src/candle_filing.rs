//! How candles come into history: history's thread adds each trade to the four candles that hold it, and writes the rows of
//! those that changed with the batch that has the trade. So the rows are at every moment what the trades up to the watermark
//! make, and a restart goes on from the last ones.
//!
//! A trade that a candle has already, by its id, is not added again. Rows can be ahead of the state: those that came from
//! another node with a snapshot, while that node went on. [`CandleFiling::open`] takes back what is beyond.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use engine::symbol::Symbol;
use engine::{Amount, Sequence, Snapshot, SymbolId, TradeId};
use rocksdb::{DB, Direction, IteratorMode, WriteBatch, WriteOptions};

use crate::candle::{Candle, Grain};
use crate::database::family;
use crate::format::{
    CANDLE_ROWS, CANDLES_KEY, CANDLES_VERSION, HISTORY, candle_key, candle_rows, decode_candle, decode_trade,
    encode_candle, open, seal, trade_key, trade_rows,
};
use crate::history::HistoryError;
use crate::open_orders::NumberHasher;
use crate::recent_rows::RawRow;
use crate::record::MarketTrade;
use crate::row_buffer::{RowBuffer, SortedRows};

/// Rows that are written at a time while candles are made of all trades.
const BUILD_ROWS: usize = 8_192;

/// The newest candles of every symbol.
#[derive(Default)]
pub(crate) struct CandleFiling {
    symbols: HashMap<SymbolId, Newest, BuildHasherDefault<NumberHasher>>,
    /// Those with candles that were added to since their rows were last taken.
    changed: Vec<SymbolId>,
}

/// One symbol's newest candle of each length.
struct Newest {
    lot: Amount,
    candles: [Option<Candle>; Grain::ALL.len()],
    is_changed: bool,
}

impl Newest {
    fn new(symbol: &Symbol) -> Newest {
        Newest { lot: symbol.scale.step_size(), candles: Default::default(), is_changed: false }
    }

    /// Adds a trade; the rows are those of the candles that it ends.
    fn add(&mut self, trade: &MarketTrade, rows: &mut RowBuffer) {
        for (grain, place) in Grain::ALL.into_iter().zip(&mut self.candles) {
            match place {
                Some(newest) if trade.trade.trade_id.0 <= newest.last_trade_id => continue,
                Some(newest) if trade.time < newest.end_time => {
                    newest.extend(&Candle::of_trade(grain, trade, self.lot));
                }
                _ => {
                    let ended = place.replace(Candle::of_trade(grain, trade, self.lot));
                    // Unchanged since it was last written, it is written once more.
                    if let Some(candle) = ended {
                        put(rows, trade.trade.symbol, grain, &candle);
                    }
                }
            }
            self.is_changed = true;
        }
    }

    /// The rows of those that were added to.
    fn take_changed(&mut self, symbol: SymbolId, rows: &mut RowBuffer) {
        if std::mem::take(&mut self.is_changed) {
            for (grain, candle) in Grain::ALL.into_iter().zip(&self.candles) {
                if let Some(candle) = candle {
                    put(rows, symbol, grain, candle);
                }
            }
        }
    }
}

fn put(rows: &mut RowBuffer, symbol: SymbolId, grain: Grain, candle: &Candle) {
    let key = candle_key(CANDLE_ROWS, symbol, grain, candle.open_time);
    rows.put(&key, |value| value.extend_from_slice(&encode_candle(candle)));
}

impl CandleFiling {
    /// Goes on with what there is, for a state that is at most as far as history: to the last trade before `watermark`, or to
    /// that of the state where history's rows came with it.
    pub(crate) fn open(database: &DB, state: &Snapshot, watermark: Sequence) -> Result<CandleFiling, HistoryError> {
        let is_built = is_built(database)?;
        if !is_built {
            drop_all(database)?;
        }
        let mut symbols = HashMap::default();
        for market in state.symbols() {
            let (symbol, mut newest) = (market.symbol().id, Newest::new(market.symbol()));
            let last = if state.sequence() > watermark {
                Some(TradeId(market.counters().trade))
            } else {
                last_trade(database, symbol, watermark)?
            };
            if is_built {
                if let Some(last) = last {
                    take_back(database, symbol, newest.lot, last)?;
                }
                for grain in Grain::ALL {
                    newest.candles[grain as usize] = newest_first(database, symbol, grain).next().transpose()?;
                }
            } else if let Some(last) = last {
                build(database, symbol, &mut newest, last)?;
            }
            symbols.insert(symbol, newest);
        }
        if !is_built {
            let mut batch = WriteBatch::default();
            batch.put_cf(family(database, HISTORY), CANDLES_KEY, seal(&CANDLES_VERSION));
            commit(database, batch)?;
        }
        Ok(CandleFiling { symbols, changed: Vec::new() })
    }

    /// A symbol is listed.
    pub(crate) fn add_symbol(&mut self, symbol: &Symbol) {
        self.symbols.entry(symbol.id).or_insert_with(|| Newest::new(symbol));
    }

    /// A trade came next.
    pub(crate) fn add(&mut self, trade: &MarketTrade, rows: &mut RowBuffer) {
        let symbol = trade.trade.symbol;
        if let Some(newest) = self.symbols.get_mut(&symbol) {
            let was_changed = newest.is_changed;
            newest.add(trade, rows);
            if newest.is_changed && !was_changed {
                self.changed.push(symbol);
            }
        }
    }

    /// The rows of all candles that were added to since the last call.
    pub(crate) fn take_changed(&mut self, rows: &mut RowBuffer) {
        for symbol in self.changed.drain(..) {
            if let Some(newest) = self.symbols.get_mut(&symbol) {
                newest.take_changed(symbol, rows);
            }
        }
    }
}

/// Whether candles were kept here before.
fn is_built(database: &DB) -> Result<bool, HistoryError> {
    let found = database.get_cf(family(database, HISTORY), CANDLES_KEY).map_err(failed)?;
    // Of another version, or damaged, they are made anew.
    Ok(found.is_some_and(|bytes| open::<u32>(&bytes) == Ok(CANDLES_VERSION)))
}

fn failed(error: rocksdb::Error) -> HistoryError {
    HistoryError::Database(error.into_string())
}

fn write(database: &DB, rows: &SortedRows) -> Result<(), HistoryError> {
    let history = family(database, HISTORY);
    let mut batch = WriteBatch::default();
    (0..rows.len()).for_each(|at| batch.put_cf(history, rows.key(at), rows.value(at)));
    commit(database, batch)
}

fn commit(database: &DB, batch: WriteBatch) -> Result<(), HistoryError> {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    database.write_opt(batch, &options).map_err(failed)
}

fn drop_all(database: &DB) -> Result<(), HistoryError> {
    let mut batch = WriteBatch::default();
    batch.delete_range_cf(family(database, HISTORY), [CANDLE_ROWS], [CANDLE_ROWS + 1]);
    commit(database, batch)
}

/// The rows whose keys start with `prefix`, from `from` on in that direction.
fn rows<'a>(
    database: &'a DB,
    prefix: Vec<u8>,
    from: Vec<u8>,
    direction: Direction,
) -> impl Iterator<Item = Result<RawRow, HistoryError>> + 'a {
    let found = database.iterator_cf(family(database, HISTORY), IteratorMode::From(&from, direction));
    let found = found.map(|row| row.map_err(failed));
    found.take_while(move |row| row.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix)))
}

/// One symbol's candles of one length, the newest first.
fn newest_first(
    database: &DB,
    symbol: SymbolId,
    grain: Grain,
) -> impl Iterator<Item = Result<Candle, HistoryError>> + '_ {
    let prefix = candle_rows(CANDLE_ROWS, symbol, grain);
    let from = [prefix.as_slice(), &[u8::MAX; 8]].concat();
    rows(database, prefix, from, Direction::Reverse).map(|row| {
        let (key, value) = row?;
        decode_candle(&key, &value).ok_or_else(|| crate::history::damaged(&key))
    })
}

/// One symbol's trades from `first` to `last`.
fn trades(
    database: &DB,
    symbol: SymbolId,
    first: TradeId,
    last: TradeId,
) -> impl Iterator<Item = Result<MarketTrade, HistoryError>> + '_ {
    let found = rows(database, trade_rows(symbol), trade_key(symbol, first).to_vec(), Direction::Forward).map(|row| {
        let (key, value) = row?;
        decode_trade(&value).ok_or_else(|| crate::history::damaged(&key))
    });
    found.take_while(move |row| row.as_ref().map_or(true, |trade| trade.trade.trade_id <= last))
}

/// The last trade that history holds up to `watermark`; `None` where none is kept.
fn last_trade(database: &DB, symbol: SymbolId, watermark: Sequence) -> Result<Option<TradeId>, HistoryError> {
    let prefix = trade_rows(symbol);
    let from = [prefix.as_slice(), &[u8::MAX; 8]].concat();
    for row in rows(database, prefix, from, Direction::Reverse) {
        let (key, value) = row?;
        let trade = decode_trade(&value).ok_or_else(|| crate::history::damaged(&key))?;
        if trade.sequence <= watermark {
            return Ok(Some(trade.trade.trade_id));
        }
    }
    Ok(None)
}

/// Makes the candles of one symbol from the trades that are kept, up to `last`.
fn build(database: &DB, symbol: SymbolId, newest: &mut Newest, last: TradeId) -> Result<(), HistoryError> {
    let mut ended = RowBuffer::default();
    for trade in trades(database, symbol, TradeId(0), last) {
        newest.add(&trade?, &mut ended);
        if ended.len() >= BUILD_ROWS {
            write(database, &std::mem::take(&mut ended).sorted())?;
        }
    }
    newest.take_changed(symbol, &mut ended);
    write(database, &ended.sorted())
}

/// Takes back what is in the rows of trades after `last`. Every row is known to have all trades up to it.
fn take_back(database: &DB, symbol: SymbolId, lot: Amount, last: TradeId) -> Result<(), HistoryError> {
    for grain in Grain::ALL {
        let mut batch = WriteBatch::default();
        let history = family(database, HISTORY);
        for candle in newest_first(database, symbol, grain) {
            let candle = candle?;
            if candle.last_trade_id <= last.0 {
                break;
            }
            let key = candle_key(CANDLE_ROWS, symbol, grain, candle.open_time);
            if candle.first_trade_id > last.0 {
                batch.delete_cf(history, key);
                continue;
            }
            match up_to(database, symbol, lot, grain, &candle, last)? {
                Some(shorter) => batch.put_cf(history, key, encode_candle(&shorter)),
                // Of what it was made is no longer kept. Later trades are told by their ids from those in it.
                None => tracing::warn!(%symbol, ?grain, "a candle cannot be cut back to trade {last}"),
            }
            break;
        }
        commit(database, batch)?;
    }
    Ok(())
}

/// A candle of the trades up to `last` alone: from the trades themselves, or from shorter candles, which are cut back already.
fn up_to(
    database: &DB,
    symbol: SymbolId,
    lot: Amount,
    grain: Grain,
    candle: &Candle,
    last: TradeId,
) -> Result<Option<Candle>, HistoryError> {
    let mut sum = Candle::flat(candle.open_time, candle.end_time, candle.open);
    match grain.finer() {
        None => {
            for trade in trades(database, symbol, TradeId(candle.first_trade_id), last) {
                sum.extend(&Candle::of_trade(grain, &trade?, lot));
            }
        }
        Some(finer) => {
            let prefix = candle_rows(CANDLE_ROWS, symbol, finer);
            let from = candle_key(CANDLE_ROWS, symbol, finer, candle.open_time);
            for row in rows(database, prefix, from, Direction::Forward) {
                let (key, value) = row?;
                let part = decode_candle(&key, &value).ok_or_else(|| crate::history::damaged(&key))?;
                if part.open_time >= candle.end_time {
                    break;
                }
                sum.extend(&part);
            }
        }
    }
    let is_whole = sum.first_trade_id == candle.first_trade_id && sum.last_trade_id == last.0;
    Ok(is_whole.then_some(sum))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::command::{AddAsset, OrderQuantity, PlaceOrder, Transfer};
    use engine::order::{ClientOrderId, OrderType, Side, TimeInForce};
    use engine::symbol::SymbolConfig;
    use engine::{AssetId, Command, Engine, Time, Uid};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use tempfile::TempDir;

    use super::*;
    use crate::failure::Failure;
    use crate::format::{IMPORTED_ROWS, WATERMARK_KEY};
    use crate::history_writer::HistoryWriter;
    use crate::opening::open_database;
    use crate::record::Applied;
    use crate::sweeper::{HistoryDays, Sweeper};

    /// Before each command the state, and what the command did.
    type Played = Vec<(Arc<Snapshot>, Arc<Applied>)>;

    fn played(seed: u64, orders: u64) -> Played {
        let mut random = StdRng::seed_from_u64(seed);
        let asset = |name: &str| Command::AddAsset(AddAsset { name: name.into(), scale: 2 });
        let deposit = |asset: u32| {
            let external_id = asset.to_string();
            Command::Deposit(Transfer { uid: Uid(1), asset: AssetId(asset), amount: Amount(1 << 60), external_id })
        };
        let symbol = |name: &str| {
            let config = SymbolConfig::plain(name, AssetId(0), AssetId(1), Amount(100), Amount(1));
            Command::AddSymbol(Box::new(config))
        };
        let mut commands = vec![asset("ABC"), asset("XYZ"), symbol("ABCXYZ"), symbol("ABCXYZ2")];
        commands.extend([Command::OpenAccount { uid: Uid(1) }, deposit(0), deposit(1)]);
        commands.extend((0..orders).map(|number| {
            Command::PlaceOrder(PlaceOrder {
                uid: Uid(1),
                symbol: SymbolId(random.random_range(0..2)),
                client_order_id: ClientOrderId::new(&format!("o{number}")).unwrap(),
                side: if random.random() { Side::Buy } else { Side::Sell },
                order_type: OrderType::Limit,
                time_in_force: TimeInForce::Gtc,
                price: Amount(100 * random.random_range(98..103)),
                quantity: OrderQuantity::Base(Amount(random.random_range(1..50))),
                self_trade_prevention: None,
                special: None,
            })
        }));
        let (mut engine, mut time, mut played) = (Engine::new(), 1_700_000_000_000_000, Vec::new());
        for command in &commands {
            let (before, mut events) = (Arc::new(engine.snapshot()), Vec::new());
            engine.apply(Time(time), command, &mut events);
            let ends = vec![events.len() as u32];
            let applied = Applied { first_sequence: engine.sequence(), time: Time(time), events, ends };
            played.push((before, Arc::new(applied)));
            // From microseconds to hours.
            time += random.random_range(0..7_200_000_000_u64) >> random.random_range(0..30);
        }
        played
    }

    /// Files what was played from `from` on, as a node does that starts with the state before it.
    async fn file(database: &Arc<DB>, played: &Played, from: usize) {
        let (writer, thread) = HistoryWriter::start(database.clone(), HistoryDays::default(), &Failure::new()).unwrap();
        assert!(writer.restored(played[from].0.clone()));
        assert!(writer.reader().wait_until_settled(played[from].0.sequence()));
        played[from..].iter().for_each(|(_, applied)| assert!(writer.applied(applied.clone())));
        writer.wait_for(Sequence(played.len() as u64)).await;
        writer.stop();
        thread.join().unwrap();
    }

    /// A key and its value.
    type Row = (Vec<u8>, Vec<u8>);

    fn put_all(database: &DB, rows: impl IntoIterator<Item = Row>) -> Result<(), HistoryError> {
        let history = family(database, HISTORY);
        let mut batch = WriteBatch::default();
        rows.into_iter().for_each(|(key, value)| batch.put_cf(history, key, value));
        commit(database, batch)
    }

    fn database() -> (TempDir, Arc<DB>) {
        let folder = tempfile::tempdir().unwrap();
        let database = open_database(folder.path()).unwrap();
        (folder, database)
    }

    fn all_rows(database: &DB) -> Vec<Row> {
        let rows = database.iterator_cf(family(database, HISTORY), IteratorMode::Start);
        rows.map(|row| row.map(|(key, value)| (key.into_vec(), value.into_vec())).unwrap()).collect()
    }

    fn candle_rows_of(database: &DB) -> Vec<Row> {
        all_rows(database).into_iter().filter(|(key, _)| key[0] == CANDLE_ROWS).collect()
    }

    #[tokio::test]
    async fn rows_are_those_of_the_list_of_trades_whatever_befell_history() {
        for seed in 0..6 {
            let played = played(seed, 700);
            let (_folder, whole) = database();
            file(&whole, &played, 0).await;
            let wanted = candle_rows_of(&whole);
            assert!(wanted.len() > 300, "seed {seed}");

            // Started again with an older state: what is filed already is not filed again.
            file(&whole, &played, 300).await;
            assert!(candle_rows_of(&whole) == wanted, "seed {seed}: after a restart");

            // Of a release that kept no candles.
            let (_folder, old) = database();
            let is_candles = |key: &[u8]| key[0] == CANDLE_ROWS || *key == *CANDLES_KEY;
            put_all(&old, all_rows(&whole).into_iter().filter(|(key, _)| !is_candles(key))).unwrap();
            file(&old, &played, 650).await;
            assert!(candle_rows_of(&old) == wanted, "seed {seed}: after an upgrade");

            // Rows came from another node that had gone on, the state with them is older.
            for state in [20, 300, 699] {
                let (_folder, joined) = database();
                put_all(&joined, all_rows(&whole).into_iter().filter(|(key, _)| *key != *WATERMARK_KEY)).unwrap();
                file(&joined, &played, state).await;
                assert!(candle_rows_of(&joined) == wanted, "seed {seed}: after a join at {state}");
            }
        }
    }

    #[tokio::test]
    async fn old_seconds_and_minutes_go_by_whole_days_and_the_last_ones_stay() {
        let played = played(7, 3_000);
        let (_folder, database) = database();
        file(&database, &played, 0).await;
        let before = candle_rows_of(&database);
        // The same as if they had been imported.
        let imported = |(key, value): &Row| ([&[IMPORTED_ROWS], &key[1..]].concat(), value.clone());
        put_all(&database, before.iter().map(imported)).unwrap();
        let last = played.last().unwrap().1.time;
        let cutoff = Time(last.0 - 2 * Grain::Day.micros());
        let days = HistoryDays { second_candles: 1, ..HistoryDays::default() };
        for (cutoffs, limits) in [
            ([Some(cutoff), None], [Grain::Day.floor(cutoff), Time(0)]),
            ([Some(Time(u64::MAX)), Some(cutoff)], [Time(u64::MAX), Grain::Day.floor(cutoff)]),
        ] {
            let mut sweeper = Sweeper::new(days).unwrap();
            while !sweeper.sweep_candles(&database, cutoffs).unwrap() {}
            let is_kept = |at: usize| {
                let (symbol, grain, open) = crate::format::candle_of_key(&before[at].0).unwrap();
                let next = before.get(at + 1).and_then(|(key, _)| crate::format::candle_of_key(key));
                let is_last = next.is_none_or(|(next, length, _)| (next, length) != (symbol, grain));
                let limit = limits.get(grain as usize).copied().unwrap_or(Time(0));
                is_last || open >= limit
            };
            let wanted: Vec<Row> = (0..before.len()).filter(|at| is_kept(*at)).map(|at| before[at].clone()).collect();
            assert!(wanted.len() < before.len());
            assert!(candle_rows_of(&database) == wanted, "{cutoffs:?}");
            let of_imports = all_rows(&database).into_iter().filter(|(key, _)| key[0] == IMPORTED_ROWS);
            assert!(of_imports.eq(wanted.iter().map(imported)), "{cutoffs:?}");
        }
    }
}
