//! A directory of its own for each test server, and the removal of those that killed tests left behind.
//!
//! `<root>/<name>` belongs to whoever holds the lock on `<root>/<name>.lock`. The kernel gives a lock back when its
//! process ends however it ends, so a directory whose lock is free is left over.

use std::{
    env,
    fs::{self, File},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    process,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};
use surus_pg::server::kill_leftover;

/// A locked run directory; removed when dropped unless kept.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
    keep: bool,
}

impl RunDir {
    pub(crate) fn create() -> Self {
        static SWEPT: Once = Once::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let root = root();
        SWEPT.call_once(|| sweep(&root));
        loop {
            let name = format!("{}-{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
            let (path, lock_path) = (root.join(&name), root.join(format!("{name}.lock")));
            // The lock comes before the directory: a sweep never sees one without the other.
            let Ok(lock) = File::create_new(&lock_path) else { continue };
            lock.try_lock().expect("a new file is not locked by anybody");
            if path.exists() {
                continue;
            }
            fs::create_dir(&path).expect("a run directory can be made");
            let keep = env::var_os("SURUS_TEST_KEEP").is_some_and(|value| !value.is_empty() && value != "0");
            return Self { path, lock_path, _lock: lock, keep };
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if self.keep {
            // A sweep would take it once the lock is free; without a lock file it is no run directory any more.
            let kept = self.path.with_file_name(format!("kept-{}", self.path.file_name().unwrap().display()));
            let _ = fs::rename(&self.path, &kept);
            eprintln!("kept: {}", kept.display());
        } else {
            let _ = fs::remove_dir_all(&self.path);
        }
        let _ = fs::remove_file(&self.lock_path);
    }
}

/// Where all run directories and templates are: a short path, because sockets are in it, that others may enter (the
/// servers' account) but not write to.
pub(crate) fn root() -> PathBuf {
    let uid = fs::metadata("/proc/self").expect("/proc is there").uid();
    let root = env::var_os("SURUS_TEST_DIR").map_or_else(|| format!("/tmp/surus-test-{uid}").into(), PathBuf::from);
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&root).expect("the test directory can be made");
    let owner = fs::metadata(&root).expect("the test directory is there").uid();
    assert!(owner == uid, "{} belongs to uid {owner}; set SURUS_TEST_DIR to a directory of your own", root.display());
    root
}

/// Removes the run directories whose lock is free, and stops a server that still runs in one.
pub(crate) fn sweep(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let lock_path = entry.path();
        if lock_path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let Ok(lock) = File::open(&lock_path) else { continue };
        if lock.try_lock().is_err() {
            continue;
        }
        let dir = lock_path.with_extension("");
        kill_leftover(&dir.join("data"));
        let _ = fs::remove_dir_all(&dir);
        let _ = fs::remove_file(&lock_path);
    }
}
