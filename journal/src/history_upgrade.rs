//! History's rows as data format 4 had them. An order stood under its symbol and number, and a row of its owner's pointed to it;
//! now it stands where that row stood.

use engine::{OrderId, SymbolId};
use rocksdb::{DB, Direction, IteratorMode, WriteBatch, WriteOptions};

use crate::database::family;
use crate::failure::StartError;
use crate::format::{HISTORY, ORDER_ROWS, decode, encode_order, number_at, order_key};
use crate::open_orders::KnownOrder;

/// What the keys of orders started with.
const OLD_ORDER_ROWS: u8 = b'o';
/// Rows are written in batches of so many bytes.
const BATCH_BYTES: usize = 1 << 20;

/// The order of an old row; `None` for any other.
fn decode_old_order(key: &[u8], value: &[u8]) -> Option<KnownOrder> {
    let known: KnownOrder = decode(value)?;
    let symbol = SymbolId(u32::from_be_bytes(*key.get(1..)?.first_chunk()?));
    let order_id = OrderId(number_at(key, 5)?);
    let is_its_key = key.len() == 13 && (symbol, order_id) == (known.order.symbol, known.order.order_id);
    is_its_key.then_some(known)
}

/// Whether it is a row that only data format 4 had.
pub(crate) fn is_old(key: &[u8], value: &[u8]) -> bool {
    match (key.first(), key.len()) {
        (Some(&OLD_ORDER_ROWS), _) => decode_old_order(key, value).is_some(),
        (Some(&ORDER_ROWS), 21) => value.len() == 8,
        _ => false,
    }
}

/// Moves every order to where it stands now. What is done already is not met again. A row that is damaged stays as it is, for
/// `rialto journal verify` to name.
pub(crate) fn move_orders(database: &DB) -> Result<(), StartError> {
    let history = family(database, HISTORY);
    let failed = |error: rocksdb::Error| StartError::disk(database.path(), error);
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    let (mut batch, mut value) = (WriteBatch::default(), Vec::new());
    for row in database.iterator_cf(history, IteratorMode::From(&[OLD_ORDER_ROWS], Direction::Forward)) {
        let (key, bytes) = row.map_err(failed)?;
        if key.first() != Some(&OLD_ORDER_ROWS) {
            break;
        }
        let Some(known) = decode_old_order(&key, &bytes) else { continue };
        value.clear();
        encode_order(&mut value, &known);
        batch.put_cf(history, order_key(known.order.uid, known.order.symbol, known.order.order_id), &value);
        batch.delete_cf(history, key);
        if batch.size_in_bytes() >= BATCH_BYTES {
            database.write_opt(std::mem::take(&mut batch), &options).map_err(failed)?;
        }
    }
    database.write_opt(batch, &options).and_then(|()| database.flush_cf(history)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use engine::order::{ClientOrderId, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce};
    use engine::{Amount, Order, Price, Quantity, Time, Uid};

    use super::*;
    use crate::format::{decode_order, encode};
    use crate::opening::open_database;

    fn order(number: u64) -> KnownOrder {
        let order = Order {
            order_id: OrderId(number),
            symbol: SymbolId(3),
            uid: Uid(number % 7),
            client_order_id: ClientOrderId::new(&format!("name-{number}")).unwrap(),
            side: Side::Sell,
            order_type: OrderType::Limit,
            time_in_force: TimeInForce::Gtc,
            self_trade_prevention: SelfTradePrevention::None,
            price: Price(100),
            quantity: Quantity(number),
            quote_order_quantity: Amount(0),
            executed: Quantity(0),
            cumulative_quote: Amount(0),
            status: OrderStatus::Canceled,
            created_at: Time(1_000 + number),
            updated_at: Time(2_000 + number),
            special: None,
        };
        order.into()
    }

    #[test]
    fn orders_move_to_where_their_owners_stand_and_doing_it_again_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let database = open_database(folder.path()).unwrap();
        let history = family(&database, HISTORY);
        let old_key = |known: &KnownOrder| {
            let Order { symbol, order_id, .. } = known.order;
            [[OLD_ORDER_ROWS].as_slice(), &symbol.0.to_be_bytes(), &order_id.0.to_be_bytes()].concat()
        };
        let new_key = |known: &KnownOrder| order_key(known.order.uid, known.order.symbol, known.order.order_id);
        for known in (1..100).map(order) {
            let (old, new) = ((old_key(&known), encode(&[], &known)), (new_key(&known), known.order.created_at.0));
            assert!(is_old(&old.0, &old.1) && is_old(&new.0, &new.1.to_be_bytes()));
            database.put_cf(history, old.0, old.1).unwrap();
            database.put_cf(history, new.0, new.1.to_be_bytes()).unwrap();
        }
        let damaged = [[OLD_ORDER_ROWS].as_slice(), &[0; 12]].concat();
        database.put_cf(history, &damaged, b"nothing").unwrap();
        for _ in 0..2 {
            move_orders(&database).unwrap();
            let rows: Vec<_> = database.iterator_cf(history, IteratorMode::Start).map(Result::unwrap).collect();
            assert_eq!(rows.len(), 100);
            assert!(rows.iter().all(|(key, value)| !is_old(key, value)));
            for known in (1..100).map(order) {
                let key = new_key(&known);
                let value = database.get_cf(history, key).unwrap().unwrap();
                assert_eq!(decode_order(&key, &value), Some(known));
            }
            assert_eq!(database.get_cf(history, &damaged).unwrap().unwrap(), b"nothing");
        }
    }
}
