//! What an account is told of commands that an engine decided: the events of the user stream, each with its fields.

use std::sync::Arc;

use engine::command::{
    AddAsset, CancelOrder, OrderListKind, OrderQuantity, OrderReference, PlaceOrder, PlaceOrderList, SpecialTerms,
    Transfer,
};
use engine::commission::{Commission, CommissionRates, FeeRate};
use engine::order::{ClientOrderId, OrderType, SelfTradePrevention, Side, TimeInForce};
use engine::symbol::SymbolConfig;
use engine::{Amount, AssetId, Command, Engine, Sequence, SymbolId, Time, Uid};
use gateway::klines::Klines;
use gateway::views::{Changes, Views};
use gateway::ws::hub::{Form, Hub, TimeUnit, Topic, outbox};
use gateway::ws::user_stream;
use journal::Applied;
use serde_json::Value;

/// Runs commands on an engine, in two entries, and returns what `uid` is told of the last `count` of them.
fn told(uid: u64, commands: &[Command], count: usize) -> Vec<Value> {
    let (mut engine, views, hub) = (Engine::new(), Views::new(Arc::new(Klines::new())), Arc::new(Hub::new()));
    let (outbox, mut inbox) = outbox();
    let mut listening = Vec::new();
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
        user_stream::publish(&hub, &views.symbols(), &applied, &changes.orders, Time(2_000_000));
        listening.push(hub.subscribe(Topic::User(Uid(uid)), &outbox, Form::Raw, TimeUnit::Millisecond));
    }
    let batch = inbox.try_next().expect("something happened");
    batch.iter().map(|message| serde_json::from_str(message.as_str()).unwrap()).collect()
}

fn place(uid: u64, name: &str, side: Side, time_in_force: TimeInForce, price: u128, quantity: u128) -> Command {
    Command::PlaceOrder(limit(uid, name, side, time_in_force, price, quantity))
}

fn limit(uid: u64, name: &str, side: Side, time_in_force: TimeInForce, price: u128, quantity: u128) -> PlaceOrder {
    PlaceOrder {
        uid: Uid(uid),
        symbol: SymbolId(0),
        client_order_id: ClientOrderId::new(name).unwrap(),
        side,
        order_type: OrderType::Limit,
        time_in_force,
        price: Amount(price * 100_000_000),
        quantity: OrderQuantity::Base(Amount(quantity * 100_000_000)),
        self_trade_prevention: None,
        special: None,
    }
}

/// A sale of a whole coin once the price is at 90.
fn stop(uid: u64, name: &str) -> PlaceOrder {
    let terms =
        SpecialTerms { stop_price: Some(Amount(90 * 100_000_000)), strategy_id: Some(7), ..SpecialTerms::default() };
    let order = limit(uid, name, Side::Sell, TimeInForce::Gtc, 89, 1);
    PlaceOrder { order_type: OrderType::StopLossLimit, special: Some(Box::new(terms)), ..order }
}

fn exchange() -> Vec<Command> {
    let fee = |billionths| FeeRate::from_billionths(billionths).unwrap();
    let standard = CommissionRates { maker: fee(1_000_000), taker: fee(2_000_000), ..CommissionRates::default() };
    let config = SymbolConfig {
        commission: Commission { standard, ..Commission::default() },
        ..SymbolConfig::plain("BTCUSDT", AssetId(0), AssetId(1), Amount(1_000_000), Amount(1_000))
    };
    let asset = |name: &str| Command::AddAsset(AddAsset { name: name.to_owned(), scale: 8 });
    let mut commands = vec![asset("BTC"), asset("USDT"), Command::AddSymbol(Box::new(config))];
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
        "listStatus" => format!("list {}/{}", event["l"].as_str().unwrap(), event["L"].as_str().unwrap()),
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

#[test]
fn a_stop_is_new_when_it_is_accepted_and_again_when_it_works() {
    let mut commands = exchange();
    commands.push(place(2, "bid", Side::Buy, TimeInForce::Gtc, 90, 1));
    commands.push(Command::PlaceOrder(stop(1, "stop")));
    commands.push(place(1, "hit", Side::Sell, TimeInForce::Gtc, 90, 1));
    let events = told(1, &commands, 2);
    let expected = ["NEW/NEW", "position BTC", "NEW/NEW", "TRADE/FILLED", "NEW/NEW", "position BTC USDT"];
    assert_eq!(summary(&events), expected);
    let (waiting, working) = (&events[0], &events[4]);
    assert_eq!((&waiting["w"], waiting.get("W"), &waiting["P"]), (&false.into(), None, &"90.00000000".into()));
    assert_eq!((&working["w"], &working["W"], &working["j"]), (&true.into(), &1_000.into(), &7.into()));
    assert_eq!((&working["c"], &working["o"]), (&"stop".into(), &"STOP_LOSS_LIMIT".into()));
}

#[test]
fn what_self_trade_prevention_ends_is_told_once_with_all_of_it() {
    let mut commands = exchange();
    commands.push(place(1, "ask", Side::Sell, TimeInForce::Gtc, 100, 3));
    let taker = limit(1, "bid", Side::Buy, TimeInForce::Gtc, 100, 2);
    let mode = Some(SelfTradePrevention::Decrement);
    commands.push(Command::PlaceOrder(PlaceOrder { self_trade_prevention: mode, ..taker }));
    let events = told(1, &commands, 1);
    let expected = ["NEW/NEW", "TRADE_PREVENTION/EXPIRED_IN_MATCH", "TRADE_PREVENTION/NEW", "position BTC USDT"];
    assert_eq!(summary(&events)[..3], expected[..3]);
    let (taker, maker) = (&events[1], &events[2]);
    for (key, value) in [("A", "2.00000000"), ("B", "2.00000000"), ("pl", "2.00000000"), ("pL", "100.00000000")] {
        assert_eq!((&taker[key], &maker[key]), (&value.into(), &value.into()), "{key}");
    }
    assert_eq!(
        (&taker["v"], &taker["u"], &taker["U"], &taker["Cs"]),
        (&1.into(), &(-1).into(), &1.into(), &"BTCUSDT".into())
    );
    assert_eq!((&taker["pY"], &taker["V"], taker.get("eR")), (&"200.00000000".into(), &"DECREMENT".into(), None));
    assert_eq!((&maker["U"], &maker["q"], &maker["w"]), (&2.into(), &"3.00000000".into(), &true.into()));
}

#[test]
fn a_list_is_told_with_its_orders() {
    let mut commands = exchange();
    let above = limit(1, "above", Side::Sell, TimeInForce::Gtc, 110, 1);
    let above = PlaceOrder { order_type: OrderType::LimitMaker, ..above };
    commands.push(Command::PlaceOrderList(Box::new(PlaceOrderList {
        uid: Uid(1),
        symbol: SymbolId(0),
        list_client_order_id: ClientOrderId::new("pair").unwrap(),
        kind: OrderListKind::OneCancelsOther,
        orders: vec![above, stop(1, "below")],
    })));
    commands.push(place(2, "bid", Side::Buy, TimeInForce::Gtc, 110, 1));
    let events = told(1, &commands, 2);
    let expected = [
        "list EXEC_STARTED/EXECUTING",
        "NEW/NEW",
        "NEW/NEW",
        "position BTC",
        "TRADE/FILLED",
        "EXPIRED/EXPIRED",
        "list ALL_DONE/ALL_DONE",
        "position BTC USDT",
    ];
    assert_eq!(summary(&events), expected);
    let (list, expired) = (&events[0], &events[5]);
    assert_eq!((&list["c"], &list["C"], &list["r"]), (&"OCO".into(), &"pair".into(), &"NONE".into()));
    assert_eq!(list["O"].as_array().unwrap().len(), 2);
    assert_eq!((&expired["c"], &expired["eR"], &expired["g"]), (&"below".into(), &"OCO_TRIGGER".into(), &list["g"]));
}
