//! A taker walks the book: price-time priority, trades at the maker's price. Also what a walk would bring, beforehand.

use crate::account::Accounts;
use crate::book::{Book, reaches};
use crate::event::{Event, Fill, Trade};
use crate::order::{Order, OrderStatus, OrderType, Side};
use crate::symbol::Symbol;
use crate::units::{Amount, FeeRate, Price, Quantity, Time, TradeId};

/// One symbol with its book and its counters: all that a walk changes besides accounts.
#[derive(Debug)]
pub struct Market {
    /// What it is.
    pub symbol: Symbol,
    /// What rests.
    pub book: Book,
    /// The last order id given.
    pub last_order_id: u64,
    /// The last trade id given.
    pub last_trade_id: u64,
    /// The last aggregate trade id given.
    pub last_aggregate_id: u64,
    /// The last update id given.
    pub last_update_id: u64,
    /// The price of the last trade.
    pub last_price: Option<Price>,
}

/// What a market order would get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// How much would trade.
    pub quantity: Quantity,
    /// What that is worth.
    pub quote: Amount,
    /// Whether it ends because the book does.
    pub exhausted: bool,
}

impl Market {
    /// What a market order for `wanted` lots would get from `side`; `None` when its worth does not fit.
    pub fn sweep_quantity(&self, side: Side, wanted: Quantity) -> Option<Sweep> {
        let mut sweep = Sweep { quantity: Quantity::ZERO, quote: Amount::ZERO, exhausted: true };
        for (price, available) in self.book.depth(side) {
            let take = available.min(wanted.minus(sweep.quantity));
            sweep.add(self.symbol.scale.quote_amount(price, take)?, take)?;
            if sweep.quantity == wanted {
                return Some(Sweep { exhausted: false, ..sweep });
            }
        }
        Some(sweep)
    }

    /// What a market order that spends or raises at most `budget`, and trades at most `most` lots, would get from `side`.
    pub fn sweep_quote(&self, side: Side, budget: Amount, most: Quantity) -> Option<Sweep> {
        let mut sweep = Sweep { quantity: Quantity::ZERO, quote: Amount::ZERO, exhausted: true };
        for (price, available) in self.book.depth(side) {
            let affordable = self.symbol.scale.affordable(budget.minus(sweep.quote), price);
            let take = available.min(affordable).min(most.minus(sweep.quantity));
            sweep.add(self.symbol.scale.quote_amount(price, take)?, take)?;
            if take < available {
                return Some(Sweep { exhausted: false, ..sweep });
            }
        }
        sweep.exhausted = sweep.quote < budget && sweep.quantity < most;
        Some(sweep)
    }

    /// Whether an order on `side` at `price` would trade at once.
    pub fn crosses(&self, side: Side, price: Price) -> bool {
        let best = self.book.best(side.opposite());
        best.is_some_and(|best| reaches(side.opposite(), price, best))
    }

    /// The taker, whose funds are held, trades with what it reaches until it is filled or nothing more is in reach.
    pub fn execute(&mut self, taker: &mut Order, accounts: &mut Accounts, time: Time, events: &mut Vec<Event>) {
        let side = taker.side.opposite();
        while !taker.open_quantity().is_zero() {
            let Some(price) = self.book.best(side) else { break };
            if taker.order_type != OrderType::Market && !reaches(side, taker.price, price) {
                break;
            }
            self.last_aggregate_id += 1;
            while !taker.open_quantity().is_zero() && self.book.best(side) == Some(price) {
                self.trade(taker, price, accounts, time, events);
            }
            self.last_price = Some(price);
            self.report_level(side, price, events);
        }
    }

    /// Say what a price level holds now.
    pub fn report_level(&mut self, side: Side, price: Price, events: &mut Vec<Event>) {
        self.last_update_id += 1;
        events.push(Event::LevelChanged {
            symbol: self.symbol.id,
            side,
            price,
            quantity: self.book.level_quantity(side, price),
            update_id: self.last_update_id,
        });
    }

    /// One match of the taker with the first order at `price`, the best of the opposite side.
    fn trade(&mut self, taker: &mut Order, price: Price, accounts: &mut Accounts, time: Time, events: &mut Vec<Event>) {
        let slot = self.book.front(taker.side.opposite()).expect("there is a best price");
        let quantity = taker.open_quantity().min(self.book.order(slot).open_quantity());
        // Fits: it is at most what the maker's own price × quantity came to when it was accepted.
        let quote = self.quote_amount(price, quantity);
        taker.executed = taker.executed.checked_add(quantity).expect("a fill is part of the order");
        taker.cumulative_quote = taker.cumulative_quote.plus(quote);
        taker.updated_at = time;
        let filled = taker.open_quantity().is_zero();
        taker.status = if filled { OrderStatus::Filled } else { OrderStatus::PartiallyFilled };
        let maker = self.book.fill(slot, quantity, quote, time);

        let taker_fill = self.fill(taker, quantity, quote, self.symbol.config.taker_fee);
        let maker_fill = self.fill(&maker, quantity, quote, self.symbol.config.maker_fee);
        self.settle(taker, &taker_fill, &maker_fill, price, quantity, quote, accounts);
        self.last_trade_id += 1;
        events.push(Event::Trade(Trade {
            symbol: self.symbol.id,
            trade_id: TradeId(self.last_trade_id),
            aggregate_id: self.last_aggregate_id,
            price,
            quantity,
            quote_amount: quote,
            taker: taker_fill,
            maker: maker_fill,
            taker_side: taker.side,
        }));
    }

    /// What the trade did to `order`, which has it counted already.
    fn fill(&self, order: &Order, quantity: Quantity, quote: Amount, rate: FeeRate) -> Fill {
        let config = &self.symbol.config;
        let (received, fee_asset) = match order.side {
            Side::Buy => (self.base_amount(quantity), config.base),
            Side::Sell => (quote, config.quote),
        };
        Fill {
            order_id: order.order_id,
            uid: order.uid,
            fee: rate.of(received),
            fee_asset,
            executed: order.executed,
            cumulative_quote: order.cumulative_quote,
            status: order.status,
        }
    }

    /// The buyer's quote goes to the seller and the seller's base to the buyer, each less the receiver's fee; what a
    /// buying taker held above the maker's price is free again.
    #[allow(clippy::too_many_arguments, reason = "the two parties and the three numbers of one trade")]
    fn settle(
        &self,
        taker: &Order,
        taker_fill: &Fill,
        maker_fill: &Fill,
        price: Price,
        quantity: Quantity,
        quote: Amount,
        accounts: &mut Accounts,
    ) {
        let (buyer, seller) = match taker.side {
            Side::Buy => (taker_fill, maker_fill),
            Side::Sell => (maker_fill, taker_fill),
        };
        let config = &self.symbol.config;
        accounts.settle(buyer.uid, seller.uid, config.quote, quote, seller.fee);
        accounts.settle(seller.uid, buyer.uid, config.base, self.base_amount(quantity), buyer.fee);
        if taker.side == Side::Buy && taker.order_type != OrderType::Market && price < taker.price {
            let improvement = self.quote_amount(taker.price, quantity).minus(quote);
            accounts.release(taker.uid, config.quote, improvement);
        }
    }

    /// Price × quantity of something that was checked when it was accepted.
    pub fn quote_amount(&self, price: Price, quantity: Quantity) -> Amount {
        self.symbol.scale.quote_amount(price, quantity).expect("checked when the order was accepted")
    }

    /// The base of something that was checked when it was accepted.
    pub fn base_amount(&self, quantity: Quantity) -> Amount {
        self.symbol.scale.base_amount(quantity).expect("checked when the order was accepted")
    }
}

impl Sweep {
    fn add(&mut self, quote: Amount, quantity: Quantity) -> Option<()> {
        self.quote = self.quote.checked_add(quote)?;
        self.quantity = self.quantity.checked_add(quantity)?;
        Some(())
    }
}
