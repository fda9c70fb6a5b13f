//! Barman of Debian's package, over pg_basebackup.

use crate::scene::{MAJOR, SEGMENTS, Scene, command, copy, directory, installed, own_directory, restore, run};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use surus_backup::restore::target::{Goal, RecoveryTarget};
use surus_core::clock::Deadline;
use surus_prove::engine::{Engine, Kind, Wish, open};
use surus_testkit::require_major;
use tempfile::TempDir;

/// A server in Barman's catalogue, with a backup.
pub struct Master {
    pub scene: Scene,
    program: PathBuf,
}

/// A copy of the catalogue.
pub struct Catalogue {
    pub dir: TempDir,
    pub engine: Box<dyn Engine>,
}

impl Master {
    /// Server with Barman beside it; none when a program is not here. `options` are lines of the server's section.
    pub fn new(options: &str) -> Option<Self> {
        require_major(MAJOR)?;
        let program = installed("barman")?;
        let scene = Scene::new(|dir| {
            let incoming = format!("{}/barman/pg/incoming", dir.display());
            format!("mkdir -p {incoming} && cp %p {incoming}/%f.tmp && mv {incoming}/%f.tmp {incoming}/%f")
        });
        own_directory(&scene.path("barman"));
        let master = Self { scene, program };
        master.scene.fill();
        fs::write(master.scene.path("barman.conf"), master.config(&master.scene.path("barman"), options)).unwrap();
        master.archive();
        Some(master)
    }

    fn config(&self, home: &Path, options: &str) -> String {
        let server = &self.scene.server;
        let dsn = format!(
            "host={} port={} user=postgres dbname=postgres",
            server.local().socket_dir().display(),
            server.local().port()
        );
        format!(
            "[barman]\nbarman_home = {0}\nbarman_user = postgres\nlog_file = {0}/barman.log\nlog_level = INFO\n\n\
             [pg]\ndescription = shop\nbackup_method = postgres\narchiver = on\nstreaming_archiver = off\n\
             immediate_checkpoint = true\npath_prefix = {1}\nconninfo = {dsn}\nstreaming_conninfo = {dsn}\n{options}\n",
            home.display(),
            server.programs().bin_dir().display(),
        )
    }

    fn run(&self, arguments: &[&str]) -> String {
        let config = self.scene.path("barman.conf");
        run(command(&self.program, self.scene.dir.path()).arg("-c").arg(config).args(arguments))
    }

    /// Lets Barman take in what arrived. It begins no backup before it has seen WAL.
    pub fn archive(&self) {
        let deadline = Deadline::after(Duration::from_secs(60));
        loop {
            self.scene.server.sql("SELECT pg_create_restore_point('x')");
            self.scene.wait_archived();
            self.run(&["archive-wal", "pg"]);
            let wals = self.scene.path("barman/pg/wals/xlog.db");
            if fs::metadata(wals).is_ok_and(|meta| meta.len() > 0) {
                return;
            }
            assert!(!deadline.passed(), "Barman sees no WAL");
        }
    }

    pub fn back_up(&self) {
        self.run(&["backup", "pg"]);
        self.archive();
    }

    /// A copy of the catalogue with a configuration of its own.
    pub fn copy(&self, options: &str) -> Catalogue {
        let dir = directory();
        let home = dir.path().join("barman");
        copy(&self.scene.path("barman"), &home);
        let config = dir.path().join("barman.conf");
        let hook = "pre_recovery_script = touch /tmp/engines-hook-ran\n";
        fs::write(&config, self.config(&home, &format!("{options}{hook}"))).unwrap();
        let wish = Wish { kind: Some(Kind::Barman), config: Some(config), ..Wish::default() };
        Catalogue { engine: open(&wish).unwrap(), dir }
    }
}

impl Catalogue {
    /// The newest backup's directory.
    pub fn backup(&self) -> PathBuf {
        let base = self.dir.path().join("barman/pg/base");
        let mut all: Vec<PathBuf> = fs::read_dir(base).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all.pop().unwrap()
    }

    /// The archived segments, oldest first.
    pub fn segments(&self) -> Vec<PathBuf> {
        let wals = self.dir.path().join("barman/pg/wals");
        let mut all = Vec::new();
        for folder in fs::read_dir(wals).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
            all.extend(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.retain(|path| path.file_name().unwrap().len() == 24);
        all.sort();
        all
    }
}

#[test]
fn a_server_of_barman_is_surveyed_and_restored() {
    let Some(master) = Master::new("") else { return };
    master.back_up();
    master.scene.go_on();
    master.archive();
    let catalogue = master.copy("");
    let survey = catalogue.engine.survey().unwrap();
    assert_eq!((survey.major, survey.backups.len(), survey.gaps.len()), (Some(MAJOR), 1, 0));
    let held = &survey.backups[0];
    assert!(held.trouble.is_none() && held.stop_lsn > held.start_lsn && held.stopped_at > held.started_at, "{held:?}");
    let good = restore(catalogue.engine.as_ref(), &RecoveryTarget::default()).unwrap();
    assert_eq!(good.later, SEGMENTS);
    assert!(good.landed.notes.is_empty(), "{:?}", good.landed.notes);
    let target = RecoveryTarget { goal: Goal::Lsn(held.stop_lsn.unwrap()), ..RecoveryTarget::default() };
    assert_eq!(restore(catalogue.engine.as_ref(), &target).unwrap().later, 0);
    assert!(!Path::new("/tmp/engines-hook-ran").exists(), "hooks are not run");
}
