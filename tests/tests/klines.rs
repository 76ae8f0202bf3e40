//! Candles, tickers and trades of the past against slow oracles and against what other exchanges published.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine::{Amount, Price, Sequence, SymbolId, Time, TradeId};
use gateway::app::App;
use gateway::klines::{self, Interval, Offset, Query};
use gateway::views::Ticker;
use journal::recovery::{self, CandleImport, RecoveryError};
use journal::{Candle, Grain};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tests::candle_oracle::{self, Traded};
use tests::prints::{Flow, Print, eight_decimals, market, replay};
use tests::server::Server;
use tests::shared_data::{gzip_lines, shared_file, zip_lines};

const SYMBOL: SymbolId = SymbolId(0);
const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// How long history may take to follow.
const PATIENCE: Duration = Duration::from_secs(300);
/// 2024-01-01, where generated flow begins.
const BEGIN: u64 = 1_704_067_200_000_000;
/// Lots of [`market`]'s generated symbol in smallest base units.
const LOT: u64 = 1_000;
const ZONES: [&str; 8] = ["0", "8", "-12:00", "+14:00", "-3:30", "+05:45", "+12:45", "-0:01"];

/// A clock that stands where it was set: one for each test, since a clock is a plain function.
macro_rules! clock {
    ($clock:ident, $read:ident) => {
        static $clock: AtomicU64 = AtomicU64::new(BEGIN);
        fn $read() -> Time {
            Time($clock.load(Ordering::SeqCst))
        }
    };
}

fn seed() -> u64 {
    let seed = std::env::var("RIALTO_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("RIALTO_SEED={seed}");
    seed
}

/// What history has once it has all that the views show.
async fn history<T>(app: &App, read: impl FnOnce(&journal::CandleReader<'_>) -> Result<T, journal::HistoryError>) -> T {
    let began = Instant::now();
    while let Err(lag) = app.history.wait_for(app.outlets.views.sequence()).await {
        // Behind a flow as fast as can be.
        assert!(began.elapsed() < PATIENCE, "{lag}");
    }
    app.history.candles(SYMBOL, read).expect("history can be read")
}

async fn all_trades(app: &App) -> Vec<Traded> {
    history(app, |reader| reader.trades(TradeId(0)).map(|trade| Ok(Traded::of(&trade?, LOT))).collect()).await
}

// Recorded trades, and the candles that were published of them.

/// The nine fields of a row: by GET klines, or of a file.
type Fields = [Amount; 9];

async fn rows(server: &Server, interval: &str, from_ms: u64, to_ms: u64) -> Vec<(u64, Fields)> {
    let target =
        format!("/api/v3/klines?symbol=BTCUSDT&interval={interval}&startTime={from_ms}&endTime={to_ms}&limit=1000");
    let answer = server.get(&target).await.good();
    let field = |row: &Value, at: usize| match &row[at] {
        Value::String(text) => eight_decimals(text),
        number => Amount(u128::from(number.as_u64().expect("a number")) * 100_000_000),
    };
    let fields = |row: &Value| [1, 2, 3, 4, 5, 7, 8, 9, 10].map(|at| field(row, at));
    answer.as_array().expect("rows").iter().map(|row| (row[0].as_u64().expect("a time"), fields(row))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minutes_of_a_recorded_venue_are_equal_in_all_nine_fields() {
    clock!(CLOCK, read);
    let (Some(trades), Some(minutes)) = (
        shared_file("data/binance/usdm_btcusdt_20240808.gz"),
        shared_file("data/klines/binance_um_BTCUSDT_1m_20240808T2354_20240809T0004.csv"),
    ) else {
        return;
    };
    let prints: Vec<Print> = gzip_lines(&trades)
        .filter(|line| line.contains(r#""e":"trade""#))
        .map(|line| {
            let (_, json) = line.split_once(' ').expect("a time before it");
            let trade = &serde_json::from_str::<Value>(json).expect("JSON")["data"];
            let decimal = |key: &str| eight_decimals(trade[key].as_str().expect("a decimal"));
            Print {
                time: Time(trade["T"].as_u64().expect("a time") * 1_000),
                price: decimal("p"),
                quantity: decimal("q"),
                taker_buys: trade["m"] == false,
            }
        })
        .collect();
    // Before the first command: the time of commands never goes back.
    CLOCK.store(prints[0].time.0, Ordering::SeqCst);
    let server = Server::with(&market("0.1", "0.001"), |config| config.journal.clock = Some(read)).await;
    replay(&server.app(), &CLOCK, &prints).await;
    let mut equal = 0;
    let text = std::fs::read_to_string(minutes).expect("text");
    let server = {
        // In memory first, then after a restart, from history.
        compare_minutes(&server, &text, &prints, &mut equal).await;
        server.restart(|config| config.journal.clock = Some(read)).await
    };
    compare_minutes(&server, &text, &prints, &mut equal).await;
    println!("{} trades: {} whole minutes equal, twice", prints.len(), equal / 2);
    assert_eq!(equal, 10);
    server.stop().await;
}

async fn compare_minutes(server: &Server, text: &str, prints: &[Print], equal: &mut usize) {
    let (first, last) = (prints[0].time.millis(), prints[prints.len() - 1].time.millis());
    for line in text.lines().skip(1) {
        let columns: Vec<&str> = line.split(',').collect();
        let open: u64 = columns[0].parse().expect("a time");
        if open < first || open + 59_000 > last {
            continue; // not recorded whole
        }
        let fields = [1, 2, 3, 4, 5, 7, 8, 9, 10].map(|at: usize| eight_decimals(columns[at]));
        assert_eq!(rows(server, "1m", open, open).await, [(open, fields)]);
        *equal += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minutes_that_another_program_built_of_recorded_trades_are_equal() {
    clock!(CLOCK, read);
    let file = |name: &str| shared_file(&format!("data/klines/freqtrade_XRP_ETH_{name}.csv.gz"));
    let (Some(trades), Some(minutes), Some(fives)) = (file("trades"), file("1m"), file("5m")) else { return };
    let prints: Vec<Print> = gzip_lines(&trades)
        .skip(1)
        .map(|line| {
            let columns: Vec<&str> = line.split(',').collect();
            Print {
                time: Time(columns[0].parse::<u64>().expect("a time") * 1_000),
                price: eight_decimals(columns[3]),
                quantity: eight_decimals(columns[4]),
                taker_buys: columns[2] == "buy",
            }
        })
        .collect();
    // Before the first command: the time of commands never goes back.
    CLOCK.store(prints[0].time.0, Ordering::SeqCst);
    let server = Server::with(&market("0.00000001", "1"), |config| config.journal.clock = Some(read)).await;
    replay(&server.app(), &CLOCK, &prints).await;
    for (path, interval, minutes) in [(minutes, "1m", 1), (fives, "5m", 5)] {
        let mut equal = 0;
        // That program leaves empty ones out; here they are flat.
        let theirs: Vec<String> = gzip_lines(&path).skip(1).collect();
        for page in theirs.chunks(200) {
            let open =
                |line: &String| line.split(',').next().and_then(|time| time.parse::<u64>().ok()).expect("a time");
            let (from, to) = (open(&page[0]), open(&page[page.len() - 1]));
            let mut ours = Vec::new();
            let mut at = from;
            while at <= to {
                ours.extend(rows(&server, interval, at, to.min(at + 999 * minutes * 60_000)).await);
                at += 1_000 * minutes * 60_000;
            }
            let mut ours = ours.into_iter().filter(|(_, fields)| fields[6] != Amount(0));
            for line in page {
                let fields: Vec<Amount> = line.split(',').skip(1).map(eight_decimals).collect();
                let (ours, found) = ours.next().expect("as many as theirs");
                assert_eq!((ours, &found[..5]), (open(line), &fields[..]), "{interval}");
                equal += 1;
            }
            assert_eq!(ours.next(), None);
        }
        println!("{interval}: {equal} of {} equal", theirs.len());
        assert_eq!(equal, if minutes == 1 { 2_469 } else { 706 });
    }
    server.stop().await;
}

fn import(data: &Path, grain: Grain, now: Time, candles: &[Candle]) -> Result<(), RecoveryError> {
    let order = CandleImport {
        symbol: "BTCUSDT".to_owned(),
        grain,
        time: now,
        operator: "ann".to_owned(),
        reason: "a test".to_owned(),
        source: "candles".to_owned(),
    };
    recovery::import_candles(data, &order, |_| Ok(candles.iter().map(|candle| Ok(*candle))), &mut ()).map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_seconds_that_are_imported_roll_up_to_the_recorded_minutes() {
    let days = ["20161007", "20161008", "20161009"];
    let file = |kind: &str, day: &str| shared_file(&format!("data/klines/lean_coinbase_btcusd_{kind}_{day}_trade.zip"));
    let Some(files) =
        days.iter().map(|day| Some((file("second", day)?, file("minute", day)?))).collect::<Option<Vec<_>>>()
    else {
        return;
    };
    let of = |line: &str, day: usize, grain: Grain| {
        let columns: Vec<&str> = line.trim().split(',').collect();
        let midnight = 1_475_798_400_000_000 + day as u64 * DAY; // 2016-10-07
        let open_time = Time(midnight + columns[0].parse::<u64>().expect("a time") * 1_000);
        let price = |at: usize| Price(u64::try_from(eight_decimals(columns[at]).0 / 1_000_000).expect("it fits"));
        Candle {
            high: price(2),
            low: price(3),
            close: price(4),
            volume: eight_decimals(columns[5]),
            trade_count: 1,
            ..Candle::flat(open_time, grain.end(open_time), price(1))
        }
    };
    let read = |path: &Path, day: usize, grain: Grain| -> Vec<Candle> {
        zip_lines(path, ".csv").iter().map(|line| of(line, day, grain)).collect()
    };
    let parts = files.iter().enumerate();
    let seconds: Vec<Candle> = parts.clone().flat_map(|(day, (path, _))| read(path, day, Grain::Second)).collect();
    let minutes: Vec<Candle> = parts.flat_map(|(day, (_, path))| read(path, day, Grain::Minute)).collect();
    let server = Server::with(&market("0.01", "0.001"), |_| {}).await;
    let folder = server.stop_only().await;
    import(folder.path(), Grain::Second, Time(BEGIN), &seconds).expect("it is all before the first trade");
    let server = Server::on(folder, |_| {}).await;
    let mut equal = 0;
    for minute in &minutes {
        let ms = minute.open_time.millis();
        let found = rows(&server, "1m", ms, ms).await;
        let (open, [o, h, l, c, volume, ..]) = found[0];
        let prices = [minute.open, minute.high, minute.low, minute.close].map(|p| Amount(u128::from(p.0) * 1_000_000));
        assert_eq!((open, [o, h, l, c]), (ms, prices));
        assert!(volume.0.abs_diff(minute.volume.0) < 2, "the source rounded each second: {volume:?} {minute:?}");
        equal += 1;
    }
    println!("{} seconds: {equal} of {} minutes equal", seconds.len(), minutes.len());
    assert_eq!(equal, 4_216);
    server.stop().await;
}

// Generated flow, and what anyone would make of the list of its trades.

/// Compares every candle of every interval in several time zones with the oracle; how many there were.
async fn compare_candles(app: &App, trades: &[Traded], label: &str) -> [u64; 2] {
    let until = Time(trades[trades.len() - 1].time.0 + HOUR);
    let mut compared = [0; 2];
    for interval in Interval::ALL.into_iter().skip(1) {
        for zone in ZONES {
            let offset = Offset::parse(zone).expect("a time zone");
            let mut expected = candle_oracle::candles(trades, interval, offset, until);
            let mut start = Time(0);
            loop {
                let query = Query { interval, offset, start: Some(start), end: until, limit: 1_000 };
                let found = read_both(app, &query, &mut compared, label).await;
                for candle in &found {
                    assert_eq!(Some(*candle), expected.next(), "{label} {query:?}");
                }
                let Some(last) = found.last() else { break };
                start = last.end_time;
            }
            assert_eq!(expected.next(), None, "{label} {interval:?} {zone}");
            let query = Query { interval, offset, start: None, end: until, limit: 7 };
            let last = app.outlets.klines.candles(SYMBOL, &query).expect("the last ones are in memory");
            assert_eq!(last, read_both(app, &query, &mut compared, label).await, "{label} {query:?}");
        }
    }
    // Seconds are too many for all of them: pages of them, from one to all the way.
    let pages = (trades.len() / 1_000).clamp(60, 2_000);
    for page in 0..pages {
        let start = Grain::Second.floor(trades[page * trades.len() / pages].time);
        let (interval, offset) = (Interval::Second1, Offset::UTC);
        let query = Query { interval, offset, start: Some(start), end: until, limit: 1_000 };
        let found = read_both(app, &query, &mut compared, label).await;
        let expected: Vec<Candle> =
            candle_oracle::candles_from(trades, interval, offset, start, until).take(1_000).collect();
        assert!(found == expected, "{label} {query:?}");
    }
    compared
}

/// What history has, and that memory, where it reaches so far, has the same.
async fn read_both(app: &App, query: &Query, compared: &mut [u64; 2], label: &str) -> Vec<Candle> {
    let stored = history(app, |reader| klines::read(reader, query)).await;
    compared[0] += stored.len() as u64;
    if let Some(recent) = app.outlets.klines.candles(SYMBOL, query) {
        compared[1] += recent.len() as u64;
        assert!(recent == stored, "{label} {query:?}");
    }
    stored
}

/// Compares the tickers and the average price at one moment.
fn compare_tickers(app: &App, trades: &[Traded], now: Time, label: &str) {
    let views = &app.outlets.views;
    let check = |name: &str, ticker: Ticker, start: Time| {
        let (before, inside) = candle_oracle::since(trades, start);
        let last = trades[trades.len() - 1];
        let sum = candle_oracle::candle(inside, start, now, last.price);
        assert_eq!(ticker.sum, sum, "{label} {name}");
        assert_eq!(ticker.previous_close, before.last().map_or(sum.open, |trade| trade.price), "{label} {name}");
        assert_eq!(ticker.weighted_average, candle_oracle::average(inside).unwrap_or(Amount(0)), "{label} {name}");
        assert_eq!(ticker.last_quantity.0 * LOT, last.base, "{label} {name}");
        assert_eq!(ticker.change_ticks(), i128::from(sum.close.0) - i128::from(sum.open.0), "{label} {name}");
    };
    let back = |length: u64, grain: Grain| grain.floor(Time(now.0 - length));
    check("24hr", views.ticker_24h(SYMBOL, now), back(DAY, Grain::Second));
    for (name, window) in [("1m", MINUTE), ("59m", 59 * MINUTE), ("1h", HOUR), ("23h", 23 * HOUR), ("7d", 7 * DAY)] {
        check(name, views.rolling(SYMBOL, window, now), back(window, Grain::Minute));
    }
    for zone in ZONES {
        let start = Interval::Day1.open_time(now, Offset::parse(zone).expect("a time zone"));
        check(zone, views.ticker_since(SYMBOL, start, now), start);
    }
    let (before, inside) = candle_oracle::since(trades, back(5 * MINUTE, Grain::Second));
    let last = inside.last().or(before.last()).expect("there were trades");
    let price = candle_oracle::average(inside).unwrap_or(Amount(u128::from(last.price.0) * 1_000_000));
    let average = views.average_price(SYMBOL, now);
    assert_eq!((average.price, average.last_trade_time), (price, last.time), "{label}");
}

fn ids(answer: &Value, key: &str) -> Vec<u64> {
    answer.as_array().expect("rows").iter().map(|row| row[key].as_u64().expect("an id")).collect()
}

/// Asks for trades and aggregate trades of the past by id and by time.
async fn compare_lists(server: &Server, trades: &[Traded], random: &mut StdRng, label: &str) {
    let aggregates: Vec<&[Traded]> = trades.chunk_by(|a, b| a.aggregate_id == b.aggregate_id).collect();
    for _ in 0..40 {
        let limit = random.random_range(1..=1_000_usize);
        let at = random.random_range(0..trades.len());
        let from = trades[at].id;
        let target = format!("/api/v3/historicalTrades?symbol=BTCUSDT&fromId={from}&limit={limit}");
        let answer = server.get(&target).await.good();
        let expected = &trades[at..trades.len().min(at + limit)];
        let wanted: Vec<u64> = expected.iter().map(|trade| trade.id).collect();
        assert_eq!(ids(&answer, "id"), wanted, "{label} {target}");
        for (row, trade) in answer.as_array().expect("rows").iter().zip(expected) {
            let decimal = |key: &str| eight_decimals(row[key].as_str().expect("a decimal")).0;
            let found = (decimal("price"), decimal("qty"), decimal("quoteQty"));
            assert_eq!(found, (u128::from(trade.price.0) * 1_000_000, trade.base.into(), trade.quote.into()));
            assert_eq!(
                (row["time"].as_u64(), row["isBuyerMaker"] == true),
                (Some(trade.time.millis()), !trade.taker_buys)
            );
        }
        let (ms, span) = (trades[at].time.millis(), random.random_range(0..3 * HOUR / 1_000));
        // All trades of an aggregate have one time; milliseconds include all of theirs.
        let from = |first: u64| aggregates.partition_point(|part| part[0].time.millis() < first);
        let (first, after) = (from(ms), from(ms + span + 1));
        let id = trades[at].aggregate_id;
        let queries = [
            (
                format!("fromId={id}"),
                aggregates.partition_point(|part| part[0].aggregate_id < id),
                aggregates.len(),
                false,
            ),
            (format!("startTime={ms}"), first, aggregates.len(), false),
            (format!("startTime={ms}&endTime={}", ms + span), first, after, false),
            (format!("endTime={}", ms + span), 0, after, true),
            (String::new(), 0, aggregates.len(), true),
        ];
        for (query, low, high, is_latest) in queries {
            let target = format!("/api/v3/aggTrades?symbol=BTCUSDT&limit={limit}&{query}");
            let answer = server.get(target.trim_end_matches('&')).await.good();
            let wanted = if is_latest {
                &aggregates[high.saturating_sub(limit)..high]
            } else {
                &aggregates[low..high.min(low + limit)]
            };
            let wanted_ids: Vec<u64> = wanted.iter().map(|part| part[0].aggregate_id).collect();
            assert_eq!(ids(&answer, "a"), wanted_ids, "{label} {target}");
            for (row, part) in answer.as_array().expect("rows").iter().zip(wanted) {
                let quantity: u128 = part.iter().map(|trade| u128::from(trade.base)).sum();
                assert_eq!(eight_decimals(row["q"].as_str().expect("a decimal")).0, quantity, "{label} {target}");
                assert_eq!((row["f"].as_u64(), row["l"].as_u64()), (Some(part[0].id), part.last().map(|last| last.id)));
            }
        }
    }
}

fn verify(data: &Path) {
    let found = recovery::verify(data, &mut ()).expect("it can be looked at");
    assert!(found.damages.is_empty(), "{:?}", found.damages);
}

/// Sized by RIALTO_KLINE_TRADES: a day of a busy venue is ten million. The captures' test is the one above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candles_tickers_and_trades_of_the_past_equal_those_of_the_list_of_trades_after_restart_and_rebuild_too() {
    clock!(CLOCK, read);
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let count: u64 = std::env::var("RIALTO_KLINE_TRADES").map_or(40_000, |count| count.parse().expect("a number"));
    let settings = |config: &mut gateway::config::Config| {
        config.journal.clock = Some(read);
        // These days are long ago.
        config.journal.kline_second_days = 0;
    };
    let mut server = Server::with(&market("0.01", "0.00001"), settings).await;
    // Some sixty gaps: weeks go by.
    let mut flow = Flow::new(seed, (count / 100 / 60).max(1));
    let began = Instant::now();
    // One part is slow, so that many minutes are empty too.
    for (part, step) in [(count / 4, SECOND / 2), (count.min(200_000) / 8, 20 * SECOND), (count - count / 4, SECOND)] {
        flow.run(&server.app(), &CLOCK, part, step).await;
        let trades = all_trades(&server.app()).await;
        assert_eq!(trades.len() as u64, flow.made, "seed {seed}: no trade is left out");
        for _ in 0..4 {
            let now = Time(CLOCK.load(Ordering::SeqCst).max(trades[trades.len() - 1].time.0));
            CLOCK.store(now.0 + random.random_range(0..2 * MINUTE), Ordering::SeqCst);
            compare_tickers(&server.app(), &trades, now, &format!("seed {seed}"));
        }
        compare_lists(&server, &trades, &mut random, &format!("seed {seed}")).await;
    }
    let made = began.elapsed();
    let trades = all_trades(&server.app()).await;
    let (first, last) = (trades[0].time, trades[trades.len() - 1].time);
    println!("{} trades over {} hours in {made:.1?}", trades.len(), (last.0 - first.0) / HOUR);
    for round in ["live", "restarted", "rebuilt"] {
        let label = format!("seed {seed} {round}");
        let began = Instant::now();
        match round {
            "live" => {}
            "restarted" => server = server.restart(settings).await,
            _ => {
                let folder = server.stop_only().await;
                verify(folder.path());
                let report = recovery::rebuild_history(folder.path(), &mut ()).expect("the log is whole");
                assert!(report.end.0 > Sequence(0));
                verify(folder.path());
                server = Server::on(folder, settings).await;
            }
        }
        let ready = began.elapsed();
        let app = server.app();
        let [stored, recent] = compare_candles(&app, &trades, &label).await;
        assert!(stored > 0 && recent > 0);
        let now = Time(trades[trades.len() - 1].time.0 + random.random_range(0..2 * MINUTE));
        compare_tickers(&app, &trades, now, &label);
        compare_lists(&server, &trades, &mut random, &label).await;
        println!(
            "{round}: {stored} candles equal from history, {recent} of them from memory too; ready in {ready:.1?}, compared in {:.1?}",
            began.elapsed() - ready
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imported_candles_stand_before_the_first_trade_and_outlive_restart_and_rebuild() {
    clock!(CLOCK, read);
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let settings = |config: &mut gateway::config::Config| {
        config.journal.clock = Some(read);
        // These days are long ago.
        config.journal.kline_second_days = 0;
    };
    let server = Server::with(&market("0.01", "0.00001"), settings).await;
    CLOCK.store(BEGIN + 7 * HOUR + 30 * SECOND, Ordering::SeqCst);
    Flow::new(seed, 20).run(&server.app(), &CLOCK, 3_000, 10 * SECOND).await;
    let trades = all_trades(&server.app()).await;
    let folder = server.stop_only().await;
    let candle = |open: u64, grain: Grain, random: &mut StdRng| {
        let price = random.random_range(100..1_000);
        let volume = Amount(random.random_range(0..1_000));
        let flat = Candle::flat(Time(open), grain.end(Time(open)), Price(price));
        if volume.is_zero() { flat } else { Candle { high: Price(price + 7), volume, trade_count: 3, ..flat } }
    };
    // Days, then minutes up to the one before the first trade.
    let begin = BEGIN - 3 * DAY;
    let end = Grain::Minute.floor(trades[0].time).0;
    let days: Vec<Candle> = (1..40).rev().map(|back| candle(begin - back * DAY, Grain::Day, &mut random)).collect();
    let minutes: Vec<Candle> =
        (begin..end).step_by(MINUTE as usize).map(|open| candle(open, Grain::Minute, &mut random)).collect();
    let now = Time(BEGIN + 30 * DAY);
    let overlapping: Vec<Candle> = (0..2).map(|at| candle(end + at * MINUTE, Grain::Minute, &mut random)).collect();
    let refused = |grain: Grain, candles: &[Candle], what: &str| {
        let error = import(folder.path(), grain, now, candles).expect_err("it is refused").to_string();
        assert!(error.contains(what), "{error}");
    };
    refused(Grain::Minute, &overlapping, "first trade");
    refused(Grain::Minute, &[minutes[1], minutes[0]], "later");
    refused(Grain::Hour, &minutes[1..2], "length");
    refused(Grain::Minute, &[], "no candles");
    import(folder.path(), Grain::Minute, now, &minutes).expect("it goes");
    refused(Grain::Minute, &minutes[5..9], "already");
    import(folder.path(), Grain::Day, now, &days).expect("it goes");
    refused(Grain::Second, &[candle(begin - 50 * DAY, Grain::Second, &mut random)], "longer candles cannot follow");
    verify(folder.path());
    assert_eq!(recovery::candle_imports(folder.path()).expect("they can be read").len(), 2);

    let mut folder = Some(folder);
    for rebuilt in [false, true] {
        let folder_now = folder.take().expect("it is there");
        if rebuilt {
            recovery::rebuild_history(folder_now.path(), &mut ()).expect("the log is whole");
            verify(folder_now.path());
            assert_eq!(recovery::candle_imports(folder_now.path()).expect("they can be read").len(), 2);
        }
        let server = Server::on(folder_now, settings).await;
        let app = server.app();
        for interval in [
            Interval::Minute1,
            Interval::Minute15,
            Interval::Hour1,
            Interval::Hour4,
            Interval::Day1,
            Interval::Week1,
            Interval::Month1,
        ] {
            let offset = Offset::UTC;
            let until = trades[trades.len() - 1].time;
            // What is longer than hours reaches back to the days, the others to the minutes.
            let imported =
                if interval >= Interval::Day1 { [&days[..], &minutes[..]].concat() } else { minutes.clone() };
            let traded = candle_oracle::candles(&trades, Interval::Minute1, offset, until);
            let mut expected = Vec::<Candle>::new();
            for part in imported.into_iter().chain(traded) {
                match expected.last_mut() {
                    Some(last) if part.open_time < last.end_time => last.extend(&part),
                    _ => expected.push(Candle {
                        open_time: interval.open_time(part.open_time, offset),
                        end_time: interval.next_open_time(part.open_time, offset),
                        ..part
                    }),
                }
            }
            // Empty ones are flat at the close before.
            let mut close = expected.iter().find(|candle| !candle.is_empty()).expect("not all are empty").open;
            let first = expected.iter().position(|candle| !candle.is_empty()).expect("not all are empty");
            for candle in &mut expected[first..] {
                if candle.is_empty() {
                    *candle = Candle::flat(candle.open_time, candle.end_time, close);
                }
                close = candle.close;
            }
            let query = Query { interval, offset, start: Some(Time(0)), end: until, limit: usize::MAX };
            let found = history(&app, |reader| klines::read(reader, &query)).await;
            let last_first = Query { start: None, limit: 500, ..query };
            let recent = app.outlets.klines.candles(SYMBOL, &last_first).expect("memory reaches so far");
            assert!(found == expected[first..], "seed {seed} {interval:?} rebuilt {rebuilt}");
            assert!(recent == found[found.len().saturating_sub(500)..], "seed {seed} {interval:?} rebuilt {rebuilt}");
        }
        let month = server.get("/api/v3/klines?symbol=BTCUSDT&interval=1M&startTime=0&limit=1").await.good();
        assert_eq!(month[0][0].as_u64(), Some(1_698_796_800_000), "November 2023: {month}");
        folder = Some(server.stop_only().await);
    }
}
