//! What a repository holds of a cluster: backups, those being taken or broken off, and WAL by timeline.

use crate::{
    error::{BackupError, Result},
    expire,
    manifest::{About, Manifest},
    repo::{
        Cluster,
        codec::{Codec, Packer},
        container::{Kind, OBJECT_HEADER, ObjectReader, ObjectWriter},
        place::{Created, Entry},
    },
    take::mark::BeginNote,
    wal::{name::Segment, survey, timeline::History},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes at the beginning of a manifest that usually hold all that says what the backup is.
const HEAD: u64 = 64 << 10;

/// Why a backup is kept although the retention would let it go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    pub reason: String,
    pub since: Timestamp,
    /// Kept until then; without it for good.
    pub until: Option<Timestamp>,
}

/// A backup in the catalogue.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listed {
    #[serde(flatten)]
    pub about: About,
    pub keep: Option<Keep>,
    /// When all of it was last read and found whole.
    pub verified_at: Option<Timestamp>,
}

/// What is archived of a timeline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimelineWal {
    /// The numbers of its segments.
    pub segments: BTreeSet<u64>,
    /// Stored bytes.
    pub stored: u64,
    /// When the newest of it was written by the place's clock, milliseconds since 1970; 0 when that is not known.
    pub newest_ms: i64,
}

/// Everything that is known of a cluster in a repository.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// In the order of the WAL that they end with, per timeline.
    pub backups: Vec<Listed>,
    /// Backups whose manifest is damaged, by label, and how: nobody knows what they need.
    pub unreadable: BTreeMap<String, String>,
    pub begun: Vec<BeginNote>,
    pub wal: BTreeMap<u32, TimelineWal>,
    /// Where timelines came from; read only by [`Catalogue::read_histories`].
    pub histories: BTreeMap<u32, History>,
    /// Other files of pg_wal: histories, backup histories, partial segments.
    pub others: Vec<Entry>,
    pub segment_size: u64,
    /// The number of the segment before which the retention has let WAL go.
    pub let_go_before: u64,
}

impl Catalogue {
    /// Reads it.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn read(cluster: &Cluster) -> Result<Self> {
        let (abouts, unreadable) = readable(cluster)?;
        let unreadable = unreadable.into_iter().map(|(label, error)| (label, error.to_string()));
        let mut catalogue = Self { unreadable: unreadable.collect(), ..Self::default() };
        for about in abouts {
            let (keep, verified_at) = (kept(cluster, &about)?, crate::verify::verified_at(cluster, &about.label)?);
            catalogue.backups.push(Listed { about, keep, verified_at });
        }
        for entry in cluster.repo.place().list(&cluster.names.begun_folder())? {
            catalogue.begun.extend(cluster.repo.note::<BeginNote>(&entry.name)?);
        }
        catalogue.segment_size = cluster.mark()?.map_or(16 << 20, |mark| mark.segment_size);
        catalogue.let_go_before = expire::let_go_before(cluster, catalogue.segment_size)?;
        for entry in cluster.repo.place().list(&cluster.names.wal_folder(None))? {
            let file = entry.name.rsplit_once('/').map_or("", |(_, file)| file);
            match Segment::parse(file, catalogue.segment_size) {
                Some(segment) => {
                    let timeline = catalogue.wal.entry(segment.timeline).or_default();
                    timeline.segments.insert(segment.number);
                    timeline.stored += entry.size;
                    timeline.newest_ms = timeline.newest_ms.max(entry.modified_ms);
                }
                None => catalogue.others.push(entry),
            }
        }
        Ok(catalogue)
    }

    /// Reads the histories, too: who removes WAL must know where timelines branch.
    ///
    /// # Errors
    /// When one cannot be read or is damaged.
    pub fn read_histories(&mut self, cluster: &Cluster) -> Result<()> {
        let all = survey::histories(cluster)?.into_iter();
        self.histories = all.map(|history| (history.timeline, history)).collect();
        Ok(())
    }

    /// The backup with this label.
    pub fn find(&self, label: &str) -> Option<&Listed> {
        self.backups.iter().find(|backup| backup.about.label == label)
    }

    /// Why a backup cannot be restored; `None` when nothing speaks against it.
    pub fn trouble(&self, listed: &Listed) -> Option<String> {
        if let Some(first) = self.missing_for(&listed.about).first() {
            return Some(format!("lacks WAL segment {first}"));
        }
        let parent = listed.about.parent.as_ref()?;
        match self.find(parent) {
            None if self.unreadable.contains_key(parent) => {
                Some(format!("builds on {parent}, whose manifest cannot be read"))
            }
            None => Some(format!("builds on {parent}, which is not there")),
            Some(parent) => self.trouble(parent).map(|why| format!("builds on {}, which {why}", parent.about.label)),
        }
    }

    /// The numbers of segments that are missing on a timeline between others, from `from` on: without what the
    /// retention has let go.
    pub fn missing_between(&self, timeline: &TimelineWal, from: u64) -> Vec<(u64, u64)> {
        let mut missing = Vec::new();
        let mut before: Option<u64> = None;
        for number in timeline.segments.range(from..) {
            let first = before.map_or(*number, |before| (before + 1).max(self.let_go_before));
            if first < *number {
                missing.push((first, *number - 1));
            }
            before = Some(*number);
        }
        missing
    }

    /// The segments that a backup needs to become consistent and that are not archived.
    pub fn missing_for(&self, about: &About) -> Vec<Segment> {
        let first = Segment::at(about.timeline, about.start_lsn, about.segment_size);
        let last = Segment::ending_at(about.timeline, about.stop_lsn, about.segment_size);
        let there = self.wal.get(&about.timeline);
        let numbers = first.number..=last.number;
        let missing = numbers.filter(|number| !there.is_some_and(|timeline| timeline.segments.contains(number)));
        missing.map(|number| Segment { number, ..first }).collect()
    }
}

/// Why a backup is kept. A mark that cannot be read keeps it, too.
fn kept(cluster: &Cluster, about: &About) -> Result<Option<Keep>> {
    match cluster.repo.note(&cluster.names.keep(&about.label)) {
        Err(BackupError::Damaged { .. }) => {
            let reason = "its mark cannot be read; surus backup keep writes another".to_owned();
            Ok(Some(Keep { reason, since: about.stopped_at, until: None }))
        }
        other => other,
    }
}

/// A backup's label, and why its manifest cannot be read.
pub type Unreadable = (String, BackupError);

/// All backups that can be read, oldest first, and why the others cannot: one damaged manifest must not stand in the
/// way of restoring from another, or of taking a new one.
///
/// # Errors
/// When the place cannot be read.
pub fn readable(cluster: &Cluster) -> Result<(Vec<About>, Vec<Unreadable>)> {
    let folder = cluster.names.manifest_folder();
    let (mut backups, mut damaged) = (Vec::new(), Vec::new());
    for entry in cluster.repo.place().list(&folder)? {
        let label = entry.name.trim_start_matches(&folder);
        match read_about(cluster, label) {
            Err(error @ BackupError::Damaged { .. }) => damaged.push((label.to_owned(), error)),
            other => backups.extend(other?),
        }
    }
    backups.sort_by_key(|about| (about.timeline, about.stop_lsn, about.label.clone()));
    Ok((backups, damaged))
}

/// What a backup is, without its files; `None` when there is no such backup.
///
/// # Errors
/// When its manifest cannot be read.
pub fn read_about(cluster: &Cluster, label: &str) -> Result<Option<About>> {
    let name = cluster.names.manifest(label);
    let damaged = |damage| cluster.repo.damaged(&name, damage);
    let Some(mut start) = cluster.repo.place().read_range(&name, 0..HEAD)? else { return Ok(None) };
    let reader = ObjectReader::new(Kind::Manifest, &name, &start, cluster.repo.keys()).map_err(damaged)?;
    let first = |bytes: &[u8]| reader.chunk(0, bytes.get(OBJECT_HEADER..).unwrap_or_default());
    let chunk = match first(&start) {
        Ok(chunk) => chunk,
        Err(_) => {
            // Longer than usual (many tablespaces or damaged pages), or damaged: all of it tells.
            start = cluster.repo.place().read(&name)?.unwrap_or_default();
            first(&start).map_err(damaged)?
        }
    };
    Manifest::about_of(&chunk.0).map(Some).map_err(damaged)
}

/// Writes a manifest: from then on the backup is one. What it is stands in a chunk of its own, so that a list need not
/// read all.
///
/// # Errors
/// When it cannot be written, or another backup has the label.
pub fn write_manifest(cluster: &Cluster, manifest: &Manifest) -> Result<()> {
    let name = cluster.names.manifest(&manifest.about.label);
    let lines = manifest.to_lines();
    let first = lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |end| end + 1);
    let mut packer = Packer::new(Codec::Zstd(3));
    let mut object = ObjectWriter::new(Kind::Manifest, &name, cluster.repo.keys().current());
    object.add(&mut packer, &lines[..first]);
    for chunk in lines[first..].chunks(4 << 20) {
        object.add(&mut packer, chunk);
    }
    let body = object.finish();
    match cluster.repo.place().create(&name, &body)? {
        Created::New => Ok(()),
        Created::AlreadyThere if cluster.repo.place().read(&name)?.as_deref() == Some(&body) => Ok(()),
        Created::AlreadyThere => {
            let text = format!("there is a backup {} already", manifest.about.label);
            Err(BackupError::refused(surus_core::code::BACKUP_BUSY, text))
        }
    }
}
