//! Looking ahead: who holds a batch of commands lets the engine fetch what the next ones will touch while it decides the
//! present one. In a large exchange nearly all of a command's time is spent waiting for memory, one line after the other,
//! because each tells where the next one is; a batch can wait for the lines of several commands at once.
//!
//! A command is looked at four times, a few commands apart, each time one step further along its chain: by then the line
//! of the step before has come. Nothing here changes or decides anything, and a wrong guess costs a line that is not used.

use crate::account::Accounts;
use crate::book::Ladder;
use crate::command::{Command, PlaceOrder, Placing};
use crate::engine::Engine;
use crate::market::Market;
use crate::order::Side;
use crate::units::{Amount, OrderId, SymbolId};

/// How many commands before its turn a command is looked at for each step.
const STEPS: [usize; 4] = [12, 9, 6, 3];

/// Up to so many open orders and balances a processor keeps near by itself, and looking ahead would only cost.
const SMALL: usize = 40_000;
/// After how many commands that is asked anew.
const INTERVAL: u64 = 1_024;

/// What a command will touch.
enum Target<'a> {
    /// What a new order does.
    New(&'a PlaceOrder),
    /// One open order, and the price it goes to.
    Open(OrderId, Option<Amount>),
}

impl Engine {
    /// Begin to fetch what the commands will touch that come soon; `upcoming` are those not yet applied, in order. For who
    /// holds a batch: called before each [`Engine::apply`]. Leaves no trace but in the processor's caches.
    #[inline]
    pub fn foresee(&self, upcoming: &[Command]) {
        if self.is_large {
            self.look_ahead(upcoming);
        }
    }

    /// Whether looking ahead pays is asked now and then.
    #[inline]
    pub(crate) fn measure(&mut self) {
        if self.sequence.0.is_multiple_of(INTERVAL) {
            let orders: usize = self.markets.iter().map(|market| market.book.len()).sum();
            self.is_large = orders + self.floor.accounts.count() > SMALL;
        }
    }

    fn look_ahead(&self, upcoming: &[Command]) {
        for (step, ahead) in STEPS.into_iter().enumerate() {
            let Some((symbol, target)) = upcoming.get(ahead).and_then(target) else { continue };
            let Some(market) = self.markets.get(symbol.0 as usize) else { continue };
            market.foresee(step, &target, &self.floor.accounts);
        }
    }
}

/// What a command will touch, where that can be told beforehand; of rare commands it is not asked.
fn target(command: &Command) -> Option<(SymbolId, Target<'_>)> {
    let mut price = None;
    let (symbol, order) = match command {
        Command::PlaceOrder(place) => return Some((place.symbol, Target::New(place))),
        Command::Once(once) => {
            let Placing::Order(place) = &once.placing else { return None };
            return Some((place.symbol, Target::New(place)));
        }
        Command::CancelOrder(cancel) => (cancel.symbol, cancel.order),
        Command::AmendOrder(amend) => (amend.symbol, amend.order),
        Command::ReduceOrder { symbol, order, .. } => (*symbol, *order),
        Command::ReplaceOrder(replace) => {
            price = replace.price;
            (replace.symbol, replace.order)
        }
        _ => return None,
    };
    order.order_id.map(|order_id| (symbol, Target::Open(order_id, price)))
}

impl Market {
    /// One step along the chain of what a command will touch.
    fn foresee(&self, step: usize, target: &Target, accounts: &Accounts) {
        let book = &self.book;
        match (step, target) {
            (0, Target::New(place)) => {
                book.traders.prefetch_index(place.uid);
                book.prefetch_name(place.uid, place.client_order_id);
            }
            (1, Target::New(place)) => {
                if !book.traders.prefetch(place.uid) {
                    accounts.prefetch_index(place.uid);
                }
            }
            (2, Target::New(place)) => {
                let Some(trader) = book.traders.find(place.uid) else { return accounts.prefetch_account(place.uid) };
                accounts.prefetch(book.traders.at(trader).pays_from(place.side));
                book.prefetch_last_of(trader);
            }
            (_, Target::New(place)) => self.foresee_level(place.side, place.price),
            (0, Target::Open(order_id, _)) => book.prefetch_number(*order_id),
            (_, Target::Open(order_id, price)) => {
                let Some(slot) = book.by_number(*order_id) else { return };
                match step {
                    1 => book.prefetch(slot),
                    2 => book.prefetch_around(slot),
                    _ => {
                        let side = book.side(slot);
                        accounts.prefetch(book.traders.at(book.trader_of(slot)).pays_from(side));
                        if let Some(price) = *price {
                            self.foresee_level(side, price);
                        }
                    }
                }
            }
        }
    }

    fn foresee_level(&self, side: Side, price: Amount) {
        if let Some(price) = self.symbol.scale.ticks(price) {
            self.book.prefetch_last_at(Ladder::of(side), price);
        }
    }
}
