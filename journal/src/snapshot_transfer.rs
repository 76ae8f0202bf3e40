//! A snapshot on its way to a node that is too far behind for the log: the file in pieces, then the rows of history, which a
//! state does not hold. What arrived is kept, so that a transfer that broke off goes on where it was.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use openraft::alias::SnapshotOf;
use parking_lot::Mutex;
use rocksdb::{DB, Direction, IteratorMode, WriteBatch, WriteOptions};
use sha2::{Digest, Sha256};

use crate::database::family;
use crate::format::{HISTORY, VoteBytes, WATERMARK_KEY, open_snapshot_header};
use crate::history_writer::HistoryWriter;
use crate::link::Link;
use crate::message::{HistoryRows, Reply, Request};
use crate::record::{TypeConfig, Vote};
use crate::runtime;
use crate::snapshot_file::SnapshotDirectory;

/// How much is sent at once.
const PIECE_BYTES: usize = 1 << 20;
/// Pieces under way.
const PIECES_IN_FLIGHT: usize = 4;
/// A header is far smaller.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// What the sending side needs: history, until the node stops. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Sending {
    database: Arc<Mutex<Option<Arc<DB>>>>,
}

impl Sending {
    pub(crate) fn new(database: Arc<DB>) -> Sending {
        Sending { database: Arc::new(Mutex::new(Some(database))) }
    }

    /// Lets go of the database.
    pub(crate) fn close(&self) {
        self.database.lock().take();
    }

    fn database(&self) -> Result<Arc<DB>, String> {
        self.database.lock().clone().ok_or_else(|| "this node is stopping".to_owned())
    }
}

/// Sends a snapshot over `link`; the other side's vote after it has installed it.
pub(crate) async fn send(link: &Link, vote: &Vote, file: File, sending: &Sending) -> Result<Vote, String> {
    let text = |error: io::Error| error.to_string();
    let named = blocking(move || name_of(&file).map(|name| (file, name))).await;
    let (mut file, (length, hash)) = named.map_err(text)?;
    let asked = link.call(&Request::Snapshot { vote: VoteBytes::from(vote), length, hash }).await?;
    let Reply::SnapshotFrom { bytes, row } = asked else { return Err("the reply is to another question".to_owned()) };
    let mut under_way = VecDeque::new();
    let mut at = bytes.min(length);
    while at < length {
        let read = move || {
            let mut piece = vec![0; PIECE_BYTES.min((length - at) as usize)];
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(&mut piece)?;
            Ok((file, piece))
        };
        let (back, piece) = blocking(read).await.map_err(text)?;
        file = back;
        at += piece.len() as u64;
        under_way.push_back(link.call(&Request::SnapshotBytes(Cow::Owned(piece))));
        settle(&mut under_way, PIECES_IN_FLIGHT).await?;
    }
    let mut last = row;
    loop {
        let (database, after) = (sending.database()?, last.clone());
        let rows = blocking(move || rows_after(&database, after)).await.map_err(text)?;
        let Some((key, _)) = rows.last() else { break };
        last = Some(key.clone());
        let rows = rows.into_iter().map(|(key, value)| (Cow::Owned(key), Cow::Owned(value))).collect();
        under_way.push_back(link.call(&Request::SnapshotRows(rows)));
        settle(&mut under_way, PIECES_IN_FLIGHT).await?;
    }
    settle(&mut under_way, 0).await?;
    match link.call(&Request::SnapshotEnd).await? {
        Reply::Snapshot { vote } => Ok(vote.into()),
        _ => Err("the reply is to another question".to_owned()),
    }
}

/// Waits until no more than so many pieces are under way.
async fn settle<F>(under_way: &mut VecDeque<F>, most: usize) -> Result<(), String>
where
    F: Future<Output = Result<Reply, String>>,
{
    while under_way.len() > most {
        if let Some(first) = under_way.pop_front() {
            first.await?;
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    runtime::blocking(work).await?
}

/// What tells a snapshot's file from others: its length, and the hash of its header, which holds that of the state.
fn name_of(mut file: &File) -> io::Result<(u64, [u8; 32])> {
    let mut start = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(HEADER_BYTES_MAX).read_to_end(&mut start)?;
    let (_, length) = open_snapshot_header(&start).map_err(io::Error::other)?;
    Ok((file.metadata()?.len(), Sha256::digest(&start[..length]).into()))
}

/// Keys and values of history, in the order of the keys.
type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn rows_after(database: &DB, after: Option<Vec<u8>>) -> io::Result<Rows> {
    let mode = match &after {
        Some(key) => IteratorMode::From(key, Direction::Forward),
        None => IteratorMode::Start,
    };
    let (mut rows, mut bytes) = (Rows::new(), 0);
    for row in database.iterator_cf(family(database, HISTORY), mode) {
        let (key, value) = row.map_err(io::Error::other)?;
        // How far history goes, each node says for itself.
        if *key == *WATERMARK_KEY || after.as_ref().is_some_and(|after| **after == *key) {
            continue;
        }
        bytes += key.len() + value.len();
        rows.push((key.into_vec(), value.into_vec()));
        if bytes >= PIECE_BYTES {
            break;
        }
    }
    Ok(rows)
}

/// What the receiving side keeps between two connections. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Receiving {
    snapshots: SnapshotDirectory,
    history: HistoryWriter,
    state: Arc<Mutex<State>>,
}

struct State {
    /// None once the node stops.
    database: Option<Arc<DB>>,
    /// The snapshot whose rows are coming, and the last of them.
    rows: Option<([u8; 32], Vec<u8>)>,
}

/// A snapshot that is coming over one connection.
pub(crate) struct Incoming {
    vote: VoteBytes,
    length: u64,
    hash: [u8; 32],
    path: PathBuf,
    file: File,
    arrived: u64,
}

impl Receiving {
    pub(crate) fn new(snapshots: SnapshotDirectory, history: HistoryWriter, database: Arc<DB>) -> Receiving {
        Receiving { snapshots, history, state: Arc::new(Mutex::new(State { database: Some(database), rows: None })) }
    }

    /// Lets go of the database.
    pub(crate) fn close(&self) {
        self.state.lock().database.take();
    }

    /// A snapshot is coming: what is there of it already.
    pub(crate) fn begin(&self, vote: VoteBytes, length: u64, hash: [u8; 32]) -> io::Result<(Incoming, Reply)> {
        let path = self.snapshots.incoming(&hex(&hash[..8]))?;
        let mut file = File::options().create(true).append(true).open(&path)?;
        let arrived = file.seek(SeekFrom::End(0))?;
        if arrived > length {
            return Err(io::Error::other(format!("{} is longer than what is sent", path.display())));
        }
        if self.snapshots.free_bytes()? < length - arrived {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let row = self.state.lock().rows.as_ref().filter(|(of, _)| *of == hash).map(|(_, row)| row.clone());
        Ok((Incoming { vote, length, hash, path, file, arrived }, Reply::SnapshotFrom { bytes: arrived, row }))
    }

    /// The next rows of history.
    pub(crate) fn rows(&self, incoming: &Incoming, rows: HistoryRows<'_>) -> io::Result<()> {
        let mut state = self.state.lock();
        let database = state.database.clone().ok_or_else(|| io::Error::other("this node is stopping"))?;
        // What is filed here is older than what comes, and must not hide it.
        self.history.write_recent()?;
        let history = family(&database, HISTORY);
        let mut batch = WriteBatch::default();
        for (key, value) in &rows {
            if **key != *WATERMARK_KEY {
                batch.put_cf(history, key, value);
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        database.write_opt(batch, &options).map_err(io::Error::other)?;
        if let Some((key, _)) = rows.into_iter().next_back() {
            state.rows = Some((incoming.hash, key.into_owned()));
        }
        Ok(())
    }

    /// All of it has come: the file and what raft takes with it. History is on the disk then.
    pub(crate) fn end(&self, incoming: Incoming) -> io::Result<(Vote, SnapshotOf<TypeConfig, File>)> {
        if incoming.arrived != incoming.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let database = self.state.lock().database.clone().ok_or_else(|| io::Error::other("this node is stopping"))?;
        database.flush_cf(family(&database, HISTORY)).map_err(io::Error::other)?;
        incoming.file.sync_all()?;
        let file = File::open(&incoming.path)?;
        let meta = SnapshotDirectory::meta_of(&file)?;
        // The open file is all that is needed of it from here on.
        fs::remove_file(&incoming.path)?;
        self.state.lock().rows = None;
        Ok((incoming.vote.into(), SnapshotOf::<TypeConfig, File> { meta, snapshot: file }))
    }
}

impl Incoming {
    /// The next piece of the file.
    pub(crate) fn bytes(&mut self, piece: &[u8]) -> io::Result<()> {
        if self.arrived + piece.len() as u64 > self.length {
            return Err(io::Error::other("more came than was announced"));
        }
        self.file.write_all(piece)?;
        self.arrived += piece.len() as u64;
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
