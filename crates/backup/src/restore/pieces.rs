//! What is to be written where: every file's blocks as pieces, each of one chunk of one backup.

use super::crc::Joiner;
use crate::{
    block::BLOCK,
    chain::{Chain, Source},
    manifest::{ChunkEntry, FileEntry},
};
use std::{
    ops::Range,
    sync::atomic::{AtomicU32, Ordering},
};

/// Consecutive blocks of a file that are in one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The file's place in the newest manifest.
    pub file: u32,
    pub source: Source,
}

/// The pieces of all files, in order of files and blocks.
#[derive(Debug, Default)]
pub struct Pieces {
    pub all: Vec<Piece>,
    /// Checksums of what was written, or found to be there already, piece by piece.
    crcs: Vec<AtomicU32>,
    /// The pieces to be written, in the order in which the repository has them.
    pub order: Vec<u32>,
}

/// Pieces of one bundle: a range of [`Pieces::order`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub backup: u16,
    pub bundle: u32,
    pub pieces: Range<usize>,
}

impl Piece {
    /// How many bytes it has, given the file's size.
    pub fn bytes(&self, size: u64) -> usize {
        let start = u64::from(self.source.block) * BLOCK as u64;
        let bytes = (u64::from(self.source.count) * BLOCK as u64).min(size.saturating_sub(start));
        usize::try_from(bytes).unwrap_or(0)
    }

    /// Where it begins in the file.
    pub fn offset(&self) -> u64 {
        u64::from(self.source.block) * BLOCK as u64
    }
}

impl Pieces {
    /// Adds blocks of a file; they come in order of files and blocks. `there` is their checksum when they need not be
    /// written.
    pub fn add(&mut self, file: u32, source: Source, there: Option<u32>) {
        if there.is_none() {
            self.order.push(self.all.len() as u32);
        }
        self.all.push(Piece { file, source });
        self.crcs.push(AtomicU32::new(there.unwrap_or(0)));
    }

    /// Puts what is to be written into the repository's order and cuts it into groups, one for each bundle.
    pub fn groups(&mut self, chain: &Chain) -> Vec<Group> {
        let all = &self.all;
        let place = |number: &u32| {
            let source = all[*number as usize].source;
            let chunk = chunk_of(chain, &source);
            (source.backup, chunk.map_or(0, |chunk| chunk.bundle), chunk.map_or(0, |chunk| chunk.offset), source.at)
        };
        self.order.sort_unstable_by_key(place);
        let mut groups: Vec<Group> = Vec::new();
        for (at, number) in self.order.iter().enumerate() {
            let (backup, bundle, _, _) = place(number);
            match groups.last_mut() {
                Some(group) if group.backup == backup && group.bundle == bundle => group.pieces.end = at + 1,
                _ => groups.push(Group { backup, bundle, pieces: at..at + 1 }),
            }
        }
        groups
    }

    /// Bytes that are to be written.
    pub fn bytes(&self, files: &[FileEntry]) -> u64 {
        let bytes = |number: &u32| {
            let piece = self.all[*number as usize];
            piece.bytes(files[piece.file as usize].size) as u64
        };
        self.order.iter().map(bytes).sum()
    }

    /// Keeps the checksum of a piece that was written.
    pub fn written(&self, number: u32, crc: u32) {
        self.crcs[number as usize].store(crc, Ordering::Relaxed);
    }

    /// Each file that has pieces, with the checksum of its content as it is now on disk.
    pub fn checksums<'f>(&self, files: &'f [FileEntry]) -> impl Iterator<Item = (&'f FileEntry, u32)> {
        let joiner = Joiner::new();
        self.all.chunk_by(|one, other| one.file == other.file).scan(0, move |first, pieces| {
            let file = &files[pieces[0].file as usize];
            let crcs = &self.crcs[*first..*first + pieces.len()];
            *first += pieces.len();
            let join = |so_far, (piece, crc): (&Piece, &AtomicU32)| {
                joiner.join(so_far, crc.load(Ordering::Relaxed), piece.bytes(file.size) as u64)
            };
            Some((file, pieces.iter().zip(crcs).fold(0, join)))
        })
    }
}

/// The chunk that a source is in.
pub fn chunk_of<'a>(chain: &'a Chain, source: &Source) -> Option<&'a ChunkEntry> {
    chain.backups.get(usize::from(source.backup))?.chunks.get(source.chunk as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_checksum_is_that_of_its_pieces() {
        let content: Vec<u8> = (0..BLOCK * 3 + 100).map(|at| (at / 7) as u8).collect();
        let size = content.len() as u64;
        let entry = FileEntry {
            path: "f".into(),
            size,
            mode: 0,
            modified_ms: 0,
            crc32c: Some(crc32c::crc32c(&content)),
            runs: vec![],
        };
        let files = [FileEntry { path: "other".into(), size: 0, ..entry.clone() }, entry];
        let mut pieces = Pieces::default();
        let source = |block, count| Source { block, count, backup: 0, chunk: 0, at: 0 };
        pieces.add(1, source(0, 1), Some(crc32c::crc32c(&content[..BLOCK])));
        pieces.add(1, source(1, 3), None);
        assert_eq!(pieces.bytes(&files), size - BLOCK as u64);
        pieces.written(1, crc32c::crc32c(&content[BLOCK..]));
        let seen: Vec<_> = pieces.checksums(&files).map(|(file, crc)| (file.crc32c, Some(crc))).collect();
        assert_eq!(seen, [(files[1].crc32c, files[1].crc32c)]);
    }
}
