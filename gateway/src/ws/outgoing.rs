//! What is about to be written to a socket: frames that others may share, written as many at a time as the system takes.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Frames that one system call writes at the most, which is what Linux takes: under load large writes are what saves.
const FRAMES_AT_ONCE: usize = 1_024;
/// For how many an idle socket keeps room.
const IDLE_FRAMES: usize = 16;

/// Frames in order.
#[derive(Debug, Default)]
pub struct Outgoing {
    frames: VecDeque<Bytes>,
    bytes: usize,
    pushed: u64,
}

impl Outgoing {
    /// One more.
    pub fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.pushed += 1;
        self.frames.push_back(frame);
    }

    /// How many bytes wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many came since this was last asked.
    pub fn take_pushed(&mut self) -> u64 {
        std::mem::take(&mut self.pushed)
    }

    /// Writes all of it.
    pub fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
        io: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<std::io::Result<()>> {
        while let Some(first) = self.frames.front() {
            let written = if self.frames.len() == 1 {
                ready!(Pin::new(&mut *io).poll_write(context, first))?
            } else {
                let frames = self.frames.iter().take(FRAMES_AT_ONCE);
                let slices: Vec<IoSlice<'_>> = frames.map(|frame| IoSlice::new(frame)).collect();
                ready!(Pin::new(&mut *io).poll_write_vectored(context, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(Error::from(ErrorKind::WriteZero)));
            }
            self.advance(written);
        }
        if self.frames.capacity() > IDLE_FRAMES {
            self.frames = VecDeque::new();
        }
        Pin::new(io).poll_flush(context)
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.frames.front_mut() {
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.frames.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    /// Takes as much as it likes.
    struct Moody(StdRng, Vec<u8>);

    impl AsyncWrite for Moody {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
            let most = self.0.random_range(1..=bytes.len());
            self.1.extend(&bytes[..most]);
            Poll::Ready(Ok(most))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<std::io::Result<usize>> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let most = self.0.random_range(0..3) * all.len() / 2;
            let most = most.max(1).min(all.len());
            self.1.extend(&all[..most]);
            Poll::Ready(Ok(most))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn every_byte_is_written_once_and_in_order_however_little_is_taken() {
        let mut random = StdRng::seed_from_u64(1);
        let (mut out, mut moody, mut expected) =
            (Outgoing::default(), Moody(StdRng::seed_from_u64(2), Vec::new()), Vec::<u8>::new());
        for _ in 0..200 {
            for _ in 0..random.random_range(0..150) {
                let frame: Vec<u8> = (0..random.random_range(1..200)).map(|_| random.random()).collect();
                expected.extend(&frame);
                out.push(frame.into());
            }
            let mut context = Context::from_waker(std::task::Waker::noop());
            assert!(matches!(out.poll_flush(&mut context, &mut moody), Poll::Ready(Ok(()))));
            assert_eq!((moody.1.len(), out.bytes()), (expected.len(), 0));
        }
        assert_eq!(moody.1, expected);
    }
}
