//! Blocks of 8 KiB: the unit in which files are compared, and PostgreSQL's checksum of a page.
//!
//! Every file is seen as blocks of [`BLOCK`] bytes, whatever is in it; the last one may be short and is filled up with
//! zeros. Where a block is compared with that of an earlier backup, its content decides, never a time or an LSN.

use crate::repo::container::Hash;

/// Bytes of a block. It is also the usual page size of PostgreSQL, which makes a changed page one changed block.
pub const BLOCK: usize = 8192;

/// What is kept of a block to see whether it changed: the first half of its BLAKE3 hash.
pub type BlockHash = [u8; 16];

/// The hash of a chunk: BLAKE3 over the BLAKE3 hashes of its blocks, the last one as short as it is.
pub fn hash_of(chunk: &[u8]) -> Hash {
    hash_with_blocks(chunk, |_| {})
}

/// The hash of a chunk, and on the way that of each block.
pub fn hash_with_blocks(chunk: &[u8], mut each: impl FnMut(BlockHash)) -> Hash {
    let mut all = blake3::Hasher::new();
    for block in chunk.chunks(BLOCK) {
        let hash = blake3::hash(block);
        all.update(hash.as_bytes());
        each(short(&hash));
    }
    all.finalize().into()
}

/// The hash of one block.
pub fn block_hash(block: &[u8]) -> BlockHash {
    short(&blake3::hash(block))
}

fn short(hash: &blake3::Hash) -> BlockHash {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.as_bytes()[..16]);
    half
}

/// How many blocks a file of this size has.
pub fn blocks_of(size: u64) -> u64 {
    size.div_ceil(BLOCK as u64)
}

/// What a page says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageState {
    /// Its checksum fits, or it is all zeros, which is how PostgreSQL leaves a page that was never used.
    Good,
    /// Its checksum does not fit: damaged, or read while it was being written.
    Torn,
}

/// Judges a page of a relation by its checksum, which includes its number in the relation: a page in another place is
/// as bad as a changed one. Source: PostgreSQL's documentation of data checksums, and the page layout (section
/// "Database Page Layout"): `pd_checksum` are bytes 8 and 9, and an unused page is all zeros.
pub fn page_state(page: &[u8], number: u32) -> PageState {
    let stored = u16::from_le_bytes([page[8], page[9]]);
    // An all-zero page has no checksum. Most pages differ from zero in their first bytes, so this is cheap.
    if stored == 0 && page.iter().all(|byte| *byte == 0) {
        return PageState::Good;
    }
    if checksum(page, number) == stored { PageState::Good } else { PageState::Torn }
}

const LANES: usize = 32;
const PRIME: u32 = 16_777_619;

/// Where each lane of the checksum starts.
const START: [u32; LANES] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// PostgreSQL's checksum of a page of 8 KiB: 32 FNV-1a hashes side by side, their sums mixed twice more and folded,
/// with the page's number mixed in; never 0. The checksum's own two bytes count as zero.
pub fn checksum(page: &[u8], number: u32) -> u16 {
    let folded = pulp::Arch::new().dispatch(|| fold(page));
    u16::try_from((folded ^ number) % 65_535 + 1).unwrap_or(u16::MAX)
}

#[inline(always)]
fn fold(page: &[u8]) -> u32 {
    let mut sums = START;
    let mut first = true;
    for row in page.chunks_exact(LANES * 4) {
        let mut words = [0u32; LANES];
        for (word, bytes) in words.iter_mut().zip(row.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        if first {
            words[2] &= 0xFFFF_0000;
            first = false;
        }
        mix(&mut sums, &words);
    }
    mix(&mut sums, &[0; LANES]);
    mix(&mut sums, &[0; LANES]);
    sums.iter().fold(0, |all, sum| all ^ sum)
}

#[inline(always)]
fn mix(sums: &mut [u32; LANES], words: &[u32; LANES]) {
    for (sum, word) in sums.iter_mut().zip(words) {
        let mixed = *sum ^ word;
        *sum = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_chunk_is_that_of_its_blocks() {
        let chunk = [vec![1u8; BLOCK], vec![2; BLOCK], vec![3; 100]].concat();
        let mut blocks = Vec::new();
        let hash = hash_with_blocks(&chunk, |hash| blocks.push(hash));
        assert_eq!(hash, hash_of(&chunk));
        assert_eq!(blocks, [block_hash(&[1; BLOCK]), block_hash(&[2; BLOCK]), block_hash(&[3; 100])]);
        assert_eq!((blocks_of(0), blocks_of(1), blocks_of(8192), blocks_of(8193)), (0, 1, 1, 2));
    }

    #[test]
    fn a_page_of_zeros_is_good_anywhere() {
        assert_eq!(page_state(&[0; BLOCK], 7), PageState::Good);
        let mut page = [0; BLOCK];
        page[5000] = 1;
        assert_eq!(page_state(&page, 7), PageState::Torn);
        let sum = checksum(&page, 7);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(page_state(&page, 7), PageState::Good);
        assert_eq!(page_state(&page, 8), PageState::Torn);
    }
}
