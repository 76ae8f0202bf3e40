//! A file of log entries: what an export is, and each segment of a backup.
//!
//! ```text
//! "RIALTO-LOG-1\n", the header in a frame, then zstd's stream of
//!   the snapshot file that the entries go on from, if there is one
//!   each entry: the length of its frame in four bytes (little-endian), its frame, as the log has it
//!   four zero bytes, the trailer in a frame
//! and the SHA-256 of all that
//! ```
//!
//! Whoever reads it checks every frame and every link again: a file that is damaged, cut or put together wrong is found.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::directory::Directory;
use super::fault::{Damage, RESTORE, RecoveryError, sync_directory};
use super::log::Row;
use super::progress::Progress;
use super::snapshots;
use crate::format::{Link, LogIdBytes, VoteBytes, open, open_first, seal};

const MAGIC: &[u8] = b"RIALTO-LOG-1\n";
/// zstd's own default: at this level it is faster than the disk.
const LEVEL: i32 = 3;
/// The longest frame that is believed.
const FRAME_BYTES_MAX: u32 = 1 << 30;
/// The longest header and trailer.
const HEAD_BYTES_MAX: u64 = 1 << 16;

/// What stands before the entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamHeader {
    /// The first entry.
    pub first: u64,
    /// The entry before it and its link; `None` where the log begins.
    pub before: Option<(LogIdBytes, Link)>,
    /// The SHA-256 of the file before it in a backup.
    pub previous_file: Option<[u8; 32]>,
    /// Who the node voted for.
    pub vote: Option<VoteBytes>,
    /// How often it was started.
    pub boot: u64,
    /// How long the snapshot file is that comes before the entries; zero for none.
    pub snapshot_bytes: u64,
}

/// What stands behind the entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trailer {
    entries: u64,
    last_link: Link,
}

/// Counts and hashes what is written or read through it.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<R: BufRead> Read for Hashing<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.hash.update(&bytes[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Hashing<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        // What is consumed was filled before, so nothing is read here.
        if let Ok(filled) = self.inner.fill_buf() {
            self.hash.update(&filled[..amount]);
        }
        self.inner.consume(amount);
        self.bytes += amount as u64;
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A file on its way; it appears under its name when it is whole.
pub(crate) struct StreamWriter {
    path: PathBuf,
    temporary: PathBuf,
    encoder: zstd::Encoder<'static, Hashing<BufWriter<File>>>,
    next: u64,
    entries: u64,
    raw_bytes: u64,
    last: Option<LogIdBytes>,
    link: Link,
}

/// A file that was written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// One more than its last entry.
    pub end: u64,
    pub entries: u64,
    pub bytes: u64,
    pub raw_bytes: u64,
    pub hash: [u8; 32],
    /// Its last entry, if it has any, and that entry's link.
    pub last: Option<LogIdBytes>,
    pub link: Link,
}

impl StreamWriter {
    pub(crate) fn create(path: &Path, header: &StreamHeader, snapshot: &[u8]) -> Result<StreamWriter, RecoveryError> {
        let temporary = with_suffix(path, "tmp");
        let begin = || -> io::Result<_> {
            let file = BufWriter::new(File::create(&temporary)?);
            let mut out = Hashing { inner: file, hash: Sha256::new(), bytes: 0 };
            out.write_all(MAGIC)?;
            out.write_all(&seal(header))?;
            let mut encoder = zstd::Encoder::new(out, LEVEL)?;
            encoder.include_checksum(true)?;
            encoder.write_all(snapshot)?;
            Ok(encoder)
        };
        let encoder = begin().map_err(|error| RecoveryError::disk(&temporary, error))?;
        Ok(StreamWriter {
            path: path.to_owned(),
            encoder,
            next: header.first,
            entries: 0,
            raw_bytes: 0,
            last: None,
            link: header.before.map_or(Link::START, |(_, link)| link),
            temporary,
        })
    }

    pub(crate) fn push(&mut self, row: &Row) -> Result<(), RecoveryError> {
        let length = u32::try_from(row.bytes.len()).unwrap_or(u32::MAX);
        let written = self.encoder.write_all(&length.to_le_bytes()).and_then(|()| self.encoder.write_all(&row.bytes));
        written.map_err(|error| RecoveryError::disk(&self.temporary, error))?;
        self.next = row.index + 1;
        self.entries += 1;
        self.raw_bytes += row.bytes.len() as u64;
        self.last = Some(LogIdBytes::from(&row.head.log_id));
        self.link = row.head.link;
        Ok(())
    }

    pub(crate) fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    pub(crate) fn finish(self) -> Result<Written, RecoveryError> {
        let StreamWriter { path, temporary, mut encoder, next, entries, raw_bytes, last, link } = self;
        let end = || -> io::Result<([u8; 32], u64)> {
            encoder.write_all(&0u32.to_le_bytes())?;
            encoder.write_all(&seal(&Trailer { entries, last_link: link }))?;
            let mut out = encoder.finish()?;
            let hash = out.hash.clone().finalize();
            out.write_all(&hash)?;
            let file = out.inner.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)?;
            Ok((out.hash.finalize().into(), out.bytes))
        };
        let (hash, bytes) = end().map_err(|error| RecoveryError::disk(&path, error))?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            sync_directory(folder)?;
        }
        Ok(Written { end: next, entries, bytes, raw_bytes, hash, last, link })
    }
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// A file being read; gives its entries, each checked.
pub(crate) struct StreamReader {
    path: PathBuf,
    header: StreamHeader,
    decoder: zstd::Decoder<'static, Hashing<BufReader<File>>>,
    remedy: &'static str,
    snapshot_left: u64,
    next: u64,
    entries: u64,
    link: Link,
    ended: bool,
}

impl StreamReader {
    pub(crate) fn open(path: &Path, remedy: &'static str) -> Result<StreamReader, RecoveryError> {
        let file = File::open(path).map_err(|error| RecoveryError::disk(path, error))?;
        let damaged = |what: &str| Damage::new(path.display().to_string(), what, remedy);
        let mut file = Hashing { inner: BufReader::new(file), hash: Sha256::new(), bytes: 0 };
        let mut magic = vec![0; MAGIC.len()];
        file.read_exact(&mut magic).map_err(|_| damaged("it is too short"))?;
        if magic != MAGIC {
            return Err(damaged("it is no file of log entries").into());
        }
        let header = read_frame(&mut file).map_err(|_| damaged("its header is cut"))?;
        let header: StreamHeader = open(&header).map_err(|error| damaged(&format!("its header: {error}")))?;
        let decoder =
            zstd::Decoder::with_buffer(file).map_err(|error| RecoveryError::disk(path, error))?.single_frame();
        Ok(StreamReader {
            path: path.to_owned(),
            decoder,
            remedy,
            snapshot_left: header.snapshot_bytes,
            next: header.first,
            entries: 0,
            link: header.before.map_or(Link::START, |(_, link)| link),
            ended: false,
            header,
        })
    }

    pub(crate) fn header(&self) -> &StreamHeader {
        &self.header
    }

    /// The snapshot file that the entries go on from; to be taken before the entries.
    pub(crate) fn snapshot(&mut self) -> Result<Option<Vec<u8>>, Damage> {
        if self.snapshot_left == 0 {
            return Ok(None);
        }
        let length = std::mem::take(&mut self.snapshot_left);
        let mut bytes = Vec::new();
        let read = (&mut self.decoder).take(length).read_to_end(&mut bytes);
        read.map_err(|error| self.damage(error))?;
        if bytes.len() as u64 == length { Ok(Some(bytes)) } else { Err(self.damage("its snapshot is cut")) }
    }

    fn damage(&self, what: impl std::fmt::Display) -> Damage {
        Damage::new(self.path.display().to_string(), format!("at entry {}: {what}", self.next), self.remedy)
    }

    fn read(&mut self) -> Result<Option<Row>, Damage> {
        let mut length = [0; 4];
        self.decoder.read_exact(&mut length).map_err(|error| self.damage(error))?;
        let length = u32::from_le_bytes(length);
        if length == 0 {
            return self.check_trailer().map(|()| None);
        }
        if length > FRAME_BYTES_MAX {
            return Err(self.damage("its length cannot be"));
        }
        let mut bytes = Vec::new();
        let read = (&mut self.decoder).take(length.into()).read_to_end(&mut bytes);
        read.map_err(|error| self.damage(error))?;
        let row = Row::of(self.next, bytes.into(), Some(self.link)).map_err(|what| self.damage(what))?;
        self.next += 1;
        self.entries += 1;
        self.link = row.head.link;
        Ok(Some(row))
    }

    fn check_trailer(&mut self) -> Result<(), Damage> {
        let mut bytes = Vec::new();
        let read = (&mut self.decoder).take(HEAD_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|error| self.damage(error))?;
        let trailer: Trailer = open(&bytes).map_err(|error| self.damage(format!("its trailer: {error}")))?;
        if trailer == (Trailer { entries: self.entries, last_link: self.link }) {
            return self.check_hash();
        }
        Err(self.damage(format!("{} entries were written, {} are there", trailer.entries, self.entries)))
    }
}

impl StreamReader {
    /// A bit that the decoder does not look at is found too.
    fn check_hash(&mut self) -> Result<(), Damage> {
        let file = self.decoder.get_mut();
        let found = file.hash.clone().finalize();
        let mut rest = Vec::new();
        let read = (&mut file.inner).take(found.len() as u64 + 1).read_to_end(&mut rest);
        read.map_err(|error| self.damage(error))?;
        if rest == found.as_slice() { Ok(()) } else { Err(self.damage("its hash is wrong")) }
    }
}

impl Iterator for StreamReader {
    type Item = Result<Row, Damage>;

    fn next(&mut self) -> Option<Result<Row, Damage>> {
        if self.ended {
            return None;
        }
        debug_assert_eq!(self.snapshot_left, 0, "the snapshot is taken first");
        let row = self.read();
        self.ended = !matches!(row, Ok(Some(_)));
        row.transpose()
    }
}

/// The bytes of the frame that stands next.
fn read_frame(file: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = [0; 5];
    file.read_exact(&mut head)?;
    let length = u64::from(u32::from_le_bytes([head[1], head[2], head[3], head[4]]));
    if length > HEAD_BYTES_MAX {
        return Err(io::Error::other("too long"));
    }
    let mut bytes = head.to_vec();
    file.take(length + 4).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The SHA-256 of a file.
pub(crate) fn hash_of(path: &Path) -> Result<[u8; 32], RecoveryError> {
    let hash = || -> io::Result<[u8; 32]> {
        let mut file = File::open(path)?;
        let mut hash = Hashing { inner: io::sink(), hash: Sha256::new(), bytes: 0 };
        io::copy(&mut file, &mut hash)?;
        Ok(hash.hash.finalize().into())
    };
    hash().map_err(|error| RecoveryError::disk(path, error))
}

/// What an export holds.
#[derive(Clone, Debug)]
pub struct ExportReport {
    /// The file.
    pub path: PathBuf,
    /// Its first and its last entry; `None` for none.
    pub entries: Option<(u64, u64)>,
    /// Whether a snapshot stands before them, as the log no longer begins at its begin.
    pub has_snapshot: bool,
    /// The size of the entries, and of the file.
    pub bytes: (u64, u64),
}

/// Which entries of a directory may leave it: beside a running node those that are surely durable; of a stopped one all that
/// can be read, since what stands behind the mark may have been acknowledged too.
pub(crate) fn end_of_copy(directory: &Directory) -> Result<u64, RecoveryError> {
    let end = directory.last_index()?.map_or(directory.log_start()?.next(), |last| last + 1);
    // The mark follows the log by up to a tenth of a second; what was purged was durable before that.
    let mark = directory.mark()?.max(directory.log_start()?.next());
    if mark > end {
        let what = format!("the log ends before it, yet the entries before {mark} were durable");
        return Err(Damage::new(directory.entry_place(end), what, RESTORE).into());
    }
    Ok(if directory.is_running() { mark } else { end })
}

/// Writes the log of a directory, and the snapshot it goes on from if it was purged, into one file.
pub fn export(data: &Path, path: &Path, progress: &mut dyn Progress) -> Result<ExportReport, RecoveryError> {
    if path.exists() {
        return Err(RecoveryError::Refused(format!("{} exists already", path.display())));
    }
    let directory = Directory::read(data)?;
    let start = directory.log_start()?;
    let end = end_of_copy(&directory)?;
    let snapshot = match start.log_id {
        None => Vec::new(),
        Some(_) => oldest_snapshot(&directory)?,
    };
    let header = StreamHeader {
        first: start.next(),
        before: start.log_id.map(|purged| (LogIdBytes::from(&purged), start.link)),
        previous_file: None,
        vote: directory.vote()?.as_ref().map(VoteBytes::from),
        boot: directory.boot()?,
        snapshot_bytes: snapshot.len() as u64,
    };
    let mut writer = StreamWriter::create(path, &header, &snapshot)?;
    progress.begin("writing entries", end.saturating_sub(start.next()));
    for row in directory.rows(start.next(), Some(start.link)) {
        let row = row?;
        if row.index >= end {
            break;
        }
        writer.push(&row)?;
        progress.reach(row.index - start.next());
    }
    let written = writer.finish()?;
    Ok(ExportReport {
        path: path.to_owned(),
        entries: (written.entries > 0).then(|| (start.next(), written.end - 1)),
        has_snapshot: !snapshot.is_empty(),
        bytes: (written.raw_bytes, written.bytes),
    })
}

/// The bytes of the oldest whole snapshot that the log goes on from.
fn oldest_snapshot(directory: &Directory) -> Result<Vec<u8>, RecoveryError> {
    let start = directory.log_start()?;
    let mut files = snapshots::list(directory.path())?;
    files.retain(|file| start.log_id.is_none_or(|purged| file.index >= purged.index));
    let mut damage = None;
    for file in files.iter().rev() {
        match file.load(false) {
            Ok(_) => return std::fs::read(&file.path).map_err(|error| RecoveryError::disk(&file.path, error)),
            Err(found) => drop(damage.get_or_insert(found)),
        }
    }
    let place = directory.path().join("snapshots").display().to_string();
    Err(damage
        .unwrap_or_else(|| Damage::new(place, "no snapshot in it is one that the log goes on from", RESTORE))
        .into())
}

/// Whether bytes begin with a frame that is whole, for what is kept in files of one frame.
pub(crate) fn open_file<T: serde::de::DeserializeOwned>(
    path: &Path,
    remedy: &'static str,
) -> Result<Option<T>, RecoveryError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RecoveryError::disk(path, error)),
    };
    let (value, length) = open_first(&bytes).map_err(|error| Damage::new(path.display().to_string(), error, remedy))?;
    if length != bytes.len() {
        return Err(Damage::new(path.display().to_string(), "its length is wrong", remedy).into());
    }
    Ok(Some(value))
}
