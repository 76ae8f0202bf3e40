//! What the unit tests of several files share: a symbol and seeded trades.

use engine::event::{Fill, Trade};
use engine::order::{OrderStatus, Side};
use engine::snapshot::SymbolState;
use engine::symbol::{Symbol, SymbolConfig};
use engine::units::Notional;
use engine::{Amount, AssetId, Engine, OrderId, Price, Quantity, Sequence, Snapshot, SymbolId, Time, TradeId, Uid};
use journal::MarketTrade;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// BTCUSDT with a tick of 0.01 and a step of 0.00001, both assets of eight decimals.
pub(crate) fn symbol() -> Symbol {
    let config = SymbolConfig::plain("BTCUSDT", AssetId(0), AssetId(1), Amount(1_000_000), Amount(1_000));
    Symbol::new(SymbolId(0), config, 8).expect("a sound symbol")
}

/// An exchange with nothing in it.
pub(crate) fn empty() -> Snapshot {
    Engine::new().snapshot()
}

/// [`symbol`] before its first order.
pub(crate) fn symbol_state() -> SymbolState {
    SymbolState {
        symbol: symbol(),
        counters: Default::default(),
        last_price: None,
        reference_price: None,
        average: Vec::new(),
        breaker: Default::default(),
        orders: Vec::new(),
        shown: Vec::new(),
        stop_holds: Vec::new(),
        lists: Vec::new(),
    }
}

/// `count` trades of [`symbol`] with at most `gap_max` microseconds between two of them, most gaps being far smaller.
pub(crate) fn random_trades(seed: u64, count: u64, gap_max: u64) -> Vec<MarketTrade> {
    let mut random = StdRng::seed_from_u64(seed);
    let symbol = symbol();
    let mut time = 1_704_000_000_000_000;
    let trade = |id: u64| {
        let shift = random.random_range(0..12);
        time += random.random_range(0..=gap_max >> shift);
        let (price, quantity) =
            (Price(random.random_range(5_999_000..6_001_000)), Quantity(random.random_range(1..9_999)));
        let fill = Fill {
            order_id: OrderId(id),
            uid: Uid(1),
            fee: Amount::ZERO,
            fee_asset: AssetId(0),
            executed: quantity,
            cumulative_quote: Amount::ZERO,
            status: OrderStatus::Filled,
        };
        let trade = Trade {
            symbol: symbol.id,
            trade_id: TradeId(id),
            aggregate_id: id,
            price,
            quantity,
            quote_amount: symbol.scale.quote_amount(Notional::of(price, quantity).expect("fits")),
            taker: fill,
            maker: fill,
            taker_side: if random.random() { Side::Buy } else { Side::Sell },
        };
        MarketTrade { time: Time(time), sequence: Sequence(id), trade }
    };
    (1..=count).map(trade).collect()
}
