//! The files in which RocksDB lays records one behind the other: its write-ahead logs and its manifest. Both are looked at before
//! RocksDB reads them, because its reader takes some damage for the end of the file and never ends at other.
//!
//! The format (its wiki, "Write Ahead Log File Format"): blocks of 32 KiB; in them records with a head of checksum, length and
//! type; a logical record is one Full or a First, Middles and a Last, none of which spans two blocks.

const BLOCK: usize = 32 << 10;
const HEAD: usize = 7;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// Shows `visit` each whole logical record from `start`, the beginning of a record, on; where the last of them ends.
pub(crate) fn scan(bytes: &[u8], start: usize, mut visit: impl FnMut(&[u8])) -> usize {
    let (mut at, mut whole) = (start, start);
    let mut record: Option<Vec<u8>> = None;
    loop {
        let room = BLOCK - at % BLOCK;
        if room < HEAD {
            // Too short for a head; filled with zeros.
            if bytes.len() < at + room || bytes[at..at + room].iter().any(|byte| *byte != 0) {
                return whole;
            }
            at += room;
            if record.is_none() {
                whole = at;
            }
            continue;
        }
        let Some((kind, payload)) = physical(bytes, at) else { return whole };
        at += HEAD + payload.len();
        match (kind, record.take()) {
            (FULL, None) => visit(payload),
            (FIRST, None) => record = Some(payload.to_vec()),
            (MIDDLE, Some(mut begun)) => {
                begun.extend_from_slice(payload);
                record = Some(begun);
            }
            (LAST, Some(mut begun)) => {
                begun.extend_from_slice(payload);
                visit(&begun);
            }
            _ => return whole,
        }
        if record.is_none() {
            whole = at;
        }
    }
}

/// The type and content of the physical record at `at`, if it is one.
fn physical(bytes: &[u8], at: usize) -> Option<(u8, &[u8])> {
    let (checksum, rest) = bytes.get(at..)?.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_le_bytes(*length));
    let kind = *rest.first()?;
    if !(FULL..=LAST).contains(&kind) || at % BLOCK + HEAD + length > BLOCK {
        return None;
    }
    let covered = rest.get(..=length)?;
    is_checksum(checksum, covered).then_some((kind, &covered[1..]))
}

/// Whether this is the checksum of a record's type and content.
fn is_checksum(checksum: &[u8], covered: &[u8]) -> bool {
    // RocksDB masks its checksums.
    let masked = crc32c::crc32c(covered).rotate_right(15).wrapping_add(0xa282_ead8);
    checksum == masked.to_le_bytes()
}

/// Whether a whole logical record begins anywhere behind `at`: in the rest of its block at any byte, then at the beginning of
/// any block.
pub(crate) fn has_record_behind(bytes: &[u8], at: usize) -> bool {
    let block_end = (at / BLOCK + 1) * BLOCK;
    let in_block = at + 1..block_end.min(bytes.len());
    let blocks = (block_end..bytes.len()).step_by(BLOCK);
    in_block.chain(blocks).any(|start| {
        // A block may begin with the rest of a record that began before.
        let mut start = start;
        while let Some((MIDDLE | LAST, payload)) = physical(bytes, start) {
            start += HEAD + payload.len();
        }
        let mut any = false;
        scan(bytes, start, |_| any = true);
        any
    })
}

/// Whether RocksDB's reader never gets past what is broken at `whole`, where the whole records end: on a record of the types that
/// recycled files have, in a file that began with another, it stays for ever (`Reader::ReadPhysicalRecord` in log_reader.cc).
pub(crate) fn keeps_reader(bytes: &[u8], whole: usize) -> bool {
    // It drops the block in which something is broken, and goes on with the next.
    let places = std::iter::once(whole).chain((whole / BLOCK * BLOCK..bytes.len()).step_by(BLOCK).skip(1));
    let types = places.filter_map(|at| bytes.get(at..at + HEAD)).map(|head| head[HEAD - 1]);
    whole > 0 && types.into_iter().any(|kind| matches!(kind, 5..=8 | 11 | 131))
}

/// Whether what follows the whole records, which end at `whole`, is one of which only the beginning was written, or room that was
/// never written to.
pub(crate) fn is_cut_short(bytes: &[u8], whole: usize) -> bool {
    let mut at = whole;
    while let Some((FIRST | MIDDLE, payload)) = physical(bytes, at) {
        at += HEAD + payload.len();
    }
    let rest = &bytes[at..];
    if rest.len() < HEAD || rest.iter().all(|byte| *byte == 0) {
        return true;
    }
    let length = usize::from(u16::from_le_bytes([rest[4], rest[5]]));
    let ends_beyond = (FULL..=LAST).contains(&rest[6]) && HEAD + length > rest.len();
    // Of one that is all there, the length is wrong.
    ends_beyond && !is_checksum(&rest[..4], &rest[6..])
}

/// A number in RocksDB's variable length, taken off the front of `bytes`.
pub(crate) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Bytes behind their number, taken off the front of `bytes`.
pub(crate) fn slice<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(bytes)?).ok()?;
    let (found, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn physical_record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let covered = [&[kind], payload].concat();
        let masked = crc32c::crc32c(&covered).rotate_right(15).wrapping_add(0xa282_ead8);
        let length = u16::try_from(payload.len()).unwrap();
        [&masked.to_le_bytes()[..], &length.to_le_bytes(), &covered].concat()
    }

    /// A record of 100 bytes, then one that goes on in the next two blocks.
    fn over_three_blocks() -> Vec<u8> {
        let mut bytes = physical_record(FULL, &[1; 100]);
        bytes.extend(physical_record(FIRST, &vec![2; BLOCK - bytes.len() - HEAD]));
        bytes.extend(physical_record(MIDDLE, &[3; BLOCK - HEAD]));
        bytes.extend(physical_record(LAST, &[4; 5_000]));
        bytes
    }

    #[test]
    fn wherever_a_record_is_cut_it_is_cut_short() {
        let bytes = over_three_blocks();
        let whole = HEAD + 100;
        let (blocks, end) = (BLOCK..=2 * BLOCK, bytes.len());
        for length in (whole..end).step_by(61).chain(blocks.step_by(BLOCK)).chain(end - 10..end) {
            let cut = &bytes[..length];
            assert_eq!(scan(cut, 0, |_| {}), whole);
            assert!(is_cut_short(cut, whole) && !has_record_behind(cut, whole), "cut to {length}");
        }
        assert_eq!(scan(&bytes, 0, |_| {}), end);
        assert!(is_cut_short(&bytes, end));
    }

    #[test]
    fn a_record_that_is_broken_is_not_cut_short() {
        let bytes = over_three_blocks();
        for at in [HEAD + 110, BLOCK + 4, BLOCK + 5, BLOCK + 100, 2 * BLOCK + 4, 2 * BLOCK + 6, 2 * BLOCK + 4_000] {
            let mut broken = bytes.clone();
            broken[at] ^= 2;
            let whole = scan(&broken, 0, |_| {});
            assert_eq!(whole, HEAD + 100);
            assert!(!is_cut_short(&broken, whole), "byte {at}");
        }
    }
}
