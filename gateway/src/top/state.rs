//! What is known and what is looked at. Nothing here touches the terminal or the network: keys and answers come in, what is to be
//! done goes out ([`super::keys`]), and [`super::screen`] paints it.

use std::cmp::Reverse;

use serde::Deserialize;

use super::overview::{Growth, Overview, Socket, Symbol};
use crate::admin::action::Action;

/// An answer that is older than this is not what is.
const STALE_AFTER_MS: u64 = 4_000;
/// How often the node is asked, unless told otherwise.
pub const INTERVAL_MS: u64 = 1_000;
/// The least and the most of it.
pub const INTERVALS_MS: std::ops::RangeInclusive<u64> = 200..=60_000;

/// What one pane shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Pane {
    Symbols,
    Stages,
    Sockets,
    Queues,
    Journal,
    Cluster,
    Rejects,
    Audit,
}

impl Pane {
    /// In the order of the Tab key.
    pub const ALL: [Pane; 8] = [
        Pane::Symbols,
        Pane::Stages,
        Pane::Sockets,
        Pane::Queues,
        Pane::Journal,
        Pane::Cluster,
        Pane::Rejects,
        Pane::Audit,
    ];

    /// What stands above it.
    pub fn title(self) -> &'static str {
        match self {
            Pane::Symbols => "Symbols",
            Pane::Stages => "Latency",
            Pane::Sockets => "Sockets",
            Pane::Queues => "Queues",
            Pane::Journal => "Journal",
            Pane::Cluster => "Cluster",
            Pane::Rejects => "Rejects",
            Pane::Audit => "Audit",
        }
    }
}

/// By what symbols are sorted; the most stand first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Sort {
    Name,
    Orders,
    Trades,
    Resting,
    LastTrade,
}

impl Sort {
    /// The next one.
    pub fn next(self) -> Sort {
        match self {
            Sort::Name => Sort::Orders,
            Sort::Orders => Sort::Trades,
            Sort::Trades => Sort::Resting,
            Sort::Resting => Sort::LastTrade,
            Sort::LastTrade => Sort::Name,
        }
    }

    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Sort::Name => "name",
            Sort::Orders => "orders/s",
            Sort::Trades => "trades/s",
            Sort::Resting => "resting orders",
            Sort::LastTrade => "last trade",
        }
    }
}

/// What is to be done once its name was typed.
#[derive(Clone, Debug)]
pub struct Deed {
    /// The question.
    pub title: String,
    /// What has to be typed.
    pub wanted: String,
    /// What is asked of the node then.
    pub action: Action,
    /// What is said once it is done.
    pub done: String,
}

/// What keys are taken for.
#[derive(Clone, Debug)]
pub enum Mode {
    /// Looking around.
    Watching,
    /// The filter is typed.
    Filtering,
    /// The interval is typed, in seconds.
    Interval(String),
    /// A deed waits for its name.
    Confirming(Box<Deed>, String),
    /// The list of keys is shown.
    Help,
}

/// A symbol's book and latest trades, as the public API tells them.
#[derive(Clone, Debug, Default)]
pub struct Market {
    /// Which one.
    pub symbol: String,
    /// The book.
    pub depth: Depth,
    /// The oldest first.
    pub trades: Vec<Trade>,
    /// Why there is none.
    pub trouble: Option<String>,
}

/// A book: price and quantity, the best first.
#[derive(Clone, Debug, Default, Deserialize)]
#[allow(missing_docs)]
pub struct Depth {
    pub bids: Vec<(String, String)>,
    pub asks: Vec<(String, String)>,
}

/// A trade.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Trade {
    pub price: String,
    pub qty: String,
    pub time: u64,
    pub is_buyer_maker: bool,
}

/// Everything that is shown, and how.
#[derive(Clone, Debug)]
pub struct State {
    /// Who is asked.
    pub address: String,
    /// The newest overview and the one before it.
    pub now: Overview,
    before: Option<Overview>,
    /// When the newest one came, by the clock of this machine.
    heard_ms: u64,
    /// Why the last question had no answer.
    pub trouble: Option<String>,
    /// The pane that has the keys.
    pub pane: Pane,
    /// By what symbols are sorted.
    pub sort: Sort,
    /// What stands in the names of the symbols that are shown, in capitals.
    pub filter: String,
    /// The symbol that keys are about.
    symbol: Option<String>,
    /// The websocket that keys are about.
    socket: Option<u64>,
    /// The row of any other pane that is in sight.
    pub row: usize,
    /// What keys are taken for.
    pub mode: Mode,
    /// Nothing is asked; what is shown stays.
    pub is_paused: bool,
    /// How often the node is asked.
    pub interval_ms: u64,
    /// The symbol that is opened.
    pub market: Option<Market>,
    /// What came of the last deed.
    pub said: String,
}

impl State {
    /// With the first overview, which came at `at_ms`.
    pub fn new(address: String, first: Overview, interval_ms: u64, at_ms: u64) -> State {
        State {
            address,
            now: first,
            before: None,
            heard_ms: at_ms,
            trouble: None,
            pane: Pane::Symbols,
            sort: Sort::Name,
            filter: String::new(),
            symbol: None,
            socket: None,
            row: 0,
            mode: Mode::Watching,
            is_paused: false,
            interval_ms,
            market: None,
            said: String::new(),
        }
    }

    /// An answer, or why there was none, at that time by the clock of this machine.
    pub fn hear(&mut self, heard: Result<Overview, String>, at_ms: u64) {
        match heard {
            Ok(overview) => {
                let elapsed = overview.time.checked_sub(self.now.time);
                let old = std::mem::replace(&mut self.now, overview);
                // Two that lie close together would say little of rates.
                if elapsed.is_none_or(|elapsed| elapsed >= self.interval_ms / 2) {
                    self.before = Some(old);
                }
                self.heard_ms = at_ms;
                self.trouble = None;
            }
            Err(why) => self.trouble = Some(why),
        }
    }

    /// What a symbol's book and trades are; those of one that is no longer open are late.
    pub fn hear_market(&mut self, market: Market) {
        if self.market.as_ref().is_some_and(|open| open.symbol == market.symbol) {
            self.market = Some(market);
        }
    }

    /// Since when what is shown may be out of date, by the clock of this machine.
    pub fn stale_since(&self, at_ms: u64) -> Option<u64> {
        let patience = STALE_AFTER_MS.max(3 * self.interval_ms);
        let is_late = at_ms.saturating_sub(self.heard_ms) > patience && !self.is_paused;
        (is_late || self.trouble.is_some()).then_some(self.heard_ms)
    }

    /// What grew since the overview before.
    pub fn growth(&self) -> Option<Growth<'_>> {
        Growth::between(self.before.as_ref()?, &self.now)
    }

    /// How much of something of a symbol there is a second, in tenths.
    pub fn symbol_rate(&self, name: &str, read: impl Fn(&Symbol) -> u64) -> Option<u64> {
        let of = |overview: &Overview| overview.symbols.iter().find(|it| it.symbol == name).map(&read);
        self.growth()?.tenths_per_second(of)
    }

    /// The symbols that are shown, in their order.
    pub fn symbols(&self) -> Vec<&Symbol> {
        let mut shown: Vec<&Symbol> = self.now.symbols.iter().filter(|it| it.symbol.contains(&self.filter)).collect();
        shown.sort_by(|one, other| one.symbol.cmp(&other.symbol));
        match self.sort {
            Sort::Name => {}
            Sort::Orders => shown.sort_by_cached_key(|it| Reverse(self.symbol_rate(&it.symbol, |it| it.orders))),
            Sort::Trades => shown.sort_by_cached_key(|it| Reverse(self.symbol_rate(&it.symbol, |it| it.trades))),
            Sort::Resting => shown.sort_by_key(|it| Reverse(it.resting_orders)),
            Sort::LastTrade => shown.sort_by_key(|it| it.last_trade_age_ms.unwrap_or(u64::MAX)),
        }
        shown
    }

    /// The symbol that keys are about, with its place among those shown; the first where the one chosen is not among them.
    pub fn chosen_symbol(&self) -> Option<(usize, &Symbol)> {
        let shown = self.symbols();
        let at = shown.iter().position(|it| Some(&it.symbol) == self.symbol.as_ref()).unwrap_or(0);
        shown.get(at).map(|symbol| (at, *symbol))
    }

    /// The websocket that keys are about, with its place; the first where the one chosen is gone.
    pub fn chosen_socket(&self) -> Option<(usize, &Socket)> {
        let shown = &self.now.sockets.slowest;
        let at = shown.iter().position(|it| Some(it.id) == self.socket).unwrap_or(0);
        shown.get(at).map(|socket| (at, socket))
    }

    /// Chooses what stands so many rows further down, or up.
    pub fn choose(&mut self, by: isize) {
        let moved = |at: usize, rows: usize| at.saturating_add_signed(by).min(rows.saturating_sub(1));
        match self.pane {
            Pane::Symbols => {
                let Some((at, _)) = self.chosen_symbol() else { return };
                let shown = self.symbols();
                self.symbol = shown.get(moved(at, shown.len())).map(|it| it.symbol.clone());
            }
            Pane::Sockets => {
                let Some((at, _)) = self.chosen_socket() else { return };
                let shown = &self.now.sockets.slowest;
                self.socket = shown.get(moved(at, shown.len())).map(|it| it.id);
            }
            pane => self.row = moved(self.row, self.rows(pane)),
        }
    }

    /// How many rows a pane has whose rows cannot be chosen.
    fn rows(&self, pane: Pane) -> usize {
        match pane {
            Pane::Symbols | Pane::Sockets | Pane::Journal => 0,
            Pane::Stages => self.now.stages.len(),
            Pane::Queues => self.now.threads.len() + self.now.queues.len(),
            Pane::Cluster => self.now.cluster.as_ref().map_or(0, |cluster| cluster.members.len()),
            Pane::Rejects => self.now.rejects.len(),
            Pane::Audit => self.now.audit.len(),
        }
    }

    /// The pane so many further.
    pub fn turn(&mut self, by: usize) {
        let at = Pane::ALL.iter().position(|pane| *pane == self.pane).unwrap_or(0);
        self.pane = Pane::ALL[(at + by) % Pane::ALL.len()];
        self.row = 0;
    }
}
