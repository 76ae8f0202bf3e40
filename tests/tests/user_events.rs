//! What an account is told of commands that an engine decided: the events of the user stream, each with its fields.

use std::sync::Arc;

use engine::command::{AddAsset, CancelOrder, OrderQuantity, OrderReference, PlaceOrder, Transfer};
use engine::order::{ClientOrderId, OrderType, Side, TimeInForce};
use engine::symbol::SymbolConfig;
use engine::units::FeeRate;
use engine::{Amount, AssetId, Command, Engine, Sequence, SymbolId, Time, Uid};
use gateway::klines::Klines;
use gateway::views::{Changes, Views};
use gateway::ws::hub::{Form, Hub, TimeUnit, Topic, outbox};
use gateway::ws::user_stream;
use journal::Applied;
use serde_json::Value;

/// Runs commands on an engine, in two entries, and returns what `uid` is told of the last `count` of them.
fn told(uid: u64, commands: &[Command], count: usize) -> Vec<Value> {
    let (mut engine, views, hub) = (Engine::new(), Views::new(Arc::new(Klines::new())), Hub::new());
    let (outbox, mut inbox) = outbox(16);
    for part in [&commands[..commands.len() - count], &commands[commands.len() - count..]] {
        let (mut events, mut ends) = (Vec::new(), Vec::new());
        let first_sequence = Sequence(engine.sequence().0 + 1);
        for command in part {
            engine.apply(Time(1_000_000), command, &mut events);
            ends.push(events.len() as u32);
        }
        let applied = Applied { first_sequence, time: Time(1_000_000), events, ends };
        let mut changes = Changes::default();
        views.apply(&applied, &mut changes);
        assert!(views.is_conserved());
        user_stream::publish(&hub, &views.symbols(), &applied, &changes.makers, Time(2_000_000));
        hub.subscribe(Topic::User(Uid(uid)), &outbox, Form::Raw, TimeUnit::Millisecond);
    }
    let batch = inbox.try_next().expect("something happened");
    batch.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

fn place(uid: u64, name: &str, side: Side, time_in_force: TimeInForce, price: u128, quantity: u128) -> Command {
    Command::PlaceOrder(PlaceOrder {
        uid: Uid(uid),
        symbol: SymbolId(0),
        client_order_id: ClientOrderId::new(name).unwrap(),
        side,
        order_type: OrderType::Limit,
        time_in_force,
        price: Amount(price * 100_000_000),
        quantity: OrderQuantity::Base(Amount(quantity * 100_000_000)),
    })
}

fn exchange() -> Vec<Command> {
    let config = SymbolConfig {
        maker_fee: FeeRate::from_billionths(1_000_000).unwrap(),
        taker_fee: FeeRate::from_billionths(2_000_000).unwrap(),
        ..SymbolConfig::plain("BTCUSDT", AssetId(0), AssetId(1), Amount(1_000_000), Amount(1_000))
    };
    let asset = |name: &str| Command::AddAsset(AddAsset { name: name.to_owned(), scale: 8 });
    let mut commands = vec![asset("BTC"), asset("USDT"), Command::AddSymbol(config)];
    for uid in [1, 2] {
        commands.push(Command::OpenAccount { uid: Uid(uid) });
        for asset in [0, 1] {
            commands.push(deposit(uid, asset, 1_000_000));
        }
    }
    commands
}

fn deposit(uid: u64, asset: u32, amount: u128) -> Command {
    let external_id = format!("{uid}-{asset}-{amount}");
    let (uid, asset, amount) = (Uid(uid), AssetId(asset), Amount(amount * 100_000_000));
    Command::Deposit(Transfer { uid, asset, amount, external_id })
}

fn summary(events: &[Value]) -> Vec<String> {
    let text = |event: &Value| match event["e"].as_str().unwrap() {
        "executionReport" => format!("{}/{}", event["x"].as_str().unwrap(), event["X"].as_str().unwrap()),
        "outboundAccountPosition" => {
            let balances = event["B"].as_array().unwrap();
            let names: Vec<_> = balances.iter().map(|balance| balance["a"].as_str().unwrap()).collect();
            format!("position {}", names.join(" "))
        }
        other => other.to_owned(),
    };
    events.iter().map(text).collect()
}

#[test]
fn a_maker_hears_new_trade_canceled_and_its_balances_after_each() {
    let mut commands = exchange();
    commands.push(place(1, "maker", Side::Sell, TimeInForce::Gtc, 100, 5));
    commands.push(place(2, "taker", Side::Buy, TimeInForce::Ioc, 101, 2));
    commands.push(Command::CancelOrder(CancelOrder {
        uid: Uid(1),
        symbol: SymbolId(0),
        order: OrderReference { order_id: None, client_order_id: ClientOrderId::new("maker") },
        cancel_client_order_id: ClientOrderId::new("cancel").unwrap(),
        restriction: None,
    }));
    let maker = told(1, &commands, 3);
    let expected =
        ["NEW/NEW", "position BTC", "TRADE/PARTIALLY_FILLED", "position BTC USDT", "CANCELED/CANCELED", "position BTC"];
    assert_eq!(summary(&maker), expected);
    let trade = &maker[2];
    for (key, value) in [("l", "2.00000000"), ("L", "100.00000000"), ("z", "2.00000000"), ("n", "0.20000000")] {
        assert_eq!(trade[key], value);
    }
    assert_eq!(
        (&trade["N"], &trade["m"], &trade["t"], &trade["i"]),
        (&"USDT".into(), &true.into(), &1.into(), &1.into())
    );
    assert_eq!((&maker[4]["C"], &maker[4]["c"]), (&"maker".into(), &"cancel".into()));
    assert_eq!((&maker[0]["C"], &maker[0]["N"], &maker[0]["n"]), (&"".into(), &Value::Null, &"0".into()));

    let taker = told(2, &commands, 3);
    assert_eq!(summary(&taker), ["NEW/NEW", "TRADE/FILLED", "position BTC USDT"]);
    assert_eq!((&taker[1]["N"], &taker[1]["n"]), (&"BTC".into(), &"0.00400000".into()));
    assert_eq!(
        (&taker[1]["m"], &taker[1]["w"], &taker[1]["Y"]),
        (&false.into(), &false.into(), &"200.00000000".into())
    );
    let keys = "e E s c S o f q p P F g C x X r i l z L n N T t I w m M O Z Y Q W V";
    keys.split(' ').for_each(|key| assert!(taker[0].get(key).is_some(), "{key}"));
}

#[test]
fn an_order_that_expires_says_why() {
    let mut commands = exchange();
    commands.push(place(1, "ioc", Side::Sell, TimeInForce::Ioc, 100, 5));
    commands.push(place(1, "fok", Side::Sell, TimeInForce::Fok, 100, 5));
    let events = told(1, &commands, 2);
    let expired = ["NEW/NEW", "EXPIRED/EXPIRED", "position BTC"];
    assert_eq!(summary(&events), [expired, expired].concat());
    assert_eq!(events[1]["eR"], "UNFILLED_IOC_QUANTITY_EXPIRED");
    assert_eq!(events[4]["eR"], "UNFILLED_FOK_ORDER_EXPIRED");
}

#[test]
fn a_deposit_is_a_balance_update_and_a_position() {
    let mut commands = exchange();
    commands.push(deposit(1, 0, 7));
    let events = told(1, &commands, 1);
    assert_eq!(summary(&events), ["balanceUpdate", "position BTC"]);
    assert_eq!((&events[0]["a"], &events[0]["d"]), (&"BTC".into(), &"7.00000000".into()));
}
