//! `global/pg_control`: what a data directory says of its cluster.
//!
//! Only what stands at the same place in every major from 13 to 18 is read. Source: PostgreSQL's `pg_controldata` and
//! the struct ControlFileData; each major's tests compare with `pg_controldata`.

use surus_core::lsn::Lsn;

/// Where the file is in a data directory.
pub const PATH: &str = "global/pg_control";
/// Bytes of the file that PostgreSQL writes.
pub const SIZE: usize = 8192;

/// A control file whose checksum is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    pub system_identifier: u64,
    /// `pg_control_version`, e.g. 1300 for PostgreSQL 13 to 17.
    pub version: u32,
    pub catalog_version: u32,
    /// `DBState`: 1 shut down, 2 shut down in recovery, 5 in archive recovery, 6 in production …
    pub state: u32,
    /// The latest checkpoint's location.
    pub checkpoint: Lsn,
    /// Where recovery from that checkpoint begins.
    pub redo: Lsn,
    pub timeline: u32,
    /// Bytes of a page (`BLCKSZ`) and pages of a relation's file (`RELSEG_SIZE`), as the server was built; 0 when the
    /// file does not tell.
    pub page_size: u32,
    pub segment_pages: u32,
    /// Do its pages have checksums?
    pub checksums: bool,
    /// Bytes before the checksum.
    crc_at: usize,
}

/// The file was read while it was being written, or is no control file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("global/pg_control has no valid checksum")]
pub struct BadControl;

impl Control {
    /// Reads the file's content.
    ///
    /// # Errors
    /// When no checksum in it fits: try again, a write may be under way.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadControl> {
        let crc_at = crc_position(bytes).ok_or(BadControl)?;
        let built = built(bytes, crc_at);
        let of_build = |at: usize| built.map_or(0, |begin| u32_at(bytes, begin + at));
        Ok(Self {
            system_identifier: u64_at(bytes, 0),
            version: u32_at(bytes, 8),
            catalog_version: u32_at(bytes, 12),
            state: u32_at(bytes, 16),
            checkpoint: Lsn(u64_at(bytes, 32)),
            redo: Lsn(u64_at(bytes, 40)),
            timeline: u32_at(bytes, 48),
            page_size: of_build(8),
            segment_pages: of_build(12),
            checksums: of_build(44) != 0,
            crc_at,
        })
    }

    /// The file with a checkpoint that cannot exist: a server that starts from it without a backup label stops at once,
    /// rather than take an inconsistent directory for a good one. With a label it is replaced by the label's.
    pub fn disarmed(self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        bytes[32..40].copy_from_slice(&0xDEAD_BEEF_u64.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..self.crc_at]);
        bytes[self.crc_at..self.crc_at + 4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// The checksum is the last field, and the struct grew over time: it stands where it fits.
fn crc_position(bytes: &[u8]) -> Option<usize> {
    (200..=400).step_by(4).find(|at| bytes.len() >= at + 4 && crc32c::crc32c(&bytes[..*at]) == u32_at(bytes, *at))
}

/// Where the numbers of the build begin: with a floating-point constant. Source: `FLOATFORMAT_VALUE` in `pg_control.h`.
fn built(bytes: &[u8], end: usize) -> Option<usize> {
    let mark = 1_234_567.0f64.to_le_bytes();
    (56..end).step_by(8).find(|at| bytes.get(*at..at + 8) == Some(mark.as_slice()))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_file_says_what_pg_controldata_says() {
        surus_testkit::each_major(|major| {
            let server = surus_testkit::Server::builder().major(major).start();
            server.sql("CHECKPOINT");
            let bytes = std::fs::read(server.data_dir().join(PATH)).unwrap();
            let control = Control::parse(&bytes).unwrap();
            let line = "SELECT system_identifier || '|' || pg_control_version AS v FROM pg_control_system()";
            assert_eq!(server.value(line), format!("{}|{}", control.system_identifier, control.version));
            let line =
                "SELECT checkpoint_lsn || '|' || redo_lsn || '|' || timeline_id AS v FROM pg_control_checkpoint()";
            assert_eq!(server.value(line), format!("{}|{}|{}", control.checkpoint, control.redo, control.timeline));
            let line = "SELECT database_block_size || '|' || blocks_per_segment || '|' || \
                        (data_page_checksum_version > 0)::text AS v FROM pg_control_init()";
            let built = format!("{}|{}|{}", control.page_size, control.segment_pages, control.checksums);
            assert_eq!(server.value(line), built);
            let disarmed = control.disarmed(&bytes);
            assert_eq!(Control::parse(&disarmed).unwrap().checkpoint, Lsn(0xDEAD_BEEF));
            let mut torn = bytes;
            torn[40] ^= 1;
            assert_eq!(Control::parse(&torn), Err(BadControl));
        });
    }
}
