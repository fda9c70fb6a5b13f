//! The folder in which received WAL waits: the segment that grows, whole ones on their way into the archive, and
//! histories of timelines.
//!
//! | name | what |
//! |---|---|
//! | `SEGMENT.partial` | the beginning of a segment, as long as it has come |
//! | `SEGMENT` | a whole segment that is not known to be in the archive |
//! | `TIMELINE.history` | likewise |
//! | `lock` | held by the one who receives |

use crate::{
    error::{BackupError, Result},
    wal::name::{FileKind, Segment, file_kind},
};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use surus_core::{code, lsn::Lsn};

/// What came is written out when this much is waiting.
const WRITE_AT: usize = 1 << 20;
/// Disks write sectors whole: one that is still all zeros was never written.
const SECTOR: usize = 512;

/// A cluster's spool, held by us alone.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

/// A segment in a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    pub segment: Segment,
    pub whole: bool,
}

impl Spool {
    /// Opens the folder, making it when it is not there.
    ///
    /// # Errors
    /// When it cannot be used, or somebody else receives into it.
    pub fn open(folder: &Path) -> Result<Self> {
        let make = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        make.map_err(BackupError::file("cannot make", folder))?;
        let path = folder.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = lock.map_err(BackupError::file("cannot open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder: folder.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                let text = format!("another surus wal receive writes into {}", folder.display());
                Err(BackupError::refused(code::BACKUP_BUSY, text))
            }
            Err(TryLockError::Error(error)) => Err(BackupError::file("cannot lock", &path)(error)),
        }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the whole segment or history of that name is, or would be.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where the beginning of that segment is, or would be.
    pub fn partial_path(&self, segment: Segment) -> PathBuf {
        self.folder.join(format!("{segment}.partial"))
    }

    /// The segments that are here, in order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn segments(&self, size: u64) -> Result<Vec<Waiting>> {
        let mut found: Vec<_> = names(&self.folder)?
            .iter()
            .filter_map(|name| {
                let whole = match file_kind(name)? {
                    FileKind::Segment => true,
                    FileKind::Partial => false,
                    FileKind::History | FileKind::Backup => return None,
                };
                Some(Waiting { segment: Segment::parse(&name[..24], size)?, whole })
            })
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    /// The names of what is whole, histories first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn whole_files(&self) -> Result<Vec<String>> {
        whole_names(&self.folder)
    }

    /// Keeps a file under its name, whole and durable.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, name: &str, content: &[u8]) -> Result<()> {
        let (path, new) = (self.path(name), self.folder.join(format!(".{name}")));
        let write = || {
            let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            file.write_all_at(content, 0)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(BackupError::file("cannot write", &path))
    }

    /// The segment that grows; what is there of it stays.
    ///
    /// # Errors
    /// When its file cannot be opened.
    pub fn growing(&self, segment: Segment) -> Result<Growing> {
        let path = self.partial_path(segment);
        let open = || {
            let file =
                OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path)?;
            let earlier = fs::read(&path)?;
            // Whoever wrote it may have ended before it was durable.
            file.sync_all()?;
            File::open(&self.folder)?.sync_all()?;
            Ok((file, earlier))
        };
        let (file, earlier) = open().map_err(BackupError::file("cannot open", &path))?;
        Ok(Growing { segment, path, file, earlier, pending: Vec::new(), written: 0, flushed: 0, dirty: false })
    }
}

/// The names of the files in a spool; none when it is not there.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(BackupError::file("cannot read", folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(BackupError::file("cannot read", folder))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

/// The names of whole files, histories first: a segment of a timeline is of little use without.
pub(super) fn whole_names(folder: &Path) -> Result<Vec<String>> {
    let mut names = names(folder)?;
    names.retain(|name| matches!(file_kind(name), Some(FileKind::Segment | FileKind::History)));
    names.sort_by_key(|name| name.len());
    Ok(names)
}

/// The segment that grows, from its first byte on. What an earlier connection brought of it comes again, and must be
/// the same.
#[derive(Debug)]
pub struct Growing {
    pub segment: Segment,
    path: PathBuf,
    file: File,
    /// What the file held when it was opened.
    earlier: Vec<u8>,
    /// What has come and is not written yet; it follows `written`.
    pending: Vec<u8>,
    written: u64,
    flushed: u64,
    /// Something was written that is not durable.
    dirty: bool,
}

impl Growing {
    /// Up to where it has come.
    pub fn end(&self) -> Lsn {
        Lsn(self.segment.start().0 + self.written + self.pending.len() as u64)
    }

    /// Up to where it is durable.
    pub fn durable(&self) -> Lsn {
        Lsn(self.segment.start().0 + self.flushed)
    }

    /// Is all of it here?
    pub fn is_whole(&self) -> bool {
        self.end() == self.segment.end()
    }

    /// Takes in what follows; gives back what is of the next segment.
    ///
    /// # Errors
    /// When it is not what came before, or cannot be written.
    pub fn take<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8]> {
        let room = usize::try_from(self.segment.end().0 - self.end().0).unwrap_or(usize::MAX);
        let (now, rest) = bytes.split_at(bytes.len().min(room));
        let offset = (self.end().0 - self.segment.start().0) as usize;
        if let Some(at) = differs(self.earlier.get(offset..).unwrap_or_default(), now) {
            let text = format!(
                "the server's WAL at {} is not what it was: {} holds other WAL of that position, received before. Two \
                 servers have written on timeline {}, or one was set back; the file was left as it is",
                Lsn(self.end().0 + at as u64),
                self.path.display(),
                self.segment.timeline,
            );
            return Err(BackupError::refused(code::WAL_CONFLICT, text));
        }
        self.pending.extend_from_slice(now);
        if self.pending.len() >= WRITE_AT {
            self.write()?;
        }
        Ok(rest)
    }

    fn write(&mut self) -> Result<()> {
        let known = self.earlier.get(self.written as usize..).unwrap_or_default();
        if !known.starts_with(&self.pending) {
            let written = self.file.write_all_at(&self.pending, self.written);
            written.map_err(BackupError::file("cannot write", &self.path))?;
            self.dirty = true;
        }
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Makes all that has come durable.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.write()?;
        if self.dirty {
            self.file.sync_data().map_err(BackupError::file("cannot flush", &self.path))?;
            self.dirty = false;
        }
        self.flushed = self.written;
        Ok(())
    }

    /// Gives the whole segment its name, durable.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        let finish = || {
            fs::rename(&self.path, self.path.with_extension(""))?;
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        finish().map_err(BackupError::file("cannot name", &self.path))
    }
}

/// Where what is here and what comes differ. What was never written, a hole that a power cut left, differs from
/// nothing.
fn differs(here: &[u8], comes: &[u8]) -> Option<usize> {
    let same = here.len().min(comes.len());
    let (here, comes) = (&here[..same], &comes[..same]);
    if here == comes {
        return None;
    }
    let sectors = here.chunks(SECTOR).zip(comes.chunks(SECTOR)).enumerate();
    let differing = |(one, other): (&[u8], &[u8])| one != other && one.iter().any(|byte| *byte != 0);
    sectors.into_iter().find(|(_, pair)| differing(*pair)).map(|(number, _)| number * SECTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 20;

    fn segment() -> Segment {
        Segment { timeline: 1, number: 7, size: SIZE }
    }

    #[test]
    fn a_segment_grows_over_restarts_and_gets_its_name_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let wal: Vec<u8> = (0..SIZE + 100).map(|at| (at % 251) as u8).collect();
        {
            let spool = Spool::open(dir.path()).unwrap();
            assert_eq!(Spool::open(dir.path()).unwrap_err().code(), code::BACKUP_BUSY);
            let mut growing = spool.growing(segment()).unwrap();
            assert!(growing.take(&wal[..3000]).unwrap().is_empty());
            assert_eq!((growing.end().0, growing.durable().0), (7 * SIZE + 3000, 7 * SIZE));
            growing.flush().unwrap();
            assert_eq!(growing.durable().0, 7 * SIZE + 3000);
        }
        let spool = Spool::open(dir.path()).unwrap();
        assert_eq!(spool.segments(SIZE).unwrap(), [Waiting { segment: segment(), whole: false }]);
        let mut growing = spool.growing(segment()).unwrap();
        // What is here comes again, in other pieces.
        let rest = wal.chunks(1700).fold(&[][..], |_, piece| growing.take(piece).unwrap());
        assert!(growing.is_whole() && rest.len() == 100);
        growing.finish().unwrap();
        assert_eq!(fs::read(spool.path(&segment().to_string())).unwrap(), wal[..SIZE as usize]);
        assert_eq!(spool.segments(SIZE).unwrap(), [Waiting { segment: segment(), whole: true }]);
    }

    #[test]
    fn other_wal_of_the_same_position_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        let mut here = vec![1; 4096];
        // A hole that a power cut left is no other WAL.
        here[1024..1536].fill(0);
        fs::write(spool.partial_path(segment()), &here).unwrap();
        let mut growing = spool.growing(segment()).unwrap();
        growing.take(&[1; 2000]).unwrap();
        growing.flush().unwrap();
        assert_eq!(fs::read(spool.partial_path(segment())).unwrap(), [1; 4096]);
        assert_eq!(growing.take(&[2; 10]).unwrap_err().code(), code::WAL_CONFLICT);
        assert_eq!(fs::read(spool.partial_path(segment())).unwrap(), [1; 4096]);
    }
}
