//! Power cuts under load: what was acknowledged is on the disk, what was not may be there, be gone or be torn, and a restart
//! always works.
//!
//! The first test cuts the power of a file system of its own (ext4 on a loop device, shut down without a flush), which needs
//! root; the second tears the bytes of a batch that was not synced yet on a copy, in every way. Both print their seed:
//! `RIALTO_SEED=n` runs the same flows again. CI runs a few rounds; `RIALTO_POWER_CUTS=200` runs as many as one likes.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use journal::{Answer, Node, NodeConfig, Published};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tests::data_folder::{self, write_ahead_logs, written};
use tests::exchange::{Exchange, bootstrap, fast_folder, number_from};
use tests::load::{Load, Outcome, Record};
use tests::sandbox::{self, Mount};
use tests::witness::{Found, NO_BALLAST, Witness};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const ACCOUNTS: usize = 8;
const SETTINGS: &str = "[journal]\nsnapshot_every_entries = 100\nballast_bytes = 0\nlow_space_bytes = 0\n";
const ROUNDS_ON_ONE_DIRECTORY: u64 = 10;
const DISK_BYTES: u64 = 768 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_acknowledged_survives_a_power_cut() {
    if !sandbox::is_inside("whatever_was_acknowledged_survives_a_power_cut") {
        return;
    }
    let seed = number_from("RIALTO_SEED").unwrap_or_else(|| rand::random_range(0..1 << 40));
    let rounds = number_from("RIALTO_POWER_CUTS").unwrap_or(5);
    println!("RIALTO_SEED={seed}");
    let folder = TempDir::new_in(fast_folder()).unwrap();
    let (mut round, mut acknowledged) = (0, 0);
    while round < rounds {
        let disk = match Mount::ext4(&folder.path().join("disk"), &folder.path().join("image"), DISK_BYTES) {
            Ok(disk) => disk,
            Err(error) => return println!("skipped: no file system whose power could be cut: {error}"),
        };
        let data = disk.path().join("data");
        let mut server = Exchange::on(&data, &bootstrap(ACCOUNTS, "0.0005", "0.001"), SETTINGS, &[]);
        let mut witness = Witness::default();
        for _ in 0..ROUNDS_ON_ONE_DIRECTORY.min(rounds - round) {
            let context = format!("RIALTO_SEED={seed}, round {round}");
            let mut random = StdRng::seed_from_u64(seed.wrapping_add(round));
            let loading = load(&server, seed.wrapping_add(round));
            tokio::time::sleep(Duration::from_millis(random.random_range(50..500))).await;
            // Stopped first: an fsync that meets the cut can come back as if it had been done.
            signal(server.process_id(), "STOP");
            disk.cut_power();
            server.kill();
            let records = loading.await.expect("the load ends with the server");
            disk.power_up();

            look(&data, &mut witness, &records, &context).await;
            acknowledged += records.iter().filter(|record| matches!(record.outcome, Outcome::Done { .. })).count();
            server.restart();
            assert_eq!(server.recovered(), witness.sequence(), "{context}");
            round += 1;
        }
        println!("round {round}: {acknowledged} acknowledged so far");
    }
    assert!(acknowledged > 50 * rounds as usize, "RIALTO_SEED={seed}: too little was acknowledged: {acknowledged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_tear_in_a_batch_that_was_never_synced_drops_that_batch_and_nothing_else() {
    let seed = number_from("RIALTO_SEED").unwrap_or_else(|| rand::random_range(0..1 << 40));
    let tears = number_from("RIALTO_POWER_CUTS").unwrap_or(60) as usize;
    println!("RIALTO_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = TempDir::new_in(fast_folder()).unwrap();
    let mut dropped = 0;
    // Batches of a part of a page, of some pages, of many blocks of the write-ahead log.
    for commands in [1, 400, 4_000] {
        let image = Image::of_a_batch(&folder.path().join(commands.to_string()), commands).await;
        for tear in 0..tears / 3 {
            let data = folder.path().join("torn");
            let what = image.tear(&data, &mut random);
            let context = format!("RIALTO_SEED={seed}, {commands} commands, tear {tear}: {what:?}");
            let witness = if what == Tear::Behind { &image.after } else { &image.before };
            right(witness.compare(&data).await, &context);
            dropped += usize::from(what != Tear::Behind);
            fs::remove_dir_all(&data).unwrap();
        }
    }
    assert!(dropped > tears / 2, "RIALTO_SEED={seed}: {dropped} of {tears}");
}

/// What a power cut made of the bytes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tear {
    /// They end somewhere inside.
    Cut(usize),
    /// Some pages never reached the disk, later ones did.
    LostPages(Vec<usize>),
    /// From here on there is what the disk held before.
    Garbage(usize),
    /// Nothing of it was written from here on.
    Zeros(usize),
    /// The batch is whole, and there is what the disk held before behind it.
    Behind,
}

/// A directory before a batch and behind it, and what each must say. The mark does not speak of the batch yet.
struct Image {
    folder: PathBuf,
    before: Witness,
    after: Witness,
    /// Of the write-ahead log: its name, and where the batch begins and ends.
    log: PathBuf,
    batch: Range<usize>,
}

impl Image {
    async fn of_a_batch(folder: &Path, commands: u64) -> Image {
        let [live, before, after] = ["live", "before", "after"].map(|name| folder.join(name));
        let config = NodeConfig { space: NO_BALLAST, ..NodeConfig::new(&live) };
        let (node, published) = Node::start(config).await.unwrap();
        let feed = std::thread::spawn(move || published.iter().for_each(answer));
        node.recovered().await.unwrap();
        let open = |uids: Range<u64>| uids.map(|uid| engine::Command::OpenAccount { uid: engine::Uid(uid) }).collect();
        let submit = async |commands| {
            let (caller, answer) = oneshot::channel();
            node.sequencer().submit_together(commands, Some(caller)).unwrap();
            answer.await.unwrap();
        };
        for uid in 1..100 {
            submit(open(uid..uid + 1)).await;
        }
        // The mark of what is durable follows within 100 ms.
        tokio::time::sleep(Duration::from_millis(300)).await;
        data_folder::copy(&live, &before);
        submit(open(1_000..1_000 + commands)).await;
        data_folder::copy(&live, &after);
        node.stop().await;
        feed.join().unwrap();
        fs::copy(before.join("durable"), after.join("durable")).unwrap();
        let log = write_ahead_logs(&after).pop().unwrap();
        let log = log.strip_prefix(&after).unwrap().to_owned();
        // What is written before it may end with a zero or two.
        let batch = written(&before.join(&log)) as usize + 2..written(&after.join(&log)) as usize;
        let mut witnesses = [Witness::default(), Witness::default()];
        witnesses[0].follow(&before).unwrap();
        witnesses[1].follow(&after).unwrap();
        let [first, second] = &witnesses;
        assert_eq!(first.sequence() + commands, second.sequence());
        let [before, after] = witnesses;
        Image { folder: folder.join("after"), before, after, log, batch }
    }

    /// A copy in `data`, torn.
    fn tear(&self, data: &Path, random: &mut StdRng) -> Tear {
        data_folder::copy(&self.folder, data);
        journal::adopt(data).unwrap();
        let path = data.join(&self.log);
        let mut bytes = fs::read(&path).unwrap();
        if random.random_range(0..2) == 0 {
            // No room had been made.
            bytes.truncate(self.batch.end);
        }
        let place = random.random_range(self.batch.clone());
        let what = match random.random_range(0..6) {
            0 => Tear::Cut(place),
            1 | 2 => Tear::LostPages(
                (self.batch.start..self.batch.end).step_by(PAGE).filter(|_| random.random_range(0..3) == 0).collect(),
            ),
            3 => Tear::Garbage(place),
            4 => Tear::Zeros(place),
            _ => Tear::Behind,
        };
        match &what {
            Tear::Cut(at) => bytes.truncate(*at),
            Tear::LostPages(pages) => {
                for page in pages {
                    let end = ((page / PAGE + 1) * PAGE).min(self.batch.end);
                    bytes[*page..end].fill(0);
                }
            }
            Tear::Garbage(at) => bytes[*at..].iter_mut().for_each(|byte| *byte = random.random()),
            Tear::Zeros(at) => {
                bytes[*at..].fill(0);
                bytes.extend([0; 3 * PAGE]);
            }
            Tear::Behind => {
                let length = random.random_range(1..40_000);
                bytes.truncate(self.batch.end);
                bytes.extend(std::iter::repeat_with(|| random.random::<u8>()).take(length));
            }
        }
        let whole = &fs::read(self.folder.join(&self.log)).unwrap()[..self.batch.end];
        fs::write(&path, &bytes).unwrap();
        // No page was lost, or only what was zero anyway.
        if bytes.starts_with(whole) { Tear::Behind } else { what }
    }
}

const PAGE: usize = 4_096;

/// A feed that only answers.
fn answer(published: Published) {
    if let Published::Applied { applied, callers, .. } = published {
        for (index, caller) in callers {
            let _ = caller.send(Answer { applied: applied.clone(), index, road: None });
        }
    }
}

fn load(server: &Exchange, seed: u64) -> JoinHandle<Vec<Record>> {
    let load = Load { seed, prefix: format!("{seed}"), sockets: 64, accounts: ACCOUNTS, in_flight: 8 };
    let address = server.address().clone();
    tokio::spawn(async move { load.run(&address, &Arc::new(AtomicBool::new(false))).await })
}

/// The directory as the cut left it: what its log says, and what a node makes of a copy of it.
async fn look(data: &Path, witness: &mut Witness, records: &[Record], context: &str) {
    let folder = TempDir::new_in(data.parent().unwrap()).unwrap();
    let copy = folder.path().join("data");
    data_folder::copy(data, &copy);
    journal::adopt(&copy).unwrap();
    witness.follow(&copy).unwrap_or_else(|error| panic!("{context}: {error}"));
    let complaints = witness.complaints(records);
    let first = &complaints[..complaints.len().min(5)];
    assert!(complaints.is_empty(), "{context}: {} complaints:\n{}", complaints.len(), first.join("\n"));
    witness.assert_balances(context);
    right(witness.compare(&copy).await, context);
}

fn right(found: Found, context: &str) {
    match found {
        Found::Right => {}
        Found::Refused(what) | Found::HistoryRefused(what) | Found::Wrong(what) => panic!("{context}: {what}"),
    }
}

fn signal(process: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "a process of one's own can be sent {name}");
}
