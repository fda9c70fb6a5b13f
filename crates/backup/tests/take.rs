//! Backups of real servers: complete, page by page what the server has, and broken off without harm.

use std::{path::Path, sync::Arc};
use surus_backup::{
    Repo,
    block::BLOCK,
    catalogue::{self, Catalogue},
    chain::Chain,
    manifest::BackupKind,
    repo::container::{Kind, read_object},
    take::{TakeOptions, Taken, take},
};
use surus_core::{code, monitor::Silent};
use surus_pg::Target;
use surus_testkit::{Server, each_major};

fn run(repo: &Repo, server: &Server, options: &TakeOptions) -> surus_backup::Result<Taken> {
    let target = Target::parse(&server.dsn("postgres")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let monitor: Arc<dyn surus_core::monitor::Monitor> = Arc::new(Silent);
    runtime.block_on(take(repo, &target, options, &monitor))
}

/// The content of a file of a backup, put together from the chain.
fn content(repo: &Repo, chain: &Chain, path: &str) -> Vec<u8> {
    let number = chain.newest().files.iter().position(|file| file.path == path).unwrap();
    let file = &chain.newest().files[number];
    let mut bytes = Vec::new();
    for source in &chain.sources[number] {
        let manifest = &chain.backups[usize::from(source.backup)];
        let chunk = manifest.chunks[source.chunk as usize];
        let cluster = repo.cluster(manifest.about.system_identifier);
        let name = cluster.names.bundle(&manifest.about.label, chunk.bundle);
        let body = repo.place().read(&name).unwrap().unwrap();
        let mut chunks = Vec::new();
        read_object(Kind::Bundle, &name, &body, repo.keys(), |_, raw, hash| {
            chunks.push((raw, *hash));
            Ok(())
        })
        .unwrap();
        let (raw, hash) = &chunks[chunk.index as usize];
        assert_eq!(*hash, chunk.hash);
        let from = source.at as usize * BLOCK;
        bytes.extend_from_slice(&raw[from..raw.len().min(from + source.count as usize * BLOCK)]);
    }
    assert_eq!(bytes.len() as u64, file.size, "{path}");
    assert_eq!(crc32c::crc32c(&bytes), file.crc32c, "{path}");
    bytes
}

fn repo(dir: &Path) -> Repo {
    Repo::in_folder(&dir.join("repo")).unwrap()
}

#[test]
fn a_full_backup_and_what_changed_since() {
    each_major(|major| {
        let dir = tempfile::tempdir().unwrap();
        let repo = repo(dir.path());
        let server = Server::builder().major(major).checksums(true).start();
        server
            .sql("CREATE TABLE t AS SELECT g AS id, repeat(md5(g::text), 3) AS text FROM generate_series(1, 20000) g");
        server.sql("CREATE UNLOGGED TABLE u AS SELECT generate_series(1, 1000) AS id");
        let full = run(&repo, &server, &TakeOptions::default()).unwrap();
        assert_eq!(full.about.kind, BackupKind::Full);
        assert_eq!(full.about.bad_pages, []);
        assert!(full.segments_pushed > 0, "without archiving the backup brings its own WAL");
        let cluster = repo.choose(None).unwrap();
        let chain = Chain::read(&cluster, &full.about.label).unwrap();
        let path = server.value("SELECT pg_relation_filepath('t') AS v");
        assert_eq!(content(&repo, &chain, &path), std::fs::read(server.data_dir().join(&path)).unwrap());
        let unlogged = server.value("SELECT pg_relation_filepath('u') AS v");
        let there = |path: &str| chain.newest().files.iter().any(|file| file.path == path);
        assert!(there(&format!("{unlogged}_init")) && !there(&unlogged));
        server.sql("UPDATE t SET text = 'x' WHERE id = 7; CREATE TABLE later AS SELECT 1 AS one");
        let next = run(&repo, &server, &TakeOptions::default()).unwrap();
        assert_eq!(next.about.parent.as_deref(), Some(full.about.label.as_str()));
        assert!(next.about.own < full.about.own / 5, "{} of {}", next.about.own, full.about.own);
        let chain = Chain::read(&cluster, &next.about.label).unwrap();
        for path in [path, server.value("SELECT pg_relation_filepath('later') AS v"), "PG_VERSION".into()] {
            assert_eq!(content(&repo, &chain, &path), std::fs::read(server.data_dir().join(&path)).unwrap(), "{path}");
        }
        for file in &chain.newest().files {
            content(&repo, &chain, &file.path);
        }
        let catalogue = Catalogue::read(&cluster).unwrap();
        assert_eq!(catalogue.backups.len(), 2);
        assert!(catalogue.begun.is_empty());
        assert!(catalogue.backups.iter().all(|one| catalogue.missing_for(&one.about).is_empty()));
        assert_eq!(catalogue::read_about(&cluster, &full.about.label).unwrap(), Some(full.about));
    });
}

#[test]
fn a_damaged_page_is_named_and_the_backup_kept() {
    let dir = tempfile::tempdir().unwrap();
    let repo = repo(dir.path());
    let server = Server::builder().checksums(true).start();
    server.sql("CREATE TABLE t AS SELECT generate_series(1, 10000) AS id; CHECKPOINT");
    let path = server.value("SELECT pg_relation_filepath('t') AS v");
    let file = server.data_dir().join(&path);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[3 * BLOCK + 5000] ^= 0xFF;
    std::fs::write(&file, bytes).unwrap();
    let taken = run(&repo, &server, &TakeOptions::default()).unwrap();
    let bad: Vec<_> = taken.about.bad_pages.iter().map(|page| (page.path.as_str(), page.block)).collect();
    assert_eq!(bad, [(path.as_str(), 3)]);
}

#[test]
fn what_was_stored_before_a_break_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let repo = repo(dir.path());
    let server = Server::start();
    server.sql("CREATE TABLE t AS SELECT g AS id, repeat(md5(g::text), 3) AS text FROM generate_series(1, 50000) g");
    // As after a kill between the last bundle and the manifest: no manifest, and the mark of a dead process.
    let cluster = repo.cluster(server.value("SELECT system_identifier AS v FROM pg_control_system()").parse().unwrap());
    let first = run(&repo, &server, &TakeOptions::default()).unwrap();
    let name = cluster.names.manifest(&first.about.label);
    repo.place().delete(&[name]).unwrap();
    let note = serde_json::json!({
        "label": first.about.label, "full": true, "host": "elsewhere", "pid": 1,
        "begun_at": "2026-01-01T00:00:00Z", "alive_at": "2026-01-01T00:00:00Z",
    });
    repo.place().create(&cluster.names.begun(&first.about.label), note.to_string().as_bytes()).unwrap();
    let again = run(&repo, &server, &TakeOptions::default()).unwrap();
    assert_eq!(again.about.label, first.about.label);
    assert!(again.taken_over > again.about.size * 9 / 10, "{} of {}", again.taken_over, again.about.size);
    let chain = Chain::read(&cluster, &again.about.label).unwrap();
    for file in &chain.newest().files {
        content(&repo, &chain, &file.path);
    }
}

#[test]
fn only_one_backup_is_taken_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let repo = repo(dir.path());
    let server = Server::start();
    let cluster = repo.cluster(server.value("SELECT system_identifier AS v FROM pg_control_system()").parse().unwrap());
    let now = surus_core::clock::now();
    let note = serde_json::json!({
        "label": "another", "full": true, "host": "elsewhere", "pid": 1, "begun_at": now, "alive_at": now,
    });
    repo.place().create(&cluster.names.begun("another"), note.to_string().as_bytes()).unwrap();
    assert_eq!(run(&repo, &server, &TakeOptions::default()).unwrap_err().code(), code::BACKUP_BUSY);
}
