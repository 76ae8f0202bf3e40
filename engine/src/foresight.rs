//! Looking ahead: who holds a batch of commands lets the engine fetch what the next ones will touch while it decides the
//! present one. In a large exchange nearly all of a command's time is spent waiting for memory, one line after the other,
//! because each tells where the next one is; a batch can wait for the lines of several commands at once.
//!
//! A command is looked at four times, a few commands apart, each time one step further along its chain: by then the line
//! of the step before has come. Nothing here changes or decides anything, and a wrong guess costs a line that is not used.

use crate::account::Accounts;
use crate::book::{Ladder, Slot};
use crate::command::{Command, PlaceOrder, Placing};
use crate::engine::Engine;
use crate::market::Market;
use crate::order::Side;
use crate::trader::TraderIndex;
use crate::units::{Amount, OrderId, SymbolId};

/// How many commands before its turn a command is looked at for each step.
const STEPS: [usize; 4] = [12, 9, 6, 3];

/// Up to so many open orders a processor keeps near by itself, and looking ahead would only cost.
const SMALL: usize = 8_000;
/// So many balances take as much room near it as an order with its name, its level and its links.
const BALANCES_OF_ORDER: usize = 4;
/// And up to so many names that are remembered.
const FEW_USES: usize = 8 * SMALL;
/// After how many commands that is asked anew.
const INTERVAL: u64 = 1_024;

/// What is known by now of commands that come soon. A place is a command's by how many come after it, so it is the same at every
/// step; what stands there from before is told by its key.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Guesses([Guess; GUESSES]);

/// More than the highest step, and a power of two.
const GUESSES: usize = 16;

#[derive(Clone, Copy, Debug, Default)]
struct Guess {
    /// Where, and the uid of a new order, the number of an open one: the guess is of no other command.
    key: (SymbolId, u64),
    /// The place of the trader or the order in that book, if it is known there.
    place: Option<u32>,
}

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
    pub fn foresee(&mut self, upcoming: &[Command]) {
        if self.is_large {
            self.look_ahead(upcoming);
        }
        if self.uses.len() > FEW_USES
            && let Some(Command::Once(once)) = upcoming.get(STEPS[0])
        {
            self.uses.prefetch(once.key, STEPS[0]);
        }
    }

    /// Whether looking ahead pays is asked now and then.
    #[inline]
    pub(crate) fn measure(&mut self) {
        if self.sequence.0.is_multiple_of(INTERVAL) {
            let orders: usize = self.markets.iter().map(|market| market.book.len()).sum();
            self.is_large = orders + self.floor.accounts.count() / BALANCES_OF_ORDER > SMALL;
        }
    }

    fn look_ahead(&mut self, upcoming: &[Command]) {
        self.look::<0>(upcoming);
        self.look::<1>(upcoming);
        self.look::<2>(upcoming);
        self.look::<3>(upcoming);
    }

    #[inline(always)]
    fn look<const STEP: usize>(&mut self, upcoming: &[Command]) {
        let Engine { markets, floor, guesses, .. } = self;
        let ahead = STEPS[STEP];
        let Some((symbol, target)) = upcoming.get(ahead).and_then(target) else { return };
        let Some(market) = markets.get(symbol.0 as usize) else { return };
        let guess = &mut guesses.0[(upcoming.len() - ahead) % GUESSES];
        match target {
            Target::New(place) => market.foresee_new::<STEP>(place, guess, &floor.accounts),
            Target::Open(order_id, price) => market.foresee_open::<STEP>(order_id, price, guess, &floor.accounts),
        }
    }
}

/// What a command will touch, where that can be told beforehand; of rare commands it is not asked.
#[inline(always)]
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
    /// One step along the chain of what a new order will touch.
    #[inline(always)]
    fn foresee_new<const STEP: usize>(&self, place: &PlaceOrder, guess: &mut Guess, accounts: &Accounts) {
        let (book, uid) = (&self.book, place.uid);
        match STEP {
            0 => {
                book.traders.prefetch_index(uid);
                book.prefetch_name(uid, place.client_order_id);
            }
            1 => {
                *guess = Guess { key: (place.symbol, uid.0), place: book.traders.prefetch(uid) };
                if guess.place.is_none() {
                    accounts.prefetch_index(uid);
                }
            }
            2 if guess.key == (place.symbol, uid.0) => match guess.place {
                None => accounts.prefetch_account(uid),
                Some(trader) => {
                    let trader = book.traders.at(TraderIndex(trader));
                    accounts.prefetch(trader.pays_from(place.side));
                    book.prefetch_order(trader.last_order);
                }
            },
            3 => self.foresee_level(place.side, place.price),
            _ => {}
        }
    }

    /// The same of an open order.
    #[inline(always)]
    fn foresee_open<const STEP: usize>(
        &self,
        order_id: OrderId,
        price: Option<Amount>,
        guess: &mut Guess,
        accounts: &Accounts,
    ) {
        let book = &self.book;
        if STEP == 0 {
            return book.prefetch_number(order_id);
        }
        if STEP == 1 {
            let slot = book.by_number(order_id);
            *guess = Guess { key: (self.symbol.id, order_id.0), place: slot.map(|slot| slot.place() as u32) };
            if let Some(slot) = slot {
                book.prefetch(slot);
            }
            return;
        }
        // What stands at the place by now may be another order, or none: a line that is not used, no more.
        let Some(slot) = guess.place.filter(|_| guess.key == (self.symbol.id, order_id.0)).map(Slot::at_place) else {
            return;
        };
        if STEP == 2 {
            return book.prefetch_around(slot);
        }
        let side = book.side(slot);
        accounts.prefetch(book.traders.at(book.trader_of(slot)).pays_from(side));
        if let Some(price) = price {
            self.foresee_level(side, price);
        }
    }

    #[inline]
    fn foresee_level(&self, side: Side, price: Amount) {
        if let Some(price) = self.gate.price(price) {
            self.book.prefetch_last_at(Ladder::of(side), price);
        }
    }
}
