//! Tablespaces that a segment of WAL makes: replaying it writes wherever their path leads, whoever replays it.
//!
//! Source: PostgreSQL's `access/xlogrecord.h`, `access/xlog_internal.h` and `commands/tablespace.h`, the same from 13
//! to 18. Only the heads of records are read; a file that is no segment, or is damaged, makes none: the server judges
//! that.

use super::segment::{HEADER, SegmentHeader};

/// Bytes of a page's header, but for the segment's first page.
const PAGE_HEADER: usize = 24;
/// Bytes of a record's header.
const RECORD: usize = 24;
/// The page begins with the rest of a record.
const CONTINUES: u16 = 0x0001;
/// The resource manager of tablespaces, and its record that makes one.
const TABLESPACE: u8 = 5;
const CREATE: u8 = 0;
/// More than any path, and the heads before it.
const LONGEST: usize = 4096;

/// The paths of the tablespaces that the segment makes. One that lies in the data directory itself
/// (`allow_in_place_tablespaces`) is none; where the path goes on in the next segment, as much as is here.
pub fn made_in(segment: &[u8]) -> Vec<String> {
    let Some(header) = SegmentHeader::parse(segment) else { return Vec::new() };
    let page = header.page_size as usize;
    if !page.is_power_of_two() || page < 512 {
        return Vec::new();
    }
    let walk = Walk { bytes: segment, page };
    let mut found = Vec::new();
    let mut at = HEADER;
    if walk.u16(2) & CONTINUES != 0 {
        let rest = walk.u32(16) as usize;
        let (start, next) = walk.read(at, rest, LONGEST);
        found.extend(begun_before(&start));
        at = next.unwrap_or(segment.len());
    }
    loop {
        at = at.next_multiple_of(8);
        if at.is_multiple_of(page) {
            at += PAGE_HEADER;
        }
        if at + 4 > segment.len() {
            return found;
        }
        let length = walk.u32(at) as usize;
        if length < RECORD {
            return found;
        }
        let (head, _) = walk.read(at, RECORD, RECORD);
        if head.len() == RECORD && head[16] & 0xF0 == CREATE && head[17] == TABLESPACE {
            let (record, _) = walk.read(at, length, LONGEST);
            found.extend(path_of(&record[RECORD..]));
        }
        match walk.read(at, length, 0).1 {
            Some(next) => at = next,
            None => return found,
        }
    }
}

/// A record whose header was cut by the segment's beginning: its first 8 or 16 bytes are in the one before.
fn begun_before(rest: &[u8]) -> Option<String> {
    [8, 16].into_iter().find_map(|before| {
        let (info, manager) = (*rest.get(16 - before)?, *rest.get(17 - before)?);
        let data = rest.get(RECORD - before..)?;
        let short = data.first() == Some(&255) && data.get(1).map(|len| usize::from(*len)) == Some(data.len() - 2);
        (info & 0xF0 == CREATE && manager == TABLESPACE && short).then(|| path_of(data))?
    })
}

/// From what follows the record's header. `None` for a tablespace in the data directory.
fn path_of(data: &[u8]) -> Option<String> {
    let mut at = 0;
    loop {
        // Heads that may stand before that of the data: an origin, and the transaction that this one is part of.
        at += match data.get(at) {
            Some(253) => 3,
            Some(252) => 5,
            Some(255) => break at += 2,
            Some(254) => break at += 5,
            // Cut off here, or of a form that is not known: better one too many.
            _ => return Some("a path that could not be read".into()),
        };
    }
    let path = data.get(at + 4..).unwrap_or_default();
    let whole = path.iter().position(|byte| *byte == 0);
    if whole == Some(0) {
        return None;
    }
    Some(String::from_utf8_lossy(&path[..whole.unwrap_or(path.len())]).into_owned())
}

struct Walk<'a> {
    bytes: &'a [u8],
    page: usize,
}

impl Walk<'_> {
    fn u16(&self, at: usize) -> u16 {
        self.bytes.get(at..at + 2).map_or(0, |two| u16::from_le_bytes([two[0], two[1]]))
    }

    fn u32(&self, at: usize) -> u32 {
        self.bytes.get(at..at + 4).map_or(0, |four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
    }

    /// The first `keep` bytes of a record, and where it ends; `None` when that is in another segment. A record that was
    /// never finished ends where the next page says so.
    fn read(&self, mut at: usize, length: usize, keep: usize) -> (Vec<u8>, Option<usize>) {
        let (mut kept, mut left) = (Vec::new(), length);
        while left > 0 {
            if at.is_multiple_of(self.page) {
                if at >= self.bytes.len() {
                    return (kept, None);
                }
                if self.u16(at + 2) & CONTINUES == 0 {
                    return (kept, Some(at));
                }
                at += PAGE_HEADER;
            }
            let here = left.min(self.page - at % self.page).min(self.bytes.len().saturating_sub(at));
            if here == 0 {
                return (kept, None);
            }
            let wanted = keep.saturating_sub(kept.len()).min(here);
            kept.extend_from_slice(&self.bytes[at..at + wanted]);
            at += here;
            left -= here;
        }
        (kept, Some(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 8192;

    /// A segment of so many pages with these records, one after the other.
    fn segment(pages: usize, records: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let header = |bytes: &mut Vec<u8>, rest: usize| {
            let first = bytes.is_empty();
            let info = if first { 2 } else { 0 } | u16::from(rest > 0);
            let start = bytes.len();
            bytes.extend(0xD10D_u16.to_le_bytes());
            bytes.extend(info.to_le_bytes());
            bytes.extend(1u32.to_le_bytes());
            bytes.extend((start as u64).to_le_bytes());
            bytes.extend((rest as u32).to_le_bytes());
            bytes.extend([0; 4]);
            if first {
                bytes.extend(7u64.to_le_bytes());
                bytes.extend((16u32 << 20).to_le_bytes());
                bytes.extend((PAGE as u32).to_le_bytes());
            }
        };
        header(&mut bytes, 0);
        for record in records {
            for (at, byte) in record.iter().enumerate() {
                if bytes.len().is_multiple_of(PAGE) {
                    header(&mut bytes, record.len() - at);
                }
                bytes.push(*byte);
            }
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            if bytes.len().is_multiple_of(PAGE) {
                header(&mut bytes, 0);
            }
        }
        bytes.resize(pages * PAGE, 0);
        bytes
    }

    fn record(manager: u8, info: u8, data: &[u8]) -> Vec<u8> {
        let mut bytes = ((RECORD + data.len()) as u32).to_le_bytes().to_vec();
        bytes.resize(16, 9);
        bytes.extend([info, manager, 0, 0, 1, 2, 3, 4]);
        bytes.extend(data);
        bytes
    }

    fn create(path: &str) -> Vec<u8> {
        let mut data = vec![255, (path.len() + 5) as u8];
        data.extend(16_384u32.to_le_bytes());
        data.extend(path.as_bytes());
        data.push(0);
        record(TABLESPACE, CREATE, &data)
    }

    #[test]
    fn the_paths_are_found_wherever_the_record_lies() {
        for before in (0..9000).step_by(8) {
            let records = [record(1, 0, &vec![5; before]), create("/srv/x"), record(0, 0, &[1; 50]), create("")];
            assert_eq!(made_in(&segment(3, &records)), ["/srv/x"], "after {before} bytes");
        }
        // What drops one makes none.
        let dropped = record(TABLESPACE, 0x10, &[255, 4, 0, 64, 0, 0]);
        assert!(made_in(&segment(2, &[dropped])).is_empty());
    }

    #[test]
    fn a_record_that_two_segments_share_is_found_in_one_of_them() {
        for before in (0..8200).step_by(8) {
            let whole = segment(4, &[record(1, 0, &vec![5; before]), create("/srv/x")]);
            let (first, rest) = whole.split_at(PAGE);
            let mut second = segment(1, &[])[..HEADER].to_vec();
            second[2..4].copy_from_slice(&(u16::from_le_bytes([rest[2], rest[3]]) | 2).to_le_bytes());
            second[16..20].copy_from_slice(&rest[16..20]);
            second.extend(&rest[PAGE_HEADER..PAGE]);
            second.resize(2 * PAGE, 0);
            let found = made_in(first).len() + made_in(&second).len();
            assert_eq!(found, 1, "after {before} bytes");
        }
    }

    #[test]
    fn what_is_no_segment_makes_none() {
        assert!(made_in(&[]).is_empty());
        assert!(made_in(&vec![0; 16 << 20]).is_empty());
        assert!(made_in(b"1\t0/3000000\tno recovery target specified\n").is_empty());
    }
}
