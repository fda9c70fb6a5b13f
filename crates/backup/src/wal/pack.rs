//! A segment becomes an object: its chunks are read, hashed and compressed by several threads.

use crate::{
    block::hash_of,
    repo::{
        Repo,
        codec::{Codec, Packed, Packer},
        container::{Hash, Kind, ObjectWriter},
    },
};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Bytes of a chunk of WAL: small enough that a segment of the usual size keeps several threads busy.
const CHUNK: usize = 2 << 20;

/// What is to be archived: bytes that can be read anywhere, by several threads.
pub trait Content: Sync {
    /// How many bytes.
    fn size(&self) -> u64;

    /// Reads exactly as many bytes as `into` has.
    ///
    /// # Errors
    /// When they cannot be read.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()>;
}

impl Content for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let part = usize::try_from(at).ok().and_then(|at| self.get(at..)?.get(..into.len()));
        into.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A file, with the size that it had when it was opened.
#[derive(Debug)]
pub struct FileContent {
    pub file: File,
    pub size: u64,
}

impl Content for FileContent {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(into, at)
    }
}

/// Packs the content into the object of this name.
///
/// # Errors
/// When the content cannot be read.
pub fn sealed(repo: &Repo, name: &str, codec: Codec, content: &dyn Content, threads: usize) -> io::Result<Vec<u8>> {
    let chunks = usize::try_from(content.size().div_ceil(CHUNK as u64)).unwrap_or(usize::MAX);
    let mut object = ObjectWriter::new(Kind::Wal, name, repo.keys().current());
    if threads <= 1 || chunks <= 1 {
        let (mut packer, mut raw) = (Packer::new(codec), Vec::new());
        for index in 0..chunks {
            let (packed, hash) = pack_chunk(content, index, &mut packer, &mut raw)?;
            object.add_packed(packed, &hash);
        }
    } else {
        for (packed, hash) in pack_together(content, chunks, codec, threads)? {
            object.add_packed(packed, &hash);
        }
    }
    Ok(object.finish())
}

/// A chunk that was compressed, and the hash of its content before.
type PackedChunk = io::Result<(Packed, Hash)>;

fn pack_chunk(
    content: &dyn Content,
    index: usize,
    packer: &mut Packer,
    raw: &mut Vec<u8>,
) -> io::Result<(Packed, Hash)> {
    let at = (index * CHUNK) as u64;
    raw.resize(usize::try_from(content.size() - at).unwrap_or(CHUNK).min(CHUNK), 0);
    content.read_at(raw, at)?;
    Ok((packer.pack(raw), hash_of(raw)))
}

fn pack_together(
    content: &dyn Content,
    chunks: usize,
    codec: Codec,
    threads: usize,
) -> io::Result<Vec<(Packed, Hash)>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, PackedChunk)>> = Mutex::default();
    let work = || {
        let (mut packer, mut raw) = (Packer::new(codec), Vec::new());
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= chunks {
                return;
            }
            let packed = pack_chunk(content, index, &mut packer, &mut raw);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((index, packed));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(chunks) {
            scope.spawn(work);
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, packed)| packed).collect()
}
