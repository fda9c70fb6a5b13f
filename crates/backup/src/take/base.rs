//! What is in the repository already: the blocks of the backup that an incremental one builds on, and those of a backup
//! that was broken off. Both are known by path, number and hash.

use super::bundle::BundleIndex;
use crate::{
    block::{BLOCK, BlockHash},
    chain::{Chain, Source},
    error::{BackupError, Result},
    manifest::{ChunkEntry, FileEntry, Manifest, Run},
    repo::{
        Cluster,
        container::{Damage, Kind},
    },
};
use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{BufWriter, Write},
    os::unix::fs::FileExt,
    path::Path,
};

/// Hashes of blocks, kept in a file without a name: a large cluster has more of them than memory should hold.
#[derive(Debug)]
pub struct Hashes {
    spool: File,
    /// For each backup and each of its chunks: the number of the chunk's first hash in the spool.
    chunks: Vec<Vec<u64>>,
}

/// Blocks of files, and their hashes.
#[derive(Debug)]
pub struct Known {
    hashes: Hashes,
    files: HashMap<String, KnownFile>,
}

/// A file that is known.
#[derive(Debug, Clone, Default)]
pub struct KnownFile {
    /// Bytes; 0 in what a backup that was broken off has left.
    pub size: u64,
    /// As in the manifest.
    pub crc32c: Option<u32>,
    sources: Vec<Source>,
}

/// A block of one file that is known, and where it is.
#[derive(Debug, Clone, Copy)]
pub struct KnownBlock {
    pub hash: BlockHash,
    pub chunk: u32,
    pub at: u32,
}

impl Hashes {
    /// Of all blocks that the backups hold themselves.
    ///
    /// # Errors
    /// When an index cannot be read.
    pub fn of_backups(cluster: &Cluster, backups: &[Manifest]) -> Result<Self> {
        let mut spool = Spool::new()?;
        let mut chunks = Vec::new();
        for manifest in backups {
            let label = &manifest.about.label;
            let mut first: HashMap<(u32, u32), u64> = HashMap::new();
            let bundles: BTreeSet<_> = manifest.chunks.iter().map(|chunk| chunk.bundle).collect();
            for bundle in bundles {
                let Some((index, hashes)) = read_index(cluster, label, bundle)? else {
                    let name = cluster.names.bundle_index(label, bundle);
                    return Err(cluster.repo.missing(&name, &format!("what compares with backup {label}")));
                };
                spool.add(&index, &hashes, |chunk, at| {
                    first.insert((bundle, chunk), at);
                })?;
            }
            let at = |chunk: &ChunkEntry| first.get(&(chunk.bundle, chunk.index)).copied().unwrap_or(u64::MAX);
            chunks.push(manifest.chunks.iter().map(at).collect());
        }
        Ok(Self { spool: spool.finish()?, chunks })
    }

    /// Of a source's blocks; `None` when they are not known.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub fn of(&self, source: &Source) -> Result<Option<Vec<BlockHash>>> {
        let first = self.chunks.get(usize::from(source.backup)).and_then(|chunks| chunks.get(source.chunk as usize));
        let Some(first) = first.filter(|first| **first != u64::MAX) else { return Ok(None) };
        let mut hashes = vec![[0; 16]; source.count as usize];
        let at = (first + u64::from(source.at)) * 16;
        self.spool.read_exact_at(hashes.as_flattened_mut(), at).map_err(spooling)?;
        Ok(Some(hashes))
    }
}

impl Known {
    /// Of a chain: what its newest backup looks like.
    ///
    /// # Errors
    /// When an index cannot be read.
    pub fn of_chain(cluster: &Cluster, chain: Chain) -> Result<Self> {
        let hashes = Hashes::of_backups(cluster, &chain.backups)?;
        let Chain { mut backups, sources } = chain;
        let newest = backups.pop().map(|manifest| manifest.files).unwrap_or_default();
        let known = newest.into_iter().zip(sources).map(|(file, sources)| {
            let FileEntry { path, size, crc32c, .. } = file;
            (path, KnownFile { size, crc32c, sources })
        });
        Ok(Self { hashes, files: known.collect() })
    }

    /// Of a backup that was broken off: its whole bundles, as one backup, with their chunks.
    ///
    /// # Errors
    /// When the repository cannot be read. A bundle that is damaged or has no index is passed over.
    pub fn of_leftovers(cluster: &Cluster, label: &str) -> Result<(Self, Vec<ChunkEntry>)> {
        let mut spool = Spool::new()?;
        let (mut chunks, mut firsts): (Vec<ChunkEntry>, _) = (Vec::new(), Vec::new());
        let mut files: HashMap<String, KnownFile> = HashMap::new();
        for entry in cluster.repo.place().list(&cluster.names.data_folder(Some(label)))? {
            let number = entry.name.rsplit_once("/i").and_then(|(_, number)| number.parse::<u32>().ok());
            let Some(bundle) = number else { continue };
            let Ok(Some((index, hashes))) = read_index(cluster, label, bundle) else { continue };
            let before = chunks.len() as u32;
            spool.add(&index, &hashes, |_, at| firsts.push(at))?;
            for (number, chunk) in (0..).zip(&index.chunks) {
                let (offset, stored_len, raw_len, hash) = (chunk.offset, chunk.stored_len, chunk.raw_len, chunk.hash);
                chunks.push(ChunkEntry { bundle, index: number, offset, stored_len, raw_len, hash });
            }
            for one in index.runs {
                let Run { block, count, chunk, at } = one.run;
                let file = files.entry(one.path).or_default();
                file.sources.push(Source { block, count, backup: 0, chunk: before + chunk, at });
            }
        }
        files.values_mut().for_each(|file| file.sources.sort_unstable_by_key(|source| source.block));
        Ok((Self { hashes: Hashes { spool: spool.finish()?, chunks: vec![firsts] }, files }, chunks))
    }

    /// A file, when it is known.
    pub fn file(&self, path: &str) -> Option<&KnownFile> {
        self.files.get(path)
    }

    /// All files with their paths, in no order.
    pub fn files(&self) -> impl Iterator<Item = (&str, &KnownFile)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// The known blocks of a file by their numbers.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub fn blocks(&self, path: &str) -> Result<Vec<Option<KnownBlock>>> {
        let Some(file) = self.files.get(path) else { return Ok(Vec::new()) };
        let mut blocks = Vec::new();
        for source in &file.sources {
            let Some(hashes) = self.hashes.of(source)? else { continue };
            let end = (source.block + source.count) as usize;
            if blocks.len() < end {
                blocks.resize(end, None);
            }
            for (number, hash) in (0..).zip(hashes) {
                let known = KnownBlock { hash, chunk: source.chunk, at: source.at + number };
                blocks[(source.block + number) as usize] = Some(known);
            }
        }
        Ok(blocks)
    }
}

fn read_index(cluster: &Cluster, label: &str, bundle: u32) -> Result<Option<(BundleIndex, Vec<BlockHash>)>> {
    let name = cluster.names.bundle_index(label, bundle);
    let Some(bytes) = cluster.repo.read(Kind::Blocks, &name)? else { return Ok(None) };
    let meaning = || cluster.repo.damaged(&name, Damage::Meaning("it is no index of a bundle".into()));
    BundleIndex::from_bytes(&bytes).ok_or_else(meaning).map(Some)
}

/// The spool while it is written.
struct Spool {
    out: BufWriter<File>,
    blocks: u64,
}

impl Spool {
    fn new() -> Result<Self> {
        Ok(Self { out: BufWriter::new(tempfile::tempfile().map_err(spooling)?), blocks: 0 })
    }

    /// Adds an index's hashes; `each` is told where each chunk's begin.
    fn add(&mut self, index: &BundleIndex, hashes: &[BlockHash], mut each: impl FnMut(u32, u64)) -> Result<()> {
        let mut at = self.blocks;
        for (number, chunk) in (0..).zip(&index.chunks) {
            each(number, at);
            at += u64::from(chunk.raw_len).div_ceil(BLOCK as u64);
        }
        self.blocks += hashes.len() as u64;
        self.out.write_all(hashes.as_flattened()).map_err(spooling)
    }

    fn finish(self) -> Result<File> {
        self.out.into_inner().map_err(|error| spooling(error.into_error()))
    }
}

fn spooling(error: std::io::Error) -> BackupError {
    BackupError::file("cannot keep block hashes in", Path::new(&std::env::temp_dir()))(error)
}
