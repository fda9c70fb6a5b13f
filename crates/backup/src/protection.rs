//! What a repository holds for a cluster, in the word that the other rooms know.

use crate::{
    catalogue::{Catalogue, Listed},
    error::Result,
    repo::Cluster,
    wal::name::Segment,
};
use jiff::Timestamp;
use std::os::unix::fs::PermissionsExt;
use surus_core::{
    clock,
    protection::{ProtectedBackup, Protection, WalGap},
};

/// Looks at a cluster in its repository.
///
/// # Errors
/// When it cannot be read whole: a part of it would look like a lack.
pub fn look(cluster: &Cluster) -> Result<Protection> {
    let catalogue = Catalogue::read(cluster)?;
    let place = cluster.repo.place();
    let folder = place.local_folder();
    let newest = newest_segment(cluster, &catalogue)?;
    Ok(Protection {
        repository: cluster.repo.address(),
        off_site: folder.is_none(),
        encrypted: cluster.repo.keys().required(),
        open_to_others: folder
            .and_then(|folder| std::fs::metadata(folder).ok())
            .map(|about| about.permissions().mode() & 0o007 != 0),
        segment_size: catalogue.segment_size,
        backups: catalogue.backups.iter().map(|listed| protected(&catalogue, listed)).collect(),
        unreadable: catalogue.unreadable.clone(),
        in_progress: catalogue.begun.iter().find(|note| note.alive()).map(|note| note.label.clone()),
        gaps: gaps(&catalogue),
        newest_segment: newest.as_ref().map(|(name, _)| name.clone()),
        newest_segment_at: newest.and_then(|(_, at)| at),
        wal_stored: catalogue.wal.values().map(|wal| wal.stored).sum(),
        free: folder.and_then(surus_pg::host::room).map(|room| room.free_bytes),
        looked_at: clock::now(),
    })
}

fn protected(catalogue: &Catalogue, listed: &Listed) -> ProtectedBackup {
    let about = &listed.about;
    ProtectedBackup {
        label: about.label.clone(),
        full: about.parent.is_none(),
        parent: about.parent.clone(),
        timeline: about.timeline,
        start_lsn: about.start_lsn,
        stop_lsn: about.stop_lsn,
        started_at: about.started_at,
        stopped_at: about.stopped_at,
        size: about.size,
        own: about.own,
        stored: about.stored,
        verified_at: listed.verified_at,
        trouble: catalogue.trouble(listed),
        damaged_pages: about.bad_pages.len() as u64,
    }
}

/// Gaps on each timeline from the oldest backup's WAL on, or from the first segment where there is no backup.
fn gaps(catalogue: &Catalogue) -> Vec<WalGap> {
    let size = catalogue.segment_size;
    let oldest = catalogue.backups.iter().map(|listed| listed.about.start_lsn.0 / size).min().unwrap_or(0);
    let mut gaps = Vec::new();
    for (timeline, wal) in &catalogue.wal {
        let name = |number| Segment { timeline: *timeline, number, size }.to_string();
        let missing = catalogue.missing_between(wal, oldest).into_iter();
        gaps.extend(missing.map(|(first, last)| WalGap {
            first: name(first),
            last: name(last),
            segments: last - first + 1,
        }));
    }
    gaps
}

/// The newest segment of the newest timeline, and when it was written.
fn newest_segment(cluster: &Cluster, catalogue: &Catalogue) -> Result<Option<(String, Option<Timestamp>)>> {
    let Some((timeline, number)) =
        catalogue.wal.iter().next_back().and_then(|(timeline, wal)| Some((*timeline, *wal.segments.last()?)))
    else {
        return Ok(None);
    };
    let segment = Segment { timeline, number, size: catalogue.segment_size }.to_string();
    let name = cluster.names.wal(&segment);
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let there = cluster.repo.place().list(&format!("{folder}/"))?;
    let at = there.iter().find(|entry| entry.name == name && entry.modified_ms > 0);
    Ok(Some((segment, at.and_then(|entry| Timestamp::from_millisecond(entry.modified_ms).ok()))))
}
