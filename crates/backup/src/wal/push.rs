//! A file of pg_wal goes into the repository: acknowledged when it is durable there, never in place of another.

use super::{
    name::{FileKind, Segment, file_kind},
    pack::{self, Content, FileContent},
    segment::{HEADER, SegmentHeader},
    timeline::History,
};
use crate::{
    error::{BackupError, Result},
    repo::{
        Cluster, Repo,
        codec::Codec,
        container::{Damage, Kind, read_object},
        place::Created,
    },
};
use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Mutex, PoisonError},
};
use surus_core::code;

/// What became of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the archive now.
    New,
    /// It was there already, with the same content.
    Same,
}

/// Which file it is that a path leads to, and whether it was changed: a segment that was renamed, replaced or written
/// to has another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Identity {
    /// Of the file that the path leads to now.
    ///
    /// # Errors
    /// When there is none, or it cannot be looked at.
    pub fn of(path: &Path) -> Result<Self> {
        fs::metadata(path).map(|about| Self::from(&about)).map_err(BackupError::file("cannot read", path))
    }
}

impl From<&fs::Metadata> for Identity {
    fn from(about: &fs::Metadata) -> Self {
        let modified = (about.mtime(), about.mtime_nsec());
        Self { device: about.dev(), inode: about.ino(), size: about.size(), modified }
    }
}

/// Archives a file under its own name. A segment's header says which cluster it is of; for the others `cluster` must be
/// known.
///
/// # Errors
/// When it is not what its name says, another file of that name is there, or it could not be stored.
pub fn push_file(repo: &Repo, path: &Path, cluster: Option<u64>, codec: Codec) -> Result<Pushed> {
    Archiver::new(repo.clone(), cluster, codec).push_file(path, 1)
}

/// Archives content under the name of a file of pg_wal.
///
/// # Errors
/// As [`push_file`].
pub fn push(repo: &Repo, name: &str, content: &[u8], cluster: Option<u64>, codec: Codec) -> Result<Pushed> {
    Archiver::new(repo.clone(), cluster, codec).push(name, &content, 1, || Ok(()))
}

/// Archives files of one cluster, one after another or several at a time.
#[derive(Debug)]
pub struct Archiver {
    repo: Repo,
    cluster: Option<u64>,
    codec: Codec,
    /// The cluster and segment size that the repository was told, or asked, already.
    registered: Mutex<Option<(u64, u64)>>,
}

impl Archiver {
    /// For this repository. `cluster` is the expected system identifier, where it is known.
    pub fn new(repo: Repo, cluster: Option<u64>, codec: Codec) -> Self {
        Self { repo, cluster, codec, registered: Mutex::default() }
    }

    /// The repository.
    pub fn repo(&self) -> &Repo {
        &self.repo
    }

    /// Archives a file under its own name; `threads` compress it.
    ///
    /// # Errors
    /// As [`push_file`], and when the file was changed meanwhile.
    pub fn push_file(&self, path: &Path, threads: usize) -> Result<Pushed> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if file_kind(name).is_none() {
            return Err(no_name(name));
        }
        let file = File::open(path).map_err(BackupError::file("cannot read", path))?;
        let about = file.metadata().map_err(BackupError::file("cannot read", path))?;
        let before = Identity::from(&about);
        let content = FileContent { file, size: about.len() };
        self.push(name, &content, threads, || match Identity::of(path)? == before {
            true => Ok(()),
            false => Err(refusal(name, "it was changed while it was read")),
        })
    }

    /// Archives content; `unchanged` is asked between reading it and storing it.
    fn push(
        &self,
        name: &str,
        content: &dyn Content,
        threads: usize,
        unchanged: impl FnOnce() -> Result<()>,
    ) -> Result<Pushed> {
        let kind = file_kind(name).ok_or_else(|| no_name(name))?;
        // A folder that was unmounted meanwhile must not be made anew, or filled, on the disk below it.
        if self.repo.place().local_folder().is_some() {
            self.repo.still_there()?;
        }
        let cluster = match kind {
            FileKind::Segment | FileKind::Partial => self.check_segment(name, content)?,
            kind @ (FileKind::History | FileKind::Backup) => self.check_text(kind, name, content)?,
        };
        let object = cluster.names.wal(name);
        let unread = |error: std::io::Error| refusal(name, &format!("it cannot be read: {error}"));
        let body = pack::sealed(&self.repo, &object, self.codec, content, threads).map_err(unread)?;
        unchanged()?;
        match self.repo.place().create(&object, &body)? {
            Created::New => Ok(Pushed::New),
            Created::AlreadyThere => self.compare(name, &object, content),
        }
    }

    /// A segment must be what its name says, of the right cluster.
    fn check_segment(&self, name: &str, content: &dyn Content) -> Result<Cluster> {
        let mut start = [0; HEADER];
        let header = content.read_at(&mut start, 0).ok().and_then(|()| SegmentHeader::parse(&start));
        let Some(header) = header else {
            return Err(refusal(name, "it does not begin as a WAL segment does"));
        };
        let Some(segment) = Segment::parse(&name[..24], header.segment_size) else {
            let why = format!("there is no such segment where segments have {} bytes", header.segment_size);
            return Err(refusal(name, &why));
        };
        header.fits(segment, content.size(), self.cluster).map_err(|misfit| refusal(name, &misfit.to_string()))?;
        let found = self.repo.cluster(header.system_identifier);
        let mut registered = self.registered.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = (header.system_identifier, header.segment_size);
        if *registered != Some(wanted) {
            found.register(header.segment_size, None)?;
            *registered = Some(wanted);
        }
        Ok(found)
    }

    /// A history file must be one that a server would understand: recovery follows it.
    fn check_text(&self, kind: FileKind, name: &str, content: &dyn Content) -> Result<Cluster> {
        /// Far more than a thousand timelines.
        const LONGEST: u64 = 1 << 20;
        if content.size() > LONGEST {
            return Err(refusal(name, &format!("it has {} bytes", content.size())));
        }
        let mut bytes = vec![0; usize::try_from(content.size()).unwrap_or(0)];
        content.read_at(&mut bytes, 0).map_err(|error| refusal(name, &format!("it cannot be read: {error}")))?;
        let text = String::from_utf8_lossy(&bytes);
        if kind == FileKind::History {
            let timeline = u32::from_str_radix(&name[..8], 16).unwrap_or(0);
            let history = History::parse(timeline, &text).map_err(|bad| refusal(name, &bad.to_string()))?;
            if history.entries.is_empty() {
                return Err(refusal(name, "it names no timeline that this one began from"));
            }
        } else if !text.lines().any(|line| line.starts_with("START WAL LOCATION: ") && line.contains(&name[..24])) {
            return Err(refusal(name, "it does not say what the name says"));
        }
        match self.cluster {
            Some(cluster) => Ok(self.repo.cluster(cluster)),
            None => self.repo.choose(None),
        }
    }

    /// What is there is read and verified as a whole: "the same" is said of the content, not of a name.
    fn compare(&self, name: &str, object: &str, content: &dyn Content) -> Result<Pushed> {
        let Some(body) = self.repo.place().read(object)? else {
            return Err(self.repo.missing(object, "its own acknowledgement"));
        };
        let (mut at, mut same, mut here) = (0, true, Vec::new());
        let read = read_object(Kind::Wal, object, &body, self.repo.keys(), |_, there, _| {
            here.resize(there.len(), 0);
            same = same && content.read_at(&mut here, at).is_ok() && here == there;
            at += there.len() as u64;
            Ok::<(), Damage>(())
        });
        read.map_err(|damage| self.repo.damaged(object, damage))?;
        if same && at == content.size() {
            return Ok(Pushed::Same);
        }
        let text = format!(
            "{name} was not archived: {} has a file of that name with other content, and it was not replaced",
            self.repo.address()
        );
        Err(BackupError::refused(code::WAL_CONFLICT, text))
    }
}

fn no_name(name: &str) -> BackupError {
    BackupError::refused(code::WAL_NAME, format!("{name:?} is not the name of a file of pg_wal"))
}

fn refusal(name: &str, why: &str) -> BackupError {
    BackupError::refused(code::WAL_REFUSED, format!("{name} was not archived: {why}"))
}
