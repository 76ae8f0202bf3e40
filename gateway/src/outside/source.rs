//! Messages of a venue outside, one after the other: from its websocket, which is connected again whenever it is lost, or from
//! a recording.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use futures_util::{SinkExt, StreamExt};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::backoff::Backoff;
use super::connection::Venue;

/// Messages that wait to be looked at; then the source is not read on.
const WAITING: usize = 1_024;
/// The longest line of a recording, in bytes.
const LINE_MAX: u64 = 16 << 20;
/// The longest sleep between two looks whether anybody listens.
const NAP: Duration = Duration::from_millis(100);
/// Bytes of a recording that begin like this are gzipped.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Where messages come from.
#[derive(Clone)]
pub enum Source {
    /// A venue, and the path of its streams.
    Live {
        /// Where it is.
        venue: Venue,
        /// What is asked of it.
        path: String,
    },
    /// A file of lines `<nanoseconds since 1970> <JSON>`, gzipped or not.
    File {
        /// Which one.
        path: PathBuf,
        /// How many times as fast as it was recorded; none for as fast as it can be taken.
        speed: Option<Decimal>,
    },
}

/// What a source says.
#[derive(Debug)]
pub enum News {
    /// It is connected: what follows is new.
    Connected,
    /// A message, and when it was received.
    Message {
        /// As it came.
        text: String,
        /// In microseconds since 1970.
        at_us: u64,
    },
    /// The source is there, and says nothing.
    Alive,
    /// The connection is lost.
    Lost(String),
    /// The recording ends here, or is broken here.
    Ended(Result<(), String>),
}

impl Source {
    /// From `file:PATH` or a URL; without a path in it, `streams` are asked for.
    pub fn parse(
        text: &str,
        trusted: Option<&Path>,
        speed: Option<Decimal>,
        streams: &[String],
    ) -> Result<Source, String> {
        if let Some(path) = text.strip_prefix("file:") {
            return Ok(Source::File { path: path.into(), speed });
        }
        let (venue, path) = Venue::parse(text, trusted)?;
        let path = if path.is_empty() { format!("/stream?streams={}", streams.join("/")) } else { path };
        Ok(Source::Live { venue, path })
    }

    /// Whether it ends by itself.
    pub fn is_file(&self) -> bool {
        matches!(self, Source::File { .. })
    }

    /// What it says, from now on; the task ends when the receiver is dropped.
    pub fn start(self, ping_every: Duration) -> mpsc::Receiver<News> {
        let (sender, news) = mpsc::channel(WAITING);
        match self {
            Source::Live { venue, path } => {
                tokio::spawn(follow(venue, path, ping_every, sender));
            }
            Source::File { path, speed } => {
                tokio::task::spawn_blocking(move || {
                    let ended = read(&path, speed, &sender);
                    let _ = sender.blocking_send(News::Ended(ended));
                });
            }
        }
        news
    }
}

/// Microseconds since 1970, by this machine's clock.
pub fn now_us() -> u64 {
    crate::clock::now().0
}

async fn follow(venue: Venue, path: String, ping_every: Duration, sender: mpsc::Sender<News>) {
    let mut backoff = Backoff::default();
    loop {
        let why = match listen(&venue, &path, ping_every, &sender, &mut backoff).await {
            Some(why) => why,
            None => return,
        };
        if sender.send(News::Lost(why)).await.is_err() {
            return;
        }
        tokio::time::sleep(backoff.fail()).await;
    }
}

/// One connection, until it is lost; nothing when nobody listens any more.
async fn listen(
    venue: &Venue,
    path: &str,
    ping_every: Duration,
    sender: &mpsc::Sender<News>,
    backoff: &mut Backoff,
) -> Option<String> {
    let mut socket = match venue.websocket(path).await {
        Ok(socket) => socket,
        Err(why) => return if sender.is_closed() { None } else { Some(why) },
    };
    sender.send(News::Connected).await.ok()?;
    let mut ping = tokio::time::interval(ping_every);
    ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut unanswered = 0;
    loop {
        let news = tokio::select! {
            () = sender.closed() => {
                // Said politely; who does not hear it loses nothing.
                let _ = socket.close(None).await;
                return None;
            }
            _ = ping.tick() => {
                // A venue that is gone without a word answers no ping.
                if unanswered == 3 {
                    return Some("silent".to_owned());
                }
                unanswered += 1;
                if let Err(why) = socket.send(Message::Ping(bytes::Bytes::new())).await {
                    return Some(why.to_string());
                }
                continue;
            }
            next = socket.next() => match next {
                None => return Some("closed".to_owned()),
                Some(Err(why)) => return Some(why.to_string()),
                Some(Ok(Message::Close(frame))) => {
                    return Some(frame.map_or_else(|| "closed".to_owned(), |frame| format!("closed: {}", frame.reason)));
                }
                Some(Ok(Message::Text(text))) => News::Message { text: text.to_string(), at_us: now_us() },
                Some(Ok(_)) => News::Alive,
            },
        };
        unanswered = 0;
        backoff.succeed();
        sender.send(news).await.ok()?;
    }
}

/// A recording, line by line.
fn read(path: &Path, speed: Option<Decimal>, sender: &mpsc::Sender<News>) -> Result<(), String> {
    let complaint = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let mut file = BufReader::new(File::open(path).map_err(|why| complaint(&why))?);
    let is_gzip = file.fill_buf().map_err(|why| complaint(&why))?.starts_with(&GZIP);
    let plain: Box<dyn Read> = if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut lines = BufReader::new(plain);
    let (started, mut first) = (Instant::now(), None);
    if sender.blocking_send(News::Connected).is_err() {
        return Ok(());
    }
    for number in 1u64.. {
        let mut line = Vec::new();
        let length = (&mut lines).take(LINE_MAX).read_until(b'\n', &mut line).map_err(|why| complaint(&why))?;
        if length == 0 {
            break;
        }
        let wrong = || complaint(&format!("line {number} is no \"<nanoseconds> <JSON>\""));
        let text = String::from_utf8(line).map_err(|_| wrong())?;
        let (at_ns, message) = text.trim_end().split_once(' ').ok_or_else(wrong)?;
        let at_ns: u64 = at_ns.parse().map_err(|_| wrong())?;
        if let Some(speed) = speed {
            let since = at_ns.saturating_sub(*first.get_or_insert(at_ns));
            let due = Decimal::from(since).checked_div(speed).and_then(|due| due.to_u64()).unwrap_or(u64::MAX);
            // In short sleeps, so that it ends soon where nobody listens any more.
            while let wait @ 1.. = Duration::from_nanos(due).saturating_sub(started.elapsed()).as_nanos() {
                if sender.is_closed() {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)).min(NAP));
            }
        }
        let news = News::Message { text: message.to_owned(), at_us: at_ns / 1_000 };
        if sender.blocking_send(news).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn a_recording_is_told_line_by_line_and_a_broken_one_up_to_where_it_breaks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording.gz");
        let lines = "2000 {\"a\":1}\n5000 {\"b\":2}\nnonsense\n7000 {}\n";
        let mut gzip = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        gzip.write_all(lines.as_bytes()).unwrap();
        gzip.finish().unwrap();
        let source = Source::parse(&format!("file:{}", path.display()), None, None, &[]).unwrap();
        let mut news = source.start(Duration::from_secs(1));
        assert!(matches!(news.recv().await, Some(News::Connected)));
        let mut told = Vec::new();
        let ended = loop {
            match news.recv().await.unwrap() {
                News::Message { text, at_us } => told.push((text, at_us)),
                News::Ended(ended) => break ended,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(told, [("{\"a\":1}".to_owned(), 2), ("{\"b\":2}".to_owned(), 5)]);
        assert!(ended.unwrap_err().contains("line 3"));
    }
}
