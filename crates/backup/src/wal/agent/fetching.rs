//! Fetches ahead: the segments after the one that recovery asked for, verified, into a spool beside the server's WAL.
//!
//! Only whole segments of the timeline that was asked for are in the spool. It never says that a segment is not in the
//! archive: an absence is proven by the command, at the moment when it is asked.

use super::{
    ahead::{Ahead, Waited},
    serve::Role,
    words::{Answer, Trouble},
};
use crate::{
    error::{BackupError, Result},
    repo::Cluster,
    wal::{
        fetch::{self, Spooled},
        name::Segment,
    },
};
use std::{
    fs::{self, DirBuilder},
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use surus_core::{code, monitor::Monitor};

/// How often a command is told that its segment is being worked on.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// The agent of `surus wal get` for one data directory.
pub struct Fetching {
    cluster: Cluster,
    /// Bytes of a segment.
    size: u64,
    spool: PathBuf,
    /// Segments that are fetched before they are asked for, at most.
    depth: u64,
    ahead: Ahead<Spooled>,
    /// Files that were handed out: the command has taken them, or has gone.
    handed: Mutex<Vec<PathBuf>>,
    monitor: Arc<dyn Monitor>,
}

impl Fetching {
    /// For this cluster. The spool is this agent's alone: what is in it is of an earlier one, and goes.
    ///
    /// # Errors
    /// When the spool cannot be made, or the repository does not know the cluster.
    pub fn new(cluster: Cluster, spool: PathBuf, depth: u64, monitor: Arc<dyn Monitor>) -> Result<Self> {
        let mark = cluster.mark()?.ok_or_else(|| {
            let id = cluster.names.system_identifier;
            BackupError::refused(code::REPO_CLUSTER, format!("the repository holds nothing of cluster {id}"))
        })?;
        match fs::remove_dir_all(&spool) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(BackupError::file("cannot empty", &spool)(error));
            }
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&spool).map_err(BackupError::file("cannot create", &spool))?;
        let (ahead, handed) = (Ahead::default(), Mutex::default());
        Ok(Self { cluster, size: mark.segment_size, spool, depth, ahead, handed, monitor })
    }

    /// Where the next segments after `asked` are wanted, and nothing else.
    fn follow(&self, asked: Segment) {
        let after = (1..=self.depth).map(|ahead| Segment { number: asked.number + ahead, ..asked }.to_string());
        let window: Vec<String> = after.collect();
        let name = asked.to_string();
        for dropped in self.ahead.keep(|other| other == name || window.iter().any(|one| one == other)) {
            drop(fs::remove_file(dropped.path));
        }
        for taken in std::mem::take(&mut *self.handed.lock().unwrap_or_else(PoisonError::into_inner)) {
            if taken.file_name().is_none_or(|taken| taken.to_str() != Some(name.as_str())) {
                drop(fs::remove_file(taken));
            }
        }
        self.ahead.forget_failures();
        self.ahead.now(&name);
        self.ahead.later(window);
    }

    fn fetch(&self, name: &str) -> Result<Spooled> {
        match fetch::look(&self.cluster, name)? {
            Some(content) => fetch::spool(&content, self.spool.join(name)),
            None => Err(BackupError::refused(code::WAL_ABSENT, format!("{name} is not in the archive"))),
        }
    }
}

impl Role for Fetching {
    fn answer(&self, name: &str, alive: &mut dyn FnMut() -> bool) -> Answer {
        let Some(asked) = Segment::parse(name, self.size) else { return Answer::Pass };
        self.follow(asked);
        loop {
            match self.ahead.wait(name, TOLD_EVERY) {
                Waited::Settled(Ok(spooled)) => {
                    self.handed.lock().unwrap_or_else(PoisonError::into_inner).push(spooled.path.clone());
                    return spooled.into();
                }
                Waited::Settled(Err(_)) | Waited::Unknown => return Answer::Pass,
                Waited::NotYet if alive() => {}
                Waited::NotYet => return Answer::Pass,
            }
        }
    }

    fn work(&self) {
        let (name, _) = self.ahead.take();
        let result = self.fetch(&name);
        if let Err(error) = &result {
            // After one that is not there, or that cannot be read, the next ones are of no use yet.
            self.ahead.stop_ahead();
            if error.code() != code::WAL_ABSENT {
                self.monitor.note(&error.to_string());
            }
        }
        self.ahead.settle(&name, result.map_err(Trouble::from));
    }

    fn idle(&self) -> bool {
        self.ahead.idle()
    }

    fn directory(&self) -> &Path {
        &self.spool
    }

    fn end(&self) {
        drop(fs::remove_dir_all(&self.spool));
    }
}
