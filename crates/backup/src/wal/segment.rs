//! What a WAL segment says of itself in its first page. Source: PostgreSQL's XLogLongPageHeaderData, the same from 13
//! on.

use super::name::Segment;
use std::fmt;
use surus_core::lsn::Lsn;

/// Bytes of the first page's header.
pub const HEADER: usize = 40;
/// The flag of the long header, which only a segment's first page has.
const LONG: u16 = 0x0002;

/// The first page's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Differs between majors.
    pub magic: u16,
    /// Of the page; older than that of the name where a timeline began within the segment.
    pub timeline: u32,
    /// Where the page belongs.
    pub address: Lsn,
    pub system_identifier: u64,
    /// Bytes of a segment.
    pub segment_size: u64,
    pub page_size: u32,
}

/// Why a file is not the segment that its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// It has not the bytes of a segment.
    Size { bytes: u64, expected: u64 },
    /// Its first page has no header of a segment: it was never written, or is something else.
    NoHeader,
    /// It holds another stretch of WAL: a segment that was renamed to be used again, and not yet written.
    Address { found: Lsn, expected: Lsn },
    /// It is of another cluster.
    System { found: u64, expected: u64 },
    /// It is of a later timeline than its name.
    Timeline { found: u32, expected: u32 },
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { bytes, expected } => write!(f, "it has {bytes} bytes, and a segment has {expected}"),
            Self::NoHeader => f.write_str("it does not begin as a WAL segment does"),
            Self::Address { found, expected } => {
                write!(f, "its first page is that of {found}, and the name says {expected}: a recycled segment")
            }
            Self::System { found, expected } => write!(f, "it is of cluster {found}, not {expected}"),
            Self::Timeline { found, expected } => write!(f, "it is of timeline {found}, and the name says {expected}"),
        }
    }
}

impl SegmentHeader {
    /// From the first bytes of a segment; `None` when they are no such header.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER)?;
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let header = Self {
            magic: u16_at(0),
            timeline: u32_at(4),
            address: Lsn(u64_at(8)),
            system_identifier: u64_at(24),
            segment_size: u64::from(u32_at(32)),
            page_size: u32_at(36),
        };
        let plausible = header.magic >> 8 == 0xD1
            && u16_at(2) & LONG != 0
            && header.segment_size.is_power_of_two()
            && (1 << 20..=1 << 30).contains(&header.segment_size)
            && header.timeline > 0;
        plausible.then_some(header)
    }

    /// Does the file of this name and size, which begins with this header, hold what its name says? `cluster` is the
    /// expected system identifier, where it is known.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn fits(&self, segment: Segment, bytes: u64, cluster: Option<u64>) -> Result<(), Misfit> {
        if bytes != self.segment_size {
            return Err(Misfit::Size { bytes, expected: self.segment_size });
        }
        if let Some(expected) = cluster.filter(|expected| *expected != self.system_identifier) {
            return Err(Misfit::System { found: self.system_identifier, expected });
        }
        if self.address != segment.start() {
            return Err(Misfit::Address { found: self.address, expected: segment.start() });
        }
        if self.timeline > segment.timeline {
            return Err(Misfit::Timeline { found: self.timeline, expected: segment.timeline });
        }
        Ok(())
    }
}
