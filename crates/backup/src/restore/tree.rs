//! The directories of a restore: where each file goes, whose it is, and what of an older copy has to go.

use super::directory::{JOURNAL, Space};
use crate::{
    error::{BackupError, Result},
    manifest::Manifest,
    wal::name::file_kind,
};
use rustix::fs::OFlags;
use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown, symlink},
    path::{Path, PathBuf},
};
use surus_pg::account::Account;

/// Where everything goes.
#[derive(Debug, Clone)]
pub struct Tree {
    pub data: PathBuf,
    pub spaces: Vec<Space>,
    /// User and group that the files are given to; `None` when we are not root and they are ours.
    pub owner: Option<(u32, u32)>,
}

impl Tree {
    /// As root the files go to the owner of the directory, else of the one above it, else to the server's account.
    ///
    /// # Errors
    /// When we are root and there is no such account.
    pub fn new(data: &Path, spaces: Vec<Space>) -> Result<Self> {
        let mut owner = None;
        if rustix::process::geteuid().is_root() {
            let of = |path: &Path| fs::metadata(path).ok().map(|about| (about.uid(), about.gid()));
            let found = of(data).or_else(|| of(data.parent()?)).filter(|(user, _)| *user != 0);
            let server = || Account::unprivileged().map(|account| (account.uid(), account.gid()));
            owner = Some(found.map_or_else(server, Ok)?);
        }
        Ok(Self { data: data.to_owned(), spaces, owner })
    }

    /// Where a file or directory of the backup goes.
    pub fn path(&self, inside: &str) -> PathBuf {
        if let Some(rest) = inside.strip_prefix("pg_tblspc/") {
            let (oid, rest) = rest.split_once('/').unwrap_or((rest, ""));
            if let Some(space) = self.spaces.iter().find(|space| space.oid.to_string() == oid) {
                return if rest.is_empty() { space.to.clone() } else { space.to.join(rest) };
            }
        }
        self.data.join(inside)
    }

    /// Gives a file to its owner.
    ///
    /// # Errors
    /// When it cannot be given away.
    pub fn own(&self, file: &File) -> io::Result<()> {
        self.owner.map_or(Ok(()), |(user, group)| fchown(file, Some(user), Some(group)))
    }

    /// Opens a file to be written. One that is new gets its mode and owner.
    ///
    /// # Errors
    /// When it cannot be made, or a link is in its place.
    pub fn open(&self, inside: &str, mode: u32, new: bool) -> Result<File> {
        let path = self.path(inside);
        let open = || {
            let nofollow = OFlags::NOFOLLOW.bits().cast_signed();
            let file =
                OpenOptions::new().read(true).write(true).create(new).custom_flags(nofollow).mode(mode).open(&path)?;
            if new {
                self.own(&file)?;
                file.set_permissions(Permissions::from_mode(mode))?;
            }
            Ok(file)
        };
        open().map_err(BackupError::file("cannot write", &path))
    }

    /// The data directory itself, and those of tablespaces.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn make_roots(&self, mode: u32) -> Result<()> {
        for root in std::iter::once(&self.data).chain(self.spaces.iter().map(|space| &space.to)) {
            let made = fs::create_dir_all(root).and_then(|()| self.settle(root, mode));
            made.map_err(BackupError::file("cannot make", root))?;
        }
        Ok(())
    }

    /// All directories of the backup, and the links to its tablespaces.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn make_directories(&self, manifest: &Manifest) -> Result<()> {
        for (inside, mode) in &manifest.directories {
            let path = self.path(inside);
            let make = || match fs::DirBuilder::new().mode(*mode).create(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => self.settle(&path, *mode),
                other => other.and_then(|()| self.settle(&path, *mode)),
            };
            make().map_err(BackupError::file("cannot make", &path))?;
        }
        for space in &self.spaces {
            let link = self.data.join("pg_tblspc").join(space.oid.to_string());
            if fs::read_link(&link).is_ok_and(|there| there == space.to) {
                continue;
            }
            symlink(&space.to, &link).map_err(BackupError::file("cannot link", &link))?;
        }
        Ok(())
    }

    fn settle(&self, directory: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(directory, Permissions::from_mode(mode))?;
        self.owner.map_or(Ok(()), |(user, group)| chown(directory, Some(user), Some(group)))
    }

    /// Removes what the backup has not: only inside the data directory and its tablespaces' own directories, never a
    /// mount point, never what a link leads to. Gives the number of files that went.
    ///
    /// # Errors
    /// When something cannot be read or removed.
    pub fn remove_others(&self, manifest: &Manifest) -> Result<u64> {
        let files: HashSet<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
        let directories: HashSet<&str> = manifest.directories.iter().map(|(path, _)| path.as_str()).collect();
        let mut broom = Broom { tree: self, files, directories, removed: 0 };
        broom.sweep(&self.data, "")?;
        for space in &self.spaces {
            let inside = format!("pg_tblspc/{}", space.oid);
            // Other clusters and majors may have directories beside ours.
            let ours = |path: &&&str| path.strip_prefix(&inside).is_some_and(|rest| rest.matches('/').count() == 1);
            for directory in broom.directories.iter().filter(ours).map(|path| (*path).to_owned()).collect::<Vec<_>>() {
                broom.sweep(&self.path(&directory), &directory)?;
            }
        }
        Ok(broom.removed)
    }
}

struct Broom<'a> {
    tree: &'a Tree,
    files: HashSet<&'a str>,
    directories: HashSet<&'a str>,
    removed: u64,
}

impl Broom<'_> {
    fn sweep(&mut self, directory: &Path, inside: &str) -> Result<()> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.map_err(BackupError::file("cannot read", directory))?,
        };
        for entry in entries {
            let entry = entry.map_err(BackupError::file("cannot read", directory))?;
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let below = if inside.is_empty() { name.clone().into_owned() } else { format!("{inside}/{name}") };
            let about = fs::symlink_metadata(&path).map_err(BackupError::file("cannot read", &path))?;
            if below == JOURNAL || name == "lost+found" {
                continue;
            }
            if about.is_symlink() {
                self.link(&path, &below)?;
            } else if about.is_dir() {
                if self.directories.contains(below.as_str()) {
                    self.sweep(&path, &below)?;
                } else {
                    self.remove_all(&path, directory)?;
                }
            } else if !about.is_file() || !self.files.contains(below.as_str()) {
                self.remove(&path)?;
            }
        }
        Ok(())
    }

    /// A tablespace's link stays when it leads where it is to lead, and that of pg_wal, whose segments go. Any other is
    /// replaced by what the backup has.
    fn link(&mut self, path: &Path, below: &str) -> Result<()> {
        let space = below.strip_prefix("pg_tblspc/").and_then(|oid| {
            self.tree.spaces.iter().find(|space| space.oid.to_string() == oid).map(|space| space.to.clone())
        });
        if let Some(to) = space
            && fs::read_link(path).is_ok_and(|there| there == to)
        {
            return Ok(());
        }
        if below == "pg_wal" && path.is_dir() {
            return self.empty_wal(path);
        }
        self.remove(path)
    }

    fn empty_wal(&mut self, directory: &Path) -> Result<()> {
        for entry in fs::read_dir(directory).map_err(BackupError::file("cannot read", directory))? {
            let entry = entry.map_err(BackupError::file("cannot read", directory))?;
            let name = entry.file_name();
            let stem = name.to_string_lossy();
            let stem = stem.trim_end_matches(".ready").trim_end_matches(".done");
            if name == "archive_status" {
                self.empty_wal(&entry.path())?;
            } else if file_kind(stem).is_some() && entry.file_type().is_ok_and(|kind| kind.is_file()) {
                self.remove(&entry.path())?;
            }
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(BackupError::file("cannot remove", path))?;
        self.removed += 1;
        Ok(())
    }

    /// A directory with all that is in it, unless another filesystem is mounted there.
    fn remove_all(&mut self, path: &Path, parent: &Path) -> Result<()> {
        let device = |path: &Path| fs::symlink_metadata(path).map(|about| about.dev()).ok();
        if device(path) != device(parent) {
            return Ok(());
        }
        for entry in fs::read_dir(path).map_err(BackupError::file("cannot read", path))? {
            let entry = entry.map_err(BackupError::file("cannot read", path))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.remove_all(&entry.path(), path)?;
            } else {
                self.remove(&entry.path())?;
            }
        }
        match fs::remove_dir(path) {
            // Something that is mounted in it stays, and so it.
            Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => {
                Err(BackupError::file("cannot remove", path)(error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::example;

    #[test]
    fn what_the_backup_has_not_goes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (data, space, elsewhere) =
            (dir.path().join("data"), dir.path().join("space"), dir.path().join("elsewhere"));
        let mut manifest = example("a");
        let mut file = manifest.files[0].clone();
        file.path = "pg_tblspc/7/PG_15_1/5/100".into();
        manifest.files.push(file);
        manifest.directories =
            ["base", "pg_tblspc", "pg_tblspc/7", "pg_tblspc/7/PG_15_1", "pg_tblspc/7/PG_15_1/5", "pg_wal"]
                .map(|path| (path.to_owned(), 0o700))
                .to_vec();
        let spaces = vec![Space { oid: 7, was: "/was".into(), to: space.clone() }];
        let tree = Tree { data: data.clone(), spaces, owner: None };
        tree.make_roots(0o700).unwrap();
        tree.make_directories(&manifest).unwrap();
        tree.make_directories(&manifest).unwrap();
        fs::create_dir_all(elsewhere.join("deep")).unwrap();
        symlink(&elsewhere, data.join("base/link")).unwrap();
        symlink(&elsewhere, data.join("pg_tblspc/8")).unwrap();
        fs::create_dir_all(space.join("PG_16_2/5")).unwrap();
        let kept = ["data/PG_VERSION", "space/PG_15_1/5/100", "space/PG_16_2/5/1", "elsewhere/deep/1"];
        let gone =
            ["data/postmaster.pid", "data/base/1", "data/pg_wal/000000010000000000000001", "space/PG_15_1/5/101"];
        for path in kept.iter().chain(&gone) {
            fs::write(dir.path().join(path), b"x").unwrap();
        }
        fs::create_dir_all(data.join("base/99/x")).unwrap();
        fs::write(data.join("base/99/x/y"), b"x").unwrap();
        assert_eq!(tree.remove_others(&manifest).unwrap(), 7);
        for path in kept {
            assert!(dir.path().join(path).exists(), "{path} is gone");
        }
        for path in gone {
            assert!(!dir.path().join(path).exists(), "{path} is there");
        }
        assert!(!data.join("base/99").exists() && !data.join("base/link").exists());
        assert_eq!(fs::read_link(data.join("pg_tblspc/7")).unwrap(), space);
    }
}
