//! What an operator decides and the log, or the directory, then says for ever: that a copied directory is meant, that a
//! poisoned command is passed over.

use std::ops::ControlFlow;
use std::path::Path;

use engine::snapshot::StateHash;
use engine::{Command, Event, Sequence, Snapshot, Time};

use super::directory::{Directory, check_there, is_owned};
use super::fault::{Damage, Poison, RecoveryError};
use super::progress::Progress;
use super::replay::{At, Replay, unseen};
use super::snapshots;
use crate::compensation::CompensationError;
use crate::record::Compensation;

/// Makes a copied directory the directory of a node; of `alone`, if given, without the cluster that it belonged to.
pub fn adopt(data: &Path, alone: Option<u64>) -> Result<(), RecoveryError> {
    check_there(data)?;
    if is_owned(data)? {
        return Err(RecoveryError::InUse(data.to_owned()));
    }
    if let Some(node) = alone {
        crate::founding::found_alone(data, node)?;
    }
    Ok(crate::identity::adopt(data)?)
}

/// A command that a ruling would pass over, and what the engine of this program does with it.
#[derive(Clone, Debug)]
pub struct Considered {
    /// The state before it.
    pub state: Snapshot,
    /// When it came.
    pub time: Time,
    /// What it asks.
    pub command: Command,
    /// What becomes of it as things are.
    pub verdict: Verdict,
    /// Whether a node runs on the directory.
    pub is_running: bool,
}

/// What the engine of this program does with a command.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It stops, and says so.
    Stops(String),
    /// It decides it without harm.
    Decides(Vec<Event>),
}

/// Looks at a command before it is ruled on; nothing is changed.
pub fn consider(
    data: &Path,
    sequence: Sequence,
    progress: &mut dyn Progress,
    passed: &mut Vec<Damage>,
) -> Result<Considered, RecoveryError> {
    let directory = Directory::read(data)?;
    let before = Sequence(sequence.0.checked_sub(1).ok_or_else(|| out_of_log(sequence))?);
    if let Some(newest) = snapshots::list(data)?.iter().find_map(|file| file.header(true).ok())
        && sequence <= newest.sequence
    {
        return Err(RecoveryError::NotThere(format!(
            "command {sequence} is in the newest snapshot, of sequence {}: it was decided without harm",
            newest.sequence
        )));
    }
    let mut replay = Replay::towards(&directory, At::Sequence(before), passed)?;
    if replay.is_passed_over(sequence) {
        return Err(RecoveryError::Refused(format!("command {sequence} is passed over already")));
    }
    replay.run(At::Sequence(before), progress, unseen)?;
    let state = replay.snapshot();
    let mut seen = None;
    let outcome = replay.run(At::Sequence(sequence), progress, |played| {
        seen = played.each().next().map(|(_, command, events)| (command.clone(), events.to_vec(), played.applied.time));
        Ok(ControlFlow::Continue(()))
    });
    let is_running = directory.is_running();
    match (outcome, seen) {
        (Ok(()), Some((command, events, time))) => {
            Ok(Considered { state, time, command, verdict: Verdict::Decides(events), is_running })
        }
        (Err(RecoveryError::Poisoned(poison)), _) => {
            let Poison { time, command, message, .. } = *poison;
            Ok(Considered { state, time, command, verdict: Verdict::Stops(message), is_running })
        }
        (Err(error), _) => Err(error),
        (Ok(()), None) => Err(out_of_log(sequence)),
    }
}

fn out_of_log(sequence: Sequence) -> RecoveryError {
    RecoveryError::NotThere(format!("command {sequence} is not in the log"))
}

/// Lays the ruling into the log; the state that the log comes to with it.
pub fn compensate(
    data: &Path,
    ruling: Compensation,
    progress: &mut dyn Progress,
) -> Result<(Sequence, Time, StateHash), RecoveryError> {
    check_there(data)?;
    if is_owned(data)? {
        return Err(RecoveryError::InUse(data.to_owned()));
    }
    if crate::founding::count_members(data)? > 1 {
        return Err(RecoveryError::Refused(
            "the directory belongs to a cluster, and a ruling on one node alone would part it from the others. Stop all nodes, let \
             the one with the longest log go on alone (rialto journal adopt --alone), rule there, start it, and add the others \
             anew (docs/cluster.md)"
                .to_owned(),
        ));
    }
    crate::compensation::compensate(data, ruling).map_err(|error| match error {
        CompensationError::Start(error) => error.into(),
        CompensationError::NotInLog { .. } => RecoveryError::NotThere(error.to_string()),
        CompensationError::Text => RecoveryError::Refused(error.to_string()),
    })?;
    let directory = Directory::read(data)?;
    let mut replay = Replay::towards(&directory, At::End, &mut Vec::new())?;
    replay.run(At::End, progress, unseen)?;
    Ok((replay.sequence(), replay.time(), replay.state_hash()))
}
