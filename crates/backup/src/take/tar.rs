//! Reads a tar archive as it comes, in pieces of any size.
//!
//! Source: POSIX, pax(1), "ustar Interchange Format" and "pax Header Block"; GNU tar's manual for long names and sizes
//! in base 256. PostgreSQL writes plain ustar with sizes in base 256 above 8 GiB.

use crate::error::{BackupError, Result};
use surus_core::code;

const RECORD: usize = 512;
/// The longest body of an entry that only describes the next one.
const LONGEST_META: u64 = 1 << 16;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    File,
    Directory,
    Link,
}

/// An entry's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: String,
    pub what: What,
    pub size: u64,
    pub mode: u32,
    /// Seconds since 1970.
    pub modified: i64,
}

/// What the archive brings.
#[derive(Debug, PartialEq, Eq)]
pub enum TarEvent<'a> {
    Begin(Entry),
    Data(&'a [u8]),
    /// The entry is whole.
    End,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Head,
    /// Bytes that are still to come, and of the padding after them.
    Body(u64, u64),
    /// As for a body, of an entry that describes the next one, with its type.
    Meta(u64, u64, u8),
    /// Zeros follow, or nothing.
    Over,
}

/// An archive while it comes.
#[derive(Debug)]
pub struct Tar {
    state: State,
    /// A head that has not come whole, or a body that describes the next entry.
    held: Vec<u8>,
    /// What was said of the next entry.
    path: Option<String>,
    size: Option<u64>,
}

impl Tar {
    /// Before its first byte.
    pub fn new() -> Self {
        Self { state: State::Head, held: Vec::new(), path: None, size: None }
    }

    /// Takes in the next piece.
    ///
    /// # Errors
    /// When it is no tar archive, or `each` fails.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(TarEvent<'_>) -> Result<()>) -> Result<()> {
        while !bytes.is_empty() {
            match self.state {
                State::Over => return Ok(()),
                State::Head => {
                    let (now, rest) = bytes.split_at(bytes.len().min(RECORD - self.held.len()));
                    self.held.extend_from_slice(now);
                    bytes = rest;
                    if self.held.len() == RECORD {
                        let head = std::mem::take(&mut self.held);
                        self.head(&head, &mut each)?;
                    }
                }
                State::Body(0, padding) | State::Meta(0, padding, _) => {
                    let skipped = bytes.len().min(padding as usize);
                    bytes = &bytes[skipped..];
                    self.after_body(0, padding - skipped as u64);
                }
                State::Body(left, padding) => {
                    let (now, rest) = bytes.split_at(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
                    each(TarEvent::Data(now))?;
                    bytes = rest;
                    let left = left - now.len() as u64;
                    self.after_body(left, padding);
                    if left == 0 {
                        each(TarEvent::End)?;
                    }
                }
                State::Meta(left, padding, kind) => {
                    let (now, rest) = bytes.split_at(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
                    self.held.extend_from_slice(now);
                    bytes = rest;
                    let left = left - now.len() as u64;
                    self.state = State::Meta(left, padding, kind);
                    if left == 0 {
                        self.described(kind);
                        self.after_body(0, padding);
                    }
                }
            }
        }
        Ok(())
    }

    /// The archive ends here.
    ///
    /// # Errors
    /// When it does not end where an entry does.
    pub fn finish(&self) -> Result<()> {
        match self.state {
            State::Over => Ok(()),
            State::Head if self.held.is_empty() => Ok(()),
            _ => Err(odd("it ends in the middle of an entry")),
        }
    }

    fn after_body(&mut self, left: u64, padding: u64) {
        self.state = if left == 0 && padding == 0 { State::Head } else { State::Body(left, padding) };
    }

    fn head(&mut self, head: &[u8], each: &mut impl FnMut(TarEvent<'_>) -> Result<()>) -> Result<()> {
        if head.iter().all(|byte| *byte == 0) {
            self.state = State::Over;
            return Ok(());
        }
        // The checksum counts itself as spaces.
        let sum = |range: std::ops::Range<usize>| head[range].iter().map(|byte| u64::from(*byte)).sum::<u64>();
        if number(&head[148..156]) != Some(sum(0..148) + 8 * 32 + sum(156..RECORD)) {
            return Err(odd("a head's checksum is wrong"));
        }
        let size = number(&head[124..136]).ok_or_else(|| odd("an entry has no size"))?;
        let kind = head[156];
        let padded = |size: u64| size.next_multiple_of(RECORD as u64) - size;
        if matches!(kind, b'L' | b'K' | b'x' | b'g') {
            if size > LONGEST_META {
                return Err(odd("an entry's description is too long"));
            }
            self.state = State::Meta(size, padded(size), kind);
            return Ok(());
        }
        let size = self.size.take().unwrap_or(size);
        let what = match kind {
            b'0' | 0 => What::File,
            b'5' => What::Directory,
            b'2' => What::Link,
            other => return Err(odd(&format!("an entry is of type {:?}", other.escape_ascii().to_string()))),
        };
        let plain = [text(&head[345..500]), text(&head[..100])].into_iter().filter(|part| !part.is_empty());
        let prefixed =
            if head[257..262] == *b"ustar" { plain.collect::<Vec<_>>().join("/") } else { text(&head[..100]) };
        let path = self.path.take().unwrap_or(prefixed);
        let path = path.trim_start_matches("./").trim_end_matches('/').to_owned();
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(odd(&format!("an entry leads out of it: {path}")));
        }
        let field = |range: std::ops::Range<usize>| number(&head[range]).unwrap_or(0);
        let body = if what == What::File { size } else { 0 };
        self.after_body(body, padded(body));
        each(TarEvent::Begin(Entry {
            path,
            what,
            size: body,
            mode: (field(100..108) & 0o7777) as u32,
            modified: field(136..148).cast_signed(),
        }))?;
        if body == 0 { each(TarEvent::End) } else { Ok(()) }
    }

    /// The whole description of the next entry has come.
    fn described(&mut self, kind: u8) {
        let held = std::mem::take(&mut self.held);
        match kind {
            b'L' => self.path = Some(text(&held)),
            b'x' => {
                // Lines of "LENGTH KEY=VALUE".
                for line in String::from_utf8_lossy(&held).lines() {
                    match line.split_once(' ').and_then(|(_, pair)| pair.split_once('=')) {
                        Some(("path", path)) => self.path = Some(path.to_owned()),
                        Some(("size", size)) => self.size = size.parse().ok(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

impl Default for Tar {
    fn default() -> Self {
        Self::new()
    }
}

/// A field's text, up to its end mark.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// A field's number: octal digits, or base 256 where the first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 != 0 {
        let rest = field[1..]
            .iter()
            .try_fold(u64::from(field[0] & 0x3f), |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)));
        return rest;
    }
    let text = text(field);
    u64::from_str_radix(text.trim(), 8).ok()
}

fn odd(what: &str) -> BackupError {
    BackupError::refused(code::QUERY_UNEXPECTED, format!("the server's archive is no tar archive: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(path: &str, kind: u8, size: u64) -> Vec<u8> {
        let mut head = vec![0; RECORD];
        head[..path.len()].copy_from_slice(path.as_bytes());
        head[100..107].copy_from_slice(b"0000600");
        if size < 1 << 33 {
            head[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        } else {
            head[124] = 0x80;
            head[128..136].copy_from_slice(&size.to_be_bytes());
        }
        head[136..147].copy_from_slice(format!("{:011o}", 1_700_000_000).as_bytes());
        head[156] = kind;
        head[257..263].copy_from_slice(b"ustar\0");
        head[148..156].fill(b' ');
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        head
    }

    fn body(bytes: &[u8]) -> Vec<u8> {
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().next_multiple_of(RECORD), 0);
        padded
    }

    fn archive() -> Vec<u8> {
        let long = "d/".repeat(80) + "file";
        let pax = format!("{} path={long}2\n", long.len() + 11);
        [
            head("base", b'5', 0),
            head("base/1", b'0', 1300),
            body(&[7; 1300]),
            head("empty", b'0', 0),
            head("pg_tblspc/16384", b'2', 0),
            head("././@LongLink", b'L', long.len() as u64 + 1),
            body(format!("{long}\0").as_bytes()),
            head("short", b'0', 512),
            body(&[8; 512]),
            head("pax", b'x', pax.len() as u64),
            body(pax.as_bytes()),
            head("short", b'0', 1),
            body(&[9]),
            vec![0; 1024],
        ]
        .concat()
    }

    fn read(pieces: &[&[u8]]) -> Result<Vec<(String, What, Vec<u8>)>> {
        let mut tar = Tar::new();
        let (mut all, mut ends) = (Vec::new(), 0);
        for piece in pieces {
            tar.feed(piece, |event| {
                match event {
                    TarEvent::Begin(entry) => all.push((entry.path, entry.what, Vec::new())),
                    TarEvent::Data(bytes) => all.last_mut().unwrap().2.extend_from_slice(bytes),
                    TarEvent::End => ends += 1,
                }
                Ok(())
            })?;
        }
        tar.finish()?;
        assert_eq!(ends, all.len());
        Ok(all)
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_are_the_same(sizes in proptest::collection::vec(1usize..700, 1..60)) {
            let archive = archive();
            let (mut rest, mut pieces, mut sizes) = (archive.as_slice(), Vec::new(), sizes.into_iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(sizes.next().unwrap()));
                pieces.push(now);
                rest = later;
            }
            let all = read(&pieces).unwrap();
            let long = "d/".repeat(80) + "file";
            let paths: Vec<_> = all.iter().map(|(path, what, data)| (path.as_str(), *what, data.len())).collect();
            let long2 = format!("{long}2");
            prop_assert_eq!(paths, [
                ("base", What::Directory, 0), ("base/1", What::File, 1300), ("empty", What::File, 0),
                ("pg_tblspc/16384", What::Link, 0), (long.as_str(), What::File, 512), (long2.as_str(), What::File, 1),
            ]);
        }
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        let archive = archive();
        assert!(read(&[&archive[..1000]]).is_err());
        let mut flipped = archive.clone();
        flipped[3] ^= 1;
        assert!(read(&[&flipped]).is_err());
        assert!(read(&[&head("../etc/passwd", b'0', 0)]).is_err());
        assert!(read(&[&head("/etc/passwd", b'0', 0)]).is_err());
        // An older server leaves out the zeros at the end.
        assert_eq!(read(&[&archive[..archive.len() - 1024]]).unwrap().len(), 6);
    }

    #[test]
    fn large_sizes_are_in_base_256() {
        let large = head("large", b'0', 20 << 30);
        let mut tar = Tar::new();
        let mut size = 0;
        tar.feed(&large, |event| {
            if let TarEvent::Begin(entry) = event {
                size = entry.size;
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(size, 20 << 30);
    }
}
