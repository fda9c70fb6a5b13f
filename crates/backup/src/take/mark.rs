//! The mark of a backup that is being taken: it keeps a second one from being taken at the same time, keeps what it
//! needs from being expired, and names what a backup that was broken off has left.

use crate::{
    error::{BackupError, Result},
    repo::{Cluster, json, place::Created},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};
use surus_core::{clock, code};

/// How often a backup that is being taken says so.
const ALIVE_EVERY: Duration = Duration::from_secs(20);
/// A mark of another machine that is silent for longer is of a backup that was broken off.
pub const SILENT_FOR: Duration = Duration::from_secs(300);

/// What the mark says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginNote {
    pub label: String,
    pub full: bool,
    pub host: String,
    pub pid: u32,
    pub begun_at: Timestamp,
    /// Written again and again while the backup is being taken.
    pub alive_at: Timestamp,
    /// The backup this one builds on; expiry must not take it away.
    #[serde(default)]
    pub parent: Option<String>,
}

impl BeginNote {
    /// Is somebody still at work? One that has not said so for long is not, by clocks that may differ, so that it gets
    /// a long time; on this machine the process is asked, too.
    pub fn alive(&self) -> bool {
        let silent = clock::now().duration_since(self.alive_at).unsigned_abs();
        let gone = self.host == host() && !Path::new(&format!("/proc/{}", self.pid)).exists();
        silent < SILENT_FOR && !gone
    }
}

/// Ours: removed when the backup is done, left silent when it is not.
#[derive(Debug)]
pub struct BeginMark {
    cluster: Cluster,
    note: BeginNote,
    /// Dropping it ends the thread that says that we are alive.
    stop: Option<Sender<()>>,
    alive: Option<JoinHandle<()>>,
}

impl BeginMark {
    /// Claims the cluster for a backup. The label of one that was broken off is taken over, with what it left.
    ///
    /// # Errors
    /// When another backup is being taken.
    pub fn claim(cluster: &Cluster, full: bool, parent: Option<String>) -> Result<Self> {
        let folder = cluster.names.begun_folder();
        let mut label = None;
        for entry in cluster.repo.place().list(&folder)? {
            let Some(there) = cluster.repo.note::<BeginNote>(&entry.name)? else { continue };
            // An earlier one of this very process is over. In containers the number alone says nothing.
            let own = there.pid == std::process::id() && there.host == host();
            if there.alive() && !own {
                let text = format!("backup {} is being taken by process {} on {}", there.label, there.pid, there.host);
                return Err(BackupError::refused(code::BACKUP_BUSY, text));
            }
            // One whose manifest was written is done; only the last step was cut off.
            let done = cluster.repo.place().read(&cluster.names.manifest(&there.label))?.is_some();
            if done || label.is_some() {
                cluster.repo.place().delete(&[entry.name])?;
            } else {
                label = Some(there.label);
            }
        }
        let taken_over = label.is_some();
        let label = match label {
            Some(label) => label,
            None => free_label(cluster, full)?,
        };
        let now = clock::now();
        let pid = std::process::id();
        let note = BeginNote { label, full, host: host(), pid, begun_at: now, alive_at: now, parent };
        let name = cluster.names.begun(&note.label);
        if taken_over {
            cluster.repo.place().replace(&name, &json(&note))?;
        } else if cluster.repo.place().create(&name, &json(&note))? == Created::AlreadyThere {
            return Err(BackupError::refused(code::BACKUP_BUSY, format!("backup {} just began elsewhere", note.label)));
        }
        let (stop, stopped) = channel();
        let (there, mut again) = (cluster.clone(), note.clone());
        let alive = thread::spawn(move || {
            while stopped.recv_timeout(ALIVE_EVERY) == Err(RecvTimeoutError::Timeout) {
                again.alive_at = clock::now();
                // When it cannot be written now, it may be the next time; the backup itself will notice a lost place.
                let _ = there.repo.place().replace(&there.names.begun(&again.label), &json(&again));
            }
        });
        Ok(Self { cluster: cluster.clone(), note, stop: Some(stop), alive: Some(alive) })
    }

    /// The backup's label.
    pub fn label(&self) -> &str {
        &self.note.label
    }

    /// The manifest is written: the mark goes.
    ///
    /// # Errors
    /// When it cannot be removed; the backup is complete all the same.
    pub fn done(mut self) -> Result<()> {
        self.fall_silent();
        Ok(self.cluster.repo.place().delete(&[self.cluster.names.begun(&self.note.label)])?)
    }

    fn fall_silent(&mut self) {
        drop(self.stop.take());
        if let Some(alive) = self.alive.take() {
            // It cannot panic, and there would be nothing to do about it.
            let _ = alive.join();
        }
    }
}

impl Drop for BeginMark {
    fn drop(&mut self) {
        self.fall_silent();
    }
}

/// A label that no backup has: the time, `-full` or `-incr`, and a number where two began in one second.
fn free_label(cluster: &Cluster, full: bool) -> Result<String> {
    let stem = format!("{}-{}", clock::now().strftime("%Y%m%dT%H%M%SZ"), if full { "full" } else { "incr" });
    for number in 1..100 {
        let label = if number == 1 { stem.clone() } else { format!("{stem}{number}") };
        if cluster.repo.place().read(&cluster.names.manifest(&label))?.is_none() {
            return Ok(label);
        }
    }
    Err(BackupError::refused(code::BACKUP_BUSY, format!("a hundred backups are called {stem}")))
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::Repo;

    #[test]
    fn the_same_process_number_on_another_host_is_somebody_else() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Repo::in_folder(&dir.path().join("repo")).unwrap().cluster(7);
        let mark = BeginMark::claim(&cluster, true, None).unwrap();
        let name = cluster.names.begun(mark.label());
        let label = mark.label().to_owned();
        drop(mark);
        // What this process left itself is taken over.
        let again = BeginMark::claim(&cluster, true, None).unwrap();
        assert_eq!(again.label(), label);
        drop(again);
        let note: BeginNote = cluster.repo.note(&name).unwrap().unwrap();
        let elsewhere = BeginNote { host: "elsewhere".into(), ..note };
        cluster.repo.place().replace(&name, &json(&elsewhere)).unwrap();
        let refused = BeginMark::claim(&cluster, true, None).unwrap_err();
        assert_eq!(refused.code(), code::BACKUP_BUSY);
    }
}
