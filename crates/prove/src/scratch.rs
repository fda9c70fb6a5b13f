//! Where copies live: one directory, in it a place for each copy, marked with who made it and until when it stays.
//!
//! The mark is written before anything else is, so that what a killed surus leaves behind is known for what it is and
//! goes with the next [`Scratch::sweep`]. What bears no mark is never touched.

use crate::error::{ProveError, Result};
use jiff::Timestamp;
use rustix::{
    fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use surus_core::{clock, code};
use surus_pg::server::{kill_leftover, running_pid};

/// The mark's name in a place.
pub const MARK: &str = "surus-copy.json";
/// How a place's directory is named: this and its id.
const PREFIX: &str = "copy-";
/// And before it is one.
const UNMARKED: &str = ".new-";
/// Who uses a copy that lasts holds this file of its place locked (shared); who removes it unasked locks it alone.
const IN_USE: &str = "in-use";

/// What a copy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A restore drill: goes when the drill ends.
    Drill,
    /// A look into the past: stays warm for a while.
    Moment,
    /// A clone to work with: stays until it expires.
    Clone,
}

/// A process, so that another one with its number is not taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    pub pid: u32,
    /// Ticks after boot at which it began: field 22 of /proc/PID/stat.
    pub began: u64,
}

impl Maker {
    /// This process.
    pub fn myself() -> Self {
        let pid = std::process::id();
        Self { pid, began: began(pid).unwrap_or(0) }
    }

    /// Does it still run?
    pub fn lives(self) -> bool {
        began(self.pid).is_some_and(|began| began == self.began)
    }
}

/// When a process began, in ticks after boot; none when it does not run (any more).
fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // The state is field 3.
    (!matches!(*fields.first()?, "Z" | "X")).then(|| fields.get(19)?.parse().ok())?
}

/// What a place says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    pub format: u32,
    pub id: String,
    pub purpose: Purpose,
    /// In a word: the cluster, the moment, the backup.
    pub what: String,
    pub made_at: Timestamp,
    pub maker: Maker,
    /// Is it complete, and does it outlive its maker?
    pub lasts: bool,
    /// When it may go; without it, with its maker, or never where it lasts.
    pub expires_at: Option<Timestamp>,
    /// What its purpose needs to know again.
    #[serde(default)]
    pub detail: serde_json::Value,
}

impl Mark {
    /// May it go now?
    pub fn is_over(&self, now: Timestamp) -> bool {
        if self.lasts { self.expires_at.is_some_and(|end| end <= now) } else { !self.maker.lives() }
    }
}

/// The directory of all copies.
#[derive(Debug, Clone)]
pub struct Scratch {
    root: PathBuf,
}

/// One copy's place. Its files go with [`Place::remove`]; when that is never called, with a later sweep.
#[derive(Debug, Clone)]
pub struct Place {
    dir: PathBuf,
    pub mark: Mark,
}

/// As long as this is there, nobody removes the copy unasked.
#[derive(Debug)]
pub struct Hold {
    _file: File,
}

/// As long as this is there, nobody else has the lock of that name.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever waits for it finds out that it is gone, and makes another one.
        let _ = fs::remove_file(&self.path);
    }
}

/// What a sweep found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Swept {
    pub what: String,
    pub purpose: Purpose,
    pub made_at: Timestamp,
    /// A server still ran there and was stopped.
    pub server_stopped: bool,
    /// Why it could not be removed; none when it is gone.
    pub trouble: Option<String>,
}

impl Scratch {
    /// All copies below this directory, which is made when the first copy is.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a place for a new copy.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn make(&self, purpose: Purpose, what: &str, detail: serde_json::Value) -> Result<Place> {
        // The server's account must be able to enter, nobody to look around.
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o711);
        builder.recursive(true).create(&self.root).map_err(ProveError::file("cannot make", &self.root))?;
        let root = fs::canonicalize(&self.root).map_err(ProveError::file("cannot find", &self.root))?;
        builder.recursive(false);
        let maker = Maker::myself();
        for number in 0..10_000 {
            let id = format!("{}-{number}", maker.pid);
            let dir = root.join(format!("{PREFIX}{id}"));
            // It gets its name with its mark in it: whoever is killed leaves no copy behind that bears none.
            let unmarked = root.join(format!("{UNMARKED}{id}"));
            match builder.create(&unmarked) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(ProveError::file("cannot make", &unmarked))?,
            }
            let mark = Mark {
                format: 1,
                id,
                purpose,
                what: what.to_owned(),
                made_at: clock::now(),
                maker,
                lasts: false,
                expires_at: None,
                detail: detail.clone(),
            };
            let mut place = Place { dir: unmarked.clone(), mark };
            place.write()?;
            match rename_new(&unmarked, &dir) {
                Ok(()) => return Ok(Place { dir, ..place }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => remove_marks(&unmarked),
                Err(error) => return Err(ProveError::file("cannot make", &dir)(error)),
            }
        }
        Err(ProveError::refused(code::PROVE_SCRATCH, format!("{} is full of copies", root.display())))
    }

    /// Every place that bears a mark, oldest first.
    ///
    /// # Errors
    /// When the directory is there and cannot be read.
    pub fn places(&self) -> Result<Vec<Place>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(ProveError::file("cannot read", &self.root))?,
        };
        let mut places: Vec<Place> = entries.flatten().filter_map(|entry| Place::open(entry.path())).collect();
        places.sort_by(|one, other| (one.mark.made_at, &one.mark.id).cmp(&(other.mark.made_at, &other.mark.id)));
        Ok(places)
    }

    /// Removes what is over: copies whose maker was killed, and those that have expired. Servers in them are stopped.
    ///
    /// # Errors
    /// As [`Scratch::places`]; what cannot be removed is told in the answer.
    pub fn sweep(&self) -> Result<Vec<Swept>> {
        let now = clock::now();
        let over = self.places()?.into_iter().filter(|place| place.mark.is_over(now));
        let swept = over.filter_map(|place| {
            let server_stopped = running_pid(&place.data()).is_some();
            let trouble = match place.remove_if_over() {
                Ok(false) => return None,
                Ok(true) => None,
                Err(error) => Some(error.to_string()),
            };
            let (what, purpose, made_at) = (place.mark.what.clone(), place.mark.purpose, place.mark.made_at);
            Some(Swept { what, purpose, made_at, server_stopped, trouble })
        });
        let swept = swept.collect();
        self.remove_unmarked();
        Ok(swept)
    }

    /// Waits until nobody else has the lock of that name, and has it; `waiting` is called once when somebody has it.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn lock(&self, name: &str, waiting: impl FnOnce()) -> Result<Lock> {
        fs::DirBuilder::new()
            .mode(0o711)
            .recursive(true)
            .create(&self.root)
            .map_err(ProveError::file("cannot make", &self.root))?;
        let path = self.root.join(format!("{name}.lock"));
        let failed = || ProveError::file("cannot lock", &path);
        let mut waiting = Some(waiting);
        loop {
            let mut options = OpenOptions::new();
            let file = options.create(true).write(true).truncate(false).mode(0o600).open(&path).map_err(failed())?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                waiting.take().into_iter().for_each(|waiting| waiting());
                flock(&file, FlockOperation::LockExclusive).map_err(|error| failed()(error.into()))?;
            }
            // The one before removed the file while we waited for it: then this lock is nobody's.
            let (ours, there) = (file.metadata().map_err(failed())?, fs::metadata(&path));
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Lock { _file: file, path });
            }
        }
    }

    /// Directories that were not yet marked, or no longer, when who made or removed them was killed: empty ones with
    /// our name.
    fn remove_unmarked(&self) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let id = name.strip_prefix(PREFIX).or_else(|| name.strip_prefix(UNMARKED));
            let maker = id.and_then(|id| id.split('-').next()?.parse().ok());
            if maker.is_some_and(|pid: u32| began(pid).is_none()) {
                if name.starts_with(UNMARKED) {
                    remove_marks(&entry.path());
                }
                // Only an empty one goes.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

/// Removes a directory in which nothing is but its mark. Another one stays.
fn remove_marks(dir: &Path) {
    for name in [MARK.to_owned(), format!("{MARK}.tmp")] {
        let _ = fs::remove_file(dir.join(name));
    }
    let _ = fs::remove_dir(dir);
}

/// Gives a directory its name, which must be free. A filesystem that cannot say so in one step is asked in two.
fn rename_new(from: &Path, to: &Path) -> std::io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if !to.exists() => fs::rename(from, to),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Err(Errno::EXIST.into()),
        other => other.map_err(Into::into),
    }
}

impl Place {
    /// The place in a directory, if that bears a mark.
    pub fn open(dir: PathBuf) -> Option<Self> {
        let named = dir.file_name()?.to_string_lossy().starts_with(PREFIX);
        let mark = fs::read(dir.join(MARK)).ok().filter(|_| named)?;
        Some(Self { mark: serde_json::from_slice(&mark).ok()?, dir })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the data directory goes.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Where tablespaces go, each into a directory named by its OID.
    pub fn tablespaces(&self) -> PathBuf {
        self.dir.join("tablespaces")
    }

    /// From now on it outlives this process, until then; without a time, until it is removed.
    ///
    /// # Errors
    /// When its mark cannot be written.
    pub fn keep(&mut self, until: Option<Timestamp>) -> Result<()> {
        (self.mark.lasts, self.mark.expires_at) = (true, until);
        self.write()
    }

    /// Writes the mark anew, e.g. after its detail was changed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self) -> Result<()> {
        let path = self.dir.join(MARK);
        let new = self.dir.join(format!("{MARK}.tmp"));
        let write = || -> std::io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec_pretty(&self.mark)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(ProveError::file("cannot write", &path))
    }

    /// Keeps others from removing it unasked; none when somebody is about to, or has.
    pub fn hold(&self) -> Option<Hold> {
        let mut options = OpenOptions::new();
        let file = options.create(true).write(true).truncate(false).mode(0o600).open(self.dir.join(IN_USE)).ok()?;
        flock(&file, FlockOperation::NonBlockingLockShared).ok()?;
        Self::open(self.dir.clone()).map(|_| Hold { _file: file })
    }

    /// Removes it when it is over by its mark as it is now, and nobody holds it. Was it removed?
    ///
    /// # Errors
    /// As [`Place::remove`].
    pub fn remove_if_over(&self) -> Result<bool> {
        let path = self.dir.join(IN_USE);
        let file = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(ProveError::file("cannot lock", &path))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(false);
        }
        // Whoever used it until now may have put off its end.
        match Self::open(self.dir.clone()) {
            Some(now) if now.mark.is_over(clock::now()) => self.remove().map(|()| true),
            _ => Ok(false),
        }
    }

    /// Stops the server in it, if one runs, and removes it with all its files. The mark goes last.
    ///
    /// # Errors
    /// When something of it stays; it is still marked then.
    pub fn remove(&self) -> Result<()> {
        let socket_directory = self.socket_directory();
        kill_leftover(&self.data());
        if let Some(pid) = running_pid(&self.data()) {
            let text = format!("the server in {} (process {pid}) does not stop", self.dir.display());
            return Err(ProveError::refused(code::PROVE_SCRATCH, text));
        }
        if let Some(elsewhere) = socket_directory.filter(|directory| !directory.starts_with(&self.dir)) {
            // One of its own, made where this path was too long for a socket. Only an empty one goes.
            let _ = fs::remove_dir(elsewhere);
        }
        let failed = || ProveError::file("cannot remove", &self.dir);
        for entry in fs::read_dir(&self.dir).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            if entry.file_name() == MARK {
                continue;
            }
            let directory = entry.file_type().map_err(failed())?.is_dir();
            if directory { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) }
                .map_err(failed())?;
        }
        fs::remove_file(self.dir.join(MARK)).and_then(|()| fs::remove_dir(&self.dir)).map_err(failed())
    }

    /// Where the server that runs in it has its socket. Source: line 5 of `postmaster.pid`.
    pub fn socket_directory(&self) -> Option<PathBuf> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        text.lines().nth(4).map(str::trim).filter(|line| !line.is_empty()).map(PathBuf::from)
    }
}
