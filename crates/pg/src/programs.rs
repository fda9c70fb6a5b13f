//! Finding PostgreSQL's programs on this machine.
//!
//! Order: `SURUS_PG_BIN` (one or several directories, `:` between them) → the fetched cache → Debian's
//! `/usr/lib/postgresql/*/bin` → what `pg_config --bindir` says → `PATH`. Of two installations of one major the first
//! found wins.

use crate::local::LocalError;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};
use surus_core::version::Version;

/// Where a fetched installation keeps the libraries of its client programs, below its home.
pub const LIBRARIES: &str = "lib/clients";

/// The programs of one installed PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    bin: PathBuf,
    version: Version,
    /// What the dynamic linker must search first; only fetched packages need it.
    libraries: Option<PathBuf>,
}

impl Programs {
    /// Every installation found, newest major first, one for each major.
    pub fn find_all() -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for dir in places() {
            if let Some(programs) = Self::in_bin(&dir)
                && !found.iter().any(|known| known.major() == programs.major())
            {
                found.push(programs);
            }
        }
        found.sort_by_key(|programs| std::cmp::Reverse(programs.version));
        found
    }

    /// The installation of one major; without a wish the newest that also has the client programs, else the newest.
    ///
    /// # Errors
    /// [`LocalError::Programs`] when there is none.
    pub fn find(major: Option<u16>) -> Result<Self, LocalError> {
        let all = Self::find_all();
        let found = match major {
            Some(major) => all.into_iter().find(|programs| programs.major() == major),
            None => all.iter().find(|programs| programs.own("pg_basebackup").is_some()).or(all.first()).cloned(),
        };
        found.ok_or_else(|| LocalError::Programs { wanted: major, looked: places_text() })
    }

    /// The installations in the directories that `SURUS_PG_BIN` names, in its order: somebody's explicit wish.
    pub fn wished_for() -> Vec<Self> {
        let given = env::var_os("SURUS_PG_BIN");
        given.iter().flat_map(env::split_paths).filter_map(|dir| Self::in_bin(&dir)).collect()
    }

    /// The installation whose programs are in this directory, if a server is among them.
    pub fn in_bin(bin: &Path) -> Option<Self> {
        let bin = fs::canonicalize(bin).ok()?;
        let postgres = bin.join("postgres");
        if !(postgres.is_file() && bin.join("initdb").is_file()) {
            return None;
        }
        let libraries = bin.parent().map(|home| home.join(LIBRARIES)).filter(|libraries| libraries.is_dir());
        let mut command = Command::new(&postgres);
        if let Some(libraries) = &libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let output = command.arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = Version::from_text(text.trim().strip_prefix("postgres (PostgreSQL) ")?)?;
        Some(Self { bin, version, libraries })
    }

    /// The major version: 15 for 15.18.
    pub fn major(&self) -> u16 {
        self.version.major()
    }

    /// The full version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The directory of the programs.
    pub fn bin_dir(&self) -> &Path {
        &self.bin
    }

    /// The value that `LD_LIBRARY_PATH` must have for these programs; `None` when they need none.
    pub fn library_path(&self) -> Option<&Path> {
        self.libraries.as_deref()
    }

    /// The path of a program of exactly this installation.
    ///
    /// # Errors
    /// [`LocalError::ProgramMissing`] when this installation lacks it.
    pub fn bin(&self, program: &str) -> Result<PathBuf, LocalError> {
        self.own(program).ok_or_else(|| LocalError::ProgramMissing {
            program: program.to_owned(),
            major: self.major(),
            bin: self.bin.clone(),
        })
    }

    /// The installation to take a client program from: this one, else the oldest newer major that has it. PostgreSQL's
    /// client programs (psql, pg_dump, pg_basebackup, pgbench, …) work with older servers; programs that read a data
    /// directory (pg_rewind, pg_waldump, pg_checksums, …) do not, take those with [`Programs::bin`].
    ///
    /// # Errors
    /// [`LocalError::ProgramMissing`] when no installation has it.
    pub fn with_client(&self, program: &str) -> Result<Self, LocalError> {
        if self.own(program).is_some() {
            return Ok(self.clone());
        }
        let newer = Self::find_all().into_iter().rev().filter(|other| other.major() > self.major());
        let mut newer = newer.filter(|other| other.own(program).is_some());
        newer.next().map_or_else(|| self.bin(program).map(|_| self.clone()), Ok)
    }

    fn own(&self, program: &str) -> Option<PathBuf> {
        Some(self.bin.join(program)).filter(|path| path.is_file())
    }
}

/// The directory that `cargo xtask pg fetch` fills: one `<major>` in it for each fetched PostgreSQL.
/// Root's own cache directory cannot be entered by the account that PostgreSQL runs as, so root gets `/var/cache`.
pub fn cache_dir() -> Option<PathBuf> {
    let given = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = given("SURUS_PG_CACHE") {
        return Some(dir);
    }
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/cache/surus/pg"));
    }
    let cache = given("XDG_CACHE_HOME").or_else(|| given("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("surus/pg"))
}

/// All directories that may hold the programs, in order of preference.
fn places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Some(given) = env::var_os("SURUS_PG_BIN") {
        places.extend(env::split_paths(&given));
    }
    places.extend(cache_dir().iter().flat_map(|cache| versioned(cache)));
    places.extend(versioned(Path::new("/usr/lib/postgresql")));
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !text.is_empty() {
            places.push(PathBuf::from(text));
        }
    }
    places.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
    // Several ways may lead to one place, and asking a program for its version costs more than comparing paths.
    let mut known: Vec<PathBuf> = Vec::new();
    for place in places.into_iter().filter(|dir| dir.is_absolute()).filter_map(|dir| fs::canonicalize(dir).ok()) {
        if !known.contains(&place) {
            known.push(place);
        }
    }
    known
}

/// `<dir>/*/bin`.
fn versioned(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut bins: Vec<PathBuf> = entries.map(|entry| entry.path().join("bin")).filter(|bin| bin.is_dir()).collect();
    bins.sort();
    bins
}

fn places_text() -> String {
    let cache = cache_dir().map_or_else(|| "the fetched cache".to_owned(), |dir| dir.display().to_string());
    format!("SURUS_PG_BIN, {cache}, /usr/lib/postgresql, pg_config --bindir and PATH")
}
