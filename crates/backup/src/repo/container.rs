//! The form that every object of a repository has: a header, chunks, and an end. Specified in
//! docs/format/repository.md.
//!
//! A chunk can be read alone, given the object's header and where the chunk is. Each is bound to its object's name and
//! to its number by the hash over all headers and contents in the end chunk, and with encryption by its tag.

use super::{
    codec::{Packed, Packer, unpack},
    keys::{DataKey, KeyId, KeyRing},
};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
};

const MAGIC: [u8; 8] = *b"surus\0\x01\n";
/// Bytes of an object before its first chunk.
pub const OBJECT_HEADER: usize = 48;
/// Bytes of a chunk before its content.
pub const CHUNK_HEADER: usize = 52;
/// No chunk is larger than this before compression.
pub const MAX_CHUNK: usize = 16 << 20;
const TAG: usize = 16;
const LAST: u8 = 1;

/// BLAKE3 of a chunk's content, taken over the hashes of its blocks; see [`crate::block::hash_of`].
pub type Hash = [u8; 32];

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Bundle = 1,
    Wal = 2,
    Manifest = 3,
    Blocks = 4,
    Note = 5,
}

/// How an object differs from what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    #[error("it does not begin as an object of a surus repository does")]
    Header,
    #[error("it was written by a newer surus (format {0})")]
    Newer(u8),
    #[error("it ends too early")]
    Truncated,
    #[error("it goes on after its end")]
    Longer,
    #[error("a chunk's content is not what was written")]
    Content,
    #[error("it is encrypted with key {0}, which is not at hand")]
    Key(KeyId),
    #[error("it is not encrypted, though the repository is")]
    Plain,
    #[error("{0}")]
    Meaning(String),
}

/// Where a chunk is in its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkAt {
    /// Bytes from the object's beginning to the chunk's header.
    pub offset: u64,
    /// Bytes of header and content.
    pub stored_len: u32,
}

/// Puts an object together in memory.
pub struct ObjectWriter {
    name: String,
    body: Vec<u8>,
    key: Option<LessSafeKey>,
    chunks: u32,
    all: blake3::Hasher,
}

impl ObjectWriter {
    /// An object without chunks yet. `salt` is random and never used twice with a key.
    pub fn new(kind: Kind, name: &str, key: Option<&DataKey>) -> Self {
        let salt: [u8; 16] = random();
        let mut body = Vec::with_capacity(1 << 16);
        body.extend_from_slice(&MAGIC);
        body.extend_from_slice(&[kind as u8, u8::from(key.is_some()), 0, 0, 0, 0, 0, 0]);
        body.extend_from_slice(&key.map_or([0; 16], |key| key.id.0));
        body.extend_from_slice(&salt);
        let key = key.and_then(|key| object_key(key, &salt));
        let mut all = blake3::Hasher::new();
        all.update(&body);
        Self { name: name.to_owned(), body, key, chunks: 0, all }
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Has it no chunk yet?
    pub fn is_empty(&self) -> bool {
        self.chunks == 0
    }

    /// Compresses and adds a chunk of at most [`MAX_CHUNK`] bytes; its hash is taken here.
    pub fn add(&mut self, packer: &mut Packer, raw: &[u8]) -> ChunkAt {
        let hash = crate::block::hash_of(raw);
        self.add_packed(packer.pack(raw), &hash)
    }

    /// Adds a chunk that was compressed elsewhere; `hash` is of its content before.
    pub fn add_packed(&mut self, packed: Packed, hash: &Hash) -> ChunkAt {
        let at = self.write(packed, hash, 0);
        self.all.update(&self.body[at.offset as usize..][..CHUNK_HEADER]).update(hash);
        at
    }

    fn write(&mut self, packed: Packed, hash: &Hash, flags: u8) -> ChunkAt {
        let offset = self.body.len();
        let content_len = packed.bytes.len() + if self.key.is_some() { TAG } else { 0 };
        let mut header = [0u8; CHUNK_HEADER];
        header[0..4].copy_from_slice(&(content_len as u32).to_le_bytes());
        header[4..8].copy_from_slice(&packed.raw_len.to_le_bytes());
        header[8] = packed.codec;
        header[9] = flags;
        header[12..16].copy_from_slice(&self.chunks.to_le_bytes());
        if self.key.is_none() {
            header[16..48].copy_from_slice(hash);
            // Compressed forms have bits without meaning; a flipped one is damage all the same.
            header[48..52].copy_from_slice(&crc32c::crc32c(&packed.bytes).to_le_bytes());
        }
        self.body.extend_from_slice(&header);
        if let Some(key) = &self.key {
            let aad = associated(&self.body[..OBJECT_HEADER], &self.name, &header);
            let mut content = packed.bytes;
            // Fails only beyond 64 GiB; a chunk that could not be sealed is left short, and no reader takes it.
            if key.seal_in_place_append_tag(nonce(self.chunks), Aad::from(aad), &mut content).is_ok() {
                self.body.extend_from_slice(&content);
            }
        } else {
            self.body.extend_from_slice(&packed.bytes);
        }
        self.chunks += 1;
        ChunkAt { offset: offset as u64, stored_len: (self.body.len() - offset) as u32 }
    }

    /// Ends the object and gives its bytes.
    pub fn finish(mut self) -> Vec<u8> {
        let all: Hash = self.all.finalize().into();
        // Sealed, the hash is the end's content: a header would show which objects are equal.
        let bytes = if self.key.is_some() { all.to_vec() } else { Vec::new() };
        let raw_len = bytes.len() as u32;
        self.write(Packed { codec: 0, raw_len, bytes }, &all, LAST);
        self.body
    }
}

/// Reads chunks of one object, whose header it was given.
pub struct ObjectReader {
    name: String,
    header: [u8; OBJECT_HEADER],
    key: Option<LessSafeKey>,
}

/// A chunk as it was before it was written.
struct Opened {
    raw: Vec<u8>,
    /// Of the content; of all chunks in the last one.
    hash: Hash,
    last: bool,
    stored_len: usize,
}

impl ObjectReader {
    /// From the first [`OBJECT_HEADER`] bytes of the object.
    ///
    /// # Errors
    /// When it is no object of this kind, or its key is not at hand.
    pub fn new(kind: Kind, name: &str, start: &[u8], keys: &KeyRing) -> Result<Self, Damage> {
        let header: [u8; OBJECT_HEADER] =
            start.get(..OBJECT_HEADER).and_then(|bytes| bytes.try_into().ok()).ok_or(Damage::Truncated)?;
        if header[..6] != MAGIC[..6] || header[7] != MAGIC[7] {
            return Err(Damage::Header);
        }
        if header[6] != MAGIC[6] {
            return Err(Damage::Newer(header[6]));
        }
        if header[8] != kind as u8 || header[9] > 1 || header[10..16] != [0; 6] {
            return Err(Damage::Header);
        }
        let salt: [u8; 16] = array(&header[32..48]);
        let key = if header[9] == 1 {
            let id = KeyId(array(&header[16..32]));
            let key = keys.find(id).ok_or(Damage::Key(id))?;
            Some(object_key(key, &salt).ok_or(Damage::Header)?)
        } else if keys.required() {
            // Else whoever can write into the place could put a forged object beside the sealed ones.
            return Err(Damage::Plain);
        } else if header[16..32] != [0; 16] {
            return Err(Damage::Header);
        } else {
            None
        };
        Ok(Self { name: name.to_owned(), header, key })
    }

    /// The content of chunk `index`, whose bytes begin `stored`; it may be followed by others.
    ///
    /// # Errors
    /// When it is not what was written.
    pub fn chunk(&self, index: u32, stored: &[u8]) -> Result<(Vec<u8>, Hash), Damage> {
        let opened = self.open(index, stored)?;
        if opened.last { Err(Damage::Content) } else { Ok((opened.raw, opened.hash)) }
    }

    fn open(&self, index: u32, stored: &[u8]) -> Result<Opened, Damage> {
        let header: [u8; CHUNK_HEADER] =
            stored.get(..CHUNK_HEADER).and_then(|bytes| bytes.try_into().ok()).ok_or(Damage::Truncated)?;
        let content_len = u32::from_le_bytes(array(&header[0..4])) as usize;
        let raw_len = u32::from_le_bytes(array(&header[4..8])) as usize;
        let last = header[9] == LAST;
        let reserved = header[10..12] == [0; 2] && (self.key.is_none() || header[16..] == [0; 36]);
        if raw_len > MAX_CHUNK || header[9] > LAST || !reserved || u32::from_le_bytes(array(&header[12..16])) != index {
            return Err(Damage::Content);
        }
        let content = stored.get(CHUNK_HEADER..CHUNK_HEADER + content_len).ok_or(Damage::Truncated)?;
        let stored_len = CHUNK_HEADER + content_len;
        let raw = match &self.key {
            None if crc32c::crc32c(content).to_le_bytes() != header[48..52] => return Err(Damage::Content),
            None => unpack(header[8], content, raw_len)?,
            Some(key) => {
                let aad = associated(&self.header, &self.name, &header);
                let mut sealed = content.to_vec();
                let plain = key.open_in_place(nonce(index), Aad::from(aad), &mut sealed);
                unpack(header[8], plain.map_err(|_| Damage::Content)?, raw_len)?
            }
        };
        if last {
            let hash = if self.key.is_some() { raw.as_slice() } else { &header[16..48] };
            let hash = hash.try_into().map_err(|_| Damage::Content)?;
            return Ok(Opened { raw: Vec::new(), hash, last, stored_len });
        }
        let hash = crate::block::hash_of(&raw);
        if self.key.is_none() && header[16..48] != hash {
            return Err(Damage::Content);
        }
        Ok(Opened { raw, hash, last, stored_len })
    }
}

/// Reads a whole object, chunk after chunk, and verifies all of it.
///
/// # Errors
/// When any byte of it is not what was written.
pub fn read_object(
    kind: Kind,
    name: &str,
    body: &[u8],
    keys: &KeyRing,
    mut each: impl FnMut(u32, Vec<u8>, &Hash) -> Result<(), Damage>,
) -> Result<(), Damage> {
    let reader = ObjectReader::new(kind, name, body, keys)?;
    let mut at = OBJECT_HEADER;
    let mut all = blake3::Hasher::new();
    all.update(&reader.header);
    for index in 0.. {
        let opened = reader.open(index, body.get(at..).ok_or(Damage::Truncated)?)?;
        let header = body.get(at..at + CHUNK_HEADER).ok_or(Damage::Truncated)?;
        at += opened.stored_len;
        if opened.last {
            let same = opened.hash == *all.finalize().as_bytes();
            return match (same, at == body.len()) {
                (false, _) => Err(Damage::Content),
                (true, false) => Err(Damage::Longer),
                (true, true) => Ok(()),
            };
        }
        all.update(header).update(&opened.hash);
        each(index, opened.raw, &opened.hash)?;
    }
    Err(Damage::Content)
}

/// The key of one object: no two objects share one, so that a nonce can be the chunk's number.
fn object_key(key: &DataKey, salt: &[u8; 16]) -> Option<LessSafeKey> {
    let derived = Salt::new(HKDF_SHA256, salt).extract(key.secret());
    let bytes = derived.expand(&[b"surus object 1"], &AES_256_GCM).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(bytes)))
}

fn nonce(index: u32) -> Nonce {
    let mut bytes = [0; 12];
    bytes[8..].copy_from_slice(&index.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// What a sealed chunk is bound to: its object's header and name, and its own header with number and end mark.
fn associated(object: &[u8], name: &str, chunk: &[u8; CHUNK_HEADER]) -> Vec<u8> {
    [object, chunk.as_slice(), name.as_bytes()].concat()
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // From the kernel itself: aws-lc's generator works for 30 ms before its first byte, as long as a segment takes.
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if got != Ok(N) {
        // It ends the process when the system has no randomness; there is no error to pass on.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::codec::Codec;

    fn write(key: Option<&DataKey>, chunks: &[&[u8]]) -> Vec<u8> {
        let mut packer = Packer::new(Codec::Zstd(3));
        let mut object = ObjectWriter::new(Kind::Bundle, "1/data/x/b1", key);
        for chunk in chunks {
            object.add(&mut packer, chunk);
        }
        object.finish()
    }

    fn read(name: &str, body: &[u8], keys: &KeyRing) -> Result<Vec<Vec<u8>>, Damage> {
        let mut chunks = Vec::new();
        read_object(Kind::Bundle, name, body, keys, |_, raw, _| {
            chunks.push(raw);
            Ok(())
        })?;
        Ok(chunks)
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_is_seen() {
        let key = DataKey::random();
        for (key, keys) in [(None, KeyRing::open()), (Some(&key), KeyRing::of(key.clone()))] {
            let body = write(key, &[&[7; 9000], b"abc"]);
            let chunks = read("1/data/x/b1", &body, &keys).unwrap();
            assert_eq!(chunks, [vec![7; 9000], b"abc".to_vec()]);
            for at in 0..body.len() {
                let mut bad = body.clone();
                bad[at] ^= 0x10;
                assert!(read("1/data/x/b1", &bad, &keys).is_err(), "byte {at}");
            }
            for length in 0..body.len() {
                assert!(read("1/data/x/b1", &body[..length], &keys).is_err(), "cut to {length}");
            }
            assert_eq!(read("1/data/x/b1", &[&body[..], &[0]].concat(), &keys), Err(Damage::Longer));
        }
    }

    #[test]
    fn a_sealed_object_is_bound_to_its_name_and_key() {
        let key = DataKey::random();
        let body = write(Some(&key), &[b"secret"]);
        assert!(!body.windows(6).any(|window| window == b"secret"));
        assert_eq!(read("1/data/y/b1", &body, &KeyRing::of(key.clone())), Err(Damage::Content));
        assert_eq!(read("1/data/x/b1", &body, &KeyRing::open()), Err(Damage::Key(key.id)));
        let plain = write(None, &[b"forged"]);
        assert_eq!(read("1/data/x/b1", &plain, &KeyRing::of(key)), Err(Damage::Plain));
    }
}
