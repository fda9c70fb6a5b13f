//! A repository: a place with a mark in it, and the clusters whose backups and WAL it holds.
//!
//! The only module that touches object storage.

pub mod address;
mod answer;
pub mod codec;
pub mod container;
pub mod fault;
pub mod keys;
pub mod layout;
pub mod local;
pub mod object;
pub mod place;
pub mod record;

use crate::error::{BackupError, Result};
use address::Address;
use codec::{Codec, Packer};
use container::{Damage, Kind, MAX_CHUNK, ObjectWriter, read_object};
use keys::{KeyRing, UserKey};
use layout::ClusterNames;
use local::LocalPlace;
use object::{BucketPlace, Credentials, Patience};
use place::{Created, Place};
use serde::{Deserialize, Serialize};
use std::{path::Path, sync::Arc};
use surus_core::{clock, code};

/// The newest format that this surus reads and writes.
pub const FORMAT: u32 = 1;

/// The content of the repository's mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub format: u32,
    /// Random; two repositories never share it.
    pub id: String,
    pub created_at: jiff::Timestamp,
    /// Are its objects encrypted?
    pub encrypted: bool,
}

/// What is known of a cluster as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterMark {
    pub system_identifier: u64,
    /// Bytes of a WAL segment.
    pub segment_size: u64,
    /// The major version, when the one who registered it knew.
    pub major: Option<u16>,
    pub first_seen_at: jiff::Timestamp,
}

/// The place that an address names; the folder is not made, and the bucket is not asked yet.
///
/// # Errors
/// When the address or the credentials cannot be used.
pub fn place_at(address: &Address, credentials: &Credentials) -> Result<Arc<dyn Place>> {
    Ok(match address {
        Address::Folder(folder) => Arc::new(LocalPlace::new(folder.clone())),
        Address::Bucket(bucket) => Arc::new(BucketPlace::new(bucket, credentials, Patience::default())?),
    })
}

/// An open repository.
#[derive(Debug, Clone)]
pub struct Repo {
    place: Arc<dyn Place>,
    keys: KeyRing,
    mark: Mark,
}

impl Repo {
    /// Opens a repository that is there.
    ///
    /// # Errors
    /// When there is none, it is of a newer format, or the place cannot be read.
    pub fn open(place: Arc<dyn Place>, keys: KeyRing) -> Result<Self> {
        let mark = present_mark(place.as_ref())?;
        key_fits(place.as_ref(), &mark, keys.required())?;
        Ok(Self { place, keys, mark })
    }

    /// Opens a repository that is there with the user's key, when it has one.
    ///
    /// # Errors
    /// As [`Repo::open`], and when it is another key.
    pub fn unlock(place: Arc<dyn Place>, key: Option<&UserKey>) -> Result<Self> {
        let mark = present_mark(place.as_ref())?;
        key_fits(place.as_ref(), &mark, key.is_some())?;
        let keys = key.map_or_else(|| Ok(KeyRing::open()), |key| KeyRing::unlock(place.as_ref(), key))?;
        Ok(Self { place, keys, mark })
    }

    /// Opens the repository, or makes one in an empty place. A folder with other things in it is refused.
    ///
    /// # Errors
    /// As [`Repo::open`], and when the place holds something else or cannot be written.
    pub fn open_or_create(place: Arc<dyn Place>, keys: KeyRing) -> Result<Self> {
        if read_mark(place.as_ref())?.is_none() {
            nothing_else(place.as_ref())?;
            make(place.as_ref(), keys.required())?;
        }
        Self::open(place, keys)
    }

    /// Opens the repository with the user's key, or makes one in an empty place: encrypted when there is a key.
    ///
    /// # Errors
    /// As [`Repo::open_or_create`], and when it is another key.
    pub fn unlock_or_create(place: Arc<dyn Place>, key: Option<&UserKey>) -> Result<Self> {
        if read_mark(place.as_ref())?.is_none() {
            nothing_else(place.as_ref())?;
            // The data key first: a repository that says it is encrypted must have one.
            key.map_or(Ok(()), |key| keys::prepare(place.as_ref(), key))?;
            make(place.as_ref(), key.is_some())?;
        }
        Self::unlock(place, key)
    }

    /// For a folder, making it when it is not there.
    ///
    /// # Errors
    /// As [`Repo::open_or_create`].
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let place = LocalPlace::new(folder.to_owned());
        place.make()?;
        Self::open_or_create(Arc::new(place), KeyRing::open())
    }

    /// Where it is.
    pub fn place(&self) -> &dyn Place {
        self.place.as_ref()
    }

    /// What its objects are encrypted with.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// What its mark says.
    pub fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Its address for people.
    pub fn address(&self) -> String {
        self.place.address()
    }

    /// Is it still the repository that was opened? Asked before an absence is believed: a folder that is no longer
    /// mounted has no objects either.
    ///
    /// # Errors
    /// When it is not, or cannot be asked.
    pub fn still_there(&self) -> Result<()> {
        match read_mark(self.place.as_ref())? {
            Some(mark) if mark.id == self.mark.id => Ok(()),
            _ => {
                let text = format!("the repository in {} is no longer there", self.address());
                Err(BackupError::refused(code::REPO_ABSENT, text))
            }
        }
    }

    /// The clusters that it holds, by system identifier.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn clusters(&self) -> Result<Vec<Cluster>> {
        let mut found = Vec::new();
        for entry in self.place.list(layout::CLUSTERS)? {
            let id = entry.name.strip_prefix(layout::CLUSTERS).and_then(|name| name.strip_suffix(".json"));
            if let Some(id) = id.and_then(|id| id.parse().ok()) {
                found.push(Cluster { repo: self.clone(), names: ClusterNames { system_identifier: id } });
            }
        }
        Ok(found)
    }

    /// The cluster with this system identifier, whether it has anything in the repository or not.
    pub fn cluster(&self, system_identifier: u64) -> Cluster {
        Cluster { repo: self.clone(), names: ClusterNames { system_identifier } }
    }

    /// The only cluster, or the one that is named.
    ///
    /// # Errors
    /// When there is none, or several and none is named.
    pub fn choose(&self, system_identifier: Option<u64>) -> Result<Cluster> {
        let mut all = self.clusters()?;
        if let Some(wanted) = system_identifier {
            all.retain(|cluster| cluster.names.system_identifier == wanted);
        }
        let refuse = |text: String| Err(BackupError::refused(code::REPO_CLUSTER, text));
        match (all.pop(), all.len()) {
            (Some(cluster), 0) => Ok(cluster),
            (None, _) => refuse(format!("the repository in {} holds no such cluster", self.address())),
            (Some(last), _) => {
                let ids = all.iter().chain([&last]).map(|one| one.names.system_identifier.to_string());
                let ids = ids.collect::<Vec<_>>().join(", ");
                refuse(format!("the repository in {} holds several clusters: {ids}", self.address()))
            }
        }
    }

    /// Packs `raw` into an object of one's own.
    pub fn sealed(&self, kind: Kind, name: &str, codec: Codec, raw: &[u8]) -> Vec<u8> {
        let mut packer = Packer::new(codec);
        let mut object = ObjectWriter::new(kind, name, self.keys.current());
        for chunk in raw.chunks(MAX_CHUNK / 4) {
            object.add(&mut packer, chunk);
        }
        object.finish()
    }

    /// Reads an object whole and verifies it; `None` when the place says that there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn read(&self, kind: Kind, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(body) = self.place.read(name)? else { return Ok(None) };
        let mut whole = Vec::new();
        let read = read_object(kind, name, &body, &self.keys, |_, raw, _| {
            whole.extend_from_slice(&raw);
            Ok(())
        });
        read.map_err(|damage| self.damaged(name, damage))?;
        Ok(Some(whole))
    }

    /// The error for an object that is not what was written.
    pub fn damaged(&self, name: &str, damage: Damage) -> BackupError {
        BackupError::Damaged { place: self.address(), name: name.to_owned(), damage }
    }

    /// The error for an object that is not there though another needs it.
    pub fn missing(&self, name: &str, needed_by: &str) -> BackupError {
        BackupError::Missing { place: self.address(), name: name.to_owned(), needed_by: needed_by.to_owned() }
    }

    /// A small note in plain JSON; `None` when the place says that there is none.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn note<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(body) = self.place.read(name)? else { return Ok(None) };
        let meaning = |error: serde_json::Error| self.damaged(name, Damage::Meaning(error.to_string()));
        serde_json::from_slice(&body).map(Some).map_err(meaning)
    }
}

/// One cluster in a repository.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub repo: Repo,
    pub names: ClusterNames,
}

impl Cluster {
    /// What is known of it as a whole; `None` when nothing of it was ever stored.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn mark(&self) -> Result<Option<ClusterMark>> {
        self.repo.note(&self.names.cluster())
    }

    /// Marks a backup to be kept.
    ///
    /// # Errors
    /// When the mark cannot be written.
    pub fn keep(&self, label: &str, keep: &crate::catalogue::Keep) -> Result<()> {
        Ok(self.repo.place.replace(&self.names.keep(label), &json(keep))?)
    }

    /// Takes the mark away.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn release(&self, label: &str) -> Result<()> {
        Ok(self.repo.place.delete(&[self.names.keep(label)])?)
    }

    /// Writes down what is known of it, when that is not there yet.
    ///
    /// # Errors
    /// When it cannot be written, or the repository knows the cluster with another segment size.
    pub fn register(&self, segment_size: u64, major: Option<u16>) -> Result<()> {
        let system_identifier = self.names.system_identifier;
        let known = match self.mark()? {
            Some(mark) => mark,
            None => {
                let mark = ClusterMark { system_identifier, segment_size, major, first_seen_at: clock::now() };
                match self.repo.place.create(&self.names.cluster(), &json(&mark))? {
                    Created::New => mark,
                    Created::AlreadyThere => self.mark()?.unwrap_or(mark),
                }
            }
        };
        if known.segment_size == segment_size {
            return Ok(());
        }
        let text = format!(
            "cluster {system_identifier} is in {} with WAL segments of {} bytes, and this server has {segment_size}",
            self.repo.address(),
            known.segment_size
        );
        Err(BackupError::refused(code::WAL_REFUSED, text))
    }
}

fn present_mark(place: &dyn Place) -> Result<Mark> {
    read_mark(place)?.ok_or_else(|| {
        let text = format!("there is no repository in {}", place.address());
        BackupError::refused(code::REPO_ABSENT, text)
    })
}

fn key_fits(place: &dyn Place, mark: &Mark, key: bool) -> Result<()> {
    let text = match (mark.encrypted, key) {
        (true, false) => "is encrypted and no key was given",
        (false, true) => "is not encrypted and a key was given",
        _ => return Ok(()),
    };
    Err(BackupError::refused(code::REPO_KEY, format!("the repository in {} {text}", place.address())))
}

/// Is the place free for a repository? Data keys may be there: one that was being made and broke off leaves them.
fn nothing_else(place: &dyn Place) -> Result<()> {
    match place.list("")?.iter().find(|entry| !entry.name.starts_with(layout::KEYS)) {
        None => Ok(()),
        Some(other) => {
            let text = format!("{} holds {} and is no repository of surus", place.address(), other.name);
            Err(BackupError::refused(code::REPO_FOREIGN, text))
        }
    }
}

fn make(place: &dyn Place, encrypted: bool) -> Result<()> {
    let id = container::random::<16>().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut body = json(&Mark { format: FORMAT, id, created_at: clock::now(), encrypted });
    if place.create(layout::REPOSITORY, &body)? == Created::AlreadyThere {
        // Whoever was quicker made the repository; it is opened like any other.
        return Ok(());
    }
    // Not every store that speaks S3 knows "only if there is none", and some that do not know it overwrite without a
    // word. The second mark means the same as the first, so that nothing is lost by asking.
    body.push(b'\n');
    match place.create(layout::REPOSITORY, &body)? {
        Created::AlreadyThere => Ok(()),
        Created::New => {
            let text = format!(
                "{} overwrites objects though it is asked not to (If-None-Match on PUT is not obeyed): WAL would not be safe",
                place.address()
            );
            Err(BackupError::refused(code::REPO_BROKEN, text))
        }
    }
}

fn read_mark(place: &dyn Place) -> Result<Option<Mark>> {
    let Some(body) = place.read(layout::REPOSITORY)? else { return Ok(None) };
    let damaged = |damage| BackupError::Damaged { place: place.address(), name: layout::REPOSITORY.into(), damage };
    let mark: Mark = serde_json::from_slice(&body).map_err(|error| damaged(Damage::Meaning(error.to_string())))?;
    if mark.format > FORMAT {
        let text =
            format!("the repository in {} has format {}, this surus knows {FORMAT}", place.address(), mark.format);
        return Err(BackupError::refused(code::REPO_NEWER, text));
    }
    Ok(Some(mark))
}

/// A note as it is written: JSON that a person can read.
pub(crate) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_made_once_and_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("repo");
        let made = Repo::in_folder(&folder).unwrap();
        let again = Repo::in_folder(&folder).unwrap();
        assert_eq!(made.mark(), again.mark());
        again.still_there().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(again.still_there().is_err());
    }

    #[test]
    fn other_peoples_folders_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("holiday.jpg"), b"...").unwrap();
        assert_eq!(Repo::in_folder(dir.path()).unwrap_err().code(), code::REPO_FOREIGN);
        assert!(!dir.path().join(layout::REPOSITORY).exists());
    }

    #[test]
    fn a_cluster_has_one_segment_size() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::in_folder(&dir.path().join("repo")).unwrap();
        let cluster = repo.cluster(42);
        cluster.register(16 << 20, Some(15)).unwrap();
        cluster.register(16 << 20, None).unwrap();
        assert_eq!(cluster.register(1 << 20, None).unwrap_err().code(), code::WAL_REFUSED);
        assert_eq!(repo.choose(None).unwrap().names.system_identifier, 42);
        assert!(repo.choose(Some(43)).is_err());
    }
}
