//! Where the files go: what a directory must be to be restored into, and the journal that marks an unfinished restore.
//!
//! The journal is the first thing that is written and the last that goes. Between the two there is no
//! `global/pg_control`, so that no server can be started there.

use crate::{
    control::{self, Control},
    error::{BackupError, Result},
    manifest::About,
    repo::Cluster,
    wal::name::file_kind,
};
use jiff::Timestamp;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use surus_core::{clock, code};
use surus_pg::server::running_pid;

/// The journal's name in the data directory.
pub const JOURNAL: &str = "surus_restore.json";

/// The checkpoint that a restored control file has until a server was started with it.
const DISARMED: u64 = 0xDEAD_BEEF;

/// What an unfinished restore says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    pub format: u32,
    pub label: String,
    pub system_identifier: u64,
    /// Tablespaces' OIDs and where their files go.
    pub tablespaces: Vec<(u32, PathBuf)>,
    pub begun_at: Timestamp,
    pub surus: String,
}

/// What is in the directory now.
#[derive(Debug)]
pub enum Found {
    Absent,
    Empty,
    /// A restore that was broken off. The control file is there only when it came to its last step.
    Unfinished(Journal, Option<Control>),
    Cluster(Control),
    /// Something else; an example of it.
    Foreign(String),
}

/// How the files come into the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// There is nothing yet.
    Fresh,
    /// What is there is compared, and what differs is written.
    Delta,
    /// As delta, after a restore that was broken off.
    Resume,
}

fn refuse<T>(text: String) -> Result<T> {
    Err(BackupError::refused(code::RESTORE_DIRECTORY, text))
}

/// Looks at a directory.
///
/// # Errors
/// When it cannot be read, or a server runs in it.
pub fn look(data: &Path) -> Result<Found> {
    let reading = |path: &Path| BackupError::file("cannot read", path);
    let mut entries = match fs::read_dir(data) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Absent),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return refuse(format!("{} is no directory", data.display()));
        }
        other => other.map_err(reading(data))?,
    };
    if let Some(pid) = running_pid(data) {
        return refuse(format!("a server runs in {} (process {pid}); stop it first", data.display()));
    }
    let control = fs::read(data.join(control::PATH)).ok().and_then(|bytes| Control::parse(&bytes).ok());
    if let Ok(text) = fs::read(data.join(JOURNAL)) {
        return match serde_json::from_slice(&text) {
            Ok(journal) => Ok(Found::Unfinished(journal, control)),
            // It is written under another name first: a broken one is somebody else's.
            Err(error) => refuse(format!("{} cannot be understood: {error}", data.join(JOURNAL).display())),
        };
    }
    if let Some(control) = control {
        return Ok(Found::Cluster(control));
    }
    let unfinished = format!("{JOURNAL}.tmp");
    match entries.find(|entry| entry.as_ref().map_or(true, |entry| *entry.file_name() != *unfinished)) {
        None => Ok(Found::Empty),
        Some(entry) => Ok(Found::Foreign(entry.map_err(reading(data))?.file_name().to_string_lossy().into_owned())),
    }
}

/// May the backup be restored into what was found?
///
/// # Errors
/// When not, with the reason.
pub fn judge(found: &Found, data: &Path, about: &About, delta: bool) -> Result<Way> {
    let data = data.display();
    let other = |id: u64| refuse(format!("{data} is of cluster {id}, and the backup of {}", about.system_identifier));
    match found {
        Found::Absent | Found::Empty => Ok(Way::Fresh),
        Found::Foreign(example) => {
            refuse(format!("{data} holds {example} and is no data directory of this cluster; nothing was touched"))
        }
        Found::Unfinished(journal, _) if journal.system_identifier != about.system_identifier => {
            other(journal.system_identifier)
        }
        Found::Unfinished(_, Some(control)) if control.checkpoint.0 != DISARMED && !delta => refuse(format!(
            "a server was started in {data} since a restore there was broken off; give --delta to overwrite it"
        )),
        Found::Unfinished(..) => Ok(Way::Resume),
        Found::Cluster(control) if control.system_identifier != about.system_identifier => {
            other(control.system_identifier)
        }
        Found::Cluster(_) if delta => Ok(Way::Delta),
        Found::Cluster(_) => refuse(format!(
            "{data} is not empty: it holds this cluster already. Give --delta to make it what the backup is, or another \
             directory"
        )),
    }
}

/// WAL that waits in pg_wal and is not in the archive exists nowhere else: it is not removed.
///
/// # Errors
/// When there is such WAL, or it cannot be told.
pub fn nothing_waits(data: &Path, cluster: &Cluster) -> Result<()> {
    let status = data.join("pg_wal/archive_status");
    let entries = match fs::read_dir(&status) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(BackupError::file("cannot read", &status))?,
    };
    let mut waiting = Vec::new();
    for entry in entries {
        let name = entry.map_err(BackupError::file("cannot read", &status))?.file_name();
        let name = name.to_string_lossy();
        waiting.extend(name.strip_suffix(".ready").filter(|name| file_kind(name).is_some()).map(str::to_owned));
    }
    waiting.retain(|name| data.join("pg_wal").join(name).exists());
    waiting.sort_unstable();
    for name in &waiting {
        if cluster.repo.place().read_range(&cluster.names.wal(name), 0..1)?.is_none() {
            let pg_wal = data.join("pg_wal");
            return refuse(format!(
                "{name} in {} was never archived, and {} files there wait for it: what they hold would be lost. Archive \
                 them with surus wal push, or, when they are not wanted, remove their .ready files in archive_status; \
                 nothing was touched",
                pg_wal.display(),
                waiting.len()
            ));
        }
    }
    Ok(())
}

/// A tablespace and where its files go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Space {
    pub oid: u32,
    /// Where it was when the backup was taken.
    pub was: PathBuf,
    pub to: PathBuf,
}

/// The user's wishes for tablespaces.
#[derive(Debug, Clone, Default)]
pub struct SpaceMap {
    pub each: Vec<(u32, PathBuf)>,
    /// The rest goes below this, each into a directory named by its OID.
    pub root: Option<PathBuf>,
}

impl SpaceMap {
    /// Where each tablespace of the backup goes. Those that lie in the data directory itself go with it.
    ///
    /// # Errors
    /// When a wish is for a tablespace that the backup has not, or two would share a place.
    pub fn spaces(&self, about: &About, data: &Path) -> Result<Vec<Space>> {
        let outside: Vec<_> = about.tablespaces.iter().filter(|space| space.path.starts_with('/')).collect();
        if let Some((oid, _)) = self.each.iter().find(|(oid, _)| !outside.iter().any(|space| space.oid == *oid)) {
            let all = outside.iter().map(|space| space.oid.to_string()).collect::<Vec<_>>().join(", ");
            return refuse(format!("the backup has no tablespace {oid}; it has: {all}"));
        }
        let place = |space: &&crate::manifest::Tablespace| {
            let own = self.each.iter().find(|(oid, _)| *oid == space.oid).map(|(_, to)| to.clone());
            let below = || self.root.as_ref().map(|root| root.join(space.oid.to_string()));
            let to = own.or_else(below).unwrap_or_else(|| PathBuf::from(&space.path));
            Space { oid: space.oid, was: PathBuf::from(&space.path), to }
        };
        let spaces: Vec<Space> = outside.iter().map(place).collect();
        for (number, space) in spaces.iter().enumerate() {
            let to = &space.to;
            if !to.is_absolute() || to.starts_with(data) || data.starts_with(to) {
                let text = format!(
                    "tablespace {} cannot go to {}: give a place outside of the data directory",
                    space.oid,
                    to.display()
                );
                return refuse(text);
            }
            let shared = spaces[..number].iter().find(|other| other.to.starts_with(to) || to.starts_with(&other.to));
            if let Some(other) = shared {
                return refuse(format!(
                    "tablespaces {} and {} would both go to {}",
                    space.oid,
                    other.oid,
                    to.display()
                ));
            }
        }
        Ok(spaces)
    }
}

/// May the tablespace's files go where they are to go? Only into nothing, or, when files are compared, into what
/// this very data directory used for it.
///
/// # Errors
/// When not.
pub fn judge_space(space: &Space, found: &Found, data: &Path) -> Result<()> {
    let mut entries = match fs::read_dir(&space.to) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(BackupError::file("cannot read", &space.to))?,
    };
    if entries.next().is_none() {
        return Ok(());
    }
    let link = fs::read_link(data.join("pg_tblspc").join(space.oid.to_string())).ok();
    let ours = match found {
        Found::Cluster(_) => link.is_some_and(|link| link == space.to),
        Found::Unfinished(journal, _) => journal.tablespaces.contains(&(space.oid, space.to.clone())),
        _ => false,
    };
    if ours {
        return Ok(());
    }
    refuse(format!(
        "{}, where tablespace {} was, is not empty; give another place with --tablespace {}=DIR",
        space.to.display(),
        space.oid,
        space.oid
    ))
}

/// The directory is ours until this goes.
#[derive(Debug)]
pub struct Claim {
    data: PathBuf,
    // Its lock keeps a second restore out.
    _journal: File,
}

impl Claim {
    /// Marks the directory as being restored into, durably, and takes the control file away.
    ///
    /// # Errors
    /// When another restore is at work there, or the journal cannot be written.
    pub fn take(data: &Path, about: &About, spaces: &[Space]) -> Result<Self> {
        let path = data.join(JOURNAL);
        let writing = |path: &Path| BackupError::file("cannot write", path);
        if let Ok(there) = File::open(&path) {
            lock(&there, data)?;
        }
        let journal = Journal {
            format: 1,
            label: about.label.clone(),
            system_identifier: about.system_identifier,
            tablespaces: spaces.iter().map(|space| (space.oid, space.to.clone())).collect(),
            begun_at: clock::now(),
            surus: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let unfinished = data.join(format!("{JOURNAL}.tmp"));
        let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
        let mut file = open.map_err(writing(&unfinished))?;
        lock(&file, data)?;
        let written = file.write_all(&crate::repo::json(&journal)).and_then(|()| file.sync_all());
        written.and_then(|()| fs::rename(&unfinished, &path)).map_err(writing(&path))?;
        flush(data)?;
        let control = data.join(control::PATH);
        match fs::remove_file(&control) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(writing(&control)(error)),
            Err(_) => {}
            Ok(()) => flush(&data.join("global"))?,
        }
        Ok(Self { data: data.to_owned(), _journal: file })
    }

    /// Everything else is on disk: the control file gets its name, and the journal goes.
    ///
    /// # Errors
    /// When that cannot be written; the directory stays marked.
    pub fn finish(self, control: &[u8], mode: u32, own: impl Fn(&File) -> std::io::Result<()>) -> Result<()> {
        let path = self.data.join(control::PATH);
        let unfinished = path.with_extension("surus");
        let writing = |path: &Path| BackupError::file("cannot write", path);
        let open = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&unfinished);
        let mut file = open.map_err(writing(&unfinished))?;
        let written = file.write_all(control).and_then(|()| own(&file)).and_then(|()| file.sync_all());
        written.and_then(|()| fs::rename(&unfinished, &path)).map_err(writing(&path))?;
        flush(&self.data.join("global"))?;
        let journal = self.data.join(JOURNAL);
        fs::remove_file(&journal).map_err(writing(&journal))?;
        flush(&self.data)
    }
}

/// Keeps a second restore out, where the filesystem knows locks.
fn lock(journal: &File, data: &Path) -> Result<()> {
    match flock(journal, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            let text = format!("another restore into {} is at work", data.display());
            Err(BackupError::refused(code::BACKUP_BUSY, text))
        }
        _ => Ok(()),
    }
}

fn flush(directory: &Path) -> Result<()> {
    let synced = File::open(directory).and_then(|opened| opened.sync_all());
    synced.map_err(BackupError::file("cannot flush", directory))
}

/// The nearest directory that is there: itself, or one above it.
pub fn nearest(path: &Path) -> PathBuf {
    let there = path.ancestors().find(|above| above.is_dir());
    there.map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

/// The filesystem of the nearest directory that is there.
pub fn device(path: &Path) -> Option<u64> {
    fs::metadata(nearest(path)).ok().map(|about| about.dev())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Tablespace, tests::example};

    #[test]
    fn wal_that_was_never_archived_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let repo = crate::repo::Repo::in_folder(&dir.path().join("repo")).unwrap();
        let (cluster, data) = (repo.cluster(7), dir.path().join("data"));
        nothing_waits(&data, &cluster).unwrap();
        let status = data.join("pg_wal/archive_status");
        fs::create_dir_all(&status).unwrap();
        let names = ["000000010000000000000001", "000000010000000000000002"];
        for name in names {
            fs::write(data.join("pg_wal").join(name), b"x").unwrap();
            fs::write(status.join(format!("{name}.ready")), b"").unwrap();
        }
        repo.place().create(&cluster.names.wal(names[0]), b"x").unwrap();
        let refused = nothing_waits(&data, &cluster).unwrap_err();
        assert!(refused.code() == code::RESTORE_DIRECTORY && refused.to_string().contains(names[1]), "{refused}");
        repo.place().create(&cluster.names.wal(names[1]), b"x").unwrap();
        nothing_waits(&data, &cluster).unwrap();
    }

    #[test]
    fn only_nothing_or_the_same_cluster_is_restored_into() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let about = example("a").about;
        let judged = |delta| judge(&look(&data).unwrap(), &data, &about, delta);
        assert_eq!(judged(false).unwrap(), Way::Fresh);
        fs::create_dir(&data).unwrap();
        assert_eq!(judged(true).unwrap(), Way::Fresh);
        fs::write(data.join("holiday.jpg"), b"..").unwrap();
        assert!(judged(false).is_err() && judged(true).is_err());
        let claim = Claim::take(&data, &about, &[]).unwrap();
        assert_eq!(judged(false).unwrap(), Way::Resume);
        assert_eq!(Claim::take(&data, &about, &[]).unwrap_err().code(), code::BACKUP_BUSY);
        drop(claim);
        Claim::take(&data, &about, &[]).unwrap();
        let mut other = about.clone();
        other.system_identifier = 43;
        assert!(judge(&look(&data).unwrap(), &data, &other, true).unwrap_err().to_string().contains("of cluster 42"));
    }

    #[test]
    fn tablespaces_go_where_they_may() {
        let mut about = example("a").about;
        about.tablespaces = vec![
            Tablespace { oid: 7, path: "/srv/seven".into() },
            Tablespace { oid: 8, path: "/srv/eight".into() },
            Tablespace { oid: 9, path: "pg_tblspc/9".into() },
        ];
        let data = Path::new("/srv/data");
        let to = |map: &SpaceMap| {
            let spaces = map.spaces(&about, data)?;
            Ok::<_, BackupError>(spaces.into_iter().map(|space| space.to.display().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(to(&SpaceMap::default()).unwrap(), ["/srv/seven", "/srv/eight"]);
        let map = |each: &[(u32, &str)], root: Option<&str>| SpaceMap {
            each: each.iter().map(|(oid, to)| (*oid, PathBuf::from(to))).collect(),
            root: root.map(PathBuf::from),
        };
        assert_eq!(to(&map(&[(7, "/x")], Some("/new"))).unwrap(), ["/x", "/new/8"]);
        for bad in [map(&[(6, "/x")], None), map(&[(7, "/srv/eight/7")], None), map(&[(7, "/srv/data/7")], None)] {
            assert!(to(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_tablespace_that_is_in_use_elsewhere_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space { oid: 7, was: "/was".into(), to: dir.path().join("space") };
        judge_space(&space, &Found::Empty, dir.path()).unwrap();
        fs::create_dir_all(space.to.join("PG_15")).unwrap();
        assert!(judge_space(&space, &Found::Empty, dir.path()).is_err());
        let mut about = example("a").about;
        about.label = "x".into();
        Claim::take(dir.path(), &about, std::slice::from_ref(&space)).unwrap();
        judge_space(&space, &look(dir.path()).unwrap(), dir.path()).unwrap();
    }
}
