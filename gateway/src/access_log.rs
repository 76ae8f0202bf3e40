//! The log of requests: one JSON line for each, without anything secret. No query string is in it (it has signatures), no
//! header, and of a websocket's path no name (it may be a listen key).
//!
//! Lines go to a thread of their own; when the disk is slow they are dropped and counted rather than waited for.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::Serialize;

use crate::config::AccessLogConfig;

/// How long lines may stay in memory, and how often it is looked whether the file was moved away.
const FLUSH_EVERY: Duration = Duration::from_millis(500);

/// Where lines go.
pub struct AccessLog {
    lines: Option<Sender<String>>,
    dropped: AtomicU64,
}

/// One request.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// When it was answered, in milliseconds since 1970.
    pub time: u64,
    /// Its id, as its answer has it.
    pub id: &'a str,
    /// Who asked.
    pub address: IpAddr,
    /// Whose account it was about, if that was proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u64>,
    /// The HTTP method.
    pub method: &'a str,
    /// The path.
    pub path: &'a str,
    /// The HTTP status.
    pub status: u16,
    /// The error's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The sequence that it acknowledges or reflects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// How long it took, in microseconds.
    pub micros: u64,
}

/// The path as it may be told.
pub fn shown(path: &str) -> &str {
    if path.starts_with("/ws/") { "/ws/…" } else { path }
}

impl AccessLog {
    /// Begins to write where the settings say.
    pub fn start(config: &AccessLogConfig) -> Result<AccessLog, String> {
        let Some(path) = config.file.clone() else { return Ok(AccessLog { lines: None, dropped: AtomicU64::new(0) }) };
        let output = Output::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let (lines, waiting) = bounded(config.queue_lines);
        let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || write(output, &waiting));
        thread.map_err(|error| error.to_string())?;
        Ok(AccessLog { lines: Some(lines), dropped: AtomicU64::new(0) })
    }

    /// Whether anything is written.
    pub fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Writes a line, unless too many wait.
    pub fn write(&self, line: &Line<'_>) {
        let Some(lines) = &self.lines else { return };
        let text = serde_json::to_string(line).expect("its names are text and its numbers whole");
        if lines.try_send(text).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

struct Output {
    path: PathBuf,
    file: BufWriter<File>,
    inode: u64,
}

impl Output {
    fn open(path: &Path) -> std::io::Result<Output> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Output { path: path.to_owned(), file: BufWriter::new(file), inode })
    }

    /// Who keeps logs short moves the file away: then it is begun anew.
    fn reopen_if_moved(&mut self) -> std::io::Result<()> {
        self.file.flush()?;
        let found = std::fs::metadata(&self.path).map(|metadata| metadata.ino());
        if found.is_ok_and(|inode| inode == self.inode) {
            return Ok(());
        }
        *self = Output::open(&self.path)?;
        Ok(())
    }
}

fn write(mut output: Output, lines: &Receiver<String>) {
    let (mut looked, mut told) = (Instant::now(), false);
    loop {
        let written = match lines.recv_timeout(FLUSH_EVERY) {
            Ok(line) => writeln!(output.file, "{line}"),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let written = written.and_then(|()| {
            if looked.elapsed() < FLUSH_EVERY {
                return Ok(());
            }
            looked = Instant::now();
            output.reopen_if_moved()
        });
        // Once, not for each line.
        if let Err(error) = &written
            && !told
        {
            tracing::warn!("the log of requests cannot be written: {error}");
        }
        told = written.is_err();
    }
    // Nobody is left who could be told.
    let _ = output.file.flush();
}
