//! Damage to every kind of file, at every kind of place: a node refuses to start with a message that names the place and
//! the remedy, or it starts with exactly the right state. Never a wrong state, never a panic, never a hang.
//!
//! A refusal also has to leave the rest alone: when the one damaged file is put back, the node starts with the right state.
//!
//! The samples follow from the seed alone, which is printed: `RIALTO_SEED=n` takes the same again. CI takes 200;
//! `RIALTO_FLIPS=2000` takes as many as one likes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::Command;
use futures_util::{StreamExt, stream};
use journal::{Answer, Node, NodeConfig, Published};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tests::data_folder::{copy, files, written};
use tests::exchange::{fast_folder, number_from};
use tests::order_flow::OrderFlow;
use tests::witness::{Found, NO_BALLAST, Witness};
use tokio::sync::oneshot;

/// Runs of the node that made the directory.
const RUNS: usize = 7;
const COMMANDS_OF_A_RUN: usize = 150;
/// Often enough that the log is purged and several snapshots are kept.
const SNAPSHOT_EVERY: u64 = 90;
/// How many samples are looked at at once.
const AT_ONCE: usize = 3;
const PAGE: usize = 4_096;

/// One damage to one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    Flip { bit: usize },
    Garbage { at: usize, length: usize },
    ZeroPage { at: usize },
    SwapPages { at: usize },
    Cut { length: usize },
    Extend { length: usize },
    Remove,
}

/// What came of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Refused with a message that says where and what to do; with the file put back all is right.
    Refused,
    /// Right in every row.
    Right,
    /// The state is right, and what cannot be read of history says so.
    HistoryRefused,
    /// What must never be.
    Bad,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_anywhere_is_refused_by_name_or_survived_with_the_right_state() {
    let seed = number_from("RIALTO_SEED").unwrap_or_else(|| rand::random_range(0..1 << 40));
    let samples = number_from("RIALTO_FLIPS").unwrap_or(200);
    println!("RIALTO_SEED={seed}");
    let folder = TempDir::new_in(fast_folder()).unwrap();
    let (image, witness) = image(folder.path(), seed).await;
    let kinds = by_kind(&image);
    for (kind, files) in &kinds {
        println!("{kind}: {} files", files.len());
    }

    let mut random = StdRng::seed_from_u64(seed);
    let mut taken = Vec::new();
    for number in 0..samples as usize {
        // In turn, so that few samples meet every kind too.
        let (kind, files) = kinds.iter().nth(number % kinds.len()).unwrap();
        let file = files[random.random_range(0..files.len())].clone();
        // Of a file with room at its end, mostly what is before that.
        let path = image.join(&file);
        let length = if random.random_range(0..4) > 0 { written(&path) } else { fs::metadata(&path).unwrap().len() };
        let length = length as usize;
        taken.push((kind.clone(), file, damage(&mut random, length)));
    }

    let looking = taken.into_iter().map(|(kind, file, damage)| {
        let (image, witness, folder) = (&image, &witness, folder.path());
        async move {
            let (class, said) = sample(image, witness, folder, &file, damage).await;
            (kind, file, damage, class, said)
        }
    });
    let mut looked = stream::iter(looking).buffer_unordered(AT_ONCE);
    let mut found = BTreeMap::<(String, Class), usize>::new();
    let mut bad = Vec::new();
    while let Some((kind, file, damage, class, said)) = looked.next().await {
        if std::env::var_os("RIALTO_VERBOSE").is_some() {
            println!("{} {damage:?}: {class:?}: {said}", file.display());
        }
        if class == Class::Bad {
            bad.push(format!("{} {damage:?}: {said}", file.display()));
        }
        *found.entry((kind, class)).or_default() += 1;
    }
    for ((kind, class), count) in &found {
        println!("{:<10} {:<14} {count}", kind, format!("{class:?}"));
    }
    assert!(bad.is_empty(), "RIALTO_SEED={seed}: {} of {samples}:\n{}", bad.len(), bad.join("\n"));
    let count = |class| found.iter().filter(|((_, found), _)| *found == class).map(|(_, count)| count).sum::<usize>();
    assert!(count(Class::Refused) > samples as usize / 10, "hardly anything was refused: {found:?}");
    assert!(count(Class::Right) > samples as usize / 10, "hardly anything was survived: {found:?}");
}

/// A directory as a crash leaves it, with everything in it that a long life brings: tables of every column family, a
/// write-ahead log with commands in it, a purged log, several snapshots, history; and what it must say.
async fn image(folder: &Path, seed: u64) -> (PathBuf, Witness) {
    let (live, image) = (folder.join("live"), folder.join("image"));
    let mut witness = Witness::default();
    let mut flow = OrderFlow::new(seed);
    for run in 1..=RUNS {
        let config = NodeConfig {
            snapshot_every_entries: SNAPSHOT_EVERY,
            log_bytes_kept: 0,
            space: NO_BALLAST,
            ..NodeConfig::new(&live)
        };
        let (node, published) = Node::start(config).await.unwrap();
        let feed = std::thread::spawn(move || published.iter().for_each(answer));
        node.recovered().await.unwrap();
        for _ in 0..COMMANDS_OF_A_RUN {
            let command = timeless(&mut flow);
            let (caller, answer) = oneshot::channel();
            node.sequencer().submit(command, Some(caller)).unwrap();
            flow.hear(answer.await.unwrap().events());
        }
        if run == RUNS {
            // The mark of what is durable follows within 100 ms.
            tokio::time::sleep(Duration::from_millis(400)).await;
            copy(&live, &image);
        }
        node.stop().await;
        feed.join().unwrap();
        if run < RUNS {
            witness.follow(&live).unwrap();
        }
    }
    // What is checked below is worth something only if all this is right by itself.
    let untouched = folder.join("untouched");
    copy(&image, &untouched);
    journal::adopt(&untouched).unwrap();
    witness.follow(&untouched).unwrap();
    match witness.compare(&untouched).await {
        Found::Right => {}
        Found::Refused(what) | Found::HistoryRefused(what) | Found::Wrong(what) => panic!("undamaged: {what}"),
    }
    (image, witness)
}

/// The next command that sets no deadline: a node that starts would meet it at once, and change.
fn timeless(flow: &mut OrderFlow) -> Command {
    loop {
        match flow.next().unwrap().1 {
            Command::SetCountdown { .. } => {}
            Command::AddSymbol(mut config) => {
                config.circuit_breaker = None;
                return Command::AddSymbol(config);
            }
            Command::ConfigureSymbol { symbol, mut config } => {
                config.circuit_breaker = None;
                return Command::ConfigureSymbol { symbol, config };
            }
            command => return command,
        }
    }
}

/// A feed that only answers.
fn answer(published: Published) {
    if let Published::Applied { applied, callers, .. } = published {
        for (index, caller) in callers {
            let _ = caller.send(Answer { applied: applied.clone(), index, road: None });
        }
    }
}

/// The files of a data directory by what they are; the log that RocksDB writes for people is none of them.
fn by_kind(image: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut kinds = BTreeMap::<String, Vec<PathBuf>>::new();
    for file in files(image) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let kind = match name.split_once('.') {
            // Only there to be given up.
            _ if name == "ballast" => continue,
            Some((_, suffix)) => format!("*.{suffix}"),
            None if name == "LOG" => continue,
            // MANIFEST-000005
            None => name.split('-').next().unwrap().to_owned(),
        };
        if kind.starts_with("*.old") {
            continue;
        }
        // Twice, so that what holds the most is met more often.
        let again = if kind == "*.sst" || kind == "*.log" || kind == "MANIFEST" { 2 } else { 1 };
        for turn in 1..=again {
            kinds.entry(format!("{kind}{}", if turn == 1 { "" } else { " " })).or_default().push(file.clone());
        }
    }
    kinds
}

/// Any damage; mostly a flipped bit, at the head, at the tail or anywhere.
fn damage(random: &mut StdRng, length: usize) -> Damage {
    let within = length.max(1);
    let place = match random.random_range(0..4) {
        0 => random.random_range(0..within.min(64)),
        1 => within - 1 - random.random_range(0..within.min(64)),
        _ => random.random_range(0..within),
    };
    match random.random_range(0..20) {
        _ if length == 0 => Damage::Extend { length: random.random_range(1..5_000) },
        0..12 => Damage::Flip { bit: place * 8 + random.random_range(0..8) },
        12..14 => Damage::Garbage { at: place, length: random.random_range(1..300) },
        14..16 => Damage::ZeroPage { at: place / PAGE * PAGE },
        16 => Damage::SwapPages { at: place / PAGE * PAGE },
        17 => Damage::Cut { length: place },
        18 => Damage::Extend { length: random.random_range(1..5_000) },
        _ => Damage::Remove,
    }
}

/// The bytes after it; none when the file is gone.
fn damaged(mut bytes: Vec<u8>, damage: Damage) -> Option<Vec<u8>> {
    let end = bytes.len();
    match damage {
        // A copy that was adopted may say so in a byte less.
        Damage::Flip { bit } => bytes[(bit / 8).min(end - 1)] ^= 1 << (bit % 8),
        Damage::Garbage { at, length } => {
            let at = at.min(end - 1);
            let mut random = StdRng::seed_from_u64(at as u64);
            bytes[at..end.min(at + length)].iter_mut().for_each(|byte| *byte = random.random());
        }
        Damage::ZeroPage { at } => bytes[at..end.min(at + PAGE)].fill(0),
        Damage::SwapPages { at } => {
            let (a, b) = (at, (at + PAGE) % end.div_ceil(PAGE).max(1) / PAGE * PAGE);
            let length = PAGE.min(end - a).min(end - b);
            if a.abs_diff(b) >= length {
                let first = bytes[a..a + length].to_vec();
                bytes.copy_within(b..b + length, a);
                bytes[b..b + length].copy_from_slice(&first);
            } else {
                bytes[a..a + length].rotate_left(length / 2);
            }
        }
        Damage::Cut { length } => bytes.truncate(length),
        Damage::Extend { length } => {
            let mut random = StdRng::seed_from_u64(length as u64);
            bytes.extend(std::iter::repeat_with(|| random.random::<u8>()).take(length));
        }
        Damage::Remove => return None,
    }
    Some(bytes)
}

/// Damages one file of a copy and starts a node on it; and, where it refuses, once more with the file put back.
async fn sample(image: &Path, witness: &Witness, folder: &Path, file: &Path, damage: Damage) -> (Class, String) {
    let folder = TempDir::new_in(folder).unwrap();
    let data = folder.path().join("data");
    copy(image, &data);
    // The copy is meant; what is damaged is then its own.
    journal::adopt(&data).unwrap();
    let path = data.join(file);
    let whole = fs::read(&path).unwrap();
    let is_linked = fs::metadata(&path).unwrap().nlink() > 1;
    let bytes = damaged(whole.clone(), damage);
    if is_linked || bytes.is_none() {
        fs::remove_file(&path).unwrap();
    }
    if let Some(bytes) = bytes {
        fs::write(&path, bytes).unwrap();
    }
    match witness.compare(&data).await {
        Found::Right => (Class::Right, String::new()),
        Found::HistoryRefused(said) if says_where_and_what_to_do(&said, &data) => (Class::HistoryRefused, said),
        Found::HistoryRefused(said) => (Class::Bad, format!("history says neither where nor what to do: {said}")),
        Found::Wrong(said) => (Class::Bad, said),
        Found::Refused(said) if !says_where_and_what_to_do(&said, &data) => {
            (Class::Bad, format!("it says neither where nor what to do: {said}"))
        }
        Found::Refused(said) => {
            fs::write(&path, whole).unwrap();
            if damage == Damage::Remove && file == Path::new("identity") {
                journal::adopt(&data).unwrap();
            }
            match witness.compare(&data).await {
                Found::Right => (Class::Refused, said),
                Found::Refused(then) | Found::HistoryRefused(then) | Found::Wrong(then) => {
                    (Class::Bad, format!("it refused ({said}), and with the file put back: {then}"))
                }
            }
        }
    }
}

/// Whether a message names the directory or a place in it, and a way out.
fn says_where_and_what_to_do(said: &str, data: &Path) -> bool {
    let where_ = said.contains(&*data.to_string_lossy()) || said.contains("column family");
    let what = ["Restore the data directory from a backup", "rialto journal"].iter().any(|way| said.contains(way));
    where_ && what && !said.contains("panicked") && !said.contains("PANIC")
}
