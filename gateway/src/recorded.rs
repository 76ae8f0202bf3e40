//! Recorded order flow and the exchange's own answers to it, read from CSV files, compressed with gzip or not.
//!
//! Prices count ticks and quantities count steps of the symbol they were recorded in; only the one who drives the flow
//! knows what those are worth.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use engine::order::Side;

/// One recorded command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// When it was sent, in milliseconds; none when the recording has no times.
    pub at_ms: Option<u64>,
    /// The order's name in the recording.
    pub order: i64,
    /// What was asked.
    pub action: Action,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A limit order that rests.
    Limit(Terms),
    /// A limit order whose rest expires.
    ImmediateOrCancel(Terms),
    /// A market order by quantity.
    Market(Terms),
    /// Take the order off.
    Cancel,
    /// Lower the order by so many steps, in its place.
    Reduce(u64),
}

/// Side, price in ticks, quantity in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Buy or sell.
    pub side: Side,
    /// In ticks; zero for a market order.
    pub price: u64,
    /// In steps.
    pub quantity: u64,
}

/// A price and a quantity, in ticks and steps.
pub type Level = (u64, u64);

/// The exchange's book as it was after some number of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedBook {
    /// How many commands came before it.
    pub commands_before: usize,
    /// Best first.
    pub bids: Vec<Level>,
    /// Best first.
    pub asks: Vec<Level>,
}

/// The commands of a file with the columns `cmd,oid,side,price,qty`, in any order, among others. `cmd` is N (new), C
/// (cancel), R (reduce in place) or X (immediate or cancel); `type` may say MARKET, `ts_ms` when it was sent.
pub fn read_commands(path: &Path) -> Result<Vec<Recorded>, String> {
    let mut commands = Vec::new();
    read(path, |row| {
        let order = row.number("oid")?;
        let action = match row.text("cmd")? {
            "C" => Action::Cancel,
            "R" => Action::Reduce(row.number("qty")?),
            "X" => Action::ImmediateOrCancel(terms(row)?),
            "N" if row.text("type") == Ok("MARKET") => Action::Market(terms(row)?),
            "N" => Action::Limit(terms(row)?),
            other => return Err(format!("cmd {other:?} is none of N, C, R, X")),
        };
        let at_ms = row.has("ts_ms").then(|| row.number("ts_ms")).transpose()?;
        commands.push(Recorded { at_ms, order, action });
        Ok(())
    })?;
    Ok(commands)
}

/// The trades of a file with the columns `price,qty` among others.
pub fn read_trades(path: &Path) -> Result<Vec<Level>, String> {
    let mut trades = Vec::new();
    read(path, |row| {
        trades.push((row.number("price")?, row.number("qty")?));
        Ok(())
    })?;
    Ok(trades)
}

/// The books of a file with the columns `commands_before,bids,asks` among others, where a side is `price:qty` pairs, best
/// first, between spaces.
pub fn read_books(path: &Path) -> Result<Vec<RecordedBook>, String> {
    let mut books: Vec<RecordedBook> = Vec::new();
    read(path, |row| {
        let book = RecordedBook {
            commands_before: row.number("commands_before")?,
            bids: levels(row.text("bids")?)?,
            asks: levels(row.text("asks")?)?,
        };
        if books.last().is_some_and(|last| last.commands_before > book.commands_before) {
            return Err("commands_before goes back".to_owned());
        }
        books.push(book);
        Ok(())
    })?;
    Ok(books)
}

fn terms(row: &Row) -> Result<Terms, String> {
    let side = match row.text("side")? {
        "B" => Side::Buy,
        "S" => Side::Sell,
        other => return Err(format!("side {other:?} is neither B nor S")),
    };
    Ok(Terms { side, price: row.number("price")?, quantity: row.number("qty")? })
}

fn levels(text: &str) -> Result<Vec<Level>, String> {
    let level = |pair: &str| {
        let (price, quantity) = pair.split_once(':')?;
        Some((price.parse().ok()?, quantity.parse().ok()?))
    };
    text.split_whitespace().map(|pair| level(pair).ok_or_else(|| format!("{pair:?} is not price:qty"))).collect()
}

struct Row<'a> {
    columns: &'a HashMap<String, usize>,
    fields: Vec<&'a str>,
}

impl<'a> Row<'a> {
    fn has(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }

    fn text(&self, column: &str) -> Result<&'a str, String> {
        let index = self.columns.get(column).ok_or_else(|| format!("no column {column}"))?;
        self.fields.get(*index).copied().ok_or_else(|| format!("no field {column}"))
    }

    fn number<N: std::str::FromStr>(&self, column: &str) -> Result<N, String> {
        let text = self.text(column)?;
        text.parse().map_err(|_| format!("{column} {text:?} is not a number"))
    }
}

fn read(path: &Path, mut each: impl FnMut(&Row) -> Result<(), String>) -> Result<(), String> {
    let text = read_text(path).map_err(|why| format!("{}: {why}", path.display()))?;
    let mut lines = text.lines();
    // A column may carry an explanation in brackets, as in `bids(price:qty ...)`.
    let name = |(index, column): (usize, &str)| (column.split('(').next().unwrap_or(column).to_owned(), index);
    let columns = lines.next().unwrap_or_default().split(',').enumerate().map(name).collect();
    for (number, line) in (2..).zip(lines) {
        let row = Row { columns: &columns, fields: line.split(',').collect() };
        each(&row).map_err(|why| format!("{} line {number}: {why}", path.display()))?;
    }
    Ok(())
}

fn read_text(path: &Path) -> std::io::Result<String> {
    let bytes = std::fs::read(path)?;
    let mut text = String::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text)?;
    } else {
        bytes.as_slice().read_to_string(&mut text)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("rialto-recorded-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn both_forms_of_commands_are_read() {
        let path =
            file("a", "ts_ms,cmd,oid,side,type,price,qty\n5,N,7,S,LIMIT,26400,145\n6,N,8,B,MARKET,0,9\n7,C,7,,,,\n");
        let limit = Terms { side: Side::Sell, price: 26400, quantity: 145 };
        let market = Terms { side: Side::Buy, price: 0, quantity: 9 };
        let expected = vec![
            Recorded { at_ms: Some(5), order: 7, action: Action::Limit(limit) },
            Recorded { at_ms: Some(6), order: 8, action: Action::Market(market) },
            Recorded { at_ms: Some(7), order: 7, action: Action::Cancel },
        ];
        assert_eq!(read_commands(&path).unwrap(), expected);

        let path = file("b", "row,cmd,oid,side,price,qty,expect_maker\n0,R,-1,S,10,3,\n1,X,2,B,10,3,-1\n");
        let taker = Terms { side: Side::Buy, price: 10, quantity: 3 };
        let expected = vec![
            Recorded { at_ms: None, order: -1, action: Action::Reduce(3) },
            Recorded { at_ms: None, order: 2, action: Action::ImmediateOrCancel(taker) },
        ];
        assert_eq!(read_commands(&path).unwrap(), expected);
    }

    #[test]
    fn a_bad_line_is_named() {
        let path = file("c", "cmd,oid,side,price,qty\nN,1,B,10,1\nN,1,Q,10,1\n");
        assert!(read_commands(&path).unwrap_err().ends_with("line 3: side \"Q\" is neither B nor S"));
    }

    #[test]
    fn books_are_pairs_best_first() {
        let path = file("d", "ts_ms,commands_before,bids(price:qty ...),asks\n1,2,10:5 9:1,11:2\n");
        let book = RecordedBook { commands_before: 2, bids: vec![(10, 5), (9, 1)], asks: vec![(11, 2)] };
        assert_eq!(read_books(&path).unwrap(), vec![book]);
    }
}
