//! The system account that PostgreSQL's programs run as. They refuse uid 0, so root steps down to `postgres`, else to
//! `nobody`; anybody else stays who he is.

use crate::local::LocalError;
use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

/// Who runs the programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    uid: u32,
    gid: u32,
    /// Its name, which peer authentication sees; absent when the machine has no name for it.
    name: Option<String>,
    /// True when we are root and must become this account.
    step_down: bool,
}

impl Account {
    /// The account to use for PostgreSQL on this machine.
    ///
    /// # Errors
    /// [`LocalError::Root`] when we are root and no unprivileged account exists.
    pub fn unprivileged() -> Result<Self, LocalError> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        if !uid.is_root() {
            let name = whoami::username().ok();
            return Ok(Self { uid: uid.as_raw(), gid: gid.as_raw(), name, step_down: false });
        }
        let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| in_passwd(&accounts, name).map(|numbers| (*name, numbers)))
            .filter(|(_, (uid, _))| *uid != 0)
            .map(|(name, (uid, gid))| Self { uid, gid, name: Some(name.to_owned()), step_down: true })
            .ok_or(LocalError::Root)
    }

    /// The numeric user id.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The numeric group id.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Its name on this machine, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// A command that runs as this account, in `dir`, with a clean environment: PATH, UTF-8 messages in English, UTC.
    pub fn command(&self, program: &Path, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        command.current_dir(dir);
        if self.step_down {
            // The standard library drops root's supplementary groups together with the uid.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Gives a file or directory to this account; nothing to do unless we are root.
    ///
    /// # Errors
    /// [`LocalError::Directory`] when the owner cannot be changed.
    pub fn own(&self, path: &Path) -> Result<(), LocalError> {
        if !self.step_down {
            return Ok(());
        }
        chown(path, Some(self.uid), Some(self.gid)).map_err(|error| LocalError::directory(path, &error))
    }

    /// Can this account enter the directory, that is, search it and all above it?
    ///
    /// # Errors
    /// [`LocalError::Directory`] that names the first directory which shuts it out.
    pub fn can_enter(&self, dir: &Path) -> Result<(), LocalError> {
        if !self.step_down {
            return Ok(());
        }
        let full = fs::canonicalize(dir).map_err(|error| LocalError::directory(dir, &error))?;
        let above: Vec<&Path> = full.ancestors().collect();
        for each in above.into_iter().rev() {
            let meta = fs::metadata(each).map_err(|error| LocalError::directory(each, &error))?;
            if !self.has(&meta, 0o1) {
                let problem = format!(
                    "PostgreSQL would run as uid {}, which may not enter {} (mode {:03o})",
                    self.uid,
                    each.display(),
                    meta.mode() & 0o777
                );
                return Err(LocalError::Directory { path: dir.to_owned(), problem });
            }
        }
        Ok(())
    }

    /// Can this account read the file, and enter all directories above it?
    ///
    /// # Errors
    /// [`LocalError::Directory`] that names what shuts it out.
    pub fn can_read(&self, file: &Path) -> Result<(), LocalError> {
        if !self.step_down {
            return Ok(());
        }
        let full = fs::canonicalize(file).map_err(|error| LocalError::directory(file, &error))?;
        self.can_enter(full.parent().unwrap_or(Path::new("/")))?;
        let meta = fs::metadata(&full).map_err(|error| LocalError::directory(file, &error))?;
        if self.has(&meta, 0o4) {
            return Ok(());
        }
        let problem = format!(
            "PostgreSQL would run as uid {}, which may not read it (uid {}, mode {:03o})",
            self.uid,
            meta.uid(),
            meta.mode() & 0o777
        );
        Err(LocalError::Directory { path: file.to_owned(), problem })
    }

    /// Has it this right (4, 2, 1)? It is in no group but its own.
    fn has(&self, meta: &fs::Metadata, right: u32) -> bool {
        let shift = match () {
            () if meta.uid() == self.uid => 6,
            () if meta.gid() == self.gid => 3,
            () => 0,
        };
        meta.mode() >> shift & right == right
    }
}

/// Uid and gid of a name in the text of a passwd file.
fn in_passwd(text: &str, name: &str) -> Option<(u32, u32)> {
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_passwd_file() {
        let text = "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104::/var/lib/postgresql:/bin/bash\n";
        assert_eq!(in_passwd(text, "postgres"), Some((101, 104)));
        assert_eq!(in_passwd(text, "post"), None);
        assert_eq!(in_passwd("postgres:x:\n", "postgres"), None);
    }

    #[test]
    fn a_closed_directory_is_named() {
        let account = Account { uid: 54_321, gid: 54_321, name: None, step_down: true };
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("closed");
        fs::create_dir_all(closed.join("inside")).unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        account.can_enter(dir.path()).unwrap();
        let text = account.can_enter(&closed.join("inside")).unwrap_err().to_string();
        assert!(text.contains("may not enter") && text.contains("closed (mode 700)"), "{text}");
        let file = dir.path().join("key");
        fs::write(&file, "x").unwrap();
        for (mode, may) in [(0o644, true), (0o600, false), (0o640, false)] {
            fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            let read = account.can_read(&file);
            assert_eq!(read.is_ok(), may, "{read:?}");
        }
        let text = account.can_read(&file).unwrap_err().to_string();
        assert!(text.contains("may not read it") && text.contains("mode 640"), "{text}");
        assert!(account.can_read(&dir.path().join("absent")).is_err());
    }
}
