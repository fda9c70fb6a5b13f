//! What of the wanted files is there already: block by block, by their hashes.

use super::{pieces::Pieces, tree::Tree};
use crate::{
    block::{BLOCK, BlockHash, block_hash},
    chain::{Chain, Source},
    error::{BackupError, Result},
    manifest::FileEntry,
    take::base::Hashes,
};
use std::{
    fs::File,
    io::ErrorKind,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};
use surus_core::code;

/// Bytes that are compared at once.
const AT_ONCE: usize = 1 << 20;

/// Blocks of a file, and their checksum where they are there already.
type Part = (Source, Option<u32>);

/// Compares every file with what the backup has, gives each its size, and says what is to be written. Files that are
/// not there are made.
///
/// # Errors
/// When a file or the hashes cannot be read.
pub fn compare(chain: &Chain, tree: &Tree, hashes: &Hashes, skip: &str, workers: usize) -> Result<Pieces> {
    let files = &chain.newest().files;
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let share = || {
        let mut found: Vec<(usize, Vec<Part>)> = Vec::new();
        let mut buffer = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(number) else { break };
            if file.path == skip {
                continue;
            }
            match compare_file(file, &chain.sources[number], tree, hashes, &mut buffer) {
                Ok(parts) => found.push((number, parts)),
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(found)
    };
    let shares = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.clamp(1, 64)).map(|_| scope.spawn(share)).collect();
        let ended = || BackupError::refused(code::BUG, "a thread that compares files ended without a result");
        let results: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
        results.into_iter().map(|result| result.unwrap_or_else(|_| Err(ended()))).collect::<Result<Vec<_>>>()
    })?;
    let mut found: Vec<_> = shares.into_iter().flatten().collect();
    found.sort_unstable_by_key(|(number, _)| *number);
    let mut pieces = Pieces::default();
    for (number, parts) in found {
        for (source, there) in parts {
            pieces.add(number as u32, source, there);
        }
    }
    Ok(pieces)
}

fn compare_file(
    about: &FileEntry,
    sources: &[Source],
    tree: &Tree,
    hashes: &Hashes,
    buffer: &mut Vec<u8>,
) -> Result<Vec<Part>> {
    let path = tree.path(&about.path);
    let size = match std::fs::symlink_metadata(&path) {
        Ok(there) => there.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(BackupError::file("cannot read", &path)(error)),
    };
    let file = tree.open(&about.path, about.mode, true)?;
    if size != about.size {
        file.set_len(about.size).map_err(BackupError::file("cannot write", &path))?;
    }
    let mut parts = Vec::new();
    for source in sources {
        // Nothing of it is there when the file was shorter.
        let known = if u64::from(source.block) * BLOCK as u64 >= size { None } else { hashes.of(source)? };
        match known {
            None => parts.push((*source, None)),
            Some(known) => {
                let compared = compare_source(&file, about.size, *source, &known, buffer, &mut parts);
                compared.map_err(BackupError::file("cannot read", &path))?;
            }
        }
    }
    Ok(parts)
}

/// Cuts a source where what is there changes from the same to something else.
fn compare_source(
    file: &File,
    size: u64,
    source: Source,
    known: &[BlockHash],
    buffer: &mut Vec<u8>,
    parts: &mut Vec<Part>,
) -> std::io::Result<()> {
    buffer.resize(AT_ONCE, 0);
    let mut current: Option<Part> = None;
    let (mut block, end) = (source.block, source.block + source.count);
    while block < end {
        let offset = u64::from(block) * BLOCK as u64;
        let wanted = (u64::from(end - block) * BLOCK as u64).min(size - offset).min(AT_ONCE as u64) as usize;
        file.read_exact_at(&mut buffer[..wanted], offset)?;
        for content in buffer[..wanted].chunks(BLOCK) {
            let same = known.get((block - source.block) as usize) == Some(&block_hash(content));
            let crc = |before: u32| same.then(|| crc32c::crc32c_append(before, content));
            match &mut current {
                Some((part, there)) if there.is_some() == same => {
                    part.count += 1;
                    *there = crc(there.unwrap_or(0));
                }
                other => {
                    let at = source.at + (block - source.block);
                    parts.extend(other.replace((Source { block, count: 1, at, ..source }, crc(0))));
                }
            }
            block += 1;
        }
    }
    parts.extend(current);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_cut_where_the_content_differs() {
        let wanted: Vec<u8> = (0..BLOCK * 4 + 10).map(|at| (at / 100) as u8).collect();
        let known: Vec<BlockHash> = wanted.chunks(BLOCK).map(block_hash).collect();
        let mut there = wanted.clone();
        there[BLOCK + 5] ^= 1;
        there[BLOCK * 2 + 5] ^= 1;
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&there, 0).unwrap();
        let source = Source { block: 0, count: 5, backup: 2, chunk: 9, at: 30 };
        let mut parts = Vec::new();
        compare_source(&file, wanted.len() as u64, source, &known, &mut Vec::new(), &mut parts).unwrap();
        let seen: Vec<_> = parts.iter().map(|(part, crc)| (part.block, part.count, part.at, *crc)).collect();
        let crc = |range: std::ops::Range<usize>| Some(crc32c::crc32c(&wanted[range]));
        let expected = [(0, 1, 30, crc(0..BLOCK)), (1, 2, 31, None), (3, 2, 33, crc(BLOCK * 3..BLOCK * 4 + 10))];
        assert_eq!(seen, expected);
    }
}
