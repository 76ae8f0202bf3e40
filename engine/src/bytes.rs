//! How plain data is written as bytes, piece after piece, and read from bytes that are not believed.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The newest version of the bytes of a snapshot. A state that needs nothing of it is written as the one before, so that the
/// snapshots of an exchange that was upgraded are those that it would write itself.
pub const VERSION: u32 = 6;
/// The one before: it does not know quote-driven symbols.
pub(crate) const VERSION_WITHOUT_DESKS: u32 = 5;
/// The one before that: it does not know users and what binds keys.
pub(crate) const VERSION_WITHOUT_ACCESS: u32 = 4;
/// The oldest that is written and read: it does not know names that are used once.
pub(crate) const VERSION_WITHOUT_USES: u32 = 3;

/// Written at a time: what stays in a cache.
const PIECE: usize = 256 * 1024;

/// Numbers and times are far below what would overflow in the years to come.
pub(crate) const HIGHEST: u64 = 1 << 60;

/// Why bytes are not a snapshot.
#[derive(Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Written by another version of the format.
    Version(u32),
    /// They end too early.
    Cut,
    /// Not what an exchange comes to.
    Unsound(&'static str),
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DecodeError::Version(found) => {
                write!(f, "snapshot format {found}, this program reads {VERSION_WITHOUT_USES} to {VERSION}")
            }
            DecodeError::Cut => f.write_str("malformed snapshot: cut short"),
            DecodeError::Unsound(what) => write!(f, "malformed snapshot: {what}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// What was read, or why not.
pub(crate) type Decoded<T> = Result<T, DecodeError>;

/// Refuse what is not so.
pub(crate) fn ensure(is_so: bool, what: &'static str) -> Decoded<()> {
    if is_so { Ok(()) } else { Err(DecodeError::Unsound(what)) }
}

/// Refuse what is not there.
pub(crate) fn found<T>(it: Option<T>, what: &'static str) -> Decoded<T> {
    it.ok_or(DecodeError::Unsound(what))
}

/// Collects what is written until it is a piece.
pub(crate) struct Writer<'a> {
    piece: Vec<u8>,
    sink: &'a mut dyn FnMut(&[u8]),
}

impl Writer<'_> {
    /// Hands its pieces to a sink.
    pub(crate) fn new(sink: &mut dyn FnMut(&[u8])) -> Writer<'_> {
        Writer { piece: Vec::with_capacity(PIECE), sink }
    }

    /// These bytes.
    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        if self.piece.len() + bytes.len() > PIECE {
            self.flush();
        }
        self.piece.extend_from_slice(bytes);
    }

    /// Something in postcard's encoding, with its length.
    pub(crate) fn block(&mut self, plain: &impl Serialize) {
        let bytes = to_postcard(plain);
        self.put(&(bytes.len() as u64).to_le_bytes());
        self.put(&bytes);
    }

    /// Hands over what there is.
    pub(crate) fn flush(&mut self) {
        (self.sink)(&self.piece);
        self.piece.clear();
    }
}

/// What is left to read.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next so many bytes, whose number is known here.
    #[inline]
    pub(crate) fn take<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk().ok_or(DecodeError::Cut)?;
        self.0 = rest;
        Ok(*field)
    }

    /// The next so many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Decoded<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(DecodeError::Cut)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// The next so many records.
    pub(crate) fn records<const N: usize>(
        &mut self,
        count: usize,
    ) -> Decoded<impl ExactSizeIterator<Item = [u8; N]> + Clone> {
        let bytes = self.bytes(count.checked_mul(N).ok_or(DecodeError::Cut)?)?;
        Ok(bytes.chunks_exact(N).map(|record| record.try_into().expect("it has that length")))
    }

    /// What [`Writer::block`] wrote.
    pub(crate) fn block<T: Serialize + DeserializeOwned>(&mut self) -> Decoded<T> {
        let length = usize::try_from(u64::from_le_bytes(self.take()?)).map_err(|_| DecodeError::Cut)?;
        from_postcard(self.bytes(length)?)
    }
}

/// In postcard's encoding.
pub(crate) fn to_postcard(plain: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(plain, Vec::new()).expect("plain data can always be encoded")
}

/// From postcard's encoding, which has more than one way to write a number: only the one that is written is read.
pub(crate) fn from_postcard<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Decoded<T> {
    let plain = found(postcard::from_bytes(bytes).ok(), "a block that does not say what it should")?;
    ensure(to_postcard(&plain) == bytes, "a block that nobody wrote so")?;
    Ok(plain)
}

/// A record being written, field after field.
pub(crate) struct Record<const N: usize> {
    /// All of it.
    pub(crate) bytes: [u8; N],
    written: usize,
}

impl<const N: usize> Default for Record<N> {
    fn default() -> Self {
        Record { bytes: [0; N], written: 0 }
    }
}

impl<const N: usize> Record<N> {
    /// The next field.
    #[inline]
    pub(crate) fn put(&mut self, field: &[u8]) -> &mut Self {
        self.bytes[self.written..self.written + field.len()].copy_from_slice(field);
        self.written += field.len();
        self
    }
}
