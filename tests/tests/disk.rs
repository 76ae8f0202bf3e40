//! A disk that is full, that fails, that is slow, that is somebody else's: made for real, under a real server.
//!
//! What a test needs beyond the build (namespaces for mounts, strace) may be missing; it then says so in one line.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gateway::client::{Answer, Rest};
use hyper::Method;
use tempfile::TempDir;
use tests::data_folder::{self, write_ahead_logs};
use tests::exchange::{Exchange, bootstrap, build_folder, credentials, fast_folder};
use tests::load::{Load, Outcome, Record, SYMBOL};
use tests::sandbox::{self, Mount};
use tests::witness::{Found, Witness};
use tokio::task::JoinHandle;

const ACCOUNTS: usize = 4;
const DISK_BYTES: u64 = 640 << 20;
/// RocksDB takes some 70 MiB for a write-ahead log in advance.
const LOW_BYTES: u64 = 96 << 20;
const ROOM_SETTINGS: &str = "[journal]\nlow_space_bytes = 100663296\nballast_bytes = 50331648\n";
const PLAIN_SETTINGS: &str = "[journal]\nlow_space_bytes = 0\nballast_bytes = 0\n";
/// How long what must happen by itself may take; far more than it does.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_orders_takes_cancels_survives_a_restart_and_resumes_by_itself() {
    if !sandbox::is_inside("a_full_disk_refuses_orders_takes_cancels_survives_a_restart_and_resumes_by_itself") {
        return;
    }
    let folder = TempDir::new_in(fast_folder()).unwrap();
    let (disk, image) = (folder.path().join("disk"), folder.path().join("image"));
    match Mount::ext4(&disk, &image, DISK_BYTES) {
        Ok(disk) => fill_up(&disk).await,
        Err(error) => println!("skipped: a full ext4: {error}"),
    }
    let disk = Mount::memory(&disk, DISK_BYTES).unwrap();
    fill_up(&disk).await;
}

async fn fill_up(disk: &Mount) {
    let data = disk.path().join("data");
    let filler = disk.path().join("filler");
    let mut server = Exchange::on(&data, &bootstrap(ACCOUNTS, "0.0005", "0.001"), ROOM_SETTINGS, &[]);
    let rest = Rest::new(server.address());
    let mut open = Vec::new();
    for name in ["a", "b", "c"] {
        assert!(order(&rest, name).await.is_success());
        open.push(name.to_owned());
    }
    eventually("the ballast is taken", || async { data.join("ballast").exists() }).await;

    // Little room: nothing new, but what makes less.
    fill(&filler, disk.path(), LOW_BYTES / 2);
    until_refused(&rest, "d", &mut open).await;
    assert!(cancel(&rest, "a").await.is_success());
    let health = rest.get("/health", &[]).await.unwrap();
    assert!(health.is_success(), "{health:?}");
    fs::remove_file(&filler).unwrap();
    eventually("orders are taken again", || async { order(&rest, "e").await.is_success() }).await;
    open.push("e".to_owned());

    // No room at all, and a crash: it starts, and cancels still go on.
    fill(&filler, disk.path(), LOW_BYTES / 2);
    until_refused(&rest, "f", &mut open).await;
    server.kill();
    fill(&filler, disk.path(), 0);
    server.try_restart().unwrap_or_else(|error| panic!("a full disk stops the restart: {error}"));
    let rest = Rest::new(server.address());
    until_refused(&rest, "g", &mut open).await;
    assert!(cancel(&rest, "b").await.is_success());
    fs::remove_file(&filler).unwrap();
    eventually("orders are taken again", || async { order(&rest, "h").await.is_success() }).await;
    open.push("h".to_owned());
    eventually("the ballast is taken again", || async { data.join("ballast").exists() }).await;

    let found = rest.signed(Method::GET, "/api/v3/openOrders", &[], &credentials(1)).await.unwrap();
    let found = found.body.as_array().unwrap().iter().map(|order| order["clientOrderId"].as_str().unwrap().to_owned());
    open.retain(|name| name != "a" && name != "b");
    assert_eq!(found.collect::<Vec<_>>(), open);
    server.kill();
    look(&data, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_fsync_stops_the_node_is_never_retried_and_loses_nothing_acknowledged() {
    failing("fdatasync", "EIO", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_write_stops_the_node_and_loses_nothing_acknowledged() {
    failing("write", "EIO", 2).await;
    failing("write", "ENOSPC", 3).await;
    // What a remount as read-only brings.
    failing("write", "EROFS", 4).await;
}

/// From some moment under load on, every `call` on the write-ahead log fails with `error`.
async fn failing(call: &str, error: &str, seed: u64) {
    if !has_strace() {
        return println!("skipped: {error} on {call}: needs strace, and leave to trace");
    }
    let folder = TempDir::new_in(build_folder()).unwrap();
    let data = folder.path().join("data");
    let mut server = Exchange::on(&data, &bootstrap(ACCOUNTS, "0.0005", "0.001"), PLAIN_SETTINGS, &[]);
    let (stop, loading) = load(&server, seed);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let trace = folder.path().join("trace");
    let inject = format!("inject={call}:error={error}");
    let mut strace = strace(&server, call, &inject, &write_ahead_logs(&data), &trace);
    assert!(server.ends_within(PATIENCE), "{error} on {call}, and the node goes on: {}", server.stderr());
    stop.store(true, Ordering::Relaxed);
    let records = loading.await.unwrap();
    strace.wait().unwrap();

    let said = server.stderr();
    // History shares the file, and may be the first to be told.
    let told = ["the log in", "history in"].map(|what| format!("this node cannot go on: {what}"));
    assert!(told.iter().any(|told| said.contains(told)), "{said}");
    let injected = fs::read_to_string(&trace).unwrap();
    assert_eq!(injected.matches("(INJECTED)").count(), 1, "what failed was tried again:\n{injected}");
    let untold = |record: &&Record| matches!(record.outcome, Outcome::Unknown);
    assert!(records.iter().any(|record| untold(&record)), "nothing was under way");
    // Refused for good only as every day: nothing says that what failed was not done.
    let refused =
        |record: &&Record| matches!(record.outcome, Outcome::Refused { status: 500.., code } if code != -1008);
    let refused: Vec<_> = records.iter().filter(refused).take(5).collect();
    assert!(refused.iter().all(|record| is_unavailable(record)), "{refused:?}");
    look(&data, &records).await;
    server.restart();
    let rest = Rest::new(server.address());
    assert!(order(&rest, "after").await.is_success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_gone_under_the_node_stops_it_and_loses_nothing_acknowledged() {
    if !sandbox::is_inside("a_disk_that_is_gone_under_the_node_stops_it_and_loses_nothing_acknowledged") {
        return;
    }
    let folder = TempDir::new_in(fast_folder()).unwrap();
    let disk = match Mount::ext4(&folder.path().join("disk"), &folder.path().join("image"), DISK_BYTES) {
        Ok(disk) => disk,
        Err(error) => return println!("skipped: no file system that could go: {error}"),
    };
    let data = disk.path().join("data");
    let mut server = Exchange::on(&data, &bootstrap(ACCOUNTS, "0.0005", "0.001"), PLAIN_SETTINGS, &[]);
    let (stop, loading) = load(&server, 5);
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::Relaxed);
    let records = loading.await.unwrap();
    disk.cut_power();
    let (stop, loading) = load(&server, 6);
    assert!(server.ends_within(PATIENCE), "its disk is gone, and the node goes on: {}", server.stderr());
    stop.store(true, Ordering::Relaxed);
    let after = loading.await.unwrap();
    assert!(after.iter().all(|record| !matches!(record.outcome, Outcome::Done { .. })), "done on no disk");
    disk.power_up();
    look(&data, &records).await;

    // And a disk that can only be read is said to be one.
    disk.set_read_only(true).unwrap();
    let error = server.try_restart().unwrap_err();
    assert!(error.contains("Read-only file system") && error.contains(&*data.to_string_lossy()), "{error}");
    disk.set_read_only(false).unwrap();
    server.restart();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_loses_nothing_grows_no_queue_and_health_still_answers() {
    if !has_strace() {
        return println!("skipped: a slow disk: needs strace, and leave to trace");
    }
    let folder = TempDir::new_in(build_folder()).unwrap();
    let data = folder.path().join("data");
    // Fewer places than requests under way: who finds none must be told so.
    let settings = format!("{PLAIN_SETTINGS}[lanes]\ncount = 1\ncommands_max = 40\n");
    let mut server = Exchange::on(&data, &bootstrap(ACCOUNTS, "0.0005", "0.001"), &settings, &[]);
    let trace = folder.path().join("trace");
    let mut strace = strace(&server, "fdatasync", "inject=fdatasync:delay_enter=500000", &[], &trace);
    let (stop, loading) = load(&server, 7);
    let rest = Rest::new(server.address());
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(rest.get("/health", &[]).await.unwrap().is_success());
    }
    stop.store(true, Ordering::Relaxed);
    let records = loading.await.unwrap();
    // It lets go of the server when it is asked to end.
    interrupt(&mut strace);
    let count = |wanted: fn(&Outcome) -> bool| records.iter().filter(|record| wanted(&record.outcome)).count();
    assert!(count(|outcome| matches!(outcome, Outcome::Done { .. })) > 0, "nothing was done");
    let full = |outcome: &Outcome| matches!(outcome, Outcome::Refused { status: 503, code: -1008 });
    assert!(count(full) > 0, "nobody was told that the queue is full");
    assert!(order(&rest, "after").await.is_success());
    server.kill();
    look(&data, &records).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_directory_is_refused_and_harms_nothing() {
    let folder = TempDir::new_in(build_folder()).unwrap();
    let data = folder.path().join("data");
    let mut server = Exchange::on(&data, &bootstrap(ACCOUNTS, "0.0005", "0.001"), PLAIN_SETTINGS, &[]);
    let (stop, loading) = load(&server, 8);
    for _ in 0..5 {
        let second = Command::new(tests::exchange::binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(&data)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&second.stderr);
        assert!(!second.status.success());
        assert!(said.contains("another process owns the data directory"), "{said}");
    }
    stop.store(true, Ordering::Relaxed);
    let records = loading.await.unwrap();
    let unknown = records.iter().filter(|record| matches!(record.outcome, Outcome::Unknown)).count();
    assert_eq!(unknown, 0, "the second process disturbed the first");
    server.kill();
    look(&data, &records).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_copy_in_the_directorys_place_is_refused_until_it_is_adopted() {
    let folder = TempDir::new_in(build_folder()).unwrap();
    let (data, copy, newer) = (folder.path().join("data"), folder.path().join("copy"), folder.path().join("newer"));
    let mut server = Exchange::on(&data, &bootstrap(ACCOUNTS, "0.0005", "0.001"), PLAIN_SETTINGS, &[]);
    assert!(order(&Rest::new(server.address()), "before").await.is_success());
    server.kill();
    data_folder::copy(&data, &copy);
    server.restart();
    let behind_copy = server.recovered();
    assert!(order(&Rest::new(server.address()), "since").await.is_success());
    server.kill();
    fs::rename(&data, &newer).unwrap();
    fs::rename(&copy, &data).unwrap();
    let error = server.try_restart().unwrap_err();
    assert!(error.contains("is a copy of a data directory") && error.contains("rialto journal adopt"), "{error}");
    journal::adopt(&data).unwrap();
    server.restart();
    assert_eq!(server.recovered(), behind_copy);
    // And the original, moved back, is no copy.
    server.kill();
    fs::rename(&data, &copy).unwrap();
    fs::rename(&newer, &data).unwrap();
    server.restart();
    assert_eq!(server.recovered(), behind_copy + 1);
}

/// Starts 16 sockets' load; how to end it, and its records.
fn load(server: &Exchange, seed: u64) -> (Arc<AtomicBool>, JoinHandle<Vec<Record>>) {
    let load = Load { seed, prefix: format!("l{seed}"), sockets: 16, accounts: ACCOUNTS, in_flight: 8 };
    let (address, stop) = (server.address().clone(), Arc::new(AtomicBool::new(false)));
    let loading = {
        let stop = stop.clone();
        tokio::spawn(async move { load.run(&address, &stop).await })
    };
    (stop, loading)
}

/// What the log says against what was answered, and what a node makes of it.
async fn look(data: &Path, records: &[Record]) {
    let folder = TempDir::new_in(fast_folder()).unwrap();
    let copy = folder.path().join("data");
    copy_elsewhere(data, &copy);
    journal::adopt(&copy).unwrap();
    let mut witness = Witness::default();
    witness.follow(&copy).unwrap();
    let complaints = witness.complaints(records);
    let first = &complaints[..complaints.len().min(5)];
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), first.join("\n"));
    witness.assert_balances("after the fault");
    match witness.compare(&copy).await {
        Found::Right => {}
        Found::Refused(what) | Found::HistoryRefused(what) | Found::Wrong(what) => panic!("{what}"),
    }
}

/// To another file system, where nothing can be linked.
fn copy_elsewhere(from: &Path, to: &Path) {
    for file in data_folder::files(from).into_iter().filter(|file| file != Path::new("ballast")) {
        let target = to.join(&file);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(from.join(&file), target).unwrap();
    }
}

/// Places orders until one is refused for want of room, within the time in which that must be noticed; those that were taken
/// are `open`.
async fn until_refused(rest: &Rest, name: &str, open: &mut Vec<String>) {
    let end = Instant::now() + PATIENCE;
    for number in 0.. {
        let name = format!("{name}{number}");
        let answer = order(rest, &name).await;
        if is_refused_for_room(&answer) {
            return;
        }
        assert!(answer.is_success() && Instant::now() < end, "on a full disk: {answer:?}");
        open.push(name);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn order(rest: &Rest, name: &str) -> Answer {
    let parameters = [
        ("symbol", SYMBOL),
        ("side", "BUY"),
        ("type", "LIMIT"),
        ("timeInForce", "GTC"),
        ("quantity", "1"),
        ("price", "100"),
        ("newClientOrderId", name),
    ];
    rest.signed(Method::POST, "/api/v3/order", &parameters, &credentials(1)).await.unwrap()
}

async fn cancel(rest: &Rest, name: &str) -> Answer {
    let parameters = [("symbol", SYMBOL), ("origClientOrderId", name)];
    rest.signed(Method::DELETE, "/api/v3/order", &parameters, &credentials(1)).await.unwrap()
}

fn is_refused_for_room(answer: &Answer) -> bool {
    answer.status == 503 && answer.code() == -1008
}

/// A server that is stopping says so.
fn is_unavailable(record: &Record) -> bool {
    matches!(record.outcome, Outcome::Refused { status: 503, .. })
}

/// Waits until it is so; what never is fails the test.
async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let end = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Fills a disk until it has only so many bytes left.
fn fill(filler: &Path, disk: &Path, left: u64) {
    let mut file = File::options().create(true).append(true).open(filler).unwrap();
    let mut piece = 1 << 20;
    while piece >= 4_096 {
        let found = rustix::fs::statvfs(disk).unwrap();
        let free = found.f_bavail * found.f_frsize;
        if free < left + piece as u64 || file.write_all(&vec![1; piece]).is_err() {
            piece /= 4;
        }
    }
    file.sync_all().unwrap();
}

fn has_strace() -> bool {
    let tried = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// Traces a running server and does to its calls what `inject` says; only to those on `files`, if any are named.
fn strace(server: &Exchange, call: &str, inject: &str, files: &[std::path::PathBuf], output: &Path) -> Child {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-y", "-p", &server.process_id().to_string(), "-o"]).arg(output);
    command.args(["-e", &format!("trace={call}"), "-e", inject]);
    for file in files {
        command.arg("-P").arg(file);
    }
    command.stderr(Stdio::null()).spawn().unwrap()
}

/// Ends it as ctrl-C does: it lets go of what it traces.
fn interrupt(strace: &mut Child) {
    let sent = Command::new("kill").args(["-INT", &strace.id().to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()));
    strace.wait().unwrap();
}
