//! What the unit tests of several files share: a symbol and seeded trades.

use engine::command::{AddAsset, Command};
use engine::event::{Fill, Trade};
use engine::order::{OrderStatus, Side};
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

/// An exchange with [`symbol`] and its assets, before its first order.
pub(crate) fn listed() -> Snapshot {
    engine().snapshot()
}

/// The engine that decides for it.
pub(crate) fn engine() -> Engine {
    let asset = |name: &str| Command::AddAsset(AddAsset { name: name.to_owned(), scale: 8 });
    let mut engine = Engine::new();
    for command in [asset("BTC"), asset("USDT"), Command::AddSymbol(Box::new(symbol().config))] {
        engine.apply(Time(0), &command, &mut Vec::new());
    }
    engine
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
