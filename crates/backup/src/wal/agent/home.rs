//! Where an agent is reached: a socket in a directory that only its user may enter.

use crate::error::{BackupError, Result};
use rustix::fs::{FlockOperation, flock};
use std::{
    env,
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};
use surus_core::code;

/// A log is begun anew when it is larger.
const LOG_LIMIT: u64 = 1 << 20;
/// The longest path of a socket that every Unix takes.
const SOCKET_PATH_LIMIT: usize = 100;

/// The private directory and the names of one agent in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    directory: PathBuf,
    key: String,
}

impl Home {
    /// For the agent of these words: its role, its repository, its data directory and all that changes what it does.
    /// The program itself is one of them: a newer surus does not speak to an older one's agent.
    ///
    /// # Errors
    /// When the directory cannot be made or is not private to this user.
    pub fn of(words: &[&OsStr]) -> Result<Self> {
        Self::within(usual_directory(), words)
    }

    /// As [`Home::of`], in another directory.
    ///
    /// # Errors
    /// As for [`Home::of`].
    pub fn within(directory: PathBuf, words: &[&OsStr]) -> Result<Self> {
        let mut key = blake3::Hasher::new();
        let program =
            fs::metadata("/proc/self/exe").map(|about| (about.dev(), about.ino(), about.mtime(), about.size()));
        key.update(format!("{} {:?}", env!("CARGO_PKG_VERSION"), program.ok()).as_bytes());
        for word in words {
            key.update(&(word.len() as u64).to_le_bytes()).update(word.as_bytes());
        }
        let key = key.finalize().to_hex()[..16].to_owned();
        make_private(&directory)?;
        let home = Self { directory, key };
        match home.socket().as_os_str().len() {
            length if length > SOCKET_PATH_LIMIT => Err(unusable(&home.directory, "its path is too long for a socket")),
            _ => Ok(home),
        }
    }

    /// Its name.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.join(format!("{}.sock", self.key))
    }

    /// What it says of its troubles, begun anew when it is long.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn log(&self) -> Result<File> {
        let path = self.directory.join(format!("{}.log", self.key));
        let long = fs::metadata(&path).is_ok_and(|about| about.len() > LOG_LIMIT);
        let mut open = OpenOptions::new();
        // A file is either appended to or emptied.
        if long {
            open.write(true).truncate(true)
        } else {
            open.append(true)
        };
        open.create(true).mode(0o600).open(&path).map_err(BackupError::file("cannot write", &path))
    }

    /// Claims it for this process, for as long as the file is open; its number stands in it. `None` when another agent
    /// has it.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn claim(&self) -> Result<Option<File>> {
        let path = self.directory.join(format!("{}.lock", self.key));
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open.map_err(BackupError::file("cannot open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let number = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
                number.map(|()| Some(file)).map_err(BackupError::file("cannot write", &path))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(BackupError::file("cannot lock", &path)(error.into())),
        }
    }
}

/// `SURUS_RUN_DIR`, else a folder of the user's runtime directory, else one in /tmp with the user's number.
fn usual_directory() -> PathBuf {
    let given = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    given("SURUS_RUN_DIR")
        .or_else(|| given("XDG_RUNTIME_DIR").map(|folder| folder.join("surus")))
        .unwrap_or_else(|| PathBuf::from(format!("/tmp/surus-{}", rustix::process::geteuid().as_raw())))
}

fn make_private(directory: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(BackupError::file("cannot create", directory)(error));
        }
        _ => {}
    }
    let about = fs::symlink_metadata(directory).map_err(BackupError::file("cannot look at", directory))?;
    let ours = about.uid() == rustix::process::geteuid().as_raw();
    // In /tmp anybody may have made it before.
    match about.is_dir() && ours && about.mode() & 0o077 == 0 {
        true => Ok(()),
        false => Err(unusable(directory, "it is not a directory of this user's alone (mode 0700)")),
    }
}

fn unusable(directory: &Path, why: &str) -> BackupError {
    BackupError::refused(code::WAL_AGENT, format!("no agent can be reached in {}: {why}", directory.display()))
}
