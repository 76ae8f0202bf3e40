//! A message as it goes over the wire, made once and shared by everyone it is sent to.
//!
//! A server's frames are not masked, so header and payload are the same bytes for all. The compressed form is made when the
//! first socket asks that negotiated compression, and then shared as well.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};

use crate::ws::deflate;

/// Messages that go out together, in order.
pub type Batch = Arc<[Message]>;

/// The kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// More of the message before.
    Continuation = 0,
    /// UTF-8.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The end.
    Close = 8,
    /// Are you there?
    Ping = 9,
    /// I am.
    Pong = 10,
}

/// The bit that ends a message.
const FIN: u8 = 0x80;
/// The bit that says that it is compressed.
const COMPRESSED: u8 = 0x40;
/// Below so many bytes, compression costs more than it saves.
const COMPRESSED_MIN: usize = 64;

/// A text message with its frame.
#[derive(Debug)]
pub struct Message {
    frame: Bytes,
    payload_at: usize,
    compressed: OnceLock<Option<Bytes>>,
}

impl Message {
    /// Of a text.
    pub fn text(text: &str) -> Message {
        let frame = frame(Opcode::Text, text.as_bytes());
        Message { payload_at: frame.len() - text.len(), frame, compressed: OnceLock::new() }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        // It was made of a text.
        std::str::from_utf8(self.payload()).unwrap_or_default()
    }

    fn payload(&self) -> &[u8] {
        self.frame.get(self.payload_at..).unwrap_or_default()
    }

    /// How many bytes it has on the wire, uncompressed.
    pub fn wire_len(&self) -> usize {
        self.frame.len()
    }

    /// What is written to a socket that negotiated this.
    pub fn bytes(&self, compression: Option<deflate::Agreed>) -> Bytes {
        let Some(agreed) = compression.filter(|agreed| agreed.may_hold(self.payload().len())) else {
            return self.frame.clone();
        };
        // What fits one window fits every larger one, so one compressed form serves all.
        let compressed = self.compressed.get_or_init(|| compressed(Opcode::Text, self.payload()));
        debug_assert!(agreed.may_hold(self.payload().len()));
        compressed.as_ref().unwrap_or(&self.frame).clone()
    }
}

/// A whole message, or a control frame, uncompressed.
pub fn frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    framed(FIN | opcode as u8, payload)
}

/// The same compressed; nothing where that is not shorter.
pub fn compressed(opcode: Opcode, payload: &[u8]) -> Option<Bytes> {
    if payload.len() < COMPRESSED_MIN {
        return None;
    }
    let shorter = deflate::compress(payload).filter(|shorter| shorter.len() < payload.len())?;
    Some(framed(FIN | COMPRESSED | opcode as u8, &shorter))
}

fn framed(first: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 10);
    out.put_u8(first);
    match payload.len() {
        length @ 0..=125 => out.put_u8(length as u8),
        length @ 126..=0xffff => {
            out.put_u8(126);
            out.put_u16(length as u16);
        }
        length => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
    out.put_slice(payload);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        for (length, head) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let frame = frame(Opcode::Text, &vec![b'x'; length]);
            assert_eq!((frame.len(), frame[0]), (length + head, 0x81), "{length}");
        }
    }

    #[test]
    fn a_message_is_compressed_once_and_only_where_that_is_shorter() {
        let message = Message::text(&"btcusdt".repeat(40));
        let agreed = Some(deflate::Agreed::default());
        let (one, two) = (message.bytes(agreed), message.bytes(agreed));
        assert_eq!((one.as_ptr(), one[0]), (two.as_ptr(), 0xc1));
        assert!(one.len() < message.bytes(None).len() / 4);
        assert_eq!(message.as_str(), "btcusdt".repeat(40));
        let short = Message::text("{}");
        assert_eq!(short.bytes(agreed), short.bytes(None));
        let window = deflate::Agreed::with_window(8);
        assert_eq!(message.bytes(Some(window)), message.bytes(None), "it is longer than that window");
    }
}
