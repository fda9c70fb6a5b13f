//! How a chunk is compressed.

use super::container::Damage;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use zstd::zstd_safe::CParameter;

/// A method of compression, and how hard it tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    None,
    Lz4,
    /// With zstd's level, 1 to 19.
    Zstd(u8),
}

impl Codec {
    /// The number of the method in the format.
    pub fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Zstd(_) => 1,
            Self::Lz4 => 2,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Lz4 => f.write_str("lz4"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

impl FromStr for Codec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':').unwrap_or((text, "3")) {
            ("none", _) if text == "none" => Ok(Self::None),
            ("lz4", _) if text == "lz4" => Ok(Self::Lz4),
            ("zstd", level) => match level.parse() {
                Ok(level @ 1..=19) => Ok(Self::Zstd(level)),
                _ => Err(format!("zstd has levels 1 to 19, not {level}")),
            },
            _ => Err(format!("{text} is no method of compression; there are none, lz4, zstd and zstd:LEVEL")),
        }
    }
}

impl Serialize for Codec {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Codec {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The levels of zstd that look matches up in two hash tables ("double fast"), and the sizes of these, as powers of
/// two. Together they are 192 KiB, which stays in a processor's second-level cache; the 768 KiB that the levels have
/// for chunks of this size do not, and pages of tables get no smaller by them.
const DOUBLE_FAST: [u8; 2] = [3, 4];
const HASH_LOG: u32 = 15;
const CHAIN_LOG: u32 = 14;

/// A compressed chunk, ready to be written into an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The number of the method that was used; 0 where compressing did not pay.
    pub codec: u8,
    pub raw_len: u32,
    pub bytes: Vec<u8>,
}

/// Compresses chunks. One for each thread: it keeps the working memory of its method.
pub struct Packer {
    codec: Codec,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Packer {
    /// A packer for this method.
    pub fn new(codec: Codec) -> Self {
        let zstd = match codec {
            // Fails only when there is no memory for it; then nothing is compressed.
            Codec::Zstd(level) => zstd::bulk::Compressor::new(i32::from(level)).ok().map(|mut compressor| {
                if DOUBLE_FAST.contains(&level) {
                    // Where they are refused the level's own hold, which are only slower.
                    let _ = compressor.set_parameter(CParameter::HashLog(HASH_LOG));
                    let _ = compressor.set_parameter(CParameter::ChainLog(CHAIN_LOG));
                }
                compressor
            }),
            _ => None,
        };
        Self { codec, zstd }
    }

    /// Compresses a chunk; one that does not get smaller stays as it is. `raw` has less than 4 GiB.
    pub fn pack(&mut self, raw: &[u8]) -> Packed {
        let raw_len = u32::try_from(raw.len()).unwrap_or(u32::MAX);
        let smaller = match (self.codec, &mut self.zstd) {
            (Codec::Zstd(_), Some(compressor)) => compressor.compress(raw).ok(),
            (Codec::Lz4, _) => Some(lz4_flex::block::compress(raw)),
            _ => None,
        };
        match smaller.filter(|bytes| bytes.len() < raw.len()) {
            Some(bytes) => Packed { codec: self.codec.number(), raw_len, bytes },
            None => Packed { codec: 0, raw_len, bytes: raw.to_vec() },
        }
    }
}

/// Gives a chunk back as it was before it was compressed.
///
/// # Errors
/// When it is not what its header says.
pub fn unpack(codec: u8, bytes: &[u8], raw_len: usize) -> Result<Vec<u8>, Damage> {
    let raw = match codec {
        0 => bytes.to_vec(),
        1 => zstd::bulk::decompress(bytes, raw_len).map_err(|_| Damage::Content)?,
        2 => lz4_flex::block::decompress(bytes, raw_len).map_err(|_| Damage::Content)?,
        _ => return Err(Damage::Header),
    };
    if raw.len() == raw_len { Ok(raw) } else { Err(Damage::Content) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_packed_comes_back(raw: Vec<u8>, repeats in 1usize..20) {
            let raw = raw.repeat(repeats);
            for codec in [Codec::None, Codec::Lz4, Codec::Zstd(1), Codec::Zstd(3)] {
                let packed = Packer::new(codec).pack(&raw);
                prop_assert_eq!(unpack(packed.codec, &packed.bytes, raw.len()).unwrap(), raw.clone());
            }
        }
    }

    #[test]
    fn methods_have_names() {
        for codec in [Codec::None, Codec::Lz4, Codec::Zstd(7)] {
            assert_eq!(codec.to_string().parse(), Ok(codec));
        }
        assert_eq!("zstd".parse(), Ok(Codec::Zstd(3)));
        for bad in ["gzip", "zstd:0", "zstd:20", "lz4:1", ""] {
            assert!(bad.parse::<Codec>().is_err(), "{bad}");
        }
    }
}
