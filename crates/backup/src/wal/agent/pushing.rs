//! Archives ahead: with the segment that the server asks for, the next ones that are ready.

use super::{
    ahead::{Ahead, Waited},
    serve::Role,
    words::{Answer, Trouble},
};
use crate::{
    error::BackupError,
    wal::{
        push::{Archiver, Identity},
        ready::waiting_segments,
    },
};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use surus_core::{code, monitor::Monitor};

/// How often a command is told that its segment is being worked on.
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// How often a segment is archived anew because its file is another one than it was.
const CHANGES: usize = 3;

/// The agent of `surus wal push` for one pg_wal.
pub struct Pushing {
    archiver: Archiver,
    pg_wal: PathBuf,
    /// Segments that are archived before they are asked for, at most.
    depth: usize,
    threads: usize,
    ahead: Ahead<Identity>,
    /// The repository that was opened is not the one that is there: another process may open that.
    over: AtomicBool,
    monitor: Arc<dyn Monitor>,
}

impl Pushing {
    /// For this directory.
    pub fn new(archiver: Archiver, pg_wal: PathBuf, depth: usize, threads: usize, monitor: Arc<dyn Monitor>) -> Self {
        Self { archiver, pg_wal, depth, threads, ahead: Ahead::default(), over: AtomicBool::new(false), monitor }
    }

    /// Notes it. An agent whose repository is gone, or lets it in no more, is of no use: it ends.
    fn failed(&self, error: BackupError) -> Trouble {
        self.monitor.note(&error.to_string());
        if [code::REPO_ABSENT, code::REPO_KEY, code::REPO_DENIED].contains(&error.code()) {
            self.over.store(true, Ordering::SeqCst);
        }
        error.into()
    }

    fn wait(&self, name: &str, alive: &mut dyn FnMut() -> bool) -> Answer {
        let mut changes = 0;
        loop {
            match self.ahead.wait(name, TOLD_EVERY) {
                Waited::Settled(Ok(archived)) => {
                    // What was archived is the file of then; the server speaks of the file of now.
                    if Identity::of(&self.pg_wal.join(name)).is_ok_and(|now| now == archived) {
                        // In the repository that is there now, not in one that was there then.
                        return match self.archiver.repo().still_there() {
                            Ok(()) => Answer::Archived,
                            Err(error) => self.failed(error).into(),
                        };
                    }
                    changes += 1;
                    if changes > CHANGES {
                        return Answer::Pass;
                    }
                    self.ahead.now(name);
                }
                Waited::Settled(Err(trouble)) => {
                    // Whatever stands in the way may well stand in that of the next ones too.
                    self.ahead.stop_ahead();
                    return trouble.into();
                }
                Waited::NotYet if alive() => {}
                Waited::NotYet | Waited::Unknown => return Answer::Pass,
            }
        }
    }
}

impl Role for Pushing {
    fn answer(&self, name: &str, alive: &mut dyn FnMut() -> bool) -> Answer {
        // What failed ahead is tried again when the server comes nearer.
        self.ahead.forget_failures();
        self.ahead.now(name);
        let next: Vec<_> =
            waiting_segments(&self.pg_wal).into_iter().filter(|other| other.as_str() > name).take(self.depth).collect();
        self.ahead.keep(|other| other == name || next.iter().any(|one| one == other));
        self.ahead.later(next);
        self.wait(name, alive)
    }

    fn work(&self) {
        let (name, alone) = self.ahead.take();
        let path = self.pg_wal.join(&name);
        let push = || {
            let before = Identity::of(&path)?;
            self.archiver.push_file(&path, if alone { self.threads } else { 1 })?;
            Ok(before)
        };
        let result: crate::Result<Identity> = push();
        self.ahead.settle(&name, result.map_err(|error| self.failed(error)));
    }

    fn idle(&self) -> bool {
        self.ahead.idle()
    }

    fn directory(&self) -> &Path {
        &self.pg_wal
    }

    fn over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn end(&self) {}
}
