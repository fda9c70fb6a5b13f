//! What a repository holds of a cluster's WAL, read for [`gaps`](super::gaps) to judge.

use super::{
    gaps::{BackupSpan, Known},
    hole,
    name::{FileKind, Segment, file_kind},
    timeline::History,
};
use crate::{
    catalogue,
    error::{BackupError, Result},
    expire,
    manifest::About,
    repo::{Cluster, container::Damage, container::Kind},
};
use surus_core::code;

/// A timeline's history from the archive; one without a file began with the cluster.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn history(cluster: &Cluster, timeline: u32) -> Result<History> {
    let object = cluster.names.wal(&super::name::history_name(timeline));
    match cluster.repo.read(Kind::Wal, &object)? {
        Some(content) => parsed(cluster, &object, timeline, &content),
        None => Ok(History::of_first(timeline)),
    }
}

/// All histories in the archive, the oldest timeline first.
///
/// # Errors
/// As [`history`].
pub fn histories(cluster: &Cluster) -> Result<Vec<History>> {
    let mut all = Vec::new();
    for entry in cluster.repo.place().list(&cluster.names.history_folder())? {
        let name = entry.name.rsplit('/').next().unwrap_or_default();
        if file_kind(name) == Some(FileKind::History)
            && let Ok(timeline) = u32::from_str_radix(&name[..8], 16)
            && let Some(content) = cluster.repo.read(Kind::Wal, &entry.name)?
        {
            all.push(parsed(cluster, &entry.name, timeline, &content)?);
        }
    }
    Ok(all)
}

fn parsed(cluster: &Cluster, object: &str, timeline: u32, content: &[u8]) -> Result<History> {
    let text = String::from_utf8_lossy(content);
    History::parse(timeline, &text).map_err(|bad| cluster.repo.damaged(object, Damage::Meaning(bad.to_string())))
}

/// Reads the names of all WAL, the histories, the holes, and what each backup needs.
///
/// # Errors
/// When something of it cannot be read: then nothing can be said about gaps.
pub fn survey(cluster: &Cluster) -> Result<Known> {
    let Some(mark) = cluster.mark()? else {
        let text = format!("the repository in {} holds nothing of this cluster", cluster.repo.address());
        return Err(BackupError::refused(code::REPO_CLUSTER, text));
    };
    let size = mark.segment_size;
    let listed = cluster.repo.place().list(&cluster.names.wal_folder(None))?;
    let names = listed.iter().filter_map(|entry| entry.name.rsplit('/').next());
    let segments = names.filter_map(|name| Segment::parse(name, size)).collect();
    let holes = hole::list(cluster)?.iter().filter_map(|note| Segment::parse(&note.segment, size)).collect();
    let let_go_before = expire::let_go_before(cluster, size)?;
    Ok(Known { segments, histories: histories(cluster)?, backups: backups(cluster)?, holes, let_go_before })
}

fn backups(cluster: &Cluster) -> Result<Vec<BackupSpan>> {
    let span = |about: About| BackupSpan {
        label: about.label,
        timeline: about.timeline,
        start: about.start_lsn,
        stop: about.stop_lsn,
    };
    Ok(catalogue::readable(cluster)?.0.into_iter().map(span).collect())
}
