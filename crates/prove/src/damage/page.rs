//! A page as bytes: is it what PostgreSQL wrote, and what can still be read of it? Pure.
//!
//! Source: PostgreSQL's documentation, "Database Page Layout", `PageIsVerified` in `bufpage.c`, and for TOAST pointers
//! `varatt_external` in `varatt.h`.

use serde::Serialize;
use surus_backup::block::checksum;
use surus_core::lsn::Lsn;

/// What is wrong with a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Wrong {
    /// Its content does not fit its checksum; and its header does not make sense either, if that is so.
    Checksum { stored: u16, computed: u16, header: Option<String> },
    /// Its header does not make sense.
    Header { why: String },
    /// It is all zeros, where there were rows.
    Zero,
    /// The file ends in the middle of it.
    Short { bytes: usize },
    /// The system cannot read it.
    Unreadable { why: String },
    /// What amcheck says of what is on it.
    Amcheck { words: String },
    /// What the server said when it read it; the file could not be looked at.
    Said { words: String },
}

impl Wrong {
    /// For people.
    pub fn text(&self) -> String {
        match self {
            Self::Checksum { stored, computed, header } => {
                let more = header.as_ref().map(|why| format!("; in its header {why}")).unwrap_or_default();
                format!("its checksum is {stored} and should be {computed} ({stored:#06x}, {computed:#06x}){more}")
            }
            Self::Header { why } => format!("its header does not make sense: {why}"),
            Self::Zero => "it is all zeros, and there were rows on it: PostgreSQL takes it for a page that was never \
                           used, and reports nothing"
                .into(),
            Self::Short { bytes } => format!("the file ends after {bytes} bytes of it"),
            Self::Unreadable { why } => format!("it cannot be read: {why}"),
            Self::Amcheck { words } => format!("amcheck: {words}"),
            Self::Said { words } => format!("the server: {words}"),
        }
    }

    /// Does the server refuse to read it, so that it counts as empty with `zero_damaged_pages`?
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Checksum { .. } | Self::Header { .. })
    }
}

/// What a page looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Sound,
    /// All zeros, which is how PostgreSQL leaves a page that was never used.
    New,
    Wrong(Wrong),
}

/// Judges a page by its checksum, if the cluster has them, and by its header.
pub fn judge(page: &[u8], block: u32, checksums: bool) -> State {
    if page.iter().all(|byte| *byte == 0) {
        return State::New;
    }
    let header = header(page).err();
    let (stored, computed) = (u16_at(page, 8), checksum(page, block));
    match header {
        header if checksums && stored != computed => State::Wrong(Wrong::Checksum { stored, computed, header }),
        Some(why) => State::Wrong(Wrong::Header { why }),
        None => State::Sound,
    }
}

/// What holds for every used page.
fn header(page: &[u8]) -> Result<(), String> {
    let (flags, lower, upper, special) = (u16_at(page, 10), u16_at(page, 12), u16_at(page, 14), u16_at(page, 16));
    if flags & !7 != 0 {
        return Err(format!("the flags are {flags:#06x}"));
    }
    let ordered = 24 <= lower && lower <= upper && upper <= special && usize::from(special) <= page.len();
    if !ordered || !special.is_multiple_of(8) {
        return Err(format!("free space goes from {lower} to {upper} and the end begins at {special}"));
    }
    Ok(())
}

/// The position in the WAL of the page's last change, as it says itself.
pub fn lsn(page: &[u8]) -> Lsn {
    Lsn(u64::from(u32_at(page, 0)) << 32 | u64::from(u32_at(page, 4)))
}

/// A row's version on a page: its number, and its bytes.
fn tuples(page: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let lower = usize::from(u16_at(page, 12)).clamp(24, page.len());
    (1u16..).zip((24..lower.saturating_sub(3)).step_by(4)).filter_map(|(number, at)| {
        let pointer = u32_at(page, at);
        let (offset, normal, length) =
            ((pointer & 0x7FFF) as usize, (pointer >> 15) & 3 == 1, (pointer >> 17) as usize);
        let tuple = page.get(offset..offset + length).filter(|tuple| normal && tuple.len() >= 23)?;
        Some((number, tuple))
    })
}

/// How many rows can be on a page of that size, at most.
pub fn rows_at_most(page_size: usize) -> usize {
    page_size.saturating_sub(24) / (24 + 4)
}

/// How many versions of rows on the page come from transactions that began at `next` or later, as far as the page can
/// be believed.
pub fn changed_since(page: &[u8], next: u32) -> usize {
    // Transaction ids are a circle; those below 3 are special.
    let later = |xid: u32| xid >= 3 && xid.wrapping_sub(next) < 1 << 31;
    let touched = |tuple: &[u8]| {
        let (min, max, mask) = (u32_at(tuple, 0), u32_at(tuple, 4), u16_at(tuple, 20));
        // XMAX_INVALID, XMAX_IS_MULTI.
        later(min) || (mask & 0x0800 == 0 && mask & 0x1000 == 0 && later(max))
    };
    tuples(page).filter(|(_, tuple)| touched(tuple)).count()
}

/// The numbers of the rows on a page of a table that refer to one of these values of a TOAST table.
pub fn refer_to(page: &[u8], toast: u32, values: &[u32]) -> Vec<u16> {
    let refers = |tuple: &[u8]| {
        // A pointer to a value on disk: header, tag, size, size stored, value, TOAST table.
        tuple
            .windows(18)
            .any(|at| at[0] == 0x01 && at[1] == 18 && u32_at(at, 14) == toast && values.contains(&u32_at(at, 10)))
    };
    tuples(page).filter(|(_, tuple)| refers(tuple)).map(|(number, _)| number).collect()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|two| two.try_into().ok()).map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty page with its checksum.
    fn page(size: u16, block: u32) -> Vec<u8> {
        let mut page = vec![0u8; usize::from(size)];
        for (offset, value) in [(12, 28u16), (14, size - 192), (16, size), (18, size + 4)] {
            page[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
        }
        let sum = checksum(&page, block);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        page
    }

    #[test]
    fn pages_of_other_sizes_are_judged_as_well() {
        for size in [4096, 8192, 16384] {
            let mut page = page(size, 7);
            assert_eq!(judge(&page, 7, true), State::Sound, "{size}");
            assert!(matches!(judge(&page, 8, true), State::Wrong(Wrong::Checksum { header: None, .. })));
            assert_eq!(judge(&page, 8, false), State::Sound);
            page[13] = 0xFF;
            assert!(matches!(judge(&page, 7, false), State::Wrong(Wrong::Header { .. })));
            assert!(matches!(judge(&page, 7, true), State::Wrong(Wrong::Checksum { header: Some(_), .. })));
            assert_eq!(judge(&vec![0; page.len()], 7, true), State::New);
        }
    }

    #[test]
    fn rows_on_a_page_are_read_as_far_as_possible() {
        let mut page = page(8192, 0);
        let at = 8000usize;
        page[24..28].copy_from_slice(&(at as u32 | 1 << 15 | 64 << 17).to_le_bytes());
        page[at..at + 4].copy_from_slice(&1000u32.to_le_bytes());
        page[at + 20..at + 22].copy_from_slice(&0x0800u16.to_le_bytes());
        page[at + 30..at + 32].copy_from_slice(&[1, 18]);
        page[at + 40..at + 44].copy_from_slice(&4711u32.to_le_bytes());
        page[at + 44..at + 48].copy_from_slice(&16390u32.to_le_bytes());
        assert_eq!((changed_since(&page, 1000), changed_since(&page, 1001)), (1, 0));
        assert_eq!(refer_to(&page, 16390, &[1, 4711]), [1]);
        assert!(refer_to(&page, 16390, &[4712]).is_empty() && refer_to(&page, 16391, &[4711]).is_empty());
        page[24..28].copy_from_slice(&[0xFF; 4]);
        assert_eq!(changed_since(&page, 1), 0);
    }
}
