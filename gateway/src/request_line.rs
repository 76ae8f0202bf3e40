//! A quote in a request's line, as in `symbols=["BTCUSDT","ETHUSDT"]`: many clients send it as it is, and the API's documents show
//! it so (rest-api.md, "Exchange information"), but hyper takes it only as `%22`. Written so on its way to hyper, then.
//!
//! Only what is surely a request's line is changed: the first, and what follows a head without a body. After a request with a body
//! or an upgrade everything passes as it is, since where the next line begins is hyper's to know.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const QUOTE: &[u8] = b"%22";
/// The headers behind which something else than a request may follow.
const ENDING: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"upgrade"];
/// As long as the longest of them.
const NAME_MAX: usize = 17;

/// A connection whose requests' lines have no quotes.
pub struct RequestLines<S> {
    stream: S,
    place: Place,
    /// What was read, but had no room any more.
    held: Vec<u8>,
}

/// Where in what is read it is.
enum Place {
    /// In a request's line, or in empty ones before it.
    Line { is_empty: bool },
    /// In a header, of which this much of the name is known, in small letters.
    Header { name: Vec<u8>, is_last: bool },
    /// In its value.
    Value { is_last: bool },
    /// Where nothing is known any more.
    Unknown,
}

impl<S> RequestLines<S> {
    /// A connection of which nothing was read yet.
    pub fn new(stream: S) -> RequestLines<S> {
        RequestLines { stream, place: Place::Line { is_empty: true }, held: Vec::new() }
    }
}

impl Place {
    /// Goes on by a byte; whether that is a quote in a request's line.
    fn meet(&mut self, byte: u8) -> bool {
        match self {
            Place::Line { is_empty } => match byte {
                b'"' => {
                    *is_empty = false;
                    return true;
                }
                b'\n' if !*is_empty => *self = Place::Header { name: Vec::new(), is_last: false },
                b'\r' | b'\n' => {}
                _ => *is_empty = false,
            },
            Place::Header { name, is_last } => match byte {
                b'\r' => {}
                b'\n' if name.is_empty() && *is_last => *self = Place::Unknown,
                b'\n' if name.is_empty() => *self = Place::Line { is_empty: true },
                // A line without a name is none of a head.
                b'\n' => *self = Place::Unknown,
                b':' => {
                    let is_last = *is_last || ENDING.contains(&name.as_slice());
                    *self = Place::Value { is_last };
                }
                _ if name.len() <= NAME_MAX => name.push(byte.to_ascii_lowercase()),
                _ => {}
            },
            &mut Place::Value { is_last } => {
                if byte == b'\n' {
                    *self = Place::Header { name: Vec::new(), is_last };
                }
            }
            Place::Unknown => {}
        }
        false
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for RequestLines<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        if !this.held.is_empty() {
            let rest = this.held.split_off(this.held.len().min(buffer.remaining()));
            buffer.put_slice(&std::mem::replace(&mut this.held, rest));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        if matches!(this.place, Place::Unknown) {
            return Poll::Ready(Ok(()));
        }
        let mut written: Option<Vec<u8>> = None;
        let read = &buffer.filled()[before..];
        for (at, &byte) in read.iter().enumerate() {
            if this.place.meet(byte) {
                written.get_or_insert_with(|| read[..at].to_vec()).extend_from_slice(QUOTE);
            } else if let Some(written) = &mut written {
                written.push(byte);
            }
        }
        if let Some(mut written) = written {
            buffer.set_filled(before);
            this.held = written.split_off(written.len().min(buffer.remaining()));
            buffer.put_slice(&written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RequestLines<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What comes through of what is sent in pieces of that size, read into buffers of that size.
    async fn through(sent: &str, piece: usize) -> String {
        let (mut client, server) = tokio::io::duplex(piece);
        let bytes = sent.as_bytes().to_vec();
        tokio::spawn(async move {
            for piece in bytes.chunks(piece) {
                client.write_all(piece).await.unwrap();
            }
        });
        let (mut lines, mut read, mut buffer) = (RequestLines::new(server), Vec::new(), vec![0; piece]);
        loop {
            match lines.read(&mut buffer).await.unwrap() {
                0 => return String::from_utf8(read).unwrap(),
                count => read.extend_from_slice(&buffer[..count]),
            }
        }
    }

    #[tokio::test]
    async fn quotes_are_escaped_in_the_lines_of_requests_and_nowhere_else() {
        let table = [
            // Two requests without bodies, an empty line before the second.
            (
                "GET /a?b=[\"c\",\"d\"] HTTP/1.1\r\nX: \"y\"\r\n\r\n\r\nGET /\"e HTTP/1.1\r\n\r\n",
                "GET /a?b=[%22c%22,%22d%22] HTTP/1.1\r\nX: \"y\"\r\n\r\n\r\nGET /%22e HTTP/1.1\r\n\r\n",
            ),
            // A body, and what comes behind it.
            (
                "POST /\" HTTP/1.1\r\nContent-Length: 7\r\nHost: a\r\n\r\n{\"a\":1}GET /\" HTTP/1.1\r\n\r\n",
                "POST /%22 HTTP/1.1\r\nContent-Length: 7\r\nHost: a\r\n\r\n{\"a\":1}GET /\" HTTP/1.1\r\n\r\n",
            ),
            (
                "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\"\n\"",
                "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\"\n\"",
            ),
            ("GET / HTTP/1.1\r\nno header\r\n\r\n\"", "GET / HTTP/1.1\r\nno header\r\n\r\n\""),
            ("\"\"\"\"", "%22%22%22%22"),
        ];
        for (sent, expected) in table {
            for piece in [1, 2, 3, 7, 1_000] {
                assert_eq!(through(sent, piece).await, expected, "in pieces of {piece}");
            }
        }
    }
}
