//! A state from its bytes, on as many threads as the machine has cores: one hashes all of them and then helps the others, who
//! read the symbols, each a book of its own. Bytes are not believed before the hash is known to be right, nor after.

use std::cmp::Reverse;
use std::thread;

use crossbeam_channel::Receiver;
use engine::Snapshot;
use engine::snapshot::{ReadSymbol, UnreadSymbol};
use engine::snapshot_bytes::DecodeError;
use sha2::{Digest, Sha256};

/// Symbols with their places among all.
type Unread<'a> = Receiver<(usize, UnreadSymbol<'a>)>;
type Read = Vec<(usize, Result<ReadSymbol, DecodeError>)>;

/// The state with these bytes and this hash; `None` where the bytes have another one.
pub(crate) fn decode(bytes: &[u8], hash: &[u8; 32]) -> Option<Result<Snapshot, DecodeError>> {
    let (symbols, queue) = crossbeam_channel::unbounded();
    thread::scope(|scope| {
        let hashing = {
            let queue = queue.clone();
            scope.spawn(move || (Sha256::digest(bytes) == *hash).then(|| read_all(&queue)))
        };
        let opened = Snapshot::open(bytes).map(|(opened, unread)| {
            let count = unread.len();
            let mut unread: Vec<(usize, UnreadSymbol)> = unread.into_iter().enumerate().collect();
            // The largest first, so that nobody is left alone with it at the end.
            unread.sort_by_key(|(_, symbol)| Reverse(symbol.orders()));
            // The channel has no bound, and the other end is here.
            unread.into_iter().for_each(|symbol| symbols.send(symbol).expect("it is open"));
            (opened, count)
        });
        drop(symbols);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let helpers = opened.as_ref().map_or(0, |(_, count)| cores.min(*count).saturating_sub(2));
        let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(|| read_all(&queue))).collect();
        let mut read = read_all(&queue);
        for helper in helpers {
            read.extend(helper.join().expect("it does not panic"));
        }
        read.extend(hashing.join().expect("it does not panic")?);
        read.sort_unstable_by_key(|(at, _)| *at);
        Some(opened.and_then(|(opened, _)| opened.close(read.into_iter().map(|(_, symbol)| symbol))))
    })
}

/// What nobody else has read yet.
fn read_all(queue: &Unread) -> Read {
    queue.iter().map(|(at, symbol)| (at, symbol.read())).collect()
}
