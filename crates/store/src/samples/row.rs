//! Fresh rows: all values of one cycle, and the layouts that say whose they are.

use super::bytes::{Cursor, put, seal, unseal};
use super::{Damage, SeriesId};

/// No row has more values than this.
pub(super) const MAX_VALUES: usize = 1 << 24;

/// Ascending series ids as bytes: the distances, compressed.
pub(super) fn ids_to_bytes(ids: &[SeriesId], belongs_to: &[i64]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(ids.len() + 4);
    put(&mut plain, ids.len() as u64);
    let mut before = 0;
    for &id in ids {
        put(&mut plain, u64::from(id - before));
        before = id;
    }
    Ok(seal(zstd::bulk::compress(&plain, 3)?, belongs_to))
}

/// What [`ids_to_bytes`] was given.
pub(super) fn ids_from_bytes(data: &[u8], belongs_to: &[i64]) -> Result<Vec<SeriesId>, Damage> {
    let plain = decompress(unseal(data, belongs_to)?, MAX_VALUES * 5)?;
    let mut cursor = Cursor(&plain);
    let count = cursor.take_count(MAX_VALUES)?;
    let mut ids = Vec::with_capacity(count);
    let mut before = 0u64;
    for _ in 0..count {
        before = before.saturating_add(cursor.take()?);
        ids.push(SeriesId::try_from(before).map_err(|_| Damage("a series id is too high"))?);
    }
    Ok(ids)
}

/// Values as bytes: first the lowest byte of each, then the next, because the bytes of one place resemble each other;
/// compressed.
pub(super) fn values_to_bytes(values: &[f64], belongs_to: &[i64]) -> std::io::Result<Vec<u8>> {
    let count = values.len();
    let mut planes = vec![0; count * 8];
    for (at, value) in values.iter().enumerate() {
        for (plane, byte) in value.to_bits().to_le_bytes().into_iter().enumerate() {
            planes[plane * count + at] = byte;
        }
    }
    Ok(seal(zstd::bulk::compress(&planes, 1)?, belongs_to))
}

/// The bytes of a row, unpacked; a value is read with [`Values::get`], so that a reader of few series pays for few.
#[derive(Debug)]
pub(super) struct Values {
    planes: Vec<u8>,
    count: usize,
}

impl Values {
    /// Unpacks what [`values_to_bytes`] made of so many values.
    pub(super) fn from_bytes(data: &[u8], count: usize, belongs_to: &[i64]) -> Result<Self, Damage> {
        let planes = decompress(unseal(data, belongs_to)?, count.min(MAX_VALUES) * 8)?;
        if planes.len() == count * 8 { Ok(Self { planes, count }) } else { Err(Damage("it has another length")) }
    }

    /// The value at a place that the layout has.
    pub(super) fn get(&self, at: usize) -> f64 {
        let mut bytes = [0; 8];
        for (plane, byte) in bytes.iter_mut().enumerate() {
            *byte = self.planes[plane * self.count + at];
        }
        f64::from_bits(u64::from_le_bytes(bytes))
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<f64> {
        (0..self.count).map(|at| self.get(at)).collect()
    }
}

/// Decompresses to at most so many bytes.
pub(super) fn decompress(data: &[u8], most: usize) -> Result<Vec<u8>, Damage> {
    // The frame says how long its content is; a wrong length must not reserve memory.
    let length = zstd::bulk::Decompressor::upper_bound(data).unwrap_or(most).min(most);
    zstd::bulk::decompress(data, length).map_err(|_| Damage("it does not decompress"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_values_read_back_bit_by_bit(bits: Vec<u64>) {
            let values: Vec<f64> = bits.iter().map(|bits| f64::from_bits(*bits)).collect();
            let data = values_to_bytes(&values, &[1, 2]).unwrap();
            let back = Values::from_bytes(&data, values.len(), &[1, 2]).unwrap();
            prop_assert_eq!(back.all().iter().map(|value| value.to_bits()).collect::<Vec<_>>(), bits);
            prop_assert!(Values::from_bytes(&data, values.len() + 1, &[1, 2]).is_err());
        }

        #[test]
        fn any_ids_read_back(ids: std::collections::BTreeSet<u32>) {
            let ids: Vec<u32> = ids.into_iter().collect();
            let data = ids_to_bytes(&ids, &[]).unwrap();
            prop_assert_eq!(ids_from_bytes(&data, &[]).unwrap(), ids);
        }
    }
}
