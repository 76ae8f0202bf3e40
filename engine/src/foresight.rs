//! Looking ahead: who holds a batch of commands lets the engine fetch what the next ones will touch while it decides the
//! present one. In a large exchange nearly all of a command's time is spent waiting for memory, one line after the other,
//! because each tells where the next one is; a batch can wait for the lines of several commands at once.
//!
//! A command is looked at five times, a few commands apart, each time one step further along its chains: by then the lines of
//! the step before have come. What it asks is taken apart once. Nothing here changes or decides anything, and a wrong guess costs
//! a line that is not used.

use crate::account::Accounts;
use crate::book::{Ladder, Slot};
use crate::command::{Command, PlaceOrder, Placing};
use crate::engine::Engine;
use crate::market::Market;
use crate::order::Side;
use crate::trader::TraderIndex;
use crate::units::{Amount, OrderId, Price, Uid};

/// How many commands before its turn a command is looked at for each step.
const STEPS: [usize; 5] = [15, 12, 9, 6, 3];
/// More than the highest step, and a power of two.
const GUESSES: usize = 16;

/// Up to so many open orders a processor keeps near by itself, and looking ahead would only cost.
const SMALL: usize = 8_000;
/// So many balances take as much room near it as an order with its name, its level and its links.
const BALANCES_OF_ORDER: usize = 4;
/// And up to so many names that are remembered.
const FEW_USES: usize = 8 * SMALL;
/// After how many commands that is asked anew.
const INTERVAL: u64 = 1_024;

/// What is known by now of commands that come soon. A place is a command's by how many come after it, so it is the same at every
/// step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Guesses([Guess; GUESSES]);

/// What a command will touch, as far as is known by now.
#[derive(Clone, Copy, Debug, Default)]
enum Guess {
    /// That is not asked, or all of it is on its way.
    #[default]
    Nothing,
    /// What a new order does.
    New(NewGuess),
    /// What a command to an open order does.
    Open(OpenGuess),
}

#[derive(Clone, Copy, Debug)]
struct NewGuess {
    market: usize,
    uid: Uid,
    trader: Option<u32>,
    side: Side,
    goal: Goal,
    /// Whether it seems to trade at once.
    takes: bool,
}

#[derive(Clone, Copy, Debug)]
struct OpenGuess {
    market: usize,
    order_id: OrderId,
    slot: Option<Slot>,
    goal: Goal,
}

/// The end of the queue that an order goes to.
#[derive(Clone, Copy, Debug)]
struct Goal {
    price: Option<Price>,
    /// The place of the level there, once it is known.
    level: Option<u32>,
}

impl Engine {
    /// Begin to fetch what the commands will touch that come soon; `upcoming` are those not yet applied, in order. For who
    /// holds a batch: called before each [`Engine::apply`]. Leaves no trace but in the processor's caches.
    #[inline]
    pub fn foresee(&mut self, upcoming: &[Command]) {
        if self.floor.is_large {
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
            self.floor.is_large = orders + self.floor.accounts.count() / BALANCES_OF_ORDER > SMALL;
        }
    }

    fn look_ahead(&mut self, upcoming: &[Command]) {
        if let Some(command) = upcoming.get(STEPS[0]) {
            self.guesses.0[(upcoming.len() - STEPS[0]) % GUESSES] = Guess::of(command, &self.markets);
        }
        self.look::<1>(upcoming.len());
        self.look::<2>(upcoming.len());
        self.look::<3>(upcoming.len());
        self.look::<4>(upcoming.len());
    }

    /// One more step of the command whose turn for it is come; `left` commands are to be applied.
    #[inline(always)]
    fn look<const STEP: usize>(&mut self, left: usize) {
        let Engine { markets, floor, guesses, .. } = self;
        let Some(place) = left.checked_sub(STEPS[STEP]) else { return };
        let guess = &mut guesses.0[place % GUESSES];
        match guess {
            Guess::Nothing => {}
            Guess::New(new) => markets[new.market].foresee_new::<STEP>(new, &floor.accounts),
            Guess::Open(open) => markets[open.market].foresee_open::<STEP>(open, &floor.accounts),
        }
        if STEP + 1 == STEPS.len() {
            *guess = Guess::Nothing;
        }
    }
}

impl Guess {
    /// The first step: which command it is, and what is found by the numbers that stand in it. Rare commands are not looked at.
    #[inline(always)]
    fn of(command: &Command, markets: &[Market]) -> Guess {
        let mut price = None;
        let (symbol, order) = match command {
            Command::PlaceOrder(place) => return Guess::of_new(place, markets),
            Command::Once(once) => match &once.placing {
                Placing::Order(place) => return Guess::of_new(place, markets),
                _ => return Guess::Nothing,
            },
            Command::CancelOrder(cancel) => (cancel.symbol, cancel.order),
            Command::AmendOrder(amend) => (amend.symbol, amend.order),
            Command::ReduceOrder { symbol, order, .. } => (*symbol, *order),
            Command::ReplaceOrder(replace) => {
                price = replace.price;
                (replace.symbol, replace.order)
            }
            _ => return Guess::Nothing,
        };
        let at = symbol.0 as usize;
        let (Some(order_id), Some(market)) = (order.order_id, markets.get(at)) else { return Guess::Nothing };
        market.book.prefetch_number(order_id);
        Guess::Open(OpenGuess { market: at, order_id, slot: None, goal: market.goal(price) })
    }

    #[inline(always)]
    fn of_new(place: &PlaceOrder, markets: &[Market]) -> Guess {
        let (uid, side, at) = (place.uid, place.side, place.symbol.0 as usize);
        let Some(market) = markets.get(at) else { return Guess::Nothing };
        market.book.traders.prefetch_index(uid);
        market.book.prefetch_name(uid, place.client_order_id);
        let goal = market.goal(Some(place.price));
        let takes = place.order_type.is_market() || goal.price.is_some_and(|price| market.crosses(side, price));
        Guess::New(NewGuess { market: at, uid, trader: None, side, goal, takes })
    }
}

impl Market {
    /// One more step along the chain of what a new order will touch.
    #[inline(always)]
    fn foresee_new<const STEP: usize>(&self, guess: &mut NewGuess, accounts: &Accounts) {
        let (book, ladder) = (&self.book, Ladder::of(guess.side));
        match STEP {
            1 => {
                guess.trader = book.traders.prefetch(guess.uid);
                if guess.trader.is_none() {
                    accounts.prefetch_index(guess.uid);
                }
                if let Some(maker) = self.maker(guess) {
                    book.prefetch(maker);
                }
            }
            2 => {
                match guess.trader {
                    None => accounts.prefetch_account(guess.uid),
                    Some(trader) => {
                        let trader = book.traders.at(TraderIndex(trader));
                        accounts.prefetch(trader.pays_from(guess.side));
                        book.prefetch_order(trader.last_order);
                        if guess.takes {
                            accounts.prefetch(trader.receives_to(guess.side));
                        }
                    }
                }
                self.foresee_level(ladder, &mut guess.goal);
                if let Some(maker) = self.maker(guess) {
                    book.prefetch_around(maker);
                }
            }
            3 => {
                self.foresee_end(&guess.goal);
                if let Some(maker) = self.maker(guess) {
                    self.foresee_balances(maker, accounts);
                }
            }
            _ => {}
        }
    }

    /// The same of an open order. What stands at its place by now may be another one, or none: a line that is not used, no more.
    #[inline(always)]
    fn foresee_open<const STEP: usize>(&self, guess: &mut OpenGuess, accounts: &Accounts) {
        let book = &self.book;
        if STEP == 1 {
            guess.slot = book.by_number(guess.order_id);
            if let Some(slot) = guess.slot {
                book.prefetch(slot);
            }
            return;
        }
        let Some(slot) = guess.slot else { return };
        let side = book.side(slot);
        match STEP {
            2 => book.prefetch_around(slot),
            3 => {
                accounts.prefetch(book.traders.at(book.trader_of(slot)).pays_from(side));
                self.foresee_level(Ladder::of(side), &mut guess.goal);
            }
            _ => self.foresee_end(&guess.goal),
        }
    }

    /// The first that an order which trades at once would meet now.
    #[inline(always)]
    fn maker(&self, guess: &NewGuess) -> Option<Slot> {
        if !guess.takes {
            return None;
        }
        let best = self.book.best(Ladder::of(guess.side.opposite()))?;
        Some(self.book.first_at(best))
    }

    /// Where a maker pays from and receives to.
    #[inline]
    pub(crate) fn foresee_balances(&self, maker: Slot, accounts: &Accounts) {
        let trader = self.book.traders.at(self.book.trader_of(maker));
        accounts.prefetch(trader.base);
        accounts.prefetch(trader.quote);
    }

    #[inline(always)]
    fn goal(&self, price: Option<Amount>) -> Goal {
        Goal { price: price.and_then(|price| self.gate.price(price)), level: None }
    }

    #[inline(always)]
    fn foresee_level(&self, ladder: Ladder, goal: &mut Goal) {
        goal.level = goal.price.and_then(|price| self.book.prefetch_level(ladder, price));
    }

    #[inline(always)]
    fn foresee_end(&self, goal: &Goal) {
        if let Some(level) = goal.level {
            self.book.prefetch_last_at(level);
        }
    }
}
