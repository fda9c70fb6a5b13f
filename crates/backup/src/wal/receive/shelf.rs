//! The way from the spool into the archive: a thread of its own, so that receiving never waits for the repository.

use super::spool::{names, whole_names};
use crate::{
    error::{BackupError, Result},
    repo::{Repo, codec::Codec},
    wal::{
        name::{FileKind, file_kind},
        push,
    },
};
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use surus_core::{code, monitor::Monitor};

/// How long to wait after a failure.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Brings whole files of a spool into the archive, and then removes them.
#[derive(Debug)]
pub struct Shelf {
    shared: Arc<Shared>,
    /// Dropping it ends the thread.
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    archived: AtomicU64,
    /// What will not go away by trying again.
    refused: Mutex<Option<BackupError>>,
}

/// What is needed to archive.
pub struct Shelving {
    pub repo: Repo,
    pub cluster: u64,
    pub codec: Codec,
    pub folder: PathBuf,
    pub monitor: Arc<dyn Monitor>,
}

impl Shelf {
    /// Starts the thread.
    pub fn start(work: Shelving) -> Self {
        let shared = Arc::new(Shared { archived: AtomicU64::new(0), refused: Mutex::new(None) });
        let (wake, woken) = channel();
        let there = shared.clone();
        let thread = thread::spawn(move || work.run(&there, &woken));
        Self { shared, wake: Some(wake), thread: Some(thread) }
    }

    /// There is something new.
    pub fn wake(&self) {
        if let Some(wake) = &self.wake {
            // It hangs up only after a refusal, which is asked for.
            let _ = wake.send(());
        }
    }

    /// Segments that were archived.
    pub fn archived(&self) -> u64 {
        self.shared.archived.load(Ordering::Relaxed)
    }

    /// Why nothing more is archived.
    pub fn refused(&self) -> Option<BackupError> {
        self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Archives what is there once more, and ends.
    ///
    /// # Errors
    /// When something was refused for good. What could not be archived for now stays in the spool.
    pub fn end(mut self) -> Result<u64> {
        drop(self.wake.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            return Err(BackupError::refused(code::BUG, "the thread that archives WAL ended"));
        }
        self.refused().map_or_else(|| Ok(self.archived()), Err)
    }
}

impl Shelving {
    fn run(&self, shared: &Shared, woken: &Receiver<()>) {
        let mut said = false;
        loop {
            let wait = match self.shelve(shared) {
                Ok(()) => Duration::from_secs(3600),
                Err(error) if for_good(&error) => {
                    *shared.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return;
                }
                Err(error) => {
                    if !said {
                        self.monitor.note(&format!("WAL waits in {}: {error}", self.folder.display()));
                    }
                    AGAIN_AFTER
                }
            };
            said = wait == AGAIN_AFTER;
            match woken.recv_timeout(wait) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => while woken.try_recv().is_ok() {},
                // The end: what came since the last look.
                Err(RecvTimeoutError::Disconnected) => {
                    if let Err(error) = self.shelve(shared) {
                        self.monitor.note(&format!("WAL waits in {}: {error}", self.folder.display()));
                        if for_good(&error) {
                            *shared.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        }
                    }
                    return;
                }
            }
        }
    }

    /// Archives all whole files: histories first, for a segment of a timeline is of little use without.
    fn shelve(&self, shared: &Shared) -> Result<()> {
        for name in whole_names(&self.folder)? {
            let path = self.folder.join(&name);
            let content = fs::read(&path).map_err(BackupError::file("cannot read", &path))?;
            push::push(&self.repo, &name, &content, Some(self.cluster), self.codec)?;
            if name.len() == 24 {
                self.clear_beginnings(&name, &content)?;
                shared.archived.fetch_add(1, Ordering::Relaxed);
            }
            remove(&path)?;
        }
        Ok(())
    }

    /// A beginning of the segment, of this timeline or of one that was left within it, is no longer needed when all of
    /// it is in the one that was archived. Where an older timeline had more, that is WAL which the server does not
    /// have: it stays.
    fn clear_beginnings(&self, name: &str, content: &[u8]) -> Result<()> {
        for other in names(&self.folder)? {
            if file_kind(&other) != Some(FileKind::Partial) || other[8..24] != name[8..24] || other[..8] > name[..8] {
                continue;
            }
            let path = self.folder.join(&other);
            let beginning = fs::read(&path).map_err(BackupError::file("cannot read", &path))?;
            if content.starts_with(&beginning) {
                remove(&path)?;
            } else {
                let kept = self.folder.join(format!("{other}.kept"));
                fs::rename(&path, &kept).map_err(BackupError::file("cannot rename", &path))?;
                let text = "holds WAL that the server's timeline did not take over";
                self.monitor.note(&format!("{} {text}; it is kept", kept.display()));
            }
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(BackupError::file("cannot remove", path)(error)),
        _ => Ok(()),
    }
}

/// Will it be the same the next time? The repository may come back; a conflict stays one.
fn for_good(error: &BackupError) -> bool {
    matches!(error.code(), code::WAL_CONFLICT | code::WAL_REFUSED | code::WAL_NAME | code::REPO_KEY | code::BUG)
}
