//! The demo's directory: who owns it, what a killed demo left there, and its removal.
//!
//! `.surus-demo` in it is locked while its demo runs. The kernel gives a lock back however the process ends, so a
//! directory whose lock is free is left over, or kept if the file says so.

use crate::failure::Failure;
use std::{
    fs::{self, File, TryLockError},
    io::Write,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use surus_core::{clock::Deadline, code, size::Bytes};
use surus_pg::server::{kill_leftover, running_pid};

const MARK: &str = ".surus-demo";
const KEPT: &str = "kept";
/// The servers that may be in it.
pub const NODES: [&str; 2] = ["primary", "standby"];
/// What both servers take when they are empty, with their WAL; measured, and some more for the archive.
const BYTES: u64 = 320 << 20;
/// A row with its indexes, WAL and archived WAL, on both servers.
const BYTES_PER_ROW: u64 = 1500;
/// A killed server's last children may still write for a moment.
const REMOVE_WITHIN: Duration = Duration::from_secs(5);

/// A directory that belongs to this demo.
#[derive(Debug)]
pub struct Site {
    path: PathBuf,
    lock: File,
    /// It was there before, empty, and stays.
    given: bool,
    /// A directory of ours around it, removed when it is empty.
    root: Option<PathBuf>,
    /// What had to be cleared away first, for the user to read.
    pub notes: Vec<String>,
    /// A kept demo is in it, which can be started again.
    pub resumed: bool,
}

impl Site {
    /// The directory that was asked for, or a new temporary one.
    pub fn open(dir: Option<&Path>) -> Result<Self, Failure> {
        match dir {
            Some(dir) => Self::given(dir),
            None => Self::temporary(),
        }
    }

    /// Is there room for the servers with so many rows? Known before anything is made.
    pub fn needs_room_for(&self, rows: u64) -> Result<(), Failure> {
        let wanted = BYTES + rows.saturating_mul(BYTES_PER_ROW);
        match surus_pg::host::room(&self.path) {
            Some(room) if room.free_bytes < wanted => {
                let (free, wanted) = (Bytes(room.free_bytes), Bytes(wanted));
                let why = format!("{} has {free} left and the demo needs about {wanted}", self.path.display());
                Err(Failure::new(code::LOCAL_DIRECTORY, why))
            }
            _ => Ok(()),
        }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn given(dir: &Path) -> Result<Self, Failure> {
        let existed = dir.exists();
        fs::create_dir_all(dir).map_err(|error| unusable(dir, &error))?;
        let path = fs::canonicalize(dir).map_err(|error| unusable(dir, &error))?;
        let entries: Vec<_> = fs::read_dir(&path).map_err(|error| unusable(dir, &error))?.flatten().collect();
        let marked = path.join(MARK).is_file();
        if !entries.is_empty() && !marked {
            let why = format!("{} is not empty and is not a demo's; nothing was written there", path.display());
            return Err(Failure::new(code::LOCAL_DIRECTORY, why));
        }
        let lock = lock(&path)?;
        let resumed = marked && is_kept(&path);
        let mut notes = Vec::new();
        if marked && !resumed {
            notes.push(clear(&path).map_err(|error| unusable(&path, &error))?);
        }
        let site = Self { path, lock, given: existed && !marked, root: None, notes, resumed };
        site.mark(&format!("running, pid {}", std::process::id()))?;
        Ok(site)
    }

    fn temporary() -> Result<Self, Failure> {
        let uid = rustix::process::geteuid();
        // Root's servers run as another account, which must be able to enter.
        let mode = if uid.is_root() { 0o755 } else { 0o700 };
        let root = std::env::temp_dir().join(format!("surus-demo-{}", uid.as_raw()));
        fs::DirBuilder::new().recursive(true).mode(mode).create(&root).map_err(|error| unusable(&root, &error))?;
        let meta = fs::symlink_metadata(&root).map_err(|error| unusable(&root, &error))?;
        if !meta.is_dir() || meta.uid() != uid.as_raw() || meta.mode() & 0o022 != 0 {
            let why = format!("{} is not a directory that only this user can write to", root.display());
            return Err(Failure::new(code::LOCAL_DIRECTORY, why));
        }
        let root = fs::canonicalize(&root).map_err(|error| unusable(&root, &error))?;
        let notes = sweep(&root);
        let path = (0..)
            .map(|number| root.join(format!("{}-{number}", std::process::id())))
            .find(|path| !path.exists())
            .ok_or_else(|| Failure::bug("numbers ran out"))?;
        fs::DirBuilder::new().mode(mode).create(&path).map_err(|error| unusable(&path, &error))?;
        let site = Self { lock: lock(&path)?, path, given: false, root: Some(root), notes, resumed: false };
        site.mark(&format!("running, pid {}", std::process::id()))?;
        Ok(site)
    }

    fn mark(&self, text: &str) -> Result<(), Failure> {
        let write = || -> std::io::Result<()> {
            self.lock.set_len(0)?;
            std::io::Seek::rewind(&mut &self.lock)?;
            writeln!(&self.lock, "{text}")
        };
        write().map_err(|error| unusable(&self.path, &error))
    }

    /// Leaves everything where it is, for a later start.
    pub fn keep(self) -> Result<(), Failure> {
        self.mark(KEPT)
    }

    /// Removes everything.
    pub fn remove(self) -> Result<(), Failure> {
        let emptied = remove_contents(&self.path).and_then(|()| fs::remove_file(self.path.join(MARK)));
        emptied.map_err(|error| unusable(&self.path, &error))?;
        if !self.given {
            fs::remove_dir(&self.path).map_err(|error| unusable(&self.path, &error))?;
        }
        if let Some(root) = &self.root {
            // Other demos may be in it.
            let _ = fs::remove_dir(root);
        }
        Ok(())
    }
}

/// Writes a file with these permissions, whatever the umask.
pub fn write_file(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())
    };
    write().map_err(|error| unusable(path, &error))
}

/// Why the directory is of no use.
pub fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(code::LOCAL_DIRECTORY, format!("{} cannot be used: {error}", path.display()))
}

fn lock(path: &Path) -> Result<File, Failure> {
    let mark = path.join(MARK);
    let file = File::options().create(true).truncate(false).read(true).write(true).open(&mark);
    let file = file.map_err(|error| unusable(path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let state = fs::read_to_string(&mark).unwrap_or_default();
            let why = format!("another demo uses {} ({}); nothing was done", path.display(), state.trim());
            Err(Failure::new(code::LOCAL_DIRECTORY, why))
        }
        Err(TryLockError::Error(error)) => Err(unusable(path, &error)),
    }
}

fn is_kept(path: &Path) -> bool {
    fs::read_to_string(path.join(MARK)).is_ok_and(|text| text.trim() == KEPT)
}

/// Removes what killed demos left below `root`; those that are kept or run stay.
fn sweep(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let left_over = entries.filter(|path| path.join(MARK).is_file() && !is_kept(path));
    let mut notes = Vec::new();
    for path in left_over {
        let Ok(lock) = File::open(path.join(MARK)) else { continue };
        if lock.try_lock().is_err() {
            continue;
        }
        let note = clear(&path).and_then(|note| fs::remove_dir_all(&path).map(|()| note));
        notes.push(note.unwrap_or_else(|error| format!("{} is left over and stays: {error}", path.display())));
    }
    notes
}

/// Stops the servers that run in a left-over directory and empties it, but for the mark.
fn clear(path: &Path) -> std::io::Result<String> {
    let mut stopped = Vec::new();
    for data in NODES.map(|node| path.join(node).join("data")) {
        let sockets = socket_dir(&data);
        if let Some(pid) = running_pid(&data) {
            kill_leftover(&data);
            stopped.push(pid.to_string());
        }
        if let Some(dir) = sockets.filter(|dir| dir.starts_with("/tmp/") && !dir.starts_with(path)) {
            // Made for a server whose own path is too long for a socket.
            let _ = fs::remove_dir_all(dir);
        }
    }
    remove_contents(path)?;
    let servers = match stopped.as_slice() {
        [] => "no server of it was running".to_owned(),
        pids => format!("its servers still ran (pid {}) and were stopped", pids.join(", ")),
    };
    Ok(format!("an earlier demo in {} had been killed; {servers}, its files removed", path.display()))
}

/// Line 5 of the pid file. Source: PostgreSQL, `src/include/utils/pidfile.h`.
fn socket_dir(data: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let line = text.lines().nth(4)?.trim();
    line.rsplit('/').next().is_some_and(|name| name.starts_with("surus-")).then(|| line.into())
}

/// Removes all but the mark, which carries the lock.
fn remove_contents(path: &Path) -> std::io::Result<()> {
    let deadline = Deadline::after(REMOVE_WITHIN);
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == MARK {
            continue;
        }
        loop {
            let removed = match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path()),
                false => fs::remove_file(entry.path()),
            };
            match removed {
                Err(_) if !deadline.passed() => thread::sleep(Duration::from_millis(50)),
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => break,
            }
        }
    }
    Ok(())
}
