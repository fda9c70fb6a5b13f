//! Numbers as bytes: variable-length integers, ascending lists, and a checksum.

use super::Damage;

/// Appends an unsigned number, seven bits a byte, lowest first (LEB128).
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number: small ones of either sign become few bytes.
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Reads what [`put`] wrote.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    /// An unsigned number.
    pub(super) fn take(&mut self) -> Result<u64, Damage> {
        let mut value = 0u64;
        for (at, &byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Ok(value);
            }
        }
        Err(Damage("a number does not end"))
    }

    /// A signed number.
    pub(super) fn take_signed(&mut self) -> Result<i64, Damage> {
        let value = self.take()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// An unsigned number that counts something of which there may be this many.
    pub(super) fn take_count(&mut self, most: usize) -> Result<usize, Damage> {
        usize::try_from(self.take()?).ok().filter(|count| *count <= most).ok_or(Damage("a count is too high"))
    }

    /// So many bytes.
    pub(super) fn take_bytes(&mut self, count: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Damage("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }
}

/// Appends the checksum of what is there already and of what it belongs to, so that bytes under a wrong key are
/// noticed as well as changed ones.
pub(super) fn seal(mut data: Vec<u8>, belongs_to: &[i64]) -> Vec<u8> {
    let sum = checksum(&data, belongs_to);
    data.extend_from_slice(&sum.to_le_bytes());
    data
}

/// The bytes that [`seal`] was given, when they are still the same and belong to the same.
pub(super) fn unseal<'a>(data: &'a [u8], belongs_to: &[i64]) -> Result<&'a [u8], Damage> {
    let (body, sum) = data.split_last_chunk::<4>().ok_or(Damage("it is too short"))?;
    if u32::from_le_bytes(*sum) == checksum(body, belongs_to) { Ok(body) } else { Err(Damage("its checksum is wrong")) }
}

/// CRC-32C over the bytes and the numbers that they belong to.
pub(super) fn checksum(data: &[u8], belongs_to: &[i64]) -> u32 {
    let mut sum = update(!0, data);
    for number in belongs_to {
        sum = update(sum, &number.to_le_bytes());
    }
    !sum
}

fn update(mut sum: u32, data: &[u8]) -> u32 {
    let (eights, rest) = data.as_chunks::<8>();
    for eight in eights {
        let low = sum ^ u32::from_le_bytes([eight[0], eight[1], eight[2], eight[3]]);
        let at = |table: usize, byte: u32| TABLES[table][(byte & 0xff) as usize];
        sum = at(7, low)
            ^ at(6, low >> 8)
            ^ at(5, low >> 16)
            ^ at(4, low >> 24)
            ^ at(3, u32::from(eight[4]))
            ^ at(2, u32::from(eight[5]))
            ^ at(1, u32::from(eight[6]))
            ^ at(0, u32::from(eight[7]));
    }
    for &byte in rest {
        sum = (sum >> 8) ^ TABLES[0][((sum ^ u32::from(byte)) & 0xff) as usize];
    }
    sum
}

/// Eight bytes at a time ("slicing by eight"), polynomial of Castagnoli, reflected (RFC 3720, appendix B.4).
const TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
            bit += 1;
        }
        tables[0][byte] = sum;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_checksum_is_crc_32c() {
        // RFC 3720, B.4: 32 bytes of zeros, of ones, and ascending.
        assert_eq!(checksum(&[0; 32], &[]), 0x8a91_36aa);
        assert_eq!(checksum(&[0xff; 32], &[]), 0x62a8_ab43);
        assert_eq!(checksum(&(0..32).collect::<Vec<u8>>(), &[]), 0x46dd_794e);
        assert_eq!(checksum(b"123456789", &[]), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn numbers_read_back(unsigned: u64, signed: i64) {
            let mut out = Vec::new();
            put(&mut out, unsigned);
            put_signed(&mut out, signed);
            let mut cursor = Cursor(&out);
            prop_assert_eq!(cursor.take().unwrap(), unsigned);
            prop_assert_eq!(cursor.take_signed().unwrap(), signed);
            prop_assert!(cursor.0.is_empty() && cursor.take().is_err());
        }

        #[test]
        fn a_changed_byte_or_another_owner_is_noticed(data: Vec<u8>, at: proptest::sample::Index, flip in 1u8..) {
            let mut sealed = seal(data.clone(), &[7, 9]);
            prop_assert_eq!(unseal(&sealed, &[7, 9]).unwrap(), &data[..]);
            prop_assert!(unseal(&sealed, &[7, 8]).is_err());
            let at = at.index(sealed.len());
            sealed[at] ^= flip;
            prop_assert!(unseal(&sealed, &[7, 9]).is_err());
        }
    }
}
