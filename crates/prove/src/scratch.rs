//! Where copies live: one directory, in it a place for each copy, marked with who made it and until when it stays.
//!
//! The mark is written before anything else is, so that what a killed surus leaves behind is known for what it is and
//! goes with the next [`Scratch::sweep`]. What bears no mark is never touched.

use crate::error::{ProveError, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use surus_core::{clock, code};
use surus_pg::server::{kill_leftover, running_pid};

/// The mark's name in a place.
pub const MARK: &str = "surus-copy.json";
/// How a place's directory is named: this and its id.
const PREFIX: &str = "copy-";

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
    fn is_over(&self, now: Timestamp) -> bool {
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
            match builder.create(&dir) {
                Ok(()) => {
                    let made_at = clock::now();
                    let what = what.to_owned();
                    let mark =
                        Mark { format: 1, id, purpose, what, made_at, maker, lasts: false, expires_at: None, detail };
                    let mut place = Place { dir, mark };
                    place.write()?;
                    return Ok(place);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
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
        let swept = over.map(|place| Swept {
            what: place.mark.what.clone(),
            purpose: place.mark.purpose,
            made_at: place.mark.made_at,
            server_stopped: running_pid(&place.data()).is_some(),
            trouble: place.remove().err().map(|error| error.to_string()),
        });
        let swept = swept.collect();
        self.remove_unmarked();
        Ok(swept)
    }

    /// Directories that were made and not yet marked when their maker was killed: empty ones with our name.
    fn remove_unmarked(&self) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let maker = name.strip_prefix(PREFIX).and_then(|id| id.split('-').next()?.parse().ok());
            if maker.is_some_and(|pid: u32| began(pid).is_none()) {
                let _ = fs::remove_file(entry.path().join(format!("{MARK}.tmp")));
                // Only an empty one goes.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

impl Place {
    fn open(dir: PathBuf) -> Option<Self> {
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

    /// Stops the server in it, if one runs, and removes it with all its files. The mark goes last.
    ///
    /// # Errors
    /// When something of it stays; it is still marked then.
    pub fn remove(&self) -> Result<()> {
        kill_leftover(&self.data());
        if let Some(pid) = running_pid(&self.data()) {
            let text = format!("the server in {} (process {pid}) does not stop", self.dir.display());
            return Err(ProveError::refused(code::PROVE_SCRATCH, text));
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
}
