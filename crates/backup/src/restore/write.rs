//! Bundles are read, chunks verified and unpacked, and their blocks written: threads that share the bundles among them.

use super::{
    pieces::{Group, Pieces, chunk_of},
    tree::Tree,
};
use crate::{
    block::BLOCK,
    chain::Chain,
    error::{BackupError, Result},
    manifest::{ChunkEntry, FileEntry},
    pace::Pace,
    repo::{
        Cluster,
        container::{Damage, Kind, OBJECT_HEADER, ObjectReader},
    },
};
use std::{
    collections::HashSet,
    fs::File,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    thread,
};
use surus_core::{code, monitor::Monitor};

/// Stored bytes that are read at once, at most, as long as a chunk is not larger.
const AT_ONCE: u64 = 8 << 20;
/// Bytes between two wanted chunks that are rather read than skipped.
const SKIP: u64 = 256 << 10;

/// What the writing threads share.
pub struct Writer<'a> {
    pub cluster: &'a Cluster,
    pub chain: &'a Chain,
    pub tree: &'a Tree,
    pub pieces: &'a Pieces,
    pub groups: &'a [Group],
    /// Files that are made when their first blocks come: all of theirs are in one chunk.
    pub made_late: &'a HashSet<u32>,
    pub pace: Option<&'a Pace<'a>>,
    pub monitor: &'a dyn Monitor,
    pub next: AtomicUsize,
    pub done: AtomicU64,
    pub failed: AtomicBool,
}

/// The file that a thread wrote to last.
struct Open {
    number: u32,
    file: File,
}

impl Writer<'_> {
    /// Writes every piece.
    ///
    /// # Errors
    /// When something cannot be read or written, or is not what was backed up.
    pub fn run(&self, workers: usize) -> Result<()> {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..workers.clamp(1, 64)).map(|_| scope.spawn(|| self.share())).collect();
            let ended = || BackupError::refused(code::BUG, "a thread that writes files ended without a result");
            let results: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
            results.into_iter().try_for_each(|result| result.unwrap_or_else(|_| Err(ended())))
        })
    }

    fn share(&self) -> Result<()> {
        let mut open = None;
        while !self.failed.load(Ordering::Relaxed) {
            let Some(group) = self.groups.get(self.next.fetch_add(1, Ordering::Relaxed)) else { break };
            if let Err(error) = self.group(group, &mut open) {
                self.failed.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    }

    /// All wanted chunks of a bundle.
    fn group(&self, group: &Group, open: &mut Option<Open>) -> Result<()> {
        let manifest = &self.chain.backups[usize::from(group.backup)];
        let name = self.cluster.names.bundle(&manifest.about.label, group.bundle);
        let order = &self.pieces.order[group.pieces.clone()];
        let chunk_number = |piece: &u32| self.pieces.all[*piece as usize].source.chunk;
        let chunks: Vec<(ChunkEntry, &[u32])> = order
            .chunk_by(|one, other| chunk_number(one) == chunk_number(other))
            .filter_map(|pieces| {
                let chunk = chunk_of(self.chain, &self.pieces.all[pieces[0] as usize].source)?;
                Some((*chunk, pieces))
            })
            .collect();
        let mut reader = None;
        let mut rest = &chunks[..];
        while !rest.is_empty() && !self.failed.load(Ordering::Relaxed) {
            let count = together(rest);
            let (now, later) = rest.split_at(count);
            rest = later;
            // The object's header comes with the first chunks where these are near, else by itself.
            let from = if reader.is_none() && now[0].0.offset <= SKIP { 0 } else { now[0].0.offset };
            let last = now[count - 1].0;
            let body = self.read(&name, from, last.offset + u64::from(last.stored_len))?;
            let damaged = |damage| self.cluster.repo.damaged(&name, damage);
            let reader = match &mut reader {
                Some(reader) => reader,
                None => {
                    let header = if from == 0 {
                        body.get(..OBJECT_HEADER).unwrap_or_default().to_vec()
                    } else {
                        self.read(&name, 0, OBJECT_HEADER as u64)?
                    };
                    let new = ObjectReader::new(Kind::Bundle, &name, &header, self.cluster.repo.keys());
                    reader.insert(new.map_err(damaged)?)
                }
            };
            for (chunk, pieces) in now {
                let at = usize::try_from(chunk.offset - from).unwrap_or(usize::MAX);
                let (raw, hash) = reader.chunk(chunk.index, body.get(at..).unwrap_or_default()).map_err(damaged)?;
                if hash != chunk.hash || raw.len() != chunk.raw_len as usize {
                    return Err(damaged(Damage::Content));
                }
                self.write(&name, &raw, pieces, open)?;
            }
        }
        Ok(())
    }

    fn read(&self, name: &str, from: u64, to: u64) -> Result<Vec<u8>> {
        let body = self.cluster.repo.place().read_range(name, from..to)?;
        body.ok_or_else(|| self.cluster.repo.missing(name, "the backup"))
    }

    fn write(&self, name: &str, raw: &[u8], pieces: &[u32], open: &mut Option<Open>) -> Result<()> {
        let mut bytes = 0;
        for number in pieces {
            let piece = self.pieces.all[*number as usize];
            let about = &self.chain.newest().files[piece.file as usize];
            let from = piece.source.at as usize * BLOCK;
            let part = raw.get(from..from + piece.bytes(about.size));
            let part = part.ok_or_else(|| self.cluster.repo.damaged(name, Damage::Content))?;
            let file = self.file(piece.file, about, open)?;
            let written = file.write_all_at(part, piece.offset());
            written.map_err(BackupError::file("cannot write", &self.tree.path(&about.path)))?;
            self.pieces.written(*number, crc32c::crc32c(part));
            bytes += part.len() as u64;
        }
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if done >> 23 != (done - bytes) >> 23 {
            self.monitor.advance("bytes", done);
        }
        if let Some(pace) = self.pace {
            pace.spend(bytes);
        }
        Ok(())
    }

    fn file<'o>(&self, number: u32, about: &FileEntry, open: &'o mut Option<Open>) -> Result<&'o File> {
        if open.as_ref().is_none_or(|there| there.number != number) {
            let file = self.tree.open(&about.path, about.mode, self.made_late.contains(&number))?;
            *open = Some(Open { number, file });
        }
        match open {
            Some(there) => Ok(&there.file),
            None => Err(BackupError::refused(code::BUG, "a file that was opened is not open")),
        }
    }
}

/// How many of the chunks are read with one request.
fn together(chunks: &[(ChunkEntry, &[u32])]) -> usize {
    let start = chunks[0].0.offset;
    let end = |chunk: &ChunkEntry| chunk.offset + u64::from(chunk.stored_len);
    let near = |two: &[(ChunkEntry, &[u32])]| {
        two[1].0.offset.saturating_sub(end(&two[0].0)) <= SKIP && end(&two[1].0) - start <= AT_ONCE
    };
    1 + chunks.windows(2).take_while(|two| near(two)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_that_lie_near_are_read_together() {
        let chunk = |offset: u64, stored_len: u32| {
            (ChunkEntry { bundle: 0, index: 0, offset, stored_len, raw_len: 1 << 20, hash: [0; 32] }, &[0u32][..])
        };
        let far = 10 << 20;
        assert_eq!(together(&[chunk(48, 1000)]), 1);
        assert_eq!(together(&[chunk(48, 1000), chunk(1048, 1000), chunk(far, 1000)]), 2);
        assert_eq!(together(&[chunk(0, 6 << 20), chunk(6 << 20, 3 << 20)]), 1);
        assert_eq!(together(&[chunk(0, 16 << 20), chunk(16 << 20, 100)]), 1);
    }
}
