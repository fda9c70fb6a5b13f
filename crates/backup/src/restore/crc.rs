//! CRC-32C of a text from those of its parts, so that a file need not be read again once its parts were written.

/// The polynomial of CRC-32C, its bits in reverse.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// Joins the checksums of parts.
#[derive(Debug)]
pub struct Joiner {
    /// What appending 2^n bytes does to a checksum, as a factor.
    factors: [u32; 40],
}

impl Joiner {
    /// Works the factors out.
    pub fn new() -> Self {
        // x^8, for one byte; each next one is the square of the one before.
        let mut factors = [0x0080_0000; 40];
        for at in 1..factors.len() {
            factors[at] = times(factors[at - 1], factors[at - 1]);
        }
        Self { factors }
    }

    /// The checksum of what has checksum `first`, followed by `bytes` bytes that have checksum `second`.
    pub fn join(&self, first: u32, second: u32, bytes: u64) -> u32 {
        let mut shifted = first;
        for (power, factor) in self.factors.iter().enumerate() {
            if bytes >> power & 1 == 1 {
                shifted = times(shifted, *factor);
            }
        }
        shifted ^ second
    }
}

/// The product of two polynomials over GF(2) modulo the polynomial; the highest power is the lowest bit.
fn times(one: u32, other: u32) -> u32 {
    let (mut product, mut other) = (0, other);
    for bit in (0..32).rev() {
        if one >> bit & 1 == 1 {
            product ^= other;
        }
        other = other >> 1 ^ if other & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_give_the_checksum_of_the_whole(one: Vec<u8>, other: Vec<u8>, zeros in 0usize..100_000) {
            let other = [other, vec![0; zeros]].concat();
            let whole = crc32c::crc32c(&[one.clone(), other.clone()].concat());
            let joined = Joiner::new().join(crc32c::crc32c(&one), crc32c::crc32c(&other), other.len() as u64);
            prop_assert_eq!(joined, whole);
        }
    }
}
