//! Receives WAL as the server writes it, over the replication protocol.
//!
//! What comes grows in a local file and is made durable there before the server is told so; a whole segment goes
//! into the archive, and only then its local file goes. With `synchronous` the server is told at once, so that it
//! can name the receiver in `synchronous_standby_names`: a commit that was answered is then never lost. After a
//! broken connection or a `kill -9` it goes on where archive and spool end, and nothing is ever left out: WAL that
//! the server no longer has ends it with the name of the missing segment.

pub mod begin;
mod connection;
mod shelf;
pub mod spool;

use crate::{
    error::{BackupError, Result},
    repo::{Cluster, Repo, codec::Codec},
    wal::push,
};
use connection::{Broken, Connection, Outcome};
use shelf::{Shelf, Shelving};
use spool::Spool;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use surus_core::{code, lsn::Lsn, monitor::Monitor};
use surus_pg::{Target, replication::Replication};
use tokio::sync::watch;

/// The pauses between attempts: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// How WAL is received.
#[derive(Debug, Clone)]
pub struct ReceiveOptions {
    /// The physical slot that holds WAL while nobody receives it.
    pub slot: Option<String>,
    /// Make the slot when it is not there.
    pub create_slot: bool,
    /// Tell the server at once what is durable.
    pub synchronous: bool,
    pub codec: Codec,
    /// How often the server is told, at least, how far WAL has come.
    pub status_every: Duration,
    /// Stop when WAL has come up to here.
    pub until: Option<Lsn>,
}

impl Default for ReceiveOptions {
    fn default() -> Self {
        Self {
            slot: None,
            create_slot: false,
            synchronous: false,
            codec: Codec::Zstd(1),
            status_every: Duration::from_secs(10),
            until: None,
        }
    }
}

/// What was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    pub system_identifier: u64,
    pub timeline: u32,
    /// Up to where WAL is durable here.
    pub end: Lsn,
    /// Segments that went into the archive.
    pub archived: u64,
}

/// The folder of a cluster's spool: each repository and cluster has its own.
pub fn spool_folder(data: &Path, repo: &Repo, system_identifier: u64) -> PathBuf {
    data.join("receive").join(&repo.mark().id).join(system_identifier.to_string())
}

/// Receives WAL until `stop` says so (or its sender has gone), or `until` is reached. A connection that breaks is made
/// again.
///
/// # Errors
/// When going on would leave something out or overwrite it, or trying again cannot help.
pub async fn receive(
    repo: &Repo,
    target: &Target,
    data: &Path,
    options: &ReceiveOptions,
    mut stop: watch::Receiver<bool>,
    monitor: &Arc<dyn Monitor>,
) -> Result<Received> {
    let mut work: Option<Work> = None;
    let mut pause = PAUSE.0;
    let mut said = String::new();
    let outcome = loop {
        match attempt(&mut work, repo, target, data, options, &mut stop, monitor).await {
            Ok(Outcome::Stopped) => break Ok(()),
            Ok(Outcome::ServerLeft) => pause = PAUSE.0,
            Err(broken) if broken.for_good => break Err(broken.error),
            Err(broken) => {
                let text = broken.error.to_string();
                if text != said {
                    monitor.note(&format!("trying again: {text}"));
                    said = text;
                }
                pause = if broken.streamed { PAUSE.0 } else { (pause * 2).min(PAUSE.1) };
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => break Ok(()),
        }
    };
    let Some(work) = work else {
        let never = || BackupError::refused(code::WAL_STREAM, "stopped before the server had answered");
        return outcome.and_then(|()| Err(never()));
    };
    let mut received = work.received;
    let shelf = work.shelf;
    let archived = crate::blocking(move || shelf.end()).await;
    outcome?;
    received.archived = archived?;
    Ok(received)
}

/// What outlives a connection.
struct Work {
    spool: Spool,
    shelf: Shelf,
    cluster: Cluster,
    segment_size: u64,
    received: Received,
    /// Where to go on; `None` until it was looked up.
    next: Option<crate::wal::name::Segment>,
}

async fn attempt(
    work: &mut Option<Work>,
    repo: &Repo,
    target: &Target,
    data: &Path,
    options: &ReceiveOptions,
    stop: &mut watch::Receiver<bool>,
    monitor: &Arc<dyn Monitor>,
) -> Result<Outcome, Broken> {
    let mut replication = target.replicate().await.map_err(Broken::connecting)?;
    let identity = replication.identify().await.map_err(Broken::asking)?;
    let there = match work {
        Some(there) => there,
        None => {
            work.insert(Work::begin(&mut replication, repo, data, options, identity.system_identifier, monitor).await?)
        }
    };
    if there.received.system_identifier != identity.system_identifier {
        let text = format!(
            "the server is of cluster {}, and WAL of cluster {} was received before",
            identity.system_identifier, there.received.system_identifier
        );
        return Err(Broken::for_good(BackupError::refused(code::WAL_REFUSED, text)));
    }
    let connection = Connection { replication: &mut replication, identity, options, monitor };
    let outcome = connection.run(there, stop).await;
    replication.close().await;
    outcome
}

impl Work {
    async fn begin(
        replication: &mut Replication,
        repo: &Repo,
        data: &Path,
        options: &ReceiveOptions,
        system_identifier: u64,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<Self, Broken> {
        let segment_size = replication.wal_segment_size().await.map_err(Broken::asking)?;
        let major = replication.version().major();
        let folder = spool_folder(data, repo, system_identifier);
        let spool = Spool::open(&folder).map_err(Broken::for_good)?;
        let cluster = repo.cluster(system_identifier);
        let there = cluster.clone();
        crate::blocking(move || there.register(segment_size, Some(major))).await.map_err(Broken::by_code)?;
        let shelf = Shelf::start(Shelving {
            repo: repo.clone(),
            cluster: system_identifier,
            codec: options.codec,
            folder,
            monitor: monitor.clone(),
        });
        shelf.wake();
        let received = Received { system_identifier, timeline: 0, end: Lsn(0), archived: 0 };
        Ok(Self { spool, shelf, cluster, segment_size, received, next: None })
    }
}

/// What [`finish`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Whole segments and histories that went into the archive.
    pub whole: Vec<String>,
    /// The tail: its name in the archive, and up to where it has come.
    pub tail: Option<(String, Lsn)>,
}

/// For a server that will not come back: archives all that the spool holds, the growing segment as `SEGMENT.partial`,
/// filled up with zeros as PostgreSQL does. A restore can then go to the very last commit that was received.
///
/// # Errors
/// When somebody still receives, or something could not be archived.
pub fn finish(cluster: &Cluster, data: &Path, codec: Codec) -> Result<Finished> {
    let system_identifier = cluster.names.system_identifier;
    let folder = spool_folder(data, &cluster.repo, system_identifier);
    let Some(mark) = cluster.mark()? else {
        let text = format!("{} knows no cluster {system_identifier}", cluster.repo.address());
        return Err(BackupError::refused(code::REPO_CLUSTER, text));
    };
    let spool = Spool::open(&folder)?;
    let mut finished = Finished { whole: Vec::new(), tail: None };
    for name in spool.whole_files()? {
        let path = spool.path(&name);
        push::push_file(&cluster.repo, &path, Some(system_identifier), codec)?;
        fs::remove_file(&path).map_err(BackupError::file("cannot remove", &path))?;
        finished.whole.push(name);
    }
    let newest = spool.segments(mark.segment_size)?.into_iter().rfind(|waiting| !waiting.whole);
    if let Some(newest) = newest {
        let path = spool.partial_path(newest.segment);
        let mut content = fs::read(&path).map_err(BackupError::file("cannot read", &path))?;
        if !content.is_empty() {
            let end = Lsn(newest.segment.start().0 + content.len() as u64);
            content.resize(newest.segment.size as usize, 0);
            let name = format!("{}.partial", newest.segment);
            push::push(&cluster.repo, &name, &content, Some(system_identifier), codec)?;
            // The local file stays: the server may come back after all, and then it goes on from there.
            finished.tail = Some((name, end));
        }
    }
    Ok(finished)
}
