//! Reading, copying and mending a data directory without running a node: what `rialto journal` calls.
//!
//! Nothing here trusts what it reads. Damage is an answer, with the place and what to do, never a panic. What writes does
//! so only in a directory that no node owns, and where the new is whole before the old is given up: history alone, which
//! follows from the log, is dropped before it is written again, and whoever finds it short says so.
//!
//! Modules in reading order.

mod fault;
mod directory;
mod progress;
mod snapshots;
mod log;
mod replay;
mod status;
mod verify;
mod history_rows;
mod explain;
mod diff;
mod stream;
mod backup;
mod restore;
mod repair;
mod ruling;
mod kept_rows;
mod candle_import;
mod candle_chain;

pub use backup::{BackupReport, SegmentReport, back_up};
pub use candle_import::{CandleImport, CandleScales, ImportedCandles, candle_imports, import_candles};
pub use diff::{AccountChange, BalanceChange, BookLevel, Diff, LevelChange, OrderChange, SymbolChange, book_levels};
pub use directory::Directory;
pub use explain::{Account, Happening, Line, Story};
pub use fault::{Damage, Poison, RecoveryError};
pub use log::{EntryKind, RawEntry};
pub use progress::Progress;
pub use repair::{RebuildReport, SnapshotReport, rebuild_history, write_snapshot};
pub use replay::{At, Base, Played, Replay};
pub use restore::{RestoreReport, import, restore};
pub use ruling::{Considered, Verdict, adopt, compensate, consider};
pub use status::{SnapshotStatus, Status, Vote, status};
pub use stream::{ExportReport, export};
pub use verify::{Verified, verify};
