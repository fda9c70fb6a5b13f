//! The history of the backup's timeline. A server brings it into the archive only when it archived at the moment of its
//! promotion; without it no server can be told to follow the timeline, and no backup of an older one leads to it.

use crate::{
    error::{BackupError, Result},
    repo::{Cluster, codec::Codec},
    wal::{name::history_name, push, timeline::History},
};
use std::{fs, io::ErrorKind, path::Path, sync::Arc};
use surus_core::{code, monitor::Monitor};

/// Archives the history of a timeline, and those of its ancestors, as far as they are in pg_wal.
///
/// # Errors
/// When the archive has another one for the timeline itself, or cannot be read or written.
pub fn bring(cluster: &Cluster, pg_wal: &Path, timeline: u32, codec: Codec, monitor: &Arc<dyn Monitor>) -> Result<()> {
    let read = |timeline: u32| {
        let path = pg_wal.join(history_name(timeline));
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map(Some).map_err(BackupError::file("cannot read", &path)),
        }
    };
    let Some(content) = (if timeline > 1 { read(timeline)? } else { None }) else { return Ok(()) };
    store(cluster, timeline, &content, codec)?;
    for ancestor in ancestors(timeline, &content) {
        if let Some(content) = read(ancestor)?
            && let Err(error) = store(cluster, ancestor, &content, codec)
        {
            monitor.note(&error.to_string());
        }
    }
    Ok(())
}

/// Archives one history.
///
/// # Errors
/// When it is none, or the archive has another one, or cannot be read or written.
pub fn store(cluster: &Cluster, timeline: u32, content: &[u8], codec: Codec) -> Result<()> {
    let system = Some(cluster.names.system_identifier);
    push::push(&cluster.repo, &history_name(timeline), content, system, codec).map(drop)
}

/// The ancestors that have a history of their own, the newest first.
pub fn ancestors(timeline: u32, content: &[u8]) -> Vec<u32> {
    let history = History::parse(timeline, &String::from_utf8_lossy(content));
    let entries = history.map(|history| history.entries).unwrap_or_default();
    entries.iter().rev().map(|switch| switch.timeline).filter(|ancestor| *ancestor > 1).collect()
}

/// A backup on a later timeline is none without the timeline's history.
///
/// # Errors
/// When the archive does not have it.
pub fn require(cluster: &Cluster, timeline: u32) -> Result<()> {
    let name = history_name(timeline);
    if timeline == 1 || cluster.repo.place().read(&cluster.names.wal(&name))?.is_some() {
        return Ok(());
    }
    let text = format!(
        "the backup is not complete: {name} is not in the archive, and the server does not have it in pg_wal; it says \
         where timeline {timeline} came from, and no restored server could follow that timeline without it"
    );
    Err(BackupError::refused(code::BACKUP_NO_WAL, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::Repo;
    use surus_core::monitor::Silent;

    #[test]
    fn the_timelines_history_and_its_ancestors_come_into_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::in_folder(&dir.path().join("repo")).unwrap();
        let (cluster, pg_wal) = (repo.cluster(7), dir.path());
        let monitor: Arc<dyn Monitor> = Arc::new(Silent);
        let bring = |timeline| bring(&cluster, pg_wal, timeline, Codec::None, &monitor);
        let there = |timeline| repo.place().read(&cluster.names.wal(&history_name(timeline))).unwrap().is_some();
        bring(1).unwrap();
        require(&cluster, 1).unwrap();
        bring(3).unwrap();
        assert_eq!(require(&cluster, 3).unwrap_err().code(), code::BACKUP_NO_WAL);
        fs::write(pg_wal.join("00000002.history"), "1\t0/3000060\tx\n").unwrap();
        fs::write(pg_wal.join("00000003.history"), "1\t0/3000060\tx\n2\t0/5000000\ty\n").unwrap();
        bring(3).unwrap();
        require(&cluster, 3).unwrap();
        assert!(there(2) && there(3));
        // Another cluster with the same past went its own way.
        fs::write(pg_wal.join("00000003.history"), "1\t0/3000060\tx\n2\t0/6000000\tz\n").unwrap();
        assert_eq!(bring(3).unwrap_err().code(), code::WAL_CONFLICT);
    }
}
