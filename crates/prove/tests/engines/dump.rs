//! pg_dump and pg_dumpall of the major, in all their forms.

use crate::scene::{MAJOR, Scene, client, directory, own_directory, restore, run};
use std::path::PathBuf;
use surus_backup::restore::target::{Goal, RecoveryTarget};
use surus_prove::engine::{Engine, Kind, Wish, open};
use surus_testkit::require_major;
use tempfile::TempDir;

/// A server to dump.
pub struct Master {
    pub scene: Scene,
}

impl Master {
    pub fn new() -> Option<Self> {
        require_major(MAJOR)?;
        let scene = Scene::new(|_| String::new());
        scene.fill();
        Some(Self { scene })
    }

    /// A dump of the database: a directory that holds it, and its path.
    pub fn dump(&self, name: &str, arguments: &[&str]) -> (TempDir, PathBuf) {
        let dir = directory();
        own_directory(&dir.path().join("dumps"));
        let path = dir.path().join("dumps").join(name);
        let mut command = client(&self.scene.server, "pg_dump");
        run(command.arg("-f").arg(&path).args(arguments).arg("shop"));
        (dir, path)
    }

    /// What pg_dumpall writes.
    pub fn dump_all(&self, name: &str, arguments: &[&str]) -> (TempDir, PathBuf) {
        let dir = directory();
        own_directory(&dir.path().join("dumps"));
        let path = dir.path().join("dumps").join(name);
        run(client(&self.scene.server, "pg_dumpall").arg("-f").arg(&path).args(arguments));
        (dir, path)
    }

    pub fn dsn(&self) -> String {
        self.scene.server.dsn("shop")
    }
}

pub fn engine(paths: &[&PathBuf], compare: Option<String>) -> Result<Box<dyn Engine>, String> {
    let dumps = paths.iter().map(|path| (*path).clone()).collect();
    open(&Wish { kind: Some(Kind::Dump), dumps, compare, ..Wish::default() }).map_err(|error| error.to_string())
}

#[test]
fn dumps_of_every_form_are_loaded() {
    let Some(master) = Master::new() else { return };
    for arguments in [&["-F", "c"][..], &["-F", "t"], &["-F", "d"], &["-F", "p"], &["-F", "p", "-C"]] {
        let (_dir, path) = master.dump("shop.dump", arguments);
        let engine = engine(&[&path], Some(master.dsn())).unwrap();
        let survey = engine.survey().unwrap();
        assert_eq!((survey.major, survey.backups.len()), (Some(MAJOR), 1), "{arguments:?}");
        let good = restore(engine.as_ref(), &RecoveryTarget::default())
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        assert!(!good.landed.recovers);
        assert!(good.landed.notes.iter().any(|note| note.contains("without login: clerk")), "{:?}", good.landed.notes);
        let time = Goal::Time("2030-01-01T00:00:00Z".parse().unwrap());
        let target = RecoveryTarget { goal: time, ..RecoveryTarget::default() };
        assert!(restore(engine.as_ref(), &target).err().unwrap().contains("not to 2030-01-01"));
    }
}

#[test]
fn a_dump_of_the_whole_cluster_is_loaded_and_its_tablespaces_go_into_the_place() {
    let Some(master) = Master::new() else { return };
    let (_dir, path) = master.dump_all("all.sql", &[]);
    let whole = engine(&[&path], Some(master.dsn())).unwrap();
    let good = restore(whole.as_ref(), &RecoveryTarget::default()).unwrap();
    assert!(good.landed.notes.is_empty(), "{:?}", good.landed.notes);
    run(std::process::Command::new("gzip").arg(&path));
    let packed = engine(&[&path.with_extension("sql.gz")], Some(master.dsn())).unwrap();
    assert!(restore(packed.as_ref(), &RecoveryTarget::default()).is_ok());
    let (_dir, globals) = master.dump_all("globals.sql", &["--globals-only"]);
    let (_other, shop) = master.dump("shop.dump", &["-F", "c"]);
    let both = engine(&[&shop, &globals], Some(master.dsn())).unwrap();
    let good = restore(both.as_ref(), &RecoveryTarget::default()).unwrap();
    assert!(good.landed.notes.is_empty(), "{:?}", good.landed.notes);
    let there = std::fs::read_dir(master.scene.path("space")).unwrap().count();
    assert_eq!(there, 1, "only the server's own directory is in its tablespace");
}
