//! Getting everything onto the disk: a whole filesystem at a time, which for many files is far quicker than each alone.

use crate::error::{BackupError, Result};
use std::{
    fs::File,
    path::PathBuf,
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};
use surus_core::code;

/// The pause between two rounds while files are being written.
const PAUSE: Duration = Duration::from_millis(500);

/// A filesystem that is written to.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    /// Opened before anything is written: flushing it tells of every write that failed since.
    root: File,
}

impl Disk {
    /// The filesystem of a directory.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn open(path: PathBuf) -> Result<Self> {
        let root = File::open(&path).map_err(BackupError::file("cannot read", &path))?;
        Ok(Self { path, root })
    }

    /// Waits until all that was written is on the disk.
    ///
    /// # Errors
    /// When something could not be written.
    pub fn flush(&self) -> Result<()> {
        let flushed = rustix::fs::syncfs(&self.root);
        flushed.map_err(|error| BackupError::file("cannot flush", &self.path)(error.into()))
    }
}

/// Does the work, and meanwhile has what was written so far brought to the disk: else the disk would be idle first, and
/// the processors later.
///
/// # Errors
/// When the work fails, or flushing does.
pub fn while_at(disks: &[Disk], work: impl FnOnce() -> Result<()>) -> Result<()> {
    thread::scope(|scope| {
        let (stop, stopped) = channel::<()>();
        let flusher = scope.spawn(move || {
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                disks.iter().try_for_each(Disk::flush)?;
            }
            Ok(())
        });
        let done = work();
        drop(stop);
        let ended = || BackupError::refused(code::BUG, "the thread that flushes ended without a result");
        let flushed = flusher.join().unwrap_or_else(|_| Err(ended()));
        done.and(flushed)
    })
}
