//! The past again: from a snapshot or from the very beginning, forward through the log, to any command or any time.
//!
//! Entries are read, checked and decoded on one thread and applied on another. Where two stops are asked for, the second
//! goes on from the first.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use crossbeam_channel::{Receiver, Sender};
use engine::snapshot::StateHash;
use engine::{Command, Engine, Event, OrderId, Sequence, Snapshot, Time};
use openraft::EntryPayload;

use super::directory::Directory;
use super::fault::{Damage, Poison, RESTORE, RecoveryError};
use super::log::Row;
use super::progress::Progress;
use super::snapshots::{self, SnapshotFile};
use crate::compensation::Compensations;
use crate::format::Link;
use crate::origins::Origins;
use crate::record::{Applied, LogId, Proposal, StoredMembership};
use crate::snapshot_file::{FoundSnapshot, SnapshotMeta};

/// Entries that are decoded and wait to be applied: so many batches of so many bytes.
const BATCHES_MAX: usize = 4;
const BATCH_BYTES: usize = 1 << 20;

/// Which moment is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// After the last command.
    End,
    /// After this command.
    Sequence(Sequence),
    /// After the last command that is not later.
    Time(Time),
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            At::End => f.write_str("the log's end"),
            At::Sequence(sequence) => write!(f, "sequence {sequence}"),
            At::Time(time) => write!(f, "time {time}"),
        }
    }
}

/// Where a replay begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The snapshot; `None` for the beginning of all.
    pub file: Option<PathBuf>,
    /// The last command in it.
    pub sequence: Sequence,
    /// That command's time.
    pub time: Time,
}

/// What a replay must begin before.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Before<'a> {
    /// A moment: the newest base that is not after it.
    Moment(At),
    /// The acceptance of an order of a symbol.
    Order(&'a str, OrderId),
    /// Everything that is left.
    Everything,
}

/// What one entry did, or the part of it that was to be applied.
pub struct Played<'a> {
    /// Its commands.
    pub commands: &'a [Command],
    /// What they did. It may be taken away.
    pub applied: &'a mut Applied,
}

impl Played<'_> {
    /// Each command with its sequence and what it did.
    pub fn each(&self) -> impl Iterator<Item = (Sequence, &Command, &[Event])> {
        let applied = &*self.applied;
        let each = self.commands.iter().enumerate();
        each.map(|(at, command)| (applied.sequence(at), command, applied.events_of(at)))
    }
}

/// An engine on its way through the log.
pub struct Replay<'d> {
    directory: &'d Directory,
    base: Base,
    engine: Engine,
    meta: SnapshotMeta,
    /// The entry that comes next, and the link of the one before it.
    next: u64,
    link: Link,
    /// So many commands of the next entry are applied already.
    skip: usize,
    /// The commands that are passed over.
    compensations: Compensations,
    /// Which entries count.
    origins: Origins,
    /// How many commands were applied.
    commands: u64,
    /// How the last entry of the log in sight is numbered.
    last: Option<u64>,
    /// Whether who watches has seen enough.
    has_enough: bool,
}

type Visit<'a> = dyn FnMut(&mut Played<'_>) -> Result<ControlFlow<()>, RecoveryError> + 'a;

impl<'d> Replay<'d> {
    /// From the newest base that is not after `at`. Damaged snapshots that are passed over go to `passed`.
    pub fn towards(directory: &'d Directory, at: At, passed: &mut Vec<Damage>) -> Result<Replay<'d>, RecoveryError> {
        Replay::before(directory, Before::Moment(at), passed)
    }

    /// From the oldest base there is.
    pub fn from_oldest(directory: &'d Directory, passed: &mut Vec<Damage>) -> Result<Replay<'d>, RecoveryError> {
        Replay::before(directory, Before::Everything, passed)
    }

    pub(crate) fn before(
        directory: &'d Directory,
        before: Before<'_>,
        passed: &mut Vec<Damage>,
    ) -> Result<Replay<'d>, RecoveryError> {
        let start = directory.log_start()?;
        let mut files = snapshots::list(directory.path())?;
        files.retain(|file| start.log_id.is_none_or(|purged| file.index >= purged.index));
        if directory.is_running() {
            // One that was written since the log was opened is of entries that are not seen here.
            let last = directory.last_index()?.or(start.log_id.map(|purged| purged.index));
            files.retain(|file| last.is_some_and(|last| file.index <= last));
        }
        if matches!(before, Before::Everything) {
            if start.log_id.is_none() {
                files.clear();
            }
            files.reverse();
        }
        let can_do_without = start.log_id.is_none();
        let mut oldest = None;
        for file in &files {
            let header = match file.header(can_do_without) {
                Ok(header) => header,
                // A running node removes old ones.
                Err(_) if !file.path.exists() => continue,
                Err(damage) => {
                    passed.push(damage);
                    continue;
                }
            };
            oldest = Some(header.sequence);
            if matches!(before, Before::Moment(At::Sequence(wanted)) if header.sequence > wanted) {
                continue;
            }
            let found = match file.load(can_do_without) {
                Ok(found) => found,
                // A running node removes old ones.
                Err(_) if !file.path.exists() => continue,
                Err(damage) => {
                    passed.push(damage);
                    continue;
                }
            };
            if serves(&found.state, before) {
                return Replay::from_snapshot(directory, file, found);
            }
        }
        if can_do_without {
            return Replay::from_genesis(directory);
        }
        match oldest {
            Some(oldest) => Err(RecoveryError::NotThere(format!(
                "the oldest snapshot from which the log goes on is of sequence {oldest}, which is later; \
                 a backup or an export may reach further back"
            ))),
            None => match passed.first() {
                Some(damage) => Err(Damage { remedy: RESTORE, ..damage.clone() }.into()),
                None => {
                    let place = directory.path().join("snapshots").display().to_string();
                    let what = format!("there is no snapshot in it, but the log starts only at entry {}", start.next());
                    Err(Damage::new(place, what, RESTORE).into())
                }
            },
        }
    }

    fn from_genesis(directory: &'d Directory) -> Result<Replay<'d>, RecoveryError> {
        Ok(Replay {
            base: Base { file: None, sequence: Sequence(0), time: Time(0) },
            engine: Engine::new(),
            compensations: directory.compensations(0),
            origins: Origins::default(),
            meta: SnapshotMeta::default(),
            next: 0,
            link: Link::START,
            skip: 0,
            commands: 0,
            last: directory.last_index()?,
            has_enough: false,
            directory,
        })
    }

    fn from_snapshot(
        directory: &'d Directory,
        file: &SnapshotFile,
        found: FoundSnapshot,
    ) -> Result<Replay<'d>, RecoveryError> {
        let start = directory.log_start()?;
        let last_log_id = found.meta.last_log_id;
        let link = match last_log_id {
            Some(log_id) if start.log_id.is_some_and(|purged| purged.index == log_id.index) => start.link,
            Some(log_id) => {
                let row = directory.row(log_id.index).map_err(|damage| damage.at(found.state.sequence()))?;
                check_same(file, log_id, &row)?;
                row.head.link
            }
            None => Link::START,
        };
        Ok(Replay {
            base: Base { file: Some(file.path.clone()), sequence: found.state.sequence(), time: found.state.time() },
            engine: Engine::from_snapshot(found.state),
            compensations: directory.compensations(last_log_id.map_or(0, |log_id| log_id.index + 1)),
            next: last_log_id.map_or(0, |log_id| log_id.index + 1),
            meta: found.meta,
            origins: found.origins,
            link,
            skip: 0,
            commands: 0,
            last: directory.last_index()?,
            has_enough: false,
            directory,
        })
    }

    /// Whether a ruling says that a command is passed over.
    pub(crate) fn is_passed_over(&self, sequence: Sequence) -> bool {
        self.compensations.contains(sequence)
    }

    /// Where it began.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// The last command applied.
    pub fn sequence(&self) -> Sequence {
        self.engine.sequence()
    }

    /// The last command's time.
    pub fn time(&self) -> Time {
        self.engine.time()
    }

    /// How many commands were applied since the base.
    pub fn commands(&self) -> u64 {
        self.commands
    }

    /// The whole state.
    pub fn snapshot(&self) -> Snapshot {
        self.engine.snapshot()
    }

    /// What tells this state from any other.
    pub fn state_hash(&self) -> StateHash {
        self.engine.state_hash()
    }

    /// What a snapshot of this state says beside it; `None` inside of an entry, where none can be taken.
    pub(crate) fn meta(&self) -> Option<(&SnapshotMeta, &Origins)> {
        (self.skip == 0).then_some((&self.meta, &self.origins))
    }

    /// The moments between two entries that are nearest to this one, which may be one.
    pub(crate) fn bounds(&self) -> (Sequence, Sequence) {
        let here = self.sequence().0;
        let before = here - self.skip as u64;
        let whole = if self.skip == 0 { 0 } else { self.directory.row(self.next).map_or(0, |row| row.commands()) };
        (Sequence(before), Sequence(before + whole))
    }

    /// Goes on with another state, as a snapshot of this very moment has it.
    pub(crate) fn continue_as(&mut self, state: Snapshot) {
        self.engine = Engine::from_snapshot(state);
    }

    /// Forward to a moment; `visit` sees what each entry did, and may say that it has seen enough.
    pub fn run(
        &mut self,
        to: At,
        progress: &mut dyn Progress,
        mut visit: impl FnMut(&mut Played<'_>) -> Result<ControlFlow<()>, RecoveryError>,
    ) -> Result<(), RecoveryError> {
        if let At::Sequence(sequence) = to
            && sequence < self.sequence()
        {
            return Err(RecoveryError::NotThere(format!("sequence {sequence} is before {}", self.sequence())));
        }
        let (sender, batches) = crossbeam_channel::bounded(BATCHES_MAX);
        let (directory, first, link) = (self.directory, self.next, self.link);
        std::thread::scope(|scope| {
            scope.spawn(move || send_batches(directory, first, link, &sender));
            // The receiver is dropped when this returns, so that the sender ends too.
            self.take(batches, to, progress, &mut visit)
        })?;
        match to {
            At::Sequence(sequence) if self.sequence() < sequence && !self.has_enough => Err(RecoveryError::NotThere(
                format!("the log ends at sequence {}, before sequence {sequence}", self.sequence()),
            )),
            _ => Ok(()),
        }
    }

    fn take(
        &mut self,
        batches: Receiver<Result<Vec<Row>, Damage>>,
        to: At,
        progress: &mut dyn Progress,
        visit: &mut Visit<'_>,
    ) -> Result<(), RecoveryError> {
        let first = self.next;
        progress.begin("replaying entries", self.last.map_or(0, |last| (last + 1).saturating_sub(first)));
        let mut applied = Applied { first_sequence: Sequence(0), time: Time(0), events: Vec::new(), ends: Vec::new() };
        for batch in batches {
            // What stands behind the moment does not matter, not even its damage.
            if self.is_at(to) {
                return Ok(());
            }
            let batch = batch.map_err(|damage| damage.at(Sequence(self.sequence().0 + 1)))?;
            for row in batch {
                if self.is_at(to) || !self.play(&row, to, &mut applied, visit)? {
                    return Ok(());
                }
            }
            progress.reach(self.next - first);
        }
        Ok(())
    }

    fn is_at(&self, to: At) -> bool {
        matches!(to, At::Sequence(sequence) if self.engine.sequence() >= sequence)
    }

    /// Applies an entry; false when the moment came before its end.
    fn play(&mut self, row: &Row, to: At, applied: &mut Applied, visit: &mut Visit<'_>) -> Result<bool, RecoveryError> {
        let log_id = row.head.log_id;
        let (origin, entry) = match &row.payload {
            EntryPayload::Normal(Proposal::Commands { origin, entry }) => (origin, entry),
            // It was heeded before, when the rulings were looked for.
            EntryPayload::Normal(Proposal::Compensation(_)) | EntryPayload::Blank => {
                self.pass(log_id, row.head.link);
                return Ok(true);
            }
            EntryPayload::Membership(membership) => {
                self.meta.last_membership = StoredMembership::new(Some(log_id), membership.clone());
                self.pass(log_id, row.head.link);
                return Ok(true);
            }
        };
        let time = entry.time_after(self.engine.time());
        if matches!(to, At::Time(to) if time > to) {
            return Ok(false);
        }
        if self.skip == 0 && !self.origins.admits(origin) {
            self.pass(log_id, row.head.link);
            return Ok(true);
        }
        let commands = entry.commands.get(self.skip..).unwrap_or_default();
        let room = match to {
            At::Sequence(sequence) => usize::try_from(sequence.0 - self.sequence().0).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let (commands, rest) = commands.split_at(commands.len().min(room));
        self.apply(time, commands, applied)?;
        self.commands += commands.len() as u64;
        if rest.is_empty() {
            self.pass(log_id, row.head.link);
        } else {
            self.skip += commands.len();
        }
        if !commands.is_empty() && visit(&mut Played { commands, applied })?.is_break() {
            self.has_enough = true;
            return Ok(false);
        }
        Ok(rest.is_empty())
    }

    fn pass(&mut self, log_id: LogId, link: Link) {
        (self.next, self.skip, self.link) = (log_id.index + 1, 0, link);
        self.meta.last_log_id = Some(log_id);
    }

    /// A panic of the engine is named with the command that made it; the state is not to be used then.
    fn apply(&mut self, time: Time, commands: &[Command], applied: &mut Applied) -> Result<(), RecoveryError> {
        applied.events.clear();
        applied.ends.clear();
        applied.first_sequence = Sequence(self.engine.sequence().0 + 1);
        applied.time = time;
        let at = Cell::new(0);
        let (engine, compensations) = (&mut self.engine, &self.compensations);
        let apply = AssertUnwindSafe(|| {
            for (index, command) in commands.iter().enumerate() {
                at.set(index);
                engine.foresee(&commands[index..]);
                compensations.apply(engine, time, command, &mut applied.events);
                applied.ends.push(u32::try_from(applied.events.len()).expect("an entry has fewer than 2^32 events"));
            }
        });
        catch_unwind(apply).map_err(|panic| {
            RecoveryError::Poisoned(Box::new(Poison {
                sequence: applied.sequence(at.get()),
                time,
                command: commands[at.get()].clone(),
                message: message_of(&*panic),
            }))
        })
    }
}

/// Nobody watches.
pub(crate) fn unseen(_played: &mut Played<'_>) -> Result<ControlFlow<()>, RecoveryError> {
    Ok(ControlFlow::Continue(()))
}

fn serves(state: &Snapshot, before: Before<'_>) -> bool {
    match before {
        Before::Everything | Before::Moment(At::End) => true,
        Before::Moment(At::Sequence(wanted)) => state.sequence() <= wanted,
        Before::Moment(At::Time(wanted)) => state.time() <= wanted,
        Before::Order(symbol, order_id) => {
            let listed = state.symbols().find(|listed| listed.symbol().config.name == symbol);
            listed.is_none_or(|listed| listed.counters().order < order_id.0)
        }
    }
}

fn check_same(file: &SnapshotFile, log_id: LogId, row: &Row) -> Result<(), Damage> {
    let found = row.head.log_id;
    if found == log_id {
        return Ok(());
    }
    let what = format!("it goes up to entry {log_id}, which in the log is {found}: they are of different histories");
    Err(Damage::new(file.path.display().to_string(), what, RESTORE))
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word").to_owned()
}

fn send_batches(directory: &Directory, first: u64, link: Link, batches: &Sender<Result<Vec<Row>, Damage>>) {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for row in directory.rows(first, Some(link)) {
        match row {
            Ok(row) => {
                bytes += row.bytes.len();
                batch.push(row);
            }
            Err(damage) => {
                // What is whole before it is applied first. Nobody listens any more when this fails.
                let _ = batches.send(Ok(std::mem::take(&mut batch)));
                let _ = batches.send(Err(damage));
                return;
            }
        }
        if bytes >= BATCH_BYTES {
            bytes = 0;
            if batches.send(Ok(std::mem::take(&mut batch))).is_err() {
                return;
            }
        }
    }
    let _ = batches.send(Ok(batch));
}
