//! What a verb is told, what it prints, how far it is, and how it ends.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use journal::recovery::{Damage, Progress, RecoveryError};
use serde_json::{Value, json};

use super::moment;

/// What every verb is told.
#[derive(Debug, Args)]
pub struct Common {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// How a verb ended, where it did not end early.
pub type Outcome = Result<ExitCode, Stop>;

/// Jobs that end sooner show no bar.
const QUIET: Duration = Duration::from_secs(1);
/// The clock is asked every so many steps.
const LOOK_EVERY: u64 = 64;

/// How a verb ends: 0 fine.
pub const FAILED: u8 = 1;
/// See [`FAILED`]; 2 is clap's, for a wrong command line.
pub const DAMAGE: u8 = 3;
/// A running node owns the directory.
pub const IN_USE: u8 = 4;
/// What was asked for is not there.
pub const NOT_THERE: u8 = 5;
/// It would do harm.
pub const REFUSED: u8 = 6;

/// Why a verb ended early.
pub enum Stop {
    /// It failed.
    Failed(RecoveryError),
    /// Nobody reads any more, or the output cannot be written.
    Output(io::Error),
}

impl From<RecoveryError> for Stop {
    fn from(error: RecoveryError) -> Stop {
        Stop::Failed(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Output(error)
    }
}

impl Stop {
    /// Says why, and how the program ends.
    pub fn report(self, is_json: bool) -> ExitCode {
        let error = match self {
            // Such as `| head`, which has read enough.
            Stop::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Stop::Output(error) => {
                eprintln!("rialto: {error}");
                return ExitCode::from(FAILED);
            }
            Stop::Failed(error) => error,
        };
        let code = match &error {
            RecoveryError::Damaged(_) | RecoveryError::Poisoned(_) => DAMAGE,
            RecoveryError::InUse(_) => IN_USE,
            RecoveryError::NotThere(_) => NOT_THERE,
            RecoveryError::Refused(_) => REFUSED,
            RecoveryError::NoDirectory(_) | RecoveryError::Disk { .. } | RecoveryError::Stopped => FAILED,
        };
        if is_json {
            let mut said = json!({ "error": error.to_string(), "exit": code });
            if let RecoveryError::Damaged(damage) = &error {
                said["damage"] = damage_json(damage);
            }
            // The exit status says the same where this cannot be written.
            let _ = writeln!(io::stdout(), "{said}");
        }
        eprintln!("rialto: {error}");
        ExitCode::from(code)
    }
}

/// A damage as JSON.
pub fn damage_json(damage: &Damage) -> Value {
    json!({
        "place": damage.place,
        "sequence": damage.sequence.map(|sequence| sequence.0),
        "what": damage.what,
        "remedy": damage.remedy,
    })
}

/// Standard output, in blocks.
pub struct Output {
    out: BufWriter<Stdout>,
}

impl Output {
    /// To be written to.
    pub fn new() -> Output {
        Output { out: BufWriter::with_capacity(1 << 16, io::stdout()) }
    }

    /// One line.
    pub fn line(&mut self, text: impl std::fmt::Display) -> Result<(), Stop> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// A name and what it says, under each other.
    pub fn row(&mut self, name: &str, text: impl std::fmt::Display) -> Result<(), Stop> {
        self.line(format_args!("{name:<12} {text}"))
    }

    /// All of it out.
    pub fn end(mut self) -> Result<(), Stop> {
        Ok(self.out.flush()?)
    }
}

/// One JSON value on one line, and that was it.
pub fn print_json(value: &Value) -> Outcome {
    let mut out = Output::new();
    out.line(value)?;
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

/// Snapshots that a time travel passed over are told of, and no more: the answer is right without them.
pub fn tell_passed(passed: &[Damage]) {
    for damage in passed {
        eprintln!("rialto: passed over: {damage}");
    }
}

/// A bar on the terminal, from the second second on.
pub struct Bar {
    is_shown: bool,
    what: String,
    steps: u64,
    began: Instant,
    calls: u64,
    bar: Option<ProgressBar>,
}

impl Bar {
    /// Shown only where somebody can see it.
    pub fn new() -> Bar {
        Bar {
            is_shown: io::stderr().is_terminal(),
            what: String::new(),
            steps: 0,
            began: Instant::now(),
            calls: 0,
            bar: None,
        }
    }

    fn show(&mut self) -> ProgressBar {
        let (bar, template) = if self.steps == 0 {
            (ProgressBar::new_spinner(), "{spinner} {msg} {human_pos} ({elapsed})")
        } else {
            (ProgressBar::new(self.steps), "{msg} [{wide_bar}] {percent}% {human_pos}/{human_len} ({eta})")
        };
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(self.what.clone());
        bar
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Bar {
    fn begin(&mut self, what: &str, steps: u64) {
        self.clear();
        (self.what, self.steps, self.began, self.calls) = (what.to_owned(), steps, Instant::now(), 0);
    }

    fn reach(&mut self, done: u64) {
        if !self.is_shown {
            return;
        }
        self.calls += 1;
        if self.bar.is_none() {
            if !self.calls.is_multiple_of(LOOK_EVERY) && self.calls > LOOK_EVERY || self.began.elapsed() < QUIET {
                return;
            }
            self.bar = Some(self.show());
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A number of bytes, to be read by people.
pub fn bytes_text(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    // In tenths, so that no float is needed.
    let mut tenths = u128::from(bytes) * 10;
    while tenths >= 10_240 && unit + 1 < units.len() {
        tenths /= 1_024;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{}.{} {}", tenths / 10, tenths % 10, units[unit]) }
}

/// So many in so much time: how many a second.
pub fn per_second(count: u64, elapsed: Duration) -> u64 {
    let micros = elapsed.as_micros().max(1);
    u64::try_from(u128::from(count) * 1_000_000 / micros).unwrap_or(u64::MAX)
}

/// Seconds with three decimals.
pub fn seconds_text(elapsed: Duration) -> String {
    format!("{}.{:03} s", elapsed.as_secs(), elapsed.subsec_millis())
}

/// A sequence and its time.
pub fn moment_text((sequence, time): (engine::Sequence, engine::Time)) -> String {
    if time.0 == 0 { format!("sequence {sequence}") } else { format!("sequence {sequence}, {}", moment::text(time)) }
}

/// The same as JSON.
pub fn moment_json((sequence, time): (engine::Sequence, engine::Time)) -> Value {
    json!({ "sequence": sequence.0, "time": moment::text(time) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        assert_eq!(bytes_text(1_023), "1023 B");
        assert_eq!(bytes_text(1_536), "1.5 KiB");
        assert_eq!(bytes_text(5 << 30), "5.0 GiB");
    }

    #[test]
    fn a_rate_of_no_time_is_no_error() {
        assert_eq!(per_second(10, Duration::ZERO), 10_000_000);
        assert_eq!(per_second(1_500_000, Duration::from_millis(500)), 3_000_000);
    }
}
