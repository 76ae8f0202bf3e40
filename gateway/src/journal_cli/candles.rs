//! `import-klines`: candles of the time before a symbol was first traded here, from files as data.binance.vision has them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use engine::{Amount, Price, Time};
use flate2::read::MultiGzDecoder;
use journal::recovery::{self, CandleImport, CandleScales, ImportedCandles, RecoveryError};
use journal::{Candle, Grain};
use serde_json::{Value, json};

use super::moment;
use super::output::{Bar, Common, Outcome, Output, print_json, seconds_text};
use crate::params::parse_decimal;

/// Bytes of a line; real ones have some 150.
const LINE_MAX: u64 = 4_096;
/// What a line holds, in this order.
const COLUMNS: usize = 12;
/// From here on a time is in microseconds.
const MICROSECONDS_FROM: u64 = 100_000_000_000_000;

/// Import candles of the time before a symbol was first traded here
#[derive(Debug, Args)]
#[command(after_long_help = "\
The files are those of data.binance.vision, unpacked or in gzip: twelve columns (open time, open, high, low, close, volume, close \
time, quote volume, trades, taker buy volume, taker buy quote volume, ignored), times in milliseconds or microseconds, with a \
header or without. Several files are read as one, in the order given, oldest first. Minutes that are missing are shown flat at the \
price before, as empty ones are everywhere. Minutes make hours, days and every longer interval; an import of days alone has no \
minutes to show.

All of it must lie before the symbol's first trade, and apart from what was imported before; nothing is changed unless all of it is \
sound. Prices must be multiples of the symbol's tick. Who imported what, when and why is kept (--list) and cannot be taken back.

The candles are of this node alone and in no log: import the same files on every node of a cluster, or on the first before the \
others join, which get them with its history. They survive rebuild-history; backups do not have them, so keep the files.

Examples:
  rialto journal import-klines --data /var/lib/rialto --symbol BTCUSDT --interval 1m \\
      --from BTCUSDT-1m-2025-01.csv --from BTCUSDT-1m-2025-02.csv --operator ann --reason \"back-fill\"
  rialto journal import-klines --data /var/lib/rialto --list")]
pub(super) struct ImportKlinesArguments {
    #[command(flatten)]
    pub common: Common,
    /// Say what was imported, and import nothing
    #[arg(long, conflicts_with_all = ["symbol", "interval", "from", "operator", "reason"])]
    list: bool,
    /// The symbol
    #[arg(long, value_name = "SYMBOL", required_unless_present = "list")]
    symbol: Option<String>,
    /// How long the candles are
    #[arg(long, required_unless_present = "list")]
    interval: Option<ImportInterval>,
    /// A file of candles; may be given again
    #[arg(long, value_name = "FILE", required_unless_present = "list")]
    from: Vec<PathBuf>,
    /// Who imports
    #[arg(long, value_name = "NAME", required_unless_present = "list")]
    operator: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT", required_unless_present = "list")]
    reason: Option<String>,
}

/// The intervals that are kept, out of which the others are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ImportInterval {
    #[value(name = "1s")]
    Second,
    #[value(name = "1m")]
    Minute,
    #[value(name = "1h")]
    Hour,
    #[value(name = "1d")]
    Day,
}

impl ImportInterval {
    fn grain(self) -> Grain {
        Grain::ALL[self as usize]
    }
}

fn name_of(grain: Grain) -> &'static str {
    ["1s", "1m", "1h", "1d"][grain as usize]
}

pub(super) fn import_klines(arguments: &ImportKlinesArguments) -> Outcome {
    let began = Instant::now();
    let ImportKlinesArguments { common, symbol, interval, from, operator, reason, .. } = arguments;
    let (Some(symbol), Some(interval), Some(operator), Some(reason)) = (symbol, interval, operator, reason) else {
        return list(common);
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let names = from.iter().map(|path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy());
    let order = CandleImport {
        symbol: symbol.clone(),
        grain: interval.grain(),
        time: Time(u64::try_from(now.as_micros()).unwrap_or(u64::MAX)),
        operator: operator.clone(),
        reason: reason.clone(),
        source: names.collect::<Vec<_>>().join(", "),
    };
    let read = |scales: &CandleScales| {
        let (scales, grain) = (*scales, order.grain);
        Ok(from.iter().flat_map(move |path| CandleFile::open(path, scales, grain)))
    };
    let record = recovery::import_candles(&common.data, &order, read, &mut Bar::new())?;
    if common.json {
        return print_json(&record_json(&record, Some(symbol)));
    }
    let mut out = Output::new();
    print_record(&mut out, &record)?;
    out.row("took", seconds_text(began.elapsed()))?;
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

fn list(common: &Common) -> Outcome {
    let records = recovery::candle_imports(&common.data)?;
    if common.json {
        return print_json(&json!(records.iter().map(|record| record_json(record, None)).collect::<Vec<_>>()));
    }
    let mut out = Output::new();
    if records.is_empty() {
        out.line("nothing was imported")?;
    }
    for record in &records {
        print_record(&mut out, record)?;
    }
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

fn print_record(out: &mut Output, record: &ImportedCandles) -> Result<(), super::output::Stop> {
    let ImportedCandles { symbol, from, to, candles, traded, time, operator, reason, source, .. } = record;
    let grain = name_of(record.grain());
    out.row("imported", format_args!("{candles} candles of {grain} ({traded} with trades) of symbol {symbol}"))?;
    out.row("time", format_args!("{} to {}", moment::text(*from), moment::text(*to)))?;
    out.row("source", source)?;
    out.row("by", format_args!("{operator} at {}: {reason}", moment::text(*time)))?;
    if !record.is_complete {
        out.row("note", "it was cut off; import the same again")?;
    }
    Ok(())
}

fn record_json(record: &ImportedCandles, name: Option<&str>) -> Value {
    let mut said = json!({
        "symbol_id": record.symbol.0,
        "interval": name_of(record.grain()),
        "from": moment::text(record.from),
        "to": moment::text(record.to),
        "candles": record.candles,
        "with_trades": record.traded,
        "source": record.source,
        "operator": record.operator,
        "reason": record.reason,
        "time": moment::text(record.time),
        "complete": record.is_complete,
    });
    if let Some(name) = name {
        said["symbol"] = json!(name);
    }
    said
}

/// The candles of one file.
struct CandleFile {
    path: PathBuf,
    /// None once it has ended, or could not be opened.
    lines: Option<Box<dyn BufRead>>,
    /// What is to be told before anything else.
    broken: Option<RecoveryError>,
    line: u64,
    scales: CandleScales,
    grain: Grain,
}

impl CandleFile {
    fn open(path: &Path, scales: CandleScales, grain: Grain) -> CandleFile {
        let opened = File::open(path).and_then(|mut file| {
            let mut magic = [0; 2];
            let read = file.read(&mut magic)?;
            let file = File::open(path)?;
            let is_gzip = read == 2 && magic == [0x1f, 0x8b];
            let lines: Box<dyn BufRead> = if is_gzip {
                Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(file))))
            } else {
                Box::new(BufReader::new(file))
            };
            Ok(lines)
        });
        let (lines, broken) = match opened {
            Ok(lines) => (Some(lines), None),
            Err(error) => (None, Some(RecoveryError::Disk { path: path.to_owned(), error: error.to_string() })),
        };
        CandleFile { path: path.to_owned(), lines, broken, line: 0, scales, grain }
    }

    fn refused(&self, what: &str) -> RecoveryError {
        RecoveryError::Refused(format!("{}, line {}: {what}", self.path.display(), self.line))
    }

    /// The next line that is not empty; None at the end.
    fn next_line(&mut self) -> Result<Option<String>, RecoveryError> {
        while let Some(lines) = &mut self.lines {
            let mut text = Vec::new();
            let read = lines.take(LINE_MAX).read_until(b'\n', &mut text);
            self.line += 1;
            let read =
                read.map_err(|error| RecoveryError::Disk { path: self.path.clone(), error: error.to_string() })?;
            if read == 0 {
                return Ok(None);
            }
            if read as u64 == LINE_MAX {
                return Err(self.refused("it is too long to be a candle"));
            }
            let Ok(text) = String::from_utf8(text) else { return Err(self.refused("it is not text")) };
            let text = text.trim();
            let is_header = self.line == 1 && !text.starts_with(|first: char| first.is_ascii_digit());
            if !text.is_empty() && !is_header {
                return Ok(Some(text.to_owned()));
            }
        }
        Ok(None)
    }
}

impl Iterator for CandleFile {
    type Item = Result<Candle, RecoveryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(broken) = self.broken.take() {
            return Some(Err(broken));
        }
        let line = match self.next_line() {
            Ok(line) => line,
            Err(error) => {
                self.lines = None;
                return Some(Err(error));
            }
        };
        let Some(line) = line else {
            self.lines = None;
            return None;
        };
        Some(parse(&line, &self.scales, self.grain).map_err(|what| self.refused(&what)))
    }
}

/// The candle of a line.
fn parse(line: &str, scales: &CandleScales, grain: Grain) -> Result<Candle, String> {
    let columns: Vec<&str> = line.split(',').map(str::trim).collect();
    let columns: [&str; COLUMNS] =
        columns.try_into().map_err(|found: Vec<&str>| format!("it has {} columns, not {COLUMNS}", found.len()))?;
    let [open_time, open, high, low, close, volume, close_time, quote_volume, count, taker_buy, taker_buy_quote, _] =
        columns;
    let time = |text: &str| -> Result<(u64, u64), String> {
        let number: u64 = text.parse().map_err(|_| format!("{text:?} is not a time"))?;
        Ok(if number < MICROSECONDS_FROM { (number * 1_000, 1_000) } else { (number, 1) })
    };
    let amount = |name: &str, text: &str, scale: u8| -> Result<Amount, String> {
        parse_decimal(name, text, scale).map_err(|_| format!("{text:?} is no {name} with at most {scale} decimals"))
    };
    let price = |name: &str, text: &str| -> Result<Price, String> {
        let asked = amount(name, text, scales.quote)?;
        scales
            .scale
            .ticks(asked)
            .ok_or_else(|| format!("{text} is no price of this symbol: not a multiple of its tick"))
    };
    let ((open_time, _), (close_time, unit)) = (time(open_time)?, time(close_time)?);
    let open_time = Time(open_time);
    if close_time.checked_add(unit) != Some(grain.end(open_time).0) {
        return Err(format!("it does not last {} from its open time to its close time", name_of(grain)));
    }
    let candle = Candle {
        high: price("high", high)?,
        low: price("low", low)?,
        close: price("close", close)?,
        volume: amount("volume", volume, scales.base)?,
        quote_volume: amount("quote volume", quote_volume, scales.quote)?,
        taker_buy_volume: amount("taker buy volume", taker_buy, scales.base)?,
        taker_buy_quote_volume: amount("taker buy quote volume", taker_buy_quote, scales.quote)?,
        trade_count: count.parse().map_err(|_| format!("{count:?} is no number of trades"))?,
        ..Candle::flat(open_time, grain.end(open_time), price("open", open)?)
    };
    Ok(candle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "1499040000000,0.01634790,0.80000000,0.01575800,0.01577100,148976.11427815,1499040059999,2434.19055334,308,\
                        1756.87402397,28.46694368,0";

    fn scales() -> CandleScales {
        CandleScales { scale: engine::units::Scale::new(Amount(10), Amount(10_000_000), 8).unwrap(), base: 8, quote: 8 }
    }

    #[test]
    fn a_line_is_a_candle_in_milliseconds_or_microseconds() {
        let found = parse(LINE, &scales(), Grain::Minute).unwrap();
        assert_eq!((found.open_time, found.end_time), (Time(1_499_040_000_000_000), Time(1_499_040_060_000_000)));
        assert_eq!((found.open, found.high), (Price(163_479), Price(8_000_000)));
        assert_eq!((found.volume, found.trade_count), (Amount(14_897_611_427_815), 308));
        assert_eq!((found.first_id(), found.taker_buy_quote_volume), (-1, Amount(2_846_694_368)));
        let micros = LINE.replace("1499040000000", "1499040000000000").replace("1499040059999", "1499040059999999");
        assert_eq!(parse(&micros, &scales(), Grain::Minute).unwrap(), found);
    }

    #[test]
    fn what_is_no_candle_is_refused_and_says_why() {
        let refused = |line: &str, what: &str| {
            let error = parse(line, &scales(), Grain::Minute).unwrap_err();
            assert!(error.contains(what), "{error}");
        };
        refused("", "columns");
        refused(&LINE.replace(",0.8", ",-0.8"), "high");
        refused(&LINE.replace("0.80000000", "NaN"), "high");
        refused(&LINE.replace("0.80000000", "0.80000001"), "tick");
        refused(&LINE.replace("1499040059999", "1499040119999"), "1m");
        refused(&LINE.replace("1499040000000,", "99999999999999999999,"), "time");
        refused(&LINE.replace(",308,", ",3e2,"), "trades");
        refused(&LINE.replace(",1756.87402397,", ",1756.874023971,"), "decimals");
        assert!(parse(LINE, &scales(), Grain::Hour).is_err());
    }

    #[test]
    fn headers_empty_lines_and_gzip_are_understood_and_endless_lines_are_not_read_to_their_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            CandleFile::open(&path, scales(), Grain::Minute).collect::<Vec<_>>()
        };
        let text = format!("open_time,open\r\n\r\n{LINE}\r\n");
        assert!(matches!(file("plain.csv", text.as_bytes()).as_slice(), [Ok(_)]));
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
        assert!(matches!(file("packed.gz", &packed.finish().unwrap()).as_slice(), [Ok(_)]));
        assert!(matches!(file("endless", &[b'1'; 100_000]).as_slice(), [Err(RecoveryError::Refused(_))]));
        assert!(matches!(file("not-text", &[0xff, b'\n']).as_slice(), [Err(RecoveryError::Refused(_))]));
        assert!(matches!(file("empty", b"").as_slice(), []));
        let missing = CandleFile::open(&folder.path().join("missing"), scales(), Grain::Minute).collect::<Vec<_>>();
        assert!(matches!(missing.as_slice(), [Err(RecoveryError::Disk { .. })]));
    }
}
