//! Blocks become chunks, chunks become bundles, bundles go to the repository. One [`Bundler`] for each reading thread.

use crate::{
    block::{BLOCK, BlockHash},
    error::{BackupError, Result},
    manifest::{ChunkEntry, Run},
    repo::{
        Cluster,
        codec::{Codec, Packer},
        container::{Kind, ObjectWriter},
        place::Created,
    },
};
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        atomic::{AtomicU32, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};
use surus_core::code;

/// Bytes of a chunk before compression, at most.
pub const CHUNK: usize = 1 << 20;
/// A bundle is sent when it holds this many bytes: small enough to be kept until it is acknowledged.
pub const BUNDLE: usize = 32 << 20;

/// What stands beside a bundle: its chunks, whose blocks they are, and the blocks' hashes. An incremental backup
/// compares with it, and a backup that was broken off is taken up from it.
#[derive(Debug, Serialize, Deserialize)]
pub struct BundleIndex {
    pub bundle: u32,
    pub chunks: Vec<IndexChunk>,
    pub runs: Vec<IndexRun>,
}

/// A chunk in a bundle's index.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IndexChunk {
    pub offset: u64,
    pub stored_len: u32,
    pub raw_len: u32,
    pub hash: [u8; 32],
}

/// Blocks of a file in a bundle's index; `chunk` counts within the bundle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IndexRun {
    pub path: String,
    pub run: Run,
}

impl BundleIndex {
    /// As it is stored: a line of JSON, then 16 bytes for each block in order of the chunks.
    fn to_bytes(&self, hashes: &[BlockHash]) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes.extend_from_slice(hashes.as_flattened());
        bytes
    }

    /// Reads it back: the index and the hashes of all blocks in order.
    pub fn from_bytes(bytes: &[u8]) -> Option<(Self, Vec<BlockHash>)> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let index: Self = serde_json::from_slice(&bytes[..end]).ok()?;
        let (hashes, rest) = bytes[end + 1..].as_chunks::<16>();
        let blocks: usize = index.chunks.iter().map(|chunk| (chunk.raw_len as usize).div_ceil(BLOCK)).sum();
        (rest.is_empty() && hashes.len() == blocks).then(|| (index, hashes.to_vec()))
    }
}

/// What all bundlers of a backup share.
#[derive(Debug)]
pub struct Bundles {
    pub cluster: Cluster,
    pub label: String,
    pub codec: Codec,
    /// The number of the next bundle.
    pub next: AtomicU32,
    /// Bytes in the repository so far.
    pub stored: AtomicU64,
}

/// Collects blocks into chunks and bundles.
pub struct Bundler<'a> {
    shared: &'a Bundles,
    packer: Packer,
    /// The chunk that is being filled: whole blocks.
    chunk: Vec<u8>,
    chunk_hash: blake3::Hasher,
    /// The bundle that is being filled.
    object: Option<(u32, ObjectWriter)>,
    index: BundleIndex,
    hashes: Vec<BlockHash>,
    /// Chunks of all bundles of this thread; runs count in it.
    chunks: Vec<ChunkEntry>,
    /// The file whose blocks come in.
    path: String,
    runs: Vec<Run>,
    sender: Option<SyncSender<Sealed>>,
    writer: Option<JoinHandle<Result<()>>>,
    /// Bytes of blocks taken in.
    pub own: u64,
}

/// A bundle and its index on their way.
struct Sealed {
    number: u32,
    body: Vec<u8>,
    index: Vec<u8>,
}

impl<'a> Bundler<'a> {
    /// Begins; the thread that writes bundles is its own, so that reading goes on meanwhile.
    pub fn new(shared: &'a Bundles) -> Self {
        let (sender, receiver) = sync_channel(1);
        let (cluster, label) = (shared.cluster.clone(), shared.label.clone());
        let writer = thread::spawn(move || write_bundles(&cluster, &label, &receiver));
        Self {
            shared,
            packer: Packer::new(shared.codec),
            chunk: Vec::with_capacity(CHUNK),
            chunk_hash: blake3::Hasher::new(),
            object: None,
            index: BundleIndex { bundle: 0, chunks: Vec::new(), runs: Vec::new() },
            hashes: Vec::new(),
            chunks: Vec::new(),
            path: String::new(),
            runs: Vec::new(),
            sender: Some(sender),
            writer: Some(writer),
            own: 0,
        }
    }

    /// The blocks that follow are of this file.
    pub fn begin_file(&mut self, path: &str) {
        path.clone_into(&mut self.path);
        self.runs.clear();
    }

    /// Takes in a block of the file, at most [`BLOCK`] bytes; blocks come in order of their numbers.
    ///
    /// # Errors
    /// When a bundle could not be written.
    pub fn put(&mut self, number: u32, block: &[u8], hash: &blake3::Hash) -> Result<()> {
        let at = (self.chunk.len() / BLOCK) as u32;
        self.chunk.extend_from_slice(block);
        self.chunk_hash.update(hash.as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&hash.as_bytes()[..16]);
        self.hashes.push(short);
        self.own += block.len() as u64;
        let chunk = self.chunks.len() as u32;
        match self.runs.last_mut() {
            Some(run) if run.chunk == chunk && run.block + run.count == number && run.at + run.count == at => {
                run.count += 1;
            }
            _ => self.runs.push(Run { block: number, count: 1, chunk, at }),
        }
        let chunk = self.index.chunks.len() as u32;
        match self.index.runs.last_mut() {
            Some(IndexRun { path, run })
                if run.chunk == chunk && run.block + run.count == number && *path == self.path =>
            {
                run.count += 1;
            }
            _ => {
                let run = Run { block: number, count: 1, chunk, at };
                self.index.runs.push(IndexRun { path: self.path.clone(), run });
            }
        }
        // A short block ends its chunk: it cannot be followed by another at a block's border.
        if self.chunk.len() >= CHUNK || !block.len().is_multiple_of(BLOCK) { self.end_chunk() } else { Ok(()) }
    }

    /// The runs of the file's blocks that were taken in.
    pub fn end_file(&mut self) -> Vec<Run> {
        std::mem::take(&mut self.runs)
    }

    fn end_chunk(&mut self) -> Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let packed = self.packer.pack(&self.chunk);
        let raw_len = packed.raw_len;
        let hash: [u8; 32] = std::mem::take(&mut self.chunk_hash).finalize().into();
        if self.object.is_none() {
            let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
            let name = self.shared.cluster.names.bundle(&self.shared.label, number);
            let key = self.shared.cluster.repo.keys().current();
            self.index.bundle = number;
            self.object = Some((number, ObjectWriter::new(Kind::Bundle, &name, key)));
        }
        let Some((number, object)) = &mut self.object else { return Ok(()) };
        let index = self.index.chunks.len() as u32;
        let at = object.add_packed(packed, &hash);
        let (offset, stored_len) = (at.offset, at.stored_len);
        self.index.chunks.push(IndexChunk { offset, stored_len, raw_len, hash });
        self.chunks.push(ChunkEntry { bundle: *number, index, offset, stored_len, raw_len, hash });
        self.chunk.clear();
        if object.len() >= BUNDLE { self.end_bundle() } else { Ok(()) }
    }

    fn end_bundle(&mut self) -> Result<()> {
        let Some((number, object)) = self.object.take() else { return Ok(()) };
        let name = self.shared.cluster.names.bundle_index(&self.shared.label, number);
        let next = BundleIndex { bundle: 0, chunks: Vec::new(), runs: Vec::new() };
        let index = std::mem::replace(&mut self.index, next).to_bytes(&std::mem::take(&mut self.hashes));
        let index = self.shared.cluster.repo.sealed(Kind::Blocks, &name, Codec::Zstd(1), &index);
        let sealed = Sealed { number, body: object.finish(), index };
        let bytes = sealed.body.len() + sealed.index.len();
        self.shared.stored.fetch_add(bytes as u64, Ordering::Relaxed);
        let sent = self.sender.as_ref().is_some_and(|sender| sender.send(sealed).is_ok());
        // The writer hangs up only when it failed; why, it says at its end.
        if sent { Ok(()) } else { self.writer_result() }
    }

    fn writer_result(&mut self) -> Result<()> {
        drop(self.sender.take());
        match self.writer.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(BackupError::refused(code::BUG, "the thread that writes bundles ended")),
            None => Ok(()),
        }
    }

    /// Ends the last bundle and waits until all are durable; gives the chunks that the runs count in.
    ///
    /// # Errors
    /// When a bundle could not be written.
    pub fn finish(mut self) -> Result<(Vec<ChunkEntry>, u64)> {
        self.end_chunk()?;
        self.end_bundle()?;
        self.writer_result()?;
        Ok((std::mem::take(&mut self.chunks), self.own))
    }
}

fn write_bundles(cluster: &Cluster, label: &str, receiver: &Receiver<Sealed>) -> Result<()> {
    while let Ok(sealed) = receiver.recv() {
        create(cluster, &cluster.names.bundle(label, sealed.number), &sealed.body)?;
        create(cluster, &cluster.names.bundle_index(label, sealed.number), &sealed.index)?;
    }
    Ok(())
}

fn create(cluster: &Cluster, name: &str, body: &[u8]) -> Result<()> {
    match cluster.repo.place().create(name, body)? {
        Created::New => Ok(()),
        // A retry inside the place may have written it the first time; anybody else's would differ in its salt.
        Created::AlreadyThere if cluster.repo.place().read(name)?.as_deref() == Some(body) => Ok(()),
        Created::AlreadyThere => {
            let text = format!("{name} is in {} already; another backup runs under this label", cluster.repo.address());
            Err(BackupError::refused(code::BACKUP_BUSY, text))
        }
    }
}
