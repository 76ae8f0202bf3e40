//! Room on the disk. A log that cannot grow stops the node, so long before that the door takes only what makes work less:
//! cancels. It opens again by itself when there is room.
//!
//! RocksDB cannot even open a database on a full disk, so a file of ballast lies beside it: thrown out at a start without
//! room, taken aboard again when there is.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use engine::Command;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::runtime;

/// How often the disk is asked. What is written meanwhile must be far less than the room that is kept.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How much room is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceConfig {
    /// With less room than so many bytes, only cancels are taken.
    pub low_bytes: u64,
    /// How large the ballast is.
    pub ballast_bytes: u64,
}

impl SpaceConfig {
    /// Once it was low, there is room again at so many bytes: a quarter more, so that it does not flutter.
    fn enough(&self) -> u64 {
        self.low_bytes.saturating_add(self.low_bytes / 4)
    }
}

/// What is known of the room there is. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    is_low: AtomicBool,
    free_bytes: AtomicU64,
}

impl Space {
    /// Whether a command may go to the log now.
    pub(crate) fn admits(&self, command: &Command) -> bool {
        !self.state.is_low.load(Ordering::Relaxed) || makes_less(command)
    }

    /// How much room there is, and whether that is too little.
    pub(crate) fn status(&self) -> (u64, bool) {
        (self.state.free_bytes.load(Ordering::Relaxed), self.state.is_low.load(Ordering::Relaxed))
    }

    /// Looks at the disk until dropped; never returns.
    pub(crate) async fn watch(self, data: PathBuf, config: SpaceConfig) {
        let data = Arc::new(data);
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut was_asked = true;
        loop {
            interval.tick().await;
            // A slow disk answers late, and taking ballast waits for it.
            let (space, at) = (self.clone(), data.clone());
            let look = move || free_bytes(&at).map(|free| space.look(&at, config, free));
            let Ok(asked) = runtime::blocking(look).await else { return };
            if let Err(error) = &asked
                && was_asked
            {
                tracing::warn!("the room in {} cannot be asked: {error}", data.display());
            }
            was_asked = asked.is_ok();
        }
    }

    fn look(&self, data: &Path, config: SpaceConfig, free: u64) {
        self.state.free_bytes.store(free, Ordering::Relaxed);
        let was_low = self.state.is_low.load(Ordering::Relaxed);
        let is_low = free < if was_low { config.enough() } else { config.low_bytes };
        if is_low != was_low {
            self.state.is_low.store(is_low, Ordering::Relaxed);
            let (data, low) = (data.display(), config.low_bytes);
            if is_low {
                tracing::error!("{free} bytes are free for {data}, less than {low}: only cancels are taken. Make room");
            } else {
                tracing::info!("{free} bytes are free for {data}: orders are taken again");
            }
        }
        if !is_low && free > config.enough().saturating_add(config.ballast_bytes) {
            take_ballast(data, config.ballast_bytes);
        }
    }
}

/// What takes orders off the book, or restrains trading, or lets time pass, is taken however little room there is.
fn makes_less(command: &Command) -> bool {
    matches!(
        command,
        Command::CancelOrder(_)
            | Command::CancelOrderList(_)
            | Command::CancelAllOrders { .. }
            | Command::CancelEverything { .. }
            | Command::ReduceOrder { .. }
            | Command::ConfigureExchange(_)
            | Command::ConfigureAccount { .. }
            | Command::Access(_)
            | Command::SetSymbolStatus { .. }
            | Command::SetCountdown { .. }
            | Command::Tick
    )
}

/// Before anything is opened: without enough room, out with the ballast.
pub(crate) fn make_room(data: &Path, config: SpaceConfig) -> io::Result<()> {
    let ballast = ballast(data);
    if free_bytes(data)? < config.low_bytes && ballast.exists() {
        tracing::warn!("there is little room for {}: the ballast is thrown out", data.display());
        fs::remove_file(ballast)?;
    }
    Ok(())
}

fn take_ballast(data: &Path, bytes: u64) {
    let path = ballast(data);
    if bytes == 0 || path.exists() {
        return;
    }
    let temporary = path.with_extension("tmp");
    let take = || -> io::Result<()> {
        let file = File::create(&temporary)?;
        fallocate(file.as_fd(), FallocateFlags::empty(), 0, bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    if let Err(error) = take() {
        // No harm today; the next look tries again.
        tracing::debug!("no ballast in {}: {error}", data.display());
        let _ = fs::remove_file(&temporary);
    }
}

fn ballast(data: &Path) -> PathBuf {
    data.join("ballast")
}

/// How many bytes this process may still write on the file system of `path`.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use engine::{SymbolId, Uid};

    use super::*;

    const CONFIG: SpaceConfig = SpaceConfig { low_bytes: 1_000, ballast_bytes: 4_096 };

    #[test]
    fn with_little_room_only_cancels_are_taken_until_there_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let space = Space::default();
        let open = Command::OpenAccount { uid: Uid(1) };
        let cancel = Command::CancelAllOrders { uid: Uid(1), symbol: SymbolId(0) };
        let admitted = |free| {
            space.look(folder.path(), CONFIG, free);
            (space.admits(&open), space.admits(&cancel))
        };
        assert_eq!(admitted(1_000), (true, true));
        assert_eq!(admitted(999), (false, true));
        assert_eq!(admitted(1_249), (false, true));
        assert_eq!(admitted(1_250), (true, true));
        assert_eq!(admitted(1_000), (true, true));
        assert_eq!(space.status(), (1_000, false));
    }

    #[test]
    fn ballast_is_taken_with_room_and_thrown_out_without() {
        let folder = tempfile::tempdir().unwrap();
        let space = Space::default();
        space.look(folder.path(), CONFIG, 5_346);
        assert!(!ballast(folder.path()).exists());
        space.look(folder.path(), CONFIG, 5_347);
        assert_eq!(fs::metadata(ballast(folder.path())).unwrap().len(), 4_096);
        make_room(folder.path(), CONFIG).unwrap();
        assert!(ballast(folder.path()).exists(), "there is room");
        make_room(folder.path(), SpaceConfig { low_bytes: u64::MAX, ..CONFIG }).unwrap();
        assert!(!ballast(folder.path()).exists());
    }
}
