//! pg_basebackup of the major, in all its forms.

use crate::scene::{MAJOR, SEGMENTS, Scene, client, copy, directory, own_directory, restore, run};
use std::{
    fs,
    path::{Path, PathBuf},
};
use surus_backup::restore::target::{Goal, RecoveryTarget};
use surus_prove::engine::{Engine, Kind, Wish, open};
use surus_testkit::require_major;
use tempfile::TempDir;

/// A backup, and the archive of the server that it was taken from.
pub struct Master {
    pub scene: Scene,
}

/// A copy of the backup and of the archive.
pub struct Copy {
    pub dir: TempDir,
    pub engine: Box<dyn Engine>,
}

pub fn archive_command(dir: &Path) -> String {
    format!("test -d {0}/wal || mkdir {0}/wal; cp %p {0}/wal/%f.tmp && mv {0}/wal/%f.tmp {0}/wal/%f", dir.display())
}

impl Master {
    pub fn new(arguments: &[&str]) -> Option<Self> {
        Self::on(arguments, Scene::new(archive_command))
    }

    pub fn on(arguments: &[&str], scene: Scene) -> Option<Self> {
        require_major(MAJOR)?;
        own_directory(scene.dir.path());
        fs::set_permissions(scene.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        scene.fill();
        let master = Self { scene };
        master.back_up(arguments);
        Some(master)
    }

    pub fn back_up(&self, arguments: &[&str]) {
        let to = self.scene.path("backup");
        let mut command = client(&self.scene.server, "pg_basebackup");
        command.args(["-c", "fast", "-D"]).arg(&to).args(arguments);
        if !arguments.contains(&"t") {
            let map = format!("{}={}", self.scene.path("space").display(), self.scene.path("copied-space").display());
            command.args(["-T", &map]);
        }
        run(&mut command);
    }

    /// A copy; `wal` says whether the archive belongs to it.
    pub fn copy(&self, wal: bool) -> Copy {
        let dir = directory();
        let backup = dir.path().join("backup");
        copy(&self.scene.path("backup"), &backup);
        // The tablespace of a plain backup is where its link leads.
        if self.scene.path("copied-space").exists() {
            copy(&self.scene.path("copied-space"), &dir.path().join("copied-space"));
            let link = backup.join(format!("pg_tblspc/{}", self.scene.space()));
            fs::remove_file(&link).unwrap();
            std::os::unix::fs::symlink(dir.path().join("copied-space"), &link).unwrap();
        }
        let archive = dir.path().join("wal");
        copy(&self.scene.path("wal"), &archive);
        let wish =
            Wish { kind: Some(Kind::Basebackup), dir: Some(backup), wal: wal.then_some(archive), ..Wish::default() };
        Copy { engine: open(&wish).unwrap(), dir }
    }
}

impl Copy {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

#[test]
fn a_plain_backup_leads_to_its_end_and_with_an_archive_further() {
    let Some(master) = Master::new(&[]) else { return };
    master.scene.go_on();
    let alone = master.copy(false);
    let survey = alone.engine.survey().unwrap();
    assert_eq!((survey.major, survey.backups.len()), (Some(MAJOR), 1));
    assert!(survey.backups[0].stop_lsn > survey.backups[0].start_lsn && survey.backups[0].stopped_at.is_some());
    let good = restore(alone.engine.as_ref(), &RecoveryTarget::default()).unwrap();
    assert_eq!(good.later, 0);
    let time =
        RecoveryTarget { goal: Goal::Time("2030-01-01T00:00:00Z".parse().unwrap()), ..RecoveryTarget::default() };
    assert!(restore(alone.engine.as_ref(), &time).err().unwrap().contains("without a WAL archive"));
    let with = master.copy(true);
    assert_eq!(restore(with.engine.as_ref(), &RecoveryTarget::default()).unwrap().later, SEGMENTS);
    let stop = with.engine.survey().unwrap().backups[0].stop_lsn.unwrap();
    let lsn = RecoveryTarget { goal: Goal::Lsn(stop), ..RecoveryTarget::default() };
    assert_eq!(restore(with.engine.as_ref(), &lsn).unwrap().later, 0);
}

#[test]
fn tar_files_are_unpacked_with_their_tablespaces() {
    for arguments in [&["-F", "t"][..], &["-F", "t", "-z", "--manifest-checksums=SHA256"]] {
        let Some(master) = Master::new(arguments) else { return };
        let good = restore(master.copy(false).engine.as_ref(), &RecoveryTarget::default()).unwrap();
        assert_eq!(good.later, 0);
        let original = master.scene.path("space").display().to_string();
        let used = run(std::process::Command::new("find").arg(original).args(["-newer", "/proc/self", "-name", "x"]));
        assert!(used.is_empty());
    }
}
