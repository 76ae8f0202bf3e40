//! Clients: each sends commands to one node, several at a time, and remembers what it is told.

use std::sync::Arc;
use std::time::Duration;

use engine::command::{AddAsset, CancelOrder, OrderQuantity, OrderReference, PlaceOrder, Transfer};
use engine::order::{ClientOrderId, OrderType, Side, TimeInForce};
use engine::symbol::SymbolConfig;
use engine::{Amount, AssetId, Command, SymbolId, Uid};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use super::dice::Dice;
use super::host::Host;
use super::witness::{Witness, name_of};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// What an account starts with.
const RICHES: Amount = Amount(1_000_000_000_000);
const USERS: u64 = 4;

/// What must be there before anybody trades.
pub(crate) fn setup() -> Vec<Command> {
    let asset = |name: &str| Command::AddAsset(AddAsset { name: name.to_owned(), scale: 2 });
    let config = |name: &str| SymbolConfig::plain(name, AssetId(0), AssetId(1), Amount(100), Amount(100));
    let symbol = |name: &str| Command::AddSymbol(Box::new(config(name)));
    let mut commands = vec![asset("BASE"), asset("QUOTE"), symbol("ONE"), symbol("TWO")];
    for uid in (1..=USERS).map(Uid) {
        commands.push(Command::OpenAccount { uid });
        for asset in [AssetId(0), AssetId(1)] {
            let external_id = format!("first-{}-{}", uid.0, asset.0);
            commands.push(Command::Deposit(Transfer { uid, asset, amount: RICHES, external_id }));
        }
    }
    commands
}

/// One client of the node on `host`.
pub(crate) struct Client {
    pub number: u64,
    pub host: Arc<Host>,
    pub witness: Arc<Witness>,
    pub dice: Dice,
    /// The longest rest between two commands, in milliseconds.
    pub rest_ms: u64,
    pub placed: Vec<ClientOrderId>,
    pub sent: u64,
}

impl Client {
    /// Sends until told to stop, and then waits for what is under way.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut under_way = Vec::new();
        loop {
            let rest = Duration::from_millis(self.dice.within(1..self.rest_ms));
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                () = sleep(rest) => {}
            }
            if self.dice.once_in(8) {
                self.read();
            } else {
                let command = self.command();
                under_way.extend(send(&self.host, &self.witness, command));
            }
            under_way.retain(|task: &tokio::task::JoinHandle<_>| !task.is_finished());
        }
        for task in under_way {
            let _ = task.await;
        }
    }

    /// Asks how far a read must see.
    fn read(&self) {
        let Some((life, index)) = self.host.life().zip(self.host.with(|node| node.read_index())) else { return };
        let (witness, before) = (self.witness.clone(), self.witness.acknowledged());
        let node = self.host.node;
        let read = life.spawn(index);
        tokio::spawn(async move {
            if let Ok(Some(found)) = read.await {
                witness.read(node, before, found);
            }
        });
    }

    fn command(&mut self) -> Command {
        self.sent += 1;
        let name = format!("c{}-{}", self.number, self.sent);
        let uid = Uid(self.dice.within(1..USERS + 1));
        let symbol = SymbolId(self.dice.within(0..2) as u32);
        match self.dice.within(0..20) {
            0 => {
                let asset = AssetId(self.dice.within(0..2) as u32);
                let amount = Amount(u128::from(self.dice.within(1..1_000)));
                Command::Deposit(Transfer { uid, asset, amount, external_id: name })
            }
            1 => {
                let asset = AssetId(self.dice.within(0..2) as u32);
                let amount = Amount(u128::from(self.dice.within(1..1_000)));
                Command::Withdraw(Transfer { uid, asset, amount, external_id: name })
            }
            2..7 if !self.placed.is_empty() => {
                let client_order_id = Some(*self.dice.pick(&self.placed));
                let order = OrderReference { order_id: None, client_order_id };
                let cancel_client_order_id = id(&name);
                Command::CancelOrder(CancelOrder { uid, symbol, order, cancel_client_order_id, restriction: None })
            }
            _ => {
                let client_order_id = id(&name);
                if self.placed.len() == 64 {
                    self.placed.remove(0);
                }
                self.placed.push(client_order_id);
                Command::PlaceOrder(PlaceOrder {
                    uid,
                    symbol,
                    client_order_id,
                    side: *self.dice.pick(&[Side::Buy, Side::Sell]),
                    order_type: OrderType::Limit,
                    time_in_force: *self.dice.pick(&[TimeInForce::Gtc, TimeInForce::Gtc, TimeInForce::Ioc]),
                    price: Amount(100 * u128::from(self.dice.within(95..106))),
                    quantity: OrderQuantity::Base(Amount(100 * u128::from(self.dice.within(1..9)))),
                    self_trade_prevention: None,
                    special: None,
                })
            }
        }
    }
}

fn id(name: &str) -> ClientOrderId {
    ClientOrderId::new(name).expect("short and plain")
}

/// Sends one command to the node on `host`; whether it was done.
pub(crate) async fn ask(host: &Arc<Host>, witness: &Arc<Witness>, command: Command) -> bool {
    match send(host, witness, command) {
        Some(sent) => sent.await.unwrap_or(false),
        None => false,
    }
}

/// Sends one command to the node on `host`; the task ends with the answer, and whether there was one.
pub(crate) fn send(
    host: &Arc<Host>,
    witness: &Arc<Witness>,
    command: Command,
) -> Option<tokio::task::JoinHandle<bool>> {
    let sequencer = host.sequencer()?;
    let (name, before) = (name_of(&command), witness.acknowledged());
    let (caller, answer) = oneshot::channel();
    if sequencer.submit(command, Some(caller)).is_err() {
        witness.unanswered(true);
        return None;
    }
    let (witness, host, node) = (witness.clone(), host.clone(), host.node);
    Some(tokio::spawn(async move {
        match timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => {
                if let Some(name) = &name {
                    witness.answered(name, before, &answer);
                }
                true
            }
            Ok(Err(_)) => {
                witness.unanswered(false);
                false
            }
            Err(_) => {
                let queued = host.with(|node| node.stats().queued_commands);
                let what =
                    format!("node {node} left {name:?} waiting for {PATIENCE:?}; it has {queued:?} commands queued");
                witness.violation(what);
                false
            }
        }
    }))
}
