//! What comes in on a websocket: bytes to messages, by RFC 6455, bounded.
//!
//! Between messages nothing is held but this struct: tens of thousands of sockets are idle.

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::ws::deflate::{self, Unreadable};
use crate::ws::message::Opcode;

/// Room that an idle socket keeps.
const IDLE_BYTES: usize = 256;
/// The longest payload of a control frame.
const CONTROL_MAX: usize = 125;

/// A message or control frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A text.
    Text(Utf8Bytes),
    /// Bytes.
    Binary(Bytes),
    /// To be answered with a pong of the same payload.
    Ping(Bytes),
    /// An answer to a ping.
    Pong(Bytes),
    /// The peer closes, with this code if it gave one.
    Close(Option<u16>),
}

/// What a peer did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Frames that are none, or not allowed there.
    Protocol,
    /// A text that is not UTF-8.
    Utf8,
    /// A message longer than is read.
    TooLong,
}

/// Bytes in, messages out.
#[derive(Debug)]
pub struct Decoder {
    received: Vec<u8>,
    /// How much of it is done with.
    done: usize,
    /// The message whose end has not come.
    message: Option<Partial>,
    message_bytes_max: usize,
    inflates: bool,
}

#[derive(Debug)]
struct Partial {
    is_text: bool,
    is_compressed: bool,
    payload: Vec<u8>,
    /// Up to where it is known to be UTF-8.
    checked: usize,
}

struct Header {
    is_last: bool,
    is_compressed: bool,
    opcode: Opcode,
    mask: [u8; 4],
    /// Of the header.
    size: usize,
    payload: usize,
}

impl Decoder {
    /// Nothing came yet. Messages may have so many bytes; they may be compressed or not.
    pub fn new(message_bytes_max: usize, inflates: bool) -> Decoder {
        Decoder { received: Vec::new(), done: 0, message: None, message_bytes_max, inflates }
    }

    /// These came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next message, if all of it is there. To be asked until there is none, before more is fed.
    pub fn next(&mut self) -> Result<Option<Incoming>, Violation> {
        loop {
            let Some(header) = self.header()? else {
                self.tidy();
                return Ok(None);
            };
            let start = self.done + header.size;
            let Some(payload) = self.received.get_mut(start..start + header.payload) else {
                self.tidy();
                return Ok(None);
            };
            payload.iter_mut().zip(header.mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            self.done = start + header.payload;
            let end = self.done;
            let complete = match header.opcode {
                Opcode::Ping => Some(Incoming::Ping(Bytes::copy_from_slice(&self.received[start..end]))),
                Opcode::Pong => Some(Incoming::Pong(Bytes::copy_from_slice(&self.received[start..end]))),
                Opcode::Close => Some(Incoming::Close(close_code(&self.received[start..end])?)),
                _ => self.data(&header, start, end)?,
            };
            if complete.is_some() {
                return Ok(complete);
            }
        }
    }

    /// The header of the next frame, if all of it is there.
    fn header(&self) -> Result<Option<Header>, Violation> {
        let bytes = &self.received[self.done..];
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let (is_last, reserved) = (first & 0x80 != 0, first & 0x70);
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return Err(Violation::Protocol),
        };
        let is_compressed = reserved == 0x40;
        let is_data = matches!(opcode, Opcode::Text | Opcode::Binary);
        let is_control = (opcode as u8) >= 8;
        let begins = is_data == self.message.is_none() || is_control;
        let may_be_compressed = is_compressed && is_data && self.inflates;
        let is_masked = second & 0x80 != 0;
        if (reserved != 0 && !may_be_compressed) || !begins || !is_masked {
            return Err(Violation::Protocol);
        }
        let (payload, size) = match (second & 0x7f, rest) {
            (126, &[a, b, ..]) => (u64::from(u16::from_be_bytes([a, b])), 4),
            (127, &[a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 10),
            (126 | 127, _) => return Ok(None),
            (length, _) => (u64::from(length), 2),
        };
        let payload = usize::try_from(payload).map_err(|_| Violation::TooLong)?;
        if is_control && (payload > CONTROL_MAX || !is_last) {
            return Err(Violation::Protocol);
        }
        let before = self.message.as_ref().filter(|_| !is_control).map_or(0, |message| message.payload.len());
        if payload > self.message_bytes_max || before + payload > self.message_bytes_max {
            return Err(Violation::TooLong);
        }
        let Some(&[a, b, c, d]) = bytes.get(size..size + 4) else { return Ok(None) };
        Ok(Some(Header { is_last, is_compressed, opcode, mask: [a, b, c, d], size: size + 4, payload }))
    }

    /// A frame of a message; the message when it was the last.
    fn data(&mut self, header: &Header, start: usize, end: usize) -> Result<Option<Incoming>, Violation> {
        let mut message = self.message.take().unwrap_or_else(|| Partial {
            is_text: header.opcode == Opcode::Text,
            is_compressed: header.is_compressed,
            payload: Vec::new(),
            checked: 0,
        });
        message.payload.extend_from_slice(&self.received[start..end]);
        if !header.is_last {
            message.check_text()?;
            self.message = Some(message);
            return Ok(None);
        }
        if message.is_compressed {
            let payload = deflate::decompress(&message.payload, self.message_bytes_max);
            message.payload = payload.map_err(|unreadable| match unreadable {
                Unreadable::TooLong => Violation::TooLong,
                Unreadable::Broken => Violation::Protocol,
            })?;
        }
        if message.is_text {
            let text = String::from_utf8(message.payload).map_err(|_| Violation::Utf8)?;
            return Ok(Some(Incoming::Text(text.into())));
        }
        Ok(Some(Incoming::Binary(message.payload.into())))
    }

    /// Forgets what is done with.
    fn tidy(&mut self) {
        self.received.drain(..self.done);
        self.done = 0;
        if self.received.is_empty() && self.received.capacity() > IDLE_BYTES {
            self.received = Vec::new();
        }
    }
}

impl Partial {
    /// A text that cannot become UTF-8 any more is told of before its end has come.
    fn check_text(&mut self) -> Result<(), Violation> {
        if !self.is_text || self.is_compressed {
            return Ok(());
        }
        match std::str::from_utf8(&self.payload[self.checked..]) {
            Ok(_) => self.checked = self.payload.len(),
            Err(error) if error.error_len().is_some() => return Err(Violation::Utf8),
            Err(error) => self.checked += error.valid_up_to(),
        }
        Ok(())
    }
}

/// The code of a close frame.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    match *payload {
        [] => Ok(None),
        [_] => Err(Violation::Protocol),
        [high, low, ref reason @ ..] => {
            let code = u16::from_be_bytes([high, low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(Violation::Protocol);
            }
            std::str::from_utf8(reason).map_err(|_| Violation::Utf8)?;
            Ok(Some(code))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    /// A client's frame.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..=125 => frame.push(0x80 | length as u8),
            length @ 126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn all(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Incoming>, Violation> {
        decoder.feed(bytes);
        let mut messages = Vec::new();
        while let Some(message) = decoder.next()? {
            messages.push(message);
        }
        Ok(messages)
    }

    fn text(text: &str) -> Incoming {
        Incoming::Text(text.into())
    }

    #[test]
    fn messages_come_whole_however_their_bytes_are_cut() {
        let long = "x".repeat(70_000);
        let wire = [
            masked(0x81, b"one"),
            masked(0x01, b"tw"),
            masked(0x89, b"are you there"),
            masked(0x00, "\u{e9}".as_bytes()),
            masked(0x80, b""),
            masked(0x82, &[7; 300]),
            masked(0x81, long.as_bytes()),
            masked(0x8a, b"1"),
            masked(0x88, &[3, 232, b'b', b'y', b'e']),
        ]
        .concat();
        let expected = [
            text("one"),
            Incoming::Ping("are you there".into()),
            text("tw\u{e9}"),
            Incoming::Binary(vec![7; 300].into()),
            text(&long),
            Incoming::Pong("1".into()),
            Incoming::Close(Some(1000)),
        ];
        let mut random = StdRng::seed_from_u64(3);
        for _ in 0..20 {
            let (mut decoder, mut got, mut rest) = (Decoder::new(1 << 20, false), Vec::new(), &wire[..]);
            while !rest.is_empty() {
                let (now, later) = rest.split_at(random.random_range(1..=rest.len().min(40_000)));
                got.extend(all(&mut decoder, now).unwrap());
                rest = later;
            }
            assert_eq!(got, expected);
            assert!(decoder.received.capacity() <= IDLE_BYTES, "nothing is kept");
        }
    }

    #[test]
    fn what_the_protocol_forbids_is_named() {
        let broken = |bytes: &[u8]| all(&mut Decoder::new(1_000, false), bytes).unwrap_err();
        for bytes in [
            vec![0x81, 0x01, b'x'],
            masked(0xc1, b"compressed"),
            masked(0x91, b"reserved"),
            masked(0x83, b"opcode"),
            masked(0x8b, b"opcode"),
            masked(0x09, b"a ping in parts"),
            masked(0x89, &[0; 126]),
            masked(0x80, b"continues nothing"),
            [masked(0x01, b"a"), masked(0x81, b"b")].concat(),
            masked(0x88, &[3]),
            masked(0x88, &[3, 237]),
        ] {
            assert_eq!(broken(&bytes), Violation::Protocol, "{bytes:?}");
        }
        assert_eq!(broken(&masked(0x81, &[0xff])), Violation::Utf8);
        assert_eq!(broken(&masked(0x01, &[0xff])), Violation::Utf8, "before its end");
        assert_eq!(broken(&masked(0x88, &[3, 232, 0xff])), Violation::Utf8);
        assert_eq!(broken(&masked(0x81, &[b'x'; 1_001])), Violation::TooLong);
        assert_eq!(broken(&[masked(0x01, &[b'x'; 600]), masked(0x80, &[b'x'; 401])].concat()), Violation::TooLong);
        assert_eq!(broken(&[0x81, 0xff, 255, 255, 255, 255, 255, 255, 255, 255]), Violation::TooLong);
    }

    #[test]
    fn compressed_messages_are_read_in_one_part_or_more_up_to_the_limit() {
        let compressed = deflate::compress(&[b'x'; 900]).unwrap();
        let (one, two) = compressed.split_at(compressed.len() / 2);
        for wire in [masked(0xc1, &compressed), [masked(0x41, one), masked(0x80, two)].concat()] {
            let mut decoder = Decoder::new(1_000, true);
            assert_eq!(all(&mut decoder, &wire), Ok(vec![text(&"x".repeat(900))]));
            assert_eq!(all(&mut decoder, &masked(0x81, b"plain")), Ok(vec![text("plain")]));
            assert_eq!(all(&mut Decoder::new(800, true), &wire), Err(Violation::TooLong));
        }
        let mut decoder = Decoder::new(1_000, true);
        assert_eq!(all(&mut decoder, &masked(0xc1, &[0xff; 20])), Err(Violation::Protocol));
        let of_control = masked(0xc9, b"x");
        assert_eq!(all(&mut Decoder::new(1_000, true), &of_control), Err(Violation::Protocol));
        let later = [masked(0x01, b"x"), masked(0xc0, b"x")].concat();
        assert_eq!(all(&mut Decoder::new(1_000, true), &later), Err(Violation::Protocol));
    }

    #[test]
    fn noise_never_panics() {
        let mut random = StdRng::seed_from_u64(5);
        for _ in 0..20_000 {
            let noise: Vec<u8> = (0..random.random_range(0..40)).map(|_| random.random()).collect();
            // Whatever it is, it is bounded.
            let _ = all(&mut Decoder::new(64, true), &noise);
        }
    }
}
