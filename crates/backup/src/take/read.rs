//! Reads a file block by block while the server writes to it, and verifies page checksums on the way.

use crate::{
    block::{BLOCK, PageState, page_state},
    error::{BackupError, Result},
};
use std::{fs::File, io::ErrorKind, os::unix::fs::FileExt, path::Path, thread, time::Duration};

/// Bytes that are read at once.
const AT_ONCE: usize = 1 << 20;
/// How often a page that does not fit its checksum is read again, and the pause before.
const AGAIN: u32 = 6;
const PAUSE: Duration = Duration::from_millis(50);

/// What was read of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadFile {
    /// Bytes: at most what the file had when it was found, less when it was truncated since.
    pub size: u64,
    pub crc32c: u32,
    /// Pages that do not fit their checksums and did not change while they were looked at.
    pub bad_pages: Vec<u64>,
}

/// Reads at most `size` bytes and hands out every block; `None` when the file is no longer there. `first_page` is that
/// of [`super::scan::first_page`] where pages are to be verified.
///
/// # Errors
/// When the file cannot be read, or `each` fails.
pub fn read_file(
    path: &Path,
    size: u64,
    first_page: Option<u32>,
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(u32, &[u8]) -> Result<()>,
) -> Result<Option<ReadFile>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(BackupError::file("cannot read", path))?,
    };
    buffer.resize(AT_ONCE, 0);
    let mut seen = ReadFile { size: 0, crc32c: 0, bad_pages: Vec::new() };
    while seen.size < size {
        let wanted = usize::try_from(size - seen.size).unwrap_or(AT_ONCE).min(AT_ONCE);
        let got = read_at(&file, &mut buffer[..wanted], seen.size).map_err(BackupError::file("cannot read", path))?;
        if let Some(first_page) = first_page {
            let first_block = seen.size / BLOCK as u64;
            for (number, page) in buffer[..got].chunks_exact_mut(BLOCK).enumerate() {
                let block = first_block + number as u64;
                let in_relation = first_page + u32::try_from(block).unwrap_or(u32::MAX);
                if page_state(page, in_relation) == PageState::Torn
                    && !settles(&file, page, block, in_relation).map_err(BackupError::file("cannot read", path))?
                {
                    seen.bad_pages.push(block);
                }
            }
        }
        seen.crc32c = crc32c::crc32c_append(seen.crc32c, &buffer[..got]);
        let first_block = u32::try_from(seen.size / BLOCK as u64).unwrap_or(u32::MAX);
        for (number, block) in (first_block..).zip(buffer[..got].chunks(BLOCK)) {
            each(number, block)?;
        }
        seen.size += got as u64;
        if got < wanted {
            break;
        }
    }
    Ok(Some(seen))
}

/// A page that does not fit was perhaps read while it was being written: it is read again. True when it fits then, or
/// changed meanwhile: whoever writes it has put its image into WAL since the backup began. Its LSN is not asked, for a
/// damaged page may claim any.
fn settles(file: &File, page: &mut [u8], block: u64, in_relation: u32) -> std::io::Result<bool> {
    let first = page.to_vec();
    for _ in 0..AGAIN {
        thread::sleep(PAUSE);
        let mut again = [0; BLOCK];
        // Truncated meanwhile: what was read stands for a page that recovery takes away again.
        if read_at(file, &mut again, block * BLOCK as u64)? < BLOCK {
            return Ok(true);
        }
        page.copy_from_slice(&again);
        if page_state(page, in_relation) == PageState::Good {
            return Ok(true);
        }
    }
    Ok(first != page)
}

/// Fills the buffer as far as the file goes.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::checksum;

    fn page(fill: u8, number: u32) -> Vec<u8> {
        let mut page = vec![fill; BLOCK];
        let sum = checksum(&page, number);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        page
    }

    #[test]
    fn a_damaged_page_is_told_from_a_good_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("16384");
        let mut bytes = [page(1, 0), page(2, 1), vec![0; BLOCK], page(3, 3)].concat();
        std::fs::write(&path, &bytes).unwrap();
        let mut blocks = Vec::new();
        let mut read = |size| {
            blocks.clear();
            read_file(&path, size, Some(0), &mut Vec::new(), |number, block| {
                blocks.push((number, block.len()));
                Ok(())
            })
        };
        let good = read(1 << 20).unwrap().unwrap();
        assert_eq!((good.size, good.bad_pages), (4 * 8192, vec![]));
        assert_eq!(good.crc32c, crc32c::crc32c(&bytes));
        bytes[8192 + 4000] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(1 << 20).unwrap().unwrap().bad_pages, [1]);
        assert_eq!(read(10_000).unwrap().unwrap().size, 10_000);
        assert_eq!(blocks, [(0, 8192), (1, 1808)]);
        assert_eq!(read_file(&dir.path().join("gone"), 1, None, &mut Vec::new(), |_, _| Ok(())).unwrap(), None);
    }
}
