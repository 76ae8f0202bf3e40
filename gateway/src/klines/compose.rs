//! Candles of every interval and time zone, put together from those that are kept, wherever these are kept.

use engine::{Price, Time};
use journal::{Candle, Grain};

use super::interval::{Interval, Offset};

/// Where candles are kept: in order of time, those without trades left out.
pub(super) trait Source {
    /// Why it cannot say.
    type Error;

    /// Shows `visit` the candles that begin from `from` on and before `to`.
    fn between(&self, grain: Grain, from: Time, to: Time, visit: &mut dyn FnMut(&Candle)) -> Result<(), Self::Error>;

    /// The last candle that begins before `time`.
    fn before(&self, grain: Grain, time: Time) -> Result<Option<Candle>, Self::Error>;

    /// When the first candle begins.
    fn begin(&self, grain: Grain) -> Result<Option<Time>, Self::Error>;
}

/// Which candles are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Of which length.
    pub interval: Interval,
    /// In which time zone.
    pub offset: Offset,
    /// The first begins then or later. Without it, the last ones are asked for.
    pub start: Option<Time>,
    /// None begins after it.
    pub end: Time,
    /// How many at the most.
    pub limit: usize,
}

/// The candles that are asked for, with the empty ones between them and after the last: flat at the close before.
pub(super) fn candles<S: Source>(source: &S, query: &Query) -> Result<Vec<Candle>, S::Error> {
    let Query { interval, offset, end, limit, .. } = *query;
    let grain = interval.grain(offset);
    let Some(first) = first_open_time(source, interval, offset)? else { return Ok(Vec::new()) };
    let from = match query.start {
        // The first that does not begin before the start.
        Some(start) => match interval.open_time(start, offset) {
            open if open >= start => open,
            _ => interval.next_open_time(start, offset),
        },
        None => interval.earlier_open_time(end, offset, limit.saturating_sub(1)),
    };
    let mut grid = Vec::new();
    let mut open_time = from.max(first);
    while open_time <= end && grid.len() < limit {
        let end_time = interval.next_open_time(open_time, offset);
        if end_time <= open_time {
            break; // the end of time
        }
        grid.push(Candle::flat(open_time, end_time, Price(0)));
        open_time = end_time;
    }
    let Some(first) = grid.first() else { return Ok(grid) };
    let close_before = close_before(source, grain, first.open_time)?;
    let mut at = 0;
    for run in runs(&grid, grain) {
        source.between(run.grain, run.from, run.to, &mut |part| {
            while grid.get(at).is_some_and(|candle| candle.end_time <= part.open_time) {
                at += 1;
            }
            if let Some(candle) = grid.get_mut(at) {
                candle.extend(part);
            }
        })?;
    }
    Ok(flatten(grid, close_before))
}

/// Gives the empty ones the close before them; those before which nothing is known are left out.
fn flatten(grid: Vec<Candle>, mut close: Option<Price>) -> Vec<Candle> {
    let fill = |candle: Candle| {
        let candle = if candle.is_empty() { Candle::flat(candle.open_time, candle.end_time, close?) } else { candle };
        close = Some(candle.close);
        Some(candle)
    };
    grid.into_iter().filter_map(fill).collect()
}

/// When the first candle of an interval begins that is known whole.
fn first_open_time<S: Source>(source: &S, interval: Interval, offset: Offset) -> Result<Option<Time>, S::Error> {
    let grain = interval.grain(offset);
    let Some(begin) = source.begin(grain)? else { return Ok(None) };
    let open = interval.open_time(begin, offset);
    if open >= begin {
        return Ok(Some(open));
    }
    // Shorter candles may be kept for less long than days: then the one that holds the first of them lacks some.
    let is_cut = source.begin(Grain::Day)?.is_some_and(|day| day < Grain::Day.floor(begin));
    Ok(Some(if is_cut { interval.next_open_time(begin, offset) } else { open }))
}

/// The last price before `time`, at which a candle of `grain` begins.
fn close_before<S: Source>(source: &S, grain: Grain, time: Time) -> Result<Option<Price>, S::Error> {
    if let Some(candle) = source.before(grain, time)? {
        return Ok(Some(candle.close));
    }
    if grain != Grain::Second {
        return Ok(None);
    }
    Ok(source.before(Grain::Minute, Grain::Minute.floor(time))?.map(|candle| candle.close))
}

/// A stretch of time that is read from candles of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    grain: Grain,
    from: Time,
    to: Time,
}

/// How a grid of candles is read: each from the longest candles that fit into it, what is left at its ends from shorter ones.
fn runs(grid: &[Candle], grain: Grain) -> Vec<Run> {
    let mut runs = Vec::<Run>::new();
    let mut add = |run: Run| match runs.last_mut() {
        _ if run.from >= run.to => {}
        Some(last) if last.grain == run.grain && last.to == run.from => last.to = run.to,
        _ => runs.push(run),
    };
    for candle in grid {
        split(candle.open_time, candle.end_time, grain, &mut add);
    }
    runs
}

/// Cuts a stretch that begins and ends with a candle of `grain`.
fn split(from: Time, to: Time, grain: Grain, add: &mut impl FnMut(Run)) {
    let longer = match grain {
        Grain::Minute => Some(Grain::Hour),
        Grain::Hour => Some(Grain::Day),
        // Seconds are asked for as they are; nothing is longer than days.
        Grain::Second | Grain::Day => None,
    };
    let Some(longer) = longer else { return add(Run { grain, from, to }) };
    let (first, last) = (longer.ceil(from), longer.floor(to));
    if first >= last {
        return add(Run { grain, from, to });
    }
    add(Run { grain, from, to: first });
    split(first, last, longer, add);
    add(Run { grain, from: last, to });
}

/// All that traded from the whole second `start` on, as one candle up to `now`, and the last price before it. `None` where
/// nothing ever traded.
pub(super) fn since<S: Source>(
    source: &S,
    start: Time,
    now: Time,
) -> Result<Option<(Candle, Option<Price>)>, S::Error> {
    let Some(last) = source.before(Grain::Day, Time(u64::MAX))? else { return Ok(None) };
    let mut sum = Candle::flat(start, now, last.close);
    let minute = Grain::Minute.ceil(start);
    let hour = Grain::Hour.ceil(minute);
    let parts = [(Grain::Second, start, minute), (Grain::Minute, minute, hour), (Grain::Hour, hour, Time(u64::MAX))];
    for (grain, from, to) in parts.into_iter().filter(|(_, from, to)| from < to) {
        source.between(grain, from, to, &mut |part| sum.extend(part))?;
    }
    let finest = if start == minute { Grain::Minute } else { Grain::Second };
    Ok(Some((sum, close_before(source, finest, start)?)))
}
