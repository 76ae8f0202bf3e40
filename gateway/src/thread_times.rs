//! How long each thread of this process has been on a processor, by its name. The system counts that anyway, so the threads
//! themselves do nothing for it. Where the system does not say (it is Linux's `/proc`), there is nothing to tell.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use parking_lot::Mutex;

/// What is known of the threads that were seen.
#[derive(Debug, Default)]
pub struct ThreadTimes(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// By the system's number of the thread.
    living: HashMap<u32, Thread>,
    /// What those had that are gone, by name: a counter never goes back.
    ended_ns: BTreeMap<String, u64>,
}

#[derive(Debug, PartialEq, Eq)]
struct Thread {
    name: String,
    busy_ns: u64,
}

impl ThreadTimes {
    /// Nanoseconds on a processor of all threads of a name together, by name.
    pub fn read(&self) -> Vec<(String, u64)> {
        self.0.lock().take(threads())
    }
}

impl Seen {
    fn take(&mut self, now: HashMap<u32, Thread>) -> Vec<(String, u64)> {
        for (id, before) in std::mem::take(&mut self.living) {
            // The number of one that ended may be another's by now, which has been busy for less long.
            if now.get(&id).is_none_or(|now| now.name != before.name || now.busy_ns < before.busy_ns) {
                *self.ended_ns.entry(before.name).or_default() += before.busy_ns;
            }
        }
        let mut by_name = self.ended_ns.clone();
        for thread in now.values() {
            *by_name.entry(thread.name.clone()).or_default() += thread.busy_ns;
        }
        self.living = now;
        by_name.into_iter().collect()
    }
}

fn threads() -> HashMap<u32, Thread> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return HashMap::new() };
    let thread = |task: std::fs::DirEntry| Some((task.file_name().to_str()?.parse().ok()?, read(&task.path())?));
    // One may end while it is looked at.
    tasks.flatten().filter_map(thread).collect()
}

fn read(task: &Path) -> Option<Thread> {
    let name = std::fs::read_to_string(task.join("comm")).ok()?;
    // Nanoseconds on a processor, nanoseconds waiting for one, and how often it had its turn.
    let times = std::fs::read_to_string(task.join("schedstat")).ok()?;
    let busy_ns = times.split_whitespace().next()?.parse().ok()?;
    Some(Thread { name: group(name.trim()).to_owned(), busy_ns })
}

/// Threads that share their work count as one.
fn group(name: &str) -> &str {
    match name {
        name if name.starts_with("tokio-r") => "runtime",
        name if name.starts_with("rocksdb") => "rocksdb",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_a_name_never_goes_back_when_threads_come_and_go() {
        let mut seen = Seen::default();
        let mut told = |threads: &[(u32, &str, u64)]| {
            let thread = |&(id, name, busy_ns): &(u32, &str, u64)| (id, Thread { name: name.to_owned(), busy_ns });
            seen.take(threads.iter().map(thread).collect())
        };
        let named = |name: &str, busy: u64| (name.to_owned(), busy);
        assert_eq!(told(&[(1, "feed", 5), (2, "worker", 7), (3, "worker", 1)]), [named("feed", 5), named("worker", 8)]);
        assert_eq!(told(&[(1, "feed", 6), (3, "worker", 2)]), [named("feed", 6), named("worker", 9)]);
        // The number of the one that ended is another's.
        assert_eq!(
            told(&[(1, "feed", 6), (2, "worker", 1), (3, "worker", 2)]),
            [named("feed", 6), named("worker", 10)]
        );
        assert_eq!(told(&[(1, "worker", 1)]), [named("feed", 6), named("worker", 11)]);
    }

    #[test]
    fn a_thread_that_works_is_seen_to() {
        if !Path::new("/proc/self/task").exists() {
            return println!("skipped: this system has no /proc");
        }
        let (times, stop) = (ThreadTimes::default(), std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
        let spinning = stop.clone();
        let spin = move || while !spinning.load(std::sync::atomic::Ordering::Relaxed) {};
        let thread = std::thread::Builder::new().name("spinner".to_owned()).spawn(spin).unwrap();
        let busy = || times.read().into_iter().find(|(name, _)| name == "spinner").map_or(0, |(_, busy)| busy);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while busy() < 1_000_000 {
            assert!(std::time::Instant::now() < until, "it was never seen to work");
            std::thread::yield_now();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        thread.join().unwrap();
        assert!(busy() >= 1_000_000);
    }
}
