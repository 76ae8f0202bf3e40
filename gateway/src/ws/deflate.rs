//! permessage-deflate (RFC 7692): what is agreed on, and the two directions.
//!
//! Neither side keeps a context from one message to the next, so that a message is compressed once for all who listen and
//! an open socket costs no window. A client that limits our window is sent compressed only what fits into it whole. What
//! comes in is inflated up to the limit on messages and not a byte further.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What ends each block of a stream and is left out of a message.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// The window of deflate without an agreement, in bits.
const WINDOW_BITS: u8 = 15;
/// Fast: what is sent is short, and many wait for it.
const LEVEL: Compression = Compression::new(3);

/// What one socket agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    window_bits: u8,
}

impl Default for Agreed {
    fn default() -> Agreed {
        Agreed { window_bits: WINDOW_BITS }
    }
}

impl Agreed {
    /// With a window of so many bits.
    #[cfg(test)]
    pub(super) fn with_window(window_bits: u8) -> Agreed {
        Agreed { window_bits }
    }

    /// Whether no reference within a message of that length can reach further back than the window.
    pub fn may_hold(self, length: usize) -> bool {
        self.window_bits == WINDOW_BITS || length <= 1 << self.window_bits
    }

    /// The header that says so.
    pub fn header(self) -> String {
        let mut header = "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
        if self.window_bits != WINDOW_BITS {
            header.push_str(&format!("; server_max_window_bits={}", self.window_bits));
        }
        header
    }
}

/// The first of a client's offers (`Sec-WebSocket-Extensions`) that can be accepted.
pub fn negotiate(offers: &str) -> Option<Agreed> {
    offers.split(',').find_map(accept)
}

fn accept(offer: &str) -> Option<Agreed> {
    let mut parts = offer.split(';').map(str::trim);
    if parts.next() != Some("permessage-deflate") {
        return None;
    }
    let mut agreed = Agreed::default();
    let mut seen = Vec::new();
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(value.trim().trim_matches('"'))),
            None => (part, None),
        };
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
        let bits = |value: &str| {
            let plain = !value.starts_with(['0', '+']);
            value.parse::<u8>().ok().filter(|bits| plain && (8..=15).contains(bits))
        };
        match (name, value) {
            ("server_no_context_takeover" | "client_no_context_takeover" | "client_max_window_bits", None) => {}
            // We can read what comes with any window.
            ("client_max_window_bits", Some(value)) => drop(bits(value)?),
            ("server_max_window_bits", Some(value)) => agreed.window_bits = bits(value)?,
            _ => return None,
        }
    }
    Some(agreed)
}

thread_local! {
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(LEVEL, false));
    static DECOMPRESS: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// A message's payload compressed, on its own.
pub fn compress(payload: &[u8]) -> Option<Vec<u8>> {
    COMPRESS.with_borrow_mut(|state| {
        state.reset();
        let mut out = Vec::with_capacity(payload.len() / 2 + 64);
        loop {
            let taken = usize::try_from(state.total_in()).ok()?;
            let status = state.compress_vec(payload.get(taken..)?, &mut out, FlushCompress::Sync).ok()?;
            let is_done = state.total_in() == payload.len() as u64 && out.len() < out.capacity();
            if is_done && matches!(status, Status::Ok | Status::BufError) {
                break;
            }
            // What is longer than it was is of no use.
            if out.len() > payload.len() {
                return None;
            }
            out.reserve(payload.len() / 2 + 64);
        }
        out.ends_with(&TAIL).then(|| out.truncate(out.len() - TAIL.len()))?;
        Some(out)
    })
}

/// Why a compressed message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is longer than messages may be.
    TooLong,
    /// It is not what it says.
    Broken,
}

/// The payload that a compressed one stands for, of at most `limit` bytes.
pub fn decompress(payload: &[u8], limit: usize) -> Result<Vec<u8>, Unreadable> {
    DECOMPRESS.with_borrow_mut(|state| {
        state.reset(false);
        let mut out = Vec::with_capacity(payload.len().saturating_mul(3).max(64).min(limit.saturating_add(1)));
        for input in [payload, &TAIL] {
            let before = state.total_in();
            loop {
                let taken = usize::try_from(state.total_in() - before).map_err(|_| Unreadable::Broken)?;
                let rest = input.get(taken..).unwrap_or_default();
                let status = state.decompress_vec(rest, &mut out, FlushDecompress::Sync);
                let status = status.map_err(|_| Unreadable::Broken)?;
                if out.len() > limit {
                    return Err(Unreadable::TooLong);
                }
                if status == Status::StreamEnd {
                    return Ok(out);
                }
                let has_room = out.len() < out.capacity();
                if state.total_in() - before == input.len() as u64 && has_room {
                    break;
                }
                if has_room && status == Status::BufError {
                    return Err(Unreadable::Broken);
                }
                // One more byte than is allowed shows that there is one.
                let more = out.capacity().max(64).min(limit.saturating_add(1).saturating_sub(out.len()));
                out.reserve_exact(more.max(1));
            }
        }
        Ok(out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    #[test]
    fn the_first_offer_that_can_be_kept_is_taken() {
        let plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        for (offers, header) in [
            ("permessage-deflate", Some(plain)),
            ("permessage-deflate; client_max_window_bits", Some(plain)),
            ("x-other, permessage-deflate;client_max_window_bits=\"10\"", Some(plain)),
            ("permessage-deflate; server_max_window_bits=15", Some(plain)),
            ("permessage-deflate; server_max_window_bits = 9", Some(&*format!("{plain}; server_max_window_bits=9"))),
            ("permessage-deflate; server_max_window_bits=7, permessage-deflate", Some(plain)),
            ("permessage-deflate; server_max_window_bits", None),
            ("permessage-deflate; server_max_window_bits=08", None),
            ("permessage-deflate; server_no_context_takeover=1", None),
            ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
            ("permessage-deflate; unheard_of", None),
            ("permessage-bzip2", None),
            ("", None),
        ] {
            assert_eq!(negotiate(offers).map(Agreed::header).as_deref(), header, "{offers}");
        }
    }

    #[test]
    fn what_is_compressed_comes_back_and_each_message_stands_alone() {
        let mut random = StdRng::seed_from_u64(7);
        for length in [0, 1, 63, 64, 1_000, 70_000, 300_000] {
            let repetitive: Vec<u8> = (0..length).map(|at: usize| (at / 7 % 13) as u8).collect();
            let noise: Vec<u8> = (0..length).map(|_| random.random()).collect();
            for payload in [repetitive, noise] {
                let Some(compressed) = compress(&payload) else { continue };
                assert_eq!(decompress(&compressed, length).as_ref(), Ok(&payload), "{length}");
            }
        }
        assert!(compress(&[b'a'; 1_000]).unwrap().len() < 30);
    }

    #[test]
    fn a_bomb_is_left_unfinished() {
        let bomb = compress(&vec![0; 10 << 20]).unwrap();
        assert!(bomb.len() < 20_000);
        assert_eq!(decompress(&bomb, 64 << 10), Err(Unreadable::TooLong));
        assert_eq!(decompress(&bomb, 10 << 20).map(|out| out.len()), Ok(10 << 20));
        assert_eq!(decompress(&compress(&[1; 65]).unwrap(), 64), Err(Unreadable::TooLong));
    }

    #[test]
    fn noise_is_refused_and_never_panics() {
        let mut random = StdRng::seed_from_u64(11);
        let mut broken = 0;
        for _ in 0..20_000 {
            let noise: Vec<u8> = (0..random.random_range(0..60)).map(|_| random.random()).collect();
            match decompress(&noise, 1 << 10) {
                Ok(out) => assert!(out.len() <= 1 << 10),
                Err(_) => broken += 1,
            }
        }
        assert!(broken > 5_000, "{broken}");
    }
}
