//! Backups of real servers: complete, page by page what the server has, and broken off without harm.

use crate::scene::Scene;
use std::collections::HashMap;
use surus_backup::{
    Repo,
    block::BLOCK,
    catalogue::{self, Catalogue},
    chain::Chain,
    manifest::BackupKind,
    repo::container::{Kind, read_object},
    take::TakeOptions,
};
use surus_core::code;
use surus_testkit::{Server, each_major};

/// The chunks of a bundle with their hashes.
type Chunks = Vec<(Vec<u8>, [u8; 32])>;

/// The files of a backup, put together from the chain.
pub struct Files<'a> {
    repo: &'a Repo,
    chain: Chain,
    bundles: HashMap<String, Chunks>,
}

impl<'a> Files<'a> {
    pub fn of(repo: &'a Repo, label: &str) -> Self {
        let chain = Chain::read(&repo.choose(None).unwrap(), label).unwrap();
        Self { repo, chain, bundles: HashMap::new() }
    }

    fn has(&self, path: &str) -> bool {
        self.chain.newest().files.iter().any(|file| file.path == path)
    }

    pub fn content(&mut self, path: &str) -> Vec<u8> {
        let number = self.chain.newest().files.iter().position(|file| file.path == path).unwrap();
        let file = &self.chain.newest().files[number];
        let mut bytes = Vec::new();
        for source in &self.chain.sources[number] {
            let manifest = &self.chain.backups[usize::from(source.backup)];
            let chunk = manifest.chunks[source.chunk as usize];
            let names = self.repo.cluster(manifest.about.system_identifier).names;
            let name = names.bundle(&manifest.about.label, chunk.bundle);
            let chunks = self.bundles.entry(name.clone()).or_insert_with(|| read_bundle(self.repo, &name));
            let (raw, hash) = &chunks[chunk.index as usize];
            assert_eq!(*hash, chunk.hash);
            let from = source.at as usize * BLOCK;
            bytes.extend_from_slice(&raw[from..raw.len().min(from + source.count as usize * BLOCK)]);
        }
        assert_eq!(bytes.len() as u64, file.size, "{path}");
        assert!(file.crc32c.is_none_or(|crc| crc32c::crc32c(&bytes) == crc), "{path}");
        bytes
    }

    pub fn all(&mut self) {
        let paths: Vec<_> = self.chain.newest().files.iter().map(|file| file.path.clone()).collect();
        paths.iter().for_each(|path| drop(self.content(path)));
    }
}

fn read_bundle(repo: &Repo, name: &str) -> Chunks {
    let body = repo.place().read(name).unwrap().unwrap();
    let mut chunks = Vec::new();
    read_object(Kind::Bundle, name, &body, repo.keys(), |_, raw, hash| {
        chunks.push((raw, *hash));
        Ok(())
    })
    .unwrap();
    chunks
}

#[test]
fn a_full_backup_and_what_changed_since() {
    each_major(|major| {
        let scene = Scene::new(major);
        let server = &scene.server;
        server
            .sql("CREATE TABLE t AS SELECT g AS id, repeat(md5(g::text), 3) AS text FROM generate_series(1, 20000) g");
        server.sql("CREATE UNLOGGED TABLE u AS SELECT generate_series(1, 1000) AS id");
        let full = scene.take(&TakeOptions::default());
        assert_eq!(full.about.kind, BackupKind::Full);
        assert_eq!(full.about.bad_pages, []);
        assert!(full.segments_pushed > 0, "without archiving the backup brings its own WAL");
        let mut files = Files::of(&scene.repo, &full.about.label);
        let path = server.value("SELECT pg_relation_filepath('t') AS v");
        let on_disk = |path: &str| std::fs::read(server.data_dir().join(path)).unwrap();
        assert_eq!(files.content(&path), on_disk(&path));
        let unlogged = server.value("SELECT pg_relation_filepath('u') AS v");
        assert!(files.has(&format!("{unlogged}_init")) && !files.has(&unlogged));
        server.sql("UPDATE t SET text = 'x' WHERE id = 7; CREATE TABLE later AS SELECT 1 AS one");
        let next = scene.take(&TakeOptions::default());
        assert_eq!(next.about.parent.as_deref(), Some(full.about.label.as_str()));
        assert!(next.about.own < full.about.own / 5, "{} of {}", next.about.own, full.about.own);
        let mut files = Files::of(&scene.repo, &next.about.label);
        for path in [path, server.value("SELECT pg_relation_filepath('later') AS v"), "PG_VERSION".into()] {
            assert_eq!(files.content(&path), on_disk(&path), "{path}");
        }
        files.all();
        let cluster = scene.cluster();
        let catalogue = Catalogue::read(&cluster).unwrap();
        assert_eq!(catalogue.backups.len(), 2);
        assert!(catalogue.begun.is_empty());
        assert!(catalogue.backups.iter().all(|one| catalogue.missing_for(&one.about).is_empty()));
        assert_eq!(catalogue::read_about(&cluster, &full.about.label).unwrap(), Some(full.about));
    });
}

#[test]
fn a_damaged_page_is_named_and_the_backup_kept() {
    let scene = Scene::new(18);
    scene.server.sql("CREATE TABLE t AS SELECT generate_series(1, 10000) AS id; CHECKPOINT");
    let path = scene.server.value("SELECT pg_relation_filepath('t') AS v");
    let file = scene.server.data_dir().join(&path);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[3 * BLOCK + 5000] ^= 0xFF;
    std::fs::write(&file, bytes).unwrap();
    let taken = scene.take(&TakeOptions::default());
    let bad: Vec<_> = taken.about.bad_pages.iter().map(|page| (page.path.as_str(), page.block)).collect();
    assert_eq!(bad, [(path.as_str(), 3)]);
}

#[test]
fn what_was_stored_before_a_break_is_taken_over() {
    let scene = Scene::with(Server::start());
    let many = "CREATE TABLE t AS SELECT g AS id, repeat(md5(g::text), 3) AS text FROM generate_series(1, 50000) g";
    scene.server.sql(many);
    // As after a kill between the last bundle and the manifest: no manifest, and the mark of a dead process.
    let (cluster, place) = (scene.cluster(), scene.repo.place());
    let first = scene.take(&TakeOptions::default());
    place.delete(&[cluster.names.manifest(&first.about.label)]).unwrap();
    let note = serde_json::json!({
        "label": first.about.label, "full": true, "host": "elsewhere", "pid": 1,
        "begun_at": "2026-01-01T00:00:00Z", "alive_at": "2026-01-01T00:00:00Z",
    });
    place.create(&cluster.names.begun(&first.about.label), note.to_string().as_bytes()).unwrap();
    let again = scene.take(&TakeOptions::default());
    assert_eq!(again.about.label, first.about.label);
    assert!(again.taken_over > again.about.size * 9 / 10, "{} of {}", again.taken_over, again.about.size);
    Files::of(&scene.repo, &again.about.label).all();
}

#[test]
fn only_one_backup_is_taken_at_a_time() {
    let scene = Scene::with(Server::start());
    let now = surus_core::clock::now();
    let note = serde_json::json!({
        "label": "another", "full": true, "host": "elsewhere", "pid": 1, "begun_at": now, "alive_at": now,
    });
    let name = scene.cluster().names.begun("another");
    scene.repo.place().create(&name, note.to_string().as_bytes()).unwrap();
    assert_eq!(scene.try_take(&TakeOptions::default()).unwrap_err().code(), code::BACKUP_BUSY);
}
