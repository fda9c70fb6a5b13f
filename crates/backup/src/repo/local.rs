//! A folder of this machine, or one that is mounted here.
//!
//! An object is written under a temporary name, flushed, given its name without replacing another, and its directory is
//! flushed: only then is it acknowledged.

use super::{
    container::random,
    place::{Created, Entry, Place, PlaceError, Trouble, is_name},
};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    ops::Range,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// Names of files that are not yet objects begin with this; no object's does.
const UNFINISHED: &str = ".unfinished-";

/// A folder that holds objects as files.
#[derive(Debug)]
pub struct LocalPlace {
    folder: PathBuf,
}

impl LocalPlace {
    /// The folder need not be there yet; [`LocalPlace::make`] makes it.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Makes the folder itself. Separate from writing, so that a folder that is not mounted is never mistaken for an
    /// empty repository.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(&self) -> Result<(), PlaceError> {
        make_folder(&self.folder, Path::new("/")).map_err(|error| self.trouble("create", "", &error))
    }

    fn path(&self, doing: &'static str, name: &str) -> Result<PathBuf, PlaceError> {
        if is_name(name) {
            return Ok(self.folder.join(name));
        }
        Err(self.trouble(doing, name, &io::Error::other("that cannot be the name of an object")))
    }

    fn trouble(&self, doing: &'static str, name: &str, error: &io::Error) -> PlaceError {
        let trouble = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Trouble::NoRoom,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Trouble::Denied,
            ErrorKind::NotFound
            | ErrorKind::StaleNetworkFileHandle
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable => Trouble::Unreachable,
            _ => Trouble::Broken,
        };
        PlaceError { trouble, doing, name: name.to_owned(), place: self.address(), problem: error.to_string() }
    }

    /// Writes the body under a temporary name beside `path`, durable but not yet seen.
    fn write_unfinished(&self, path: &Path, body: &[u8]) -> io::Result<PathBuf> {
        let folder = path.parent().unwrap_or(&self.folder);
        // Random: on a folder that several machines or containers share, a process number is nobody's own.
        let number = u64::from_le_bytes(random());
        let unfinished = folder.join(format!("{UNFINISHED}{}-{number:016x}", std::process::id()));
        let open = || OpenOptions::new().write(true).create_new(true).mode(0o640).open(&unfinished);
        let mut file = match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make_folder(folder, &self.folder)?;
                open()?
            }
            other => other?,
        };
        // Before anything is in it: whoever else works here must be able to read it.
        give(&unfinished, &self.folder);
        let written = file.write_all(body).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // What could not be written must not take up the room that is missing.
            drop(fs::remove_file(&unfinished));
            return Err(error);
        }
        Ok(unfinished)
    }
}

impl Place for LocalPlace {
    fn create(&self, name: &str, body: &[u8]) -> Result<Created, PlaceError> {
        let path = self.path("create", name)?;
        let make = || -> io::Result<Created> {
            let unfinished = self.write_unfinished(&path, body)?;
            let named = name_without_replacing(&unfinished, &path);
            if named.as_ref().map_or(true, |created| *created == Created::AlreadyThere) {
                drop(fs::remove_file(&unfinished));
            }
            let created = named?;
            // Also for one that was there: whoever made it may not have come to this line.
            flush_folder(path.parent().unwrap_or(&self.folder))?;
            Ok(created)
        };
        make().map_err(|error| self.trouble("create", name, &error))
    }

    fn replace(&self, name: &str, body: &[u8]) -> Result<(), PlaceError> {
        let path = self.path("write", name)?;
        let swap = || {
            let unfinished = self.write_unfinished(&path, body)?;
            fs::rename(&unfinished, &path)?;
            flush_folder(path.parent().unwrap_or(&self.folder))
        };
        swap().map_err(|error| self.trouble("write", name, &error))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PlaceError> {
        match fs::read(self.path("read", name)?) {
            Ok(body) => Ok(Some(body)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.trouble("read", name, &error)),
        }
    }

    fn read_range(&self, name: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, PlaceError> {
        let read = |path: &Path| -> io::Result<Vec<u8>> {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(range.start))?;
            let length = range.end.saturating_sub(range.start);
            let mut body = Vec::with_capacity(usize::try_from(length).unwrap_or(0).min(64 << 20));
            file.take(length).read_to_end(&mut body)?;
            Ok(body)
        };
        match read(&self.path("read", name)?) {
            Ok(body) => Ok(Some(body)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.trouble("read", name, &error)),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<Entry>, PlaceError> {
        let mut entries = Vec::new();
        let start = self.folder.join(folder.trim_end_matches('/'));
        walk(&start, &self.folder, "", &mut entries).map_err(|error| self.trouble("list", folder, &error))?;
        entries.sort_unstable();
        Ok(entries)
    }

    fn list_after(&self, folder: &str, after: &str) -> Result<Vec<Entry>, PlaceError> {
        let mut entries = Vec::new();
        let start = self.folder.join(folder.trim_end_matches('/'));
        walk(&start, &self.folder, after, &mut entries).map_err(|error| self.trouble("list", folder, &error))?;
        entries.sort_unstable();
        Ok(entries)
    }

    fn delete(&self, names: &[String]) -> Result<(), PlaceError> {
        for name in names {
            let path = self.path("delete", name)?;
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(self.trouble("delete", name, &error));
                }
                _ => remove_empty_folders(path.parent(), &self.folder),
            }
        }
        Ok(())
    }

    fn remove_unfinished(&self, older_than_ms: i64) -> Result<u64, PlaceError> {
        let before_ms = surus_core::clock::now_ms().saturating_sub(older_than_ms);
        let removed = remove_unfinished(&self.folder, before_ms);
        removed.map_err(|error| self.trouble("tidy up", "", &error))
    }

    fn address(&self) -> String {
        self.folder.display().to_string()
    }

    fn local_folder(&self) -> Option<&Path> {
        Some(&self.folder)
    }
}

/// Gives the file its name unless the name is taken.
fn name_without_replacing(unfinished: &Path, path: &Path) -> io::Result<Created> {
    match renameat_with(CWD, unfinished, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(Created::New),
        Err(rustix::io::Errno::EXIST) => return Ok(Created::AlreadyThere),
        // Not every filesystem knows this rename (NFS does not); a second link is as good.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    match fs::hard_link(unfinished, path) {
        Ok(()) => fs::remove_file(unfinished).map(|()| Created::New),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Created::AlreadyThere),
        Err(error) => Err(error),
    }
}

/// Makes a folder and those above it, below `top` durably.
fn make_folder(folder: &Path, top: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(top);
    if above.starts_with(top) && above != folder {
        make_folder(above, top)?;
    }
    match DirBuilder::new().mode(0o750).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        Err(_) => flush_folder(above),
        Ok(()) => {
            give(folder, above);
            flush_folder(above)
        }
    }
}

/// Gives what was made to the owner of `like`: root may take a backup into a folder that the server's account archives
/// into, and that account must be able to read it and to go on there. Who may not give it away keeps it.
fn give(made: &Path, like: &Path) {
    if let (Ok(own), Ok(like)) = (fs::symlink_metadata(made), fs::metadata(like))
        && (own.uid(), own.gid()) != (like.uid(), like.gid())
        && like.uid() != 0
    {
        // Only root can, and only for root it matters.
        let _ = chown(made, Some(like.uid()), Some(like.gid()));
    }
}

fn flush_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes folders that hold nothing any more, up to the place itself. One that is not empty ends it.
fn remove_empty_folders(folder: Option<&Path>, top: &Path) {
    let mut at = folder;
    while let Some(folder) = at.filter(|folder| *folder != top && folder.starts_with(top)) {
        if fs::remove_dir(folder).is_err() {
            return;
        }
        at = folder.parent();
    }
}

fn remove_unfinished(folder: &Path, before_ms: i64) -> io::Result<u64> {
    let mut bytes = 0;
    for item in fs::read_dir(folder)? {
        let item = item?;
        let about = match item.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other?,
        };
        if about.is_dir() {
            bytes += remove_unfinished(&item.path(), before_ms)?;
        } else if item.file_name().to_string_lossy().starts_with(UNFINISHED) && written_ms(&about) < before_ms {
            fs::remove_file(item.path())?;
            bytes += about.len();
        }
    }
    Ok(bytes)
}

/// When a file was last written, in milliseconds since 1970; 0 when the filesystem does not say.
fn written_ms(about: &fs::Metadata) -> i64 {
    let modified = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    modified.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Finds what is in a folder, of names after `after` only.
fn walk(folder: &Path, top: &Path, after: &str, entries: &mut Vec<Entry>) -> io::Result<()> {
    let inside = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound && folder != top => return Ok(()),
        other => other?,
    };
    for item in inside {
        let item = item?;
        let path = item.path();
        if item.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let Some(name) = path.strip_prefix(top).ok().and_then(Path::to_str) else { continue };
        // A folder is passed over when all names in it come before.
        if name <= after && after.get(..name.len()).is_none_or(|start| start != name) {
            continue;
        }
        let about = match item.metadata() {
            // Gone between the listing and the look.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other?,
        };
        if about.is_dir() {
            walk(&path, top, after, entries)?;
        } else if name > after {
            entries.push(Entry { name: name.to_owned(), size: about.len(), modified_ms: written_ms(&about) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, LocalPlace) {
        let dir = tempfile::tempdir().unwrap();
        let place = LocalPlace::new(dir.path().join("repo"));
        place.make().unwrap();
        (dir, place)
    }

    #[test]
    fn what_root_writes_belongs_to_the_folders_owner() {
        let (dir, place) = place();
        let folder = dir.path().join("repo");
        if chown(&folder, Some(12_345), Some(12_346)).is_err() {
            eprintln!("skipped: what_root_writes_belongs_to_the_folders_owner: only root can give files away");
            return;
        }
        place.create("wal/1/segment", b"content").unwrap();
        place.replace("note", b"content").unwrap();
        for path in ["wal", "wal/1", "wal/1/segment", "note"] {
            let about = fs::metadata(folder.join(path)).unwrap();
            assert_eq!((about.uid(), about.gid()), (12_345, 12_346), "{path}");
        }
    }

    #[test]
    fn two_writers_of_one_object_never_share_a_file() {
        // Two machines with the same process number, as far as the folder can tell.
        let (dir, one) = place();
        let other = LocalPlace::new(dir.path().join("repo"));
        let path = dir.path().join("repo/segment");
        let first = one.write_unfinished(&path, b"first").unwrap();
        let second = other.write_unfinished(&path, b"2nd").unwrap();
        assert_ne!(first, second);
        assert_eq!((fs::read(first).unwrap(), fs::read(second).unwrap()), (b"first".to_vec(), b"2nd".to_vec()));
    }

    #[test]
    fn an_object_is_never_replaced_by_create() {
        let (_dir, place) = place();
        assert_eq!(place.create("a/b/one", b"first").unwrap(), Created::New);
        assert_eq!(place.create("a/b/one", b"second").unwrap(), Created::AlreadyThere);
        assert_eq!(place.read("a/b/one").unwrap().unwrap(), b"first");
        place.replace("a/b/one", b"third").unwrap();
        assert_eq!(place.read_range("a/b/one", 1..3).unwrap().unwrap(), b"hi");
        assert_eq!(place.read_range("a/b/one", 3..30).unwrap().unwrap(), b"rd");
        assert_eq!(place.read("a/b/two").unwrap(), None);
    }

    #[test]
    fn a_listing_is_sorted_and_leaves_out_what_is_unfinished() {
        let (dir, place) = place();
        for name in ["w/2", "w/1", "w/x/3", "v"] {
            place.create(name, b"..").unwrap();
        }
        fs::write(dir.path().join("repo/w/.unfinished-1-1"), b"half").unwrap();
        let names = |folder| place.list(folder).unwrap().into_iter().map(|entry| entry.name).collect::<Vec<_>>();
        assert_eq!(names("w/"), ["w/1", "w/2", "w/x/3"]);
        assert_eq!(names(""), ["v", "w/1", "w/2", "w/x/3"]);
        assert_eq!(names("nothing/"), [""; 0]);
        let after = |after: &str| {
            let entries = place.list_after("w/", after).unwrap().into_iter();
            entries.map(|entry| entry.name).collect::<Vec<_>>()
        };
        assert_eq!(after(""), ["w/1", "w/2", "w/x/3"]);
        assert_eq!(after("w/1"), ["w/2", "w/x/3"]);
        assert_eq!(after("w/x"), ["w/x/3"]);
        assert_eq!(after("w/x/0"), ["w/x/3"]);
        assert_eq!(after("w/x/3"), [""; 0]);
        assert_eq!(after("w/y"), [""; 0]);
        assert_eq!(place.remove_unfinished(60_000).unwrap(), 0, "somebody may be writing it");
        assert_eq!(place.remove_unfinished(-60_000).unwrap(), 4);
        assert!(!dir.path().join("repo/w/.unfinished-1-1").exists());
        place.delete(&["w/x/3".into(), "w/never".into()]).unwrap();
        assert!(!dir.path().join("repo/w/x").exists(), "an empty folder is left");
        assert_eq!(names("w/"), ["w/1", "w/2"]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_no_empty_place() {
        let dir = tempfile::tempdir().unwrap();
        let place = LocalPlace::new(dir.path().join("not-mounted"));
        assert_eq!(place.list("").unwrap_err().trouble, Trouble::Unreachable);
        assert!(place.read("../etc/passwd").is_err());
    }
}
