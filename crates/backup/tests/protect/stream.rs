//! Backups over the network: the same files as from the data directory, and as pg_basebackup brings.

use crate::{scene::Scene, take::Files};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};
use surus_backup::{
    block::BLOCK,
    chain,
    manifest::{BackupKind, Manifest, Method},
    take::TakeOptions,
};
use surus_pg::{LocalServer, server::BaseBackup};
use surus_testkit::{Server, each_major};

fn by(method: Method, kind: BackupKind) -> TakeOptions {
    TakeOptions { method: Some(method), kind: Some(kind), workers: 3, ..TakeOptions::default() }
}

fn manifest(scene: &Scene, label: &str) -> Manifest {
    chain::read_manifest(&scene.cluster(), label, "the test").unwrap()
}

/// Size and checksum of each file but the control file, which every checkpoint changes.
fn sums(manifest: &Manifest) -> BTreeMap<&str, (u64, Option<u32>)> {
    let files = manifest.files.iter().filter(|file| file.path != "global/pg_control");
    files.map(|file| (file.path.as_str(), (file.size, file.crc32c))).collect()
}

#[test]
fn the_files_are_those_of_the_data_directory() {
    each_major(|major| {
        let server = Server::builder().major(major).checksums(true).autovacuum(false).start();
        let space = server.data_dir().parent().unwrap().join("space");
        fs::create_dir(&space).unwrap();
        server.local().account().own(&space).unwrap();
        server.sql(&format!("CREATE TABLESPACE s LOCATION '{}'", space.display()));
        let table = |name: &str, rows: u32, more: &str| {
            let rows = format!("SELECT g AS id, repeat(md5(g::text), 3) AS text FROM generate_series(1, {rows}) g");
            server.sql(&format!("CREATE {more} TABLE {name} AS {rows}"));
        };
        // Several parts, and the last one short of a part.
        table("large", 40_000, "");
        table("unlogged", 1000, "UNLOGGED");
        server.sql("CREATE TABLE apart TABLESPACE s AS SELECT generate_series(1, 5000) AS id; CHECKPOINT");
        let scene = Scene::with(server);
        let here = scene.take(&by(Method::Local, BackupKind::Full));
        let there = scene.take(&by(Method::Stream, BackupKind::Full));
        let (here, there) = (manifest(&scene, &here.about.label), manifest(&scene, &there.about.label));
        assert_eq!(sums(&here), sums(&there), "on {major}");
        let folders = |manifest: &Manifest| manifest.directories.iter().cloned().collect::<BTreeSet<_>>();
        let missing: Vec<_> = folders(&here).difference(&folders(&there)).cloned().collect();
        assert_eq!(missing, [], "on {major}");
        let about = &there.about;
        assert_eq!((about.method, about.timeline, about.bad_pages.len()), (Method::Stream, 1, 0));
        assert!(about.backup_label.contains("START WAL LOCATION"), "{}", about.backup_label);
        let map = about.tablespace_map.as_deref().unwrap_or_default();
        assert!(map.contains(space.to_str().unwrap()) && about.tablespaces.len() == 1, "{map}");
        let mut files = Files::of(&scene.repo, &about.label);
        files.all();
        // Only what changed is stored by the next one.
        scene.server.sql("UPDATE large SET text = 'x' WHERE id = 20000; CHECKPOINT");
        let next = scene.take(&by(Method::Stream, BackupKind::Incremental));
        assert!(next.about.own < about.own / 5, "{} of {}", next.about.own, about.own);
        let mut files = Files::of(&scene.repo, &next.about.label);
        files.all();
        let path = scene.server.value("SELECT pg_relation_filepath('large') AS v");
        assert_eq!(files.content(&path), fs::read(scene.server.data_dir().join(&path)).unwrap());
        let path = scene.server.value("SELECT pg_relation_filepath('apart') AS v");
        assert_eq!(files.content(&path), fs::read(scene.server.data_dir().join(&path)).unwrap());
    });
}

#[test]
fn the_files_are_those_of_pg_basebackup() {
    for major in [15, 16, 18].into_iter().filter_map(surus_testkit::require_major) {
        let server = Server::builder().major(major).checksums(true).autovacuum(false).start();
        server.sql("CREATE TABLE t AS SELECT generate_series(1, 20000) AS id; CREATE UNLOGGED TABLE u (id int)");
        server.sql("CHECKPOINT");
        let scene = Scene::with(server);
        let taken = scene.take(&by(Method::Stream, BackupKind::Full));
        let dir = tempfile::tempdir().unwrap();
        let dsn = scene.server.dsn("postgres").replace(" dbname=postgres", "");
        let backup = BaseBackup { dsn, slot: None, create_slot: false, standby: false, sync: false };
        let programs = scene.server.programs();
        let copy = LocalServer::from_base_backup(programs, dir.path(), "postgres", &backup).unwrap();
        let mut theirs = BTreeMap::new();
        walk(copy.data_dir(), copy.data_dir(), &mut theirs);
        // Its own, and what a later checkpoint or the copy's own settings changed.
        for own in ["backup_label", "backup_manifest", "global/pg_control", "postgresql.conf", "tablespace_map"] {
            theirs.remove(own);
        }
        let manifest = manifest(&scene, &taken.about.label);
        let mut ours: BTreeMap<_, _> = sums(&manifest).into_iter().map(|(path, sum)| (path.to_owned(), sum)).collect();
        ours.remove("postgresql.conf");
        assert_eq!(ours, theirs, "on {major}");
    }
}

fn walk(data: &Path, folder: &Path, files: &mut BTreeMap<String, (u64, Option<u32>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let inside = path.strip_prefix(data).unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && inside != "pg_wal" {
            walk(data, &path, files);
        } else if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            files.insert(inside, (bytes.len() as u64, Some(crc32c::crc32c(&bytes))));
        }
    }
}

#[test]
fn a_damaged_page_is_named_over_the_network_too() {
    for major in [15, 18].into_iter().filter_map(surus_testkit::require_major) {
        let scene = Scene::new(major);
        scene.server.sql("CREATE TABLE t AS SELECT generate_series(1, 100000) AS id; CHECKPOINT");
        let path = scene.server.value("SELECT pg_relation_filepath('t') AS v");
        let file = scene.server.data_dir().join(&path);
        let mut bytes = fs::read(&file).unwrap();
        bytes[200 * BLOCK + 5000] ^= 0xFF;
        fs::write(&file, bytes).unwrap();
        let taken = scene.take(&by(Method::Stream, BackupKind::Full));
        let bad: Vec<_> = taken.about.bad_pages.iter().map(|page| (page.path.as_str(), page.block)).collect();
        assert_eq!(bad, [(path.as_str(), 200)]);
    }
}
